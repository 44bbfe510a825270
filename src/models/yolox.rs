//! YOLOX: an anchor-free one-stage detector, nano to x.
//!
//! Source: Ge et al. 2021, arXiv:2107.08430; repository Megvii-BaseDetection/YOLOX, `yolox/models/{darknet,yolo_pafpn,
//! yolo_head,network_blocks}.py`. Names are the reference's. Sizes are read off the checkpoint; batch norms (eps 1e-3) are
//! folded at load, and a checkpoint that was folded before (`<name>.conv.bias`, no `bn`) loads as it is.

mod blocks;
mod head;
mod pafpn;
#[cfg(test)]
mod tests;

use image::RgbImage;

use self::blocks::focus;
use self::head::Level;
use self::pafpn::Pafpn;
use super::checkpoint::Checkpoint;
use super::detector::{Counting, Detection, Geometry, Network, Parts};
use super::reader;
use crate::compute::Backend;
use crate::error::{Error, Result};
use crate::geometry::{XyxyPx, nms};
use crate::pixels::letterbox;

/// Pixels per cell of the three levels.
const STRIDES: [usize; 3] = [8, 16, 32];
/// A box falls when a better one of its class overlaps it by more: the reference's `nmsthre` for evaluation.
const NMS_IOU: f32 = 0.65;
/// The reference's padding, `preproc` in `yolox/data/data_augment.py`.
const PADDING: u8 = 114;

/// What the checkpoint's shapes say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sizes {
    /// Channels after the stem: 16 for nano, 24 tiny, 32 s.
    base: usize,
    /// Bottlenecks of a short stage: 1 for nano, tiny and s.
    depth: usize,
    /// Channels in the head.
    hidden: usize,
    classes: usize,
    depthwise: bool,
}

/// The network.
#[derive(Debug)]
pub struct Yolox {
    backend: Backend,
    sizes: Sizes,
    /// Side of the square input, pixels.
    side: u32,
    backbone: Pafpn,
    head: Vec<Level>,
}

impl Yolox {
    /// Whether a checkpoint is one of these.
    pub(super) fn recognises(checkpoint: &Checkpoint) -> bool {
        checkpoint.get("backbone.backbone.stem.conv.conv.weight").is_some()
    }

    /// Builds the network. `side` is the input's; without one it is the reference's for this width: 416 for nano and tiny,
    /// 640 for s and larger (`exps/default`).
    ///
    /// # Errors
    /// A tensor is missing or has another shape: all of them are listed.
    pub(super) fn load(
        checkpoint: &std::sync::Arc<Checkpoint>,
        model: &str,
        side: Option<u32>,
        backend: &Backend,
    ) -> Result<Self> {
        let sizes = sizes(checkpoint).map_err(|reason| Error::ModelFile {
            model: model.to_owned(),
            file: "the checkpoint".to_owned(),
            reason,
        })?;
        reader::load(checkpoint, backend, model, |r| {
            Ok(Self {
                backend: backend.clone(),
                sizes,
                side: side.unwrap_or(if sizes.base < 32 { 416 } else { 640 }),
                backbone: Pafpn::load(&r.at("backbone"), &sizes)?,
                head: (0..STRIDES.len())
                    .map(|level| Level::load(&r.at("head"), level, &sizes))
                    .collect::<Result<_>>()?,
            })
        })
    }

    /// As [`Yolox::load`], for the table of architectures.
    ///
    /// # Errors
    /// As [`Yolox::load`].
    pub(super) fn load_network(parts: &Parts<'_>) -> Result<Box<dyn Network>> {
        let network = Self::load(parts.checkpoint, &parts.files.id, parts.settings.side, parts.backend)?;
        Ok(Box::new(network))
    }

    /// Predictions before the boxes are decoded, as the reference's exported graph gives them.
    ///
    /// Shapes: `pixels` `[3, h, w]` flattened, BGR, 0 to 255, `h` and `w` multiples of 32 -> `[cells, 5 + classes]` flattened:
    /// x, y, w, h as predicted, objectness and class scores as probabilities; levels of stride 8, 16, 32 one after the
    /// other, cells in reading order.
    ///
    /// # Errors
    /// The sizes do not fit.
    pub fn forward(&self, pixels: &[f32], h: usize, w: usize) -> Result<Vec<f32>> {
        if pixels.len() != 3 * h * w {
            let error = candle_core::Error::msg(format!("{} numbers for three channels of {h} x {w}", pixels.len()));
            return Err(Error::tensor("detector input")(error));
        }
        let maps = self.backbone.forward(&focus(pixels, h, w, &self.backend)?)?;
        let width = 5 + self.sizes.classes;
        let mut rows =
            Vec::with_capacity(STRIDES.iter().map(|stride| (h / stride) * (w / stride)).sum::<usize>() * width);
        for (level, map) in self.head.iter().zip(&maps) {
            let [reg_obj, cls] = level.forward(map)?;
            let [_, lines, columns, _] = cls.dims();
            let start = rows.len();
            rows.resize(start + lines * columns * width, 0.0);
            let (_, own) = rows.split_at_mut(start);
            reg_obj.with_numbers(|reg_obj| {
                for (row, [x, y, w, h, objectness]) in own.chunks_exact_mut(width).zip(reg_obj.as_chunks::<5>().0) {
                    let objectness = 1.0 / (1.0 + (-objectness).exp());
                    row.iter_mut().zip([*x, *y, *w, *h, objectness]).for_each(|(place, value)| *place = value);
                }
            })?;
            cls.with_numbers(|cls| {
                for (row, cls) in own.chunks_exact_mut(width).zip(cls.chunks_exact(self.sizes.classes)) {
                    row.iter_mut().skip(5).zip(cls).for_each(|(place, value)| *place = *value);
                }
            })?;
        }
        Ok(rows)
    }

    /// Decodes the boxes of [`Yolox::forward`] in place: centre and size in pixels of the input.
    pub fn decode(&self, rows: &mut [f32], h: usize, w: usize) {
        let width = 5 + self.sizes.classes;
        let mut rows = rows.chunks_mut(width);
        for stride in STRIDES {
            let (lines, columns) = (h / stride, w / stride);
            for (cell, row) in (0..lines * columns).zip(&mut rows) {
                if let [x, y, width, height, ..] = row {
                    *x = (*x + (cell % columns) as f32) * stride as f32;
                    *y = (*y + (cell / columns) as f32) * stride as f32;
                    *width = width.exp() * stride as f32;
                    *height = height.exp() * stride as f32;
                }
            }
        }
    }
}

impl Network for Yolox {
    fn classes(&self) -> usize {
        self.sizes.classes
    }

    fn geometry(&self) -> Geometry {
        /// Side of the second look, times that of the first.
        const SECOND_LOOK: f32 = 1.5;
        let second = side_near((self.side as f32 * SECOND_LOOK) as u32);
        Geometry { input_side: self.side, finest_cell: 8, second_side: Some(second).filter(|side| *side != self.side) }
    }

    fn counting(&self) -> Counting {
        Counting::Calibrated
    }

    /// Finds the things in a picture: boxes in its pixels, each with its best class; `floor` is the least score, `side`
    /// the input's.
    ///
    /// PARITY: the reference shrinks with `OpenCV`'s four-neighbour interpolation, this with Pillow's, which averages all
    /// pixels that fall into one; the inputs of the published golden outputs were made so, and are met exactly. AP on the
    /// 80 photos of ../shared/photos/coco: 34.6 with Pillow's, 35.1 with `OpenCV`'s, 34.9 with
    /// Pillow's and the boxes cut at the border as here (`tools/coco_ap.py`).
    ///
    /// # Errors
    /// A tensor operation failed.
    fn detect(&self, picture: &RgbImage, floor: f32, side: u32) -> Result<Vec<Detection>> {
        let (pixels, scale) = letterbox(picture, side, PADDING);
        let side = side as usize;
        let mut rows = self.forward(&pixels, side, side)?;
        self.decode(&mut rows, side, side);
        let (width, height) = (picture.width() as f32, picture.height() as f32);
        let (mut boxes, mut scores, mut classes) = (Vec::new(), Vec::new(), Vec::new());
        for row in rows.chunks_exact(5 + self.sizes.classes) {
            let [x, y, w, h, objectness, of_class @ ..] = row else { continue };
            if *objectness < floor {
                continue; // No class has a probability above 1.
            }
            let best = of_class.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1).then(b.0.cmp(&a.0)));
            let Some((class, of_class)) = best else { continue };
            let score = objectness * of_class;
            let bounds = XyxyPx::from_centre(*x, *y, *w, *h).mapped(1.0 / scale, 0.0, 0.0);
            if score >= floor && bounds.is_finite() {
                boxes.push(bounds);
                scores.push(score);
                classes.push(class);
            }
        }
        let kept = nms(&boxes, &scores, &classes, NMS_IOU).into_iter();
        let found = kept.filter_map(|at| {
            // Suppressed as the reference does, on whole boxes; shown inside the picture.
            let bounds = boxes.get(at)?.clamped(width, height);
            Some(Detection { class: *classes.get(at)?, score: *scores.get(at)?, bounds })
        });
        Ok(found.filter(|found| found.bounds.area() > 0.0).collect())
    }

    fn run_neutral(&self) -> Result<usize> {
        let side = self.side as usize;
        self.forward(&vec![f32::from(PADDING); 3 * side * side], side, side).map(|rows| rows.len())
    }
}

/// A side of the input near this one: a multiple of the coarsest stride.
fn side_near(side: u32) -> u32 {
    const COARSEST: u32 = 32;
    ((side + COARSEST / 2) / COARSEST).max(1) * COARSEST
}

/// Reads the sizes off the shapes.
fn sizes(checkpoint: &Checkpoint) -> std::result::Result<Sizes, String> {
    let first = |name: &str| {
        let shape = checkpoint.get(name).map(|entry| entry.shape.clone());
        shape
            .and_then(|shape| shape.first().copied())
            .filter(|n| (1..=4096).contains(n))
            .ok_or(format!("has no {name}"))
    };
    Ok(Sizes {
        base: first("backbone.backbone.stem.conv.conv.weight")?,
        depth: (0..32)
            .take_while(|n| checkpoint.get(&format!("backbone.backbone.dark2.1.m.{n}.conv1.conv.weight")).is_some())
            .count(),
        hidden: first("head.stems.0.conv.weight")?,
        classes: first("head.cls_preds.0.weight")?,
        depthwise: checkpoint.get("backbone.backbone.dark2.0.dconv.conv.weight").is_some(),
    })
}
