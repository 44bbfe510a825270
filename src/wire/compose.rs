//! `match_captions` and `match`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::detect::DetectedObject;
use crate::engine::compose::{Decider, Matched, Matching, Phrase};
use crate::engine::heatmap::HeatMap;
use crate::engine::{Engine, Watch};
use crate::error::{Error, Result};
use crate::geometry::XyxyPx;
use crate::knowledge::claims;
use crate::knowledge::phrase::Thing;
use crate::pixels::{self, Mark};

/// Arguments of `match_captions`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MatchArgs {
    /// Path of the image.
    #[schemars(length(min = 1))]
    pub image: String,
    /// 1 to 64 sentences, each of what the image may show.
    #[schemars(length(min = 1, max = 64))]
    pub captions: Vec<String>,
    /// Return the picture with the best caption's boxes.
    pub annotate: Option<bool>,
}

/// A claim of a caption.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct PhraseChecked {
    /// The claim: "2 x red car", "cup left of laptop", "no dog".
    pub text: String,
    /// `thing`, `number`, `absence`, `relation` or `action`.
    pub kind: String,
    /// `holds`, `fails`, `unsure`, or `unchecked`: nothing can see it.
    pub verdict: String,
    /// Probability that it holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probability: Option<f32>,
    /// What was seen, or why nothing was.
    pub seen: String,
    /// Best first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub boxes: Vec<DetectedObject>,
}

/// A caption, checked.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct CaptionScore {
    /// The caption.
    pub text: String,
    /// Probability that all that was checked is true, 0 to 1.
    pub score: f32,
    /// CLIP alone: cosine.
    pub clip_score: f32,
    /// CLIP alone: softmax.
    pub clip_share: f32,
    /// Of `--dcsm`, for comparing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dcsm_score: Option<f32>,
    /// Phrase by phrase.
    pub phrases: Vec<PhraseChecked>,
}

/// Which caption is true.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct MatchResult {
    /// Path of the image.
    pub path: String,
    /// In the order given.
    pub captions: Vec<CaptionScore>,
    /// The caption that fits best.
    pub best: String,
    /// Its position, from 0.
    pub best_index: usize,
    /// What CLIP alone would choose.
    pub clip_best_index: usize,
    /// `checks`; where they tie, `dcsm` or `clip`.
    pub decided_by: String,
    /// What to keep in mind.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// The image-text model.
    pub model: String,
    /// The detector; absent where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detector: Option<String>,
    /// Where the annotated picture was written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub annotated: Option<String>,
    /// Where the maps of the phrases were written.
    #[schemars(skip)]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub heatmaps: Vec<String>,
}

/// Runs `match_captions` / `match`.
///
/// # Errors
/// No captions or an empty one; the image cannot be read; a model cannot be loaded.
pub fn match_captions(engine: &Engine, args: &MatchArgs, watch: &Watch<'_>) -> Result<MatchResult> {
    if args.image.trim().is_empty() {
        return Err(Error::Argument { name: "image", reason: "is empty: give a path".into() });
    }
    let matching = engine.match_captions(&args.image, &args.captions, watch)?;
    Ok(result(&matching))
}

fn result(matching: &Matching) -> MatchResult {
    let captions: Vec<CaptionScore> = matching.captions.iter().map(|one| caption(one, &matching.labels)).collect();
    MatchResult {
        path: matching.name.clone(),
        best: captions.get(matching.best).map(|one| one.text.clone()).unwrap_or_default(),
        best_index: matching.best,
        clip_best_index: matching.clip_best,
        decided_by: match matching.decided_by {
            Decider::Checks => "checks",
            Decider::Dcsm => "dcsm",
            Decider::Clip => "clip",
        }
        .to_owned(),
        notes: notes(matching),
        model: matching.model.clone(),
        detector: matching.detector.clone(),
        annotated: None,
        heatmaps: Vec::new(),
        captions,
    }
}

fn caption(matched: &Matched, labels: &[String]) -> CaptionScore {
    CaptionScore {
        text: matched.text.clone(),
        score: rounded(matched.score),
        clip_score: (matched.clip_score * 1e4).round() / 1e4,
        clip_share: rounded(matched.clip_share),
        dcsm_score: matched.dense_score.map(|score| (score * 1e3).round() / 1e3),
        phrases: matched.phrases.iter().map(|phrase| phrase_checked(phrase, labels)).collect(),
    }
}

/// A claim as the tools tell it; `labels`: of the detector.
pub(super) fn phrase_checked(phrase: &Phrase, labels: &[String]) -> PhraseChecked {
    let object = |one: &crate::models::Detection| DetectedObject {
        label: labels.get(one.class).cloned().unwrap_or_default(),
        score: (one.score * 1e4).round() / 1e4,
        bounds: one.bounds.to_array(),
    };
    PhraseChecked {
        text: phrase.text.clone(),
        kind: phrase.kind.to_owned(),
        verdict: phrase.verdict.name().to_owned(),
        probability: phrase.probability.map(rounded),
        seen: phrase.seen.clone(),
        boxes: phrase.boxes.iter().map(object).collect(),
    }
}

fn notes(matching: &Matching) -> Vec<String> {
    let mut notes = Vec::new();
    if let Some(why) = &matching.without {
        notes.push(format!("nothing was checked with a detector: {why}"));
    }
    if let Some((network, encoder)) = &matching.dense {
        notes.push(format!("dcsm_score: {network} on the tokens of {encoder}"));
    }
    if matching.decided_by == Decider::Clip {
        notes.push("the checks do not tell the best captions apart: CLIP chose, which sees words rather than who has or does what".into());
    }
    let best = matching.captions.get(matching.best);
    let doubtful =
        best.filter(|best| best.score < 0.5 && best.phrases.iter().any(|phrase| phrase.probability.is_some()));
    if doubtful.is_some() {
        notes.push("no caption is likely to be wholly true: see which phrases fail".into());
    }
    if let Some(read) = matching.captions.iter().find(|one| one.phrases.is_empty()) {
        notes.push(format!(
            "nothing to check was read in `{}`: name things, numbers and places in plain English",
            read.text
        ));
    }
    notes
}

fn rounded(probability: f32) -> f32 {
    (probability * 1e3).round() / 1e3
}

/// The picture with the boxes of the best caption's phrases; `max_side` bounds its longer side.
///
/// # Errors
/// The image cannot be read any more.
pub fn annotated(engine: &Engine, result: &MatchResult, max_side: Option<u32>) -> Result<image::RgbImage> {
    let (_, picture) = engine.read_image(&result.path)?;
    let mut marks: Vec<Mark> = Vec::new();
    let phrases = result.captions.get(result.best_index).map(|best| best.phrases.as_slice()).unwrap_or_default();
    // A relation's boxes are those of its things.
    for (kind, phrase) in phrases.iter().filter(|phrase| phrase.kind != "relation").enumerate() {
        for one in &phrase.boxes {
            let [x0, y0, x1, y1] = one.bounds;
            let label = format!("{} {:.2}", phrase.text, phrase.probability.unwrap_or_default());
            marks.push(Mark { bounds: XyxyPx { x0, y0, x1, y1 }, label, kind });
        }
    }
    Ok(pixels::annotate(&picture.rgb, &marks, max_side))
}

/// Where CLIP sees the things that the captions name, each once; and the part of the picture that it looks at.
///
/// # Errors
/// No caption names a thing; the model has no dense features; the image cannot be read any more; the caller cancelled.
pub fn heat_maps(engine: &Engine, result: &MatchResult, watch: &Watch<'_>) -> Result<(image::RgbImage, Vec<HeatMap>)> {
    let mut things: Vec<String> = Vec::new();
    for caption in &result.captions {
        for words in claims::read(&caption.text).things.iter().map(Thing::words) {
            if !things.contains(&words) {
                things.push(words);
            }
        }
    }
    let encoder = engine.encoder(&result.model, watch)?;
    engine.heat_maps(&result.path, &things, &encoder, watch)
}

/// As [`annotated`], as a JPEG.
///
/// # Errors
/// As [`annotated`].
pub fn annotated_jpeg(engine: &Engine, result: &MatchResult, max_side: u32) -> Result<Vec<u8>> {
    pixels::thumbnail_jpeg(&annotated(engine, result, Some(max_side))?, max_side)
}

/// The best caption is more likely true than not, as far as it was checked.
pub fn is_found(result: &MatchResult) -> bool {
    result
        .captions
        .get(result.best_index)
        .is_some_and(|best| best.score >= 0.5 && best.phrases.iter().any(|phrase| phrase.probability.is_some()))
}
