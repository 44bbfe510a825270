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
//! instead ([`Rule::Threshold`]): the constants above say nothing about its scores.

use super::looks::Look;

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

/// How the boxes of a detector are counted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rule {
    /// Judged together, from several looks, by the constants of this file.
    Together,
    /// One by one, in one look: those from this score on.
    Threshold(f32),
}

impl Rule {
    /// The rule for a detector with this threshold of its own, or none.
    pub fn of(score_threshold: Option<f32>) -> Self {
        score_threshold.map_or(Self::Together, Self::Threshold)
    }

    /// How the pictures are looked at for it.
    pub fn look(self) -> Look {
        match self {
            Self::Together => Look::Closely,
            Self::Threshold(_) => Look::Once,
        }
    }

    /// Judges one class by the scores of all its boxes, the best first.
    pub fn estimate(self, scores: &[f32]) -> Estimate {
        match self {
            Self::Together => estimate(scores),
            Self::Threshold(threshold) => {
                let count = scores.iter().filter(|score| **score >= threshold).count();
                // A score at the threshold is as likely true as not.
                let shift = -log_odds(threshold);
                let real = |score: &f32| score_of(log_odds(*score) + shift);
                let hints = scores.iter().filter(|score| **score > SCORES.0);
                let absent: f32 = hints.map(|score| 1.0 - real(score)).product();
                Estimate { present: 1.0 - absent, expected: count as f32, count }
            }
        }
    }

    /// The score from which a box that is the only one of its class is listed.
    pub fn lone_score(self) -> f32 {
        match self {
            Self::Together => lone_score(),
            Self::Threshold(threshold) => threshold,
        }
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
        assert!((0.4..0.6).contains(&lone), "{lone}");
        assert_eq!(estimate(&[lone + 0.001]).count, 1);
        assert_eq!(estimate(&[lone - 0.001]).count, 0);
        assert_eq!(estimate(&[]), Estimate { present: 0.0, expected: 0.0, count: 0 });
    }

    #[test]
    fn a_threshold_of_the_detector_s_own_counts_box_by_box() {
        let rule = Rule::of(Some(0.4));
        assert_eq!((rule.look(), Rule::of(None).look()), (Look::Once, Look::Closely));
        assert_eq!(rule.estimate(&[0.9, 0.4, 0.39, 0.2, 0.001]).count, 2);
        assert_eq!(rule.estimate(&[0.2; 4]).count, 0, "weak hints do not add up");
        assert!((rule.estimate(&[0.4]).present - 0.5).abs() < 1e-5);
        assert!(rule.estimate(&[0.001; 100]).present < 1e-6);
        assert!(rule.estimate(&[0.95]).present > 0.9);
        assert_eq!(rule.lone_score().to_bits(), 0.4_f32.to_bits());
        assert_eq!(Rule::Together.estimate(&[0.2; 4]), estimate(&[0.2; 4]));
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
