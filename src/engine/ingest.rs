//! Embedding a folder: scan, decode on worker threads, encode in batches, store.
//!
//! ```text
//! scan ──► jobs ──► workers: read, hash, decode, prepare ──► this thread: encode a batch ──► one transaction
//! ```
//!
//! Each stage hands over through a bounded queue, so decoding and encoding overlap while a fixed number of pictures is in
//! memory however large the folder is. Nothing is kept outside the database: a run that is killed anywhere loses the
//! running batch, and the next run finds the rest by size and time.

mod session;
#[cfg(test)]
mod tests;
mod workers;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use super::embedder::ImageTextEmbedder;
use super::{Progress, Watch};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::index::{Catalogue, FolderLock, ScanOptions, SetInfo, Triage, VectorCache, calibration, scan};
use crate::pixels::{DecodeLimits, Picture};
use session::Session;
use workers::{Gate, Job, Shared};

/// Decodes a file's bytes; the path is for messages. Called from several threads at once.
pub type Decode<'a> = dyn Fn(&[u8], &Path) -> Result<Picture> + Sync + 'a;

/// How an index run works.
#[derive(Debug, Clone)]
pub struct IngestOptions {
    /// Links are followed only into these.
    pub roots: Vec<PathBuf>,
    /// Threads that decode, at least 1.
    pub threads: usize,
    /// Images encoded together, at most; fewer on a slow machine, where a batch must not take longer than a cancel may.
    pub batch: usize,
    /// What is refused for its size: large files unread.
    pub limits: DecodeLimits,
    /// Names the decoder and its limits: files that another one refused are tried again.
    pub decoder: String,
    /// Neutral texts for calibration.
    pub null_texts: Vec<String>,
    /// Skipped files that the report lists.
    pub skipped_listed: usize,
    /// From so many vectors on they are linked into a graph.
    pub link_from: usize,
}

/// Vectors from which a graph pays: all of so many are compared in some 45 ms on two cores, as long as a text tower takes without
/// a graph's missing some, and a graph costs minutes whenever vectors were removed.
const LINK_FROM: usize = 2_000_000;

impl IngestOptions {
    /// The options that follow from the settings.
    pub fn new(config: &Config) -> Self {
        let version = env!("CARGO_PKG_VERSION");
        Self {
            roots: config.roots.clone(),
            threads: config.threads,
            batch: 16,
            limits: DecodeLimits { max_file_bytes: config.max_file_bytes, max_pixels: config.max_pixels },
            // Large photos that needed too much memory whole are decoded smaller now.
            decoder: format!("{version} reducing {} {}", config.max_file_bytes, config.max_pixels),
            null_texts: calibration::null_texts(),
            skipped_listed: 100,
            link_from: LINK_FROM,
        }
    }
}

/// What an index run did.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct IngestReport {
    /// The folder, resolved.
    pub folder: PathBuf,
    /// Files that can be images, by name or first bytes.
    pub found: u64,
    /// New pictures.
    pub added: u64,
    /// Known paths that hold another picture now.
    pub updated: u64,
    /// New paths of pictures that were known: moved or copied, no embedding needed.
    pub moved: u64,
    /// Files that are as they were (embedded anew when the model changed).
    pub unchanged: u64,
    /// Rows removed since their file is gone and its picture did not turn up elsewhere in this run.
    pub removed: u64,
    /// Files without a vector, of this run and earlier ones.
    pub skipped: u64,
    /// The first of them by path, with the reason.
    pub skipped_files: Vec<(PathBuf, String)>,
    /// Pictures that the model embedded.
    pub embedded: u64,
    /// Wall time.
    pub seconds: f64,
    /// Embedded pictures per second of decoding and encoding.
    pub images_per_second: f64,
    /// The caller cancelled; what was stored until then is kept.
    pub cancelled: bool,
    /// Something that the caller should know although the run went on.
    pub warning: Option<String>,
}

/// Embeds what is new or changed under a folder and forgets what is gone.
///
/// A file that is no readable image becomes a row with its reason. A folder that is suddenly empty is taken for a disk
/// that is not mounted: its rows stay, and the report says so.
///
/// # Errors
/// The folder is missing or unreadable (its rows stay); another process is indexing it; the model or the database fails.
/// A cancelled run is no error but a report.
pub fn ingest(
    catalogue: &mut Catalogue,
    embedder: &dyn ImageTextEmbedder,
    decode: &Decode<'_>,
    folder: &Path,
    options: &IngestOptions,
    watch: &Watch<'_>,
) -> Result<IngestReport> {
    let started = Instant::now();
    let folder = folder.canonicalize().map_err(Error::io("open", folder))?;
    let _lock = FolderLock::take(catalogue.data_dir(), &folder)?;
    let set = catalogue.ensure_set(&embedder.set_key())?;
    let newest = catalogue.newest_file()?;
    let mut meter = Meter::new(watch);
    let mut plan = survey(catalogue, &set, &folder, options, &mut meter)?;
    let mut report = std::mem::take(&mut plan.report);
    if !report.cancelled && !plan.jobs.is_empty() {
        work(catalogue, embedder, decode, &set, options, &mut plan, &mut report, &mut meter)?;
    }
    report.cancelled |= watch.cancel.load(Ordering::Relaxed);
    if !report.cancelled && report.warning.is_none() {
        let gone = catalogue.remove_unmet(&folder, &plan.met, newest, &plan.unread, &plan.arrived)?;
        report.removed = gone.0.saturating_sub(gone.1);
    }
    if report.embedded + report.removed > 0 {
        VectorCache::refresh(catalogue, &set)?;
    }
    // Also when nothing is new: a run that was stopped while it linked goes on here.
    VectorCache::link(catalogue, &set, options.link_from, &mut |done, total| {
        meter.show("link", done as u64, Some(total as u64), || "vectors for faster searches".into());
        !watch.cancel.load(Ordering::Relaxed)
    })?;
    let complete = !report.cancelled && report.warning.is_none();
    report.seconds = started.elapsed().as_secs_f64();
    catalogue.note_run(&folder, report.seconds, report.found, complete)?;
    report.skipped_files.sort();
    report.skipped_files.truncate(options.skipped_listed);
    report.folder = folder;
    Ok(report)
}

/// The null-text vectors of a set; made by the model at the set's first use.
///
/// # Errors
/// The model or the database fails; the caller cancelled.
pub fn null_vectors(
    catalogue: &mut Catalogue,
    embedder: &dyn ImageTextEmbedder,
    set: &SetInfo,
    texts: &[String],
    watch: &Watch<'_>,
) -> Result<Vec<Vec<f32>>> {
    const TEXTS_AT_ONCE: usize = 16;
    let fingerprint = calibration::null_fingerprint(texts);
    if let Some(known) = catalogue.null_vectors(set, &fingerprint)? {
        return Ok(known);
    }
    let mut meter = Meter::new(watch);
    // A slow model takes many seconds: what a stopped run has made is kept under a name of its own.
    let part = |made: usize| format!("{fingerprint}/{made}");
    let mut vectors = Vec::with_capacity(texts.len());
    for made in (TEXTS_AT_ONCE..texts.len()).step_by(TEXTS_AT_ONCE).rev() {
        if let Some(known) = catalogue.null_vectors(set, &part(made))? {
            vectors = known;
            break;
        }
    }
    for some in texts.get(vectors.len()..).unwrap_or_default().chunks(TEXTS_AT_ONCE) {
        watch.check()?;
        vectors.extend(embedder.encode_texts(some)?);
        if vectors.len() < texts.len() {
            catalogue.store_null_vectors(set, &part(vectors.len()), &vectors)?;
        }
        meter.show("calibrate", vectors.len() as u64, Some(texts.len() as u64), || "neutral texts".into());
    }
    let vectors = calibration::distinct_nulls(vectors);
    catalogue.store_null_vectors(set, &fingerprint, &vectors)?;
    Ok(vectors)
}

/// What a scan found out.
struct Plan {
    jobs: Vec<Job>,
    /// File rows that were met.
    met: HashSet<i64>,
    /// Pictures of new paths.
    arrived: HashSet<i64>,
    unread: Vec<PathBuf>,
    report: IngestReport,
}

/// Scans the folder and tells what needs work by size and time alone.
fn survey(
    catalogue: &Catalogue,
    set: &SetInfo,
    folder: &Path,
    options: &IngestOptions,
    meter: &mut Meter<'_>,
) -> Result<Plan> {
    let (mut jobs, mut met, mut report) = (Vec::new(), HashSet::new(), IngestReport::default());
    let scan_options = ScanOptions { roots: &options.roots, cancel: meter.watch.cancel };
    let summary = scan(folder, scan_options, &mut |file| {
        report.found += 1;
        match catalogue.triage(&file.path, file.size, file.mtime_ns, set, &options.decoder)? {
            Triage::New | Triage::Stale => jobs.push(Job::from(file)),
            Triage::Unchanged(row) => {
                report.unchanged += 1;
                met.insert(row);
            }
            Triage::Refused(row, reason) => {
                met.insert(row);
                report.skip(file.path, reason, options.skipped_listed);
            }
        }
        meter.show("scan", report.found, None, || format!("{} images found", report.found));
        Ok(())
    })?;
    for (path, reason) in summary.passed_over {
        report.found += 1;
        report.skip(path, reason, options.skipped_listed);
    }
    for (folder, reason) in summary.unread.iter().cloned() {
        report.found += 1;
        report.skip(folder, reason, options.skipped_listed);
    }
    report.cancelled = summary.cancelled;
    if summary.top_entries == 0 && catalogue.knows_files_under(folder)? {
        report.warning = Some(format!(
            "{} is empty now; what is known of it is kept, since its disk may not be mounted",
            folder.display()
        ));
    } else if !summary.unread.is_empty() {
        tracing::warn!("{} folders under {} cannot be read", summary.unread.len(), folder.display());
    }
    // Neighbours on disk are neighbours in time, and runs are comparable.
    jobs.sort_by(|a, b| a.path.cmp(&b.path));
    let unread = summary.unread.into_iter().map(|(path, _)| path).collect();
    Ok(Plan { jobs, met, arrived: HashSet::new(), unread, report })
}

/// Decodes on workers, encodes and stores here.
#[expect(clippy::too_many_arguments, reason = "the state of one run, used once")]
fn work(
    catalogue: &mut Catalogue,
    embedder: &dyn ImageTextEmbedder,
    decode: &Decode<'_>,
    set: &SetInfo,
    options: &IngestOptions,
    plan: &mut Plan,
    report: &mut IngestReport,
    meter: &mut Meter<'_>,
) -> Result<()> {
    let nulls = match null_vectors(catalogue, embedder, set, &options.null_texts, meter.watch) {
        Err(Error::Cancelled) => return Ok(()),
        nulls => nulls?,
    };
    let jobs = std::mem::take(&mut plan.jobs);
    let total = jobs.len() as u64;
    let threads = options.threads.clamp(1, jobs.len().max(1));
    let mut readers = Vec::with_capacity(threads);
    for _ in 0..threads {
        readers.push(catalogue.reader()?);
    }
    let stop = AtomicBool::new(false);
    let shared = Shared {
        jobs: Mutex::new(jobs.into_iter()),
        taken: Mutex::new(HashSet::new()),
        gate: Gate::default(),
        stop: &stop,
        cancel: meter.watch.cancel,
        embedder,
        decode,
        set,
        options,
        peak: AtomicU64::new(0),
    };
    let started = Instant::now();
    let result = std::thread::scope(|scope| {
        let (sender, receiver) = sync_channel(options.batch.max(1));
        for reader in readers {
            let (sender, shared) = (sender.clone(), &shared);
            scope.spawn(move || shared.run(&reader, &sender));
        }
        drop(sender);
        let mut session = Session::new(catalogue, embedder, set, options, &nulls, plan, report);
        let result = session.run(&receiver, total, meter);
        // Workers that wait to hand something over, or for memory, end now.
        stop.store(true, Ordering::Relaxed);
        drop(receiver);
        result
    });
    let seconds = started.elapsed().as_secs_f64();
    report.images_per_second = if seconds > 0.0 { report.embedded as f64 / seconds } else { 0.0 };
    tracing::debug!("at most {} MiB of pictures in memory at once", shared.peak.load(Ordering::Relaxed) >> 20);
    result
}

impl IngestReport {
    /// Counts a skipped file, and lists it while the list is not much longer than it may get.
    fn skip(&mut self, path: PathBuf, reason: String, listed: usize) {
        self.skipped += 1;
        self.skipped_files.push((path, reason));
        if self.skipped_files.len() > 2 * listed.max(64) {
            self.skipped_files.sort();
            self.skipped_files.truncate(listed);
        }
    }
}

/// Reports progress some ten times a second.
struct Meter<'a> {
    watch: &'a Watch<'a>,
    last: Option<(&'static str, Instant)>,
}

impl<'a> Meter<'a> {
    const PERIOD: Duration = Duration::from_millis(100);

    fn new(watch: &'a Watch<'a>) -> Self {
        Self { watch, last: None }
    }

    fn show(&mut self, phase: &'static str, done: u64, total: Option<u64>, message: impl Fn() -> String) {
        let due = self.last.is_none_or(|(before, at)| before != phase || at.elapsed() >= Self::PERIOD);
        if due || total == Some(done) {
            self.last = Some((phase, Instant::now()));
            (self.watch.progress)(Progress { phase, done, total, message: message() });
        }
    }
}
