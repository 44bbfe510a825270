//! 512-bit vectors of x86: 32-bit floats, bfloat16, 16-bit and 8-bit integers.

// Vectors are read from any address.
#![allow(clippy::inline_always, clippy::cast_ptr_alignment)]

use std::arch::asm;
use std::arch::x86_64::{
    __m512, __m512i, _mm512_add_epi32, _mm512_add_ps, _mm512_cvtepi32_ps, _mm512_dpbf16_ps, _mm512_dpbusd_epi32,
    _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_loadu_si512, _mm512_madd_epi16, _mm512_mul_ps, _mm512_mullo_epi32,
    _mm512_set1_epi32, _mm512_set1_ps, _mm512_setzero_ps, _mm512_setzero_si512, _mm512_storeu_ps, _mm512_sub_epi32,
};

use super::unit::{Kernel, Number, Tile, Unit, tiles};

/// 32-bit floats: 6 rows x 64 columns. Twelve rows of 32 multiply as much with more loads: 12 % slower by llvm-mca.
pub(super) static F32: Kernel = Kernel {
    name: "avx512 f32",
    number: Number::F32,
    columns: 64,
    group: 1,
    part: 1,
    block: 128,
    levels: 0,
    most: 0,
    tiles: tiles!(Floats, 4, "avx512f,avx512bw,avx512dq,avx512vl,fma", [1 2 3 4 5 6]),
};

/// bfloat16: 6 rows x 64 columns.
pub(super) static BF16: Kernel = Kernel {
    name: "avx512 bf16",
    number: Number::Bf16,
    columns: 64,
    group: 2,
    part: 2,
    block: 512,
    levels: 0,
    most: 0,
    tiles: tiles!(Brains, 4, "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,fma", [1 2 3 4 5 6]),
};

/// 16-bit integers with the instructions of AVX-512 BW: 6 rows x 64 columns.
pub(super) static INT16: Kernel = Kernel {
    name: "avx512 int16",
    number: Number::Int16,
    columns: 64,
    group: 2,
    part: 2,
    block: 512,
    levels: 0,
    most: 0,
    tiles: tiles!(Pairs, 4, "avx512f,avx512bw,avx512dq,avx512vl,fma", [1 2 3 4 5 6]),
};

/// 16-bit integers with dot products: 6 rows x 64 columns.
pub(super) static INT16_VNNI: Kernel = Kernel {
    name: "avx512-vnni int16",
    number: Number::Int16,
    columns: 64,
    group: 2,
    part: 2,
    block: 512,
    levels: 0,
    most: 0,
    tiles: tiles!(DotPairs, 4, "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma", [1 2 3 4 5 6]),
};

/// 8-bit integers with dot products: 6 rows x 64 columns.
pub(super) static INT8: Kernel = Kernel {
    name: "avx512-vnni int8",
    number: Number::Int8,
    columns: 64,
    group: 4,
    part: 4,
    block: 1024,
    levels: 255,
    most: 0,
    tiles: tiles!(DotFours, 4, "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma", [1 2 3 4 5 6]),
};

/// Sets or adds sixteen numbers.
#[inline(always)]
pub(super) unsafe fn put(values: __m512, tile: &Tile, row: usize, column: usize) {
    // SAFETY: as `Unit` demands.
    unsafe {
        let c = tile.c.add(row * tile.c_stride + column);
        let values = if tile.first { values } else { _mm512_add_ps(values, _mm512_loadu_ps(c)) };
        _mm512_storeu_ps(c, values);
    }
}

/// Sets or adds sixteen integer sums, times the scales of their row and columns.
#[inline(always)]
unsafe fn put_scaled(sums: __m512i, tile: &Tile, row: usize, column: usize) {
    // SAFETY: as `Unit` demands.
    unsafe {
        let scales = _mm512_loadu_ps(tile.column_scales.add(column));
        let scales = _mm512_mul_ps(scales, _mm512_set1_ps(*tile.row_scales.add(row)));
        put(_mm512_mul_ps(_mm512_cvtepi32_ps(sums), scales), tile, row, column);
    }
}

/// As [`put_scaled`], when a row's zero is another number.
#[inline(always)]
pub(super) unsafe fn put_without_zero(sums: __m512i, tile: &Tile, row: usize, column: usize) {
    // SAFETY: as `Unit` demands.
    unsafe {
        let zero = _mm512_set1_epi32(*tile.row_zeros.add(row));
        let offsets = _mm512_mullo_epi32(zero, _mm512_loadu_si512(tile.column_sums.add(column).cast()));
        put_scaled(_mm512_sub_epi32(sums, offsets), tile, row, column);
    }
}

/// Adds products of pairs. As an instruction, not an intrinsic: the compiler takes `_mm512_dpwssd_epi32` apart into a
/// multiplication and an addition, for the sake of a chain of sums that no tile waits for, and needs twice the ports.
#[target_feature(enable = "avx512f,avx512vnni")]
#[inline]
fn dot_pairs(mut sums: __m512i, row: __m512i, weights: __m512i) -> __m512i {
    // SAFETY: the instruction touches no memory and no flags, and the processor has it.
    unsafe {
        asm!(
            "vpdpwssd {0}, {1}, {2}", inout(zmm_reg) sums, in(zmm_reg) row, in(zmm_reg) weights,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    sums
}

/// Units are alike but for the format of their sums and their instruction.
macro_rules! unit {
    ($name:ident, $sums:ty, $zero:ident, $weights:ty, |$acc:ident, $row:ident, $w:ident| $add:expr, $finish:ident) => {
        struct $name;

        impl Unit for $name {
            type Sums = $sums;
            type Weights = $weights;
            type Row = $weights;
            const LANES: usize = 16;
            const GROUP_BYTES: usize = 4;

            #[inline(always)]
            unsafe fn zero() -> Self::Sums {
                // SAFETY: as the trait demands; so below.
                unsafe { $zero() }
            }

            #[inline(always)]
            unsafe fn weights<const VECTORS: usize>(b: *const u8, vector: usize) -> Self::Weights {
                // SAFETY: as the trait demands; a vector type is 64 bytes that mean what the instruction takes them for.
                unsafe { b.add(vector * 64).cast::<$weights>().read_unaligned() }
            }

            #[inline(always)]
            unsafe fn row(a: *const u8) -> Self::Row {
                // SAFETY: as above.
                unsafe {
                    let groups = _mm512_set1_epi32(a.cast::<i32>().read_unaligned());
                    std::ptr::from_ref(&groups).cast::<$weights>().read()
                }
            }

            #[inline(always)]
            unsafe fn add($acc: Self::Sums, $row: Self::Row, $w: Self::Weights) -> Self::Sums {
                // SAFETY: as the trait demands.
                unsafe { $add }
            }

            #[inline(always)]
            unsafe fn finish(sums: Self::Sums, tile: &Tile, row: usize, column: usize) {
                // SAFETY: as the trait demands.
                unsafe { $finish(sums, tile, row, column) }
            }
        }
    };
}

use std::arch::x86_64::__m512bh;

unit!(Floats, __m512, _mm512_setzero_ps, __m512, |acc, row, w| _mm512_fmadd_ps(row, w, acc), put);
unit!(Brains, __m512, _mm512_setzero_ps, __m512bh, |acc, row, w| _mm512_dpbf16_ps(acc, row, w), put);
unit!(
    Pairs,
    __m512i,
    _mm512_setzero_si512,
    __m512i,
    |acc, row, w| _mm512_add_epi32(acc, _mm512_madd_epi16(row, w)),
    put_scaled
);
unit!(DotPairs, __m512i, _mm512_setzero_si512, __m512i, |acc, row, w| dot_pairs(acc, row, w), put_scaled);
unit!(
    DotFours,
    __m512i,
    _mm512_setzero_si512,
    __m512i,
    |acc, row, w| _mm512_dpbusd_epi32(acc, row, w),
    put_without_zero
);
