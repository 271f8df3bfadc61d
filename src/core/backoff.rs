//! How long to wait before trying again: exponential, with jitter and a cap.
//!
//! The jitter (a uniform draw from the upper half of the bound) spreads the retries of many partitions that
//! failed together; see "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.

use std::time::Duration;

/// A schedule of waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// Bound of the first wait.
    pub first: Duration,
    /// No wait is longer.
    pub cap: Duration,
}

impl Backoff {
    /// A schedule from `first`, doubling, up to `cap`.
    pub const fn new(first: Duration, cap: Duration) -> Self {
        Self { first, cap }
    }

    /// The wait before attempt `attempt` (1 is the first retry), drawn with `random`. It lies in the upper half of the
    /// attempt's bound, so that a retry is never immediate and the schedule still grows.
    pub fn wait(&self, attempt: u32, random: u64) -> Duration {
        let doublings = attempt.saturating_sub(1).min(30);
        let bound = self.first.saturating_mul(1 << doublings).min(self.cap);
        let half = bound / 2;
        let share = (random >> 11) as f64 / (1u64 << 53) as f64;
        half + half.mul_f64(share)
    }
}

/// A small generator for jitter (SplitMix64, Steele, Lea and Flood 2014). Seeded from outside, so runs can be repeated.
#[derive(Clone, Debug)]
pub struct Chance {
    state: u64,
}

impl Chance {
    /// The same seed draws the same numbers.
    pub fn seeded(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The next number.
    pub fn draw(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn waits_double_up_to_the_cap() {
        let backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
        let longest: Vec<u128> = (1..=6).map(|attempt| backoff.wait(attempt, u64::MAX).as_millis()).collect();
        assert_eq!(longest, [100, 200, 400, 800, 1000, 1000]);
        assert_eq!(backoff.wait(u32::MAX, 0), Duration::from_millis(500));
    }

    proptest! {
        #[test]
        fn a_wait_is_never_zero_and_never_above_the_cap(attempt: u32, random: u64) {
            let backoff = Backoff::new(Duration::from_millis(10), Duration::from_secs(30));
            let wait = backoff.wait(attempt, random);
            prop_assert!(wait >= Duration::from_millis(5) && wait <= backoff.cap, "{wait:?}");
        }
    }
}
