//! `config.json` of a DETR, or what the reference takes for granted where there is none.

use serde::Deserialize;
use serde_json::Value;

use super::names::Layout;
use crate::compute::Activation;
use crate::models::checkpoint::Checkpoint;
use crate::models::resnet::{BATCH_NORM_EPS, MOST_LAYERS, MOST_WIDTH, Names, ResnetConfig, activation};

/// More are a mistake in the file, and would ask for gigabytes.
const MOST_QUERIES: usize = 4096;

/// A stack of layers: the encoder or the decoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StackConfig {
    pub(super) layers: usize,
    pub(super) heads: usize,
    /// Width of the feed-forward network.
    pub(super) ffn_dim: usize,
}

/// The numbers of a DETR.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct DetrConfig {
    pub(super) layout: Layout,
    pub(super) d_model: usize,
    pub(super) num_queries: usize,
    pub(super) encoder: StackConfig,
    pub(super) decoder: StackConfig,
    pub(super) activation: Activation,
    pub(super) backbone: ResnetConfig,
}

/// The fields that are read; every other one belongs to training.
#[derive(Deserialize)]
#[serde(default)]
struct Fields {
    d_model: usize,
    num_queries: usize,
    encoder_layers: usize,
    encoder_attention_heads: usize,
    encoder_ffn_dim: usize,
    decoder_layers: usize,
    decoder_attention_heads: usize,
    decoder_ffn_dim: usize,
    activation_function: String,
    position_embedding_type: String,
    num_channels: usize,
    dilation: Option<bool>,
    backbone: Option<String>,
    backbone_config: Option<Value>,
    backbone_kwargs: Option<Value>,
}

impl Default for Fields {
    /// Source: transformers 5.24, `configuration_detr.py`; the published checkpoints have the same.
    fn default() -> Self {
        Self {
            d_model: 256,
            num_queries: 100,
            encoder_layers: 6,
            encoder_attention_heads: 8,
            encoder_ffn_dim: 2048,
            decoder_layers: 6,
            decoder_attention_heads: 8,
            decoder_ffn_dim: 2048,
            activation_function: "relu".to_owned(),
            position_embedding_type: "sine".to_owned(),
            num_channels: 3,
            dilation: None,
            backbone: None,
            backbone_config: None,
            backbone_kwargs: None,
        }
    }
}

impl DetrConfig {
    /// From the config's JSON, `{}` where there is none, and the names in the checkpoint.
    ///
    /// # Errors
    /// What is wrong with the config, or not read here.
    pub(super) fn new(config: &Value, checkpoint: &Checkpoint) -> Result<Self, String> {
        let fields: Fields =
            serde_json::from_value(config.clone()).map_err(|error| format!("cannot be read: {error}"))?;
        let layout = Layout::of(checkpoint);
        for (name, value, most) in [
            ("d_model", fields.d_model, MOST_WIDTH),
            ("num_queries", fields.num_queries, MOST_QUERIES),
            ("encoder_layers", fields.encoder_layers, MOST_LAYERS),
            ("decoder_layers", fields.decoder_layers, MOST_LAYERS),
            ("encoder_ffn_dim", fields.encoder_ffn_dim, MOST_WIDTH),
            ("decoder_ffn_dim", fields.decoder_ffn_dim, MOST_WIDTH),
        ] {
            if value == 0 || value > most {
                return Err(format!("says {name} {value}; 1 to {most} fit"));
            }
        }
        // Sine and cosine for two directions.
        if !fields.d_model.is_multiple_of(4) {
            return Err(format!("says d_model {}, which is no multiple of 4", fields.d_model));
        }
        for (name, heads) in [
            ("encoder_attention_heads", fields.encoder_attention_heads),
            ("decoder_attention_heads", fields.decoder_attention_heads),
        ] {
            if heads == 0 || !fields.d_model.is_multiple_of(heads) {
                return Err(format!("says {name} {heads}, which does not divide d_model ({})", fields.d_model));
            }
        }
        if fields.position_embedding_type != "sine" {
            let kind = &fields.position_embedding_type;
            return Err(format!(
                "says position_embedding_type `{kind}`; only `sine`, as in every published DETR, is read"
            ));
        }
        if fields.num_channels != 3 {
            return Err(format!("says num_channels {}, only 3 (RGB) is read", fields.num_channels));
        }
        let encoder = StackConfig {
            layers: fields.encoder_layers,
            heads: fields.encoder_attention_heads,
            ffn_dim: fields.encoder_ffn_dim,
        };
        let decoder = StackConfig {
            layers: fields.decoder_layers,
            heads: fields.decoder_attention_heads,
            ffn_dim: fields.decoder_ffn_dim,
        };
        Ok(Self {
            d_model: fields.d_model,
            num_queries: fields.num_queries,
            encoder,
            decoder,
            activation: activation("activation_function", &fields.activation_function)?,
            backbone: backbone(&fields, &layout, checkpoint)?,
            layout,
        })
    }
}

/// The backbone, of transformers' own classes or of timm.
fn backbone(fields: &Fields, layout: &Layout, checkpoint: &Checkpoint) -> Result<ResnetConfig, String> {
    let own = fields.backbone_config.as_ref().filter(|config| !config.is_null());
    let kind = own.map(|config| config.get("model_type").and_then(Value::as_str).unwrap_or("timm_backbone"));
    match (own, kind) {
        (Some(config), Some("resnet")) => {
            ResnetConfig::read(config, layout.backbone_names(Names::Transformers), false, 1)
        }
        (_, None | Some("timm_backbone")) => {
            let named = own.and_then(|config| config.get("backbone")).and_then(Value::as_str);
            let strides = [own, fields.backbone_kwargs.as_ref()];
            let stride = strides.into_iter().flatten().find_map(|config| config.get("output_stride")?.as_u64());
            let dilated = match stride {
                None => fields.dilation.unwrap_or(false),
                Some(16) => true,
                Some(32) => false,
                Some(other) => return Err(format!("says output_stride {other}; 16 and 32 are read")),
            };
            timm_backbone(named.or(fields.backbone.as_deref()), dilated, layout, checkpoint)
        }
        (_, Some(other)) => Err(format!("has a backbone of model_type `{other}`; resnet and timm_backbone are read")),
    }
}

/// The name says how deep it is; how wide is read off the first block of each stage, where there is one.
fn timm_backbone(
    name: Option<&str>,
    dilated: bool,
    layout: &Layout,
    checkpoint: &Checkpoint,
) -> Result<ResnetConfig, String> {
    let names = layout.backbone_names(Names::Timm);
    let has = |name: String| checkpoint.get(&name).is_some();
    let weight = |place: &str| format!("{}.{place}.weight", layout.backbone);
    let name = name.unwrap_or_else(|| {
        // No config at all: the two that were published differ here.
        let deep = has(weight(&format!("{}.{}", names.block(2, 22), names.conv(0).0)));
        if deep { "resnet101" } else { "resnet50" }
    });
    // timm's names may carry the weights they came with: `resnet50.a1_in1k`.
    let plain = name.split('.').next().unwrap_or(name);
    let Some((depths, bottleneck)) = ResnetConfig::published(plain) else {
        return Err(format!("has the backbone `{name}`; resnet18, 34, 50, 101 and 152 are read"));
    };
    let outputs = |place: &str, published: usize| {
        let shape = checkpoint.get(&weight(place)).and_then(|entry| entry.shape.first().copied());
        shape.filter(|outputs| (1..=MOST_WIDTH).contains(outputs)).unwrap_or(published)
    };
    let last = if bottleneck { 2 } else { 1 };
    let stages = depths.into_iter().enumerate().map(|(stage, depth)| {
        let published = if bottleneck { 256 << stage } else { 64 << stage };
        (depth, outputs(&format!("{}.{}", names.block(stage, 0), names.conv(last).0), published))
    });
    Ok(ResnetConfig {
        names,
        stem: outputs(names.stem().0, 64),
        stages: stages.collect(),
        bottleneck,
        activation: Activation::Relu,
        downsample_in_first_stage: false,
        downsample_in_bottleneck: false,
        dilated,
        variant_d: false,
        eps: BATCH_NORM_EPS,
    })
}
