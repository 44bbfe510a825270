//! Inner products of rows of eight-bit numbers with queries of sixteen-bit numbers: the scan's innermost loop.
//!
//! Half a million rows of 512 numbers are 256 MB, so a scan takes as long as memory needs to deliver them; the kernels read
//! rows one after the other and fetch ahead. Integers add up to the same sum in every order, so all kernels agree to the bit.

use std::sync::OnceLock;

/// Rows and queries are padded with zeros to a multiple of this many numbers, a cache line of a row.
pub(super) const LANES: usize = 64;

/// Queries that are multiplied while a row is in registers; further ones read it from the cache.
const TOGETHER: usize = 3;

/// How far ahead of the row that is being multiplied the kernels ask for memory, bytes.
#[cfg(target_arch = "x86_64")]
const AHEAD: usize = 1024;

/// Rows that lie anywhere are asked for so many before their turn.
const SOON: usize = 4;

/// A way to multiply, by the processor's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kernel {
    /// What the compiler makes of a plain loop (NEON on ARM).
    Portable,
    /// 256-bit integers.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// 512-bit integers, multiplied and added in one instruction.
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Kernel {
    /// Those that this processor has, the fastest last.
    pub(super) fn available() -> Vec<Self> {
        let mut kernels = vec![Self::Portable];
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx2") {
                kernels.push(Self::Avx2);
            }
            if is_x86_feature_detected!("avx512bw") && is_x86_feature_detected!("avx512vnni") {
                kernels.push(Self::Avx512);
            }
        }
        kernels
    }

    /// The fastest that this processor has.
    pub(super) fn fastest() -> Self {
        static FASTEST: OnceLock<Kernel> = OnceLock::new();
        *FASTEST.get_or_init(|| Self::available().pop().unwrap_or(Self::Portable))
    }

    /// As [`Kernel::sums`], for rows that lie anywhere: `picked` are their numbers among `rows`, all of which are there.
    /// Shape of `sums`: `[queries, picked]`.
    pub(super) fn sums_of(self, rows: &[i8], dim: usize, picked: &[u32], queries: &[&[i16]], sums: &mut [i32]) {
        let count = picked.len();
        for (queries, sums) in queries.chunks(TOGETHER).zip(sums.chunks_mut((TOGETHER * count).max(1))) {
            match *queries {
                [a] => self.some_of(rows, dim, picked, [a], sums),
                [a, b] => self.some_of(rows, dim, picked, [a, b], sums),
                [a, b, c] => self.some_of(rows, dim, picked, [a, b, c], sums),
                _ => {}
            }
        }
    }

    /// The inner product of every row with every query. Shapes: `rows` `[n, dim]`, each query `[dim]`, `dim` a multiple of
    /// [`LANES`] -> `sums` `[queries, n]`. The caller sees to it that no sum leaves 32 bits.
    pub(super) fn sums(self, rows: &[i8], dim: usize, queries: &[&[i16]], sums: &mut [i32]) {
        let count = rows.len() / dim.max(1);
        for (queries, sums) in queries.chunks(TOGETHER).zip(sums.chunks_mut((TOGETHER * count).max(1))) {
            match *queries {
                [a] => self.some(rows, dim, [a], sums),
                [a, b] => self.some(rows, dim, [a, b], sums),
                [a, b, c] => self.some(rows, dim, [a, b, c], sums),
                _ => {}
            }
        }
    }

    fn some_of<const Q: usize>(self, rows: &[i8], dim: usize, picked: &[u32], queries: [&[i16]; Q], sums: &mut [i32]) {
        match self {
            Self::Portable => each_row(each_of(rows, dim, picked, |_| {}), sums, |row| portable(row, queries)),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `available` offers it only where the processor has AVX2.
            Self::Avx2 => unsafe { x86::avx2_of(rows, dim, picked, queries, sums) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `available` offers it only where the processor has AVX-512 BW and VNNI, and AVX-512 F with them.
            Self::Avx512 => unsafe { x86::avx512_of(rows, dim, picked, queries, sums) },
        }
    }

    fn some<const Q: usize>(self, rows: &[i8], dim: usize, queries: [&[i16]; Q], sums: &mut [i32]) {
        match self {
            Self::Portable => each_row(rows.chunks_exact(dim.max(1)), sums, |row| portable(row, queries)),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `available` offers it only where the processor has AVX2.
            Self::Avx2 => unsafe { x86::avx2(rows, dim, queries, sums) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `available` offers it only where the processor has AVX-512 BW and VNNI, and AVX-512 F with them.
            Self::Avx512 => unsafe { x86::avx512(rows, dim, queries, sums) },
        }
    }
}

/// The rows of these numbers; asks for the memory of the next row while one is worked on.
#[expect(clippy::inline_always, reason = "so that it is compiled with the caller's instructions")]
#[inline(always)]
fn each_of<'a>(
    rows: &'a [i8],
    dim: usize,
    picked: &'a [u32],
    fetch: impl Fn(*const i8) + 'a,
) -> impl Iterator<Item = &'a [i8]> + 'a {
    let row = move |number: u32| rows.get(number as usize * dim..(number as usize + 1) * dim).unwrap_or_default();
    let lines = move |number: u32| row(number).chunks_exact(LANES).for_each(|line| fetch(line.as_ptr()));
    for number in picked.iter().take(SOON) {
        lines(*number);
    }
    picked.iter().enumerate().map(move |(at, number)| {
        if let Some(soon) = picked.get(at + SOON) {
            lines(*soon);
        }
        row(*number)
    })
}

/// Stores what `multiply` makes of each row. Shape of `sums`: `[Q, n]`.
#[expect(clippy::inline_always, reason = "so that it is compiled with the caller's instructions")]
#[inline(always)]
fn each_row<'a, const Q: usize>(
    rows: impl Iterator<Item = &'a [i8]>,
    sums: &mut [i32],
    multiply: impl Fn(&[i8]) -> [i32; Q],
) {
    let count = sums.len() / Q;
    for (row, numbers) in rows.enumerate() {
        for (query, sum) in multiply(numbers).into_iter().enumerate() {
            if let Some(slot) = sums.get_mut(query * count + row) {
                *slot = sum;
            }
        }
    }
}

fn portable<const Q: usize>(row: &[i8], queries: [&[i16]; Q]) -> [i32; Q] {
    queries.map(|query| row.iter().zip(query).map(|(a, b)| i32::from(*a) * i32::from(*b)).sum())
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        __m256i, __m512i, _MM_HINT_T0, _mm_add_epi32, _mm_cvtsi128_si32, _mm_loadu_si128, _mm_prefetch,
        _mm_shuffle_epi32, _mm256_add_epi32, _mm256_castsi256_si128, _mm256_cvtepi8_epi16, _mm256_extracti128_si256,
        _mm256_loadu_si256, _mm256_madd_epi16, _mm256_setzero_si256, _mm512_add_epi32, _mm512_cvtepi8_epi16,
        _mm512_dpwssd_epi32, _mm512_loadu_si512, _mm512_reduce_add_epi32, _mm512_setzero_si512,
    };

    use super::{AHEAD, LANES, each_of, each_row};

    /// Asks for a line of memory; past the end of the rows it does nothing.
    #[allow(unused_unsafe, reason = "older compilers call the intrinsic unsafe")]
    #[inline]
    fn fetch(line: *const i8) {
        // SAFETY: a fetch ahead reads nothing, wherever it points, and every x86-64 processor knows it.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line) };
    }

    /// See [`super::Kernel::sums`].
    #[target_feature(enable = "avx2")]
    pub(super) fn avx2<const Q: usize>(rows: &[i8], dim: usize, queries: [&[i16]; Q], sums: &mut [i32]) {
        each_row(rows.chunks_exact(dim.max(1)), sums, |row| avx2_row::<Q, AHEAD>(row, queries));
    }

    /// See [`super::Kernel::sums_of`].
    #[target_feature(enable = "avx2")]
    pub(super) fn avx2_of<const Q: usize>(
        rows: &[i8],
        dim: usize,
        picked: &[u32],
        queries: [&[i16]; Q],
        sums: &mut [i32],
    ) {
        each_row(each_of(rows, dim, picked, fetch), sums, |row| avx2_row::<Q, 0>(row, queries));
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    fn avx2_row<const Q: usize, const FETCH: usize>(row: &[i8], queries: [&[i16]; Q]) -> [i32; Q] {
        const STEP: usize = 16;
        let queries = queries.map(|query| query.as_chunks::<LANES>().0);
        let mut sums = [[_mm256_setzero_si256(); LANES / STEP]; Q];
        for (at, numbers) in row.as_chunks::<LANES>().0.iter().enumerate() {
            if FETCH > 0 {
                fetch(numbers.as_ptr().wrapping_add(FETCH));
            }
            let parts: [__m256i; LANES / STEP] = std::array::from_fn(|part| {
                // SAFETY: `numbers` holds LANES bytes, the last part reads the last 16 of them.
                _mm256_cvtepi8_epi16(unsafe { _mm_loadu_si128(numbers.as_ptr().add(part * STEP).cast()) })
            });
            for (sums, query) in sums.iter_mut().zip(queries) {
                let Some(query) = query.get(at) else { continue };
                for (part, sum) in sums.iter_mut().enumerate() {
                    // SAFETY: `query` holds LANES numbers of 16 bits, the last part reads the last 16 of them.
                    let factors = unsafe { _mm256_loadu_si256(query.as_ptr().add(part * STEP).cast()) };
                    *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(parts[part], factors));
                }
            }
        }
        sums.map(|[a, b, c, d]| {
            let all = _mm256_add_epi32(_mm256_add_epi32(a, b), _mm256_add_epi32(c, d));
            let four = _mm_add_epi32(_mm256_castsi256_si128(all), _mm256_extracti128_si256::<1>(all));
            let two = _mm_add_epi32(four, _mm_shuffle_epi32::<0b01_00_11_10>(four));
            _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32::<0b10_11_00_01>(two)))
        })
    }

    /// See [`super::Kernel::sums`].
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    pub(super) fn avx512<const Q: usize>(rows: &[i8], dim: usize, queries: [&[i16]; Q], sums: &mut [i32]) {
        each_row(rows.chunks_exact(dim.max(1)), sums, |row| avx512_row::<Q, AHEAD>(row, queries));
    }

    /// See [`super::Kernel::sums_of`].
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    pub(super) fn avx512_of<const Q: usize>(
        rows: &[i8],
        dim: usize,
        picked: &[u32],
        queries: [&[i16]; Q],
        sums: &mut [i32],
    ) {
        each_row(each_of(rows, dim, picked, fetch), sums, |row| avx512_row::<Q, 0>(row, queries));
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    #[inline]
    fn avx512_row<const Q: usize, const FETCH: usize>(row: &[i8], queries: [&[i16]; Q]) -> [i32; Q] {
        const STEP: usize = 32;
        let queries = queries.map(|query| query.as_chunks::<LANES>().0);
        let mut sums = [[_mm512_setzero_si512(); LANES / STEP]; Q];
        for (at, numbers) in row.as_chunks::<LANES>().0.iter().enumerate() {
            if FETCH > 0 {
                fetch(numbers.as_ptr().wrapping_add(FETCH));
            }
            let parts: [__m512i; LANES / STEP] = std::array::from_fn(|part| {
                // SAFETY: `numbers` holds LANES bytes, the last part reads the last 32 of them.
                _mm512_cvtepi8_epi16(unsafe { _mm256_loadu_si256(numbers.as_ptr().add(part * STEP).cast()) })
            });
            for (sums, query) in sums.iter_mut().zip(queries) {
                let Some(query) = query.get(at) else { continue };
                for (part, sum) in sums.iter_mut().enumerate() {
                    // SAFETY: `query` holds LANES numbers of 16 bits, the last part reads the last 32 of them.
                    let factors = unsafe { _mm512_loadu_si512(query.as_ptr().add(part * STEP).cast()) };
                    *sum = _mm512_dpwssd_epi32(*sum, parts[part], factors);
                }
            }
        }
        sums.map(|[a, b]| _mm512_reduce_add_epi32(_mm512_add_epi32(a, b)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_kernels_give_the_sums_of_whole_numbers() {
        let mut state = 7_u64;
        let mut draw = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as i32 - (1 << 23)
        };
        for (dim, rows, queries) in [(64, 1, 1), (64, 0, 2), (512, 9, 2), (1152, 5, 3), (192, 7, 8), (128, 3, 0)] {
            // The extremes stand in the first row and query.
            let high: Vec<i8> = (0..rows * dim).map(|i| if i < dim { -127 } else { (draw() % 128) as i8 }).collect();
            let asked: Vec<Vec<i16>> = (0..queries)
                .map(|q| (0..dim).map(|_| if q == 0 { -14_000 } else { (draw() % 14_000) as i16 }).collect())
                .collect();
            let asked: Vec<&[i16]> = asked.iter().map(Vec::as_slice).collect();
            let exact = |row: &[i8], query: &[i16]| {
                row.iter().zip(query).map(|(a, b)| i64::from(*a) * i64::from(*b)).sum::<i64>()
            };
            let expected: Vec<i64> =
                asked.iter().flat_map(|query| high.chunks(dim).map(|row| exact(row, query))).collect();
            for kernel in Kernel::available() {
                let mut sums = vec![0; rows * queries];
                kernel.sums(&high, dim, &asked, &mut sums);
                let sums: Vec<i64> = sums.into_iter().map(i64::from).collect();
                assert_eq!(sums, expected, "{kernel:?}: {rows} x {dim}, {queries} queries");
                // The same rows the other way round, one by one.
                let picked: Vec<u32> = (0..rows as u32).rev().collect();
                let mut sums = vec![0; rows * queries];
                kernel.sums_of(&high, dim, &picked, &asked, &mut sums);
                let turned: Vec<i64> =
                    expected.chunks(rows.max(1)).flat_map(|sums| sums.iter().rev()).copied().collect();
                assert_eq!(sums.into_iter().map(i64::from).collect::<Vec<_>>(), turned, "{kernel:?}: {rows} x {dim}");
            }
        }
    }

    #[test]
    fn the_fastest_kernel_is_one_that_the_processor_has() {
        assert_eq!(Some(&Kernel::fastest()), Kernel::available().last());
    }
}
