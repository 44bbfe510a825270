//! What an NVIDIA GPU does otherwise than by candle's operations one after the other: one stream for all threads, the work
//! between matrix products in one pass each, pictures through page-locked memory. Elsewhere, and for what a kernel does not
//! take, every function here says so and its caller uses candle.

#[cfg(not(feature = "cuda"))]
mod absent;
#[cfg(feature = "cuda")]
mod device;
#[cfg(feature = "cuda")]
mod fused;
#[cfg(feature = "cuda")]
mod upload;

#[cfg(not(feature = "cuda"))]
pub(super) use absent::{attends, attention, finish, multiplies_bf16, norm, open, upload};
#[cfg(feature = "cuda")]
pub(super) use device::{multiplies_bf16, open};
#[cfg(feature = "cuda")]
pub(super) use fused::{attends, attention, finish, norm};
#[cfg(feature = "cuda")]
pub(super) use upload::upload;
