//! `DINOv2`, with and without registers: a picture as one vector, without any text.
//!
//! Source: Oquab et al. 2023, Darcet et al. 2023; transformers 5.24, `modeling_dinov2.py` and
//! `modeling_dinov2_with_registers.py`. Names are those of the checkpoints on the hub, which the reference renames when it reads
//! them.

mod position;

use candle_core::Tensor;

use super::clip::patch_embedding;
use super::config::{Dinov2Config, VisionConfig};
use super::reader::{Lazy, Reader};
use super::transformer::{Encoder, Layout, Stages};
use crate::compute::{Backend, LayerNorm, Linear, Mask, patch_rows, tensor};
use crate::error::{Error, Result};

/// `Dinov2Model`, `Dinov2WithRegistersModel`.
#[derive(Debug)]
pub(super) struct Dinov2Model(Lazy<VisionTransformer>);

impl Dinov2Model {
    pub fn new(reader: &Reader<'_>, config: &Dinov2Config) -> Result<Self> {
        let build = |reader: &Reader<'_>, config: &Dinov2Config| {
            VisionTransformer::new(reader, config, &Layout::dinov2(config.qkv_bias, config.gated))
        };
        Lazy::new(reader, config, build).map(Self)
    }

    /// Shapes: each `[3, height, width]` flattened, as [`Dinov2Config::input`] says -> `[batch, hidden]`, not normalised.
    pub fn image_features(&self, images: &[&[f32]], backend: &Backend, stages: &mut Stages) -> Result<Tensor> {
        self.0.get()?.forward(images, backend, stages)
    }
}

/// A class token among patches; `ViT`'s too.
#[derive(Debug)]
pub(super) struct VisionTransformer {
    /// The convolution `patch_embeddings.projection` as a matrix product.
    patch_embeddings: Linear,
    /// `cls_token` in its place, and `register_tokens`, which have none. Shape: `[1, 1 + registers, hidden]`.
    first: Tensor,
    /// `position_embeddings` of the input's patches. Shape: `[patches, hidden]`.
    positions: Tensor,
    encoder: Encoder,
    layernorm: LayerNorm,
    vision: VisionConfig,
    input: (usize, usize),
}

impl VisionTransformer {
    pub(super) fn new(reader: &Reader<'_>, config: &Dinov2Config, layout: &Layout) -> Result<Self> {
        let (vision, backend) = (&config.vision, reader.backend());
        let (hidden, embeddings) = (vision.tower.hidden_size, reader.at("embeddings"));
        let mut positions = embeddings.values("position_embeddings", &[1, vision.num_patches() + 1, hidden])?;
        let patches = positions.split_off(hidden.min(positions.len()));
        let mut first = embeddings.values("cls_token", &[1, 1, hidden])?;
        first.iter_mut().zip(&positions).for_each(|(token, position)| *token += position);
        if config.registers > 0 {
            first.extend(embeddings.values("register_tokens", &[1, config.registers, hidden])?);
        }
        // Empty while notes are taken.
        let tokens = first.len() / hidden;
        let positions = if patches.is_empty() { patches } else { position::interpolate(&patches, config) };
        let rows = positions.len() / hidden;
        Ok(Self {
            patch_embeddings: patch_embedding(&embeddings.at("patch_embeddings.projection"), vision, true)?,
            first: tensor(first, &[1, tokens, hidden], backend)?,
            positions: tensor(positions, &[rows, hidden], backend)?,
            encoder: Encoder::of(&reader.at("encoder"), &vision.tower, layout, Mask::Full)?,
            layernorm: reader.layer_norm("layernorm", hidden, vision.tower.layer_norm_eps)?,
            vision: vision.clone(),
            input: config.input,
        })
    }

    /// The class token alone. Shapes: each `[3, height, width]` flattened -> `[batch, hidden]`.
    pub(super) fn forward(&self, images: &[&[f32]], backend: &Backend, stages: &mut Stages) -> Result<Tensor> {
        let rows = patch_rows(images, self.vision.num_channels, self.input, self.vision.patch_size, backend)?;
        let patches = self.patch_embeddings.forward(&rows)?; // [batch, patches, hidden]
        let embed = || {
            let (batch, _, hidden) = patches.dims3()?;
            // Side by side, as joining wants it: of few numbers, while the patches are many.
            let first = self.first.broadcast_as((batch, self.first.dim(1)?, hidden))?.contiguous()?;
            Tensor::cat(&[&first, &patches.broadcast_add(&self.positions)?], 1) // [batch, 1 + registers + patches, hidden]
        };
        let x = embed().map_err(Error::tensor("image embeddings"))?;
        stages.note(|| "embeddings".to_owned(), &x);
        let class = self.encoder.forward(x, Some(&vec![0; images.len()]), stages)?; // [batch, 1, hidden]
        let class = class.squeeze(1).map_err(Error::tensor("image pooling"))?; // [batch, hidden]
        let pooled = self.layernorm.forward(&class)?; // [batch, hidden]
        stages.note(|| "pooled".to_owned(), &pooled);
        Ok(pooled)
    }
}
