//! RT-DETR through the program: boxes and counts on tiny random checkpoints, and the way from the hub to a count.

use std::path::{Path, PathBuf};

use clip_aware::compute::Backend;
use clip_aware::models::{Blob, Detector, DetectorFiles};
use serde_json::{Value, json};

use crate::detect::check;
use crate::loopback_hub::{COMMIT, LoopbackHub};
use crate::world::{Ran, World, ran};

fn fixture(kind: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/detectors").join(kind)
}

/// The picture that the fixtures' boxes belong to, as `a.png` in the root.
fn world() -> World {
    let world = World::new();
    std::fs::copy(fixture("detr-pictures").join("a.png"), world.root.join("a.png")).unwrap();
    world
}

fn detect(world: &World, kind: &str, arguments: &[&str]) -> Ran {
    let detector = fixture(kind).display().to_string();
    world.run(&[&["--precision", "f32", "--detector", &detector, "detect", "--json"], arguments].concat())
}

/// Boxes of the reference's post-processing: x0, y0, x1, y1, score, class.
fn expected(kind: &str) -> Vec<Vec<f32>> {
    let tensors = candle_core::safetensors::load(fixture(kind).join("expected.safetensors"), &candle_core::Device::Cpu);
    tensors.unwrap()["detections"].to_vec2().unwrap()
}

#[test]
fn boxes_are_those_of_the_reference_and_counted_from_its_own_default_on() {
    let world = world();
    for kind in ["rtdetr-v2-basic", "rtdetr-v2-discrete"] {
        let answer = detect(&world, kind, &["a.png", "--threshold", "0.001"]).expect(0).object();
        check(&answer);
        let (found, expected) = (answer["detections"].as_array().unwrap(), expected(kind));
        assert_eq!(found.len(), expected.len(), "{kind}");
        for (one, row) in found.iter().zip(&expected) {
            assert_eq!(one["label"], ["ant", "bee", "cow", "dog", "eel"][row[5] as usize], "{kind}");
            let numbers = one["box"].as_array().unwrap().iter().chain([&one["score"]]);
            for (number, expected) in numbers.zip(row) {
                assert!((number.as_f64().unwrap() - f64::from(*expected)).abs() < 0.01, "{kind}: {one} {row:?}");
            }
        }
        let sure = expected.iter().filter(|row| row[4] >= 0.5).count();
        let answer = detect(&world, kind, &["a.png"]).expect(0).object();
        check(&answer);
        assert_eq!((&answer["threshold"], answer["detections"].as_array().unwrap().len()), (&json!(0.5), sure));
        // Boxes of one look are never merged with each other.
        let tiled = detect(&world, kind, &["a.png", "--tile"]).expect(0).object();
        assert!(tiled["detections"].as_array().unwrap().len() >= sure, "{tiled}");
    }
}

#[test]
fn a_checkpoint_that_lacks_tensors_is_refused_with_their_names() {
    let world = world();
    let folder = world.root.join("broken");
    std::fs::create_dir(&folder).unwrap();
    for file in ["preprocessor_config.json", "model.safetensors"] {
        std::fs::copy(fixture("rtdetr-v2-basic").join(file), folder.join(file)).unwrap();
    }
    let config = std::fs::read_to_string(fixture("rtdetr-v2-basic").join("config.json")).unwrap();
    let mut config: Value = serde_json::from_str(&config).unwrap();
    config["encoder_layers"] = json!(2);
    std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
    let refused = world.run(&["--detector", "./broken", "detect", "a.png"]).expect(2);
    assert!(refused.stderr.contains("16 missing: model.encoder.encoder.0.layers.1.fc1.bias;"), "{}", refused.stderr);
}

#[test]
fn one_command_fetches_the_smallest_which_is_then_used_without_being_named() {
    let world = world();
    let names = ["config.json", "preprocessor_config.json", "model.safetensors"];
    let files = names.map(|name| (name, std::fs::read(fixture("rtdetr-v2-basic").join(name)).unwrap()));
    let hub = LoopbackHub::start(&files).of("PekingU/rtdetr_v2_r18vd");
    let run =
        |arguments: &[&str]| ran(world.command().env("HF_ENDPOINT", hub.endpoint()).args(arguments).output().unwrap());
    let nothing = run(&["detect", "a.png"]).expect(2);
    assert!(nothing.stderr.contains("run `clip-aware models fetch rtdetr-v2-r18`"), "{}", nothing.stderr);
    let fetched = run(&["models", "fetch", "rtdetr-v2-r18", "--json"]).expect(0).object();
    assert_eq!(fetched, json!({"detector": "rtdetr-v2-r18", "revision": COMMIT}));
    assert!(!hub.take_seen().is_empty());
    let answer = run(&["detect", "--json", "a.png"]).expect(0).object();
    assert_eq!(answer["detector"], "rtdetr-v2-r18");
    let by_id = ["--offline", "--detector", "PekingU/rtdetr_v2_r18vd", "detect", "--json", "a.png"];
    assert_eq!(run(&by_id).expect(0).object(), answer);
    // Other weights under the same name fail on the published outputs.
    let wrong = run(&["models", "verify", "rtdetr-v2-r18", "--image", "a.png"]).expect(1);
    assert!(wrong.stdout.contains("FAIL logits[0, :3, :3] #0"), "{}", wrong.stdout);
    assert_eq!(hub.take_seen(), [], "all of that was in the cache");
}

/// `CLIP_AWARE_FULL_SIZE` names a folder that `tools/check_full_size.py --arch rtdetr-... --export` has written.
#[test]
#[ignore = "needs a full-size checkpoint: see tools/check_full_size.py"]
fn a_full_size_rtdetr_agrees() {
    let folder = PathBuf::from(std::env::var_os("CLIP_AWARE_FULL_SIZE").expect("CLIP_AWARE_FULL_SIZE"));
    let file = |name: &str| Some(Blob::File(folder.join(name)));
    let files = DetectorFiles {
        id: "full size".into(),
        revision: String::new(),
        config: file("config.json"),
        preprocessor: file("preprocessor_config.json"),
        tokenizer: None,
        weights: file("model.safetensors").into_iter().collect(),
    };
    let expected =
        candle_core::safetensors::load(folder.join("expected.safetensors"), &candle_core::Device::Cpu).unwrap();
    let values = |name: &str| expected[name].flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let detector = Detector::load(&files, &Backend::cpu()).unwrap();
    for number in 0..2 {
        let picture = image::open(folder.join(format!("picture-{number}.png"))).unwrap().into_rgb8();
        let stages = detector.stages(&picture).unwrap();
        let cells = values(&format!("picture-{number}.topk_ind"));
        // Queries whose scores differ in the last digits only may have changed places.
        let own = &stages.iter().find(|stage| stage.name == "topk_ind").unwrap().values;
        let place = |cell: &f32| own.iter().position(|own| (own - cell).abs() < 0.5).expect("another query was chosen");
        let places: Vec<usize> = cells.iter().map(place).collect();
        let moved = places.iter().enumerate().filter(|(expected, found)| expected != *found).count();
        println!("picture {number}: {moved} of {} queries in another place", places.len());
        for (name, of) in [("last_hidden_state", ".0"), ("logits", ""), ("pred_boxes", "")] {
            let stage = stages.iter().find(|stage| stage.name == name).unwrap();
            let found = places.iter().flat_map(|place| &stage.values[place * stage.width..(place + 1) * stage.width]);
            let expected = values(&format!("picture-{number}.{name}{of}"));
            assert_eq!(expected.len(), stage.values.len());
            let worst = found
                .zip(&expected)
                .map(|(a, b)| (a - b).abs())
                .fold(0.0_f32, |most, x| if x <= most { most } else { x });
            println!("picture {number} {name}: largest difference {worst:.2e}");
            assert!(worst <= 1e-3, "{name} is off by {worst}");
        }
    }
}
