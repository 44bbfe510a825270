//! Two-dimensional convolution of maps whose channels lie side by side: what dense networks with many channels are made of.
//!
//! [`super::Conv2d`] takes a map channel by channel and lays what a kernel sees out as columns, which suits few channels and
//! depthwise kernels. Here a pixel is a row: a pointwise convolution is a plain matrix product, a larger kernel a sum of products,
//! and both are computed in the backend's number format.

use candle_core::{Device, Tensor};
use rayon::prelude::*;

use super::Backend;
use super::activation::Activation;
use super::buffers::Buffer;
use super::conv::{ConvShape, with_values};
use super::layers::{activate, tensor};
use super::product::{Epilogue, Lines, Matrix, Tap, Weights, convolve, kernel, multiply};
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

impl PixelMap {
    /// Shape: `[b, channels, h, w]`.
    ///
    /// # Errors
    /// `x` is no map.
    pub fn from_channels(x: &Tensor) -> Result<Self> {
        let run = || {
            let (b, c, h, w) = x.dims4()?;
            let dims = [b, h, w, c];
            if !x.device().is_cpu() {
                return Ok(Self { dims, data: Data::Device(x.permute((0, 2, 3, 1))?.contiguous()?) });
            }
            let mut buffer = Buffer::of::<f32>(dims.iter().product());
            let lines = buffer.slice_mut::<f32>().par_chunks_mut((w * c).max(1)).take(b * h);
            with_values(&x.contiguous()?, |values| {
                lines.enumerate().for_each(|(line, pixels)| {
                    let (image, y) = (line / h, line % h);
                    for channel in 0..c {
                        let start = ((image * c + channel) * h + y) * w;
                        let source = values.get(start..start + w).unwrap_or_default();
                        for (pixel, value) in pixels.chunks_exact_mut(c).zip(source) {
                            pixel[channel] = *value;
                        }
                    }
                });
            })?;
            Ok(Self { dims, data: Data::Cpu(buffer) })
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
            Data::Cpu(buffer) => {
                let values = buffer.slice::<f32>().get(..self.dims.iter().product()).unwrap_or_default().to_vec();
                Tensor::from_vec(values, self.dims.as_slice(), &Device::Cpu).map_err(Error::tensor("map"))
            }
        }
    }

    /// Shapes: of one image, `[h, w, channels]`.
    pub(super) fn image(&self, index: usize) -> &[f32] {
        let one = self.dims.iter().skip(1).product::<usize>();
        match &self.data {
            Data::Cpu(buffer) => buffer.slice().get(index * one..(index + 1) * one).unwrap_or_default(),
            Data::Device(_) => &[],
        }
    }
}

/// A convolution of one group, with a bias.
#[derive(Debug)]
pub struct PixelConv {
    pub(super) shape: ConvShape,
    weights: Packed,
}

/// The weights as the device wants them.
#[derive(Debug)]
enum Packed {
    /// One matrix for each tap, in reading order.
    Cpu {
        taps: Vec<Weights>,
        bias: Vec<f32>,
    },
    Device {
        weight: Tensor,
        bias: Tensor,
    },
}

impl PixelConv {
    /// From the checkpoint's values. Shapes: `weight` `[outputs, inputs, kernel, kernel]` flattened, `bias` `[outputs]`.
    ///
    /// # Errors
    /// The values do not fit the shape, the shape has several groups, or the device has no room.
    pub fn new(shape: ConvShape, weight: Vec<f32>, bias: Vec<f32>, backend: &Backend) -> Result<Self> {
        let taps = shape.kernel * shape.kernel;
        if shape.groups != 1
            || weight.len() != shape.outputs * shape.inputs * taps
            || bias.len() != shape.outputs
            || shape.stride == 0
        {
            let error = candle_core::Error::msg(format!("{} values for {shape:?}", weight.len()));
            return Err(Error::tensor("weights")(error));
        }
        let weights = if backend.device.is_cpu() {
            let kernel = kernel(backend.number());
            let pack = |tap: usize| {
                let own: Vec<f32> = weight.iter().skip(tap).step_by(taps).copied().collect();
                Weights::pack(kernel, shape.outputs, shape.inputs, &own)
            };
            Packed::Cpu { taps: (0..taps).map(pack).collect(), bias }
        } else {
            let weight = tensor(weight, &shape.weight_dims(), backend)?;
            Packed::Device { weight, bias: tensor(bias, &[1, shape.outputs, 1, 1], backend)? }
        };
        Ok(Self { shape, weights })
    }

    /// As a device has it, for tests. Shapes: `weight` as the shape says, `bias` `[1, outputs, 1, 1]`.
    #[cfg(test)]
    pub(super) fn on_device(shape: ConvShape, weight: Tensor, bias: Tensor) -> Self {
        Self { shape, weights: Packed::Device { weight, bias } }
    }

    /// Shapes: `[b, h, w, inputs]` -> `[b, h', w', outputs]`.
    ///
    /// # Errors
    /// `x` has other channels, or is smaller than the kernel.
    pub fn forward(&self, x: &PixelMap, activation: Option<Activation>) -> Result<PixelMap> {
        self.compute(x, 1, None, [None, activation]).map_err(Error::tensor("convolution"))
    }

    /// As [`PixelConv::forward`], with a map that is added before the activation, as in a residual block. Shapes: `residual` as
    /// the output.
    ///
    /// # Errors
    /// As [`PixelConv::forward`]; `residual` has another shape.
    pub fn forward_plus(&self, x: &PixelMap, residual: &PixelMap, activation: Option<Activation>) -> Result<PixelMap> {
        self.compute(x, 1, Some(residual), [None, activation]).map_err(Error::tensor("convolution"))
    }

    /// As [`PixelConv::forward`], with a map that is added after the activation. Shapes: `residual` as the output.
    ///
    /// # Errors
    /// As [`PixelConv::forward_plus`].
    pub fn forward_then_plus(
        &self,
        x: &PixelMap,
        residual: &PixelMap,
        activation: Option<Activation>,
    ) -> Result<PixelMap> {
        self.compute(x, 1, Some(residual), [activation, None]).map_err(Error::tensor("convolution"))
    }

    /// The activations stand before and after the residual; a pixel's right neighbour is `across` pixels further
    /// ([`PixelConv::forward_interleaved`]).
    pub(super) fn compute(
        &self,
        x: &PixelMap,
        across: usize,
        residual: Option<&PixelMap>,
        [activation, last]: [Option<Activation>; 2],
    ) -> candle_core::Result<PixelMap> {
        let [b, h, w, c] = x.dims;
        let (out_h, out_w) = (self.shape.output(h), self.shape.output(w / across) * across);
        let dims = [b, out_h, out_w, self.shape.outputs];
        if c != self.shape.inputs || out_h == 0 || out_w == 0 {
            candle_core::bail!("an input of {h} x {w} with {c} channels does not fit {:?}", self.shape);
        }
        if let Some(residual) = residual.filter(|residual| residual.dims != dims) {
            candle_core::bail!("a residual of {:?} for an output of {dims:?}", residual.dims);
        }
        match (&self.weights, &x.data, residual.map(|residual| &residual.data)) {
            (Packed::Cpu { taps, bias }, Data::Cpu(_), None | Some(Data::Cpu(_))) => {
                let one = out_h * out_w * self.shape.outputs;
                let mut out = Buffer::of::<f32>(b * one);
                for (index, out) in out.slice_mut::<f32>().chunks_mut(one).take(b).enumerate() {
                    let residual = residual.map(|map| Matrix::new(map.image(index), self.shape.outputs));
                    let epilogue = Epilogue { bias: Some(bias), activation, residual, last };
                    self.convolve(x.image(index), (h, w, across), taps, &epilogue, out);
                }
                Ok(PixelMap { dims, data: Data::Cpu(out) })
            }
            (Packed::Device { weight, bias }, Data::Device(x), None | Some(Data::Device(_))) => {
                let ConvShape { stride, padding, dilation, groups, .. } = self.shape;
                let x = x.reshape((b, h, w / across, across, c))?.permute((0, 3, 4, 1, 2))?.contiguous()?;
                let x = x.reshape((b * across, c, h, w / across))?;
                let y = x.conv2d(weight, padding, stride, dilation, groups)?.broadcast_add(bias)?;
                let y = y.reshape((b, across, self.shape.outputs, out_h, out_w / across))?;
                let y = y.permute((0, 3, 4, 1, 2))?.contiguous()?.reshape(dims.as_slice())?; // [b, h', w', outputs]
                let y = activate(y, activation)?;
                let y = match residual.map(|residual| &residual.data) {
                    Some(Data::Device(residual)) => (y + residual)?,
                    _ => y,
                };
                Ok(PixelMap { dims, data: Data::Device(activate(y, last)?) })
            }
            _ => candle_core::bail!("a convolution, its input and its residual lie on different devices"),
        }
    }

    /// One image. Shapes: `input` `[h, w, inputs]`, `out` `[h', w', outputs]`.
    fn convolve(
        &self,
        input: &[f32],
        (h, w, across): (usize, usize, usize),
        taps: &[Weights],
        epilogue: &Epilogue<'_>,
        out: &mut [f32],
    ) {
        let ConvShape { inputs, kernel, stride, padding, .. } = self.shape;
        if let ([weights], 1, 1, 0) = (taps, kernel, stride, padding) {
            return multiply(Matrix::new(input, inputs), None, weights, epilogue, out);
        }
        let spread = Spread::new(&self.shape, h, w, across);
        let mut rows = Buffer::of::<f32>(spread.rows() * inputs);
        let numbers = rows.slice_mut::<f32>().get_mut(..spread.rows() * inputs).unwrap_or_default();
        spread.fill(input, inputs, numbers);
        let taps: Vec<Tap<'_>> = taps
            .iter()
            .enumerate()
            .map(|(tap, weights)| Tap { weights, first: spread.first(tap / kernel, tap % kernel) })
            .collect();
        let lines = Lines { height: spread.lines, width: spread.width, stride: spread.row };
        convolve(Matrix::new(numbers, inputs), &taps, lines, epilogue, out);
    }
}

/// An image with its padding, so laid out that what a tap sees of a line of the output are neighbours: with a stride, every
/// second pixel (or third) goes into an image of its own.
struct Spread {
    stride: usize,
    /// Lines and pixels.
    padding: (usize, usize),
    dilation: (usize, usize),
    /// Of the input.
    height: usize,
    columns: usize,
    /// Of the output.
    lines: usize,
    width: usize,
    /// Images along each side.
    phases: usize,
    /// Lines and pixels in a line of each.
    column: usize,
    row: usize,
}

impl Spread {
    /// With `across` above 1 the stride is 1.
    fn new(shape: &ConvShape, height: usize, columns: usize, across: usize) -> Self {
        let (lines, width) = (shape.output(height), shape.output(columns / across) * across);
        let reach = shape.dilation * (shape.kernel - 1);
        let more = reach / shape.stride;
        Self {
            stride: shape.stride,
            padding: (shape.padding, shape.padding * across),
            dilation: (shape.dilation, shape.dilation * across),
            height,
            columns,
            lines,
            width,
            phases: shape.stride.min(reach + 1),
            column: lines + more,
            row: width + more * across,
        }
    }

    /// Pixels in all.
    fn rows(&self) -> usize {
        self.phases * self.phases * self.column * self.row
    }

    /// The pixel that a tap sees for the first one of the output.
    fn first(&self, dy: usize, dx: usize) -> usize {
        let (y, x) = (dy * self.dilation.0, dx * self.dilation.1);
        let image = y % self.stride * self.phases + x % self.stride;
        (image * self.column + y / self.stride) * self.row + x / self.stride
    }

    /// Shapes: `input` `[height, columns, channels]` -> `rows` `[rows, channels]`.
    fn fill(&self, input: &[f32], channels: usize, rows: &mut [f32]) {
        rows.par_chunks_mut((self.row * channels).max(1)).enumerate().for_each(|(index, line)| {
            let (image, at) = (index / self.column, index % self.column);
            let (py, px) = (image / self.phases, image % self.phases);
            let source = (at * self.stride + py).checked_sub(self.padding.0).filter(|y| *y < self.height);
            let source = source.and_then(|y| input.get(y * self.columns * channels..(y + 1) * self.columns * channels));
            let Some(source) = source else { return line.fill(0.0) };
            for (x, pixel) in line.chunks_exact_mut(channels.max(1)).enumerate() {
                let from = (x * self.stride + px).checked_sub(self.padding.1).filter(|x| *x < self.columns);
                match from.and_then(|x| source.get(x * channels..(x + 1) * channels)) {
                    Some(source) => pixel.copy_from_slice(source),
                    None => pixel.fill(0.0),
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(x: &Tensor) -> Vec<f32> {
        x.flatten_all().unwrap().to_vec1().unwrap()
    }

    fn largest(a: &Tensor, b: &Tensor) -> f32 {
        assert_eq!(a.dims(), b.dims());
        values(a).iter().zip(values(b)).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
    }

    /// Kernel, stride, padding, dilation, inputs, outputs, height, width.
    const CASES: [[usize; 8]; 10] = [
        [1, 1, 0, 1, 5, 7, 9, 13],
        [1, 2, 0, 1, 6, 16, 13, 8],
        [3, 1, 1, 1, 3, 20, 11, 17],
        [3, 2, 1, 1, 8, 33, 12, 15],
        [3, 2, 1, 1, 4, 4, 1, 1],
        [3, 1, 2, 2, 7, 5, 10, 9],
        [3, 3, 0, 1, 2, 3, 10, 11],
        [7, 2, 3, 1, 3, 8, 20, 23],
        [5, 1, 0, 2, 2, 6, 12, 120],
        [3, 1, 1, 1, 600, 40, 4, 130],
    ];

    #[test]
    fn every_kind_of_convolution_equals_the_general_one_in_every_precision() {
        for [kernel, stride, padding, dilation, inputs, outputs, h, w] in CASES {
            let shape = ConvShape { inputs, outputs, kernel, stride, padding, dilation, groups: 1 };
            let x = Tensor::randn(0f32, 1.0, (2, inputs, h, w), &Device::Cpu).unwrap();
            let scale = (inputs * kernel * kernel) as f32;
            let weight = Tensor::randn(0f32, 1.0 / scale.sqrt(), &shape.weight_dims()[..], &Device::Cpu).unwrap();
            let bias: Vec<f32> = (0..outputs).map(|n| n as f32 / 10.0 - 1.0).collect();
            let bias_tensor = Tensor::from_vec(bias.clone(), (1, outputs, 1, 1), &Device::Cpu).unwrap();
            let plain = x.conv2d(&weight, padding, stride, dilation, 1).unwrap().broadcast_add(&bias_tensor).unwrap();
            let residual = Tensor::randn(0f32, 1.0, plain.dims(), &Device::Cpu).unwrap();
            let summed = (&plain + &residual).unwrap().relu().unwrap();
            let map = |x: &Tensor| PixelMap::from_channels(x).unwrap();
            let expected = |x: &Tensor| x.permute((0, 2, 3, 1)).unwrap().contiguous().unwrap();
            for (precision, tolerance) in [("f32", 2e-5), ("bf16", 2e-2), ("int8", 0.2)] {
                let backend = Backend { device: Device::Cpu, precision };
                let conv = PixelConv::new(shape, values(&weight), bias.clone(), &backend).unwrap();
                let found = conv.forward(&map(&x), None).unwrap().to_tensor().unwrap();
                let difference = largest(&found, &expected(&plain));
                assert!(difference < tolerance, "{shape:?} {precision}: {difference}");
                let found = conv.forward_plus(&map(&x), &map(&residual), Some(Activation::Relu)).unwrap();
                let difference = largest(&found.to_tensor().unwrap(), &expected(&summed));
                assert!(difference < tolerance, "{shape:?} {precision}, with a residual: {difference}");
                let added = (plain.relu().unwrap() + &residual).unwrap();
                let found = conv.forward_then_plus(&map(&x), &map(&residual), Some(Activation::Relu)).unwrap();
                let difference = largest(&found.to_tensor().unwrap(), &expected(&added));
                assert!(difference < tolerance, "{shape:?} {precision}, added at the end: {difference}");
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        let shape = ConvShape::new(4, 2, 3, 1);
        assert!(PixelConv::new(shape, vec![0.0; 71], vec![0.0; 2], &Backend::cpu()).is_err());
        assert!(
            PixelConv::new(ConvShape { groups: 2, ..shape }, vec![0.0; 36], vec![0.0; 2], &Backend::cpu()).is_err()
        );
        let conv = PixelConv::new(shape, vec![0.0; 72], vec![0.0; 2], &Backend::cpu()).unwrap();
        let zeros = |dims: [usize; 4]| {
            PixelMap::from_channels(&Tensor::zeros(dims.as_slice(), candle_core::DType::F32, &Device::Cpu).unwrap())
        };
        assert!(conv.forward(&zeros([1, 3, 5, 5]).unwrap(), None).is_err());
        assert!(conv.forward_plus(&zeros([1, 4, 5, 5]).unwrap(), &zeros([1, 2, 5, 4]).unwrap(), None).is_err());
    }
}
