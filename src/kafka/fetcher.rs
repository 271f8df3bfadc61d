//! The thread `konekt-fetch-N`: reads from broker N by long polls (Fetch, API key 1).
//!
//! ```text
//!   ask ─▶ answer arrives ─▶ survey batches, move the offsets ─▶ ask again ─▶ hand the chunks on ─┐
//!    ▲                                                                                            │
//!    └────────────────────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! The next request is on its way before the last answer is handed on, so the broker works while we do. A request names
//! the partitions that have credit, each time beginning with another one, since a broker fills an answer in that order.
//! Its memory is set aside first; if there is none at once, the chunks are handed on first, as only that frees any.
//!
//! Whatever cannot be solved here (no connection, another leader, an offset outside the log) goes back to the router
//! with the partition.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crossbeam::channel::{Receiver, Sender, select};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::{FetchRequest, FetchResponse};
use uuid::Uuid;

use super::buffer::{BufferPool, Reservation};
use super::cluster::{Cluster, topic_name};
use super::connection::{Connection, InFlight};
use super::consumer::{ConsumerOptions, Event, Fetched, Reporter, tell};
use super::credit::{Credit, Wake};
use super::error::{Code, Error};
use super::interrupt::Interrupt;
use super::offsets::Isolation;
use super::router::{self, Cause, Returned};
use super::wire::record_batch::{Aborted, FetchedRecords, Survey, survey};
use crate::core::record::TopicPartition;

/// The longest poll while a partition waits for credit, which it may get at any moment.
const WAIT_WHILE_STARVED: Duration = Duration::from_millis(10);
/// The longest poll right after partitions were added, as others may follow.
const WAIT_AFTER_CHANGE: Duration = Duration::from_millis(50);
/// How long to wait for memory before looking for commands.
const WAIT_FOR_MEMORY: Duration = Duration::from_millis(100);
/// Room in an answer for what is not records.
const ANSWER_OVERHEAD_BYTES: usize = 16 << 10;
/// From this version on, topics go by their id.
const TOPIC_IDS_SINCE: i16 = 13;

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
    pub credit: Credit,
}

/// A partition being fetched, and how much of it is asked for: more than usual when its next batch is larger.
struct Active {
    target: Target,
    bytes_max: usize,
}

/// A request in flight.
struct Asked {
    in_flight: InFlight,
    /// Of each partition asked for: which run, from where.
    partitions: Vec<AskedPartition>,
    reservation: Reservation,
    wait: Duration,
}

struct AskedPartition {
    /// Its index among the active ones, at that time.
    place: usize,
    partition: TopicPartition,
    topic_id: Uuid,
    run: u64,
    offset: i64,
}

/// Why nothing was asked.
#[derive(PartialEq)]
enum Idle {
    /// No partition is there, or none has credit.
    NothingToAsk,
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
    active: Vec<Active>,
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
            active: Vec::new(),
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
                    Err(Idle::NothingToAsk) if !self.rest() => return,
                    Err(_) => None,
                },
            };
        }
    }

    /// Waits for a command or for credit. False: the end.
    fn rest(&mut self) -> bool {
        select! {
            recv(self.commands) -> command => command.is_ok_and(|command| self.obey(command)),
            recv(self.woken) -> _ => true,
        }
    }

    fn obey(&mut self, command: Command) -> bool {
        match command {
            Command::Add(target) => {
                target.credit.wakes(self.wake.clone());
                self.remove(&target.partition);
                self.active.push(Active { target, bytes_max: self.options.partition_fetch_bytes });
                self.changed = true;
            }
            Command::Remove(partition) => self.remove(&partition),
            Command::Close => return false,
        }
        true
    }

    fn remove(&mut self, partition: &TopicPartition) {
        self.active.retain(|active| active.target.partition != *partition);
    }
}

/// Asking.
impl Fetcher {
    /// Sends the next request, if there is anything to ask for and memory for the answer within `wait`.
    fn ask(&mut self, wait: Duration) -> Result<Asked, Idle> {
        let eligible: Vec<usize> =
            (0..self.active.len()).filter(|&at| self.active[at].target.credit.is_available()).collect();
        if eligible.is_empty() {
            return Err(Idle::NothingToAsk);
        }
        let wanted: usize = eligible.iter().map(|&at| self.active[at].bytes_max).sum();
        let largest = eligible.iter().map(|&at| self.active[at].bytes_max).max().unwrap_or(0);
        let bytes_max = wanted.min(self.options.fetch_max_bytes.max(largest));
        let reservation = self.pool.reserve(bytes_max + ANSWER_OVERHEAD_BYTES, wait).ok_or(Idle::NoMemory)?;
        let poll = self.poll_time(eligible.len());
        let order = self.rotate(eligible);
        match self.send(&order, bytes_max, poll) {
            Ok(in_flight) => {
                self.changed = false;
                let partitions = order.iter().map(|&at| AskedPartition::of(&self.active[at].target, at)).collect();
                Ok(Asked { in_flight, partitions, reservation, wait: poll })
            }
            Err(error) => {
                self.give_up(error);
                Err(Idle::Failed)
            }
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

    fn rotate(&mut self, mut eligible: Vec<usize>) -> Vec<usize> {
        let first = self.turn % eligible.len();
        eligible.rotate_left(first);
        self.turn = self.turn.wrapping_add(1);
        eligible
    }

    fn send(&mut self, order: &[usize], bytes_max: usize, poll: Duration) -> Result<InFlight, Error> {
        if self.connection.is_none() {
            let connection = self.cluster.connect_to(self.node)?;
            self.interrupt.arm(&connection);
            self.connection = Some(connection);
        }
        let connection = self.connection.as_mut().ok_or(Error::Closed)?;
        let by_id = connection.version::<FetchRequest>()? >= TOPIC_IDS_SINCE;
        let request = FetchRequest::default()
            .with_max_wait_ms(poll.as_millis() as i32)
            .with_min_bytes(bytes(self.options.fetch_min_bytes))
            .with_max_bytes(bytes(bytes_max))
            .with_isolation_level(self.options.isolation.level())
            .with_session_epoch(-1) // no fetch session: each request stands for itself
            .with_topics(topics(order.iter().map(|&at| &self.active[at]), by_id));
        connection.send(&request)
    }

    /// Sends every partition back to the router, which finds out where they are now.
    fn give_up(&mut self, error: Error) {
        self.connection = None;
        self.interrupt.disarm();
        self.reporter.trouble(error);
        for Active { target, .. } in std::mem::take(&mut self.active) {
            self.give_back(target, Cause::Connection);
        }
    }

    fn give_back(&self, target: Target, cause: Cause) {
        let returned = Returned { partition: target.partition, run: target.run, offset: target.offset, cause };
        tell(&self.router, router::Command::Returned(returned));
    }
}

impl AskedPartition {
    fn of(target: &Target, place: usize) -> Self {
        let Target { partition, topic_id, run, offset, .. } = target;
        Self { place, partition: partition.clone(), topic_id: *topic_id, run: *run, offset: *offset }
    }
}

/// Partitions that follow each other and are of one topic share an entry; the order is kept, for it is the broker's.
fn topics<'a>(order: impl Iterator<Item = &'a Active>, by_id: bool) -> Vec<FetchTopic> {
    let mut topics: Vec<FetchTopic> = Vec::new();
    let mut last: Option<&str> = None;
    for Active { target, bytes_max } in order {
        let partition = FetchPartition::default()
            .with_partition(target.partition.partition)
            .with_current_leader_epoch(target.leader_epoch)
            .with_fetch_offset(target.offset)
            .with_last_fetched_epoch(-1)
            .with_log_start_offset(-1)
            .with_partition_max_bytes(bytes(*bytes_max));
        match topics.last_mut().filter(|_| last == Some(&target.partition.topic)) {
            Some(topic) => topic.partitions.push(partition),
            None => {
                let topic = FetchTopic::default().with_partitions(vec![partition]);
                topics.push(if by_id {
                    topic.with_topic_id(target.topic_id)
                } else {
                    topic.with_topic(topic_name(&target.partition.topic))
                });
            }
        }
        last = Some(&target.partition.topic);
    }
    topics
}

fn bytes(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

/// The answer.
impl Fetcher {
    /// Waits for the answer, asks again, then hands the chunks on.
    fn receive(&mut self, asked: Asked) -> Option<Asked> {
        let Asked { in_flight, partitions, mut reservation, wait } = asked;
        let timeout = wait + self.options.request_timeout;
        let connection = self.connection.as_mut()?;
        let answer = connection.receive::<FetchRequest>(in_flight, &mut reservation, timeout);
        let address = connection.address().to_owned();
        drop(reservation);
        let chunks = match answer {
            Ok(answer) => self.read(&address, &partitions, answer),
            Err(error) => {
                self.give_up(error);
                return None;
            }
        };
        let next = self.ask(Duration::ZERO).ok();
        chunks.into_iter().for_each(|chunk| self.reporter.send(Event::Fetched(chunk)));
        next
    }

    fn read(&mut self, address: &str, asked: &[AskedPartition], answer: FetchResponse) -> Vec<Fetched> {
        let code = Code(answer.error_code);
        if !code.is_ok() {
            let error = refused(address, format!("broker {}", self.node), code);
            self.give_up(error);
            return Vec::new();
        }
        let names: HashMap<Uuid, &Arc<str>> = asked.iter().map(|of| (of.topic_id, &of.partition.topic)).collect();
        let asked: HashMap<&TopicPartition, &AskedPartition> = asked.iter().map(|of| (&of.partition, of)).collect();
        let mut chunks = Vec::new();
        for topic in answer.responses {
            let known = names.get(&topic.topic_id).filter(|_| !topic.topic_id.is_nil());
            let name = known.map_or_else(|| Arc::from(topic.topic.as_str()), |name| Arc::clone(name));
            for data in topic.partitions {
                let partition = TopicPartition { topic: Arc::clone(&name), partition: data.partition_index };
                if let Some(asked) = asked.get(&partition) {
                    chunks.extend(self.read_partition(address, asked, data));
                }
            }
        }
        chunks
    }

    /// Where an asked partition is by now: mostly where it was.
    fn locate(&self, asked: &AskedPartition) -> Option<usize> {
        let is_it = |active: &Active| {
            let target = &active.target;
            target.run == asked.run && target.offset == asked.offset && target.partition == asked.partition
        };
        if self.active.get(asked.place).is_some_and(is_it) {
            return Some(asked.place);
        }
        self.active.iter().position(is_it)
    }

    /// A partition that was moved or removed since it was asked for is passed over.
    fn read_partition(&mut self, address: &str, asked: &AskedPartition, data: PartitionData) -> Option<Fetched> {
        let at = self.locate(asked)?;
        match Code(data.error_code) {
            Code::NONE => self.take_records(at, data),
            Code::OFFSET_OUT_OF_RANGE => {
                let target = self.active.swap_remove(at).target;
                self.give_back(target, Cause::OutOfRange);
                None
            }
            code => {
                let target = self.active.swap_remove(at).target;
                let error = refused(address, target.partition.to_string(), code);
                if error.is_retriable() || code == Code::UNKNOWN_SERVER_ERROR {
                    self.give_back(target, Cause::Refused(error));
                } else {
                    self.reporter.send(Event::PartitionFailed { partition: target.partition, error });
                }
                None
            }
        }
    }

    fn take_records(&mut self, at: usize, data: PartitionData) -> Option<Fetched> {
        let records = data.records.filter(|records| !records.is_empty())?;
        let active = &mut self.active[at];
        let first = active.target.offset;
        let surveyed = match survey(&records, first) {
            Ok(surveyed) => surveyed,
            Err(error) => {
                let partition = self.active.swap_remove(at).target.partition;
                let error = Error::Invalid(format!("{partition}: {error}"));
                self.reporter.send(Event::PartitionFailed { partition, error });
                return None;
            }
        };
        let Survey { next_offset, records_max, batches, cut_off_bytes } = surveyed;
        if next_offset <= first {
            self.ask_for_more(at, batches, cut_off_bytes);
            return None;
        }
        active.bytes_max = self.options.partition_fetch_bytes;
        active.target.offset = next_offset;
        let visible_end = if data.last_stable_offset >= 0 { data.last_stable_offset } else { data.high_watermark };
        let log_end = match self.options.isolation {
            Isolation::ReadCommitted => visible_end,
            Isolation::ReadUncommitted => data.high_watermark,
        };
        let aborted = data.aborted_transactions.unwrap_or_default();
        let aborted = aborted.iter().map(|of| Aborted { producer_id: of.producer_id.0, first_offset: of.first_offset });
        Some(Fetched {
            partition: active.target.partition.clone(),
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
    fn ask_for_more(&mut self, at: usize, batches: usize, cut_off_bytes: Option<usize>) {
        let active = &mut self.active[at];
        match cut_off_bytes {
            Some(needed) if batches == 0 && needed > active.bytes_max => {
                log::debug!("{}: its next batch has {needed} bytes", active.target.partition);
                active.bytes_max = needed.min(self.cluster.options().response_bytes_max);
            }
            _ => {
                let target = self.active.swap_remove(at).target;
                let text = format!(
                    "{}: the answer to a fetch from offset {} holds no such record",
                    target.partition, target.offset
                );
                self.give_back(target, Cause::Refused(Error::Invalid(text)));
            }
        }
    }
}

fn refused(address: &str, subject: String, code: Code) -> Error {
    Error::Broker { address: address.into(), api: "Fetch", subject, code, message: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn active(topic: &str, partition: i32, offset: i64) -> Active {
        let target = Target {
            partition: TopicPartition::new(topic, partition),
            topic_id: Uuid::from_u128(topic.len() as u128),
            leader_epoch: 3,
            run: 1,
            offset,
            credit: Credit::new(1),
        };
        Active { target, bytes_max: 1 << 20 }
    }

    fn show(topics: &[FetchTopic]) -> String {
        let of_topic = |topic: &FetchTopic| {
            let partitions = topic.partitions.iter().map(|of| format!("{}@{}", of.partition, of.fetch_offset));
            format!("{}{}[{}]", &**topic.topic, topic.topic_id.as_u128(), partitions.collect::<Vec<_>>().join(" "))
        };
        topics.iter().map(of_topic).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_request_keeps_the_order_and_names_topics_as_its_version_does() {
        let active = [active("a", 1, 10), active("a", 0, 20), active("bb", 0, 30), active("a", 2, 40)];
        for (by_id, expected) in [(false, "a0[1@10 0@20] bb0[0@30] a0[2@40]"), (true, "1[1@10 0@20] 2[0@30] 1[2@40]")] {
            assert_eq!(show(&topics(active.iter(), by_id)), expected, "by id: {by_id}");
        }
    }

    #[test]
    fn sizes_beyond_the_protocol_are_cut_to_it() {
        assert_eq!((bytes(5), bytes(usize::MAX)), (5, i32::MAX));
    }
}
