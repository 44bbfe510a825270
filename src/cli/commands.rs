//! One function per command that works on images and the index.

use std::sync::atomic::AtomicBool;

use serde_json::json;

use super::args::{ClassifyArgs, DuplicatesArgs, EmbedArgs, ForgetArgs, IndexArgs};
use super::report::Bars;
use super::{Outcome, render};
use crate::engine::{Engine, Watch};
use crate::error::Result;
use crate::wire;

/// `index`: embeds folders; ends with 1 when the caller cancelled.
///
/// # Errors
/// As [`wire::index`].
pub fn index(engine: &Engine, args: &IndexArgs, cancel: &AtomicBool) -> Result<Outcome> {
    let mut cancelled = false;
    for folder in &args.folders {
        let response =
            watched(cancel, |watch| wire::index(engine, &wire::IndexArgs { folder: folder.clone() }, watch))?;
        if engine.config().json {
            render::json(&response);
        } else {
            render::index(&response);
        }
        cancelled |= response.cancelled;
        if cancelled {
            break;
        }
    }
    Ok(if cancelled { Outcome::Nothing } else { Outcome::Done })
}

/// `classify`: ends with 1 when an image could not be read.
///
/// # Errors
/// As [`wire::classify_with`].
pub fn classify(engine: &Engine, args: &ClassifyArgs, cancel: &AtomicBool) -> Result<Outcome> {
    let images = engine.expand_images(&args.images)?;
    let request = wire::ClassifyArgs { images, labels: args.labels.clone() };
    let response = watched(cancel, |watch| wire::classify_with(engine, &request, &args.template, watch))?;
    if engine.config().json {
        response.images.iter().for_each(render::json);
    } else {
        render::classify(&response);
    }
    let unread = response.images.iter().any(|image| image.error.is_some());
    Ok(if unread { Outcome::Nothing } else { Outcome::Done })
}

/// `embed`: prints one object per text and image.
///
/// # Errors
/// An image cannot be read; the model cannot be loaded.
pub fn embed(engine: &Engine, args: &EmbedArgs, cancel: &AtomicBool) -> Result<Outcome> {
    let rows = watched(cancel, |watch| wire::embed(engine, &args.text, &args.image, watch))?;
    rows.iter().for_each(render::json);
    Ok(Outcome::Done)
}

/// `duplicates`: ends with 1 when there are none.
///
/// # Errors
/// As [`Engine::duplicates`].
pub fn duplicates(engine: &Engine, args: &DuplicatesArgs, cancel: &AtomicBool) -> Result<Outcome> {
    let groups = watched(cancel, |watch| engine.duplicates(args.folder.as_deref(), watch))?;
    for group in &groups {
        if engine.config().json {
            render::json(&json!({"paths": group.paths, "identical": group.identical}));
        } else {
            render::text(if group.identical { "identical:" } else { "nearly the same:" });
            group
                .paths
                .iter()
                .for_each(|path| render::text(&format!("  {}", render::short(&path.display().to_string()))));
        }
    }
    Ok(if groups.is_empty() { Outcome::Nothing } else { Outcome::Done })
}

/// `status`: what is indexed.
///
/// # Errors
/// The catalogue cannot be read.
pub fn status(engine: &Engine) -> Result<Outcome> {
    let status = wire::index_status(engine)?;
    if engine.config().json {
        render::json(&status);
    } else {
        render::status(&status);
    }
    Ok(Outcome::Done)
}

/// `forget`: ends with 1 when there was nothing to remove.
///
/// # Errors
/// The catalogue cannot be written.
pub fn forget(engine: &Engine, args: &ForgetArgs) -> Result<Outcome> {
    let removed = engine.forget(args.folder.as_deref(), args.set)?;
    if engine.config().json {
        render::json(&json!({"removed": removed}));
    } else {
        render::text(&format!("{removed} rows removed from the index; no image was touched"));
    }
    Ok(if removed == 0 { Outcome::Nothing } else { Outcome::Done })
}

/// `doctor`: ends with 1 when something stands in the way.
pub fn doctor(engine: &Engine) -> Outcome {
    let findings = engine.diagnose_installation();
    if engine.config().json {
        findings.iter().for_each(render::json);
    } else {
        render::findings(&findings);
    }
    let well = findings.iter().all(|finding| finding.ok);
    if well { Outcome::Done } else { Outcome::Nothing }
}

/// Runs something long with bars on the terminal.
pub(super) fn watched<T>(cancel: &AtomicBool, run: impl FnOnce(&Watch<'_>) -> Result<T>) -> Result<T> {
    let bars = Bars::default();
    let show = |progress| bars.show(&progress);
    let result = run(&Watch { progress: &show, cancel });
    bars.finish();
    result
}
