//! The use cases, one file each; synchronous. [`Engine`] owns what they share: the settings, the catalogue, the models.

pub mod classifiers;
pub mod classify;
pub mod compose;
pub mod concepts;
pub mod counting;
mod dense;
pub mod detect;
mod detectors;
pub mod diagnose;
pub mod embedder;
pub mod encoders;
pub mod explain;
#[cfg(test)]
mod fake;
pub mod find;
pub mod heatmap;
pub mod identify;
pub mod ingest;
pub mod inspect;
pub mod looks;
pub mod model_card;
pub mod relate;
pub mod scenes;
pub mod search;
pub mod search_bench;
pub mod sheet;
pub mod sight;
pub mod skill;
pub mod url_image;
pub mod verified;
pub mod verify;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::config::{Config, PrecisionChoice};
use crate::error::{Error, Result};
use crate::index::{Catalogue, SetInfo, SetKey, VectorCache};
pub use crate::knowledge::documents;
use crate::models::Encoder;
use crate::pixels::{self, DecodeLimits, Picture};
use embedder::ImageTextEmbedder as _;

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
/// the first use that needs it. Shared between threads; the catalogue is opened by each use, models are loaded once.
#[derive(Debug)]
pub struct Engine {
    config: Config,
    encoders: encoders::Encoders,
    detectors: detectors::Detectors,
    classifiers: classifiers::Classifiers,
    dense: dense::Network,
    vectors: VectorCache,
}

impl Engine {
    /// Wraps the settings.
    pub fn new(config: Config) -> Self {
        Self {
            config,
            encoders: encoders::Encoders::default(),
            detectors: detectors::Detectors::default(),
            classifiers: classifiers::Classifiers::default(),
            dense: dense::Network::default(),
            vectors: VectorCache::default(),
        }
    }

    /// The settings.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Opens the catalogue of the data folder.
    ///
    /// # Errors
    /// It cannot be made, is broken, or is newer than this program.
    pub fn catalogue(&self) -> Result<Catalogue> {
        Catalogue::open(&self.config.data_dir)
    }

    /// The model that belongs to the index: the one that the caller named, else the one that the index was last built
    /// with, one that reads texts before others, else the default of this device. A search must use the model of the vectors that it searches; their precision
    /// too, unless another one was asked for, so that an index survives a change of what is fastest.
    ///
    /// # Errors
    /// The catalogue cannot be read; the model cannot be loaded.
    pub fn index_encoder(&self, catalogue: &Catalogue, watch: &Watch<'_>) -> Result<Arc<Encoder>> {
        let name = match &self.config.model {
            Some(name) => name.clone(),
            None => match catalogue.sets()?.into_iter().filter(|set| set.vectors > 0).max_by_key(|set| set.reads_texts)
            {
                Some(set) => set.key.model,
                None => self.model_name()?,
            },
        };
        let encoder = self.encoder(&name, watch)?;
        if self.config.precision != PrecisionChoice::Auto {
            return Ok(encoder);
        }
        let key = encoder.set_key();
        let alike =
            |set: &SetInfo| set.vectors > 0 && SetKey { precision: key.precision.clone(), ..set.key.clone() } == key;
        match catalogue.sets()?.into_iter().rev().find(alike) {
            Some(set) => match PrecisionChoice::from_name(&set.key.precision) {
                Some(precision) if set.key.precision != key.precision => self.encoder_in(&name, precision, watch),
                _ => Ok(encoder),
            },
            None => Ok(encoder),
        }
    }

    /// Embeds what is new or changed under a folder.
    ///
    /// # Errors
    /// As [`ingest::ingest`], and the folder may be outside the roots.
    pub fn index_folder(&self, folder: &str, watch: &Watch<'_>) -> Result<(ingest::IngestReport, Arc<Encoder>)> {
        let folder = self.resolve(folder)?;
        if !folder.is_dir() {
            return Err(Error::NotAFolder { path: folder });
        }
        let mut catalogue = self.catalogue()?;
        let encoder = self.index_encoder(&catalogue, watch)?;
        let (limits, enough) = (self.decode_limits(), encoder.preprocessor().enough());
        let decode = move |bytes: &[u8], name: &Path| pixels::decode_enough(bytes, name, &limits, enough);
        let options = ingest::IngestOptions {
            null_texts: encoders::null_texts(&encoder),
            batch: encoder.backend().pictures_at_once(),
            ..ingest::IngestOptions::new(&self.config)
        };
        let report = ingest::ingest(&mut catalogue, encoder.as_ref(), &decode, &folder, &options, watch)?;
        Ok((report, encoder))
    }

    /// Whether an indexed path may be shown: it lies inside the roots.
    pub fn shows(&self, path: &Path) -> bool {
        self.config.roots.iter().any(|root| path.starts_with(root))
    }

    /// Removes a folder or a vector set from the index; returns the number of rows that went.
    ///
    /// # Errors
    /// The catalogue cannot be written.
    pub fn forget(&self, folder: Option<&Path>, set: Option<i64>) -> Result<u64> {
        let mut catalogue = self.catalogue()?;
        let mut removed = 0;
        if let Some(folder) = folder {
            // The folder may be gone: then its absolute path is what the index knows it by.
            let known =
                folder.canonicalize().or_else(|_| std::path::absolute(folder)).map_err(Error::io("find", folder))?;
            removed += catalogue.remove_folder(&known)?;
            // Vectors of pictures that no file shows any more.
            catalogue.prune()?;
        }
        if let Some(set) = set {
            removed += catalogue.remove_set(set)?;
        }
        Ok(removed)
    }

    /// Limits that images are decoded under.
    pub fn decode_limits(&self) -> DecodeLimits {
        DecodeLimits { max_file_bytes: self.config.max_file_bytes, max_pixels: self.config.max_pixels }
    }

    /// Reads an image argument: a path inside the roots, or an https URL when those are allowed. Returns what to call
    /// it, and the picture.
    ///
    /// # Errors
    /// Outside the roots, unreadable, or a URL that is not allowed.
    pub fn read_image(&self, argument: &str) -> Result<(String, Picture)> {
        if url_image::is_url(argument) {
            let bytes = self.fetch_image(argument)?;
            let picture = pixels::decode_bytes(&bytes, Path::new(argument), &self.decode_limits())?;
            return Ok((argument.to_owned(), picture));
        }
        let path = self.resolve(argument)?;
        let picture = pixels::decode_file(&path, &self.decode_limits())?;
        Ok((path.display().to_string(), picture))
    }

    /// Fetches an image from an https URL, when those are allowed.
    fn fetch_image(&self, url: &str) -> Result<Vec<u8>> {
        if !self.config.allow_url || self.config.offline {
            return Err(Error::UrlsAreOff { url: url.to_owned() });
        }
        url_image::fetch(url, url_image::UrlPolicy::default())
    }

    /// Resolves a path given by a caller and refuses it when it lies outside the roots. A relative path is looked for in
    /// the working folder (command line only), then in each root.
    ///
    /// # Errors
    /// No such path, or outside the roots (through `..` or links as well).
    pub fn resolve(&self, path: &str) -> Result<PathBuf> {
        let given = Path::new(path);
        let bases = self.config.working_dir.iter().chain(&self.config.roots);
        let candidates: Vec<PathBuf> =
            if given.is_relative() { bases.map(|base| base.join(given)).collect() } else { vec![given.to_path_buf()] };
        let mut missing = None;
        for candidate in &candidates {
            match candidate.canonicalize() {
                Ok(real) if self.shows(&real) => return Ok(real),
                // Absent paths outside the roots must look like any other path outside the roots, or errors would tell
                // which files exist there.
                Err(error) if self.shows(&lexically(candidate)) => {
                    missing = missing.or_else(|| Some(Error::io("resolve", candidate)(error)));
                }
                Ok(_) | Err(_) => {}
            }
        }
        Err(missing.unwrap_or_else(|| Error::OutsideRoots {
            path: candidates.into_iter().next().unwrap_or_default(),
            roots: self.config.roots.clone(),
        }))
    }

    /// A JPEG of an image whose longer side is at most `max_side` pixels.
    ///
    /// # Errors
    /// The image is outside the roots or cannot be decoded.
    pub fn thumbnail(&self, path: &str, max_side: u32) -> Result<Vec<u8>> {
        pixels::thumbnail_jpeg(&self.read_image(path)?.1.rgb, max_side)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Requested;

    fn engine(root: &Path, working_dir: Option<PathBuf>) -> Engine {
        let config = root.join("config.toml");
        std::fs::write(&config, "").unwrap();
        let requested = Requested {
            roots: vec![root.to_path_buf()],
            working_dir,
            data_dir: Some(root.join("data")),
            config_file: Some(config),
            ..Requested::default()
        };
        Engine::new(Config::resolve(requested).unwrap())
    }

    #[test]
    fn relative_paths_start_at_the_working_folder_and_then_at_the_roots() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        std::fs::create_dir(root.join("sub")).unwrap();
        for name in ["a.png", "sub/a.png", "b.png"] {
            std::fs::write(root.join(name), b"x").unwrap();
        }
        let shell = engine(&root, Some(root.join("sub")));
        assert_eq!(shell.resolve("a.png").unwrap(), root.join("sub/a.png"));
        assert_eq!(shell.resolve("b.png").unwrap(), root.join("b.png"));
        assert_eq!(engine(&root, None).resolve("a.png").unwrap(), root.join("a.png"));
    }

    #[cfg(unix)]
    #[test]
    fn nothing_outside_the_roots_is_reached_and_nothing_is_told_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        std::fs::create_dir(&root).unwrap();
        std::fs::write(dir.path().join("secret.png"), b"x").unwrap();
        std::os::unix::fs::symlink(dir.path().join("secret.png"), root.join("link.png")).unwrap();
        let engine = engine(&root, Some(dir.path().to_path_buf()));
        let absolute = dir.path().join("secret.png").display().to_string();
        for path in [
            "secret.png",
            "../secret.png",
            "link.png",
            "sub/../../secret.png",
            "../absent.png",
            "/etc/passwd",
            &absolute,
        ] {
            let error = engine.resolve(path).unwrap_err();
            assert!(matches!(error, Error::OutsideRoots { .. } | Error::NotFound { .. }), "{path}: {error}");
            if matches!(error, Error::NotFound { .. }) {
                // Only a name that would lie inside a root may be called missing.
                assert!(!path.contains("absent") && !path.starts_with('/'), "{path}: {error}");
            }
        }
        assert!(matches!(engine.resolve("in-the-root.png").unwrap_err(), Error::NotFound { .. }));
    }
}
