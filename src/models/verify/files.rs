//! The bytes of a model: their hashes and their tables of tensors.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use crate::error::{Error, Result};
use crate::models::checkpoint::Checkpoint;
use crate::models::weights::Checksum;
use crate::models::{Blob, DetectorFiles, ModelFiles};

/// One checked file.
#[derive(Debug, Clone, serde::Serialize)]
pub struct FileRow {
    /// The file's name.
    pub file: String,
    /// Its length.
    pub bytes: u64,
    /// The check: `sha256`, `git sha1`, `tensors`, or `contents` where no hash is known.
    pub check: &'static str,
    /// The hub's hash, where one is known.
    pub expected: Option<String>,
    /// The hash found, the number of tensors, or what is wrong.
    pub actual: String,
    /// Nothing is wrong.
    pub ok: bool,
}

/// Checks the files of a model, of its cache entry or its folder: the hash of every file that the hub cache names by its
/// hash, and the table of tensors of every weights file (offsets that fit the file, no overlap). Reads all bytes.
///
/// # Errors
/// Only [`Error::Cancelled`]; a file that cannot be read is a row that is not `ok`.
pub fn files(files: &ModelFiles, cancel: &AtomicBool) -> Result<Vec<FileRow>> {
    check([&files.config, &files.preprocessor].into_iter().chain(&files.tokenizer), &files.weights, cancel)
}

/// As [`files`], of a detector.
///
/// # Errors
/// As [`files`].
pub fn detector_files(files: &DetectorFiles, cancel: &AtomicBool) -> Result<Vec<FileRow>> {
    check(files.config.iter().chain(&files.preprocessor), &files.weights, cancel)
}

fn check<'a>(small: impl Iterator<Item = &'a Blob>, weights: &'a [Blob], cancel: &AtomicBool) -> Result<Vec<FileRow>> {
    let mut rows = Vec::new();
    for blob in small.chain(weights) {
        rows.push(hash_row(blob, cancel)?);
    }
    rows.extend(weights.iter().map(tensor_row));
    Ok(rows)
}

fn hash_row(blob: &Blob, cancel: &AtomicBool) -> Result<FileRow> {
    let path = match blob {
        Blob::Static { .. } | Blob::Made { .. } => {
            let contents = blob.read()?;
            let hash = blake3::hash(&contents).to_hex().to_string();
            let (file, bytes) = (blob.name(), contents.len() as u64);
            return Ok(FileRow { file, bytes, check: "contents", expected: None, actual: hash, ok: true });
        }
        Blob::File(path) => path,
    };
    let file = file_name(path);
    let bytes = std::fs::metadata(path).map_or(0, |m| m.len());
    let row = |check, expected, actual, ok| FileRow { file, bytes, check, expected, actual, ok };
    let Some(checksum) = named_by_hash(path) else {
        return Ok(match path.metadata() {
            Ok(_) => row("contents", None, "no hash is known for it".into(), true),
            Err(error) => row("contents", None, error.to_string(), false),
        });
    };
    let expected = Some(checksum.expected().to_owned());
    match checksum.of(path, cancel) {
        Ok(found) => {
            let ok = found == checksum.expected();
            Ok(row(checksum.name(), expected, found, ok))
        }
        Err(Error::Cancelled) => Err(Error::Cancelled),
        Err(error) => Ok(row(checksum.name(), expected, error.to_string(), false)),
    }
}

/// In the hub cache a file is a link to `blobs/<hash>`.
fn named_by_hash(path: &Path) -> Option<Checksum> {
    let real: PathBuf = path.canonicalize().ok()?;
    let in_blobs = real.parent()?.file_name()? == "blobs";
    let name = real.file_name()?.to_str()?;
    if in_blobs { Checksum::from_etag(name) } else { None }
}

fn tensor_row(blob: &Blob) -> FileRow {
    let bytes = match blob {
        Blob::File(path) => std::fs::metadata(path).map_or(0, |m| m.len()),
        Blob::Static { bytes, .. } => bytes.len() as u64,
        Blob::Made { text, .. } => text.len() as u64,
    };
    let (actual, ok) = match Checkpoint::open_weights("", std::slice::from_ref(blob)) {
        Ok(checkpoint) => (format!("{} tensors", checkpoint.count()), checkpoint.count() > 0),
        Err(Error::ModelFile { reason, .. }) => (reason, false),
        Err(error) => (error.to_string(), false),
    };
    FileRow { file: blob.name(), bytes, check: "tensors", expected: None, actual, ok }
}

fn file_name(path: &Path) -> String {
    path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A safetensors file with one float.
    fn safetensors() -> Vec<u8> {
        let header = r#"{"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#;
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(&1.0_f32.to_le_bytes());
        bytes
    }

    fn model(folder: &Path, weights: &[u8]) -> ModelFiles {
        let write = |name: &str, bytes: &[u8]| {
            std::fs::write(folder.join(name), bytes).unwrap();
            Blob::File(folder.join(name))
        };
        ModelFiles {
            id: "m".into(),
            revision: "r".into(),
            config: write("config.json", b"{}"),
            preprocessor: write("preprocessor_config.json", b"{}"),
            tokenizer: Some(write("tokenizer.json", b"{}")),
            weights: vec![write("model.safetensors", weights)],
        }
    }

    #[test]
    fn a_cut_weights_file_is_found_by_its_tensor_table() {
        let dir = tempfile::tempdir().unwrap();
        let never = AtomicBool::new(false);
        let whole = files(&model(dir.path(), &safetensors()), &never).unwrap();
        assert!(whole.iter().all(|row| row.ok), "{whole:?}");
        assert_eq!(whole.last().map(|row| row.actual.as_str()), Some("1 tensors"));
        let weights = safetensors();
        let cut = files(&model(dir.path(), &weights[..weights.len() - 1]), &never).unwrap();
        assert_eq!(cut.iter().filter(|row| !row.ok).map(|row| row.check).collect::<Vec<_>>(), ["tensors"]);
        std::fs::remove_file(dir.path().join("config.json")).unwrap();
        let mut gone = model(dir.path(), &weights);
        gone.config = Blob::File(dir.path().join("no.json"));
        assert!(!files(&gone, &never).unwrap()[0].ok);
    }

    #[cfg(unix)]
    #[test]
    fn a_flipped_byte_in_the_cache_is_found_by_its_hash() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = dir.path().join("blobs");
        let snapshot = dir.path().join("snapshot");
        std::fs::create_dir_all(&blobs).unwrap();
        std::fs::create_dir_all(&snapshot).unwrap();
        let mut files_here = model(&snapshot, &safetensors());
        // `printf '{}' | git hash-object --stdin`
        let hash = "9e26dfeeb6e641a33dae4961196235bdb965b21b";
        let link = snapshot.join("linked.json");
        std::os::unix::fs::symlink(Path::new("../blobs").join(hash), &link).unwrap();
        files_here.config = Blob::File(link);
        for (contents, ok) in [("{}", true), ("{]", false)] {
            std::fs::write(blobs.join(hash), contents).unwrap();
            let rows = files(&files_here, &AtomicBool::new(false)).unwrap();
            assert_eq!((rows[0].check, rows[0].ok), ("git sha1", ok), "{rows:?}");
        }
    }
}
