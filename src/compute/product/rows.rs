//! Activations as a kernel reads them: as they are, rounded, or as integers with a scale for every row and block.

#![allow(clippy::inline_always)]

use rayon::prelude::*;

use super::unit::{INT16_LEVELS, Kernel, Number};
use super::weights::Weights;
use crate::compute::buffers::Buffer;
use crate::compute::norm::Norm;
use crate::compute::simd::{ROUNDER, in_widest};

/// Rows of numbers; each may lie further from the one before than it is long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Matrix<'a> {
    /// The numbers; `(rows - 1) * stride + width` at least.
    pub(crate) values: &'a [f32],
    /// Number of rows.
    pub(crate) rows: usize,
    /// Length of a row.
    pub(crate) width: usize,
    /// From one row's start to the next's.
    pub(crate) stride: usize,
}

impl<'a> Matrix<'a> {
    /// Rows without gaps.
    pub(crate) fn new(values: &'a [f32], width: usize) -> Self {
        Self { values, rows: values.len() / width.max(1), width, stride: width }
    }

    /// A row.
    pub(super) fn row(&self, index: usize) -> &'a [f32] {
        self.values.get(index * self.stride..).and_then(|rest| rest.get(..self.width)).unwrap_or_default()
    }
}

/// Activations in a kernel's format.
pub(super) enum Rows<'a> {
    /// 32-bit floats that need no change.
    Given(Matrix<'a>),
    /// All other.
    Made(Made),
}

pub(super) struct Made {
    values: Buffer,
    /// Bytes from one row to the next.
    stride: usize,
    /// Shape: `[blocks, rows]`.
    scales: Buffer,
    /// The integers that stand for zero. Shape: as the scales.
    zeros: Buffer,
    rows: usize,
}

/// Rows that one thread prepares at least.
const ROWS_PER_TASK: usize = 8;
/// Numbers that one thread prepares alone: waking another one takes as long.
const ALONE: usize = 1 << 16;

impl<'a> Rows<'a> {
    /// Brings rows into the format of these weights, after a normalisation if one is given.
    pub(super) fn prepare(input: Matrix<'a>, norm: Option<&Norm<'_>>, weights: &Weights) -> Self {
        let kernel = weights.kernel;
        if kernel.number == Number::F32 && norm.is_none() {
            return Self::Given(input);
        }
        let (rows, width, block) = (input.rows, input.width, weights.block);
        let depth = width.next_multiple_of(kernel.group);
        // A line more than a multiple of a page's size, so that a tile's rows do not fall on the same places of the cache.
        let stride = (depth * kernel.bytes()).next_multiple_of(64) + 64;
        let blocks = width.div_ceil(block.max(1));
        let mut values = Buffer::of::<u8>(rows * stride);
        let (mut scales, mut zeros) = (Buffer::of::<f32>(rows * blocks), Buffer::of::<i32>(rows * blocks));
        let tasks = values.slice_mut::<u8>()[..rows * stride].par_chunks_mut(stride * ROWS_PER_TASK);
        // Scales row by row first: threads write them side by side.
        let mut steps = Buffer::of::<[f32; 2]>(rows * blocks);
        let steps_of = steps.slice_mut::<[f32; 2]>()[..rows * blocks].par_chunks_mut((blocks * ROWS_PER_TASK).max(1));
        let together = if rows * width > ALONE { 1 } else { usize::MAX };
        tasks.zip(steps_of).enumerate().with_min_len(together).for_each(|(task, (out, steps))| {
            let mut normed = norm.map(|norm| (norm, Buffer::of::<f32>(width)));
            for (index, (out, steps)) in out.chunks_mut(stride).zip(steps.chunks_mut(blocks)).enumerate() {
                let mut row = input.row(task * ROWS_PER_TASK + index);
                if let Some((norm, normed)) = &mut normed {
                    let place = normed.slice_mut::<f32>().get_mut(..width).unwrap_or_default();
                    norm.row(row, place);
                    row = &*place;
                }
                convert(row, kernel, block, depth, out, steps);
            }
        });
        for (row, steps) in steps.slice::<[f32; 2]>().chunks(blocks.max(1)).take(rows).enumerate() {
            for (block, [scale, zero]) in steps.iter().enumerate() {
                scales.slice_mut::<f32>()[block * rows + row] = *scale;
                zeros.slice_mut::<i32>()[block * rows + row] = *zero as i32;
            }
        }
        Self::Made(Made { values, stride, scales, zeros, rows })
    }

    /// Where a row begins at some input, and the bytes from row to row.
    pub(super) fn at(&self, row: usize, input: usize, bytes: usize) -> (*const u8, usize) {
        match self {
            Self::Given(matrix) => {
                (matrix.values[row * matrix.stride + input..].as_ptr().cast(), matrix.stride * size_of::<f32>())
            }
            Self::Made(made) => (made.values.slice::<u8>()[row * made.stride + input * bytes..].as_ptr(), made.stride),
        }
    }

    /// Scales and zeros of a block from a row on.
    pub(super) fn steps(&self, block: usize, row: usize) -> (*const f32, *const i32) {
        match self {
            Self::Given(_) => (std::ptr::null(), std::ptr::null()),
            Self::Made(made) => {
                let at = block * made.rows + row;
                (made.scales.slice::<f32>()[at..].as_ptr(), made.zeros.slice::<i32>()[at..].as_ptr())
            }
        }
    }
}

/// A row in the kernel's format, and the scale and zero of each block.
fn convert(row: &[f32], kernel: &Kernel, block: usize, depth: usize, out: &mut [u8], steps: &mut [[f32; 2]]) {
    let out = out.get_mut(..depth * kernel.bytes()).unwrap_or_default();
    match kernel.number {
        Number::F32 => {
            for (place, value) in bytemuck::cast_slice_mut::<u8, f32>(out).iter_mut().zip(row) {
                *place = *value;
            }
        }
        Number::Bf16 => {
            let out = bytemuck::cast_slice_mut::<u8, u16>(out);
            out.iter_mut().skip(row.len()).for_each(|place| *place = 0);
            to_bf16(row, out);
        }
        Number::Int16 => {
            let out = bytemuck::cast_slice_mut::<u8, i16>(out);
            out.iter_mut().skip(row.len()).for_each(|place| *place = 0);
            for ((out, row), step) in out.chunks_mut(block).zip(row.chunks(block)).zip(steps) {
                *step = [to_int16(row, out), 0.0];
            }
        }
        Number::Int8 => {
            out.iter_mut().skip(row.len()).for_each(|place| *place = 0);
            for ((out, row), step) in out.chunks_mut(block).zip(row.chunks(block)).zip(steps) {
                *step = to_uint8(row, kernel.levels, out);
            }
        }
    }
}

in_widest! {
    /// Signed integers of all levels; returns what a level is worth. A row of zeros is zeros.
    fn to_int16(row: &[f32], out: &mut [i16]) -> f32 = to_int16_body
}

in_widest! {
    /// The nearest bfloat16, the even one of two.
    fn to_bf16(row: &[f32], out: &mut [u16]) -> () = to_bf16_body
}

in_widest! {
    /// Unsigned integers from the smallest to the largest number; returns what a level is worth and which one is zero.
    fn to_uint8(row: &[f32], levels: u8, out: &mut [u8]) -> [f32; 2] = to_uint8_body
}

/// Partial results that the compiler keeps in vectors.
const LANES: usize = 16;

/// Smallest and largest, and zero.
#[inline(always)]
fn range(row: &[f32]) -> (f32, f32) {
    let (mut least, mut most) = ([0.0_f32; LANES], [0.0_f32; LANES]);
    let (chunks, rest) = row.as_chunks::<LANES>();
    for chunk in chunks {
        // By value: a conditional store would go through memory.
        for lane in 0..LANES {
            least[lane] = if chunk[lane] < least[lane] { chunk[lane] } else { least[lane] };
            most[lane] = if chunk[lane] > most[lane] { chunk[lane] } else { most[lane] };
        }
    }
    let all = |lanes: [f32; LANES], pick: fn(f32, f32) -> f32| lanes.iter().chain(rest).copied().fold(0.0, pick);
    (all(least, f32::min), all(most, f32::max))
}

#[inline(always)]
fn to_int16_body<const FUSED: bool>(row: &[f32], out: &mut [i16]) -> f32 {
    let (least, most) = range(row);
    let largest = most.max(-least);
    let factor = if largest > 0.0 { INT16_LEVELS as f32 / largest } else { 0.0 };
    for (place, value) in out.iter_mut().zip(row) {
        *place = (value * factor + ROUNDER).to_bits() as i16;
    }
    largest / INT16_LEVELS as f32
}

#[inline(always)]
fn to_bf16_body<const FUSED: bool>(row: &[f32], out: &mut [u16]) {
    for (place, value) in out.iter_mut().zip(row) {
        let bits = value.to_bits();
        let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
        // Rounding up could make an infinity of what is no number.
        *place = if value.is_nan() { (bits >> 16 | 0x40) as u16 } else { rounded as u16 };
    }
}

#[inline(always)]
fn to_uint8_body<const FUSED: bool>(row: &[f32], levels: u8, out: &mut [u8]) -> [f32; 2] {
    let (least, most) = range(row);
    let width = most - least;
    let factor = if width > 0.0 { f32::from(levels) / width } else { 0.0 };
    let zero = (-least * factor).round_ties_even();
    // A rounded zero may push the largest number one level too far.
    let shifted = ROUNDER + zero;
    let top = (ROUNDER + f32::from(levels)).to_bits();
    let bottom = ROUNDER.to_bits();
    for (place, value) in out.iter_mut().zip(row) {
        *place = (value * factor + shifted).to_bits().clamp(bottom, top) as u8;
    }
    [width / f32::from(levels), zero]
}

#[cfg(test)]
mod tests {
    use half::bf16;

    #[test]
    fn bfloat16_is_rounded_as_elsewhere() {
        let mut bits: Vec<u32> = (0..1 << 16).map(|at: u32| at << 16 | at.wrapping_mul(40503) & 0xffff).collect();
        bits.extend([
            0x3f80_8000,
            0x3f81_8000,
            0x3f80_7fff,
            0x7f7f_ffff,
            0x7f80_0000,
            0x7f80_0001,
            0xffff_ffff,
            0x8000,
        ]);
        let values: Vec<f32> = bits.iter().map(|bits| f32::from_bits(*bits)).collect();
        let mut found = vec![0; values.len()];
        super::to_bf16(&values, &mut found);
        for (value, found) in values.iter().zip(found) {
            assert_eq!(found, bf16::from_f32(*value).to_bits(), "{value:e} {:08x}", value.to_bits());
        }
    }
}
