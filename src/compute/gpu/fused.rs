//! The kernels of `kernels.cu` as operations on candle's tensors.

use std::sync::OnceLock;

use candle_core::backend::BackendStorage;
use candle_core::cuda_backend::cudarc::driver::{DevicePtr, LaunchConfig, PushKernelArg};
use candle_core::{
    CpuStorage, CudaDevice, CudaStorage, CustomOp1, DType, Device, InplaceOp1, Layout, Result, Shape, Storage, Tensor,
    bail,
};
use half::{bf16, f16};

use crate::compute::{Activation, Mask};

/// Made by build.rs; the driver compiles it for the GPU at hand.
const PTX: &str = include_str!(concat!(env!("OUT_DIR"), "/kernels.ptx"));
const MODULE: &str = "clip_aware";

/// Numbers that a kernel reads and writes together.
const VECTOR: usize = 8;
/// As in `kernels.cu`: rows of a normalisation, queries and threads of an attention's block.
const WIDEST_NORM: usize = 2048;
const NORM_ROWS: usize = 4;
const NORM_THREADS: u32 = 128;
const QUERIES: usize = 64;
const ATTENTION_THREADS: u32 = 128;
/// Head sizes that the attention is compiled for; smaller ones are padded in shared memory.
const SIZES: [usize; 3] = [64, 96, 128];
/// Threads of a block of `finish`, and blocks that fill the largest GPU a few times.
const FINISH_THREADS: u32 = 256;
const FINISH_BLOCKS: u32 = 4096;
/// Most blocks in the second direction of a grid.
const MOST_SEQUENCES: usize = 65_535;

/// Whether this GPU runs the kernels; `CLIP_AWARE_GPU_KERNELS=candle` turns them off, to measure what they are worth.
fn are_on(device: &CudaDevice) -> bool {
    static ON: OnceLock<bool> = OnceLock::new();
    *ON.get_or_init(|| {
        if std::env::var_os("CLIP_AWARE_GPU_KERNELS").is_some_and(|value| value == "candle") {
            return false;
        }
        let loaded = device.get_or_load_custom_func("finish_bf16", MODULE, PTX);
        if let Err(error) = &loaded {
            tracing::warn!("candle's operations serve instead of fused ones, which this GPU does not load: {error}");
        }
        loaded.is_ok()
    })
}

/// The number format's name in the kernels' names, where they take the tensor.
fn format_of(x: &Tensor) -> Option<&'static str> {
    let name = match x.dtype() {
        DType::BF16 => "bf16",
        DType::F16 => "f16",
        _ => return None,
    };
    match x.device() {
        Device::Cuda(device) if are_on(device) => Some(name),
        _ => None,
    }
}

/// The address of a tensor's first number.
fn address(storage: &CudaStorage, layout: &Layout) -> Result<u64> {
    let stream = storage.device().cuda_stream();
    let start = match storage.dtype() {
        DType::BF16 => storage.as_cuda_slice::<bf16>()?.device_ptr(&stream).0,
        DType::F16 => storage.as_cuda_slice::<f16>()?.device_ptr(&stream).0,
        DType::U32 => {
            return Ok(storage.as_cuda_slice::<u32>()?.device_ptr(&stream).0 + 4 * layout.start_offset() as u64);
        }
        other => bail!("a kernel was given numbers of format {other:?}"),
    };
    Ok(start + 2 * layout.start_offset() as u64)
}

/// As [`address`]; nothing is at 0.
fn address_of(tensor: Option<&Tensor>) -> Result<u64> {
    let Some(tensor) = tensor else { return Ok(0) };
    let (storage, layout) = tensor.storage_and_layout();
    let Storage::Cuda(storage) = &*storage else { bail!("operands lie on different devices") };
    address(storage, layout)
}

/// Whether a kernel may read the rows of these tensors as vectors.
fn in_vectors(tensors: &[Option<&Tensor>]) -> bool {
    tensors.iter().flatten().all(|tensor| {
        let layout = tensor.layout();
        layout.start_offset().is_multiple_of(VECTOR)
            && layout
                .stride()
                .split_last()
                .is_some_and(|(last, others)| *last == 1 && others.iter().all(|stride| stride.is_multiple_of(VECTOR)))
    })
}

/// Ends a matrix product in place: plus bias, the activation, plus residual. Shapes: `product`, `residual` `[rows,
/// outputs]`, `bias` `[outputs]`. `false`: it was not done.
///
/// # Errors
/// The GPU failed.
pub(in crate::compute) fn finish(
    product: &Tensor,
    bias: Option<&Tensor>,
    activation: Option<Activation>,
    residual: Option<&Tensor>,
) -> Result<bool> {
    let Some(format) = format_of(product) else { return Ok(false) };
    let (rows, outputs) = product.dims2()?;
    let fits = |other: Option<&Tensor>, dims: &[usize]| {
        other.is_none_or(|other| other.dims() == dims && other.dtype() == product.dtype() && other.is_contiguous())
    };
    let all = product.elem_count() / VECTOR;
    if !outputs.is_multiple_of(VECTOR)
        || !fits(bias, &[outputs])
        || !fits(residual, &[rows, outputs])
        || !fits(Some(product), &[rows, outputs])
        || !in_vectors(&[bias, residual, Some(product)])
        // Its threads count in 32 bits, by steps of a whole grid.
        || all > (u32::MAX - FINISH_BLOCKS * FINISH_THREADS) as usize
    {
        return Ok(false);
    }
    if product.elem_count() > 0 && (bias.is_some() || activation.is_some() || residual.is_some()) {
        product.inplace_op1(&Finish { format, bias, activation, residual, row: outputs / VECTOR })?;
    }
    Ok(true)
}

struct Finish<'a> {
    format: &'static str,
    bias: Option<&'a Tensor>,
    activation: Option<Activation>,
    residual: Option<&'a Tensor>,
    /// Vectors of a row.
    row: usize,
}

impl InplaceOp1 for Finish<'_> {
    fn name(&self) -> &'static str {
        "finish"
    }

    fn cpu_fwd(&self, _storage: &mut CpuStorage, _layout: &Layout) -> Result<()> {
        bail!("a kernel of the GPU was given a tensor of the CPU")
    }

    fn cuda_fwd(&self, storage: &mut CudaStorage, layout: &Layout) -> Result<()> {
        let all = (layout.shape().elem_count() / VECTOR) as u32;
        let activation = self.activation.map_or(0_i32, |activation| match activation {
            Activation::QuickGelu => 1,
            Activation::Gelu => 2,
            Activation::GeluTanh => 3,
            Activation::Relu => 4,
            Activation::Silu => 5,
            Activation::Sigmoid => 6,
        });
        let (values, bias, residual) = (address(storage, layout)?, address_of(self.bias)?, address_of(self.residual)?);
        let row = self.row as u32;
        let function = storage.device().get_or_load_custom_func(&format!("finish_{}", self.format), MODULE, PTX)?;
        let mut launch = function.builder();
        launch.arg(&values).arg(&bias).arg(&residual).arg(&all).arg(&row).arg(&activation);
        let blocks = all.div_ceil(FINISH_THREADS).min(FINISH_BLOCKS);
        run(&mut launch, (blocks, 1), FINISH_THREADS)
    }
}

/// Layer normalisation over the last dimension. Shapes: `x` `[.., width]`, `weight`, `bias` `[width]`. `None`: it was not
/// done.
///
/// # Errors
/// The GPU failed.
pub(in crate::compute) fn norm(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f32) -> Result<Option<Tensor>> {
    let Some(format) = format_of(x) else { return Ok(None) };
    let width = x.dims().last().copied().unwrap_or(0);
    let parameters = [weight, bias].iter().all(|p| p.dims() == [width] && p.dtype() == x.dtype() && p.is_contiguous());
    let taken = parameters
        && width > 0
        && width <= WIDEST_NORM
        && x.is_contiguous()
        && x.elem_count() > 0
        && in_vectors(&[Some(x), Some(weight), Some(bias)])
        && width.is_multiple_of(VECTOR);
    if !taken {
        return Ok(None);
    }
    x.apply_op1_no_bwd(&Norm { format, weight, bias, eps, width }).map(Some)
}

struct Norm<'a> {
    format: &'static str,
    weight: &'a Tensor,
    bias: &'a Tensor,
    eps: f32,
    width: usize,
}

impl CustomOp1 for Norm<'_> {
    fn name(&self) -> &'static str {
        "norm"
    }

    fn cpu_fwd(&self, _storage: &CpuStorage, _layout: &Layout) -> Result<(CpuStorage, Shape)> {
        bail!("a kernel of the GPU was given a tensor of the CPU")
    }

    fn cuda_fwd(&self, storage: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        let shape = layout.shape().clone();
        let rows = shape.elem_count() / self.width;
        let out = uninitialised(storage.device(), storage.dtype(), shape.elem_count())?;
        let (x, weight, bias) =
            (address(storage, layout)?, address_of(Some(self.weight))?, address_of(Some(self.bias))?);
        let target = address(&out, &Layout::contiguous(&shape))?;
        let (count, row) = (rows as u32, (self.width / VECTOR) as u32);
        let function = storage.device().get_or_load_custom_func(&format!("norm_{}", self.format), MODULE, PTX)?;
        let mut launch = function.builder();
        launch.arg(&x).arg(&weight).arg(&bias).arg(&target).arg(&count).arg(&row).arg(&self.eps);
        run(&mut launch, (rows.div_ceil(NORM_ROWS) as u32, 1), NORM_THREADS)?;
        Ok((out, shape))
    }
}

/// Whether [`attention`] takes projections of this kind; it then adds their bias itself.
pub(in crate::compute) fn attends(x: &Tensor, hidden: usize, heads: usize, mask: &Mask<'_>) -> bool {
    let size = hidden / heads.max(1);
    format_of(x).is_some()
        && heads > 0
        && hidden == heads * size
        && size > 0
        && size.is_multiple_of(VECTOR)
        && SIZES.iter().any(|most| size <= *most)
        && x.dim(0).is_ok_and(|batch| batch > 0 && batch * heads <= MOST_SEQUENCES)
        && !matches!(mask, Mask::Bias(_))
}

/// `softmax(q k^T) v` for every head, from projections and the biases that are still to be added to them. Shapes: `q`
/// `[batch or 1, queries, hidden]`, `k`, `v` `[batch, keys, hidden]`, biases `[hidden]` -> `[batch, queries, hidden]`.
/// `None`: it was not done.
///
/// # Errors
/// The GPU failed.
pub(in crate::compute) fn attention(
    parts: [(&Tensor, Option<&Tensor>); 3],
    heads: usize,
    mask: &Mask<'_>,
) -> Result<Option<Tensor>> {
    let [(q, _), (k, _), (v, _)] = parts;
    let (batch, _, hidden) = k.dims3()?;
    let same = parts.iter().all(|(x, bias)| {
        x.dtype() == q.dtype()
            && x.device().same_device(q.device())
            && bias.is_none_or(|bias| bias.dtype() == q.dtype())
    });
    let vectors = parts.iter().all(|(x, bias)| in_vectors(&[Some(x), *bias]));
    if !same || !vectors || !attends(k, hidden, heads, mask) || q.elem_count() == 0 || v.elem_count() == 0 {
        return Ok(None);
    }
    let lengths = match mask {
        Mask::Keys(lengths) => {
            let keys: Vec<u32> = (0..batch).map(|i| lengths.get(i).map_or(u32::MAX / 2, |keys| *keys as u32)).collect();
            Some(Tensor::new(keys, q.device())?)
        }
        _ => None,
    };
    let causal = matches!(mask, Mask::Causal);
    q.apply_op1_no_bwd(&Attention { parts, heads, lengths: lengths.as_ref(), causal }).map(Some)
}

struct Attention<'a> {
    parts: [(&'a Tensor, Option<&'a Tensor>); 3],
    heads: usize,
    /// Keys of each sequence.
    lengths: Option<&'a Tensor>,
    causal: bool,
}

impl CustomOp1 for Attention<'_> {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn cpu_fwd(&self, _storage: &CpuStorage, _layout: &Layout) -> Result<(CpuStorage, Shape)> {
        bail!("a kernel of the GPU was given a tensor of the CPU")
    }

    fn cuda_fwd(&self, storage: &CudaStorage, _layout: &Layout) -> Result<(CudaStorage, Shape)> {
        let [(q, q_bias), (k, k_bias), (v, v_bias)] = self.parts;
        let ((q_batch, queries, hidden), (batch, keys, _)) = (q.dims3()?, k.dims3()?);
        let size = hidden / self.heads;
        let Some(padded) = SIZES.iter().find(|most| size <= **most) else { bail!("heads of {size}") };
        let format = if storage.dtype() == DType::F16 { "f16" } else { "bf16" };
        let shape = Shape::from((batch, queries, hidden));
        let out = uninitialised(storage.device(), storage.dtype(), shape.elem_count())?;
        let target = address(&out, &Layout::contiguous(&shape))?;
        let values = [address_of(Some(q))?, address_of(Some(k))?, address_of(Some(v))?];
        let biases = [address_of(q_bias)?, address_of(k_bias)?, address_of(v_bias)?];
        let lengths = address_of(self.lengths)?;
        let counts = [queries, keys, self.heads, size].map(|count| count as u32);
        let mut steps = [q, k, v].map(|x| match x.layout().stride() {
            [sequence, row, _] => [*row as u32, *sequence as u32],
            _ => [0; 2],
        });
        if q_batch == 1 && batch > 1 {
            steps[0][1] = 0;
        }
        let causal = i32::from(self.causal);
        let function =
            storage.device().get_or_load_custom_func(&format!("attention_{format}_{padded}"), MODULE, PTX)?;
        let mut launch = function.builder();
        for address in values.iter().chain(&biases).chain([&lengths, &target]) {
            launch.arg(address);
        }
        for count in counts.iter().chain(steps.iter().flatten()) {
            launch.arg(count);
        }
        launch.arg(&causal);
        let grid = (queries.div_ceil(QUERIES) as u32, (batch * self.heads) as u32);
        run(&mut launch, grid, ATTENTION_THREADS)?;
        Ok((out, shape))
    }
}

/// Memory that the next kernel fills.
fn uninitialised(device: &CudaDevice, format: DType, len: usize) -> Result<CudaStorage> {
    // SAFETY: every caller launches a kernel that writes all of it, on the stream that any reader comes after.
    unsafe {
        match format {
            DType::BF16 => Ok(CudaStorage::wrap_cuda_slice(device.alloc::<bf16>(len)?, device.clone())),
            DType::F16 => Ok(CudaStorage::wrap_cuda_slice(device.alloc::<f16>(len)?, device.clone())),
            other => bail!("a kernel was asked for numbers of format {other:?}"),
        }
    }
}

fn run(
    launch: &mut candle_core::cuda_backend::cudarc::driver::LaunchArgs<'_>,
    (x, y): (u32, u32),
    threads: u32,
) -> Result<()> {
    let config = LaunchConfig { grid_dim: (x, y, 1), block_dim: (threads, 1, 1), shared_mem_bytes: 0 };
    // SAFETY: the arguments are those of the kernel in `kernels.cu`, in number, order and size; the callers have checked
    // that every tensor has the shape, format and alignment that it reads and writes.
    unsafe { launch.launch(config) }.map_err(candle_core::Error::wrap)?;
    Ok(())
}
