//! Resources: the index status, the models and their cards, and documents that ship with the program.

use std::sync::atomic::AtomicBool;

use rmcp::model::{CacheScope, ErrorData, Resource, ResourceContents, ResourceTemplate};
use serde_json::{Value, json};

use super::skills;
use crate::engine::{Engine, documents};
use crate::error::Error;
use crate::models::registry;
use crate::wire;

const STATUS_URI: &str = "clip-aware://index/status";
const MODEL_URI_START: &str = "clip-aware://models/";
/// The template whose `name` is completed.
pub(super) const MODEL_TEMPLATE: &str = "clip-aware://models/{name}";
const REFERENCE_URI_START: &str = "clip-aware://references/";
const LICENSE_URI: &str = "clip-aware://license";
const CARD_URI_START: &str = "hf://model/";
/// The template whose `owner` and `name` are completed.
pub(super) const CARD_TEMPLATE: &str = "hf://model/{owner}/{name}";
const JSON: &str = "application/json";
const MARKDOWN: &str = "text/markdown";
const LICENSE: &str = include_str!("../../LICENSE");

/// What stays as it is while the process lives, ms.
pub(super) const CONSTANT_TTL_MS: u64 = 3_600_000;

/// All resources, in order.
pub(super) fn list() -> Vec<Resource> {
    let status = Resource::new(STATUS_URI, "index-status")
        .with_title("Index status")
        .with_description("Which folders are indexed, with which model, how many images, what was skipped")
        .with_mime_type(JSON);
    let references = documents::REFERENCES.iter().map(|document| {
        Resource::new(format!("{REFERENCE_URI_START}{}", document.name), document.name)
            .with_title(document.title)
            .with_description(document.description)
            .with_mime_type(MARKDOWN)
            .with_size(document.text.len() as u64)
    });
    let license = Resource::new(LICENSE_URI, "license")
        .with_title("License of clip-aware")
        .with_mime_type("text/plain")
        .with_size(LICENSE.len() as u64);
    std::iter::once(status).chain(references).chain([skills::resource(), license]).collect()
}

/// All templates, in order.
pub(super) fn templates() -> Vec<ResourceTemplate> {
    let model = ResourceTemplate::new(MODEL_TEMPLATE, "model")
        .with_title("Model")
        .with_description("A model that `--model` knows by name")
        .with_mime_type(JSON);
    let card = ResourceTemplate::new(CARD_TEMPLATE, "model-card")
        .with_title("Model card")
        .with_description("The card of any model on the Hugging Face hub; fetched once, then from the cache")
        .with_mime_type(MARKDOWN);
    vec![model, card]
}

/// How long a client may keep a resource, ms, and for whom; `None` for what may change at any time.
pub(super) fn cache_hint(uri: &str) -> Option<(u64, CacheScope)> {
    if uri == STATUS_URI {
        None
    } else if uri.starts_with(CARD_URI_START) {
        // A token may open a card that others may not read.
        Some((CONSTANT_TTL_MS, CacheScope::Private))
    } else {
        Some((CONSTANT_TTL_MS, CacheScope::Public))
    }
}

/// What a URI names; blocking, for a card up to half a minute unless `cancel` is set.
///
/// # Errors
/// No such resource; the catalogue cannot be read; the hub does not give the card.
pub(super) fn read(engine: &Engine, uri: &str, cancel: &AtomicBool) -> Result<ResourceContents, ErrorData> {
    if uri == STATUS_URI {
        let status = wire::index_status(engine).map_err(|error| refusal(uri, &error))?;
        return Ok(json_contents(uri, &status));
    }
    if uri == LICENSE_URI {
        return Ok(ResourceContents::text(LICENSE, uri).with_mime_type("text/plain"));
    }
    if let Some(name) = uri.strip_prefix(REFERENCE_URI_START)
        && let Some(document) = documents::REFERENCES.iter().find(|document| document.name == name)
    {
        return Ok(ResourceContents::text(document.text, uri).with_mime_type(MARKDOWN));
    }
    if let Some(contents) = skills::read(uri) {
        return Ok(contents);
    }
    if let Some(repository) = uri.strip_prefix(CARD_URI_START) {
        let card = engine.model_card(repository, cancel).map_err(|error| refusal(uri, &error))?;
        return Ok(ResourceContents::text(card.text, uri).with_mime_type(MARKDOWN));
    }
    let name = uri.strip_prefix(MODEL_URI_START);
    match name.and_then(|name| registry::entries().iter().find(|entry| entry.name == name)) {
        Some(entry) => Ok(json_contents(uri, &json!(entry))),
        None => Err(ErrorData::resource_not_found("no such resource", Some(json!({ "uri": uri })))),
    }
}

/// An error with the hint of the next step. What is not there is not found; the rest may work another time.
fn refusal(uri: &str, error: &Error) -> ErrorData {
    let mut data = json!({ "uri": uri });
    if let (Some(hint), Some(data)) = (error.hint(), data.as_object_mut()) {
        data.insert("hint".to_owned(), Value::String(hint));
    }
    match error {
        Error::UnknownModel { .. } | Error::NoCard { .. } | Error::Hub { status: Some(401 | 403 | 404), .. } => {
            ErrorData::resource_not_found(error.to_string(), Some(data))
        }
        _ => ErrorData::internal_error(error.to_string(), Some(data)),
    }
}

fn json_contents(uri: &str, value: &Value) -> ResourceContents {
    ResourceContents::text(value.to_string(), uri).with_mime_type(JSON)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_now(engine: &Engine, uri: &str) -> Result<ResourceContents, ErrorData> {
        read(engine, uri, &AtomicBool::new(false))
    }

    #[test]
    fn every_resource_has_an_own_uri_a_title_and_its_true_size() {
        let root = tempfile::tempdir().unwrap();
        let engine = Engine::new(crate::mcp::tests::config(root.path()));
        let mut uris: Vec<_> = list().into_iter().map(|resource| resource.uri).collect();
        uris.sort();
        uris.dedup();
        assert_eq!(uris.len(), list().len());
        for resource in list().into_iter().filter(|resource| resource.uri != STATUS_URI) {
            assert!(resource.title.is_some(), "{}", resource.uri);
            let contents = read_now(&engine, &resource.uri).unwrap();
            let ResourceContents::TextResourceContents { text, mime_type, .. } = contents else { panic!("no text") };
            assert_eq!(resource.size, Some(text.len() as u64), "{}", resource.uri);
            assert_eq!(resource.mime_type, mime_type, "{}", resource.uri);
        }
    }

    #[test]
    fn documents_are_read_and_unknown_resources_are_not_found() {
        let root = tempfile::tempdir().unwrap();
        let engine = Engine::new(crate::mcp::tests::config(root.path()));
        for (uri, words) in [
            ("clip-aware://license", "Apache License"),
            ("clip-aware://references/clip_limitations", "CLIP"),
            ("skill://clip-aware-embeddings/references/models.md", "ViT-B/32"),
            ("clip-aware://models/clip-vit-b32", "openai/clip-vit-base-patch32"),
        ] {
            let contents = read_now(&engine, uri);
            assert!(
                matches!(&contents, Ok(ResourceContents::TextResourceContents { text, .. }) if text.contains(words)),
                "{uri}: {contents:?}"
            );
        }
        for uri in [
            "",
            "clip-aware://",
            "clip-aware://models/",
            "clip-aware://models/no-such",
            "clip-aware://references/",
            "clip-aware://references/../LICENSE",
            "file:///etc/passwd",
        ] {
            let error = read_now(&engine, uri).unwrap_err();
            assert_eq!(error.data, Some(json!({ "uri": uri })));
        }
    }

    #[test]
    fn a_card_names_a_repository_and_no_path() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("a/b")).unwrap();
        std::fs::write(root.path().join("a/b/README.md"), "secret").unwrap();
        let config = crate::config::Config { offline: true, ..crate::mcp::tests::config(root.path()) };
        let engine = Engine::new(config);
        let inside = root.path().join("a/b");
        for name in ["", "a", "a/b/c", "../a", "a/..", "a/b@x/../y", "starter", ".", inside.to_str().unwrap()] {
            let error = read_now(&engine, &format!("hf://model/{name}")).unwrap_err();
            assert!(error.message.contains("unknown model"), "{name}: {}", error.message);
        }
        let error = read_now(&engine, "hf://model/no-one-has-this/model").unwrap_err();
        assert!(error.message.contains("the network is off"), "{}", error.message);
        assert!(error.data.unwrap().pointer("/hint").is_some());
    }
}
