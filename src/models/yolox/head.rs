//! The decoupled head (`yolox/models/yolo_head.py`).

use super::Sizes;
use super::blocks::{BaseConv, Block};
use crate::compute::{Activation, ConvShape, PixelConv, PixelMap};
use crate::error::Result;
use crate::models::reader::Reader;

/// One level of `YOLOXHead`.
#[derive(Debug)]
pub(super) struct Level {
    stem: BaseConv,
    cls_convs: [Block; 2],
    reg_convs: [Block; 2],
    cls_pred: PixelConv,
    /// `reg_preds` and `obj_preds`, which look at the same.
    reg_obj_pred: PixelConv,
}

impl Level {
    pub(super) fn load(r: &Reader<'_>, level: usize, sizes: &Sizes) -> Result<Self> {
        let hidden = sizes.hidden;
        let block = |name: &str, n: usize| Block::load(&r.at(name).at(level).at(n), hidden, hidden, 1, sizes);
        let pred = |outputs| ConvShape::new(hidden, outputs, 1, 1);
        let inputs = sizes.base * (4 << level);
        Ok(Self {
            stem: BaseConv::load(&r.at("stems").at(level), ConvShape::new(inputs, hidden, 1, 1))?,
            cls_convs: [block("cls_convs", 0)?, block("cls_convs", 1)?],
            reg_convs: [block("reg_convs", 0)?, block("reg_convs", 1)?],
            cls_pred: r.at("cls_preds").pixel_conv(&level.to_string(), pred(sizes.classes))?,
            reg_obj_pred: r
                .pixel_convs(&[(&format!("reg_preds.{level}"), 4), (&format!("obj_preds.{level}"), 1)], pred(5))?,
        })
    }

    /// Shapes: `[1, h, w, inputs]` -> boxes and objectness as predicted `[1, h, w, 4 + 1]`, probabilities `[1, h, w, classes]`.
    pub(super) fn forward(&self, x: &PixelMap) -> Result<[PixelMap; 2]> {
        let x = self.stem.forward(x)?;
        let through = |blocks: &[Block; 2]| blocks[1].forward(&blocks[0].forward(&x)?);
        let cls = self.cls_pred.forward(&through(&self.cls_convs)?, Some(Activation::Sigmoid))?;
        Ok([self.reg_obj_pred.forward(&through(&self.reg_convs)?, None)?, cls])
    }
}
