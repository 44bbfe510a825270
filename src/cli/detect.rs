//! `detect`: objects, counts and boxes.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use super::args::DetectArgs;
use super::commands::watched;
use super::{Outcome, render};
use crate::engine::{Engine, sheet};
use crate::error::{Error, Result};
use crate::wire::{self, DetectResult};

/// `detect`: ends with 1 when nothing was found or an image could not be read.
///
/// # Errors
/// As [`wire::detect()`]; an annotated picture cannot be written.
pub fn run(engine: &Engine, args: &DetectArgs, cancel: &AtomicBool) -> Result<Outcome> {
    let folder = args.annotate.as_deref();
    folder.map_or(Ok(()), |folder| std::fs::create_dir_all(folder).map_err(Error::io("create", folder)))?;
    let request = wire::DetectArgs {
        images: Some(engine.expand_images(&args.images)?),
        folder: None,
        targets: Some(args.target.clone()),
        like: args.like.clone(),
        like_box: args.like_box,
        threshold: args.threshold,
        tile: Some(args.tile),
        annotate: None,
    };
    let mut response = watched(cancel, |watch| wire::detect(engine, &request, watch))?;
    let mut taken = HashSet::new();
    for image in &mut response.images {
        if let Some(folder) = folder.filter(|_| image.error.is_none()) {
            image.annotated = Some(draw(engine, image, folder, &mut taken)?.display().to_string());
        }
        if engine.config().json {
            render::json(image);
        } else {
            render::detected(image);
        }
    }
    response.notes.iter().for_each(|note| render::note(note));
    let all_read = response.images.iter().all(|image| image.error.is_none());
    let found = response.images.iter().any(|image| !image.detections.is_empty());
    Ok(if all_read && found { Outcome::Done } else { Outcome::Nothing })
}

/// Writes `NAME.detected.png`; of pictures with one name each gets a number. Never over a picture that is not ours.
fn draw(engine: &Engine, image: &DetectResult, folder: &Path, taken: &mut HashSet<PathBuf>) -> Result<PathBuf> {
    let stem = Path::new(&image.path).file_stem().map_or_else(|| "image".into(), |stem| stem.to_string_lossy());
    let name = |n: usize| match n {
        0 => folder.join(format!("{stem}.detected.png")),
        n => folder.join(format!("{stem}-{n}.detected.png")),
    };
    let mut n = 0;
    while !taken.insert(name(n)) {
        n += 1;
    }
    let path = name(n);
    sheet::check_target(&path)?;
    sheet::save(&wire::detect::annotated(engine, image, None)?, &path)?;
    Ok(path)
}
