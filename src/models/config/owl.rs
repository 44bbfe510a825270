//! `config.json` of OWL-ViT and `OWLv2`.
//!
//! Source: transformers 5.24, `configuration_owlvit.py` and `configuration_owlv2.py`.

use serde_json::Value;

use super::{CLIP_TEXT, CLIP_VISION, Defaults, Section, Source, TextConfig, VisionConfig, limit};
use crate::error::{Error, Result};
use crate::models::Blob;

const OWL_TEXT: Defaults = Defaults { positions_or_pixels: 16, ..CLIP_TEXT };
const OWLVIT_VISION: Defaults = Defaults { positions_or_pixels: 768, ..CLIP_VISION };
const OWLV2_VISION: Defaults = Defaults { vocabulary_or_patch: 16, ..OWLVIT_VISION };

/// Source: `OwlViTConfig`, `Owlv2Config`.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::models) struct OwlConfig {
    pub text: TextConfig,
    pub vision: VisionConfig,
    /// Length of the texts' vectors, and of the patches' that they are compared with.
    pub projection_dim: usize,
    /// `OWLv2`: pictures are padded to a square, and patches have an objectness.
    pub is_v2: bool,
}

impl OwlConfig {
    /// Reads `config.json`; `model` is for messages.
    ///
    /// # Errors
    /// [`Error::ModelFile`]: not JSON, another architecture, or a value that no model can have.
    pub fn read(blob: &Blob, model: &str) -> Result<Self> {
        let file = &blob.name();
        let refused = |reason: String| Error::ModelFile { model: model.to_owned(), file: file.clone(), reason };
        let json: Value = serde_json::from_str(&blob.read_text(limit::FILE_BYTES, model)?)
            .map_err(|error| refused(format!("is not JSON: {error}")))?;
        let Value::Object(top) = &json else { return Err(refused("is not a JSON object".to_owned())) };
        let is_v2 = match top.get("model_type").and_then(Value::as_str) {
            Some("owlv2") => true,
            Some("owlvit") => false,
            _ => return Err(refused("has no model_type; `owlv2` and `owlvit` are expected".to_owned())),
        };
        let source = Source { model, file, top };
        let top = Section { source: &source, name: "", fields: Some(source.top) };
        let text = source.section("text_config")?.text(&OWL_TEXT)?;
        let vision = source.section("vision_config")?.vision(if is_v2 { &OWLV2_VISION } else { &OWLVIT_VISION })?;
        let projection_dim = top.count("projection_dim", 512, limit::WIDTH)?;
        if projection_dim != text.tower.hidden_size {
            let reason = format!("{projection_dim}, but patches get {} numbers", text.tower.hidden_size);
            return Err(top.refused("projection_dim", &reason));
        }
        Ok(Self { text, vision, projection_dim, is_v2 })
    }
}
