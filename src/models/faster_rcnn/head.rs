//! What looks at each proposal: what it is, and where exactly.
//!
//! Source: Girshick 2015, arXiv:1504.08083; torchvision 0.29, `ops/poolers.py`, `models/detection/{faster_rcnn,roi_heads}.py`.
//! Proposals take turns pixel by pixel (`PixelConv::forward_interleaved`), and a linear layer over all bins of a proposal is a
//! convolution as large as they are.

use super::boxes::{decode, is_at_least};
use super::config::{FasterRcnnConfig, HeadConfig, Rules};
use crate::compute::{Activation, ConvShape, PixelConv, PixelMap, Region, RoiAlign};
use crate::error::Result;
use crate::geometry::{XyxyPx, nms};
use crate::models::detector::Detection;
use crate::models::reader::Reader;
use crate::models::transformer::Stages;

/// Places along each side of a bin: `sampling_ratio`.
const SAMPLES: usize = 2;
/// A proposal of this side, pixels of the input, belongs to the map of this number, one of twice the side to the next.
const CANONICAL: (f32, f32) = (224.0, 4.0);
/// The finest map's number: its cells are `2^2` pixels apart.
const FINEST: usize = 2;
/// By what the deltas are divided: `bbox_reg_weights`.
const DELTA_WEIGHTS: [f32; 4] = [10.0, 10.0, 5.0, 5.0];
/// Least side of a box, pixels of the input.
const LEAST_SIDE: f32 = 1e-2;
/// Proposals that go through the layers together: their working memory stays below a hundred megabytes.
const AT_ONCE: usize = 256;

/// `MultiScaleRoIAlign`, the box head and `FastRCNNPredictor`.
#[derive(Debug)]
pub(super) struct Head {
    align: RoiAlign,
    /// Each with the function after it.
    layers: Vec<PixelConv>,
    /// `cls_score` and `bbox_pred` as one.
    predict: PixelConv,
    classes: usize,
}

/// What the head says of one proposal.
#[derive(Debug, Clone)]
pub(super) struct Verdict {
    /// The background's first. Shape: `[classes]`.
    pub(super) logits: Vec<f32>,
    /// Shape: `[classes, 4]`.
    pub(super) deltas: Vec<f32>,
}

impl Head {
    /// `reader` stands at `roi_heads`.
    pub(super) fn new(reader: &Reader<'_>, config: &FasterRcnnConfig) -> Result<Self> {
        let (side, place) = (config.side, reader.at("box_head"));
        let over_all = |inputs, outputs| ConvShape { padding: 0, ..ConvShape::new(inputs, outputs, side, 1) };
        let mut layers = Vec::new();
        let width = match &config.head {
            HeadConfig::Linear { width } => {
                layers.push(place.pixel_linears(&[("fc6", *width)], over_all(config.channels, *width))?);
                layers.push(place.pixel_linears(&[("fc7", *width)], ConvShape::new(*width, *width, 1, 1))?);
                *width
            }
            HeadConfig::Convolutions { convs, width } => {
                let mut inputs = config.channels;
                for (n, outputs) in convs.iter().enumerate() {
                    let shape = ConvShape::new(inputs, *outputs, 3, 1);
                    layers.push(place.at(n).pixel_conv_batch_norm("0", "1", shape, config.eps)?);
                    inputs = *outputs;
                }
                let name = (convs.len() + 1).to_string();
                layers.push(place.pixel_linears(&[(&name, *width)], over_all(inputs, *width))?);
                *width
            }
        };
        let classes = config.classes;
        let parts = [("cls_score", classes), ("bbox_pred", 4 * classes)];
        let predict = reader.at("box_predictor").pixel_linears(&parts, ConvShape::new(width, 5 * classes, 1, 1))?;
        Ok(Self { align: RoiAlign { side, samples: SAMPLES }, layers, predict, classes })
    }

    /// What it says of each proposal, in their order. `maps` are the pyramid's without the last.
    pub(super) fn forward(&self, maps: &[PixelMap], proposals: &[XyxyPx], stages: &mut Stages) -> Result<Vec<Verdict>> {
        let mut verdicts = Vec::with_capacity(proposals.len());
        for proposals in proposals.chunks(AT_ONCE) {
            let regions: Vec<Region> = proposals.iter().map(|bounds| region(bounds, maps.len())).collect();
            let mut x = self.align.pool(maps, &regions)?; // [1, side, side * proposals, channels]
            if stages.are_kept() {
                stages.note(|| "pooled".to_owned(), &x.to_tensor()?);
            }
            for layer in &self.layers {
                x = layer.forward_interleaved(&x, regions.len(), Some(Activation::Relu))?;
            }
            let numbers = self.predict.forward(&x, None)?.to_values()?; // [1, 1, proposals, 5 * classes]
            verdicts.extend(numbers.chunks_exact(5 * self.classes).map(|row| {
                let (logits, deltas) = row.split_at(self.classes);
                Verdict { logits: logits.to_vec(), deltas: deltas.to_vec() }
            }));
        }
        Ok(verdicts)
    }
}

/// Where a proposal is looked at: `LevelMapper`, with the cells' distances that maps of a padded input have.
///
/// PARITY: the reference guesses the distances from the first picture's sides without padding, and keeps them; for one of fewer
/// than 46 lines they are twice the true ones.
fn region(bounds: &XyxyPx, maps: usize) -> Region {
    let (side, number) = CANONICAL;
    let area = (bounds.x1 - bounds.x0) * (bounds.y1 - bounds.y0);
    let target = (number + (area.sqrt() / side).log2() + 1e-6).floor();
    let level = (target as usize).clamp(FINEST, (FINEST + maps).saturating_sub(1).max(FINEST)) - FINEST;
    let scale = 1.0 / (1_u32 << (FINEST + level)) as f32;
    Region { level, bounds: bounds.to_array().map(|x| x * scale) }
}

/// Boxes of all classes in pixels of the input, best first. `picture` is its height and width without padding.
///
/// PARITY: as for proposals, the reference moves the boxes of a class before it compares overlaps where there are few of them.
pub(super) fn settle(verdicts: &[Verdict], proposals: &[XyxyPx], picture: [usize; 2], rules: &Rules) -> Vec<Detection> {
    let [height, width] = picture.map(|side| side as f32);
    let (mut boxes, mut scores, mut classes) = (Vec::new(), Vec::new(), Vec::new());
    for (verdict, proposal) in verdicts.iter().zip(proposals) {
        let most = verdict.logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f32 = verdict.logits.iter().map(|logit| (logit - most).exp()).sum();
        let rows = verdict.logits.iter().zip(verdict.deltas.as_chunks::<4>().0).enumerate().skip(1);
        for (class, (logit, deltas)) in rows {
            let score = (logit - most).exp() / sum;
            if score > rules.box_score_thresh {
                let bounds = decode(*proposal, *deltas, DELTA_WEIGHTS);
                let bounds = if bounds.is_finite() { bounds.clamped(width, height) } else { continue };
                if is_at_least(&bounds, LEAST_SIDE) {
                    boxes.push(bounds);
                    scores.push(score);
                    classes.push(class);
                }
            }
        }
    }
    let kept = nms(&boxes, &scores, &classes, rules.box_nms_thresh).into_iter().take(rules.box_detections_per_img);
    let one =
        |at: usize| Some(Detection { class: *classes.get(at)?, score: *scores.get(at)?, bounds: *boxes.get(at)? });
    kept.filter_map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `LevelMapper(2, 5)` of torchvision 0.29.
    #[test]
    fn larger_proposals_are_looked_at_in_coarser_maps() {
        let level =
            |width: f32, height: f32| region(&XyxyPx { x0: 8.0, y0: 0.0, x1: 8.0 + width, y1: height }, 4).level;
        assert_eq!([level(1.0, 1.0), level(111.0, 112.0), level(112.0, 112.0), level(223.0, 224.0)], [0, 0, 1, 1]);
        assert_eq!([level(224.0, 224.0), level(447.0, 448.0), level(448.0, 448.0), level(1333.0, 800.0)], [2, 2, 3, 3]);
        assert_eq!([level(100.0, 450.0), level(0.0, 0.0)], [1, 0]);
        let region = region(&XyxyPx { x0: 8.0, y0: 16.0, x1: 24.0, y1: 32.0 }, 4);
        assert_eq!(region, Region { level: 0, bounds: [2.0, 4.0, 6.0, 8.0] });
    }
}
