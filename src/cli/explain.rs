//! `explain` and `diagnose`.

use std::sync::atomic::AtomicBool;

use super::args::{DiagnoseArgs, ExplainArgs};
use super::commands::watched;
use super::{Outcome, render};
use crate::engine::Engine;
use crate::error::Result;
use crate::wire::{self, ExplainResponse, Shown, Verdict};

/// Columns that running text is wrapped to.
const WIDTH: usize = 100;

/// `explain`: a topic, or the topic of a request; with an image, what the model makes of it.
///
/// # Errors
/// As [`wire::explain`].
pub fn explain(engine: &Engine, args: &ExplainArgs, cancel: &AtomicBool) -> Result<Outcome> {
    let request = wire::ExplainArgs { topic: args.topic.clone(), query: args.query.clone(), image: args.image.clone() };
    let response = watched(cancel, |watch| wire::explain(engine, &request, watch))?;
    if engine.config().json {
        render::json(&response);
    } else {
        render::text(&article(&response));
    }
    Ok(Outcome::Done)
}

/// `diagnose`: a verdict on one image and one request.
///
/// # Errors
/// As [`wire::diagnose`].
pub fn diagnose(engine: &Engine, args: &DiagnoseArgs, cancel: &AtomicBool) -> Result<Outcome> {
    let response = watched(cancel, |watch| wire::diagnose(engine, &args.image, &args.query, watch))?;
    if engine.config().json {
        render::json(&response);
    } else {
        let mut lines = vec![format!("{}  \"{}\"", render::short(&response.image), response.query)];
        verdict(&mut lines, &response.diagnosis, false);
        render::text(&lines.join("\n"));
    }
    Ok(Outcome::Done)
}

/// The explanation as people read it.
fn article(response: &ExplainResponse) -> String {
    let mut lines = vec![format!("{} ({})", response.title, response.topic)];
    paragraph(&mut lines, "", &response.what);
    heading(&mut lines, "Why");
    paragraph(&mut lines, "", &response.why);
    heading(&mut lines, "Numbers");
    for cited in &response.facts {
        paragraph(&mut lines, "- ", &format!("{} ({})", cited.fact, cited.source));
    }
    heading(&mut lines, "Signs in a request");
    for cue in &response.cues {
        paragraph(&mut lines, "- ", cue);
    }
    heading(&mut lines, "Instead");
    for way in &response.instead {
        let status = match way.status.as_str() {
            "runs_here" => "runs here".to_owned(),
            "needs_file" => format!("needs a file: {}", way.file.as_deref().unwrap_or_default()),
            _ => way.file.as_ref().map_or("elsewhere".into(), |file| format!("elsewhere: {file}")),
        };
        paragraph(&mut lines, "- ", &format!("{}: {} ({status})", way.name, way.does));
    }
    heading(&mut lines, "Example");
    paragraph(&mut lines, "wrong  ", &format!("{}\n{}", response.wrong.call, response.wrong.outcome));
    if let Some(right) = &response.right {
        paragraph(&mut lines, "right  ", &format!("{}\n{}", right.call, right.outcome));
    }
    if let Some(shown) = &response.shown {
        heading(&mut lines, &format!("On {}, with {}", render::short(&shown.image), shown.model));
        demonstration(&mut lines, shown);
    }
    if let Some(diagnosis) = &response.diagnosis {
        heading(&mut lines, "Diagnosis");
        verdict(&mut lines, diagnosis, true);
    }
    lines.join("\n")
}

fn demonstration(lines: &mut Vec<String>, shown: &Shown) {
    let row = |sigma: f32, cosine: f32, text: &str| format!("  {sigma:>+6.2} sigma  cosine {cosine:.4}  {text}");
    if let (Some(statement), Some(sigma), Some(cosine)) = (&shown.statement, shown.sigma, shown.cosine) {
        lines.push(row(sigma, cosine, statement));
        for other in &shown.counterfactuals {
            lines.push(row(sigma - other.margin_sigma, other.cosine, &other.text));
            let reading = match other.reading.as_str() {
                "noise" => "noise",
                "prefers_request" => "more than noise, for the request",
                _ => "more than noise, against the request",
            };
            lines.push(format!(
                "         margin {:+.2} sigma: {reading}; the two texts are {:.3} alike",
                other.margin_sigma, other.text_cosine
            ));
        }
    }
    if !shown.counterfactuals.is_empty() {
        paragraph(
            lines,
            "",
            &format!(
                "One sigma is the spread over {} neutral texts on this image ({:.4}); two texts that have nothing to do \
                 with it differ by {:.2}.",
                shown.neutral_texts, shown.spread, shown.noise_sigma
            ),
        );
    }
    if let Some(note) = &shown.note {
        paragraph(lines, "", note);
    }
    if !shown.sees.is_empty() {
        paragraph(lines, "sees  ", &shown.sees.join(", "));
    }
    if !shown.made_of.is_empty() {
        paragraph(lines, "made of  ", &shown.made_of.join(", "));
    }
}

fn verdict(lines: &mut Vec<String>, diagnosis: &Verdict, brief: bool) {
    lines.push(format!("{} (relevance {:.2})", diagnosis.verdict.replace('_', " "), diagnosis.relevance));
    for checked in &diagnosis.evidence {
        let mark = match checked.ok {
            Some(true) => "ok",
            Some(false) => "no",
            None => "?",
        };
        // Of the task, an explanation has the numbers above already.
        let short = checked.says.split("; ").next().filter(|_| brief && checked.check == "task");
        let says = short.unwrap_or(&checked.says);
        paragraph(lines, &format!("{mark:<3}{:<8}", checked.check), says);
    }
    for phrase in &diagnosis.phrases {
        let probability = phrase.probability.map_or_else(String::new, |p| format!(" {p:.2}"));
        paragraph(lines, "phrase  ", &format!("{}: {}{probability}: {}", phrase.text, phrase.verdict, phrase.seen));
    }
    paragraph(lines, "next  ", &diagnosis.next);
}

fn heading(lines: &mut Vec<String>, text: &str) {
    lines.push(String::new());
    lines.push(text.to_owned());
}

/// Running text, wrapped and indented; further lines stand below the first one's text.
fn paragraph(lines: &mut Vec<String>, mark: &str, text: &str) {
    let indent = " ".repeat(2 + mark.chars().count());
    let mut line = format!("  {mark}");
    for part in text.split('\n') {
        for word in part.split_whitespace() {
            let empty = line.trim_start_matches(' ').is_empty() || line.ends_with("  ") || line.ends_with("- ");
            if !empty && line.chars().count() + 1 + word.chars().count() > WIDTH {
                lines.push(std::mem::replace(&mut line, indent.clone()));
            } else if !empty {
                line.push(' ');
            }
            line.push_str(word);
        }
        lines.push(std::mem::replace(&mut line, indent.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::paragraph;

    #[test]
    fn long_text_is_wrapped_below_its_first_word() {
        let mut lines = Vec::new();
        paragraph(&mut lines, "- ", &"word ".repeat(40));
        assert!(lines.len() == 3 && lines.iter().all(|line| line.chars().count() <= super::WIDTH), "{lines:?}");
        assert!(lines[0].starts_with("  - word word") && lines[1].starts_with("    word"), "{lines:?}");
        let mut two = Vec::new();
        paragraph(&mut two, "wrong  ", "a\nb");
        assert_eq!(two, ["  wrong  a", "         b"]);
    }
}
