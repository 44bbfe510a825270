//! How pictures become input.

use image::RgbImage;

use crate::error::{Error, Result};
use crate::models::DetectorFiles;
use crate::models::config::OwlConfig;
use crate::pixels::{Preprocessor, Squared};

/// Published files have under 1 KB.
const MAX_BYTES: u64 = 1 << 20;

/// How pictures become input.
#[derive(Debug, Clone)]
pub(super) enum Input {
    /// `OWLv2`: padded to a square.
    Padded(Squared),
    /// OWL-ViT: squeezed into one.
    Squashed(Box<Preprocessor>),
}

impl Input {
    /// As `preprocessor_config.json` says, else as published.
    ///
    /// # Errors
    /// It is broken, or makes inputs of another size than the model takes.
    pub(super) fn of(files: &DetectorFiles, config: &OwlConfig) -> Result<Self> {
        let json = files.preprocessor.as_ref().map(|blob| blob.read_text(MAX_BYTES, &files.id)).transpose()?;
        let input = if config.is_v2 {
            Self::Padded(Squared::owlv2(json.as_deref(), &files.id)?)
        } else {
            let usual = r#"{"image_processor_type": "OwlViTImageProcessor"}"#;
            Self::Squashed(Box::new(Preprocessor::from_json(json.as_deref().unwrap_or(usual), &files.id)?))
        };
        let (height, width) = input.size();
        let side = config.vision.image_size;
        if (height, width) != (side, side) {
            let reason = format!("makes images of {width} x {height} pixels, the model takes {side} x {side}");
            return Err(Error::ModelFile {
                model: files.id.clone(),
                file: "preprocessor_config.json".to_owned(),
                reason,
            });
        }
        Ok(input)
    }

    /// Height and width of the input.
    pub(super) fn size(&self) -> (usize, usize) {
        match self {
            Self::Padded(squared) => (squared.side() as usize, squared.side() as usize),
            Self::Squashed(preprocessor) => preprocessor.size(),
        }
    }

    /// Shape: -> `[3, side, side]` flattened.
    pub(super) fn apply(&self, picture: &RgbImage) -> Vec<f32> {
        match self {
            Self::Padded(squared) => squared.apply(picture),
            Self::Squashed(preprocessor) => preprocessor.apply(picture),
        }
    }
}
