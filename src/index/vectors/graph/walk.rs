//! The walk of a search through links: from entries to better and better neighbours, with a list of the best so far.
//!
//! Source: Malkov and Yashunin 2016, algorithm 2. What "better" means is the caller's.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Ends a list of links that is not full.
pub(super) const NONE: u32 = u32::MAX;

/// Who is linked to whom; both are places in one layer.
pub(super) trait Links {
    /// Adds the neighbours of a place.
    fn neighbours(&self, at: u32, into: &mut Vec<u32>);
}

/// A place and its score; greater is better, and of equal ones the lower place.
#[derive(Debug, Clone, Copy)]
pub(in crate::index::vectors) struct Scored {
    pub(in crate::index::vectors) score: f32,
    pub(in crate::index::vectors) at: u32,
}

impl Ord for Scored {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.score.total_cmp(&other.score).then(other.at.cmp(&self.at))
    }
}

impl PartialOrd for Scored {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Scored {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Scored {}

/// Working memory of walks, one after the other.
#[derive(Debug, Default)]
pub(super) struct Walk {
    seen: Vec<u64>,
    /// Words of `seen` to be cleared.
    touched: Vec<u32>,
    frontier: BinaryHeap<Scored>,
    found: BinaryHeap<Reverse<Scored>>,
    batch: Vec<u32>,
    scores: Vec<f32>,
}

impl Walk {
    /// The best admitted places that a walk meets, best first, `width` at most. It goes on until none of the places that
    /// lie open is as good as the worst of `width` found ones. Unadmitted places are walked through.
    /// `score` gives the scores of some places. `places`: how many there are.
    pub(super) fn search(
        &mut self,
        links: &impl Links,
        places: usize,
        entries: &[u32],
        width: usize,
        mut score: impl FnMut(&[u32], &mut [f32]),
        admitted: impl Fn(u32) -> bool,
    ) -> Vec<Scored> {
        self.seen.resize(self.seen.len().max(places.div_ceil(64)), 0);
        self.batch.clear();
        self.batch.extend_from_slice(entries);
        loop {
            self.keep_unseen(places);
            self.scores.clear();
            self.scores.resize(self.batch.len(), 0.0);
            score(&self.batch, &mut self.scores);
            for (at, score) in self.batch.drain(..).zip(&self.scores) {
                let next = Scored { score: *score, at };
                let full = self.found.len() >= width;
                if full && self.found.peek().is_some_and(|worst| next < worst.0) {
                    continue;
                }
                self.frontier.push(next);
                if admitted(at) {
                    self.found.push(Reverse(next));
                    if full {
                        self.found.pop();
                    }
                }
            }
            let Some(next) = self.frontier.pop() else { break };
            if self.found.len() >= width && self.found.peek().is_some_and(|worst| next < worst.0) {
                break;
            }
            links.neighbours(next.at, &mut self.batch);
        }
        for word in self.touched.drain(..) {
            if let Some(word) = self.seen.get_mut(word as usize) {
                *word = 0;
            }
        }
        self.frontier.clear();
        let mut found: Vec<Scored> = self.found.drain().map(|found| found.0).collect();
        found.sort_unstable_by(|a, b| b.cmp(a));
        found
    }

    /// Drops places that were met, and those that are none.
    fn keep_unseen(&mut self, places: usize) {
        let (seen, touched) = (&mut self.seen, &mut self.touched);
        self.batch.retain(|at| {
            let (word, bit) = (*at as usize / 64, 1 << (at % 64));
            let new = (*at as usize) < places && seen.get(word).is_some_and(|word| word & bit == 0);
            if let Some(slot) = seen.get_mut(word).filter(|_| new) {
                if *slot == 0 {
                    touched.push(word as u32);
                }
                *slot |= bit;
            }
            new
        });
    }
}
