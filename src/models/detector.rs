//! A loaded object detector of any supported architecture. Another architecture is one file or folder beside `yolox`, which
//! implements [`Network`], and one row of [`ARCHITECTURES`].

use std::sync::Arc;

use image::RgbImage;

use super::checkpoint::Checkpoint;
use super::detr::Detr;
use super::faster_rcnn::FasterRcnn;
use super::owl::Owl;
use super::rtdetr::RtDetr;
use super::yolox::Yolox;
use super::{Blob, coco};
use crate::compute::Backend;
use crate::error::{Error, Result};
use crate::geometry::XyxyPx;

#[cfg(test)]
pub(super) mod fixtures;
mod network;
mod settings;

use network::Architecture;
pub use network::{Counting, Geometry, Stage};
pub(super) use network::{Network, OpenVocabulary, Parts};
pub(super) use settings::Settings;

/// The files of a detector. Unlike an image-text encoder it may need its weights only, where what `config.json` would say
/// can be read off the tensors.
#[derive(Debug, Clone)]
pub struct DetectorFiles {
    /// Registry name, or the path of the folder or file.
    pub id: String,
    /// Content hash of the config and of samples of the weights.
    pub revision: String,
    /// `config.json`, where there is one.
    pub config: Option<Blob>,
    /// `preprocessor_config.json`, where there is one.
    pub preprocessor: Option<Blob>,
    /// `tokenizer.json`, or `vocab.json` with a `merges.txt` beside it, where there is one: of a detector that reads words.
    pub tokenizer: Option<Blob>,
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

const ARCHITECTURES: [Architecture; 7] = [
    Architecture { name: "yolox", recognises: Yolox::recognises, load: Yolox::load_network },
    Architecture { name: "detr", recognises: Detr::recognises, load: Detr::load },
    Architecture { name: "owlv2", recognises: Owl::recognises_v2, load: Owl::load },
    Architecture { name: "owlvit", recognises: Owl::recognises_vit, load: Owl::load },
    Architecture { name: "rt_detr", recognises: RtDetr::recognises, load: RtDetr::load },
    Architecture { name: "rt_detr_v2", recognises: RtDetr::recognises, load: RtDetr::load },
    Architecture { name: "faster_rcnn", recognises: FasterRcnn::recognises, load: FasterRcnn::load },
];

/// A label of an output that means nothing: COCO numbers its 80 classes with gaps.
const NO_LABEL: &str = "N/A";
/// What torchvision calls the class of everything else, which is never answered.
const BACKGROUND: &str = "__background__";

/// A loaded object detector.
#[derive(Debug)]
pub struct Detector {
    id: String,
    revision: String,
    backend: Backend,
    labels: Vec<String>,
    /// Of the config, instead of the network's way of counting.
    score_threshold: Option<f32>,
    /// For each class of the network, its place in the labels.
    places: Vec<Option<usize>>,
    network: Arc<dyn Network>,
}

impl Detector {
    /// Checks every expected tensor by name and shape, then builds the network.
    ///
    /// # Errors
    /// [`Error::ModelFile`] for a checkpoint of no known architecture, a broken config, and labels that do not fit;
    /// [`Error::Tensors`] lists what is missing or has another shape.
    pub fn load(files: &DetectorFiles, backend: &Backend) -> Result<Self> {
        let settings = Settings::read(files)?;
        let checkpoint = Arc::new(Checkpoint::open_weights(&files.id, &files.weights)?);
        let refused = |reason: String| Error::ModelFile {
            model: files.id.clone(),
            file: files.weights.first().map_or_else(String::new, Blob::name),
            reason,
        };
        let known = || ARCHITECTURES.each_ref().map(|architecture| architecture.name).join(", ");
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
        let network = (found.load)(&Parts { files, checkpoint: &checkpoint, settings: &settings, backend })?;
        let named = if network.open_vocabulary().is_some() {
            Ok(Vec::new())
        } else {
            names(settings.labels, network.classes())
        };
        let names = named.map_err(refused)?;
        let (mut labels, mut places) = (Vec::new(), Vec::with_capacity(names.len()));
        for name in names {
            let means = name != NO_LABEL && name != BACKGROUND;
            places.push(means.then_some(labels.len()));
            labels.extend(Some(name).filter(|_| means));
        }
        let (id, revision, score_threshold) = (files.id.clone(), files.revision.clone(), settings.score_threshold);
        Ok(Self { id, revision, backend: backend.clone(), labels, score_threshold, places, network: network.into() })
    }

    /// Whether it finds what it is told in words, or shown: [`Detector::asked`], [`Detector::like`]. Its own list of labels is
    /// empty.
    pub fn is_open_vocabulary(&self) -> bool {
        self.network.open_vocabulary().is_some()
    }

    /// The same detector with these things as its labels; weights, and what it knows of pictures, are shared.
    ///
    /// # Errors
    /// Its classes are fixed; a thing is too long for its text tower; a tensor operation failed.
    pub fn asked(&self, things: &[String]) -> Result<Self> {
        let refused = || Error::Argument { name: "targets", reason: format!("are fixed for {}", self.id) };
        let network = self.network.open_vocabulary().ok_or_else(refused)?.asked(things)?;
        let mut hash = blake3::Hasher::new();
        for thing in things {
            hash.update(&(thing.len() as u64).to_le_bytes());
            hash.update(thing.as_bytes());
        }
        Ok(self.put(network, things.to_vec(), "asked-1", &hash))
    }

    /// The same detector with one label: things like the one in an upright picture, or in a part of it, pixels.
    ///
    /// # Errors
    /// Its classes are fixed.
    pub fn like(&self, picture: RgbImage, bounds: Option<XyxyPx>, label: String) -> Result<Self> {
        let refused = || Error::Argument { name: "like", reason: format!("cannot be shown to {}", self.id) };
        let network = self.network.open_vocabulary().ok_or_else(refused)?;
        let mut hash = blake3::Hasher::new();
        hash.update(&picture.width().to_le_bytes());
        hash.update(picture.as_raw());
        for edge in bounds.iter().flat_map(|bounds| bounds.to_array()) {
            hash.update(&edge.to_le_bytes());
        }
        Ok(self.put(network.like(picture, bounds), vec![label], "like-1", &hash))
    }

    /// The detector with a question; what is asked for is part of its revision.
    fn put(&self, network: Arc<dyn Network>, labels: Vec<String>, kind: &str, hash: &blake3::Hasher) -> Self {
        let asked: String = hash.finalize().to_hex().chars().take(16).collect();
        Self {
            id: self.id.clone(),
            revision: format!("{} {kind} {asked}", self.revision),
            backend: self.backend.clone(),
            score_threshold: self.score_threshold,
            places: (0..labels.len()).map(Some).collect(),
            labels,
            network,
        }
    }

    /// Does what is needed once before pictures are looked at by several threads.
    ///
    /// # Errors
    /// A tensor operation failed.
    pub fn ready(&self) -> Result<()> {
        self.network.ready()
    }

    /// Whether a `config.json` with this `model_type` is a detector's.
    pub fn reads(model_type: &str) -> bool {
        ARCHITECTURES.iter().any(|architecture| architecture.name == model_type)
    }

    /// As in [`DetectorFiles::id`].
    pub fn id(&self) -> &str {
        &self.id
    }

    /// As in [`DetectorFiles::revision`]; with what was asked for, where that is part of what it answers.
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

    /// How it takes pictures.
    pub fn geometry(&self) -> Geometry {
        self.network.geometry()
    }

    /// Pixels of the input per pixel of a picture of this size.
    pub fn scale(&self, width: u32, height: u32) -> f32 {
        self.network.scale(width, height)
    }

    /// What its scores mean for counts.
    pub fn counting(&self) -> Counting {
        self.score_threshold.map_or_else(|| self.network.counting(), Counting::Threshold)
    }

    /// Finds the things in an upright picture, best first, those with at least the score `floor`.
    ///
    /// # Errors
    /// A tensor operation failed.
    pub fn detect(&self, picture: &RgbImage, floor: f32) -> Result<Vec<Detection>> {
        self.detect_at(picture, floor, self.geometry().input_side)
    }

    /// As [`Detector::detect`], with the picture scaled to another side: [`Geometry::second_side`].
    ///
    /// # Errors
    /// A tensor operation failed.
    pub fn detect_at(&self, picture: &RgbImage, floor: f32, side: u32) -> Result<Vec<Detection>> {
        let found = self.network.detect(picture, floor, side)?.into_iter();
        // A class without a name is nothing that a caller could have asked for.
        let named = found.filter_map(|one| {
            let class = self.places.get(one.class).copied().flatten()?;
            Some(Detection { class, ..one })
        });
        Ok(named.collect())
    }

    /// The outputs that published tests speak of; none for most architectures.
    ///
    /// # Errors
    /// A tensor operation failed.
    pub fn stages(&self, picture: &RgbImage) -> Result<Vec<Stage>> {
        self.network.stages(picture)
    }

    /// Runs the network on a grey picture, for benchmarks; returns the number of raw predictions.
    ///
    /// # Errors
    /// A tensor operation failed.
    pub fn run_neutral(&self) -> Result<usize> {
        self.network.run_neutral()
    }
}

/// The name of each class: the config's, else COCO's where their number fits.
fn names(given: Option<Vec<String>>, classes: usize) -> std::result::Result<Vec<String>, String> {
    match given {
        Some(names) if names.len() == classes => Ok(names),
        Some(names) => Err(format!("has {classes} classes, its config names {}", names.len())),
        None if classes == coco::NAMES.len() => Ok(coco::NAMES.map(str::to_owned).to_vec()),
        None if classes == coco::CATEGORIES => {
            Ok((0..classes).map(|number| coco::category(number).unwrap_or(NO_LABEL).to_owned()).collect())
        }
        None => {
            Err(format!("has {classes} classes and nothing names them: put `id2label` into a config.json beside it"))
        }
    }
}
