//! A model that is named by a file of weights: what lies beside it is used, the rest follows from the tensors.

use std::path::Path;

use super::folder;
use super::layout::OPEN_CLIP_CONFIG;
use crate::error::{Error, Result};
use crate::models::checkpoint::Checkpoint;
use crate::models::config::ModelConfig;
use crate::models::{Blob, Classifier, ModelFiles, iresnet, openai_tokenizer, shapes};

const CONFIG: &str = "config.json";
const PREPROCESSORS: [&str; 2] = ["preprocessor_config.json", "processor_config.json"];
/// Beside the second lies `merges.txt`.
const TOKENIZERS: [&str; 2] = ["tokenizer.json", "vocab.json"];

/// Whether a file's name is that of weights.
pub(super) fn is_weights(path: &Path) -> bool {
    let end = path.extension().and_then(|end| end.to_str());
    end.is_some_and(|end| ["pt", "pth", "bin", "safetensors"].iter().any(|known| end.eq_ignore_ascii_case(known)))
}

/// Opens a file: PC-CLIP's, `NegCLIP`'s and others' `.pt`, insightface's `.pth`, or one file of a folder in any layout.
///
/// # Errors
/// [`Error::ModelFile`]: the file is no checkpoint, or no CLIP and without a config beside it.
pub(super) fn open(path: &Path) -> Result<ModelFiles> {
    let path = path.canonicalize().map_err(Error::io("open", path))?;
    let id = path.display().to_string();
    let beside = |name: &str| Some(path.with_file_name(name)).filter(|path| path.is_file()).map(Blob::File);
    let weights = vec![Blob::File(path.clone())];
    let checkpoint = Checkpoint::open_weights(&id, &weights)?;
    let open_clip = beside(OPEN_CLIP_CONFIG).filter(|_| checkpoint.is_openai());
    let preprocessor = match &open_clip {
        Some(config) => Some(config.clone()),
        None => PREPROCESSORS.into_iter().find_map(beside),
    };
    let config = match open_clip.or_else(|| beside(CONFIG)) {
        Some(config) => config,
        None => guessed(&checkpoint, &path, &id)?,
    };
    let tokenizer = TOKENIZERS.into_iter().find_map(beside);
    let missing =
        |file: String| Err(Error::ModelFile { model: id.clone(), file, reason: "not beside the weights".to_owned() });
    let made = |json: serde_json::Value| Blob::Made { name: config.name(), text: json.to_string() };
    let (preprocessor, tokenizer) = if Classifier::recognises(&config) {
        match preprocessor {
            Some(preprocessor) => (preprocessor, None),
            None => return missing(PREPROCESSORS[0].to_owned()),
        }
    } else {
        match (preprocessor, tokenizer, ModelConfig::read(&config, &id)?) {
            (preprocessor, _, ModelConfig::Iresnet(faces)) => {
                (preprocessor.unwrap_or_else(|| made(iresnet::preprocessor(faces.image_size))), None)
            }
            (Some(preprocessor), tokenizer @ Some(_), _) => (preprocessor, tokenizer),
            (Some(preprocessor), None, ModelConfig::Dinov2(_)) => (preprocessor, None),
            (preprocessor, tokenizer, ModelConfig::Clip(clip)) => {
                let openai = || made(shapes::preprocessor(clip.vision.image_size));
                (preprocessor.unwrap_or_else(openai), tokenizer.or_else(|| Some(openai_tokenizer())))
            }
            _ => return missing(format!("{}, {}", PREPROCESSORS[0], TOKENIZERS[0])),
        }
    };
    let small = [&config, &preprocessor].into_iter().chain(&tokenizer);
    let revision = folder::fingerprint(small.chain(beside("merges.txt").as_ref()), &weights)?;
    Ok(ModelFiles { id, revision, config, preprocessor, tokenizer, weights })
}

/// A config from the tensors. Those of an `IResNet` say all; a CLIP's do not show the activation: `OpenAI`'s models, and what was
/// trained on from them, have `quick_gelu`.
fn guessed(checkpoint: &Checkpoint, path: &Path, id: &str) -> Result<Blob> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let refused = |reason| Error::ModelFile { model: id.to_owned(), file: name.clone(), reason };
    if let Some(config) = iresnet::described(checkpoint) {
        return Ok(Blob::Made { name, text: config.to_string() });
    }
    let config = shapes::config(checkpoint).map_err(refused)?;
    tracing::warn!(
        "{name} is taken for a fine-tuned OpenAI CLIP, with quick_gelu; if open_clip trained it with gelu, put its {OPEN_CLIP_CONFIG}, or a {CONFIG} with \"hidden_act\": \"gelu\", beside it"
    );
    Ok(Blob::Made { name, text: config.to_string() })
}
