//! The two towers of any supported architecture with their tokenizer: preprocessed pixels and texts to unit vectors.

use candle_core::{DType, Tensor};
use rayon::prelude::*;

use super::checkpoint::Checkpoint;
use super::clip::ClipModel;
use super::config::{ModelConfig, Pooling, TextConfig, VisionConfig};
use super::reader;
use super::siglip::SiglipModel;
use super::tokenizer::{Dialect, OPENAI_TOKENS, Tokenizer, Tokens, is_openai};
use super::transformer::Stages;
use super::{Blob, ModelFiles};
use crate::compute::Backend;
use crate::error::{Error, Result};

/// How an image-text score becomes a probability.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Scoring {
    /// CLIP: softmax over the labels of `scale * cosine`.
    Softmax {
        /// `exp(logit_scale)`.
        scale: f32,
    },
    /// `SigLIP`: `sigmoid(scale * cosine + bias)`, each label alone.
    Sigmoid {
        /// `exp(logit_scale)`.
        scale: f32,
        /// `logit_bias`.
        bias: f32,
    },
}

/// A loaded model without its image pipeline.
#[derive(Debug)]
pub struct Towers {
    architecture: Architecture,
    tokenizer: Tokenizer,
    backend: Backend,
    model: String,
    dim: usize,
    vision: VisionConfig,
    text: TextConfig,
}

#[derive(Debug)]
enum Architecture {
    Clip(Box<ClipModel>),
    Siglip(Box<SiglipModel>),
}

impl Towers {
    /// Checks every expected tensor by name and shape; each tower is built when it is first used.
    ///
    /// # Errors
    /// [`Error::Tensors`] lists what is missing or has another shape; [`Error::ModelFile`] for a broken or unknown
    /// config, checkpoint or tokenizer.
    pub fn load(files: &ModelFiles, backend: &Backend) -> Result<Self> {
        let model = files.id.as_str();
        let config = ModelConfig::read(&files.config, model)?;
        let (text, vision, dim, dialect) = match &config {
            ModelConfig::Clip(c) => (&c.text, &c.vision, c.projection_dim, Dialect::Clip),
            ModelConfig::Siglip(c) => (&c.text, &c.vision, c.projection_size, Dialect::Siglip { pad: c.pad_token_id }),
        };
        let (tokenizer, architecture) = rayon::join(
            || Tokenizer::load(&files.tokenizer, text.max_position_embeddings, dialect, model),
            || Architecture::load(&config, files, backend),
        );
        let towers = Self {
            architecture: architecture?,
            tokenizer: tokenizer?,
            backend: backend.clone(),
            model: model.to_owned(),
            dim,
            vision: vision.clone(),
            text: text.clone(),
        };
        towers.check_tokenizer(&config, &files.tokenizer)?;
        Ok(towers)
    }

    /// A tokenizer of another model would give vectors that mean nothing, without any error.
    fn check_tokenizer(&self, config: &ModelConfig, blob: &Blob) -> Result<()> {
        let refused = |reason| Error::ModelFile { model: self.model.clone(), file: blob.name(), reason };
        if is_openai(blob) && self.text.vocab_size != OPENAI_TOKENS {
            return Err(refused(format!(
                "has {OPENAI_TOKENS} tokens, the model {}: its own tokenizer.json has to lie beside it",
                self.text.vocab_size
            )));
        }
        let empty = self.tokenizer.encode("")?.ids;
        let outside = self.tokenizer.pad().max(empty.iter().copied().max().unwrap_or(0));
        if outside as usize >= self.text.vocab_size {
            return Err(refused(format!("uses id {outside}, the model has {} tokens", self.text.vocab_size)));
        }
        match config {
            ModelConfig::Clip(clip) => match clip.pooling {
                Pooling::First(eos) if !empty.contains(&eos) => {
                    Err(refused(format!("does not end texts with id {eos}, the eos_token_id of config.json")))
                }
                _ if empty.is_empty() => Err(refused("puts no begin and end tokens around texts".to_owned())),
                Pooling::HighestId if empty.iter().any(|&id| id as usize + 1 == self.text.vocab_size) => Ok(()),
                Pooling::HighestId => {
                    // The reference pools there all the same, and so does this.
                    tracing::warn!(
                        model = self.model,
                        "config.json has eos_token_id 2, which pools texts at their highest token id; here that is not the end token"
                    );
                    Ok(())
                }
                Pooling::First(_) => Ok(()),
            },
            ModelConfig::Siglip(_) => Ok(()),
        }
    }

    /// What the model runs on.
    pub fn backend(&self) -> &Backend {
        &self.backend
    }

    /// Length of the vectors.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Height and width of the images.
    pub fn image_size(&self) -> usize {
        self.vision.image_size
    }

    /// Softmax or sigmoid, with the checkpoint's own scale.
    pub fn scoring(&self) -> Scoring {
        match &self.architecture {
            Architecture::Clip(clip) => Scoring::Softmax { scale: clip.logit_scale.exp() },
            Architecture::Siglip(siglip) => {
                Scoring::Sigmoid { scale: siglip.logit_scale.exp(), bias: siglip.logit_bias }
            }
        }
    }

    /// Embeds preprocessed images. Shapes: each `[3, size, size]` flattened -> each `[dim]`, unit length.
    ///
    /// # Errors
    /// An image has another size or numbers that are not finite; a tensor operation failed.
    pub fn encode_images(&self, images: &[Vec<f32>]) -> Result<Vec<Vec<f32>>> {
        let len = self.vision.num_patches() + 1;
        let most = self.backend.sequences_at_once(images.len(), len, len * self.vision.tower.intermediate_size);
        // A GPU is given all parts before the first is waited for; the next one is looked at while it computes.
        let parts: Vec<Tensor> = images
            .chunks(most)
            .enumerate()
            .map(|(index, part)| {
                self.check_images(part, index * most)?;
                self.image_features(part, &mut Stages::off())
            })
            .collect::<Result<_>>()?;
        let mut vectors = Vec::with_capacity(images.len());
        parts.iter().try_for_each(|part| self.unit_vectors(part, &mut vectors))?;
        Ok(vectors)
    }

    /// Embeds texts, truncated at the context length as the reference does. Shape: each `[dim]`, unit length.
    ///
    /// # Errors
    /// A text cannot be tokenized, or a tensor operation failed.
    pub fn encode_texts(&self, texts: &[String]) -> Result<Vec<Vec<f32>>> {
        // A GPU encodes many texts in the time that one thread cuts a few into tokens.
        const TEXTS_PER_TASK: usize = 8;
        let tokens = texts
            .par_iter()
            .with_min_len(TEXTS_PER_TASK)
            .map(|text| self.tokenize(text))
            .collect::<Result<Vec<_>>>()?;
        // Texts of similar length together, so that little is computed for padding.
        let mut order: Vec<usize> = (0..tokens.len()).collect();
        order.sort_by_key(|&i| tokens.get(i).map_or(0, |tokens| tokens.ids.len()));
        let len = self.context_length();
        let most = self.backend.sequences_at_once(texts.len(), len, len * self.text.tower.intermediate_size);
        let parts: Vec<Tensor> = order
            .chunks(most)
            .map(|part| {
                let ids: Vec<&[u32]> = part.iter().filter_map(|&i| tokens.get(i)).map(|t| t.ids.as_slice()).collect();
                self.text_features(&ids, &mut Stages::off())
            })
            .collect::<Result<_>>()?;
        let mut sorted = Vec::with_capacity(texts.len());
        parts.iter().try_for_each(|part| self.unit_vectors(part, &mut sorted))?;
        let mut vectors = vec![Vec::new(); texts.len()];
        for (i, vector) in order.into_iter().zip(sorted) {
            if let Some(place) = vectors.get_mut(i) {
                *place = vector;
            }
        }
        Ok(vectors)
    }

    /// A text as the ids that the model sees.
    ///
    /// # Errors
    /// The text cannot be tokenized, or gives ids that the model does not have.
    pub fn tokenize(&self, text: &str) -> Result<Tokens> {
        let tokens = self.tokenizer.encode(text)?;
        match tokens.ids.iter().find(|&&id| id as usize >= self.text.vocab_size) {
            Some(id) => Err(Error::Tokenizer {
                reason: format!("the tokenizer gives id {id}, the model has {} tokens", self.text.vocab_size),
            }),
            None => Ok(tokens),
        }
    }

    /// Most tokens that the model takes, begin and end included.
    pub fn context_length(&self) -> usize {
        self.tokenizer.context_length()
    }

    /// What every stage of the image tower puts out for one batch, by the names of the checkpoint: `embeddings`,
    /// `layers.0` and so on, `pooled`, ...; for comparing with a reference.
    ///
    /// # Errors
    /// As [`Towers::encode_images`].
    pub fn image_stages(&self, images: &[Vec<f32>]) -> Result<Vec<(String, Tensor)>> {
        self.check_images(images, 0)?;
        let mut stages = Stages::on();
        self.image_features(images, &mut stages)?;
        Ok(stages.into_vec())
    }

    /// As [`Towers::image_stages`], for tokenized texts.
    ///
    /// # Errors
    /// As [`Towers::encode_texts`].
    pub fn text_stages(&self, texts: &[Tokens]) -> Result<Vec<(String, Tensor)>> {
        let ids: Vec<&[u32]> = texts.iter().map(|tokens| tokens.ids.as_slice()).collect();
        let mut stages = Stages::on();
        self.text_features(&ids, &mut stages)?;
        Ok(stages.into_vec())
    }

    fn image_features(&self, images: &[Vec<f32>], stages: &mut Stages) -> Result<Tensor> {
        let images: Vec<&[f32]> = images.iter().map(Vec::as_slice).collect();
        on_a_worker(|| match &self.architecture {
            Architecture::Clip(clip) => clip.image_features(&images, &self.backend, stages),
            Architecture::Siglip(siglip) => siglip.image_features(&images, &self.backend, stages),
        })
    }

    fn text_features(&self, ids: &[&[u32]], stages: &mut Stages) -> Result<Tensor> {
        on_a_worker(|| match &self.architecture {
            Architecture::Clip(clip) => clip.text_features(ids, stages),
            Architecture::Siglip(siglip) => siglip.text_features(ids, self.tokenizer.pad(), stages),
        })
    }

    /// `first` is the number of the first image, for messages.
    fn check_images(&self, images: &[Vec<f32>], first: usize) -> Result<()> {
        let expected = self.vision.num_channels * self.vision.image_size * self.vision.image_size;
        let wrong = images.par_iter().enumerate().find_map_first(|(i, image)| match image.len() {
            len if len != expected => Some((i, format!("has {len} numbers, the model takes {expected}"))),
            _ if !are_finite(image) => Some((i, "are not all finite".to_owned())),
            _ => None,
        });
        match wrong {
            Some((i, reason)) => {
                Err(Error::Argument { name: "pixels", reason: format!("of image {} {reason}", first + i) })
            }
            None => Ok(()),
        }
    }

    /// Appends the rows at unit length. Shape: `[batch, dim]`.
    fn unit_vectors(&self, features: &Tensor, vectors: &mut Vec<Vec<f32>>) -> Result<()> {
        let rows =
            features.to_dtype(DType::F32).and_then(|rows| rows.to_vec2::<f32>()).map_err(Error::tensor("output"))?;
        for mut row in rows {
            let norm = row.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt();
            if !norm.is_finite() || norm == 0.0 {
                return Err(Error::ModelFile {
                    model: self.model.clone(),
                    file: "weights".to_owned(),
                    reason: format!("give a vector of length {norm}; the checkpoint is damaged"),
                });
            }
            for x in &mut row {
                *x = (f64::from(*x) / norm) as f32;
            }
            vectors.push(row);
        }
        Ok(())
    }
}

/// By the bits of their exponents, all of a block before the next is looked at: a loop that the compiler makes vectors of.
fn are_finite(values: &[f32]) -> bool {
    const BLOCK: usize = 4096;
    const EXPONENT: u32 = 0x7f80_0000;
    values.chunks(BLOCK).all(|block| block.iter().fold(true, |all, x| all & (x.to_bits() & EXPONENT != EXPONENT)))
}

/// Runs a forward pass on a thread of the pool: from outside, each of its hundred parallel steps would wait for a thread to
/// wake up and, at its end, for the caller to.
fn on_a_worker<T: Send>(run: impl FnOnce() -> T + Send) -> T {
    rayon::scope(|_| run())
}

impl Architecture {
    fn load(config: &ModelConfig, files: &ModelFiles, backend: &Backend) -> Result<Self> {
        let checkpoint = std::sync::Arc::new(Checkpoint::open(files)?);
        reader::load(&checkpoint, backend, &files.id, |reader| match config {
            ModelConfig::Clip(config) => Ok(Self::Clip(Box::new(ClipModel::new(reader, config)?))),
            ModelConfig::Siglip(config) => Ok(Self::Siglip(Box::new(SiglipModel::new(reader, config)?))),
        })
    }
}
