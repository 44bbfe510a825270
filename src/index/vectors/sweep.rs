//! One pass over all rows: about how well each fits each part of a query, and what that says of the collection.

use rayon::prelude::*;

use super::fixed::{Probe, padded};
use super::kernel::Kernel;
use super::rows::Rows;
use crate::index::calibration::{Moments, NEAR_DUPLICATE_COSINE, dot};

/// Rows that are scored together: their high plane fits into a core's own cache, for queries of many parts.
pub(super) const BLOCK: usize = 512;
/// Up to so many rows all are scored from both planes: it takes a millisecond or two, and the statistics of a few
/// images are as exact as they can be.
const ALL_EXACT: usize = 16_384;

/// What is looked for, or looked away from. Shape: `[dim]`, unit length.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Part<'a> {
    /// The vector.
    pub vector: &'a [f32],
    /// What it is, and what it counts for.
    pub role: Role,
}

/// What a part of a query is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Role {
    /// A text that hits should fit.
    Text {
        /// Its weight among the texts and images.
        weight: f32,
    },
    /// An image that hits should look like.
    Image {
        /// Its weight among the texts and images.
        weight: f32,
    },
    /// A text that hits should not fit.
    Minus,
}

impl Role {
    pub(super) fn is_text(self) -> bool {
        !matches!(self, Self::Image { .. })
    }
}

/// The scores of some rows with every part: for a text in standard deviations over neutral texts
/// ([`crate::index::calibration::ImageCalibration::normalise`]), for an image the cosine.
#[derive(Debug)]
pub(super) struct Swept {
    /// Block after block, the last one shorter. Shape of a block: `[parts, rows]`.
    pub(super) scores: Vec<f32>,
    /// For each part. Those of an image are of cosines below [`NEAR_DUPLICATE_COSINE`].
    pub(super) moments: Vec<Moments>,
}

/// Scores all rows. Integer sums over the high plane are near enough for the statistics of many rows; the best
/// are computed again from both planes (`ranking`).
pub(super) fn sweep(rows: &Rows<'_>, parts: &[Part<'_>], probes: &[Probe], collection: usize) -> Swept {
    let wide = padded(rows.centre.len());
    let mut scores = vec![0.0; rows.len() * parts.len()];
    let kernel = Kernel::fastest();
    let queries: Vec<&[i16]> = probes.iter().map(|probe| probe.steps.as_slice()).collect();
    let moments: Vec<Vec<Moments>> = scores
        .par_chunks_mut(BLOCK * parts.len().max(1))
        .enumerate()
        .map_init(
            || (vec![0; BLOCK * parts.len()], vec![0.0; rows.centre.len()]),
            |(sums, vector), (block, scores)| {
                let count = scores.len() / parts.len().max(1);
                let range = block * BLOCK..block * BLOCK + count;
                if collection <= ALL_EXACT {
                    exact_cosines(rows, range.start, parts, vector, scores);
                } else {
                    let high = rows.high.get(range.start * wide..range.end * wide).unwrap_or_default();
                    let sums = sums.get_mut(..scores.len()).unwrap_or_default();
                    kernel.sums(high, wide, &queries, sums);
                    let steps = rows.steps.get(range.clone()).unwrap_or_default();
                    for ((scores, sums), probe) in
                        scores.chunks_exact_mut(count).zip(sums.chunks_exact(count)).zip(probes)
                    {
                        near_cosines(scores, sums, steps, probe);
                    }
                }
                let means = rows.means.get(range.clone()).unwrap_or_default();
                let spreads = rows.spreads.get(range).unwrap_or_default();
                let of_part = scores.chunks_exact_mut(count).zip(parts);
                of_part.map(|(scores, part)| finish(scores, part.role, means, spreads)).collect()
            },
        )
        .collect();
    // Added up in the order of the rows, so that the same search gives the same answer.
    let total = |part| moments.iter().filter_map(|block| block.get(part)).copied().sum();
    Swept { scores, moments: (0..parts.len()).map(total).collect() }
}

/// Cosines from the sums over the high plane; a loop that the compiler turns into vector instructions.
fn near_cosines(cosines: &mut [f32], sums: &[i32], steps: &[f32], probe: &Probe) {
    let (centre, factor) = (probe.centre, probe.factor);
    for ((cosine, sum), step) in cosines.iter_mut().zip(sums).zip(steps) {
        *cosine = centre + factor * step * *sum as f32;
    }
}

fn exact_cosines(rows: &Rows<'_>, first: usize, parts: &[Part<'_>], vector: &mut [f32], cosines: &mut [f32]) {
    let count = cosines.len() / parts.len().max(1);
    for row in 0..count {
        rows.read(first + row, vector);
        for (index, part) in parts.iter().enumerate() {
            if let Some(cosine) = cosines.get_mut(index * count + row) {
                *cosine = dot(vector, part.vector);
            }
        }
    }
}

/// Turns cosines into scores and adds them up.
fn finish(scores: &mut [f32], role: Role, means: &[f32], spreads: &[f32]) -> Moments {
    if role.is_text() {
        for ((score, mean), spread) in scores.iter_mut().zip(means).zip(spreads) {
            *score = (*score - mean) / spread;
        }
        Moments::of(scores)
    } else {
        Moments::below(scores, NEAR_DUPLICATE_COSINE)
    }
}
