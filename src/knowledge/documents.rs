//! The documents that lie inside the binary: the references, and the agent skill, which carries a copy of each.

use super::front_matter::{self, Field};

/// A reference.
#[derive(Debug, Clone, Copy)]
pub struct Document {
    /// File name without its ending.
    pub name: &'static str,
    /// For lists.
    pub title: &'static str,
    /// What a reader finds in it.
    pub description: &'static str,
    /// Markdown.
    pub text: &'static str,
}

impl Document {
    /// Name of its file in `references/`.
    pub fn file_name(&self) -> String {
        format!("{}.md", self.name)
    }
}

/// Every reference, in reading order.
pub static REFERENCES: [Document; 8] = [
    Document {
        name: "clip_limitations",
        title: "What CLIP cannot do, with the numbers",
        description: "Per limit: what fails and why, how to see it in a request, published numbers, wrong and right example",
        text: include_str!("../../references/clip_limitations.md"),
    },
    Document {
        name: "alternatives",
        title: "What to use instead of CLIP",
        description: "Per task: the tool of this server, then named systems with paper, licence and whether they run here",
        text: include_str!("../../references/alternatives.md"),
    },
    Document {
        name: "compositional_reasoning",
        title: "Attributes, roles, negation",
        description: "Which thing has which attribute, who does what to whom, and what must be absent: what models reach",
        text: include_str!("../../references/compositional_reasoning.md"),
    },
    Document {
        name: "object_detection",
        title: "Detection and counting",
        description: "Closed and open vocabulary detectors with accuracy, size and licence; how to count with boxes",
        text: include_str!("../../references/object_detection.md"),
    },
    Document {
        name: "fine_grained_models",
        title: "Species, models, persons, landmarks",
        description: "Telling near kinds and individuals apart: self-supervised features, classifiers, face embeddings",
        text: include_str!("../../references/fine_grained_models.md"),
    },
    Document {
        name: "spatial_models",
        title: "Left, right, above, behind",
        description: "Relations between things: what benchmarks show, boxes and their geometry, question answering models",
        text: include_str!("../../references/spatial_models.md"),
    },
    Document {
        name: "models",
        title: "Which image-text model to choose",
        description: "Every model that runs here with size, accuracy, languages and licence, and a short selection guide",
        text: include_str!("../../references/models.md"),
    },
    Document {
        name: "router",
        title: "How a request is routed",
        description: "The labels of the router, the rules between them, examples, and its measured accuracy",
        text: include_str!("../../references/router.md"),
    },
];

/// The skill's name, which is its folder's as well.
pub const SKILL_NAME: &str = "clip-aware-embeddings";
/// The file that makes a folder a skill.
pub const SKILL_MD: &str = "SKILL.md";

const SKILL_TEXT: &str = include_str!("../../skill/clip-aware-embeddings/SKILL.md");

/// A file of the skill.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SkillFile {
    /// Where it lies in the skill's folder, with `/`.
    pub path: String,
    /// Markdown.
    pub text: &'static str,
}

/// Every file of the skill, `SKILL.md` first. The references are the same texts as [`REFERENCES`]: the copies in the
/// repository's `skill/` are for installers that read folders.
pub fn skill_files() -> Vec<SkillFile> {
    let skill = SkillFile { path: SKILL_MD.to_owned(), text: SKILL_TEXT };
    let references = REFERENCES
        .iter()
        .map(|document| SkillFile { path: format!("references/{}", document.file_name()), text: document.text });
    std::iter::once(skill).chain(references).collect()
}

/// The fields at the head of `SKILL.md`.
pub fn skill_fields() -> Vec<Field> {
    front_matter::fields(front_matter::split(SKILL_TEXT).0.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_skill_names_itself_and_its_files_lie_one_level_deep() {
        let fields = skill_fields();
        let field = |name: &str| fields.iter().find(|(key, _)| key == name).map(|(_, values)| values.join(""));
        assert_eq!(field("name").as_deref(), Some(SKILL_NAME));
        let description = field("description").unwrap();
        assert!((100..=1024).contains(&description.len()), "{}", description.len());
        assert_eq!(field("license").as_deref(), Some("Apache-2.0"));
        let files = skill_files();
        assert_eq!(files.len(), REFERENCES.len() + 1);
        let markdown = |path: &str| path.rsplit_once('.').is_some_and(|(_, ending)| ending == "md");
        assert!(files.iter().all(|file| file.path.split('/').count() <= 2 && markdown(&file.path)));
    }

    #[test]
    fn the_skill_stays_within_what_agents_load() {
        assert!(SKILL_TEXT.lines().count() < 500, "{} lines", SKILL_TEXT.lines().count());
        // A token of English and Markdown is hardly ever below three bytes and a half.
        assert!(SKILL_TEXT.len() < 5_000 * 7 / 2, "{} bytes", SKILL_TEXT.len());
    }

    #[test]
    fn every_reference_is_linked_from_the_skill() {
        for document in &REFERENCES {
            let link = format!("(references/{})", document.file_name());
            assert!(SKILL_TEXT.contains(&link), "SKILL.md does not link to {link}");
            assert!(document.text.starts_with("# "), "{} has no title", document.name);
        }
    }
}
