//! Distances between rows, from their high planes.

use rayon::prelude::*;

use super::walk::Scored;
use crate::index::vectors::fixed::padded;
use crate::index::vectors::kernel::Kernel;
use crate::index::vectors::rows::Rows;

/// The rows with what distances between them need.
pub(super) struct Space<'a> {
    rows: Rows<'a>,
    /// Numbers of a row with the zeros behind them.
    wide: usize,
    /// For each row half of its squared length.
    halves: Vec<f32>,
    kernel: Kernel,
}

impl<'a> Space<'a> {
    pub(super) fn new(rows: Rows<'a>) -> Self {
        let wide = padded(rows.centre.len());
        let half = |(high, step): (&[i8], &f32)| {
            let square: i64 = high.iter().map(|value| i64::from(*value) * i64::from(*value)).sum();
            (0.5 * square as f64 * f64::from(*step).powi(2) * 65_536.0) as f32
        };
        let halves = rows.high.par_chunks_exact(wide).zip(rows.steps).map(half).collect();
        Self { rows, wide, halves, kernel: Kernel::fastest() }
    }
}

/// A row from which distances are measured.
#[derive(Default)]
pub(super) struct From {
    row: u32,
    steps: Vec<i16>,
    sums: Vec<i32>,
}

impl From {
    pub(super) fn set(&mut self, space: &Space<'_>, row: u32) {
        let own = row as usize * space.wide..(row as usize + 1) * space.wide;
        self.row = row;
        self.steps.clear();
        self.steps.extend(space.rows.high.get(own).unwrap_or_default().iter().map(|value| i16::from(*value)));
    }

    /// Half of the squared distance to each row, below zero.
    pub(super) fn nearness(&mut self, space: &Space<'_>, rows: &[u32], nearness: &mut [f32]) {
        self.sums.clear();
        self.sums.resize(rows.len(), 0);
        space.kernel.sums_of(space.rows.high, space.wide, rows, &[&self.steps], &mut self.sums);
        let of = |numbers: &[f32], row: u32| numbers.get(row as usize).copied().unwrap_or_default();
        let (step, half) = (of(space.rows.steps, self.row) * 65_536.0, of(&space.halves, self.row));
        for ((slot, row), sum) in nearness.iter_mut().zip(rows).zip(&self.sums) {
            *slot = step * of(space.rows.steps, *row) * *sum as f32 - half - of(&space.halves, *row);
        }
    }
}

/// Rows by their scores, best first.
pub(super) fn ordered(rows: &[u32], scores: &[f32]) -> Vec<Scored> {
    let mut all: Vec<Scored> = rows.iter().zip(scores).map(|(at, score)| Scored { score: *score, at: *at }).collect();
    all.sort_unstable_by(|a, b| b.cmp(a));
    all
}
