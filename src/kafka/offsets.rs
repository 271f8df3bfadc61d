//! Where a partition begins and ends, and which offset belongs to a time (ListOffsets, API key 2).
//!
//! Each partition's leader answers for it, so the questions are grouped by leader, and asked again with fresh metadata
//! where a leader has moved, until `request_timeout` is over.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::messages::ListOffsetsRequest;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::list_offsets_response::ListOffsetsResponse;
use log::debug;

use super::cluster::{Cluster, Metadata, TopicsWanted, topic_name};
use super::error::{Code, Error};
use crate::core::record::TopicPartition;
use crate::door;

/// Which offset of a partition is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffsetAt {
    /// The first that the log still holds.
    Earliest,
    /// The one after the last visible record: the last stable offset when reading committed, else the high watermark.
    Latest,
    /// The first record at or after this time, in milliseconds since the epoch.
    Timestamp(i64),
}

impl OffsetAt {
    fn timestamp(self) -> i64 {
        match self {
            OffsetAt::Earliest => -2,
            OffsetAt::Latest => -1,
            OffsetAt::Timestamp(ms) => ms.max(0),
        }
    }
}

/// Which records a reader sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Isolation {
    /// All, also those of open and aborted transactions.
    ReadUncommitted,
    /// Only those outside transactions and of committed ones.
    #[default]
    ReadCommitted,
}

impl Isolation {
    /// As the protocol writes it.
    pub fn level(self) -> i8 {
        match self {
            Isolation::ReadUncommitted => 0,
            Isolation::ReadCommitted => 1,
        }
    }
}

/// The answer for one partition.
pub type OffsetFound = (TopicPartition, Result<i64, Error>);

impl Cluster {
    /// Finds an offset of each partition, in the order of the queries, which name distinct partitions. −1 when no
    /// record is at or after a time.
    ///
    /// Moving leaders are followed until `request_timeout` is over; then the partition's last error stands.
    ///
    /// # Errors
    /// [`Error::NoBroker`] when the metadata cannot be had at all; everything else is per partition.
    pub fn list_offsets(
        &self,
        queries: &[(TopicPartition, OffsetAt)],
        isolation: Isolation,
    ) -> Result<Vec<OffsetFound>, Error> {
        self.list_offsets_within(self.options().request_timeout, queries, isolation)
    }

    /// As [`list_offsets`](Self::list_offsets), but nobody is asked anew once `patience` is over.
    ///
    /// # Errors
    /// As [`list_offsets`](Self::list_offsets).
    pub fn list_offsets_within(
        &self,
        patience: Duration,
        queries: &[(TopicPartition, OffsetAt)],
        isolation: Isolation,
    ) -> Result<Vec<OffsetFound>, Error> {
        let deadline = door::now() + patience;
        let topics: Vec<Arc<str>> = queries.iter().map(|(partition, _)| partition.topic.clone()).collect();
        let mut search = Search { cluster: self, queries, isolation, found: vec![None; queries.len()] };
        let known = topics.iter().all(|topic| self.metadata().topics.contains_key(topic));
        let mut metadata = if known { self.metadata() } else { self.refresh(TopicsWanted::Names(&topics))? };
        loop {
            search.ask_leaders(&metadata);
            if !search.can_go_on() || door::now() >= deadline {
                return Ok(search.finish());
            }
            metadata = self.refresh(TopicsWanted::Names(&topics))?;
        }
    }
}

/// Who answered, and what.
type Answer = (String, ListOffsetsResponse);

/// A set of queries on its way to being answered.
struct Search<'a> {
    cluster: &'a Cluster,
    queries: &'a [(TopicPartition, OffsetAt)],
    isolation: Isolation,
    /// By query; `None` has not been asked.
    found: Vec<Option<Result<i64, Error>>>,
}

impl Search<'_> {
    /// Asks every leader for the partitions that have no final answer.
    fn ask_leaders(&mut self, metadata: &Metadata) {
        let mut by_leader: BTreeMap<i32, Vec<usize>> = BTreeMap::new();
        for at in 0..self.queries.len() {
            if is_final(&self.found[at]) {
                continue;
            }
            let (partition, _) = &self.queries[at];
            match leader_of(metadata, partition) {
                Ok(leader) => by_leader.entry(leader).or_default().push(at),
                Err(error) => self.found[at] = Some(Err(error)),
            }
        }
        for (asked, answer) in self.ask_all(by_leader) {
            match answer {
                Ok((address, answer)) => self.read(&address, &asked, &answer),
                Err(error) => {
                    debug!("offsets of {} partitions: {error}", asked.len());
                    for at in asked {
                        self.found[at] = Some(Err(error.clone()));
                    }
                }
            }
        }
    }

    /// Asks all leaders at the same time, so that one that hangs costs no more than its own time-out.
    fn ask_all(&self, by_leader: BTreeMap<i32, Vec<usize>>) -> Vec<(Vec<usize>, Result<Answer, Error>)> {
        // The last one is asked on this thread: with a single leader there is no other.
        let mut questions: Vec<_> = by_leader.into_iter().collect();
        let last = questions.pop();
        let asked = crossbeam::thread::scope(|scope| {
            let others: Vec<_> = questions
                .into_iter()
                .map(|(leader, asked)| scope.spawn(move |_| (self.ask(leader, &asked), asked)))
                .collect();
            let own = last.map(|(leader, asked)| (self.ask(leader, &asked), asked));
            let others = others.into_iter().map(|thread| match thread.join() {
                Ok(answered) => answered,
                Err(panic) => std::panic::resume_unwind(panic),
            });
            others.chain(own).map(|(answer, asked)| (asked, answer)).collect()
        });
        match asked {
            Ok(asked) => asked,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    fn ask(&self, leader: i32, asked: &[usize]) -> Result<Answer, Error> {
        let mut connection = self.cluster.connect_to(leader)?;
        let answer = connection.call(&self.request(asked))?;
        Ok((connection.address().to_owned(), answer))
    }

    fn request(&self, asked: &[usize]) -> ListOffsetsRequest {
        let mut topics: BTreeMap<&str, Vec<ListOffsetsPartition>> = BTreeMap::new();
        for (partition, at) in asked.iter().map(|at| &self.queries[*at]) {
            let query = ListOffsetsPartition::default()
                .with_partition_index(partition.partition)
                .with_current_leader_epoch(-1)
                .with_timestamp(at.timestamp());
            topics.entry(&partition.topic).or_default().push(query);
        }
        let topic =
            |(name, partitions)| ListOffsetsTopic::default().with_name(topic_name(name)).with_partitions(partitions);
        ListOffsetsRequest::default()
            .with_replica_id((-1).into())
            .with_isolation_level(self.isolation.level())
            .with_topics(topics.into_iter().map(topic).collect())
    }

    fn read(&mut self, address: &str, asked: &[usize], answer: &ListOffsetsResponse) {
        let mut answers = BTreeMap::new();
        for topic in &answer.topics {
            for partition in &topic.partitions {
                answers.insert((topic.name.as_str(), partition.partition_index), partition);
            }
        }
        for at in asked {
            let (partition, _) = &self.queries[*at];
            let answer = answers.get(&(&*partition.topic, partition.partition));
            self.found[*at] = Some(match answer {
                Some(answer) if answer.error_code == 0 => Ok(answer.offset),
                Some(answer) => Err(Error::Broker {
                    address: address.into(),
                    api: "ListOffsets",
                    subject: partition.to_string(),
                    code: Code(answer.error_code),
                    message: None,
                }),
                None => Err(Error::Malformed {
                    address: address.into(),
                    api: "ListOffsets",
                    what: format!("{partition} is missing in it"),
                }),
            });
        }
    }

    fn can_go_on(&self) -> bool {
        !self.found.iter().all(is_final)
    }

    fn finish(self) -> Vec<OffsetFound> {
        let answers = self.queries.iter().zip(self.found);
        let unasked = |partition: &TopicPartition| Err(Error::NoLeader { subject: partition.to_string() });
        answers
            .map(|((partition, _), found)| (partition.clone(), found.unwrap_or_else(|| unasked(partition))))
            .collect()
    }
}

/// An answer, or an error that no retry changes. A topic that does not exist may be a topic that was just created and
/// is not known everywhere yet, so that too is asked again.
fn is_final(found: &Option<Result<i64, Error>>) -> bool {
    found.as_ref().is_some_and(|result| result.as_ref().map_or_else(|error| !error.is_retriable(), |_| true))
}

fn leader_of(metadata: &Metadata, partition: &TopicPartition) -> Result<i32, Error> {
    let topic_error =
        metadata.topics.get(&partition.topic).map_or(Code::UNKNOWN_TOPIC_OR_PARTITION, |topic| topic.error);
    if !topic_error.is_ok() {
        return Err(Error::Broker {
            address: "the cluster".into(),
            api: "Metadata",
            subject: partition.to_string(),
            code: topic_error,
            message: None,
        });
    }
    let leader = metadata.leader(&partition.topic, partition.partition);
    leader.ok_or_else(|| Error::NoLeader { subject: partition.to_string() })
}

#[cfg(test)]
mod tests {
    use super::super::connection::ConnectionOptions;
    use super::super::scripted::{Answer, ScriptedBroker, one_broker};
    use super::*;
    use kafka_protocol::messages::ApiKey;
    use kafka_protocol::messages::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// One broker that leads partitions 0 to 2 of `t`. Partition 1 has moved away at the first question and is back at
    /// the second; partition 2 may not be read. The offset found is made of what was asked.
    fn broker() -> ScriptedBroker {
        let questions = AtomicUsize::new(0);
        let offered = [(ApiKey::Metadata, 12), (ApiKey::ListOffsets, 9)];
        ScriptedBroker::start(&offered, move |call, port| match call.key {
            ApiKey::Metadata => call.answer(one_broker(port, "t", 3)),
            ApiKey::ListOffsets => {
                let request: ListOffsetsRequest = call.read();
                assert_eq!(request.isolation_level, 1);
                let first = questions.fetch_add(1, Ordering::Relaxed) == 0;
                let answer = |asked: &ListOffsetsPartition| {
                    let index = asked.partition_index;
                    let code = if index == 1 && first {
                        6
                    } else if index == 2 {
                        29
                    } else {
                        0
                    };
                    let answer = ListOffsetsPartitionResponse::default().with_partition_index(index);
                    answer.with_error_code(code).with_offset(100 * i64::from(index) - asked.timestamp)
                };
                let topic = &request.topics[0];
                let answers = ListOffsetsTopicResponse::default()
                    .with_name(topic.name.clone())
                    .with_partitions(topic.partitions.iter().map(answer).collect());
                call.answer(ListOffsetsResponse::default().with_topics(vec![answers]))
            }
            _ => Answer::HangUp,
        })
    }

    #[test]
    fn each_query_gets_its_answer_and_moved_leaders_are_followed() {
        let broker = broker();
        let request_timeout = Duration::from_millis(700);
        let options = ConnectionOptions { request_timeout, ..ConnectionOptions::default() };
        let cluster = Cluster::connect(std::slice::from_ref(&broker.address), options).unwrap();
        let at = |partition, at| (TopicPartition::new("t", partition), at);
        let queries = [
            at(2, OffsetAt::Latest),
            at(1, OffsetAt::Earliest),
            at(0, OffsetAt::Timestamp(-7)),
            at(9, OffsetAt::Latest),
        ];
        let answers = cluster.list_offsets(&queries, Isolation::ReadCommitted).unwrap();
        assert_eq!(answers.len(), 4);
        for ((asked, _), (answered, _)) in queries.iter().zip(&answers) {
            assert_eq!(asked, answered);
        }
        assert_eq!(answers[0].1.as_ref().unwrap_err().code(), Some(Code::TOPIC_AUTHORIZATION_FAILED));
        assert_eq!(answers[1].1, Ok(102), "earliest is -2");
        assert_eq!(answers[2].1, Ok(0), "a time before the epoch is the epoch");
        assert!(matches!(answers[3].1, Err(Error::NoLeader { .. })), "{:?}", answers[3]);
    }
}
