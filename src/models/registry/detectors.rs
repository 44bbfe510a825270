//! The table of known object detectors.
//!
//! A detector's weights are one file of its authors' release page, which the user downloads: it is no repository of the
//! hub, and this program fetches from nowhere else.

use std::fmt::Write as _;

/// A known object detector.
#[derive(Debug, Clone, Copy, serde::Serialize)]
pub struct DetectorEntry {
    /// The name that `--detector` takes.
    pub name: &'static str,
    /// Architecture, as in a config's `model_type`.
    pub architecture: &'static str,
    /// What it can find.
    pub vocabulary: &'static str,
    /// Licence of code and weights, SPDX.
    pub licence: &'static str,
    /// Parameters, millions.
    pub parameters_million: f32,
    /// Longer side that pictures are scaled to, pixels.
    pub input_side: u32,
    /// Published average precision on COCO val2017 (`IoU` 0.50 to 0.95), percent.
    pub average_precision: f32,
    /// Where that was published.
    pub source: &'static str,
    /// The file that the authors publish.
    pub file: &'static str,
    /// Where it is.
    pub url: &'static str,
    /// When to choose it.
    pub good_for: &'static str,
}

const COCO: &str = "COCO's 80 classes";
const YOLOX: &str = "YOLOX, arXiv 2107.08430, table 6, and the repository's README";

static DETECTORS: [DetectorEntry; 3] = [
    DetectorEntry {
        name: "yolox-nano",
        architecture: "yolox",
        vocabulary: COCO,
        licence: "Apache-2.0",
        parameters_million: 0.9,
        input_side: 416,
        average_precision: 25.8,
        source: YOLOX,
        file: "yolox_nano.pth",
        url: "https://github.com/Megvii-BaseDetection/YOLOX/releases/download/0.1.1rc0/yolox_nano.pth",
        good_for: "milliseconds on one CPU core; misses small and crowded things",
    },
    DetectorEntry {
        name: "yolox-tiny",
        architecture: "yolox",
        vocabulary: COCO,
        licence: "Apache-2.0",
        parameters_million: 5.1,
        input_side: 416,
        average_precision: 32.8,
        source: YOLOX,
        file: "yolox_tiny.pth",
        url: "https://github.com/Megvii-BaseDetection/YOLOX/releases/download/0.1.1rc0/yolox_tiny.pth",
        good_for: "balanced on a CPU",
    },
    DetectorEntry {
        name: "yolox-s",
        architecture: "yolox",
        vocabulary: COCO,
        licence: "Apache-2.0",
        parameters_million: 9.0,
        input_side: 640,
        average_precision: 40.5,
        source: YOLOX,
        file: "yolox_s.pth",
        url: "https://github.com/Megvii-BaseDetection/YOLOX/releases/download/0.1.1rc0/yolox_s.pth",
        good_for: "the most accurate of these; sees smaller things",
    },
];

/// All known detectors, the smallest first.
pub fn detectors() -> &'static [DetectorEntry] {
    &DETECTORS
}

/// The detector of this name or file name, whatever its case.
pub fn find_detector(name: &str) -> Option<&'static DetectorEntry> {
    let plain = name.trim();
    let stem = |entry: &DetectorEntry| entry.file.strip_suffix(".pth").is_some_and(|s| s.eq_ignore_ascii_case(plain));
    DETECTORS.iter().find(|entry| entry.name.eq_ignore_ascii_case(plain) || stem(entry))
}

/// The table in Markdown, as README.md shows it.
pub fn detectors_markdown() -> String {
    let mut text = String::from(
        "| `--detector` | parameters | input | COCO AP | finds | licence | good for |\n|---|---:|---:|---:|---|---|---|\n",
    );
    for entry in detectors() {
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "| [`{}`]({}) | {:.1} M | {} px | {:.1} | {} | {} | {} |",
            entry.name,
            entry.url,
            entry.parameters_million,
            entry.input_side,
            entry.average_precision,
            entry.vocabulary,
            entry.licence,
            entry.good_for,
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_file_names_lead_to_their_entry() {
        for entry in detectors() {
            assert_eq!(find_detector(entry.name).map(|e| e.name), Some(entry.name));
            assert_eq!(find_detector(entry.file.trim_end_matches(".pth")).map(|e| e.name), Some(entry.name));
            assert!(entry.url.ends_with(entry.file) && entry.input_side % 32 == 0, "{}", entry.name);
            assert!(crate::models::registry::find(entry.name).is_none(), "{} is an encoder's name too", entry.name);
        }
        assert!(find_detector("yolox").is_none());
        assert_eq!(detectors_markdown().lines().count(), detectors().len() + 2);
    }
}
