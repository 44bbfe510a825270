//! DETR through the program: counts and boxes on tiny random checkpoints, and the way from the hub to a count.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use clip_aware::compute::Backend;
use clip_aware::models::{Blob, Detector, DetectorFiles};
use serde_json::{Value, json};

use crate::detect::check;
use crate::loopback_hub::{COMMIT, LoopbackHub, REPOSITORY};
use crate::mcp_client::{Server, initialize, request};
use crate::world::{Ran, World, ran};

fn fixture(kind: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/detectors").join(kind)
}

/// The picture that the fixtures' boxes belong to, as `a.png` in the root.
fn picture(world: &World) {
    std::fs::copy(fixture("detr-pictures").join("a.png"), world.root.join("a.png")).unwrap();
}

fn detect(world: &World, kind: &str, arguments: &[&str]) -> Ran {
    let detector = fixture(kind).display().to_string();
    world.run(&[&["--detector", &detector, "detect", "--json"], arguments].concat())
}

/// Boxes of the reference's post-processing: x0, y0, x1, y1, score, class.
fn expected(kind: &str) -> Vec<Vec<f32>> {
    let tensors = candle_core::safetensors::load(fixture(kind).join("expected.safetensors"), &candle_core::Device::Cpu);
    tensors.unwrap()["detections"].to_vec2().unwrap()
}

#[test]
fn boxes_are_those_of_the_reference_in_every_layout() {
    let world = World::new();
    picture(&world);
    for kind in ["detr-timm-dc5", "detr-no-timm", "detr-authors"] {
        let answer = world.run(&[
            "--precision",
            "f32",
            "--detector",
            &fixture(kind).display().to_string(),
            "detect",
            "--json",
            "a.png",
            "--threshold",
            "0",
        ]);
        let answer = answer.expect(0).object();
        check(&answer);
        let found = answer["detections"].as_array().unwrap();
        // Those below the least score that evaluations use are nobody's.
        let expected: Vec<Vec<f32>> = expected(kind).into_iter().filter(|row| row[4] >= 0.001).collect();
        assert_eq!(found.len(), expected.len(), "{kind}");
        for (one, row) in found.iter().zip(&expected) {
            assert_eq!(one["label"], ["ant", "bee", "cow"][row[5] as usize], "{kind}");
            let numbers = one["box"].as_array().unwrap().iter().chain([&one["score"]]);
            for (number, expected) in numbers.zip(row) {
                assert!((number.as_f64().unwrap() - f64::from(*expected)).abs() < 0.01, "{kind}: {one} {row:?}");
            }
        }
    }
}

#[test]
fn counts_are_boxes_above_the_detector_s_own_threshold() {
    let world = World::new();
    picture(&world);
    let sure = expected("detr-no-timm").iter().filter(|row| row[4] >= 0.7).count();
    assert!((1..9).contains(&sure));
    let answer = detect(&world, "detr-no-timm", &["a.png"]).expect(0).object();
    check(&answer);
    assert_eq!((&answer["threshold"], answer["detections"].as_array().unwrap().len()), (&json!(0.7), sure));
    // The constants that were chosen for YOLOX would count boxes that overlap and score less, too.
    let lower = detect(&world, "detr-no-timm", &["a.png", "--threshold", "0.3"]).expect(0).object();
    assert!(lower["detections"].as_array().unwrap().len() > sure);
    let doubt = &answer["doubts"][0];
    assert!(
        doubt["expected"].as_f64().unwrap() >= sure as f64 - 1.0 && doubt["present"].as_f64().unwrap() > 0.9,
        "{doubt}"
    );
    let none = detect(&world, "detr-authors", &["a.png"]).expect(1).object();
    assert_eq!(none["counts"], json!({}));
    let asked = detect(&world, "detr-no-timm", &["a.png", "--target", "cows", "--target", "ant"]).object();
    assert_eq!(asked["counts"]["ant"], 0);
    assert!(asked["counts"]["cow"].as_u64().unwrap() > 0);
}

#[test]
fn a_nameless_slot_is_nothing_that_can_be_found_or_asked_for() {
    let world = World::new();
    picture(&world);
    // Of the nine queries of this one, most prefer a slot that means nothing.
    let answer = detect(&world, "detr-timm-dc5", &["a.png", "--threshold", "0"]).expect(0).object();
    assert_eq!(answer["detections"].as_array().unwrap().len(), 3);
    assert!(!answer.to_string().contains("N/A"), "{answer}");
    let refused = detect(&world, "detr-timm-dc5", &["a.png", "--target", "N/A"]).expect(2);
    assert!(refused.stderr.contains("it finds ant, bee, cow;"), "{}", refused.stderr);
}

#[test]
fn tiles_add_what_they_show_and_go_with_a_threshold() {
    let world = World::new();
    picture(&world);
    let once = detect(&world, "detr-no-timm", &["a.png", "--threshold", "0.2"]).expect(0).object();
    let tiled = detect(&world, "detr-no-timm", &["a.png", "--threshold", "0.2", "--tile"]).expect(0).object();
    check(&tiled);
    let count = |answer: &Value| answer["detections"].as_array().unwrap().len();
    // Boxes of one look are never merged with each other.
    assert!(count(&tiled) >= count(&once), "{once} {tiled}");
    check(&detect(&world, "detr-no-timm", &["a.png", "--tile"]).object());
    let again = detect(&world, "detr-no-timm", &["a.png", "--threshold", "0.2", "--tile"]).expect(0).object();
    assert_eq!(tiled, again, "from the catalogue");
}

#[test]
fn over_mcp_and_in_bench_it_is_a_detector_as_any_other() {
    let detector = fixture("detr-no-timm").display().to_string();
    let world = World::new();
    let answer = world.run(&["--detector", &detector, "bench", "detect", "--json"]).expect(0).object();
    assert!(answer["ms_per_image"].as_f64().unwrap() > 0.0 && answer["input_side"] == 96, "{answer}");
    let mut server = Server::start_as(Stdio::null(), &["--detector", &detector]);
    std::fs::copy(fixture("detr-pictures").join("a.png"), server.root.path().join("photos/a.png")).unwrap();
    server.ask(&initialize("i", "2025-11-25"));
    let arguments = json!({"images": ["a.png"], "targets": ["cow"], "annotate": true});
    let answer = server.ask(&request("c", "tools/call", json!({"name": "detect_count", "arguments": arguments})));
    let answer = &answer["result"];
    assert_eq!(answer["isError"], false, "{answer}");
    check(&answer["structuredContent"]["images"][0]);
    assert_eq!(answer["content"].as_array().unwrap().len(), 2);
}

#[test]
fn a_checkpoint_that_lacks_tensors_is_refused_with_their_names() {
    let world = World::new();
    picture(&world);
    let folder = world.root.join("broken");
    std::fs::create_dir(&folder).unwrap();
    for file in ["preprocessor_config.json", "model.safetensors"] {
        std::fs::copy(fixture("detr-no-timm").join(file), folder.join(file)).unwrap();
    }
    let config = std::fs::read_to_string(fixture("detr-no-timm").join("config.json")).unwrap();
    let mut config: Value = serde_json::from_str(&config).unwrap();
    config["encoder_layers"] = json!(3);
    std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
    let refused = world.run(&["--detector", "./broken", "detect", "a.png"]).expect(2);
    assert!(refused.stderr.contains("16 missing: model.encoder.layers.2.fc1.bias;"), "{}", refused.stderr);
}

// ---- from the hub --------------------------------------------------------------------------------------------------

fn hub(repository: &str) -> LoopbackHub {
    let names = ["config.json", "preprocessor_config.json", "model.safetensors"];
    let files = names.map(|name| (name, std::fs::read(fixture("detr-no-timm").join(name)).unwrap()));
    LoopbackHub::start(&files).of(repository)
}

fn with_hub(world: &World, hub: &LoopbackHub, arguments: &[&str]) -> Ran {
    ran(world.command().env("HF_ENDPOINT", hub.endpoint()).args(arguments).output().unwrap())
}

#[test]
fn one_command_fetches_a_known_detector_which_is_then_used_without_being_named() {
    let world = World::new();
    picture(&world);
    let hub = hub("facebook/detr-resnet-50");
    let nothing = with_hub(&world, &hub, &["detect", "a.png"]).expect(2);
    assert!(nothing.stderr.contains("run `clip-aware models fetch rtdetr-v2-r18`"), "{}", nothing.stderr);
    let offline = with_hub(&world, &hub, &["--offline", "--detector", "detr-resnet-50", "detect", "a.png"]).expect(2);
    assert!(offline.stderr.contains("the detector detr-resnet-50 is not on this machine"), "{}", offline.stderr);
    assert!(offline.stderr.contains("run `clip-aware models fetch detr-resnet-50`"), "{}", offline.stderr);
    assert_eq!(hub.take_seen(), [], "nothing was asked of the hub");
    assert!(!with_hub(&world, &hub, &["models", "list"]).expect(0).stdout.contains("* detr-resnet-50 "));

    let fetched = with_hub(&world, &hub, &["models", "fetch", "detr-resnet-50", "--json"]).expect(0).object();
    assert_eq!(fetched, json!({"detector": "detr-resnet-50", "revision": COMMIT}));
    assert!(!hub.take_seen().is_empty());
    let answer = with_hub(&world, &hub, &["detect", "--json", "a.png"]).expect(0).object();
    assert_eq!(answer["detector"], "detr-resnet-50");
    let by_id = ["--offline", "--detector", "facebook/detr-resnet-50", "detect", "--json", "a.png"];
    assert_eq!(with_hub(&world, &hub, &by_id).expect(0).object(), answer);
    let listed = with_hub(&world, &hub, &["models", "list"]).expect(0).stdout;
    assert!(listed.contains("* detr-resnet-50 ") && listed.contains("42.0"), "{listed}");
    let verified = with_hub(&world, &hub, &["models", "verify", "detr-resnet-50"]).expect(0);
    assert!(verified.stdout.contains("sha256") && verified.stdout.contains("tensors"), "{}", verified.stdout);
    assert!(verified.stderr.contains("000000039769"), "the photo that the published outputs need: {}", verified.stderr);
    // Other weights under the same name fail on the published outputs.
    let wrong = with_hub(&world, &hub, &["models", "verify", "detr-resnet-50", "--image", "a.png"]).expect(1);
    assert!(wrong.stdout.contains("FAIL logits[0, :3, :3] #0"), "{}", wrong.stdout);
    assert_eq!(hub.take_seen(), [], "all of that was in the cache");
}

#[test]
fn any_repository_with_a_detector_s_config_is_one_and_a_revision_is_its_own() {
    let world = World::new();
    picture(&world);
    let hub = hub(REPOSITORY);
    let offline = with_hub(&world, &hub, &["--offline", "--detector", "ada/tiny-clip", "detect", "a.png"]).expect(2);
    assert!(offline.stderr.contains("run `clip-aware models fetch ada/tiny-clip`"), "{}", offline.stderr);
    let fetched = with_hub(&world, &hub, &["models", "fetch", "ada/tiny-clip", "--json"]).expect(0).object();
    assert_eq!(fetched, json!({"detector": "ada/tiny-clip", "revision": COMMIT}));
    let other = ["--offline", "--detector", "ada/tiny-clip@v1.0", "detect", "a.png"];
    let other = with_hub(&world, &hub, &other).expect(2);
    assert!(other.stderr.contains("run `clip-aware models fetch ada/tiny-clip@v1.0`"), "{}", other.stderr);
    // Named for a count it is fetched as well.
    let named = ["--detector", "ada/tiny-clip@v1.0", "detect", "--json", "a.png"];
    assert_eq!(with_hub(&world, &hub, &named).expect(0).object()["detector"], "ada/tiny-clip");
    let absent = with_hub(&world, &hub, &["--detector", "ada/other", "detect", "a.png"]).expect(2);
    assert!(absent.stderr.contains("ada/other"), "{}", absent.stderr);
    let folder = fixture("detr-no-timm").display().to_string();
    let verified = world.run(&["models", "verify", &folder]).expect(0).stdout;
    assert!(verified.contains("model.safetensors") && verified.contains("no output of this model"), "{verified}");
}

// ---- full size -----------------------------------------------------------------------------------------------------

/// `CLIP_AWARE_FULL_SIZE` names a folder that `tools/check_full_size.py --arch detr-... --export` has written.
#[test]
#[ignore = "needs a full-size checkpoint: see tools/check_full_size.py"]
fn a_full_size_detr_agrees() {
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
    for (precision, bound) in [("f32", 1e-3), ("bf16", f32::INFINITY)] {
        let backend = Backend { precision, ..Backend::cpu() };
        let detector = Detector::load(&files, &backend).unwrap();
        for number in 0..2 {
            let picture = image::open(folder.join(format!("picture-{number}.png"))).unwrap().into_rgb8();
            for stage in detector.stages(&picture).unwrap() {
                let name = match stage.name {
                    "decoder last_hidden_state" => format!("picture-{number}.last_hidden_state.0"),
                    other => format!("picture-{number}.{other}"),
                };
                let expected = expected[&name].flatten_all().unwrap().to_vec1::<f32>().unwrap();
                assert_eq!(stage.values.len(), expected.len());
                let pairs = stage.values.iter().zip(&expected);
                let worst = pairs.map(|(a, b)| (a - b).abs()).fold(0.0_f32, |most, x| if x <= most { most } else { x });
                println!("{precision} {name}: largest difference {worst:.2e}");
                assert!(worst <= bound, "{name} is off by {worst}");
            }
        }
    }
}
