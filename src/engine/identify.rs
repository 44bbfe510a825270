//! Which of a gallery's labels a picture belongs to, or none of them: nearest examples, without training.
//!
//! A gallery is a folder with a folder for each label. Its pictures are embedded once, by the machinery of an index but into a
//! catalogue of its own (`galleries` in the data folder), so that what searches find does not depend on what was identified.
//! The query is looked at in several views ([`views()`]); each view asks the [`Judge`] for the probability of every label,
//! and the mean over the views is the answer.

mod fit;
mod gallery;
mod judge;
#[cfg(test)]
mod tests;
mod views;

use std::path::PathBuf;
use std::sync::Arc;

use image::RgbImage;
use rayon::prelude::*;

use super::embedder::ImageTextEmbedder;
use super::{Engine, Watch};
use crate::error::{Error, Result};
use crate::models::weights::{Presence, presence};
use crate::models::{Encoder, registry};
use crate::pixels::Whole;
pub use gallery::Gallery;
pub use judge::{Judge, Standing};
use views::views;

/// Labels that an answer names at most.
pub const MOST_CANDIDATES: usize = 20;
/// Examples that are shown for each label.
const NEAREST: usize = 3;
/// The probability from which on a label is named; below it the answer is "unknown".
///
/// A probability is fitted with as many strangers as known pictures, so from here on a label is more likely right than not.
/// Over photos of which a gallery held other crops and colours (`OpenAI` ViT-B/32, 2 to 20 labels of one or two
/// pictures, real vectors), all known ones were named and 2.5 to 6.7 % of the strangers.
pub const NAMED_FROM: f32 = 0.5;

/// A label and how probable it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// Name of the folder.
    pub label: String,
    /// Probability, 0 to 1.
    pub confidence: f32,
    /// Its most similar pictures, each with the greatest cosine of any view.
    pub nearest: Vec<(PathBuf, f32)>,
}

/// What is said of one picture.
#[derive(Debug, Clone, PartialEq)]
pub struct Identified {
    /// The most probable first.
    pub candidates: Vec<Candidate>,
    /// No label is probable enough to be named.
    pub unknown: bool,
    /// The picture is one of the gallery's, and was not compared with itself.
    pub own: bool,
}

/// What is said of each picture, in the order given, and by what.
#[derive(Debug)]
pub struct Identification {
    /// Path (or URL), or why it could not be read.
    pub images: Vec<(String, Result<Identified>)>,
    /// The gallery, with what it can tell apart.
    pub gallery: Gallery,
    /// How well it tells its own pictures apart.
    pub standing: Standing,
    /// The model.
    pub encoder: Arc<Encoder>,
    /// What to keep in mind.
    pub notes: Vec<String>,
}

impl Engine {
    /// Compares pictures with a gallery; at most `top` labels are told for each.
    ///
    /// # Errors
    /// No images, a number of labels out of range, a gallery that is no folder, is outside the roots, or has fewer than two labels;
    /// the model cannot be loaded; the caller cancelled. An unreadable image is an entry.
    pub fn identify(&self, images: &[String], gallery: &str, top: usize, watch: &Watch<'_>) -> Result<Identification> {
        let refuse = |name, reason: &str| Err(Error::Argument { name, reason: reason.into() });
        if images.is_empty() {
            return refuse("images", "is empty: give at least one path");
        }
        if top == 0 || top > MOST_CANDIDATES {
            return refuse("top", "must be 1 to 20");
        }
        let folder = self.resolve(gallery)?;
        if !folder.is_dir() {
            return Err(Error::NotAFolder { path: folder });
        }
        let name = self.identifying_model()?;
        let encoder = self.encoder(&name, watch)?;
        let mut notes = Vec::new();
        if self.config.identifier.is_none() && encoder.reads_texts() {
            notes.push(format!(
                "compared by {name}, which knows kinds better than individuals: `clip-aware models fetch {EASIEST}` gets a model that is made for this"
            ));
        }
        let gallery = self.gallery(&folder, &encoder, watch)?;
        notes.extend(gallery.notes());
        watch.check()?;
        let judge = Judge::of(&gallery);
        let standing = judge.standing();
        let mut told = Vec::with_capacity(images.len());
        for image in images {
            watch.check()?;
            told.push(match self.read_image(image) {
                Ok((path, picture)) => {
                    let identified = identify(encoder.as_ref(), &gallery, &judge, (&path, &picture.rgb), top)?;
                    (path, Ok(identified))
                }
                Err(error) => (image.clone(), Err(error)),
            });
        }
        Ok(Identification { images: told, gallery, standing, encoder, notes })
    }

    /// The model that was named for this; else a `DINOv2` on this machine, the middle size first; else what searches use.
    fn identifying_model(&self) -> Result<String> {
        if let Some(name) = &self.config.identifier {
            return Ok(name.clone());
        }
        let source = self.weight_source(false);
        let here = |name: &str| matches!(presence(name, &source), Ok(Presence::Here(_)));
        let mut sizes: Vec<_> =
            registry::entries().iter().filter(|entry| entry.architecture == registry::Architecture::Dinov2).collect();
        sizes.sort_by_key(|entry| entry.parameters_million.abs_diff(MIDDLE_MILLIONS));
        if let Some(entry) = sizes.iter().find(|entry| here(entry.name)) {
            return Ok(entry.name.to_owned());
        }
        let usual = self.model_name()?;
        if self.config.model.is_some() || here(&usual) {
            return Ok(usual);
        }
        Err(Error::Offline { model: EASIEST.to_owned(), missing: vec!["model.safetensors".to_owned()] })
    }
}

/// Parameters of the `DINOv2` that is preferred.
const MIDDLE_MILLIONS: u32 = 87;
/// The one that is quickest to get.
const EASIEST: &str = "dinov2-small";

/// One picture, with its path.
fn identify(
    embedder: &dyn ImageTextEmbedder,
    gallery: &Gallery,
    judge: &Judge,
    (path, rgb): (&str, &RgbImage),
    top: usize,
) -> Result<Identified> {
    let own = gallery.content_of(path);
    let views = views(rgb);
    let inputs: Vec<Vec<f32>> = views.par_iter().map(|(view, _)| embedder.prepare(view, Whole::of(view))).collect();
    let vectors = embedder.encode_images(&inputs)?;
    let mut votes = vec![0.0_f32; gallery.labels().len()];
    let mut nearest = vec![f32::NEG_INFINITY; gallery.examples().len()];
    let all: f32 = views.iter().map(|(_, weight)| weight).sum();
    for ((_, weight), vector) in views.iter().zip(&vectors) {
        let cosines = gallery.cosines(vector);
        nearest.iter_mut().zip(&cosines).for_each(|(best, cosine)| *best = best.max(*cosine));
        for (label, probability) in judge.probabilities(&gallery.rank(&cosines, |example| Some(example.content) == own))
        {
            if let Some(vote) = votes.get_mut(label) {
                *vote += weight / all * probability;
            }
        }
    }
    let mut order: Vec<usize> = (0..votes.len()).collect();
    let vote = |label: &usize| votes.get(*label).copied().unwrap_or(0.0);
    let closest = gallery.closest(&nearest, own, NEAREST);
    let cosine = |label: &usize| closest.get(*label).and_then(|of| of.first()).map_or(f32::NEG_INFINITY, |(_, c)| *c);
    order.sort_by(|a, b| vote(b).total_cmp(&vote(a)).then(cosine(b).total_cmp(&cosine(a))));
    let candidates: Vec<Candidate> = order
        .iter()
        .filter(|label| cosine(label).is_finite())
        .take(top)
        .filter_map(|label| {
            let (name, nearest) = (gallery.labels().get(*label)?.clone(), closest.get(*label)?.clone());
            Some(Candidate { label: name, confidence: vote(label), nearest })
        })
        .collect();
    let unknown = candidates.first().is_none_or(|best| best.confidence < NAMED_FROM);
    Ok(Identified { candidates, unknown, own: own.is_some() })
}
