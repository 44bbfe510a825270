//! The non-linear functions between the layers of a network, and the pass that finishes a part of a matrix product.

// Loop bodies are compiled for several kinds of vectors: they must end up inside the function that names the kind.
#![allow(clippy::inline_always)]

use super::simd::{ROUNDER, in_widest};

/// The functions that checkpoints name as `hidden_act`, and those of convolutional networks.
///
/// Source: transformers 5.23, `activations.py` (`ACT2FN`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// `x * sigmoid(1.702 x)`: `OpenAI`'s CLIP.
    QuickGelu,
    /// `x / 2 * (1 + erf(x / sqrt(2)))`, exactly: `OpenCLIP`.
    Gelu,
    /// `x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3)))`: `SigLIP`.
    GeluTanh,
    /// `max(x, 0)`.
    Relu,
    /// `x * sigmoid(x)`, also named swish.
    Silu,
    /// `1 / (1 + exp(-x))`.
    Sigmoid,
}

impl Activation {
    /// The names under which a config may ask for one of these.
    pub const NAMES: [&'static str; 5] = ["quick_gelu", "gelu", "gelu_python", "gelu_pytorch_tanh", "gelu_new"];

    /// The function of this name, when it is one of [`Activation::NAMES`].
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "quick_gelu" => Some(Self::QuickGelu),
            "gelu" | "gelu_python" => Some(Self::Gelu),
            "gelu_pytorch_tanh" | "gelu_new" => Some(Self::GeluTanh),
            _ => None,
        }
    }
}

/// Some columns of some rows of a matrix, which nobody else touches.
pub(super) struct Block {
    first: *mut f32,
    stride: usize,
    rows: usize,
    width: usize,
}

impl Block {
    /// `rows` rows of `width` numbers, `stride` apart, from `first` on.
    ///
    /// # Safety
    /// They are there, and nobody else reads or writes them as long as the block lives.
    pub(super) unsafe fn new(first: *mut f32, stride: usize, rows: usize, width: usize) -> Self {
        Self { first, stride, rows, width }
    }

    #[inline(always)]
    fn row(&mut self, index: usize) -> &mut [f32] {
        assert!(index < self.rows, "a row outside of its block");
        // SAFETY: `new` was told that the row is there and belongs to this block, which is borrowed as a whole.
        unsafe { std::slice::from_raw_parts_mut(self.first.add(index * self.stride), self.width) }
    }

    /// The function of all numbers: of one run where the rows have no gaps.
    #[inline(always)]
    fn apply<const FUSED: bool>(&mut self, activation: Activation) {
        if self.width == self.stride {
            // SAFETY: as in `row`; rows without gaps are one run of numbers.
            apply::<FUSED>(activation, unsafe { std::slice::from_raw_parts_mut(self.first, self.rows * self.width) });
        } else {
            for index in 0..self.rows {
                apply::<FUSED>(activation, self.row(index));
            }
        }
    }
}

/// What is added to a block's rows: numbers of another matrix, and from one of its rows to the next.
pub(super) type Residual<'a> = (&'a [f32], usize);

in_widest! {
    /// Adds the bias to each row, applies the activation, adds the residual, applies the last activation, in place.
    pub(super) fn finish_block(
        block: &mut Block,
        bias: Option<&[f32]>,
        activation: Option<Activation>,
        residual: Option<Residual<'_>>,
        last: Option<Activation>,
    ) = finish_block_body
}

#[inline(always)]
fn finish_block_body<const FUSED: bool>(
    block: &mut Block,
    bias: Option<&[f32]>,
    activation: Option<Activation>,
    residual: Option<Residual<'_>>,
    last: Option<Activation>,
) {
    if let Some(bias) = bias {
        for index in 0..block.rows {
            add(block.row(index), bias);
        }
    }
    if let Some(activation) = activation {
        block.apply::<FUSED>(activation);
    }
    if let Some((values, stride)) = residual {
        for index in 0..block.rows {
            add(block.row(index), values.get(index * stride..).unwrap_or_default());
        }
    }
    if let Some(last) = last {
        block.apply::<FUSED>(last);
    }
}

/// Numbers that are worked on as vectors, whatever follows them.
const RUN: usize = 16;

/// Adds numbers to numbers. Shapes: both `[width]`, `other` or more.
#[inline(always)]
fn add(values: &mut [f32], other: &[f32]) {
    let (runs, rest) = values.as_chunks_mut::<RUN>();
    let (others, _) = other.as_chunks::<RUN>();
    for (run, other) in runs.iter_mut().zip(others) {
        for lane in 0..RUN {
            run[lane] += other[lane];
        }
    }
    let done = runs.len() * RUN;
    rest.iter_mut().zip(other.get(done..).unwrap_or_default()).for_each(|(x, y)| *x += y);
}

/// The function of each value, in place. `1 / (1 + e^-x)` is `1 / (1 + 2^(-x log2 e))`.
#[inline(always)]
fn apply<const FUSED: bool>(activation: Activation, values: &mut [f32]) {
    use std::f32::consts::{FRAC_1_SQRT_2, LOG2_E};
    match activation {
        Activation::QuickGelu => values.iter_mut().for_each(|x| *x /= 1.0 + exp2::<FUSED>(-1.702 * LOG2_E * *x)),
        Activation::Gelu => values.iter_mut().for_each(|x| *x *= 0.5 * (1.0 + erf::<FUSED>(*x * FRAC_1_SQRT_2))),
        Activation::GeluTanh => values.iter_mut().for_each(|x| {
            // (1 + tanh(z)) / 2 = 1 / (1 + exp(-2 z))
            let z = *x * multiply_add::<FUSED>(0.044_715 * *x, *x, 1.0);
            *x /= 1.0 + exp2::<FUSED>(-2.0 * SQRT_2_OVER_PI * LOG2_E * z);
        }),
        Activation::Relu => values.iter_mut().for_each(|x| *x = x.max(0.0)),
        Activation::Silu => values.iter_mut().for_each(|x| *x /= 1.0 + exp2::<FUSED>(-LOG2_E * *x)),
        Activation::Sigmoid => values.iter_mut().for_each(|x| *x = 1.0 / (1.0 + exp2::<FUSED>(-LOG2_E * *x))),
    }
}

const SQRT_2_OVER_PI: f32 = 0.797_884_6;

/// `a * b + c`; as one operation where the processor has it, since without it the call would be a slow exact one.
#[inline(always)]
pub(super) fn multiply_add<const FUSED: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FUSED { a.mul_add(b, c) } else { a * b + c }
}

/// `e^x` for vectors: within 1.2e-7 of its value, no branch, no call. Outside of what f32 holds it saturates.
///
/// Source: Cephes, `expf.c` (range reduction by ln 2 in two parts, polynomial of degree 5).
#[inline(always)]
pub(super) fn exp<const FUSED: bool>(x: f32) -> f32 {
    let x = x.clamp(-87.3, 88.3);
    let shifted = multiply_add::<FUSED>(x, std::f32::consts::LOG2_E, ROUNDER);
    let n = shifted - ROUNDER;
    let r = multiply_add::<FUSED>(n, 2.121_944_4e-4, multiply_add::<FUSED>(n, -0.693_359_4, x));
    let mut p = 1.987_569_1e-4;
    for coefficient in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        p = multiply_add::<FUSED>(p, r, coefficient);
    }
    let y = multiply_add::<FUSED>(p * r, r, r + 1.0);
    // Times 2^n: n goes into the exponent's bits; a conversion to an integer would check its range for every value.
    f32::from_bits(y.to_bits().wrapping_add(shifted.to_bits() << 23))
}

/// `2^x` for vectors, within 1.6e-7 of its value, in fewer steps than [`exp`], which would lose digits of a large argument this way.
/// Outside of what f32 holds it saturates. The polynomial of degree 5 is the one of least relative error (9e-8) between -1/2 and
/// 1/2 that is 1 at 0.
#[inline(always)]
#[expect(clippy::approx_constant, reason = "the polynomial's coefficient is near ln 2 but not it")]
fn exp2<const FUSED: bool>(x: f32) -> f32 {
    let x = x.clamp(-126.0, 126.0);
    let shifted = x + ROUNDER;
    let r = x - (shifted - ROUNDER);
    let mut p = 1.326_472_7e-3;
    for coefficient in [9.671_513e-3, 5.550_733_7e-2, 2.402_224_2e-1, 6.931_47e-1, 1.0] {
        p = multiply_add::<FUSED>(p, r, coefficient);
    }
    // As in `exp`.
    f32::from_bits(p.to_bits().wrapping_add(shifted.to_bits() << 23))
}

/// The error function for vectors, within 2e-7.
///
/// Source: Abramowitz and Stegun, 7.1.26.
#[inline(always)]
fn erf<const FUSED: bool>(x: f32) -> f32 {
    let size = x.abs();
    let t = 1.0 / multiply_add::<FUSED>(size, 0.327_591_1, 1.0);
    let mut p = 1.061_405_4;
    for coefficient in [-1.453_152, 1.421_413_7, -0.284_496_74, 0.254_829_6] {
        p = multiply_add::<FUSED>(p, t, coefficient);
    }
    (1.0 - p * t * exp::<FUSED>(-size * size)).copysign(x)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values from torch 2.15: `quick_gelu` as `x * sigmoid(1.702 x)`, `nn.functional.gelu`, its tanh form, and `silu`, at f64.
    const EXPECTED: [(Activation, [f64; 5]); 6] = [
        (Activation::QuickGelu, [-0.018_071_31, -0.149_611_56, 0.0, 0.845_795_77, 3.995_585_3]),
        (Activation::Gelu, [-0.004_049_69, -0.154_268_77, 0.0, 0.841_344_75, 3.999_873_3]),
        (Activation::GeluTanh, [-0.003_637_39, -0.154_285_99, 0.0, 0.841_191_99, 3.999_929_7]),
        (Activation::Silu, [-0.142_277_62, -0.188_770_33, 0.0, 0.731_058_58, 3.928_055_2]),
        (Activation::Relu, [0.0, 0.0, 0.0, 1.0, 4.0]),
        (Activation::Sigmoid, [0.047_425_87, 0.377_540_67, 0.5, 0.731_058_58, 0.982_013_79]),
    ];

    fn finish(
        values: &mut [f32],
        stride: usize,
        width: usize,
        bias: Option<&[f32]>,
        activation: Activation,
        residual: Option<Residual<'_>>,
    ) {
        // SAFETY: the rows lie in `values`, which is borrowed for this call.
        let mut block = unsafe { Block::new(values.as_mut_ptr(), stride, values.len() / stride, width) };
        finish_block(&mut block, bias, Some(activation), residual, None);
    }

    #[test]
    fn activations_equal_the_reference_with_and_without_a_bias() {
        let inputs = [-3f32, -0.5, 0.0, 1.0, 4.0];
        for (activation, expected) in EXPECTED {
            // As one run, in rows, and in rows with gaps.
            let mut bare = inputs.repeat(5);
            finish(&mut bare, 25, 25, None, activation, None);
            let mut biased: Vec<f32> = inputs.repeat(6).iter().map(|x| x - 1.0).collect();
            finish(&mut biased, 5, 5, Some(&[1.0; 5]), activation, Some((&[2.0; 30], 5)));
            let mut gaps: Vec<f32> = inputs.repeat(6).iter().map(|x| x + 1.0).collect();
            finish(&mut gaps, 10, 5, Some(&[-1.0; 5]), activation, Some((&[2.0; 30], 0)));
            assert!(gaps.chunks(10).all(|row| row[5..].iter().zip(inputs).all(|(x, y)| (x - y - 1.0).abs() < 1e-6)));
            let gaps = gaps.chunks(10).flat_map(|row| &row[..5]);
            let shifted: Vec<f32> = biased.iter().chain(gaps).map(|x| x - 2.0).collect();
            for row in bare.chunks(5).chain(shifted.chunks(5)) {
                for (found, expected) in row.iter().zip(expected) {
                    assert!((f64::from(*found) - expected).abs() < 2e-6, "{activation:?}: {found} {expected}");
                }
            }
        }
    }

    #[test]
    fn a_power_of_two_is_exact_to_a_few_units_and_saturates() {
        for step in -12_600..12_600 {
            let x = step as f32 * 0.01;
            let expected = f64::from(x).exp2();
            for found in [exp2::<false>(x), exp2::<true>(x)] {
                assert!(((f64::from(found) - expected) / expected).abs() < 2e-7, "{x}: {found} {expected}");
            }
        }
        for x in [f32::INFINITY, 1e30, 200.0] {
            assert!(exp2::<true>(x) > 8e37 && exp2::<true>(-x) < 1.2e-38);
        }
        let mut far = [-1e30, -200.0, 200.0, 1e30];
        apply::<true>(Activation::Silu, &mut far);
        assert!(far[0].abs() < 1e-7 && far[1].abs() < 1e-30 && far[2..] == [200.0, 1e30], "{far:?}");
    }

    #[test]
    fn the_exponential_is_exact_to_a_few_units_and_saturates() {
        for step in -4300..4400 {
            let x = step as f32 * 0.02;
            let expected = f64::from(x).exp();
            for found in [exp::<false>(x), exp::<true>(x)] {
                assert!(((f64::from(found) - expected) / expected).abs() < 2e-7, "{x}: {found} {expected}");
            }
        }
        for x in [f32::INFINITY, 1e30, 200.0] {
            assert!(exp::<true>(x) > 1e38 && exp::<true>(-x) < 1.3e-38);
        }
    }

    #[test]
    fn the_error_function_has_the_values_of_the_tables() {
        // Abramowitz and Stegun, table 7.1.
        for (x, expected) in
            [(0.0, 0.0), (0.1, 0.112_462_9), (0.5, 0.520_499_9), (1.0, 0.842_700_8), (2.0, 0.995_322_3)]
        {
            for found in [erf::<true>(x), -erf::<false>(-x)] {
                assert!((found - expected).abs() < 3e-7, "{x}: {found}");
            }
        }
        assert!((erf::<true>(9.0) - 1.0).abs() < 1e-7);
    }

    #[test]
    fn every_name_is_known() {
        assert!(Activation::NAMES.iter().all(|name| Activation::from_name(name).is_some()));
        assert_eq!(Activation::from_name("relu"), None);
    }
}
