//! The agent skill: its files, the manifests that installers read, the command that installs it, and `skill://`.

use std::path::{Path, PathBuf};

use clip_aware::engine::documents::{self, SKILL_NAME};
use serde_json::{Value, json};

use crate::loopback_hub::sha256;
use crate::mcp_client::{Server, code, modern, request};
use crate::world::World;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn skill_folder() -> PathBuf {
    root().join("skill").join(SKILL_NAME)
}

/// The folder holds what the binary holds: `SKILL.md` and a copy of every reference, nothing else. The copies are made by
/// `references.rs`.
#[test]
fn the_skills_folder_is_what_the_program_installs() {
    let mut expected: Vec<String> = documents::skill_files().into_iter().map(|file| file.path).collect();
    for file in documents::skill_files() {
        if std::env::var_os("UPDATE_DOCS").is_some() {
            // What is being rewritten now is newer than what this build carries.
            break;
        }
        let path = skill_folder().join(&file.path);
        let found = std::fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(found, file.text, "{}: run `UPDATE_DOCS=1 cargo test --test it`", path.display());
    }
    let mut found = Vec::new();
    for entry in ["", "references"] {
        for file in std::fs::read_dir(skill_folder().join(entry)).unwrap() {
            let path = file.unwrap().path();
            if path.is_file() {
                found.push(path.strip_prefix(skill_folder()).unwrap().to_str().unwrap().replace('\\', "/"));
            }
        }
    }
    found.sort();
    expected.sort();
    assert_eq!(found, expected, "Markdown only, nothing stale");
}

#[test]
fn the_plugin_manifests_lead_to_the_skill_and_state_this_version() {
    for name in [".claude-plugin/plugin.json", ".claude-plugin/marketplace.json", ".cursor-plugin/plugin.json"] {
        let text = std::fs::read_to_string(root().join(name)).unwrap();
        let manifest: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        let version = manifest.get("version").or_else(|| manifest.pointer("/metadata/version"));
        assert_eq!(version, Some(&json!(env!("CARGO_PKG_VERSION"))), "{name}");
        let skills = manifest.get("skills").or_else(|| manifest.pointer("/plugins/0/skills")).unwrap();
        for skill in skills.as_array().unwrap() {
            let path = skill.as_str().unwrap();
            assert!(path.starts_with("./"), "{name}: installers take no other paths");
            assert!(root().join(path).join("SKILL.md").is_file(), "{name}: {path}");
        }
    }
}

fn installed(base: &Path) -> PathBuf {
    base.join(SKILL_NAME).join("SKILL.md")
}

#[test]
fn skill_install_writes_for_three_clients_and_keeps_what_the_user_changed() {
    let world = World::new();
    let lines = world.run(&["--json", "skill", "install", "."]).expect(0).lines();
    let clients: Vec<_> = lines.iter().map(|line| line["client"].as_str().unwrap()).collect();
    assert_eq!(clients, ["claude-code", "cursor", "windsurf"]);
    for (line, folder) in lines.iter().zip([".claude/skills", ".cursor/skills", ".windsurf/skills"]) {
        assert_eq!(Path::new(line["folder"].as_str().unwrap()), world.root.join(folder).join(SKILL_NAME));
        assert_eq!(line["written"].as_array().unwrap().len(), documents::skill_files().len());
        assert!(installed(&world.root.join(folder)).is_file());
    }
    assert!(world.run(&["skill", "install"]).expect(0).stdout.contains("up to date"));

    let mine = installed(&world.root.join(".claude/skills"));
    std::fs::write(&mine, "my own words").unwrap();
    let refused = world.run(&["skill", "install"]).expect(1);
    assert!(refused.stderr.contains("SKILL.md") && refused.stderr.contains("--force"), "{}", refused.stderr);
    assert_eq!(std::fs::read_to_string(&mine).unwrap(), "my own words");
    let forced = world.run(&["skill", "install", "--force", "--client", "claude-code"]).expect(0);
    assert!(forced.stdout.contains("replaced") && forced.stdout.lines().count() == 1, "{}", forced.stdout);
    assert_ne!(std::fs::read_to_string(&mine).unwrap(), "my own words");
}

#[test]
fn skill_install_knows_home_folders_and_folders_of_skills() {
    let world = World::new();
    world.run(&["skill", "install", "--global"]).expect(0);
    for folder in [".claude/skills", ".cursor/skills", ".codeium/windsurf/skills"] {
        assert!(installed(&world.home.path().join(folder)).is_file(), "{folder}");
    }
    world.run(&["skill", "install", "their/skills"]).expect(0);
    assert!(installed(&world.root.join("their/skills")).is_file());
    assert!(!world.root.join(".claude").exists());
    world.run(&["skill", "install", "no/such/project"]).expect(2);
    world.run(&["skill", "install", ".", "--global"]).expect(2);
}

#[test]
fn the_skill_is_listed_with_its_manifest_and_read_in_both_eras() {
    let mut server = Server::initialized("2025-11-25");
    let ask = |server: &mut Server, new: bool, method: &str, params: Value| {
        server.ask(&if new { modern("1", method, params) } else { request("1", method, params) })
    };
    for new in [false, true] {
        let listed = ask(&mut server, new, "skills/list", json!({}));
        let skill = listed.pointer("/result/skills/0").unwrap_or_else(|| panic!("{listed}")).clone();
        assert_eq!(listed.pointer("/result/ttlMs").is_some(), new);
        assert_eq!(skill["uri"], "skill://clip-aware-embeddings/SKILL.md");
        assert_eq!(skill["frontmatter"]["name"], SKILL_NAME);
        let got = ask(&mut server, new, "skills/get", json!({"uri": skill["uri"]}));
        assert_eq!(got.pointer("/result/skill"), Some(&skill));
        let files = skill["resources"].as_array().unwrap();
        assert_eq!(files.len(), documents::skill_files().len());
        for file in files {
            let read = ask(&mut server, new, "resources/read", json!({"uri": file["uri"]}));
            let text = read.pointer("/result/contents/0/text").and_then(Value::as_str).unwrap();
            assert_eq!(file["size"], text.len());
            assert_eq!(file["digest"], format!("sha256:{}", sha256(text.as_bytes())), "{}", file["uri"]);
        }
        let folder = json!({"uri": "skill://clip-aware-embeddings/references"});
        let children = ask(&mut server, new, "resources/directory/read", folder);
        assert_eq!(children.pointer("/result/resources").unwrap().as_array().unwrap().len() + 1, files.len());
        let unknown = ask(&mut server, new, "skills/get", json!({"uri": "skill://other/SKILL.md"}));
        assert_eq!(code(&unknown), -32602);
    }
    let uris = server.ask(&request("2", "resources/list", json!({})));
    let uris: Vec<_> = uris.pointer("/result/resources").unwrap().as_array().unwrap().iter().collect();
    assert!(uris.iter().any(|resource| resource["uri"] == "skill://clip-aware-embeddings/SKILL.md"));
    assert!(uris.iter().any(|resource| resource["uri"] == "clip-aware://references/clip_limitations"));
}
