//! What is read off each patch: a vector to compare with words, a box, and whether there is anything.
//!
//! Source: transformers 5.24, `modeling_owlv2.py` (`Owlv2ClassPredictionHead`, `Owlv2BoxPredictionHead`, `compute_box_bias`).

use candle_core::{D, DType, Device, Tensor};

use crate::compute::{Activation, Linear, chain};
use crate::error::{Error, Result};
use crate::geometry::{CxcywhNorm, XyxyPx, nms};
use crate::models::Detection;
use crate::models::config::OwlConfig;
use crate::models::reader::Reader;

/// Added to the length that a vector is divided by.
const NORM_EPS: f64 = 1e-6;
/// Keeps the logarithms of the boxes' bias finite.
const BIAS_EPS: f32 = 1e-4;
/// Of things like an example, a box falls that a better one overlaps more: `nms_threshold` of the reference's post-processing.
const LIKE_IOU: f32 = 0.3;

/// Three layers with a GELU between them.
#[derive(Debug)]
struct Dense([Linear; 3]);

impl Dense {
    fn new(reader: &Reader<'_>, size: usize, outputs: usize) -> Result<Self> {
        Ok(Self([
            reader.linear("dense0", size, size)?,
            reader.linear("dense1", size, size)?,
            reader.linear("dense2", outputs, size)?,
        ]))
    }

    /// Shape: `[batch, patches, size]` -> `[batch, patches, outputs]`.
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let [first, second, third] = &self.0;
        let hidden = chain(x).linear(first).activation(Activation::Gelu).linear(second).activation(Activation::Gelu);
        hidden.linear(third).run()
    }
}

/// The heads of the detector.
#[derive(Debug)]
pub(super) struct Heads {
    /// `class_head.dense0`
    class: Linear,
    /// `class_head.logit_shift` and `class_head.logit_scale`, one below the other.
    shift_and_scale: Linear,
    boxes: Dense,
    /// `OWLv2` only.
    objectness: Option<Dense>,
    /// Shape: `[patches, 4]`.
    box_bias: Vec<f32>,
}

impl Heads {
    pub(super) fn new(reader: &Reader<'_>, config: &OwlConfig) -> Result<Self> {
        let size = config.vision.tower.hidden_size;
        let class = reader.at("class_head");
        let (mut weight, mut bias) = (Vec::new(), Vec::new());
        for name in ["logit_shift", "logit_scale"] {
            weight.extend(class.at(name).values("weight", &[1, size])?);
            bias.extend(class.at(name).values("bias", &[1])?);
        }
        let objectness = config.is_v2.then(|| Dense::new(&reader.at("objectness_head"), size, 1));
        Ok(Self {
            class: class.linear("dense0", config.projection_dim, size)?,
            shift_and_scale: class.linear_from(2, size, weight, Some(bias))?,
            boxes: Dense::new(&reader.at("box_head"), size, 4)?,
            objectness: objectness.transpose()?,
            box_bias: box_bias(config.vision.image_size / config.vision.patch_size),
        })
    }

    /// Shape: one picture's `[1, patches, size]`.
    pub(super) fn forward(&self, features: &Tensor) -> Result<Read> {
        let raw = self.class_embeds(features)?; // [1, patches, dim]
        let unit = || {
            let length = (raw.sqr()?.sum_keepdim(D::Minus1)?.sqrt()? + NORM_EPS)?;
            raw.broadcast_div(&length)?.squeeze(0)
        };
        let class_embeds = unit().map_err(Error::tensor("class embeddings"))?; // [patches, dim]
        let numbers = flat(&self.shift_and_scale.forward(features)?)?; // [patches, 2]
        // ELU and 1: always above 0.
        let elu = |x: f32| if x > 0.0 { x } else { x.exp_m1() };
        let shift_and_scale =
            numbers.as_chunks::<2>().0.iter().map(|&[shift, scale]| (shift, elu(scale) + 1.0)).collect();
        let mut boxes = flat(&self.boxes.forward(features)?)?; // [patches, 4]
        boxes.iter_mut().zip(&self.box_bias).for_each(|(x, bias)| *x = sigmoid(*x + bias));
        Ok(Read { class_embeds, shift_and_scale, boxes })
    }

    /// The vectors that are compared, before they are made unit vectors; on the CPU. Shape: `[1, patches, size]` ->
    /// `[1, patches, dim]`.
    pub(super) fn class_embeds(&self, features: &Tensor) -> Result<Tensor> {
        on_cpu(&self.class.forward(features)?)
    }

    /// How much each patch shows an object at all, before the sigmoid; none for OWL-ViT. Shape: -> `[patches]`.
    pub(super) fn objectness(&self, features: &Tensor) -> Result<Option<Vec<f32>>> {
        self.objectness.as_ref().map(|head| flat(&head.forward(features)?)).transpose()
    }
}

/// All that is wanted of a picture, whatever is asked for later.
#[derive(Debug)]
pub(super) struct Read {
    /// Unit vectors, on the CPU. Shape: `[patches, dim]`.
    pub(super) class_embeds: Tensor,
    /// Of each patch.
    shift_and_scale: Vec<(f32, f32)>,
    /// Centre and size as shares of the input. Shape: `[patches, 4]`.
    pub(super) boxes: Vec<f32>,
}

impl Read {
    /// Shapes: queries `[queries, dim]`, unit vectors on the CPU -> `[patches, queries]` flattened.
    pub(super) fn logits(&self, queries: &Tensor) -> Result<Vec<f32>> {
        let run = || self.class_embeds.matmul(&queries.t()?)?.flatten_all()?.to_vec1::<f32>();
        let mut logits = run().map_err(Error::tensor("class logits"))?;
        let width = queries.dim(0).map_err(Error::tensor("class logits"))?.max(1);
        for (row, (shift, scale)) in logits.chunks_mut(width).zip(&self.shift_and_scale) {
            for logit in row.iter_mut() {
                *logit = (*logit + shift) * scale;
            }
        }
        Ok(logits)
    }

    /// Labels, scores and boxes in pixels, best first: each patch's best query, as the reference's post-processing. `frame`:
    /// the pixels that boxes are shares of. `suppressed`: of boxes that overlap, the best one stays.
    pub(super) fn detections(
        &self,
        queries: &Tensor,
        picture: (u32, u32),
        frame: (f32, f32),
        floor: f32,
        suppressed: bool,
    ) -> Result<Vec<Detection>> {
        let (width, height) = (picture.0 as f32, picture.1 as f32);
        let logits = self.logits(queries)?;
        let rows = logits.chunks(queries.dim(0).map_err(Error::tensor("queries"))?.max(1));
        let found = rows.zip(self.boxes.as_chunks::<4>().0).filter_map(|(logits, &[cx, cy, w, h])| {
            let best = logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1).then(b.0.cmp(&a.0)));
            let (class, logit) = best?;
            let score = sigmoid(*logit);
            let bounds = CxcywhNorm { cx, cy, w, h }.to_px(frame.0, frame.1);
            (score >= floor && bounds.is_finite()).then_some(Detection { class, score, bounds })
        });
        let mut found: Vec<Detection> = found.collect();
        if suppressed {
            let boxes: Vec<XyxyPx> = found.iter().map(|one| one.bounds).collect();
            let scores: Vec<f32> = found.iter().map(|one| one.score).collect();
            let classes: Vec<usize> = found.iter().map(|one| one.class).collect();
            let kept = nms(&boxes, &scores, &classes, LIKE_IOU);
            found = kept.into_iter().filter_map(|at| found.get(at).copied()).collect();
        }
        // The reference leaves boxes that reach beyond the picture as they are; shown is what lies inside.
        let inside = found.into_iter().map(|one| Detection { bounds: one.bounds.clamped(width, height), ..one });
        let mut found: Vec<Detection> = inside.filter(|one| one.bounds.area() > 0.0).collect();
        found.sort_by(|a, b| b.score.total_cmp(&a.score));
        Ok(found)
    }
}

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

/// What is added to each patch's box: its place on the grid, its lower right corner as the reference has it, and the size of a
/// patch, as log-odds. Shape: -> `[patches, 4]`.
fn box_bias(grid: usize) -> Vec<f32> {
    let log_odds = |share: f32| (share + BIAS_EPS).ln() - (-share + BIAS_EPS).ln_1p();
    let place = |n: usize| log_odds((n + 1) as f32 / grid as f32);
    let size = log_odds(1.0 / grid as f32);
    (0..grid * grid).flat_map(|at| [place(at % grid), place(at / grid), size, size]).collect()
}

fn on_cpu(x: &Tensor) -> Result<Tensor> {
    x.to_device(&Device::Cpu).and_then(|x| x.to_dtype(DType::F32)).map_err(Error::tensor("detector output"))
}

pub(super) fn flat(x: &Tensor) -> Result<Vec<f32>> {
    on_cpu(x)?.flatten_all().and_then(|x| x.to_vec1()).map_err(Error::tensor("detector output"))
}

#[cfg(test)]
mod tests {
    use super::box_bias;

    /// Published for google/owlvit-base-patch32: transformers' `test_modeling_owlvit.py`.
    #[test]
    fn the_bias_of_boxes_is_the_published_one() {
        let bias = box_bias(24);
        for (row, expected) in bias.chunks(4).zip([[-3.1332; 4], [-2.3968, -3.1332, -3.1332, -3.1332]]) {
            row.iter().zip(expected).for_each(|(x, e): (&f32, f32)| assert!((x - e).abs() < 1e-4, "{row:?}"));
        }
    }
}
