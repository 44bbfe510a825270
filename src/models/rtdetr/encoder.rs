//! The hybrid encoder: the cells of the coarsest map look at each other, then the maps are fused down and up again.

use candle_core::Tensor;

use super::config::RtDetrConfig;
use crate::compute::{Activation, Backend, ConvShape, PixelConv, PixelMap, tensor};
use crate::error::{Error, Result};
use crate::models::positioned::{Attention, EncoderLayer, FeedForward};
use crate::models::reader::Reader;

/// Blocks of a CSP layer: the reference's `num_blocks`.
const BLOCKS: usize = 3;

/// `RTDetrV2ConvNormLayer`, folded.
fn conv(reader: &Reader<'_>, name: &str, shape: ConvShape, config: &RtDetrConfig) -> Result<PixelConv> {
    reader.at(name).pixel_conv_batch_norm("conv", "norm", shape, config.batch_norm_eps)
}

/// `RTDetrV2RepVggBlock`: its two convolutions are one of 3 x 3 whose middle also has what the one of 1 x 1 does.
fn rep_vgg(reader: &Reader<'_>, config: &RtDetrConfig) -> Result<PixelConv> {
    let shape = ConvShape::new(config.expanded, config.expanded, 3, 1);
    let folded = |name: &str, shape| reader.at(name).folded("conv", "norm", shape, config.batch_norm_eps);
    let (mut weight, mut bias) = folded("conv1", shape)?;
    let (middle, more) = folded("conv2", ConvShape { kernel: 1, padding: 0, ..shape })?;
    weight.chunks_exact_mut(9).zip(&middle).for_each(|(taps, middle)| taps[4] += middle);
    bias.iter_mut().zip(&more).for_each(|(bias, more)| *bias += more);
    reader.pixel_conv_from(shape, weight, bias)
}

/// `RTDetrV2CSPRepLayer`.
#[derive(Debug)]
struct CspRepLayer {
    conv1: PixelConv,
    conv2: PixelConv,
    bottlenecks: Vec<PixelConv>,
    conv3: Option<PixelConv>,
}

impl CspRepLayer {
    fn new(reader: &Reader<'_>, config: &RtDetrConfig) -> Result<Self> {
        let &RtDetrConfig { hidden, expanded, .. } = config;
        let pointwise = |name: &str, inputs, outputs| conv(reader, name, ConvShape::new(inputs, outputs, 1, 1), config);
        Ok(Self {
            conv1: pointwise("conv1", 2 * hidden, expanded)?,
            conv2: pointwise("conv2", 2 * hidden, expanded)?,
            bottlenecks: (0..BLOCKS)
                .map(|n| rep_vgg(&reader.at("bottlenecks").at(n), config))
                .collect::<Result<_>>()?,
            conv3: (expanded != hidden).then(|| pointwise("conv3", expanded, hidden)).transpose()?,
        })
    }

    /// Shapes: `[b, h, w, 2 * hidden]` -> `[b, h, w, hidden]`.
    fn forward(&self, x: &PixelMap, activation: Option<Activation>) -> Result<PixelMap> {
        let mut inner = self.conv1.forward(x, activation)?;
        for bottleneck in &self.bottlenecks {
            inner = bottleneck.forward(&inner, activation)?;
        }
        let sum = self.conv2.forward_then_plus(x, &inner, activation)?;
        match &self.conv3 {
            Some(conv3) => conv3.forward(&sum, activation),
            None => Ok(sum),
        }
    }
}

/// `RTDetrV2HybridEncoder`, with the projections of the backbone's maps before it.
#[derive(Debug)]
pub(super) struct HybridEncoder {
    encoder_input_proj: Vec<PixelConv>,
    /// The map, and the layers over its cells.
    aifi: Vec<(usize, Vec<EncoderLayer>)>,
    lateral_convs: Vec<PixelConv>,
    fpn_blocks: Vec<CspRepLayer>,
    downsample_convs: Vec<PixelConv>,
    pan_blocks: Vec<CspRepLayer>,
    activation: Activation,
    hidden: usize,
    temperature: f64,
}

impl HybridEncoder {
    /// `reader` stands at `model`.
    pub(super) fn new(reader: &Reader<'_>, config: &RtDetrConfig) -> Result<Self> {
        /// `eps` of torch's own batch norm.
        const INPUT_EPS: f32 = 1e-5;
        let &RtDetrConfig { hidden, levels, .. } = config;
        let channels = config.backbone.stages.iter().map(|(_, outputs)| *outputs);
        let channels = channels.skip(config.backbone.stages.len().saturating_sub(levels));
        let input = |(level, inputs): (usize, usize)| {
            let place = reader.at("encoder_input_proj").at(level);
            place.pixel_conv_batch_norm("0", "1", ConvShape::new(inputs, hidden, 1, 1), INPUT_EPS)
        };
        let encoder = reader.at("encoder");
        let convs = |name: &str, kernel: usize, stride: usize| {
            let shape = ConvShape::new(hidden, hidden, kernel, stride);
            (1..levels).map(|n| conv(&encoder.at(name), &(n - 1).to_string(), shape, config)).collect::<Result<_>>()
        };
        let blocks = |name: &str| {
            (1..levels).map(|n| CspRepLayer::new(&encoder.at(name).at(n - 1), config)).collect::<Result<_>>()
        };
        let aifi = config.encode_proj_layers.iter().enumerate().map(|(n, level)| {
            let layers = encoder.at(config.layout.aifi).at(n).at("layers");
            let layers = (0..config.encoder.layers).map(|n| layer(&layers.at(n), config));
            Ok((*level, layers.collect::<Result<_>>()?))
        });
        Ok(Self {
            encoder_input_proj: channels.enumerate().map(input).collect::<Result<_>>()?,
            aifi: aifi.collect::<Result<_>>()?,
            lateral_convs: convs("lateral_convs", 1, 1)?,
            fpn_blocks: blocks("fpn_blocks")?,
            downsample_convs: convs("downsample_convs", 3, 2)?,
            pan_blocks: blocks("pan_blocks")?,
            activation: config.activation,
            hidden,
            temperature: config.temperature,
        })
    }

    /// Shapes: the backbone's maps, the finest first -> as many maps `[b, h, w, hidden]` of their sides.
    pub(super) fn forward(&self, maps: &[PixelMap], backend: &Backend) -> Result<Vec<PixelMap>> {
        let activation = Some(self.activation);
        let pairs = self.encoder_input_proj.iter().zip(maps);
        let mut maps: Vec<PixelMap> = pairs.map(|(conv, map)| conv.forward(map, None)).collect::<Result<_>>()?;
        for (level, layers) in &self.aifi {
            if let Some(map) = maps.get_mut(*level) {
                *map = self.look_around(map, layers, backend)?;
            }
        }
        // Down: from the coarsest map to the finest.
        let missing = || Error::Argument { name: "levels", reason: "are fewer maps than the network has".into() };
        let mut top = maps.pop().ok_or_else(missing)?;
        let mut fused = Vec::with_capacity(maps.len() + 1);
        for (lateral, block) in self.lateral_convs.iter().zip(&self.fpn_blocks) {
            let side = lateral.forward(&top, activation)?;
            let finer = maps.pop().ok_or_else(missing)?;
            top = block.forward(&side.upsample_twice()?.beside(&finer)?, activation)?;
            fused.push(side);
        }
        // Up again.
        let mut out = vec![top];
        for (downsample, block) in self.downsample_convs.iter().zip(&self.pan_blocks) {
            let finer = out.last().ok_or_else(missing)?;
            let half = downsample.forward(finer, activation)?;
            out.push(block.forward(&half.beside(&fused.pop().ok_or_else(missing)?)?, activation)?);
        }
        Ok(out)
    }

    /// `RTDetrV2AIFILayer`: picture by picture, since each attends to itself only. Shape: unchanged.
    fn look_around(&self, map: &PixelMap, layers: &[EncoderLayer], backend: &Backend) -> Result<PixelMap> {
        let [b, h, w, _] = map.dims();
        let positions = sine_positions(h, w, self.hidden, self.temperature, backend)?;
        let rows = map.to_rows()?; // [b, h * w, hidden]
        let pictures = (0..b).map(|n| {
            let mut x = rows.narrow(0, n, 1).map_err(Error::tensor("map"))?;
            for layer in layers {
                x = layer.forward(&x, &positions)?;
            }
            Ok(x)
        });
        let pictures = pictures.collect::<Result<Vec<Tensor>>>()?;
        PixelMap::from_rows(&Tensor::cat(&pictures, 0).map_err(Error::tensor("map"))?, h, w)
    }
}

/// `RTDetrV2EncoderLayer`.
fn layer(reader: &Reader<'_>, config: &RtDetrConfig) -> Result<EncoderLayer> {
    let (size, stack, layout) = (config.hidden, config.encoder, config.layout);
    let norm = |name: &str| reader.layer_norm(name, size, config.layer_norm_eps);
    Ok(EncoderLayer {
        self_attn: Attention::new(&reader.at("self_attn"), size, stack.heads, layout.out_proj, false)?,
        self_attn_layer_norm: norm("self_attn_layer_norm")?,
        feed_forward: FeedForward {
            fc1: reader.linear(layout.fc1, stack.ffn_dim, size)?,
            fc2: reader.linear(layout.fc2, size, stack.ffn_dim)?,
            final_layer_norm: norm("final_layer_norm")?,
            activation: stack.activation,
        },
    })
}

/// Where a map's cells lie, in reading order: sines and cosines of the line, then of the column. Shape: -> `[1, height *
/// width, size]`. Source: `build_2d_sinusoidal_position_embedding`, which computes in 64 bits.
fn sine_positions(height: usize, width: usize, size: usize, temperature: f64, backend: &Backend) -> Result<Tensor> {
    let quarter = size / 4;
    let mut values = Vec::with_capacity(height * width * size);
    for cell in 0..height * width {
        for place in [cell / width, cell % width] {
            let angle = |n: usize| place as f64 / temperature.powf(n as f64 / quarter as f64);
            values.extend((0..quarter).map(|n| angle(n).sin() as f32));
            values.extend((0..quarter).map(|n| angle(n).cos() as f32));
        }
    }
    tensor(values, &[1, height * width, size], backend)
}
