//! Rows of vectors in fixed point, where they lie beside the vector file, and the view that both have in common.

use half::f16;
use half::slice::HalfFloatSliceExt;
use rayon::prelude::*;

use super::fixed::{Scale, decode, encode, padded};
use crate::index::calibration::ImageCalibration;

/// Rows, wherever they lie. All parts have the same number of rows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rows<'a> {
    /// Shape: `[dim]`.
    pub(super) centre: &'a [f32],
    /// Shape: `[rows, padded(dim)]`.
    pub(super) high: &'a [i8],
    /// Shape: `[rows, padded(dim)]`.
    pub(super) low: &'a [i8],
    /// See [`Scale`].
    pub(super) steps: &'a [f32],
    /// See [`Scale`].
    pub(super) residuals: &'a [f32],
    /// Of each picture's cosines over the null texts.
    pub(super) means: &'a [f32],
    /// Of each picture's cosines over the null texts.
    pub(super) spreads: &'a [f32],
    /// The pictures.
    pub(super) contents: &'a [i64],
    /// What no row exceeds.
    pub(super) extent: Extent,
}

/// Limits of all rows, for bounds that hold for each of them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Extent {
    /// Greatest length of a high part.
    pub(super) longest: f32,
    /// Greatest length of a low part.
    pub(super) residual: f32,
    /// Smallest spread over the null texts.
    pub(super) spread: f32,
}

impl Default for Extent {
    fn default() -> Self {
        Self { longest: 0.0, residual: 0.0, spread: f32::MAX }
    }
}

impl Extent {
    /// Limits of these rows and others.
    pub(super) fn with(self, other: Self) -> Self {
        Self {
            longest: self.longest.max(other.longest),
            residual: self.residual.max(other.residual),
            spread: self.spread.min(other.spread),
        }
    }
}

impl Rows<'_> {
    pub(super) fn len(&self) -> usize {
        self.contents.len()
    }

    /// Writes a row's vector. Shape: `[dim]`. `false` when there is no such row.
    pub(super) fn read(&self, row: usize, vector: &mut [f32]) -> bool {
        let wide = padded(self.centre.len());
        let range = row * wide..(row + 1) * wide;
        let planes = self.high.get(range.clone()).zip(self.low.get(range)).zip(self.steps.get(row));
        if let Some(((high, low), step)) = planes {
            decode(*step, high, low, self.centre, vector);
        }
        planes.is_some()
    }

    pub(super) fn calibration(&self, row: usize) -> Option<ImageCalibration> {
        let (mean, spread) = self.means.get(row).zip(self.spreads.get(row))?;
        Some(ImageCalibration { mean: *mean, spread: *spread })
    }
}

/// Rows in memory: those newer than the file, or a block on its way there.
#[derive(Debug, Default)]
pub(super) struct RowBuffer {
    high: Vec<i8>,
    low: Vec<i8>,
    steps: Vec<f32>,
    residuals: Vec<f32>,
    means: Vec<f32>,
    spreads: Vec<f32>,
    contents: Vec<i64>,
    extent: Extent,
    /// Little-endian half floats of rows that are not encoded yet. Shape: `[rows, dim]`.
    halves: Vec<u8>,
}

impl RowBuffer {
    /// Adds a row as the database holds it; a vector of the wrong length is cut or filled with zeros.
    pub(super) fn push(&mut self, content: i64, calibration: ImageCalibration, vector: &[u8], dim: usize) {
        self.contents.push(content);
        // A row that cannot be judged must not take the others with it.
        let usable = calibration.mean.is_finite() && calibration.spread > 0.0 && calibration.spread.is_finite();
        self.means.push(if usable { calibration.mean } else { 0.0 });
        self.spreads.push(if usable { calibration.spread } else { 1.0 });
        let bytes = dim * 2;
        self.halves.extend_from_slice(vector.get(..bytes).unwrap_or(vector));
        self.halves.resize(self.contents.len() * bytes - self.steps.len() * bytes, 0);
    }

    /// Encodes the rows that were added, on all cores.
    pub(super) fn encode(&mut self, centre: &[f32]) {
        let (dim, wide, first) = (centre.len(), padded(centre.len()), self.steps.len());
        let count = self.contents.len();
        self.high.resize(count * wide, 0);
        self.low.resize(count * wide, 0);
        let new = self.high.get_mut(first * wide..).unwrap_or_default().par_chunks_exact_mut(wide);
        let low = self.low.get_mut(first * wide..).unwrap_or_default().par_chunks_exact_mut(wide);
        let scales: Vec<Scale> = new
            .zip(low)
            .enumerate()
            .with_min_len(64)
            .map_init(
                || vec![0.0; dim],
                |vector, (row, (high, low))| {
                    let halves = self.halves.get(row * dim * 2..(row + 1) * dim * 2).unwrap_or_default();
                    halves_to_floats(halves, vector);
                    encode(vector, centre, high, low)
                },
            )
            .collect();
        for (scale, spread) in scales.into_iter().zip(self.spreads.get(first..).unwrap_or_default()) {
            self.steps.push(scale.step);
            self.residuals.push(scale.residual);
            let own = Extent { longest: scale.length, residual: scale.residual, spread: *spread };
            self.extent = self.extent.with(own);
        }
        self.halves.clear();
    }

    /// The high planes of some rows, beside each other; without the low ones.
    pub(super) fn gathered(rows: &Rows<'_>, picked: &[u32]) -> Self {
        fn pick<T: Copy>(numbers: &[T], picked: &[u32]) -> Vec<T> {
            picked.iter().filter_map(|row| numbers.get(*row as usize).copied()).collect()
        }
        let wide = padded(rows.centre.len());
        let plane = |row: &u32| rows.high.get(*row as usize * wide..(*row as usize + 1) * wide).unwrap_or_default();
        Self {
            high: picked.iter().flat_map(plane).copied().collect(),
            steps: pick(rows.steps, picked),
            means: pick(rows.means, picked),
            spreads: pick(rows.spreads, picked),
            contents: pick(rows.contents, picked),
            extent: rows.extent,
            ..Self::default()
        }
    }

    /// The rows, encoded with this centre.
    pub(super) fn rows<'a>(&'a self, centre: &'a [f32]) -> Rows<'a> {
        Rows {
            centre,
            high: &self.high,
            low: &self.low,
            steps: &self.steps,
            residuals: &self.residuals,
            means: &self.means,
            spreads: &self.spreads,
            contents: &self.contents,
            extent: self.extent,
        }
    }

    /// Number of rows.
    pub(super) fn len(&self) -> usize {
        self.contents.len()
    }
}

/// Little-endian half floats to floats.
pub(super) fn halves_to_floats(bytes: &[u8], floats: &mut [f32]) {
    const PIECE: usize = 64;
    for (bytes, floats) in bytes.chunks(PIECE * 2).zip(floats.chunks_mut(PIECE)) {
        let mut halves = [f16::ZERO; PIECE];
        for (half, pair) in halves.iter_mut().zip(bytes.as_chunks::<2>().0) {
            *half = f16::from_le_bytes(*pair);
        }
        if let Some(halves) = halves.get(..floats.len()) {
            halves.convert_to_f32_slice(floats);
        }
    }
}
