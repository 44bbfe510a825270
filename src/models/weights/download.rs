//! Downloading a model into the cache: which files, in which order, with room for all of them.

use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use super::cache::{Found, Shelf, incomplete, is_commit};
use super::hub::{Hub, Metadata};
use super::layout::{self, Assembled, Kind, Layout};
use super::name::HubName;
use super::source::Source;
use super::transfer::{self, Origin};
use super::{Transfer, disk, folder};
use crate::error::{Error, Result};

/// Between two calls of the progress callback for one file; its first and last state are always told.
const REPORT_EVERY: Duration = Duration::from_millis(100);

/// Downloads what the cache lacks of a model; returns its files and the bytes that came over the network.
///
/// # Errors
/// As [`super::fetch`].
pub(super) fn model(
    name: &HubName,
    kind: Kind,
    source: &Source,
    progress: &mut dyn FnMut(Transfer<'_>),
    cancel: &AtomicBool,
) -> Result<(Assembled, u64)> {
    let mut session = Session::begin(name, source, progress, cancel)?;
    let files = std::mem::take(&mut session.listing);
    let has = |file: &str| files.iter().any(|listed| listed == file);
    // Only a repository without a tokenizer is asked for its config before all else.
    let mut refused = None;
    let mut config = || match session.get(&["config.json"]) {
        Ok(()) => std::fs::read(session.shelf.snapshot(&session.commit).join("config.json")).ok(),
        Err(error) => {
            refused = Some(error);
            None
        }
    };
    let layout = Layout::choose(kind, &has, &mut config);
    if let Some(error) = refused {
        return Err(error);
    }
    let layout = layout.map_err(|missing| {
        let instead = layout::instead(&has).map(|what| format!("; {what}")).unwrap_or_default();
        let reason = format!("not in the repository{instead}");
        Error::ModelFile { model: name.repository.clone(), file: missing.join(", "), reason }
    })?;
    session.get(&layout.files())?;
    let snapshot = session.shelf.snapshot(&session.commit);
    let shards = folder::shards(&layout, &snapshot, &name.repository)?;
    session.get(&shards.iter().map(String::as_str).collect::<Vec<_>>())?;
    // Last, so that a branch never stands for a commit of which this machine holds no whole model.
    session.shelf.record(&name.revision, &session.commit)?;
    match session.shelf.find(&HubName { revision: session.commit.clone(), ..name.clone() }, kind)? {
        Found::Whole(files) => Ok((files, session.transferred)),
        Found::Missing(missing) => Err(Error::ModelFile {
            model: name.repository.clone(),
            file: missing.join(", "),
            reason: "was downloaded, but another program has removed it from the cache".into(),
        }),
    }
}

/// Downloads one file of at most `max_bytes`; returns the commit whose snapshot now holds it.
///
/// # Errors
/// As [`super::hub_file`].
pub(super) fn file(name: &HubName, file: &str, max_bytes: u64, source: &Source, cancel: &AtomicBool) -> Result<String> {
    let quiet: &mut dyn FnMut(Transfer<'_>) = &mut |_| {};
    let mut session = Session::begin(name, source, quiet, cancel)?;
    session.max_bytes = max_bytes;
    session.get(&[file])?;
    session.shelf.record(&name.revision, &session.commit)?;
    Ok(session.commit)
}

/// One download from one repository at one commit.
struct Session<'a> {
    name: &'a HubName,
    hub: Hub<'a>,
    shelf: Shelf,
    commit: String,
    /// The files of the repository.
    listing: Vec<String>,
    /// Longest file that is taken.
    max_bytes: u64,
    progress: &'a mut dyn FnMut(Transfer<'_>),
    all_done: u64,
    all_total: u64,
    transferred: u64,
}

impl<'a> Session<'a> {
    fn begin(
        name: &'a HubName,
        source: &'a Source,
        progress: &'a mut dyn FnMut(Transfer<'_>),
        cancel: &'a AtomicBool,
    ) -> Result<Self> {
        let hub = Hub::new(source, cancel)?;
        let info = hub.info(&name.repository, &name.revision)?;
        if !is_commit(&info.sha) || (is_commit(&name.revision) && info.sha != name.revision) {
            return Err(Error::Hub {
                what: format!("{}@{}", name.repository, name.revision),
                endpoint: source.endpoint.clone(),
                reason: format!("the answer is about another commit (`{:.40}`)", info.sha),
                status: None,
            });
        }
        Ok(Self {
            name,
            hub,
            shelf: Shelf::new(&source.cache_dir, &name.repository),
            commit: info.sha,
            listing: info.siblings.into_iter().map(|sibling| sibling.rfilename).collect(),
            max_bytes: u64::MAX,
            progress,
            all_done: 0,
            all_total: 0,
            transferred: 0,
        })
    }

    /// Gets the files that the snapshot lacks, after making sure that all of them fit on the disk.
    fn get(&mut self, files: &[&str]) -> Result<()> {
        let snapshot = self.shelf.snapshot(&self.commit);
        let mut wanted = Vec::new();
        for file in files.iter().filter(|file| !snapshot.join(file).is_file()) {
            let metadata = self.hub.metadata(&self.name.repository, &self.commit, file)?;
            wanted.push((*file, metadata));
        }
        let Some((largest, _)) = wanted.iter().max_by_key(|(_, metadata)| metadata.size) else { return Ok(()) };
        let blobs = self.shelf.blob("");
        std::fs::create_dir_all(&blobs).map_err(Error::io("create", &blobs))?;
        let missing = wanted.iter().map(|(_, metadata)| self.still_missing(metadata)).sum();
        disk::check(&format!("{} ({largest} and others)", self.name.repository), &blobs, missing)?;
        self.all_total += wanted.iter().map(|(_, metadata)| metadata.size.unwrap_or(0)).sum::<u64>();
        for (file, metadata) in &wanted {
            self.get_one(file, metadata)?;
        }
        Ok(())
    }

    /// Bytes of a blob that must still come.
    fn still_missing(&self, metadata: &Metadata) -> u64 {
        let blob = self.shelf.blob(&metadata.etag);
        if blob.is_file() {
            return 0;
        }
        let here = std::fs::metadata(incomplete(&blob)).map_or(0, |m| m.len());
        metadata.size.unwrap_or(0).saturating_sub(here)
    }

    fn get_one(&mut self, file: &str, metadata: &Metadata) -> Result<()> {
        let blob = self.shelf.blob(&metadata.etag);
        let total = metadata.size.unwrap_or(0);
        let (all_done, all_total) = (self.all_done, self.all_total);
        let mut last: Option<Instant> = None;
        let progress = &mut *self.progress;
        let mut report = |done: u64| {
            let now = Instant::now();
            if done == total || last.is_none_or(|last| now.duration_since(last) >= REPORT_EVERY) {
                last = Some(now);
                progress(Transfer { file, done, total, all_done: all_done + done, all_total });
            }
        };
        if !blob.is_file() {
            let _lock = self.shelf.lock(&metadata.etag, self.hub.cancel(), &mut report)?;
            // Another process may have written it while this one waited.
            if !blob.is_file() {
                let (repository, commit) = (&self.name.repository, &self.commit);
                let origin = Origin { repository, commit, file, max_bytes: self.max_bytes };
                self.transferred += transfer::fetch(&self.hub, origin, metadata, &blob, &mut report)?;
            }
        }
        report(total);
        self.all_done += total;
        self.shelf.link(&self.commit, file, &metadata.etag)
    }
}
