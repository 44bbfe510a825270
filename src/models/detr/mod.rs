//! DETR: a set of boxes from a convolutional backbone and a transformer, without anchors and without suppression.
//!
//! Source: Carion et al. 2020, arXiv:2005.12872; transformers 5.24, `modeling_detr.py` and `image_processing_pil_detr.py`;
//! facebookresearch/detr. Checkpoints: the hub's with timm's names in the backbone, its `no_timm` ones, the authors' `.pth`.

mod config;
mod names;
mod position;
#[cfg(test)]
mod tests;
mod transformer;

use candle_core::{DType, Device, Tensor};
use image::RgbImage;
use serde_json::json;

use self::config::DetrConfig;
use self::names::Layout;
use self::transformer::{Heads, Transformer};
use super::checkpoint::Checkpoint;
use super::detector::{Counting, Detection, Geometry, Network, Parts, Settings, Stage};
use super::reader::{self, Reader};
use super::resnet::Resnet;
use super::transformer::Stages;
use crate::compute::{Backend, Linear, tensor};
use crate::error::{Error, Result};
use crate::geometry::CxcywhNorm;
use crate::pixels::{DetectorInput, Proportional};

/// Published files have under 1 KB.
const MAX_PREPROCESSOR_BYTES: u64 = 1 << 20;
/// Classes of a checkpoint that is no mistake.
const MOST_CLASSES: usize = 1 << 14;

/// Score from which on a box is counted where none is named.
///
/// The decoder makes its queries agree on one box for each thing, so scores lie near 0 or 1 and no second constant is needed
/// for whether a class is there at all. The authors' demo keeps 0.7 (facebookresearch/detr, `detr_demo.ipynb`); the hub's card
/// shows 0.9, which finds fewer of the small ones; the processor's default of 0.5 is made for evaluation, where a wrong box
/// costs little.
const COUNTED: f32 = 0.7;

/// The network.
#[derive(Debug)]
pub struct Detr {
    backend: Backend,
    config: DetrConfig,
    classes: usize,
    input: Proportional,
    backbone: Resnet,
    /// The pointwise convolution `input_projection` as a product over cells.
    input_projection: Linear,
    /// Shape: `[1, queries, size]`.
    query_position_embeddings: Tensor,
    transformer: Transformer,
    heads: Heads,
}

/// What the network says of one picture.
#[derive(Debug, Clone)]
struct Prediction {
    /// The decoder's output. Shape: `[queries, size]`.
    last_hidden_state: Vec<f32>,
    /// Shape: `[queries, classes + 1]`; the last class is "no object".
    logits: Vec<f32>,
    /// Centre and size as shares of the picture. Shape: `[queries, 4]`.
    boxes: Vec<f32>,
}

impl Detr {
    /// Whether a checkpoint is one of these.
    pub(super) fn recognises(checkpoint: &Checkpoint) -> bool {
        Layout::recognises(checkpoint)
    }

    /// Builds the network.
    ///
    /// # Errors
    /// A config or preprocessor that is not read here; a tensor is missing or has another shape: all of them are listed.
    pub(super) fn load(parts: &Parts<'_>) -> Result<Box<dyn Network>> {
        Self::build(parts).map(|network| Box::new(network) as Box<dyn Network>)
    }

    fn build(parts: &Parts<'_>) -> Result<Self> {
        let Parts { files, checkpoint, settings, backend } = *parts;
        let input = match &files.preprocessor {
            Some(blob) => Proportional::detr(Some(&blob.read_text(MAX_PREPROCESSOR_BYTES, &files.id)?), &files.id)?,
            None => Proportional::detr(None, &files.id)?,
        };
        let config = DetrConfig::new(settings.json.as_ref().unwrap_or(&json!({})), checkpoint);
        let config = config.map_err(|reason| Settings::refused(files, reason))?;
        let head = format!("{}.weight", config.layout.class_head);
        let rows = checkpoint.get(&head).and_then(|entry| entry.shape.first().copied()).unwrap_or(0);
        // Of a checkpoint without a classifier that can be one, the reader says what is wrong.
        let classes = rows.checked_sub(1).filter(|classes| (1..=MOST_CLASSES).contains(classes));
        let classes = classes.unwrap_or_else(|| settings.labels.as_ref().map_or(1, Vec::len));
        reader::load(checkpoint, backend, &files.id, |r| Self::new(r, &config, classes, &input))
    }

    fn new(reader: &Reader<'_>, config: &DetrConfig, classes: usize, input: &Proportional) -> Result<Self> {
        let (size, channels, layout) = (config.d_model, config.backbone.outputs(), &config.layout);
        let projection = reader.at(layout.input_projection);
        let weight = projection.values("weight", &[size, channels, 1, 1])?;
        let bias = projection.values("bias", &[size])?;
        let queries = reader.at(layout.query_position_embeddings).values("weight", &[config.num_queries, size])?;
        let queries_shape = [1, queries.len() / size.max(1), size];
        Ok(Self {
            backend: reader.backend().clone(),
            classes,
            input: input.clone(),
            backbone: Resnet::new(&reader.at(&layout.backbone), &config.backbone)?,
            input_projection: projection.linear_from(size, channels, weight, Some(bias))?,
            query_position_embeddings: tensor(queries, &queries_shape, reader.backend())?,
            transformer: Transformer::new(reader, config)?,
            heads: Heads::new(reader, config, classes)?,
            config: config.clone(),
        })
    }

    /// What the network says of each picture of a batch, padded to the largest height and width as the reference does.
    ///
    /// PARITY: the reference runs its transformer over the padding's cells too and masks them; here a picture's own cells are
    /// cut out of the backbone's map first, which gives the same numbers and costs less.
    fn forward(&self, batch: &[DetectorInput], stages: &mut Stages) -> Result<Vec<Prediction>> {
        let (height, width) = batch.iter().fold((0, 0), |(h, w), one| (h.max(one.height), w.max(one.width)));
        let pixels = if let [one] = batch { one.pixels.clone() } else { padded(batch, height, width) };
        let x = tensor(pixels, &[batch.len(), 3, height, width], &self.backend)?; // [b, 3, h, w]
        let map = self.backbone.forward(&x)?; // [b, h / stride, w / stride, channels]
        stages.note(|| "feature_map".to_owned(), &map);
        batch
            .iter()
            .enumerate()
            .map(|(index, one)| {
                let cut = own_cells(&map, index, (one.height, height), (one.width, width));
                let (cells, lines, columns) = cut.map_err(Error::tensor("feature map"))?;
                self.predict(&cells, lines, columns, index, stages)
            })
            .collect()
    }

    /// Shape: `cells` `[1, lines * columns, channels]`.
    fn predict(
        &self,
        cells: &Tensor,
        lines: usize,
        columns: usize,
        index: usize,
        stages: &mut Stages,
    ) -> Result<Prediction> {
        let positions = position::sine_positions(lines, columns, self.config.d_model, &self.backend)?; // [1, cells, size]
        let tokens = self.input_projection.forward(cells)?; // [1, cells, size]
        let memory = self.transformer.encode(&tokens, &positions)?; // [1, cells, size]
        let hidden = self.transformer.decode(&memory, &positions, &self.query_position_embeddings)?; // [1, queries, size]
        let (logits, boxes) = self.heads.forward(&hidden)?;
        for (name, stage) in [
            ("position_embeddings", &positions),
            ("projected", &tokens),
            ("encoder_last_hidden_state", &memory),
            ("last_hidden_state", &hidden),
        ] {
            stages.note(|| format!("{name}.{index}"), stage);
        }
        let mut boxes = flat(&boxes)?;
        for value in &mut boxes {
            *value = 1.0 / (1.0 + (-*value).exp());
        }
        Ok(Prediction { last_hidden_state: flat(&hidden)?, logits: flat(&logits)?, boxes })
    }

    /// Labels, scores and boxes in pixels: each query's best class but "no object".
    fn post_process(&self, prediction: &Prediction, (width, height): (u32, u32), floor: f32) -> Vec<Detection> {
        let (width, height) = (width as f32, height as f32);
        let rows = prediction.logits.chunks_exact(self.classes + 1).zip(prediction.boxes.as_chunks::<4>().0);
        let found = rows.filter_map(|(logits, &[cx, cy, w, h])| {
            let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let sum: f32 = logits.iter().map(|logit| (logit - most).exp()).sum();
            let classes = logits.get(..self.classes)?.iter().enumerate();
            let (class, logit) = classes.max_by(|a, b| a.1.total_cmp(b.1).then(b.0.cmp(&a.0)))?;
            let score = (logit - most).exp() / sum;
            let bounds = CxcywhNorm { cx, cy, w, h }.to_px(width, height);
            // The reference leaves boxes that reach beyond the picture as they are; shown is what lies inside.
            let bounds = if bounds.is_finite() { bounds.clamped(width, height) } else { return None };
            (score >= floor && bounds.area() > 0.0).then_some(Detection { class, score, bounds })
        });
        let mut found: Vec<Detection> = found.collect();
        found.sort_by(|a, b| b.score.total_cmp(&a.score));
        found
    }

    fn prediction(&self, picture: &RgbImage, side: u32) -> Result<Prediction> {
        let batch = [self.input.apply(picture, side)];
        let mut predictions = self.forward(&batch, &mut Stages::off())?;
        predictions.pop().ok_or_else(|| Error::Argument { name: "picture", reason: "gave no prediction".into() })
    }
}

impl Network for Detr {
    fn classes(&self) -> usize {
        self.classes
    }

    fn geometry(&self) -> Geometry {
        Geometry {
            input_side: self.input.longest_edge(),
            finest_cell: self.config.backbone.stride(),
            // It was trained on shorter sides of 480 to 800 pixels; more costs much and is foreign to it.
            second_side: None,
        }
    }

    fn scale(&self, width: u32, height: u32) -> f32 {
        self.input.size(width, height, self.input.longest_edge()).0 as f32 / width.max(1) as f32
    }

    fn counting(&self) -> Counting {
        Counting::Threshold(COUNTED)
    }

    fn detect(&self, picture: &RgbImage, floor: f32, side: u32) -> Result<Vec<Detection>> {
        let prediction = self.prediction(picture, side)?;
        Ok(self.post_process(&prediction, picture.dimensions(), floor))
    }

    fn stages(&self, picture: &RgbImage) -> Result<Vec<Stage>> {
        let Prediction { last_hidden_state, logits, boxes } = self.prediction(picture, self.input.longest_edge())?;
        Ok(vec![
            Stage { name: "decoder last_hidden_state", width: self.config.d_model, values: last_hidden_state },
            Stage { name: "logits", width: self.classes + 1, values: logits },
            Stage { name: "pred_boxes", width: 4, values: boxes },
        ])
    }

    fn run_neutral(&self) -> Result<usize> {
        // A photo of 640 x 480, as most of COCO's.
        let (width, height) = self.input.size(640, 480, self.input.longest_edge());
        let (width, height) = (width as usize, height as usize);
        let grey = DetectorInput { pixels: vec![0.0; 3 * width * height], height, width };
        Ok(self.forward(&[grey], &mut Stages::off())?.iter().map(|one| one.boxes.len() / 4).sum())
    }
}

/// Shape: -> `[b, 3, height, width]` flattened; zeros right of and below each picture.
fn padded(batch: &[DetectorInput], height: usize, width: usize) -> Vec<f32> {
    let mut pixels = vec![0.0; batch.len() * 3 * height * width];
    for (picture, one) in pixels.chunks_mut((3 * height * width).max(1)).zip(batch) {
        let planes =
            picture.chunks_mut((height * width).max(1)).zip(one.pixels.chunks((one.height * one.width).max(1)));
        for (plane, own) in planes {
            for (line, own) in plane.chunks_mut(width.max(1)).zip(own.chunks(one.width.max(1))) {
                line.iter_mut().zip(own).for_each(|(pixel, own)| *pixel = *own);
            }
        }
    }
    pixels
}

/// The cells of one picture, without those of the padding, and how many lines and columns they are. Shapes: `map`
/// `[b, h, w, channels]` -> `[1, lines * columns, channels]`; `height` and `width` are the picture's and the batch's.
fn own_cells(
    map: &Tensor,
    index: usize,
    height: (usize, usize),
    width: (usize, usize),
) -> candle_core::Result<(Tensor, usize, usize)> {
    let (_, map_height, map_width, channels) = map.dims4()?;
    let (lines, columns) = (covered(height, map_height), covered(width, map_width));
    let own = map.narrow(0, index, 1)?.narrow(1, 0, lines)?.narrow(2, 0, columns)?;
    let cells = own.contiguous()?.reshape((1, lines * columns, channels))?;
    Ok((cells, lines, columns))
}

/// Of a map's lines, those whose nearest line of the padded input belongs to the picture, as torch finds it.
fn covered((own, padded): (usize, usize), map: usize) -> usize {
    let scale = padded as f32 / map as f32;
    (0..map).take_while(|line| ((*line as f32 * scale).floor() as usize).min(padded.saturating_sub(1)) < own).count()
}

fn flat(x: &Tensor) -> Result<Vec<f32>> {
    x.to_device(&Device::Cpu)
        .and_then(|x| x.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>())
        .map_err(Error::tensor("detector output"))
}
