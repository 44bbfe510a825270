//! A thing that is shown instead of named: which of the example's patches stands for it.
//!
//! Source: transformers 5.24, `embed_image_query` of `modeling_owlvit.py` and `modeling_owlv2.py`; Minderer et al. 2022,
//! section 4.4. The reference takes whole pictures only; a box in the example takes the place of the whole picture in OWL-ViT's
//! rule here, for both models.

use std::sync::OnceLock;

use candle_core::{Device, Tensor};
use image::RgbImage;

use super::{Core, Stages, flat, hash};
use crate::error::{Error, Result};
use crate::geometry::{CxcywhNorm, XyxyPx};

/// Patches count whose boxes fit the example at least so well, as a share of the best one.
const NEAR_BEST: f32 = 0.8;

/// A picture, or a part of it, and once it was looked at what it stands for.
#[derive(Debug)]
pub(super) struct Example {
    picture: RgbImage,
    /// In pixels of the picture; all of it without.
    bounds: Option<XyxyPx>,
    seen: OnceLock<Shown>,
}

/// What an example shows.
#[derive(Debug)]
pub(super) struct Shown {
    /// A unit vector, on the CPU. Shape: `[1, dim]`.
    pub(super) query: Tensor,
    /// The patch that it was taken from.
    pub(super) patch: usize,
}

impl Example {
    pub(super) fn new(picture: RgbImage, bounds: Option<XyxyPx>) -> Self {
        Self { picture, bounds, seen: OnceLock::new() }
    }

    /// What it shows; looked at once. No lock is held meanwhile: whoever waits for one within the pool of threads could be
    /// given this very work.
    pub(super) fn seen(&self, core: &Core) -> Result<&Shown> {
        if let Some(seen) = self.seen.get() {
            return Ok(seen);
        }
        let shown = self.look(core)?;
        Ok(self.seen.get_or_init(|| shown))
    }

    fn look(&self, core: &Core) -> Result<Shown> {
        let features = core.features(&[&core.input.apply(&self.picture)], &mut Stages::off())?;
        let read = std::sync::Arc::new(core.heads.forward(&features)?);
        // Its own picture is often among those that are asked about.
        core.keep(hash(&self.picture), &read);
        let target = self.bounds.map(|bounds| {
            let (across, down) = core.frame(self.picture.dimensions());
            let [x0, y0, x1, y1] = bounds.to_array();
            XyxyPx { x0: x0 / across, y0: y0 / down, x1: x1 / across, y1: y1 / down }
        });
        let objectness = if target.is_none() { core.heads.objectness(&features)? } else { None };
        let patch = if let Some(objectness) = objectness {
            first_best(objectness)
        } else {
            let whole = XyxyPx { x0: 0.0, y0: 0.0, x1: 1.0, y1: 1.0 };
            let embeds = flat(&core.heads.class_embeds(&features)?)?;
            stands_out(&target.unwrap_or(whole), &read.boxes, &embeds)
        };
        let patch = patch.ok_or_else(|| Error::Argument { name: "like", reason: "shows nothing".into() })?;
        let dim = read.class_embeds.dim(1).map_err(Error::tensor("class embeddings"))?;
        let query = read.class_embeds.narrow(0, patch, 1).and_then(|row| flat_row(&row, dim));
        Ok(Shown { query: query.map_err(Error::tensor("query embedding"))?, patch })
    }
}

/// A row by itself: a part of a tensor would keep all of it in memory.
fn flat_row(row: &Tensor, dim: usize) -> candle_core::Result<Tensor> {
    Tensor::from_vec(row.flatten_all()?.to_vec1::<f32>()?, (1, dim), &Device::Cpu)
}

/// Position of the greatest number; of equal ones the first.
fn first_best(numbers: impl IntoIterator<Item = f32>) -> Option<usize> {
    let numbers = numbers.into_iter().enumerate().filter(|(_, number)| !number.is_nan());
    numbers.max_by(|a, b| a.1.total_cmp(&b.1).then(b.0.cmp(&a.0))).map(|(at, _)| at)
}

/// Of the patches whose boxes fit the target well, the one that is least like the mean of all: training gives each object one
/// patch, and the others around it are background.
///
/// Shapes: boxes `[patches, 4]`, centre and size, and the target are shares of one frame; embeds `[patches, dim]`.
fn stands_out(target: &XyxyPx, boxes: &[f32], embeds: &[f32]) -> Option<usize> {
    let boxes = boxes.as_chunks::<4>().0.iter().map(|&[cx, cy, w, h]| CxcywhNorm { cx, cy, w, h }.to_px(1.0, 1.0));
    let boxes: Vec<XyxyPx> = boxes.collect();
    let mut fits: Vec<f32> = boxes.iter().map(|bounds| target.iou(bounds)).collect();
    if fits.iter().all(|fit| *fit <= 0.0) {
        fits = boxes.iter().map(|bounds| generalized_iou(target, bounds)).collect();
    }
    let best = fits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    // PARITY: where no box meets the target, the reference takes 0.8 of a number below 0, which none reaches.
    let least = if best > 0.0 { best * NEAR_BEST } else { best };
    let dim = embeds.len() / boxes.len().max(1);
    let rows = || embeds.chunks(dim.max(1));
    let mut mean = vec![0.0_f32; dim];
    for row in rows() {
        mean.iter_mut().zip(row).for_each(|(sum, x)| *sum += x / boxes.len() as f32);
    }
    let unlike = rows().zip(&fits).map(|(row, fit)| {
        let like: f32 = row.iter().zip(&mean).map(|(x, mean)| x * mean).sum();
        if *fit >= least { -like } else { f32::NAN }
    });
    first_best(unlike)
}

/// `IoU` less the share of the smallest box around both that neither covers.
/// Source: Rezatofighi et al. 2019, arXiv:1902.09630.
fn generalized_iou(a: &XyxyPx, b: &XyxyPx) -> f32 {
    let around = XyxyPx { x0: a.x0.min(b.x0), y0: a.y0.min(b.y0), x1: a.x1.max(b.x1), y1: a.y1.max(b.y1) }.area();
    let union = a.area() + b.area() - a.intersection(b);
    a.iou(b) - (around - union) / around
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_patch_that_is_unlike_the_others_stands_for_the_thing() {
        let target = XyxyPx { x0: 0.0, y0: 0.0, x1: 0.5, y1: 0.5 };
        // Three fit, the last lies elsewhere and is the most unlike.
        let boxes = [0.25, 0.25, 0.5, 0.5, 0.25, 0.25, 0.48, 0.5, 0.25, 0.25, 0.5, 0.47, 0.9, 0.9, 0.1, 0.1];
        let embeds = [1.0, 0.0, 0.2, 0.9, 1.0, 0.1, -3.0, 0.0];
        assert_eq!(stands_out(&target, &boxes, &embeds), Some(0), "the mean is (-0.2, 0.25)");
        assert_eq!(stands_out(&target, &boxes, &[1.0, 0.0, 0.2, 0.9, 1.0, 0.1, 3.0, 0.0]), Some(1));
        assert_eq!(stands_out(&target, &[], &[]), None);
    }

    #[test]
    fn without_a_box_that_meets_the_target_the_nearest_one_is_taken() {
        let target = XyxyPx { x0: 0.0, y0: 0.0, x1: 0.1, y1: 0.1 };
        let boxes = [0.9, 0.9, 0.1, 0.1, 0.5, 0.5, 0.1, 0.1];
        assert_eq!(stands_out(&target, &boxes, &[1.0, 1.0]), Some(1));
        assert!(generalized_iou(&target, &target) > 0.999);
    }

    #[test]
    fn of_equal_numbers_the_first_is_taken_and_what_is_none_never() {
        assert_eq!(first_best([f32::NAN, 1.0, 2.0, 2.0]), Some(2));
        assert_eq!(first_best([f32::NAN]), None);
    }
}
