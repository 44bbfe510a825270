//! How a subject and an object stand to each other in a picture: both found by the detector, the relation from their boxes.

use std::sync::Arc;

use super::counting;
use super::looks::Look;
use super::{Engine, Watch};
use crate::error::{Error, Result};
use crate::geometry::jitter;
use crate::geometry::relations::{self, Carries, Holds, Judged, Kind, Placed, Relation};
use crate::knowledge::stature;
use crate::models::{Counting, Detection, Detector};

mod wanted;
mod words;

pub use wanted::{Pick, Wanted};
pub use words::{of_place, relation_of};

/// From this confidence on a relation is said to hold; below one less this it is said not to. Between them nothing is
/// claimed. Over ../shared/photos/coco (`tools/relate_study.py`) what is said to hold does so between the annotated boxes
/// in 96 of 100 cases.
pub const HOLDS: f32 = 0.65;
/// Below this a relation does not hold.
pub const FAILS: f32 = 1.0 - HOLDS;
/// Most pairs that are listed.
pub const MOST_PAIRS: usize = 10;
/// Most things of a side that are paired; of a crowd the best-scored ones.
const MOST_THINGS: usize = 40;
/// Score from which the best box of a class is taken although its class is not counted as present: who asks about a thing
/// has seen it, as a rule. Of 27 such boxes of classes in a photo of ../shared/photos/coco 19 were right (scores 0.3 to 0.5);
/// of 6,159 classes that are not in a photo 15 had one.
const ASKED: f32 = 0.3;
/// Boxes that were not sure enough, mentioned where nothing else was found.
const DOUBTFUL: usize = 3;

/// What is asked.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// Words for the one thing.
    pub subject: String,
    /// Words for the other.
    pub object: String,
    /// Whether this relation holds; without it, all that do.
    pub relation: Option<Relation>,
    /// Take boxes from this score on; without it, as counts are judged.
    pub threshold: Option<f32>,
}

/// Whether the relation that was asked for holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Between some pair.
    Yes,
    /// Between none, surely.
    No,
    /// It cannot be told.
    Undecided,
}

/// What was found for the subject or the object.
#[derive(Debug, Clone, PartialEq)]
pub struct Side {
    /// What was asked for.
    pub wanted: Wanted,
    /// Boxes that count as found, best first.
    pub found: Vec<Detection>,
    /// The best of those that do not.
    pub doubtful: Vec<Detection>,
    /// What the detector's scores mean.
    pub counting: Counting,
}

/// A subject and an object.
#[derive(Debug, Clone, PartialEq)]
pub struct Pair {
    /// Position in the subjects found.
    pub subject: usize,
    /// Position in the objects found.
    pub object: usize,
    /// Every relation, in the order of [`Relation::ALL`].
    pub judged: Vec<(Relation, Judged)>,
}

impl Pair {
    /// The probability of a relation, where boxes can tell.
    pub fn probability(&self, relation: Relation) -> Option<f32> {
        self.judged.iter().find(|(other, _)| *other == relation).and_then(|(_, judged)| judged.probability())
    }
}

/// How subject and object stand to each other.
#[derive(Debug)]
pub struct Related {
    /// Path (or URL) of the picture.
    pub name: String,
    /// Its width, upright, pixels.
    pub width: u32,
    /// Its height.
    pub height: u32,
    /// The subjects.
    pub subject: Side,
    /// The objects.
    pub object: Side,
    /// Pairs, the surest first; at most [`MOST_PAIRS`].
    pub pairs: Vec<Pair>,
    /// How many pairs there are.
    pub pairs_total: usize,
    /// Whether the relation holds that was asked for.
    pub verdict: Option<Verdict>,
    /// No box that counts as found scores less.
    pub threshold: f32,
    /// The detector.
    pub detector: Arc<Detector>,
}

impl Side {
    /// The only box, where it scores so little that the class would not be counted.
    pub fn doubt(&self) -> Option<&Detection> {
        match self.found.as_slice() {
            [one] if one.score < counting::lone(self.counting) => Some(one),
            _ => None,
        }
    }
}

impl Engine {
    /// Tells how a subject and an object stand to each other.
    ///
    /// # Errors
    /// The image cannot be read; subject or object is empty or unknown to the detector; a threshold that is none; the
    /// detector cannot be loaded; the caller cancelled.
    pub fn relate(&self, image: &str, request: &Request, watch: &Watch<'_>) -> Result<Related> {
        if request.threshold.is_some_and(|threshold| !(0.0..=1.0).contains(&threshold)) {
            return Err(Error::Argument { name: "threshold", reason: "must be from 0 to 1".into() });
        }
        let things = [&request.subject, &request.object].map(|words| wanted::thing_of(words));
        let detector = self.detector_for(&things, watch)?;
        let subject = Wanted::read("subject", &request.subject, &detector)?;
        let object = Wanted::read("object", &request.object, &detector)?;
        let looked = self.candidates(image, &detector, Look::Mirrored, watch)?;
        watch.check()?;
        let counting = detector.counting();
        let subject = side(subject, &looked.candidates, counting, request.threshold);
        let object = side(object, &looked.candidates, counting, request.threshold);
        let canvas = (looked.width as f32, looked.height as f32);
        let scale = detector.scale(looked.width, looked.height);
        let mut pairs = pairs(&subject, &object, request.relation.is_some());
        let pairs_total = pairs.len();
        if request.relation.is_none() {
            pairs.truncate(MOST_PAIRS);
        }
        for pair in &mut pairs {
            let one = |side: &Side, at: usize| side.found.get(at).map(|found| placed(found, &detector, scale));
            if let (Some(s), Some(o)) = (one(&subject, pair.subject), one(&object, pair.object)) {
                pair.judged = relations::judge(&s, &o, canvas);
            }
        }
        let verdict = request.relation.map(|relation| {
            let sure = |pair: &Pair| pair.probability(relation).unwrap_or(0.5);
            pairs.sort_by(|a, b| sure(b).total_cmp(&sure(a)));
            verdict(&pairs, relation)
        });
        pairs.truncate(MOST_PAIRS);
        let found = subject.found.iter().chain(&object.found).map(|one| one.score);
        let least = found.fold(counting::lone(counting), f32::min);
        Ok(Related {
            name: looked.name,
            width: looked.width,
            height: looked.height,
            // Cut, not rounded: no box scores less.
            threshold: request.threshold.unwrap_or((least * 1e4).floor() / 1e4),
            subject,
            object,
            pairs,
            pairs_total,
            verdict,
            detector,
        })
    }
}

/// Which boxes of a class count as found.
fn side(wanted: Wanted, candidates: &[Detection], counting: Counting, threshold: Option<f32>) -> Side {
    // Candidates are in the order of their scores.
    let own: Vec<Detection> = candidates.iter().filter(|one| one.class == wanted.class).copied().collect();
    let scores: Vec<f32> = own.iter().map(|one| one.score).collect();
    let count = if let Some(threshold) = threshold {
        scores.iter().filter(|score| **score >= threshold).count()
    } else {
        let seen = scores.first().is_some_and(|best| *best >= ASKED);
        counting::judge(counting, &scores).count.max(usize::from(seen))
    };
    let (found, rest) = own.split_at(count.min(own.len()));
    let mut found = found.to_vec();
    wanted.choose(&mut found);
    found.truncate(MOST_THINGS);
    Side { wanted, found, doubtful: rest.iter().take(DOUBTFUL).copied().collect(), counting }
}

/// Every subject with every object, never a thing with itself; the surest boxes first. Of things of one class each two meet
/// once, unless `both_ways`.
fn pairs(subject: &Side, object: &Side, both_ways: bool) -> Vec<Pair> {
    let same = subject.found == object.found;
    let mut pairs: Vec<(f32, Pair)> = Vec::new();
    for (s, one) in subject.found.iter().enumerate() {
        for (o, other) in object.found.iter().enumerate() {
            if one != other && (both_ways || !same || s < o) {
                pairs.push((one.score * other.score, Pair { subject: s, object: o, judged: Vec::new() }));
            }
        }
    }
    pairs.sort_by(|a, b| b.0.total_cmp(&a.0));
    pairs.into_iter().map(|(_, pair)| pair).collect()
}

fn verdict(pairs: &[Pair], relation: Relation) -> Verdict {
    let known = |pair: &Pair| pair.probability(relation);
    if pairs.iter().any(|pair| known(pair).is_some_and(|p| p >= HOLDS)) {
        Verdict::Yes
    } else if !pairs.is_empty() && pairs.iter().all(|pair| known(pair).is_some_and(|p| p <= FAILS)) {
        Verdict::No
    } else {
        Verdict::Undecided
    }
}

/// The boxes of a class that count as found in a picture of this size, best first.
pub(super) fn taken(
    detector: &Detector,
    candidates: &[Detection],
    class: usize,
    (width, height): (u32, u32),
) -> Vec<Placed> {
    let wanted = Wanted { class, pick: None, unchecked: Vec::new() };
    let side = side(wanted, candidates, detector.counting(), None);
    side.found.iter().map(|one| placed(one, detector, detector.scale(width, height))).collect()
}

/// A box with what is known of its kind and of the detector's errors. `scale`: from the picture to the detector's input.
pub(super) fn placed(found: &Detection, detector: &Detector, scale: f32) -> Placed {
    let label = detector.labels().get(found.class).map(String::as_str).unwrap_or_default();
    let side = found.bounds.area().sqrt() * scale;
    Placed { bounds: found.bounds, jitter: jitter::scale(found.score, side), kind: kind(label) }
}

/// What is known of a label, in the terms of geometry.
fn kind(label: &str) -> Kind {
    let Some(known) = stature::of(label) else { return Kind::default() };
    Kind {
        height: known.height,
        grounded: known.grounded,
        holds: if known.holds { Holds::Yes } else { Holds::No },
        carries: match known.carries {
            stature::Carries::No => Carries::No,
            stature::Carries::Small => Carries::Small,
            stature::Carries::Seats => Carries::Seats,
            stature::Carries::Riders => Carries::Riders,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geometry::XyxyPx;
    use crate::pixels::scene::{self, Random, Scene, SceneSpec};

    fn found(class: usize, score: f32, x: f32) -> Detection {
        Detection { class, score, bounds: XyxyPx { x0: x, y0: 0.0, x1: x + 10.0, y1: 10.0 } }
    }

    fn any(class: usize) -> Wanted {
        Wanted { class, pick: None, unchecked: Vec::new() }
    }

    #[test]
    fn things_of_one_class_are_paired_with_each_other_once() {
        let candidates = [found(0, 0.9, 0.0), found(0, 0.8, 50.0), found(1, 0.7, 80.0), found(0, 0.6, 100.0)];
        let people = side(any(0), &candidates, Counting::Calibrated, Some(0.5));
        let met = |pairs: Vec<Pair>| pairs.iter().map(|pair| (pair.subject, pair.object)).collect::<Vec<_>>();
        assert_eq!(met(pairs(&people, &people, false)), [(0, 1), (0, 2), (1, 2)]);
        assert_eq!(pairs(&people, &people, true).len(), 6);
        let dogs = side(any(1), &candidates, Counting::Calibrated, Some(0.5));
        assert_eq!(met(pairs(&people, &dogs, false)), [(0, 0), (1, 0), (2, 0)]);
        let left = side(Wanted { pick: Some(Pick::Leftmost), ..any(0) }, &candidates, Counting::Calibrated, Some(0.5));
        assert_eq!(met(pairs(&left, &people, false)), [(0, 1), (0, 2)], "not with itself");
        assert!(pairs(&left, &left, true).is_empty());
    }

    /// Where a rendered scene's truth says that a relation holds clearly, so do the boxes of its objects.
    #[test]
    fn the_relations_of_rendered_scenes_are_found_in_their_boxes() {
        let mut asked = 0;
        for seed in 0..300 {
            let scene = Scene::new(&SceneSpec::mixed(5, &mut Random::new(seed)), seed);
            for one in &scene.objects {
                for other in scene.objects.iter().filter(|other| *other != one) {
                    let Some(truth) = scene::Relation::between(one.box_centre(), other.box_centre()) else { continue };
                    let placed = |[x0, y0, x1, y1]: [f32; 4]| Placed {
                        bounds: XyxyPx { x0, y0, x1, y1 },
                        jitter: 0.02,
                        kind: kind("circle"),
                    };
                    let judged = relations::judge(&placed(one.bounds(256)), &placed(other.bounds(256)), (256.0, 256.0));
                    let pair = Pair { subject: 0, object: 0, judged };
                    let wanted = relation_of(truth.words()).unwrap();
                    assert!(pair.probability(wanted).unwrap() > 0.9, "{truth:?}: {pair:?}");
                    assert!(pair.probability(wanted.inverse()).unwrap() < 0.01);
                    asked += 1;
                }
            }
        }
        assert!(asked > 1000, "{asked}");
    }

    #[test]
    fn what_is_not_sure_enough_is_kept_as_a_hint() {
        let asked = [found(0, 0.35, 0.0), found(0, 0.1, 50.0)];
        assert_eq!(counting::estimate(&[0.35, 0.1]).count, 0);
        assert_eq!(side(any(0), &asked, Counting::Calibrated, None).found, asked[..1], "who asks has seen it");
        let candidates = [found(0, 0.2, 0.0), found(0, 0.1, 50.0), found(1, 0.1, 0.0)];
        let none = side(any(0), &candidates, Counting::Calibrated, None);
        assert!(none.found.is_empty() && none.doubtful.len() == 2);
        assert_eq!(side(any(0), &candidates, Counting::Calibrated, Some(0.15)).found.len(), 1);
        assert!(side(any(7), &candidates, Counting::Calibrated, None).doubtful.is_empty());
    }

    #[test]
    fn a_verdict_needs_a_pair_that_holds_or_all_that_do_not() {
        let pair = |judged: Judged| Pair { subject: 0, object: 0, judged: vec![(Relation::LeftOf, judged)] };
        let judge = |all: &[Judged]| verdict(&all.iter().cloned().map(pair).collect::<Vec<_>>(), Relation::LeftOf);
        let p = Judged::Probability;
        assert_eq!(judge(&[p(0.1), p(0.9)]), Verdict::Yes);
        assert_eq!(judge(&[p(0.1), p(0.2)]), Verdict::No);
        assert_eq!(judge(&[p(0.1), p(0.5)]), Verdict::Undecided);
        assert_eq!(judge(&[p(0.1), Judged::Undecided("why")]), Verdict::Undecided);
        assert_eq!(judge(&[]), Verdict::Undecided);
    }
}
