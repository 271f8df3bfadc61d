//! [`Source`] over our own Kafka client ([`crate::kafka`]): translates, and stops fetching what is taken away.

use std::sync::Arc;
use std::time::Duration;

use crate::core::record::TopicPartition;
use crate::kafka::cluster::Cluster;
use crate::kafka::consumer::{AssignedPartition, Consumer, Event, Fetched, Positions};
use crate::kafka::error::{Code, Error};
use crate::port::{Assignment, Chunk, Source, SourceError, SourceEvent, Waker};

pub use crate::kafka::assignor::Assignor;
pub use crate::kafka::consumer::{ConsumerOptions as NativeOptions, TopicSelection};
pub use crate::kafka::group::GroupProtocol;
pub use crate::kafka::offsets::Isolation;

/// Reads from Kafka 3.9 and 4.x as a member of a consumer group, or from given partitions.
pub struct NativeSource {
    /// `None` once closed.
    consumer: Option<Consumer>,
}

impl NativeSource {
    /// Finds the cluster and begins to join the group in the background.
    ///
    /// # Errors
    /// When the options make no sense, or no broker answers for `connect_timeout`; see [`source_error`] for the exit
    /// code that goes with it.
    pub fn connect(options: NativeOptions) -> Result<Self, Error> {
        Ok(Self { consumer: Some(Consumer::start(options)?) })
    }

    /// The cluster that is read from, until the source is closed.
    pub fn cluster(&self) -> Option<&Cluster> {
        self.consumer.as_ref().map(Consumer::cluster)
    }
}

impl Source for NativeSource {
    fn poll(&mut self, wait: Duration, events: &mut Vec<SourceEvent>) {
        let Some(consumer) = &self.consumer else { return };
        let cluster_id = consumer.cluster().id();
        consumer.poll(wait, |event| {
            if let Event::Revoked(partitions) | Event::Lost(partitions) = &event {
                consumer.stop(partitions);
            }
            events.push(translate(event, cluster_id.as_ref()));
        });
    }

    fn start(&mut self, partition: &TopicPartition, run: u64, offset: i64) {
        if let Some(consumer) = &self.consumer {
            consumer.fetch(partition, run, offset);
        }
    }

    fn stop(&mut self, partitions: &[TopicPartition]) {
        if let Some(consumer) = &self.consumer {
            consumer.stop(partitions);
        }
    }

    fn commit(&mut self, positions: Positions) {
        if let Some(consumer) = &self.consumer {
            consumer.commit(positions);
        }
    }

    fn survey(&mut self) {
        if let Some(consumer) = &self.consumer {
            consumer.survey();
        }
    }

    fn release(&mut self, partitions: Vec<TopicPartition>, positions: Positions) {
        if let Some(consumer) = &self.consumer {
            consumer.release(partitions, positions);
        }
    }

    fn close(&mut self, positions: Positions, deadline: Duration) -> Result<(), SourceError> {
        let Some(consumer) = self.consumer.take() else { return Ok(()) };
        consumer.close(positions, deadline).map_err(|error| source_error(&error))
    }

    fn waker(&self) -> Waker {
        match &self.consumer {
            Some(consumer) => {
                let wake = consumer.wake();
                Arc::new(move || wake.wake())
            }
            None => Arc::new(|| {}),
        }
    }
}

/// The client's error as the port has it.
pub fn source_error(error: &Error) -> SourceError {
    SourceError { message: error.to_string(), unavailable: error.is_unavailable() }
}

fn translate(event: Event, cluster_id: Option<&Arc<str>>) -> SourceEvent {
    match event {
        Event::Assigned(partitions) => SourceEvent::Assigned(assignments(partitions, cluster_id)),
        Event::Surveyed(partitions) => SourceEvent::Surveyed(assignments(partitions, cluster_id)),
        Event::Settled => SourceEvent::Settled,
        Event::Revoked(partitions) => SourceEvent::Revoked(partitions),
        Event::Lost(partitions) => SourceEvent::Lost(partitions),
        Event::Fetched(Fetched { partition, run, first, next, records_max, log_end, records }) => {
            SourceEvent::Fetched(Chunk {
                partition,
                run,
                first,
                next,
                records_max,
                log_end,
                records: Arc::new(records),
            })
        }
        Event::OutOfRange { partition, run, requested, log_start, log_end } => {
            SourceEvent::OutOfRange { partition, run, requested, log_start, log_end }
        }
        Event::Committed { positions, result } => {
            SourceEvent::Committed { positions, result: result.map_err(|error| source_error(&error)) }
        }
        Event::PartitionFailed { partition, run, error } => {
            let forbidden = error.code() == Some(Code::TOPIC_AUTHORIZATION_FAILED);
            SourceEvent::PartitionFailed { partition, run, forbidden, error: source_error(&error) }
        }
        Event::Trouble(error) => SourceEvent::Trouble(source_error(&error)),
        Event::Failed(error) => SourceEvent::Failed(source_error(&error)),
    }
}

fn assignments(partitions: Vec<AssignedPartition>, cluster_id: Option<&Arc<str>>) -> Vec<Assignment> {
    let assignment = |assigned: AssignedPartition| Assignment {
        partition: assigned.partition,
        committed: assigned.committed,
        log_start: assigned.log_start,
        log_end: assigned.log_end,
        cluster_id: cluster_id.cloned(),
        topic_id: assigned.topic_id,
    };
    partitions.into_iter().map(assignment).collect()
}
