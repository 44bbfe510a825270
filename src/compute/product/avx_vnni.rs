//! 256-bit vectors of x86 with dot products of integers (AVX-VNNI: Intel since Alder Lake, AMD since Zen 5).

#![allow(clippy::inline_always)]

use std::arch::asm;
use std::arch::x86_64::{__m256i, _mm256_dpbusd_avx_epi32, _mm256_loadu_si256, _mm256_setzero_si256};

use super::avx2::{everywhere, put, scaled, without_zero};
use super::unit::{Kernel, Number, Tile, Unit, tiles};

/// 16-bit integers: 6 rows x 16 columns.
pub(super) static INT16: Kernel = Kernel {
    name: "avx-vnni int16",
    number: Number::Int16,
    columns: 16,
    group: 2,
    part: 2,
    block: 512,
    levels: 0,
    most: 0,
    tiles: tiles!(Pairs, 2, "avx2,fma,avxvnni", [1 2 3 4 5 6]),
};

/// 8-bit integers: 6 rows x 16 columns.
pub(super) static INT8: Kernel = Kernel {
    name: "avx-vnni int8",
    number: Number::Int8,
    columns: 16,
    group: 4,
    part: 4,
    block: 1024,
    levels: 255,
    most: 0,
    tiles: tiles!(Fours, 2, "avx2,fma,avxvnni", [1 2 3 4 5 6]),
};

/// Adds products of pairs; an instruction for the reason that `avx512` gives.
#[target_feature(enable = "avx2,avxvnni")]
#[inline]
fn dot_pairs(mut sums: __m256i, row: __m256i, weights: __m256i) -> __m256i {
    // SAFETY: the instruction touches no memory and no flags, and the processor has it.
    unsafe {
        asm!(
            "{{vex}} vpdpwssd {0}, {1}, {2}", inout(ymm_reg) sums, in(ymm_reg) row, in(ymm_reg) weights,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    sums
}

/// A unit that differs in its instruction and in how it finishes.
macro_rules! unit {
    ($name:ident, $add:ident, $finish:expr) => {
        struct $name;

        impl Unit for $name {
            type Sums = __m256i;
            type Weights = __m256i;
            type Row = __m256i;
            const LANES: usize = 8;
            const GROUP_BYTES: usize = 4;

            #[inline(always)]
            unsafe fn zero() -> Self::Sums {
                // SAFETY: as the trait demands; so below.
                unsafe { _mm256_setzero_si256() }
            }

            #[inline(always)]
            unsafe fn weights<const VECTORS: usize>(b: *const u8, vector: usize) -> Self::Weights {
                // SAFETY: as the trait demands.
                unsafe { _mm256_loadu_si256(b.add(vector * 32).cast()) }
            }

            #[inline(always)]
            unsafe fn row(a: *const u8) -> Self::Row {
                // SAFETY: as the trait demands.
                unsafe { everywhere(a) }
            }

            #[inline(always)]
            unsafe fn add(sums: Self::Sums, row: Self::Row, weights: Self::Weights) -> Self::Sums {
                // SAFETY: as the trait demands.
                unsafe { $add(sums, row, weights) }
            }

            #[inline(always)]
            unsafe fn finish(sums: Self::Sums, tile: &Tile, row: usize, column: usize) {
                let finish: unsafe fn(__m256i, &Tile, usize, usize) -> __m256i = $finish;
                // SAFETY: as the trait demands.
                unsafe { put(scaled(finish(sums, tile, row, column), tile, row, column), tile, row, column) }
            }
        }
    };
}

unit!(Pairs, dot_pairs, |sums, _, _, _| sums);
unit!(Fours, _mm256_dpbusd_avx_epi32, without_zero);
