//! From a decided request to the next tool call: which tool, with which arguments taken from the request's own words.

mod foreign;
mod frame;
mod labels;

use serde_json::{Map, Value, json};

use crate::knowledge::language::other_than_english;
use crate::knowledge::phrase::{self, Count, Parse, Thing};
use crate::knowledge::router::{Decision, Label};
pub use frame::{Frame, frame};

/// A tool call that an agent can make as it stands, but for what is missing.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// The tool; `None` where no tool of this server helps.
    pub tool: Option<&'static str>,
    /// Its arguments, as far as the request holds them.
    pub arguments: Map<String, Value>,
    /// Required arguments that the request does not hold.
    pub missing: Vec<&'static str>,
}

/// What was read out of the request.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Reading {
    /// Things with their attributes and counts.
    pub parse: Parse,
    /// Where files, folders and numbers stand.
    pub frame: Frame,
    /// Labels to classify among.
    pub labels: Vec<String>,
    /// The thing counted or excluded, in a request that is not English.
    pub foreign_target: Option<String>,
}

/// The next call, what else would do, and the steps when one call is not enough.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The call for the main task.
    pub next: Call,
    /// Other calls, best first.
    pub alternatives: Vec<Call>,
    /// One call per label when the request asks for several things at once; else empty.
    pub steps: Vec<(Label, Call)>,
    /// What was read.
    pub reading: Reading,
}

/// Plans for a decided request.
pub fn plan(request: &str, decision: &Decision) -> Plan {
    let frame = frame(request);
    // The patterns of counting are no English words, so a short request needs no other sign of its language.
    let counted = foreign::counted(request).filter(|_| decision.primary != Label::Negation);
    let foreign = counted.is_some() || other_than_english(request).is_some();
    let parse = if foreign { Parse::default() } else { phrase::parse(&frame.core) };
    let absent = (foreign && decision.primary == Label::Negation).then(|| foreign::absent(request)).flatten();
    let foreign_target = counted.or(absent);
    let (labels, _) = labels::labels(request, &frame);
    let reading = Reading { parse, frame, labels, foreign_target };
    let next = call_for(decision.primary, &reading);
    let steps = if decision.labels.len() > 1 {
        decision.labels.iter().map(|label| (*label, call_for(*label, &reading))).collect()
    } else {
        Vec::new()
    };
    let mut alternatives: Vec<Call> = Vec::new();
    for label in second_choices(decision.primary) {
        let call = call_for(*label, &reading);
        if call.tool != next.tool && !alternatives.iter().any(|other| other.tool == call.tool) {
            alternatives.push(call);
        }
    }
    Plan { next, alternatives, steps, reading }
}

/// What else helps, best first: a search brings candidates, a detector sees things and places.
fn second_choices(label: Label) -> &'static [Label] {
    match label {
        Label::SemanticSearch | Label::OutOfScope => &[],
        Label::ZeroShotClassification | Label::TextReading | Label::Counting => &[Label::SemanticSearch],
        Label::ImageSimilarity => &[Label::FineGrained],
        Label::Negation => &[Label::SemanticSearch, Label::Compositional],
        Label::FineGrained => &[Label::ZeroShotClassification, Label::SemanticSearch],
        Label::Spatial | Label::Compositional => &[Label::Counting, Label::SemanticSearch],
    }
}

fn call_for(label: Label, reading: &Reading) -> Call {
    match label {
        Label::SemanticSearch => search(reading, false),
        Label::ImageSimilarity => search(reading, true),
        Label::ZeroShotClassification => classify(reading),
        Label::Counting | Label::Negation => detect(reading, label),
        Label::FineGrained => identify(reading),
        Label::Spatial => relate(reading),
        Label::Compositional => match_captions(reading),
        Label::TextReading | Label::OutOfScope => Call { tool: None, arguments: Map::new(), missing: Vec::new() },
    }
}

fn search(reading: &Reading, by_image: bool) -> Call {
    let mut arguments = Map::new();
    let mut missing = Vec::new();
    if by_image {
        match reading.frame.images.first() {
            Some(image) => drop(arguments.insert("image".into(), json!(image))),
            None => missing.push("image"),
        }
    } else {
        let (query, minus) = search_words(reading);
        arguments.insert("query".into(), json!(query));
        if let Some(minus) = minus {
            arguments.insert("minus".into(), json!(minus));
        }
    }
    if let Some(folder) = &reading.frame.folder {
        arguments.insert("folder".into(), json!(folder));
    }
    if let Some(top_k) = reading.frame.top_k {
        arguments.insert("top_k".into(), json!(top_k));
    }
    Call { tool: Some("clip_search"), arguments, missing }
}

/// Words that a search can use: of a question the things that it asks about, of an exclusion what stays and what goes.
fn search_words(reading: &Reading) -> (String, Option<String>) {
    const QUESTIONS: [&str; 14] = [
        "how", "howmany", "count", "what", "which", "where", "who", "is", "are", "does", "do", "number", "read",
        "point",
    ];
    let core = &reading.frame.core;
    let first = core.split_whitespace().next().unwrap_or_default().to_lowercase();
    let named = |negated: bool| {
        let things: Vec<String> =
            reading.parse.things.iter().filter(|thing| thing.negated == negated).map(Thing::words).collect();
        (!things.is_empty()).then(|| things.join(", "))
    };
    match (named(false), named(true)) {
        (Some(stays), Some(goes)) => (stays, Some(goes)),
        (Some(asked), None) if QUESTIONS.contains(&first.as_str()) => (asked, None),
        _ => (core.clone(), None),
    }
}

fn classify(reading: &Reading) -> Call {
    let (mut arguments, mut missing) = images(reading);
    if reading.labels.is_empty() {
        missing.push("labels");
    } else {
        arguments.insert("labels".into(), json!(reading.labels));
    }
    Call { tool: Some("classify_image"), arguments, missing }
}

/// `images` from the request; without one it is missing.
fn images(reading: &Reading) -> (Map<String, Value>, Vec<&'static str>) {
    let mut arguments = Map::new();
    if reading.frame.images.is_empty() {
        return (arguments, vec!["images"]);
    }
    arguments.insert("images".into(), json!(reading.frame.images));
    (arguments, Vec::new())
}

/// `image` from the request; without one it is missing.
fn image(reading: &Reading) -> (Map<String, Value>, Vec<&'static str>) {
    let mut arguments = Map::new();
    match reading.frame.images.first() {
        Some(image) => drop(arguments.insert("image".into(), json!(image))),
        None => return (arguments, vec!["image"]),
    }
    (arguments, Vec::new())
}

fn detect(reading: &Reading, label: Label) -> Call {
    let targets = targets(reading, label);
    let (mut arguments, mut missing) = images(reading);
    if let (true, Some(folder)) = (reading.frame.images.is_empty(), &reading.frame.folder) {
        arguments.insert("folder".into(), json!(folder));
        missing.clear();
    }
    if !targets.is_empty() {
        arguments.insert("targets".into(), json!(targets));
    }
    Call { tool: Some("detect_count"), arguments, missing }
}

/// What a detector is asked for: what is counted, what must be absent, else every thing named.
fn targets(reading: &Reading, label: Label) -> Vec<String> {
    if let Some(target) = &reading.foreign_target {
        return vec![target.clone()];
    }
    let things = &reading.parse.things;
    let wanted: Vec<&Thing> = match label {
        Label::Counting => {
            let asked: Vec<&Thing> = things.iter().filter(|thing| thing.count == Some(Count::Asked)).collect();
            let counted: Vec<&Thing> = things.iter().filter(|thing| thing.count.is_some()).collect();
            let plural: Vec<&Thing> = things.iter().filter(|thing| thing.plural).collect();
            [asked, counted, plural].into_iter().find(|found| !found.is_empty()).unwrap_or_default()
        }
        Label::Negation => things.iter().filter(|thing| thing.negated).collect(),
        _ => Vec::new(),
    };
    let wanted = if wanted.is_empty() { things.iter().collect() } else { wanted };
    let mut names: Vec<String> = Vec::new();
    for thing in wanted {
        if !names.contains(&thing.head) {
            names.push(thing.head.clone());
        }
    }
    names
}

fn relate(reading: &Reading) -> Call {
    let things = &reading.parse.things;
    let relation = reading.parse.relations.iter().find(|relation| relation.place.is_some());
    // "the object in front of the sofa": what it is, is the question.
    let unknown = |thing: &Thing| matches!(thing.head.as_str(), "object" | "thing" | "item" | "something");
    let pair = match relation {
        Some(relation) => things.get(relation.subject).zip(things.get(relation.object)),
        None => things.first().zip(things.get(1)),
    };
    let Some((subject, object)) = pair.filter(|(subject, object)| !unknown(subject) && !unknown(object)) else {
        // "where is the cat", "what is on the left": boxes answer it.
        return detect(reading, Label::Spatial);
    };
    let (mut arguments, missing) = image(reading);
    arguments.insert("subject".into(), json!(subject.words()));
    arguments.insert("object".into(), json!(object.words()));
    Call { tool: Some("spatial_relation"), arguments, missing }
}

fn match_captions(reading: &Reading) -> Call {
    let (mut arguments, missing) = image(reading);
    arguments.insert("captions".into(), json!([reading.frame.core]));
    Call { tool: Some("match_captions"), arguments, missing }
}

fn identify(reading: &Reading) -> Call {
    let (mut arguments, mut missing) = image(reading);
    match &reading.frame.folder {
        Some(folder) => drop(arguments.insert("gallery".into(), json!(folder))),
        None => missing.push("gallery"),
    }
    Call { tool: Some("identify_image"), arguments, missing }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(request: &str, label: Label) -> Plan {
        let decision = Decision {
            primary: label,
            labels: vec![label],
            confidence: 1.0,
            primary_probabilities: [0.0; Label::COUNT],
            label_probabilities: [0.0; Label::COUNT],
        };
        plan(request, &decision)
    }

    fn call(request: &str, label: Label) -> Value {
        let next = planned(request, label).next;
        json!({ "tool": next.tool, "arguments": next.arguments, "missing": next.missing })
    }

    #[test]
    fn arguments_come_from_the_request() {
        for (request, label, tool, arguments, missing) in [
            (
                "find the 5 best photos of a red barn in ./farm/",
                Label::SemanticSearch,
                "clip_search",
                json!({ "query": "the 5 best photos of a red barn", "folder": "./farm/", "top_k": 5 }),
                json!([]),
            ),
            ("more like cat.jpg", Label::ImageSimilarity, "clip_search", json!({ "image": "cat.jpg" }), json!([])),
            ("more like this", Label::ImageSimilarity, "clip_search", json!({}), json!(["image"])),
            (
                "cat or dog? a.png b.png",
                Label::Counting,
                "detect_count",
                json!({ "images": ["a.png", "b.png"], "targets": ["cat", "dog"] }),
                json!([]),
            ),
            (
                "count the forks and knives in ./table/",
                Label::Counting,
                "detect_count",
                json!({ "folder": "./table/", "targets": ["fork", "knife"] }),
                json!([]),
            ),
            (
                "wie viele Autos stehen hier",
                Label::Counting,
                "detect_count",
                json!({ "targets": ["autos"] }),
                json!(["images"]),
            ),
            (
                "is the red cup left of the laptop in desk.jpg",
                Label::Spatial,
                "spatial_relation",
                json!({ "image": "desk.jpg", "subject": "red cup", "object": "laptop" }),
                json!([]),
            ),
            ("where is the cat", Label::Spatial, "detect_count", json!({ "targets": ["cat"] }), json!(["images"])),
            (
                "a street without cars",
                Label::Negation,
                "detect_count",
                json!({ "targets": ["car"] }),
                json!(["images"]),
            ),
            (
                "a red cube and a blue ball",
                Label::Compositional,
                "match_captions",
                json!({ "captions": ["a red cube and a blue ball"] }),
                json!(["image"]),
            ),
            (
                "sort ./in/ into indoor / outdoor",
                Label::ZeroShotClassification,
                "classify_image",
                json!({ "labels": ["indoor", "outdoor"] }),
                json!(["images"]),
            ),
        ] {
            assert_eq!(
                call(request, label),
                json!({ "tool": tool, "arguments": arguments, "missing": missing }),
                "{request}"
            );
        }
        assert_eq!(call("make it snow", Label::OutOfScope)["tool"], Value::Null);
    }

    #[test]
    fn a_search_beside_another_tool_gets_words_that_it_can_use() {
        let beside = |request: &str, label| {
            let plan = planned(request, label);
            let search = plan.alternatives.into_iter().find(|call| call.tool == Some("clip_search")).unwrap();
            Value::Object(search.arguments)
        };
        assert_eq!(beside("how many red chairs are there", Label::Counting), json!({ "query": "red chair" }));
        assert_eq!(beside("a street without cars", Label::Negation), json!({ "query": "street", "minus": "car" }));
        assert_eq!(beside("three dogs on a beach", Label::Counting), json!({ "query": "three dogs on a beach" }));
    }
}
