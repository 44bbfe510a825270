//! What a tool's result looks like to a model: a few lines of text beside the structured content, links, previews.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rmcp::model::{CallToolResult, ContentBlock, Resource};
use serde::Serialize;
use serde_json::Value;
use url::Url;

use super::arguments::Fault;
use crate::engine::Engine;
use crate::error::Error;
use crate::wire::{
    Advice, ClassifyArgs, ClassifyResponse, ClassifyResult, Hit, IndexArgs, IndexResponse, NextCall, RouteArgs,
    RouteResponse, SearchArgs, SearchResponse,
};

/// Most links to hits in one answer.
const MAX_LINKS: usize = 5;
/// Most previews in one answer.
const MAX_PREVIEWS: usize = 20;
/// All previews of an answer together, base64 bytes: some clients refuse results over 1 MB.
pub(super) const MAX_PREVIEW_BYTES: usize = 600 * 1024;
/// Longer side of a preview, pixels: of a few, and of many.
const PREVIEW_SIDES: (u32, u32) = (512, 256);
/// As many previews are a few.
const FEW_PREVIEWS: usize = 4;
/// Labels shown in the text; the structured content has them all.
const SHOWN_LABELS: usize = 3;

/// A successful result.
#[derive(Debug, Default)]
pub(super) struct Answer {
    text: String,
    /// JPEG files.
    previews: Vec<Vec<u8>>,
    links: Vec<Resource>,
    structured: Value,
}

impl Answer {
    pub(super) fn text(text: impl Into<String>) -> Self {
        Self { text: text.into().trim_end().into(), ..Self::default() }
    }

    /// Adds the response as structured content.
    pub(super) fn with_structured(mut self, response: &impl Serialize) -> Self {
        // By way of text: a f32 of 0.91 would otherwise come out as 0.9100000262260437.
        let text = serde_json::to_string(response);
        self.structured = text.and_then(|text| serde_json::from_str(&text)).unwrap_or_default();
        self
    }

    /// The protocol's form. Clients from before 2025-06-18 do not know links.
    pub(super) fn into_result(self, with_links: bool) -> CallToolResult {
        let mut content = vec![ContentBlock::text(self.text)];
        content
            .extend(self.previews.iter().map(|jpeg| ContentBlock::image(BASE64_STANDARD.encode(jpeg), "image/jpeg")));
        if with_links {
            content.extend(self.links.into_iter().map(ContentBlock::resource_link));
        }
        let mut result = CallToolResult::success(content);
        result.structured_content = Some(self.structured);
        result
    }
}

/// A failure that the caller can read and act on.
pub(super) fn failure(message: &str, hint: Option<&str>) -> CallToolResult {
    let mut text = format!("error: {message}");
    if let Some(hint) = hint {
        let _ = write!(text, "\nhint: {hint}");
    }
    CallToolResult::error(vec![ContentBlock::text(text)])
}

impl From<&Error> for CallToolResultFailure {
    fn from(error: &Error) -> Self {
        Self(failure(&error.to_string(), error.hint().as_deref()))
    }
}

impl From<&Fault> for CallToolResultFailure {
    fn from(fault: &Fault) -> Self {
        Self(failure(&fault.message, Some(&fault.hint)))
    }
}

/// [`failure`] of an error or of a fault in the arguments.
pub(super) struct CallToolResultFailure(pub(super) CallToolResult);

/// The text of `route_query`.
pub(super) fn route(_engine: &Engine, _args: &RouteArgs, routed: &RouteResponse) -> Answer {
    let suits = if routed.clip_suitable { "CLIP suits it" } else { "CLIP does not suit it" };
    let mut text = format!("{} ({:.2}): {suits}: {}\n", routed.labels.join(" + "), routed.confidence, routed.why);
    let _ = writeln!(text, "next: {}", call_line(&routed.next));
    if let Some(other) = routed.alternatives.first() {
        let _ = writeln!(text, "or: {}", call_line(other));
    }
    for (number, step) in (1..).zip(&routed.steps) {
        let _ = writeln!(text, "step {number}: {}", call_line(&step.call));
    }
    Answer::text(text)
}

fn call_line(call: &NextCall) -> String {
    let Some(tool) = &call.tool else { return "no tool of this server".into() };
    let mut line = format!("{tool} {}", serde_json::to_string(&call.arguments).unwrap_or_default());
    if !call.missing.is_empty() {
        let _ = write!(line, ", and give {}", call.missing.join(", "));
    }
    if call.available == Some(false) {
        line.push_str(" (not in this version)");
    }
    line
}

/// The text of `index_folder`.
pub(super) fn index_run(_engine: &Engine, _args: &IndexArgs, run: &IndexResponse) -> Answer {
    let mut text = format!(
        "{}{}: {} images, {} new, {} changed, {} moved, {} unchanged, {} removed, {} skipped; {:.1} s ({:.0} images/s), model {}\n",
        if run.cancelled { "cancelled, what was done is kept; " } else { "indexed " },
        shown(&run.folder),
        run.found,
        run.added,
        run.updated,
        run.moved,
        run.unchanged,
        run.removed,
        run.skipped,
        run.seconds,
        run.images_per_second,
        run.model,
    );
    if let Some(warning) = &run.warning {
        let _ = writeln!(text, "warning: {}", shown(warning));
    }
    for image in &run.skipped_examples {
        let _ = writeln!(text, "skipped {}: {}", shown(&image.path), shown(&image.reason));
    }
    if run.cancelled {
        text.push_str("call index_folder again to go on\n");
    }
    Answer::text(text)
}

/// The text, links and previews of `clip_search`.
pub(super) fn search(engine: &Engine, args: &SearchArgs, found: &SearchResponse) -> Answer {
    let mut text = String::new();
    if let Some(note) = note(Some(&found.advice)) {
        let _ = writeln!(text, "{note}");
    }
    if found.results.is_empty() {
        let _ = writeln!(
            text,
            "no image of {} reaches relevance {:.2}; min_relevance 0 shows the nearest ones anyway",
            found.indexed, found.min_relevance
        );
    }
    for (rank, hit) in (1..).zip(&found.results) {
        let _ = writeln!(text, "{rank}. {}", hit_line(hit));
    }
    let _ = write!(text, "{} of {} images", found.results.len(), found.indexed);
    if found.skipped > 0 {
        let _ = write!(text, ", {} files not searchable", found.skipped);
    }
    let _ = writeln!(text, ", model {}", found.model);

    let previews = if args.thumbnails == Some(true) { previews(engine, &found.results) } else { Vec::new() };
    if !previews.is_empty() {
        let _ = writeln!(text, "previews of hits 1 to {} follow in order", previews.len());
    }
    let links = found.results.iter().take(MAX_LINKS).filter_map(|hit| link(engine, &hit.path)).collect();
    Answer { previews, links, ..Answer::text(text) }
}

/// `0.91 photos/a.jpg (640x480), not: two dogs, same picture: b.jpg`.
fn hit_line(hit: &Hit) -> String {
    let mut line = format!("{:.2} {} ({}x{})", hit.relevance, shown(&hit.path), hit.width, hit.height);
    for check in &hit.checks {
        let _ = write!(line, ", {}: {}", if check.passed { "checked" } else { "not" }, shown(&check.what));
    }
    if let Some(first) = hit.duplicates.first() {
        let _ = write!(line, ", same picture: {}", shown(first));
        if hit.duplicates.len() > 1 {
            let _ = write!(line, " and {} more", hit.duplicates.len() - 1);
        }
    }
    line
}

/// Previews of the first hits; they end at the first image that cannot be read, so that their order stays clear.
fn previews(engine: &Engine, hits: &[Hit]) -> Vec<Vec<u8>> {
    let (large, small) = PREVIEW_SIDES;
    let side = if hits.len() <= FEW_PREVIEWS { large } else { small };
    let mut room = MAX_PREVIEW_BYTES;
    let mut previews = Vec::new();
    for hit in hits.iter().take(MAX_PREVIEWS) {
        let jpeg = match engine.thumbnail(&hit.path, side) {
            Ok(jpeg) => jpeg,
            Err(error) => {
                tracing::warn!("no preview of {}: {error}", hit.path);
                break;
            }
        };
        let base64_bytes = jpeg.len().div_ceil(3) * 4;
        if base64_bytes > room {
            break;
        }
        room -= base64_bytes;
        previews.push(jpeg);
    }
    previews
}

/// A `file://` link to an image; none when the file is gone or outside the roots by now.
fn link(engine: &Engine, path: &str) -> Option<Resource> {
    let path = engine.resolve(path).ok()?;
    let uri = Url::from_file_path(&path).ok()?;
    let name = path.file_name()?.to_string_lossy().into_owned();
    let link = Resource::new(uri, name);
    Some(match mime_type(&path) {
        Some(mime_type) => link.with_mime_type(mime_type),
        None => link,
    })
}

fn mime_type(path: &std::path::Path) -> Option<&'static str> {
    let extension = path.extension()?.to_str()?.to_ascii_lowercase();
    Some(match extension.as_str() {
        "jpg" | "jpeg" => "image/jpeg",
        "png" => "image/png",
        "webp" => "image/webp",
        "gif" => "image/gif",
        "bmp" => "image/bmp",
        "tif" | "tiff" => "image/tiff",
        "heic" => "image/heic",
        "heif" => "image/heif",
        "avif" => "image/avif",
        _ => return None,
    })
}

/// The text of `classify_image`.
pub(super) fn classification(_engine: &Engine, _args: &ClassifyArgs, response: &ClassifyResponse) -> Answer {
    let mut text = String::new();
    for image in &response.images {
        let _ = writeln!(text, "{}: {}", shown(&image.path), classes(image));
    }
    let _ = writeln!(text, "model {}", response.model);
    Answer::text(text)
}

/// `cat 0.93, dog 0.05` or `none of these (0.81); nearest: cat 0.11`.
fn classes(image: &ClassifyResult) -> String {
    if let Some(error) = &image.error {
        return format!("error: {}", shown(error));
    }
    let scores: Vec<_> = image
        .scores
        .iter()
        .take(SHOWN_LABELS)
        .map(|score| format!("{} {:.2}", shown(&score.label), score.probability))
        .collect();
    let scores = scores.join(", ");
    match image.best {
        Some(_) => scores,
        None => format!("none of these ({:.2}); nearest: {scores}", image.none_of_these),
    }
}

/// An answer's previews and text.
pub(super) fn with_previews(text: String, previews: Vec<Vec<u8>>) -> Answer {
    Answer { previews, ..Answer::text(text) }
}

fn note(advice: Option<&Advice>) -> Option<String> {
    let note = advice?.note.as_deref()?;
    Some(format!("note: {}", shown(note)))
}

/// Names from the disk, on one line: a file name must not be able to write lines of its own.
pub(super) fn shown(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Check, LabelScore, SkippedImage};

    fn hit(path: &str, relevance: f32) -> Hit {
        Hit {
            path: path.into(),
            score: 0.27,
            relevance,
            checks: Vec::new(),
            concepts: Vec::new(),
            width: 640,
            height: 480,
            duplicates: Vec::new(),
        }
    }

    fn engine(root: &std::path::Path) -> Engine {
        Engine::new(crate::mcp::tests::config(root))
    }

    fn found(results: Vec<Hit>) -> SearchResponse {
        SearchResponse {
            query: "q".into(),
            advice: Advice { primary: "semantic_search".into(), clip_suitable: true, note: None },
            results,
            min_relevance: 0.5,
            indexed: 300,
            considered: 2,
            skipped: 2,
            model: "m".into(),
        }
    }

    #[test]
    fn a_search_reads_as_ranked_lines() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("a b.jpg"), "x").unwrap();
        let mut second = hit("c\nd.png", 0.875);
        second.checks =
            vec![Check { what: "2 dogs".into(), passed: false, probability: Some(0.1), seen: "1 found".into() }];
        second.duplicates = vec!["e.png".into(), "f.png".into()];
        let found = found(vec![hit("a b.jpg", 0.914), second]);
        let answer = search(&engine(root.path()), &SearchArgs::default(), &found).with_structured(&found);
        let expected = "1. 0.91 a b.jpg (640x480)\n2. 0.88 c\u{fffd}d.png (640x480), not: 2 dogs, same picture: e.png and 1 more\n\
                        2 of 300 images, 2 files not searchable, model m";
        assert_eq!(answer.text, expected);
        assert_eq!(answer.links.len(), 1, "a link only to a file that is there");
        assert!(answer.links.iter().all(|link| link.uri.starts_with("file:///") && link.uri.ends_with("/a%20b.jpg")));
        assert_eq!(answer.structured.pointer("/results/0/relevance"), Some(&serde_json::json!(0.914)));
        assert_eq!(answer.into_result(false).content.len(), 1, "no links for old clients");
    }

    #[test]
    fn an_empty_search_says_what_to_try() {
        let root = tempfile::tempdir().unwrap();
        let answer = search(&engine(root.path()), &SearchArgs::default(), &found(Vec::new()));
        assert!(answer.text.contains("no image of 300 reaches relevance 0.50; min_relevance 0"), "{}", answer.text);
    }

    #[test]
    fn a_classification_reads_as_one_line_per_image() {
        let score = |label: &str, probability| LabelScore { label: label.into(), probability };
        let image = |best: Option<&str>, error: Option<&str>| ClassifyResult {
            path: "a.jpg".into(),
            scores: vec![score("cat", 0.9), score("dog", 0.06), score("car", 0.03), score("sky", 0.01)],
            best: best.map(Into::into),
            none_of_these: 0.8,
            error: error.map(Into::into),
        };
        assert_eq!(classes(&image(Some("cat"), None)), "cat 0.90, dog 0.06, car 0.03");
        assert_eq!(classes(&image(None, None)), "none of these (0.80); nearest: cat 0.90, dog 0.06, car 0.03");
        assert_eq!(classes(&image(None, Some("is empty"))), "error: is empty");
    }

    #[test]
    fn an_index_run_reads_as_counts_and_reasons() {
        let run = IndexResponse {
            folder: "photos".into(),
            found: 10,
            added: 8,
            updated: 1,
            moved: 0,
            unchanged: 0,
            removed: 0,
            skipped: 1,
            skipped_examples: vec![SkippedImage { path: "b.jpg".into(), reason: "b.jpg is empty".into() }],
            seconds: 2.04,
            images_per_second: 4.4,
            cancelled: true,
            warning: None,
            model: "m".into(),
            revision: "r".into(),
            precision: "f32".into(),
            device: "cpu".into(),
        };
        let root = tempfile::tempdir().unwrap();
        let answer = index_run(&engine(root.path()), &IndexArgs::default(), &run);
        let expected = "cancelled, what was done is kept; photos: 10 images, 8 new, 1 changed, 0 moved, 0 unchanged, 0 removed, \
                        1 skipped; 2.0 s (4 images/s), model m\nskipped b.jpg: b.jpg is empty\ncall index_folder again to go on";
        assert_eq!(answer.text, expected);
    }
}
