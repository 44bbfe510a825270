//! The worker threads: a file's bytes to the model's input.

use std::collections::HashSet;
use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Condvar, Mutex, PoisonError};

use super::{Decode, IngestOptions};
use crate::engine::embedder::ImageTextEmbedder;
use crate::error::{Error, Result};
use crate::index::{Catalogue, Content, Found, SetInfo};
use crate::pixels::{difference_hash, memory_to_decode};

/// A file to look at.
#[derive(Debug, Clone)]
pub(super) struct Job {
    pub(super) path: PathBuf,
    pub(super) size: u64,
    pub(super) mtime_ns: i64,
    unreadable_format: bool,
}

impl From<Found> for Job {
    fn from(found: Found) -> Self {
        Self {
            path: found.path,
            size: found.size,
            mtime_ns: found.mtime_ns,
            unreadable_format: found.unreadable_format,
        }
    }
}

/// What a worker made of a file.
#[derive(Debug)]
pub(super) enum Outcome {
    /// Ready to be encoded. Shape: `[3, h, w]`, flattened.
    Prepared(Content, Vec<f32>),
    /// Another file with the same bytes has a vector, or another worker has it in hand.
    Copy([u8; 32]),
    /// No image; the hash when it could be read.
    Refused {
        hash: Option<[u8; 32]>,
        reason: String,
        /// The next run tries again even when the file is the same: the reason lies outside it.
        passing: bool,
    },
    /// It vanished after the scan.
    Gone,
    /// The index could not be read: the run ends.
    Failed(Error),
}

/// What the workers share.
pub(super) struct Shared<'a> {
    pub(super) jobs: Mutex<std::vec::IntoIter<Job>>,
    /// Hashes of the pictures that this run decodes.
    pub(super) taken: Mutex<HashSet<[u8; 32]>>,
    pub(super) gate: Gate,
    pub(super) stop: &'a AtomicBool,
    pub(super) cancel: &'a AtomicBool,
    pub(super) embedder: &'a dyn ImageTextEmbedder,
    pub(super) decode: &'a Decode<'a>,
    pub(super) set: &'a SetInfo,
    pub(super) options: &'a IngestOptions,
    /// Most bytes that the gate let through at once.
    pub(super) peak: AtomicU64,
}

/// Lets the encoder go first on a core that both want: its threads wait for each other after every layer, so that one which is
/// held up holds all of them up, while pictures that are ready early help nobody.
#[cfg(target_os = "linux")]
fn give_way() {
    // Elsewhere a priority is the whole process's.
    const NICER: i32 = 10;
    let _ = rustix::process::setpriority_process(None, NICER);
}

#[cfg(not(target_os = "linux"))]
fn give_way() {}

impl Shared<'_> {
    /// One worker: takes jobs until there are none, or the run ends.
    pub(super) fn run(&self, reader: &Catalogue, sender: &SyncSender<(Job, Outcome)>) {
        give_way();
        loop {
            if self.stop.load(Ordering::Relaxed) || self.cancel.load(Ordering::Relaxed) {
                return;
            }
            let Some(job) = self.jobs.lock().unwrap_or_else(PoisonError::into_inner).next() else { return };
            let outcome = self.look_at(&job, reader);
            if sender.send((job, outcome)).is_err() {
                return; // The run has ended.
            }
        }
    }

    fn look_at(&self, job: &Job, reader: &Catalogue) -> Outcome {
        if job.unreadable_format {
            let found = "a format known by its name only".into();
            return refused(None, &Error::UnsupportedImage { path: job.path.clone(), found });
        }
        let bytes = match read(&job.path, self.options.limits.max_file_bytes) {
            Ok(bytes) => bytes,
            Err(Error::NotFound { .. }) => return Outcome::Gone,
            Err(error) => return refused(None, &error),
        };
        let hash = *blake3::hash(&bytes).as_bytes();
        match reader.has_vector(&hash, self.set) {
            Ok(true) => return Outcome::Copy(hash),
            Ok(false) => {}
            Err(error) => return Outcome::Failed(error),
        }
        if !self.taken.lock().unwrap_or_else(PoisonError::into_inner).insert(hash) {
            return Outcome::Copy(hash);
        }
        let needed = memory_to_decode(&bytes, &self.options.limits, self.embedder.enough());
        let pass = self.gate.enter(needed.unwrap_or(UNKNOWN));
        self.peak.fetch_max(pass.in_use, Ordering::Relaxed);
        let prepared = catch_unwind(AssertUnwindSafe(|| {
            let picture = (self.decode)(&bytes, &job.path)?;
            let input = self.embedder.prepare(&picture.rgb, picture.whole);
            let content = Content {
                hash,
                width: picture.whole.width,
                height: picture.whole.height,
                format: picture.format.to_owned(),
                taken_at: picture.taken_at,
                look: difference_hash(&picture.rgb),
            };
            Ok((content, input))
        }));
        drop(pass);
        match prepared {
            Ok(Ok((content, input))) => Outcome::Prepared(content, input),
            Ok(Err(error)) => refused(Some(hash), &error),
            Err(panic) => {
                let reason = format!("the decoder failed: {}", panic_text(panic.as_ref()));
                refused(Some(hash), &Error::Decode { path: job.path.clone(), reason })
            }
        }
    }
}

fn refused(hash: Option<[u8; 32]>, error: &Error) -> Outcome {
    Outcome::Refused { hash, reason: error.to_string(), passing: matches!(error, Error::Io { .. }) }
}

/// A whole file, unless it is empty or larger than allowed; it may have grown since the scan.
fn read(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let file = std::fs::File::open(path).map_err(Error::io("read", path))?;
    let mut bytes = Vec::new();
    let size = file.metadata().map_err(Error::io("read", path))?.len();
    if size <= limit {
        file.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(Error::io("read", path))?;
    }
    let size = size.max(bytes.len() as u64);
    if size > limit {
        let mib = |bytes: u64| format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20));
        return Err(Error::ImageTooLarge { path: path.to_owned(), what: mib(size), limit: mib(limit) });
    }
    if bytes.is_empty() {
        return Err(Error::EmptyFile { path: path.to_owned() });
    }
    Ok(bytes)
}

/// Bytes to decode a phone's photo, where the headers do not tell.
const UNKNOWN: u64 = 48_000_000 * 6;

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no reason given".into())
}

/// Lets pictures be decoded at once as long as they fit into memory together; a huge one goes alone.
#[derive(Debug, Default)]
pub(super) struct Gate {
    in_use: Mutex<u64>,
    freed: Condvar,
}

/// Room for decoding, given back when dropped.
pub(super) struct Pass<'a> {
    gate: &'a Gate,
    bytes: u64,
    in_use: u64,
}

impl Gate {
    /// Bytes in use by decoders together.
    const LIMIT: u64 = 640 << 20;

    pub(super) fn enter(&self, bytes: u64) -> Pass<'_> {
        let in_use = self.in_use.lock().unwrap_or_else(PoisonError::into_inner);
        let full = |used: &mut u64| *used > 0 && used.saturating_add(bytes) > Self::LIMIT;
        let mut in_use = self.freed.wait_while(in_use, full).unwrap_or_else(PoisonError::into_inner);
        *in_use = in_use.saturating_add(bytes);
        Pass { gate: self, bytes, in_use: *in_use }
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        let mut in_use = self.gate.in_use.lock().unwrap_or_else(PoisonError::into_inner);
        *in_use = in_use.saturating_sub(self.bytes);
        self.gate.freed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_huge_picture_goes_alone_and_small_ones_together() {
        let gate = Gate::default();
        let (first, second) = (gate.enter(1 << 20), gate.enter(1 << 20));
        assert_eq!(second.in_use, 2 << 20);
        std::thread::scope(|scope| {
            let huge = scope.spawn(|| gate.enter(u64::MAX).in_use);
            std::thread::sleep(std::time::Duration::from_millis(50));
            assert!(!huge.is_finished());
            drop((first, second));
            assert_eq!(huge.join().unwrap(), u64::MAX);
        });
        assert_eq!(*gate.in_use.lock().unwrap(), 0);
    }
}
