//! `models list|fetch|card|verify`.

use std::sync::atomic::AtomicBool;

use serde_json::json;

use super::args::ModelsAction;
use super::commands::watched;
use super::{Outcome, render};
use crate::engine::Engine;
use crate::error::Result;
use crate::models::{registry, weights};

/// Runs one action.
///
/// # Errors
/// An unknown model, a failed download, a checkpoint that is refused.
pub fn run(engine: &Engine, action: &ModelsAction, cancel: &AtomicBool) -> Result<Outcome> {
    match action {
        ModelsAction::List => list(engine),
        ModelsAction::Fetch { model } => fetch(engine, model, cancel),
        ModelsAction::Card { model } => card(engine, model, cancel),
        ModelsAction::Verify { model, image } => verify(engine, model, image, cancel),
    }
}

fn list(engine: &Engine) -> Result<Outcome> {
    let source = engine.weight_source(false);
    let default = engine.model_name()?;
    for entry in registry::entries() {
        let here = matches!(weights::presence(entry.name, &source), Ok(weights::Presence::Here(_)));
        if engine.config().json {
            render::json(&json!({"model": entry, "on_this_machine": here, "default": entry.name == default}));
        } else {
            render::model(entry, here, entry.name == default);
        }
    }
    for entry in registry::classifiers() {
        let here = matches!(weights::presence(entry.name, &source), Ok(weights::Presence::Here(_)));
        if engine.config().json {
            render::json(&json!({"classifier": entry, "on_this_machine": here}));
        } else {
            render::classifier(entry, here);
        }
    }
    let shelf = engine.detector_shelf();
    for entry in registry::detectors() {
        let here = weights::detector(entry.name, &shelf, &source).is_ok();
        if engine.config().json {
            render::json(&json!({"detector": entry, "on_this_machine": here}));
        } else {
            render::detector(entry, here);
        }
    }
    if !engine.config().json {
        render::text(&format!(
            "  * on this machine; detectors are looked for in {}",
            render::short(&shelf.display().to_string())
        ));
    }
    Ok(Outcome::Done)
}

fn fetch(engine: &Engine, names: &[String], cancel: &AtomicBool) -> Result<Outcome> {
    for name in names {
        if watched(cancel, |watch| engine.names_a_detector(name, true, watch))? {
            let files = watched(cancel, |watch| engine.fetch_detector(name, watch))?;
            if engine.config().json {
                render::json(&json!({"detector": files.id, "revision": files.revision}));
            } else {
                render::text(&format!("{} at revision {} is on this machine", files.id, files.revision));
            }
            continue;
        }
        let files = watched(cancel, |watch| engine.model_files(name, true, watch))?;
        if engine.config().json {
            render::json(&json!({"model": files.id, "revision": files.revision}));
        } else {
            render::text(&format!("{} at revision {} is on this machine", files.id, files.revision));
        }
    }
    Ok(Outcome::Done)
}

fn card(engine: &Engine, name: &str, cancel: &AtomicBool) -> Result<Outcome> {
    let detector = registry::find_detector(name).and_then(registry::DetectorEntry::hub_id);
    let repository = registry::find_repository(name).map(|known| known.hub_id).or(detector).unwrap_or(name);
    let card = engine.model_card(repository, cancel)?;
    if engine.config().json {
        render::json(&card);
    } else {
        render::text(card.text.trim_end());
    }
    Ok(Outcome::Done)
}

fn verify(engine: &Engine, name: &str, images: &[String], cancel: &AtomicBool) -> Result<Outcome> {
    let verified = watched(cancel, |watch| engine.verify(name, images, watch))?;
    if engine.config().json {
        verified.files.iter().for_each(render::json);
        verified.values.iter().for_each(render::json);
    } else {
        render::verified(&verified);
    }
    for photo in &verified.missing_photos {
        render::note(&format!("more can be compared with `--image`: {}", photo.origin()));
    }
    Ok(if verified.ok() { Outcome::Done } else { Outcome::Nothing })
}
