//! The parts that backbone and head are made of (`yolox/models/network_blocks.py`).

use super::Sizes;
use crate::compute::{Activation, Backend, ConvShape, PixelConv, PixelMap};
use crate::error::Result;
use crate::models::reader::Reader;

/// `eps` of the reference's batch norms (`exps/default`, `init_yolo`).
const BATCH_NORM_EPS: f32 = 1e-3;

/// `BaseConv`: convolution, folded batch norm, `SiLU`.
#[derive(Debug)]
pub(super) struct BaseConv(PixelConv);

impl BaseConv {
    pub(super) fn load(r: &Reader<'_>, shape: ConvShape) -> Result<Self> {
        Ok(Self(r.pixel_conv_batch_norm("conv", "bn", shape, BATCH_NORM_EPS)?))
    }

    pub(super) fn forward(&self, x: &PixelMap) -> Result<PixelMap> {
        self.0.forward(x, Some(Activation::Silu))
    }

    /// With a map that is added at the end.
    fn forward_then_plus(&self, x: &PixelMap, residual: &PixelMap) -> Result<PixelMap> {
        self.0.forward_then_plus(x, residual, Some(Activation::Silu))
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

    pub(super) fn forward(&self, x: &PixelMap) -> Result<PixelMap> {
        match self {
            Self::Base(conv) => conv.forward(x),
            Self::Depthwise { dconv, pconv } => pconv.forward(&dconv.forward(x)?),
        }
    }

    /// With a map that is added at the end.
    fn forward_then_plus(&self, x: &PixelMap, residual: &PixelMap) -> Result<PixelMap> {
        match self {
            Self::Base(conv) => conv.forward_then_plus(x, residual),
            Self::Depthwise { dconv, pconv } => pconv.forward_then_plus(&dconv.forward(x)?, residual),
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
    pub(super) fn forward(&self, x: &PixelMap) -> Result<PixelMap> {
        let y = self.conv1.forward(x)?;
        if self.shortcut { self.conv2.forward_then_plus(&y, x) } else { self.conv2.forward(&y) }
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

    pub(super) fn forward(&self, x: &PixelMap) -> Result<PixelMap> {
        let mut a = self.conv1.forward(x)?;
        for bottleneck in &self.m {
            a = bottleneck.forward(&a)?;
        }
        self.conv3.forward(&a.beside(&self.conv2.forward(x)?)?)
    }
}

/// `Focus`: every second pixel, four ways, as channels. Shapes: `pixels` `[3, h, w]` flattened -> `[1, h / 2, w / 2, 12]`.
pub(super) fn focus(pixels: &[f32], h: usize, w: usize, backend: &Backend) -> Result<PixelMap> {
    /// Places of a block of four pixels, in the reference's order: top left, bottom left, top right, bottom right.
    const PLACES: [(usize, usize); 4] = [(0, 0), (1, 0), (0, 1), (1, 1)];
    PixelMap::from_lines([1, h / 2, w / 2, 12], backend, |y, out| {
        for (place, (dy, dx)) in PLACES.into_iter().enumerate() {
            for channel in 0..3 {
                let line = pixels.get((channel * h + 2 * y + dy) * w + dx..).unwrap_or_default();
                for (pixel, value) in out.chunks_exact_mut(12).zip(line.iter().step_by(2)) {
                    pixel[3 * place + channel] = *value;
                }
            }
        }
    })
}
