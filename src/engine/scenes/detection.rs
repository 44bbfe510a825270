//! The questions that CLIP fails at, put to a detector: what the tools that such requests are routed to make of the very
//! scenes on which CLIP was measured. Counts are those of `detect_count`; relations are judged as `spatial_relation` judges
//! them, from the boxes that it looks for.

use std::borrow::Borrow;

use image::RgbImage;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{Accuracy, Kind, Question, SCENES, SIDE, questions};
use crate::engine::detect::Found;
use crate::engine::looks::{self, Look};
use crate::engine::{Engine, Watch, relate};
use crate::error::Result;
use crate::geometry::relations::{self, Placed};
use crate::models::Detector;
use crate::pixels::scene::{Relation, Scene, Shape};

/// A shape that was found in a picture.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Seen {
    /// What it is.
    pub shape: Shape,
    /// Where in the picture, and how far that may be off.
    pub placed: Placed,
}

/// Finds the shapes in a picture, of each the best box first.
pub type Detect<'a> = &'a (dyn Fn(&RgbImage) -> Result<Vec<Seen>> + Sync);

/// What finds the shapes for either tool.
#[derive(Clone, Copy)]
pub struct Tools<'a> {
    /// As `detect_count` looks at a picture.
    pub count: Detect<'a>,
    /// As `spatial_relation` does.
    pub relate: Detect<'a>,
}

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
/// Whatever the tools return.
pub fn measure(seed: u64, tools: Tools<'_>) -> Result<ToolAccuracies> {
    let ask = |kind| right_answers(kind, &questions(kind, seed, SCENES), tools);
    let (every_shape, pairs) = objects(&questions(Kind::Objects, seed, SCENES), tools)?;
    Ok(ToolAccuracies {
        counting: ask(Kind::Counting)?,
        left_right: ask(Kind::LeftRight)?,
        relation: ask(Kind::Relation)?,
        negation: ask(Kind::Negation)?,
        every_shape,
        pairs,
    })
}

/// The shape of each of a detector's labels; none where a label is no shape.
fn shapes_of(detector: &Detector) -> Vec<Option<Shape>> {
    detector.labels().iter().map(|label| Shape::ALL.into_iter().find(|shape| shape.name() == label)).collect()
}

/// [`Tools::count`] with a detector, through the same steps as `detect_count`; labels that are no shapes are left out.
pub fn counted<'a>(
    engine: &'a Engine,
    detector: &'a Detector,
    watch: &'a Watch<'a>,
) -> impl Fn(&RgbImage) -> Result<Vec<Seen>> + Sync + 'a {
    let known = shapes_of(detector);
    move |picture| {
        let Found { detections, width, height, .. } = engine.detect_picture(detector, picture, watch)?;
        let scale = detector.scale(width, height);
        let seen = |one: &crate::models::Detection| {
            Some(Seen { shape: known.get(one.class).copied().flatten()?, placed: relate::placed(one, detector, scale) })
        };
        Ok(detections.iter().filter_map(seen).collect())
    }
}

/// [`Tools::relate`] with a detector: the picture and its mirror image, and of each shape the boxes that `spatial_relation` would
/// take for a subject or an object.
pub fn related<'a>(
    detector: &'a Detector,
    watch: &'a Watch<'a>,
) -> impl Fn(&RgbImage) -> Result<Vec<Seen>> + Sync + 'a {
    let known = shapes_of(detector);
    move |picture| {
        let candidates = looks::look(detector, picture, Look::Mirrored, watch)?;
        let of = |class: usize| relate::taken(detector, &candidates, class, picture.dimensions());
        let shapes = known.iter().enumerate().filter_map(|(class, shape)| Some((class, (*shape)?)));
        Ok(shapes.flat_map(|(class, shape)| of(class).into_iter().map(move |placed| Seen { shape, placed })).collect())
    }
}

/// The directions in which the best box of one shape stands from that of another, each with its probability: those that
/// `spatial_relation` says of its first pair. What lies obliquely has two.
pub fn directions(seen: &[Seen], subject: Shape, object: Shape) -> Vec<(Relation, f32)> {
    let best = |shape: Shape| seen.iter().find(|one| one.shape == shape).map(|one| &one.placed);
    let (Some(subject), Some(object)) = (best(subject), best(object)) else { return Vec::new() };
    let judged = relations::judge(subject, object, (SIDE as f32, SIDE as f32));
    let held = judged.iter().filter_map(|(relation, judged)| {
        let direction = match relation {
            relations::Relation::LeftOf => Relation::LeftOf,
            relations::Relation::RightOf => Relation::RightOf,
            relations::Relation::Above => Relation::Above,
            relations::Relation::Below => Relation::Below,
            _ => return None,
        };
        Some((direction, judged.probability().filter(|probability| *probability >= relate::HOLDS)?))
    });
    held.collect()
}

/// The surest of [`directions`]; of equally sure ones the first.
pub fn relation_of(seen: &[Seen], subject: Shape, object: Shape) -> Option<Relation> {
    let held = directions(seen, subject, object).into_iter();
    held.reduce(|best, next| if next.1 > best.1 { next } else { best }).map(|(direction, _)| direction)
}

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
fn looked<Q: Borrow<Question> + Sync>(questions: &[Q], detect: Detect<'_>) -> Result<Vec<Vec<Seen>>> {
    questions.par_iter().map(|question| detect(&question.borrow().scene.render(SIDE))).collect()
}

/// How many questions of a kind are answered rightly.
///
/// # Errors
/// Whatever the tools return.
pub fn right_answers(kind: Kind, questions: &[Question], tools: Tools<'_>) -> Result<Accuracy> {
    let detect = if matches!(kind, Kind::LeftRight | Kind::Relation) { tools.relate } else { tools.count };
    let looked = looked(questions, detect)?;
    let right =
        questions.iter().zip(&looked).filter(|(question, seen)| answer(kind, question, seen) == Some(question.answer));
    let chance: f32 = questions.iter().map(|question| 1.0 / question.choices.len().max(1) as f32).sum();
    Ok(Accuracy { right: right.count(), of: questions.len(), chance: chance / questions.len().max(1) as f32 })
}

/// In how many scenes every shape is counted rightly, and of how many pairs of shapes the direction is told: of those that the
/// scene holds once each and of which one stands clearly to one side of the other.
///
/// # Errors
/// Whatever the tools return.
pub fn objects(questions: &[Question], tools: Tools<'_>) -> Result<(Accuracy, Accuracy)> {
    let mut exact = Accuracy { right: 0, of: questions.len(), chance: 0.0 };
    let mut pairs = Accuracy { right: 0, of: 0, chance: 1.0 / Relation::ALL.len() as f32 };
    for (question, seen) in questions.iter().zip(looked(questions, tools.count)?) {
        let number = |shape: Shape| question.scene.things().filter(|thing| thing.shape == shape).count();
        let found = |shape: Shape| seen.iter().filter(|one| one.shape == shape).count();
        exact.right += usize::from(Shape::ALL.into_iter().all(|shape| number(shape) == found(shape)));
    }
    let clear: Vec<&Question> = questions.iter().filter(|question| !clear_pairs(&question.scene).is_empty()).collect();
    for (question, seen) in clear.iter().zip(looked(&clear, tools.relate)?) {
        for (subject, truth, object) in clear_pairs(&question.scene) {
            pairs.of += 1;
            let told = directions(&seen, subject, object);
            pairs.right += usize::from(told.iter().any(|(direction, _)| *direction == truth));
        }
    }
    Ok((exact, pairs))
}

/// The shapes that a scene holds once each, of which the one stands clearly in this direction from the other.
fn clear_pairs(scene: &Scene) -> Vec<(Shape, Relation, Shape)> {
    let number = |shape: Shape| scene.things().filter(|thing| thing.shape == shape).count();
    let alone: Vec<_> = scene.objects.iter().filter(|object| number(object.thing.shape) == 1).collect();
    let pairs = alone.iter().flat_map(|subject| alone.iter().map(move |object| (subject, object)));
    let clear = pairs.filter_map(|(subject, object)| {
        let direction = Relation::between(subject.box_centre(), object.box_centre())?;
        Some((subject.thing.shape, direction, object.thing.shape))
    });
    clear.collect()
}
