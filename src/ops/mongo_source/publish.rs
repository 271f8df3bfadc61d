//! Records into Kafka, in topics that are made when they are absent.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use super::event::EventRecord;
use super::state::{Place, Store, ensure_topic};
use super::{FaultKind, SourceFault};
use crate::kafka::cluster::Cluster;
use crate::kafka::error::{Code, Error};
use crate::kafka::producer::{NewRecord, Producer, ProducerOptions};

/// Of the topics made here: a document of 16 MiB is two to three times that as text at worst.
const MESSAGE_BYTES_MAX: &str = "67108864";
/// How long everything that was sent may take to be acknowledged.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(150);

/// A producer, and the topics that are known to exist.
pub struct Publisher {
    cluster: Cluster,
    producer: Producer,
    known: HashSet<Arc<str>>,
}

impl Publisher {
    /// A publisher with a producer of its own.
    pub fn new(cluster: &Cluster, options: &ProducerOptions) -> Self {
        let producer = Producer::new(cluster.clone(), options.clone());
        Self { cluster: cluster.clone(), producer, known: HashSet::new() }
    }

    /// Hands a record to the producer; waits while too much is not acknowledged.
    pub fn send(&mut self, record: &EventRecord) -> Result<(), SourceFault> {
        let topic = self.topic(&record.topic)?;
        let value = record.value.as_deref().map(str::as_bytes);
        let timestamp_ms = record.timestamp_ms;
        let new = NewRecord { key: Some(record.key.as_bytes()), value, timestamp_ms, ..NewRecord::default() };
        self.producer.send(&topic, &new).map_err(|error| fault(&topic, &error))
    }

    /// Waits until everything is acknowledged.
    pub fn flush(&self) -> Result<(), SourceFault> {
        self.producer.flush(FLUSH_TIMEOUT).map_err(|error| fault("the records sent", &error))
    }

    /// Keeps a place, after everything before it is acknowledged.
    pub fn save(&self, store: &Store, place: &Place) -> Result<(), SourceFault> {
        self.flush()?;
        let failed =
            |words| SourceFault::new(FaultKind::Passing, format!("the place in the stream is not kept: {words}"));
        store.save(&self.producer, place).map_err(failed)
    }

    fn topic(&mut self, name: &str) -> Result<Arc<str>, SourceFault> {
        if let Some(topic) = self.known.get(name) {
            return Ok(Arc::clone(topic));
        }
        let topic: Arc<str> = name.into();
        ensure_topic(&self.cluster, &topic, None, &[("max.message.bytes", MESSAGE_BYTES_MAX)])
            .map_err(|error| fault(name, &error))?;
        self.known.insert(Arc::clone(&topic));
        Ok(topic)
    }
}

/// What a failure of Kafka means.
fn fault(subject: &str, error: &Error) -> SourceFault {
    let (kind, cure) = match error.code() {
        Some(Code::INVALID_TOPIC_EXCEPTION) => {
            (FaultKind::Settings, "; Kafka takes no such name: give the namespace another with --topic-namespace-map")
        }
        Some(Code::MESSAGE_TOO_LARGE | Code::RECORD_LIST_TOO_LARGE) => {
            (FaultKind::Settings, "; raise the topic's max.message.bytes: `kafka-configs --alter` or a topic made anew")
        }
        _ if error.is_retriable() => (FaultKind::Passing, ""),
        _ => (FaultKind::Failed, ""),
    };
    SourceFault::new(kind, format!("{subject}: {error}{cure}"))
}
