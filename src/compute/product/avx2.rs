//! 256-bit vectors of x86: 32-bit floats, 16-bit pairs and 8-bit groups.

#![allow(clippy::inline_always)]

use std::arch::x86_64::{
    __m256, __m256i, _mm256_add_epi16, _mm256_add_epi32, _mm256_add_ps, _mm256_broadcast_ss, _mm256_cvtepi32_ps,
    _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_loadu_si256, _mm256_madd_epi16, _mm256_maddubs_epi16, _mm256_mul_ps,
    _mm256_mullo_epi32, _mm256_set1_epi16, _mm256_set1_epi32, _mm256_set1_ps, _mm256_setzero_ps, _mm256_setzero_si256,
    _mm256_storeu_ps, _mm256_sub_epi32,
};

use super::unit::{Kernel, Number, Tile, Unit, tiles};

/// 32-bit floats: 6 rows x 16 columns.
pub(super) static F32: Kernel = Kernel {
    name: "avx2 f32",
    number: Number::F32,
    columns: 16,
    group: 1,
    part: 1,
    block: 384,
    levels: 0,
    most: 0,
    tiles: tiles!(Floats, 2, "avx2,fma", [1 2 3 4 5 6]),
};

/// 16-bit integers: 6 rows x 16 columns.
pub(super) static INT16: Kernel = Kernel {
    name: "avx2 int16",
    number: Number::Int16,
    columns: 16,
    group: 2,
    part: 2,
    block: 512,
    levels: 0,
    most: 0,
    tiles: tiles!(Pairs, 2, "avx2,fma", [1 2 3 4 5 6]),
};

/// 8-bit integers, four products added in 16 bits: 4 rows x 16 columns.
pub(super) static INT8: Kernel = Kernel {
    name: "avx2 int8",
    number: Number::Int8,
    columns: 16,
    group: 8,
    part: 4,
    block: 1024,
    levels: 127,
    most: i16::MAX as i32 / 127,
    tiles: tiles!(Eights, 2, "avx2,fma", [1 2 3 4]),
};

struct Floats;

impl Unit for Floats {
    type Sums = __m256;
    type Weights = __m256;
    type Row = __m256;
    const LANES: usize = 8;
    const GROUP_BYTES: usize = 4;

    #[inline(always)]
    unsafe fn zero() -> Self::Sums {
        // SAFETY: as the trait demands; so below.
        unsafe { _mm256_setzero_ps() }
    }

    #[inline(always)]
    unsafe fn weights<const VECTORS: usize>(b: *const u8, vector: usize) -> Self::Weights {
        // SAFETY: as the trait demands.
        unsafe { _mm256_loadu_ps(b.add(vector * 32).cast()) }
    }

    #[inline(always)]
    unsafe fn row(a: *const u8) -> Self::Row {
        // SAFETY: as the trait demands.
        unsafe { _mm256_broadcast_ss(&*a.cast()) }
    }

    #[inline(always)]
    unsafe fn add(sums: Self::Sums, row: Self::Row, weights: Self::Weights) -> Self::Sums {
        // SAFETY: as the trait demands.
        unsafe { _mm256_fmadd_ps(row, weights, sums) }
    }

    #[inline(always)]
    unsafe fn finish(sums: Self::Sums, tile: &Tile, row: usize, column: usize) {
        // SAFETY: as the trait demands.
        unsafe { put(sums, tile, row, column) }
    }
}

/// Sets or adds eight numbers.
#[inline(always)]
pub(super) unsafe fn put(values: __m256, tile: &Tile, row: usize, column: usize) {
    // SAFETY: as `Unit` demands.
    unsafe {
        let c = tile.c.add(row * tile.c_stride + column);
        let values = if tile.first { values } else { _mm256_add_ps(values, _mm256_loadu_ps(c)) };
        _mm256_storeu_ps(c, values);
    }
}

/// Integer sums times the scales of their row and columns.
#[inline(always)]
pub(super) unsafe fn scaled(sums: __m256i, tile: &Tile, row: usize, column: usize) -> __m256 {
    // SAFETY: as `Unit` demands.
    unsafe {
        let scales = _mm256_loadu_ps(tile.column_scales.add(column));
        let scales = _mm256_mul_ps(scales, _mm256_set1_ps(*tile.row_scales.add(row)));
        _mm256_mul_ps(_mm256_cvtepi32_ps(sums), scales)
    }
}

/// Integer sums, when a row's zero is another number.
#[inline(always)]
pub(super) unsafe fn without_zero(sums: __m256i, tile: &Tile, row: usize, column: usize) -> __m256i {
    // SAFETY: as `Unit` demands.
    unsafe {
        let zero = _mm256_set1_epi32(*tile.row_zeros.add(row));
        let sums_of_weights = _mm256_loadu_si256(tile.column_sums.add(column).cast());
        _mm256_sub_epi32(sums, _mm256_mullo_epi32(zero, sums_of_weights))
    }
}

/// The four bytes at an address, in every 32-bit lane.
#[inline(always)]
pub(super) unsafe fn everywhere(a: *const u8) -> __m256i {
    // SAFETY: as `Unit` demands; a broadcast load takes any address.
    unsafe { _mm256_set1_epi32(a.cast::<i32>().read_unaligned()) }
}

struct Pairs;

impl Unit for Pairs {
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
        unsafe { _mm256_add_epi32(sums, _mm256_madd_epi16(row, weights)) }
    }

    #[inline(always)]
    unsafe fn finish(sums: Self::Sums, tile: &Tile, row: usize, column: usize) {
        // SAFETY: as the trait demands.
        unsafe { put(scaled(sums, tile, row, column), tile, row, column) }
    }
}

/// Groups of eight: the first four of every column, then the last four. Two products are added in 16 bits by the
/// multiplication, two and two by an addition, and only then widened: five instructions for 64 products.
struct Eights;

impl Unit for Eights {
    type Sums = __m256i;
    type Weights = [__m256i; 2];
    type Row = [__m256i; 2];
    const LANES: usize = 8;
    const GROUP_BYTES: usize = 8;

    #[inline(always)]
    unsafe fn zero() -> Self::Sums {
        // SAFETY: as the trait demands; so below.
        unsafe { _mm256_setzero_si256() }
    }

    #[inline(always)]
    unsafe fn weights<const VECTORS: usize>(b: *const u8, vector: usize) -> Self::Weights {
        // SAFETY: as the trait demands.
        unsafe {
            let b = b.add(vector * 32);
            [_mm256_loadu_si256(b.cast()), _mm256_loadu_si256(b.add(VECTORS * 32).cast())]
        }
    }

    #[inline(always)]
    unsafe fn row(a: *const u8) -> Self::Row {
        // SAFETY: as the trait demands.
        unsafe { [everywhere(a), everywhere(a.add(4))] }
    }

    #[inline(always)]
    unsafe fn add(sums: Self::Sums, row: Self::Row, weights: Self::Weights) -> Self::Sums {
        // SAFETY: as the trait demands. The packing keeps the magnitudes of the four weights that meet in a 16-bit lane
        // within `Kernel::most`, so that it cannot overflow.
        unsafe {
            let [low, high] = [_mm256_maddubs_epi16(row[0], weights[0]), _mm256_maddubs_epi16(row[1], weights[1])];
            let fours = _mm256_add_epi16(low, high);
            _mm256_add_epi32(sums, _mm256_madd_epi16(fours, _mm256_set1_epi16(1)))
        }
    }

    #[inline(always)]
    unsafe fn finish(sums: Self::Sums, tile: &Tile, row: usize, column: usize) {
        // SAFETY: as the trait demands.
        unsafe { put(scaled(without_zero(sums, tile, row, column), tile, row, column), tile, row, column) }
    }
}
