//! The pre-norm transformer that both towers of CLIP and `SigLIP` share, and what its stages put out.
//!
//! Source: transformers 5.23, `modeling_clip.py` (`CLIPAttention`, `CLIPMLP`, `CLIPEncoderLayer`, `CLIPEncoder`; the
//! same in `modeling_siglip.py`). Names are the checkpoint's.

use candle_core::Tensor;
use rayon::prelude::*;

use super::config::TowerConfig;
use super::reader::Reader;
use crate::compute::{Activation, Chain, LayerNorm, Linear, Mask, chain, select_rows};
use crate::error::Result;

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

    /// Whether outputs are kept.
    pub fn are_kept(&self) -> bool {
        self.kept.is_some()
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

    /// Shape: `[batch, len, hidden]` -> the same, or with `wanted` one row of each sequence: `[batch, 1, hidden]`.
    fn forward<'a>(&'a self, x: Chain<'a>, mask: Mask<'_>, wanted: Option<&[usize]>) -> Chain<'a> {
        x.linear(&self.qkv).self_attention(self.heads, mask, wanted).linear(&self.out_proj)
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
    pub fn forward<'a>(&'a self, x: Chain<'a>) -> Chain<'a> {
        x.linear(&self.fc1).activation(self.activation).linear(&self.fc2)
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

    /// Shape: `[batch, len, hidden]` -> the same, or with `wanted` one row of each sequence: `[batch, 1, hidden]`.
    fn forward(&self, x: &Tensor, mask: Mask<'_>, wanted: Option<&[usize]>) -> Result<Tensor> {
        let attended = self.self_attn.forward(chain(x).norm(&self.layer_norm1), mask, wanted);
        let x = match wanted {
            Some(rows) => attended.plus(&select_rows(x, rows)?).run()?,
            None => attended.plus(x).run()?,
        };
        self.mlp.forward(chain(&x).norm(&self.layer_norm2)).plus(&x).run()
    }
}

/// The layers of a tower, one after the other.
#[derive(Debug)]
pub(super) struct Encoder {
    layers: Vec<EncoderLayer>,
    mask: Mask<'static>,
}

impl Encoder {
    pub fn new(reader: &Reader<'_>, config: &TowerConfig, mask: Mask<'static>) -> Result<Self> {
        let layers = (0..config.num_hidden_layers)
            .into_par_iter()
            .map(|i| EncoderLayer::new(&reader.at(format_args!("layers.{i}")), config))
            .collect::<Result<Vec<_>>>()?;
        Ok(Self { layers, mask })
    }

    /// All rows, or of sequence `i` row `wanted[i]` alone. What the last layer would compute for other rows nobody sees, so
    /// it is left out: nine twelfths of that layer.
    ///
    /// Shape: `[batch, len, hidden]` -> the same, or `[batch, 1, hidden]`.
    pub fn forward(&self, x: Tensor, wanted: Option<&[usize]>, stages: &mut Stages) -> Result<Tensor> {
        let mut x = x;
        // Whoever looks at the stages sees all of them.
        let early = wanted.filter(|_| !stages.are_kept());
        for (i, layer) in self.layers.iter().enumerate() {
            let last = i + 1 == self.layers.len();
            x = layer.forward(&x, self.mask, early.filter(|_| last))?;
            stages.note(|| format!("layers.{i}"), &x);
        }
        match wanted {
            Some(rows) if early.is_none() || self.layers.is_empty() => select_rows(&x, rows),
            _ => Ok(x),
        }
    }
}
