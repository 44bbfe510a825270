//! A photo's way to a model's input: JPEG bytes of a rendered picture, decoded whole or as much as the model needs.

use std::io::Cursor;
use std::path::Path;

use clip_aware::pixels::{DecodeLimits, Preprocessor, decode_bytes, decode_enough};
use divan::{Bencher, black_box};
use image::{ImageFormat, RgbImage};

const LIMITS: DecodeLimits = DecodeLimits { max_file_bytes: 1 << 30, max_pixels: 1 << 30 };
const CLIP: &str = r#"{"do_resize": true, "size": {"shortest_edge": 224}, "resample": 3, "do_center_crop": true,
    "crop_size": {"height": 224, "width": 224}, "do_rescale": true, "rescale_factor": 0.00392156862745098,
    "do_normalize": true, "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711], "image_processor_type": "CLIPImageProcessor"}"#;

/// Waves with some grain, as a camera would store them.
fn jpeg(width: u32, height: u32) -> Vec<u8> {
    let picture = RgbImage::from_fn(width, height, |x, y| {
        let grain = (x.wrapping_mul(2_654_435_761) ^ y.wrapping_mul(40_503)) >> 28;
        let wave = |a: u32, b: u32| ((f64::from(x * a + y * b) / 97.0).sin() * 110.0 + 120.0) as u8;
        image::Rgb([wave(1, 2), wave(3, 1), wave(2, 5)].map(|sample| sample.saturating_add(grain as u8)))
    });
    let mut bytes = Cursor::new(Vec::new());
    picture.write_to(&mut bytes, ImageFormat::Jpeg).unwrap();
    bytes.into_inner()
}

fn clip() -> Preprocessor {
    Preprocessor::from_json(CLIP, "bench").unwrap()
}

/// As for detection: all pixels.
#[divan::bench(args = [(640, 480), (4000, 3000)])]
fn whole(bencher: Bencher, (width, height): (u32, u32)) {
    let bytes = jpeg(width, height);
    bencher.bench(|| black_box(decode_bytes(&bytes, Path::new("a.jpg"), &LIMITS).unwrap()));
}

/// As for indexing: enough pixels, resized and cropped.
#[divan::bench(args = [(640, 480), (4000, 3000)])]
fn prepared(bencher: Bencher, (width, height): (u32, u32)) {
    let (bytes, clip) = (jpeg(width, height), clip());
    bencher.bench(|| {
        let picture = decode_enough(&bytes, Path::new("a.jpg"), &LIMITS, clip.enough()).unwrap();
        black_box(clip.apply_reduced(&picture.rgb, picture.whole))
    });
}

#[divan::bench(args = [(640, 480), (2000, 1500)])]
fn resize_and_crop(bencher: Bencher, (width, height): (u32, u32)) {
    let (picture, clip) = (RgbImage::from_pixel(width, height, image::Rgb([9, 80, 200])), clip());
    bencher.bench(|| black_box(clip.apply(&picture)));
}
