//! The input pipeline of torchvision's detectors: normalised first, then resized as numbers between the four nearest pixels, without
//! smoothing, then padded.
//!
//! Source: torchvision 0.29, `models/detection/transform.py`; torch's `interpolate` with `scale_factor` and
//! `recompute_scale_factor`: sides are rounded down, and the step is that of the rounded sides.

use image::RgbImage;
use rayon::prelude::*;

use super::proportional::DetectorInput;
use super::values;

/// Sides of the input are multiples of it: the reference's `size_divisible`.
const DIVISIBLE: usize = 32;
const CHANNELS: usize = 3;

/// A picture with zeros right of it and below.
#[derive(Debug, Clone)]
pub struct PaddedInput {
    /// With the padding.
    pub padded: DetectorInput,
    /// The picture's own height.
    pub height: usize,
    /// The picture's own width.
    pub width: usize,
}

/// The input pipeline of a torchvision detector.
#[derive(Debug, Clone)]
pub struct Interpolated {
    shortest: u32,
    longest: u32,
    /// Per channel, the input value of each sample value.
    values: Box<[[f32; 256]; 3]>,
}

impl Interpolated {
    /// The shorter side becomes `shortest`, or less where the longer one would exceed `longest`; `mean` and `std` are of samples
    /// from 0 to 1.
    pub fn new(shortest: u32, longest: u32, mean: [f64; 3], std: [f64; 3]) -> Self {
        Self { shortest, longest, values: values(Some(1.0 / 255.0), Some((mean, std))) }
    }

    /// The longer side that pictures are scaled to at most, pixels.
    pub fn longest_edge(&self) -> u32 {
        self.longest
    }

    /// Width and height that a picture of this size becomes, without padding; `longest` stands for
    /// [`Interpolated::longest_edge`], and the shorter side changes in proportion.
    pub fn size(&self, width: u32, height: u32, longest: u32) -> (u32, u32) {
        let shortest = f64::from(self.shortest) * f64::from(longest) / f64::from(self.longest.max(1));
        let (w, h) = (f64::from(width.max(1)), f64::from(height.max(1)));
        let scale = (shortest / w.min(h)).min(f64::from(longest) / w.max(h));
        // A line of a panorama is one pixel at least, where the reference fails.
        let side = |side: f64| ((side * scale).floor() as u32).clamp(1, longest.max(1));
        (side(w), side(h))
    }

    /// Normalises, resizes and pads; `longest` as in [`Interpolated::size`].
    pub fn apply(&self, picture: &RgbImage, longest: u32) -> PaddedInput {
        let (width, height) = self.size(picture.width(), picture.height(), longest);
        let (width, height) = (width as usize, height as usize);
        let (wide, high) = (width.next_multiple_of(DIVISIBLE), height.next_multiple_of(DIVISIBLE));
        let mut pixels = vec![0.0_f32; CHANNELS * wide * high];
        let columns = places(picture.width() as usize, width);
        let lines = places(picture.height() as usize, height);
        let samples = picture.as_raw().as_chunks::<CHANNELS>().0;
        let line = |y: usize| samples.get(y * picture.width() as usize..).unwrap_or_default();
        pixels.par_chunks_mut(wide).enumerate().for_each(|(at, out)| {
            let (channel, values) = (at / high, &self.values[at / high]);
            let Some(&[(top, above), (bottom, below)]) = lines.get(at % high) else { return };
            let (top, bottom) = (line(top), line(bottom));
            let between = |line: &[[u8; CHANNELS]], [(x0, left), (x1, right)]: [(usize, f32); 2]| {
                let value = |x: usize| line.get(x).map_or(0.0, |pixel| values[usize::from(pixel[channel])]);
                left * value(x0) + right * value(x1)
            };
            for (out, column) in out.iter_mut().zip(&columns) {
                *out = above * between(top, *column) + below * between(bottom, *column);
            }
        });
        PaddedInput { padded: DetectorInput { pixels, height: high, width: wide }, height, width }
    }
}

/// For each of `to` places, the two of `from` numbers beside it and their shares. Source: torch,
/// `area_pixel_compute_source_index` and `guard_index_and_lambda`, in single precision.
fn places(from: usize, to: usize) -> Vec<[(usize, f32); 2]> {
    let last = from.saturating_sub(1);
    let step = from as f32 / to.max(1) as f32;
    (0..to)
        .map(|n| {
            let at = (step * (n as f32 + 0.5) - 0.5).max(0.0);
            let low = (at as usize).min(last);
            let share = (at - low as f32).clamp(0.0, 1.0);
            [(low, 1.0 - share), ((low + 1).min(last), share)]
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use image::Rgb;

    use super::*;

    const IMAGENET: ([f64; 3], [f64; 3]) = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);

    /// Sizes that `GeneralizedRCNNTransform(800, 1333)` of torchvision 0.29 gives.
    #[test]
    fn sizes_are_rounded_down_as_the_reference_does() {
        let usual = Interpolated::new(800, 1333, IMAGENET.0, IMAGENET.1);
        for ((width, height), expected) in SIZES {
            assert_eq!(usual.size(width, height, 1333), expected, "{width} x {height}");
        }
        // The reference has no answer to these.
        assert_eq!(usual.size(5000, 1, 1333), (1333, 1));
        assert_eq!(usual.size(1, 1, 1333), (800, 800));
        assert_eq!(usual.longest_edge(), 1333);
    }

    const SIZES: [((u32, u32), (u32, u32)); 8] = [
        ((640, 480), (1066, 800)),
        ((480, 640), (800, 1066)),
        ((800, 800), (800, 800)),
        ((1333, 800), (1333, 800)),
        ((2000, 1000), (1333, 666)),
        ((500, 333), (1201, 800)),
        ((640, 211), (1333, 439)),
        ((427, 640), (800, 1199)),
    ];

    #[test]
    fn one_colour_stays_one_and_the_padding_is_zero() {
        let small = Interpolated::new(40, 64, [0.5; 3], [0.5, 0.5, 0.25]);
        let input = small.apply(&RgbImage::from_pixel(6, 5, Rgb([255, 0, 255])), 64);
        assert_eq!((input.width, input.height, input.padded.width, input.padded.height), (48, 40, 64, 64));
        for (channel, expected) in [1.0, -1.0, 2.0].into_iter().enumerate() {
            for (at, value) in input.padded.pixels.chunks(64 * 64).nth(channel).unwrap().iter().enumerate() {
                let inside = at % 64 < 48 && at / 64 < 40;
                assert!((value - if inside { expected } else { 0.0 }).abs() < 1e-6, "{channel} {at}: {value}");
            }
        }
    }

    #[test]
    fn numbers_lie_between_the_four_nearest() {
        let plain = Interpolated::new(4, 8, [0.0; 3], [1.0; 3]);
        let mut picture = RgbImage::new(2, 2);
        picture.put_pixel(1, 0, Rgb([255; 3]));
        let input = plain.apply(&picture, 8);
        let first: Vec<f32> = input.padded.pixels.chunks(32).take(4).flat_map(|line| line[..4].to_vec()).collect();
        let expected = [0., 0.25, 0.75, 1., 0., 0.1875, 0.5625, 0.75, 0., 0.0625, 0.1875, 0.25, 0., 0., 0., 0.];
        assert!(first.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6), "{first:?}");
    }
}
