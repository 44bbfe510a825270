//! Request and response types that the MCP tools and `--json` share, and the one function per use case that turns the
//! former into the latter. Fields may be added, not renamed (design.md section 2).

mod explain;
mod route;

pub use explain::{
    Call, Checked, CitedFact, Counter, DiagnoseResponse, ExplainArgs, ExplainResponse, Instead, Shown, Verdict,
    diagnose, explain, known_tools, topic_name, topic_names,
};
pub mod compose;
pub mod detect;
pub mod identify;
pub mod relate;
pub mod search;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

pub use self::detect::{DetectArgs, DetectResponse, DetectResult, detect};
pub use self::search::{Advice, Check, Filters, Hit, SearchArgs, SearchResponse, search, search_filtered};
use crate::engine::{Engine, Watch};
use crate::error::Result;
use crate::index::calibration::{LabelScores, NONE_OF_THESE_CUTOFF};

pub use route::{
    Extracted, NamedRelation, NamedThing, NextCall, RouteArgs, RouteResponse, Span, Step, TaskScore, route,
};

/// Arguments of `index_folder`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IndexArgs {
    /// A folder inside the allowed roots; with subfolders.
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
    /// Something to know although the run went on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
    /// Model id.
    pub model: String,
    /// Model revision.
    pub revision: String,
    /// Precision of the vectors.
    pub precision: String,
    /// `cpu`, `cuda` or `metal`.
    pub device: String,
}

/// Arguments of `classify_image`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClassifyArgs {
    /// Paths of the images, 1 to 64.
    #[schemars(length(min = 1, max = 64))]
    pub images: Vec<String>,
    /// 1 to 1000 labels: plain nouns or short phrases.
    #[schemars(length(min = 1, max = 1000))]
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
}

/// A text or an image as a vector.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct EmbedResult {
    /// `text` or `image`.
    pub kind: &'static str,
    /// The text, or the image's path.
    pub input: String,
    /// Model id.
    pub model: String,
    /// Length of the vector.
    pub dim: usize,
    /// Unit length.
    pub vector: Vec<f32>,
}

/// Skipped files that an answer lists.
const SKIPPED_LISTED: usize = 20;
/// Runs `index_folder` / `index`.
///
/// # Errors
/// The folder is missing or outside the roots, the model cannot be loaded, the catalogue cannot be written.
pub fn index(engine: &Engine, args: &IndexArgs, watch: &Watch<'_>) -> Result<IndexResponse> {
    let (report, encoder) = engine.index_folder(&args.folder, watch)?;
    let examples = report.skipped_files.into_iter().take(SKIPPED_LISTED);
    Ok(IndexResponse {
        folder: report.folder.display().to_string(),
        found: report.found,
        added: report.added,
        updated: report.updated,
        moved: report.moved,
        unchanged: report.unchanged,
        removed: report.removed,
        skipped: report.skipped,
        skipped_examples: examples
            .map(|(path, reason)| SkippedImage { path: path.display().to_string(), reason })
            .collect(),
        seconds: round(report.seconds),
        images_per_second: round(report.images_per_second),
        cancelled: report.cancelled,
        warning: report.warning,
        model: encoder.id().to_owned(),
        revision: encoder.revision().to_owned(),
        precision: encoder.backend().precision.to_owned(),
        device: encoder.backend().device_name().to_owned(),
    })
}

/// Runs `classify_image`.
///
/// # Errors
/// As [`classify_with`].
pub fn classify(engine: &Engine, args: &ClassifyArgs, watch: &Watch<'_>) -> Result<ClassifyResponse> {
    classify_with(engine, args, &[], watch)
}

/// Runs `classify` with prompts of the caller's own; none for the default ones.
///
/// # Errors
/// No labels, no images, the model cannot be loaded; an unreadable image is an entry with its error.
pub fn classify_with(
    engine: &Engine,
    args: &ClassifyArgs,
    templates: &[String],
    watch: &Watch<'_>,
) -> Result<ClassifyResponse> {
    let classified = engine.classify(&args.images, &args.labels, templates, watch)?;
    let labels = &classified.labels;
    let images = classified
        .images
        .into_iter()
        .map(|(path, outcome)| match outcome {
            Ok(scores) => classify_result(path, labels, &scores),
            Err(error) => ClassifyResult {
                path,
                scores: Vec::new(),
                best: None,
                none_of_these: 0.0,
                error: Some(error.to_string()),
            },
        })
        .collect();
    Ok(ClassifyResponse { images, model: classified.encoder.id().to_owned() })
}

fn classify_result(path: String, labels: &[String], scores: &LabelScores) -> ClassifyResult {
    let none_of_these = scores.none_of_these.unwrap_or(0.0);
    let best = scores.best.filter(|_| none_of_these < NONE_OF_THESE_CUTOFF).and_then(|at| labels.get(at)).cloned();
    let mut ranked: Vec<LabelScore> = labels
        .iter()
        .zip(&scores.probabilities)
        .map(|(label, probability)| LabelScore { label: label.clone(), probability: *probability })
        .collect();
    ranked.sort_by(|a, b| b.probability.total_cmp(&a.probability));
    ClassifyResult { path, scores: ranked, best, none_of_these, error: None }
}

/// Runs `embed`: texts first, then images.
///
/// # Errors
/// An image cannot be read; the model cannot be loaded.
pub fn embed(engine: &Engine, texts: &[String], images: &[String], watch: &Watch<'_>) -> Result<Vec<EmbedResult>> {
    let encoder = engine.encoder(&engine.model_name()?, watch)?;
    let result = |kind, input: String, vector: Vec<f32>| EmbedResult {
        kind,
        input,
        model: encoder.id().to_owned(),
        dim: vector.len(),
        vector,
    };
    let mut results: Vec<EmbedResult> = Vec::with_capacity(texts.len() + images.len());
    let vectors = encoder.encode_texts(texts)?;
    results.extend(texts.iter().zip(vectors).map(|(text, vector)| result("text", text.clone(), vector)));
    for image in images {
        watch.check()?;
        let (path, picture) = engine.read_image(image)?;
        let vectors = encoder.encode_images(&[encoder.preprocessor().apply(&picture.rgb)])?;
        results.extend(vectors.into_iter().map(|vector| result("image", path.clone(), vector)));
    }
    Ok(results)
}

/// Hundredths are enough for people and agents.
fn round(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

/// The index status: folders, coverage, vector sets.
///
/// # Errors
/// The catalogue cannot be read.
pub fn index_status(engine: &Engine) -> Result<serde_json::Value> {
    let status = engine.catalogue()?.status()?;
    let model_of = |id: &i64| status.sets.iter().find(|set| set.id == *id).map(|set| set.key.model.clone());
    let folders: Vec<serde_json::Value> = status
        .folders
        .iter()
        .filter(|folder| engine.shows(&folder.path))
        .map(|folder| {
            let coverage: Vec<serde_json::Value> = folder
                .coverage
                .iter()
                .map(|(set, coverage)| {
                    let reasons = coverage.reasons.iter().take(SKIPPED_LISTED).map(|(path, reason)| SkippedImage {
                        path: path.display().to_string(),
                        reason: reason.clone(),
                    });
                    json!({
                        "set": set, "model": model_of(set), "files": coverage.files, "indexed": coverage.indexed,
                        "waiting": coverage.waiting, "skipped": coverage.refused,
                        "skipped_examples": reasons.collect::<Vec<_>>(),
                    })
                })
                .collect();
            json!({
                "path": folder.path, "available": folder.available, "coverage": coverage,
                "last_run": folder.last_run.map(|run| json!({
                    "at": run.at, "seconds": round(run.seconds), "found": run.found, "complete": run.complete,
                })),
            })
        })
        .collect();
    let sets: Vec<serde_json::Value> = status
        .sets
        .iter()
        .map(|set| {
            json!({
                "id": set.id, "model": set.key.model, "revision": set.key.revision, "precision": set.key.precision,
                "dim": set.key.dim, "vectors": set.vectors,
            })
        })
        .collect();
    Ok(json!({"catalogue": status.file, "bytes": status.bytes, "folders": folders, "sets": sets}))
}
