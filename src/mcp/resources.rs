//! Resources: the index status, the models, and documents that ship with the program.

use rmcp::model::{ErrorData, Resource, ResourceContents, ResourceTemplate};
use serde_json::{Value, json};

use crate::engine::Engine;
use crate::models::registry;
use crate::wire;

const STATUS_URI: &str = "clip-aware://index/status";
const MODEL_URI_START: &str = "clip-aware://models/";
/// The template whose `name` is completed.
pub(super) const MODEL_TEMPLATE: &str = "clip-aware://models/{name}";
const JSON: &str = "application/json";

/// A document that ships with the program.
struct Document {
    uri: &'static str,
    name: &'static str,
    title: &'static str,
    mime_type: &'static str,
    text: &'static str,
}

/// Every document, one line each: its text by `include_str!`.
const DOCUMENTS: &[Document] = &[Document {
    uri: "clip-aware://license",
    name: "license",
    title: "License of clip-aware",
    mime_type: "text/plain",
    text: include_str!("../../LICENSE"),
}];

/// All resources, in order.
pub(super) fn list() -> Vec<Resource> {
    let status = Resource::new(STATUS_URI, "index-status")
        .with_title("Index status")
        .with_description("Which folders are indexed, with which model, how many images, what was skipped")
        .with_mime_type(JSON);
    let documents = DOCUMENTS.iter().map(|document| {
        Resource::new(document.uri, document.name)
            .with_title(document.title)
            .with_mime_type(document.mime_type)
            .with_size(document.text.len() as u64)
    });
    std::iter::once(status).chain(documents).collect()
}

/// All templates, in order.
pub(super) fn templates() -> Vec<ResourceTemplate> {
    let model = ResourceTemplate::new(MODEL_TEMPLATE, "model")
        .with_title("Model")
        .with_description("A model that `--model` knows by name")
        .with_mime_type(JSON);
    vec![model]
}

/// Whether a resource stays as it is while the process lives.
pub(super) fn is_constant(uri: &str) -> bool {
    uri != STATUS_URI
}

/// What a URI names; blocking.
///
/// # Errors
/// No such resource, or the catalogue cannot be read.
pub(super) fn read(engine: &Engine, uri: &str) -> Result<ResourceContents, ErrorData> {
    if uri == STATUS_URI {
        let status = wire::index_status(engine).map_err(|error| {
            let hint = error.hint().map(|hint| json!({ "uri": uri, "hint": hint }));
            ErrorData::internal_error(error.to_string(), hint)
        })?;
        return Ok(json_contents(uri, &status));
    }
    if let Some(document) = DOCUMENTS.iter().find(|document| document.uri == uri) {
        return Ok(ResourceContents::text(document.text, uri).with_mime_type(document.mime_type));
    }
    let name = uri.strip_prefix(MODEL_URI_START);
    match name.and_then(|name| registry::entries().iter().find(|entry| entry.name == name)) {
        Some(entry) => Ok(json_contents(uri, &json!(entry))),
        None => Err(ErrorData::resource_not_found("no such resource", Some(json!({ "uri": uri })))),
    }
}

fn json_contents(uri: &str, value: &Value) -> ResourceContents {
    ResourceContents::text(value.to_string(), uri).with_mime_type(JSON)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_resource_has_an_own_uri_and_every_document_a_text() {
        let mut uris: Vec<_> = list().into_iter().map(|resource| resource.uri).collect();
        uris.sort();
        uris.dedup();
        assert_eq!(uris.len(), list().len());
        assert!(
            DOCUMENTS.iter().all(|document| !document.text.is_empty() && document.uri.starts_with("clip-aware://"))
        );
    }

    #[test]
    fn documents_are_read_and_unknown_resources_are_not_found() {
        let root = tempfile::tempdir().unwrap();
        let engine = Engine::new(crate::mcp::tests::config(root.path()));
        assert!(matches!(
            read(&engine, "clip-aware://license"),
            Ok(ResourceContents::TextResourceContents { text, .. }) if text.contains("Apache License")
        ));
        for uri in ["", "clip-aware://", "clip-aware://models/", "clip-aware://models/no-such", "file:///etc/passwd"] {
            let error = read(&engine, uri).unwrap_err();
            assert_eq!(error.data, Some(json!({ "uri": uri })));
        }
    }
}
