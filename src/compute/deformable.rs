//! Deformable attention over maps of several sizes: each query looks at a few places instead of at every cell.
//!
//! Source: Zhu et al. 2021, arXiv:2010.04159, section 4.1; Lv et al. 2024, arXiv:2407.17140, for the nearest cells.

#![allow(clippy::inline_always)]

use candle_core::{DType, Device, Tensor};
use rayon::prelude::*;

use super::pixel_map::with_values;
use super::simd::in_widest;
use crate::error::{Error, Result};

/// Queries that a task has at least.
const QUERIES_PER_TASK: usize = 8;

/// How queries look at maps.
#[derive(Debug, Clone, Copy)]
pub struct Sampling<'a> {
    /// Height and width of each map; their cells lie one map after the other, in reading order.
    pub levels: &'a [(usize, usize)],
    /// Heads, which divide the values' width.
    pub heads: usize,
    /// Places in each map that a head looks at.
    pub points: usize,
    /// What an offset of 1 is: this share of the query's box, divided among the points.
    pub scale: f32,
    /// The nearest cell instead of the four around a place.
    pub discrete: bool,
}

impl Sampling<'_> {
    /// What each query sees. A GPU's tensors are fetched and sent back: this is a thousandth of a detector's work.
    ///
    /// Shapes: `values` `[1, cells, heads * size]`; `offsets` `[1, queries, heads * levels * points * 2]`, x before y; `scores`
    /// `[1, queries, heads * levels * points]`, before the softmax over levels and points; `boxes` `[queries, 4]` flattened,
    /// centre and size as shares of the picture -> `[1, queries, heads * size]`.
    ///
    /// # Errors
    /// The shapes do not fit each other.
    pub fn attend(&self, values: &Tensor, offsets: &Tensor, scores: &Tensor, boxes: &[f32]) -> Result<Tensor> {
        self.compute(values, offsets, scores, boxes).map_err(Error::tensor("deformable attention"))
    }

    fn compute(
        &self,
        values: &Tensor,
        offsets: &Tensor,
        scores: &Tensor,
        boxes: &[f32],
    ) -> candle_core::Result<Tensor> {
        let (_, cells, width) = values.dims3()?;
        let queries = boxes.len() / 4;
        let places = self.heads * self.levels.len() * self.points;
        let all: usize = self.levels.iter().map(|(h, w)| h * w).sum();
        if self.heads == 0
            || places == 0
            || width % self.heads != 0
            || cells != all
            || offsets.dims3()? != (1, queries, 2 * places)
            || scores.dims3()? != (1, queries, places)
        {
            candle_core::bail!(
                "values {:?}, offsets {:?} and scores {:?} for {queries} queries, {self:?}",
                values.dims(),
                offsets.dims(),
                scores.dims()
            );
        }
        let here = |x: &Tensor| x.to_device(&Device::Cpu)?.to_dtype(DType::F32)?.contiguous();
        let (on_cpu, offsets, scores) = (here(values)?, here(offsets)?, here(scores)?);
        let mut out = vec![0.0_f32; queries * width];
        with_values(&on_cpu, |values| {
            with_values(&offsets, |offsets| {
                with_values(&scores, |scores| {
                    let rows = out.par_chunks_exact_mut(width).zip(boxes.as_chunks::<4>().0);
                    let asked = offsets.par_chunks_exact(2 * places).zip(scores.par_chunks_exact(places));
                    rows.zip(asked).with_min_len(QUERIES_PER_TASK).for_each(|((out, bounds), (offsets, scores))| {
                        look(self, values, offsets, scores, bounds, out);
                    });
                })
            })
        })???;
        Tensor::from_vec(out, (1, queries, width), &Device::Cpu)?.to_device(values.device())?.to_dtype(values.dtype())
    }
}

in_widest! {
    /// One query. Shapes: as in [`Sampling::attend`], of one row.
    fn look(sampling: &Sampling<'_>, values: &[f32], offsets: &[f32], scores: &[f32], bounds: &[f32; 4], out: &mut [f32])
        = look_body
}

#[inline(always)]
fn look_body<const FUSED: bool>(
    sampling: &Sampling<'_>,
    values: &[f32],
    offsets: &[f32],
    scores: &[f32],
    &[cx, cy, w, h]: &[f32; 4],
    out: &mut [f32],
) {
    let Sampling { levels, heads, points, scale, discrete } = *sampling;
    let (width, places) = (out.len(), levels.len() * points);
    let size = width / heads;
    let step = scale / points as f32;
    let per_head = offsets.chunks_exact(2 * places).zip(scores.chunks_exact(places));
    for ((head, out), (offsets, scores)) in out.chunks_exact_mut(size).enumerate().zip(per_head) {
        let most = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f32 = scores.iter().map(|score| (score - most).exp()).sum();
        let mut first = 0;
        let per_level = offsets.chunks_exact(2 * points).zip(scores.chunks_exact(points));
        for (&(lines, columns), (offsets, scores)) in levels.iter().zip(per_level) {
            for (&[dx, dy], score) in offsets.as_chunks::<2>().0.iter().zip(scores) {
                let weight = (score - most).exp() / sum;
                let x = (cx + dx * step * w) * columns as f32;
                let y = (cy + dy * step * h) * lines as f32;
                let mut add = |line: i64, column: i64, weight: f32| {
                    let inside = (0..lines as i64).contains(&line) && (0..columns as i64).contains(&column);
                    if !inside || weight == 0.0 {
                        return;
                    }
                    let at = (first + line as usize * columns + column as usize) * width + head * size;
                    let cell = values.get(at..at + size).unwrap_or_default();
                    for (out, value) in out.iter_mut().zip(cell) {
                        *out = super::activation::multiply_add::<FUSED>(weight, *value, *out);
                    }
                };
                if discrete {
                    // The reference cuts towards zero and then keeps to the map.
                    let near = |at: f32, most: usize| ((at + 0.5) as i64).clamp(0, most as i64 - 1);
                    add(near(y, lines), near(x, columns), weight);
                    continue;
                }
                // Cells have their values in their middle; beyond the map there are zeros.
                let (x, y) = (x - 0.5, y - 0.5);
                let (left, top) = (x.floor(), y.floor());
                let (right, low) = (x - left, y - top);
                let (column, line) = (left as i64, top as i64);
                add(line, column, weight * (1.0 - right) * (1.0 - low));
                add(line, column.saturating_add(1), weight * right * (1.0 - low));
                add(line.saturating_add(1), column, weight * (1.0 - right) * low);
                add(line.saturating_add(1), column.saturating_add(1), weight * right * low);
            }
            first += lines * columns;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(values: &[f32]) -> Tensor {
        Tensor::from_slice(values, (1, 1, values.len()), &Device::Cpu).unwrap()
    }

    /// One head of two numbers, one place in a map of 2 x 2 and one in a map of one cell; the second cancels itself out or not.
    fn seen(offset: [f32; 2], scores: [f32; 2], discrete: bool) -> Vec<f32> {
        let cells = [0.0_f32, 10., 1., 20., 2., 30., 3., 40., 100., 200.];
        let values = Tensor::from_slice(&cells, (1, 5, 2), &Device::Cpu).unwrap();
        let sampling = Sampling { levels: &[(2, 2), (1, 1)], heads: 1, points: 1, scale: 0.5, discrete };
        let offsets = row(&[offset[0], offset[1], 0.0, 0.0]);
        let out = sampling.attend(&values, &offsets, &row(&scores), &[0.5, 0.5, 0.5, 1.0]).unwrap();
        out.flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn a_query_sees_what_lies_between_four_cells_or_the_nearest_one() {
        // The middle of the map is the mean of its cells.
        assert_eq!(seen([0.0, 0.0], [0.0, -200.0], false), [1.5, 25.0]);
        // A quarter of the box's width to the left, half a cell: the left column.
        assert_eq!(seen([-1.0, 0.0], [0.0, -200.0], false), [1.0, 20.0]);
        // Half of the four cells around a corner lies beyond the map.
        assert_eq!(seen([-2.0, 0.0], [0.0, -200.0], false), [0.5, 10.0]);
        assert_eq!(seen([-9.0, 0.0], [0.0, -200.0], false), [0.0, 0.0]);
        assert_eq!(seen([0.0, 0.0], [0.0, 0.0], false), [50.75, 112.5]);
        assert_eq!(seen([0.0, 0.0], [0.0, -200.0], true), [3.0, 40.0]);
        assert_eq!(seen([-9.0, 9.0], [0.0, -200.0], true), [2.0, 30.0]);
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        let sampling = Sampling { levels: &[(2, 2)], heads: 1, points: 1, scale: 0.5, discrete: false };
        let values = Tensor::zeros((1, 5, 2), DType::F32, &Device::Cpu).unwrap();
        assert!(sampling.attend(&values, &row(&[0.0; 2]), &row(&[0.0]), &[0.5; 4]).is_err());
    }
}
