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

/// Records and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    pub records: usize,
    pub bytes: usize,
}

/// What waits in one lane: chunks still encoded, one that is decoded in part, and records a worker decoded but did not
/// take into a batch.
#[derive(Clone, Debug, Default)]
pub struct Backlog {
    chunks: VecDeque<WaitingChunk>,
    decoded: Amount,
    /// At most so much is left of the chunk that is decoded in part.
    open: Amount,
    decoded_since: Duration,
    /// A chunk was taken, and the position is not behind it yet.
    owes_position: bool,
    waiting: Amount,
}

#[derive(Clone, Debug)]
struct WaitingChunk {
    amount: Amount,
    arrived: Duration,
}

impl Backlog {
    /// A chunk arrived.
    pub fn push(&mut self, records_max: usize, bytes: usize, now: Duration) {
        self.chunks.push_back(WaitingChunk { amount: Amount { records: records_max, bytes }, arrived: now });
        self.waiting.records += records_max;
        self.waiting.bytes += bytes;
    }

    /// A worker took the first `chunks` and left so much decoded for the next batch, so much of the last chunk not
    /// decoded yet, or a position that is still to be moved.
    pub fn worked(&mut self, chunks: usize, decoded: Amount, open: Amount, owes_position: bool) {
        for _ in 0..chunks {
            let Some(chunk) = self.chunks.pop_front() else {
                break;
            };
            self.waiting.records -= chunk.amount.records;
            self.waiting.bytes -= chunk.amount.bytes;
            self.decoded_since = chunk.arrived;
        }
        self.decoded = decoded;
        self.open = open;
        self.owes_position = owes_position;
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty() && self.decoded.records == 0 && !self.owes_position
    }

    /// Records that a worker decoded and nobody answered for yet.
    pub fn decoded_records(&self) -> usize {
        self.decoded.records
    }

    /// Bytes that wait and are still encoded.
    pub fn encoded_bytes(&self) -> usize {
        self.waiting.bytes + self.open.bytes
    }

    /// When the oldest of what waits arrived.
    pub fn oldest(&self) -> Duration {
        match self.chunks.front() {
            Some(chunk) if self.decoded.records == 0 && !self.owes_position => chunk.arrived,
            _ => self.decoded_since,
        }
    }

    /// When the next batch is due; `flush` says that no company will come.
    pub fn due(&self, limits: &BatchLimits, now: Duration, flush: bool) -> Due {
        if self.is_empty() {
            return Due::Never;
        }
        let full = self.decoded.records + self.open.records + self.waiting.records >= limits.rows_max
            || self.decoded.bytes + self.open.bytes + self.waiting.bytes >= limits.bytes_max;
        let late_at = self.oldest() + limits.wait_max;
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
        let nothing = Amount::default();
        let few = Amount { records: 3, bytes: 30 };
        backlog.worked(1, few, nothing, true);
        backlog.worked(0, few, nothing, true);
        assert_eq!(backlog.due(&LIMITS, ms(30), false), Due::Now, "3 decoded and 8 encoded are a batch");
        backlog.worked(1, few, few, true);
        assert_eq!(backlog.due(&LIMITS, ms(30), false), Due::At(ms(120)), "age of the chunk it came from");
        backlog.worked(0, few, Amount { records: 7, bytes: 70 }, true);
        assert_eq!(backlog.due(&LIMITS, ms(30), false), Due::Now, "what is left of a chunk counts");
        backlog.worked(0, nothing, nothing, true);
        assert!(!backlog.is_empty(), "markers were taken, the position is still to be moved");
        backlog.worked(0, nothing, nothing, false);
        assert!(backlog.is_empty());
    }
}
