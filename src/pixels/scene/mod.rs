//! Rendered scenes of coloured shapes with their truth: the starter models learn from them, and the demo shows them.
//!
//! One renderer for training (`clip-aware scenes` feeds `tools/`) and for measuring, so that there is one distribution.
//! A scene is laid out in unit coordinates (0 to 1, origin top-left) from its seed alone and can be drawn at any size.
//! Layout uses only integers and IEEE arithmetic; outlines use `sin` and `cos`, so that edge pixels may differ by a
//! rounding step between platforms, never more.

use image::RgbImage;
use serde::{Deserialize, Serialize};

mod background;
mod caption;
mod outline;
mod random;
mod thing;

pub use background::{Background, Pattern};
pub use caption::{CaptionStyle, NUMBER_WORDS, counted, with_article};
pub use random::{Random, seed_of};
pub use thing::{Colour, Shape, Thing};

/// Most objects in a scene.
pub const MAX_OBJECTS: usize = 9;
/// Free space between the boxes of two objects, as a fraction of the side.
const GAP: f32 = 0.015;
/// Free space between a box and the edge, as a fraction of the side.
const MARGIN: f32 = 0.02;
/// Largest turn either way, degrees: a square must not become a diamond.
const MAX_TURN: f32 = 18.0;
/// A relation holds when the box centres are at least this far apart along its axis, as a fraction of the side.
pub const RELATION_MARGIN: f32 = 0.25;
/// And when the offset along the other axis is at most this part of that distance.
pub const RELATION_SLOPE: f32 = 0.6;

/// How the first object of a scene stands to the second; from their box centres, see [`RELATION_MARGIN`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names say it")]
pub enum Relation {
    LeftOf,
    RightOf,
    Above,
    Below,
}

impl Relation {
    /// Every relation.
    pub const ALL: [Self; 4] = [Self::LeftOf, Self::RightOf, Self::Above, Self::Below];

    /// The relation in words: `left of`.
    pub fn words(self) -> &'static str {
        match self {
            Self::LeftOf => "left of",
            Self::RightOf => "right of",
            Self::Above => "above",
            Self::Below => "below",
        }
    }

    /// The relation between two box centres in unit coordinates, where one holds clearly.
    pub fn between(subject: [f32; 2], object: [f32; 2]) -> Option<Self> {
        let [across, down] = [object[0] - subject[0], object[1] - subject[1]];
        let holds =
            |along: f32, aside: f32| along.abs() >= RELATION_MARGIN && aside.abs() <= RELATION_SLOPE * along.abs();
        if holds(across, down) {
            Some(if across > 0.0 { Self::LeftOf } else { Self::RightOf })
        } else if holds(down, across) {
            Some(if down > 0.0 { Self::Above } else { Self::Below })
        } else {
            None
        }
    }
}

/// What a scene holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SceneSpec {
    /// These things, anywhere; at most [`MAX_OBJECTS`] are drawn.
    Things(Vec<Thing>),
    /// Two things, the first in this relation to the second.
    Related {
        /// The first object.
        subject: Thing,
        /// How it stands to the second.
        relation: Relation,
        /// The second object.
        object: Thing,
    },
}

impl SceneSpec {
    /// One thing.
    pub fn single(thing: Thing) -> Self {
        Self::Things(vec![thing])
    }

    /// `count` times the same thing.
    pub fn counted(thing: Thing, count: usize) -> Self {
        Self::Things(vec![thing; count])
    }

    /// `count` things, each drawn on its own.
    pub fn mixed(count: usize, random: &mut Random) -> Self {
        Self::Things((0..count).map(|_| Thing::random(random)).collect())
    }

    /// `count` things, none of them of this shape.
    pub fn without(shape: Shape, count: usize, random: &mut Random) -> Self {
        let other = |random: &mut Random| {
            loop {
                let thing = Thing::random(random);
                if thing.shape != shape {
                    return thing;
                }
            }
        };
        Self::Things((0..count).map(|_| other(random)).collect())
    }

    /// Two things that share neither colour nor shape, so that an exchange of their colours changes the scene.
    pub fn distinct_pair(random: &mut Random) -> [Thing; 2] {
        let first = Thing::random(random);
        loop {
            let second = Thing::random(random);
            if second.colour != first.colour && second.shape != first.shape {
                return [first, second];
            }
        }
    }
}

/// Exchanges the colours of two things: red circle, blue square -> blue circle, red square.
pub fn swap_colours([first, second]: [Thing; 2]) -> [Thing; 2] {
    [Thing::new(second.colour, first.shape), Thing::new(first.colour, second.shape)]
}

/// One drawn shape.
#[derive(Debug, Clone, PartialEq)]
pub struct Object {
    /// Its colour and shape.
    pub thing: Thing,
    /// Where the outline's own origin lies, unit coordinates.
    pub centre: [f32; 2],
    /// Half its unturned extent, as a fraction of the side.
    pub radius: f32,
    /// Turn, degrees clockwise.
    pub turn: f32,
    /// sRGB at its top and at its bottom; the fill runs from one to the other.
    fill: [[u8; 3]; 2],
}

impl Object {
    /// The box of the drawn pixels at this side length: `[x0, y0, x1, y1]` in pixels, origin top-left, x1 and y1
    /// exclusive.
    pub fn bounds(&self, side: u32) -> [f32; 4] {
        outline::bounds(self, side as f32)
    }

    /// The centre of the box in unit coordinates.
    pub fn box_centre(&self) -> [f32; 2] {
        let [x0, y0, x1, y1] = outline::bounds(self, 1.0);
        [f32::midpoint(x0, x1), f32::midpoint(y0, y1)]
    }
}

/// A scene: objects on a background, laid out in unit coordinates.
#[derive(Debug, Clone, PartialEq)]
pub struct Scene {
    /// What it was laid out from, together with its [`SceneSpec`].
    pub seed: u64,
    /// In the order of the spec. Their boxes do not overlap.
    pub objects: Vec<Object>,
    /// What lies behind them.
    pub background: Background,
}

impl Scene {
    /// Lays out a scene; the same spec and seed give the same scene.
    pub fn new(spec: &SceneSpec, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let (things, relation) = match spec {
            SceneSpec::Things(things) => (things.clone(), None),
            SceneSpec::Related { subject, relation, object } => (vec![*subject, *object], Some(*relation)),
        };
        let things = things.get(..MAX_OBJECTS).unwrap_or(&things);
        // A black shape would vanish on a dark background.
        let may_be_dark = things.iter().all(|thing| thing.colour != Colour::Black);
        let background = Background::random(may_be_dark, &mut random);
        let objects = lay_out(things, relation, &mut random);
        Self { seed, objects, background }
    }

    /// Draws the scene, anti-aliased. Shape: `side` x `side` pixels.
    pub fn render(&self, side: u32) -> RgbImage {
        outline::render(self, side)
    }

    /// What the objects are.
    pub fn things(&self) -> impl Iterator<Item = Thing> {
        self.objects.iter().map(|object| object.thing)
    }

    /// How the first object stands to the second, where there are two and it is clear.
    pub fn relation(&self) -> Option<Relation> {
        let [subject, object, ..] = self.objects.as_slice() else { return None };
        Relation::between(subject.box_centre(), object.box_centre())
    }
}

/// Range of the radius for a number of objects, as a fraction of the side: large enough to tell shapes apart at 64
/// pixels, small enough to find room.
fn radius_range(count: usize) -> (f32, f32) {
    match count {
        0 | 1 => (0.22, 0.42),
        2 => (0.17, 0.26),
        3 => (0.15, 0.22),
        4 => (0.13, 0.19),
        5 | 6 => (0.11, 0.16),
        _ => (0.09, 0.13),
    }
}

/// Places objects one by one where they fit; when a scene does not come out, all objects are drawn again a little
/// smaller, so that it ends for every spec.
fn lay_out(things: &[Thing], relation: Option<Relation>, random: &mut Random) -> Vec<Object> {
    const TRIES_PER_OBJECT: usize = 40;
    const SHRINK: f32 = 0.98;
    let (low, high) = radius_range(things.len());
    let mut scale = 1.0;
    loop {
        let mut placed: Vec<Object> = Vec::with_capacity(things.len());
        for &thing in things {
            let fitting = (0..TRIES_PER_OBJECT).find_map(|_| {
                let object = place(thing, scale * low, scale * high, random);
                placed.iter().all(|other| apart(&object, other)).then_some(object)
            });
            placed.extend(fitting);
        }
        let complete = placed.len() == things.len();
        let related = || match (relation, placed.as_slice()) {
            (Some(relation), [subject, object]) => {
                Relation::between(subject.box_centre(), object.box_centre()) == Some(relation)
            }
            _ => true,
        };
        if complete && related() {
            return placed;
        }
        if !complete {
            scale *= SHRINK;
        }
    }
}

/// An object of random size, place, turn and shade, wholly inside the picture.
fn place(thing: Thing, low: f32, high: f32, random: &mut Random) -> Object {
    const SHADE: f32 = 12.0;
    const LIGHT: f32 = 0.10;
    let radius = random.between(low, high);
    let turn = random.between(-MAX_TURN, MAX_TURN);
    let middle = thing.colour.middle().map(|channel| channel + random.between(-SHADE, SHADE));
    let lit = middle.map(|channel| (channel + (255.0 - channel) * LIGHT).clamp(0.0, 255.0) as u8);
    let shaded = middle.map(|channel| (channel * (1.0 - LIGHT)).clamp(0.0, 255.0) as u8);
    let mut object = Object { thing, centre: [0.0, 0.0], radius, turn, fill: [lit, shaded] };
    let [x0, y0, x1, y1] = outline::bounds(&object, 1.0);
    object.centre = [random.between(MARGIN - x0, 1.0 - MARGIN - x1), random.between(MARGIN - y0, 1.0 - MARGIN - y1)];
    object
}

/// Whether the boxes leave [`GAP`] between them.
fn apart(first: &Object, second: &Object) -> bool {
    let [ax0, ay0, ax1, ay1] = outline::bounds(first, 1.0);
    let [bx0, by0, bx1, by1] = outline::bounds(second, 1.0);
    ax1 + GAP <= bx0 || bx1 + GAP <= ax0 || ay1 + GAP <= by0 || by1 + GAP <= ay0
}

#[cfg(test)]
mod tests;
