//! Records in: Produce and InitProducerId (KIP-98, idempotent producers without transactions).

use std::sync::atomic::Ordering;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use kafka_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse, ProduceRequest, ProduceResponse};

use super::{Answer, Context, text};
use crate::broker::log::AppendFault;

/// The first version whose records are in message format v2.
const FIRST_VERSION: i16 = 3;

/// Produce (0): appends each partition's batch. With one node every kind of acknowledgement means the same.
pub fn produce(context: &Context, request: ProduceRequest) -> Answer {
    if context.version < FIRST_VERSION {
        return Answer::Hangup(format!("Produce version {} is only announced, not served", context.version));
    }
    let acks = request.acks;
    let bad_acks = (!(-1..=1).contains(&acks)).then(|| ResponseError::InvalidRequiredAcks.code());
    let responses: Vec<_> =
        request.topic_data.into_iter().map(|topic| append_topic(context, topic, bad_acks)).collect();
    context.shared.topics.ring();
    if acks != 0 {
        return Answer::of(ProduceResponse::default().with_responses(responses));
    }
    // Without answers the only way to tell of an error is to hang up, as Kafka does.
    match responses.iter().flat_map(|topic| &topic.partition_responses).find(|response| response.error_code != 0) {
        Some(failed) => Answer::Hangup(format!("Produce with acks=0 failed with error {}", failed.error_code)),
        None => Answer::Nothing,
    }
}

fn append_topic(context: &Context, topic: TopicProduceData, refused: Option<i16>) -> TopicProduceResponse {
    let append = |data: PartitionProduceData| {
        let response = PartitionProduceResponse::default().with_index(data.index);
        match refused {
            Some(code) => response.with_error_code(code).with_base_offset(-1),
            None => append_partition(context, &topic.name, data, response),
        }
    };
    let responses = topic.partition_data.into_iter().map(append).collect();
    TopicProduceResponse::default().with_name(topic.name.clone()).with_partition_responses(responses)
}

fn append_partition(
    context: &Context,
    topic: &str,
    data: PartitionProduceData,
    response: PartitionProduceResponse,
) -> PartitionProduceResponse {
    let partition = data.index;
    let refused = |code: i16| response.clone().with_error_code(code).with_base_offset(-1);
    if let Some(code) = context.refused_at(partition) {
        return refused(code);
    }
    let Some(log) = context.shared.topics.get(topic).and_then(|topic| topic.partition(partition)) else {
        return refused(ResponseError::UnknownTopicOrPartition.code());
    };
    let batch: Bytes = data.records.unwrap_or_default();
    let mut log = log.lock();
    match log.append(&batch) {
        Ok(base_offset) => response.with_base_offset(base_offset).with_log_start_offset(log.start()),
        Err(fault) => {
            log_refusal(context, topic, partition, fault);
            refused(fault.code()).with_error_message(Some(text(&fault.to_string())))
        }
    }
}

fn log_refusal(context: &Context, topic: &str, partition: i32, fault: AppendFault) {
    let client = context.client_id;
    ::log::warn!("embedded broker: a batch of client '{client}' for {topic}/{partition} is refused: {fault}");
}

/// InitProducerId (22): a new id for an idempotent producer, or the next epoch of one that has an id.
pub fn init_producer_id(context: &Context, request: &InitProducerIdRequest) -> InitProducerIdResponse {
    let unsupported = request.transactional_id.is_some().then(|| ResponseError::UnsupportedVersion.code());
    let response = InitProducerIdResponse::default();
    if let Some(code) = context.refused().or(unsupported) {
        return response.with_error_code(code).with_producer_id((-1).into()).with_producer_epoch(-1);
    }
    if request.producer_id.0 >= 0 && (0..i16::MAX).contains(&request.producer_epoch) {
        return response.with_producer_id(request.producer_id).with_producer_epoch(request.producer_epoch + 1);
    }
    let id = context.shared.next_producer_id.fetch_add(1, Ordering::Relaxed);
    response.with_producer_id(id.into()).with_producer_epoch(0)
}
