//! Why CLIP fails at a request, shown on the caller's own image: the request against its counterfactuals.

use super::concepts::Concept;
use super::diagnose::Diagnosis;
use super::encoders::bad_argument;
use super::sight::{NOISE_SIGMA, Scored, Sight, set_of};
use super::{Engine, Watch};
use crate::error::Result;
use crate::index::calibration::dot;
use crate::knowledge::claims;
use crate::knowledge::counterfactual::{self, Change};
use crate::knowledge::phrase::Thing;
use crate::knowledge::topics::Topic;

/// Neutral texts that are shown for what the model sees in an image.
const NEAREST: usize = 3;

/// What a caller asks for.
#[derive(Debug, Clone, Copy, Default)]
pub struct Asked<'a> {
    /// A topic's name, or another name of it.
    pub topic: Option<&'a str>,
    /// A request; its wording tells the topic when none is named.
    pub query: Option<&'a str>,
    /// An image to show it on.
    pub image: Option<&'a str>,
}

/// The answer.
#[derive(Debug)]
pub struct Explanation {
    /// What it is about; its article holds the text.
    pub topic: Topic,
    /// The request.
    pub query: Option<String>,
    /// What the model makes of the image and the request.
    pub demonstration: Option<Demonstration>,
    /// What stands between the image and the request; with both only.
    pub diagnosis: Option<Diagnosis>,
}

/// The request and its counterfactuals on one image.
#[derive(Debug)]
pub struct Demonstration {
    /// Path or URL.
    pub image: String,
    /// Model id.
    pub model: String,
    /// The request as a statement; absent without a request.
    pub statement: Option<Scored>,
    /// Each with its margin.
    pub counterfactuals: Vec<Shown>,
    /// Why there is none.
    pub why_none: Option<String>,
    /// Neutral texts behind the spread.
    pub neutral_texts: usize,
    /// Standard deviation of their cosines on this image: one sigma.
    pub spread: f32,
    /// The neutral texts that fit best, in sigma.
    pub nearest: Vec<(String, f32)>,
    /// What the image is made of; empty where too few images are indexed to know what images have in common.
    pub concepts: Vec<Concept>,
}

/// A counterfactual on the image.
#[derive(Debug)]
pub struct Shown {
    /// What was changed.
    pub change: Change,
    /// Its score.
    pub scored: Scored,
    /// Cosine of the request less that of the counterfactual.
    pub margin: f32,
    /// The same in sigma.
    pub margin_sigma: f32,
    /// Cosine of the two texts: near 1, the text tower hardly sees a difference.
    pub alike: f32,
    /// What the margin says.
    pub reading: Reading,
}

/// What a margin says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// Less than two unrelated neutral texts differ by.
    Noise,
    /// The request fits clearly better.
    PrefersRequest,
    /// The counterfactual fits clearly better.
    PrefersCounterfactual,
}

impl Reading {
    /// Reads a margin in sigma.
    pub fn of(margin_sigma: f32) -> Self {
        if margin_sigma.abs() < NOISE_SIGMA {
            Self::Noise
        } else if margin_sigma > 0.0 {
            Self::PrefersRequest
        } else {
            Self::PrefersCounterfactual
        }
    }

    /// As in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Noise => "noise",
            Self::PrefersRequest => "prefers_request",
            Self::PrefersCounterfactual => "prefers_counterfactual",
        }
    }
}

impl Engine {
    /// Explains a topic or the topic of a request; with an image, shows it there. Without an image nothing is loaded.
    ///
    /// # Errors
    /// Neither topic nor request, an unknown topic; the image cannot be read, the model cannot be loaded.
    pub fn explain(&self, asked: Asked<'_>, watch: &Watch<'_>) -> Result<Explanation> {
        let query = asked.query.map(str::trim).filter(|query| !query.is_empty());
        let topic = match (asked.topic, query) {
            (Some(name), _) => Topic::parse(name)?,
            (None, Some(query)) => Topic::of_request(query),
            (None, None) => return bad_argument("topic", "or `query` is needed: what is to be explained?"),
        };
        let mut explanation =
            Explanation { topic, query: query.map(str::to_owned), demonstration: None, diagnosis: None };
        if let Some(image) = asked.image {
            let sight = self.sight(image, watch)?;
            let mut shown = demonstrate(&sight, query, topic)?;
            shown.concepts = self.sight_concepts(&sight, query, watch)?;
            explanation.demonstration = Some(shown);
            if let Some(query) = query {
                // The verdict is on the request, whatever topic the caller wants to read about.
                explanation.diagnosis = Some(self.diagnose_sight(&sight, query, Topic::of_request(query), watch)?);
            }
        }
        Ok(explanation)
    }
}

impl Engine {
    /// The words that an image is made of, told against the indexed images of the same model.
    fn sight_concepts(&self, sight: &Sight, query: Option<&str>, watch: &Watch<'_>) -> Result<Vec<Concept>> {
        let catalogue = self.catalogue()?;
        let Some(set) = set_of(&catalogue, &sight.encoder)? else { return Ok(Vec::new()) };
        let things = query.map(|query| claims::read(query).things.iter().map(Thing::words).collect::<Vec<_>>());
        let things = things.unwrap_or_default();
        let Some(vocabulary) = self.vocabulary((&catalogue, &set), &sight.encoder, &things, watch)? else {
            return Ok(Vec::new());
        };
        let query = query.map(|query| sight.score(&[query.to_owned()])).transpose()?.and_then(|mut one| one.pop());
        Ok(vocabulary.tell(&sight.vector, query.as_ref().map(|one| one.vector.as_slice())))
    }
}

/// Scores a request and its counterfactuals on an image.
///
/// # Errors
/// The model fails.
pub fn demonstrate(sight: &Sight, query: Option<&str>, topic: Topic) -> Result<Demonstration> {
    let mut demonstration = Demonstration {
        image: sight.path.clone(),
        model: sight.encoder.id().to_owned(),
        statement: None,
        counterfactuals: Vec::new(),
        why_none: None,
        neutral_texts: sight.nulls.len(),
        spread: sight.level.spread,
        nearest: sight.nearest(NEAREST),
        concepts: Vec::new(),
    };
    let Some(query) = query else {
        demonstration.why_none = Some("give a request as well to see it scored against its counterfactuals".into());
        return Ok(demonstration);
    };
    let contrast = match counterfactual::of(query, topic) {
        Ok(contrast) => contrast,
        Err(why) => {
            demonstration.statement = sight.score(&[query.to_owned()])?.into_iter().next();
            demonstration.why_none = Some(why.to_string()).filter(|_| !topic.clip_suitable());
            return Ok(demonstration);
        }
    };
    let texts: Vec<String> = std::iter::once(contrast.statement.clone())
        .chain(contrast.counterfactuals.iter().map(|other| other.text.clone()))
        .collect();
    let mut scored = sight.score(&texts)?.into_iter();
    let Some(statement) = scored.next() else { return Ok(demonstration) };
    let shown = contrast.counterfactuals.iter().zip(scored).map(|(counterfactual, scored)| {
        let margin = statement.cosine - scored.cosine;
        let margin_sigma = margin / sight.level.spread;
        Shown {
            change: counterfactual.change,
            alike: dot(&statement.vector, &scored.vector),
            margin,
            margin_sigma,
            reading: Reading::of(margin_sigma),
            scored,
        }
    });
    demonstration.counterfactuals = shown.collect();
    demonstration.statement = Some(statement);
    Ok(demonstration)
}
