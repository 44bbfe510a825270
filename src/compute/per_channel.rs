//! Functions of each channel alone: a scale with a shift, and a slope for what is negative.

use candle_core::Tensor;

use super::Backend;
use super::layers::tensor;
use super::pixel_map::PixelMap;
use crate::error::{Error, Result};

/// `y = positive * max(x, 0) + negative * min(x, 0) + shift`, with numbers of its own for each channel.
#[derive(Debug)]
pub struct PerChannel(Parameters);

#[derive(Debug)]
enum Parameters {
    /// `positive`, `negative` and `shift`. Shape: `[channels]` each.
    Cpu([Vec<f32>; 3]),
    /// Shape: `[1, channels, 1, 1]` each.
    Device([Tensor; 3]),
}

impl PerChannel {
    /// A batch norm that no convolution can take in: one before a border of zeros. Shapes: `[channels]` both.
    ///
    /// # Errors
    /// The device has no room.
    pub fn affine(scale: Vec<f32>, shift: Vec<f32>, backend: &Backend) -> Result<Self> {
        Self::new([scale.clone(), scale, shift], backend)
    }

    /// `PReLU`: He et al. 2015, arXiv:1502.01852. Shape: `[channels]`.
    ///
    /// # Errors
    /// The device has no room.
    pub fn prelu(slope: Vec<f32>, backend: &Backend) -> Result<Self> {
        Self::new([vec![1.0; slope.len()], slope.clone(), vec![0.0; slope.len()]], backend)
    }

    fn new(parameters: [Vec<f32>; 3], backend: &Backend) -> Result<Self> {
        if backend.packs() {
            return Ok(Self(Parameters::Cpu(parameters)));
        }
        let [positive, negative, shift] = parameters.map(|values| {
            let shape = [1, values.len(), 1, 1];
            tensor(values, &shape, backend)
        });
        Ok(Self(Parameters::Device([positive?, negative?, shift?])))
    }

    /// Shape: `[b, h, w, channels]`, unchanged.
    ///
    /// # Errors
    /// `x` has other channels, or lies on another device.
    pub fn forward(&self, x: &PixelMap) -> Result<PixelMap> {
        let [_, _, w, c] = x.dims();
        let channels = match &self.0 {
            Parameters::Cpu([positive, ..]) => positive.len(),
            Parameters::Device([positive, ..]) => positive.elem_count(),
        };
        if channels != c || (x.on_cpu().is_some() != matches!(self.0, Parameters::Cpu(_))) {
            let error = candle_core::Error::msg(format!("a map of {c} channels for a function of {channels}"));
            return Err(Error::tensor("channels")(error));
        }
        let line = |image: &[f32], y: usize, out: &mut [f32]| {
            let Parameters::Cpu([positive, negative, shift]) = &self.0 else { return };
            let source = image.get(y * w * c..).unwrap_or_default();
            for (to, from) in out.chunks_exact_mut(c.max(1)).zip(source.chunks_exact(c.max(1))) {
                let factors = positive.iter().zip(negative).zip(shift);
                for ((to, x), ((positive, negative), shift)) in to.iter_mut().zip(from).zip(factors) {
                    *to = x * if *x > 0.0 { positive } else { negative } + shift;
                }
            }
        };
        x.lines(x.dims(), line, |x| {
            let Parameters::Device([positive, negative, shift]) = &self.0 else { candle_core::bail!("no tensors") };
            let above = x.relu()?.broadcast_mul(positive)?;
            let below = x.neg()?.relu()?.broadcast_mul(negative)?;
            (above - below)?.broadcast_add(shift)
        })
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn each_channel_has_numbers_of_its_own_wherever_it_lies() {
        let values: Vec<f32> = (0..24_i16).map(|n| f32::from(n) / 4.0 - 3.0).collect();
        let x = Tensor::from_vec(values.clone(), (2, 3, 2, 2), &Device::Cpu).unwrap();
        for backend in [Backend::cpu(), Backend::tensors_on_cpu()] {
            let map = PixelMap::from_channels(&x.to_dtype(backend.dtype()).unwrap()).unwrap();
            let affine = PerChannel::affine(vec![1.0, 2.0, -0.5], vec![0.0, 1.0, 0.25], &backend).unwrap();
            let prelu = PerChannel::prelu(vec![0.5, 0.0, -2.0], &backend).unwrap();
            let found = [&affine, &prelu].map(|function| function.forward(&map).unwrap().to_values().unwrap());
            for (at, (affine, prelu)) in found[0].iter().zip(&found[1]).enumerate() {
                let (image, pixel, channel) = (at / 12, at / 3 % 4, at % 3);
                let x = values[image * 12 + channel * 4 + pixel];
                let line = x * [1.0, 2.0, -0.5][channel] + [0.0, 1.0, 0.25][channel];
                let bent = if x > 0.0 { x } else { x * [0.5, 0.0, -2.0][channel] };
                assert!((affine - line).abs() < 1e-3 && (prelu - bent).abs() < 1e-3, "{x}: {affine} {prelu}");
            }
            let other = PerChannel::prelu(vec![0.5], &backend).unwrap();
            assert!(other.forward(&map).is_err());
        }
    }
}
