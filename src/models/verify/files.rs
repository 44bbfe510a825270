//! The bytes of a model: their hashes and their tables of tensors.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use crate::error::{Error, Result};
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
        Blob::Static { name, bytes } => {
            let hash = blake3::hash(bytes).to_hex().to_string();
            let (file, bytes) = ((*name).to_owned(), bytes.len() as u64);
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
    let (file, bytes, found) = match blob {
        Blob::Static { name, bytes } => ((*name).to_owned(), bytes.len() as u64, safetensors_count(bytes)),
        Blob::File(path) => {
            let bytes = std::fs::metadata(path).map_or(0, |m| m.len());
            let pickle = path.extension().is_some_and(|end| end == "bin" || end == "pt" || end == "pth");
            (file_name(path), bytes, if pickle { pickle_count(path) } else { mapped_count(path) })
        }
    };
    let (actual, ok) = match found {
        Ok(count) => (format!("{count} tensors"), count > 0),
        Err(reason) => (reason, false),
    };
    FileRow { file, bytes, check: "tensors", expected: None, actual, ok }
}

fn safetensors_count(bytes: &[u8]) -> Result<usize, String> {
    safetensors::SafeTensors::deserialize(bytes).map(|tensors| tensors.len()).map_err(|e| e.to_string())
}

fn mapped_count(path: &Path) -> Result<usize, String> {
    let file = std::fs::File::open(path).map_err(|e| e.to_string())?;
    // SAFETY: the map is read-only and lives for this call only. Weights are replaced by renaming, never written in
    // place, so nothing changes below the map unless another program breaks the cache.
    let map = unsafe { memmap2::Mmap::map(&file) }.map_err(|e| e.to_string())?;
    safetensors_count(&map)
}

fn pickle_count(path: &Path) -> Result<usize, String> {
    let tensors = candle_core::pickle::PthTensors::new(path, None).map_err(|e| e.to_string())?;
    Ok(tensors.tensor_infos().len())
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
