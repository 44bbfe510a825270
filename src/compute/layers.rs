//! Linear layers, layer normalisation and embedding tables.

use candle_core::{D, Tensor};

use super::activation::{Activation, finish};
use super::{Backend, DType};
use crate::error::{Error, Result};

/// `y = x W^T + b`.
#[derive(Debug, Clone)]
pub struct Linear {
    /// `[outputs, inputs]`
    weight: Tensor,
    /// `[outputs]`
    bias: Option<Tensor>,
}

impl Linear {
    /// From the checkpoint's values. Shapes: `weight` `[outputs, inputs]` flattened, `bias` `[outputs]`.
    ///
    /// # Errors
    /// The values do not fit the shape, or the device has no room for them.
    pub fn new(
        outputs: usize,
        inputs: usize,
        weight: Vec<f32>,
        bias: Option<Vec<f32>>,
        backend: &Backend,
    ) -> Result<Self> {
        let weight = tensor(weight, &[outputs, inputs], backend)?;
        let bias = bias.map(|bias| tensor(bias, &[outputs], backend)).transpose()?;
        Ok(Self { weight, bias })
    }

    /// Shapes: `[.., inputs]` -> `[.., outputs]`.
    ///
    /// # Errors
    /// `x` has another last dimension.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.forward_with(x, None)
    }

    /// The layer, then the activation, in one pass over the product.
    ///
    /// # Errors
    /// As [`Linear::forward`].
    pub fn forward_with(&self, x: &Tensor, activation: Option<Activation>) -> Result<Tensor> {
        self.compute(x, activation).map_err(Error::tensor("linear layer"))
    }

    fn compute(&self, x: &Tensor, activation: Option<Activation>) -> candle_core::Result<Tensor> {
        let mut shape = x.dims().to_vec();
        let rows: usize = shape.iter().rev().skip(1).product();
        let (outputs, inputs) = self.weight.dims2()?;
        if let Some(last) = shape.last_mut() {
            *last = outputs;
        }
        // All rows at once: one large product is faster than one for every image.
        let product = x.reshape((rows, inputs))?.matmul(&self.weight.t()?)?; // [rows, outputs]
        finish(product, self.bias.as_ref(), activation)?.reshape(shape) // [.., outputs]
    }
}

/// Layer normalisation over the last dimension, with weight and bias.
#[derive(Debug, Clone)]
pub struct LayerNorm {
    /// `[size]`
    weight: Tensor,
    /// `[size]`
    bias: Tensor,
    eps: f32,
}

impl LayerNorm {
    /// From the checkpoint's values; `eps` as the config says.
    ///
    /// # Errors
    /// The device has no room.
    pub fn new(weight: Vec<f32>, bias: Vec<f32>, eps: f32, backend: &Backend) -> Result<Self> {
        let (weight_len, bias_len) = (weight.len(), bias.len());
        Ok(Self { weight: tensor(weight, &[weight_len], backend)?, bias: tensor(bias, &[bias_len], backend)?, eps })
    }

    /// Shape: `[.., size]`, unchanged.
    ///
    /// # Errors
    /// `x` has another last dimension.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        x.contiguous()
            .and_then(|x| candle_nn::ops::layer_norm(&x, &self.weight, &self.bias, self.eps))
            .map_err(Error::tensor("layer norm"))
    }
}

/// A table of vectors.
#[derive(Debug, Clone)]
pub struct Embedding {
    /// `[rows, size]`
    weight: Tensor,
}

impl Embedding {
    /// From the checkpoint's values. Shape: `[rows, size]` flattened.
    ///
    /// # Errors
    /// The values do not fit the shape, or the device has no room for them.
    pub fn new(rows: usize, size: usize, weight: Vec<f32>, backend: &Backend) -> Result<Self> {
        Ok(Self { weight: tensor(weight, &[rows, size], backend)? })
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.weight.dims().first().copied().unwrap_or(0)
    }

    /// The rows with these numbers. Shape: -> `[batch, ids / batch, size]`.
    ///
    /// # Errors
    /// An id is not below [`Embedding::rows`], or `batch` does not divide their number.
    pub fn lookup(&self, ids: &[u32], batch: usize) -> Result<Tensor> {
        let run = || {
            let picked = self.weight.index_select(&Tensor::new(ids, self.weight.device())?, 0)?; // [ids, size]
            picked.reshape((batch, ids.len() / batch.max(1), picked.dim(D::Minus1)?)) // [batch, len, size]
        };
        run().map_err(Error::tensor("embedding"))
    }

    /// The first `len` rows. Shape: `[len, size]`.
    ///
    /// # Errors
    /// There are fewer.
    pub fn first(&self, len: usize) -> Result<Tensor> {
        self.weight.narrow(0, 0, len).map_err(Error::tensor("embedding"))
    }
}

/// Values in the backend's precision on its device.
pub(crate) fn tensor(values: Vec<f32>, shape: &[usize], backend: &Backend) -> Result<Tensor> {
    let run = || {
        let tensor = Tensor::from_vec(values, shape, &backend.device)?;
        if backend.dtype() == DType::F32 { Ok(tensor) } else { tensor.to_dtype(backend.dtype()) }
    };
    run().map_err(Error::tensor("weights"))
}
