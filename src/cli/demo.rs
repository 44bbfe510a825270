//! `demo`: a first look without a network. Scenes are rendered, then everything goes through a real MCP connection to a
//! second process of this program, as an agent would do it; the accuracies are measured on the spot.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::args::{DemoArgs, ScenesArgs};
use super::commands::watched;
use super::{Outcome, render};
use crate::engine::encoders::encode_pictures;
use crate::engine::scenes::{self, Accuracies, Accuracy, Kind};
use crate::engine::{Engine, sheet};
use crate::error::{Error, Result};

/// Scenes in the gallery that is searched; few enough to look at.
const GALLERY: usize = 48;
/// Queries of the tour.
const QUERIES: [&str; 3] = ["a red circle", "a blue star", "a yellow heart"];

/// Renders, serves, searches, measures.
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
    let say = |line: String| {
        if !engine.config().json {
            render::text(&line);
        }
    };
    say(format!("{GALLERY} scenes rendered into {}\n", render::short(&gallery.display().to_string())));

    let mut server = Server::start(&out)?;
    say(format!("clip-aware serve --model starter      (first answer after {:.0} ms)", server.first_answer_ms));
    say(server.tell("index_folder", &json!({"folder": "gallery"}))?.0);
    let mut rows = Vec::new();
    for query in QUERIES {
        let (transcript, found) =
            server.tell("clip_search", &json!({"query": query, "top_k": 6, "min_relevance": 0.0}))?;
        say(transcript);
        rows.push((query.to_owned(), hit_paths(&found)));
    }
    let first = rows.first().and_then(|(_, hits)| hits.first()).cloned().unwrap_or_default();
    let labels = ["circle", "square", "triangle", "star"];
    say(server.tell("classify_image", &json!({"images": [first], "labels": labels}))?.0);
    server.stop();

    let picture = out.join("demo.png");
    sheet::rows(&rows, &engine.decode_limits(), &picture)?;
    say(format!("The hits of the three searches: {}\n", render::short(&picture.display().to_string())));

    let encoder = watched(cancel, |watch| engine.encoder("starter", watch))?;
    let accuracies = scenes::measure(args.seed, &|pictures| encode_pictures(&encoder, pictures), &|texts| {
        encoder.encode_texts(texts)
    })?;
    report(engine, args, &accuracies, started.elapsed());
    Ok(Outcome::Done)
}

/// `scenes`: writes rendered scenes with their truth.
///
/// # Errors
/// A file cannot be written; the kind is unknown.
pub fn scenes(args: &ScenesArgs) -> Result<Outcome> {
    scenes::export(args.seed, args.count, args.side, args.kind, &args.out, args.raw)?;
    Ok(Outcome::Done)
}

fn report(engine: &Engine, args: &DemoArgs, accuracies: &Accuracies, elapsed: Duration) {
    if engine.config().json {
        render::json(&json!({
            "seed": args.seed, "scenes": scenes::SCENES, "seconds": elapsed.as_secs_f64(), "accuracies": accuracies,
        }));
        return;
    }
    render::text(&format!(
        "What the starter CLIP can tell, measured just now on {} unseen scenes each (seed {}):\n",
        scenes::SCENES,
        args.seed
    ));
    let line = |what: &str, accuracy: &Accuracy| {
        render::text(&format!("  {what:<52} {:.2}   guessing {:.2}", accuracy.value(), accuracy.chance));
    };
    line("search: first hit of \"a red circle\" holds one", &accuracies.search);
    line("classify: which shape", &accuracies.shape);
    line("classify: which colour", &accuracies.colour);
    render::text("\nand what it cannot, which is CLIP's nature and not its size:\n");
    line("search among scenes with several objects", &accuracies.search_mixed);
    line("count: one, two, three or four", &accuracies.counting);
    line("relate: which is left of which", &accuracies.left_right);
    line("bind: which colour belongs to which shape", &accuracies.binding);
    line("negate: with or without a shape", &accuracies.negation);
    render::text(&format!("\n{:.1} s in all.", elapsed.as_secs_f64()));
}

fn hit_paths(found: &Value) -> Vec<String> {
    let results = found.get("results").and_then(Value::as_array);
    results.into_iter().flatten().filter_map(|hit| hit.get("path")?.as_str().map(str::to_owned)).collect()
}

/// A second process of this program, spoken to in JSON-RPC lines.
struct Server {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    next_id: u64,
    first_answer_ms: f64,
}

impl Server {
    fn start(root: &Path) -> Result<Self> {
        let program = std::env::current_exe().map_err(Error::io("find", "clip-aware"))?;
        let started = Instant::now();
        let mut child = Command::new(&program)
            .args(["--model", "starter", "--root"])
            .arg(root)
            .arg("--data-dir")
            .arg(root.join("index"))
            .arg("serve")
            .current_dir(root)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(Error::io("start", &program))?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(Error::Server { reason: "it has no pipes".into() });
        };
        let mut server = Self { child, stdin, stdout: BufReader::new(stdout), next_id: 1, first_answer_ms: 0.0 };
        server.request(
            "initialize",
            &json!({
                "protocolVersion": "2025-11-25", "capabilities": {},
                "clientInfo": {"name": "clip-aware demo", "version": env!("CARGO_PKG_VERSION")},
            }),
        )?;
        server.first_answer_ms = started.elapsed().as_secs_f64() * 1e3;
        server.send(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}))?;
        Ok(server)
    }

    /// Calls a tool; returns the transcript of question and answer, and the structured content.
    fn tell(&mut self, tool: &str, arguments: &Value) -> Result<(String, Value)> {
        let result = self.request("tools/call", &json!({"name": tool, "arguments": arguments}))?;
        let texts = result.get("content").and_then(Value::as_array).into_iter().flatten();
        let answer: Vec<&str> = texts.filter_map(|block| block.get("text")?.as_str()).collect();
        let answer = answer.join("\n");
        if result.get("isError").and_then(Value::as_bool) == Some(true) {
            return Err(Error::Server { reason: format!("{tool}: {answer}") });
        }
        let indented = answer.lines().map(|line| format!("   {line}")).collect::<Vec<_>>().join("\n");
        let found = result.get("structuredContent").cloned().unwrap_or_default();
        Ok((format!("-> {tool} {arguments}\n{indented}\n"), found))
    }

    fn request(&mut self, method: &str, params: &Value) -> Result<Value> {
        let id = self.next_id;
        self.next_id += 1;
        self.send(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}))?;
        let mut line = String::new();
        loop {
            line.clear();
            let read = self.stdout.read_line(&mut line).map_err(|e| Error::Server { reason: e.to_string() })?;
            if read == 0 {
                return Err(Error::Server { reason: format!("it ended during {method}") });
            }
            let message: Value = serde_json::from_str(&line)
                .map_err(|error| Error::Server { reason: format!("it wrote what is not JSON: {error}") })?;
            // Notifications (progress) come in between.
            if message.get("id").and_then(Value::as_u64) != Some(id) {
                continue;
            }
            if let Some(error) = message.get("error") {
                return Err(Error::Server { reason: format!("{method}: {error}") });
            }
            return Ok(message.get("result").cloned().unwrap_or_default());
        }
    }

    fn send(&mut self, message: &Value) -> Result<()> {
        writeln!(self.stdin, "{message}")
            .and_then(|()| self.stdin.flush())
            .map_err(|error| Error::Server { reason: format!("it does not read: {error}") })
    }

    /// End of input ends the server.
    fn stop(self) {
        let Self { mut child, stdin, .. } = self;
        drop(stdin);
        if let Err(error) = child.wait() {
            tracing::warn!("the server did not end: {error}");
        }
    }
}
