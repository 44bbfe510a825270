//! Sines and cosines that tell a token where on the map it lies.

use crate::compute::{Backend, tensor};
use crate::error::Result;
use candle_core::Tensor;

/// `temperature` of the reference.
const TEMPERATURE: f32 = 10_000.0;
/// Added to the last coordinate before it divides.
const EPS: f32 = 1e-6;

/// The positions of a map's cells in reading order, coordinates scaled to one turn: first the lines', then the columns'.
///
/// Shape: -> `[1, height * width, size]`. Source: `DetrSinePositionEmbedding` in transformers 5.24, with `normalize`; the
/// reference's mask of a padded batch is the map's own height and width here.
pub(super) fn sine_positions(height: usize, width: usize, size: usize, backend: &Backend) -> Result<Tensor> {
    let half = size / 2;
    let lines = coordinates(height, half);
    let columns = coordinates(width, half);
    let mut values = Vec::with_capacity(height * width * size);
    for line in lines.chunks_exact(half.max(1)) {
        for column in columns.chunks_exact(half.max(1)) {
            values.extend_from_slice(line);
            values.extend_from_slice(column);
        }
    }
    tensor(values, &[1, height * width, size], backend) // [1, height * width, size]
}

/// Shape: -> `[count, features]` flattened; sines at even places, cosines at odd ones.
fn coordinates(count: usize, features: usize) -> Vec<f32> {
    let last = count as f32 + EPS;
    let mut values = Vec::with_capacity(count * features);
    for place in 1..=count {
        let angle = place as f32 / last * std::f32::consts::TAU;
        for feature in 0..features {
            let exponent = 2.0 * (feature / 2) as f32 / features as f32;
            let turned = angle / TEMPERATURE.powf(exponent);
            values.push(if feature % 2 == 0 { turned.sin() } else { turned.cos() });
        }
    }
    values
}
