//! Encoder, decoder and heads. Norms stand behind the residuals, as in the reference.

use candle_core::Tensor;

use super::config::{DetrConfig, StackConfig};
use super::names::Layout;
use crate::compute::{Activation, LayerNorm, Linear, Mask, chain};
use crate::error::{Error, Result};
use crate::models::reader::{Reader, head_scale};

/// torch's default.
const LAYER_NORM_EPS: f32 = 1e-5;

/// `DetrSelfAttention` or `DetrCrossAttention`.
#[derive(Debug)]
struct Attention {
    /// Scaled by `1 / sqrt(head size)`.
    q_proj: Linear,
    k_proj: Linear,
    v_proj: Linear,
    out_proj: Linear,
    heads: usize,
}

impl Attention {
    fn new(reader: &Reader<'_>, config: &DetrConfig, heads: usize) -> Result<Self> {
        let size = config.d_model;
        let mut projections = if config.layout.packed {
            packed(reader, size)?
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
        let out_proj = reader.linear(config.layout.layer.out_proj, size, size)?;
        Ok(Self { q_proj: q?, k_proj: k?, v_proj: v?, out_proj, heads })
    }

    /// Shapes: `q` and `residual` `[1, queries, size]`, `k` and `v` `[1, keys, size]` -> `[1, queries, size]`.
    fn forward(&self, q: &Tensor, k: &Tensor, v: &Tensor, residual: &Tensor) -> Result<Tensor> {
        let (keys, values) = (chain(k).linear(&self.k_proj), chain(v).linear(&self.v_proj));
        chain(q)
            .linear(&self.q_proj)
            .attend_to_both(keys, values, self.heads, Mask::Full)
            .linear(&self.out_proj)
            .plus(residual)
            .run()
    }
}

/// Weight and bias of queries, keys and values that are one tensor, as in torch's `MultiheadAttention`.
fn packed(reader: &Reader<'_>, size: usize) -> Result<[(Vec<f32>, Vec<f32>); 3]> {
    let weight = reader.values("in_proj_weight", &[3 * size, size])?;
    let bias = reader.values("in_proj_bias", &[3 * size])?;
    let part = |n: usize| {
        let weight = weight.get(n * size * size..(n + 1) * size * size).unwrap_or_default().to_vec();
        (weight, bias.get(n * size..(n + 1) * size).unwrap_or_default().to_vec())
    };
    Ok([part(0), part(1), part(2)])
}

/// `DetrMLP` and the norm behind it.
#[derive(Debug)]
struct FeedForward {
    fc1: Linear,
    fc2: Linear,
    final_layer_norm: LayerNorm,
    activation: Activation,
}

impl FeedForward {
    fn new(reader: &Reader<'_>, config: &DetrConfig, ffn_dim: usize, norm: &str) -> Result<Self> {
        let names = config.layout.layer;
        Ok(Self {
            fc1: reader.linear(names.fc1, ffn_dim, config.d_model)?,
            fc2: reader.linear(names.fc2, config.d_model, ffn_dim)?,
            final_layer_norm: reader.layer_norm(norm, config.d_model, LAYER_NORM_EPS)?,
            activation: config.activation,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let x = chain(x).linear(&self.fc1).activation(self.activation).linear(&self.fc2).plus(x).run()?;
        self.final_layer_norm.forward(&x)
    }
}

/// `DetrEncoderLayer`.
#[derive(Debug)]
struct EncoderLayer {
    self_attn: Attention,
    self_attn_layer_norm: LayerNorm,
    feed_forward: FeedForward,
}

/// `DetrDecoderLayer`.
#[derive(Debug)]
struct DecoderLayer {
    self_attn: Attention,
    self_attn_layer_norm: LayerNorm,
    encoder_attn: Attention,
    encoder_attn_layer_norm: LayerNorm,
    feed_forward: FeedForward,
}

fn plus(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    (x + y).map_err(Error::tensor("positions"))
}

/// Encoder and decoder.
#[derive(Debug)]
pub(super) struct Transformer {
    encoder: Vec<EncoderLayer>,
    decoder: Vec<DecoderLayer>,
    /// `model.decoder.layernorm`
    layernorm: LayerNorm,
}

impl Transformer {
    pub(super) fn new(reader: &Reader<'_>, config: &DetrConfig) -> Result<Self> {
        let Layout { layer: names, .. } = config.layout;
        let norm = |reader: &Reader<'_>, name: &str| reader.layer_norm(name, config.d_model, LAYER_NORM_EPS);
        let layers = |place: &'static str, stack: StackConfig| {
            (0..stack.layers).map(move |n| reader.at(place).at("layers").at(n))
        };
        let (encoder, decoder) = (config.encoder, config.decoder);
        let encoder_layer = |reader: Reader<'_>| {
            Ok(EncoderLayer {
                self_attn: Attention::new(&reader.at(names.self_attn), config, encoder.heads)?,
                self_attn_layer_norm: norm(&reader, names.self_attn_norm)?,
                feed_forward: FeedForward::new(&reader, config, encoder.ffn_dim, names.encoder_final_norm)?,
            })
        };
        let decoder_layer = |reader: Reader<'_>| {
            Ok(DecoderLayer {
                self_attn: Attention::new(&reader.at(names.self_attn), config, decoder.heads)?,
                self_attn_layer_norm: norm(&reader, names.self_attn_norm)?,
                encoder_attn: Attention::new(&reader.at(names.encoder_attn), config, decoder.heads)?,
                encoder_attn_layer_norm: norm(&reader, names.encoder_attn_norm)?,
                feed_forward: FeedForward::new(&reader, config, decoder.ffn_dim, names.decoder_final_norm)?,
            })
        };
        Ok(Self {
            encoder: layers(config.layout.encoder, encoder).map(encoder_layer).collect::<Result<_>>()?,
            decoder: layers(config.layout.decoder, decoder).map(decoder_layer).collect::<Result<_>>()?,
            layernorm: norm(&reader.at(config.layout.decoder), config.layout.decoder_norm)?,
        })
    }

    /// Shapes: tokens and their positions `[1, cells, size]` -> `[1, cells, size]`.
    pub(super) fn encode(&self, tokens: &Tensor, positions: &Tensor) -> Result<Tensor> {
        let mut x = tokens.clone();
        for layer in &self.encoder {
            let placed = plus(&x, positions)?;
            x = layer.self_attn.forward(&placed, &placed, &x, &x)?;
            x = layer.feed_forward.forward(&layer.self_attn_layer_norm.forward(&x)?)?;
        }
        Ok(x)
    }

    /// Shapes: `memory` and `positions` `[1, cells, size]`, `queries` `[1, queries, size]` -> `[1, queries, size]`.
    pub(super) fn decode(&self, memory: &Tensor, positions: &Tensor, queries: &Tensor) -> Result<Tensor> {
        let keys = plus(memory, positions)?;
        // What the queries ask for begins as nothing: only where they stand is learned.
        let mut x = queries.zeros_like().map_err(Error::tensor("queries"))?;
        for layer in &self.decoder {
            let placed = plus(&x, queries)?;
            x = layer.self_attn.forward(&placed, &placed, &x, &x)?;
            x = layer.self_attn_layer_norm.forward(&x)?;
            x = layer.encoder_attn.forward(&plus(&x, queries)?, &keys, memory, &x)?;
            x = layer.feed_forward.forward(&layer.encoder_attn_layer_norm.forward(&x)?)?;
        }
        self.layernorm.forward(&x)
    }
}

/// The classifier, and `DetrMLPPredictionHead` for the boxes.
#[derive(Debug)]
pub(super) struct Heads {
    class: Linear,
    boxes: [Linear; 3],
}

impl Heads {
    pub(super) fn new(reader: &Reader<'_>, config: &DetrConfig, classes: usize) -> Result<Self> {
        let size = config.d_model;
        let layers = reader.at(config.layout.box_head).at("layers");
        Ok(Self {
            // One more for "no object".
            class: reader.linear(config.layout.class_head, classes + 1, size)?,
            boxes: [layers.linear("0", size, size)?, layers.linear("1", size, size)?, layers.linear("2", 4, size)?],
        })
    }

    /// Logits `[1, queries, classes + 1]`, and the boxes' centre and size before the sigmoid `[1, queries, 4]`.
    pub(super) fn forward(&self, x: &Tensor) -> Result<(Tensor, Tensor)> {
        let [first, second, third] = &self.boxes;
        let boxes = chain(x)
            .linear(first)
            .activation(Activation::Relu)
            .linear(second)
            .activation(Activation::Relu)
            .linear(third)
            .run()?;
        Ok((chain(x).linear(&self.class).run()?, boxes))
    }
}
