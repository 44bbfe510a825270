//! What `doctor`, `bench decode` and the commands that take several images need to know of this machine and its files.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use serde::Serialize;

use super::Engine;
use crate::error::{Error, Result};
use crate::models::weights;
use crate::pixels::{self, Preprocessor};

/// One line of `doctor`.
#[derive(Debug, Clone, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub what: &'static str,
    /// Nothing stands in the way.
    pub ok: bool,
    /// What was found.
    pub found: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// Input pipeline of OpenAI's CLIP ViT-B/32; what `bench decode` runs when no model is named.
const CLIP_224: &str = r#"{"image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": 224}, "resample": 3,
"crop_size": {"height": 224, "width": 224}, "image_mean": [0.48145466, 0.4578275, 0.40821073],
"image_std": [0.26862954, 0.26130258, 0.27577711]}"#;

impl Engine {
    /// Looks at everything that has to be right before the first search.
    pub fn diagnose_installation(&self) -> Vec<Finding> {
        let roots = self.config.roots.iter().map(|root| root.display().to_string()).collect::<Vec<_>>().join(", ");
        vec![
            Finding { what: "roots", ok: true, found: roots, hint: None },
            finding(
                "device",
                self.backend().map(|b| format!("{} {} ({})", b.device_name(), b.precision, b.kernel_name())),
            ),
            finding("model", self.model_state()),
            self.detector_finding(),
            finding("data folder", self.data_folder_state()),
            finding("index", self.index_state()),
        ]
    }

    fn model_state(&self) -> Result<String> {
        let name = self.model_name()?;
        match weights::presence(&name, &self.weight_source(false))? {
            weights::Presence::Here(files) => Ok(format!("{name}, revision {}", files.revision)),
            weights::Presence::Missing(missing) => Err(Error::Offline { model: name, missing }),
        }
    }

    /// A detector that nobody named may be absent: then only counting is.
    fn detector_finding(&self) -> Finding {
        let found = self.detector_files().map(|files| format!("{}, revision {}", files.id, files.revision));
        let named = self.config.detector.is_some();
        let finding = finding("detector", found);
        Finding { ok: finding.ok || !named, ..finding }
    }

    fn data_folder_state(&self) -> Result<String> {
        let dir = &self.config.data_dir;
        std::fs::create_dir_all(dir).map_err(Error::io("create", dir))?;
        let probe = dir.join(format!(".doctor-{}", std::process::id()));
        std::fs::write(&probe, b"probe").map_err(Error::io("write to", dir))?;
        std::fs::remove_file(&probe).map_err(Error::io("remove", &probe))?;
        Ok(dir.display().to_string())
    }

    fn index_state(&self) -> Result<String> {
        let status = self.catalogue()?.status()?;
        if status.folders.is_empty() {
            return Err(Error::NothingIndexed { under: None });
        }
        Ok(format!("{} folders, {} files, {} vector sets", status.folders.len(), status.files, status.sets.len()))
    }

    /// Turns folders among the arguments into the images in them, sorted; files stay as they are.
    ///
    /// # Errors
    /// A folder cannot be listed or holds no image.
    pub fn expand_images(&self, arguments: &[String]) -> Result<Vec<String>> {
        let mut images = Vec::new();
        for argument in arguments {
            if super::url_image::is_url(argument) {
                images.push(argument.clone());
                continue;
            }
            match self.resolve(argument) {
                Ok(folder) if folder.is_dir() => {
                    let found = images_in(&folder)?;
                    if found.is_empty() {
                        let reason = format!("holds no image directly (subfolders are not read): {}", folder.display());
                        return Err(Error::Argument { name: "folder", reason });
                    }
                    images.extend(found.into_iter().map(|path| path.display().to_string()));
                }
                // A path that cannot be read is told beside the results of the others.
                _ => images.push(argument.clone()),
            }
        }
        Ok(images)
    }

    /// Decodes, resizes and crops every image of a folder on all threads. Returns wall milliseconds per image and the
    /// number of images.
    ///
    /// # Errors
    /// The folder is missing or outside the roots, or holds no image that can be read.
    pub fn time_decoding(&self, dir: &str) -> Result<(f64, usize)> {
        let folder = self.resolve(dir)?;
        let paths = images_in(&folder)?;
        let preprocessor = Preprocessor::from_json(CLIP_224, "openai/clip-vit-base-patch32")?;
        let limits = self.decode_limits();
        let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let started = Instant::now();
        std::thread::scope(|scope| {
            for _ in 0..self.config.threads {
                scope.spawn(|| {
                    while let Some(path) = paths.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let picture = pixels::read_file(path, &limits)
                            .and_then(|bytes| pixels::decode_enough(&bytes, path, &limits, preprocessor.enough()));
                        match picture {
                            Ok(picture) => {
                                std::hint::black_box(preprocessor.apply_reduced(&picture.rgb, picture.whole));
                                done.fetch_add(1, Ordering::Relaxed);
                            }
                            Err(error) => tracing::warn!("{error}"),
                        }
                    }
                });
            }
        });
        let done = done.into_inner();
        if done == 0 {
            return Err(Error::Argument { name: "dir", reason: format!("{} holds no image", folder.display()) });
        }
        Ok((started.elapsed().as_secs_f64() * 1e3 / done as f64, done))
    }
}

fn finding(what: &'static str, result: Result<String>) -> Finding {
    match result {
        Ok(found) => Finding { what, ok: true, found, hint: None },
        Err(error) => Finding { what, ok: false, found: error.to_string(), hint: error.hint() },
    }
}

/// The files directly in a folder whose name says image, sorted.
fn images_in(folder: &Path) -> Result<Vec<PathBuf>> {
    if !folder.is_dir() {
        return Err(Error::NotAFolder { path: folder.to_path_buf() });
    }
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(Error::io("list", folder))? {
        let path = entry.map_err(Error::io("list", folder))?.path();
        let extension = path.extension().and_then(|e| e.to_str()).map(str::to_ascii_lowercase).unwrap_or_default();
        let known = ["jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "heic", "heif", "avif"];
        if known.contains(&extension.as_str()) && path.is_file() {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}
