use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::models::detector::Settings;
use crate::models::detector::fixtures::{self, check_any_proportions, files, fixture, values, worst};
use crate::models::{Blob, Detector, DetectorFiles};

/// Fixtures of `tools/export_detr.py`: the hub's current names with a dilated last stage, the hub's `no_timm` names, the
/// authors' file.
const KINDS: [&str; 3] = ["detr-timm-dc5", "detr-no-timm", "detr-authors"];

fn open(files: &DetectorFiles) -> Result<Detr> {
    let checkpoint = Arc::new(Checkpoint::open_weights(&files.id, &files.weights)?);
    let settings = Settings::read(files)?;
    Detr::build(&Parts { files, checkpoint: &checkpoint, settings: &settings, backend: &Backend::cpu() })
}

fn picture(name: &str) -> RgbImage {
    fixtures::picture(&format!("detr-pictures/{name}"))
}

fn expected(folder: &Path) -> HashMap<String, Tensor> {
    candle_core::safetensors::load(folder.join("expected.safetensors"), &Device::Cpu).unwrap()
}

/// The reference's order of a map; anything else as it is.
fn channels_first(stage: Tensor) -> Tensor {
    if stage.rank() == 4 { stage.permute((0, 3, 1, 2)).unwrap() } else { stage }
}

/// Compares every stage that the reference has, and returns the largest difference of each kind.
fn compare(
    model: &Detr,
    batch: &[DetectorInput],
    expected: &HashMap<String, Tensor>,
    prefix: &str,
) -> Vec<(String, f32)> {
    let mut stages = Stages::on();
    let predictions = model.forward(batch, &mut stages).unwrap();
    let together = |of: fn(&Prediction) -> &Vec<f32>| predictions.iter().flat_map(of).copied().collect::<Vec<f32>>();
    let mut found: HashMap<String, Vec<f32>> =
        stages.into_vec().into_iter().map(|(name, stage)| (name, values(&channels_first(stage)))).collect();
    found.insert("logits".into(), together(|one| &one.logits));
    found.insert("pred_boxes".into(), together(|one| &one.boxes));
    let names: Vec<&str> = expected.keys().filter_map(|name| name.strip_prefix(prefix)).collect();
    assert!(names.len() >= 3 + 4 * batch.len(), "{names:?}");
    let mut differences: Vec<(String, f32)> = names
        .into_iter()
        .map(|name| (name.to_owned(), worst(&found[name], &values(&expected[&format!("{prefix}{name}")]))))
        .collect();
    differences.sort_by(|a, b| a.0.cmp(&b.0));
    differences
}

#[test]
fn every_stage_of_every_layout_equals_the_reference() {
    for kind in KINDS {
        let folder = fixture(kind);
        let (model, expected) = (open(&files(&folder)).unwrap(), expected(&folder));
        let single = model.input.apply(&picture("a.png"), 96);
        let rows: Vec<f32> = single
            .pixels
            .chunks(single.height * single.width)
            .flat_map(|plane| plane.chunks(single.width).step_by(16).flatten().copied())
            .collect();
        assert!(worst(&rows, &values(&expected["pixel_rows"])) < 1e-6, "{kind}: the input differs");
        let batch = [single.clone(), model.input.apply(&picture("b.png"), 96)];
        assert_ne!((batch[0].height, batch[0].width), (batch[1].height, batch[1].width));
        for (inputs, prefix) in [(&[single][..], "single."), (&batch, "batch.")] {
            for (stage, difference) in compare(&model, inputs, &expected, prefix) {
                assert!(difference < 5e-4, "{kind}: {prefix}{stage} is off by {difference}");
            }
        }
    }
}

#[test]
fn labels_scores_and_boxes_equal_the_reference_and_nothing_nameless_is_found() {
    for kind in KINDS {
        let folder = fixture(kind);
        let detector = Detector::load(&files(&folder), &Backend::cpu()).unwrap();
        assert_eq!(detector.labels(), ["ant", "bee", "cow"], "{kind}");
        let geometry = detector.geometry();
        assert_eq!((geometry.input_side, geometry.second_side), (96, None));
        assert_eq!(geometry.finest_cell, if kind == "detr-timm-dc5" { 16 } else { 32 }, "{kind}");
        let found = detector.detect(&picture("a.png"), 0.0).unwrap();
        let rows: Vec<f32> = found
            .iter()
            .flat_map(|one| {
                let [x0, y0, x1, y1] = one.bounds.to_array();
                [x0, y0, x1, y1, one.score, one.class as f32]
            })
            .collect();
        let difference = worst(&rows, &values(&expected(&folder)["detections"]));
        assert!(difference < 1e-3, "{kind}: {difference}");
        assert!(found.len() > 2 && found.is_sorted_by(|a, b| a.score >= b.score), "{kind}");
        let half = detector.detect(&picture("a.png"), found[1].score).unwrap();
        assert_eq!(half.len(), 2, "{kind}");
        assert!(detector.run_neutral().unwrap() > 0);
    }
}

/// Padding changes what the backbone sees at the border; pictures of one size are not padded.
#[test]
fn a_batch_of_one_size_equals_its_pictures() {
    let model = open(&files(&fixture("detr-no-timm"))).unwrap();
    let one = model.input.apply(&picture("a.png"), 96);
    let turned = DetectorInput { pixels: one.pixels.iter().rev().copied().collect(), ..one.clone() };
    let together = model.forward(&[one.clone(), turned.clone()], &mut Stages::off()).unwrap();
    for (alone, together) in [one, turned].into_iter().zip(together) {
        let alone = model.forward(&[alone], &mut Stages::off()).unwrap().remove(0);
        assert!(worst(&alone.logits, &together.logits) < 1e-5 && worst(&alone.boxes, &together.boxes) < 1e-6);
    }
}

#[test]
fn a_picture_of_any_proportions_gives_boxes_inside_of_it() {
    let detector = Detector::load(&files(&fixture("detr-timm-dc5")), &Backend::cpu()).unwrap();
    check_any_proportions(&detector);
}

#[test]
fn coarse_precisions_stay_near() {
    let files = files(&fixture("detr-no-timm"));
    let exact = Detector::load(&files, &Backend::cpu()).unwrap().stages(&picture("a.png")).unwrap();
    let backend = Backend { device: Device::Cpu, precision: "bf16" };
    let coarse = Detector::load(&files, &backend).unwrap().stages(&picture("a.png")).unwrap();
    for (exact, coarse) in exact.iter().zip(&coarse) {
        let size = exact.values.iter().fold(0.0f32, |most, value| most.max(value.abs()));
        let difference = worst(&coarse.values, &exact.values) / size;
        assert!(difference < 0.05, "{}: {difference}", exact.name);
    }
}

#[test]
fn wrong_checkpoints_are_refused_with_all_that_is_wrong() {
    let refused = |change: &dyn Fn(&mut DetectorFiles, &Path)| {
        let dir = tempfile::tempdir().unwrap();
        let mut files = files(&fixture("detr-no-timm"));
        change(&mut files, dir.path());
        open(&files).unwrap_err().to_string()
    };
    let config = |files: &mut DetectorFiles, dir: &Path, key: &str, value: serde_json::Value| {
        let text = std::fs::read_to_string(fixture("detr-no-timm").join("config.json")).unwrap();
        let mut json: serde_json::Value = serde_json::from_str(&text).unwrap();
        json[key] = value;
        std::fs::write(dir.join("config.json"), json.to_string()).unwrap();
        files.config = Some(Blob::File(dir.join("config.json")));
    };
    let with = |key: &'static str, value: serde_json::Value| refused(&move |f, d| config(f, d, key, value.clone()));
    // The tensors of three layers more, of two attentions each.
    let error = with("decoder_layers", json!(5));
    assert!(error.contains("78 missing: model.decoder.layers.2.encoder_attn.k_proj.bias"), "{error}");
    let error = with("encoder_ffn_dim", json!(25));
    assert!(
        error.contains("wrong shape") && error.contains("fc1.weight: found [24, 16], expected [25, 16]"),
        "{error}"
    );
    for (key, value, words) in [
        ("d_model", json!(0), "d_model 0; 1 to 16384"),
        ("d_model", json!(18), "no multiple of 4"),
        ("encoder_attention_heads", json!(3), "does not divide d_model (16)"),
        ("position_embedding_type", json!("learned"), "position_embedding_type `learned`"),
        ("activation_function", json!("mish"), "activation_function `mish`"),
        ("num_queries", json!("many"), "cannot be read"),
        ("backbone_config", json!({"model_type": "swin"}), "backbone of model_type `swin`"),
        ("backbone_config", json!({"model_type": "resnet", "depths": [1]}), "depths and hidden_sizes"),
        ("backbone_config", json!({"backbone": "convnext"}), "backbone `convnext`"),
        ("backbone_config", json!({"backbone": "resnet50", "output_stride": 8}), "output_stride 8"),
    ] {
        let error = with(key, value);
        assert!(error.contains(words) && error.starts_with("config.json of model test"), "{key}: {error}");
    }
    let error = refused(&|files, _| files.weights = vec![Blob::File(fixture("yolox-dense").join("weights.pth"))]);
    assert!(error.contains("missing: bbox_predictor.layers.0.bias"), "{error}");
    let error = refused(&|files, dir| {
        std::fs::write(dir.join("p.json"), r#"{"do_resize": false}"#).unwrap();
        files.preprocessor = Some(Blob::File(dir.join("p.json")));
    });
    assert!(error.contains("without do_resize"), "{error}");
}
