//! Published outputs of detectors, and what a detector gives for the same photo.

use image::RgbImage;

use super::{Golden, Photo, Row, Scale, compare};
use crate::error::{Error, Result};
use crate::geometry::CxcywhNorm;
use crate::models::{Detector, Stage, coco, registry};

const DETR_TEST: &str = "huggingface/transformers tests/models/detr/test_modeling_detr.py";

const fn detr(stage: &'static str, slice: &'static str, expected: &'static [f32]) -> Golden {
    Golden {
        model: "detr-resnet-50",
        stage,
        slice,
        texts: &[],
        photo: Some(Photo::CocoCats),
        expected,
        scale: Scale::Absolute,
        // The test's own tolerance is 2e-4, on its own machine with its own convolutions.
        rtol: 1e-3,
        atol: 1e-3,
        source: DETR_TEST,
    }
}

const RT_DETR_V2_TEST: &str = "huggingface/transformers tests/models/rt_detr_v2/test_modeling_rt_detr_v2.py";

const fn rt_detr_v2(stage: &'static str, expected: &'static [f32], atol: f32) -> Golden {
    // The reference resizes with torchvision, whose grey levels differ from Pillow's by one here and there.
    Golden { model: "rtdetr-v2-r18", atol, source: RT_DETR_V2_TEST, ..detr(stage, "[0, :3, :3]", expected) }
}

const OWL_VIT_TEST: &str = "huggingface/transformers tests/models/owlvit/test_modeling_owlvit.py @47af5a4";

/// The published outputs that are compared. Those of `facebook/detr-resnet-50` belong to its revision `no_timm`, whose tensors
/// are those of `main` under other names.
static GOLDENS: [Golden; 9] = [
    detr(
        "decoder last_hidden_state",
        "[0, :3, :3]",
        &[0.0616, -0.5146, -0.4032, -0.7629, -0.4934, -1.7153, -0.4768, -0.6403, -0.7826],
    ),
    detr(
        "logits",
        "[0, :3, :3]",
        &[-19.1194, -0.0893, -11.0154, -17.364, -1.8035, -14.0219, -20.0461, -0.5837, -11.106],
    ),
    detr("pred_boxes", "[0, :3, :3]", &[0.4433, 0.5302, 0.8852, 0.5494, 0.2517, 0.0529, 0.4998, 0.536, 0.9955]),
    detr("scores", " of the boxes from 0.3 on", &[0.9982, 0.996, 0.9955, 0.9988, 0.9987]),
    detr("labels", " of the boxes from 0.3 on", &[75.0, 75.0, 63.0, 17.0, 17.0]),
    detr("boxes", "[0] from 0.3 on, pixels", &[40.1615, 70.809, 175.5476, 117.981]),
    rt_detr_v2("logits", &[-3.7047, -5.1914, -6.1787, -4.0108, -9.3449, -5.2047, -4.1287, -4.7461, -5.8633], 2e-2),
    rt_detr_v2("pred_boxes", &[0.2582, 0.5497, 0.4764, 0.1684, 0.1985, 0.212, 0.7665, 0.4146, 0.4669], 2e-3),
    // Boxes do not depend on what is asked for: the test's texts and its query picture give the same.
    Golden {
        model: "owlvit-base-patch32",
        source: OWL_VIT_TEST,
        ..detr("pred_boxes", "[0, :3, :3]", &[0.0691, 0.0445, 0.1373, 0.1592, 0.0456, 0.3192, 0.1632, 0.0423, 0.2478])
    },
];

/// Least score of the boxes that were published.
const THRESHOLD: f32 = 0.3;

fn of(id: &str) -> impl Iterator<Item = &'static Golden> {
    let name = registry::find_detector(id).map(|entry| entry.name);
    GOLDENS.iter().filter(move |golden| Some(golden.model) == name)
}

/// The photos that a detector's published outputs were computed on.
pub fn detector_photos(id: &str) -> Vec<Photo> {
    of(id).filter_map(|golden| golden.photo).take(1).collect()
}

/// Runs a detector on the photo of its published outputs; nothing where that is not among `photos`.
///
/// # Errors
/// The detector's.
pub fn detector(detector: &Detector, photos: &[(Photo, RgbImage)]) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let wanted = detector_photos(detector.id());
    for (_, picture) in photos.iter().filter(|(photo, _)| wanted.contains(photo)) {
        let stages = detector.stages(picture)?;
        for golden in of(detector.id()) {
            rows.extend(compare(golden, &output(golden, &stages, picture)?));
        }
    }
    Ok(rows)
}

/// What a golden speaks of.
fn output(golden: &Golden, stages: &[Stage], picture: &RgbImage) -> Result<Vec<f32>> {
    let named = |name: &str| stages.iter().find(|stage| stage.name == name);
    if let Some(stage) = named(golden.stage) {
        let rows = stage.values.chunks(stage.width.max(1)).take(3);
        return Ok(rows.flat_map(|row| row.iter().take(3).copied()).collect());
    }
    let (Some(logits), Some(boxes)) = (named("logits"), named("pred_boxes")) else { return Ok(Vec::new()) };
    let found = kept(logits, boxes);
    match golden.stage {
        "scores" => Ok(found.iter().map(|(score, ..)| *score).collect()),
        "labels" => Ok(found.iter().map(|(_, class, _)| *class as f32).collect()),
        "boxes" => Ok(found
            .iter()
            .take(1)
            .flat_map(|(_, _, bounds)| bounds.to_px(picture.width() as f32, picture.height() as f32).to_array())
            .collect()),
        other => Err(Error::Argument { name: "stage", reason: format!("is no stage of a detector: `{other}`") }),
    }
}

/// Score, category and box of each query that reaches the threshold, in the queries' order.
fn kept(logits: &Stage, boxes: &Stage) -> Vec<(f32, usize, CxcywhNorm)> {
    let rows = logits.values.chunks(logits.width.max(1)).zip(boxes.values.as_chunks::<4>().0);
    let best = rows.filter_map(|(row, &[cx, cy, w, h])| {
        let probabilities = super::softmax(row);
        let (_, classes) = probabilities.split_last()?;
        let (class, score) = classes.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1))?;
        (*score > THRESHOLD).then_some((*score, class, CxcywhNorm { cx, cy, w, h }))
    });
    best.filter(|(_, class, _)| coco::category(*class).is_some()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Outputs that fit the published ones: three queries' heads, and five that are kept.
    fn published() -> [Stage; 3] {
        let row = |class: usize, score: f32| {
            let mut row = vec![0.0_f32; 92];
            row[class] = (score / (1.0 - score) * 91.0).ln();
            row
        };
        let logits = [(75, 0.9982), (75, 0.996), (63, 0.9955), (17, 0.9988), (17, 0.9987), (3, 0.2)];
        let [x0, y0, x1, y1] = [40.1615_f32, 70.809, 175.5476, 117.981];
        let first = [x0.midpoint(x1) / 640.0, y0.midpoint(y1) / 480.0, (x1 - x0) / 640.0, (y1 - y0) / 480.0];
        let boxes = [first, [0.5; 4], [0.5; 4], [0.5; 4], [0.5; 4], [0.5; 4]];
        [
            Stage { name: "hidden", width: 4, values: (0..16_u8).map(f32::from).collect() },
            Stage { name: "logits", width: 92, values: logits.into_iter().flat_map(|(c, s)| row(c, s)).collect() },
            Stage { name: "pred_boxes", width: 4, values: boxes.concat() },
        ]
    }

    #[test]
    fn post_processed_outputs_are_compared_in_the_order_of_the_queries() {
        let (stages, picture) = (published(), RgbImage::new(640, 480));
        for golden in GOLDENS.iter().filter(|golden| ["scores", "labels", "boxes"].contains(&golden.stage)) {
            let rows = compare(golden, &output(golden, &stages, &picture).unwrap());
            assert!(!rows.is_empty() && rows.iter().all(|row| row.ok), "{rows:?}");
        }
        let head = Golden { stage: "hidden", ..GOLDENS[0] };
        assert_eq!(output(&head, &stages, &picture).unwrap(), [0., 1., 2., 4., 5., 6., 8., 9., 10.]);
        assert!(output(&Golden { stage: "masks", ..GOLDENS[0] }, &stages, &picture).is_err());
    }

    #[test]
    fn every_golden_belongs_to_the_registry() {
        for golden in &GOLDENS {
            assert!(registry::find_detector(golden.model).is_some_and(|entry| entry.name == golden.model));
        }
        assert_eq!(detector_photos("facebook/detr-resnet-50"), [Photo::CocoCats]);
        assert_eq!(detector_photos("google/owlvit-base-patch32"), [Photo::CocoCats]);
        assert!(detector_photos("detr-resnet-101").is_empty() && detector_photos("yolox-s").is_empty());
    }
}
