//! A topic: each record with its key, value and headers, in the partition that its key chooses.
//!
//! The producer is idempotent, so what is acknowledged is in the topic once and in order; but a position cannot be kept
//! with it, so a crash between acknowledgement and position sends the last batch again: at least once.

use std::sync::Arc;
use std::time::Duration;

use super::keeps_no_position;
use crate::core::verdict::ErrorClass;
use crate::kafka::cluster::{Cluster, TopicsWanted};
use crate::kafka::error::{Code, Error};
use crate::kafka::producer::{NewRecord, Producer, ProducerOptions};
use crate::port::{Claim, Claimed, Sink, SinkError, SinkTraits, Write, Writer, Written};

/// More writers than that only make the batches smaller.
const WRITERS_MAX: usize = 4;
/// Batches of several sources that go out together.
const BATCHES_PER_WRITE: usize = 16;

/// Writes into one topic.
pub struct KafkaSink {
    cluster: Cluster,
    topic: Arc<str>,
    options: ProducerOptions,
}

impl KafkaSink {
    /// A sink for a topic of `cluster`.
    pub fn new(cluster: Cluster, topic: impl Into<Arc<str>>, options: ProducerOptions) -> Self {
        Self { cluster, topic: topic.into(), options }
    }

    /// Whether the topic is there: a producer would wait for it in vain.
    ///
    /// # Errors
    /// When the cluster does not answer.
    pub fn topic_exists(&self) -> Result<bool, Error> {
        let metadata = self.cluster.refresh(TopicsWanted::Names(std::slice::from_ref(&self.topic)))?;
        Ok(metadata.topics.get(&self.topic).is_some_and(|topic| !topic.partitions.is_empty()))
    }
}

impl Sink for KafkaSink {
    fn traits(&self) -> SinkTraits {
        SinkTraits {
            name: format!("kafka {}", self.topic),
            writers_max: WRITERS_MAX,
            batches_per_write: BATCHES_PER_WRITE,
            transactional: false,
        }
    }

    fn writer(&self) -> Result<Box<dyn Writer>, SinkError> {
        let producer = Producer::new(self.cluster.clone(), self.options.clone());
        // What lingers is hurried by the flush; beyond its own patience nothing is left to wait for.
        let patience = self.options.delivery_timeout + Duration::from_secs(1);
        Ok(Box::new(KafkaWriter { topic: Arc::clone(&self.topic), producer, patience, failed: false }))
    }
}

struct KafkaWriter {
    topic: Arc<str>,
    producer: Producer,
    patience: Duration,
    /// A producer has something left of a failure; a new one has not.
    failed: bool,
}

impl Writer for KafkaWriter {
    fn claim(&mut self, _claims: &[Claim]) -> Result<Vec<Claimed>, SinkError> {
        Err(keeps_no_position("kafka"))
    }

    fn write(&mut self, writes: &[Write<'_>]) -> Vec<Result<Written, SinkError>> {
        let sent = writes.iter().try_for_each(|write| self.send(write));
        let done = sent.and_then(|()| self.producer.flush(self.patience).map_err(|error| self.refused(&error, None)));
        self.failed |= done.is_err();
        let answer = |write: &Write<'_>| done.clone().map(|()| Written::all(write.batch.len() as u64));
        writes.iter().map(answer).collect()
    }

    fn broken(&self) -> bool {
        self.failed
    }
}

impl KafkaWriter {
    fn send(&self, write: &Write<'_>) -> Result<(), SinkError> {
        for record in write.batch.iter() {
            let headers: Vec<_> = record.headers.iter().collect();
            let copy = NewRecord {
                key: record.key,
                value: record.value,
                headers: &headers,
                timestamp_ms: record.time_ms(),
                ..NewRecord::default()
            };
            self.producer.send(&self.topic, &copy).map_err(|error| self.refused(&error, Some(record.offset)))?;
        }
        Ok(())
    }

    fn refused(&self, error: &Error, offset: Option<i64>) -> SinkError {
        SinkError { offset, ..SinkError::new(class_of(error), format!("the topic {}: {error}", self.topic)) }
    }
}

/// What is refused to us, or cannot be had of this cluster, is no record's fault.
fn class_of(error: &Error) -> ErrorClass {
    let denied = [Code::TOPIC_AUTHORIZATION_FAILED, Code::CLUSTER_AUTHORIZATION_FAILED];
    match error {
        error if error.is_retriable() => ErrorClass::Transient,
        Error::Broker { code, .. } if denied.contains(code) => ErrorClass::Auth,
        Error::Broker { code: Code::INVALID_TOPIC_EXCEPTION, .. } | Error::Unsupported { .. } => ErrorClass::Schema,
        _ => ErrorClass::Data,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_blamed_for_what_is_its_own_fault_alone() {
        for (code, class) in [
            (Code::NOT_ENOUGH_REPLICAS, ErrorClass::Transient),
            (Code::TOPIC_AUTHORIZATION_FAILED, ErrorClass::Auth),
            (Code::CLUSTER_AUTHORIZATION_FAILED, ErrorClass::Auth),
            (Code::INVALID_TOPIC_EXCEPTION, ErrorClass::Schema),
            (Code::MESSAGE_TOO_LARGE, ErrorClass::Data),
            (Code::INVALID_RECORD, ErrorClass::Data),
        ] {
            let (address, subject) = ("a:1".to_owned(), "t/0".to_owned());
            let error = Error::Broker { address, api: "Produce", subject, code, message: None };
            assert_eq!(class_of(&error), class, "{error}");
        }
        assert_eq!(class_of(&Error::Invalid("larger than brokers take".into())), ErrorClass::Data);
    }
}
