//! `config.json` of image classifiers: `ResNet`, `ViT`, `ConvNeXt` and its second version, with the labels that they tell apart.
//!
//! Source: transformers 5.24, `configuration_resnet.py`, `configuration_vit.py`, `configuration_convnext.py` and
//! `configuration_convnextv2.py`.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::labels::in_order;
use super::{Defaults, Dinov2Config, Section, Source, VisionConfig, limit};
use crate::compute::Activation;
use crate::error::{Error, Result};
use crate::models::Blob;
use crate::models::resnet::{Names, ResnetConfig};

const VIT: Defaults = Defaults {
    hidden_size: 768,
    intermediate_size: 3072,
    heads: 12,
    hidden_act: "gelu",
    layer_norm_eps: 1e-12,
    vocabulary_or_patch: 16,
    positions_or_pixels: 224,
};
/// Of the two `ConvNeXt`s, which have the same: widths and depths of the stages, and the sides of a patch.
const CONVNEXT_WIDTHS: [usize; 4] = [96, 192, 384, 768];
const CONVNEXT_DEPTHS: [usize; 4] = [3, 3, 9, 3];
const CONVNEXT_PATCH: usize = 4;
/// More stages than any network has.
pub(in crate::models) const MOST_STAGES: usize = 8;

/// The classifiers, by their `model_type`.
const KINDS: [&str; 4] = ["resnet", "vit", "convnext", "convnextv2"];
/// What the reference calls a network with a classifier on top.
const HEAD: &str = "ForImageClassification";

/// Whether a `config.json` with this `model_type` is a classifier's, if it is one's with labels.
pub(in crate::models) fn is_classifier(model_type: &str) -> bool {
    KINDS.contains(&model_type)
}

/// A classifier's config.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::models) struct ClassifierConfig {
    /// In the order of the outputs.
    pub labels: Vec<String>,
    pub network: NetworkConfig,
}

/// What stands before the classifier.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::models) enum NetworkConfig {
    Resnet(ResnetConfig),
    /// A `DINOv2` of one input size, without registers.
    Vit(Dinov2Config),
    ConvNext(ConvNextConfig),
}

/// Source: `ConvNextConfig`, `ConvNextV2Config`.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::models) struct ConvNextConfig {
    pub patch_size: usize,
    /// Blocks and channels of each stage.
    pub stages: Vec<(usize, usize)>,
    pub hidden_act: Activation,
    /// Of the last normalisation; all others have their own.
    pub layer_norm_eps: f32,
    /// A factor for each channel that a block adds.
    pub layer_scale: bool,
    /// Blocks weigh their channels by how they respond in the whole picture: the second version.
    pub response_norm: bool,
}

impl ClassifierConfig {
    /// Reads `config.json`; `model` is for messages.
    ///
    /// # Errors
    /// [`Error::ModelFile`]: not JSON, no classifier, another kind of one, no labels, or a value that no model can have.
    pub fn read(blob: &Blob, model: &str) -> Result<Self> {
        let file = &blob.name();
        let refused = |reason| Error::ModelFile { model: model.to_owned(), file: file.clone(), reason };
        let top: Map<String, Value> = serde_json::from_str(&blob.read_text(limit::FILE_BYTES, model)?)
            .map_err(|error| refused(format!("is no JSON object: {error}")))?;
        let known = KINDS.join(", ");
        let kind = match top.get("model_type").and_then(Value::as_str) {
            Some(kind) if is_classifier(kind) => kind,
            Some(other) => {
                let other: String = other.chars().take(40).collect();
                return Err(refused(format!("has model_type `{other}`; classifiers of these kinds are read: {known}")));
            }
            None => return Err(refused(format!("has no model_type; classifiers of these kinds are read: {known}"))),
        };
        let labels = labels(&top).map_err(refused)?;
        let source = Source { model, file, top: &top };
        let network = match kind {
            "resnet" => NetworkConfig::Resnet(
                ResnetConfig::read(&Value::Object(top.clone()), Names::Transformers, false, 1).map_err(refused)?,
            ),
            "vit" => NetworkConfig::Vit(source.vit()?),
            _ => NetworkConfig::ConvNext(source.convnext(kind == "convnextv2")?),
        };
        Ok(Self { labels, network })
    }
}

/// The labels, if it is a classifier of one label for each picture.
fn labels(top: &Map<String, Value>) -> Result<Vec<String>, String> {
    let names = top.get("architectures").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    let names: Vec<&str> = names.collect();
    if !names.is_empty() && !names.iter().any(|name| name.ends_with(HEAD)) {
        return Err(format!(
            "is of a {}, which has no classifier: take a checkpoint of a ...{HEAD}, such as a fine-tuned one",
            names.join(", ")
        ));
    }
    match top.get("problem_type").and_then(Value::as_str) {
        None | Some("single_label_classification") => {}
        Some(other) => return Err(format!("has problem_type `{other}`; one label for each picture is read here")),
    }
    let missing =
        || "has no id2label, so that its answers have no names: put it in, a name for each number from 0 on".to_owned();
    let named = top.get("id2label").filter(|labels| !labels.is_null()).ok_or_else(missing)?;
    let named: BTreeMap<String, String> = serde_json::from_value(named.clone())
        .map_err(|error| format!("has an id2label that cannot be read: {error}"))?;
    let labels = in_order(&named)?;
    if labels.len() < 2 { Err(format!("names {} labels; two are the least", labels.len())) } else { Ok(labels) }
}

impl Source<'_> {
    fn vit(&self) -> Result<Dinov2Config> {
        let top = Section { source: self, name: "", fields: Some(self.top) };
        let vision: VisionConfig = top.vision(&VIT)?;
        let input = (vision.image_size, vision.image_size);
        Ok(Dinov2Config { vision, input, registers: 0, qkv_bias: top.flag("qkv_bias", true)?, gated: false })
    }

    fn convnext(&self, response_norm: bool) -> Result<ConvNextConfig> {
        let top = Section { source: self, name: "", fields: Some(self.top) };
        if top.count("num_channels", 3, limit::CHANNELS)? != 3 {
            return Err(top.refused("num_channels", "another than 3; only RGB is supported"));
        }
        let depths = top.counts("depths", &CONVNEXT_DEPTHS, limit::LAYERS)?;
        let widths = top.counts("hidden_sizes", &CONVNEXT_WIDTHS, limit::WIDTH)?;
        let stages = top.count("num_stages", depths.len(), MOST_STAGES)?;
        if stages != depths.len() {
            return Err(top.refused("num_stages", &format!("{stages}, which does not fit depths {depths:?}")));
        }
        if depths.len() != widths.len() {
            return Err(top.refused("depths", &format!("{depths:?}, which does not fit hidden_sizes {widths:?}")));
        }
        let scale = top.value("layer_scale_init_value").map_or(Some(1.0), Value::as_f64);
        let scale = scale.ok_or_else(|| top.refused("layer_scale_init_value", "not a number"))?;
        Ok(ConvNextConfig {
            patch_size: top.side("patch_size", CONVNEXT_PATCH)?,
            stages: depths.into_iter().zip(widths).collect(),
            hidden_act: top.activation("gelu")?,
            layer_norm_eps: top.eps(1e-12)?,
            layer_scale: !response_norm && scale > 0.0,
            response_norm,
        })
    }
}

impl Section<'_> {
    /// A whole number from 1 on for each stage.
    pub(super) fn counts(&self, key: &'static str, default: &[usize], max: usize) -> Result<Vec<usize>> {
        let Some(value) = self.value(key) else { return Ok(default.to_vec()) };
        let list = value.as_array().filter(|list| (1..=MOST_STAGES).contains(&list.len()));
        let list = list.ok_or_else(|| self.refused(key, &format!("not a list of 1 to {MOST_STAGES} numbers")))?;
        let count = |value| match self.whole(key, value, max)? {
            0 => Err(self.refused(key, &format!("0, expected 1 to {max}"))),
            count => Ok(count),
        };
        list.iter().map(count).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(mut json: Value) -> Result<ClassifierConfig> {
        let fields = json.as_object_mut().unwrap();
        fields.entry("id2label").or_insert(json!({"0": "a", "1": "b"}));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        std::fs::write(&path, json.to_string()).unwrap();
        ClassifierConfig::read(&Blob::File(path), "m")
    }

    #[test]
    fn absent_fields_take_the_reference_s_defaults() {
        let labels: BTreeMap<String, String> = (0..11).map(|n| (n.to_string(), format!("label {n}"))).collect();
        let resnet = read(json!({"model_type": "resnet", "id2label": labels})).unwrap();
        assert_eq!(resnet.labels[10], "label 10");
        let NetworkConfig::Resnet(resnet) = resnet.network else { panic!() };
        assert_eq!((resnet.outputs(), resnet.bottleneck, resnet.stride()), (2048, true, 32));
        let NetworkConfig::Vit(vit) = read(json!({"model_type": "vit"})).unwrap().network else { panic!() };
        assert_eq!((vit.vision.num_patches(), vit.vision.tower.hidden_size, vit.qkv_bias), (196, 768, true));
        let NetworkConfig::ConvNext(next) = read(json!({"model_type": "convnext"})).unwrap().network else { panic!() };
        assert_eq!((next.stages[2], next.patch_size, next.layer_scale), ((9, 384), 4, true));
        let second = read(json!({"model_type": "convnextv2", "depths": [1], "hidden_sizes": [8]})).unwrap().network;
        let NetworkConfig::ConvNext(second) = second else { panic!() };
        assert!(second.response_norm && !second.layer_scale);
    }

    #[test]
    fn what_is_no_classifier_is_named_with_what_would_be_one() {
        for (json, reason) in [
            (json!({"model_type": "clip"}), "has model_type `clip`; classifiers of these kinds are read: resnet, vit"),
            (json!({}), "has no model_type"),
            (json!({"model_type": "vit", "architectures": ["ViTModel"]}), "of a ViTModel, which has no classifier"),
            (json!({"model_type": "vit", "id2label": null}), "has no id2label"),
            (json!({"model_type": "vit", "id2label": {"0": "a", "2": "b"}}), "id2label without 1"),
            (json!({"model_type": "vit", "id2label": {"0": "a"}}), "names 1 labels"),
            (json!({"model_type": "vit", "problem_type": "multi_label_classification"}), "one label for each picture"),
            (json!({"model_type": "resnet", "depths": [1]}), "depths and hidden_sizes do not fit"),
            (json!({"model_type": "convnext", "depths": [1, 2]}), "does not fit hidden_sizes"),
            (json!({"model_type": "convnext", "num_stages": 3}), "does not fit depths"),
            (json!({"model_type": "convnext", "depths": [1, 2, 0, 1]}), "expected 1 to"),
            (json!({"model_type": "convnext", "depths": 3}), "not a list"),
            (json!({"model_type": "convnext", "num_channels": 4}), "only RGB"),
        ] {
            let error = read(json).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
    }
}
