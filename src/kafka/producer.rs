//! A small synchronous producer, for tools, tests and dead letters.
//!
//! It has no thread: [`send`](Producer::send) fills a batch per partition and now and then hands full ones to the
//! brokers; [`flush`](Producer::flush) hands over the rest and waits. Batches go out in rounds. A round takes at most one
//! batch of each partition, one request per leader, and its answers are awaited before the next round; meanwhile the
//! caller fills the next batches. So the order within a partition holds through retries.
//!
//! Always `acks=all`. Without an idempotent producer id a batch whose answer was lost is written again: delivery is at
//! least once. API: Produce (0).

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_protocol::messages::ProduceRequest;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response::{PartitionProduceResponse, ProduceResponse};
use log::{debug, warn};

use super::cluster::{Cluster, TopicsWanted, topic_name};
use super::connection::{Connection, FreshFrames, InFlight};
use super::error::{Code, Error};
use super::wire::builder::RecordBatchBuilder;
use super::wire::compression::Codec;
use crate::core::record::TopicPartition;
use crate::door;

/// How batches are made and how long they are tried.
#[derive(Clone, Debug)]
pub struct ProducerOptions {
    pub compression: Codec,
    /// How long a batch may wait for more records. It is looked at when a record is sent, since there is no thread.
    pub linger: Duration,
    /// A batch is full when its records take as much, before compression. Below the topic's `max.message.bytes`.
    pub batch_bytes: usize,
    /// How long a batch is tried again, counted from when it was closed.
    pub delivery_timeout: Duration,
}

impl Default for ProducerOptions {
    fn default() -> Self {
        Self {
            compression: Codec::None,
            linger: Duration::from_millis(100),
            batch_bytes: 512 << 10,
            delivery_timeout: Duration::from_secs(120),
        }
    }
}

/// A batch that the brokers have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acknowledged {
    pub partition: TopicPartition,
    /// The first record's offset; the others follow without gaps.
    pub base_offset: i64,
    pub record_count: usize,
}

/// Writes records to topics. One thread owns it.
///
/// Records not flushed when it is dropped are lost: call [`flush`](Self::flush).
pub struct Producer {
    cluster: Cluster,
    options: ProducerOptions,
    topics: HashMap<Arc<str>, TopicQueues>,
    connections: BTreeMap<i32, Connection>,
    in_flight: Vec<Request>,
    acknowledged: Vec<Acknowledged>,
    /// Bytes of closed batches that wait for a round.
    closed_bytes: usize,
    /// When the last round went out.
    last_round: Instant,
}

struct TopicQueues {
    partitions: Vec<PartitionQueue>,
    /// The partition that takes records without a key until its batch is full.
    sticky: usize,
}

#[derive(Default)]
struct PartitionQueue {
    open: RecordBatchBuilder,
    closed: VecDeque<ClosedBatch>,
}

struct ClosedBatch {
    bytes: Bytes,
    record_count: usize,
    give_up_at: Instant,
}

/// One leader's part of a round.
struct Request {
    node: i32,
    in_flight: InFlight,
    batches: Vec<(TopicPartition, ClosedBatch)>,
}

/// A round begins when this many batches' worth of bytes are closed, so that requests carry several partitions.
const BATCHES_PER_ROUND: usize = 8;

/// How long a topic that nobody knows may still appear: it may have been created a moment ago.
const NEW_TOPIC_PATIENCE: Duration = Duration::from_secs(5);

impl Producer {
    /// A producer for `cluster`. Connections are opened when they are needed.
    pub fn new(cluster: Cluster, options: ProducerOptions) -> Self {
        Self {
            cluster,
            options,
            topics: HashMap::new(),
            connections: BTreeMap::new(),
            in_flight: Vec::new(),
            acknowledged: Vec::new(),
            closed_bytes: 0,
            last_round: door::now(),
        }
    }

    /// Adds a record. Without a partition, the key's murmur2 hash chooses one, as the Java client does; without a key
    /// either, partitions take turns, a batch each.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a partition that the topic does not have; the topic's error when it does not exist; and
    /// the error of an *earlier* batch that could not be delivered, whose records are then dropped.
    pub fn send(
        &mut self,
        topic: &Arc<str>,
        partition: Option<i32>,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&[u8], Option<&[u8]>)],
        timestamp_ms: i64,
    ) -> Result<(), Error> {
        if !self.topics.contains_key(topic) {
            let queues = self.find_topic(topic)?;
            self.topics.insert(topic.clone(), queues);
        }
        let Some(queues) = self.topics.get_mut(topic) else { return Err(Error::Closed) };
        let at = queues.choose(topic, partition, key)?;
        let queue = &mut queues.partitions[at];
        queue.open.append(key, value, headers, timestamp_ms);
        if queue.open.bytes() >= self.options.batch_bytes {
            self.closed_bytes += queue.close(&self.options)?;
            queues.sticky = (queues.sticky + 1) % queues.partitions.len();
            self.turn_when_due()?;
        }
        Ok(())
    }

    /// Hands everything to the brokers, waits until they have it, and says what was acknowledged since the last flush.
    ///
    /// # Errors
    /// The first error of a batch that could not be delivered. Its records are dropped; flushing again goes on with
    /// the other batches.
    pub fn flush(&mut self) -> Result<Vec<Acknowledged>, Error> {
        self.close_open_batches()?;
        while !self.in_flight.is_empty() || self.has_closed_batches() {
            self.turn()?;
        }
        Ok(std::mem::take(&mut self.acknowledged))
    }

    fn turn_when_due(&mut self) -> Result<(), Error> {
        let lingered = door::now().saturating_duration_since(self.last_round) >= self.options.linger;
        if lingered {
            self.close_open_batches()?;
        }
        if lingered || self.closed_bytes >= self.options.batch_bytes * BATCHES_PER_ROUND {
            self.turn()?;
        }
        Ok(())
    }

    fn close_open_batches(&mut self) -> Result<(), Error> {
        for queue in self.topics.values_mut().flat_map(|queues| &mut queues.partitions) {
            self.closed_bytes += queue.close(&self.options)?;
        }
        Ok(())
    }

    fn has_closed_batches(&self) -> bool {
        self.topics.values().flat_map(|queues| &queues.partitions).any(|queue| !queue.closed.is_empty())
    }

    /// Takes the answers of the round before, then sends the next round.
    fn turn(&mut self) -> Result<(), Error> {
        self.last_round = door::now();
        let mut outcome = Outcome::default();
        for request in std::mem::take(&mut self.in_flight) {
            self.collect(request, &mut outcome);
        }
        self.settle(outcome)?;
        let mut outcome = Outcome::default();
        for (node, batches) in self.take_round(&mut outcome) {
            self.dispatch(node, batches, &mut outcome);
        }
        self.settle(outcome)
    }

    /// The first closed batch of each partition, by leader.
    fn take_round(&mut self, outcome: &mut Outcome) -> BTreeMap<i32, Vec<(TopicPartition, ClosedBatch)>> {
        let metadata = self.cluster.metadata();
        let mut round: BTreeMap<i32, Vec<_>> = BTreeMap::new();
        for (topic, queues) in &mut self.topics {
            for (index, queue) in queues.partitions.iter_mut().enumerate() {
                let Some(batch) = queue.closed.pop_front() else { continue };
                self.closed_bytes -= batch.bytes.len();
                let partition = TopicPartition::new(topic.clone(), index as i32);
                match metadata.leader(topic, index as i32) {
                    Some(leader) => round.entry(leader).or_default().push((partition, batch)),
                    None => outcome.fail(Error::NoLeader { subject: partition.to_string() }, partition, batch),
                }
            }
        }
        round
    }

    fn dispatch(&mut self, node: i32, batches: Vec<(TopicPartition, ClosedBatch)>, outcome: &mut Outcome) {
        let request = self.request(&batches);
        match self.connection(node).and_then(|connection| connection.send(&request)) {
            Ok(in_flight) => self.in_flight.push(Request { node, in_flight, batches }),
            Err(error) => {
                self.connections.remove(&node);
                outcome.fail_all(&error, batches);
            }
        }
    }

    fn connection(&mut self, node: i32) -> Result<&mut Connection, Error> {
        use std::collections::btree_map::Entry;
        match self.connections.entry(node) {
            Entry::Occupied(open) => Ok(open.into_mut()),
            Entry::Vacant(place) => Ok(place.insert(self.cluster.connect_to(node)?)),
        }
    }

    fn request(&self, batches: &[(TopicPartition, ClosedBatch)]) -> ProduceRequest {
        let mut topics: BTreeMap<&Arc<str>, Vec<PartitionProduceData>> = BTreeMap::new();
        for (partition, batch) in batches {
            let data =
                PartitionProduceData::default().with_index(partition.partition).with_records(Some(batch.bytes.clone()));
            topics.entry(&partition.topic).or_default().push(data);
        }
        let topic = |(name, data): (&Arc<str>, _)| {
            TopicProduceData::default().with_name(topic_name(name)).with_partition_data(data)
        };
        ProduceRequest::default()
            .with_acks(-1)
            .with_timeout_ms(self.cluster.options().request_timeout.as_millis().min(i32::MAX as u128) as i32)
            .with_topic_data(topics.into_iter().map(topic).collect())
    }

    fn collect(&mut self, request: Request, outcome: &mut Outcome) {
        let Request { node, in_flight, batches } = request;
        let Some(connection) = self.connections.get_mut(&node) else {
            return outcome.fail_all(&Error::Closed, batches);
        };
        let timeout = self.cluster.options().request_timeout;
        let address = connection.address().to_string();
        match connection.receive::<ProduceRequest>(in_flight, &mut FreshFrames, timeout) {
            Ok(answer) => self.read(&address, &answer, batches, outcome),
            Err(error) => {
                self.connections.remove(&node);
                outcome.fail_all(&error, batches);
            }
        }
    }

    fn read(
        &mut self,
        address: &str,
        answer: &ProduceResponse,
        batches: Vec<(TopicPartition, ClosedBatch)>,
        outcome: &mut Outcome,
    ) {
        for (partition, batch) in batches {
            match find_answer(answer, &partition) {
                Some(found) if found.error_code == 0 => self.acknowledged.push(Acknowledged {
                    partition,
                    base_offset: found.base_offset,
                    record_count: batch.record_count,
                }),
                Some(found) => outcome.fail(refused(address, &partition, found), partition, batch),
                None => {
                    let what = format!("{partition} is missing in it");
                    outcome.fail(Error::Malformed { address: address.into(), api: "Produce", what }, partition, batch);
                }
            }
        }
    }

    /// Puts back what may be tried again, after a refresh of the metadata, and reports the first final error.
    fn settle(&mut self, outcome: Outcome) -> Result<(), Error> {
        let now = door::now();
        let mut final_error = None;
        let mut topics: Vec<Arc<str>> = Vec::new();
        for (partition, batch, error) in outcome.failed {
            if error.is_retriable() && now < batch.give_up_at {
                debug!("{partition}: trying a batch again: {error}");
                topics.push(partition.topic.clone());
                self.put_back(&partition, batch);
            } else {
                warn!("{partition}: {} records were not delivered: {error}", batch.record_count);
                final_error.get_or_insert(error);
            }
        }
        if !topics.is_empty()
            && let Err(error) = self.cluster.refresh(TopicsWanted::Names(&topics))
        {
            debug!("the metadata stays as it is: {error}");
        }
        final_error.map_or(Ok(()), Err)
    }

    fn put_back(&mut self, partition: &TopicPartition, batch: ClosedBatch) {
        let queues = self.topics.get_mut(&partition.topic);
        if let Some(queue) = queues.and_then(|queues| queues.partitions.get_mut(partition.partition as usize)) {
            self.closed_bytes += batch.bytes.len();
            queue.closed.push_front(batch);
        }
    }

    /// Empty queues for a topic's partitions.
    fn find_topic(&self, topic: &Arc<str>) -> Result<TopicQueues, Error> {
        let give_up_at = door::now() + NEW_TOPIC_PATIENCE;
        loop {
            let metadata = self.cluster.refresh(TopicsWanted::Names(std::slice::from_ref(topic)))?;
            let (code, count) = metadata
                .topics
                .get(topic)
                .map_or((Code::UNKNOWN_TOPIC_OR_PARTITION, 0), |known| (known.error, known.partitions.len()));
            if code.is_ok() && count > 0 {
                let partitions = (0..count).map(|_| PartitionQueue::default()).collect();
                return Ok(TopicQueues { partitions, sticky: 0 });
            }
            if !code.is_retriable() || door::now() >= give_up_at {
                return Err(Error::Broker {
                    address: "the cluster".into(),
                    api: "Metadata",
                    subject: format!("topic {topic}"),
                    code,
                    message: None,
                });
            }
        }
    }
}

impl TopicQueues {
    fn choose(&self, topic: &str, partition: Option<i32>, key: Option<&[u8]>) -> Result<usize, Error> {
        let count = self.partitions.len();
        match (partition, key) {
            (Some(index), _) => usize::try_from(index).ok().filter(|index| *index < count).ok_or_else(|| {
                Error::Invalid(format!("topic {topic} has the partitions 0 to {}, there is no {index}", count - 1))
            }),
            (None, Some(key)) => Ok(partition_for_key(key, count)),
            (None, None) => Ok(self.sticky),
        }
    }
}

impl PartitionQueue {
    /// Closes the open batch, if it has records, and says how many bytes were added to the closed ones.
    fn close(&mut self, options: &ProducerOptions) -> Result<usize, Error> {
        let record_count = self.open.len();
        if record_count == 0 {
            return Ok(0);
        }
        let codec = options.compression;
        let bytes = self.open.finish(codec).map_err(|error| Error::Invalid(format!("{codec} failed: {error}")))?;
        let length = bytes.len();
        let give_up_at = door::now() + options.delivery_timeout;
        self.closed.push_back(ClosedBatch { bytes, record_count, give_up_at });
        Ok(length)
    }
}

/// What went wrong in one half of a turn.
#[derive(Default)]
struct Outcome {
    failed: Vec<(TopicPartition, ClosedBatch, Error)>,
}

impl Outcome {
    fn fail(&mut self, error: Error, partition: TopicPartition, batch: ClosedBatch) {
        self.failed.push((partition, batch, error));
    }

    fn fail_all(&mut self, error: &Error, batches: Vec<(TopicPartition, ClosedBatch)>) {
        self.failed.extend(batches.into_iter().map(|(partition, batch)| (partition, batch, error.clone())));
    }
}

fn find_answer<'a>(answer: &'a ProduceResponse, partition: &TopicPartition) -> Option<&'a PartitionProduceResponse> {
    let topic = answer.responses.iter().find(|topic| topic.name.as_str() == &*partition.topic)?;
    topic.partition_responses.iter().find(|found| found.index == partition.partition)
}

fn refused(address: &str, partition: &TopicPartition, found: &PartitionProduceResponse) -> Error {
    Error::Broker {
        address: address.into(),
        api: "Produce",
        subject: partition.to_string(),
        code: Code(found.error_code),
        message: found.error_message.as_ref().map(|text| text.to_string()),
    }
}

/// The partition that the Java client's default partitioner gives a key.
pub fn partition_for_key(key: &[u8], partition_count: usize) -> usize {
    (murmur2(key) & 0x7fff_ffff) as usize % partition_count
}

/// As `org.apache.kafka.common.utils.Utils.murmur2`.
fn murmur2(data: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    let mut hash = SEED ^ data.len() as u32;
    let (words, rest) = data.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> 24;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !rest.is_empty() {
        let tail = rest.iter().rev().fold(0, |tail, byte| tail << 8 | u32::from(*byte));
        hash = (hash ^ tail).wrapping_mul(M);
    }
    hash = (hash ^ hash >> 13).wrapping_mul(M);
    hash ^ hash >> 15
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values from Kafka's own `UtilsTest.testMurmur2`.
    #[test]
    fn keys_hash_as_in_java() {
        for (key, expected) in [
            ("21", -973932308),
            ("foobar", -790332482),
            ("a-little-bit-long-string", -985981536),
            ("a-little-bit-longer-string", -1486304829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
            ("abc", 479470107),
        ] {
            assert_eq!(murmur2(key.as_bytes()) as i32, expected, "{key}");
        }
    }

    #[test]
    fn a_partition_is_chosen_by_number_then_key_then_turn() {
        let queues = TopicQueues { partitions: (0..4).map(|_| PartitionQueue::default()).collect(), sticky: 2 };
        assert_eq!(queues.choose("t", Some(3), Some(b"abc")), Ok(3));
        assert_eq!(queues.choose("t", None, Some(b"abc")), Ok(479470107 % 4));
        assert_eq!(queues.choose("t", None, None), Ok(2));
        for index in [-1, 4, i32::MAX] {
            assert!(queues.choose("t", Some(index), None).unwrap_err().to_string().contains("0 to 3"), "{index}");
        }
    }

    use super::super::connection::ConnectionOptions;
    use super::super::offsets::Isolation;
    use super::super::scripted::{Call, ScriptedBroker, one_broker};
    use super::super::wire::record_batch::FetchedRecords;
    use crate::core::record::{Encoded, RecordBuffer};
    use kafka_protocol::messages::ApiKey;
    use kafka_protocol::messages::produce_response::TopicProduceResponse;
    use parking_lot::Mutex;

    /// Values accepted, by partition.
    type Log = Arc<Mutex<BTreeMap<i32, Vec<String>>>>;

    /// A broker that leads the three partitions of `t` and refuses the batches that `refuse` (partition, first value,
    /// batches seen before) gives a code for.
    fn broker(refuse: fn(i32, &str, usize) -> i16) -> (ScriptedBroker, Log) {
        let log = Log::default();
        let (written, seen) = (log.clone(), Mutex::new(0));
        let script = move |call: &Call, port| match call.key {
            ApiKey::Metadata => call.answer(one_broker(port, "t", 3)),
            _ => {
                let request: ProduceRequest = call.read();
                assert_eq!((request.acks, request.topic_data.len()), (-1, 1));
                let accept = |data: &PartitionProduceData| {
                    let values = values(data);
                    let mut seen = seen.lock();
                    let code = refuse(data.index, &values[0], *seen);
                    *seen += 1;
                    let mut log = written.lock();
                    let log = log.entry(data.index).or_default();
                    let base_offset = log.len() as i64;
                    if code == 0 {
                        log.extend(values);
                    }
                    let answer = PartitionProduceResponse::default().with_index(data.index).with_error_code(code);
                    answer.with_base_offset(base_offset)
                };
                let answers = request.topic_data[0].partition_data.iter().map(accept).collect();
                let topic = TopicProduceResponse::default().with_name(topic_name("t"));
                call.answer(ProduceResponse::default().with_responses(vec![topic.with_partition_responses(answers)]))
            }
        };
        (ScriptedBroker::start(&[(ApiKey::Metadata, 12), (ApiKey::Produce, 13)], script), log)
    }

    fn values(data: &PartitionProduceData) -> Vec<String> {
        let bytes = data.records.clone().unwrap();
        let fetched = FetchedRecords { bytes, aborted: vec![], isolation: Isolation::ReadCommitted, held: None };
        let mut records = RecordBuffer::default();
        Arc::new(fetched).decoder(0).decode_rest(&mut records).unwrap();
        (0..records.len()).map(|at| String::from_utf8_lossy(records.get(at).value.unwrap()).into_owned()).collect()
    }

    /// A producer whose batches hold a few records each.
    fn producer(broker: &ScriptedBroker) -> Producer {
        let cluster = Cluster::connect(std::slice::from_ref(&broker.address), ConnectionOptions::default()).unwrap();
        let linger = Duration::from_secs(600);
        Producer::new(cluster, ProducerOptions { batch_bytes: 50, linger, ..ProducerOptions::default() })
    }

    #[test]
    fn order_within_a_partition_survives_retries() {
        // Every third batch is refused with NOT_LEADER_OR_FOLLOWER.
        let (broker, log) = broker(|_, _, seen| if seen % 3 == 2 { 6 } else { 0 });
        let mut producer = producer(&broker);
        let topic: Arc<str> = "t".into();
        for number in 0..60 {
            let value = format!("{number:04}");
            producer.send(&topic, Some(number % 3), None, Some(value.as_bytes()), &[], 0).unwrap();
        }
        let acknowledged = producer.flush().unwrap();
        for partition in 0..3 {
            let expected: Vec<String> = (0..60).filter(|n| n % 3 == partition).map(|n| format!("{n:04}")).collect();
            assert_eq!(log.lock()[&partition], expected, "partition {partition}");
            let mut next_offset = 0;
            for batch in acknowledged.iter().filter(|batch| batch.partition.partition == partition) {
                assert_eq!(batch.base_offset, next_offset);
                next_offset += batch.record_count as i64;
            }
            assert_eq!(next_offset as usize, expected.len());
        }
        assert_eq!(producer.flush(), Ok(vec![]), "nothing is acknowledged twice");
    }

    #[test]
    fn a_refused_batch_is_reported_and_the_others_go_on() {
        // MESSAGE_TOO_LARGE for whatever begins with the culprit.
        let (broker, log) = broker(|_, first, _| if first == "culprit" { 10 } else { 0 });
        let mut producer = producer(&broker);
        let topic: Arc<str> = "t".into();
        for (partition, value) in [(0, "before"), (1, "culprit"), (2, "other")] {
            producer.send(&topic, Some(partition), None, Some(value.as_bytes()), &[], 0).unwrap();
        }
        let error = producer.flush().unwrap_err();
        assert_eq!(error.code(), Some(Code::MESSAGE_TOO_LARGE));
        assert!(error.to_string().contains("t/1"), "{error}");
        let acknowledged = producer.flush().unwrap();
        assert_eq!(acknowledged.iter().map(|batch| batch.partition.partition).collect::<Vec<_>>(), [0, 2]);
        assert_eq!(log.lock().get(&1), Some(&vec![]));
    }

    #[test]
    fn records_without_a_key_take_turns_by_the_batch() {
        let (broker, log) = broker(|_, _, _| 0);
        let mut producer = producer(&broker);
        let topic: Arc<str> = "t".into();
        for _ in 0..60 {
            producer.send(&topic, None, None, Some(b"0123456789"), &[], 0).unwrap();
        }
        producer.flush().unwrap();
        let counts: Vec<usize> = log.lock().values().map(Vec::len).collect();
        assert_eq!(counts.iter().sum::<usize>(), 60);
        assert!(counts.len() == 3 && counts.iter().all(|count| *count >= 12), "{counts:?}");
    }
}
