//! A loaded object detector of any supported architecture. Another architecture is one file beside `yolox`, one variant
//! of [`Network`] and one row of [`ARCHITECTURES`].

use image::RgbImage;

use super::checkpoint::Checkpoint;
use super::yolox::Yolox;
use super::{Blob, coco};
use crate::compute::Backend;
use crate::error::{Error, Result};
use crate::geometry::XyxyPx;

mod settings;

use settings::Settings;

/// The files of a detector. Unlike an image-text encoder it needs its weights only; what `config.json` would say can be
/// read off the tensors.
#[derive(Debug, Clone)]
pub struct DetectorFiles {
    /// Registry name, or the path of the folder or file.
    pub id: String,
    /// Content hash of the config and of samples of the weights.
    pub revision: String,
    /// `config.json`, where there is one.
    pub config: Option<Blob>,
    /// Safetensors or a pickled state dict.
    pub weights: Vec<Blob>,
}

/// Something that was found in a picture.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Detection {
    /// Position in [`Detector::labels`].
    pub class: usize,
    /// The detector's score, 0 to 1; no probability.
    pub score: f32,
    /// In pixels of the picture, inside it.
    pub bounds: XyxyPx,
}

#[derive(Debug)]
enum Network {
    Yolox(Box<Yolox>),
}

/// How an architecture is recognised.
struct Architecture {
    /// `model_type` in `config.json`, and the name in messages.
    name: &'static str,
    /// By its tensors.
    recognises: fn(&Checkpoint) -> bool,
}

const ARCHITECTURES: [Architecture; 1] = [Architecture { name: "yolox", recognises: Yolox::recognises }];

/// A loaded object detector.
#[derive(Debug)]
pub struct Detector {
    id: String,
    revision: String,
    backend: Backend,
    labels: Vec<String>,
    score_threshold: Option<f32>,
    network: Network,
}

impl Detector {
    /// Checks every expected tensor by name and shape, then builds the network.
    ///
    /// # Errors
    /// [`Error::ModelFile`] for a checkpoint of no known architecture, a broken config, and labels that do not fit;
    /// [`Error::Tensors`] lists what is missing or has another shape.
    pub fn load(files: &DetectorFiles, backend: &Backend) -> Result<Self> {
        let settings = Settings::read(files)?;
        let checkpoint = std::sync::Arc::new(Checkpoint::open_weights(&files.id, &files.weights)?);
        let refused = |reason: String| Error::ModelFile {
            model: files.id.clone(),
            file: files.weights.first().map_or_else(String::new, Blob::name),
            reason,
        };
        let known = || ARCHITECTURES.map(|architecture| architecture.name).join(", ");
        let found = match &settings.model_type {
            Some(name) => {
                ARCHITECTURES.iter().find(|architecture| architecture.name == name.as_str()).ok_or_else(|| {
                    refused(format!(
                        "config.json says model_type `{name}`; detectors of these kinds are read: {}",
                        known()
                    ))
                })?
            }
            None => ARCHITECTURES
                .iter()
                .find(|architecture| (architecture.recognises)(&checkpoint))
                .ok_or_else(|| refused(format!("has the tensors of no detector that is read here ({})", known())))?,
        };
        let (network, classes) = match found.name {
            "yolox" => {
                let network = Yolox::load(&checkpoint, &files.id, settings.side, backend)?;
                let classes = network.classes();
                (Network::Yolox(Box::new(network)), classes)
            }
            other => return Err(refused(format!("is of architecture {other}, which cannot be built"))),
        };
        let labels = match settings.labels {
            Some(labels) if labels.len() == classes => labels,
            Some(labels) => {
                return Err(refused(format!("has {classes} classes, its config names {}", labels.len())));
            }
            None if classes == coco::NAMES.len() => coco::NAMES.map(str::to_owned).to_vec(),
            None => {
                return Err(refused(format!(
                    "has {classes} classes and nothing names them: put `id2label` into a config.json beside it"
                )));
            }
        };
        let (id, revision, score_threshold) = (files.id.clone(), files.revision.clone(), settings.score_threshold);
        Ok(Self { id, revision, backend: backend.clone(), labels, score_threshold, network })
    }

    /// As in [`DetectorFiles::id`].
    pub fn id(&self) -> &str {
        &self.id
    }

    /// As in [`DetectorFiles::revision`].
    pub fn revision(&self) -> &str {
        &self.revision
    }

    /// What it runs on.
    pub fn backend(&self) -> &Backend {
        &self.backend
    }

    /// The classes that it knows.
    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    /// The score from which its boxes count in one look at a picture, where its config names one.
    pub fn score_threshold(&self) -> Option<f32> {
        self.score_threshold
    }

    /// The longer side that pictures are scaled to, pixels.
    pub fn input_side(&self) -> u32 {
        match &self.network {
            Network::Yolox(network) => network.side(),
        }
    }

    /// Least side of an object, in pixels of the input, that is found reliably: one cell of the finest map.
    pub fn finest_cell(&self) -> u32 {
        match &self.network {
            Network::Yolox(_) => 8,
        }
    }

    /// The side nearest to `side` that the network can take instead of [`Detector::input_side`].
    pub fn side_near(&self, side: u32) -> u32 {
        match &self.network {
            Network::Yolox(_) => Yolox::side_near(side),
        }
    }

    /// Finds the things in an upright picture, best first, those with at least the score `floor`.
    ///
    /// # Errors
    /// A tensor operation failed.
    pub fn detect(&self, picture: &RgbImage, floor: f32) -> Result<Vec<Detection>> {
        self.detect_at(picture, floor, self.input_side())
    }

    /// As [`Detector::detect`], with the picture scaled to another side: one of [`Detector::side_near`].
    ///
    /// # Errors
    /// A tensor operation failed.
    pub fn detect_at(&self, picture: &RgbImage, floor: f32, side: u32) -> Result<Vec<Detection>> {
        match &self.network {
            Network::Yolox(network) => network.detect(picture, floor, side),
        }
    }

    /// Runs the network on a grey picture, for benchmarks; returns the number of raw predictions.
    ///
    /// # Errors
    /// A tensor operation failed.
    pub fn run_neutral(&self) -> Result<usize> {
        match &self.network {
            Network::Yolox(network) => {
                let side = network.side() as usize;
                network.forward(&vec![114.0; 3 * side * side], side, side).map(|rows| rows.len())
            }
        }
    }
}
