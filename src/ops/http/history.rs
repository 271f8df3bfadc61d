//! The last half hour, in steps of a few seconds: what the page's plots are drawn from.

use std::collections::VecDeque;
use std::time::Duration;

use parking_lot::Mutex;
use serde::Serialize;

use crate::core::statistics::Statistics;

/// Time between samples.
pub const STEP: Duration = Duration::from_secs(5);
/// Half an hour of them; 40 KiB.
const SAMPLES_MAX: usize = 360;

/// One moment.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Sample {
    pub at_unix_ms: i64,
    pub records_per_second: f64,
    pub bytes_per_second: f64,
    pub lag_records: u64,
    pub lag_seconds: Option<f64>,
    pub dead_lettered: u64,
    /// Partitions that wrote nothing and should have.
    pub partitions_waiting: usize,
    pub memory_bytes: usize,
}

/// See the module.
#[derive(Default)]
pub struct History(Mutex<VecDeque<Sample>>);

impl History {
    /// Remembers a snapshot. One that was there before (the loop did not answer) is a gap.
    pub fn add(&self, statistics: &Statistics) {
        let mut samples = self.0.lock();
        if samples.back().is_some_and(|last| last.at_unix_ms >= statistics.taken_at_unix_ms) {
            return;
        }
        if samples.len() == SAMPLES_MAX {
            samples.pop_front();
        }
        samples.push_back(Sample {
            at_unix_ms: statistics.taken_at_unix_ms,
            records_per_second: statistics.processing_rate_per_second,
            bytes_per_second: statistics.bytes_per_second,
            lag_records: statistics.lag_records,
            lag_seconds: statistics.lag_seconds,
            dead_lettered: statistics.dead_lettered,
            partitions_waiting: statistics.partitions.iter().filter(|of| of.state.is_waiting()).count(),
            memory_bytes: statistics.memory.used_bytes,
        });
    }

    /// Oldest first.
    pub fn samples(&self) -> Vec<Sample> {
        self.0.lock().iter().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_holds_half_an_hour_and_no_moment_twice() {
        let history = History::default();
        for second in 0..5_000 {
            let statistics = Statistics { taken_at_unix_ms: second / 2, ..Statistics::default() };
            history.add(&statistics);
        }
        let samples = history.samples();
        assert_eq!((samples.len(), samples[0].at_unix_ms), (SAMPLES_MAX, 2_500 - SAMPLES_MAX as i64));
        assert!(samples.windows(2).all(|pair| pair[0].at_unix_ms + 1 == pair[1].at_unix_ms));
    }
}
