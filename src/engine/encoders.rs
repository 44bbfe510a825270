//! The loaded image-text models: found, loaded on first use, kept.

use std::sync::{Arc, Mutex};

use image::RgbImage;

use super::{Engine, Progress, Watch};
use crate::compute::Backend;
use crate::config::PrecisionChoice;
use crate::error::{Error, Result};
use crate::index::calibration;
use crate::models::baseline::Baseline;
use crate::models::weights::{self, Source};
use crate::models::{Encoder, ModelFiles, registry, starter};

/// Models kept loaded: the one in use, and the one that an older index needs.
const KEPT: usize = 2;

/// Loaded encoders by the name and precision that they were asked for, most recent first.
#[derive(Debug, Default)]
pub(super) struct Encoders(Mutex<Vec<(String, PrecisionChoice, Arc<Encoder>)>>);

impl Engine {
    /// The model that the caller named, else the default of this device: fast on a CPU, balanced on a GPU.
    ///
    /// # Errors
    /// The device is not available.
    pub fn model_name(&self) -> Result<String> {
        match &self.config.model {
            Some(name) => Ok(name.clone()),
            None => Ok(registry::default_for(self.backend()?.device_name()).name.to_owned()),
        }
    }

    /// The device and precision that were asked for, resolved on this machine.
    ///
    /// # Errors
    /// The device is not in this build or not on this machine.
    pub fn backend(&self) -> Result<Backend> {
        Backend::new(self.config.device, self.config.precision)
    }

    /// Where weights may come from. The network is used only for a model that the caller named.
    pub fn weight_source(&self, named: bool) -> Source {
        let mut source = Source::from_env(self.config.offline);
        source.allow_download = named && !self.config.offline;
        source
    }

    /// Loads a model, or returns the loaded one. One caller loads while others wait.
    ///
    /// # Errors
    /// The model is unknown, not on this machine, or its checkpoint is refused.
    pub fn encoder(&self, name: &str, watch: &Watch<'_>) -> Result<Arc<Encoder>> {
        self.encoder_in(name, self.config.precision, watch)
    }

    /// As [`Engine::encoder`], in a precision of its own.
    ///
    /// # Errors
    /// As [`Engine::encoder`]; the device does not compute in the precision.
    pub fn encoder_in(&self, name: &str, precision: PrecisionChoice, watch: &Watch<'_>) -> Result<Arc<Encoder>> {
        let mut kept = self.encoders.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(at) = kept.iter().position(|(known, at, _)| known == name && *at == precision) {
            let found = kept.remove(at);
            let encoder = Arc::clone(&found.2);
            kept.insert(0, found);
            return Ok(encoder);
        }
        let named = [&self.config.model, &self.config.identifier].into_iter().flatten().any(|named| named == name);
        let files = self.model_files(name, named, watch)?;
        watch.check()?;
        (watch.progress)(Progress { phase: "load", done: 0, total: Some(1), message: name.to_owned() });
        let encoder = Arc::new(Encoder::load(&files, &Backend::new(self.config.device, precision)?)?);
        (watch.progress)(Progress { phase: "load", done: 1, total: Some(1), message: name.to_owned() });
        kept.insert(0, (name.to_owned(), precision, Arc::clone(&encoder)));
        kept.truncate(KEPT);
        Ok(encoder)
    }

    /// Finds a model's files; downloads them when `named` says that the caller asked for this model.
    ///
    /// # Errors
    /// As [`weights::fetch`].
    pub fn model_files(&self, name: &str, named: bool, watch: &Watch<'_>) -> Result<ModelFiles> {
        let mut report = report_transfer(watch);
        weights::fetch(name, &self.weight_source(named), &mut report, watch.cancel).map(|fetched| fetched.files)
    }

    /// What `bench encode` measures: our encoder, or candle-transformers' as it comes.
    ///
    /// # Errors
    /// As [`Engine::encoder`].
    pub fn bench_encoder(&self, baseline: bool, watch: &Watch<'_>) -> Result<BenchEncoder> {
        let name = self.model_name()?;
        let encoder = self.encoder(&name, watch)?;
        let baseline = if baseline { Some(Baseline::load(&self.model_files(&name, false, watch)?)?) } else { None };
        Ok(BenchEncoder { encoder, baseline })
    }
}

/// Tells how far a download is.
pub(super) fn report_transfer<'a>(watch: &'a Watch<'_>) -> impl FnMut(weights::Transfer<'_>) + 'a {
    |transfer| {
        (watch.progress)(Progress {
            phase: "fetch",
            done: transfer.all_done,
            total: Some(transfer.all_total).filter(|total| *total > 0),
            message: transfer.file.to_owned(),
        });
    }
}

/// The neutral texts that a model's scores are calibrated against: those of photos, but for the starter its own; none for a
/// model that reads no texts.
pub fn null_texts(encoder: &Encoder) -> Vec<String> {
    match encoder.id() {
        _ if !encoder.reads_texts() => Vec::new(),
        starter::ID => starter::null_texts(),
        _ => calibration::null_texts(),
    }
}

/// Embeds pictures: each through the model's own input pipeline, in batches.
///
/// # Errors
/// A tensor operation failed.
pub fn encode_pictures(encoder: &Encoder, pictures: &[RgbImage]) -> Result<Vec<Vec<f32>>> {
    const BATCH: usize = 16;
    let mut vectors = Vec::with_capacity(pictures.len());
    for batch in pictures.chunks(BATCH) {
        let pixels: Vec<Vec<f32>> = batch.iter().map(|picture| encoder.preprocessor().apply(picture)).collect();
        vectors.extend(encoder.encode_images(&pixels)?);
    }
    Ok(vectors)
}

/// One of the two implementations, behind what a benchmark needs.
#[derive(Debug)]
pub struct BenchEncoder {
    encoder: Arc<Encoder>,
    baseline: Option<Baseline>,
}

impl BenchEncoder {
    /// Model input of a mid-grey picture; speed does not depend on the content.
    pub fn neutral_pixels(&self) -> Vec<f32> {
        let (height, width) = self.encoder.preprocessor().size();
        vec![0.1; 3 * height * width]
    }

    /// Runs the image tower.
    ///
    /// # Errors
    /// A tensor operation failed.
    pub fn encode_images(&self, pixels: &[Vec<f32>]) -> Result<Vec<Vec<f32>>> {
        match &self.baseline {
            Some(baseline) => baseline.encode_images(pixels),
            None => self.encoder.encode_images(pixels),
        }
    }

    /// Runs the text tower.
    ///
    /// # Errors
    /// A tensor operation failed.
    pub fn encode_texts(&self, texts: &[String]) -> Result<Vec<Vec<f32>>> {
        match &self.baseline {
            Some(baseline) => baseline.encode_texts(texts),
            None => self.encoder.encode_texts(texts),
        }
    }

    /// The model's id, marked when it is the baseline.
    pub fn id(&self) -> String {
        let mark = if self.baseline.is_some() { " (candle-transformers)" } else { "" };
        format!("{}{mark}", self.encoder.id())
    }

    /// `f32`, `bf16`, `int8`.
    pub fn precision(&self) -> &'static str {
        self.encoder.backend().precision
    }

    /// What multiplies its matrices.
    pub fn kernel(&self) -> &'static str {
        self.encoder.backend().kernel_name()
    }

    /// `cpu`, `cuda`, `metal`.
    pub fn device(&self) -> &'static str {
        self.encoder.backend().device_name()
    }
}

/// An error for a label list that cannot be used.
pub(super) fn bad_argument<T>(name: &'static str, reason: impl Into<String>) -> Result<T> {
    Err(Error::Argument { name, reason: reason.into() })
}
