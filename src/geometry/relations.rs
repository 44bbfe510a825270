//! How two boxes stand to each other, as the viewer sees the picture: definitions of each relation, and the probability that
//! it holds given how far a detector's boxes may be off ([`super::jitter`]).
//!
//! A relation is a yes or no of two exact boxes. Its confidence is the share of the noise's draws under which it holds, so
//! the thresholds below say what the words mean, and nothing has to be tuned to a detector. Each is scale-free: a picture
//! at twice the size has the same relations.
//!
//! YOLOX-nano on the 80 photos of ../shared/photos/coco (`tools/relate_study.py agree`): of 1,470 relations that were said to
//! hold (confidence 0.65 and more) in 582 pairs, 96.2 % hold between the annotated boxes of the same things, and of those
//! that hold 93.5 % were said. Left of 98.0 % right (97.1 % found), right of 98.6 (98.6), above 99.0 (96.1), below 98.4 (96.0),
//! far from 98.2 (91.7), larger 96.8 (90.0), smaller 93.0 (89.2), next to 92.9 (89.7), overlapping 91.6 (93.0), on and
//! supports 27 of 28, inside and contains 4 of 5. Confidences of 0.95 and more hold in 99.4 % (mean 0.996), from 0.8 to 0.95 in
//! 86.5 %, from 0.65 to 0.8 in 57 %; the expected calibration error is 0.011. There is no truth for depth, see `relations/depth.rs`.

use std::f64::consts::SQRT_2;

use super::XyxyPx;
use super::jitter::{self, Rect};

mod depth;

/// Directions are eight sectors of 45 degrees, as in Yao et al. 2018 ("Exploring visual relationship for image captioning",
/// relations 4 to 11) and Frank 1996: "left" takes the sector around the axis and its two neighbours, 67.5 degrees each way.
/// This is the tangent of that. In Logan and Sadler 1996 people rate "left of" falling evenly with the angle, as good
/// near the axis, acceptable beyond the diagonal and bad near the perpendicular.
const SECTOR: f64 = 1.0 + SQRT_2;
/// Boxes that cover more than this share of the narrower one's extent along an axis are not in order along it: the
/// centre of the narrower one then lies in the extent of the other ("the cup left of the table" stands beside it).
const ORDERED: f64 = 0.5;
/// Share of a box that must lie in the other for "inside": a fifth of it may show above the rim, as flowers in a vase.
const INSIDE: f64 = 0.8;
/// Share of the smaller box that must lie in the other for "overlapping". Boxes of things side by side touch by chance: the
/// scale of an edge's error is some 5 % of the side, and a tenth is out of its usual reach.
const OVERLAPPING: f64 = 0.1;
/// How far the bottom of what rests on something may lie above that thing's top, or below its lowest place, share of its
/// own height: an edge's error once more.
const SUPPORT_SLACK: f64 = 0.05;
/// Lowest place at which something rests on a thing, share of its height from the top: below are legs, wheels and floor.
/// From above, a table's or bed's surface fills its box down to about there.
const SUPPORT_DEPTH: f64 = 0.75;
/// Highest place at which the box of somebody who sits on something ends; who stands behind it ends higher, at its back.
const SEAT_DEPTH: f64 = 0.3;
/// "Next to": the gap takes no further thing of the smaller one's size.
const NEXT_GAP: f64 = 1.0;
/// "Far from": the gap takes this many things of the larger one's size ...
const FAR_GAP: f64 = 3.0;
/// ... and is this share of the picture's diagonal: far within what the viewer sees. Between the two distances there is
/// room in which neither word fits.
const FAR_SHARE: f64 = 0.25;
/// Ratio of areas from which one box is the larger: 1.2 in area is a tenth in each direction, what an edge's error makes.
const LARGER: f64 = 1.2;
/// A relation of a subject to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names say it; the definitions are in `relations::holds`")]
pub enum Relation {
    LeftOf,
    RightOf,
    Above,
    Below,
    Inside,
    Contains,
    On,
    Supports,
    Overlapping,
    NextTo,
    FarFrom,
    Larger,
    Smaller,
    Nearer,
    Farther,
    InFrontOf,
    Behind,
}

use Relation::{
    Above, Behind, Below, Contains, FarFrom, Farther, InFrontOf, Inside, Larger, LeftOf, Nearer, NextTo, On,
    Overlapping, RightOf, Smaller, Supports,
};

impl Relation {
    /// Every relation, in the order in which they are told.
    pub const ALL: [Self; 17] = [
        LeftOf,
        RightOf,
        Above,
        Below,
        On,
        Inside,
        Supports,
        Contains,
        InFrontOf,
        Behind,
        Overlapping,
        NextTo,
        FarFrom,
        Larger,
        Smaller,
        Nearer,
        Farther,
    ];

    /// In words: `left of`.
    pub fn words(self) -> &'static str {
        match self {
            LeftOf => "left of",
            RightOf => "right of",
            Above => "above",
            Below => "below",
            Inside => "inside",
            Contains => "contains",
            On => "on",
            Supports => "supports",
            Overlapping => "overlapping",
            NextTo => "next to",
            FarFrom => "far from",
            Larger => "larger",
            Smaller => "smaller",
            Nearer => "nearer",
            Farther => "farther",
            InFrontOf => "in front of",
            Behind => "behind",
        }
    }

    /// What the object is to the subject.
    #[must_use]
    pub fn inverse(self) -> Self {
        match self {
            LeftOf => RightOf,
            RightOf => LeftOf,
            Above => Below,
            Below => Above,
            Inside => Contains,
            Contains => Inside,
            On => Supports,
            Supports => On,
            Larger => Smaller,
            Smaller => Larger,
            Nearer => Farther,
            Farther => Nearer,
            InFrontOf => Behind,
            Behind => InFrontOf,
            Overlapping | NextTo | FarFrom => self,
        }
    }

    /// What it is in a mirror.
    #[must_use]
    pub fn mirrored(self) -> Self {
        match self {
            LeftOf => RightOf,
            RightOf => LeftOf,
            other => other,
        }
    }

    /// Where they are in the picture: left of, right of, above, below.
    pub fn is_direction(self) -> bool {
        matches!(self, LeftOf | RightOf | Above | Below)
    }

    /// It speaks of depth, which a box does not show.
    pub fn is_depth(self) -> bool {
        matches!(self, Nearer | Farther | InFrontOf | Behind)
    }
}

/// What a kind of thing can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Holds {
    /// Nothing is known of the kind: boxes alone decide.
    #[default]
    Unknown,
    /// It is a container or vehicle.
    Yes,
    /// Nothing is ever inside it.
    No,
}

/// What a kind of thing can carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Carries {
    /// Nothing is known of the kind: boxes alone decide.
    #[default]
    Unknown,
    /// Nothing is on it.
    No,
    /// A surface for small things: a table, an oven. Who stands does not stand on it but behind it.
    Small,
    /// A seat: small things, and people who sit.
    Seats,
    /// Something that is ridden or stood on: a horse, a surfboard.
    Riders,
}

/// What is known of a kind of thing beside its box.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Kind {
    /// Usual height in metres and its spread (a standard deviation of its logarithm), where height says something.
    pub height: Option<(f32, f32)>,
    /// It stands on the ground as a rule.
    pub grounded: bool,
    /// What it holds.
    pub holds: Holds,
    /// What it carries.
    pub carries: Carries,
}

/// A thing in a picture.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Placed {
    /// Its box in pixels of the picture.
    pub bounds: XyxyPx,
    /// Scale of its edges' errors, share of the box's sides; see [`jitter::scale`].
    pub jitter: f32,
    /// What is known of its kind.
    pub kind: Kind,
}

/// The picture: width and height, pixels.
pub type Canvas = (f32, f32);

/// A relation and how sure it is.
#[derive(Debug, Clone, PartialEq)]
pub enum Judged {
    /// The probability that it holds, 0 to 1, both boxes being of what they are said to be of.
    Probability(f32),
    /// Boxes cannot tell, and why.
    Undecided(&'static str),
}

impl Judged {
    /// The probability, where there is one.
    pub fn probability(&self) -> Option<f32> {
        match self {
            Self::Probability(probability) => Some(*probability),
            Self::Undecided(_) => None,
        }
    }
}

/// Whether a relation other than one of depth holds between two exact boxes; for comparison with annotated ones.
pub fn holds(relation: Relation, subject: &Placed, object: &Placed, canvas: Canvas) -> bool {
    let (s, o) = (Rect::from(&subject.bounds), Rect::from(&object.bounds));
    test(relation, (&s, &subject.kind), (&o, &object.kind), canvas)
}

/// Judges every relation of a subject to an object, in the order of [`Relation::ALL`].
pub fn judge(subject: &Placed, object: &Placed, canvas: Canvas) -> Vec<(Relation, Judged)> {
    let (s, o) = (Rect::from(&subject.bounds), Rect::from(&object.bounds));
    let usable = [&s, &o].iter().all(|rect| rect.width() > 0.0 && rect.height() > 0.0);
    if !usable || !subject.bounds.is_finite() || !object.bounds.is_finite() {
        return Relation::ALL.map(|relation| (relation, Judged::Undecided("a box has no area"))).to_vec();
    }
    let mut counts = [0_usize; Relation::ALL.len()];
    let mut lower = 0.0;
    let draws = jitter::for_each((&s, subject.jitter), (&o, object.jitter), |s, o| {
        for (count, relation) in counts.iter_mut().zip(Relation::ALL) {
            *count += usize::from(test(relation, (s, &subject.kind), (o, &object.kind), canvas));
        }
        lower += depth::contact(s, o, canvas);
    });
    let share = |count: usize| count as f64 / draws.max(1) as f64;
    let of = |wanted: Relation| {
        let place = Relation::ALL.iter().position(|relation| *relation == wanted);
        share(place.and_then(|place| counts.get(place)).copied().unwrap_or_default())
    };
    let nearer = depth::nearer(subject, object, canvas, lower / draws.max(1) as f64);
    // Who is nearer and overlaps is in front, unless it is in or on the other.
    let attached = [Inside, Contains, On, Supports].iter().map(|relation| of(*relation)).fold(0.0, f64::max);
    let before = of(Overlapping) * (1.0 - attached);
    Relation::ALL
        .into_iter()
        .map(|relation| {
            let judged = match (relation, &nearer) {
                (Nearer | Farther | InFrontOf | Behind, Err(reason)) => Judged::Undecided(reason),
                (Nearer, Ok(nearer)) => Judged::Probability(*nearer as f32),
                (Farther, Ok(nearer)) => Judged::Probability((1.0 - nearer) as f32),
                (InFrontOf, Ok(nearer)) => Judged::Probability((before * nearer) as f32),
                (Behind, Ok(nearer)) => Judged::Probability((before * (1.0 - nearer)) as f32),
                _ => match unsure(relation, subject, object, &s, &o) {
                    Some(reason) => Judged::Undecided(reason),
                    None => Judged::Probability(of(relation) as f32),
                },
            };
            (relation, judged)
        })
        .collect()
}

/// Why two boxes that look like "inside" or "on" do not decide it.
fn unsure(relation: Relation, subject: &Placed, object: &Placed, s: &Rect, o: &Rect) -> Option<&'static str> {
    match relation {
        Inside if within(s, o) && object.kind.holds == Holds::No => {
            Some("its box lies in the other's, which holds nothing: it is before, on or behind it")
        }
        Inside if within(s, o) && object.kind.holds == Holds::Yes && s.y1 > o.y1 - SUPPORT_SLACK * s.height() => {
            Some("its box lies in the other's and reaches to its bottom: it may stand before it")
        }
        On if rests(s, o) && !carried(s, &subject.kind, o, &object.kind) && object.kind.carries != Carries::No => {
            Some("its box ends on the other's, but it may stand behind it")
        }
        Contains => {
            unsure(Inside, object, subject, o, s).map(|_| "the other's box lies in this one's, which need not hold it")
        }
        Supports => {
            unsure(On, object, subject, o, s).map(|_| "the other's box ends on this one's, but may be behind it")
        }
        _ => None,
    }
}

type Sided<'a> = (&'a Rect, &'a Kind);

fn test(relation: Relation, subject: Sided<'_>, object: Sided<'_>, canvas: Canvas) -> bool {
    let (s, o) = (subject.0, object.0);
    match relation {
        LeftOf => ordered((s.x0, s.x1), (o.x0, o.x1), gap((s.y0, s.y1), (o.y0, o.y1))),
        Above => ordered((s.y0, s.y1), (o.y0, o.y1), gap((s.x0, s.x1), (o.x0, o.x1))),
        Inside => {
            within(s, o)
                && match object.1.holds {
                    Holds::Unknown => true,
                    // What stands before a container, on the same ground, ends lower than it does.
                    Holds::Yes => s.y1 <= o.y1,
                    Holds::No => false,
                }
        }
        On => carried(s, subject.1, o, object.1),
        Overlapping => intersection(s, o) >= OVERLAPPING * s.area().min(o.area()),
        NextTo => {
            let beside = overlap((s.x0, s.x1), (o.x0, o.x1)) < ORDERED * s.width().min(o.width());
            let level = overlap((s.y0, s.y1), (o.y0, o.y1)) >= ORDERED * s.height().min(o.height());
            beside && level && gap((s.x0, s.x1), (o.x0, o.x1)) <= NEXT_GAP * s.area().min(o.area()).sqrt()
        }
        FarFrom => {
            let apart = gap((s.x0, s.x1), (o.x0, o.x1)).hypot(gap((s.y0, s.y1), (o.y0, o.y1)));
            let diagonal = f64::from(canvas.0).hypot(f64::from(canvas.1));
            apart >= FAR_GAP * s.area().max(o.area()).sqrt() && apart >= FAR_SHARE * diagonal
        }
        Larger => s.area() >= LARGER * o.area(),
        RightOf | Below | Contains | Supports | Smaller => test(relation.inverse(), object, subject, canvas),
        Nearer | Farther | InFrontOf | Behind => false,
    }
}

/// The first interval comes before the second, and the gap `aside` is small enough for the direction to be theirs.
fn ordered(first: (f64, f64), second: (f64, f64), aside: f64) -> bool {
    let ahead = second.0.midpoint(second.1) - first.0.midpoint(first.1);
    let narrower = (first.1 - first.0).min(second.1 - second.0);
    ahead > 0.0 && overlap(first, second) < ORDERED * narrower && aside <= SECTOR * ahead
}

/// Length that two intervals share.
fn overlap(a: (f64, f64), b: (f64, f64)) -> f64 {
    (a.1.min(b.1) - a.0.max(b.0)).max(0.0)
}

/// Length between two intervals.
fn gap(a: (f64, f64), b: (f64, f64)) -> f64 {
    (a.0.max(b.0) - a.1.min(b.1)).max(0.0)
}

fn intersection(s: &Rect, o: &Rect) -> f64 {
    overlap((s.x0, s.x1), (o.x0, o.x1)) * overlap((s.y0, s.y1), (o.y0, o.y1))
}

/// Most of the subject's box lies in the larger box of the object.
fn within(s: &Rect, o: &Rect) -> bool {
    s.area() < o.area() && intersection(s, o) >= INSIDE * s.area()
}

/// The subject's bottom lies where something resting on the object would end.
fn rests(s: &Rect, o: &Rect) -> bool {
    let slack = SUPPORT_SLACK * s.height();
    let level = s.y1 >= o.y0 - slack && s.y1 <= o.y0 + SUPPORT_DEPTH * o.height() + slack;
    level && overlap((s.x0, s.x1), (o.x0, o.x1)) >= ORDERED * s.width().min(o.width())
}

/// [`rests`], and the kinds of both allow it.
fn carried(s: &Rect, subject: &Kind, o: &Rect, object: &Kind) -> bool {
    let higher = s.y0 + s.y1 < o.y0 + o.y1;
    rests(s, o)
        && match object.carries {
            Carries::No => false,
            Carries::Unknown | Carries::Riders => higher,
            Carries::Small => !subject.grounded && (higher || s.area() < o.area()),
            Carries::Seats if subject.grounded => higher && s.y1 >= o.y0 + SEAT_DEPTH * o.height(),
            Carries::Seats => higher || s.area() < o.area(),
        }
}

#[cfg(test)]
mod tests;
