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

use candle_core::{DType, Tensor};

use super::activation::Activation;
use super::attention::Mask;
use super::buffers::Buffer;
use super::gpu;
use super::layers::{LayerNorm, Linear};
use super::product::Matrix;
use super::with_values;
use crate::error::{Error, Result};

mod gate;
mod parts;
mod rows;

use parts::{Part, attention};
pub use rows::select_rows;

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
    /// Of projections, which an attention adds itself. Shape: `[width]`.
    bias: Option<Tensor>,
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

    /// A gate: the first half of each row, times its own sigmoid, times the second half. Shape: `[.., 2 * width]` -> `[..,
    /// width]`.
    ///
    /// Source: Shazeer 2020, arXiv 2002.05202 (`SwiGLU`).
    pub fn gated(self) -> Self {
        self.then(gate::gated)
    }

    /// Attention of a sequence that looks at itself. Shape: `[batch, len, 3 * hidden]`, queries (scaled by `1 / sqrt(head
    /// size)`), keys and values side by side -> `[batch, len, hidden]`; `heads` divides `hidden`. With `wanted`, only the
    /// position `wanted[i]` of sequence `i` looks around: -> `[batch, 1, hidden]`.
    ///
    /// Source: Vaswani et al. 2017, section 3.2.
    pub fn self_attention(self, heads: usize, mask: Mask<'_>, wanted: Option<&[usize]>) -> Self {
        self.then(|state| {
            let state = state.project(heads, &mask)?;
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

    /// As [`State::settle`], for queries, keys and values side by side: where the attention adds their bias it is left to it.
    fn project(self, heads: usize, mask: &Mask<'_>) -> candle_core::Result<Self> {
        let dims = self.settled_dims();
        let hidden = dims.last().copied().unwrap_or(0) / 3;
        match (&self.data, &self.pending) {
            (Data::Tensor(x), Pending { norm, linear: Some(linear), activation: None, residual: None, .. })
                if gpu::attends(x, hidden, heads, mask) =>
            {
                let x = norm.map_or_else(|| Ok(x.clone()), |norm| norm.tensor(x))?;
                let (product, bias) = linear.product(&x)?;
                let pending = Pending { bias: bias.cloned(), ..Pending::default() };
                Ok(Self { data: Data::Tensor(product.reshape(dims.as_slice())?), dims, pending })
            }
            _ => self.settle(),
        }
    }

    /// What is pending, on a CPU.
    fn compute(&self, data: &Data, out: &mut [f32]) -> candle_core::Result<()> {
        let Pending { norm, linear, activation, residual, .. } = &self.pending;
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
        match self.linear {
            Some(linear) => linear.tensor(&x, self.activation, self.residual.as_ref()),
            None => Ok(x),
        }
    }
}

#[cfg(test)]
mod tensor_tests;
#[cfg(test)]
mod tests;
