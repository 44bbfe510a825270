//! Checkpoints in `OpenAI`'s and `open_clip`'s layouts against `open_clip` (`tools/export_openclip.py`).

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use candle_core::{Device, Tensor};
use clip_aware::Error;
use clip_aware::compute::Backend;
use clip_aware::models::weights::{self, Source};
use clip_aware::models::{Encoder, ModelFiles, Scoring};

use crate::world::copy_of;

/// Largest absolute difference of unit vectors.
const TOLERANCE: f32 = 1e-4;
/// What is named, and what the reference makes of it.
const CASES: [(&str, &str); 5] = [
    ("torchscript/model.pt", "torchscript"),
    ("fine-tuned/state_dict.pt", "state_dict"),
    ("fine-tuned/training.pt", "training"),
    ("hub", "hub"),
    ("hub/open_clip_model.safetensors", "hub"),
];

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/openclip").join(name)
}

fn locate(path: &Path) -> Result<ModelFiles, Error> {
    let nowhere = Source::from_variables(true, Some(Path::new("/no/such/home")), &|_| None);
    weights::fetch(path.to_str().unwrap(), &nowhere, &mut |_| {}, &AtomicBool::new(false)).map(|fetched| fetched.files)
}

fn load(path: &Path) -> Result<Encoder, Error> {
    Encoder::load(&locate(path)?, &Backend::cpu())
}

fn expected(name: &str) -> HashMap<String, Tensor> {
    candle_core::safetensors::load(fixture(&format!("expected-{name}.safetensors")), &Device::Cpu).unwrap()
}

fn texts() -> Vec<String> {
    serde_json::from_slice(&fs::read(fixture("texts.json")).unwrap()).unwrap()
}

/// Of rows, the largest absolute difference.
fn difference(found: &[Vec<f32>], expected: &Tensor) -> f32 {
    let expected: Vec<Vec<f32>> = expected.to_vec2().unwrap();
    assert_eq!(found.len(), expected.len());
    let pairs = found.iter().zip(&expected).flat_map(|(a, b)| {
        assert_eq!(a.len(), b.len());
        a.iter().zip(b)
    });
    // A NaN must not pass as "no difference".
    pairs.map(|(a, b)| (a - b).abs()).fold(0.0, |largest, x| if x <= largest { largest } else { x })
}

/// A copy that may be changed.
fn copy(name: &str) -> tempfile::TempDir {
    copy_of(&fixture(name))
}

#[test]
fn both_towers_equal_open_clip_in_every_layout() {
    for (name, reference) in CASES {
        let (encoder, expected) = (load(&fixture(name)).unwrap(), expected(reference));
        let pixels: Vec<Vec<f32>> = expected["pixels"].flatten_from(1).unwrap().to_vec2().unwrap();
        let images = encoder.encode_images(&pixels).unwrap();
        let vectors = encoder.encode_texts(&texts()).unwrap();
        for (kind, vectors) in [("image_embeds", &images), ("text_embeds", &vectors)] {
            let difference = difference(vectors, &expected[kind]);
            assert!(difference <= TOLERANCE, "{name}: {kind} are off by {difference}");
        }
        let single: Vec<Vec<f32>> =
            pixels.iter().flat_map(|image| encoder.encode_images(std::slice::from_ref(image)).unwrap()).collect();
        assert!(difference(&single, &Tensor::new(images, &Device::Cpu).unwrap()) <= 1e-5, "{name}: single images");
        let single: Vec<Vec<f32>> =
            texts().iter().flat_map(|text| encoder.encode_texts(std::slice::from_ref(text)).unwrap()).collect();
        assert!(difference(&single, &Tensor::new(vectors, &Device::Cpu).unwrap()) <= 1e-5, "{name}: single texts");
        let Scoring::Softmax { scale } = encoder.scoring().unwrap() else { panic!("{name}: {:?}", encoder.scoring()) };
        let reference = expected["scale"].to_vec1::<f32>().unwrap()[0];
        assert!((scale / reference - 1.0).abs() < 1e-5, "{name}: {scale} instead of {reference}");
    }
}

/// The way that a GPU takes reads the table of tokens as a whole.
#[test]
fn tensors_on_a_gpu_s_way_equal_open_clip() {
    for (name, reference) in CASES {
        let encoder = Encoder::load(&locate(&fixture(name)).unwrap(), &Backend::tensors_on_cpu()).unwrap();
        let expected: Vec<Vec<f32>> = expected(reference)["text_embeds"].to_vec2().unwrap();
        for (found, expected) in encoder.encode_texts(&texts()).unwrap().iter().zip(&expected) {
            let cosine: f32 = found.iter().zip(expected).map(|(a, b)| a * b).sum();
            assert!(cosine > 0.9999, "{name}: {cosine}");
        }
    }
}

#[test]
fn a_file_is_named_by_its_path_and_what_lies_beside_it_counts() {
    let folder = copy("fine-tuned");
    let path = folder.path().join("state_dict.pt");
    let with_config = locate(&path).unwrap();
    assert_eq!(Path::new(&with_config.id), path.canonicalize().unwrap());
    assert_eq!((with_config.config.name(), with_config.revision.len()), ("open_clip_config.json".to_owned(), 40));
    assert_ne!(locate(&folder.path().join("training.pt")).unwrap().revision, with_config.revision);

    let expected = expected("state_dict");
    let pixels: Vec<Vec<f32>> = expected["pixels"].flatten_from(1).unwrap().to_vec2().unwrap();
    let off = |encoder: &Encoder| difference(&encoder.encode_images(&pixels).unwrap(), &expected["image_embeds"]);
    let config = fs::read_to_string(folder.path().join("open_clip_config.json")).unwrap();
    fs::write(folder.path().join("open_clip_config.json"), config.replace("true", "false")).unwrap();
    assert_ne!(locate(&path).unwrap().revision, with_config.revision);
    assert!(off(&load(&path).unwrap()) > 10.0 * TOLERANCE, "the activation of the config is not used");

    // A config in transformers' words does as well; without any, these heads cannot be known.
    fs::remove_file(folder.path().join("open_clip_config.json")).unwrap();
    let error = load(&path).unwrap_err().to_string();
    assert!(error.starts_with("state_dict.pt of model") && error.contains("how many heads"), "{error}");
    let tower = r#"{"hidden_size": 16, "num_attention_heads": 2, "image_size": 12, "patch_size": 4, "vocab_size": 83,
        "max_position_embeddings": 14, "eos_token_id": 2, "intermediate_size""#;
    let config = format!(
        r#"{{"model_type": "clip", "projection_dim": 12, "text_config": {tower}: 32, "num_hidden_layers": 1}},
            "vision_config": {tower}: 24, "num_hidden_layers": 2}}}}"#
    );
    fs::write(folder.path().join("config.json"), config).unwrap();
    assert!(off(&load(&path).unwrap()) <= TOLERANCE);
    assert_eq!(load(&path).unwrap().preprocessor().size(), (12, 12));
}

#[test]
fn a_file_without_a_tokenizer_takes_openai_s_if_it_has_as_many_tokens() {
    let folder = copy("torchscript");
    fs::remove_file(folder.path().join("tokenizer.json")).unwrap();
    let error = load(&folder.path().join("model.pt")).unwrap_err().to_string();
    assert!(
        error.contains("OpenAI's tokenizer of model") && error.contains("has 49408 tokens, the model 83"),
        "{error}"
    );
}

#[test]
fn missing_tensors_have_the_names_of_the_file() {
    let folder = copy("hub");
    let path = folder.path().join("open_clip_model.safetensors");
    let mut tensors = candle_core::safetensors::load(&path, &Device::Cpu).unwrap();
    for name in ["visual.transformer.resblocks.1.attn.in_proj_weight", "ln_final.bias", "text_projection"] {
        tensors.remove(name).unwrap();
    }
    let wrong = Tensor::zeros(&[17, 12], candle_core::DType::F32, &Device::Cpu).unwrap();
    tensors.insert("visual.proj".to_owned(), wrong);
    let tensors = tensors.into_iter().map(|(name, tensor)| (format!("module.{name}"), tensor)).collect();
    candle_core::safetensors::save(&tensors, &path).unwrap();
    let Err(Error::Tensors { missing, wrong, .. }) = load(folder.path()) else { panic!("it was loaded") };
    let names = ["ln_final.bias", "text_projection", "visual.transformer.resblocks.1.attn.in_proj_weight"];
    assert_eq!(missing, names.map(|name| format!("module.{name}")));
    assert_eq!(wrong, ["module.visual.proj: found [12, 17], expected [12, 16]"]);
}

/// Cut anywhere, or with any byte of what is no number changed: an error, or a model where the byte does not matter.
#[test]
fn damaged_archives_are_errors() {
    for name in ["torchscript/model.pt", "fine-tuned/training.pt"] {
        let folder = copy(name.split('/').next().unwrap());
        let path = folder.path().join(name.split('/').nth(1).unwrap());
        let whole = fs::read(&path).unwrap();
        for length in [4, 100, whole.len() / 2, whole.len() - 100, whole.len() - 1] {
            fs::write(&path, &whole[..length]).unwrap();
            let error = load(&path).expect_err(&length.to_string());
            assert!(error.to_string().contains("is not a pickled state dict or module"), "{length}: {error}");
        }
        let pickle = memchr::memmem::find(&whole, b"data.pkl").unwrap();
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(state >> 33).unwrap() % below
        };
        for round in 0..400 {
            let mut damaged = whole.clone();
            // In turns in the pickle, and in the directory at the end.
            let at = if round % 2 == 0 { pickle + random(5000) } else { whole.len() - 1 - random(6000) };
            damaged[at] = u8::try_from(random(256)).unwrap();
            fs::write(&path, damaged).unwrap();
            if let Err(error) = locate(&path).and_then(|files| Encoder::load(&files, &Backend::cpu())) {
                assert!(!error.to_string().is_empty());
            }
        }
    }
}

#[test]
fn files_that_are_no_clip_say_so() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let save = |names: &[(&str, &[usize])]| {
        let zeros = |shape: &[usize]| Tensor::zeros(shape, candle_core::DType::F32, &Device::Cpu).unwrap();
        let tensors: HashMap<String, Tensor> =
            names.iter().map(|(name, shape)| ((*name).to_owned(), zeros(shape))).collect();
        candle_core::safetensors::save(&tensors, &path).unwrap();
        load(&path).unwrap_err().to_string()
    };
    let error = save(&[("head.weight", &[3, 3])]);
    assert!(error.contains("is no CLIP that is known here: it has no tensor vision_model.embeddings.patch"), "{error}");
    let error =
        save(&[("module.visual.attnpool.c_proj.weight", &[4, 4]), ("module.visual.conv1.weight", &[8, 3, 3, 3])]);
    assert!(error.contains("has a ResNet as its image tower"), "{error}");
    let layer = "visual.transformer.resblocks.0.attn.in_proj_weight";
    let error = save(&[(layer, &[192, 64]), ("logit_bias", &[])]);
    assert!(error.contains("was trained with a sigmoid"), "{error}");
    let error = save(&[
        (layer, &[192, 64]),
        ("visual.conv1.weight", &[64, 3, 4, 4]),
        ("visual.positional_embedding", &[12, 64]),
    ]);
    assert!(error.contains("has 12 positions of a picture"), "{error}");
    fs::write(&path, b"<!DOCTYPE html>").unwrap();
    assert!(load(&path).unwrap_err().to_string().contains("is not safetensors"));
    let pickled = folder.path().join("list.pt");
    fs::write(&pickled, b"PK\x03\x04 and nothing else").unwrap();
    assert!(load(&pickled).unwrap_err().to_string().contains("it is cut off"));
}
