//! A model in a folder of its own, in Hugging Face or `open_clip` layout.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use super::layout::{self, Kind, Layout};
use crate::error::{Error, Result};
use crate::models::{Blob, ModelFiles};

/// Read from the start and from the end of every weights file for its identity, bytes.
const EDGE: u64 = 1 << 20;
/// Further places in between, evenly spread, and the bytes read at each.
const SAMPLES: u64 = 64;
const SAMPLE: u64 = 16 << 10;

/// Opens a folder.
///
/// # Errors
/// [`Error::ModelFile`] lists every file that is missing; [`Error::Io`] when one cannot be read.
pub(super) fn open(folder: &Path) -> Result<ModelFiles> {
    let folder = folder.canonicalize().map_err(Error::io("open", folder))?;
    let id = folder.display().to_string();
    let has = |file: &str| folder.join(file).is_file();
    let mut config = || std::fs::read(folder.join("config.json")).ok();
    let layout = Layout::choose(Kind::Encoder, &has, &mut config).map_err(|missing| {
        let instead = layout::instead(&has).map(|what| format!("; {what}")).unwrap_or_default();
        Error::ModelFile { model: id.clone(), file: missing.join(", "), reason: format!("not in the folder{instead}") }
    })?;
    let shards = shards(&layout, &folder, &id)?;
    let missing: Vec<&str> = shards.iter().map(String::as_str).filter(|shard| !has(shard)).collect();
    if !missing.is_empty() {
        return Err(Error::ModelFile { model: id, file: missing.join(", "), reason: "not in the folder".into() });
    }
    let mut files = layout.assemble(&folder, &shards, &id, "").encoder();
    files.revision = revision(&files, layout.tokenizer, &folder)?;
    Ok(files)
}

/// The shards of a model whose index is in `folder`, present or not; empty for weights in one file.
///
/// # Errors
/// The index cannot be read or is broken.
pub(super) fn shards(layout: &Layout, folder: &Path, model: &str) -> Result<Vec<String>> {
    if !layout.is_sharded() {
        return Ok(Vec::new());
    }
    let index = folder.join(layout.weights);
    layout::shards(&std::fs::read(&index).map_err(Error::io("read", &index))?).map_err(|reason| Error::ModelFile {
        model: model.to_owned(),
        file: layout.weights.to_owned(),
        reason,
    })
}

/// Identity of a folder's contents: BLAKE3 over the small files, and over each weights file's size, first and last MiB
/// and 64 places of 16 KiB in between (the safetensors header lies in the first MiB).
///
/// A copy of the folder has the same revision, since neither names nor times of folders count; other weights of the
/// same shape have another one, unless they differ in untouched places only. Reading it takes milliseconds, where a
/// hash of all the weights would take seconds at every start.
fn revision(files: &ModelFiles, tokenizer: &[&str], folder: &Path) -> Result<String> {
    let mut small = vec![files.config.clone(), files.preprocessor.clone()];
    small.extend(tokenizer.iter().map(|file| Blob::File(folder.join(file))));
    fingerprint(small.iter(), &files.weights)
}

/// As [`revision`], of these files.
pub(super) fn fingerprint<'a>(small: impl Iterator<Item = &'a Blob>, weights: &[Blob]) -> Result<String> {
    let mut hash = blake3::Hasher::new();
    for blob in small {
        let bytes = blob.read()?;
        hash.update(&(bytes.len() as u64).to_le_bytes());
        hash.update(&bytes);
    }
    for blob in weights {
        match blob {
            Blob::File(path) => sample(&mut hash, path).map_err(Error::io("read", path))?,
            Blob::Static { .. } | Blob::Made { .. } => {
                hash.update(&blob.read()?);
            }
        }
    }
    Ok(hash.finalize().to_hex().as_str().chars().take(40).collect())
}

fn sample(hash: &mut blake3::Hasher, path: &Path) -> std::io::Result<()> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    hash.update(&length.to_le_bytes());
    let mut read = |from: u64, count: u64| -> std::io::Result<()> {
        file.seek(SeekFrom::Start(from))?;
        let mut bytes = Vec::with_capacity(count as usize);
        (&mut file).take(count).read_to_end(&mut bytes)?;
        hash.update(&bytes);
        Ok(())
    };
    if length <= 2 * EDGE + SAMPLES * SAMPLE {
        return read(0, length);
    }
    read(0, EDGE)?;
    let between = length - 2 * EDGE - SAMPLE;
    for n in 0..SAMPLES {
        // Multiply first, in 128 bits: the last place is then exactly the end.
        read(EDGE + (u128::from(between) * u128::from(n) / u128::from(SAMPLES - 1)) as u64, SAMPLE)?;
    }
    read(length - EDGE, EDGE)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: [(&str, &str); 3] =
        [("config.json", "{}"), ("preprocessor_config.json", "{\"a\": 1}"), ("tokenizer.json", "{}")];

    fn folder(weights: &[u8]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in SMALL {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        std::fs::write(dir.path().join("model.safetensors"), weights).unwrap();
        dir
    }

    #[test]
    fn a_copy_has_the_same_revision_and_other_contents_another() {
        let mut weights = vec![7_u8; 5 << 20];
        let original = open(folder(&weights).path()).unwrap();
        assert_eq!(original.revision.len(), 40);
        assert_eq!(open(folder(&weights).path()).unwrap().revision, original.revision);
        for place in [0, (1 << 20) + 3, (5 << 20) - 1] {
            weights[place] ^= 1;
            assert_ne!(open(folder(&weights).path()).unwrap().revision, original.revision, "byte {place}");
            weights[place] ^= 1;
        }
        weights.push(7);
        assert_ne!(open(folder(&weights).path()).unwrap().revision, original.revision);
        let other = folder(&vec![7_u8; 5 << 20]);
        std::fs::write(other.path().join("config.json"), "{ }").unwrap();
        assert_ne!(open(other.path()).unwrap().revision, original.revision);
    }

    #[test]
    fn missing_files_are_listed_together() {
        let dir = folder(b"");
        std::fs::remove_file(dir.path().join("tokenizer.json")).unwrap();
        std::fs::remove_file(dir.path().join("config.json")).unwrap();
        let text = open(dir.path()).unwrap_err().to_string();
        assert!(text.contains("config.json, tokenizer.json (or vocab.json with merges.txt) of model"), "{text}");
        std::fs::write(dir.path().join("open_clip_config.json"), "{}").unwrap();
        assert!(open(dir.path()).unwrap_err().to_string().contains("open_clip layout, without"));
        std::fs::write(dir.path().join("open_clip_model.safetensors"), "").unwrap();
        assert_eq!(open(dir.path()).unwrap().preprocessor.name(), "open_clip_config.json");
    }

    #[test]
    fn sharded_weights_are_found_by_their_index() {
        let dir = folder(b"");
        std::fs::remove_file(dir.path().join("model.safetensors")).unwrap();
        let index = r#"{"weight_map": {"b": "m-00002-of-00002.safetensors", "a": "m-00001-of-00002.safetensors"}}"#;
        std::fs::write(dir.path().join("model.safetensors.index.json"), index).unwrap();
        std::fs::write(dir.path().join("m-00001-of-00002.safetensors"), "1").unwrap();
        let text = open(dir.path()).unwrap_err().to_string();
        assert!(text.contains("m-00002-of-00002.safetensors of model"), "{text}");
        std::fs::write(dir.path().join("m-00002-of-00002.safetensors"), "2").unwrap();
        assert_eq!(open(dir.path()).unwrap().weights.len(), 2);
    }
}
