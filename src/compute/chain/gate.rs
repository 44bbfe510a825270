//! A gated layer's end: one half of each row lets the other through.

use candle_core::{D, Tensor};
use rayon::prelude::*;

use super::{Buffer, Data, Pending, State, is_cpu};

/// The sigmoid-weighted first half of each row times the second. Shape: `[.., 2 * width]` -> `[.., width]`.
pub(super) fn gated(state: State<'_>) -> candle_core::Result<State<'_>> {
    let state = state.settle()?;
    let width = state.width() / 2;
    if width == 0 || state.width() != 2 * width {
        candle_core::bail!("a gate takes two halves, not {} numbers", state.width());
    }
    let mut dims = state.dims.clone();
    if let Some(last) = dims.last_mut() {
        *last = width;
    }
    let data = match &state.data {
        Data::Tensor(x) if !is_cpu(x) => Data::Tensor(halves(x, width)?),
        data => {
            let mut out = Buffer::of::<f32>(dims.iter().product());
            data.read(|values| {
                let (rows, outs) = (values.par_chunks(2 * width), out.slice_mut::<f32>().par_chunks_mut(width));
                rows.take(state.len() / (2 * width)).zip(outs).for_each(|(row, out)| {
                    let (gate, up) = row.split_at(width.min(row.len()));
                    out.iter_mut().zip(gate).zip(up).for_each(|((out, x), up)| *out = x / (1.0 + (-x).exp()) * up);
                });
            })?;
            Data::Buffer(out)
        }
    };
    Ok(State { data, dims, pending: Pending::default() })
}

fn halves(x: &Tensor, width: usize) -> candle_core::Result<Tensor> {
    let (gate, up) = (x.narrow(D::Minus1, 0, width)?, x.narrow(D::Minus1, width, width)?);
    candle_nn::ops::silu(&gate.contiguous()?)? * up
}
