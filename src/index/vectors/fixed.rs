//! Vectors in fixed point: sixteen bits for each number, as two planes of eight.
//!
//! A scan reads the high plane alone, half of what half floats need; the low plane is read for the rows that can still be among
//! the best. Each row has its own step, after the collection's centre was taken away: CLIP's vectors have a few numbers that
//! are large in every image and would make the steps of all others coarse (`OpenAI` ViT-B/32: the high plane's error in a
//! cosine is 0.0005 with the centre taken away, 0.0016 without). Sixteen bits err less than the half floats they are made
//! from: 9e-6 against 9e-5 in the cosines of those vectors.

use super::kernel::LANES;

/// Steps from zero to a row's greatest number: as many as high numbers of -127 to 127 and low ones of -128 to 127 reach.
const STEPS: f32 = 127.0 * 256.0;
/// Sums of products of the kernels stay below; 32 bits hold 2,147,483,647.
const MOST_SUM: f64 = 2.1e9;
/// What rounding in f32 adds to a cosine at most, along any of the ways to compute it.
pub(super) const ROUNDING: f32 = 1e-5;

/// Length of rows with the zeros that kernels want behind them.
pub(super) fn padded(dim: usize) -> usize {
    dim.next_multiple_of(LANES).max(LANES)
}

/// What a row is multiplied with, and what its high plane leaves out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Scale {
    /// A number of the row is `centre + step * (256 * high + low)`.
    pub(super) step: f32,
    /// Length of the low plane's part, `|step * low|`, rounded up.
    pub(super) residual: f32,
    /// Length of the high plane's part, `|step * 256 * high|`, rounded up.
    pub(super) length: f32,
}

/// Puts a vector into the planes. Shapes: `vector` and `centre` `[dim]`, planes `[padded(dim)]`.
pub(super) fn encode(vector: &[f32], centre: &[f32], high: &mut [i8], low: &mut [i8]) -> Scale {
    // A number that is none would make all of its row's cosines none; a broken model's vector counts as the centre.
    let finite = vector.iter().all(|value| value.is_finite());
    let offset = |value: f32, centre: f32| if finite { value - centre } else { 0.0 };
    let most = vector.iter().zip(centre).map(|(v, c)| offset(*v, *c).abs()).fold(0.0_f32, f32::max);
    let step = (most / STEPS).max(f32::MIN_POSITIVE);
    let per_step = if most > 0.0 { STEPS / most } else { 0.0 };
    high.fill(0);
    low.fill(0);
    let (mut high_square, mut low_square) = (0_i32, 0_i32);
    for (((value, centre), high), low) in vector.iter().zip(centre).zip(high).zip(low) {
        // Shifted to positive numbers, cutting off is rounding; `round` is a call into the C library.
        let steps = (offset(*value, *centre) * per_step + (STEPS + 0.5)) as i32 - STEPS as i32;
        let upper = (steps + 128) >> 8;
        let lower = steps - (upper << 8);
        *high = upper as i8;
        *low = lower as i8;
        high_square += upper * upper;
        low_square += lower * lower;
    }
    let length = |square: i32, step: f32| (f64::from(square).sqrt() * f64::from(step) * 1.000_001) as f32;
    Scale { step, residual: length(low_square, step), length: length(high_square, step * 256.0) }
}

/// The inverse of [`encode`]. Shapes: planes `[padded(dim)]`, `centre` and `vector` `[dim]`.
pub(super) fn decode(step: f32, high: &[i8], low: &[i8], centre: &[f32], vector: &mut [f32]) {
    for (((value, centre), high), low) in vector.iter_mut().zip(centre).zip(high).zip(low) {
        *value = centre + step * (i32::from(*high) * 256 + i32::from(*low)) as f32;
    }
}

/// A query as the kernels take it.
#[derive(Debug, Clone)]
pub(super) struct Probe {
    /// The query in steps of `step`. Shape: `[padded(dim)]`.
    pub(super) steps: Vec<i16>,
    /// A cosine is about `centre + factor * row step * sum`.
    pub(super) factor: f32,
    /// Inner product with the centre.
    pub(super) centre: f32,
    /// The query's length, and that of what the steps leave out of it.
    length: f32,
    residual: f32,
}

impl Probe {
    /// Shapes: `query` and `centre` `[dim]`.
    pub(super) fn new(query: &[f32], centre: &[f32]) -> Self {
        let length = query.iter().map(|q| f64::from(*q).powi(2)).sum::<f64>().sqrt();
        let most = query.iter().fold(0.0_f64, |most, q| most.max(f64::from(q.abs())));
        // By Cauchy and Schwarz no sum of products, whole or in part, exceeds the product of both lengths.
        let longest_row = 127.0 * (query.len() as f64).sqrt();
        let step = (most / f64::from(i16::MAX)).max(length * longest_row / MOST_SUM).max(f64::MIN_POSITIVE);
        let mut steps = vec![0; padded(query.len())];
        let mut residual = 0.0;
        for (slot, value) in steps.iter_mut().zip(query) {
            let exact = f64::from(*value) / step;
            *slot = exact.round() as i16;
            residual += (exact - f64::from(*slot)).powi(2);
        }
        let centre = query.iter().zip(centre).map(|(q, c)| f64::from(*q) * f64::from(*c)).sum::<f64>();
        Self {
            steps,
            factor: (step * 256.0) as f32,
            centre: centre as f32,
            length: length as f32,
            residual: (residual.sqrt() * step) as f32,
        }
    }

    /// By how much the cosine from the high plane can differ from that of the whole row: at most `slope * row residual +
    /// base`, by Cauchy and Schwarz. Returns `(slope, base)`. `longest`: the greatest length of a row's high part.
    pub(super) fn error(&self, longest: f32) -> (f32, f32) {
        (self.length * 1.000_01, self.residual * longest * 1.000_01 + ROUNDING * self.length.max(1.0))
    }
}

#[cfg(test)]
mod tests {
    use half::f16;

    use super::*;
    use crate::index::calibration::dot;

    /// Unit vectors with a common part, two of whose numbers are large, as CLIP's have.
    fn vectors(count: usize, dim: usize) -> Vec<Vec<f32>> {
        let mut state = 3_u64;
        let mut draw = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1_u64 << 23) as f32 - 1.0
        };
        let make = |_| {
            let mut vector: Vec<f32> = (0..dim).map(|_| draw()).collect();
            vector[0] += 8.0;
            vector[dim / 2] -= 5.0;
            let norm = dot(&vector, &vector).sqrt();
            vector.iter().map(|value| value / norm).collect()
        };
        (0..count).map(make).collect()
    }

    fn mean(vectors: &[Vec<f32>], dim: usize) -> Vec<f32> {
        (0..dim).map(|i| vectors.iter().map(|v| v[i]).sum::<f32>() / vectors.len() as f32).collect()
    }

    #[test]
    fn fixed_point_errs_less_than_half_floats() {
        let dim = 512;
        let all = vectors(100, dim);
        let centre = mean(&all, dim);
        let (mut high, mut low, mut back) = (vec![0; dim], vec![0; dim], vec![0.0; dim]);
        let (mut fixed_error, mut half_error) = (0.0_f32, 0.0_f32);
        for vector in &all {
            let scale = encode(vector, &centre, &mut high, &mut low);
            decode(scale.step, &high, &low, &centre, &mut back);
            for query in &all[..10] {
                let halves: Vec<f32> = vector.iter().map(|v| f16::from_f32(*v).to_f32()).collect();
                fixed_error = fixed_error.max((dot(query, &back) - dot(query, vector)).abs());
                half_error = half_error.max((dot(query, &halves) - dot(query, vector)).abs());
            }
        }
        assert!(fixed_error < half_error && fixed_error < 2e-5, "{fixed_error} {half_error}");
    }

    #[test]
    fn the_high_plane_errs_within_its_bound_and_the_centre_makes_it_small() {
        for dim in [4, 65, 512] {
            let all = vectors(60, dim);
            let own = mean(&all, dim);
            let mut bounds = Vec::new();
            for centre in [vec![0.0; dim], own] {
                let wide = padded(dim);
                let (mut high, mut low, mut back) = (vec![0; wide], vec![0; wide], vec![0.0; dim]);
                let mut bound = 0.0_f32;
                for vector in &all {
                    let scale = encode(vector, &centre, &mut high, &mut low);
                    decode(scale.step, &high, &low, &centre, &mut back);
                    for query in &all[..8] {
                        let probe = Probe::new(query, &centre);
                        let sum: i64 = high.iter().zip(&probe.steps).map(|(a, b)| i64::from(*a) * i64::from(*b)).sum();
                        let near = probe.centre + probe.factor * scale.step * sum as f32;
                        let (slope, base) = probe.error(scale.length);
                        let most = slope * scale.residual + base;
                        assert!((near - dot(query, &back)).abs() <= most, "{dim}: {near} {}", dot(query, &back));
                        bound = bound.max(most);
                    }
                }
                bounds.push(bound);
            }
            assert!(dim < 512 || bounds[1] < bounds[0] / 2.0, "{dim}: {bounds:?}");
        }
    }

    #[test]
    fn extremes_stay_in_range() {
        for (vector, query) in [
            (vec![0.0; 64], vec![0.0; 64]),
            (vec![f32::NAN; 64], vec![1.0; 64]),
            (vec![1.0; 64], vec![1e-30; 64]),
            (vec![-1.0; 64], vec![1000.0; 64]),
        ] {
            let (mut high, mut low, mut back) = ([0; 64], [0; 64], [0.0; 64]);
            let scale = encode(&vector, &[0.0; 64], &mut high, &mut low);
            decode(scale.step, &high, &low, &[0.0; 64], &mut back);
            let probe = Probe::new(&query, &[0.0; 64]);
            let sum: i64 = high.iter().zip(&probe.steps).map(|(a, b)| i64::from(*a) * i64::from(*b)).sum();
            assert!(i32::try_from(sum).is_ok() && back.iter().all(|value| value.is_finite()));
            assert!(high.iter().all(|value| (-127..=127).contains(value)));
        }
        // A query of equal numbers has the greatest sums.
        for dim in [512, 1152, 4096] {
            let probe = Probe::new(&vec![(dim as f32).sqrt().recip(); dim], &vec![0.0; dim]);
            let sum: i64 = probe.steps.iter().map(|step| i64::from(*step) * 127).sum();
            assert!(i32::try_from(sum).is_ok() && probe.residual < 1e-4, "{dim}: {sum} {}", probe.residual);
        }
    }
}
