//! Request and response types that the MCP tools and `--json` share, and the one function per use case that turns the
//! former into the latter. Fields may be added, not renamed (design.md section 2).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::engine::{Engine, Watch};
use crate::error::Result;

/// Arguments of `index_folder`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IndexArgs {
    /// Folder to index, inside the allowed roots; subfolders are included.
    pub folder: String,
}

/// An image that was passed over, and why.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct SkippedImage {
    /// Its path.
    pub path: String,
    /// Why it has no vector.
    pub reason: String,
}

/// What an index run did.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct IndexResponse {
    /// The folder.
    pub folder: String,
    /// Images found.
    pub found: u64,
    /// New images embedded.
    pub added: u64,
    /// Changed images embedded again.
    pub updated: u64,
    /// Moved or copied images; no embedding was needed.
    pub moved: u64,
    /// Unchanged images.
    pub unchanged: u64,
    /// Rows removed because their file is gone.
    pub removed: u64,
    /// Files without a vector, of this run and earlier ones.
    pub skipped: u64,
    /// The first of them, with reasons.
    pub skipped_examples: Vec<SkippedImage>,
    /// Wall time in seconds.
    pub seconds: f64,
    /// Embedded images per second.
    pub images_per_second: f64,
    /// The caller cancelled; what was done is kept.
    pub cancelled: bool,
    /// Model id.
    pub model: String,
    /// Model revision.
    pub revision: String,
    /// Precision of the vectors.
    pub precision: String,
    /// `cpu`, `cuda` or `metal`.
    pub device: String,
}

/// Arguments of `clip_search`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SearchArgs {
    /// What to look for, in plain words. Give this, or image, or both.
    pub query: Option<String>,
    /// Path of an image to find similar ones to.
    pub image: Option<String>,
    /// What the hits should not look like.
    pub minus: Option<String>,
    /// Only images under this indexed folder.
    pub folder: Option<String>,
    /// Most hits to return, 1 to 200; default 10.
    pub top_k: Option<u32>,
    /// Drop hits below this relevance, 0 to 1; default is the calibrated cut-off, 0 returns the top_k whatever they are.
    pub min_relevance: Option<f32>,
    /// Check counts, relations and negation with a detector where one is loaded; default true.
    pub verify: Option<bool>,
    /// Return small JPEG previews of the hits; default false.
    pub thumbnails: Option<bool>,
}

/// Whether CLIP is the right tool for the request.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Advice {
    /// The task that the request is.
    pub primary: String,
    /// CLIP can do it.
    pub clip_suitable: bool,
    /// What to know or do instead; absent when there is nothing to say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// One check that a hit passed or failed.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Check {
    /// What was checked.
    pub what: String,
    /// It holds.
    pub passed: bool,
}

/// One hit.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Hit {
    /// Path of the image.
    pub path: String,
    /// Cosine of image and query; comparable only within one model and query.
    pub score: f32,
    /// Calibrated relevance, 0 to 1.
    pub relevance: f32,
    /// Verification of what CLIP cannot see.
    pub checks: Vec<Check>,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Other files with the same or nearly the same picture.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub duplicates: Vec<String>,
}

/// What a search found.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct SearchResponse {
    /// The query text, or the image's path when there was no text.
    pub query: String,
    /// Whether CLIP is the right tool for it.
    pub advice: Advice,
    /// Hits, best first.
    pub results: Vec<Hit>,
    /// The relevance cut-off that was applied.
    pub min_relevance: f32,
    /// Images that were searched.
    pub indexed: u64,
    /// Files there without a vector.
    pub skipped: u64,
    /// Model id.
    pub model: String,
}

/// Arguments of `classify_image`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClassifyArgs {
    /// Paths of the images, 1 to 64.
    pub images: Vec<String>,
    /// The candidate labels, 1 to 1000, as plain nouns or short phrases.
    pub labels: Vec<String>,
}

/// A label and how probable it is.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct LabelScore {
    /// The label.
    pub label: String,
    /// Probability, 0 to 1.
    pub probability: f32,
}

/// The classification of one image.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct ClassifyResult {
    /// Path of the image.
    pub path: String,
    /// All labels, most probable first.
    pub scores: Vec<LabelScore>,
    /// The most probable label; null when none of them fits.
    pub best: Option<String>,
    /// Probability that none of the labels fits.
    pub none_of_these: f32,
    /// Why the image could not be classified.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// What `classify_image` answers.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct ClassifyResponse {
    /// One entry per image, in the order given.
    pub images: Vec<ClassifyResult>,
    /// Model id.
    pub model: String,
    /// Whether CLIP is the right tool for telling these labels apart.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<Advice>,
}

/// Runs `index_folder` / `index`.
///
/// # Errors
/// The folder is missing or outside the roots, the model cannot be loaded, the catalogue cannot be written.
pub fn index(_engine: &Engine, _args: &IndexArgs, _watch: &Watch<'_>) -> Result<IndexResponse> {
    unimplemented!()
}

/// Runs `clip_search` / `search`.
///
/// # Errors
/// Nothing to look for, nothing indexed, an unreadable image, the model cannot be loaded.
pub fn search(_engine: &Engine, _args: &SearchArgs, _watch: &Watch<'_>) -> Result<SearchResponse> {
    unimplemented!()
}

/// Runs `classify_image` / `classify`.
///
/// # Errors
/// No labels, no images, the model cannot be loaded; an unreadable image is an entry with its error.
pub fn classify(_engine: &Engine, _args: &ClassifyArgs, _watch: &Watch<'_>) -> Result<ClassifyResponse> {
    unimplemented!()
}

/// The index status resource.
///
/// # Errors
/// The catalogue cannot be read.
pub fn index_status(_engine: &Engine) -> Result<serde_json::Value> {
    unimplemented!()
}
