//! Published accuracy of object detectors, for the table of `references/object_detection.md`.

use std::fmt::Write as _;

use super::sources::{self, Source};

/// What a figure measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Benchmark {
    /// COCO 2017 val, average precision over `IoU` 0.50 to 0.95, trained on COCO.
    Coco,
    /// The same without training on COCO.
    CocoZeroShot,
    /// LVIS, average precision, open vocabulary.
    Lvis,
}

impl Benchmark {
    fn name(self) -> &'static str {
        match self {
            Self::Coco => "COCO",
            Self::CocoZeroShot => "COCO, zero-shot",
            Self::Lvis => "LVIS, open vocabulary",
        }
    }
}

/// A detector and one published figure.
#[derive(Debug, Clone, Copy)]
pub struct Detector {
    /// As its authors call it.
    pub name: &'static str,
    /// Average precision, percent.
    pub precision: f32,
    /// What it measures.
    pub benchmark: Benchmark,
    /// Parameters, millions; `None` where the source does not say.
    pub parameters_million: Option<f32>,
    /// Licence of code and weights.
    pub licence: &'static str,
    /// What to know.
    pub note: &'static str,
    /// Where the figure is published.
    pub source: &'static Source,
}

const APACHE: &str = "Apache-2.0";

const fn coco(
    name: &'static str,
    precision: f32,
    parameters_million: Option<f32>,
    note: &'static str,
    source: &'static Source,
) -> Detector {
    Detector { name, precision, benchmark: Benchmark::Coco, parameters_million, licence: APACHE, note, source }
}

const fn open(name: &'static str, precision: f32, benchmark: Benchmark, source: &'static Source) -> Detector {
    let note = "open vocabulary: the label is a text";
    Detector { name, precision, benchmark, parameters_million: None, licence: APACHE, note, source }
}

/// Every detector of the table.
pub static DETECTORS: [Detector; 15] = [
    coco("DETR R50", 42.0, Some(41.0), "ResNet and a plain transformer; facebook/detr-resnet-50", &sources::DETR),
    coco("DETR R101", 43.5, None, "as above, deeper; facebook/detr-resnet-101", &sources::DETR),
    Detector {
        licence: "BSD-3-Clause",
        ..coco("Faster R-CNN R50-FPN v2", 46.7, None, "two stages; torchvision weights", &sources::FASTER_RCNN_V2)
    },
    coco("YOLOX nano", 25.8, Some(0.91), "for CPUs", &sources::YOLOX),
    coco("YOLOX tiny", 32.8, Some(5.06), "for CPUs", &sources::YOLOX),
    coco("YOLOX s", 40.5, Some(9.0), "for CPUs", &sources::YOLOX),
    coco("RT-DETR R50", 53.1, None, "real time on a GPU", &sources::RT_DETR),
    coco("D-FINE S", 48.5, Some(10.0), "deformable attention", &sources::D_FINE),
    coco("D-FINE M", 52.3, Some(19.0), "deformable attention", &sources::D_FINE),
    coco("D-FINE L", 54.0, Some(31.0), "deformable attention", &sources::D_FINE),
    coco("D-FINE X", 55.8, Some(62.0), "deformable attention", &sources::D_FINE),
    coco("RF-DETR L", 56.5, None, "DINOv2 backbone, deformable attention", &sources::RF_DETR),
    open("OWL-ViT L/14", 34.6, Benchmark::Lvis, &sources::OWL_VIT),
    open("Grounding DINO T", 48.4, Benchmark::CocoZeroShot, &sources::GROUNDING_DINO),
    open("Grounding DINO L", 52.5, Benchmark::CocoZeroShot, &sources::GROUNDING_DINO),
];

/// The table in Markdown.
pub fn markdown() -> String {
    let mut text = String::from(
        "| detector | average precision | on | parameters | licence | note | source |\n|---|---:|---|---:|---|---|---|\n",
    );
    for detector in &DETECTORS {
        let parameters = detector.parameters_million.map_or_else(|| "-".to_owned(), |n| format!("{n} M"));
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "| {} | {:.1} | {} | {parameters} | {} | {} | {} |",
            detector.name,
            detector.precision,
            detector.benchmark.name(),
            detector.licence,
            detector.note,
            detector.source.markdown(),
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_figure_has_a_source_and_every_row_seven_cells() {
        for detector in &DETECTORS {
            assert!(sources::all().contains(&detector.source) && (20.0..70.0).contains(&detector.precision));
        }
        let text = markdown();
        assert_eq!(text.lines().count(), DETECTORS.len() + 2);
        assert!(text.lines().all(|line| line.matches('|').count() == 8), "{text}");
        assert!(text.contains("| DETR R50 | 42.0 | COCO | 41 M | Apache-2.0 |"), "{text}");
    }
}
