//! Which files make a model: the Hugging Face and the `open_clip` layout of an image-text encoder, and those of a detector.

use std::path::Path;

use crate::models::config::is_images_only;
use crate::models::{Blob, DetectorFiles, ModelFiles, openai_tokenizer};

/// What a repository or folder is read as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// An encoder: its config says whether it reads texts, and so needs a tokenizer.
    Encoder,
    /// An object detector: a tokenizer is taken where there is one.
    Detector,
}

/// Index of sharded weights.
pub(super) const SHARD_INDEX: &str = "model.safetensors.index.json";

/// One part of a model and the ways it may be stored, the preferred one first.
struct Part {
    /// Each way is one or more files that belong together.
    ways: &'static [&'static [&'static str]],
}

const CONFIG: Part = Part { ways: &[&["config.json"]] };
const PREPROCESSOR: Part = Part { ways: &[&["preprocessor_config.json"], &["processor_config.json"]] };
const TOKENIZER: Part = Part { ways: &[&["tokenizer.json"], &["vocab.json", "merges.txt"]] };
/// `pytorch_model.bin` comes last: it holds the same tensors, is slower to open and cannot be memory-mapped as it is.
const WEIGHTS: Part = Part { ways: &[&["model.safetensors"], &[SHARD_INDEX], &["pytorch_model.bin"]] };

/// In `open_clip` layout both the model's config and that of its pictures.
pub(super) const OPEN_CLIP_CONFIG: &str = "open_clip_config.json";
const OPEN_CLIP_WEIGHTS: Part = Part { ways: &[&["open_clip_model.safetensors"], &["open_clip_pytorch_model.bin"]] };

impl Part {
    /// The first way whose files are all there, else a line that names what would do.
    fn choose(&self, has: &dyn Fn(&str) -> bool) -> Result<&'static [&'static str], String> {
        let found = self.ways.iter().find(|way| way.iter().all(|file| has(file)));
        found.copied().ok_or_else(|| match self.ways.split_first() {
            Some((first, [])) => first.join(" with "),
            Some((first, others)) => {
                let others: Vec<String> = others.iter().map(|way| way.join(" with ")).collect();
                format!("{} (or {})", first.join(" with "), others.join(", or "))
            }
            None => String::new(),
        })
    }
}

/// The files of one model, by name.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layout {
    /// `config.json`, or [`OPEN_CLIP_CONFIG`].
    pub(super) config: &'static str,
    /// `preprocessor_config.json` or `processor_config.json`, or [`OPEN_CLIP_CONFIG`].
    pub(super) preprocessor: &'static str,
    /// `tokenizer.json`, or `vocab.json` and `merges.txt`; may be none for a detector, for an encoder of images only, and in
    /// `open_clip` layout, where it is `OpenAI`'s then.
    pub(super) tokenizer: &'static [&'static str],
    /// The weights, or [`SHARD_INDEX`], which names them.
    pub(super) weights: &'static str,
}

impl Layout {
    /// Chooses among the files that are there; `config` reads `config.json`, as far as it is here.
    ///
    /// # Errors
    /// One entry per part that is missing.
    pub(super) fn choose(
        kind: Kind,
        has: &dyn Fn(&str) -> bool,
        config: &mut dyn FnMut() -> Option<Vec<u8>>,
    ) -> Result<Self, Vec<String>> {
        let tokenizer = match (kind, TOKENIZER.choose(has)) {
            (_, Ok(files)) => Ok(files),
            (Kind::Encoder, Err(missing))
                if !has("config.json") || !config().is_some_and(|config| is_images_only(&config)) =>
            {
                Err(missing)
            }
            // Which words a detector reads, if any, its config says when it is loaded.
            (Kind::Encoder | Kind::Detector, Err(_)) => Ok(<&[&str]>::default()),
        };
        match [CONFIG.choose(has), PREPROCESSOR.choose(has), tokenizer, WEIGHTS.choose(has)] {
            [Ok([config]), Ok([preprocessor]), Ok(tokenizer), Ok([weights])] => {
                Ok(Self { config, preprocessor, tokenizer, weights })
            }
            parts => match (kind, OPEN_CLIP_WEIGHTS.choose(has)) {
                (Kind::Encoder, Ok([weights])) if has(OPEN_CLIP_CONFIG) => Ok(Self {
                    config: OPEN_CLIP_CONFIG,
                    preprocessor: OPEN_CLIP_CONFIG,
                    tokenizer: TOKENIZER.choose(has).unwrap_or_default(),
                    weights,
                }),
                _ => Err(parts.into_iter().filter_map(Result::err).collect()),
            },
        }
    }

    /// Whether the weights are several files, named in [`SHARD_INDEX`].
    pub(super) fn is_sharded(&self) -> bool {
        self.weights == SHARD_INDEX
    }

    /// Every file but the shards, small ones first.
    pub(super) fn files(&self) -> Vec<&'static str> {
        let mut files = vec![self.config, self.preprocessor];
        files.dedup();
        files.extend(self.tokenizer);
        files.push(self.weights);
        files
    }

    /// The files in `folder`.
    pub(super) fn assemble(&self, folder: &Path, shards: &[String], id: &str, revision: &str) -> Assembled {
        let blob = |file: &str| Blob::File(folder.join(file));
        Assembled {
            id: id.to_owned(),
            revision: revision.to_owned(),
            config: blob(self.config),
            preprocessor: blob(self.preprocessor),
            tokenizer: self.tokenizer.first().map(|file| blob(file)),
            weights: match shards {
                [] => vec![blob(self.weights)],
                shards => shards.iter().map(|shard| blob(shard)).collect(),
            },
        }
    }
}

/// The files of a model of either kind.
#[derive(Debug, Clone)]
pub(super) struct Assembled {
    id: String,
    revision: String,
    config: Blob,
    preprocessor: Blob,
    tokenizer: Option<Blob>,
    weights: Vec<Blob>,
}

impl Assembled {
    /// As an encoder's. With `vocab.json` and `merges.txt` the tokenizer is `vocab.json`; the merges lie beside it.
    pub(super) fn encoder(self) -> ModelFiles {
        let Self { id, revision, config, preprocessor, tokenizer, weights } = self;
        // `open_clip` builds the one of OpenAI in.
        let openai = || (config.name() == OPEN_CLIP_CONFIG).then(openai_tokenizer);
        let tokenizer = tokenizer.or_else(openai);
        ModelFiles { id, revision, config, preprocessor, tokenizer, weights }
    }

    /// As a detector's.
    pub(super) fn detector(self) -> DetectorFiles {
        let Self { id, revision, config, preprocessor, tokenizer, weights } = self;
        DetectorFiles { id, revision, config: Some(config), preprocessor: Some(preprocessor), tokenizer, weights }
    }
}

/// The shards that an index names, sorted, each once.
///
/// # Errors
/// A reason, for an index that is no JSON, has no `weight_map` of names, or names a file elsewhere than beside itself.
pub(super) fn shards(index: &[u8]) -> Result<Vec<String>, String> {
    let json: serde_json::Value = serde_json::from_slice(index).map_err(|e| format!("is no JSON: {e}"))?;
    let map = json.get("weight_map").and_then(serde_json::Value::as_object).ok_or("has no `weight_map`")?;
    let mut shards = Vec::new();
    for (tensor, file) in map {
        let file = file.as_str().ok_or_else(|| format!("names no file for tensor {tensor}"))?;
        // The names come from a download: one with a slash could point anywhere.
        let plain = file.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)) && !file.starts_with('.');
        if !plain || !file.ends_with(".safetensors") {
            return Err(format!("names `{file}`, which is no .safetensors file beside it"));
        }
        shards.push(file.to_owned());
    }
    shards.sort_unstable();
    shards.dedup();
    if shards.is_empty() { Err("names no file".into()) } else { Ok(shards) }
}

/// What is there instead, when neither layout is complete: said in the error.
pub(super) fn instead(has: &dyn Fn(&str) -> bool) -> Option<&'static str> {
    if has(OPEN_CLIP_CONFIG) {
        Some("it is in open_clip layout, without open_clip_model.safetensors and open_clip_pytorch_model.bin")
    } else if has("pytorch_model.bin.index.json") {
        Some("its weights are sharded pickles, which are not read: convert them to safetensors")
    } else if has("adapter_config.json") {
        Some("it is an adapter (PEFT), not a whole model: merge it into its base model")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choose(files: &[&str]) -> Result<Layout, Vec<String>> {
        Layout::choose(Kind::Encoder, &|file| files.contains(&file), &mut || None)
    }

    #[test]
    fn safetensors_win_over_pickles_and_tokenizer_json_over_its_parts() {
        let all = ["config.json", "preprocessor_config.json", "tokenizer.json", "vocab.json", "merges.txt"];
        let mut files = all.to_vec();
        files.extend(["pytorch_model.bin", "model.safetensors"]);
        let layout = choose(&files).unwrap();
        assert_eq!(layout.weights, "model.safetensors");
        assert_eq!(layout.tokenizer, ["tokenizer.json"]);
        files.retain(|f| !["model.safetensors", "tokenizer.json"].contains(f));
        let layout = choose(&files).unwrap();
        assert_eq!(layout.weights, "pytorch_model.bin");
        assert_eq!(layout.tokenizer, ["vocab.json", "merges.txt"]);
    }

    #[test]
    fn every_missing_part_is_listed_with_its_alternatives() {
        let missing = choose(&["config.json", "vocab.json"]).unwrap_err();
        assert_eq!(
            missing,
            [
                "preprocessor_config.json (or processor_config.json)",
                "tokenizer.json (or vocab.json with merges.txt)",
                "model.safetensors (or model.safetensors.index.json, or pytorch_model.bin)"
            ]
        );
    }

    #[test]
    fn open_clip_s_layout_is_taken_where_the_other_one_is_not_whole() {
        let mut files =
            vec!["open_clip_config.json", "open_clip_pytorch_model.bin", "config.json", "preprocessor_config.json"];
        let layout = choose(&files).unwrap();
        assert_eq!(layout.files(), ["open_clip_config.json", "open_clip_pytorch_model.bin"]);
        files.extend(["open_clip_model.safetensors", "tokenizer.json"]);
        let layout = choose(&files).unwrap();
        assert_eq!(layout.files(), ["open_clip_config.json", "tokenizer.json", "open_clip_model.safetensors"]);
        files.push("model.safetensors");
        assert_eq!(choose(&files).unwrap().files()[3], "model.safetensors");
        assert!(choose(&["open_clip_config.json"]).is_err());
        assert!(Layout::choose(Kind::Detector, &|file| file.starts_with("open_clip"), &mut || None).is_err());
    }

    #[test]
    fn a_detector_needs_no_tokenizer() {
        let files = ["config.json", "preprocessor_config.json", "model.safetensors", "pytorch_model.bin"];
        let layout = Layout::choose(Kind::Detector, &|file| files.contains(&file), &mut || None).unwrap();
        assert_eq!(layout.files(), &files[..3]);
        let words = ["vocab.json", "merges.txt"];
        let has = |file: &str| files.contains(&file) || words.contains(&file);
        let layout = Layout::choose(Kind::Detector, &has, &mut || None).unwrap();
        assert_eq!(layout.tokenizer, words);
        let missing = Layout::choose(Kind::Detector, &|file| file == "config.json", &mut || None).unwrap_err();
        assert_eq!(missing.len(), 2, "{missing:?}");
    }

    #[test]
    fn an_encoder_of_images_only_needs_no_tokenizer() {
        let files = ["config.json", "preprocessor_config.json", "model.safetensors"];
        let choose = |model_type: &str| {
            let config = format!(r#"{{"model_type": "{model_type}"}}"#);
            let has = |file: &str| files.contains(&file);
            Layout::choose(Kind::Encoder, &has, &mut || Some(config.clone().into_bytes()))
        };
        assert_eq!(choose("dinov2").unwrap().files(), files);
        assert_eq!(choose("dinov2_with_registers").unwrap().files(), files);
        for classifier in ["resnet", "vit", "convnext", "convnextv2"] {
            assert_eq!(choose(classifier).unwrap().files(), files);
        }
        assert_eq!(choose("clip").unwrap_err(), ["tokenizer.json (or vocab.json with merges.txt)"]);
    }

    #[test]
    fn shards_are_named_once_and_cannot_point_elsewhere() {
        let index = br#"{"weight_map": {"a": "m-2.safetensors", "b": "m-1.safetensors", "c": "m-2.safetensors"}}"#;
        assert_eq!(shards(index).unwrap(), ["m-1.safetensors", "m-2.safetensors"]);
        for bad in
            ["../m.safetensors", "/etc/m.safetensors", "a/b.safetensors", ".safetensors", "m.bin", "a\\b.safetensors"]
        {
            let index = serde_json::json!({"weight_map": {"a": bad}}).to_string();
            assert!(shards(index.as_bytes()).is_err(), "{bad}");
        }
        for bad in ["", "{}", r#"{"weight_map": {}}"#, r#"{"weight_map": {"a": 1}}"#] {
            assert!(shards(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
