//! `DINOv2` against transformers, stage by stage and at several sizes, on tiny random checkpoints (`tools/export_dinov2.py`).

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use clip_aware::Error;
use clip_aware::compute::Backend;
use clip_aware::models::{Encoder, Towers};

use crate::parity::files;
use crate::world::World;

/// Largest absolute difference that a stage may show: what goes through them has the size of 1.
const TOLERANCE: f32 = 1e-4;
/// Each with the sizes of its inputs, height and width; the first is the preprocessor's.
const CASES: [(&str, &[(usize, usize)]); 3] = [
    ("dinov2-a", &[(28, 28), (42, 42), (21, 36)]),
    ("dinov2-b", &[(24, 24), (42, 42), (54, 30)]),
    ("dinov2-c", &[(20, 20), (25, 45)]),
];

pub fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/parity").join(name)
}

pub fn expected(folder: &Path) -> HashMap<String, Tensor> {
    candle_core::safetensors::load(folder.join("expected.safetensors"), &Device::Cpu).unwrap()
}

pub fn pixels(expected: &HashMap<String, Tensor>, (height, width): (usize, usize)) -> Vec<Vec<f32>> {
    expected[&format!("{height}x{width}.pixels")].flatten_from(1).unwrap().to_vec2().unwrap()
}

pub fn numbers(tensor: &Tensor) -> Vec<f32> {
    tensor.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

pub fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    // A NaN must not pass as "no difference".
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, |largest, x| if x <= largest { largest } else { x })
}

#[test]
fn every_stage_equals_the_reference_at_every_size() {
    for (name, sizes) in CASES {
        let expected = expected(&folder(name));
        for &(height, width) in sizes {
            let towers = Towers::load_for(&files(&folder(name)), Some((height, width)), &Backend::cpu()).unwrap();
            let images = pixels(&expected, (height, width));
            let prefix = format!("{height}x{width}.image.");
            let found: HashMap<String, Tensor> = towers.image_stages(&images).unwrap().into_iter().collect();
            let stages: Vec<&str> = expected.keys().filter_map(|key| key.strip_prefix(&prefix)).collect();
            assert!(stages.len() >= 4 && stages.len() == found.len(), "{name}: {stages:?}");
            for stage in stages {
                let expected = &expected[&format!("{prefix}{stage}")];
                assert_eq!(found[stage].dims(), expected.dims(), "{name}: {stage}");
                let difference = largest_difference(&numbers(&found[stage]), &numbers(expected));
                assert!(difference <= TOLERANCE, "{name} {height}x{width}: {stage} is off by {difference}");
            }
            let vectors = towers.encode_images(&images).unwrap();
            let difference =
                largest_difference(&vectors.concat(), &numbers(&expected[&format!("{height}x{width}.image_embeds")]));
            assert!(difference <= TOLERANCE, "{name} {height}x{width}: vectors are off by {difference}");
            // A batch equals its pictures one by one.
            let many: Vec<Vec<f32>> = images.iter().cycle().take(19).cloned().collect();
            let together = towers.encode_images(&many).unwrap();
            for (image, vector) in many.iter().zip(&together) {
                let alone = towers.encode_images(std::slice::from_ref(image)).unwrap();
                assert!(largest_difference(&alone[0], vector) <= 1e-5, "{name}: alone and in a batch");
            }
        }
    }
}

/// The way that a GPU takes, on the CPU in f16.
#[test]
fn what_a_gpu_runs_equals_the_reference() {
    for (name, sizes) in CASES {
        let expected = expected(&folder(name));
        for &(height, width) in sizes {
            let backend = Backend::tensors_on_cpu();
            let towers = Towers::load_for(&files(&folder(name)), Some((height, width)), &backend).unwrap();
            let vectors = towers.encode_images(&pixels(&expected, (height, width))).unwrap();
            let wanted: Vec<Vec<f32>> = expected[&format!("{height}x{width}.image_embeds")].to_vec2().unwrap();
            for (found, wanted) in vectors.iter().zip(&wanted) {
                let cosine: f32 = found.iter().zip(wanted).map(|(a, b)| a * b).sum();
                assert!(cosine > 0.9999, "{name}: {cosine}");
            }
        }
    }
}

#[test]
fn an_encoder_takes_the_size_of_its_preprocessor_and_no_text() {
    for (name, sizes) in CASES {
        let encoder = Encoder::load(&files(&folder(name)), &Backend::cpu()).unwrap();
        assert_eq!(encoder.preprocessor().size(), sizes[0]);
        let images = pixels(&expected(&folder(name)), sizes[0]);
        assert_eq!(encoder.encode_images(&images).unwrap().len(), images.len());
        assert!(!encoder.reads_texts());
        assert!(encoder.encode_texts(&[]).unwrap().is_empty());
        let error = encoder.encode_texts(&["a dog".to_owned()]).unwrap_err();
        assert!(matches!(error, Error::ReadsNoTexts { .. }), "{error}");
        assert!(error.hint().unwrap().contains("image-text"));
        assert!(matches!(encoder.scoring(), Err(Error::ReadsNoTexts { .. })));
    }
    let too_small = Towers::load_for(&files(&folder("dinov2-a")), Some((3, 28)), &Backend::cpu()).unwrap_err();
    assert_eq!(too_small.to_string(), "`input` of 28 x 3 pixels; sides are from 7 to 8192");
}

#[test]
fn pictures_are_searched_by_example_and_words_are_refused() {
    let world = World::with_scenes(12);
    let model = folder("dinov2-a").display().to_string();
    let run = |arguments: &[&str]| world.run(&[&["--model", &model, "--json"], arguments].concat());
    assert_eq!(run(&["index", "scenes"]).expect(0).object()["added"], 12);
    let first = world.root.join("scenes/000003.png").display().to_string();
    let found = run(&["search", "--image", &first, "--top", "3"]).expect(0).object();
    assert_eq!(found["results"][0]["path"], first.as_str(), "{found}");
    let refused = run(&["search", "a red circle"]).expect(2);
    assert!(refused.stderr.contains("embeds images only") && refused.stderr.contains("hint"), "{}", refused.stderr);
    // Words keep to the model that reads them, whichever was used last.
    assert_eq!(world.run(&["index", "scenes", "--json"]).expect(0).object()["model"], "starter");
    let mut unnamed = world.command();
    unnamed.env_remove("CLIP_AWARE_MODEL").args(["search", "a red circle", "--min-relevance", "0", "--json"]);
    let found = crate::world::ran(unnamed.output().unwrap()).expect(0).object();
    assert_eq!(found["model"], "starter");
}

/// `CLIP_AWARE_FULL_SIZE` names a folder that `tools/check_full_size.py --arch dinov2-... --export` has written.
#[test]
#[ignore = "needs a full-size checkpoint: see tools/check_full_size.py"]
fn a_full_size_dinov2_agrees() {
    let folder = PathBuf::from(std::env::var_os("CLIP_AWARE_FULL_SIZE").expect("CLIP_AWARE_FULL_SIZE"));
    let expected = expected(&folder);
    let encoder = Encoder::load(&files(&folder), &Backend::cpu()).unwrap();
    let images = pixels(&expected, (224, 224));
    let vectors = encoder.encode_images(&images).unwrap();
    let wanted: Vec<Vec<f32>> = expected["224x224.image_embeds"].to_vec2().unwrap();
    let difference = largest_difference(&vectors.concat(), &wanted.concat());
    let cosine = vectors.iter().zip(&wanted).map(|(a, b)| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>());
    println!("smallest cosine {:.7}, largest difference {difference:.2e}", cosine.fold(1.0, f32::min));
    assert!(difference <= 2e-4, "{difference}");
}
