//! Layers of the DETR family: attention whose queries and keys know where they stand, norms behind the residuals.
//!
//! Source: transformers 5.24, `modeling_detr.py` and `modeling_rt_detr_v2.py`.

use candle_core::Tensor;

use super::reader::{Reader, head_scale};
use crate::compute::{Activation, LayerNorm, Linear, Mask, chain};
use crate::error::{Error, Result};

/// Attention with four projections.
#[derive(Debug)]
pub(super) struct Attention {
    /// Scaled by `1 / sqrt(head size)`.
    q_proj: Linear,
    k_proj: Linear,
    v_proj: Linear,
    out_proj: Linear,
    heads: usize,
}

impl Attention {
    /// `packed` where queries, keys and values are one tensor, as in torch's `MultiheadAttention`.
    pub(super) fn new(reader: &Reader<'_>, size: usize, heads: usize, out_proj: &str, packed: bool) -> Result<Self> {
        let mut projections = if packed {
            unpacked(reader, size)?
        } else {
            let one = |name: &str| {
                let reader = reader.at(name);
                Ok((reader.values("weight", &[size, size])?, reader.values("bias", &[size])?))
            };
            [one("q_proj")?, one("k_proj")?, one("v_proj")?]
        };
        let [(weight, bias), ..] = &mut projections;
        let scale = head_scale(size, heads);
        weight.iter_mut().chain(bias).for_each(|value| *value *= scale);
        let [q, k, v] = projections.map(|(weight, bias)| reader.linear_from(size, size, weight, Some(bias)));
        let out_proj = reader.linear(out_proj, size, size)?;
        Ok(Self { q_proj: q?, k_proj: k?, v_proj: v?, out_proj, heads })
    }

    /// Shapes: `q` and `residual` `[1, queries, size]`, `k` and `v` `[1, keys, size]` -> `[1, queries, size]`.
    pub(super) fn forward(&self, q: &Tensor, k: &Tensor, v: &Tensor, residual: &Tensor) -> Result<Tensor> {
        let (keys, values) = (chain(k).linear(&self.k_proj), chain(v).linear(&self.v_proj));
        chain(q)
            .linear(&self.q_proj)
            .attend_to_both(keys, values, self.heads, Mask::Full)
            .linear(&self.out_proj)
            .plus(residual)
            .run()
    }

    /// A sequence that looks at itself. Shapes: `[1, len, size]`, unchanged.
    pub(super) fn look_around(&self, x: &Tensor, positions: &Tensor) -> Result<Tensor> {
        let placed = plus(x, positions)?;
        self.forward(&placed, &placed, x, x)
    }
}

/// Weight and bias of queries, keys and values that are one tensor.
fn unpacked(reader: &Reader<'_>, size: usize) -> Result<[(Vec<f32>, Vec<f32>); 3]> {
    let weight = reader.values("in_proj_weight", &[3 * size, size])?;
    let bias = reader.values("in_proj_bias", &[3 * size])?;
    let part = |n: usize| {
        let weight = weight.get(n * size * size..(n + 1) * size * size).unwrap_or_default().to_vec();
        (weight, bias.get(n * size..(n + 1) * size).unwrap_or_default().to_vec())
    };
    Ok([part(0), part(1), part(2)])
}

/// Two linear layers and the norm behind them.
#[derive(Debug)]
pub(super) struct FeedForward {
    pub(super) fc1: Linear,
    pub(super) fc2: Linear,
    pub(super) final_layer_norm: LayerNorm,
    pub(super) activation: Activation,
}

impl FeedForward {
    /// Shapes: `[1, len, size]`, unchanged.
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let x = chain(x).linear(&self.fc1).activation(self.activation).linear(&self.fc2).plus(x).run()?;
        self.final_layer_norm.forward(&x)
    }
}

/// `DetrEncoderLayer`, `RTDetrEncoderLayer`.
#[derive(Debug)]
pub(super) struct EncoderLayer {
    pub(super) self_attn: Attention,
    pub(super) self_attn_layer_norm: LayerNorm,
    pub(super) feed_forward: FeedForward,
}

impl EncoderLayer {
    /// Shapes: `x` and `positions` `[1, cells, size]` -> `[1, cells, size]`.
    pub(super) fn forward(&self, x: &Tensor, positions: &Tensor) -> Result<Tensor> {
        let x = self.self_attn.look_around(x, positions)?;
        self.feed_forward.forward(&self.self_attn_layer_norm.forward(&x)?)
    }
}

/// Linear layers with `ReLU` between them: `DetrMLPPredictionHead`, `RTDetrMLPPredictionHead`.
#[derive(Debug)]
pub(super) struct Mlp(Vec<Linear>);

impl Mlp {
    /// `layers.0`, `layers.1` and so on. `widths` are those of the input and of every layer.
    pub(super) fn new(reader: &Reader<'_>, widths: &[usize]) -> Result<Self> {
        let layers = reader.at("layers");
        let pairs = widths.iter().zip(widths.iter().skip(1)).enumerate();
        Ok(Self(pairs.map(|(n, (from, to))| layers.linear(&n.to_string(), *to, *from)).collect::<Result<_>>()?))
    }

    /// Shapes: `[.., first width]` -> `[.., last width]`.
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mut chain = chain(x);
        for (n, layer) in self.0.iter().enumerate() {
            chain = chain.linear(layer);
            if n + 1 < self.0.len() {
                chain = chain.activation(Activation::Relu);
            }
        }
        chain.run()
    }
}

/// A sum of two tensors of one shape.
pub(super) fn plus(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    (x + y).map_err(Error::tensor("positions"))
}
