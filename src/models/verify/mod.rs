//! Are these really the published weights, and does this port compute what the reference computes?
//!
//! Two kinds of checks, both returned as rows: [`files()`] compares the bytes with the hub's hashes and reads every
//! weights file's table of tensors; [`encoder`] compares outputs with those that the reference's own test suite
//! publishes for real checkpoints ([`GOLDENS`]); [`detector_files`] and [`detector`] do the same for detectors.

use std::path::Path;

use image::RgbImage;

use crate::error::{Error, Result};
use crate::models::{Encoder, Scoring, registry};

mod detectors;
mod files;
mod goldens;

pub use detectors::{detector, detector_photos};
pub use files::{FileRow, detector_files, files};
pub use goldens::GOLDENS;

/// A photo that published outputs were computed on. None is shipped: the licences do not allow it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Photo {
    /// COCO val2017 000000039769: two cats on a couch, 640 x 480.
    CocoCats,
    /// `skimage.data.astronaut()`, 512 x 512.
    Astronaut,
}

impl Photo {
    /// Where it can be had: an address, or the package that brings it.
    pub fn origin(self) -> &'static str {
        match self {
            Self::CocoCats => "http://images.cocodataset.org/val2017/000000039769.jpg",
            Self::Astronaut => "skimage.data.astronaut() of scikit-image (data/astronaut.png)",
        }
    }

    /// The photo that a file name speaks of.
    pub fn from_path(path: &Path) -> Option<Self> {
        let stem = path.file_stem()?.to_str()?.to_ascii_lowercase();
        match stem.as_str() {
            stem if stem.ends_with("39769") => Some(Self::CocoCats),
            "astronaut" => Some(Self::Astronaut),
            _ => None,
        }
    }
}

/// How the values of a row compare.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Scale {
    /// As they are.
    Absolute,
    /// Up to one positive factor, fitted by least squares: the published vector is not of unit length and only its
    /// head is known, so its length cannot be divided out.
    Fitted,
}

/// One published output of a reference implementation.
#[derive(Debug, Clone, Copy)]
pub struct Golden {
    /// Name in the registry.
    pub model: &'static str,
    /// The stage of the model, in the reference's words: `logits_per_image`, `text_embeds`.
    pub stage: &'static str,
    /// Which part of the stage's output, in Python's notation.
    pub slice: &'static str,
    /// The texts of the input, in order.
    pub texts: &'static [&'static str],
    /// The image of the input.
    pub photo: Option<Photo>,
    /// The published values, flattened.
    pub expected: &'static [f32],
    /// Compared as they are, or up to a factor.
    pub scale: Scale,
    /// Tolerance relative to the expected value.
    pub rtol: f32,
    /// Tolerance added to it.
    pub atol: f32,
    /// Where it was published.
    pub source: &'static str,
}

/// One compared value.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Row {
    /// Stage, slice and the place in it.
    pub name: String,
    /// The published value.
    pub expected: f32,
    /// What was computed here.
    pub actual: f32,
    /// `|actual - expected|`.
    pub difference: f32,
    /// `atol + rtol * |expected|`; a larger difference fails.
    pub tolerance: f32,
    /// Within the tolerance.
    pub ok: bool,
    /// Where the expected value was published.
    pub source: &'static str,
}

/// The published outputs of a model, by its registry name or an alias.
pub fn goldens_of(model: &str) -> impl Iterator<Item = &'static Golden> {
    let name = registry::find(model).map(|entry| entry.name);
    GOLDENS.iter().filter(move |golden| Some(golden.model) == name)
}

/// Compares computed values with published ones; one row per published value. A value that was not computed, or is no
/// number, fails.
pub fn compare(golden: &Golden, actual: &[f32]) -> Vec<Row> {
    let factor = match golden.scale {
        Scale::Absolute => 1.0,
        Scale::Fitted => fitted_factor(golden.expected, actual),
    };
    let rows = golden.expected.iter().enumerate().map(|(place, &expected)| {
        let actual = actual.get(place).map_or(f32::NAN, |value| value * factor);
        let difference = (actual - expected).abs();
        let tolerance = golden.atol + golden.rtol * expected.abs();
        Row {
            name: format!("{}{} #{place}", golden.stage, golden.slice),
            expected,
            actual,
            difference,
            tolerance,
            // Not `!(difference > tolerance)`: a difference that is no number must fail.
            ok: difference <= tolerance,
            source: golden.source,
        }
    });
    rows.collect()
}

/// The factor that brings `actual` closest to `expected`; 1 where that would be none or turn the sign.
fn fitted_factor(expected: &[f32], actual: &[f32]) -> f32 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f32>();
    let factor = dot(expected, actual) / dot(actual, actual);
    if factor.is_finite() && factor > 0.0 { factor } else { 1.0 }
}

/// Runs an encoder on the inputs of its published outputs. Outputs whose photo is not among `photos` are left out;
/// [`photos_of`] names those that are needed.
///
/// # Errors
/// The encoder's.
pub fn encoder(encoder: &Encoder, photos: &[(Photo, RgbImage)]) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for golden in goldens_of(encoder.id()) {
        let picture = match golden.photo {
            None => None,
            Some(photo) => match photos.iter().find(|(given, _)| *given == photo) {
                Some((_, rgb)) => Some(rgb),
                None => continue,
            },
        };
        rows.extend(compare(golden, &stage(encoder, golden, picture)?));
    }
    Ok(rows)
}

/// The photos that a model's published outputs were computed on, each once.
pub fn photos_of(model: &str) -> Vec<Photo> {
    let mut photos: Vec<Photo> = Vec::new();
    for photo in goldens_of(model).filter_map(|golden| golden.photo) {
        if !photos.contains(&photo) {
            photos.push(photo);
        }
    }
    photos
}

/// The output of one stage for a golden's input.
fn stage(encoder: &Encoder, golden: &Golden, picture: Option<&RgbImage>) -> Result<Vec<f32>> {
    let texts: Vec<String> = golden.texts.iter().map(|&text| text.to_owned()).collect();
    let text = if texts.is_empty() { Vec::new() } else { encoder.encode_texts(&texts)? };
    let image = match picture {
        Some(rgb) => encoder.encode_images(&[encoder.preprocessor().apply(rgb)])?.pop().unwrap_or_default(),
        None => Vec::new(),
    };
    let logits = || -> Result<Vec<f32>> {
        let cosines = text.iter().map(|text| text.iter().zip(&image).map(|(a, b)| a * b).sum::<f32>());
        Ok(match encoder.scoring()? {
            Scoring::Softmax { scale } => cosines.map(|cosine| scale * cosine).collect(),
            Scoring::Sigmoid { scale, bias } => cosines.map(|cosine| scale * cosine + bias).collect(),
        })
    };
    match golden.stage {
        "logits_per_image" => logits(),
        "softmax(logits_per_image)" => Ok(softmax(&logits()?)),
        "text_embeds" => Ok(text.into_iter().next().unwrap_or_default()),
        "image_embeds" => Ok(image),
        other => Err(Error::Argument { name: "stage", reason: format!("is no stage of an encoder: `{other}`") }),
    }
}

/// Shapes: `[labels]`, unchanged; together 1.
pub(super) fn softmax(logits: &[f32]) -> Vec<f32> {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let powers: Vec<f32> = logits.iter().map(|logit| (logit - largest).exp()).collect();
    let sum: f32 = powers.iter().sum();
    powers.iter().map(|power| power / sum).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn golden(scale: Scale) -> Golden {
        Golden { expected: &[2.0, -4.0], scale, rtol: 0.01, atol: 0.001, ..GOLDENS[0] }
    }

    #[test]
    fn values_outside_the_tolerance_fail() {
        let golden = golden(Scale::Absolute);
        let ok = |actual: &[f32]| compare(&golden, actual).iter().map(|row| row.ok).collect::<Vec<_>>();
        assert_eq!(ok(&[2.0, -4.0]), [true, true]);
        assert_eq!(ok(&[2.0209, -4.0409]), [true, true]);
        assert_eq!(ok(&[2.0211, -4.0411]), [false, false]);
        assert_eq!(ok(&[f32::NAN, 4.0]), [false, false]);
        assert_eq!(ok(&[2.0]), [true, false]);
        assert_eq!(ok(&[]), [false, false]);
    }

    #[test]
    fn a_fitted_row_ignores_length_but_not_direction() {
        let golden = golden(Scale::Fitted);
        let ok = |actual: &[f32]| compare(&golden, actual).iter().all(|row| row.ok);
        assert!(ok(&[0.2, -0.4]));
        assert!(!ok(&[0.2, -0.3]));
        assert!(!ok(&[-0.2, 0.4]), "the opposite direction is not the same");
        assert!(!ok(&[0.0, 0.0]));
    }

    #[test]
    fn rows_name_the_stage_the_place_and_the_source() {
        let rows = compare(&GOLDENS[0], &[24.57, 19.30]);
        assert_eq!(rows[1].name, "logits_per_image[0, :2] #1");
        assert!(rows[1].source.ends_with("test_modeling_clip.py"));
        assert!((rows[1].tolerance - 0.020_304_9).abs() < 1e-6);
    }

    #[test]
    fn the_published_softmax_is_that_of_the_published_logits() {
        let probabilities = softmax(GOLDENS[0].expected);
        assert!(compare(&GOLDENS[1], &probabilities).iter().all(|row| row.ok), "{probabilities:?}");
    }

    #[test]
    fn every_golden_belongs_to_the_registry_and_is_found_by_alias() {
        for golden in GOLDENS {
            assert!(registry::find(golden.model).is_some_and(|e| e.name == golden.model), "{}", golden.model);
        }
        assert_eq!(goldens_of("openai/clip-vit-base-patch32").count(), GOLDENS.len());
        assert_eq!(goldens_of("clip-vit-l14").count(), 0);
        assert_eq!(photos_of("ViT-B/32"), [Photo::CocoCats, Photo::Astronaut]);
    }

    #[test]
    fn photos_are_known_by_their_file_names() {
        for name in ["000000039769.jpg", "/a/b/coco_39769.PNG"] {
            assert_eq!(Photo::from_path(Path::new(name)), Some(Photo::CocoCats), "{name}");
        }
        assert_eq!(Photo::from_path(Path::new("astronaut.png")), Some(Photo::Astronaut));
        assert_eq!(Photo::from_path(Path::new("cat.jpg")), None);
    }
}
