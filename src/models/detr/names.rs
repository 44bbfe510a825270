//! How the tensors of a DETR are called: in transformers' files of every age, and in the authors' own.

use crate::models::checkpoint::Checkpoint;
use crate::models::resnet::Names;

/// The names of a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layout {
    /// Before the backbone's tensors.
    pub(super) backbone: String,
    pub(super) input_projection: &'static str,
    pub(super) query_position_embeddings: &'static str,
    pub(super) encoder: &'static str,
    pub(super) decoder: &'static str,
    /// In the decoder: the norm behind its last layer.
    pub(super) decoder_norm: &'static str,
    pub(super) class_head: &'static str,
    pub(super) box_head: &'static str,
    pub(super) layer: LayerNames,
    /// Queries, keys and values of an attention are one tensor, as in torch's `MultiheadAttention`.
    pub(super) packed: bool,
    transformers_backbone: bool,
}

/// In a layer of the encoder or decoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LayerNames {
    pub(super) self_attn: &'static str,
    pub(super) encoder_attn: &'static str,
    /// In an attention.
    pub(super) out_proj: &'static str,
    pub(super) fc1: &'static str,
    pub(super) fc2: &'static str,
    pub(super) self_attn_norm: &'static str,
    pub(super) encoder_attn_norm: &'static str,
    /// Of an encoder layer.
    pub(super) encoder_final_norm: &'static str,
    /// Of a decoder layer.
    pub(super) decoder_final_norm: &'static str,
}

const TRANSFORMERS: LayerNames = LayerNames {
    self_attn: "self_attn",
    encoder_attn: "encoder_attn",
    out_proj: "out_proj",
    fc1: "fc1",
    fc2: "fc2",
    self_attn_norm: "self_attn_layer_norm",
    encoder_attn_norm: "encoder_attn_layer_norm",
    encoder_final_norm: "final_layer_norm",
    decoder_final_norm: "final_layer_norm",
};

const AUTHORS: LayerNames = LayerNames {
    self_attn: "self_attn",
    encoder_attn: "multihead_attn",
    out_proj: "out_proj",
    fc1: "linear1",
    fc2: "linear2",
    self_attn_norm: "norm1",
    encoder_attn_norm: "norm2",
    encoder_final_norm: "norm2",
    decoder_final_norm: "norm3",
};

/// The authors' name of what transformers calls `model.query_position_embeddings`.
const AUTHORS_QUERIES: &str = "query_embed";

impl Layout {
    /// Whether a checkpoint is a DETR.
    pub(super) fn recognises(checkpoint: &Checkpoint) -> bool {
        let has = |name: &str| checkpoint.get(name).is_some();
        let heads = [
            ("model.query_position_embeddings.weight", "class_labels_classifier.weight"),
            ("query_embed.weight", "transformer.decoder.layers.0.multihead_attn.in_proj_weight"),
        ];
        heads.iter().any(|(queries, head)| has(queries) && has(head))
    }

    /// The names that a checkpoint has; of a checkpoint that is no DETR, those of the published ones.
    pub(super) fn of(checkpoint: &Checkpoint) -> Self {
        let has = |name: &str| checkpoint.get(name).is_some();
        if has(&format!("{AUTHORS_QUERIES}.weight")) {
            return Self {
                backbone: "backbone.0.body".to_owned(),
                input_projection: "input_proj",
                query_position_embeddings: AUTHORS_QUERIES,
                encoder: "transformer.encoder",
                decoder: "transformer.decoder",
                decoder_norm: "norm",
                class_head: "class_embed",
                box_head: "bbox_embed",
                layer: AUTHORS,
                packed: true,
                transformers_backbone: false,
            };
        }
        // What transformers 5 holds in memory is named otherwise than what it writes; both may lie in a file.
        let backbone = ["model.backbone.conv_encoder.model", "model.backbone.model"];
        let stem = |backbone: &&str, names: Names| has(&format!("{backbone}.{}.weight", names.stem().0));
        let found =
            backbone.iter().find(|b| stem(b, Names::Timm) || stem(b, Names::Transformers)).unwrap_or(&backbone[0]);
        let first = "model.encoder.layers.0";
        let mut layer = TRANSFORMERS;
        if has(&format!("{first}.self_attn.o_proj.weight")) {
            layer.out_proj = "o_proj";
        }
        if has(&format!("{first}.mlp.fc1.weight")) {
            (layer.fc1, layer.fc2) = ("mlp.fc1", "mlp.fc2");
        }
        Self {
            backbone: (*found).to_owned(),
            input_projection: "model.input_projection",
            query_position_embeddings: "model.query_position_embeddings",
            encoder: "model.encoder",
            decoder: "model.decoder",
            decoder_norm: "layernorm",
            class_head: "class_labels_classifier",
            box_head: "bbox_predictor",
            layer,
            packed: false,
            transformers_backbone: stem(found, Names::Transformers),
        }
    }

    /// How the backbone's tensors are called; `usual` where the checkpoint has none that could tell.
    pub(super) fn backbone_names(&self, usual: Names) -> Names {
        if self.packed {
            Names::Timm
        } else if self.transformers_backbone {
            Names::Transformers
        } else {
            usual
        }
    }
}
