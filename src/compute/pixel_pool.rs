//! Pooling and joining of maps whose channels lie side by side.

use candle_core::{DType, Device, Tensor};
use rayon::prelude::*;

use super::buffers::Buffer;
use super::conv::with_values;
use super::pixel_conv::{Data, PixelMap};
use super::pool::pool_with_candle;
use crate::error::{Error, Result};

impl PixelMap {
    /// Shape: `[b, h, w, channels]`.
    pub fn dims(&self) -> [usize; 4] {
        self.dims
    }

    /// Every pixel a row, in reading order. Shape: -> `[b, h * w, channels]`.
    ///
    /// # Errors
    /// The device has no room.
    pub fn to_rows(&self) -> Result<Tensor> {
        let [b, h, w, c] = self.dims;
        self.to_tensor()?.reshape((b, h * w, c)).map_err(Error::tensor("map"))
    }

    /// Its numbers as 32-bit floats. Shape: -> `[b, h, w, channels]` flattened.
    ///
    /// # Errors
    /// The device fails.
    pub fn to_values(&self) -> Result<Vec<f32>> {
        match &self.data {
            Data::Cpu(_) => Ok(self.on_cpu().unwrap_or_default().to_vec()),
            Data::Device(x) => x
                .to_device(&Device::Cpu)
                .and_then(|x| x.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>())
                .map_err(Error::tensor("map")),
        }
    }

    /// The reverse of [`PixelMap::to_rows`]. Shape: `[b, h * w, channels]`.
    ///
    /// # Errors
    /// The rows do not fit.
    pub fn from_rows(rows: &Tensor, height: usize, width: usize) -> Result<Self> {
        let run = || {
            let (b, cells, c) = rows.dims3()?;
            if cells != height * width {
                candle_core::bail!("{cells} rows for a map of {height} x {width}");
            }
            let dims = [b, height, width, c];
            if !rows.device().is_cpu() {
                return Ok(Self { dims, data: Data::Device(rows.contiguous()?.reshape(dims.as_slice())?) });
            }
            let mut buffer = Buffer::of::<f32>(dims.iter().product());
            with_values(&rows.contiguous()?, |values| {
                buffer.slice_mut::<f32>().iter_mut().zip(values).for_each(|(to, from)| *to = *from);
            })?;
            Ok(Self { dims, data: Data::Cpu(buffer) })
        };
        run().map_err(Error::tensor("map"))
    }

    /// The largest value of each channel in windows of 3 x 3, two apart, with a border that never wins. Shape: -> `[b, h',
    /// w', channels]`, half the sides, rounded up.
    ///
    /// # Errors
    /// The device fails.
    pub fn max_pool(&self) -> Result<Self> {
        let [b, h, w, c] = self.dims;
        let dims = [b, h.div_ceil(2), w.div_ceil(2), c];
        let line = |image: &[f32], y: usize, out: &mut [f32]| {
            for (x, pixel) in out.chunks_exact_mut(c.max(1)).enumerate() {
                pixel.fill(f32::NEG_INFINITY);
                for source in
                    window(image, (h, w, c), (2 * y).saturating_sub(1)..2 * y + 2, (2 * x).saturating_sub(1)..2 * x + 2)
                {
                    pixel.iter_mut().zip(source).for_each(|(most, x)| *most = if *x > *most { *x } else { *most });
                }
            }
        };
        self.lines(dims, line, |x| pool_with_candle(x, 3, 2, 1))
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

    /// Every second pixel of every second line, the first one included. Shape: -> `[b, h', w', channels]`, half the sides,
    /// rounded up.
    ///
    /// # Errors
    /// The device fails.
    pub fn every_second(&self) -> Result<Self> {
        let [b, h, w, c] = self.dims;
        let dims = [b, h.div_ceil(2), w.div_ceil(2), c];
        let line = |image: &[f32], y: usize, out: &mut [f32]| {
            let source = image.get(2 * y * w * c..).unwrap_or_default().chunks(c.max(1)).step_by(2);
            out.chunks_exact_mut(c.max(1)).zip(source).for_each(|(pixel, source)| pixel.copy_from_slice(source));
        };
        self.lines(dims, line, |x| pool_with_candle(x, 1, 2, 0))
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

    /// On a CPU, its numbers where they lie.
    pub(super) fn on_cpu(&self) -> Option<&[f32]> {
        match &self.data {
            Data::Cpu(buffer) => buffer.slice::<f32>().get(..self.dims.iter().product()),
            Data::Device(_) => None,
        }
    }

    /// A map on a CPU from a function that sets all of its numbers; then on the device of `like`.
    pub(super) fn made(dims: [usize; 4], like: Option<&Self>, fill: impl FnOnce(&mut [f32])) -> Result<Self> {
        let mut buffer = Buffer::of::<f32>(dims.iter().product());
        fill(buffer.slice_mut::<f32>().get_mut(..dims.iter().product()).unwrap_or_default());
        let own = Self { dims, data: Data::Cpu(buffer) };
        let Some(Self { data: Data::Device(like), .. }) = like else { return Ok(own) };
        let moved = own.to_tensor()?.to_device(like.device()).and_then(|x| x.to_dtype(like.dtype()));
        Ok(Self { dims, data: Data::Device(moved.map_err(Error::tensor("map"))?) })
    }

    /// A map whose lines are each made of an image: `line` is given the image, the number of the line, and its pixels. Elsewhere
    /// than on a CPU `candle` does it, channel by channel.
    fn lines(
        &self,
        dims: [usize; 4],
        line: impl Fn(&[f32], usize, &mut [f32]) + Sync,
        candle: impl FnOnce(&Tensor) -> candle_core::Result<Tensor>,
    ) -> Result<Self> {
        let [b, h, w, c] = dims;
        let data = match &self.data {
            Data::Cpu(_) => {
                let mut out = Buffer::of::<f32>(dims.iter().product());
                let lines = out.slice_mut::<f32>().par_chunks_mut((w * c).max(1)).take(b * h).enumerate();
                lines.for_each(|(at, pixels)| line(self.image(at / h), at % h, pixels));
                Data::Cpu(out)
            }
            Data::Device(x) => {
                let run = || candle(&x.permute((0, 3, 1, 2))?.contiguous()?)?.permute((0, 2, 3, 1))?.contiguous();
                Data::Device(run().map_err(Error::tensor("pooling"))?)
            }
        };
        Ok(Self { dims, data })
    }
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
    use super::*;
    use crate::compute::{max_pool, upsample_twice};

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
            let most = pixels(&max_pool(&x, 3, 2, 1).unwrap());
            assert_eq!(both(&|map| map.max_pool().unwrap()), [most.clone(), most]);
            let twice = pixels(&upsample_twice(&x).unwrap());
            assert_eq!(both(&|map| map.upsample_twice().unwrap()), [twice.clone(), twice]);
            let [mean, other] = both(&|map| map.average_pool().unwrap());
            assert!(mean.iter().zip(&other).all(|(a, b)| (a - b).abs() < 1e-6) && mean.len() == other.len());
            let second = pixels(&max_pool(&x, 1, 2, 0).unwrap());
            assert_eq!(both(&|map| map.every_second().unwrap()), [second.clone(), second]);
            assert_eq!([&map, &on_device].map(|map| map.to_values().unwrap()), [pixels(&x), pixels(&x)]);
            let last = pixels(&x)[2 * h * w * 5 - 5..].to_vec();
            if h % 2 == 1 && w % 2 == 1 {
                assert_eq!(mean[mean.len() - 5..], last, "the last window has one pixel");
            }
            let joined = pixels(&Tensor::cat(&[&x, &x], 1).unwrap());
            assert_eq!(both(&|map| map.beside(map).unwrap()), [joined.clone(), joined]);
            let rows = map.to_rows().unwrap();
            assert_eq!(values(&PixelMap::from_rows(&rows, h, w).unwrap().to_tensor().unwrap()), pixels(&x));
            assert!(PixelMap::from_rows(&rows, h, w + 1).is_err());
        }
    }
}
