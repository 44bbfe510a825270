//! The image-text encoder that is built into the program.

use crate::models::{Blob, ModelFiles};

/// The starter's id.
pub const ID: &str = "starter";

/// Neutral texts of the starter's own small world; photos' neutral texts are unknown words to it.
pub fn null_texts() -> Vec<String> {
    include_str!("../../assets/starter/clip/null_texts.txt").lines().map(str::to_owned).collect()
}

const fn blob(name: &'static str, bytes: &'static [u8]) -> Blob {
    Blob::Static { name, bytes }
}

/// The starter's files. Their contents are their revision.
pub fn starter_files() -> ModelFiles {
    const CONFIG: &[u8] = include_bytes!("../../assets/starter/clip/config.json");
    const WEIGHTS: &[u8] = include_bytes!("../../assets/starter/clip/model.safetensors");
    let mut hasher = blake3::Hasher::new();
    hasher.update(CONFIG).update(WEIGHTS);
    ModelFiles {
        id: ID.into(),
        revision: hasher.finalize().to_hex().chars().take(16).collect(),
        config: blob("config.json", CONFIG),
        preprocessor: blob(
            "preprocessor_config.json",
            include_bytes!("../../assets/starter/clip/preprocessor_config.json"),
        ),
        tokenizer: blob("tokenizer.json", include_bytes!("../../assets/starter/clip/tokenizer.json")),
        weights: vec![blob("model.safetensors", WEIGHTS)],
    }
}
