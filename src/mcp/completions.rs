//! Completions: folders for the prompt, model and repository names for the resource templates.

use std::path::{Path, PathBuf};

use rmcp::model::{CompleteRequestParams, CompletionInfo, ErrorData, Reference};

use super::{prompts, resources};
use crate::engine::Engine;
use crate::models::registry;
use crate::wire;

/// Entries of a folder that are looked at, so that a huge one costs no noticeable time.
const MAX_ENTRIES: usize = 10_000;

/// Values for the argument that begin with what is typed already; blocking.
///
/// # Errors
/// The prompt or template is unknown.
pub(super) fn complete(engine: &Engine, request: &CompleteRequestParams) -> Result<CompletionInfo, ErrorData> {
    let (name, typed) = (request.argument.name.as_str(), request.argument.value.as_str());
    let values = match &request.r#ref {
        Reference::Prompt(prompt) if prompt.name == prompts::PLAN => {
            if name == prompts::FOLDER {
                folders(engine, typed)
            } else {
                Vec::new()
            }
        }
        Reference::Prompt(prompt) if prompt.name == prompts::EXPLAIN => {
            if name == prompts::TOPIC {
                wire::topic_names(typed)
            } else {
                Vec::new()
            }
        }
        Reference::Resource(template) if template.uri == resources::MODEL_TEMPLATE => {
            let names = registry::entries().iter().map(|entry| entry.name.to_owned());
            if name == "name" { names.filter(|name| name.starts_with(typed)).collect() } else { Vec::new() }
        }
        Reference::Resource(template) if template.uri == resources::CARD_TEMPLATE => {
            let owner = request.context.as_ref().and_then(|context| context.get_argument("owner"));
            repositories(name, typed, owner.map(String::as_str))
        }
        _ => return Err(ErrorData::invalid_params("nothing of this name can be completed", None)),
    };
    let total = values.len();
    let first: Vec<_> = values.into_iter().take(CompletionInfo::MAX_VALUES).collect();
    let has_more = first.len() < total;
    CompletionInfo::with_pagination(first, u32::try_from(total).ok(), has_more)
        .map_err(|reason| ErrorData::internal_error(reason, None))
}

/// Owners of the known models' repositories, or the names of the repositories of one owner, or of all.
fn repositories(argument: &str, typed: &str, owner: Option<&str>) -> Vec<String> {
    let ids = registry::entries().iter().filter_map(|entry| entry.hub_id.split_once('/'));
    let mut found: Vec<String> = match argument {
        "owner" => ids.map(|(owner, _)| owner.to_owned()).collect(),
        "name" => {
            ids.filter(|(of, _)| owner.is_none_or(|owner| owner == *of)).map(|(_, name)| name.to_owned()).collect()
        }
        _ => Vec::new(),
    };
    found.retain(|value| value.starts_with(typed));
    found.sort();
    found.dedup();
    found
}

/// Folders inside the roots that begin with what is typed, in the form in which it is typed: relative or absolute.
fn folders(engine: &Engine, typed: &str) -> Vec<String> {
    let (parent, start) = match typed.rfind(std::path::is_separator) {
        Some(at) => typed.split_at(at + 1),
        None => ("", typed),
    };
    let mut found: Vec<String> = if typed.is_empty() {
        // Nothing typed: the roots themselves come first.
        engine.config().roots.iter().map(|root| root.display().to_string()).collect()
    } else {
        Vec::new()
    };
    let Ok(folder) = engine.resolve(if parent.is_empty() { "." } else { parent }) else { return found };
    let mut names: Vec<_> = subfolders(&folder).filter(|name| name.starts_with(start)).collect();
    names.sort();
    let inside = |name: &String| engine.resolve(&format!("{parent}{name}")).is_ok();
    found.extend(names.into_iter().filter(inside).map(|name| format!("{parent}{name}")));
    found
}

/// Names of the folders in a folder, hidden ones left out.
fn subfolders(folder: &Path) -> impl Iterator<Item = String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().take(MAX_ENTRIES).filter_map(Result::ok);
    entries
        .filter(|entry| is_folder(&entry.path()))
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| !name.starts_with('.'))
}

fn is_folder(path: &PathBuf) -> bool {
    std::fs::metadata(path).is_ok_and(|metadata| metadata.is_dir())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rmcp::model::ArgumentInfo;

    fn complete_folder(engine: &Engine, typed: &str) -> Vec<String> {
        let request =
            CompleteRequestParams::new(Reference::for_prompt(prompts::PLAN), ArgumentInfo::new("folder", typed));
        complete(engine, &request).unwrap().values
    }

    #[test]
    fn folders_are_completed_inside_the_roots_only() {
        let root = tempfile::tempdir().unwrap();
        let engine = Engine::new(crate::mcp::tests::config(root.path()));
        for folder in ["photos/2025", "photos/2026", "pictures", ".hidden"] {
            std::fs::create_dir_all(root.path().join(folder)).unwrap();
        }
        std::fs::write(root.path().join("photos/2027.jpg"), "").unwrap();
        #[cfg(unix)]
        std::os::unix::fs::symlink("/", root.path().join("photos/2028")).unwrap();
        assert_eq!(complete_folder(&engine, "p"), ["photos", "pictures"]);
        assert_eq!(complete_folder(&engine, "photos/20"), ["photos/2025", "photos/2026"]);
        assert_eq!(complete_folder(&engine, "../"), Vec::<String>::new());
        assert_eq!(complete_folder(&engine, "/et"), Vec::<String>::new());
        assert_eq!(complete_folder(&engine, "").len(), 3, "the root and its two folders");
    }

    #[test]
    fn what_cannot_be_completed_is_refused_or_empty() {
        let root = tempfile::tempdir().unwrap();
        let engine = Engine::new(crate::mcp::tests::config(root.path()));
        let ask = |reference, argument: &str| {
            complete(&engine, &CompleteRequestParams::new(reference, ArgumentInfo::new(argument, "")))
        };
        assert_eq!(ask(Reference::for_prompt("no_such"), "folder").unwrap_err().code.0, -32602);
        assert_eq!(ask(Reference::for_resource("x://{y}"), "y").unwrap_err().code.0, -32602);
        assert_eq!(ask(Reference::for_prompt(prompts::EXPLAIN), "topic").unwrap().values.len(), 9);
        assert!(ask(Reference::for_prompt(prompts::PLAN), "request").unwrap().values.is_empty());
        let models = ask(Reference::for_resource(resources::MODEL_TEMPLATE), "name").unwrap().values;
        assert_eq!(models.len(), registry::entries().len().min(CompletionInfo::MAX_VALUES));
    }

    #[test]
    fn repositories_are_completed_within_their_owner() {
        assert_eq!(repositories("owner", "open", None), ["openai"]);
        let names = repositories("name", "", Some("openai"));
        assert!(names.len() >= 4 && names.iter().all(|name| name.starts_with("clip-")), "{names:?}");
        assert!(repositories("name", "siglip", Some("openai")).is_empty());
        assert!(repositories("name", "siglip", None).len() > 2);
    }
}
