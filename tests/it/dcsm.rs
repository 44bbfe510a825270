//! Networks of dense cosine similarity maps against torch (`tools/export_dcsm.py`), and `match --dcsm`.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use candle_core::{Device, Tensor};
use clip_aware::Error;
use clip_aware::compute::Backend;
use clip_aware::models::weights::{self, Source};
use clip_aware::models::{Dcsm, Encoder};

use crate::world::World;

/// Largest absolute difference of scores, which go from -4 to 4.
const TOLERANCE: f32 = 2e-4;
/// The network, and the CLIP that it is made for.
const CASES: [(&str, &str); 2] = [("a", "clip-a"), ("b", "clip-b")];

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn captions() -> Vec<String> {
    serde_json::from_slice(&std::fs::read(fixture("dcsm/captions.json")).unwrap()).unwrap()
}

fn encoder(name: &str) -> Encoder {
    let nowhere = Source::from_variables(true, Some(Path::new("/no/such/home")), &|_| None);
    let path = fixture("parity").join(name);
    let fetched = weights::fetch(path.to_str().unwrap(), &nowhere, &mut |_| {}, &AtomicBool::new(false)).unwrap();
    Encoder::load(&fetched.files, &Backend::cpu()).unwrap()
}

#[test]
fn scores_equal_the_reference() {
    for (name, clip) in CASES {
        let folder = fixture("dcsm").join(name);
        let expected: HashMap<String, Tensor> =
            candle_core::safetensors::load(folder.join("expected.safetensors"), &Device::Cpu).unwrap();
        let pixels: Vec<f32> = expected["pixels"].flatten_all().unwrap().to_vec1().unwrap();
        let scores: Vec<f32> = expected["scores"].to_vec1().unwrap();
        let (network, encoder) = (Dcsm::load(&folder.join("dcsm.pt")).unwrap(), encoder(clip));
        let found = network.scores(&encoder, &pixels, &captions()).unwrap();
        assert_eq!(found.len(), scores.len());
        for ((found, expected), caption) in found.iter().zip(&scores).zip(captions()) {
            assert!((found - expected).abs() <= TOLERANCE, "{name}: `{caption}` has {found}, expected {expected}");
        }
        let spread = scores.iter().copied().fold(f32::MIN, f32::max) - scores.iter().copied().fold(f32::MAX, f32::min);
        assert!(spread > 0.3, "{name}: scores that are all alike would agree whatever was computed");
    }
}

#[test]
fn another_model_s_network_and_another_file_are_refused() {
    let network = Dcsm::load(&fixture("dcsm/a/dcsm.pt")).unwrap();
    let clip = encoder("clip-b");
    let pixels = vec![0.1; 3 * 28 * 28];
    let error = network.scores(&clip, &pixels, &captions()).unwrap_err().to_string();
    assert!(error.contains("10 tokens") && error.contains("makes 5"), "{error}");
    // Bytes in the middle are those of the largest layer.
    let mut damaged = std::fs::read(fixture("dcsm/a/dcsm.pt")).unwrap();
    damaged[8000..12_000].fill(0xff);
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("dcsm.pt"), damaged).unwrap();
    let error = Dcsm::load(&folder.path().join("dcsm.pt")).unwrap_err().to_string();
    assert!(error.contains("not finite"), "{error}");
    let other = Dcsm::load(&fixture("openclip/fine-tuned/state_dict.pt")).unwrap_err();
    assert!(matches!(other, Error::ModelFile { .. }) && other.to_string().contains("dense cosine"), "{other}");
}

#[test]
fn match_shows_the_network_s_scores_and_lets_it_choose_where_the_checks_do_not_tell() {
    let world = World::new();
    let scene = world.scenes("scenes", 3, 1).remove(0);
    let picture = format!("scenes/{}", scene["image"].as_str().unwrap());
    let (network, clip) = (fixture("dcsm/a/dcsm.pt"), fixture("parity/clip-a"));
    let models = ["--model", clip.to_str().unwrap(), "--dcsm", network.to_str().unwrap(), "--json"];
    let asked = ["match", &picture, "--caption", "something left of it all", "--caption", "no such thing as it was"];
    let json = world.run(&[&models[..], &asked].concat()).object();
    let scores: Vec<f64> =
        json["captions"].as_array().unwrap().iter().map(|one| one["dcsm_score"].as_f64().unwrap()).collect();
    assert_eq!((scores.len(), json["decided_by"].as_str()), (2, Some("dcsm")), "{json}");
    let best = usize::from(scores[1] > scores[0]);
    assert_eq!(json["best_index"].as_u64(), Some(best as u64), "{json}");
    assert!(json["notes"].to_string().contains("dcsm_score"), "{json}");
}
