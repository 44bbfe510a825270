//! `route_query` and `route`: which task a request is, and the next call.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::knowledge::plan::{self, Call};
use crate::knowledge::router::{self, Decision, Evidence, Label};
use crate::knowledge::tools;

/// Arguments of `route_query`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RouteArgs {
    /// The request, in the user's own words, any language.
    pub query: String,
}

/// A part of the request that moved the decision.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Span {
    /// The words.
    pub text: String,
    /// First character, counted in Unicode characters.
    pub start: usize,
    /// One past the last character.
    pub end: usize,
    /// The label that they speak for.
    pub label: String,
}

/// A tool call.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct NextCall {
    /// The tool; null when none of this server's helps.
    pub tool: Option<String>,
    /// Arguments read out of the request.
    pub arguments: Map<String, Value>,
    /// Required arguments that the request does not hold.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
    /// The tool is not part of this version: take the first alternative.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub available: Option<bool>,
}

/// One step of a request that asks for several things.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Step {
    /// The task of this step.
    pub label: String,
    /// Its call.
    #[serde(flatten)]
    pub call: NextCall,
}

/// A thing that the request names.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NamedThing {
    /// Its noun in the singular.
    pub thing: String,
    /// What is bound to it: colours, materials, sizes, states.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub attributes: Vec<String>,
    /// The request says that it is absent.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub absent: bool,
}

/// How two of the things stand to each other, or who does what to whom.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NamedRelation {
    /// The first.
    pub subject: String,
    /// The words between.
    pub relation: String,
    /// The second.
    pub object: String,
}

/// What was read out of an English request, whichever tool takes it.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Extracted {
    /// Things with what is bound to them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub things: Vec<NamedThing>,
    /// Relations and roles.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub relations: Vec<NamedRelation>,
    /// Words between quotation marks: the text to look for or to read.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub texts: Vec<String>,
}

/// What every label scored.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct TaskScore {
    /// The label.
    pub label: String,
    /// Probability that it is the main task.
    pub primary: f32,
    /// Probability that it applies.
    pub applies: f32,
    /// The words that speak for it.
    pub evidence: Vec<Span>,
}

/// What a request is, and what to call.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct RouteResponse {
    /// The request.
    pub query: String,
    /// The main task.
    pub primary: String,
    /// All tasks, the main one first.
    pub labels: Vec<String>,
    /// CLIP can do the main task.
    pub clip_suitable: bool,
    /// Calibrated probability of the main task, 0 to 1.
    pub confidence: f32,
    /// The words that decided.
    pub evidence: Vec<Span>,
    /// The call to make.
    pub next: NextCall,
    /// Why, with the cited limitation.
    pub why: String,
    /// Other calls, best first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<Value>")]
    pub alternatives: Vec<NextCall>,
    /// One call per task when the request asks for several.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<Value>")]
    pub steps: Vec<Step>,
    /// Things, relations and quoted words of the request; no part of the tool's schema, which costs tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    pub extracted: Option<Extracted>,
    /// Every label's score; only with `--check-all`, so no part of the tool's schema.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(skip)]
    pub scores: Vec<TaskScore>,
}

/// Routes a request: a pure function of its text.
///
/// # Errors
/// The request is empty.
pub fn route(args: &RouteArgs, check_all: bool) -> Result<RouteResponse> {
    if args.query.trim().is_empty() {
        return Err(Error::Argument { name: "query", reason: "is empty: give the request in the user's words".into() });
    }
    let routed = router::route(&args.query);
    let decision = &routed.decision;
    let plan = plan::plan(&args.query, decision);
    let chars: Vec<char> = args.query.chars().collect();
    let mut alternatives: Vec<NextCall> = plan.alternatives.iter().map(next_call).collect();
    // What can be called now comes before what cannot.
    alternatives.sort_by_key(|call| call.available == Some(false));
    let scores = if check_all { scores(&args.query, decision, &chars) } else { Vec::new() };
    Ok(RouteResponse {
        primary: decision.primary.name().into(),
        labels: decision.labels.iter().map(|label| label.name().to_owned()).collect(),
        clip_suitable: decision.primary.clip_suitable(),
        confidence: rounded(decision.confidence),
        evidence: routed.evidence.iter().map(|evidence| span(evidence, &chars)).collect(),
        next: next_call(&plan.next),
        why: decision.primary.why(),
        alternatives,
        steps: plan
            .steps
            .iter()
            .map(|(label, call)| Step { label: label.name().into(), call: next_call(call) })
            .collect(),
        extracted: extracted(&plan.reading),
        scores,
        query: args.query.clone(),
    })
}

fn extracted(reading: &plan::Reading) -> Option<Extracted> {
    let things = &reading.parse.things;
    let name = |at: usize| things.get(at).map(|thing| thing.head.clone()).unwrap_or_default();
    let extracted = Extracted {
        things: things
            .iter()
            .map(|thing| NamedThing {
                thing: thing.head.clone(),
                attributes: thing.attributes.clone(),
                absent: thing.negated,
            })
            .collect(),
        relations: reading
            .parse
            .relations
            .iter()
            .map(|relation| NamedRelation {
                subject: name(relation.subject),
                relation: relation.words.clone(),
                object: name(relation.object),
            })
            .collect(),
        texts: reading.frame.quoted.clone(),
    };
    (extracted != Extracted::default()).then_some(extracted)
}

fn scores(query: &str, decision: &Decision, chars: &[char]) -> Vec<TaskScore> {
    let mut scores: Vec<TaskScore> = Label::ALL
        .into_iter()
        .zip(decision.primary_probabilities.iter().zip(&decision.label_probabilities))
        .map(|(label, (primary, applies))| TaskScore {
            label: label.name().into(),
            primary: rounded(*primary),
            applies: rounded(*applies),
            evidence: router::evidence_for(query, label).iter().map(|evidence| span(evidence, chars)).collect(),
        })
        .collect();
    scores.sort_by(|a, b| b.primary.total_cmp(&a.primary));
    scores
}

fn span(evidence: &Evidence, chars: &[char]) -> Span {
    Span {
        text: chars.get(evidence.start..evidence.end).unwrap_or_default().iter().collect(),
        start: evidence.start,
        end: evidence.end,
        label: evidence.label.name().into(),
    }
}

fn next_call(call: &Call) -> NextCall {
    let available = call.tool.is_none_or(tools::is_present);
    NextCall {
        tool: call.tool.map(str::to_owned),
        arguments: call.arguments.clone(),
        missing: call.missing.iter().map(|name| (*name).to_owned()).collect(),
        available: (!available).then_some(false),
    }
}

fn rounded(value: f32) -> f32 {
    (value * 1_000.0).round() / 1_000.0
}
