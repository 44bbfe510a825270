//! From scores to counts: how many of each class a picture holds, judged from all of the detector's candidates together.
//!
//! A single threshold answers two questions with one number: is the class there at all, and which of its boxes are real.
//! The first wants a high bar, since false classes are many; the second a low one, since a class that is there is likely
//! to be there more than once, small and half hidden. So, with `p(z) = sigmoid(z + shift)` the probability that a box is
//! real (`z`: the log-odds of its score):
//!
//! 1. Present, when `1 - product(1 - p)` over all of the class's boxes reaches [`PRESENT`]: many weak hints count as one
//!    strong one.
//! 2. Then the number is the expected one, `sum(p) ^ `[`CROWD_POWER`], at least 1; only 1 below [`SEVERAL`].
//!
//! The boxes that are listed are the best ones, as many as counted: a count is always the length of its list.
//!
//! The constants were chosen on the 80 photos of ../shared/photos/coco with YOLOX-nano by `tools/count_study.py`, which also
//! prints what ten-fold cross-validation over photos gives. Five numbers for all classes: thresholds or offsets per class
//! were tried, with shrinkage, and made it worse under cross-validation, since 627 objects are too few for 80 classes.

/// Log-odds added before presence is judged.
pub const PRESENCE_SHIFT: f32 = 0.5;
/// Least probability that a class is there.
pub const PRESENT: f32 = 0.56;
/// Least probability that a class is there for more than one of it to be counted.
pub const SEVERAL: f32 = 0.956;
/// Log-odds added before the expected number is summed up: boxes are missed more often than invented once a class is there.
pub const NUMBER_SHIFT: f32 = 1.5;
/// The sum grows too fast in crowds, where weak boxes repeat each other.
pub const CROWD_POWER: f32 = 0.9;
/// Added before the number is cut to an integer.
pub const ROUNDING: f32 = 0.5;
/// Scores are trusted within these.
pub const SCORES: (f32, f32) = (0.01, 0.97);

/// What a class's boxes say together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// Probability that there is at least one, 0 to 1.
    pub present: f32,
    /// Expected number, given that there is one.
    pub expected: f32,
    /// The number to answer; never more than there are boxes.
    pub count: usize,
}

/// Log-odds of a score, within [`SCORES`].
pub fn log_odds(score: f32) -> f32 {
    let score = score.clamp(SCORES.0, SCORES.1);
    (score / (1.0 - score)).ln()
}

/// The score with these log-odds.
pub fn score_of(log_odds: f32) -> f32 {
    1.0 / (1.0 + (-log_odds).exp())
}

/// Judges one class by the scores of all its boxes.
pub fn estimate(scores: &[f32]) -> Estimate {
    let absent: f32 = scores.iter().map(|score| 1.0 - score_of(log_odds(*score) + PRESENCE_SHIFT)).product();
    let sum: f32 = scores.iter().map(|score| score_of(log_odds(*score) + NUMBER_SHIFT)).sum();
    let present = 1.0 - absent;
    let expected = sum.powf(CROWD_POWER);
    let count = if present < PRESENT {
        0
    } else if present < SEVERAL {
        1
    } else {
        ((expected + ROUNDING) as usize).max(1)
    };
    Estimate { present, expected: expected.max(if count > 0 { 1.0 } else { 0.0 }), count: count.min(scores.len()) }
}

/// The score from which a box that is the only one of its class is listed.
pub fn lone_score() -> f32 {
    score_of((PRESENT / (1.0 - PRESENT)).ln() - PRESENCE_SHIFT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lone_box_counts_from_its_threshold_on() {
        let lone = lone_score();
        assert!((0.2..0.5).contains(&lone), "{lone}");
        assert_eq!(estimate(&[lone + 0.001]).count, 1);
        assert_eq!(estimate(&[lone - 0.001]).count, 0);
        assert_eq!(estimate(&[]), Estimate { present: 0.0, expected: 0.0, count: 0 });
    }

    #[test]
    fn weak_hints_add_up_and_a_certain_class_lowers_the_bar() {
        assert_eq!(estimate(&[0.2]).count, 0);
        assert!(estimate(&[0.2; 4]).count >= 1);
        assert_eq!(estimate(&[0.9]).count, 1);
        assert!(estimate(&[0.95, 0.9, 0.3, 0.3]).count >= 3);
        assert!(estimate(&[0.95, 0.05]).count == 1);
    }

    #[test]
    fn more_boxes_never_mean_fewer_and_never_more_than_there_are() {
        let mut scores = Vec::new();
        let mut before = 0;
        for n in 0..40u8 {
            scores.push(0.9 - f32::from(n) * 0.02);
            let now = estimate(&scores).count;
            assert!(now >= before && now <= scores.len(), "{n}: {before} then {now}");
            before = now;
        }
        assert!(before > 15, "{before}");
        assert_eq!(estimate(&[1.0, 0.0, f32::MIN_POSITIVE]).count, 1);
    }
}
