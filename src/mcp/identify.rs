//! What `identify_image` looks like to a model: the answer, the labels with their nearest examples, and what to keep in mind.

use std::fmt::Write as _;

use super::answer::{Answer, shown};
use crate::engine::Engine;
use crate::wire::identify::{IdentifyArgs, IdentifyResult};

/// Labels that the text lists; the structured content has all that are told.
const SHOWN_LABELS: usize = 3;

/// The text of `identify_image`.
pub(super) fn identity(_engine: &Engine, _args: &IdentifyArgs, result: &IdentifyResult) -> Answer {
    let mut text = format!("{}: {}\n", shown(&result.path), shown(&result.answer));
    for candidate in result.candidates.iter().take(SHOWN_LABELS) {
        let nearest: Vec<String> =
            candidate.nearest.iter().map(|near| format!("{} {:.2}", shown(&near.path), near.similarity)).collect();
        let _ = writeln!(
            text,
            "  {} {:.2}, nearest: {}",
            shown(&candidate.label),
            candidate.confidence,
            nearest.join(", ")
        );
    }
    let gallery = &result.gallery;
    let _ = write!(text, "gallery {}: {} labels, {} pictures", shown(&gallery.path), gallery.labels, gallery.pictures);
    if let Some(recognised) = gallery.recognised {
        let _ = write!(text, "; knows {:.0} % of them again", 100.0 * recognised);
    }
    let _ =
        writeln!(text, ", takes {:.0} % of strangers for one; model {}", 100.0 * gallery.strangers_named, result.model);
    for note in &result.notes {
        let _ = writeln!(text, "note: {}", shown(note));
    }
    Answer::text(text)
}
