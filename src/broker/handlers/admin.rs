//! What administrators do: make, grow, delete and describe topics, delete records.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::create_topics_response::CreatableTopicResult;
use kafka_protocol::messages::delete_records_request::DeleteRecordsPartition;
use kafka_protocol::messages::delete_records_response::{DeleteRecordsPartitionResult, DeleteRecordsTopicResult};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::{DescribeConfigsResourceResult, DescribeConfigsResult};
use kafka_protocol::messages::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreateTopicsRequest, CreateTopicsResponse, DeleteRecordsRequest,
    DeleteRecordsResponse, DeleteTopicsRequest, DeleteTopicsResponse, DescribeConfigsRequest, DescribeConfigsResponse,
};
use kafka_protocol::protocol::StrBytes;

use super::{Context, text};
use crate::broker::topics::TopicError;

/// "As the broker likes" for partition count and replication factor (KIP-464).
const BROKER_DEFAULT: i32 = -1;
const TOPIC_RESOURCE: i8 = 2;
/// Deletes up to the end of the log.
const HIGH_WATERMARK: i64 = -1;

/// CreateTopics (19).
pub fn create_topics(context: &Context, request: CreateTopicsRequest) -> CreateTopicsResponse {
    let create = |topic: CreatableTopic| create_topic(context, topic, request.validate_only);
    CreateTopicsResponse::default().with_topics(request.topics.into_iter().map(create).collect())
}

fn create_topic(context: &Context, topic: CreatableTopic, validate_only: bool) -> CreatableTopicResult {
    let result = CreatableTopicResult::default().with_name(topic.name.clone()).with_configs(Some(Vec::new()));
    let refused = |code: i16, why: &str| {
        let result = result.clone().with_num_partitions(-1).with_replication_factor(-1);
        result.with_error_code(code).with_error_message(Some(text(why)))
    };
    if let Some(code) = context.refused() {
        return refused(code, "scripted fault");
    }
    if !matches!(i32::from(topic.replication_factor), BROKER_DEFAULT | 1) {
        return refused(ResponseError::InvalidReplicationFactor.code(), "this broker is alone: the factor is 1");
    }
    let partitions = match topic.num_partitions {
        BROKER_DEFAULT if !topic.assignments.is_empty() => i32::try_from(topic.assignments.len()).unwrap_or(i32::MAX),
        BROKER_DEFAULT => context.shared.auto_create_partitions.unwrap_or(1),
        count => count,
    };
    let topics = &context.shared.topics;
    let created = match validate_only {
        true => topics.check(&topic.name, partitions).map(|()| None),
        false => topics.create(&topic.name, partitions).map(Some),
    };
    match created {
        Ok(created) => result
            .with_topic_id(created.map(|topic| topic.id).unwrap_or_default())
            .with_num_partitions(partitions)
            .with_replication_factor(1),
        Err(error) => refused(error.code(), &error.to_string()),
    }
}

/// DeleteTopics (20), by name or, from version 6 on, by id.
pub fn delete_topics(context: &Context, request: DeleteTopicsRequest) -> DeleteTopicsResponse {
    let named = |name| DeleteTopicState::default().with_name(Some(name));
    let asked = match context.version >= 6 {
        true => request.topics,
        false => request.topic_names.into_iter().map(named).collect(),
    };
    DeleteTopicsResponse::default()
        .with_responses(asked.into_iter().map(|topic| delete_topic(context, topic)).collect())
}

fn delete_topic(context: &Context, asked: DeleteTopicState) -> DeletableTopicResult {
    let topics = &context.shared.topics;
    let result = DeletableTopicResult::default().with_name(asked.name.clone()).with_topic_id(asked.topic_id);
    if let Some(code) = context.refused() {
        return result.with_error_code(code);
    }
    let name = match asked.name {
        Some(name) => Some(name.to_string()),
        None => topics.get_by_id(asked.topic_id).map(|topic| topic.name.clone()),
    };
    let Some(name) = name else { return result.with_error_code(ResponseError::UnknownTopicId.code()) };
    match topics.delete(&name) {
        Ok(topic) => {
            context.shared.groups.forget_topic(&name);
            result.with_name(Some(text(&name).into())).with_topic_id(topic.id)
        }
        Err(error) => result.with_error_code(error.code()).with_error_message(Some(text(&error.to_string()))),
    }
}

/// CreatePartitions (37).
pub fn create_partitions(context: &Context, request: CreatePartitionsRequest) -> CreatePartitionsResponse {
    let grow = |topic: CreatePartitionsTopic| {
        let result = CreatePartitionsTopicResult::default().with_name(topic.name.clone());
        if let Some(code) = context.refused() {
            return result.with_error_code(code);
        }
        let grown: Result<(), TopicError> = match request.validate_only {
            true => Ok(()),
            false => context.shared.topics.grow(&topic.name, topic.count),
        };
        match grown {
            Ok(()) => result,
            Err(error) => result.with_error_code(error.code()).with_error_message(Some(text(&error.to_string()))),
        }
    };
    CreatePartitionsResponse::default().with_results(request.topics.into_iter().map(grow).collect())
}

/// DeleteRecords (21): moves the starts of logs.
pub fn delete_records(context: &Context, request: DeleteRecordsRequest) -> DeleteRecordsResponse {
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let delete = |asked: &DeleteRecordsPartition| {
            let result = DeleteRecordsPartitionResult::default().with_partition_index(asked.partition_index);
            match delete_before(context, &topic.name, asked) {
                Ok(start) => result.with_low_watermark(start),
                Err(code) => result.with_low_watermark(-1).with_error_code(code),
            }
        };
        let partitions = topic.partitions.iter().map(delete).collect();
        topics.push(DeleteRecordsTopicResult::default().with_name(topic.name.clone()).with_partitions(partitions));
    }
    DeleteRecordsResponse::default().with_topics(topics)
}

fn delete_before(context: &Context, topic: &str, asked: &DeleteRecordsPartition) -> Result<i64, i16> {
    if let Some(code) = context.refused_at(asked.partition_index) {
        return Err(code);
    }
    let found = context.shared.topics.get(topic).and_then(|topic| topic.partition(asked.partition_index));
    let log = found.ok_or(ResponseError::UnknownTopicOrPartition.code())?;
    let mut log = log.lock();
    let before = if asked.offset == HIGH_WATERMARK { log.end() } else { asked.offset };
    if before < 0 || before > log.end() {
        return Err(ResponseError::OffsetOutOfRange.code());
    }
    log.delete_before(before);
    Ok(log.start())
}

/// DescribeConfigs (32): the few things that are true of every topic here.
pub fn describe_configs(context: &Context, request: DescribeConfigsRequest) -> DescribeConfigsResponse {
    let describe = |resource: DescribeConfigsResource| {
        let result = DescribeConfigsResult::default()
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name.clone());
        let is_topic = resource.resource_type == TOPIC_RESOURCE;
        if let Some(code) = context.refused() {
            return result.with_error_code(code);
        }
        if is_topic && context.shared.topics.get(&resource.resource_name).is_none() {
            return result.with_error_code(ResponseError::UnknownTopicOrPartition.code());
        }
        let wanted =
            |name: &str| resource.configuration_keys.as_ref().is_none_or(|keys| keys.iter().any(|key| **key == *name));
        let configs = [("cleanup.policy", "delete"), ("message.timestamp.type", "CreateTime")];
        let configs =
            configs.into_iter().filter(|(name, _)| is_topic && wanted(name)).map(|(name, value)| config(name, value));
        result.with_configs(configs.collect())
    };
    DescribeConfigsResponse::default().with_results(request.resources.into_iter().map(describe).collect())
}

fn config(name: &'static str, value: &'static str) -> DescribeConfigsResourceResult {
    /// The value is the broker's default.
    const DEFAULT_CONFIG: i8 = 5;
    DescribeConfigsResourceResult::default()
        .with_name(StrBytes::from_static_str(name))
        .with_value(Some(StrBytes::from_static_str(value)))
        .with_read_only(true)
        .with_config_source(DEFAULT_CONFIG)
}
