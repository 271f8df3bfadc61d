//! The first record at or after an offset: where it stands, its time and the bytes of its batch (Fetch, API key 1). Its
//! time says how old what a group reads next is, and how far a log goes back.
//!
//! A record costs a batch, so little is asked for at first, and the whole of a batch only where the first part of it
//! does not reach the record.

use std::collections::BTreeMap;
use std::sync::Arc;

use kafka_protocol::messages::FetchRequest;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::FetchResponse;
use uuid::Uuid;

use crate::core::record::{Encoded, RecordBuffer, TopicPartition};
use crate::kafka::cluster::{Cluster, Metadata, TopicsWanted, topic_name};
use crate::kafka::error::Error;
use crate::kafka::offsets::Isolation;
use crate::kafka::wire::record_batch::{FetchedRecords, survey};

/// From this version on topics are named by id.
const TOPIC_IDS_SINCE: i16 = 13;
/// What is asked of a partition at first: the header and a few records of most batches.
const FIRST_BYTES: i32 = 16 << 10;
/// What one answer brings at most.
const ANSWER_BYTES_MAX: i32 = 64 << 20;

/// What stands in a log at or after an offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstRecord {
    Found {
        offset: i64,
        /// Milliseconds since the epoch.
        timestamp_ms: i64,
        /// From the beginning of the batch with the offset asked for to the end of that with the record.
        bytes: usize,
    },
    /// No record stands before this offset; the log may go on there.
    NoneBefore(i64),
}

/// One question on its way to its answer.
struct Question {
    offset: i64,
    bytes: i32,
}

/// The times (milliseconds since the epoch) of the first records at or after the offsets. A partition is missing in the
/// answer when there is no such record, or its leader does not tell.
///
/// # Errors
/// As [`first_records`].
pub fn record_timestamps(
    cluster: &Cluster,
    offsets: &BTreeMap<TopicPartition, i64>,
) -> Result<BTreeMap<TopicPartition, i64>, Error> {
    let time = |(partition, first)| match first {
        FirstRecord::Found { timestamp_ms, .. } => Some((partition, timestamp_ms)),
        FirstRecord::NoneBefore(_) => None,
    };
    Ok(first_records(cluster, offsets)?.into_iter().filter_map(time).collect())
}

/// The first records at or after the offsets. A partition is missing in the answer when its leader does not tell.
///
/// # Errors
/// [`Error::NoBroker`] when the metadata cannot be had.
pub fn first_records(
    cluster: &Cluster,
    offsets: &BTreeMap<TopicPartition, i64>,
) -> Result<BTreeMap<TopicPartition, FirstRecord>, Error> {
    let mut topics: Vec<_> = offsets.keys().map(|partition| partition.topic.clone()).collect();
    topics.dedup();
    let mut metadata = cluster.metadata();
    if !topics.iter().all(|topic| metadata.topics.contains_key(topic)) {
        metadata = cluster.refresh(TopicsWanted::Names(&topics))?;
    }
    let mut by_leader: BTreeMap<i32, BTreeMap<TopicPartition, Question>> = BTreeMap::new();
    for (partition, &offset) in offsets {
        if let Some(leader) = metadata.leader(&partition.topic, partition.partition) {
            let question = Question { offset, bytes: FIRST_BYTES };
            by_leader.entry(leader).or_default().insert(partition.clone(), question);
        }
    }
    let mut found = BTreeMap::new();
    for (leader, questions) in by_leader {
        if let Err(error) = ask_leader(cluster, &metadata, leader, questions, &mut found) {
            log::debug!("some records are not known: {error}");
        }
    }
    Ok(found)
}

fn ask_leader(
    cluster: &Cluster,
    metadata: &Metadata,
    leader: i32,
    mut questions: BTreeMap<TopicPartition, Question>,
    found: &mut BTreeMap<TopicPartition, FirstRecord>,
) -> Result<(), Error> {
    let mut connection = cluster.connect_to(leader)?;
    let by_id = connection.version::<FetchRequest>()? >= TOPIC_IDS_SINCE;
    while !questions.is_empty() {
        let answer = connection.call(&request(metadata, &questions, by_id))?;
        let mut open = BTreeMap::new();
        for (partition, records) in read(metadata, answer, by_id) {
            let Some(question) = questions.remove(&partition) else { continue };
            match look(&records, question) {
                Look::Seen(first) => drop(found.insert(partition, first)),
                Look::AskForMore(question) => drop(open.insert(partition, question)),
                Look::Corrupt => {}
            }
        }
        // Whom the answer did not mention at all is not asked again.
        questions = open;
    }
    Ok(())
}

enum Look {
    Seen(FirstRecord),
    AskForMore(Question),
    Corrupt,
}

fn look(records: &Arc<FetchedRecords>, question: Question) -> Look {
    let mut decoded = RecordBuffer::default();
    let mut decoder = Arc::clone(records).decoder(question.offset);
    while let Some(batch) = decoder.decode(&mut decoded) {
        if !decoded.is_empty() {
            let (record, bytes) = (decoded.get(0), records.bytes.len() - decoder.bytes_left());
            return Look::Seen(FirstRecord::Found { offset: record.offset, timestamp_ms: record.timestamp_ms, bytes });
        }
        if batch.is_err() {
            return Look::Corrupt;
        }
    }
    let Ok(survey) = survey(&records.bytes, question.offset) else { return Look::Corrupt };
    match survey.cut_off_bytes.and_then(|bytes| i32::try_from(records.bytes.len() + bytes).ok()) {
        Some(bytes) if bytes > question.bytes => Look::AskForMore(Question { bytes, ..question }),
        _ => Look::Seen(FirstRecord::NoneBefore(survey.next_offset)),
    }
}

fn request(metadata: &Metadata, questions: &BTreeMap<TopicPartition, Question>, by_id: bool) -> FetchRequest {
    let mut topics: BTreeMap<&str, Vec<FetchPartition>> = BTreeMap::new();
    for (partition, question) in questions {
        let asked = FetchPartition::default()
            .with_partition(partition.partition)
            .with_current_leader_epoch(-1)
            .with_fetch_offset(question.offset)
            .with_last_fetched_epoch(-1)
            .with_log_start_offset(-1)
            .with_partition_max_bytes(question.bytes);
        topics.entry(&partition.topic).or_default().push(asked);
    }
    let topic = |(name, partitions): (&str, _)| {
        let topic = FetchTopic::default().with_partitions(partitions);
        match metadata.topics.get(name).filter(|_| by_id) {
            Some(known) => topic.with_topic_id(known.id),
            None => topic.with_topic(topic_name(name)),
        }
    };
    FetchRequest::default()
        .with_replica_id((-1).into())
        .with_max_wait_ms(0)
        .with_min_bytes(0)
        .with_max_bytes(ANSWER_BYTES_MAX)
        .with_isolation_level(Isolation::ReadUncommitted.level())
        .with_session_epoch(-1)
        .with_topics(topics.into_iter().map(topic).collect())
}

fn read(metadata: &Metadata, answer: FetchResponse, by_id: bool) -> Vec<(TopicPartition, Arc<FetchedRecords>)> {
    let name_of = |id: Uuid| metadata.topics.iter().find(|(_, topic)| topic.id == id).map(|(name, _)| name.clone());
    let mut records = Vec::new();
    for topic in answer.responses {
        let name = if by_id { name_of(topic.topic_id) } else { Some(topic.topic.as_str().into()) };
        let Some(name) = name else { continue };
        for data in topic.partitions {
            if data.error_code != 0 {
                continue;
            }
            let bytes = data.records.unwrap_or_default();
            let fetched = FetchedRecords { bytes, aborted: vec![], isolation: Isolation::ReadUncommitted, held: None };
            records.push((TopicPartition::new(name.clone(), data.partition_index), Arc::new(fetched)));
        }
    }
    records
}
