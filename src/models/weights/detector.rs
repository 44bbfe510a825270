//! Where a detector's weights are: a file or a folder that the caller names, the data folder's `detectors`, the hub's cache,
//! the hub.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use super::layout::Kind;
use super::name::{self, HubName};
use super::source::{Source, expand_home};
use super::{Transfer, folder, from_shelf_or_hub};
use crate::error::{Error, Result};
use crate::models::registry::{self, DetectorEntry, DetectorWeights};
use crate::models::{Blob, DetectorFiles, starter};

/// Weights by name, the preferred one first.
const WEIGHTS: [&str; 3] = ["model.safetensors", "pytorch_model.bin", "weights.pth"];
const CONFIG: &str = "config.json";
const PREPROCESSOR: &str = "preprocessor_config.json";
/// Of a detector that reads words, the preferred one first; beside the second lies `merges.txt`.
const TOKENIZERS: [&str; 2] = ["tokenizer.json", "vocab.json"];

/// A detector that was fetched.
#[derive(Debug, Clone)]
pub struct FetchedDetector {
    /// Its files.
    pub files: DetectorFiles,
    /// Bytes that came over the network now; 0 when all was here already.
    pub transferred: u64,
}

/// What a name means.
#[derive(Debug)]
enum Place {
    /// The one that is built in.
    Starter,
    /// A detector of the registry whose weights its authors publish as a file.
    Published { entry: &'static DetectorEntry, file: &'static str, url: &'static str },
    /// A repository on the hub; of one in the registry, a folder of its name may lie in the data folder.
    Hub { entry: Option<&'static DetectorEntry>, name: HubName, revision: Option<String> },
    /// A file of weights.
    File(PathBuf),
    /// A folder that holds one.
    Folder(PathBuf),
}

/// Finds the files of a detector on this machine. `name` is a registry name, a hub id (`owner/name[@revision]`), a file of
/// weights, or a folder that holds one; `shelf` is where known ones may lie beside the hub's cache. Never uses the network.
///
/// # Errors
/// [`Error::UnknownDetector`]; [`Error::DetectorAbsent`] and [`Error::DetectorNotFetched`] for one that is not on this
/// machine; a path that is missing, or a folder without weights or with several.
pub fn detector(name: &str, shelf: &Path, source: &Source) -> Result<DetectorFiles> {
    let off = Source { allow_download: false, ..source.clone() };
    fetch_detector(name, shelf, &off, &mut |_| {}, &AtomicBool::new(false)).map(|fetched| fetched.files)
}

/// As [`detector`], and downloads what is missing of one on the hub, when `source` allows it, until `cancel` is set.
///
/// # Errors
/// As [`detector`]; as [`super::fetch`] for a download.
pub fn fetch_detector(
    name: &str,
    shelf: &Path,
    source: &Source,
    progress: &mut dyn FnMut(Transfer<'_>),
    cancel: &AtomicBool,
) -> Result<FetchedDetector> {
    let here = |files| Ok(FetchedDetector { files, transferred: 0 });
    match resolve(name)? {
        Place::Starter => here(starter::starter_detector()),
        Place::File(path) => here(open(&path, path.parent().unwrap_or(Path::new("")), None)?),
        Place::Folder(path) => here(open(&weights_in(&path)?, &path, Some(&path))?),
        Place::Published { entry, file, url } => match published(entry, file, shelf)? {
            Some(files) => here(files),
            None => Err(Error::DetectorAbsent { name: entry.name, url, folder: shelf.to_path_buf() }),
        },
        Place::Hub { entry, name, revision } => {
            let own = entry.filter(|_| revision.is_none()).map(|entry| in_own_folder(entry, shelf));
            if let Some(files) = own.transpose()?.flatten() {
                return here(files);
            }
            match from_shelf_or_hub(&name, Kind::Detector, source, progress, cancel) {
                Ok((files, transferred)) => Ok(FetchedDetector { files: files.detector(), transferred }),
                Err(Error::Offline { model, missing }) => {
                    let revision = revision.map(|revision| format!("@{revision}")).unwrap_or_default();
                    Err(Error::DetectorNotFetched { name: format!("{model}{revision}"), missing })
                }
                Err(error) => Err(error),
            }
        }
    }
}

/// The detector that is used when none is named: of those in the data folder and the hub's cache, the one with the highest
/// published AP. One that cannot be read is passed over with a warning. With `open`, of those for any words, else of the others.
pub fn best_detector(shelf: &Path, source: &Source, open: bool) -> Option<DetectorFiles> {
    let mut entries: Vec<_> = registry::detectors().iter().filter(|entry| entry.is_open() == open).collect();
    let figure = |entry: &DetectorEntry| entry.average_precision.unwrap_or_default();
    entries.sort_by(|a, b| figure(b).total_cmp(&figure(a)));
    entries.into_iter().find_map(|entry| match detector(entry.name, shelf, source) {
        Ok(files) => Some(files),
        Err(Error::DetectorAbsent { .. } | Error::DetectorNotFetched { .. }) => None,
        Err(error) => {
            tracing::warn!("{} is passed over: {error}", entry.name);
            None
        }
    })
}

/// Resolves a name. In this order: anything that is written as a path; the registry's own names; a file or folder that exists;
/// hub ids. So a local `facebook/detr-resnet-50` wins over the hub's, as for `--model`.
fn resolve(name: &str) -> Result<Place> {
    let name = name.trim();
    let at_path = |path: PathBuf| {
        if path.is_file() {
            Ok(Place::File(path))
        } else if path.is_dir() {
            Ok(Place::Folder(path))
        } else {
            Err(Error::NotFound { path })
        }
    };
    if let Some(path) = name::written_as_path(name) {
        return at_path(path);
    }
    if name.eq_ignore_ascii_case(starter::ID) {
        return Ok(Place::Starter);
    }
    let (plain, revision) = match name.split_once('@') {
        Some((plain, revision)) => (plain, Some(name::checked_revision(revision)?)),
        None => (name, None),
    };
    let entry = registry::find_detector(plain);
    let by_hub_id = entry.is_some_and(|entry| entry.hub_id().is_some_and(|id| id.eq_ignore_ascii_case(plain)));
    let path = expand_home(name, std::env::home_dir().as_deref());
    if (entry.is_none() || by_hub_id) && path.exists() {
        return at_path(path);
    }
    let hub = |entry: Option<&'static DetectorEntry>, repository: &str, pinned: Option<&str>| {
        let id = entry.map_or(repository, |entry| entry.name).to_owned();
        let is_pinned = revision.is_none() && pinned.is_some();
        let commit = revision.clone().unwrap_or_else(|| pinned.unwrap_or("main").to_owned());
        let name = HubName { id, repository: repository.to_owned(), revision: commit, pinned: is_pinned };
        Ok(Place::Hub { entry, name, revision: revision.clone() })
    };
    match entry.map(|entry| (entry, entry.weights)) {
        Some((entry, DetectorWeights::File { file, url })) if revision.is_none() => {
            Ok(Place::Published { entry, file, url })
        }
        Some((entry, DetectorWeights::Hub { hub_id, revision, .. })) => hub(Some(entry), hub_id, revision),
        _ if name::is_repository(plain) => hub(None, plain, None),
        _ if path.extension().is_some() => Err(Error::NotFound { path }),
        _ => Err(Error::UnknownDetector {
            name: name.to_owned(),
            known: registry::detectors()
                .iter()
                .map(|entry| entry.name)
                .chain([starter::ID])
                .map(str::to_owned)
                .collect(),
        }),
    }
}

/// A known detector's files in the data folder: its published file, or a folder of its name.
fn published(entry: &DetectorEntry, file: &str, shelf: &Path) -> Result<Option<DetectorFiles>> {
    let file = shelf.join(file);
    if !file.is_file() {
        return in_own_folder(entry, shelf);
    }
    // No config of a folder full of detectors belongs to this one.
    let found = DetectorFiles { config: None, preprocessor: None, tokenizer: None, ..open(&file, shelf, None)? };
    Ok(Some(DetectorFiles { id: entry.name.to_owned(), ..found }))
}

/// A folder of a known detector's name in the data folder.
fn in_own_folder(entry: &DetectorEntry, shelf: &Path) -> Result<Option<DetectorFiles>> {
    let folder = shelf.join(entry.name);
    if !folder.is_dir() {
        return Ok(None);
    }
    let found = open(&weights_in(&folder)?, &folder, None)?;
    Ok(Some(DetectorFiles { id: entry.name.to_owned(), ..found }))
}

fn open(weights: &Path, folder: &Path, id: Option<&Path>) -> Result<DetectorFiles> {
    let real = weights.canonicalize().map_err(Error::io("open", weights))?;
    let id = id.unwrap_or(&real);
    let id = id.canonicalize().map_err(Error::io("open", id))?.display().to_string();
    let beside = |name: &str| Some(folder.join(name)).filter(|path| path.is_file()).map(Blob::File);
    let (config, preprocessor) = (beside(CONFIG), beside(PREPROCESSOR));
    let tokenizer = TOKENIZERS.iter().find_map(|name| beside(name));
    let weights = vec![Blob::File(real)];
    let small = config.iter().chain(&preprocessor).chain(&tokenizer);
    let revision = folder::fingerprint(small, &weights)?;
    Ok(DetectorFiles { id, revision, config, preprocessor, tokenizer, weights })
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

    /// A cache with nothing in it.
    fn nowhere() -> Source {
        Source::from_variables(true, Some(Path::new("/no/such/home")), &|_| None)
    }

    fn detector(name: &str, shelf: &Path) -> Result<DetectorFiles> {
        super::detector(name, shelf, &nowhere())
    }

    fn best_detector(shelf: &Path) -> Option<DetectorFiles> {
        super::best_detector(shelf, &nowhere(), false)
    }

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
        let Err(Error::UnknownDetector { known, .. }) = detector("detr-resnet-18", dir.path()) else { panic!() };
        assert!(known.contains(&"yolox-nano".to_owned()) && known.contains(&"starter".to_owned()));
        assert!(matches!(detector("./absent", dir.path()), Err(Error::NotFound { .. })));
        assert!(matches!(detector("absent.pth", dir.path()), Err(Error::NotFound { .. })));
    }

    #[test]
    fn a_hub_s_detector_is_found_in_a_folder_of_its_name_and_its_absence_names_the_command() {
        let dir = tempfile::tempdir().unwrap();
        let shelf = dir.path().join("detectors");
        for (name, command) in [
            ("detr-resnet-50", "models fetch detr-resnet-50`"),
            ("facebook/DETR-ResNet-50@no_timm", "models fetch detr-resnet-50@no_timm`"),
            ("ada/fine-tuned", "models fetch ada/fine-tuned`"),
        ] {
            let error = detector(name, &shelf).unwrap_err();
            assert!(matches!(&error, Error::DetectorNotFetched { missing, .. } if missing.len() == 3), "{error:?}");
            assert!(error.hint().unwrap().contains(command), "{name}: {:?}", error.hint());
        }
        std::fs::create_dir_all(shelf.join("detr-resnet-50")).unwrap();
        std::fs::write(shelf.join("detr-resnet-50/model.safetensors"), b"x").unwrap();
        let one = detector("detr-resnet-50", &shelf).unwrap();
        assert_eq!((one.id.as_str(), one.preprocessor.is_none()), ("detr-resnet-50", true));
        std::fs::write(shelf.join("detr-resnet-50/preprocessor_config.json"), b"{}").unwrap();
        let other = detector("detr-resnet-50", &shelf).unwrap();
        assert!(other.preprocessor.is_some() && other.revision != one.revision, "another input is another revision");
        assert_eq!(best_detector(&shelf).unwrap().id, "detr-resnet-50");
        assert!(detector("detr-resnet-50@no_timm", &shelf).is_err(), "the folder is of no known revision");
        assert!(matches!(detector("yolox-nano@main", &shelf), Err(Error::UnknownDetector { .. })));
    }
}
