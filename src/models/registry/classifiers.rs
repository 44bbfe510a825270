//! The table of known image classifiers, each with labels of its own.
//!
//! Commits: as named for the same repository in public code. Parameters: the reference's own count.

use std::fmt::Write as _;

use super::Repository;

/// A known image classifier.
#[derive(Debug, Clone, Copy, serde::Serialize)]
pub struct ClassifierEntry {
    /// The name that `identify --classifier` takes.
    pub name: &'static str,
    /// Repository on the hub, `owner/name`.
    pub hub_id: &'static str,
    /// Commit on the hub; `None` where none could be verified.
    pub revision: Option<&'static str>,
    /// Architecture, as in a config's `model_type`.
    pub architecture: &'static str,
    /// What it can name.
    pub labels: &'static str,
    /// Licence of the weights, SPDX.
    pub licence: &'static str,
    /// Parameters, millions.
    pub parameters_million: f32,
    /// Size of the download, MiB, rounded.
    pub download_mib: u32,
    /// Side of the square input image, pixels.
    pub image_size: u32,
    /// Published top-1 accuracy on ImageNet-1k, percent; `None` where none could be supported for this checkpoint.
    pub top_1: Option<f32>,
    /// Where that was published.
    pub source: &'static str,
    /// When to choose it.
    pub good_for: &'static str,
}

impl ClassifierEntry {
    pub(super) fn repository(&self) -> Repository {
        Repository { name: self.name, hub_id: self.hub_id, revision: self.revision }
    }

    /// The accuracy, or a dash.
    pub fn accuracy(&self) -> String {
        self.top_1.map_or_else(|| "-".to_owned(), |percent| format!("{percent:.1}"))
    }
}

const IMAGENET: &str = "ImageNet's 1,000 classes";

static CLASSIFIERS: [ClassifierEntry; 3] = [
    ClassifierEntry {
        name: "resnet-50",
        hub_id: "microsoft/resnet-50",
        revision: Some("34c2154c194f829b11125337b98c8f5f9965ff19"),
        architecture: "resnet",
        labels: IMAGENET,
        licence: "Apache-2.0",
        parameters_million: 25.6,
        download_mib: 97,
        image_size: 224,
        top_1: None,
        source: "",
        good_for: "the breed of a dog, the species of a common bird; the smallest",
    },
    ClassifierEntry {
        name: "convnext-tiny-224",
        hub_id: "facebook/convnext-tiny-224",
        revision: None,
        architecture: "convnext",
        labels: IMAGENET,
        licence: "Apache-2.0",
        parameters_million: 28.6,
        download_mib: 109,
        image_size: 224,
        top_1: Some(82.1),
        source: "ConvNeXt, arXiv 2201.03545, table 1",
        good_for: "the same with a newer network",
    },
    ClassifierEntry {
        name: "vit-base-patch16-224",
        hub_id: "google/vit-base-patch16-224",
        revision: Some("3f49326eb077187dfe1c2a2bb15fbd74e6ab91e3"),
        architecture: "vit",
        labels: IMAGENET,
        licence: "Apache-2.0",
        parameters_million: 86.6,
        download_mib: 330,
        image_size: 224,
        top_1: None,
        source: "",
        good_for: "the same; what many fine-tuned classifiers of the hub start from",
    },
];

/// All known classifiers, smallest first.
pub fn classifiers() -> &'static [ClassifierEntry] {
    &CLASSIFIERS
}

/// The classifier of this name or hub id, whatever its case.
pub fn find_classifier(name: &str) -> Option<&'static ClassifierEntry> {
    CLASSIFIERS.iter().find(|entry| [entry.name, entry.hub_id].iter().any(|known| known.eq_ignore_ascii_case(name)))
}

/// The table in Markdown, as README.md shows it.
pub fn classifiers_markdown() -> String {
    let mut text = String::from(
        "| `--classifier` | parameters | download | input | ImageNet | names | licence | good for |\n|---|---:|---:|---:|---:|---|---|---|\n",
    );
    for entry in classifiers() {
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "| [`{}`](https://huggingface.co/{}) | {:.1} M | {} MiB | {} px | {} | {} | {} | {} |",
            entry.name,
            entry.hub_id,
            entry.parameters_million,
            entry.download_mib,
            entry.image_size,
            entry.accuracy(),
            entry.labels,
            entry.licence,
            entry.good_for,
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::registry;

    #[test]
    fn names_are_nobody_else_s_and_sizes_fit() {
        for entry in classifiers() {
            for name in [entry.name, entry.hub_id] {
                assert_eq!(find_classifier(&name.to_uppercase()).map(|e| e.name), Some(entry.name));
                assert!(registry::find(name).is_none() && registry::find_detector(name).is_none(), "{name}");
                assert_eq!(registry::find_repository(name), Some(entry.repository()));
            }
            let bytes = f64::from(entry.parameters_million) * 4e6;
            assert!((f64::from(entry.download_mib) * 1_048_576.0 / bytes - 1.0).abs() < 0.02, "{}", entry.name);
            assert_eq!(entry.top_1.is_none(), entry.source.is_empty(), "{}", entry.name);
        }
        assert!(classifiers().is_sorted_by_key(|entry| entry.download_mib));
        assert_eq!(classifiers_markdown().lines().count(), classifiers().len() + 2);
    }
}
