//! Checkpoints as the world has them: shards, pickles, damaged files, and files that do not belong together.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use clip_aware::compute::Backend;
use clip_aware::models::{Blob, Towers};
use clip_aware::{Error, Result};

use crate::parity::files;
use crate::world::copy_of;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/parity").join(name)
}

/// A copy that may be damaged.
fn copy(name: &str) -> tempfile::TempDir {
    copy_of(&fixture(name))
}

fn load(folder: &Path) -> Result<Towers> {
    Towers::load(&files(folder), &Backend::cpu())
}

fn tensors(folder: &Path) -> HashMap<String, Tensor> {
    candle_core::safetensors::load(folder.join("model.safetensors"), &Device::Cpu).unwrap()
}

fn save(folder: &Path, tensors: &HashMap<String, Tensor>) {
    candle_core::safetensors::save(tensors, folder.join("model.safetensors")).unwrap();
}

fn vectors(towers: &Towers) -> Vec<Vec<f32>> {
    towers.encode_texts(&["a cat".to_owned(), "two dogs".to_owned()]).unwrap()
}

#[test]
fn shards_equal_one_file() {
    let folder = copy("siglip-a");
    let expected = vectors(&load(folder.path()).unwrap());
    let mut shards = [HashMap::new(), HashMap::new(), HashMap::new()];
    let mut names: Vec<_> = tensors(folder.path()).into_iter().collect();
    names.sort_by(|a, b| a.0.cmp(&b.0));
    for (i, (name, tensor)) in names.into_iter().enumerate() {
        shards[i % 3].insert(name, tensor);
    }
    let mut files = files(folder.path());
    files.weights.clear();
    for (i, shard) in shards.iter().enumerate() {
        let path = folder.path().join(format!("model-{i}-of-3.safetensors"));
        candle_core::safetensors::save(shard, &path).unwrap();
        files.weights.push(Blob::File(path));
    }
    assert_eq!(vectors(&Towers::load(&files, &Backend::cpu()).unwrap()), expected);
    files.weights.pop();
    let error = Towers::load(&files, &Backend::cpu()).unwrap_err();
    assert!(
        matches!(&error, Error::Tensors { missing, wrong, .. } if missing.len() > 10 && wrong.is_empty()),
        "{error}"
    );
}

#[test]
fn a_model_in_the_binary_equals_the_same_in_a_folder() {
    let folder = fixture("openclip-b");
    let mut files = files(&folder);
    let built_in = |name: &'static str| {
        let bytes: &'static [u8] = Box::leak(fs::read(folder.join(name)).unwrap().into_boxed_slice());
        Blob::Static { name, bytes }
    };
    files.config = built_in("config.json");
    files.tokenizer = Some(built_in("tokenizer.json"));
    files.weights = vec![built_in("model.safetensors")];
    assert_eq!(vectors(&Towers::load(&files, &Backend::cpu()).unwrap()), vectors(&load(&folder).unwrap()));
}

/// facts/traps.md 4: nothing is made up for a missing key, and all of them are named at once.
#[test]
fn every_missing_or_wrong_tensor_is_listed() {
    let folder = copy("openclip-a");
    let mut all = tensors(folder.path());
    for name in ["logit_scale", "vision_model.embeddings.class_embedding", "text_model.encoder.layers.1.mlp.fc1.bias"] {
        all.remove(name).unwrap();
    }
    let zeros = |shape: &[usize], dtype| Tensor::zeros(shape, dtype, &Device::Cpu).unwrap();
    all.insert("text_projection.weight".to_owned(), zeros(&[20, 36], DType::F32));
    all.insert("vision_model.post_layernorm.bias".to_owned(), zeros(&[30], DType::I64));
    save(folder.path(), &all);
    let Err(Error::Tensors { model, missing, wrong }) = load(folder.path()) else { panic!("it was loaded") };
    assert_eq!(model, folder.path().file_name().unwrap().to_string_lossy());
    let expected =
        ["logit_scale", "text_model.encoder.layers.1.mlp.fc1.bias", "vision_model.embeddings.class_embedding"];
    assert_eq!(missing, expected);
    let expected = [
        "text_projection.weight: found [20, 36], expected [36, 20]",
        "vision_model.post_layernorm.bias: found numbers of format I64, expected floats",
    ];
    assert_eq!(wrong, expected);
}

/// `config.json` with one value of the text tower replaced.
fn with_text_config(folder: &Path, key: &str, value: u64) {
    let path = folder.join("config.json");
    let mut config: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    config["text_config"][key] = value.into();
    fs::write(&path, config.to_string()).unwrap();
}

#[test]
fn a_config_of_another_size_is_refused_before_anything_is_allocated() {
    let folder = copy("openclip-a");
    with_text_config(folder.path(), "hidden_size", 65536);
    with_text_config(folder.path(), "vocab_size", 1 << 24);
    let Err(Error::Tensors { missing, wrong, .. }) = load(folder.path()) else { panic!("it was loaded") };
    assert!(missing.is_empty() && wrong.len() > 30, "{missing:?} {wrong:?}");
    // 4 TB of embeddings.
    assert!(wrong.iter().any(|tensor| tensor.ends_with("expected [16777216, 65536]")), "{wrong:?}");
    with_text_config(folder.path(), "num_hidden_layers", 512);
    let Err(Error::Tensors { missing, .. }) = load(folder.path()) else { panic!("it was loaded") };
    assert_eq!(missing.len(), 510 * 16);
}

#[test]
fn a_tokenizer_of_another_model_is_refused() {
    let folder = copy("openclip-a");
    with_text_config(folder.path(), "eos_token_id", 5);
    let error = load(folder.path()).unwrap_err().to_string();
    assert!(error.starts_with("tokenizer.json") && error.contains("does not end texts with id 5"), "{error}");
    let folder = copy("openclip-a");
    let tokenizer = folder.path().join("tokenizer.json");
    fs::copy(fixture("siglip-a").join("tokenizer.json"), &tokenizer).unwrap();
    let error = load(folder.path()).unwrap_err().to_string();
    assert!(error.contains("does not end texts with id"), "{error}");
}

#[test]
fn weights_that_are_not_numbers_give_an_error_not_nan() {
    let folder = copy("clip-a");
    let mut all = tensors(folder.path());
    let nan = Tensor::full(f32::NAN, &[16, 24], &Device::Cpu).unwrap();
    all.insert("text_projection.weight".to_owned(), nan);
    save(folder.path(), &all);
    let error = load(folder.path()).unwrap().encode_texts(&["a cat".to_owned()]).unwrap_err();
    assert!(error.to_string().contains("the checkpoint is damaged"), "{error}");
}

#[test]
fn damaged_safetensors_are_errors() {
    let folder = copy("clip-a");
    let path = folder.path().join("model.safetensors");
    let whole = fs::read(&path).unwrap();
    let header = usize::try_from(u64::from_le_bytes(whole[..8].try_into().unwrap())).unwrap();
    let mut lie = whole.clone();
    lie[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    let mut huge = whole.clone();
    huge[..8].copy_from_slice(&(1u64 << 40).to_le_bytes());
    let text = String::from_utf8(whole[8..8 + header].to_vec()).unwrap();
    // The same length, so that only the claim changes: a tensor beyond the end of the file.
    let mut beyond = whole.clone();
    beyond[8..8 + header].copy_from_slice(text.replacen("\"data_offsets\":[0,", "\"data_offsets\":[9,", 1).as_bytes());
    let garbage = [&whole[..8], vec![b'{'; header].as_slice(), &whole[8 + header..]].concat();
    let damaged = [
        ("header only", whole[..8 + header].to_vec()),
        ("half", whole[..whole.len() / 2].to_vec()),
        ("one byte short", whole[..whole.len() - 1].to_vec()),
        ("seven bytes", whole[..7].to_vec()),
        ("header length u64::MAX", lie),
        ("header length 1 TB", huge),
        ("hole in the data", beyond),
        ("no JSON", garbage),
        ("an HTML page", b"<!DOCTYPE html><html>not found</html>".to_vec()),
    ];
    for (what, bytes) in damaged {
        fs::write(&path, bytes).unwrap();
        let error = load(folder.path()).expect_err(what).to_string();
        assert!(
            error.starts_with("model.safetensors of model") && error.contains("is not safetensors"),
            "{what}: {error}"
        );
    }
    fs::write(&path, b"").unwrap();
    assert!(matches!(load(folder.path()), Err(Error::EmptyFile { .. })));
    fs::remove_file(&path).unwrap();
    assert!(matches!(load(folder.path()), Err(Error::Tensors { .. })), "no weights at all");
}

/// Any byte of the table of contents may be wrong: an error or, where the byte does not matter, a model; never a panic.
#[test]
fn no_damaged_byte_of_a_header_makes_it_panic() {
    for (name, file) in
        [("openclip-b", "model.safetensors"), ("clip-b", "pytorch_model.bin"), ("openclip-b", "tokenizer.json")]
    {
        let folder = copy(name);
        let path = folder.path().join(file);
        let whole = fs::read(&path).unwrap();
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(state >> 33).unwrap() % below
        };
        for _ in 0..60 {
            let mut damaged = whole.clone();
            let at = random(whole.len().min(9000));
            damaged[at] = u8::try_from(random(256)).unwrap();
            fs::write(&path, damaged).unwrap();
            if let Err(error) = load(folder.path()) {
                assert!(!error.to_string().is_empty());
            }
        }
    }
}

#[test]
fn pickles_that_are_damaged_or_lie_are_errors() {
    let folder = copy("clip-b");
    let path = folder.path().join("pytorch_model.bin");
    let whole = fs::read(&path).unwrap();
    for length in [4, 100, whole.len() / 2, whole.len() - 1] {
        fs::write(&path, &whole[..length]).unwrap();
        let error = load(folder.path()).unwrap_err().to_string();
        assert!(error.starts_with("pytorch_model.bin of model"), "{error}");
    }
}
