//! `identify_image` and `identify`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::engine::classifiers::NamedBy;
pub use crate::engine::identify::By;
use crate::engine::identify::{self, Identification, Identified};
use crate::engine::{Engine, Watch};
use crate::error::Result;

/// Labels that are told when the caller names no number.
pub const DEFAULT_TOP: usize = 5;

/// Arguments of `identify_image`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IdentifyArgs {
    /// Path of the image.
    #[schemars(length(min = 1))]
    pub image: String,
    /// A folder with a subfolder of example images for each label, named like it.
    #[schemars(length(min = 1))]
    pub gallery: Option<String>,
    /// Instead of a gallery: a classifier with its own labels (`resnet-50`, a hub id, a folder), fetched before.
    #[schemars(length(min = 1))]
    pub classifier: Option<String>,
}

/// An example that looks alike.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct NearestExample {
    /// Path of the example.
    pub path: String,
    /// Cosine with the image; comparable only within one model.
    pub similarity: f32,
}

/// A label of the gallery, or of the classifier.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct IdentityCandidate {
    /// Name of the folder, or the classifier's.
    pub label: String,
    /// Probability that it is the right one, 0 to 1, where an image is as often of a label of the gallery as of none; a
    /// classifier's adds up to 1 over its labels.
    pub confidence: f32,
    /// Its most similar examples.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nearest: Vec<NearestExample>,
}

/// What was compared with, and what it can tell apart.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct GallerySummary {
    /// The folder.
    pub path: String,
    /// Number of labels.
    pub labels: usize,
    /// Number of pictures.
    pub pictures: usize,
    /// Share of its own pictures that get their label when they are left out; absent where no label has two.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recognised: Option<f32>,
    /// Share of its own pictures that get a wrong label, rather than "unknown", when their label is left out.
    pub strangers_named: f32,
}

/// Which label an image belongs to.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct IdentifyResult {
    /// Path of the image.
    pub path: String,
    /// The most probable labels, best first.
    pub candidates: Vec<IdentityCandidate>,
    /// None of them is probable enough to be named; never so of a classifier.
    pub unknown: bool,
    /// In a sentence.
    pub answer: String,
    /// The gallery, where one was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gallery: Option<GallerySummary>,
    /// What to keep in mind.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// Model id.
    pub model: String,
    /// Why the image could not be compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Runs `identify_image`.
///
/// # Errors
/// Not one of gallery and classifier; the image or the gallery cannot be read, the gallery has fewer than two labels, the model
/// cannot be loaded.
pub fn identify(engine: &Engine, args: &IdentifyArgs, watch: &Watch<'_>) -> Result<IdentifyResult> {
    let images = [args.image.clone()];
    let by = By::one_of(args.gallery.as_deref(), args.classifier.as_deref(), NamedBy::Agent)?;
    let mut done = engine.identify(&images, by, DEFAULT_TOP, watch)?;
    match done.images.pop() {
        Some((path, Ok(identified))) => Ok(result(&done, path, &identified)),
        Some((_, Err(error))) => Err(error),
        // As many come out as went in.
        None => Ok(failed(&done, args.image.clone(), None)),
    }
}

/// Runs `identify` over several images, with at most `top` labels for each.
///
/// # Errors
/// As [`identify()`]; an unreadable image is an entry with its error.
pub fn identify_all(
    engine: &Engine,
    images: &[String],
    by: By<'_>,
    top: usize,
    watch: &Watch<'_>,
) -> Result<Vec<IdentifyResult>> {
    let mut done = engine.identify(images, by, top, watch)?;
    let told = std::mem::take(&mut done.images).into_iter();
    let results = told.map(|(path, outcome)| match outcome {
        Ok(identified) => result(&done, path, &identified),
        Err(error) => failed(&done, path, Some(error.to_string())),
    });
    Ok(results.collect())
}

fn result(done: &Identification, path: String, identified: &Identified) -> IdentifyResult {
    let candidates = identified.candidates.iter().map(|candidate| IdentityCandidate {
        label: candidate.label.clone(),
        confidence: candidate.confidence,
        nearest: candidate
            .nearest
            .iter()
            .map(|(path, similarity)| NearestExample { path: path.display().to_string(), similarity: *similarity })
            .collect(),
    });
    let mut notes = done.notes.clone();
    if identified.own {
        notes.push("the image is one of the gallery's: it was not compared with itself".to_owned());
    }
    if identified.unaligned {
        notes.push("the image is not square, so it is no aligned crop: nobody is named".to_owned());
    }
    IdentifyResult {
        candidates: candidates.collect(),
        unknown: identified.unknown,
        answer: answer(identified),
        notes,
        ..failed(done, path, None)
    }
}

fn failed(done: &Identification, path: String, error: Option<String>) -> IdentifyResult {
    IdentifyResult {
        path,
        candidates: Vec::new(),
        unknown: true,
        answer: "cannot be compared".to_owned(),
        gallery: done.gallery.as_ref().map(|(gallery, standing)| GallerySummary {
            path: gallery.folder().display().to_string(),
            labels: gallery.labels().len(),
            pictures: gallery.examples().len(),
            recognised: standing.recognised,
            strangers_named: standing.strangers_named,
        }),
        notes: done.notes.clone(),
        model: done.model.clone(),
        error,
    }
}

/// `cat (0.97)`, or `unknown; nearest: cat (0.21)`.
fn answer(identified: &Identified) -> String {
    let Some(best) = identified.candidates.first() else { return "unknown: nothing to compare with".to_owned() };
    let named = format!("{} ({:.2})", best.label, best.confidence);
    if identified.unaligned {
        "unknown: no aligned crop".to_owned()
    } else if identified.unknown {
        format!("unknown: no label reaches {}; nearest: {named}", identify::NAMED_FROM)
    } else {
        named
    }
}
