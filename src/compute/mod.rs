//! The device and the precision that models run on, and the layers that every model is built from.
//!
//! Models hold [`Linear`], [`LayerNorm`], [`Embedding`] and call [`self_attention`] and [`unfold_patches`], never candle's own
//! layers: this room is the one place where a faster kernel replaces them. Layers are made from plain `f32` values, so
//! that a kernel may pack them as it likes.

use candle_core::{DType, Device};

use crate::config::{DeviceChoice, PrecisionChoice};
use crate::error::{Error, Result};

mod activation;
mod attention;
mod conv;
mod layers;
mod patches;
mod pool;

pub use activation::Activation;
pub use attention::{Mask, cross_attention, self_attention};
pub use conv::{Conv2d, ConvShape};
pub(crate) use layers::tensor;
pub use layers::{Embedding, LayerNorm, Linear};
pub use patches::unfold_patches;
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
    /// `auto` takes a GPU when the build and the machine have one, else the CPU; and bf16 on a GPU, f32 on a CPU, where
    /// candle has no bf16 matrix product.
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
            (PrecisionChoice::F32, _) | (PrecisionChoice::Auto, true) => "f32",
            (PrecisionChoice::Bf16 | PrecisionChoice::Auto, false) => "bf16",
            (PrecisionChoice::Bf16, true) => return Err(no_precision("bf16", &device)),
            (PrecisionChoice::Int8, _) => return Err(no_precision("int8", &device)),
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

    /// The number format of activations.
    pub(crate) fn dtype(&self) -> DType {
        if self.precision == "bf16" { DType::BF16 } else { DType::F32 }
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
    fn a_cpu_computes_in_f32_and_refuses_the_rest_with_a_hint() {
        let backend = Backend::new(DeviceChoice::Cpu, PrecisionChoice::Auto).unwrap();
        assert_eq!((backend.device_name(), backend.precision), ("cpu", "f32"));
        for precision in [PrecisionChoice::Bf16, PrecisionChoice::Int8] {
            let error = Backend::new(DeviceChoice::Cpu, precision).unwrap_err();
            assert!(matches!(error, Error::Precision { device: "cpu", .. }), "{error}");
            assert!(error.hint().unwrap().contains("--precision f32"));
        }
    }

    #[cfg(not(any(feature = "cuda", feature = "metal")))]
    #[test]
    fn a_device_that_is_not_in_the_build_is_named() {
        let error = Backend::new(DeviceChoice::Cuda, PrecisionChoice::Auto).unwrap_err();
        assert_eq!(error.to_string(), "device `cuda` is not available: this build lacks the feature `cuda`");
        assert_eq!(Backend::new(DeviceChoice::Auto, PrecisionChoice::Auto).unwrap().device_name(), "cpu");
    }
}
