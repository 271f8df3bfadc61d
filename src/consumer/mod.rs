//! The library's front: a consumer group member that hands batches to a closure, or to any [`Sink`]. The [crate's front
//! page](crate) has an example.
#![warn(missing_docs)]

mod config;
mod source;

use std::sync::Arc;

use crate::core::record::{MessageBatch, TopicPartition};
use crate::core::statistics::Statistics;
use crate::door::SystemClock;
use crate::engine::{Callbacks, Engine, EngineError, Handle, Summary};
use crate::kafka::cluster::Cluster;
use crate::kafka::error::Error as KafkaError;
use crate::port::{Clock, DeadLetters, MemoryBudget, Sink, SourceError};
use crate::sink::dead_letter::{FileLetters, Forgotten, InTurn, TopicLetters};
use crate::sink::handler::{Handled, HandlerSink};

pub use self::config::ConsumerConfig;

/// Why a consumer did not start, or ended early.
#[derive(Debug, thiserror::Error)]
pub enum ConsumerError {
    /// A setting makes no sense, or Kafka cannot be reached or used.
    #[error(transparent)]
    Kafka(#[from] KafkaError),
    /// The client cannot read from these brokers.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// Dead letters cannot be kept where they should be.
    #[error("{0}")]
    DeadLetters(String),
    /// The run failed.
    #[error(transparent)]
    Run(#[from] EngineError),
}

impl ConsumerError {
    /// Whether the cause is that a needed service is not there, rather than a failure of what is.
    pub fn is_unavailable(&self) -> bool {
        match self {
            ConsumerError::Kafka(error) => error.is_unavailable(),
            ConsumerError::Source(error) => error.unavailable,
            ConsumerError::DeadLetters(_) => false,
            ConsumerError::Run(error) => error.unavailable,
        }
    }
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

    /// Called about once a second as long as the engine decides: a sign of life. Runs on the engine's thread and must
    /// return soon.
    #[must_use]
    pub fn on_alive(mut self, callback: impl FnMut() + Send + 'static) -> Self {
        self.callbacks.on_alive = Some(Box::new(callback));
        self
    }

    /// What to do with each batch. `Ok` means that all its records are processed; an error means that none is, and the
    /// batch comes again, after `max_retries` further attempts in pieces, so that a bad record holds up none but itself.
    /// Called by several threads at once, for one partition by one at a time, in order.
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
        let opened = source::open(&self.config, &memory)?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::start());
        let letters = dead_letters(&self.config, opened.cluster.as_ref(), &clock)?;
        let config = self.config.engine(memory, letters);
        let engine = Engine::start(config, opened.source, self.sink, clock, self.callbacks);
        Ok(RunningConsumer { handle: engine.handle(), engine })
    }
}

/// Where dead letters go that are not kept in the table: the topic, then the file.
fn dead_letters(
    config: &ConsumerConfig,
    cluster: Option<&Cluster>,
    clock: &Arc<dyn Clock>,
) -> Result<Option<Arc<dyn DeadLetters>>, ConsumerError> {
    if config.dry_run {
        return Ok(Some(Arc::new(Forgotten)));
    }
    let mut places: Vec<Box<dyn DeadLetters>> = Vec::new();
    if let (Some(topic), Some(cluster)) = (&config.dead_letter_topic, cluster) {
        let letters = TopicLetters::new(cluster.clone(), topic.as_str(), &config.group_id, Arc::clone(clock));
        letters.check();
        places.push(Box::new(letters));
    }
    if let Some(path) = &config.dead_letter_file {
        let letters = FileLetters::new(path, &config.group_id, Arc::clone(clock));
        letters.check().map_err(|error| ConsumerError::DeadLetters(error.message))?;
        places.push(Box::new(letters));
    }
    Ok(InTurn::new(places).map(|places| Arc::new(places) as Arc<dyn DeadLetters>))
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crossbeam::channel::bounded;

    use super::*;
    use crate::broker::{Broker, BrokerOptions, TopicSpec};
    use crate::door;
    use crate::source::native::TopicSelection;

    #[test]
    fn intervals_of_nothing_are_short_and_no_hang() {
        let topics = vec![TopicSpec::new("t", 1)];
        let broker = Broker::start(BrokerOptions { topics, ..BrokerOptions::default() }).unwrap();
        let config = ConsumerConfig {
            bootstrap_servers: vec![broker.address()],
            topics: TopicSelection::names(["t"]),
            until_end: true,
            commit_interval_ms: 0,
            stats_interval_ms: 0,
            batch_timeout_ms: 0,
            metadata_max_age_ms: 0,
            ..ConsumerConfig::default()
        };
        let running = Consumer::builder(config).handler(|_| Ok(())).start().unwrap();
        let (ended, end) = bounded(1);
        let waiting = door::spawn("test-join", move || ended.send(running.join().is_ok()));
        assert_eq!(end.recv_timeout(Duration::from_secs(60)), Ok(true));
        waiting.join().unwrap().unwrap();
    }
}
