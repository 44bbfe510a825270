//! What boxes see of maps: each box is divided into bins, and a bin is the mean of a few places between cells.
//!
//! Source: He et al. 2017, arXiv:1703.06870, section 3 (`RoIAlign`); torchvision 0.29, `ops/roi_align.py`, whose places are not
//! moved by half a cell (`aligned=False`).

#![allow(clippy::inline_always)]

use rayon::prelude::*;

use super::pixel_map::PixelMap;
use super::simd::in_widest;
use crate::error::{Error, Result};

/// Boxes that a task has at least.
const REGIONS_PER_TASK: usize = 16;

/// How boxes are looked at.
#[derive(Debug, Clone, Copy)]
pub struct RoiAlign {
    /// Bins along each side of a box.
    pub side: usize,
    /// Places along each side of a bin.
    pub samples: usize,
}

/// A box in one of the maps.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Region {
    /// Which map.
    pub level: usize,
    /// Left, top, right, bottom, in cells of the map.
    pub bounds: [f32; 4],
}

/// Two cells along an axis around a place, and their shares; none beyond the map.
type Pair = Option<[(usize, f32); 2]>;
/// Four cells around a place, and their shares.
type Corners = [(usize, f32); 4];

impl RoiAlign {
    /// What each box sees. Maps of a GPU are fetched, and the result is sent back.
    ///
    /// Shapes: `maps` `[1, h, w, channels]` each -> `[1, side, side * regions, channels]`, bin `x` of box `n` at `x * regions + n`
    /// of its line, as [`super::PixelConv::forward_interleaved`] takes it.
    ///
    /// # Errors
    /// Maps of several pictures or of different channels; a region's map is not there.
    pub fn pool(&self, maps: &[PixelMap], regions: &[Region]) -> Result<PixelMap> {
        let channels = maps.first().map_or(0, |map| map.dims()[3]);
        if maps.iter().any(|map| map.dims()[0] != 1 || map.dims()[3] != channels)
            || regions.iter().any(|region| region.level >= maps.len())
            || channels == 0
        {
            let dims: Vec<[usize; 4]> = maps.iter().map(PixelMap::dims).collect();
            let error = candle_core::Error::msg(format!("{} boxes in maps of {dims:?}", regions.len()));
            return Err(Error::tensor("boxes of maps")(error));
        }
        let fetched = maps.iter().map(|map| map.on_cpu().map_or_else(|| map.to_values(), |_| Ok(Vec::new())));
        let fetched = fetched.collect::<Result<Vec<_>>>()?;
        let planes: Vec<Plane<'_>> = maps
            .iter()
            .zip(&fetched)
            .map(|(map, fetched)| {
                let [_, height, width, _] = map.dims();
                Plane { cells: map.on_cpu().unwrap_or(fetched), height, width, channels }
            })
            .collect();
        let dims = [1, self.side, self.side * regions.len(), channels];
        PixelMap::made(dims, maps.first(), |out| {
            let bins = out.par_chunks_exact_mut((regions.len() * channels).max(1)).enumerate();
            bins.for_each(|(bin, rows)| {
                let rows = rows.par_chunks_exact_mut(channels).zip(regions).with_min_len(REGIONS_PER_TASK);
                rows.for_each(|(row, region)| {
                    if let Some(plane) = planes.get(region.level) {
                        mean(plane, &self.places(plane, region, bin), self.samples, row);
                    }
                });
            });
        })
    }

    /// The places of a bin. PARITY: the order of operations is the reference's, so that no place falls into another cell.
    fn places(&self, plane: &Plane<'_>, region: &Region, bin: usize) -> Vec<Corners> {
        let [x0, y0, x1, y1] = region.bounds;
        let along = |bin: usize, start: f32, end: f32, cells: usize| {
            // A box of less than a cell is taken for one.
            let size = (end - start).max(1.0) / self.side as f32;
            let first = start + bin as f32 * size;
            (0..self.samples)
                .map(move |n| neighbours(first + (n as f32 + 0.5) * size / self.samples as f32, cells))
                .collect::<Vec<_>>()
        };
        let lines = along(bin / self.side, y0, y1, plane.height);
        let columns = along(bin % self.side, x0, x1, plane.width);
        let inside = |(line, column): (Pair, Pair)| {
            let ([(y0, top), (y1, low)], [(x0, left), (x1, right)]) = (line?, column?);
            let at = |y: usize, x: usize| y * plane.width + x;
            Some([
                (at(y0, x0), top * left),
                (at(y0, x1), top * right),
                (at(y1, x0), low * left),
                (at(y1, x1), low * right),
            ])
        };
        lines.iter().flat_map(|line| columns.iter().map(move |column| (*line, *column))).filter_map(inside).collect()
    }
}

/// The two cells beside a place along one axis, and their shares; none further than a cell beyond the map, where there are zeros.
fn neighbours(at: f32, cells: usize) -> Pair {
    if !(-1.0..=cells as f32).contains(&at) || cells == 0 {
        return None;
    }
    let at = at.max(0.0);
    let low = at as usize;
    if low + 1 >= cells {
        return Some([(cells - 1, 1.0), (cells - 1, 0.0)]);
    }
    let share = at - low as f32;
    Some([(low, 1.0 - share), (low + 1, share)])
}

struct Plane<'a> {
    /// Shape: `[height, width, channels]`.
    cells: &'a [f32],
    height: usize,
    width: usize,
    channels: usize,
}

/// The mean of all places, those beyond the map as zeros. Shape: `out` `[channels]`.
fn mean(plane: &Plane<'_>, places: &[Corners], samples: usize, out: &mut [f32]) {
    out.fill(0.0);
    let share = 1.0 / (samples * samples).max(1) as f32;
    for (cell, weight) in places.iter().flatten().filter(|(_, weight)| *weight != 0.0) {
        let start = cell * plane.channels;
        add(plane.cells.get(start..start + plane.channels).unwrap_or_default(), weight * share, out);
    }
}

in_widest! {
    /// `out += cell * weight`. Shapes: `[channels]`.
    fn add(cell: &[f32], weight: f32, out: &mut [f32]) = add_body
}

#[inline(always)]
fn add_body<const FUSED: bool>(cell: &[f32], weight: f32, out: &mut [f32]) {
    for (out, value) in out.iter_mut().zip(cell) {
        *out = super::activation::multiply_add::<FUSED>(weight, *value, *out);
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};

    use super::*;

    fn map(values: &[f32], height: usize, width: usize) -> PixelMap {
        let rows = Tensor::from_slice(values, (1, height * width, values.len() / (height * width)), &Device::Cpu);
        PixelMap::from_rows(&rows.unwrap(), height, width).unwrap()
    }

    /// Values from torchvision 0.29, `roi_align(x, rois, 2, 1.0, 2)` with `x = arange(12).reshape(1, 1, 3, 4)`.
    #[test]
    fn bins_equal_the_reference() {
        let values: Vec<f32> = (0..12u8).map(f32::from).collect();
        let maps = [map(&[5.0, 50.0], 1, 1), map(&values.iter().flat_map(|x| [*x, -x]).collect::<Vec<_>>(), 3, 4)];
        let align = RoiAlign { side: 2, samples: 2 };
        for (bounds, expected) in EXPECTED {
            let regions = [Region { level: 1, bounds }, Region { level: 0, bounds: [0.0, 0.0, 0.1, 0.1] }];
            let pooled = align.pool(&maps, &regions).unwrap();
            assert_eq!(pooled.dims(), [1, 2, 4, 2]);
            let pooled = pooled.to_values().unwrap();
            for (bin, expected) in expected.into_iter().enumerate() {
                let [first, second, other, more] = pooled[4 * bin..4 * bin + 4] else { panic!() };
                assert!((first - expected).abs() < 1e-5 && (second + expected).abs() < 1e-5, "{bounds:?}: {pooled:?}");
                assert!((other - 5.0).abs() < 1e-5 && (more - 50.0).abs() < 1e-4, "{pooled:?}");
            }
        }
        assert!(align.pool(&maps, &[Region { level: 2, bounds: [0.0; 4] }]).is_err());
        assert!(align.pool(&[], &[]).is_err());
        assert_eq!(align.pool(&maps, &[]).unwrap().dims(), [1, 2, 0, 2]);
    }

    const EXPECTED: [([f32; 4], [f32; 4]); 4] = [
        ([0.3, 0.2, 2.9, 1.7], [3.25, 4.55, 6.25, 7.55]),
        ([-3.0, -2.5, 1.5, 9.0], [0.0, 3.859_375, 0.0, 0.0]),
        ([2.0, 2.0, 2.1, 2.2], [10.25, 10.75, 10.25, 10.75]),
        ([1.5, 0.5, 6.5, 2.5], [6.5625, 0.0, 10.0625, 0.0]),
    ];
}
