//! The engine: one loop that decides, workers that do. It names no adapter.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::core::record::TopicPartition;
use crate::core::tally::Statistics;
use crate::port::{Clock, MemoryBudget, Sink, Source};

/// What is promised about each record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Delivery {
    /// Rows and position in one database transaction.
    ExactlyOnce,
    /// Write, then commit the offset in Kafka.
    AtLeastOnce,
}

/// Where to start a partition that has no position yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OffsetReset {
    Earliest,
    Latest,
    /// Stop with an error instead of choosing.
    Error,
}

/// How a run behaves; checked by whoever makes it.
#[derive(Clone)]
pub struct EngineConfig {
    pub group_id: Arc<str>,
    pub delivery: Delivery,
    pub auto_offset_reset: OffsetReset,
    pub max_workers: usize,
    pub partition_workers: usize,
    /// Most records in one batch.
    pub batch_size: usize,
    /// Most bytes of keys, values and headers in one batch (one larger record still passes, alone).
    pub batch_bytes_max: usize,
    /// Longest a record waits for company.
    pub batch_timeout: Duration,
    pub max_retries: u32,
    pub retry_backoff: Duration,
    pub error_threshold: u32,
    pub error_timeout: Duration,
    pub commit_interval: Duration,
    pub stats_interval: Duration,
    pub shutdown_timeout: Duration,
    /// Stop by itself at the ends seen when each partition was first assigned.
    pub until_end: bool,
    /// Stop by itself after this many records.
    pub max_messages: Option<u64>,
    pub memory: Arc<MemoryBudget>,
}

/// Called on the engine's own thread; they must return soon.
#[derive(Default)]
pub struct Callbacks {
    pub on_assign: Option<Box<dyn FnMut(&[TopicPartition]) + Send>>,
    pub on_revoke: Option<Box<dyn FnMut(&[TopicPartition]) + Send>>,
    /// Once per `stats_interval`.
    pub on_statistics: Option<Box<dyn FnMut(&Statistics) + Send>>,
}

/// A running engine. Clones speak to the same run.
#[derive(Clone)]
pub struct Handle {}

impl Handle {
    /// The latest snapshot, made at this call.
    pub fn stats(&self) -> Statistics {
        unimplemented!()
    }
    /// Starts no further write for the partition until [`resume`](Self::resume).
    pub fn pause(&self, _partition: &TopicPartition) {}
    pub fn resume(&self, _partition: &TopicPartition) {}
    /// Finishes what is in flight, commits, leaves the group. Returns at once; [`Engine::join`] waits.
    pub fn stop(&self) {}
    /// Ends at once; what was not committed will be read again.
    pub fn abandon(&self) {}
}

/// How a run ended.
#[derive(Clone, Debug)]
pub struct Summary {
    pub statistics: Statistics,
    /// Second signal: abandoned with work in flight.
    pub abandoned: bool,
    /// Partitions that stand still for good and why (gap, unreadable, no position and `auto_offset_reset = error`).
    pub stuck: HashMap<TopicPartition, String>,
}

/// Why a run ended early.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct EngineError {
    pub message: String,
    /// A needed service is not there (exit code 3) rather than a failure while running (1).
    pub unavailable: bool,
}

/// A started run, owned by whoever waits for its end.
pub struct Engine {}

impl Engine {
    /// Starts all threads. The sink's tables are made or checked by the first writer, on a worker's thread.
    pub fn start(
        _config: EngineConfig,
        _source: Box<dyn Source>,
        _sink: Arc<dyn Sink>,
        _clock: Arc<dyn Clock>,
        _callbacks: Callbacks,
    ) -> Engine {
        Engine {}
    }
    /// Something to steer the run with, from any thread.
    pub fn handle(&self) -> Handle {
        unimplemented!()
    }
    /// Waits for the end of the run and of all its threads.
    pub fn join(self) -> Result<Summary, EngineError> {
        unimplemented!()
    }
}
