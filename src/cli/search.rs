//! `search`: ranked images for words, an image, or both.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use clap::Args;

use super::commands::watched;
use super::{Outcome, render};
use crate::engine::verified::Effort;
use crate::engine::{Engine, sheet};
use crate::error::Result;
use crate::wire::{self, Filters};

/// Arguments of `search`.
#[derive(Debug, Args)]
#[allow(clippy::struct_excessive_bools)] // each is a switch of its own
pub struct SearchArgs {
    /// What to look for, in plain words.
    #[arg(required_unless_present = "image")]
    pub query: Option<String>,
    /// Find images like this one; together with words, like both.
    #[arg(long, value_name = "PATH")]
    pub image: Option<String>,
    /// Words for what the hits should not look like.
    #[arg(long, value_name = "TEXT")]
    pub minus: Option<String>,
    /// Most hits to print.
    #[arg(long, short = 'k', value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub top: u32,
    /// Drop hits below this relevance, 0 to 1 [default: calibrated cut-off].
    #[arg(long, value_name = "R")]
    pub min_relevance: Option<f32>,
    /// Only images under this folder.
    #[arg(long, value_name = "DIR")]
    pub under: Option<String>,
    /// Only images taken (else modified) on or after this day.
    #[arg(long, value_name = "YYYY-MM-DD")]
    pub after: Option<String>,
    /// Only images taken (else modified) before this day.
    #[arg(long, value_name = "YYYY-MM-DD")]
    pub before: Option<String>,
    /// Only images at least this wide.
    #[arg(long, value_name = "PX")]
    pub min_width: Option<u32>,
    /// Only images at least this high.
    #[arg(long, value_name = "PX")]
    pub min_height: Option<u32>,
    /// Only files of at least this size.
    #[arg(long, value_name = "KIB")]
    pub min_kib: Option<u64>,
    /// Only files of at most this size.
    #[arg(long, value_name = "KIB")]
    pub max_kib: Option<u64>,
    /// Only these formats: jpeg, png, webp, gif, bmp, tiff, heic, avif.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub format: Vec<String>,
    /// Show every copy of near-duplicate pictures, not one for each group.
    #[arg(long)]
    pub all_duplicates: bool,
    /// Compare with every image; otherwise, above two million, a graph finds nearly all of the best in less time.
    #[arg(long)]
    pub exact: bool,
    /// Whether a detector checks what CLIP cannot see.
    #[arg(long, value_enum, default_value_t = OnOff::On)]
    pub verify: OnOff,
    /// Check at most so many of the best candidates.
    #[arg(long, value_name = "N", default_value_t = 50)]
    pub verify_best: u32,
    /// Begin no further check after this time.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    pub verify_seconds: u64,
    /// Tell what each hit is made of in the model's eyes, and how near that is to the query.
    #[arg(long)]
    pub explain: bool,
    /// Write the hits as one picture.
    #[arg(long, value_name = "PNG")]
    pub sheet: Option<PathBuf>,
    /// Print paths only, one per line.
    #[arg(long, conflicts_with = "json")]
    pub paths: bool,
}

/// On or off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum OnOff {
    /// On.
    On,
    /// Off.
    Off,
}

/// `search`: ends with 1 when nothing was found.
///
/// # Errors
/// As [`wire::search_filtered`]; the contact sheet cannot be written.
pub fn run(engine: &Engine, args: &SearchArgs, cancel: &AtomicBool) -> Result<Outcome> {
    args.sheet.as_deref().map_or(Ok(()), sheet::check_target)?;
    let request = wire::SearchArgs {
        query: args.query.clone(),
        image: args.image.clone(),
        minus: args.minus.clone(),
        folder: args.under.clone(),
        top_k: Some(args.top),
        min_relevance: args.min_relevance,
        verify: Some(args.verify == OnOff::On),
        thumbnails: None,
    };
    let filters = Filters {
        after: args.after.clone(),
        before: args.before.clone(),
        min_width: args.min_width,
        min_height: args.min_height,
        min_kib: args.min_kib,
        max_kib: args.max_kib,
        formats: args.format.clone(),
        all_duplicates: args.all_duplicates,
        exact: args.exact,
        explain: args.explain,
        effort: Effort { best: args.verify_best as usize, budget: Duration::from_secs(args.verify_seconds) },
    };
    let response = watched(cancel, |watch| wire::search_filtered(engine, &request, &filters, watch))?;
    if engine.config().json {
        render::json(&response);
    } else if args.paths {
        response.results.iter().for_each(|hit| render::text(&hit.path));
    } else {
        render::search(&response);
    }
    if let Some(path) = &args.sheet {
        let tiles: Vec<(String, String)> = response
            .results
            .iter()
            .map(|hit| (hit.path.clone(), format!("{:.2}  {}", hit.relevance, file_name(&hit.path))))
            .collect();
        sheet::hits(&response.query, &tiles, &engine.decode_limits(), path)?;
        if !engine.config().json {
            render::note(&format!("sheet: {}", render::short(&path.display().to_string())));
        }
    }
    Ok(if response.results.is_empty() { Outcome::Nothing } else { Outcome::Done })
}

fn file_name(path: &str) -> String {
    std::path::Path::new(path).file_name().map_or_else(|| path.to_owned(), |name| name.to_string_lossy().into_owned())
}
