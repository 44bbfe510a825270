//! `demo`: a first look without a network. Scenes are rendered, then everything goes through a real MCP connection to a
//! second process of this program, as an agent would do it; the accuracies are measured on the spot.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::args::{DemoArgs, ScenesArgs};
use super::commands::watched;
use super::{Outcome, render};
use crate::engine::encoders::encode_pictures;
use crate::engine::scenes::captions::right_captions;
use crate::engine::scenes::detection::{self, ToolAccuracies};
use crate::engine::scenes::{self, Accuracies, Accuracy, Kind};
use crate::engine::{Engine, sheet};
use crate::error::{Error, Result};
use crate::models::Detector;
use crate::models::starter::starter_detector;

mod failing;
mod server;

use server::Server;

/// Scenes in the gallery that is searched; few enough to look at.
const GALLERY: usize = 48;
/// Queries of the tour.
const QUERIES: [&str; 3] = ["a red circle", "a blue star", "a yellow heart"];

/// Renders, serves, searches, shows where CLIP fails and what it is routed to, measures.
///
/// # Errors
/// A file cannot be written; the server cannot be started or answers with an error.
pub fn run(engine: &Engine, args: &DemoArgs, cancel: &AtomicBool) -> Result<Outcome> {
    let started = Instant::now();
    std::fs::create_dir_all(&args.out).map_err(Error::io("create", &args.out))?;
    // The server runs in this folder, where a relative path would mean another place.
    let out = args.out.canonicalize().map_err(Error::io("find", &args.out))?;
    let gallery = out.join("gallery");
    scenes::export(args.seed, GALLERY, scenes::SIDE, Kind::Gallery, &gallery, false)?;
    let say = |line: &str| {
        if !engine.config().json {
            render::text(line);
        }
    };
    say(&format!("{GALLERY} scenes rendered into {}\n", render::short(&gallery.display().to_string())));

    let mut server = Server::start(&out)?;
    say(&format!(
        "clip-aware serve --model starter --detector starter      (first answer after {:.0} ms)",
        server.first_answer_ms
    ));
    search(engine, &mut server, &out, &say)?;

    let encoder = watched(cancel, |watch| engine.encoder("starter", watch))?;
    say(&format!(
        "Of {} scenes each the one that CLIP alone is surest and wrong about, and what the same request is routed to:\n",
        scenes::SCENES
    ));
    failing::show(&encoder, args.seed, &mut server, &out, &say)?;
    server.stop();
    say(&format!(
        "The pictures with their boxes: {}\n",
        render::short(&out.join(failing::FOUND).display().to_string())
    ));

    let clip = scenes::measure(args.seed, &|pictures| encode_pictures(&encoder, pictures), &|texts| {
        encoder.encode_texts(texts)
    })?;
    let detector = Arc::new(Detector::load(&starter_detector(), &engine.backend()?)?);
    let tools = watched(cancel, |watch| {
        let (count, relate) = (detection::counted(engine, &detector, watch), detection::related(&detector, watch));
        detection::measure(args.seed, detection::Tools { count: &count, relate: &relate })
    })?;
    let binding = watched(cancel, |watch| {
        let asked = scenes::questions(Kind::Binding, args.seed, scenes::SCENES);
        right_captions(engine, (&detector, &encoder), &asked, watch)
    })?;
    report(engine, args, &clip, &tools, &binding, started.elapsed());
    Ok(Outcome::Done)
}

/// Indexes the gallery and searches it; writes a sheet of the hits.
fn search(engine: &Engine, server: &mut Server, out: &Path, say: &dyn Fn(&str)) -> Result<()> {
    say(&server.tell("index_folder", &json!({"folder": "gallery"}))?.transcript());
    let mut rows = Vec::new();
    for query in QUERIES {
        let told = server.tell("clip_search", &json!({"query": query, "top_k": 6, "min_relevance": 0.0}))?;
        say(&told.transcript());
        rows.push((query.to_owned(), hit_paths(&told.found)));
    }
    let first = rows.first().and_then(|(_, hits)| hits.first()).cloned().unwrap_or_default();
    let labels = ["circle", "square", "triangle", "star"];
    say(&server.tell("classify_image", &json!({"images": [first], "labels": labels}))?.transcript());
    let picture = out.join("demo.png");
    sheet::rows(&rows, &engine.decode_limits(), &picture)?;
    say(&format!("The hits of the three searches: {}\n", render::short(&picture.display().to_string())));
    Ok(())
}

/// `scenes`: writes rendered scenes with their truth.
///
/// # Errors
/// A file cannot be written; the kind is unknown.
pub fn scenes(args: &ScenesArgs) -> Result<Outcome> {
    scenes::export(args.seed, args.count, args.side, args.kind, &args.out, args.raw)?;
    Ok(Outcome::Done)
}

fn report(
    engine: &Engine,
    args: &DemoArgs,
    clip: &Accuracies,
    tools: &ToolAccuracies,
    binding: &Accuracy,
    elapsed: Duration,
) {
    if engine.config().json {
        render::json(&json!({
            "seed": args.seed, "scenes": scenes::SCENES, "seconds": elapsed.as_secs_f64(), "accuracies": clip,
            "tools": tools, "captions": { "binding": binding },
        }));
        return;
    }
    render::text(&format!(
        "What the starter CLIP can tell, measured just now on {} unseen scenes each (seed {}):\n",
        scenes::SCENES,
        args.seed
    ));
    let line = |what: &str, clip: Option<&Accuracy>, routed: Option<(&Accuracy, &str)>| {
        let alone = clip
            .map_or_else(|| format!("{:>10}{:>10}", "-", "-"), |a| format!("{:>10.2}{:>10.2}", a.value(), a.chance));
        let routed = routed.map(|(a, tool)| format!("   {:.2} {tool}", a.value())).unwrap_or_default();
        render::text(&format!("  {what:<48}{alone}{routed}"));
    };
    let heads =
        |routed: &str| render::text(format!("  {:48}{:>10}{:>10}   {routed}", "", "CLIP", "guessing").trim_end());
    heads("");
    line("search: first hit of \"a red circle\" holds one", Some(&clip.search), None);
    line("classify: which shape", Some(&clip.shape), None);
    line("classify: which colour", Some(&clip.colour), None);
    render::text(
        "\nand what it cannot, which is CLIP's nature and not its size; beside it, on the same scenes, what such requests\nare routed to, with the starter detector:\n",
    );
    let (count, relate) = ("detect_count", "spatial_relation");
    heads("routed to");
    line("count: one, two, three or four", Some(&clip.counting), Some((&tools.counting, count)));
    line("negate: with or without a shape", Some(&clip.negation), Some((&tools.negation, count)));
    line("relate: which is left of which", Some(&clip.left_right), Some((&tools.left_right, relate)));
    line("relate: left of, right of, above or below", Some(&clip.relation), Some((&tools.relation, relate)));
    line("bind: which colour belongs to which shape", Some(&clip.binding), Some((binding, "match_captions")));
    line("search among scenes with several objects", Some(&clip.search_mixed), None);
    line("count every shape, one to nine objects", None, Some((&tools.every_shape, count)));
    line("relate any two: is the truth among what is told", None, Some((&tools.pairs, relate)));
    render::text(&format!("\n{:.1} s in all.", elapsed.as_secs_f64()));
}

fn hit_paths(found: &Value) -> Vec<String> {
    let results = found.get("results").and_then(Value::as_array);
    results.into_iter().flatten().filter_map(|hit| hit.get("path")?.as_str().map(str::to_owned)).collect()
}
