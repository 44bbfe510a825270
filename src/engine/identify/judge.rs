//! How probable a gallery's best label is: fitted on the gallery itself.
//!
//! Two questions are put to it for each of its pictures. With the picture left out, its own label should win: that is a known
//! query. With its whole label left out, every answer is wrong: that is a stranger. What counts are the best label's score and
//! its lead over the second, both in standard deviations of what strangers reach. A logistic of the two is fitted by Newton's
//! method, known queries and strangers weighing the same, around coefficients that hold where a gallery says little: with
//! single pictures there are strangers, but no known queries, and those coefficients stand.
//!
//! Why not a threshold on the cosine: what two unlike pictures reach differs by model (0.1 to 0.7) and by gallery, cats being
//! more alike than buildings. Why not the softmax over the labels: it names one of them whatever is asked.

use rayon::prelude::*;

use super::NAMED_FROM;
use super::fit::{self, Fitted, Query};
use super::gallery::Gallery;

/// Pictures that the fit asks about, spread over the gallery: each is compared with all.
const ASKED: usize = 400;
/// Spread of a stranger's best score and of its lead as shares of the distance between its score and 1, and the strangers that
/// weigh as much: few of them say little about it. From the photos that [`NAMED_FROM`] names.
const PRIOR_SPREAD: [f64; 2] = [0.16, 0.11];
const PRIOR_STRANGERS: f64 = 5.0;

/// How well a gallery tells its own pictures apart, as the fit saw them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Standing {
    /// Share of pictures that get their own label when they are left out; `None` where no label has two.
    pub recognised: Option<f32>,
    /// Share of pictures that get another label, rather than "unknown", when their whole label is left out.
    pub strangers_named: f32,
}

/// The fitted logistic.
#[derive(Debug, Clone, PartialEq)]
pub struct Judge {
    fitted: Fitted,
    mean: [f64; 2],
    spread: [f64; 2],
    /// With two labels a stranger has no second one, so nothing is known of its lead.
    leads: bool,
    standing: Standing,
}

impl Judge {
    /// Asks the gallery about its own pictures.
    pub(super) fn of(gallery: &Gallery) -> Self {
        let pictures = gallery.examples().len();
        let step = pictures.div_ceil(ASKED).max(1);
        let asked: Vec<_> = gallery.labelled().step_by(step).collect();
        let answers: Vec<(Option<(Seen, bool)>, Seen)> = asked
            .par_iter()
            .map(|(example, label)| {
                let cosines = gallery.cosines(&example.vector);
                // Copies of it, under another label too, would give it away.
                let known = gallery.rank(&cosines, |other| other.content == example.content);
                // A label without another picture cannot win.
                let has_others = known.iter().any(|(other, _)| other == label);
                let strangers: Vec<_> = known.iter().copied().filter(|(other, _)| other != label).collect();
                let stranger = Seen::of(&strangers);
                let known =
                    has_others.then(|| (Seen::of(&known), known.first().is_some_and(|(best, _)| best == label)));
                (known, stranger)
            })
            .collect();
        Self::fit(&answers, gallery.labels().len() > 2)
    }

    fn fit(answers: &[(Option<(Seen, bool)>, Seen)], leads: bool) -> Self {
        let count = answers.len().max(1) as f64;
        let mean = [0, 1].map(|n| answers.iter().map(|(_, stranger)| stranger.0[n]).sum::<f64>() / count);
        let spread = [0, 1].map(|n| {
            let squares: f64 = answers.iter().map(|(_, stranger)| (stranger.0[n] - mean[n]).powi(2)).sum();
            let prior = PRIOR_SPREAD[n] * (1.0 - mean[0]).max(1e-3);
            ((squares + PRIOR_STRANGERS * prior * prior) / (count + PRIOR_STRANGERS)).sqrt()
        });
        let unfitted = Standing { recognised: None, strangers_named: 0.0 };
        let mut judge = Self { fitted: fit::PRIOR, mean, spread, leads, standing: unfitted };
        let known: Vec<(Seen, bool)> = answers.iter().filter_map(|(known, _)| *known).collect();
        if !known.is_empty() {
            let weight = known.len() as f64 / count;
            let right =
                known.iter().map(|(seen, right)| Query { x: judge.standardised(*seen), right: *right, weight: 1.0 });
            let strangers =
                answers.iter().map(|(_, stranger)| Query { x: judge.standardised(*stranger), right: false, weight });
            judge.fitted = fit::fit(&right.chain(strangers).collect::<Vec<_>>());
        }
        let named = |seen: Seen| judge.probability(seen) >= NAMED_FROM;
        let share = |some: usize, all: usize| some as f32 / all.max(1) as f32;
        let right = known.iter().filter(|(seen, right)| *right && named(*seen)).count();
        let strangers = answers.iter().filter(|(_, stranger)| named(*stranger)).count();
        judge.standing = Standing {
            recognised: (!known.is_empty()).then(|| share(right, known.len())),
            strangers_named: share(strangers, answers.len()),
        };
        judge
    }

    /// How well the gallery tells its own pictures apart.
    pub fn standing(&self) -> Standing {
        self.standing
    }

    /// Probability of each ranked label; together at most 1, what is left is "none of them".
    pub(super) fn probabilities(&self, ranked: &[(usize, f32)]) -> Vec<(usize, f32)> {
        let mut left = 1.0_f32;
        let best = ranked.first().map_or(0.0, |(_, score)| *score);
        let second = ranked.get(1).map_or(best, |(_, score)| *score);
        ranked
            .iter()
            .enumerate()
            .map(|(place, (label, score))| {
                // Behind the best one a label's lead is a lag.
                let lead = if place == 0 { score - second } else { score - best };
                let probability = self.probability(Seen([f64::from(*score), f64::from(lead)])).min(left);
                left -= probability;
                (*label, probability)
            })
            .collect()
    }

    fn standardised(&self, Seen([score, lead]): Seen) -> [f64; 2] {
        let lead = if self.leads { (lead - self.mean[1]) / self.spread[1] } else { 0.0 };
        [(score - self.mean[0]) / self.spread[0], lead]
    }

    fn probability(&self, seen: Seen) -> f32 {
        self.fitted.probability(self.standardised(seen)) as f32
    }
}

/// Score of the best label, and its lead over the second; none without a second.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Seen([f64; 2]);

impl Seen {
    fn of(ranked: &[(usize, f32)]) -> Self {
        let score = |place: usize| ranked.get(place).map(|(_, score)| f64::from(*score));
        let best = score(0).unwrap_or(0.0);
        Self([best, score(1).map_or(0.0, |second| best - second)])
    }
}
