//! `config.json` of CLIP and `SigLIP`, and `open_clip_config.json`: sparse on the hub, so every absent field takes the reference's default.
//!
//! Source: transformers 5.23, `configuration_clip.py` and `configuration_siglip.py`.

use serde_json::{Map, Value};

use super::{Blob, open_clip};
use crate::compute::Activation;
use crate::error::{Error, Result};

/// A config of a supported architecture.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum ModelConfig {
    Clip(ClipConfig),
    Siglip(SiglipConfig),
    Dinov2(Dinov2Config),
    Iresnet(IresnetConfig),
}

/// Source: `CLIPConfig`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ClipConfig {
    pub text: TextConfig,
    pub vision: VisionConfig,
    pub pooling: Pooling,
    pub projection_dim: usize,
}

/// Source: `SiglipConfig`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct SiglipConfig {
    pub text: TextConfig,
    pub vision: VisionConfig,
    pub projection_size: usize,
    /// What texts are padded with where the tokenizer does not say.
    pub pad_token_id: Option<u32>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct TextConfig {
    pub tower: TowerConfig,
    pub vocab_size: usize,
    pub max_position_embeddings: usize,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct VisionConfig {
    pub tower: TowerConfig,
    pub num_channels: usize,
    pub image_size: usize,
    pub patch_size: usize,
}

impl VisionConfig {
    /// Patches of one image. A remainder of the image is left out, as the reference's convolution does.
    pub fn num_patches(&self) -> usize {
        (self.image_size / self.patch_size).pow(2)
    }
}

/// What the transformers of both towers have.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct TowerConfig {
    pub hidden_size: usize,
    pub intermediate_size: usize,
    pub num_hidden_layers: usize,
    pub num_attention_heads: usize,
    pub hidden_act: Activation,
    pub layer_norm_eps: f32,
}

/// Which position of a text stands for the whole of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pooling {
    /// The highest id: what `eos_token_id: 2`, a known wrong value in `OpenAI`'s configs, stands for.
    HighestId,
    /// The first position of this id.
    First(u32),
}

/// Largest sizes that are believed: far above every published model, low enough that no product of them overflows.
mod limit {
    pub const WIDTH: usize = 1 << 16;
    pub const LAYERS: usize = 512;
    pub const HEADS: usize = 1 << 10;
    pub const VOCABULARY: usize = 1 << 24;
    pub const POSITIONS: usize = 1 << 16;
    pub const PIXELS: usize = 1 << 13;
    pub const CHANNELS: usize = 16;
    pub const FILE_BYTES: u64 = 16 << 20;
}

impl ModelConfig {
    /// Reads `config.json`, or `open_clip_config.json`; `model` is for messages.
    ///
    /// # Errors
    /// [`Error::ModelFile`]: not JSON, an unknown architecture, or a value that no model can have.
    pub fn read(blob: &Blob, model: &str) -> Result<Self> {
        let file = &blob.name();
        let refused = |reason| Error::ModelFile { model: model.to_owned(), file: file.clone(), reason };
        let json: Value = serde_json::from_str(&blob.read_text(limit::FILE_BYTES, model)?)
            .map_err(|error| refused(format!("is not JSON: {error}")))?;
        let json = open_clip::config(&json).unwrap_or(Ok(json)).map_err(&refused)?;
        let Value::Object(top) = &json else { return Err(refused("is not a JSON object".to_owned())) };
        let source = Source { model, file, top };
        match top.get("model_type").and_then(Value::as_str) {
            Some("clip") => Ok(Self::Clip(source.clip()?)),
            Some("siglip") => Ok(Self::Siglip(source.siglip()?)),
            Some("dinov2") => Ok(Self::Dinov2(source.dinov2(false)?)),
            Some("iresnet") => Ok(Self::Iresnet(source.iresnet()?)),
            Some("dinov2_with_registers") => Ok(Self::Dinov2(source.dinov2(true)?)),
            Some("siglip2") => Err(refused(
                "is a SigLIP 2 of variable resolution (NaFlex), which is not supported: take a fixed-resolution SigLIP 2, such as google/siglip2-base-patch16-224"
                    .to_owned(),
            )),
            Some(other) if is_classifier(other) => Err(refused(format!(
                "has model_type `{other}`: a classifier, whose labels are its own; `clip-aware identify IMAGE --classifier` asks it"
            ))),
            Some(other) => {
                Err(refused(format!("has model_type `{other}`; `clip`, `siglip` and `dinov2` are supported")))
            }
            None => Err(refused("has no model_type; `clip`, `siglip` and `dinov2` are supported".to_owned())),
        }
    }
}

/// The whole file.
struct Source<'a> {
    model: &'a str,
    file: &'a str,
    top: &'a Map<String, Value>,
}

impl<'a> Source<'a> {
    fn clip(&self) -> Result<ClipConfig> {
        let text = self.clip_section("text_config", "text_config_dict")?;
        let vision = self.clip_section("vision_config", "vision_config_dict")?;
        // The reference reads the projection's size from the top only; both sections' own values are ignored.
        let top = Section { source: self, name: "", fields: Some(self.top) };
        let eos = text.count("eos_token_id", 49407, u32::MAX as usize)?;
        Ok(ClipConfig {
            text: text.text(&CLIP_TEXT)?,
            vision: vision.vision(&CLIP_VISION)?,
            pooling: if eos == 2 { Pooling::HighestId } else { Pooling::First(eos as u32) },
            projection_dim: top.count("projection_dim", 512, limit::WIDTH)?,
        })
    }

    fn siglip(&self) -> Result<SiglipConfig> {
        let text_section = self.section("text_config")?;
        let vision_section = self.section("vision_config")?;
        let text = text_section.text(&SIGLIP_TEXT)?;
        let vision = vision_section.vision(&SIGLIP_VISION)?;
        let hidden_size = text.tower.hidden_size;
        let projection_size = text_section.count("projection_size", hidden_size, limit::WIDTH)?;
        if vision_section.value("vision_use_head") == Some(&Value::Bool(false)) {
            return Err(vision_section.refused("vision_use_head", "false: without the head it has no image vector"));
        }
        if projection_size != vision.tower.hidden_size {
            let reason = format!("{projection_size}, but image vectors have {} numbers", vision.tower.hidden_size);
            return Err(text_section.refused("projection_size", &reason));
        }
        let pad_token_id = match text_section.value("pad_token_id") {
            None => None,
            Some(_) => Some(text_section.index("pad_token_id", 1, u32::MAX as usize)? as u32),
        };
        Ok(SiglipConfig { text, vision, projection_size, pad_token_id })
    }

    fn section(&'a self, name: &'static str) -> Result<Section<'a>> {
        match self.top.get(name) {
            None | Some(Value::Null) => Ok(Section { source: self, name, fields: None }),
            Some(Value::Object(fields)) => Ok(Section { source: self, name, fields: Some(fields) }),
            Some(_) => Err(Error::ModelFile {
                model: self.model.to_owned(),
                file: self.file.to_owned(),
                reason: format!("`{name}` is not an object"),
            }),
        }
    }

    /// Older files say things twice. Where the `_dict` is there, the reference fills it up with the defaults and lets all
    /// of it override the other one, so that nothing of the other one is left.
    fn clip_section(&'a self, name: &'static str, dict_name: &'static str) -> Result<Section<'a>> {
        let dict = self.section(dict_name)?;
        if dict.fields.is_some() { Ok(dict) } else { self.section(name) }
    }
}

/// The defaults of a tower.
struct Defaults {
    hidden_size: usize,
    intermediate_size: usize,
    heads: usize,
    hidden_act: &'static str,
    layer_norm_eps: f64,
    /// Of the vocabulary for a text tower, of a patch for an image tower.
    vocabulary_or_patch: usize,
    /// Positions of a text, pixels of an image.
    positions_or_pixels: usize,
}

const CLIP_TEXT: Defaults = Defaults {
    hidden_size: 512,
    intermediate_size: 2048,
    heads: 8,
    hidden_act: "quick_gelu",
    layer_norm_eps: 1e-5,
    vocabulary_or_patch: 49408,
    positions_or_pixels: 77,
};
const CLIP_VISION: Defaults = Defaults {
    hidden_size: 768,
    intermediate_size: 3072,
    heads: 12,
    hidden_act: "quick_gelu",
    layer_norm_eps: 1e-5,
    vocabulary_or_patch: 32,
    positions_or_pixels: 224,
};
const SIGLIP_TEXT: Defaults = Defaults {
    hidden_size: 768,
    intermediate_size: 3072,
    heads: 12,
    hidden_act: "gelu_pytorch_tanh",
    layer_norm_eps: 1e-6,
    vocabulary_or_patch: 32000,
    positions_or_pixels: 64,
};
const SIGLIP_VISION: Defaults = Defaults { vocabulary_or_patch: 16, positions_or_pixels: 224, ..SIGLIP_TEXT };
/// The same in all four.
const NUM_HIDDEN_LAYERS: usize = 12;

/// One object of the file, or nothing but defaults.
struct Section<'a> {
    source: &'a Source<'a>,
    name: &'static str,
    fields: Option<&'a Map<String, Value>>,
}

impl Section<'_> {
    fn text(&self, defaults: &Defaults) -> Result<TextConfig> {
        Ok(TextConfig {
            tower: self.tower(defaults)?,
            vocab_size: self.count("vocab_size", defaults.vocabulary_or_patch, limit::VOCABULARY)?,
            max_position_embeddings: self.count(
                "max_position_embeddings",
                defaults.positions_or_pixels,
                limit::POSITIONS,
            )?,
        })
    }

    fn vision(&self, defaults: &Defaults) -> Result<VisionConfig> {
        let image_size = self.side("image_size", defaults.positions_or_pixels)?;
        let patch_size = self.side("patch_size", defaults.vocabulary_or_patch)?;
        if patch_size > image_size {
            return Err(self.refused("patch_size", &format!("{patch_size}, larger than the image ({image_size})")));
        }
        let num_channels = self.count("num_channels", 3, limit::CHANNELS)?;
        if num_channels != 3 {
            return Err(self.refused("num_channels", &format!("{num_channels}, only 3 (RGB) is supported")));
        }
        Ok(VisionConfig { tower: self.tower(defaults)?, num_channels, image_size, patch_size })
    }

    fn tower(&self, defaults: &Defaults) -> Result<TowerConfig> {
        let hidden_size = self.count("hidden_size", defaults.hidden_size, limit::WIDTH)?;
        let heads = self.count("num_attention_heads", defaults.heads, limit::HEADS)?;
        if !hidden_size.is_multiple_of(heads) {
            let reason = format!("{heads}, which does not divide hidden_size ({hidden_size})");
            return Err(self.refused("num_attention_heads", &reason));
        }
        Ok(TowerConfig {
            hidden_size,
            intermediate_size: self.count("intermediate_size", defaults.intermediate_size, limit::WIDTH)?,
            num_hidden_layers: self.count("num_hidden_layers", NUM_HIDDEN_LAYERS, limit::LAYERS)?,
            num_attention_heads: heads,
            hidden_act: self.activation(defaults.hidden_act)?,
            layer_norm_eps: self.eps(defaults.layer_norm_eps)?,
        })
    }

    /// A field that is there; null counts as absent.
    fn value(&self, key: &str) -> Option<&Value> {
        self.fields.and_then(|fields| fields.get(key)).filter(|value| !value.is_null())
    }

    /// A whole number from 1 on.
    fn count(&self, key: &'static str, default: usize, max: usize) -> Result<usize> {
        match self.index(key, default, max)? {
            0 => Err(self.refused(key, &format!("0, expected 1 to {max}"))),
            count => Ok(count),
        }
    }

    /// A whole number from 0 on.
    fn index(&self, key: &'static str, default: usize, max: usize) -> Result<usize> {
        let Some(value) = self.value(key) else { return Ok(default) };
        self.whole(key, value, max)
    }

    fn whole(&self, key: &'static str, value: &Value, max: usize) -> Result<usize> {
        let number = value.as_u64().and_then(|number| usize::try_from(number).ok());
        number.filter(|&number| number <= max).ok_or_else(|| {
            let found: String = value.to_string().chars().take(40).collect();
            self.refused(key, &format!("{found}, expected a whole number up to {max}"))
        })
    }

    /// A number of pixels, or a pair of two equal ones.
    fn side(&self, key: &'static str, default: usize) -> Result<usize> {
        let number = match self.value(key) {
            Some(Value::Array(pair)) => match pair.as_slice() {
                [a, b] if a == b => self.whole(key, a, limit::PIXELS)?,
                _ => return Err(self.refused(key, "not square; only square images and patches are supported")),
            },
            _ => self.index(key, default, limit::PIXELS)?,
        };
        if number == 0 { Err(self.refused(key, "0, expected at least one pixel")) } else { Ok(number) }
    }

    fn activation(&self, default: &str) -> Result<Activation> {
        let name = match self.value("hidden_act") {
            None => default,
            Some(value) => value.as_str().unwrap_or("not a string"),
        };
        Activation::from_name(name).ok_or_else(|| {
            let name: String = name.chars().take(40).collect();
            self.refused("hidden_act", &format!("{name}, expected one of {}", Activation::NAMES.join(", ")))
        })
    }

    fn eps(&self, default: f64) -> Result<f32> {
        let eps = self.value("layer_norm_eps").map_or(Some(default), Value::as_f64);
        match eps.map(|eps| eps as f32) {
            Some(eps) if eps > 0.0 && eps < 1.0 => Ok(eps),
            _ => Err(self.refused("layer_norm_eps", "not a number between 0 and 1")),
        }
    }

    fn refused(&self, key: &str, reason: &str) -> Error {
        let dot = if self.name.is_empty() { "" } else { "." };
        Error::ModelFile {
            model: self.source.model.to_owned(),
            file: self.source.file.to_owned(),
            reason: format!("{}{dot}{key} is {reason}", self.name),
        }
    }
}

mod classifier;
mod dinov2;
mod iresnet;
mod labels;
mod owl;
#[cfg(test)]
mod tests;

pub(super) use classifier::{ClassifierConfig, ConvNextConfig, MOST_STAGES, NetworkConfig, is_classifier};
pub(super) use dinov2::{Dinov2Config, is_images_only};
pub(super) use iresnet::IresnetConfig;
pub(super) use labels::in_order;
pub(super) use owl::OwlConfig;
