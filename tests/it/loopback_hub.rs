//! A model hub on the loopback interface: the endpoints, headers and redirects of the real one, and its failures on
//! demand. A second port plays the content network that large files are redirected to.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use sha1::Digest as _;

/// What the repository's branches point to.
pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
/// The one repository, unless another is asked for.
pub const REPOSITORY: &str = "ada/tiny-clip";

/// Something that goes wrong with one answer.
#[derive(Debug, Clone)]
pub enum Fault {
    /// Another status, with headers.
    Status(u16, Vec<(&'static str, String)>),
    /// The connection closes after so many bytes of the body.
    BreakAfter(usize),
    /// Nothing more comes after so many bytes, for this long.
    StallAfter(usize, Duration),
    /// The body comes in pieces of so many bytes, with pauses.
    Slow(usize, Duration),
    /// The first byte of the body is another one.
    WrongByte,
    /// The content length is off by this.
    LengthOff(i64),
    /// The range is ignored: status 200 and the whole body.
    IgnoreRange,
    /// The announced length of the file.
    Announce(u64),
}

/// One request as it arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub method: String,
    pub path: String,
    pub range: Option<String>,
    pub authorization: Option<String>,
    /// It came to the content network.
    pub cdn: bool,
}

#[derive(Default)]
struct State {
    files: BTreeMap<String, Vec<u8>>,
    /// Method, part of the path, fault, how often.
    faults: VecDeque<(&'static str, String, Fault, usize)>,
    seen: Vec<Seen>,
    /// Path before every address.
    prefix: String,
    repository: String,
}

/// A running hub; its threads end with the test process.
#[derive(Clone)]
pub struct LoopbackHub {
    address: SocketAddr,
    cdn: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl LoopbackHub {
    /// A hub whose repository holds these files.
    pub fn start(files: &[(&str, Vec<u8>)]) -> Self {
        let listen = || TcpListener::bind("127.0.0.1:0").expect("a loopback port");
        let (hub, cdn) = (listen(), listen());
        let files = files.iter().map(|(name, bytes)| ((*name).to_owned(), bytes.clone())).collect();
        let this = Self {
            address: hub.local_addr().expect("an address"),
            cdn: cdn.local_addr().expect("an address"),
            state: Arc::new(Mutex::new(State { files, repository: REPOSITORY.to_owned(), ..State::default() })),
        };
        for (listener, is_cdn) in [(hub, false), (cdn, true)] {
            let this = this.clone();
            std::thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    let this = this.clone();
                    // A client that goes away in the middle is part of the tests.
                    std::thread::spawn(move || drop(this.serve(stream, is_cdn)));
                }
            });
        }
        this
    }

    /// Serves below a path, as a mirror may.
    pub fn with_prefix(self, prefix: &str) -> Self {
        prefix.clone_into(&mut self.state().prefix);
        self
    }

    /// Holds this repository instead of [`REPOSITORY`].
    pub fn of(self, repository: &str) -> Self {
        repository.clone_into(&mut self.state().repository);
        self
    }

    /// The address for `HF_ENDPOINT`.
    pub fn endpoint(&self) -> String {
        format!("http://{}{}", self.address, self.state().prefix)
    }

    /// The next `times` requests with this method and this part in their path go wrong.
    pub fn fault(&self, method: &'static str, path: &str, fault: Fault, times: usize) {
        self.state().faults.push_back((method, path.to_owned(), fault, times));
    }

    /// All requests so far, and forgets them.
    pub fn take_seen(&self) -> Vec<Seen> {
        std::mem::take(&mut self.state().seen)
    }

    /// The ranges of the requests for a large file's contents so far, `None` for a request without one.
    pub fn ranges(&self) -> Vec<Option<String>> {
        self.state().seen.iter().filter(|seen| seen.cdn).map(|seen| seen.range.clone()).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no thread panicked")
    }

    fn serve(&self, mut stream: TcpStream, cdn: bool) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let mut words = line.split(' ');
        let (method, path) = (words.next().unwrap_or_default().to_owned(), words.next().unwrap_or_default().to_owned());
        let mut seen = Seen { method, path, range: None, authorization: None, cdn };
        loop {
            let mut header = String::new();
            if reader.read_line(&mut header)? == 0 || header.trim().is_empty() {
                break;
            }
            let (name, value) = header.split_once(':').unwrap_or_default();
            match name.to_ascii_lowercase().as_str() {
                "range" => seen.range = Some(value.trim().to_owned()),
                "authorization" => seen.authorization = Some(value.trim().to_owned()),
                _ => {}
            }
        }
        let (answer, fault) = {
            let mut state = self.state();
            state.seen.push(seen.clone());
            let fault = take_fault(&mut state.faults, &seen);
            (self.answer(&state, &seen, fault.as_ref()), fault)
        };
        let head_only = seen.method == "HEAD";
        answer.send(&mut stream, head_only, fault)?;
        // Closing with unread input would reset the connection before the client has read the answer.
        stream.shutdown(std::net::Shutdown::Write)?;
        stream.set_read_timeout(Some(Duration::from_millis(200)))?;
        let _ = reader.read(&mut [0; 16]);
        Ok(())
    }

    fn answer(&self, state: &State, seen: &Seen, fault: Option<&Fault>) -> Answer {
        if let Some(Fault::Status(status, headers)) = fault {
            return Answer { status: *status, headers: headers.clone(), body: Vec::new() };
        }
        if seen.cdn {
            return contents(state, seen, fault);
        }
        let Some(path) = seen.path.strip_prefix(&state.prefix) else { return refusal(404, "", "outside the mirror") };
        let repository = &state.repository;
        let info = format!("/api/models/{repository}/revision/");
        let small = format!("/api/resolve-cache/models/{repository}/{COMMIT}/");
        if let Some(revision) = path.strip_prefix(&info) {
            let known = [COMMIT, "main", "v1.0", "refs%2Fpr%2F7"].contains(&revision);
            return if known { description(state) } else { refusal(404, "RevisionNotFound", "Invalid rev id") };
        }
        if let Some(file) = path.strip_prefix(&small) {
            let bytes = state.files.get(file).cloned().unwrap_or_default();
            let etag = format!("\"{}\"", git_hash(&bytes));
            return Answer::ok(vec![("ETag", etag), ("X-Repo-Commit", COMMIT.into())], bytes);
        }
        let Some(rest) = path.strip_prefix(&format!("/{repository}/resolve/")) else {
            // The real hub does not tell strangers whether a repository exists.
            return refusal(401, "RepoNotFound", "Invalid username or password.");
        };
        let (_, file) = rest.split_once('/').unwrap_or_default();
        let Some(bytes) = state.files.get(file) else { return refusal(404, "EntryNotFound", "Entry not found") };
        if !is_large(file) {
            let location = format!("{}{small}{file}", state.prefix);
            let headers = vec![("Location", location), ("X-Repo-Commit", COMMIT.into())];
            return Answer { status: 307, headers, body: Vec::new() };
        }
        let size = if let Some(Fault::Announce(size)) = fault { *size } else { bytes.len() as u64 };
        let headers = vec![
            ("Location", format!("http://{}/cdn/{file}?signed=yes", self.cdn)),
            ("X-Repo-Commit", COMMIT.into()),
            ("X-Linked-Etag", format!("\"{}\"", sha256(bytes))),
            ("X-Linked-Size", size.to_string()),
            ("ETag", "\"not-this-one\"".into()),
        ];
        Answer { status: 302, headers, body: Vec::new() }
    }
}

/// The content network: ranges of large files.
fn contents(state: &State, seen: &Seen, fault: Option<&Fault>) -> Answer {
    let file = seen.path.trim_start_matches("/cdn/").split('?').next().unwrap_or_default();
    let bytes = state.files.get(file).cloned().unwrap_or_default();
    let etag = ("ETag", "\"d41d8cd98f00b204e9800998ecf8427e\"".to_owned());
    let range = seen.range.as_deref().filter(|_| !matches!(fault, Some(Fault::IgnoreRange)));
    let Some(from) = range.and_then(|r| r.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok()) else {
        return Answer::ok(vec![etag], bytes);
    };
    if from >= bytes.len() {
        return Answer {
            status: 416,
            headers: vec![("Content-Range", format!("bytes */{}", bytes.len()))],
            body: vec![],
        };
    }
    let range = format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len());
    Answer { status: 206, headers: vec![etag, ("Content-Range", range)], body: bytes[from..].to_vec() }
}

fn take_fault(faults: &mut VecDeque<(&'static str, String, Fault, usize)>, seen: &Seen) -> Option<Fault> {
    let place = faults.iter().position(|(method, path, ..)| seen.method == *method && seen.path.contains(path))?;
    let (_, _, fault, times) = &mut faults[place];
    let fault = fault.clone();
    *times -= 1;
    if *times == 0 {
        faults.remove(place);
    }
    Some(fault)
}

struct Answer {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

impl Answer {
    fn ok(headers: Vec<(&'static str, String)>, body: Vec<u8>) -> Self {
        Self { status: 200, headers, body }
    }

    fn send(mut self, stream: &mut TcpStream, head_only: bool, fault: Option<Fault>) -> std::io::Result<()> {
        let mut length = self.body.len() as i64;
        if let Some(Fault::LengthOff(by)) = fault {
            length += by;
        }
        let mut head =
            format!("HTTP/1.1 {} Loopback\r\nContent-Length: {length}\r\nConnection: close\r\n", self.status);
        for (name, value) in &self.headers {
            write!(head, "{name}: {value}\r\n").expect("a String takes all");
        }
        head.push_str("\r\n");
        stream.write_all(head.as_bytes())?;
        if head_only {
            return Ok(());
        }
        match fault {
            Some(Fault::BreakAfter(bytes)) => stream.write_all(&self.body[..bytes.min(self.body.len())]),
            Some(Fault::StallAfter(bytes, pause)) => {
                stream.write_all(&self.body[..bytes.min(self.body.len())])?;
                stream.flush()?;
                std::thread::sleep(pause);
                Ok(())
            }
            Some(Fault::Slow(bytes, pause)) => {
                for piece in self.body.chunks(bytes) {
                    stream.write_all(piece)?;
                    stream.flush()?;
                    std::thread::sleep(pause);
                }
                Ok(())
            }
            Some(Fault::WrongByte) => {
                if let Some(first) = self.body.first_mut() {
                    *first ^= 0xff;
                }
                stream.write_all(&self.body)
            }
            _ => stream.write_all(&self.body),
        }
    }
}

fn description(state: &State) -> Answer {
    let siblings: Vec<_> = state.files.keys().map(|name| serde_json::json!({"rfilename": name})).collect();
    let json = serde_json::json!({"id": state.repository, "sha": COMMIT, "private": false, "siblings": siblings});
    Answer::ok(vec![("Content-Type", "application/json".into())], json.to_string().into_bytes())
}

fn refusal(status: u16, code: &str, message: &str) -> Answer {
    let headers = vec![("X-Error-Code", code.to_owned()), ("X-Error-Message", message.to_owned())];
    Answer { status, headers, body: message.as_bytes().to_vec() }
}

/// Large files go through git LFS on the hub.
fn is_large(file: &str) -> bool {
    [".safetensors", ".bin"].iter().any(|end| file.ends_with(end))
}

/// Hexadecimal SHA-256.
pub fn sha256(bytes: &[u8]) -> String {
    hex(&sha2::Sha256::digest(bytes))
}

/// Git's object id of a blob.
pub fn git_hash(bytes: &[u8]) -> String {
    hex(&sha1::Sha1::new_with_prefix(format!("blob {}\0", bytes.len())).chain_update(bytes).finalize())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").expect("a String takes all");
        hex
    })
}
