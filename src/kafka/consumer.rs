//! The consumer: a group's membership, the partitions that come of it, and what is fetched from them, as one stream
//! of [`Event`]s. Owned by one thread; all waiting happens on its own threads:
//!
//! ```text
//!   konekt-group      keeper.rs     joins, beats, leaves; the only one that says what is ours
//!   konekt-commit     committer.rs  commits; looks up where an assigned partition stands
//!   konekt-route      router.rs     metadata; sends each started partition to its leader's fetcher
//!   konekt-fetch-N    fetcher.rs    one per broker N: long polls
//! ```
//!
//! They report into one channel. It is unbounded and yet bounded in effect: every partition has credit for a few
//! chunks, whose bytes are in the memory budget; all other events are rare.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded, select_biased, unbounded};
use parking_lot::Mutex;
use regex::Regex;
use uuid::Uuid;

use super::assignor::Assignor;
use super::buffer::BufferPool;
use super::cluster::Cluster;
use super::committer::{self, Committer, Membership};
use super::connection::ConnectionOptions;
use super::credit::Wake;
use super::error::Error;
use super::group::{Group, GroupOptions, GroupProtocol};
use super::interrupt::Interrupt;
use super::keeper::{self, Keeper};
use super::offsets::Isolation;
use super::router::{self, Router};
use super::security::Security;
use super::wire::record_batch::FetchedRecords;
use crate::core::backoff::Backoff;
use crate::core::record::TopicPartition;
use crate::door;
use crate::port::MemoryBudget;

/// The memory limit has room for at least this many answers.
const FETCHES_IN_MEMORY_MIN: usize = 4;

/// Offsets to be committed: of each partition, the next to be read.
pub type Positions = Vec<(TopicPartition, i64)>;

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

    fn check(&self) -> Result<(), Error> {
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
    fn within_memory(mut self) -> Self {
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

    fn group(&self) -> GroupOptions {
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

/// A partition, and where it stands in the log and in the group.
#[derive(Clone, Debug)]
pub struct AssignedPartition {
    pub partition: TopicPartition,
    pub committed: Option<i64>,
    pub log_start: i64,
    pub log_end: i64,
    pub topic_id: Option<Uuid>,
}

/// Records of one partition.
pub struct Fetched {
    pub partition: TopicPartition,
    pub run: u64,
    /// The offset that was asked for.
    pub first: i64,
    /// The offset after the last one covered.
    pub next: i64,
    pub records_max: usize,
    /// The partition's visible end at the time.
    pub log_end: i64,
    pub records: FetchedRecords,
}

/// What happened, in the words of [`SourceEvent`](crate::port::SourceEvent), which is made of it.
pub enum Event {
    Assigned(Vec<AssignedPartition>),
    Settled,
    Surveyed(Vec<AssignedPartition>),
    Revoked(Vec<TopicPartition>),
    Lost(Vec<TopicPartition>),
    Fetched(Fetched),
    OutOfRange { partition: TopicPartition, run: u64, requested: i64, log_start: i64, log_end: i64 },
    Committed { positions: Positions, result: Result<(), Error> },
    PartitionFailed { partition: TopicPartition, error: Error },
    Trouble(Error),
    Failed(Error),
}

/// The way for all threads to say what happened.
#[derive(Clone)]
pub struct Reporter {
    events: Sender<Event>,
    told: Arc<Mutex<Repeats>>,
}

/// Tells news from what was just said.
#[derive(Default)]
pub struct Repeats(BTreeMap<String, Instant>);

impl Repeats {
    /// The same is news again after this long, however often it came meanwhile: trouble that lasts is not passed over in
    /// silence.
    const AFTER: Duration = Duration::from_secs(30);

    /// Whether this was not said just before.
    pub fn is_news(&mut self, text: &str) -> bool {
        self.is_news_at(door::now(), text)
    }

    fn is_news_at(&mut self, now: Instant, text: &str) -> bool {
        self.0.retain(|_, said| now.saturating_duration_since(*said) < Self::AFTER);
        let is_news = !self.0.contains_key(text);
        if is_news {
            self.0.insert(text.to_owned(), now);
        }
        is_news
    }
}

impl Reporter {
    pub(super) fn new(events: Sender<Event>) -> Self {
        Self { events, told: Arc::default() }
    }

    /// Reports. Whether anybody still listens does not matter: who does not is closing.
    pub fn send(&self, event: Event) {
        let _ = self.events.send(event);
    }

    /// Reports something that is being retried, unless the same was reported just before.
    pub fn trouble(&self, error: Error) {
        if matches!(error, Error::Closed) {
            return;
        }
        if self.told.lock().is_news(&error.to_string()) {
            self.send(Event::Trouble(error));
        }
    }
}

/// A running consumer.
pub struct Consumer {
    cluster: Cluster,
    events: Receiver<Event>,
    wake: Wake,
    woken: Receiver<()>,
    keeper: Sender<keeper::Command>,
    committer: Sender<committer::Command>,
    router: Sender<router::Command>,
    interrupt: Interrupt,
    threads: Threads,
}

impl Consumer {
    /// Finds the cluster and starts. Joining the group goes on in the background.
    ///
    /// # Errors
    /// [`Error::Invalid`] for options that make no sense; that of [`Cluster::connect`] when no broker could be reached
    /// for `connect_timeout`.
    pub fn start(options: ConsumerOptions) -> Result<Self, Error> {
        options.check()?;
        let options = options.within_memory();
        let cluster = connect(&options)?;
        let (event_sender, events) = unbounded();
        let (keeper, keeper_commands) = unbounded();
        let (committer, committer_commands) = unbounded();
        let (router, router_commands) = unbounded();
        let (wake, woken) = Wake::channel();
        let reporter = Reporter::new(event_sender);
        let interrupt = Interrupt::default();
        let membership = Arc::new(Mutex::new(Membership::default()));
        let mut threads = Threads::new(reporter.clone());

        let group = match &options.topics {
            TopicSelection::Partitions(partitions) => Group::fixed(options.group(), partitions),
            _ => Group::new(options.group(), door::random()),
        };
        let keeper_thread = Keeper::new(
            cluster.clone(),
            group,
            keeper_commands,
            committer.clone(),
            reporter.clone(),
            interrupt.clone(),
            membership.clone(),
            &options,
        );
        threads.spawn("konekt-group", move || keeper_thread.run());
        let committer_thread =
            Committer::new(cluster.clone(), committer_commands, keeper.clone(), reporter.clone(), membership, &options);
        threads.spawn("konekt-commit", move || committer_thread.run());
        let pool = BufferPool::new(options.memory.clone(), options.fetch_max_bytes.saturating_mul(2));
        let router_thread =
            Router::new(cluster.clone(), options, router_commands, router.clone(), keeper.clone(), reporter, pool);
        threads.spawn("konekt-route", move || router_thread.run());
        Ok(Self { cluster, events, wake, woken, keeper, committer, router, interrupt, threads })
    }

    /// The cluster it reads from.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Waits up to `wait` for something to happen, or until woken, and hands over all that has.
    pub fn poll(&self, wait: Duration, mut take: impl FnMut(Event)) {
        select_biased! {
            recv(self.events) -> event => event.into_iter().for_each(&mut take),
            recv(self.woken) -> _ => {}
            default(wait) => {}
        }
        self.events.try_iter().for_each(take);
    }

    /// Something to end a [`poll`](Self::poll) with.
    pub fn wake(&self) -> Wake {
        self.wake.clone()
    }

    /// Fetches a partition from `offset` on.
    pub fn fetch(&self, partition: &TopicPartition, run: u64, offset: i64) {
        tell(&self.router, router::Command::Start { partition: partition.clone(), run, offset });
    }

    /// Fetches these no more.
    pub fn stop(&self, partitions: &[TopicPartition]) {
        tell(&self.router, router::Command::Stop(partitions.to_vec()));
    }

    /// Commits; the answer comes as an event.
    pub fn commit(&self, positions: Positions) {
        tell(&self.committer, committer::Command::Commit(positions));
    }

    /// Asks where the group stands in all partitions that are read, also in those of other members.
    pub fn survey(&self) {
        tell(&self.keeper, keeper::Command::Survey);
    }

    /// Gives revoked partitions up, after `positions` are committed.
    pub fn release(&self, partitions: Vec<TopicPartition>, positions: Positions) {
        tell(&self.committer, committer::Command::Release { partitions, positions });
    }

    /// Commits, leaves the group and ends all threads.
    ///
    /// # Errors
    /// When the commit failed, or a thread did not end in time (it ends by itself when its request times out).
    pub fn close(mut self, positions: Positions, deadline: Duration) -> Result<(), Error> {
        let until = door::now() + deadline;
        tell(&self.router, router::Command::Close);
        let (answer, answered) = bounded(1);
        tell(&self.committer, committer::Command::Close { positions, until, answer });
        let late = || Error::Invalid(format!("the last commit was not answered within {deadline:?}"));
        let committed =
            answered.recv_timeout(until.saturating_duration_since(door::now())).unwrap_or_else(|_| Err(late()));
        tell(&self.keeper, keeper::Command::Leave { until });
        self.interrupt.raise();
        let ended = self.threads.join(until);
        committed.and(ended)
    }
}

impl Drop for Consumer {
    /// Abandoned without [`close`](Consumer::close): threads end as soon as they look, the group finds out by itself.
    fn drop(&mut self) {
        tell(&self.router, router::Command::Close);
        tell(&self.committer, committer::Command::Stop);
        tell(&self.keeper, keeper::Command::Stop);
        self.interrupt.raise();
    }
}

/// A thread that has ended already needs no telling.
pub(super) fn tell<T>(thread: &Sender<T>, command: T) {
    let _ = thread.send(command);
}

/// Tries for `connect_timeout`, since a broker that is just starting refuses connections. A wrong password or certificate
/// ends it at once: somebody who has just started us is there to mend it.
fn connect(options: &ConsumerOptions) -> Result<Cluster, Error> {
    let until = door::now() + options.connect_timeout;
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(1));
    loop {
        match Cluster::connect(&options.bootstrap, options.connection()) {
            Err(error @ Error::Security { .. }) => return Err(error),
            Err(error) if error.is_retriable() => {
                let wait = backoff.fail(door::random());
                if door::now() + wait >= until {
                    return Err(error);
                }
                log::debug!("trying again in {wait:?}: {error}");
                door::sleep(wait);
            }
            result => return result,
        }
    }
}

/// The consumer's threads. One that panics is reported as [`Event::Failed`].
struct Threads {
    handles: Vec<JoinHandle<()>>,
    reporter: Reporter,
    /// Each thread holds a clone; when all are gone, the channel is closed.
    alive: Sender<()>,
    ended: Receiver<()>,
}

impl Threads {
    fn new(reporter: Reporter) -> Self {
        let (alive, ended) = bounded(0);
        Self { handles: Vec::new(), reporter, alive, ended }
    }

    fn spawn(&mut self, name: &'static str, body: impl FnOnce() + Send + 'static) {
        let (guard, alive) = (PanicGuard::new(name, self.reporter.clone()), self.alive.clone());
        self.handles.push(door::spawn(name, move || {
            let _alive = alive;
            let _guard = guard;
            body();
        }));
    }

    fn join(&mut self, until: Instant) -> Result<(), Error> {
        self.alive = bounded(0).0;
        let left = until.saturating_duration_since(door::now());
        if self.ended.recv_timeout(left) == Err(RecvTimeoutError::Timeout) {
            let busy = self.handles.iter().filter(|handle| !handle.is_finished());
            let names: Vec<&str> = busy.filter_map(|handle| handle.thread().name()).collect();
            return Err(Error::Invalid(format!("threads {} did not end in time", names.join(", "))));
        }
        let panicked = std::mem::take(&mut self.handles).into_iter().filter_map(|handle| handle.join().err()).count();
        if panicked > 0 {
            return Err(Error::Invalid(format!("{panicked} threads of the consumer panicked; see the log")));
        }
        Ok(())
    }
}

/// Reports the panic of the thread that holds it.
pub(super) struct PanicGuard {
    thread: String,
    reporter: Reporter,
}

impl PanicGuard {
    pub(super) fn new(thread: impl Into<String>, reporter: Reporter) -> Self {
        Self { thread: thread.into(), reporter }
    }
}

impl Drop for PanicGuard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let text = format!("thread {} panicked: this is a bug, please report it with the log", self.thread);
            self.reporter.send(Event::Failed(Error::Invalid(text)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lasts_is_said_again() {
        let (mut repeats, start) = (Repeats::default(), door::now());
        let said: Vec<u64> =
            (0..70).filter(|second| repeats.is_news_at(start + Duration::from_secs(*second), "away")).collect();
        assert_eq!(said, [0, 30, 60]);
        assert!(repeats.is_news_at(start, "something else"));
    }
}
