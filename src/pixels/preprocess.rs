//! A model's input pipeline, as its `preprocessor_config.json` says.
//!
//! Reference: transformers 5.23, `image_processing_backends.py` (`PilBackend`) and `image_transforms.py`: resize through
//! Pillow, centre crop, rescale in double precision, normalise in single precision. The torchvision backend that
//! transformers prefers when it is installed rounds differently and is not the reference.

mod config;
mod interpolated;
mod proportional;
mod squared;

use image::RgbImage;

use self::config::{MeanAndStd, Settings};
pub use self::interpolated::{Interpolated, PaddedInput};
pub use self::proportional::{DetectorInput, Proportional};
pub use self::squared::Squared;
use super::decode::{Enough, Whole};
use super::resize::{Resample, Window, resize_part};
use crate::error::{Error, Result};

/// How an image is brought to size before the crop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Resizing {
    /// Not at all.
    Keep,
    /// The shorter side to this length, the longer in proportion.
    ShortestEdge(u32),
    /// To exactly this, whatever the proportions.
    Squash { height: u32, width: u32 },
}

/// The input pipeline of a model, read from its `preprocessor_config.json`.
#[derive(Debug, Clone)]
pub struct Preprocessor {
    resizing: Resizing,
    filter: Resample,
    height: u32,
    width: u32,
    /// Per channel, the input value of each sample value.
    values: Box<[[f32; 256]; 3]>,
    fingerprint: String,
}

impl Preprocessor {
    /// Reads the JSON of `preprocessor_config.json`, or of a `processor_config.json` with an `image_processor` in it;
    /// `model` is for messages.
    ///
    /// # Errors
    /// Broken JSON, or a step that is not known here: [`Error::ModelFile`] names it.
    pub fn from_json(json: &str, model: &str) -> Result<Self> {
        let settings = Settings::from_json(json).map_err(|reason| Error::ModelFile {
            model: model.into(),
            file: "preprocessor_config.json".into(),
            reason,
        })?;
        Ok(Self {
            resizing: settings.resizing,
            filter: settings.filter,
            height: settings.height,
            width: settings.width,
            values: values(settings.rescale_factor, settings.normalisation),
            fingerprint: settings.fingerprint(),
        })
    }

    /// Height and width of the model's input.
    pub fn size(&self) -> (usize, usize) {
        (self.height as usize, self.width as usize)
    }

    /// One line that says all steps with their numbers: equal fingerprints give equal input.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// The size from which on a picture may be decoded smaller than stored: twice what it is resized to.
    ///
    /// PARITY: the reference decodes everything at full size. Samples of the crop differ by 0.4 / 255 on average over photos
    /// where this is just reached, and 0.9 in the worst of them; vectors keep a cosine of 0.9997 (starter model). So the
    /// [`fingerprint`](Self::fingerprint) does not name it: an index from before is searched as it is, and not embedded
    /// anew for hours for nothing seen.
    pub fn enough(&self) -> Option<Enough> {
        const SPARE: u32 = 2;
        match self.resizing {
            Resizing::Keep => None,
            Resizing::ShortestEdge(edge) => Some(Enough { width: SPARE * edge, height: SPARE * edge }),
            Resizing::Squash { height, width } => Some(Enough { width: SPARE * width, height: SPARE * height }),
        }
    }

    /// The cropped 8-bit image that [`apply`](Self::apply) turns into numbers; what the model sees of a picture.
    pub fn crop(&self, rgb: &RgbImage) -> RgbImage {
        self.crop_reduced(rgb, Whole::of(rgb))
    }

    /// [`crop`](Self::crop) of a picture that was decoded smaller: sizes follow from the whole one, or rounding would
    /// shift what is seen by a pixel.
    fn crop_reduced(&self, rgb: &RgbImage, whole: Whole) -> RgbImage {
        let (width, height) = match self.resizing {
            Resizing::Keep => rgb.dimensions(),
            Resizing::Squash { height, width } => (width, height),
            Resizing::ShortestEdge(edge) => {
                let (width, height) = (whole.width, whole.height);
                let short = width.min(height).max(1);
                // Truncated, as in the reference: not rounded.
                let long = (f64::from(edge) * f64::from(width.max(height)) / f64::from(short)) as u32;
                if width <= height { (edge, long) } else { (long, edge) }
            }
        };
        let (left, left_margin, crop_width) = center(width, self.width);
        let (top, top_margin, crop_height) = center(height, self.height);
        let window = Window { left, top, width: crop_width, height: crop_height };
        let extent = [whole.width, whole.height].map(|side| f64::from(side) / f64::from(whole.reduction));
        let seen = resize_part(rgb, extent, width, height, window, self.filter);
        if (crop_width, crop_height) == (self.width, self.height) {
            return seen;
        }
        let mut padded = RgbImage::new(self.width, self.height);
        image::imageops::replace(&mut padded, &seen, i64::from(left_margin), i64::from(top_margin));
        padded
    }

    /// Resize, crop, rescale and normalise. Shape: `[3, h, w]`, flattened, channels first, RGB.
    pub fn apply(&self, rgb: &RgbImage) -> Vec<f32> {
        self.apply_reduced(rgb, Whole::of(rgb))
    }

    /// [`apply`](Self::apply) to a picture that was decoded smaller. Shape: `[3, h, w]`, flattened, channels first, RGB.
    pub fn apply_reduced(&self, rgb: &RgbImage, whole: Whole) -> Vec<f32> {
        let crop = self.crop_reduced(rgb, whole);
        let pixels = crop.as_raw().as_chunks::<3>().0;
        let mut input = Vec::with_capacity(crop.as_raw().len());
        for (channel, values) in self.values.iter().enumerate() {
            input.extend(pixels.iter().map(|pixel| values[usize::from(pixel[channel])]));
        }
        input // [3, h, w]
    }
}

/// Where a centred crop of `crop` out of `side` pixels starts, how wide the black margin before it is where the image is
/// too small, and how many pixels of the image are in it.
///
/// Reference: `center_crop` in `image_transforms.py`: an odd remainder goes to the end of a crop, and to the beginning of a
/// margin.
fn center(side: u32, crop: u32) -> (u32, u32, u32) {
    if side >= crop { ((side - crop) / 2, 0, crop) } else { (0, margin(side, crop), side) }
}

fn margin(side: u32, crop: u32) -> u32 {
    // The reference pads by ceil((crop - side) / 2), then moves the crop by floor((side - crop) / 2) plus that: by nothing.
    (crop - side).div_ceil(2)
}

/// The input value of each sample value: rescaled in double precision and rounded to single, then normalised in single.
fn values(rescale_factor: Option<f64>, normalisation: Option<MeanAndStd>) -> Box<[[f32; 256]; 3]> {
    let mut values = Box::new([[0.0; 256]; 3]);
    for (channel, values) in values.iter_mut().enumerate() {
        for (sample, value) in values.iter_mut().enumerate() {
            *value = sample as f32;
            if let Some(factor) = rescale_factor {
                *value = (sample as f64 * factor) as f32;
            }
            if let Some((mean, std)) = normalisation {
                *value = (*value - mean[channel] as f32) / std[channel] as f32;
            }
        }
    }
    values
}

#[cfg(test)]
mod tests;
