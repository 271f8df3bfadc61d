//! A group's positions: OffsetCommit and OffsetFetch.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};
use kafka_protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions, OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
};
use kafka_protocol::messages::{
    OffsetCommitRequest, OffsetCommitResponse, OffsetFetchRequest, OffsetFetchResponse, TopicName,
};

use super::group::{caller, code_of};
use super::{Context, text};
use crate::broker::group::{CommittedOffset, Group};

/// From this version on one request may ask for several groups (KIP-709).
const SEVERAL_GROUPS_VERSION: i16 = 8;

/// Positions of a group, grouped by topic; `None` is a partition without one.
type Positions = Vec<(TopicName, Vec<(i32, Option<CommittedOffset>)>)>;

/// OffsetCommit (8): all partitions or, when the caller is no member of this generation, none.
pub fn commit(context: &Context, request: OffsetCommitRequest) -> OffsetCommitResponse {
    let caller = caller(&request.member_id, request.group_instance_id.as_ref(), request.generation_id_or_member_epoch);
    let store = |group: &mut Group, now| {
        let refused = group.may_commit(now, &caller).err().map(|error| error.code());
        request.topics.iter().map(|topic| commit_topic(context, group, topic, refused)).collect()
    };
    // Only a consumer without a group of members may bring a group into being by committing.
    let groups = &context.shared.groups;
    let topics = match caller.generation < 0 {
        true => groups.with_or_new(&request.group_id, store),
        false => groups.with(&request.group_id, store).unwrap_or_else(|| {
            let refused = Some(code_of(None, ResponseError::IllegalGeneration));
            let mut nowhere = Group::default();
            request.topics.iter().map(|topic| commit_topic(context, &mut nowhere, topic, refused)).collect()
        }),
    };
    OffsetCommitResponse::default().with_topics(topics)
}

fn commit_topic(
    context: &Context,
    group: &mut Group,
    topic: &OffsetCommitRequestTopic,
    refused: Option<i16>,
) -> OffsetCommitResponseTopic {
    let known = context.shared.topics.get(&topic.name);
    let mut commit_partition = |asked: &OffsetCommitRequestPartition| {
        let partition = asked.partition_index;
        let exists = known.as_ref().is_some_and(|topic| topic.partition(partition).is_some());
        let unknown = (!exists).then(|| ResponseError::UnknownTopicOrPartition.code());
        let error_code = context.refused_at(partition).or(refused).or(unknown).unwrap_or(0);
        if error_code == 0 {
            group.offsets.insert((topic.name.to_string(), partition), committed(asked));
        }
        OffsetCommitResponsePartition::default().with_partition_index(partition).with_error_code(error_code)
    };
    let partitions = topic.partitions.iter().map(&mut commit_partition).collect();
    OffsetCommitResponseTopic::default().with_name(topic.name.clone()).with_partitions(partitions)
}

fn committed(asked: &OffsetCommitRequestPartition) -> CommittedOffset {
    CommittedOffset {
        offset: asked.committed_offset,
        leader_epoch: asked.committed_leader_epoch,
        metadata: asked.committed_metadata.as_ref().map(ToString::to_string),
    }
}

/// OffsetFetch (9): the positions asked for, or all there are.
pub fn fetch(context: &Context, request: OffsetFetchRequest) -> OffsetFetchResponse {
    let error_code = context.refused().unwrap_or(0);
    if context.version >= SEVERAL_GROUPS_VERSION {
        let groups = request.groups.into_iter().map(|asked| fetch_group(context, asked, error_code)).collect();
        return OffsetFetchResponse::default().with_groups(groups);
    }
    let asked = request
        .topics
        .filter(|topics| context.version >= 2 || !topics.is_empty())
        .map(|topics| topics.into_iter().map(|topic| (topic.name, topic.partition_indexes)).collect());
    let topics = positions(context, &request.group_id, asked).into_iter().map(|(name, partitions)| {
        let partitions = partitions.into_iter().map(|(partition, position)| {
            let (offset, leader_epoch, metadata) = fields(position);
            OffsetFetchResponsePartition::default()
                .with_partition_index(partition)
                .with_committed_offset(offset)
                .with_committed_leader_epoch(leader_epoch)
                .with_metadata(Some(text(&metadata)))
                .with_error_code(error_code)
        });
        OffsetFetchResponseTopic::default().with_name(name).with_partitions(partitions.collect())
    });
    // The error of the request as a whole came with version 2.
    let whole = if context.version >= 2 { error_code } else { 0 };
    OffsetFetchResponse::default().with_topics(topics.collect()).with_error_code(whole)
}

fn fetch_group(context: &Context, asked: OffsetFetchRequestGroup, error_code: i16) -> OffsetFetchResponseGroup {
    let who = caller(asked.member_id.as_deref().unwrap_or_default(), None, asked.member_epoch);
    let allowed = context.shared.groups.with(&asked.group_id, |group, _| group.may_read_offsets(&who));
    let error_code =
        if error_code == 0 { code_of(allowed.or(Some(Ok(()))), ResponseError::GroupIdNotFound) } else { error_code };
    let named = |topic: OffsetFetchRequestTopics| (topic.name, topic.partition_indexes);
    let topics = asked.topics.map(|topics| topics.into_iter().map(named).collect());
    let topics = positions(context, &asked.group_id, topics).into_iter().map(|(name, partitions)| {
        let partitions = partitions.into_iter().map(|(partition, position)| {
            let (offset, leader_epoch, metadata) = fields(position);
            OffsetFetchResponsePartitions::default()
                .with_partition_index(partition)
                .with_committed_offset(offset)
                .with_committed_leader_epoch(leader_epoch)
                .with_metadata(Some(text(&metadata)))
        });
        OffsetFetchResponseTopics::default().with_name(name).with_partitions(partitions.collect())
    });
    let topics = if error_code == 0 { topics.collect() } else { Vec::new() };
    OffsetFetchResponseGroup::default().with_group_id(asked.group_id).with_topics(topics).with_error_code(error_code)
}

fn positions(context: &Context, group_id: &str, asked: Option<Vec<(TopicName, Vec<i32>)>>) -> Positions {
    let look_up = |group: &Group| match asked.clone() {
        None => all_positions(group),
        Some(asked) => asked
            .into_iter()
            .map(|(name, partitions)| {
                let position = |partition| (partition, group.offsets.get(&(name.to_string(), partition)).cloned());
                (name.clone(), partitions.into_iter().map(position).collect())
            })
            .collect(),
    };
    let known = context.shared.groups.with(group_id, |group, _| look_up(group));
    known.unwrap_or_else(|| look_up(&Group::default()))
}

fn all_positions(group: &Group) -> Positions {
    let mut topics: Positions = Vec::new();
    for ((name, partition), position) in &group.offsets {
        let entry = (*partition, Some(position.clone()));
        match topics.last_mut().filter(|(last, _)| last.as_str() == name) {
            Some((_, partitions)) => partitions.push(entry),
            None => topics.push((text(name).into(), vec![entry])),
        }
    }
    topics
}

/// Offset, leader epoch and metadata on the wire, where −1 means none.
fn fields(position: Option<CommittedOffset>) -> (i64, i32, String) {
    match position {
        Some(position) => (position.offset, position.leader_epoch, position.metadata.unwrap_or_default()),
        None => (-1, -1, String::new()),
    }
}
