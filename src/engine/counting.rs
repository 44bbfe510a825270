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
//! The constants were chosen with YOLOX-nano on the 80 photos of ../shared/photos/coco, 241 pairs of photo and class that is
//! there, by `tools/count_study.py`. The best single threshold (0.3) has a mean error of 1.448, 0.402 of the pairs exact, and
//! invents 0.338 classes with 0.388 objects in a photo; these have 1.224, 0.423, 0.250 and 0.388. Chosen on nine tenths of the
//! photos and judged on the rest, ten times over, the same search gives 1.315, 0.402, 0.275 and 0.425. They are six numbers for all
//! classes: offsets per class, with shrinkage, were tried and lost under cross-validation (1.37 to 1.53 instead of 1.36 from
//! one look), since 627 objects are too few for 80 classes.
//!
//! A detector whose config names a `score_threshold` of its own, chosen on its own validation pictures, is counted by that
//! instead ([`Counting::Threshold`]): the constants above say nothing about its scores.

use crate::models::Counting;

/// Log-odds added before presence is judged.
pub const PRESENCE_SHIFT: f32 = 0.5;
/// Least probability that a class is there.
pub const PRESENT: f32 = 0.64;
/// Least probability that a class is there for more than one of it to be counted.
pub const SEVERAL: f32 = 0.95;
/// Log-odds added before the expected number is summed up: boxes are missed more often than invented once a class is there.
pub const NUMBER_SHIFT: f32 = 1.1;
/// The sum grows too fast in crowds, where weak boxes repeat each other.
pub const CROWD_POWER: f32 = 0.95;
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

/// Judges one class by the scores of all its boxes, as they are to be taken for its detector.
pub fn judge(counting: Counting, scores: &[f32]) -> Estimate {
    match counting {
        Counting::Calibrated => estimate(scores),
        Counting::Threshold(threshold) => estimate_from(scores, threshold),
        Counting::Uncalibrated(threshold) => listed_from(scores, threshold),
    }
}

/// What one box's score says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Odds {
    /// Probability that it shows one, before anything is known of the class.
    pub shown: f32,
    /// The same, given that the class is there at all.
    pub counted: f32,
}

/// How fast a box becomes certain around the threshold of a detector that is counted by one: a box of twice the threshold's odds
/// is real four times as likely as not.
const STEEPNESS: f32 = 2.0;
/// Less is nothing: a detector that predicts a set has hundreds of weak boxes, which would add up.
const NOTHING: f32 = 0.02;

/// What a box's score says, as it is to be taken for its detector; the terms of [`judge`], box by box.
pub fn odds(counting: Counting, score: f32) -> Odds {
    match counting {
        Counting::Calibrated => Odds {
            shown: score_of(log_odds(score) + PRESENCE_SHIFT),
            counted: score_of(log_odds(score) + NUMBER_SHIFT),
        },
        Counting::Threshold(threshold) | Counting::Uncalibrated(threshold) => {
            let odds = |score: f32| (score.clamp(1e-6, 1.0 - 1e-6) / (1.0 - score.clamp(1e-6, 1.0 - 1e-6))).ln();
            let real = score_of(STEEPNESS * (odds(score) - odds(threshold)));
            let real = if real < NOTHING { 0.0 } else { real };
            Odds { shown: real, counted: real }
        }
    }
}

/// The score from which a box that is the only one of its class is listed.
pub fn lone(counting: Counting) -> f32 {
    match counting {
        Counting::Calibrated => lone_score(),
        Counting::Threshold(threshold) | Counting::Uncalibrated(threshold) => threshold,
    }
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

/// Judges one class of a detector that the constants above were not chosen for: boxes from `threshold` on are counted, and the
/// scores are taken for the probabilities as which they were trained.
pub fn estimate_from(scores: &[f32], threshold: f32) -> Estimate {
    let count = scores.iter().filter(|score| **score >= threshold).count();
    let present = 1.0 - scores.iter().map(|score| 1.0 - score).product::<f32>();
    let expected = scores.iter().sum::<f32>();
    Estimate { present, expected: expected.max(if count > 0 { 1.0 } else { 0.0 }), count }
}

/// Judges one class of a detector whose scores are no probabilities: what is listed is all that is said. Thousands of weak
/// boxes would add up to any number.
pub fn listed_from(scores: &[f32], threshold: f32) -> Estimate {
    let count = scores.iter().filter(|score| **score >= threshold).count();
    let present = scores.iter().copied().fold(0.0, f32::max);
    Estimate { present, expected: count as f32, count }
}

/// As [`lone`], by the constants above.
pub fn lone_score() -> f32 {
    score_of((PRESENT / (1.0 - PRESENT)).ln() - PRESENCE_SHIFT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lone_box_counts_from_its_threshold_on() {
        let lone = lone_score();
        assert!((0.4..0.6).contains(&lone), "{lone}");
        assert_eq!(estimate(&[lone + 0.001]).count, 1);
        assert_eq!(estimate(&[lone - 0.001]).count, 0);
        assert_eq!(estimate(&[]), Estimate { present: 0.0, expected: 0.0, count: 0 });
    }

    #[test]
    fn a_threshold_counts_what_reaches_it_and_nothing_else() {
        let estimate = estimate_from(&[0.9, 0.7, 0.69, 0.01], 0.7);
        assert_eq!(estimate.count, 2);
        assert!(estimate.present > 0.99 && (estimate.expected - 2.3).abs() < 1e-5, "{estimate:?}");
        // What a calibrated class would count: many weak hints are none here.
        assert!(super::estimate(&[0.3; 6]).count > 0 && estimate_from(&[0.3; 6], 0.7).count == 0);
        assert_eq!(estimate_from(&[], 0.7), Estimate { present: 0.0, expected: 0.0, count: 0 });
    }

    #[test]
    fn scores_that_are_no_probabilities_are_not_added_up() {
        let weak = [0.05; 3000];
        assert_eq!(listed_from(&weak, 0.1), Estimate { present: 0.05, expected: 0.0, count: 0 });
        assert_eq!(judge(Counting::Uncalibrated(0.1), &[0.3, 0.1, 0.09]).count, 2);
    }

    #[test]
    fn a_box_at_the_threshold_is_as_likely_real_as_not() {
        assert!((odds(Counting::Threshold(0.7), 0.7).shown - 0.5).abs() < 1e-5);
        assert!(odds(Counting::Threshold(0.7), 0.95).counted > 0.95);
        assert!(odds(Counting::Uncalibrated(0.1), 0.01).counted.abs() < 1e-6);
        let calibrated = odds(Counting::Calibrated, 0.5);
        assert!(calibrated.shown > 0.5 && calibrated.counted > calibrated.shown);
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
