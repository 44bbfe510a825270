//! The decoupled head (`yolox/models/yolo_head.py`).

use candle_core::Tensor;

use super::Sizes;
use super::blocks::{BaseConv, Block, cat};
use crate::compute::{Conv2d, ConvShape};
use crate::error::Result;
use crate::models::reader::Reader;

/// One level of `YOLOXHead`.
#[derive(Debug)]
pub(super) struct Level {
    stem: BaseConv,
    cls_convs: [Block; 2],
    reg_convs: [Block; 2],
    cls_pred: Conv2d,
    reg_pred: Conv2d,
    obj_pred: Conv2d,
}

impl Level {
    pub(super) fn load(r: &Reader<'_>, level: usize, sizes: &Sizes) -> Result<Self> {
        let hidden = sizes.hidden;
        let block = |name: &str, n: usize| Block::load(&r.at(name).at(level).at(n), hidden, hidden, 1, sizes);
        let pred = |name: &str, outputs| r.at(name).conv(&level.to_string(), ConvShape::new(hidden, outputs, 1, 1));
        let inputs = sizes.base * (4 << level);
        Ok(Self {
            stem: BaseConv::load(&r.at("stems").at(level), ConvShape::new(inputs, hidden, 1, 1))?,
            cls_convs: [block("cls_convs", 0)?, block("cls_convs", 1)?],
            reg_convs: [block("reg_convs", 0)?, block("reg_convs", 1)?],
            cls_pred: pred("cls_preds", sizes.classes)?,
            reg_pred: pred("reg_preds", 4)?,
            obj_pred: pred("obj_preds", 1)?,
        })
    }

    /// Shapes: `[1, inputs, h, w]` -> `[1, 4 + 1 + classes, h, w]`.
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let x = self.stem.forward(x)?;
        let through = |blocks: &[Block; 2]| blocks[1].forward(&blocks[0].forward(&x)?);
        let cls = self.cls_pred.forward(&through(&self.cls_convs)?, None)?;
        let reg_feat = through(&self.reg_convs)?;
        let reg = self.reg_pred.forward(&reg_feat, None)?;
        let obj = self.obj_pred.forward(&reg_feat, None)?;
        cat(&[&reg, &obj, &cls])
    }
}
