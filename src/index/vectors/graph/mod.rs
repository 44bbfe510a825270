//! A graph over a collection's rows (HNSW): each row is linked to some that are near and lie in different directions, so
//! that from a good row one comes to better ones without meeting most of the others.
//!
//! It holds links only; the rows stay where they are. They are made by the distance between rows, with layers of ever fewer
//! rows above that lead there. A search walks by what it ranks by, and does not come through these layers: texts are far
//! from all images, and what leads from image to image leads them astray. It begins at the best rows of a sample, which is
//! scored anyway, since it says what is usual in the collection.
//!
//! Source: Malkov and Yashunin 2016, "Efficient and robust approximate nearest neighbor search using Hierarchical Navigable
//! Small World graphs".

mod build;
mod distance;
mod file;
#[cfg(test)]
mod tests;
mod walk;

use super::rows::Rows;
pub(super) use build::Linked;
pub(super) use file::GraphFile;
pub(in crate::index) use file::links_of;
use walk::{Links, NONE, Scored, Walk};

/// Links of a row, at most: 128 bytes for a row of 1,024.
const WIDTH: usize = 32;
/// Rows of the sample, at most.
const SAMPLE: usize = 98_304;

/// Half of the rows have 0, a quarter 1, an eighth 2, and so on; a row has the same in every build.
fn rarity(row: u32) -> u32 {
    let mixed = (u64::from(row) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    (mixed ^ mixed >> 31).trailing_zeros()
}

/// The layer up to which a row is found: one row in sixteen goes a layer higher.
fn level(row: u32) -> usize {
    (rarity(row) / 4) as usize
}

/// As many of the first `rows` rows as a sample holds, the rarest.
fn sample_of(rows: u32) -> Vec<u32> {
    let least = (0..u32::BITS).find(|least| rows as usize >> least <= SAMPLE).unwrap_or(0);
    (0..rows).filter(|row| rarity(*row) >= least).collect()
}

/// Links of places, with [`NONE`] behind the last of a place. Shape: `[places, WIDTH]`.
impl Links for &[u32] {
    fn neighbours(&self, at: u32, into: &mut Vec<u32>) {
        let list = self.get(at as usize * WIDTH..(at as usize + 1) * WIDTH).unwrap_or_default();
        into.extend(list.iter().take_while(|link| **link != NONE));
    }
}

/// A graph, wherever its links lie.
#[derive(Debug, Clone, Copy)]
pub(super) struct Graph<'a> {
    /// Links between rows. Shape: `[rows, WIDTH]`.
    links: &'a [u32],
    /// Links between the places of the layers above, from the lowest; for rows that are added.
    upper: &'a [u32],
    /// Rows spread over all, ascending.
    pub(super) sample: &'a [u32],
    /// The same rows once more, beside each other: to read them where they lie takes five times as long. Without low planes.
    pub(super) gathered: Rows<'a>,
}

impl Graph<'_> {
    /// Rows that it holds.
    pub(super) fn len(&self) -> usize {
        self.links.len() / WIDTH
    }

    /// The rows that a walk from some of them finds best, best first, `width` at most. `score` gives the scores of rows,
    /// `admitted` says which rows are wanted.
    pub(super) fn search(
        &self,
        entries: &[u32],
        width: usize,
        score: impl FnMut(&[u32], &mut [f32]),
        admitted: impl Fn(u32) -> bool,
    ) -> Vec<Scored> {
        Walk::default().search(&self.links, self.len(), entries, width, score, admitted)
    }
}
