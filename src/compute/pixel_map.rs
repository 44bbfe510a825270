//! Maps whose channels lie side by side: a pixel is a row.

use candle_core::{CpuStorage, DType, Device, Storage, Tensor};
use rayon::prelude::*;

use super::Backend;
use super::buffers::Buffer;
use super::layers::tensor;
use crate::error::{Error, Result};

/// A batch of maps whose channels lie side by side: `[b, h, w, channels]`. On a CPU it is working memory that the next map of its
/// size uses again; a tensor's would be fresh pages for every layer.
#[derive(Debug)]
pub struct PixelMap {
    pub(super) dims: [usize; 4],
    pub(super) data: Data,
}

#[derive(Debug)]
pub(super) enum Data {
    Cpu(Buffer),
    Device(Tensor),
}

impl Data {
    /// Memory on the CPU, filled line by line: `fill` is given the number of the line in the batch, and its pixels.
    pub(super) fn from_lines([b, h, w, c]: [usize; 4], fill: impl Fn(usize, &mut [f32]) + Sync) -> Self {
        let mut out = Buffer::of::<f32>(b * h * w * c);
        let lines = out.slice_mut::<f32>().par_chunks_mut((w * c).max(1)).take(b * h);
        lines.enumerate().for_each(|(line, pixels)| fill(line, pixels));
        Self::Cpu(out)
    }
}

impl PixelMap {
    /// A map that is filled line by line: `fill` is given the number of the line in the batch, and its pixels. Shape of `dims`:
    /// `[b, h, w, channels]`.
    ///
    /// # Errors
    /// The device has no room.
    pub fn from_lines(dims: [usize; 4], backend: &Backend, fill: impl Fn(usize, &mut [f32]) + Sync) -> Result<Self> {
        let made = Self { dims, data: Data::from_lines(dims, fill) };
        if backend.packs() {
            return Ok(made);
        }
        Ok(Self { dims, data: Data::Device(tensor(made.numbers().to_vec(), &dims, backend)?) })
    }

    /// Shape: `[b, channels, h, w]`.
    ///
    /// # Errors
    /// `x` is no map.
    pub fn from_channels(x: &Tensor) -> Result<Self> {
        let run = || {
            let (b, c, h, w) = x.dims4()?;
            let dims = [b, h, w, c];
            if !is_cpu_f32(x) {
                return Ok(Self { dims, data: Data::Device(x.permute((0, 2, 3, 1))?.contiguous()?) });
            }
            let data = with_values(&x.contiguous()?, |values| {
                Data::from_lines(dims, |line, pixels| {
                    let (image, y) = (line / h, line % h);
                    for channel in 0..c {
                        let start = ((image * c + channel) * h + y) * w;
                        let source = values.get(start..start + w).unwrap_or_default();
                        for (pixel, value) in pixels.chunks_exact_mut(c).zip(source) {
                            pixel[channel] = *value;
                        }
                    }
                })
            })?;
            Ok(Self { dims, data })
        };
        run().map_err(Error::tensor("map"))
    }

    /// Shape: -> `[b, h, w, channels]`.
    ///
    /// # Errors
    /// The device has no room.
    pub fn to_tensor(&self) -> Result<Tensor> {
        match &self.data {
            Data::Device(x) => Ok(x.clone()),
            Data::Cpu(_) => Tensor::from_vec(self.numbers().to_vec(), self.dims.as_slice(), &Device::Cpu)
                .map_err(Error::tensor("map")),
        }
    }

    /// Shape: `[b, h, w, channels]`.
    pub fn dims(&self) -> [usize; 4] {
        self.dims
    }

    /// Its numbers as 32-bit floats. Shape: -> `[b, h, w, channels]` flattened.
    ///
    /// # Errors
    /// The device fails.
    pub fn to_values(&self) -> Result<Vec<f32>> {
        self.with_numbers(<[f32]>::to_vec)
    }

    /// Runs `use_values` on the numbers, wherever they are. Shape: `[b, h, w, channels]` flattened.
    ///
    /// # Errors
    /// The device fails.
    pub fn with_numbers<T>(&self, use_values: impl FnOnce(&[f32]) -> T) -> Result<T> {
        match &self.data {
            Data::Cpu(_) => Ok(use_values(self.numbers())),
            Data::Device(x) => {
                let run = || x.to_device(&Device::Cpu)?.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>();
                Ok(use_values(&run().map_err(Error::tensor("map"))?))
            }
        }
    }

    /// Every pixel a row, in reading order. Shape: -> `[b, h * w, channels]`.
    ///
    /// # Errors
    /// The device has no room.
    pub fn to_rows(&self) -> Result<Tensor> {
        let [b, h, w, c] = self.dims;
        self.to_tensor()?.reshape((b, h * w, c)).map_err(Error::tensor("map"))
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
            if !is_cpu_f32(rows) {
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

    /// Shapes: of one image, `[h, w, channels]`; nothing where the map lies elsewhere than on the CPU.
    pub(super) fn image(&self, index: usize) -> &[f32] {
        let one = self.dims.iter().skip(1).product::<usize>();
        self.numbers().get(index * one..(index + 1) * one).unwrap_or_default()
    }

    /// All of it; nothing where the map lies elsewhere than on the CPU.
    fn numbers(&self) -> &[f32] {
        self.on_cpu().unwrap_or_default()
    }

    /// On a CPU, its numbers where they lie. Shape: `[b, h, w, channels]` flattened.
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
}

/// Whether it becomes working memory on the CPU.
fn is_cpu_f32(x: &Tensor) -> bool {
    x.device().is_cpu() && x.dtype() == DType::F32
}

/// Runs `use_values` on a contiguous CPU tensor's numbers, without a copy.
pub(crate) fn with_values<T>(tensor: &Tensor, use_values: impl FnOnce(&[f32]) -> T) -> candle_core::Result<T> {
    let (storage, layout) = tensor.storage_and_layout();
    let Storage::Cpu(CpuStorage::F32(values)) = &*storage else { candle_core::bail!("not f32 on a CPU") };
    match layout.contiguous_offsets().and_then(|(start, end)| values.get(start..end)) {
        Some(values) => Ok(use_values(values)),
        None => candle_core::bail!("not contiguous"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_and_channels_are_the_same_map_wherever_it_lies() {
        let x = Tensor::randn(0f32, 1., (2, 5, 3, 4), &Device::Cpu).unwrap();
        let pixels = x.permute((0, 2, 3, 1)).unwrap().contiguous().unwrap();
        let numbers = pixels.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let map = PixelMap::from_channels(&x).unwrap();
        assert_eq!(map.dims(), [2, 3, 4, 5]);
        assert_eq!(map.to_values().unwrap(), numbers);
        let rows = map.to_rows().unwrap();
        let again = PixelMap::from_rows(&rows, 3, 4).unwrap();
        assert_eq!(again.to_values().unwrap(), numbers);
        assert!(PixelMap::from_rows(&rows, 3, 5).is_err());
        let fill = |line: usize, out: &mut [f32]| out.copy_from_slice(&numbers[line * 20..][..20]);
        for (backend, tolerance) in [(Backend::cpu(), 0.0), (Backend::tensors_on_cpu(), 2e-3)] {
            let filled = PixelMap::from_lines([2, 3, 4, 5], &backend, fill).unwrap();
            let found = filled.to_values().unwrap();
            assert!(found.iter().zip(&numbers).all(|(a, b)| (a - b).abs() <= tolerance), "{}", backend.precision);
        }
    }
}
