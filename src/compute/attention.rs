//! Scaled dot-product attention over packed projections.

use candle_core::{D, DType, Tensor};
use rayon::prelude::*;

use crate::error::{Error, Result};

/// Which positions a position may look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mask {
    /// All of them.
    Full,
    /// Itself and the ones before it.
    Causal,
}

/// `softmax(q k^T) v` for every head of a sequence that looks at itself; `q` comes scaled by `1 / sqrt(head size)`.
///
/// Shapes: `[batch, len, 3 * hidden]`, queries, keys and values side by side -> `[batch, len, hidden]`; `heads` divides
/// `hidden`.
///
/// # Errors
/// The shapes do not fit.
///
/// Source: Vaswani et al. 2017, section 3.2.
pub fn self_attention(qkv: &Tensor, heads: usize, mask: Mask) -> Result<Tensor> {
    let run = || {
        let mask = match mask {
            Mask::Full => None,
            Mask::Causal => Some(causal(qkv)?),
        };
        each_or_all(qkv, |qkv| {
            let [q, k, v] = split(qkv, heads)?;
            heads_of(&q, &k, &v, mask.as_ref())
        })
    };
    run().map_err(Error::tensor("self-attention"))
}

/// As [`self_attention`], for the same queries to every sequence of a batch.
///
/// Shapes: `q` `[queries, hidden]`, `kv` `[batch, keys, 2 * hidden]` -> `[batch, queries, hidden]`.
///
/// # Errors
/// The shapes do not fit.
pub fn cross_attention(q: &Tensor, kv: &Tensor, heads: usize) -> Result<Tensor> {
    let run = || {
        each_or_all(kv, |kv| {
            let [k, v] = split(kv, heads)?;
            let [q] = split(q, heads)?; // [heads, queries, size]
            let q = if kv.rank() == 3 { q.unsqueeze(0)?.repeat((kv.dim(0)?, 1, 1, 1))? } else { q };
            heads_of(&q, &k, &v, None)
        })
    };
    run().map_err(Error::tensor("cross-attention"))
}

/// Runs `attend` on the whole batch on a GPU; on a CPU sequence by sequence, each on one thread, because the products of
/// one head are too small to be shared between threads.
fn each_or_all<F>(packed: &Tensor, attend: F) -> candle_core::Result<Tensor>
where
    F: Fn(&Tensor) -> candle_core::Result<Tensor> + Sync,
{
    if !packed.device().is_cpu() {
        return attend(packed);
    }
    let sequences = (0..packed.dim(0)?)
        .into_par_iter()
        .map(|i| attend(&packed.get(i)?))
        .collect::<candle_core::Result<Vec<_>>>()?;
    Tensor::stack(&sequences, 0)
}

/// Views of the packed projections. Shape: `[.., len, N * heads * size]` -> N of `[.., heads, len, size]`.
fn split<const N: usize>(packed: &Tensor, heads: usize) -> candle_core::Result<[Tensor; N]> {
    let mut shape = packed.dims().to_vec();
    let width = shape.pop().unwrap_or(0);
    shape.extend([N, heads, width / (N * heads.max(1))]);
    // Without a copy: the matrix product takes any strides on a CPU.
    let parts = packed.reshape(shape)?; // [.., len, N, heads, size]
    let mut views = Vec::with_capacity(N);
    for part in 0..N {
        let view = parts.narrow(D::Minus(3), part, 1)?.squeeze(D::Minus(3))?; // [.., len, heads, size]
        views.push(view.transpose(D::Minus(3), D::Minus2)?); // [.., heads, len, size]
    }
    views.try_into().map_err(|_| candle_core::Error::msg("a part of the projections is missing").bt())
}

/// Shapes: `[.., heads, queries, size]`, `[.., heads, keys, size]` twice -> `[.., queries, heads * size]`.
fn heads_of(q: &Tensor, k: &Tensor, v: &Tensor, mask: Option<&Tensor>) -> candle_core::Result<Tensor> {
    // A batch of heads has two outer strides, which no product takes; one sequence has one.
    let solid = |x: &Tensor| if x.rank() > 3 { x.contiguous() } else { Ok(x.clone()) };
    let scores = solid(q)?.matmul(&solid(k)?.t()?)?.to_dtype(DType::F32)?; // [.., heads, queries, keys]
    let scores = match mask {
        Some(mask) => scores.broadcast_add(mask)?,
        None => scores,
    };
    // In 32-bit floats, as the reference.
    let weights = candle_nn::ops::softmax_last_dim(&scores)?.to_dtype(q.dtype())?;
    weights.matmul(&solid(v)?)?.transpose(D::Minus(3), D::Minus2)?.flatten(D::Minus2, D::Minus1) // [.., queries, hidden]
}

/// Zero where a position may look, minus infinity where it may not. Shape: `[len, len]`.
fn causal(x: &Tensor) -> candle_core::Result<Tensor> {
    let len = x.dim(D::Minus2)?;
    let values: Vec<f32> = (0..len * len).map(|i| if i % len > i / len { f32::NEG_INFINITY } else { 0.0 }).collect();
    Tensor::from_vec(values, (len, len), x.device())
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    /// Two heads of size 1: written out by hand.
    #[test]
    fn heads_are_apart_and_the_future_is_hidden() {
        // Rows: q0 q1 k0 k1 v0 v1.
        let rows = [[1f32, 0., 0., 9., 1., 10.], [1., 0., 2f32.ln(), 9., 4., 30.]];
        let qkv = Tensor::new(&[rows, rows], &Device::Cpu).unwrap();
        let full = self_attention(&qkv, 2, Mask::Full).unwrap().to_vec3::<f32>().unwrap();
        let causal = self_attention(&qkv, 2, Mask::Causal).unwrap().to_vec3::<f32>().unwrap();
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
    fn one_sequence_at_a_time_equals_the_whole_batch() {
        let qkv = Tensor::randn(0f32, 1., (3, 5, 3 * 8), &Device::Cpu).unwrap();
        let apart = self_attention(&qkv, 2, Mask::Full).unwrap();
        let [q, k, v] = split(&qkv, 2).unwrap();
        let whole = heads_of(&q, &k, &v, None).unwrap();
        assert_eq!(whole.dims(), &[3, 5, 8]);
        let difference = (apart - whole).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
        assert!(difference < 1e-6, "{difference}");
    }
}
