//! What is known of the kinds of things that detectors find, beside their boxes: how tall they are, whether they stand on
//! the ground, what can be inside or on them. For relations that a picture alone does not decide.
//!
//! Heights are usual ones as photos show them, upright and whole, with the spread of their logarithm: 0.15 is "all within a
//! third of it", 0.3 "within a factor of two". They are rough on purpose, and are weighed as such. Where the height in the
//! picture hangs on the view (a table from above, a spoon) there is none. Sources: adults 1.5 to 1.9 m, sitting people and
//! children lower; cars 1.4 to 1.8 m, buses 3.0 to 3.3 m, trucks 2 to 4 m; seats at 0.45 m with backs to 0.9 m; doors of
//! refrigerators 1.4 to 1.9 m.

/// What a kind of thing can carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carries {
    /// Nothing.
    No,
    /// Small things on its surface.
    Small,
    /// People who sit, and small things.
    Seats,
    /// Those who ride it or stand on it.
    Riders,
}

/// What is known of a kind of thing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stature {
    /// COCO's name of the class.
    pub name: &'static str,
    /// Usual height in metres and the spread of its logarithm.
    pub height: Option<(f32, f32)>,
    /// It stands on the ground as a rule.
    pub grounded: bool,
    /// Things can be inside it.
    pub holds: bool,
    /// What can be on it.
    pub carries: Carries,
}

/// What is known of a class, by its label.
pub fn of(label: &str) -> Option<&'static Stature> {
    ALL.iter().find(|stature| stature.name.eq_ignore_ascii_case(label))
}

const fn row(name: &'static str, height: Option<(f32, f32)>, grounded: bool, holds: bool, carries: Carries) -> Stature {
    Stature { name, height, grounded, holds, carries }
}

/// On the ground as a rule.
const GROUND: bool = true;
/// On other things, or in the air.
const LOOSE: bool = false;
/// Things can be inside it.
const HOLDS: bool = true;
/// Nothing is inside it.
const FULL: bool = false;

use Carries::{No, Riders, Seats, Small};

const ALL: &[Stature] = &[
    row("person", Some((1.6, 0.25)), GROUND, FULL, No),
    row("bicycle", Some((1.05, 0.15)), GROUND, FULL, Riders),
    row("car", Some((1.5, 0.12)), GROUND, HOLDS, No),
    row("motorcycle", Some((1.15, 0.15)), GROUND, FULL, Riders),
    row("airplane", None, LOOSE, HOLDS, No),
    row("bus", Some((3.1, 0.15)), GROUND, HOLDS, No),
    row("train", Some((3.8, 0.2)), GROUND, HOLDS, No),
    row("truck", Some((2.7, 0.35)), GROUND, HOLDS, No),
    row("boat", None, LOOSE, HOLDS, Riders),
    row("traffic light", Some((0.9, 0.3)), LOOSE, FULL, No),
    row("fire hydrant", Some((0.75, 0.15)), GROUND, FULL, No),
    row("stop sign", Some((0.75, 0.15)), LOOSE, FULL, No),
    row("parking meter", Some((1.4, 0.2)), GROUND, FULL, No),
    row("bench", Some((0.85, 0.2)), GROUND, FULL, Seats),
    row("bird", None, LOOSE, FULL, No),
    row("cat", Some((0.3, 0.35)), LOOSE, FULL, No),
    row("dog", Some((0.55, 0.4)), GROUND, FULL, No),
    row("horse", Some((1.9, 0.2)), GROUND, FULL, Riders),
    row("sheep", Some((0.9, 0.25)), GROUND, FULL, No),
    row("cow", Some((1.4, 0.2)), GROUND, FULL, No),
    row("elephant", Some((2.7, 0.3)), GROUND, FULL, Riders),
    row("bear", Some((1.1, 0.4)), GROUND, FULL, No),
    row("zebra", Some((1.5, 0.2)), GROUND, FULL, No),
    row("giraffe", Some((4.5, 0.25)), GROUND, FULL, No),
    row("backpack", Some((0.45, 0.25)), LOOSE, HOLDS, No),
    row("umbrella", None, LOOSE, FULL, No),
    row("handbag", Some((0.3, 0.35)), LOOSE, HOLDS, No),
    row("tie", Some((0.45, 0.3)), LOOSE, FULL, No),
    row("suitcase", Some((0.6, 0.3)), GROUND, HOLDS, Small),
    row("frisbee", None, LOOSE, FULL, No),
    row("skis", None, LOOSE, FULL, Riders),
    row("snowboard", None, LOOSE, FULL, Riders),
    row("sports ball", None, LOOSE, FULL, No),
    row("kite", None, LOOSE, FULL, No),
    row("baseball bat", None, LOOSE, FULL, No),
    row("baseball glove", None, LOOSE, FULL, No),
    row("skateboard", None, LOOSE, FULL, Riders),
    row("surfboard", None, LOOSE, FULL, Riders),
    row("tennis racket", None, LOOSE, FULL, No),
    row("bottle", Some((0.25, 0.25)), LOOSE, HOLDS, No),
    row("wine glass", Some((0.2, 0.15)), LOOSE, HOLDS, No),
    row("cup", Some((0.1, 0.25)), LOOSE, HOLDS, No),
    row("fork", None, LOOSE, FULL, No),
    row("knife", None, LOOSE, FULL, No),
    row("spoon", None, LOOSE, FULL, No),
    row("bowl", None, LOOSE, HOLDS, No),
    row("banana", None, LOOSE, FULL, No),
    row("apple", Some((0.075, 0.15)), LOOSE, FULL, No),
    row("sandwich", None, LOOSE, FULL, Small),
    row("orange", Some((0.075, 0.15)), LOOSE, FULL, No),
    row("broccoli", None, LOOSE, FULL, No),
    row("carrot", None, LOOSE, FULL, No),
    row("hot dog", None, LOOSE, FULL, No),
    row("pizza", None, LOOSE, FULL, Small),
    row("donut", None, LOOSE, FULL, No),
    row("cake", None, LOOSE, FULL, Small),
    row("chair", Some((0.9, 0.2)), GROUND, FULL, Seats),
    row("couch", Some((0.85, 0.2)), GROUND, FULL, Seats),
    row("potted plant", None, LOOSE, FULL, No),
    row("bed", None, GROUND, FULL, Seats),
    row("dining table", Some((0.75, 0.3)), GROUND, FULL, Small),
    row("toilet", Some((0.75, 0.25)), GROUND, HOLDS, Seats),
    row("tv", Some((0.55, 0.4)), LOOSE, FULL, Small),
    row("laptop", None, LOOSE, FULL, Small),
    row("mouse", None, LOOSE, FULL, No),
    row("remote", None, LOOSE, FULL, No),
    row("keyboard", None, LOOSE, FULL, Small),
    row("cell phone", None, LOOSE, FULL, No),
    row("microwave", Some((0.3, 0.2)), LOOSE, HOLDS, Small),
    row("oven", Some((0.85, 0.25)), GROUND, HOLDS, Small),
    row("toaster", Some((0.2, 0.2)), LOOSE, HOLDS, No),
    row("sink", None, LOOSE, HOLDS, No),
    row("refrigerator", Some((1.7, 0.2)), GROUND, HOLDS, Small),
    row("book", None, LOOSE, FULL, Small),
    row("clock", None, LOOSE, FULL, No),
    row("vase", Some((0.3, 0.4)), LOOSE, HOLDS, No),
    row("scissors", None, LOOSE, FULL, No),
    row("teddy bear", Some((0.35, 0.4)), LOOSE, FULL, No),
    row("hair drier", None, LOOSE, FULL, No),
    row("toothbrush", None, LOOSE, FULL, No),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::knowledge::objects;

    #[test]
    fn every_class_of_coco_has_one_row_of_plausible_values() {
        let labels: Vec<String> = ALL.iter().map(|stature| stature.name.to_owned()).collect();
        assert_eq!(labels.len(), 80);
        for (at, stature) in ALL.iter().enumerate() {
            assert_eq!(objects::label_of(stature.name, &labels), Some(at), "{}", stature.name);
            if let Some((metres, spread)) = stature.height {
                assert!((0.05..5.0).contains(&metres) && (0.1..0.5).contains(&spread), "{}", stature.name);
            }
        }
        assert_eq!(of("Person").map(|stature| stature.grounded), Some(true));
        assert_eq!(of("circle"), None);
    }
}
