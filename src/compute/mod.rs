//! The device and the precision that models run on, and the layers that every model is built from.
//!
//! Models hold [`Linear`], [`LayerNorm`], [`Embedding`], [`PixelConv`] and write what flows through them as a [`chain()`], never
//! candle's own layers: this room is the one place where a faster kernel replaces them. Layers are made from plain `f32`
//! values, so that a kernel may pack them as it likes.

use std::sync::OnceLock;

use candle_core::{DType, Device};

use self::product::Number;

use crate::config::{DeviceChoice, PrecisionChoice};
use crate::error::{Error, Result};

mod activation;
mod attention;
mod buffers;
mod chain;
mod conv;
mod deformable;
mod depthwise;
mod gpu;
mod interleaved;
mod layers;
mod norm;
mod pages;
mod patches;
mod per_channel;
mod pixel_map;
mod pixel_pool;
mod product;
mod roi_align;
mod simd;
mod spread;

pub use activation::Activation;
pub use attention::Mask;
pub use chain::{Chain, chain, select_rows};
pub use conv::{ConvShape, PixelConv};
pub use deformable::Sampling;
pub(crate) use layers::tensor;
pub use layers::{Embedding, LayerNorm, Linear};
pub(crate) use pages::prefer_large_pages;
pub use patches::{patch_rows, unfold_patches};
pub use per_channel::PerChannel;
pub use pixel_map::PixelMap;
pub(crate) use pixel_map::with_values;
pub use roi_align::{Region, RoiAlign};

/// Where and in which precision a model runs.
#[derive(Debug, Clone)]
pub struct Backend {
    /// candle's device.
    pub device: Device,
    /// As recorded with the index: `f32`, `bf16`, `f16`, `int8`.
    pub precision: &'static str,
}

impl Backend {
    /// Resolves the choices on this machine.
    ///
    /// `auto` takes a GPU when the build and the machine have one, else the CPU; and the fastest precision that keeps a cosine
    /// of 0.999 to f32: bf16, which on a processor without bf16 products are 16-bit integers of the same accuracy, or f32
    /// where neither has instructions; f16 on a GPU without bf16 products.
    ///
    /// # Errors
    /// [`Error::Device`]: the device is not in this build or not on this machine; [`Error::Precision`]: the device does
    /// not compute in it.
    pub fn new(device: DeviceChoice, precision: PrecisionChoice) -> Result<Self> {
        let device = match device {
            DeviceChoice::Auto => cuda().or_else(|_| metal()).unwrap_or(Device::Cpu),
            DeviceChoice::Cpu => Device::Cpu,
            DeviceChoice::Cuda => cuda()?,
            DeviceChoice::Metal => metal()?,
        };
        let precision = match (precision, device.is_cpu()) {
            (PrecisionChoice::Auto, false) if !gpu::multiplies_bf16(&device) => "f16",
            (PrecisionChoice::Bf16, _) | (PrecisionChoice::Auto, false) => "bf16",
            (PrecisionChoice::F16, false) => "f16",
            (PrecisionChoice::F16, true) => return Err(no_precision("f16", &device)),
            (PrecisionChoice::Auto, true) if product::kernel(Number::Bf16).is_fast() => "bf16",
            (PrecisionChoice::F32, _) | (PrecisionChoice::Auto, true) => "f32",
            (PrecisionChoice::Int8, true) => "int8",
            (PrecisionChoice::Int8, false) => return Err(no_precision("int8", &device)),
        };
        Ok(Self { device, precision })
    }

    /// The CPU in 32-bit floats: the reference that everything else is compared with.
    pub fn cpu() -> Self {
        Self { device: Device::Cpu, precision: "f32" }
    }

    /// On the CPU what runs on a GPU, in f16: slow, and so only for tests. [`Backend::new`] never gives it.
    pub fn tensors_on_cpu() -> Self {
        Self { device: Device::Cpu, precision: "f16" }
    }

    /// `cpu`, `cuda` or `metal`.
    pub fn device_name(&self) -> &'static str {
        device_name(&self.device)
    }

    /// The number format of tensors: on a CPU 32-bit floats in every precision, since products round their own input.
    pub(crate) fn dtype(&self) -> DType {
        match self.precision {
            "bf16" if !self.device.is_cpu() => DType::BF16,
            "f16" => DType::F16,
            _ => DType::F32,
        }
    }

    /// Whether layers are packed for this CPU's kernels; else they are tensors.
    pub(crate) fn packs(&self) -> bool {
        self.device.is_cpu() && self.dtype() == DType::F32
    }

    /// How many sequences go through a tower at once: enough to fill the matrix products; `widest` numbers are the most that a
    /// layer puts out for one. On a GPU a larger batch is cut into equal parts, so that one part is fetched while another
    /// is computed.
    pub(crate) fn sequences_at_once(&self, sequences: usize, len: usize, widest: usize) -> usize {
        /// Sequences, and numbers of the widest layer: 128 MiB.
        const CPU: (usize, usize) = (32, 1 << 25);
        /// Rows that fill a large GPU's multiprocessors a few times over.
        const GPU_ROWS: usize = 8192;
        if self.packs() {
            return (CPU.1 / widest.max(1)).clamp(1, CPU.0);
        }
        let most = (GPU_ROWS / len.max(1)).max(1);
        sequences.div_ceil(sequences.div_ceil(most).max(1)).max(1)
    }

    /// Pictures that indexing should collect for one call.
    pub fn pictures_at_once(&self) -> usize {
        if self.device.is_cpu() { 16 } else { 256 }
    }

    /// The number format of products on a CPU.
    pub(crate) fn number(&self) -> Number {
        match self.precision {
            "bf16" => Number::Bf16,
            "int8" => Number::Int8,
            _ => Number::F32,
        }
    }

    /// What multiplies matrices: features and format on a CPU (`avx2 int16`), else the precision.
    pub fn kernel_name(&self) -> &'static str {
        if self.packs() { product::kernel(self.number()).name } else { self.precision }
    }
}

fn device_name(device: &Device) -> &'static str {
    match device {
        Device::Cpu => "cpu",
        Device::Cuda(_) => "cuda",
        Device::Metal(_) => "metal",
    }
}

fn no_precision(precision: &'static str, device: &Device) -> Error {
    Error::Precision { precision, device: device_name(device) }
}

/// A device as it was opened, or why it was not: once for the whole process, since every opening makes a stream, handles and
/// compiled kernels of its own.
type Opened = OnceLock<std::result::Result<Device, String>>;

fn cuda() -> Result<Device> {
    static OPENED: Opened = OnceLock::new();
    opened(&OPENED, "cuda", candle_core::utils::cuda_is_available(), gpu::open)
}

fn metal() -> Result<Device> {
    static OPENED: Opened = OnceLock::new();
    opened(&OPENED, "metal", candle_core::utils::metal_is_available(), || Device::new_metal(0))
}

fn opened(
    once: &Opened,
    name: &str,
    built: bool,
    open: impl FnOnce() -> candle_core::Result<Device>,
) -> Result<Device> {
    let first = once.get_or_init(|| {
        if !built {
            return Err(format!("this build lacks the feature `{name}`"));
        }
        open().map_err(|error| error.to_string().lines().next().unwrap_or_default().to_owned())
    });
    first.clone().map_err(|reason| Error::Device { device: name.to_owned(), reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cpu_has_every_precision_and_names_what_computes_it() {
        for (choice, expected) in
            [(PrecisionChoice::F32, "f32"), (PrecisionChoice::Bf16, "bf16"), (PrecisionChoice::Int8, "int8")]
        {
            let backend = Backend::new(DeviceChoice::Cpu, choice).unwrap();
            assert_eq!((backend.device_name(), backend.precision), ("cpu", expected));
            assert!(backend.kernel_name().contains(' '), "{}", backend.kernel_name());
        }
        let error = Backend::new(DeviceChoice::Cpu, PrecisionChoice::F16).unwrap_err();
        assert!(matches!(error, Error::Precision { precision: "f16", device: "cpu" }), "{error}");
        let auto = Backend::new(DeviceChoice::Cpu, PrecisionChoice::Auto).unwrap();
        let fast = !auto.kernel_name().starts_with("portable");
        assert_eq!(auto.precision, if fast { "bf16" } else { "f32" });
    }

    #[test]
    fn a_cpu_takes_batches_of_its_own_and_a_gpu_equal_parts() {
        let (cpu, gpu) = (Backend::cpu(), Backend::tensors_on_cpu());
        // ViT-B/32, and ViT-L/14 whose layers are wider.
        assert_eq!((cpu.sequences_at_once(256, 50, 50 * 3072), cpu.sequences_at_once(256, 257, 257 * 4096)), (32, 31));
        assert_eq!((gpu.sequences_at_once(256, 50, 50 * 3072), gpu.sequences_at_once(256, 257, 257 * 4096)), (128, 29));
        assert_eq!((gpu.sequences_at_once(64, 50, 0), gpu.sequences_at_once(1, 50, 0)), (64, 1));
        assert_eq!((gpu.sequences_at_once(3, 100_000, 0), gpu.sequences_at_once(0, 0, 0)), (1, 1));
    }

    #[cfg(not(any(feature = "cuda", feature = "metal")))]
    #[test]
    fn a_device_that_is_not_in_the_build_is_named() {
        let error = Backend::new(DeviceChoice::Cuda, PrecisionChoice::Auto).unwrap_err();
        assert_eq!(error.to_string(), "device `cuda` is not available: this build lacks the feature `cuda`");
        assert_eq!(Backend::new(DeviceChoice::Auto, PrecisionChoice::Auto).unwrap().device_name(), "cpu");
    }
}
