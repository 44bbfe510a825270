//! The shapes of the 512-bit kernels in plain loops, so that packing, zeros, scales and tiles of 64 columns are tested on
//! every machine; what remains untested without AVX-512 is a handful of instructions, which tools/emulate runs.

#![allow(clippy::inline_always, clippy::cast_ptr_alignment)]

use half::bf16;

use super::unit::{Kernel, Multiply, Number, Tile, Unit, multiply};

pub(super) static BF16: Kernel = Kernel {
    name: "emulated bf16",
    number: Number::Bf16,
    columns: 64,
    group: 2,
    part: 2,
    block: 512,
    levels: 0,
    most: 0,
    tiles: &tiles::<Brains>(),
};

pub(super) static INT8: Kernel = Kernel {
    name: "emulated int8",
    number: Number::Int8,
    columns: 64,
    group: 4,
    part: 4,
    block: 1024,
    levels: 255,
    most: 0,
    tiles: &tiles::<Fours>(),
};

const fn tiles<U: Unit>() -> [Multiply; 6] {
    [
        multiply::<U, 4, 1>,
        multiply::<U, 4, 2>,
        multiply::<U, 4, 3>,
        multiply::<U, 4, 4>,
        multiply::<U, 4, 5>,
        multiply::<U, 4, 6>,
    ]
}

const LANES: usize = 16;

unsafe fn put(values: [f32; LANES], tile: &Tile, row: usize, column: usize) {
    // SAFETY: as `Unit` demands; so everywhere in this file.
    let c = unsafe { &mut *tile.c.add(row * tile.c_stride + column).cast::<[f32; LANES]>() };
    for (c, value) in c.iter_mut().zip(values) {
        *c = if tile.first { value } else { *c + value };
    }
}

struct Brains;

impl Unit for Brains {
    type Sums = [f32; LANES];
    type Weights = [[bf16; 2]; LANES];
    type Row = [bf16; 2];
    const LANES: usize = LANES;
    const GROUP_BYTES: usize = 4;

    unsafe fn zero() -> Self::Sums {
        [0.0; LANES]
    }

    unsafe fn weights<const VECTORS: usize>(b: *const u8, vector: usize) -> Self::Weights {
        // SAFETY: as above.
        unsafe { b.cast::<Self::Weights>().add(vector).read_unaligned() }
    }

    unsafe fn row(a: *const u8) -> Self::Row {
        // SAFETY: as above.
        unsafe { a.cast::<Self::Row>().read_unaligned() }
    }

    unsafe fn add(mut sums: Self::Sums, row: Self::Row, weights: Self::Weights) -> Self::Sums {
        for (sum, weights) in sums.iter_mut().zip(weights) {
            *sum += row[0].to_f32() * weights[0].to_f32() + row[1].to_f32() * weights[1].to_f32();
        }
        sums
    }

    unsafe fn finish(sums: Self::Sums, tile: &Tile, row: usize, column: usize) {
        // SAFETY: as above.
        unsafe { put(sums, tile, row, column) }
    }
}

struct Fours;

impl Unit for Fours {
    type Sums = [i32; LANES];
    type Weights = [[i8; 4]; LANES];
    type Row = [u8; 4];
    const LANES: usize = LANES;
    const GROUP_BYTES: usize = 4;

    unsafe fn zero() -> Self::Sums {
        [0; LANES]
    }

    unsafe fn weights<const VECTORS: usize>(b: *const u8, vector: usize) -> Self::Weights {
        // SAFETY: as above.
        unsafe { b.cast::<Self::Weights>().add(vector).read_unaligned() }
    }

    unsafe fn row(a: *const u8) -> Self::Row {
        // SAFETY: as above.
        unsafe { a.cast::<Self::Row>().read_unaligned() }
    }

    unsafe fn add(mut sums: Self::Sums, row: Self::Row, weights: Self::Weights) -> Self::Sums {
        for (sum, weights) in sums.iter_mut().zip(weights) {
            *sum += row.iter().zip(weights).map(|(x, w)| i32::from(*x) * i32::from(w)).sum::<i32>();
        }
        sums
    }

    unsafe fn finish(sums: Self::Sums, tile: &Tile, row: usize, column: usize) {
        // SAFETY: as above.
        unsafe {
            let (scale, zero) = (*tile.row_scales.add(row), *tile.row_zeros.add(row));
            let mut values = [0.0; LANES];
            for (lane, (value, sum)) in values.iter_mut().zip(sums).enumerate() {
                let without = sum - zero * *tile.column_sums.add(column + lane);
                *value = without as f32 * scale * *tile.column_scales.add(column + lane);
            }
            put(values, tile, row, column);
        }
    }
}
