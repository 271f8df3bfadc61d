//! What stands in for the engine: keeps positions like a database, checks that each chunk follows the last.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use konekt::TopicPartition;
use konekt::broker::{Broker, BrokerOptions, TopicSpec};
use konekt::core::record::RecordBuffer;
use konekt::kafka::wire::compression::Codec;
use konekt::kafka::wire::record_batch::RecordBatchBuilder;
use konekt::port::{Assignment, Chunk, Source, SourceEvent};
use konekt::source::native::{NativeOptions, NativeSource, TopicSelection};

/// A broker with the topic `t`.
pub fn start_broker(partitions: i32) -> Broker {
    let topics = vec![TopicSpec::new("t", partitions)];
    let group_consumer_heartbeat_interval = Duration::from_millis(50);
    Broker::start(BrokerOptions { topics, group_consumer_heartbeat_interval, ..BrokerOptions::default() }).unwrap()
}

/// Appends one batch of `records` to each partition of `t`.
pub fn fill(broker: &Broker, partitions: i32, records: i64) {
    for partition in 0..partitions {
        let mut batch = RecordBatchBuilder::default();
        for number in 0..records {
            batch.append(Some(b"key"), Some(format!("value {number}").as_bytes()), &[], 1_700_000_000_000);
        }
        broker.append("t", partition, batch.finish(Codec::None).unwrap());
    }
}

/// To be called once per turn: fails the test when what it waits for does not come.
pub fn patience(what: &'static str) -> impl FnMut() {
    let until = Instant::now() + Duration::from_secs(30);
    move || assert!(Instant::now() < until, "waited for 30 s: {what}")
}

pub fn options(bootstrap: &str) -> NativeOptions {
    let mut options = NativeOptions::new(vec![bootstrap.into()], "g", TopicSelection::Names(vec!["t".into()]));
    options.heartbeat_interval = Duration::from_millis(50);
    options.session_timeout = Duration::from_secs(10);
    options.fetch_max_wait = Duration::from_millis(100);
    options
}

/// A process that reads.
pub struct Application {
    pub source: NativeSource,
    /// Of each partition that is ours: its run and the next offset.
    pub positions: BTreeMap<TopicPartition, (u64, i64)>,
    /// What a database would know.
    pub read: BTreeMap<TopicPartition, i64>,
    pub assigned: Vec<Assignment>,
    pub records: u64,
    pub hold: Option<TopicPartition>,
    pub held: Vec<Chunk>,
    pub starts: bool,
    pub commits: bool,
    pub releases: bool,
    pub to_release: Vec<TopicPartition>,
    /// Events that are none of ordinary reading.
    pub others: Vec<SourceEvent>,
    seen: BTreeSet<(TopicPartition, i64)>,
    runs: u64,
}

impl Application {
    pub fn join(broker: &Broker, change: impl FnOnce(&mut NativeOptions)) -> Self {
        let mut options = options(&broker.address());
        change(&mut options);
        Self {
            source: NativeSource::connect(options).unwrap(),
            positions: BTreeMap::new(),
            read: BTreeMap::new(),
            assigned: Vec::new(),
            records: 0,
            hold: None,
            held: Vec::new(),
            starts: true,
            commits: false,
            releases: true,
            to_release: Vec::new(),
            others: Vec::new(),
            seen: BTreeSet::new(),
            runs: 0,
        }
    }

    pub fn position(&self, topic: &str, partition: i32) -> i64 {
        self.positions.get(&TopicPartition::new(topic, partition)).map_or(0, |(_, next)| *next)
    }

    /// One poll, and what follows from it.
    pub fn turn(&mut self) {
        let mut events = Vec::new();
        self.source.poll(Duration::from_millis(20), &mut events);
        for event in events {
            match event {
                SourceEvent::Assigned(assigned) => self.on_assigned(assigned),
                SourceEvent::Revoked(partitions) => self.to_release.extend(partitions),
                SourceEvent::Lost(partitions) => self.positions.retain(|partition, _| !partitions.contains(partition)),
                SourceEvent::Fetched(chunk) => self.on_fetched(chunk),
                SourceEvent::Failed(error) => panic!("the source failed: {error}"),
                other => self.others.push(other),
            }
        }
        if self.releases && !self.to_release.is_empty() {
            let released = std::mem::take(&mut self.to_release);
            let taken = released.iter().filter_map(|partition| self.positions.remove_entry(partition));
            let positions = taken.map(|(partition, (_, next))| (partition, next)).collect();
            self.source.release(released, positions);
        }
        if self.commits {
            self.source.commit(self.to_commit());
        }
    }

    fn to_commit(&self) -> Vec<(TopicPartition, i64)> {
        self.positions.iter().map(|(partition, (_, next))| (partition.clone(), *next)).collect()
    }

    fn on_assigned(&mut self, assigned: Vec<Assignment>) {
        for assignment in &assigned {
            let partition = &assignment.partition;
            self.runs += 1;
            let known = self.read.get(partition).copied();
            let next = known.or(assignment.committed).unwrap_or(assignment.log_start);
            let before = self.positions.insert(partition.clone(), (self.runs, next));
            assert!(before.is_none(), "{partition} was assigned twice");
            if self.starts {
                self.source.start(partition, self.runs, next);
            }
        }
        self.assigned.extend(assigned);
    }

    fn on_fetched(&mut self, chunk: Chunk) {
        let Some((run, next)) = self.positions.get_mut(&chunk.partition).filter(|(run, _)| *run == chunk.run) else {
            return;
        };
        assert_eq!(chunk.first, *next, "{} run {run}: a gap or a repetition", chunk.partition);
        let mut records = RecordBuffer::default();
        Arc::clone(&chunk.records).decoder(chunk.first).decode_rest(&mut records).unwrap();
        *next = chunk.next;
        self.read.insert(chunk.partition.clone(), chunk.next);
        if self.hold.as_ref() == Some(&chunk.partition) {
            self.held.push(chunk);
            return;
        }
        for index in 0..records.len() {
            let record = (chunk.partition.clone(), records.get(index).offset);
            assert!(self.seen.insert(record.clone()), "{record:?} was read twice");
            self.records += 1;
        }
    }

    /// Commits and leaves.
    pub fn close(&mut self) {
        self.held.clear();
        let positions = self.to_commit();
        self.source.close(positions, Duration::from_secs(20)).unwrap();
    }
}

/// Whether the applications together have read all there is.
pub fn all_read(applications: &[&Application], broker: &Broker, partitions: i32) -> bool {
    (0..partitions).all(|partition| {
        let end = broker.log_end("t", partition);
        let key = TopicPartition::new("t", partition);
        applications.iter().any(|application| application.read.get(&key).copied() >= end)
    })
}

/// Takes turns until all is read.
pub fn read_all(applications: &mut [&mut Application], broker: &Broker, partitions: i32) {
    let mut turn = patience("all is read");
    loop {
        let shared: Vec<&Application> = applications.iter().map(|application| &**application).collect();
        if all_read(&shared, broker, partitions) {
            return;
        }
        turn();
        applications.iter_mut().for_each(|application| application.turn());
    }
}
