//! What a picture looks like in 64 bits, to recognise it rescaled or recompressed.

use image::RgbImage;
use image::imageops::thumbnail;

/// Difference hash: the picture is averaged to 9 x 8 grey cells; each bit says whether a cell is brighter than its
/// left neighbour. Copies in another size or quality differ in few bits, other pictures in about 32.
///
/// Source: Neal Krawetz, "Kind of Like That" (2013).
pub fn difference_hash(rgb: &RgbImage) -> u64 {
    let small = thumbnail(rgb, 9, 8);
    // ITU-R 601 weights, scaled to integers.
    let grey = |x: u32, y: u32| {
        let [r, g, b] = small.get_pixel(x, y).0.map(u32::from);
        299 * r + 587 * g + 114 * b
    };
    let mut hash = 0;
    for y in 0..8 {
        for x in 0..8 {
            hash = hash << 1 | u64::from(grey(x + 1, y) > grey(x, y));
        }
    }
    hash
}

#[cfg(test)]
mod tests {
    use image::{Rgb, RgbImage, imageops};

    use super::difference_hash;

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
    fn the_smallest_pictures_have_one_too() {
        difference_hash(&RgbImage::new(1, 1));
        difference_hash(&RgbImage::new(3, 5000));
    }
}
