//! `config.json` of an RT-DETR.

use serde::Deserialize;
use serde_json::Value;

use crate::compute::Activation;
use crate::models::checkpoint::Checkpoint;
use crate::models::resnet::{MOST_LAYERS, MOST_WIDTH, Names, ResnetConfig, activation};

/// More are a mistake in the file, and would ask for gigabytes.
const MOST_QUERIES: usize = 4096;
const MOST_POINTS: usize = 64;

/// A stack of layers: the encoder's or the decoder's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct StackConfig {
    pub(super) layers: usize,
    pub(super) heads: usize,
    /// Width of the feed-forward network.
    pub(super) ffn_dim: usize,
    pub(super) activation: Activation,
}

/// How the tensors are called in which files of various ages differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    /// In an attention.
    pub(super) out_proj: &'static str,
    pub(super) fc1: &'static str,
    pub(super) fc2: &'static str,
    /// The transformers over single maps.
    pub(super) aifi: &'static str,
    pub(super) class_head: &'static str,
    pub(super) box_head: &'static str,
}

impl Layout {
    /// Files say what transformers 4 called things; what transformers 5 holds in memory is named otherwise. The heads lie in
    /// the model and in its decoder, and a file has one of them or both, which are the same.
    fn of(checkpoint: &Checkpoint) -> Self {
        let has = |name: &str| checkpoint.get(name).is_some();
        let first = "model.decoder.layers.0";
        let (fc1, fc2) = if has(&format!("{first}.mlp.fc1.weight")) { ("mlp.fc1", "mlp.fc2") } else { ("fc1", "fc2") };
        let inner = has("model.decoder.class_embed.0.weight") || !has("class_embed.0.weight");
        Self {
            out_proj: if has(&format!("{first}.self_attn.o_proj.weight")) { "o_proj" } else { "out_proj" },
            fc1,
            fc2,
            aifi: if has("model.encoder.aifi.0.layers.0.self_attn.q_proj.weight") { "aifi" } else { "encoder" },
            class_head: if inner { "model.decoder.class_embed" } else { "class_embed" },
            box_head: if inner { "model.decoder.bbox_embed" } else { "bbox_embed" },
        }
    }
}

/// The numbers of an RT-DETR.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct RtDetrConfig {
    pub(super) layout: Layout,
    /// Maps that the backbone hands over.
    pub(super) levels: usize,
    /// Channels of the encoder's maps, and inside its CSP layers.
    pub(super) hidden: usize,
    pub(super) expanded: usize,
    /// Width of the decoder.
    pub(super) d_model: usize,
    pub(super) num_queries: usize,
    pub(super) encoder: StackConfig,
    /// The maps whose cells look at each other.
    pub(super) encode_proj_layers: Vec<usize>,
    pub(super) temperature: f64,
    pub(super) decoder: StackConfig,
    pub(super) points: usize,
    pub(super) offset_scale: f32,
    /// The nearest cell instead of the four around a place.
    pub(super) discrete: bool,
    pub(super) activation: Activation,
    pub(super) layer_norm_eps: f32,
    pub(super) batch_norm_eps: f32,
    pub(super) backbone: ResnetConfig,
}

/// The fields that are read; every other one belongs to training.
#[derive(Deserialize)]
#[serde(default)]
struct Fields {
    encoder_hidden_dim: usize,
    hidden_expansion: f64,
    encoder_layers: usize,
    encoder_attention_heads: usize,
    encoder_ffn_dim: usize,
    encoder_activation_function: String,
    encode_proj_layers: Vec<usize>,
    positional_encoding_temperature: f64,
    activation_function: String,
    eval_size: Option<Value>,
    normalize_before: bool,
    d_model: usize,
    num_queries: usize,
    num_feature_levels: usize,
    decoder_in_channels: Vec<usize>,
    decoder_layers: usize,
    decoder_attention_heads: usize,
    decoder_ffn_dim: usize,
    decoder_activation_function: String,
    decoder_n_points: usize,
    decoder_n_levels: Option<usize>,
    decoder_offset_scale: f32,
    decoder_method: String,
    learn_initial_query: bool,
    use_focal_loss: bool,
    layer_norm_eps: f32,
    batch_norm_eps: f32,
    backbone: Option<String>,
    backbone_config: Option<Value>,
}

impl Default for Fields {
    /// Source: transformers 5.24, `configuration_rt_detr_v2.py` and `configuration_rt_detr.py`.
    fn default() -> Self {
        Self {
            encoder_hidden_dim: 256,
            hidden_expansion: 1.0,
            encoder_layers: 1,
            encoder_attention_heads: 8,
            encoder_ffn_dim: 1024,
            encoder_activation_function: "gelu".to_owned(),
            encode_proj_layers: vec![2],
            positional_encoding_temperature: 10_000.0,
            activation_function: "silu".to_owned(),
            eval_size: None,
            normalize_before: false,
            d_model: 256,
            num_queries: 300,
            num_feature_levels: 3,
            decoder_in_channels: vec![256; 3],
            decoder_layers: 6,
            decoder_attention_heads: 8,
            decoder_ffn_dim: 1024,
            decoder_activation_function: "relu".to_owned(),
            decoder_n_points: 4,
            decoder_n_levels: None,
            decoder_offset_scale: 0.5,
            decoder_method: "default".to_owned(),
            learn_initial_query: false,
            use_focal_loss: true,
            layer_norm_eps: 1e-5,
            batch_norm_eps: 1e-5,
            backbone: None,
            backbone_config: None,
        }
    }
}

impl RtDetrConfig {
    /// Pixels of the input per cell of the finest map.
    pub(super) fn finest(&self) -> u32 {
        self.backbone.stride() >> self.levels.saturating_sub(1)
    }

    /// From the config's JSON, `{}` where there is none, and the names in the checkpoint.
    ///
    /// # Errors
    /// What is wrong with the config, or not read here.
    pub(super) fn new(config: &Value, checkpoint: &Checkpoint) -> Result<Self, String> {
        let fields: Fields =
            serde_json::from_value(config.clone()).map_err(|error| format!("cannot be read: {error}"))?;
        check_sizes(&fields)?;
        check_steps(&fields)?;
        let backbone = backbone(&fields)?;
        let expanded = (fields.encoder_hidden_dim as f64 * fields.hidden_expansion) as usize;
        if expanded == 0 || expanded > MOST_WIDTH {
            return Err(format!("says hidden_expansion {}, which leaves no sensible width", fields.hidden_expansion));
        }
        let encoder = StackConfig {
            layers: fields.encoder_layers,
            heads: fields.encoder_attention_heads,
            ffn_dim: fields.encoder_ffn_dim,
            activation: activation("encoder_activation_function", &fields.encoder_activation_function)?,
        };
        let decoder = StackConfig {
            layers: fields.decoder_layers,
            heads: fields.decoder_attention_heads,
            ffn_dim: fields.decoder_ffn_dim,
            activation: activation("decoder_activation_function", &fields.decoder_activation_function)?,
        };
        Ok(Self {
            layout: Layout::of(checkpoint),
            levels: fields.num_feature_levels,
            hidden: fields.encoder_hidden_dim,
            expanded,
            d_model: fields.d_model,
            num_queries: fields.num_queries,
            encoder,
            encode_proj_layers: fields.encode_proj_layers,
            temperature: fields.positional_encoding_temperature,
            decoder,
            points: fields.decoder_n_points,
            offset_scale: fields.decoder_offset_scale,
            discrete: fields.decoder_method == "discrete",
            activation: activation("activation_function", &fields.activation_function)?,
            layer_norm_eps: fields.layer_norm_eps,
            batch_norm_eps: fields.batch_norm_eps,
            backbone,
        })
    }
}

fn check_sizes(fields: &Fields) -> Result<(), String> {
    for (name, value, most) in [
        ("encoder_hidden_dim", fields.encoder_hidden_dim, MOST_WIDTH),
        ("d_model", fields.d_model, MOST_WIDTH),
        ("num_queries", fields.num_queries, MOST_QUERIES),
        ("encoder_layers", fields.encoder_layers, MOST_LAYERS),
        ("decoder_layers", fields.decoder_layers, MOST_LAYERS),
        ("encoder_ffn_dim", fields.encoder_ffn_dim, MOST_WIDTH),
        ("decoder_ffn_dim", fields.decoder_ffn_dim, MOST_WIDTH),
        ("decoder_n_points", fields.decoder_n_points, MOST_POINTS),
        ("num_feature_levels", fields.num_feature_levels, 8),
    ] {
        if value == 0 || value > most {
            return Err(format!("says {name} {value}; 1 to {most} fit"));
        }
    }
    for (name, heads, of, size) in [
        ("encoder_attention_heads", fields.encoder_attention_heads, "encoder_hidden_dim", fields.encoder_hidden_dim),
        ("decoder_attention_heads", fields.decoder_attention_heads, "d_model", fields.d_model),
    ] {
        if heads == 0 || !size.is_multiple_of(heads) {
            return Err(format!("says {name} {heads}, which does not divide {of} ({size})"));
        }
    }
    // Sine and cosine for two directions.
    if !fields.encoder_hidden_dim.is_multiple_of(4) {
        return Err(format!("says encoder_hidden_dim {}, which is no multiple of 4", fields.encoder_hidden_dim));
    }
    let levels = fields.num_feature_levels;
    if fields.decoder_in_channels.len() != levels || fields.decoder_n_levels.is_some_and(|number| number != levels) {
        return Err(format!(
            "says num_feature_levels {levels}, which decoder_in_channels or decoder_n_levels contradict"
        ));
    }
    match fields.encode_proj_layers.iter().find(|level| **level >= levels) {
        Some(level) => Err(format!("has encode_proj_layers with {level}; there are {levels} maps")),
        None => Ok(()),
    }
}

/// Steps that no published checkpoint has, and that would be left out silently.
fn check_steps(fields: &Fields) -> Result<(), String> {
    let eval_size = fields.eval_size.as_ref().is_some_and(|size| !size.is_null());
    for (name, found) in [
        ("eval_size", eval_size),
        ("normalize_before", fields.normalize_before),
        ("learn_initial_query", fields.learn_initial_query),
        ("use_focal_loss: false", !fields.use_focal_loss),
    ] {
        if found {
            return Err(format!("asks for {name}, which is not known here"));
        }
    }
    match fields.decoder_method.as_str() {
        "default" | "discrete" => Ok(()),
        other => Err(format!("says decoder_method `{other}`; default and discrete are read")),
    }
}

fn backbone(fields: &Fields) -> Result<ResnetConfig, String> {
    let own = fields.backbone_config.as_ref().filter(|config| !config.is_null());
    let kind = own.and_then(|config| config.get("model_type")).and_then(Value::as_str);
    let named = kind.or(fields.backbone.as_deref()).unwrap_or("rt_detr_resnet");
    if named != "rt_detr_resnet" {
        return Err(format!("has the backbone `{named}`; rt_detr_resnet is read"));
    }
    let empty = Value::Object(serde_json::Map::new());
    let config = ResnetConfig::read(own.unwrap_or(&empty), Names::Transformers, true, fields.num_feature_levels)?;
    if config.activation != Activation::Relu {
        return Err(
            "has a backbone_config with another hidden_act than relu, which its blocks do not follow".to_owned()
        );
    }
    if config.stem < 2 || (!config.bottleneck && config.stages.windows(2).any(|pair| pair[0].1 == pair[1].1)) {
        return Err("has a backbone_config with a size that no network has".to_owned());
    }
    Ok(config)
}
