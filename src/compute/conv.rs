//! Two-dimensional convolution of maps whose channels lie side by side.
//!
//! A pixel is a row: a pointwise convolution is a plain matrix product, a larger kernel a sum of products, and both are computed in
//! the backend's number format. A depthwise one is no product; its channels go through side by side.

use candle_core::Tensor;

use super::Backend;
use super::activation::Activation;
use super::buffers::Buffer;
use super::depthwise::Depthwise;
use super::layers::{activate, tensor};
use super::pixel_map::{Data, PixelMap};
use super::product::{Epilogue, Matrix, Number, Tap, Weights, convolve, kernel, multiply};
use super::spread::{Spread, Taps};
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

    /// Whether each channel has a kernel of its own.
    fn is_depthwise(&self) -> bool {
        self.groups == self.inputs && self.groups == self.outputs && self.groups > 1
    }

    /// The format of the products. To bring a pixel into another one takes as long as that saves in products with some outputs;
    /// few inputs do not fill a group, or pay for a tap of their own.
    fn number(&self, backend: &Backend) -> Number {
        const FEW_INPUTS: usize = 32;
        const FEW_PRODUCTS: usize = 64;
        let products = self.outputs * self.kernel * self.kernel;
        if self.inputs <= FEW_INPUTS || products <= FEW_PRODUCTS { Number::F32 } else { backend.number() }
    }

    /// Dimensions of the weight: `[outputs, inputs / groups, kernel, kernel]`.
    pub fn weight_dims(&self) -> [usize; 4] {
        [self.outputs, self.inputs / self.groups.max(1), self.kernel, self.kernel]
    }
}

/// A convolution with a bias: of one group, or depthwise.
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
        kind: Taps,
        bias: Vec<f32>,
    },
    /// Shape: `weight` `[kernel, kernel, channels]`.
    Depthwise {
        weight: Vec<f32>,
        bias: Vec<f32>,
    },
    Device {
        weight: Tensor,
        bias: Tensor,
    },
}

impl PixelConv {
    /// From the checkpoint's values. Shapes: `weight` `[outputs, inputs / groups, kernel, kernel]` flattened, `bias` `[outputs]`.
    ///
    /// # Errors
    /// The values do not fit the shape, the shape has several groups of several channels, or the device has no room.
    pub fn new(shape: ConvShape, weight: Vec<f32>, bias: Vec<f32>, backend: &Backend) -> Result<Self> {
        let taps = shape.kernel * shape.kernel;
        let depthwise = shape.is_depthwise();
        if !(depthwise || shape.groups == 1)
            || weight.len() != shape.weight_dims().iter().product::<usize>()
            || bias.len() != shape.outputs
            || shape.stride == 0
            || shape.dilation == 0
        {
            let error = candle_core::Error::msg(format!("{} values for {shape:?}", weight.len()));
            return Err(Error::tensor("weights")(error));
        }
        let weights = if !backend.packs() {
            let weight = tensor(weight, &shape.weight_dims(), backend)?;
            Packed::Device { weight, bias: tensor(bias, &[1, shape.outputs, 1, 1], backend)? }
        } else if depthwise {
            let of_tap = |tap: usize| weight.iter().skip(tap).step_by(taps).copied();
            Packed::Depthwise { weight: (0..taps).flat_map(of_tap).collect(), bias }
        } else {
            let kernel = kernel(shape.number(backend));
            let kind = if kernel.number == Number::F32 && shape.dilation == 1 { Taps::Lines } else { Taps::Pixels };
            let pack = |tap: usize| {
                // Shape: [outputs, inputs], or of a line [outputs, kernel, inputs].
                let first = if kind == Taps::Lines { tap * shape.kernel } else { tap };
                let pixels = if kind == Taps::Lines { shape.kernel } else { 1 };
                let mut own = Vec::with_capacity(shape.outputs * pixels * shape.inputs);
                for output in weight.chunks((shape.inputs * taps).max(1)) {
                    for pixel in first..first + pixels {
                        own.extend(output.iter().skip(pixel).step_by(taps));
                    }
                }
                Weights::pack(kernel, shape.outputs, pixels * shape.inputs, &own)
            };
            let count = if kind == Taps::Lines { shape.kernel } else { taps };
            Packed::Cpu { taps: (0..count).map(pack).collect(), kind, bias }
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
            (Packed::Cpu { bias, .. } | Packed::Depthwise { bias, .. }, Data::Cpu(_), None | Some(Data::Cpu(_))) => {
                let one = out_h * out_w * self.shape.outputs;
                let mut out = Buffer::of::<f32>(b * one);
                for (index, out) in out.slice_mut::<f32>().chunks_mut(one).take(b).enumerate() {
                    let residual = residual.map(|map| Matrix::new(map.image(index), self.shape.outputs));
                    let epilogue = Epilogue { bias: Some(bias), activation, residual, last };
                    self.convolve(x.image(index), (h, w, across), &epilogue, out);
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
    fn convolve(&self, input: &[f32], (h, w, across): (usize, usize, usize), epilogue: &Epilogue<'_>, out: &mut [f32]) {
        let ConvShape { inputs, kernel, stride, padding, .. } = self.shape;
        let (taps, kind) = match &self.weights {
            Packed::Cpu { taps, kind, .. } => (taps, *kind),
            Packed::Depthwise { weight, .. } => {
                let image = Depthwise { shape: &self.shape, input, height: h, width: w, weight };
                return image.convolve(epilogue, out);
            }
            Packed::Device { .. } => return,
        };
        if let ([weights], 1, 1, 0) = (taps.as_slice(), kernel, stride, padding) {
            return multiply(Matrix::new(input, inputs), None, weights, epilogue, out);
        }
        let spread = Spread::new(self.shape, kind, (h, w), across);
        let mut rows = Buffer::of::<f32>(if spread.is_given() { 0 } else { spread.len() });
        let numbers = if spread.is_given() {
            input
        } else {
            let numbers = rows.slice_mut::<f32>().get_mut(..spread.len()).unwrap_or_default();
            spread.fill(input, numbers);
            &*numbers
        };
        let taps: Vec<Tap<'_>> =
            taps.iter().enumerate().map(|(tap, weights)| Tap { weights, first: spread.first(tap) }).collect();
        convolve(spread.matrix(numbers), &taps, spread.lines(), epilogue, out);
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    fn values(x: &Tensor) -> Vec<f32> {
        x.flatten_all().unwrap().to_vec1().unwrap()
    }

    fn largest(a: &Tensor, b: &Tensor) -> f32 {
        assert_eq!(a.dims(), b.dims());
        values(a).iter().zip(values(b)).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
    }

    /// Kernel, stride, padding, dilation, inputs, outputs, height, width, groups.
    const CASES: [[usize; 9]; 17] = [
        [1, 1, 0, 1, 5, 7, 9, 13, 1],
        [1, 2, 0, 1, 6, 16, 13, 8, 1],
        [3, 1, 1, 1, 3, 20, 11, 17, 1],
        [3, 2, 1, 1, 8, 33, 12, 15, 1],
        [3, 2, 1, 1, 4, 4, 1, 1, 1],
        [3, 1, 2, 2, 7, 5, 10, 9, 1],
        [3, 3, 0, 1, 2, 3, 10, 11, 1],
        [7, 2, 3, 1, 3, 8, 20, 23, 1],
        [5, 1, 0, 2, 2, 6, 12, 120, 1],
        [3, 1, 1, 1, 600, 40, 4, 130, 1],
        [1, 2, 0, 1, 40, 48, 12, 16, 1],
        [3, 2, 1, 1, 40, 48, 12, 15, 1],
        [3, 1, 1, 1, 32, 32, 13, 17, 32],
        [3, 2, 1, 1, 21, 21, 14, 9, 21],
        [5, 2, 2, 1, 16, 16, 7, 30, 16],
        [3, 1, 2, 2, 5, 5, 9, 8, 5],
        [3, 1, 0, 1, 40, 40, 3, 3, 40],
    ];

    #[test]
    fn every_kind_of_convolution_equals_the_general_one_in_every_precision() {
        for [kernel, stride, padding, dilation, inputs, outputs, h, w, groups] in CASES {
            let shape = ConvShape { inputs, outputs, kernel, stride, padding, dilation, groups };
            let x = Tensor::randn(0f32, 1.0, (2, inputs, h, w), &Device::Cpu).unwrap();
            let scale = (inputs / groups * kernel * kernel) as f32;
            let weight = Tensor::randn(0f32, 1.0 / scale.sqrt(), &shape.weight_dims()[..], &Device::Cpu).unwrap();
            let bias: Vec<f32> = (0..outputs).map(|n| n as f32 / 10.0 - 1.0).collect();
            let bias_tensor = Tensor::from_vec(bias.clone(), (1, outputs, 1, 1), &Device::Cpu).unwrap();
            let plain =
                x.conv2d(&weight, padding, stride, dilation, groups).unwrap().broadcast_add(&bias_tensor).unwrap();
            let residual = Tensor::randn(0f32, 1.0, plain.dims(), &Device::Cpu).unwrap();
            let summed = (&plain + &residual).unwrap().relu().unwrap();
            let map = |x: &Tensor| PixelMap::from_channels(x).unwrap();
            let half = |x: &Tensor| map(&x.to_dtype(candle_core::DType::F16).unwrap());
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
            // As a GPU computes it, in f16: numbers of about 5.
            let conv = PixelConv::new(shape, values(&weight), bias, &Backend::tensors_on_cpu()).unwrap();
            let found = conv.forward_plus(&half(&x), &half(&residual), Some(Activation::Relu)).unwrap();
            let found = found.to_tensor().unwrap().to_dtype(candle_core::DType::F32).unwrap();
            let difference = largest(&found, &expected(&summed));
            assert!(difference < 0.1, "{shape:?} in f16: {difference}");
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
