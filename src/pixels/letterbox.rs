//! A picture in the corner of a square, as one-stage detectors take it.

use image::RgbImage;

use super::resize::{Resample, resize};

/// Fits a picture into the upper left of a square of `side` pixels, the rest filled with `padding`.
///
/// Returns the samples and the scale from picture to square. Shapes: `[3, side, side]` flattened, blue, green, red, 0 to
/// 255. Source: YOLOX, `yolox/data/data_augment.py` (`preproc`), which enlarges small pictures too.
pub fn letterbox(picture: &RgbImage, side: u32, padding: u8) -> (Vec<f32>, f32) {
    let (width, height) = picture.dimensions();
    let scale = f64::from(side) / f64::from(width.max(height).max(1));
    // Truncated, as in the reference; a line of a panorama is one pixel at least.
    let scaled = |length: u32| ((f64::from(length) * scale) as u32).clamp(1, side);
    let small = resize(picture, scaled(width), scaled(height), Resample::Bilinear);
    let plane = (side * side) as usize;
    let mut samples = vec![f32::from(padding); 3 * plane];
    for (y, row) in small.rows().enumerate() {
        for (x, pixel) in row.enumerate() {
            let at = y * side as usize + x;
            for (channel, value) in pixel.0.iter().rev().enumerate() {
                if let Some(sample) = samples.get_mut(channel * plane + at) {
                    *sample = f32::from(*value);
                }
            }
        }
    }
    (samples, scale as f32)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::float_cmp, reason = "the values are exact")]

    use image::{Rgb, RgbImage};

    use super::letterbox;

    #[test]
    fn the_picture_lies_in_the_corner_in_reverse_channel_order() {
        let picture = RgbImage::from_pixel(20, 10, Rgb([1, 2, 3]));
        let (samples, scale) = letterbox(&picture, 8, 114);
        assert_eq!(samples.len(), 3 * 64);
        assert!((scale - 0.4).abs() < 1e-6);
        for (channel, value) in [(0, 3.0), (1, 2.0), (2, 1.0)] {
            let plane = &samples[channel * 64..(channel + 1) * 64];
            assert!(plane[..32].iter().all(|sample| *sample == value), "{plane:?}");
            assert!(plane[32..].iter().all(|sample| *sample == 114.0), "{plane:?}");
        }
    }

    #[test]
    fn extreme_proportions_still_give_a_line() {
        for (width, height) in [(1, 1), (5000, 1), (1, 5000)] {
            let (samples, _) = letterbox(&RgbImage::new(width, height), 32, 114);
            assert!(samples.contains(&0.0), "{width}x{height}");
        }
    }
}
