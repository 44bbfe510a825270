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

/// The least size at which a picture still serves, upright, in pixels.
///
/// Formats whose decoders can make a smaller picture for less work may then be decoded smaller than stored (JPEG: to 1/2,
/// 1/4 or 1/8), but with no side below this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Enough {
    /// Least width.
    pub width: u32,
    /// Least height.
    pub height: u32,
}

impl Enough {
    /// For a picture that is stored turned.
    fn turned(self, turned: bool) -> Self {
        if turned { Self { width: self.height, height: self.width } } else { self }
    }
}

/// A picture as stored, upright, of which fewer pixels may have been decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Whole {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// How many of its pixels on a side one decoded pixel stands for: 1, 2, 4 or 8. The last column and row may stand for
    /// fewer.
    pub reduction: u32,
}

impl Whole {
    /// Of a picture that is all there.
    pub fn of(rgb: &RgbImage) -> Self {
        Self { width: rgb.width(), height: rgb.height(), reduction: 1 }
    }
}

/// A decoded image, upright (EXIF orientation applied), alpha laid over white.
///
/// The values are those that are stored in the file: an embedded colour profile is not applied, since Pillow, through
/// which the models saw their training images, does not apply it either.
#[derive(Debug, Clone)]
pub struct Picture {
    /// The pixels, upright.
    pub rgb: RgbImage,
    /// The picture that `rgb` shows, which may have been decoded smaller.
    pub whole: Whole,
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
    decode_enough(bytes, name, limits, None)
}

/// Decodes bytes, where `enough` is given only as large as it asks for if that takes less work; `name` is for messages
/// only.
///
/// # Errors
/// As [`decode_file`].
pub fn decode_enough(bytes: &[u8], name: &Path, limits: &DecodeLimits, enough: Option<Enough>) -> Result<Picture> {
    inspect(bytes, name, limits, |format| {
        let opened = Opened::read(bytes, format, limits)?;
        let side = opened.block_side(enough);
        opened.check_memory(bytes, side, limits)?;
        let rgb = match format {
            Format::Jpeg => jpeg::decode(bytes, side, limits)?,
            Format::Heic => heic::decode(bytes, limits)?,
            #[cfg(feature = "avif")]
            Format::Avif => avif::decode(bytes, limits)?,
            Format::Raster(raster) => raster::decode(bytes, raster, limits)?,
        };
        let mut upright = DynamicImage::ImageRgb8(rgb);
        upright.apply_orientation(opened.exif.orientation);
        let Probe { width, height, format, taken_at } = opened.probe;
        let whole = Whole { width, height, reduction: 8 / side.max(1) };
        Ok(Picture { rgb: upright.into_rgb8(), whole, format, taken_at })
    })
}

/// Bytes that [`decode_enough`] takes at its peak, from the headers alone; `None` for what it would refuse.
pub fn memory_to_decode(bytes: &[u8], limits: &DecodeLimits, enough: Option<Enough>) -> Option<u64> {
    let needed = inspect(bytes, Path::new(""), limits, |format| {
        let opened = Opened::read(bytes, format, limits)?;
        opened.peak_bytes(bytes, opened.block_side(enough))
    });
    needed.ok()
}

/// Reads a file's size, format and date without decoding its pixels.
///
/// # Errors
/// As [`decode_file`], as far as the header shows it.
pub fn probe(path: &Path, limits: &DecodeLimits) -> Result<Probe> {
    let bytes = read_file(path, limits)?;
    inspect(&bytes, path, limits, |format| Ok(Opened::read(&bytes, format, limits)?.probe))
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

/// A file whose headers were read.
struct Opened {
    format: Format,
    probe: Probe,
    exif: Exif,
    /// Of a JPEG.
    jpeg: Option<jpeg::Header>,
}

impl Opened {
    /// Reads the headers and checks the pixel limit.
    fn read(bytes: &[u8], format: Format, limits: &DecodeLimits) -> Result<Self, Refusal> {
        let mut jpeg = None;
        let (width, height) = match format {
            Format::Jpeg => {
                let header = jpeg::Header::read(bytes)?;
                jpeg = Some(header);
                (header.width, header.height)
            }
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
        let probe = Probe { width, height, format: format.name(), taken_at: exif.taken_at };
        Ok(Self { format, probe, exif, jpeg })
    }

    /// Samples in place of the 8 on a side of a JPEG's blocks; 8 for other formats.
    fn block_side(&self, enough: Option<Enough>) -> u32 {
        let enough = enough.map(|enough| enough.turned(self.exif.swaps_sides()));
        self.jpeg.map_or(8, |header| header.block_side(enough))
    }

    /// Memory that decoding takes at its peak.
    fn peak_bytes(&self, bytes: &[u8], side: u32) -> Result<u64, Refusal> {
        let pixels = u64::from(self.probe.width) * u64::from(self.probe.height);
        let stored = match (self.format, self.jpeg) {
            (Format::Jpeg, Some(header)) => header.peak_bytes(bytes.len(), side),
            (Format::Jpeg | Format::Heic, _) => 6 * pixels,
            #[cfg(feature = "avif")]
            (Format::Avif, _) => avif::peak_bytes(bytes)?,
            (Format::Raster(raster), _) => raster::peak_bytes(bytes, raster)?,
        };
        let shown = self.jpeg.map_or(pixels, |header| header.pixels(side));
        Ok(stored + if self.exif.swaps_sides() { 3 * shown } else { 0 })
    }

    /// The memory for decoding, against what the pixel limit stands for: four bytes a pixel. Ordinary JPEGs need five,
    /// progressive and turned ones and deep samples more, so the largest pictures within the pixel limit may still be
    /// refused: an index run must stay below 1.5 GB with ViT-B/32 loaded. A JPEG that is decoded smaller needs less.
    fn check_memory(&self, bytes: &[u8], side: u32, limits: &DecodeLimits) -> Result<(), Refusal> {
        const BYTES_PER_PIXEL: u64 = 4;
        let needed = self.peak_bytes(bytes, side)?;
        let budget = limits.max_pixels.saturating_mul(BYTES_PER_PIXEL);
        if needed <= budget {
            return Ok(());
        }
        let (width, height, mb) = (self.probe.width, self.probe.height, |bytes: u64| bytes / 1_000_000);
        Err(Refusal::TooLarge(format!(
            "{width}x{height} pixels take {} MB to decode, {} MB are allowed",
            mb(needed),
            mb(budget)
        )))
    }
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
