//! Scaled dot-product attention: `softmax(q k^T + mask) v` for every head.
//!
//! On a CPU one head of one sequence is one task: its keys and values are packed as panels of the product's kernel, a block
//! of queries is scored, weighed and summed while it stays in the cache, and nothing of the size `queries x keys` of a
//! whole batch is ever written. Elsewhere it is candle's operations.

#![allow(clippy::inline_always)]

use candle_core::{D, DType, Tensor};
use rayon::prelude::*;

use super::activation::exp;
use super::buffers::{Apart, Buffer};
use super::gpu;
use super::product::{Matrix, Number, Panels, kernel};
use super::simd::in_widest;

/// Which keys a query may look at.
#[derive(Debug, Clone, Copy)]
pub enum Mask<'a> {
    /// All of them.
    Full,
    /// In a sequence that looks at itself: its own position and the ones before it.
    Causal,
    /// The first so many of each sequence; the others are padding. Shape: `[batch]`.
    Keys(&'a [usize]),
    /// Any numbers, added to every head's scores. Shape: `[queries, keys]` or `[batch, queries, keys]`.
    Bias(&'a Tensor),
}

/// The projections of a batch on a CPU: each `[batch, len, heads * size]`, in rows that may lie apart.
#[derive(Debug, Clone, Copy)]
pub(super) struct Projections<'a> {
    /// Queries, scaled by `1 / sqrt(size)`; one sequence serves a whole batch.
    pub(super) q: Sequences<'a>,
    pub(super) k: Sequences<'a>,
    pub(super) v: Sequences<'a>,
    pub(super) heads: usize,
}

/// Rows of several sequences, one sequence after the other.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sequences<'a> {
    /// `width` is that of all heads.
    pub(super) rows: Matrix<'a>,
    /// Rows of one sequence.
    pub(super) len: usize,
}

impl<'a> Sequences<'a> {
    /// One head of one sequence.
    fn head(&self, sequence: usize, head: usize, size: usize) -> Matrix<'a> {
        let start = sequence * self.len * self.rows.stride + head * size;
        let values = self.rows.values.get(start..).unwrap_or_default();
        Matrix { values, rows: self.len, width: size, stride: self.rows.stride }
    }

    fn count(&self) -> usize {
        self.rows.rows / self.len.max(1)
    }
}

/// What is added to the scores of one sequence's queries, row after row; and the keys that there are.
#[derive(Clone, Copy)]
struct Visible<'a> {
    keys: usize,
    causal: bool,
    bias: Option<&'a [f32]>,
}

/// Attention of a batch. Shape: -> `out` `[batch, queries, heads * size]`. The caller has checked the shapes.
pub(super) fn attend(of: &Projections<'_>, mask: &CpuMask<'_>, out: &mut [f32]) {
    let (heads, hidden) = (of.heads, of.q.rows.width);
    let (size, queries) = (hidden / heads.max(1), of.q.len);
    let batch = of.k.count();
    if batch == 0 || queries == 0 || size == 0 {
        return;
    }
    let place = Apart::new(out);
    assert!(out.len() >= batch * queries * hidden, "the output of an attention is too short");
    (0..batch * heads).into_par_iter().for_each(|task| {
        let (sequence, head) = (task / heads, task % heads);
        let q = of.q.head(if of.q.count() == 1 { 0 } else { sequence }, head, size);
        let (k, v) = (of.k.head(sequence, head, size), of.v.head(sequence, head, size));
        let visible = mask.of(sequence, queries, of.k.len);
        one_head(q, k, v, visible, |query, row| {
            let at = (sequence * queries + query) * hidden + head * size;
            // SAFETY: inside of `out`, as asserted; each task writes the columns of its own head and sequence.
            let target = unsafe { std::slice::from_raw_parts_mut(place.at(at), size) };
            target.copy_from_slice(row);
        });
    });
}

/// A mask whose numbers are at hand.
pub(super) enum CpuMask<'a> {
    Full,
    Causal,
    Keys(&'a [usize]),
    /// Shape: `[queries, keys]` or `[batch, queries, keys]`.
    Bias(&'a [f32]),
}

impl CpuMask<'_> {
    fn of(&self, sequence: usize, queries: usize, keys: usize) -> Visible<'_> {
        let all = Visible { keys, causal: false, bias: None };
        match self {
            Self::Full => all,
            Self::Causal => Visible { causal: true, ..all },
            Self::Keys(lengths) => {
                Visible { keys: lengths.get(sequence).map_or(keys, |length| keys.min(*length)), ..all }
            }
            Self::Bias(bias) => {
                let start = if bias.len() > queries * keys { sequence * queries * keys } else { 0 };
                Visible { bias: bias.get(start..), ..all }
            }
        }
    }
}

/// Queries that are scored at a time, a multiple of every kernel's rows.
const QUERIES: usize = 48;

/// One head of one sequence. Shapes: `q` `[queries, size]`, `k`, `v` `[keys, size]`; `put` is given each query's result.
fn one_head(q: Matrix<'_>, k: Matrix<'_>, v: Matrix<'_>, visible: Visible<'_>, mut put: impl FnMut(usize, &[f32])) {
    let kernel = kernel(Number::F32);
    let size = q.width;
    let keys = visible.keys;
    let all_keys = Panels::of_rows(kernel, Matrix { rows: keys, ..k });
    let values = Panels::of_columns(kernel, Matrix { rows: keys, ..v });
    let (wide, tall) = (all_keys.padded(), values.padded());
    let (mut scores, mut sums) = (Buffer::of::<f32>(QUERIES * wide), Buffer::of::<f32>(QUERIES * tall));
    for start in (0..q.rows).step_by(QUERIES) {
        let count = QUERIES.min(q.rows - start);
        // Under a causal mask the keys behind the last query of the block are nobody's.
        let seen = if visible.causal { keys.min(start + count) } else { keys };
        let block = Matrix { values: q.values.get(start * q.stride..).unwrap_or_default(), rows: count, ..q };
        all_keys.multiply(block, seen, scores.slice_mut(), wide); // [count, seen]
        let mut totals = [1.0; QUERIES];
        for ((row, total), query) in
            scores.slice_mut::<f32>().chunks_mut(wide.max(1)).zip(&mut totals).zip(start..start + count)
        {
            let row = row.get_mut(..seen).unwrap_or_default();
            if let Some(bias) = visible.bias.and_then(|bias| bias.get(query * k.rows..)) {
                row.iter_mut().zip(bias).for_each(|(score, bias)| *score += bias);
            }
            let own = if visible.causal { seen.min(query + 1) } else { seen };
            let (row, hidden) = row.split_at_mut(own);
            hidden.fill(0.0);
            *total = exponentials(row);
        }
        let weights = Matrix { values: scores.slice(), rows: count, width: seen, stride: wide };
        values.multiply(weights, size, sums.slice_mut(), tall); // [count, size]
        for ((row, total), query) in
            sums.slice_mut::<f32>().chunks_mut(tall.max(1)).zip(totals).zip(start..start + count)
        {
            let row = row.get_mut(..size).unwrap_or_default();
            // A query that may look at nothing sees zeros, not 0 / 0.
            let factor = if total > 0.0 { 1.0 / total } else { 0.0 };
            for value in row.iter_mut() {
                *value *= factor;
            }
            put(query, row);
        }
    }
}

in_widest! {
    /// `exp(x - max)` of every score, in place; returns their sum.
    fn exponentials(row: &mut [f32]) -> f32 = exponentials_body
}

#[inline(always)]
fn exponentials_body<const FUSED: bool>(row: &mut [f32]) -> f32 {
    const LANES: usize = 16;
    let mut most = [f32::NEG_INFINITY; LANES];
    let (chunks, rest) = row.as_chunks::<LANES>();
    for chunk in chunks {
        for lane in 0..LANES {
            most[lane] = if chunk[lane] > most[lane] { chunk[lane] } else { most[lane] };
        }
    }
    let most = most.iter().chain(rest).copied().fold(f32::NEG_INFINITY, f32::max);
    if most == f32::NEG_INFINITY {
        row.fill(0.0);
        return 0.0;
    }
    // Below this a weight is nothing beside the largest, which is 1.
    let weight = |score: f32| if score - most < -87.0 { 0.0 } else { exp::<FUSED>(score - most) };
    let mut sums = [0.0_f32; LANES];
    let (chunks, rest) = row.as_chunks_mut::<LANES>();
    for chunk in chunks {
        for lane in 0..LANES {
            chunk[lane] = weight(chunk[lane]);
            sums[lane] += chunk[lane];
        }
    }
    for (value, sum) in rest.iter_mut().zip(&mut sums) {
        *value = weight(*value);
        *sum += *value;
    }
    sums.into_iter().sum()
}

/// As [`attend`], elsewhere than on a CPU: queries, keys and values, each with the bias that is still to be added. Shapes:
/// `[batch or 1, queries, hidden]`, `[batch, keys, hidden]` twice, biases `[hidden]` -> `[batch, queries, hidden]`.
pub(super) fn attend_anywhere(
    parts: [(&Tensor, Option<&Tensor>); 3],
    heads: usize,
    mask: &Mask<'_>,
) -> candle_core::Result<Tensor> {
    if let Some(attended) = gpu::attention(parts, heads, mask)? {
        return Ok(attended);
    }
    let whole =
        |(x, bias): (&Tensor, Option<&Tensor>)| bias.map_or_else(|| Ok(x.clone()), |bias| x.broadcast_add(bias));
    let [q, k, v] = parts.map(whole);
    attend_with_candle(&q?, &k?, &v?, heads, mask)
}

/// As [`attend_anywhere`], with candle's operations.
pub(super) fn attend_with_candle(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    heads: usize,
    mask: &Mask<'_>,
) -> candle_core::Result<Tensor> {
    let split = |x: &Tensor| {
        let (batch, len, hidden) = x.dims3()?;
        x.reshape((batch, len, heads, hidden / heads.max(1)))?.transpose(1, 2)?.contiguous() // [batch, heads, len, size]
    };
    let (batch, keys, _) = k.dims3()?;
    let q = if q.dim(0)? == batch { split(q)? } else { split(q)?.repeat((batch, 1, 1, 1))? };
    let queries = q.dim(2)?;
    let scores = q.matmul(&split(k)?.t()?)?.to_dtype(DType::F32)?; // [batch, heads, queries, keys]
    let hide = |hidden: &dyn Fn(usize, usize, usize) -> bool, batch: usize| {
        let at = |i: usize| (i / (queries * keys), i / keys % queries, i % keys);
        let values: Vec<f32> = (0..batch * queries * keys)
            .map(|i| if hidden(at(i).0, at(i).1, at(i).2) { f32::NEG_INFINITY } else { 0.0 })
            .collect();
        Tensor::from_vec(values, (batch, 1, queries, keys), scores.device())
    };
    let bias = match mask {
        Mask::Full => None,
        Mask::Causal => Some(hide(&|_, query, key| key > query, 1)?),
        Mask::Keys(lengths) => {
            Some(hide(&|sequence, _, key| lengths.get(sequence).is_some_and(|length| key >= *length), batch)?)
        }
        Mask::Bias(bias) => Some(bias.to_dtype(DType::F32)?.reshape(((), 1, queries, keys))?),
    };
    let scores = match bias {
        Some(bias) => scores.broadcast_add(&bias)?,
        None => scores,
    };
    // In 32-bit floats, as the reference.
    let weights = candle_nn::ops::softmax_last_dim(&scores)?.to_dtype(v.dtype())?;
    weights.matmul(&split(v)?)?.transpose(1, 2)?.flatten(D::Minus2, D::Minus1) // [batch, queries, hidden]
}
