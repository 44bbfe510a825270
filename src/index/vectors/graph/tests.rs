//! A graph is a cache, and a walk through it finds nearly all of what comparing every row finds.

use half::f16;

use super::*;
use crate::index::calibration::ImageCalibration;
use crate::index::vectors::rows::{RowBuffer, Rows};

const DIM: usize = 32;

/// Rows around some hundred places, as photos of the same things are.
pub(in crate::index::vectors) fn clustered(count: usize, seed: u64) -> RowBuffer {
    let mut state = seed;
    let mut draw = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1_u64 << 23) as f32 - 1.0
    };
    let places: Vec<Vec<f32>> = (0..100).map(|_| (0..DIM).map(|_| draw()).collect()).collect();
    let mut buffer = RowBuffer::default();
    for row in 0..count {
        let place = &places[((draw() + 1.0) * 49.9) as usize];
        let vector: Vec<f32> = place.iter().map(|value| value + 0.5 * draw()).collect();
        let norm = vector.iter().map(|value| value * value).sum::<f32>().sqrt();
        let bytes: Vec<u8> = vector.iter().flat_map(|value| f16::from_f32(value / norm).to_le_bytes()).collect();
        let calibration = ImageCalibration { mean: 0.02 * draw(), spread: 0.2 + 0.02 * draw() };
        buffer.push(row as i64, calibration, &bytes, DIM);
    }
    buffer.encode(&[0.0; DIM]);
    buffer
}

fn linked(rows: Rows<'_>, old: Option<Graph<'_>>) -> Linked {
    Linked::build(rows, old, &mut |_, _| true).unwrap()
}

/// The best ten of some rows.
fn best_of(rows: &[u32], score: &mut impl FnMut(&[u32], &mut [f32])) -> Vec<u32> {
    let mut scores = vec![0.0; rows.len()];
    score(rows, &mut scores);
    let mut all: Vec<Scored> = rows.iter().zip(&scores).map(|(at, score)| Scored { score: *score, at: *at }).collect();
    all.sort_unstable_by(|a, b| b.cmp(a));
    all.iter().take(10).map(|found| found.at).collect()
}

/// Share of the ten nearest rows of some rows that walks find.
fn recall(graph: Graph<'_>, rows: Rows<'_>, admitted: impl Fn(u32) -> bool) -> f32 {
    let (mut found, mut all) = (0, 0);
    let (mut own, mut other) = (vec![0.0; DIM], vec![0.0; DIM]);
    for query in (0..rows.len()).step_by(rows.len() / 40) {
        rows.read(query, &mut own);
        let mut score = |picked: &[u32], scores: &mut [f32]| {
            for (row, score) in picked.iter().zip(scores) {
                rows.read(*row as usize, &mut other);
                *score = crate::index::calibration::dot(&own, &other);
            }
        };
        let wanted: Vec<u32> = (0..rows.len() as u32).filter(|row| admitted(*row)).collect();
        let best = best_of(&wanted, &mut score);
        let entries = best_of(&graph.sample[..100], &mut score);
        let walked = graph.search(&entries, 60, &mut score, &admitted);
        assert!(walked.iter().all(|found| admitted(found.at)) && walked.len() <= 60);
        // Of equal rows any will do.
        let mut least = [0.0];
        score(&best[best.len() - 1..], &mut least);
        found += walked.iter().filter(|found| found.score >= least[0] - 1e-6).count().min(10);
        all += best.len();
    }
    found as f32 / all as f32
}

#[test]
fn a_walk_finds_nearly_all_of_the_best_also_under_a_filter() {
    let buffer = clustered(6000, 3);
    let rows = buffer.rows(&[0.0; DIM]);
    let parts = linked(rows, None);
    let graph = parts.graph(&[0.0; DIM]);
    assert_eq!(graph.len(), 6000);
    assert!(graph.sample.len() == 6000 && graph.links.len() == 6000 * WIDTH);
    for (number, admitted) in [|_: u32| true, |row: u32| row % 2 == 1, |row: u32| row % 10 == 3].into_iter().enumerate()
    {
        let recall = recall(graph, rows, admitted);
        assert!(recall >= 0.97, "filter {number}: {recall}");
    }
}

#[test]
fn rows_that_are_added_are_found_as_those_before() {
    let (few, many) = (clustered(4000, 9), clustered(6000, 9));
    let first = linked(few.rows(&[0.0; DIM]), None);
    let both = linked(many.rows(&[0.0; DIM]), Some(first.graph(&[0.0; DIM])));
    let graph = both.graph(&[0.0; DIM]);
    assert_eq!(graph.len(), 6000);
    let recall = recall(graph, many.rows(&[0.0; DIM]), |row| row >= 4000);
    assert!(recall >= 0.97, "{recall}");
}

#[test]
fn few_rows_and_none_and_equal_ones_are_linked_too() {
    for count in [0, 1, 2, 40] {
        let buffer = clustered(count, 5);
        let parts = linked(buffer.rows(&[0.0; DIM]), None);
        let found = parts.graph(&[0.0; DIM]).search(&[0, 1], 10, |_, scores| scores.fill(1.0), |_| true);
        assert_eq!(found.len(), count.min(10));
    }
}

#[test]
fn copies_of_one_picture_do_not_hide_each_other() {
    // Twenty copies of each: more than a row has links of its own.
    let (each, count) = (20, 3000);
    let few = clustered(count / each, 5);
    let (mut same, mut vector) = (RowBuffer::default(), vec![0.0; DIM]);
    for row in 0..count {
        few.rows(&[0.0; DIM]).read(row % (count / each), &mut vector);
        let bytes: Vec<u8> = vector.iter().flat_map(|value| f16::from_f32(*value).to_le_bytes()).collect();
        same.push(row as i64, ImageCalibration { mean: 0.0, spread: 1.0 }, &bytes, DIM);
    }
    same.encode(&[0.0; DIM]);
    let rows = same.rows(&[0.0; DIM]);
    let recall = recall(linked(rows, None).graph(&[0.0; DIM]), rows, |_| true);
    assert!(recall >= 0.9, "{recall}");
}

#[test]
fn a_graph_that_is_stopped_is_none() {
    let buffer = clustered(3000, 7);
    assert!(Linked::build(buffer.rows(&[0.0; DIM]), None, &mut |_, _| false).is_none());
}

#[test]
fn links_to_nowhere_are_passed_over() {
    let buffer = clustered(2000, 11);
    let mut parts = linked(buffer.rows(&[0.0; DIM]), None);
    parts.links.iter_mut().step_by(3).for_each(|link| *link = 1_000_000);
    let found = parts.graph(&[0.0; DIM]).search(&[0, 1], 10, |_, scores| scores.fill(1.0), |_| true);
    assert!(found.len() == 10 && found.iter().all(|found| found.at < 2000));
}
