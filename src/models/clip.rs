//! CLIP of any size: `OpenAI`'s, and `OpenCLIP`'s ports to the same layout.
//!
//! Source: Radford et al. 2021; transformers 5.23, `modeling_clip.py`. Names are the checkpoint's, typos included.

use candle_core::Tensor;

use super::config::{ClipConfig, Pooling, TextConfig, VisionConfig};
use super::reader::{Lazy, Reader};
use super::transformer::{Encoder, Stages};
use crate::compute::{Backend, Embedding, LayerNorm, Linear, Mask, patch_rows, select_rows};
use crate::error::{Error, Result};

/// Both towers and their projections.
#[derive(Debug)]
pub(super) struct ClipModel {
    text: TextTower,
    vision_model: Lazy<VisionTransformer>,
    visual_projection: Linear,
    /// As in the checkpoint; the scale of the scores is its exponential.
    pub logit_scale: f32,
}

impl ClipModel {
    pub fn new(reader: &Reader<'_>, config: &ClipConfig) -> Result<Self> {
        let dim = config.projection_dim;
        Ok(Self {
            text: TextTower::new(reader, &config.text, dim, config.pooling)?,
            vision_model: Lazy::new(&reader.at("vision_model"), &config.vision, |reader, config| {
                VisionTransformer::new(reader, config, "pre_layrnorm")
            })?,
            visual_projection: reader.linear_no_bias("visual_projection", dim, config.vision.tower.hidden_size)?,
            logit_scale: reader.scalar("logit_scale")?,
        })
    }

    /// Shapes: each `[3, size, size]` flattened -> `[batch, dim]`, not normalised.
    pub fn image_features(&self, images: &[&[f32]], backend: &Backend, stages: &mut Stages) -> Result<Tensor> {
        let pooled = self.vision_model.get()?.pooled(images, backend, stages)?; // [batch, hidden]
        let projected = self.visual_projection.forward(&pooled)?; // [batch, dim]
        stages.note(|| "projected".to_owned(), &projected);
        Ok(projected)
    }

    /// The class token and every patch as the image vector is made of the first: dense features. Shapes: each `[3, size, size]`
    /// flattened -> `[batch, 1 + patches, dim]`, not normalised.
    ///
    /// Source: Kang et al. 2025, arXiv 2503.08723, section 5 (dense cosine similarity maps).
    pub fn image_tokens(&self, images: &[&[f32]], backend: &Backend) -> Result<Tensor> {
        let tokens = self.vision_model.get()?.tokens(images, backend, &mut Stages::off())?; // [batch, 1 + patches, hidden]
        self.visual_projection.forward(&tokens) // [batch, 1 + patches, dim]
    }

    /// Every token of texts of one length in the space of the vectors, of each text the first `lengths[i]` real ones and padding
    /// behind them that no token looks at. Shapes: `[batch, len]` flattened -> `[batch, len, dim]`, not normalised.
    ///
    /// Source: as [`ClipModel::image_tokens`].
    pub fn text_tokens(&self, ids: &[u32], lengths: &[usize], backend: &Backend) -> Result<Tensor> {
        self.text.tokens(ids, lengths, backend)
    }

    /// Shape: -> `[batch, dim]`, not normalised.
    pub fn text_features(&self, texts: &[&[u32]], stages: &mut Stages) -> Result<Tensor> {
        self.text.features(texts, stages)
    }
}

/// The text side: transformer, pooling, projection.
#[derive(Debug)]
pub(super) struct TextTower {
    text_model: Lazy<TextTransformer>,
    text_projection: Linear,
    pooling: Pooling,
}

impl TextTower {
    /// `dim`: length of the vectors.
    pub fn new(reader: &Reader<'_>, config: &TextConfig, dim: usize, pooling: Pooling) -> Result<Self> {
        Ok(Self {
            text_model: Lazy::new(&reader.at("text_model"), config, |reader, config| {
                TextTransformer::new(reader, config, Mask::Causal)
            })?,
            text_projection: reader.linear_no_bias("text_projection", dim, config.tower.hidden_size)?,
            pooling,
        })
    }

    /// Texts of any lengths: what comes after a text's end cannot be seen from the position that is pooled, so they are
    /// padded to the longest of the batch only, with any id.
    ///
    /// Shape: -> `[batch, dim]`, not normalised.
    pub fn features(&self, texts: &[&[u32]], stages: &mut Stages) -> Result<Tensor> {
        let len = texts.iter().map(|ids| ids.len()).max().unwrap_or(0);
        let mut ids = Vec::with_capacity(texts.len() * len);
        for text in texts {
            ids.extend_from_slice(text);
            ids.resize(ids.len() + len - text.len(), 0);
        }
        let at: Vec<usize> = texts.iter().map(|ids| self.pooled(ids)).collect();
        let pooled = self.text_model.get()?.forward(&ids, &at, stages)?; // [batch, hidden]
        stages.note(|| "pooled".to_owned(), &pooled);
        let projected = self.text_projection.forward(&pooled)?; // [batch, dim]
        stages.note(|| "projected".to_owned(), &projected);
        Ok(projected)
    }

    /// As [`ClipModel::text_tokens`].
    fn tokens(&self, ids: &[u32], lengths: &[usize], backend: &Backend) -> Result<Tensor> {
        let mask = causal_without_padding(lengths, ids.len() / lengths.len().max(1), backend)?; // [batch, len, len]
        let all = self.text_model.get()?.all(ids, lengths.len(), Mask::Bias(&mask))?; // [batch, len, hidden]
        self.text_projection.forward(&all) // [batch, len, dim]
    }

    /// The position that stands for the whole text; the first one, as the reference does, when there is no such id.
    fn pooled(&self, ids: &[u32]) -> usize {
        match self.pooling {
            Pooling::First(eos) => ids.iter().position(|&id| id == eos).unwrap_or(0),
            Pooling::HighestId => {
                let highest = ids.iter().max();
                ids.iter().position(|id| Some(id) == highest).unwrap_or(0)
            }
        }
    }
}

/// Token and position embeddings, the layers, and a last normalisation; `SigLIP`'s too.
#[derive(Debug)]
pub(super) struct TextTransformer {
    token_embedding: Embedding,
    position_embedding: Embedding,
    encoder: Encoder,
    final_layer_norm: LayerNorm,
}

impl TextTransformer {
    pub fn new(reader: &Reader<'_>, config: &TextConfig, mask: Mask<'static>) -> Result<Self> {
        let (size, embeddings) = (config.tower.hidden_size, reader.at("embeddings"));
        Ok(Self {
            token_embedding: embeddings.large_embedding("token_embedding", config.vocab_size, size)?,
            position_embedding: embeddings.embedding("position_embedding", config.max_position_embeddings, size)?,
            encoder: Encoder::new(&reader.at("encoder"), &config.tower, mask)?,
            final_layer_norm: reader.layer_norm("final_layer_norm", size, config.tower.layer_norm_eps)?,
        })
    }

    /// Shape: `[batch, len]` flattened -> `[batch, len, hidden]`.
    fn embeddings(&self, ids: &[u32], batch: usize) -> Result<Tensor> {
        let tokens = self.token_embedding.lookup(ids, batch)?; // [batch, len, hidden]
        let positions = self.position_embedding.first(ids.len() / batch.max(1))?; // [len, hidden]
        tokens.broadcast_add(&positions).map_err(Error::tensor("text embeddings"))
    }

    /// Every row. Shapes: `[batch, len]` flattened -> `[batch, len, hidden]`.
    fn all(&self, ids: &[u32], batch: usize, mask: Mask<'_>) -> Result<Tensor> {
        let x = self.embeddings(ids, batch)?; // [batch, len, hidden]
        self.final_layer_norm.forward(&self.encoder.forward_under(mask, x, None, &mut Stages::off())?)
    }

    /// The rows that stand for the texts: of text `i` row `pooled[i]`.
    ///
    /// Shapes: `[batch, len]` flattened -> `[batch, hidden]`.
    pub fn forward(&self, ids: &[u32], pooled: &[usize], stages: &mut Stages) -> Result<Tensor> {
        let x = self.embeddings(ids, pooled.len())?; // [batch, len, hidden]
        stages.note(|| "embeddings".to_owned(), &x);
        let x = if stages.are_kept() {
            let all = self.final_layer_norm.forward(&self.encoder.forward(x, None, stages)?)?; // [batch, len, hidden]
            stages.note(|| "final_layer_norm".to_owned(), &all);
            select_rows(&all, pooled)?
        } else {
            self.final_layer_norm.forward(&self.encoder.forward(x, Some(pooled), stages)?)?
        }; // [batch, 1, hidden]
        x.squeeze(1).map_err(Error::tensor("text pooling")) // [batch, hidden]
    }
}

/// Of each query the keys up to its own that are no padding. Shape: -> `[batch, len, len]`.
fn causal_without_padding(lengths: &[usize], len: usize, backend: &Backend) -> Result<Tensor> {
    let seen = |length: usize, query: usize, key: usize| key <= query && key < length.max(1);
    let rows = lengths.iter().flat_map(|&length| (0..len).map(move |query| (length, query)));
    let bias = rows.flat_map(|(length, query)| {
        (0..len).map(move |key| if seen(length, query, key) { 0.0 } else { f32::NEG_INFINITY })
    });
    crate::compute::tensor(bias.collect::<Vec<f32>>(), &[lengths.len(), len, len], backend)
}

/// Patches, the layers, and a normalisation at either end.
#[derive(Debug)]
pub(super) struct VisionTransformer {
    /// The convolution `patch_embedding` as a matrix product.
    patch_embedding: Linear,
    /// `[1, 1, hidden]`
    class_embedding: Tensor,
    position_embedding: Embedding,
    pre_layrnorm: LayerNorm,
    encoder: Encoder,
    post_layernorm: LayerNorm,
    config: VisionConfig,
}

impl VisionTransformer {
    /// `pre_norm`: what the checkpoint calls the normalisation before the layers.
    pub fn new(reader: &Reader<'_>, config: &VisionConfig, pre_norm: &str) -> Result<Self> {
        let (size, eps) = (config.tower.hidden_size, config.tower.layer_norm_eps);
        let embeddings = reader.at("embeddings");
        let class_embedding = embeddings.values("class_embedding", &[size])?;
        let class_shape = [1, 1, class_embedding.len()];
        Ok(Self {
            patch_embedding: patch_embedding(&embeddings.at("patch_embedding"), config, false)?,
            class_embedding: crate::compute::tensor(class_embedding, &class_shape, reader.backend())?,
            position_embedding: embeddings.embedding("position_embedding", config.num_patches() + 1, size)?,
            pre_layrnorm: reader.layer_norm(pre_norm, size, eps)?,
            encoder: Encoder::new(&reader.at("encoder"), &config.tower, Mask::Full)?,
            post_layernorm: reader.layer_norm("post_layernorm", size, eps)?,
            config: config.clone(),
        })
    }

    /// The class token alone. Shapes: each `[3, size, size]` flattened -> `[batch, hidden]`.
    fn pooled(&self, images: &[&[f32]], backend: &Backend, stages: &mut Stages) -> Result<Tensor> {
        let class = self.layers(images, Some(&vec![0; images.len()]), backend, stages)?; // [batch, 1, hidden]
        let class = class.squeeze(1).map_err(Error::tensor("image pooling"))?; // [batch, hidden]
        let pooled = self.post_layernorm.forward(&class)?; // [batch, hidden]
        stages.note(|| "pooled".to_owned(), &pooled);
        Ok(pooled)
    }

    /// The class token and every patch, normalised. Shapes: each `[3, size, size]` flattened ->
    /// `[batch, 1 + patches, hidden]`.
    pub fn tokens(&self, images: &[&[f32]], backend: &Backend, stages: &mut Stages) -> Result<Tensor> {
        let tokens = self.post_layernorm.forward(&self.layers(images, None, backend, stages)?)?;
        stages.note(|| "post_layernorm".to_owned(), &tokens);
        Ok(tokens)
    }

    /// Shape: -> `[batch, 1 + patches, hidden]`, or with `wanted` `[batch, 1, hidden]`.
    fn layers(
        &self,
        images: &[&[f32]],
        wanted: Option<&[usize]>,
        backend: &Backend,
        stages: &mut Stages,
    ) -> Result<Tensor> {
        let patches = self.patch_embedding.forward(&patches(images, &self.config, backend)?)?; // [batch, patches, hidden]
        let positions = self.position_embedding.first(self.position_embedding.rows())?; // [patches + 1, hidden]
        let embed = || {
            let (batch, _, hidden) = patches.dims3()?;
            // Side by side, as joining wants it: of few numbers, while the patches are many.
            let class = self.class_embedding.broadcast_as((batch, 1, hidden))?.contiguous()?;
            Tensor::cat(&[&class, &patches], 1)?.broadcast_add(&positions) // [batch, patches + 1, hidden]
        };
        let x = embed().map_err(Error::tensor("image embeddings"))?;
        stages.note(|| "embeddings".to_owned(), &x);
        let x = self.pre_layrnorm.forward(&x)?;
        stages.note(|| "pre_layrnorm".to_owned(), &x);
        self.encoder.forward(x, wanted, stages)
    }
}

/// A convolution whose stride is its kernel, as a linear layer over [`patch_rows`].
pub(super) fn patch_embedding(convolution: &Reader<'_>, config: &VisionConfig, bias: bool) -> Result<Linear> {
    let (hidden, patch) = (config.tower.hidden_size, config.patch_size);
    let weight = convolution.values("weight", &[hidden, config.num_channels, patch, patch])?;
    let bias = if bias { Some(convolution.values("bias", &[hidden])?) } else { None };
    convolution.linear_from(hidden, config.num_channels * patch * patch, weight, bias)
}

/// Shape: each `[3, size, size]` flattened -> `[batch, patches, 3 * patch * patch]`.
pub(super) fn patches(images: &[&[f32]], config: &VisionConfig, backend: &Backend) -> Result<Tensor> {
    let size = (config.image_size, config.image_size);
    patch_rows(images, config.num_channels, size, config.patch_size, backend)
}
