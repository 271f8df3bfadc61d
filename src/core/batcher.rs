//! When the records that wait in a lane are worth a batch.
//!
//! A batch is due when it is full (rows or bytes), when its oldest record has waited long enough for company, or when
//! no company will come. The lane's owner asks; nothing here acts.

use std::collections::VecDeque;
use std::time::Duration;

/// What makes a batch full or late.
#[derive(Clone, Copy, Debug)]
pub struct BatchLimits {
    pub rows_max: usize,
    pub bytes_max: usize,
    /// Longest a record waits for company.
    pub wait_max: Duration,
}

/// When a lane's next batch is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Nothing waits.
    Never,
    /// At this time, unless more arrives before.
    At(Duration),
    Now,
}

/// What waits in one lane: chunks still encoded, and records a worker decoded but did not take into a batch.
#[derive(Clone, Debug, Default)]
pub struct Backlog {
    chunks: VecDeque<WaitingChunk>,
    decoded_records: usize,
    decoded_bytes: usize,
    decoded_since: Duration,
    /// A chunk without records for us was taken, and the position is not behind it yet.
    owes_position: bool,
    chunk_records: usize,
    chunk_bytes: usize,
}

#[derive(Clone, Debug)]
struct WaitingChunk {
    records_max: usize,
    bytes: usize,
    arrived: Duration,
}

impl Backlog {
    /// A chunk arrived.
    pub fn push(&mut self, records_max: usize, bytes: usize, now: Duration) {
        self.chunks.push_back(WaitingChunk { records_max, bytes, arrived: now });
        self.chunk_records += records_max;
        self.chunk_bytes += bytes;
    }

    /// A worker took the first `chunks` and left so many decoded records for the next batch, or a position that is
    /// still to be moved.
    pub fn worked(&mut self, chunks: usize, decoded_records: usize, decoded_bytes: usize, owes_position: bool) {
        for _ in 0..chunks {
            let Some(chunk) = self.chunks.pop_front() else {
                break;
            };
            self.chunk_records -= chunk.records_max;
            self.chunk_bytes -= chunk.bytes;
            self.decoded_since = chunk.arrived;
        }
        self.decoded_records = decoded_records;
        self.decoded_bytes = decoded_bytes;
        self.owes_position = owes_position;
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty() && self.decoded_records == 0 && !self.owes_position
    }

    /// Records that a worker decoded and nobody answered for yet.
    pub fn decoded_records(&self) -> usize {
        self.decoded_records
    }

    /// When the next batch is due; `flush` says that no company will come.
    pub fn due(&self, limits: &BatchLimits, now: Duration, flush: bool) -> Due {
        if self.is_empty() {
            return Due::Never;
        }
        let full = self.decoded_records + self.chunk_records >= limits.rows_max
            || self.decoded_bytes + self.chunk_bytes >= limits.bytes_max;
        let oldest = match self.chunks.front() {
            Some(chunk) if self.decoded_records == 0 && !self.owes_position => chunk.arrived,
            _ => self.decoded_since,
        };
        let late_at = oldest + limits.wait_max;
        if full || flush || now >= late_at { Due::Now } else { Due::At(late_at) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: BatchLimits = BatchLimits { rows_max: 10, bytes_max: 1000, wait_max: Duration::from_millis(100) };

    fn ms(value: u64) -> Duration {
        Duration::from_millis(value)
    }

    #[test]
    fn a_batch_is_due_when_full_late_or_alone() {
        let cases = [
            ("nothing", vec![], 50, false, Due::Never),
            ("few", vec![(3, 30, 20)], 50, false, Due::At(ms(120))),
            ("late", vec![(3, 30, 20)], 120, false, Due::Now),
            ("rows", vec![(6, 30, 20), (4, 30, 30)], 50, false, Due::Now),
            ("bytes", vec![(1, 999, 20), (1, 1, 30)], 50, false, Due::Now),
            ("no company", vec![(1, 1, 50)], 50, true, Due::Now),
            ("markers only", vec![(0, 78, 50)], 50, false, Due::At(ms(150))),
        ];
        for (name, chunks, now, flush, expected) in cases {
            let mut backlog = Backlog::default();
            for (records, bytes, arrived) in chunks {
                backlog.push(records, bytes, ms(arrived));
            }
            assert_eq!(backlog.due(&LIMITS, ms(now), flush), expected, "{name}");
        }
    }

    #[test]
    fn what_a_worker_leaves_keeps_its_age() {
        let mut backlog = Backlog::default();
        backlog.push(8, 80, ms(10));
        backlog.push(8, 80, ms(20));
        backlog.worked(1, 3, 30, true);
        backlog.worked(0, 3, 30, true);
        assert_eq!(backlog.due(&LIMITS, ms(30), false), Due::Now, "3 decoded and 8 encoded are a batch");
        backlog.worked(1, 1, 10, true);
        assert_eq!(backlog.due(&LIMITS, ms(30), false), Due::At(ms(120)), "age of the chunk it came from");
        backlog.worked(0, 0, 0, true);
        assert!(!backlog.is_empty(), "markers were taken, the position is still to be moved");
        backlog.worked(0, 0, 0, false);
        assert!(backlog.is_empty());
    }
}
