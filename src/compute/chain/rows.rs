//! Single rows of the sequences of a batch.

use candle_core::Tensor;

use crate::error::{Error, Result};

/// Row `rows[i]` of sequence `i`. Shapes: `[batch, len, width]` -> `[batch, 1, width]`.
///
/// # Errors
/// There are fewer rows.
pub fn select_rows(x: &Tensor, rows: &[usize]) -> Result<Tensor> {
    rows_of(x, rows).map_err(Error::tensor("selected rows"))
}

/// As [`select_rows`].
pub(super) fn rows_of(x: &Tensor, rows: &[usize]) -> candle_core::Result<Tensor> {
    let (batch, len, width) = x.dims3()?;
    let flat: Vec<u32> = rows.iter().enumerate().map(|(sequence, row)| (sequence * len + row) as u32).collect();
    x.reshape((batch * len, width))?.index_select(&Tensor::new(flat, x.device())?, 0)?.reshape((batch, 1, width))
}
