//! Faster R-CNN through the program: boxes and counts on tiny random checkpoints, and a full-size one on request.

use std::path::{Path, PathBuf};

use clip_aware::compute::Backend;
use clip_aware::models::{Blob, Detector, DetectorFiles};
use serde_json::{Value, json};

use crate::detect::check;
use crate::world::{Ran, World};

const KINDS: [&str; 2] = ["faster-rcnn-v2", "faster-rcnn-v1"];

fn fixture(kind: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/detectors").join(kind)
}

/// The picture that the fixtures' boxes belong to, as `a.png` in the root.
fn world() -> World {
    let world = World::new();
    std::fs::copy(fixture("detr-pictures").join("a.png"), world.root.join("a.png")).unwrap();
    world
}

fn detect(world: &World, detector: &str, arguments: &[&str]) -> Ran {
    world.run(&[&["--precision", "f32", "--detector", detector, "detect", "--json"], arguments].concat())
}

/// Boxes of the reference that have a name: x0, y0, x1, y1, score, class.
fn expected(kind: &str) -> Vec<Vec<f32>> {
    let tensors = candle_core::safetensors::load(fixture(kind).join("expected.safetensors"), &candle_core::Device::Cpu);
    let rows: Vec<Vec<f32>> = tensors.unwrap()["a.detections"].to_vec2().unwrap();
    rows.into_iter().filter(|row| NAMES[row[5] as usize] != "N/A").collect()
}

const NAMES: [&str; 5] = ["__background__", "ant", "bee", "N/A", "cow"];

#[test]
fn boxes_are_those_of_the_reference_and_counted_from_one_half_on() {
    let world = world();
    for kind in KINDS {
        let folder = fixture(kind).display().to_string();
        let answer = detect(&world, &folder, &["a.png", "--threshold", "0.001"]).expect(0).object();
        check(&answer);
        let (found, expected) = (answer["detections"].as_array().unwrap(), expected(kind));
        assert_eq!(found.len(), expected.len(), "{kind}");
        for (one, row) in found.iter().zip(&expected) {
            assert_eq!(one["label"], NAMES[row[5] as usize], "{kind}");
            let numbers = one["box"].as_array().unwrap().iter().chain([&one["score"]]);
            for (number, expected) in numbers.zip(row) {
                assert!((number.as_f64().unwrap() - f64::from(*expected)).abs() < 0.01, "{kind}: {one} {row:?}");
            }
        }
        let sure = expected.iter().filter(|row| row[4] >= 0.5).count();
        assert!((1..expected.len()).contains(&sure), "{kind}");
        let answer = detect(&world, &folder, &["a.png"]).expect(0).object();
        check(&answer);
        assert_eq!((&answer["threshold"], answer["detections"].as_array().unwrap().len()), (&json!(0.5), sure));
    }
}

/// What users have from torchvision: a state dict and nothing beside it.
#[test]
fn a_state_dict_alone_is_recognised_by_its_tensors() {
    let world = world();
    std::fs::copy(fixture("faster-rcnn-v2").join("weights.pth"), world.root.join("mine.pth")).unwrap();
    let refused = detect(&world, "./mine.pth", &["a.png"]).expect(2);
    let reason = "has 5 classes and nothing names them: put `id2label` into a config.json beside it";
    assert!(refused.stderr.contains(reason), "{}", refused.stderr);
    let names: Value = NAMES.iter().enumerate().map(|(n, name)| (n.to_string(), json!(name))).collect();
    let config = json!({"id2label": names, "min_size": 64, "max_size": 96});
    std::fs::write(world.root.join("config.json"), config.to_string()).unwrap();
    let answer = detect(&world, "./mine.pth", &["a.png", "--threshold", "0.05"]);
    assert!(!answer.object().to_string().contains("__background__"));
    std::fs::write(world.root.join("config.json"), json!({"id2label": names, "min_size": 1}).to_string()).unwrap();
    let refused = detect(&world, "./mine.pth", &["a.png"]).expect(2);
    assert!(refused.stderr.contains("says min_size 1; 32 to 4096 fit"), "{}", refused.stderr);
}

#[test]
fn the_published_file_is_named_where_it_is_missing() {
    let world = world();
    for (name, file) in [
        ("fasterrcnn-resnet50-fpn-v2", "fasterrcnn_resnet50_fpn_v2_coco-dd69338a.pth"),
        ("fasterrcnn_resnet50_fpn_coco-258fb6c6", "fasterrcnn_resnet50_fpn_coco-258fb6c6.pth"),
    ] {
        let refused = detect(&world, name, &["a.png"]).expect(2);
        let hint = format!("download https://download.pytorch.org/models/{file} into ");
        assert!(refused.stderr.contains(&hint), "{}", refused.stderr);
    }
}

/// `CLIP_AWARE_FULL_SIZE` names a folder that `tools/check_full_size.py --arch fasterrcnn-... --export` has written.
#[test]
#[ignore = "needs a full-size checkpoint: see tools/check_full_size.py"]
fn a_full_size_faster_rcnn_agrees() {
    let folder = PathBuf::from(std::env::var_os("CLIP_AWARE_FULL_SIZE").expect("CLIP_AWARE_FULL_SIZE"));
    let files = DetectorFiles {
        id: "full size".into(),
        revision: String::new(),
        config: None,
        preprocessor: None,
        tokenizer: None,
        weights: vec![Blob::File(folder.join("weights.pth"))],
    };
    let expected =
        candle_core::safetensors::load(folder.join("expected.safetensors"), &candle_core::Device::Cpu).unwrap();
    let detector = Detector::load(&files, &Backend::cpu()).unwrap();
    assert_eq!(detector.labels().len(), 80);
    for number in 0..2 {
        let values = |name: &str| expected[&format!("picture-{number}.{name}")].flatten_all().unwrap().to_vec1::<f32>();
        let picture = image::open(folder.join(format!("picture-{number}.png"))).unwrap().into_rgb8();
        let stages = detector.stages(&picture).unwrap();
        let stage = |name: &str| stages.iter().find(|stage| stage.name == name).unwrap();
        let worst = |name: &str, found: &[f32], expected: &[f32]| {
            assert_eq!(found.len(), expected.len(), "{name}");
            let differences = found.iter().zip(expected).map(|(a, b)| (a - b).abs());
            let worst = differences.fold(0.0_f32, |most, x| if x <= most { most } else { x });
            println!("picture {number} {name}: largest difference {worst:.2e}");
            assert!(worst <= 1e-3, "{name} is off by {worst}");
        };
        for name in ["objectness", "pred_bbox_deltas"] {
            worst(name, &stage(name).values, &values(name).unwrap());
        }
        // Of proposals whose scores differ in the last digits only another one may have been taken, or its place; what is said of
        // one that both have has to be the same.
        let (own, proposals) = (&stage("proposals").values, values("proposals").unwrap());
        let same = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 2e-3);
        let pairs: Vec<(usize, usize)> = proposals
            .chunks_exact(4)
            .enumerate()
            .filter_map(|(n, one)| Some((n, own.chunks_exact(4).position(|own| same(own, one))?)))
            .collect();
        let (all, moved) = (proposals.len() / 4, pairs.iter().filter(|(a, b)| a != b).count());
        println!("picture {number}: {} of {all} proposals are the same, {moved} in another place", pairs.len());
        assert!(pairs.len() * 100 >= all * 99 && own.len().abs_diff(proposals.len()) <= 4 * all / 100);
        for name in ["proposals", "class_logits", "box_regression"] {
            let (stage, expected) = (stage(name), values(name).unwrap());
            let row = |values: &[f32], at: usize| values[at * stage.width..(at + 1) * stage.width].to_vec();
            let found: Vec<f32> = pairs.iter().flat_map(|(_, own)| row(&stage.values, *own)).collect();
            let expected: Vec<f32> = pairs.iter().flat_map(|(at, _)| row(&expected, *at)).collect();
            worst(name, &found, &expected);
        }
        let found = detector.detect(&picture, 0.0).unwrap();
        let rows = values("detections").unwrap();
        let near = |row: &&[f32]| {
            found.iter().any(|one| (one.score - row[4]).abs() < 1e-3 && same(&one.bounds.to_array(), &row[..4]))
        };
        let named = rows.chunks_exact(6).filter(|row| clip_aware::models::coco::category(row[5] as usize).is_some());
        let (named, met) = (named.clone().count(), named.filter(near).count());
        println!("picture {number}: {met} of {named} boxes are met, {} found", found.len());
        assert!(met * 100 >= named * 97);
    }
}
