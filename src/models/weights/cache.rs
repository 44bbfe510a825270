//! The hub cache on disk, laid out as Python's `huggingface_hub` lays it out, so that both share one copy.
//!
//! ```text
//! models--owner--name/blobs/<etag>            the contents, named by their hash
//!                     refs/main               the commit that a branch was resolved to
//!                     snapshots/<commit>/<file> -> ../../blobs/<etag>
//! .locks/models--owner--name/<etag>.lock      held while a blob is written, by Python too
//! ```
//!
//! The names of folders, blobs and snapshots are `hf-hub`'s ([`Cache`], [`Repo`]). Its `CacheRepo::get` is not used, since it
//! finds no file by commit, only by branch; nor is `create_ref`, which truncates the file before it writes, so that a
//! reader may find it empty.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hf_hub::{Cache, CacheRepo, Repo, RepoType};

use super::folder;
use super::layout::{Assembled, Kind, Layout};
use super::name::HubName;
use crate::error::{Error, Result};

/// Between two looks at a lock that another process holds.
const LOCK_POLL: Duration = Duration::from_millis(50);

/// What the cache holds of a model.
#[derive(Debug)]
pub(super) enum Found {
    /// Every file.
    Whole(Assembled),
    /// These files, or one of the alternatives that an entry names, are not here.
    Missing(Vec<String>),
}

/// One repository's part of the cache.
#[derive(Debug)]
pub(super) struct Shelf {
    cache_dir: PathBuf,
    folder_name: String,
    paths: CacheRepo,
}

impl Shelf {
    pub(super) fn new(cache_dir: &Path, repository: &str) -> Self {
        let repo = Repo::new(repository.to_owned(), RepoType::Model);
        Self {
            cache_dir: cache_dir.to_path_buf(),
            folder_name: repo.folder_name(),
            paths: Cache::new(cache_dir.to_path_buf()).repo(repo),
        }
    }

    /// Where the files of a commit are.
    pub(super) fn snapshot(&self, commit: &str) -> PathBuf {
        self.paths.pointer_path(commit)
    }

    /// Where the contents with this etag are, or will be.
    pub(super) fn blob(&self, etag: &str) -> PathBuf {
        self.paths.blob_path(etag)
    }

    fn reference(&self, revision: &str) -> PathBuf {
        self.cache_dir.join(&self.folder_name).join("refs").join(revision)
    }

    /// The commit that a revision stands for, as far as this machine knows.
    pub(super) fn commit(&self, revision: &str) -> Option<String> {
        if is_commit(revision) {
            return Some(revision.to_owned());
        }
        let commit = std::fs::read_to_string(self.reference(revision)).ok()?;
        let commit = commit.trim();
        is_commit(commit).then(|| commit.to_owned())
    }

    /// Remembers what a branch or tag was resolved to; a reader sees the old or the new commit, never half of one.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(super) fn record(&self, revision: &str, commit: &str) -> Result<()> {
        if revision == commit || self.commit(revision).as_deref() == Some(commit) {
            return Ok(());
        }
        let path = self.reference(revision);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(Error::io("create", parent))?;
        }
        let fresh = sibling(&path, &format!(".{}.tmp", std::process::id()));
        std::fs::write(&fresh, commit).map_err(Error::io("write", &fresh))?;
        std::fs::rename(&fresh, &path).map_err(Error::io("write", &path))
    }

    /// The model, if all its files are here; else what is missing.
    ///
    /// # Errors
    /// A shard index that cannot be read or is broken.
    pub(super) fn find(&self, name: &HubName, kind: Kind) -> Result<Found> {
        let commit = self.commit(&name.revision);
        let folder = commit.as_deref().map(|commit| self.snapshot(commit));
        let has = |file: &str| folder.as_ref().is_some_and(|folder| folder.join(file).is_file());
        let mut config = || folder.as_ref().and_then(|folder| std::fs::read(folder.join("config.json")).ok());
        let layout = match Layout::choose(kind, &has, &mut config) {
            Ok(layout) => layout,
            Err(missing) => return Ok(Found::Missing(missing)),
        };
        let (Some(folder), Some(commit)) = (&folder, &commit) else { return Ok(Found::Missing(Vec::new())) };
        let shards = folder::shards(&layout, folder, &name.id)?;
        let missing: Vec<String> = shards.iter().filter(|shard| !has(shard)).cloned().collect();
        Ok(match missing.as_slice() {
            [] => Found::Whole(layout.assemble(folder, &shards, &name.id, commit)),
            _ => Found::Missing(missing),
        })
    }

    /// Makes `file` of a snapshot stand for a blob.
    ///
    /// # Errors
    /// The link cannot be made.
    pub(super) fn link(&self, commit: &str, file: &str, etag: &str) -> Result<()> {
        let folder = self.snapshot(commit);
        std::fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
        let pointer = folder.join(file);
        // `is_file` follows links: a dangling one is replaced.
        if pointer.is_file() {
            return Ok(());
        }
        if pointer.symlink_metadata().is_ok() {
            std::fs::remove_file(&pointer).map_err(Error::io("replace", &pointer))?;
        }
        let made = point(&self.blob(etag), Path::new("../../blobs").join(etag).as_path(), &pointer);
        // Another process may have been faster.
        if pointer.is_file() { Ok(()) } else { made.map_err(Error::io("create", &pointer)) }
    }

    /// Waits until no other process writes this blob. While waiting, `report` gets the bytes that are there already.
    ///
    /// # Errors
    /// [`Error::Cancelled`], or the lock file cannot be made.
    pub(super) fn lock(&self, etag: &str, cancel: &AtomicBool, report: &mut dyn FnMut(u64)) -> Result<Lock> {
        let folder = self.cache_dir.join(".locks").join(&self.folder_name);
        std::fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
        let path = folder.join(format!("{etag}.lock"));
        let file =
            File::options().create(true).truncate(false).write(true).open(&path).map_err(Error::io("lock", &path))?;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Lock { _file: file }),
                Err(TryLockError::WouldBlock) => {
                    if cancel.load(Ordering::Relaxed) {
                        return Err(Error::Cancelled);
                    }
                    report(std::fs::metadata(incomplete(&self.blob(etag))).map_or(0, |m| m.len()));
                    std::thread::sleep(LOCK_POLL);
                }
                Err(TryLockError::Error(error)) => {
                    // Some network file systems have no locks. The worst case is then a download that is done twice:
                    // what arrives is checked before it is used.
                    tracing::warn!(path = %path.display(), %error, "cannot lock; going on without");
                    return Ok(Lock { _file: file });
                }
            }
        }
    }
}

/// Held while a blob is written; closing the file releases it.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

/// Where a blob is collected until it is whole.
pub(super) fn incomplete(blob: &Path) -> PathBuf {
    sibling(blob, ".incomplete")
}

/// Whether this is a full commit hash.
pub(super) fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

fn sibling(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// A relative link, so that the cache can be moved. Where links cannot be made (Windows without the privilege, some
/// memory cards) the contents themselves go into the snapshot, as `huggingface_hub` does.
fn point(blob: &Path, relative: &Path, pointer: &Path) -> std::io::Result<()> {
    symlink(relative, pointer)
        .or_else(|_| std::fs::hard_link(blob, pointer))
        .or_else(|_| std::fs::copy(blob, pointer).map(drop))
}

#[cfg(unix)]
fn symlink(target: &Path, link: &Path) -> std::io::Result<()> {
    std::os::unix::fs::symlink(target, link)
}

#[cfg(windows)]
fn symlink(target: &Path, link: &Path) -> std::io::Result<()> {
    std::os::windows::fs::symlink_file(target, link)
}

#[cfg(not(any(unix, windows)))]
fn symlink(_target: &Path, _link: &Path) -> std::io::Result<()> {
    Err(std::io::ErrorKind::Unsupported.into())
}
