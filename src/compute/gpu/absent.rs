//! Without the feature `cuda`: nothing is taken.

// The same signatures as with it.
#![allow(clippy::unnecessary_wraps)]

use candle_core::{Device, Result, Tensor};

use crate::compute::{Activation, Backend, Mask};

pub(in crate::compute) fn open() -> Result<Device> {
    Device::new_cuda(0)
}

pub(in crate::compute) fn multiplies_bf16(_device: &Device) -> bool {
    true
}

pub(in crate::compute) fn finish(
    _product: &Tensor,
    _bias: Option<&Tensor>,
    _activation: Option<Activation>,
    _residual: Option<&Tensor>,
) -> Result<bool> {
    Ok(false)
}

pub(in crate::compute) fn norm(_x: &Tensor, _weight: &Tensor, _bias: &Tensor, _eps: f32) -> Result<Option<Tensor>> {
    Ok(None)
}

pub(in crate::compute) fn attends(_x: &Tensor, _hidden: usize, _heads: usize, _mask: &Mask<'_>) -> bool {
    false
}

pub(in crate::compute) fn attention(
    _parts: [(&Tensor, Option<&Tensor>); 3],
    _heads: usize,
    _mask: &Mask<'_>,
) -> Result<Option<Tensor>> {
    Ok(None)
}

pub(in crate::compute) fn upload(
    _shape: &[usize],
    _backend: &Backend,
    _fill: impl FnOnce(&mut [u16]),
) -> Result<Option<Tensor>> {
    Ok(None)
}
