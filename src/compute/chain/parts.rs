//! The queries, keys and values that an attention is given: columns of what chains have come to.

use candle_core::{D, DType, Tensor};

use super::rows::rows_of;
use super::{Data, Pending, State, is_cpu};
use crate::compute::attention::{CpuMask, Mask, Projections, Sequences, attend, attend_anywhere};
use crate::compute::buffers::Buffer;
use crate::compute::product::Matrix;
use crate::compute::with_values;

/// Some columns of a batch.
pub(super) struct Part<'a> {
    pub(super) state: &'a State<'a>,
    pub(super) start: usize,
    pub(super) width: usize,
    pub(super) len: usize,
}

impl Part<'_> {
    /// Row `rows[i]` of sequence `i`. Shape: -> `[batch, 1, width]`.
    pub(super) fn rows(&self, rows: &[usize]) -> candle_core::Result<State<'static>> {
        let (batch, len, stride) = (self.batch(), self.len, self.state.width());
        if rows.len() != batch || rows.iter().any(|row| *row >= len) {
            candle_core::bail!("{} rows of {batch} sequences of {len}", rows.len());
        }
        let data = match &self.state.data {
            // Of whole rows, which lie side by side.
            Data::Tensor(x) if !is_cpu(x) => {
                Data::Tensor(rows_of(x, rows)?.narrow(D::Minus1, self.start, self.width)?)
            }
            data => data.read(|values| {
                let mut out = Buffer::of::<f32>(batch * self.width);
                let places = out.slice_mut::<f32>().chunks_mut(self.width);
                for ((sequence, row), place) in rows.iter().enumerate().zip(places) {
                    let start = (sequence * len + row) * stride + self.start;
                    place.copy_from_slice(values.get(start..start + self.width).unwrap_or_default());
                }
                Data::Buffer(out)
            })?,
        };
        let pending = Pending { bias: self.bias()?, ..Pending::default() };
        Ok(State { data, dims: vec![batch, 1, self.width], pending })
    }

    /// What is still to be added.
    fn bias(&self) -> candle_core::Result<Option<Tensor>> {
        self.state.pending.bias.as_ref().map(|bias| bias.narrow(0, self.start, self.width)).transpose()
    }

    fn batch(&self) -> usize {
        self.state.dims.first().copied().unwrap_or(0)
    }

    fn tensor(&self) -> candle_core::Result<Tensor> {
        match &self.state.data {
            Data::Tensor(x) => x.narrow(D::Minus1, self.start, self.width),
            Data::Buffer(_) => candle_core::bail!("projections lie on different devices"),
        }
    }

    /// The rows within the batch's numbers.
    fn sequences<'v>(&self, values: &'v [f32]) -> Sequences<'v> {
        let (rows, stride) = (self.batch() * self.len, self.state.width());
        let values = values.get(self.start..).unwrap_or_default();
        Sequences { rows: Matrix { values, rows, width: self.width, stride }, len: self.len }
    }

    fn is_cpu(&self) -> bool {
        match &self.state.data {
            Data::Tensor(x) => is_cpu(x),
            Data::Buffer(_) => true,
        }
    }
}

/// Attention over parts of what chains have come to. Shapes: `[batch or 1, queries, hidden]`, `[batch, keys, hidden]` twice ->
/// `[batch, queries, hidden]`.
pub(super) fn attention<'a>(
    q: &Part<'_>,
    k: &Part<'_>,
    v: &Part<'_>,
    heads: usize,
    mask: Mask<'_>,
) -> candle_core::Result<State<'a>> {
    let (batch, hidden) = (k.batch(), q.width);
    let fits = heads > 0 && hidden % heads == 0 && k.width == hidden && v.width == hidden;
    if !fits || v.batch() != batch || v.len != k.len || (q.batch() != batch && q.batch() != 1) {
        candle_core::bail!(
            "an attention of {heads} heads over queries {:?}, keys {:?} and values {:?}",
            (q.batch(), q.len, q.width),
            (batch, k.len, k.width),
            (v.batch(), v.len, v.width)
        );
    }
    if let Mask::Bias(bias) = mask {
        let one = q.len * k.len;
        if bias.elem_count() != one && bias.elem_count() != one * batch {
            candle_core::bail!("a mask of {:?} for {} queries and {} keys", bias.dims(), q.len, k.len);
        }
    }
    let dims = vec![batch, q.len, hidden];
    if !(q.is_cpu() && k.is_cpu() && v.is_cpu()) {
        let tensors = (q.tensor()?, k.tensor()?, v.tensor()?);
        let biases = (q.bias()?, k.bias()?, v.bias()?);
        let parts = [(&tensors.0, biases.0.as_ref()), (&tensors.1, biases.1.as_ref()), (&tensors.2, biases.2.as_ref())];
        let out = attend_anywhere(parts, heads, &mask)?;
        return Ok(State { data: Data::Tensor(out), dims, pending: Pending::default() });
    }
    let mut out = Buffer::of::<f32>(batch * q.len * hidden);
    let mut run = |mask: &CpuMask<'_>| -> candle_core::Result<()> {
        q.state.data.read(|q_values| {
            k.state.data.read(|k_values| {
                v.state.data.read(|v_values| {
                    let (q, k, v) = (q.sequences(q_values), k.sequences(k_values), v.sequences(v_values));
                    attend(&Projections { q, k, v, heads }, mask, out.slice_mut());
                })
            })?
        })?
    };
    match mask {
        Mask::Full => run(&CpuMask::Full),
        Mask::Causal => run(&CpuMask::Causal),
        Mask::Keys(lengths) => run(&CpuMask::Keys(lengths)),
        Mask::Bias(bias) => {
            let bias = bias.to_dtype(DType::F32)?.contiguous()?;
            with_values(&bias, |bias| run(&CpuMask::Bias(bias)))?
        }
    }?;
    Ok(State { data: Data::Buffer(out), dims, pending: Pending::default() })
}
