use std::collections::HashMap;

use serde_json::{Value, json};

use super::detection::{Seen, Tools, objects, right_answers};
use super::*;
use crate::geometry::XyxyPx;
use crate::geometry::relations::{Kind as Stature, Placed};

/// A model that sees which colours and shapes are in a picture and nothing of how they belong together: the
/// bag-of-words behaviour for which CLIP is known, in its purest form.
struct BagOfWords {
    seen: HashMap<Vec<u8>, Vec<Thing>>,
}

impl BagOfWords {
    fn of(questions: &[Question]) -> Self {
        let seen = questions.iter().map(|q| (q.scene.render(SIDE).into_raw(), q.scene.things().collect())).collect();
        Self { seen }
    }

    fn images(&self, pictures: &[RgbImage]) -> Vec<Vec<f32>> {
        pictures
            .iter()
            .map(|picture| {
                let things = &self.seen[picture.as_raw()];
                unit(|word| things.iter().any(|thing| thing.colour.name() == word || thing.shape.name() == word))
            })
            .collect()
    }
}

fn texts(texts: &[String]) -> Vec<Vec<f32>> {
    let says = |text: &str, word: &str| {
        text.split(' ').any(|other| [word, &format!("{word}s"), &format!("{word}es")].contains(&other))
    };
    texts.iter().map(|text| unit(|word| says(text, word))).collect()
}

fn unit(holds: impl Fn(&str) -> bool) -> Vec<f32> {
    let words = Colour::ALL.iter().map(|c| c.name()).chain(Shape::ALL.iter().map(|s| s.name()));
    let vector: Vec<f32> = words.map(|word| if holds(word) { 1.0 } else { 0.0 }).collect();
    let length = vector.iter().map(|v| v * v).sum::<f32>().sqrt().max(1e-6);
    vector.into_iter().map(|v| v / length).collect()
}

fn asked(kind: Kind) -> Accuracy {
    let questions = questions(kind, 3, 120);
    let model = BagOfWords::of(&questions);
    choice_accuracy(&questions, &|pictures| Ok(model.images(pictures)), &|words| Ok(texts(words))).unwrap()
}

#[test]
fn a_bag_of_words_sees_shapes_and_colours_and_nothing_else() {
    for kind in [Kind::Shape, Kind::Colour] {
        let accuracy = asked(kind);
        assert_eq!((accuracy.right, accuracy.of), (120, 120), "{kind:?}");
        assert!((accuracy.chance - 0.125).abs() < 1e-4);
    }
    // All choices hold the same words: the first of equals is taken, and the order of the choices tells nothing.
    for (kind, chance) in [(Kind::Counting, 0.25), (Kind::LeftRight, 0.5), (Kind::Binding, 0.5), (Kind::Relation, 0.25)]
    {
        let accuracy = asked(kind);
        assert!((accuracy.chance - chance).abs() < 1e-4, "{kind:?}");
        assert!((accuracy.value() - chance).abs() < 0.12, "{kind:?}: {}", accuracy.value());
    }
    assert!((asked(Kind::Negation).value() - 0.5).abs() < 1e-4, "every other scene holds the shape");
}

#[test]
fn search_by_a_bag_of_words_finds_single_objects() {
    let gallery: Vec<Question> =
        questions(Kind::Gallery, 3, SCENES).into_iter().filter(|q| q.scene.objects.len() == 1).collect();
    let model = BagOfWords::of(&gallery);
    let accuracy =
        search_accuracy(&gallery, &|pictures| Ok(model.images(pictures)), &|words| Ok(texts(words))).unwrap();
    assert_eq!(accuracy.right, accuracy.of);
    assert!(accuracy.of > 45 && accuracy.chance < 0.05, "{accuracy:?}");
}

#[test]
fn answers_are_true_of_their_scenes() {
    for index in 0..80 {
        let count = question(Kind::Counting, 1, index);
        assert_eq!(count.scene.objects.len(), count.answer + 1);
        let binding = question(Kind::Binding, 1, index);
        assert!(binding.scene.things().all(|thing| binding.choices[binding.answer].contains(&thing.to_string())));
        assert!(binding.scene.things().all(|thing| !binding.choices[1 - binding.answer].contains(&thing.to_string())));
        let side = question(Kind::LeftRight, 1, index);
        let subject = side.scene.objects[0].thing.to_string();
        let words = side.scene.relation().unwrap().words();
        assert!(side.choices[side.answer].contains(&format!("{subject} {words}")));
        let relation = question(Kind::Relation, 1, index);
        assert_eq!(relation.choices.len(), 4);
        assert!(relation.choices[relation.answer].contains(relation.scene.relation().unwrap().words()));
        let negation = question(Kind::Negation, 1, index);
        let asked = Shape::ALL.into_iter().find(|shape| negation.choices[0].ends_with(shape.name())).unwrap();
        assert_eq!(negation.answer == 0, negation.scene.things().any(|thing| thing.shape == asked));
    }
}

#[test]
fn kinds_and_seeds_have_scenes_of_their_own() {
    let mut seeds = Vec::new();
    for kind in Kind::QUESTIONS.into_iter().chain([Kind::Natural, Kind::Gallery, Kind::Objects]) {
        for seed in 0..5 {
            seeds.extend(questions(kind, seed, 50).iter().map(|question| question.scene.seed));
        }
    }
    let all = seeds.len();
    seeds.sort_unstable();
    seeds.dedup();
    assert_eq!(seeds.len(), all);
}

#[test]
fn a_model_that_loses_items_is_refused() {
    let questions = questions(Kind::Shape, 1, 3);
    let failure = choice_accuracy(&questions, &|_| Ok(Vec::new()), &|words| Ok(texts(words))).unwrap_err();
    assert_eq!(failure.to_string(), "`embed` returned 0 vectors for 3 items");
}

#[test]
fn exports_hold_pixels_and_truth() {
    let folder = std::env::temp_dir().join(format!("clip-aware-scenes-{}", std::process::id()));
    export(4, 3, 32, Kind::Counting, &folder.join("png"), false).unwrap();
    export(4, 3, 32, Kind::Counting, &folder.join("raw"), true).unwrap();
    let truth = std::fs::read_to_string(folder.join("png/scenes.jsonl")).unwrap();
    let raw = std::fs::read(folder.join("raw/scenes.rgb")).unwrap();
    assert_eq!(raw.len(), 3 * 32 * 32 * 3);
    for (index, (line, pixels)) in truth.lines().zip(raw.chunks(32 * 32 * 3)).enumerate() {
        let line: Value = serde_json::from_str(line).unwrap();
        let expected = question(Kind::Counting, 4, index);
        assert_eq!(line["objects"].as_array().unwrap().len(), expected.scene.objects.len());
        assert_eq!(line["choices"][expected.answer], json!(expected.choices[expected.answer]));
        let right_edge = line["objects"][0]["box"][2].as_f64().unwrap();
        assert!((right_edge - f64::from(expected.scene.objects[0].bounds(32)[2])).abs() < 1e-4);
        assert_eq!(expected.scene.render(32).as_raw(), pixels);
        assert_eq!(std::fs::read(folder.join("png").join(line["image"].as_str().unwrap())).unwrap()[1..4], *b"PNG");
    }
    assert_eq!(truth.lines().count(), 3);
    std::fs::remove_dir_all(&folder).unwrap();
}

/// A detector that sees everything as it is.
fn perfect(questions: &[Question]) -> HashMap<Vec<u8>, Vec<Seen>> {
    let seen = |q: &Question| {
        let all = q.scene.objects.iter().map(|object| {
            let [x0, y0, x1, y1] = object.bounds(SIDE);
            let placed = Placed { bounds: XyxyPx { x0, y0, x1, y1 }, jitter: 0.02, kind: Stature::default() };
            Seen { shape: object.thing.shape, placed }
        });
        all.collect()
    };
    questions.iter().map(|q| (q.scene.render(SIDE).into_raw(), seen(q))).collect()
}

fn both(detect: detection::Detect<'_>) -> Tools<'_> {
    Tools { count: detect, relate: detect }
}

#[test]
fn true_boxes_answer_every_question_and_wrong_ones_none() {
    for kind in [Kind::Counting, Kind::LeftRight, Kind::Relation, Kind::Negation] {
        let questions = questions(kind, 2, 60);
        let seen = perfect(&questions);
        let all = right_answers(kind, &questions, both(&|picture| Ok(seen[picture.as_raw()].clone()))).unwrap();
        assert_eq!((all.right, all.of), (60, 60), "{kind:?}");
        assert_eq!(all.chance.to_bits(), asked(kind).chance.to_bits(), "{kind:?}");
        let none = right_answers(kind, &questions, both(&|_| Ok(Vec::new()))).unwrap();
        // Nothing found is the right answer where a shape is absent.
        assert_eq!(none.right, if kind == Kind::Negation { 30 } else { 0 }, "{kind:?}");
    }
    let questions = questions(Kind::Objects, 2, 90);
    let seen = perfect(&questions);
    let (exact, pairs) = objects(&questions, both(&|picture| Ok(seen[picture.as_raw()].clone()))).unwrap();
    assert_eq!((exact.right, exact.of), (90, 90));
    assert!(pairs.of > 100 && pairs.right == pairs.of, "{pairs:?}");
    // One box too many, or one that lies on the other side, is noticed.
    let doubled = |picture: &RgbImage| Ok(seen[picture.as_raw()].iter().flat_map(|one| [*one, *one]).collect());
    assert_eq!(objects(&questions, both(&doubled)).unwrap().0.right, 0);
    let mirrored = |picture: &RgbImage| {
        let mirror = |one: &Seen| {
            let bounds = one.placed.bounds.mirrored(SIDE as f32);
            Seen { placed: Placed { bounds, ..one.placed }, ..*one }
        };
        Ok(seen[picture.as_raw()].iter().map(mirror).collect())
    };
    let (exact, pairs) = objects(&questions, both(&mirrored)).unwrap();
    assert!(exact.right == 90 && pairs.right * 3 < pairs.of * 2, "{pairs:?}");
}

#[test]
fn objects_come_in_every_number() {
    for (index, question) in questions(Kind::Objects, 1, 27).iter().enumerate() {
        assert_eq!(question.scene.objects.len(), 1 + index % 9);
        assert!(question.choices.is_empty());
    }
}

#[test]
fn the_surest_mistake_is_a_mistake() {
    let questions = questions(Kind::Shape, 3, 40);
    let model = BagOfWords::of(&questions);
    let images = |pictures: &[RgbImage]| Ok(model.images(pictures));
    assert_eq!(surest_mistake(&questions, &images, &|words| Ok(texts(words))).unwrap(), None);
    // A model for which everything is a circle is wrong about the first scene that shows none.
    let circles = |pictures: &[RgbImage]| Ok(vec![unit(|word| word == "circle"); pictures.len()]);
    let found = surest_mistake(&questions, &circles, &|words| Ok(texts(words))).unwrap().unwrap();
    assert_ne!(questions[found].scene.objects[0].thing.shape, Shape::Circle);
}
