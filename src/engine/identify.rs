//! What a picture shows, by name: a label of a gallery, or none of them, by its nearest examples and without training; or a label
//! of a classifier, which names one of its own whatever is shown ([`closed`]).
//!
//! A gallery is a folder with a folder for each label. Its pictures are embedded once, by the machinery of an index but into a
//! catalogue of its own (`galleries` in the data folder), so that what searches find does not depend on what was identified.
//! The query is looked at in several views ([`views()`]); each view asks the [`Judge`] for the probability of every label,
//! and the mean over the views is the answer.

mod closed;
mod fit;
mod gallery;
mod judge;
#[cfg(test)]
mod tests;
mod views;

use std::path::PathBuf;

use image::RgbImage;
use rayon::prelude::*;

use super::classifiers::NamedBy;
use super::embedder::ImageTextEmbedder;
use super::{Engine, Watch};
use crate::error::{Error, Result};
use crate::models::registry;
use crate::models::weights::{Presence, presence};
use crate::pixels::{Picture, Whole};
pub use gallery::Gallery;
pub use judge::{Judge, Standing};
use views::{views, whole};

/// Labels that an answer names at most.
pub const MOST_CANDIDATES: usize = 20;
/// Examples that are shown for each label.
const NEAREST: usize = 3;
/// The probability from which on a label is named; below it the answer is "unknown".
///
/// A probability is fitted with as many strangers as known pictures, so from here on a label is more likely right than not.
/// Over photos of which a gallery held other crops and colours (`OpenAI` ViT-B/32, 2 to 20 labels of one or two
/// pictures, real vectors), all known ones were named and 1.7 to 5 % of the strangers. Over other photos of the same kind of
/// thing, a single one of each of three or four kinds, 18 to 26 % of the known ones and 22 to 25 % of the strangers: one example
/// says little about a kind.
pub const NAMED_FROM: f32 = 0.5;

/// A label and how probable it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// Name of the gallery's folder, or the classifier's name for it.
    pub label: String,
    /// Probability, 0 to 1.
    pub confidence: f32,
    /// Its most similar pictures, each with the greatest cosine of any view; none of a classifier's.
    pub nearest: Vec<(PathBuf, f32)>,
}

/// What is said of one picture.
#[derive(Debug, Clone, PartialEq)]
pub struct Identified {
    /// The most probable first.
    pub candidates: Vec<Candidate>,
    /// No label is probable enough to be named; a classifier names one always.
    pub unknown: bool,
    /// The picture is one of the gallery's, and was not compared with itself.
    pub own: bool,
    /// The model takes aligned crops, which are square, and this picture is not: nothing is named.
    pub unaligned: bool,
}

/// What is said of each picture, in the order given, and by what.
#[derive(Debug)]
pub struct Identification {
    /// Path (or URL), or why it could not be read.
    pub images: Vec<(String, Result<Identified>)>,
    /// The gallery and how well it tells its own pictures apart; none where a classifier was asked.
    pub gallery: Option<(Gallery, Standing)>,
    /// Id of the model.
    pub model: String,
    /// What to keep in mind.
    pub notes: Vec<String>,
}

/// What says what pictures show.
#[derive(Debug, Clone, Copy)]
pub enum By<'a> {
    /// A folder with a folder of examples for each label.
    Gallery(&'a str),
    /// A classifier with labels of its own, and who names it.
    Classifier(&'a str, NamedBy),
}

impl<'a> By<'a> {
    /// From arguments of which one is given.
    ///
    /// # Errors
    /// [`Error::Argument`]: both are, or none.
    pub fn one_of(gallery: Option<&'a str>, classifier: Option<&'a str>, named: NamedBy) -> Result<Self> {
        match (gallery, classifier) {
            (Some(gallery), None) => Ok(Self::Gallery(gallery)),
            (None, Some(name)) => Ok(Self::Classifier(name, named)),
            _ => Err(Error::Argument {
                name: "gallery",
                reason: format!(
                    "or `classifier` has to be given, and not both: a folder of labelled examples, or a model with labels of its own, such as {}",
                    registry::classifiers().first().map_or("", |entry| entry.name)
                ),
            }),
        }
    }
}

impl Engine {
    /// Says what pictures show; at most `top` labels are told for each.
    ///
    /// # Errors
    /// No images, a number of labels out of range, a gallery that is no folder, is outside the roots, or has fewer than two labels;
    /// the model cannot be loaded; the caller cancelled. An unreadable image is an entry.
    pub fn identify(&self, images: &[String], by: By<'_>, top: usize, watch: &Watch<'_>) -> Result<Identification> {
        let refuse = |name, reason: &str| Err(Error::Argument { name, reason: reason.into() });
        if images.is_empty() {
            return refuse("images", "is empty: give at least one path");
        }
        if top == 0 || top > MOST_CANDIDATES {
            return refuse("top", "must be 1 to 20");
        }
        match by {
            By::Gallery(folder) => self.by_gallery(images, folder, top, watch),
            By::Classifier(name, named) => {
                let classifier = self.classifier(name, named, watch)?;
                let told = self.told(images, watch, |_, picture| closed::named(&classifier, picture, top))?;
                let (model, notes) = (classifier.id().to_owned(), closed::notes(&classifier));
                Ok(Identification { images: told, gallery: None, model, notes })
            }
        }
    }

    fn by_gallery(&self, images: &[String], folder: &str, top: usize, watch: &Watch<'_>) -> Result<Identification> {
        let folder = self.resolve(folder)?;
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
        if encoder.takes_aligned_faces() {
            notes.extend(FACES.map(str::to_owned));
        }
        notes.extend(gallery.notes());
        watch.check()?;
        let judge = Judge::of(&gallery);
        let standing = judge.standing();
        let told = self.told(images, watch, |path, picture| {
            let views = if encoder.takes_aligned_faces() { whole(&picture.rgb) } else { views(&picture.rgb) };
            let mut told = identify(encoder.as_ref(), &gallery, &judge, (path, &views), top)?;
            told.unaligned = encoder.takes_aligned_faces() && picture.rgb.width() != picture.rgb.height();
            told.unknown |= told.unaligned;
            Ok(told)
        })?;
        Ok(Identification { images: told, gallery: Some((gallery, standing)), model: encoder.id().to_owned(), notes })
    }

    /// What `of` says of each picture, which it is given with its path.
    fn told(
        &self,
        images: &[String],
        watch: &Watch<'_>,
        of: impl Fn(&str, &Picture) -> Result<Identified>,
    ) -> Result<Vec<(String, Result<Identified>)>> {
        let mut told = Vec::with_capacity(images.len());
        for image in images {
            watch.check()?;
            told.push(match self.read_image(image) {
                Ok((path, picture)) => {
                    let identified = of(&path, &picture)?;
                    (path, Ok(identified))
                }
                Err(error) => (image.clone(), Err(error)),
            });
        }
        Ok(told)
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
        Err(Error::NoIdentifier { easiest: EASIEST })
    }
}

/// Parameters of the `DINOv2` that is preferred.
const MIDDLE_MILLIONS: u32 = 87;
/// The one that is quickest to get.
const EASIEST: &str = "dinov2-small";

/// What everybody who compares faces has to know.
const FACES: [&str; 3] = [
    "faces are personal data: the people shown have to consent, and the law may ask for more; nobody is known here but whom this gallery names",
    "pictures have to be crops that are aligned to 112 x 112 pixels as the model was trained (eyes, nose and mouth at their places), those of the gallery too: of others the answer means nothing",
    "mind the checkpoint's licence: most of this kind are for non-commercial use only",
];

/// One picture in its views, with its path.
fn identify(
    embedder: &dyn ImageTextEmbedder,
    gallery: &Gallery,
    judge: &Judge,
    (path, views): (&str, &[(RgbImage, f32)]),
    top: usize,
) -> Result<Identified> {
    let own = gallery.content_of(path);
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
    Ok(Identified { candidates, unknown, own: own.is_some(), unaligned: false })
}
