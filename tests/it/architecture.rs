//! Who may import whom (ARCHITECTURE.md): read from every `crate::` path in src.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Room -> rooms it may name. `main` and `lib` stand above all.
const ALLOWED: &[(&str, &[&str])] = &[
    ("error", &[]),
    ("config", &["error"]),
    ("geometry", &[]),
    ("pixels", &["error", "geometry"]),
    ("compute", &["error", "config"]),
    ("models", &["error", "config", "geometry", "pixels", "compute"]),
    ("index", &["error"]),
    ("knowledge", &["error"]),
    ("engine", &["error", "config", "geometry", "pixels", "compute", "models", "index", "knowledge"]),
    ("wire", &["error", "config", "engine", "geometry", "index", "knowledge", "models", "pixels"]),
    ("mcp", &["error", "config", "engine", "wire", "models"]),
    ("cli", &["error", "config", "engine", "wire", "models", "pixels", "compute", "index", "mcp"]),
];

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

fn rooms() -> Vec<(String, PathBuf, String)> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&src, &mut files);
    files
        .into_iter()
        // Unit tests that have grown into files of their own.
        .filter(|path| !path.ends_with("fake.rs") && !path.to_string_lossy().ends_with("tests.rs"))
        .map(|path| {
            let room = path.strip_prefix(&src).unwrap().components().next().unwrap();
            let room = room.as_os_str().to_string_lossy().trim_end_matches(".rs").to_owned();
            let text = std::fs::read_to_string(&path).unwrap();
            (room, path, text)
        })
        .collect()
}

/// Code without comments and without the unit tests at the end of a file.
fn code(text: &str) -> String {
    let body = text.split("\n#[cfg(test)]\nmod ").next().unwrap_or_default();
    body.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

#[test]
fn rooms_import_only_what_the_layout_allows() {
    let allowed: BTreeMap<&str, &[&str]> = ALLOWED.iter().copied().collect();
    let mut wrong = Vec::new();
    for (room, path, text) in rooms() {
        if room == "main" || room == "lib" {
            continue;
        }
        let may = allowed.get(room.as_str()).unwrap_or_else(|| panic!("room {room} is not in the layout"));
        for rest in code(&text).split("crate::").skip(1) {
            let named: Vec<&str> = match rest.strip_prefix('{') {
                Some(group) => group.split('}').next().unwrap().split(',').map(str::trim).collect(),
                None => vec![rest],
            };
            for name in named {
                let target = name.split(|c: char| !(c.is_alphanumeric() || c == '_')).next().unwrap();
                // `crate::Error` and `crate::Result` are the error room's.
                if target == room || target.is_empty() || target.starts_with(char::is_uppercase) {
                    continue;
                }
                if !may.contains(&target) {
                    wrong.push(format!("{}: {room} must not import {target}", path.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn libraries_stay_in_their_rooms() {
    // (crate, rooms that may name it)
    let homes: &[(&str, &[&str])] = &[
        ("candle_core::", &["error", "compute", "models"]),
        ("candle_nn::", &["compute", "models"]),
        ("candle_transformers::", &["models"]),
        ("rusqlite::", &["error", "index"]),
        ("tokio::", &["mcp", "main"]),
        ("rmcp::", &["mcp"]),
        ("reqwest::", &["models", "engine"]),
        ("hf_hub::", &["models"]),
        // `ValueEnum` on the few enums that are also values of options.
        ("clap::", &["cli", "config", "engine"]),
    ];
    let mut wrong = Vec::new();
    for (room, path, text) in rooms() {
        for (library, may) in homes {
            if code(&text).contains(library) && !may.contains(&room.as_str()) {
                wrong.push(format!("{} names {library}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn only_render_prints() {
    let mut wrong = Vec::new();
    for (_, path, text) in rooms() {
        let prints = ["println!", "print!(", "io::stdout"].iter().any(|p| code(&text).contains(p));
        let may = path.ends_with("cli/render.rs") || path.components().any(|c| c.as_os_str() == "mcp");
        if prints && !may {
            wrong.push(path.display().to_string());
        }
    }
    assert!(wrong.is_empty(), "these print to stdout: {}", wrong.join(", "));
}

#[test]
fn files_stay_readable() {
    let long: Vec<String> = rooms()
        .into_iter()
        .map(|(_, path, text)| (path, text.lines().count()))
        .filter(|(_, lines)| *lines > 500)
        .map(|(path, lines)| format!("{} has {lines} lines", path.display()))
        .collect();
    assert!(long.is_empty(), "{}", long.join("\n"));
}
