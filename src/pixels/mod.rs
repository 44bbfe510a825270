//! Files to pixels: decoding with limits, PIL-equal resizing, model input, contact sheets, rendered scenes.

use std::path::Path;

use image::RgbImage;

use crate::error::Result;

/// Limits that are checked before an image is decoded.
#[derive(Debug, Clone, Copy)]
pub struct DecodeLimits {
    /// Largest file, bytes.
    pub max_file_bytes: u64,
    /// Most pixels (width x height).
    pub max_pixels: u64,
}

/// A decoded image, upright (EXIF orientation applied), sRGB, alpha laid over white.
#[derive(Debug, Clone)]
pub struct Picture {
    /// The pixels, upright.
    pub rgb: RgbImage,
    /// Lower-case name of the sniffed format: `jpeg`, `png`, `webp`, `gif`, `bmp`, `tiff`, `heic`, `avif`.
    pub format: &'static str,
    /// EXIF `DateTimeOriginal` (else `DateTime`) as seconds since 1970, read as UTC.
    pub taken_at: Option<i64>,
}

/// Reads and decodes a file.
///
/// # Errors
/// A missing, empty, oversized, unsupported or broken file, each with its own variant.
pub fn decode_file(_path: &Path, _limits: &DecodeLimits) -> Result<Picture> {
    unimplemented!()
}

/// Decodes bytes; `name` is for messages only.
///
/// # Errors
/// As [`decode_file`].
pub fn decode_bytes(_bytes: &[u8], _name: &Path, _limits: &DecodeLimits) -> Result<Picture> {
    unimplemented!()
}

/// Encodes a JPEG (quality 85) whose longer side is at most `max_side` pixels.
///
/// # Errors
/// The encoder's.
pub fn thumbnail_jpeg(_rgb: &RgbImage, _max_side: u32) -> Result<Vec<u8>> {
    unimplemented!()
}

/// An image and the line under it.
#[derive(Debug, Clone)]
pub struct Tile {
    /// The picture.
    pub rgb: RgbImage,
    /// Short text under it: rank, score, file name.
    pub caption: String,
}

/// Lays tiles out in rows of `columns`, captions under them, for looking at search results.
pub fn contact_sheet(_title: &str, _tiles: &[Tile], _columns: u32) -> RgbImage {
    unimplemented!()
}

/// The input pipeline of a model, read from its `preprocessor_config.json`.
#[derive(Debug, Clone)]
pub struct Preprocessor;

impl Preprocessor {
    /// Reads the JSON of `preprocessor_config.json`; `model` is for messages.
    ///
    /// # Errors
    /// Broken JSON, or a step that is not known here.
    pub fn from_json(_json: &str, _model: &str) -> Result<Self> {
        unimplemented!()
    }

    /// Height and width of the model's input.
    pub fn size(&self) -> (usize, usize) {
        unimplemented!()
    }

    /// Resize, crop, rescale and normalise. Shape: `[3, h, w]`, flattened, channels first, RGB.
    pub fn apply(&self, _rgb: &RgbImage) -> Vec<f32> {
        unimplemented!()
    }
}
