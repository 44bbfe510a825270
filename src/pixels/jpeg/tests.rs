//! The own decoder against the library, and both against Pillow's draft mode (`tools/export_draft.py`).

use std::fs;
use std::path::{Path, PathBuf};

use super::*;

const LIMITS: DecodeLimits = DecodeLimits { max_file_bytes: 1 << 26, max_pixels: 1 << 26 };
const SIDES: [u32; 4] = [8, 4, 2, 1];

fn fixture(name: &str) -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/images").join(name)).unwrap()
}

/// Colours that change at every scale, so that every coefficient is in use.
fn busy(width: u32, height: u32) -> RgbImage {
    let mut state = 5_u32;
    RgbImage::from_fn(width, height, |x, y| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let noise = (state >> 26) as i32;
        let wave = |step: f32| (127.0 + 110.0 * (x as f32 / step).sin() * (y as f32 / (step + 7.0)).cos()) as i32;
        image::Rgb([wave(19.0), wave(31.0), wave(5.0)].map(|value| (value + noise - 32).clamp(0, 255) as u8))
    })
}

/// A JPEG of the library's making.
fn encode(picture: &RgbImage, quality: u8, subsampling: libjpeg_turbo_rs::Subsampling, restart: u16) -> Vec<u8> {
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    let encoder = libjpeg_turbo_rs::Encoder::new(picture.as_raw(), width, height, PixelFormat::Rgb);
    let encoder = encoder.quality(quality).subsampling(subsampling);
    if restart > 0 { encoder.restart_blocks(restart) } else { encoder }.encode().unwrap()
}

#[cfg(target_arch = "x86_64")]
#[test]
fn the_own_decoder_is_the_library_to_the_last_bit() {
    use libjpeg_turbo_rs::Subsampling::{S420, S422, S444};
    let mut own = 0;
    for (width, height) in [(64, 48), (97, 61), (33, 130), (17, 16), (8, 8), (5, 3), (1, 1), (250, 9)] {
        let picture = busy(width, height);
        for (quality, subsampling, restart) in
            [(95, S420, 0), (60, S420, 3), (100, S444, 1), (20, S444, 0), (85, S422, 5), (22, S422, 0), (20, S420, 0)]
        {
            let bytes = encode(&picture, quality, subsampling, restart);
            for side in SIDES {
                let Some(fast) = baseline::decode(&bytes, side as usize) else { continue };
                own += 1;
                let plain = decode_any(&bytes, side, &LIMITS).unwrap();
                assert!(fast == plain, "{width}x{height} {subsampling:?} quality {quality} at {side}/8");
            }
        }
    }
    assert!(own > 110 || !std::arch::is_x86_feature_detected!("avx2"), "{own}");
}

#[cfg(target_arch = "x86_64")]
#[test]
fn restart_markers_are_read_here() {
    if !std::arch::is_x86_feature_detected!("avx2") {
        return;
    }
    let bytes = fixture("restart.jpg");
    for side in SIDES {
        let own = baseline::decode(&bytes, side as usize).unwrap();
        assert!(own == decode_any(&bytes, side, &LIMITS).unwrap(), "{side}/8");
    }
    // A marker out of turn is a case for the library.
    let second = bytes.windows(2).position(|pair| pair == [0xff, 0xd1]).unwrap();
    let mut swapped = bytes.clone();
    swapped[second + 1] = 0xd3;
    assert!(baseline::decode(&swapped, 8).is_none());
}

/// What shows the damage goes to the library; what does not may give another picture, but no panic and no other size.
#[cfg(target_arch = "x86_64")]
#[test]
fn thousands_of_damaged_files_do_no_harm() {
    let mut state = 7_u64;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let picture = busy(61, 45);
    let mut refused = 0;
    for (subsampling, restart) in [(libjpeg_turbo_rs::Subsampling::S420, 0), (libjpeg_turbo_rs::Subsampling::S422, 2)] {
        let original = encode(&picture, 80, subsampling, restart);
        for round in 0..3000 {
            let mut bytes = original.clone();
            for _ in 0..=random(4) {
                let place = random(bytes.len());
                bytes[place] = random(256) as u8;
            }
            bytes.truncate(if round % 5 == 0 { random(bytes.len()) } else { bytes.len() });
            // A large size in the header is a matter of the limits.
            if Header::read(&bytes).is_ok_and(|header| header.pixels(8) > 1 << 16) {
                continue;
            }
            for side in [8, 2] {
                match baseline::decode(&bytes, side as usize) {
                    Some(rgb) => {
                        let pixels = u64::from(rgb.width()) * u64::from(rgb.height());
                        assert_eq!(Header::read(&bytes).unwrap().pixels(side), pixels);
                    }
                    None => refused += 1,
                }
            }
        }
    }
    assert!(refused > 1000, "{refused}");
}

/// All 300 photos at all scales; they are cameras' and programs' own files.
#[cfg(target_arch = "x86_64")]
#[test]
#[cfg_attr(not(shared), ignore = "needs ../shared")]
fn photos_are_decoded_here_and_as_the_library_does() {
    use rayon::prelude::*;

    let shared = std::env::var_os("CLIP_AWARE_SHARED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"), PathBuf::from);
    let (mut folders, mut photos) = (vec![shared.join("photos")], Vec::new());
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            let photo =
                path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("jpg") || extension == "JPEG");
            if path.is_dir() {
                folders.push(path);
            } else if photo {
                photos.push(path);
            }
        }
    }
    let own: usize = photos
        .par_iter()
        .map(|photo| {
            let bytes = fs::read(photo).unwrap();
            let mut own = 0;
            for side in SIDES {
                let Some(fast) = baseline::decode(&bytes, side as usize) else { continue };
                assert!(fast == decode_any(&bytes, side, &LIMITS).unwrap(), "{} at {side}/8", photo.display());
                own += 1;
            }
            own
        })
        .sum();
    assert!(photos.len() >= 300 && own > 1150, "{own} of {} x 4", photos.len());
}

#[test]
fn a_picture_is_decoded_no_smaller_than_what_is_enough() {
    let header = Header::read(&fixture("rgb.jpg")).unwrap();
    let whole = Header { width: 4000, height: 3000, ..header };
    let side = |header: &Header, width, height| header.block_side(Some(Enough { width, height }));
    assert_eq!(whole.block_side(None), 8);
    assert_eq!([side(&whole, 448, 448), side(&whole, 375, 375), side(&whole, 376, 376)], [2, 1, 2]);
    assert_eq!([side(&whole, 2000, 1500), side(&whole, 2001, 1), side(&whole, 9000, 9000)], [4, 8, 8]);
    assert_eq!(side(&Header { reducible: false, ..whole }, 448, 448), 8);
    assert_eq!(whole.pixels(2), 1000 * 750);
    // A quarter of the size: a sixteenth of the memory; a progressive file's coefficients stay.
    assert!(whole.peak_bytes(0, 2) * 16 == whole.peak_bytes(0, 8));
    let progressive = Header { progressive: true, ..whole };
    assert!(progressive.peak_bytes(0, 2) > 3 * 12_000_000);
}

#[test]
fn the_quick_look_at_a_header_sees_what_the_library_does() {
    let picture = busy(40, 30);
    for subsampling in [libjpeg_turbo_rs::Subsampling::S420, libjpeg_turbo_rs::Subsampling::S444] {
        for progressive in [false, true] {
            let encoder = libjpeg_turbo_rs::Encoder::new(picture.as_raw(), 40, 30, PixelFormat::Rgb);
            let bytes = encoder.subsampling(subsampling).progressive(progressive).encode().unwrap();
            let (quick, library) = (Header::scan(&bytes).unwrap(), Header::by_library(&bytes).unwrap());
            assert_eq!(format!("{quick:?}"), format!("{library:?}"));
            assert_eq!((quick.progressive, quick.width, quick.height), (progressive, 40, 30));
        }
    }
}

#[test]
fn reduced_pictures_are_those_of_pillows_draft_mode() {
    use sha2::{Digest, Sha256};

    let draft: serde_json::Value = serde_json::from_slice(&fixture("draft.json")).unwrap();
    let draft = draft.as_object().unwrap();
    assert_eq!(draft.len(), 17);
    for (name, digests) in draft {
        let bytes = fixture(name);
        for (side, expected) in digests.as_object().unwrap() {
            for rgb in
                [decode(&bytes, side.parse().unwrap(), &LIMITS), decode_any(&bytes, side.parse().unwrap(), &LIMITS)]
            {
                let digest = Sha256::digest(rgb.unwrap().as_raw());
                let start = u64::from_be_bytes(digest.as_slice()[..8].try_into().unwrap());
                assert_eq!(*expected, format!("{start:016x}").as_str(), "{name} at {side}/8");
            }
        }
    }
}
