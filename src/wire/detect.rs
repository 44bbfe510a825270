//! `detect_count` and `detect`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::round;
use crate::engine::detect::{ClassCount, Found, Like, Request};
use crate::engine::{Engine, Watch};
use crate::error::{Error, Result};
use crate::geometry::XyxyPx;
use crate::models::{Counting, Detector};
use crate::pixels::{self, Mark};

/// Arguments of `detect_count`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DetectArgs {
    /// Paths of the images.
    #[schemars(length(min = 1, max = 1000))]
    pub images: Option<Vec<String>>,
    /// Or a folder, without its subfolders.
    pub folder: Option<String>,
    /// What to count, default everything.
    #[schemars(length(min = 1, max = 100))]
    pub targets: Option<Vec<String>>,
    /// Or an image of the thing to count.
    pub like: Option<String>,
    /// Where in it: left, top, right, bottom in pixels.
    pub like_box: Option<[f32; 4]>,
    /// Least score of a box; default what counts best.
    #[schemars(range(min = 0, max = 1))]
    pub threshold: Option<f32>,
    /// Look closer, for small things; slower.
    pub tile: Option<bool>,
    /// Return up to 4 pictures with boxes.
    pub annotate: Option<bool>,
}

/// An object.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct DetectedObject {
    /// Its class.
    pub label: String,
    /// The detector's score, 0 to 1.
    pub score: f32,
    /// Left, top, right, bottom in pixels of the upright image, origin top left.
    #[serde(rename = "box")]
    pub bounds: [f32; 4],
}

/// How sure the count of a class is.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct CountDoubt {
    /// The class.
    pub label: String,
    /// Probability that there is at least one.
    pub present: f32,
    /// Expected number if there is one; a count is this, rounded, and never more than the boxes that could be listed.
    pub expected: f32,
    /// Boxes with scores of at least 0.2, 0.3, 0.5 and 0.7.
    pub range: Vec<usize>,
    /// Many, or overlapping: some may be hidden.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub crowded: bool,
    /// Cut off by the image's border.
    #[serde(skip_serializing_if = "is_zero")]
    pub cut_off: usize,
    /// As small as the detector can see; more of this size may be missed.
    #[serde(skip_serializing_if = "is_zero")]
    pub tiny: usize,
}

/// What was found in one image.
///
/// `counts` is always the number of listed detections of a label: a caller can point at every object that was counted.
/// The estimate behind it, which need not be whole and may exceed what can be shown, is `doubts[].expected`.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct DetectResult {
    /// Path of the image.
    pub path: String,
    /// Width in pixels, upright.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// No listed detection scores less.
    pub threshold: f32,
    /// Listed detections per label; a label that was asked for is there even at 0.
    pub counts: BTreeMap<String, usize>,
    /// Best first.
    pub detections: Vec<DetectedObject>,
    /// How sure each count is.
    pub doubts: Vec<CountDoubt>,
    /// The detector.
    pub detector: String,
    /// Where the annotated picture was written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub annotated: Option<String>,
    /// Why the image could not be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// What `detect_count` answers.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct DetectResponse {
    /// One entry per image.
    pub images: Vec<DetectResult>,
    /// All counts added up.
    pub total: BTreeMap<String, usize>,
    /// For each target as given, the label that was counted.
    pub targets: BTreeMap<String, String>,
    /// What to keep in mind.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn is_zero(number: &usize) -> bool {
    *number == 0
}

/// Runs `detect_count` / `detect`.
///
/// # Errors
/// Neither images nor folder or both, an unknown target, an example that cannot be used, the detector cannot be loaded; an unreadable image is an entry
/// with its error.
pub fn detect(engine: &Engine, args: &DetectArgs, watch: &Watch<'_>) -> Result<DetectResponse> {
    let refuse = |reason: &str| Err(Error::Argument { name: "images", reason: reason.into() });
    let images = match (&args.images, &args.folder) {
        (Some(images), None) => images.clone(),
        (None, Some(folder)) => {
            let path = engine.resolve(folder)?;
            if !path.is_dir() {
                return Err(Error::NotAFolder { path });
            }
            engine.expand_images(std::slice::from_ref(folder))?
        }
        (None, None) => return refuse("or folder is needed"),
        (Some(_), Some(_)) => return refuse("and folder exclude each other"),
    };
    if args.like_box.is_some() && args.like.is_none() {
        return Err(Error::Argument { name: "like_box", reason: "is a part of an example: give like too".into() });
    }
    let request = Request {
        targets: args.targets.clone().unwrap_or_default(),
        like: args.like.clone().map(|image| Like { image, bounds: args.like_box }),
        threshold: args.threshold,
        tiles: args.tile.unwrap_or(false),
    };
    let detected = engine.detect(&images, &request, watch)?;
    let detector = &detected.detector;
    let mut total = BTreeMap::new();
    let images = detected
        .images
        .into_iter()
        .map(|(path, outcome)| {
            let result = match outcome {
                Ok(found) => result(path, &found, detector),
                Err(error) => unread(path, &error, detector),
            };
            for (label, count) in &result.counts {
                *total.entry(label.clone()).or_default() += count;
            }
            result
        })
        .collect();
    let targets = detected.targets.into_iter().collect();
    let notes = match detector.counting() {
        Counting::Uncalibrated(usual) => {
            let from = args.threshold.unwrap_or(usual);
            vec![format!(
                "scores of {} are not calibrated: counted are boxes from {from} on; doubts show the counts at higher scores",
                detector.id()
            )]
        }
        Counting::Calibrated | Counting::Threshold(_) => Vec::new(),
    };
    Ok(DetectResponse { images, total, targets, notes })
}

fn result(path: String, found: &Found, detector: &Detector) -> DetectResult {
    let label = |class: usize| detector.labels().get(class).cloned().unwrap_or_default();
    let doubt = |class: &ClassCount| CountDoubt {
        label: label(class.class),
        present: hundredths(class.estimate.present),
        expected: hundredths(class.estimate.expected),
        range: class.at_levels.to_vec(),
        crowded: class.crowded,
        cut_off: class.cut_off,
        tiny: class.tiny,
    };
    let object = |one: &crate::models::Detection| DetectedObject {
        label: label(one.class),
        score: (one.score * 1e4).round() / 1e4,
        bounds: one.bounds.to_array().map(hundredths),
    };
    DetectResult {
        path,
        width: found.width,
        height: found.height,
        threshold: found.threshold,
        counts: found.classes.iter().map(|class| (label(class.class), class.count)).collect(),
        detections: found.detections.iter().map(object).collect(),
        doubts: found.classes.iter().map(doubt).collect(),
        detector: detector.id().to_owned(),
        annotated: None,
        error: None,
    }
}

fn unread(path: String, error: &Error, detector: &Detector) -> DetectResult {
    DetectResult {
        path,
        width: 0,
        height: 0,
        threshold: 0.0,
        counts: BTreeMap::new(),
        detections: Vec::new(),
        doubts: Vec::new(),
        detector: detector.id().to_owned(),
        annotated: None,
        error: Some(error.to_string()),
    }
}

fn hundredths(value: f32) -> f32 {
    round(f64::from(value)) as f32
}

/// The picture with the detections drawn on it; `max_side` bounds its longer side.
///
/// # Errors
/// The image cannot be read any more.
pub fn annotated(engine: &Engine, result: &DetectResult, max_side: Option<u32>) -> Result<image::RgbImage> {
    let (_, picture) = engine.read_image(&result.path)?;
    let kinds: Vec<&String> = result.counts.keys().collect();
    let marks: Vec<Mark> = result
        .detections
        .iter()
        .map(|one| {
            let [x0, y0, x1, y1] = one.bounds;
            Mark {
                bounds: XyxyPx { x0, y0, x1, y1 },
                label: format!("{} {:.2}", one.label, one.score),
                kind: kinds.iter().position(|kind| **kind == one.label).unwrap_or_default(),
            }
        })
        .collect();
    Ok(pixels::annotate(&picture.rgb, &marks, max_side))
}

/// As [`annotated`], as a JPEG.
///
/// # Errors
/// As [`annotated`].
pub fn annotated_jpeg(engine: &Engine, result: &DetectResult, max_side: u32) -> Result<Vec<u8>> {
    pixels::thumbnail_jpeg(&annotated(engine, result, Some(max_side))?, max_side)
}
