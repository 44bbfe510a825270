//! `clip_search` and `search`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::engine::compose::Phrase;
use crate::engine::concepts::Concept;
use crate::engine::verified::{Effort, PASSES};
use crate::engine::{Engine, Watch, find};
use crate::error::{Error, Result};
use crate::index::Filter;
use crate::pixels;

/// Hits when the caller names no number.
const DEFAULT_TOP_K: u32 = 10;

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
    /// Check what CLIP cannot see with a detector; default true.
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
    /// It is more likely true than not.
    pub passed: bool,
    /// Probability that it holds; absent where nothing here can see it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probability: Option<f32>,
    /// What was seen, or why nothing was.
    pub seen: String,
}

/// A word and its part in a picture's vector.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct ConceptPart {
    /// The word.
    pub concept: String,
    /// Its weight in the mix.
    pub weight: f32,
    /// How near it is to the query, -1 to 1, less what all words have in common.
    pub fits: f32,
}

impl From<Concept> for ConceptPart {
    fn from(concept: Concept) -> Self {
        let rounded = |value: f32| (value * 1e3).round() / 1e3;
        Self { weight: rounded(concept.weight), fits: rounded(concept.fits), concept: concept.text }
    }
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
    /// What it is made of in the model's eyes; only on request.
    #[schemars(skip)]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub concepts: Vec<ConceptPart>,
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
    /// Every vector is compared, however many there are.
    pub exact: bool,
    /// How much is spent on checking.
    pub effort: Effort,
    /// Tell what each hit is made of.
    pub explain: bool,
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
        exact: filters.exact,
        explain: filters.explain,
        verify: (args.verify != Some(false)).then_some(filters.effort),
    };
    let found = engine.find(&request, watch)?;
    let mut concepts = found.concepts.into_iter();
    let phrases = found.phrases.iter().map(|phrases| phrases.iter().map(check).collect());
    let results = found.outcome.hits.into_iter().zip(phrases).map(|(hit, checks)| Hit {
        path: hit.file.path.display().to_string(),
        score: hit.score,
        relevance: hit.relevance,
        checks,
        concepts: concepts.next().unwrap_or_default().into_iter().map(ConceptPart::from).collect(),
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

/// What a check says of a hit.
fn check(phrase: &Phrase) -> Check {
    Check {
        what: phrase.text.clone(),
        passed: phrase.probability.is_some_and(|p| p >= PASSES),
        probability: phrase.probability.map(|p| (p * 1e3).round() / 1e3),
        seen: phrase.seen.clone(),
    }
}
