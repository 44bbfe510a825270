//! A generator whose numbers never change with a dependency's version, so that a seed names the same scene forever.

/// The generator `SplitMix64`.
///
/// Source: G. Steele, D. Lea, C. Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014, with the
/// constants of the public-domain `splitmix64.c` by S. Vigna.
#[derive(Debug, Clone)]
pub struct Random {
    state: u64,
}

impl Random {
    /// The generator of a seed.
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// An integer in `0..limit`; 0 for a limit of 0. The bias is under `limit / 2^64`.
    pub fn below(&mut self, limit: usize) -> usize {
        ((u128::from(self.bits()) * limit as u128) >> 64) as usize
    }

    /// A number in `[low, high)`.
    pub fn between(&mut self, low: f32, high: f32) -> f32 {
        // 24 bits fill an f32's significand, so that the fraction is exact and below 1.
        let fraction = (self.bits() >> 40) as f32 / (1_u64 << 24) as f32;
        low + (high - low) * fraction
    }

    /// True with this probability.
    pub fn chance(&mut self, probability: f32) -> bool {
        self.between(0.0, 1.0) < probability
    }

    /// One of the items, each equally likely.
    pub fn pick<T: Copy, const N: usize>(&mut self, items: &[T; N]) -> T {
        items[self.below(N)]
    }

    /// Puts the items in a random order (Fisher and Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

/// The seed of the item at `index` of the collection `seed`; neighbouring seeds and indices share nothing.
pub fn seed_of(seed: u64, index: u64) -> u64 {
    let mut outer = Random::new(seed);
    Random::new(outer.bits() ^ index.wrapping_mul(0xd1b5_4a32_d192_ed03)).bits()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equals_the_published_sequence() {
        // First outputs of splitmix64.c for the seed 1234567.
        let mut random = Random::new(1_234_567);
        let numbers: Vec<u64> = (0..3).map(|_| random.bits()).collect();
        assert_eq!(numbers, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
    }

    #[test]
    fn ranges_are_kept_and_filled() {
        let mut random = Random::new(1);
        let mut seen = [0_usize; 5];
        for _ in 0..5000 {
            seen[random.below(5)] += 1;
            let number = random.between(-2.0, 3.0);
            assert!((-2.0..3.0).contains(&number));
        }
        assert!(seen.iter().all(|&times| times > 850), "{seen:?}");
        assert_eq!(random.below(0), 0);
    }

    #[test]
    fn neighbouring_collections_do_not_share_scenes() {
        let mut seeds: Vec<u64> = (0..20).flat_map(|seed| (0..200).map(move |index| seed_of(seed, index))).collect();
        seeds.sort_unstable();
        seeds.dedup();
        assert_eq!(seeds.len(), 4000);
    }
}
