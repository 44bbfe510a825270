//! Lines of text on images: captions of contact sheets, labels of boxes.
//!
//! The font is a part of Roboto (Apache-2.0, as this crate; `assets/fonts/README.md`): Latin, Greek and Cyrillic. A
//! character that it lacks is drawn as an empty box.

use std::sync::OnceLock;

use ab_glyph::{Font, FontRef, Glyph, PxScale, ScaleFont, point};
use image::{Rgb, RgbImage};

static FONT_FILE: &[u8] = include_bytes!("../../assets/fonts/Roboto-Regular-subset.ttf");

/// The sign for what was left out.
const ELLIPSIS: char = '\u{2026}';

/// How text is set.
#[derive(Debug, Clone, Copy)]
pub struct Text {
    /// Height of the font (ascent to descent), pixels.
    pub size: f32,
    /// sRGB.
    pub colour: [u8; 3],
}

/// The font; `None` would mean that the built-in file is broken, which a test rules out.
fn font() -> Option<&'static FontRef<'static>> {
    static FONT: OnceLock<Option<FontRef<'static>>> = OnceLock::new();
    FONT.get_or_init(|| FontRef::try_from_slice(FONT_FILE).ok()).as_ref()
}

/// The glyphs of one line with their places, and the line's width in pixels.
fn layout(text: &str, size: f32) -> (Vec<Glyph>, f32) {
    let Some(font) = font() else { return (Vec::new(), 0.0) };
    let scaled = font.as_scaled(PxScale::from(size));
    let mut caret = 0.0;
    let mut glyphs = Vec::with_capacity(text.len());
    for character in text.chars() {
        // A file name may hold line breaks and tabs; they are shown as the font's empty box.
        let id = if character.is_control() { font.glyph_id('\u{fffd}') } else { font.glyph_id(character) };
        glyphs.push(id.with_scale_and_position(PxScale::from(size), point(caret, scaled.ascent())));
        caret += scaled.h_advance(id);
    }
    (glyphs, caret)
}

/// Width of one line, pixels.
pub fn text_width(text: &str, size: f32) -> u32 {
    layout(text, size).1.ceil() as u32
}

/// Height of one line with the space to the next, pixels.
pub fn line_height(size: f32) -> u32 {
    (size * 1.2).ceil() as u32
}

/// Draws one line whose upper left corner is at (`left`, `top`), which may lie outside the image.
pub fn draw_text(canvas: &mut RgbImage, left: i64, top: i64, style: Text, text: &str) {
    let Some(font) = font() else { return };
    for glyph in layout(text, style.size).0 {
        let Some(outline) = font.outline_glyph(glyph) else { continue };
        let bounds = outline.px_bounds();
        let (glyph_left, glyph_top) = (left + bounds.min.x as i64, top + bounds.min.y as i64);
        outline.draw(|x, y, coverage| {
            let place = (u32::try_from(glyph_left + i64::from(x)), u32::try_from(glyph_top + i64::from(y)));
            let (Ok(x), Ok(y)) = place else { return };
            if let Some(pixel) = canvas.get_pixel_mut_checked(x, y) {
                *pixel = mix(*pixel, style.colour, coverage.clamp(0.0, 1.0));
            }
        });
    }
}

fn mix(under: Rgb<u8>, over: [u8; 3], coverage: f32) -> Rgb<u8> {
    let mut pixel = under;
    for (sample, over) in pixel.0.iter_mut().zip(over) {
        *sample = (f32::from(*sample) * (1.0 - coverage) + f32::from(over) * coverage).round() as u8;
    }
    pixel
}

/// The line itself if it fits into `max_width` pixels, else with its middle replaced by an ellipsis: of a file name, the
/// start and the extension say most.
pub fn shorten_middle(text: &str, size: f32, max_width: u32) -> String {
    if text_width(text, size) <= max_width {
        return text.to_owned();
    }
    let characters: Vec<char> = text.chars().collect();
    let shortened = |kept: usize| -> String {
        let head = kept.div_ceil(2);
        let tail = characters.len() - (kept - head);
        characters.iter().take(head).chain(&[ELLIPSIS]).chain(characters.iter().skip(tail)).collect()
    };
    // The most characters that fit: the width grows with their number, nearly (glyphs differ, but are never negative).
    let (mut fits, mut too_many) = (0, characters.len());
    while fits + 1 < too_many {
        let middle = fits.midpoint(too_many);
        if text_width(&shortened(middle), size) <= max_width { fits = middle } else { too_many = middle }
    }
    shortened(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STYLE: Text = Text { size: 16.0, colour: [0, 0, 0] };

    fn ink(canvas: &RgbImage) -> usize {
        canvas.pixels().filter(|pixel| pixel.0[0] < 128).count()
    }

    #[test]
    fn letters_of_three_scripts_leave_ink_of_their_own() {
        let mut seen = Vec::new();
        for text in ["holiday", "\u{3b1}\u{3b2}\u{3b3}", "\u{434}\u{43e}\u{43c}"] {
            let mut canvas = RgbImage::from_pixel(120, 24, Rgb([255; 3]));
            draw_text(&mut canvas, 2, 2, STYLE, text);
            assert!(ink(&canvas) > 30, "{text}: {}", ink(&canvas));
            assert!(!seen.contains(&canvas), "{text} looks like another");
            seen.push(canvas);
        }
    }

    #[test]
    fn unknown_characters_show_as_boxes_and_take_room() {
        let mut canvas = RgbImage::from_pixel(120, 24, Rgb([255; 3]));
        draw_text(&mut canvas, 2, 2, STYLE, "\u{732b}\u{1f431}\n\t");
        assert!(ink(&canvas) > 20);
        assert!(text_width("\u{732b}", 16.0) > 3);
    }

    #[test]
    fn text_outside_the_canvas_is_clipped() {
        let mut canvas = RgbImage::from_pixel(30, 10, Rgb([255; 3]));
        draw_text(&mut canvas, -20, -5, STYLE, "a long line that leaves on every side");
        draw_text(&mut canvas, i64::from(u32::MAX), 0, STYLE, "far away");
        assert!(ink(&canvas) > 0);
    }

    #[test]
    fn long_names_keep_both_ends() {
        let name = "IMG_20240518_a_very_long_file_name_from_a_phone_0001.jpeg";
        let short = shorten_middle(name, 14.0, 120);
        assert!(text_width(&short, 14.0) <= 120, "{short}");
        let (head, tail) = short.split_once(ELLIPSIS).unwrap();
        assert!(head.len() > 4 && name.starts_with(head) && tail.len() > 4 && name.ends_with(tail), "{short}");
        assert!(text_width(&short, 14.0) > 100, "{short} leaves room unused");
        assert_eq!(shorten_middle("cat.jpg", 14.0, 120), "cat.jpg");
        assert_eq!(shorten_middle("cat.jpg", 14.0, 0), "\u{2026}");
    }
}
