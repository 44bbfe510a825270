//! A vector as a sparse mix of concepts: what an image-text model has put into it, in words.
//!
//! Source: Bhalla et al. 2024, "Interpreting CLIP with Sparse Linear Concept Embeddings" (`SpLiCE`), arXiv 2402.10376, section 3.
//! Images and texts lie in two cones; each is moved to the origin by its own mean first. Then the non-negative lasso
//! `min |z - C w|^2 / 2 + penalty |w|, w >= 0`, solved by coordinate descent. Compared with scikit-learn's `Lasso` on real vectors
//! (`tests/it/ranking.rs`, `tools/splice_study.py`).

use super::calibration::dot;

/// Weight of the penalty. Over 126 COCO photos with 1,203 concepts (`OpenAI` ViT-B/32): 11.6 concepts on average, and
/// a category of the photo is among the first five in 94; at 0.05 there are 57 concepts (86 photos), at 0.2 there are 1.5 (68).
pub const PENALTY: f32 = 0.1;
/// Changes below this no longer matter.
const STILL: f32 = 1e-6;
/// Passes over the concepts; some tens are enough.
const MOST_PASSES: usize = 2_000;

/// Concept vectors, less their mean, of unit length.
#[derive(Debug, Clone)]
pub struct Concepts {
    rows: Vec<Vec<f32>>,
}

/// A sparse mix.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Mix {
    /// Concepts by number with their weights, greatest first; all above zero.
    pub weights: Vec<(usize, f32)>,
    /// Cosine of the mix and the vector, both less their means: how much of it the mix explains.
    pub cosine: f32,
}

impl Concepts {
    /// From text vectors of unit length. Shape: each `[dim]`.
    pub fn new(vectors: &[Vec<f32>]) -> Self {
        let mean = mean(vectors);
        Self { rows: vectors.iter().map(|vector| away_from(vector, &mean)).collect() }
    }

    /// A vector of unit length as a mix; `mean` is that of vectors of its kind. Shapes: `[dim]`.
    pub fn mix(&self, vector: &[f32], mean: &[f32], penalty: f32) -> Mix {
        let target = away_from(vector, mean);
        let mut residual = target.clone();
        let mut weights = vec![0.0f32; self.rows.len()];
        let mut active: Vec<usize> = Vec::new();
        let mut passes = 0;
        // All concepts, then those that have a weight until they stand still, and again until all stand still.
        loop {
            let everything: Vec<usize> = (0..self.rows.len()).collect();
            let moved = self.pass(&everything, &mut weights, &mut residual, penalty);
            passes += 1;
            if moved < STILL || passes >= MOST_PASSES {
                break;
            }
            active.clear();
            active.extend(everything.into_iter().filter(|at| weights.get(*at).is_some_and(|weight| *weight > 0.0)));
            while passes < MOST_PASSES && self.pass(&active, &mut weights, &mut residual, penalty) >= STILL {
                passes += 1;
            }
        }
        let mix: Vec<f32> = target.iter().zip(&residual).map(|(target, residual)| target - residual).collect();
        let length = dot(&mix, &mix).sqrt();
        let mut weights: Vec<(usize, f32)> =
            weights.into_iter().enumerate().filter(|(_, weight)| *weight > 0.0).collect();
        weights.sort_by(|a, b| b.1.total_cmp(&a.1));
        Mix { weights, cosine: if length > 0.0 { dot(&mix, &target) / length } else { 0.0 } }
    }

    /// The best weight of each of these, the others held; the greatest change.
    fn pass(&self, which: &[usize], weights: &mut [f32], residual: &mut [f32], penalty: f32) -> f32 {
        let mut moved = 0.0f32;
        for at in which {
            let (Some(row), Some(weight)) = (self.rows.get(*at), weights.get_mut(*at)) else { continue };
            let best = (dot(row, residual) + *weight - penalty).max(0.0);
            let change = best - *weight;
            if change != 0.0 {
                *weight = best;
                for (residual, value) in residual.iter_mut().zip(row) {
                    *residual -= change * value;
                }
                moved = moved.max(change.abs());
            }
        }
        moved
    }
}

/// Mean of vectors. Shapes: each `[dim]` -> `[dim]`.
pub fn mean(vectors: &[Vec<f32>]) -> Vec<f32> {
    let mut sum = vec![0.0f64; vectors.first().map_or(0, Vec::len)];
    for vector in vectors {
        for (sum, value) in sum.iter_mut().zip(vector) {
            *sum += f64::from(*value);
        }
    }
    let count = vectors.len().max(1) as f64;
    sum.into_iter().map(|sum| (sum / count) as f32).collect()
}

/// A vector less a mean, of unit length; as it is where nothing is left of it.
fn away_from(vector: &[f32], mean: &[f32]) -> Vec<f32> {
    let moved: Vec<f32> = vector.iter().zip(mean).map(|(value, mean)| value - mean).collect();
    let length = dot(&moved, &moved).sqrt();
    if length > 0.0 { moved.into_iter().map(|value| value / length).collect() } else { moved }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mix_of_two_concepts_is_taken_apart() {
        let axis = |at: usize| (0..6).map(|i| if i == at { 1.0 } else { 0.0 }).collect::<Vec<f32>>();
        // With their opposites, so that their mean is nothing.
        let texts: Vec<Vec<f32>> =
            (0..6).map(axis).chain((0..6).map(|at| axis(at).iter().map(|v| -v).collect())).collect();
        let concepts = Concepts::new(&texts);
        let mixed: Vec<f32> = axis(1).iter().zip(&axis(4)).map(|(a, b)| 0.8 * a + 0.6 * b).collect();
        let mix = concepts.mix(&mixed, &[0.0; 6], 0.1);
        assert_eq!(mix.weights.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [1, 4]);
        assert!((mix.weights[0].1 - 0.7).abs() < 1e-5 && (mix.weights[1].1 - 0.5).abs() < 1e-5, "{mix:?}");
        assert!(mix.cosine > 0.99);
        let nothing = concepts.mix(&mixed, &[0.0; 6], 1.0);
        assert_eq!((nothing.weights.len(), nothing.cosine), (0, 0.0));
        assert_eq!(Concepts::new(&[]).mix(&mixed, &[0.0; 6], 0.1), Mix::default());
        assert!(concepts.mix(&mixed, &mixed, 0.1).weights.is_empty(), "nothing is left");
    }
}
