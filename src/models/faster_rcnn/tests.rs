use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use candle_core::{DType, Device};
use serde_json::Value;

use super::*;
use crate::models::detector::fixtures::{self, check_any_proportions, files, fixture, values, worst};
use crate::models::{Blob, Detector, DetectorFiles};

/// Fixtures of `tools/export_faster_rcnn.py`: today's names, batch norms and bottlenecks; the names of before torchvision 0.13, frozen
/// norms without `eps`, and basic blocks.
const KINDS: [&str; 2] = ["faster-rcnn-v2", "faster-rcnn-v1"];
const PICTURES: [&str; 2] = ["a", "b"];
/// Of a stage with more numbers the fixture has every so many-th.
const MOST: usize = 2000;
const STEP: usize = 97;

fn open_on(files: &DetectorFiles, backend: &Backend) -> Result<FasterRcnn> {
    let checkpoint = Arc::new(Checkpoint::open_weights(&files.id, &files.weights)?);
    let settings = Settings::read(files)?;
    FasterRcnn::build(&Parts { files, checkpoint: &checkpoint, settings: &settings, backend })
}

fn open(kind: &str) -> FasterRcnn {
    open_on(&files(&fixture(kind)), &Backend::cpu()).unwrap()
}

fn picture(name: &str) -> RgbImage {
    fixtures::picture(&format!("detr-pictures/{name}.png"))
}

fn expected(kind: &str) -> HashMap<String, Vec<f32>> {
    let tensors = candle_core::safetensors::load(fixture(kind).join("expected.safetensors"), &Device::Cpu).unwrap();
    tensors.into_iter().map(|(name, tensor)| (name, values(&tensor))).collect()
}

/// Every output for a picture by the reference's name.
fn outputs(model: &FasterRcnn, picture: &RgbImage) -> HashMap<String, Vec<f32>> {
    let mut stages = Stages::on();
    model.prediction(picture, model.input.longest_edge(), &mut stages).unwrap();
    let mut found: HashMap<String, Vec<f32>> =
        stages.into_vec().into_iter().map(|(name, stage)| (name, values(&stage))).collect();
    let stages = model.stages(picture).unwrap();
    found.extend(stages.into_iter().map(|stage| (stage.name.to_owned(), stage.values)));
    found
}

#[test]
fn every_stage_of_both_versions_equals_the_reference_at_two_sizes() {
    for kind in KINDS {
        let (model, expected) = (open(kind), expected(kind));
        for name in PICTURES {
            let picture = picture(name);
            let PaddedInput { padded, .. } = model.input.apply(&picture, model.input.longest_edge());
            let lines = padded.pixels.chunks(padded.width).collect::<Vec<_>>();
            let rows: Vec<f32> = lines
                .chunks(padded.height)
                .flat_map(|plane| plane.iter().step_by(37).copied().flatten())
                .copied()
                .collect();
            let rows = if rows.len() > MOST { rows.into_iter().step_by(STEP).collect() } else { rows };
            let difference = worst(&rows, &expected[&format!("{name}.pixel_rows")]);
            assert!(difference < 1e-5, "{kind} {name}: the input is off by {difference}");
            let found = outputs(&model, &picture);
            assert_eq!(found.len(), 15, "{:?}", found.keys());
            for (stage, found) in found {
                let expected = &expected[&format!("{name}.{stage}")];
                let found = if found.len() > MOST { found.into_iter().step_by(STEP).collect() } else { found };
                let difference = worst(&found, expected);
                let size = expected.iter().fold(1.0_f32, |most, x| most.max(x.abs()));
                assert!(
                    difference < 1e-3 && difference < 2e-5 * size.max(30.0),
                    "{kind} {name}: {stage} is off by {difference}"
                );
            }
        }
    }
}

#[test]
fn labels_scores_and_boxes_equal_the_reference() {
    for kind in KINDS {
        let detector = Detector::load(&files(&fixture(kind)), &Backend::cpu()).unwrap();
        assert_eq!(detector.labels(), ["ant", "bee", "cow"], "{kind}");
        let geometry = detector.geometry();
        assert_eq!((geometry.input_side, geometry.finest_cell, geometry.second_side), (384, 4, None));
        assert_eq!(detector.counting(), Counting::Uncalibrated(0.5));
        assert!(
            (detector.scale(70, 50) - 358.0 / 70.0).abs() < 1e-6
                && (detector.scale(40, 70) - 219.0 / 40.0).abs() < 1e-6
        );
        let expected = expected(kind);
        for name in PICTURES {
            let found = detector.detect(&picture(name), 0.0).unwrap();
            let rows: Vec<f32> = found
                .iter()
                .flat_map(|one| {
                    let [x0, y0, x1, y1] = one.bounds.to_array();
                    // The labels without the background and without what has no name.
                    [x0, y0, x1, y1, one.score, [1.0, 2.0, 4.0][one.class]]
                })
                .collect();
            let named =
                expected[&format!("{name}.detections")].chunks_exact(6).filter(|row| row[5] < 2.5 || row[5] > 3.5);
            let difference = worst(&rows, &named.flatten().copied().collect::<Vec<_>>());
            assert!(difference < 1e-3, "{kind} {name}: {difference}");
            assert!(found.len() > 3 && found.is_sorted_by(|a, b| a.score >= b.score), "{kind}");
            assert_eq!(detector.detect(&picture(name), found[1].score).unwrap().len(), 2, "{kind}");
        }
        assert!(detector.run_neutral().unwrap() > 0);
    }
}

/// Several pictures at once would be padded to one size, and have other anchors: they are looked at one by one.
#[test]
fn what_is_seen_of_a_picture_does_not_depend_on_the_one_before() {
    let detector = Detector::load(&files(&fixture("faster-rcnn-v2")), &Backend::cpu()).unwrap();
    let [first, other, again] = ["a", "b", "a"].map(|name| detector.detect(&picture(name), 0.0).unwrap());
    assert!(first == again && first != other);
}

#[test]
fn a_picture_of_any_proportions_gives_boxes_inside_of_it() {
    let detector = Detector::load(&files(&fixture("faster-rcnn-v2")), &Backend::cpu()).unwrap();
    check_any_proportions(&detector);
}

/// What is rounded may prefer other proposals; what the choice is made from stays near.
#[test]
fn coarse_precisions_stay_near() {
    let exact = outputs(&open("faster-rcnn-v2"), &picture("a"));
    let coarse =
        [Backend { device: Device::Cpu, precision: "bf16" }, Backend { device: Device::Cpu, precision: "int8" }];
    for (backend, bound) in coarse.iter().zip([0.05, 0.25]) {
        let model = open_on(&files(&fixture("faster-rcnn-v2")), backend).unwrap();
        let found = outputs(&model, &picture("a"));
        let early = |name: &str| ["backbone.", "fpn.", "objectness"].iter().any(|p| name.starts_with(p));
        for (name, exact) in exact.iter().filter(|(name, _)| early(name)) {
            let size = exact.iter().fold(0.0f32, |most, value| most.max(value.abs()));
            let difference = worst(&found[name], exact) / size;
            assert!(difference < bound, "{} {name}: {difference}", backend.precision);
        }
    }
}

#[test]
fn wrong_checkpoints_are_refused_with_all_that_is_wrong() {
    let refused = |change: &dyn Fn(&mut DetectorFiles, &Path)| {
        let dir = tempfile::tempdir().unwrap();
        let mut files = files(&fixture("faster-rcnn-v2"));
        change(&mut files, dir.path());
        open_on(&files, &Backend::cpu()).unwrap_err().to_string()
    };
    let with = |key: &'static str, value: Value| {
        refused(&move |files, dir| {
            std::fs::write(dir.join("config.json"), json!({ key: value }).to_string()).unwrap();
            files.config = Some(Blob::File(dir.join("config.json")));
        })
    };
    for (key, value, words) in [
        ("min_size", json!(10), "min_size 10; 32 to 4096"),
        ("max_size", json!(600), "min_size 800, more than max_size 600"),
        ("rpn_post_nms_top_n_test", json!(0), "rpn_post_nms_top_n_test 0; 1 to"),
        ("box_nms_thresh", json!(1.5), "box_nms_thresh 1.5, which is not between"),
        ("image_std", json!([1, 0, 1]), "image_std that is not above 0"),
        ("image_mean", json!([1]), "cannot be read"),
    ] {
        let error = with(key, value);
        assert!(error.contains(words) && error.starts_with("config.json of model test"), "{key}: {error}");
    }
    let error = refused(&|files, _| {
        files.config = None;
        files.weights = vec![Blob::File(fixture("yolox-dense").join("weights.pth"))];
    });
    assert!(error.contains("a backbone that is not read here"), "{error}");
}

/// The tensors of a fixture in safetensors, changed.
fn changed(change: impl Fn(&mut HashMap<String, Tensor>)) -> String {
    let dir = tempfile::tempdir().unwrap();
    let pickled = candle_core::pickle::read_all(fixture("faster-rcnn-v2").join("weights.pth")).unwrap();
    let mut tensors: HashMap<String, Tensor> = pickled.into_iter().collect();
    change(&mut tensors);
    candle_core::safetensors::save(&tensors, dir.path().join("weights.safetensors")).unwrap();
    let weights = vec![Blob::File(dir.path().join("weights.safetensors"))];
    let files = DetectorFiles { config: None, weights, ..files(&fixture("faster-rcnn-v2")) };
    open_on(&files, &Backend::cpu()).unwrap_err().to_string()
}

#[test]
fn tensors_that_are_missing_or_of_other_shapes_are_listed() {
    let error = changed(|tensors| {
        tensors.retain(|name, _| !name.starts_with("backbone.fpn.layer_blocks.2") && name != "rpn.head.bbox_pred.bias");
        let short = tensors["backbone.body.layer2.1.bn2.weight"].narrow(0, 0, 3).unwrap().contiguous().unwrap();
        tensors.insert("backbone.body.layer2.1.bn2.weight".into(), short);
    });
    for words in ["6 missing: backbone.fpn.layer_blocks.2.0.weight", "rpn.head.bbox_pred.bias", "bn2.weight: found [3]"]
    {
        assert!(error.contains(words), "{error}");
    }
    let anchors = |tensors: &mut HashMap<String, Tensor>| {
        let wide = Tensor::zeros((15, 8, 1, 1), DType::F32, &Device::Cpu).unwrap();
        tensors.insert("rpn.head.cls_logits.weight".into(), wide);
    };
    assert!(changed(anchors).contains("has 15 anchors for a cell; torchvision's usual 3 are read"));
    let error = changed(|tensors| tensors.retain(|name, _| !name.starts_with("backbone.body.layer1")));
    assert!(error.contains("a ResNet of torchvision under a pyramid of 4 maps is"), "{error}");
    let error = changed(|tensors| {
        tensors
            .insert("roi_heads.box_head.3.weight".into(), Tensor::zeros((16, 65), DType::F32, &Device::Cpu).unwrap());
    });
    assert!(error.contains("over 65 numbers, not so many for each of 12 channels"), "{error}");
}
