//! What `identify_image` looks like to a model: the answer, the labels, of a gallery with their nearest examples, and what to keep in mind.

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
        let _ = write!(text, "  {} {:.2}", shown(&candidate.label), candidate.confidence);
        let nearest: Vec<String> =
            candidate.nearest.iter().map(|near| format!("{} {:.2}", shown(&near.path), near.similarity)).collect();
        if !nearest.is_empty() {
            let _ = write!(text, ", nearest: {}", nearest.join(", "));
        }
        text.push('\n');
    }
    if let Some(gallery) = &result.gallery {
        let path = shown(&gallery.path);
        let _ = write!(text, "gallery {path}: {} labels, {} pictures", gallery.labels, gallery.pictures);
        if let Some(recognised) = gallery.recognised {
            let _ = write!(text, "; knows {:.0} % of them again", 100.0 * recognised);
        }
        let _ = write!(text, ", takes {:.0} % of strangers for one; ", 100.0 * gallery.strangers_named);
    }
    let _ = writeln!(text, "model {}", result.model);
    for note in &result.notes {
        let _ = writeln!(text, "note: {}", shown(note));
    }
    Answer::text(text)
}
