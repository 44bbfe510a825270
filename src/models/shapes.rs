//! The config of a CLIP that comes without one, read off the shapes of its tensors.
//!
//! Source: openai/CLIP, `clip/model.py`, `build_model`.

use serde_json::{Value, json};

use super::checkpoint::Checkpoint;

/// Numbers that a head of `OpenAI`'s models has; the tensors do not say.
const HEAD: usize = 64;

/// `config.json`, with the activation and the pooling of `OpenAI`'s models, which no tensor shows.
///
/// # Errors
/// Why the checkpoint is not such a CLIP.
pub(super) fn config(checkpoint: &Checkpoint) -> Result<Value, String> {
    let resnet = checkpoint.name_in_file("visual.attnpool.c_proj.weight");
    if checkpoint.get(&resnet).is_some() {
        return Err("has a ResNet as its image tower; only vision transformers are read".to_owned());
    }
    if checkpoint.get("logit_bias").is_some() {
        return Err(
            "was trained with a sigmoid (it has a logit_bias), which is read with a config.json only".to_owned()
        );
    }
    let [width, _, patch, _] = shape(checkpoint, "vision_model.embeddings.patch_embedding.weight")?;
    let [positions, _] = shape(checkpoint, "vision_model.embeddings.position_embedding.weight")?;
    let grid = positions.saturating_sub(1).isqrt();
    if grid == 0 || grid * grid + 1 != positions {
        return Err(format!("has {positions} positions of a picture, which are no square and a class token"));
    }
    let [vocabulary, text_width] = shape(checkpoint, "text_model.embeddings.token_embedding.weight")?;
    let [context, _] = shape(checkpoint, "text_model.embeddings.position_embedding.weight")?;
    let [dim, _] = shape(checkpoint, "text_projection.weight")?;
    let tower = |name: &str, width: usize| {
        let heads = if width.is_multiple_of(HEAD) { width / HEAD } else { 0 };
        if heads == 0 {
            return Err(format!(
                "does not say how many heads its {name} has, which is {width} wide: an open_clip_config.json beside it does"
            ));
        }
        let [intermediate, _] = shape(checkpoint, &format!("{name}.encoder.layers.0.mlp.fc1.weight"))?;
        let exists =
            |layer: &usize| checkpoint.get(&format!("{name}.encoder.layers.{layer}.layer_norm1.weight")).is_some();
        Ok(json!({
            "hidden_size": width, "intermediate_size": intermediate, "num_attention_heads": heads,
            "num_hidden_layers": (0..checkpoint.count()).take_while(exists).count(), "hidden_act": "quick_gelu",
        }))
    };
    let (mut text, mut vision) = (tower("text_model", text_width)?, tower("vision_model", width)?);
    // Texts are pooled at their highest id.
    for (key, value) in [("vocab_size", vocabulary), ("max_position_embeddings", context), ("eos_token_id", 2)] {
        text[key] = value.into();
    }
    for (key, value) in [("image_size", grid.saturating_mul(patch)), ("patch_size", patch)] {
        vision[key] = value.into();
    }
    Ok(json!({"model_type": "clip", "projection_dim": dim, "text_config": text, "vision_config": vision}))
}

/// `OpenAI`'s `preprocessor_config.json` for pictures of this size.
///
/// PARITY: where what is cropped away is an odd number of pixels, transformers, and so this program, leaves the smaller half
/// in front; torchvision, which `OpenAI` and `open_clip` crop with, rounds the half to an even number: at one size in four the crop
/// is a pixel further on. Measured with a ViT-B/32 of random weights: a cosine of 0.9995 there, 1.0 at the other sizes.
pub(super) fn preprocessor(image_size: usize) -> Value {
    json!({"image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": image_size}, "crop_size": image_size})
}

fn shape<const RANK: usize>(checkpoint: &Checkpoint, name: &str) -> Result<[usize; RANK], String> {
    let in_file = || checkpoint.name_in_file(name);
    let entry =
        checkpoint.get(name).ok_or_else(|| format!("is no CLIP that is known here: it has no tensor {}", in_file()))?;
    let shape = entry.shape.as_slice().try_into();
    shape.map_err(|_| format!("has {} of shape {:?}, which no CLIP has", in_file(), entry.shape))
}
