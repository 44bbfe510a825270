//! Position embeddings for an input of another size than the one that they were learnt at.
//!
//! Source: `interpolate_pos_encoding` of both variants, and torch's `upsample_bicubic2d` and `_upsample_bicubic2d_aa`, which they
//! call by size: without registers a plain cubic, with registers one that is widened where positions become fewer.

use super::Dinov2Config;

/// The cubic's sharpness without and with widening, as torch has it.
const PLAIN: f64 = -0.75;
const WIDENED: f64 = -0.5;

/// The first place that is read, and the weights from there on.
type Taps = Vec<(usize, Vec<f32>)>;

/// Shapes: `[grid * grid, hidden]` -> `[rows * columns, hidden]` of the config's input, both flattened.
///
/// PARITY: torch adds in another order; numbers differ by some 1e-7.
pub(super) fn interpolate(positions: &[f32], config: &Dinov2Config) -> Vec<f32> {
    let (vision, (height, width)) = (&config.vision, config.input);
    let hidden = vision.tower.hidden_size;
    let grid = vision.image_size / vision.patch_size;
    let (rows, columns) = (height / vision.patch_size, width / vision.patch_size);
    // An oblong input with as many patches is another one.
    if rows * columns == grid * grid && height == width {
        return positions.to_vec();
    }
    let taps = |out: usize| if config.registers > 0 { widened(grid, out) } else { plain(grid, out) };
    let across = taps(columns);
    let mut lines = vec![0.0_f32; grid * columns * hidden];
    let wide = lines.chunks_mut((columns * hidden).max(1)).zip(positions.chunks((grid * hidden).max(1)));
    wide.for_each(|(out, line)| weigh(line, hidden, &across, out));
    let mut out = vec![0.0_f32; rows * columns * hidden];
    weigh(&lines, columns * hidden, &taps(rows), &mut out);
    out
}

/// Weighted sums of the pieces of `size` numbers that `from` consists of.
fn weigh(from: &[f32], size: usize, taps: &Taps, out: &mut [f32]) {
    for (out, (first, weights)) in out.chunks_mut(size.max(1)).zip(taps) {
        for (piece, weight) in from.chunks(size.max(1)).skip(*first).zip(weights) {
            out.iter_mut().zip(piece).for_each(|(sum, x)| *sum += weight * x);
        }
    }
}

/// Four places around each new one; beyond an end the last one counts again.
fn plain(len: usize, out: usize) -> Taps {
    let scale = len as f64 / out.max(1) as f64;
    let last = len.saturating_sub(1) as i64;
    let of = |place: usize| {
        let at = (place as f64 + 0.5) * scale - 0.5;
        let reached: Vec<(i64, f64)> =
            (-1..=2).map(|step| (at.floor() as i64 + step, cubic(at - at.floor() - step as f64, PLAIN))).collect();
        let clamped = |n: i64| n.clamp(0, last) as usize;
        let first = reached.first().map_or(0, |(n, _)| clamped(*n));
        let end = reached.last().map_or(0, |(n, _)| clamped(*n));
        let mut weights = vec![0.0_f32; end + 1 - first];
        for (n, weight) in reached {
            if let Some(sum) = weights.get_mut(clamped(n) - first) {
                *sum += weight as f32;
            }
        }
        (first, weights)
    };
    (0..out).map(of).collect()
}

/// All places under a cubic that is as wide as the step between new places.
fn widened(len: usize, out: usize) -> Taps {
    let scale = len as f64 / out.max(1) as f64;
    let width = scale.max(1.0);
    let of = |place: usize| {
        let centre = (place as f64 + 0.5) * scale;
        let first = (centre - 2.0 * width + 0.5).max(0.0) as usize;
        let end = ((centre + 2.0 * width + 0.5) as usize).min(len);
        let raw: Vec<f64> = (first..end).map(|n| cubic((n as f64 - centre + 0.5) / width, WIDENED)).collect();
        let sum: f64 = raw.iter().sum();
        (first, raw.into_iter().map(|weight| (weight / sum) as f32).collect())
    };
    (0..out).map(of).collect()
}

/// Keys' cubic.
fn cubic(distance: f64, a: f64) -> f64 {
    let x = distance.abs();
    if x < 1.0 {
        ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * a
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_add_up_to_one_and_stay_inside() {
        for (len, out) in [(37, 16), (16, 37), (5, 5), (1, 4), (4, 1), (37, 27)] {
            for taps in [plain(len, out), widened(len, out)] {
                assert_eq!(taps.len(), out);
                for (first, weights) in &taps {
                    assert!(first + weights.len() <= len, "{len} to {out}");
                    assert!((weights.iter().sum::<f32>() - 1.0).abs() < 1e-5, "{len} to {out}: {weights:?}");
                }
            }
        }
    }
}
