//! Encoder, decoder and heads. Norms stand behind the residuals, as in the reference.

use candle_core::Tensor;

use super::config::{DetrConfig, StackConfig};
use super::names::Layout;
use crate::compute::{LayerNorm, Linear, chain};
use crate::error::{Error, Result};
use crate::models::positioned::{Attention, EncoderLayer, FeedForward, Mlp, plus};
use crate::models::reader::Reader;

/// torch's default.
const LAYER_NORM_EPS: f32 = 1e-5;

/// `DetrDecoderLayer`.
#[derive(Debug)]
struct DecoderLayer {
    self_attn: Attention,
    self_attn_layer_norm: LayerNorm,
    encoder_attn: Attention,
    encoder_attn_layer_norm: LayerNorm,
    feed_forward: FeedForward,
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
        let attention = |reader: &Reader<'_>, name: &str, heads: usize| {
            Attention::new(&reader.at(name), config.d_model, heads, names.out_proj, config.layout.packed)
        };
        let feed_forward = |reader: &Reader<'_>, ffn_dim: usize, last: &str| {
            let fc1 = reader.linear(names.fc1, ffn_dim, config.d_model)?;
            let fc2 = reader.linear(names.fc2, config.d_model, ffn_dim)?;
            Ok(FeedForward { fc1, fc2, final_layer_norm: norm(reader, last)?, activation: config.activation })
        };
        let encoder_layer = |reader: Reader<'_>| {
            Ok(EncoderLayer {
                self_attn: attention(&reader, names.self_attn, encoder.heads)?,
                self_attn_layer_norm: norm(&reader, names.self_attn_norm)?,
                feed_forward: feed_forward(&reader, encoder.ffn_dim, names.encoder_final_norm)?,
            })
        };
        let decoder_layer = |reader: Reader<'_>| {
            Ok(DecoderLayer {
                self_attn: attention(&reader, names.self_attn, decoder.heads)?,
                self_attn_layer_norm: norm(&reader, names.self_attn_norm)?,
                encoder_attn: attention(&reader, names.encoder_attn, decoder.heads)?,
                encoder_attn_layer_norm: norm(&reader, names.encoder_attn_norm)?,
                feed_forward: feed_forward(&reader, decoder.ffn_dim, names.decoder_final_norm)?,
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
            x = layer.forward(&x, positions)?;
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
    boxes: Mlp,
}

impl Heads {
    pub(super) fn new(reader: &Reader<'_>, config: &DetrConfig, classes: usize) -> Result<Self> {
        let size = config.d_model;
        Ok(Self {
            // One more for "no object".
            class: reader.linear(config.layout.class_head, classes + 1, size)?,
            boxes: Mlp::new(&reader.at(config.layout.box_head), &[size, size, size, 4])?,
        })
    }

    /// Logits `[1, queries, classes + 1]`, and the boxes' centre and size before the sigmoid `[1, queries, 4]`.
    pub(super) fn forward(&self, x: &Tensor) -> Result<(Tensor, Tensor)> {
        Ok((chain(x).linear(&self.class).run()?, self.boxes.forward(x)?))
    }
}
