//! What the tests of detectors share: fixtures, and how their outputs are compared.

use std::path::{Path, PathBuf};

use candle_core::{DType, Tensor};
use image::RgbImage;

use crate::models::{Blob, Detector, DetectorFiles};

/// A folder of `tests/fixtures/detectors`.
pub(in crate::models) fn fixture(kind: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/detectors").join(kind)
}

/// The files that a folder has.
pub(in crate::models) fn files(folder: &Path) -> DetectorFiles {
    let file = |name: &str| Some(folder.join(name)).filter(|path| path.is_file()).map(Blob::File);
    DetectorFiles {
        id: "test".into(),
        revision: String::new(),
        config: file("config.json"),
        preprocessor: file("preprocessor_config.json"),
        tokenizer: file("tokenizer.json"),
        weights: file("model.safetensors").or(file("weights.pth")).into_iter().collect(),
    }
}

/// A picture by its path among the fixtures.
pub(in crate::models) fn picture(path: &str) -> RgbImage {
    image::open(fixture(path)).unwrap().into_rgb8()
}

/// All numbers.
pub(in crate::models) fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// Largest absolute difference; a NaN is none that passes.
pub(in crate::models) fn worst(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    let pairs = found.iter().zip(expected);
    pairs.map(|(a, b)| (a - b).abs()).fold(0.0, |largest, x| if x <= largest { largest } else { x })
}

/// Boxes of pictures of any proportions lie inside of them.
pub(in crate::models) fn check_any_proportions(detector: &Detector) {
    for (width, height) in [(1, 1), (300, 1), (1, 300), (97, 64)] {
        for one in detector.detect(&RgbImage::new(width, height), 0.0).unwrap() {
            let [x0, y0, x1, y1] = one.bounds.to_array();
            assert!(0.0 <= x0 && x0 < x1 && x1 <= width as f32 && 0.0 <= y0 && y0 < y1 && y1 <= height as f32);
        }
    }
}
