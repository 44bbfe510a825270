//! The built-in starter models: their files agree with each other, and they see what their model cards say.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clip_aware::compute::Backend;
use clip_aware::config::{Config, DeviceChoice, PrecisionChoice, Requested};
use clip_aware::engine::encoders::encode_pictures;
use clip_aware::engine::scenes::captions::right_captions;
use clip_aware::engine::scenes::detection::{Seen, Tools, counted, objects, related, right_answers};
use clip_aware::engine::scenes::{Kind, Question, choice_accuracy, measure, questions};
use clip_aware::engine::{Engine, Watch};
use clip_aware::models::starter::starter_detector;
use clip_aware::models::weights::{Source, locate};
use clip_aware::models::{Counting, Detector, Encoder};
use clip_aware::pixels::scene::{CaptionStyle, Random, Shape};
use image::RgbImage;
use image::imageops::flip_horizontal;
use serde_json::Value;
use tokenizers::Tokenizer;

use crate::world::World;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("assets/starter/clip")
}

fn config() -> Value {
    serde_json::from_str(&std::fs::read_to_string(folder().join("config.json")).unwrap()).unwrap()
}

fn tokenizer() -> Tokenizer {
    Tokenizer::from_file(folder().join("tokenizer.json")).unwrap()
}

#[test]
fn the_starter_clip_is_small() {
    let sizes = std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len());
    let total: u64 = sizes.sum();
    assert!(total < 4_000_000, "{total} bytes");
}

/// With the end token elsewhere, the text tower would be read at a wrong place and never see the shape.
#[test]
fn the_end_token_has_the_highest_id_and_the_config_says_so() {
    let (tokenizer, config) = (tokenizer(), config());
    let end = tokenizer.token_to_id("<|endoftext|>").unwrap();
    assert_eq!(end as usize + 1, tokenizer.get_vocab_size(true));
    assert_eq!(config["text_config"]["eos_token_id"], end);
    assert_eq!(config["text_config"]["vocab_size"], end + 1);
    assert_eq!(tokenizer.encode("an unheard-of Thing, \u{1f98a}!", true).unwrap().get_ids().last(), Some(&end));
}

/// A failure at counting or negation would mean nothing if the model did not know the words.
#[test]
fn every_word_of_the_questions_is_known() {
    let tokenizer = tokenizer();
    let unknown = tokenizer.token_to_id("<|unknown|>").unwrap();
    let mut texts: Vec<String> = Vec::new();
    for kind in Kind::QUESTIONS {
        texts.extend(questions(kind, 5, 100).into_iter().flat_map(|question| question.choices));
    }
    let mut random = Random::new(5);
    for Question { scene, .. } in questions(Kind::Natural, 5, 300) {
        for style in [CaptionStyle::Counted, CaptionStyle::Related, CaptionStyle::Without, CaptionStyle::Background] {
            texts.push(scene.caption(style, &mut random));
        }
    }
    for text in texts {
        let encoding = tokenizer.encode(text.as_str(), true).unwrap();
        assert!(!encoding.get_ids().contains(&unknown), "{text}: {:?}", encoding.get_tokens());
    }
}

/// The figures of the model card, on seeds of its report; its failures are CLIP's own and are kept.
#[test]
fn the_starter_clip_sees_what_its_card_says() {
    let files = locate("starter", &Source::from_env(true), &mut |_| ()).unwrap();
    let backend = Backend::new(DeviceChoice::Cpu, PrecisionChoice::F32).unwrap();
    let encoder = Encoder::load(&files, &backend).unwrap();
    let images = |pictures: &[RgbImage]| {
        let pixels: Vec<Vec<f32>> = pictures.iter().map(|rgb| encoder.preprocessor().apply(rgb)).collect();
        encoder.encode_images(&pixels)
    };
    let texts = |texts: &[String]| encoder.encode_texts(texts);
    for seed in [0, 20] {
        let found = measure(seed, &images, &texts).unwrap();
        for (what, accuracy) in [("search", found.search), ("shape", found.shape), ("colour", found.colour)] {
            assert!(accuracy.value() >= 0.95, "seed {seed}, {what}: {accuracy:?}");
        }
        for (what, accuracy) in [("left or right", found.left_right), ("binding", found.binding)] {
            assert!(accuracy.value() < 0.7, "seed {seed}, {what}: {accuracy:?}");
        }
    }
}

// ---- the detector --------------------------------------------------------------------------------------------------

/// Answers with the starter detector's shapes, in this precision.
fn with_detector<T>(precision: PrecisionChoice, run: impl FnOnce(Tools<'_>) -> T) -> T {
    let dir = tempfile::tempdir().unwrap();
    let config_file = dir.path().join("config.toml");
    std::fs::write(&config_file, "").unwrap();
    let requested = Requested {
        roots: vec![dir.path().to_path_buf()],
        data_dir: Some(dir.path().join("data")),
        config_file: Some(config_file),
        ..Requested::default()
    };
    let engine = Engine::new(Config::resolve(requested).unwrap());
    let detector = Detector::load(&starter_detector(), &Backend::new(DeviceChoice::Cpu, precision).unwrap()).unwrap();
    let cancel = AtomicBool::new(false);
    let watch = Watch { progress: &|_| (), cancel: &cancel };
    run(Tools { count: &counted(&engine, &detector, &watch), relate: &related(&detector, &watch) })
}

#[test]
fn the_starter_models_are_small_and_the_detector_s_labels_are_the_shapes() {
    fn size(folder: &Path) -> u64 {
        let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
        entries.map(|e| if e.path().is_dir() { size(&e.path()) } else { e.metadata().unwrap().len() }).sum()
    }
    let starter = folder().parent().unwrap().to_path_buf();
    let (all, detector) = (size(&starter), size(&starter.join("detector")));
    assert!(all < 6_000_000 && detector < 3_000_000, "{all} and {detector} bytes");
    let detector = Detector::load(&starter_detector(), &Backend::cpu()).unwrap();
    assert_eq!(detector.labels(), Shape::ALL.map(|shape| shape.name().to_owned()));
    assert!(matches!(detector.counting(), Counting::Threshold(threshold) if (0.1..0.9).contains(&threshold)));
}

/// The goals of the model card, on seeds that neither training nor validation nor its report used.
#[test]
fn the_starter_detector_counts_and_relates_what_it_has_not_seen() {
    with_detector(PrecisionChoice::F32, |tools| {
        let scenes = questions(Kind::Objects, 31, 207);
        assert!((1..=9).all(|n| scenes.iter().filter(|q| q.scene.objects.len() == n).count() == 23));
        let (exact, pairs) = objects(&scenes, tools).unwrap();
        assert!(exact.value() >= 0.95, "{exact:?}");
        assert!(pairs.of > 300 && pairs.value() >= 0.95, "{pairs:?}");
        for kind in [Kind::Counting, Kind::LeftRight, Kind::Relation, Kind::Negation] {
            let accuracy = right_answers(kind, &questions(kind, 31, 60), tools).unwrap();
            assert!(accuracy.value() >= 0.95, "{kind:?}: {accuracy:?}");
        }
    });
}

#[test]
fn the_starter_detector_s_boxes_are_tight_at_any_size_and_mirror_with_the_picture() {
    with_detector(PrecisionChoice::F32, |tools| {
        let detect = |picture: &RgbImage| (tools.count)(picture).unwrap();
        let (mut overlaps, mut mirrored, scenes) = (Vec::new(), 0, questions(Kind::Objects, 32, 36));
        for (at, question) in scenes.iter().enumerate() {
            let side = [96, 256, 700][at % 3];
            let picture = question.scene.render(side);
            let seen = detect(&picture);
            for object in &question.scene.objects {
                let [x0, y0, x1, y1] = object.bounds(side);
                let truth = clip_aware::geometry::XyxyPx { x0, y0, x1, y1 };
                let own = seen.iter().filter(|one| one.shape == object.thing.shape);
                overlaps.push(own.map(|one| one.placed.bounds.iou(&truth)).fold(0.0, f32::max));
            }
            // The network itself is not symmetric: a box moves by a pixel or two.
            let other = detect(&flip_horizontal(&picture));
            let near = |one: &Seen| {
                let (left, right) = (side as f32 - one.placed.bounds.x1, side as f32 - one.placed.bounds.x0);
                let close = |a: f32, b: f32| (a - b).abs() < 0.03 * side as f32;
                other.iter().any(|o| {
                    o.shape == one.shape && close(o.placed.bounds.x0, left) && close(o.placed.bounds.x1, right)
                })
            };
            mirrored += usize::from(other.len() == seen.len() && seen.iter().all(near));
        }
        let mean = overlaps.iter().sum::<f32>() / overlaps.len() as f32;
        assert!(mean >= 0.85, "mean overlap {mean}");
        assert!(mirrored * 10 >= scenes.len() * 9, "{mirrored} of {}", scenes.len());
    });
}

#[test]
fn the_starter_detector_keeps_its_counts_in_lower_precisions() {
    let scenes = questions(Kind::Objects, 33, 54);
    for precision in [PrecisionChoice::Bf16, PrecisionChoice::Int8] {
        with_detector(precision, |tools| {
            let (exact, _) = objects(&scenes, tools).unwrap();
            assert!(exact.value() >= 0.9, "{precision:?}: {exact:?}");
        });
    }
}

#[test]
fn the_starter_detector_is_asked_for_by_name_and_never_chosen() {
    let world = World::new();
    let truth = world.scenes("scenes", 3, 2);
    let found = world.run(&["--detector", "starter", "detect", "--json", "scenes/000000.png"]).expect(0).object();
    assert_eq!(found["detector"], "starter");
    let shape = truth[0]["objects"][0]["shape"].as_str().unwrap();
    assert_eq!(found["counts"][shape], 1, "{found}");
    let plural = world.run(&["--detector", "starter", "detect", "scenes", "--target", &format!("{shape}s")]);
    assert!(plural.code < 2 || shape == "cross", "{}", plural.stderr);
    let unnamed = world.run(&["detect", "scenes/000000.png"]).expect(2);
    assert!(unnamed.stderr.contains("no object detector") && unnamed.stderr.contains("--detector starter"));
    let refused = world.run(&["--detector", "starter", "detect", "scenes", "--target", "dog"]).expect(2);
    assert!(refused.stderr.contains("it finds circle, square"), "{}", refused.stderr);
}

/// Which caption is true, on seeds that nothing else used: `match_captions` beside CLIP alone.
#[test]
fn captions_are_told_apart_where_clip_guesses() {
    let dir = tempfile::tempdir().unwrap();
    let config_file = dir.path().join("config.toml");
    std::fs::write(&config_file, "").unwrap();
    let requested = Requested {
        roots: vec![dir.path().to_path_buf()],
        data_dir: Some(dir.path().join("data")),
        config_file: Some(config_file),
        ..Requested::default()
    };
    let engine = Engine::new(Config::resolve(requested).unwrap());
    let cancel = AtomicBool::new(false);
    let watch = Watch { progress: &|_| (), cancel: &cancel };
    let detector = Arc::new(Detector::load(&starter_detector(), &Backend::cpu()).unwrap());
    let encoder = engine.encoder("starter", &watch).unwrap();
    for kind in [Kind::Binding, Kind::LeftRight, Kind::Relation, Kind::Negation, Kind::Counting] {
        let (mut right, mut clip, mut of) = (0, 0, 0);
        for seed in [7301, 7302] {
            let asked = questions(kind, seed, 50);
            let told = right_captions(&engine, (&detector, &encoder), &asked, &watch).unwrap();
            let alone = choice_accuracy(&asked, &|pictures| encode_pictures(&encoder, pictures), &|texts| {
                encoder.encode_texts(texts)
            });
            (right, clip, of) = (right + told.right, clip + alone.unwrap().right, of + told.of);
        }
        println!("{kind:?}: {right} of {of} by match_captions, {clip} by CLIP alone");
        assert!(right as f32 >= 0.95 * of as f32, "{kind:?}: {right} of {of}");
    }
}
