//! The built-in starter CLIP: its files agree with each other, and it sees what its model card says.

use std::path::PathBuf;

use clip_aware::compute::Backend;
use clip_aware::config::{DeviceChoice, PrecisionChoice};
use clip_aware::engine::scenes::{Kind, Question, measure, questions};
use clip_aware::models::Encoder;
use clip_aware::models::weights::{Source, locate};
use clip_aware::pixels::scene::{CaptionStyle, Random};
use image::RgbImage;
use serde_json::Value;
use tokenizers::Tokenizer;

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
