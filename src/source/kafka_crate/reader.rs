//! The thread `konekt-kafka`: asks the leaders one after the other for records and copies them out of the answers.
//!
//! What the old protocol leaves open is asked with our own client (`first_records`), since it decides whether records
//! are lost:
//!
//! - An answer without records is what a batch larger than asked for looks like, and what markers and compaction leave.
//! - An answer that begins after the offset asked for is what compaction leaves, and what the crate makes of uncompressed
//!   records before a compressed batch: it returns that batch alone.
//!
//! After an I/O error everything begins anew with another `KafkaClient`, since the crate keeps dead connections for ever.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::mem;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ::kafka::client::fetch::{Data, Response};
use ::kafka::client::{FetchPartition, KafkaClient};
use ::kafka::error::{Error as CrateError, KafkaCode};
use crossbeam::channel::{Receiver, Sender, bounded, select, unbounded};

use super::refuse_foreign_brokers;
use crate::core::backoff::Backoff;
use crate::core::record::TopicPartition;
use crate::door;
use crate::kafka::admin::timestamps::{FirstRecord, first_records};
use crate::kafka::cluster::Cluster;
use crate::kafka::credit::{Credit, Wake};
use crate::kafka::error::Error;
use crate::kafka::offsets::{Isolation, OffsetAt};
use crate::port::{Chunk, SourceError, SourceEvent, Waker};
use crate::source::copied::{Charge, Copying, Foreign};
use crate::source::native::NativeOptions;

/// The longest poll while others may have records: the brokers are asked one after the other.
const WAIT_WHILE_BUSY: Duration = Duration::from_millis(10);
/// How long to wait for memory before looking for commands.
const WAIT_FOR_MEMORY: Duration = Duration::from_millis(100);
/// The longest rest without a look around.
const REST_MAX: Duration = Duration::from_secs(3600);

enum Command {
    Read { partition: TopicPartition, run: u64, offset: i64 },
    Stop(Vec<TopicPartition>),
}

/// The thread's owner.
pub struct Reader {
    /// Dropping it ends the thread.
    commands: Sender<Command>,
    events: Receiver<SourceEvent>,
    /// Closed when the thread has ended.
    ended: Receiver<()>,
    thread: JoinHandle<()>,
}

impl Reader {
    /// Starts the thread; `waker` is called after each event.
    pub fn start(options: NativeOptions, cluster: Cluster, waker: Waker) -> Self {
        let (commands, orders) = unbounded();
        let (sender, events) = unbounded();
        let (alive, ended) = bounded(0);
        let (wake, woken) = Wake::channel();
        let reading = Reading {
            told: Told { events: sender, waker },
            orders,
            wake,
            woken,
            client: None,
            backoff: Backoff::new(Duration::from_millis(200), Duration::from_secs(5)),
            partitions: BTreeMap::new(),
            turn: 0,
            quiet: false,
            stale: false,
            options,
            cluster,
        };
        let thread = door::spawn("konekt-kafka", move || {
            let _alive: Sender<()> = alive;
            reading.run();
        });
        Self { commands, events, ended, thread }
    }

    /// Reads a partition from `offset` on.
    pub fn read(&self, partition: &TopicPartition, run: u64, offset: i64) {
        self.tell(Command::Read { partition: partition.clone(), run, offset });
    }

    /// Reads these no more.
    pub fn stop(&self, partitions: &[TopicPartition]) {
        self.tell(Command::Stop(partitions.to_vec()));
    }

    fn tell(&self, command: Command) {
        let _ = self.commands.send(command); // ended already: it has said why
    }

    /// Appends what has happened.
    pub fn take_events(&self, events: &mut Vec<SourceEvent>) {
        events.extend(self.events.try_iter());
    }

    /// Ends the thread.
    ///
    /// # Errors
    /// When it did not end in time: the crate waits two minutes for a broker that does not answer.
    pub fn close(self, until: Instant) -> Result<(), SourceError> {
        drop(self.commands);
        let failed = |message: &str| Err(SourceError { message: message.to_owned(), unavailable: false });
        if self.ended.recv_deadline(until).is_err_and(|error| error.is_timeout()) {
            return failed("thread konekt-kafka did not end in time: a broker does not answer it");
        }
        self.thread.join().or_else(|_| failed("thread konekt-kafka panicked; see the log"))
    }
}

/// The way to say what happened.
struct Told {
    events: Sender<SourceEvent>,
    waker: Waker,
}

impl Told {
    fn tell(&self, event: SourceEvent) {
        let _ = self.events.send(event); // nobody listens any more: we are being closed
        (self.waker)();
    }
}

/// One partition, and where it stands.
struct Reach {
    run: u64,
    /// The next offset to ask for.
    offset: i64,
    /// How much to ask for.
    bytes: i32,
    credit: Credit,
}

/// What is asked of one partition.
struct Ask {
    partition: TopicPartition,
    offset: i64,
    bytes: i32,
}

/// The thread's state.
struct Reading {
    options: NativeOptions,
    cluster: Cluster,
    told: Told,
    orders: Receiver<Command>,
    wake: Wake,
    woken: Receiver<()>,
    client: Option<KafkaClient>,
    backoff: Backoff,
    partitions: BTreeMap<TopicPartition, Reach>,
    /// Which partition the next request begins with.
    turn: usize,
    /// Whether the last answers brought nothing.
    quiet: bool,
    /// Whether a leader is not where it was.
    stale: bool,
}

impl Drop for Reading {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let message = "thread konekt-kafka panicked: this is a bug, please report it with the log".to_owned();
            self.told.tell(SourceEvent::Failed(SourceError { message, unavailable: false }));
        }
    }
}

impl Reading {
    fn run(mut self) {
        let mut wait = Duration::ZERO;
        while self.obey(wait) {
            let asks = self.choose();
            wait = if asks.is_empty() { REST_MAX } else { Duration::ZERO };
            if asks.is_empty() {
                continue;
            }
            let bytes = asks.iter().map(|ask| ask.bytes as usize).sum();
            if !self.options.memory.reserve(bytes, WAIT_FOR_MEMORY) {
                continue;
            }
            let reserved = Charge::reserved(&self.options.memory, bytes);
            let taken = self.fetch(&asks).map(|responses| self.take(&asks, &responses));
            drop(reserved);
            wait = match taken {
                Ok(()) if self.stale => self.refresh(),
                Ok(()) => self.worked(),
                Err(error) => match self.recover(&error) {
                    Some(wait) => wait,
                    None => return,
                },
            };
        }
    }

    fn worked(&mut self) -> Duration {
        self.backoff.reset();
        Duration::ZERO
    }

    /// Carries out what was ordered, waiting up to `wait` for it or for credit. False: end.
    fn obey(&mut self, wait: Duration) -> bool {
        let first = select! {
            recv(self.orders) -> order => match order {
                Ok(order) => Some(order),
                Err(_) => return false,
            },
            recv(self.woken) -> _ => None,
            default(wait) => None,
        };
        let others: Vec<Command> = self.orders.try_iter().collect();
        for order in first.into_iter().chain(others) {
            match order {
                Command::Read { partition, run, offset } => {
                    let credit = Credit::new(self.options.credit_chunks);
                    credit.wakes(self.wake.clone());
                    self.partitions.insert(partition, Reach { run, offset, bytes: self.bytes(), credit });
                }
                Command::Stop(partitions) => partitions.iter().for_each(|of| drop(self.partitions.remove(of))),
            }
        }
        true
    }

    /// How much is asked of a partition as a rule.
    fn bytes(&self) -> i32 {
        i32::try_from(self.options.partition_fetch_bytes).unwrap_or(i32::MAX)
    }

    /// The partitions that have credit, as many as an answer has room for, each time from another one on.
    fn choose(&mut self) -> Vec<Ask> {
        let with_credit = self.partitions.iter().filter(|(_, reach)| reach.credit.is_available());
        let mut asks: Vec<Ask> = with_credit
            .map(|(partition, reach)| Ask { partition: partition.clone(), offset: reach.offset, bytes: reach.bytes })
            .collect();
        if !asks.is_empty() {
            self.turn = (self.turn + 1) % asks.len();
            asks.rotate_left(self.turn);
        }
        let mut bytes = 0;
        let fitting = asks.iter().take_while(|ask| {
            bytes += ask.bytes as usize;
            bytes <= self.options.fetch_max_bytes
        });
        let count = fitting.count().max(1);
        asks.truncate(count);
        asks
    }

    fn fetch(&mut self, asks: &[Ask]) -> Result<Vec<Response>, CrateError> {
        let patient = self.quiet && asks.len() == self.partitions.len();
        let wait = if patient { self.options.fetch_max_wait } else { WAIT_WHILE_BUSY.min(self.options.fetch_max_wait) };
        let mut client = match self.client.take() {
            Some(client) => client,
            None => self.connect()?,
        };
        client.set_fetch_max_wait_time(wait)?;
        let responses = match client.fetch_messages(asks.iter().map(request)) {
            Err(error) if is_about_records(&error) => self.fetch_singly(&mut client, asks)?,
            responses => responses?,
        };
        self.client = Some(client);
        Ok(responses)
    }

    fn connect(&self) -> Result<KafkaClient, CrateError> {
        let known = self.cluster.metadata();
        let hosts: BTreeSet<&String> = known.brokers.values().chain(&self.options.bootstrap).collect();
        let topics: BTreeSet<&str> = self.partitions.keys().map(|partition| &*partition.topic).collect();
        let mut client = KafkaClient::new(hosts.into_iter().cloned().collect());
        client.set_client_id(self.options.client_id.clone());
        client.set_fetch_min_bytes(i32::try_from(self.options.fetch_min_bytes).unwrap_or(i32::MAX));
        client.set_fetch_crc_validation(true);
        client.load_metadata(&Vec::from_iter(topics))?;
        Ok(client)
    }

    /// One partition that the crate cannot read fails the whole answer: this finds it.
    fn fetch_singly(&mut self, client: &mut KafkaClient, asks: &[Ask]) -> Result<Vec<Response>, CrateError> {
        let mut responses = Vec::new();
        for ask in asks {
            match client.fetch_messages([request(ask)]) {
                Err(error) if is_about_records(&error) => self.fail(&ask.partition, &because(&error)),
                response => responses.extend(response?),
            }
        }
        Ok(responses)
    }

    /// Hands on what the answers hold, and finds out what they leave open.
    fn take(&mut self, asks: &[Ask], responses: &[Response]) {
        let mut seen = BTreeSet::new();
        let mut open = BTreeMap::new();
        self.quiet = true;
        for topic in responses.iter().flat_map(Response::topics) {
            for answer in topic.partitions() {
                let partition = TopicPartition::new(topic.topic(), answer.partition());
                match answer.data() {
                    Ok(data) => self.take_data(&partition, data, &mut open),
                    Err(error) => self.take_error(&partition, &error),
                }
                seen.insert(partition);
            }
        }
        // The crate leaves out, without a word, partitions whose leader it does not know.
        let is_left_out = |ask: &Ask| !seen.contains(&ask.partition) && self.partitions.contains_key(&ask.partition);
        self.stale |= asks.iter().any(is_left_out);
        if !open.is_empty() {
            self.look(&open);
        }
    }

    fn take_data(&mut self, partition: &TopicPartition, data: &Data<'_>, open: &mut BTreeMap<TopicPartition, i64>) {
        let bytes = self.bytes();
        let Some(reach) = self.partitions.get_mut(partition) else { return };
        let (first, log_end) = (data.messages().first().map(|message| message.offset), data.highwatermark_offset());
        if first != Some(reach.offset) {
            if log_end > reach.offset {
                open.insert(partition.clone(), reach.offset);
            }
            return;
        }
        let mut copying = Copying::default();
        for message in data.messages() {
            // Offsets only grow; what is not so would be written twice.
            if copying.last_offset().is_none_or(|last| last < message.offset) {
                let present = |bytes: &[u8]| !bytes.is_empty();
                copying.push(
                    &Foreign {
                        offset: message.offset,
                        timestamp_ms: -1,
                        key: Some(message.key).filter(|key| present(key)),
                        value: Some(message.value).filter(|value| present(value)),
                    },
                    std::iter::empty(),
                );
            }
        }
        self.quiet = false;
        reach.bytes = bytes;
        let next = copying.last_offset().map_or(reach.offset, |last| last + 1);
        self.hand_on(partition, copying, next, log_end);
    }

    /// Hands on records up to `next`, be it none.
    fn hand_on(&mut self, partition: &TopicPartition, records: Copying, next: i64, log_end: i64) {
        let Some(reach) = self.partitions.get_mut(partition) else { return };
        let held = (Charge::new(&self.options.memory, records.bytes()), reach.credit.take());
        let chunk = Chunk {
            partition: partition.clone(),
            run: reach.run,
            first: mem::replace(&mut reach.offset, next),
            next,
            records_max: records.len(),
            log_end: log_end.max(next),
            records: records.finish(Box::new(held)),
        };
        self.told.tell(SourceEvent::Fetched(chunk));
    }

    fn take_error(&mut self, partition: &TopicPartition, error: &CrateError) {
        use KafkaCode::*;
        match error {
            CrateError::Kafka(OffsetOutOfRange) => self.out_of_range(partition),
            CrateError::Kafka(
                UnknownTopicOrPartition
                | LeaderNotAvailable
                | NotLeaderForPartition
                | RequestTimedOut
                | BrokerNotAvailable
                | ReplicaNotAvailable
                | NetworkException,
            ) => self.stale = true,
            error => self.fail(partition, &because(error)),
        }
    }

    fn out_of_range(&mut self, partition: &TopicPartition) {
        let queries = [(partition.clone(), OffsetAt::Earliest), (partition.clone(), OffsetAt::Latest)];
        let found = self.cluster.list_offsets(&queries, Isolation::ReadUncommitted);
        let ends: Result<Vec<i64>, Error> = found.and_then(|found| found.into_iter().map(|(_, end)| end).collect());
        match ends.as_deref() {
            Ok(&[log_start, log_end]) => {
                let Some(reach) = self.partitions.remove(partition) else { return };
                let (run, requested, partition) = (reach.run, reach.offset, partition.clone());
                self.told.tell(SourceEvent::OutOfRange { partition, run, requested, log_start, log_end });
            }
            // Asked again, as the partition is fetched again.
            _ => self.stale = true,
        }
    }

    /// Asks our own client what stands where the answers of the old protocol can mean two things.
    fn look(&mut self, open: &BTreeMap<TopicPartition, i64>) {
        let found = first_records(&self.cluster, open).unwrap_or_else(|error| {
            log::debug!("client kafka: {error}");
            BTreeMap::new()
        });
        for (partition, &asked) in open {
            let Some(reach) = self.partitions.get_mut(partition) else { continue };
            match found.get(partition) {
                Some(FirstRecord::Found { offset, bytes, .. }) => {
                    let bytes = i32::try_from(*bytes).unwrap_or(i32::MAX);
                    if *offset == asked && reach.bytes == bytes {
                        let why = format!("the batch of {bytes} bytes at offset {asked} cannot be had by it");
                        self.fail(partition, &why);
                        continue;
                    }
                    reach.bytes = bytes;
                    self.skip_to(partition, *offset);
                }
                Some(FirstRecord::NoneBefore(offset)) => self.skip_to(partition, *offset),
                None => self.stale = true,
            }
        }
    }

    /// Says that nothing stands before `offset`.
    fn skip_to(&mut self, partition: &TopicPartition, offset: i64) {
        if self.partitions.get(partition).is_some_and(|reach| reach.offset < offset) {
            self.hand_on(partition, Copying::default(), offset, offset);
        }
    }

    fn fail(&mut self, partition: &TopicPartition, why: &str) {
        let Some(Reach { run, .. }) = self.partitions.remove(partition) else { return };
        let message = format!("{partition} cannot be read by --client kafka: {why}; use --client native");
        let error = SourceError { message, unavailable: false };
        self.told.tell(SourceEvent::PartitionFailed {
            partition: partition.clone(),
            run: Some(run),
            forbidden: false,
            error,
        });
    }

    /// Finds out who leads what by now; says how long to wait first.
    fn refresh(&mut self) -> Duration {
        self.stale = false;
        self.client = None;
        self.backoff.fail(door::random())
    }

    /// Says what went wrong, the first time, and how long to wait before everything begins anew. `None`: the brokers
    /// speak the old protocol no more.
    fn recover(&mut self, error: &CrateError) -> Option<Duration> {
        self.client = None;
        if self.backoff.failures() == 0 {
            let message = format!("client kafka: {error}; connecting anew, for as long as it takes");
            self.told.tell(SourceEvent::Trouble(SourceError { message, unavailable: true }));
        }
        match refuse_foreign_brokers(&self.cluster) {
            Ok(()) => Some(self.backoff.fail(door::random())),
            Err(refusal) => {
                self.told.tell(SourceEvent::Failed(refusal));
                None
            }
        }
    }
}

fn request(ask: &Ask) -> FetchPartition<'_> {
    FetchPartition::new(&ask.partition.topic, ask.partition.partition, ask.offset).with_max_bytes(ask.bytes)
}

/// Whether the records are to blame, and not the connection.
fn is_about_records(error: &CrateError) -> bool {
    match error {
        CrateError::UnsupportedCompression | CrateError::UnsupportedProtocol | CrateError::InvalidSnappy(_) => true,
        CrateError::Kafka(code) => *code == KafkaCode::CorruptMessage,
        // What gzip says of corrupt data.
        CrateError::Io(error) => matches!(error.kind(), ErrorKind::InvalidData | ErrorKind::InvalidInput),
        CrateError::ArcSelf(error) => is_about_records(error),
        _ => false,
    }
}

/// An error in words.
fn because(error: &CrateError) -> String {
    match error {
        CrateError::UnsupportedCompression => "its records are compressed by lz4, which it does not know".to_owned(),
        // What brokers answer to an old client about zstd is not in its list.
        CrateError::Kafka(KafkaCode::Unknown) => {
            "the broker gives an error that it does not know, as for records compressed by zstd".to_owned()
        }
        other => other.to_string(),
    }
}
