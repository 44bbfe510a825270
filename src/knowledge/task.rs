//! Which task a search request is, judged by its wording, so that a search can say what its ranking cannot know.

use super::facts;

/// A task that a request can be; the names are the contract's (design.md section 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// Retrieval by scene, object, style, mood: what CLIP is for.
    SemanticSearch,
    /// Retrieval by an example image.
    ImageSimilarity,
    /// The number of things matters.
    Counting,
    /// Where things are in relation to each other matters.
    Spatial,
    /// Which attribute belongs to which thing matters.
    Compositional,
    /// Something must be absent.
    Negation,
    /// Written words matter.
    TextReading,
}

impl Task {
    /// The contract's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::SemanticSearch => "semantic_search",
            Self::ImageSimilarity => "image_similarity",
            Self::Counting => "counting",
            Self::Spatial => "spatial",
            Self::Compositional => "compositional",
            Self::Negation => "negation",
            Self::TextReading => "text_reading",
        }
    }

    /// CLIP can do it.
    pub fn clip_suitable(self) -> bool {
        matches!(self, Self::SemanticSearch | Self::ImageSimilarity)
    }

    /// What a caller should know before trusting the ranking; `None` where CLIP suits. Numbers come from [`facts`], with
    /// their source.
    pub fn note(self) -> Option<String> {
        let (limit, fact, consequence) = match self {
            Self::SemanticSearch | Self::ImageSimilarity => return None,
            Self::Counting => ("CLIP does not count", "countbench", "hits show the thing, in any number"),
            Self::Spatial => (
                "CLIP does not see who is left, right, above or below",
                "vsr",
                "hits show the things, in any arrangement",
            ),
            Self::Compositional => {
                ("CLIP does not bind attributes to things", "half-truths", "hits may have them swapped")
            }
            Self::Negation => (
                "CLIP ignores negation",
                "negbench",
                "hits may show just what you excluded; use minus for a soft exclusion",
            ),
            Self::TextReading => (
                "CLIP does not read reliably",
                "digits",
                "hits may look like text of that kind without the words; use OCR to confirm",
            ),
        };
        let evidence = facts::find(fact).map(|fact| format!(" ({})", fact.in_short())).unwrap_or_default();
        Some(format!("{limit}{evidence}: {consequence}"))
    }
}

/// Words of relation; multi-word ones with spaces.
const RELATIONS: [&str; 14] = [
    "left of",
    "right of",
    "to the left",
    "to the right",
    "above",
    "below",
    "beneath",
    "underneath",
    "on top of",
    "in front of",
    "behind",
    "next to",
    "in the upper",
    "in the lower",
];

const NEGATIONS: [&str; 9] =
    ["without", "not", "excluding", "except", "except for", "no longer", "isn't", "aren't", "doesn't"];

const NUMBERS: [&str; 11] =
    ["two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"];

const COUNT_PHRASES: [&str; 7] = ["how many", "count", "number of", "exactly", "at least", "more than", "fewer than"];

const READING_PHRASES: [&str; 8] =
    ["says", "saying", "that reads", "the word", "the words", "the text", "written", "license plate number"];

const COLOURS: [&str; 14] = [
    "red", "blue", "green", "yellow", "black", "white", "brown", "orange", "purple", "pink", "grey", "gray", "golden",
    "silver",
];

/// "no parking" and the like are names of signs, not negation.
const NO_NAMES: [&str; 7] = ["parking", "entry", "smoking", "trespassing", "exit", "stopping", "swimming"];

/// Judges a text request by its wording. The order is the order of what a wrong ranking costs most.
pub fn of_request(text: &str) -> Task {
    let lower = text.to_lowercase();
    let words: Vec<&str> =
        lower.split(|c: char| !(c.is_alphanumeric() || c == '\'')).filter(|word| !word.is_empty()).collect();
    let phrase = format!(" {} ", words.join(" "));
    let has = |needle: &str| phrase.contains(&format!(" {needle} "));
    let quoted = text.matches('"').count() >= 2;
    if NEGATIONS.iter().any(|word| has(word)) || negated_noun(&words) {
        Task::Negation
    } else if quoted || READING_PHRASES.iter().any(|words| has(words)) {
        Task::TextReading
    } else if COUNT_PHRASES.iter().any(|words| has(words)) || counted_plural(&words) {
        Task::Counting
    } else if RELATIONS.iter().any(|words| has(words)) {
        Task::Spatial
    } else if two_coloured_things(&words) {
        Task::Compositional
    } else {
        Task::SemanticSearch
    }
}

fn negated_noun(words: &[&str]) -> bool {
    words.windows(2).any(|pair| matches!(pair, ["no", noun] if !NO_NAMES.contains(noun)))
}

/// A numeral of two or more before a plural: "three dogs", "4 red chairs".
fn counted_plural(words: &[&str]) -> bool {
    words.iter().enumerate().any(|(at, word)| {
        let number = NUMBERS.contains(word) || word.parse::<u32>().is_ok_and(|n| (2..=100).contains(&n));
        number && words.iter().skip(at + 1).take(3).any(|noun| plural(noun))
    })
}

fn plural(word: &str) -> bool {
    ["people", "men", "women", "children", "mice", "geese", "sheep", "feet"].contains(&word)
        || (word.len() > 3 && word.ends_with('s') && !word.ends_with("ss") && !word.ends_with("us"))
}

/// Two different colours, each with a thing of its own after it: "red car and blue truck".
fn two_coloured_things(words: &[&str]) -> bool {
    let at: Vec<usize> = (0..words.len()).filter(|i| words.get(*i).is_some_and(|w| COLOURS.contains(w))).collect();
    at.windows(2).any(|pair| match pair {
        // "black and white portrait" names one thing: between the two colours there must be a first one.
        [first, second] => {
            let thing = words.get(first + 1).is_some_and(|word| !["and", "or", "with"].contains(word));
            thing && second - first >= 2 && words.get(*first) != words.get(*second) && *second + 1 < words.len()
        }
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::{Task, of_request};

    #[test]
    fn the_wording_decides() {
        for (text, task) in [
            ("a dog in the snow", Task::SemanticSearch),
            ("sunset over the sea, golden light", Task::SemanticSearch),
            ("no parking sign", Task::SemanticSearch),
            ("black and white portrait", Task::SemanticSearch),
            ("three dogs on a beach", Task::Counting),
            ("how many chairs are there", Task::Counting),
            ("cup left of laptop", Task::Spatial),
            ("street without cars", Task::Negation),
            ("a table with no plates", Task::Negation),
            ("red car and blue truck", Task::Compositional),
            ("a sign that says \"open\"", Task::TextReading),
        ] {
            assert_eq!(of_request(text), task, "{text}");
        }
    }

    #[test]
    fn every_unsuitable_task_says_why() {
        for task in [Task::Counting, Task::Spatial, Task::Compositional, Task::Negation, Task::TextReading] {
            assert!(!task.clip_suitable());
            assert!(task.note().is_some_and(|note| note.contains("CLIP")));
        }
    }
}
