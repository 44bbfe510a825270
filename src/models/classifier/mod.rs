//! A loaded image classifier: preprocessed pixels to a probability of each of its own labels.
//!
//! Source: transformers 5.24, `ResNetForImageClassification`, `ViTForImageClassification`, `ConvNextForImageClassification` and
//! `ConvNextV2ForImageClassification`.

use candle_core::{DType, Tensor};

use super::checkpoint::Checkpoint;
use super::config::{ClassifierConfig, NetworkConfig, is_classifier};
use super::convnext::ConvNext;
use super::dinov2::VisionTransformer;
use super::encoder::MAX_PREPROCESSOR_BYTES;
use super::reader::{self, Reader};
use super::resnet::{Resnet, ResnetConfig};
use super::towers::{are_finite, on_a_worker};
use super::transformer::{Layout, Stages};
use super::verify::softmax;
use super::{Blob, ModelFiles};
use crate::compute::{Backend, Linear, tensor};
use crate::error::{Error, Result};
use crate::pixels::Preprocessor;

/// A loaded image classifier of any supported architecture.
#[derive(Debug)]
pub struct Classifier {
    id: String,
    revision: String,
    backend: Backend,
    preprocessor: Preprocessor,
    labels: Vec<String>,
    network: Network,
    /// `classifier`.
    head: Linear,
}

/// What a picture's features come from.
#[derive(Debug)]
enum Network {
    Resnet(Resnet),
    Vit(VisionTransformer),
    ConvNext(ConvNext),
}

impl Classifier {
    /// Checks every expected tensor by name and shape, then builds the network.
    ///
    /// # Errors
    /// [`Error::Tensors`] lists what is missing or has another shape; [`Error::ModelFile`] for a config of no known classifier, one
    /// without labels, and an image pipeline whose output the network does not take.
    pub fn load(files: &ModelFiles, backend: &Backend) -> Result<Self> {
        let config = ClassifierConfig::read(&files.config, &files.id)?;
        let json = files.preprocessor.read_text(MAX_PREPROCESSOR_BYTES, &files.id)?;
        let preprocessor = Preprocessor::from_json(&json, &files.id)?;
        check_input(&config.network, preprocessor.size()).map_err(|reason| Error::ModelFile {
            model: files.id.clone(),
            file: files.preprocessor.name(),
            reason,
        })?;
        let checkpoint = std::sync::Arc::new(Checkpoint::open(files)?);
        let labels = config.labels.len();
        let (network, head) =
            reader::load(&checkpoint, backend, &files.id, |reader| Network::new(reader, &config.network, labels))?;
        let (id, revision, backend) = (files.id.clone(), files.revision.clone(), backend.clone());
        Ok(Self { id, revision, backend, preprocessor, labels: config.labels, network, head })
    }

    /// Whether a `config.json` is that of a classifier of a kind that is read here. One that cannot be read is not.
    pub fn recognises(config: &Blob) -> bool {
        let json: serde_json::Value =
            config.read().ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        json.get("model_type").and_then(serde_json::Value::as_str).is_some_and(is_classifier)
    }

    /// As in [`ModelFiles::id`].
    pub fn id(&self) -> &str {
        &self.id
    }

    /// As in [`ModelFiles::revision`].
    pub fn revision(&self) -> &str {
        &self.revision
    }

    /// What it runs on.
    pub fn backend(&self) -> &Backend {
        &self.backend
    }

    /// The input pipeline for images.
    pub fn preprocessor(&self) -> &Preprocessor {
        &self.preprocessor
    }

    /// What it tells apart, in the order of its outputs.
    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    /// Probability of each label, together 1. Shapes: each preprocessed image `[3, h, w]` flattened -> each `[labels]`.
    ///
    /// # Errors
    /// An image has another size or numbers that are not finite; a tensor operation failed.
    pub fn probabilities(&self, images: &[Vec<f32>]) -> Result<Vec<Vec<f32>>> {
        let mut probabilities = Vec::with_capacity(images.len());
        for part in images.chunks(self.backend.pictures_at_once().max(1)) {
            let logits = self.logits(part, self.preprocessor.size(), &mut Stages::off())?;
            let rows = logits.to_dtype(DType::F32).and_then(|rows| rows.to_vec2::<f32>());
            probabilities.extend(rows.map_err(Error::tensor("logits"))?.iter().map(|row| softmax(row)));
        }
        Ok(probabilities)
    }

    /// What every stage puts out for one batch, by the reference's names (`embeddings`, `layers.0` or `stages.0` and so on,
    /// `pooled`, `logits`), maps with their channels last; for comparing with a reference. `size` is the images' height and
    /// width, which networks of convolutions may be given as they like.
    ///
    /// # Errors
    /// As [`Classifier::probabilities`].
    pub fn stages(&self, images: &[Vec<f32>], size: (usize, usize)) -> Result<Vec<(String, Tensor)>> {
        let mut stages = Stages::on();
        self.logits(images, size, &mut stages)?;
        Ok(stages.into_vec())
    }

    /// Shapes: each `[3, height, width]` flattened -> `[batch, labels]`.
    fn logits(&self, images: &[Vec<f32>], (height, width): (usize, usize), stages: &mut Stages) -> Result<Tensor> {
        let expected = 3 * height * width;
        for (index, image) in images.iter().enumerate() {
            let refused =
                |reason: String| Error::Argument { name: "pixels", reason: format!("of image {index} {reason}") };
            if image.len() != expected {
                return Err(refused(format!("has {} numbers, the model takes {expected}", image.len())));
            }
            if !are_finite(image) {
                return Err(refused("are not all finite".to_owned()));
            }
        }
        on_a_worker(|| {
            let features = match &self.network {
                Network::Vit(vit) => {
                    let images: Vec<&[f32]> = images.iter().map(Vec::as_slice).collect();
                    vit.forward(&images, &self.backend, stages)?
                }
                Network::Resnet(resnet) => resnet
                    .features(&tensor(images.concat(), &[images.len(), 3, height, width], &self.backend)?, stages)?,
                Network::ConvNext(next) => {
                    next.features(&tensor(images.concat(), &[images.len(), 3, height, width], &self.backend)?, stages)?
                }
            }; // [batch, features]
            let logits = self.head.forward(&features)?; // [batch, labels]
            stages.note(|| "logits".to_owned(), &logits);
            Ok(logits)
        })
    }
}

impl Network {
    /// The network, and the classifier on top of it.
    fn new(reader: &Reader<'_>, config: &NetworkConfig, labels: usize) -> Result<(Self, Linear)> {
        match config {
            NetworkConfig::Resnet(config) => {
                let head = reader.linear("classifier.1", labels, config.outputs())?;
                Ok((Self::Resnet(Resnet::new(&reader.at("resnet"), config)?), head))
            }
            NetworkConfig::Vit(config) => {
                let head = reader.linear("classifier", labels, config.vision.tower.hidden_size)?;
                let vit = VisionTransformer::new(&reader.at("vit"), config, &Layout::vit(config.qkv_bias))?;
                Ok((Self::Vit(vit), head))
            }
            NetworkConfig::ConvNext(config) => {
                let outputs = config.stages.last().map_or(0, |(_, width)| *width);
                let head = reader.linear("classifier", labels, outputs)?;
                let place = if config.response_norm { "convnextv2" } else { "convnext" };
                Ok((Self::ConvNext(ConvNext::new(&reader.at(place), config)?), head))
            }
        }
    }
}

/// Whether a network takes pictures of this height and width.
fn check_input(config: &NetworkConfig, (height, width): (usize, usize)) -> Result<(), String> {
    let least = match config {
        NetworkConfig::Vit(vit) if (height, width) == vit.input => return Ok(()),
        NetworkConfig::Vit(vit) => {
            let (high, wide) = vit.input;
            return Err(format!("makes images of {width} x {height} pixels, the model takes {wide} x {high}"));
        }
        NetworkConfig::Resnet(ResnetConfig { .. }) => 1,
        NetworkConfig::ConvNext(next) => next.patch_size << next.stages.len().saturating_sub(1),
    };
    if height.min(width) < least {
        return Err(format!("makes images of {width} x {height} pixels, of which the last stage sees nothing"));
    }
    Ok(())
}
