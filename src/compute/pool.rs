//! Pooling and resampling of feature maps.

use candle_core::{DType, Tensor};
use rayon::prelude::*;

use super::conv::with_values;
use crate::error::{Error, Result};

/// The largest value in a square window, with step and padding as given; the padding never wins.
///
/// Shapes: `[b, c, h, w]` -> `[b, c, h', w']`, `h' = (h + 2 * padding - window) / stride + 1`.
///
/// # Errors
/// The input is smaller than the window.
pub fn max_pool(x: &Tensor, window: usize, stride: usize, padding: usize) -> Result<Tensor> {
    let run = || {
        let (b, c, h, w) = x.dims4()?;
        let side = |n: usize| (n + 2 * padding).checked_sub(window).map(|room| room / stride + 1);
        let (Some(out_h), Some(out_w)) = (side(h), side(w)) else {
            candle_core::bail!("a map of {h} x {w} is smaller than a window of {window}")
        };
        if !(x.device().is_cpu() && x.dtype() == DType::F32) {
            return pool_with_candle(x, window, stride, padding);
        }
        let x = x.contiguous()?;
        let mut out = vec![f32::NEG_INFINITY; b * c * out_h * out_w];
        with_values(&x, |values| {
            out.par_chunks_mut((out_h * out_w).max(1)).zip(values.par_chunks((h * w).max(1))).for_each(
                |(out, plane)| {
                    // First along the lines, then across them: a square window's maximum is separable.
                    let mut lines = vec![f32::NEG_INFINITY; h * out_w];
                    for (line, source) in lines.chunks_mut(out_w).zip(plane.chunks(w)) {
                        for (at, value) in line.iter_mut().enumerate() {
                            let from = (at * stride).saturating_sub(padding);
                            let to = (at * stride + window).saturating_sub(padding).min(w);
                            *value = source[from.min(to)..to].iter().copied().fold(f32::NEG_INFINITY, f32::max);
                        }
                    }
                    for (at, row) in out.chunks_mut(out_w).enumerate() {
                        let from = (at * stride).saturating_sub(padding);
                        let to = (at * stride + window).saturating_sub(padding).min(h);
                        for line in lines[from.min(to) * out_w..to * out_w].chunks(out_w) {
                            row.iter_mut().zip(line).for_each(|(most, value)| *most = most.max(*value));
                        }
                    }
                },
            );
        })?;
        Tensor::from_vec(out, (b, c, out_h, out_w), x.device())
    };
    run().map_err(Error::tensor("max pooling"))
}

/// As [`max_pool`], with candle's operations: where the tensor is.
pub(super) fn pool_with_candle(
    x: &Tensor,
    window: usize,
    stride: usize,
    padding: usize,
) -> candle_core::Result<Tensor> {
    let border = |x: &Tensor, dim: usize| {
        if padding == 0 {
            return Ok(x.clone());
        }
        let mut dims = x.dims().to_vec();
        if let Some(side) = dims.get_mut(dim) {
            *side = padding;
        }
        let edge = Tensor::full(f32::NEG_INFINITY, dims, x.device())?.to_dtype(x.dtype())?;
        Tensor::cat(&[&edge, x, &edge], dim)
    };
    border(&border(x, 2)?, 3)?.contiguous()?.max_pool2d_with_stride(window, stride)
}

/// Every value four times: twice the height and width, nearest neighbour. Shapes: `[b, c, h, w]` -> `[b, c, 2h, 2w]`.
///
/// # Errors
/// `x` is no map.
pub fn upsample_twice(x: &Tensor) -> Result<Tensor> {
    let run = || {
        let (_, _, h, w) = x.dims4()?;
        x.upsample_nearest2d(2 * h, 2 * w)
    };
    run().map_err(Error::tensor("upsampling"))
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn a_window_takes_the_largest_value_inside_the_input() {
        let x =
            Tensor::from_vec((0..20u8).map(|n| -f32::from(n)).collect::<Vec<_>>(), (1, 1, 4, 5), &Device::Cpu).unwrap();
        let same = max_pool(&x, 3, 1, 1).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(same[..7], [0., 0., -1., -2., -3., 0., 0.]);
        assert_eq!(same.len(), 20);
        let half = max_pool(&x, 2, 2, 0).unwrap();
        assert_eq!(half.dims(), [1, 1, 2, 2]);
        assert_eq!(half.flatten_all().unwrap().to_vec1::<f32>().unwrap(), [0., -2., -10., -12.]);
        assert!(max_pool(&x, 7, 1, 0).is_err());
    }

    #[test]
    fn candles_operations_pool_alike() {
        let x = Tensor::randn(0f32, 1., (2, 3, 9, 7), &Device::Cpu).unwrap();
        for (window, stride, padding) in [(3, 1, 1), (5, 1, 2), (3, 2, 1), (2, 2, 0)] {
            let expected = max_pool(&x, window, stride, padding).unwrap();
            let found = pool_with_candle(&x, window, stride, padding).unwrap();
            assert_eq!(found.dims(), expected.dims());
            let values = |x: &Tensor| x.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            assert_eq!(values(&found), values(&expected), "{window} {stride} {padding}");
        }
    }
}
