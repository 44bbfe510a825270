//! What `spatial_relation` looks like to a model: the answer, what holds in each pair, what is open, and the picture.

use std::fmt::Write as _;

use super::answer::{Answer, shown, with_previews};
use crate::engine::Engine;
use crate::wire::relate::{self, RelateArgs, RelateResult, RelationFound};

/// Longer side of the annotated picture, pixels.
const SIDE: u32 = 1024;
/// Pairs that the text lists; the structured content has all that are told.
const SHOWN_PAIRS: usize = 5;

/// The text and picture of `spatial_relation`.
pub(super) fn relations(engine: &Engine, args: &RelateArgs, result: &RelateResult) -> Answer {
    let mut text = format!("{}: {}\n", shown(&result.path), shown(&result.answer));
    let numbers = |one: &RelationFound| (one.subject_number, one.object_number);
    for pair in result.relations.chunk_by(|a, b| numbers(a) == numbers(b)).take(SHOWN_PAIRS) {
        let Some(one) = pair.first() else { break };
        let held: Vec<String> = pair.iter().map(|one| format!("{} {:.2}", one.relation, one.confidence)).collect();
        let _ = writeln!(
            text,
            "  {} {} [{}] to {} {} [{}]: {}",
            shown(&result.subject),
            one.subject_number,
            edges(one.subject_box),
            shown(&result.object),
            one.object_number,
            edges(one.object_box),
            held.join(", ")
        );
    }
    for one in &result.undecided {
        let _ = writeln!(
            text,
            "  open: {} ({} to {}): {}",
            one.relation, one.subject_number, one.object_number, one.reason
        );
    }
    for one in &result.candidates {
        let _ = writeln!(text, "  maybe {} {:.2} [{}]", shown(&one.label), one.score, edges(one.bounds));
    }
    for note in &result.notes {
        let _ = writeln!(text, "note: {}", shown(note));
    }
    let _ = writeln!(text, "frame: {}; detector {}", result.frame, shown(&result.detector));
    let picture = if args.annotate == Some(true) { picture(engine, result) } else { Vec::new() };
    with_previews(text, picture)
}

fn edges([x0, y0, x1, y1]: [f32; 4]) -> String {
    format!("{x0:.0}, {y0:.0}, {x1:.0}, {y1:.0}")
}

fn picture(engine: &Engine, result: &RelateResult) -> Vec<Vec<u8>> {
    match relate::annotated_jpeg(engine, result, SIDE) {
        Ok(jpeg) => vec![jpeg],
        Err(error) => {
            tracing::warn!("not drawn: {error}");
            Vec::new()
        }
    }
}
