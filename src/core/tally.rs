//! Counting what happened to records, and the snapshot that everybody reads.

use std::time::Duration;

use serde::Serialize;

use super::coordinator::LaneReport;

/// One snapshot of a run: the summary line, the JSON lines and the library's `stats()` are all made from it.
///
/// The first nine keys are those of the original system's summary; at every snapshot
/// `records_read = records_written + dead_lettered + records_in_flight + records_released`.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Statistics {
    /// Seconds since the start.
    pub uptime_seconds: f64,
    /// Records written or handled.
    pub messages_processed: u64,
    /// Records whose last attempt failed; they are not lost but tried again, or dead-lettered.
    pub messages_failed: u64,
    /// Batches written or handled.
    pub batches_processed: u64,
    /// Partitions owned now.
    pub partitions_assigned: usize,
    /// Records per second since the last snapshot.
    pub processing_rate_per_second: f64,
    /// Mean time of a batch's write or handler call, in milliseconds, over the whole run.
    pub average_processing_time_ms: f64,
    /// Failed attempts in percent of all attempts.
    pub error_rate_percent: f64,
    /// Failed attempts per partition in a row now, where there are any: `"topic/partition": count`.
    pub partition_errors: std::collections::BTreeMap<String, u64>,
    /// Records decoded for us; transaction markers and aborted records are counted apart, as skipped.
    pub records_read: u64,
    /// Records written or handled (the same as `messages_processed`).
    pub records_written: u64,
    /// Of these, records that the sink already had.
    pub records_repeated: u64,
    /// Records sent to the dead letters.
    pub dead_lettered: u64,
    /// Transaction markers and records of aborted transactions.
    pub records_skipped: u64,
    /// Records decoded and not yet answered for.
    pub records_in_flight: u64,
    /// Records decoded, then left to the next owner of their partition or read again after a restart.
    pub records_released: u64,
    /// Bytes of keys, values and headers written.
    pub bytes_written: u64,
    /// Records between our positions and the ends of the logs, as last seen.
    pub lag_records: u64,
    /// Bytes held in memory by records.
    pub memory_bytes: usize,
    /// Times a partition was handed out or taken back.
    pub rebalances: u64,
    /// Attempts made again after a failure.
    pub retries: u64,
    /// Workers that have been doing one thing for longer than `message_timeout_seconds`.
    pub workers_stuck: usize,
    /// Workers that died and were replaced.
    pub workers_replaced: u64,
    /// Paused partitions and why: `"topic/partition": "errors: …"`.
    pub paused: std::collections::BTreeMap<String, String>,
    /// Next offset to be written, per owned partition: `"topic/partition": offset`.
    pub positions: std::collections::BTreeMap<String, i64>,
}

/// The counters behind the snapshots.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    read: u64,
    written: u64,
    repeated: u64,
    dead_lettered: u64,
    skipped: u64,
    released: u64,
    bytes: u64,
    batches: u64,
    attempts: u64,
    failures: u64,
    exhausted: u64,
    retries: u64,
    rebalances: u64,
    busy: Duration,
    last: (Duration, u64),
}

impl Tally {
    /// A worker answered for a lane.
    pub fn worked(&mut self, report: &LaneReport) {
        self.read += report.decoded;
        self.skipped += report.skipped;
        self.written += report.written;
        self.repeated += report.repeated;
        self.dead_lettered += report.dead_lettered;
        self.bytes += report.written_bytes;
        if report.attempted > 0 || report.failure.is_some() {
            self.attempts += 1;
            self.busy += report.took;
            match report.failure {
                Some(_) => self.failures += 1,
                None => self.batches += 1,
            }
        }
    }

    /// Decoded records were let go unwritten.
    pub fn released(&mut self, records: u64) {
        self.released += records;
    }

    /// A batch failed as often as one may try.
    pub fn exhausted(&mut self, records: u64) {
        self.exhausted += records;
    }

    /// Something will be tried again.
    pub fn retried(&mut self) {
        self.retries += 1;
    }

    /// Partitions came or went.
    pub fn rebalanced(&mut self) {
        self.rebalances += 1;
    }

    /// Records written or put aside so far.
    pub fn handled(&self) -> u64 {
        self.written + self.dead_lettered
    }

    /// The counters' part of a snapshot; the rate counts from the snapshot before.
    pub fn snapshot(&mut self, now: Duration, in_flight: u64) -> Statistics {
        let (then, written_then) = std::mem::replace(&mut self.last, (now, self.written));
        let ratio = |part: f64, whole: f64| if whole > 0.0 { part / whole } else { 0.0 };
        Statistics {
            uptime_seconds: now.as_secs_f64(),
            messages_processed: self.written,
            messages_failed: self.exhausted,
            batches_processed: self.batches,
            processing_rate_per_second: ratio(
                (self.written - written_then) as f64,
                now.saturating_sub(then).as_secs_f64(),
            ),
            average_processing_time_ms: ratio(self.busy.as_secs_f64() * 1e3, self.attempts as f64),
            error_rate_percent: ratio(100.0 * self.failures as f64, self.attempts as f64),
            records_read: self.read,
            records_written: self.written,
            records_repeated: self.repeated,
            dead_lettered: self.dead_lettered,
            records_skipped: self.skipped,
            records_in_flight: in_flight,
            records_released: self.released,
            bytes_written: self.bytes,
            rebalances: self.rebalances,
            retries: self.retries,
            ..Statistics::default()
        }
    }
}
