//! The use cases, one file each; synchronous. [`Engine`] owns what they share: the settings, the catalogue, the models.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::config::Config;
use crate::error::{Error, Result};

/// How far a long run has come.
#[derive(Debug, Clone, PartialEq)]
pub struct Progress {
    /// What is going on: `fetch`, `load`, `scan`, `embed`.
    pub phase: &'static str,
    /// Units done; they only grow within a phase.
    pub done: u64,
    /// Units in all, once known.
    pub total: Option<u64>,
    /// A short line for people.
    pub message: String,
}

/// The caller's eyes and brake on a long run.
pub struct Watch<'a> {
    /// Called at most some ten times a second.
    pub progress: &'a (dyn Fn(Progress) + Sync),
    /// Set by the caller to stop; checked at least twice a second.
    pub cancel: &'a AtomicBool,
}

impl Watch<'_> {
    /// An [`Error::Cancelled`] once the caller has cancelled; for `?` between steps.
    ///
    /// # Errors
    /// The caller cancelled.
    pub fn check(&self) -> Result<()> {
        if self.cancel.load(Ordering::Relaxed) { Err(Error::Cancelled) } else { Ok(()) }
    }
}

/// The settings, the catalogue and the models behind all use cases. Cheap to create: nothing is opened or loaded before
/// the first use that needs it.
#[derive(Debug)]
pub struct Engine {
    config: Config,
}

impl Engine {
    /// Wraps the settings.
    pub fn new(config: Config) -> Self {
        Self { config }
    }

    /// The settings.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Resolves a path given by a caller and refuses it when it lies outside the roots. Relative paths start at the first root.
    ///
    /// # Errors
    /// No such path, or outside the roots (through `..` or links as well).
    pub fn resolve(&self, path: &str) -> Result<PathBuf> {
        let given = Path::new(path);
        let joined = match self.config.roots.first() {
            Some(root) if given.is_relative() => root.join(given),
            _ => given.to_path_buf(),
        };
        // Absent paths outside the roots must look like any other path outside the roots, or errors would tell which
        // files exist there.
        let resolved = joined.canonicalize().map_err(Error::io("resolve", &joined));
        match resolved {
            Ok(real) if self.config.roots.iter().any(|root| real.starts_with(root)) => Ok(real),
            Err(error) if self.config.roots.iter().any(|root| lexically(&joined).starts_with(root)) => Err(error),
            Ok(_) | Err(_) => Err(Error::OutsideRoots { path: joined, roots: self.config.roots.clone() }),
        }
    }

    /// A JPEG of an image whose longer side is at most `max_side` pixels.
    ///
    /// # Errors
    /// The image is outside the roots or cannot be decoded.
    pub fn thumbnail(&self, _path: &str, _max_side: u32) -> Result<Vec<u8>> {
        unimplemented!()
    }
}

/// Removes `.` and `..` by text alone.
fn lexically(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            std::path::Component::ParentDir => {
                clean.pop();
            }
            std::path::Component::CurDir => {}
            other => clean.push(other),
        }
    }
    clean
}
