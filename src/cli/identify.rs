//! `identify`: which label of a gallery or a classifier a picture belongs to.

use std::sync::atomic::AtomicBool;

use clap::{ArgGroup, Args};

use super::commands::watched;
use super::{Outcome, render};
use crate::engine::Engine;
use crate::engine::classifiers::NamedBy;
use crate::engine::identify::MOST_CANDIDATES;
use crate::error::Result;
use crate::wire::identify::{self, By, DEFAULT_TOP, GallerySummary, IdentifyResult};

/// Arguments of `identify`.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("by").required(true).args(["gallery", "classifier"])))]
pub struct IdentifyArgs {
    /// Images, or folders of images.
    #[arg(required = true, value_name = "IMAGE|DIR")]
    pub images: Vec<String>,
    /// A folder with a subfolder of example images for each label, named like it.
    #[arg(long, value_name = "DIR")]
    pub gallery: Option<String>,
    /// Instead of a gallery, a classifier with labels of its own: a name of `models list`, a hub id `owner/name[@revision]`, a folder.
    #[arg(long, value_name = "ID|DIR")]
    pub classifier: Option<String>,
    /// Most labels to tell for an image.
    #[arg(long, short = 'k', value_name = "N", default_value_t = DEFAULT_TOP, value_parser = top())]
    pub top: usize,
}

fn top() -> impl clap::builder::TypedValueParser<Value = usize> {
    clap::builder::RangedU64ValueParser::<usize>::new().range(1..=MOST_CANDIDATES as u64)
}

/// `identify`: ends with 1 when an image is unknown or could not be read.
///
/// # Errors
/// As [`identify::identify_all`].
pub fn run(engine: &Engine, args: &IdentifyArgs, cancel: &AtomicBool) -> Result<Outcome> {
    let images = engine.expand_images(&args.images)?;
    let by = By::one_of(args.gallery.as_deref(), args.classifier.as_deref(), NamedBy::User)?;
    let results = watched(cancel, |watch| identify::identify_all(engine, &images, by, args.top, watch))?;
    if engine.config().json {
        results.iter().for_each(render::json);
    } else {
        results.iter().for_each(show);
        results.last().into_iter().for_each(show_source);
    }
    Ok(if results.iter().any(|result| result.unknown) { Outcome::Nothing } else { Outcome::Done })
}

/// The answer, and the labels with their nearest examples.
fn show(result: &IdentifyResult) {
    let path = render::short(&result.path);
    if let Some(error) = &result.error {
        return render::text(&format!("{path}: {error}"));
    }
    render::text(&format!("{path}: {}", result.answer));
    for candidate in &result.candidates {
        render::text(&format!("    {:.3}  {}", candidate.confidence, candidate.label));
        for near in &candidate.nearest {
            render::text(&format!("           {:.3}  {}", near.similarity, render::short(&near.path)));
        }
    }
}

/// What all were compared with, or what named them.
fn show_source(result: &IdentifyResult) {
    match &result.gallery {
        Some(gallery) => show_gallery(gallery, &result.model),
        None => render::text(&format!("by {}", result.model)),
    }
    result.notes.iter().for_each(|note| render::note(&format!("note: {note}")));
}

fn show_gallery(gallery: &GallerySummary, model: &str) {
    let again = gallery.recognised.map(|share| format!("; it knows {:.0} % of them again", 100.0 * share));
    render::text(&format!(
        "{}: {} labels, {} pictures{}, and takes {:.0} % of strangers for one of them ({})",
        render::short(&gallery.path),
        gallery.labels,
        gallery.pictures,
        again.unwrap_or_default(),
        100.0 * gallery.strangers_named,
        model
    ));
}
