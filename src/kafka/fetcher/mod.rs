//! The thread `konekt-fetch-N`: reads from broker N by long polls (Fetch, API key 1).
//!
//! ```text
//!   ask ─▶ answer arrives ─▶ survey batches, move the offsets ─▶ ask again ─▶ hand the chunks on ─┐
//!    ▲                                                                                            │
//!    └────────────────────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! The next request is on its way before the last answer is handed on, so the broker works while we do. A request asks
//! for the partitions that have credit, and says what of that the broker does not know yet (`session.rs`). A whole one
//! begins each time with another partition, since a broker fills an answer in that order. The answer's memory is set
//! aside first; if there is none at once, the chunks are handed on first, as only that frees any.
//!
//! With each position goes the leader epoch of the last record read, so that every leader checks that its log holds
//! what we have read (KIP-320, KIP-595); where it does not, the partition stops. Only the leader is asked that: another
//! replica may lag. The leader may name such a replica that is nearer (KIP-392).
//!
//! Whatever cannot be solved here (no connection, another leader, an offset outside the log) goes back to the router
//! with the partition.

mod answer;
mod session;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Sender, select};
use kafka_protocol::messages::FetchRequest;
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use self::session::{Session, Told, topics};
use super::buffer::{BufferPool, Reservation};
use super::cluster::Cluster;
use super::connection::{Connection, InFlight};
use super::consumer::{ConsumerOptions, Event, Reporter, tell};
use super::credit::{Credit, Wake};
use super::error::Error;
use super::interrupt::Interrupt;
use super::router::{self, Cause, Returned};
use crate::core::record::TopicPartition;
use crate::door;
use crate::port::MemoryTurn;

/// The longest poll while a partition waits for credit, which it may get at any moment.
const WAIT_WHILE_STARVED: Duration = Duration::from_millis(10);
/// The longest poll right after partitions were added, as others may follow.
const WAIT_AFTER_CHANGE: Duration = Duration::from_millis(50);
/// How long to wait for memory before looking for commands.
const WAIT_FOR_MEMORY: Duration = Duration::from_millis(100);
/// The longest rest without a look around.
const REST_MAX: Duration = Duration::from_secs(3600);
/// Room in an answer for what is not records.
const ANSWER_OVERHEAD_BYTES: usize = 16 << 10;
/// From this version on, topics go by their id.
const TOPIC_IDS_SINCE: i16 = 13;
/// From this version on, a request can say of which leader epoch the last record is.
const LAST_EPOCH_SINCE: i16 = 12;
/// From this version on, a request can say where we are.
const RACK_SINCE: i16 = 11;
/// From this version on there are fetch sessions.
const SESSIONS_SINCE: i16 = 7;

/// What a fetcher is told.
pub enum Command {
    /// Fetch this too.
    Add(Target),
    Remove(TopicPartition),
    /// End.
    Close,
}

/// A partition to fetch.
pub struct Target {
    pub partition: TopicPartition,
    pub topic_id: Uuid,
    pub leader_epoch: i32,
    pub run: u64,
    /// The next offset to ask for.
    pub offset: i64,
    /// The leader epoch of the record before it; −1 when it is not known.
    pub last_epoch: i32,
    /// The broker does not lead the partition, but is nearer than who does, and is to be read until then.
    pub replica_until: Option<Instant>,
    pub credit: Credit,
}

impl Target {
    fn is_replica(&self) -> bool {
        self.replica_until.is_some()
    }
}

/// A partition being fetched, how much of it is asked for (more than usual when its next batch is larger), and what the
/// broker knows of that.
struct Active {
    target: Target,
    bytes_max: usize,
    told: Option<Told>,
}

/// A request in flight.
struct Asked {
    in_flight: InFlight,
    reservation: Reservation,
    wait: Duration,
}

/// Why nothing was asked.
#[derive(PartialEq)]
enum Idle {
    /// No partition is there, or none has credit.
    NothingToAsk,
    /// The broker wants no request before its quota allows one.
    Throttled,
    NoMemory,
    /// The connection failed; the partitions went back.
    Failed,
}

/// The thread's state.
pub struct Fetcher {
    node: i32,
    cluster: Cluster,
    options: Arc<ConsumerOptions>,
    commands: Receiver<Command>,
    router: Sender<router::Command>,
    reporter: Reporter,
    interrupt: Interrupt,
    pool: Arc<BufferPool>,
    /// Its place among those who wait for memory.
    room: MemoryTurn,
    wake: Wake,
    woken: Receiver<()>,
    connection: Option<Connection>,
    /// Whether something was answered over it.
    connection_worked: bool,
    session: Session,
    active: BTreeMap<TopicPartition, Active>,
    /// The topics' names by their ids, as answers need them.
    names: HashMap<Uuid, Arc<str>>,
    throttled_until: Option<Instant>,
    /// Which partition the next request begins with.
    turn: usize,
    changed: bool,
}

impl Fetcher {
    #[allow(clippy::too_many_arguments)] // its wiring, made in one place
    pub(super) fn new(
        node: i32,
        cluster: Cluster,
        options: Arc<ConsumerOptions>,
        commands: Receiver<Command>,
        router: Sender<router::Command>,
        reporter: Reporter,
        interrupt: Interrupt,
        pool: Arc<BufferPool>,
    ) -> Self {
        let (wake, woken) = Wake::channel();
        Self {
            node,
            cluster,
            options,
            commands,
            router,
            reporter,
            interrupt,
            room: pool.turn(),
            pool,
            wake,
            woken,
            connection: None,
            connection_worked: false,
            session: Session::default(),
            active: BTreeMap::new(),
            names: HashMap::new(),
            throttled_until: None,
            turn: 0,
            changed: false,
        }
    }

    /// Works until told to end.
    pub fn run(mut self) {
        let mut asked = None;
        loop {
            let commands: Vec<Command> = self.commands.try_iter().collect();
            if !commands.into_iter().all(|command| self.obey(command)) {
                return;
            }
            asked = match asked {
                Some(asked) => self.receive(asked),
                None => match self.ask(WAIT_FOR_MEMORY) {
                    Ok(asked) => Some(asked),
                    Err(Idle::NothingToAsk | Idle::Throttled) if !self.rest() => return,
                    Err(_) => None,
                },
            };
        }
    }

    /// Waits for a command, for credit, or for the end of a throttle. False: the end.
    fn rest(&mut self) -> bool {
        let throttle = self.throttled_until.map_or(REST_MAX, |until| until.saturating_duration_since(door::now()));
        select! {
            recv(self.commands) -> command => command.is_ok_and(|command| self.obey(command)),
            recv(self.woken) -> _ => true,
            default(throttle) => true,
        }
    }

    fn obey(&mut self, command: Command) -> bool {
        match command {
            Command::Add(target) => {
                target.credit.wakes(self.wake.clone());
                self.remove(&target.partition);
                self.names.insert(target.topic_id, target.partition.topic.clone());
                let active = Active { bytes_max: self.options.partition_fetch_bytes, told: None, target };
                self.active.insert(active.target.partition.clone(), active);
                self.changed = true;
            }
            Command::Remove(partition) => drop(self.remove(&partition)),
            Command::Close => return false,
        }
        true
    }

    fn remove(&mut self, partition: &TopicPartition) -> Option<Target> {
        let mut active = self.active.remove(partition)?;
        self.session.forget(&mut active);
        Some(active.target)
    }
}

/// What there is to ask for.
#[derive(Default)]
struct Appetite {
    eligible: usize,
    wanted_bytes: usize,
    /// The most that is wanted of one partition.
    largest_bytes: usize,
}

/// Asking.
impl Fetcher {
    /// Sends the next request, if there is anything to ask for and memory for the answer within `wait`.
    fn ask(&mut self, wait: Duration) -> Result<Asked, Idle> {
        if self.throttled_until.is_some_and(|until| door::now() < until) {
            self.room.leave();
            return Err(Idle::Throttled);
        }
        self.throttled_until = None;
        self.return_to_leaders();
        let appetite = self.appetite();
        if appetite.eligible == 0 {
            self.room.leave();
            return Err(Idle::NothingToAsk);
        }
        let bytes_max = appetite.wanted_bytes.min(self.options.fetch_max_bytes.max(appetite.largest_bytes));
        let reservation = self.pool.reserve(&mut self.room, bytes_max + ANSWER_OVERHEAD_BYTES, wait);
        let reservation = reservation.ok_or(Idle::NoMemory)?;
        let wait = self.poll_time(appetite.eligible);
        match self.send(bytes_max, wait) {
            Ok(in_flight) => {
                self.changed = false;
                Ok(Asked { in_flight, reservation, wait })
            }
            Err(error) => {
                self.give_up(error);
                Err(Idle::Failed)
            }
        }
    }

    fn appetite(&self) -> Appetite {
        let mut appetite = Appetite::default();
        for active in self.active.values().filter(|active| active.target.credit.is_available()) {
            appetite.eligible += 1;
            appetite.wanted_bytes += active.bytes_max;
            appetite.largest_bytes = appetite.largest_bytes.max(active.bytes_max);
        }
        appetite
    }

    /// A replica that is nearer is not for ever: it may have gone slow, or another one may be nearer by now.
    fn return_to_leaders(&mut self) {
        let now = door::now();
        let is_over = |active: &&Active| active.target.replica_until.is_some_and(|until| now >= until);
        let over: Vec<TopicPartition> =
            self.active.values().filter(is_over).map(|active| active.target.partition.clone()).collect();
        for partition in over {
            self.send_back(&partition, Cause::ToLeader);
        }
    }

    fn poll_time(&self, eligible: usize) -> Duration {
        let starved = eligible < self.active.len();
        let limit = match (starved, self.changed) {
            (true, _) => WAIT_WHILE_STARVED,
            (_, true) => WAIT_AFTER_CHANGE,
            _ => self.options.fetch_max_wait,
        };
        limit.min(self.options.fetch_max_wait)
    }

    fn send(&mut self, bytes_max: usize, poll: Duration) -> Result<InFlight, Error> {
        if self.connection.is_none() {
            let connection = self.cluster.connect_to(self.node)?;
            self.interrupt.arm(&connection);
            self.connection = Some(connection);
            self.session.reset();
        }
        let connection = self.connection.as_mut().ok_or(Error::Closed)?;
        let version = connection.version::<FetchRequest>()?;
        let is_whole = !self.session.is_open();
        let mut said = self.session.tell(self.active.values_mut(), |active| active.target.credit.is_available());
        if is_whole && !said.is_empty() {
            let first = self.turn % said.len();
            said.rotate_left(first);
            self.turn = self.turn.wrapping_add(1);
        }
        let mut request = FetchRequest::default()
            .with_max_wait_ms(poll.as_millis() as i32)
            .with_min_bytes(bytes(self.options.fetch_min_bytes))
            .with_max_bytes(bytes(bytes_max))
            .with_isolation_level(self.options.isolation.level())
            .with_topics(topics(said.into_iter().map(|active| &*active), version));
        if version >= SESSIONS_SINCE {
            request.session_id = self.session.id();
            request.session_epoch = self.session.epoch();
            request.forgotten_topics_data = self.session.take_gone(version >= TOPIC_IDS_SINCE);
        }
        if let Some(rack) = self.options.rack.as_ref().filter(|_| version >= RACK_SINCE) {
            request.rack_id = StrBytes::from_string(rack.clone());
        }
        connection.send(&request)
    }

    /// Sends every partition back to the router, which finds out where they are now.
    fn give_up(&mut self, error: Error) {
        self.connection = None;
        self.interrupt.disarm();
        self.reporter.trouble(error);
        let partitions = std::mem::take(&mut self.active).into_values();
        let partitions = partitions.map(|active| returned(active.target, Cause::Connection)).collect();
        let (node, worked) = (self.node, std::mem::take(&mut self.connection_worked));
        tell(&self.router, router::Command::Disconnected { node, worked, partitions });
    }

    fn send_back(&mut self, partition: &TopicPartition, cause: Cause) {
        if let Some(target) = self.remove(partition) {
            tell(&self.router, router::Command::Returned(returned(target, cause)));
        }
    }

    fn fail(&mut self, partition: &TopicPartition, error: Error) {
        let Some(target) = self.remove(partition) else { return };
        self.reporter.send(Event::PartitionFailed { partition: partition.clone(), run: Some(target.run), error });
    }
}

fn returned(target: Target, cause: Cause) -> Returned {
    let Target { partition, run, offset, last_epoch, .. } = target;
    Returned { partition, run, offset, last_epoch, cause }
}

fn bytes(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_beyond_the_protocol_are_cut_to_it() {
        assert_eq!((bytes(5), bytes(usize::MAX)), (5, i32::MAX));
    }
}
