//! The snapshot that everybody reads: the line for people, the JSON lines, the library's `stats()`, the metrics and the
//! status page are all made from one [`Statistics`].
//!
//! As JSON it is a contract with a version ([`VERSION`]): fields may be added; one that goes or changes its meaning raises
//! the version. Names end with their unit.

use std::collections::BTreeMap;

use serde::Serialize;

use super::breaker::PauseReason;
use super::tally::{Distributions, Spreads};

/// Of the JSON form.
pub const VERSION: u32 = 1;

/// One snapshot of a run.
///
/// The nine keys from [`uptime_seconds`](Self::uptime_seconds) to [`partition_errors`](Self::partition_errors) are those
/// of the original system's summary. At every snapshot
/// `records_read = records_written + dead_lettered + records_in_flight + records_released`;
/// [`records_unaccounted`](Self::records_unaccounted) is the difference.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Statistics {
    /// [`VERSION`].
    pub version: u32,
    /// When it was made, in milliseconds since the Unix epoch.
    pub taken_at_unix_ms: i64,
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
    /// Records per second over the last five to ten seconds.
    pub processing_rate_per_second: f64,
    /// Mean time of a batch's write or handler call, in milliseconds, over the whole run.
    pub average_processing_time_ms: f64,
    /// Failed attempts in percent of all attempts.
    pub error_rate_percent: f64,
    /// Failed attempts per partition in a row now, where there are any: `"topic/partition": count`.
    pub partition_errors: BTreeMap<String, u64>,
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
    /// Records that nobody answers for: 0, or there is a defect in Konekt.
    pub records_unaccounted: i64,
    /// Bytes of keys, values and headers written.
    pub bytes_written: u64,
    /// Over the last five to ten seconds.
    pub bytes_per_second: f64,
    /// Records between our positions and the ends of the logs, as last seen.
    pub lag_records: u64,
    /// The largest lag in time of a partition; null as long as none is known.
    pub lag_seconds: Option<f64>,
    /// When all partitions will be at their ends, at the rates of the last seconds; null when one gains nothing.
    pub catch_up_seconds: Option<f64>,
    /// What is held in memory, and where.
    pub memory: Memory,
    /// Times a partition was handed out or taken back.
    pub rebalances: u64,
    /// Whether the group has said which partitions are ours, be it none.
    pub settled: bool,
    /// Whether the run ends: nothing new is begun.
    pub stopping: bool,
    /// Attempts made again after a failure.
    pub retries: u64,
    /// Threads that write.
    pub workers: usize,
    /// Of these, how many are writing now.
    pub workers_busy: usize,
    /// Workers that have been doing one thing for longer than `message_timeout_seconds`.
    pub workers_stuck: usize,
    /// Workers that died and were replaced.
    pub workers_replaced: u64,
    /// Seconds since the thread that reads from Kafka last showed life; it does so twice a second or more often.
    pub source_silent_seconds: f64,
    /// How the sink is.
    pub sink: SinkStatistics,
    /// The sink's connections, where it has a pool of them.
    pub pool: Option<PoolStatistics>,
    /// How batches spread in time and size: in JSON `count`, `mean`, `p50`, `p95`, `p99` and `max` of each ([`Spreads`]).
    pub distributions: Distributions,
    /// Each partition that is ours, in the order of their names.
    pub partitions: Vec<PartitionStatistics>,
    /// What went wrong last, newest last.
    pub problems: Vec<Problem>,
    /// What was put aside last, newest last.
    pub letters: Vec<PutAside>,
}

impl Default for Statistics {
    fn default() -> Self {
        Self {
            version: VERSION,
            taken_at_unix_ms: 0,
            uptime_seconds: 0.0,
            messages_processed: 0,
            messages_failed: 0,
            batches_processed: 0,
            partitions_assigned: 0,
            processing_rate_per_second: 0.0,
            average_processing_time_ms: 0.0,
            error_rate_percent: 0.0,
            partition_errors: BTreeMap::new(),
            records_read: 0,
            records_written: 0,
            records_repeated: 0,
            dead_lettered: 0,
            records_skipped: 0,
            records_in_flight: 0,
            records_released: 0,
            records_unaccounted: 0,
            bytes_written: 0,
            bytes_per_second: 0.0,
            lag_records: 0,
            lag_seconds: None,
            catch_up_seconds: None,
            memory: Memory::default(),
            rebalances: 0,
            settled: false,
            stopping: false,
            retries: 0,
            workers: 0,
            workers_busy: 0,
            workers_stuck: 0,
            workers_replaced: 0,
            source_silent_seconds: 0.0,
            sink: SinkStatistics::default(),
            pool: None,
            distributions: Distributions::default(),
            partitions: Vec::new(),
            problems: Vec::new(),
            letters: Vec::new(),
        }
    }
}

impl Statistics {
    /// The partitions that write nothing at the moment and should.
    pub fn standing(&self) -> impl Iterator<Item = &PartitionStatistics> {
        self.partitions.iter().filter(|partition| partition.detail.is_some())
    }
}

/// Bytes held by records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// `memory_limit`.
    pub limit_bytes: usize,
    /// In the three places together.
    pub used_bytes: usize,
    /// Set aside for answers under way, or held by fetched frames of which a part is being decoded.
    pub fetching_bytes: usize,
    /// Fetched, still encoded, waiting for a worker.
    pub queued_bytes: usize,
    /// What decoding made: decompressed records that are not written yet.
    pub decoded_bytes: usize,
}

/// How the sink is.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct SinkStatistics {
    /// What it is called in messages.
    pub name: String,
    /// Whether it answered when it was last asked; null before that.
    pub reachable: Option<bool>,
    /// Seconds since that changed.
    pub since_seconds: f64,
    /// Why it could not be reached: Konekt waits for it.
    pub failure: Option<String>,
}

/// What a pool of connections has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PoolStatistics {
    /// Connections open now.
    pub open: usize,
    /// Connections made since the start.
    pub opened: u64,
    /// Connections left behind now, with a driver that does not answer.
    pub abandoned: usize,
    /// Times that a connection was asked for.
    pub taken: u64,
    /// Microseconds waited for one, together.
    pub waited_us: u64,
}

/// What a partition is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PartitionState {
    /// Its position is being asked for.
    #[default]
    Starting,
    /// Read and written.
    Running,
    /// The last attempt failed; another follows by itself.
    Retrying,
    /// No write starts; see the reasons.
    Paused,
    /// It goes to another member, or the run ends: what was begun is finished.
    Draining,
    /// Stands still until a person acts.
    Stuck,
}

impl PartitionState {
    /// All of them.
    pub const ALL: [PartitionState; 6] = [
        PartitionState::Starting,
        PartitionState::Running,
        PartitionState::Retrying,
        PartitionState::Paused,
        PartitionState::Draining,
        PartitionState::Stuck,
    ];

    /// Whether it writes nothing and should.
    pub fn is_waiting(self) -> bool {
        matches!(self, PartitionState::Retrying | PartitionState::Paused | PartitionState::Stuck)
    }

    /// Its name in metrics and JSON.
    pub fn name(self) -> &'static str {
        match self {
            PartitionState::Starting => "starting",
            PartitionState::Running => "running",
            PartitionState::Retrying => "retrying",
            PartitionState::Paused => "paused",
            PartitionState::Draining => "draining",
            PartitionState::Stuck => "stuck",
        }
    }
}

/// One partition that is ours. Its counters begin when it was assigned.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct PartitionStatistics {
    /// Its topic.
    pub topic: String,
    /// Its number.
    pub partition: i32,
    /// `starting`, `running`, `retrying`, `paused`, `draining` or `stuck`.
    pub state: PartitionState,
    /// Seconds since it is in this state, give or take five.
    pub state_seconds: f64,
    /// Why it is paused; empty when it is not.
    pub pause_reasons: Vec<PauseReason>,
    /// Why it writes nothing at the moment, in words.
    pub detail: Option<String>,
    /// Next offset to be written; null before it is known.
    pub position: Option<i64>,
    /// Where the log begins, as last seen, once per `stats_interval_ms`.
    pub log_start: i64,
    /// Where the log ends, as last seen, with each fetch and once per `stats_interval_ms`.
    pub log_end: i64,
    /// Records between position and end.
    pub lag_records: u64,
    /// How old the next record to be written is, as far as is known; 0 at the end.
    pub lag_seconds: Option<f64>,
    /// When it will be at its end, at the rates of the last seconds; null when it gains nothing.
    pub catch_up_seconds: Option<f64>,
    /// Records that retention can still remove before one is lost unread; negative: some are lost.
    pub to_retention_records: Option<i64>,
    /// When retention reaches the next record to be written, at the pace at which it has removed records since the
    /// partition was assigned; null when it has removed none.
    pub until_retention_seconds: Option<f64>,
    /// Records decoded.
    pub records_read: u64,
    /// Records written or handled.
    pub records_written: u64,
    /// Records sent to the dead letters.
    pub dead_lettered: u64,
    /// Transaction markers and records of aborted transactions.
    pub records_skipped: u64,
    /// Records decoded and not yet answered for.
    pub records_in_flight: u64,
    /// Bytes of keys, values and headers written.
    pub bytes_written: u64,
    /// Batches written or handled.
    pub batches_processed: u64,
    /// Attempts made again after a failure.
    pub retries: u64,
    /// Failed attempts in a row now.
    pub errors: u64,
    /// Records per second over the last five to ten seconds.
    pub processing_rate_per_second: f64,
    /// Over the same time.
    pub bytes_per_second: f64,
    /// Null before the first batch.
    pub distributions: Option<Spreads>,
}

/// Something that went wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Milliseconds since the Unix epoch.
    pub at_unix_ms: i64,
    /// A person must act; else it was, or will be, mended by itself.
    pub is_error: bool,
    /// What, where, and what to do.
    pub text: String,
}

/// A record that was put aside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PutAside {
    /// Seconds since the start.
    pub at_seconds: u64,
    /// Its topic.
    pub topic: String,
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// What the sink or the handler said.
    pub reason: String,
}
