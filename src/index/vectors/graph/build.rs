//! Making a graph, or adding rows to one.
//!
//! Layer by layer from the top. The rows of the layer above are in a layer before any other, with the links that they have up
//! there, so every walk has somewhere to begin; they are linked anew at the end, when all others are there. All cores insert
//! rows at once: a list of links is read without a lock, since every number in it is a place or none at any moment, and
//! written under one.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;

use super::distance::{From, Space, ordered};
use super::walk::{Links, NONE, Scored, Walk};
use super::{Graph, WIDTH, level, sample_of};
use crate::index::vectors::rows::{RowBuffer, Rows};

/// Links that a new row asks for; others that come to like it may fill the rest of its list.
const OWN: usize = 16;
/// Places that the walk of an insertion keeps.
const REACH: usize = 100;
/// Places from which a walk goes on in the layer below.
const ENTRIES: usize = 4;
/// Rows that are inserted between two looks at the caller's brake.
const ROUND: usize = 8192;
/// Rows at the top, at most.
const TOP: usize = 1024;
/// Locks for all lists.
const LOCKS: usize = 4096;

/// A graph that is being made.
#[derive(Debug)]
struct Growing {
    /// From the lowest, which holds every row.
    layers: Vec<Open>,
    /// The rows above the highest layer, all of which every walk looks at.
    top: Vec<u32>,
}

/// A layer that can be written.
#[derive(Debug)]
struct Open {
    /// `None` where a place is a row.
    rows: Option<Vec<u32>>,
    links: Vec<AtomicU32>,
}

impl Links for Open {
    fn neighbours(&self, at: u32, into: &mut Vec<u32>) {
        into.extend(self.list(at).iter().map(|link| link.load(Relaxed)).take_while(|link| *link != NONE));
    }
}

impl Open {
    fn places(&self) -> usize {
        self.links.len() / WIDTH
    }

    fn list(&self, at: u32) -> &[AtomicU32] {
        self.links.get(at as usize * WIDTH..(at as usize + 1) * WIDTH).unwrap_or_default()
    }

    fn write(&self, at: u32, links: impl Iterator<Item = u32>) {
        for (slot, link) in self.list(at).iter().zip(links.chain(std::iter::repeat(NONE))) {
            slot.store(link, Relaxed);
        }
    }

    fn row(&self, at: u32) -> u32 {
        self.rows.as_ref().map_or(at, |rows| rows.get(at as usize).copied().unwrap_or(NONE))
    }
}

/// One thread's working memory.
#[derive(Default)]
struct Hands {
    walk: Walk,
    from: From,
    other: From,
    rows: Vec<u32>,
    kept_rows: Vec<u32>,
    nearness: Vec<f32>,
}

/// All links of a graph in memory.
#[derive(Debug)]
pub(in crate::index::vectors) struct Linked {
    pub(super) links: Vec<u32>,
    pub(super) upper: Vec<u32>,
    pub(super) sample: Vec<u32>,
    pub(super) gathered: RowBuffer,
}

impl Linked {
    /// Links all rows; those of an older graph of the first of them only to new ones. `report` is told how many of how many
    /// are linked, and says whether to go on; `None` when it does not, or when there are more rows than numbers for them.
    pub(in crate::index::vectors) fn build(
        rows: Rows<'_>,
        old: Option<Graph<'_>>,
        report: &mut dyn FnMut(usize, usize) -> bool,
    ) -> Option<Self> {
        let count = u32::try_from(rows.len()).ok().filter(|count| *count < NONE)?;
        let (growing, known) = Growing::new(count, old);
        let space = Space::new(rows);
        growing.seed_top(&space, known);
        let locks: Vec<Mutex<()>> = (0..LOCKS).map(|_| Mutex::new(())).collect();
        for number in (0..growing.layers.len()).rev() {
            growing.fill(number, &space, known, &locks, report)?;
        }
        let mut plain = growing.layers.into_iter().map(|layer| layer.links.into_iter().map(AtomicU32::into_inner));
        let (links, sample) = (plain.next()?.collect(), sample_of(count));
        let gathered = RowBuffer::gathered(&rows, &sample);
        Some(Self { links, upper: plain.flatten().collect(), sample, gathered })
    }

    /// The graph that they make.
    #[cfg(test)]
    pub(in crate::index::vectors) fn graph<'a>(&'a self, centre: &'a [f32]) -> Graph<'a> {
        let gathered = self.gathered.rows(centre);
        Graph { links: &self.links, upper: &self.upper, sample: &self.sample, gathered }
    }
}

impl Growing {
    /// The layers for so many rows, with the links of an older graph; and the number of rows that have them.
    fn new(count: u32, old: Option<Graph<'_>>) -> (Self, u32) {
        let mut members: Vec<Vec<u32>> = Vec::new();
        let mut above: Vec<u32> = (0..count).filter(|row| level(*row) > 0).collect();
        while above.len() > TOP {
            let next = above.iter().copied().filter(|row| level(*row) > members.len() + 1).collect();
            members.push(std::mem::replace(&mut above, next));
        }
        let of_old = |rows: &Vec<u32>, known: u32| rows.partition_point(|row| *row < known) * WIDTH;
        // One of another order of size has other layers, and is of no use.
        let fits = |old: &Graph<'_>| {
            let known = old.len() as u32;
            known <= count && members.iter().map(|rows| of_old(rows, known)).sum::<usize>() == old.upper.len()
        };
        let old = old.filter(fits);
        let known = old.map_or(0, |old| old.len() as u32);
        let (held, mut rest) = old.map_or((&[][..], &[][..]), |old| (old.links, old.upper));
        let open = |rows: Option<Vec<u32>>, places: usize, held: &[u32]| {
            let links = held.iter().copied().chain(std::iter::repeat(NONE)).take(places * WIDTH);
            Open { rows, links: links.map(AtomicU32::new).collect() }
        };
        let mut layers = vec![open(None, count as usize, held)];
        for rows in members {
            let (held, after) = rest.split_at_checked(of_old(&rows, known)).unwrap_or_default();
            rest = after;
            let places = rows.len();
            layers.push(open(Some(rows), places, held));
        }
        (Self { layers, top: above }, known)
    }

    /// Links the new rows at the top to each other and to the old ones, in the layer below.
    fn seed_top(&self, space: &Space<'_>, known: u32) {
        let Some(layer) = self.layers.last() else { return };
        self.top.par_iter().filter(|row| **row >= known).for_each_init(Hands::default, |hands, row| {
            let others: Vec<u32> = self.top.iter().copied().filter(|other| other != row).collect();
            hands.from.set(space, *row);
            let mut near = vec![0.0; others.len()];
            hands.from.nearness(space, &others, &mut near);
            let mut found = ordered(&others, &near);
            found.truncate(REACH);
            let places = places_in(layer.rows.as_deref(), &found.iter().map(|found| found.at).collect::<Vec<_>>());
            let found: Vec<Scored> =
                found.iter().zip(places).map(|(found, at)| Scored { score: found.score, at }).collect();
            let kept = select(&found, OWN, layer, space, hands);
            for at in places_in(layer.rows.as_deref(), &[*row]) {
                layer.write(at, kept.iter().copied());
            }
        });
    }

    /// Links the new rows of a layer.
    fn fill(
        &self,
        number: usize,
        space: &Space<'_>,
        known: u32,
        locks: &[Mutex<()>],
        report: &mut dyn FnMut(usize, usize) -> bool,
    ) -> Option<()> {
        let layer = self.layers.get(number)?;
        let is_new = |at: &u32| layer.row(*at) >= known;
        let above = self.layers.get(number + 1);
        if let Some(above) = above {
            Self::hand_down(above, layer, known);
        }
        let higher = |at: &u32| level(layer.row(*at)) > number;
        let all = 0..layer.places() as u32;
        let mut order: Vec<u32> = all.clone().filter(|at| is_new(at) && !higher(at)).collect();
        order.extend(all.filter(|at| is_new(at) && higher(at)));
        for (round, places) in order.chunks(ROUND).enumerate() {
            if number == 0 && !report(round * ROUND, order.len()) {
                return None;
            }
            places.par_iter().with_max_len(64).for_each_init(Hands::default, |hands, at| {
                self.insert(number, *at, space, locks, hands);
            });
        }
        Some(())
    }

    /// Gives the new rows of the layer above the links that they have there.
    fn hand_down(above: &Open, layer: &Open, known: u32) {
        (0..above.places() as u32).into_par_iter().filter(|at| above.row(*at) >= known).for_each(|at| {
            let mut rows = Vec::new();
            above.neighbours(at, &mut rows);
            for link in &mut rows {
                *link = above.row(*link);
            }
            let links = places_in(layer.rows.as_deref(), &rows);
            for own in places_in(layer.rows.as_deref(), &[above.row(at)]) {
                layer.write(own, links.iter().copied());
            }
        });
    }

    fn insert(&self, number: usize, at: u32, space: &Space<'_>, locks: &[Mutex<()>], hands: &mut Hands) {
        let Some(layer) = self.layers.get(number) else { return };
        hands.from.set(space, layer.row(at));
        let mut entries = self.descend(number, space, hands);
        // What it is linked to already, for a row that is in the layer above too.
        layer.neighbours(at, &mut entries);
        let found = walk_from(layer, &entries, REACH, space, hands);
        let found: Vec<Scored> = found.into_iter().filter(|found| found.at != at).collect();
        let kept = select(&found, OWN, layer, space, hands);
        {
            let _lock = lock(locks, at);
            let mut links = kept.clone();
            // Rows that have linked to it meanwhile, or in the layer above, stay as long as there is room.
            let mut before = Vec::new();
            layer.neighbours(at, &mut before);
            links.extend(before.iter().filter(|link| !kept.contains(link)).take(WIDTH - kept.len().min(WIDTH)));
            layer.write(at, links.into_iter());
        }
        for other in kept {
            link_back(layer, other, at, space, locks, hands);
        }
    }

    /// Places of a layer near the row that `hands.from` stands on, by the layers above.
    fn descend(&self, number: usize, space: &Space<'_>, hands: &mut Hands) -> Vec<u32> {
        let mut near = vec![0.0; self.top.len()];
        hands.from.nearness(space, &self.top, &mut near);
        let mut rows: Vec<u32> = ordered(&self.top, &near).iter().take(ENTRIES).map(|found| found.at).collect();
        for layer in self.layers.iter().skip(number + 1).rev() {
            let places = places_in(layer.rows.as_deref(), &rows);
            let found = walk_from(layer, &places, ENTRIES, space, hands);
            rows = found.into_iter().map(|found| layer.row(found.at)).collect();
        }
        places_in(self.layers.get(number).and_then(|layer| layer.rows.as_deref()), &rows)
    }
}

fn lock(locks: &[Mutex<()>], at: u32) -> Option<std::sync::MutexGuard<'_, ()>> {
    Some(locks.get(at as usize % locks.len().max(1))?.lock().unwrap_or_else(PoisonError::into_inner))
}

fn walk_from(layer: &Open, entries: &[u32], width: usize, space: &Space<'_>, hands: &mut Hands) -> Vec<Scored> {
    let Hands { walk, from, rows, .. } = hands;
    let score = |places: &[u32], scores: &mut [f32]| {
        rows.clear();
        rows.extend(places.iter().map(|at| layer.row(*at)));
        from.nearness(space, rows, scores);
    };
    walk.search(layer, layer.places(), entries, width, score, |_| true)
}

/// Of places, the nearest first, those that are nearer to the row they are counted from than to any that was chosen before:
/// links into different directions (algorithm 4). Where these are fewer than [`OWN`], the nearest of the others follow: of
/// many copies of one picture all would be passed over but one. The scores are [`From::nearness`].
fn select(found: &[Scored], most: usize, layer: &Open, space: &Space<'_>, hands: &mut Hands) -> Vec<u32> {
    let Hands { other, kept_rows, nearness, .. } = hands;
    let (mut kept, mut passed) = (Vec::with_capacity(most), Vec::new());
    kept_rows.clear();
    for candidate in found {
        if kept.len() >= most {
            break;
        }
        let row = layer.row(candidate.at);
        other.set(space, row);
        nearness.clear();
        nearness.resize(kept_rows.len(), 0.0);
        other.nearness(space, kept_rows, nearness);
        if nearness.iter().all(|to_kept| *to_kept < candidate.score) {
            kept.push(candidate.at);
            kept_rows.push(row);
        } else {
            passed.push(candidate.at);
        }
    }
    let room = OWN.saturating_sub(kept.len());
    kept.extend(passed.into_iter().take(room));
    kept
}

/// Adds a link, and chooses anew among all where the list is full.
fn link_back(layer: &Open, at: u32, new: u32, space: &Space<'_>, locks: &[Mutex<()>], hands: &mut Hands) {
    let _lock = lock(locks, at);
    let list = layer.list(at);
    let mut links: Vec<u32> = Vec::with_capacity(WIDTH + 1);
    layer.neighbours(at, &mut links);
    if links.contains(&new) {
        return;
    }
    if let Some(slot) = list.get(links.len()) {
        slot.store(new, Relaxed);
        return;
    }
    links.push(new);
    let rows: Vec<u32> = links.iter().map(|link| layer.row(*link)).collect();
    hands.other.set(space, layer.row(at));
    let mut near = vec![0.0; rows.len()];
    hands.other.nearness(space, &rows, &mut near);
    let found = ordered(&links, &near);
    let kept = select(&found, WIDTH, layer, space, hands);
    layer.write(at, kept.into_iter());
}

/// Turns rows into places of a layer with these rows; those that it does not hold are dropped.
fn places_in(layer: Option<&[u32]>, rows: &[u32]) -> Vec<u32> {
    match layer {
        None => rows.to_vec(),
        Some(layer) => rows.iter().filter_map(|row| Some(layer.binary_search(row).ok()? as u32)).collect(),
    }
}
