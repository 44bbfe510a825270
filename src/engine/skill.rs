//! Writing the agent skill from the binary into the folders where agents look for skills.

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::error::{Error, Result};
use crate::knowledge::documents::{self, SkillFile};

/// A program whose agent reads skills.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, clap::ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SkillClient {
    /// Claude Code.
    ClaudeCode,
    /// Cursor.
    Cursor,
    /// Windsurf.
    Windsurf,
    /// The folder that several agents share (`.agents/skills`).
    Agents,
}

impl SkillClient {
    /// Those that are meant when none is named.
    pub const DEFAULT: [Self; 3] = [Self::ClaudeCode, Self::Cursor, Self::Windsurf];

    /// Its folder of skills, below a project or below the home folder.
    ///
    /// Source: code.claude.com/docs/en/skills, cursor.com/docs/context/skills, docs.windsurf.com/windsurf/cascade/skills.
    pub fn folder(self, in_home: bool) -> &'static str {
        match self {
            Self::ClaudeCode => ".claude/skills",
            Self::Cursor => ".cursor/skills",
            Self::Windsurf if in_home => ".codeium/windsurf/skills",
            Self::Windsurf => ".windsurf/skills",
            Self::Agents => ".agents/skills",
        }
    }
}

/// One place that the skill goes to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Target {
    /// For whom; `None` for a folder of skills that the caller named.
    pub client: Option<SkillClient>,
    /// The skill's own folder.
    pub folder: PathBuf,
}

/// The targets below a project or the home folder. A `base` that is itself named `skills` is a folder of skills, and the
/// only target.
pub fn targets(base: &Path, clients: &[SkillClient], in_home: bool) -> Vec<Target> {
    let target = |client, skills: PathBuf| Target { client, folder: skills.join(documents::SKILL_NAME) };
    if !in_home && base.file_name().is_some_and(|name| name == "skills") {
        return vec![target(None, base.to_path_buf())];
    }
    clients.iter().map(|client| target(Some(*client), base.join(client.folder(in_home)))).collect()
}

/// What an installation did with one target; file names are relative to its folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Installed {
    /// Where.
    #[serde(flatten)]
    pub target: Target,
    /// Files that were not there.
    pub written: Vec<String>,
    /// Files that were there with another text, now replaced.
    pub replaced: Vec<String>,
    /// Files that were as they should be.
    pub unchanged: Vec<String>,
    /// Files with another text that were left as they are, because nobody said that they may be replaced. With any such
    /// file nothing is written anywhere.
    pub refused: Vec<String>,
}

/// Writes the skill into every target. Files with another text are replaced only with `force`; without it, one of them
/// keeps everything as it is.
///
/// # Errors
/// A folder or file cannot be read or written.
pub fn install(targets: Vec<Target>, force: bool) -> Result<Vec<Installed>> {
    let files = documents::skill_files();
    let mut plans = targets.into_iter().map(|target| plan(target, &files)).collect::<Result<Vec<_>>>()?;
    let blocked = !force && plans.iter().any(|plan| !plan.refused.is_empty());
    for plan in &mut plans {
        if blocked {
            plan.written.clear();
            continue;
        }
        plan.replaced = std::mem::take(&mut plan.refused);
        for file in files.iter().filter(|file| !plan.unchanged.contains(&file.path)) {
            write(&plan.target.folder, file)?;
        }
    }
    Ok(plans)
}

/// Compares a target with the skill; what would have to be replaced is `refused` for now.
fn plan(target: Target, files: &[SkillFile]) -> Result<Installed> {
    let mut plan = Installed { target, written: vec![], replaced: vec![], unchanged: vec![], refused: vec![] };
    for file in files {
        let path = plan.target.folder.join(&file.path);
        let list = match std::fs::read(&path) {
            Ok(found) if found == file.text.as_bytes() => &mut plan.unchanged,
            Ok(_) => &mut plan.refused,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => &mut plan.written,
            Err(error) => return Err(Error::io("read", path)(error)),
        };
        list.push(file.path.clone());
    }
    Ok(plan)
}

/// Writes beside the file and renames, so that an agent never reads half of it.
fn write(folder: &Path, file: &SkillFile) -> Result<()> {
    let path = folder.join(&file.path);
    let parent = path.parent().unwrap_or(folder);
    std::fs::create_dir_all(parent).map_err(Error::io("create", parent))?;
    let fresh = path.with_extension(format!("md.{}.tmp", std::process::id()));
    std::fs::write(&fresh, file.text).map_err(Error::io("write", &fresh))?;
    std::fs::rename(&fresh, &path).map_err(Error::io("write", &path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_client_gets_the_skill_where_it_looks() {
        let dir = tempfile::tempdir().unwrap();
        let places: Vec<_> = targets(dir.path(), &SkillClient::DEFAULT, false);
        let report = install(places, false).unwrap();
        assert_eq!(report.len(), 3);
        for folder in [".claude", ".cursor", ".windsurf"] {
            let skill = dir.path().join(folder).join("skills/clip-aware-embeddings");
            for file in documents::skill_files() {
                assert_eq!(std::fs::read_to_string(skill.join(&file.path)).unwrap(), file.text);
            }
            assert_eq!(std::fs::read_dir(&skill).unwrap().count(), 2, "SKILL.md and references, nothing else");
        }
        assert!(report.iter().all(|done| done.written.len() == documents::skill_files().len()));
        let home = targets(dir.path(), &[SkillClient::Windsurf], true);
        assert!(home[0].folder.ends_with(".codeium/windsurf/skills/clip-aware-embeddings"));
    }

    #[test]
    fn a_folder_of_skills_is_taken_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let found = targets(&dir.path().join("skills"), &SkillClient::DEFAULT, false);
        assert_eq!(found, [Target { client: None, folder: dir.path().join("skills/clip-aware-embeddings") }]);
    }

    #[test]
    fn changed_files_are_left_alone_unless_forced() {
        let dir = tempfile::tempdir().unwrap();
        let places = || targets(dir.path(), &SkillClient::DEFAULT, false);
        install(places(), false).unwrap();
        let again = install(places(), false).unwrap();
        assert!(again.iter().all(|done| done.written.is_empty() && done.refused.is_empty()));
        let changed = dir.path().join(".cursor/skills/clip-aware-embeddings/SKILL.md");
        let absent = dir.path().join(".claude/skills/clip-aware-embeddings/references/models.md");
        std::fs::write(&changed, "mine").unwrap();
        std::fs::remove_file(&absent).unwrap();
        let refused = install(places(), false).unwrap();
        assert_eq!(refused[1].refused, ["SKILL.md"]);
        assert!(refused.iter().all(|done| done.written.is_empty()), "nothing is said to be written");
        assert!(!absent.exists(), "one refusal keeps everything as it is");
        assert_eq!(std::fs::read_to_string(&changed).unwrap(), "mine");
        let forced = install(places(), true).unwrap();
        assert_eq!(forced[1].replaced, ["SKILL.md"]);
        assert_eq!(forced[0].written, ["references/models.md"]);
        assert!(absent.exists() && std::fs::read_to_string(&changed).unwrap() != "mine");
    }
}
