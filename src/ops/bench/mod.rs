//! `konekt bench`: what this machine does with which settings, measured so that one can believe it.
//!
//! A sweep ([`sweep`]) goes through all settings in rounds, so that a machine that gets slower or faster does so for all of
//! them, and beside them runs what the database takes at best ([`ceiling`]). Each run is a process of its own, the same
//! binary that is told one [`Job`] and answers with one [`Measurement`]: then processor time and memory are those of
//! the run alone, without the embedded broker, the records that wait to be sent, or the runs before.
//!
//! ```text
//! records ──▶ topics (embedded broker, or a given cluster) ──▶ runs, each in a process ──▶ report ──▶ page, plots, CSV, JSON
//! ```
//!
//! In a run the clock goes from the beginning of the first write ([`timed`]) until the last writer is closed: connecting
//! and joining are not in it, the last commit and SQLite's last checkpoint are. A run that has used its time stops; its
//! rate is that of the records that are in the sink by then.
//!
//! The engine that `consume` and `end-to-end` run is put together by the command line; what needs no engine is here
//! ([`decode`], [`write`](mod@write)).

pub mod ceiling;
pub mod choice;
pub mod decode;
pub mod page;
pub mod plot;
pub mod records;
pub mod report;
pub mod sweep;
pub mod timed;
pub mod topics;
pub mod usage;
pub mod write;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Subject {
    /// Fetched bytes into records.
    Decode,
    /// Kafka and the engine, into nothing.
    Consume,
    /// A sink alone, given records that are ready.
    Sink,
    /// Kafka, the engine and a sink.
    EndToEnd,
}

impl Subject {
    /// As the command line has it.
    pub fn name(self) -> &'static str {
        match self {
            Subject::Decode => "decode",
            Subject::Consume => "consume",
            Subject::Sink => "sink",
            Subject::EndToEnd => "end-to-end",
        }
    }
}

/// One point of the sweep. The first two are the work, the other two are what one may choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Setting {
    /// Of a record's value.
    pub record_bytes: usize,
    pub partitions: usize,
    pub workers: usize,
    pub batch_size: usize,
}

/// Who does the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Contender {
    Konekt,
    /// A bare loop over the database's own interface, given everything ready-made.
    Ceiling,
}

/// One run, as its process is told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Job {
    pub subject: Subject,
    pub contender: Contender,
    pub setting: Setting,
    pub seed: u64,
    /// See [`Codec`](crate::kafka::wire::compression::Codec).
    pub codec: String,
    pub records_max: u64,
    /// The run stops after so long.
    pub seconds: f64,
    /// Brokers and topic, where the run reads from Kafka.
    pub bootstrap_servers: Vec<String>,
    pub topic: String,
    /// The consumer group, in rows and positions.
    pub group: String,
    /// The file or the table that the run writes.
    pub place: String,
}

/// What a run did.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    pub records: u64,
    /// Of keys, values and headers.
    pub bytes: u64,
    pub seconds: f64,
    /// User and system time of the whole process; `None` where the system does not tell.
    pub cpu_seconds: Option<f64>,
    /// The most memory that was resident at once.
    pub memory_bytes_max: Option<u64>,
    /// How long the pieces of the work took, by name.
    pub phases: BTreeMap<String, Phase>,
}

impl Measurement {
    /// Records per second.
    pub fn rate(&self) -> f64 {
        self.records as f64 / self.seconds.max(1e-9)
    }
}

/// How long one kind of work took, each time it was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Phase {
    pub count: u64,
    pub p50_ms: f64,
    pub p90_ms: f64,
    pub p99_ms: f64,
    pub max_ms: f64,
}
