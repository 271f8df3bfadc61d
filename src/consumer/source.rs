//! The source that a consumer's settings name.

use std::sync::Arc;
use std::time::Duration;

use super::{ConsumerConfig, ConsumerError};
use crate::kafka::cluster::Cluster;
use crate::kafka::topics::partitions_now;
#[cfg(not(all(feature = "kafka-crate", feature = "confluent")))]
use crate::port::SourceError;
use crate::port::{MemoryBudget, Source};
use crate::source::client::Client;
#[cfg(feature = "confluent")]
use crate::source::confluent::ConfluentSource;
#[cfg(feature = "kafka-crate")]
use crate::source::kafka_crate::KafkaCrateSource;
use crate::source::native::{NativeSource, TopicSelection};
use crate::source::uncommitted::Uncommitted;

/// A source, and the cluster for whatever else is asked of it.
pub struct Opened {
    pub source: Box<dyn Source>,
    pub cluster: Option<Cluster>,
}

/// Connects the client that is asked for.
///
/// # Errors
/// When this build does not have it, or it cannot connect; in a dry run also when a topic is missing.
pub fn open(config: &ConsumerConfig, memory: &Arc<MemoryBudget>) -> Result<Opened, ConsumerError> {
    if !config.dry_run {
        return connect(config, memory);
    }
    let wait = Duration::from_millis(config.connect_timeout_ms);
    let partitions = partitions_now(&config.cluster()?, &config.topics, wait)?;
    let config = ConsumerConfig { topics: TopicSelection::Partitions(partitions), ..config.clone() };
    let opened = connect(&config, memory)?;
    Ok(Opened { source: Box::new(Uncommitted::new(opened.source)), cluster: opened.cluster })
}

fn connect(config: &ConsumerConfig, memory: &Arc<MemoryBudget>) -> Result<Opened, ConsumerError> {
    match config.client {
        Client::Native => {
            let source = NativeSource::connect(config.native(Arc::clone(memory)))?;
            Ok(Opened { cluster: source.cluster().cloned(), source: Box::new(source) })
        }
        #[cfg(feature = "kafka-crate")]
        Client::Kafka => {
            let source = KafkaCrateSource::connect(config.native(Arc::clone(memory)))?;
            Ok(Opened { cluster: source.cluster().cloned(), source: Box::new(source) })
        }
        #[cfg(feature = "confluent")]
        Client::Confluent => {
            // librdkafka reads; dead letters are written by our own client.
            let cluster = config.dead_letter_topic.is_some().then(|| config.cluster()).transpose()?;
            let source = ConfluentSource::connect(&config.confluent(memory))?;
            Ok(Opened { source: Box::new(source), cluster })
        }
        #[cfg(not(all(feature = "kafka-crate", feature = "confluent")))]
        missing => {
            let message = missing.absence().unwrap_or_default();
            Err(SourceError { message, unavailable: false }.into())
        }
    }
}
