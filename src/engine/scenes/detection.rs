//! The questions that CLIP fails at, put to a detector: what the tools that such requests are routed to make of the very
//! scenes on which CLIP was measured.

use image::RgbImage;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{Accuracy, Kind, Question, SCENES, SIDE, questions};
use crate::engine::detect::Found;
use crate::engine::{Engine, Watch};
use crate::error::Result;
use crate::geometry::XyxyPx;
use crate::models::Detector;
use crate::pixels::scene::{Relation, Scene, Shape};

/// A shape that was found in a picture.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Seen {
    /// What it is.
    pub shape: Shape,
    /// In pixels of the picture.
    pub bounds: XyxyPx,
}

/// Finds the shapes in a picture.
pub type Detect<'a> = &'a (dyn Fn(&RgbImage) -> Result<Vec<Seen>> + Sync);

/// What a detector tells about rendered scenes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ToolAccuracies {
    /// [`Kind::Counting`]: the number of the shape.
    pub counting: Accuracy,
    /// [`Kind::LeftRight`].
    pub left_right: Accuracy,
    /// [`Kind::Relation`].
    pub relation: Accuracy,
    /// [`Kind::Negation`]: whether the shape is there.
    pub negation: Accuracy,
    /// [`Kind::Objects`]: the number of every shape, in scenes of one to nine objects.
    pub every_shape: Accuracy,
    /// The same scenes: how one shape stands to another, where both occur once and it is clear.
    pub pairs: Accuracy,
}

/// Measures a detector on [`SCENES`] scenes of each kind, those of [`super::measure`] with the same seed.
///
/// # Errors
/// Whatever `detect` returns.
pub fn measure(seed: u64, detect: Detect<'_>) -> Result<ToolAccuracies> {
    let ask = |kind| right_answers(kind, &questions(kind, seed, SCENES), detect);
    let (every_shape, pairs) = objects(&questions(Kind::Objects, seed, SCENES), detect)?;
    Ok(ToolAccuracies {
        counting: ask(Kind::Counting)?,
        left_right: ask(Kind::LeftRight)?,
        relation: ask(Kind::Relation)?,
        negation: ask(Kind::Negation)?,
        every_shape,
        pairs,
    })
}

/// A detector that answers with shapes, through the same steps as `detect_count`; labels that are none are left out.
pub fn shapes<'a>(
    engine: &'a Engine,
    detector: &'a Detector,
    watch: &'a Watch<'a>,
) -> impl Fn(&RgbImage) -> Result<Vec<Seen>> + Sync + 'a {
    let known: Vec<Option<Shape>> =
        detector.labels().iter().map(|label| Shape::ALL.into_iter().find(|shape| shape.name() == label)).collect();
    move |picture| {
        let Found { detections, .. } = engine.detect_picture(detector, picture, watch)?;
        let seen = |one: &crate::models::Detection| {
            Some(Seen { shape: known.get(one.class).copied().flatten()?, bounds: one.bounds })
        };
        Ok(detections.iter().filter_map(seen).collect())
    }
}

/// How the best box of one shape stands to that of another: the axis along which their centres are farther apart decides.
pub fn relation_of(seen: &[Seen], subject: Shape, object: Shape) -> Option<Relation> {
    let centre = |shape: Shape| {
        let XyxyPx { x0, y0, x1, y1 } = seen.iter().find(|one| one.shape == shape)?.bounds;
        Some([f32::midpoint(x0, x1), f32::midpoint(y0, y1)])
    };
    let ([ax, ay], [bx, by]) = (centre(subject)?, centre(object)?);
    let (across, down) = (bx - ax, by - ay);
    Some(match (across.abs() >= down.abs(), across > 0.0, down > 0.0) {
        (true, true, _) => Relation::LeftOf,
        (true, false, _) => Relation::RightOf,
        (false, _, true) => Relation::Above,
        (false, _, false) => Relation::Below,
    })
}

/// What [`relation_of`] works on, for people: a measurement names what it measured.
pub const RELATED_BY: &str = "boxes of detect_count";

/// The shape that a question is about; for [`Kind::Negation`] it may be absent from the scene.
pub fn asked_shape(question: &Question) -> Option<Shape> {
    let named = |shape: &Shape| question.choices.iter().all(|choice| choice.ends_with(shape.name()));
    Shape::ALL.into_iter().find(named).or_else(|| question.scene.things().next().map(|thing| thing.shape))
}

/// Answers a question from what was found: the index of a text, as far as boxes decide it.
fn answer(kind: Kind, question: &Question, seen: &[Seen]) -> Option<usize> {
    let number = |shape: Shape| seen.iter().filter(|one| one.shape == shape).count();
    match kind {
        Kind::Counting => number(asked_shape(question)?).checked_sub(1),
        Kind::Negation => Some(usize::from(number(asked_shape(question)?) == 0)),
        Kind::LeftRight | Kind::Relation => {
            let [subject, object] = pair(&question.scene)?;
            let words = relation_of(seen, subject, object)?.words();
            let inverse = relation_of(seen, object, subject)?.words();
            let says = |choice: &String| {
                let (first, second) = (choice.find(subject.name()), choice.find(object.name()));
                let relation = if first < second { words } else { inverse };
                choice.contains(&format!(" {relation} "))
            };
            question.choices.iter().position(says)
        }
        _ => None,
    }
}

/// The shapes of a scene of two objects.
pub fn pair(scene: &Scene) -> Option<[Shape; 2]> {
    let [subject, object] = scene.objects.as_slice() else { return None };
    Some([subject.thing.shape, object.thing.shape])
}

/// What is found in each scene.
fn looked(questions: &[Question], detect: Detect<'_>) -> Result<Vec<Vec<Seen>>> {
    questions.par_iter().map(|question| detect(&question.scene.render(SIDE))).collect()
}

/// How many questions of a kind are answered rightly.
///
/// # Errors
/// Whatever `detect` returns.
pub fn right_answers(kind: Kind, questions: &[Question], detect: Detect<'_>) -> Result<Accuracy> {
    let looked = looked(questions, detect)?;
    let right =
        questions.iter().zip(&looked).filter(|(question, seen)| answer(kind, question, seen) == Some(question.answer));
    let chance: f32 = questions.iter().map(|question| 1.0 / question.choices.len().max(1) as f32).sum();
    Ok(Accuracy { right: right.count(), of: questions.len(), chance: chance / questions.len().max(1) as f32 })
}

/// In how many scenes every shape is counted rightly, and how many pairs of shapes are related rightly: those that the
/// scene holds once each and of which one stands clearly to one side of the other.
///
/// # Errors
/// Whatever `detect` returns.
pub fn objects(questions: &[Question], detect: Detect<'_>) -> Result<(Accuracy, Accuracy)> {
    let mut exact = Accuracy { right: 0, of: questions.len(), chance: 0.0 };
    let mut pairs = Accuracy { right: 0, of: 0, chance: 1.0 / Relation::ALL.len() as f32 };
    for (question, seen) in questions.iter().zip(looked(questions, detect)?) {
        let number = |shape: Shape| question.scene.things().filter(|thing| thing.shape == shape).count();
        let found = |shape: Shape| seen.iter().filter(|one| one.shape == shape).count();
        exact.right += usize::from(Shape::ALL.into_iter().all(|shape| number(shape) == found(shape)));
        let alone = || question.scene.objects.iter().filter(|object| number(object.thing.shape) == 1);
        for subject in alone() {
            for object in alone() {
                let Some(truth) = Relation::between(subject.box_centre(), object.box_centre()) else { continue };
                pairs.of += 1;
                let told = relation_of(&seen, subject.thing.shape, object.thing.shape);
                pairs.right += usize::from(told == Some(truth));
            }
        }
    }
    Ok((exact, pairs))
}
