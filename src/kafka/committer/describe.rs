//! Where an assigned partition stands: the group's committed offset, and the bounds of its log.
//!
//! Source: API key 9 (OffsetFetch), from version 7 on with `require_stable` (KIP-447): offsets that an open transaction
//! is about to move are waited for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::{GroupId, OffsetFetchRequest, OffsetFetchResponse};
use kafka_protocol::protocol::StrBytes;

use super::origin::is_of_another_topic;
use super::{Committer, TryAgain, is_about_membership};
use crate::core::record::TopicPartition;
use crate::kafka::cluster::{TopicsWanted, topic_name};
use crate::kafka::consumer::{AssignedPartition, Event, tell};
use crate::kafka::error::{Code, Error};
use crate::kafka::group::Credentials;
use crate::kafka::keeper;
use crate::kafka::offsets::{OffsetAt, OffsetFound};

/// Leaders that move are followed for so long; what is not found by then is looked up again, after what was to be committed
/// meanwhile.
const LOOK_UP_PATIENCE: Duration = Duration::from_secs(5);

/// What was found out about one assignment.
#[derive(Default)]
struct Round {
    described: Vec<AssignedPartition>,
    failed: Vec<(TopicPartition, Error)>,
}

/// Where partitions stand, or why that is not known.
type Described = Vec<(TopicPartition, Result<AssignedPartition, Error>)>;

impl Committer {
    /// Looks up all that is waiting for it, and tells the keeper.
    pub(super) fn describe(&mut self) {
        let partitions: Vec<TopicPartition> = self.describing.keys().cloned().collect();
        match self.look_up(&partitions) {
            Ok(described) => self.described(described),
            Err(error) if is_final(&error) => {
                self.describing.clear();
                self.reporter.send(Event::Failed(error));
            }
            Err(error) => {
                let again = self.failed(error);
                self.describe_retry.failed(again);
            }
        }
    }

    /// Reports where partitions stand, or nothing when one of them cannot be looked up now. What nobody can read (its
    /// topic is gone, or closed to us) is left out.
    pub(super) fn survey(&mut self, partitions: &[TopicPartition]) {
        let found = self.look_up(partitions).and_then(|described| {
            let results = described.into_iter().map(|(_, result)| result);
            results.filter(|result| result.as_ref().err().is_none_or(Error::is_retriable)).collect()
        });
        match found {
            Ok(surveyed) => self.reporter.send(Event::Surveyed(surveyed)),
            // Whoever wants to know asks again, and that over another connection.
            Err(error) => drop(self.failed(error)),
        }
    }

    fn look_up(&mut self, partitions: &[TopicPartition]) -> Result<Described, Error> {
        let committed = self.fetch_committed(partitions)?;
        let (led, leaderless) = self.by_leadership(partitions)?;
        let starts = self.find(&led, OffsetAt::Earliest)?;
        // Who did not answer the first question is not waited for again.
        let answered = starts.iter().filter(|(_, start)| start.is_ok()).map(|(partition, _)| partition.clone());
        let mut ends: BTreeMap<_, _> =
            self.find(&answered.collect::<Vec<_>>(), OffsetAt::Latest)?.into_iter().collect();
        let metadata = self.cluster.metadata();
        let described = starts.into_iter().map(|(partition, start)| {
            let topic_id = metadata.topics.get(&partition.topic).map(|topic| topic.id).filter(|id| !id.is_nil());
            let committed = committed.get(&partition).and_then(|(offset, note)| {
                let is_strange = is_of_another_topic(note, metadata.cluster_id.as_deref(), topic_id);
                if is_strange {
                    log::warn!("{partition}: the group's offset {offset} was read from a topic that was deleted; it does not count");
                }
                (!is_strange).then_some(*offset)
            });
            let result = start.and_then(|log_start| {
                let unanswered = || Err(Error::NoLeader { subject: partition.to_string() });
                let log_end = ends.remove(&partition).unwrap_or_else(unanswered)?;
                Ok(AssignedPartition { partition: partition.clone(), committed, log_start, log_end, topic_id })
            });
            (partition, result)
        });
        let without = leaderless.into_iter().map(|partition| {
            let subject = partition.to_string();
            (partition, Err(Error::NoLeader { subject }))
        });
        Ok(described.chain(without).collect())
    }

    fn find(&self, partitions: &[TopicPartition], at: OffsetAt) -> Result<Vec<OffsetFound>, Error> {
        let queries: Vec<_> = partitions.iter().map(|partition| (partition.clone(), at)).collect();
        self.cluster.list_offsets_within(LOOK_UP_PATIENCE, &queries, self.isolation)
    }

    /// Partitions with and without a leader. Asking where the latter end would wait for one, and all others with it.
    fn by_leadership(
        &self,
        partitions: &[TopicPartition],
    ) -> Result<(Vec<TopicPartition>, Vec<TopicPartition>), Error> {
        let mut metadata = self.cluster.metadata();
        if !partitions.iter().all(|of| metadata.leader(&of.topic, of.partition).is_some()) {
            let topics: BTreeSet<Arc<str>> = partitions.iter().map(|of| of.topic.clone()).collect();
            let topics: Vec<Arc<str>> = topics.into_iter().collect();
            metadata = self.cluster.refresh(TopicsWanted::Names(&topics))?;
        }
        Ok(partitions.iter().cloned().partition(|of| metadata.leader(&of.topic, of.partition).is_some()))
    }

    fn described(&mut self, described: Described) {
        let mut found: BTreeMap<u64, Round> = BTreeMap::new();
        for (partition, result) in described {
            match result {
                Err(error) if error.is_retriable() => self.reporter.trouble(error),
                result => {
                    let Some(round) = self.describing.remove(&partition) else { continue };
                    match result {
                        Ok(assigned) => {
                            self.topic_ids.remove(&partition);
                            self.topic_ids.extend(assigned.topic_id.map(|id| (partition, id)));
                            found.entry(round).or_default().described.push(assigned);
                        }
                        Err(error) => found.entry(round).or_default().failed.push((partition, error)),
                    }
                }
            }
        }
        for (round, Round { described: partitions, failed }) in found {
            tell(&self.keeper, keeper::Command::Described { partitions, failed, round });
        }
        match self.describing.is_empty() {
            true => self.describe_retry.worked(),
            false => self.describe_retry.failed(TryAgain::Later),
        }
    }

    /// Each offset that the group has committed, and the note that was committed with it.
    fn fetch_committed(
        &mut self,
        partitions: &[TopicPartition],
    ) -> Result<BTreeMap<TopicPartition, (i64, String)>, Error> {
        let group_id = self.group_id.clone();
        let credentials = self.membership.lock().credentials.clone();
        let connection = self.coordinator()?;
        let version = connection.version::<OffsetFetchRequest>()?;
        let answer = connection.call(&offset_fetch_request(&group_id, &credentials, partitions, version))?;
        let address = connection.address().to_owned();
        let refused = |subject: String, code| Error::Broker {
            address: address.clone(),
            api: "OffsetFetch",
            subject,
            code,
            message: None,
        };
        self.connection_worked = true;
        let (code, offsets) = read_committed_offsets(&answer);
        if !code.is_ok() {
            return Err(refused(format!("group {group_id}"), code));
        }
        let mut committed = BTreeMap::new();
        for (partition, code, offset, note) in offsets {
            match code {
                // A topic that the coordinator has not heard of yet has no commits either.
                Code::NONE | Code::UNKNOWN_TOPIC_OR_PARTITION if offset < 0 => {}
                Code::NONE => drop(committed.insert(partition, (offset, note))),
                code => return Err(refused(partition.to_string(), code)),
            }
        }
        Ok(committed)
    }
}

/// Whether asking again changes nothing.
fn is_final(error: &Error) -> bool {
    error.code().is_some_and(|code| !is_about_membership(code)) && !error.is_retriable()
}

/// From version 8 on the request names groups (KIP-709), from 9 on who asks: a member of another epoch than it believes
/// must not read positions that others may be moving (KIP-848).
fn offset_fetch_request(
    group_id: &str,
    credentials: &Credentials,
    partitions: &[TopicPartition],
    version: i16,
) -> OffsetFetchRequest {
    let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    for partition in partitions {
        topics.entry(&partition.topic).or_default().push(partition.partition);
    }
    let group_id = GroupId(StrBytes::from_string(group_id.to_owned()));
    let request = OffsetFetchRequest::default().with_require_stable(version >= 7);
    if version >= 8 {
        let topic = |(name, indexes)| {
            OffsetFetchRequestTopics::default().with_name(topic_name(name)).with_partition_indexes(indexes)
        };
        let mut group = OffsetFetchRequestGroup::default()
            .with_group_id(group_id)
            .with_topics(Some(topics.into_iter().map(topic).collect()));
        if version >= 9 && credentials.generation >= 0 {
            group.member_id = Some(StrBytes::from_string(credentials.member_id.clone()));
            group.member_epoch = credentials.generation;
        }
        request.with_groups(vec![group])
    } else {
        let topic = |(name, indexes)| {
            OffsetFetchRequestTopic::default().with_name(topic_name(name)).with_partition_indexes(indexes)
        };
        request.with_group_id(group_id).with_topics(Some(topics.into_iter().map(topic).collect()))
    }
}

/// The group's error, and each partition's error, offset (negative: none) and note, in either form of the answer.
fn read_committed_offsets(answer: &OffsetFetchResponse) -> (Code, Vec<(TopicPartition, Code, i64, String)>) {
    let read = |topic: &str, index, code, offset, note: &Option<StrBytes>| {
        let note = note.as_ref().map(ToString::to_string).unwrap_or_default();
        (TopicPartition::new(topic, index), Code(code), offset, note)
    };
    let mut found = Vec::new();
    for topic in &answer.topics {
        let of_topic = topic.partitions.iter();
        found.extend(
            of_topic.map(|of| read(&topic.name, of.partition_index, of.error_code, of.committed_offset, &of.metadata)),
        );
    }
    for topic in answer.groups.iter().flat_map(|group| &group.topics) {
        let of_topic = topic.partitions.iter();
        found.extend(
            of_topic.map(|of| read(&topic.name, of.partition_index, of.error_code, of.committed_offset, &of.metadata)),
        );
    }
    (Code(answer.groups.first().map_or(answer.error_code, |group| group.error_code)), found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use kafka_protocol::messages::offset_fetch_response::{
        OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
        OffsetFetchResponseTopic, OffsetFetchResponseTopics,
    };
    use kafka_protocol::protocol::Encodable;

    #[test]
    fn committed_offsets_are_asked_for_in_every_version() {
        let partitions = [TopicPartition::new("a", 0), TopicPartition::new("a", 1), TopicPartition::new("b", 0)];
        for version in 2..=9 {
            let member = Credentials { member_id: "m".into(), generation: 3 };
            let request = offset_fetch_request("g", &member, &partitions, version);
            let encoded = request.encode(&mut bytes::BytesMut::new(), version);
            assert!(encoded.is_ok(), "version {version}: {encoded:?}");
        }
    }

    #[test]
    fn both_forms_of_the_answer_are_read() {
        let topic = || topic_name("a");
        let old = OffsetFetchResponseTopic::default().with_name(topic()).with_partitions(vec![
            OffsetFetchResponsePartition::default()
                .with_partition_index(1)
                .with_committed_offset(7)
                .with_metadata(Some(StrBytes::from_static_str("note"))),
        ]);
        let new = OffsetFetchResponseTopics::default().with_name(topic()).with_partitions(vec![
            OffsetFetchResponsePartitions::default()
                .with_partition_index(1)
                .with_committed_offset(7)
                .with_metadata(Some(StrBytes::from_static_str("note"))),
        ]);
        let of_group = OffsetFetchResponseGroup::default().with_topics(vec![new]);
        for (form, answer) in [
            ("without groups", OffsetFetchResponse::default().with_topics(vec![old])),
            ("with groups", OffsetFetchResponse::default().with_groups(vec![of_group])),
        ] {
            let expected = (Code::NONE, vec![(TopicPartition::new("a", 1), Code::NONE, 7, "note".to_owned())]);
            assert_eq!(read_committed_offsets(&answer), expected, "{form}");
        }
        let refused = OffsetFetchResponseGroup::default().with_error_code(Code::NOT_COORDINATOR.0);
        let refused = OffsetFetchResponse::default().with_groups(vec![refused]);
        assert_eq!(read_committed_offsets(&refused).0, Code::NOT_COORDINATOR);
    }
}
