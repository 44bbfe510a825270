//! Boxes and labels drawn on a picture, legible on any ground.

use image::{Rgb, RgbImage};

use super::resize::{Resample, resize};
use super::text::{Text, draw_text, line_height, text_width};
use crate::geometry::XyxyPx;

/// Colours of the classes, far apart in hue and light enough for black letters.
const COLOURS: [[u8; 3]; 10] = [
    [255, 214, 0],
    [64, 224, 255],
    [255, 128, 171],
    [124, 252, 80],
    [255, 167, 38],
    [200, 160, 255],
    [0, 230, 170],
    [255, 138, 101],
    [140, 190, 255],
    [230, 238, 120],
];
const INK: [u8; 3] = [16, 16, 16];
/// Share of the picture's longer side that a label's letters are high.
const LETTERS: f32 = 1.0 / 48.0;
/// Least and greatest height of letters, pixels.
const LETTER_SIZES: (f32, f32) = (11.0, 40.0);

/// A box with its label.
#[derive(Debug, Clone)]
pub struct Mark {
    /// In pixels of the picture.
    pub bounds: XyxyPx,
    /// What is written on it.
    pub label: String,
    /// Marks of one kind have one colour.
    pub kind: usize,
}

/// A whole rectangle of pixels: left, top, right, bottom; may lie outside the picture.
type Area = [i64; 4];

/// The picture with its marks, the first of them on top; scaled down first where its longer side exceeds `max_side`, so
/// that lines and letters keep their size.
pub fn annotate(picture: &RgbImage, marks: &[Mark], max_side: Option<u32>) -> RgbImage {
    let (width, height) = picture.dimensions();
    let longer = width.max(height).max(1);
    let scale = max_side.map_or(1.0, |most| (most as f32 / longer as f32).min(1.0));
    let scaled = |side: u32| ((side as f32 * scale).round() as u32).clamp(1, max_side.unwrap_or(u32::MAX));
    let mut canvas =
        if scale < 1.0 { resize(picture, scaled(width), scaled(height), Resample::Bicubic) } else { picture.clone() };
    let longer = canvas.width().max(canvas.height());
    let line = i64::from(longer / 400).clamp(1, 6) + 1;
    let size = (longer as f32 * LETTERS).clamp(LETTER_SIZES.0, LETTER_SIZES.1);
    let areas: Vec<Area> = marks.iter().map(|mark| area(&mark.bounds.mapped(scale, 0.0, 0.0))).collect();
    for (mark, area) in marks.iter().zip(&areas).rev() {
        frame(&mut canvas, *area, line, colour(mark.kind));
    }
    let mut tags: Vec<Area> = Vec::new();
    for (mark, area) in marks.iter().zip(&areas) {
        let place = tag_place(&canvas, *area, &mark.label, size, &tags);
        tag(&mut canvas, place, &mark.label, size, colour(mark.kind));
        tags.push(place);
    }
    canvas
}

fn colour(kind: usize) -> [u8; 3] {
    COLOURS.get(kind % COLOURS.len()).copied().unwrap_or([255; 3])
}

fn area(bounds: &XyxyPx) -> Area {
    bounds.to_array().map(|side| side.round() as i64)
}

/// A coloured line between two dark ones: one of them contrasts with whatever is under it.
fn frame(canvas: &mut RgbImage, [left, top, right, bottom]: Area, line: i64, colour: [u8; 3]) {
    for (inset, thick, ink) in [(0, line + 2, INK), (1, line, colour)] {
        let (l, t, r, b) = (left + inset, top + inset, right - inset, bottom - inset);
        for side in [[l, t, r, t + thick], [l, b - thick, r, b], [l, t, l + thick, b], [r - thick, t, r, b]] {
            fill(canvas, side, ink);
        }
    }
}

fn fill(canvas: &mut RgbImage, [left, top, right, bottom]: Area, colour: [u8; 3]) {
    let (width, height) = (i64::from(canvas.width()), i64::from(canvas.height()));
    for y in top.clamp(0, height)..bottom.clamp(0, height) {
        for x in left.clamp(0, width)..right.clamp(0, width) {
            canvas.put_pixel(x as u32, y as u32, Rgb(colour));
        }
    }
}

/// Above the box, else inside it, else below: the first place inside the picture that no other label takes.
fn tag_place(canvas: &RgbImage, [left, top, _, bottom]: Area, label: &str, size: f32, taken: &[Area]) -> Area {
    let (width, height) = (i64::from(canvas.width()), i64::from(canvas.height()));
    let (wide, high) = (i64::from(text_width(label, size)) + 8, i64::from(line_height(size)) + 2);
    let x = left.min(width - wide).max(0);
    let places = [top - high, top, bottom - high, bottom, top + high].map(|y| [x, y, x + wide, y + high]);
    let free = |place: &&Area| {
        let inside = place[1] >= 0 && place[3] <= height;
        inside && !taken.iter().any(|t| t[0] < place[2] && place[0] < t[2] && t[1] < place[3] && place[1] < t[3])
    };
    let fallback = [x, top.clamp(0, (height - high).max(0)), x + wide, top.clamp(0, (height - high).max(0)) + high];
    places.iter().find(free).copied().unwrap_or(fallback)
}

fn tag(canvas: &mut RgbImage, place: Area, label: &str, size: f32, colour: [u8; 3]) {
    let [left, top, right, bottom] = place;
    fill(canvas, place, INK);
    fill(canvas, [left + 1, top + 1, right - 1, bottom - 1], colour);
    draw_text(canvas, left + 4, top + 1, Text { size, colour: INK }, label);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(x: f32, y: f32, kind: usize) -> Mark {
        Mark { bounds: XyxyPx { x0: x, y0: y, x1: x + 80.0, y1: y + 60.0 }, label: "dining table 0.87".into(), kind }
    }

    /// Ratio of luminances (WCAG 2).
    fn contrast(a: [u8; 3], b: [u8; 3]) -> f64 {
        let luminance = |colour: [u8; 3]| {
            let linear = |value: u8| {
                let share = f64::from(value) / 255.0;
                if share <= 0.040_45 { share / 12.92 } else { ((share + 0.055) / 1.055).powf(2.4) }
            };
            0.2126 * linear(colour[0]) + 0.7152 * linear(colour[1]) + 0.0722 * linear(colour[2])
        };
        let (a, b) = (luminance(a) + 0.05, luminance(b) + 0.05);
        a.max(b) / a.min(b)
    }

    #[test]
    fn letters_stand_out_from_every_label_and_frames_from_every_ground() {
        for colour in COLOURS {
            assert!(contrast(colour, INK) > 7.0, "{colour:?}: {}", contrast(colour, INK));
            for ground in [[0, 0, 0], [255, 255, 255], [128, 128, 128], [200, 30, 30], [30, 30, 200], colour] {
                let best = contrast(colour, ground).max(contrast(INK, ground));
                assert!(best > 3.0, "{colour:?} on {ground:?}: {best}");
            }
        }
    }

    #[test]
    fn marks_at_every_edge_are_drawn_and_the_rest_stays() {
        let picture = RgbImage::from_pixel(300, 200, Rgb([90, 90, 90]));
        let marks = [mark(-20.0, -20.0, 0), mark(260.0, 170.0, 1), mark(100.0, 80.0, 12)];
        let drawn = annotate(&picture, &marks, None);
        assert_eq!(drawn.dimensions(), (300, 200));
        for kind in [0, 1, 12] {
            let many = drawn.pixels().filter(|pixel| pixel.0 == colour(kind)).count();
            assert!(many > 200, "{kind}: {many}");
        }
        assert_eq!(drawn.get_pixel(140, 110).0, [90, 90, 90], "inside of a box");
        assert_eq!(annotate(&picture, &[], None), picture);
    }

    #[test]
    fn labels_keep_clear_of_each_other_and_small_copies_stay_small() {
        let picture = RgbImage::new(3000, 1000);
        let marks: Vec<Mark> = (0..4u8).map(|n| mark(500.0, 300.0 + f32::from(n), 0)).collect();
        let drawn = annotate(&picture, &marks, Some(1024));
        assert_eq!(drawn.dimensions(), (1024, 341));
        let tiny = annotate(&RgbImage::new(1, 1), &marks, Some(1024));
        assert_eq!(tiny.dimensions(), (1, 1));
    }
}
