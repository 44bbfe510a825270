//! Two-dimensional convolution: pointwise and dense ones as products with panels of pixels, depthwise ones directly.

// As in `activation`: loop bodies must end up inside the function that names the vectors.
#![allow(clippy::inline_always)]

use candle_core::{CpuStorage, Storage, Tensor};
use rayon::prelude::*;

use super::Backend;
use super::activation::{Activation, finish_plane, multiply_add};
use super::buffers::Apart;
use super::layers::{activate, tensor};
use super::product::{Kernel, Matrix, Number, Panels, kernel};
use super::simd::in_widest;
use crate::error::{Error, Result};

/// The numbers of a convolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConvShape {
    /// Input channels.
    pub inputs: usize,
    /// Output channels.
    pub outputs: usize,
    /// Side of the square kernel.
    pub kernel: usize,
    /// Step, both ways.
    pub stride: usize,
    /// Zeros around the input.
    pub padding: usize,
    /// Distance of the kernel's taps.
    pub dilation: usize,
    /// Groups; `inputs` of them for a depthwise convolution.
    pub groups: usize,
}

impl ConvShape {
    /// A convolution of `kernel` with "same" padding for odd kernels.
    pub fn new(inputs: usize, outputs: usize, kernel: usize, stride: usize) -> Self {
        Self { inputs, outputs, kernel, stride, padding: kernel / 2, dilation: 1, groups: 1 }
    }

    /// Side of the output for a side of the input.
    pub(super) fn output(&self, side: usize) -> usize {
        let reach = self.dilation * (self.kernel - 1) + 1;
        (side + 2 * self.padding).checked_sub(reach).map_or(0, |room| room / self.stride + 1)
    }

    /// Dimensions of the weight: `[outputs, inputs / groups, kernel, kernel]`.
    pub fn weight_dims(&self) -> [usize; 4] {
        [self.outputs, self.inputs / self.groups.max(1), self.kernel, self.kernel]
    }
}

/// A convolution with an optional bias.
#[derive(Debug)]
pub struct Conv2d {
    shape: ConvShape,
    weights: Weights,
}

/// The weights as the device wants them.
#[derive(Debug)]
enum Weights {
    Cpu { weight: Vec<f32>, bias: Option<Vec<f32>> },
    Device { weight: Tensor, bias: Option<Tensor> },
}

impl Conv2d {
    /// From the checkpoint's values. Shapes: `weight` `[outputs, inputs / groups, kernel, kernel]` flattened, `bias` `[outputs]`.
    ///
    /// # Errors
    /// The values do not fit the shape, or the device has no room for them.
    pub fn new(shape: ConvShape, weight: Vec<f32>, bias: Option<Vec<f32>>, backend: &Backend) -> Result<Self> {
        let fits = weight.len() == shape.weight_dims().iter().product::<usize>()
            && bias.as_ref().is_none_or(|bias| bias.len() == shape.outputs);
        let weights = if backend.packs() && fits {
            Weights::Cpu { weight, bias }
        } else {
            let weight = tensor(weight, &shape.weight_dims(), backend)?;
            Weights::Device { weight, bias: bias.map(|bias| tensor(bias, &[shape.outputs], backend)).transpose()? }
        };
        Ok(Self { shape, weights })
    }

    /// Shapes: `[b, inputs, h, w]` -> `[b, outputs, h', w']`.
    ///
    /// # Errors
    /// `x` has other channels, or is smaller than the kernel.
    pub fn forward(&self, x: &Tensor, activation: Option<Activation>) -> Result<Tensor> {
        self.compute(x, activation).map_err(Error::tensor("convolution"))
    }

    fn compute(&self, x: &Tensor, activation: Option<Activation>) -> candle_core::Result<Tensor> {
        let (b, c, h, w) = x.dims4()?;
        let (out_h, out_w) = (self.shape.output(h), self.shape.output(w));
        if c != self.shape.inputs || out_h == 0 || out_w == 0 {
            candle_core::bail!("an input of {c} channels and {h} x {w} does not fit {:?}", self.shape);
        }
        let (weight, bias) = match &self.weights {
            Weights::Cpu { weight, bias } => (weight, bias),
            Weights::Device { weight, bias } => {
                let ConvShape { stride, padding, dilation, groups, .. } = self.shape;
                let product = x.conv2d(weight, padding, stride, dilation, groups)?;
                let product = match bias {
                    Some(bias) => product.broadcast_add(&bias.reshape((1, (), 1, 1))?)?,
                    None => product,
                };
                return activate(product, activation);
            }
        };
        let x = x.contiguous()?;
        let mut out = vec![0.0_f32; b * self.shape.outputs * out_h * out_w];
        with_values(&x, |input| {
            let image = Image { shape: &self.shape, h, w, out_h, out_w, bias: bias.as_deref(), activation };
            let planes = out.chunks_mut((self.shape.outputs * out_h * out_w).max(1));
            for (out, input) in planes.zip(input.chunks((c * h * w).max(1))) {
                image.convolve(input, weight, out);
            }
        })?;
        Tensor::from_vec(out, (b, self.shape.outputs, out_h, out_w), x.device())
    }
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

/// Panels of pixels that a task packs at most: with a block of the depth they stay in the second-level cache.
const PANELS_PER_TASK: usize = 8;
/// Tasks that a thread should find.
const TASKS_PER_THREAD: usize = 4;

fn kernel_of_f32() -> &'static Kernel {
    kernel(Number::F32)
}

/// One image's convolution.
struct Image<'a> {
    shape: &'a ConvShape,
    h: usize,
    w: usize,
    out_h: usize,
    out_w: usize,
    /// Added to each output channel, and what follows: done while a tile is still in the cache.
    bias: Option<&'a [f32]>,
    activation: Option<Activation>,
}

impl Image<'_> {
    /// Shapes: `input` `[inputs, h, w]`, `out` `[outputs, out_h, out_w]`.
    fn convolve(&self, input: &[f32], weight: &[f32], out: &mut [f32]) {
        let ConvShape { inputs, outputs, groups, kernel, .. } = *self.shape;
        let pixels = self.out_h * self.out_w;
        if groups == inputs && groups == outputs {
            out.par_chunks_mut(pixels)
                .zip(input.par_chunks(self.h * self.w))
                .zip(weight.par_chunks(kernel * kernel))
                .enumerate()
                .for_each(|(channel, ((out, input), weight))| {
                    depthwise(self, input, weight, out);
                    self.finish(channel, out);
                });
            return;
        }
        let (group_in, group_out) = (inputs / groups, outputs / groups);
        let taps = group_in * kernel * kernel;
        let product = kernel_of_f32();
        let panels = pixels.div_ceil(product.columns);
        let tasks_of_group = (rayon::current_num_threads() * TASKS_PER_THREAD).div_ceil(groups).max(1);
        let per_task = panels.div_ceil(tasks_of_group).clamp(1, PANELS_PER_TASK) * product.columns;
        let tasks_of_group = pixels.div_ceil(per_task);
        let place = Apart::new(out);
        assert!(
            out.len() >= outputs * pixels && input.len() >= inputs * self.h * self.w,
            "a convolution's shapes do not fit"
        );
        (0..groups * tasks_of_group).into_par_iter().for_each(|task| {
            let (group, start) = (task / tasks_of_group, task % tasks_of_group * per_task);
            let width = per_task.min(pixels - start);
            let input = &input[group * group_in * self.h * self.w..(group + 1) * group_in * self.h * self.w];
            let weight = &weight[group * group_out * taps..(group + 1) * group_out * taps];
            let columns = Panels::filled(product, taps, width, |panel, numbers| {
                let first = start + panel * product.columns;
                self.unfold(input, first, product.columns.min(start + width - first), product.columns, numbers);
            });
            let out = place.at(group * group_out * pixels + start);
            // SAFETY: `width` pixels from `start` on, of the group's channels, which lie within `out`; no other task has them.
            unsafe { columns.multiply_at(Matrix::new(weight, taps), width, out, pixels) };
            for channel in 0..group_out {
                // SAFETY: as above.
                let values = unsafe { std::slice::from_raw_parts_mut(out.wrapping_add(channel * pixels), width) };
                self.finish(group * group_out + channel, values);
            }
        });
    }

    /// Bias and activation of some values of an output channel.
    fn finish(&self, channel: usize, values: &mut [f32]) {
        finish_plane(values, self.bias.and_then(|bias| bias.get(channel)).copied(), self.activation);
    }

    /// Lays the inputs of `count` output pixels out as columns, `width` apart; the rest of a line is zeros.
    ///
    /// Shapes: `input` `[channels, h, w]` -> `columns` `[channels * kernel * kernel, width]`.
    fn unfold(&self, input: &[f32], start: usize, count: usize, width: usize, columns: &mut [f32]) {
        let kernel = self.shape.kernel;
        let lines = columns.chunks_exact_mut(width * kernel * kernel).zip(input.chunks_exact(self.h * self.w));
        for (taps, plane) in lines {
            for (tap, line) in taps.chunks_exact_mut(width).enumerate() {
                let (filled, rest) = line.split_at_mut(count);
                rest.fill(0.0);
                self.tap(plane, start, (tap / kernel, tap % kernel), filled);
            }
        }
    }

    /// What one tap of the kernel sees at some output pixels. Shapes: `plane` `[h, w]` -> `line` `[pixels]`.
    fn tap(&self, plane: &[f32], start: usize, (dy, dx): (usize, usize), line: &mut [f32]) {
        let ConvShape { kernel, stride, padding, dilation, .. } = *self.shape;
        if kernel == 1 && stride == 1 && padding == 0 {
            line.copy_from_slice(&plane[start..start + line.len()]);
            return;
        }
        let (dy, dx) = (dy * dilation, dx * dilation);
        let mut at = 0;
        while at < line.len() {
            let (y, x) = ((start + at) / self.out_w, (start + at) % self.out_w);
            let run = (self.out_w - x).min(line.len() - at);
            let target = &mut line[at..at + run];
            at += run;
            let Some(source_y) = (y * stride + dy).checked_sub(padding).filter(|y| *y < self.h) else {
                target.fill(0.0);
                continue;
            };
            let source = &plane[source_y * self.w..(source_y + 1) * self.w];
            if stride == 1 {
                // Column x reads x + dx - padding: zeros, a run of the line, zeros.
                let left = padding.saturating_sub(x + dx).min(run);
                let from = (x + left + dx).saturating_sub(padding).min(self.w);
                let inside = (self.w - from).min(run - left);
                target[..left].fill(0.0);
                target[left..left + inside].copy_from_slice(&source[from..from + inside]);
                target[left + inside..].fill(0.0);
            } else {
                for (offset, value) in target.iter_mut().enumerate() {
                    let at = ((x + offset) * stride + dx).checked_sub(padding);
                    *value = at.and_then(|at| source.get(at)).copied().unwrap_or(0.0);
                }
            }
        }
    }

    #[inline(always)]
    fn depthwise_body<const FUSED: bool>(&self, input: &[f32], weight: &[f32], out: &mut [f32]) {
        let ConvShape { kernel, stride, padding, dilation, .. } = *self.shape;
        let plain = kernel == 3 && stride == 1 && dilation == 1 && padding == 1 && self.w > 2;
        for (y, out) in out.chunks_mut(self.out_w).enumerate() {
            for dy in 0..kernel {
                let Some(source_y) = (y * stride + dy * dilation).checked_sub(padding).filter(|y| *y < self.h) else {
                    continue;
                };
                let line = &input[source_y * self.w..(source_y + 1) * self.w];
                let row = &weight[dy * kernel..(dy + 1) * kernel];
                if plain {
                    three_taps::<FUSED>(line, row, out);
                } else {
                    self.one_by_one::<FUSED>(line, row, out);
                }
            }
        }
    }

    /// Adds one line's taps, each in a pass of its own.
    #[inline(always)]
    fn one_by_one<const FUSED: bool>(&self, line: &[f32], row: &[f32], out: &mut [f32]) {
        let ConvShape { stride, padding, dilation, .. } = *self.shape;
        for (dx, factor) in row.iter().enumerate() {
            let shift = dx * dilation;
            // The outputs whose input lies in the line: x * stride + shift - padding in 0..w.
            let first = padding.saturating_sub(shift).div_ceil(stride);
            let past = (self.w + padding).saturating_sub(shift).div_ceil(stride).min(self.out_w);
            if first >= past {
                continue;
            }
            let from = first * stride + shift - padding;
            let out = &mut out[first..past];
            if stride == 1 {
                for (out, value) in out.iter_mut().zip(&line[from..]) {
                    *out = multiply_add::<FUSED>(*factor, *value, *out);
                }
            } else {
                for (out, value) in out.iter_mut().zip(line[from..].iter().step_by(stride)) {
                    *out = multiply_add::<FUSED>(*factor, *value, *out);
                }
            }
        }
    }
}

in_widest! {
    /// One channel with its own kernel, in the widest vectors of this processor.
    ///
    /// Shapes: `input` `[h, w]`, `weight` `[kernel * kernel]`, `out` `[out_h, out_w]`.
    fn depthwise(image: &Image<'_>, input: &[f32], weight: &[f32], out: &mut [f32]) = depthwise_body
}

#[inline(always)]
fn depthwise_body<const FUSED: bool>(image: &Image<'_>, input: &[f32], weight: &[f32], out: &mut [f32]) {
    image.depthwise_body::<FUSED>(input, weight, out);
}

/// Adds a line under a row of three taps with one zero on either side, in one pass.
///
/// Shapes: `line` and `out` `[w]`, w at least 3; `row` `[3]`.
#[inline(always)]
fn three_taps<const FUSED: bool>(line: &[f32], row: &[f32], out: &mut [f32]) {
    let (&[left, middle, right], Some(inner)) = (row, line.len().checked_sub(2)) else { return };
    if let ([first, .., last], [a, b, ..], [.., y, z]) = (&mut *out, line, line) {
        *first += middle * a + right * b;
        *last += left * y + middle * z;
    }
    let lines = line.iter().zip(&line[1..]).zip(&line[2..]);
    for (out, ((a, b), c)) in out[1..=inner].iter_mut().zip(lines) {
        let sum = multiply_add::<FUSED>(left, *a, *out);
        *out = multiply_add::<FUSED>(right, *c, multiply_add::<FUSED>(middle, *b, sum));
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;

    fn values(x: &Tensor) -> Vec<f32> {
        x.flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn every_kind_of_convolution_equals_the_general_one() {
        for (inputs, outputs, kernel, stride, padding, dilation, groups) in [
            (5, 7, 1, 1, 0, 1, 1),
            (3, 8, 3, 1, 1, 1, 1),
            (3, 8, 3, 2, 1, 1, 1),
            (4, 4, 3, 1, 1, 1, 4),
            (4, 4, 5, 2, 2, 1, 4),
            (6, 9, 3, 1, 1, 1, 3),
            (3, 4, 7, 2, 3, 1, 1),
            (2, 3, 3, 1, 2, 2, 1),
            (4, 4, 3, 1, 0, 1, 4),
            (3, 2, 1, 2, 0, 1, 1),
        ] {
            let shape = ConvShape { inputs, outputs, kernel, stride, padding, dilation, groups };
            let x = Tensor::randn(0f32, 1.0, (2, inputs, 37, 29), &Device::Cpu).unwrap();
            let weight = Tensor::randn(0f32, 1.0, &shape.weight_dims()[..], &Device::Cpu).unwrap();
            let bias: Vec<f32> = (0..outputs).map(|n| n as f32).collect();
            let conv = Conv2d::new(shape, values(&weight), Some(bias.clone()), &Backend::cpu()).unwrap();
            let expected = x.conv2d(&weight, padding, stride, dilation, groups).unwrap();
            let bias = Tensor::from_vec(bias, (1, outputs, 1, 1), &Device::Cpu).unwrap();
            let expected = expected.broadcast_add(&bias).unwrap().relu().unwrap();
            let found = conv.forward(&x, Some(Activation::Relu)).unwrap();
            assert_eq!(found.dims(), expected.dims(), "{shape:?}");
            let difference = (&found - expected).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
            assert!(difference < 1e-4, "{shape:?}: {difference}");
            // As a GPU computes it, in f16: numbers of about 5.
            let conv = Conv2d::new(shape, values(&weight), Some(values(&bias)), &Backend::tensors_on_cpu()).unwrap();
            let half = conv.forward(&x.to_dtype(DType::F16).unwrap(), Some(Activation::Relu)).unwrap();
            let half = half.to_dtype(DType::F32).unwrap();
            let difference = (half - found).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
            assert!(difference < 0.1, "{shape:?} in f16: {difference}");
        }
    }

    #[test]
    fn an_input_that_does_not_fit_is_an_error() {
        let conv = Conv2d::new(ConvShape::new(3, 2, 3, 1), vec![0.0; 54], None, &Backend::cpu()).unwrap();
        assert!(conv.forward(&Tensor::zeros((1, 4, 8, 8), DType::F32, &Device::Cpu).unwrap(), None).is_err());
    }
}
