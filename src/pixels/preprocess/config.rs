//! The forms that `preprocessor_config.json` takes on the hub, brought to one.

use serde_json::{Map, Value};

use super::Resizing;
use crate::pixels::resize::Resample;

pub(super) const CLIP_MEAN: [f64; 3] = [0.481_454_66, 0.457_827_5, 0.408_210_73];
pub(super) const CLIP_STD: [f64; 3] = [0.268_629_54, 0.261_302_58, 0.275_777_11];
const HALF: [f64; 3] = [0.5; 3];

/// Larger inputs than any published model's are a mistake in the file, and would ask for gigabytes.
const LARGEST_SIDE: u64 = 4096;

/// What a processor class does where its file is silent.
pub(super) struct Defaults {
    pub(super) names: &'static [&'static str],
    pub(super) resizing: Resizing,
    /// A bare number as `size` is a square, not the shorter side.
    pub(super) square: bool,
    pub(super) crop: Option<u32>,
    pub(super) filter: Resample,
    pub(super) mean: [f64; 3],
    pub(super) std: [f64; 3],
}

/// Source: the class attributes in transformers 5.23, `models/{clip,bit,siglip,owlvit,vit,convnext}/image_processing_pil_*.py`. The older
/// "feature extractors" and the "fast" variants have the same.
const PROCESSORS: [Defaults; 5] = [
    Defaults {
        names: &["CLIPImageProcessor", "BitImageProcessor"],
        resizing: Resizing::ShortestEdge(224),
        square: false,
        crop: Some(224),
        filter: Resample::Bicubic,
        mean: CLIP_MEAN,
        std: CLIP_STD,
    },
    Defaults {
        names: &["SiglipImageProcessor"],
        resizing: Resizing::Squash { height: 224, width: 224 },
        square: false,
        crop: None,
        filter: Resample::Bicubic,
        mean: HALF,
        std: HALF,
    },
    Defaults {
        names: &["OwlViTImageProcessor"],
        resizing: Resizing::Squash { height: 768, width: 768 },
        square: true,
        crop: None,
        filter: Resample::Bicubic,
        mean: CLIP_MEAN,
        std: CLIP_STD,
    },
    Defaults {
        names: &["ViTImageProcessor"],
        resizing: Resizing::Squash { height: 224, width: 224 },
        square: true,
        crop: None,
        filter: Resample::Bilinear,
        mean: HALF,
        std: HALF,
    },
    Defaults {
        names: &[CONVNEXT],
        resizing: Resizing::ShortestEdge(384),
        square: false,
        crop: None,
        filter: Resample::Bicubic,
        mean: HALF,
        std: HALF,
    },
];

/// It crops by a share, unless pictures are large ([`convnext`]).
const CONVNEXT: &str = "ConvNextImageProcessor";
/// `crop_pct`, and from which side on nothing is cropped.
const CROP_SHARE: f64 = 224.0 / 256.0;
const UNCROPPED_FROM: u32 = 384;

/// Settings of other processors that change the pixels, and are not done here. (`do_*` steps are caught by their prefix.)
const FOREIGN_KEYS: [&str; 9] = [
    "crop_pct",
    "rescale_offset",
    "offset",
    "reducing_gap",
    "size_divisor",
    "size_divisibility",
    "max_num_patches",
    "min_pixels",
    "max_pixels",
];

/// Mean and standard deviation of each channel.
pub(super) type MeanAndStd = ([f64; 3], [f64; 3]);

/// The pipeline, with nothing left open.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) resizing: Resizing,
    pub(super) filter: Resample,
    pub(super) height: u32,
    pub(super) width: u32,
    pub(super) rescale_factor: Option<f64>,
    pub(super) normalisation: Option<MeanAndStd>,
}

impl Settings {
    /// Reads the file; an error says what is wrong with it.
    pub(super) fn from_json(json: &str) -> Result<Self, String> {
        let value: Value = serde_json::from_str(json).map_err(|error| format!("broken JSON: {error}"))?;
        let file = value.get("image_processor").unwrap_or(&value).as_object().ok_or("not a JSON object")?;
        let defaults = defaults(file)?;
        let shares = defaults.names.contains(&CONVNEXT);
        refuse_foreign_steps(file, if shares { &["crop_pct"] } else { &[] })?;

        let mut resizing = if flag(file, "do_resize", true)? { resizing(file, defaults)? } else { Resizing::Keep };
        let mut crop = if flag(file, "do_center_crop", defaults.crop.is_some())? {
            Some(self::crop(file, defaults)?)
        } else {
            None
        };
        if shares && resizing != Resizing::Keep {
            (resizing, crop) = convnext(file, resizing, crop)?;
        }
        let (height, width) = match (crop, resizing) {
            (Some(crop), _) => crop,
            (None, Resizing::Squash { height, width }) => (height, width),
            (None, Resizing::Keep | Resizing::ShortestEdge(_)) => {
                return Err(
                    "without do_center_crop or a size of fixed height and width, the input has no fixed size".into()
                );
            }
        };
        Ok(Self {
            resizing,
            filter: filter(file, defaults)?,
            height,
            width,
            rescale_factor: rescale_factor(file)?,
            normalisation: normalisation(file, defaults)?,
        })
    }

    /// All steps in one line.
    pub(super) fn fingerprint(&self) -> String {
        let Self { resizing, filter, height, width, rescale_factor, normalisation } = self;
        format!("{resizing:?} {filter:?}; crop {height}x{width}; scale {rescale_factor:?}; mean, std {normalisation:?}")
    }
}

/// The defaults of the class that the file names.
fn defaults(file: &Map<String, Value>) -> Result<&'static Defaults, String> {
    let named = ["image_processor_type", "feature_extractor_type"].iter().find_map(|key| file.get(*key)?.as_str());
    let Some(named) = named else {
        // Files from before 2022 name no class. Those that crop follow CLIP's rules, the others ViT's.
        let crops = flag(file, "do_center_crop", file.contains_key("crop_size"))?;
        let class = if crops { "CLIPImageProcessor" } else { "ViTImageProcessor" };
        let complete = ["size", "image_mean", "image_std"].iter().all(|key| file.contains_key(*key));
        return if complete { find(class) } else { None }
            .ok_or_else(|| "names no image_processor_type, and lacks size, image_mean or image_std".into());
    };
    let base = named.trim_end_matches("Fast").trim_end_matches("Pil");
    let class = match base.strip_suffix("FeatureExtractor") {
        Some(family) => format!("{family}ImageProcessor"),
        None => base.to_owned(),
    };
    find(&class).ok_or_else(|| {
        let known: Vec<&str> = PROCESSORS.iter().flat_map(|known| known.names).copied().collect();
        format!("image_processor_type `{named}` is not known here (known: {})", known.join(", "))
    })
}

fn find(class: &str) -> Option<&'static Defaults> {
    PROCESSORS.iter().find(|known| known.names.contains(&class))
}

/// A step that is left out unknowingly gives wrong vectors and no error, so what is not known to be harmless is refused.
/// `own` are steps that the caller does.
pub(super) fn refuse_foreign_steps(file: &Map<String, Value>, own: &[&str]) -> Result<(), String> {
    const KNOWN_STEPS: [&str; 6] =
        ["do_resize", "do_center_crop", "do_rescale", "do_normalize", "do_convert_rgb", "do_reduce_labels"];
    for (key, value) in file {
        let off = value.is_null() || *value == Value::Bool(false);
        let known = KNOWN_STEPS.contains(&key.as_str()) || own.contains(&key.as_str());
        let foreign = !known && (key.starts_with("do_") || FOREIGN_KEYS.contains(&key.as_str()));
        if foreign && !off {
            return Err(format!("the step `{key}: {value}` is not known here"));
        }
    }
    match file.get("data_format").and_then(Value::as_str) {
        None | Some("channels_first") => Ok(()),
        Some(other) => Err(format!("data_format `{other}` is not known here")),
    }
}

pub(super) fn flag(file: &Map<String, Value>, key: &str, default: bool) -> Result<bool, String> {
    match file.get(key) {
        None | Some(Value::Null) => Ok(default),
        Some(Value::Bool(on)) => Ok(*on),
        Some(other) => Err(format!("`{key}: {other}` is neither true nor false")),
    }
}

fn resizing(file: &Map<String, Value>, defaults: &Defaults) -> Result<Resizing, String> {
    let square = flag(file, "default_to_square", defaults.square)?;
    let of_number =
        |side| if square { Resizing::Squash { height: side, width: side } } else { Resizing::ShortestEdge(side) };
    match file.get("size") {
        None | Some(Value::Null) => Ok(defaults.resizing),
        Some(number @ Value::Number(_)) => Ok(of_number(side("size", number)?)),
        Some(size) => match (size.get("shortest_edge"), size.as_object().map(Map::len)) {
            (Some(edge), Some(1)) => Ok(Resizing::ShortestEdge(side("size.shortest_edge", edge)?)),
            _ => sides("size", size).map(|(height, width)| Resizing::Squash { height, width }),
        },
    }
}

/// What `ConvNextImageProcessor` makes of its shortest edge: below 384 that of a crop, which is a share of the picture's, and
/// from there on both sides.
///
/// Source: `resize` in transformers 5.24, `image_processing_pil_convnext.py`.
fn convnext(
    file: &Map<String, Value>,
    resizing: Resizing,
    crop: Option<(u32, u32)>,
) -> Result<(Resizing, Option<(u32, u32)>), String> {
    let Resizing::ShortestEdge(edge) = resizing else { return Err("`size` has no shortest_edge".to_owned()) };
    if crop.is_some_and(|crop| crop != (edge, edge)) {
        return Err("`crop_size` differs from the shortest edge, which is cropped to already".to_owned());
    }
    if edge >= UNCROPPED_FROM {
        return Ok((Resizing::Squash { height: edge, width: edge }, None));
    }
    let share = file.get("crop_pct").filter(|share| !share.is_null()).map_or(Some(CROP_SHARE), Value::as_f64);
    let whole = share.map(|share| f64::from(edge) / share).filter(|whole| *whole <= LARGEST_SIDE as f64);
    match whole {
        Some(whole) if whole >= f64::from(edge) => Ok((Resizing::ShortestEdge(whole as u32), Some((edge, edge)))),
        _ => Err("`crop_pct` is no share of a picture that can be cropped".to_owned()),
    }
}

fn crop(file: &Map<String, Value>, defaults: &Defaults) -> Result<(u32, u32), String> {
    match file.get("crop_size") {
        None | Some(Value::Null) => match defaults.crop {
            Some(side) => Ok((side, side)),
            None => Err("do_center_crop without crop_size".into()),
        },
        Some(number @ Value::Number(_)) => side("crop_size", number).map(|side| (side, side)),
        Some(size) => sides("crop_size", size),
    }
}

/// `{"height": h, "width": w}` or `[h, w]`, and nothing else.
pub(super) fn sides(key: &str, size: &Value) -> Result<(u32, u32), String> {
    let pair = match size {
        Value::Object(keys) if keys.len() == 2 => keys.get("height").zip(keys.get("width")),
        Value::Array(pair) if pair.len() == 2 => pair.first().zip(pair.get(1)),
        _ => None,
    };
    let (height, width) = pair.ok_or_else(|| format!("`{key}: {size}` is not a form that is known here"))?;
    Ok((side(key, height)?, side(key, width)?))
}

pub(super) fn side(key: &str, value: &Value) -> Result<u32, String> {
    let number = value.as_u64().filter(|side| (1..=LARGEST_SIDE).contains(side));
    let number = number.and_then(|side| u32::try_from(side).ok());
    number.ok_or_else(|| format!("`{key}: {value}` is not a length from 1 to {LARGEST_SIDE}"))
}

pub(super) fn filter(file: &Map<String, Value>, defaults: &Defaults) -> Result<Resample, String> {
    match file.get("resample") {
        None | Some(Value::Null) => Ok(defaults.filter),
        Some(value) => value
            .as_u64()
            .and_then(Resample::from_pillow)
            .ok_or_else(|| format!("`resample: {value}` is not one of Pillow's filters 0 to 5")),
    }
}

pub(super) fn rescale_factor(file: &Map<String, Value>) -> Result<Option<f64>, String> {
    if !flag(file, "do_rescale", true)? {
        return Ok(None);
    }
    match file.get("rescale_factor") {
        None | Some(Value::Null) => Ok(Some(1.0 / 255.0)),
        Some(value) => value.as_f64().map(Some).ok_or_else(|| format!("`rescale_factor: {value}` is not a number")),
    }
}

pub(super) fn normalisation(file: &Map<String, Value>, defaults: &Defaults) -> Result<Option<MeanAndStd>, String> {
    if !flag(file, "do_normalize", true)? {
        return Ok(None);
    }
    let mean = per_channel(file, "image_mean", defaults.mean)?;
    let std = per_channel(file, "image_std", defaults.std)?;
    if std.iter().any(|&deviation| deviation as f32 == 0.0) {
        return Err("`image_std` is 0 for a channel".into());
    }
    Ok(Some((mean, std)))
}

/// Three numbers, or one for all channels.
fn per_channel(file: &Map<String, Value>, key: &str, default: [f64; 3]) -> Result<[f64; 3], String> {
    let numbers = match file.get(key) {
        None | Some(Value::Null) => return Ok(default),
        Some(Value::Array(numbers)) => numbers.iter().filter_map(Value::as_f64).collect(),
        Some(value) => vec![value.as_f64().unwrap_or(f64::NAN); 3],
    };
    <[f64; 3]>::try_from(numbers)
        .ok()
        .filter(|numbers| numbers.iter().all(|number| number.is_finite()))
        .ok_or_else(|| format!("`{key}` is not three numbers"))
}
