//! A grid of numbers over a picture, as colours: where a model sees what it was asked for.

use image::{RgbImage, imageops};

/// Longer side of the picture that is drawn, pixels: enough to see what lies below a patch.
const SIDE: u32 = 672;
/// Share of the colour in the mix with the picture.
const OPACITY: f32 = 0.55;
/// From nothing to the most; between them colours are mixed. Light grows with the number, so that it reads in grey too.
const COLOURS: [[f32; 3]; 5] =
    [[20.0, 11.0, 52.0], [101.0, 21.0, 110.0], [187.0, 55.0, 84.0], [249.0, 142.0, 9.0], [252.0, 255.0, 164.0]];

/// Draws numbers over a picture. `grid`: rows of equal length from top to bottom; `range`: what has the first and the last
/// colour. Between the middles of its cells the grid is interpolated.
pub fn heat(picture: &RgbImage, grid: &[Vec<f32>], range: (f32, f32)) -> RgbImage {
    let scale = SIDE as f32 / picture.width().max(picture.height()).max(1) as f32;
    let side = |length: u32| ((length as f32 * scale).round() as u32).max(1);
    let (width, height) = (side(picture.width()), side(picture.height()));
    let mut drawn = imageops::resize(picture, width, height, imageops::FilterType::CatmullRom);
    for (x, y, pixel) in drawn.enumerate_pixels_mut() {
        let value = at(grid, (x as f32 + 0.5) / width as f32, (y as f32 + 0.5) / height as f32);
        let share = ((value - range.0) / (range.1 - range.0).max(f32::MIN_POSITIVE)).clamp(0.0, 1.0);
        let colour = colour(share);
        // Grey below: the picture's own colours would be taken for the map's.
        let [red, green, blue] = pixel.0.map(f32::from);
        let grey = 0.299 * red + 0.587 * green + 0.114 * blue;
        pixel.0 = colour.map(|colour| (grey * (1.0 - OPACITY) + colour * OPACITY).round().clamp(0.0, 255.0) as u8);
    }
    drawn
}

/// The grid at a place, both coordinates 0 to 1.
fn at(grid: &[Vec<f32>], x: f32, y: f32) -> f32 {
    let rows = grid.len();
    let columns = grid.first().map_or(0, Vec::len);
    let cell = |row: usize, column: usize| grid.get(row).and_then(|row| row.get(column)).copied().unwrap_or_default();
    let split = |place: f32, count: usize| {
        let place = (place * count as f32 - 0.5).clamp(0.0, count.saturating_sub(1) as f32);
        let low = place as usize;
        (low, (low + 1).min(count.saturating_sub(1)), place - low as f32)
    };
    let ((top, bottom, down), (left, right, across)) = (split(y, rows), split(x, columns));
    let upper = cell(top, left) * (1.0 - across) + cell(top, right) * across;
    let lower = cell(bottom, left) * (1.0 - across) + cell(bottom, right) * across;
    upper * (1.0 - down) + lower * down
}

fn colour(share: f32) -> [f32; 3] {
    let place = share * (COLOURS.len() - 1) as f32;
    let low = (place as usize).min(COLOURS.len() - 2);
    let mix = place - low as f32;
    let of = |at: usize| COLOURS.get(at).copied().unwrap_or([0.0; 3]);
    let (from, to) = (of(low), of(low + 1));
    [0, 1, 2].map(|channel: usize| {
        let of = |colour: [f32; 3]| colour.get(channel).copied().unwrap_or_default();
        of(from) * (1.0 - mix) + of(to) * mix
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(width: u32, height: u32) -> RgbImage {
        RgbImage::from_pixel(width, height, image::Rgb([128; 3]))
    }

    #[test]
    fn the_brightest_place_is_where_the_greatest_number_is() {
        let grid = vec![vec![0.0, 0.0, 0.0], vec![0.0, 0.0, 4.0]];
        let drawn = heat(&plain(90, 60), &grid, (0.0, 4.0));
        assert_eq!(drawn.dimensions(), (672, 448));
        let light = |x: u32, y: u32| drawn.get_pixel(x, y).0.iter().map(|c| u32::from(*c)).sum::<u32>();
        assert!(light(600, 400) > light(100, 100) + 150);
        assert!(light(600, 400) >= light(400, 300));
    }

    #[test]
    fn odd_grids_do_no_harm() {
        for grid in [vec![], vec![vec![]], vec![vec![1.0]], vec![vec![f32::NAN, f32::INFINITY]]] {
            assert_eq!(heat(&plain(3, 2), &grid, (0.0, 0.0)).width(), 672);
        }
    }
}
