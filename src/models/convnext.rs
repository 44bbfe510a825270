//! `ConvNeXt` and its second version: stages of depthwise 7 x 7 convolutions, each followed by an MLP of the pixel.
//!
//! Source: Liu et al. 2022, arXiv:2201.03545; Woo et al. 2023, arXiv:2301.00808; transformers 5.24, `modeling_convnext.py` and
//! `modeling_convnextv2.py`. Names are the checkpoint's.

use candle_core::{D, DType, Tensor};

use super::config::ConvNextConfig;
use super::reader::Reader;
use super::transformer::Stages;
use crate::compute::{Activation, ConvShape, LayerNorm, Linear, PixelConv, PixelMap, chain, tensor};
use crate::error::{Error, Result};

/// `eps` of every normalisation but the last, whatever the config says.
const EPS: f32 = 1e-6;
/// Width of a block's MLP for each of its channels.
const EXPANSION: usize = 4;
/// Side of a block's kernels.
const KERNEL: usize = 7;
/// By what a stage but the first divides the sides.
const STEP: usize = 2;

/// `ConvNextModel`, `ConvNextV2Model`.
#[derive(Debug)]
pub(super) struct ConvNext {
    /// `embeddings.patch_embeddings` and its norm.
    patch_embeddings: PixelConv,
    patch_norm: LayerNorm,
    stages: Vec<Stage>,
    layernorm: LayerNorm,
}

#[derive(Debug)]
struct Stage {
    /// None in a first stage, which keeps what it is given.
    downsampling: Option<(LayerNorm, PixelConv)>,
    layers: Vec<Layer>,
}

impl ConvNext {
    pub(super) fn new(reader: &Reader<'_>, config: &ConvNextConfig) -> Result<Self> {
        let (embeddings, patch) = (reader.at("embeddings"), config.patch_size);
        let first = config.stages.first().map_or(0, |(_, width)| *width);
        let mut inputs = first;
        let mut stages = Vec::with_capacity(config.stages.len());
        for (place, (depth, outputs)) in config.stages.iter().copied().enumerate() {
            let reader = reader.at(format_args!("encoder.stages.{place}"));
            let downsampling = || {
                let layer = reader.at("downsampling_layer");
                Ok((
                    layer.layer_norm("0", inputs, EPS)?,
                    layer.pixel_conv("1", without_overlap(inputs, outputs, STEP))?,
                ))
            };
            let downsampling = if place > 0 { Some(downsampling()?) } else { None };
            let layers =
                (0..depth).map(|layer| Layer::new(&reader.at(format_args!("layers.{layer}")), outputs, config));
            stages.push(Stage { downsampling, layers: layers.collect::<Result<_>>()? });
            inputs = outputs;
        }
        Ok(Self {
            patch_embeddings: embeddings.pixel_conv("patch_embeddings", without_overlap(3, first, patch))?,
            patch_norm: embeddings.layer_norm("layernorm", first, EPS)?,
            stages,
            layernorm: reader.layer_norm("layernorm", inputs, config.layer_norm_eps)?,
        })
    }

    /// The mean of the last map, normalised. Shapes: `[b, 3, h, w]` -> `[b, channels]`.
    pub(super) fn features(&self, images: &Tensor, stages: &mut Stages) -> Result<Tensor> {
        let patches = self.patch_embeddings.forward(&PixelMap::from_channels(images)?, None)?;
        let mut x = Pixels::of(&patches, &self.patch_norm)?;
        stages.note(|| "embeddings".to_owned(), &x.map.to_tensor()?);
        for (place, stage) in self.stages.iter().enumerate() {
            if let Some((norm, conv)) = &stage.downsampling {
                // [b, h / 2, w / 2, outputs]
                x = Pixels::new(conv.forward(&Pixels::of(&x.map, norm)?.map, None)?)?;
            }
            for layer in &stage.layers {
                x = layer.forward(&x)?;
            }
            stages.note(|| format!("stages.{place}"), &x.map.to_tensor()?);
        }
        let pooled = self.layernorm.forward(&x.map.mean()?)?; // [b, channels]
        stages.note(|| "pooled".to_owned(), &pooled);
        Ok(pooled)
    }
}

/// A convolution whose windows lie side by side.
fn without_overlap(inputs: usize, outputs: usize, side: usize) -> ConvShape {
    ConvShape { padding: 0, ..ConvShape::new(inputs, outputs, side, side) }
}

/// A map, and its pixels as rows.
struct Pixels {
    /// Shape: `[b, h, w, channels]`.
    map: PixelMap,
    /// Shape: `[b, h * w, channels]`.
    rows: Tensor,
}

impl Pixels {
    fn new(map: PixelMap) -> Result<Self> {
        Ok(Self { rows: map.to_rows()?, map })
    }

    /// A map whose pixels are normalised.
    fn of(map: &PixelMap, norm: &LayerNorm) -> Result<Self> {
        Self::from_rows(norm.forward(&map.to_rows()?)?, map)
    }

    /// Rows of a map as large as this one.
    fn from_rows(rows: Tensor, like: &PixelMap) -> Result<Self> {
        let [_, height, width, _] = like.dims();
        Ok(Self { map: PixelMap::from_rows(&rows, height, width)?, rows })
    }
}

/// `ConvNextLayer`, `ConvNextV2Layer`.
#[derive(Debug)]
struct Layer {
    dwconv: PixelConv,
    layernorm: LayerNorm,
    pwconv1: Linear,
    activation: Activation,
    response_norm: Option<ResponseNorm>,
    /// With the factors of its outputs multiplied in.
    pwconv2: Linear,
}

impl Layer {
    fn new(reader: &Reader<'_>, width: usize, config: &ConvNextConfig) -> Result<Self> {
        let inner = EXPANSION * width;
        let scale = config.layer_scale.then_some("layer_scale_parameter");
        let grn = || ResponseNorm::new(&reader.at("grn"), inner);
        Ok(Self {
            dwconv: reader
                .pixel_conv("dwconv", ConvShape { groups: width, ..ConvShape::new(width, width, KERNEL, 1) })?,
            layernorm: reader.layer_norm("layernorm", width, EPS)?,
            pwconv1: reader.linear("pwconv1", inner, width)?,
            activation: config.hidden_act,
            response_norm: if config.response_norm { Some(grn()?) } else { None },
            pwconv2: reader.linear_scaled("pwconv2", scale, width, inner)?,
        })
    }

    fn forward(&self, x: &Pixels) -> Result<Pixels> {
        let y = self.dwconv.forward(&x.map, None)?.to_rows()?;
        let inner = chain(&y).norm(&self.layernorm).linear(&self.pwconv1).activation(self.activation);
        let rows = match &self.response_norm {
            None => inner.linear(&self.pwconv2).plus(&x.rows).run()?,
            Some(norm) => chain(&norm.forward(&inner.run()?)?).linear(&self.pwconv2).plus(&x.rows).run()?,
        };
        Pixels::from_rows(rows, &x.map)
    }
}

/// `ConvNextV2GRN`: channels that respond more than others in the whole picture are amplified.
#[derive(Debug)]
struct ResponseNorm {
    /// Shape: `[1, 1, channels]`.
    weight: Tensor,
    /// Shape: as `weight`.
    bias: Tensor,
}

impl ResponseNorm {
    fn new(reader: &Reader<'_>, channels: usize) -> Result<Self> {
        let parameter = |name: &str| {
            let values = reader.values(name, &[1, 1, 1, channels])?;
            // Empty while notes are taken.
            let shape = [1, 1, values.len()];
            tensor(values, &shape, reader.backend())
        };
        Ok(Self { weight: parameter("weight")?, bias: parameter("bias")? })
    }

    /// Shape: `[b, pixels, channels]`, unchanged.
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let run = || {
            // Squares of a whole picture are more than 16 bits hold.
            let response = x.to_dtype(DType::F32)?.sqr()?.sum_keepdim(1)?.sqrt()?; // [b, 1, channels]
            let usual = (response.mean_keepdim(D::Minus1)? + f64::from(EPS))?; // [b, 1, 1]
            let factor = response.broadcast_div(&usual)?.to_dtype(x.dtype())?; // [b, 1, channels]
            let factor = factor.broadcast_mul(&self.weight)?;
            x.broadcast_mul(&(factor + 1.0)?)?.broadcast_add(&self.bias)
        };
        run().map_err(Error::tensor("response normalisation"))
    }
}
