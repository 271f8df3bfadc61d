//! What a consumer reads and how: its options, checked, and as its parts want them.

use std::sync::Arc;
use std::time::Duration;

use regex::Regex;

use crate::core::record::TopicPartition;
use crate::kafka::assignor::Assignor;
use crate::kafka::connection::ConnectionOptions;
use crate::kafka::error::Error;
use crate::kafka::group::{GroupOptions, GroupProtocol};
use crate::kafka::offsets::Isolation;
use crate::kafka::security::Security;
use crate::port::MemoryBudget;

/// The memory limit has room for at least this many answers.
const FETCHES_IN_MEMORY_MIN: usize = 4;

/// What to read.
#[derive(Clone, Debug)]
pub enum TopicSelection {
    /// These topics. They must exist; they are waited for a short time.
    Names(Vec<String>),
    /// All topics whose whole name matches, also those that are made later. Kafka's internal topics are left out.
    Pattern(Regex),
    /// Exactly these partitions, without becoming a member of the group. Its offsets are committed all the same.
    Partitions(Vec<TopicPartition>),
}

impl TopicSelection {
    /// These topics.
    pub fn names(names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self::Names(names.into_iter().map(Into::into).collect())
    }

    /// All topics whose whole name matches a regular expression.
    ///
    /// # Errors
    /// When it is none.
    pub fn pattern(pattern: &str) -> Result<Self, regex::Error> {
        // Anchored, so that of the alternatives in a|ab the one is taken that matches the whole name.
        Regex::new(&format!("^(?:{pattern})$")).map(Self::Pattern)
    }
}

/// How to consume.
#[derive(Clone)]
pub struct ConsumerOptions {
    /// `host:port` of some brokers.
    pub bootstrap: Vec<String>,
    pub client_id: String,
    pub group_id: String,
    /// `group.instance.id`; makes the member static.
    pub group_instance_id: Option<String>,
    pub topics: TopicSelection,
    /// Whether a pattern that matches nothing is waited for; else it ends the source, as a name that is not there does.
    pub pattern_waits: bool,
    pub group_protocol: GroupProtocol,
    /// In order of preference. Classic protocol only.
    pub assignors: Vec<Assignor>,
    /// Which of the coordinator's assignors is wanted. Consumer protocol only.
    pub remote_assignor: Option<String>,
    /// `client.rack`: where we are, so that a replica that is near is read instead of the leader (KIP-392).
    pub rack: Option<String>,
    pub isolation: Isolation,
    /// After this long without a heartbeat the group gives our partitions to others.
    pub session_timeout: Duration,
    pub heartbeat_interval: Duration,
    /// How long a rebalance waits for us to finish what we have begun.
    pub max_poll_interval: Duration,
    /// A fetch is answered when this many bytes are there…
    pub fetch_min_bytes: usize,
    /// …or this time is over.
    pub fetch_max_wait: Duration,
    /// The most bytes in one answer of a broker (a single larger batch still comes through).
    pub fetch_max_bytes: usize,
    /// The most bytes of one partition in an answer (likewise).
    pub partition_fetch_bytes: usize,
    pub connect_timeout: Duration,
    pub request_timeout: Duration,
    /// TLS and SASL.
    pub security: Security,
    /// How soon new topics and partitions are noticed (`metadata.max.age.ms`). Trouble is looked into at once.
    pub metadata_max_age: Duration,
    /// What all fetched bytes are accounted to.
    pub memory: Arc<MemoryBudget>,
    /// How many chunks of one partition may be held by the application.
    pub credit_chunks: usize,
}

impl ConsumerOptions {
    /// Java's defaults, but for the fetch size (8 MiB) and reading committed records only.
    pub fn new(bootstrap: Vec<String>, group_id: impl Into<String>, topics: TopicSelection) -> Self {
        let connection = ConnectionOptions::default();
        Self {
            bootstrap,
            client_id: connection.client_id,
            group_id: group_id.into(),
            group_instance_id: None,
            topics,
            pattern_waits: true,
            group_protocol: GroupProtocol::default(),
            assignors: Assignor::DEFAULT.to_vec(),
            remote_assignor: None,
            rack: None,
            isolation: Isolation::ReadCommitted,
            session_timeout: Duration::from_secs(45),
            heartbeat_interval: Duration::from_secs(3),
            max_poll_interval: Duration::from_secs(300),
            fetch_min_bytes: 1,
            fetch_max_wait: Duration::from_millis(500),
            fetch_max_bytes: 8 << 20,
            partition_fetch_bytes: 1 << 20,
            connect_timeout: connection.connect_timeout,
            request_timeout: connection.request_timeout,
            security: connection.security,
            metadata_max_age: Duration::from_secs(300),
            memory: MemoryBudget::new(256 << 20),
            credit_chunks: 4,
        }
    }

    pub(super) fn check(&self) -> Result<(), Error> {
        let nothing = match &self.topics {
            TopicSelection::Names(names) => names.is_empty(),
            TopicSelection::Partitions(partitions) => partitions.is_empty(),
            TopicSelection::Pattern(_) => false,
        };
        let faults = [
            (nothing, "no topic is given"),
            (self.group_id.is_empty(), "group_id is empty"),
            (self.assignors.is_empty(), "the list of assignors is empty"),
            (
                self.heartbeat_interval * 2 > self.session_timeout,
                "heartbeat_interval is more than half of session_timeout",
            ),
            (self.heartbeat_interval.is_zero(), "heartbeat_interval is zero"),
        ];
        let fault = faults.into_iter().find(|(is_so, _)| *is_so);
        fault.map_or(Ok(()), |(_, words)| Err(Error::Invalid(words.into())))
    }

    /// Answers small enough that several brokers can be asked at once, and asked again while chunks wait.
    pub(super) fn within_memory(mut self) -> Self {
        self.fetch_max_bytes = self.fetch_max_bytes.min(self.memory.limit() / FETCHES_IN_MEMORY_MIN).max(1);
        self.partition_fetch_bytes = self.partition_fetch_bytes.clamp(1, self.fetch_max_bytes);
        self
    }

    /// How connections are made.
    pub fn connection(&self) -> ConnectionOptions {
        ConnectionOptions {
            client_id: self.client_id.clone(),
            connect_timeout: self.connect_timeout,
            request_timeout: self.request_timeout,
            security: self.security.clone(),
            ..ConnectionOptions::default()
        }
    }

    pub(super) fn group(&self) -> GroupOptions {
        GroupOptions {
            group_id: self.group_id.as_str().into(),
            protocol: self.group_protocol,
            instance: self.group_instance_id.as_deref().map(Arc::from),
            rack: self.rack.as_deref().map(Arc::from),
            remote_assignor: self.remote_assignor.as_deref().map(Arc::from),
            assignors: self.assignors.clone(),
            session_timeout: self.session_timeout,
            rebalance_timeout: self.max_poll_interval,
            heartbeat_interval: self.heartbeat_interval,
        }
    }
}
