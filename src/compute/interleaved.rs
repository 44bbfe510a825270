//! Convolutions of many small maps at once, as a detector's head makes them for each of a thousand boxes.
//!
//! Maps of 7 x 7 pixels are too narrow for a product's tiles, and a thread has nothing to do for one. Here the first pixel of every map comes
//! first, then the second one of each, and so on, line by line: what a tap sees of a line of all maps is one run of pixels.

use super::activation::Activation;
use super::conv::PixelConv;
use super::pixel_map::PixelMap;
use crate::error::{Error, Result};

impl PixelConv {
    /// As [`PixelConv::forward`], of `count` maps of one size whose pixels take turns; the stride is 1.
    ///
    /// Shapes: `[1, h, w * count, inputs]` -> `[1, h', w' * count, outputs]`; pixel `x` of map `n` is number `x * count + n` of its
    /// line.
    ///
    /// # Errors
    /// As [`PixelConv::forward`]; `count` does not divide the lines, or the layer has a stride.
    pub fn forward_interleaved(&self, x: &PixelMap, count: usize, activation: Option<Activation>) -> Result<PixelMap> {
        let [.., width, _] = x.dims();
        if count == 0 || !width.is_multiple_of(count) || self.shape.stride != 1 || self.shape.groups != 1 {
            let error = format!("{count} maps in lines of {width} for {:?}", self.shape);
            return Err(Error::tensor("convolution")(candle_core::Error::msg(error)));
        }
        self.compute(x, count, None, [None, activation]).map_err(Error::tensor("convolution"))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};

    use super::super::pixel_map::Data;
    use super::*;
    use crate::compute::{Backend, ConvShape};

    const COUNT: usize = 5;

    fn values(x: &Tensor) -> Vec<f32> {
        x.flatten_all().unwrap().to_vec1().unwrap()
    }

    /// `[count, channels, h, w]` -> `[1, h, w * count, channels]`.
    fn interleaved(x: &Tensor) -> Tensor {
        let (count, channels, h, w) = x.dims4().unwrap();
        let x = x.permute((2, 3, 0, 1)).unwrap().contiguous().unwrap();
        x.reshape((1, h, w * count, channels)).unwrap()
    }

    #[test]
    fn maps_that_take_turns_give_what_each_gives_alone() {
        for (kernel, padding, h, w) in [(1, 0, 3, 4), (3, 1, 7, 7), (7, 0, 7, 7), (3, 0, 4, 9)] {
            let shape = ConvShape { padding, ..ConvShape::new(6, 9, kernel, 1) };
            let x = Tensor::randn(0f32, 1.0, (COUNT, 6, h, w), &Device::Cpu).unwrap();
            let weight = Tensor::randn(0f32, 0.2, &shape.weight_dims()[..], &Device::Cpu).unwrap();
            let bias: Vec<f32> = (0..9u8).map(|n| f32::from(n) / 10.0).collect();
            let bias_tensor = Tensor::from_slice(&bias, (1, 9, 1, 1), &Device::Cpu).unwrap();
            let plain = x.conv2d(&weight, padding, 1, 1, 1).unwrap().broadcast_add(&bias_tensor).unwrap();
            let expected = values(&interleaved(&plain.relu().unwrap()));
            let rows = interleaved(&x).reshape((1, h * w * COUNT, 6)).unwrap();
            let map = PixelMap::from_rows(&rows, h, w * COUNT).unwrap();
            let conv = PixelConv::new(shape, values(&weight), bias.clone(), &Backend::cpu()).unwrap();
            let found = conv.forward_interleaved(&map, COUNT, Some(Activation::Relu)).unwrap();
            let difference = |found: &[f32]| {
                assert_eq!(found.len(), expected.len());
                found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
            };
            assert!(difference(&found.to_values().unwrap()) < 1e-4, "{shape:?}");
            let device = PixelMap { dims: map.dims, data: Data::Device(interleaved(&x)) };
            let weights = PixelConv::on_device(shape, weight, bias_tensor);
            let found = weights.forward_interleaved(&device, COUNT, Some(Activation::Relu)).unwrap();
            assert!(difference(&found.to_values().unwrap()) < 1e-4, "{shape:?}");
            assert!(conv.forward_interleaved(&map, 11, None).is_err());
        }
    }
}
