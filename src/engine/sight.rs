//! One image as a model sees it: its vector, its level over neutral texts, and what texts score on it.

use std::sync::Arc;

use super::embedder::ImageTextEmbedder as _;
use super::encoders::{encode_pictures, null_texts};
use super::{Engine, Watch};
use crate::error::Result;
use crate::index::calibration::{ImageCalibration, dot};
use crate::index::{Catalogue, SetInfo};
use crate::models::Encoder;

/// Neutral texts that two unrelated texts differ by on one image, in standard deviations: the root of two, since each of
/// them spreads by one.
///
/// On 126 labelled COCO photos (`OpenAI` ViT-B/32, `tests/it/ranking.rs`) two classes that are both absent differ by 0.73
/// in the median and by less than 1.41 in 80 % of the pairs; a class that is there stands 1.84 above one that is not.
pub const NOISE_SIGMA: f32 = std::f32::consts::SQRT_2;

/// Neutral texts that are averaged for [`Sight::best`].
const BEST: usize = 5;

/// An image as a model sees it.
#[derive(Debug)]
pub struct Sight {
    /// Path or URL.
    pub path: String,
    /// The model.
    pub encoder: Arc<Encoder>,
    /// Shape: `[dim]`, unit length.
    pub vector: Vec<f32>,
    /// Its level and spread over the neutral texts.
    pub level: ImageCalibration,
    /// The neutral texts' vectors. Shape: each `[dim]`, unit length.
    pub nulls: Vec<Vec<f32>>,
}

/// A text's score on an image.
#[derive(Debug, Clone, PartialEq)]
pub struct Scored {
    /// The text.
    pub text: String,
    /// Its vector.
    pub vector: Vec<f32>,
    /// Cosine with the image.
    pub cosine: f32,
    /// Standard deviations above what neutral texts reach on this image.
    pub sigma: f32,
}

impl Sight {
    /// Scores texts on the image.
    ///
    /// # Errors
    /// The model fails.
    pub fn score(&self, texts: &[String]) -> Result<Vec<Scored>> {
        let vectors = self.encoder.encode_texts(texts)?;
        let scored = texts.iter().zip(vectors).map(|(text, vector)| {
            let cosine = dot(&vector, &self.vector);
            Scored { text: text.clone(), sigma: self.level.normalise(cosine), vector, cosine }
        });
        Ok(scored.collect())
    }

    /// The neutral texts that fit best, with their standard deviations; empty where texts and vectors cannot be matched
    /// because the model cannot tell some of the texts apart.
    pub fn nearest(&self, count: usize) -> Vec<(String, f32)> {
        let texts = null_texts(&self.encoder);
        if texts.len() != self.nulls.len() {
            return Vec::new();
        }
        let sigma = |null: &Vec<f32>| self.level.normalise(dot(null, &self.vector));
        let mut all: Vec<(String, f32)> = texts.into_iter().zip(self.nulls.iter().map(sigma)).collect();
        all.sort_by(|a, b| b.1.total_cmp(&a.1));
        all.truncate(count);
        all
    }

    /// How well the best neutral texts fit the image; see [`best`].
    pub fn best(&self) -> f32 {
        best(&self.vector, &self.nulls)
    }
}

/// Mean cosine of the five neutral texts that fit an image best: low where no text of the model's world fits.
///
/// After Ming et al. 2022, arXiv 2211.13445, who take the best of many texts as the score of belonging to the known world.
/// Shapes: `[dim]`, each `[dim]`.
pub fn best(image: &[f32], nulls: &[Vec<f32>]) -> f32 {
    let mut cosines: Vec<f32> = nulls.iter().map(|null| dot(null, image)).collect();
    cosines.sort_by(|a, b| b.total_cmp(a));
    cosines.truncate(BEST);
    cosines.iter().sum::<f32>() / cosines.len().max(1) as f32
}

impl Engine {
    /// Looks at an image with the model of the index, else with the one that was named or is the default here.
    ///
    /// # Errors
    /// The image is outside the roots or cannot be decoded; the model cannot be loaded.
    pub fn sight(&self, image: &str, watch: &Watch<'_>) -> Result<Sight> {
        let (path, picture) = self.read_image(image)?;
        let encoder = match self.catalogue() {
            Ok(catalogue) => self.index_encoder(&catalogue, watch)?,
            Err(error) => {
                tracing::warn!("the index is not looked at: {error}");
                self.encoder(&self.model_name()?, watch)?
            }
        };
        let nulls = self.null_vectors(&encoder, watch)?;
        watch.check()?;
        let vector = encode_pictures(&encoder, &[picture.rgb])?.into_iter().next().unwrap_or_default();
        let level = ImageCalibration::measure(&vector, &nulls);
        Ok(Sight { path, encoder, vector, level, nulls })
    }
}

/// The vector set that belongs to a model, when it holds anything.
///
/// # Errors
/// The catalogue cannot be read.
pub(super) fn set_of(catalogue: &Catalogue, encoder: &Encoder) -> Result<Option<SetInfo>> {
    Ok(catalogue.find_set(&encoder.set_key())?.filter(|set| set.vectors > 0))
}

#[cfg(test)]
mod tests {
    use super::best;

    #[test]
    fn the_best_texts_are_averaged() {
        let nulls: Vec<Vec<f32>> = (0..8).map(|i| vec![i as f32 / 10.0, 0.0]).collect();
        assert!((best(&[1.0, 0.0], &nulls) - 0.5).abs() < 1e-6);
        assert!(best(&[1.0, 0.0], &[]).abs() < 1e-6);
    }
}
