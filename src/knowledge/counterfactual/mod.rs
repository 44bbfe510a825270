//! A request's counterfactuals: the same words with the one thing changed that CLIP is said not to see. If CLIP saw it,
//! request and counterfactual would score differently on the same image.

mod change;
mod phrase;
mod words;

use serde::Serialize;

use super::topics::Topic;
pub use change::split_negation;
pub(in crate::knowledge) use phrase::with_right_articles;

/// What was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// Left for right, above for below.
    SideSwapped,
    /// Subject and object of a relation in space swapped.
    ThingsSwapped,
    /// Attributes of two things swapped.
    AttributesSwapped,
    /// Who does it and to whom swapped.
    RolesSwapped,
    /// Another number.
    CountChanged,
    /// "without" became "with".
    NegationDropped,
    /// Other words in the picture.
    TextReplaced,
}

impl Change {
    /// As in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::SideSwapped => "side_swapped",
            Self::ThingsSwapped => "things_swapped",
            Self::AttributesSwapped => "attributes_swapped",
            Self::RolesSwapped => "roles_swapped",
            Self::CountChanged => "count_changed",
            Self::NegationDropped => "negation_dropped",
            Self::TextReplaced => "text_replaced",
        }
    }

    /// For people: what makes the second text another one.
    pub fn in_words(self) -> &'static str {
        match self {
            Self::SideSwapped => "the side swapped",
            Self::ThingsSwapped => "the two things swapped",
            Self::AttributesSwapped => "the attributes swapped",
            Self::RolesSwapped => "the roles swapped",
            Self::CountChanged => "another number",
            Self::NegationDropped => "the negation dropped",
            Self::TextReplaced => "other words to read",
        }
    }
}

/// A changed request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Counterfactual {
    /// What was changed.
    pub change: Change,
    /// The text.
    pub text: String,
}

/// A request as a statement, and what it could be mistaken for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Contrast {
    /// The request as a caption would say it.
    pub statement: String,
    /// Changed statements, the plainest first; never empty.
    pub counterfactuals: Vec<Counterfactual>,
}

/// Why there is no counterfactual.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    /// The topic is none that lives from a word that can be changed.
    #[error("nothing in this request can be turned into its opposite")]
    NothingToChange,
    /// No side or order in space with an opposite was found.
    #[error("no relation with an opposite was found in the request")]
    NoRelation,
    /// No two attributes with a thing each, and no verb between two things.
    #[error("neither two things with an attribute each nor a verb between two things was found in the request")]
    NoBinding,
    /// No number before a thing.
    #[error("no number before a thing was found in the request")]
    NoCount,
    /// No negation.
    #[error("no negation was found in the request")]
    NoNegation,
    /// No quoted words.
    #[error("no quoted words were found in the request")]
    NoText,
}

/// The counterfactuals of a request that belong to a topic.
///
/// # Errors
/// Why none could be made; never a guess in its place.
pub fn of(request: &str, topic: Topic) -> Result<Contrast, Why> {
    let request = request.trim().trim_end_matches(['.', '?', '!']);
    let (made, why) = match topic {
        Topic::Counting => return change::count(request).ok_or(Why::NoCount),
        Topic::Spatial => (change::spatial(request), Why::NoRelation),
        Topic::Compositional => (change::binding(request), Why::NoBinding),
        Topic::Negation => (change::negation(request), Why::NoNegation),
        Topic::TextReading => (change::text(request), Why::NoText),
        _ => (Vec::new(), Why::NothingToChange),
    };
    let mut counterfactuals: Vec<Counterfactual> = Vec::new();
    for (change, text) in made {
        if !text.eq_ignore_ascii_case(request) && counterfactuals.iter().all(|other| other.text != text) {
            counterfactuals.push(Counterfactual { change, text });
        }
    }
    if counterfactuals.is_empty() {
        return Err(why);
    }
    Ok(Contrast { statement: request.to_owned(), counterfactuals })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(request: &str, topic: Topic) -> Vec<String> {
        of(request, topic).map_or_else(
            |why| vec![format!("! {why}")],
            |contrast| contrast.counterfactuals.into_iter().map(|c| c.text).collect(),
        )
    }

    #[test]
    fn attributes_change_places() {
        for (request, expected) in [
            ("a red car and a blue truck", "a blue car and a red truck"),
            ("red car and blue truck", "blue car and red truck"),
            ("A wooden chair next to a metal table", "A metal chair next to a wooden table"),
            ("an old man beside a young woman", "a young man beside an old woman"),
            (
                "man in a red shirt next to a woman in a green dress",
                "man in a green shirt next to a woman in a red dress",
            ),
            ("a red and yellow ball on a blue box", "a red and blue ball on a yellow box"),
            ("a blue square and a red star", "a red square and a blue star"),
            ("a black dog and a white cat", "a white dog and a black cat"),
        ] {
            assert_eq!(texts(request, Topic::Compositional)[0], expected, "{request}");
        }
    }

    #[test]
    fn roles_change_places() {
        for (request, expected) in [
            ("dog chasing a cat", "cat chasing a dog"),
            ("a dog is chasing a cat in a garden", "a cat is chasing a dog in a garden"),
            ("the man bites the dog", "the dog bites the man"),
            ("photo of an elephant following a small boy", "photo of a small boy following an elephant"),
            ("a cat being chased by a dog", "a dog being chased by a cat"),
            ("a horse carrying two children", "two children carrying a horse"),
        ] {
            assert_eq!(texts(request, Topic::Compositional)[0], expected, "{request}");
        }
    }

    #[test]
    fn sides_and_things_change_places() {
        for (request, side, things) in [
            ("cup left of laptop", "cup right of laptop", "laptop left of cup"),
            ("a cup to the right of a laptop", "a cup to the left of a laptop", "a laptop to the right of a cup"),
            ("the lamp above the table", "the lamp below the table", "the table above the lamp"),
            (
                "find me pictures of a cat on top of a car",
                "find me pictures of a cat underneath a car",
                "find me pictures of a car on top of a cat",
            ),
            ("a tree behind an old house", "a tree in front of an old house", "an old house behind a tree"),
        ] {
            assert_eq!(texts(request, Topic::Spatial), [side, things], "{request}");
        }
        assert_eq!(texts("logo in the upper left corner", Topic::Spatial), ["logo in the upper right corner"]);
        assert_eq!(texts("person on the left", Topic::Spatial), ["person on the right"]);
        assert_eq!(
            texts("a road between two rows of trees", Topic::Spatial),
            ["! no relation with an opposite was found in the request"]
        );
        assert!(texts("the right outfit for an interview", Topic::Spatial)[0].starts_with('!'));
    }

    #[test]
    fn numbers_change() {
        for (request, expected) in [
            ("three dogs", ["two dogs", "five dogs"]),
            ("Three dogs on a beach", ["Two dogs on a beach", "Five dogs on a beach"]),
            ("4 red chairs", ["3 red chairs", "6 red chairs"]),
            ("two children", ["three children", "four children"]),
            ("only one cup on the table", ["two cups on the table", "three cups on the table"]),
            ("how many chairs are there", ["three chairs", "five chairs"]),
        ] {
            assert_eq!(texts(request, Topic::Counting), expected, "{request}");
        }
        assert_eq!(of("how many chairs are there?", Topic::Counting).unwrap().statement, "two chairs");
        assert!(texts("dogs on a beach", Topic::Counting)[0].starts_with('!'));
        assert!(texts("photo of 2024", Topic::Counting)[0].starts_with('!'));
    }

    #[test]
    fn negations_are_dropped() {
        for (request, expected) in [
            ("a street without cars", "a street with cars"),
            ("a street without any cars", "a street with cars"),
            ("a table with no plates", "a table with plates"),
            ("No cars on the street", "Cars on the street"),
            ("a man who is not wearing a hat", "a man who is wearing a hat"),
            ("the cat isn't on the sofa", "the cat is on the sofa"),
            ("a room that doesn't have windows", "a room that has windows"),
            ("animals except dogs", "animals including dogs"),
            ("a beach, but no people", "a beach, and people"),
            ("there is nobody in the room", "there is somebody in the room"),
        ] {
            assert_eq!(texts(request, Topic::Negation)[0], expected, "{request}");
        }
        assert!(texts("a no parking sign", Topic::Negation)[0].starts_with('!'));
    }

    #[test]
    fn a_request_is_split_at_its_negation() {
        for (request, kept, excluded) in [
            ("a street without cars", "a street", "cars"),
            ("a table with no plates", "a table", "plates"),
            ("animals except dogs", "animals", "dogs"),
            ("a beach, but no people", "a beach", "people"),
        ] {
            assert_eq!(split_negation(request), Some((kept.to_owned(), excluded.to_owned())), "{request}");
        }
        for request in ["no cars", "a street", "the cat isn't on the sofa", "not"] {
            assert_eq!(split_negation(request), None, "{request}");
        }
    }

    #[test]
    fn quoted_words_are_replaced() {
        assert_eq!(texts("a sign that says \"open\"", Topic::TextReading), ["a sign that says \"closed\""]);
        assert_eq!(texts("a sign that says “Main Street”", Topic::TextReading), ["a sign that says “closed”"]);
        assert!(texts("a receipt", Topic::TextReading)[0].starts_with('!'));
    }

    #[test]
    fn odd_requests_give_a_reason_and_no_panic() {
        for topic in super::super::topics::TOPICS {
            for request in [
                "",
                " ",
                "red",
                "without",
                "no",
                "left of",
                "two",
                "\"",
                "three\u{301} ß",
                "雪の中の犬",
                "a",
                "not",
                "5",
            ] {
                if let Ok(contrast) = of(request, topic) {
                    assert!(contrast.counterfactuals.iter().all(|c| c.text != contrast.statement), "{request}");
                }
            }
        }
        assert_eq!(of("a dog in the snow", Topic::Strengths), Err(Why::NothingToChange));
    }
}
