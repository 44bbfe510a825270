//! The table of known models: what each is good for, where it is, how large, under which licence.
//!
//! Only checkpoints in transformers layout (`CLIPModel`, `SiglipModel`, `Dinov2Model`) are listed, since that is what is read here.
//! A commit is pinned where public code names it for this repository; without one `main` is resolved at the first
//! download, and that commit is recorded in the cache and used from then on. Sizes are those of 32-bit weights.

use std::fmt::Write as _;

mod classifiers;
mod detectors;
mod dinov2;
mod table;

pub use classifiers::{ClassifierEntry, classifiers, classifiers_markdown, find_classifier};
pub use detectors::{DetectorEntry, DetectorWeights, detectors, detectors_markdown, easiest_detector, find_detector};
use dinov2::DINOV2;
use table::ENCODERS;

/// The encoders of images and texts, then those of images only.
static ENTRIES: [Entry; ENCODERS.len() + DINOV2.len()] = joined();

const fn joined() -> [Entry; ENCODERS.len() + DINOV2.len()] {
    let mut all = [ENCODERS[0]; ENCODERS.len() + DINOV2.len()];
    let mut place = 0;
    while place < all.len() {
        all[place] = if place < ENCODERS.len() { ENCODERS[place] } else { DINOV2[place - ENCODERS.len()] };
        place += 1;
    }
    all
}

/// The reference class that a checkpoint was saved from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Architecture {
    /// `CLIPModel`: softmax over labels.
    Clip,
    /// `SiglipModel`: a sigmoid per label.
    Siglip,
    /// `Dinov2Model`, `Dinov2WithRegistersModel`: images only.
    Dinov2,
}

/// What a published figure measures; all in percent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// ImageNet-1k, zero-shot, top-1.
    ImageNet,
    /// COCO captions, text to image, recall@1.
    CocoTextToImage,
    /// COCO captions, image to text, recall@1.
    CocoImageToText,
    /// The recall that Immich publishes for the models it offers.
    Immich,
}

/// A published figure.
#[derive(Debug, Clone, Copy, serde::Serialize)]
pub struct Accuracy {
    /// What was measured.
    pub metric: Metric,
    /// The figure, percent.
    pub percent: f32,
    /// Where it was published.
    pub source: &'static str,
}

/// One model of the table.
#[derive(Debug, Clone, Copy, serde::Serialize)]
pub struct Entry {
    /// The name that `--model` takes.
    pub name: &'static str,
    /// Other names that it takes, beside [`Entry::hub_id`].
    pub aliases: &'static [&'static str],
    /// Repository on the hub, `owner/name`.
    pub hub_id: &'static str,
    /// Commit on the hub; `None` where none could be verified.
    pub revision: Option<&'static str>,
    /// The reference class.
    pub architecture: Architecture,
    /// Licence of the weights: an SPDX name, or a note.
    pub licence: &'static str,
    /// Parameters of all towers, millions.
    pub parameters_million: u32,
    /// Size of the download, MiB, rounded: parameters times four bytes where the hub's own figure was not seen.
    pub download_mib: u32,
    /// Length of the vectors.
    pub dim: usize,
    /// Side of the square input image, pixels.
    pub image_size: u32,
    /// Longest text, tokens; 0 where it reads none.
    pub context_length: usize,
    /// When to choose it.
    pub good_for: &'static str,
    /// Languages of the texts it was trained on.
    pub languages: &'static str,
    /// Published figures; empty where none could be supported.
    pub accuracy: &'static [Accuracy],
}

/// Where a known encoder or classifier is on the hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Repository {
    /// In its table.
    pub name: &'static str,
    /// `owner/name`.
    pub hub_id: &'static str,
    /// Commit; `None` where none could be verified.
    pub revision: Option<&'static str>,
}

/// The repository of the encoder or classifier with this name, alias or hub id, whatever its case.
pub fn find_repository(name: &str) -> Option<Repository> {
    find(name).map(Entry::repository).or_else(|| find_classifier(name).map(ClassifierEntry::repository))
}

impl Entry {
    fn repository(&self) -> Repository {
        Repository { name: self.name, hub_id: self.hub_id, revision: self.revision }
    }

    /// The files that are fetched; an entry with alternatives names the preferred one first.
    pub const FILES: &'static [&'static str] =
        &["config.json", "preprocessor_config.json", "tokenizer.json", "model.safetensors or pytorch_model.bin"];

    /// The figure for a metric, percent.
    pub fn percent(&self, metric: Metric) -> Option<f32> {
        self.accuracy.iter().find(|accuracy| accuracy.metric == metric).map(|accuracy| accuracy.percent)
    }
}

/// All entries, smallest first within a family.
pub fn entries() -> &'static [Entry] {
    &ENTRIES
}

/// The entry with this name, alias or hub id, whatever its case.
pub fn find(name: &str) -> Option<&'static Entry> {
    let same = |other: &&str| other.eq_ignore_ascii_case(name);
    ENTRIES.iter().find(|e| same(&e.name) || same(&e.hub_id) || e.aliases.iter().any(same))
}

/// The model that is used when none is asked for: fast on a CPU, balanced on a GPU. `device` is `cpu`, `cuda` or `metal`.
pub fn default_for(device: &str) -> &'static Entry {
    let wanted = if device == "cpu" { "clip-vit-b32" } else { "clip-vit-l14" };
    find(wanted).unwrap_or(&ENTRIES[0])
}

/// Up to five names that are most like `name`, the nearest first; `starter` is one of those compared.
pub fn nearest(name: &str) -> Vec<String> {
    const SHOWN: usize = 5;
    let wanted = name.to_ascii_lowercase();
    let mut names: Vec<(usize, &str)> = std::iter::once("starter")
        .chain(ENTRIES.iter().map(|e| e.name))
        .chain(classifiers().iter().map(|e| e.name))
        .map(|known| {
            let entry = find(known);
            // Whichever of its names is nearest counts.
            let others = entry.into_iter().flat_map(|e| e.aliases.iter().chain([&e.hub_id]));
            let distance = others
                .chain([&known])
                .map(|n| edit_distance(&wanted, &n.to_ascii_lowercase()))
                .min()
                .unwrap_or(usize::MAX);
            (distance, known)
        })
        .collect();
    names.sort_by_key(|(distance, _)| *distance);
    names.into_iter().take(SHOWN).map(|(_, name)| name.to_owned()).collect()
}

/// Levenshtein distance in characters: insertions, deletions and replacements.
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (above, to) in row.iter_mut().skip(1).zip(&b) {
            let cost = (diagonal + usize::from(from != *to)).min(left + 1).min(*above + 1);
            diagonal = std::mem::replace(above, cost);
            left = cost;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

/// The table in Markdown, as README.md shows it.
pub fn markdown() -> String {
    let mut text = String::from(
        "| `--model` | parameters | download | vector | ImageNet | COCO text to image | languages | licence | good for |\n\
         |---|---:|---:|---:|---:|---:|---|---|---|\n",
    );
    let percent = |value: Option<f32>| value.map_or_else(|| "-".to_owned(), |p| format!("{p:.1}"));
    for entry in entries() {
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "| [`{}`](https://huggingface.co/{}) | {} M | {} | {} | {} | {} | {} | {} | {} |",
            entry.name,
            entry.hub_id,
            entry.parameters_million,
            size(entry.download_mib),
            entry.dim,
            percent(entry.percent(Metric::ImageNet)),
            percent(entry.percent(Metric::CocoTextToImage)),
            entry.languages,
            entry.licence,
            entry.good_for,
        );
    }
    text
}

/// A step of the selection guide.
#[derive(Debug, Clone, Copy)]
pub struct Choice {
    /// The wish.
    pub wish: &'static str,
    /// As papers call it.
    pub model: &'static str,
    /// Its name in the table.
    pub name: &'static str,
    /// One image on an ordinary CPU, milliseconds, as a rule of thumb.
    pub cpu_ms: u32,
}

/// The selection guide: from fast to good.
pub const GUIDE: [Choice; 3] = [
    Choice { wish: "fast, lower quality", model: "ViT-B/32", name: "clip-vit-b32", cpu_ms: 100 },
    Choice { wish: "balanced, recommended", model: "ViT-L/14", name: "clip-vit-l14", cpu_ms: 300 },
    Choice { wish: "highest quality, slower", model: "ViT-g/14", name: "openclip-vit-g14-laion2b", cpu_ms: 1000 },
];

/// The selection guide in Markdown.
pub fn guide_markdown() -> String {
    let mut text = String::from("| wish | take | `--model` | one image on a CPU |\n|---|---|---|---:|\n");
    for Choice { wish, model, name, cpu_ms } in GUIDE {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "| {wish} | {model} | `{name}` | about {cpu_ms} ms |");
    }
    text
}

fn size(mib: u32) -> String {
    if mib < 1024 { format!("{mib} MiB") } else { format!("{:.1} GiB", f64::from(mib) / 1024.0) }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_name_alias_and_hub_id_means_one_entry() {
        let mut seen = HashSet::new();
        for entry in entries() {
            for name in entry.aliases.iter().chain([&entry.name, &entry.hub_id]) {
                assert!(seen.insert(name.to_ascii_lowercase()), "{name} is there twice");
                assert_eq!(find(name).map(|e| e.name), Some(entry.name));
            }
        }
    }

    #[test]
    fn entries_are_plausible() {
        for entry in entries() {
            let name = entry.name;
            assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'), "{name}");
            assert_eq!(entry.hub_id.split('/').count(), 2, "{name}");
            if let Some(commit) = entry.revision {
                assert!(commit.len() == 40 && commit.bytes().all(|b| b.is_ascii_hexdigit()), "{name}: {commit}");
            }
            let bytes = f64::from(entry.parameters_million) * 4e6;
            let ratio = f64::from(entry.download_mib) * f64::from(1 << 20) / bytes;
            assert!((0.98..1.02).contains(&ratio), "{name}: {ratio} times its 32-bit size");
            assert!(!entry.good_for.is_empty() && !entry.licence.is_empty() && !entry.languages.is_empty(), "{name}");
            for accuracy in entry.accuracy {
                assert!(accuracy.percent > 20.0 && accuracy.percent < 90.0 && !accuracy.source.is_empty(), "{name}");
            }
        }
        let commits: Vec<_> = entries().iter().filter_map(|e| e.revision).collect();
        assert_eq!(commits.iter().collect::<HashSet<_>>().len(), commits.len(), "one commit for two repositories");
    }

    #[test]
    fn default_is_fast_on_a_cpu_and_balanced_on_a_gpu() {
        assert_eq!(default_for("cpu").name, "clip-vit-b32");
        assert_eq!(default_for("cuda").name, "clip-vit-l14");
        assert_eq!(default_for("metal").name, "clip-vit-l14");
    }

    #[test]
    fn the_guide_names_models_of_the_table() {
        for choice in GUIDE {
            assert_eq!(find(choice.name).map(|entry| entry.name), Some(choice.name));
        }
        assert_eq!(guide_markdown().lines().count(), GUIDE.len() + 2);
    }

    #[test]
    fn distance_counts_edits() {
        for (a, b, distance) in
            [("", "", 0), ("abc", "abc", 0), ("kitten", "sitting", 3), ("", "abc", 3), ("abc", "", 3)]
        {
            assert_eq!(edit_distance(a, b), distance, "{a} {b}");
        }
    }

    #[test]
    fn nearest_names_come_first() {
        assert_eq!(nearest("clip-vit-l14-366")[0], "clip-vit-l14-336");
        assert_eq!(nearest("openai/clip-vit-base-patch-32")[0], "clip-vit-b32");
        assert_eq!(nearest("startr")[0], "starter");
        assert_eq!(nearest("x").len(), 5);
    }

    #[test]
    fn markdown_has_a_row_of_nine_cells_per_entry() {
        let text = markdown();
        assert_eq!(text.lines().count(), entries().len() + 2);
        for line in text.lines() {
            assert_eq!(line.matches(" | ").count() + 2, if line.contains("---") { 2 } else { 10 }, "{line}");
        }
        assert!(text.contains("| 577 MiB | 512 | 63.3 | 30.4 | English | MIT |"), "{text}");
    }
}
