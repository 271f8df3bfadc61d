//! Membership in the consumer protocol: ConsumerGroupHeartbeat (KIP-848).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::consumer_group_heartbeat_request::TopicPartitions as OwnedTopic;
use kafka_protocol::messages::consumer_group_heartbeat_response::{Assignment, TopicPartitions};
use kafka_protocol::messages::{ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::Context;
use crate::broker::Shared;
use crate::broker::group::{Accepted, Beat, IdPartition, TopicSizes};

/// ConsumerGroupHeartbeat (68).
pub fn heartbeat(context: &Context, request: &ConsumerGroupHeartbeatRequest) -> ConsumerGroupHeartbeatResponse {
    let shared = context.shared;
    let refused = |code| ConsumerGroupHeartbeatResponse::default().with_error_code(code);
    if let Some(code) = context.refused() {
        return refused(code);
    }
    if request.group_id.is_empty() || request.member_id.is_empty() {
        return refused(ResponseError::InvalidRequest.code());
    }
    let beat = beat_of(request);
    let outcome = shared.groups.with_or_new(&request.group_id, |group, now| {
        group.consumer_heartbeat(now, shared.group_pace, beat, &topic_sizes(shared))
    });
    match outcome {
        Ok(accepted) => accepted_response(shared, accepted),
        Err(error) => {
            ::log::debug!("embedded broker: a heartbeat of client '{}' gets {error:?}", context.client_id);
            refused(error.code())
        }
    }
}

fn beat_of(request: &ConsumerGroupHeartbeatRequest) -> Beat {
    let partitions = |topic: &OwnedTopic| {
        let id = topic.topic_id;
        topic.partitions.iter().map(move |index| (id, *index)).collect::<Vec<IdPartition>>()
    };
    Beat {
        member_id: request.member_id.to_string(),
        epoch: request.member_epoch,
        instance_id: request.instance_id.as_ref().map(ToString::to_string),
        rebalance_timeout: u64::try_from(request.rebalance_timeout_ms).ok().map(Duration::from_millis),
        subscribed: request
            .subscribed_topic_names
            .as_ref()
            .map(|names| names.iter().map(|name| name.to_string()).collect()),
        assignor: request.server_assignor.as_ref().map(ToString::to_string),
        owned: request.topic_partitions.as_ref().map(|topics| topics.iter().flat_map(partitions).collect()),
    }
}

fn topic_sizes(shared: &Shared) -> TopicSizes {
    let size = |topic: &crate::broker::topics::Topic| (topic.name.clone(), (topic.id, topic.partition_count()));
    shared.topics.all().iter().map(|topic| size(topic)).collect()
}

fn accepted_response(shared: &Shared, accepted: Accepted) -> ConsumerGroupHeartbeatResponse {
    let interval = shared.group_pace.heartbeat_interval.as_millis();
    ConsumerGroupHeartbeatResponse::default()
        .with_member_id(Some(StrBytes::from_string(accepted.member_id)))
        .with_member_epoch(accepted.epoch)
        .with_heartbeat_interval_ms(i32::try_from(interval).unwrap_or(i32::MAX))
        .with_assignment(accepted.assignment.map(|partitions| assignment_of(&partitions)))
}

fn assignment_of(partitions: &BTreeSet<IdPartition>) -> Assignment {
    let mut topics: BTreeMap<Uuid, Vec<i32>> = BTreeMap::new();
    for (id, index) in partitions {
        topics.entry(*id).or_default().push(*index);
    }
    let topic = |(id, indexes)| TopicPartitions::default().with_topic_id(id).with_partitions(indexes);
    Assignment::default().with_topic_partitions(topics.into_iter().map(topic).collect())
}
