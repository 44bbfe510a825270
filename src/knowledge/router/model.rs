//! A linear model over hashed features: one softmax for the primary label, one sigmoid per label for the set.
//!
//! Its file (assets/router/router.bin, written by `examples/train_router`) holds a table of buckets. A feature may lie
//! in one of two buckets; a bucket keeps eight bits of its owner's hash, so that a feature never seen in training
//! finds, but for one time in 128, nothing.

use super::features::Feature;
use super::label::Label;

/// Outputs: the softmax's ten, then the sigmoids' ten.
pub const OUTPUTS: usize = 2 * Label::COUNT;

/// Buckets of the table.
pub const BUCKETS: usize = 1 << 18;

const MAGIC: &[u8; 8] = b"CAROUTE1";
/// Magic, temperature, then a scale and a bias per output, all f32 little-endian.
const HEADER: usize = 8 + 4 + OUTPUTS * 8;

static FILE: &[u8] = include_bytes!("../../../assets/router/router.bin");

/// The shipped model, read in place.
#[derive(Debug, Clone)]
pub struct Model<'a> {
    /// Logits of the softmax are divided by it, so that probabilities mean what they say.
    pub temperature: f32,
    /// What a weight of one stands for, per output.
    pub scales: [f32; OUTPUTS],
    /// Added to each output.
    pub biases: [f32; OUTPUTS],
    marks: &'a [u8],
    /// Signed bytes, kept unsigned since the file is read in place.
    weights: &'a [u8],
}

impl Model<'static> {
    /// The model in the binary; without one (a checkout before its first training) every weight is zero.
    pub fn shipped() -> Self {
        Self::read(FILE).unwrap_or(Self {
            temperature: 1.0,
            scales: [0.0; OUTPUTS],
            biases: [0.0; OUTPUTS],
            marks: &[],
            weights: &[],
        })
    }
}

impl<'a> Model<'a> {
    /// Reads a model file; `None` when it is not one.
    pub fn read(file: &'a [u8]) -> Option<Self> {
        if file.get(..8)? != MAGIC || file.len() != HEADER + BUCKETS * (1 + OUTPUTS) {
            return None;
        }
        let number = |at: usize| {
            let bytes: [u8; 4] = file.get(at..at + 4)?.try_into().ok()?;
            Some(f32::from_le_bytes(bytes))
        };
        let mut scales = [0.0; OUTPUTS];
        let mut biases = [0.0; OUTPUTS];
        for (output, (scale, bias)) in scales.iter_mut().zip(&mut biases).enumerate() {
            *scale = number(12 + output * 8)?;
            *bias = number(16 + output * 8)?;
        }
        let marks = file.get(HEADER..HEADER + BUCKETS)?;
        let weights = file.get(HEADER + BUCKETS..)?;
        Some(Self { temperature: number(8)?, scales, biases, marks, weights })
    }

    /// The twenty weights of a feature, if training saw it.
    pub fn weights_of(&self, feature: &Feature) -> Option<impl Iterator<Item = f32> + 'a> {
        let mark = mark_of(feature.hash);
        let bucket = buckets_of(feature.hash).into_iter().find(|bucket| self.marks.get(*bucket) == Some(&mark))?;
        let weights = self.weights.get(bucket * OUTPUTS..(bucket + 1) * OUTPUTS)?;
        Some(weights.iter().map(|weight| f32::from(weight.cast_signed())))
    }

    /// The twenty outputs for some features.
    pub fn outputs(&self, features: &[Feature]) -> [f32; OUTPUTS] {
        let mut sums = [0.0_f32; OUTPUTS];
        for feature in features {
            if let Some(weights) = self.weights_of(feature) {
                for (sum, weight) in sums.iter_mut().zip(weights) {
                    *sum += feature.value * weight;
                }
            }
        }
        for ((sum, scale), bias) in sums.iter_mut().zip(&self.scales).zip(&self.biases) {
            *sum = *sum * scale + bias;
        }
        sums
    }
}

/// The two buckets where a feature may lie.
pub fn buckets_of(hash: u64) -> [usize; 2] {
    [(hash >> 40) as usize % BUCKETS, (hash >> 8) as usize % BUCKETS]
}

/// What a bucket keeps of its owner; zero marks an empty bucket.
pub fn mark_of(hash: u64) -> u8 {
    (hash as u8).max(1)
}

/// Writes a model file.
///
/// Shapes: `marks` [BUCKETS], `weights` [BUCKETS x OUTPUTS].
pub fn write(temperature: f32, scales: &[f32], biases: &[f32], marks: &[u8], weights: &[i8]) -> Vec<u8> {
    let mut file = Vec::with_capacity(HEADER + marks.len() + weights.len());
    file.extend_from_slice(MAGIC);
    file.extend_from_slice(&temperature.to_le_bytes());
    for (scale, bias) in scales.iter().zip(biases) {
        file.extend_from_slice(&scale.to_le_bytes());
        file.extend_from_slice(&bias.to_le_bytes());
    }
    file.extend_from_slice(marks);
    file.extend(weights.iter().map(|weight| weight.cast_unsigned()));
    file
}
