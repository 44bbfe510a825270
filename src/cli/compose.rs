//! `match`: which caption is true of a picture.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use clap::Args;

use super::commands::watched;
use super::{Outcome, render};
use crate::engine::{Engine, Watch, sheet};
use crate::error::{Error, Result};
use crate::wire::compose::{self, MatchArgs, MatchResult};

/// Arguments of `match`.
#[derive(Debug, Args)]
pub struct MatchCaptionsArgs {
    /// The image.
    #[arg(value_name = "IMAGE")]
    pub image: String,
    /// What it may show, in a plain sentence; once for each caption.
    #[arg(long = "caption", value_name = "C", required = true)]
    pub captions: Vec<String>,
    /// Write the picture with the boxes that the best caption rests on into this folder.
    #[arg(long, value_name = "DIR")]
    pub annotate: Option<PathBuf>,
    /// Write where CLIP sees each phrase, as a picture each, into this folder.
    #[arg(long, value_name = "DIR")]
    pub heatmap: Option<PathBuf>,
}

/// `match`: ends with 1 when no caption is more likely true than not, or nothing could be checked.
///
/// # Errors
/// As [`compose::match_captions`]; the annotated picture cannot be written.
pub fn run(engine: &Engine, args: &MatchCaptionsArgs, cancel: &AtomicBool) -> Result<Outcome> {
    let folder = args.annotate.as_deref();
    folder.map_or(Ok(()), |folder| std::fs::create_dir_all(folder).map_err(Error::io("create", folder)))?;
    let request = MatchArgs { image: args.image.clone(), captions: args.captions.clone(), annotate: None };
    let mut result = watched(cancel, |watch| compose::match_captions(engine, &request, watch))?;
    if let Some(folder) = folder {
        result.annotated = Some(draw(engine, &result, folder)?.display().to_string());
    }
    if let Some(folder) = &args.heatmap {
        result.heatmaps = watched(cancel, |watch| heat_maps(engine, &result, folder, watch))?;
    }
    if engine.config().json {
        render::json(&result);
    } else {
        render::matched(&result);
    }
    Ok(if compose::is_found(&result) { Outcome::Done } else { Outcome::Nothing })
}

/// Writes `NAME.PHRASE.heat.png` for every thing that the captions name; never over a picture that is not ours.
fn heat_maps(engine: &Engine, result: &MatchResult, folder: &Path, watch: &Watch<'_>) -> Result<Vec<String>> {
    std::fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
    let stem = Path::new(&result.path).file_stem().map_or_else(|| "image".into(), |stem| stem.to_string_lossy());
    let (seen, maps) = compose::heat_maps(engine, result, watch)?;
    let mut written = Vec::new();
    for map in maps {
        let plain: String = map.text.chars().map(|c| if c.is_alphanumeric() { c } else { '-' }).take(60).collect();
        let path = folder.join(format!("{stem}.{plain}.heat.png"));
        sheet::check_target(&path)?;
        sheet::save(&map.draw(&seen), &path)?;
        written.push(path.display().to_string());
    }
    Ok(written)
}

/// Writes `NAME.matched.png`; never over a picture that is not ours.
fn draw(engine: &Engine, result: &MatchResult, folder: &Path) -> Result<PathBuf> {
    let stem = Path::new(&result.path).file_stem().map_or_else(|| "image".into(), |stem| stem.to_string_lossy());
    let path = folder.join(format!("{stem}.matched.png"));
    sheet::check_target(&path)?;
    sheet::save(&compose::annotated(engine, result, None)?, &path)?;
    Ok(path)
}
