//! Backbone and neck (`yolox/models/{darknet,yolo_pafpn}.py`).

use super::Sizes;
use super::blocks::{BaseConv, Block, CspLayer};
use crate::compute::{ConvShape, PixelMap};
use crate::error::{Error, Result};
use crate::models::reader::Reader;

/// Stage of `CSPDarknet`: a step down, then a [`CspLayer`].
#[derive(Debug)]
struct Stage {
    down: Block,
    spp: Option<[BaseConv; 2]>,
    csp: CspLayer,
}

impl Stage {
    pub(super) fn forward(&self, x: &PixelMap) -> Result<PixelMap> {
        let mut x = self.down.forward(x)?;
        if let Some([conv1, conv2]) = &self.spp {
            // `SPPBottleneck` pools with windows of 5, 9 and 13: one of 5 after another makes 9, a third one 13.
            let a = conv1.forward(&x)?;
            let b = a.max_pool(5, 1, 2)?;
            let c = b.max_pool(5, 1, 2)?;
            let d = c.max_pool(5, 1, 2)?;
            x = conv2.forward(&a.beside(&b)?.beside(&c)?.beside(&d)?)?;
        }
        self.csp.forward(&x)
    }
}

/// `YOLOPAFPN` over `CSPDarknet`.
#[derive(Debug)]
pub(super) struct Pafpn {
    stem: BaseConv,
    dark: [Stage; 4],
    lateral_conv0: BaseConv,
    c3_p4: CspLayer,
    reduce_conv1: BaseConv,
    c3_p3: CspLayer,
    bu_conv2: Block,
    c3_n3: CspLayer,
    bu_conv1: Block,
    c3_n4: CspLayer,
}

impl Pafpn {
    pub(super) fn load(r: &Reader<'_>, sizes: &Sizes) -> Result<Self> {
        let base = sizes.base;
        let darknet = r.at("backbone");
        let stage = |name: &str, inputs: usize, depth: usize, last: bool| {
            let r = darknet.at(name);
            let outputs = 2 * inputs;
            let spp = if last {
                let r = r.at(1);
                Some([
                    BaseConv::load(&r.at("conv1"), ConvShape::new(outputs, outputs / 2, 1, 1))?,
                    BaseConv::load(&r.at("conv2"), ConvShape::new(2 * outputs, outputs, 1, 1))?,
                ])
            } else {
                None
            };
            Ok::<_, Error>(Stage {
                down: Block::load(&r.at(0), inputs, outputs, 2, sizes)?,
                spp,
                csp: CspLayer::load(&r.at(if last { 2 } else { 1 }), outputs, outputs, depth, !last, sizes)?,
            })
        };
        let (c3, c4, c5) = (4 * base, 8 * base, 16 * base);
        let csp = |name: &str, inputs, outputs| CspLayer::load(&r.at(name), inputs, outputs, sizes.depth, false, sizes);
        Ok(Self {
            stem: BaseConv::load(&darknet.at("stem").at("conv"), ConvShape::new(12, base, 3, 1))?,
            dark: [
                stage("dark2", base, sizes.depth, false)?,
                stage("dark3", 2 * base, 3 * sizes.depth, false)?,
                stage("dark4", c3, 3 * sizes.depth, false)?,
                stage("dark5", c4, sizes.depth, true)?,
            ],
            lateral_conv0: BaseConv::load(&r.at("lateral_conv0"), ConvShape::new(c5, c4, 1, 1))?,
            c3_p4: csp("C3_p4", 2 * c4, c4)?,
            reduce_conv1: BaseConv::load(&r.at("reduce_conv1"), ConvShape::new(c4, c3, 1, 1))?,
            c3_p3: csp("C3_p3", 2 * c3, c3)?,
            bu_conv2: Block::load(&r.at("bu_conv2"), c3, c3, 2, sizes)?,
            c3_n3: csp("C3_n3", 2 * c3, c4)?,
            bu_conv1: Block::load(&r.at("bu_conv1"), c4, c4, 2, sizes)?,
            c3_n4: csp("C3_n4", 2 * c4, c5)?,
        })
    }

    /// Shapes: `[1, h / 2, w / 2, 12]`, as `focus` puts it out -> maps of stride 8, 16, 32.
    pub(super) fn forward(&self, x: &PixelMap) -> Result<[PixelMap; 3]> {
        let [dark2, dark3, dark4, dark5] = &self.dark;
        let x2 = dark3.forward(&dark2.forward(&self.stem.forward(x)?)?)?; // [1, h/8, w/8, 4 base]
        let x1 = dark4.forward(&x2)?; // [1, h/16, w/16, 8 base]
        let x0 = dark5.forward(&x1)?; // [1, h/32, w/32, 16 base]
        let fpn_out0 = self.lateral_conv0.forward(&x0)?;
        let f_out0 = self.c3_p4.forward(&fpn_out0.upsample_twice()?.beside(&x1)?)?;
        let fpn_out1 = self.reduce_conv1.forward(&f_out0)?;
        let pan_out2 = self.c3_p3.forward(&fpn_out1.upsample_twice()?.beside(&x2)?)?;
        let p_out1 = self.bu_conv2.forward(&pan_out2)?.beside(&fpn_out1)?;
        let pan_out1 = self.c3_n3.forward(&p_out1)?;
        let p_out0 = self.bu_conv1.forward(&pan_out1)?.beside(&fpn_out0)?;
        let pan_out0 = self.c3_n4.forward(&p_out0)?;
        Ok([pan_out2, pan_out1, pan_out0])
    }
}
