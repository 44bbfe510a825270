//! Rendered scenes as a measuring instrument: what an image-text model sees in them, and where it fails.
//!
//! Questions are built here from a seed, a model answers them through two closures, and the answers are scored. The
//! same questions are put to the tools that CLIP's failures are routed to (`detection`), and can be written to disk
//! (`export`) for `tools/`, which trains and measures the starter models.

use image::RgbImage;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::pixels::scene::{
    Colour, MAX_OBJECTS, Random, Relation, Scene, SceneSpec, Shape, Thing, counted, seed_of, swap_colours, with_article,
};

pub mod captions;
pub mod detection;
mod export;

pub use export::export;

/// Scenes per measurement.
pub const SCENES: usize = 200;
/// Side of the pictures in a measurement, pixels.
pub const SIDE: u32 = 256;

/// A collection of scenes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// For training: half with one object, the others with two to six, captions as on the web; no question.
    Natural,
    /// For search by "a red circle": of 20 scenes 18 with one object, one with two, one with three; no question.
    Gallery,
    /// One object: which shape is it?
    Shape,
    /// One object: which colour has it?
    Colour,
    /// One to four equal objects: how many are there?
    Counting,
    /// Two objects side by side: which is left?
    LeftRight,
    /// Two objects: which colour belongs to which shape?
    Binding,
    /// Two or three objects: is there a circle, or no circle?
    Negation,
    /// For detection: one to nine objects, each number as often as the others; no question.
    Objects,
    /// Two objects: is the first left of the second, right of it, above or below it?
    Relation,
}

impl Kind {
    /// The kinds that ask a question.
    pub const QUESTIONS: [Self; 7] =
        [Self::Shape, Self::Colour, Self::Counting, Self::LeftRight, Self::Binding, Self::Negation, Self::Relation];
}

/// A scene, and for the kinds that ask: texts to choose among.
#[derive(Debug, Clone)]
pub struct Question {
    /// What is shown.
    pub scene: Scene,
    /// The texts, in an order that tells nothing; empty for kinds that do not ask.
    pub choices: Vec<String>,
    /// Index of the true text.
    pub answer: usize,
}

/// The question at `index` of the collection `seed`; each is independent of the others.
pub fn question(kind: Kind, seed: u64, index: usize) -> Question {
    // Kinds get scenes of their own, so that no measurement repeats the pictures of another.
    let scene_seed = seed_of(seed, (kind as u64) << 40 | index as u64);
    let mut random = Random::new(scene_seed);
    // The layout must not repeat the numbers that the spec was drawn from.
    let layout_seed = random.bits();
    let (spec, choices, answer) = match kind {
        Kind::Natural => (natural(&mut random), Vec::new(), 0),
        Kind::Gallery => (gallery(index, &mut random), Vec::new(), 0),
        Kind::Shape => {
            let thing = Thing::random(&mut random);
            let choices = Shape::ALL.iter().map(|shape| format!("a photo of {}", with_article(shape.name()))).collect();
            (SceneSpec::single(thing), choices, position(&Shape::ALL, &thing.shape))
        }
        Kind::Colour => {
            let thing = Thing::random(&mut random);
            let choices = Colour::ALL.iter().map(|colour| with_article(&format!("{} object", colour.name()))).collect();
            (SceneSpec::single(thing), choices, position(&Colour::ALL, &thing.colour))
        }
        Kind::Counting => {
            let thing = Thing::random(&mut random);
            let count = 1 + random.below(4);
            let choices = (1..=4).map(|number| counted(thing, number)).collect();
            (SceneSpec::counted(thing, count), choices, count - 1)
        }
        Kind::LeftRight => left_right(&mut random),
        Kind::Binding => binding(&mut random),
        Kind::Negation => negation(index, &mut random),
        Kind::Objects => (objects(index, &mut random), Vec::new(), 0),
        Kind::Relation => relation(&mut random),
    };
    Question { scene: Scene::new(&spec, layout_seed), choices, answer }
}

/// The first `count` questions of a collection.
pub fn questions(kind: Kind, seed: u64, count: usize) -> Vec<Question> {
    (0..count).map(|index| question(kind, seed, index)).collect()
}

fn natural(random: &mut Random) -> SceneSpec {
    let count = match random.below(100) {
        0..50 => 1,
        50..77 => 2,
        77..90 => 3,
        _ => 4 + random.below(3),
    };
    // Equal things often come together on the web as well: "red apples".
    if count > 1 && random.chance(0.25) {
        SceneSpec::counted(Thing::random(random), count)
    } else {
        SceneSpec::mixed(count, random)
    }
}

fn gallery(index: usize, random: &mut Random) -> SceneSpec {
    let count = match index % 20 {
        0..18 => 1,
        18 => 2,
        _ => 3,
    };
    SceneSpec::mixed(count, random)
}

/// Equal things, a few kinds of things, or anything.
fn objects(index: usize, random: &mut Random) -> SceneSpec {
    let count = 1 + index % MAX_OBJECTS;
    let kinds = match random.below(10) {
        0..2 => 1,
        2..5 => 2 + random.below(2),
        _ => return SceneSpec::mixed(count, random),
    };
    let known: Vec<Thing> = (0..kinds).map(|_| Thing::random(random)).collect();
    SceneSpec::Things((0..count).filter_map(|_| known.get(random.below(known.len())).copied()).collect())
}

/// All four answers are offered for one pair.
fn relation(random: &mut Random) -> (SceneSpec, Vec<String>, usize) {
    let [subject, object] = SceneSpec::distinct_pair(random);
    let relation = random.pick(&Relation::ALL);
    let [first, second] = [subject, object].map(|thing| with_article(&thing.to_string()));
    let choices = Relation::ALL.iter().map(|relation| format!("{first} {} {second}", relation.words())).collect();
    (SceneSpec::Related { subject, relation, object }, choices, position(&Relation::ALL, &relation))
}

fn left_right(random: &mut Random) -> (SceneSpec, Vec<String>, usize) {
    let [subject, object] = SceneSpec::distinct_pair(random);
    let relation = random.pick(&[Relation::LeftOf, Relation::RightOf]);
    let say = |a: Thing, b: Thing| {
        format!("{} {} {}", with_article(&a.to_string()), relation.words(), with_article(&b.to_string()))
    };
    let (choices, answer) = shuffled(say(subject, object), say(object, subject), random);
    (SceneSpec::Related { subject, relation, object }, choices, answer)
}

fn binding(random: &mut Random) -> (SceneSpec, Vec<String>, usize) {
    let pair = SceneSpec::distinct_pair(random);
    let say = |[a, b]: [Thing; 2]| format!("{} and {}", with_article(&a.to_string()), with_article(&b.to_string()));
    let (choices, answer) = shuffled(say(pair), say(swap_colours(pair)), random);
    (SceneSpec::Things(pair.to_vec()), choices, answer)
}

/// Every other scene holds the shape that is asked for.
fn negation(index: usize, random: &mut Random) -> (SceneSpec, Vec<String>, usize) {
    let shape = random.pick(&Shape::ALL);
    let count = 2 + random.below(2);
    let mut spec = SceneSpec::without(shape, count, random);
    let present = index.is_multiple_of(2);
    if let (true, SceneSpec::Things(things)) = (present, &mut spec) {
        let chosen = random.below(things.len());
        if let Some(thing) = things.get_mut(chosen) {
            thing.shape = shape;
        }
    }
    let choices = vec![
        format!("a photo of {}", with_article(shape.name())),
        format!("a photo without {}", with_article(shape.name())),
    ];
    (spec, choices, usize::from(!present))
}

/// Two texts in random order, and where the first went.
fn shuffled(right: String, wrong: String, random: &mut Random) -> (Vec<String>, usize) {
    if random.chance(0.5) { (vec![right, wrong], 0) } else { (vec![wrong, right], 1) }
}

fn position<T: PartialEq>(items: &[T], item: &T) -> usize {
    items.iter().position(|other| other == item).unwrap_or_default()
}

// ---- measuring ------------------------------------------------------------------------------------------------------

/// Embeds pictures; one vector each.
pub type EmbedImages<'a> = &'a dyn Fn(&[RgbImage]) -> Result<Vec<Vec<f32>>>;
/// Embeds texts; one vector each.
pub type EmbedTexts<'a> = &'a dyn Fn(&[String]) -> Result<Vec<Vec<f32>>>;

/// Right answers out of all, and what guessing would give.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Accuracy {
    /// Right answers.
    pub right: usize,
    /// Questions.
    pub of: usize,
    /// Share that guessing gets right, 0 to 1.
    pub chance: f32,
}

impl Accuracy {
    /// Share of right answers, 0 to 1.
    pub fn value(&self) -> f32 {
        if self.of == 0 { 0.0 } else { self.right as f32 / self.of as f32 }
    }
}

/// What a model can and cannot tell about rendered scenes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Accuracies {
    /// Search by "a red circle" over [`Kind::Gallery`], for every colour and shape present: the first hit holds it.
    pub search: Accuracy,
    /// The same over [`Kind::Natural`]: half of the scenes hold several objects, so that much of it is binding.
    pub search_mixed: Accuracy,
    /// [`Kind::Shape`].
    pub shape: Accuracy,
    /// [`Kind::Colour`].
    pub colour: Accuracy,
    /// [`Kind::Counting`].
    pub counting: Accuracy,
    /// [`Kind::LeftRight`].
    pub left_right: Accuracy,
    /// [`Kind::Binding`].
    pub binding: Accuracy,
    /// [`Kind::Relation`].
    pub relation: Accuracy,
    /// [`Kind::Negation`].
    pub negation: Accuracy,
}

/// Measures a model on [`SCENES`] scenes of each kind; another seed means other scenes.
///
/// # Errors
/// Whatever the closures return; [`Error::Argument`] when they return another number of vectors than they were given
/// items.
pub fn measure(seed: u64, embed_images: EmbedImages<'_>, embed_texts: EmbedTexts<'_>) -> Result<Accuracies> {
    let ask = |kind| choice_accuracy(&questions(kind, seed, SCENES), embed_images, embed_texts);
    let search = |kind| search_accuracy(&questions(kind, seed, SCENES), embed_images, embed_texts);
    Ok(Accuracies {
        search: search(Kind::Gallery)?,
        search_mixed: search(Kind::Natural)?,
        shape: ask(Kind::Shape)?,
        colour: ask(Kind::Colour)?,
        counting: ask(Kind::Counting)?,
        left_right: ask(Kind::LeftRight)?,
        binding: ask(Kind::Binding)?,
        relation: ask(Kind::Relation)?,
        negation: ask(Kind::Negation)?,
    })
}

/// Precision at 1 of "a red circle" over the scenes, for every colour and shape that one of them holds.
///
/// # Errors
/// As [`measure`].
pub fn search_accuracy(
    gallery: &[Question],
    embed_images: EmbedImages<'_>,
    embed_texts: EmbedTexts<'_>,
) -> Result<Accuracy> {
    let holds = |question: &Question, thing: Thing| question.scene.things().any(|other| other == thing);
    let present: Vec<Thing> =
        Thing::all().filter(|&thing| gallery.iter().any(|question| holds(question, thing))).collect();
    let queries: Vec<String> = present.iter().map(|thing| with_article(&thing.to_string())).collect();
    let images = embedded(&render(gallery), embed_images)?;
    let texts = embedded(&queries, embed_texts)?;
    let found =
        |thing: Thing, text: &[f32]| best(text, &images).and_then(|i| gallery.get(i)).is_some_and(|q| holds(q, thing));
    let right = present.iter().zip(&texts).filter(|&(&thing, text)| found(thing, text)).count();
    let holders: usize =
        present.iter().map(|&thing| gallery.iter().filter(|question| holds(question, thing)).count()).sum();
    let chance = holders as f32 / (present.len() * gallery.len()).max(1) as f32;
    Ok(Accuracy { right, of: present.len(), chance })
}

/// How often the true text is the nearest of the choices.
///
/// # Errors
/// As [`measure`].
pub fn choice_accuracy(
    questions: &[Question],
    embed_images: EmbedImages<'_>,
    embed_texts: EmbedTexts<'_>,
) -> Result<Accuracy> {
    let answered = answered(questions, embed_images, embed_texts)?;
    let chance: f32 = questions.iter().map(|question| 1.0 / question.choices.len().max(1) as f32).sum();
    let right =
        questions.iter().zip(&answered).filter(|(question, given)| given.chosen == Some(question.answer)).count();
    Ok(Accuracy { right, of: questions.len(), chance: chance / questions.len().max(1) as f32 })
}

/// The question that is answered wrongly with the greatest lead over the next text; none when all are answered rightly.
///
/// # Errors
/// As [`measure`].
pub fn surest_mistake(
    questions: &[Question],
    embed_images: EmbedImages<'_>,
    embed_texts: EmbedTexts<'_>,
) -> Result<Option<usize>> {
    let answered = answered(questions, embed_images, embed_texts)?;
    let all = questions.iter().zip(&answered).enumerate();
    let wrong = all.filter(|(_, (question, given))| given.chosen.is_some_and(|chosen| chosen != question.answer));
    Ok(wrong.max_by(|(_, (_, a)), (_, (_, b))| a.lead.total_cmp(&b.lead)).map(|(at, _)| at))
}

/// A model's answer to a question.
struct Answered {
    /// The text with the largest cosine; none where there are no texts.
    chosen: Option<usize>,
    /// How far its cosine lies above the next one.
    lead: f32,
}

fn answered(
    questions: &[Question],
    embed_images: EmbedImages<'_>,
    embed_texts: EmbedTexts<'_>,
) -> Result<Vec<Answered>> {
    // Many questions share their texts: each is embedded once.
    let mut texts: Vec<String> = questions.iter().flat_map(|question| question.choices.iter().cloned()).collect();
    texts.sort_unstable();
    texts.dedup();
    let images = embedded(&render(questions), embed_images)?;
    let vectors = embedded(&texts, embed_texts)?;
    let vector_of = |text: &String| texts.binary_search(text).ok().and_then(|i| vectors.get(i)).cloned();
    let answer = |(question, image): (&Question, &Vec<f32>)| {
        let choices: Vec<Vec<f32>> = question.choices.iter().filter_map(vector_of).collect();
        let mut cosines: Vec<f32> = choices.iter().map(|choice| cosine(image, choice)).collect();
        cosines.sort_by(|a, b| b.total_cmp(a));
        let lead = if let [first, second, ..] = cosines.as_slice() { first - second } else { 0.0 };
        Answered { chosen: best(image, &choices), lead }
    };
    Ok(questions.iter().zip(&images).map(answer).collect())
}

fn render(questions: &[Question]) -> Vec<RgbImage> {
    questions.iter().map(|question| question.scene.render(SIDE)).collect()
}

fn embedded<T>(items: &[T], embed: impl Fn(&[T]) -> Result<Vec<Vec<f32>>>) -> Result<Vec<Vec<f32>>> {
    let vectors = embed(items)?;
    if vectors.len() == items.len() {
        return Ok(vectors);
    }
    let reason = format!("returned {} vectors for {} items", vectors.len(), items.len());
    Err(Error::Argument { name: "embed", reason })
}

/// Of vectors of unit length.
fn cosine(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// The candidate with the largest cosine to `query`; all have unit length. The first of equals.
fn best(query: &[f32], candidates: &[Vec<f32>]) -> Option<usize> {
    let scores: Vec<f32> = candidates.iter().map(|candidate| cosine(query, candidate)).collect();
    (0..scores.len()).rev().max_by(|&a, &b| scores[a].total_cmp(&scores[b]))
}

#[cfg(test)]
#[path = "scenes_tests.rs"]
mod tests;
