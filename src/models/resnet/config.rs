//! A classifier's `config.json`, or the backbone's part of a detector's, as transformers writes them.

use serde::Deserialize;
use serde_json::Value;

use super::{BATCH_NORM_EPS, Names, ResnetConfig};
use crate::compute::Activation;

/// Layers and widths beyond these are a mistake in the file, and would ask for gigabytes.
pub(in crate::models) const MOST_LAYERS: usize = 64;
pub(in crate::models) const MOST_WIDTH: usize = 1 << 14;

#[derive(Deserialize)]
#[serde(default)]
struct Fields {
    embedding_size: usize,
    hidden_sizes: Vec<usize>,
    depths: Vec<usize>,
    layer_type: String,
    hidden_act: String,
    downsample_in_first_stage: bool,
    downsample_in_bottleneck: bool,
    /// `["stage4"]`, where it is said.
    out_features: Option<Vec<String>>,
}

impl Default for Fields {
    /// Source: transformers 5.24, `configuration_resnet.py` and `configuration_rt_detr_resnet.py`.
    fn default() -> Self {
        Self {
            embedding_size: 64,
            hidden_sizes: vec![256, 512, 1024, 2048],
            depths: vec![3, 4, 6, 3],
            layer_type: "bottleneck".to_owned(),
            hidden_act: "relu".to_owned(),
            downsample_in_first_stage: false,
            downsample_in_bottleneck: false,
            out_features: None,
        }
    }
}

impl ResnetConfig {
    /// From a `backbone_config`, or a classifier's whole config; `maps` is how many of the last stages' maps are wanted.
    ///
    /// # Errors
    /// What is wrong with it, or not read here.
    pub(in crate::models) fn read(config: &Value, names: Names, variant_d: bool, maps: usize) -> Result<Self, String> {
        let fields: Fields = serde_json::from_value(config.clone())
            .map_err(|error| format!("has a ResNet that cannot be read: {error}"))?;
        let depth = fields.depths.len();
        if depth != fields.hidden_sizes.len() || depth == 0 || depth > 8 {
            return Err("has a ResNet whose depths and hidden_sizes do not fit".to_owned());
        }
        let wanted = (1..=depth).rev().take(maps).map(|stage| format!("stage{stage}"));
        let last = fields.out_features.as_ref().is_none_or(|names| wanted.eq(names.iter().rev().take(maps).cloned()));
        if maps > depth || !last {
            return Err(format!("has a ResNet whose out_features do not end with the last {maps} stages"));
        }
        let bottleneck = match fields.layer_type.as_str() {
            "bottleneck" => true,
            "basic" => false,
            other => return Err(format!("has a ResNet with layer_type `{other}`")),
        };
        let stages: Vec<(usize, usize)> = fields.depths.into_iter().zip(fields.hidden_sizes).collect();
        let sizes = stages.iter().map(|(_, outputs)| *outputs).chain([fields.embedding_size]);
        if sizes.into_iter().any(|size| size == 0 || size > MOST_WIDTH)
            || stages.iter().any(|(depth, _)| *depth == 0 || *depth > MOST_LAYERS)
        {
            return Err("has a ResNet with a size that no network has".to_owned());
        }
        Ok(Self {
            names,
            stem: fields.embedding_size,
            stages,
            bottleneck,
            activation: activation("hidden_act", &fields.hidden_act)?,
            downsample_in_first_stage: fields.downsample_in_first_stage,
            downsample_in_bottleneck: fields.downsample_in_bottleneck,
            dilated: false,
            variant_d,
            eps: BATCH_NORM_EPS,
        })
    }
}

/// The function that a config names.
pub(in crate::models) fn activation(field: &str, name: &str) -> Result<Activation, String> {
    match name {
        "relu" => Ok(Activation::Relu),
        "silu" | "swish" => Ok(Activation::Silu),
        other => Activation::from_name(other).ok_or_else(|| {
            let other: String = other.chars().take(40).collect();
            format!("says {field} `{other}`; relu, silu, {} are known", Activation::NAMES.join(", "))
        }),
    }
}
