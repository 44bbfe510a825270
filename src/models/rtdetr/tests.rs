use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use candle_core::Device;
use serde_json::Value;

use super::*;
use crate::models::detector::fixtures::{self, check_any_proportions, files, fixture, values, worst};
use crate::models::{Blob, Detector, DetectorFiles};

/// Fixtures of `tools/export_rtdetr.py`: basic blocks and the hub's names, bottlenecks with the discrete attention and the names
/// of transformers 5.
const KINDS: [&str; 2] = ["rtdetr-v2-basic", "rtdetr-v2-discrete"];

fn open_on(files: &DetectorFiles, backend: &Backend) -> Result<RtDetr> {
    let checkpoint = Arc::new(Checkpoint::open_weights(&files.id, &files.weights)?);
    let settings = Settings::read(files)?;
    RtDetr::build(&Parts { files, checkpoint: &checkpoint, settings: &settings, backend })
}

fn open(files: &DetectorFiles) -> Result<RtDetr> {
    open_on(files, &Backend::cpu())
}

fn picture(name: &str) -> RgbImage {
    fixtures::picture(&format!("detr-pictures/{name}"))
}

fn inputs(model: &RtDetr) -> [DetectorInput; 2] {
    ["a.png", "b.png"].map(|name| model.input.apply(&picture(name), model.input.longest_edge()))
}

fn expected(kind: &str) -> HashMap<String, Tensor> {
    candle_core::safetensors::load(fixture(kind).join("expected.safetensors"), &Device::Cpu).unwrap()
}

/// The reference's order of a map; anything else as it is.
fn channels_first(stage: &Tensor) -> Tensor {
    if stage.rank() == 4 { stage.permute((0, 3, 1, 2)).unwrap() } else { stage.clone() }
}

/// Every output of a batch by the reference's name; of several with one name, one after the other.
fn outputs(model: &RtDetr, batch: &[DetectorInput]) -> HashMap<String, Vec<f32>> {
    let mut stages = Stages::on();
    let predictions = model.forward(batch, &mut stages).unwrap();
    let mut found: HashMap<String, Vec<f32>> = HashMap::new();
    for (name, stage) in stages.into_vec() {
        found.entry(name).or_default().extend(values(&channels_first(&stage)));
    }
    for (n, one) in predictions.iter().enumerate() {
        let cells: Vec<f32> = one.cells.iter().map(|cell| *cell as f32).collect();
        for (name, own) in [("topk_ind", &cells), ("logits", &one.logits), ("pred_boxes", &one.boxes)] {
            found.entry(name.into()).or_default().extend(own);
        }
        found.insert(format!("last_hidden_state.{n}"), one.last_hidden_state.clone());
    }
    found
}

#[test]
fn every_stage_of_every_kind_equals_the_reference() {
    for kind in KINDS {
        let (model, expected) = (open(&files(&fixture(kind))).unwrap(), expected(kind));
        let batch = inputs(&model);
        let rows: Vec<f32> = batch[0]
            .pixels
            .chunks(batch[0].height * batch[0].width)
            .flat_map(|plane| plane.chunks(batch[0].width).step_by(16).flatten().copied())
            .collect();
        assert!(worst(&rows, &values(&expected["pixel_rows"])) < 1e-6, "{kind}: the input differs");
        let found = outputs(&model, &batch);
        let names: Vec<&str> = expected.keys().filter_map(|name| name.strip_prefix("batch.")).collect();
        assert!(names.len() >= 13, "{names:?}");
        for name in names {
            // Of what is large, the fixture has the first picture.
            let expected = values(&expected[&format!("batch.{name}")]);
            let difference = worst(&found[name][..expected.len()], &expected);
            assert!(difference < 1e-3, "{kind}: {name} is off by {difference}");
        }
    }
}

#[test]
fn a_batch_equals_its_pictures() {
    for kind in KINDS {
        let model = open(&files(&fixture(kind))).unwrap();
        let batch = inputs(&model);
        let together = model.forward(&batch, &mut Stages::off()).unwrap();
        for (alone, together) in batch.into_iter().zip(together) {
            let alone = model.forward(&[alone], &mut Stages::off()).unwrap().remove(0);
            assert_eq!(alone.cells, together.cells);
            assert!(worst(&alone.logits, &together.logits) < 1e-5 && worst(&alone.boxes, &together.boxes) < 1e-6);
        }
    }
}

#[test]
fn labels_scores_and_boxes_equal_the_reference() {
    for kind in KINDS {
        let detector = Detector::load(&files(&fixture(kind)), &Backend::cpu()).unwrap();
        assert_eq!(detector.labels(), ["ant", "bee", "cow", "dog", "eel"], "{kind}");
        let geometry = detector.geometry();
        assert_eq!((geometry.finest_cell, geometry.second_side), (8, None));
        assert_eq!(detector.counting(), Counting::Threshold(0.5));
        let found = detector.detect(&picture("a.png"), 0.0).unwrap();
        let rows: Vec<f32> = found
            .iter()
            .flat_map(|one| {
                let [x0, y0, x1, y1] = one.bounds.to_array();
                [x0, y0, x1, y1, one.score, one.class as f32]
            })
            .collect();
        let difference = worst(&rows, &values(&expected(kind)["detections"]));
        assert!(difference < 1e-3, "{kind}: {difference}");
        assert!(found.len() > 2 && found.is_sorted_by(|a, b| a.score >= b.score), "{kind}");
        assert_eq!(detector.detect(&picture("a.png"), found[1].score).unwrap().len(), 2, "{kind}");
        assert!(detector.run_neutral().unwrap() > 0);
    }
    // Proportions are not kept: 64 x 96 of 70 x 50.
    let basic = Detector::load(&files(&fixture("rtdetr-v2-basic")), &Backend::cpu()).unwrap();
    assert!((basic.scale(70, 50) - 64.0 / 50.0).abs() < 1e-6 && (basic.scale(50, 70) - 64.0 / 70.0).abs() < 1e-6);
}

/// The first version is read by the same code; the reference says the same with these tensors (`tools/export_rtdetr.py`).
#[test]
fn the_first_version_has_the_same_tensors_and_answers() {
    let folder = fixture("rtdetr-v2-basic");
    let dir = tempfile::tempdir().unwrap();
    let config = std::fs::read_to_string(folder.join("config.json")).unwrap();
    std::fs::write(dir.path().join("config.json"), config.replace("rt_detr_v2", "rt_detr")).unwrap();
    let first = DetectorFiles { config: Some(Blob::File(dir.path().join("config.json"))), ..files(&folder) };
    let answers = [first, files(&folder)]
        .map(|files| Detector::load(&files, &Backend::cpu()).unwrap().detect(&picture("a.png"), 0.0).unwrap());
    assert_eq!(answers[0], answers[1]);
}

#[test]
fn a_picture_of_any_proportions_gives_boxes_inside_of_it() {
    let detector = Detector::load(&files(&fixture("rtdetr-v2-discrete")), &Backend::cpu()).unwrap();
    check_any_proportions(&detector);
}

/// What is rounded may prefer other queries; the maps before that choice stay near.
#[test]
fn coarse_precisions_stay_near() {
    let files = files(&fixture("rtdetr-v2-basic"));
    let model = open(&files).unwrap();
    let exact = outputs(&model, &inputs(&model));
    let coarse =
        [Backend { device: Device::Cpu, precision: "bf16" }, Backend { device: Device::Cpu, precision: "int8" }];
    for (backend, bound) in coarse.iter().zip([0.05, 0.25]) {
        let model = open_on(&files, backend).unwrap();
        let found = outputs(&model, &inputs(&model));
        for (name, exact) in
            exact.iter().filter(|(name, _)| ["feature_map.", "encoder."].iter().any(|p| name.starts_with(p)))
        {
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
        let mut files = files(&fixture("rtdetr-v2-basic"));
        change(&mut files, dir.path());
        open(&files).unwrap_err().to_string()
    };
    let with = |key: &'static str, value: Value| {
        refused(&move |files, dir| {
            let text = std::fs::read_to_string(fixture("rtdetr-v2-basic").join("config.json")).unwrap();
            let mut json: Value = serde_json::from_str(&text).unwrap();
            json[key] = value.clone();
            std::fs::write(dir.join("config.json"), json.to_string()).unwrap();
            files.config = Some(Blob::File(dir.join("config.json")));
        })
    };
    let error = with("decoder_layers", json!(3));
    assert!(error.contains("34 missing: model.decoder.bbox_embed.2.layers.0.bias"), "{error}");
    let error = with("decoder_ffn_dim", json!(25));
    assert!(error.contains("fc1.weight: found [24, 16], expected [25, 16]"), "{error}");
    for (key, value, words) in [
        ("d_model", json!(0), "d_model 0; 1 to 16384"),
        ("encoder_hidden_dim", json!(18), "no multiple of 4"),
        ("decoder_attention_heads", json!(3), "does not divide d_model (16)"),
        ("num_feature_levels", json!(4), "num_feature_levels 4, which decoder_in_channels"),
        ("num_queries", json!(2000), "num_queries 2000, more than the 126 cells"),
        ("encode_proj_layers", json!([3]), "encode_proj_layers with 3"),
        ("eval_size", json!([640, 640]), "asks for eval_size"),
        ("normalize_before", json!(true), "asks for normalize_before"),
        ("decoder_method", json!("cubic"), "decoder_method `cubic`"),
        ("activation_function", json!("mish"), "activation_function `mish`"),
        ("backbone_config", json!({"model_type": "hgnet_v2"}), "backbone `hgnet_v2`"),
        ("backbone_config", json!({"depths": [1]}), "depths and hidden_sizes"),
        ("backbone_config", json!({"hidden_act": "gelu"}), "another hidden_act than relu"),
        ("backbone_config", json!({"out_features": ["stage1", "stage2"]}), "do not end with the last 3 stages"),
    ] {
        let error = with(key, value);
        assert!(error.contains(words) && error.starts_with("config.json of model test"), "{key}: {error}");
    }
    let error = refused(&|files, _| files.weights = vec![Blob::File(fixture("yolox-dense").join("weights.pth"))]);
    assert!(error.contains("missing: model.backbone.model.embedder"), "{error}");
    let error = refused(&|files, dir| {
        std::fs::write(dir.join("p.json"), r#"{"size": {"height": 100, "width": 64}}"#).unwrap();
        files.preprocessor = Some(Blob::File(dir.join("p.json")));
    });
    assert!(error.contains("64 x 100, which is no multiple of the stride 32"), "{error}");
}
