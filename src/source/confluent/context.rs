//! What librdkafka calls back with, during a poll and on the same thread: noted here, and worked off after it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use log::Level;
use parking_lot::Mutex;
use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::statistics::Statistics;
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::{RDKafkaErrorCode, RDKafkaRespErr};

use crate::core::record::TopicPartition;
use crate::kafka::consumer::Positions;

use super::{offsets, partitions};

/// What was called back.
pub enum Called {
    Assign(TopicPartitionList),
    /// Or lost, when another member may have them already.
    Revoke {
        list: TopicPartitionList,
        lost: bool,
    },
    Committed {
        positions: Positions,
        result: Result<(), String>,
    },
    /// Something that librdkafka tries again by itself.
    Trouble(String),
}

/// What librdkafka last said of a partition.
#[derive(Clone, Copy, Debug)]
pub struct Ends {
    /// The visible end of the log.
    pub log_end: i64,
    /// The end that was reached by what has been queued.
    pub read_to: i64,
}

/// The callbacks.
#[derive(Default)]
pub struct Context {
    called: Mutex<Vec<Called>>,
    /// How often anything was called back: a poll that called something back may have left more.
    count: AtomicUsize,
    ends: Mutex<HashMap<TopicPartition, Ends>>,
    read_committed: bool,
    closing: AtomicBool,
}

impl Context {
    pub fn new(read_committed: bool) -> Self {
        Self { read_committed, ..Self::default() }
    }

    /// What was called back since the last time.
    pub fn take(&self) -> Vec<Called> {
        std::mem::take(&mut self.called.lock())
    }

    pub fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    pub fn ends(&self, partition: &TopicPartition) -> Option<Ends> {
        self.ends.lock().get(partition).copied()
    }

    /// From now on revocations are confirmed at once: nobody works on anything any more.
    pub fn close(&self) {
        self.closing.store(true, Ordering::Relaxed);
    }

    /// What librdkafka said about the error that a poll has just returned.
    pub fn reason(&self, error: &KafkaError) -> String {
        match self.called.lock().pop_if(|last| matches!(last, Called::Trouble(_))) {
            Some(Called::Trouble(reason)) => reason,
            _ => error.to_string(),
        }
    }

    fn note(&self, called: Called) {
        self.called.lock().push(called);
        self.bump();
    }

    fn bump(&self) {
        self.count.fetch_add(1, Ordering::Relaxed);
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        use RDKafkaLogLevel::*;
        self.bump();
        let level = match level {
            Emerg | Alert | Critical | Error | Warning => Level::Warn,
            Notice | Info => Level::Info,
            Debug => Level::Debug,
        };
        log::log!(target: "librdkafka", level, "{facility}: {message}");
    }

    fn stats(&self, statistics: Statistics) {
        self.bump();
        let mut ends = self.ends.lock();
        for (topic, of_topic) in statistics.topics {
            let topic: Arc<str> = topic.into();
            for (index, of) in of_topic.partitions.into_iter().filter(|(index, _)| *index >= 0) {
                let log_end = if self.read_committed { of.ls_offset } else { of.hi_offset };
                ends.insert(TopicPartition::new(Arc::clone(&topic), index), Ends { log_end, read_to: of.eof_offset });
            }
        }
        log::debug!(
            "librdkafka: {} requests, {} bytes received, {} messages",
            statistics.tx,
            statistics.rx_bytes,
            statistics.rxmsgs
        );
    }

    /// The end of a log is told as an error too.
    fn error(&self, error: KafkaError, reason: &str) {
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::PartitionEOF) => self.bump(),
            _ => self.note(Called::Trouble(reason.to_owned())),
        }
    }
}

impl ConsumerContext for Context {
    /// The answer to librdkafka comes later, when the engine is ready for it: until then the group waits.
    fn rebalance(&self, consumer: &BaseConsumer<Self>, what: RDKafkaRespErr, list: &mut TopicPartitionList) {
        if self.closing.load(Ordering::Relaxed) {
            if let Err(error) = unassign(consumer, list) {
                log::warn!("librdkafka: {error}");
            }
            return;
        }
        self.note(match what {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => Called::Assign(list.clone()),
            _ => Called::Revoke { list: list.clone(), lost: consumer.assignment_lost() },
        });
    }

    fn commit_callback(&self, result: KafkaResult<()>, list: &TopicPartitionList) {
        let result = result.and_then(|()| list.elements().iter().try_for_each(|element| element.error()));
        let positions = partitions(list).into_iter().zip(offsets(list)).collect();
        self.note(Called::Committed { positions, result: result.map_err(|error| error.to_string()) });
    }
}

/// Adds to what is read.
pub fn assign(consumer: &BaseConsumer<Context>, list: &TopicPartitionList) -> KafkaResult<()> {
    match consumer.rebalance_protocol() {
        RebalanceProtocol::Cooperative => consumer.incremental_assign(list),
        _ => consumer.assign(list),
    }
}

/// Takes away from what is read: these, or all where the protocol knows nothing else.
pub fn unassign(consumer: &BaseConsumer<Context>, list: &TopicPartitionList) -> KafkaResult<()> {
    match consumer.rebalance_protocol() {
        RebalanceProtocol::Cooperative => consumer.incremental_unassign(list),
        _ => consumer.unassign(),
    }
}
