//! Looks at a sink from outside: when it began, when it was done, what went in, how long each write took.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Sender, bounded};
use parking_lot::Mutex;

use super::usage::Usage;
use super::{Measurement, Phase};
use crate::core::histogram::Histogram;
use crate::core::record::TopicPartition;
use crate::core::tally::{self, PhaseTimes};
use crate::door;
use crate::port::{Claim, Claimed, Sink, SinkError, SinkTraits, Write, Writer, Written};

/// The notes of one run; clones note together.
#[derive(Clone)]
pub struct Times {
    notes: Arc<Mutex<Notes>>,
    begun: Sender<()>,
    before: Usage,
}

#[derive(Default)]
struct Notes {
    first: Option<Instant>,
    last: Option<Instant>,
    records: u64,
    bytes: u64,
    pieces: Vec<Duration>,
    /// What the sink says went into the pieces.
    parts: BTreeMap<&'static str, Vec<Duration>>,
}

impl Times {
    /// Nothing noted yet. The receiver gets a message when the first piece of work begins.
    pub fn new() -> (Self, Receiver<()>) {
        let (begun, first) = bounded(1);
        (Self { notes: Arc::default(), begun, before: Usage::now() }, first)
    }

    /// Does a piece of work, which says how many records and bytes it was.
    pub fn piece<T>(&self, work: impl FnOnce() -> (T, u64, u64)) -> T {
        let started = door::now();
        self.notes.lock().first.get_or_insert_with(|| {
            // Full: somebody began at the same moment. Disconnected: nobody wants to know.
            let _ = self.begun.try_send(());
            started
        });
        let (answer, records, bytes) = work();
        let now = door::now();
        let mut notes = self.notes.lock();
        notes.records += records;
        notes.bytes += bytes;
        notes.pieces.push(now - started);
        notes.last = Some(now);
        answer
    }

    /// Notes what a piece was made of.
    pub fn parts(&self, times: &PhaseTimes) {
        let mut notes = self.notes.lock();
        for part in tally::Phase::ALL {
            if let Some(time) = times.get(part) {
                notes.parts.entry(part.name()).or_default().push(time);
            }
        }
    }

    /// What belongs to the work ends now: a file is closed.
    pub fn closed(&self) {
        let mut notes = self.notes.lock();
        if notes.first.is_some() {
            notes.last = Some(door::now());
        }
    }

    /// What came of it; the pieces are called `phase`, beside their parts.
    pub fn measurement(&self, phase: &str) -> Measurement {
        let notes = self.notes.lock();
        let usage = Usage::now();
        let took = notes.first.zip(notes.last).map_or(Duration::ZERO, |(first, last)| last - first);
        Measurement {
            records: notes.records,
            bytes: notes.bytes,
            seconds: took.as_secs_f64(),
            cpu_seconds: usage.cpu_seconds_since(self.before),
            memory_bytes_max: usage.memory_bytes_max,
            phases: std::iter::once((phase, &notes.pieces))
                .chain(notes.parts.iter().map(|(name, times)| (*name, times)))
                .map(|(name, times)| (name.to_owned(), Phase::of(times.clone())))
                .collect(),
        }
    }
}

impl Phase {
    /// Nearest-rank percentiles.
    pub fn of(mut pieces: Vec<Duration>) -> Self {
        pieces.sort_unstable();
        let at = |percent: usize| {
            let rank = (pieces.len() * percent).div_ceil(100).max(1);
            pieces.get(rank - 1).map_or(0.0, |piece| piece.as_secs_f64() * 1e3)
        };
        Self { count: pieces.len() as u64, p50_ms: at(50), p90_ms: at(90), p99_ms: at(99), max_ms: at(100) }
    }

    /// Of times in microseconds, as the engine counts them.
    pub fn of_histogram(times: &Histogram) -> Self {
        let at = |part: f64| times.quantile(part) / 1e3;
        Self { count: times.count(), p50_ms: at(0.5), p90_ms: at(0.9), p99_ms: at(0.99), max_ms: at(1.0) }
    }
}

/// A sink whose writes are noted.
pub struct TimedSink {
    sink: Arc<dyn Sink>,
    times: Times,
}

impl TimedSink {
    /// Looks at `sink`.
    pub fn new(sink: Arc<dyn Sink>, times: Times) -> Self {
        Self { sink, times }
    }
}

impl Sink for TimedSink {
    fn traits(&self) -> SinkTraits {
        self.sink.traits()
    }

    fn writer(&self) -> Result<Box<dyn Writer>, SinkError> {
        Ok(Box::new(TimedWriter { writer: Some(self.sink.writer()?), times: self.times.clone() }))
    }
}

struct TimedWriter {
    /// `None` once closed.
    writer: Option<Box<dyn Writer>>,
    times: Times,
}

impl TimedWriter {
    fn inner(&mut self) -> &mut dyn Writer {
        &mut **self.writer.as_mut().expect("a writer is closed when it is dropped, not before")
    }
}

impl Writer for TimedWriter {
    fn claim(&mut self, claims: &[Claim]) -> Result<Vec<Claimed>, SinkError> {
        self.inner().claim(claims)
    }

    fn write(&mut self, writes: &[Write<'_>]) -> Vec<Result<Written, SinkError>> {
        let times = self.times.clone();
        times.piece(|| {
            let answers = self.inner().write(writes);
            let (mut records, mut bytes) = (0, 0);
            for (write, written) in
                writes.iter().zip(&answers).filter_map(|(write, answer)| Some((write, answer.as_ref().ok()?)))
            {
                records += written.records;
                bytes += write.batch.bytes() as u64;
            }
            (answers, records, bytes)
        })
    }

    fn note_pause(&mut self, partition: &TopicPartition, paused: bool) -> Result<(), SinkError> {
        self.inner().note_pause(partition, paused)
    }

    fn phases(&mut self) -> PhaseTimes {
        self.inner().phases()
    }

    fn broken(&self) -> bool {
        self.writer.as_ref().is_none_or(|writer| writer.broken())
    }
}

impl Drop for TimedWriter {
    fn drop(&mut self) {
        drop(self.writer.take());
        self.times.closed();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_what_was_measured() {
        let ms = |numbers: &[u64]| Phase::of(numbers.iter().map(|ms| Duration::from_millis(*ms)).collect());
        let hundred: Vec<u64> = (1..=100).rev().collect();
        let of_hundred = Phase { count: 100, p50_ms: 50.0, p90_ms: 90.0, p99_ms: 99.0, max_ms: 100.0 };
        assert_eq!(ms(&hundred), of_hundred);
        let of_one = Phase { count: 1, p50_ms: 7.0, p90_ms: 7.0, p99_ms: 7.0, max_ms: 7.0 };
        assert_eq!(ms(&[7]), of_one);
        assert_eq!(ms(&[]), Phase::default());
    }

    #[test]
    fn the_clock_begins_with_the_first_piece() {
        let (times, begun) = Times::new();
        times.closed();
        assert_eq!((times.measurement("write").seconds, begun.try_recv().is_ok()), (0.0, false));
        for _ in 0..3 {
            times.piece(|| ((), 10, 200));
        }
        let mut parts = PhaseTimes::default();
        parts.add(tally::Phase::Commit, Duration::from_millis(2));
        times.parts(&parts);
        let measured = times.measurement("write");
        assert_eq!((measured.records, measured.bytes, measured.phases["write"].count), (30, 600, 3));
        assert_eq!(measured.phases["commit"].p50_ms, 2.0);
        assert!(measured.seconds > 0.0 && begun.try_recv().is_ok() && begun.try_recv().is_err());
    }
}
