//! Which task a request is, and what to say of it: the one place where a decision meets the facts.

use super::facts;
use super::router;

/// A task that a request can be.
pub use super::router::Label as Task;

/// The main task of a request in words.
pub fn of_request(text: &str) -> Task {
    router::route(text).decision.primary
}

/// All tasks of a request, the main one first.
pub fn all_of_request(text: &str) -> Vec<Task> {
    router::route(text).decision.labels
}

/// A limit: what CLIP cannot do, the fact that shows it, what it means for hits of a search, and what does it instead.
struct Limit {
    what: &'static str,
    fact: &'static str,
    hits: &'static str,
    instead: &'static str,
}

impl Task {
    fn limit(self) -> Option<Limit> {
        let (what, fact, hits, instead) = match self {
            Self::SemanticSearch | Self::ZeroShotClassification | Self::ImageSimilarity | Self::OutOfScope => {
                return None;
            }
            Self::Counting => {
                ("CLIP does not count", "countbench", "hits show the thing, in any number", "a detector finds each one")
            }
            Self::FineGrained => (
                "CLIP tells exact species, models and individuals apart badly",
                "aircraft",
                "hits show the kind, not surely the one",
                "compare with labelled examples",
            ),
            Self::Spatial => (
                "CLIP does not see who is left, right, above or below",
                "vsr",
                "hits show the things, in any arrangement",
                "a detector's boxes tell",
            ),
            Self::Compositional => (
                "CLIP does not bind attributes or roles to things",
                "half-truths",
                "hits may have them swapped",
                "check phrase by phrase",
            ),
            Self::Negation => (
                "CLIP ignores negation",
                "negbench",
                "hits may show just what you excluded; use minus for a soft exclusion",
                "a detector finds none",
            ),
            Self::TextReading => (
                "CLIP does not read reliably",
                "digits",
                "hits may look like text of that kind without the words; use OCR to confirm",
                "use OCR, or open the picture and read it",
            ),
        };
        Some(Limit { what, fact, hits, instead })
    }

    /// What a caller should know before trusting a ranking; `None` where CLIP suits. Numbers come from [`facts`], with
    /// their source.
    pub fn note(self) -> Option<String> {
        self.limit().map(|limit| format!("{}: {}", limit.cited(), limit.hits))
    }

    /// The limit with its fact, without what follows from it; `None` where CLIP suits.
    pub fn limit_cited(self) -> Option<String> {
        self.limit().map(|limit| limit.cited())
    }

    /// Why the task is, or is not, for CLIP, in one sentence; a refusal cites its source.
    pub fn why(self) -> String {
        match self {
            Self::SemanticSearch => "CLIP ranks pictures by scene, object, style and mood".into(),
            Self::ZeroShotClassification => "CLIP tells broad kinds of things and scenes apart without training".into(),
            Self::ImageSimilarity => "CLIP's image vectors rank pictures by how alike they look".into(),
            _ => match self.limit() {
                Some(limit) => format!("{}: {}", limit.cited(), limit.instead),
                None => "this edits or makes pictures, manages files, or asks nothing that a picture shows".into(),
            },
        }
    }
}

impl Limit {
    fn cited(&self) -> String {
        let evidence = facts::find(self.fact).map(|fact| format!(" ({})", fact.in_short())).unwrap_or_default();
        format!("{}{evidence}", self.what)
    }
}

#[cfg(test)]
mod tests {
    use super::{Task, facts};

    #[test]
    fn every_refusal_cites_a_fact_of_the_table() {
        for task in Task::ALL {
            let limit = task.limit();
            assert_eq!(limit.is_some(), !task.clip_suitable() && task != Task::OutOfScope);
            assert_eq!(task.note().is_some(), limit.is_some());
            if let Some(limit) = limit {
                let fact = facts::find(limit.fact).unwrap();
                assert!(task.why().contains(&fact.source.short()), "{}", task.why());
            }
            assert!(!task.why().ends_with('.'));
        }
    }
}
