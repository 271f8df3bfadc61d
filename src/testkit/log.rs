//! A partition's log, and runs of it as a source hands them over.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

use crate::core::backoff::Chance;
use crate::core::record::{DecodeError, Decoder, Encoded, Extent, RecordBuffer, Skipped, Span};
use crate::port::MemoryBudget;

/// What stands at an offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    Record,
    /// A transaction marker.
    Control,
    /// A record of an aborted transaction.
    Aborted,
}

/// The offsets of a log at which anything stands; the others were compacted away.
#[derive(Clone, Debug)]
pub struct PartitionLog {
    /// Retention has removed everything below.
    pub start: i64,
    /// Nothing at or behind this can be seen yet.
    pub end: i64,
    contents: Vec<(i64, Content)>,
}

impl PartitionLog {
    /// A log of offsets up to `end`, with holes, markers and aborted records.
    pub fn drawn(chance: &mut Chance, end: i64) -> Self {
        let hole = 2 + chance.draw() % 8;
        let mut contents = Vec::new();
        for offset in 0..end {
            if !chance.draw().is_multiple_of(hole) {
                let content = match chance.draw() % 16 {
                    0 => Content::Control,
                    1 => Content::Aborted,
                    _ => Content::Record,
                };
                contents.push((offset, content));
            }
        }
        Self { start: 0, end, contents }
    }

    /// A log without holes.
    pub fn dense(end: i64) -> Self {
        Self { start: 0, end, contents: (0..end).map(|offset| (offset, Content::Record)).collect() }
    }

    /// The offsets of its records, those that cannot be seen yet too.
    pub fn records(&self) -> impl Iterator<Item = i64> + '_ {
        self.contents.iter().filter(|(_, content)| *content == Content::Record).map(|(offset, _)| *offset)
    }

    /// Up to `count` offsets from `first` on, and where the log goes on behind them. As brokers send whole batches, up
    /// to `before` that stand before `first` come along.
    pub(super) fn run(&self, first: i64, count: usize, before: usize) -> (Vec<(i64, Content)>, i64) {
        let at = self.contents.partition_point(|(offset, _)| *offset < first);
        let visible = self.contents.partition_point(|(offset, _)| *offset < self.end);
        let until = (at + count).min(visible);
        let next = if until < visible { self.contents[until - 1].0 + 1 } else { self.end };
        (self.contents[at.saturating_sub(before)..until].to_vec(), next)
    }
}

/// A record has its offset as value, and one of so many keys.
const KEYS: i64 = 5;

/// The key of the record at an offset; order is kept among records with the same.
pub(super) fn key_of(offset: i64) -> i64 {
    offset * 7 % KEYS
}

/// Bytes of a record, encoded and decoded.
pub(super) const RECORD_BYTES: usize = 16;

/// What is decoded at once.
const PIECE: usize = 3;

/// A fetched run. Dropping it gives back memory and credit.
pub(super) struct LogRun {
    pub contents: Vec<(i64, Content)>,
    /// The index of the piece that cannot be decoded.
    pub damaged: Option<usize>,
    pub credit: Arc<AtomicUsize>,
    pub memory: Arc<MemoryBudget>,
}

impl LogRun {
    /// Bytes of a run of so many offsets.
    pub fn bytes_of(offsets: usize) -> usize {
        (offsets * RECORD_BYTES).max(RECORD_BYTES)
    }
}

impl Drop for LogRun {
    fn drop(&mut self) {
        self.credit.fetch_sub(1, Ordering::Relaxed);
        self.memory.release(self.bytes());
    }
}

impl Encoded for LogRun {
    fn decoder(self: Arc<Self>, from: i64) -> Box<dyn Decoder> {
        Box::new(RunDecoder { run: self, from, at: 0 })
    }

    fn bytes(&self) -> usize {
        Self::bytes_of(self.contents.len())
    }
}

struct RunDecoder {
    run: Arc<LogRun>,
    from: i64,
    at: usize,
}

impl Decoder for RunDecoder {
    fn decode(&mut self, into: &mut RecordBuffer) -> Option<Result<Skipped, DecodeError>> {
        let piece = self.run.contents[self.at..].chunks(PIECE).next()?;
        if self.run.damaged == Some(self.at / PIECE) {
            let (base_offset, what) = (piece[0].0, "planted: damaged on the way".into());
            return Some(Err(DecodeError { base_offset, what, position: self.at }));
        }
        let parts = piece.iter().flat_map(|(offset, _)| [key_of(*offset), *offset]);
        let bytes = Bytes::from(parts.flat_map(i64::to_be_bytes).collect::<Vec<u8>>());
        into.push_inflated(bytes.clone());
        let mut skipped = Skipped::default();
        for (index, &(offset, content)) in piece.iter().enumerate().filter(|(_, (offset, _))| *offset >= self.from) {
            let part = |at: usize| Extent::of(&bytes, Some(&bytes[at..at + 8]));
            let (key, value) = (part(index * RECORD_BYTES), part(index * RECORD_BYTES + 8));
            match content {
                Content::Control => skipped.control += 1,
                Content::Aborted => skipped.aborted += 1,
                Content::Record => {
                    into.push(Span { offset, timestamp_ms: 0, key, value, headers: Extent::ABSENT, header_count: 0 })
                }
            }
        }
        self.at += piece.len();
        Some(Ok(skipped))
    }

    fn bytes_left(&self) -> usize {
        LogRun::bytes_of(self.run.contents.len() - self.at)
    }
}
