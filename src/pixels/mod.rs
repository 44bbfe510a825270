//! Files to pixels: decoding with limits, PIL-equal resizing, model input, contact sheets, rendered scenes.
//!
//! The Python image stack (Pillow, and transformers on top of it) is the reference throughout: a model sees here the
//! pixels that it saw in training. JPEG decoding and resizing are bit-equal to Pillow's; `tools/export_pixels.py` and the
//! tests of [`Preprocessor`] hold that.

mod annotate;
#[cfg(feature = "avif")]
mod avif;
mod decode;
mod exif;
mod heat;
mod heic;
mod jpeg;
mod letterbox;
mod look;
mod preprocess;
mod raster;
mod resize;
pub mod scene;
mod sheet;
mod sniff;
mod text;

/// Names of the formats that are read, as in [`Picture::format`]; `avif` with the feature of that name.
#[cfg(not(feature = "avif"))]
pub const FORMATS: &[&str] = &["jpeg", "png", "webp", "gif", "bmp", "tiff", "heic"];
/// Names of the formats that are read, as in [`Picture::format`].
#[cfg(feature = "avif")]
pub const FORMATS: &[&str] = &["jpeg", "png", "webp", "gif", "bmp", "tiff", "heic", "avif"];

pub use annotate::{Mark, annotate};
pub use decode::{
    DecodeLimits, Enough, Picture, Probe, Whole, decode_bytes, decode_enough, decode_file, memory_to_decode, probe,
    read_file,
};
pub use heat::heat;
pub use letterbox::letterbox;
pub use look::difference_hash;
pub use preprocess::{DetectorInput, Interpolated, PaddedInput, Preprocessor, Proportional, Squared};
pub use resize::{Resample, Window, resize, resize_window};
pub use sheet::{Tile, contact_sheet, encode_png, thumbnail_jpeg};
pub use text::{Text, draw_text, line_height, shorten_middle, text_width};
