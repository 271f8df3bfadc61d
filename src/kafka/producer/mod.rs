//! An idempotent producer: what is acknowledged is in the log exactly once, and in order per partition.
//!
//! [`Producer::send`] puts a record into its partition's batch and returns; a thread per broker takes the batches that
//! are full or have lingered, compresses and sends them, one request at a time, one batch per partition. Retries keep
//! their place and their sequence number, so a broker that restarts, a leader that moves and an answer that gets lost
//! cost time and neither order nor a second copy. Always `acks=all`.
//!
//! ```text
//! send ──▶ accumulator (batches by partition) ──▶ sender, a thread per broker ──▶ broker
//!               ▲  leaders, the producer's id ── router, one thread                │
//!               └──────────────────────── what became of each batch ◀──────────────┘
//! ```
//!
//! What becomes of a record is learnt from [`Producer::flush`], for all together, or through the callback of
//! [`Producer::reporting`], for each. A record is given up when the broker refuses it for good (too large, not
//! authorized) or after `delivery_timeout`; others are not held up by it. A batch that is too large as a whole is halved.
//!
//! APIs: Produce (0), InitProducerId (22). Sources: KIP-98 and KIP-360 (idempotence), KIP-794 (partitioner).

mod accumulator;
mod batch;
mod partitioner;
mod router;
mod sender;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

use self::accumulator::Accumulator;
use self::batch::record_bytes;
pub use self::partitioner::partition_for_key;
use super::cluster::{Cluster, Metadata, TopicsWanted};
use super::error::{Code, Error};
use super::wire::compression::Codec;
use crate::core::record::TopicPartition;
use crate::door;

/// How batches are made and how long they are tried. The defaults are the Java client's, with larger batches.
#[derive(Clone, Debug)]
pub struct ProducerOptions {
    pub compression: Codec,
    /// How long a batch waits for more records, unless somebody waits for it.
    pub linger: Duration,
    /// A batch is full when its records take as much, before compression. Below the topic's `max.message.bytes`.
    pub batch_bytes: usize,
    /// The most that may wait for its acknowledgement; [`Producer::send`] blocks beyond it. One larger record passes, alone.
    pub buffer_bytes: usize,
    /// How long a batch is tried, counted from its first record.
    pub delivery_timeout: Duration,
    /// How soon new partitions are noticed; moved leaders are looked for at once.
    pub metadata_max_age: Duration,
}

impl Default for ProducerOptions {
    fn default() -> Self {
        Self {
            compression: Codec::None,
            linger: Duration::from_millis(5),
            batch_bytes: 512 << 10,
            buffer_bytes: 32 << 20,
            delivery_timeout: Duration::from_secs(120),
            metadata_max_age: Duration::from_secs(300),
        }
    }
}

/// A record to be written. The default has no key, no value (a tombstone), no headers, and the time at which it is sent.
#[derive(Clone, Copy, Debug, Default)]
pub struct NewRecord<'a> {
    /// Without one, the key's hash chooses as in the Java client; without a key either, partitions take turns.
    pub partition: Option<i32>,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    /// Names may repeat and need not be text.
    pub headers: &'a [(&'a [u8], Option<&'a [u8]>)],
    /// Milliseconds since the epoch.
    pub timestamp_ms: Option<i64>,
    /// Comes back in the [`Delivery`], to tell records apart.
    pub tag: u64,
}

/// What became of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    pub partition: TopicPartition,
    /// The records' tags, in their order.
    pub tags: Vec<u64>,
    pub record_count: usize,
    /// The first record's offset; the others follow without gaps. `None` when the broker knows the batch from an earlier
    /// attempt, but not its offset any more.
    pub result: Result<Option<i64>, Error>,
    bytes: usize,
}

/// Records so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProducerCounts {
    /// Accepted by [`Producer::send`].
    pub sent: u64,
    /// Written, as the brokers say.
    pub acknowledged: u64,
    /// Given up.
    pub failed: u64,
}

impl ProducerCounts {
    /// Sent and not yet known to be written or given up.
    pub fn pending(&self) -> u64 {
        self.sent - self.acknowledged - self.failed
    }
}

/// Called with what became of each batch, on a sender's thread: it must be quick and must not use the producer.
pub type OnDelivery = Box<dyn Fn(&Delivery) + Send + Sync>;

/// Writes records to topics. May be shared by threads.
///
/// Dropping it abandons what is not acknowledged: call [`flush`](Self::flush) before.
///
/// ```no_run
/// use std::time::Duration;
/// use konekt::kafka::cluster::Cluster;
/// use konekt::kafka::connection::ConnectionOptions;
/// use konekt::kafka::producer::{NewRecord, Producer, ProducerOptions};
///
/// let cluster = Cluster::connect(&["localhost:9092".into()], ConnectionOptions::default())?;
/// let producer = Producer::new(cluster, ProducerOptions::default());
/// let topic = "orders".into();
/// producer.send(&topic, &NewRecord { key: Some(b"customer-7"), value: Some(b"{}"), ..NewRecord::default() })?;
/// producer.flush(Duration::from_secs(30))?;
/// # Ok::<(), konekt::kafka::error::Error>(())
/// ```
pub struct Producer {
    shared: Arc<Shared>,
    router: Option<JoinHandle<()>>,
}

/// What the caller, the router and the senders share.
struct Shared {
    cluster: Cluster,
    options: ProducerOptions,
    state: Mutex<Accumulator>,
    /// Rings at everything that may let somebody go on.
    changed: Condvar,
    on_delivery: Option<OnDelivery>,
}

/// How long a topic that nobody knows may still appear: it may have been created a moment ago.
const NEW_TOPIC_PATIENCE: Duration = Duration::from_secs(5);
/// Kafka's default for `socket.request.max.bytes`: a broker hangs up on more, which would look like a broken network.
const RECORD_BYTES_MAX: usize = 100 << 20;

impl Producer {
    /// A producer for `cluster`. Connections are opened when they are needed.
    pub fn new(cluster: Cluster, options: ProducerOptions) -> Self {
        Self::start(cluster, options, None)
    }

    /// A producer that tells what becomes of each batch, before [`flush`](Self::flush) counts it as done.
    pub fn reporting(cluster: Cluster, options: ProducerOptions, on_delivery: OnDelivery) -> Self {
        Self::start(cluster, options, Some(on_delivery))
    }

    fn start(cluster: Cluster, options: ProducerOptions, on_delivery: Option<OnDelivery>) -> Self {
        let state = Mutex::new(Accumulator::new(options.clone(), on_delivery.is_some()));
        let shared = Arc::new(Shared { cluster, options, state, changed: Condvar::new(), on_delivery });
        let routed = Arc::clone(&shared);
        let router = door::spawn("konekt-produce", move || routed.guard(|| router::run(&routed)));
        Self { shared, router: Some(router) }
    }

    /// Adds a record to its batch. Blocks while `buffer_bytes` wait for acknowledgement, and at a topic's first record
    /// until its partitions are known.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a record that cannot be sent (the topic has no such partition, it is larger than 100 MiB)
    /// while others can; the topic's error when it does not exist; and what ended the producer as a whole, if anything did.
    pub fn send(&self, topic: &Arc<str>, record: &NewRecord<'_>) -> Result<(), Error> {
        let bytes = record_bytes(record);
        if bytes > RECORD_BYTES_MAX {
            return Err(Error::Invalid(format!(
                "a record of {bytes} bytes is larger than the 100 MiB that brokers take"
            )));
        }
        let mut state = self.shared.state.lock();
        while !state.knows(topic) {
            drop(state);
            let metadata = self.shared.find_topic(topic)?;
            state = self.shared.state.lock();
            state.add_topic(topic, door::random(), &metadata);
            self.shared.changed.notify_all();
        }
        state = self.shared.wait_for_room(state, bytes);
        if let Some(error) = &state.fatal {
            return Err(error.clone());
        }
        let timestamp_ms = record.timestamp_ms.unwrap_or_else(door::unix_ms);
        if state.append(topic, record, timestamp_ms, door::now())? {
            self.shared.changed.notify_all();
        }
        Ok(())
    }

    /// Waits until everything that was sent is acknowledged or given up; nothing lingers meanwhile.
    ///
    /// # Errors
    /// The first error of a record that was given up since the last flush; [`Error::Timeout`] when `timeout` is over, after
    /// which delivery goes on in the background.
    pub fn flush(&self, timeout: Duration) -> Result<(), Error> {
        let deadline = door::now() + timeout;
        let mut state = self.shared.state.lock();
        state.hurried += 1;
        self.shared.changed.notify_all();
        let mut is_late = false;
        while state.counts.pending() > 0 && !is_late {
            is_late = self.shared.changed.wait_until(&mut state, deadline).timed_out();
        }
        state.hurried -= 1;
        match state.first_failure.take() {
            Some(error) => Err(error),
            None if is_late && state.counts.pending() > 0 => {
                Err(Error::Timeout { address: "the cluster".into(), api: "Produce", after: timeout })
            }
            None => Ok(()),
        }
    }

    /// How many records were sent, acknowledged and given up so far.
    pub fn counts(&self) -> ProducerCounts {
        self.shared.state.lock().counts
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        self.shared.state.lock().stopping = true;
        self.shared.changed.notify_all();
        // The router ends and joins the senders; a panic was reported where it happened.
        self.router.take().map(JoinHandle::join);
    }
}

impl Shared {
    fn wait_for_room<'a>(
        &'a self,
        mut state: MutexGuard<'a, Accumulator>,
        bytes: usize,
    ) -> MutexGuard<'a, Accumulator> {
        if !state.has_room(bytes) {
            state.hurried += 1;
            self.changed.notify_all();
            // Ends at the latest with the delivery timeout of what fills the buffer.
            self.changed.wait_while(&mut state, |state| !state.has_room(bytes) && state.fatal.is_none());
            state.hurried -= 1;
        }
        state
    }

    /// The metadata of a topic that exists and has partitions.
    fn find_topic(&self, topic: &Arc<str>) -> Result<Arc<Metadata>, Error> {
        let give_up_at = door::now() + NEW_TOPIC_PATIENCE;
        loop {
            let metadata = self.cluster.refresh(TopicsWanted::Names(std::slice::from_ref(topic)))?;
            let (code, count) = metadata
                .topics
                .get(topic)
                .map_or((Code::UNKNOWN_TOPIC_OR_PARTITION, 0), |known| (known.error, known.partitions.len()));
            if code.is_ok() && count > 0 {
                return Ok(metadata);
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

    /// Reports what is over with, then counts it.
    fn conclude(&self, deliveries: &[Delivery]) {
        for delivery in deliveries {
            match (&self.on_delivery, &delivery.result) {
                (Some(on_delivery), _) => on_delivery(delivery),
                (None, Err(error)) => {
                    log::warn!("{}: {} records are given up: {error}", delivery.partition, delivery.record_count);
                }
                (None, Ok(_)) => {}
            }
        }
        self.state.lock().conclude(deliveries);
        self.changed.notify_all();
    }

    /// Runs a thread's body; a panic, whose message is on stderr, ends the producer and not the callers' patience.
    fn guard(&self, body: impl FnOnce()) {
        if std::panic::catch_unwind(std::panic::AssertUnwindSafe(body)).is_err() {
            self.state.lock().fatal.get_or_insert(Error::Invalid("a thread of the producer panicked".into()));
            self.changed.notify_all();
        }
    }

    /// Waits for a change until `at`, or without end.
    fn wait(&self, state: &mut MutexGuard<'_, Accumulator>, at: Option<Instant>) {
        match at {
            Some(at) => drop(self.changed.wait_until(state, at)),
            None => self.changed.wait(state),
        }
    }
}
