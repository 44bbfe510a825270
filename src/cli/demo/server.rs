//! A second process of this program, spoken to as an agent's client does it.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use crate::error::{Error, Result};

/// What a tool answered.
pub(super) struct Told {
    /// Tool and arguments.
    pub(super) call: String,
    /// The text that an agent reads.
    pub(super) answer: String,
    /// The structured content.
    pub(super) found: Value,
    /// The first picture, a JPEG.
    pub(super) picture: Option<Vec<u8>>,
}

impl Told {
    /// Question and answer.
    pub(super) fn transcript(&self) -> String {
        self.with(&self.answer)
    }

    /// Question and the answer up to this character: its first line, or its first item.
    pub(super) fn transcript_until(&self, end: char) -> String {
        self.with(self.answer.split(end).next().unwrap_or_default())
    }

    fn with(&self, answer: &str) -> String {
        let indented = answer.lines().map(|line| format!("   {line}")).collect::<Vec<_>>().join("\n");
        format!("{}\n{indented}\n", self.call)
    }
}

/// A second process of this program, spoken to in JSON-RPC lines.
pub(super) struct Server {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    next_id: u64,
    pub(super) first_answer_ms: f64,
}

impl Server {
    pub(super) fn start(root: &Path) -> Result<Self> {
        let program = std::env::current_exe().map_err(Error::io("find", "clip-aware"))?;
        let started = Instant::now();
        let mut child = Command::new(&program)
            .args(["--model", "starter", "--detector", "starter", "--root"])
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

    /// Calls a tool.
    pub(super) fn tell(&mut self, tool: &str, arguments: &Value) -> Result<Told> {
        let result = self.request("tools/call", &json!({"name": tool, "arguments": arguments}))?;
        let of_type = |kind: &str, field: &str| -> Vec<String> {
            let blocks = result.get("content").and_then(Value::as_array).into_iter().flatten();
            let blocks = blocks.filter(|block| block.get("type").and_then(Value::as_str) == Some(kind));
            blocks.filter_map(|block| block.get(field)?.as_str().map(str::to_owned)).collect()
        };
        let answer = of_type("text", "text").join("\n");
        if result.get("isError").and_then(Value::as_bool) == Some(true) {
            return Err(Error::Server { reason: format!("{tool}: {answer}") });
        }
        let picture = of_type("image", "data").into_iter().next();
        let picture = picture.map(|data| BASE64_STANDARD.decode(data)).transpose();
        Ok(Told {
            call: format!("-> {tool} {arguments}"),
            answer,
            found: result.get("structuredContent").cloned().unwrap_or_default(),
            picture: picture.map_err(|error| Error::Server { reason: format!("{tool}: a broken picture: {error}") })?,
        })
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
    pub(super) fn stop(self) {
        let Self { mut child, stdin, .. } = self;
        drop(stdin);
        if let Err(error) = child.wait() {
            tracing::warn!("the server did not end: {error}");
        }
    }
}
