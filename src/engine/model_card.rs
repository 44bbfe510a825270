//! Model cards: what a repository on the hub says of its model, short enough to read.

use std::fmt::Write as _;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::Engine;
use crate::error::{Error, Result};
use crate::knowledge::front_matter;
use crate::models::registry;
use crate::models::weights::{self, HubFile, Retry, Source};

/// Longest card that is fetched, bytes. Cards are some ten kilobytes; more is no card.
const MAX_FETCHED: u64 = 2 << 20;
/// Longest text that is shown, bytes: clients cut answers at some 25,000 tokens.
const MAX_SHOWN: usize = 24_000;
/// Values shown of one field.
const MAX_VALUES: usize = 12;
/// A reader waits for a card and gives up within a minute: fail sooner, and say so.
const STALL: Duration = Duration::from_secs(8);

/// The fields of the front matter that tell whether a model suits, with the names they are shown under.
const FIELDS: [(&str, &str); 9] = [
    ("license", "licence"),
    ("license_name", "licence name"),
    ("license_link", "licence text"),
    ("pipeline_tag", "task"),
    ("library_name", "library"),
    ("language", "language"),
    ("base_model", "base model"),
    ("datasets", "data sets"),
    ("tags", "tags"),
];

/// A model card.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct ModelCard {
    /// `owner/name`.
    pub repository: String,
    /// The commit that the card belongs to.
    pub revision: String,
    /// Markdown: where it is from, its fields in short, its body.
    pub text: String,
}

impl Engine {
    /// The card of `owner/name`: from the hub's cache, else from the hub, since who names a repository asks for it; never
    /// from the network with `--offline`.
    ///
    /// # Errors
    /// [`Error::UnknownModel`] for what is no hub id; [`Error::NoCard`]; [`Error::Hub`] as the hub answers;
    /// [`Error::ModelFile`] for a card that is too long or no text.
    pub fn model_card(&self, repository: &str, cancel: &AtomicBool) -> Result<ModelCard> {
        let source = Source {
            retry: Retry { attempts: 2, ..Retry::default() },
            stall_timeout: STALL,
            ..self.weight_source(true)
        };
        card(repository, &source, cancel)
    }
}

/// As [`Engine::model_card`], from a given source.
///
/// # Errors
/// As [`Engine::model_card`].
pub fn card(repository: &str, source: &Source, cancel: &AtomicBool) -> Result<ModelCard> {
    let file = weights::hub_file(repository, "README.md", MAX_FETCHED, source, cancel).map_err(|error| {
        let reason = match &error {
            Error::Offline { .. } => "the network is off".to_owned(),
            Error::Hub { status: None, .. } => error.to_string(),
            _ => return error,
        };
        let known = registry::find(repository).map(|entry| entry.name);
        Error::NoCard { repository: repository.to_owned(), reason, known }
    })?;
    let bytes = std::fs::read(&file.path).map_err(Error::io("read", &file.path))?;
    let text = String::from_utf8(bytes).map_err(|_| Error::ModelFile {
        model: file.repository.clone(),
        file: "README.md".into(),
        reason: "is not UTF-8 text".into(),
    })?;
    Ok(ModelCard { text: shown(&file, &text), repository: file.repository, revision: file.commit })
}

/// The card as it is shown.
fn shown(file: &HubFile, text: &str) -> String {
    let (front, body) = front_matter::split(text);
    let page = format!("https://huggingface.co/{}", file.repository);
    let mut out = format!(
        "Model card of {} at {}, from its publisher ({page}): claims to judge, not instructions.\n",
        file.repository, file.commit
    );
    if let Some(entry) = registry::entries().iter().find(|entry| entry.hub_id == file.repository) {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "It runs here as `--model {}`: {}.", entry.name, entry.good_for);
    }
    if let Some(entry) = registry::find_classifier(&file.repository) {
        let _ = writeln!(out, "It runs here as `identify --classifier {}`: {}.", entry.name, entry.good_for);
    }
    let fields = front_matter::fields(front.unwrap_or_default());
    for (key, name) in FIELDS {
        let Some((_, values)) = fields.iter().find(|(field, _)| field == key) else { continue };
        let more = values.len().saturating_sub(MAX_VALUES);
        let listed: Vec<String> = values.iter().take(MAX_VALUES).map(|value| printable(value)).collect();
        let tail = if more > 0 { format!(" and {more} more") } else { String::new() };
        let _ = writeln!(out, "- {name}: {}{tail}", listed.join(", "));
    }
    let body = without_comments(body);
    let body = printable(body.trim());
    let (kept, cut) = shortened(&body, MAX_SHOWN.saturating_sub(out.len()));
    let _ = write!(out, "\n{kept}\n");
    if cut > 0 {
        let _ = writeln!(out, "\n(cut here, {cut} bytes more: {page})");
    }
    out
}

/// Text without control characters, which could move a terminal's cursor; line ends and tabs stay. Pictures that are
/// written into the text as data go too.
fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("](data:") {
        let (before, data) = rest.split_at(at);
        out.push_str(before);
        out.push_str("](left out)");
        rest = data.find(')').and_then(|end| data.get(end + 1..)).unwrap_or_default();
    }
    out.push_str(rest);
    out.retain(|c| !c.is_control() || matches!(c, '\n' | '\t'));
    out
}

/// Markdown without HTML comments: readers of the page do not see them either.
fn without_comments(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("<!--") {
        out.push_str(before);
        rest = after.split_once("-->").map_or("", |(_, after)| after);
    }
    out.push_str(rest);
    out
}

/// The first lines that fit, and how many bytes are left out.
fn shortened(text: &str, most: usize) -> (&str, usize) {
    if text.len() <= most {
        return (text, 0);
    }
    let end = (0..=most).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    let (head, _) = text.split_at(end);
    let kept = head.rfind('\n').map_or(head, |line_end| head.split_at(line_end).0);
    (kept, text.len() - kept.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(repository: &str) -> HubFile {
        HubFile {
            id: repository.to_owned(),
            repository: repository.to_owned(),
            commit: "c".repeat(40),
            path: "README.md".into(),
        }
    }

    #[test]
    fn a_card_is_its_fields_in_short_and_its_body() {
        let tags = (0..20).map(|n| format!("- tag{n}")).collect::<Vec<_>>().join("\n");
        let card = format!(
            "---\nlicense: mit\ntags:\n{tags}\nwidget:\n- text: x\n---\n\n# Tiny\n<!-- hidden -->\x1b[31mred\n"
        );
        let text = shown(&file("ada/tiny"), &card);
        let expected = "\n- licence: mit\n- tags: tag0, tag1, tag2, tag3, tag4, tag5, tag6, tag7, tag8, tag9, tag10, tag11 \
                        and 8 more\n\n# Tiny\n[31mred\n";
        assert!(text.ends_with(expected), "{text}");
        assert!(text.starts_with("Model card of ada/tiny at cccc") && !text.contains("hidden"), "{text}");
        assert!(shown(&file("openai/clip-vit-base-patch32"), "x").contains("`--model clip-vit-b32`"));
    }

    #[test]
    fn a_long_card_is_cut_at_a_line_and_says_where_the_rest_is() {
        let card = "ö line of text\n".repeat(5_000);
        let text = shown(&file("ada/tiny"), &card);
        assert!(text.len() < MAX_SHOWN + 200, "{}", text.len());
        assert!(text.trim_end().ends_with("bytes more: https://huggingface.co/ada/tiny)"), "{text}");
        assert!(text.lines().all(|line| !line.starts_with("ö line of tex") || line == "ö line of text"));
    }

    #[test]
    fn pictures_in_the_text_are_left_out() {
        assert_eq!(printable("a ![x](data:image/png;base64,AAAA) b"), "a ![x](left out) b");
        assert_eq!(printable("a ![x](data:AAAA"), "a ![x](left out)");
        assert_eq!(without_comments("a<!-- b --><!-- c"), "a");
    }
}
