//! `IResNet`, which `ArcFace`, `CosFace` and their like are trained on: crops of faces as vectors. Weights are the user's own.
//!
//! Source: deepinsight/insightface, `recognition/arcface_torch/backbones/iresnet.py`; Deng et al. 2019, arXiv:1801.07698; Wang et
//! al. 2018, arXiv:1801.09414. Names are the checkpoint's.

use candle_core::Tensor;
use serde_json::{Value, json};

use super::checkpoint::Checkpoint;
use super::config::{IresnetConfig, MOST_STAGES};
use super::reader::Reader;
use super::resnet::BATCH_NORM_EPS;
use super::transformer::Stages;
use crate::compute::{Backend, ConvShape, PerChannel, PixelConv, PixelMap, tensor};
use crate::error::Result;

/// By what each of the layers divides the sides.
const STEP: usize = 2;

/// `IResNet`.
#[derive(Debug)]
pub(super) struct Iresnet {
    /// With `bn1` folded in.
    conv1: PixelConv,
    prelu: PerChannel,
    layers: Vec<Vec<IBasicBlock>>,
    /// With `bn2` before it and `features` behind it folded in, over all of the last map.
    fc: PixelConv,
    side: usize,
}

impl Iresnet {
    pub(super) fn new(reader: &Reader<'_>, config: &IresnetConfig) -> Result<Self> {
        let stem = config.layers.first().map_or(0, |(_, width)| *width);
        let mut inputs = stem;
        let mut layers = Vec::with_capacity(config.layers.len());
        for (place, (depth, width)) in config.layers.iter().copied().enumerate() {
            let blocks = (0..depth).map(|block| {
                let (inputs, stride) = if block == 0 { (inputs, STEP) } else { (width, 1) };
                IBasicBlock::new(&reader.at(format_args!("layer{}.{block}", place + 1)), inputs, width, stride)
            });
            layers.push(blocks.collect::<Result<_>>()?);
            inputs = width;
        }
        let conv1 = reader.pixel_conv_batch_norm("conv1", "bn1", ConvShape::new(3, stem, 3, 1), BATCH_NORM_EPS)?;
        let fc = head(reader, ConvShape { padding: 0, ..ConvShape::new(inputs, config.dim, config.last_side(), 1) })?;
        Ok(Self { conv1, prelu: reader.prelu("prelu", stem)?, layers, fc, side: config.image_size })
    }

    /// Shapes: each `[3, side, side]` flattened -> `[batch, dim]`, not normalised.
    pub(super) fn image_features(&self, images: &[&[f32]], backend: &Backend, stages: &mut Stages) -> Result<Tensor> {
        let x = tensor(images.concat(), &[images.len(), 3, self.side, self.side], backend)?;
        let mut x = self.prelu.forward(&self.conv1.forward(&PixelMap::from_channels(&x)?, None)?)?; // [b, h, w, stem]
        stages.note(|| "embeddings".to_owned(), &x.to_tensor()?);
        for (place, blocks) in self.layers.iter().enumerate() {
            for block in blocks {
                x = block.forward(&x)?;
            }
            stages.note(|| format!("layers.{place}"), &x.to_tensor()?);
        }
        let features = self.fc.forward(&x, None)?.mean()?; // [b, 1, 1, dim] -> [b, dim]
        stages.note(|| "pooled".to_owned(), &features);
        Ok(features)
    }
}

/// `fc`, which is linear over the last map channel by channel, with the norms around it: `w' = s2 * w * s1`,
/// `b' = s2 * (b + w * t1) + t2`, where a norm is `s * x + t`.
fn head(reader: &Reader<'_>, shape: ConvShape) -> Result<PixelConv> {
    let [outputs, inputs, ..] = shape.weight_dims();
    let cells = shape.kernel * shape.kernel;
    let mut weight = reader.at("fc").values("weight", &[outputs, inputs * cells])?;
    let mut bias = reader.at("fc").values("bias", &[outputs])?;
    let (before, shift) = reader.batch_norm("bn2", inputs, BATCH_NORM_EPS)?;
    let (behind, last) = reader.batch_norm("features", outputs, BATCH_NORM_EPS)?;
    let rows = weight.chunks_mut((inputs * cells).max(1)).zip(&mut bias).zip(behind.iter().zip(&last));
    for ((row, bias), (behind, last)) in rows {
        let channels = row.chunks_mut(cells.max(1)).zip(before.iter().zip(&shift));
        for (channel, (before, shift)) in channels {
            for value in channel {
                *bias += *value * shift;
                *value *= before * behind;
            }
        }
        *bias = *bias * behind + last;
    }
    reader.pixel_conv_from(shape, weight, bias)
}

/// A residual block that is normalised before its first convolution.
#[derive(Debug)]
struct IBasicBlock {
    /// Its shift does not reach the border of zeros, so it cannot be folded into the convolution.
    bn1: PerChannel,
    conv1: PixelConv,
    prelu: PerChannel,
    conv2: PixelConv,
    downsample: Option<PixelConv>,
}

impl IBasicBlock {
    fn new(reader: &Reader<'_>, inputs: usize, outputs: usize, stride: usize) -> Result<Self> {
        let folded = |conv: &str, norm: &str, shape| reader.pixel_conv_batch_norm(conv, norm, shape, BATCH_NORM_EPS);
        let (scale, shift) = reader.batch_norm("bn1", inputs, BATCH_NORM_EPS)?;
        let shortcut = || folded("downsample.0", "downsample.1", ConvShape::new(inputs, outputs, 1, stride));
        Ok(Self {
            bn1: PerChannel::affine(scale, shift, reader.backend())?,
            conv1: folded("conv1", "bn2", ConvShape::new(inputs, outputs, 3, 1))?,
            prelu: reader.prelu("prelu", outputs)?,
            conv2: folded("conv2", "bn3", ConvShape::new(outputs, outputs, 3, stride))?,
            downsample: if stride != 1 || inputs != outputs { Some(shortcut()?) } else { None },
        })
    }

    /// Shapes: `[b, h, w, inputs]` -> `[b, h / stride, w / stride, outputs]`, sides rounded up.
    fn forward(&self, x: &PixelMap) -> Result<PixelMap> {
        let y = self.prelu.forward(&self.conv1.forward(&self.bn1.forward(x)?, None)?)?;
        match &self.downsample {
            Some(shortcut) => self.conv2.forward_plus(&y, &shortcut.forward(x, None)?, None),
            None => self.conv2.forward_plus(&y, x, None),
        }
    }
}

/// The `config.json` of a checkpoint that comes without one, read off the shapes of its tensors; none for another architecture.
pub(super) fn described(checkpoint: &Checkpoint) -> Option<Value> {
    let shape = |name: &str| checkpoint.get(name).map(|entry| entry.shape.as_slice());
    shape("layer1.0.prelu.weight")?;
    let mut depths = Vec::new();
    let mut widths = Vec::new();
    for layer in 1..=MOST_STAGES {
        let is_there = |block: &usize| shape(&format!("layer{layer}.{block}.conv1.weight")).is_some();
        let depth = (0..checkpoint.count()).take_while(is_there).count();
        if depth == 0 {
            break;
        }
        depths.push(depth);
        widths.push(*shape(&format!("layer{layer}.0.conv1.weight"))?.first()?);
    }
    let [dim, inputs] = <[usize; 2]>::try_from(shape("fc.weight")?).ok()?;
    let last_side = (inputs / (*widths.last()?).max(1)).isqrt();
    let image_size = last_side << depths.len();
    Some(json!({
        "model_type": "iresnet", "depths": depths, "hidden_sizes": widths, "embedding_size": dim, "image_size": image_size,
    }))
}

/// The `preprocessor_config.json` of a checkpoint that comes without one, for crops of this side.
///
/// Source: `recognition/arcface_torch/inference.py`: RGB, `(x / 255 - 0.5) / 0.5`.
pub(super) fn preprocessor(image_size: usize) -> Value {
    json!({
        "image_processor_type": "ViTImageProcessor", "size": {"height": image_size, "width": image_size}, "resample": 2,
        "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5],
    })
}
