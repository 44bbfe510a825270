//! A file's bytes to upright RGB, behind limits that are checked before anything is decoded.

use std::fs::File;
use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use image::{DynamicImage, RgbImage};

#[cfg(feature = "avif")]
use super::avif;
use super::exif::{self, Exif};
use super::sniff::{Format, sniff};
use super::{heic, jpeg, raster};
use crate::error::{Error, Result};

/// Limits that are checked before an image is decoded.
#[derive(Debug, Clone, Copy)]
pub struct DecodeLimits {
    /// Largest file, bytes.
    pub max_file_bytes: u64,
    /// Most pixels (width x height).
    pub max_pixels: u64,
}

/// A decoded image, upright (EXIF orientation applied), alpha laid over white.
///
/// The values are those that are stored in the file: an embedded colour profile is not applied, since Pillow, through
/// which the models saw their training images, does not apply it either.
#[derive(Debug, Clone)]
pub struct Picture {
    /// The pixels, upright.
    pub rgb: RgbImage,
    /// Lower-case name of the sniffed format: `jpeg`, `png`, `webp`, `gif`, `bmp`, `tiff`, `heic`, `avif`.
    pub format: &'static str,
    /// EXIF `DateTimeOriginal` (else `DateTime`) as seconds since 1970, read as UTC.
    pub taken_at: Option<i64>,
}

/// What an image's header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probe {
    /// Width in pixels, upright.
    pub width: u32,
    /// Height in pixels, upright.
    pub height: u32,
    /// As in [`Picture::format`].
    pub format: &'static str,
    /// As in [`Picture::taken_at`].
    pub taken_at: Option<i64>,
}

/// Why a decoder gave up; becomes an [`Error`] once the file's name is known.
#[derive(Debug)]
pub(super) enum Refusal {
    /// A format, or a variant of one, that is not read here.
    Unsupported(String),
    /// The data contradict their format.
    Broken(String),
    /// Over a limit.
    TooLarge(String),
}

impl Refusal {
    fn named(self, name: &Path, limits: &DecodeLimits) -> Error {
        let path = name.to_owned();
        match self {
            Self::Unsupported(found) => Error::UnsupportedImage { path, found },
            Self::Broken(reason) => Error::Decode { path, reason },
            Self::TooLarge(what) => {
                let limit = format!("{} megapixels", megapixels(limits.max_pixels));
                Error::ImageTooLarge { path, what, limit }
            }
        }
    }
}

/// Reads and decodes a file. The format is read from its content, never from its name.
///
/// # Errors
/// A missing, empty, oversized, unsupported or broken file, each with its own variant. A truncated file is broken, as it
/// is for Pillow by default, whatever part of the picture could still be shown.
pub fn decode_file(path: &Path, limits: &DecodeLimits) -> Result<Picture> {
    decode_bytes(&read_file(path, limits)?, path, limits)
}

/// Decodes bytes; `name` is for messages only.
///
/// # Errors
/// As [`decode_file`].
pub fn decode_bytes(bytes: &[u8], name: &Path, limits: &DecodeLimits) -> Result<Picture> {
    inspect(bytes, name, limits, |format| {
        let (header, exif) = read_header(bytes, format, limits)?;
        check_memory(bytes, format, &header, exif.swaps_sides(), limits)?;
        let rgb = match format {
            Format::Jpeg => jpeg::decode(bytes, limits)?,
            Format::Heic => heic::decode(bytes, limits)?,
            #[cfg(feature = "avif")]
            Format::Avif => avif::decode(bytes, limits)?,
            Format::Raster(raster) => raster::decode(bytes, raster, limits)?,
        };
        let mut upright = DynamicImage::ImageRgb8(rgb);
        upright.apply_orientation(exif.orientation);
        Ok(Picture { rgb: upright.into_rgb8(), format: header.format, taken_at: exif.taken_at })
    })
}

/// Reads a file's size, format and date without decoding its pixels.
///
/// # Errors
/// As [`decode_file`], as far as the header shows it.
pub fn probe(path: &Path, limits: &DecodeLimits) -> Result<Probe> {
    let bytes = read_file(path, limits)?;
    inspect(&bytes, path, limits, |format| Ok(read_header(&bytes, format, limits)?.0))
}

/// The checks that come before a decoder, and the net under it.
fn inspect<T>(
    bytes: &[u8],
    name: &Path,
    limits: &DecodeLimits,
    run: impl FnOnce(Format) -> Result<T, Refusal>,
) -> Result<T> {
    if bytes.is_empty() {
        return Err(Error::EmptyFile { path: name.to_owned() });
    }
    check_file_size(bytes.len() as u64, name, limits)?;
    let format = sniff(bytes).map_err(|found| Error::UnsupportedImage { path: name.to_owned(), found })?;
    // The decoders are other people's code on hostile input: their panics are this file's fault, not this process's.
    // Nothing that they could leave half-written outlives the call.
    let result = catch_unwind(AssertUnwindSafe(|| run(format))).unwrap_or_else(|_| {
        Err(Refusal::Broken(format!("the {} decoder gave up on it (a fault of the decoder)", format.name())))
    });
    result.map_err(|refusal| refusal.named(name, limits))
}

/// The header, with the pixel limit checked, and what EXIF says.
fn read_header(bytes: &[u8], format: Format, limits: &DecodeLimits) -> Result<(Probe, Exif), Refusal> {
    let (width, height) = match format {
        Format::Jpeg => jpeg::dimensions(bytes)?,
        Format::Heic => heic::dimensions(bytes)?,
        #[cfg(feature = "avif")]
        Format::Avif => avif::dimensions(bytes)?,
        Format::Raster(raster) => raster::dimensions(bytes, raster)?,
    };
    if width == 0 || height == 0 {
        return Err(Refusal::Broken(format!("its header says {width}x{height} pixels")));
    }
    let pixels = u64::from(width) * u64::from(height);
    if pixels > limits.max_pixels {
        return Err(Refusal::TooLarge(format!("{width}x{height} pixels are {} megapixels", megapixels(pixels))));
    }
    let exif = match format {
        Format::Heic => heic::exif(bytes),
        #[cfg(feature = "avif")]
        Format::Avif => avif::exif(bytes),
        Format::Jpeg | Format::Raster(_) => exif::read_container(bytes),
    };
    let (width, height) = if exif.swaps_sides() { (height, width) } else { (width, height) };
    Ok((Probe { width, height, format: format.name(), taken_at: exif.taken_at }, exif))
}

/// Memory that decoding takes at its peak, against what the pixel limit stands for: four bytes a pixel. Ordinary
/// JPEGs need five, progressive and turned ones and deep samples more, so the largest pictures within the pixel limit
/// may still be refused: an index run must stay below 1.5 GB with ViT-B/32 loaded.
fn check_memory(
    bytes: &[u8],
    format: Format,
    header: &Probe,
    turned: bool,
    limits: &DecodeLimits,
) -> Result<(), Refusal> {
    const BYTES_PER_PIXEL: u64 = 4;
    let pixels = u64::from(header.width) * u64::from(header.height);
    let stored = match format {
        Format::Jpeg => jpeg::peak_bytes(bytes)?,
        Format::Heic => 6 * pixels,
        #[cfg(feature = "avif")]
        Format::Avif => avif::peak_bytes(bytes)?,
        Format::Raster(raster) => raster::peak_bytes(bytes, raster)?,
    };
    let needed = stored + if turned { 3 * pixels } else { 0 };
    let budget = limits.max_pixels.saturating_mul(BYTES_PER_PIXEL);
    if needed > budget {
        let (width, height, mb) = (header.width, header.height, |bytes: u64| bytes / 1_000_000);
        return Err(Refusal::TooLarge(format!(
            "{width}x{height} pixels take {} MB to decode, {} MB are allowed",
            mb(needed),
            mb(budget)
        )));
    }
    Ok(())
}

/// Reads a file within the limits.
///
/// # Errors
/// It is missing, no file, or too large.
pub fn read_file(path: &Path, limits: &DecodeLimits) -> Result<Vec<u8>> {
    // Asked before opening: opening a pipe or a device could block for ever.
    let metadata = path.metadata().map_err(Error::io("read", path))?;
    if !metadata.is_file() {
        return Err(Error::NotAFile { path: path.to_owned() });
    }
    check_file_size(metadata.len(), path, limits)?;
    let file = File::open(path).map_err(Error::io("read", path))?;
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or_default());
    // A file that grows under the reader stays within the limit; one byte more tells that it did.
    file.take(limits.max_file_bytes.saturating_add(1)).read_to_end(&mut bytes).map_err(Error::io("read", path))?;
    Ok(bytes)
}

fn check_file_size(file_bytes: u64, name: &Path, limits: &DecodeLimits) -> Result<()> {
    if file_bytes <= limits.max_file_bytes {
        return Ok(());
    }
    let mib = |bytes: u64| (bytes as f64 / f64::from(1 << 20) * 10.0).ceil() / 10.0;
    Err(Error::ImageTooLarge {
        path: name.to_owned(),
        what: format!("the file has {} MiB", mib(file_bytes)),
        limit: format!("{} MiB", mib(limits.max_file_bytes)),
    })
}

/// Rounded up to a tenth, so that "12.1 megapixels, the limit is 12" never reads "12, the limit is 12".
fn megapixels(pixels: u64) -> f64 {
    (pixels as f64 / 1e5).ceil() / 10.0
}

#[cfg(test)]
mod tests;
