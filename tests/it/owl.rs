//! OWL through the program: any words are counted and related, and the way from the hub to a count.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use clip_aware::compute::Backend;
use clip_aware::models::{Blob, Detector, DetectorFiles};
use serde_json::{Value, json};

use crate::detect::check;
use crate::loopback_hub::{COMMIT, LoopbackHub};
use crate::mcp_client::{Server, initialize, request};
use crate::world::{Ran, World, ran};

fn fixture(kind: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/detectors").join(kind)
}

fn world() -> World {
    let world = World::new();
    std::fs::copy(fixture("owl-pictures").join("a.png"), world.root.join("a.png")).unwrap();
    world
}

fn run(world: &World, kind: &str, arguments: &[&str]) -> Ran {
    let detector = fixture(kind).display().to_string();
    world.run(&[&["--precision", "f32", "--detector", &detector], arguments].concat())
}

const TARGETS: [&str; 8] = ["--target", "a cat", "--target", "red circle", "--target", "two dogs", "--target", "left"];

#[test]
fn boxes_of_any_words_are_those_of_the_reference() {
    let world = world();
    for kind in ["owlv2-tiny", "owlvit-tiny"] {
        let ask = [&["detect", "--json", "a.png", "--threshold", "0"][..], &TARGETS].concat();
        let answer = run(&world, kind, &ask).expect(0).object();
        check(&answer);
        let tensors =
            candle_core::safetensors::load(fixture(kind).join("expected.safetensors"), &candle_core::Device::Cpu);
        let rows: Vec<Vec<f32>> = tensors.unwrap()["detections"].to_vec2().unwrap();
        let found = answer["detections"].as_array().unwrap();
        assert_eq!(found.len(), rows.len(), "{kind}");
        for (one, row) in found.iter().zip(&rows) {
            assert_eq!(one["label"], ["cat", "red circle", "two dogs", "left"][row[5] as usize], "{kind}");
            for (number, expected) in one["box"].as_array().unwrap().iter().chain([&one["score"]]).zip(row) {
                assert!((number.as_f64().unwrap() - f64::from(*expected)).abs() < 0.01, "{kind}: {one} {row:?}");
            }
        }
        assert_eq!(run(&world, kind, &ask).expect(0).object(), answer, "from the catalogue");
        let usual = run(&world, kind, &[&["detect", "--json", "a.png"][..], &TARGETS].concat()).expect(0).object();
        let counted = rows.iter().filter(|row| row[4] >= 0.1).count();
        assert_eq!(usual["detections"].as_array().unwrap().len(), counted, "{kind}");
        // Other words about the same picture are another question.
        let other = run(&world, kind, &["detect", "--json", "a.png", "--target", "red circle"]).object();
        assert_ne!(other["counts"], usual["counts"]);
    }
}

#[test]
fn without_words_there_is_nothing_to_find() {
    let world = world();
    let refused = run(&world, "owlv2-tiny", &["detect", "a.png"]).expect(2);
    assert!(refused.stderr.contains("finds what it is told"), "{}", refused.stderr);
    let refused = run(&world, "owlv2-tiny", &["detect", "a.png", "--target", " "]).expect(2);
    assert!(refused.stderr.contains("name a thing"), "{}", refused.stderr);
}

#[test]
fn things_of_any_words_are_related() {
    let world = world();
    let ask = ["relate", "a.png", "--json", "--subject", "the left red circle", "--object", "a cat"];
    let answer = run(&world, "owlv2-tiny", &ask);
    assert!(answer.code < 2, "{}", answer.stderr);
    let answer = answer.object();
    assert_eq!((&answer["subject"], &answer["object"]), (&json!("red circle"), &json!("cat")), "{answer}");
}

#[test]
fn over_mcp_the_answer_says_that_scores_are_not_calibrated() {
    let detector = fixture("owlv2-tiny").display().to_string();
    let mut server = Server::start_as(Stdio::null(), &["--detector", &detector]);
    std::fs::copy(fixture("owl-pictures").join("a.png"), server.root.path().join("photos/a.png")).unwrap();
    server.ask(&initialize("i", "2025-11-25"));
    let arguments = json!({"images": ["a.png"], "targets": ["forklift", "blue mug"]});
    let answer = server.ask(&request("c", "tools/call", json!({"name": "detect_count", "arguments": arguments})));
    let answer = &answer["result"];
    assert_eq!(answer["isError"], false, "{answer}");
    check(&answer["structuredContent"]["images"][0]);
    assert!(answer["structuredContent"]["notes"][0].as_str().unwrap().contains("not calibrated"), "{answer}");
}

#[test]
fn what_looks_like_an_example_is_counted_from_either_face() {
    let world = world();
    std::fs::copy(fixture("owl-pictures").join("b.png"), world.root.join("b.png")).unwrap();
    for kind in ["owlv2-tiny", "owlvit-tiny"] {
        let like =
            |more: &[&str]| run(&world, kind, &[&["detect", "--json", "a.png", "--like", "b.png"], more].concat());
        let all = like(&["--threshold", "0.2"]).expect(0).object();
        check(&all);
        let tensors =
            candle_core::safetensors::load(fixture(kind).join("expected.safetensors"), &candle_core::Device::Cpu);
        let rows: Vec<Vec<f32>> = tensors.unwrap()["like-b.detections"].to_vec2().unwrap();
        let rows: Vec<&Vec<f32>> = rows.iter().filter(|row| row[4] >= 0.2).collect();
        let found = all["detections"].as_array().unwrap();
        assert_eq!(found.len(), rows.len(), "{kind}");
        for (one, row) in found.iter().zip(&rows) {
            assert_eq!(one["label"], "like b.png", "{kind}");
            for (number, expected) in one["box"].as_array().unwrap().iter().chain([&one["score"]]).zip(*row) {
                assert!((number.as_f64().unwrap() - f64::from(*expected)).abs() < 0.01, "{kind}: {one} {row:?}");
            }
        }
        assert_eq!(like(&["--threshold", "0.2"]).expect(0).object(), all, "from the catalogue");
        let usual = like(&[]).object();
        let from = if kind == "owlv2-tiny" { 0.9 } else { 0.6 };
        assert_eq!(usual["counts"]["like b.png"], rows.iter().filter(|row| row[4] >= from).count(), "{kind}");
        let part = like(&["--threshold", "0.2", "--like-box", "20,90,70,150"]).object();
        assert_ne!(part["detections"], all["detections"], "{kind}: another part of it is another question");
        // Another picture under the same name is another example.
        std::fs::copy(world.root.join("a.png"), world.root.join("c.png")).unwrap();
        let first = run(&world, kind, &["detect", "--json", "b.png", "--like", "c.png", "--threshold", "0.2"]).object();
        std::fs::copy(world.root.join("b.png"), world.root.join("c.png")).unwrap();
        let other = run(&world, kind, &["detect", "--json", "b.png", "--like", "c.png", "--threshold", "0.2"]).object();
        assert_ne!(first["detections"], other["detections"], "{kind}");
    }
}

#[test]
fn an_example_that_cannot_be_used_is_refused_with_the_next_step() {
    let world = world();
    std::fs::create_dir_all(world.root.join("photos")).unwrap();
    let ask = |more: &[&str]| run(&world, "owlv2-tiny", &[&["detect", "a.png"], more].concat()).expect(2).stderr;
    assert!(ask(&["--like", "a.png", "--like-box", "80,0,90,10"]).contains("which has 70 x 50"));
    assert!(ask(&["--like", "a.png", "--like-box", "1,2,3"]).contains("four numbers"));
    assert!(ask(&["--like", "a.png", "--target", "cat"]).contains("cannot be used with"));
    assert!(ask(&["--like", "none.png"]).contains("none.png"));
    let none = world.run(&["detect", "a.png", "--like", "a.png"]).expect(2).stderr;
    assert!(
        none.contains("no detector on this machine") && none.contains("models fetch owlvit-base-patch32`"),
        "{none}"
    );
    let starter = world.run(&["--detector", "starter", "detect", "a.png", "--like", "a.png"]).expect(2).stderr;
    assert!(starter.contains("starter finds things by name") && starter.contains("models fetch owlvit"), "{starter}");
}

#[test]
fn over_mcp_an_example_takes_the_place_of_words_and_stays_inside_the_roots() {
    let detector = fixture("owlvit-tiny").display().to_string();
    let mut server = Server::start_as(Stdio::null(), &["--detector", &detector]);
    for name in ["a.png", "b.png"] {
        std::fs::copy(fixture("owl-pictures").join(name), server.root.path().join("photos").join(name)).unwrap();
    }
    server.ask(&initialize("i", "2025-11-25"));
    let mut ask = |arguments: Value| {
        let answer = server.ask(&request("c", "tools/call", json!({"name": "detect_count", "arguments": arguments})));
        let answer = answer["result"].clone();
        let text = answer["content"][0]["text"].as_str().unwrap().to_owned();
        (answer, text)
    };
    let like = json!({"images": ["a.png"], "like": "b.png", "like_box": [20, 90, 70, 150], "annotate": true});
    let (answer, text) = ask(like);
    assert_eq!(answer["isError"], false, "{answer}");
    assert!(text.contains("like b.png") && text.contains("counted are boxes from 0.6 on"), "{text}");
    assert!(answer["content"].as_array().unwrap().iter().any(|part| part["type"] == "image"));
    let outside = fixture("owl-pictures").join("a.png").display().to_string();
    for (arguments, says) in [
        (json!({"images": ["a.png"], "like": outside}), "outside"),
        (json!({"images": ["a.png"], "like": "b.png", "targets": ["cat"]}), "exclude each other"),
        (json!({"images": ["a.png"], "like_box": [0, 0, 9, 9]}), "give like too"),
        (json!({"images": ["a.png"], "like": "b.png", "like_box": [0, 0, 9]}), "like_box"),
    ] {
        let (answer, text) = ask(arguments);
        assert!(answer["isError"] == true && text.contains(says), "{text}");
    }
}

fn hub(repository: &str) -> LoopbackHub {
    let names = ["config.json", "preprocessor_config.json", "tokenizer.json", "model.safetensors"];
    let files = names.map(|name| (name, std::fs::read(fixture("owlvit-tiny").join(name)).unwrap()));
    LoopbackHub::start(&files).of(repository)
}

fn with_hub(world: &World, hub: &LoopbackHub, arguments: &[&str]) -> Ran {
    ran(world.command().env("HF_ENDPOINT", hub.endpoint()).args(arguments).output().unwrap())
}

#[test]
fn one_that_was_fetched_answers_for_words_that_the_usual_detector_does_not_know() {
    let world = world();
    let hub = hub("google/owlvit-base-patch32");
    // A detector with classes of its own, used where none is named.
    let shelf = world.root.join("data/detectors/detr-resnet-50");
    std::fs::create_dir_all(&shelf).unwrap();
    for file in ["config.json", "preprocessor_config.json", "model.safetensors"] {
        std::fs::copy(fixture("detr-no-timm").join(file), shelf.join(file)).unwrap();
    }
    let data = world.root.join("data").display().to_string();
    let ask =
        |target: &str| with_hub(&world, &hub, &["--data-dir", &data, "detect", "--json", "a.png", "--target", target]);
    let refused = ask("forklift").expect(2);
    assert!(refused.stderr.contains("models fetch owlvit-base-patch32`"), "{}", refused.stderr);
    let fetched = ["--data-dir", &data, "models", "fetch", "owlvit-base-patch32", "--json"];
    let fetched = with_hub(&world, &hub, &fetched).expect(0).object();
    assert_eq!(fetched, json!({"detector": "owlvit-base-patch32", "revision": COMMIT}));
    let answer: Value = ask("forklift").object();
    assert_eq!(answer["detector"], "owlvit-base-patch32", "{answer}");
    assert!(answer["counts"]["forklift"].is_u64(), "{answer}");
    assert_eq!(ask("cows").object()["detector"], "detr-resnet-50");
}

/// `CLIP_AWARE_FULL_SIZE` names a folder that `tools/check_full_size.py --arch owl... --export` has written.
#[test]
#[ignore = "needs a full-size checkpoint: see tools/check_full_size.py"]
fn a_full_size_owl_agrees() {
    let folder = PathBuf::from(std::env::var_os("CLIP_AWARE_FULL_SIZE").expect("CLIP_AWARE_FULL_SIZE"));
    let file = |name: &str| Some(Blob::File(folder.join(name)));
    let files = DetectorFiles {
        id: "full size".into(),
        revision: String::new(),
        config: file("config.json"),
        preprocessor: file("preprocessor_config.json"),
        tokenizer: file("tokenizer.json"),
        weights: file("model.safetensors").into_iter().collect(),
    };
    let expected =
        candle_core::safetensors::load(folder.join("expected.safetensors"), &candle_core::Device::Cpu).unwrap();
    let things = ["cat", "red circle", "two dogs", "left"].map(str::to_owned);
    for (precision, bound) in [("f32", 1e-3), ("bf16", f32::INFINITY)] {
        let backend = Backend { precision, ..Backend::cpu() };
        let detector = Detector::load(&files, &backend).unwrap().asked(&things).unwrap();
        let pictures = [0, 1].map(|n| image::open(folder.join(format!("picture-{n}.png"))).unwrap().into_rgb8());
        for (number, picture) in pictures.iter().enumerate() {
            let like = detector.like(pictures[1 - number].clone(), None, "this".into()).unwrap();
            let named = |detector: &Detector, kind: &str| {
                let stages = detector.stages(picture).unwrap().into_iter();
                stages.map(|stage| (format!("{kind}-{number}.{}", stage.name), stage)).collect::<Vec<_>>()
            };
            for (name, stage) in named(&detector, "picture").into_iter().chain(named(&like, "like")) {
                // What both questions share is compared once; another patch is another query.
                if !expected.contains_key(&name) && name.starts_with("like") {
                    continue;
                }
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
