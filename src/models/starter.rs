//! The image-text encoder and the object detector that are built into the program.

use crate::models::{Blob, DetectorFiles, ModelFiles};

/// The id of both starter models.
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
    ModelFiles {
        id: ID.into(),
        revision: revision(&[CONFIG, WEIGHTS]),
        config: blob("config.json", CONFIG),
        preprocessor: blob(
            "preprocessor_config.json",
            include_bytes!("../../assets/starter/clip/preprocessor_config.json"),
        ),
        tokenizer: Some(blob("tokenizer.json", include_bytes!("../../assets/starter/clip/tokenizer.json"))),
        weights: vec![blob("model.safetensors", WEIGHTS)],
    }
}

/// The starter detector's files: a YOLOX whose classes are the shapes of rendered scenes.
pub fn starter_detector() -> DetectorFiles {
    const CONFIG: &[u8] = include_bytes!("../../assets/starter/detector/config.json");
    const WEIGHTS: &[u8] = include_bytes!("../../assets/starter/detector/model.safetensors");
    DetectorFiles {
        id: ID.into(),
        revision: revision(&[CONFIG, WEIGHTS]),
        config: Some(blob("config.json", CONFIG)),
        preprocessor: None,
        tokenizer: None,
        weights: vec![blob("model.safetensors", WEIGHTS)],
    }
}

fn revision(files: &[&[u8]]) -> String {
    let mut hasher = blake3::Hasher::new();
    for file in files {
        hasher.update(file);
    }
    hasher.finalize().to_hex().chars().take(16).collect()
}
