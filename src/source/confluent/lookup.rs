//! What is asked of the cluster beside reading it: topics, where the group stands, where logs begin and end.
//!
//! A client of its own asks. Brokers answer the requests of a connection in turn, so that on the connection of a client
//! that fetches each answer waits until that fetch has found something, or `fetch.wait.max.ms` are over.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::metadata::Metadata;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::context::{Called, Context};
use super::{ConfluentOptions, error, list, offsets, partitions};
use crate::core::backoff::Backoff;
use crate::core::record::TopicPartition;
use crate::door;
use crate::port::{Assignment, SourceError};
use crate::source::native::TopicSelection;

/// How many of its errors are looked at when no broker was found.
const ERRORS_MAX: usize = 20;

/// See the module.
pub struct Lookup {
    client: BaseConsumer<Context>,
    topics: TopicSelection,
    cluster_id: Option<Arc<str>>,
    request_timeout: Duration,
}

impl Lookup {
    /// Waits for a broker, and for the topics that were named.
    ///
    /// # Errors
    /// When no broker answers for `connect_timeout`, or a topic does not exist.
    pub fn connect(options: &ConfluentOptions) -> Result<Self, SourceError> {
        let mut config = options.client_config();
        config.set("statistics.interval.ms", "0");
        let client = config.create_with_context(Context::new(options.read_committed));
        let client = client.map_err(|cause: KafkaError| error(format!("librdkafka: {cause}")))?;
        let (topics, request_timeout) = (options.topics.clone(), options.request_timeout);
        let mut lookup = Self { client, topics, cluster_id: None, request_timeout };
        lookup.find(options.connect_timeout)?;
        Ok(lookup)
    }

    fn find(&mut self, connect_timeout: Duration) -> Result<(), SourceError> {
        let until = door::now() + connect_timeout;
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
        loop {
            let left = until.saturating_duration_since(door::now()).max(Duration::from_millis(100));
            let missing = match self.selected(left) {
                Ok(_) => {
                    self.cluster_id = self.client.client().fetch_cluster_id(left).map(Arc::from);
                    return Ok(());
                }
                Err(error) => error,
            };
            let wait = backoff.fail(door::random());
            if door::now() + wait >= until {
                return Err(self.not_found(&missing));
            }
            door::sleep(wait);
        }
    }

    fn not_found(&self, cause: &KafkaError) -> SourceError {
        if cause.rdkafka_error_code() == Some(RDKafkaErrorCode::UnknownTopicOrPartition) {
            return error(format!("a topic is not in the cluster: {cause}; create it, or check its name"));
        }
        // What it said about the brokers tells more than that it has timed out.
        let said: Vec<String> = self.said();
        let reason = if said.is_empty() { cause.to_string() } else { said.join("; ") };
        SourceError { message: format!("librdkafka finds no Kafka broker: {reason}"), unavailable: true }
    }

    /// What the client had to say since it was asked last; nobody else listens to it.
    fn said(&self) -> Vec<String> {
        (0..ERRORS_MAX).for_each(|_| drop(self.client.poll(Duration::ZERO)));
        let trouble = |called| match called {
            Called::Trouble(reason) => Some(reason),
            _ => None,
        };
        self.client.context().take().into_iter().filter_map(trouble).collect()
    }

    /// All partitions that are selected, whoever reads them, and where they stand.
    ///
    /// # Errors
    /// When librdkafka gets no answer in time.
    pub fn survey(&self) -> KafkaResult<Vec<Assignment>> {
        let all = match &self.topics {
            TopicSelection::Partitions(partitions) => partitions.clone(),
            _ => self.selected(self.request_timeout)?,
        };
        self.describe(&list(all.iter().map(|of| (of, Offset::Invalid))))
    }

    /// Where these partitions stand.
    ///
    /// # Errors
    /// As [`survey`](Self::survey).
    pub fn describe(&self, of: &TopicPartitionList) -> KafkaResult<Vec<Assignment>> {
        if of.count() == 0 {
            return Ok(Vec::new());
        }
        let answers = self.ask(of);
        let said = self.said();
        if let (Err(_), false) = (&answers, said.is_empty()) {
            log::debug!("librdkafka: {}", said.join("; "));
        }
        answers
    }

    fn ask(&self, of: &TopicPartitionList) -> KafkaResult<Vec<Assignment>> {
        let committed = offsets(&self.client.committed_offsets(of.clone(), self.request_timeout)?);
        let [starts, ends] = [Offset::Beginning, Offset::End].map(|end| self.bounds(of, end));
        let bounds = starts?.into_iter().zip(ends?);
        let described = partitions(of).into_iter().zip(committed).zip(bounds);
        let assignment = |((partition, committed), (log_start, log_end)): ((_, i64), _)| Assignment {
            partition,
            committed: (committed >= 0).then_some(committed),
            log_start,
            log_end,
            cluster_id: self.cluster_id.clone(),
            topic_id: None,
        };
        Ok(described.map(assignment).collect())
    }

    /// One end of each log, by one request for each broker: in the protocol the ends are points in time.
    fn bounds(&self, of: &TopicPartitionList, end: Offset) -> KafkaResult<Vec<i64>> {
        let mut asked = of.clone();
        asked.set_all_offsets(end)?;
        let answered = self.client.offsets_for_times(asked, self.request_timeout)?;
        answered.elements().iter().try_for_each(|element| element.error())?;
        Ok(offsets(&answered))
    }

    /// The partitions of all topics that are selected.
    fn selected(&self, timeout: Duration) -> KafkaResult<Vec<TopicPartition>> {
        let mut found = Vec::new();
        match &self.topics {
            TopicSelection::Names(names) => {
                for name in names {
                    collect(&self.client.fetch_metadata(Some(name), timeout)?, |_| true, &mut found)?;
                }
            }
            TopicSelection::Pattern(pattern) => {
                let matches = |name: &str| !name.starts_with("__") && pattern.is_match(name);
                collect(&self.client.fetch_metadata(None, timeout)?, matches, &mut found)?;
            }
            TopicSelection::Partitions(partitions) => {
                for of in partitions {
                    collect(&self.client.fetch_metadata(Some(&of.topic), timeout)?, |_| true, &mut Vec::new())?;
                }
                found.clone_from(partitions);
            }
        }
        Ok(found)
    }
}

fn collect(metadata: &Metadata, is_wanted: impl Fn(&str) -> bool, found: &mut Vec<TopicPartition>) -> KafkaResult<()> {
    for topic in metadata.topics().iter().filter(|topic| is_wanted(topic.name())) {
        if let Some(error) = topic.error() {
            return Err(KafkaError::MetadataFetch(error.into()));
        }
        let name: Arc<str> = topic.name().into();
        found.extend(topic.partitions().iter().map(|of| TopicPartition::new(Arc::clone(&name), of.id())));
    }
    Ok(())
}
