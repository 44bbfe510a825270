//! What a GPU runs, on the CPU in f16, against the CPU's own way: the same layers, built twice.

use candle_core::{DType, Device, Tensor};

use super::*;
use crate::compute::Backend;

/// Numbers of about 1 that went through a hundred of f16's roundings.
const TOLERANCE: f32 = 2e-2;

fn random(shape: &[usize]) -> Tensor {
    Tensor::randn(0f32, 0.5, shape, &Device::Cpu).unwrap()
}

fn values(x: &Tensor) -> Vec<f32> {
    x.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

fn half(x: &Tensor) -> Tensor {
    x.to_dtype(DType::F16).unwrap()
}

fn assert_close(what: &str, found: &Tensor, expected: &Tensor) {
    assert_eq!(found.dtype(), DType::F16, "{what}");
    assert_eq!(found.dims(), expected.dims(), "{what}");
    let pairs = values(found).into_iter().zip(values(expected));
    let difference = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(difference < TOLERANCE, "{what}: {difference}");
}

/// A layer as the CPU has it, and as tensors.
fn linears(inputs: usize, outputs: usize) -> [Linear; 2] {
    let spread = (1.0 / inputs as f32).sqrt();
    let weight: Vec<f32> = values(&random(&[outputs, inputs])).iter().map(|x| x * spread).collect();
    let bias = values(&random(&[outputs]));
    [Backend::cpu(), Backend::tensors_on_cpu()]
        .map(|backend| Linear::new(outputs, inputs, weight.clone(), Some(bias.clone()), &backend).unwrap())
}

fn norms(width: usize) -> [LayerNorm; 2] {
    let (weight, bias) = (values(&random(&[width])), values(&random(&[width])));
    [Backend::cpu(), Backend::tensors_on_cpu()]
        .map(|backend| LayerNorm::new(weight.clone(), bias.clone(), 1e-5, &backend).unwrap())
}

#[test]
fn layers_of_tensors_equal_packed_ones_under_every_activation() {
    let x = random(&[2, 11, 24]);
    let ([norm, norm_t], [first, first_t], [second, second_t]) = (norms(24), linears(24, 40), linears(40, 24));
    assert_close(
        "a normalisation",
        &chain(&half(&x)).norm(&norm_t).run().unwrap(),
        &chain(&x).norm(&norm).run().unwrap(),
    );
    for activation in [
        Activation::QuickGelu,
        Activation::Gelu,
        Activation::GeluTanh,
        Activation::Relu,
        Activation::Silu,
        Activation::Sigmoid,
    ] {
        let expected = chain(&x).norm(&norm).linear(&first).activation(activation).linear(&second).plus(&x).run();
        let x = half(&x);
        let found = chain(&x).norm(&norm_t).linear(&first_t).activation(activation).linear(&second_t).plus(&x).run();
        assert_close(&format!("{activation:?}"), &found.unwrap(), &expected.unwrap());
    }
    // A view, whose numbers do not lie side by side.
    let (narrow, view) = (x.narrow(1, 3, 5).unwrap(), half(&x).narrow(1, 3, 5).unwrap());
    assert_close(
        "a view",
        &chain(&view).linear(&first_t).run().unwrap(),
        &chain(&narrow).linear(&first).run().unwrap(),
    );
}

#[test]
fn attention_over_tensors_equals_the_packed_one_under_every_mask() {
    let (batch, len, hidden, heads) = (3, 13, 32, 4);
    let x = random(&[batch, len, hidden]);
    let ([qkv, qkv_t], [out, out_t], [norm, norm_t]) =
        (linears(hidden, 3 * hidden), linears(hidden, hidden), norms(hidden));
    let lengths = [len, 1, 7];
    let (one, each) = (random(&[len, len]), random(&[batch, len, len]));
    let wanted = [0, 12, 5];
    let masks = [Mask::Full, Mask::Causal, Mask::Keys(&lengths), Mask::Bias(&one), Mask::Bias(&each)];
    for (number, mask) in masks.into_iter().enumerate() {
        let some = [None, Some(wanted.as_slice())];
        // A mask of numbers has no single rows.
        for wanted in some.into_iter().take(if matches!(mask, Mask::Bias(_)) { 1 } else { 2 }) {
            let run = |x: &Tensor, norm, qkv, out| {
                chain(x).norm(norm).linear(qkv).self_attention(heads, mask, wanted).linear(out).run().unwrap()
            };
            let (found, expected) = (run(&half(&x), &norm_t, &qkv_t, &out_t), run(&x, &norm, &qkv, &out));
            assert_close(&format!("mask {number}, {wanted:?}"), &found, &expected);
        }
    }
}

#[test]
fn attention_between_tensors_equals_the_packed_one() {
    let (batch, hidden, heads) = (3, 24, 3);
    let (queries, context) = (random(&[batch, 4, hidden]), random(&[batch, 9, hidden]));
    let probe = random(&[1, 2, hidden]);
    let ([q, q_t], [kv, kv_t], [k, k_t], [v, v_t]) =
        (linears(hidden, hidden), linears(hidden, 2 * hidden), linears(hidden, hidden), linears(hidden, hidden));
    let lengths = [9, 2, 5];
    let bias = random(&[4, 9]);
    for (number, mask) in [Mask::Full, Mask::Keys(&lengths), Mask::Bias(&bias)].into_iter().enumerate() {
        let to = |x: &Tensor, y: &Tensor, q, kv| {
            chain(x).linear(q).attend_to(chain(y).linear(kv), heads, mask).run().unwrap()
        };
        let (found, expected) = (to(&half(&queries), &half(&context), &q_t, &kv_t), to(&queries, &context, &q, &kv));
        assert_close(&format!("keys and values together, mask {number}"), &found, &expected);
        let both = |x: &Tensor, y: &Tensor, q, k, v| {
            chain(x).linear(q).attend_to_both(chain(y).linear(k), chain(y).linear(v), heads, mask).run().unwrap()
        };
        let (found, expected) =
            (both(&half(&queries), &half(&context), &q_t, &k_t, &v_t), both(&queries, &context, &q, &k, &v));
        assert_close(&format!("keys and values apart, mask {number}"), &found, &expected);
    }
    // One sequence of queries for the whole batch.
    let shared = |x: &Tensor, y: &Tensor, q, kv| {
        chain(x).linear(q).attend_to(chain(y).linear(kv), heads, Mask::Full).run().unwrap()
    };
    assert_close(
        "a shared query",
        &shared(&half(&probe), &half(&context), &q_t, &kv_t),
        &shared(&probe, &context, &q, &kv),
    );
}

#[test]
fn what_does_not_fit_is_an_error_among_tensors_too() {
    let x = half(&random(&[2, 5, 12]));
    let [_, layer] = linears(13, 4);
    assert!(chain(&x).linear(&layer).run().is_err());
    assert!(chain(&x).self_attention(5, Mask::Full, None).run().is_err());
    assert!(chain(&x).self_attention(0, Mask::Full, None).run().is_err());
    assert!(chain(&x).self_attention(2, Mask::Full, Some(&[0, 5])).run().is_err());
    let [layer, _] = linears(12, 4);
    assert!(chain(&x).linear(&layer).run().is_err(), "packed weights and a tensor in another format");
}
