//! What an attribute could be instead: the words that it is weighed against when a model is asked which of them a thing has.

/// How an attribute is checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Test {
    /// Against other words of its kind, of which exactly one is true of a thing: this word, and all of them.
    Against(&'static str, &'static [&'static str]),
    /// Against other things of its kind in the picture: larger than most, or smaller.
    Size {
        /// "large", not "small".
        large: bool,
    },
}

/// The basic colour terms of English (Berlin and Kay 1969).
const COLOURS: &[&str] =
    &["red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white", "grey"];

/// Shades and the colour that they are taken for.
const SHADES: [(&str, &str); 36] = [
    ("gray", "grey"),
    ("silver", "grey"),
    ("violet", "purple"),
    ("indigo", "purple"),
    ("lavender", "purple"),
    ("lilac", "purple"),
    ("mauve", "purple"),
    ("magenta", "pink"),
    ("salmon", "pink"),
    ("coral", "orange"),
    ("peach", "orange"),
    ("crimson", "red"),
    ("scarlet", "red"),
    ("maroon", "red"),
    ("burgundy", "red"),
    ("navy", "blue"),
    ("turquoise", "blue"),
    ("teal", "green"),
    ("cyan", "blue"),
    ("olive", "green"),
    ("khaki", "green"),
    ("beige", "brown"),
    ("tan", "brown"),
    ("bronze", "brown"),
    ("copper", "brown"),
    ("brunette", "brown"),
    ("auburn", "brown"),
    ("golden", "yellow"),
    ("gold", "yellow"),
    ("blond", "yellow"),
    ("blonde", "yellow"),
    ("cream", "white"),
    ("ivory", "white"),
    ("reddish", "red"),
    ("bluish", "blue"),
    ("greenish", "green"),
];

/// Words of which one excludes the others.
const KINDS: [&[&str]; 22] = [
    COLOURS,
    &["wooden", "metal", "plastic", "glass", "leather", "stone", "paper", "ceramic", "brick"],
    &["striped", "spotted", "checkered", "floral", "plain"],
    &["open", "closed"],
    &["empty", "full"],
    &["wet", "dry"],
    &["old", "new"],
    &["young", "elderly"],
    &["clean", "dirty"],
    &["round", "square", "rectangular", "triangular"],
    &["smiling", "frowning"],
    &["happy", "sad"],
    &["sleeping", "awake"],
    &["sitting", "standing", "lying"],
    &["broken", "intact"],
    &["lit", "unlit"],
    &["folded", "unfolded"],
    &["sliced", "whole"],
    &["curly", "straight"],
    &["bearded", "clean-shaven"],
    &["fluffy", "smooth"],
    &["modern", "antique"],
];

/// Words that mean a word of [`KINDS`].
const ALIKE: [(&str, &str); 12] = [
    ("wood", "wooden"),
    ("metallic", "metal"),
    ("steel", "metal"),
    ("iron", "metal"),
    ("dotted", "spotted"),
    ("plaid", "checkered"),
    ("asleep", "sleeping"),
    ("vintage", "antique"),
    ("furry", "fluffy"),
    ("fuzzy", "fluffy"),
    ("circular", "round"),
    ("cracked", "broken"),
];

/// What detectors call by one name and people by several: of one kind of thing, words of which one is true.
const NARROWER: [&[&str]; 5] = [
    &["man", "woman", "boy", "girl", "baby"],
    &["pigeon", "seagull", "duck", "goose", "swan", "parrot", "sparrow", "chicken"],
    &["ship", "sailboat", "canoe", "kayak", "yacht", "ferry"],
    &["taxi", "sedan", "suv", "hatchback"],
    &["lamb", "ram", "ewe"],
];

/// The words that a narrower name is weighed against, itself among them: of "woman" those for persons; `None` for words that
/// nothing is known of.
pub fn narrower(name: &str) -> Option<&'static [&'static str]> {
    NARROWER.into_iter().find(|words| words.contains(&name))
}

/// How an attribute can be checked; `None` for words that nothing is known of.
pub fn test(attribute: &str) -> Option<Test> {
    if ["big", "large", "huge", "giant", "tall", "bigger", "larger", "biggest", "largest"].contains(&attribute) {
        return Some(Test::Size { large: true });
    }
    if ["small", "little", "tiny", "miniature", "short", "smaller", "smallest"].contains(&attribute) {
        return Some(Test::Size { large: false });
    }
    let meant = SHADES.iter().chain(&ALIKE).find(|(word, _)| *word == attribute).map_or(attribute, |(_, meant)| meant);
    KINDS.iter().find_map(|kind| kind.iter().find(|word| **word == meant).map(|word| Test::Against(word, kind)))
}

#[cfg(test)]
mod tests {
    use super::{ALIKE, KINDS, SHADES, Test, narrower, test};

    #[test]
    fn attributes_are_weighed_against_their_kind() {
        assert!(matches!(test("red"), Some(Test::Against("red", colours)) if colours.len() == 11));
        assert!(matches!(test("navy"), Some(Test::Against("blue", _))));
        assert_eq!(test("tiny"), Some(Test::Size { large: false }));
        assert_eq!(test("wet"), Some(Test::Against("wet", &["wet", "dry"])));
        assert_eq!(test("flying"), None);
    }

    #[test]
    fn narrower_names_are_weighed_against_their_like() {
        assert!(narrower("woman").is_some_and(|words| words.contains(&"man")));
        assert_eq!(narrower("person"), None);
    }

    #[test]
    fn every_word_stands_for_one_kind() {
        let mut all: Vec<&str> = KINDS.concat();
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
        for (word, meant) in SHADES.iter().chain(&ALIKE) {
            assert!(test(word) == test(meant) && test(word).is_some(), "{word}");
        }
    }
}
