//! `explain_limitation`, `explain` and `diagnose`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::compose::{PhraseChecked, phrase_checked};
use super::round;
use crate::engine::diagnose::Diagnosis;
use crate::engine::explain::{Asked, Demonstration, Explanation};
use crate::engine::sight::NOISE_SIGMA;
use crate::engine::{Engine, Watch};
use crate::error::Result;
use crate::knowledge::sources::Source;
use crate::knowledge::topics::{Example, Topic};

/// Arguments of `explain_limitation`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExplainArgs {
    /// counting, `fine_grained`, spatial, compositional, negation, `text_reading`, calibration, `domain_shift` or strengths.
    pub topic: Option<String>,
    /// Or a request that tells it.
    pub query: Option<String>,
    /// Path of an image to show it on; best with query.
    pub image: Option<String>,
}

/// A fact with its source.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct CitedFact {
    /// The fact, its numbers in it.
    pub fact: String,
    /// Authors, year, place.
    pub source: String,
}

/// What to use instead.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Instead {
    /// A tool of this server, or another system.
    pub name: String,
    /// `runs_here`, `needs_file` (a download) or `pointer` (another program).
    pub status: String,
    /// What it does about the limit.
    pub does: String,
    /// The file or repository to get.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Where to read about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
}

/// A call and what comes of it.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Call {
    /// As an agent would write it.
    pub call: String,
    /// What comes of it.
    pub outcome: String,
}

impl From<Example> for Call {
    fn from(example: Example) -> Self {
        Self { call: example.call.to_owned(), outcome: example.outcome.to_owned() }
    }
}

/// A changed request on the image.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Counter {
    /// What was changed.
    pub change: String,
    /// The changed request.
    pub text: String,
    /// Its cosine with the image.
    pub cosine: f32,
    /// Cosine of the request less this one.
    pub margin: f32,
    /// The same in standard deviations over the neutral texts.
    pub margin_sigma: f32,
    /// Cosine of the two texts.
    pub text_cosine: f32,
    /// `noise`, `prefers_request` or `prefers_counterfactual`.
    pub reading: String,
}

/// The request and its counterfactuals, scored on an image.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Shown {
    /// Path of the image.
    pub image: String,
    /// Model id.
    pub model: String,
    /// The request as a statement.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub statement: Option<String>,
    /// Its cosine with the image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cosine: Option<f32>,
    /// Standard deviations above neutral texts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sigma: Option<f32>,
    /// Changed requests.
    pub counterfactuals: Vec<Counter>,
    /// Neutral texts, and one sigma: the spread of their cosines.
    pub neutral_texts: usize,
    /// One sigma, as a cosine.
    pub spread: f32,
    /// Margins below this many sigma are noise.
    pub noise_sigma: f32,
    /// What the model sees: the neutral texts that fit best.
    pub sees: Vec<String>,
    /// What the image is made of: words with their weights, and how near each is to the request.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub made_of: Vec<String>,
    /// Why there are no counterfactuals.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Checked {
    /// task, index, match, detail or domain.
    pub check: String,
    /// Nothing stands in the way; null when it cannot be judged.
    pub ok: Option<bool>,
    /// What was found.
    pub says: String,
}

/// Why a search does or does not find an image.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Verdict {
    /// `task_not_for_clip`, `index_stale`, `good_match`, `query_too_specific`, `domain_far`, `weak_match` or `no_match`.
    pub verdict: String,
    /// Calibrated relevance, 0 to 1.
    pub relevance: f32,
    /// The numbers behind it.
    pub evidence: Vec<Checked>,
    /// What to do.
    pub next: String,
    /// What the request claims, and what each tool sees of it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub phrases: Vec<PhraseChecked>,
}

/// Any object: the definitions of all tools share a budget of tokens, and most clients never show this part of them.
type Object = serde_json::Map<String, serde_json::Value>;

/// What `explain_limitation` answers.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct ExplainResponse {
    /// The topic.
    pub topic: String,
    /// The request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub query: Option<String>,
    /// CLIP can do it.
    pub clip_suitable: bool,
    /// In one line.
    pub title: String,
    /// What fails, or works.
    pub what: String,
    /// The mechanism.
    pub why: String,
    /// Signs of it in a request.
    pub cues: Vec<String>,
    /// Published and measured numbers.
    pub facts: Vec<CitedFact>,
    /// What to use, the best first.
    #[schemars(with = "Vec<Object>")]
    pub instead: Vec<Instead>,
    /// What people try.
    #[schemars(with = "Object")]
    pub wrong: Call,
    /// What to do.
    #[schemars(with = "Object")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub right: Option<Call>,
    /// It, shown on the image.
    #[schemars(with = "Object")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shown: Option<Shown>,
    /// What stands between image and request.
    #[schemars(with = "Object")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub diagnosis: Option<Verdict>,
}

/// What `diagnose` prints.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct DiagnoseResponse {
    /// Path of the image.
    pub image: String,
    /// The request.
    pub query: String,
    /// The verdict, its numbers and the next step.
    #[serde(flatten)]
    pub diagnosis: Verdict,
}

/// Runs `explain_limitation` / `explain`.
///
/// # Errors
/// Neither topic nor query, an unknown topic; the image cannot be read, the model cannot be loaded.
pub fn explain(engine: &Engine, args: &ExplainArgs, watch: &Watch<'_>) -> Result<ExplainResponse> {
    let given = |text: &Option<String>| text.clone().filter(|text| !text.trim().is_empty());
    let (topic, query, image) = (given(&args.topic), given(&args.query), given(&args.image));
    let asked = Asked { topic: topic.as_deref(), query: query.as_deref(), image: image.as_deref() };
    Ok(response(engine.explain(asked, watch)?))
}

/// Runs `diagnose`.
///
/// # Errors
/// The image cannot be read, the model cannot be loaded, the index cannot be read.
pub fn diagnose(engine: &Engine, image: &str, query: &str, watch: &Watch<'_>) -> Result<DiagnoseResponse> {
    let (path, diagnosis) = engine.diagnose(image, query, watch)?;
    Ok(DiagnoseResponse { image: path, query: query.to_owned(), diagnosis: diagnosis.into() })
}

/// A topic's own name, from it or another name of it.
///
/// # Errors
/// No topic has this name.
pub fn topic_name(name: &str) -> Result<&'static str> {
    Topic::parse(name).map(Topic::name)
}

/// Names of the topics that begin with what is typed.
pub fn topic_names(typed: &str) -> Vec<String> {
    let typed = typed.to_lowercase();
    let names = crate::knowledge::topics::TOPICS.iter().map(|topic| topic.name());
    names.filter(|name| name.starts_with(&typed)).map(str::to_owned).collect()
}

/// The tools that advice may name; a test of the server holds its own list against it.
pub fn known_tools() -> Vec<&'static str> {
    crate::knowledge::tools::PRESENT.to_vec()
}

fn response(explanation: Explanation) -> ExplainResponse {
    let topic: Topic = explanation.topic;
    let article = topic.article();
    let filled = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    let instead = article.instead().map(|(system, status)| Instead {
        name: system.name.to_owned(),
        status: status.name().to_owned(),
        does: system.does.to_owned(),
        file: filled(system.file),
        source: system.source.map(Source::short),
    });
    ExplainResponse {
        topic: topic.name().to_owned(),
        query: explanation.query,
        clip_suitable: topic.clip_suitable(),
        title: article.title.to_owned(),
        what: article.what.to_owned(),
        why: article.why.to_owned(),
        cues: article.cues.iter().map(|cue| (*cue).to_owned()).collect(),
        facts: article
            .facts()
            .map(|fact| CitedFact { fact: fact.statement.to_owned(), source: fact.source.short() })
            .collect(),
        instead: instead.collect(),
        wrong: article.wrong.into(),
        right: article.right().map(Call::from),
        shown: explanation.demonstration.map(Shown::from),
        diagnosis: explanation.diagnosis.map(Verdict::from),
    }
}

impl From<Demonstration> for Shown {
    fn from(shown: Demonstration) -> Self {
        let counterfactuals = shown.counterfactuals.into_iter().map(|other| Counter {
            change: other.change.name().to_owned(),
            text: other.scored.text,
            cosine: digits(other.scored.cosine),
            margin: digits(other.margin),
            margin_sigma: hundredths(other.margin_sigma),
            text_cosine: digits(other.alike),
            reading: other.reading.name().to_owned(),
        });
        Self {
            image: shown.image,
            model: shown.model,
            cosine: shown.statement.as_ref().map(|scored| digits(scored.cosine)),
            sigma: shown.statement.as_ref().map(|scored| hundredths(scored.sigma)),
            statement: shown.statement.map(|scored| scored.text),
            counterfactuals: counterfactuals.collect(),
            neutral_texts: shown.neutral_texts,
            spread: digits(shown.spread),
            noise_sigma: hundredths(NOISE_SIGMA),
            sees: shown.nearest.into_iter().map(|(text, sigma)| format!("{text} ({sigma:+.1} sigma)")).collect(),
            made_of: shown
                .concepts
                .iter()
                .map(|one| format!("{} {:.2} ({:+.2})", one.text, one.weight, one.fits))
                .collect(),
            note: shown.why_none,
        }
    }
}

impl From<Diagnosis> for Verdict {
    fn from(diagnosis: Diagnosis) -> Self {
        let evidence = diagnosis.evidence.into_iter().map(|evidence| Checked {
            check: evidence.check.to_owned(),
            ok: evidence.ok,
            says: evidence.says,
        });
        Self {
            verdict: diagnosis.verdict.name().to_owned(),
            relevance: hundredths(diagnosis.relevance),
            evidence: evidence.collect(),
            next: diagnosis.next,
            phrases: diagnosis.phrases.iter().map(|phrase| phrase_checked(phrase, &diagnosis.labels)).collect(),
        }
    }
}

/// A cosine's digits that mean something.
fn digits(value: f32) -> f32 {
    (value * 1e4).round() / 1e4
}

fn hundredths(value: f32) -> f32 {
    round(f64::from(value)) as f32
}
