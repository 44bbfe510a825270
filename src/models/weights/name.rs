//! What a model's name means: the starter, a folder, a file of weights, a registry name, a hub id.

use std::path::{Path, PathBuf};

use super::single::is_weights;
use super::source::expand_home;
use crate::error::{Error, Result};
use crate::models::registry;

/// A repository on the hub, at a revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HubName {
    /// As recorded: the registry's name where the table has the repository, else the hub id.
    pub(super) id: String,
    /// `owner/name`.
    pub(super) repository: String,
    /// A commit, branch or tag.
    pub(super) revision: String,
    /// The revision is the registry's choice, not the caller's.
    pub(super) pinned: bool,
}

/// A resolved name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Name {
    /// The model in the binary.
    Starter,
    /// A folder, which exists.
    Folder(PathBuf),
    /// A file of weights, which exists.
    File(PathBuf),
    /// A repository.
    Hub(HubName),
}

/// Resolves a name. In this order: `starter`; anything that is written as a path; the registry's own names; a folder
/// or file of weights that exists; the registry's aliases; `owner/name[@revision]`. So `./clip-vit-b32` is a folder, `clip-vit-b32` never is, and
/// a local `openai/clip-vit-base-patch32` wins over the hub's, as in transformers.
///
/// # Errors
/// [`Error::UnknownModel`] with the nearest names, [`Error::NotFound`] and [`Error::NotAFolder`] for a path,
/// [`Error::Argument`] for a revision that cannot be one.
pub(super) fn resolve(name: &str) -> Result<Name> {
    let name = name.trim();
    if name == "starter" {
        return Ok(Name::Starter);
    }
    if let Some(path) = written_as_path(name) {
        return at_path(path);
    }
    let (plain, revision) = match name.split_once('@') {
        Some((plain, revision)) => (plain, Some(checked_revision(revision)?)),
        None => (name, None),
    };
    let known = registry::find_repository(plain);
    let by_name = known.is_some_and(|entry| entry.name.eq_ignore_ascii_case(plain));
    let path = Path::new(name);
    if !by_name && (path.is_dir() || is_weights(path) && path.is_file()) {
        return at_path(path.to_path_buf());
    }
    if let Some(name) = on_hub(plain, revision) {
        return Ok(Name::Hub(name));
    }
    if is_weights(path) {
        return Err(Error::NotFound { path: path.to_path_buf() });
    }
    Err(Error::UnknownModel { name: name.to_owned(), known: registry::nearest(plain) })
}

/// A known model, or `owner/name`; `revision` as the caller gave it.
fn on_hub(plain: &str, revision: Option<String>) -> Option<HubName> {
    if let Some(entry) = registry::find_repository(plain) {
        let pinned = revision.is_none() && entry.revision.is_some();
        let revision = revision.unwrap_or_else(|| entry.revision.unwrap_or("main").to_owned());
        return Some(HubName { id: entry.name.to_owned(), repository: entry.hub_id.to_owned(), revision, pinned });
    }
    let revision = revision.unwrap_or_else(|| "main".to_owned());
    let named = |plain: &str| HubName { id: plain.to_owned(), repository: plain.to_owned(), revision, pinned: false };
    is_repository(plain).then(|| named(plain))
}

/// As [`resolve`], of what is on the hub alone: files of this machine are never looked at, whatever their names.
///
/// # Errors
/// [`Error::UnknownModel`]; [`Error::Argument`] for a revision that cannot be one.
pub(super) fn resolve_on_hub(name: &str) -> Result<HubName> {
    let (plain, revision) = match name.trim().split_once('@') {
        Some((plain, revision)) => (plain, Some(checked_revision(revision)?)),
        None => (name.trim(), None),
    };
    on_hub(plain, revision)
        .ok_or_else(|| Error::UnknownModel { name: name.to_owned(), known: registry::nearest(plain) })
}

/// `owner/name` on the hub and nothing else: at the registry's commit where the table has it, else at `main`.
///
/// # Errors
/// [`Error::UnknownModel`] for anything that is no repository's name.
pub(super) fn repository(id: &str) -> Result<HubName> {
    if !is_repository(id) {
        return Err(Error::UnknownModel { name: id.to_owned(), known: registry::nearest(id) });
    }
    let entry = registry::find_repository(id).filter(|entry| entry.hub_id.eq_ignore_ascii_case(id));
    let revision = entry.and_then(|entry| entry.revision);
    Ok(HubName {
        id: entry.map_or(id, |entry| entry.name).to_owned(),
        repository: entry.map_or(id, |entry| entry.hub_id).to_owned(),
        revision: revision.unwrap_or("main").to_owned(),
        pinned: revision.is_some(),
    })
}

/// A name that can only be a path.
pub(super) fn written_as_path(name: &str) -> Option<PathBuf> {
    let separators = ['/', std::path::MAIN_SEPARATOR];
    let starts =
        |prefix: &str| name.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with(separators));
    if starts("~") {
        return Some(expand_home(name, std::env::home_dir().as_deref()));
    }
    let path = Path::new(name);
    (path.is_absolute() || starts(".") || starts("..")).then(|| path.to_path_buf())
}

fn at_path(path: PathBuf) -> Result<Name> {
    if path.is_dir() {
        Ok(Name::Folder(path))
    } else if is_weights(&path) && path.is_file() {
        Ok(Name::File(path))
    } else if path.exists() {
        Err(Error::NotAFolder { path })
    } else {
        Err(Error::NotFound { path })
    }
}

/// `owner/name` by the hub's rules: letters, digits, `-`, `_`, `.`; no `--` (it separates in the cache's folder names),
/// no `..`, and neither part begins or ends with a dot or a dash.
pub(super) fn is_repository(name: &str) -> bool {
    let part = |part: &str| {
        !part.is_empty()
            && part.len() <= 96
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
            && !part.starts_with(['-', '.'])
            && !part.ends_with(['-', '.'])
            && !part.contains("--")
            && !part.contains("..")
    };
    name.split_once('/').is_some_and(|(owner, repository)| part(owner) && part(repository))
}

/// A branch, a tag or a commit. It becomes a path below `refs/`, so it must not climb out of it.
pub(super) fn checked_revision(revision: &str) -> Result<String> {
    let plain = |part: &str| {
        !part.is_empty()
            && !part.starts_with(['.', '-'])
            && !part.contains("..")
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.+".contains(&b))
    };
    if revision.len() <= 200 && revision.split('/').all(plain) {
        return Ok(revision.to_owned());
    }
    Err(Error::Argument { name: "model", reason: format!("has a revision that cannot be one: `{revision}`") })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hub(name: &str) -> HubName {
        match resolve(name).unwrap() {
            Name::Hub(hub) => hub,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn aliases_of_one_repository_share_one_id() {
        let pinned = hub("clip-vit-b32");
        assert_eq!(pinned.repository, "openai/clip-vit-base-patch32");
        for alias in ["CLIP-ViT-B32", "ViT-B/32", "openai/clip-vit-base-patch32", " clip-vit-b32 "] {
            assert_eq!(hub(alias), pinned, "{alias}");
        }
        assert_eq!(hub("clip-vit-b32@refs/pr/15").revision, "refs/pr/15");
        assert_eq!(hub("clip-vit-b32@refs/pr/15").id, "clip-vit-b32");
    }

    #[test]
    fn any_repository_can_be_named_with_a_revision() {
        let named = hub("some-owner/My.Model_1@v1.0");
        assert_eq!(named.id, "some-owner/My.Model_1");
        assert_eq!(named.revision, "v1.0");
        assert_eq!(hub("some-owner/model").revision, "main");
    }

    #[test]
    fn hostile_names_and_revisions_are_refused() {
        for bad in ["a/b/c", "a--b/c", "a/..", "a/.b", "-a/b", "a/b-", "a b/c", "a/b%2f", "é/b", "owner/", "/"] {
            assert!(resolve(bad).is_err() || matches!(resolve(bad), Ok(Name::Folder(_))), "{bad}");
            assert!(!matches!(resolve(bad), Ok(Name::Hub(_))), "{bad}");
        }
        for bad in ["", "..", "a/../b", "/main", "main/", "a//b", ".x", "a\\b", "a b", "-x"] {
            let error = resolve(&format!("owner/name@{bad}")).unwrap_err();
            assert!(matches!(error, Error::Argument { .. }), "{bad}: {error}");
        }
    }

    #[test]
    fn an_unknown_name_suggests_the_nearest() {
        let Err(Error::UnknownModel { known, .. }) = resolve("clip-vit-b23") else { panic!("not unknown") };
        assert_eq!(known.first().map(String::as_str), Some("clip-vit-b32"));
    }

    #[test]
    fn a_path_is_a_folder_a_file_of_weights_or_an_error_about_the_path() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().to_str().unwrap();
        assert_eq!(resolve(path).unwrap(), Name::Folder(home.path().to_path_buf()));
        assert!(matches!(resolve("./no-such-folder"), Err(Error::NotFound { .. })));
        assert!(matches!(resolve("../no-such-folder"), Err(Error::NotFound { .. })));
        let file = home.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert!(matches!(resolve(file.to_str().unwrap()), Err(Error::NotAFolder { .. })));
        let weights = home.path().join("pc_clip@2.PT");
        assert!(matches!(resolve(weights.to_str().unwrap()), Err(Error::NotFound { .. })));
        assert!(matches!(resolve("pc_clip.pt"), Err(Error::NotFound { .. })));
        std::fs::write(&weights, "").unwrap();
        assert_eq!(resolve(weights.to_str().unwrap()).unwrap(), Name::File(weights));
        assert_eq!(resolve("starter").unwrap(), Name::Starter);
    }
}
