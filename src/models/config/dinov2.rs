//! `config.json` of `DINOv2`, with and without registers.
//!
//! Source: transformers 5.24, `configuration_dinov2.py` and `configuration_dinov2_with_registers.py`.

use serde_json::Value;

use super::{ClipConfig, Defaults, ModelConfig, Section, SiglipConfig, Source, VisionConfig, is_classifier, limit};
use crate::error::{Error, Result};

const DINOV2: Defaults = Defaults {
    hidden_size: 768,
    intermediate_size: 3072,
    heads: 12,
    hidden_act: "gelu",
    layer_norm_eps: 1e-6,
    vocabulary_or_patch: 14,
    positions_or_pixels: 224,
};
const WITH_REGISTERS: Defaults = Defaults { vocabulary_or_patch: 16, ..DINOV2 };
/// `mlp_ratio` and `num_register_tokens`.
const MLP_RATIO: f64 = 4.0;
const REGISTERS: usize = 4;

/// Source: `Dinov2Config`, `Dinov2WithRegistersConfig`.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::models) struct Dinov2Config {
    /// `image_size` is that of the position embeddings.
    pub vision: VisionConfig,
    /// Height and width of the pictures, pixels.
    pub input: (usize, usize),
    /// Tokens beside the patches; a checkpoint that has them smooths its positions where they become fewer.
    pub registers: usize,
    pub qkv_bias: bool,
    /// `use_swiglu_ffn`; the tower's `intermediate_size` is then that of one half.
    pub gated: bool,
}

/// Encoders that read no text, by their `model_type`; classifiers read none either.
const IMAGES_ONLY: [&str; 3] = ["dinov2", "dinov2_with_registers", "iresnet"];

/// Whether a `config.json` is that of a model which reads no text, and so needs no tokenizer. One that cannot be read is not.
pub(in crate::models) fn is_images_only(config: &[u8]) -> bool {
    let json: Value = serde_json::from_slice(config).unwrap_or_default();
    let model_type = json.get("model_type").and_then(Value::as_str);
    model_type.is_some_and(|model_type| IMAGES_ONLY.contains(&model_type) || is_classifier(model_type))
}

impl ModelConfig {
    /// Sets the height and width of the images to those that are wanted, where the model takes several sizes; returns those that
    /// it has.
    ///
    /// # Errors
    /// [`Error::Argument`]: not even one patch, or more than any model sees.
    pub fn take_input(&mut self, wanted: Option<(usize, usize)>) -> Result<(usize, usize)> {
        match self {
            Self::Clip(ClipConfig { vision, .. }) | Self::Siglip(SiglipConfig { vision, .. }) => {
                Ok((vision.image_size, vision.image_size))
            }
            Self::Iresnet(config) => Ok((config.image_size, config.image_size)),
            Self::Dinov2(config) => {
                let (height, width) = wanted.unwrap_or(config.input);
                let fits = |side| (config.vision.patch_size..=limit::PIXELS).contains(&side);
                if !fits(height) || !fits(width) {
                    let (least, most) = (config.vision.patch_size, limit::PIXELS);
                    let reason = format!("of {width} x {height} pixels; sides are from {least} to {most}");
                    return Err(Error::Argument { name: "input", reason });
                }
                config.input = (height, width);
                Ok(config.input)
            }
        }
    }
}

impl Source<'_> {
    pub(super) fn dinov2(&self, has_registers: bool) -> Result<Dinov2Config> {
        let top = Section { source: self, name: "", fields: Some(self.top) };
        let mut vision = top.vision(if has_registers { &WITH_REGISTERS } else { &DINOV2 })?;
        let registers = if has_registers { top.count("num_register_tokens", REGISTERS, limit::POSITIONS)? } else { 0 };
        let gated = top.flag("use_swiglu_ffn", false)?;
        vision.tower.intermediate_size = intermediate_size(&top, vision.tower.hidden_size, gated)?;
        let input = (vision.image_size, vision.image_size);
        Ok(Dinov2Config { vision, input, registers, qkv_bias: top.flag("qkv_bias", true)?, gated })
    }
}

/// `int(hidden_size * mlp_ratio)`; where it is gated, two thirds of it in whole eights.
fn intermediate_size(top: &Section<'_>, hidden: usize, gated: bool) -> Result<usize> {
    let ratio = top.value("mlp_ratio").map_or(Some(MLP_RATIO), Value::as_f64);
    let size = ratio.map(|ratio| (hidden as f64 * ratio) as usize).filter(|size| (1..=limit::WIDTH).contains(size));
    let size = size.ok_or_else(|| top.refused("mlp_ratio", "not a number that gives a width"))?;
    Ok(if gated { ((size as f64 * 2.0 / 3.0) as usize).next_multiple_of(8) } else { size })
}

impl Section<'_> {
    pub(super) fn flag(&self, key: &'static str, default: bool) -> Result<bool, Error> {
        match self.value(key) {
            None => Ok(default),
            Some(Value::Bool(on)) => Ok(*on),
            Some(_) => Err(self.refused(key, "neither true nor false")),
        }
    }
}
