use rand::{Rng, SeedableRng, rngs::StdRng};

use super::*;
use crate::compute::activation::Activation;
use crate::compute::norm::Norm;

fn random(len: usize, seed: u64) -> Vec<f32> {
    let mut random = StdRng::seed_from_u64(seed);
    (0..len).map(|_| random.random_range(-1.0..1.0)).collect()
}

/// All kernels of this processor, and those that are emulated.
fn all_kernels() -> Vec<&'static Kernel> {
    let mut all = kernels();
    all.extend([&emulated::BF16, &emulated::INT8]);
    all
}

/// In double precision, one sum after the other.
fn reference(x: &[f32], weights: &[f32], inputs: usize) -> Vec<f32> {
    let dot = |x: &[f32], w: &[f32]| x.iter().zip(w).map(|(x, w)| f64::from(*x) * f64::from(*w)).sum::<f64>() as f32;
    x.chunks(inputs).flat_map(|x| weights.chunks(inputs).map(move |w| dot(x, w))).collect()
}

/// Largest relative error that a format may have, of a result of about `sqrt(inputs) / 3`.
fn bound(number: Number) -> f32 {
    match number {
        Number::F32 => 2e-5,
        Number::Int16 => 6e-3,
        Number::Bf16 => 2e-2,
        Number::Int8 => 6e-2,
    }
}

#[test]
fn every_kernel_of_this_processor_multiplies_every_shape() {
    let shapes =
        [(1, 8, 16), (2, 7, 5), (3, 33, 64), (7, 96, 100), (13, 130, 17), (50, 768, 80), (101, 1100, 65), (5, 1, 1)];
    for kernel in all_kernels() {
        for (rows, inputs, outputs) in shapes {
            let (x, w) = (random(rows * inputs, 1), random(outputs * inputs, 2));
            let weights = Weights::pack(kernel, outputs, inputs, &w);
            let mut out = vec![f32::NAN; rows * outputs];
            multiply(Matrix::new(&x, inputs), None, &weights, &Epilogue::default(), &mut out);
            let size = (inputs as f32).sqrt();
            for (at, (found, expected)) in out.iter().zip(reference(&x, &w, inputs)).enumerate() {
                assert!(
                    (found - expected).abs() <= bound(kernel.number) * size,
                    "{} {rows}x{inputs}x{outputs} at {at}: {found}, not {expected}",
                    kernel.name
                );
            }
        }
    }
}

#[test]
fn extreme_weights_and_activations_do_not_overflow() {
    for kernel in all_kernels() {
        for inputs in [512, 1024, 3072] {
            for (x, w) in [(1.0, 1.0), (1.0, -1.0), (-3.0, 7.0)] {
                let weights = Weights::pack(kernel, 3, inputs, &vec![w; 3 * inputs]);
                let mut out = vec![0.0; 6];
                multiply(Matrix::new(&vec![x; 2 * inputs], inputs), None, &weights, &Epilogue::default(), &mut out);
                let expected = x * w * inputs as f32;
                for found in out {
                    assert!(((found - expected) / expected).abs() < 0.02, "{}: {found}, not {expected}", kernel.name);
                }
            }
        }
    }
}

#[test]
fn norm_bias_activation_and_residual_are_applied_in_this_order() {
    let (rows, inputs, outputs) = (9, 70, 37);
    let (x, w, bias, residual) =
        (random(rows * inputs, 3), random(outputs * inputs, 4), random(outputs, 5), random(rows * outputs, 6));
    let (gain, shift) = (random(inputs, 7), random(inputs, 8));
    let norm = Norm { weight: &gain, bias: &shift, eps: 1e-5 };
    let mut normed = vec![0.0; rows * inputs];
    for (row, out) in x.chunks(inputs).zip(normed.chunks_mut(inputs)) {
        let mean = row.iter().sum::<f32>() / inputs as f32;
        let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f32>() / inputs as f32;
        for (at, (out, x)) in out.iter_mut().zip(row).enumerate() {
            *out = (x - mean) / (variance + 1e-5).sqrt() * gain[at] + shift[at];
        }
    }
    let expected: Vec<f32> = reference(&normed, &w, inputs)
        .into_iter()
        .enumerate()
        .map(|(at, value)| (value + bias[at % outputs]).max(0.0) + residual[at])
        .collect();
    for kernel in all_kernels() {
        let weights = Weights::pack(kernel, outputs, inputs, &w);
        let epilogue = Epilogue {
            bias: Some(&bias),
            activation: Some(Activation::Relu),
            residual: Some(Matrix::new(&residual, outputs)),
            last: None,
        };
        let mut out = vec![f32::NAN; rows * outputs];
        multiply(Matrix::new(&x, inputs), Some(&norm), &weights, &epilogue, &mut out);
        for (found, expected) in out.iter().zip(&expected) {
            let bound = bound(kernel.number) * 12.0;
            assert!((found - expected).abs() <= bound, "{}: {found}, not {expected}", kernel.name);
        }
    }
}

#[test]
fn a_row_alone_equals_the_row_among_others() {
    let (rows, inputs, outputs) = (23, 200, 50);
    let (x, w) = (random(rows * inputs, 9), random(outputs * inputs, 10));
    for kernel in all_kernels() {
        let weights = Weights::pack(kernel, outputs, inputs, &w);
        let run = |x: &[f32]| {
            let mut out = vec![0.0; x.len() / inputs * outputs];
            multiply(Matrix::new(x, inputs), None, &weights, &Epilogue::default(), &mut out);
            out
        };
        let all = run(&x);
        for (row, together) in x.chunks(inputs).zip(all.chunks(outputs)) {
            assert_eq!(run(row), together, "{}", kernel.name);
        }
    }
}
