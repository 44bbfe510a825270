//! JPEG, bit-equal to libjpeg-turbo and therefore to Pillow.
//!
//! `libjpeg-turbo-rs` is used instead of the `image` crate's decoder because it returns the very bytes that Pillow does:
//! on the 300 photos of `../shared/photos` every one of 126 million samples was equal, while the other decoders were
//! more than 1/255 off on 5 to 7 % (zune-jpeg 0.5.15) and 2 % (jpeg-decoder 0.3.2) of the samples of ordinary 4:2:0 photos,
//! since they smooth chroma differently. It is pure Rust and has SIMD kernels chosen at run time.
//!
//! As there, damage inside the compressed data is passed over and shows in the picture; only a file that ends before its
//! end mark is refused.
//!
//! Where a smaller picture serves as well, both decode at 1/2, 1/4 or 1/8 as libjpeg does (Pillow's "draft mode").

#[cfg(target_arch = "x86_64")]
mod baseline;
#[cfg(test)]
mod tests;

use image::RgbImage;
use libjpeg_turbo_rs::{ColorSpace, Decoder, FrameHeader, JpegError, PixelFormat, ScalingFactor};

use super::decode::{DecodeLimits, Enough, Refusal};
use super::raster;

impl From<JpegError> for Refusal {
    fn from(error: JpegError) -> Self {
        match error {
            JpegError::Unsupported(what) => Self::Unsupported(format!("JPEG with {what}")),
            JpegError::LimitExceeded { what, actual, limit } => Self::TooLarge(format!("{what} {actual} (of {limit})")),
            JpegError::UnexpectedEof => Self::Broken("the file is truncated".into()),
            other => Self::Broken(other.to_string()),
        }
    }
}

/// What the headers of a file say.
#[derive(Debug, Clone, Copy)]
pub(super) struct Header {
    /// As stored, before EXIF orientation.
    pub(super) width: u32,
    /// As stored, before EXIF orientation.
    pub(super) height: u32,
    components: usize,
    progressive: bool,
    /// Chroma has as many samples as luma.
    full_chroma: bool,
    /// Its blocks can be decoded smaller.
    reducible: bool,
}

impl Header {
    /// Reads the headers.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, Refusal> {
        Self::scan(bytes).map_or_else(|| Self::by_library(bytes), Ok)
    }

    fn by_library(bytes: &[u8]) -> Result<Self, Refusal> {
        let decoder = Decoder::new(bytes)?;
        let frame: &FrameHeader = decoder.header();
        let sampling =
            |component: &libjpeg_turbo_rs::ComponentInfo| (component.horizontal_sampling, component.vertical_sampling);
        Ok(Self {
            width: u32::from(frame.width),
            height: u32::from(frame.height),
            components: frame.components.len(),
            progressive: frame.is_progressive,
            full_chroma: frame
                .components
                .iter()
                .all(|component| Some(sampling(component)) == frame.components.first().map(sampling)),
            reducible: frame.precision == 8 && !frame.is_lossless,
        })
    }

    /// Finds the frame header of the common kinds: the library would make all tables for it.
    fn scan(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes.get(2..)?;
        while let [0xff, marker, high, low, ..] = *rest {
            let segment = rest.get(4..2 + usize::from(u16::from_be_bytes([high, low])))?;
            match marker {
                0xc0..=0xc2 => {
                    let (&[8, h0, h1, w0, w1, count], components) = segment.split_first_chunk()? else { return None };
                    let mut sampling = components.as_chunks::<3>().0.iter().map(|component| component[1]);
                    let first = sampling.next()?;
                    let (width, height) = (u16::from_be_bytes([w0, w1]), u16::from_be_bytes([h0, h1]));
                    return (height > 0 && components.len() == 3 * usize::from(count)).then(|| Self {
                        width: u32::from(width),
                        height: u32::from(height),
                        components: usize::from(count),
                        progressive: marker == 0xc2,
                        full_chroma: sampling.all(|other| other == first),
                        reducible: true,
                    });
                }
                // Tables, and what programs put in.
                0xc4 | 0xdb | 0xdd | 0xe0..=0xef | 0xfe => rest = rest.get(4 + segment.len()..)?,
                _ => return None,
            }
        }
        None
    }

    /// Samples in place of the 8 on a side of each block: as few as still give `enough`.
    pub(super) fn block_side(&self, enough: Option<Enough>) -> u32 {
        let Some(enough) = enough.filter(|_| self.reducible) else { return 8 };
        let serves = |side: &u32| {
            let reaches = |length: u32, least: u32| u64::from(length) * u64::from(*side) >= 8 * u64::from(least);
            reaches(self.width, enough.width) && reaches(self.height, enough.height)
        };
        [1, 2, 4].into_iter().find(serves).unwrap_or(8)
    }

    /// Pixels that are decoded with blocks of `side`.
    pub(super) fn pixels(&self, side: u32) -> u64 {
        let reduced = |length: u32| u64::from(length * side).div_ceil(8);
        reduced(self.width) * reduced(self.height)
    }

    /// Bytes that [`decode`] holds at its peak: the RGB samples, the decoder's own planes (two bytes a pixel, measured;
    /// three with full chroma), the decoded samples once more where they are no RGB already, the compressed data without
    /// their stuffing, and of a progressive file all coefficients, two bytes each, whatever is made of them.
    pub(super) fn peak_bytes(&self, file_bytes: usize, side: u32) -> u64 {
        let samples = match self.components {
            3 if self.full_chroma => 6,
            3 => 5,
            other => other as u64 + 5,
        };
        // Halved chroma makes three bytes of coefficients a pixel; the rare files without it are allowed the difference.
        let coefficients = if self.progressive { 3 } else { 0 };
        self.pixels(side) * samples + self.pixels(8) * coefficients + file_bytes as u64
    }
}

/// The pixels as stored, before EXIF orientation, with `side` samples in place of the 8 on a side of each block.
pub(super) fn decode(bytes: &[u8], side: u32, limits: &DecodeLimits) -> Result<RgbImage, Refusal> {
    #[cfg(target_arch = "x86_64")]
    if let Some(rgb) = baseline::decode(bytes, side as usize) {
        return Ok(rgb);
    }
    decode_any(bytes, side, limits)
}

/// [`decode`] by the library.
fn decode_any(bytes: &[u8], side: u32, limits: &DecodeLimits) -> Result<RgbImage, Refusal> {
    if !has_end(bytes) {
        return Err(Refusal::Broken("the file is truncated".into()));
    }
    let limits = libjpeg_turbo_rs::DecodeLimits { max_pixels: limits.max_pixels, ..Default::default() };
    let decoder = Decoder::new_with_limits(bytes, limits)?.with_scale(ScalingFactor::try_new(1, 8 / side.max(1))?);
    let format = match decoder.jpeg_color_space() {
        ColorSpace::Grayscale => PixelFormat::Grayscale,
        ColorSpace::Cmyk | ColorSpace::Ycck => PixelFormat::Cmyk,
        ColorSpace::YCbCr | ColorSpace::Rgb => PixelFormat::Rgb,
        ColorSpace::Unknown => return Err(Refusal::Unsupported("JPEG in an unknown colour space".into())),
    };
    let image = decoder.with_output_format(format).decode_image()?;
    let rgb = match image.pixel_format {
        PixelFormat::Grayscale => raster::spread_grey(&image.data),
        PixelFormat::Cmyk => raster::inverted_cmyk_to_rgb(&image.data),
        _ => image.data,
    };
    raster::rgb_image(image.width as u32, image.height as u32, rgb)
}

/// Whether an end mark follows the start of the compressed data. The decoder, like libjpeg, fills what is missing with
/// grey; Pillow refuses such files because its input runs dry.
fn has_end(bytes: &[u8]) -> bool {
    const START_OF_SCAN: u8 = 0xda;
    const END: [u8; 2] = [0xff, 0xd9];
    let mut rest = bytes.get(2..).unwrap_or_default();
    // Segment by segment, since the thumbnail inside one has an end mark of its own.
    while let [0xff, marker, high, low, ..] = *rest {
        if marker == START_OF_SCAN {
            // Within compressed data 0xff is escaped.
            // From the end, where it nearly always is.
            return rest.windows(2).rev().any(|pair| pair == END);
        }
        let skipped = match marker {
            // Padding, and markers without a segment.
            0xff => 1,
            0x01 | 0xd0..=0xd8 => 2,
            _ => 2 + usize::from(u16::from_be_bytes([high, low])),
        };
        rest = rest.get(skipped..).unwrap_or_default();
    }
    // Odd bytes between segments: what the decoder makes of them is its affair.
    rest.windows(2).rev().any(|pair| pair == END)
}
