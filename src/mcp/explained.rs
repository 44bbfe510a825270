//! The text of `explain_limitation`: what was seen on the image first, then the limit, its numbers, the way out.

use std::fmt::Write as _;

use super::answer::{Answer, shown};
use super::compose::phrases;
use crate::engine::Engine;
use crate::wire::{ExplainArgs, ExplainResponse, Shown, Verdict};

/// Facts and ways out in the text; the structured content has them all.
const FACTS: usize = 3;
const WAYS: usize = 5;

/// The text of `explain_limitation`.
pub(super) fn explanation(_engine: &Engine, _args: &ExplainArgs, response: &ExplainResponse) -> Answer {
    let mut text = String::new();
    if let Some(diagnosis) = &response.diagnosis {
        verdict(&mut text, diagnosis);
    }
    if let Some(on_image) = &response.shown {
        demonstration(&mut text, on_image);
    }
    // With a verdict at hand, the lecture is short.
    let brief = response.diagnosis.is_some();
    if brief && response.clip_suitable {
        return Answer::text(text);
    }
    let _ = writeln!(text, "{}: {}; {}", response.topic, response.title, response.what);
    if !brief {
        let _ = writeln!(text, "why: {}", response.why);
    }
    for cited in response.facts.iter().take(if brief { 1 } else { FACTS }) {
        let _ = writeln!(text, "- {} ({})", cited.fact, cited.source);
    }
    let ways: Vec<String> =
        response.instead.iter().take(WAYS).map(|way| format!("{} ({}): {}", way.name, way.status, way.does)).collect();
    if !brief {
        let _ = writeln!(text, "use: {}", ways.join("; "));
        let _ = writeln!(text, "wrong: {} -> {}", response.wrong.call, response.wrong.outcome);
        if let Some(right) = &response.right {
            let _ = writeln!(text, "right: {} -> {}", right.call, right.outcome);
        }
    }
    Answer::text(text)
}

fn verdict(text: &mut String, diagnosis: &Verdict) {
    let _ = writeln!(text, "verdict: {}, relevance {:.2}", diagnosis.verdict, diagnosis.relevance);
    for checked in &diagnosis.evidence {
        let mark = match checked.ok {
            Some(true) => "ok",
            Some(false) => "no",
            None => "?",
        };
        // The task's numbers follow below.
        let says =
            if checked.check == "task" { checked.says.split("; ").next().unwrap_or_default() } else { &checked.says };
        let _ = writeln!(text, "- {} {mark}: {}", checked.check, shown(says));
    }
    phrases(text, &diagnosis.phrases);
    phrases(text, &diagnosis.phrases);
    let _ = writeln!(text, "next: {}", shown(&diagnosis.next));
}

fn demonstration(text: &mut String, on_image: &Shown) {
    if let (Some(statement), Some(sigma), Some(cosine)) = (&on_image.statement, on_image.sigma, on_image.cosine) {
        let _ = writeln!(
            text,
            "on {} with {}: \"{}\" {sigma:+.2} sigma (cosine {cosine:.3})",
            shown(&on_image.image),
            on_image.model,
            shown(statement)
        );
    } else {
        let _ = writeln!(text, "on {} with {}", shown(&on_image.image), on_image.model);
    }
    for other in &on_image.counterfactuals {
        let reading = match other.reading.as_str() {
            "noise" => "noise: CLIP cannot tell them apart here",
            "prefers_request" => "more than noise, for the request",
            _ => "more than noise, against the request",
        };
        let _ = writeln!(
            text,
            "  against \"{}\": margin {:+.2} sigma (cosine {:+.4}), {reading}; the texts are {:.3} alike",
            shown(&other.text),
            other.margin_sigma,
            other.margin,
            other.text_cosine
        );
    }
    if !on_image.counterfactuals.is_empty() {
        let _ = writeln!(
            text,
            "  one sigma = {:.4}, the spread over {} neutral texts; unrelated texts differ by {:.2}",
            on_image.spread, on_image.neutral_texts, on_image.noise_sigma
        );
    }
    if let Some(note) = &on_image.note {
        let _ = writeln!(text, "  {note}");
    }
    if !on_image.sees.is_empty() {
        let _ = writeln!(text, "  the model sees: {}", on_image.sees.join(", "));
    }
    if !on_image.made_of.is_empty() {
        let _ = writeln!(text, "  made of (weight, fit to the request): {}", on_image.made_of.join(", "));
    }
}
