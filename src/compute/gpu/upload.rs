//! Pictures to the GPU: written once, in its number format, into page-locked memory, which the GPU fetches by itself on a
//! stream of its own while it computes what came before.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::cuda_backend::cudarc::driver::{
    CudaEvent, CudaSlice, CudaStream, DevicePtr, DevicePtrMut, DriverError, PinnedHostSlice, result,
};
use candle_core::op::BackpropOp;
use candle_core::{CudaDevice, CudaStorage, DType, Device, Result, Storage, Tensor};
use half::{bf16, f16};

use crate::compute::Backend;

/// Where a batch waits, here and on the GPU.
struct Slot {
    here: PinnedHostSlice<u16>,
    there: CudaSlice<u16>,
    stream: Arc<CudaStream>,
    /// The GPU has fetched it.
    fetched: CudaEvent,
    /// The GPU has copied it to where a model reads it.
    taken: CudaEvent,
}

/// Slots that nobody fills; the one that was filled longest ago is first.
static IDLE: Mutex<VecDeque<Slot>> = Mutex::new(VecDeque::new());
/// One is fetched while the next is filled.
const SLOTS: usize = 2;

// SAFETY: page-locked memory, like the rest, may be used from any thread; only the slice's bare pointer says nothing about it.
unsafe impl Send for Slot {}

impl Drop for Slot {
    fn drop(&mut self) {
        // The GPU may still be fetching.
        if let Err(error) = self.stream.synchronize() {
            tracing::debug!("a transfer to the GPU did not end: {error}");
        }
    }
}

impl Slot {
    fn new(device: &CudaDevice, len: usize) -> std::result::Result<Self, DriverError> {
        let main = device.cuda_stream();
        let context = main.context();
        // SAFETY: both are written before anything reads them.
        let (here, there) = unsafe { (context.alloc_pinned_with_flags(len, 0)?, main.alloc(len)?) };
        let slot = Self {
            here,
            there,
            stream: context.new_stream()?,
            fetched: context.new_event(None)?,
            taken: context.new_event(None)?,
        };
        // The memory is there for both streams.
        main.synchronize()?;
        Ok(slot)
    }

    /// An idle one that is large enough, else a new one.
    fn take(device: &CudaDevice, len: usize) -> std::result::Result<Self, DriverError> {
        let mut idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner);
        let first = if idle.len() < SLOTS { None } else { idle.pop_front() };
        drop(idle);
        match first {
            Some(slot) if slot.here.len() >= len => Ok(slot),
            small => {
                if let Some(slot) = small {
                    slot.taken.synchronize()?;
                }
                Self::new(device, len)
            }
        }
    }

    /// Sends what `fill` writes, and copies it to `target` on the GPU.
    fn send(
        &mut self,
        device: &CudaDevice,
        len: usize,
        target: u64,
        fill: impl FnOnce(&mut [u16]),
    ) -> std::result::Result<(), DriverError> {
        let main = device.cuda_stream();
        // What lay here before has been fetched.
        self.fetched.synchronize()?;
        let here = self.here.as_mut_slice()?.get_mut(..len).unwrap_or_default();
        fill(here);
        // What lay there before has been taken.
        self.stream.wait(&self.taken)?;
        let (there, _) = self.there.device_ptr_mut(&self.stream);
        // SAFETY: both memories hold `len` numbers, and nobody writes or frees either before `fetched` has happened: this
        // slot is not used, and not dropped, before.
        unsafe { result::memcpy_htod_async(there, here, self.stream.cu_stream())? };
        self.fetched.record(&self.stream)?;
        main.wait(&self.fetched)?;
        let (there, _) = self.there.device_ptr(&main);
        // SAFETY: as above, and `target` holds `len` numbers too, allocated on the stream that this copy runs on.
        unsafe { result::memcpy_dtod_async(target, there, len * size_of::<u16>(), main.cu_stream())? };
        self.taken.record(&main)
    }
}

/// A tensor of what `fill` writes: the bits of numbers in the backend's format. `None`, and nothing is written: the backend
/// is no NVIDIA GPU in a 16-bit format.
///
/// # Errors
/// There is no memory, here or there.
pub(in crate::compute) fn upload(
    shape: &[usize],
    backend: &Backend,
    fill: impl FnOnce(&mut [u16]),
) -> Result<Option<Tensor>> {
    let (Device::Cuda(device), format) = (&backend.device, backend.dtype()) else { return Ok(None) };
    let len: usize = shape.iter().product();
    if len == 0 || !matches!(format, DType::BF16 | DType::F16) {
        return Ok(None);
    }
    let mut slot = Slot::take(device, len).map_err(candle_core::Error::wrap)?;
    let send = |target| slot.send(device, len, target, fill).map_err(candle_core::Error::wrap);
    let stream = device.cuda_stream();
    // SAFETY: filled by the copy that follows on the same stream.
    let storage = unsafe {
        if format == DType::BF16 {
            let mut out = device.alloc::<bf16>(len)?;
            send(out.device_ptr_mut(&stream).0)?;
            CudaStorage::wrap_cuda_slice(out, device.clone())
        } else {
            let mut out = device.alloc::<f16>(len)?;
            send(out.device_ptr_mut(&stream).0)?;
            CudaStorage::wrap_cuda_slice(out, device.clone())
        }
    };
    IDLE.lock().unwrap_or_else(PoisonError::into_inner).push_back(slot);
    Ok(Some(Tensor::from_storage(Storage::Cuda(storage), shape, BackpropOp::none(), false)))
}
