use candle_core::Device;

use super::*;
use crate::compute::Backend;
use crate::compute::attention::attend_with_candle;

fn random(shape: &[usize]) -> Tensor {
    Tensor::randn(0f32, 1., shape, &Device::Cpu).unwrap()
}

fn values(x: &Tensor) -> Vec<f32> {
    x.flatten_all().unwrap().to_vec1().unwrap()
}

fn difference(a: &Tensor, b: &Tensor) -> f32 {
    assert_eq!(a.dims(), b.dims());
    values(a).iter().zip(values(b)).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

fn linear(inputs: usize, outputs: usize) -> (Linear, Tensor, Tensor) {
    let (weight, bias) = (random(&[outputs, inputs]), random(&[outputs]));
    let layer = Linear::new(outputs, inputs, values(&weight), Some(values(&bias)), &Backend::cpu()).unwrap();
    (layer, weight, bias)
}

/// Two heads of size 1: written out by hand.
#[test]
fn heads_are_apart_and_the_future_is_hidden() {
    // Rows: q0 q1 k0 k1 v0 v1.
    let rows = [[1f32, 0., 0., 9., 1., 10.], [1., 0., 2f32.ln(), 9., 4., 30.]];
    let qkv = Tensor::new(&[rows, rows], &Device::Cpu).unwrap();
    let run = |mask| chain(&qkv).self_attention(2, mask, None).run().unwrap().to_vec3::<f32>().unwrap();
    let (full, causal) = (run(Mask::Full), run(Mask::Causal));
    // Head 0 weighs 1 : 2, head 1 evenly.
    let close = |found: &[f32], expected: [f32; 2]| {
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-5), "{found:?} {expected:?}");
    };
    for sequence in 0..2 {
        close(&full[sequence][0], [3., 20.]);
        close(&full[sequence][1], [3., 20.]);
        close(&causal[sequence][0], [1., 10.]);
        close(&causal[sequence][1], [3., 20.]);
    }
}

#[test]
fn attention_equals_candles_under_every_mask() {
    for (batch, queries, keys, heads, size) in
        [(1, 1, 1, 1, 1), (2, 50, 50, 3, 64), (3, 7, 101, 2, 20), (2, 130, 9, 4, 33)]
    {
        let hidden = heads * size;
        let (q, k, v) =
            (random(&[batch, queries, hidden]), random(&[batch, keys, hidden]), random(&[batch, keys, hidden]));
        let lengths: Vec<usize> = (0..batch).map(|sequence| (keys - sequence).max(1)).collect();
        let (one, each) = (random(&[queries, keys]), random(&[batch, queries, keys]));
        let mut masks = vec![Mask::Full, Mask::Keys(&lengths), Mask::Bias(&one), Mask::Bias(&each)];
        if queries == keys {
            masks.push(Mask::Causal);
        }
        for mask in masks {
            let found = chain(&q).attend_to_both(chain(&k), chain(&v), heads, mask).run().unwrap();
            let expected = attend_with_candle(&q, &k, &v, heads, &mask).unwrap();
            assert!(
                difference(&found, &expected) < 2e-5,
                "{mask:?} {queries}x{keys}: {}",
                difference(&found, &expected)
            );
        }
    }
}

#[test]
fn packed_projections_and_a_shared_query_are_read_where_they_lie() {
    let qkv = random(&[3, 20, 3 * 24]);
    let part = |n: usize| qkv.narrow(2, n * 24, 24).unwrap().contiguous().unwrap();
    let apart = attend_with_candle(&part(0), &part(1), &part(2), 2, &Mask::Full).unwrap();
    let packed = chain(&qkv).self_attention(2, Mask::Full, None).run().unwrap();
    assert!(difference(&packed, &apart) < 1e-5);
    let (probe, kv) = (random(&[1, 1, 24]), random(&[3, 20, 48]));
    let part = |n: usize| kv.narrow(2, n * 24, 24).unwrap();
    let expected = attend_with_candle(&probe, &part(0), &part(1), 3, &Mask::Full).unwrap();
    let found = chain(&probe).attend_to(chain(&kv), 3, Mask::Full).run().unwrap();
    assert!(difference(&found, &expected) < 1e-5);
}

#[test]
fn wanted_positions_see_what_they_see_among_all() {
    let qkv = random(&[3, 40, 3 * 16]);
    let wanted = [0, 39, 17];
    for mask in [Mask::Full, Mask::Causal] {
        let all = select_rows(&chain(&qkv).self_attention(2, mask, None).run().unwrap(), &wanted).unwrap();
        let some = chain(&qkv).self_attention(2, mask, Some(&wanted)).run().unwrap();
        assert!(difference(&all, &some) < 1e-5, "{mask:?}");
    }
    assert!(chain(&qkv).self_attention(2, Mask::Full, Some(&[0, 40, 1])).run().is_err());
}

#[test]
fn a_chain_equals_its_layers_one_by_one() {
    let x = random(&[2, 11, 30]);
    let (first, w1, b1) = linear(30, 45);
    let (second, w2, b2) = linear(45, 30);
    let (gain, shift) = (random(&[30]), random(&[30]));
    let norm = LayerNorm::new(values(&gain), values(&shift), 1e-5, &Backend::cpu()).unwrap();
    let y = candle_nn::ops::layer_norm(&x, &gain, &shift, 1e-5).unwrap();
    assert!(difference(&chain(&x).norm(&norm).run().unwrap(), &y) < 1e-5);
    let apply =
        |x: &Tensor, w: &Tensor, b: &Tensor| x.broadcast_matmul(&w.t().unwrap()).unwrap().broadcast_add(b).unwrap();
    let y = apply(&y, &w1, &b1).relu().unwrap();
    let y = (apply(&y, &w2, &b2) + &x).unwrap();
    let found =
        chain(&x).norm(&norm).linear(&first).activation(Activation::Relu).linear(&second).plus(&x).run().unwrap();
    assert!(difference(&found, &y) < 2e-4, "{}", difference(&found, &y));
    // A view, whose numbers do not lie side by side.
    let narrow = x.narrow(1, 3, 5).unwrap();
    let found = chain(&narrow).linear(&first).run().unwrap();
    assert!(difference(&found, &apply(&narrow.contiguous().unwrap(), &w1, &b1)) < 1e-4);
}

#[test]
fn what_does_not_fit_is_an_error_at_the_end() {
    let x = random(&[2, 5, 12]);
    let (layer, _, _) = linear(13, 4);
    assert!(chain(&x).linear(&layer).run().is_err());
    assert!(chain(&x).self_attention(5, Mask::Full, None).run().is_err());
    assert!(chain(&x).self_attention(0, Mask::Full, None).run().is_err());
    assert!(chain(&x).attend_to(chain(&random(&[3, 5, 24])), 2, Mask::Full).run().is_err());
    assert!(chain(&x).activation(Activation::Relu).run().is_err());
    let (layer, _, _) = linear(12, 4);
    assert!(chain(&x).linear(&layer).plus(&x).run().is_err());
    let bias = random(&[4, 4]);
    assert!(chain(&x).self_attention(2, Mask::Bias(&bias), None).run().is_err());
}
