//! Image-text encoders: architectures, the registry, weights, the tokenizer.

use std::borrow::Cow;
use std::path::PathBuf;

use crate::compute::Backend;
use crate::error::{Error, Result};
use crate::pixels::Preprocessor;

pub mod registry;
pub mod weights;

/// A file of a model: on disk, or built into the binary.
#[derive(Debug, Clone)]
pub enum Blob {
    /// On disk.
    File(PathBuf),
    /// In the binary.
    Static {
        /// The file's name, for messages.
        name: &'static str,
        /// Its bytes.
        bytes: &'static [u8],
    },
}

impl Blob {
    /// The whole contents.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn read(&self) -> Result<Cow<'static, [u8]>> {
        match self {
            Self::File(path) => Ok(Cow::Owned(std::fs::read(path).map_err(Error::io("read", path))?)),
            Self::Static { bytes, .. } => Ok(Cow::Borrowed(bytes)),
        }
    }
}

/// A model whose files are all at hand, in Hugging Face layout.
#[derive(Debug, Clone)]
pub struct ModelFiles {
    /// Registry name, hub id, folder path or `starter`; what the index records.
    pub id: String,
    /// Hub commit, or for a folder a content hash of its config and the sizes and times of its weights.
    pub revision: String,
    /// `config.json`.
    pub config: Blob,
    /// `preprocessor_config.json`.
    pub preprocessor: Blob,
    /// `tokenizer.json`.
    pub tokenizer: Blob,
    /// `model.safetensors`, or the shards that `model.safetensors.index.json` names.
    pub weights: Vec<Blob>,
}

/// How an image-text score becomes a probability.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Scoring {
    /// CLIP: softmax over the labels of `scale * cosine`.
    Softmax {
        /// `exp(logit_scale)`.
        scale: f32,
    },
    /// SigLIP: `sigmoid(scale * cosine + bias)`, each label alone.
    Sigmoid {
        /// `exp(logit_scale)`.
        scale: f32,
        /// `logit_bias`.
        bias: f32,
    },
}

/// A loaded image-text encoder of any supported architecture.
#[derive(Debug)]
pub struct Encoder {
    _private: (),
}

impl Encoder {
    /// Checks every expected tensor by name and shape, then builds both towers.
    ///
    /// # Errors
    /// [`Error::Tensors`] lists what is missing or has another shape; [`Error::ModelFile`] for a broken or unknown config.
    pub fn load(_files: &ModelFiles, _backend: &Backend) -> Result<Self> {
        unimplemented!()
    }

    /// As in [`ModelFiles::id`].
    pub fn id(&self) -> &str {
        unimplemented!()
    }

    /// As in [`ModelFiles::revision`].
    pub fn revision(&self) -> &str {
        unimplemented!()
    }

    /// What the model runs on.
    pub fn backend(&self) -> &Backend {
        unimplemented!()
    }

    /// Length of the vectors.
    pub fn dim(&self) -> usize {
        unimplemented!()
    }

    /// The input pipeline for images.
    pub fn preprocessor(&self) -> &Preprocessor {
        unimplemented!()
    }

    /// Softmax or sigmoid, with the checkpoint's own scale.
    pub fn scoring(&self) -> Scoring {
        unimplemented!()
    }

    /// Embeds preprocessed images. Shapes: each `[3, h, w]` flattened -> each `[dim]`, unit length.
    ///
    /// # Errors
    /// A tensor operation failed.
    pub fn encode_images(&self, _pixels: &[Vec<f32>]) -> Result<Vec<Vec<f32>>> {
        unimplemented!()
    }

    /// Embeds texts, truncated at the context length as the reference does. Shape: each `[dim]`, unit length.
    ///
    /// # Errors
    /// A text cannot be tokenized, or a tensor operation failed.
    pub fn encode_texts(&self, _texts: &[String]) -> Result<Vec<Vec<f32>>> {
        unimplemented!()
    }

    /// Number of tokens of a text, begin and end tokens included, before truncation; and the context length.
    ///
    /// # Errors
    /// The text cannot be tokenized.
    pub fn token_count(&self, _text: &str) -> Result<(usize, usize)> {
        unimplemented!()
    }
}
