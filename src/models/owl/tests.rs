use std::collections::HashMap;
use std::path::Path;

use super::*;
use crate::models::detector::fixtures::{self, files, fixture, values, worst};
use crate::models::{Blob, Detector, DetectorFiles};

/// Fixtures of `tools/export_owl.py`.
const KINDS: [&str; 2] = ["owlv2-tiny", "owlvit-tiny"];
const THINGS: [&str; 4] = ["cat", "red circle", "two dogs", "left"];
const BOUND: f32 = 1e-4;

fn open(files: &DetectorFiles) -> Result<Owl> {
    let checkpoint = Arc::new(Checkpoint::open_weights(&files.id, &files.weights)?);
    let settings = Settings::read(files)?;
    Owl::build(&Parts { files, checkpoint: &checkpoint, settings: &settings, backend: &Backend::cpu() })
}

fn picture(name: &str) -> RgbImage {
    fixtures::picture(&format!("owl-pictures/{name}"))
}

fn expected(kind: &str) -> HashMap<String, Tensor> {
    candle_core::safetensors::load(fixture(kind).join("expected.safetensors"), &Device::Cpu).unwrap()
}

fn things() -> Vec<String> {
    THINGS.map(str::to_owned).to_vec()
}

fn queries(owl: &Owl) -> Tensor {
    let ids: Vec<Vec<u32>> = THINGS.iter().map(|thing| owl.core.tokenize(&prompt::of(thing)).unwrap()).collect();
    owl.core.queries(&ids.iter().map(Vec::as_slice).collect::<Vec<_>>(), &mut Stages::off()).unwrap()
}

/// The pictures as the model takes them, one after the other.
fn inputs(owl: &Owl) -> Vec<Vec<f32>> {
    ["a.png", "b.png"].map(|name| owl.core.input.apply(&picture(name))).to_vec()
}

#[test]
fn every_stage_equals_the_reference() {
    for kind in KINDS {
        let (owl, expected) = (open(&files(&fixture(kind))).unwrap(), expected(kind));
        let check = |name: &str, found: &[f32], bound: f32| {
            let difference = worst(found, &values(&expected[name]));
            assert!(difference < bound, "{kind}: {name} is off by {difference}");
        };
        let inputs = inputs(&owl);
        let side = owl.core.config.vision.image_size;
        let rows = |input: &Vec<f32>| {
            let planes = input.chunks(side * side);
            planes.flat_map(|plane| plane.chunks(side).step_by(8).flatten().copied()).collect::<Vec<f32>>()
        };
        check("pixel_rows", &inputs.iter().flat_map(rows).collect::<Vec<_>>(), 1e-5);
        let queries = queries(&owl);
        check("text_embeds", &values(&queries), BOUND);
        let mut stages = Stages::on();
        let images: Vec<&[f32]> = inputs.iter().map(Vec::as_slice).collect();
        let reads = owl.core.read(&images, &mut stages).unwrap();
        let mut seen = 0;
        for (name, stage) in stages.into_vec() {
            if expected.contains_key(&name) {
                check(&name, &values(&stage), BOUND);
                seen += 1;
            }
        }
        assert_eq!(seen, 4, "{kind}");
        let together = |of: &dyn Fn(&Read) -> Vec<f32>| reads.iter().flat_map(of).collect::<Vec<f32>>();
        check("class_embeds", &together(&|one| values(&one.class_embeds)), BOUND);
        check("logits", &together(&|one| one.logits(&queries).unwrap()), BOUND);
        check("pred_boxes", &together(&|one| one.boxes.clone()), BOUND);
        let features = owl.core.features(&images, &mut Stages::off()).unwrap();
        let objectness = owl.core.heads.objectness(&features).unwrap();
        assert_eq!(objectness.is_some(), kind == "owlv2-tiny");
        if let Some(objectness) = objectness {
            check("objectness_logits", &objectness, BOUND);
        }
        // A batch is its pictures.
        for (image, read) in images.iter().zip(&reads) {
            let alone = owl.core.read(&[image], &mut Stages::off()).unwrap().remove(0);
            assert!(worst(&values(&alone.class_embeds), &values(&read.class_embeds)) < 1e-5);
            assert!(worst(&alone.boxes, &read.boxes) < 1e-6);
        }
    }
}

#[test]
fn labels_scores_and_boxes_equal_the_reference() {
    for kind in KINDS {
        let open = Detector::load(&files(&fixture(kind)), &Backend::cpu()).unwrap();
        assert!(open.is_open_vocabulary() && open.labels().is_empty());
        let error = open.detect(&picture("a.png"), 0.0).unwrap_err().to_string();
        assert!(error.contains("finds what it is told"), "{error}");
        let detector = open.asked(&things()).unwrap();
        assert_eq!(detector.labels(), THINGS);
        let found = detector.detect(&picture("a.png"), 0.0).unwrap();
        let row = |one: &Detection| {
            let [x0, y0, x1, y1] = one.bounds.to_array();
            [x0, y0, x1, y1, one.score, one.class as f32]
        };
        let rows: Vec<f32> = found.iter().flat_map(row).collect();
        let difference = worst(&rows, &values(&expected(kind)["detections"]));
        assert!(difference < 5e-3, "{kind}: {difference}");
        assert_eq!(detector.detect(&picture("a.png"), 0.0).unwrap(), found, "from memory");
        assert!(open.run_neutral().unwrap() > 0);
        // The same picture, another question.
        let other = open.asked(&["two dogs".to_owned()]).unwrap();
        assert_ne!(other.revision(), detector.revision());
        assert_eq!(other.detect(&picture("a.png"), 0.0).unwrap().len(), found.len(), "each patch has one box");
    }
}

/// As in the exporter: picture, example, and where in it.
const LIKE: [(&str, &str, &str, Option<[f32; 4]>); 3] = [
    ("like-b", "a.png", "b.png", None),
    ("like-a", "b.png", "a.png", None),
    ("like-part", "a.png", "b.png", Some([20.0, 90.0, 70.0, 150.0])),
];

#[test]
fn what_is_like_an_example_equals_the_reference() {
    for kind in KINDS {
        let (open, expected) = (Detector::load(&files(&fixture(kind)), &Backend::cpu()).unwrap(), expected(kind));
        let mut revisions = Vec::new();
        for (name, target, example, edges) in LIKE {
            let bounds = edges.map(|[x0, y0, x1, y1]| XyxyPx { x0, y0, x1, y1 });
            let detector = open.like(picture(example), bounds, "this".into()).unwrap();
            detector.ready().unwrap();
            let (mut seen, of) = (0, |stage: &str| values(&expected[&format!("{name}.{stage}")]));
            for stage in detector.stages(&picture(target)).unwrap() {
                if expected.contains_key(&format!("{name}.{}", stage.name)) {
                    let difference = worst(&stage.values, &of(stage.name));
                    assert!(difference < BOUND, "{kind} {name}: {} is off by {difference}", stage.name);
                    seen += 1;
                }
            }
            assert_eq!(seen, 4, "{kind} {name}: patch, query, logits, boxes");
            let found = detector.detect(&picture(target), 0.0).unwrap();
            // The reference drops what scores under a tenth of the best box.
            let least = found[0].score * 0.1;
            let kept = found.iter().filter(|one| one.score > least);
            let row = |one: &Detection| [&one.bounds.to_array()[..], &[one.score]].concat();
            let difference = worst(&kept.flat_map(row).collect::<Vec<f32>>(), &of("detections"));
            assert!(difference < 5e-3, "{kind} {name}: boxes are off by {difference}");
            assert!(found.iter().all(|one| one.class == 0) && detector.labels() == ["this"]);
            revisions.push(detector.revision().to_owned());
        }
        revisions.sort();
        revisions.dedup();
        assert_eq!(revisions.len(), 3, "another example or part of it is another question");
    }
}

#[test]
fn coarse_precisions_stay_near() {
    let files = files(&fixture("owlv2-tiny"));
    let stages = |precision| {
        let backend = Backend { device: Device::Cpu, precision };
        let detector = Detector::load(&files, &backend).unwrap().asked(&things()).unwrap();
        detector.stages(&picture("b.png")).unwrap()
    };
    for (exact, coarse) in stages("f32").iter().zip(&stages("bf16")) {
        let size = exact.values.iter().fold(0.0f32, |most, value| most.max(value.abs()));
        let difference = worst(&coarse.values, &exact.values) / size;
        assert!(difference < 0.1, "{}: {difference}", exact.name);
    }
}

#[test]
fn a_target_that_the_text_tower_cannot_hold_is_refused() {
    let detector = Detector::load(&files(&fixture("owlvit-tiny")), &Backend::cpu()).unwrap();
    let error = detector.asked(&["word ".repeat(20)]).unwrap_err().to_string();
    assert!(error.contains("tokens, the detector reads 16"), "{error}");
}

#[test]
fn wrong_checkpoints_are_refused_with_what_is_wrong() {
    let refused = |change: &dyn Fn(&mut DetectorFiles, &Path)| {
        let dir = tempfile::tempdir().unwrap();
        let mut files = files(&fixture("owlv2-tiny"));
        change(&mut files, dir.path());
        open(&files).unwrap_err().to_string()
    };
    let with = |pointer: &'static str, value: serde_json::Value| {
        refused(&move |files, dir| {
            let text = std::fs::read_to_string(fixture("owlv2-tiny").join("config.json")).unwrap();
            let mut json: serde_json::Value = serde_json::from_str(&text).unwrap();
            *json.pointer_mut(pointer).unwrap() = value.clone();
            std::fs::write(dir.join("config.json"), json.to_string()).unwrap();
            files.config = Some(Blob::File(dir.join("config.json")));
        })
    };
    let error = with("/vision_config/num_hidden_layers", serde_json::json!(3));
    assert!(error.contains("16 missing: owlv2.vision_model.encoder.layers.2."), "{error}");
    let error = with("/model_type", serde_json::json!("owlvit"));
    assert!(error.contains("owlvit.") || error.contains("OwlViT") || error.contains("Owlv2ImageProcessor"), "{error}");
    let error = with("/projection_dim", serde_json::json!(20));
    assert!(error.contains("projection_dim is 20"), "{error}");
    let error = with("/vision_config/image_size", serde_json::json!(56));
    assert!(error.contains("makes images of 48 x 48 pixels"), "{error}");
    let error = refused(&|files, _| files.tokenizer = None);
    assert!(error.contains("has no tokenizer.json"), "{error}");
    let error = refused(&|files, _| files.config = None);
    assert!(error.contains("without a config.json"), "{error}");
}
