//! A whole product: blocks of rows that stay in the second-level cache times panels of weights that stay in the first.

use rayon::prelude::*;

use super::rows::{Matrix, Rows};
use super::unit::{Kernel, Tile};
use super::weights::Weights;
use crate::compute::activation::{Activation, Block, finish_block};
use crate::compute::buffers::{Apart, Buffer};
use crate::compute::norm::Norm;

/// What happens to a product while it is in the cache.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Epilogue<'a> {
    /// Added to every row. Shape: `[outputs]`.
    pub(crate) bias: Option<&'a [f32]>,
    /// Applied after the bias.
    pub(crate) activation: Option<Activation>,
    /// Added then. Shape: `[rows, outputs]`.
    pub(crate) residual: Option<Matrix<'a>>,
    /// Applied last, as in a residual network.
    pub(crate) last: Option<Activation>,
}

/// Rows that are multiplied with a panel before the next panel: a block of them fits into the second-level cache.
const ROWS_PER_TASK: usize = 96;
/// Tasks that a thread should find, so that one that is held up does not keep the others waiting long.
const TASKS_PER_THREAD: usize = 16;

/// `out = x W^T`, finished. Shapes: `input` `[rows, inputs]`, `out` `[rows, outputs]`.
///
/// # Panics
/// In debug builds, when the shapes do not fit; the callers check them.
pub(crate) fn multiply(
    input: Matrix<'_>,
    norm: Option<&Norm<'_>>,
    weights: &Weights,
    epilogue: &Epilogue<'_>,
    out: &mut [f32],
) {
    let (rows, outputs) = (input.rows, weights.outputs);
    assert!(
        input.width == weights.inputs
            && out.len() >= rows * outputs
            && (rows == 0 || input.values.len() >= (rows - 1) * input.stride + input.width),
        "a product's shapes do not fit"
    );
    if rows == 0 || outputs == 0 {
        return;
    }
    let prepared = Rows::prepare(input, norm, weights);
    let product = Product { rows: &prepared, weights, epilogue, out: Apart::new(out), outputs };
    let cut = Cut::new(rows, weights, rayon::current_num_threads());
    (0..cut.row_tasks * cut.panel_tasks).into_par_iter().for_each(|task| {
        let (row_task, panel_task) = (task / cut.panel_tasks, task % cut.panel_tasks);
        let row_range = share(rows.div_ceil(cut.row_unit), cut.row_tasks, row_task);
        let (row, past) = (row_range.start * cut.row_unit, (row_range.end * cut.row_unit).min(rows));
        let panels = share(weights.padded() / weights.kernel.columns, cut.panel_tasks, panel_task);
        product.part(row..past, panels);
    });
}

/// How a product is cut into tasks.
struct Cut {
    /// Rows are cut at multiples of a tile's.
    row_unit: usize,
    row_tasks: usize,
    panel_tasks: usize,
}

impl Cut {
    fn new(rows: usize, weights: &Weights, threads: usize) -> Self {
        let row_unit = weights.kernel.rows();
        let row_tasks = rows.div_ceil(ROWS_PER_TASK);
        let panels = weights.padded() / weights.kernel.columns;
        let wanted = if threads > 1 { (threads * TASKS_PER_THREAD).div_ceil(row_tasks) } else { 1 };
        Self { row_unit, row_tasks: row_tasks.min(rows.div_ceil(row_unit)), panel_tasks: wanted.clamp(1, panels) }
    }
}

/// The `index`-th of `parts` about equal parts of `0..len`.
pub(super) fn share(len: usize, parts: usize, index: usize) -> std::ops::Range<usize> {
    len * index / parts..len * (index + 1) / parts
}

struct Product<'a> {
    rows: &'a Rows<'a>,
    weights: &'a Weights,
    epilogue: &'a Epilogue<'a>,
    /// Tasks write other rows or columns than every other.
    out: Apart,
    outputs: usize,
}

impl Product<'_> {
    /// Some rows times some panels.
    fn part(&self, rows: std::ops::Range<usize>, panels: std::ops::Range<usize>) {
        let (kernel, inputs, block) = (self.weights.kernel, self.weights.inputs, self.weights.block);
        let mut margin = Buffer::of::<f32>(kernel.rows() * kernel.columns);
        for (index, start) in (0..inputs.max(1)).step_by(block).enumerate() {
            let steps = block.min(inputs - start).div_ceil(kernel.group);
            for panel in panels.clone() {
                self.panel(rows.clone(), panel, index, start, steps, margin.slice_mut());
            }
        }
        self.finish(rows, panels.start * kernel.columns..(panels.end * kernel.columns).min(self.outputs));
    }

    /// One block of the depth of one panel.
    fn panel(
        &self,
        rows: std::ops::Range<usize>,
        panel: usize,
        block: usize,
        start: usize,
        steps: usize,
        margin: &mut [f32],
    ) {
        let (kernel, weights) = (self.weights.kernel, self.weights);
        let column = panel * kernel.columns;
        let whole = column + kernel.columns <= self.outputs;
        let at = panel * weights.panel_bytes() + start * kernel.columns * kernel.bytes();
        let b = weights.bytes()[at..].as_ptr();
        let scale = block * weights.padded() + column;
        let column_scales = weights.scales().get(scale..).map_or(std::ptr::null(), <[f32]>::as_ptr);
        let column_sums = weights.sums().get(scale..).map_or(std::ptr::null(), <[i32]>::as_ptr);
        // About equal tiles: one of few rows waits for its own sums most of the time.
        let tiles = rows.len().div_ceil(kernel.rows());
        let (next, ahead_step) = weights.ahead(at, steps, tiles);
        for tile in 0..tiles {
            let part = share(rows.len(), tiles, tile);
            let ahead = next.wrapping_add(tile * steps * ahead_step);
            let (row, count) = (rows.start + part.start, part.len());
            let (a, a_stride) = self.rows.at(row, start, kernel.bytes());
            let (row_scales, row_zeros) = self.rows.steps(block, row);
            // Inside of the product, whose size `multiply` has checked.
            let out = self.out.at(row * self.outputs + column);
            let (c, c_stride) = if whole { (out, self.outputs) } else { (margin.as_mut_ptr(), kernel.columns) };
            let first = !whole || start == 0;
            let tile = Tile {
                steps,
                a,
                a_stride,
                b,
                ahead,
                ahead_step,
                c,
                c_stride,
                first,
                row_scales,
                row_zeros,
                column_scales,
                column_sums,
            };
            // SAFETY: the kernel was chosen for this processor. The tile's rows, its panel of weights and its steps were cut to
            // what there is, and where the last panel is wider than the product, the sums go to the margin, which holds a tile.
            unsafe { tile_of(kernel, count)(&tile) };
            if !whole {
                let columns = self.outputs - column;
                for line in 0..count {
                    for (at, value) in margin[line * kernel.columns..][..columns].iter().enumerate() {
                        // SAFETY: as for `out`; the columns end with the product's.
                        let place = unsafe { &mut *out.add(line * self.outputs + at) };
                        *place = if start == 0 { *value } else { *place + *value };
                    }
                }
            }
        }
    }

    /// Bias, activation and residual of a part, while it is in the cache.
    fn finish(&self, rows: std::ops::Range<usize>, columns: std::ops::Range<usize>) {
        // SAFETY: the part lies inside of the product, and no other task has it.
        unsafe { finish_rows(self.epilogue, self.out.at(0), self.outputs, rows, columns) }
    }
}

/// The epilogue of some rows and columns of a product.
///
/// # Safety
/// They lie within the product of rows of `outputs` numbers at `out`, and nobody else touches them.
pub(crate) unsafe fn finish_rows(
    epilogue: &Epilogue<'_>,
    out: *mut f32,
    outputs: usize,
    rows: std::ops::Range<usize>,
    columns: std::ops::Range<usize>,
) {
    let Epilogue { bias, activation, residual, last } = epilogue;
    if bias.is_none() && activation.is_none() && residual.is_none() && last.is_none() {
        return;
    }
    let bias = bias.and_then(|bias| bias.get(columns.clone()));
    let residual = residual.map(|residual| {
        let at = rows.start * residual.stride + columns.start;
        (residual.values.get(at..).unwrap_or_default(), residual.stride)
    });
    // SAFETY: as the caller vouches.
    let mut block =
        unsafe { Block::new(out.add(rows.start * outputs + columns.start), outputs, rows.len(), columns.len()) };
    finish_block(&mut block, bias, *activation, residual, *last);
}

/// The function for this many rows.
pub(super) fn tile_of(kernel: &Kernel, rows: usize) -> super::unit::Multiply {
    kernel.tiles[rows - 1]
}
