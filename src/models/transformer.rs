//! The pre-norm transformer that both towers of CLIP and `SigLIP` share, and what its stages put out.
//!
//! Source: transformers 5.23, `modeling_clip.py` (`CLIPAttention`, `CLIPMLP`, `CLIPEncoderLayer`, `CLIPEncoder`; the
//! same in `modeling_siglip.py`). Names are the checkpoint's.

use candle_core::Tensor;
use rayon::prelude::*;

use super::config::TowerConfig;
use super::reader::Reader;
use crate::compute::{Activation, LayerNorm, Linear, Mask, self_attention};
use crate::error::{Error, Result};

/// Keeps what the stages of a forward pass put out, for comparing them with the reference; off, it costs nothing.
#[derive(Debug, Default)]
pub(super) struct Stages {
    kept: Option<Vec<(String, Tensor)>>,
}

impl Stages {
    /// Keeps nothing.
    pub fn off() -> Self {
        Self { kept: None }
    }

    /// Keeps everything.
    pub fn on() -> Self {
        Self { kept: Some(Vec::new()) }
    }

    /// Notes one output.
    pub fn note(&mut self, name: impl FnOnce() -> String, output: &Tensor) {
        if let Some(kept) = &mut self.kept {
            kept.push((name(), output.clone()));
        }
    }

    /// What was kept, in order.
    pub fn into_vec(self) -> Vec<(String, Tensor)> {
        self.kept.unwrap_or_default()
    }
}

#[derive(Debug)]
struct Attention {
    qkv: Linear,
    out_proj: Linear,
    heads: usize,
}

impl Attention {
    fn new(reader: &Reader<'_>, config: &TowerConfig) -> Result<Self> {
        let (hidden, heads) = (config.hidden_size, config.num_attention_heads);
        Ok(Self { qkv: reader.qkv(hidden, heads)?, out_proj: reader.linear("out_proj", hidden, hidden)?, heads })
    }

    /// Shape: `[batch, len, hidden]`, unchanged.
    fn forward(&self, x: &Tensor, mask: Mask) -> Result<Tensor> {
        let qkv = self.qkv.forward(x)?; // [batch, len, 3 * hidden]
        self.out_proj.forward(&self_attention(&qkv, self.heads, mask)?)
    }
}

/// Two linear layers with an activation between them.
#[derive(Debug)]
pub(super) struct Mlp {
    fc1: Linear,
    fc2: Linear,
    activation: Activation,
}

impl Mlp {
    pub fn new(reader: &Reader<'_>, config: &TowerConfig) -> Result<Self> {
        let (hidden, intermediate) = (config.hidden_size, config.intermediate_size);
        Ok(Self {
            fc1: reader.linear("fc1", intermediate, hidden)?,
            fc2: reader.linear("fc2", hidden, intermediate)?,
            activation: config.hidden_act,
        })
    }

    /// Shape: `[.., hidden]`, unchanged.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.fc2.forward(&self.fc1.forward_with(x, Some(self.activation))?)
    }
}

#[derive(Debug)]
struct EncoderLayer {
    self_attn: Attention,
    layer_norm1: LayerNorm,
    mlp: Mlp,
    layer_norm2: LayerNorm,
}

impl EncoderLayer {
    fn new(reader: &Reader<'_>, config: &TowerConfig) -> Result<Self> {
        let (size, eps) = (config.hidden_size, config.layer_norm_eps);
        Ok(Self {
            self_attn: Attention::new(&reader.at("self_attn"), config)?,
            layer_norm1: reader.layer_norm("layer_norm1", size, eps)?,
            mlp: Mlp::new(&reader.at("mlp"), config)?,
            layer_norm2: reader.layer_norm("layer_norm2", size, eps)?,
        })
    }

    /// Shape: `[batch, len, hidden]`, unchanged.
    fn forward(&self, x: &Tensor, mask: Mask) -> Result<Tensor> {
        let attended = add(x, &self.self_attn.forward(&self.layer_norm1.forward(x)?, mask)?)?;
        add(&attended, &self.mlp.forward(&self.layer_norm2.forward(&attended)?)?)
    }
}

/// The layers of a tower, one after the other.
#[derive(Debug)]
pub(super) struct Encoder {
    layers: Vec<EncoderLayer>,
    mask: Mask,
}

impl Encoder {
    pub fn new(reader: &Reader<'_>, config: &TowerConfig, mask: Mask) -> Result<Self> {
        let layers = (0..config.num_hidden_layers)
            .into_par_iter()
            .map(|i| EncoderLayer::new(&reader.at(format_args!("layers.{i}")), config))
            .collect::<Result<Vec<_>>>()?;
        Ok(Self { layers, mask })
    }

    /// Shape: `[batch, len, hidden]`, unchanged.
    pub fn forward(&self, x: Tensor, stages: &mut Stages) -> Result<Tensor> {
        let mut x = x;
        for (i, layer) in self.layers.iter().enumerate() {
            x = layer.forward(&x, self.mask)?;
            stages.note(|| format!("layers.{i}"), &x);
        }
        Ok(x)
    }
}

/// The sum of two tensors of one shape.
pub(super) fn add(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    (a + b).map_err(Error::tensor("residual"))
}
