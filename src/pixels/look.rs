//! What a picture looks like in 64 bits, to recognise it rescaled or recompressed.

use image::RgbImage;
use image::imageops::thumbnail;

/// Cells, one more across than there are bits in a row.
const COLUMNS: usize = 9;
const ROWS: usize = 8;

/// Difference hash: the picture is averaged to 9 x 8 grey cells; each bit says whether a cell is brighter than its
/// left neighbour. Copies in another size or quality differ in few bits, other pictures in about 32.
///
/// Source: Neal Krawetz, "Kind of Like That" (2013).
pub fn difference_hash(rgb: &RgbImage) -> u64 {
    let cells = cells(rgb);
    // ITU-R 601 weights, scaled to integers.
    let grey = cells.map(|row| row.map(|[r, g, b]| 299 * r + 587 * g + 114 * b));
    let brighter = grey.iter().flat_map(|row| row.iter().zip(row.iter().skip(1))).map(|(left, right)| right > left);
    brighter.fold(0, |hash, bit| hash << 1 | u64::from(bit))
}

/// Mean colours of 9 x 8 cells, as `image::imageops::thumbnail` makes them; hashes of earlier versions are stored.
fn cells(rgb: &RgbImage) -> [[[u32; 3]; COLUMNS]; ROWS] {
    let (width, height) = (rgb.width() as usize, rgb.height() as usize);
    if width < COLUMNS || height < ROWS {
        let small = thumbnail(rgb, COLUMNS as u32, ROWS as u32);
        return std::array::from_fn(|y| std::array::from_fn(|x| small.get_pixel(x as u32, y as u32).0.map(u32::from)));
    }
    // In single precision, as there.
    let edges = |length: usize, count: usize| {
        let step = length as f32 / count as f32;
        move |cell: usize| {
            let start = cell as f32 * step;
            let first = (start.ceil() as usize).min(length - 1);
            first..((start + step).ceil() as usize).clamp(first, length)
        }
    };
    let (across, down) = (edges(width, COLUMNS), edges(height, ROWS));
    let row_bytes = 3 * width;
    std::array::from_fn(|y| {
        // All rows of a band into one, then its cells.
        let band = down(y);
        let mut sums = vec![0_u32; row_bytes];
        for row in rgb.as_raw().chunks(row_bytes).take(band.end).skip(band.start) {
            sums.iter_mut().zip(row).for_each(|(sum, sample)| *sum += u32::from(*sample));
        }
        std::array::from_fn(|x| {
            let columns = across(x);
            let count = ((columns.len() * band.len()) as u32).max(1);
            let mut total = [count / 2; 3];
            for pixel in sums.as_chunks::<3>().0.get(columns).unwrap_or_default() {
                total.iter_mut().zip(pixel).for_each(|(total, sum)| *total += sum);
            }
            total.map(|total| total / count)
        })
    })
}

#[cfg(test)]
mod tests {
    use image::{Rgb, RgbImage, imageops};

    use super::{cells, difference_hash};

    fn waves(shift: u32) -> RgbImage {
        RgbImage::from_fn(320, 240, |x, y| {
            let value = |step: f32| (127.0 + 120.0 * ((x + shift) as f32 / step).sin() * (y as f32 / 37.0).cos()) as u8;
            Rgb([value(41.0), value(29.0), value(53.0)])
        })
    }

    #[test]
    fn a_rescaled_picture_keeps_its_hash_and_another_one_has_another() {
        let picture = waves(0);
        let small = imageops::resize(&picture, 97, 73, imageops::FilterType::Triangle);
        let bits = |a: &RgbImage, b: &RgbImage| (difference_hash(a) ^ difference_hash(b)).count_ones();
        assert!(bits(&picture, &small) <= 4, "{}", bits(&picture, &small));
        assert!(bits(&picture, &waves(90)) > 16, "{}", bits(&picture, &waves(90)));
    }

    #[test]
    fn hashes_are_those_of_earlier_versions() {
        for (width, height) in [(9, 8), (10, 9), (320, 240), (321, 77), (64, 511), (8, 100), (500, 7), (1, 1)] {
            let picture = imageops::crop_imm(&waves(3), 0, 0, width.min(320), height.min(240)).to_image();
            let picture = imageops::resize(&picture, width, height, imageops::FilterType::Nearest);
            let small = imageops::thumbnail(&picture, 9, 8);
            let expected: Vec<[u32; 3]> = small.pixels().map(|pixel| pixel.0.map(u32::from)).collect();
            assert_eq!(cells(&picture).as_flattened(), expected, "{width}x{height}");
        }
    }

    #[test]
    fn the_smallest_pictures_have_one_too() {
        difference_hash(&RgbImage::new(1, 1));
        difference_hash(&RgbImage::new(3, 5000));
    }
}
