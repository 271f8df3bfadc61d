//! Counting what happened to records: for the whole run, and for each partition while it is ours.
//!
//! A worker reports once per batch and lane; the loop adds that up here. Nothing is counted per record.

use std::time::Duration;

use serde::Serialize;

use super::coordinator::LaneReport;
use super::histogram::{Histogram, Rate, Spread};
use super::statistics::{PartitionStatistics, Statistics};

/// What a batch's time goes into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Everything that came was written; the partition waits for more.
    FetchWait,
    /// Records are there and wait for company, or for a worker.
    Queue,
    /// Checksums, decompression, finding the records.
    Decode,
    /// Making of records what the database takes. Where that is done row by row it is part of [`Execute`](Self::Execute).
    Bind,
    /// Statements, or the handler.
    Execute,
    /// The end of the transaction.
    Commit,
}

impl Phase {
    /// All of them, in the order of a batch's way.
    pub const ALL: [Phase; 6] =
        [Phase::FetchWait, Phase::Queue, Phase::Decode, Phase::Bind, Phase::Execute, Phase::Commit];

    /// Its name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Phase::FetchWait => "fetch_wait",
            Phase::Queue => "queue",
            Phase::Decode => "decode",
            Phase::Bind => "bind",
            Phase::Execute => "execute",
            Phase::Commit => "commit",
        }
    }
}

/// How long the phases of one batch took, as far as they were measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PhaseTimes([Option<Duration>; Phase::ALL.len()]);

impl PhaseTimes {
    /// Adds to what a phase took.
    pub fn add(&mut self, phase: Phase, time: Duration) {
        *self.0[phase as usize].get_or_insert_default() += time;
    }

    /// What a phase took, if it was measured.
    pub fn get(&self, phase: Phase) -> Option<Duration> {
        self.0[phase as usize]
    }

    /// Takes over what `other` has measured.
    pub fn merge(&mut self, other: &PhaseTimes) {
        Phase::ALL.iter().for_each(|phase| other.get(*phase).into_iter().for_each(|time| self.add(*phase, time)));
    }
}

/// How batches spread in time and size. A batch that was written together with others counts with the time of all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Distributions {
    phases: [Histogram; Phase::ALL.len()],
    pub batch_records: Histogram,
    pub batch_bytes: Histogram,
}

impl Distributions {
    /// The times of a phase, in microseconds.
    pub fn phase(&self, phase: Phase) -> &Histogram {
        &self.phases[phase as usize]
    }

    /// The figures that a person reads.
    pub fn spreads(&self) -> Spreads {
        let phase = |phase| self.phase(phase).spread(1e-6);
        Spreads {
            fetch_wait_seconds: phase(Phase::FetchWait),
            queue_seconds: phase(Phase::Queue),
            decode_seconds: phase(Phase::Decode),
            bind_seconds: phase(Phase::Bind),
            execute_seconds: phase(Phase::Execute),
            commit_seconds: phase(Phase::Commit),
            batch_records: self.batch_records.spread(1.0),
            batch_bytes: self.batch_bytes.spread(1.0),
        }
    }

    fn phases(&mut self, times: &PhaseTimes) {
        for phase in Phase::ALL {
            if let Some(time) = times.get(phase) {
                self.phases[phase as usize].record_time(time);
            }
        }
    }
}

impl Serialize for Distributions {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.spreads().serialize(serializer)
    }
}

/// [`Distributions`] in a few figures each.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Spreads {
    pub fetch_wait_seconds: Spread,
    pub queue_seconds: Spread,
    pub decode_seconds: Spread,
    pub bind_seconds: Spread,
    pub execute_seconds: Spread,
    pub commit_seconds: Spread,
    pub batch_records: Spread,
    pub batch_bytes: Spread,
}

/// The counters behind a snapshot.
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
    written_rate: Rate,
    bytes_rate: Rate,
    /// Made with the first batch: idle partitions cost nothing.
    distributions: Option<Box<Distributions>>,
}

impl Tally {
    /// Counters that begin at zero now.
    pub fn starting(now: Duration) -> Self {
        Self { written_rate: Rate::starting(now, 0), bytes_rate: Rate::starting(now, 0), ..Self::default() }
    }

    /// A worker answered for a lane.
    pub fn worked(&mut self, report: &LaneReport) {
        self.read += report.decoded;
        self.skipped += report.skipped;
        self.written += report.written;
        self.repeated += report.repeated;
        self.dead_lettered += report.dead_lettered;
        self.bytes += report.written_bytes;
        if report.attempted == 0 && report.failure.is_none() {
            return;
        }
        self.attempts += 1;
        self.busy += report.took;
        let distributions = self.distributions.get_or_insert_default();
        distributions.phases(&report.told.phases);
        match report.failure {
            Some(_) => self.failures += 1,
            None => {
                self.batches += 1;
                distributions.batch_records.record(report.handled());
                distributions.batch_bytes.record(report.written_bytes);
            }
        }
    }

    /// Records came after `waited` without any.
    pub fn fetch_waited(&mut self, waited: Duration) {
        self.distributions.get_or_insert_default().phases[Phase::FetchWait as usize].record_time(waited);
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

    /// Notes how far the counters are, for the rates.
    pub fn note_rates(&mut self, now: Duration) {
        self.written_rate.note(now, self.written);
        self.bytes_rate.note(now, self.bytes);
    }

    /// The counters' part of the run's snapshot.
    pub fn snapshot(&self, now: Duration, in_flight: u64) -> Statistics {
        let ratio = |part: f64, whole: f64| if whole > 0.0 { part / whole } else { 0.0 };
        let answered = self.written + self.dead_lettered + in_flight + self.released;
        Statistics {
            uptime_seconds: now.as_secs_f64(),
            messages_processed: self.written,
            messages_failed: self.exhausted,
            batches_processed: self.batches,
            processing_rate_per_second: self.written_rate.per_second(now, self.written),
            average_processing_time_ms: ratio(self.busy.as_secs_f64() * 1e3, self.attempts as f64),
            error_rate_percent: ratio(100.0 * self.failures as f64, self.attempts as f64),
            records_read: self.read,
            records_written: self.written,
            records_repeated: self.repeated,
            dead_lettered: self.dead_lettered,
            records_skipped: self.skipped,
            records_in_flight: in_flight,
            records_released: self.released,
            records_unaccounted: self.read as i64 - answered as i64,
            bytes_written: self.bytes,
            bytes_per_second: self.bytes_rate.per_second(now, self.bytes),
            rebalances: self.rebalances,
            retries: self.retries,
            distributions: self.distributions.as_deref().cloned().unwrap_or_default(),
            ..Statistics::default()
        }
    }

    /// The counters' part of a partition's snapshot.
    pub fn partition_snapshot(&self, now: Duration) -> PartitionStatistics {
        PartitionStatistics {
            records_read: self.read,
            records_written: self.written,
            dead_lettered: self.dead_lettered,
            records_skipped: self.skipped,
            bytes_written: self.bytes,
            batches_processed: self.batches,
            retries: self.retries,
            processing_rate_per_second: self.written_rate.per_second(now, self.written),
            bytes_per_second: self.bytes_rate.per_second(now, self.bytes),
            distributions: self.distributions.as_deref().map(Distributions::spreads),
            ..PartitionStatistics::default()
        }
    }
}
