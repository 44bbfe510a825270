//! The best rows of a query, exactly, without computing more than a few rows exactly.
//!
//! A first pass ([`sweep`]) scores every row from its high plane and says what scores are usual in the collection. Every score
//! comes with a bound on its error, so whatever can still be among the best is known and is computed from both planes:
//! the result is what computing all rows from both planes would give, by construction.

mod best;
mod near;

use rayon::prelude::*;

use super::Vectors;
use super::fixed::Probe;
use super::graph::Graph;
use super::rows::Rows;
use super::rowset::RowSet;
use super::sweep::{BLOCK, Part, Role, Swept, sweep};
use crate::index::calibration::{QueryCalibration, dot};
use best::Best;

/// A row and how well it fits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ranked {
    /// The row.
    pub row: usize,
    /// Its picture.
    pub content: i64,
    /// The query's parts joined, each in its own standard deviations; see [`QueryCalibration::standardise`].
    pub standardised: f32,
    /// Cosine, the weighted mean over texts and images.
    pub cosine: f32,
}

impl Ranked {
    /// Best first; the picture's id makes the order total.
    fn compare(&self, other: &Self) -> std::cmp::Ordering {
        let fit = other.standardised.total_cmp(&self.standardised).then(other.cosine.total_cmp(&self.cosine));
        fit.then(self.content.cmp(&other.content))
    }
}

/// One part of the query, with what is usual for it in the collection.
#[derive(Debug, Clone, Copy)]
struct Judge<'a> {
    part: Part<'a>,
    /// `None` for what is excluded.
    weight: Option<f32>,
    usual: QueryCalibration,
}

/// Rows that lie together, with what the first pass found.
#[derive(Debug)]
struct Segment<'a> {
    first: usize,
    rows: Rows<'a>,
    probes: Vec<Probe>,
    /// Of all rows, or of a sample of them.
    scores: Vec<f32>,
    margin: Margin,
    /// No row's margin is wider.
    widest: f32,
}

/// Standings that are looked at together.
const FEW: usize = 16;

/// How far a row's standing can be from what the first pass found, as a function of the row's residual and spread.
#[derive(Debug, Clone, Copy, Default)]
struct Margin {
    text_slope: f32,
    text_base: f32,
    image_slope: f32,
    image_base: f32,
}

impl Margin {
    fn of(&self, residual: f32, spread: f32) -> f32 {
        let text = (residual * self.text_slope + self.text_base) / spread;
        // A little more than the bound: it is computed in f32 too, and standings of several units round at 1e-6.
        (text + residual * self.image_slope + self.image_base) * 1.001 + 1e-5
    }
}

/// A query's standing over a collection.
#[derive(Debug)]
pub struct Ranking<'a> {
    judges: Vec<Judge<'a>>,
    segments: Vec<Segment<'a>>,
    /// Leads to the best rows, where not all were scored.
    graph: Option<Graph<'a>>,
}

impl Vectors {
    /// Scores all rows with all parts of a query. Texts, images and exclusions have cosines on different scales (an image is
    /// closer to any other image than to any text), so each part is standardised by itself before they are joined.
    /// Shapes: each part `[dim]`.
    pub fn rank<'a>(&'a self, parts: &[Part<'a>]) -> Ranking<'a> {
        rank_segments(parts, self.segments(), Pass::Whole { collection: self.len() })
    }

    /// As [`Vectors::rank`], by the graph where there is one: not all rows are scored, and some of the best may be missed.
    pub fn rank_by_graph<'a>(&'a self, parts: &[Part<'a>]) -> Ranking<'a> {
        let Some(links) = self.links.as_deref() else { return self.rank(parts) };
        let graph = links.graph(self.base.rows().centre);
        let ranking = rank_segments(parts, self.segments(), Pass::Sample(graph.gathered));
        Ranking { graph: Some(graph), ..ranking }
    }
}

/// What is read before anything is ranked.
#[derive(Debug, Clone, Copy)]
enum Pass<'a> {
    /// Every row, of `collection` in all, which decides how they are scored.
    Whole { collection: usize },
    /// Those of a sample of the first rows, which say what is usual; a graph leads from the best of them to the best of all.
    Sample(Rows<'a>),
}

fn rank_segments<'a>(parts: &[Part<'a>], segments: impl Iterator<Item = Rows<'a>>, pass: Pass<'_>) -> Ranking<'a> {
    let (mut first, mut swept) = (0, Vec::new());
    for rows in segments {
        let probes: Vec<Probe> = parts.iter().map(|part| Probe::new(part.vector, rows.centre)).collect();
        let found = match pass {
            Pass::Whole { collection } => sweep(&rows, parts, &probes, collection),
            Pass::Sample(sample) if first == 0 => sweep(&sample, parts, &probes, usize::MAX),
            Pass::Sample(_) => Swept { scores: Vec::new(), moments: Vec::new() },
        };
        swept.push((first, rows, probes, found));
        first += rows.len();
    }
    let total: f32 = parts.iter().filter_map(|part| weight(part.role)).sum();
    let judge = |(index, part): (usize, &Part<'a>)| {
        let moments = swept.iter().filter_map(|(.., found)| found.moments.get(index)).copied().sum();
        let usual = if part.role.is_text() {
            QueryCalibration::for_text_moments(moments)
        } else {
            QueryCalibration::for_image_moments(moments)
        };
        Judge { part: *part, weight: weight(part.role).map(|weight| weight / total), usual }
    };
    let judges: Vec<Judge<'a>> = parts.iter().enumerate().map(judge).collect();
    let segment = |(first, rows, probes, found): (usize, Rows<'a>, Vec<Probe>, Swept)| {
        let margin = margin(&judges, &probes, rows.extent.longest);
        let widest = margin.of(rows.extent.residual, rows.extent.spread);
        Segment { first, rows, probes, scores: found.scores, margin, widest }
    };
    let segments = swept.into_iter().map(segment).collect();
    Ranking { judges, segments, graph: None }
}

fn weight(role: Role) -> Option<f32> {
    match role {
        Role::Text { weight } | Role::Image { weight } => Some(weight),
        Role::Minus => None,
    }
}

/// Joining and standardising only multiply a part's error; cutting an exclusion at zero does not add to it.
fn margin(judges: &[Judge<'_>], probes: &[Probe], longest: f32) -> Margin {
    let mut margin = Margin::default();
    for (judge, probe) in judges.iter().zip(probes) {
        let (slope, base) = probe.error(longest);
        let factor = judge.weight.unwrap_or(1.0) / judge.usual.spread();
        if judge.part.role.is_text() {
            margin.text_slope += factor * slope;
            margin.text_base += factor * base;
        } else {
            margin.image_slope += factor * slope;
            margin.image_base += factor * base;
        }
    }
    margin
}

impl Ranking<'_> {
    /// What is usual for a part in this collection.
    pub fn usual(&self, part: usize) -> Option<QueryCalibration> {
        self.judges.get(part).map(|judge| judge.usual)
    }

    /// The best of some rows, best first, at most `count`. Of equal standing, the higher cosine and then the older picture
    /// comes first. Exact where all rows were scored: then asking for more never changes the beginning.
    pub fn best(&self, among: &RowSet, count: usize) -> Vec<Ranked> {
        if count == 0 {
            return Vec::new();
        }
        if let Some(graph) = &self.graph {
            return self.best_by_graph(graph, among, count);
        }
        let first = self.nearly_best(among, count);
        let mut best = self.exact(&first);
        // The worst of them bounds what any other row has to reach. When there are fewer, they are all.
        if first.len() == count {
            let least = best.iter().map(|ranked| ranked.standardised).fold(f32::INFINITY, f32::min);
            best = self.exact(&self.reaching(among, least));
        }
        best.sort_unstable_by(Ranked::compare);
        best.truncate(count);
        best
    }

    /// The `count` rows with the best standings of the first pass, in no order.
    fn nearly_best(&self, among: &RowSet, count: usize) -> Vec<usize> {
        let found = self.each_run(|segment, run| {
            let mut best = Best::new(count);
            segment.each_block(&self.judges, run, |start, standings| {
                for (few, standings) in standings.chunks(FEW).enumerate() {
                    if any_above(standings, best.threshold) {
                        for (row, standing) in standings.iter().enumerate() {
                            let row = start + few * FEW + row;
                            if *standing > best.threshold && among.contains(row) {
                                best.push(*standing, row);
                            }
                        }
                    }
                }
            });
            best.kept
        });
        let mut best = Best::new(count);
        for (standing, row) in found.into_iter().flatten() {
            best.push(standing, row);
        }
        best.shrink();
        best.kept.into_iter().map(|(_, row)| row).collect()
    }

    /// The rows whose standing may be `least` or more.
    fn reaching(&self, among: &RowSet, least: f32) -> Vec<usize> {
        let found = self.each_run(|segment, run| {
            let mut reaching = Vec::new();
            segment.each_block(&self.judges, run, |start, standings| {
                for (few, standings) in standings.chunks(FEW).enumerate() {
                    if any_above(standings, least - segment.widest) {
                        let near = |(row, standing): (usize, &f32)| {
                            let row = start + few * FEW + row;
                            (among.contains(row) && segment.can_reach(row, *standing, least)).then_some(row)
                        };
                        reaching.extend(standings.iter().enumerate().filter_map(near));
                    }
                }
            });
            reaching
        });
        found.into_iter().flatten().collect()
    }

    /// Works through runs of blocks on all cores; the results are in the order of the rows.
    fn each_run<T: Send>(&self, work: impl Fn(&Segment<'_>, std::ops::Range<usize>) -> T + Sync) -> Vec<T> {
        /// Blocks that one task works through: few enough tasks that each keeps its own best.
        const RUN: usize = 32;
        let mut all = Vec::new();
        for segment in &self.segments {
            let blocks = segment.rows.len().div_ceil(BLOCK);
            let runs = (0..blocks.div_ceil(RUN)).into_par_iter();
            let found: Vec<T> = runs.map(|run| work(segment, run * RUN..((run + 1) * RUN).min(blocks))).collect();
            all.extend(found);
        }
        all
    }

    /// Computes rows from both planes.
    fn exact(&self, rows: &[usize]) -> Vec<Ranked> {
        let dim = self.segments.first().map_or(0, |segment| segment.rows.centre.len());
        // A few hundred rows take less time than waking another core.
        rows.par_iter()
            .with_min_len(512)
            .map_init(|| vec![0.0; dim], |vector, row| self.exact_row(*row, vector))
            .flatten_iter()
            .collect()
    }

    fn exact_row(&self, row: usize, vector: &mut [f32]) -> Option<Ranked> {
        let segment = self.segments.iter().rev().find(|segment| segment.first <= row)?;
        let own = row - segment.first;
        let (content, calibration) = (*segment.rows.contents.get(own)?, segment.rows.calibration(own)?);
        segment.rows.read(own, vector);
        let mut ranked = Ranked { row, content, standardised: 0.0, cosine: 0.0 };
        for judge in &self.judges {
            let cosine = dot(vector, judge.part.vector);
            let score = if judge.part.role.is_text() { calibration.normalise(cosine) } else { cosine };
            let standardised = judge.usual.standardise(score);
            match judge.weight {
                Some(weight) => {
                    ranked.standardised += weight * standardised;
                    ranked.cosine += weight * cosine;
                }
                // Only what an image has of the excluded thing counts against it; to lack it more than others is no merit.
                None => ranked.standardised -= standardised.max(0.0),
            }
        }
        Some(ranked)
    }
}

/// Whether any standing may be above a limit; most are not, and all at once are told so by vector instructions.
fn any_above(standings: &[f32], limit: f32) -> bool {
    standings.iter().filter(|standing| **standing >= limit).count() > 0
}

impl Segment<'_> {
    /// Whether a row whose standing is about `standing` may have one of `least` or more.
    fn can_reach(&self, row: usize, standing: f32, least: f32) -> bool {
        let own = row - self.first;
        let row = self.rows.residuals.get(own).zip(self.rows.spreads.get(own));
        row.is_some_and(|(residual, spread)| standing + self.margin.of(*residual, *spread) >= least)
    }

    /// Calls `visit` with the first row of each block and the standings of its rows.
    fn each_block(&self, judges: &[Judge<'_>], blocks: std::ops::Range<usize>, mut visit: impl FnMut(usize, &[f32])) {
        let (whole, mut standings) = (BLOCK * judges.len(), [0.0; BLOCK]);
        let end = (blocks.end * whole).min(self.scores.len());
        let scores = self.scores.get(blocks.start * whole..end).unwrap_or_default();
        for (block, scores) in blocks.zip(scores.chunks(whole.max(1))) {
            let count = scores.len() / judges.len().max(1);
            let Some(standings) = standings.get_mut(..count) else { continue };
            standings.fill(0.0);
            for (judge, scores) in judges.iter().zip(scores.chunks_exact(count.max(1))) {
                add_standing(standings, scores, judge);
            }
            visit(self.first + block * BLOCK, standings);
        }
    }
}

/// As [`Ranking::exact_row`] joins parts, but for the last bit.
fn add_standing(standings: &mut [f32], scores: &[f32], judge: &Judge<'_>) {
    let (level, factor) = (judge.usual.level(), judge.weight.unwrap_or(1.0) / judge.usual.spread());
    if judge.weight.is_some() {
        for (standing, score) in standings.iter_mut().zip(scores) {
            *standing += (score - level) * factor;
        }
    } else {
        for (standing, score) in standings.iter_mut().zip(scores) {
            let excess = (score - level) * factor;
            *standing -= if excess > 0.0 { excess } else { 0.0 };
        }
    }
}

#[cfg(test)]
mod tests;
