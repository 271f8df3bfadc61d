//! A group's committed offsets, read and set from outside. APIs: OffsetFetch (9), OffsetCommit (8) as nobody's member,
//! which the coordinator accepts only while the group has no members.

use std::collections::BTreeMap;

use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestGroup;
use kafka_protocol::messages::{GroupId, OffsetCommitRequest, OffsetFetchRequest, OffsetFetchResponse};
use kafka_protocol::protocol::StrBytes;

use super::{ask_coordinator, check};
use crate::core::record::TopicPartition;
use crate::kafka::cluster::Cluster;
use crate::kafka::committer::topics_to_commit;
use crate::kafka::error::Error;

/// From this version on one request may ask for several groups (KIP-709).
const SEVERAL_GROUPS_SINCE: i16 = 8;

/// Every offset that the group has committed.
///
/// # Errors
/// [`Error::Broker`] when the coordinator refuses; those of reaching it.
pub fn committed_offsets(cluster: &Cluster, group: &str) -> Result<BTreeMap<TopicPartition, i64>, Error> {
    let group_id = GroupId(StrBytes::from_string(group.into()));
    // Null topics: all of them.
    let single = OffsetFetchRequest::default().with_group_id(group_id.clone()).with_topics(None);
    let one = OffsetFetchRequestGroup::default().with_group_id(group_id).with_topics(None);
    let several = OffsetFetchRequest::default().with_groups(vec![one]);
    ask_coordinator(cluster, group, |connection| {
        let by_group = connection.version::<OffsetFetchRequest>()? >= SEVERAL_GROUPS_SINCE;
        let answer = connection.call(if by_group { &several } else { &single })?;
        let (code, offsets) = read_offsets(answer);
        check(connection, "OffsetFetch", || format!("group {group}"), code, None::<String>)?;
        let mut committed = BTreeMap::new();
        for (partition, code, offset) in offsets {
            check(connection, "OffsetFetch", || partition.to_string(), code, None::<String>)?;
            if offset >= 0 {
                committed.insert(partition, offset);
            }
        }
        Ok(committed)
    })
}

/// The error code of the whole, and of each partition its code and offset.
fn read_offsets(answer: OffsetFetchResponse) -> (i16, Vec<(TopicPartition, i16, i64)>) {
    let mut offsets = Vec::new();
    for topic in &answer.topics {
        for of in &topic.partitions {
            let partition = TopicPartition::new(topic.name.as_str(), of.partition_index);
            offsets.push((partition, of.error_code, of.committed_offset));
        }
    }
    let mut code = answer.error_code;
    for group in answer.groups {
        code = group.error_code;
        for topic in group.topics {
            for of in topic.partitions {
                let partition = TopicPartition::new(topic.name.as_str(), of.partition_index);
                offsets.push((partition, of.error_code, of.committed_offset));
            }
        }
    }
    (code, offsets)
}

/// Sets offsets of a group that has no members; a group that does not exist comes into being.
///
/// # Errors
/// [`Error::Broker`] with `UNKNOWN_MEMBER_ID` when the group has members; the first partition's error otherwise. The
/// partitions before it are set then.
pub fn set_offsets(cluster: &Cluster, group: &str, offsets: &BTreeMap<TopicPartition, i64>) -> Result<(), Error> {
    let request = OffsetCommitRequest::default()
        .with_group_id(GroupId(StrBytes::from_string(group.into())))
        .with_generation_id_or_member_epoch(-1)
        .with_topics(topics_to_commit(offsets, |_| String::new()));
    ask_coordinator(cluster, group, |connection| {
        let answer = connection.call(&request)?;
        for topic in &answer.topics {
            for of in &topic.partitions {
                let subject = || format!("group {group}, {}/{}", topic.name.as_str(), of.partition_index);
                check(connection, "OffsetCommit", subject, of.error_code, None::<String>)?;
            }
        }
        Ok(())
    })
}
