//! A convolution as a sum of products, one for each tap of its kernel: pixels are rows, channels side by side, and what a tap
//! sees of a line of output pixels is a run of rows. Nothing is laid out several times.

use rayon::prelude::*;

use super::drive::{Epilogue, finish_rows, share, tile_of};
use super::rows::{Matrix, Rows};
use super::unit::Tile;
use super::weights::Weights;
use crate::compute::buffers::{Apart, Buffer};

/// One tap of a kernel.
#[derive(Debug)]
pub(crate) struct Tap<'a> {
    /// Shape: `[outputs, channels]`.
    pub(crate) weights: &'a Weights,
    /// The input's row that the first output pixel sees.
    pub(crate) first: usize,
}

/// Where the output's pixels lie in the input.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lines {
    /// Lines of the output.
    pub(crate) height: usize,
    /// Pixels of a line.
    pub(crate) width: usize,
    /// Rows of the input from one line of the output to the next.
    pub(crate) stride: usize,
}

/// Pixels that are multiplied with a panel before the next panel.
const PIXELS_PER_TASK: usize = 96;
/// Tasks that a thread should find.
const TASKS_PER_THREAD: usize = 16;

/// The sum over all taps, finished. Shapes: `input` `[rows, channels]`, `out` `[height * width, outputs]`, the epilogue's residual
/// as `out`. All taps have weights of one shape and kernel.
///
/// # Panics
/// When the shapes do not fit.
pub(crate) fn convolve(input: Matrix<'_>, taps: &[Tap<'_>], lines: Lines, epilogue: &Epilogue<'_>, out: &mut [f32]) {
    let Some(weights) = taps.first().map(|tap| tap.weights) else { return };
    let (outputs, pixels) = (weights.outputs, lines.height * lines.width);
    if pixels == 0 || outputs == 0 {
        return;
    }
    let reach = (lines.height - 1) * lines.stride + lines.width;
    let alike = |of: &Weights| of.outputs == outputs && of.inputs == input.width && of.block == weights.block;
    assert!(
        out.len() >= pixels * outputs
            && taps.iter().all(|tap| tap.first + reach <= input.rows && alike(tap.weights))
            && input.values.len() >= (input.rows - 1) * input.stride + input.width,
        "a convolution's shapes do not fit"
    );
    let rows = Rows::prepare(input, None, weights);
    let sum = Sum { rows: &rows, taps, lines, epilogue, out: Apart::new(out), outputs };
    // A wide line is cut, several narrow ones go together.
    let cuts = lines.width.div_ceil(PIXELS_PER_TASK);
    let together = (PIXELS_PER_TASK / lines.width).clamp(1, lines.height);
    let line_tasks = lines.height.div_ceil(together);
    let panels = weights.padded() / weights.kernel.columns;
    let threads = rayon::current_num_threads();
    let wanted = if threads > 1 { (threads * TASKS_PER_THREAD).div_ceil(line_tasks * cuts) } else { 1 };
    let panel_tasks = wanted.clamp(1, panels);
    (0..line_tasks * cuts * panel_tasks).into_par_iter().for_each(|task| {
        let (place, panel_task) = (task / panel_tasks, task % panel_tasks);
        let (line_task, cut) = (place / cuts, place % cuts);
        sum.part(
            share(lines.height, line_tasks, line_task),
            share(lines.width, cuts, cut),
            share(panels, panel_tasks, panel_task),
        );
    });
}

struct Sum<'a> {
    rows: &'a Rows<'a>,
    taps: &'a [Tap<'a>],
    lines: Lines,
    epilogue: &'a Epilogue<'a>,
    /// Tasks write other pixels or columns than every other.
    out: Apart,
    outputs: usize,
}

/// Some pixels of a line, over one block of one tap's channels.
struct Run<'a> {
    weights: &'a Weights,
    panel: usize,
    block: usize,
    /// In the channels.
    start: usize,
    steps: usize,
    /// Of the input.
    row: usize,
    /// Of the output.
    pixel: usize,
    count: usize,
    /// Sums are set; otherwise they are added to.
    first: bool,
}

impl Sum<'_> {
    /// Some pixels of some lines times some panels.
    fn part(&self, lines: std::ops::Range<usize>, pixels: std::ops::Range<usize>, panels: std::ops::Range<usize>) {
        let Some(kernel) = self.taps.first().map(|tap| tap.weights.kernel) else { return };
        let mut margin = Buffer::of::<f32>(kernel.rows() * kernel.columns);
        for (index, tap) in self.taps.iter().enumerate() {
            let weights = tap.weights;
            for (block, start) in (0..weights.inputs.max(1)).step_by(weights.block).enumerate() {
                let steps = weights.block.min(weights.inputs - start).div_ceil(kernel.group);
                for panel in panels.clone() {
                    for line in lines.clone() {
                        let row = tap.first + line * self.lines.stride + pixels.start;
                        let pixel = line * self.lines.width + pixels.start;
                        let (count, first) = (pixels.len(), index == 0 && block == 0);
                        let run = Run { weights, panel, block, start, steps, row, pixel, count, first };
                        self.run(&run, margin.slice_mut());
                    }
                }
            }
        }
        let columns = panels.start * kernel.columns..(panels.end * kernel.columns).min(self.outputs);
        for line in lines {
            let own = line * self.lines.width + pixels.start..line * self.lines.width + pixels.end;
            // SAFETY: the pixels and columns lie inside of the output, and no other task has them.
            unsafe { finish_rows(self.epilogue, self.out.at(0), self.outputs, own, columns.clone()) };
        }
    }

    fn run(&self, run: &Run<'_>, margin: &mut [f32]) {
        let (weights, kernel) = (run.weights, run.weights.kernel);
        let column = run.panel * kernel.columns;
        let whole = column + kernel.columns <= self.outputs;
        let at = run.panel * weights.panel_bytes() + run.start * kernel.columns * kernel.bytes();
        let b = weights.bytes()[at..].as_ptr();
        let scale = run.block * weights.padded() + column;
        let column_scales = weights.scales().get(scale..).map_or(std::ptr::null(), <[f32]>::as_ptr);
        let column_sums = weights.sums().get(scale..).map_or(std::ptr::null(), <[i32]>::as_ptr);
        let tiles = run.count.div_ceil(kernel.rows());
        let (next, ahead_step) = weights.ahead(at, run.steps, tiles);
        for tile in 0..tiles {
            let part = share(run.count, tiles, tile);
            let (row, count) = (run.row + part.start, part.len());
            let (a, a_stride) = self.rows.at(row, run.start, kernel.bytes());
            let (row_scales, row_zeros) = self.rows.steps(run.block, row);
            // Inside of the output, whose size `convolve` has checked.
            let out = self.out.at((run.pixel + part.start) * self.outputs + column);
            let (c, c_stride) = if whole { (out, self.outputs) } else { (margin.as_mut_ptr(), kernel.columns) };
            let first = !whole || run.first;
            let steps = run.steps;
            let ahead = next.wrapping_add(tile * steps * ahead_step);
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
            // what there is, and where the last panel is wider than the output, the sums go to the margin, which holds a tile.
            unsafe { tile_of(kernel, count)(&tile) };
            if !whole {
                let columns = self.outputs - column;
                for line in 0..count {
                    for (at, value) in margin[line * kernel.columns..][..columns].iter().enumerate() {
                        // SAFETY: as for `out`; the columns end with the output's.
                        let place = unsafe { &mut *out.add(line * self.outputs + at) };
                        *place = if run.first { *value } else { *place + *value };
                    }
                }
            }
        }
    }
}
