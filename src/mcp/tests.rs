//! The server over pipes with tools that are slow, panic or count; the transport, queue and protocol are the real ones.

use std::io::{BufRead, BufReader, PipeReader, PipeWriter, Write};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::answer::Answer;
use super::server::Server;
use super::stdio;
use super::tools::Entry;
use super::work::Lane;
use crate::config::{Config, DeviceChoice, PrecisionChoice};
use crate::engine::{Engine, Progress, Watch};

/// Settings with one root.
pub(super) fn config(root: &Path) -> Config {
    Config {
        roots: vec![root.canonicalize().unwrap()],
        working_dir: None,
        data_dir: root.join("data"),
        model: None,
        detector: None,
        identifier: None,
        dcsm: None,
        device: DeviceChoice::Cpu,
        precision: PrecisionChoice::F32,
        threads: 1,
        offline: true,
        json: false,
        allow_url: false,
        max_file_bytes: 1 << 20,
        max_pixels: 1 << 20,
    }
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct StepArgs {
    steps: u64,
}

#[derive(Debug, Serialize, JsonSchema)]
struct StepResponse {
    done: u64,
    cancelled: bool,
}

static RUNNING: AtomicUsize = AtomicUsize::new(0);

/// Works in steps of 20 ms, as index runs do in batches: reports each, and stops in between when told to.
#[expect(clippy::unnecessary_wraps, reason = "tools return results")]
fn steps(_engine: &Engine, args: &StepArgs, watch: &Watch<'_>) -> crate::Result<StepResponse> {
    let mut done = 0;
    while done < args.steps && watch.check().is_ok() {
        std::thread::sleep(Duration::from_millis(20));
        done += 1;
        (watch.progress)(Progress { phase: "embed", done, total: Some(args.steps), message: format!("{done}") });
    }
    Ok(StepResponse { done, cancelled: done < args.steps })
}

/// Fails when another call of its kind runs at the same time.
#[expect(clippy::unnecessary_wraps, reason = "tools return results")]
fn alone(_engine: &Engine, _args: &StepArgs, _watch: &Watch<'_>) -> crate::Result<StepResponse> {
    assert_eq!(RUNNING.fetch_add(1, Ordering::SeqCst), 0, "two at once");
    std::thread::sleep(Duration::from_millis(5));
    RUNNING.fetch_sub(1, Ordering::SeqCst);
    Ok(StepResponse { done: 1, cancelled: false })
}

fn fake_tools() -> Vec<Entry> {
    let present = |_: &Engine, _: &StepArgs, response: &StepResponse| Answer::text(format!("{} done", response.done));
    vec![
        Entry::new("steps", "Steps").runs(Lane::Long, steps, present),
        Entry::new("alone", "Alone").runs(Lane::Short, alone, present),
        Entry::new("panic", "Panic").runs(
            Lane::Short,
            |_: &Engine, _: &StepArgs, _: &Watch<'_>| -> crate::Result<StepResponse> { panic!("on purpose") },
            present,
        ),
    ]
}

/// A client and, in a thread of its own, the server.
struct Session {
    input: Option<PipeWriter>,
    lines: Receiver<String>,
    stop: CancellationToken,
    server: Option<std::thread::JoinHandle<()>>,
    _root: tempfile::TempDir,
}

impl Session {
    fn start() -> Self {
        let (session, output) = Self::start_unread();
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let mut session = Session { lines, ..session };
        session.send(&json!({"jsonrpc": "2.0", "id": "init", "method": "initialize", "params": {
            "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "0"}}}));
        assert_eq!(session.answer("init").pointer("/result/protocolVersion"), Some(&json!("2025-11-25")));
        session
    }

    /// A session whose output nobody reads.
    fn start_unread() -> (Self, PipeReader) {
        let root = tempfile::tempdir().unwrap();
        let engine = Arc::new(Engine::new(config(root.path())));
        let (server_input, input) = std::io::pipe().unwrap();
        let (output, server_output) = std::io::pipe().unwrap();
        let stop = CancellationToken::new();
        let server = std::thread::spawn({
            let stop = stop.clone();
            move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                let server = Server::with_tools(engine, fake_tools());
                runtime.block_on(stdio::serve(server, server_input, server_output, stop));
                runtime.shutdown_background();
            }
        });
        let session = Self { input: Some(input), lines: channel().1, stop, server: Some(server), _root: root };
        (session, output)
    }

    fn send(&mut self, message: &Value) {
        self.send_line(&message.to_string());
    }

    fn send_line(&mut self, line: &str) {
        writeln!(self.input.as_mut().unwrap(), "{line}").unwrap();
    }

    fn call(&mut self, id: &str, tool: &str, steps: u64, progress_token: Option<&str>) {
        let mut params = json!({"name": tool, "arguments": {"steps": steps}});
        if let Some(token) = progress_token {
            params["_meta"] = json!({"progressToken": token});
        }
        self.send(&json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params}));
    }

    fn next(&self) -> Value {
        let line = self.lines.recv_timeout(Duration::from_secs(10)).expect("an answer within 10 s");
        serde_json::from_str(&line).unwrap()
    }

    /// The next message with this id; others before it are passed over.
    fn answer(&self, id: &str) -> Value {
        loop {
            let message = self.next();
            if message.get("id") == Some(&json!(id)) {
                return message;
            }
        }
    }

    /// Closes the input and waits for the server's end.
    fn finish(mut self) -> Vec<Value> {
        self.input.take();
        self.join(Duration::from_secs(5));
        // What was written may still be on its way through the thread that reads it.
        let lines = std::iter::from_fn(|| self.lines.recv_timeout(Duration::from_secs(2)).ok());
        lines.map(|line| serde_json::from_str(&line).unwrap()).collect()
    }

    fn join(&mut self, limit: Duration) {
        let server = self.server.take().unwrap();
        let start = Instant::now();
        while !server.is_finished() {
            assert!(start.elapsed() < limit, "the server does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
        server.join().unwrap();
    }
}

/// Panics of the tool that panics on purpose must not fill the test's output.
fn quiet_panics() {
    static ONCE: OnceLock<()> = OnceLock::new();
    ONCE.get_or_init(|| {
        let default = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if panic.payload_as_str() != Some("on purpose") {
                default(panic);
            }
        }));
    });
}

#[test]
fn progress_rises_to_the_total_and_ends_before_the_result() {
    let mut session = Session::start();
    session.call("1", "steps", 20, Some("token"));
    let mut progress = Vec::new();
    let result = loop {
        let message = session.next();
        if message.get("id").is_some() {
            break message;
        }
        assert_eq!(message.pointer("/params/progressToken"), Some(&json!("token")));
        assert_eq!(message.pointer("/params/total"), Some(&json!(20.0)));
        progress.push(message.pointer("/params/progress").and_then(Value::as_f64).unwrap());
    };
    assert!(progress.is_sorted_by(|a, b| a < b), "{progress:?}");
    assert!((2..=8).contains(&progress.len()), "20 steps of 20 ms at 10 per second: {progress:?}");
    assert_eq!(progress.last(), Some(&20.0));
    assert_eq!(result.pointer("/result/structuredContent"), Some(&json!({"done": 20, "cancelled": false})));
    assert_eq!(session.finish(), Vec::<Value>::new(), "nothing after the result");
}

#[test]
fn no_progress_without_a_token() {
    let mut session = Session::start();
    session.call("1", "steps", 10, None);
    assert_eq!(session.next().get("id"), Some(&json!("1")));
}

#[test]
fn a_cancelled_call_stops_and_frees_the_queue() {
    let mut session = Session::start();
    session.call("1", "steps", 1000, None);
    session.call("2", "steps", 1000, None);
    std::thread::sleep(Duration::from_millis(100));
    for id in ["1", "2"] {
        let params = json!({"requestId": id});
        session.send(&json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params}));
    }
    let start = Instant::now();
    session.call("3", "steps", 1, None);
    let result = session.answer("3");
    assert!(start.elapsed() < Duration::from_secs(1));
    assert_eq!(result.pointer("/result/structuredContent/done"), Some(&json!(1)));
}

#[test]
fn a_panic_is_a_readable_failure_and_the_server_goes_on() {
    quiet_panics();
    let mut session = Session::start();
    session.call("1", "panic", 1, None);
    let result = session.answer("1");
    assert_eq!(result.pointer("/result/isError"), Some(&json!(true)));
    assert!(result.pointer("/result/content/0/text").unwrap().as_str().unwrap().starts_with("error: internal error\n"));
    session.call("2", "steps", 1, None);
    assert_eq!(session.answer("2").pointer("/result/isError"), Some(&json!(false)));
}

#[test]
fn fifty_calls_at_once_are_all_answered_one_at_a_time() {
    let mut session = Session::start();
    for id in 0..50 {
        session.call(&id.to_string(), "alone", 1, None);
    }
    let mut ids: Vec<i32> = (0..50)
        .map(|_| {
            let message = session.next();
            assert_eq!(message.pointer("/result/isError"), Some(&json!(false)), "{message}");
            message.get("id").and_then(Value::as_str).unwrap().parse().unwrap()
        })
        .collect();
    ids.sort_unstable();
    assert!(ids.into_iter().eq(0..50));
}

#[test]
fn lists_and_pings_are_answered_while_a_long_call_runs() {
    let mut session = Session::start();
    session.call("long", "steps", 1000, None);
    for (id, method) in [("a", "ping"), ("b", "tools/list"), ("c", "resources/list")] {
        let start = Instant::now();
        session.send(&json!({"jsonrpc": "2.0", "id": id, "method": method}));
        assert_eq!(session.next().get("id"), Some(&json!(id)));
        assert!(start.elapsed() < Duration::from_millis(500));
    }
    session.stop.cancel();
    session.join(Duration::from_secs(2));
}

#[test]
fn stopping_cancels_running_work_and_still_delivers_its_partial_result() {
    let mut session = Session::start();
    session.call("1", "steps", 1000, None);
    std::thread::sleep(Duration::from_millis(100));
    session.stop.cancel();
    session.join(Duration::from_secs(2));
    assert_eq!(session.answer("1").pointer("/result/structuredContent/cancelled"), Some(&json!(true)));
}

#[test]
fn the_end_of_input_waits_for_running_calls() {
    let mut session = Session::start();
    session.call("1", "steps", 10, None);
    session.call("2", "steps", 1, None);
    let answers = session.finish();
    let ids: Vec<_> = answers.iter().filter_map(|answer| answer.get("id")).collect();
    assert_eq!(ids, [&json!("1"), &json!("2")]);
}

#[test]
fn an_id_in_flight_is_refused_and_free_again_afterwards() {
    let mut session = Session::start();
    session.call("same", "steps", 10, None);
    session.call("same", "steps", 1, None);
    let refused = session.answer("same");
    assert_eq!(refused.pointer("/error/code"), Some(&json!(-32600)));
    assert_eq!(session.answer("same").pointer("/result/structuredContent/done"), Some(&json!(10)));
    session.call("same", "steps", 1, None);
    assert_eq!(session.answer("same").pointer("/result/structuredContent/done"), Some(&json!(1)));
}

#[test]
fn faults_in_arguments_are_results_and_unknown_tools_are_errors() {
    let mut session = Session::start();
    session.send(&json!({"jsonrpc": "2.0", "id": "1", "method": "tools/call",
        "params": {"name": "steps", "arguments": {"steps": "many"}}}));
    let result = session.answer("1");
    assert_eq!(result.pointer("/result/isError"), Some(&json!(true)));
    let text =
        "error: `steps` must be an integer of at least 0, not \"many\"\nhint: steps takes steps; required: steps";
    assert_eq!(result.pointer("/result/content/0/text"), Some(&json!(text)));
    session.call("2", "no_such_tool", 1, None);
    assert_eq!(session.answer("2").pointer("/error/code"), Some(&json!(-32602)));
}

/// The client writes on and on and reads nothing: the server must stop reading instead of queueing answers without end.
#[test]
fn a_client_that_reads_nothing_is_not_read_from_for_ever() {
    let (mut session, output) = Session::start_unread();
    let input = session.input.take().unwrap();
    let writer = std::thread::spawn(move || {
        let mut input = input;
        let line =
            json!({"jsonrpc": "2.0", "id": 1, "method": "x".repeat(2000)}).to_string().replace("\"2.0\"", "\"1\"");
        let mut written = 0_usize;
        // 200 MB in all, if anybody took them.
        while written < 200_000_000 && writeln!(input, "{line}").is_ok() {
            written += line.len();
        }
        written
    });
    std::thread::sleep(Duration::from_millis(1500));
    assert!(!writer.is_finished(), "input is held back");
    session.stop.cancel();
    session.join(Duration::from_secs(4));
    drop(output);
    drop(session);
    assert!(writer.join().unwrap() < 200_000_000);
}
