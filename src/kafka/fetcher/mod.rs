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

mod session;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Sender, select};
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::{FetchRequest, FetchResponse};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use self::session::{Session, Told, is_about_session, topics};
use super::buffer::{BufferPool, Reservation};
use super::cluster::Cluster;
use super::connection::{Connection, InFlight};
use super::consumer::{ConsumerOptions, Event, Fetched, Reporter, tell};
use super::credit::{Credit, Wake};
use super::error::{Code, Error};
use super::interrupt::Interrupt;
use super::offsets::Isolation;
use super::router::{self, Cause, Returned};
use super::wire::record_batch::{Aborted, FetchedRecords, Survey, survey};
use crate::core::record::TopicPartition;
use crate::door;

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
            return Err(Idle::Throttled);
        }
        self.throttled_until = None;
        self.return_to_leaders();
        let appetite = self.appetite();
        if appetite.eligible == 0 {
            return Err(Idle::NothingToAsk);
        }
        let bytes_max = appetite.wanted_bytes.min(self.options.fetch_max_bytes.max(appetite.largest_bytes));
        let reservation = self.pool.reserve(bytes_max + ANSWER_OVERHEAD_BYTES, wait).ok_or(Idle::NoMemory)?;
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
        self.remove(partition);
        self.reporter.send(Event::PartitionFailed { partition: partition.clone(), error });
    }
}

fn returned(target: Target, cause: Cause) -> Returned {
    let Target { partition, run, offset, last_epoch, .. } = target;
    Returned { partition, run, offset, last_epoch, cause }
}

fn bytes(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

/// The answer.
impl Fetcher {
    /// Waits for the answer, asks again, then hands the chunks on.
    fn receive(&mut self, asked: Asked) -> Option<Asked> {
        let Asked { in_flight, mut reservation, wait } = asked;
        let timeout = wait + self.options.request_timeout;
        let connection = self.connection.as_mut()?;
        let answer = connection.receive::<FetchRequest>(in_flight, &mut reservation, timeout);
        let address = connection.address().to_owned();
        drop(reservation);
        let chunks = match answer {
            Ok(answer) => self.read(&address, answer),
            Err(error) => {
                self.give_up(error);
                return None;
            }
        };
        let next = self.ask(Duration::ZERO).ok();
        chunks.into_iter().for_each(|chunk| self.reporter.send(Event::Fetched(chunk)));
        next
    }

    fn read(&mut self, address: &str, answer: FetchResponse) -> Vec<Fetched> {
        self.connection_worked = true;
        self.heed_throttle(answer.throttle_time_ms);
        match Code(answer.error_code) {
            Code::NONE => self.session.answered(answer.session_id),
            code if is_about_session(code) => {
                log::debug!("{address}: {code}");
                self.session.reset();
                return Vec::new();
            }
            code => {
                self.give_up(refused(address, format!("broker {}", self.node), code));
                return Vec::new();
            }
        }
        let mut chunks = Vec::new();
        for topic in answer.responses {
            let known = self.names.get(&topic.topic_id).filter(|_| !topic.topic_id.is_nil());
            let name = known.map_or_else(|| Arc::from(topic.topic.as_str()), Arc::clone);
            for data in topic.partitions {
                let partition = TopicPartition { topic: Arc::clone(&name), partition: data.partition_index };
                chunks.extend(self.read_partition(address, &partition, data));
            }
        }
        chunks
    }

    /// The broker has answered at once and expects us to be quiet for so long (KIP-219).
    fn heed_throttle(&mut self, throttle_time_ms: i32) {
        if let Some(throttle) = u64::try_from(throttle_time_ms).ok().filter(|ms| *ms > 0).map(Duration::from_millis) {
            log::debug!("broker {}: its quota lets us fetch again in {throttle:?}", self.node);
            self.throttled_until = Some(door::now() + throttle.min(self.options.request_timeout));
        }
    }

    /// A partition that was moved, removed or started anew since it was asked for is passed over.
    fn read_partition(&mut self, address: &str, partition: &TopicPartition, data: PartitionData) -> Option<Fetched> {
        let target = &self.active.get(partition).filter(|active| active.told.is_some())?.target;
        let diverging = &data.diverging_epoch;
        match Code(data.error_code) {
            Code::NONE if diverging.end_offset >= 0 => {
                let error = truncated(target, diverging.epoch, diverging.end_offset);
                self.fail(partition, error);
            }
            Code::NONE if data.preferred_read_replica.0 >= 0 && data.preferred_read_replica.0 != self.node => {
                self.send_back(partition, Cause::ToReplica(data.preferred_read_replica.0));
            }
            Code::NONE => return self.take_records(partition, data),
            Code::OFFSET_OUT_OF_RANGE => self.send_back(partition, Cause::OutOfRange),
            code => {
                let error = refused(address, partition.to_string(), code);
                if error.is_retriable() || code == Code::UNKNOWN_SERVER_ERROR {
                    self.send_back(partition, Cause::Refused(error));
                } else {
                    self.fail(partition, error);
                }
            }
        }
        None
    }

    fn take_records(&mut self, partition: &TopicPartition, data: PartitionData) -> Option<Fetched> {
        let records = data.records.filter(|records| !records.is_empty())?;
        let active = self.active.get_mut(partition)?;
        let first = active.target.offset;
        let surveyed = match survey(&records, first) {
            Ok(surveyed) => surveyed,
            Err(error) => {
                self.fail(partition, Error::Invalid(format!("{partition}: {error}")));
                return None;
            }
        };
        let Survey { next_offset, last_epoch, records_max, batches, cut_off_bytes } = surveyed;
        if next_offset <= first {
            self.ask_for_more(partition, batches, cut_off_bytes);
            return None;
        }
        active.bytes_max = self.options.partition_fetch_bytes;
        active.target.offset = next_offset;
        active.target.last_epoch = last_epoch;
        let visible_end = if data.last_stable_offset >= 0 { data.last_stable_offset } else { data.high_watermark };
        let log_end = match self.options.isolation {
            Isolation::ReadCommitted => visible_end,
            Isolation::ReadUncommitted => data.high_watermark,
        };
        let aborted = data.aborted_transactions.unwrap_or_default();
        let aborted = aborted.iter().map(|of| Aborted { producer_id: of.producer_id.0, first_offset: of.first_offset });
        Some(Fetched {
            partition: partition.clone(),
            run: active.target.run,
            first,
            next: next_offset,
            records_max,
            log_end,
            records: FetchedRecords {
                bytes: records,
                aborted: aborted.collect(),
                isolation: self.options.isolation,
                held: Some(Box::new(active.target.credit.take())),
            },
        })
    }

    /// Nothing in the answer is at or after the offset: the next batch is larger than was asked for, or the answer is
    /// not what it should be, and then the partition takes the way of a failed one, which has a backoff.
    fn ask_for_more(&mut self, partition: &TopicPartition, batches: usize, cut_off_bytes: Option<usize>) {
        let Some(active) = self.active.get_mut(partition) else { return };
        match cut_off_bytes {
            Some(needed) if batches == 0 && needed > active.bytes_max => {
                log::debug!("{partition}: its next batch has {needed} bytes");
                active.bytes_max = needed.min(self.cluster.options().response_bytes_max);
            }
            _ => {
                let offset = active.target.offset;
                let text = format!("{partition}: the answer to a fetch from offset {offset} holds no such record");
                self.send_back(partition, Cause::Refused(Error::Invalid(text)));
            }
        }
    }
}

/// The leader lacks records that we have read: it became the leader without having them (an unclean election), or the
/// log was restored from an older copy.
fn truncated(target: &Target, epoch: i32, end: i64) -> Error {
    let Target { partition, offset, last_epoch, .. } = target;
    Error::Invalid(format!(
        "{partition}: the log was cut: it was read up to offset {offset} in leader epoch {last_epoch}, but on its leader \
         epoch {epoch} ends at {end}, so what was read from {end} on is lost in Kafka, and other records may stand \
         there now; to accept this, set the position to {end} (reads what is there instead) or leave it at {offset}, \
         and start again"
    ))
}

fn refused(address: &str, subject: String, code: Code) -> Error {
    Error::Broker { address: address.into(), api: "Fetch", subject, code, message: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_beyond_the_protocol_are_cut_to_it() {
        assert_eq!((bytes(5), bytes(usize::MAX)), (5, i32::MAX));
    }
}
