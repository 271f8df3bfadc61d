//! A Kafka to try things on: the embedded broker with a topic of [`orders`](super::orders).
//!
//! The broker forgets everything when it ends, a database does not. So that a second run goes on where the first ended,
//! cluster and topic keep their ids and the log is written again from offset 0, the same as before, and then grows.

use std::sync::Arc;
use std::time::Duration;

use super::orders::Order;
use crate::broker::{Broker, BrokerError, BrokerOptions, TopicSpec};
use crate::kafka::cluster::Cluster;
use crate::kafka::connection::ConnectionOptions;
use crate::kafka::error::Error;
use crate::kafka::producer::{NewRecord, Producer, ProducerOptions, partition_for_key};

/// The demo's topic.
pub const TOPIC: &str = "orders";
/// Its partitions.
pub const PARTITIONS: usize = 8;
/// The demo's consumer group.
pub const GROUP: &str = "konekt-demo";

const CLUSTER_ID: &str = "konekt-demo";
/// Orders between two reports of progress.
const STEP: u64 = 1_000;
/// The broker is in this process: only a fault takes so long.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(30);

/// Why there is no demo.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    #[error("the embedded broker does not start: {0}")]
    Broker(#[source] BrokerError),
    #[error("the orders cannot be produced: {0}")]
    Kafka(#[source] Error),
}

/// A running broker that holds orders.
pub struct DemoKafka {
    broker: Broker,
    /// Orders in the topic.
    pub orders: u64,
}

impl DemoKafka {
    /// Starts the broker and produces the orders that earlier runs had up to `positions` (next offset per partition), and
    /// then `records` more. `progress` gets the number produced so far, now and then.
    ///
    /// # Errors
    /// When no port is free, or the broker refuses records.
    pub fn start(
        positions: &[i64; PARTITIONS],
        records: u64,
        mut progress: impl FnMut(u64),
    ) -> Result<DemoKafka, DemoError> {
        let topics = vec![TopicSpec::new(TOPIC, PARTITIONS as i32)];
        let options = BrokerOptions { cluster_id: Some(CLUSTER_ID.to_owned()), topics, ..BrokerOptions::default() };
        let broker = Broker::start(options).map_err(DemoError::Broker)?;
        let cluster = Cluster::connect(&[broker.address()], ConnectionOptions::default()).map_err(DemoError::Kafka)?;
        let mut log = OrderLog::new(Producer::new(cluster, ProducerOptions::default()));
        while log.is_behind(positions) {
            log.append(&mut progress).map_err(DemoError::Kafka)?;
        }
        for _ in 0..records {
            log.append(&mut progress).map_err(DemoError::Kafka)?;
        }
        log.producer.flush(FLUSH_TIMEOUT).map_err(DemoError::Kafka)?;
        progress(log.count);
        Ok(DemoKafka { broker, orders: log.count })
    }

    /// Where clients connect to.
    pub fn address(&self) -> String {
        self.broker.address()
    }
}

/// Orders in their order, and how far each partition has come.
struct OrderLog {
    producer: Producer,
    topic: Arc<str>,
    order: Order,
    count: u64,
    ends: [i64; PARTITIONS],
}

impl OrderLog {
    fn new(producer: Producer) -> OrderLog {
        OrderLog { producer, topic: TOPIC.into(), order: Order::default(), count: 0, ends: [0; PARTITIONS] }
    }

    fn is_behind(&self, positions: &[i64; PARTITIONS]) -> bool {
        self.ends.iter().zip(positions).any(|(end, position)| end < position)
    }

    fn append(&mut self, progress: &mut impl FnMut(u64)) -> Result<(), Error> {
        self.order.fill(self.count);
        let (key, value) = (self.order.key.as_bytes(), self.order.value.as_bytes());
        let partition = partition_for_key(key, PARTITIONS);
        let record = NewRecord {
            partition: Some(partition as i32),
            key: Some(key),
            value: Some(value),
            timestamp_ms: Some(self.order.timestamp_ms),
            ..NewRecord::default()
        };
        self.producer.send(&self.topic, &record)?;
        self.ends[partition] += 1;
        self.count += 1;
        if self.count.is_multiple_of(STEP) {
            progress(self.count);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_run_continues_the_same_log() {
        let first = DemoKafka::start(&[0; PARTITIONS], 500, |_| {}).unwrap();
        let ends = |kafka: &DemoKafka| -> Vec<i64> {
            (0..PARTITIONS as i32).map(|partition| kafka.broker.log_end(TOPIC, partition).unwrap()).collect()
        };
        let first_ends = ends(&first);
        assert_eq!((first.orders, first_ends.iter().sum::<i64>()), (500, 500));
        let positions: [i64; PARTITIONS] = first_ends.clone().try_into().unwrap();
        let second = DemoKafka::start(&positions, 100, |_| {}).unwrap();
        assert_eq!(second.orders, 600);
        assert!(first_ends.iter().zip(ends(&second)).all(|(before, now)| *before <= now));
    }
}
