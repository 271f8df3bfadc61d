//! The engine's turns on one thread, with a clock of our own: a seed draws partitions, holes, faults, rebalances and
//! the order in which poller, loop and workers get their turn. A failing seed fails again.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use crossbeam::channel::{bounded, unbounded};
use parking_lot::Mutex;

use super::channels::{Bell, Control, Outcomes, REPORTS_MAX};
use super::event_loop::{EventLoop, Lines};
use super::poller::{Poller, SourceLine};
use super::watch::{Crew, Desk};
use super::worker::{Outfit, Worker};
use super::{Callbacks, DeadLetterPlaces, Delivery, Engine, EngineConfig, OffsetReset, Summary, rules};
use crate::core::assignment::{Assignment, Claim, Claimed};
use crate::core::backoff::Chance;
use crate::core::coordinator::Coordinator;
use crate::core::record::{DecodeError, Decoder, Encoded, Extent, RecordBuffer, Skipped, Span, TopicPartition};
use crate::core::verdict::ErrorClass;
use crate::port::*;

/// Virtual time in milliseconds.
#[derive(Default)]
struct SimClock(AtomicU64);

impl Clock for SimClock {
    fn elapsed(&self) -> Elapsed {
        Duration::from_millis(self.0.load(Ordering::Relaxed))
    }
    fn unix_ms(&self) -> i64 {
        0
    }
}

/// One fetched run: the offsets of its records, and who counts the credit.
struct SimChunk {
    offsets: Vec<i64>,
    credit: Arc<AtomicUsize>,
}

/// Its pieces have up to three records; the first has a marker as well.
struct SimDecoder {
    chunk: Arc<SimChunk>,
    from: i64,
    at: usize,
}

impl Decoder for SimDecoder {
    fn decode(&mut self, into: &mut RecordBuffer) -> Option<Result<Skipped, DecodeError>> {
        let piece = self.chunk.offsets[self.at..].chunks(3).next()?;
        let bytes = Bytes::from(piece.iter().flat_map(|offset| offset.to_be_bytes()).collect::<Vec<u8>>());
        into.push_inflated(bytes.clone());
        for (index, &offset) in piece.iter().enumerate().filter(|(_, offset)| **offset >= self.from) {
            let part = Extent::of(&bytes, Some(&bytes[index * 8..index * 8 + 8]));
            let span =
                Span { offset, timestamp_ms: 0, key: part, value: part, headers: Extent::ABSENT, header_count: 0 };
            into.push(span);
        }
        let control = u64::from(self.at == 0);
        self.at += piece.len();
        Some(Ok(Skipped { control, aborted: 0 }))
    }
    fn bytes_left(&self) -> usize {
        8 * (self.chunk.offsets.len() - self.at)
    }
}

impl Encoded for SimChunk {
    fn decoder(self: Arc<Self>, from: i64) -> Box<dyn Decoder> {
        Box::new(SimDecoder { chunk: self, from, at: 0 })
    }
    fn bytes(&self) -> usize {
        self.offsets.len() * 8
    }
}

impl Drop for SimChunk {
    fn drop(&mut self) {
        self.credit.fetch_sub(1, Ordering::Relaxed);
    }
}

struct Started {
    run: u64,
    next: i64,
    credit: Arc<AtomicUsize>,
}

/// A cluster with one group of which we are a member; partitions are taken away and given back at random.
struct SimSource {
    chance: Chance,
    logs: BTreeMap<TopicPartition, Vec<i64>>,
    end: i64,
    started: BTreeMap<TopicPartition, Started>,
    group_offsets: Arc<Mutex<BTreeMap<TopicPartition, i64>>>,
    away: BTreeSet<TopicPartition>,
    pending: VecDeque<SourceEvent>,
    rebalances_left: u32,
}

impl SimSource {
    fn assignment(&self, name: &TopicPartition) -> Assignment {
        let committed = self.group_offsets.lock().get(name).copied();
        let (partition, cluster_id) = (name.clone(), None);
        Assignment { partition, committed, log_start: 0, log_end: self.end, cluster_id, topic_id: None }
    }

    fn rebalance(&mut self) {
        if !self.away.is_empty() || self.rebalances_left == 0 || !self.chance.draw().is_multiple_of(8) {
            return;
        }
        self.rebalances_left -= 1;
        let taken: Vec<_> = self.logs.keys().filter(|_| self.chance.draw().is_multiple_of(2)).cloned().collect();
        let lost = self.chance.draw().is_multiple_of(4);
        let event = if lost { SourceEvent::Lost(taken.clone()) } else { SourceEvent::Revoked(taken.clone()) };
        if taken.is_empty() {
            return;
        }
        self.pending.push_back(event);
        if lost {
            self.give_back(taken);
        } else {
            self.away.extend(taken);
        }
    }

    fn give_back(&mut self, partitions: Vec<TopicPartition>) {
        for name in &partitions {
            self.started.remove(name);
            self.away.remove(name);
        }
        let assignments = partitions.iter().map(|name| self.assignment(name)).collect();
        self.pending.push_back(SourceEvent::Assigned(assignments));
        self.pending.push_back(SourceEvent::Settled);
    }

    fn fetch(&mut self, name: &TopicPartition) -> Option<Chunk> {
        let log = &self.logs[name];
        let started = self.started.get_mut(name)?;
        if started.credit.load(Ordering::Relaxed) >= 3 || started.next >= self.end {
            return None;
        }
        let count = 1 + self.chance.draw() as usize % 9;
        let offsets: Vec<i64> = log.iter().copied().filter(|&offset| offset >= started.next).take(count).collect();
        let next = if offsets.len() < count { self.end } else { offsets[offsets.len() - 1] + 1 };
        started.credit.fetch_add(1, Ordering::Relaxed);
        let records_max = offsets.len() + 1;
        let records = Arc::new(SimChunk { offsets, credit: Arc::clone(&started.credit) });
        let first = std::mem::replace(&mut started.next, next);
        Some(Chunk { partition: name.clone(), run: started.run, first, next, records_max, log_end: self.end, records })
    }
}

impl Source for SimSource {
    fn poll(&mut self, _wait: Duration, events: &mut Vec<SourceEvent>) {
        self.rebalance();
        events.extend(self.pending.pop_front());
        let names: Vec<_> = self.started.keys().cloned().collect();
        for name in names {
            if self.chance.draw().is_multiple_of(2) {
                events.extend(self.fetch(&name).map(SourceEvent::Fetched));
            }
        }
    }
    fn start(&mut self, partition: &TopicPartition, run: u64, offset: i64) {
        if !self.away.contains(partition) {
            self.started.insert(partition.clone(), Started { run, next: offset, credit: Arc::default() });
        }
    }
    fn stop(&mut self, partitions: &[TopicPartition]) {
        self.started.retain(|name, _| !partitions.contains(name));
    }
    fn commit(&mut self, positions: Vec<(TopicPartition, i64)>) {
        self.group_offsets.lock().extend(positions);
    }
    fn survey(&mut self) {
        let all = self.logs.keys().map(|name| self.assignment(name)).collect();
        self.pending.push_back(SourceEvent::Surveyed(all));
    }
    fn release(&mut self, partitions: Vec<TopicPartition>, positions: Vec<(TopicPartition, i64)>) {
        self.commit(positions);
        self.give_back(partitions);
    }
    fn close(&mut self, positions: Vec<(TopicPartition, i64)>, _deadline: Duration) -> Result<(), SourceError> {
        self.commit(positions);
        Ok(())
    }
    fn waker(&self) -> Waker {
        Arc::new(|| {})
    }
}

/// Every so many-th offset is a bad record; 0: none.
fn is_bad(bad_every: i64, offset: i64) -> bool {
    bad_every > 0 && offset % bad_every == bad_every - 1
}

/// Dead letters in memory, which are not always to be had.
#[derive(Default)]
struct SimLetters {
    kept: Mutex<BTreeMap<TopicPartition, Vec<i64>>>,
    asked: AtomicU64,
}

impl DeadLetters for SimLetters {
    fn put(&self, letters: &[Letter<'_>]) -> Result<(), SinkError> {
        if self.asked.fetch_add(1, Ordering::Relaxed) % 7 == 3 {
            return Err(SinkError::new(ErrorClass::Transient, "the topic is away"));
        }
        for letter in letters {
            assert!(letter.error.message.contains("planted"), "{letter:?}");
            self.kept.lock().entry(letter.partition.clone()).or_default().push(letter.record.offset);
        }
        Ok(())
    }
}

#[derive(Default)]
struct Store {
    rows: BTreeMap<TopicPartition, Vec<i64>>,
    /// next offset, owner epoch
    positions: BTreeMap<TopicPartition, (i64, i64)>,
}

/// A database in memory, with a transaction per batch and faults.
struct SimSink {
    store: Arc<Mutex<Store>>,
    chance: Arc<Mutex<Chance>>,
    seed: u64,
    transactional: bool,
    faults_percent: u64,
    bad_every: i64,
}

impl Sink for SimSink {
    fn traits(&self) -> SinkTraits {
        let batches_per_write = 1 + (self.seed % 3) as usize;
        SinkTraits { name: "simulated".into(), writers_max: 8, batches_per_write, transactional: self.transactional }
    }
    fn writer(&self) -> Result<Box<dyn Writer>, SinkError> {
        let (store, chance) = (Arc::clone(&self.store), Arc::clone(&self.chance));
        Ok(Box::new(SimWriter { store, chance, faults_percent: self.faults_percent, bad_every: self.bad_every }))
    }
}

struct SimWriter {
    store: Arc<Mutex<Store>>,
    chance: Arc<Mutex<Chance>>,
    faults_percent: u64,
    bad_every: i64,
}

impl SimWriter {
    fn fault(&mut self) -> Result<(), SinkError> {
        let mut chance = self.chance.lock();
        if chance.draw() % 100 >= self.faults_percent {
            return Ok(());
        }
        let classes = [ErrorClass::Transient, ErrorClass::Contention, ErrorClass::Overload, ErrorClass::Unclassified];
        // What nobody classified would be blamed on the records sooner or later.
        let kinds = if self.bad_every > 0 { 3 } else { 5 };
        match chance.draw() as usize % kinds {
            4 => panic!("planted"),
            kind => Err(SinkError::new(classes[kind], "planted")),
        }
    }

    fn write_one(&mut self, write: &Write<'_>) -> Result<Written, SinkError> {
        self.fault()?;
        if let Some(bad) = write.batch.iter().find(|record| is_bad(self.bad_every, record.offset)) {
            let offset = (bad.offset % 2 == 0).then_some(bad.offset);
            return Err(SinkError { offset, ..SinkError::new(ErrorClass::Data, "planted: a bad record") });
        }
        let mut store = self.store.lock();
        let name = write.batch.partition();
        if let Some(step) = write.position {
            let row = store.positions.get_mut(name).filter(|row| **row == (step.expected, step.owner_epoch));
            let Some(row) = row else {
                return Err(SinkError::new(ErrorClass::Fenced, "position moved"));
            };
            row.0 = step.next;
        }
        store.rows.entry(name.clone()).or_default().extend(write.batch.iter().map(|record| record.offset));
        Ok(Written::all(write.batch.len() as u64))
    }
}

impl Writer for SimWriter {
    fn claim(&mut self, claims: &[Claim]) -> Result<Vec<Claimed>, SinkError> {
        self.fault()?;
        let mut store = self.store.lock();
        let claim_one = |claim: &Claim| {
            let existed = store.positions.contains_key(&claim.partition);
            let start = claim.start_if_absent.unwrap();
            let row = store.positions.entry(claim.partition.clone()).or_insert((start, 0));
            row.1 += 1;
            Claimed {
                next_offset: Some(row.0),
                owner_epoch: row.1,
                cluster_id: None,
                topic_id: None,
                existed,
                paused: false,
            }
        };
        Ok(claims.iter().map(claim_one).collect())
    }
    fn write(&mut self, writes: &[Write<'_>]) -> Vec<Result<Written, SinkError>> {
        writes.iter().map(|write| self.write_one(write)).collect()
    }
}

struct Sim {
    event_loop: EventLoop,
    poller: Poller,
    workers: Vec<Worker>,
    control: crossbeam::channel::Sender<Control>,
    clock: Arc<SimClock>,
    store: Arc<Mutex<Store>>,
    logs: BTreeMap<TopicPartition, Vec<i64>>,
    end: i64,
    group_offsets: Arc<Mutex<BTreeMap<TopicPartition, i64>>>,
    letters: Arc<SimLetters>,
    memory: Arc<MemoryBudget>,
    chance: Chance,
}

struct Scenario {
    seed: u64,
    transactional: bool,
    faults_percent: u64,
    partition_workers: usize,
    max_messages: Option<u64>,
    bad_every: i64,
}

impl Scenario {
    fn plain(seed: u64) -> Self {
        let (transactional, partition_workers) = (false, 1);
        Self { seed, transactional, faults_percent: 0, partition_workers, max_messages: None, bad_every: 0 }
    }
}

fn config(scenario: &Scenario, chance: &mut Chance) -> EngineConfig {
    let delivery = if scenario.transactional { Delivery::ExactlyOnce } else { Delivery::AtLeastOnce };
    EngineConfig {
        group_id: "sim".into(),
        delivery,
        auto_offset_reset: OffsetReset::Earliest,
        max_workers: 3,
        partition_workers: scenario.partition_workers,
        batch_size: 1 + chance.draw() as usize % 12,
        batch_bytes_max: 1 << 20,
        batch_timeout: Duration::from_millis(100),
        max_retries: 3,
        retry_backoff: Duration::from_millis(50),
        error_threshold: 3,
        error_timeout: Duration::from_secs(2),
        dead_letters: DeadLetterPlaces::default(),
        dead_letter_share_max: 50,
        message_timeout: Duration::from_secs(300),
        commit_interval: Duration::from_millis(500),
        stats_interval: Duration::from_secs(1),
        shutdown_timeout: Duration::from_secs(30),
        until_end: true,
        max_messages: scenario.max_messages,
        memory: MemoryBudget::new(1 << 20),
    }
}

fn sim(scenario: &Scenario) -> Sim {
    let mut chance = Chance::seeded(scenario.seed);
    let partitions = 1 + chance.draw() % 5;
    let end = 40 + (chance.draw() % 200) as i64;
    let hole = 2 + chance.draw() % 6;
    let logs: BTreeMap<TopicPartition, Vec<i64>> = (0..partitions)
        .map(|p| {
            (TopicPartition::new("t", p as i32), (0..end).filter(|_| !chance.draw().is_multiple_of(hole)).collect())
        })
        .collect();
    let group_offsets = Arc::default();
    let mut source = SimSource {
        chance: Chance::seeded(scenario.seed ^ 0xabcd),
        logs: logs.clone(),
        end,
        started: BTreeMap::new(),
        group_offsets: Arc::clone(&group_offsets),
        away: BTreeSet::new(),
        pending: VecDeque::new(),
        rebalances_left: (chance.draw() % 6) as u32,
    };
    let all = logs.keys().map(|name| source.assignment(name)).collect();
    source.pending.push_back(SourceEvent::Assigned(all));
    source.pending.push_back(SourceEvent::Settled);

    let store = Arc::default();
    let (seed, transactional, faults_percent) = (scenario.seed, scenario.transactional, scenario.faults_percent);
    let chance_of_faults = Arc::new(Mutex::new(Chance::seeded(seed ^ 0x5117)));
    let bad_every = scenario.bad_every;
    let sink =
        SimSink { store: Arc::clone(&store), chance: chance_of_faults, seed, transactional, faults_percent, bad_every };
    let sink = Arc::new(sink);
    let config = config(scenario, &mut chance);
    let clock = Arc::new(SimClock::default());
    let (bell, rung) = Bell::new();
    let (outcomes, outcome_receiver) = Outcomes::new(bell);
    let (control, control_receiver) = unbounded();
    let (jobs, job_receiver) = unbounded();
    let (commands, command_receiver) = unbounded();
    let (reports, report_receiver) = bounded(REPORTS_MAX);
    let letters = Arc::new(SimLetters::default());
    let wanted = (bad_every > 0).then(|| letters.clone() as Arc<dyn DeadLetters>);
    let places = DeadLetterPlaces { rows: false, letters: wanted };
    let outfit = || Outfit { sink: sink.clone(), places: places.clone(), clock: clock.clone(), desk: Desk::default() };
    let worker = || Worker::new(outfit(), job_receiver.clone(), outcomes.clone(), 1 << 20);
    let workers = (0..3).map(|_| worker()).collect();
    let lines = Lines {
        control: control_receiver,
        outcomes: outcome_receiver,
        bell: rung,
        reports: report_receiver,
        crew: Crew::new(0, config.message_timeout),
        source: SourceLine { commands, waker: source.waker() },
        jobs,
    };
    let coordinator = Coordinator::new(rules(&config, transactional), scenario.seed);
    let memory = Arc::clone(&config.memory);
    let event_loop = EventLoop::new(config, coordinator, lines, clock.clone(), Callbacks::default());
    let poller = Poller::new(Box::new(source), command_receiver, reports);
    Sim { event_loop, poller, workers, control, clock, store, logs, end, group_offsets, letters, memory, chance }
}

impl Sim {
    /// Lets everyone take turns in a drawn order until the run is over, checking what must hold after every step.
    fn run(mut self, scenario: &Scenario) -> (Summary, Arc<Mutex<Store>>) {
        for step in 0.. {
            assert!(step < 400_000, "seed {}: no end after {step} steps: {:#?}", scenario.seed, self.ask());
            match self.chance.draw() % 6 {
                0 | 1 => drop(self.poller.turn(Duration::ZERO)),
                2 | 3 => self.event_loop.turn(),
                _ => drop(self.workers[step % 3].turn()),
            }
            self.clock.0.fetch_add(self.chance.draw() % 3, Ordering::Relaxed);
            if step % 64 == 0 {
                self.check(scenario);
            }
            if self.event_loop.over() {
                break;
            }
        }
        self.check(scenario);
        let (store, memory) = (self.store, self.memory);
        let summary = self.event_loop.summary().expect("no failure of the source was planted");
        drop((self.poller, self.workers));
        assert_eq!(memory.used(), 0, "seed {}: bytes are held after the end", scenario.seed);
        (summary, store)
    }

    fn ask(&mut self) -> crate::core::statistics::Statistics {
        let (reply, answer) = bounded(1);
        self.control.send(Control::Statistics(reply)).unwrap();
        self.event_loop.turn();
        answer.recv().unwrap()
    }

    fn check(&mut self, scenario: &Scenario) {
        let seed = scenario.seed;
        let s = self.ask();
        let answered = s.records_written + s.dead_lettered + s.records_in_flight + s.records_released;
        assert_eq!(s.records_read, answered, "seed {seed}: conservation: {s:#?}");
        let store = self.store.lock();
        for (name, committed) in self.group_offsets.lock().iter() {
            let log = self.logs[name].iter().filter(|offset| *offset < committed);
            let mut rows: BTreeSet<i64> = store.rows.get(name).into_iter().flatten().copied().collect();
            rows.extend(self.letters.kept.lock().get(name).into_iter().flatten());
            let missing: Vec<_> = log.filter(|offset| !rows.contains(offset)).collect();
            assert!(missing.is_empty(), "seed {seed}: {name} committed at {committed} without {missing:?}");
        }
    }
}

#[test]
fn exactly_once_whatever_fails_and_whoever_takes_partitions_away() {
    for seed in 0..150 {
        let scenario =
            Scenario { transactional: true, faults_percent: seed % 40, partition_workers: 4, ..Scenario::plain(seed) };
        let sim = sim(&scenario);
        let (logs, end, offsets) = (sim.logs.clone(), sim.end, Arc::clone(&sim.group_offsets));
        let (summary, store) = sim.run(&scenario);
        let store = store.lock();
        for (name, log) in &logs {
            assert_eq!(store.rows.get(name).unwrap_or(&vec![]), log, "seed {seed}: {name}: rows in order, once each");
            assert_eq!(store.positions[name].0, end, "seed {seed}: {name}: the database's position");
            assert_eq!(offsets.lock().get(name), Some(&end), "seed {seed}: {name}: Kafka's position");
        }
        assert!(summary.stuck.is_empty() && !summary.abandoned, "seed {seed}: {summary:?}");
    }
}

#[test]
fn at_least_once_loses_nothing_and_keeps_order_per_key() {
    for seed in 0..100 {
        let scenario = Scenario { faults_percent: seed % 40, partition_workers: 3, ..Scenario::plain(seed) };
        let sim = sim(&scenario);
        let logs = sim.logs.clone();
        let (_, store) = sim.run(&scenario);
        for (name, log) in &logs {
            let rows: BTreeSet<i64> = store.lock().rows.get(name).into_iter().flatten().copied().collect();
            assert_eq!(rows, log.iter().copied().collect(), "seed {seed}: {name}");
        }
    }
}

#[test]
fn max_messages_is_exact() {
    for seed in 0..60 {
        let max = 1 + seed % 50;
        let scenario =
            Scenario { transactional: true, faults_percent: 10, max_messages: Some(max), ..Scenario::plain(seed) };
        let sim = sim(&scenario);
        let all: u64 = sim.logs.values().map(|log| log.len() as u64).sum();
        let (summary, store) = sim.run(&scenario);
        let rows: u64 = store.lock().rows.values().map(|rows| rows.len() as u64).sum();
        assert_eq!(rows, max.min(all), "seed {seed}");
        assert_eq!(summary.statistics.records_written, rows, "seed {seed}");
    }
}

/// Exactly the bad records become letters, each at least once; the others are rows, in order, once each.
#[test]
fn bad_records_are_put_aside_and_nothing_else_is() {
    for seed in 0..150 {
        let transactional = seed % 2 == 0;
        let (faults_percent, bad_every) = (seed % 20, 3 + (seed % 40) as i64);
        let scenario = Scenario { transactional, faults_percent, bad_every, ..Scenario::plain(seed) };
        let sim = sim(&scenario);
        let (logs, end, offsets) = (sim.logs.clone(), sim.end, Arc::clone(&sim.group_offsets));
        let letters = Arc::clone(&sim.letters);
        let (summary, store) = sim.run(&scenario);
        for (name, log) in &logs {
            let (bad, good): (Vec<i64>, Vec<i64>) = log.iter().partition(|offset| is_bad(bad_every, **offset));
            let mut rows = store.lock().rows.get(name).cloned().unwrap_or_default();
            let mut kept = letters.kept.lock().get(name).cloned().unwrap_or_default();
            kept.sort_unstable();
            kept.dedup();
            // A handler may be given again what it has seen.
            if !transactional {
                rows.sort_unstable();
                rows.dedup();
            }
            assert_eq!(rows, good, "seed {seed}: {name}: rows");
            assert_eq!(kept, bad, "seed {seed}: {name}: letters");
            assert_eq!(offsets.lock().get(name), Some(&end), "seed {seed}: {name}");
        }
        assert!(summary.stuck.is_empty(), "seed {seed}: {summary:?}");
    }
}

/// Letters whose first put takes the worker down.
struct Deadly(AtomicU64, SimLetters);

impl DeadLetters for Deadly {
    fn put(&self, letters: &[Letter<'_>]) -> Result<(), SinkError> {
        assert!(self.0.fetch_add(1, Ordering::Relaxed) > 0, "planted: the worker dies");
        self.1.put(letters)
    }
}

/// On real threads: a worker dies with a lane in its hands, another takes its place, and nothing is lost.
#[test]
fn a_worker_that_dies_is_replaced_and_counted() {
    let scenario = Scenario { transactional: true, bad_every: 50, ..Scenario::plain(4) };
    let mut config = config(&scenario, &mut Chance::seeded(4));
    let letters = Arc::new(Deadly(AtomicU64::new(0), SimLetters::default()));
    config.dead_letters.letters = Some(letters.clone());
    let name = TopicPartition::new("t", 0);
    let logs = BTreeMap::from([(name.clone(), (0..200).collect())]);
    let mut source = SimSource {
        chance: Chance::seeded(1),
        logs,
        end: 200,
        started: BTreeMap::new(),
        group_offsets: Arc::default(),
        away: BTreeSet::new(),
        pending: VecDeque::new(),
        rebalances_left: 0,
    };
    source.pending.push_back(SourceEvent::Assigned(vec![source.assignment(&name)]));
    source.pending.push_back(SourceEvent::Settled);
    let store: Arc<Mutex<Store>> = Arc::default();
    let chance = Arc::new(Mutex::new(Chance::seeded(2)));
    let (store_of_sink, bad_every) = (Arc::clone(&store), scenario.bad_every);
    let sink = SimSink { store: store_of_sink, chance, seed: 1, transactional: true, faults_percent: 0, bad_every };
    let clock = Arc::new(crate::door::SystemClock::start());
    let engine = Engine::start(config, Box::new(source), Arc::new(sink), clock, Callbacks::default());
    let summary = engine.join().expect("no failure of the source was planted");
    assert_eq!(summary.statistics.workers_replaced, 1);
    assert_eq!(letters.1.kept.lock()[&name], [49, 99, 149, 199]);
    assert_eq!(store.lock().rows[&name].len(), 196);
}
