//! The best rows of a query by walking a graph, where there is one: what is usual in the collection comes from a sample, and
//! the rows that the walk meets are ranked from both planes like any others.
//!
//! The walk goes by the query's own standing (every part, its weight, each image's calibration), so there is nothing to be
//! joined afterwards. Rows that are not in the graph yet are all looked at, and so are the admitted ones where few are.

use rayon::prelude::*;

use super::{Best, Judge, Ranked, Ranking, Segment, add_standing, any_above};
use crate::index::calibration::{Moments, NEAR_DUPLICATE_COSINE};
use crate::index::vectors::fixed::{Probe, padded};
use crate::index::vectors::graph::Graph;
use crate::index::vectors::kernel::Kernel;
use crate::index::vectors::rows::Rows;
use crate::index::vectors::rowset::RowSet;
use crate::index::vectors::sweep::{BLOCK, Part, Role, Swept};

/// Rows of the sample with which a walk begins; with four times as many it finds no more.
const ENTRIES: usize = 64;
/// Places that a walk keeps.
const WIDTH: usize = 800;
/// Whoever wants more is given all: a walk that keeps so many takes as long.
const MOST: usize = 2000;
/// So few rows, or less than this share of all, are looked at one by one: a walk has to pass by the others.
const FEW: usize = 20_000;
const FEW_SHARE: usize = 8;

/// Scores the rows of a sample. The scores are those of its rows in their order, block after block as in [`Swept`].
pub(super) fn sample(rows: &Rows<'_>, picked: &[u32], parts: &[Part<'_>], probes: &[Probe]) -> Swept {
    let mut scores = vec![0.0; picked.len() * parts.len()];
    let found: Vec<Vec<Moments>> = scores
        .par_chunks_mut(BLOCK * parts.len().max(1))
        .zip(picked.par_chunks(BLOCK))
        .map_init(Vec::new, |sums, (scores, picked)| {
            cosines_of(rows, picked, probes, sums, scores);
            let of_part = scores.chunks_exact_mut(picked.len()).zip(parts);
            of_part.map(|(scores, part)| finish_of(rows, picked, part.role, scores)).collect()
        })
        .collect();
    // Added up in the order of the rows, so that the same search gives the same answer.
    let total = |part| found.iter().filter_map(|some| some.get(part)).copied().sum();
    Swept { scores, moments: (0..parts.len()).map(total).collect() }
}

/// Cosines of some rows, from their high planes. Shape of `cosines`: `[probes, picked]`.
fn cosines_of(rows: &Rows<'_>, picked: &[u32], probes: &[Probe], sums: &mut Vec<i32>, cosines: &mut [f32]) {
    let queries: Vec<&[i16]> = probes.iter().map(|probe| probe.steps.as_slice()).collect();
    sums.clear();
    sums.resize(cosines.len(), 0);
    Kernel::fastest().sums_of(rows.high, padded(rows.centre.len()), picked, &queries, sums);
    let count = picked.len().max(1);
    for ((cosines, sums), probe) in cosines.chunks_exact_mut(count).zip(sums.chunks_exact(count)).zip(probes) {
        for ((cosine, sum), row) in cosines.iter_mut().zip(sums).zip(picked) {
            let step = rows.steps.get(*row as usize).copied().unwrap_or_default();
            *cosine = probe.centre + probe.factor * step * *sum as f32;
        }
    }
}

/// Turns the cosines of some rows with one part into scores, and adds them up.
fn finish_of(rows: &Rows<'_>, picked: &[u32], role: Role, scores: &mut [f32]) -> Moments {
    if !role.is_text() {
        return Moments::below(scores, NEAR_DUPLICATE_COSINE);
    }
    for (score, row) in scores.iter_mut().zip(picked) {
        if let Some(calibration) = rows.calibration(*row as usize) {
            *score = calibration.normalise(*score);
        }
    }
    Moments::of(scores)
}

/// Working memory of [`Segment::standings_of`].
#[derive(Default)]
struct Desk {
    sums: Vec<i32>,
    scores: Vec<f32>,
}

impl Segment<'_> {
    /// The standings of some rows of the segment, from their high planes.
    fn standings_of(&self, judges: &[Judge<'_>], own: &[u32], standings: &mut [f32], desk: &mut Desk) {
        standings.fill(0.0);
        desk.scores.clear();
        desk.scores.resize(own.len() * judges.len(), 0.0);
        cosines_of(&self.rows, own, &self.probes, &mut desk.sums, &mut desk.scores);
        for (scores, judge) in desk.scores.chunks_exact_mut(own.len().max(1)).zip(judges) {
            finish_of(&self.rows, own, judge.part.role, scores);
            add_standing(standings, scores, judge);
        }
    }
}

impl Ranking<'_> {
    /// As [`Ranking::best`], where not all rows were scored.
    pub(super) fn best_by_graph(&self, graph: &Graph<'_>, among: &RowSet, count: usize) -> Vec<Ranked> {
        if count > MOST || among.len() < FEW.max(graph.len() / FEW_SHARE) {
            return self.best_of(&among.iter().collect::<Vec<_>>(), count);
        }
        self.best_near(graph, among, count, WIDTH.max(2 * count))
    }

    /// As [`Ranking::best`], but for the rows of the graph that its walk does not meet.
    pub(super) fn best_near(&self, graph: &Graph<'_>, among: &RowSet, count: usize, width: usize) -> Vec<Ranked> {
        let mut met = Vec::new();
        if let Some(base) = self.segments.first() {
            let mut desk = Desk::default();
            let score = |rows: &[u32], standings: &mut [f32]| {
                base.standings_of(&self.judges, rows, standings, &mut desk);
            };
            let entries = self.best_of_sample(base, graph.sample);
            let found = graph.search(&entries, width.max(count), score, |row| among.contains(row as usize));
            met.extend(found.into_iter().map(|found| found.at as usize));
        }
        let newer: Vec<usize> = among.iter_from(graph.len()).collect();
        met.extend(self.nearly_best_of(&newer, count));
        let mut best = self.exact(&met);
        best.sort_unstable_by(Ranked::compare);
        best.truncate(count);
        best
    }

    /// The rows of the sample with the best standings.
    fn best_of_sample(&self, base: &Segment<'_>, sample: &[u32]) -> Vec<u32> {
        let mut best = Best::new(ENTRIES);
        base.each_block(&self.judges, 0..sample.len().div_ceil(BLOCK), |start, standings| {
            for (number, standing) in standings.iter().enumerate() {
                if *standing > best.threshold {
                    best.push(*standing, start + number);
                }
            }
        });
        best.shrink();
        best.kept.into_iter().filter_map(|(_, number)| sample.get(number).copied()).collect()
    }

    /// Exactly the best of some rows, ascending, that are few enough to be looked at one by one.
    pub(super) fn best_of(&self, rows: &[usize], count: usize) -> Vec<Ranked> {
        let mut best = self.exact(&self.nearly_best_of(rows, count));
        best.sort_unstable_by(Ranked::compare);
        best.truncate(count);
        best
    }

    /// The rows of some that can be among the best `count`.
    fn nearly_best_of(&self, rows: &[usize], count: usize) -> Vec<usize> {
        const PIECE: usize = 256;
        let standings: Vec<f32> = rows
            .par_chunks(PIECE)
            .map_init(Desk::default, |desk, rows| {
                let mut standings = Vec::with_capacity(rows.len());
                for rows in rows.chunk_by(|a, b| self.segment_of(*a) == self.segment_of(*b)) {
                    let Some(segment) = rows.first().and_then(|row| self.segments.get(self.segment_of(*row)?)) else {
                        continue;
                    };
                    let own: Vec<u32> = rows.iter().map(|row| (row - segment.first) as u32).collect();
                    let mut some = vec![0.0; own.len()];
                    segment.standings_of(&self.judges, &own, &mut some, desk);
                    standings.extend(some);
                }
                standings
            })
            .flatten_iter()
            .collect();
        if rows.len() <= count {
            return rows.to_vec();
        }
        let mut sorted = standings.clone();
        let (_, least, _) = sorted.select_nth_unstable_by(count.saturating_sub(1), |a, b| b.total_cmp(a));
        // Each of those reaches its own standing less its margin; whatever comes up to that may be better.
        let widest = self.segments.iter().fold(0.0_f32, |widest, segment| widest.max(segment.widest));
        let least = *least - widest;
        let reaches = |(row, standing): (&usize, &f32)| {
            let near = any_above(&[*standing], least - widest);
            let segment = self.segments.get(self.segment_of(*row)?)?;
            (near && segment.can_reach(*row, *standing, least)).then_some(*row)
        };
        rows.iter().zip(&standings).filter_map(reaches).collect()
    }

    fn segment_of(&self, row: usize) -> Option<usize> {
        self.segments.iter().rposition(|segment| segment.first <= row)
    }
}
