//! The feature pyramid: every map of the backbone with what the coarser ones know.
//!
//! Source: Lin et al. 2017, arXiv:1612.03144; torchvision 0.29, `ops/feature_pyramid_network.py` with `LastLevelMaxPool`.

use super::config::{Age, FasterRcnnConfig, STAGES};
use crate::compute::{ConvShape, PixelConv, PixelMap};
use crate::error::{Error, Result};
use crate::models::reader::Reader;

/// `FeaturePyramidNetwork`.
#[derive(Debug)]
pub(super) struct Pyramid {
    inner: Vec<PixelConv>,
    layer: Vec<PixelConv>,
}

impl Pyramid {
    /// `reader` stands at `backbone.fpn`.
    pub(super) fn new(reader: &Reader<'_>, config: &FasterRcnnConfig) -> Result<Self> {
        let channels = config.channels;
        let conv = |place: &str, map: usize, shape: ConvShape| {
            let reader = reader.at(place);
            match config.age {
                // Without a norm the convolution has a bias.
                Age::New => reader.at(map).pixel_conv_batch_norm("0", "1", shape, config.eps),
                Age::Old => reader.pixel_conv_batch_norm(&map.to_string(), &format!("{map}.1"), shape, config.eps),
            }
        };
        let inputs = config.backbone.stages.iter().map(|(_, outputs)| *outputs).enumerate();
        let inner = inputs.map(|(map, inputs)| conv("inner_blocks", map, ConvShape::new(inputs, channels, 1, 1)));
        let layer = (0..STAGES).map(|map| conv("layer_blocks", map, ConvShape::new(channels, channels, 3, 1)));
        Ok(Self { inner: inner.collect::<Result<_>>()?, layer: layer.collect::<Result<_>>()? })
    }

    /// Shapes: the backbone's maps, the finest first, each half the sides of the one before -> maps `[1, h, w, channels]` of the
    /// same sides, and one more of half the last one's sides, rounded up.
    pub(super) fn forward(&self, maps: &[PixelMap]) -> Result<Vec<PixelMap>> {
        let mut out = Vec::with_capacity(maps.len() + 1);
        let mut coarser: Option<PixelMap> = None;
        for ((inner, layer), map) in self.inner.iter().zip(&self.layer).zip(maps).rev() {
            let own = match &coarser {
                Some(coarser) => inner.forward_plus(map, &coarser.upsample_twice()?, None)?,
                None => inner.forward(map, None)?,
            };
            out.push(layer.forward(&own, None)?);
            coarser = Some(own);
        }
        let last = out.first().ok_or_else(|| Error::Argument { name: "maps", reason: "are none".into() })?;
        let last = last.max_pool(1, 2, 0)?;
        out.reverse();
        out.push(last);
        Ok(out)
    }
}
