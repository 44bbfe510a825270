//! candle-transformers' CLIP as it comes, for benchmarks and as a second opinion in tests; never for answers.
//!
//! Its limits are the library's: `QuickGELU` and a layer norm eps of 1e-5 whatever the config says, pooling at the highest
//! id, texts padded to the context length.

use std::collections::HashMap;

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::clip::text_model::{Activation, ClipTextConfig};
use candle_transformers::models::clip::vision_model::ClipVisionConfig;
use candle_transformers::models::clip::{self, ClipModel, div_l2_norm};

use super::ModelFiles;
use super::config::{ClipConfig, ModelConfig, Pooling};
use super::tokenizer::{Dialect, Tokenizer};
use crate::compute;
use crate::error::{Error, Result};

/// candle-transformers' CLIP on the CPU in 32-bit floats.
#[derive(Debug)]
pub struct Baseline {
    model: ClipModel,
    tokenizer: Tokenizer,
    image_size: usize,
    pad: u32,
}

impl Baseline {
    /// Loads a CLIP from safetensors.
    ///
    /// # Errors
    /// Another architecture or activation, or files that cannot be read.
    pub fn load(files: &ModelFiles) -> Result<Self> {
        let refused = |reason: String| Error::ModelFile { model: files.id.clone(), file: files.config.name(), reason };
        let ModelConfig::Clip(config) = ModelConfig::read(&files.config, &files.id)? else {
            return Err(refused("is no CLIP".to_owned()));
        };
        let (text, vision) = (&config.text.tower, &config.vision.tower);
        if [text, vision].iter().any(|tower| tower.hidden_act != compute::Activation::QuickGelu) {
            return Err(refused("has another hidden_act than quick_gelu".to_owned()));
        }
        let blob = files.tokenizer.as_ref().ok_or_else(|| refused("has no tokenizer beside it".to_owned()))?;
        let tokenizer = Tokenizer::load(blob, config.text.max_position_embeddings, Dialect::Clip, &files.id)?;
        let end = tokenizer.encode("")?.ids.last().copied().unwrap_or(0);
        let mut tensors: HashMap<String, Tensor> = HashMap::new();
        for blob in &files.weights {
            let loaded = candle_core::safetensors::load_buffer(&blob.map()?, &Device::Cpu);
            tensors.extend(loaded.map_err(Error::tensor("checkpoint"))?);
        }
        let variables = VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu);
        let model = ClipModel::new(variables, &candle_config(&config)).map_err(Error::tensor("checkpoint"))?;
        // Of equal highest ids, the first is pooled: padding with the end token changes nothing there.
        let pad = if config.pooling == Pooling::HighestId { end } else { 0 };
        Ok(Self { model, tokenizer, image_size: config.vision.image_size, pad })
    }

    /// As [`super::Towers::encode_images`], in one batch.
    ///
    /// # Errors
    /// The images do not have the model's size.
    pub fn encode_images(&self, pixels: &[Vec<f32>]) -> Result<Vec<Vec<f32>>> {
        let size = self.image_size;
        let run = || {
            let input = Tensor::from_vec(pixels.concat(), (pixels.len(), 3, size, size), &Device::Cpu)?;
            div_l2_norm(&self.model.get_image_features(&input)?)?.to_vec2()
        };
        run().map_err(Error::tensor("baseline"))
    }

    /// As [`super::Towers::encode_texts`], in one batch, padded to the context length.
    ///
    /// # Errors
    /// A text cannot be tokenized.
    pub fn encode_texts(&self, texts: &[String]) -> Result<Vec<Vec<f32>>> {
        let len = self.tokenizer.context_length();
        let mut ids: Vec<u32> = Vec::with_capacity(texts.len() * len);
        for (i, text) in texts.iter().enumerate() {
            ids.extend(self.tokenizer.encode(text)?.ids);
            ids.resize((i + 1) * len, self.pad);
        }
        let run = || {
            let input = Tensor::from_vec(ids, (texts.len(), len), &Device::Cpu)?;
            div_l2_norm(&self.model.get_text_features(&input)?)?.to_vec2()
        };
        run().map_err(Error::tensor("baseline"))
    }
}

/// Our config in the library's words.
fn candle_config(config: &ClipConfig) -> clip::ClipConfig {
    let (text, vision) = (&config.text.tower, &config.vision.tower);
    clip::ClipConfig {
        text_config: ClipTextConfig {
            vocab_size: config.text.vocab_size,
            embed_dim: text.hidden_size,
            activation: Activation::QuickGelu,
            intermediate_size: text.intermediate_size,
            max_position_embeddings: config.text.max_position_embeddings,
            pad_with: None,
            num_hidden_layers: text.num_hidden_layers,
            num_attention_heads: text.num_attention_heads,
            projection_dim: config.projection_dim,
        },
        vision_config: ClipVisionConfig {
            embed_dim: vision.hidden_size,
            activation: Activation::QuickGelu,
            intermediate_size: vision.intermediate_size,
            num_hidden_layers: vision.num_hidden_layers,
            num_attention_heads: vision.num_attention_heads,
            projection_dim: config.projection_dim,
            num_channels: config.vision.num_channels,
            image_size: config.vision.image_size,
            patch_size: config.vision.patch_size,
        },
        logit_scale_init_value: 0.0,
        image_size: config.vision.image_size,
    }
}
