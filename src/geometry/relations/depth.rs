//! Which of two things is nearer to the camera: what little two boxes say of it.
//!
//! There are two cues, and no annotated truth in ../shared/photos/coco to hold them against, but they can be held against
//! each other: over 525 annotated pairs of things that stand on the ground, are not cut off, end at different heights (2 % of
//! the picture's) and differ in distance by size (more than the spread), ground and size agree in 91 %
//! (`tools/relate_study.py depth`). If both are as good as each other, each is right in 95 %.

use super::{Canvas, Placed};
use crate::geometry::jitter::Rect;

/// "Nearer" by ground contact: the bottoms differ by this share of the picture's height.
const GROUND: f64 = 0.01;
/// How often ground contact tells the order in depth, and how far a size can be trusted at all: floors have steps, people
/// sit, models and pictures of things are things to a detector.
const GROUND_TRUST: f64 = 0.9;
const SIZE_TRUST: f64 = 0.95;
/// A box this near to the picture's border goes on beyond it, share of the side.
const BORDER: f64 = 0.004;

/// 1 where the subject touches the ground nearer to the viewer, 0 where the object does, a half where neither.
pub(super) fn contact(s: &Rect, o: &Rect, canvas: Canvas) -> f64 {
    let ahead = s.y1 - o.y1;
    let least = GROUND * f64::from(canvas.1);
    if ahead > least {
        1.0
    } else if ahead < -least {
        0.0
    } else {
        0.5
    }
}

/// The probability that the subject is nearer to the camera, from where both touch the ground (`lower`: how surely the
/// subject does so lower in the picture) and from how large things of their kinds are; or why it cannot be told.
pub(super) fn nearer(subject: &Placed, object: &Placed, canvas: Canvas, lower: f64) -> Result<f64, &'static str> {
    let height = f64::from(canvas.1);
    let ends = |one: &Placed| f64::from(one.bounds.y1) < height * (1.0 - BORDER);
    let starts = |one: &Placed| f64::from(one.bounds.y0) > height * BORDER;
    let on_ground = subject.kind.grounded && object.kind.grounded;
    // Of two that go on below the picture nothing is known; one alone that does is the nearer one.
    let ground =
        (on_ground && (ends(subject) || ends(object))).then_some(0.5 + (GROUND_TRUST - 0.5) * (2.0 * lower - 1.0));
    let whole = |one: &Placed| ends(one) && starts(one);
    let sizes = subject.kind.height.zip(object.kind.height).filter(|_| whole(subject) && whole(object));
    let size = sizes.map(|((s_height, s_spread), (o_height, o_spread))| {
        let distance = |metres: f32, one: &Placed| f64::from(metres) / f64::from(one.bounds.height()).max(1.0);
        let further = (distance(s_height, subject) / distance(o_height, object)).ln();
        let spread = f64::from(s_spread).hypot(f64::from(o_spread)).max(0.05);
        // The logistic curve that is nearest to the normal one.
        let nearer = 1.0 / (1.0 + (1.702 * further / spread).exp());
        nearer.clamp(1.0 - SIZE_TRUST, SIZE_TRUST)
    });
    // Two independent cues: their odds multiply.
    match (ground, size) {
        (Some(a), Some(b)) => Ok(a * b / (a * b + (1.0 - a) * (1.0 - b))),
        (Some(one), None) | (None, Some(one)) => Ok(one),
        (None, None) if on_ground => {
            Err("depth: both are cut off by the lower border, so that neither ground nor size tells")
        }
        (None, None) if subject.kind.height.is_none() || object.kind.height.is_none() => {
            Err("depth: the usual size of one of them is not known, and they need not stand on one ground")
        }
        (None, None) => Err("depth: one of them is cut off by the border, so that its size does not tell"),
    }
}
