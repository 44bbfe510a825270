//! `open_clip_config.json`, brought to the words of transformers.
//!
//! Source: `open_clip` 3.3, `model.py` (`CLIPVisionCfg`, `CLIPTextCfg`, `CLIP`), `transform.py` (`PreprocessCfg`).

use serde_json::{Map, Value, json};

/// Settings that change nothing here: of training, or of parts that other settings turn on.
const INERT: [&str; 18] = [
    "patch_dropout",
    "attn_pooler_queries",
    "attn_pooler_heads",
    "output_tokens",
    "timm_model_pretrained",
    "timm_pool",
    "timm_proj",
    "timm_drop",
    "timm_drop_path",
    "hf_model_pretrained",
    "hf_proj_type",
    "hf_pooler_type",
    "pad_id",
    "eos_id",
    "init_logit_scale",
    "nonscalar_logit_scale",
    "cast_dtype",
    "output_dict",
];
/// Settings that may be spelled out, as long as they are what they are without that.
const USUAL: [(&str, &str); 5] = [
    ("pool_type", "tok"),
    ("pool_type", "argmax"),
    ("pos_embed_type", "learnable"),
    ("proj_type", "linear"),
    ("block_type", "default"),
];

/// A section of the file.
struct Section<'a> {
    name: &'static str,
    fields: &'a Map<String, Value>,
}

/// `config.json` of the same model; `None` for a file that is not `open_clip`'s.
pub(super) fn config(file: &Value) -> Option<Result<Value, String>> {
    model(file).map(|model| transformers_config(&model))
}

/// `preprocessor_config.json` of the same model (as `shapes::preprocessor` says, a crop may differ by a pixel); `None` for a file that is not `open_clip`'s.
pub(super) fn preprocessor(file: &Value) -> Option<Result<Value, String>> {
    model(file).map(|model| clip_preprocessor(&model, file.get("preprocess_cfg")))
}

/// What builds the model: a section of a hub's file, all of one of `open_clip`'s own.
fn model(file: &Value) -> Option<Section<'_>> {
    let fields = file.get("model_cfg").unwrap_or(file).as_object()?;
    fields.contains_key("vision_cfg").then_some(Section { name: "model_cfg", fields })
}

fn transformers_config(model: &Section<'_>) -> Result<Value, String> {
    model.refuse_foreign(&["embed_dim", "vision_cfg", "text_cfg", "quick_gelu"])?;
    let (vision, text) = (model.section("vision_cfg")?, model.section("text_cfg")?);
    if vision.fields.get("layers").is_some_and(Value::is_array) {
        return Err("has a ResNet as its image tower; only vision transformers are read".to_owned());
    }
    vision.refuse_foreign(&["image_size", "layers", "width", "head_width", "mlp_ratio", "patch_size"])?;
    text.refuse_foreign(&["context_length", "vocab_size", "width", "heads", "layers", "mlp_ratio"])?;
    let activation = if model.fields.get("quick_gelu") == Some(&Value::Bool(true)) { "quick_gelu" } else { "gelu" };
    let width = vision.count("width", 768)?;
    let head_width = vision.count("head_width", 64)?;
    if head_width == 0 || !width.is_multiple_of(head_width) {
        return Err(format!("vision_cfg.head_width is {head_width}, which does not divide width ({width})"));
    }
    Ok(json!({
        "model_type": "clip",
        "projection_dim": model.fields.get("embed_dim").ok_or("model_cfg has no embed_dim")?,
        "text_config": {
            "hidden_size": text.count("width", 512)?, "intermediate_size": text.intermediate(512)?,
            "num_hidden_layers": text.count("layers", 12)?, "num_attention_heads": text.count("heads", 8)?,
            "vocab_size": text.count("vocab_size", 49408)?, "max_position_embeddings": text.count("context_length", 77)?,
            "hidden_act": activation,
            // Texts are pooled at their highest id.
            "eos_token_id": 2,
        },
        "vision_config": {
            "hidden_size": width, "intermediate_size": vision.intermediate(768)?,
            "num_hidden_layers": vision.count("layers", 12)?, "num_attention_heads": width / head_width,
            "image_size": vision.value("image_size").unwrap_or(&json!(224)),
            "patch_size": vision.value("patch_size").unwrap_or(&json!(16)),
            "hidden_act": activation,
        },
    }))
}

fn clip_preprocessor(model: &Section<'_>, settings: Option<&Value>) -> Result<Value, String> {
    let empty = Map::new();
    let fields = match settings {
        None | Some(Value::Null) => &empty,
        Some(settings) => settings.as_object().ok_or("preprocess_cfg is not an object")?,
    };
    let settings = Section { name: "preprocess_cfg", fields };
    settings.refuse_foreign(&["size", "mode", "mean", "std", "interpolation", "resize_mode", "fill_color"])?;
    let word = |key, usual| settings.value(key).map_or(Some(usual), Value::as_str);
    let foreign = |key| format!("preprocess_cfg.{key} is not known here");
    let resample = match word("interpolation", "bicubic") {
        Some("bicubic") => 3,
        Some("bilinear") => 2,
        _ => return Err(foreign("interpolation")),
    };
    if word("mode", "RGB") != Some("RGB") {
        return Err(foreign("mode"));
    }
    // The model's own size goes before that of the pictures.
    let size = model.section("vision_cfg")?.value("image_size").cloned().or_else(|| settings.value("size").cloned());
    let size = match size.unwrap_or(json!(224)) {
        Value::Array(pair) => pair.first().filter(|first| pair.iter().all(|side| side == *first)).cloned(),
        side => Some(side),
    };
    let size = size.ok_or("vision_cfg.image_size is not square")?;
    let resized = match word("resize_mode", "shortest") {
        Some("shortest") => json!({"shortest_edge": size}),
        Some("squash") => json!({"height": size, "width": size}),
        _ => return Err(foreign("resize_mode")),
    };
    Ok(json!({
        "image_processor_type": "CLIPImageProcessor", "size": resized, "crop_size": size, "resample": resample,
        "image_mean": settings.value("mean"), "image_std": settings.value("std"),
    }))
}

impl Section<'_> {
    fn section(&self, name: &'static str) -> Result<Section<'_>, String> {
        let fields = self.fields.get(name).and_then(Value::as_object);
        Ok(Section { name, fields: fields.ok_or_else(|| format!("{}.{name} is not an object", self.name))? })
    }

    /// A field that is there; null counts as absent.
    fn value(&self, key: &str) -> Option<&Value> {
        self.fields.get(key).filter(|value| !value.is_null())
    }

    fn count(&self, key: &str, usual: u64) -> Result<u64, String> {
        let number = self.value(key).map_or(Some(usual), Value::as_u64);
        number.ok_or_else(|| format!("{}.{key} is not a whole number", self.name))
    }

    /// Width of the layers between the layers.
    fn intermediate(&self, usual_width: u64) -> Result<u64, String> {
        let ratio = self.value("mlp_ratio").map_or(Some(4.0), Value::as_f64);
        let ratio = ratio.filter(|ratio| (0.0..1000.0).contains(ratio));
        let ratio = ratio.ok_or_else(|| format!("{}.mlp_ratio is not a usual number", self.name))?;
        Ok((self.count("width", usual_width)? as f64 * ratio) as u64)
    }

    /// A setting that is passed over unknowingly gives wrong vectors and no error.
    fn refuse_foreign(&self, known: &[&str]) -> Result<(), String> {
        for (key, value) in self.fields {
            let off = value.is_null() || *value == Value::Bool(false) || *value == json!({});
            let usual = value.as_str().is_some_and(|value| USUAL.contains(&(key, value)));
            if !off && !usual && !known.contains(&key.as_str()) && !INERT.contains(&key.as_str()) {
                let value: String = value.to_string().chars().take(60).collect();
                return Err(format!("the setting `{}.{key}: {value}` is not known here", self.name));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn b32() -> Value {
        json!({"model_cfg": {"embed_dim": 512, "quick_gelu": true,
            "vision_cfg": {"image_size": 224, "layers": 12, "width": 768, "patch_size": 32},
            "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 512, "heads": 8, "layers": 12}},
            "preprocess_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25], "interpolation": "bilinear"}})
    }

    #[test]
    fn a_config_says_the_same_in_the_other_words() {
        let config = config(&b32()).unwrap().unwrap();
        assert_eq!(config["vision_config"]["num_attention_heads"], 12);
        assert_eq!(config["vision_config"]["intermediate_size"], 3072);
        assert_eq!(config["text_config"]["hidden_act"], "quick_gelu");
        let mut file = b32()["model_cfg"].clone();
        file["quick_gelu"] = Value::Null;
        file["vision_cfg"]["head_width"] = 96.into();
        file["vision_cfg"]["mlp_ratio"] = json!(4.3637);
        file["text_cfg"]["pool_type"] = "argmax".into();
        let config = super::config(&file).unwrap().unwrap();
        assert_eq!(config["vision_config"]["num_attention_heads"], 8);
        assert_eq!(config["vision_config"]["intermediate_size"], 3351);
        assert_eq!(config["vision_config"]["hidden_act"], "gelu");
        assert!(super::config(&json!({"model_type": "clip"})).is_none());
    }

    #[test]
    fn pictures_are_prepared_as_it_says() {
        let made = preprocessor(&b32()).unwrap().unwrap();
        let json = json!({"image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": 224}, "crop_size": 224,
            "resample": 2, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.25, 0.25, 0.25]});
        assert_eq!(made, json);
        let mut file = b32();
        file["preprocess_cfg"] = json!({"resize_mode": "squash", "size": [224, 224]});
        assert_eq!(preprocessor(&file).unwrap().unwrap()["size"], json!({"height": 224, "width": 224}));
        for (key, value) in [("resize_mode", "longest"), ("interpolation", "random"), ("antialias", "none")] {
            file["preprocess_cfg"] = json!({key: value});
            assert!(preprocessor(&file).unwrap().unwrap_err().contains(key), "{key}");
        }
    }

    #[test]
    fn what_would_be_computed_otherwise_is_refused() {
        let foreign = [
            ("", "custom_text", json!(true)),
            ("", "init_logit_bias", json!(-10)),
            ("", "multimodal_cfg", json!({"width": 1})),
            ("vision_cfg", "timm_model_name", json!("vit_base_patch16_siglip_224")),
            ("vision_cfg", "attentional_pool", json!(true)),
            ("vision_cfg", "pool_type", json!("avg")),
            ("vision_cfg", "no_ln_pre", json!(true)),
            ("vision_cfg", "layers", json!([3, 4, 6, 3])),
            ("text_cfg", "hf_model_name", json!("xlm-roberta-base")),
            ("text_cfg", "hf_tokenizer_name", json!("bert-base-uncased")),
            ("text_cfg", "norm_kwargs", json!({"eps": 1e-6})),
        ];
        for (section, key, value) in foreign {
            let mut file = b32();
            let place = &mut file["model_cfg"];
            let place = if section.is_empty() { place } else { &mut place[section] };
            place[key] = value;
            assert!(config(&file).unwrap().is_err(), "{section}.{key}");
        }
    }
}
