//! The pre-norm transformer that both towers of CLIP and `SigLIP` share, `DINOv2`'s and `ViT`'s; and what its stages put out.
//!
//! Source: transformers 5.23, `modeling_clip.py` (`CLIPAttention`, `CLIPMLP`, `CLIPEncoderLayer`, `CLIPEncoder`; the
//! same in `modeling_siglip.py`); transformers 5.24, `modeling_dinov2.py` and `modeling_vit.py`. Names are the checkpoint's.

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

/// What the parts of a layer are called in a checkpoint, and which of them there are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layout {
    /// The list of layers.
    layers: &'static str,
    /// Before the attention and before the MLP.
    norms: [&'static str; 2],
    /// Queries, keys and values.
    qkv: [&'static str; 3],
    qkv_bias: bool,
    out_proj: &'static str,
    /// The two layers of the MLP.
    mlp: [&'static str; 2],
    /// The first of them has two halves, one of which lets the other through, instead of an activation.
    gated: bool,
    /// A factor for each number that the attention and the MLP add.
    scales: Option<[&'static str; 2]>,
}

impl Layout {
    /// CLIP's, and `SigLIP`'s.
    pub const CLIP: Self = Self {
        layers: "layers",
        norms: ["layer_norm1", "layer_norm2"],
        qkv: ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"],
        qkv_bias: true,
        out_proj: "self_attn.out_proj",
        mlp: ["mlp.fc1", "mlp.fc2"],
        gated: false,
        scales: None,
    };
    /// `DINOv2`'s.
    pub fn dinov2(qkv_bias: bool, gated: bool) -> Self {
        Self {
            layers: "layer",
            norms: ["norm1", "norm2"],
            qkv: ["attention.attention.query", "attention.attention.key", "attention.attention.value"],
            qkv_bias,
            out_proj: "attention.output.dense",
            mlp: if gated { ["mlp.weights_in", "mlp.weights_out"] } else { ["mlp.fc1", "mlp.fc2"] },
            gated,
            scales: Some(["layer_scale1.lambda1", "layer_scale2.lambda1"]),
        }
    }

    /// `ViT`'s, as on the hub.
    pub fn vit(qkv_bias: bool) -> Self {
        Self {
            norms: ["layernorm_before", "layernorm_after"],
            mlp: ["intermediate.dense", "output.dense"],
            scales: None,
            ..Self::dinov2(qkv_bias, false)
        }
    }

    fn scale(&self, part: usize) -> Option<&'static str> {
        self.scales.and_then(|scales| scales.get(part).copied())
    }
}

#[derive(Debug)]
struct Attention {
    qkv: Linear,
    out_proj: Linear,
    heads: usize,
}

impl Attention {
    fn new(reader: &Reader<'_>, config: &TowerConfig, layout: &Layout) -> Result<Self> {
        let (hidden, heads) = (config.hidden_size, config.num_attention_heads);
        let qkv = reader.qkv(layout.qkv, layout.qkv_bias, hidden, heads)?;
        Ok(Self { qkv, out_proj: reader.linear_scaled(layout.out_proj, layout.scale(0), hidden, hidden)?, heads })
    }

    /// Shape: `[batch, len, hidden]` -> the same, or with `wanted` one row of each sequence: `[batch, 1, hidden]`.
    fn forward<'a>(&'a self, x: Chain<'a>, mask: Mask<'_>, wanted: Option<&[usize]>) -> Chain<'a> {
        x.linear(&self.qkv).self_attention(self.heads, mask, wanted).linear(&self.out_proj)
    }
}

/// Two linear layers with an activation or a gate between them.
#[derive(Debug)]
pub(super) struct Mlp {
    fc1: Linear,
    fc2: Linear,
    /// None where it is gated.
    activation: Option<Activation>,
}

impl Mlp {
    /// From the place of the layer that it belongs to.
    pub fn new(reader: &Reader<'_>, config: &TowerConfig, layout: &Layout) -> Result<Self> {
        let (hidden, intermediate) = (config.hidden_size, config.intermediate_size);
        let ([fc1, fc2], halves) = (layout.mlp, if layout.gated { 2 } else { 1 });
        Ok(Self {
            fc1: reader.linear(fc1, halves * intermediate, hidden)?,
            fc2: reader.linear_scaled(fc2, layout.scale(1), hidden, intermediate)?,
            activation: (!layout.gated).then_some(config.hidden_act),
        })
    }

    /// Shape: `[.., hidden]`, unchanged.
    pub fn forward<'a>(&'a self, x: Chain<'a>) -> Chain<'a> {
        let x = x.linear(&self.fc1);
        match self.activation {
            Some(activation) => x.activation(activation),
            None => x.gated(),
        }
        .linear(&self.fc2)
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
    fn new(reader: &Reader<'_>, config: &TowerConfig, layout: &Layout) -> Result<Self> {
        let (size, eps, [before, between]) = (config.hidden_size, config.layer_norm_eps, layout.norms);
        Ok(Self {
            self_attn: Attention::new(reader, config, layout)?,
            layer_norm1: reader.layer_norm(before, size, eps)?,
            mlp: Mlp::new(reader, config, layout)?,
            layer_norm2: reader.layer_norm(between, size, eps)?,
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
    /// As CLIP has them.
    pub fn new(reader: &Reader<'_>, config: &TowerConfig, mask: Mask<'static>) -> Result<Self> {
        Self::of(reader, config, &Layout::CLIP, mask)
    }

    /// Named as the layout says.
    pub fn of(reader: &Reader<'_>, config: &TowerConfig, layout: &Layout, mask: Mask<'static>) -> Result<Self> {
        let layers = (0..config.num_hidden_layers)
            .into_par_iter()
            .map(|i| EncoderLayer::new(&reader.at(format_args!("{}.{i}", layout.layers)), config, layout))
            .collect::<Result<Vec<_>>>()?;
        Ok(Self { layers, mask })
    }

    /// All rows, or of sequence `i` row `wanted[i]` alone. What the last layer would compute for other rows nobody sees, so
    /// it is left out: nine twelfths of that layer.
    ///
    /// Shape: `[batch, len, hidden]` -> the same, or `[batch, 1, hidden]`.
    pub fn forward(&self, x: Tensor, wanted: Option<&[usize]>, stages: &mut Stages) -> Result<Tensor> {
        self.forward_under(self.mask, x, wanted, stages)
    }

    /// As [`Encoder::forward`], under another mask than its own.
    pub fn forward_under(
        &self,
        mask: Mask<'_>,
        x: Tensor,
        wanted: Option<&[usize]>,
        stages: &mut Stages,
    ) -> Result<Tensor> {
        let mut x = x;
        // Whoever looks at the stages sees all of them.
        let early = wanted.filter(|_| !stages.are_kept());
        for (i, layer) in self.layers.iter().enumerate() {
            let last = i + 1 == self.layers.len();
            x = layer.forward(&x, mask, early.filter(|_| last))?;
            stages.note(|| format!("layers.{i}"), &x);
        }
        match wanted {
            Some(rows) if early.is_none() || self.layers.is_empty() => select_rows(&x, rows),
            _ => Ok(x),
        }
    }
}
