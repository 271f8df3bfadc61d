//! Consecutive records of one partition on their way: open, then compressed, perhaps sent more than once, perhaps halved.

use std::time::Instant;

use bytes::Bytes;

use super::{Delivery, NewRecord, ProducerOptions};
use crate::core::record::TopicPartition;
use crate::kafka::error::Error;
use crate::kafka::wire::builder::{ClosedBatch, RecordBatchBuilder, Stamp};

/// What a record takes beside its key, value and headers: lengths, deltas and attributes.
const RECORD_OVERHEAD_BYTES: usize = 24;

/// Consecutive records of one partition.
pub(super) struct Batch {
    content: Content,
    tags: Vec<u64>,
    pub(super) record_count: usize,
    /// Before compression; what it counts for in `buffered_bytes`.
    pub(super) bytes: usize,
    pub(super) opened_at: Instant,
    pub(super) attempts: u32,
    pub(super) stamp: Option<Stamp>,
    /// An attempt ended without an answer.
    pub(super) may_be_written: bool,
    pub(super) last_error: Option<Error>,
}

enum Content {
    /// Takes further records, as long as it stands in its queue.
    Open(RecordBatchBuilder),
    Closed(ClosedBatch),
}

impl Batch {
    pub(super) fn new(now: Instant) -> Batch {
        Batch {
            content: Content::Open(RecordBatchBuilder::default()),
            tags: Vec::new(),
            record_count: 0,
            bytes: 0,
            opened_at: now,
            attempts: 0,
            stamp: None,
            may_be_written: false,
            last_error: None,
        }
    }

    pub(super) fn is_open(&self) -> bool {
        matches!(self.content, Content::Open(_))
    }

    /// Adds a record that counts for `bytes`; does nothing to a closed batch.
    pub(super) fn append(&mut self, record: &NewRecord<'_>, bytes: usize, timestamp_ms: i64, keeps_tag: bool) {
        let Content::Open(builder) = &mut self.content else { return };
        builder.append(record.key, record.value, record.headers, timestamp_ms);
        self.record_count += 1;
        self.bytes += bytes;
        if keeps_tag {
            self.tags.push(record.tag);
        }
    }

    /// Fixes the records and compresses them; does nothing when that is done already.
    pub(super) fn close(&mut self, options: &ProducerOptions) -> Result<(), Error> {
        let Content::Open(builder) = &mut self.content else { return Ok(()) };
        let codec = options.compression;
        let closed = builder.close(codec).map_err(|error| Error::Invalid(format!("{codec} failed: {error}")))?;
        self.content = Content::Closed(closed);
        Ok(())
    }

    /// Its bytes for a request; empty while it is open.
    pub(super) fn encode(&self) -> Bytes {
        match (&self.content, self.stamp) {
            (Content::Closed(closed), Some(stamp)) => closed.encode(stamp),
            _ => Bytes::new(),
        }
    }

    pub(super) fn end(self, partition: TopicPartition, result: Result<Option<i64>, Error>) -> Delivery {
        let Batch { tags, record_count, bytes, .. } = self;
        Delivery { partition, tags, record_count, result, bytes }
    }

    /// Two batches of half the records each, which leave this one empty; `None` when its records cannot be read again.
    pub(super) fn split(&mut self) -> Option<[Batch; 2]> {
        let Content::Closed(closed) = &self.content else { return None };
        let first_count = self.record_count / 2;
        let [first, second] = closed.split_at(first_count).ok()?;
        let second_tags = self.tags.split_off(first_count.min(self.tags.len()));
        let first_tags = std::mem::take(&mut self.tags);
        let first_bytes = first.bytes().min(self.bytes);
        let second_bytes = self.bytes - first_bytes;
        let half = |builder: RecordBatchBuilder, tags, bytes| {
            let record_count = builder.len();
            Batch { content: Content::Open(builder), tags, record_count, bytes, ..Batch::new(self.opened_at) }
        };
        Some([half(first, first_tags, first_bytes), half(second, second_tags, second_bytes)])
    }
}

/// What a record counts for in memory and batches; never less than it takes.
pub(super) fn record_bytes(record: &NewRecord<'_>) -> usize {
    let length = |part: Option<&[u8]>| part.map_or(0, <[u8]>::len);
    let headers: usize = record.headers.iter().map(|(name, value)| name.len() + length(*value) + 10).sum();
    length(record.key) + length(record.value) + headers + RECORD_OVERHEAD_BYTES
}
