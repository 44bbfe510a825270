//! The references state what the program knows: their tables are generated, their numbers and links are checked, and the
//! skill's folder holds the same texts. `UPDATE_DOCS=1 cargo test --test it references` rewrites what is generated.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clip_aware::engine::documents::{self, SKILL_MD, SKILL_NAME};
use clip_aware::knowledge::facts::{self, Provenance};
use clip_aware::knowledge::sources::{self, Source};
use clip_aware::knowledge::systems::{self, Status};
use clip_aware::knowledge::topics::{Example, TOPICS, Topic};
use clip_aware::knowledge::{detectors, tools};
use clip_aware::models::registry;

use crate::docs::{check_part, root, tool_definitions};

fn skill_folder() -> PathBuf {
    root().join("skill").join(SKILL_NAME)
}

/// Every text that is checked here: the references and `SKILL.md`.
fn paths() -> Vec<PathBuf> {
    let references = documents::REFERENCES.iter().map(|document| root().join("references").join(document.file_name()));
    references.chain([skill_folder().join(SKILL_MD)]).collect()
}

/// The names of the generated parts of a text, in order.
fn parts_of(text: &str) -> Vec<String> {
    let comments = text.split("<!-- ").skip(1).filter_map(|rest| rest.split_once(" -->").map(|(name, _)| name));
    comments.filter(|name| !name.starts_with('/')).map(str::to_owned).collect()
}

// ---- what is generated ---------------------------------------------------------------------------------------------

fn generated(part: &str) -> Option<String> {
    let mut words = part.split(' ');
    let name = words.next()?;
    let topics: Vec<Topic> = words.map(|word| Topic::parse(word).unwrap()).collect();
    Some(match name {
        "topics" => TOPICS.iter().map(|topic| section(*topic)).collect::<Vec<_>>().join("\n"),
        "facts" => topics.into_iter().map(facts_table).collect(),
        "examples" => examples_table(topics.into_iter()),
        "tasks" => tasks_table(),
        "systems" => systems_table(),
        "tools" => tools_list(),
        "detectors" => detectors::markdown(),
        "models" => registry::markdown(),
        "guide" => registry::guide_markdown(),
        // The router's measurement, once somebody has made it.
        "router" => std::fs::read_to_string(root().join("docs/router_accuracy.md")).ok()?,
        other => panic!("nothing generates `{other}`"),
    })
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

fn code(text: &str) -> String {
    let quotes = if text.contains('`') { "``" } else { "`" };
    format!("{quotes}{}{quotes}", cell(text))
}

fn facts_table(topic: Topic) -> String {
    let mut table = "| fact | measured on | source |\n|---|---|---|\n".to_owned();
    for fact in topic.article().facts() {
        writeln!(table, "| {} | {} | {} |", cell(fact.statement), cell(fact.measured_on), fact.source.markdown())
            .unwrap();
    }
    table
}

fn examples_table(topics: impl Iterator<Item = Topic>) -> String {
    let mut table = "| | call | what comes of it |\n|---|---|---|\n".to_owned();
    let mut row = |what: &str, example: &Example| {
        writeln!(table, "| {what} | {} | {} |", code(example.call), cell(example.outcome)).unwrap();
    };
    for topic in topics {
        let article = topic.article();
        row("wrong", &article.wrong);
        article.right().iter().for_each(|example| row("right", example));
    }
    table
}

fn section(topic: Topic) -> String {
    let article = topic.article();
    let cues = article.cues.iter().map(|cue| format!("- {cue}")).collect::<Vec<_>>().join("\n");
    let instead: Vec<String> = article
        .instead()
        .map(|(system, status)| format!("- {} ({}): {}", system.name, here(status), system.does))
        .collect();
    let says = if topic.clip_suitable() { "What works" } else { "What fails" };
    format!(
        "## {}\n\nTopic `{}`. {says}: {}.\n\nWhy: {}\n\nIn a request:\n\n{cues}\n\n{}\n{}\nInstead:\n\n{}\n",
        article.title,
        topic.name(),
        article.what,
        article.why,
        facts_table(topic),
        examples_table(std::iter::once(topic)),
        instead.join("\n"),
    )
}

fn here(status: Status) -> &'static str {
    match status {
        Status::RunsHere => "runs here",
        Status::NeedsFile => "runs here with a file that you download",
        Status::Pointer => "elsewhere",
    }
}

fn systems_table() -> String {
    let mut table = "| system | does | in this version | where | source |\n|---|---|---|---|---|\n".to_owned();
    for system in systems::ALL.iter().filter(|system| !system.ours) {
        let Some(status) = system.status() else { continue };
        let source = system.source.map_or_else(|| "-".to_owned(), Source::markdown);
        let file = if system.file.is_empty() { "-" } else { system.file };
        writeln!(
            table,
            "| {} | {} | {} | {} | {source} |",
            cell(system.name),
            cell(system.does),
            here(status),
            cell(file)
        )
        .unwrap();
    }
    table
}

/// What to do per task, as far as this build has it; what CLIP is good at comes first.
fn tasks_table() -> String {
    let mut table = "| the answer hangs on | in this version | gives | elsewhere |\n|---|---|---|---|\n".to_owned();
    let tasks = TOPICS.into_iter().filter(|topic| !matches!(topic, Topic::Calibration | Topic::Strengths));
    for topic in std::iter::once(Topic::Strengths).chain(tasks) {
        let article = topic.article();
        let example = article.right().unwrap_or_else(|| panic!("{}: nothing to do", topic.name()));
        let elsewhere = article.instead().filter(|(_, status)| *status != Status::RunsHere);
        let elsewhere: Vec<&str> = elsewhere.map(|(system, _)| system.name).collect();
        let elsewhere = if elsewhere.is_empty() { "-".to_owned() } else { elsewhere.join(", ") };
        writeln!(table, "| {} | {} | {} | {elsewhere} |", asked(topic), code(example.call), cell(example.outcome))
            .unwrap();
    }
    table
}

/// A topic as a reader of a request sees it.
fn asked(topic: Topic) -> &'static str {
    match topic {
        Topic::Counting => "a number",
        Topic::FineGrained => "a species, model or individual",
        Topic::Spatial => "a position or relation",
        Topic::Compositional => "who has which attribute, who does what",
        Topic::Negation => "an absence",
        Topic::TextReading => "written words",
        Topic::Calibration => "what a score means",
        Topic::DomainShift => "pictures unlike web photos",
        Topic::Strengths => "a scene, kind of thing, style or mood",
    }
}

/// One telling fact per limit, for README.md.
fn limits_table() -> String {
    let mut table = "| CLIP and | a telling figure | source |\n|---|---|---|\n".to_owned();
    for topic in TOPICS.into_iter().filter(|topic| !topic.clip_suitable()) {
        let fact = topic.article().facts().next().unwrap();
        writeln!(table, "| {} | {} | {} |", asked(topic), cell(fact.statement), fact.source.markdown()).unwrap();
    }
    table
}

fn tools_list() -> String {
    let mut table = "| tool | does |\n|---|---|\n".to_owned();
    for tool in tool_definitions() {
        let first = tool["description"].as_str().unwrap().split(". ").next().unwrap();
        writeln!(table, "| `{}` | {} |", tool["name"].as_str().unwrap(), cell(first.trim_end_matches('.'))).unwrap();
    }
    table
}

// ---- the tests -----------------------------------------------------------------------------------------------------

#[test]
fn the_generated_parts_are_what_the_program_knows_and_the_skill_holds_copies() {
    for path in paths() {
        let text = std::fs::read_to_string(&path).unwrap();
        for part in parts_of(&text) {
            if let Some(expected) = generated(&part) {
                check_part(&path, &part, &expected);
            }
        }
    }
    check_part(&root().join("README.md"), "limits", &limits_table());
    for document in &documents::REFERENCES {
        let (from, to) = (root().join("references"), skill_folder().join("references"));
        let (from, to) = (from.join(document.file_name()), to.join(document.file_name()));
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::copy(from, to).unwrap();
        } else {
            let same = std::fs::read(&from).unwrap() == std::fs::read(&to).unwrap_or_default();
            assert!(same, "{} is stale: run `UPDATE_DOCS=1 cargo test --test it references`", to.display());
        }
    }
}

#[test]
fn the_advice_knows_the_tools_that_are_live() {
    let live: BTreeSet<String> =
        tool_definitions().iter().map(|tool| tool["name"].as_str().unwrap().to_owned()).collect();
    let present: BTreeSet<String> = tools::PRESENT.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(live, present);
}

/// A text without its generated parts, code and link targets: the words that somebody wrote.
fn prose(text: &str) -> String {
    let mut text = text.to_owned();
    for part in parts_of(&text.clone()) {
        let (open, close) = (format!("<!-- {part} -->"), format!("<!-- /{part} -->"));
        let (start, end) = (text.find(&open).unwrap(), text.find(&close).unwrap() + close.len());
        text.replace_range(start..end, "");
    }
    let without_fences: String = text.split("```").step_by(2).collect();
    let without_code: String = without_fences.split('`').step_by(2).collect::<Vec<_>>().join("code");
    without_code.split("](").map(|piece| piece.split_once(')').map_or(piece, |(_, after)| after)).collect::<String>()
}

/// Numbers that claim something: decimal ones, and whole ones with a unit.
fn claims(prose: &str) -> Vec<String> {
    let words: Vec<&str> = prose.split_whitespace().collect();
    let mut found = Vec::new();
    for (at, word) in words.iter().enumerate() {
        let number = word.trim_matches(|c: char| !c.is_ascii_digit());
        if number.is_empty() || !number.chars().all(|c| c.is_ascii_digit() || c == '.') {
            continue;
        }
        let (before, after) = word.rsplit_once(number).unwrap_or_default();
        // `Apache-2.0` and `R50` are names.
        if before.contains(char::is_alphabetic) {
            continue;
        }
        let unit = if after.starts_with('%') { "%" } else { words.get(at + 1).copied().unwrap_or_default() };
        let cited = at > 0 && words[at - 1].ends_with("arXiv");
        if !cited && (number.contains('.') || ["%", "ms", "M", "MiB", "GiB", "GB", "percent", "points"].contains(&unit))
        {
            found.push(number.to_owned());
        }
    }
    found
}

#[test]
fn claims_are_found() {
    let text = prose(
        "CLIP gets 31.67 % of [it](https://x/2.5), 75 % later, and 40.6% else, `0.3`, in 3 steps (arXiv 2302.12066, Apache-2.0).",
    );
    assert_eq!(claims(&text), ["31.67", "75", "40.6"]);
    assert!(claims(&prose("<!-- facts x -->\n| 5 % |\n<!-- /facts x -->\nwords")).is_empty());
}

#[test]
fn every_number_in_the_prose_is_in_a_fact() {
    let in_facts = facts::ALL.iter().flat_map(|fact| fact.values.iter().map(|value| value.value));
    let in_registry = registry::entries().iter().flat_map(|e| e.accuracy.iter().map(|a| f64::from(a.percent)));
    let in_detectors = detectors::DETECTORS.iter().map(|detector| f64::from(detector.precision));
    let known: Vec<f64> = in_facts.chain(in_registry).chain(in_detectors).collect();
    for path in paths() {
        for number in claims(&prose(&std::fs::read_to_string(&path).unwrap())) {
            let value: f64 = number.parse().unwrap_or_else(|_| panic!("{}: {number}", path.display()));
            let found = known.iter().any(|fact| (fact - value).abs() < 1e-4);
            assert!(found, "{}: {number} is in no fact", path.display());
        }
    }
}

#[test]
fn every_link_leads_to_a_known_source_or_a_file() {
    let mut known: BTreeSet<String> = sources::all().iter().map(|source| source.url.to_owned()).collect();
    known.extend(registry::entries().iter().map(|entry| format!("https://huggingface.co/{}", entry.hub_id)));
    let mut seen = 0;
    for path in paths() {
        let text = std::fs::read_to_string(&path).unwrap();
        let folder = path.parent().unwrap();
        for rest in text.split("](").skip(1) {
            let target = rest.split(')').next().unwrap();
            seen += 1;
            if target.contains("://") {
                assert!(known.contains(target), "{}: {target} is no known source", path.display());
            } else {
                // References of a skill lie one level deep: what links on from one of them is not followed by readers,
                // and scanners take it for hiding.
                assert!(path.ends_with(SKILL_MD), "{}: {target}: name a page in backticks instead", path.display());
                assert!(folder.join(target).is_file(), "{}: {target} is not there", path.display());
                assert_eq!(Path::new(target).components().count(), 2, "{}: {target} lies elsewhere", path.display());
            }
        }
        for (at, _) in text.match_indices("arXiv ") {
            let number: String = text[at + 6..].chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect();
            let url = format!("https://arxiv.org/abs/{}", number.trim_end_matches('.'));
            assert!(number.is_empty() || known.contains(&url), "{}: arXiv {number} is no known source", path.display());
        }
    }
    assert!(seen > 80, "only {seen} links were read");
}

/// A statement of this project must name the test that repeats it.
#[test]
fn what_was_measured_here_names_a_file_of_this_repository() {
    for fact in facts::ALL.iter().filter(|fact| fact.provenance == Provenance::Measured) {
        assert!(root().join(fact.source.url).is_file(), "{}: {}", fact.id, fact.source.url);
    }
}
