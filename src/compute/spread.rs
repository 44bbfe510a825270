//! An image with its padding, so laid out that what a tap of a kernel sees of a line of the output are rows at equal distances.

use rayon::prelude::*;

use super::conv::ConvShape;
use super::product::{Lines, Matrix};

/// How an image is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taps {
    /// A line of the kernel is one tap: its pixels are neighbours, and so are their channels. A row begins `stride` pixels after
    /// the one before, and overlaps it. Maps that take turns have no neighbours: their rows are gathered.
    Lines,
    /// Each pixel of the kernel is a tap, and rows do not overlap, so that each can have a scale of its own. With a stride, every
    /// second pixel (or third) goes into an image of its own.
    Pixels,
}

/// The layout for one size of the input.
pub(super) struct Spread {
    shape: ConvShape,
    taps: Taps,
    /// From a pixel to its right neighbour.
    across: usize,
    /// Of the input.
    height: usize,
    columns: usize,
    /// Of the output.
    lines: usize,
    width: usize,
    /// Images along each side.
    phases: usize,
    /// Lines and pixels in a line of each.
    column: usize,
    row: usize,
}

impl Spread {
    /// With `across` above 1 the stride is 1.
    pub(super) fn new(shape: ConvShape, taps: Taps, (height, columns): (usize, usize), across: usize) -> Self {
        let (lines, width) = (shape.output(height), shape.output(columns / across) * across);
        let reach = shape.dilation * (shape.kernel - 1);
        let (phases, column, row) = match taps {
            Taps::Lines => {
                let column = (lines - 1) * shape.stride + shape.kernel;
                // From one line of the output to the next there are whole rows.
                let overlapping = ((width - 1) * shape.stride + shape.kernel).next_multiple_of(shape.stride);
                (1, column, if across > 1 { width } else { overlapping })
            }
            Taps::Pixels => {
                let more = reach / shape.stride;
                (shape.stride.min(reach + 1), lines + more, width + more * across)
            }
        };
        Self { shape, taps, across, height, columns, lines, width, phases, column, row }
    }

    /// Whether rows are gathered, each with all that a line of the kernel sees.
    fn is_gathered(&self) -> bool {
        self.taps == Taps::Lines && self.across > 1
    }

    /// Numbers that a line of the layout has for each of [`Spread::row`].
    fn depth(&self) -> usize {
        self.shape.inputs * if self.is_gathered() { self.shape.kernel } else { 1 }
    }

    /// Numbers in all.
    pub(super) fn len(&self) -> usize {
        self.phases * self.phases * self.column * self.row * self.depth()
    }

    /// Whether the image lies as it should already.
    pub(super) fn is_given(&self) -> bool {
        self.taps == Taps::Lines && self.across == 1 && self.shape.padding == 0 && self.row == self.columns
    }

    /// What the taps see: `numbers` as [`Spread::fill`] leaves them.
    pub(super) fn matrix<'a>(&self, numbers: &'a [f32]) -> Matrix<'a> {
        let inputs = self.shape.inputs;
        match self.taps {
            Taps::Pixels => Matrix::new(numbers, inputs),
            Taps::Lines if self.is_gathered() => Matrix::new(numbers, self.depth()),
            Taps::Lines => {
                let (width, stride) = (self.shape.kernel * inputs, self.shape.stride * inputs);
                Matrix { values: numbers, rows: (numbers.len() - width) / stride + 1, width, stride }
            }
        }
    }

    /// Where the output's pixels lie in the matrix.
    pub(super) fn lines(&self) -> Lines {
        // Of pixels with the taps' own distance; of lines, as many rows as a step of `stride` lines has.
        Lines { height: self.lines, width: self.width, stride: self.row }
    }

    /// The row that a tap sees for the first pixel of the output.
    pub(super) fn first(&self, tap: usize) -> usize {
        let ConvShape { kernel, stride, dilation, .. } = self.shape;
        match self.taps {
            Taps::Lines => tap * self.row / stride,
            Taps::Pixels => {
                let (y, x) = (tap / kernel * dilation, tap % kernel * dilation * self.across);
                let image = y % stride * self.phases + x % stride;
                (image * self.column + y / stride) * self.row + x / stride
            }
        }
    }

    /// Shapes: `input` `[height, columns, inputs]` -> `numbers` `[len]`.
    pub(super) fn fill(&self, input: &[f32], numbers: &mut [f32]) {
        let ConvShape { inputs: channels, stride, padding, .. } = self.shape;
        let step = if self.taps == Taps::Lines { 1 } else { stride };
        numbers.par_chunks_mut((self.row * self.depth()).max(1)).enumerate().for_each(|(index, line)| {
            let (image, at) = (index / self.column, index % self.column);
            let (py, px) = (image / self.phases, image % self.phases);
            let source = (at * step + py).checked_sub(padding).filter(|y| *y < self.height);
            let source = source.and_then(|y| input.get(y * self.columns * channels..(y + 1) * self.columns * channels));
            let Some(source) = source else { return line.fill(0.0) };
            if self.is_gathered() {
                return self.gather(source, line);
            }
            if step == 1 {
                let (left, rest) = line.split_at_mut((padding * self.across * channels).min(line.len()));
                let (inner, right) = rest.split_at_mut(source.len().min(rest.len()));
                left.fill(0.0);
                inner.copy_from_slice(source.get(..inner.len()).unwrap_or_default());
                right.fill(0.0);
                return;
            }
            for (x, pixel) in line.chunks_exact_mut(channels.max(1)).enumerate() {
                put(source, (x * step + px).checked_sub(padding), pixel);
            }
        });
    }

    /// Shapes: `source` `[columns, inputs]` -> `line` `[row, kernel, inputs]`.
    fn gather(&self, source: &[f32], line: &mut [f32]) {
        let ConvShape { inputs: channels, padding, .. } = self.shape;
        for (at, row) in line.chunks_exact_mut(self.depth().max(1)).enumerate() {
            for (dx, pixel) in row.chunks_exact_mut(channels.max(1)).enumerate() {
                put(source, (at + dx * self.across).checked_sub(padding * self.across), pixel);
            }
        }
    }
}

/// A pixel of a line; zeros outside of it. Shapes: `source` `[columns, channels]`, `pixel` `[channels]`.
fn put(source: &[f32], from: Option<usize>, pixel: &mut [f32]) {
    match from.and_then(|x| source.get(x * pixel.len()..(x + 1) * pixel.len())) {
        Some(source) => pixel.copy_from_slice(source),
        None => pixel.fill(0.0),
    }
}
