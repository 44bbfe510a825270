//! The tile registers of newer Xeons (AMX): 16 rows of 64 bytes each, and products of two of them.
//!
//! Weights lie as for the vectors of 512 bits: a group of the depth for each column of a panel is 4 bytes, and 16 such lines of
//! 16 columns are what the instructions take for the right side.
//!
//! Source: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 1, chapter 18; Linux,
//! Documentation/arch/x86/xstate.rst.

// Vectors are read from any address.
#![allow(clippy::inline_always, clippy::cast_ptr_alignment)]

use std::arch::asm;
use std::arch::x86_64::{__cpuid, __cpuid_count, _mm512_loadu_ps, _mm512_loadu_si512};
use std::sync::OnceLock;

use super::avx512::{put, put_without_zero};
use super::unit::{Kernel, Multiply, Number, Tile};

/// Columns of a tile of a product: two registers side by side.
const COLUMNS: usize = 32;
/// Rows of a register.
const REGISTER_ROWS: usize = 16;
/// Bytes from one line of a panel, and of the sums, to the next.
const LINE: usize = COLUMNS * 4;

/// bfloat16: 32 rows x 32 columns.
pub(super) static BF16: Kernel = Kernel {
    name: "amx bf16",
    number: Number::Bf16,
    columns: COLUMNS,
    group: 32,
    part: 2,
    block: 1024,
    levels: 0,
    most: 0,
    tiles: &TILES_BF16,
};

/// 8-bit integers: 32 rows x 32 columns.
pub(super) static INT8: Kernel = Kernel {
    name: "amx int8",
    number: Number::Int8,
    columns: COLUMNS,
    group: 64,
    part: 4,
    block: 1024,
    levels: 255,
    most: 0,
    tiles: &TILES_INT8,
};

/// What the processor has of it, and the system lets this process use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Has {
    pub bf16: bool,
    pub int8: bool,
}

/// Asks the processor and the system, once.
pub(super) fn has() -> Has {
    static HAS: OnceLock<Has> = OnceLock::new();
    *HAS.get_or_init(|| {
        const NONE: Has = Has { bf16: false, int8: false };
        const BF16_BIT: u32 = 22;
        const TILE_BIT: u32 = 24;
        const INT8_BIT: u32 = 25;
        if __cpuid(0).eax < 7 {
            return NONE;
        }
        let features = __cpuid_count(7, 0).edx;
        let bit = |bit: u32| features >> bit & 1 == 1;
        if !bit(TILE_BIT) || !is_permitted() {
            return NONE;
        }
        Has { bf16: bit(BF16_BIT), int8: bit(INT8_BIT) }
    })
}

/// The registers are 8 KiB, which Linux keeps for a process only when it asks.
#[cfg(target_os = "linux")]
fn is_permitted() -> bool {
    const REQUEST: libc::c_long = 0x1023; // ARCH_REQ_XCOMP_PERM
    const TILE_DATA: libc::c_long = 18; // XFEATURE_XTILE_DATA
    // SAFETY: changes nothing but what this process may use; a kernel that does not know it says so.
    unsafe { libc::syscall(libc::SYS_arch_prctl, REQUEST, TILE_DATA) == 0 }
}

#[cfg(not(target_os = "linux"))]
fn is_permitted() -> bool {
    false
}

/// What the registers hold: sums in 0 to 3 (two rows of two), rows in 4 and 5, weights in 6 and 7.
#[repr(C, align(64))]
struct Shapes([u8; 64]);

impl Shapes {
    /// For this many rows, 1 to 32.
    const fn of(rows: usize) -> Self {
        let upper = if rows < REGISTER_ROWS { rows } else { REGISTER_ROWS };
        let heights = [upper, upper, rows - upper, rows - upper, upper, rows - upper, REGISTER_ROWS, REGISTER_ROWS];
        let mut bytes = [0; 64];
        bytes[0] = 1; // the only palette
        let mut register = 0;
        while register < heights.len() {
            if heights[register] > 0 {
                bytes[16 + 2 * register] = 64;
                bytes[48 + register] = heights[register] as u8;
            }
            register += 1;
        }
        Self(bytes)
    }
}

/// Sums of a tile, as they leave the registers.
#[repr(C, align(64))]
struct Sums([u32; 2 * REGISTER_ROWS * COLUMNS]);

/// Multiplies a tile into `sums`, with one instruction for each product of two registers.
macro_rules! multiply {
    ($product:literal, $tile:ident, $rows:ident, $shapes:ident, $sums:ident) => {
        // The two halves are one block each, since nothing may touch the registers between their instructions.
        if $rows > REGISTER_ROWS {
            asm!(
                "ldtilecfg [{shapes}]",
                "tilezero tmm0",
                "tilezero tmm1",
                "tilezero tmm2",
                "tilezero tmm3",
                "test {steps}, {steps}",
                "jz 3f",
                "2:",
                "tileloadd tmm4, [{a} + {a_stride}*1]",
                "tileloadd tmm6, [{b} + {line}*1]",
                "prefetcht0 [{ahead}]",
                "prefetcht0 [{ahead} + 64]",
                "prefetcht0 [{ahead} + 128]",
                "prefetcht0 [{ahead} + 192]",
                concat!($product, " tmm0, tmm4, tmm6"),
                "tileloadd tmm7, [{b} + {line}*1 + 64]",
                "tileloadd tmm5, [{below} + {a_stride}*1]",
                concat!($product, " tmm1, tmm4, tmm7"),
                "prefetcht0 [{ahead} + 256]",
                "prefetcht0 [{ahead} + 320]",
                "prefetcht0 [{ahead} + 384]",
                "prefetcht0 [{ahead} + 448]",
                concat!($product, " tmm2, tmm5, tmm6"),
                "add {a}, 64",
                "add {below}, 64",
                "add {b}, 2048",
                "add {ahead}, {ahead_step}",
                concat!($product, " tmm3, tmm5, tmm7"),
                "dec {steps}",
                "jnz 2b",
                "3:",
                "tilestored [{sums} + {line}*1], tmm0",
                "tilestored [{sums} + {line}*1 + 64], tmm1",
                "tilestored [{sums} + {line}*1 + 2048], tmm2",
                "tilestored [{sums} + {line}*1 + 2112], tmm3",
                "tilerelease",
                shapes = in(reg) &raw const $shapes.0,
                steps = inout(reg) $tile.steps => _,
                a = inout(reg) $tile.a => _,
                below = inout(reg) $tile.a.wrapping_add(REGISTER_ROWS * $tile.a_stride) => _,
                a_stride = in(reg) $tile.a_stride,
                b = inout(reg) $tile.b => _,
                ahead = inout(reg) $tile.ahead => _,
                ahead_step = in(reg) $tile.ahead_step,
                line = in(reg) LINE,
                sums = in(reg) $sums,
                options(nostack)
            );
        } else {
            asm!(
                "ldtilecfg [{shapes}]",
                "tilezero tmm0",
                "tilezero tmm1",
                "test {steps}, {steps}",
                "jz 3f",
                "2:",
                "tileloadd tmm4, [{a} + {a_stride}*1]",
                "tileloadd tmm6, [{b} + {line}*1]",
                "prefetcht0 [{ahead}]",
                "prefetcht0 [{ahead} + 64]",
                "prefetcht0 [{ahead} + 128]",
                "prefetcht0 [{ahead} + 192]",
                concat!($product, " tmm0, tmm4, tmm6"),
                "tileloadd tmm7, [{b} + {line}*1 + 64]",
                "prefetcht0 [{ahead} + 256]",
                "prefetcht0 [{ahead} + 320]",
                "prefetcht0 [{ahead} + 384]",
                "prefetcht0 [{ahead} + 448]",
                "add {a}, 64",
                "add {b}, 2048",
                "add {ahead}, {ahead_step}",
                concat!($product, " tmm1, tmm4, tmm7"),
                "dec {steps}",
                "jnz 2b",
                "3:",
                "tilestored [{sums} + {line}*1], tmm0",
                "tilestored [{sums} + {line}*1 + 64], tmm1",
                "tilerelease",
                shapes = in(reg) &raw const $shapes.0,
                steps = inout(reg) $tile.steps => _,
                a = inout(reg) $tile.a => _,
                a_stride = in(reg) $tile.a_stride,
                b = inout(reg) $tile.b => _,
                ahead = inout(reg) $tile.ahead => _,
                ahead_step = in(reg) $tile.ahead_step,
                line = in(reg) LINE,
                sums = in(reg) $sums,
                options(nostack)
            );
        }
    };
}

/// A tile's product and what is done with its sums.
macro_rules! tile {
    ($name:ident, $product:literal, $load:ident, $finish:ident) => {
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]
        unsafe fn $name<const ROWS: usize>(tile: &Tile) {
            const { assert!(ROWS >= 1 && ROWS <= 2 * REGISTER_ROWS) };
            let shapes = const { Shapes::of(ROWS) };
            let mut sums = std::mem::MaybeUninit::<Sums>::uninit();
            let sums = sums.as_mut_ptr();
            // SAFETY: the caller vouches for the processor's features and for the extent of the tile: rows of 64 bytes for each
            // step, a panel of 2048. What is fetched ahead may be any address. The sums that are read were stored.
            unsafe {
                multiply!($product, tile, ROWS, shapes, sums);
                for row in 0..ROWS {
                    for column in (0..COLUMNS).step_by(16) {
                        let values = $load(sums.cast::<u32>().add(row * COLUMNS + column).cast());
                        $finish(values, tile, row, column);
                    }
                }
            }
        }
    };
}

tile!(brains, "tdpbf16ps", _mm512_loadu_ps, put);
tile!(fours, "tdpbusd", _mm512_loadu_si512, put_without_zero);

macro_rules! tiles {
    ($name:ident) => {
        [
            $name::<1>,
            $name::<2>,
            $name::<3>,
            $name::<4>,
            $name::<5>,
            $name::<6>,
            $name::<7>,
            $name::<8>,
            $name::<9>,
            $name::<10>,
            $name::<11>,
            $name::<12>,
            $name::<13>,
            $name::<14>,
            $name::<15>,
            $name::<16>,
            $name::<17>,
            $name::<18>,
            $name::<19>,
            $name::<20>,
            $name::<21>,
            $name::<22>,
            $name::<23>,
            $name::<24>,
            $name::<25>,
            $name::<26>,
            $name::<27>,
            $name::<28>,
            $name::<29>,
            $name::<30>,
            $name::<31>,
            $name::<32>,
        ]
    };
}

static TILES_BF16: [Multiply; 2 * REGISTER_ROWS] = tiles!(brains);
static TILES_INT8: [Multiply; 2 * REGISTER_ROWS] = tiles!(fours);
