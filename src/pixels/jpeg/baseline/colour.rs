//! Chroma to the size of luma, and Y, Cb, Cr to RGB, equal to libjpeg.
//!
//! Source: libjpeg-turbo, jdsample.c ("fancy" upsampling, a triangle filter) and jdcolor.c.

#![expect(clippy::inline_always, reason = "inside a function with AVX2 the compiler may use it for what it inlines")]
#![allow(clippy::cast_ptr_alignment, reason = "the loads and stores are unaligned ones")]

use std::arch::x86_64::{
    __m128i, __m256i, _mm_loadu_si128, _mm_or_si128, _mm_shuffle_epi8, _mm_storeu_si128, _mm256_add_epi16,
    _mm256_add_epi32, _mm256_castsi256_si128, _mm256_cvtepu8_epi16, _mm256_madd_epi16, _mm256_mulhi_epi16,
    _mm256_packs_epi32, _mm256_packus_epi16, _mm256_permute4x64_epi64, _mm256_set1_epi16, _mm256_set1_epi32,
    _mm256_slli_epi16, _mm256_srai_epi16, _mm256_srai_epi32, _mm256_sub_epi16, _mm256_unpackhi_epi16,
    _mm256_unpacklo_epi16,
};

use super::idct::pair;

/// Twice as many samples in a row: each is three parts of its own and one of the neighbour's.
/// `near` has at least 3 samples, `wide` at least twice as many.
#[inline(always)]
pub(super) fn widen(near: &[u8], wide: &mut [u8]) {
    let last = near.len() - 1;
    let wide = wide.as_chunks_mut::<2>().0;
    for ((pair, own), sides) in wide[1..].iter_mut().zip(&near[1..last]).zip(near.windows(3)) {
        let own = 3 * u16::from(*own);
        *pair = [((own + u16::from(sides[0]) + 1) >> 2) as u8, ((own + u16::from(sides[2]) + 2) >> 2) as u8];
    }
    let sample = |at: usize| u16::from(near[at]);
    wide[0] = [near[0], ((3 * sample(0) + sample(1) + 2) >> 2) as u8];
    wide[last] = [((3 * sample(last) + sample(last - 1) + 1) >> 2) as u8, near[last]];
}

/// A row of twice as many samples between two rows, of which `near` is three times as near. `sums` is working space.
#[inline(always)]
pub(super) fn widen_between(near: &[u8], far: &[u8], sums: &mut [u16], wide: &mut [u8]) {
    for ((sum, near), far) in sums.iter_mut().zip(near).zip(far) {
        *sum = 3 * u16::from(*near) + u16::from(*far);
    }
    let sums = &sums[..near.len()];
    let last = near.len() - 1;
    let wide = wide.as_chunks_mut::<2>().0;
    for ((pair, own), sides) in wide[1..].iter_mut().zip(&sums[1..last]).zip(sums.windows(3)) {
        *pair = [((3 * own + sides[0] + 8) >> 4) as u8, ((3 * own + sides[2] + 7) >> 4) as u8];
    }
    wide[0] = [((4 * sums[0] + 8) >> 4) as u8, ((3 * sums[0] + sums[1] + 7) >> 4) as u8];
    wide[last] = [((3 * sums[last] + sums[last - 1] + 8) >> 4) as u8, ((4 * sums[last] + 7) >> 4) as u8];
}

/// Samples that are converted at once.
pub(super) const STEP: usize = 16;

/// A row of Y, Cb, Cr to RGB. All are padded to a multiple of [`STEP`] samples, `rgb` of three times as many.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn to_rgb(luma: &[u8], cb: &[u8], cr: &[u8], rgb: &mut [u8]) {
    let chroma = cb.as_chunks::<STEP>().0.iter().zip(cr.as_chunks::<STEP>().0);
    let luma = luma.as_chunks::<STEP>().0;
    for ((rgb, y), (cb, cr)) in rgb.as_chunks_mut::<{ 3 * STEP }>().0.iter_mut().zip(luma).zip(chroma) {
        let words = |samples: &[u8; STEP]| {
            // SAFETY: 16 bytes are read from an array of 16.
            _mm256_cvtepu8_epi16(unsafe { _mm_loadu_si128(samples.as_ptr().cast()) })
        };
        let middle = _mm256_set1_epi16(128);
        let (y, cb, cr) = (words(y), _mm256_sub_epi16(words(cb), middle), _mm256_sub_epi16(words(cr), middle));
        // 1.402 is 1 and 26345 / 65536; 1.772 is 2 less 14942 / 65536.
        let red = _mm256_add_epi16(_mm256_add_epi16(y, cr), part::<26345>(cr));
        let blue = _mm256_add_epi16(_mm256_add_epi16(y, _mm256_slli_epi16::<1>(cb)), part::<-14942>(cb));
        let green = _mm256_add_epi16(_mm256_sub_epi16(y, cr), green_part(cb, cr));
        interleave([red, green, blue].map(|words| low_bytes(words)), rgb);
    }
}

/// `x * FACTOR / 65536`, rounded.
#[inline]
#[target_feature(enable = "avx2")]
fn part<const FACTOR: i16>(x: __m256i) -> __m256i {
    // The high half of the doubled product has one bit more than is wanted, which rounds.
    let doubled = _mm256_mulhi_epi16(_mm256_slli_epi16::<1>(x), _mm256_set1_epi16(FACTOR));
    _mm256_srai_epi16::<1>(_mm256_add_epi16(doubled, _mm256_set1_epi16(1)))
}

/// What green loses to both, but for one whole `cr`: 0.34414 is 22554 / 65536, 0.71414 is 1 less 18734 / 65536.
#[inline]
#[target_feature(enable = "avx2")]
fn green_part(cb: __m256i, cr: __m256i) -> __m256i {
    let factors = pair(-22554, 18734);
    let rounded = |pairs| {
        let sum = _mm256_add_epi32(_mm256_madd_epi16(pairs, factors), _mm256_set1_epi32(1 << 15));
        _mm256_srai_epi32::<16>(sum)
    };
    _mm256_packs_epi32(rounded(_mm256_unpacklo_epi16(cb, cr)), rounded(_mm256_unpackhi_epi16(cb, cr)))
}

#[inline]
#[target_feature(enable = "avx2")]
fn low_bytes(words: __m256i) -> __m128i {
    _mm256_castsi256_si128(_mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packus_epi16(words, words)))
}

/// Three rows of 16 samples, alternating.
#[inline]
#[target_feature(enable = "avx2")]
fn interleave(channels: [__m128i; 3], rgb: &mut [u8; 3 * STEP]) {
    for (third, rgb) in rgb.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        let parts = [0, 1, 2].map(|channel| _mm_shuffle_epi8(channels[channel], load(&SPREAD[third][channel])));
        let samples = _mm_or_si128(_mm_or_si128(parts[0], parts[1]), parts[2]);
        // SAFETY: 16 bytes are written to an array of 16.
        unsafe { _mm_storeu_si128(rgb.as_mut_ptr().cast(), samples) };
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn load(bytes: &[u8; 16]) -> __m128i {
    // SAFETY: 16 bytes are read from an array of 16.
    unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
}

/// For each third of 48 bytes and each channel, which sample goes where; a high bit: none.
const SPREAD: [[[u8; 16]; 3]; 3] = {
    let mut spread = [[[0x80; 16]; 3]; 3];
    let mut at = 0;
    while at < 48 {
        spread[at / 16][at % 3][at % 16] = (at / 3) as u8;
        at += 1;
    }
    spread
};
