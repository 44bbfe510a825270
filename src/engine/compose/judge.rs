//! From boxes and crops to the probability of each claim. Pure but for the crops that a thing's attributes are looked up in.
//!
//! A box `i` of a thing shows one with probability `p_i` ([`counting::odds`]) and has its attributes with `a_i`. Then
//!
//! - present: `1 - product(1 - p_i a_i)`; absent: the rest of it;
//! - a number: the sum of independent yes and no with `q_i a_i` (`q_i`: given that the class is there at all), which is a
//!   Poisson-binomial distribution, and none with the probability of absence;
//! - a place: of the pairs of a subject and an object the one that is best, `w P(relation)`, against the pair that is best without it,
//!   `w = p_s a_s p_o a_o`: "the cup left of the laptop" means the cup and the laptop, not some hint of a cup.

use super::{Ground, Phrase};
use crate::engine::compose::attributes::Crops;
use crate::engine::counting;
use crate::engine::relate;
use crate::error::Result;
use crate::geometry::relations::{self, Relation};
use crate::index::calibration::{ImageCalibration, dot};
use crate::knowledge::claims::{Claim, Claims};
use crate::knowledge::phrase::Count;
use crate::models::{Counting, Detection, Detector};

/// Least probability of a box that is looked at: weaker ones change nothing.
const LEAST: f32 = 0.03;
/// Most boxes of one thing.
const MOST_BOXES: usize = 60;
/// Boxes that a phrase shows.
const MOST_SHOWN: usize = 10;
/// Share of a box's probability from which it is one of those that a claim rests on.
const SHOWN: f32 = 0.4;
/// Slope and middle of "the picture shows it" over the standard deviations above neutral texts. Fit on 126 labelled COCO photos,
/// `OpenAI` ViT-B/32, as many present as absent categories: a category that is there scores 1.92 on average, one that is
/// not -0.06; area under the curve 0.868.
const SIGMA_SLOPE: f32 = 1.43;
const SIGMA_MIDDLE: f32 = 0.70;

/// One picture.
pub(super) struct View<'a> {
    pub(super) detector: Option<&'a Detector>,
    /// Why there is none.
    pub(super) without: Option<&'a str>,
    /// All boxes, best first.
    pub(super) candidates: &'a [Detection],
    /// Width and height, pixels.
    pub(super) size: (u32, u32),
    /// The picture as the image-text model sees it. Shape: `[dim]`, unit length.
    pub(super) vector: Option<&'a [f32]>,
    /// Its neutral texts.
    pub(super) nulls: &'a [Vec<f32>],
}

/// What a picture shows of one thing.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    /// Its boxes, best first.
    boxes: Vec<Detection>,
    /// `p_i a_i`.
    shown: Vec<f32>,
    /// `q_i a_i`.
    counted: Vec<f32>,
    /// `a_i`.
    fits: Vec<f32>,
}

impl Seen {
    fn present(&self) -> f32 {
        1.0 - self.shown.iter().map(|p| 1.0 - p).product::<f32>()
    }

    /// Boxes that are more likely one of these than not, else the best one.
    fn likely(&self) -> Vec<Detection> {
        let likely = self.boxes.iter().zip(&self.counted).filter(|(_, p)| **p >= SHOWN);
        likely.map(|(one, _)| *one).take(MOST_SHOWN).collect()
    }

    /// Distribution of the number of them; entry `n` for `n` of them.
    fn numbers(&self) -> Vec<f32> {
        let mut some = vec![1.0f32];
        for p in &self.counted {
            some.push(0.0);
            for n in (0..some.len()).rev() {
                let fewer = if n > 0 { some.get(n - 1).copied().unwrap_or_default() } else { 0.0 };
                if let Some(here) = some.get_mut(n) {
                    *here = *here * (1.0 - p) + fewer * p;
                }
            }
        }
        let present = self.present();
        let none = some.first().copied().unwrap_or(1.0);
        let scale = if none < 1.0 { present / (1.0 - none) } else { 0.0 };
        for p in &mut some {
            *p *= scale;
        }
        if let Some(first) = some.first_mut() {
            *first = 1.0 - present;
        }
        some
    }

    fn number(&self, count: Count) -> f32 {
        let numbers = self.numbers();
        // An empty sum is -0.0.
        let sum = |from: usize, to: usize| numbers.iter().take(to.saturating_add(1)).skip(from).fold(0.0, |a, b| a + b);
        match count {
            Count::Exactly(n) => sum(n as usize, n as usize),
            Count::AtLeast(n) => sum(n as usize, usize::MAX - 1),
            Count::AtMost(n) => sum(0, n as usize),
            Count::Asked => self.present(),
        }
    }

    /// The likeliest number.
    fn likeliest(&self) -> usize {
        let numbers = self.numbers();
        (0..numbers.len()).rev().max_by(|a, b| at(&numbers, *a).total_cmp(&at(&numbers, *b))).unwrap_or_default()
    }
}

fn at(values: &[f32], index: usize) -> f32 {
    values.get(index).copied().unwrap_or_default()
}

/// Looks a thing up in a picture.
///
/// # Errors
/// The image-text model fails.
pub(super) fn see(ground: &Ground, view: &View<'_>, crops: &mut Crops<'_>) -> Result<Seen> {
    let none = Seen { boxes: Vec::new(), shown: Vec::new(), counted: Vec::new(), fits: Vec::new() };
    let (Some(class), Some(detector)) = (ground.class, view.detector) else { return Ok(none) };
    let own = view.candidates.iter().filter(|one| one.class == class);
    let strong = own.filter(|one| counting::odds(detector.counting(), one.score).counted >= LEAST);
    let boxes: Vec<Detection> = strong.take(MOST_BOXES).copied().collect();
    let fits = crops.fit(&boxes, &ground.asked)?;
    let odds = boxes.iter().map(|one| counting::odds(detector.counting(), one.score));
    let (shown, counted) = odds.zip(&fits).map(|(odds, fit)| (odds.shown * fit, odds.counted * fit)).unzip();
    Ok(Seen { boxes, shown, counted, fits })
}

/// What a picture says of a claim.
pub(super) fn phrase(claims: &Claims, claim: &Claim, grounds: &[Ground], seen: &[Seen], view: &View<'_>) -> Phrase {
    let text = claims.words(claim);
    let (kind, thing) = match claim {
        Claim::Present(thing) => ("thing", *thing),
        Claim::Number(thing, _) => ("number", *thing),
        Claim::Absent(thing) => ("absence", *thing),
        Claim::Placed { subject, .. } => ("relation", *subject),
        Claim::Acts { .. } => {
            let why = "boxes do not show who does what to whom".to_owned();
            return Phrase::unchecked(text, "action", why);
        }
    };
    let (Some(ground), Some(one)) = (grounds.get(thing), seen.get(thing)) else {
        return Phrase::unchecked(text, kind, "not read".into());
    };
    if ground.class.is_none() {
        return unknown(claims, claim, text, kind, ground, view);
    }
    let open = unasked(ground);
    let boxes = one.likely();
    match claim {
        Claim::Placed { place, object, denied, .. } => {
            let known = grounds.get(*object).filter(|ground| ground.class.is_some()).and(seen.get(*object));
            let Some(other) = known else {
                let why = format!("no box for {}: {}", claims.name(*object), nobody_knows(view));
                return Phrase::unchecked(text, kind, why);
            };
            let Some(relation) = relate::of_place(*place) else {
                return Phrase::unchecked(text, kind, format!("two boxes do not show `{}`", place.name()));
            };
            placed(text, (one, other), relation, *denied, view)
        }
        Claim::Absent(_) => {
            Phrase::checked(text, kind, 1.0 - one.present(), format!("{}{open}", found(one, view)), boxes)
        }
        Claim::Number(_, count) => {
            Phrase::checked(text, kind, one.number(*count), format!("{}{open}", found(one, view)), boxes)
        }
        _ => Phrase::checked(text, kind, one.present(), format!("{}{open}", found(one, view)), boxes),
    }
}

/// "2 found", or what the best hint is.
fn found(seen: &Seen, view: &View<'_>) -> String {
    let count = seen.likeliest();
    if count > 0 {
        let attributed = seen.fits.iter().any(|fit| *fit < 1.0);
        let best = seen.fits.iter().zip(&seen.counted).max_by(|a, b| a.1.total_cmp(b.1)).map(|(fit, _)| *fit);
        return match best.filter(|_| attributed) {
            Some(fit) => format!("{count} found, attribute {fit:.2}"),
            None => format!("{count} found"),
        };
    }
    match seen.boxes.first() {
        Some(best) if seen.fits.first().is_some_and(|fit| *fit < 0.5) => {
            format!("none found: of the likeliest (score {:.2}) the attribute is not true", best.score)
        }
        Some(best) if best.score >= doubtful(view) => format!("none found; the best hint scores {:.2}", best.score),
        _ => "none found".to_owned(),
    }
}

fn doubtful(view: &View<'_>) -> f32 {
    match view.detector.map(Detector::counting) {
        Some(Counting::Threshold(threshold) | Counting::Uncalibrated(threshold)) => threshold / 2.0,
        _ => 0.1,
    }
}

/// The attributes of a thing that were not looked at.
fn unasked(ground: &Ground) -> String {
    let open: Vec<&str> = ground.asked.iter().filter(|one| !one.is_known()).map(|one| one.word.as_str()).collect();
    if open.is_empty() { String::new() } else { format!("; not checked: {}", open.join(", ")) }
}

fn nobody_knows(view: &View<'_>) -> String {
    match (view.without, view.detector) {
        (Some(why), _) => why.to_owned(),
        (None, Some(detector)) => format!("{} does not know it", detector.id()),
        (None, None) => "no detector".to_owned(),
    }
}

/// A thing that no detector here knows: the image-text model can say whether the whole picture shows it, and nothing else.
fn unknown(
    claims: &Claims,
    claim: &Claim,
    text: String,
    kind: &'static str,
    ground: &Ground,
    view: &View<'_>,
) -> Phrase {
    if let (Claim::Present(_), Some(direction), Some(vector)) = (claim, &ground.whole, view.vector) {
        let sigma = ImageCalibration::measure(vector, view.nulls).normalise(dot(direction, vector));
        let probability = 1.0 / (1.0 + (-SIGMA_SLOPE * (sigma - SIGMA_MIDDLE)).exp());
        return Phrase::checked(
            text,
            kind,
            probability,
            format!("the whole picture by CLIP: {sigma:+.1} sigma"),
            Vec::new(),
        );
    }
    let thing = match claim {
        Claim::Present(thing) | Claim::Number(thing, _) | Claim::Absent(thing) => *thing,
        Claim::Placed { subject, .. } | Claim::Acts { subject, .. } => *subject,
    };
    Phrase::unchecked(text, kind, format!("no box for {}: {}", claims.name(thing), nobody_knows(view)))
}

fn placed(text: String, (one, other): (&Seen, &Seen), relation: Relation, denied: bool, view: &View<'_>) -> Phrase {
    let Some(detector) = view.detector else { return Phrase::unchecked(text, "relation", nobody_knows(view)) };
    let (width, height) = view.size;
    let scale = detector.scale(width, height);
    let canvas = (width as f32, height as f32);
    // Best pair by weight alone, and by weight and relation.
    let (mut heaviest, mut best) = (0.0f32, 0.0f32);
    let mut shown: Option<(Detection, Detection, f32)> = None;
    let mut undecided = None;
    for (s, s_weight) in one.boxes.iter().zip(&one.counted) {
        for (o, o_weight) in other.boxes.iter().zip(&other.counted) {
            let weight = s_weight * o_weight;
            if s.bounds == o.bounds || weight < LEAST * LEAST {
                continue;
            }
            let subject = relate::placed(s, detector, scale);
            let object = relate::placed(o, detector, scale);
            let judged = relations::judge(&subject, &object, canvas).into_iter().find(|(other, _)| *other == relation);
            let Some((_, judged)) = judged else { continue };
            let Some(probability) = judged.probability() else {
                if let relations::Judged::Undecided(reason) = judged {
                    undecided = undecided.or(Some(reason));
                }
                continue;
            };
            let probability = if denied { 1.0 - probability } else { probability };
            if weight * probability > best {
                best = weight * probability;
                shown = Some((*s, *o, probability));
            }
            heaviest = heaviest.max(weight);
        }
    }
    match (shown, undecided) {
        (Some((s, o, probability)), _) => {
            let seen = format!("probability {probability:.2} between the boxes that fit best");
            Phrase::checked(text, "relation", best / heaviest, seen, vec![s, o])
        }
        (None, _) if heaviest > 0.0 => {
            Phrase::checked(text, "relation", 0.0, "does not hold between any two".into(), Vec::new())
        }
        (None, Some(reason)) => Phrase::unchecked(text, "relation", reason.to_owned()),
        (None, None) => Phrase::unchecked(text, "relation", "the two were not both found".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(shown: &[f32], counted: &[f32]) -> Seen {
        Seen { boxes: Vec::new(), shown: shown.to_vec(), counted: counted.to_vec(), fits: vec![1.0; shown.len()] }
    }

    #[test]
    fn numbers_are_a_distribution() {
        let two = seen(&[0.9, 0.8, 0.1], &[0.95, 0.9, 0.2]);
        let numbers = two.numbers();
        assert!((numbers.iter().sum::<f32>() - 1.0).abs() < 1e-5, "{numbers:?}");
        assert_eq!(two.likeliest(), 2);
        assert!((numbers[0] - (1.0 - two.present())).abs() < 1e-6);
        let all = two.number(Count::AtMost(1)) + two.number(Count::AtLeast(2));
        assert!((all - 1.0).abs() < 1e-5);
        assert!(two.number(Count::Exactly(2)) > 0.6 && two.number(Count::Exactly(7)).abs() < 1e-6);
    }

    #[test]
    fn nothing_seen_is_surely_absent() {
        let none = seen(&[], &[]);
        assert_eq!((none.present(), none.likeliest()), (0.0, 0));
        assert!((none.number(Count::Exactly(0)) - 1.0).abs() < 1e-6);
        assert!(none.number(Count::Exactly(1)).abs() < 1e-6);
    }
}
