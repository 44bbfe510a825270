//! Linear layers, layer normalisation and embedding tables.

use candle_core::{DType, Tensor};
use rayon::prelude::*;

use super::Backend;
use super::activation::Activation;
use super::chain::chain;
use super::gpu;
use super::norm::Norm;
use super::product::{Epilogue, Matrix, Weights, kernel, multiply};
use crate::error::{Error, Result};

/// `y = x W^T + b`.
#[derive(Debug)]
pub struct Linear {
    weights: Packed,
    outputs: usize,
    inputs: usize,
}

/// The weights as the device wants them.
#[derive(Debug)]
enum Packed {
    Cpu { weights: Weights, bias: Option<Vec<f32>> },
    Device { weight: Tensor, bias: Option<Tensor> },
}

impl Linear {
    /// From the checkpoint's values, packed for the device and precision. Shapes: `weight` `[outputs, inputs]` flattened,
    /// `bias` `[outputs]`.
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
        let fits = weight.len() == outputs * inputs && bias.as_ref().is_none_or(|bias| bias.len() == outputs);
        let weights = if backend.packs() && fits {
            Packed::Cpu { weights: Weights::pack(kernel(backend.number()), outputs, inputs, &weight), bias }
        } else {
            Packed::Device {
                weight: tensor(weight, &[outputs, inputs], backend)?,
                bias: bias.map(|bias| tensor(bias, &[outputs], backend)).transpose()?,
            }
        };
        Ok(Self { weights, outputs, inputs })
    }

    /// Length of what goes out.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Shapes: `[.., inputs]` -> `[.., outputs]`.
    ///
    /// # Errors
    /// `x` has another last dimension.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        chain(x).linear(self).run()
    }

    /// As [`Linear::forward`], on a CPU, with what comes before and after it. Shapes: `residual` and `out` `[rows, outputs]`.
    pub(super) fn multiply(
        &self,
        input: Matrix<'_>,
        norm: Option<&LayerNorm>,
        activation: Option<Activation>,
        residual: Option<&[f32]>,
        out: &mut [f32],
    ) -> candle_core::Result<()> {
        let Packed::Cpu { weights, bias } = &self.weights else {
            candle_core::bail!("weights and input lie on different devices")
        };
        let norm = norm.map(LayerNorm::values).transpose()?;
        if input.width != self.inputs || norm.as_ref().is_some_and(|norm| norm.weight.len() != self.inputs) {
            candle_core::bail!("rows of {} for a layer of {} inputs", input.width, self.inputs);
        }
        if residual.is_some_and(|residual| residual.len() != input.rows * self.outputs) {
            candle_core::bail!("a residual of another shape than {} rows of {}", input.rows, self.outputs);
        }
        let residual = residual.map(|values| Matrix::new(values, self.outputs));
        multiply(
            input,
            norm.as_ref(),
            weights,
            &Epilogue { bias: bias.as_deref(), activation, residual, last: None },
            out,
        );
        Ok(())
    }

    /// As [`Linear::forward`] elsewhere than on a CPU, with what comes after it. Shape: `residual` `[.., outputs]`.
    pub(super) fn tensor(
        &self,
        x: &Tensor,
        activation: Option<Activation>,
        residual: Option<&Tensor>,
    ) -> candle_core::Result<Tensor> {
        let mut shape = x.dims().to_vec();
        if let Some(last) = shape.last_mut() {
            *last = self.outputs;
        }
        let (product, bias) = self.product(x)?; // [rows, outputs]
        let residual = residual.map(|residual| residual.reshape(product.dims())).transpose()?;
        if !gpu::finish(&product, bias, activation, residual.as_ref())? {
            let product = match bias {
                Some(bias) => product.broadcast_add(bias)?,
                None => product,
            };
            let product = activate(product, activation)?;
            return match residual {
                Some(residual) => (product + residual)?.reshape(shape),
                None => product.reshape(shape),
            };
        }
        product.reshape(shape) // [.., outputs]
    }

    /// The matrix product, elsewhere than on a CPU, and the bias that is still to be added. Shapes: `[.., inputs]` -> `[rows,
    /// outputs]`, `[outputs]`.
    pub(super) fn product(&self, x: &Tensor) -> candle_core::Result<(Tensor, Option<&Tensor>)> {
        let Packed::Device { weight, bias } = &self.weights else {
            candle_core::bail!("weights and input lie on different devices")
        };
        let rows: usize = x.dims().iter().rev().skip(1).product();
        // All rows at once: one large product is faster than one for every image.
        let product = x.reshape((rows, self.inputs))?.matmul(&weight.t()?)?; // [rows, outputs]
        Ok((product, bias.as_ref()))
    }
}

/// The function of each number, with candle's operations. Shape: any.
pub(super) fn activate(x: Tensor, activation: Option<Activation>) -> candle_core::Result<Tensor> {
    match activation {
        None => Ok(x),
        Some(Activation::QuickGelu) => &x * candle_nn::ops::sigmoid(&(&x * 1.702)?)?,
        Some(Activation::Gelu) => x.gelu_erf(),
        Some(Activation::GeluTanh) => x.gelu(),
        Some(Activation::Relu) => x.relu(),
        Some(Activation::Silu) => candle_nn::ops::silu(&x),
        Some(Activation::Sigmoid) => candle_nn::ops::sigmoid(&x),
    }
}

/// Layer normalisation over the last dimension, with weight and bias.
#[derive(Debug, Clone)]
pub struct LayerNorm {
    weight: Parameters,
    bias: Parameters,
    eps: f32,
}

/// A few numbers as the device wants them. Shape: `[size]`.
#[derive(Debug, Clone)]
enum Parameters {
    Cpu(Vec<f32>),
    Device(Tensor),
}

impl Parameters {
    fn new(values: Vec<f32>, backend: &Backend) -> Result<Self> {
        if backend.packs() {
            return Ok(Self::Cpu(values));
        }
        let len = values.len();
        Ok(Self::Device(tensor(values, &[len], backend)?))
    }
}

impl LayerNorm {
    /// From the checkpoint's values; `eps` as the config says.
    ///
    /// # Errors
    /// The device has no room.
    pub fn new(weight: Vec<f32>, bias: Vec<f32>, eps: f32, backend: &Backend) -> Result<Self> {
        Ok(Self { weight: Parameters::new(weight, backend)?, bias: Parameters::new(bias, backend)?, eps })
    }

    /// Shape: `[.., size]`, unchanged.
    ///
    /// # Errors
    /// `x` has another last dimension.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        chain(x).norm(self).run()
    }

    fn values(&self) -> candle_core::Result<Norm<'_>> {
        match (&self.weight, &self.bias) {
            (Parameters::Cpu(weight), Parameters::Cpu(bias)) => Ok(Norm { weight, bias, eps: self.eps }),
            _ => candle_core::bail!("a layer norm and its input lie on different devices"),
        }
    }

    /// As [`LayerNorm::forward`], on a CPU.
    pub(super) fn rows(&self, input: Matrix<'_>, out: &mut [f32]) -> candle_core::Result<()> {
        const ROWS_PER_TASK: usize = 16;
        let norm = self.values()?;
        let width = input.width;
        if width != norm.weight.len() || width != norm.bias.len() {
            candle_core::bail!("rows of {width} for a layer norm of {}", norm.weight.len());
        }
        let (rows, outs) = (input.values.par_chunks(width.max(1)), out.par_chunks_mut(width.max(1)));
        rows.zip(outs).with_min_len(ROWS_PER_TASK).for_each(|(row, out)| norm.row(row, out));
        Ok(())
    }

    /// As [`LayerNorm::forward`], with candle's operations.
    pub(super) fn tensor(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        match (&self.weight, &self.bias) {
            (Parameters::Device(weight), Parameters::Device(bias)) => {
                let x = x.contiguous()?;
                match gpu::norm(&x, weight, bias, self.eps)? {
                    Some(normalised) => Ok(normalised),
                    None => candle_nn::ops::layer_norm(&x, weight, bias, self.eps),
                }
            }
            _ => candle_core::bail!("a layer norm and its input lie on different devices"),
        }
    }
}

/// A table of vectors.
#[derive(Debug)]
pub struct Embedding {
    rows: usize,
    size: usize,
    table: Table,
}

enum Table {
    /// `[rows, size]`
    Here(Tensor),
    /// Read when they are wanted, in the backend's precision on its device.
    Elsewhere(Box<RowSource>, Backend),
}

/// Appends the row with this number.
pub type RowSource = dyn Fn(usize, &mut Vec<f32>) + Send + Sync;

impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Here(table) => table.fmt(f),
            Self::Elsewhere(..) => f.write_str("read when wanted"),
        }
    }
}

impl Embedding {
    /// From the checkpoint's values. Shape: `[rows, size]` flattened.
    ///
    /// # Errors
    /// The values do not fit the shape, or the device has no room for them.
    pub fn new(rows: usize, size: usize, weight: Vec<f32>, backend: &Backend) -> Result<Self> {
        Ok(Self { rows, size, table: Table::Here(tensor(weight, &[rows, size], backend)?) })
    }

    /// From something that knows the rows: a vocabulary's table would be most of a text tower's memory, and a text has a
    /// few words.
    pub fn from_source(rows: usize, size: usize, source: Box<RowSource>, backend: &Backend) -> Self {
        Self { rows, size, table: Table::Elsewhere(source, backend.clone()) }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The rows with these numbers. Shape: -> `[batch, ids / batch, size]`.
    ///
    /// # Errors
    /// An id is not below [`Embedding::rows`], or `batch` does not divide their number.
    pub fn lookup(&self, ids: &[u32], batch: usize) -> Result<Tensor> {
        let shape = (batch, ids.len() / batch.max(1), self.size);
        let run = || {
            if let Some(id) = ids.iter().find(|id| **id as usize >= self.rows) {
                candle_core::bail!("row {id} of {}", self.rows);
            }
            match &self.table {
                Table::Here(table) => table.index_select(&Tensor::new(ids, table.device())?, 0)?.reshape(shape),
                Table::Elsewhere(source, backend) => {
                    let mut values = Vec::with_capacity(ids.len() * self.size);
                    for id in ids {
                        source(*id as usize, &mut values);
                    }
                    Tensor::from_vec(values, shape, &backend.device)?.to_dtype(backend.dtype())
                }
            }
        };
        run().map_err(Error::tensor("embedding")) // [batch, len, size]
    }

    /// The first `len` rows. Shape: `[len, size]`.
    ///
    /// # Errors
    /// There are fewer.
    pub fn first(&self, len: usize) -> Result<Tensor> {
        match &self.table {
            Table::Here(table) => table.narrow(0, 0, len).map_err(Error::tensor("embedding")),
            Table::Elsewhere(..) => {
                let ids: Vec<u32> = (0..len as u32).collect();
                self.lookup(&ids, 1)?.squeeze(0).map_err(Error::tensor("embedding"))
            }
        }
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
