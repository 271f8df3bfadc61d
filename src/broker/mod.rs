//! An embedded Kafka broker: one node, in memory, on real sockets and OS threads.
//!
//! `konekt demo`, `konekt broker`, tests and fault scripts start it; the Java client, librdkafka and our own client
//! produce to it, fetch from it, join groups and commit, without knowing the difference. It stores record batches as
//! they come (only base offset and leader epoch are patched, which the checksum does not cover), coordinates groups
//! of both protocols, recognises the repetitions of idempotent producers, and breaks on demand ([`Faults`]).
//! It has no transactions, no replication, no security and no disk: it is no place for data.
//!
//! The way of one request: `connection.rs` reads a frame, `shape.rs` checks its lengths, `kafka-protocol` decodes it,
//! `faults.rs` may hit it, `handlers/` answer it from `topics.rs` (logs) and `groups.rs` (group coordinators).
//!
//! Threads: `konekt-broker-accept`, `konekt-broker-timer` (group sessions) and one `konekt-broker-conn-N` per
//! connection, which also waits in long polls and rebalances. [`Broker::stop`] or dropping the broker ends and joins all.

mod batch;
mod connection;
mod faults;
mod group;
mod groups;
mod handlers;
mod listener;
mod log;
mod sessions;
mod shape;
mod topics;
mod traffic;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
pub use kafka_protocol::messages::ApiKey;
use parking_lot::{Condvar, Mutex};
use uuid::Uuid;

pub use self::faults::{Action, Fault, Faults};
use self::group::Pace;
use self::groups::Groups;
use self::listener::Connections;
use self::sessions::FetchSessions;
pub use self::topics::TopicError;
use self::topics::Topics;
pub use self::traffic::Traffic;
use self::traffic::TrafficByApi;
use crate::door;

/// How a broker is set up. The default listens on a free port of 127.0.0.1 and has no topics.
#[derive(Clone, Debug)]
pub struct BrokerOptions {
    /// Address and port to listen on; port 0 takes a free one.
    pub listen: String,
    /// The host that clients are told to connect to; without it the one listened on (127.0.0.1 when that is all).
    pub advertised_host: Option<String>,
    /// The cluster's id; without it a random one. Topics that exist from the start have ids made of it and their names,
    /// so a broker that is started anew with the same id and records cannot be told from the one before.
    pub cluster_id: Option<String>,
    /// Topics that exist from the start.
    pub topics: Vec<TopicSpec>,
    /// Makes unknown topics that a client asks for, with so many partitions; `None` makes none.
    pub auto_create_partitions: Option<i32>,
    /// The broker's node id.
    pub node_id: i32,
    /// How long a new group's first rebalance waits for more members.
    pub group_initial_rebalance_delay: Duration,
    /// How often members of the consumer protocol (KIP-848) are told to send heartbeats…
    pub group_consumer_heartbeat_interval: Duration,
    /// …and after how long a silence they are out.
    pub group_consumer_session_timeout: Duration,
    /// How many fetch sessions (KIP-227) are kept; with 0 every fetch is whole
    /// (`max.incremental.fetch.session.cache.slots`).
    pub fetch_sessions_max: usize,
    /// Drops a partition's oldest batches when it holds more bytes than this; `None` keeps all.
    pub retention_bytes: Option<usize>,
}

impl Default for BrokerOptions {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:0".to_owned(),
            advertised_host: None,
            cluster_id: None,
            topics: Vec::new(),
            auto_create_partitions: None,
            node_id: 1,
            group_initial_rebalance_delay: Duration::ZERO,
            group_consumer_heartbeat_interval: Duration::from_secs(5),
            group_consumer_session_timeout: Duration::from_secs(45),
            fetch_sessions_max: 1_000,
            retention_bytes: None,
        }
    }
}

/// A topic to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicSpec {
    pub name: String,
    pub partitions: i32,
}

impl TopicSpec {
    /// A topic with so many partitions.
    pub fn new(name: impl Into<String>, partitions: i32) -> Self {
        Self { name: name.into(), partitions }
    }
}

/// Why a broker does not start or cannot do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// The address is taken, not ours, or no address.
    #[error("cannot listen on {address}: {source}; choose another address or stop who uses it")]
    Listen { address: String, source: io::Error },
    /// A topic cannot be made or does not exist.
    #[error(transparent)]
    Topic(#[from] TopicError),
}

/// A running broker. Dropping it stops it.
///
/// ```
/// use konekt::broker::{Broker, BrokerOptions, TopicSpec};
/// let options = BrokerOptions { topics: vec![TopicSpec::new("orders", 8)], ..BrokerOptions::default() };
/// let broker = Broker::start(options)?;
/// println!("bootstrap_servers = {}", broker.address());
/// assert_eq!(broker.log_end("orders", 7), Some(0));
/// broker.stop();
/// # Ok::<(), konekt::broker::BrokerError>(())
/// ```
pub struct Broker {
    shared: Arc<Shared>,
    local_address: SocketAddr,
    accept_thread: Option<JoinHandle<()>>,
    timer_thread: Option<JoinHandle<()>>,
}

/// What all threads of a broker share.
struct Shared {
    node_id: i32,
    cluster_id: String,
    advertised_host: String,
    port: u16,
    auto_create_partitions: Option<i32>,
    topics: Topics,
    groups: Groups,
    group_pace: Pace,
    fetch_sessions: FetchSessions,
    faults: Faults,
    traffic: TrafficByApi,
    connections: Connections,
    next_producer_id: AtomicI64,
    stop: StopSignal,
}

impl Broker {
    /// Listens, makes the topics and starts the threads.
    ///
    /// # Errors
    /// The address cannot be listened on, or a topic's name or partition count is impossible.
    pub fn start(options: BrokerOptions) -> Result<Self, BrokerError> {
        let refused = |source| BrokerError::Listen { address: options.listen.clone(), source };
        let listener = TcpListener::bind(&options.listen).map_err(refused)?;
        let local_address = listener.local_addr().map_err(refused)?;
        let shared = Arc::new(Shared::new(&options, local_address));
        for topic in &options.topics {
            let id = Uuid::new_v5(&Uuid::NAMESPACE_OID, format!("{}/{}", shared.cluster_id, topic.name).as_bytes());
            shared.topics.create_as(id, &topic.name, topic.partitions)?;
        }
        let for_timer = Arc::clone(&shared);
        let for_accept = Arc::clone(&shared);
        let broker = Self {
            timer_thread: Some(door::spawn("konekt-broker-timer", move || for_timer.groups.run_timer())),
            accept_thread: Some(door::spawn("konekt-broker-accept", move || listener::run(&for_accept, &listener))),
            shared,
            local_address,
        };
        ::log::info!("embedded broker listens on {}", broker.address());
        Ok(broker)
    }

    /// Where clients connect to: `host:port`.
    pub fn address(&self) -> String {
        match self.shared.advertised_host.contains(':') {
            true => format!("[{}]:{}", self.shared.advertised_host, self.shared.port),
            false => format!("{}:{}", self.shared.advertised_host, self.shared.port),
        }
    }

    /// Makes a topic.
    ///
    /// # Errors
    /// It exists already, or its name or partition count is impossible.
    pub fn create_topic(&self, name: &str, partitions: i32) -> Result<(), BrokerError> {
        self.shared.topics.create(name, partitions)?;
        Ok(())
    }

    /// Deletes a topic with its records. Made anew it has another id and starts at offset 0.
    ///
    /// # Errors
    /// There is no such topic.
    pub fn delete_topic(&self, name: &str) -> Result<(), BrokerError> {
        self.shared.topics.delete(name)?;
        self.shared.groups.forget_topic(name);
        Ok(())
    }

    /// Gives a topic more partitions.
    ///
    /// # Errors
    /// There is no such topic, or it has that many already.
    pub fn create_partitions(&self, name: &str, partitions: i32) -> Result<(), BrokerError> {
        self.shared.topics.grow(name, partitions)?;
        Ok(())
    }

    /// What is to go wrong.
    pub fn faults(&self) -> &Faults {
        &self.shared.faults
    }

    /// The offset that a partition's next record gets; `None`: no such partition.
    pub fn log_end(&self, topic: &str, partition: i32) -> Option<i64> {
        Some(self.shared.topics.get(topic)?.partition(partition)?.lock().end())
    }

    /// The first offset that a partition still holds; `None`: no such partition.
    pub fn log_start(&self, topic: &str, partition: i32) -> Option<i64> {
        Some(self.shared.topics.get(topic)?.partition(partition)?.lock().start())
    }

    /// The offset that a group has committed for a partition.
    pub fn committed(&self, group_id: &str, topic: &str, partition: i32) -> Option<i64> {
        let key = (topic.to_owned(), partition);
        self.shared.groups.with(group_id, |group, _| group.offsets.get(&key).map(|committed| committed.offset))?
    }

    /// Puts one record batch (message format v2) at the end of a partition, as it is: its checksum, counts and records
    /// may be wrong, so that tests can see what a client makes of it. Returns the base offset it got.
    ///
    /// # Panics
    /// When there is no such partition or the 61 bytes of the batch's header are not whole: a mistake in the test.
    pub fn append(&self, topic: &str, partition: i32, batch: Bytes) -> i64 {
        let found = self.shared.topics.get(topic).and_then(|topic| topic.partition(partition));
        let log = found.unwrap_or_else(|| panic!("the embedded broker has no partition {topic}/{partition}"));
        let appended = log.lock().append_unchecked(&batch);
        let base_offset = appended.unwrap_or_else(|fault| panic!("no batch for {topic}/{partition}: {fault}"));
        self.shared.topics.ring();
        base_offset
    }

    /// Moves a partition's start to `offset`, as retention does. Returns the new start; `None`: no such partition.
    pub fn delete_records_before(&self, topic: &str, partition: i32, offset: i64) -> Option<i64> {
        let log = self.shared.topics.get(topic)?.partition(partition)?;
        let mut log = log.lock();
        log.delete_before(offset);
        Some(log.start())
    }

    /// Loses a partition's records from `offset` on, as when a replica that lacks them becomes the leader: a new leader
    /// epoch begins. Whole batches go. Returns the new end; `None`: no such partition.
    pub fn truncate(&self, topic: &str, partition: i32, offset: i64) -> Option<i64> {
        let log = self.shared.topics.get(topic)?.partition(partition)?;
        let end = log.lock().truncate(offset);
        self.shared.topics.ring();
        Some(end)
    }

    /// Forgets all fetch sessions, as a broker does that has more clients than it remembers.
    pub fn forget_fetch_sessions(&self) {
        self.shared.fetch_sessions.forget_all();
    }

    /// What was asked of one API and answered so far.
    pub fn traffic(&self, api: ApiKey) -> Traffic {
        self.shared.traffic.of(api)
    }

    /// Cuts every connection, as a restarted broker does; it goes on listening and has lost nothing.
    pub fn drop_connections(&self) {
        self.shared.connections.cut_all();
    }

    /// Closes all sockets and joins all threads.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.shared.stop.raise();
        self.shared.groups.stop();
        self.shared.topics.ring();
        if let Err(error) = listener::wake(self.local_address) {
            ::log::warn!("embedded broker: its accept thread cannot be woken and stays behind: {error}");
            self.accept_thread = None;
            self.shared.connections.cut_all();
        }
        for thread in [self.accept_thread.take(), self.timer_thread.take()].into_iter().flatten() {
            if thread.join().is_err() {
                ::log::error!("a thread of the embedded broker panicked; its message stands on stderr");
            }
        }
    }
}

impl Shared {
    fn new(options: &BrokerOptions, local_address: SocketAddr) -> Self {
        let local_host = match local_address.ip() {
            all if all.is_unspecified() => "127.0.0.1".to_owned(),
            one => one.to_string(),
        };
        Self {
            node_id: options.node_id,
            cluster_id: options
                .cluster_id
                .clone()
                .unwrap_or_else(|| format!("konekt-{}", topics::random_id().simple())),
            advertised_host: options.advertised_host.clone().unwrap_or(local_host),
            port: local_address.port(),
            auto_create_partitions: options.auto_create_partitions,
            topics: Topics::new(options.retention_bytes),
            groups: Groups::new(options.group_initial_rebalance_delay),
            group_pace: Pace {
                heartbeat_interval: options.group_consumer_heartbeat_interval,
                session_timeout: options.group_consumer_session_timeout,
            },
            fetch_sessions: FetchSessions::new(options.fetch_sessions_max),
            faults: Faults::default(),
            traffic: TrafficByApi::default(),
            connections: Connections::default(),
            next_producer_id: AtomicI64::new(1),
            stop: StopSignal::default(),
        }
    }
}

/// Raised once, seen by everybody, also by those who sleep.
#[derive(Default)]
struct StopSignal {
    raised: Mutex<bool>,
    changed: Condvar,
}

impl StopSignal {
    fn raise(&self) {
        *self.raised.lock() = true;
        self.changed.notify_all();
    }

    fn is_raised(&self) -> bool {
        *self.raised.lock()
    }

    /// Waits so long, unless the stop comes first.
    fn comes_within(&self, duration: Duration) -> bool {
        let mut raised = self.raised.lock();
        self.changed.wait_while_for(&mut raised, |raised| !*raised, duration);
        *raised
    }
}
