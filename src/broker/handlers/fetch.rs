//! Records out: Fetch with its long poll, ListOffsets, OffsetForLeaderEpoch.

use std::cmp::Ordering;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::{
    EpochEndOffset as DivergingEpoch, FetchableTopicResponse, PartitionData,
};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use kafka_protocol::messages::offset_for_leader_epoch_response::{EpochEndOffset, OffsetForLeaderTopicResult};
use kafka_protocol::messages::{
    FetchRequest, FetchResponse, ListOffsetsRequest, ListOffsetsResponse, OffsetForLeaderEpochRequest,
    OffsetForLeaderEpochResponse,
};
use parking_lot::Mutex;

use super::Context;
use crate::broker::log::{PartitionLog, TimedOffset};
use crate::door;

/// From this version on topics are named by id.
const TOPIC_ID_VERSION: i16 = 13;
const READ_COMMITTED: i8 = 1;

/// Special timestamps of ListOffsets.
const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;

type Log = Arc<Mutex<PartitionLog>>;

/// Fetch (1): waits until there are `min_bytes` or something to complain of, at most `max_wait_ms`.
pub fn fetch(context: &Context, request: FetchRequest) -> FetchResponse {
    let shared = context.shared;
    let (session, request) = match shared.fetch_sessions.enter(request) {
        Ok(entered) => entered,
        Err(error) => return FetchResponse::default().with_error_code(error.code()),
    };
    let deadline = door::now() + Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0));
    let min_bytes = usize::try_from(request.min_bytes).unwrap_or(0);
    loop {
        let seen = shared.topics.rings();
        let is_enough = shared.stop.is_raised() || has_enough(context, &request, min_bytes);
        if is_enough || !shared.topics.wait_for_ring(seen, deadline) {
            return shared.fetch_sessions.leave(session, read_all(context, &request));
        }
    }
}

/// Whether an answer is due: enough bytes, or an error that the client must hear of.
fn has_enough(context: &Context, request: &FetchRequest, min_bytes: usize) -> bool {
    let mut bytes = 0;
    for (topic, asked) in
        request.topics.iter().flat_map(|topic| topic.partitions.iter().map(move |asked| (topic, asked)))
    {
        let Ok(log) = log_for(context, topic, asked) else { return true };
        let log = log.lock();
        let is_outside = asked.fetch_offset < log.start() || asked.fetch_offset > log.end();
        if is_outside || divergence(&log, asked).is_some() {
            return true;
        }
        bytes += log.available_bytes(asked.fetch_offset, min_bytes);
        if bytes >= min_bytes {
            return true;
        }
    }
    bytes >= min_bytes
}

fn log_for(context: &Context, topic: &FetchTopic, asked: &FetchPartition) -> Result<Log, i16> {
    if let Some(code) = context.refused_at(asked.partition) {
        return Err(code);
    }
    let by_id = context.version >= TOPIC_ID_VERSION;
    let topics = &context.shared.topics;
    let found = if by_id { topics.get_by_id(topic.topic_id) } else { topics.get(&topic.topic) };
    let unknown = if by_id { ResponseError::UnknownTopicId } else { ResponseError::UnknownTopicOrPartition };
    let topic = found.ok_or(unknown.code())?;
    let log = topic.partition(asked.partition).ok_or(ResponseError::UnknownTopicOrPartition.code())?;
    check_epoch(&log.lock(), asked.current_leader_epoch)?;
    Ok(log)
}

/// Clients that know of another leader epoch (−1: of none) are told so.
fn check_epoch(log: &PartitionLog, leader_epoch: i32) -> Result<(), i16> {
    match leader_epoch.cmp(&log.leader_epoch()) {
        _ if leader_epoch == -1 => Ok(()),
        Ordering::Equal => Ok(()),
        Ordering::Greater => Err(ResponseError::UnknownLeaderEpoch.code()),
        Ordering::Less => Err(ResponseError::FencedLeaderEpoch.code()),
    }
}

/// Where the log and what the client has read part (KIP-320): it read records of an epoch that ends before that here.
fn divergence(log: &PartitionLog, asked: &FetchPartition) -> Option<DivergingEpoch> {
    let end = log.end_of_epoch(asked.last_fetched_epoch).filter(|end| *end < asked.fetch_offset)?;
    Some(DivergingEpoch::default().with_epoch(asked.last_fetched_epoch).with_end_offset(end))
}

fn read_all(context: &Context, request: &FetchRequest) -> FetchResponse {
    let mut left_bytes = usize::try_from(request.max_bytes).unwrap_or(0);
    let mut is_empty = true;
    let mut read = |topic: &FetchTopic, asked: &FetchPartition| {
        let max_bytes = left_bytes.min(usize::try_from(asked.partition_max_bytes).unwrap_or(0));
        let mut data = read_one(context, topic, asked, max_bytes, is_empty);
        let bytes = data.records.as_ref().map_or(0, Bytes::len);
        left_bytes = left_bytes.saturating_sub(bytes);
        is_empty &= bytes == 0;
        if request.isolation_level != READ_COMMITTED {
            data.aborted_transactions = None;
        }
        data
    };
    let mut responses = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        let partitions = topic.partitions.iter().map(|asked| read(topic, asked)).collect();
        responses.push(
            FetchableTopicResponse::default()
                .with_topic(topic.topic.clone())
                .with_topic_id(topic.topic_id)
                .with_partitions(partitions),
        );
    }
    FetchResponse::default().with_responses(responses)
}

fn read_one(
    context: &Context,
    topic: &FetchTopic,
    asked: &FetchPartition,
    max_bytes: usize,
    at_least_one: bool,
) -> PartitionData {
    let data = PartitionData::default().with_partition_index(asked.partition);
    let log = match log_for(context, topic, asked) {
        Ok(log) => log,
        Err(code) => return data.with_error_code(code).with_high_watermark(-1),
    };
    let log = log.lock();
    let (start, end) = (log.start(), log.end());
    if let Some(diverging) = divergence(&log, asked) {
        return data.with_diverging_epoch(diverging).with_high_watermark(end).with_log_start_offset(start);
    }
    let slices = log.read(asked.fetch_offset, max_bytes, at_least_one);
    drop(log);
    let data = data.with_high_watermark(end).with_last_stable_offset(end).with_log_start_offset(start);
    match slices {
        Some(slices) => data.with_records(Some(concatenated(slices))),
        None => data.with_error_code(ResponseError::OffsetOutOfRange.code()).with_high_watermark(-1),
    }
}

fn concatenated(mut slices: Vec<Bytes>) -> Bytes {
    if slices.len() <= 1 {
        return slices.pop().unwrap_or_default();
    }
    let mut all = BytesMut::with_capacity(slices.iter().map(Bytes::len).sum());
    slices.iter().for_each(|slice| all.extend_from_slice(slice));
    all.freeze()
}

/// ListOffsets (2): the log's start and end, or an offset by time.
pub fn list_offsets(context: &Context, request: ListOffsetsRequest) -> ListOffsetsResponse {
    let topic = |topic: ListOffsetsTopic| {
        let partitions = topic.partitions.iter().map(|asked| list_offset(context, &topic.name, asked)).collect();
        ListOffsetsTopicResponse::default().with_name(topic.name.clone()).with_partitions(partitions)
    };
    ListOffsetsResponse::default().with_topics(request.topics.into_iter().map(topic).collect())
}

fn list_offset(context: &Context, topic: &str, asked: &ListOffsetsPartition) -> ListOffsetsPartitionResponse {
    let response = ListOffsetsPartitionResponse::default().with_partition_index(asked.partition_index);
    let log = match named_log(context, topic, asked.partition_index, asked.current_leader_epoch) {
        Ok(log) => log,
        Err(code) => return response.with_error_code(code).with_offset(-1).with_timestamp(-1),
    };
    let log = log.lock();
    let bound = |offset| Some(TimedOffset { offset, timestamp_ms: -1 });
    let found = match asked.timestamp {
        LATEST => bound(log.end()),
        EARLIEST | EARLIEST_LOCAL => bound(log.start()),
        MAX_TIMESTAMP => log.offset_of_max_timestamp(),
        timestamp_ms if timestamp_ms >= 0 => log.offset_at(timestamp_ms),
        // What is left asks for tiered storage, of which there is none.
        _ => None,
    };
    match found {
        Some(at) => {
            // Versions before 4 have no place for an epoch.
            let leader_epoch = if context.version >= 4 { log.leader_epoch() } else { -1 };
            response.with_offset(at.offset).with_timestamp(at.timestamp_ms).with_leader_epoch(leader_epoch)
        }
        None => response.with_offset(-1).with_timestamp(-1),
    }
}

fn named_log(context: &Context, topic: &str, partition: i32, leader_epoch: i32) -> Result<Log, i16> {
    if let Some(code) = context.refused_at(partition) {
        return Err(code);
    }
    let log = context.shared.topics.get(topic).and_then(|topic| topic.partition(partition));
    let log = log.ok_or(ResponseError::UnknownTopicOrPartition.code())?;
    check_epoch(&log.lock(), leader_epoch)?;
    Ok(log)
}

/// OffsetForLeaderEpoch (23): where the records of an epoch end.
pub fn offset_for_leader_epoch(
    context: &Context,
    request: OffsetForLeaderEpochRequest,
) -> OffsetForLeaderEpochResponse {
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let end_of = |asked: &kafka_protocol::messages::offset_for_leader_epoch_request::OffsetForLeaderPartition| {
            let end = EpochEndOffset::default().with_partition(asked.partition);
            match named_log(context, &topic.topic, asked.partition, asked.current_leader_epoch) {
                Ok(log) => match log.lock().end_of_epoch(asked.leader_epoch) {
                    Some(offset) => end.with_leader_epoch(asked.leader_epoch).with_end_offset(offset),
                    None => end.with_leader_epoch(-1).with_end_offset(-1),
                },
                Err(code) => end.with_error_code(code),
            }
        };
        let partitions = topic.partitions.iter().map(end_of).collect();
        topics.push(OffsetForLeaderTopicResult::default().with_topic(topic.topic.clone()).with_partitions(partitions));
    }
    OffsetForLeaderEpochResponse::default().with_topics(topics)
}
