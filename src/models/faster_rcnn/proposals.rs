//! The region proposal network: where something may be.
//!
//! Source: Ren et al. 2015, arXiv:1506.01497; torchvision 0.29, `models/detection/rpn.py` and `anchor_utils.py`.

use rayon::prelude::*;

use super::boxes::{decode, is_at_least};
use super::config::{ANCHORS, Age, FasterRcnnConfig, Rules};
use crate::compute::{Activation, ConvShape, PixelConv, PixelMap};
use crate::error::Result;
use crate::geometry::{XyxyPx, nms};
use crate::models::reader::Reader;

/// Sides of the anchors of each map, pixels, and their proportions, height to width: `_default_anchorgen`.
const SIZES: [f32; 5] = [32.0, 64.0, 128.0, 256.0, 512.0];
const PROPORTIONS: [f32; ANCHORS] = [0.5, 1.0, 2.0];
/// Least side of a proposal, pixels of the input.
const LEAST_SIDE: f32 = 1e-3;
/// Numbers of a cell: an objectness for each anchor, then four deltas for each.
const NUMBERS: usize = 5 * ANCHORS;

/// `RPNHead`.
#[derive(Debug)]
pub(super) struct ProposalNetwork {
    convs: Vec<PixelConv>,
    /// `cls_logits` and `bbox_pred` as one.
    predict: PixelConv,
}

/// What the network says of one map.
#[derive(Debug)]
pub(super) struct Level {
    height: usize,
    width: usize,
    /// Shape: `[height, width, 15]`.
    numbers: Vec<f32>,
}

impl Level {
    /// Logits in the reference's order: cells in reading order, the anchors of a cell one after the other.
    pub(super) fn objectness(&self) -> impl Iterator<Item = f32> {
        self.numbers.chunks_exact(NUMBERS).flat_map(|cell| cell.iter().take(ANCHORS).copied())
    }

    /// Four numbers for each of [`Level::objectness`].
    pub(super) fn deltas(&self) -> impl Iterator<Item = f32> {
        self.numbers.chunks_exact(NUMBERS).flat_map(|cell| cell.iter().skip(ANCHORS).copied())
    }

    /// The deltas of one anchor.
    fn deltas_of(&self, index: usize) -> Option<[f32; 4]> {
        let start = index / ANCHORS * NUMBERS + ANCHORS + index % ANCHORS * 4;
        self.numbers.get(start..)?.first_chunk::<4>().copied()
    }
}

impl ProposalNetwork {
    /// `reader` stands at `rpn.head`.
    pub(super) fn new(reader: &Reader<'_>, config: &FasterRcnnConfig) -> Result<Self> {
        let channels = config.channels;
        let shape = ConvShape::new(channels, channels, 3, 1);
        let conv = |n: usize| {
            let name = if config.age == Age::Old { "conv".to_owned() } else { format!("conv.{n}.0") };
            reader.pixel_convs(&[(&name, channels)], shape)
        };
        let parts = [("cls_logits", ANCHORS), ("bbox_pred", 4 * ANCHORS)];
        let predict = reader.pixel_convs(&parts, ConvShape::new(channels, NUMBERS, 1, 1))?;
        Ok(Self { convs: (0..config.rpn_convs).map(conv).collect::<Result<_>>()?, predict })
    }

    /// What it says of each map of one picture.
    pub(super) fn forward(&self, maps: &[PixelMap]) -> Result<Vec<Level>> {
        let level = |map: &PixelMap| {
            let mut inner: Option<PixelMap> = None;
            for conv in &self.convs {
                inner = Some(conv.forward(inner.as_ref().unwrap_or(map), Some(Activation::Relu))?);
            }
            let out = self.predict.forward(inner.as_ref().unwrap_or(map), None)?;
            let [_, height, width, _] = out.dims();
            Ok(Level { height, width, numbers: out.to_values()? })
        };
        maps.iter().map(level).collect()
    }
}

/// The best places, best first, in pixels of the input. `padded` and `picture` are height and width of the input with and
/// without its padding.
///
/// PARITY: of up to 1000 boxes the reference moves each level's to a place of its own before it compares overlaps, which costs
/// digits of their corners; here, as there for more boxes, levels are told apart by their number.
pub(super) fn propose(levels: &[Level], padded: [usize; 2], picture: [usize; 2], rules: &Rules) -> Vec<XyxyPx> {
    let [height, width] = picture.map(|side| side as f32);
    let best = levels.par_iter().zip(SIZES).map(|(level, size)| {
        let anchors = Anchors::new(level, size, padded);
        let chosen = best(&level.objectness().collect::<Vec<_>>(), rules.rpn_pre_nms_top_n_test);
        let boxes = chosen.into_iter().filter_map(|(index, logit)| {
            let bounds = decode(anchors.of(index), level.deltas_of(index)?, [1.0; 4]);
            let bounds = if bounds.is_finite() { bounds.clamped(width, height) } else { return None };
            is_at_least(&bounds, LEAST_SIDE).then_some((bounds, 1.0 / (1.0 + (-logit).exp())))
        });
        boxes.collect::<Vec<_>>()
    });
    let best: Vec<Vec<(XyxyPx, f32)>> = best.collect();
    let classes: Vec<usize> = best.iter().enumerate().flat_map(|(n, level)| vec![n; level.len()]).collect();
    let (boxes, scores): (Vec<XyxyPx>, Vec<f32>) = best.into_iter().flatten().unzip();
    let kept = nms(&boxes, &scores, &classes, rules.rpn_nms_thresh);
    kept.into_iter().take(rules.rpn_post_nms_top_n_test).filter_map(|at| boxes.get(at).copied()).collect()
}

/// The largest numbers with their places, best first; equal ones in their order.
fn best(numbers: &[f32], count: usize) -> Vec<(usize, f32)> {
    let mut all: Vec<(usize, f32)> = numbers.iter().copied().enumerate().collect();
    let order = |a: &(usize, f32), b: &(usize, f32)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
    if count < all.len() {
        all.select_nth_unstable_by(count, order);
        all.truncate(count);
    }
    all.sort_unstable_by(order);
    all
}

/// The boxes that a map's cells begin with.
struct Anchors {
    columns: usize,
    /// Pixels from a cell to the next, down and right.
    steps: [usize; 2],
    /// Around the corner of a cell.
    own: [XyxyPx; ANCHORS],
}

impl Anchors {
    /// The steps are whole: of a map whose sides do not divide the input's they are less than its cells are apart, as in the
    /// reference.
    fn new(level: &Level, size: f32, [height, width]: [usize; 2]) -> Self {
        let own = PROPORTIONS.map(|proportion| {
            let tall = proportion.sqrt();
            let half = |side: f32| (side / 2.0).round_ties_even();
            let (x, y) = (half(1.0 / tall * size), half(tall * size));
            XyxyPx { x0: -x, y0: -y, x1: x, y1: y }
        });
        let steps = [height / level.height.max(1), width / level.width.max(1)];
        Self { columns: level.width.max(1), steps, own }
    }

    fn of(&self, index: usize) -> XyxyPx {
        let cell = index / ANCHORS;
        let [down, right] = self.steps;
        let (x, y) = ((cell % self.columns * right) as f32, (cell / self.columns * down) as f32);
        self.own[index % ANCHORS].mapped(1.0, x, y)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `AnchorGenerator.generate_anchors` of torchvision 0.29.
    #[test]
    fn anchors_are_rounded_and_lie_at_whole_steps() {
        let level = Level { height: 13, width: 2, numbers: Vec::new() };
        let anchors = Anchors::new(&level, 32.0, [800, 64]);
        assert_eq!(anchors.own.map(|own| (own.x1, own.y1)), [(23.0, 11.0), (16.0, 16.0), (11.0, 23.0)]);
        // The second line, the second cell: 800 / 13 is 61.
        let expected = XyxyPx { x0: 16.0, y0: 45.0, x1: 48.0, y1: 77.0 };
        assert_eq!(anchors.of(3 * ANCHORS + 1), expected);
    }

    #[test]
    fn the_largest_come_first_and_equal_ones_in_their_order() {
        assert_eq!(best(&[1.0, 3.0, 2.0, 3.0], 3), [(1, 3.0), (3, 3.0), (2, 2.0)]);
        assert_eq!(best(&[1.0], 3), [(0, 1.0)]);
    }
}
