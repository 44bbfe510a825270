//! The only file that prints: results to stdout, for people or as JSON, errors to stderr.

use std::io::{IsTerminal, Write};
use std::path::Path;

use serde::Serialize;
use serde_json::Value;

use crate::engine::inspect::Finding;
use crate::engine::skill::Installed;
use crate::engine::verify::Verified;
use crate::error::Error;
use crate::models::registry::{ClassifierEntry, DetectorEntry, Entry, Metric};
use crate::wire::compose::MatchResult;
use crate::wire::relate::{RelateResult, RelationFound};
use crate::wire::{ClassifyResponse, DetectResult, IndexResponse, NextCall, RouteResponse, SearchResponse};

/// Prints lines to stdout. A reader that has gone away (`| head`) ends the output, not the program with a panic.
pub fn text(lines: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{lines}").and_then(|()| out.flush());
}

/// Prints one JSON object on one line.
pub fn json(value: &impl Serialize) {
    match serde_json::to_string(value) {
        Ok(line) => text(&line),
        Err(error) => tracing::error!("cannot write JSON: {error}"),
    }
}

/// Prints a remark for people on stderr.
pub fn note(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Prints an error and its hint on stderr; with `--json`, an object on stdout as well, so that a caller that reads only
/// stdout learns why there is no result.
pub fn error(error: &Error, as_json: bool) {
    let (red, cyan, reset) = if std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none() {
        ("\x1b[1;31m", "\x1b[36m", "\x1b[0m")
    } else {
        ("", "", "")
    };
    note(&format!("{red}error{reset}: {error}"));
    if let Some(hint) = error.hint() {
        note(&format!("{cyan}hint{reset}: {hint}"));
    }
    if as_json {
        json(&serde_json::json!({"error": error.to_string(), "hint": error.hint()}));
    }
}

/// A path as a person wants to read it: relative to the current folder when it lies below it.
///
/// Control characters are escaped: a file's name must not move the cursor or colour the terminal.
pub fn short(path: &str) -> String {
    let shown = std::env::current_dir()
        .ok()
        .and_then(|here| Path::new(path).strip_prefix(here).ok().map(|p| p.display().to_string()))
        .unwrap_or_else(|| path.to_owned());
    let unsafe_to_print =
        |c: char| c.is_control() || ('\u{202a}'..='\u{202e}').contains(&c) || ('\u{2066}'..='\u{2069}').contains(&c);
    shown
        .chars()
        .flat_map(|c| if unsafe_to_print(c) { c.escape_unicode().collect::<Vec<_>>() } else { vec![c] })
        .collect()
}

/// What an index run did.
pub fn index(response: &IndexResponse) {
    text(&format!(
        "{}: {} images: {} added, {} updated, {} moved, {} unchanged, {} removed, {} skipped{}",
        short(&response.folder),
        response.found,
        response.added,
        response.updated,
        response.moved,
        response.unchanged,
        response.removed,
        response.skipped,
        if response.cancelled { " (cancelled; what was done is kept)" } else { "" }
    ));
    text(&format!(
        "{} {} on {}, {:.1} s{}",
        response.model,
        response.precision,
        response.device,
        response.seconds,
        if response.images_per_second > 0.0 {
            format!(", {:.1} images/s", response.images_per_second)
        } else {
            String::new()
        }
    ));
    if let Some(warning) = &response.warning {
        text(&format!("warning: {warning}"));
    }
    for skipped in &response.skipped_examples {
        text(&format!("  skipped {}: {}", short(&skipped.path), skipped.reason));
    }
}

/// What a search found.
pub fn search(response: &SearchResponse) {
    if let Some(note_text) = &response.advice.note {
        note(&format!("note: {note_text}"));
    }
    for (rank, hit) in response.results.iter().enumerate() {
        let copies = match hit.duplicates.len() {
            0 => String::new(),
            1 => "  (1 copy)".into(),
            n => format!("  ({n} copies)"),
        };
        text(&format!(
            "{:>3}  {:.2}  {}  {}x{}{copies}",
            rank + 1,
            hit.relevance,
            short(&hit.path),
            hit.width,
            hit.height
        ));
        if !hit.concepts.is_empty() {
            let parts =
                hit.concepts.iter().map(|part| format!("{} {:.2} ({:+.2})", part.concept, part.weight, part.fits));
            text(&format!("       made of  {}", parts.collect::<Vec<_>>().join(", ")));
        }
        for check in &hit.checks {
            let verdict = match check.probability {
                Some(p) => format!("{} {p:.2}", if check.passed { "yes" } else { "no " }),
                None => "?       ".to_owned(),
            };
            text(&format!("       {verdict}  {}: {}", check.what, check.seen));
        }
    }
    if response.results.is_empty() && response.considered == 0 {
        note(&format!("none of the {} images passes the filters", response.indexed));
    } else if response.results.is_empty() {
        note(&format!(
            "nothing among {} images reaches relevance {:.2}; `--min-relevance 0` shows the nearest all the same",
            response.indexed, response.min_relevance
        ));
    }
}

/// What a request is and what to call.
pub fn route(response: &RouteResponse) {
    let suits = if response.clip_suitable { "CLIP suits it" } else { "CLIP does not suit it" };
    text(&format!("{} ({:.2}): {suits}", response.labels.join(" + "), response.confidence));
    text(&format!("  because  {}", response.why));
    let spans: Vec<String> = response.evidence.iter().map(|span| format!("\"{}\"", span.text)).collect();
    if !spans.is_empty() {
        text(&format!("  evidence {}", spans.join(", ")));
    }
    text(&format!("  next     {}", call(&response.next)));
    for other in &response.alternatives {
        text(&format!("  or       {}", call(other)));
    }
    for (number, step) in (1..).zip(&response.steps) {
        text(&format!("  step {number}   {}: {}", step.label, call(&step.call)));
    }
    for score in &response.scores {
        let spans: Vec<String> = score.evidence.iter().map(|span| format!("\"{}\"", span.text)).collect();
        text(&format!("    {:.3} {:.3}  {:<24} {}", score.primary, score.applies, score.label, spans.join(", ")));
    }
}

fn call(call: &NextCall) -> String {
    let Some(tool) = &call.tool else { return "no tool of clip-aware".into() };
    let arguments = serde_json::to_string(&call.arguments).unwrap_or_default();
    let missing =
        if call.missing.is_empty() { String::new() } else { format!("  (give also: {})", call.missing.join(", ")) };
    let absent = if call.available == Some(false) { "  (not in this version)" } else { "" };
    format!("{tool} {arguments}{missing}{absent}")
}

/// Labels and probabilities, one image after the other.
pub fn classify(response: &ClassifyResponse) {
    for image in &response.images {
        match (&image.error, &image.best) {
            (Some(error), _) => text(&format!("{}: {error}", short(&image.path))),
            (None, Some(best)) => text(&format!("{}: {best}", short(&image.path))),
            (None, None) => text(&format!("{}: none of these", short(&image.path))),
        }
        for score in image.scores.iter().take(5) {
            text(&format!("    {:.3}  {}", score.probability, score.label));
        }
        if image.error.is_none() {
            text(&format!("    {:.3}  (none of these)", image.none_of_these));
        }
    }
}

/// What is indexed.
pub fn status(status: &Value) {
    let number = |value: &Value, key: &str| value.get(key).and_then(Value::as_u64).unwrap_or_default();
    let words = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).unwrap_or("?").to_owned();
    let list = |value: &Value, key: &str| value.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
    let folders = list(status, "folders");
    if folders.is_empty() {
        text("nothing is indexed under the roots; `clip-aware index DIR` embeds a folder");
    }
    for folder in folders {
        let away = if folder.get("available") == Some(&Value::Bool(false)) { "  (not reachable now)" } else { "" };
        text(&format!("{}{away}", words(&folder, "path")));
        for coverage in list(&folder, "coverage") {
            text(&format!(
                "  {}: {} of {} files searchable, {} waiting, {} skipped",
                words(&coverage, "model"),
                number(&coverage, "indexed"),
                number(&coverage, "files"),
                number(&coverage, "waiting"),
                number(&coverage, "skipped")
            ));
            for skipped in list(&coverage, "skipped_examples") {
                text(&format!("    skipped {}: {}", words(&skipped, "path"), words(&skipped, "reason")));
            }
        }
    }
    for set in list(status, "sets") {
        text(&format!(
            "set {}: {} {}, {} vectors of {}",
            number(&set, "id"),
            words(&set, "model"),
            words(&set, "precision"),
            number(&set, "vectors"),
            number(&set, "dim")
        ));
    }
    text(&format!("{} ({} KiB)", words(status, "catalogue"), number(status, "bytes") / 1024));
}

/// What `doctor` found.
pub fn findings(findings: &[Finding]) {
    for finding in findings {
        text(&format!("{} {:<12} {}", if finding.ok { "ok  " } else { "FAIL" }, finding.what, finding.found));
        if let Some(hint) = &finding.hint {
            text(&format!("     {:<12} hint: {hint}", ""));
        }
    }
}

/// One model of the registry.
pub fn model(entry: &Entry, here: bool, default: bool) {
    let percent = |metric| entry.percent(metric).map_or_else(|| "   -".to_owned(), |p| format!("{p:.1}"));
    text(&format!(
        "{}{:<28} {:>5} M  {:>5} MiB  dim {:<5} ImageNet {}  COCO {}  {}{}",
        if here { "* " } else { "  " },
        entry.name,
        entry.parameters_million,
        entry.download_mib,
        entry.dim,
        percent(Metric::ImageNet),
        percent(Metric::CocoTextToImage),
        entry.licence,
        if default { "  (default here)" } else { "" }
    ));
    text(&format!("    {}; {}; {}", entry.good_for, entry.languages, entry.hub_id));
}

/// A known classifier.
pub fn classifier(entry: &ClassifierEntry, here: bool) {
    text(&format!(
        "{}{:<28} {:>5.1} M  {:>5} MiB  classifier, {} px  ImageNet {}  {}",
        if here { "* " } else { "  " },
        entry.name,
        entry.parameters_million,
        entry.download_mib,
        entry.image_size,
        entry.accuracy(),
        entry.licence,
    ));
    text(&format!("    {}; names {}; {}", entry.good_for, entry.labels, entry.hub_id));
}

/// What `skill install` did with one target.
pub fn installed(done: &Installed) {
    let folder = short(&done.target.folder.display().to_string());
    for (what, files) in [("wrote", &done.written), ("replaced", &done.replaced)] {
        for file in files {
            text(&format!("{what} {folder}/{file}"));
        }
    }
    if done.written.is_empty() && done.replaced.is_empty() && done.refused.is_empty() {
        text(&format!("up to date: {folder}"));
    }
    for file in &done.refused {
        note(&format!("kept {folder}/{file}: it differs from the skill of this version"));
    }
}

/// One detector of the registry.
pub fn detector(entry: &DetectorEntry, here: bool) {
    text(&format!(
        "{}{:<28} {:>5.1} M  detector, {} px  AP {}  {}",
        if here { "* " } else { "  " },
        entry.name,
        entry.parameters_million,
        entry.input_side,
        entry.precision(),
        entry.licence
    ));
    text(&format!("    {}; finds {}; {}", entry.good_for, entry.vocabulary, entry.address()));
}

/// What was found in one image: counts, then boxes.
pub fn detected(image: &DetectResult) {
    if let Some(error) = &image.error {
        return text(&format!("{}: {error}", short(&image.path)));
    }
    let counts: Vec<String> = image.counts.iter().map(|(label, count)| format!("{count} {label}")).collect();
    let counts = if counts.is_empty() { "nothing found".to_owned() } else { counts.join(", ") };
    text(&format!("{}: {counts}", short(&image.path)));
    for doubt in image.doubts.iter().filter(|doubt| doubt.crowded || doubt.cut_off > 0 || doubt.tiny > 0) {
        let flags = [
            doubt.crowded.then(|| "crowded, some may be hidden".to_owned()),
            (doubt.cut_off > 0).then(|| format!("{} cut off by the border", doubt.cut_off)),
            (doubt.tiny > 0).then(|| format!("{} as small as the detector can see", doubt.tiny)),
        ];
        let flags: Vec<String> = flags.into_iter().flatten().collect();
        text(&format!("    {}: {} (expected {:.1})", doubt.label, flags.join("; "), doubt.expected));
    }
    for one in &image.detections {
        let [x0, y0, x1, y1] = one.bounds;
        text(&format!("    {:.2}  {:<14} {x0:.0},{y0:.0} to {x1:.0},{y1:.0}", one.score, one.label));
    }
    if let Some(path) = &image.annotated {
        text(&format!("    drawn: {}", short(path)));
    }
}

/// How two things stand to each other: the answer, then what holds in each pair and what is open.
pub fn related(result: &RelateResult) {
    text(&format!("{}: {}", short(&result.path), result.answer));
    let pair = |one: &RelationFound| (one.subject_number, one.object_number);
    for of_pair in result.relations.chunk_by(|a, b| pair(a) == pair(b)) {
        let Some(one) = of_pair.first() else { continue };
        let ([x0, y0, x1, y1], [u0, v0, u1, v1]) = (one.subject_box, one.object_box);
        text(&format!(
            "    {} {} {:.2} at {x0:.0},{y0:.0} to {x1:.0},{y1:.0} and {} {} {:.2} at {u0:.0},{v0:.0} to {u1:.0},{v1:.0}",
            result.subject, one.subject_number, one.subject_score, result.object, one.object_number, one.object_score
        ));
        for one in of_pair {
            text(&format!("        {:.2}  {}", one.confidence, one.relation));
        }
    }
    for one in &result.undecided {
        let (subject, object) = (one.subject_number, one.object_number);
        text(&format!("    open: {} ({subject} to {object}): {}", one.relation, one.reason));
    }
    for one in &result.candidates {
        let [x0, y0, x1, y1] = one.bounds;
        text(&format!("    maybe {:.2}  {} {x0:.0},{y0:.0} to {x1:.0},{y1:.0}", one.score, one.label));
    }
    result.notes.iter().for_each(|note| text(&format!("    note: {note}")));
    text(&format!("    frame: {}", result.frame));
    if let Some(path) = &result.annotated {
        text(&format!("    drawn: {}", short(path)));
    }
}

/// Which caption is true: each with its phrases, CLIP's own view beside it.
pub fn matched(result: &MatchResult) {
    text(&format!("{}: {}", short(&result.path), result.best));
    for (at, one) in result.captions.iter().enumerate() {
        let mark = if at == result.best_index { "* " } else { "  " };
        let dense = one.dcsm_score.map(|score| format!(", DCSM {score:.2}")).unwrap_or_default();
        text(&format!("{mark}{:.3}  {}   (CLIP alone {:.2}{dense})", one.score, one.text, one.clip_share));
        for phrase in &one.phrases {
            let probability = phrase.probability.map_or_else(|| "    ".to_owned(), |p| format!("{p:.2}"));
            text(&format!("      {:<9} {probability}  {:<28} {}", phrase.verdict, phrase.text, phrase.seen));
        }
    }
    result.notes.iter().for_each(|note| text(&format!("    note: {note}")));
    result.annotated.iter().chain(&result.heatmaps).for_each(|path| text(&format!("    drawn: {}", short(path))));
}

/// What `models verify` found.
pub fn verified(verified: &Verified) {
    let mark = |ok: bool| if ok { "ok  " } else { "FAIL" };
    for row in &verified.files {
        text(&format!("{} {:<28} {:<10} {}", mark(row.ok), row.file, row.check, row.actual));
    }
    for row in &verified.values {
        text(&format!(
            "{} {:<48} expected {:>10.4}  found {:>10.4}  difference {:.1e} of {:.1e}",
            mark(row.ok),
            row.name,
            row.expected,
            row.actual,
            row.difference,
            row.tolerance
        ));
    }
    if verified.values.is_empty() {
        text("no output of this model was published; its files and its tensors were checked");
    }
}
