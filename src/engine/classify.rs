//! Zero-shot classification: labels as prompts, cosines as probabilities, and an honest "none of these".
//!
//! Source: Radford et al. 2021, section 3.1.4 (prompt ensembling: the label's vectors under several prompts are
//! averaged and normalised again).

use std::sync::Arc;

use rayon::prelude::*;

use super::embedder::ImageTextEmbedder;
use super::encoders::{bad_argument, null_texts};
use super::{Engine, Watch, ingest};
use crate::error::{Error, Result};
use crate::index::calibration::{self, ImageCalibration, LabelScores, LabelScoring};
use crate::models::{Encoder, Scoring};

/// Images decoded and embedded together.
const BATCH: usize = 16;
/// Most labels of one request; each costs a few runs of the text tower.
const MOST_LABELS: usize = 1000;

/// What became of each image, in the order given, and the model that said so.
pub struct Classified {
    /// Path (or URL) and label scores, or why it could not be read.
    pub images: Vec<(String, Result<LabelScores>)>,
    /// The labels, trimmed and without repetitions; the scores are in their order.
    pub labels: Vec<String>,
    /// The model.
    pub encoder: Arc<Encoder>,
}

impl Engine {
    /// Tells which of the labels fits each image.
    ///
    /// # Errors
    /// No images or labels, a template without `{}`, the model cannot be loaded. An unreadable image is an entry.
    pub fn classify(
        &self,
        images: &[String],
        labels: &[String],
        templates: &[String],
        watch: &Watch<'_>,
    ) -> Result<Classified> {
        let labels = distinct(labels);
        if images.is_empty() {
            return bad_argument("images", "is empty: give at least one path");
        }
        if labels.is_empty() || labels.len() > MOST_LABELS {
            return bad_argument("labels", format!("holds {} labels; 1 to {MOST_LABELS} are possible", labels.len()));
        }
        let encoder = self.encoder(&self.model_name()?, watch)?;
        let directions = label_directions(&encoder, &labels, templates, watch)?;
        let nulls = self.null_vectors(&encoder, watch)?;
        let scoring = match encoder.scoring()? {
            Scoring::Softmax { scale } => LabelScoring::Softmax { scale },
            Scoring::Sigmoid { scale, bias } => LabelScoring::Sigmoid { scale, bias },
        };
        let mut classified = Vec::with_capacity(images.len());
        for batch in images.chunks(BATCH) {
            watch.check()?;
            let prepared: Vec<Result<(String, Vec<f32>)>> = batch
                .par_iter()
                .map(|image| {
                    let (path, picture) = self.read_image(image)?;
                    Ok((path, encoder.preprocessor().apply(&picture.rgb)))
                })
                .collect();
            let mut pixels = Vec::with_capacity(batch.len());
            let names: Vec<Result<String>> = prepared
                .into_iter()
                .map(|image| {
                    image.map(|(name, input)| {
                        pixels.push(input);
                        name
                    })
                })
                .collect();
            let mut vectors = encoder.encode_images(&pixels)?.into_iter();
            for (image, name) in batch.iter().zip(names) {
                classified.push(match name {
                    Ok(name) => {
                        let vector = vectors.next().unwrap_or_default();
                        let cosines: Vec<f32> = directions.iter().map(|d| calibration::dot(d, &vector)).collect();
                        let level = ImageCalibration::measure(&vector, &nulls);
                        (name, Ok(calibration::classify(&cosines, scoring, Some(&level))))
                    }
                    Err(error) => (image.clone(), Err(error)),
                });
            }
        }
        Ok(Classified { images: classified, labels, encoder })
    }

    /// The model's null-text vectors, from the catalogue where they have been made before. Where the catalogue cannot
    /// be written they are made and not kept: classifying needs no index.
    pub(super) fn null_vectors(&self, encoder: &Encoder, watch: &Watch<'_>) -> Result<Vec<Vec<f32>>> {
        let texts = null_texts(encoder);
        let kept = self.catalogue().and_then(|mut catalogue| {
            let set = catalogue.ensure_set(&encoder.set_key())?;
            ingest::null_vectors(&mut catalogue, encoder, &set, &texts, watch)
        });
        match kept {
            Err(Error::Catalogue { path, source }) => {
                tracing::warn!("neutral texts are not kept: {}: {source}", path.display());
                encoder.encode_texts(&texts).map(calibration::distinct_nulls)
            }
            other => other,
        }
    }
}

/// One unit vector per label: the mean over its prompts. Shape: each `[dim]`.
pub(super) fn label_directions(
    encoder: &Encoder,
    labels: &[String],
    templates: &[String],
    watch: &Watch<'_>,
) -> Result<Vec<Vec<f32>>> {
    let mut directions = Vec::with_capacity(labels.len());
    for some in labels.chunks(BATCH) {
        watch.check()?;
        let prompts: Vec<Vec<String>> = some.iter().map(|label| prompts(label, templates)).collect::<Result<_>>()?;
        let vectors = encoder.encode_texts(&prompts.concat())?;
        let mut rest = vectors.as_slice();
        for prompts in &prompts {
            let (own, others) = rest.split_at(prompts.len().min(rest.len()));
            directions.push(mean_direction(own));
            rest = others;
        }
    }
    Ok(directions)
}

/// Trimmed labels without empty ones and repetitions, in the order given.
fn distinct(labels: &[String]) -> Vec<String> {
    let mut kept: Vec<String> = Vec::new();
    for label in labels.iter().map(|label| label.trim()).filter(|label| !label.is_empty()) {
        if !kept.iter().any(|other| other == label) {
            kept.push(label.to_owned());
        }
    }
    kept
}

/// Prompts that a label is put into when the caller gives none. Short neutral ones: a long ensemble mostly helps on
/// ImageNet's object photos and costs a text-tower run each.
pub const DEFAULT_TEMPLATES: [&str; 3] = ["a photo of a {}", "a picture of {}", "{}"];

/// The prompts of one label.
///
/// # Errors
/// A template without `{}`.
pub fn prompts(label: &str, templates: &[String]) -> Result<Vec<String>> {
    if templates.is_empty() {
        return Ok(DEFAULT_TEMPLATES.iter().map(|template| with_article(template, label)).collect());
    }
    templates
        .iter()
        .map(|template| {
            if template.contains("{}") {
                Ok(template.replace("{}", label))
            } else {
                Err(Error::Argument { name: "template", reason: format!("`{template}` has no {{}} for the label") })
            }
        })
        .collect()
}

/// "a photo of a owl" is no caption that CLIP has seen.
fn with_article(template: &str, label: &str) -> String {
    let vowel = label.chars().next().is_some_and(|c| "aeiouAEIOU".contains(c));
    let template = if vowel { template.replace(" a {}", " an {}") } else { template.to_owned() };
    // "a photo of a the sea", "a photo of a dogs playing": a label that brings its own determiner or is a phrase
    // stands alone.
    let own = ["a ", "an ", "the ", "some "].iter().any(|word| label.to_lowercase().starts_with(word));
    let template = if own { template.replace(" a {}", " {}").replace(" an {}", " {}") } else { template };
    template.replace("{}", label)
}

/// Mean of unit vectors, scaled to unit length. Shapes: each `[dim]` -> `[dim]`.
pub fn mean_direction(vectors: &[Vec<f32>]) -> Vec<f32> {
    let dim = vectors.first().map_or(0, Vec::len);
    let mut sum = vec![0.0f32; dim];
    for vector in vectors {
        for (total, value) in sum.iter_mut().zip(vector) {
            *total += value;
        }
    }
    let length = sum.iter().map(|v| v * v).sum::<f32>().sqrt();
    if length > 0.0 {
        for value in &mut sum {
            *value /= length;
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::{mean_direction, prompts};

    #[test]
    fn labels_become_grammatical_prompts() {
        assert_eq!(prompts("owl", &[]).unwrap()[0], "a photo of an owl");
        assert_eq!(prompts("dog", &[]).unwrap()[0], "a photo of a dog");
        assert_eq!(prompts("the sea", &[]).unwrap()[0], "a photo of the sea");
        assert_eq!(prompts("dog", &["art of {}".into()]).unwrap(), ["art of dog"]);
    }

    #[test]
    fn a_template_without_a_place_for_the_label_is_refused() {
        assert!(prompts("dog", &["a photo".into()]).is_err());
    }

    #[test]
    fn the_mean_direction_has_unit_length() {
        let mean = mean_direction(&[vec![1.0, 0.0], vec![0.0, 1.0]]);
        assert!((mean[0] - 0.5f32.sqrt()).abs() < 1e-6 && (mean[1] - 0.5f32.sqrt()).abs() < 1e-6);
    }
}
