use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};

use super::*;
use crate::models::{Blob, Detector, DetectorFiles};
use crate::pixels::{DecodeLimits, decode_file};

fn shared() -> PathBuf {
    std::env::var_os("CLIP_AWARE_SHARED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"), PathBuf::from)
}

fn files(weights: PathBuf) -> DetectorFiles {
    let config = weights.with_file_name("config.json");
    DetectorFiles {
        id: "test".into(),
        revision: String::new(),
        preprocessor: None,
        tokenizer: None,
        config: config.is_file().then_some(Blob::File(config)),
        weights: vec![Blob::File(weights)],
    }
}

fn open(weights: &Path, side: Option<u32>) -> Yolox {
    let checkpoint = Checkpoint::open_weights("test", &[Blob::File(weights.to_owned())]).unwrap();
    Yolox::load(&std::sync::Arc::new(checkpoint), "test", side, &Backend::cpu()).unwrap()
}

fn flat(tensors: &std::collections::HashMap<String, Tensor>, name: &str) -> Vec<f32> {
    let tensor = tensors[name].to_dtype(candle_core::DType::F32).unwrap();
    tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap()
}

/// Largest difference, relative to 1 and the value.
fn worst(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    found.iter().zip(expected).map(|(f, e)| (f - e).abs() / (1.0 + e.abs())).fold(0.0, f32::max)
}

#[test]
#[cfg_attr(not(shared), ignore = "needs ../shared")]
fn real_weights_give_the_published_graphs_inputs_and_outputs() {
    let folder = shared().join("models/yolox-nano");
    let model = open(&folder.join("model.safetensors"), None);
    assert_eq!(model.sizes, Sizes { base: 16, depth: 1, hidden: 64, classes: 80, depthwise: true });
    assert_eq!(model.side, 416);
    let golden = candle_core::safetensors::load(folder.join("golden.safetensors"), &Device::Cpu).unwrap();
    let limits = DecodeLimits { max_file_bytes: 1 << 24, max_pixels: 1 << 24 };
    for photo in ["000000000009.jpg", "000000000025.jpg", "000000000030.jpg"] {
        let picture = decode_file(&shared().join("photos/coco/images").join(photo), &limits).unwrap();
        let (pixels, _) = letterbox(&picture.rgb, 416, PADDING);
        assert_eq!(pixels, flat(&golden, &format!("{photo}.input_bgr")), "{photo}: the input differs");
        let found = model.forward(&pixels, 416, 416).unwrap();
        let worst = worst(&found, &flat(&golden, &format!("{photo}.output_raw")));
        assert!(worst < 1e-3, "{photo}: {worst}");
    }
}

/// Fixtures of `tools/export_detectors.py`: random weights with batch norms, as the reference's training code saves them.
#[test]
fn tiny_checkpoints_of_both_kinds_agree_with_torch() {
    for kind in ["yolox-depthwise", "yolox-dense"] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/detectors").join(kind);
        let detector = Detector::load(&files(folder.join("weights.pth")), &Backend::cpu()).unwrap();
        assert_eq!(detector.labels(), ["ant", "bee", "cow"], "{kind}");
        assert_eq!(detector.geometry().input_side, 96);
        let model = open(&folder.join("weights.pth"), Some(96));
        assert_eq!(model.sizes.depthwise, kind == "yolox-depthwise");
        let expected = candle_core::safetensors::load(folder.join("expected.safetensors"), &Device::Cpu).unwrap();
        let pixels = flat(&expected, "input");
        let mut rows = model.forward(&pixels, 96, 64).unwrap();
        let difference = worst(&rows, &flat(&expected, "raw"));
        assert!(difference < 1e-4, "{kind}: raw {difference}");
        model.decode(&mut rows, 96, 64);
        let difference = worst(&rows, &flat(&expected, "decoded"));
        assert!(difference < 1e-4, "{kind}: decoded {difference}");
        let picture = image::open(folder.join("picture.png")).unwrap().into_rgb8();
        let found = detector.detect(&picture, 0.01).unwrap();
        let flat_found: Vec<f32> = found
            .iter()
            .flat_map(|one| {
                let [x0, y0, x1, y1] = one.bounds.to_array();
                [x0, y0, x1, y1, one.score, one.class as f32]
            })
            .collect();
        let difference = worst(&flat_found, &flat(&expected, "detections"));
        assert!(difference < 1e-3, "{kind}: detections {difference}");
        assert!(found.len() > 3, "{kind}: {}", found.len());
    }
}

#[test]
fn a_checkpoint_of_something_else_is_refused_with_what_is_read() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/parity/clip-a");
    let mut files = files(folder.join("model.safetensors"));
    files.config = None;
    let error = Detector::load(&files, &Backend::cpu()).unwrap_err().to_string();
    let known = "(yolox, detr, owlv2, owlvit, rt_detr, rt_detr_v2, faster_rcnn)";
    assert!(error.contains(&format!("the tensors of no detector that is read here {known}")), "{error}");
    files.config = Some(Blob::File(folder.join("config.json")));
    let error = Detector::load(&files, &Backend::cpu()).unwrap_err().to_string();
    assert!(error.contains("model_type `clip`"), "{error}");
}
