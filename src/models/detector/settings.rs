//! `config.json` beside a detector's weights: all of it is optional.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::DetectorFiles;
use crate::error::{Error, Result};
use crate::models::Blob;
use crate::models::config::in_order;

/// Published files have a few KB.
const MAX_BYTES: u64 = 4 << 20;
/// Sides of the input that are plausible, pixels.
const SIDES: std::ops::RangeInclusive<u32> = 32..=2048;
/// Coarsest step of the detectors' maps: the side must be a multiple.
const STEP: u32 = 32;

/// What the config says.
#[derive(Debug, Default, PartialEq)]
pub(in crate::models) struct Settings {
    /// `model_type`.
    pub(in crate::models) model_type: Option<String>,
    /// `id2label`, in the order of the numbers.
    pub(in crate::models) labels: Option<Vec<String>>,
    /// `image_size`, pixels.
    pub(in crate::models) side: Option<u32>,
    /// All of it, for what an architecture alone knows.
    pub(in crate::models) json: Option<Value>,
    /// `score_threshold`: the score from which a box counts, chosen by whoever trained the weights.
    pub(in crate::models) score_threshold: Option<f32>,
}

#[derive(Deserialize)]
struct Config {
    model_type: Option<String>,
    id2label: Option<BTreeMap<String, String>>,
    image_size: Option<u32>,
    score_threshold: Option<f32>,
}

impl Settings {
    /// Reads the config; without one everything is left open.
    ///
    /// # Errors
    /// Broken JSON, labels with gaps, a side that no detector takes.
    pub(in crate::models) fn read(files: &DetectorFiles) -> Result<Self> {
        let Some(blob) = &files.config else { return Ok(Self::default()) };
        let text = blob.read_text(MAX_BYTES, &files.id)?;
        Self::parse(&text).map_err(|reason| Error::ModelFile { model: files.id.clone(), file: blob.name(), reason })
    }

    /// An error that blames the config, or the weights where there is none.
    pub(in crate::models) fn refused(files: &DetectorFiles, reason: String) -> Error {
        let file = files.config.as_ref().or(files.weights.first()).map_or_else(String::new, Blob::name);
        Error::ModelFile { model: files.id.clone(), file, reason }
    }

    fn parse(text: &str) -> std::result::Result<Self, String> {
        let unread = |error: serde_json::Error| format!("cannot be read: {error}");
        let json: Value = serde_json::from_str(text).map_err(unread)?;
        let config = Config::deserialize(&json).map_err(unread)?;
        if let Some(side) = config.image_size.filter(|side| !SIDES.contains(side) || side % STEP != 0) {
            return Err(format!(
                "says image_size {side}; multiples of {STEP} from {} to {} fit",
                SIDES.start(),
                SIDES.end()
            ));
        }
        if let Some(threshold) = config.score_threshold.filter(|threshold| !(*threshold > 0.0 && *threshold < 1.0)) {
            return Err(format!("says score_threshold {threshold}, which is not between 0 and 1"));
        }
        let labels = config.id2label.map(|labels| in_order(&labels)).transpose()?;
        let (model_type, side, score_threshold) = (config.model_type, config.image_size, config.score_threshold);
        Ok(Self { model_type, labels, side, json: Some(json), score_threshold })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_config_names_the_classes_in_the_order_of_their_numbers() {
        let names: BTreeMap<String, String> = (0..12).map(|n| (n.to_string(), format!("thing {n}"))).collect();
        let text = serde_json::json!({
            "model_type": "yolox", "id2label": names, "image_size": 416, "score_threshold": 0.25, "other": [1],
        });
        let settings = Settings::parse(&text.to_string()).unwrap();
        assert_eq!(settings.labels.unwrap()[10], "thing 10");
        assert_eq!((settings.model_type.as_deref(), settings.side), (Some("yolox"), Some(416)));
        assert_eq!(settings.score_threshold, Some(0.25));
        let empty = Settings { json: Some(serde_json::json!({})), ..Settings::default() };
        assert_eq!(Settings::parse("{}").unwrap(), empty);
    }

    #[test]
    fn nonsense_is_named() {
        for (text, reason) in [
            ("[]", "cannot be read"),
            (r#"{"id2label": {"0": "a", "2": "b"}}"#, "without 1"),
            (r#"{"image_size": 100}"#, "multiples of 32"),
            (r#"{"image_size": 1000000}"#, "multiples of 32"),
            (r#"{"score_threshold": 1.0}"#, "not between 0 and 1"),
            (r#"{"score_threshold": -0.5}"#, "not between 0 and 1"),
        ] {
            let error = Settings::parse(text).unwrap_err();
            assert!(error.contains(reason), "{error}");
        }
    }
}
