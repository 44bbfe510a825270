//! Inverse DCT of one block, whole and reduced, equal to libjpeg's accurate integer method.
//!
//! A block lies in memory as the first pass wants it: the coefficients of two rows alternate, since one instruction
//! multiplies two neighbours and adds the products.
//!
//! Source: libjpeg, jidctint.c (after Loeffler, Ligtenberg and Moschytz, 1989) and jidctred.c.

#![allow(clippy::cast_ptr_alignment, reason = "the loads are unaligned ones")]

use std::arch::x86_64::{
    __m256i, _mm256_add_epi16, _mm256_add_epi32, _mm256_extract_epi32, _mm256_extract_epi64, _mm256_loadu_si256,
    _mm256_madd_epi16, _mm256_packs_epi32, _mm256_packus_epi16, _mm256_permute4x64_epi64, _mm256_set1_epi32,
    _mm256_setr_epi32, _mm256_shuffle_epi8, _mm256_shuffle_epi32, _mm256_slli_epi32, _mm256_srai_epi32,
    _mm256_sub_epi32, _mm256_unpackhi_epi32, _mm256_unpackhi_epi64, _mm256_unpacklo_epi32, _mm256_unpacklo_epi64,
};

/// Rows whose coefficients alternate.
const PAIRS: [[usize; 2]; 4] = [[0, 4], [2, 6], [7, 1], [3, 5]];

/// By zigzag position, the place in a block.
pub(super) const PLACE: [u8; 64] = places();

/// Fractional bits of the constants, and of what the first pass hands to the second.
const CONSTANT_BITS: i32 = 13;
const BETWEEN_BITS: i32 = 2;
/// A two-dimensional transform is eight times too large.
const SCALE_BITS: i32 = 3;
/// The middle grey, which the transform's zero stands for.
const MIDDLE: i32 = 128;

const fn places() -> [u8; 64] {
    let mut places = [0; 64];
    let (mut position, mut row, mut column) = (0, 0_usize, 0_usize);
    while position < 64 {
        let mut pair = 0;
        while PAIRS[pair][0] != row && PAIRS[pair][1] != row {
            pair += 1;
        }
        places[position] = (16 * pair + 2 * column) as u8 + (PAIRS[pair][1] == row) as u8;
        // Even diagonals run up and to the right, odd ones down and to the left.
        let (along, across, edge) =
            if (row + column).is_multiple_of(2) { (&mut column, &mut row, 7) } else { (&mut row, &mut column, 7) };
        if *along == edge {
            *across += 1;
        } else {
            *along += 1;
            *across = across.saturating_sub(1);
        }
        position += 1;
    }
    places
}

/// The sample of a block that has no AC coefficients.
pub(super) fn flat(dc: i16) -> u8 {
    (((i32::from(dc) + 4) >> SCALE_BITS) + MIDDLE).clamp(0, 255) as u8
}

/// Two factors for two neighbours.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn pair(first: i16, second: i16) -> __m256i {
    _mm256_set1_epi32((i32::from(second) << 16) | i32::from(first as u16))
}

#[inline]
#[target_feature(enable = "avx2")]
fn load(block: &[i16; 64]) -> [__m256i; 4] {
    let at = block.as_ptr().cast::<__m256i>();
    // SAFETY: 64 values of 16 bits are four times 256 bits, and unaligned loads ask for no more.
    unsafe { [0, 1, 2, 3].map(|place| _mm256_loadu_si256(at.add(place))) }
}

/// Eight points in each lane: rows 0 and 4, 2 and 6, 7 and 1, 3 and 5 to the eight results before the shift, `half` added.
#[inline]
#[target_feature(enable = "avx2")]
fn eight_points([a, b, c, d]: [__m256i; 4], half: i32) -> [__m256i; 8] {
    let (madd, add, sub) = (
        |x, first, second| _mm256_madd_epi16(x, pair(first, second)),
        |x, y| _mm256_add_epi32(x, y),
        |x, y| _mm256_sub_epi32(x, y),
    );
    let half = _mm256_set1_epi32(half);
    // Even part: rows 0, 2, 4, 6.
    let (sum, difference) = (add(madd(a, 8192, 8192), half), add(madd(a, 8192, -8192), half));
    let (low, high) = (madd(b, 10703, 4433), madd(b, 4433, -10704));
    let even = [add(sum, low), add(difference, high), sub(difference, high), sub(sum, low)];
    // Odd part.
    let z = _mm256_add_epi16(c, d); // rows 7 + 3, rows 1 + 5
    let (z3, z4) = (madd(z, -6436, 9633), madd(z, 9633, 6437));
    let odd = [
        add(madd(c, -7373, 4926), z4),
        add(madd(d, 4177, -20995), z3),
        add(madd(d, -20995, -4176), z4),
        add(madd(c, -4927, -7373), z3),
    ];
    [
        add(even[0], odd[0]),
        add(even[1], odd[1]),
        add(even[2], odd[2]),
        add(even[3], odd[3]),
        sub(even[3], odd[3]),
        sub(even[2], odd[2]),
        sub(even[1], odd[1]),
        sub(even[0], odd[0]),
    ]
}

/// Two rows of 32-bit values to 16 bits, one in each half, in the order of columns 0 4 2 6 7 1 3 5.
#[inline]
#[target_feature(enable = "avx2")]
fn pair_columns(row: __m256i, next: __m256i) -> __m256i {
    const ORDER: __m256i = bytes([0, 1, 8, 9, 4, 5, 12, 13, 14, 15, 2, 3, 6, 7, 10, 11]);
    _mm256_shuffle_epi8(rows(row, next), ORDER)
}

/// Two rows of 32-bit values to 16 bits, one in each half.
#[inline]
#[target_feature(enable = "avx2")]
fn rows(row: __m256i, next: __m256i) -> __m256i {
    _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packs_epi32(row, next))
}

/// The same 16 bytes in both halves.
const fn bytes(half: [u8; 16]) -> __m256i {
    // SAFETY: both types are 32 bytes of any value.
    unsafe { std::mem::transmute::<[[u8; 16]; 2], __m256i>([half, half]) }
}

/// All 8 x 8 samples, by rows.
#[target_feature(enable = "avx2")]
pub(super) fn whole(block: &[i16; 64]) -> [[u8; 8]; 8] {
    const FIRST: i32 = CONSTANT_BITS - BETWEEN_BITS;
    const SECOND: i32 = CONSTANT_BITS + BETWEEN_BITS + SCALE_BITS;
    const TRANSPOSE_4: __m256i = bytes([0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15]);
    let between = eight_points(load(block), 1 << (FIRST - 1)).map(|row| _mm256_srai_epi32::<FIRST>(row));
    let [r01, r23, r45, r67] = [0, 2, 4, 6].map(|row| pair_columns(between[row], between[row + 1]));
    // From here on each register holds columns, and its lanes rows 0 2 4 6, 1 3 5 7.
    let (low, high) = (_mm256_unpacklo_epi32(r01, r23), _mm256_unpacklo_epi32(r45, r67));
    let (a, b) = (_mm256_unpacklo_epi64(low, high), _mm256_unpackhi_epi64(low, high));
    let (low, high) = (_mm256_unpackhi_epi32(r01, r23), _mm256_unpackhi_epi32(r45, r67));
    let (c, d) = (_mm256_unpacklo_epi64(low, high), _mm256_unpackhi_epi64(low, high));
    let half = (1 << (SECOND - 1)) + (MIDDLE << SECOND);
    let columns = eight_points([a, b, c, d], half).map(|column| _mm256_srai_epi32::<SECOND>(column));
    let [left, right] = [0, 4].map(|at| {
        let first = _mm256_packs_epi32(columns[at], columns[at + 1]);
        let second = _mm256_packs_epi32(columns[at + 2], columns[at + 3]);
        _mm256_shuffle_epi8(_mm256_packus_epi16(first, second), TRANSPOSE_4)
    });
    let (upper, lower) = (_mm256_unpacklo_epi32(left, right), _mm256_unpackhi_epi32(left, right));
    [
        _mm256_extract_epi64::<0>(upper),
        _mm256_extract_epi64::<2>(upper),
        _mm256_extract_epi64::<1>(upper),
        _mm256_extract_epi64::<3>(upper),
        _mm256_extract_epi64::<0>(lower),
        _mm256_extract_epi64::<2>(lower),
        _mm256_extract_epi64::<1>(lower),
        _mm256_extract_epi64::<3>(lower),
    ]
    .map(i64::to_le_bytes)
}

/// 4 x 4 samples in place of 8 x 8, by rows.
#[target_feature(enable = "avx2")]
pub(super) fn half(block: &[i16; 64]) -> [[u8; 4]; 4] {
    const FIRST: i32 = CONSTANT_BITS - BETWEEN_BITS + 1;
    const SECOND: i32 = CONSTANT_BITS + BETWEEN_BITS + SCALE_BITS + 1;
    const COLUMNS: __m256i = bytes([0, 2, 4, 6, 1, 3, 5, 7, 0, 2, 4, 6, 1, 3, 5, 7]);
    let (add, sub) = (|x, y| _mm256_add_epi32(x, y), |x, y| _mm256_sub_epi32(x, y));
    let [a, b, c, d] = load(block);
    let madd = |x, first, second| _mm256_madd_epi16(x, pair(first, second));
    let first = add(madd(a, 16384, 0), _mm256_set1_epi32(1 << (FIRST - 1)));
    let second = madd(b, 15137, -6270);
    let inner = add(madd(c, -1730, 8697), madd(d, -17799, 11893));
    let outer = add(madd(c, -4176, 20995), madd(d, 7373, -4926));
    let (sum, difference) = (add(first, second), sub(first, second));
    let [r0, r1, r2, r3] = [add(sum, outer), add(difference, inner), sub(difference, inner), sub(sum, outer)]
        .map(|row| _mm256_srai_epi32::<FIRST>(row));
    let (r01, r23) = (pair_columns(r0, r1), pair_columns(r2, r3));
    // Lanes: rows 0 2 | 1 3 of columns 0 and 4, then of columns 2 and 6; the same of 7 and 1, 3 and 5.
    let (even, odd) = (_mm256_unpacklo_epi32(r01, r23), _mm256_unpackhi_epi32(r01, r23));
    let factors = |low: [i16; 2], high: [i16; 2]| {
        let word = |pair: [i16; 2]| (i32::from(pair[1]) << 16) | i32::from(pair[0] as u16);
        let (low, high) = (word(low), word(high));
        _mm256_setr_epi32(low, low, high, high, low, low, high, high)
    };
    let swap = |x| _mm256_shuffle_epi32::<0b01_00_11_10>(x);
    let even = _mm256_madd_epi16(even, factors([16384, 0], [15137, -6270]));
    let inner = _mm256_madd_epi16(odd, factors([-1730, 8697], [-17799, 11893]));
    let outer = _mm256_madd_epi16(odd, factors([-4176, 20995], [7373, -4926]));
    let (inner, outer) = (add(inner, swap(inner)), add(outer, swap(outer)));
    let half = _mm256_set1_epi32((1 << (SECOND - 1)) + (MIDDLE << SECOND));
    let (sum, difference) = (add(add(even, swap(even)), half), add(sub(even, swap(even)), half));
    // The lower half of each lane counts.
    let (c0, c1, c2, c3) = (add(sum, outer), add(difference, inner), sub(difference, inner), sub(sum, outer));
    let left = _mm256_srai_epi32::<SECOND>(_mm256_unpacklo_epi64(c0, c1));
    let right = _mm256_srai_epi32::<SECOND>(_mm256_unpacklo_epi64(c2, c3));
    let words = _mm256_packs_epi32(left, right);
    let samples = _mm256_shuffle_epi8(_mm256_packus_epi16(words, words), COLUMNS);
    [
        _mm256_extract_epi32::<0>(samples),
        _mm256_extract_epi32::<4>(samples),
        _mm256_extract_epi32::<1>(samples),
        _mm256_extract_epi32::<5>(samples),
    ]
    .map(i32::to_le_bytes)
}

/// 2 x 2 samples in place of 8 x 8, by rows.
#[target_feature(enable = "avx2")]
pub(super) fn quarter(block: &[i16; 64]) -> [[u8; 2]; 2] {
    const FIRST: i32 = CONSTANT_BITS - BETWEEN_BITS + 2;
    const SECOND: i32 = CONSTANT_BITS + BETWEEN_BITS + SCALE_BITS + 2;
    let (add, sub) = (|x, y| _mm256_add_epi32(x, y), |x, y| _mm256_sub_epi32(x, y));
    let [a, _, c, d] = load(block);
    let even = add(_mm256_slli_epi32::<1>(_mm256_madd_epi16(a, pair(16384, 0))), _mm256_set1_epi32(1 << (FIRST - 1)));
    let odd = add(_mm256_madd_epi16(c, pair(-5906, 29692)), _mm256_madd_epi16(d, pair(-10426, 6967)));
    let [r0, r1] = [add(even, odd), sub(even, odd)].map(|row| _mm256_srai_epi32::<FIRST>(row));
    let rows = rows(r0, r1);
    let word = |odd: i16| i32::from(odd) << 16;
    let (f1, f3, f5, f7) = (word(29692), word(-10426), word(6967), word(-5906));
    let odd = _mm256_madd_epi16(rows, _mm256_setr_epi32(f1, f3, f5, f7, f1, f3, f5, f7));
    let odd = add(odd, _mm256_shuffle_epi32::<0b01_00_11_10>(odd));
    let odd = add(odd, _mm256_shuffle_epi32::<0b10_11_00_01>(odd));
    // The first column, times 2 to the 15th.
    let even = _mm256_srai_epi32::<1>(_mm256_slli_epi32::<16>(rows));
    let even = add(even, _mm256_set1_epi32((1 << (SECOND - 1)) + (MIDDLE << SECOND)));
    let columns = _mm256_srai_epi32::<SECOND>(_mm256_unpacklo_epi32(add(even, odd), sub(even, odd)));
    let words = _mm256_packs_epi32(columns, columns);
    let samples = _mm256_packus_epi16(words, words);
    [_mm256_extract_epi32::<0>(samples), _mm256_extract_epi32::<4>(samples)].map(|row| (row as u16).to_le_bytes())
}
