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
    /// Published average precision (`IoU` 0.50 to 0.95), percent: on COCO val2017, or of an
    /// open-vocabulary one on LVIS; `None` where none could be supported.
    pub average_precision: Option<f32>,
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
    /// Whether it finds what it is told in words.
    pub fn is_open(&self) -> bool {
        self.vocabulary == OPEN
    }

    /// The average precision with what it was measured on: "42.0 (COCO)".
    pub fn precision(&self) -> String {
        let benchmark = if self.is_open() { "LVIS" } else { "COCO" };
        self.average_precision.map_or_else(|| "-".to_owned(), |percent| format!("{percent:.1} ({benchmark})"))
    }

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

/// The detector that is easiest to get: of those that one command fetches, the smallest; with `open`, of those for any words.
pub fn easiest_detector(open: bool) -> &'static DetectorEntry {
    DETECTORS.iter().find(|entry| entry.hub_id().is_some() && entry.is_open() == open).unwrap_or(&DETECTORS[0])
}

const COCO: &str = "COCO's 80 classes";
const OPEN: &str = "any words";
const DETR: &str = "DETR, arXiv 2005.12872, table 1, and the repository's README";
const OWL_VIT: (&str, &str) = ("owlvit", "OWL-ViT, arXiv 2205.06230, and the repository's README");
const OWLV2: (&str, &str) = ("owlv2", "OWLv2, arXiv 2306.09683");
const RT_DETR_V2: &str = "RT-DETRv2, arXiv 2407.17140, and the repository's README (rtdetrv2_pytorch)";
const YOLOX: &str = "YOLOX, arXiv 2107.08430, table 6, and the repository's README";

const TORCHVISION: &str = "torchvision 0.29, models/detection/faster_rcnn.py";
/// What torchvision says: its code is BSD-3-Clause, its weights "may have their own licenses or terms and conditions derived from
/// the dataset used for training" (docs, models and pre-trained weights).
const TORCHVISION_LICENCE: &str = "BSD-3-Clause; none stated for the weights";

static DETECTORS: [DetectorEntry; 16] = [
    DetectorEntry {
        name: "yolox-nano",
        architecture: "yolox",
        vocabulary: COCO,
        licence: "Apache-2.0",
        parameters_million: 0.9,
        input_side: 416,
        average_precision: Some(25.8),
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
        average_precision: Some(32.8),
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
        average_precision: Some(40.5),
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
        average_precision: Some(48.1),
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
        average_precision: Some(49.9),
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
        average_precision: Some(42.0),
        source: DETR,
        weights: DetectorWeights::Hub { hub_id: "facebook/detr-resnet-50", revision: None, download_mib: 159 },
        good_for: "large things, few false ones; a second or two on a CPU",
    },
    DetectorEntry {
        name: "fasterrcnn-resnet50-fpn",
        architecture: "faster_rcnn",
        vocabulary: COCO,
        licence: TORCHVISION_LICENCE,
        parameters_million: 41.8,
        input_side: 1333,
        average_precision: Some(37.0),
        source: TORCHVISION,
        weights: DetectorWeights::File {
            file: "fasterrcnn_resnet50_fpn_coco-258fb6c6.pth",
            url: "https://download.pytorch.org/models/fasterrcnn_resnet50_fpn_coco-258fb6c6.pth",
        },
        good_for: "comparing with what others measured; the second version is more accurate",
    },
    DetectorEntry {
        name: "rtdetr-v2-r50",
        architecture: "rt_detr_v2",
        vocabulary: COCO,
        licence: "Apache-2.0",
        parameters_million: 42.9,
        input_side: 640,
        average_precision: Some(53.4),
        source: RT_DETR_V2,
        weights: DetectorWeights::Hub { hub_id: "PekingU/rtdetr_v2_r50vd", revision: None, download_mib: 164 },
        good_for: "accurate, small and crowded things too",
    },
    DetectorEntry {
        name: "fasterrcnn-resnet50-fpn-v2",
        architecture: "faster_rcnn",
        vocabulary: COCO,
        licence: TORCHVISION_LICENCE,
        parameters_million: 43.7,
        input_side: 1333,
        average_precision: Some(46.7),
        source: TORCHVISION,
        weights: DetectorWeights::File {
            file: "fasterrcnn_resnet50_fpn_v2_coco-dd69338a.pth",
            url: "https://download.pytorch.org/models/fasterrcnn_resnet50_fpn_v2_coco-dd69338a.pth",
        },
        good_for: "torchvision's most accurate Faster R-CNN; seconds on a CPU",
    },
    DetectorEntry {
        name: "detr-resnet-101",
        architecture: "detr",
        vocabulary: COCO,
        licence: "Apache-2.0",
        parameters_million: 60.5,
        input_side: 1333,
        average_precision: Some(43.5),
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
        average_precision: Some(54.3),
        source: RT_DETR_V2,
        weights: DetectorWeights::Hub { hub_id: "PekingU/rtdetr_v2_r101vd", revision: None, download_mib: 293 },
        good_for: "the most accurate for COCO's classes, and the slowest RT-DETR",
    },
    owl(
        OWL_VIT,
        "owlvit-base-patch32",
        ("google/owlvit-base-patch32", 585),
        153.2,
        768,
        Some(19.3),
        "finds what you name, in any words; the fastest of its kind",
    ),
    owl(
        OWL_VIT,
        "owlvit-base-patch16",
        ("google/owlvit-base-patch16", 583),
        152.8,
        768,
        Some(20.8),
        "as above, with four times as many patches",
    ),
    owl(
        OWLV2,
        "owlv2-base-patch16",
        ("google/owlv2-base-patch16-ensemble", 591),
        155.0,
        960,
        None,
        "any words, trained on a billion pictures; seconds on a CPU",
    ),
    owl(
        OWL_VIT,
        "owlvit-large-patch14",
        ("google/owlvit-large-patch14", 1655),
        433.9,
        840,
        Some(34.6),
        "any words, the most accurate OWL-ViT; slow on a CPU",
    ),
    owl(
        OWLV2,
        "owlv2-large-patch14",
        ("google/owlv2-large-patch14-ensemble", 1669),
        437.6,
        1008,
        None,
        "any words, the largest; for a GPU",
    ),
];

const fn owl(
    (architecture, source): (&'static str, &'static str),
    name: &'static str,
    (hub_id, download_mib): (&'static str, u32),
    parameters_million: f32,
    input_side: u32,
    average_precision: Option<f32>,
    good_for: &'static str,
) -> DetectorEntry {
    DetectorEntry {
        name,
        architecture,
        vocabulary: OPEN,
        licence: "Apache-2.0",
        parameters_million,
        input_side,
        average_precision,
        source,
        weights: DetectorWeights::Hub { hub_id, revision: None, download_mib },
        good_for,
    }
}

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
        "| `--detector` | parameters | input | AP | finds | licence | how to get it | good for |\n|---|---:|---:|---:|---|---|---|---|\n",
    );
    for entry in detectors() {
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "| [`{}`]({}) | {:.1} M | {} px | {} | {} | {} | {} | {} |",
            entry.name,
            entry.address(),
            entry.parameters_million,
            entry.input_side,
            entry.precision(),
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
                    assert!(url.ends_with(file), "{}", entry.name);
                    assert!(entry.architecture != "yolox" || entry.input_side % 32 == 0, "{}", entry.name);
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
        assert_eq!(easiest_detector(false).name, "rtdetr-v2-r18");
        assert_eq!(easiest_detector(true).name, "owlvit-base-patch32");
        let (open, closed): (Vec<&DetectorEntry>, Vec<&DetectorEntry>) =
            detectors().iter().partition(|entry| entry.is_open());
        assert!(closed.is_sorted_by_key(|entry: &&DetectorEntry| (entry.parameters_million * 10.0) as u32));
        assert_eq!(open.len(), 5);
        assert!(find_detector("yolox").is_none());
        assert_eq!(detectors_markdown().lines().count(), detectors().len() + 2);
    }
}
