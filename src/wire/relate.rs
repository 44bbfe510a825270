//! `spatial_relation` and `relate`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::detect::DetectedObject;
use crate::engine::relate::{self, FAILS, HOLDS, Pair, Pick, Related, Request, Side, Verdict};
use crate::engine::{Engine, Watch};
use crate::error::{Error, Result};
use crate::geometry::XyxyPx;
use crate::geometry::relations::{Judged, Relation};
use crate::knowledge::stature;
use crate::models::Detection;
use crate::pixels::{self, Mark};

mod words;

/// Whose left and right are meant, and whose large and small.
pub const FRAME: &str = "the viewer's: left, right, above, below, larger and smaller as seen in the picture";
/// Pairs of which it is said what cannot be decided.
const PAIRS_WITH_DOUBTS: usize = 3;

/// Arguments of `spatial_relation`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RelateArgs {
    /// Path of the image.
    #[schemars(length(min = 1))]
    pub image: String,
    /// The one thing: "cup", "left person".
    #[schemars(length(min = 1))]
    pub subject: String,
    /// The other thing.
    #[schemars(length(min = 1))]
    pub object: String,
    /// Ask whether this one holds: "left of", "on", "in front of", ...
    pub relation: Option<String>,
    /// Least score of a box; default by all boxes.
    #[schemars(range(min = 0, max = 1))]
    pub threshold: Option<f32>,
    /// Return the picture with boxes.
    pub annotate: Option<bool>,
}

/// A relation that holds between a subject and an object.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct RelationFound {
    /// In words: "left of".
    pub relation: String,
    /// Probability that it holds, given that both boxes show what they are said to show (see their scores).
    pub confidence: f32,
    /// Left, top, right, bottom in pixels of the upright image, origin top left.
    pub subject_box: [f32; 4],
    /// The same of the object.
    pub object_box: [f32; 4],
    /// The detector's score of the subject's box, 0 to 1.
    pub subject_score: f32,
    /// And of the object's.
    pub object_score: f32,
    /// Which of the subjects, from 1, best first; as in the annotated picture.
    pub subject_number: usize,
    /// Which of the objects.
    pub object_number: usize,
}

/// A relation that cannot be decided.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct UndecidedRelation {
    /// In words.
    pub relation: String,
    /// Why.
    pub reason: String,
    /// Which of the subjects.
    pub subject_number: usize,
    /// Which of the objects.
    pub object_number: usize,
}

/// How subject and object stand to each other.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct RelateResult {
    /// Path of the image.
    pub path: String,
    /// Width in pixels, upright.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// The class that the subject was taken for.
    pub subject: String,
    /// The class that the object was taken for.
    pub object: String,
    /// What holds, by pair, the surest pair first: places, then support, depth, distance and size.
    pub relations: Vec<RelationFound>,
    /// In a sentence; begins with "cannot decide" where nothing can be said, and says why.
    pub answer: String,
    /// To the relation that was asked for: "yes", "no" or "cannot decide".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verdict: Option<String>,
    /// Probability of the relation that was asked for, in the pair where it is greatest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confidence: Option<f32>,
    /// Whose left and right are meant.
    pub frame: String,
    /// What boxes do not decide in the first pairs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub undecided: Vec<UndecidedRelation>,
    /// Pairs of a subject and an object; at most 10 of them are told.
    pub pairs_total: usize,
    /// Boxes that may show what was not found, but score too low.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub candidates: Vec<DetectedObject>,
    /// What to keep in mind.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// No box that counts as found scores less.
    pub threshold: f32,
    /// The detector.
    pub detector: String,
    /// Where the annotated picture was written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub annotated: Option<String>,
}

/// Runs `spatial_relation` / `relate`.
///
/// # Errors
/// The image cannot be read; subject, object or relation is empty or unknown; the detector cannot be loaded.
pub fn relate(engine: &Engine, args: &RelateArgs, watch: &Watch<'_>) -> Result<RelateResult> {
    let request = Request {
        subject: args.subject.clone(),
        object: args.object.clone(),
        relation: args.relation.as_deref().map(relate::relation_of).transpose()?,
        threshold: args.threshold,
    };
    if args.image.trim().is_empty() {
        return Err(Error::Argument { name: "image", reason: "is empty: give a path".into() });
    }
    let related = engine.relate(&args.image, &request, watch)?;
    Ok(result(&related, args, request.relation))
}

fn result(related: &Related, args: &RelateArgs, asked: Option<Relation>) -> RelateResult {
    let label = |side: &Side| related.detector.labels().get(side.wanted.class).cloned().unwrap_or_default();
    let (subject, object) = (label(&related.subject), label(&related.object));
    let names = words::Names::new(related, [(&subject, &args.subject), (&object, &args.object)]);
    let relations: Vec<RelationFound> = related.pairs.iter().flat_map(|pair| holding(related, pair, asked)).collect();
    let missing = [&related.subject, &related.object].into_iter().filter(|side| side.found.is_empty());
    let mut candidates: Vec<Detection> = missing.flat_map(|side| side.doubtful.clone()).collect();
    candidates.dedup();
    let best = related.pairs.first().zip(asked).and_then(|(pair, relation)| pair.probability(relation));
    RelateResult {
        answer: words::answer(related, &names, asked),
        notes: notes(related, args, (&subject, &object), &relations),
        undecided: related.pairs.iter().take(PAIRS_WITH_DOUBTS).flat_map(undecided).collect(),
        verdict: related.verdict.map(|verdict| words::verdict(verdict).to_owned()),
        confidence: best.map(rounded),
        candidates: candidates.iter().map(|one| object_of(one, related)).collect(),
        path: related.name.clone(),
        width: related.width,
        height: related.height,
        frame: FRAME.to_owned(),
        pairs_total: related.pairs_total,
        threshold: related.threshold,
        detector: related.detector.id().to_owned(),
        annotated: None,
        subject,
        object,
        relations,
    }
}

/// What holds in a pair: what was asked for first, then in the order of [`Relation::ALL`]; of directions the one that
/// the centres differ more in.
fn holding(related: &Related, pair: &Pair, asked: Option<Relation>) -> Vec<RelationFound> {
    let (Some(s), Some(o)) = (related.subject.found.get(pair.subject), related.object.found.get(pair.object)) else {
        return Vec::new();
    };
    let mut held = words::held(pair);
    let ((sx, sy), (ox, oy)) = (s.bounds.centre(), o.bounds.centre());
    let across = (sx - ox).abs() >= (sy - oy).abs();
    let place = |relation: Relation| match relation {
        _ if Some(relation) == asked => 0,
        Relation::LeftOf | Relation::RightOf if across => 1,
        Relation::Above | Relation::Below if !across => 1,
        _ if relation.is_direction() => 2,
        _ => 3,
    };
    held.sort_by_key(|(relation, _)| place(*relation));
    held.into_iter()
        .map(|(relation, confidence)| RelationFound {
            relation: relation.words().to_owned(),
            confidence: rounded(confidence),
            subject_box: s.bounds.to_array(),
            object_box: o.bounds.to_array(),
            subject_score: ten_thousandths(s.score),
            object_score: ten_thousandths(o.score),
            subject_number: pair.subject + 1,
            object_number: pair.object + 1,
        })
        .collect()
}

/// What cannot be decided in a pair; of a relation and its inverse one.
fn undecided(pair: &Pair) -> Vec<UndecidedRelation> {
    let mut told: Vec<Relation> = Vec::new();
    let mut rows = Vec::new();
    for (relation, judged) in &pair.judged {
        let reason = match judged {
            // What "nearer" says of depth is enough.
            Judged::Undecided(_) if matches!(relation, Relation::InFrontOf | Relation::Behind) => continue,
            Judged::Undecided(reason) => (*reason).to_owned(),
            Judged::Probability(p) if *p > FAILS && *p < HOLDS => format!("at the limit: probability {p:.2}"),
            Judged::Probability(_) => continue,
        };
        if told.contains(&relation.inverse()) {
            continue;
        }
        told.push(*relation);
        rows.push(UndecidedRelation {
            relation: relation.words().to_owned(),
            reason,
            subject_number: pair.subject + 1,
            object_number: pair.object + 1,
        });
    }
    rows
}

fn notes(
    related: &Related,
    args: &RelateArgs,
    (subject, object): (&str, &str),
    relations: &[RelationFound],
) -> Vec<String> {
    let mut notes = Vec::new();
    for (side, label, words) in [(&related.subject, subject, &args.subject), (&related.object, object, &args.object)] {
        let unchecked = &side.wanted.unchecked;
        if !unchecked.is_empty() {
            let of = unchecked.join(" ");
            notes.push(format!("`{}` was taken as {label}: whether it is {of} was not checked", words.trim()));
        }
        if let (Some(pick), [one]) = (side.wanted.pick, side.found.as_slice()) {
            let which = match pick {
                Pick::Leftmost => "furthest left",
                Pick::Rightmost => "furthest right",
                Pick::Topmost => "highest",
                Pick::Lowest => "lowest",
                Pick::Largest => "with the largest box",
                Pick::Smallest => "with the smallest box",
            };
            notes.push(format!("`{}` is the {label} {which} (score {:.2})", words.trim(), one.score));
        }
        if let Some(one) = side.doubt() {
            notes.push(format!("the only {label} scores {:.2}: it may be something else", one.score));
        }
    }
    notes.dedup();
    let shown = related.pairs.len();
    if related.pairs_total > shown {
        notes.push(format!("{shown} of {} pairs are told, the surest first", related.pairs_total));
    }
    let grounded = |label: &str| stature::of(label).is_some_and(|stature| stature.grounded);
    let upright = relations.iter().any(|one| one.relation == "above" || one.relation == "below");
    if upright && grounded(subject) && grounded(object) {
        notes.push("above and below are places in the picture: of two on one ground the higher is further away".into());
    }
    notes
}

fn object_of(one: &Detection, related: &Related) -> DetectedObject {
    DetectedObject {
        label: related.detector.labels().get(one.class).cloned().unwrap_or_default(),
        score: ten_thousandths(one.score),
        bounds: one.bounds.to_array(),
    }
}

fn rounded(probability: f32) -> f32 {
    (probability * 1e3).round() / 1e3
}

fn ten_thousandths(score: f32) -> f32 {
    (score * 1e4).round() / 1e4
}

/// The picture with the boxes of every pair that is told; `max_side` bounds its longer side.
///
/// # Errors
/// The image cannot be read any more.
pub fn annotated(engine: &Engine, result: &RelateResult, max_side: Option<u32>) -> Result<image::RgbImage> {
    let (_, picture) = engine.read_image(&result.path)?;
    let mut marks: Vec<Mark> = Vec::new();
    let mut add = |role: &str, label: &str, number: usize, [x0, y0, x1, y1]: [f32; 4], score: f32, kind: usize| {
        let mark =
            Mark { bounds: XyxyPx { x0, y0, x1, y1 }, label: format!("{role}: {label} {number} {score:.2}"), kind };
        if !marks.iter().any(|known| known.label == mark.label && known.bounds == mark.bounds) {
            marks.push(mark);
        }
    };
    for one in &result.relations {
        add("subject", &result.subject, one.subject_number, one.subject_box, one.subject_score, 0);
        add("object", &result.object, one.object_number, one.object_box, one.object_score, 1);
    }
    for (number, one) in (1..).zip(&result.candidates) {
        add("maybe", &one.label, number, one.bounds, one.score, 4);
    }
    Ok(pixels::annotate(&picture.rgb, &marks, max_side))
}

/// As [`annotated`], as a JPEG.
///
/// # Errors
/// As [`annotated`].
pub fn annotated_jpeg(engine: &Engine, result: &RelateResult, max_side: u32) -> Result<Vec<u8>> {
    pixels::thumbnail_jpeg(&annotated(engine, result, Some(max_side))?, max_side)
}

/// Something was found: a relation, or of the one that was asked for that it holds.
pub fn is_found(result: &RelateResult) -> bool {
    match result.verdict.as_deref() {
        Some(verdict) => verdict == words::verdict(Verdict::Yes),
        None => !result.relations.is_empty(),
    }
}
