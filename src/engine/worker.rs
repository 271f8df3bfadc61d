//! A worker: takes ready lanes, decodes, cuts a batch of each, writes them, and reports.
//!
//! Every job gets exactly one outcome, also when a sink or a handler panics (caught around the call) or the worker itself
//! does (its guard reports on drop). A batch that failed for a bad record is taken apart (`isolate.rs`). Retries are not
//! made here: a failed lane goes back to the loop, which puts it aside with a deadline, so waiting never holds a worker.

use std::any::Any;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use crossbeam::channel::Receiver;
use rayon::prelude::*;

use super::DeadLetterPlaces;
use super::channels::{Job, Outcome, Outcomes};
use super::lane::{Filled, Lane};
use super::watch::{Desk, Doing};
use crate::core::assignment::Claim;
use crate::core::batcher::Amount;
use crate::core::coordinator::{LaneReport, Orders, Told};
use crate::core::record::TopicPartition;
use crate::core::tally::{Phase, PhaseTimes};
use crate::core::verdict::{ErrorClass, Failure};
use crate::port::{Aside, Clock, PutAsideListener, Sink, SinkError, Write, Writer, Written};

/// From so many lanes with something to decode on, decoding is spread over rayon's threads; below, handing it over costs
/// more than it saves (`benches/engine.rs`).
const PARALLEL_LANES_MIN: usize = 4;

/// See the module.
pub(super) struct Worker {
    pub way: Way,
    pub places: DeadLetterPlaces,
    pub jobs: Receiver<Job>,
    pub outcomes: Outcomes,
    pub clock: Arc<dyn Clock>,
    pub desk: Desk,
    pub batches_per_write: usize,
    pub batch_bytes_max: usize,
    /// A job taken from the queue while looking for company for another.
    next: Option<Job>,
}

/// What a worker is given to work with.
#[derive(Clone)]
pub(super) struct Outfit {
    pub sink: Arc<dyn Sink>,
    pub places: DeadLetterPlaces,
    pub clock: Arc<dyn Clock>,
    pub desk: Desk,
    pub batch_bytes_max: usize,
}

/// A worker's way into the sink: a writer, opened when it is needed.
pub(super) struct Way {
    pub sink: Arc<dyn Sink>,
    writer: Option<Box<dyn Writer>>,
}

/// One lane while a worker holds it.
pub(super) struct Held {
    pub lane: Box<Lane>,
    pub orders: Orders,
    filled: Filled,
    /// Records in the batch.
    pub count: usize,
    /// What was written so far.
    pub written: Written,
    pub written_bytes: u64,
    pub failure: Option<SinkError>,
    ruined: bool,
    /// Some of the records that were put aside, and why.
    letters: RefCell<Vec<(i64, String)>>,
}

/// So many of a batch's dead letters are reported one by one.
const LETTERS_REPORTED: usize = 5;

impl Worker {
    pub fn new(outfit: Outfit, jobs: Receiver<Job>, outcomes: Outcomes) -> Self {
        let Outfit { sink, places, clock, desk, batch_bytes_max } = outfit;
        let batches_per_write = sink.traits().batches_per_write.max(1);
        let way = Way { sink, writer: None };
        Self { way, places, jobs, outcomes, clock, desk, batches_per_write, batch_bytes_max, next: None }
    }

    /// Works until the ready queue is closed. When the loop has ended before its time, what is still in the queue is
    /// not begun.
    pub fn run(mut self) {
        while let Some(job) = self.next.take().or_else(|| self.jobs.recv().ok()) {
            if self.outcomes.closed() {
                return;
            }
            self.work(job);
        }
    }

    /// Takes a job into its hands, if one is ready, and answers whether it holds one. Never waits for one: so a
    /// simulation lets time pass between taking and doing.
    #[cfg(feature = "testkit")]
    pub fn take(&mut self) -> bool {
        self.next = self.next.take().or_else(|| self.jobs.try_recv().ok());
        self.next.is_some()
    }

    /// Whether it holds a job it has not begun.
    #[cfg(feature = "testkit")]
    pub fn holds(&self) -> bool {
        self.next.is_some()
    }

    /// Does the job it took.
    #[cfg(feature = "testkit")]
    pub fn turn(&mut self) -> bool {
        self.next.take().map(|job| self.work(job)).is_some()
    }

    fn work(&mut self, job: Job) {
        match job {
            Job::Write { lane, orders } => {
                let held = self.gather(lane, orders);
                self.write(held);
            }
            Job::Claim { runs, claims } => self.claim(runs, &claims),
            Job::NotePause { partition, paused } => self.note_pause(partition, paused),
        }
    }

    /// The lane, and others that are ready now, as far as the sink likes to write them together.
    fn gather(&mut self, lane: Box<Lane>, orders: Orders) -> Vec<Held> {
        let mut held = vec![Held::new(lane, orders)];
        while held.len() < self.batches_per_write && self.next.is_none() {
            match self.jobs.try_recv() {
                Ok(Job::Write { lane, orders }) => held.push(Held::new(lane, orders)),
                Ok(other) => self.next = Some(other),
                Err(_) => break,
            }
        }
        held
    }

    fn write(&mut self, held: Vec<Held>) {
        let mut guard = Guard { held, outcomes: &self.outcomes };
        // What a claim took is not this write's.
        self.way.phases(Duration::ZERO);
        let started = self.clock.elapsed();
        decode(&mut guard.held, self.batch_bytes_max);
        let decoded = self.clock.elapsed();
        let parts = guard.held.iter().map(|held| (held.lane.partition.clone(), held.offsets())).collect();
        let at_work = self.desk.busy_with(Doing { call: "writing", parts, since: started });
        let mut results = write_all(&mut self.way, &self.places, &guard.held).into_iter();
        for held in guard.held.iter_mut().filter(|held| !held.ruined) {
            // What changes nothing in the sink was not written, and is done.
            let result = if held.to_write() { results.next() } else { None };
            held.answered(held.count, result.unwrap_or(Ok(Written::default())));
        }
        // All answers are noted by now, whatever happens in this.
        for held in guard.held.iter_mut().filter(|held| !held.ruined && held.failed_for_a_bad_record()) {
            held.isolate(&mut self.way, &self.places);
        }
        drop(at_work);
        let ended = self.clock.elapsed();
        let mut phases = self.way.phases(ended.saturating_sub(decoded));
        phases.add(Phase::Decode, decoded.saturating_sub(started));
        for held in std::mem::take(&mut guard.held) {
            self.outcomes.put(held.report(started, ended.saturating_sub(started), phases));
        }
    }

    fn claim(&mut self, runs: Vec<u64>, claims: &[Claim]) {
        let mut guard = ClaimGuard { runs, outcomes: &self.outcomes };
        let parts = claims.iter().map(|claim| (claim.partition.clone(), None)).collect();
        let at_work = self.desk.busy_with(Doing { call: "claiming", parts, since: self.clock.elapsed() });
        let result = self.way.with_writer(|writer| writer.claim(claims)).map_err(Failure::from);
        drop(at_work);
        let runs = std::mem::take(&mut guard.runs);
        self.outcomes.put(Outcome::Claimed { runs, result });
    }

    fn note_pause(&mut self, partition: TopicPartition, paused: bool) {
        let result = self.way.with_writer(|writer| writer.note_pause(&partition, paused)).map_err(Failure::from);
        self.outcomes.put(Outcome::PauseNoted { partition, paused, result });
    }
}

/// Writes all batches in one call.
fn write_all(way: &mut Way, places: &DeadLetterPlaces, held: &[Held]) -> Vec<Result<Written, SinkError>> {
    let to_write = held.iter().filter(|held| held.to_write());
    let writes: Vec<Write<'_>> =
        to_write.map(|held| Write { aside: held.aside(places), ..held.lane.write(held.count) }).collect();
    if writes.is_empty() {
        return Vec::new();
    }
    let mut results = match way.with_writer(|writer| Ok(writer.write(&writes))) {
        Ok(results) => results,
        Err(error) => vec![Err(error); writes.len()],
    };
    // A sink that answers too little has not said that the rest is written.
    results.resize_with(writes.len(), || Err(SinkError::new(ErrorClass::Unclassified, "the sink gave no answer")));
    results
}

/// Decodes what the lanes need for their batches and cuts these.
fn decode(held: &mut [Held], bytes_max: usize) {
    if held.iter().filter(|held| held.lane.has_encoded()).count() >= PARALLEL_LANES_MIN {
        held.par_iter_mut().for_each(|held| held.fill(bytes_max));
    } else {
        held.iter_mut().for_each(|held| held.fill(bytes_max));
    }
}

impl Way {
    /// Runs `call` on the writer, opening one if there is none. A writer that panicked or says it is broken is given up;
    /// the next call opens another.
    pub fn with_writer<T>(
        &mut self,
        call: impl FnOnce(&mut dyn Writer) -> Result<T, SinkError>,
    ) -> Result<T, SinkError> {
        let mut writer = match self.writer.take() {
            Some(writer) => writer,
            None => guarded(|| self.sink.writer()).map_err(blameless)?,
        };
        // On a panic the writer is not put back: whatever state it was in is gone with it.
        let result = guarded(|| call(&mut *writer));
        let panicked = matches!(&result, Err(error) if error.message.starts_with(PANICKED));
        if panicked || writer.broken() {
            // Dropping a connection may panic as well; that must not take the worker along.
            let _ = catch_unwind(AssertUnwindSafe(|| drop(writer)));
        } else {
            self.writer = Some(writer);
        }
        result
    }

    /// What the writes since the last call took, by the writer's own account; all of it is executing where it keeps none.
    fn phases(&mut self, wrote: Duration) -> PhaseTimes {
        let mut phases = self.writer.as_mut().map_or(PhaseTimes::default(), |writer| writer.phases());
        if phases == PhaseTimes::default() {
            phases.add(Phase::Execute, wrote);
        }
        phases
    }

    /// Makes one write.
    pub fn write(&mut self, write: Write<'_>) -> Result<Written, SinkError> {
        let answer = self.with_writer(|writer| writer.write(&[write]).pop().transpose())?;
        answer.ok_or_else(|| SinkError::new(ErrorClass::Unclassified, "the sink gave no answer"))
    }
}

/// A sink that cannot be opened says nothing about the records that wait for it.
fn blameless(error: SinkError) -> SinkError {
    let class = match error.class {
        ErrorClass::Data => ErrorClass::Schema,
        ErrorClass::Unclassified => ErrorClass::Transient,
        class => class,
    };
    SinkError { class, ..error }
}

const PANICKED: &str = "panicked: ";

fn guarded<T>(call: impl FnOnce() -> Result<T, SinkError>) -> Result<T, SinkError> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|panic| {
        Err(SinkError::new(ErrorClass::Unclassified, format!("{PANICKED}{}", panic_text(&*panic))))
    })
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

impl From<SinkError> for Failure {
    fn from(error: SinkError) -> Self {
        Failure { class: error.class, message: error.message, offset: error.offset }
    }
}

impl Held {
    fn new(lane: Box<Lane>, orders: Orders) -> Self {
        let (filled, written) = (Filled::default(), Written::default());
        let letters = RefCell::default();
        Self { lane, orders, filled, count: 0, written, written_bytes: 0, failure: None, ruined: false, letters }
    }

    fn fill(&mut self, bytes_max: usize) {
        let rows_max = self.orders.rows_max;
        match catch_unwind(AssertUnwindSafe(|| self.lane.fill(rows_max, bytes_max, &mut self.filled))) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => self.ruin(ErrorClass::Data, error.to_string()),
            Err(panic) => self.ruin(ErrorClass::Unclassified, format!("decoding {PANICKED}{}", panic_text(&*panic))),
        }
        self.count = self.lane.cut(rows_max, bytes_max);
    }

    fn ruin(&mut self, class: ErrorClass, message: String) {
        self.ruined = true;
        self.failure = Some(SinkError::new(class, format!("{}: {message}", self.lane.partition)));
    }

    /// The first and last offset of the batch.
    fn offsets(&self) -> Option<(i64, i64)> {
        let batch = self.lane.write(self.count).batch;
        (!batch.is_empty()).then(|| (batch.get(0).offset, batch.get(batch.len() - 1).offset))
    }

    fn to_write(&self) -> bool {
        !self.ruined && self.lane.moves(self.count)
    }

    /// Where this batch's bad records may go.
    pub fn aside<'a>(&'a self, places: &'a DeadLetterPlaces) -> Option<Aside<'a>> {
        (places.rows || places.letters.is_some()).then(|| Aside {
            rows: places.rows,
            letters: places.letters.as_deref(),
            bad_max: self.orders.bad_max(self.count),
            unclassified: self.orders.unclassified,
            attempts: self.orders.attempt,
            told: Some(self),
        })
    }

    /// Whether an error is that of a record and not of everything.
    pub fn blames_a_record(&self, error: &SinkError) -> bool {
        let suspect = self.orders.unclassified && error.class == ErrorClass::Unclassified;
        error.class == ErrorClass::Data || suspect
    }

    fn failed_for_a_bad_record(&self) -> bool {
        self.count > 0 && self.failure.as_ref().is_some_and(|error| self.blames_a_record(error))
    }

    /// The sink's answer to the first `count` records.
    pub fn answered(&mut self, count: usize, result: Result<Written, SinkError>) {
        match result {
            Ok(Written { records, repeated, dead_lettered }) => {
                let whole = count == self.lane.waiting_records();
                let bytes = if whole { self.lane.waiting_bytes() } else { self.lane.write(count).batch.bytes() };
                self.written_bytes += bytes as u64;
                self.written.records += records;
                self.written.repeated += repeated;
                self.written.dead_lettered += dead_lettered;
                self.lane.wrote(count);
            }
            Err(error) => {
                self.lane.failed(count);
                self.failure = Some(error);
            }
        }
    }

    fn report(self, started: Duration, took: Duration, mut phases: PhaseTimes) -> Outcome {
        let attempted = if self.ruined { 0 } else { self.count as u64 };
        if let Some(since) = self.orders.waiting_since {
            phases.add(Phase::Queue, started.saturating_sub(since));
        }
        let report = LaneReport {
            lane: self.lane.id,
            through: self.lane.through(),
            chunks: self.filled.chunks,
            decoded: self.filled.decoded,
            skipped: self.filled.skipped,
            waiting_records: self.lane.waiting_records(),
            waiting_bytes: self.lane.waiting_bytes(),
            open: self.lane.open(),
            owes_position: self.lane.owes_position(),
            attempted,
            written: self.written.records,
            repeated: self.written.repeated,
            dead_lettered: self.written.dead_lettered,
            written_bytes: self.written_bytes,
            took,
            told: Box::new(Told {
                phases,
                inflated_bytes: self.lane.inflated_bytes(),
                written_unix_ms: self.lane.written_unix_ms,
                waiting_unix_ms: self.lane.waiting_unix_ms(),
                letters: self.letters.into_inner(),
            }),
            failure: self.failure.map(Failure::from),
            ruined: self.ruined,
        };
        Outcome::Worked { lane: Some(self.lane), report }
    }
}

impl PutAsideListener for Held {
    fn put_aside(&self, offset: i64, error: &SinkError) {
        let mut letters = self.letters.borrow_mut();
        if letters.len() < LETTERS_REPORTED {
            letters.push((offset, error.message.clone()));
        }
    }
}

/// Reports the lanes that a dying worker still holds; their chunks are lost with it, so the lanes are ruined.
struct Guard<'a> {
    held: Vec<Held>,
    outcomes: &'a Outcomes,
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        for held in std::mem::take(&mut self.held) {
            self.outcomes.put(Outcome::Worked { lane: None, report: lost_lane(&held) });
        }
    }
}

/// What was written of it before the worker died counts.
fn lost_lane(held: &Held) -> LaneReport {
    let Held { lane, filled, written, written_bytes, .. } = held;
    LaneReport {
        lane: lane.id,
        through: lane.through(),
        chunks: filled.chunks,
        decoded: filled.decoded,
        skipped: filled.skipped,
        waiting_records: lane.waiting_records(),
        waiting_bytes: 0,
        open: Amount::default(),
        owes_position: false,
        attempted: 0,
        written: written.records,
        repeated: written.repeated,
        dead_lettered: written.dead_lettered,
        written_bytes: *written_bytes,
        took: Duration::ZERO,
        told: Box::default(),
        failure: Some(worker_died()),
        ruined: true,
    }
}

/// The same for a claim.
struct ClaimGuard<'a> {
    runs: Vec<u64>,
    outcomes: &'a Outcomes,
}

impl Drop for ClaimGuard<'_> {
    fn drop(&mut self) {
        let runs = std::mem::take(&mut self.runs);
        if !runs.is_empty() {
            self.outcomes.put(Outcome::Claimed { runs, result: Err(worker_died()) });
        }
    }
}

fn worker_died() -> Failure {
    Failure { class: ErrorClass::Unclassified, message: "the worker died".into(), offset: None }
}
