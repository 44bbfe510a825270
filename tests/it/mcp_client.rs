//! A client that speaks to the built server line by line.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// Generous: the machine may be busy. Timing is measured where it matters.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub struct Server {
    pub child: Child,
    pub input: Option<ChildStdin>,
    pub lines: Receiver<String>,
    pub root: tempfile::TempDir,
}

impl Server {
    pub fn start() -> Self {
        Self::start_with(Stdio::null())
    }

    pub fn start_with(stderr: Stdio) -> Self {
        Self::started(stderr, &[], &[])
    }

    /// With these environment variables.
    pub fn start_in(stderr: Stdio, variables: &[(&str, &str)]) -> Self {
        Self::started(stderr, variables, &[])
    }

    /// With further options.
    pub fn start_as(stderr: Stdio, options: &[&str]) -> Self {
        Self::started(stderr, &[], options)
    }

    fn started(stderr: Stdio, variables: &[(&str, &str)], options: &[&str]) -> Self {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("photos")).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_clip-aware"))
            .args(["--root".as_ref(), root.path().join("photos").as_os_str()])
            .args(["--data-dir".as_ref(), root.path().join("data").as_os_str()])
            .args(options)
            .args(["--model", "starter", "serve"])
            .envs(variables.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self { input: child.stdin.take(), child, lines, root }
    }

    /// A server that has shaken hands the old way.
    pub fn initialized(version: &str) -> Self {
        let mut server = Self::start();
        let answer = server.ask(&initialize("init", version));
        assert!(answer.get("result").is_some(), "{answer}");
        server.send(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
        server
    }

    pub fn send(&mut self, line: &str) {
        self.send_bytes(&[line.as_bytes(), b"\n"].concat());
    }

    pub fn send_bytes(&mut self, bytes: &[u8]) {
        self.input.as_mut().unwrap().write_all(bytes).unwrap();
    }

    /// The next line of output, which must be a JSON-RPC message.
    pub fn next(&self) -> Value {
        let line = self.lines.recv_timeout(PATIENCE).expect("an answer");
        let message: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert_eq!(message.get("jsonrpc"), Some(&json!("2.0")), "{line}");
        message
    }

    pub fn ask(&mut self, message: &Value) -> Value {
        self.ask_line(&message.to_string())
    }

    pub fn ask_line(&mut self, line: &str) -> Value {
        self.send(line);
        self.next()
    }

    pub fn is_silent(&self) -> bool {
        self.lines.recv_timeout(Duration::from_millis(200)) == Err(RecvTimeoutError::Timeout)
    }

    /// Still there and answering.
    pub fn assert_alive(&mut self) {
        let answer = self.ask(&json!({"jsonrpc": "2.0", "id": "alive", "method": "ping"}));
        assert_eq!(answer, json!({"jsonrpc": "2.0", "id": "alive", "result": {}}));
    }

    #[cfg(unix)]
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status();
        assert!(status.unwrap().success());
    }

    /// Waits for the end; says how long it took.
    pub fn wait(&mut self) -> (ExitStatus, Duration) {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return (status, start.elapsed());
            }
            assert!(start.elapsed() < PATIENCE, "the server does not end");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    pub fn assert_ends_well_within(&mut self, limit: Duration) {
        let (status, took) = self.wait();
        assert_eq!(status.code(), Some(0));
        assert!(took < limit, "took {took:?}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn initialize(id: &str, version: &str) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": "initialize", "params": {
        "protocolVersion": version, "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}})
}

/// A request of the era of 2026-07-28.
pub fn modern(id: &str, method: &str, params: Value) -> Value {
    let mut request = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
    request["params"]["_meta"] = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    request
}

pub fn request(id: &str, method: &str, params: Value) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params})
}

pub fn code(answer: &Value) -> i64 {
    answer.pointer("/error/code").and_then(Value::as_i64).unwrap_or_else(|| panic!("no error: {answer}"))
}

pub fn text(answer: &Value) -> &str {
    answer.pointer("/result/content/0/text").and_then(Value::as_str).unwrap_or_else(|| panic!("no text: {answer}"))
}
