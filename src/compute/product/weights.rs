//! Weights in the order in which a kernel reads them, packed once when a model is loaded.

use half::bf16;
use rayon::prelude::*;

use super::unit::{INT16_LEVELS, Kernel, Number};
use crate::compute::pages::prefer_large_pages;
use crate::compute::simd::ROUNDER;

/// A weight matrix `[outputs, inputs]`, packed for one kernel.
///
/// Layout: panels of [`Kernel::columns`] outputs; in a panel, for each part of a group of inputs, for each output, the part's values.
/// Outputs and inputs are filled up with zeros. Integers carry a scale for every output and block of the depth.
#[derive(Debug)]
pub(crate) struct Weights {
    pub(super) kernel: &'static Kernel,
    pub(super) outputs: usize,
    pub(super) inputs: usize,
    /// Inputs whose products are added up before they are scaled; a multiple of the group.
    pub(super) block: usize,
    /// Eight bytes each, so that any format is aligned.
    values: Vec<u64>,
    /// What an integer is worth. Shape: `[blocks, padded outputs]`.
    scales: Vec<f32>,
    /// Integers of a block, added up. Shape: as the scales.
    sums: Vec<i32>,
}

impl Weights {
    /// Packs. Shape: `values` `[outputs, inputs]`; rows may lie further apart, as `stride` says.
    pub(crate) fn pack(kernel: &'static Kernel, outputs: usize, inputs: usize, values: &[f32]) -> Self {
        let block = kernel.block_of(inputs);
        let (panels, blocks) = (outputs.div_ceil(kernel.columns), inputs.div_ceil(block.max(1)));
        let depth = inputs.next_multiple_of(kernel.group);
        let padded = panels * kernel.columns;
        let mut packed = Self {
            kernel,
            outputs,
            inputs,
            block,
            values: zeroed((padded * depth * kernel.bytes()).div_ceil(8)),
            scales: vec![0.0; if kernel.is_integer() { blocks * padded } else { 0 }],
            sums: vec![0; if kernel.number == Number::Int8 { blocks * padded } else { 0 }],
        };
        let panel_words = kernel.columns * depth * kernel.bytes() / 8;
        let panel = |index: usize, words: &mut [u64]| {
            let columns = kernel.columns.min(outputs - index * kernel.columns);
            let rows = values.get(index * kernel.columns * inputs..).unwrap_or_default();
            let panel = Panel { kernel, inputs, block, columns, rows };
            match kernel.number {
                Number::F32 => panel.place(bytemuck::cast_slice_mut(words), |x| x),
                Number::Bf16 => panel.place(bytemuck::cast_slice_mut(words), |x| bf16::from_f32(x).to_bits()),
                Number::Int16 => return panel.quantise::<i16>(bytemuck::cast_slice_mut(words)),
                Number::Int8 => return panel.quantise::<i8>(bytemuck::cast_slice_mut(words)),
            }
            Vec::new()
        };
        let steps: Vec<Vec<(f32, i32)>> = packed
            .values
            .par_chunks_mut(panel_words.max(1))
            .enumerate()
            .map(|(index, words)| panel(index, words))
            .collect();
        for (index, steps) in steps.into_iter().enumerate() {
            for (at, (scale, sum)) in steps.into_iter().enumerate() {
                // Shape of the steps: [blocks, columns].
                let (block, column) = (at / kernel.columns, at % kernel.columns);
                let at = block * padded + index * kernel.columns + column;
                packed.scales.iter_mut().skip(at).take(1).for_each(|place| *place = scale);
                packed.sums.iter_mut().skip(at).take(1).for_each(|place| *place = sum);
            }
        }
        packed
    }

    /// Outputs, filled up to whole panels.
    pub(super) fn padded(&self) -> usize {
        self.outputs.next_multiple_of(self.kernel.columns)
    }

    /// Bytes of one panel.
    pub(super) fn panel_bytes(&self) -> usize {
        self.kernel.columns * self.inputs.next_multiple_of(self.kernel.group) * self.kernel.bytes()
    }

    /// What follows the part of a panel that begins at byte `at` and is `steps` groups deep: the same part of the next panel, which is
    /// fetched from memory while this one is multiplied, some bytes for each group of each of `tiles` tiles.
    pub(super) fn ahead(&self, at: usize, steps: usize, tiles: usize) -> (*const u8, usize) {
        let bytes = steps * self.kernel.group * self.kernel.columns * self.kernel.bytes();
        (self.bytes().as_ptr().wrapping_add(at + self.panel_bytes()), bytes.div_ceil((tiles * steps).max(1)))
    }

    pub(super) fn bytes(&self) -> &[u8] {
        bytemuck::cast_slice(&self.values)
    }

    pub(super) fn scales(&self) -> &[f32] {
        &self.scales
    }

    pub(super) fn sums(&self) -> &[i32] {
        &self.sums
    }
}

/// Inputs of all columns of a panel that are placed at a time: both sides stay in the cache.
const STRIP: usize = 64;

/// Some outputs' weights before they are packed.
struct Panel<'a> {
    kernel: &'static Kernel,
    inputs: usize,
    block: usize,
    /// Outputs that there are; the panel's other columns stay zero.
    columns: usize,
    /// Shape: `[columns, inputs]`, and what follows.
    rows: &'a [f32],
}

impl Panel<'_> {
    /// Puts every value where the kernel reads it.
    fn place<T: Copy>(&self, out: &mut [T], convert: impl Fn(f32) -> T) {
        let (part, width) = (self.kernel.part, self.kernel.columns * self.kernel.part);
        for start in (0..self.inputs).step_by(STRIP) {
            let strip = STRIP.min(self.inputs - start);
            for (column, row) in self.rows.chunks(self.inputs.max(1)).take(self.columns).enumerate() {
                let Some(values) = row.get(start..start + strip) else { continue };
                let Some(out) = out.get_mut(start / part * width + column * part..) else { continue };
                if part == 1 {
                    for (value, place) in values.iter().zip(out.iter_mut().step_by(width)) {
                        *place = convert(*value);
                    }
                } else {
                    for (values, places) in values.chunks(part).zip(out.chunks_mut(width)) {
                        for (value, place) in values.iter().zip(places) {
                            *place = convert(*value);
                        }
                    }
                }
            }
        }
    }

    /// As [`Panel::place`], as integers; returns for every block and column the scale, and the sum of the integers.
    fn quantise<T: Integer>(&self, out: &mut [T]) -> Vec<(f32, i32)> {
        let (part, width) = (self.kernel.part, self.kernel.columns * self.kernel.part);
        let blocks = self.inputs.div_ceil(self.block.max(1));
        let mut steps = vec![(1.0, 0); blocks * self.kernel.columns];
        let mut levels: Vec<T> = Vec::with_capacity(self.block);
        for (column, row) in self.rows.chunks(self.inputs.max(1)).take(self.columns).enumerate() {
            for (index, values) in row.chunks(self.block).enumerate() {
                let scale = self.scale(values, T::LEVELS);
                let Some(out) = out.get_mut(index * self.block / part * width + column * part..) else { continue };
                levels.clear();
                let (inverse, most) = (1.0 / scale, T::LEVELS as f32);
                levels.extend(values.iter().map(|value| T::from(level((value * inverse).clamp(-most, most)))));
                let sum = levels.iter().map(|level| (*level).into()).sum();
                if part == 2 {
                    scatter::<T, 2>(&levels, out, width);
                } else {
                    scatter::<T, 4>(&levels, out, width);
                }
                if let Some(step) = steps.get_mut(index * self.kernel.columns + column) {
                    *step = (scale, sum);
                }
            }
        }
        steps
    }

    /// What one level is worth in a block of one output.
    fn scale(&self, values: &[f32], levels: i32) -> f32 {
        let largest = values.iter().fold(0.0_f32, |most, value| most.max(value.abs()));
        let mut scale = largest / levels as f32;
        if self.kernel.most > 0 {
            let part = self.kernel.part;
            let mut most = 0.0_f32;
            for group in values.chunks(self.kernel.group) {
                for pair in (0..part).step_by(2) {
                    let at = |index: usize| group.get(index).map_or(0.0, |value| value.abs());
                    most = most.max(at(pair) + at(pair + 1) + at(part + pair) + at(part + pair + 1));
                }
            }
            // Rounding adds half a level to each of the four at most.
            scale = scale.max(most / (self.kernel.most - 2) as f32);
        }
        if scale > 0.0 { scale } else { 1.0 }
    }
}

/// The nearest integer, of two equally near ones the even one.
fn level(value: f32) -> i32 {
    ((value + ROUNDER).to_bits() as i32).wrapping_sub(ROUNDER.to_bits() as i32)
}

/// Values by `PART`s, `width` apart.
fn scatter<T: Copy, const PART: usize>(values: &[T], out: &mut [T], width: usize) {
    let (parts, rest) = values.as_chunks::<PART>();
    let mut places = out.chunks_mut(width);
    for (part, place) in parts.iter().zip(&mut places) {
        if let Some(place) = place.first_chunk_mut::<PART>() {
            *place = *part;
        }
    }
    if let Some(place) = places.next() {
        rest.iter().zip(place).for_each(|(value, place)| *place = *value);
    }
}

/// An integer format of weights.
trait Integer: Copy + Into<i32> {
    const LEVELS: i32;
    fn from(level: i32) -> Self;
}

impl Integer for i16 {
    const LEVELS: i32 = INT16_LEVELS;
    fn from(level: i32) -> Self {
        level as Self
    }
}

impl Integer for i8 {
    const LEVELS: i32 = 127;
    fn from(level: i32) -> Self {
        level as Self
    }
}

fn zeroed(words: usize) -> Vec<u64> {
    let mut room = Vec::with_capacity(words);
    prefer_large_pages(&mut room);
    room.resize(words, 0);
    room
}
