//! The best rows of a query by walking a graph, where there is one: what is usual in the collection comes from a sample, and
//! the rows that the walk meets are ranked from both planes like any others.
//!
//! The walk goes by the query's own standing (every part, its weight, each image's calibration), so there is nothing to be
//! joined afterwards. Rows that are not in the graph yet are all looked at, and so are the admitted ones where few are.

use rayon::prelude::*;

use super::best::Best;
use super::{Judge, Ranked, Ranking, Segment, add_standing, any_above};
use crate::index::vectors::fixed::padded;
use crate::index::vectors::graph::Graph;
use crate::index::vectors::kernel::Kernel;
use crate::index::vectors::rowset::RowSet;
use crate::index::vectors::sweep::BLOCK;

/// Rows of the sample with which a walk begins; with four times as many it finds no more.
const ENTRIES: usize = 64;
/// Places that a walk keeps.
const WIDTH: usize = 800;
/// Whoever wants more is given all: a walk that keeps so many takes as long.
const MOST: usize = 2000;
/// So few rows, or less than this share of all, are looked at one by one: a walk has to pass by the others.
const FEW: usize = 20_000;
const FEW_SHARE: usize = 8;

/// Working memory of [`Segment::standings_of`].
#[derive(Default)]
struct Desk {
    sums: Vec<i32>,
    scores: Vec<f32>,
}

impl Segment<'_> {
    /// The standings of some rows of the segment, from their high planes.
    fn standings_of(&self, judges: &[Judge<'_>], own: &[u32], standings: &mut [f32], desk: &mut Desk) {
        let rows = &self.rows;
        let queries: Vec<&[i16]> = self.probes.iter().map(|probe| probe.steps.as_slice()).collect();
        desk.sums.clear();
        desk.sums.resize(own.len() * judges.len(), 0);
        Kernel::fastest().sums_of(rows.high, padded(rows.centre.len()), own, &queries, &mut desk.sums);
        standings.fill(0.0);
        for ((judge, probe), sums) in judges.iter().zip(&self.probes).zip(desk.sums.chunks_exact(own.len().max(1))) {
            desk.scores.clear();
            desk.scores.extend(own.iter().zip(sums).map(|(row, sum)| {
                let step = rows.steps.get(*row as usize).copied().unwrap_or_default();
                let cosine = probe.centre + probe.factor * step * *sum as f32;
                match rows.calibration(*row as usize) {
                    Some(calibration) if judge.part.role.is_text() => calibration.normalise(cosine),
                    _ => cosine,
                }
            }));
            add_standing(standings, &desk.scores, judge);
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
