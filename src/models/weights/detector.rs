//! Where a detector's weights are: a file or a folder that the caller names, or the data folder's `detectors`.

use std::path::{Path, PathBuf};

use super::folder;
use super::source::expand_home;
use crate::error::{Error, Result};
use crate::models::registry::{self, DetectorEntry};
use crate::models::{Blob, DetectorFiles, starter};

/// Weights by name, the preferred one first.
const WEIGHTS: [&str; 3] = ["model.safetensors", "pytorch_model.bin", "weights.pth"];
const CONFIG: &str = "config.json";

/// Finds the files of a detector. `name` is `starter`, a registry name, whose weights lie in `shelf`, a file of weights, or
/// a folder that holds one.
///
/// # Errors
/// [`Error::UnknownDetector`]; [`Error::DetectorAbsent`] for a known one that is not on this machine; a path that is
/// missing, or a folder without weights or with several.
pub fn detector(name: &str, shelf: &Path) -> Result<DetectorFiles> {
    let name = name.trim();
    if name.eq_ignore_ascii_case(starter::ID) {
        return Ok(starter::starter_detector());
    }
    if let Some(entry) = registry::find_detector(name) {
        return known(entry, shelf)?.ok_or_else(|| Error::DetectorAbsent {
            name: entry.name,
            url: entry.url,
            folder: shelf.to_path_buf(),
        });
    }
    let path = expand_home(name, std::env::home_dir().as_deref());
    if path.is_file() {
        return open(&path, path.parent().unwrap_or(Path::new("")), None);
    }
    if path.is_dir() {
        let weights = weights_in(&path)?;
        return open(&weights, &path, Some(&path));
    }
    let looks_like_a_path = path.is_absolute() || name.starts_with('.') || path.extension().is_some();
    if looks_like_a_path {
        return Err(Error::NotFound { path });
    }
    Err(Error::UnknownDetector {
        name: name.to_owned(),
        known: registry::detectors().iter().map(|entry| entry.name).chain([starter::ID]).map(str::to_owned).collect(),
    })
}

/// The detector that is used when none is named: of those in the data folder, the one with the highest published AP; never
/// the starter, which knows nothing of photos.
/// One that cannot be read is passed over with a warning.
pub fn best_detector(shelf: &Path) -> Option<DetectorFiles> {
    let mut entries: Vec<_> = registry::detectors().iter().collect();
    entries.sort_by(|a, b| b.average_precision.total_cmp(&a.average_precision));
    entries.into_iter().find_map(|entry| {
        known(entry, shelf).unwrap_or_else(|error| {
            tracing::warn!("{} is passed over: {error}", entry.name);
            None
        })
    })
}

/// A known detector's files on this machine: its published file, or a folder of its name.
fn known(entry: &DetectorEntry, shelf: &Path) -> Result<Option<DetectorFiles>> {
    let (file, folder) = (shelf.join(entry.file), shelf.join(entry.name));
    let found = if file.is_file() {
        // No config of a folder full of detectors belongs to this one.
        DetectorFiles { config: None, ..open(&file, shelf, None)? }
    } else if folder.is_dir() {
        open(&weights_in(&folder)?, &folder, None)?
    } else {
        return Ok(None);
    };
    Ok(Some(DetectorFiles { id: entry.name.to_owned(), ..found }))
}

fn open(weights: &Path, folder: &Path, id: Option<&Path>) -> Result<DetectorFiles> {
    let real = weights.canonicalize().map_err(Error::io("open", weights))?;
    let id = id.unwrap_or(&real);
    let id = id.canonicalize().map_err(Error::io("open", id))?.display().to_string();
    let config = Some(folder.join(CONFIG)).filter(|config| config.is_file()).map(Blob::File);
    let weights = vec![Blob::File(real)];
    let revision = folder::fingerprint(config.iter(), &weights)?;
    Ok(DetectorFiles { id, revision, config, weights })
}

/// The weights in a folder: under one of the usual names, else the only `.safetensors` or `.pth` file.
fn weights_in(folder: &Path) -> Result<PathBuf> {
    if let Some(usual) = WEIGHTS.iter().map(|name| folder.join(name)).find(|path| path.is_file()) {
        return Ok(usual);
    }
    let mut found: Vec<PathBuf> = std::fs::read_dir(folder)
        .map_err(Error::io("read", folder))?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.is_file() && path.extension().is_some_and(|e| e == "safetensors" || e == "pth"))
        .collect();
    found.sort();
    match found.as_slice() {
        [one] => Ok(one.clone()),
        several => Err(Error::ModelFile {
            model: folder.display().to_string(),
            file: WEIGHTS.first().copied().unwrap_or_default().to_owned(),
            reason: if several.is_empty() {
                "not in the folder, nor any .safetensors or .pth file".to_owned()
            } else {
                format!("not in the folder, and {} other files could be the weights: name one of them", several.len())
            },
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_found_by_name_by_file_and_in_folders() {
        let dir = tempfile::tempdir().unwrap();
        let shelf = dir.path().join("detectors");
        std::fs::create_dir_all(shelf.join("yolox-tiny")).unwrap();
        assert!(best_detector(&shelf).is_none(), "the starter is used only when asked for");
        assert_eq!(detector(" Starter", &shelf).unwrap().id, "starter");
        let error = detector("yolox-nano", &shelf).unwrap_err();
        assert!(error.to_string().contains("not on this machine"), "{error}");
        assert!(error.hint().unwrap().contains("yolox_nano.pth"), "{:?}", error.hint());

        std::fs::write(shelf.join("yolox_nano.pth"), b"nano").unwrap();
        std::fs::write(shelf.join("config.json"), b"{}").unwrap();
        let nano = detector("YOLOX-Nano", &shelf).unwrap();
        assert_eq!((nano.id.as_str(), nano.config.is_none()), ("yolox-nano", true));
        assert_eq!(best_detector(&shelf).unwrap().id, "yolox-nano");
        std::fs::write(shelf.join("yolox-tiny/anything.safetensors"), b"tiny").unwrap();
        assert_eq!(best_detector(&shelf).unwrap().id, "yolox-tiny");

        let file = shelf.join("yolox_nano.pth");
        let by_file = detector(file.to_str().unwrap(), &shelf).unwrap();
        assert!(by_file.config.is_some() && by_file.id.ends_with("yolox_nano.pth"));
        assert_ne!(by_file.revision, detector("yolox-tiny", &shelf).unwrap().revision);
        let folder = shelf.join("yolox-tiny");
        assert!(detector(folder.to_str().unwrap(), &shelf).is_ok());
        std::fs::write(folder.join("other.pth"), b"x").unwrap();
        assert!(detector(folder.to_str().unwrap(), &shelf).unwrap_err().to_string().contains("name one of them"));
    }

    #[test]
    fn unknown_names_list_the_known_ones() {
        let dir = tempfile::tempdir().unwrap();
        let Err(Error::UnknownDetector { known, .. }) = detector("detr-resnet-50", dir.path()) else { panic!() };
        assert!(known.contains(&"yolox-nano".to_owned()) && known.contains(&"starter".to_owned()));
        assert!(matches!(detector("./absent", dir.path()), Err(Error::NotFound { .. })));
        assert!(matches!(detector("absent.pth", dir.path()), Err(Error::NotFound { .. })));
    }
}
