//! One partition at librdkafka: its queue, where it stands, and the chunks that are made of its messages.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers, Message, Timestamp};
use rdkafka::topic_partition_list::Offset;

use super::context::Context;
use super::{error, list};
use crate::core::record::TopicPartition;
use crate::kafka::credit::{Credit, Wake};
use crate::port::{Chunk, MemoryBudget, SourceError, SourceEvent};
use crate::source::copied::{Charge, Copying, Foreign};

/// The most records of a chunk.
const CHUNK_RECORDS_MAX: usize = 10_000;
/// How long librdkafka may take to seek, which it does by itself; without a limit it would not say whether it did.
const SEEK_WITHIN: Duration = Duration::from_millis(500);
/// How long to wait for the ends of a log.
const WATERMARKS_WITHIN: Duration = Duration::from_secs(10);

/// A started partition.
struct Run {
    run: u64,
    /// The next offset that is expected.
    next: i64,
    /// Whether librdkafka was told where to begin.
    sought: bool,
    /// Whether the end of the log was reached since.
    at_end: bool,
}

/// A partition that is ours.
pub struct Lane {
    queue: PartitionQueue<Context>,
    /// Whether there may be something in the queue.
    ready: Arc<AtomicBool>,
    credit: Credit,
    run: Option<Run>,
}

/// How draining a queue ended.
enum Drained {
    /// With nothing left.
    Empty,
    /// With a full chunk.
    Full,
    /// With something that ends the run.
    Ended(SourceEvent),
}

impl Lane {
    /// Gives the partition a queue of its own.
    pub fn new(
        consumer: &Arc<BaseConsumer<Context>>,
        partition: &TopicPartition,
        wake: Wake,
        credit_chunks: usize,
    ) -> Option<Self> {
        let mut queue = consumer.split_partition_queue(&partition.topic, partition.partition)?;
        let ready = Arc::new(AtomicBool::new(true));
        let credit = Credit::new(credit_chunks);
        credit.wakes(wake.clone());
        let filled = Arc::clone(&ready);
        queue.set_nonempty_callback(move || {
            filled.store(true, Ordering::Release);
            wake.wake();
        });
        Some(Self { queue, ready, credit, run: None })
    }

    /// Reads from `offset` on.
    pub fn start(&mut self, run: u64, offset: i64) {
        self.run = Some(Run { run, next: offset, sought: false, at_end: false });
    }

    /// Reads no more.
    pub fn stop(&mut self) {
        self.run = None;
    }

    /// Hands on one chunk of what is there; says whether to look again soon, as librdkafka does not seek yet or there was
    /// no memory.
    pub fn read(
        &mut self,
        partition: &TopicPartition,
        consumer: &Arc<BaseConsumer<Context>>,
        memory: &Arc<MemoryBudget>,
        chunk_bytes: usize,
        events: &mut Vec<SourceEvent>,
    ) -> bool {
        if self.run.is_none() || !self.credit.is_available() {
            return false;
        }
        if !self.seek(partition, consumer) {
            return true;
        }
        // What librdkafka has said before the queue is found empty is about what came out of it.
        let ends = consumer.context().ends(partition);
        if self.ready.load(Ordering::Acquire) {
            if !memory.reserve(chunk_bytes, Duration::ZERO) {
                return true;
            }
            let _reserved = Charge::reserved(memory, chunk_bytes);
            self.ready.store(false, Ordering::Release);
            let mut copying = Copying::default();
            let drained = self.drain(partition, consumer, chunk_bytes, &mut copying);
            if let Some(next) = copying.last_offset().map(|last| last + 1) {
                self.hand_on(partition, copying, next, ends.map_or(next, |ends| ends.log_end), memory, events);
            }
            match drained {
                Drained::Empty => {}
                Drained::Full => {
                    self.ready.store(true, Ordering::Release);
                    return false;
                }
                Drained::Ended(event) => {
                    self.run = None;
                    events.push(event);
                }
            }
        }
        // Past markers and holes at the end of the log: all before the end that was reached is out of the queue.
        if let (Some(ends), Some(run)) = (ends, &self.run)
            && run.at_end
            && ends.read_to > run.next
        {
            self.hand_on(partition, Copying::default(), ends.read_to, ends.log_end, memory, events);
        }
        false
    }

    /// Tells librdkafka where to begin. It refuses for a moment after an assignment; then it is told again.
    fn seek(&mut self, partition: &TopicPartition, consumer: &BaseConsumer<Context>) -> bool {
        let Some(run) = &mut self.run else { return false };
        if !run.sought {
            let to = Offset::Offset(run.next);
            let told = consumer
                .seek(&partition.topic, partition.partition, to, SEEK_WITHIN)
                .and_then(|()| consumer.resume(&list([(partition, Offset::Invalid)].into_iter())));
            run.sought = told.is_ok();
            if let Err(error) = told {
                log::debug!("{partition}: librdkafka does not seek yet: {error}");
            }
        }
        run.sought
    }

    fn drain(
        &mut self,
        partition: &TopicPartition,
        consumer: &BaseConsumer<Context>,
        chunk_bytes: usize,
        copying: &mut Copying,
    ) -> Drained {
        while copying.bytes() < chunk_bytes && copying.len() < CHUNK_RECORDS_MAX {
            let Some(run) = &mut self.run else { return Drained::Empty };
            match self.queue.poll(Duration::ZERO) {
                None => return Drained::Empty,
                Some(Ok(message)) if message.offset() < run.next => {}
                Some(Ok(message)) => {
                    if catch_unwind(AssertUnwindSafe(|| copy(&message, copying))).is_err() {
                        let what = format!(
                            "{partition}: offset {} has a header name that is not UTF-8, which --client confluent cannot \
                             read; use --client native",
                            message.offset()
                        );
                        return Drained::Ended(failed(partition, run, what));
                    }
                }
                Some(Err(KafkaError::PartitionEOF(_))) => run.at_end = true,
                Some(Err(cause)) => match end_of(partition, run, consumer, &cause) {
                    Some(event) => return Drained::Ended(event),
                    None => log::debug!("{partition}: librdkafka: {cause}"),
                },
            }
        }
        Drained::Full
    }

    fn hand_on(
        &mut self,
        partition: &TopicPartition,
        records: Copying,
        next: i64,
        log_end: i64,
        memory: &Arc<MemoryBudget>,
        events: &mut Vec<SourceEvent>,
    ) {
        let Some(run) = &mut self.run else { return };
        let held = (Charge::new(memory, records.bytes()), self.credit.take());
        events.push(SourceEvent::Fetched(Chunk {
            partition: partition.clone(),
            run: run.run,
            first: std::mem::replace(&mut run.next, next),
            next,
            records_max: records.len(),
            log_end: log_end.max(next),
            records: records.finish(Box::new(held)),
        }));
    }
}

/// Copies a message. Panics, as `rdkafka` does, over a header name that is not UTF-8.
fn copy(message: &BorrowedMessage<'_>, copying: &mut Copying) {
    let record = Foreign {
        offset: message.offset(),
        timestamp_ms: match message.timestamp() {
            Timestamp::CreateTime(ms) | Timestamp::LogAppendTime(ms) => ms,
            Timestamp::NotAvailable => -1,
        },
        key: message.key(),
        value: message.payload(),
    };
    let headers = message.headers().into_iter().flat_map(Headers::iter);
    let headers: Vec<(&[u8], Option<&[u8]>)> = headers.map(|header| (header.key.as_bytes(), header.value)).collect();
    copying.push(&record, headers.into_iter());
}

/// What an error does to a run; `None` where librdkafka tries again.
fn end_of(
    partition: &TopicPartition,
    run: &Run,
    consumer: &BaseConsumer<Context>,
    cause: &KafkaError,
) -> Option<SourceEvent> {
    use RDKafkaErrorCode::*;
    let reason = consumer.context().reason(cause);
    match cause.rdkafka_error_code()? {
        AutoOffsetReset | OffsetOutOfRange => {
            let ends = consumer.fetch_watermarks(&partition.topic, partition.partition, WATERMARKS_WITHIN);
            Some(match ends {
                Ok((log_start, log_end)) => SourceEvent::OutOfRange {
                    partition: partition.clone(),
                    run: run.run,
                    requested: run.next,
                    log_start,
                    log_end,
                },
                Err(unknown) => {
                    failed(partition, run, format!("{partition}: {reason}; its ends are not known: {unknown}"))
                }
            })
        }
        UnknownTopicOrPartition
        | UnknownTopic
        | UnknownPartition
        | TopicAuthorizationFailed
        | BadMessage
        | InvalidMessage
        | MessageSizeTooLarge => Some(failed(partition, run, format!("{partition}: librdkafka: {reason}"))),
        _ => None,
    }
}

fn failed(partition: &TopicPartition, run: &Run, message: String) -> SourceEvent {
    let error: SourceError = error(message);
    SourceEvent::PartitionFailed { partition: partition.clone(), run: Some(run.run), forbidden: false, error }
}
