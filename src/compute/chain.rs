//! Layers one after the other, from a tensor to a tensor.
//!
//! Models write their forward pass as a chain; on a CPU what lies between its ends never becomes a tensor: it stays in
//! working memory that every layer uses again, a normalisation is done while the next layer's input is packed, and bias,
//! activation and residual while a product is in the cache. Elsewhere the same chain is candle's operations, one by one.
//!
//! ```text
//! let attended = chain(x).norm(&self.layer_norm1).linear(&self.qkv).self_attention(heads, Mask::Full, None)
//!     .linear(&self.out_proj).plus(x).run()?;
//! ```

use candle_core::{D, DType, Tensor};

use super::activation::Activation;
use super::attention::{CpuMask, Mask, Projections, Sequences, attend, attend_anywhere};
use super::buffers::Buffer;
use super::layers::{LayerNorm, Linear};
use super::product::Matrix;
use super::with_values;
use crate::error::{Error, Result};

/// Begins a chain. Shape: `[.., width]`.
pub fn chain(x: &Tensor) -> Chain<'_> {
    let state =
        x.contiguous().map(|x| State { dims: x.dims().to_vec(), data: Data::Tensor(x), pending: Pending::default() });
    Chain { state }
}

/// What a chain has come to; errors wait for its end.
#[must_use = "a chain computes nothing before `run`"]
pub struct Chain<'a> {
    state: candle_core::Result<State<'a>>,
}

struct State<'a> {
    data: Data,
    dims: Vec<usize>,
    pending: Pending<'a>,
}

enum Data {
    /// One end of the chain, or all of it where no CPU computes.
    Tensor(Tensor),
    /// Between the ends.
    Buffer(Buffer),
}

/// What waits for the layers after it.
#[derive(Default)]
struct Pending<'a> {
    norm: Option<&'a LayerNorm>,
    linear: Option<&'a Linear>,
    activation: Option<Activation>,
    residual: Option<Tensor>,
}

impl<'a> Chain<'a> {
    fn then(self, step: impl FnOnce(State<'a>) -> candle_core::Result<State<'a>>) -> Self {
        Self { state: self.state.and_then(step) }
    }

    /// A layer normalisation. Shape: unchanged.
    pub fn norm(self, norm: &'a LayerNorm) -> Self {
        self.then(|state| {
            let mut state = state.settle()?;
            state.pending.norm = Some(norm);
            Ok(state)
        })
    }

    /// A linear layer. Shape: `[.., inputs]` -> `[.., outputs]`.
    pub fn linear(self, linear: &'a Linear) -> Self {
        self.then(|state| {
            let mut state = if state.pending.linear.is_some() { state.settle()? } else { state };
            state.pending.linear = Some(linear);
            Ok(state)
        })
    }

    /// The function of each number; follows a linear layer. Shape: unchanged.
    pub fn activation(self, activation: Activation) -> Self {
        self.then(|mut state| {
            if state.pending.linear.is_none() || state.pending.activation.is_some() || state.pending.residual.is_some()
            {
                candle_core::bail!("an activation in a chain follows a linear layer");
            }
            state.pending.activation = Some(activation);
            Ok(state)
        })
    }

    /// Adds a tensor of the same shape; follows a linear layer.
    pub fn plus(self, residual: &Tensor) -> Self {
        self.then(|mut state| {
            if state.pending.linear.is_none() || state.pending.residual.is_some() {
                candle_core::bail!("a residual in a chain follows a linear layer");
            }
            state.pending.residual = Some(residual.contiguous()?);
            Ok(state)
        })
    }

    /// Attention of a sequence that looks at itself. Shape: `[batch, len, 3 * hidden]`, queries (scaled by `1 / sqrt(head
    /// size)`), keys and values side by side -> `[batch, len, hidden]`; `heads` divides `hidden`. With `wanted`, only the
    /// position `wanted[i]` of sequence `i` looks around: -> `[batch, 1, hidden]`.
    ///
    /// Source: Vaswani et al. 2017, section 3.2.
    pub fn self_attention(self, heads: usize, mask: Mask<'_>, wanted: Option<&[usize]>) -> Self {
        self.then(|state| {
            let state = state.settle()?;
            let hidden = state.width() / 3;
            let (q, k, v) = (state.part(0, hidden)?, state.part(hidden, hidden)?, state.part(2 * hidden, hidden)?);
            let Some(wanted) = wanted else { return attention(&q, &k, &v, heads, mask) };
            let q = q.rows(wanted)?;
            // A single position sees what lies before it, as a sequence of that length.
            let lengths: Vec<usize> = wanted.iter().map(|position| position + 1).collect();
            let mask = match mask {
                Mask::Causal => Mask::Keys(&lengths),
                Mask::Bias(_) => candle_core::bail!("some positions only, under a mask of numbers"),
                other => other,
            };
            attention(&q.part(0, hidden)?, &k, &v, heads, mask)
        })
    }

    /// As [`Chain::self_attention`], for queries that the chain has come to.
    ///
    /// Shapes: `[batch or 1, queries, hidden]`, keys and values `[batch, keys, 2 * hidden]` -> `[batch, queries, hidden]`.
    pub fn attend_to(self, keys_and_values: Chain<'_>, heads: usize, mask: Mask<'_>) -> Self {
        self.then(|state| {
            let (q, kv) = (state.settle()?, keys_and_values.state?.settle()?);
            let hidden = q.width();
            attention(&q.part(0, hidden)?, &kv.part(0, hidden)?, &kv.part(hidden, hidden)?, heads, mask)
        })
    }

    /// As [`Chain::attend_to`], for keys and values that come from different chains. Shapes: `[batch, keys, hidden]` each.
    pub fn attend_to_both(self, keys: Chain<'_>, values: Chain<'_>, heads: usize, mask: Mask<'_>) -> Self {
        self.then(|state| {
            let (q, k, v) = (state.settle()?, keys.state?.settle()?, values.state?.settle()?);
            let hidden = q.width();
            attention(&q.part(0, hidden)?, &k.part(0, hidden)?, &v.part(0, hidden)?, heads, mask)
        })
    }

    /// The tensor at the end.
    ///
    /// # Errors
    /// A shape did not fit, or the device failed, anywhere along the chain.
    pub fn run(self) -> Result<Tensor> {
        self.state.and_then(State::into_tensor).map_err(Error::tensor("layers"))
    }
}

/// Row `rows[i]` of sequence `i`. Shapes: `[batch, len, width]` -> `[batch, 1, width]`.
///
/// # Errors
/// There are fewer rows.
pub fn select_rows(x: &Tensor, rows: &[usize]) -> Result<Tensor> {
    rows_of(x, rows).map_err(Error::tensor("selected rows"))
}

fn rows_of(x: &Tensor, rows: &[usize]) -> candle_core::Result<Tensor> {
    let (batch, len, width) = x.dims3()?;
    let flat: Vec<u32> = rows.iter().enumerate().map(|(sequence, row)| (sequence * len + row) as u32).collect();
    x.reshape((batch * len, width))?.index_select(&Tensor::new(flat, x.device())?, 0)?.reshape((batch, 1, width))
}

fn is_cpu(x: &Tensor) -> bool {
    x.device().is_cpu() && x.dtype() == DType::F32
}

impl Data {
    /// The numbers on a CPU.
    fn read<T>(&self, use_values: impl FnOnce(&[f32]) -> T) -> candle_core::Result<T> {
        match self {
            Self::Tensor(x) => with_values(x, use_values),
            Self::Buffer(buffer) => Ok(use_values(buffer.slice())),
        }
    }
}

impl State<'_> {
    fn width(&self) -> usize {
        self.dims.last().copied().unwrap_or(0)
    }

    fn len(&self) -> usize {
        self.dims.iter().product()
    }

    fn is_settled(&self) -> bool {
        self.pending.norm.is_none() && self.pending.linear.is_none()
    }

    /// Dimensions once everything pending is done.
    fn settled_dims(&self) -> Vec<usize> {
        let mut dims = self.dims.clone();
        if let (Some(last), Some(linear)) = (dims.last_mut(), self.pending.linear) {
            *last = linear.outputs();
        }
        dims
    }

    /// Does what is pending.
    fn settle(self) -> candle_core::Result<Self> {
        if self.is_settled() {
            return Ok(self);
        }
        let dims = self.settled_dims();
        let data = match &self.data {
            Data::Tensor(x) if !is_cpu(x) => Data::Tensor(self.pending.tensor(x)?),
            data => {
                let mut out = Buffer::of::<f32>(dims.iter().product());
                self.compute(data, out.slice_mut())?;
                Data::Buffer(out)
            }
        };
        Ok(Self { data, dims, pending: Pending::default() })
    }

    /// What is pending, on a CPU.
    fn compute(&self, data: &Data, out: &mut [f32]) -> candle_core::Result<()> {
        let Pending { norm, linear, activation, residual } = &self.pending;
        let (len, width) = (self.len(), self.width());
        data.read(|values| {
            let input = Matrix::new(values.get(..len).unwrap_or_default(), width);
            match (linear, residual, norm) {
                (Some(linear), None, norm) => linear.multiply(input, *norm, *activation, None, out),
                (Some(linear), Some(residual), norm) => {
                    with_values(residual, |values| linear.multiply(input, *norm, *activation, Some(values), out))?
                }
                (None, _, Some(norm)) => norm.rows(input, out),
                (None, _, None) => Ok(()),
            }
        })?
    }

    /// Columns of the batch, as they are needed by an attention. Shape: `[batch, len, width]`.
    fn part(&self, start: usize, width: usize) -> candle_core::Result<Part<'_>> {
        let &[_, len, whole] = self.dims.as_slice() else { candle_core::bail!("an attention takes a batch") };
        if start + width > whole || width == 0 {
            candle_core::bail!("projections of {whole} do not hold {start} to {}", start + width);
        }
        Ok(Part { state: self, start, width, len })
    }

    fn into_tensor(self) -> candle_core::Result<Tensor> {
        if matches!(&self.data, Data::Tensor(x) if self.is_settled() || !is_cpu(x)) {
            let Data::Tensor(x) = &self.data else { candle_core::bail!("no tensor") };
            return self.pending.tensor(x);
        }
        let dims = self.settled_dims();
        let values = match &self.data {
            Data::Buffer(buffer) if self.is_settled() => buffer.slice().get(..self.len()).unwrap_or_default().to_vec(),
            data => {
                let mut out = vec![0.0; dims.iter().product()];
                self.compute(data, &mut out)?;
                out
            }
        };
        Tensor::from_vec(values, dims, &candle_core::Device::Cpu)
    }
}

impl Pending<'_> {
    /// All of it, with candle's operations.
    fn tensor(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let x = self.norm.map_or_else(|| Ok(x.clone()), |norm| norm.tensor(x))?;
        let x = match self.linear {
            Some(linear) => linear.tensor(&x, self.activation)?,
            None => x,
        };
        match &self.residual {
            Some(residual) => x + residual,
            None => Ok(x),
        }
    }
}

/// Some columns of a batch.
struct Part<'a> {
    state: &'a State<'a>,
    start: usize,
    width: usize,
    len: usize,
}

impl Part<'_> {
    /// Row `rows[i]` of sequence `i`. Shape: -> `[batch, 1, width]`.
    fn rows(&self, rows: &[usize]) -> candle_core::Result<State<'static>> {
        let (batch, len, stride) = (self.batch(), self.len, self.state.width());
        if rows.len() != batch || rows.iter().any(|row| *row >= len) {
            candle_core::bail!("{} rows of {batch} sequences of {len}", rows.len());
        }
        let data = match &self.state.data {
            Data::Tensor(x) if !is_cpu(x) => Data::Tensor(rows_of(&self.tensor()?, rows)?),
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
        Ok(State { data, dims: vec![batch, 1, self.width], pending: Pending::default() })
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

fn attention<'a>(
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
        let out = attend_anywhere(&q.tensor()?, &k.tensor()?, &v.tensor()?, heads, &mask)?;
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

#[cfg(test)]
mod tests;
