//! What CLIP cannot do and what it can, by topic: the mechanism, the signs in a request, the facts, what to use instead.

mod articles;

use serde::Serialize;

use super::counterfactual;
use super::facts::{self, Fact};
use super::systems::{self, Status, System};
use super::task::{self, Task};
use crate::error::{Error, Result};

/// A topic; its name is what `explain_limitation` takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Topic {
    /// How many there are.
    Counting,
    /// Species, models, individuals.
    FineGrained,
    /// Left, right, above, below, near, far.
    Spatial,
    /// Which attribute belongs to which thing, who does what to whom.
    Compositional,
    /// What is not there.
    Negation,
    /// Words in the picture.
    TextReading,
    /// What a cosine means.
    Calibration,
    /// Pictures unlike those of the web.
    DomainShift,
    /// What CLIP is good at.
    Strengths,
}

/// All topics, in the order in which they are listed.
pub const TOPICS: [Topic; 9] = [
    Topic::Counting,
    Topic::FineGrained,
    Topic::Spatial,
    Topic::Compositional,
    Topic::Negation,
    Topic::TextReading,
    Topic::Calibration,
    Topic::DomainShift,
    Topic::Strengths,
];

/// Other names that are understood.
const ALIASES: &[(&str, Topic)] = &[
    ("count", Topic::Counting),
    ("counts", Topic::Counting),
    ("number", Topic::Counting),
    ("fine_grained_identity", Topic::FineGrained),
    ("finegrained", Topic::FineGrained),
    ("identity", Topic::FineGrained),
    ("species", Topic::FineGrained),
    ("breeds", Topic::FineGrained),
    ("faces", Topic::FineGrained),
    ("spatial_relation", Topic::Spatial),
    ("spatial_relations", Topic::Spatial),
    ("position", Topic::Spatial),
    ("left_right", Topic::Spatial),
    ("relations", Topic::Spatial),
    ("attribute_binding", Topic::Compositional),
    ("role_binding", Topic::Compositional),
    ("binding", Topic::Compositional),
    ("composition", Topic::Compositional),
    ("compositionality", Topic::Compositional),
    ("attributes", Topic::Compositional),
    ("bag_of_words", Topic::Compositional),
    ("not", Topic::Negation),
    ("absence", Topic::Negation),
    ("without", Topic::Negation),
    ("ocr", Topic::TextReading),
    ("text", Topic::TextReading),
    ("reading", Topic::TextReading),
    ("score", Topic::Calibration),
    ("scores", Topic::Calibration),
    ("cosine", Topic::Calibration),
    ("threshold", Topic::Calibration),
    ("similarity", Topic::Calibration),
    ("relevance", Topic::Calibration),
    ("domain", Topic::DomainShift),
    ("out_of_domain", Topic::DomainShift),
    ("medical", Topic::DomainShift),
    ("satellite", Topic::DomainShift),
    ("good_at", Topic::Strengths),
    ("semantic_search", Topic::Strengths),
    ("zero_shot_classification", Topic::Strengths),
    ("image_similarity", Topic::Strengths),
];

impl Topic {
    /// The name that callers use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Counting => "counting",
            Self::FineGrained => "fine_grained",
            Self::Spatial => "spatial",
            Self::Compositional => "compositional",
            Self::Negation => "negation",
            Self::TextReading => "text_reading",
            Self::Calibration => "calibration",
            Self::DomainShift => "domain_shift",
            Self::Strengths => "strengths",
        }
    }

    /// The topic of a name or of one of its other names; case, blanks and hyphens do not matter.
    ///
    /// # Errors
    /// No topic has this name; the error lists them.
    pub fn parse(name: &str) -> Result<Self> {
        let wanted = name.trim().to_lowercase().replace([' ', '-', '/'], "_");
        let by_name = TOPICS.into_iter().find(|topic| topic.name() == wanted);
        let by_alias = || ALIASES.iter().find(|(alias, _)| *alias == wanted).map(|(_, topic)| *topic);
        by_name.or_else(by_alias).ok_or_else(|| {
            let known: Vec<&str> = TOPICS.iter().map(|topic| topic.name()).collect();
            Error::Argument { name: "topic", reason: format!("must be one of {}, not `{name}`", known.join(", ")) }
        })
    }

    /// The topic of a request, judged by its wording.
    pub fn of_request(request: &str) -> Self {
        Self::of_task(task::of_request(request))
    }

    /// What there is to say about the task of a request.
    pub fn of_task(task: Task) -> Self {
        match task {
            Task::SemanticSearch | Task::ZeroShotClassification | Task::ImageSimilarity | Task::OutOfScope => {
                Self::Strengths
            }
            Task::FineGrained => Self::FineGrained,
            Task::Counting => Self::Counting,
            Task::Spatial => Self::Spatial,
            Task::Compositional => Self::Compositional,
            Task::Negation => Self::Negation,
            Task::TextReading => Self::TextReading,
        }
    }

    /// CLIP can be used for it as it is.
    pub fn clip_suitable(self) -> bool {
        self == Self::Strengths
    }

    /// What to do about a request of this topic on one image: with the tool for it where this build has one.
    pub fn way_out(self, request: &str) -> String {
        let (tool, by_eye) = match self {
            Self::Counting => ("detect_count", "count what is there"),
            Self::Spatial => ("spatial_relation", "see what is where"),
            Self::Compositional => ("match_captions", "see what belongs to what"),
            Self::Negation => ("match_captions", "see whether it is there"),
            Self::TextReading => ("", "read it, or run OCR on it"),
            Self::FineGrained => ("identify_image", "compare it with labelled examples"),
            _ => ("clip_search", "look"),
        };
        if super::tools::is_present(tool) {
            return format!("call {tool} on the image");
        }
        match counterfactual::split_negation(request).filter(|_| self == Self::Negation) {
            Some((kept, excluded)) => format!(
                "to search: clip_search(query: \"{kept}\", minus: \"{excluded}\"); for this image: open it and {by_eye}"
            ),
            None => {
                format!("open the image and {by_eye}; clip_search can only narrow the folder down to the things named")
            }
        }
    }

    /// All that is known about it.
    pub fn article(self) -> &'static Article {
        articles::of(self)
    }
}

/// A call, and what comes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Example {
    /// As an agent or a person would write it.
    pub call: &'static str,
    /// What comes of it.
    pub outcome: &'static str,
}

/// A way to do it right; present only in builds that have its tool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Right {
    /// The tool that it needs.
    pub tool: &'static str,
    /// The call.
    pub example: Example,
}

/// What is known about a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Article {
    /// Which.
    pub topic: Topic,
    /// A heading.
    pub title: &'static str,
    /// What fails (of `strengths`: what works), in one sentence.
    pub what: &'static str,
    /// The mechanism, two to four sentences.
    pub why: &'static str,
    /// Signs of it in a request.
    pub cues: &'static [&'static str],
    /// Ids of facts, the most telling first.
    pub facts: &'static [&'static str],
    /// Ids of systems, the best first.
    pub instead: &'static [&'static str],
    /// What people try.
    pub wrong: Example,
    /// What to do, the best first; the first whose tool is present counts.
    pub right: &'static [Right],
}

impl Article {
    /// Its facts, the most telling first.
    pub fn facts(&self) -> impl Iterator<Item = &'static Fact> {
        self.facts.iter().filter_map(|id| facts::find(id))
    }

    /// What to use instead in this build, the best first.
    pub fn instead(&self) -> impl Iterator<Item = (&'static System, Status)> {
        self.instead
            .iter()
            .filter_map(|id| systems::find(id))
            .filter_map(|system| system.status().map(|status| (system, status)))
    }

    /// What to do in this build.
    pub fn right(&self) -> Option<Example> {
        self.right.iter().find(|right| super::tools::is_present(right.tool)).map(|right| right.example)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_topic_has_a_complete_article() {
        for topic in TOPICS {
            let article = topic.article();
            assert_eq!(article.topic, topic);
            let sentences = article.why.replace("et al. ", "").matches(". ").count() + 1;
            assert!((2..=4).contains(&sentences), "{}: {sentences} sentences", topic.name());
            assert!(article.cues.len() >= 2 && article.facts.len() >= 2, "{}", topic.name());
            assert_eq!(article.facts().count(), article.facts.len(), "{} names an unknown fact", topic.name());
            for id in article.instead {
                assert!(systems::find(id).is_some(), "{}: no system {id}", topic.name());
            }
            assert!(article.instead().count() >= 2, "{} has no way out in this build", topic.name());
            assert!(article.right().is_some(), "{} has no right example in this build", topic.name());
        }
    }

    #[test]
    fn advice_names_only_tools_that_are_there() {
        for topic in TOPICS {
            let article = topic.article();
            let called = article.right().map(|example| example.call).unwrap_or_default();
            let all = ["detect_count", "spatial_relation", "match_captions", "identify_image", "route_query"];
            for tool in all.iter().filter(|tool| !super::super::tools::is_present(tool)) {
                assert!(!called.contains(tool), "{}: {tool}", topic.name());
                assert!(article.instead().all(|(system, _)| system.tool() != *tool), "{}: {tool}", topic.name());
            }
        }
    }

    #[test]
    fn every_fact_is_cited_by_its_topic_and_every_system_by_some_topic() {
        for fact in facts::ALL {
            assert!(fact.topic.article().facts.contains(&fact.id), "{} is cited nowhere", fact.id);
        }
        for system in systems::ALL {
            assert!(TOPICS.iter().any(|t| t.article().instead.contains(&system.id)), "{} is named nowhere", system.id);
        }
    }

    #[test]
    fn names_and_other_names_are_understood_and_unknown_ones_are_told_which_there_are() {
        for topic in TOPICS {
            assert_eq!(Topic::parse(topic.name()).unwrap(), topic);
        }
        for (name, topic) in [
            ("OCR", Topic::TextReading),
            ("attribute binding", Topic::Compositional),
            ("Fine-grained", Topic::FineGrained),
            (" left/right ", Topic::Spatial),
        ] {
            assert_eq!(Topic::parse(name).unwrap(), topic, "{name}");
        }
        let error = Topic::parse("colour").unwrap_err().to_string();
        assert!(error.contains("counting, fine_grained") && error.ends_with("not `colour`"), "{error}");
        for (at, (alias, _)) in ALIASES.iter().enumerate() {
            assert!(ALIASES[..at].iter().all(|(other, _)| other != alias), "{alias}");
            assert!(TOPICS.iter().all(|topic| topic.name() != *alias), "{alias}");
        }
    }
}
