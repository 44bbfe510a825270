//! The input pipeline of detectors that keep a picture's proportions: the shorter side to a length, the longer one within a
//! bound.

use image::RgbImage;
use serde_json::{Map, Value};

use super::config::{Defaults, filter, flag, normalisation, refuse_foreign_steps, rescale_factor, side, sides};
use super::{Resizing, values};
use crate::error::{Error, Result};
use crate::pixels::resize::{Resample, resize};

/// Source: the class attributes in transformers 5.24, `models/detr/image_processing_pil_detr.py`.
const DETR: Defaults = Defaults {
    names: &["DetrImageProcessor"],
    resizing: Resizing::Keep,
    square: false,
    crop: None,
    filter: Resample::Bilinear,
    mean: [0.485, 0.456, 0.406],
    std: [0.229, 0.224, 0.225],
};
const DETR_EDGES: Edges = Edges::Within { shortest: 800, longest: 1333 };
/// Source: as [`DETR`], `models/rt_detr/image_processing_pil_rt_detr.py`; it normalises only where it is told to.
const RT_DETR: Defaults = Defaults { names: &["RTDetrImageProcessor"], ..DETR };
const RT_DETR_EDGES: Edges = Edges::Squash { height: 640, width: 640 };

/// How large a picture becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Edges {
    /// The shorter side to `shortest`, or less where the longer one would exceed `longest`.
    Within { shortest: u32, longest: u32 },
    /// To exactly this, whatever the proportions.
    Squash { height: u32, width: u32 },
}

/// A picture as a detector takes it.
#[derive(Debug, Clone)]
pub struct DetectorInput {
    /// Shape: `[3, height, width]` flattened, RGB.
    pub pixels: Vec<f32>,
    /// Its height.
    pub height: usize,
    /// Its width.
    pub width: usize,
}

/// The input pipeline of a detector, read from its `preprocessor_config.json`.
#[derive(Debug, Clone)]
pub struct Proportional {
    edges: Edges,
    filter: Resample,
    /// Per channel, the input value of each sample value.
    values: Box<[[f32; 256]; 3]>,
}

impl Proportional {
    /// DETR's pipeline from the JSON of `preprocessor_config.json`; without one, what the reference's processor does by
    /// itself. `model` is for messages.
    ///
    /// # Errors
    /// Broken JSON, or a step that is not known here: [`Error::ModelFile`] names it.
    pub fn detr(json: Option<&str>, model: &str) -> Result<Self> {
        Self::checked(json, model, &DETR, DETR_EDGES)
    }

    /// As [`Proportional::detr`], RT-DETR's: to a fixed height and width, whatever the proportions.
    ///
    /// # Errors
    /// As [`Proportional::detr`]; a size that keeps the proportions, which the network cannot take.
    pub fn rt_detr(json: Option<&str>, model: &str) -> Result<Self> {
        let read = Self::checked(json, model, &RT_DETR, RT_DETR_EDGES)?;
        match read.edges {
            Edges::Squash { .. } => Ok(read),
            Edges::Within { .. } => Err(refused(model, "says a size without a fixed height and width".to_owned())),
        }
    }

    fn checked(json: Option<&str>, model: &str, defaults: &Defaults, usual: Edges) -> Result<Self> {
        Self::read(json.unwrap_or("{}"), defaults, usual).map_err(|reason| refused(model, reason))
    }

    fn read(json: &str, defaults: &Defaults, usual: Edges) -> std::result::Result<Self, String> {
        let value: Value = serde_json::from_str(json).map_err(|error| format!("broken JSON: {error}"))?;
        let file = value.get("image_processor").unwrap_or(&value).as_object().ok_or("not a JSON object")?;
        let named = ["image_processor_type", "feature_extractor_type"].iter().find_map(|key| file.get(*key)?.as_str());
        if let Some(named) = named {
            let class =
                named.trim_end_matches("Fast").trim_end_matches("Pil").replace("FeatureExtractor", "ImageProcessor");
            if !defaults.names.contains(&class.as_str()) {
                return Err(format!(
                    "image_processor_type `{named}` is not known here (known: {})",
                    defaults.names.join(", ")
                ));
            }
        }
        let normalises = flag(file, "do_normalize", defaults.names == DETR.names)?;
        refuse_foreign_steps(file, &["do_pad", "do_convert_annotations"])?;
        if file.get("pad_size").is_some_and(|size| !size.is_null()) {
            return Err("the step `pad_size` is not known here".to_owned());
        }
        if !flag(file, "do_resize", true)? {
            return Err("without do_resize, the input may have any size".to_owned());
        }
        Ok(Self {
            edges: edges(file, usual)?,
            filter: filter(file, defaults)?,
            values: values(rescale_factor(file)?, if normalises { normalisation(file, defaults)? } else { None }),
        })
    }

    /// The longer side that pictures are scaled to at most, pixels.
    pub fn longest_edge(&self) -> u32 {
        match self.edges {
            Edges::Within { longest, .. } => longest,
            Edges::Squash { height, width } => height.max(width),
        }
    }

    /// Width and height that a picture of this size becomes; `longest` stands for [`Proportional::longest_edge`], and the other
    /// numbers change in proportion.
    pub fn size(&self, width: u32, height: u32, longest: u32) -> (u32, u32) {
        let usual = self.longest_edge();
        let other = |length: u32| {
            if longest == usual {
                length
            } else {
                (u64::from(length) * u64::from(longest) / u64::from(usual.max(1))) as u32
            }
        };
        match self.edges {
            Edges::Squash { height, width } => (other(width).max(1), other(height).max(1)),
            Edges::Within { shortest, .. } => within(width, height, other(shortest), longest),
        }
    }

    /// Resizes, rescales and normalises; `longest` as in [`Proportional::size`].
    pub fn apply(&self, picture: &RgbImage, longest: u32) -> DetectorInput {
        let (width, height) = self.size(picture.width(), picture.height(), longest);
        let small = resize(picture, width, height, self.filter);
        let samples = small.as_raw().as_chunks::<3>().0;
        let mut pixels = Vec::with_capacity(small.as_raw().len());
        for (channel, values) in self.values.iter().enumerate() {
            pixels.extend(samples.iter().map(|sample| values[usize::from(sample[channel])]));
        }
        DetectorInput { pixels, height: height as usize, width: width as usize }
    }
}

fn refused(model: &str, reason: String) -> Error {
    Error::ModelFile { model: model.into(), file: "preprocessor_config.json".into(), reason }
}

/// Source: `get_size_with_aspect_ratio` in transformers 5.24, `image_transforms.py`: Python rounds halves to even, and the
/// other side is truncated. A line of a panorama is one pixel at least, where the reference fails.
fn within(width: u32, height: u32, shortest: u32, longest: u32) -> (u32, u32) {
    let (w, h) = (f64::from(width), f64::from(height));
    let (short, long) = (w.min(h).max(1.0), w.max(h).max(1.0));
    let (mut size, mut raw) = (f64::from(shortest), f64::from(shortest));
    if long / short * size > f64::from(longest) {
        raw = f64::from(longest) * short / long;
        size = raw.round_ties_even();
    }
    #[expect(clippy::float_cmp, reason = "both are whole numbers")]
    if short == size {
        return (width, height);
    }
    let (new_width, new_height) =
        if width < height { (size, raw * h / w.max(1.0)) } else { (raw * w / h.max(1.0), size) };
    // A float beyond the largest integer becomes that one.
    ((new_width as u32).clamp(1, longest), (new_height as u32).clamp(1, longest))
}

/// `{"shortest_edge", "longest_edge"}`, the older number with `max_size`, or a fixed height and width.
fn edges(file: &Map<String, Value>, usual: Edges) -> std::result::Result<Edges, String> {
    let edge = |key: &str, value: &Value| side(key, value);
    let bounded = |shortest: u32, longest: u32| {
        if shortest > longest {
            return Err(format!("the shortest edge ({shortest}) exceeds the longest one ({longest})"));
        }
        Ok(Edges::Within { shortest, longest })
    };
    let max_size = file.get("max_size").filter(|value| !value.is_null());
    match file.get("size") {
        None | Some(Value::Null) => Ok(usual),
        Some(number @ Value::Number(_)) => {
            let longest = max_size.map_or(Ok(1333), |value| edge("max_size", value))?;
            bounded(edge("size", number)?, longest)
        }
        Some(size) => match (size.get("shortest_edge"), size.get("longest_edge"), size.as_object().map(Map::len)) {
            (Some(shortest), Some(longest), Some(2)) => {
                bounded(edge("size.shortest_edge", shortest)?, edge("size.longest_edge", longest)?)
            }
            _ => sides("size", size).map(|(height, width)| Edges::Squash { height, width }),
        },
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::float_cmp, reason = "the values are exact")]

    use image::Rgb;

    use super::*;

    /// Sizes from `get_size_with_aspect_ratio` of transformers 5.24.
    #[test]
    fn sizes_are_rounded_as_the_reference_rounds_them() {
        let detr = Proportional::detr(None, "m").unwrap();
        for ((width, height), expected) in EXPECTED {
            assert_eq!(detr.size(width, height, 1333), expected, "{width} x {height}");
        }
        // The reference has no answer to these.
        assert_eq!(detr.size(5000, 1, 1333), (1333, 1));
        assert_eq!(detr.size(1, 4000, 1333), (1, 1333));
        // Half of everything.
        assert_eq!(detr.size(640, 480, 666), (532, 399));
    }

    const EXPECTED: [((u32, u32), (u32, u32)); 10] = [
        ((640, 480), (1066, 800)),
        ((480, 640), (800, 1066)),
        ((800, 800), (800, 800)),
        ((1333, 800), (1333, 800)),
        ((2000, 1000), (1333, 666)),
        ((500, 333), (1201, 800)),
        ((333, 500), (800, 1201)),
        ((4000, 3000), (1066, 800)),
        ((640, 211), (1333, 439)),
        ((900, 90), (1333, 133)),
    ];

    #[test]
    fn every_form_of_a_size_is_read_and_others_are_named() {
        let longest = |json: &str| Proportional::read(json, &DETR, DETR_EDGES).map(|read| (read.edges, read.filter));
        let within = |shortest, longest| Ok((Edges::Within { shortest, longest }, Resample::Bilinear));
        assert_eq!(longest(r#"{"size": 600}"#), within(600, 1333));
        assert_eq!(longest(r#"{"size": 600, "max_size": 1000, "do_pad": true}"#), within(600, 1000));
        assert_eq!(
            longest(
                r#"{"size": {"shortest_edge": 80, "longest_edge": 120}, "feature_extractor_type": "DetrFeatureExtractor"}"#
            ),
            within(80, 120)
        );
        let squash = longest(r#"{"size": {"height": 64, "width": 96}, "resample": 3}"#).unwrap();
        assert_eq!(squash, (Edges::Squash { height: 64, width: 96 }, Resample::Bicubic));
        for (json, reason) in [
            (r#"{"size": {"shortest_edge": 80}}"#, "is not a form"),
            (r#"{"size": {"shortest_edge": 800, "longest_edge": 120}}"#, "exceeds the longest one"),
            (r#"{"do_resize": false}"#, "without do_resize"),
            (r#"{"pad_size": {"height": 5, "width": 5}}"#, "pad_size"),
            (r#"{"do_center_crop_twice": true}"#, "do_center_crop_twice"),
            (r#"{"image_processor_type": "YolosImageProcessor"}"#, "YolosImageProcessor"),
            ("[]", "not a JSON object"),
        ] {
            let error = longest(json).unwrap_err();
            assert!(error.contains(reason), "{json}: {error}");
        }
    }

    #[test]
    fn an_rt_detr_s_input_is_squashed_and_not_normalised() {
        let usual = Proportional::rt_detr(None, "m").unwrap();
        assert_eq!((usual.size(300, 500, 640), usual.values[2][255]), ((640, 640), 1.0));
        let json = r#"{"image_processor_type": "RTDetrImageProcessor", "do_pad": false, "pad_size": null, "do_normalize": false,
            "image_mean": [0.485, 0.456, 0.406], "size": {"height": 320, "width": 640}}"#;
        assert_eq!(Proportional::rt_detr(Some(json), "m").unwrap().size(9, 9, 640), (640, 320));
        let kept = r#"{"size": {"shortest_edge": 480, "longest_edge": 640}}"#;
        let error = Proportional::rt_detr(Some(kept), "m").unwrap_err().to_string();
        assert!(error.contains("without a fixed height and width"), "{error}");
    }

    #[test]
    fn channels_lie_one_after_the_other_normalised() {
        let json =
            r#"{"size": {"shortest_edge": 4, "longest_edge": 8}, "image_mean": [0, 0, 0], "image_std": [1, 0.5, 1]}"#;
        let small = Proportional::detr(Some(json), "m").unwrap();
        let one = small.apply(&RgbImage::from_pixel(6, 4, Rgb([255, 51, 0])), 8);
        assert_eq!((one.height, one.width, one.pixels.len()), (4, 6, 72));
        assert!(one.pixels[..24].iter().all(|value| *value == 1.0));
        assert!(one.pixels[24..48].iter().all(|value| (*value - 0.4).abs() < 1e-6));
        assert!(one.pixels[48..].iter().all(|value| *value == 0.0));
    }
}
