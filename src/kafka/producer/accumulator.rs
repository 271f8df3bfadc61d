//! The records on their way: batches per partition, their order and sequence numbers, and what becomes of each. Plain
//! data and decisions; the lock around it and the threads are in [`super`].
//!
//! A partition has at most one batch in flight, so order holds through every retry, and a sequence number that the
//! broker does not expect can only mean that the log lost records. Sequences follow KIP-98 and KIP-360; since brokers
//! keep a producer's state per partition, each partition has an epoch of its own here:
//!
//! - a batch gets its sequence when it is first sent and keeps it through retries, so a repetition is recognised;
//! - a batch that was refused for good leaves its sequence to the next one;
//! - a batch that was given up without knowing whether it is written, and a log that lost the producer's state, begin a
//!   new epoch, in which sequences start at 0 and late copies of the old epoch are refused.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::batch::{Batch, record_bytes};
use super::partitioner::{Sticky, partition_for_key};
use super::{Delivery, NewRecord, ProducerCounts, ProducerOptions};
use crate::core::backoff::Schedule;
use crate::core::record::TopicPartition;
use crate::kafka::cluster::Metadata;
use crate::kafka::error::{Code, Error};
use crate::kafka::wire::builder::Stamp;

/// Waits before a batch is tried again, as `retry.backoff.ms` and `retry.backoff.max.ms` of the Java client.
const RETRY: Schedule = Schedule::new(Duration::from_millis(100), Duration::from_secs(1));
/// The most that one request carries; one larger batch still passes, alone. Brokers take 100 MiB
/// (`socket.request.max.bytes`).
const REQUEST_BYTES_MAX: usize = 16 << 20;

/// Who we are to the brokers; per partition, as a partition may have to begin a new epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) id: i64,
    pub(super) epoch: i16,
}

/// Everything that is not delivered yet.
pub(super) struct Accumulator {
    options: ProducerOptions,
    /// Whether somebody wants to hear of single records.
    keeps_tags: bool,
    topics: HashMap<Arc<str>, TopicQueues>,
    /// `None` until the cluster has given one, and again when a partition has used up its epochs.
    pub(super) identity: Option<Identity>,
    pub(super) counts: ProducerCounts,
    pub(super) buffered_bytes: usize,
    /// Callers that wait for everything to be delivered, or for room: then nothing lingers.
    pub(super) hurried: usize,
    /// Of a delivery since the last flush.
    pub(super) first_failure: Option<Error>,
    /// After it nothing is accepted and nothing delivered.
    pub(super) fatal: Option<Error>,
    pub(super) metadata_wanted: bool,
    pub(super) stopping: bool,
}

struct TopicQueues {
    partitions: Vec<PartitionQueue>,
    sticky: Sticky,
    /// Smaller than in the options once the broker has refused a batch as too large.
    batch_bytes: usize,
}

#[derive(Default)]
struct PartitionQueue {
    leader: Option<i32>,
    batches: VecDeque<Batch>,
    is_in_flight: bool,
    not_before: Option<Instant>,
    identity: Option<Identity>,
    next_sequence: i32,
}

/// A batch that a sender has in hand.
pub(super) struct Sending {
    pub(super) partition: TopicPartition,
    pub(super) batch: Batch,
}

/// What a sender can do now.
pub(super) enum Work {
    Send(Vec<Sending>),
    /// Nothing before this time, unless something changes.
    Wait(Option<Instant>),
}

impl Accumulator {
    pub(super) fn new(options: ProducerOptions, keeps_tags: bool) -> Self {
        Self {
            options,
            keeps_tags,
            topics: HashMap::new(),
            identity: None,
            counts: ProducerCounts::default(),
            buffered_bytes: 0,
            hurried: 0,
            first_failure: None,
            fatal: None,
            metadata_wanted: false,
            stopping: false,
        }
    }

    pub(super) fn knows(&self, topic: &str) -> bool {
        self.topics.contains_key(topic)
    }

    pub(super) fn topics(&self) -> Vec<Arc<str>> {
        self.topics.keys().cloned().collect()
    }

    /// A topic to send to, with its partitions as [`apply`](Self::apply) will find them.
    pub(super) fn add_topic(&mut self, topic: &Arc<str>, random: u64, metadata: &Metadata) {
        let count = metadata.topics.get(topic).map_or(0, |known| known.partitions.len());
        let batch_bytes = self.options.batch_bytes;
        let queues = || TopicQueues { partitions: Vec::new(), sticky: Sticky::new(random, count), batch_bytes };
        self.topics.entry(topic.clone()).or_insert_with(queues);
        self.apply(metadata);
        // Its leaders may have no sender yet, which is the router's affair.
        self.metadata_wanted = true;
    }

    /// Takes over leaders and new partitions. Says which nodes lead something.
    pub(super) fn apply(&mut self, metadata: &Metadata) -> BTreeSet<i32> {
        let mut leaders = BTreeSet::new();
        let mut is_leaderless = false;
        for (name, queues) in &mut self.topics {
            let Some(topic) = metadata.topics.get(name) else { continue };
            if topic.partitions.len() > queues.partitions.len() {
                queues.partitions.resize_with(topic.partitions.len(), PartitionQueue::default);
            }
            for (index, queue) in queues.partitions.iter_mut().enumerate() {
                queue.leader = metadata.leader(name, index as i32);
                leaders.extend(queue.leader);
                is_leaderless |= queue.leader.is_none() && !queue.batches.is_empty();
            }
        }
        self.metadata_wanted = is_leaderless;
        leaders
    }

    /// Whether a record of so many bytes fits into the buffer; anything fits into an empty one.
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        self.buffered_bytes == 0 || self.buffered_bytes + bytes <= self.options.buffer_bytes
    }

    /// Adds a record to its partition's last batch, or to a new one. Says whether a sender should look.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a partition that the topic does not have.
    pub(super) fn append(
        &mut self,
        topic: &Arc<str>,
        record: &NewRecord<'_>,
        timestamp_ms: i64,
        now: Instant,
    ) -> Result<bool, Error> {
        let bytes = record_bytes(record);
        let Some(queues) = self.topics.get_mut(topic) else { return Err(Error::Closed) };
        let index = queues.choose(topic, record, bytes)?;
        let batch_bytes = queues.batch_bytes;
        let queue = &mut queues.partitions[index];
        let last = queue.batches.back_mut().filter(|batch| batch.is_open() && batch.bytes + bytes <= batch_bytes);
        let is_new = last.is_none();
        let is_full = match last {
            Some(batch) => {
                batch.append(record, bytes, timestamp_ms, self.keeps_tags);
                batch.bytes >= batch_bytes
            }
            None => {
                let mut batch = Batch::new(now);
                batch.append(record, bytes, timestamp_ms, self.keeps_tags);
                queue.batches.push_back(batch);
                false
            }
        };
        self.buffered_bytes += bytes;
        self.counts.sent += 1;
        if queue.leader.is_none() {
            self.metadata_wanted = true;
        }
        Ok(is_new || is_full)
    }

    /// What the sender to `node` can send now, or when it may look again.
    pub(super) fn take(&mut self, node: i32, now: Instant) -> Work {
        if self.fatal.is_some() {
            return Work::Wait(None);
        }
        let mut due: Vec<(Instant, Arc<str>, usize)> = Vec::new();
        let mut next: Option<Instant> = None;
        for (topic, queues) in &self.topics {
            for (index, queue) in queues.partitions.iter().enumerate() {
                if queue.leader != Some(node) || queue.identity.or(self.identity).is_none() {
                    continue;
                }
                match queue.due_at(&self.options, queues.batch_bytes, self.hurried > 0) {
                    Some(at) if at <= now => due.push((queue.batches[0].opened_at, topic.clone(), index)),
                    Some(at) => next = Some(next.map_or(at, |other| other.min(at))),
                    None => {}
                }
            }
        }
        if due.is_empty() {
            return Work::Wait(next);
        }
        // The oldest first, so that a full request leaves none out for ever.
        due.sort_unstable_by_key(|(opened_at, ..)| *opened_at);
        let mut sending = Vec::new();
        let mut request_bytes = 0;
        for (_, topic, index) in due {
            let (identity, Some(queues)) = (self.identity, self.topics.get_mut(&topic)) else { continue };
            let queue = &mut queues.partitions[index];
            let bytes = queue.batches.front().map_or(0, |batch| batch.bytes);
            if request_bytes > 0 && request_bytes + bytes > REQUEST_BYTES_MAX {
                continue;
            }
            if let Some(batch) = queue.start(identity) {
                request_bytes += bytes;
                sending.push(Sending { partition: TopicPartition::new(topic, index as i32), batch });
            }
        }
        Work::Send(sending)
    }

    /// Enters what a broker said of a batch: its base offset (`None`: written before, nobody knows where), or why not.
    /// Gives back what is over with; the rest is tried again.
    pub(super) fn settle(
        &mut self,
        sending: Sending,
        result: Result<Option<i64>, Error>,
        now: Instant,
        random: u64,
    ) -> Option<Delivery> {
        let Sending { partition, mut batch } = sending;
        let queues = self.topics.get_mut(&partition.topic)?;
        let queue = queues.partitions.get_mut(partition.partition as usize)?;
        queue.is_in_flight = false;
        let error = match result {
            Ok(base_offset) => return Some(batch.end(partition, Ok(base_offset))),
            Err(error) => error,
        };
        batch.attempts += 1;
        batch.may_be_written |= is_fate_unknown(&error);
        let is_over = self.stopping || self.fatal.is_some() || now >= batch.opened_at + self.options.delivery_timeout;
        match verdict(&error, batch.record_count) {
            _ if is_over => {}
            verdict @ (Verdict::Again | Verdict::NewEpoch) => {
                if verdict == Verdict::NewEpoch {
                    queue.begin_epoch(&mut self.identity);
                    batch.stamp = None;
                }
                self.metadata_wanted |= error.needs_metadata();
                queue.not_before = Some(now + RETRY.wait(batch.attempts, random));
                batch.last_error = Some(error);
                queue.batches.push_front(batch);
                return None;
            }
            Verdict::Split => {
                queues.batch_bytes = queues.batch_bytes.min(batch.bytes / 2).max(1);
                queue.give_up_sequence(&batch, &mut self.identity);
                if let Some([first, second]) = batch.split() {
                    queue.batches.push_front(second);
                    queue.batches.push_front(first);
                    return None;
                }
                return Some(batch.end(partition, Err(error)));
            }
            Verdict::Failed => {}
            Verdict::Fatal => self.fatal = Some(error.clone()),
        }
        queue.give_up_sequence(&batch, &mut self.identity);
        Some(batch.end(partition, Err(error)))
    }

    /// Batches whose time is over; all of them after a fatal error. Also says when to look again.
    pub(super) fn expire(&mut self, now: Instant) -> (Vec<Delivery>, Option<Instant>) {
        let (mut over, mut next) = (Vec::new(), None::<Instant>);
        for (topic, queues) in &mut self.topics {
            for (index, queue) in queues.partitions.iter_mut().enumerate().filter(|(_, queue)| !queue.is_in_flight) {
                let partition = TopicPartition::new(topic.clone(), index as i32);
                while let Some(batch) = queue.batches.pop_front() {
                    let until = batch.opened_at + self.options.delivery_timeout;
                    if self.fatal.is_none() && now < until {
                        next = Some(next.map_or(until, |other| other.min(until)));
                        queue.batches.push_front(batch);
                        break;
                    }
                    queue.give_up_sequence(&batch, &mut self.identity);
                    let error = self.fatal.clone().or_else(|| batch.last_error.clone());
                    let error = error.unwrap_or_else(|| undelivered(&partition, queue.leader, &self.options));
                    over.push(batch.end(partition.clone(), Err(error)));
                }
            }
        }
        (over, next)
    }

    /// Counts what is over with, after it was reported.
    pub(super) fn conclude(&mut self, deliveries: &[Delivery]) {
        for delivery in deliveries {
            self.buffered_bytes -= delivery.bytes;
            match &delivery.result {
                Ok(_) => self.counts.acknowledged += delivery.record_count as u64,
                Err(error) => {
                    self.counts.failed += delivery.record_count as u64;
                    self.first_failure.get_or_insert_with(|| error.clone());
                }
            }
        }
    }
}

impl TopicQueues {
    fn choose(&mut self, topic: &str, record: &NewRecord<'_>, bytes: usize) -> Result<usize, Error> {
        let count = self.partitions.len();
        match (record.partition, record.key) {
            (Some(index), _) => usize::try_from(index).ok().filter(|index| *index < count).ok_or_else(|| {
                Error::Invalid(format!("topic {topic} has the partitions 0 to {}, there is no {index}", count - 1))
            }),
            (None, Some(key)) => Ok(partition_for_key(key, count)),
            (None, None) => {
                let has_leader = |index: usize| self.partitions[index].leader.is_some();
                Ok(self.sticky.choose(bytes, self.batch_bytes, count, has_leader))
            }
        }
    }
}

impl PartitionQueue {
    /// When the first batch may be sent; `None` while one is in flight or there is none.
    fn due_at(&self, options: &ProducerOptions, batch_bytes: usize, hurry: bool) -> Option<Instant> {
        let batch = self.batches.front().filter(|_| !self.is_in_flight)?;
        let is_full = self.batches.len() > 1 || !batch.is_open() || batch.bytes >= batch_bytes;
        let ready_at = if is_full || hurry { batch.opened_at } else { batch.opened_at + options.linger };
        Some(self.not_before.map_or(ready_at, |not_before| not_before.max(ready_at)))
    }

    /// Takes the first batch, which has its sequence from now on.
    fn start(&mut self, identity: Option<Identity>) -> Option<Batch> {
        let Identity { id, epoch } = self.identity.or(identity)?;
        let mut batch = self.batches.pop_front()?;
        self.identity = Some(Identity { id, epoch });
        self.is_in_flight = true;
        self.not_before = None;
        if batch.stamp.is_none() {
            batch.stamp = Some(Stamp { id, epoch, sequence: self.next_sequence });
            // As Kafka counts: 0 follows the largest.
            self.next_sequence = self.next_sequence.wrapping_add(batch.record_count as i32) & i32::MAX;
        }
        Some(batch)
    }

    fn give_up_sequence(&mut self, batch: &Batch, identity: &mut Option<Identity>) {
        match batch.stamp {
            Some(_) if batch.may_be_written => self.begin_epoch(identity),
            Some(stamp) => self.next_sequence = stamp.sequence,
            None => {}
        }
    }

    /// The last epoch of an id is left unused; then the cluster is asked for a new id.
    fn begin_epoch(&mut self, identity: &mut Option<Identity>) {
        self.next_sequence = 0;
        self.identity = match self.identity {
            Some(Identity { id, epoch }) if epoch < i16::MAX - 1 => Some(Identity { id, epoch: epoch + 1 }),
            used_up => {
                if identity.map(|known| known.id) == used_up.map(|known| known.id) {
                    *identity = None;
                }
                None
            }
        };
    }
}

/// What follows from an error of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// The same batch with the same sequence.
    Again,
    /// The same batch as the first of a new epoch: the log has lost what the sequence builds on.
    NewEpoch,
    /// Smaller batches.
    Split,
    /// The records are given up.
    Failed,
    /// So is everything else.
    Fatal,
}

fn verdict(error: &Error, record_count: usize) -> Verdict {
    match error.code() {
        Some(Code::OUT_OF_ORDER_SEQUENCE_NUMBER | Code::UNKNOWN_PRODUCER_ID | Code::INVALID_PRODUCER_EPOCH) => {
            Verdict::NewEpoch
        }
        Some(Code::MESSAGE_TOO_LARGE | Code::RECORD_LIST_TOO_LARGE) if record_count > 1 => Verdict::Split,
        Some(Code::CLUSTER_AUTHORIZATION_FAILED) => Verdict::Fatal,
        _ if error.is_retriable() => Verdict::Again,
        _ if matches!(error, Error::Unsupported { .. }) => Verdict::Fatal,
        // What a single connection said that makes no sense; the next one may be sane.
        _ if matches!(error, Error::Malformed { .. } | Error::NotKafka { .. }) => Verdict::Again,
        _ => Verdict::Failed,
    }
}

/// Whether the batch may have been written though no answer said so.
fn is_fate_unknown(error: &Error) -> bool {
    match error {
        Error::Broker { code, .. } => {
            matches!(*code, Code::REQUEST_TIMED_OUT | Code::NOT_ENOUGH_REPLICAS_AFTER_APPEND)
        }
        Error::Io { .. } | Error::Timeout { .. } | Error::Malformed { .. } | Error::Closed => true,
        _ => false,
    }
}

fn undelivered(partition: &TopicPartition, leader: Option<i32>, options: &ProducerOptions) -> Error {
    match leader {
        None => Error::NoLeader { subject: partition.to_string() },
        Some(node) => {
            Error::Timeout { address: format!("node {node}"), api: "Produce", after: options.delivery_timeout }
        }
    }
}
