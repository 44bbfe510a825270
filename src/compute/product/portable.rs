//! Products without any processor's own instructions: what the compiler makes of plain loops (on ARM its vectors).

// Vectors are read from any address.
#![allow(clippy::inline_always, clippy::cast_ptr_alignment)]

use super::unit::{Kernel, Multiply, Number, Tile, Unit, multiply};

/// 32-bit floats: 6 rows x 16 columns.
pub(super) static F32: Kernel = Kernel {
    name: "portable f32",
    number: Number::F32,
    columns: 16,
    group: 1,
    part: 1,
    block: 384,
    levels: 0,
    most: 0,
    tiles: &tiles::<Floats>(),
};

/// 16-bit integers: 6 rows x 16 columns.
pub(super) static INT16: Kernel = Kernel {
    name: "portable int16",
    number: Number::Int16,
    columns: 16,
    group: 2,
    part: 2,
    block: 512,
    levels: 0,
    most: 0,
    tiles: &tiles::<Pairs>(),
};

const fn tiles<U: Unit>() -> [Multiply; 6] {
    [
        multiply::<U, 2, 1>,
        multiply::<U, 2, 2>,
        multiply::<U, 2, 3>,
        multiply::<U, 2, 4>,
        multiply::<U, 2, 5>,
        multiply::<U, 2, 6>,
    ]
}

const LANES: usize = 8;

#[inline(always)]
unsafe fn put(values: [f32; LANES], tile: &Tile, row: usize, column: usize) {
    // SAFETY: as `Unit` demands.
    let c = unsafe { &mut *tile.c.add(row * tile.c_stride + column).cast::<[f32; LANES]>() };
    for (c, value) in c.iter_mut().zip(values) {
        *c = if tile.first { value } else { *c + value };
    }
}

struct Floats;

impl Unit for Floats {
    type Sums = [f32; LANES];
    type Weights = [f32; LANES];
    type Row = f32;
    const LANES: usize = LANES;
    const GROUP_BYTES: usize = 4;

    #[inline(always)]
    unsafe fn zero() -> Self::Sums {
        [0.0; LANES]
    }

    #[inline(always)]
    unsafe fn weights<const VECTORS: usize>(b: *const u8, vector: usize) -> Self::Weights {
        // SAFETY: as the trait demands; so below.
        unsafe { b.cast::<[f32; LANES]>().add(vector).read_unaligned() }
    }

    #[inline(always)]
    unsafe fn row(a: *const u8) -> Self::Row {
        // SAFETY: as the trait demands.
        unsafe { a.cast::<f32>().read_unaligned() }
    }

    #[inline(always)]
    unsafe fn add(mut sums: Self::Sums, row: Self::Row, weights: Self::Weights) -> Self::Sums {
        for (sum, weight) in sums.iter_mut().zip(weights) {
            // Fused only where that is an instruction: elsewhere it is a call.
            *sum = if cfg!(any(target_feature = "fma", target_arch = "aarch64")) {
                row.mul_add(weight, *sum)
            } else {
                row * weight + *sum
            };
        }
        sums
    }

    #[inline(always)]
    unsafe fn finish(sums: Self::Sums, tile: &Tile, row: usize, column: usize) {
        // SAFETY: as the trait demands.
        unsafe { put(sums, tile, row, column) }
    }
}

struct Pairs;

impl Unit for Pairs {
    type Sums = [i32; LANES];
    type Weights = [[i16; 2]; LANES];
    type Row = [i16; 2];
    const LANES: usize = LANES;
    const GROUP_BYTES: usize = 4;

    #[inline(always)]
    unsafe fn zero() -> Self::Sums {
        [0; LANES]
    }

    #[inline(always)]
    unsafe fn weights<const VECTORS: usize>(b: *const u8, vector: usize) -> Self::Weights {
        // SAFETY: as the trait demands; so below.
        unsafe { b.cast::<[[i16; 2]; LANES]>().add(vector).read_unaligned() }
    }

    #[inline(always)]
    unsafe fn row(a: *const u8) -> Self::Row {
        // SAFETY: as the trait demands.
        unsafe { a.cast::<[i16; 2]>().read_unaligned() }
    }

    #[inline(always)]
    unsafe fn add(mut sums: Self::Sums, row: Self::Row, weights: Self::Weights) -> Self::Sums {
        for (sum, weight) in sums.iter_mut().zip(weights) {
            *sum += i32::from(row[0]) * i32::from(weight[0]) + i32::from(row[1]) * i32::from(weight[1]);
        }
        sums
    }

    #[inline(always)]
    unsafe fn finish(sums: Self::Sums, tile: &Tile, row: usize, column: usize) {
        // SAFETY: as the trait demands.
        unsafe {
            let scale = *tile.row_scales.add(row);
            let scales = tile.column_scales.add(column).cast::<[f32; LANES]>().read_unaligned();
            let mut values = [0.0; LANES];
            for ((value, sum), column_scale) in values.iter_mut().zip(sums).zip(scales) {
                *value = sum as f32 * (scale * column_scale);
            }
            put(values, tile, row, column);
        }
    }
}
