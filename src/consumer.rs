//! The library's front: a consumer group member that hands batches to a closure, or to any [`Sink`].
//!
//! ```no_run
//! use konekt::{Consumer, ConsumerConfig};
//!
//! let config = ConsumerConfig {
//!     bootstrap_servers: vec!["localhost:9092".into()],
//!     group_id: "billing".into(),
//!     topics: vec!["orders".into()],
//!     ..ConsumerConfig::default()
//! };
//! let running = Consumer::builder(config)
//!     .on_assign(|partitions| println!("ours now: {partitions:?}"))
//!     .handler(|batch| {
//!         for record in batch.iter() {
//!             println!("{} {:?}", record.offset, record.value);
//!         }
//!         Ok(())
//!     })
//!     .start()?;
//! println!("{} records so far", running.stats().messages_processed);
//! running.stop();
//! running.join()?;
//! # Ok::<(), konekt::ConsumerError>(())
//! ```

use std::sync::Arc;
use std::time::Duration;

use crate::core::record::{MessageBatch, TopicPartition};
use crate::core::tally::Statistics;
use crate::door::SystemClock;
use crate::engine::{Callbacks, Delivery, Engine, EngineConfig, EngineError, Handle, OffsetReset, Summary};
use crate::kafka::error::Error as KafkaError;
use crate::port::{MemoryBudget, Sink};
use crate::sink::handler::{Handled, HandlerSink};
use crate::source::native::{Assignor, Isolation, NativeOptions, NativeSource, TopicSelection};

/// How a [`Consumer`] reads and works. The fields are the settings of the same names; times are in milliseconds.
#[derive(Clone, Debug)]
pub struct ConsumerConfig {
    /// `host:port` of one or more brokers.
    pub bootstrap_servers: Vec<String>,
    pub group_id: String,
    /// Names, or one regular expression between slashes: `/orders-.*/`.
    pub topics: Vec<String>,
    /// How this client calls itself towards the brokers.
    pub client_id: String,
    /// Makes the group member static: a restart within the session does not cause a rebalance.
    pub group_instance_id: Option<String>,
    /// Where to start a partition without a position.
    pub auto_offset_reset: OffsetReset,
    /// In order of preference.
    pub partition_assignment_strategy: Vec<Assignor>,
    pub isolation_level: Isolation,
    pub session_timeout_ms: u64,
    pub heartbeat_interval_ms: u64,
    /// How long a rebalance waits for work in flight.
    pub max_poll_interval_ms: u64,
    pub fetch_min_bytes: usize,
    pub fetch_max_wait_ms: u64,
    pub connect_timeout_ms: u64,
    pub request_timeout_ms: u64,
    pub delivery: Delivery,
    /// Threads that write or run the handler.
    pub max_workers: usize,
    /// Sub-lanes per partition, by key; 1 in exactly-once mode.
    pub partition_workers: usize,
    /// Most records in a batch.
    pub batch_size: usize,
    /// Longest a record waits for company.
    pub batch_timeout_ms: u64,
    /// Attempts after the first before a batch counts as failed.
    pub max_retries: u32,
    pub retry_backoff_ms: u64,
    /// Failed attempts in a row that pause a partition…
    pub error_threshold: u32,
    /// …for this long.
    pub error_timeout_ms: u64,
    pub commit_interval_ms: u64,
    pub stats_interval_ms: u64,
    /// How long work in flight may take when the consumer stops.
    pub shutdown_timeout_ms: u64,
    /// Bytes of fetched and decoded records held at a time.
    pub memory_limit: usize,
    /// Stop at the ends of the partitions as seen at the start.
    pub until_end: bool,
    /// Stop after so many records.
    pub max_messages: Option<u64>,
}

impl Default for ConsumerConfig {
    /// The original system's defaults, with `batch_timeout_ms` 100 so that a quiet topic is not seconds late.
    fn default() -> Self {
        Self {
            bootstrap_servers: vec!["localhost:9092".into()],
            group_id: "konekt".into(),
            topics: Vec::new(),
            client_id: "konekt".into(),
            group_instance_id: None,
            auto_offset_reset: OffsetReset::Earliest,
            partition_assignment_strategy: Assignor::DEFAULT.to_vec(),
            isolation_level: Isolation::ReadCommitted,
            session_timeout_ms: 30_000,
            heartbeat_interval_ms: 10_000,
            max_poll_interval_ms: 300_000,
            fetch_min_bytes: 1,
            fetch_max_wait_ms: 500,
            connect_timeout_ms: 10_000,
            request_timeout_ms: 30_000,
            delivery: Delivery::AtLeastOnce,
            max_workers: 4,
            partition_workers: 1,
            batch_size: 50,
            batch_timeout_ms: 100,
            max_retries: 3,
            retry_backoff_ms: 1_000,
            error_threshold: 10,
            error_timeout_ms: 60_000,
            commit_interval_ms: 5_000,
            stats_interval_ms: 30_000,
            shutdown_timeout_ms: 30_000,
            memory_limit: 256 << 20,
            until_end: false,
            max_messages: None,
        }
    }
}

/// The most bytes in one batch: enough for good transactions, small beside the memory limit.
const BATCH_BYTES_MAX: usize = 8 << 20;

impl ConsumerConfig {
    /// The engine's share of the settings, drawing on `memory`.
    pub fn engine(&self, memory: Arc<MemoryBudget>) -> EngineConfig {
        let ms = Duration::from_millis;
        EngineConfig {
            group_id: self.group_id.as_str().into(),
            delivery: self.delivery,
            auto_offset_reset: self.auto_offset_reset,
            max_workers: self.max_workers,
            partition_workers: self.partition_workers,
            batch_size: self.batch_size,
            batch_bytes_max: BATCH_BYTES_MAX.min(self.memory_limit / 4).max(1),
            batch_timeout: ms(self.batch_timeout_ms),
            max_retries: self.max_retries,
            retry_backoff: ms(self.retry_backoff_ms),
            error_threshold: self.error_threshold,
            error_timeout: ms(self.error_timeout_ms),
            commit_interval: ms(self.commit_interval_ms),
            stats_interval: ms(self.stats_interval_ms),
            shutdown_timeout: ms(self.shutdown_timeout_ms),
            until_end: self.until_end,
            max_messages: self.max_messages,
            memory,
        }
    }

    /// The Kafka client's share of the settings, drawing on `memory`.
    ///
    /// # Errors
    /// When the pattern of `topics` is not a regular expression.
    pub fn native(&self, memory: Arc<MemoryBudget>) -> Result<NativeOptions, ConsumerError> {
        let ms = Duration::from_millis;
        Ok(NativeOptions {
            client_id: self.client_id.clone(),
            group_instance_id: self.group_instance_id.clone(),
            assignors: self.partition_assignment_strategy.clone(),
            isolation: self.isolation_level,
            session_timeout: ms(self.session_timeout_ms),
            heartbeat_interval: ms(self.heartbeat_interval_ms),
            max_poll_interval: ms(self.max_poll_interval_ms),
            fetch_min_bytes: self.fetch_min_bytes,
            fetch_max_wait: ms(self.fetch_max_wait_ms),
            // A fetch reserves its largest answer; several must fit beside what workers hold.
            fetch_max_bytes: (8 << 20).min(self.memory_limit / 4).max(1),
            connect_timeout: ms(self.connect_timeout_ms),
            request_timeout: ms(self.request_timeout_ms),
            memory,
            ..NativeOptions::new(self.bootstrap_servers.clone(), self.group_id.clone(), selection(&self.topics)?)
        })
    }
}

/// `/pattern/` or names.
fn selection(topics: &[String]) -> Result<TopicSelection, ConsumerError> {
    let pattern = match topics {
        [only] => only.strip_prefix('/').and_then(|rest| rest.strip_suffix('/')),
        _ => None,
    };
    let Some(pattern) = pattern else { return Ok(TopicSelection::Names(topics.to_vec())) };
    // Whole names match, so that /orders/ does not take orders-dlq along.
    let regex = regex::Regex::new(&format!("^(?:{pattern})$"))
        .map_err(|error| ConsumerError::Config(format!("topics: /{pattern}/ is not a regular expression: {error}")))?;
    Ok(TopicSelection::Pattern(regex))
}

/// Why a consumer did not start, or ended early.
#[derive(Debug, thiserror::Error)]
pub enum ConsumerError {
    /// A setting makes no sense.
    #[error("{0}")]
    Config(String),
    /// Kafka cannot be reached or used.
    #[error(transparent)]
    Kafka(#[from] KafkaError),
    /// The run failed.
    #[error(transparent)]
    Run(#[from] EngineError),
}

/// A member of a consumer group that is not started yet. See the [module](self).
pub struct Consumer;

impl Consumer {
    /// Begins to describe a consumer.
    pub fn builder(config: ConsumerConfig) -> ConsumerBuilder {
        ConsumerBuilder { config, callbacks: Callbacks::default() }
    }
}

/// What a consumer does when partitions come and go.
pub struct ConsumerBuilder {
    config: ConsumerConfig,
    callbacks: Callbacks,
}

impl ConsumerBuilder {
    /// Called with partitions that are ours from now on, before anything is read from them. Runs on the engine's thread
    /// and must return soon.
    #[must_use]
    pub fn on_assign(mut self, callback: impl FnMut(&[TopicPartition]) + Send + 'static) -> Self {
        self.callbacks.on_assign = Some(Box::new(callback));
        self
    }

    /// Called with partitions that are not ours any more, after the last batch of them. Runs on the engine's thread and
    /// must return soon.
    #[must_use]
    pub fn on_revoke(mut self, callback: impl FnMut(&[TopicPartition]) + Send + 'static) -> Self {
        self.callbacks.on_revoke = Some(Box::new(callback));
        self
    }

    /// Called with a snapshot once per `stats_interval_ms`. Runs on the engine's thread and must return soon.
    #[must_use]
    pub fn on_statistics(mut self, callback: impl FnMut(&Statistics) + Send + 'static) -> Self {
        self.callbacks.on_statistics = Some(Box::new(callback));
        self
    }

    /// What to do with each batch. `Ok` means that all its records are processed; an error means that none is, and the
    /// batch comes again. Called by several threads at once, for one partition by one at a time, in order.
    #[must_use]
    pub fn handler(self, handler: impl Fn(&MessageBatch<'_>) -> Handled + Send + Sync + 'static) -> ReadyConsumer {
        self.sink(Arc::new(HandlerSink::new(handler)))
    }

    /// Writes into a sink instead of calling a handler.
    #[must_use]
    pub fn sink(self, sink: Arc<dyn Sink>) -> ReadyConsumer {
        ReadyConsumer { config: self.config, callbacks: self.callbacks, sink }
    }
}

/// A consumer that knows everything it needs.
pub struct ReadyConsumer {
    config: ConsumerConfig,
    callbacks: Callbacks,
    sink: Arc<dyn Sink>,
}

impl ReadyConsumer {
    /// Connects and starts all threads.
    ///
    /// # Errors
    /// When a setting makes no sense, or none of the brokers answers within `connect_timeout_ms`.
    pub fn start(self) -> Result<RunningConsumer, ConsumerError> {
        let memory = MemoryBudget::new(self.config.memory_limit);
        let source = NativeSource::connect(self.config.native(Arc::clone(&memory))?)?;
        let config = self.config.engine(memory);
        let clock = Arc::new(SystemClock::start());
        let engine = Engine::start(config, Box::new(source), self.sink, clock, self.callbacks);
        Ok(RunningConsumer { handle: engine.handle(), engine })
    }
}

/// A consumer at work. Dropping it does not stop it; [`stop`](Self::stop) and [`join`](Self::join) do.
pub struct RunningConsumer {
    handle: Handle,
    engine: Engine,
}

impl RunningConsumer {
    /// A snapshot made now.
    pub fn stats(&self) -> Statistics {
        self.handle.stats()
    }

    /// Hands out no further batch of the partition until [`resume`](Self::resume).
    pub fn pause(&self, partition: &TopicPartition) {
        self.handle.pause(partition);
    }

    /// Lifts [`pause`](Self::pause).
    pub fn resume(&self, partition: &TopicPartition) {
        self.handle.resume(partition);
    }

    /// Finishes the batches in flight, commits and leaves the group. Returns at once.
    pub fn stop(&self) {
        self.handle.stop();
    }

    /// Something to steer the consumer with from other threads.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Waits until the consumer has ended, by [`stop`](Self::stop), at the end of the log or after `max_messages`.
    ///
    /// # Errors
    /// When Kafka failed for good.
    pub fn join(self) -> Result<Summary, ConsumerError> {
        Ok(self.engine.join()?)
    }
}
