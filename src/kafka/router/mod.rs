//! The thread `konekt-route`: keeps the metadata fresh, tells the keeper which topics there are, and sends every started
//! partition to the fetcher of its leader.
//!
//! A fetcher that cannot go on with a partition gives it back ([`Command::Returned`]); here it waits, with backoff, for
//! metadata that says where to go. A broker that restarts therefore needs no special case: its partitions come back,
//! wait until the cluster names a leader, and go there. The partitions of one broker wait for the same moment, so that it
//! is tried once at a time however many they are. The fetcher of each broker is spawned at its first partition and joined
//! here.

mod out_of_range;
mod route;
mod whereabouts;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, unbounded};
use uuid::Uuid;

use crate::core::backoff::Backoff;
use crate::core::record::TopicPartition;
use crate::door;
use crate::kafka::assignor::PartitionCounts;
use crate::kafka::buffer::BufferPool;
use crate::kafka::cluster::{Cluster, Metadata, TopicsWanted};
use crate::kafka::consumer::{ConsumerOptions, Event, PanicGuard, Reporter, tell};
use crate::kafka::credit::Credit;
use crate::kafka::error::Error;
use crate::kafka::fetcher::{self, Fetcher, Target};
use crate::kafka::interrupt::Interrupt;
use crate::kafka::keeper;
use crate::kafka::topics::{GONE_AFTER, Topics};
use route::{Place, Route};
use whereabouts::{Whereabouts, find};

/// How old metadata may get while something is missing in it.
const METADATA_AGE_DOUBTFUL: Duration = Duration::from_secs(5);
/// While waiting for the topics at the start.
const METADATA_AGE_AT_START: Duration = Duration::from_millis(500);
/// How long a topic that is asked for by name may take to be created.
const TOPIC_CREATION_TIMEOUT: Duration = Duration::from_secs(10);
const RETRY_BASE: Duration = Duration::from_millis(100);
const RETRY_CAP: Duration = Duration::from_secs(3);
/// As `reconnect.backoff.ms` and `reconnect.backoff.max.ms` of the Java client.
const RECONNECT_BASE: Duration = Duration::from_millis(50);
const RECONNECT_CAP: Duration = Duration::from_secs(1);
/// How many attempts in a row may fail before that is trouble: leaders move in less.
const PATIENCE: u32 = 5;

/// What the router is told.
pub enum Command {
    Start {
        partition: TopicPartition,
        run: u64,
        offset: i64,
    },
    Stop(Vec<TopicPartition>),
    /// A fetcher cannot go on with a partition.
    Returned(Returned),
    /// A fetcher has lost its connection, or gets none, and gives all its partitions back. `worked`: something had been
    /// answered over it.
    Disconnected {
        node: i32,
        worked: bool,
        partitions: Vec<Returned>,
    },
    /// End, and the fetchers too.
    Close,
}

/// A partition that a fetcher gave back.
pub struct Returned {
    pub partition: TopicPartition,
    pub run: u64,
    /// Where to go on.
    pub offset: i64,
    /// The leader epoch of the record before that; −1 when it is not known.
    pub last_epoch: i32,
    pub cause: Cause,
}

/// Why it was given back.
pub enum Cause {
    /// The connection failed; the fetcher has said so.
    Connection,
    /// The broker refused in a way that newer metadata or time may change.
    Refused(Error),
    /// The offset is not in the log.
    OutOfRange,
    /// The leader names a replica that is nearer.
    ToReplica(i32),
    /// It was read from such a replica for long enough.
    ToLeader,
}

/// A broker whose connection failed: not before then is it tried again, by whichever partition.
struct Unreachable {
    at: Instant,
    backoff: Backoff,
}

struct FetcherHandle {
    commands: Sender<fetcher::Command>,
    interrupt: Interrupt,
    thread: JoinHandle<()>,
}

/// The thread's state.
pub struct Router {
    cluster: Cluster,
    options: Arc<ConsumerOptions>,
    commands: Receiver<Command>,
    own_commands: Sender<Command>,
    keeper: Sender<keeper::Command>,
    reporter: Reporter,
    pool: Arc<BufferPool>,
    topics: Topics,
    routes: BTreeMap<TopicPartition, Route>,
    fetchers: BTreeMap<i32, FetcherHandle>,
    unreachable: BTreeMap<i32, Unreachable>,
    started: Instant,
    refresh_at: Instant,
    refresh_backoff: Backoff,
    /// The topics were not all there in time, or never can be.
    given_up: bool,
}

impl Router {
    pub(super) fn new(
        cluster: Cluster,
        options: ConsumerOptions,
        commands: Receiver<Command>,
        own_commands: Sender<Command>,
        keeper: Sender<keeper::Command>,
        reporter: Reporter,
        pool: Arc<BufferPool>,
    ) -> Self {
        let topics = Topics::new(options.topics.clone());
        let now = door::now();
        Self {
            cluster,
            options: Arc::new(options),
            commands,
            own_commands,
            keeper,
            reporter,
            pool,
            topics,
            routes: BTreeMap::new(),
            fetchers: BTreeMap::new(),
            unreachable: BTreeMap::new(),
            started: now,
            refresh_at: now,
            refresh_backoff: Backoff::new(RETRY_BASE, RETRY_CAP),
            given_up: false,
        }
    }

    /// Works until told to end.
    pub fn run(mut self) {
        while self.hear() {
            self.examine_offsets();
            let now = door::now();
            let due = |route: &Route| matches!(route.place, Place::Waiting { at, .. } if at <= now);
            if now >= self.refresh_at || self.routes.values().any(due) {
                match self.refresh() {
                    Ok(()) => self.place_waiting(),
                    Err(error) => self.wait_for_refresh(error),
                }
            }
        }
        self.end_fetchers(|_| true);
    }

    fn hear(&mut self) -> bool {
        let waiting = self.routes.values().filter_map(|route| match route.place {
            Place::At { .. } => None,
            Place::Waiting { at, .. } | Place::OutOfRange { at } => Some(at),
        });
        let at = waiting.min().map_or(self.refresh_at, |at| at.min(self.refresh_at));
        match self.commands.recv_deadline(at) {
            Ok(command) => {
                let first = self.obey(command);
                let rest: Vec<Command> = self.commands.try_iter().collect();
                rest.into_iter().fold(first, |goes_on, command| self.obey(command) && goes_on)
            }
            Err(RecvTimeoutError::Timeout) => true,
            Err(RecvTimeoutError::Disconnected) => false,
        }
    }

    fn obey(&mut self, command: Command) -> bool {
        match command {
            Command::Start { partition, run, offset } => self.start(partition, run, offset),
            Command::Stop(partitions) => partitions.iter().for_each(|partition| self.stop(partition)),
            Command::Returned(returned) => self.returned(returned),
            Command::Disconnected { node, worked, partitions } => self.disconnected(node, worked, partitions),
            Command::Close => return false,
        }
        true
    }

    /// A partition that is started again moves within its credit: chunks of the earlier run are still held.
    fn start(&mut self, partition: TopicPartition, run: u64, offset: i64) {
        let credit = self.routes.get(&partition).map(|route| route.credit.clone());
        self.stop(&partition);
        let metadata = self.cluster.metadata();
        let route = Route {
            run,
            offset,
            last_epoch: -1,
            leader_epoch: -1,
            outdated_since: None,
            replica: None,
            topic_id: metadata.topics.get(&partition.topic).map_or(Uuid::nil(), |topic| topic.id),
            credit: credit.unwrap_or_else(|| Credit::new(self.options.credit_chunks)),
            place: Place::Waiting { at: door::now(), unknown_since: None },
            backoff: Backoff::new(RETRY_BASE, RETRY_CAP),
        };
        self.routes.insert(partition.clone(), route);
        if metadata.leader(&partition.topic, partition.partition).is_some() {
            self.place(&partition, &metadata);
        }
    }

    fn stop(&mut self, partition: &TopicPartition) {
        let Some(route) = self.routes.remove(partition) else { return };
        if let Place::At { node, .. } = route.place
            && let Some(fetcher) = self.fetchers.get(&node)
        {
            tell(&fetcher.commands, fetcher::Command::Remove(partition.clone()));
        }
    }

    fn returned(&mut self, returned: Returned) {
        let Returned { partition, run, offset, last_epoch, cause } = returned;
        let Some(route) = self.routes.get_mut(&partition).filter(|route| route.run == run) else { return };
        let now = door::now();
        (route.offset, route.last_epoch) = (offset, last_epoch);
        let was_at_replica = route.replica.take().is_some();
        match cause {
            Cause::ToReplica(node) => {
                log::debug!("{partition}: its replica on broker {node} is nearer than the leader");
                route.replica = Some((node, now + self.options.metadata_max_age));
                let metadata = self.cluster.metadata();
                match metadata.brokers.contains_key(&node) {
                    true => self.place(&partition, &metadata),
                    false => route.back_off(now), // newer metadata may know it; until then the leader would name it again
                }
            }
            Cause::ToLeader => self.place(&partition, &self.cluster.metadata()),
            Cause::OutOfRange if !was_at_replica => route.place = Place::OutOfRange { at: now },
            Cause::OutOfRange | Cause::Connection => route.back_off(now),
            Cause::Refused(error) => {
                log::debug!("{partition}: {error}; asking where it is");
                route.back_off(now);
                if route.backoff.failures() >= PATIENCE {
                    self.reporter.trouble(error);
                }
            }
        }
    }

    /// All partitions of a broker wait for the same moment, so that it is tried once at a time.
    fn disconnected(&mut self, node: i32, worked: bool, partitions: Vec<Returned>) {
        let now = door::now();
        let unreachable = self
            .unreachable
            .entry(node)
            .or_insert_with(|| Unreachable { at: now, backoff: Backoff::new(RECONNECT_BASE, RECONNECT_CAP) });
        if worked {
            unreachable.backoff.reset();
        }
        unreachable.at = now + unreachable.backoff.fail(door::random());
        let at = unreachable.at;
        for returned in partitions {
            let (partition, run) = (returned.partition.clone(), returned.run);
            self.returned(returned);
            if let Some(route) = self.routes.get_mut(&partition).filter(|route| route.run == run) {
                route.place = Place::Waiting { at, unknown_since: None };
            }
        }
    }

    fn end_fetchers(&mut self, ends: impl Fn(&i32) -> bool) {
        let (ended, going_on): (BTreeMap<_, _>, _) =
            std::mem::take(&mut self.fetchers).into_iter().partition(|(node, _)| ends(node));
        self.fetchers = going_on;
        for fetcher in ended.values() {
            tell(&fetcher.commands, fetcher::Command::Close);
            fetcher.interrupt.raise();
        }
        for fetcher in ended.into_values() {
            let _ = fetcher.thread.join(); // if it panicked, its guard has said so
        }
    }
}

/// Metadata.
impl Router {
    fn refresh(&mut self) -> Result<(), Error> {
        let metadata = self.cluster.refresh(self.topics.wanted())?;
        let now = door::now();
        self.refresh_backoff.reset();
        let counts = self.topics.see(&metadata, now);
        let age_max = self.options.metadata_max_age;
        self.refresh_at = now + if self.topics.doubtful() { age_max.min(METADATA_AGE_DOUBTFUL) } else { age_max };
        self.subscribe(counts);
        let in_use: BTreeSet<i32> = self.routes.values().filter_map(Route::node).collect();
        self.end_fetchers(|node| !in_use.contains(node) && !metadata.brokers.contains_key(node));
        self.unreachable.retain(|node, _| metadata.brokers.contains_key(node));
        Ok(())
    }

    /// Nothing can be placed before somebody answers.
    fn wait_for_refresh(&mut self, error: Error) {
        self.reporter.trouble(error);
        self.refresh_at = door::now() + self.refresh_backoff.fail(door::random());
        for route in self.routes.values_mut() {
            if let Place::Waiting { at, .. } = &mut route.place {
                *at = self.refresh_at;
            }
        }
    }

    fn subscribe(&mut self, counts: PartitionCounts) {
        if self.given_up {
            return;
        }
        if let Some(error) = self.topics.missing_partition() {
            self.given_up = true;
            return self.reporter.send(Event::Failed(error));
        }
        if self.topics.complete() {
            return tell(&self.keeper, keeper::Command::Topics(counts));
        }
        self.refresh_at = door::now() + METADATA_AGE_AT_START;
        if door::now().saturating_duration_since(self.started) >= TOPIC_CREATION_TIMEOUT {
            self.complain();
        }
    }

    /// A topic that is asked for by name and is not there ends the source; a pattern may go on waiting.
    fn complain(&mut self) {
        let waits = !matches!(self.topics.wanted(), TopicsWanted::Names(_)) && self.options.pattern_waits;
        self.refresh_at = door::now() + METADATA_AGE_DOUBTFUL;
        match self.cluster.refresh(TopicsWanted::All) {
            Ok(metadata) if !waits => {
                self.given_up = true;
                self.reporter.send(Event::Failed(self.topics.complaint(&metadata)));
            }
            Ok(metadata) => self.reporter.trouble(self.topics.complaint(&metadata)),
            Err(error) => self.reporter.trouble(error),
        }
    }

    fn place_waiting(&mut self) {
        let metadata = self.cluster.metadata();
        let waiting = self.routes.iter().filter(|(_, route)| matches!(route.place, Place::Waiting { .. }));
        let waiting: Vec<TopicPartition> = waiting.map(|(partition, _)| partition.clone()).collect();
        for partition in waiting {
            self.place(&partition, &metadata);
        }
        self.complain_of_leaderless();
    }

    fn complain_of_leaderless(&self) {
        let is_it =
            |route: &Route| matches!(route.place, Place::Waiting { .. }) && route.backoff.failures() >= PATIENCE;
        let mut leaderless = self.routes.iter().filter(|(_, route)| is_it(route)).map(|(partition, _)| partition);
        if let Some(first) = leaderless.next() {
            let subject = match leaderless.count() {
                0 => first.to_string(),
                others => format!("{first} (and {others} others)"),
            };
            self.reporter.trouble(Error::NoLeader { subject });
        }
    }
}

/// Routes.
impl Router {
    fn place(&mut self, partition: &TopicPartition, metadata: &Metadata) {
        let Some(route) = self.routes.get_mut(partition) else { return };
        match find(metadata, partition, route.topic_id) {
            // From a broker that has not heard yet of what another one has said.
            Whereabouts::Leader { epoch, .. } if route.is_outdated(epoch, door::now()) => route.wait(false),
            Whereabouts::Leader { node, epoch, topic_id } => {
                route.topic_id = topic_id;
                (route.leader_epoch, route.outdated_since) = (epoch, None);
                route.replica.take_if(|(replica, _)| !metadata.brokers.contains_key(replica));
                let node = route.replica.map_or(node, |(replica, _)| replica);
                let now = door::now();
                if let Some(unreachable) = self.unreachable.get(&node).filter(|unreachable| now < unreachable.at) {
                    route.place = Place::Waiting { at: unreachable.at, unknown_since: None };
                    return;
                }
                route.place = Place::At { node, since: now };
                let target = Target {
                    partition: partition.clone(),
                    topic_id,
                    leader_epoch: epoch,
                    run: route.run,
                    offset: route.offset,
                    last_epoch: route.last_epoch,
                    replica_until: route.replica.map(|(_, until)| until),
                    credit: route.credit.clone(),
                };
                self.hand_over(node, target);
            }
            Whereabouts::Unknown if route.unknown_for(door::now()) >= GONE_AFTER => {
                let text = "the cluster does not know it any more: its topic was deleted";
                self.fail(partition, Error::Invalid(text.into()));
            }
            Whereabouts::Unknown => route.wait(true),
            Whereabouts::NoLeader => route.wait(false),
            Whereabouts::Never(error) => self.fail(partition, error),
        }
    }

    fn fail(&mut self, partition: &TopicPartition, error: Error) {
        let Some(route) = self.routes.remove(partition) else { return };
        self.reporter.send(Event::PartitionFailed { partition: partition.clone(), run: Some(route.run), error });
    }

    fn hand_over(&mut self, node: i32, target: Target) {
        let fetcher = self.spawn_fetcher(node);
        tell(&fetcher, fetcher::Command::Add(target));
    }

    fn spawn_fetcher(&mut self, node: i32) -> Sender<fetcher::Command> {
        let handle = self.fetchers.entry(node).or_insert_with(|| {
            let (sender, commands) = unbounded();
            let interrupt = Interrupt::default();
            let fetcher = Fetcher::new(
                node,
                self.cluster.clone(),
                self.options.clone(),
                commands,
                self.own_commands.clone(),
                self.reporter.clone(),
                interrupt.clone(),
                self.pool.clone(),
            );
            let name = format!("konekt-fetch-{node}");
            let guard = PanicGuard::new(name.clone(), self.reporter.clone());
            let thread = door::spawn(name, move || {
                let _guard = guard;
                fetcher.run();
            });
            FetcherHandle { commands: sender, interrupt, thread }
        });
        handle.commands.clone()
    }
}
