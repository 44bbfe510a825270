//! The device and the precision that models run on.

use candle_core::Device;

use crate::config::{DeviceChoice, PrecisionChoice};
use crate::error::Result;

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
    /// # Errors
    /// The device is not in this build or not on this machine.
    pub fn new(_device: DeviceChoice, _precision: PrecisionChoice) -> Result<Self> {
        unimplemented!()
    }

    /// `cpu`, `cuda` or `metal`.
    pub fn device_name(&self) -> &'static str {
        unimplemented!()
    }
}
