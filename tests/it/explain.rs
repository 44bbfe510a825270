//! `explain`, `diagnose` and `explain_limitation` from outside: on the starter model where a model is needed.

use serde_json::{Value, json};

use crate::mcp_client::{Server, request, text};
use crate::world::World;

const TOPICS: [&str; 9] = [
    "counting",
    "fine_grained",
    "spatial",
    "compositional",
    "negation",
    "text_reading",
    "calibration",
    "domain_shift",
    "strengths",
];

fn thing(object: &Value) -> String {
    format!("a {} {}", object["colour"].as_str().unwrap(), object["shape"].as_str().unwrap())
}

fn evidence<'a>(diagnosis: &'a Value, check: &str) -> &'a Value {
    diagnosis["evidence"].as_array().unwrap().iter().find(|evidence| evidence["check"] == check).unwrap()
}

#[test]
fn every_topic_is_explained_without_a_model() {
    let world = World::new();
    for topic in TOPICS {
        let run =
            |arguments: &[&str]| world.run(&[&["--model", "no-such-model", "explain"], arguments].concat()).expect(0);
        let object = run(&[topic, "--json"]).object();
        assert_eq!(object["topic"], topic);
        assert_eq!(object["clip_suitable"], topic == "strengths");
        for fact in object["facts"].as_array().unwrap() {
            let source = fact["source"].as_str().unwrap();
            assert!(source.chars().any(|c| c.is_ascii_digit()), "{topic}: {source}");
        }
        let ways = object["instead"].as_array().unwrap();
        assert!(ways.iter().any(|way| way["status"] == "runs_here"), "{topic}");
        for way in ways {
            let status = way["status"].as_str().unwrap();
            assert!(["runs_here", "needs_file", "pointer"].contains(&status), "{topic}: {status}");
        }
        let printed = run(&[topic]).stdout;
        assert!(printed.starts_with(object["title"].as_str().unwrap()), "{printed}");
        assert!(printed.lines().all(|line| line.chars().count() <= 110), "{printed}");
    }
}

#[test]
fn other_names_and_requests_lead_to_a_topic_and_unknown_names_to_the_list() {
    let world = World::new();
    for (arguments, topic) in [
        (vec!["ocr"], "text_reading"),
        (vec!["attribute binding"], "compositional"),
        (vec!["--query", "three dogs on a beach"], "counting"),
        (vec!["--query", "a street without cars"], "negation"),
        (vec!["--query", "a dog in the snow"], "strengths"),
    ] {
        let run = world.run(&[&["--json", "explain"], arguments.as_slice()].concat()).expect(0);
        assert_eq!(run.object()["topic"], topic, "{arguments:?}");
    }
    let refused = world.run(&["explain", "colour"]).expect(2);
    assert!(refused.stderr.contains("counting, fine_grained") && refused.stderr.contains("`colour`"), "{refused:?}");
    world.run(&["explain"]).expect(2);
    world.run(&["explain", "counting", "--image", "absent.png"]).expect(2);
}

#[test]
fn swapped_attributes_are_noise_and_other_things_are_not() {
    let world = World::new();
    let truth = world.scenes("scenes", 5, 60);
    let (mut swaps, mut noise, mut controls) = (0, 0, 0);
    for scene in &truth {
        let objects = scene["objects"].as_array().unwrap();
        let first = &objects[0];
        let other = objects.iter().find(|o| o["colour"] != first["colour"] && o["shape"] != first["shape"]);
        let Some(other) = other else { continue };
        if swaps == 6 {
            break;
        }
        swaps += 1;
        let image = format!("scenes/{}", scene["image"].as_str().unwrap());
        let query = format!("{} and {}", thing(first), thing(other));
        let run = world.run(&["explain", "compositional", "--query", &query, "--image", &image, "--json"]).expect(0);
        let shown = &run.object()["shown"];
        assert_eq!(shown["statement"], query.as_str());
        let counter = &shown["counterfactuals"][0];
        let swapped = query.replace(first["colour"].as_str().unwrap(), "?");
        let swapped = swapped.replace(other["colour"].as_str().unwrap(), first["colour"].as_str().unwrap());
        let swapped = swapped.replace('?', other["colour"].as_str().unwrap());
        let spelt = |text: &str| text.replace("an orange", "a orange");
        assert_eq!(spelt(counter["text"].as_str().unwrap()), spelt(&swapped));
        noise += u32::from(counter["reading"] == "noise");
        // The two texts agree in everything that the model compares.
        controls += u32::from(counter["text_cosine"].as_f64().unwrap() > 0.9);
        let (margin, sigma) = (counter["margin"].as_f64().unwrap(), counter["margin_sigma"].as_f64().unwrap());
        assert!((margin / shown["spread"].as_f64().unwrap() - sigma).abs() < 0.02, "{counter}");
    }
    assert!(swaps >= 3, "{swaps} scenes with two things");
    assert_eq!((noise, controls), (swaps, swaps), "of {swaps}");
}

#[test]
fn a_verdict_names_what_stands_between_image_and_request() {
    let world = World::new();
    let truth = world.scenes("scenes", 5, 40);
    let diagnose = |image: &str, query: &str| {
        world.run(&["diagnose", "--image", image, "--query", query, "--json"]).expect(0).object()
    };
    let image = |scene: &Value| format!("scenes/{}", scene["image"].as_str().unwrap());
    let lone = |scene: &&Value| scene["objects"].as_array().unwrap().len() == 1;
    let scene = truth.iter().find(lone).unwrap();
    let there = thing(&scene["objects"][0]);

    // Before anything is indexed, the index is not blamed.
    let early = diagnose(&image(scene), &there);
    assert_eq!(evidence(&early, "index")["ok"], Value::Null, "{early}");
    assert_ne!(early["verdict"], "index_stale");

    world.run(&["index", "scenes"]).expect(0);
    let matches = truth.iter().filter(lone).take(12).filter(|scene| {
        let diagnosis = diagnose(&image(scene), &thing(&scene["objects"][0]));
        ["good_match", "weak_match"].contains(&diagnosis["verdict"].as_str().unwrap())
    });
    assert!(matches.count() >= 10, "things that are there");
    let colour = if there.contains("green") { "red" } else { "green" };
    let shape = if there.contains("star") { "square" } else { "star" };
    assert_eq!(diagnose(&image(scene), &format!("a {colour} {shape}"))["verdict"], "no_match");

    let counted = diagnose(&image(scene), "three circles");
    assert_eq!(counted["verdict"], "task_not_for_clip");
    assert!(evidence(&counted, "task")["says"].as_str().unwrap().contains("31.67 %"), "{counted}");

    // Changed since, and never met.
    let path = world.root.join(image(scene));
    let mut picture = image::open(&path).unwrap().to_rgb8();
    picture.put_pixel(0, 0, image::Rgb([1, 2, 3]));
    picture.save(&path).unwrap();
    let changed = diagnose(&image(scene), &there);
    assert_eq!(changed["verdict"], "index_stale");
    assert!(changed["next"].as_str().unwrap().starts_with("index_folder("), "{changed}");
    std::fs::copy(world.root.join("scenes/000001.png"), world.root.join("new.png")).unwrap();
    assert_eq!(diagnose("new.png", &there)["verdict"], "index_stale");

    let printed = world.run(&["diagnose", "--image", "new.png", "--query", &there]).expect(0).stdout;
    assert!(printed.contains("index stale") && printed.contains("no index") && printed.contains("next"), "{printed}");
    world.run(&["diagnose", "--image", "new.png", "--query", " "]).expect(2);
    world.run(&["diagnose", "--image", "absent.png", "--query", "a star"]).expect(2);
}

#[test]
fn pictures_that_no_text_of_the_models_world_fits_are_called_far() {
    let world = World::new();
    world.scenes("scenes", 5, 40);
    let mut state = 1_u64;
    let noise = image::RgbImage::from_fn(96, 96, |_, _| {
        let mut byte = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as u8
        };
        image::Rgb([byte(), byte(), byte()])
    });
    noise.save(world.root.join("scenes/noise.png")).unwrap();
    world.run(&["index", "scenes"]).expect(0);
    let far =
        world.run(&["diagnose", "--image", "scenes/noise.png", "--query", "a red circle", "--json"]).expect(0).object();
    assert_eq!(far["verdict"], "domain_far", "{far}");
    let near =
        world.run(&["diagnose", "--image", "scenes/000003.png", "--query", "a dog", "--json"]).expect(0).object();
    assert_eq!(evidence(&near, "domain")["ok"], true, "{near}");
}

#[test]
fn the_tool_answers_over_mcp_short_and_with_sources() {
    let mut server = Server::initialized("2025-11-25");
    let mut call = |arguments: Value| {
        server.ask(&request("1", "tools/call", json!({"name": "explain_limitation", "arguments": arguments})))
    };
    for topic in TOPICS {
        let answer = call(json!({"topic": topic}));
        let words = text(&answer);
        assert!(words.starts_with(&format!("{topic}: ")) && words.contains("right: "), "{words}");
        assert!(words.len() < 3000, "{topic}: {} bytes", words.len());
        assert_eq!(answer["result"]["structuredContent"]["topic"], topic);
    }
    let neither = call(json!({}));
    assert_eq!(neither["result"]["isError"], true);
    assert!(text(&neither).contains("`query` is needed"), "{neither}");
    let unknown = call(json!({"topic": "colour"}));
    assert!(text(&unknown).contains("must be one of counting"), "{unknown}");

    let picture = server.root.path().join("photos/a.png");
    image::RgbImage::from_pixel(64, 64, image::Rgb([200, 30, 30])).save(picture).unwrap();
    let arguments = json!({"query": "a red circle left of a blue square", "image": "a.png"});
    let answer = server.ask(&request("2", "tools/call", json!({"name": "explain_limitation", "arguments": arguments})));
    let words = text(&answer);
    assert!(words.starts_with("verdict: task_not_for_clip"), "{words}");
    assert!(words.contains("against \"a red circle right of a blue square\": margin"), "{words}");
    assert!(words.lines().count() <= 20, "{words}");

    let complete = json!({"ref": {"type": "ref/prompt", "name": "explain_clip_limit"},
        "argument": {"name": "topic", "value": "c"}});
    let answer = server.ask(&request("3", "completion/complete", complete));
    assert_eq!(answer["result"]["completion"]["values"], json!(["counting", "compositional", "calibration"]));
    let get = json!({"name": "explain_clip_limit", "arguments": {"topic": "ocr"}});
    let answer = server.ask(&request("4", "prompts/get", get));
    let prompt = answer.pointer("/result/messages/0/content/text").and_then(Value::as_str).unwrap();
    assert!(prompt.contains("explain_limitation(topic: \"text_reading\")"), "{prompt}");
}
