//! The GPU as models share it.

use candle_core::cuda_backend::cudarc::driver::{result, sys};
use candle_core::{CudaDevice, Device, Result};

/// Bytes of the GPU's memory that stay reserved between forward passes. The driver's own choice is none: it would map
/// fresh memory for every pass.
const KEPT_BYTES: u64 = 2 << 30;

/// The first GPU, with one stream that the work of all threads goes through in order.
///
/// candle's own `new_cuda` takes the stream of whichever thread calls: weights that one thread uploads may then be read by
/// another's forward pass before they are there.
///
/// # Errors
/// There is no driver, no GPU, or none that this build has code for.
pub(in crate::compute) fn open() -> Result<Device> {
    let device = CudaDevice::new_with_stream(0)?;
    // SAFETY: all tensors live on the one stream, which orders their uses and their ends by itself; what `upload` does on
    // its own stream it orders with its own events. Tracking would create and record two events for every tensor.
    unsafe { device.disable_event_tracking() };
    if let Err(error) = keep_memory(&device) {
        tracing::debug!("the GPU's memory is mapped anew for every pass: {error}");
    }
    Ok(Device::Cuda(device))
}

fn keep_memory(device: &CudaDevice) -> std::result::Result<(), result::DriverError> {
    let stream = device.cuda_stream();
    let context = stream.context();
    context.bind_to_thread()?;
    let mut bytes = KEPT_BYTES;
    // SAFETY: the device comes from its context, the pool from the device, and the attribute's value is a `u64` that is
    // read before the call returns.
    unsafe {
        let pool = result::device::get_default_mem_pool(context.cu_device())?;
        let attribute = sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
        result::mem_pool::set_attribute(pool, attribute, (&raw mut bytes).cast())
    }
}

/// Whether the GPU has matrix products of bf16: since Ampere. Those before it have f16.
pub(in crate::compute) fn multiplies_bf16(device: &Device) -> bool {
    match device {
        Device::Cuda(device) => device.cuda_stream().context().compute_capability().is_ok_and(|(major, _)| major >= 8),
        _ => true,
    }
}
