//! Documents that state facts of the program are generated from it, or checked against it.
//! `UPDATE_DOCS=1 cargo test --test it docs` rewrites the generated parts.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::world::World;

pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Compares the part of a document between `<!-- name -->` and `<!-- /name -->` with what it should be.
pub fn check_part(document: &Path, name: &str, expected: &str) {
    let text = std::fs::read_to_string(document).unwrap();
    let (open, close) = (format!("<!-- {name} -->\n"), format!("<!-- /{name} -->"));
    let start = text.find(&open).unwrap_or_else(|| panic!("{open} is missing")) + open.len();
    let end = start + text[start..].find(&close).unwrap_or_else(|| panic!("{close} is missing"));
    if std::env::var_os("UPDATE_DOCS").is_some() {
        let updated = format!("{}{expected}{}", &text[..start], &text[end..]);
        std::fs::write(document, updated).unwrap();
    } else {
        let (found, expected) = if name == "transcript" {
            // Another processor adds in another order: the last digit of a score may differ, and with it the order of
            // boxes; the shape of the text not.
            (without_digits(&text[start..end]), without_digits(expected))
        } else {
            (text[start..end].to_owned(), expected.to_owned())
        };
        assert_eq!(found, expected, "run `UPDATE_DOCS=1 cargo test --test it docs`");
    }
}

/// Digits masked, and runs of lines that list boxes sorted.
fn without_digits(text: &str) -> String {
    let masked: String = text.chars().map(|c| if c.is_ascii_digit() { '#' } else { c }).collect();
    let is_box = |line: &str| line.starts_with("     ") && line.ends_with(']');
    let mut lines: Vec<&str> = masked.split('\n').collect();
    lines.chunk_by_mut(|a, b| is_box(a) && is_box(b)).for_each(<[&str]>::sort_unstable);
    lines.join("\n")
}

pub fn tool_definitions() -> Vec<Value> {
    clip_aware::mcp::tool_definitions().as_array().unwrap().clone()
}

fn tools_table() -> String {
    let mut table = "| tool | arguments | when |\n|---|---|---|\n".to_owned();
    for tool in tool_definitions() {
        let schema = &tool["inputSchema"];
        let required: Vec<&Value> = schema["required"].as_array().into_iter().flatten().collect();
        let arguments: Vec<String> = schema["properties"]
            .as_object()
            .unwrap()
            .keys()
            .map(|name| if required.iter().any(|r| *r == name) { format!("`{name}`") } else { format!("`{name}`?") })
            .collect();
        let description = tool["description"].as_str().unwrap().replace('\n', " ");
        let name = tool["name"].as_str().unwrap();
        writeln!(table, "| `{name}` | {} | {description} |", arguments.join(", ")).unwrap();
    }
    table
}

#[test]
fn the_readme_lists_the_models_of_the_registry() {
    check_part(&root().join("README.md"), "models", &clip_aware::models::registry::markdown());
}

#[test]
fn the_readme_lists_the_classifiers_of_the_registry() {
    check_part(&root().join("README.md"), "classifiers", &clip_aware::models::registry::classifiers_markdown());
}

#[test]
fn the_readme_lists_the_detectors_of_the_registry() {
    check_part(&root().join("README.md"), "detectors", &clip_aware::models::registry::detectors_markdown());
}

#[test]
fn the_readme_lists_the_tools_of_the_server() {
    check_part(&root().join("README.md"), "tools", &tools_table());
}

#[test]
fn the_readmes_transcript_is_what_the_demo_prints() {
    let world = World::new();
    let printed = world.run(&["demo", "--out", "clip-aware-demo"]).expect(0).stdout;
    let place = world.root.display().to_string();
    let steady: Vec<String> = printed
        .replace(&format!("{place}/clip-aware-demo/"), "")
        .lines()
        .filter(|line| !line.ends_with("s in all."))
        .map(|line| {
            // Times differ from run to run.
            let line = line.split("      (first answer").next().unwrap_or(line);
            if line.contains(" images/s)") { line.rsplit_once("; ").map_or(line, |(counts, _)| counts) } else { line }
                .to_owned()
        })
        .collect();
    check_part(&root().join("README.md"), "transcript", &format!("```text\n{}\n```\n", steady.join("\n").trim_end()));
    assert!(image::open(world.root.join("clip-aware-demo/demo.png")).unwrap().width() > 1000);
}

#[test]
fn the_readmes_commands_exist() {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let help = World::new().run(&["--help"]).expect(0).stdout;
    let commands = readme.lines().filter_map(|line| line.strip_prefix("    clip-aware "));
    let mut seen = 0;
    for line in commands {
        let mut words = line.split_whitespace();
        let mut command = words.next().unwrap();
        while command.starts_with("--") {
            words.next();
            command = words.next().unwrap();
        }
        assert!(help.contains(&format!("\n  {command}")), "`{command}` of README.md is no command");
        seen += 1;
    }
    assert!(seen >= 5);
}

#[test]
fn links_between_documents_lead_somewhere() {
    for name in ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"] {
        let text = std::fs::read_to_string(root().join(name)).unwrap();
        for link in text.split("](").skip(1).map(|rest| rest.split(')').next().unwrap()) {
            if !link.contains("://") {
                assert!(root().join(link).exists(), "{name} links to {link}, which is not there");
            }
        }
    }
}
