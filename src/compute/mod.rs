//! The device and the precision that models run on, and the layers that every model is built from.
//!
//! Models hold [`Linear`], [`LayerNorm`], [`Embedding`], [`Conv2d`] and write what flows through them as a [`chain()`], never
//! candle's own layers: this room is the one place where a faster kernel replaces them. Layers are made from plain `f32`
//! values, so that a kernel may pack them as it likes.

use candle_core::{DType, Device};

use self::product::Number;

use crate::config::{DeviceChoice, PrecisionChoice};
use crate::error::{Error, Result};

mod activation;
mod attention;
mod buffers;
mod chain;
mod conv;
mod layers;
mod norm;
mod patches;
mod pixel_conv;
mod pool;
mod product;
mod simd;

pub use activation::Activation;
pub use attention::Mask;
pub use chain::{Chain, chain, select_rows};
pub(crate) use conv::with_values;
pub use conv::{Conv2d, ConvShape};
pub(crate) use layers::tensor;
pub use layers::{Embedding, LayerNorm, Linear};
pub use patches::unfold_patches;
pub use pixel_conv::{PixelConv, PixelMap};
pub use pool::{max_pool, upsample_twice};

/// Where and in which precision a model runs.
#[derive(Debug, Clone)]
pub struct Backend {
    /// candle's device.
    pub device: Device,
    /// As recorded with the index: `f32`, `bf16`, `int8`.
    pub precision: &'static str,
}

impl Backend {
    /// Resolves the choices on this machine.
    ///
    /// `auto` takes a GPU when the build and the machine have one, else the CPU; and the fastest precision that keeps a cosine
    /// of 0.999 to f32: bf16, which on a processor without bf16 products are 16-bit integers of the same accuracy, or f32
    /// where neither has instructions.
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
            (PrecisionChoice::Bf16, _) | (PrecisionChoice::Auto, false) => "bf16",
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

    /// `cpu`, `cuda` or `metal`.
    pub fn device_name(&self) -> &'static str {
        device_name(&self.device)
    }

    /// The number format of tensors: on a CPU 32-bit floats in every precision, since products round their own input.
    pub(crate) fn dtype(&self) -> DType {
        if self.precision == "bf16" && !self.device.is_cpu() { DType::BF16 } else { DType::F32 }
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
        if self.device.is_cpu() { product::kernel(self.number()).name } else { self.precision }
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

fn cuda() -> Result<Device> {
    gpu("cuda", candle_core::utils::cuda_is_available(), Device::new_cuda)
}

fn metal() -> Result<Device> {
    gpu("metal", candle_core::utils::metal_is_available(), Device::new_metal)
}

fn gpu(name: &str, built: bool, open: impl FnOnce(usize) -> candle_core::Result<Device>) -> Result<Device> {
    let refused = |reason: String| Error::Device { device: name.to_owned(), reason };
    if !built {
        return Err(refused(format!("this build lacks the feature `{name}`")));
    }
    open(0).map_err(|error| refused(error.to_string().lines().next().unwrap_or_default().to_owned()))
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
        let auto = Backend::new(DeviceChoice::Cpu, PrecisionChoice::Auto).unwrap();
        let fast = auto.kernel_name().starts_with("avx");
        assert_eq!(auto.precision, if fast { "bf16" } else { "f32" });
    }

    #[cfg(not(any(feature = "cuda", feature = "metal")))]
    #[test]
    fn a_device_that_is_not_in_the_build_is_named() {
        let error = Backend::new(DeviceChoice::Cuda, PrecisionChoice::Auto).unwrap_err();
        assert_eq!(error.to_string(), "device `cuda` is not available: this build lacks the feature `cuda`");
        assert_eq!(Backend::new(DeviceChoice::Auto, PrecisionChoice::Auto).unwrap().device_name(), "cpu");
    }
}
