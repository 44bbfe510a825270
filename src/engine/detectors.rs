//! The loaded object detector: found, loaded on first use, kept.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use super::{Engine, Progress, Watch};
use crate::error::{Error, Result};
use crate::models::weights;
use crate::models::{Detector, DetectorFiles, registry};

/// The loaded detector, with the name that it was asked for; none before the first use.
#[derive(Debug, Default)]
pub(super) struct Detectors(Mutex<Option<Arc<Detector>>>);

impl Engine {
    /// Where the weights of known detectors are looked for.
    pub fn detector_shelf(&self) -> PathBuf {
        self.config.data_dir.join("detectors")
    }

    /// The files of the detector that the caller named, else of the best known one on this machine.
    ///
    /// # Errors
    /// [`Error::NoDetector`] when none was named and none is there; as [`weights::detector`].
    pub fn detector_files(&self) -> Result<DetectorFiles> {
        let shelf = self.detector_shelf();
        match &self.config.detector {
            Some(name) => weights::detector(name, &shelf),
            None => weights::best_detector(&shelf).ok_or_else(|| Error::NoDetector {
                url: registry::detectors().first().map_or("", |entry| entry.url),
                folder: shelf,
            }),
        }
    }

    /// Loads the detector, or returns the loaded one. One caller loads while others wait.
    ///
    /// # Errors
    /// As [`Engine::detector_files`]; its checkpoint is refused.
    pub fn detector(&self, watch: &Watch<'_>) -> Result<Arc<Detector>> {
        let mut kept = self.detectors.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(detector) = kept.as_ref() {
            return Ok(Arc::clone(detector));
        }
        let files = self.detector_files()?;
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
