//! Published accuracy of object detectors, for the table of references/object_detection.md.

use std::fmt::Write as _;

/// What a figure measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Benchmark {
    /// COCO 2017 val, average precision over IoU 0.50 to 0.95, trained on COCO.
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
    pub source: &'static str,
}

const DETR: &str = "https://github.com/facebookresearch/detr";
const FASTER_RCNN: &str = "https://github.com/pytorch/vision/issues/5763";
const YOLOX: &str = "https://github.com/Megvii-BaseDetection/YOLOX";
const RT_DETR: &str = "https://github.com/lyuwenyu/RT-DETR";
const D_FINE: &str = "https://github.com/Peterande/D-FINE";
const RF_DETR: &str = "https://rfdetr.roboflow.com/develop/learn/benchmarks/";
const OWL_VIT: &str = "https://arxiv.org/abs/2205.06230";
const GROUNDING_DINO: &str = "https://arxiv.org/abs/2303.05499";

const APACHE: &str = "Apache-2.0";

const fn coco(
    name: &'static str,
    precision: f32,
    parameters_million: Option<f32>,
    note: &'static str,
    source: &'static str,
) -> Detector {
    Detector { name, precision, benchmark: Benchmark::Coco, parameters_million, licence: APACHE, note, source }
}

const fn open(name: &'static str, precision: f32, benchmark: Benchmark, source: &'static str) -> Detector {
    let note = "open vocabulary: the label is a text";
    Detector { name, precision, benchmark, parameters_million: None, licence: APACHE, note, source }
}

/// Every detector of the table.
pub static DETECTORS: [Detector; 15] = [
    coco("DETR R50", 42.0, Some(41.0), "ResNet and a plain transformer; facebook/detr-resnet-50", DETR),
    coco("DETR R101", 43.5, None, "as above, deeper; facebook/detr-resnet-101", DETR),
    Detector {
        licence: "BSD-3-Clause",
        ..coco("Faster R-CNN R50-FPN v2", 46.7, None, "two stages; torchvision weights", FASTER_RCNN)
    },
    coco("YOLOX nano", 25.8, Some(0.91), "for CPUs", YOLOX),
    coco("YOLOX tiny", 32.8, Some(5.06), "for CPUs", YOLOX),
    coco("YOLOX s", 40.5, Some(9.0), "for CPUs", YOLOX),
    coco("RT-DETR R50", 53.1, None, "real time on a GPU", RT_DETR),
    coco("D-FINE S", 48.5, Some(10.0), "deformable attention", D_FINE),
    coco("D-FINE M", 52.3, Some(19.0), "deformable attention", D_FINE),
    coco("D-FINE L", 54.0, Some(31.0), "deformable attention", D_FINE),
    coco("D-FINE X", 55.8, Some(62.0), "deformable attention", D_FINE),
    coco("RF-DETR L", 56.5, None, "DINOv2 backbone, deformable attention", RF_DETR),
    open("OWL-ViT L/14", 34.6, Benchmark::Lvis, OWL_VIT),
    open("Grounding DINO T", 48.4, Benchmark::CocoZeroShot, GROUNDING_DINO),
    open("Grounding DINO L", 52.5, Benchmark::CocoZeroShot, GROUNDING_DINO),
];

/// The table in Markdown.
pub fn markdown() -> String {
    let mut text = String::from(
        "| detector | average precision | on | parameters | licence | note | source |\n|---|---:|---|---:|---|---|---|\n",
    );
    for detector in &DETECTORS {
        let parameters = detector.parameters_million.map_or_else(|| "-".to_owned(), |n| format!("{n} M"));
        let place = detector.source.trim_start_matches("https://").trim_end_matches('/');
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "| {} | {:.1} | {} | {parameters} | {} | {} | [{place}]({}) |",
            detector.name,
            detector.precision,
            detector.benchmark.name(),
            detector.licence,
            detector.note,
            detector.source,
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
            assert!(detector.source.starts_with("https://") && (20.0..70.0).contains(&detector.precision));
        }
        let text = markdown();
        assert_eq!(text.lines().count(), DETECTORS.len() + 2);
        assert!(text.lines().all(|line| line.matches('|').count() == 8), "{text}");
        assert!(text.contains("| DETR R50 | 42.0 | COCO | 41 M | Apache-2.0 |"), "{text}");
    }
}
