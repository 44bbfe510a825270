//! What `match_captions` looks like to a model: the captions, best first, each with its phrases.

use std::fmt::Write as _;

use super::answer::{Answer, shown, with_previews};
use crate::engine::Engine;
use crate::wire::compose::{self, CaptionScore, MatchArgs, MatchResult, PhraseChecked};

/// Longer side of the annotated picture, pixels.
const SIDE: u32 = 1024;
/// Captions that the text lists with their phrases; the structured content has all.
const SHOWN_CAPTIONS: usize = 4;

/// The text and picture of `match_captions`.
pub(super) fn captions(engine: &Engine, args: &MatchArgs, result: &MatchResult) -> Answer {
    let mut text = format!(
        "{}: best \"{}\" (by {}; CLIP alone would choose \"{}\")\n",
        shown(&result.path),
        shown(&result.best),
        result.decided_by,
        result.captions.get(result.clip_best_index).map(|one| shown(&one.text)).unwrap_or_default()
    );
    let mut order: Vec<&CaptionScore> = result.captions.iter().collect();
    order.sort_by(|a, b| b.score.total_cmp(&a.score));
    for one in order.iter().take(SHOWN_CAPTIONS) {
        let dense = one.dcsm_score.map(|score| format!(", DCSM {score:.2}")).unwrap_or_default();
        let _ = writeln!(text, "{:.3} \"{}\" (CLIP share {:.2}{dense})", one.score, shown(&one.text), one.clip_share);
        phrases(&mut text, &one.phrases);
    }
    for note in &result.notes {
        let _ = writeln!(text, "note: {}", shown(note));
    }
    let detector = result.detector.as_deref().map(|id| format!(", detector {}", shown(id))).unwrap_or_default();
    let _ = writeln!(text, "model {}{detector}", shown(&result.model));
    let picture = if args.annotate == Some(true) { picture(engine, result) } else { Vec::new() };
    with_previews(text, picture)
}

/// A line for each phrase.
pub(super) fn phrases(text: &mut String, phrases: &[PhraseChecked]) {
    for phrase in phrases {
        let probability = phrase.probability.map(|p| format!(" {p:.2}")).unwrap_or_default();
        let _ = writeln!(text, "  {}: {}{probability}: {}", shown(&phrase.text), phrase.verdict, shown(&phrase.seen));
    }
}

fn picture(engine: &Engine, result: &MatchResult) -> Vec<Vec<u8>> {
    match compose::annotated_jpeg(engine, result, SIDE) {
        Ok(jpeg) => vec![jpeg],
        Err(error) => {
            tracing::warn!("not drawn: {error}");
            Vec::new()
        }
    }
}
