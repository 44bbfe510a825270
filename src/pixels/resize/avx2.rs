//! Both passes with AVX2, equal to the portable ones to the last bit.
//!
//! A weight has up to 24 bits, and the instruction that multiplies and adds pairs takes 16. So each weight is cut into a
//! low part of 15 bits and a high part; both sums are exact, and so is what they make together.

#![allow(clippy::cast_ptr_alignment, reason = "the loads and stores are unaligned ones")]

use std::arch::x86_64::{
    __m128i, __m256i, _mm_add_epi32, _mm_cvtsi128_si32, _mm_extract_epi32, _mm_loadu_si128, _mm_packs_epi32,
    _mm_packus_epi16, _mm_set1_epi32, _mm_srai_epi32, _mm256_add_epi32, _mm256_broadcastsi128_si256,
    _mm256_castsi256_si128, _mm256_extracti128_si256, _mm256_loadu_si256, _mm256_madd_epi16, _mm256_packs_epi32,
    _mm256_packus_epi16, _mm256_permutevar8x32_epi32, _mm256_set1_epi32, _mm256_setr_epi8, _mm256_setr_epi32,
    _mm256_setzero_si256, _mm256_shuffle_epi8, _mm256_slli_epi32, _mm256_srai_epi32, _mm256_storeu_si256,
    _mm256_unpackhi_epi8, _mm256_unpacklo_epi8,
};
use std::ops::Range;

use super::{Axis, CHANNELS, HALF, Plane, Samples, WEIGHT_BITS, filter_rows_portable};

/// Bits of the low part of a weight.
const LOW_BITS: i32 = 15;
/// Source pixels that are multiplied at once.
const GROUP: usize = 4;
/// Bytes that a load of [`GROUP`] pixels reads beyond them.
const BEYOND: usize = 16 - GROUP * CHANNELS;
/// Rows that share the loading of weights.
const TOGETHER: usize = 4;

/// Whether this processor has the instructions.
pub(super) fn available() -> bool {
    is_x86_feature_detected!("avx2")
}

/// The low and the high parts of two weights, as pairs.
fn split([first, second]: [i32; 2]) -> [i32; 2] {
    let pair = |first: i32, second: i32| (second << 16) | (first & 0xffff);
    let low = |weight: i32| weight & ((1 << LOW_BITS) - 1);
    [pair(low(first), low(second)), pair(first >> LOW_BITS, second >> LOW_BITS)]
}

/// A target column: where its groups start among all, how many they are, and its first source byte in a row.
struct Column {
    first_group: usize,
    groups: usize,
    byte: usize,
}

/// The `rows` of `source` with their columns filtered. The processor must have AVX2.
#[target_feature(enable = "avx2")]
pub(super) fn filter_columns(source: &Plane<'_>, rows: Range<usize>, axis: &Axis) -> Samples {
    let (mut columns, mut groups) = (Vec::with_capacity(axis.taps.len()), Vec::new());
    for taps in &axis.taps {
        let first_group = groups.len();
        for part in taps.weights.chunks(GROUP) {
            let weight = |place: usize| part.get(place).copied().unwrap_or(0);
            let (left, right) = (split([weight(0), weight(1)]), split([weight(2), weight(3)]));
            groups.push([left[0], right[0], left[1], right[1]]);
        }
        let byte = taps.start.saturating_sub(source.columns.start) * CHANNELS;
        columns.push(Column { first_group, groups: groups.len() - first_group, byte });
    }
    // Each pixel is stored with one byte too many, which the next one overwrites.
    let mut target = Samples::new(rows.len(), columns.len() * CHANNELS, columns.len() * CHANNELS + 1);
    let reach = columns.iter().map(|column| column.byte + column.groups * GROUP * CHANNELS + BEYOND).max().unwrap_or(0);
    let stride = target.stride;
    let mut padded = Vec::new();
    for (some, target) in rows.clone().step_by(TOGETHER).zip(target.bytes.chunks_mut(TOGETHER * stride)) {
        let count = target.len() / stride;
        // The last rows of the picture are copied, since loads reach past their end.
        let starts = [0, 1, 2, 3].map(|row: usize| source.start_of(some + row.min(count.saturating_sub(1))));
        let whole = starts.map(|start| source.samples.get(start..start + reach));
        let lines = if let [Some(a), Some(b), Some(c), Some(d)] = whole {
            [a, b, c, d]
        } else {
            padded.clear();
            padded.resize(TOGETHER * reach, 0);
            for (copy, start) in padded.chunks_mut(reach.max(1)).zip(starts) {
                let line = source.samples.get(start..source.samples.len().min(start + reach)).unwrap_or_default();
                copy.iter_mut().zip(line).for_each(|(to, from)| *to = *from);
            }
            let mut copies = padded.chunks(reach.max(1));
            [0; TOGETHER].map(|_| copies.next().unwrap_or_default())
        };
        for (x, column) in columns.iter().enumerate() {
            let weights = groups.get(column.first_group..column.first_group + column.groups).unwrap_or_default();
            let pixels = four_pixels(lines.map(|line| line.get(column.byte..).unwrap_or_default()), weights);
            for (row, pixel) in target.chunks_mut(stride).zip(pixels) {
                if let Some(place) = row.get_mut(x * CHANNELS..).and_then(<[u8]>::first_chunk_mut) {
                    *place = pixel;
                }
            }
        }
    }
    target
}

/// One column of four rows: RGB and a byte without meaning each.
#[inline]
#[target_feature(enable = "avx2")]
fn four_pixels(lines: [&[u8]; TOGETHER], weights: &[[i32; 4]]) -> [[u8; 4]; TOGETHER] {
    // 16-bit samples of two pixels side by side: red red, green green, blue blue; the other two in the upper half.
    let order = _mm256_setr_epi8(
        0, -1, 3, -1, 1, -1, 4, -1, 2, -1, 5, -1, -1, -1, -1, -1, 6, -1, 9, -1, 7, -1, 10, -1, 8, -1, 11, -1, -1, -1,
        -1, -1,
    );
    let (low_places, high_places) =
        (_mm256_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1), _mm256_setr_epi32(2, 2, 2, 2, 3, 3, 3, 3));
    let mut sums = [[_mm256_setzero_si256(); 2]; TOGETHER];
    assert!(lines.iter().all(|line| line.len() >= weights.len() * GROUP * CHANNELS + BEYOND));
    for (place, group) in weights.iter().enumerate() {
        // SAFETY: 16 bytes are read from four values of 4 bytes.
        let group = _mm256_broadcastsi128_si256(unsafe { _mm_loadu_si128(group.as_ptr().cast()) });
        let low = _mm256_permutevar8x32_epi32(group, low_places);
        let high = _mm256_permutevar8x32_epi32(group, high_places);
        for (sums, line) in sums.iter_mut().zip(lines) {
            // SAFETY: the assertion above says that 16 bytes follow the start of every group.
            let pixels = unsafe { _mm_loadu_si128(line.as_ptr().add(place * GROUP * CHANNELS).cast()) };
            let pixels = _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(pixels), order);
            sums[0] = _mm256_add_epi32(sums[0], _mm256_madd_epi16(pixels, low));
            sums[1] = _mm256_add_epi32(sums[1], _mm256_madd_epi16(pixels, high));
        }
    }
    let [a, b, c, d] = sums.map(|[low, high]| {
        let sum = whole(low, high);
        let sum = _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256::<1>(sum));
        _mm_srai_epi32::<{ WEIGHT_BITS as i32 }>(_mm_add_epi32(sum, _mm_set1_epi32(HALF)))
    });
    let pixels: __m128i = _mm_packus_epi16(_mm_packs_epi32(a, b), _mm_packs_epi32(c, d));
    [
        _mm_cvtsi128_si32(pixels),
        _mm_extract_epi32::<1>(pixels),
        _mm_extract_epi32::<2>(pixels),
        _mm_extract_epi32::<3>(pixels),
    ]
    .map(i32::to_le_bytes)
}

/// The sum of the low and the high parts; wraps only where the true sum would not fit into 32 bits either.
#[inline]
#[target_feature(enable = "avx2")]
fn whole(low: __m256i, high: __m256i) -> __m256i {
    _mm256_add_epi32(_mm256_slli_epi32::<LOW_BITS>(high), low)
}

/// Bytes of a row that are filtered at once.
const STRIP: usize = 32;

/// The target rows, over some `columns` of `source`. The processor must have AVX2.
#[target_feature(enable = "avx2")]
pub(super) fn filter_rows(source: &Plane<'_>, columns: Range<usize>, axis: &Axis) -> Samples {
    let width = columns.len() * CHANNELS;
    if width < STRIP {
        return filter_rows_portable(source, columns, axis);
    }
    let mut target = Samples::new(axis.taps.len(), width, width);
    let mut lines: Vec<&[u8]> = Vec::new();
    let mut weights: Vec<[i32; 2]> = Vec::new();
    for (taps, target) in axis.taps.iter().zip(target.bytes.chunks_mut(width)) {
        lines.clear();
        lines.extend((taps.start..).take(taps.weights.len()).map(|row| source.part(row, columns.clone())));
        if !lines.len().is_multiple_of(2) {
            lines.extend(lines.last().copied()); // Its weight is 0.
        }
        weights.clear();
        weights.extend(taps.weights.chunks(2).map(|two| split([two[0], two.get(1).copied().unwrap_or(0)])));
        for at in (0..width).step_by(STRIP) {
            // The last strip overlaps the one before it.
            let at = at.min(width - STRIP);
            if let Some(place) = target.get_mut(at..).and_then(<[u8]>::first_chunk_mut) {
                *place = strip(&lines, &weights, at);
            }
        }
    }
    target
}

#[inline]
#[target_feature(enable = "avx2")]
fn strip(lines: &[&[u8]], weights: &[[i32; 2]], at: usize) -> [u8; STRIP] {
    let zero = _mm256_setzero_si256();
    let mut sums = [[zero; 2]; 4];
    for (two, weights) in lines.as_chunks::<2>().0.iter().zip(weights) {
        let [Some(near), Some(far)] = two.map(|line| line.get(at..).and_then(<[u8]>::first_chunk::<STRIP>)) else {
            continue;
        };
        // SAFETY: 32 bytes are read from each of two arrays of 32.
        let (near, far) =
            unsafe { (_mm256_loadu_si256(near.as_ptr().cast()), _mm256_loadu_si256(far.as_ptr().cast())) };
        let (front, back) = (_mm256_unpacklo_epi8(near, far), _mm256_unpackhi_epi8(near, far));
        let pairs = [
            _mm256_unpacklo_epi8(front, zero),
            _mm256_unpackhi_epi8(front, zero),
            _mm256_unpacklo_epi8(back, zero),
            _mm256_unpackhi_epi8(back, zero),
        ];
        let (low, high) = (_mm256_set1_epi32(weights[0]), _mm256_set1_epi32(weights[1]));
        for (sums, pairs) in sums.iter_mut().zip(pairs) {
            sums[0] = _mm256_add_epi32(sums[0], _mm256_madd_epi16(pairs, low));
            sums[1] = _mm256_add_epi32(sums[1], _mm256_madd_epi16(pairs, high));
        }
    }
    let half = _mm256_set1_epi32(HALF);
    let [a, b, c, d] =
        sums.map(|[low, high]| _mm256_srai_epi32::<{ WEIGHT_BITS as i32 }>(_mm256_add_epi32(whole(low, high), half)));
    let bytes = _mm256_packus_epi16(_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d));
    let mut strip = [0; STRIP];
    // SAFETY: 32 bytes are written to an array of 32.
    unsafe { _mm256_storeu_si256(strip.as_mut_ptr().cast(), bytes) };
    strip
}
