//! Request and response types that the MCP tools and `--json` share, and the one function per use case that turns the
//! former into the latter. Fields may be added, not renamed (design.md section 2).

mod explain;
mod route;

pub use explain::{
    Call, Checked, CitedFact, Counter, DiagnoseResponse, ExplainArgs, ExplainResponse, Instead, Shown, Verdict,
    diagnose, explain, known_tools, topic_name, topic_names,
};
pub mod detect;
pub mod identify;
pub mod relate;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

pub use self::detect::{DetectArgs, DetectResponse, DetectResult, detect};
use crate::engine::{Engine, Watch, find};
use crate::error::{Error, Result};
use crate::index::Filter;
use crate::index::calibration::{LabelScores, NONE_OF_THESE_CUTOFF};
use crate::pixels;

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

/// Arguments of `clip_search`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SearchArgs {
    /// What to look for, in plain words; or give image, or both.
    pub query: Option<String>,
    /// Path of an image: finds similar ones.
    pub image: Option<String>,
    /// What the hits should not look like.
    pub minus: Option<String>,
    /// Only images under this indexed folder.
    pub folder: Option<String>,
    /// Most hits to return, 1 to 200; default 10.
    #[schemars(range(min = 1, max = 200))]
    pub top_k: Option<u32>,
    /// Least relevance of a hit; default the calibrated cut-off, 0 for none.
    #[schemars(range(min = 0, max = 1))]
    pub min_relevance: Option<f32>,
    /// Check counts, relations and negation with a detector where one is loaded; default true.
    pub verify: Option<bool>,
    /// Return small previews; default false.
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
    /// Images that can be searched there.
    pub indexed: u64,
    /// Different pictures among them that pass the filters.
    pub considered: u64,
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

/// Filters that the command line adds to a search.
#[derive(Debug, Clone, Default)]
pub struct Filters {
    /// Taken (else modified) on or after this day, `YYYY-MM-DD`.
    pub after: Option<String>,
    /// Taken (else modified) before this day, `YYYY-MM-DD`.
    pub before: Option<String>,
    /// Least width, pixels.
    pub min_width: Option<u32>,
    /// Least height, pixels.
    pub min_height: Option<u32>,
    /// Smallest file, KiB.
    pub min_kib: Option<u64>,
    /// Largest file, KiB.
    pub max_kib: Option<u64>,
    /// Formats by name; empty for all.
    pub formats: Vec<String>,
    /// Every copy of near-duplicates is a hit of its own.
    pub all_duplicates: bool,
}

/// The catalogue's name of a format.
fn format_name(given: &str) -> Result<String> {
    let lower = given.trim().trim_start_matches('.').to_lowercase();
    let name = match lower.as_str() {
        "jpg" | "jfif" => "jpeg",
        "tif" => "tiff",
        "heif" => "heic",
        other => other,
    };
    if pixels::FORMATS.contains(&name) {
        return Ok(name.to_owned());
    }
    let reason = format!("must be one of {}, not `{given}`", pixels::FORMATS.join(", "));
    Err(Error::Argument { name: "format", reason })
}

impl Filters {
    fn resolve(&self) -> Result<Filter> {
        Ok(Filter {
            from: self.after.as_deref().map(|day| find::day("after", day)).transpose()?,
            until: self.before.as_deref().map(|day| find::day("before", day)).transpose()?,
            min_width: self.min_width,
            min_height: self.min_height,
            min_bytes: self.min_kib.map(|kib| kib.saturating_mul(1024)),
            max_bytes: self.max_kib.map(|kib| kib.saturating_mul(1024)),
            formats: self.formats.iter().map(|format| format_name(format)).collect::<Result<_>>()?,
            ..Filter::default()
        })
    }
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
/// Hits when the caller names no number.
const DEFAULT_TOP_K: u32 = 10;

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

/// Runs `clip_search`.
///
/// # Errors
/// As [`search_filtered`].
pub fn search(engine: &Engine, args: &SearchArgs, watch: &Watch<'_>) -> Result<SearchResponse> {
    search_filtered(engine, args, &Filters::default(), watch)
}

/// Runs `search` with the command line's filters.
///
/// # Errors
/// Nothing to look for, nothing indexed, an unreadable image or day, the model cannot be loaded.
pub fn search_filtered(
    engine: &Engine,
    args: &SearchArgs,
    filters: &Filters,
    watch: &Watch<'_>,
) -> Result<SearchResponse> {
    let request = find::Request {
        text: args.query.as_deref().map(str::trim).filter(|text| !text.is_empty()),
        image: args.image.as_deref(),
        minus: args.minus.as_deref().map(str::trim).filter(|text| !text.is_empty()),
        under: args.folder.as_deref(),
        top_k: args.top_k.unwrap_or(DEFAULT_TOP_K) as usize,
        min_relevance: args.min_relevance,
        filter: filters.resolve()?,
        group_duplicates: !filters.all_duplicates,
    };
    let found = engine.find(&request, watch)?;
    let results = found.outcome.hits.into_iter().map(|hit| Hit {
        path: hit.file.path.display().to_string(),
        score: hit.score,
        relevance: hit.relevance,
        checks: Vec::new(),
        width: hit.file.width,
        height: hit.file.height,
        duplicates: hit.duplicates.iter().map(|path| path.display().to_string()).collect(),
    });
    Ok(SearchResponse {
        query: found.query,
        advice: Advice {
            primary: found.task.name().to_owned(),
            clip_suitable: found.task.clip_suitable(),
            note: Some(found.notes.join(". ")).filter(|note| !note.is_empty()),
        },
        results: results.collect(),
        min_relevance: found.outcome.min_relevance,
        indexed: found.outcome.indexed,
        considered: found.outcome.considered,
        skipped: found.outcome.skipped,
        model: found.model,
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
