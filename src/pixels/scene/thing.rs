//! The vocabulary of scenes: shapes, colours, and things that have one of each.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::random::Random;

/// The outline of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names say it")]
pub enum Shape {
    Circle,
    Square,
    Triangle,
    Star,
    Cross,
    Heart,
    Ring,
    Diamond,
}

impl Shape {
    /// Every shape.
    pub const ALL: [Self; 8] =
        [Self::Circle, Self::Square, Self::Triangle, Self::Star, Self::Cross, Self::Heart, Self::Ring, Self::Diamond];

    /// Its name: `circle`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Circle => "circle",
            Self::Square => "square",
            Self::Triangle => "triangle",
            Self::Star => "star",
            Self::Cross => "cross",
            Self::Heart => "heart",
            Self::Ring => "ring",
            Self::Diamond => "diamond",
        }
    }

    /// The name of several: `circles`.
    pub fn plural(self) -> &'static str {
        match self {
            Self::Circle => "circles",
            Self::Square => "squares",
            Self::Triangle => "triangles",
            Self::Star => "stars",
            Self::Cross => "crosses",
            Self::Heart => "hearts",
            Self::Ring => "rings",
            Self::Diamond => "diamonds",
        }
    }
}

/// The colour of an object, by name; the drawn colour varies a little around it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names say it")]
pub enum Colour {
    Red,
    Orange,
    Yellow,
    Green,
    Blue,
    Purple,
    Pink,
    Black,
}

impl Colour {
    /// Every colour.
    pub const ALL: [Self; 8] =
        [Self::Red, Self::Orange, Self::Yellow, Self::Green, Self::Blue, Self::Purple, Self::Pink, Self::Black];

    /// Its name: `red`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Red => "red",
            Self::Orange => "orange",
            Self::Yellow => "yellow",
            Self::Green => "green",
            Self::Blue => "blue",
            Self::Purple => "purple",
            Self::Pink => "pink",
            Self::Black => "black",
        }
    }

    /// The middle of its range, sRGB 0 to 255.
    pub(super) fn middle(self) -> [f32; 3] {
        match self {
            Self::Red => [215.0, 40.0, 45.0],
            Self::Orange => [242.0, 132.0, 28.0],
            Self::Yellow => [246.0, 208.0, 40.0],
            Self::Green => [52.0, 160.0, 82.0],
            Self::Blue => [42.0, 102.0, 214.0],
            Self::Purple => [126.0, 62.0, 172.0],
            Self::Pink => [242.0, 108.0, 170.0],
            Self::Black => [34.0, 34.0, 40.0],
        }
    }
}

/// What an object is: `red circle`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Thing {
    /// Its colour.
    pub colour: Colour,
    /// Its shape.
    pub shape: Shape,
}

impl Thing {
    /// A thing of this colour and shape.
    pub fn new(colour: Colour, shape: Shape) -> Self {
        Self { colour, shape }
    }

    /// Any thing, each equally likely.
    pub fn random(random: &mut Random) -> Self {
        Self { colour: random.pick(&Colour::ALL), shape: random.pick(&Shape::ALL) }
    }

    /// Every colour of every shape.
    pub fn all() -> impl Iterator<Item = Self> {
        Colour::ALL.into_iter().flat_map(|colour| Shape::ALL.into_iter().map(move |shape| Self { colour, shape }))
    }
}

impl fmt::Display for Thing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.colour.name(), self.shape.name())
    }
}
