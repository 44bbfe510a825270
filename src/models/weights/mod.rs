//! Where a model's files come from: the built-in starter, a folder or a file, the hub's cache, the hub.
//!
//! [`locate`] looks in that order and goes to the network only where [`Source::allow_download`] says so. What it
//! downloads is resumed where it broke off, checked against the hub's hashes, and kept in the cache that Python's
//! `huggingface_hub` uses.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use crate::error::{Error, Result};
use crate::models::{ModelFiles, starter};

mod cache;
mod checksum;
mod detector;
mod disk;
mod download;
mod exchange;
mod folder;
mod hub;
mod layout;
mod name;
mod retry;
mod single;
mod source;
mod transfer;

pub(crate) use checksum::Checksum;
pub use detector::{FetchedDetector, best_detector, detector, fetch_detector};
pub use retry::{Clock, Retry, WallClock};
pub use source::{Source, Token};

use cache::{Found, Shelf};
use layout::{Assembled, Kind};
use name::{HubName, Name};

/// State of a running download, for progress bars and notifications.
#[derive(Debug, Clone)]
pub struct Transfer<'a> {
    /// The file.
    pub file: &'a str,
    /// Bytes of the file that have arrived, resumed ones included.
    pub done: u64,
    /// Bytes of the file in all; 0 where the server does not tell.
    pub total: u64,
    /// Bytes of the whole model that have arrived, as far as they are part of this download.
    pub all_done: u64,
    /// Bytes of the whole model that are part of this download.
    pub all_total: u64,
}

/// A model that was fetched.
#[derive(Debug, Clone)]
pub struct Fetched {
    /// Its files.
    pub files: ModelFiles,
    /// Bytes that came over the network now; 0 when all was here already.
    pub transferred: u64,
}

/// What is on this machine of a model; for lists.
#[derive(Debug, Clone)]
pub enum Presence {
    /// All files are here.
    Here(ModelFiles),
    /// These files are missing, all of them or some.
    Missing(Vec<String>),
}

/// Finds the files of a model, downloading only when `source` allows it.
///
/// # Errors
/// As [`fetch`].
pub fn locate(name: &str, source: &Source, progress: &mut dyn FnMut(Transfer<'_>)) -> Result<ModelFiles> {
    fetch(name, source, progress, &AtomicBool::new(false)).map(|fetched| fetched.files)
}

/// Finds the files of a model and downloads what is missing, when `source` allows it, until `cancel` is set.
///
/// A name is `starter`, a name or alias of the registry, `owner/name[@revision]`, a folder in Hugging Face or
/// `open_clip` layout, or a file of weights. A branch (`main`, where the registry pins no commit) is resolved once; the commit is kept in the cache and used from
/// then on, so a second call makes no request.
///
/// # Errors
/// [`Error::UnknownModel`]; [`Error::Offline`] lists what is missing when downloads are off; [`Error::ModelFile`] for a
/// folder or repository that lacks a file; [`Error::Hub`], [`Error::Checksum`], [`Error::DiskFull`], [`Error::Cancelled`].
pub fn fetch(
    name: &str,
    source: &Source,
    progress: &mut dyn FnMut(Transfer<'_>),
    cancel: &AtomicBool,
) -> Result<Fetched> {
    let here = |files| Ok(Fetched { files, transferred: 0 });
    match name::resolve(name)? {
        Name::Starter => here(starter::starter_files()),
        Name::Folder(path) => here(folder::open(&path)?),
        Name::File(path) => here(single::open(&path)?),
        Name::Hub(name) => fetch_named(&name, source, progress, cancel),
    }
}

/// As [`fetch`], of what is on the hub or in its cache alone: a name that comes from elsewhere reaches no other file of this
/// machine.
///
/// # Errors
/// As [`fetch`].
pub fn fetch_from_hub(
    name: &str,
    source: &Source,
    progress: &mut dyn FnMut(Transfer<'_>),
    cancel: &AtomicBool,
) -> Result<Fetched> {
    fetch_named(&name::resolve_on_hub(name)?, source, progress, cancel)
}

/// Whether a name can be that of a model on the hub.
pub fn is_hub_name(name: &str) -> bool {
    name::resolve_on_hub(name).is_ok()
}

fn fetch_named(
    name: &HubName,
    source: &Source,
    progress: &mut dyn FnMut(Transfer<'_>),
    cancel: &AtomicBool,
) -> Result<Fetched> {
    let (files, transferred) = from_shelf_or_hub(name, Kind::Encoder, source, progress, cancel)?;
    Ok(Fetched { files: files.encoder(), transferred })
}

/// The files of a repository: from the cache, else downloaded when `source` allows it.
fn from_shelf_or_hub(
    name: &HubName,
    kind: Kind,
    source: &Source,
    progress: &mut dyn FnMut(Transfer<'_>),
    cancel: &AtomicBool,
) -> Result<(Assembled, u64)> {
    let shelf = Shelf::new(&source.cache_dir, &name.repository);
    match shelf.find(name, kind)? {
        Found::Whole(files) => Ok((files, 0)),
        Found::Missing(_) if source.may_download() => download::model(name, kind, source, progress, cancel),
        Found::Missing(missing) => {
            // Python keeps what `main` was when it fetched: without a network that commit is better than none, and it
            // is the one that is recorded.
            let latest = HubName { revision: "main".to_owned(), ..name.clone() };
            match if name.pinned { shelf.find(&latest, kind)? } else { Found::Missing(Vec::new()) } {
                Found::Whole(files) => Ok((files, 0)),
                Found::Missing(_) => Err(Error::Offline { model: name.id.clone(), missing }),
            }
        }
    }
}

/// What is on this machine of a model. Never uses the network.
///
/// # Errors
/// [`Error::UnknownModel`], or files that cannot be read.
pub fn presence(name: &str, source: &Source) -> Result<Presence> {
    let off = Source { allow_download: false, ..source.clone() };
    match locate(name, &off, &mut |_| {}) {
        Ok(files) => Ok(Presence::Here(files)),
        Err(Error::Offline { missing, .. }) => Ok(Presence::Missing(missing)),
        Err(error) => Err(error),
    }
}

/// One further file of a model: from its folder or beside it, the cache, or the hub when allowed.
///
/// # Errors
/// As [`fetch`]; [`Error::NotFound`] for a file that a folder does not hold.
pub fn file(name: &str, file: &str, source: &Source, cancel: &AtomicBool) -> Result<PathBuf> {
    checked_file_name(file)?;
    let present = |path: PathBuf| if path.is_file() { Ok(path) } else { Err(Error::NotFound { path }) };
    match name::resolve(name)? {
        Name::Starter => Err(Error::NotFound { path: PathBuf::from("starter").join(file) }),
        Name::Folder(folder) => present(folder.join(file)),
        Name::File(path) => present(path.with_file_name(file)),
        Name::Hub(name) => from_hub(&name, file, u64::MAX, source, cancel).map(|found| found.path),
    }
}

/// A file of a repository on the hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubFile {
    /// The registry's name where it has the repository, else the hub id.
    pub id: String,
    /// `owner/name`.
    pub repository: String,
    /// The commit that it belongs to.
    pub commit: String,
    /// Where it lies in the cache.
    pub path: PathBuf,
}

/// One file of `owner/name` on the hub, such as its card (`README.md`): from the cache, or the hub when allowed. Unlike
/// [`file()`] it never looks at folders of this machine, so a name that comes from elsewhere reaches nothing but the cache.
///
/// # Errors
/// As [`fetch`]; [`Error::ModelFile`] for a file longer than `max_bytes`.
pub fn hub_file(repository: &str, file: &str, max_bytes: u64, source: &Source, cancel: &AtomicBool) -> Result<HubFile> {
    checked_file_name(file)?;
    from_hub(&name::repository(repository)?, file, max_bytes, source, cancel)
}

fn from_hub(name: &HubName, file: &str, max_bytes: u64, source: &Source, cancel: &AtomicBool) -> Result<HubFile> {
    let shelf = Shelf::new(&source.cache_dir, &name.repository);
    let at = |commit: String| HubFile {
        id: name.id.clone(),
        repository: name.repository.clone(),
        path: shelf.snapshot(&commit).join(file),
        commit,
    };
    let known = shelf.commit(&name.revision);
    if let Some(found) = known.clone().map(at).filter(|found| found.path.is_file()) {
        return Ok(found);
    }
    if source.may_download() {
        // A branch that was resolved before keeps its commit: moved on for one more file, it would stand for a commit
        // whose weights are not here, and the model that is here could no longer be found without a network.
        let name = HubName { revision: known.unwrap_or_else(|| name.revision.clone()), ..name.clone() };
        return download::file(&name, file, max_bytes, source, cancel).map(at);
    }
    let latest = if name.pinned { shelf.commit("main").map(at) } else { None };
    let missing = || Error::Offline { model: name.id.clone(), missing: vec![file.to_owned()] };
    latest.filter(|found| found.path.is_file()).ok_or_else(missing)
}

fn checked_file_name(file: &str) -> Result<()> {
    let plain = file.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    if plain && !file.is_empty() && !file.starts_with('.') {
        return Ok(());
    }
    Err(Error::Argument { name: "file", reason: format!("is not a plain file name: `{file}`") })
}
