//! Pooling and joining of maps whose channels lie side by side.

use candle_core::{DType, Tensor};
use rayon::prelude::*;

use super::buffers::Buffer;
use super::pixel_map::{Data, PixelMap};
use crate::error::{Error, Result};

impl PixelMap {
    /// The largest value of each channel in square windows, `stride` apart; a border of `padding` pixels never wins. Shape: ->
    /// `[b, h', w', channels]`, `h' = (h + 2 * padding - window) / stride + 1`.
    ///
    /// # Errors
    /// The map is smaller than a window, or the device fails.
    pub fn max_pool(&self, window: usize, stride: usize, padding: usize) -> Result<Self> {
        let [b, h, w, c] = self.dims;
        let side = |n: usize| (n + 2 * padding).checked_sub(window).map(|room| room / stride + 1);
        let (Some(out_h), Some(out_w)) = (side(h), side(w)) else {
            let error = candle_core::Error::msg(format!("a map of {h} x {w} is smaller than a window of {window}"));
            return Err(Error::tensor("max pooling")(error));
        };
        let range = |at: usize| (at * stride).saturating_sub(padding)..(at * stride + window).saturating_sub(padding);
        let line = |image: &[f32], y: usize, out: &mut [f32]| {
            for (x, pixel) in out.chunks_exact_mut(c.max(1)).enumerate() {
                pixel.fill(f32::NEG_INFINITY);
                for source in self::window(image, (h, w, c), range(y), range(x)) {
                    pixel.iter_mut().zip(source).for_each(|(most, x)| *most = if *x > *most { *x } else { *most });
                }
            }
        };
        self.lines([b, out_h, out_w, c], line, |x| pool_with_candle(x, window, stride, padding))
    }

    /// The mean of each channel in windows of 2 x 2, two apart; where a side is odd the last window has what there is. Shape:
    /// -> `[b, h', w', channels]`, half the sides, rounded up.
    ///
    /// # Errors
    /// The device fails.
    pub fn average_pool(&self) -> Result<Self> {
        let [b, h, w, c] = self.dims;
        let dims = [b, h.div_ceil(2), w.div_ceil(2), c];
        let line = |image: &[f32], y: usize, out: &mut [f32]| {
            for (x, pixel) in out.chunks_exact_mut(c.max(1)).enumerate() {
                pixel.fill(0.0);
                let mut count = 0.0;
                for source in window(image, (h, w, c), 2 * y..2 * y + 2, 2 * x..2 * x + 2) {
                    pixel.iter_mut().zip(source).for_each(|(sum, x)| *sum += x);
                    count += 1.0;
                }
                for sum in pixel.iter_mut() {
                    *sum /= count;
                }
            }
        };
        // A line that is there twice has the same mean.
        self.lines(dims, line, |x| {
            x.pad_with_same(2, 0, h % 2)?.pad_with_same(3, 0, w % 2)?.contiguous()?.avg_pool2d(2)
        })
    }

    /// The mean of each channel over all pixels. Shape: -> `[b, channels]`.
    ///
    /// # Errors
    /// The map is empty, or the device fails.
    pub fn mean(&self) -> Result<Tensor> {
        let rows = self.to_rows()?; // [b, h * w, channels]
        let mean = rows.to_dtype(DType::F32).and_then(|wide| wide.mean(1)?.to_dtype(rows.dtype()));
        mean.map_err(Error::tensor("average pooling"))
    }

    /// Every pixel four times: twice the height and width. Shape: -> `[b, 2 h, 2 w, channels]`.
    ///
    /// # Errors
    /// The device fails.
    pub fn upsample_twice(&self) -> Result<Self> {
        let [b, h, w, c] = self.dims;
        let line = |image: &[f32], y: usize, out: &mut [f32]| {
            let source = image.get(y / 2 * w * c..).unwrap_or_default();
            for (pair, pixel) in out.chunks_exact_mut((2 * c).max(1)).zip(source.chunks_exact(c.max(1))) {
                let (left, right) = pair.split_at_mut(c);
                left.copy_from_slice(pixel);
                right.copy_from_slice(pixel);
            }
        };
        self.lines([b, 2 * h, 2 * w, c], line, |x| x.upsample_nearest2d(2 * h, 2 * w))
    }

    /// The channels of another map of the same sides behind its own. Shape: -> `[b, h, w, channels + others]`.
    ///
    /// # Errors
    /// The sides differ.
    pub fn beside(&self, other: &Self) -> Result<Self> {
        let ([b, h, w, c], [.., more]) = (self.dims, other.dims);
        let run = || {
            if other.dims[..3] != self.dims[..3] {
                candle_core::bail!("maps of {:?} and {:?} side by side", self.dims, other.dims);
            }
            let dims = [b, h, w, c + more];
            let data = match (&self.data, &other.data) {
                (Data::Device(x), Data::Device(y)) => Data::Device(Tensor::cat(&[x, y], 3)?),
                (Data::Cpu(x), Data::Cpu(y)) => {
                    let mut out = Buffer::of::<f32>(dims.iter().product());
                    let pixels = out.slice_mut::<f32>().par_chunks_exact_mut((c + more).max(1)).take(b * h * w);
                    let (x, y) =
                        (x.slice::<f32>().par_chunks_exact(c.max(1)), y.slice::<f32>().par_chunks_exact(more.max(1)));
                    pixels.zip(x.zip(y)).with_min_len(256).for_each(|(pixel, (x, y))| {
                        let (first, second) = pixel.split_at_mut(c);
                        first.copy_from_slice(x);
                        second.copy_from_slice(y);
                    });
                    Data::Cpu(out)
                }
                _ => candle_core::bail!("maps lie on different devices"),
            };
            Ok(Self { dims, data })
        };
        run().map_err(Error::tensor("maps side by side"))
    }

    /// A map whose lines are each made of an image: `line` is given the image, the number of the line, and its pixels. Elsewhere
    /// than on a CPU `candle` does it, channel by channel.
    pub(super) fn lines(
        &self,
        dims: [usize; 4],
        line: impl Fn(&[f32], usize, &mut [f32]) + Sync,
        candle: impl FnOnce(&Tensor) -> candle_core::Result<Tensor>,
    ) -> Result<Self> {
        let [_, h, ..] = dims;
        let data = match &self.data {
            Data::Cpu(_) => Data::from_lines(dims, |at, pixels| line(self.image(at / h), at % h, pixels)),
            Data::Device(x) => {
                let run = || candle(&x.permute((0, 3, 1, 2))?.contiguous()?)?.permute((0, 2, 3, 1))?.contiguous();
                Data::Device(run().map_err(Error::tensor("pooling"))?)
            }
        };
        Ok(Self { dims, data })
    }
}

/// As [`PixelMap::max_pool`], with candle's operations, channel by channel. Shape: `[b, c, h, w]`.
fn pool_with_candle(x: &Tensor, window: usize, stride: usize, padding: usize) -> candle_core::Result<Tensor> {
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

/// The pixels of a window, as far as it lies in the image.
fn window(
    image: &[f32],
    (h, w, c): (usize, usize, usize),
    lines: std::ops::Range<usize>,
    columns: std::ops::Range<usize>,
) -> impl Iterator<Item = &[f32]> {
    let places =
        (lines.start..lines.end.min(h)).flat_map(move |y| (columns.start..columns.end.min(w)).map(move |x| (y, x)));
    places.filter_map(move |(y, x)| image.get((y * w + x) * c..(y * w + x + 1) * c))
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    fn values(x: &Tensor) -> Vec<f32> {
        x.flatten_all().unwrap().to_vec1().unwrap()
    }

    fn pixels(x: &Tensor) -> Vec<f32> {
        values(&x.permute((0, 2, 3, 1)).unwrap().contiguous().unwrap())
    }

    #[test]
    fn maps_are_pooled_and_joined_as_planes_are() {
        for (h, w) in [(6, 8), (7, 5), (1, 1)] {
            let x = Tensor::randn(0f32, 1., (2, 5, h, w), &Device::Cpu).unwrap();
            let map = PixelMap::from_channels(&x).unwrap();
            let on_device =
                PixelMap { dims: map.dims, data: Data::Device(x.permute((0, 2, 3, 1)).unwrap().contiguous().unwrap()) };
            let both = |of: &dyn Fn(&PixelMap) -> PixelMap| {
                [&map, &on_device].map(|map| values(&of(map).to_tensor().unwrap()))
            };
            for (window, stride, padding) in [(3, 2, 1), (5, 1, 2), (1, 2, 0), (3, 1, 1)] {
                let [most, other] = both(&|map| map.max_pool(window, stride, padding).unwrap());
                assert_eq!(most, other, "{window} {stride} {padding}");
            }
            let twice = pixels(&x.upsample_nearest2d(2 * h, 2 * w).unwrap());
            assert_eq!(both(&|map| map.upsample_twice().unwrap()), [twice.clone(), twice]);
            let [mean, other] = both(&|map| map.average_pool().unwrap());
            assert!(mean.iter().zip(&other).all(|(a, b)| (a - b).abs() < 1e-6) && mean.len() == other.len());
            let last = pixels(&x)[2 * h * w * 5 - 5..].to_vec();
            if h % 2 == 1 && w % 2 == 1 {
                assert_eq!(mean[mean.len() - 5..], last, "the last window has one pixel");
            }
            let joined = pixels(&Tensor::cat(&[&x, &x], 1).unwrap());
            assert_eq!(both(&|map| map.beside(map).unwrap()), [joined.clone(), joined]);
        }
    }

    #[test]
    fn a_window_takes_the_largest_value_inside_the_input() {
        let x = Tensor::from_vec((0..20u8).map(|n| -f32::from(n)).collect::<Vec<_>>(), (1, 1, 4, 5), &Device::Cpu);
        let map = PixelMap::from_channels(&x.unwrap()).unwrap();
        let same = map.max_pool(3, 1, 1).unwrap().to_values().unwrap();
        assert_eq!(same[..7], [0., 0., -1., -2., -3., 0., 0.]);
        assert_eq!(same.len(), 20);
        let half = map.max_pool(2, 2, 0).unwrap();
        assert_eq!((half.dims(), half.to_values().unwrap()), ([1, 2, 2, 1], vec![0., -2., -10., -12.]));
        assert!(map.max_pool(7, 1, 0).is_err());
    }
}
