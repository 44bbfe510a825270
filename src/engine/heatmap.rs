//! Where in a picture a model sees a phrase: its patches in the space of its vectors, each against the phrase.
//!
//! Source: Kang et al. 2025, "Is CLIP ideal? No. Can we fix it? Yes!", arXiv 2503.08723, section 5: dense cosine similarity maps.
//! A patch is as near to any text as it is to neutral ones, mostly; so what is told is how many standard deviations it lies
//! above them, as everywhere here.

use image::RgbImage;

use super::classify::label_directions;
use super::encoders::bad_argument;
use super::{Engine, Watch};
use crate::error::Result;
use crate::index::calibration::{ImageCalibration, dot};
use crate::models::Encoder;
use crate::pixels::heat;

/// Standard deviations above neutral texts that have the first and the last colour.
const RANGE: (f32, f32) = (-0.5, 3.0);
/// Most phrases of one request.
const MOST_PHRASES: usize = 64;

/// Where a phrase is seen.
#[derive(Debug, Clone, PartialEq)]
pub struct HeatMap {
    /// The phrase.
    pub text: String,
    /// Standard deviations above neutral texts, patch by patch, rows from top to bottom.
    pub sigma: Vec<Vec<f32>>,
}

impl Engine {
    /// Where the encoder sees phrases in a picture; and the part of the picture that it looks at.
    ///
    /// # Errors
    /// No phrases or too many; the image cannot be read; the model has no dense features; the caller cancelled.
    pub fn heat_maps(
        &self,
        image: &str,
        phrases: &[String],
        encoder: &Encoder,
        watch: &Watch<'_>,
    ) -> Result<(RgbImage, Vec<HeatMap>)> {
        if phrases.is_empty() || phrases.len() > MOST_PHRASES {
            return bad_argument("heatmap", format!("needs 1 to {MOST_PHRASES} phrases, there are {}", phrases.len()));
        }
        let (_, picture) = self.read_image(image)?;
        let nulls = self.null_vectors(encoder, watch)?;
        let directions = label_directions(encoder, phrases, &[], watch)?;
        let patches = encoder.encode_patches(&encoder.preprocessor().apply(&picture.rgb))?;
        // The first token stands for the whole picture.
        let patches = patches.get(1..).unwrap_or_default();
        let side = patches.len().isqrt().max(1);
        let levels: Vec<ImageCalibration> =
            patches.iter().map(|patch| ImageCalibration::measure(patch, &nulls)).collect();
        let map = |(text, direction): (&String, &Vec<f32>)| {
            let sigma = patches.iter().zip(&levels).map(|(patch, level)| level.normalise(dot(patch, direction)));
            let sigma: Vec<f32> = sigma.collect();
            HeatMap { text: text.clone(), sigma: sigma.chunks(side).map(<[f32]>::to_vec).collect() }
        };
        let maps = phrases.iter().zip(&directions).map(map).collect();
        Ok((encoder.preprocessor().crop(&picture.rgb), maps))
    }
}

impl HeatMap {
    /// The map over the part of the picture that the model looks at.
    pub fn draw(&self, seen: &RgbImage) -> RgbImage {
        heat(seen, &self.sigma, RANGE)
    }
}
