//! Pictures made for people: thumbnails and contact sheets.

use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder, ImageError, Rgb, RgbImage, imageops};

use super::resize::{Resample, resize};
use super::text::{Text, draw_text, line_height, shorten_middle};
use crate::error::{Error, Result};

const JPEG_QUALITY: u8 = 85;

const GROUND: Rgb<u8> = Rgb([244, 244, 242]);
const MAT: Rgb<u8> = Rgb([228, 228, 225]);
const TITLE: Text = Text { size: 24.0, colour: [34, 34, 34] };
const CAPTION: Text = Text { size: 15.0, colour: [68, 68, 66] };

/// Between cells, and around the sheet, pixels.
const GAP: u32 = 14;
/// Side of the square that a picture is fitted into, pixels.
const CELL: u32 = 240;
/// Lines under a picture; further lines of a caption are left out.
const CAPTION_LINES: usize = 2;
/// Largest sheet; what does not fit is counted in the title.
const MAX_SHEET_PIXELS: u64 = 100_000_000;

/// An image and the line under it.
#[derive(Debug, Clone)]
pub struct Tile {
    /// The picture.
    pub rgb: RgbImage,
    /// Short text under it: rank, score, file name; a line break starts a second line.
    pub caption: String,
}

/// Encodes a JPEG (quality 85) whose longer side is at most `max_side` pixels.
///
/// # Errors
/// The encoder's.
pub fn thumbnail_jpeg(rgb: &RgbImage, max_side: u32) -> Result<Vec<u8>> {
    let (width, height) = fit(rgb.dimensions(), max_side);
    let small = resize(rgb, width, height, Resample::Bicubic);
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, JPEG_QUALITY)
        .write_image(&small, width, height, ExtendedColorType::Rgb8)
        .map_err(encoder_error)?;
    Ok(bytes)
}

/// Encodes a PNG.
///
/// # Errors
/// The encoder's.
pub fn encode_png(rgb: &RgbImage) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    PngEncoder::new(&mut bytes)
        .write_image(rgb, rgb.width(), rgb.height(), ExtendedColorType::Rgb8)
        .map_err(encoder_error)?;
    Ok(bytes)
}

fn encoder_error(error: ImageError) -> Error {
    Error::Io { action: "encode", path: "the picture".into(), source: std::io::Error::other(error) }
}

/// The size with the same proportions whose longer side is at most `max_side`; never larger than it was, never empty.
fn fit((width, height): (u32, u32), max_side: u32) -> (u32, u32) {
    let longer = width.max(height);
    if longer <= max_side {
        return (width, height);
    }
    let scale = f64::from(max_side) / f64::from(longer);
    let scaled = |side: u32| ((f64::from(side) * scale).round() as u32).max(1);
    (scaled(width), scaled(height))
}

/// Lays tiles out in rows of `columns`, captions under them, for looking at search results.
///
/// Pictures keep their proportions; small ones are not enlarged. Long lines are shortened in their middle.
pub fn contact_sheet(title: &str, tiles: &[Tile], columns: u32) -> RgbImage {
    let columns = columns.clamp(1, tiles.len().clamp(1, 64) as u32);
    let caption_lines = tiles.iter().map(|tile| tile.caption.lines().count()).max().unwrap_or(0).min(CAPTION_LINES);
    let pitch = CELL + GAP;
    let row_pitch = CELL + caption_lines as u32 * line_height(CAPTION.size) + GAP + GAP / 2;
    let head = GAP + if title.is_empty() { 0 } else { line_height(TITLE.size) + GAP };
    let width = GAP + columns * pitch;

    let most_rows = (MAX_SHEET_PIXELS / u64::from(width) / u64::from(row_pitch)).max(1) as usize;
    let shown = tiles.len().min(most_rows * columns as usize);
    let rows = (shown as u32).div_ceil(columns);
    let mut sheet = RgbImage::from_pixel(width, head + rows * row_pitch, GROUND);

    let more = tiles.len() - shown;
    let title = if more > 0 { format!("{title} (and {more} more)") } else { title.to_owned() };
    let title = shorten_middle(&title, TITLE.size, width - 2 * GAP);
    draw_text(&mut sheet, i64::from(GAP), i64::from(GAP), TITLE, &title);
    for (place, tile) in (0_u32..).zip(tiles.iter().take(shown)) {
        let left = GAP + place % columns * pitch;
        let top = head + place / columns * row_pitch;
        draw_tile(&mut sheet, left, top, tile);
    }
    sheet
}

fn draw_tile(sheet: &mut RgbImage, left: u32, top: u32, tile: &Tile) {
    let mat = RgbImage::from_pixel(CELL, CELL, MAT);
    imageops::replace(sheet, &mat, i64::from(left), i64::from(top));
    let (width, height) = fit(tile.rgb.dimensions(), CELL);
    let small = resize(&tile.rgb, width, height, Resample::Bicubic);
    let (x, y) = (left + (CELL - width) / 2, top + (CELL - height) / 2);
    imageops::replace(sheet, &small, i64::from(x), i64::from(y));

    let mut line_top = i64::from(top + CELL + GAP / 3);
    for line in tile.caption.lines().take(CAPTION_LINES) {
        let line = shorten_middle(line, CAPTION.size, CELL);
        draw_text(sheet, i64::from(left), line_top, CAPTION, &line);
        line_top += i64::from(line_height(CAPTION.size));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tile(width: u32, height: u32) -> Tile {
        Tile { rgb: RgbImage::from_pixel(width, height, Rgb([200, 30, 30])), caption: "1  0.31  picture.jpg".into() }
    }

    #[test]
    fn thumbnails_keep_proportions_and_never_grow() {
        for (size, side, expected) in
            [((640, 480), 512, (512, 384)), ((100, 50), 512, (100, 50)), ((9000, 3), 64, (64, 1))]
        {
            let jpeg = thumbnail_jpeg(&RgbImage::new(size.0, size.1), side).unwrap();
            let decoded = image::load_from_memory(&jpeg).unwrap();
            assert_eq!((decoded.width(), decoded.height()), expected);
        }
    }

    #[test]
    fn png_keeps_every_sample() {
        let rgb = RgbImage::from_fn(7, 5, |x, y| Rgb([x as u8 * 30, y as u8 * 50, 7]));
        assert_eq!(image::load_from_memory(&encode_png(&rgb).unwrap()).unwrap().into_rgb8(), rgb);
    }

    #[test]
    fn a_sheet_holds_each_tile_once_in_its_cell() {
        let tiles = vec![tile(640, 480), tile(100, 400), tile(30, 30), tile(1, 1)];
        let sheet = contact_sheet("red things", &tiles, 3);
        assert_eq!(sheet.width(), GAP + 3 * (CELL + GAP));
        let red = sheet.pixels().filter(|pixel| pixel.0 == [200, 30, 30]).count();
        assert_eq!(red as u32, CELL * 180 + 60 * CELL + 30 * 30 + 1);
        let dark = sheet.pixels().filter(|pixel| pixel.0[0] < 110).count();
        assert!(dark > 400, "title and captions are missing: {dark}");
    }

    #[test]
    fn sheets_of_nothing_and_of_far_too_much_still_come_out() {
        assert!(contact_sheet("", &[], 0).width() > 0);
        assert!(contact_sheet("nothing found", &[], 5).height() > 0);
        let sheet = contact_sheet("all", &vec![tile(2, 2); 3000], 4);
        assert!(u64::from(sheet.width()) * u64::from(sheet.height()) <= MAX_SHEET_PIXELS + 2_000_000);
    }
}
