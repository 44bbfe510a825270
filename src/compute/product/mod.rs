//! Matrix products: weights packed once at load, activations in the kernel's format, tiles that stay in registers.
//!
//! [`Weights::pack`] lays a weight matrix out for a [`Kernel`], which [`kernel`] chooses for a number format and this
//! processor; [`multiply`] runs `y = f(norm(x) W^T + bias) + residual` in one pass over `y`. How:
//!
//! - `unit` says what a processor multiplies with (one trait, a few instructions each) and holds the one loop over a tile;
//!   `avx512`, `avx2`, `avx_vnni` and `portable` are its implementations. `amx` has its own loop over the same layout.
//! - `weights` packs panels, `rows` normalises and converts activations, `drive` cuts a product into tasks, `convolve` a convolution.
//!
//! Integer formats carry a scale for every row of activations, every output, and every block of the depth, so that one large
//! number spoils neither other rows nor other blocks.

mod convolve;
mod drive;
mod panels;
mod rows;
mod unit;
mod weights;

#[cfg(target_arch = "x86_64")]
mod amx;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod avx_vnni;
mod portable;

pub(crate) use convolve::{Lines, Tap, convolve};
pub(crate) use drive::{Epilogue, finish_rows, multiply};
pub(crate) use panels::Panels;
pub(crate) use rows::Matrix;
pub(crate) use unit::{Kernel, Number};
pub(crate) use weights::Weights;

/// The fastest way in which this processor multiplies numbers of a format; where it lacks a format, the next finer one that
/// it has.
pub(crate) fn kernel(number: Number) -> &'static Kernel {
    // Kernels are listed best first; the portable ones close the list.
    let usable = kernels();
    let finer = match number {
        Number::F32 => [Number::F32; 2],
        Number::Bf16 => [Number::Bf16, Number::Int16],
        Number::Int16 => [Number::Int16; 2],
        Number::Int8 => [Number::Int8, Number::Int16],
    };
    finer
        .into_iter()
        .find_map(|number| usable.iter().find(|kernel| kernel.number == number))
        .copied()
        .unwrap_or(&portable::F32)
}

/// Every kernel that this processor runs, best first within a format.
pub(crate) fn kernels() -> Vec<&'static Kernel> {
    let mut usable: Vec<&'static Kernel> = Vec::new();
    #[cfg(target_arch = "x86_64")]
    {
        use std::is_x86_feature_detected as has;
        let avx2 = has!("avx2") && has!("fma");
        if avx2 && has!("avx512f") && has!("avx512bw") && has!("avx512dq") && has!("avx512vl") {
            let amx = amx::has();
            if amx.bf16 {
                usable.push(&amx::BF16);
            }
            if amx.int8 {
                usable.push(&amx::INT8);
            }
            if has!("avx512bf16") {
                usable.push(&avx512::BF16);
            }
            if has!("avx512vnni") {
                usable.extend([&avx512::INT8, &avx512::INT16_VNNI]);
            }
            usable.extend([&avx512::F32, &avx512::INT16]);
        }
        if avx2 && has!("avxvnni") {
            usable.extend([&avx_vnni::INT8, &avx_vnni::INT16]);
        }
        if avx2 {
            usable.extend([&avx2::F32, &avx2::INT16, &avx2::INT8]);
        }
    }
    usable.extend([&portable::F32, &portable::INT16]);
    usable
}

#[cfg(test)]
mod emulated;
#[cfg(test)]
mod exact_tests;
#[cfg(test)]
mod tests;
