//! `SigLIP`, and the `SigLIP` 2 checkpoints of fixed resolution.
//!
//! Source: Zhai et al. 2023; Tschannen et al. 2025; transformers 5.23, `modeling_siglip.py`. Names are the checkpoint's.

use candle_core::Tensor;

use super::clip::{TextTransformer, patch_embedding, patches};
use super::config::{SiglipConfig, VisionConfig};
use super::reader::{Lazy, Reader, head_scale};
use super::transformer::{Encoder, Layout, Mlp, Stages};
use crate::compute::{Backend, Embedding, LayerNorm, Linear, Mask, chain};
use crate::error::{Error, Result};

/// Both towers.
#[derive(Debug)]
pub(super) struct SiglipModel {
    text_model: Lazy<TextTransformer>,
    /// `text_model.head`
    text_head: Linear,
    vision_model: Lazy<VisionTransformer>,
    /// As in the checkpoint; the scale of the scores is its exponential.
    pub logit_scale: f32,
    /// Added to the scores.
    pub logit_bias: f32,
    /// Every text is padded to this: the last position is the one that is pooled.
    context_length: usize,
}

impl SiglipModel {
    pub fn new(reader: &Reader<'_>, config: &SiglipConfig) -> Result<Self> {
        let text_reader = reader.at("text_model");
        Ok(Self {
            text_model: Lazy::new(&text_reader, &config.text, |reader, config| {
                TextTransformer::new(reader, config, Mask::Full)
            })?,
            text_head: text_reader.linear("head", config.projection_size, config.text.tower.hidden_size)?,
            vision_model: Lazy::new(&reader.at("vision_model"), &config.vision, VisionTransformer::new)?,
            logit_scale: reader.scalar("logit_scale")?,
            logit_bias: reader.scalar("logit_bias")?,
            context_length: config.text.max_position_embeddings,
        })
    }

    /// Shapes: each `[3, size, size]` flattened -> `[batch, dim]`, not normalised.
    pub fn image_features(&self, images: &[&[f32]], backend: &Backend, stages: &mut Stages) -> Result<Tensor> {
        self.vision_model.get()?.forward(images, backend, stages)
    }

    /// Texts, each padded with `pad` on the right: all positions see each other, so the padding counts.
    ///
    /// Shape: -> `[batch, dim]`, not normalised.
    pub fn text_features(&self, texts: &[&[u32]], pad: u32, stages: &mut Stages) -> Result<Tensor> {
        let len = self.context_length;
        let mut ids = Vec::with_capacity(texts.len() * len);
        for (i, text) in texts.iter().enumerate() {
            ids.extend(text.iter().take(len));
            ids.resize((i + 1) * len, pad);
        }
        let last = self.text_model.get()?.forward(&ids, &vec![len - 1; texts.len()], stages)?; // [batch, hidden]
        let pooled = self.text_head.forward(&last)?; // [batch, dim]
        stages.note(|| "pooled".to_owned(), &pooled);
        Ok(pooled)
    }
}

#[derive(Debug)]
struct VisionTransformer {
    /// The convolution `patch_embedding` as a matrix product.
    patch_embedding: Linear,
    position_embedding: Embedding,
    encoder: Encoder,
    post_layernorm: LayerNorm,
    head: MultiheadAttentionPoolingHead,
    config: VisionConfig,
}

impl VisionTransformer {
    fn new(reader: &Reader<'_>, config: &VisionConfig) -> Result<Self> {
        let (size, eps) = (config.tower.hidden_size, config.tower.layer_norm_eps);
        let embeddings = reader.at("embeddings");
        Ok(Self {
            patch_embedding: patch_embedding(&embeddings.at("patch_embedding"), config, true)?,
            position_embedding: embeddings.embedding("position_embedding", config.num_patches(), size)?,
            encoder: Encoder::new(&reader.at("encoder"), &config.tower, Mask::Full)?,
            post_layernorm: reader.layer_norm("post_layernorm", size, eps)?,
            head: MultiheadAttentionPoolingHead::new(&reader.at("head"), config)?,
            config: config.clone(),
        })
    }

    /// Shapes: each `[3, size, size]` flattened -> `[batch, hidden]`.
    fn forward(&self, images: &[&[f32]], backend: &Backend, stages: &mut Stages) -> Result<Tensor> {
        let x = self.patch_embedding.forward(&patches(images, &self.config, backend)?)?; // [batch, patches, hidden]
        let positions = self.position_embedding.first(self.position_embedding.rows())?; // [patches, hidden]
        let x = x.broadcast_add(&positions).map_err(Error::tensor("image embeddings"))?;
        stages.note(|| "embeddings".to_owned(), &x);
        let x = self.post_layernorm.forward(&self.encoder.forward(x, None, stages)?)?; // [batch, patches, hidden]
        stages.note(|| "post_layernorm".to_owned(), &x);
        let pooled = self.head.forward(&x)?; // [batch, hidden]
        stages.note(|| "pooled".to_owned(), &pooled);
        Ok(pooled)
    }
}

/// One learned query, the probe, that looks at all patches.
#[derive(Debug)]
struct MultiheadAttentionPoolingHead {
    /// `[1, 1, hidden]`
    probe: Tensor,
    /// The first third of `attention.in_proj`, scaled by `1 / sqrt(head size)`.
    q_proj: Linear,
    /// The other two thirds.
    kv_proj: Linear,
    out_proj: Linear,
    layernorm: LayerNorm,
    mlp: Mlp,
    heads: usize,
}

impl MultiheadAttentionPoolingHead {
    fn new(reader: &Reader<'_>, config: &VisionConfig) -> Result<Self> {
        let (hidden, heads) = (config.tower.hidden_size, config.tower.num_attention_heads);
        let probe = reader.values("probe", &[1, 1, hidden])?;
        let probe_shape = [1, 1, probe.len()];
        let attention = reader.at("attention");
        let mut weight = attention.values("in_proj_weight", &[3 * hidden, hidden])?;
        let mut bias = attention.values("in_proj_bias", &[3 * hidden])?;
        let kv_weight = weight.split_off((hidden * hidden).min(weight.len()));
        let kv_bias = bias.split_off(hidden.min(bias.len()));
        let scale = head_scale(hidden, heads);
        weight.iter_mut().chain(&mut bias).for_each(|value| *value *= scale);
        Ok(Self {
            probe: crate::compute::tensor(probe, &probe_shape, reader.backend())?,
            q_proj: attention.linear_from(hidden, hidden, weight, Some(bias))?,
            kv_proj: attention.linear_from(2 * hidden, hidden, kv_weight, Some(kv_bias))?,
            out_proj: attention.linear("out_proj", hidden, hidden)?,
            layernorm: reader.layer_norm("layernorm", hidden, config.tower.layer_norm_eps)?,
            mlp: Mlp::new(reader, &config.tower, &Layout::CLIP)?,
            heads,
        })
    }

    /// Shapes: `[batch, patches, hidden]` -> `[batch, hidden]`.
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (q, kv) = (chain(&self.probe).linear(&self.q_proj), chain(x).linear(&self.kv_proj));
        let x = q.attend_to(kv, self.heads, Mask::Full).linear(&self.out_proj).run()?; // [batch, 1, hidden]
        let x = self.mlp.forward(chain(&x).norm(&self.layernorm)).plus(&x).run()?; // [batch, 1, hidden]
        x.squeeze(1).map_err(Error::tensor("attention pooling")) // [batch, hidden]
    }
}
