//! The loaded object detector: found, loaded on first use, kept.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::encoders::report_transfer;
use super::{Engine, Progress, Watch};
use crate::error::{Error, Result};
use crate::geometry::XyxyPx;
use crate::knowledge::objects;
use crate::models::registry::{self, DetectorWeights};
use crate::models::weights;
use crate::models::{Detector, DetectorFiles};

/// The loaded detectors, none before the first use: the one that was named or is best, and beside it one for any words.
#[derive(Debug, Default)]
pub(super) struct Detectors {
    usual: Mutex<Option<Arc<Detector>>>,
    open: Mutex<Option<Arc<Detector>>>,
}

impl Engine {
    /// Where the weights of known detectors are looked for.
    pub fn detector_shelf(&self) -> PathBuf {
        self.config.data_dir.join("detectors")
    }

    /// The files of the detector that the caller named, else of the best known one; as far as they are on this machine.
    ///
    /// # Errors
    /// [`Error::NoDetector`] when none was named and none is there; as [`weights::detector`].
    pub fn detector_files(&self) -> Result<DetectorFiles> {
        let (shelf, source) = (self.detector_shelf(), self.weight_source(false));
        if let Some(name) = &self.config.detector {
            return weights::detector(name, &shelf, &source);
        }
        weights::best_detector(&shelf, &source, false).ok_or_else(|| Error::NoDetector {
            easiest: registry::easiest_detector(false).name,
            url: registry::detectors()
                .iter()
                .find_map(|entry| match entry.weights {
                    DetectorWeights::File { url, .. } => Some(url),
                    DetectorWeights::Hub { .. } => None,
                })
                .unwrap_or_default(),
            folder: shelf,
        })
    }

    /// The files of a detector that the caller named: found on this machine, else downloaded.
    ///
    /// # Errors
    /// As [`weights::fetch_detector`].
    pub fn fetch_detector(&self, name: &str, watch: &Watch<'_>) -> Result<DetectorFiles> {
        let (shelf, source) = (self.detector_shelf(), self.weight_source(true));
        let mut report = report_transfer(watch);
        weights::fetch_detector(name, &shelf, &source, &mut report, watch.cancel).map(|fetched| fetched.files)
    }

    /// Whether a name is a detector's: one of the registry's, or a folder or a repository on the hub whose config says so;
    /// `download` allows to look there.
    ///
    /// # Errors
    /// The config cannot be had.
    pub fn names_a_detector(&self, name: &str, download: bool, watch: &Watch<'_>) -> Result<bool> {
        let plain = name.split('@').next().unwrap_or(name);
        if registry::find_detector(plain).is_some() {
            return Ok(true);
        }
        if registry::find_repository(plain).is_some() || !plain.contains('/') {
            return Ok(false);
        }
        let config = match weights::file(name, "config.json", &self.weight_source(download), watch.cancel) {
            Ok(path) => std::fs::read(&path).map_err(Error::io("read", &path))?,
            // A name that is no repository's, or not here, is for somebody else to refuse; so is a single file of weights.
            Err(
                Error::NotFound { .. } | Error::NotAFolder { .. } | Error::UnknownModel { .. } | Error::Offline { .. },
            ) => return Ok(false),
            Err(error) => return Err(error),
        };
        let config: serde_json::Value = serde_json::from_slice(&config).unwrap_or_default();
        Ok(config.get("model_type").and_then(serde_json::Value::as_str).is_some_and(Detector::reads))
    }

    /// Loads the detector, or returns the loaded one. One caller loads while others wait.
    ///
    /// # Errors
    /// As [`Engine::detector_files`]; its checkpoint is refused.
    pub fn detector(&self, watch: &Watch<'_>) -> Result<Arc<Detector>> {
        self.loaded(&self.detectors.usual, watch, || match &self.config.detector {
            Some(name) => self.fetch_detector(name, watch),
            None => self.detector_files(),
        })
    }

    /// The detector that answers for these targets: the usual one; where that is of no use because it does not know one of them,
    /// or is not there, and the caller named none, an open-vocabulary one that is on this machine. Such a one comes with
    /// the targets as its labels, each once.
    ///
    /// # Errors
    /// As [`Engine::detector`]; a target that an open-vocabulary detector cannot be asked for.
    pub fn detector_for(&self, targets: &[String], watch: &Watch<'_>) -> Result<Arc<Detector>> {
        let knows = |one: &Detector| targets.iter().all(|target| objects::label_of(target, one.labels()).is_some());
        let detector = self.usual_or_open(targets.is_empty(), knows, watch)?;
        if !detector.is_open_vocabulary() {
            return Ok(detector);
        }
        let mut things: Vec<String> = Vec::new();
        for target in targets {
            let thing = asked(target);
            if thing.is_empty() {
                return Err(Error::Argument { name: "targets", reason: "has an empty one: name a thing".into() });
            }
            if !things.contains(&thing) {
                things.push(thing);
            }
        }
        if things.is_empty() {
            let reason = format!("are needed: {} finds what it is told, and has no list of its own", detector.id());
            return Err(Error::Argument { name: "targets", reason });
        }
        Ok(Arc::new(detector.asked(&things)?))
    }

    /// The detector that finds what is like an example, with that as its only label.
    ///
    /// # Errors
    /// The example cannot be read, or the box is none in it; [`Error::NotByExample`]; the detector cannot be loaded.
    pub fn detector_like(&self, like: &Like, watch: &Watch<'_>) -> Result<Arc<Detector>> {
        // A bad example is said before a model is loaded.
        let (name, picture) = self.read_image(&like.image)?;
        let bounds = like.bounds.map(|bounds| inside(bounds, picture.rgb.dimensions())).transpose()?;
        let open = registry::easiest_detector(true).name;
        let detector = match self.usual_or_open(false, |_| false, watch) {
            Ok(one) if one.is_open_vocabulary() => one,
            Ok(one) => return Err(Error::NotByExample { detector: Some(one.id().to_owned()), open }),
            Err(Error::NoDetector { .. }) => return Err(Error::NotByExample { detector: None, open }),
            Err(error) => return Err(error),
        };
        let file = Path::new(&name).file_name().map_or(name.as_str().into(), |file| file.to_string_lossy());
        let label = format!("like {file}");
        Ok(Arc::new(detector.like(picture.rgb, bounds, label)?))
    }

    /// The usual detector, where it is one for any words, or `knows` what is wanted, or the caller named it; else one for any
    /// words that is on this machine. `needless`: where there is no usual one, none is looked for.
    fn usual_or_open(
        &self,
        needless: bool,
        knows: impl Fn(&Detector) -> bool,
        watch: &Watch<'_>,
    ) -> Result<Arc<Detector>> {
        let usual = self.detector(watch);
        let enough = match &usual {
            Ok(one) => one.is_open_vocabulary() || knows(one),
            Err(Error::NoDetector { .. }) => needless,
            Err(_) => true,
        };
        if enough || self.config.detector.is_some() {
            return usual;
        }
        match weights::best_detector(&self.detector_shelf(), &self.weight_source(false), true) {
            Some(files) => self.loaded(&self.detectors.open, watch, || Ok(files)),
            None => usual,
        }
    }

    /// What a place holds; else what is loaded from the files. One caller loads while others wait.
    fn loaded(
        &self,
        place: &Mutex<Option<Arc<Detector>>>,
        watch: &Watch<'_>,
        files: impl FnOnce() -> Result<DetectorFiles>,
    ) -> Result<Arc<Detector>> {
        let mut kept = place.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(detector) = kept.as_ref() {
            return Ok(Arc::clone(detector));
        }
        let files = files()?;
        watch.check()?;
        let report = |done| {
            (watch.progress)(Progress { phase: "load", done, total: Some(1), message: files.id.clone() });
        };
        report(0);
        let detector = Arc::new(Detector::load(&files, &self.backend()?)?);
        report(1);
        *kept = Some(Arc::clone(&detector));
        Ok(detector)
    }
}

/// A thing to find the like of.
#[derive(Debug, Clone, PartialEq)]
pub struct Like {
    /// Path (or URL) of a picture that shows it.
    pub image: String,
    /// Where in the picture: left, top, right, bottom, pixels; without it the picture is taken to show it alone.
    pub bounds: Option<[f32; 4]>,
}

/// The part of a box that lies in a picture.
fn inside([x0, y0, x1, y1]: [f32; 4], (width, height): (u32, u32)) -> Result<XyxyPx> {
    let bounds = XyxyPx { x0, y0, x1, y1 };
    let part = bounds.is_finite().then(|| bounds.clamped(width as f32, height as f32));
    part.filter(|part| part.width() >= 1.0 && part.height() >= 1.0).ok_or_else(|| Error::Argument {
        name: "like_box",
        reason: format!("must be left, top, right, bottom in pixels of the example, which has {width} x {height}"),
    })
}

/// What an open-vocabulary detector is asked for: the words with single spaces, without an article.
pub(super) fn asked(target: &str) -> String {
    let words = target.split_whitespace().collect::<Vec<_>>();
    let words = match words.as_slice() {
        [first, rest @ ..] if !rest.is_empty() && ["a", "an", "the"].contains(&first.to_lowercase().as_str()) => rest,
        words => words,
    };
    // A sentence of the caller's keeps its article.
    if words.starts_with(&["photo", "of"]) { target.trim().to_owned() } else { words.join(" ") }
}

/// The label that a target means: by its synonyms, or, of a detector that was asked for things in words, the very words.
pub(super) fn class_of(detector: &Detector, target: &str) -> Option<usize> {
    if detector.is_open_vocabulary() {
        let thing = asked(target);
        return detector.labels().iter().position(|label| *label == thing);
    }
    objects::label_of(target, detector.labels())
}
