//! The formats that the `image` crate reads, and every sample layout to 8-bit RGB as Pillow does it.

use std::io::Cursor;

use image::{ColorType, DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits, RgbImage};

use super::decode::{DecodeLimits, Refusal};

impl From<ImageError> for Refusal {
    fn from(error: ImageError) -> Self {
        match error {
            ImageError::Unsupported(what) => Self::Unsupported(what.to_string()),
            ImageError::Limits(what) => Self::TooLarge(format!("decoding it needs too much memory ({what})")),
            ImageError::IoError(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                Self::Broken("the file is truncated".into())
            }
            other => Self::Broken(other.to_string()),
        }
    }
}

/// Width and height as stored, before EXIF orientation.
pub(super) fn dimensions(bytes: &[u8], format: ImageFormat) -> Result<(u32, u32), Refusal> {
    // No limits: a header that claims too much is to be told by its numbers, not by the decoder's complaint.
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    reader.no_limits();
    Ok(reader.into_decoder()?.dimensions())
}

/// Bytes that [`decode`] holds at its peak: the samples as stored, and the RGB copy where they are no RGB already.
pub(super) fn peak_bytes(bytes: &[u8], format: ImageFormat) -> Result<u64, Refusal> {
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    reader.no_limits();
    let decoder = reader.into_decoder()?;
    let (width, height) = decoder.dimensions();
    let copy = if decoder.color_type() == ColorType::Rgb8 { 0 } else { 3 * u64::from(width) * u64::from(height) };
    Ok(decoder.total_bytes().saturating_add(copy))
}

/// The pixels as stored (of an animation the first frame), before EXIF orientation.
pub(super) fn decode(bytes: &[u8], format: ImageFormat, limits: &DecodeLimits) -> Result<RgbImage, Refusal> {
    // The widest sample layout has 16 bytes per pixel; decoders also keep tables and lines.
    const WIDEST_PIXEL_BYTES: u64 = 16;
    const WORKING_BYTES: u64 = 64 << 20;
    let mut allowance = Limits::no_limits();
    allowance.max_alloc = Some(limits.max_pixels.saturating_mul(WIDEST_PIXEL_BYTES).saturating_add(WORKING_BYTES));
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    reader.limits(allowance);
    flatten(DynamicImage::from_decoder(reader.into_decoder()?)?)
}

/// Any sample layout to RGB.
///
/// 16-bit samples keep their high byte, as Pillow does for 16-bit RGB.
///
/// PARITY: Pillow (13.0) clips 16-bit grey at 255 instead when it is converted to RGB, which turns nearly every such
/// picture white; and it drops the transparency of palette images where it is laid over white here.
fn flatten(image: DynamicImage) -> Result<RgbImage, Refusal> {
    let high_bytes = |samples: &[u16]| samples.iter().map(|sample| (sample >> 8) as u8).collect::<Vec<u8>>();
    let (width, height) = (image.width(), image.height());
    let rgb = match image {
        DynamicImage::ImageRgb8(rgb) => return Ok(rgb),
        DynamicImage::ImageLuma8(grey) => spread_grey(grey.as_raw()),
        DynamicImage::ImageLumaA8(grey) => over_white(&spread_grey_alpha(grey.as_raw())),
        DynamicImage::ImageRgba8(rgba) => over_white(rgba.as_raw()),
        DynamicImage::ImageLuma16(grey) => spread_grey(&high_bytes(grey.as_raw())),
        DynamicImage::ImageLumaA16(grey) => over_white(&spread_grey_alpha(&high_bytes(grey.as_raw()))),
        DynamicImage::ImageRgb16(rgb) => high_bytes(rgb.as_raw()),
        // Strip by strip: eight bytes a pixel are held already.
        DynamicImage::ImageRgba16(rgba) => {
            rgba.as_raw().chunks(4 << 16).flat_map(|strip| over_white(&high_bytes(strip))).collect()
        }
        // Float samples: 0 to 1 is black to white.
        other => over_white(other.into_rgba8().as_raw()),
    };
    rgb_image(width, height, rgb)
}

/// Samples with their size; a decoder that returns another number of samples than it announced is not trusted.
pub(super) fn rgb_image(width: u32, height: u32, rgb: Vec<u8>) -> Result<RgbImage, Refusal> {
    let count = rgb.len();
    RgbImage::from_raw(width, height, rgb)
        .ok_or_else(|| Refusal::Broken(format!("{width}x{height} pixels announced, {count} samples found")))
}

/// Grey to RGB.
pub(super) fn spread_grey(grey: &[u8]) -> Vec<u8> {
    grey.iter().flat_map(|&sample| [sample; 3]).collect()
}

fn spread_grey_alpha(grey_alpha: &[u8]) -> Vec<u8> {
    grey_alpha.as_chunks().0.iter().flat_map(|&[grey, alpha]| [grey, grey, grey, alpha]).collect()
}

/// RGBA to RGB over white, equal to Pillow's `Image.alpha_composite` (libImaging/AlphaComposite.c) on a white ground.
pub(super) fn over_white(rgba: &[u8]) -> Vec<u8> {
    let blend = |sample: u8, alpha: u8| {
        let weight = u32::from(alpha) * 128;
        let sum = u32::from(sample) * weight + 255 * (255 * 128 - weight) + 0x80 * 128;
        ((((sum >> 8) + sum) >> 8) >> 7) as u8
    };
    rgba.as_chunks().0.iter().flat_map(|&[r, g, b, alpha]| [r, g, b].map(|sample| blend(sample, alpha))).collect()
}

/// CMYK as Adobe writes it (255 is no ink) to RGB, equal to Pillow: it inverts every CMYK JPEG, then takes the ink off
/// white (libImaging/Convert.c, `cmyk2rgb`).
pub(super) fn inverted_cmyk_to_rgb(cmyk: &[u8]) -> Vec<u8> {
    let ink = |white: u8, paper: u8| {
        let product = u32::from(255 - white) * u32::from(paper) + 128;
        let shade = ((product >> 8) + product) >> 8;
        u32::from(paper).saturating_sub(shade) as u8
    };
    cmyk.as_chunks().0.iter().flat_map(|&[c, m, y, paper]| [c, m, y].map(|white| ink(white, paper))).collect()
}
