//! Vectors that are made up: of every direction, or as those of photos and texts lie.

use crate::index::calibration::dot;

/// What the vectors are like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Made {
    /// Every direction is as likely: nothing tells a graph where to go, so an exact scan is what they measure.
    AtRandom,
    /// As photos and texts are to a model: see [`photo`]. These are linked into a graph.
    OfThings,
}

/// Things that made photos show, and settings that they share; directions each.
const THINGS: u64 = 1200;
const SETTINGS: u64 = 128;

impl Made {
    /// Shape: `[dim]`, unit length.
    pub(super) fn photo(self, dim: usize, seed: u64) -> Vec<f32> {
        match self {
            Self::AtRandom => unit(dim, seed),
            Self::OfThings => photo(dim, seed),
        }
    }

    /// What a text is like: the name of a thing, and something of its own. Shape: `[dim]`, unit length.
    pub(super) fn query(self, dim: usize, seed: u64) -> Vec<f32> {
        match self {
            Self::AtRandom => unit(dim, seed),
            Self::OfThings => sum(dim, [(0.9, name(dim, seed % THINGS)), (0.1, unit(dim, seed))]),
        }
    }
}

/// One thing mostly, two others, two settings, and something of its own; the numbers are shares of the square of its length.
/// Chosen so that photos of the same things are as near to each other as in COCO128 with `OpenAI` ViT-B/32 (a cosine of 0.43
/// after the mean was taken away), and as near to the name of one as there (four standard deviations). Shape: `[dim]`.
fn photo(dim: usize, seed: u64) -> Vec<f32> {
    let mut draws = Draws::seeded(!seed.rotate_left(17));
    let mut some = |of: u64| {
        let uniform = draws.uniform().abs();
        // Some are much more common than others.
        (f64::from(uniform * uniform) * of as f64) as u64
    };
    let things = [0.35, 0.12, 0.08].map(|share| (share, thing(dim, some(THINGS))));
    let settings = [0.18, 0.07].map(|share| (share, setting(dim, some(SETTINGS))));
    sum(dim, things.into_iter().chain(settings).chain([(0.2, unit(dim, seed))]))
}

/// What photos of a thing have in common; a little of it is what its name says.
fn thing(dim: usize, number: u64) -> Vec<f32> {
    let settings = (1..4).map(|nth| (0.29, setting(dim, (number * nth * 31 + nth) % SETTINGS)));
    sum(dim, settings.chain([(0.12, name(dim, number))]))
}

fn name(dim: usize, thing: u64) -> Vec<f32> {
    unit(dim, (1 << 62) + thing)
}

fn setting(dim: usize, number: u64) -> Vec<f32> {
    unit(dim, (1 << 61) + number)
}

/// Directions joined by their shares of the square of the length. Shape: `[dim]`, unit length.
fn sum(dim: usize, parts: impl IntoIterator<Item = (f32, Vec<f32>)>) -> Vec<f32> {
    let mut sum = vec![0.0; dim];
    for (share, part) in parts {
        sum.iter_mut().zip(part).for_each(|(sum, value)| *sum += share.sqrt() * value);
    }
    of_unit_length(sum)
}

/// A random direction. Shape: `[dim]`, unit length.
fn unit(dim: usize, seed: u64) -> Vec<f32> {
    let mut draws = Draws::seeded(seed);
    of_unit_length((0..dim).map(|_| draws.normal()).collect())
}

fn of_unit_length(vector: Vec<f32>) -> Vec<f32> {
    let norm = dot(&vector, &vector).sqrt().max(f32::MIN_POSITIVE);
    vector.into_iter().map(|value| value / norm).collect()
}

/// Splitmix64.
pub(super) struct Draws(u64);

impl Draws {
    pub(super) fn seeded(seed: u64) -> Self {
        Self(Self(seed).next())
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// -1 to 1.
    pub(super) fn uniform(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1_u64 << 23) as f32 - 1.0
    }

    /// Nearly normal, of spread 1: the sum of four uniform numbers.
    pub(super) fn normal(&mut self) -> f32 {
        let bits = self.next();
        let sum: u64 = (0..4).map(|part| bits >> (16 * part) & 0xffff).sum();
        (sum as f32 / 65_536.0 - 2.0) * 3.0_f32.sqrt()
    }
}
