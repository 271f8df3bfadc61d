//! A worker: takes ready lanes, decodes, cuts a batch of each, writes them, and reports.
//!
//! Every job gets exactly one outcome, also when a sink or a handler panics (caught around the call) or the worker
//! itself does (its guard reports on drop). Retries are not made here: a failed lane goes back to the loop, which puts
//! it aside with a deadline, so waiting never holds a worker.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use crossbeam::channel::Receiver;
use rayon::prelude::*;

use super::channels::{Job, Outcome, Outcomes};
use super::lane::{Filled, Lane};
use crate::core::assignment::Claim;
use crate::core::batcher::Amount;
use crate::core::coordinator::LaneReport;
use crate::core::partition::LaneId;
use crate::core::verdict::{ErrorClass, Failure};
use crate::port::{Clock, Sink, SinkError, Write, Writer, Written};

/// From so many lanes with something to decode on, decoding is spread over rayon's threads; below, handing it over costs
/// more than it saves (`benches/engine.rs`).
const PARALLEL_LANES_MIN: usize = 4;

/// See the module.
pub(super) struct Worker {
    pub sink: Arc<dyn Sink>,
    pub jobs: Receiver<Job>,
    pub outcomes: Outcomes,
    pub clock: Arc<dyn Clock>,
    pub batches_per_write: usize,
    pub batch_bytes_max: usize,
    writer: Option<Box<dyn Writer>>,
    /// A job taken from the queue while looking for company for another.
    next: Option<Job>,
}

/// One lane while a worker holds it.
struct Held {
    lane: Box<Lane>,
    rows_max: usize,
    filled: Filled,
    /// Records in the batch.
    count: usize,
    result: Result<Written, Failure>,
    ruined: bool,
    bytes: u64,
}

impl Worker {
    pub fn new(
        sink: Arc<dyn Sink>,
        jobs: Receiver<Job>,
        outcomes: Outcomes,
        clock: Arc<dyn Clock>,
        batch_bytes_max: usize,
    ) -> Self {
        let batches_per_write = sink.traits().batches_per_write.max(1);
        Self { sink, jobs, outcomes, clock, batches_per_write, batch_bytes_max, writer: None, next: None }
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

    /// Does one job, if one is ready. Never waits for one: this is how a simulation runs a worker.
    #[cfg(test)]
    pub fn turn(&mut self) -> bool {
        match self.next.take().or_else(|| self.jobs.try_recv().ok()) {
            Some(job) => {
                self.work(job);
                true
            }
            None => false,
        }
    }

    fn work(&mut self, job: Job) {
        match job {
            Job::Write { lane, rows_max } => {
                let held = self.gather(lane, rows_max);
                self.write(held);
            }
            Job::Claim { runs, claims } => self.claim(runs, &claims),
        }
    }

    /// The lane, and others that are ready now, as far as the sink likes to write them together.
    fn gather(&mut self, lane: Box<Lane>, rows_max: usize) -> Vec<Held> {
        let mut held = vec![Held::new(lane, rows_max)];
        while held.len() < self.batches_per_write && self.next.is_none() {
            match self.jobs.try_recv() {
                Ok(Job::Write { lane, rows_max }) => held.push(Held::new(lane, rows_max)),
                Ok(claim) => self.next = Some(claim),
                Err(_) => break,
            }
        }
        held
    }

    fn write(&mut self, held: Vec<Held>) {
        let mut guard = Guard { held, outcomes: &self.outcomes };
        let started = self.clock.elapsed();
        decode(&mut guard.held, self.batch_bytes_max);
        let results = Self::write_all(&mut self.writer, &*self.sink, &guard.held);
        for (held, result) in guard.held.iter_mut().filter(|held| held.to_write()).zip(results) {
            held.result = result;
        }
        let took = self.clock.elapsed().saturating_sub(started);
        for held in std::mem::take(&mut guard.held) {
            self.outcomes.put(held.report(took));
        }
    }

    fn write_all(slot: &mut Option<Box<dyn Writer>>, sink: &dyn Sink, held: &[Held]) -> Vec<Result<Written, Failure>> {
        let writes: Vec<Write<'_>> =
            held.iter().filter(|held| held.to_write()).map(|held| held.lane.write(held.count)).collect();
        if writes.is_empty() {
            return Vec::new();
        }
        let outcome = with_writer(slot, sink, |writer| Ok(writer.write(&writes)));
        let mut results = match outcome {
            Ok(results) => results.into_iter().map(|result| result.map_err(Failure::from)).collect(),
            Err(failure) => vec![Err(failure); writes.len()],
        };
        // A sink that answers too little has not said that the rest is written.
        let silent = || {
            Err(Failure { class: ErrorClass::Unclassified, message: "the sink gave no answer".into(), offset: None })
        };
        results.resize_with(writes.len(), silent);
        results
    }

    fn claim(&mut self, runs: Vec<u64>, claims: &[Claim]) {
        let mut guard = ClaimGuard { runs, outcomes: &self.outcomes };
        let result = with_writer(&mut self.writer, &*self.sink, |writer| writer.claim(claims));
        let runs = std::mem::take(&mut guard.runs);
        self.outcomes.put(Outcome::Claimed { runs, result });
    }
}

/// Decodes what the lanes need for their batches and cuts these.
fn decode(held: &mut [Held], bytes_max: usize) {
    if held.iter().filter(|held| held.lane.has_encoded()).count() >= PARALLEL_LANES_MIN {
        held.par_iter_mut().for_each(|held| held.fill(bytes_max));
    } else {
        held.iter_mut().for_each(|held| held.fill(bytes_max));
    }
}

/// Runs `call` on the worker's writer, opening one if there is none. A writer that panicked or says it is broken is
/// given up; the next job opens another.
fn with_writer<T>(
    slot: &mut Option<Box<dyn Writer>>,
    sink: &dyn Sink,
    call: impl FnOnce(&mut dyn Writer) -> Result<T, SinkError>,
) -> Result<T, Failure> {
    let mut writer = match slot.take() {
        Some(writer) => writer,
        None => guarded(|| sink.writer())?,
    };
    // On a panic the writer is not put back: whatever state it was in is gone with it.
    let result = guarded(|| call(&mut *writer));
    let panicked = matches!(&result, Err(failure) if failure.message.starts_with(PANICKED));
    if panicked || writer.broken() {
        // Dropping a connection may panic as well; that must not take the worker along.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(writer)));
    } else {
        *slot = Some(writer);
    }
    result
}

const PANICKED: &str = "panicked: ";

fn guarded<T>(call: impl FnOnce() -> Result<T, SinkError>) -> Result<T, Failure> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(result) => result.map_err(Failure::from),
        Err(panic) => Err(Failure {
            class: ErrorClass::Unclassified,
            message: format!("{PANICKED}{}", panic_text(&*panic)),
            offset: None,
        }),
    }
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
    fn new(lane: Box<Lane>, rows_max: usize) -> Self {
        let (filled, result) = (Filled::default(), Ok(Written::default()));
        Self { lane, rows_max, filled, count: 0, result, ruined: false, bytes: 0 }
    }

    fn fill(&mut self, bytes_max: usize) {
        match catch_unwind(AssertUnwindSafe(|| self.lane.fill(self.rows_max, bytes_max, &mut self.filled))) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => self.ruin(ErrorClass::Data, error.to_string()),
            Err(panic) => self.ruin(ErrorClass::Unclassified, format!("decoding {PANICKED}{}", panic_text(&*panic))),
        }
        self.count = self.lane.cut(self.rows_max, bytes_max);
        let whole = self.count == self.lane.waiting_records();
        self.bytes = if whole { self.lane.waiting_bytes() } else { self.lane.write(self.count).batch.bytes() } as u64;
    }

    fn ruin(&mut self, class: ErrorClass, message: String) {
        self.ruined = true;
        let message = format!("{}: {message}", self.lane.partition);
        self.result = Err(Failure { class, message, offset: None });
    }

    fn to_write(&self) -> bool {
        !self.ruined && self.lane.moves(self.count)
    }

    fn report(mut self, took: Duration) -> Outcome {
        let (count, attempted) = (self.count, if self.ruined { 0 } else { self.count as u64 });
        let (written, failure) = match self.result {
            Ok(written) => {
                self.lane.wrote(count);
                (written, None)
            }
            Err(failure) => (Written::default(), Some(failure)),
        };
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
            written: if failure.is_none() { count as u64 } else { 0 },
            repeated: written.repeated,
            written_bytes: if failure.is_none() { self.bytes } else { 0 },
            took,
            failure,
            ruined: self.ruined,
        };
        Outcome::Worked { lane: Some(self.lane), report }
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
            let report = lost_lane(held.lane.id, held.lane.through(), &held.filled, held.lane.waiting_records());
            self.outcomes.put(Outcome::Worked { lane: None, report });
        }
    }
}

fn lost_lane(lane: LaneId, through: i64, filled: &Filled, waiting_records: usize) -> LaneReport {
    LaneReport {
        lane,
        through,
        chunks: filled.chunks,
        decoded: filled.decoded,
        skipped: filled.skipped,
        waiting_records,
        waiting_bytes: 0,
        open: Amount::default(),
        owes_position: false,
        attempted: 0,
        written: 0,
        repeated: 0,
        written_bytes: 0,
        took: Duration::ZERO,
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
