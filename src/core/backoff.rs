//! How long to wait before trying again: exponential, with full jitter and a cap.
//!
//! The jitter (a uniform draw up to the bound) spreads the retries of many partitions that failed together, best of
//! the ways compared in "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.

use std::time::Duration;

/// A wait is at least this part of its bound.
const LEAST: u32 = 16;

/// Bounds of waits that double.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// Bound of the first wait.
    pub first: Duration,
    /// No wait is longer.
    pub cap: Duration,
}

impl Schedule {
    /// A schedule from `first`, doubling, up to `cap`.
    pub const fn new(first: Duration, cap: Duration) -> Self {
        Self { first, cap }
    }

    /// The wait before attempt `attempt` (1 is the first retry), drawn with `random`: anything up to the attempt's bound,
    /// but never so little that a loop of retries would spin.
    pub fn wait(&self, attempt: u32, random: u64) -> Duration {
        let bound = self.bound(attempt);
        let share = (random >> 11) as f64 / (1u64 << 53) as f64;
        bound.mul_f64(share).max(bound / LEAST)
    }

    /// The longest wait before attempt `attempt`.
    pub fn bound(&self, attempt: u32) -> Duration {
        let doublings = attempt.saturating_sub(1).min(30);
        self.first.saturating_mul(1 << doublings).min(self.cap)
    }
}

/// A schedule together with the failures in a row so far.
#[derive(Clone, Debug)]
pub struct Backoff {
    schedule: Schedule,
    failures: u32,
}

impl Backoff {
    /// No failure yet; waits from `first`, doubling, up to `cap`.
    pub fn new(first: Duration, cap: Duration) -> Self {
        Self { schedule: Schedule::new(first, cap), failures: 0 }
    }

    /// Counts a failure and says how long to wait, drawn with `random`.
    pub fn fail(&mut self, random: u64) -> Duration {
        self.failures = self.failures.saturating_add(1);
        self.schedule.wait(self.failures, random)
    }

    /// Forgets the failures: something worked.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// Failures in a row.
    pub fn failures(&self) -> u32 {
        self.failures
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
        let schedule = Schedule::new(Duration::from_millis(100), Duration::from_secs(1));
        let longest: Vec<u128> = (1..=6).map(|attempt| schedule.wait(attempt, u64::MAX).as_millis()).collect();
        assert_eq!(longest, [100, 200, 400, 800, 1000, 1000]);
        assert_eq!(schedule.wait(u32::MAX, 0), Duration::from_millis(1000) / LEAST);
    }

    #[test]
    fn success_starts_the_schedule_anew() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
        let waits: Vec<u128> = (0..3).map(|_| backoff.fail(u64::MAX).as_millis()).collect();
        assert_eq!((waits, backoff.failures()), (vec![100, 200, 400], 3));
        backoff.reset();
        assert_eq!(backoff.fail(0), Duration::from_millis(100) / LEAST, "never immediate");
    }

    proptest! {
        #[test]
        fn a_wait_is_never_zero_and_never_above_the_cap(attempt: u32, random: u64) {
            let schedule = Schedule::new(Duration::from_millis(10), Duration::from_secs(30));
            let wait = schedule.wait(attempt, random);
            prop_assert!(wait >= schedule.first / LEAST && wait <= schedule.bound(attempt), "{wait:?}");
        }
    }
}
