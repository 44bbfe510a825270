//! Image classifiers against transformers, stage by stage and at several sizes, on tiny random checkpoints
//! (`tools/export_classifiers.py`); and what `identify` says by them.

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::Stdio;

use candle_core::{Device, Tensor};
use clip_aware::compute::Backend;
use clip_aware::config::{DeviceChoice, PrecisionChoice};
use clip_aware::models::Classifier;
use image::RgbImage;
use serde_json::{Value, json};

use crate::dinov2::{expected, folder, largest_difference, numbers, pixels};
use crate::mcp_client::{Server, initialize, request};
use crate::parity::files;
use crate::world::World;

/// Largest absolute difference that a stage may show: what goes through them has the size of 1.
const TOLERANCE: f32 = 1e-4;
/// Each with the sizes of its inputs, height and width; the first is the preprocessor's.
const CASES: [(&str, &[(usize, usize)]); 7] = [
    ("resnet-a", &[(32, 32), (45, 30)]),
    ("resnet-b", &[(40, 40), (33, 48)]),
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

/// A world with two pictures of the fixture, and its checkpoint inside the root.
fn world_with(name: &str) -> World {
    let world = World::new();
    let expected = expected(&folder(name));
    for index in 0..2 {
        picture(&expected, index).save(world.root.join(format!("{index}.png"))).unwrap();
    }
    for file in ["config.json", "preprocessor_config.json", "model.safetensors"] {
        world.write(&format!("{name}/{file}"), &std::fs::read(folder(name).join(file)).unwrap());
    }
    world
}

#[test]
fn a_classifier_names_pictures_and_says_what_its_probabilities_are_worth() {
    let world = world_with("convnext-a");
    let model = folder("convnext-a").display().to_string();
    let run = |arguments: &[&str]| world.run(&[&["--precision", "f32", "--json", "identify"], arguments].concat());
    let results = run(&["0.png", "1.png", "--classifier", &model]).expect(0).lines();
    let wanted = numbers(&expected(&folder("convnext-a"))["36x36.probabilities"]);
    for (result, wanted) in results.iter().zip(wanted.chunks(5)) {
        let candidates = result["candidates"].as_array().unwrap();
        assert_eq!((candidates.len(), &result["unknown"]), (5, &json!(false)));
        assert!(result.get("gallery").is_none() && candidates[0].get("nearest").is_none(), "{result}");
        let mut sorted = wanted.to_vec();
        sorted.sort_by(|a, b| b.total_cmp(a));
        for (candidate, wanted) in candidates.iter().zip(sorted) {
            assert!((candidate["confidence"].as_f64().unwrap() as f32 - wanted).abs() < 1e-3, "{candidate} {wanted}");
        }
        let best = wanted.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).unwrap().0;
        let labels = ["tench, Tinca tinca", "goldfinch, Carduelis carduelis", "beagle", "whippet", "dome"];
        assert_eq!(candidates[0]["label"], labels[best], "{result}");
        assert!(result["answer"].as_str().unwrap().starts_with(labels[best]), "{result}");
        assert!(result["notes"][0].as_str().unwrap().contains("always names one of its 5 labels"), "{result}");
        assert_eq!(result["model"], model.as_str());
    }
    let few = run(&["0.png", "--classifier", &model, "--top", "2"]).expect(0).object();
    assert_eq!(few["candidates"].as_array().unwrap().len(), 2);
    // A file that is no picture is an entry with its error.
    world.write("2.png", b"no picture");
    let broken = run(&["0.png", "2.png", "--classifier", &model]).expect(1).lines();
    assert!(broken[1]["error"].is_string() && broken[0].get("error").is_none(), "{broken:?}");
    let text = world.run(&["identify", "0.png", "--classifier", &model]).expect(0);
    assert!(text.stdout.contains(&format!("by {model}")) && text.stderr.contains("note: a classifier"), "{text:?}");
    let verified = world.run(&["--json", "models", "verify", &model]).expect(0).lines();
    assert!(verified.iter().all(|row| row["ok"] == true) && verified.len() >= 3, "{verified:?}");
    let listed = world.run(&["--json", "models", "list"]).expect(0).lines();
    assert!(listed.iter().any(|row| row["classifier"]["name"] == "resnet-50"), "{listed:?}");
}

#[test]
fn a_classifier_that_cannot_be_had_is_refused_with_a_hint() {
    let world = world_with("vit-a");
    let refused = |name: &str| {
        let ran = world.run(&["--offline", "identify", "0.png", "--classifier", name]).expect(2);
        assert!(!ran.stderr.contains("--model"), "{}", ran.stderr);
        ran.stderr
    };
    let absent = refused("microsoft/resnet-50");
    assert!(
        absent.contains("resnet-50 is not on this machine") && absent.contains("models fetch resnet-50"),
        "{absent}"
    );
    assert!(refused("./absent").contains("no such file or folder"));
    let clip = refused(&folder("clip-a").display().to_string());
    assert!(clip.contains("has model_type `clip`; classifiers of these kinds are read: resnet, vit"), "{clip}");
}

#[test]
fn the_tool_asks_a_classifier_inside_the_roots() {
    let world = world_with("resnet-b");
    let root = world.root.display().to_string();
    let printed = world.run(&["--json", "identify", "0.png", "--classifier", "resnet-b"]).expect(0).object();
    let mut server = Server::start_as(Stdio::null(), &["--root", &root]);
    server.ask(&initialize("i", "2025-11-25"));
    let mut call = |arguments: Value| {
        let answer = server.ask(&request("c", "tools/call", json!({"name": "identify_image", "arguments": arguments})));
        answer["result"].clone()
    };
    let answer = call(json!({"image": "0.png", "classifier": "resnet-b"}));
    let mut said = answer["structuredContent"].clone();
    // The command was given a path that its folder holds, the tool one of a root.
    said["model"] = printed["model"].clone();
    assert_eq!(said, printed, "{answer}");
    let text = answer["content"][0]["text"].as_str().unwrap();
    assert!(text.contains(printed["answer"].as_str().unwrap()) && text.contains("always names one of"), "{text}");
    let outside = folder("resnet-b").display().to_string();
    for (arguments, reason) in [
        (json!({"image": "0.png"}), "`gallery` or `classifier` has to be given"),
        (json!({"image": "0.png", "gallery": ".", "classifier": "resnet-b"}), "and not both"),
        (json!({"image": "0.png", "classifier": outside}), "outside the allowed roots"),
        (json!({"image": "0.png", "classifier": "../.."}), "outside the allowed roots"),
        (json!({"image": "0.png", "classifier": "resnet-50"}), "models fetch resnet-50"),
        (json!({"image": "0.png", "classifier": "nobody/nothing"}), "models fetch nobody/nothing"),
    ] {
        let refused = call(arguments.clone());
        assert_eq!(refused["isError"], true, "{arguments}: {refused}");
        let text = refused["content"][0]["text"].as_str().unwrap();
        assert!(text.contains(reason), "{arguments}: {text}");
    }
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
    let fast = Backend::new(DeviceChoice::Cpu, PrecisionChoice::Auto).unwrap();
    let stages = Classifier::load(&files(&folder), &fast).unwrap().stages(&images, (224, 224)).unwrap();
    let logits = numbers(&stages.iter().find(|(name, _)| name == "logits").unwrap().1);
    println!("{}: off by {:.2e}", fast.precision, largest_difference(&logits, &wanted));
    assert!(difference <= 2e-4 * largest.max(1.0), "{difference}");
}
