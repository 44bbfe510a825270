//! The two towers of any supported architecture with their tokenizer, or the one of a model that reads no text: preprocessed
//! pixels and texts to unit vectors.

use candle_core::{DType, Tensor};
use rayon::prelude::*;

use super::ModelFiles;
use super::checkpoint::Checkpoint;
use super::clip::ClipModel;
use super::config::{ModelConfig, VisionConfig};
use super::dinov2::Dinov2Model;
use super::iresnet::Iresnet;
use super::reader;
use super::siglip::SiglipModel;
use super::tokenizer::{Dialect, Tokens};
use super::transformer::Stages;
use super::words::Words;
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
    backend: Backend,
    model: String,
    dim: usize,
    /// Numbers that the widest layer puts out for an image, and the rows that they are.
    widest: (usize, usize),
    /// Height and width of the images.
    input: (usize, usize),
    /// None where the model reads no text.
    words: Option<Words>,
}

#[derive(Debug)]
enum Architecture {
    Clip(Box<ClipModel>),
    Siglip(Box<SiglipModel>),
    Dinov2(Box<Dinov2Model>),
    Iresnet(Box<Iresnet>),
}

impl Towers {
    /// Checks every expected tensor by name and shape; each tower is built when it is first used.
    ///
    /// # Errors
    /// [`Error::Tensors`] lists what is missing or has another shape; [`Error::ModelFile`] for a broken or unknown
    /// config, checkpoint or tokenizer.
    pub fn load(files: &ModelFiles, backend: &Backend) -> Result<Self> {
        Self::load_for(files, None, backend)
    }

    /// As [`Towers::load`], for images of this height and width, where the model takes several sizes.
    ///
    /// # Errors
    /// As [`Towers::load`]; [`Error::Argument`] for a size that the model does not take.
    pub fn load_for(files: &ModelFiles, input: Option<(usize, usize)>, backend: &Backend) -> Result<Self> {
        let model = files.id.as_str();
        let mut config = ModelConfig::read(&files.config, model)?;
        let input = config.take_input(input)?;
        let (text, widest, dim) = match &config {
            ModelConfig::Clip(c) => (Some((&c.text, Dialect::Clip)), widest(&c.vision, input), c.projection_dim),
            ModelConfig::Siglip(c) => {
                let dialect = Dialect::Siglip { pad: c.pad_token_id };
                (Some((&c.text, dialect)), widest(&c.vision, input), c.projection_size)
            }
            ModelConfig::Dinov2(c) => (None, widest(&c.vision, input), c.vision.tower.hidden_size),
            ModelConfig::Iresnet(c) => {
                let pixels = c.image_size * c.image_size;
                (None, (pixels * c.layers.first().map_or(0, |(_, width)| *width), pixels), c.dim)
            }
        };
        let words = || {
            let Some((text, dialect)) = text else { return Ok(None) };
            let words = Words::load(files, text, dialect)?;
            words.check(&config, files)?;
            Ok(Some(words))
        };
        let (words, architecture) = rayon::join(words, || Architecture::load(&config, files, backend));
        Ok(Self {
            architecture: architecture?,
            words: words?,
            backend: backend.clone(),
            model: model.to_owned(),
            dim,
            widest,
            input,
        })
    }

    /// Whether it has a tower for texts.
    pub fn reads_texts(&self) -> bool {
        self.words.is_some()
    }

    /// Whether its images are crops of faces, aligned as its checkpoint was trained: others give vectors that mean nothing.
    pub fn takes_aligned_faces(&self) -> bool {
        matches!(self.architecture, Architecture::Iresnet(_))
    }

    fn words(&self) -> Result<&Words> {
        self.words.as_ref().ok_or_else(|| Error::ReadsNoTexts { model: self.model.clone() })
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
    pub fn image_size(&self) -> (usize, usize) {
        self.input
    }

    /// Softmax or sigmoid, with the checkpoint's own scale.
    ///
    /// # Errors
    /// [`Error::ReadsNoTexts`].
    pub fn scoring(&self) -> Result<Scoring> {
        match &self.architecture {
            Architecture::Clip(clip) => Ok(Scoring::Softmax { scale: clip.logit_scale.exp() }),
            Architecture::Siglip(siglip) => {
                Ok(Scoring::Sigmoid { scale: siglip.logit_scale.exp(), bias: siglip.logit_bias })
            }
            Architecture::Dinov2(_) | Architecture::Iresnet(_) => {
                Err(Error::ReadsNoTexts { model: self.model.clone() })
            }
        }
    }

    /// Tokens of an image where there are dense features: the class token and the patches.
    pub fn image_tokens(&self) -> Option<usize> {
        matches!(self.architecture, Architecture::Clip(_)).then(|| self.widest.1)
    }

    /// Embeds preprocessed images. Shapes: each `[3, height, width]` flattened -> each `[dim]`, unit length.
    ///
    /// # Errors
    /// An image has another size or numbers that are not finite; a tensor operation failed.
    pub fn encode_images(&self, images: &[Vec<f32>]) -> Result<Vec<Vec<f32>>> {
        let (numbers, rows) = self.widest;
        let most = self.backend.sequences_at_once(images.len(), rows, numbers);
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

    /// Dense features of an image: its class token and its patches, row by row, in the space of the vectors. Shapes:
    /// `[3, size, size]` flattened -> `[1 + patches][dim]`, unit length.
    ///
    /// # Errors
    /// As [`Towers::encode_images`]; the architecture has no such space (`SigLIP` pools its patches with a head).
    pub fn encode_patches(&self, image: &[f32]) -> Result<Vec<Vec<f32>>> {
        let Architecture::Clip(clip) = &self.architecture else { return Err(self.no_dense_features()) };
        self.check_images(&[image.to_vec()], 0)?;
        let tokens = on_a_worker(|| clip.image_tokens(&[image], &self.backend))?; // [1, 1 + patches, dim]
        let mut vectors = Vec::new();
        self.unit_vectors(&tokens.squeeze(0).map_err(Error::tensor("dense features"))?, &mut vectors)?;
        Ok(vectors)
    }

    /// Dense features of texts: every token, begin and end among them, in the space of the vectors. Texts are cut to `len` tokens,
    /// their end kept, and filled up to it with their end, as the reference's `padding="max_length"` does. Shape: each `[len][dim]`,
    /// unit length.
    ///
    /// # Errors
    /// As [`Towers::encode_texts`]; the architecture has no such space, or takes fewer tokens.
    pub fn encode_text_tokens(&self, texts: &[String], len: usize) -> Result<Vec<Vec<Vec<f32>>>> {
        let Architecture::Clip(clip) = &self.architecture else { return Err(self.no_dense_features()) };
        if len > self.context_length() {
            let reason = format!("takes {} tokens a text, {len} are needed", self.context_length());
            return Err(Error::ModelFile { model: self.model.clone(), file: "config.json".to_owned(), reason });
        }
        let (mut ids, mut lengths) = (Vec::with_capacity(texts.len() * len), Vec::with_capacity(texts.len()));
        for text in texts {
            let tokens = self.tokenize(text)?.ids;
            let end = tokens.last().copied().unwrap_or_default();
            lengths.push(tokens.len().min(len));
            ids.extend(tokens.iter().take(len.saturating_sub(1)));
            ids.resize(lengths.len() * len, end);
        }
        let tokens = on_a_worker(|| clip.text_tokens(&ids, &lengths, &self.backend))?; // [batch, len, dim]
        let mut vectors = Vec::with_capacity(ids.len());
        self.unit_vectors(&tokens.flatten(0, 1).map_err(Error::tensor("dense features"))?, &mut vectors)?;
        Ok(vectors.chunks(len.max(1)).map(<[Vec<f32>]>::to_vec).collect())
    }

    fn no_dense_features(&self) -> Error {
        Error::Argument { name: "model", reason: format!("must be a CLIP for dense features; {} is none", self.model) }
    }

    /// Embeds texts, truncated at the context length as the reference does. Shape: each `[dim]`, unit length.
    ///
    /// # Errors
    /// A text cannot be tokenized, or a tensor operation failed; [`Error::ReadsNoTexts`].
    pub fn encode_texts(&self, texts: &[String]) -> Result<Vec<Vec<f32>>> {
        if texts.is_empty() {
            return Ok(Vec::new());
        }
        let tower = &self.words()?.config.tower;
        // Texts of similar length together, so that little is computed for padding.
        let mut order: Vec<usize> = (0..texts.len()).collect();
        order.sort_by_key(|&i| texts.get(i).map_or(0, String::len));
        let len = self.context_length();
        let most = self.backend.sequences_at_once(texts.len(), len, len * tower.intermediate_size);
        let tokenize = |part: &[usize]| -> Result<Vec<Tokens>> {
            part.par_iter().filter_map(|&i| texts.get(i)).map(|text| self.tokenize(text)).collect()
        };
        let (mut rest, mut parts) = (order.chunks(most), Vec::new());
        let mut tokens = rest.next().map(tokenize).transpose()?;
        while let Some(now) = tokens {
            let ids: Vec<&[u32]> = now.iter().map(|tokens| tokens.ids.as_slice()).collect();
            // A GPU is told what to do while the next texts are cut into tokens, which takes as long.
            let forward = || self.text_features(&ids, &mut Stages::off());
            let (part, next) = rayon::join(forward, || rest.next().map(tokenize).transpose());
            parts.push(part?);
            tokens = next?;
        }
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
        self.words()?.tokenize(text)
    }

    /// Most tokens that the model takes, begin and end included; 0 where it reads no text.
    pub fn context_length(&self) -> usize {
        self.words.as_ref().map_or(0, |words| words.tokenizer.context_length())
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
            Architecture::Dinov2(dinov2) => dinov2.image_features(&images, &self.backend, stages),
            Architecture::Iresnet(iresnet) => iresnet.image_features(&images, &self.backend, stages),
        })
    }

    fn text_features(&self, ids: &[&[u32]], stages: &mut Stages) -> Result<Tensor> {
        let words = self.words()?;
        on_a_worker(|| match &self.architecture {
            Architecture::Clip(clip) => clip.text_features(ids, stages),
            Architecture::Siglip(siglip) => siglip.text_features(ids, words.tokenizer.pad(), stages),
            Architecture::Dinov2(_) | Architecture::Iresnet(_) => {
                Err(Error::ReadsNoTexts { model: self.model.clone() })
            }
        })
    }

    /// `first` is the number of the first image, for messages.
    fn check_images(&self, images: &[Vec<f32>], first: usize) -> Result<()> {
        // Configs with other channels than RGB are refused.
        let expected = 3 * self.input.0 * self.input.1;
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

/// As [`Towers::widest`], of a vision transformer for images of this height and width.
fn widest(vision: &VisionConfig, input: (usize, usize)) -> (usize, usize) {
    let rows = (input.0 / vision.patch_size) * (input.1 / vision.patch_size) + 1;
    (rows * vision.tower.intermediate_size, rows)
}

/// By the bits of their exponents, all of a block before the next is looked at: a loop that the compiler makes vectors of.
pub(super) fn are_finite(values: &[f32]) -> bool {
    const BLOCK: usize = 4096;
    const EXPONENT: u32 = 0x7f80_0000;
    values.chunks(BLOCK).all(|block| block.iter().fold(true, |all, x| all & (x.to_bits() & EXPONENT != EXPONENT)))
}

/// Runs a forward pass on a thread of the pool: from outside, each of its hundred parallel steps would wait for a thread to
/// wake up and, at its end, for the caller to.
pub(super) fn on_a_worker<T: Send>(run: impl FnOnce() -> T + Send) -> T {
    rayon::scope(|_| run())
}

impl Architecture {
    fn load(config: &ModelConfig, files: &ModelFiles, backend: &Backend) -> Result<Self> {
        let checkpoint = std::sync::Arc::new(Checkpoint::open(files)?);
        reader::load(&checkpoint, backend, &files.id, |reader| match config {
            ModelConfig::Clip(config) => Ok(Self::Clip(Box::new(ClipModel::new(reader, config)?))),
            ModelConfig::Siglip(config) => Ok(Self::Siglip(Box::new(SiglipModel::new(reader, config)?))),
            ModelConfig::Dinov2(config) => Ok(Self::Dinov2(Box::new(Dinov2Model::new(reader, config)?))),
            ModelConfig::Iresnet(config) => Ok(Self::Iresnet(Box::new(Iresnet::new(reader, config)?))),
        })
    }
}
