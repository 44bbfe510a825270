//! The agent skill over MCP (SEP-2640): listed with a manifest of hashes, read as resources, all from the binary.
//!
//! rmcp's own `SkillCatalog` serves a folder on the disk; this answers the same requests without one.

use std::fmt::Write as _;

use rmcp::model::{
    DIRECTORY_MIME_TYPE, ErrorData, GetSkillResult, ListSkillsResult, ReadResourceDirectoryResult, Resource,
    ResourceContents, Skill, SkillFrontmatter, SkillResource, SkillResources,
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::engine::documents::{self, SKILL_MD, SKILL_NAME, SkillFile};

const SCHEME: &str = "skill://";
const MARKDOWN: &str = "text/markdown";

fn uri_of(path: &str) -> String {
    format!("{SCHEME}{SKILL_NAME}/{path}")
}

fn description() -> String {
    let fields = documents::skill_fields();
    fields.into_iter().find(|(name, _)| name == "description").map(|(_, values)| values.join("")).unwrap_or_default()
}

/// The entry point, for `resources/list`; the references are read by the links in it.
pub(super) fn resource() -> Resource {
    let size = documents::skill_files().first().map_or(0, |file| file.text.len() as u64);
    Resource::new(uri_of(SKILL_MD), SKILL_NAME)
        .with_title("Agent skill")
        .with_description(description())
        .with_mime_type(MARKDOWN)
        .with_size(size)
}

/// `skills/list`.
pub(super) fn list() -> ListSkillsResult {
    ListSkillsResult::with_all_items(vec![skill()])
}

/// `skills/get`.
///
/// # Errors
/// Another skill's URI.
pub(super) fn get(uri: &str) -> Result<GetSkillResult, ErrorData> {
    if uri == uri_of(SKILL_MD) { Ok(GetSkillResult::new(skill())) } else { Err(unknown("no such skill", uri)) }
}

/// `resources/read` of a file of the skill.
pub(super) fn read(uri: &str) -> Option<ResourceContents> {
    let file = documents::skill_files().into_iter().find(|file| uri_of(&file.path) == uri)?;
    Some(ResourceContents::text(file.text, uri).with_mime_type(MARKDOWN))
}

/// `resources/directory/read` of a folder of the skill.
///
/// # Errors
/// No such folder.
pub(super) fn read_directory(uri: &str) -> Result<ReadResourceDirectoryResult, ErrorData> {
    let inside = uri.strip_prefix(SCHEME).and_then(|path| path.strip_prefix(SKILL_NAME));
    let references = Resource::new(uri_of("references"), "references").with_mime_type(DIRECTORY_MIME_TYPE);
    let files = documents::skill_files();
    let of = |wanted: &dyn Fn(&SkillFile) -> bool| -> Vec<Resource> {
        files.iter().filter(|file| wanted(file)).map(file_resource).collect()
    };
    let children = match inside.map(|path| path.trim_end_matches('/')) {
        Some("") => {
            let mut children = of(&|file| !file.path.contains('/'));
            children.push(references);
            children
        }
        Some("/references") => of(&|file| file.path.starts_with("references/")),
        _ => return Err(unknown("not a directory", uri)),
    };
    Ok(ReadResourceDirectoryResult::with_all_items(children))
}

fn file_resource(file: &SkillFile) -> Resource {
    let name = file.path.rsplit('/').next().unwrap_or(&file.path);
    Resource::new(uri_of(&file.path), name).with_mime_type(MARKDOWN).with_size(file.text.len() as u64)
}

fn skill() -> Skill {
    let mut frontmatter = SkillFrontmatter::new(SKILL_NAME, description());
    for (name, values) in documents::skill_fields() {
        if name != "name" && name != "description" {
            let value = match values.as_slice() {
                [value] => Value::String(value.clone()),
                _ => json!(values),
            };
            frontmatter = frontmatter.with_field(name, value);
        }
    }
    let files = documents::skill_files();
    let entry =
        |file: &SkillFile| SkillResource::new(uri_of(&file.path), digest(file.text.as_bytes()), file.text.len() as u64);
    let mut manifest: Vec<SkillResource> = files.iter().map(entry).collect();
    manifest.sort_by(|a, b| a.uri.cmp(&b.uri));
    Skill::new(uri_of(SKILL_MD), frontmatter, SkillResources::Files(manifest))
}

/// `sha256:` and the hash in small hex digits.
fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold("sha256:".to_owned(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn unknown(message: &'static str, uri: &str) -> ErrorData {
    ErrorData::invalid_params(message, Some(json!({ "uri": uri })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manifest_describes_what_is_read() {
        let listed = list().skills;
        let [skill] = listed.as_slice() else { panic!("one skill") };
        skill.validate().unwrap();
        assert_eq!(get(&skill.uri).unwrap().skill, *skill);
        let SkillResources::Files(files) = &skill.resources else { panic!("files") };
        assert_eq!(files.len(), documents::skill_files().len());
        for file in files {
            let Some(ResourceContents::TextResourceContents { text, .. }) = read(&file.uri) else {
                panic!("{}", file.uri)
            };
            file.verify(text.as_bytes()).unwrap();
        }
        assert_eq!(skill.frontmatter.extra.get("license"), Some(&json!("Apache-2.0")));
    }

    #[test]
    fn every_file_is_reached_through_the_directories() {
        let root = read_directory("skill://clip-aware-embeddings/").unwrap().resources;
        assert_eq!(root.len(), 2);
        let folder = root.iter().find(|resource| resource.is_directory()).unwrap();
        let references = read_directory(&folder.uri).unwrap().resources;
        assert_eq!(references.len() + 1, documents::skill_files().len());
        assert!(references.iter().all(|resource| read(&resource.uri).is_some()));
    }

    #[test]
    fn other_skills_and_folders_are_not_found() {
        for uri in ["skill://other/SKILL.md", "skill://clip-aware-embeddings/references/../SKILL.md", "skill://", ""] {
            assert!(get(uri).is_err() && read(uri).is_none() && read_directory(uri).is_err(), "{uri}");
        }
    }
}
