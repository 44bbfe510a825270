//! Boxes from a network's numbers.

use crate::geometry::XyxyPx;

/// Moves and scales a box: `deltas` are what to add to its centre, in sides, and the logarithms of what its sides are multiplied
/// with, all divided by `weights`. Source: torchvision 0.29, `models/detection/_utils.py`, `BoxCoder.decode_single`.
pub(super) fn decode(of: XyxyPx, deltas: [f32; 4], weights: [f32; 4]) -> XyxyPx {
    /// The most that a side grows by: `ln(1000 / 16)`.
    const MOST_GROWTH: f32 = 4.135_166_6;
    let (width, height) = (of.x1 - of.x0, of.y1 - of.y0);
    let (cx, cy) = (of.x0 + 0.5 * width, of.y0 + 0.5 * height);
    let [dx, dy, dw, dh] = [0, 1, 2, 3].map(|n| deltas[n] / weights[n]);
    let (cx, cy) = (dx * width + cx, dy * height + cy);
    let (width, height) = (dw.min(MOST_GROWTH).exp() * width, dh.min(MOST_GROWTH).exp() * height);
    XyxyPx { x0: cx - 0.5 * width, y0: cy - 0.5 * height, x1: cx + 0.5 * width, y1: cy + 0.5 * height }
}

/// Whether both sides have at least this length.
pub(super) fn is_at_least(of: &XyxyPx, side: f32) -> bool {
    of.x1 - of.x0 >= side && of.y1 - of.y0 >= side
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_box_moves_in_its_own_sides_and_grows_within_bounds() {
        let of = XyxyPx { x0: 10.0, y0: 20.0, x1: 30.0, y1: 60.0 };
        let same = decode(of, [0.0; 4], [10.0, 10.0, 5.0, 5.0]);
        assert!(same.iou(&of) > 0.999_999);
        let moved = decode(of, [5.0, -2.5, 5.0 * 2.0_f32.ln(), 0.0], [10.0, 10.0, 5.0, 5.0]);
        let expected = [10.0, 10.0, 50.0, 50.0];
        assert!(moved.to_array().iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-4), "{moved:?}");
        let grown = decode(of, [0.0, 0.0, 100.0, f32::INFINITY], [1.0; 4]);
        assert!((grown.width() / 20.0 - 62.5).abs() < 1e-3 && (grown.height() / 40.0 - 62.5).abs() < 1e-3);
        assert!(is_at_least(&of, 20.0) && !is_at_least(&of, 20.5));
    }
}
