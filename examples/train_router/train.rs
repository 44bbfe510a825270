//! `AdaGrad` on a softmax over the primary label and a sigmoid per label, over hashed features.

use std::collections::HashMap;

use clip_aware::knowledge::router::features::{Feature, extract};
use clip_aware::knowledge::router::model::{self, BUCKETS, OUTPUTS};
use clip_aware::knowledge::router::{Label, Model};
use clip_aware::knowledge::words::tokenize;

use crate::corpus::{Random, Sample};

/// A feature must occur in this many samples to be kept.
const LEAST_COUNT: u32 = 3;
const RATE: f32 = 0.12;
const DECAY: f32 = 2e-6;
/// Share of tokens whose words are hidden in a pass, so that the sentence's shape must decide too.
const HIDDEN: f64 = 0.12;

struct Row {
    /// Column, value, first and last token.
    features: Vec<(u32, f32, u16, u16)>,
    primary: usize,
    labels: [bool; Label::COUNT],
    weight: f32,
}

/// What training found, quantised.
pub struct Trained {
    temperature: f32,
    scales: Vec<f32>,
    biases: Vec<f32>,
    marks: Vec<u8>,
    weights: Vec<i8>,
}

impl Trained {
    pub fn to_file(&self) -> Vec<u8> {
        model::write(self.temperature, &self.scales, &self.biases, &self.marks, &self.weights)
    }
}

fn features_of(text: &str) -> Vec<Feature> {
    extract(&tokenize(text))
}

/// A column for each feature that occurs often enough.
fn columns(samples: &[Sample]) -> HashMap<u64, u32> {
    let mut counts: HashMap<u64, u32> = HashMap::new();
    for sample in samples {
        let mut hashes: Vec<u64> = features_of(&sample.text).into_iter().map(|feature| feature.hash).collect();
        hashes.sort_unstable();
        hashes.dedup();
        for hash in hashes {
            *counts.entry(hash).or_default() += 1;
        }
    }
    let total = counts.len();
    let mut kept: Vec<u64> =
        counts.into_iter().filter(|(_, count)| *count >= LEAST_COUNT).map(|(hash, _)| hash).collect();
    kept.sort_unstable();
    eprintln!("{total} features, {} often enough", kept.len());
    kept.into_iter().zip(0..).collect()
}

/// Gives the features with the largest weights a bucket each, as long as there are buckets.
fn fill_buckets(columns: &HashMap<u64, u32>, weights: &[f32]) -> (Vec<f32>, Vec<u8>) {
    let row = |column: u32| &weights[column as usize * OUTPUTS..(column as usize + 1) * OUTPUTS];
    let mut order: Vec<(u64, u32, f32)> = columns
        .iter()
        .map(|(hash, column)| (*hash, *column, row(*column).iter().map(|weight| weight * weight).sum()))
        .collect();
    order.sort_by(|a, b| b.2.total_cmp(&a.2).then(a.0.cmp(&b.0)));
    let mut marks = vec![0_u8; BUCKETS];
    let mut table = vec![0.0_f32; BUCKETS * OUTPUTS];
    let mut kept = 0;
    for (hash, column, _) in &order {
        let mark = model::mark_of(*hash);
        let buckets = model::buckets_of(*hash);
        // A bucket with the same mark would be taken for this feature's.
        if buckets.iter().any(|bucket| marks[*bucket] == mark) {
            continue;
        }
        if let Some(bucket) = buckets.into_iter().find(|bucket| marks[*bucket] == 0) {
            marks[bucket] = mark;
            table[bucket * OUTPUTS..(bucket + 1) * OUTPUTS].copy_from_slice(row(*column));
            kept += 1;
        }
    }
    eprintln!("{kept} of {} features kept", order.len());
    (table, marks)
}

fn rows(samples: &[Sample], columns: &HashMap<u64, u32>) -> Vec<Row> {
    let mut by_class: HashMap<(Label, bool), f32> = HashMap::new();
    for sample in samples {
        *by_class.entry((sample.labels[0], sample.language == "en")).or_default() += 1.0;
    }
    let mean = |english: bool| {
        let sizes: Vec<f32> = by_class.iter().filter(|((_, e), _)| *e == english).map(|(_, n)| *n).collect();
        sizes.iter().sum::<f32>() / sizes.len().max(1) as f32
    };
    let means = [mean(false), mean(true)];
    samples
        .iter()
        .map(|sample| {
            let english = sample.language == "en";
            let mut labels = [false; Label::COUNT];
            for label in &sample.labels {
                labels[label.index()] = true;
            }
            let class = by_class.get(&(sample.labels[0], english)).copied().unwrap_or(1.0);
            Row {
                features: features_of(&sample.text)
                    .into_iter()
                    .filter_map(|f| columns.get(&f.hash).map(|column| (*column, f.value, f.first, f.last)))
                    .collect(),
                primary: sample.labels[0].index(),
                labels,
                weight: (means[usize::from(english)] / class).powf(0.5).clamp(0.4, 2.5),
            }
        })
        .collect()
}

/// Trains on `samples`; the temperature is fitted on `held_out`.
pub fn train(samples: &[Sample], held_out: &[Sample], epochs: usize, random: &mut Random) -> Trained {
    let columns = columns(samples);
    let rows = rows(samples, &columns);
    let mut weights = vec![0.0_f32; columns.len() * OUTPUTS];
    let mut squares = vec![0.0_f32; columns.len() * OUTPUTS];
    let mut order: Vec<usize> = (0..rows.len()).collect();
    for epoch in 0..epochs {
        random.shuffle(&mut order);
        let rate = RATE * (1.0 - epoch as f32 / epochs as f32 * 0.8);
        let mut loss = 0.0_f64;
        for at in &order {
            loss += f64::from(step(&rows[*at], &mut weights, &mut squares, rate, random));
        }
        eprintln!("epoch {} loss {:.4}", epoch + 1, loss / rows.len() as f64);
    }
    let (table, marks) = fill_buckets(&columns, &weights);
    let mut trained = quantise(&table, marks);
    trained.temperature = temperature(&trained, held_out);
    trained
}

/// One step on one row; returns its loss.
fn step(row: &Row, weights: &mut [f32], squares: &mut [f32], rate: f32, random: &mut Random) -> f32 {
    let hidden: Vec<bool> = (0..64).map(|_| random.chance(HIDDEN)).collect();
    let is_hidden = |first: u16, last: u16| {
        first != u16::MAX && (first..=last.min(first + 5)).any(|at| hidden.get(at as usize).copied().unwrap_or(false))
    };
    let active: Vec<(usize, f32)> = row
        .features
        .iter()
        .filter(|(_, _, first, last)| !is_hidden(*first, *last))
        .map(|(column, value, _, _)| (*column as usize * OUTPUTS, *value))
        .collect();
    let mut sums = [0.0_f32; OUTPUTS];
    for (base, value) in &active {
        for (sum, weight) in sums.iter_mut().zip(&weights[*base..base + OUTPUTS]) {
            *sum += value * weight;
        }
    }
    let (primary, set) = sums.split_at(Label::COUNT);
    let most = primary.iter().copied().fold(f32::MIN, f32::max);
    let exponentials: Vec<f32> = primary.iter().map(|x| (x - most).exp()).collect();
    let total: f32 = exponentials.iter().sum();
    let mut gradients = [0.0_f32; OUTPUTS];
    for (output, exponential) in exponentials.iter().enumerate() {
        // A little of the target stays with the others: labels are noisy.
        let target = if output == row.primary { 0.95 } else { 0.05 / 9.0 };
        gradients[output] = exponential / total - target;
    }
    let mut loss = -(exponentials[row.primary] / total).max(1e-9).ln();
    for (label, sum) in set.iter().enumerate() {
        let probability = 1.0 / (1.0 + (-sum).exp());
        let target = if row.labels[label] { 1.0 } else { 0.0 };
        gradients[Label::COUNT + label] = probability - target;
        loss -= if row.labels[label] { probability } else { 1.0 - probability }.max(1e-9).ln() * 0.1;
    }
    for (base, value) in &active {
        let weights = &mut weights[*base..base + OUTPUTS];
        let squares = &mut squares[*base..base + OUTPUTS];
        for ((weight, square), gradient) in weights.iter_mut().zip(squares).zip(&gradients) {
            let gradient = gradient * value * row.weight;
            *square += gradient * gradient;
            *weight -= rate * gradient / (square.sqrt() + 1e-3) + rate * DECAY * *weight;
        }
    }
    loss
}

fn quantise(weights: &[f32], marks: Vec<u8>) -> Trained {
    let mut scales = vec![0.0_f32; OUTPUTS];
    for row in weights.chunks(OUTPUTS) {
        for (scale, weight) in scales.iter_mut().zip(row) {
            *scale = scale.max(weight.abs());
        }
    }
    for scale in &mut scales {
        *scale = (*scale / 127.0).max(1e-9);
    }
    let quantised = weights
        .chunks(OUTPUTS)
        .flat_map(|row| {
            row.iter().zip(&scales).map(|(weight, scale)| (weight / scale).round() as i8).collect::<Vec<_>>()
        })
        .collect();
    Trained { temperature: 1.0, scales, biases: vec![0.0; OUTPUTS], marks, weights: quantised }
}

/// The temperature with the least loss on samples that were not trained on.
fn temperature(trained: &Trained, held_out: &[Sample]) -> f32 {
    let file = trained.to_file();
    let Some(model) = Model::read(&file) else { return 1.0 };
    let outputs: Vec<(usize, [f32; OUTPUTS])> =
        held_out.iter().map(|sample| (sample.labels[0].index(), model.outputs(&features_of(&sample.text)))).collect();
    let loss = |temperature: f32| -> f32 {
        outputs
            .iter()
            .map(|(primary, outputs)| {
                let total: f32 = outputs[..Label::COUNT].iter().map(|x| (x / temperature).exp()).sum();
                total.ln() - outputs[*primary] / temperature
            })
            .sum()
    };
    (10..80).map(|tenth| tenth as f32 * 0.05).min_by(|a, b| loss(*a).total_cmp(&loss(*b))).unwrap_or(1.0)
}
