//! The names that `OpenAI` and `open_clip` give a CLIP's tensors, beside those of transformers that models ask for.
//!
//! Source: openai/CLIP, `clip/model.py`; `open_clip` 3.3, `model.py` and `transformer.py`; transformers 5.23,
//! `convert_clip_original_pytorch_to_hf.py`.

use std::collections::HashMap;

use super::entry::Entry;

/// What models ask for, and what it is called in the file; the names below go on alike.
const PLACES: [(&str, &str); 11] = [
    ("vision_model.embeddings.class_embedding", "visual.class_embedding"),
    ("vision_model.embeddings.patch_embedding", "visual.conv1"),
    ("vision_model.embeddings.position_embedding.weight", "visual.positional_embedding"),
    ("vision_model.pre_layrnorm", "visual.ln_pre"),
    ("vision_model.post_layernorm", "visual.ln_post"),
    ("visual_projection.weight", "visual.proj"),
    ("text_model.embeddings.token_embedding", "token_embedding"),
    ("text_model.embeddings.position_embedding.weight", "positional_embedding"),
    ("text_model.final_layer_norm", "ln_final"),
    ("text_projection.weight", "text_projection"),
    ("logit_scale", "logit_scale"),
];
/// Where the layers are.
const LAYERS: [(&str, &str); 2] = [
    ("vision_model.encoder.layers.", "visual.transformer.resblocks."),
    ("text_model.encoder.layers.", "transformer.resblocks."),
];
/// In a layer.
const IN_LAYER: [(&str, &str); 11] = [
    ("layer_norm1", "ln_1"),
    ("layer_norm2", "ln_2"),
    ("self_attn.q_proj.weight", "attn.in_proj_weight"),
    ("self_attn.k_proj.weight", "attn.in_proj_weight"),
    ("self_attn.v_proj.weight", "attn.in_proj_weight"),
    ("self_attn.q_proj.bias", "attn.in_proj_bias"),
    ("self_attn.k_proj.bias", "attn.in_proj_bias"),
    ("self_attn.v_proj.bias", "attn.in_proj_bias"),
    ("self_attn.out_proj", "attn.out_proj"),
    ("mlp.fc1", "mlp.c_fc"),
    ("mlp.fc2", "mlp.c_proj"),
];
/// A tensor of every such CLIP with a vision transformer, and one of those with a `ResNet`.
const TELLING: [&str; 2] = ["visual.transformer.resblocks.0.attn.in_proj_weight", "visual.attnpool.c_proj.weight"];

/// What stands before every name of a checkpoint in this layout: nothing, or `module.` and its like, which training code
/// leaves there. `None` for any other layout.
pub(super) fn prefix<'n>(names: impl Iterator<Item = &'n str>) -> Option<String> {
    let prefixes = names.filter_map(|name| TELLING.into_iter().find_map(|telling| name.strip_suffix(telling)));
    let whole = prefixes.filter(|prefix| prefix.is_empty() || prefix.ends_with('.'));
    whole.min_by_key(|prefix| (prefix.len(), *prefix)).map(str::to_owned)
}

/// The tensors under the names of transformers; what has none there keeps its own.
pub(super) fn renamed(tensors: HashMap<String, Entry>, prefix: &str) -> HashMap<String, Entry> {
    let mut renamed = HashMap::with_capacity(tensors.len() * 2);
    for (name, entry) in tensors {
        let plain = name.strip_prefix(prefix).unwrap_or(&name);
        let asked = asked(plain);
        for name in &asked {
            renamed.insert(name.clone(), seen_as(name, &entry));
        }
        if asked.is_empty() {
            renamed.insert(name, entry);
        }
    }
    renamed
}

/// What the file calls a tensor that a model asks for.
pub(super) fn in_file(asked: &str, prefix: &str) -> String {
    let in_layer = LAYERS.iter().find_map(|(from, to)| {
        let (layer, name) = asked.strip_prefix(from)?.split_once('.')?;
        let name = IN_LAYER.iter().find_map(|(from, to)| moved(name, from, to))?;
        Some(format!("{to}{layer}.{name}"))
    });
    let name = in_layer.or_else(|| PLACES.iter().find_map(|(from, to)| moved(asked, from, to)));
    format!("{prefix}{}", name.as_deref().unwrap_or(asked))
}

/// What models call a tensor of the file; three names for the query, key and value projections, which are one tensor there.
fn asked(in_file: &str) -> Vec<String> {
    for (to, from) in LAYERS {
        if let Some((layer, name)) = in_file.strip_prefix(from).and_then(|rest| rest.split_once('.')) {
            let names = IN_LAYER.iter().filter_map(|(to, from)| moved(name, from, to));
            return names.map(|name| format!("{to}{layer}.{name}")).collect();
        }
    }
    PLACES.iter().find_map(|(to, from)| moved(in_file, from, to)).into_iter().collect()
}

/// A name at or below one place, at another.
fn moved(name: &str, from: &str, to: &str) -> Option<String> {
    let rest = name.strip_prefix(from)?;
    (rest.is_empty() || rest.starts_with('.')).then(|| format!("{to}{rest}"))
}

/// Projections are `[inputs, outputs]` in the file; queries, keys and values are thirds of one tensor.
fn seen_as(asked: &str, entry: &Entry) -> Entry {
    if matches!(asked, "visual_projection.weight" | "text_projection.weight") {
        return entry.clone().transposed();
    }
    let third = [".q_proj.", ".k_proj.", ".v_proj."].into_iter().position(|part| asked.contains(part));
    third.map_or_else(|| entry.clone(), |third| entry.part(third, 3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_there_and_back() {
        let file = [
            "visual.class_embedding",
            "visual.conv1.weight",
            "visual.positional_embedding",
            "visual.proj",
            "visual.transformer.resblocks.11.attn.out_proj.bias",
            "visual.transformer.resblocks.0.mlp.c_proj.weight",
            "token_embedding.weight",
            "positional_embedding",
            "transformer.resblocks.3.ln_2.weight",
            "ln_final.bias",
            "text_projection",
            "logit_scale",
        ];
        for name in file {
            let [asked] = asked(name).try_into().unwrap_or_else(|names| panic!("{name}: {names:?}"));
            assert_eq!(in_file(&asked, ""), name, "{asked}");
        }
        let three = asked("transformer.resblocks.7.attn.in_proj_bias");
        assert_eq!(three.len(), 3);
        for name in three {
            assert_eq!(in_file(&name, "module."), "module.transformer.resblocks.7.attn.in_proj_bias");
        }
        for other in
            ["visual.projector", "input_resolution", "positional_embeddings", "transformer.resblocks.0.attn.bias"]
        {
            assert_eq!(asked(other), Vec::<String>::new(), "{other}");
        }
    }

    #[test]
    fn the_layout_is_known_by_a_tensor_behind_any_prefix() {
        let found = |names: &[&str]| prefix(names.iter().copied());
        let layer = "visual.transformer.resblocks.0.attn.in_proj_weight";
        assert_eq!(found(&["logit_scale", layer]), Some(String::new()));
        assert_eq!(
            found(&[&format!("module.{layer}"), &format!("module.teacher.{layer}")]),
            Some("module.".to_owned())
        );
        assert_eq!(found(&[&format!("audio{layer}"), "vision_model.pre_layrnorm.weight"]), None);
    }
}
