//! Which thing a caller's words mean: its class, which of several ("the left person"), and what a detector cannot check.

use crate::engine::detect::unknown;
use crate::engine::detectors::{asked, class_of};
use crate::error::{Error, Result};
use crate::knowledge::{objects, phrase};
use crate::models::{Detection, Detector};

/// Most characters of a thing's name.
const MOST_CHARACTERS: usize = 200;

/// Which of several things of a class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pick {
    /// Furthest left in the picture.
    Leftmost,
    /// Furthest right.
    Rightmost,
    /// Highest.
    Topmost,
    /// Lowest.
    Lowest,
    /// With the largest box.
    Largest,
    /// With the smallest box.
    Smallest,
}

/// What is said before the thing.
const BEFORE: [(&str, Pick); 20] = [
    ("left", Pick::Leftmost),
    ("leftmost", Pick::Leftmost),
    ("left-most", Pick::Leftmost),
    ("left-hand", Pick::Leftmost),
    ("right", Pick::Rightmost),
    ("rightmost", Pick::Rightmost),
    ("right-most", Pick::Rightmost),
    ("right-hand", Pick::Rightmost),
    ("top", Pick::Topmost),
    ("topmost", Pick::Topmost),
    ("upper", Pick::Topmost),
    ("highest", Pick::Topmost),
    ("bottom", Pick::Lowest),
    ("lower", Pick::Lowest),
    ("lowest", Pick::Lowest),
    ("largest", Pick::Largest),
    ("biggest", Pick::Largest),
    ("bigger", Pick::Largest),
    ("smallest", Pick::Smallest),
    ("smaller", Pick::Smallest),
];

/// What is said after it.
const AFTER: [(&str, Pick); 8] = [
    (" on the left", Pick::Leftmost),
    (" to the left", Pick::Leftmost),
    (" at left", Pick::Leftmost),
    (" on the right", Pick::Rightmost),
    (" to the right", Pick::Rightmost),
    (" at right", Pick::Rightmost),
    (" at the top", Pick::Topmost),
    (" at the bottom", Pick::Lowest),
];

/// A thing that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Position of its class in the detector's labels.
    pub class: usize,
    /// Which of several.
    pub pick: Option<Pick>,
    /// Words that a detector does not see: colours, materials, states.
    pub unchecked: Vec<String>,
}

impl Wanted {
    /// Reads the words for a subject or an object.
    ///
    /// # Errors
    /// They are empty or overlong; the detector does not know the thing.
    pub fn read(name: &'static str, words: &str, detector: &Detector) -> Result<Self> {
        let refuse = |reason: &str| Err(Error::Argument { name, reason: reason.into() });
        if words.trim().is_empty() {
            return refuse("is empty: name a thing, such as `cup`");
        }
        if words.chars().count() > MOST_CHARACTERS {
            return refuse("is too long: name one thing, such as `cup`");
        }
        if detector.is_open_vocabulary() {
            // It looks for all of the words, but for which of several is meant.
            let (thing, pick) = picked(words);
            return class_of(detector, &thing)
                .map(|class| Self { class, pick, unchecked: Vec::new() })
                .ok_or_else(|| unknown(detector, words.trim()));
        }
        Self::find(words, detector.labels()).ok_or_else(|| unknown(detector, words.trim()))
    }

    /// The thing among these labels. The whole of the words comes first: a "hot dog" is no dog.
    fn find(words: &str, labels: &[String]) -> Option<Self> {
        let whole = |words: &str| objects::label_of(words, labels);
        if let Some(class) = whole(words) {
            return Some(Self { class, pick: None, unchecked: Vec::new() });
        }
        let (rest, pick) = picked(words);
        if let Some(class) = whole(&rest) {
            return Some(Self { class, pick, unchecked: Vec::new() });
        }
        let things = phrase::parse(&rest).things;
        let [thing] = things.as_slice() else { return None };
        let class = whole(&thing.head).filter(|_| !thing.attributes.is_empty() && !thing.negated)?;
        Some(Self { class, pick, unchecked: thing.attributes.clone() })
    }

    /// Of these boxes the one that is meant, or all of them.
    pub fn choose(&self, found: &mut Vec<Detection>) {
        let Some(pick) = self.pick else { return };
        let place = |one: &Detection| {
            let (x, y) = one.bounds.centre();
            match pick {
                Pick::Leftmost => x,
                Pick::Rightmost => -x,
                Pick::Topmost => y,
                Pick::Lowest => -y,
                Pick::Largest => -one.bounds.area(),
                Pick::Smallest => one.bounds.area(),
            }
        };
        if let Some(first) = found.iter().min_by(|a, b| place(a).total_cmp(&place(b))).copied() {
            *found = vec![first];
        }
    }
}

/// The thing that the words ask an open-vocabulary detector for.
pub(super) fn thing_of(words: &str) -> String {
    asked(&picked(words).0)
}

/// The words without those that pick one of several.
fn picked(words: &str) -> (String, Option<Pick>) {
    let lower = words.trim().to_lowercase();
    let after = AFTER.iter().find_map(|(tail, pick)| lower.strip_suffix(tail).map(|rest| (rest.to_owned(), *pick)));
    if let Some((rest, pick)) = after {
        return (rest, Some(pick));
    }
    let bare = ["the ", "a ", "an "].iter().find_map(|article| lower.strip_prefix(article)).unwrap_or(&lower);
    match bare.split_once(' ') {
        Some((first, rest)) => match BEFORE.iter().find(|(word, _)| *word == first) {
            Some((_, pick)) => (rest.trim().to_owned(), Some(*pick)),
            None => (lower, None),
        },
        None => (lower, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geometry::XyxyPx;

    fn labels() -> Vec<String> {
        ["person", "dog", "hot dog", "cup", "truck"].map(str::to_owned).to_vec()
    }

    #[test]
    fn words_name_a_class_a_place_and_what_is_not_checked() {
        for (words, class, pick, unchecked) in [
            ("people", 0, None, vec![]),
            ("the left person", 0, Some(Pick::Leftmost), vec![]),
            ("person on the right", 0, Some(Pick::Rightmost), vec![]),
            ("biggest dog", 1, Some(Pick::Largest), vec![]),
            ("hot dog", 2, None, vec![]),
            ("the red cup", 3, None, vec!["red"]),
            ("the lower white mug", 3, Some(Pick::Lowest), vec!["white"]),
        ] {
            let found = Wanted::find(words, &labels()).unwrap_or_else(|| panic!("{words}"));
            let unchecked: Vec<String> = unchecked.into_iter().map(str::to_owned).collect();
            assert_eq!(found, Wanted { class, pick, unchecked }, "{words}");
        }
        for words in ["forklift", "left", "a dog and a cup", "no dog", "fire truck of doom", "\u{0}", "-"] {
            assert_eq!(Wanted::find(words, &labels()), None, "{words}");
        }
    }

    #[test]
    fn one_of_several_is_chosen_by_place_and_size() {
        let at = |x: f32, y: f32, side: f32| Detection {
            class: 0,
            score: 0.5,
            bounds: XyxyPx { x0: x, y0: y, x1: x + side, y1: y + side },
        };
        let all = [at(50.0, 10.0, 20.0), at(10.0, 50.0, 30.0), at(90.0, 90.0, 10.0)];
        for (pick, expected) in [
            (Pick::Leftmost, 1),
            (Pick::Rightmost, 2),
            (Pick::Topmost, 0),
            (Pick::Lowest, 2),
            (Pick::Largest, 1),
            (Pick::Smallest, 2),
        ] {
            let mut found = all.to_vec();
            Wanted { class: 0, pick: Some(pick), unchecked: Vec::new() }.choose(&mut found);
            assert_eq!(found, [all[expected]], "{pick:?}");
        }
        let mut none = Vec::new();
        Wanted { class: 0, pick: Some(Pick::Largest), unchecked: Vec::new() }.choose(&mut none);
        assert!(none.is_empty());
    }
}
