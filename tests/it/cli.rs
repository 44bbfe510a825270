//! The command line from outside, on the built-in starter model: contracts of design.md section 2.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::world::{World, names, ran};

/// The scenes that hold a thing, by file name.
fn holders(truth: &[Value], colour: &str, shape: &str) -> Vec<String> {
    let holds = |scene: &&Value| {
        scene["objects"].as_array().unwrap().iter().any(|o| o["colour"] == colour && o["shape"] == shape)
    };
    truth.iter().filter(holds).map(|scene| scene["image"].as_str().unwrap().to_owned()).collect()
}

/// Some colour and shape that the scenes hold.
fn a_thing(truth: &[Value]) -> (String, String) {
    let object = &truth[0]["objects"][0];
    (object["colour"].as_str().unwrap().to_owned(), object["shape"].as_str().unwrap().to_owned())
}

#[test]
fn index_then_search_finds_what_the_words_say() {
    let world = World::new();
    let truth = world.scenes("scenes", 5, 60);
    let report = world.run(&["index", "scenes", "--json"]).expect(0).object();
    assert_eq!(report["added"], 60, "{report}");
    let (colour, shape) = a_thing(&truth);
    let found = world.run(&["search", &format!("a {colour} {shape}"), "--json"]).expect(0).object();
    assert_eq!(found["indexed"], 60);
    assert_eq!(found["advice"]["primary"], "semantic_search");
    assert_eq!(found["advice"]["clip_suitable"], true);
    let hits = names(&found["results"]);
    assert!(holders(&truth, &colour, &shape).contains(&hits[0]), "{colour} {shape}: {hits:?}");
    for pair in found["results"].as_array().unwrap().windows(2) {
        assert!(pair[0]["relevance"].as_f64() >= pair[1]["relevance"].as_f64());
    }
}

#[test]
fn a_second_index_run_adds_nothing_and_changes_are_seen() {
    let world = World::with_scenes(12);
    world.run(&["index", ".", "--json"]).expect(0);
    let again = world.run(&["index", ".", "--json"]).expect(0).object();
    assert_eq!((&again["added"], &again["unchanged"]), (&0.into(), &12.into()), "{again}");

    let scenes = world.root.join("scenes");
    std::fs::remove_file(scenes.join("000000.png")).unwrap();
    std::fs::rename(scenes.join("000001.png"), world.root.join("moved.png")).unwrap();
    std::fs::copy(scenes.join("000003.png"), scenes.join("000002.png")).unwrap();
    world.write("scenes/broken.jpg", b"\xff\xd8\xff\xe0 no more than that");
    let changed = world.run(&["index", ".", "--json"]).expect(0).object();
    assert_eq!(changed["added"], 0, "a moved and a copied picture need no embedding: {changed}");
    assert_eq!(changed["moved"], 1, "{changed}");
    assert_eq!(changed["removed"], 1, "{changed}");
    assert_eq!(changed["skipped"], 1, "{changed}");
    assert!(changed["skipped_examples"][0]["path"].as_str().unwrap().ends_with("broken.jpg"), "{changed}");
}

#[test]
fn killed_at_any_moment_it_goes_on_where_it_was() {
    let world = World::with_scenes(150);
    let mut kills = 0;
    for delay_ms in [30, 60, 90, 120, 160, 200] {
        let mut child = world.command().args(["index", "scenes"]).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(delay_ms));
        if child.try_wait().unwrap().is_none() {
            kills += 1;
        }
        child.kill().unwrap(); // SIGKILL
        child.wait().unwrap();
    }
    assert!(kills > 0, "no run was still going when it was killed");
    let report = world.run(&["index", "scenes", "--json"]).expect(0).object();
    let kept = report["unchanged"].as_u64().unwrap();
    assert_eq!(kept + report["added"].as_u64().unwrap(), 150, "{report}");
    let found = world.run(&["search", "a red circle", "--min-relevance", "0", "--top", "500", "--json"]).expect(0);
    assert_eq!(found.object()["indexed"], 150);
}

#[test]
fn two_processes_index_at_once_without_damage() {
    let world = World::with_scenes(80);
    let children: Vec<_> = (0..2)
        .map(|_| {
            world.command().args(["index", "scenes", "--json"]).stdout(std::process::Stdio::piped()).spawn().unwrap()
        })
        .collect();
    for child in children {
        ran(child.wait_with_output().unwrap());
    }
    let report = world.run(&["index", "scenes", "--json"]).expect(0).object();
    assert_eq!((&report["found"], &report["unchanged"]), (&80.into(), &80.into()), "{report}");
}

#[test]
fn hostile_files_are_rows_with_a_reason() {
    let world = World::with_scenes(3);
    world.write("empty.png", b"");
    world.write("text.jpg", b"this is no picture");
    let whole = std::fs::read(world.root.join("scenes/000000.png")).unwrap();
    world.write("cut.png", &whole[..whole.len() / 2]);
    world.write("really-a-png.jpg", &whole);
    std::fs::create_dir(world.root.join("folder.jpg")).unwrap();
    #[cfg(unix)]
    std::os::unix::fs::symlink(&world.root, world.root.join("loop")).unwrap();
    let report = world.run(&["index", ".", "--json"]).expect(0).object();
    assert_eq!(report["skipped"], 3, "{report}");
    let embedded = report["added"].as_u64().unwrap() + report["moved"].as_u64().unwrap();
    assert_eq!(embedded, 4, "the misnamed one is read: {report}");
    for skipped in report["skipped_examples"].as_array().unwrap() {
        assert!(skipped["reason"].as_str().unwrap().len() > 8, "{skipped}");
    }
}

#[test]
fn nothing_found_is_exit_code_1_and_an_error_is_2_with_a_hint() {
    let world = World::with_scenes(5);
    let before = world.run(&["search", "a red circle"]).expect(2);
    assert!(before.stderr.contains("hint: run `clip-aware index"), "{}", before.stderr);
    world.run(&["index", "."]).expect(0);
    let none = world.run(&["search", "a red circle", "--min-relevance", "1", "--json"]).expect(1).object();
    assert_eq!(none["results"].as_array().unwrap().len(), 0);
    let outside = world.run(&["index", "/"]).expect(2);
    assert!(
        outside.stderr.contains("outside the allowed roots") && outside.stderr.contains("--root"),
        "{}",
        outside.stderr
    );
    world.run(&["search", "--image", "absent.png"]).expect(2);
    world.run(&["no-such-command"]).expect(2);
}

#[test]
fn a_search_by_image_finds_the_image_itself_first() {
    let world = World::with_scenes(20);
    world.run(&["index", "."]).expect(0);
    let found = world.run(&["search", "--image", "scenes/000007.png", "--top", "3", "--json"]).expect(0).object();
    assert_eq!(names(&found["results"])[0], "000007.png");
    assert!(found["results"][0]["score"].as_f64().unwrap() > 0.999);
    assert_eq!(found["advice"]["primary"], "image_similarity");
}

#[test]
fn embed_prints_unit_vectors_of_the_models_dimension() {
    let world = World::with_scenes(1);
    let lines =
        world.run(&["embed", "--text", "a red circle", "--image", "scenes/000000.png", "--json"]).expect(0).lines();
    let kinds: Vec<&str> = lines.iter().map(|line| line["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["text", "image"]);
    for line in &lines {
        let vector: Vec<f64> = line["vector"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect();
        assert_eq!(vector.len() as u64, line["dim"].as_u64().unwrap());
        let length = vector.iter().map(|v| v * v).sum::<f64>().sqrt();
        assert!((length - 1.0).abs() < 1e-5, "{length}");
        assert_eq!(line["model"], "starter");
    }
}

#[test]
fn classify_answers_one_object_per_image() {
    let world = World::new();
    let truth = world.scenes("scenes", 9, 10);
    let lines = world
        .run(&[
            "classify",
            "scenes/000000.png",
            "scenes/000001.png",
            "--labels",
            "circle,square,triangle,star,heart",
            "--json",
        ])
        .expect(0)
        .lines();
    assert_eq!(lines.len(), 2, "{truth:?}");
    for line in &lines {
        let scores = line["scores"].as_array().unwrap();
        assert_eq!(scores.len(), 5);
        let sum: f64 = scores.iter().map(|s| s["probability"].as_f64().unwrap()).sum();
        assert!((sum - 1.0).abs() < 1e-4, "{sum}");
    }
}

#[test]
fn the_starter_is_never_chosen_silently() {
    let world = World::with_scenes(2);
    let refused = ran(world.command().env_remove("CLIP_AWARE_MODEL").args(["index", "."]).output().unwrap()).expect(2);
    assert!(refused.stderr.contains("models fetch"), "{}", refused.stderr);
    assert!(!refused.stderr.contains("panicked"), "{}", refused.stderr);
}

#[test]
fn a_sheet_is_a_picture_of_the_hits() {
    let world = World::with_scenes(8);
    world.run(&["index", "."]).expect(0);
    world.run(&["search", "a red circle", "--min-relevance", "0", "--sheet", "hits.png"]).expect(0);
    let sheet = image::open(world.root.join("hits.png")).unwrap();
    assert!(sheet.width() > 300 && sheet.height() > 100, "{}x{}", sheet.width(), sheet.height());
}

#[test]
fn help_is_instant_and_names_every_command() {
    let world = World::new();
    let started = Instant::now();
    let help = world.run(&["--help"]).expect(0);
    assert!(started.elapsed() < Duration::from_secs(1));
    for command in ["index", "search", "classify", "embed", "models", "serve", "demo", "bench", "doctor"] {
        assert!(help.stdout.contains(&format!("\n  {command}")), "{command} is missing:\n{}", help.stdout);
    }
}

#[test]
fn bench_search_prints_its_contract() {
    let world = World::new();
    let answer = world.run(&["bench", "search", "--vectors", "3000", "--dim", "48", "--json"]).expect(0).object();
    let number = |name: &str| answer[name].as_f64().unwrap_or_else(|| panic!("{name}: {answer}"));
    for name in ["build_s", "first_ms", "query_ms_p50", "query_ms_p99", "vector_bytes", "file_bytes"] {
        assert!(number(name) > 0.0, "{name}: {answer}");
    }
    assert!(number("query_ms_p50") <= number("query_ms_p99"), "{answer}");
    assert!(number("recall_at_10") >= 0.999 && number("recall_at_50") >= 0.999, "{answer}");
    assert_eq!((number("vectors") as u64, number("dim") as u64), (3000, 48));
    let words = world.run(&["bench", "search", "--vectors", "100", "--dim", "8"]).expect(0);
    assert!(words.stdout.contains("ms per search of 100 x 8"), "{}", words.stdout);
}
