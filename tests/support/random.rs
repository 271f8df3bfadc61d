//! Chance with a seed that is printed, and can be given again: `KONEKT_SEED=… cargo test …`.

use std::hash::{BuildHasher, RandomState};

/// SplitMix64 (Steele, Lea, Flood 2014): small, and good enough to choose moments.
pub struct Random {
    state: u64,
}

impl Random {
    /// A generator whose seed is on the test's output.
    pub fn announced() -> Self {
        let seed = Self::seed();
        println!("KONEKT_SEED={seed}");
        Self::seeded(seed)
    }

    /// The seed that was given, or one that nobody knows yet.
    pub fn seed() -> u64 {
        match std::env::var("KONEKT_SEED") {
            Ok(seed) => seed.parse().expect("KONEKT_SEED is a number"),
            Err(_) => RandomState::new().hash_one(std::process::id()),
        }
    }

    /// A generator that always gives the same.
    pub fn seeded(seed: u64) -> Self {
        Self { state: seed }
    }

    /// Any number.
    pub fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number from `low` up to but without `high`.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.next() % (high - low)
    }

    /// Bytes that no codec can shrink.
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next() as u8).collect()
    }
}
