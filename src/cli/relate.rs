//! `relate`: how two things in a picture stand to each other.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use clap::Args;

use super::commands::watched;
use super::{Outcome, render};
use crate::engine::{Engine, sheet};
use crate::error::{Error, Result};
use crate::wire::relate::{self, RelateResult};

/// Arguments of `relate`.
#[derive(Debug, Args)]
pub struct RelateArgs {
    /// The image.
    #[arg(value_name = "IMAGE")]
    pub image: String,
    /// The one thing, in words ("cup", "the left person").
    #[arg(long, value_name = "S")]
    pub subject: String,
    /// The other thing.
    #[arg(long, value_name = "O")]
    pub object: String,
    /// Ask whether this relation holds ("left of", "on", "in front of"): exit code 0 says yes, 1 no or undecided.
    #[arg(long, value_name = "R")]
    pub relation: Option<String>,
    /// Take boxes from this score on, 0 to 1 [default: each class is judged from all its boxes].
    #[arg(long, value_name = "X")]
    pub threshold: Option<f32>,
    /// Write the picture with both boxes into this folder.
    #[arg(long, value_name = "DIR")]
    pub annotate: Option<PathBuf>,
}

/// `relate`: ends with 1 when no relation is sure, or the one that was asked for does not hold.
///
/// # Errors
/// As [`relate::relate()`]; the annotated picture cannot be written.
pub fn run(engine: &Engine, args: &RelateArgs, cancel: &AtomicBool) -> Result<Outcome> {
    let folder = args.annotate.as_deref();
    folder.map_or(Ok(()), |folder| std::fs::create_dir_all(folder).map_err(Error::io("create", folder)))?;
    let request = relate::RelateArgs {
        image: args.image.clone(),
        subject: args.subject.clone(),
        object: args.object.clone(),
        relation: args.relation.clone(),
        threshold: args.threshold,
        annotate: None,
    };
    let mut result = watched(cancel, |watch| relate::relate(engine, &request, watch))?;
    if let Some(folder) = folder {
        result.annotated = Some(draw(engine, &result, folder)?.display().to_string());
    }
    if engine.config().json {
        render::json(&result);
    } else {
        render::related(&result);
    }
    Ok(if relate::is_found(&result) { Outcome::Done } else { Outcome::Nothing })
}

/// Writes `NAME.related.png`; never over a picture that is not ours.
fn draw(engine: &Engine, result: &RelateResult, folder: &Path) -> Result<PathBuf> {
    let stem = Path::new(&result.path).file_stem().map_or_else(|| "image".into(), |stem| stem.to_string_lossy());
    let path = folder.join(format!("{stem}.related.png"));
    sheet::check_target(&path)?;
    sheet::save(&relate::annotated(engine, result, None)?, &path)?;
    Ok(path)
}
