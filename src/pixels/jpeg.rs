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
//! For speed, its `Decoder::with_scale` can decode at 1/2, 1/4 or 1/8: the place for it is [`decode`].

use image::RgbImage;
use libjpeg_turbo_rs::{ColorSpace, Decoder, JpegError, PixelFormat};

use super::decode::{DecodeLimits, Refusal};
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

/// Width and height as stored, before EXIF orientation.
pub(super) fn dimensions(bytes: &[u8]) -> Result<(u32, u32), Refusal> {
    let decoder = Decoder::new(bytes)?;
    let frame = decoder.header();
    Ok((u32::from(frame.width), u32::from(frame.height)))
}

/// Bytes that [`decode`] holds at its peak: the samples, the RGB copy where they are no RGB already, the decoder's own
/// planes (two bytes a pixel, measured), and of a progressive file all coefficients, two bytes each.
pub(super) fn peak_bytes(bytes: &[u8]) -> Result<u64, Refusal> {
    let decoder = Decoder::new(bytes)?;
    let frame = decoder.header();
    let pixels = u64::from(frame.width) * u64::from(frame.height);
    let samples = match frame.components.len() {
        3 => 5,
        other => other as u64 + 5,
    };
    // Halved chroma makes three bytes of coefficients a pixel; the rare files without it are allowed the difference.
    Ok(pixels * (samples + if frame.is_progressive { 3 } else { 0 }))
}

/// The pixels as stored, before EXIF orientation.
pub(super) fn decode(bytes: &[u8], limits: &DecodeLimits) -> Result<RgbImage, Refusal> {
    if !has_end(bytes) {
        return Err(Refusal::Broken("the file is truncated".into()));
    }
    let limits = libjpeg_turbo_rs::DecodeLimits { max_pixels: limits.max_pixels, ..Default::default() };
    let decoder = Decoder::new_with_limits(bytes, limits)?;
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
            return rest.windows(2).any(|pair| pair == END);
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
    rest.windows(2).any(|pair| pair == END)
}
