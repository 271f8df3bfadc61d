//! How long to wait before the next attempt: exponential, with full jitter, up to a cap.
//!
//! Full jitter spreads what many clients do after one common failure over the whole interval. Chance is an argument.
//! Source: "Exponential Backoff And Jitter", AWS Architecture Blog.

use std::time::Duration;

/// Waits that grow with each failure in a row.
#[derive(Clone, Debug)]
pub struct Backoff {
    base: Duration,
    cap: Duration,
    failures: u32,
}

impl Backoff {
    /// The first wait is at most `base`; each further one at most twice the last, never more than `cap`.
    pub fn new(base: Duration, cap: Duration) -> Self {
        Self { base, cap, failures: 0 }
    }

    /// Counts a failure and says how long to wait, drawn by `chance` (any number) evenly between half of `base`, so that
    /// no retry is immediate, and the ceiling.
    pub fn fail(&mut self, chance: u64) -> Duration {
        let ceiling = self.ceiling();
        let floor = (self.base / 2).min(ceiling);
        self.failures = self.failures.saturating_add(1);
        let range = (ceiling - floor).as_nanos() as u64;
        floor + Duration::from_nanos(((u128::from(chance) * u128::from(range)) >> 64) as u64)
    }

    /// Forgets the failures: something worked.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// Failures in a row.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    fn ceiling(&self) -> Duration {
        let factor = 1u32.checked_shl(self.failures).unwrap_or(u32::MAX);
        self.base.saturating_mul(factor).min(self.cap)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_cap_and_start_again_after_success() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
        let longest: Vec<u128> = (0..6).map(|_| backoff.fail(u64::MAX).as_millis()).collect();
        assert_eq!(longest, [99, 199, 399, 799, 999, 999]);
        backoff.reset();
        assert_eq!(backoff.fail(0).as_millis(), 50, "never immediate");
    }

    #[test]
    fn no_number_of_failures_overflows() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));
        for failure in 0..200u32 {
            let wait = backoff.fail(u64::MAX / 200 * u64::from(failure));
            assert!((Duration::from_millis(500)..=Duration::from_secs(30)).contains(&wait), "{failure}: {wait:?}");
        }
        assert_eq!(backoff.failures(), 200);
    }
}
