//! Where measured runs read from: topics of generated records, on an embedded broker or on a given cluster. They are
//! named after this bench and removed with it.

use std::sync::Arc;
use std::time::Duration;

use super::records::{Generator, topic_batches};
use crate::broker::{Broker, BrokerError, BrokerOptions};
use crate::core::record::TopicPartition;
use crate::kafka::admin::create_topic;
use crate::kafka::admin::topics::delete_topic;
use crate::kafka::cluster::Cluster;
use crate::kafka::error::Error;
use crate::kafka::producer::{NewRecord, Producer, ProducerOptions};
use crate::kafka::wire::compression::Codec;

/// Records between two reports of progress.
const STEP: u64 = 10_000;
/// A producer gives a record up before that.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(180);

/// Why there are no topics.
#[derive(Debug, thiserror::Error)]
pub enum TopicsError {
    #[error("the embedded broker: {0}")]
    Broker(#[from] BrokerError),
    #[error(transparent)]
    Kafka(#[from] Error),
}

/// What is in a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Filling {
    pub partitions: usize,
    pub record_bytes: usize,
    pub records: u64,
    pub seed: u64,
    pub codec: Codec,
}

/// Brokers that hold the topics of one bench. Dropping it removes them.
pub struct Topics {
    place: Place,
    names: Vec<String>,
}

enum Place {
    Embedded(Broker),
    Given { bootstrap_servers: Vec<String>, cluster: Cluster },
}

impl Topics {
    /// On a broker in this process.
    ///
    /// # Errors
    /// When it gets no port.
    pub fn embedded() -> Result<Self, TopicsError> {
        Ok(Self { place: Place::Embedded(Broker::start(BrokerOptions::default())?), names: Vec::new() })
    }

    /// On a cluster that is there.
    pub fn given(bootstrap_servers: Vec<String>, cluster: Cluster) -> Self {
        Self { place: Place::Given { bootstrap_servers, cluster }, names: Vec::new() }
    }

    /// Where clients connect to.
    pub fn bootstrap_servers(&self) -> Vec<String> {
        match &self.place {
            Place::Embedded(broker) => vec![broker.address()],
            Place::Given { bootstrap_servers, .. } => bootstrap_servers.clone(),
        }
    }

    /// Makes and fills a topic; `progress` gets the number of records so far, now and then. Records go to the
    /// partitions in turn, so that all are of one length.
    ///
    /// # Errors
    /// When the brokers refuse the topic or its records.
    pub fn fill(&mut self, name: &str, filling: Filling, mut progress: impl FnMut(u64)) -> Result<(), TopicsError> {
        let partitions = filling.partitions as i32;
        match &self.place {
            Place::Embedded(broker) => {
                broker.create_topic(name, partitions)?;
                fill_embedded(broker, name, filling, &mut progress);
            }
            Place::Given { cluster, .. } => {
                create_topic(cluster, name, partitions, -1, &[])?;
                self.names.push(name.to_owned());
                fill_given(cluster, name, filling, &mut progress)?;
            }
        }
        progress(filling.records);
        Ok(())
    }
}

impl Drop for Topics {
    fn drop(&mut self) {
        let Place::Given { cluster, .. } = &self.place else { return };
        for name in &self.names {
            if let Err(error) = delete_topic(cluster, name) {
                log::warn!("the topic {name} of this bench is left behind: {error}");
            }
        }
    }
}

/// The partitions of a topic, to be read whole.
pub fn partitions(topic: &str, count: usize) -> Vec<TopicPartition> {
    (0..count as i32).map(|partition| TopicPartition::new(topic, partition)).collect()
}

fn fill_embedded(broker: &Broker, name: &str, filling: Filling, progress: &mut impl FnMut(u64)) {
    let mut generator = Generator::new(filling.seed, filling.record_bytes);
    let mut begun = 0;
    for partition in 0..filling.partitions as u64 {
        let share = filling.records * (partition + 1) / filling.partitions as u64;
        for batch in topic_batches(&mut generator, begun..share, filling.codec) {
            broker.append(name, partition as i32, batch);
        }
        begun = share;
        progress(begun);
    }
}

fn fill_given(
    cluster: &Cluster,
    name: &str,
    filling: Filling,
    progress: &mut impl FnMut(u64),
) -> Result<(), TopicsError> {
    let options = ProducerOptions { compression: filling.codec, ..ProducerOptions::default() };
    let producer = Producer::new(cluster.clone(), options);
    let mut generator = Generator::new(filling.seed, filling.record_bytes);
    let topic: Arc<str> = name.into();
    for number in 0..filling.records {
        let order = generator.record(number);
        let record = NewRecord {
            partition: Some((number % filling.partitions as u64) as i32),
            key: Some(order.key.as_bytes()),
            value: Some(order.value.as_bytes()),
            timestamp_ms: Some(order.timestamp_ms),
            ..NewRecord::default()
        };
        producer.send(&topic, &record)?;
        if number.is_multiple_of(STEP) {
            progress(number);
        }
    }
    producer.flush(FLUSH_TIMEOUT)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::connection::ConnectionOptions;

    const FILLING: Filling = Filling { partitions: 3, record_bytes: 100, records: 1_000, seed: 1, codec: Codec::Lz4 };

    fn ends(broker: &Broker, topic: &str) -> Vec<Option<i64>> {
        (0..4).map(|partition| broker.log_end(topic, partition)).collect()
    }

    #[test]
    fn an_embedded_topic_has_its_records_in_all_partitions() {
        let mut topics = Topics::embedded().unwrap();
        let mut seen = Vec::new();
        topics.fill("bench", FILLING, |count| seen.push(count)).unwrap();
        let Place::Embedded(broker) = &topics.place else { panic!("it is embedded") };
        assert_eq!(ends(broker, "bench"), [Some(333), Some(333), Some(334), None]);
        assert_eq!(seen.last(), Some(&1_000));
    }

    #[test]
    fn a_topic_on_a_given_cluster_is_removed_afterwards() {
        let broker = Broker::start(BrokerOptions::default()).unwrap();
        let cluster = Cluster::connect(&[broker.address()], ConnectionOptions::default()).unwrap();
        let mut topics = Topics::given(vec![broker.address()], cluster);
        topics.fill("bench", FILLING, |_| {}).unwrap();
        assert_eq!(ends(&broker, "bench"), [Some(334), Some(333), Some(333), None]);
        drop(topics);
        assert_eq!(ends(&broker, "bench"), [None; 4]);
    }
}
