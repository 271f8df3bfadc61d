//! Dead letters in a topic, in the partition that their key chooses; acknowledged by all in-sync replicas.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::Marks;
use crate::core::verdict::ErrorClass;
use crate::kafka::cluster::{Cluster, TopicsWanted};
use crate::kafka::error::Error;
use crate::kafka::producer::{NewRecord, Producer, ProducerOptions};
use crate::port::{Clock, DeadLetters, Letter, SinkError};

/// Sends letters to a topic.
pub struct TopicLetters {
    topic: Arc<str>,
    cluster: Cluster,
    clock: Arc<dyn Clock>,
    sender: Mutex<Sender>,
}

struct Sender {
    marks: Marks,
    /// `None` after a failure: a new one has nothing left of that.
    producer: Option<Producer>,
}

/// How long a put may take. A database's transaction may be open meanwhile; what fails is tried again later.
const PATIENCE: Duration = Duration::from_secs(10);

impl TopicLetters {
    /// Letters of a consumer group in a topic of `cluster`.
    pub fn new(cluster: Cluster, topic: impl Into<Arc<str>>, group: &str, clock: Arc<dyn Clock>) -> Self {
        let sender = Sender { marks: Marks::new(group), producer: None };
        Self { topic: topic.into(), cluster, clock, sender: Mutex::new(sender) }
    }

    /// Says in the log when the topic is not there: it may be made before the first letter comes.
    pub fn check(&self) {
        if let Err(error) = self.find_topic() {
            log::warn!("{error}");
        }
    }

    /// A producer would wait for a topic that is not there, and with it all records behind the bad one.
    fn find_topic(&self) -> Result<(), SinkError> {
        let metadata = self.cluster.refresh(TopicsWanted::Names(std::slice::from_ref(&self.topic)));
        let metadata = metadata.map_err(|error| refused(&self.topic, &error))?;
        match metadata.topics.get(&self.topic).is_some_and(|topic| !topic.partitions.is_empty()) {
            true => Ok(()),
            false => Err(SinkError::new(
                ErrorClass::Data,
                format!(
                    "dead letters cannot be sent to the topic {}: it does not exist; create it, or name a file as well: \
                     --dead-letter-file",
                    self.topic
                ),
            )),
        }
    }

    fn send(&self, producer: &Producer, marks: &mut Marks, letters: &[Letter<'_>]) -> Result<(), Error> {
        let now_ms = self.clock.unix_ms();
        for letter in letters {
            let headers: Vec<_> = marks.headers(letter, now_ms).iter().collect();
            let record = &letter.record;
            let copy = NewRecord {
                key: record.key,
                value: record.value,
                headers: &headers,
                timestamp_ms: record.time_ms(),
                ..NewRecord::default()
            };
            producer.send(&self.topic, &copy)?;
        }
        producer.flush(PATIENCE)
    }
}

impl DeadLetters for TopicLetters {
    fn put(&self, letters: &[Letter<'_>]) -> Result<(), SinkError> {
        let mut sender = self.sender.lock();
        let Sender { marks, producer } = &mut *sender;
        let current = match producer.take() {
            Some(producer) => producer,
            None => {
                self.find_topic()?;
                let options = ProducerOptions { delivery_timeout: PATIENCE, ..ProducerOptions::default() };
                Producer::new(self.cluster.clone(), options)
            }
        };
        self.send(&current, marks, letters).map_err(|error| refused(&self.topic, &error))?;
        *producer = Some(current);
        Ok(())
    }
}

fn refused(topic: &str, error: &Error) -> SinkError {
    let (class, cure) = match error.is_retriable() {
        true => (ErrorClass::Transient, "it is tried again"),
        false => (ErrorClass::Data, "mend that, or name a file as well for what the topic refuses: --dead-letter-file"),
    };
    SinkError::new(class, format!("dead letters cannot be sent to the topic {topic}: {error}; {cure}"))
}
