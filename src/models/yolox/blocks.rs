//! The parts that backbone and head are made of (`yolox/models/network_blocks.py`).

use candle_core::Tensor;

use super::Sizes;
use crate::compute::{Activation, Conv2d, ConvShape};
use crate::error::{Error, Result};
use crate::models::reader::Reader;

/// `eps` of the reference's batch norms (`exps/default`, `init_yolo`).
const BATCH_NORM_EPS: f32 = 1e-3;

/// `BaseConv`: convolution, folded batch norm, `SiLU`.
#[derive(Debug)]
pub(super) struct BaseConv(Conv2d);

impl BaseConv {
    pub(super) fn load(r: &Reader<'_>, shape: ConvShape) -> Result<Self> {
        Ok(Self(r.conv_batch_norm("conv", "bn", shape, BATCH_NORM_EPS)?))
    }

    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.0.forward(x, Some(Activation::Silu))
    }
}

/// `BaseConv`, or `DWConv`: depthwise, then pointwise.
#[derive(Debug)]
pub(super) enum Block {
    Base(BaseConv),
    Depthwise { dconv: BaseConv, pconv: BaseConv },
}

impl Block {
    pub(super) fn load(r: &Reader<'_>, inputs: usize, outputs: usize, stride: usize, sizes: &Sizes) -> Result<Self> {
        if !sizes.depthwise {
            return Ok(Self::Base(BaseConv::load(r, ConvShape::new(inputs, outputs, 3, stride))?));
        }
        let own = ConvShape { groups: inputs, ..ConvShape::new(inputs, inputs, 3, stride) };
        Ok(Self::Depthwise {
            dconv: BaseConv::load(&r.at("dconv"), own)?,
            pconv: BaseConv::load(&r.at("pconv"), ConvShape::new(inputs, outputs, 1, 1))?,
        })
    }

    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Base(conv) => conv.forward(x),
            Self::Depthwise { dconv, pconv } => pconv.forward(&dconv.forward(x)?),
        }
    }
}

/// `Bottleneck`: pointwise, then 3 x 3; with a shortcut.
#[derive(Debug)]
pub(super) struct Bottleneck {
    conv1: BaseConv,
    conv2: Block,
    shortcut: bool,
}

impl Bottleneck {
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let y = self.conv2.forward(&self.conv1.forward(x)?)?;
        if self.shortcut { (y + x).map_err(Error::tensor("shortcut")) } else { Ok(y) }
    }
}

/// `CSPLayer`.
#[derive(Debug)]
pub(super) struct CspLayer {
    conv1: BaseConv,
    conv2: BaseConv,
    conv3: BaseConv,
    m: Vec<Bottleneck>,
}

impl CspLayer {
    pub(super) fn load(
        r: &Reader<'_>,
        inputs: usize,
        outputs: usize,
        depth: usize,
        shortcut: bool,
        sizes: &Sizes,
    ) -> Result<Self> {
        let hidden = outputs / 2;
        let pointwise = |name: &str, i, o| BaseConv::load(&r.at(name), ConvShape::new(i, o, 1, 1));
        let bottleneck = |n: usize| {
            let r = r.at("m").at(n);
            Ok(Bottleneck {
                conv1: BaseConv::load(&r.at("conv1"), ConvShape::new(hidden, hidden, 1, 1))?,
                conv2: Block::load(&r.at("conv2"), hidden, hidden, 1, sizes)?,
                shortcut,
            })
        };
        Ok(Self {
            conv1: pointwise("conv1", inputs, hidden)?,
            conv2: pointwise("conv2", inputs, hidden)?,
            conv3: pointwise("conv3", 2 * hidden, outputs)?,
            m: (0..depth).map(bottleneck).collect::<Result<_>>()?,
        })
    }

    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mut a = self.conv1.forward(x)?;
        for bottleneck in &self.m {
            a = bottleneck.forward(&a)?;
        }
        self.conv3.forward(&cat(&[&a, &self.conv2.forward(x)?])?)
    }
}

/// `Focus`: every second pixel, four ways, as channels. Shapes: `[1, 3, h, w]` -> `[1, 12, h / 2, w / 2]`.
pub(super) fn focus(x: &Tensor) -> Result<Tensor> {
    let run = || {
        let (b, c, h, w) = x.dims4()?;
        let x = x.reshape((b, c, h / 2, 2, w / 2, 2))?;
        let part = |dy: usize, dx: usize| x.narrow(5, dx, 1)?.narrow(3, dy, 1)?.reshape((b, c, h / 2, w / 2));
        // The reference's order: top left, bottom left, top right, bottom right.
        Tensor::cat(&[part(0, 0)?, part(1, 0)?, part(0, 1)?, part(1, 1)?], 1)
    };
    run().map_err(Error::tensor("focus"))
}

pub(super) fn cat(parts: &[&Tensor]) -> Result<Tensor> {
    Tensor::cat(parts, 1).map_err(Error::tensor("concatenation"))
}
