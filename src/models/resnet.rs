//! `ResNet` as the backbone of detectors and classifiers: basic and bottleneck blocks, frozen batch norm folded at load.
//!
//! Source: He et al. 2016, arXiv:1512.03385; transformers 5.24, `modeling_resnet.py`; timm 1.0, `resnet.py`, whose names are
//! torchvision's; He et al. 2019, arXiv:1812.01187, and transformers' `modeling_rt_detr_resnet.py` for the variant D; facebookresearch/detr, `models/backbone.py`, for the frozen batch norm and the dilated last stage (DC5).

mod config;

use candle_core::Tensor;

pub(super) use self::config::{MOST_LAYERS, MOST_WIDTH, activation};
use super::reader::Reader;
use super::transformer::Stages;
use crate::compute::{Activation, ConvShape, PixelConv, PixelMap};
use crate::error::{Error, Result};

/// `eps` of torchvision's, timm's and the detectors' frozen batch norm.
pub(super) const BATCH_NORM_EPS: f32 = 1e-5;
/// Output channels of a bottleneck for each of its middle ones.
const EXPANSION: usize = 4;

/// The two ways in which checkpoints name the same tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Names {
    /// `layer1.0.conv1`, `layer1.0.bn1`, `layer1.0.downsample.0`.
    Timm,
    /// `encoder.stages.0.layers.0.layer.0.convolution`, `.normalization`, `.shortcut.convolution`.
    Transformers,
}

impl Names {
    /// The convolution that the network begins with, and its norm.
    pub(super) fn stem(self) -> (&'static str, &'static str) {
        match self {
            Self::Timm => ("conv1", "bn1"),
            Self::Transformers => ("embedder.embedder.convolution", "embedder.embedder.normalization"),
        }
    }

    /// A block.
    pub(super) fn block(self, stage: usize, block: usize) -> String {
        match self {
            Self::Timm => format!("layer{}.{block}", stage + 1),
            Self::Transformers => format!("encoder.stages.{stage}.layers.{block}"),
        }
    }

    /// A convolution of a block, and its norm.
    pub(super) fn conv(self, index: usize) -> (String, String) {
        match self {
            Self::Timm => (format!("conv{}", index + 1), format!("bn{}", index + 1)),
            Self::Transformers => (format!("layer.{index}.convolution"), format!("layer.{index}.normalization")),
        }
    }

    /// `averaged` where a pooling comes first.
    fn shortcut(self, averaged: bool) -> (&'static str, &'static str) {
        match (self, averaged) {
            (Self::Timm, false) => ("downsample.0", "downsample.1"),
            (Self::Timm, true) => ("downsample.1", "downsample.2"),
            (Self::Transformers, false) => ("shortcut.convolution", "shortcut.normalization"),
            (Self::Transformers, true) => ("shortcut.1.convolution", "shortcut.1.normalization"),
        }
    }
}

/// The numbers of a network.
#[derive(Debug, Clone, PartialEq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "they are the switches of the references' configs, independent of each other"
)]
pub(super) struct ResnetConfig {
    pub(super) names: Names,
    /// Channels after the stem.
    pub(super) stem: usize,
    /// Blocks and output channels of each stage.
    pub(super) stages: Vec<(usize, usize)>,
    /// Three convolutions in a block instead of two.
    pub(super) bottleneck: bool,
    pub(super) activation: Activation,
    /// The first stage halves the sides, too.
    pub(super) downsample_in_first_stage: bool,
    /// A bottleneck that halves the sides does so in its first convolution instead of its second.
    pub(super) downsample_in_bottleneck: bool,
    /// The last stage keeps the sides and looks further apart instead (DC5).
    pub(super) dilated: bool,
    /// Three convolutions in the stem, and shortcuts that average before they project.
    pub(super) variant_d: bool,
    /// Of the batch norms.
    pub(super) eps: f32,
}

impl ResnetConfig {
    /// Blocks of each stage, and whether they are bottlenecks, of a network that goes by its name.
    pub(super) fn published(name: &str) -> Option<([usize; 4], bool)> {
        match name {
            "resnet18" => Some(([2, 2, 2, 2], false)),
            "resnet34" => Some(([3, 4, 6, 3], false)),
            "resnet50" => Some(([3, 4, 6, 3], true)),
            "resnet101" => Some(([3, 4, 23, 3], true)),
            "resnet152" => Some(([3, 8, 36, 3], true)),
            _ => None,
        }
    }

    /// Channels of the last map.
    pub(super) fn outputs(&self) -> usize {
        self.stages.last().map_or(self.stem, |(_, outputs)| *outputs)
    }

    /// Pixels of the input per cell of the last map.
    pub(super) fn stride(&self) -> u32 {
        let halvings = 2 + (0..self.stages.len()).filter(|stage| self.step(*stage) == 2).count();
        1 << halvings
    }

    /// By what a stage divides the sides.
    fn step(&self, stage: usize) -> usize {
        let keeps = (stage == 0 && !self.downsample_in_first_stage)
            || (stage > 0 && self.dilated && stage + 1 == self.stages.len());
        if keeps { 1 } else { 2 }
    }
}

/// The network without its classifier.
#[derive(Debug)]
pub(super) struct Resnet {
    /// One convolution, or three.
    stem: Vec<PixelConv>,
    stages: Vec<Vec<Block>>,
    activation: Activation,
}

impl Resnet {
    pub(super) fn new(reader: &Reader<'_>, config: &ResnetConfig) -> Result<Self> {
        let mut inputs = config.stem;
        let mut stages = Vec::with_capacity(config.stages.len());
        for (stage, (depth, outputs)) in config.stages.iter().copied().enumerate() {
            let blocks = (0..depth).map(|block| {
                let place = Place {
                    inputs: if block == 0 { inputs } else { outputs },
                    outputs,
                    stride: if block == 0 { config.step(stage) } else { 1 },
                    // The first block of a dilated stage still has its neighbours' distance.
                    dilation: if config.dilated && stage > 0 && stage + 1 == config.stages.len() && block > 0 {
                        2
                    } else {
                        1
                    },
                    shortcut: block == 0
                        && (inputs != outputs || config.step(stage) != 1 || (config.variant_d && !config.bottleneck)),
                };
                Block::new(&reader.at(config.names.block(stage, block)), &place, config)
            });
            stages.push(blocks.collect::<Result<_>>()?);
            inputs = outputs;
        }
        Ok(Self { stem: stem(reader, config)?, stages, activation: config.activation })
    }

    /// Shapes: `[b, 3, h, w]` -> `[b, h / stride, w / stride, channels]`, sides rounded up; channels side by side.
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let last = self.maps(x, 1)?.pop();
        last.ok_or_else(|| Error::Argument { name: "stages", reason: "are none".into() })?.to_tensor()
    }

    /// The mean of the last map, and the stages on the way to it. Shapes: `[b, 3, h, w]` -> `[b, channels]`.
    pub(super) fn features(&self, x: &Tensor, stages: &mut Stages) -> Result<Tensor> {
        let maps = self.maps(x, if stages.are_kept() { self.stages.len() } else { 1 })?;
        if stages.are_kept() {
            for (place, map) in maps.iter().enumerate() {
                stages.note(|| format!("stages.{place}"), &map.to_tensor()?);
            }
        }
        let last = maps.last().ok_or_else(|| Error::Argument { name: "stages", reason: "are none".into() })?;
        let pooled = last.mean()?; // [b, channels]
        stages.note(|| "pooled".to_owned(), &pooled);
        Ok(pooled)
    }

    /// What the last `count` stages put out, the finest map first. Shapes: as [`Resnet::forward`], each stage with its stride.
    pub(super) fn maps(&self, x: &Tensor, count: usize) -> Result<Vec<PixelMap>> {
        let activation = Some(self.activation);
        let mut x = PixelMap::from_channels(x)?;
        for conv in &self.stem {
            x = conv.forward(&x, activation)?; // [b, h / 2, w / 2, stem]
        }
        let mut x = x.max_pool(3, 2, 1)?; // [b, h / 4, w / 4, stem]
        let mut maps = Vec::with_capacity(count);
        let first = self.stages.len().saturating_sub(count);
        for (stage, blocks) in self.stages.iter().enumerate() {
            // What the stage before put out is kept.
            let mut ends = (stage > first).then_some(());
            for block in blocks {
                let y = block.forward(&x, self.activation)?;
                let before = std::mem::replace(&mut x, y);
                maps.extend(ends.take().map(|()| before));
            }
        }
        maps.push(x);
        Ok(maps)
    }
}

/// What a network begins with: one convolution of 7 x 7, or three of 3 x 3.
fn stem(reader: &Reader<'_>, config: &ResnetConfig) -> Result<Vec<PixelConv>> {
    let (conv, norm) = config.names.stem();
    if !config.variant_d {
        let shape = ConvShape::new(3, config.stem, 7, 2);
        return Ok(vec![reader.pixel_conv_batch_norm(conv, norm, shape, config.eps)?]);
    }
    let half = config.stem / 2;
    let shapes = [(3, half, 2), (half, half, 1), (half, config.stem, 1)];
    let convs = shapes.into_iter().enumerate().map(|(n, (inputs, outputs, stride))| {
        let shape = ConvShape::new(inputs, outputs, 3, stride);
        reader.at("embedder.embedder").at(n).pixel_conv_batch_norm("convolution", "normalization", shape, config.eps)
    });
    convs.collect()
}

/// What a block's place in its stage says.
struct Place {
    inputs: usize,
    outputs: usize,
    stride: usize,
    dilation: usize,
    shortcut: bool,
}

/// A residual block: the last convolution's output and the shortcut are added before the activation.
#[derive(Debug)]
struct Block {
    convs: Vec<PixelConv>,
    last: PixelConv,
    shortcut: Option<PixelConv>,
    /// The shortcut averages windows of 2 x 2 first.
    averaged: bool,
}

impl Block {
    fn new(reader: &Reader<'_>, place: &Place, config: &ResnetConfig) -> Result<Self> {
        let &Place { inputs, outputs, stride, dilation, shortcut } = place;
        let wide = ConvShape { padding: dilation, dilation, ..ConvShape::new(0, 0, 3, 1) };
        let shapes = if config.bottleneck {
            let middle = outputs / EXPANSION;
            let (first, second) = if config.downsample_in_bottleneck { (stride, 1) } else { (1, stride) };
            vec![
                ConvShape::new(inputs, middle, 1, first),
                ConvShape { inputs: middle, outputs: middle, stride: second, ..wide },
                ConvShape::new(middle, outputs, 1, 1),
            ]
        } else {
            vec![ConvShape { inputs, outputs, stride, ..wide }, ConvShape { inputs: outputs, outputs, ..wide }]
        };
        let mut convs = shapes
            .into_iter()
            .enumerate()
            .map(|(index, shape)| {
                let (conv, norm) = config.names.conv(index);
                reader.pixel_conv_batch_norm(&conv, &norm, shape, config.eps)
            })
            .collect::<Result<Vec<_>>>()?;
        let last = convs.remove(convs.len() - 1);
        // In basic blocks the reference goes by the channels; no published network differs there.
        let averaged = config.variant_d && if config.bottleneck { stride != 1 } else { inputs != outputs };
        let (conv, norm) = config.names.shortcut(averaged);
        let shape = ConvShape::new(inputs, outputs, 1, if averaged { 1 } else { stride });
        let shortcut = if shortcut { Some(reader.pixel_conv_batch_norm(conv, norm, shape, config.eps)?) } else { None };
        Ok(Self { convs, last, shortcut, averaged })
    }

    /// Shapes: `[b, h, w, inputs]` -> `[b, h / stride, w / stride, outputs]`.
    fn forward(&self, x: &PixelMap, activation: Activation) -> Result<PixelMap> {
        let mut inner: Option<PixelMap> = None;
        for conv in &self.convs {
            // `hidden_act` is that of the stem and of a block's end; between its convolutions the reference has ReLU.
            inner = Some(conv.forward(inner.as_ref().unwrap_or(x), Some(Activation::Relu))?);
        }
        let y = inner.as_ref().unwrap_or(x);
        match &self.shortcut {
            Some(shortcut) if self.averaged => {
                self.last.forward_plus(y, &shortcut.forward(&x.average_pool()?, None)?, Some(activation))
            }
            Some(shortcut) => self.last.forward_plus(y, &shortcut.forward(x, None)?, Some(activation)),
            None => self.last.forward_plus(y, x, Some(activation)),
        }
    }
}
