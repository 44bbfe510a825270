//! HEIC, the format of phone cameras.
//!
//! `heifer` and not `heic-rs` (both pure Rust under MIT or Apache-2.0): over 50 files made by phones, cameras and libheif,
//! `heifer` decoded each that libheif does and agreed with it to 1/255 wherever chroma is not subsampled (where it is, it
//! smooths chroma and libheif repeats it); `heic-rs` 0.1.4 refused every 4:4:4 and 4:2:2 file, overlays, and took the
//! full-range luma of most phone photos for limited range, which shifts all values by up to 20.

use heifer::heifer_isobmff::HeifFile;
use heifer::heifer_isobmff::boxes::Property;
use image::RgbImage;

use super::decode::{DecodeLimits, Refusal};
use super::exif::{self, Exif};
use super::raster;

/// A file that does not say that it is AVIF is not taken for one, with or without its decoder.
const AVIF_IN_HEIC: &str = "a HEIF file with AV1 in it that is not marked as AVIF: convert it to JPEG, PNG or WebP";

impl From<heifer::Error> for Refusal {
    fn from(error: heifer::Error) -> Self {
        match error {
            heifer::Error::Unsupported(what) if what.contains("av01") => Self::Unsupported(AVIF_IN_HEIC.into()),
            heifer::Error::Unsupported(what) => Self::Unsupported(format!("HEIF with {what}")),
            other => Self::Broken(other.to_string()),
        }
    }
}

/// Width and height, upright: the container's own crop and rotation are applied.
pub(super) fn dimensions(bytes: &[u8]) -> Result<(u32, u32), Refusal> {
    let file = HeifFile::parse(bytes).map_err(heifer::Error::from)?;
    let id = file.primary_id;
    let stored = file.image_size(id).map_err(heifer::Error::from)?;
    let (mut width, mut height) = stored.ok_or_else(|| Refusal::Broken("its picture has no size".into()))?;
    for property in file.item_properties(id).map_err(heifer::Error::from)? {
        match property {
            Property::CleanAperture { width: (w, wd), height: (h, hd), .. } => {
                width = width.min(w.checked_div(*wd).unwrap_or(width));
                height = height.min(h.checked_div(*hd).unwrap_or(height));
            }
            Property::Rotation(quarters) if quarters % 2 == 1 => (width, height) = (height, width),
            _ => {}
        }
    }
    Ok((width, height))
}

/// The date. The orientation in EXIF repeats the container's, which the decoder applies, and must not be applied again.
pub(super) fn exif(bytes: &[u8]) -> Exif {
    let tiff = heifer::read_metadata(bytes).ok().and_then(|metadata| metadata.exif);
    tiff.map_or(Exif::NONE, |tiff| Exif { taken_at: exif::read_raw(tiff).taken_at, ..Exif::NONE })
}

/// The pixels, upright.
pub(super) fn decode(bytes: &[u8], limits: &DecodeLimits) -> Result<RgbImage, Refusal> {
    // One thread: files are decoded side by side already.
    let options = heifer::Options { max_threads: 1, max_pixels: limits.max_pixels };
    let image = heifer::decode_rgba8(bytes, &options)?;
    raster::rgb_image(image.width, image.height, raster::over_white(&image.data))
}
