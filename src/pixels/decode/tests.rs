//! Every format against Pillow's result (`tools/make_image_fixtures.py`), and files that mean harm.

use std::fs;
use std::path::PathBuf;

use safetensors::SafeTensors;

use super::*;

const LIMITS: DecodeLimits = DecodeLimits { max_file_bytes: 1 << 20, max_pixels: 1_000_000 };

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/images")
}

fn fixture(name: &str) -> Vec<u8> {
    fs::read(folder().join(name)).unwrap()
}

fn decode(bytes: &[u8]) -> Result<Picture> {
    decode_bytes(bytes, Path::new("some file"), &LIMITS)
}

fn reason(bytes: &[u8]) -> String {
    match decode(bytes) {
        Err(Error::Decode { reason, .. }) => reason,
        other => panic!("{other:?}"),
    }
}

/// Names, sizes and samples of all fixtures that are to be readable.
fn expected() -> Vec<(String, (u32, u32), Vec<u8>)> {
    let file = fixture("expected.safetensors");
    let tensors = SafeTensors::deserialize(&file).unwrap();
    let mut all: Vec<_> = tensors
        .iter()
        .map(|(name, view)| (name.to_owned(), (view.shape()[1] as u32, view.shape()[0] as u32), view.data().to_vec()))
        .collect();
    all.retain(|(name, ..)| cfg!(feature = "avif") || extension_of(name) != "avif");
    all.sort();
    all
}

#[test]
fn every_form_of_every_format_is_what_pillow_makes_of_it() {
    let all = expected();
    assert_eq!(all.len(), if cfg!(feature = "avif") { 56 } else { 48 });
    for (name, size, samples) in all {
        let picture = decode_file(&folder().join(&name), &LIMITS).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(picture.rgb.dimensions(), size, "{name}");
        let differences = || picture.rgb.as_raw().iter().zip(&samples).map(|(a, b)| u64::from(a.abs_diff(*b)));
        if name == "phone.heic" {
            // libheif repeats subsampled chroma where it is smoothed here: different at every edge of this little picture.
            let mean = differences().sum::<u64>() / samples.len() as u64;
            assert!(mean < 12, "{name}: {mean}");
        } else {
            let allowed = u64::from(extension_of(&name) == "heic");
            assert!(differences().max() <= Some(allowed), "{name}: {:?}", differences().max());
        }
        let extension = extension_of(&name);
        assert_eq!(picture.format, if extension == "jpg" { "jpeg" } else { extension }, "{name}");
    }
}

fn extension_of(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or_default()
}

#[test]
fn all_orientations_and_formats_show_the_same_picture_upright() {
    let upright = decode(&fixture("rgb.png")).unwrap().rgb;
    for (name, size, _) in expected() {
        if !name.starts_with("orient") && name != "phone.heic" && name != "mirrored.avif" {
            continue;
        }
        let rgb = decode(&fixture(&name)).unwrap().rgb;
        assert_eq!(size, upright.dimensions(), "{name}");
        for (x, y) in [(4, 4), (17, 12), (4, 12), (20, 4)] {
            let near = rgb.get_pixel(x, y).0.iter().zip(upright.get_pixel(x, y).0).all(|(a, b)| a.abs_diff(b) < 45);
            assert!(near, "{name} at {x},{y}: {:?}, not {:?}", rgb.get_pixel(x, y), upright.get_pixel(x, y));
        }
    }
}

#[test]
fn the_date_is_when_the_photo_was_taken() {
    assert_eq!(decode(&fixture("dated.jpg")).unwrap().taken_at, Some(1_582_971_630));
    assert_eq!(decode(&fixture("changed.jpg")).unwrap().taken_at, Some(1_614_834_367));
    assert_eq!(decode(&fixture("phone.heic")).unwrap().taken_at, Some(1_688_807_411));
    assert_eq!(decode(&fixture("rgb.jpg")).unwrap().taken_at, None);
    #[cfg(feature = "avif")]
    assert_eq!(decode(&fixture("oriented.avif")).unwrap().taken_at, Some(1_688_807_411));
}

#[test]
fn probing_says_what_decoding_says() {
    for (name, ..) in expected() {
        let found = probe(&folder().join(&name), &LIMITS).unwrap();
        let picture = decode(&fixture(&name)).unwrap();
        assert_eq!((found.width, found.height), picture.rgb.dimensions(), "{name}");
        assert_eq!((found.format, found.taken_at), (picture.format, picture.taken_at), "{name}");
    }
}

#[test]
fn names_do_not_count() {
    let folder = tempfile::tempdir().unwrap();
    let misnamed = folder.path().join("picture.jpg");
    fs::write(&misnamed, fixture("rgb.png")).unwrap();
    assert_eq!(decode_file(&misnamed, &LIMITS).unwrap().format, "png");
    fs::write(&misnamed, "Dear diary, today I took no picture.").unwrap();
    let error = decode_file(&misnamed, &LIMITS).unwrap_err();
    assert!(matches!(&error, Error::UnsupportedImage { found, .. } if found == "text"), "{error}");
    assert!(error.hint().is_some());
}

#[test]
fn what_is_no_file_says_so() {
    let folder = tempfile::tempdir().unwrap();
    assert!(matches!(decode_file(folder.path(), &LIMITS), Err(Error::NotAFile { .. })));
    assert!(matches!(decode_file(&folder.path().join("none.png"), &LIMITS), Err(Error::NotFound { .. })));
    fs::write(folder.path().join("empty.png"), "").unwrap();
    assert!(matches!(decode_file(&folder.path().join("empty.png"), &LIMITS), Err(Error::EmptyFile { .. })));
    #[cfg(unix)]
    assert!(matches!(decode_file(Path::new("/dev/zero"), &LIMITS), Err(Error::NotAFile { .. })));
}

#[test]
fn other_formats_say_what_they_are() {
    match decode(&fixture("refused.jp2")) {
        Err(Error::UnsupportedImage { found, .. }) => assert!(found.contains("JPEG 2000"), "{found}"),
        other => panic!("{other:?}"),
    }
}

#[cfg(not(feature = "avif"))]
#[test]
fn avif_without_its_decoder_says_what_to_do() {
    match decode(&fixture("grey.avif")) {
        Err(Error::UnsupportedImage { found, .. }) => {
            assert!(found.starts_with("AVIF") && found.contains("--features avif"), "{found}");
            assert!(found.contains("JPEG"), "{found}");
        }
        other => panic!("{other:?}"),
    }
}

/// Bit flips and cuts by the thousand: the decoder's C-shaped inside cannot be caught when it panics, so that a fault
/// would end this test run.
#[cfg(feature = "avif")]
#[test]
fn thousands_of_damaged_avif_files_are_errors() {
    let mut state = 11_u64;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let mut refused = 0;
    for (name, ..) in expected().into_iter().filter(|(name, ..)| extension_of(name) == "avif") {
        let original = fixture(&name);
        for _ in 0..400 {
            let mut bytes = original.clone();
            for _ in 0..=random(6) {
                let place = random(bytes.len());
                bytes[place] ^= 1 << random(8);
            }
            refused += usize::from(decode(&bytes).is_err());
        }
    }
    assert!(refused > 800, "{refused}");
}

/// The header's size is not believed: the frame behind it must have it.
#[cfg(feature = "avif")]
#[test]
fn an_avif_whose_sizes_disagree_is_refused() {
    let mut bytes = fixture("full_chroma.avif");
    let size = bytes.windows(4).position(|name| name == b"ispe").unwrap() + 8;
    bytes[size..size + 4].copy_from_slice(&25_u32.to_be_bytes());
    assert!(reason(&bytes).contains("25x16 pixels announced"), "{}", reason(&bytes));
    bytes[size..size + 4].copy_from_slice(&60_000_u32.to_be_bytes());
    bytes[size + 4..size + 8].copy_from_slice(&60_000_u32.to_be_bytes());
    assert!(matches!(decode(&bytes), Err(Error::ImageTooLarge { .. })));
}

/// Nothing that changes colours is passed over: matrix 4 (FCC) is not converted as if it were another.
#[cfg(feature = "avif")]
#[test]
fn an_avif_of_an_unknown_matrix_is_refused() {
    let mut bytes = fixture("full_chroma.avif");
    let matrix = bytes.windows(4).position(|name| name == b"nclx").unwrap() + 8;
    bytes[matrix..matrix + 2].copy_from_slice(&4_u16.to_be_bytes());
    match decode(&bytes) {
        Err(Error::UnsupportedImage { found, .. }) => assert_eq!(found, "AVIF with matrix coefficients 4"),
        other => panic!("{other:?}"),
    }
}

/// Pillow, too, refuses a truncated file unless it is told not to.
#[test]
fn every_truncation_is_an_error_and_none_a_panic() {
    for (name, ..) in expected() {
        let bytes = fixture(&name);
        for kept in (1..bytes.len()).step_by(7) {
            match decode(&bytes[..kept]) {
                Err(Error::Decode { reason, .. }) => {
                    assert!(!reason.contains("a fault"), "{name} cut at {kept}: {reason}");
                }
                Err(Error::UnsupportedImage { .. } | Error::ImageTooLarge { .. }) => {}
                Err(other) => panic!("{name} cut at {kept}: {other:?}"),
                // Cut inside a trailer that holds no pixels.
                Ok(_) => assert!(kept + 64 > bytes.len() || later_frames(&name), "{name}, {kept} of {}", bytes.len()),
            }
        }
    }
}

fn later_frames(name: &str) -> bool {
    name.starts_with("animated")
}

/// Flipped bits may give an error or a wrong picture; not a panic, a hang or a picture over the limits.
#[test]
fn damaged_files_never_get_past_the_net() {
    let mut state = 7_u64;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    for (name, ..) in expected() {
        let original = fixture(&name);
        for _ in 0..40 {
            let mut bytes = original.clone();
            for _ in 0..=random(4) {
                let place = random(bytes.len());
                bytes[place] = random(256) as u8;
            }
            if let Ok(picture) = decode(&bytes) {
                let pixels = u64::from(picture.rgb.width()) * u64::from(picture.rgb.height());
                assert!(pixels <= LIMITS.max_pixels, "{name}");
            }
        }
    }
}

/// A PNG of 57 bytes that claims `width` x `height` pixels.
fn bomb(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = fixture("rgb.png");
    bytes[16..20].copy_from_slice(&width.to_be_bytes());
    bytes[20..24].copy_from_slice(&height.to_be_bytes());
    let crc = crc32(&bytes[12..29]);
    bytes[29..33].copy_from_slice(&crc.to_be_bytes());
    bytes
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
    })
}

#[test]
fn sizes_are_checked_before_decoding() {
    let error = decode(&bomb(60_000, 60_000)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "some file is too large: 60000x60000 pixels are 3600 megapixels, the limit is 1 megapixels"
    );
    assert!(decode(&bomb(0, 10)).is_err());
    // Within the limit, the missing rows are found.
    assert!(matches!(decode(&bomb(24, 17)), Err(Error::Decode { .. })));

    let mut jpeg = fixture("rgb.jpg");
    let frame = jpeg.windows(2).position(|marker| marker == [0xff, 0xc0]).unwrap();
    jpeg[frame + 5..frame + 9].copy_from_slice(&[0xff, 0xff, 0xff, 0xff]);
    assert!(matches!(decode(&jpeg), Err(Error::ImageTooLarge { .. })));

    let small = DecodeLimits { max_file_bytes: 100, ..LIMITS };
    let error = decode_file(&folder().join("rgb.bmp"), &small).unwrap_err();
    assert!(matches!(&error, Error::ImageTooLarge { what, .. } if what.contains("file")), "{error}");
}

#[test]
fn a_decoder_that_panics_is_an_error() {
    let result: Result<()> = inspect(b"GIF89a", Path::new("x"), &LIMITS, |_| panic!("as decoders do"));
    assert!(matches!(result, Err(Error::Decode { reason, .. }) if reason.contains("gif decoder gave up")));
}

#[test]
fn reasons_name_the_fault() {
    let jpeg = fixture("rgb.jpg");
    assert_eq!(reason(&jpeg[..jpeg.len() / 2]), "the file is truncated");
    assert_eq!(reason(&jpeg[..jpeg.len() - 2]), "the file is truncated");
    assert_eq!(reason(&fixture("rgb.png")[..60]), "the file is truncated");
    assert_eq!(reason(&fixture("rgb.bmp")[..100]), "the file is truncated");
    assert!(reason(&fixture("phone.heic")[..500]).contains("end of data"));
    assert!(reason(&fixture("lossless.webp")[..100]).contains("WebP"));
}

/// A thumbnail inside EXIF ends like a JPEG does.
#[test]
fn the_end_of_a_thumbnail_is_not_the_end_of_the_photo() {
    let jpeg = fixture("rgb.jpg");
    let mut with_thumbnail = vec![0xff, 0xd8, 0xff, 0xe5];
    with_thumbnail.extend((jpeg.len() as u16 + 2).to_be_bytes());
    with_thumbnail.extend(&jpeg);
    with_thumbnail.extend(&jpeg[2..]);
    assert!(decode(&with_thumbnail).is_ok());
    assert_eq!(reason(&with_thumbnail[..with_thumbnail.len() - 40]), "the file is truncated");
}

#[test]
fn a_picture_decoded_smaller_still_says_its_full_size() {
    // Stored turned, 16 x 24.
    let turned = fixture("orientation_6.jpg");
    let enough = Some(Enough { width: 12, height: 8 });
    let picture = decode_enough(&turned, Path::new("turned"), &LIMITS, enough).unwrap();
    let whole = Whole { width: 24, height: 16, reduction: 2 };
    assert_eq!((picture.rgb.dimensions(), picture.whole), ((12, 8), whole));
    let picture = decode_enough(&turned, Path::new("turned"), &LIMITS, Some(Enough { width: 13, height: 8 })).unwrap();
    assert_eq!((picture.rgb.dimensions(), picture.whole), ((24, 16), Whole { reduction: 1, ..whole }));
    // Other formats have no cheap way to be smaller.
    let picture = decode_enough(&fixture("rgb.png"), Path::new("png"), &LIMITS, enough).unwrap();
    assert_eq!((picture.rgb.dimensions(), picture.whole), ((24, 16), Whole { reduction: 1, ..whole }));
}

#[test]
fn a_photo_that_is_too_large_whole_may_be_decoded_smaller() {
    let jpeg = fixture("orientation_1.jpg");
    let exact = DecodeLimits { max_pixels: 24 * 16, ..LIMITS };
    let refused = decode_bytes(&jpeg, Path::new("photo"), &exact).unwrap_err();
    assert!(matches!(&refused, Error::ImageTooLarge { what, .. } if what.contains("to decode")), "{refused}");
    let enough = Some(Enough { width: 6, height: 4 });
    let (whole, reduced) = (memory_to_decode(&jpeg, &LIMITS, None), memory_to_decode(&jpeg, &LIMITS, enough));
    assert_eq!(whole.zip(reduced).map(|(whole, reduced)| whole - reduced), Some(5 * (24 * 16 - 6 * 4)));
    // The file's own bytes count for more than these few pixels.
    let roomy = DecodeLimits { max_pixels: 24 * 16 + jpeg.len() as u64 / 4 - 24 * 4, ..LIMITS };
    assert!(decode_bytes(&jpeg, Path::new("photo"), &roomy).is_err());
    assert!(decode_enough(&jpeg, Path::new("photo"), &roomy, enough).is_ok());
}

#[test]
fn memory_is_read_from_the_header() {
    assert_eq!(memory_to_decode(&bomb(30, 20), &LIMITS, None), Some(30 * 20 * 3));
    assert_eq!(memory_to_decode(b"no image", &LIMITS, None), None);
    assert_eq!(memory_to_decode(&bomb(60_000, 60_000), &LIMITS, None), None);
}
