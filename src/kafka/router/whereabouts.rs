//! Where a partition is to be fetched, by the metadata: pure.

use uuid::Uuid;

use crate::core::record::TopicPartition;
use crate::kafka::cluster::Metadata;
use crate::kafka::error::{Code, Error};

/// What the metadata says of a partition.
#[derive(Debug, PartialEq)]
pub(super) enum Whereabouts {
    /// From this broker.
    Leader { node: i32, epoch: i32, topic_id: Uuid },
    /// The topic or partition is not in the metadata: it is new, was deleted, or the broker does not know it yet.
    Unknown,
    /// A leader is being elected.
    NoLeader,
    /// Waiting does not help.
    Never(Error),
}

/// Looks a partition up. `topic_id` is that of the topic it was started in; nil where the cluster has no ids.
pub(super) fn find(metadata: &Metadata, partition: &TopicPartition, topic_id: Uuid) -> Whereabouts {
    let Some(topic) = metadata.topics.get(&partition.topic) else { return Whereabouts::Unknown };
    if topic.error == Code::UNKNOWN_TOPIC_OR_PARTITION {
        return Whereabouts::Unknown;
    }
    if !topic.error.is_ok() {
        let (address, subject) = ("the cluster".into(), partition.to_string());
        let error = Error::Broker { address, api: "Metadata", subject, code: topic.error, message: None };
        return if error.is_retriable() { Whereabouts::NoLeader } else { Whereabouts::Never(error) };
    }
    if !topic_id.is_nil() && topic.id != topic_id {
        let text = "the topic was deleted and made anew, and its offsets begin again; end this run and start it again: it reads the \
                    new topic, or says what its old position has against that";
        return Whereabouts::Never(Error::Invalid(text.into()));
    }
    match metadata.partition(&partition.topic, partition.partition) {
        None => Whereabouts::Unknown,
        Some(known) => match known.leader.filter(|leader| metadata.brokers.contains_key(leader)) {
            Some(node) => Whereabouts::Leader { node, epoch: known.leader_epoch, topic_id: topic.id },
            None => Whereabouts::NoLeader,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::cluster::{Partition, Topic};

    const ID: Uuid = Uuid::from_u128(1);

    fn metadata(leader: Option<i32>, error: Code) -> Metadata {
        let partitions = vec![Partition { index: 0, leader, leader_epoch: 5, error: Code::NONE }];
        let topic = Topic { id: ID, partitions, error, internal: false };
        Metadata { cluster_id: None, topics: [("t".into(), topic)].into(), brokers: [(1, "one:9092".into())].into() }
    }

    #[test]
    fn a_partition_is_where_its_leader_is_or_waits_or_never_comes() {
        let ok = Code::NONE;
        let leader = || Whereabouts::Leader { node: 1, epoch: 5, topic_id: ID };
        for (case, partition, id, metadata, expected) in [
            ("led", 0, ID, metadata(Some(1), ok), leader()),
            ("led, no id known before", 0, Uuid::nil(), metadata(Some(1), ok), leader()),
            ("electing", 0, ID, metadata(None, ok), Whereabouts::NoLeader),
            ("led by a broker that is gone", 0, ID, metadata(Some(2), ok), Whereabouts::NoLeader),
            ("topic electing", 0, ID, metadata(None, Code::LEADER_NOT_AVAILABLE), Whereabouts::NoLeader),
            ("no such partition", 1, ID, metadata(Some(1), ok), Whereabouts::Unknown),
            ("no such topic", 0, ID, metadata(None, Code::UNKNOWN_TOPIC_OR_PARTITION), Whereabouts::Unknown),
            ("never asked about", 0, ID, Metadata::default(), Whereabouts::Unknown),
        ] {
            assert_eq!(find(&metadata, &TopicPartition::new("t", partition), id), expected, "{case}");
        }
    }

    #[test]
    fn a_topic_made_anew_or_forbidden_is_never_read_on() {
        for (case, id, code, words) in [
            ("made anew", Uuid::from_u128(2), Code::NONE, "was deleted and made anew"),
            ("forbidden", ID, Code::TOPIC_AUTHORIZATION_FAILED, "TOPIC_AUTHORIZATION_FAILED"),
        ] {
            match find(&metadata(Some(1), code), &TopicPartition::new("t", 0), id) {
                Whereabouts::Never(error) => assert!(error.to_string().contains(words), "{case}: {error}"),
                other => panic!("{case}: {other:?}"),
            }
        }
    }
}
