//! The choice of queries among the encoder's cells, and the decoder that refines their boxes layer by layer.

use candle_core::{DType, Device, Tensor};

use super::config::RtDetrConfig;
use crate::compute::{Backend, LayerNorm, Linear, Sampling, chain, tensor};
use crate::error::{Error, Result};
use crate::models::positioned::{Attention, FeedForward, Mlp, plus};
use crate::models::reader::Reader;
use crate::models::transformer::Stages;

/// Side of an anchor of the finest map, as a share of the picture; twice as much for every map after it.
const ANCHOR: f32 = 0.05;
/// Anchors closer to a border than this, or wider, are no candidates.
const BORDER: f32 = 1e-2;
/// Keeps the logarithm of a coordinate finite.
const EPS: f32 = 1e-5;

/// Maps of several sizes as one sequence.
#[derive(Debug)]
pub(super) struct Memory {
    /// Shape: `[1, cells, size]`.
    pub(super) cells: Tensor,
    /// Height and width of each map.
    pub(super) levels: Vec<(usize, usize)>,
}

/// What the decoder begins with.
#[derive(Debug)]
pub(super) struct Queries {
    /// Shape: `[1, queries, size]`.
    pub(super) content: Tensor,
    /// Centre and size as shares of the picture. Shape: `[queries, 4]`.
    pub(super) boxes: Vec<f32>,
    /// The cell that each stands for.
    pub(super) cells: Vec<u32>,
}

/// `enc_output`, `enc_score_head` and `enc_bbox_head`.
#[derive(Debug)]
pub(super) struct QuerySelection {
    output: Linear,
    output_norm: LayerNorm,
    score_head: Linear,
    bbox_head: Mlp,
    num_queries: usize,
    classes: usize,
}

impl QuerySelection {
    /// `reader` stands at `model`.
    pub(super) fn new(reader: &Reader<'_>, config: &RtDetrConfig, classes: usize) -> Result<Self> {
        let size = config.d_model;
        Ok(Self {
            output: reader.at("enc_output").linear("0", size, size)?,
            output_norm: reader.at("enc_output").layer_norm("1", size, config.layer_norm_eps)?,
            score_head: reader.linear("enc_score_head", classes, size)?,
            bbox_head: Mlp::new(&reader.at("enc_bbox_head"), &[size, size, size, 4])?,
            num_queries: config.num_queries,
            classes,
        })
    }

    /// The cells whose best class scores most, best first; of equal ones the first.
    ///
    /// PARITY: the reference computes a box for every cell; here for the chosen ones, which are the same numbers.
    pub(super) fn choose(&self, memory: &Memory, backend: &Backend, stages: &mut Stages) -> Result<Queries> {
        let anchors = anchors(&memory.levels);
        let cells = candidates(&memory.cells, &anchors, backend)?;
        let output = chain(&cells).linear(&self.output).norm(&self.output_norm).run()?; // [1, cells, size]
        let logits = self.score_head.forward(&output)?; // [1, cells, classes]
        stages.note(|| "enc_outputs_class".to_owned(), &logits);
        let best: Vec<f32> = flat(&logits)?
            .chunks_exact(self.classes.max(1))
            .map(|row| row.iter().copied().fold(f32::NEG_INFINITY, f32::max))
            .collect();
        let mut order: Vec<u32> = (0..best.len() as u32).collect();
        let score = |cell: &u32| best.get(*cell as usize).copied().unwrap_or(f32::NEG_INFINITY);
        order.sort_by(|a, b| score(b).total_cmp(&score(a)));
        order.truncate(self.num_queries);
        let chosen = Tensor::new(order.as_slice(), output.device()).and_then(|ids| output.index_select(&ids, 1));
        let content = chosen.map_err(Error::tensor("queries"))?; // [1, queries, size]
        let mut boxes = flat(&self.bbox_head.forward(&content)?)?;
        for (place, cell) in boxes.as_chunks_mut::<4>().0.iter_mut().zip(&order) {
            match anchors.get(*cell as usize).copied().flatten() {
                Some(anchor) => place.iter_mut().zip(anchor).for_each(|(x, anchor)| *x = sigmoid(*x + logit(anchor))),
                // The reference adds the largest number there is.
                None => place.fill(1.0),
            }
        }
        Ok(Queries { content, boxes, cells: order })
    }
}

/// The anchor of every cell, centre and size; none where it is no candidate.
fn anchors(levels: &[(usize, usize)]) -> Vec<Option<[f32; 4]>> {
    let inside = |x: &f32| *x > BORDER && *x < 1.0 - BORDER;
    let of_level = |(level, &(height, width)): (usize, &(usize, usize))| {
        let side = ANCHOR * 2.0_f32.powi(level as i32);
        (0..height * width).map(move |cell| {
            let (x, y) = ((cell % width) as f32 + 0.5, (cell / width) as f32 + 0.5);
            Some([x / width as f32, y / height as f32, side, side]).filter(|anchor| anchor.iter().all(inside))
        })
    };
    levels.iter().enumerate().flat_map(of_level).collect()
}

/// The cells, those that are no candidates as zeros. Shape: unchanged.
fn candidates(cells: &Tensor, anchors: &[Option<[f32; 4]>], backend: &Backend) -> Result<Tensor> {
    if anchors.iter().all(Option::is_some) {
        return Ok(cells.clone());
    }
    let mask = anchors.iter().map(|anchor| f32::from(u8::from(anchor.is_some()))).collect();
    cells.broadcast_mul(&tensor(mask, &[1, anchors.len(), 1], backend)?).map_err(Error::tensor("candidates"))
}

/// `RTDetrV2DecoderLayer`, and the head that moves the boxes after it.
#[derive(Debug)]
struct DecoderLayer {
    self_attn: Attention,
    self_attn_layer_norm: LayerNorm,
    sampling_offsets: Linear,
    attention_weights: Linear,
    value_proj: Linear,
    output_proj: Linear,
    encoder_attn_layer_norm: LayerNorm,
    feed_forward: FeedForward,
    bbox_embed: Mlp,
}

impl DecoderLayer {
    fn new(reader: &Reader<'_>, config: &RtDetrConfig, bbox_embed: &Reader<'_>) -> Result<Self> {
        let (size, stack, layout) = (config.d_model, config.decoder, config.layout);
        let places = stack.heads * config.levels * config.points;
        let norm = |name: &str| reader.layer_norm(name, size, config.layer_norm_eps);
        let cross = reader.at("encoder_attn");
        Ok(Self {
            self_attn: Attention::new(&reader.at("self_attn"), size, stack.heads, layout.out_proj, false)?,
            self_attn_layer_norm: norm("self_attn_layer_norm")?,
            sampling_offsets: cross.linear("sampling_offsets", 2 * places, size)?,
            attention_weights: cross.linear("attention_weights", places, size)?,
            value_proj: cross.linear("value_proj", size, size)?,
            output_proj: cross.linear("output_proj", size, size)?,
            encoder_attn_layer_norm: norm("encoder_attn_layer_norm")?,
            feed_forward: FeedForward {
                fc1: reader.linear(layout.fc1, stack.ffn_dim, size)?,
                fc2: reader.linear(layout.fc2, size, stack.ffn_dim)?,
                final_layer_norm: norm("final_layer_norm")?,
                activation: stack.activation,
            },
            bbox_embed: Mlp::new(bbox_embed, &[size, size, size, 4])?,
        })
    }

    /// Shapes: `x` and `positions` `[1, queries, size]`, `boxes` `[queries, 4]` -> `[1, queries, size]`.
    fn forward(
        &self,
        x: &Tensor,
        positions: &Tensor,
        memory: &Memory,
        boxes: &[f32],
        sampling: &Sampling<'_>,
    ) -> Result<Tensor> {
        let x = self.self_attn_layer_norm.forward(&self.self_attn.look_around(x, positions)?)?;
        let placed = plus(&x, positions)?;
        let (offsets, scores) = (self.sampling_offsets.forward(&placed)?, self.attention_weights.forward(&placed)?);
        let values = self.value_proj.forward(&memory.cells)?; // [1, cells, size]
        let seen = sampling.attend(&values, &offsets, &scores, boxes)?; // [1, queries, size]
        let x = chain(&seen).linear(&self.output_proj).plus(&x).run()?;
        self.feed_forward.forward(&self.encoder_attn_layer_norm.forward(&x)?)
    }
}

/// `RTDetrV2Decoder`.
#[derive(Debug)]
pub(super) struct Decoder {
    query_pos_head: Mlp,
    layers: Vec<DecoderLayer>,
    /// Of the last layer: what the others would say is used in training only.
    class_embed: Linear,
    heads: usize,
    points: usize,
    offset_scale: f32,
    discrete: bool,
}

impl Decoder {
    /// `reader` stands at the checkpoint's root.
    pub(super) fn new(reader: &Reader<'_>, config: &RtDetrConfig, classes: usize) -> Result<Self> {
        let size = config.d_model;
        let decoder = reader.at("model.decoder");
        let boxes = reader.at(config.layout.box_head);
        let last = config.decoder.layers.saturating_sub(1);
        Ok(Self {
            query_pos_head: Mlp::new(&decoder.at("query_pos_head"), &[4, 2 * size, size])?,
            layers: (0..config.decoder.layers)
                .map(|n| DecoderLayer::new(&decoder.at("layers").at(n), config, &boxes.at(n)))
                .collect::<Result<_>>()?,
            class_embed: reader.at(config.layout.class_head).linear(&last.to_string(), classes, size)?,
            heads: config.decoder.heads,
            points: config.points,
            offset_scale: config.offset_scale,
            discrete: config.discrete,
        })
    }

    /// The last layer's output `[1, queries, size]`, its logits `[1, queries, classes]` and boxes `[queries, 4]`.
    pub(super) fn forward(
        &self,
        memory: &Memory,
        queries: &Queries,
        backend: &Backend,
        stages: &mut Stages,
        index: usize,
    ) -> Result<(Tensor, Tensor, Vec<f32>)> {
        let sampling = Sampling {
            levels: &memory.levels,
            heads: self.heads,
            points: self.points,
            scale: self.offset_scale,
            discrete: self.discrete,
        };
        let (mut x, mut boxes) = (queries.content.clone(), queries.boxes.clone());
        for (n, layer) in self.layers.iter().enumerate() {
            let places = tensor(boxes.clone(), &[1, boxes.len() / 4, 4], backend)?;
            let positions = self.query_pos_head.forward(&places)?; // [1, queries, size]
            x = layer.forward(&x, &positions, memory, &boxes, &sampling)?;
            let moved = flat(&layer.bbox_embed.forward(&x)?)?;
            boxes.iter_mut().zip(moved).for_each(|(old, by)| *old = sigmoid(by + logit(*old)));
            stages.note(|| format!("hidden.{n}.{index}"), &x);
        }
        Ok((x.clone(), self.class_embed.forward(&x)?, boxes))
    }
}

pub(super) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

/// `inverse_sigmoid`.
fn logit(x: f32) -> f32 {
    let x = x.clamp(0.0, 1.0);
    (x.max(EPS) / (1.0 - x).max(EPS)).ln()
}

pub(super) fn flat(x: &Tensor) -> Result<Vec<f32>> {
    x.to_device(&Device::Cpu)
        .and_then(|x| x.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>())
        .map_err(Error::tensor("detector output"))
}
