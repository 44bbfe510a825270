//! Layer normalisation of one row.

#![allow(clippy::inline_always)]

use super::simd::in_widest;

/// Layer normalisation: `(x - mean) / sqrt(variance + eps) * weight + bias`.
///
/// Source: Ba et al. 2016.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Norm<'a> {
    /// Shape: `[width]`.
    pub(crate) weight: &'a [f32],
    /// Shape: `[width]`.
    pub(crate) bias: &'a [f32],
    /// Added to the variance.
    pub(crate) eps: f32,
}

impl Norm<'_> {
    /// Normalises a row. Shapes: `[width]` both.
    pub(crate) fn row(&self, row: &[f32], out: &mut [f32]) {
        normalise(self.weight, self.bias, self.eps, row, out);
    }
}

in_widest! {
    fn normalise(weight: &[f32], bias: &[f32], eps: f32, row: &[f32], out: &mut [f32]) = normalise_body
}

/// Partial sums that the compiler keeps in vectors.
const LANES: usize = 32;

#[inline(always)]
fn sum(row: &[f32], of: impl Fn(f32) -> f32) -> f32 {
    let mut sums = [0.0_f32; LANES];
    let (chunks, rest) = row.as_chunks::<LANES>();
    for chunk in chunks {
        for lane in 0..LANES {
            sums[lane] += of(chunk[lane]);
        }
    }
    for (sum, value) in sums.iter_mut().zip(rest) {
        *sum += of(*value);
    }
    sums.into_iter().sum()
}

#[inline(always)]
fn normalise_body<const FUSED: bool>(weight: &[f32], bias: &[f32], eps: f32, row: &[f32], out: &mut [f32]) {
    let width = row.len().max(1) as f32;
    let mean = sum(row, |x| x) / width;
    // About the mean, as the reference: the difference of squares loses digits.
    let variance = sum(row, |x| (x - mean) * (x - mean)) / width;
    let scale = 1.0 / (variance + eps).sqrt();
    for (((out, x), weight), bias) in out.iter_mut().zip(row).zip(weight).zip(bias) {
        *out = (x - mean) * scale * weight + bias;
    }
}
