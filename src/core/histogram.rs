//! How values spread: counts in fixed, log-scaled buckets, without an allocation per value.
//!
//! Bucket `n` counts what is above 2ⁿ⁻¹ and at most 2ⁿ, so a quantile is off by less than its own half; that tells 3 ms
//! from 30 ms, and that is what one asks. Workers measure once per batch and the loop counts, so there is no lock.

use std::time::Duration;

use serde::Serialize;

/// So many buckets; the last one takes all that is larger: half an hour in microseconds, two gigabytes in bytes.
pub const BUCKETS: usize = 32;

/// See the module. Values are whole numbers: microseconds, records or bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    buckets: [u64; BUCKETS],
    count: u64,
    sum: u64,
    max: u64,
}

impl Histogram {
    /// Counts one value.
    ///
    /// ```
    /// use konekt::core::histogram::Histogram;
    ///
    /// let mut sizes = Histogram::default();
    /// (1..=100).for_each(|value| sizes.record(value));
    /// assert_eq!((sizes.count(), sizes.sum(), sizes.quantile(1.0)), (100, 5050, 100.0));
    /// assert!((32.0..=64.0).contains(&sizes.quantile(0.5)));
    /// ```
    pub fn record(&mut self, value: u64) {
        let exponent = (u64::BITS - value.saturating_sub(1).leading_zeros()) as usize;
        self.buckets[exponent.min(BUCKETS - 1)] += 1;
        self.count += 1;
        self.sum = self.sum.saturating_add(value);
        self.max = self.max.max(value);
    }

    /// Counts a time, in microseconds.
    pub fn record_time(&mut self, time: Duration) {
        self.record(time.as_micros().try_into().unwrap_or(u64::MAX));
    }

    /// How many values were counted.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// All values together.
    pub fn sum(&self) -> u64 {
        self.sum
    }

    /// How many values were at most 2^`exponent`.
    pub fn at_most(&self, exponent: usize) -> u64 {
        self.buckets.iter().take(exponent + 1).sum()
    }

    /// The value that the share `part` (0 to 1) of all values does not exceed, as if they lay evenly in their bucket; 0
    /// without values.
    pub fn quantile(&self, part: f64) -> f64 {
        let wanted = part.clamp(0.0, 1.0) * self.count as f64;
        let mut below = 0.0;
        for (exponent, &count) in self.buckets.iter().enumerate().filter(|(_, count)| **count > 0) {
            let count = count as f64;
            if below + count >= wanted {
                let upper = (exponent as f64).exp2();
                let lower = if exponent == 0 { 0.0 } else { upper / 2.0 };
                return (lower + (upper - lower) * (wanted - below) / count).min(self.max as f64);
            }
            below += count;
        }
        self.max as f64
    }

    /// The figures that a person reads, each multiplied by `unit`.
    pub fn spread(&self, unit: f64) -> Spread {
        let mean = if self.count > 0 { self.sum as f64 / self.count as f64 } else { 0.0 };
        let quantile = |part| self.quantile(part) * unit;
        Spread {
            count: self.count,
            mean: mean * unit,
            p50: quantile(0.5),
            p95: quantile(0.95),
            p99: quantile(0.99),
            max: self.max as f64 * unit,
        }
    }
}

/// What a histogram says in a few figures: how many values, their mean, quantiles and largest one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Spread {
    pub count: u64,
    pub mean: f64,
    pub p50: f64,
    pub p95: f64,
    pub p99: f64,
    pub max: f64,
}

/// How fast a counter grows, over the last [`Rate::SPAN`] to twice that, whoever asks how often.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rate {
    from: (Duration, u64),
    next: (Duration, u64),
}

impl Rate {
    /// After so long the older half of what is looked at is left behind.
    pub const SPAN: Duration = Duration::from_secs(5);

    /// A counter that stands at `value` now.
    pub fn starting(now: Duration, value: u64) -> Self {
        Self { from: (now, value), next: (now, value) }
    }

    /// Notes where the counter stands. Called at least once per [`SPAN`](Self::SPAN) and as often as one likes.
    pub fn note(&mut self, now: Duration, value: u64) {
        if now.saturating_sub(self.next.0) >= Self::SPAN {
            self.from = std::mem::replace(&mut self.next, (now, value));
        }
    }

    /// Its growth per second, when it stands at `value` now.
    pub fn per_second(&self, now: Duration, value: u64) -> f64 {
        let (then, before) = self.from;
        let seconds = now.saturating_sub(then).as_secs_f64();
        if seconds > 0.0 { value.saturating_sub(before) as f64 / seconds } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_value_is_in_the_bucket_that_its_power_of_two_closes() {
        for (value, exponent) in [(0, 0), (1, 0), (2, 1), (3, 2), (4, 2), (5, 3), (1 << 20, 20), (u64::MAX, 31)] {
            let mut histogram = Histogram::default();
            histogram.record(value);
            assert_eq!((histogram.at_most(exponent), histogram.count()), (1, 1), "{value}");
            if exponent > 0 {
                assert_eq!(histogram.at_most(exponent - 1), 0, "{value}");
            }
        }
    }

    #[test]
    fn quantiles_stay_within_a_factor_of_two() {
        let mut histogram = Histogram::default();
        let values: Vec<u64> = (0..10_000u64).map(|number| number * number % 7_919 + 1).collect();
        values.iter().for_each(|value| histogram.record(*value));
        let mut sorted = values;
        sorted.sort_unstable();
        for part in [0.01, 0.1, 0.5, 0.95, 0.99, 1.0] {
            let exact = sorted[((part * sorted.len() as f64) as usize).min(sorted.len() - 1)] as f64;
            let told = histogram.quantile(part);
            assert!(told <= 2.0 * exact && told >= exact / 2.0, "{part}: {told} for {exact}");
        }
        assert_eq!(Histogram::default().spread(1e-6), Spread::default());
    }

    #[test]
    fn a_rate_looks_at_the_last_seconds_whoever_asks_how_often() {
        let second = Duration::from_secs(1);
        let mut rate = Rate::starting(Duration::ZERO, 0);
        for number in 0..=100u32 {
            let (now, value) = (second * number, u64::from(number.min(50)) * 10);
            rate.note(now, value);
            rate.note(now, value);
            let expected = match number {
                1..=50 => 10.0,
                61.. => 0.0,
                _ => continue,
            };
            assert_eq!(rate.per_second(now, value), expected, "at {number} s");
        }
    }
}
