//! The non-linear functions between the two layers of an MLP, and the pass that finishes a matrix product.

// Loop bodies are compiled for several kinds of vectors: they must end up inside the function that names the kind.
#![allow(clippy::inline_always)]

use candle_core::{CpuStorage, DType, InplaceOp2, Layout, Result, Tensor};
use rayon::prelude::*;

/// The functions that CLIP-like checkpoints name as `hidden_act`.
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

    /// The function of each value, in place.
    fn apply(self, values: &mut [f32]) {
        match self {
            Self::QuickGelu => values.iter_mut().for_each(|x| *x = *x / (1.0 + (-1.702 * *x).exp())),
            Self::Gelu => values.iter_mut().for_each(|x| {
                let erf = candle_core::cpu::erf::erf_f32(*x * std::f32::consts::FRAC_1_SQRT_2);
                *x *= 0.5 * (1.0 + erf);
            }),
            Self::GeluTanh => values.iter_mut().for_each(|x| {
                // (1 + tanh(z)) / 2 = 1 / (1 + exp(-2 z))
                let z = SQRT_2_OVER_PI * (*x + 0.044_715 * *x * *x * *x);
                *x /= 1.0 + (-2.0 * z).exp();
            }),
            Self::Relu => values.iter_mut().for_each(|x| *x = x.max(0.0)),
            Self::Silu => silu(values),
        }
    }

    /// As [`Activation::apply`], with candle's operations. Shape: any.
    pub(super) fn forward(self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::QuickGelu => x * candle_nn::ops::sigmoid(&(x * 1.702)?)?,
            Self::Gelu => x.gelu_erf(),
            Self::GeluTanh => x.gelu(),
            Self::Relu => x.relu(),
            Self::Silu => candle_nn::ops::silu(x),
        }
    }
}

const SQRT_2_OVER_PI: f32 = 0.797_884_6;

/// Adds the bias to every row of a fresh matrix product and applies the activation; in place on a CPU, so that a layer
/// is one pass over its product instead of four.
pub(super) fn finish(product: Tensor, bias: Option<&Tensor>, activation: Option<Activation>) -> Result<Tensor> {
    if product.device().is_cpu() && product.dtype() == DType::F32 {
        match (bias, activation) {
            (None, None) => {}
            (Some(bias), _) => product.inplace_op2(bias, &Finish { activation })?,
            (None, Some(_)) => {
                let width = product.dim(candle_core::D::Minus1)?;
                let zeros = Tensor::zeros(width, DType::F32, product.device())?;
                product.inplace_op2(&zeros, &Finish { activation })?;
            }
        }
        return Ok(product);
    }
    let product = match bias {
        Some(bias) => product.broadcast_add(bias)?,
        None => product,
    };
    activation.map_or_else(|| Ok(product.clone()), |activation| activation.forward(&product))
}

/// Adds a bias to some values of one plane and applies the activation, in place.
pub(super) fn finish_plane(values: &mut [f32], bias: Option<f32>, activation: Option<Activation>) {
    if let Some(bias) = bias {
        for x in values.iter_mut() {
            *x += bias;
        }
    }
    if let Some(activation) = activation {
        activation.apply(values);
    }
}

/// `x * sigmoid(x)` with the widest vectors of this processor.
fn silu(values: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx512f,avx512dq,avx512vl,fma")]
        fn avx512(values: &mut [f32]) {
            silu_body::<true>(values);
        }
        #[target_feature(enable = "avx2,fma")]
        fn avx2(values: &mut [f32]) {
            silu_body::<true>(values);
        }
        match widest() {
            // SAFETY: the processor has the features, as `widest` found.
            Widest::Avx512 => return unsafe { avx512(values) },
            // SAFETY: as above.
            Widest::Avx2 => return unsafe { avx2(values) },
            Widest::Base => {}
        }
    }
    silu_body::<false>(values);
}

/// Vectors that loops are compiled for a second and a third time.
#[cfg(target_arch = "x86_64")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Widest {
    /// 512 bits, with fused multiply-add.
    Avx512,
    /// 256 bits, with fused multiply-add.
    Avx2,
    /// What every processor of the architecture has.
    Base,
}

/// What this processor has; a look-up after the first call.
#[cfg(target_arch = "x86_64")]
pub(super) fn widest() -> Widest {
    use std::is_x86_feature_detected as has;
    let fma = has!("fma");
    if fma && has!("avx512f") && has!("avx512dq") && has!("avx512vl") {
        Widest::Avx512
    } else if fma && has!("avx2") {
        Widest::Avx2
    } else {
        Widest::Base
    }
}

#[inline(always)]
fn silu_body<const FUSED: bool>(values: &mut [f32]) {
    for x in values {
        *x /= 1.0 + exp::<FUSED>(-*x);
    }
}

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
    /// 1.5 * 2^23: a number added to it is rounded to an integer, which then stands in the lowest bits.
    const ROUNDER: f32 = 12_582_912.0;
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

struct Finish {
    activation: Option<Activation>,
}

impl InplaceOp2 for Finish {
    fn name(&self) -> &'static str {
        "add-bias-and-activate"
    }

    fn cpu_fwd(&self, product: &mut CpuStorage, at: &Layout, bias: &CpuStorage, bias_at: &Layout) -> Result<()> {
        let (CpuStorage::F32(product), CpuStorage::F32(bias)) = (product, bias) else {
            candle_core::bail!("add-bias-and-activate is for f32")
        };
        let (Some((start, end)), Some((bias_start, bias_end))) =
            (at.contiguous_offsets(), bias_at.contiguous_offsets())
        else {
            candle_core::bail!("add-bias-and-activate is for contiguous tensors")
        };
        let (product, bias) = (&mut product[start..end], &bias[bias_start..bias_end]);
        if bias.is_empty() {
            return Ok(());
        }
        product.par_chunks_mut(bias.len()).with_min_len(ROWS_PER_TASK).for_each(|row| {
            row.iter_mut().zip(bias).for_each(|(x, b)| *x += b);
            if let Some(activation) = self.activation {
                activation.apply(row);
            }
        });
        Ok(())
    }
}

/// Rows that one thread takes at least: below this, handing them over costs more than the arithmetic.
const ROWS_PER_TASK: usize = 4;

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    /// Values from torch 2.15: `quick_gelu` as `x * sigmoid(1.702 x)`, `nn.functional.gelu`, and its tanh form, at f64.
    const EXPECTED: [(Activation, [f64; 5]); 3] = [
        (Activation::QuickGelu, [-0.018_071_31, -0.149_611_56, 0.0, 0.845_795_77, 3.995_585_3]),
        (Activation::Gelu, [-0.004_049_69, -0.154_268_77, 0.0, 0.841_344_75, 3.999_873_3]),
        (Activation::GeluTanh, [-0.003_637_39, -0.154_285_99, 0.0, 0.841_191_99, 3.999_929_7]),
    ];

    #[test]
    fn activations_equal_the_reference_with_and_without_a_bias() {
        let inputs = [-3f32, -0.5, 0.0, 1.0, 4.0];
        for (activation, expected) in EXPECTED {
            let x = Tensor::new(&[inputs, inputs], &Device::Cpu).unwrap();
            let shifted = (&x - 1.0).unwrap();
            let ones = Tensor::ones(5, DType::F32, &Device::Cpu).unwrap();
            let general = activation.forward(&x).unwrap();
            let bare = finish(x, None, Some(activation)).unwrap();
            let biased = finish(shifted, Some(&ones), Some(activation)).unwrap();
            for result in [general, bare, biased] {
                for row in result.to_vec2::<f32>().unwrap() {
                    for (found, expected) in row.into_iter().zip(expected) {
                        assert!((f64::from(found) - expected).abs() < 2e-6, "{activation:?}: {found} {expected}");
                    }
                }
            }
        }
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
        let mut values: Vec<f32> = (-40..40).map(|n| n as f32 / 3.0).collect();
        let expected: Vec<f32> = values.iter().map(|x| x / (1.0 + (-x).exp())).collect();
        silu(&mut values);
        assert!(values.iter().zip(&expected).all(|(f, e)| (f - e).abs() < 1e-6), "{values:?}");
    }

    #[test]
    fn every_name_is_known() {
        assert!(Activation::NAMES.iter().all(|name| Activation::from_name(name).is_some()));
        assert_eq!(Activation::from_name("relu"), None);
    }
}
