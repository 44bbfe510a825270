//! The best rows are those that computing every row from both planes gives, whatever the query and the collection.

use super::*;
use crate::index::calibration::{ImageCalibration, Moments};
use crate::index::vectors::graph::Linked;
use crate::index::vectors::rows::RowBuffer;
use half::f16;

const DIM: usize = 100;

struct Draws(u64);

impl Draws {
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f32 / (1_u64 << 23) as f32 - 1.0
    }

    /// A unit vector; all have a part in common, as CLIP's have.
    fn unit(&mut self) -> Vec<f32> {
        let mut vector: Vec<f32> = (0..DIM).map(|_| self.next()).collect();
        vector[3] += 5.0;
        let norm = dot(&vector, &vector).sqrt();
        vector.iter().map(|value| value / norm).collect()
    }
}

/// Rows of which some are equal and some nearly so, with calibrations of their own.
fn rows(count: usize, centre: &[f32]) -> RowBuffer {
    let mut draws = Draws(count as u64);
    let mut buffer = RowBuffer::default();
    let mut last = draws.unit();
    for row in 0..count {
        match row % 10 {
            0 => {}
            1 => last[row % DIM] += 1e-3,
            _ => last = draws.unit(),
        }
        let bytes: Vec<u8> = last.iter().flat_map(|value| f16::from_f32(*value).to_le_bytes()).collect();
        let calibration = ImageCalibration { mean: 0.2 + 0.02 * draws.next(), spread: 0.02 + 0.005 * draws.next() };
        buffer.push(1000 - row as i64, calibration, &bytes, DIM);
    }
    buffer.encode(centre);
    buffer
}

/// A ranking of two segments whose first pass read the high plane alone, as with large collections.
fn ranking<'a>(parts: &[Part<'a>], segments: &[Rows<'a>; 2]) -> Ranking<'a> {
    rank_segments(parts, segments.iter().copied(), Pass::Whole { collection: usize::MAX })
}

/// All rows, computed from both planes and sorted.
fn everything(ranking: &Ranking<'_>, among: &RowSet) -> Vec<Ranked> {
    let mut all = ranking.exact(&among.iter().collect::<Vec<_>>());
    all.sort_by(Ranked::compare);
    all
}

#[test]
fn the_best_are_those_of_all_rows_whatever_is_asked() {
    let mut draws = Draws(1);
    let centre: Vec<f32> = (0..DIM).map(|i| if i == 3 { 0.6 } else { 0.0 }).collect();
    let (many, few) = (rows(3000, &centre), rows(70, &centre));
    let vectors: Vec<Vec<f32>> = (0..5).map(|_| draws.unit()).collect();
    let text = |i: usize, weight| Part { vector: &vectors[i], role: Role::Text { weight } };
    let image = |i: usize| Part { vector: &vectors[i], role: Role::Image { weight: 0.7 } };
    let minus = |i: usize| Part { vector: &vectors[i], role: Role::Minus };
    let queries: [Vec<Part<'_>>; 4] = [
        vec![text(0, 1.0)],
        vec![image(1)],
        vec![text(0, 1.0), minus(2)],
        vec![text(0, 1.0), text(3, 2.5), image(1), minus(2), minus(4)],
    ];
    let everywhere: RowSet = (0..3070).collect();
    let some: RowSet = (0..3070).filter(|row| row % 97 == 5).collect();
    for parts in &queries {
        let ranking = ranking(parts, &[many.rows(&centre), few.rows(&centre)]);
        for among in [&everywhere, &some, &RowSet::none(3070)] {
            let all = everything(&ranking, among);
            for count in [0, 1, 7, 50, 400, 5000] {
                let expected = &all[..count.min(all.len())];
                assert_eq!(ranking.best(among, count), expected, "{} parts, {count}", parts.len());
            }
        }
    }
}

#[test]
fn the_first_pass_stays_within_its_margin_and_few_rows_are_computed_again() {
    let mut draws = Draws(9);
    let centre: Vec<f32> = (0..DIM).map(|i| if i == 3 { 0.6 } else { 0.0 }).collect();
    let (many, few) = (rows(20_000, &centre), rows(10, &centre));
    let (a, b) = (draws.unit(), draws.unit());
    let parts =
        [Part { vector: &a, role: Role::Text { weight: 1.0 } }, Part { vector: &b, role: Role::Image { weight: 1.0 } }];
    let ranking = ranking(&parts, &[many.rows(&centre), few.rows(&centre)]);
    let segment = &ranking.segments[0];
    let blocks = segment.rows.len().div_ceil(BLOCK);
    segment.each_block(&ranking.judges, 0..blocks, |start, standings| {
        for (offset, standing) in standings.iter().enumerate() {
            let row = start + offset;
            let exact = ranking.exact(&[row])[0].standardised;
            let margin = segment.margin.of(segment.rows.residuals[row], segment.rows.spreads[row]);
            assert!((standing - exact).abs() <= margin, "{row}: {standing} {exact} {margin}");
        }
    });
    let all: RowSet = (0..20_010).collect();
    let least = ranking.best(&all, 50)[49].standardised;
    let computed = ranking.reaching(&all, least).len();
    assert!((50..1000).contains(&computed), "{computed} rows are computed for 50");
}

#[test]
fn what_is_usual_is_learnt_from_the_high_plane_as_from_all_numbers() {
    let mut draws = Draws(5);
    let centre = vec![0.0; DIM];
    let (many, few) = (rows(2000, &centre), rows(9, &centre));
    let (a, b) = (draws.unit(), draws.unit());
    let parts =
        [Part { vector: &a, role: Role::Text { weight: 1.0 } }, Part { vector: &b, role: Role::Image { weight: 1.0 } }];
    let segments = [many.rows(&centre), few.rows(&centre)];
    let near = ranking(&parts, &segments);
    let exact = rank_segments(&parts, segments.into_iter(), Pass::Whole { collection: 0 });
    for part in 0..2 {
        let (near, exact) = (near.usual(part).unwrap(), exact.usual(part).unwrap());
        assert!(
            (near.spread() - exact.spread()).abs() < 1e-3
                && (near.standardise(1.0) - exact.standardise(1.0)).abs() < 2e-3
        );
    }
    assert_eq!(Moments::of(&[]), Moments::default());
}

#[test]
fn rows_that_cannot_be_judged_do_not_hide_the_others() {
    let centre = vec![0.0; DIM];
    let query = Draws(2).unit();
    let mut buffer = RowBuffer::default();
    let bytes = |vector: &[f32]| vector.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect::<Vec<u8>>();
    let broken = ImageCalibration { mean: f32::NAN, spread: 0.0 };
    buffer.push(1, broken, &bytes(&[f32::NAN; DIM]), DIM);
    buffer.push(2, broken, &[], DIM);
    buffer.push(3, ImageCalibration { mean: 0.2, spread: 0.02 }, &bytes(&query), DIM);
    buffer.encode(&centre);
    let parts = [Part { vector: &query, role: Role::Text { weight: 1.0 } }];
    let nothing = RowBuffer::default();
    for collection in [0, usize::MAX] {
        let ranking = rank_segments(
            &parts,
            [buffer.rows(&centre), nothing.rows(&centre)].into_iter(),
            Pass::Whole { collection },
        );
        let best = ranking.best(&(0..3).collect(), 3);
        assert!(best[0].content == 3 && best.len() == 3 && best.iter().all(|ranked| ranked.standardised.is_finite()));
    }
}

#[test]
fn a_graph_finds_nearly_what_all_rows_give_whatever_is_asked() {
    let mut draws = Draws(21);
    let centre: Vec<f32> = (0..DIM).map(|i| if i == 3 { 0.6 } else { 0.0 }).collect();
    let (many, few) = (rows(8000, &centre), rows(70, &centre));
    let linked = Linked::build(many.rows(&centre), None, &mut |_, _| true).unwrap();
    let vectors: Vec<Vec<f32>> = (0..4).map(|_| draws.unit()).collect();
    let text = |i: usize, weight| Part { vector: &vectors[i], role: Role::Text { weight } };
    let image = |i: usize| Part { vector: &vectors[i], role: Role::Image { weight: 0.7 } };
    let minus = |i: usize| Part { vector: &vectors[i], role: Role::Minus };
    let queries: [Vec<Part<'_>>; 3] =
        [vec![text(0, 1.0)], vec![image(1)], vec![text(0, 1.0), text(3, 2.5), image(1), minus(2)]];
    let everywhere: RowSet = (0..8070).collect();
    let half: RowSet = (0..8070).filter(|row| row % 2 == 1).collect();
    let newer: RowSet = (8000..8070).collect();
    for parts in &queries {
        let whole = ranking(parts, &[many.rows(&centre), few.rows(&centre)]);
        let graph = linked.graph(&centre);
        let segments = [many.rows(&centre), few.rows(&centre)];
        let near = rank_segments(parts, segments.into_iter(), Pass::Sample(graph.gathered));
        let near = Ranking { graph: Some(graph), ..near };
        for part in 0..parts.len() {
            let (near, whole) = (near.usual(part).unwrap(), whole.usual(part).unwrap());
            assert!((near.level() - whole.level()).abs() < 0.02 && (near.spread() / whole.spread() - 1.0).abs() < 0.03);
        }
        for among in [&everywhere, &half, &newer] {
            let exact: Vec<usize> = whole.best(among, 50).iter().map(|ranked| ranked.row).collect();
            let walked = near.best_near(&graph, among, 50, 1000);
            assert_eq!(walked, near.best_near(&graph, among, 50, 1000));
            assert!(walked.is_sorted_by(|a, b| a.compare(b).is_lt()) && walked.iter().all(|r| among.contains(r.row)));
            let found = walked.iter().filter(|ranked| exact.contains(&ranked.row)).count();
            assert!(found >= 45, "{} parts: {found} of 50", parts.len());
            // Few rows are looked at one by one: none is missed.
            let looked_at: Vec<usize> = near.best(among, 50).iter().map(|ranked| ranked.row).collect();
            assert_eq!(looked_at.iter().filter(|row| !exact.contains(row)).count(), 0, "{} parts", parts.len());
        }
    }
}
