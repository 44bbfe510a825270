//! Products of two matrices that both change: 32-bit floats, the right side packed on the way, on one thread.

use super::drive::tile_of;
use super::rows::Matrix;
use super::unit::{Kernel, Tile};
use crate::compute::buffers::Buffer;

/// The right side of a product, packed: `depth` x `columns`.
pub(crate) struct Panels {
    kernel: &'static Kernel,
    values: Buffer,
    depth: usize,
    columns: usize,
}

/// Of the depth, what is transposed at a time.
const STRIP: usize = 16;

impl Panels {
    /// Each row of the matrix is a column of the right side: `x m^T`. Shape: `m` `[columns, depth]`. The kernel is one of
    /// 32-bit floats, as everywhere here.
    pub(crate) fn of_rows(kernel: &'static Kernel, m: Matrix<'_>) -> Self {
        let (width, depth) = (kernel.columns, m.width);
        let mut panels = Self::empty(kernel, depth, m.rows);
        for (index, panel) in panels.values.slice_mut::<f32>().chunks_mut((width * depth).max(1)).enumerate() {
            let count = width.min(m.rows.saturating_sub(index * width));
            if count == 0 {
                break;
            }
            // A few of the depth at a time, so that what is written stays near.
            for (line, start) in panel.chunks_mut(width * STRIP).zip((0..depth).step_by(STRIP)) {
                for column in 0..count {
                    let values = m.row(index * width + column).get(start..).unwrap_or_default();
                    for (place, value) in line.chunks_exact_mut(width).zip(values) {
                        place[column] = *value;
                    }
                }
                if count < width {
                    line.chunks_exact_mut(width).for_each(|place| place[count..].fill(0.0));
                }
            }
        }
        panels
    }

    /// The matrix is the right side: `x m`. Shape: `m` `[depth, columns]`.
    pub(crate) fn of_columns(kernel: &'static Kernel, m: Matrix<'_>) -> Self {
        let (width, depth) = (kernel.columns, m.rows);
        let mut panels = Self::empty(kernel, depth, m.width);
        let whole = m.width.div_ceil(width);
        for (index, panel) in
            panels.values.slice_mut::<f32>().chunks_mut((width * depth).max(1)).take(whole).enumerate()
        {
            for (at, line) in panel.chunks_mut(width).enumerate() {
                let values = m.row(at).get(index * width..).unwrap_or_default();
                let count = values.len().min(width);
                let (filled, rest) = line.split_at_mut(count.min(line.len()));
                filled.copy_from_slice(&values[..filled.len()]);
                rest.fill(0.0);
            }
        }
        panels
    }

    fn empty(kernel: &'static Kernel, depth: usize, columns: usize) -> Self {
        let values = Buffer::of::<f32>(columns.next_multiple_of(kernel.columns) * depth);
        Self { kernel, values, depth, columns }
    }

    /// Columns, filled up to whole panels.
    pub(crate) fn padded(&self) -> usize {
        self.columns.next_multiple_of(self.kernel.columns)
    }

    /// The first columns of the product: exactly these are written. Shapes: `x` `[rows, depth or less]`, `out`
    /// `[rows, out_stride]`.
    ///
    /// # Panics
    /// When the shapes do not fit.
    pub(crate) fn multiply(&self, x: Matrix<'_>, columns: usize, out: &mut [f32], out_stride: usize) {
        /// Bytes of the left side that stay in the second-level cache.
        const CACHED: usize = 192 << 10;
        assert!(
            columns <= self.columns
                && x.width <= self.depth
                && out_stride >= columns
                && (x.rows == 0
                    || x.values.len() >= (x.rows - 1) * x.stride + x.width
                        && out.len() >= (x.rows - 1) * out_stride + columns),
            "a product's shapes do not fit"
        );
        let block = self.kernel.block_of(x.width);
        let panels = columns.div_ceil(self.kernel.columns);
        let tiles = x.rows.div_ceil(self.kernel.rows());
        let mut margin = Buffer::of::<f32>(self.kernel.rows() * self.kernel.columns);
        for start in (0..x.width).step_by(block) {
            let steps = block.min(x.width - start);
            let mut tile = |index: usize, panel: usize| {
                let at = At { row: index * self.kernel.rows(), panel, start, steps, columns };
                // SAFETY: rows and columns are within `x`, `columns` and `out`, as the assertion says.
                unsafe { self.tile(&x, &at, out.as_mut_ptr(), out_stride, margin.slice_mut()) }
            };
            if x.rows * steps * size_of::<f32>() <= CACHED {
                (0..panels).for_each(|panel| (0..tiles).for_each(|index| tile(index, panel)));
            } else {
                (0..tiles).for_each(|index| (0..panels).for_each(|panel| tile(index, panel)));
            }
        }
    }

    /// One tile over one block of the depth.
    ///
    /// # Safety
    /// The tile's rows and columns lie within `x`, the panels, and rows of `out_stride` numbers at `out`.
    unsafe fn tile(&self, x: &Matrix<'_>, at: &At, out: *mut f32, out_stride: usize, margin: &mut [f32]) {
        let width = self.kernel.columns;
        let rows = self.kernel.rows().min(x.rows - at.row);
        let columns = width.min(at.columns - at.panel * width);
        let out = out.wrapping_add(at.row * out_stride + at.panel * width);
        let whole = columns == width;
        let (c, c_stride) = if whole { (out, out_stride) } else { (margin.as_mut_ptr(), width) };
        let tile = Tile {
            steps: at.steps,
            a: x.values[at.row * x.stride + at.start..].as_ptr().cast(),
            a_stride: x.stride * size_of::<f32>(),
            b: self.values.slice::<f32>()[(at.panel * self.depth + at.start) * width..].as_ptr().cast(),
            ahead: std::ptr::null(),
            ahead_step: 0,
            c,
            c_stride,
            first: at.start == 0 || !whole,
            row_scales: std::ptr::null(),
            row_zeros: std::ptr::null(),
            column_scales: std::ptr::null(),
            column_sums: std::ptr::null(),
        };
        // SAFETY: the kernel was chosen for this processor; rows, steps and panel are within `x` and the panels, and the sums go
        // where the caller vouches for a whole panel, else to the margin, which holds a tile.
        unsafe { tile_of(self.kernel, rows)(&tile) };
        if !whole {
            for row in 0..rows {
                for (column, value) in margin[row * width..][..columns].iter().enumerate() {
                    // SAFETY: within the columns that the caller vouches for.
                    let place = unsafe { &mut *out.wrapping_add(row * out_stride + column) };
                    *place = if at.start == 0 { *value } else { *place + *value };
                }
            }
        }
    }
}

/// A tile's place.
struct At {
    row: usize,
    panel: usize,
    /// In the depth.
    start: usize,
    steps: usize,
    /// Of the whole product.
    columns: usize,
}
