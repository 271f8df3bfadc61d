//! [`Source`] over the `kafka` crate: a pure-Rust client of the protocol as it was before Kafka 0.10, for brokers that
//! still speak it (up to 3.9, which converts what it reads for us).
//!
//! ```text
//!   NativeSource     offsets, commits and metadata, with all partitions of the topics given to it
//!   konekt-kafka     reader.rs: the records, by KafkaClient::fetch_messages
//! ```
//!
//! The crate has no groups, so each process reads all partitions there are at its start. Its consumer loses records (it
//! moves on before it returns the error of another partition) and its commit spins once its retries are used up:
//! [`KafkaClient`](::kafka::client::KafkaClient), one level below, is used for records alone. What a record looks like
//! then is in [`client`](super::client).

mod reader;

use std::time::Duration;

use kafka_protocol::messages::{FetchRequest, MetadataRequest};

use self::reader::Reader;
use super::native::{NativeOptions, NativeSource, TopicSelection, source_error};
use crate::core::record::TopicPartition;
use crate::door;
use crate::kafka::cluster::Cluster;
use crate::kafka::consumer::Positions;
use crate::kafka::error::Error;
use crate::kafka::offsets::Isolation;
use crate::kafka::topics::partitions_now;
use crate::port::{Source, SourceError, SourceEvent, Waker};

/// Reads all partitions of its topics with the `kafka` crate.
pub struct KafkaCrateSource {
    native: NativeSource,
    /// `None` once closed.
    reader: Option<Reader>,
}

impl KafkaCrateSource {
    /// Finds the cluster and the partitions of the topics, and begins to look up where they stand.
    ///
    /// # Errors
    /// When no broker answers for `connect_timeout`, when one does not speak what the crate speaks, or when a topic does
    /// not exist.
    pub fn connect(options: NativeOptions) -> Result<Self, SourceError> {
        let failed = |error: Error| source_error(&error);
        let cluster = Cluster::connect(&options.bootstrap, options.connection()).map_err(failed)?;
        refuse_foreign_brokers(&cluster)?;
        let partitions = partitions_now(&cluster, &options.topics, options.connect_timeout).map_err(failed)?;
        log::warn!(
            "client kafka: {} partitions are read by this process alone, and by every other of the group; records come \
             without headers and times, empty keys and values as null, and those of aborted transactions too",
            partitions.len()
        );
        let options = NativeOptions {
            topics: TopicSelection::Partitions(partitions),
            isolation: Isolation::ReadUncommitted,
            ..options
        };
        let native = NativeSource::connect(options.clone()).map_err(failed)?;
        let reader = Reader::start(options, cluster, native.waker());
        Ok(Self { native, reader: Some(reader) })
    }

    /// The cluster that is read from, until the source is closed.
    pub fn cluster(&self) -> Option<&Cluster> {
        self.native.cluster()
    }
}

impl Source for KafkaCrateSource {
    fn poll(&mut self, wait: Duration, events: &mut Vec<SourceEvent>) {
        let Some(reader) = &self.reader else { return };
        // The reader wakes this wait for each of its events.
        let before = events.len();
        self.native.poll(wait, events);
        for event in &events[before..] {
            if let SourceEvent::Revoked(partitions) | SourceEvent::Lost(partitions) = event {
                reader.stop(partitions);
            }
        }
        reader.take_events(events);
    }

    fn start(&mut self, partition: &TopicPartition, run: u64, offset: i64) {
        if let Some(reader) = &self.reader {
            reader.read(partition, run, offset);
        }
    }

    fn stop(&mut self, partitions: &[TopicPartition]) {
        if let Some(reader) = &self.reader {
            reader.stop(partitions);
        }
    }

    fn commit(&mut self, positions: Positions) {
        self.native.commit(positions);
    }

    fn survey(&mut self) {
        self.native.survey();
    }

    fn release(&mut self, partitions: Vec<TopicPartition>, positions: Positions) {
        self.stop(&partitions);
        self.native.release(partitions, positions);
    }

    fn close(&mut self, positions: Positions, deadline: Duration) -> Result<(), SourceError> {
        let Some(reader) = self.reader.take() else { return Ok(()) };
        let until = door::now() + deadline;
        let ended = reader.close(until);
        let committed = self.native.close(positions, until.saturating_duration_since(door::now()));
        committed.and(ended)
    }

    fn waker(&self) -> Waker {
        self.native.waker()
    }
}

/// Asks every broker that can be reached for its versions: against one that dropped the old ones the crate fails with
/// words that nobody understands.
///
/// # Errors
/// When one does not speak what the crate speaks.
fn refuse_foreign_brokers(cluster: &Cluster) -> Result<(), SourceError> {
    for node in cluster.metadata().brokers.keys() {
        match cluster.connect_to(*node) {
            Ok(broker) if broker.offers::<FetchRequest>(0) && broker.offers::<MetadataRequest>(0) => {}
            Ok(broker) => {
                let message = format!(
                    "{} speaks only newer versions of the Kafka protocol than --client kafka does, as all brokers since \
                     Kafka 4.0: use --client native",
                    broker.address()
                );
                return Err(SourceError { message, unavailable: true });
            }
            Err(error) => log::debug!("its versions could not be asked for: {error}"),
        }
    }
    Ok(())
}
