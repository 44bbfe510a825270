//! Image classifiers against transformers, stage by stage and at several sizes, on tiny random checkpoints
//! (`tools/export_classifiers.py`); and what `identify` says by them.

use std::collections::HashMap;
use std::path::PathBuf;

use candle_core::{Device, Tensor};
use clip_aware::compute::Backend;
use clip_aware::models::Classifier;
use image::RgbImage;

use crate::dinov2::{expected, folder, largest_difference, numbers, pixels};
use crate::parity::files;

/// Largest absolute difference that a stage may show: what goes through them has the size of 1.
const TOLERANCE: f32 = 1e-4;
/// Each with the sizes of its inputs, height and width; the first is the preprocessor's.
const CASES: [(&str, &[(usize, usize)]); 7] = [
    ("resnet-a", &[(32, 32), (45, 30)]),
    ("resnet-b", &[(40, 40), (33, 64)]),
    ("vit-a", &[(24, 24)]),
    ("vit-b", &[(32, 32)]),
    ("convnext-a", &[(36, 36), (44, 29)]),
    ("convnext-b", &[(20, 20), (24, 31)]),
    ("convnextv2-a", &[(32, 32), (40, 27)]),
];

fn classifier(name: &str, backend: &Backend) -> Classifier {
    Classifier::load(&files(&folder(name)), backend).unwrap()
}

/// A picture of the fixture.
fn picture(expected: &HashMap<String, Tensor>, index: usize) -> RgbImage {
    let samples = &expected[&format!("picture.{index}")];
    let (height, width, _) = samples.dims3().unwrap();
    RgbImage::from_raw(width as u32, height as u32, samples.flatten_all().unwrap().to_vec1().unwrap()).unwrap()
}

#[test]
fn every_stage_equals_the_reference_at_every_size() {
    for (name, sizes) in CASES {
        let (expected, classifier) = (expected(&folder(name)), classifier(name, &Backend::cpu()));
        for &(height, width) in sizes {
            let images = pixels(&expected, (height, width));
            let prefix = format!("{height}x{width}.image.");
            let found: HashMap<String, Tensor> =
                classifier.stages(&images, (height, width)).unwrap().into_iter().collect();
            let stages: Vec<&str> = expected.keys().filter_map(|key| key.strip_prefix(&prefix)).collect();
            assert!(stages.len() >= 4 && stages.len() == found.len(), "{name}: {stages:?} {:?}", found.keys());
            for stage in stages {
                let expected = &expected[&format!("{prefix}{stage}")];
                assert_eq!(found[stage].dims(), expected.dims(), "{name}: {stage}");
                let difference = largest_difference(&numbers(&found[stage]), &numbers(expected));
                assert!(difference <= TOLERANCE, "{name} {height}x{width}: {stage} is off by {difference}");
            }
        }
    }
}

#[test]
fn pictures_become_the_reference_s_pixels_and_probabilities() {
    for (name, sizes) in CASES {
        let (expected, classifier) = (expected(&folder(name)), classifier(name, &Backend::cpu()));
        let (size, (height, width)) = (classifier.preprocessor().size(), sizes[0]);
        assert_eq!(size, (height, width), "{name}");
        let images: Vec<Vec<f32>> =
            (0..2).map(|index| classifier.preprocessor().apply(&picture(&expected, index))).collect();
        let difference = largest_difference(&images.concat(), &pixels(&expected, size).concat());
        assert!(difference <= 1e-6, "{name}: pixels are off by {difference}");
        let together = classifier.probabilities(&images).unwrap();
        let wanted = numbers(&expected[&format!("{height}x{width}.probabilities")]);
        let difference = largest_difference(&together.concat(), &wanted);
        assert!(difference <= TOLERANCE, "{name}: probabilities are off by {difference}");
        assert_eq!(together[0].len(), classifier.labels().len(), "{name}");
        // A batch equals its pictures one by one.
        let many: Vec<Vec<f32>> = images.iter().cycle().take(19).cloned().collect();
        for (image, probabilities) in many.iter().zip(classifier.probabilities(&many).unwrap()) {
            let alone = classifier.probabilities(std::slice::from_ref(image)).unwrap();
            assert!(largest_difference(&alone[0], &probabilities) <= 1e-5, "{name}: alone and in a batch");
        }
    }
}

/// The way that a GPU takes, on the CPU in f16.
#[test]
fn what_a_gpu_runs_equals_the_reference() {
    for (name, sizes) in CASES {
        let (expected, classifier) = (expected(&folder(name)), classifier(name, &Backend::tensors_on_cpu()));
        let (height, width) = sizes[0];
        let found = classifier.probabilities(&pixels(&expected, (height, width))).unwrap();
        let wanted = numbers(&expected[&format!("{height}x{width}.probabilities")]);
        let difference = largest_difference(&found.concat(), &wanted);
        assert!(difference <= 0.01, "{name}: probabilities are off by {difference}");
    }
}

#[test]
fn what_a_classifier_does_not_take_is_refused() {
    let backend = Backend::cpu();
    let other = Classifier::load(&files(&folder("dinov2-a")), &backend).unwrap_err().to_string();
    assert!(other.contains("has model_type `dinov2`; classifiers of these kinds are read: resnet"), "{other}");
    let encoder = clip_aware::models::Encoder::load(&files(&folder("vit-a")), &backend).unwrap_err().to_string();
    assert!(encoder.contains("a classifier, whose labels are its own"), "{encoder}");
    let mut mixed = files(&folder("vit-a"));
    mixed.preprocessor = files(&folder("vit-b")).preprocessor;
    let error = Classifier::load(&mixed, &backend).unwrap_err().to_string();
    assert!(error.contains("makes images of 32 x 32 pixels, the model takes 24 x 24"), "{error}");
    mixed.weights = files(&folder("vit-b")).weights;
    mixed.preprocessor = files(&folder("vit-a")).preprocessor;
    let error = Classifier::load(&mixed, &backend).unwrap_err().to_string();
    assert!(error.contains("missing") && error.contains("wrong shape"), "{error}");
    let small = vec![vec![0.0; 3 * 24 * 23]];
    let error = classifier("vit-a", &backend).probabilities(&small).unwrap_err().to_string();
    assert_eq!(error, "`pixels` of image 0 has 1656 numbers, the model takes 1728");
    let broken = vec![vec![f32::NAN; 3 * 24 * 24]];
    assert!(classifier("vit-a", &backend).probabilities(&broken).is_err());
}

/// `CLIP_AWARE_FULL_SIZE` names a folder that `tools/check_full_size.py --arch resnet-50 --export` or its like has written.
#[test]
#[ignore = "needs a full-size checkpoint: see tools/check_full_size.py"]
fn a_full_size_classifier_agrees() {
    let folder = PathBuf::from(std::env::var_os("CLIP_AWARE_FULL_SIZE").expect("CLIP_AWARE_FULL_SIZE"));
    let expected = candle_core::safetensors::load(folder.join("expected.safetensors"), &Device::Cpu).unwrap();
    let classifier = Classifier::load(&files(&folder), &Backend::cpu()).unwrap();
    let images = pixels(&expected, (224, 224));
    let stages = classifier.stages(&images, (224, 224)).unwrap();
    let logits = numbers(&stages.iter().find(|(name, _)| name == "logits").unwrap().1);
    let wanted = numbers(&expected["224x224.image.logits"]);
    let largest = wanted.iter().fold(0.0_f32, |largest, x| largest.max(x.abs()));
    let difference = largest_difference(&logits, &wanted);
    let start = std::time::Instant::now();
    classifier.probabilities(&images).unwrap();
    let each = start.elapsed().as_secs_f64() * 1e3 / images.len() as f64;
    println!("largest difference {difference:.2e} of logits up to {largest:.2}; {each:.0} ms each");
    assert!(difference <= 2e-4 * largest.max(1.0), "{difference}");
}
