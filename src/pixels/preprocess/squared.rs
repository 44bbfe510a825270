//! The input pipeline of `OWLv2`: the picture in the upper left of a square as wide as its longer side, smoothed, and sampled at
//! another size.
//!
//! Reference: transformers 5.24, `image_processing_pil_owlv2.py`: `scipy.ndimage.gaussian_filter` with mode `mirror`, then
//! `zoom` of order 1 with `grid_mode`. Both are sums over one axis with the same weights in every line, so they are one.

use image::RgbImage;
use rayon::prelude::*;
use serde_json::Value;

use super::config::{
    CLIP_MEAN, CLIP_STD, Defaults, flag, normalisation, refuse_foreign_steps, rescale_factor, side, sides,
};
use super::{Resizing, values};
use crate::error::{Error, Result};
use crate::pixels::resize::Resample;

const OWLV2: Defaults = Defaults {
    names: &["Owlv2ImageProcessor"],
    resizing: Resizing::Squash { height: 960, width: 960 },
    square: true,
    crop: None,
    filter: Resample::Bilinear,
    mean: CLIP_MEAN,
    std: CLIP_STD,
};
/// Where the gaussian is cut off, standard deviations.
const TRUNCATE: f64 = 4.0;
const CHANNELS: usize = 3;

/// The input pipeline of `OWLv2`, read from its `preprocessor_config.json`.
#[derive(Debug, Clone)]
pub struct Squared {
    side: u32,
    /// Per channel, the number of each sample value before it is normalised.
    rescaled: Box<[[f32; 256]; 3]>,
    /// Mean and standard deviation of each channel.
    normalisation: ([f32; 3], [f32; 3]),
}

impl Squared {
    /// From the JSON of `preprocessor_config.json`; without one, what the reference's processor does by itself. `model` is for
    /// messages.
    ///
    /// # Errors
    /// Broken JSON, or a step that is not known here: [`Error::ModelFile`] names it.
    pub fn owlv2(json: Option<&str>, model: &str) -> Result<Self> {
        Self::read(json.unwrap_or("{}")).map_err(|reason| Error::ModelFile {
            model: model.into(),
            file: "preprocessor_config.json".into(),
            reason,
        })
    }

    fn read(json: &str) -> std::result::Result<Self, String> {
        let value: Value = serde_json::from_str(json).map_err(|error| format!("broken JSON: {error}"))?;
        let file = value.get("image_processor").unwrap_or(&value).as_object().ok_or("not a JSON object")?;
        let named = file.get("image_processor_type").and_then(Value::as_str);
        let known = |named: &&str| OWLV2.names.contains(&named.trim_end_matches("Fast").trim_end_matches("Pil"));
        if let Some(named) = named.filter(|named| !known(named)) {
            let known = OWLV2.names.join(", ");
            return Err(format!("image_processor_type `{named}` is not known here (known: {known})"));
        }
        refuse_foreign_steps(file, &["do_pad"])?;
        for step in ["do_resize", "do_pad"] {
            if !flag(file, step, true)? {
                return Err(format!("without {step}, the input is no square"));
            }
        }
        if flag(file, "do_center_crop", false)? {
            return Err("the step `do_center_crop` is not known here".to_owned());
        }
        let (height, width) = match file.get("size") {
            None | Some(Value::Null) => (960, 960),
            Some(number @ Value::Number(_)) => side("size", number).map(|side| (side, side))?,
            Some(size) => sides("size", size)?,
        };
        if height != width {
            return Err(format!("size is {width} x {height}, which is no square"));
        }
        let (mean, std) = normalisation(file, &OWLV2)?.unwrap_or(([0.0; 3], [1.0; 3]));
        let single = |numbers: [f64; 3]| numbers.map(|number| number as f32);
        let rescaled = values(rescale_factor(file)?, None);
        Ok(Self { side: height, rescaled, normalisation: (single(mean), single(std)) })
    }

    /// Side of the input, pixels.
    pub fn side(&self) -> u32 {
        self.side
    }

    /// Pads, smooths, resizes and normalises. Shape: `[3, side, side]` flattened, RGB.
    ///
    /// PARITY: the reference rounds to 32 bits after each of its three steps; numbers differ by some 1e-7.
    pub fn apply(&self, picture: &RgbImage) -> Vec<f32> {
        let (width, height) = (picture.width() as usize, picture.height() as usize);
        let side = self.side as usize;
        let taps = taps(width.max(height), side);
        // Every line of the picture at its new width: [height, 3, side].
        let mut lines = vec![0.0_f32; height * CHANNELS * side];
        let samples = picture.as_raw().par_chunks((CHANNELS * width).max(1));
        lines.par_chunks_mut((CHANNELS * side).max(1)).zip(samples).for_each(|(line, samples)| {
            let pixels = samples.as_chunks::<CHANNELS>().0;
            let mut row = vec![0.0_f32; width];
            for (channel, (out, values)) in line.chunks_mut(side.max(1)).zip(self.rescaled.iter()).enumerate() {
                row.iter_mut().zip(pixels).for_each(|(x, pixel)| *x = values[usize::from(pixel[channel])]);
                for (out, (first, weights)) in out.iter_mut().zip(&taps) {
                    let seen = row.get((*first).min(width)..).unwrap_or_default();
                    // What lies right of the picture is black.
                    *out = seen.iter().zip(weights).map(|(x, weight)| x * weight).sum();
                }
            }
        });
        let mut input = vec![0.0_f32; CHANNELS * side * side];
        let rows = input.par_chunks_mut(side.max(1)).enumerate();
        rows.for_each(|(at, out)| {
            let (channel, y) = (at / side.max(1), at % side.max(1));
            if let Some((first, weights)) = taps.get(y) {
                for (weight, line) in weights.iter().zip(*first..height) {
                    let start = (line * CHANNELS + channel) * side;
                    let line = lines.get(start..start + side).unwrap_or_default();
                    out.iter_mut().zip(line).for_each(|(sum, x)| *sum += x * weight);
                }
            }
            let (mean, std) = (self.normalisation.0[channel], self.normalisation.1[channel]);
            for x in out.iter_mut() {
                *x = (*x - mean) / std;
            }
        });
        input // [3, side, side]
    }
}

/// For each of `out` places, the first of the `len` numbers that it sees, and the weights from there on: a gaussian of
/// `(len / out - 1) / 2`, then the line between the two nearest.
fn taps(len: usize, out: usize) -> Vec<(usize, Vec<f32>)> {
    let factor = len as f64 / out.max(1) as f64;
    let gaussian = gaussian(((factor - 1.0) / 2.0).max(0.0));
    let radius = (gaussian.len() / 2) as i64;
    let last = len.saturating_sub(1) as i64;
    let weights = |place: usize| {
        let at = mirrored_place((place as f64 + 0.5) * factor - 0.5, last as f64);
        let (low, share) = (at.floor() as i64, at - at.floor());
        let reach = |n: i64| (n - radius..=n + radius).map(|n| mirrored(n, last));
        let all = || reach(low).zip(&gaussian).map(|(n, weight)| (n, weight * (1.0 - share)));
        let more = || reach(low + 1).zip(&gaussian).map(|(n, weight)| (n, weight * share));
        let first = all().chain(more()).map(|(n, _)| n).min().unwrap_or(0);
        let end = all().chain(more()).map(|(n, _)| n + 1).max().unwrap_or(0);
        let mut sums = vec![0.0_f64; end - first];
        for (n, weight) in all().chain(more()) {
            if let Some(sum) = sums.get_mut(n - first) {
                *sum += weight;
            }
        }
        (first, sums.into_iter().map(|sum| sum as f32).collect())
    };
    (0..out).map(weights).collect()
}

/// Weights that add up to 1; a single one for a deviation of 0. Source: scipy, `_gaussian_kernel1d`.
fn gaussian(deviation: f64) -> Vec<f64> {
    if deviation <= 1e-15 {
        return vec![1.0];
    }
    let radius = (TRUNCATE * deviation + 0.5) as i64;
    let raw: Vec<f64> = (-radius..=radius).map(|x| (-0.5 / (deviation * deviation) * (x * x) as f64).exp()).collect();
    let sum: f64 = raw.iter().sum();
    raw.into_iter().map(|weight| weight / sum).collect()
}

/// A place beyond either end, reflected at the centre of the last number.
fn mirrored(n: i64, last: i64) -> usize {
    if last <= 0 {
        return 0;
    }
    let n = n.rem_euclid(2 * last);
    n.min(2 * last - n) as usize
}

fn mirrored_place(at: f64, last: f64) -> f64 {
    if last <= 0.0 {
        return 0.0;
    }
    let at = at.rem_euclid(2.0 * last);
    at.min(2.0 * last - at)
}

#[cfg(test)]
mod tests {
    use image::Rgb;

    use super::*;

    #[test]
    fn one_colour_stays_one_and_what_is_padded_is_black() {
        let json =
            r#"{"size": {"height": 8, "width": 8}, "image_mean": [0, 0, 0], "image_std": [1, 0.5, 1], "do_pad": true}"#;
        let owl = Squared::owlv2(Some(json), "m").unwrap();
        let input = owl.apply(&RgbImage::from_pixel(32, 32, Rgb([255, 51, 0])));
        assert!(
            input[..64].iter().all(|x| (x - 1.0).abs() < 1e-6) && input[64..128].iter().all(|x| (x - 0.4).abs() < 1e-6)
        );
        let input = owl.apply(&RgbImage::from_pixel(32, 16, Rgb([255, 51, 0])));
        assert!((input[0] - 1.0).abs() < 1e-6 && input[56..64].iter().all(|x| *x == 0.0), "{input:?}");
        for (width, height) in [(1, 1), (300, 1), (1, 300)] {
            assert!(owl.apply(&RgbImage::new(width, height)).iter().all(|x| x.is_finite()));
        }
    }

    #[test]
    fn other_steps_are_named() {
        for (json, reason) in [
            (r#"{"size": {"height": 8, "width": 9}}"#, "no square"),
            (r#"{"do_pad": false}"#, "without do_pad"),
            (r#"{"do_center_crop": true}"#, "do_center_crop"),
            (r#"{"image_processor_type": "OwlViTImageProcessor"}"#, "OwlViTImageProcessor"),
            ("[]", "not a JSON object"),
        ] {
            let error = Squared::read(json).unwrap_err();
            assert!(error.contains(reason), "{json}: {error}");
        }
        assert_eq!(Squared::owlv2(None, "m").unwrap().side(), 960);
    }
}
