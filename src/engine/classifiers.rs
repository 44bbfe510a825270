//! The loaded image classifier: found, loaded on first use, kept.

use std::sync::{Arc, Mutex, PoisonError};

use super::encoders::report_transfer;
use super::{Engine, Progress, Watch};
use crate::error::{Error, Result};
use crate::models::{Classifier, ModelFiles, registry, weights};

/// The loaded classifier with the name that it was asked for, none before the first use.
#[derive(Debug, Default)]
pub(super) struct Classifiers(Mutex<Option<(String, Arc<Classifier>)>>);

/// Who names a classifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NamedBy {
    /// The user: a folder may lie anywhere, and what is missing is downloaded.
    User,
    /// An agent: a folder lies inside the roots, and nothing is downloaded.
    Agent,
}

impl Engine {
    /// Loads a classifier, or returns the loaded one. One caller loads while others wait.
    ///
    /// # Errors
    /// [`Error::ClassifierAbsent`]; as [`weights::fetch`]; its checkpoint is refused.
    pub fn classifier(&self, name: &str, by: NamedBy, watch: &Watch<'_>) -> Result<Arc<Classifier>> {
        let mut kept = self.classifiers.0.lock().unwrap_or_else(PoisonError::into_inner);
        // What an agent may name has to be looked at each time.
        let files = self.classifier_files(name, by, watch)?;
        if let Some((_, classifier)) = kept.as_ref().filter(|(key, _)| *key == key_of(&files)) {
            return Ok(Arc::clone(classifier));
        }
        watch.check()?;
        let report = |done| {
            (watch.progress)(Progress { phase: "load", done, total: Some(1), message: files.id.clone() });
        };
        report(0);
        let classifier = Arc::new(Classifier::load(&files, &self.backend()?)?);
        report(1);
        *kept = Some((key_of(&files), Arc::clone(&classifier)));
        Ok(classifier)
    }

    fn classifier_files(&self, name: &str, by: NamedBy, watch: &Watch<'_>) -> Result<ModelFiles> {
        let mut report = report_transfer(watch);
        let source = self.weight_source(by == NamedBy::User);
        let found = match by {
            NamedBy::User => weights::fetch(name, &source, &mut report, watch.cancel),
            NamedBy::Agent if is_known(name) || (weights::is_hub_name(name) && !self.is_folder(name)) => {
                weights::fetch_from_hub(name, &source, &mut report, watch.cancel)
            }
            NamedBy::Agent => {
                let folder = self.resolve(name)?.display().to_string();
                weights::fetch(&folder, &source, &mut report, watch.cancel)
            }
        };
        match found {
            Ok(fetched) => Ok(fetched.files),
            Err(Error::Offline { model, .. }) => Err(Error::ClassifierAbsent { name: model }),
            // The nearest names of encoders would lead nowhere.
            Err(Error::UnknownModel { name, .. }) => {
                let known = registry::classifiers().iter().map(|entry| entry.name.to_owned()).collect();
                Err(Error::UnknownModel { name, known })
            }
            Err(error) => Err(error),
        }
    }

    /// Whether a name is that of a folder inside the roots.
    fn is_folder(&self, name: &str) -> bool {
        self.resolve(name).is_ok_and(|path| path.is_dir())
    }
}

/// Whether it is a registry's own name, which means no folder.
fn is_known(name: &str) -> bool {
    registry::find_repository(name).is_some_and(|known| known.name.eq_ignore_ascii_case(name))
}

fn key_of(files: &ModelFiles) -> String {
    format!("{}@{}", files.id, files.revision)
}
