//! The layers that models are built of, at the sizes of `ViT-B/32` and of a detector's backbone.

use candle_core::{Device, Tensor};
use clip_aware::compute::{Activation, Backend, ConvShape, LayerNorm, Linear, Mask, PixelConv, PixelMap, chain};
use clip_aware::config::{DeviceChoice, PrecisionChoice};
use divan::counter::ItemsCount;
use divan::{Bencher, black_box};

const PRECISIONS: [&str; 3] = ["f32", "bf16", "int8"];

fn backend(precision: &str) -> Backend {
    Backend::new(DeviceChoice::Cpu, PrecisionChoice::from_name(precision).unwrap()).unwrap()
}

fn numbers(len: usize) -> Vec<f32> {
    (0..len).map(|i| ((i * 7919) % 1000) as f32 / 500.0 - 1.0).collect()
}

fn tensor(shape: &[usize]) -> Tensor {
    Tensor::from_vec(numbers(shape.iter().product()), shape, &Device::Cpu).unwrap()
}

/// 16 images, 1 image, 1 token. Multiplications are counted, so that the rate is comparable with a processor's.
#[divan::bench(args = PRECISIONS, consts = [800, 50, 1])]
fn linear<const ROWS: usize>(bencher: Bencher, precision: &str) {
    let (inputs, outputs) = (768, 3072);
    let bias = Some(numbers(outputs));
    let layer = Linear::new(outputs, inputs, numbers(outputs * inputs), bias, &backend(precision)).unwrap();
    let x = tensor(&[ROWS, inputs]);
    bencher.counter(ItemsCount::new(ROWS * inputs * outputs)).bench(|| black_box(layer.forward(&x).unwrap()));
}

/// A whole MLP with its normalisation and residual, of 16 images.
#[divan::bench(args = PRECISIONS)]
fn mlp(bencher: Bencher, precision: &str) {
    let (hidden, wide) = (768, 3072);
    let backend = backend(precision);
    let layer = |outputs: usize, inputs: usize| {
        Linear::new(outputs, inputs, numbers(outputs * inputs), Some(numbers(outputs)), &backend).unwrap()
    };
    let (fc1, fc2) = (layer(wide, hidden), layer(hidden, wide));
    let norm = LayerNorm::new(vec![1.0; hidden], vec![0.0; hidden], 1e-5, &backend).unwrap();
    let x = tensor(&[16, 50, hidden]);
    bencher.bench(|| {
        let chain = chain(&x).norm(&norm).linear(&fc1).activation(Activation::QuickGelu).linear(&fc2).plus(&x);
        black_box(chain.run().unwrap())
    });
}

/// `ViT-B/32` (50 positions), `ViT-L/14` (257).
#[divan::bench(consts = [50, 257])]
fn attention<const LEN: usize>(bencher: Bencher) {
    let qkv = tensor(&[16, LEN, 3 * 768]);
    bencher.bench(|| black_box(chain(&qkv).self_attention(12, Mask::Full, None).run().unwrap()));
}

/// Of one group, and depthwise ones.
#[divan::bench(args = [(16, 16, 1, 208), (64, 64, 3, 52), (256, 64, 1, 52), (512, 512, 3, 13), (64, 0, 3, 104)])]
fn convolution(bencher: Bencher, (inputs, outputs, kernel, side): (usize, usize, usize, usize)) {
    let depthwise = outputs == 0;
    let outputs = if depthwise { inputs } else { outputs };
    let shape = ConvShape { groups: if depthwise { inputs } else { 1 }, ..ConvShape::new(inputs, outputs, kernel, 1) };
    let count = shape.weight_dims().iter().product();
    let layer = PixelConv::new(shape, numbers(count), vec![0.0; outputs], &Backend::cpu()).unwrap();
    let x = PixelMap::from_channels(&tensor(&[1, inputs, side, side])).unwrap();
    bencher.counter(ItemsCount::new(count * side * side)).bench(|| black_box(layer.forward(&x, None).unwrap()));
}
