//! The parts of a picture that are compared with a gallery, and how much each of them says.

use image::{RgbImage, imageops};

use crate::pixels::{Resample, resize};

/// What the model sees of a picture as it comes: mostly its middle square. Galleries are embedded like this.
const AS_IT_COMES: f32 = 1.0;
/// All of it, squeezed into a square; only where that differs.
const SQUEEZED: f32 = 1.0;
/// The four corners and the middle, nearer: all five together. Most of them miss a thing that is not there.
const CROPS: f32 = 0.5;
/// Side of a crop, share of the picture's.
const CROP_SHARE: f32 = 0.7;
/// A picture this much longer than wide is squeezed as well.
const OBLONG: f32 = 1.1;
/// Smaller pictures have no parts that show more.
const LEAST_SIDE: u32 = 64;

/// The picture as it comes alone: parts of an aligned crop are none.
pub(super) fn whole(rgb: &RgbImage) -> Vec<(RgbImage, f32)> {
    vec![(rgb.clone(), AS_IT_COMES)]
}

/// Views, each with its weight; the first is the picture itself.
pub(super) fn views(rgb: &RgbImage) -> Vec<(RgbImage, f32)> {
    let (width, height) = rgb.dimensions();
    let mut views = whole(rgb);
    let (long, short) = (width.max(height), width.min(height));
    if short < LEAST_SIDE {
        return views;
    }
    if long as f32 > OBLONG * short as f32 {
        views.push((resize(rgb, short, short, Resample::Bicubic), SQUEEZED));
    }
    let part = |side: u32| (side as f32 * CROP_SHARE) as u32;
    let (wide, high) = (part(width), part(height));
    let (right, low) = (width - wide, height - high);
    let corners = [(0, 0), (right, 0), (0, low), (right, low), (right / 2, low / 2)];
    for (x, y) in corners {
        views.push((imageops::crop_imm(rgb, x, y, wide, high).to_image(), CROPS / corners.len() as f32));
    }
    views
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_pictures_are_looked_at_in_parts_and_oblong_ones_squeezed() {
        assert_eq!(views(&RgbImage::new(40, 300)).len(), 1);
        let square = views(&RgbImage::new(200, 200));
        assert_eq!((square.len(), square[1].0.dimensions()), (6, (140, 140)));
        let oblong = views(&RgbImage::new(300, 200));
        assert_eq!((oblong.len(), oblong[1].0.dimensions()), (7, (200, 200)));
        assert!((oblong.iter().map(|(_, weight)| weight).sum::<f32>() - 2.5).abs() < 1e-6);
    }
}
