//! How far a detector's boxes lie from the things: the noise under which a relation must hold.
//!
//! Measured with YOLOX-nano on ../shared/photos/coco by `tools/relate_study.py noise`: 283 boxes that were found at the
//! pictures and their mirror images, each against the annotated box of its class that overlaps it most (`IoU` of 0.3 and
//! more). An edge's error, as a share of the box's side along it, follows Student's t with two degrees of freedom: 0.027 in
//! the median, but one in ten is off by 0.16 and more. Its scale falls with the score and with the box's size in the
//! detector's input ([`scale`]). Maximum likelihood gives 0.046, -0.34 and -0.26 for the three constants; those below are the
//! same within 5 % of the scale, and come from a first fit over 271 boxes. Better detectors err less, so that their
//! confidences are low estimates.

use std::sync::LazyLock;

use super::XyxyPx;

/// Edges that err: four of the subject, four of the object.
const EDGES: usize = 8;
/// Points of the sequence; each is taken in four forms, see [`draws`].
const POINTS: usize = 128;
/// Scale at even odds and at [`SIDE`], share of the box's side.
const SCALE: f64 = 0.048;
/// Power of the score's odds.
const ODDS_POWER: f64 = -0.37;
/// Power of the box's side in the detector's input.
const SIDE_POWER: f64 = -0.24;
/// Side at which [`SCALE`] holds, pixels of the detector's input.
const SIDE: f64 = 50.0;
/// Scores are trusted within these.
const SCORES: (f64, f64) = (0.02, 0.98);
/// Least and greatest scale: no box is exact, and beyond the latter it is no box.
const SCALES: (f64, f64) = (0.005, 0.3);
/// An edge errs by at most this share of its side, so that a box never turns inside out.
const MOST: f64 = 0.45;

/// Scale of the error of a box's edges, as a share of its sides.
///
/// `side` is the square root of its area in pixels of the detector's input.
pub fn scale(score: f32, side: f32) -> f32 {
    let score = f64::from(score).clamp(SCORES.0, SCORES.1);
    let odds = score / (1.0 - score);
    let size = (f64::from(side).max(1.0) / SIDE).powf(SIDE_POWER);
    (SCALE * odds.powf(ODDS_POWER) * size).clamp(SCALES.0, SCALES.1) as f32
}

/// A box in double precision: mirroring it at an image of whole width is exact.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Rect {
    pub(super) x0: f64,
    pub(super) y0: f64,
    pub(super) x1: f64,
    pub(super) y1: f64,
}

impl From<&XyxyPx> for Rect {
    fn from(bounds: &XyxyPx) -> Self {
        let [x0, y0, x1, y1] = bounds.to_array().map(f64::from);
        Self { x0, y0, x1, y1 }
    }
}

impl Rect {
    pub(super) fn width(&self) -> f64 {
        self.x1 - self.x0
    }

    pub(super) fn height(&self) -> f64 {
        self.y1 - self.y0
    }

    pub(super) fn area(&self) -> f64 {
        self.width() * self.height()
    }

    /// The box with its edges moved by these multiples of `scale`; left, top, right, bottom.
    fn moved(&self, by: [f64; 4], scale: f64) -> Self {
        let [left, top, right, bottom] = by.map(|t| (t * scale).clamp(-MOST, MOST));
        let (w, h) = (self.width(), self.height());
        Self { x0: self.x0 + left * w, y0: self.y0 + top * h, x1: self.x1 + right * w, y1: self.y1 + bottom * h }
    }
}

/// Calls `each` with the two boxes under every draw of the noise; how often that is.
pub(super) fn for_each(subject: (&Rect, f32), object: (&Rect, f32), mut each: impl FnMut(&Rect, &Rect)) -> usize {
    for [a, b, c, d, e, f, g, h] in draws() {
        let subject = subject.0.moved([*a, *b, *c, *d], f64::from(subject.1));
        let object = object.0.moved([*e, *f, *g, *h], f64::from(object.1));
        each(&subject, &object);
    }
    draws().len()
}

/// Draws of the noise, the same ones always: a confidence is a fixed function of the boxes. With each draw there are its
/// mirror image and its exchange of subject and object, so that confidences mirror and reverse exactly, not on average.
fn draws() -> &'static [[f64; EDGES]] {
    static DRAWS: LazyLock<Vec<[f64; EDGES]>> = LazyLock::new(|| {
        let mirrored = |[a, b, c, d, e, f, g, h]: [f64; EDGES]| [-c, b, -a, d, -g, f, -e, h];
        let exchanged = |[a, b, c, d, e, f, g, h]: [f64; EDGES]| [e, f, g, h, a, b, c, d];
        (0..POINTS)
            .flat_map(|n| {
                let draw = point(n).map(student);
                [draw, mirrored(draw), exchanged(draw), exchanged(mirrored(draw))]
            })
            .collect()
    });
    &DRAWS
}

/// A point of the unit cube, evenly spread: an additive recurrence with powers of the generalised golden ratio.
/// Source: Roberts 2018, "The unreasonable effectiveness of quasirandom sequences" (the sequence `R_d`).
fn point(n: usize) -> [f64; EDGES] {
    // The root of x^9 = x + 1.
    const RATIO: f64 = 1.085_070_245_491_450_8;
    std::array::from_fn(|edge| {
        let step = RATIO.powi(-(edge as i32 + 1));
        (0.5 + step * (n + 1) as f64).fract()
    })
}

/// The quantile function of Student's t with two degrees of freedom.
fn student(p: f64) -> f64 {
    let p = p.clamp(1e-4, 1.0 - 1e-4);
    (2.0 * p - 1.0) * (2.0 / (4.0 * p * (1.0 - p))).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_are_spread_like_the_distribution_and_closed_under_mirror_and_exchange() {
        let draws = draws();
        assert_eq!(draws.len(), 4 * POINTS);
        for edge in 0..EDGES {
            let mut values: Vec<f64> = draws.iter().map(|draw| draw[edge]).collect();
            values.sort_by(f64::total_cmp);
            // Student's t, two degrees of freedom: three quarters lie below 0.816, nine tenths below 1.886.
            for (share, value) in [(0.1, -1.886), (0.25, -0.816), (0.5, 0.0), (0.75, 0.816), (0.9, 1.886)] {
                let found = values[(share * values.len() as f64) as usize];
                assert!((found - value).abs() < 0.15, "edge {edge}, {share}: {found} for {value}");
            }
        }
        let ratio = 1.085_070_245_491_450_8_f64;
        assert!((ratio.powi(9) - ratio - 1.0).abs() < 1e-9);
    }

    #[test]
    fn sure_and_large_boxes_err_less_and_none_turns_inside_out() {
        assert!(scale(0.9, 100.0) < scale(0.5, 100.0) && scale(0.5, 100.0) < scale(0.1, 100.0));
        assert!(scale(0.5, 200.0) < scale(0.5, 10.0));
        for (score, side) in [(0.0, 0.0), (1.0, 1e6), (f32::MIN_POSITIVE, 1.0)] {
            assert!((0.005..=0.3).contains(&scale(score, side)));
        }
        let rect = Rect { x0: 10.0, y0: 20.0, x1: 14.0, y1: 21.0 };
        let count = for_each((&rect, 0.3), (&rect, 0.3), |a, b| {
            assert!(a.width() > 0.0 && a.height() > 0.0 && b.area() > 0.0);
        });
        assert_eq!(count, 4 * POINTS);
    }
}
