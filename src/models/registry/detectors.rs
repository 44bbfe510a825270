//! The table of known object detectors.
//!
//! A detector's weights are a repository of the hub, or one file of its authors' release page: that one the user downloads,
//! since this program fetches from the hub alone.

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
    /// Where its weights are published.
    #[serde(flatten)]
    pub weights: DetectorWeights,
    /// When to choose it.
    pub good_for: &'static str,
}

/// Where the weights of a known detector are published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(untagged)]
pub enum DetectorWeights {
    /// A file of the authors' release page.
    File {
        /// Its name.
        file: &'static str,
        /// Its address.
        url: &'static str,
    },
    /// A repository on the hub: `models fetch` downloads it.
    Hub {
        /// `owner/name`.
        hub_id: &'static str,
        /// Commit; `None` where none could be verified.
        revision: Option<&'static str>,
        /// Size of the download, MiB, rounded.
        download_mib: u32,
    },
}

impl DetectorEntry {
    /// `owner/name` on the hub, for one that is there.
    pub fn hub_id(&self) -> Option<&'static str> {
        match self.weights {
            DetectorWeights::Hub { hub_id, .. } => Some(hub_id),
            DetectorWeights::File { .. } => None,
        }
    }

    /// Where a reader finds it.
    pub fn address(&self) -> String {
        match self.weights {
            DetectorWeights::File { url, .. } => url.to_owned(),
            DetectorWeights::Hub { hub_id, .. } => format!("https://huggingface.co/{hub_id}"),
        }
    }

    /// `models fetch NAME`, or the file to download.
    pub fn how_to_get(&self) -> String {
        match self.weights {
            DetectorWeights::File { file, .. } => format!("download {file}"),
            DetectorWeights::Hub { .. } => format!("`models fetch {}`", self.name),
        }
    }
}

/// The detector that is easiest to get: of those that one command fetches, the smallest.
pub fn easiest_detector() -> &'static DetectorEntry {
    DETECTORS.iter().find(|entry| entry.hub_id().is_some()).unwrap_or(&DETECTORS[0])
}

const COCO: &str = "COCO's 80 classes";
const DETR: &str = "DETR, arXiv 2005.12872, table 1, and the repository's README";
const RT_DETR_V2: &str = "RT-DETRv2, arXiv 2407.17140, and the repository's README (rtdetrv2_pytorch)";
const YOLOX: &str = "YOLOX, arXiv 2107.08430, table 6, and the repository's README";

static DETECTORS: [DetectorEntry; 9] = [
    DetectorEntry {
        name: "yolox-nano",
        architecture: "yolox",
        vocabulary: COCO,
        licence: "Apache-2.0",
        parameters_million: 0.9,
        input_side: 416,
        average_precision: 25.8,
        source: YOLOX,
        weights: DetectorWeights::File {
            file: "yolox_nano.pth",
            url: "https://github.com/Megvii-BaseDetection/YOLOX/releases/download/0.1.1rc0/yolox_nano.pth",
        },
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
        weights: DetectorWeights::File {
            file: "yolox_tiny.pth",
            url: "https://github.com/Megvii-BaseDetection/YOLOX/releases/download/0.1.1rc0/yolox_tiny.pth",
        },
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
        weights: DetectorWeights::File {
            file: "yolox_s.pth",
            url: "https://github.com/Megvii-BaseDetection/YOLOX/releases/download/0.1.1rc0/yolox_s.pth",
        },
        good_for: "sees smaller things than the other YOLOX; still a fraction of a second on a CPU",
    },
    DetectorEntry {
        name: "rtdetr-v2-r18",
        architecture: "rt_detr_v2",
        vocabulary: COCO,
        licence: "Apache-2.0",
        parameters_million: 20.2,
        input_side: 640,
        average_precision: 48.1,
        source: RT_DETR_V2,
        weights: DetectorWeights::Hub { hub_id: "PekingU/rtdetr_v2_r18vd", revision: None, download_mib: 77 },
        good_for: "one command fetches it; the place to begin: more accurate than DETR and faster",
    },
    DetectorEntry {
        name: "rtdetr-v2-r34",
        architecture: "rt_detr_v2",
        vocabulary: COCO,
        licence: "Apache-2.0",
        parameters_million: 31.4,
        input_side: 640,
        average_precision: 49.9,
        source: RT_DETR_V2,
        weights: DetectorWeights::Hub { hub_id: "PekingU/rtdetr_v2_r34vd", revision: None, download_mib: 120 },
        good_for: "a little more accurate than rtdetr-v2-r18, a little slower",
    },
    DetectorEntry {
        name: "detr-resnet-50",
        architecture: "detr",
        vocabulary: COCO,
        licence: "Apache-2.0",
        parameters_million: 41.5,
        input_side: 1333,
        average_precision: 42.0,
        source: DETR,
        weights: DetectorWeights::Hub { hub_id: "facebook/detr-resnet-50", revision: None, download_mib: 159 },
        good_for: "large things, few false ones; about a second on a CPU",
    },
    DetectorEntry {
        name: "rtdetr-v2-r50",
        architecture: "rt_detr_v2",
        vocabulary: COCO,
        licence: "Apache-2.0",
        parameters_million: 42.9,
        input_side: 640,
        average_precision: 53.4,
        source: RT_DETR_V2,
        weights: DetectorWeights::Hub { hub_id: "PekingU/rtdetr_v2_r50vd", revision: None, download_mib: 164 },
        good_for: "accurate, small and crowded things too",
    },
    DetectorEntry {
        name: "detr-resnet-101",
        architecture: "detr",
        vocabulary: COCO,
        licence: "Apache-2.0",
        parameters_million: 60.5,
        input_side: 1333,
        average_precision: 43.5,
        source: DETR,
        weights: DetectorWeights::Hub { hub_id: "facebook/detr-resnet-101", revision: None, download_mib: 232 },
        good_for: "more accurate than DETR ResNet-50, half as slow again",
    },
    DetectorEntry {
        name: "rtdetr-v2-r101",
        architecture: "rt_detr_v2",
        vocabulary: COCO,
        licence: "Apache-2.0",
        parameters_million: 76.7,
        input_side: 640,
        average_precision: 54.3,
        source: RT_DETR_V2,
        weights: DetectorWeights::Hub { hub_id: "PekingU/rtdetr_v2_r101vd", revision: None, download_mib: 293 },
        good_for: "the most accurate of these, and the slowest RT-DETR",
    },
];

/// All known detectors, the smallest first.
pub fn detectors() -> &'static [DetectorEntry] {
    &DETECTORS
}

/// The detector of this name, file name or hub id, whatever its case.
pub fn find_detector(name: &str) -> Option<&'static DetectorEntry> {
    let plain = name.trim();
    let other = |entry: &DetectorEntry| match entry.weights {
        DetectorWeights::File { file, .. } => file.strip_suffix(".pth").is_some_and(|s| s.eq_ignore_ascii_case(plain)),
        DetectorWeights::Hub { hub_id, .. } => hub_id.eq_ignore_ascii_case(plain),
    };
    DETECTORS.iter().find(|entry| entry.name.eq_ignore_ascii_case(plain) || other(entry))
}

/// The table in Markdown, as README.md shows it.
pub fn detectors_markdown() -> String {
    let mut text = String::from(
        "| `--detector` | parameters | input | COCO AP | finds | licence | how to get it | good for |\n|---|---:|---:|---:|---|---|---|---|\n",
    );
    for entry in detectors() {
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "| [`{}`]({}) | {:.1} M | {} px | {:.1} | {} | {} | {} | {} |",
            entry.name,
            entry.address(),
            entry.parameters_million,
            entry.input_side,
            entry.average_precision,
            entry.vocabulary,
            entry.licence,
            entry.how_to_get(),
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
            match entry.weights {
                DetectorWeights::File { file, url } => {
                    assert_eq!(find_detector(file.trim_end_matches(".pth")).map(|e| e.name), Some(entry.name));
                    assert!(url.ends_with(file) && entry.input_side % 32 == 0, "{}", entry.name);
                }
                DetectorWeights::Hub { hub_id, download_mib, .. } => {
                    assert_eq!(find_detector(hub_id).map(|e| e.name), Some(entry.name));
                    let bytes = f64::from(entry.parameters_million) * 4e6;
                    assert!((f64::from(download_mib) * 1_048_576.0 / bytes - 1.0).abs() < 0.02, "{}", entry.name);
                }
            }
            let json = serde_json::to_value(entry).unwrap();
            assert_eq!(json.get("url").is_some(), entry.hub_id().is_none(), "{json}");
            assert!(crate::models::registry::find(entry.name).is_none(), "{} is an encoder's name too", entry.name);
        }
        assert_eq!(easiest_detector().name, "rtdetr-v2-r18");
        assert!(detectors().is_sorted_by_key(|entry| (entry.parameters_million * 10.0) as u32));
        assert!(find_detector("yolox").is_none());
        assert_eq!(detectors_markdown().lines().count(), detectors().len() + 2);
    }
}
