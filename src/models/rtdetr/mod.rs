//! RT-DETR and RT-DETRv2: a set of boxes from a ResNet-vd, a hybrid encoder and a decoder that looks at a few places only.
//!
//! Source: Lv et al. 2023, arXiv:2304.08069, and 2024, arXiv:2407.17140; transformers 5.24, `modeling_rt_detr_v2.py`,
//! `modeling_rt_detr.py`, `modeling_rt_detr_resnet.py`, `image_processing_pil_rt_detr.py`. The two versions have the same tensors, and
//! with the default settings, which all published files have, the same attention.

mod config;
mod decoder;
mod encoder;
#[cfg(test)]
mod tests;

use candle_core::Tensor;
use image::RgbImage;
use serde_json::json;

use self::config::RtDetrConfig;
use self::decoder::{Decoder, Memory, QuerySelection, flat, sigmoid};
use self::encoder::HybridEncoder;
use super::checkpoint::Checkpoint;
use super::detector::{Counting, Detection, Geometry, Network, Parts, Settings, Stage};
use super::reader::{self, Reader};
use super::resnet::Resnet;
use super::transformer::Stages;
use crate::compute::{Backend, ConvShape, PixelConv, PixelMap, tensor};
use crate::error::{Error, Result};
use crate::geometry::CxcywhNorm;
use crate::pixels::{DetectorInput, Proportional};

/// Published files have under 1 KB.
const MAX_PREPROCESSOR_BYTES: u64 = 1 << 20;
/// Classes of a checkpoint that is no mistake.
const MOST_CLASSES: usize = 1 << 14;

/// Score from which on a box is counted where none is named.
///
/// Scores were trained to say how well a box overlaps its thing (varifocal loss), not only what it is, so they are lower than
/// DETR's: one half asks for a box that fits by half, the loosest that COCO's evaluation takes for found, and is the reference
/// processor's default (`post_process_object_detection`). The authors' demo draws from 0.6 on (lyuwenyu/RT-DETR,
/// `references/deploy`). Neither has been measured here.
const COUNTED: f32 = 0.5;

/// The network.
#[derive(Debug)]
pub struct RtDetr {
    backend: Backend,
    classes: usize,
    d_model: usize,
    num_queries: usize,
    levels: usize,
    /// Pixels per cell of the finest map.
    finest: u32,
    input: Proportional,
    backbone: Resnet,
    encoder: HybridEncoder,
    decoder_input_proj: Vec<PixelConv>,
    selection: QuerySelection,
    decoder: Decoder,
}

/// Keeps maps as stages.
fn note_maps(name: &str, maps: &[PixelMap], stages: &mut Stages) -> Result<()> {
    for (n, map) in maps.iter().enumerate().filter(|_| stages.are_kept()).collect::<Vec<_>>() {
        stages.note(|| format!("{name}.{n}"), &map.to_tensor()?);
    }
    Ok(())
}

/// What the network says of one picture.
#[derive(Debug, Clone)]
struct Prediction {
    /// The cell that each query began at.
    cells: Vec<u32>,
    /// The decoder's output. Shape: `[queries, size]`.
    last_hidden_state: Vec<f32>,
    /// Shape: `[queries, classes]`.
    logits: Vec<f32>,
    /// Centre and size as shares of the picture. Shape: `[queries, 4]`.
    boxes: Vec<f32>,
}

impl RtDetr {
    /// Whether a checkpoint is one of these.
    pub(super) fn recognises(checkpoint: &Checkpoint) -> bool {
        let has = |name: &str| checkpoint.get(name).is_some();
        has("model.enc_score_head.weight") && has("model.decoder.layers.0.encoder_attn.sampling_offsets.weight")
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
        let text =
            files.preprocessor.as_ref().map(|blob| blob.read_text(MAX_PREPROCESSOR_BYTES, &files.id)).transpose()?;
        let input = Proportional::rt_detr(text.as_deref(), &files.id)?;
        let config = RtDetrConfig::new(settings.json.as_ref().unwrap_or(&json!({})), checkpoint);
        let config = config.map_err(|reason| Settings::refused(files, reason))?;
        let (width, height) = input.size(1, 1, input.longest_edge());
        let stride = config.backbone.stride();
        if !width.is_multiple_of(stride) || !height.is_multiple_of(stride) {
            let reason = format!("takes pictures of {width} x {height}, which is no multiple of the stride {stride}");
            return Err(Settings::refused(files, reason));
        }
        let strides = (0..config.levels).map(|n| config.finest() << n);
        let cells: u32 = strides.map(|stride| (width / stride) * (height / stride)).sum();
        if config.num_queries > cells as usize {
            let reason = format!("says num_queries {}, more than the {cells} cells of the maps", config.num_queries);
            return Err(Settings::refused(files, reason));
        }
        let rows = checkpoint.get("model.enc_score_head.weight").and_then(|entry| entry.shape.first().copied());
        // Of a checkpoint without a classifier that can be one, the reader says what is wrong.
        let classes = rows.filter(|classes| (1..=MOST_CLASSES).contains(classes));
        let classes = classes.unwrap_or_else(|| settings.labels.as_ref().map_or(1, Vec::len));
        reader::load(checkpoint, backend, &files.id, |r| Self::new(r, &config, classes, &input))
    }

    fn new(reader: &Reader<'_>, config: &RtDetrConfig, classes: usize, input: &Proportional) -> Result<Self> {
        let model = reader.at("model");
        let shape = ConvShape::new(config.hidden, config.d_model, 1, 1);
        let projection = |level: usize| {
            let place = model.at("decoder_input_proj").at(level);
            place.pixel_conv_batch_norm("0", "1", shape, config.batch_norm_eps)
        };
        Ok(Self {
            backend: reader.backend().clone(),
            classes,
            d_model: config.d_model,
            num_queries: config.num_queries,
            levels: config.levels,
            finest: config.finest(),
            input: input.clone(),
            backbone: Resnet::new(&model.at("backbone.model"), &config.backbone)?,
            encoder: HybridEncoder::new(&model, config)?,
            decoder_input_proj: (0..config.levels).map(projection).collect::<Result<_>>()?,
            selection: QuerySelection::new(&model, config, classes)?,
            decoder: Decoder::new(reader, config, classes)?,
        })
    }

    /// What the network says of each picture of a batch; all have the input's size.
    fn forward(&self, batch: &[DetectorInput], stages: &mut Stages) -> Result<Vec<Prediction>> {
        let (height, width) = batch.first().map_or((0, 0), |one| (one.height, one.width));
        let pixels = batch.iter().flat_map(|one| one.pixels.iter().copied()).collect();
        let x = tensor(pixels, &[batch.len(), 3, height, width], &self.backend)?; // [b, 3, h, w]
        let maps = self.backbone.maps(&x, self.levels)?; // [b, h / 8, w / 8, channels] and coarser
        note_maps("feature_map", &maps, stages)?;
        let maps = self.encoder.forward(&maps, &self.backend)?; // [b, h / 8, w / 8, hidden] and coarser
        note_maps("encoder", &maps, stages)?;
        let mut levels = Vec::with_capacity(maps.len());
        let mut rows = Vec::with_capacity(maps.len());
        for (conv, map) in self.decoder_input_proj.iter().zip(&maps) {
            let [_, h, w, _] = map.dims();
            levels.push((h, w));
            rows.push(conv.forward(map, None)?.to_rows()?); // [b, h * w, size]
        }
        let cells = Tensor::cat(&rows, 1).map_err(Error::tensor("maps"))?; // [b, cells, size]
        (0..batch.len())
            .map(|n| {
                let cells = cells.narrow(0, n, 1).and_then(|own| own.contiguous()).map_err(Error::tensor("maps"))?;
                self.predict(&Memory { cells, levels: levels.clone() }, n, stages)
            })
            .collect()
    }

    fn predict(&self, memory: &Memory, index: usize, stages: &mut Stages) -> Result<Prediction> {
        let queries = self.selection.choose(memory, &self.backend, stages)?;
        let (hidden, logits, boxes) = self.decoder.forward(memory, &queries, &self.backend, stages, index)?;
        Ok(Prediction { cells: queries.cells, last_hidden_state: flat(&hidden)?, logits: flat(&logits)?, boxes })
    }

    /// Labels, scores and boxes in pixels: as many of the best pairs of query and class as there are queries.
    fn post_process(&self, prediction: &Prediction, (width, height): (u32, u32), floor: f32) -> Vec<Detection> {
        let (width, height) = (width as f32, height as f32);
        let mut pairs: Vec<(usize, f32)> = prediction.logits.iter().copied().enumerate().collect();
        pairs.sort_by(|a, b| b.1.total_cmp(&a.1));
        pairs.truncate(self.num_queries);
        let boxes = prediction.boxes.as_chunks::<4>().0;
        let found = pairs.into_iter().filter_map(|(at, logit)| {
            let (query, class, score) = (at / self.classes, at % self.classes, sigmoid(logit));
            let &[cx, cy, w, h] = boxes.get(query)?;
            let bounds = CxcywhNorm { cx, cy, w, h }.to_px(width, height);
            // The reference leaves boxes that reach beyond the picture as they are; shown is what lies inside.
            let bounds = if bounds.is_finite() { bounds.clamped(width, height) } else { return None };
            (score >= floor && bounds.area() > 0.0).then_some(Detection { class, score, bounds })
        });
        found.collect()
    }

    fn prediction(&self, picture: &RgbImage, side: u32) -> Result<Prediction> {
        let mut predictions = self.forward(&[self.input.apply(picture, side)], &mut Stages::off())?;
        predictions.pop().ok_or_else(|| Error::Argument { name: "picture", reason: "gave no prediction".into() })
    }
}

impl Network for RtDetr {
    fn classes(&self) -> usize {
        self.classes
    }

    fn geometry(&self) -> Geometry {
        // Trained on sides of 480 to 800 pixels, measured at 640: a second, closer look is foreign to it.
        Geometry { input_side: self.input.longest_edge(), finest_cell: self.finest, second_side: None }
    }

    fn scale(&self, width: u32, height: u32) -> f32 {
        // Proportions are not kept: what is small is so along the side that shrinks most.
        let (to_width, to_height) = self.input.size(width, height, self.input.longest_edge());
        (to_width as f32 / width.max(1) as f32).min(to_height as f32 / height.max(1) as f32)
    }

    fn counting(&self) -> Counting {
        Counting::Threshold(COUNTED)
    }

    fn detect(&self, picture: &RgbImage, floor: f32, side: u32) -> Result<Vec<Detection>> {
        let prediction = self.prediction(picture, side)?;
        Ok(self.post_process(&prediction, picture.dimensions(), floor))
    }

    fn stages(&self, picture: &RgbImage) -> Result<Vec<Stage>> {
        let Prediction { cells, last_hidden_state, logits, boxes } =
            self.prediction(picture, self.input.longest_edge())?;
        let cells = cells.into_iter().map(|cell| cell as f32).collect();
        Ok(vec![
            Stage { name: "topk_ind", width: 1, values: cells },
            Stage { name: "last_hidden_state", width: self.d_model, values: last_hidden_state },
            Stage { name: "logits", width: self.classes, values: logits },
            Stage { name: "pred_boxes", width: 4, values: boxes },
        ])
    }

    fn run_neutral(&self) -> Result<usize> {
        let (width, height) = self.input.size(1, 1, self.input.longest_edge());
        let (width, height) = (width as usize, height as usize);
        let grey = DetectorInput { pixels: vec![0.5; 3 * width * height], height, width };
        Ok(self.forward(&[grey], &mut Stages::off())?.iter().map(|one| one.boxes.len() / 4).sum())
    }
}
