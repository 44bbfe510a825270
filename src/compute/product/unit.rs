//! What a processor multiplies with, and the tile of a product that stays in its registers.

// A tile must end up inside the function that names the processor's features.
#![allow(clippy::inline_always)]

/// Number formats in which products are computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Number {
    /// 32-bit floats.
    F32,
    /// bfloat16 pairs, summed in 32-bit floats.
    Bf16,
    /// 16-bit integers of at most [`INT16_LEVELS`], summed in 32-bit integers over a block of the depth: as exact as
    /// bfloat16, and twice as fast as 32-bit floats where a processor has no bfloat16.
    Int16,
    /// 8-bit integers: unsigned activations, signed weights.
    Int8,
}

/// Largest magnitude of an [`Number::Int16`]: 512 products of two of them fit into a 32-bit sum.
pub(super) const INT16_LEVELS: i32 = 2047;

/// A part of a product: at most [`Kernel::rows`] rows of activations times [`Kernel::columns`] columns of weights, over one
/// block of the depth.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tile {
    /// Depth, in [`Kernel::group`]s.
    pub(super) steps: usize,
    /// The first row.
    pub(super) a: *const u8,
    /// Bytes from one row to the next.
    pub(super) a_stride: usize,
    /// The panel of weights: for each group, for each column, the group's values.
    pub(super) b: *const u8,
    /// What is multiplied after this panel, and is fetched into the cache on the way.
    pub(super) ahead: *const u8,
    /// Bytes of it for each group.
    pub(super) ahead_step: usize,
    /// The first sum.
    pub(super) c: *mut f32,
    /// Sums from one row to the next.
    pub(super) c_stride: usize,
    /// Whether the sums are set; otherwise they are added to.
    pub(super) first: bool,
    /// One for each row; unused by floats, as the next three.
    pub(super) row_scales: *const f32,
    /// One for each row: the integer that stands for zero.
    pub(super) row_zeros: *const i32,
    /// One for each column.
    pub(super) column_scales: *const f32,
    /// One for each column: its weights of this block, added up.
    pub(super) column_sums: *const i32,
}

/// Multiplies a tile.
///
/// # Safety
/// The processor has the kernel's features, and the pointers of the [`Tile`] reach over the rows, columns and groups that it
/// speaks of.
pub(super) type Multiply = unsafe fn(&Tile);

/// One way to multiply.
#[derive(Debug)]
pub(crate) struct Kernel {
    /// Features and format, for people: `avx2 int16`.
    pub(crate) name: &'static str,
    /// The format of both sides.
    pub(crate) number: Number,
    /// Columns of a tile.
    pub(crate) columns: usize,
    /// Values of the depth that are multiplied at once.
    pub(super) group: usize,
    /// Values of a group that lie side by side in a column of a panel.
    pub(super) part: usize,
    /// Most inputs in a block: their weights of one panel stay in the first-level cache, and integer sums cannot overflow.
    pub(super) block: usize,
    /// Unsigned levels of an activation, for [`Number::Int8`].
    pub(super) levels: u8,
    /// Values whose weights' magnitudes may sum to [`Kernel::most`] at most, because they are added up in 16 bits; 0 for
    /// no such limit. The weights that are meant are a pair of one part and the same pair of the next.
    pub(super) most: i32,
    /// For 1, 2, .. rows.
    pub(super) tiles: &'static [Multiply],
}

impl Kernel {
    /// Whether it has instructions of its own.
    pub(crate) fn is_fast(&self) -> bool {
        !self.name.starts_with("portable")
    }

    /// Most rows of a tile.
    pub(super) fn rows(&self) -> usize {
        self.tiles.len()
    }

    /// Bytes of a value.
    pub(super) fn bytes(&self) -> usize {
        match self.number {
            Number::F32 => 4,
            Number::Bf16 | Number::Int16 => 2,
            Number::Int8 => 1,
        }
    }

    /// Inputs in a block, for this many in all: blocks of about the same size, of whole groups.
    pub(super) fn block_of(&self, inputs: usize) -> usize {
        let blocks = inputs.div_ceil(self.block).max(1);
        inputs.div_ceil(blocks).next_multiple_of(self.group).max(self.group)
    }

    /// Whether sums are integers that scales turn into numbers.
    pub(super) fn is_integer(&self) -> bool {
        matches!(self.number, Number::Int16 | Number::Int8)
    }
}

/// Instructions that multiply and add; each function is a few instructions in the caller's registers.
///
/// # Safety
/// Of every function: the processor has the features of the implementation, and pointers reach as far as is said.
pub(super) trait Unit {
    /// Sums of [`Unit::LANES`] columns.
    type Sums: Copy;
    /// One group of the weights of as many columns.
    type Weights: Copy;
    /// One group of a row, in every lane.
    type Row: Copy;
    /// Columns of [`Unit::Sums`].
    const LANES: usize;
    /// Bytes of a group of one row or column.
    const GROUP_BYTES: usize;

    /// No sum yet.
    unsafe fn zero() -> Self::Sums;
    /// Reads one group of the columns of the vector with this number, in a panel of `VECTORS` of them.
    unsafe fn weights<const VECTORS: usize>(b: *const u8, vector: usize) -> Self::Weights;
    /// Reads `GROUP_BYTES` bytes.
    unsafe fn row(a: *const u8) -> Self::Row;
    /// Adds the products.
    unsafe fn add(sums: Self::Sums, row: Self::Row, weights: Self::Weights) -> Self::Sums;
    /// Scales sums where they are integers, and sets or adds `LANES` numbers at the tile's row and column.
    unsafe fn finish(sums: Self::Sums, tile: &Tile, row: usize, column: usize);
}

/// `ROWS` rows times `VECTORS` vectors of columns, all sums in registers.
///
/// # Safety
/// As [`Multiply`].
#[inline(always)]
pub(super) unsafe fn multiply<U: Unit, const VECTORS: usize, const ROWS: usize>(tile: &Tile) {
    // SAFETY: the caller vouches for the features and for the extent of the tile; nothing outside of it is touched.
    unsafe {
        let mut sums = [[U::zero(); VECTORS]; ROWS];
        let (mut a, mut b, mut ahead) = (tile.a, tile.b, tile.ahead);
        for _ in 0..tile.steps {
            fetch(ahead);
            ahead = ahead.wrapping_add(tile.ahead_step);
            let mut weights = [U::weights::<VECTORS>(b, 0); VECTORS];
            for (vector, weights) in weights.iter_mut().enumerate().skip(1) {
                *weights = U::weights::<VECTORS>(b, vector);
            }
            for (row, sums) in sums.iter_mut().enumerate() {
                let x = U::row(a.add(row * tile.a_stride));
                for (sums, weights) in sums.iter_mut().zip(weights) {
                    *sums = U::add(*sums, x, weights);
                }
            }
            a = a.add(U::GROUP_BYTES);
            b = b.add(VECTORS * U::LANES * U::GROUP_BYTES);
        }
        for (row, sums) in sums.iter().enumerate() {
            for (vector, sums) in sums.iter().enumerate() {
                U::finish(*sums, tile, row, vector * U::LANES);
            }
        }
    }
}

/// Asks for a line of memory; any address will do.
#[inline(always)]
fn fetch(address: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint, which faults nowhere; the instruction belongs to every processor of 64 bits.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(address.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

/// The functions of a kernel for 1, 2, .. rows, compiled with some features.
macro_rules! tiles {
    ($unit:ty, $vectors:literal, $features:literal, [$($rows:literal)+]) => {
        &[$({
            #[target_feature(enable = $features)]
            unsafe fn tile(tile: &crate::compute::product::unit::Tile) {
                // SAFETY: passed on to the caller.
                unsafe { crate::compute::product::unit::multiply::<$unit, $vectors, $rows>(tile) }
            }
            tile as crate::compute::product::unit::Multiply
        }),+]
    };
}

pub(super) use tiles;
