//! On real threads: a worker dies with a lane in its hands, another takes its place, and nothing is lost; the thread that
//! reads dies, and the run ends.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use konekt::TopicPartition;
use konekt::core::verdict::ErrorClass;
use konekt::door::{SystemClock, spawn};
use konekt::engine::{Callbacks, DeadLetterPlaces, Engine};
use konekt::port::{DeadLetters, Letter, MemoryBudget, SinkError, Source, SourceError, SourceEvent, Waker};
use konekt::sink::handler::HandlerSink;
use konekt::testkit::{
    Cluster, Database, DatabaseSink, Entry, Faults, Journal, LetterBox, Manner, MemberSource, PartitionLog,
    VirtualClock,
};

use crate::scenario::Scenario;

/// Letters whose first put takes the worker down.
struct Deadly(AtomicBool, LetterBox);

impl DeadLetters for Deadly {
    fn put(&self, letters: &[Letter<'_>]) -> Result<(), SinkError> {
        assert!(self.0.swap(true, Ordering::Relaxed), "planted: the worker dies");
        self.1.put(letters)
    }
}

#[test]
fn a_worker_that_dies_is_replaced_and_counted() {
    let scenario = Scenario { until_end: true, max_messages: None, exactly_once: true, ..Scenario::drawn(1) };
    let name = TopicPartition::new("t", 0);
    let faults = Faults::new(4, 0, Vec::new()).with_bad_records(20);
    let journal = Journal::default();
    let logs = BTreeMap::from([(name.clone(), PartitionLog::dense(200))]);
    let cluster = Cluster::new(logs, faults.clone(), journal.clone());
    let memory = MemoryBudget::new(1 << 20);
    let source = MemberSource::join(1, &cluster, &faults, Arc::clone(&memory));
    let manner =
        Manner { transactional: true, batches_per_write: 1, bisects: false, bad: ErrorClass::Data, slow_ms: 0 };
    let (database, clock, highest) = (Database::default(), VirtualClock::default(), source.highest());
    let sink =
        DatabaseSink { process: 1, database, manner, faults: faults.clone(), journal: journal.clone(), clock, highest };
    let letters = LetterBox { process: 1, journal: journal.clone(), faults: faults.clone() };
    let places = DeadLetterPlaces { rows: false, letters: Some(Arc::new(Deadly(AtomicBool::new(false), letters))) };
    let config = scenario.engine(places, memory);
    let clock = Arc::new(SystemClock::start());
    let engine = Engine::start(config, Box::new(source), Arc::new(sink), clock, Callbacks::default());
    let summary = engine.join().expect("no failure of the source was planted");

    assert_eq!(summary.statistics.workers_replaced, 1);
    let (mut rows, mut put_aside) = (Vec::new(), BTreeSet::new());
    for entry in journal.read() {
        match entry {
            Entry::Committed { rows: more, .. } => rows.extend(more),
            Entry::Letter { offset, .. } => drop(put_aside.insert(offset)),
            _ => {}
        }
    }
    let (bad, good): (Vec<i64>, Vec<i64>) = (0..200).partition(|offset| faults.is_bad(&name, *offset));
    assert!(!bad.is_empty(), "there are bad records");
    assert_eq!((rows, put_aside), (good, bad.into_iter().collect()));
}

/// A source that takes its thread down.
struct DeadlySource;

impl Source for DeadlySource {
    fn poll(&mut self, _wait: Duration, _events: &mut Vec<SourceEvent>) {
        panic!("planted: the thread that reads dies");
    }

    fn start(&mut self, _partition: &TopicPartition, _run: u64, _offset: i64) {}

    fn stop(&mut self, _partitions: &[TopicPartition]) {}

    fn commit(&mut self, _positions: Vec<(TopicPartition, i64)>) {}

    fn survey(&mut self) {}

    fn release(&mut self, _partitions: Vec<TopicPartition>, _positions: Vec<(TopicPartition, i64)>) {}

    fn close(&mut self, _positions: Vec<(TopicPartition, i64)>, _deadline: Duration) -> Result<(), SourceError> {
        Ok(())
    }

    fn waker(&self) -> Waker {
        Arc::new(|| {})
    }
}

#[test]
fn a_run_ends_when_the_thread_that_reads_dies() {
    let scenario = Scenario { until_end: false, max_messages: None, exactly_once: false, ..Scenario::drawn(1) };
    let config = scenario.engine(DeadLetterPlaces::default(), MemoryBudget::new(1 << 20));
    let (sink, clock) = (Arc::new(HandlerSink::new(|_| Ok(()))), Arc::new(SystemClock::start()));
    let engine = Engine::start(config, Box::new(DeadlySource), sink, clock, Callbacks::default());
    let (ended, end) = mpsc::channel();
    let waiting = spawn("waiting", move || {
        let _ = ended.send(engine.join().map(drop).map_err(|error| error.message));
    });
    let result = end.recv_timeout(Duration::from_secs(5)).expect("a run without its source is no run");
    let error = result.expect_err("it failed");
    assert!(error.contains("konekt-poll"), "{error}");
    waiting.join().unwrap();
}
