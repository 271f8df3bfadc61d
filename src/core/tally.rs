//! Counting what happened to records, and the snapshot that everybody reads.

use serde::Serialize;

/// One snapshot of a run: the summary line, the JSON lines and the library's `stats()` are all made from it.
///
/// The first nine keys are those of the original system's summary; at every snapshot
/// `records_read = records_written + dead_lettered + records_skipped + records_in_flight`.
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
    /// Records decoded.
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
    /// Paused partitions and why: `"topic/partition": "errors: …"`.
    pub paused: std::collections::BTreeMap<String, String>,
    /// Next offset to be written, per owned partition: `"topic/partition": offset`.
    pub positions: std::collections::BTreeMap<String, i64>,
}
