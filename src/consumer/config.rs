//! What a consumer can be told: the settings under their names, and what the engine and the Kafka client get of them.
//!
//! `crate::config` makes one from files, environment and flags; a program writes one down. A test there holds the
//! defaults of both together.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::core::secret::Secret;
use crate::engine::{DeadLetterPlaces, Delivery, EngineConfig, OffsetReset};
use crate::kafka::cluster::Cluster;
use crate::kafka::connection::ConnectionOptions;
use crate::kafka::error::Error as KafkaError;
use crate::kafka::security::Security;
use crate::port::{DeadLetters, MemoryBudget};
use crate::source::client::Client;
#[cfg(feature = "confluent")]
use crate::source::confluent::ConfluentOptions;
use crate::source::native::{Assignor, GroupProtocol, Isolation, NativeOptions, TopicSelection};

/// How many chunks of a partition librdkafka's messages may be held in.
#[cfg(feature = "confluent")]
const CREDIT_CHUNKS: usize = 4;

/// How a [`Consumer`](super::Consumer) reads and works. The fields are the settings of the same names; times are in
/// milliseconds.
#[derive(Clone, Debug)]
pub struct ConsumerConfig {
    /// Which Kafka client reads. What the others lack is in [`client`](crate::source::client).
    pub client: Client,
    /// librdkafka's settings for [`Client::Confluent`], beyond what follows from the fields below; also those of its
    /// security, as [`security`](Self::security) is the native client's.
    pub properties: Vec<(String, Secret)>,
    /// `host:port` of one or more brokers.
    pub bootstrap_servers: Vec<String>,
    /// The consumer group: processes of one group share the partitions. It is part of every record id.
    pub group_id: String,
    /// Must name something.
    pub topics: TopicSelection,
    /// How this client calls itself towards the brokers.
    pub client_id: String,
    /// Where this client is: a replica in the same rack is read instead of the leader.
    pub client_rack: Option<String>,
    /// Makes the group member static: a restart within the session does not cause a rebalance.
    pub group_instance_id: Option<String>,
    /// Where to start a partition without a position.
    pub auto_offset_reset: OffsetReset,
    /// How members and coordinator agree on who reads what.
    pub group_protocol: GroupProtocol,
    /// Which of the coordinator's assignors to ask for, with [`GroupProtocol::Consumer`].
    pub group_remote_assignor: Option<String>,
    /// In order of preference, with [`GroupProtocol::Classic`].
    pub partition_assignment_strategy: Vec<Assignor>,
    /// Whether records of open and aborted transactions are read.
    pub isolation_level: Isolation,
    /// Silence after which the group gives this member's partitions to others.
    pub session_timeout_ms: u64,
    /// Time between signs of life; below a third of the session.
    pub heartbeat_interval_ms: u64,
    /// How long a rebalance waits for work in flight.
    pub max_poll_interval_ms: u64,
    /// How much a broker waits for before it answers a fetch…
    pub fetch_min_bytes: usize,
    /// …and how long.
    pub fetch_max_wait_ms: u64,
    /// Most bytes of one fetch; one larger batch still gets through. At most a quarter of `memory_limit` is used.
    pub fetch_max_bytes: usize,
    /// Most bytes of one partition in one fetch; likewise.
    pub max_partition_fetch_bytes: usize,
    /// How long one address may take to accept a connection.
    pub connect_timeout_ms: u64,
    /// How long a broker may take to answer before the connection counts as dead.
    pub request_timeout_ms: u64,
    /// How soon new topics and partitions are noticed.
    pub metadata_max_age_ms: u64,
    /// TLS and SASL; [`Security::new`] makes it of [`SecurityOptions`](crate::kafka::security::SecurityOptions).
    pub security: Security,
    /// What is promised about each record.
    pub delivery: Delivery,
    /// Threads that write or run the handler.
    pub max_workers: usize,
    /// Sub-lanes per partition, by key; 1 in exactly-once mode.
    pub partition_workers: usize,
    /// Most records in a batch.
    pub batch_size: usize,
    /// Most bytes in a batch; one larger record still passes, alone. At most a quarter of `memory_limit` is used.
    pub batch_bytes_max: usize,
    /// Longest a record waits for company.
    pub batch_timeout_ms: u64,
    /// Attempts after the first before a batch counts as failed.
    pub max_retries: u32,
    /// The first wait before such an attempt; it doubles.
    pub retry_backoff_ms: u64,
    /// Failed attempts in a row that pause a partition…
    pub error_threshold: u32,
    /// …for this long.
    pub error_timeout_ms: u64,
    /// Keep records that cannot be written as rows with status FAILED, where the sink has a table that takes them.
    pub dead_letter_table: bool,
    /// Send records that cannot be written (nor kept in the table) to this topic.
    pub dead_letter_topic: Option<String>,
    /// Append records that cannot be written (nor kept in table or topic) to this file, as JSON lines.
    pub dead_letter_file: Option<PathBuf>,
    /// The most records in a hundred that may be dead letters.
    pub dead_letter_share_max: u32,
    /// A worker that does one thing for longer is reported.
    pub message_timeout_seconds: u64,
    /// Time between commits of the group's offsets to Kafka.
    pub commit_interval_ms: u64,
    /// Time between calls of `on_statistics`.
    pub stats_interval_ms: u64,
    /// How long work in flight may take when the consumer stops.
    pub shutdown_timeout_ms: u64,
    /// Bytes of fetched and decoded records held at a time.
    pub memory_limit: usize,
    /// Stop at the ends of the partitions as seen at the start.
    pub until_end: bool,
    /// Stop after so many records.
    pub max_messages: Option<u64>,
    /// Leave no trace in Kafka, nor any dead letter: all partitions of the topics are read without becoming a member of
    /// the group, and nothing is committed. For a sink that keeps nothing either.
    pub dry_run: bool,
}

impl Default for ConsumerConfig {
    /// The original system's defaults, with `batch_timeout_ms` 100 so that a quiet topic is not seconds late.
    fn default() -> Self {
        Self {
            client: Client::default(),
            properties: Vec::new(),
            bootstrap_servers: vec!["localhost:9092".into()],
            group_id: "konekt".into(),
            topics: TopicSelection::names([""; 0]),
            client_id: "konekt".into(),
            client_rack: None,
            group_instance_id: None,
            auto_offset_reset: OffsetReset::Earliest,
            group_protocol: GroupProtocol::default(),
            group_remote_assignor: None,
            partition_assignment_strategy: Assignor::DEFAULT.to_vec(),
            isolation_level: Isolation::ReadCommitted,
            session_timeout_ms: 30_000,
            heartbeat_interval_ms: 10_000,
            max_poll_interval_ms: 300_000,
            fetch_min_bytes: 1,
            fetch_max_wait_ms: 500,
            fetch_max_bytes: 8 << 20,
            max_partition_fetch_bytes: 1 << 20,
            connect_timeout_ms: 10_000,
            request_timeout_ms: 30_000,
            metadata_max_age_ms: 300_000,
            security: Security::default(),
            delivery: Delivery::AtLeastOnce,
            max_workers: 4,
            partition_workers: 1,
            batch_size: 50,
            batch_bytes_max: 16 << 20,
            batch_timeout_ms: 100,
            max_retries: 3,
            retry_backoff_ms: 1_000,
            error_threshold: 10,
            error_timeout_ms: 60_000,
            dead_letter_table: false,
            dead_letter_topic: None,
            dead_letter_file: None,
            dead_letter_share_max: 10,
            message_timeout_seconds: 300,
            commit_interval_ms: 5_000,
            stats_interval_ms: 30_000,
            shutdown_timeout_ms: 30_000,
            memory_limit: 256 << 20,
            until_end: false,
            max_messages: None,
            dry_run: false,
        }
    }
}

impl ConsumerConfig {
    /// The engine's share of the settings, drawing on `memory`; dead letters that do not go into the table go to
    /// `letters`.
    pub fn engine(&self, memory: Arc<MemoryBudget>, letters: Option<Arc<dyn DeadLetters>>) -> EngineConfig {
        let ms = Duration::from_millis;
        EngineConfig {
            group_id: self.group_id.as_str().into(),
            delivery: self.delivery,
            auto_offset_reset: self.auto_offset_reset,
            max_workers: self.max_workers,
            partition_workers: self.partition_workers,
            batch_size: self.batch_size,
            // Several batches are at work at a time, and all of them must fit.
            batch_bytes_max: self.batch_bytes_max.min(self.memory_limit / 4).max(1),
            batch_timeout: ms(self.batch_timeout_ms),
            max_retries: self.max_retries,
            retry_backoff: ms(self.retry_backoff_ms),
            error_threshold: self.error_threshold,
            error_timeout: ms(self.error_timeout_ms),
            dead_letters: DeadLetterPlaces { rows: self.dead_letter_table, letters },
            dead_letter_share_max: self.dead_letter_share_max,
            message_timeout: Duration::from_secs(self.message_timeout_seconds),
            commit_interval: ms(self.commit_interval_ms),
            stats_interval: ms(self.stats_interval_ms),
            shutdown_timeout: ms(self.shutdown_timeout_ms),
            until_end: self.until_end,
            max_messages: self.max_messages,
            memory,
        }
    }

    /// How connections are made with these settings, for what needs a cluster and no consumer.
    pub fn connection(&self) -> ConnectionOptions {
        self.native(MemoryBudget::new(self.memory_limit)).connection()
    }

    /// Finds the cluster, for tools that do not consume.
    ///
    /// # Errors
    /// When no broker answers within `connect_timeout_ms`.
    pub fn cluster(&self) -> Result<Cluster, KafkaError> {
        Cluster::connect(&self.bootstrap_servers, self.connection())
    }

    /// librdkafka's share of the settings, drawing on `memory`. Its security is among the
    /// [`properties`](Self::properties), as it reads certificates and passwords itself.
    #[cfg(feature = "confluent")]
    pub fn confluent(&self, memory: &Arc<MemoryBudget>) -> ConfluentOptions {
        // librdkafka offers assignors of one kind only: that of the first.
        let is_cooperative = |assignor: &Assignor| *assignor == Assignor::CooperativeSticky;
        let strategy = &self.partition_assignment_strategy;
        let first = strategy.first().is_some_and(is_cooperative);
        let assignors = strategy.iter().filter(|assignor| is_cooperative(assignor) == first);
        let assignors: Vec<&str> = assignors.map(|assignor| assignor.name()).collect();
        let classic = self.group_protocol != GroupProtocol::Consumer;
        let committed = self.isolation_level == Isolation::ReadCommitted;
        let mut properties = vec![
            ("bootstrap.servers", self.bootstrap_servers.join(",")),
            ("client.id", self.client_id.clone()),
            ("group.id", self.group_id.clone()),
            ("isolation.level", if committed { "read_committed" } else { "read_uncommitted" }.into()),
            ("fetch.min.bytes", self.fetch_min_bytes.to_string()),
            ("fetch.wait.max.ms", self.fetch_max_wait_ms.to_string()),
            ("fetch.max.bytes", self.fetch_max_bytes.to_string()),
            // It wants room for an answer of that size and what is around it.
            ("receive.message.max.bytes", self.fetch_max_bytes.max(100 << 20).saturating_add(1 << 20).to_string()),
            ("max.partition.fetch.bytes", self.max_partition_fetch_bytes.to_string()),
            ("socket.connection.setup.timeout.ms", self.connect_timeout_ms.max(1_000).to_string()),
            ("socket.timeout.ms", self.request_timeout_ms.min(300_000).to_string()),
            ("topic.metadata.refresh.interval.ms", self.metadata_max_age_ms.min(3_600_000).to_string()),
            ("max.poll.interval.ms", self.max_poll_interval_ms.max(self.session_timeout_ms).to_string()),
        ];
        if classic {
            properties.push(("partition.assignment.strategy", assignors.join(",")));
            properties.push(("session.timeout.ms", self.session_timeout_ms.to_string()));
            properties.push(("heartbeat.interval.ms", self.heartbeat_interval_ms.to_string()));
        } else {
            properties.push(("group.protocol", "consumer".into()));
        }
        let optional = [
            ("client.rack", &self.client_rack),
            ("group.instance.id", &self.group_instance_id),
            ("group.remote.assignor", if classic { &None } else { &self.group_remote_assignor }),
        ];
        properties.extend(optional.into_iter().filter_map(|(name, value)| Some((name, value.clone()?))));
        let properties = properties.into_iter().map(|(name, value)| (name.to_owned(), Secret::new(value)));
        ConfluentOptions {
            properties: properties.chain(self.properties.clone()).collect(),
            topics: self.topics.clone(),
            read_committed: committed,
            connect_timeout: Duration::from_millis(self.connect_timeout_ms),
            request_timeout: Duration::from_millis(self.request_timeout_ms),
            memory: Arc::clone(memory),
            credit_chunks: CREDIT_CHUNKS,
            chunk_bytes: self.max_partition_fetch_bytes.min(self.memory_limit / 8).max(1),
        }
    }

    /// The Kafka client's share of the settings, drawing on `memory`.
    pub fn native(&self, memory: Arc<MemoryBudget>) -> NativeOptions {
        let ms = Duration::from_millis;
        NativeOptions {
            client_id: self.client_id.clone(),
            group_instance_id: self.group_instance_id.clone(),
            pattern_waits: !self.until_end,
            rack: self.client_rack.clone(),
            group_protocol: self.group_protocol,
            remote_assignor: self.group_remote_assignor.clone(),
            assignors: self.partition_assignment_strategy.clone(),
            isolation: self.isolation_level,
            session_timeout: ms(self.session_timeout_ms),
            heartbeat_interval: ms(self.heartbeat_interval_ms),
            max_poll_interval: ms(self.max_poll_interval_ms),
            fetch_min_bytes: self.fetch_min_bytes,
            fetch_max_wait: ms(self.fetch_max_wait_ms),
            fetch_max_bytes: self.fetch_max_bytes,
            partition_fetch_bytes: self.max_partition_fetch_bytes,
            connect_timeout: ms(self.connect_timeout_ms),
            request_timeout: ms(self.request_timeout_ms),
            metadata_max_age: ms(self.metadata_max_age_ms),
            security: self.security.clone(),
            memory,
            ..NativeOptions::new(self.bootstrap_servers.clone(), self.group_id.clone(), self.topics.clone())
        }
    }
}
