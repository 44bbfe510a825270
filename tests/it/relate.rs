//! `relate` and `spatial_relation`: on a tiny random detector everywhere, on real weights and photos where they are.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use clip_aware::geometry::XyxyPx;
use clip_aware::geometry::relations::{self, Kind, Placed, Relation};
use serde_json::{Value, json};

use crate::mcp_client::{Server, initialize, request};
use crate::shared;
use crate::world::{Ran, World};

fn fixture(kind: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/detectors").join(kind)
}

/// A detector with the labels ant, bee and cow, and its picture as `picture.png` in the root, its mirror image as
/// `mirrored.png`.
fn tiny(world: &World) -> String {
    let picture = fixture("yolox-dense").join("picture.png");
    std::fs::copy(&picture, world.root.join("picture.png")).unwrap();
    image::open(picture).unwrap().fliph().save(world.root.join("mirrored.png")).unwrap();
    fixture("yolox-dense").display().to_string()
}

fn relate(world: &World, detector: &str, arguments: &[&str]) -> Ran {
    world.run(&[&["--detector", detector, "--json", "relate"], arguments].concat())
}

fn edges(one: &Value) -> [f64; 4] {
    let sides: Vec<f64> = one.as_array().unwrap().iter().map(|edge| edge.as_f64().unwrap()).collect();
    sides.try_into().unwrap()
}

fn rows(answer: &Value) -> &Vec<Value> {
    answer["relations"].as_array().unwrap()
}

/// The contract: names and ranges, boxes in the image, opposites never both, at most ten pairs.
fn check(answer: &Value) {
    let (width, height) = (answer["width"].as_f64().unwrap(), answer["height"].as_f64().unwrap());
    assert!(answer["path"].is_string() && !answer["answer"].as_str().unwrap().is_empty(), "{answer}");
    assert!(answer["frame"].as_str().unwrap().contains("viewer"));
    let known: BTreeSet<&str> = Relation::ALL.iter().map(|relation| relation.words()).collect();
    let mut pairs = BTreeSet::new();
    for one in rows(answer) {
        assert!(known.contains(one["relation"].as_str().unwrap()), "{one}");
        assert!((0.65..=1.0).contains(&one["confidence"].as_f64().unwrap()), "{one}");
        for side in ["subject_box", "object_box"] {
            let [x0, y0, x1, y1] = edges(&one[side]);
            assert!(0.0 <= x0 && x0 < x1 && x1 <= width && 0.0 <= y0 && y0 < y1 && y1 <= height, "{one}");
        }
        assert!(one["subject_score"].as_f64().unwrap() >= answer["threshold"].as_f64().unwrap() - 1e-4, "{answer}");
        let key = |one: &Value| (one["subject_number"].as_u64().unwrap(), one["object_number"].as_u64().unwrap());
        let relation = Relation::ALL.into_iter().find(|relation| one["relation"] == relation.words()).unwrap();
        let inverse = relation.inverse();
        let both = rows(answer).iter().any(|other| key(other) == key(one) && other["relation"] == inverse.words());
        assert!(!both || relation == inverse, "{one}");
        assert!(
            answer["subject"] != answer["object"] || one["subject_box"] != one["object_box"],
            "a thing with itself"
        );
        pairs.insert(key(one));
    }
    assert!(pairs.len() <= 10 && pairs.len() as u64 <= answer["pairs_total"].as_u64().unwrap(), "{answer}");
}

/// Relations with their confidences and boxes, as they are or as a mirror shows them.
fn seen(answer: &Value, in_mirror: bool) -> BTreeSet<String> {
    let width = answer["width"].as_f64().unwrap();
    let row = |one: &Value| {
        let relation = Relation::ALL.into_iter().find(|relation| one["relation"] == relation.words()).unwrap();
        let turned = |side: &str| {
            let [x0, y0, x1, y1] = edges(&one[side]);
            if in_mirror { [width - x1, y0, width - x0, y1] } else { [x0, y0, x1, y1] }
        };
        let relation = if in_mirror { relation.mirrored() } else { relation };
        format!("{} {} {:?} {:?}", relation.words(), one["confidence"], turned("subject_box"), turned("object_box"))
    };
    rows(answer).iter().map(row).collect()
}

const LOW: [&str; 2] = ["--threshold", "0.05"];

#[test]
fn relations_keep_their_contract_for_every_two_things() {
    let world = World::new();
    let detector = tiny(&world);
    let mut held = 0;
    for subject in ["ant", "bees", "the cow"] {
        for object in ["ants", "bee", "cow"] {
            for more in [&[][..], &LOW, &["--threshold", "0"]] {
                let arguments = [&["picture.png", "--subject", subject, "--object", object], more].concat();
                let ran = relate(&world, &detector, &arguments);
                let answer = ran.object();
                check(&answer);
                assert_eq!(ran.code, i32::from(rows(&answer).is_empty()), "{answer}");
                held += rows(&answer).len();
            }
        }
    }
    assert!(held > 50, "{held}");
}

#[test]
fn mirroring_the_picture_swaps_left_and_right_exactly() {
    let world = World::new();
    let detector = tiny(&world);
    let mut sides = 0;
    for (subject, object) in [("ant", "bee"), ("bee", "cow"), ("ant", "ant"), ("cow", "ant")] {
        let ask = |picture: &str| {
            relate(&world, &detector, &[&[picture, "--subject", subject, "--object", object], &LOW[..]].concat())
                .object()
        };
        let (plain, mirrored) = (ask("picture.png"), ask("mirrored.png"));
        assert_eq!(seen(&plain, true), seen(&mirrored, false), "{subject} {object}");
        sides += rows(&plain)
            .iter()
            .filter(|one| ["left of", "right of"].contains(&one["relation"].as_str().unwrap()))
            .count();
    }
    assert!(sides > 0, "nothing was left or right of anything");
}

#[test]
fn exchanging_subject_and_object_turns_every_relation_round() {
    let world = World::new();
    let detector = tiny(&world);
    let ask = |subject: &str, object: &str| {
        relate(&world, &detector, &[&["picture.png", "--subject", subject, "--object", object], &LOW[..]].concat())
            .object()
    };
    let keys = |answer: &Value, turned: bool| -> BTreeSet<String> {
        let key = |one: &Value| {
            let relation = Relation::ALL.into_iter().find(|relation| one["relation"] == relation.words()).unwrap();
            let (a, b) = (one["subject_box"].to_string(), one["object_box"].to_string());
            if turned { format!("{:?} {b} {a}", relation.inverse()) } else { format!("{relation:?} {a} {b}") }
        };
        rows(answer).iter().map(key).collect()
    };
    assert_eq!(keys(&ask("ant", "bee"), true), keys(&ask("bee", "ant"), false));
}

#[test]
fn a_question_is_answered_by_the_exit_code() {
    let world = World::new();
    let detector = tiny(&world);
    let ask = |subject: &str, object: &str, relation: &str| {
        let arguments = ["picture.png", "--subject", subject, "--object", object, "--relation", relation];
        relate(&world, &detector, &[&arguments, &LOW[..]].concat())
    };
    let yes = ask("left ant", "right ant", "to the left of").expect(0).object();
    assert_eq!(yes["verdict"], "yes", "{yes}");
    assert!(yes["answer"].as_str().unwrap().starts_with("yes: the left ant is left of the right ant"), "{yes}");
    assert_eq!(rows(&yes)[0]["relation"], "left of");
    let no = ask("left ant", "right ant", "right of").expect(1).object();
    assert_eq!((&no["verdict"], no["answer"].as_str().unwrap().starts_with("no")), (&json!("no"), true), "{no}");
    assert!(no["confidence"].as_f64().unwrap() < 0.35, "{no}");
    let open = ask("left ant", "right ant", "nearer").expect(1).object();
    assert_eq!(open["verdict"], "cannot decide", "{open}");
    assert!(open["answer"].as_str().unwrap().contains("size"), "{open}");
}

#[test]
fn a_second_question_is_a_look_up_that_answers_the_same() {
    let world = World::new();
    let detector = tiny(&world);
    let ask = |name: &str| {
        relate(&world, &detector, &[&[name, "--subject", "ant", "--object", "bee"], &LOW[..]].concat()).stdout
    };
    let first = ask("picture.png");
    std::fs::rename(world.root.join("picture.png"), world.root.join("renamed.png")).unwrap();
    assert_eq!(first.replace("picture.png", "renamed.png"), ask("renamed.png"));
    // What detect keeps of the same picture is another way of looking.
    let detect = |world: &World| world.run(&["--detector", &detector, "--json", "detect", "renamed.png"]).stdout;
    let other = World::new();
    std::fs::copy(world.root.join("renamed.png"), other.root.join("renamed.png")).unwrap();
    let place = |world: &World| world.root.display().to_string();
    assert_eq!(detect(&world).replace(&place(&world), ""), detect(&other).replace(&place(&other), ""));
}

#[test]
fn what_is_not_there_or_not_known_is_told_with_the_next_step() {
    let world = World::new();
    let detector = tiny(&world);
    world.write("text.png", b"this is no picture");
    let ask = |arguments: &[&str]| relate(&world, &detector, arguments);
    let absent =
        ask(&["picture.png", "--subject", "ant", "--object", "cow", "--threshold", "0.9999"]).expect(1).object();
    assert!(absent["answer"].as_str().unwrap().starts_with("cannot decide: no ant was found (the best candidate"));
    assert!(!absent["candidates"].as_array().unwrap().is_empty() && rows(&absent).is_empty(), "{absent}");
    let both = ["--subject", "ant", "--object", "bee"];
    for (arguments, words) in [
        (vec!["absent.png"], "no such file"),
        (vec!["/etc/passwd"], "outside the allowed roots"),
        (vec!["text.png"], "not an image"),
        (vec!["picture.png", "--threshold", "2"], "`threshold`"),
        (vec!["picture.png", "--relation", "chasing"], "`relation` must be one of left of"),
        (vec![""], "`image` is empty"),
    ] {
        let refused = ask(&[arguments.clone(), both.to_vec()].concat()).expect(2);
        assert!(refused.stderr.contains(words), "{arguments:?}: {}", refused.stderr);
    }
    for (subject, words) in [
        ("", "`subject` is empty"),
        ("  ", "`subject` is empty"),
        ("forklift", "does not know `forklift`"),
        ("forklift", "it finds ant, bee, cow"),
        ("aunt", "did you mean ant?"),
        (&"a".repeat(10_000), "too long"),
    ] {
        let refused = ask(&["picture.png", "--subject", subject, "--object", "bee"]).expect(2);
        assert!(refused.stderr.contains(words), "{words}: {}", refused.stderr);
        assert!(refused.object()["error"].is_string());
    }
    let none = world.run(&["relate", "picture.png", "--subject", "ant", "--object", "bee"]).expect(2);
    assert!(none.stderr.contains("no object detector") && none.stderr.contains("yolox_nano.pth"), "{}", none.stderr);
}

#[test]
fn words_that_a_detector_cannot_check_are_told() {
    let world = World::new();
    let detector = tiny(&world);
    let arguments = ["picture.png", "--subject", "the red ant", "--object", "leftmost bee"];
    let answer = relate(&world, &detector, &[&arguments, &LOW[..]].concat()).object();
    let notes = answer["notes"].to_string();
    assert!(notes.contains("whether it is red was not checked") && notes.contains("furthest left"), "{notes}");
    assert_eq!((&answer["subject"], &answer["object"]), (&json!("ant"), &json!("bee")));
}

#[test]
fn both_boxes_are_drawn_beside_nothing_else() {
    let world = World::new();
    let detector = tiny(&world);
    let arguments =
        ["picture.png", "--subject", "ant", "--object", "bee", "--threshold", "0.05", "--annotate", "drawn"];
    let answer = relate(&world, &detector, &arguments).expect(0).object();
    let drawn = image::open(world.root.join(answer["annotated"].as_str().unwrap())).unwrap();
    let plain = image::open(world.root.join("picture.png")).unwrap();
    assert_eq!((drawn.width(), drawn.height()), (plain.width(), plain.height()));
    assert_ne!(drawn.to_rgb8(), plain.to_rgb8());
    relate(&world, &detector, &arguments).expect(0);
    plain.save(world.root.join("drawn/picture.related.png")).unwrap();
    let refused = relate(&world, &detector, &arguments).expect(2);
    assert!(refused.stderr.contains("would replace"), "{}", refused.stderr);
    let told = world.run(&[&["--detector", detector.as_str(), "relate"], &arguments[..7]].concat()).expect(0).stdout;
    assert!(told.contains("frame: the viewer's") && told.contains("ant 1"), "{told}");
}

#[test]
fn over_mcp_the_answer_is_structured_and_the_picture_comes_on_request() {
    let detector = fixture("yolox-dense").display().to_string();
    let mut server = Server::start_as(Stdio::null(), &["--detector", &detector]);
    let photos = server.root.path().join("photos");
    let picture = image::open(fixture("yolox-dense").join("picture.png")).unwrap();
    picture.save(photos.join("b.png")).unwrap();
    picture.resize_exact(1200, 800, image::imageops::FilterType::Triangle).save(photos.join("a.png")).unwrap();
    std::fs::write(photos.join("bad.png"), b"no picture").unwrap();
    server.ask(&initialize("i", "2025-11-25"));
    let mut call = |tool: &str, arguments: Value| {
        server.ask(&request("c", "tools/call", json!({"name": tool, "arguments": arguments})))["result"].clone()
    };
    let pair = |more: Value| {
        let mut arguments = json!({"image": "b.png", "subject": "ant", "object": "bee", "threshold": 0.05});
        arguments.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        arguments
    };
    let plain = call("spatial_relation", pair(json!({})));
    assert_eq!(plain["isError"], false, "{plain}");
    check(&plain["structuredContent"]);
    assert_eq!(plain["content"].as_array().unwrap().len(), 1, "no picture unless asked for");
    let text = plain["content"][0]["text"].as_str().unwrap();
    assert!(text.contains("frame: the viewer's") && text.len() < 3000, "{text}");

    let drawn = call("spatial_relation", pair(json!({"image": "a.png", "annotate": true, "relation": "left of"})));
    assert!(drawn["structuredContent"]["verdict"].is_string(), "{drawn}");
    let block = &drawn["content"][1];
    assert_eq!((&block["type"], &block["mimeType"]), (&json!("image"), &json!("image/jpeg")));
    let jpeg = BASE64_STANDARD.decode(block["data"].as_str().unwrap()).unwrap();
    let size = image::load_from_memory(&jpeg).unwrap();
    assert_eq!((size.width(), size.height()), (1024, 683));

    for (more, words) in [
        (json!({"image": "/etc/hostname"}), "outside the allowed roots"),
        (json!({"image": "absent.png"}), "no such file"),
        (json!({"image": "bad.png"}), "not an image"),
        (json!({"subject": ""}), "`subject` must be a string that is not empty"),
        (json!({"subject": " "}), "`subject` is empty"),
        (json!({"object": "unicorn"}), "does not know `unicorn`"),
        (json!({"relation": "chasing"}), "`relation` must be one of"),
        (json!({"threshold": 1.5}), "`threshold`"),
        (json!({"image": 5}), "`image`"),
        (json!({"topic": "x"}), "unknown argument"),
    ] {
        let refused = call("spatial_relation", pair(more.clone()));
        let text = refused["content"][0]["text"].as_str().unwrap();
        assert!(refused["isError"] == true && text.contains(words), "{more}: {text}");
    }
    // What the router proposes can be called as it stands.
    let routed = call("route_query", json!({"query": "is the bee left of the cow in b.png?"}));
    let next = &routed["structuredContent"]["next"];
    assert_eq!(next["tool"], "spatial_relation", "{next}");
    assert_eq!(next.get("available"), None, "{next}");
    let followed = call("spatial_relation", next["arguments"].clone());
    assert_eq!(followed["isError"], false, "{next}: {followed}");
}

// ---- real weights --------------------------------------------------------------------------------------------------

fn nano() -> String {
    shared().join("models/yolox-nano").display().to_string()
}

fn photos() -> PathBuf {
    shared().join("photos/coco")
}

/// Class and box of everything that is annotated in a photo.
pub(crate) type Annotated = Vec<(String, XyxyPx)>;

pub(crate) fn truth(count: usize) -> Vec<(String, Annotated)> {
    let text = std::fs::read_to_string(photos().join("instances.json")).unwrap();
    let data: Value = serde_json::from_str(&text).unwrap();
    let name = |id: &Value| {
        let category = data["categories"].as_array().unwrap().iter().find(|category| &category["id"] == id).unwrap();
        category["name"].as_str().unwrap().to_owned()
    };
    let boxes = |photo: &Value| -> Annotated {
        let own = data["annotations"].as_array().unwrap().iter().filter(|one| one["image_id"] == photo["id"]);
        own.map(|one| {
            let [x, y, w, h] = edges(&one["bbox"]).map(|edge| edge as f32);
            (name(&one["category_id"]), XyxyPx { x0: x, y0: y, x1: x + w, y1: y + h })
        })
        .collect()
    };
    let photos = data["images"].as_array().unwrap().iter().take(count);
    photos.map(|photo| (photo["file_name"].as_str().unwrap().to_owned(), boxes(photo))).collect()
}

/// The annotated box of a class that overlaps a detected one most.
fn annotated(boxes: &Annotated, class: &Value, found: &Value) -> Option<XyxyPx> {
    let [x0, y0, x1, y1] = edges(found).map(|edge| edge as f32);
    let found = XyxyPx { x0, y0, x1, y1 };
    let own = boxes.iter().filter(|(name, _)| class == name).map(|(_, one)| *one);
    own.filter(|one| one.iou(&found) >= 0.3).max_by(|a, b| a.iou(&found).total_cmp(&b.iou(&found)))
}

/// Some photos, since a debug build takes ten seconds for one; all 80 and every relation: `tools/relate_study.py agree`.
#[test]
#[cfg_attr(not(shared), ignore = "needs ../shared")]
fn what_is_said_to_hold_holds_between_annotated_boxes() {
    let world = World::new();
    let root = photos().canonicalize().unwrap().display().to_string();
    let (mut told, mut right) = (0_u32, 0_u32);
    for (file, boxes) in truth(24) {
        let classes: BTreeSet<&str> = boxes.iter().map(|(name, _)| name.as_str()).collect();
        for (subject, object) in classes.iter().zip(classes.iter().skip(1)) {
            let image = format!("{root}/images/{file}");
            let global = ["--root", root.as_str(), "--detector", &nano(), "--json", "relate", image.as_str()];
            let ran = world.run(&[&global[..], &["--subject", subject, "--object", object]].concat());
            let answer = ran.object();
            check(&answer);
            for one in rows(&answer) {
                let Some(relation) =
                    Relation::ALL.into_iter().find(|r| r.is_direction() && one["relation"] == r.words())
                else {
                    continue;
                };
                let pair = [("subject", "subject_box"), ("object", "object_box")]
                    .map(|(side, bounds)| annotated(&boxes, &answer[side], &one[bounds]));
                if let [Some(s), Some(o)] = pair {
                    let placed = |bounds| Placed { bounds, jitter: 0.0, kind: Kind::default() };
                    told += 1;
                    right += u32::from(relations::holds(relation, &placed(s), &placed(o), (640.0, 640.0)));
                }
            }
        }
    }
    println!("{right} of {told} directions hold");
    assert!(told > 40 && f64::from(right) >= 0.95 * f64::from(told), "{right} of {told}");
}

#[test]
#[cfg_attr(not(shared), ignore = "needs ../shared")]
fn a_mirrored_photo_swaps_left_and_right_and_nothing_else() {
    let world = World::new();
    for (file, subject, object) in [
        ("000000000025.jpg", "giraffe", "giraffe"),
        ("000000000009.jpg", "bowl", "broccoli"),
        ("000000000036.jpg", "person", "umbrella"),
    ] {
        let plain = image::open(photos().join("images").join(file)).unwrap().into_rgb8();
        plain.save(world.root.join("plain.png")).unwrap();
        image::imageops::flip_horizontal(&plain).save(world.root.join("mirrored.png")).unwrap();
        let ask = |name: &str| relate(&world, &nano(), &[name, "--subject", subject, "--object", object]).object();
        let (a, b) = (ask("plain.png"), ask("mirrored.png"));
        assert!(!rows(&a).is_empty(), "{file}: {a}");
        assert_eq!(seen(&a, true), seen(&b, false), "{file}");
    }
}
