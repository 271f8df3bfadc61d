//! The records of one partition as a Fetch answer brought them.
//!
//! The fetcher calls [`survey`], which reads headers only, to learn where the next fetch begins. A worker decodes
//! [`FetchedRecords`] later: checks each batch's CRC-32C, decompresses, drops what is not for applications (transaction
//! markers, and under `read_committed` the records of aborted transactions), and notes where each record lies. The
//! records themselves are not copied.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use super::batch::{Batch, Batches, HEADER_BYTES, RawRecord, RecordReader, Walked};
pub use super::builder::RecordBatchBuilder;
use super::compression::{Codec, INFLATED_BYTES_MAX, decompress};
use crate::core::record::{DecodeError, Decoder, Encoded, Extent, RecordBuffer, Skipped, Span};
use crate::kafka::offsets::Isolation;

/// What the headers of fetched batches say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Survey {
    /// The offset after the last complete batch: where the next fetch begins. Never below the offset asked for.
    pub next_offset: i64,
    /// The leader epoch of the last complete batch; −1 when there is none, or when it has none.
    pub last_epoch: i32,
    /// The most records that can be in it at or after the offset asked for.
    pub records_max: usize,
    /// Complete batches, and their bytes.
    pub batches: usize,
    pub bytes: usize,
    /// How long the cut-off last batch would be. When there is no complete batch before it, the next fetch must ask for
    /// as much.
    pub cut_off_bytes: Option<usize>,
}

/// Reads the headers of the batches in `bytes`, which were fetched from the offset `from`, up to one that makes no sense.
/// Checks no CRC.
///
/// # Errors
/// When a header makes no sense and nothing that was asked for stands before it.
pub fn survey(bytes: &[u8], from: i64) -> Result<Survey, DecodeError> {
    let mut survey =
        Survey { next_offset: from, last_epoch: -1, records_max: 0, batches: 0, bytes: 0, cut_off_bytes: None };
    let mut batches = Batches::new(bytes);
    for batch in batches.by_ref() {
        let Batch { header, position, bytes } = match batch {
            Ok(batch) => batch,
            Err(_) if survey.next_offset > from => break,
            Err(error) => return Err(error),
        };
        survey.batches += 1;
        survey.bytes = position + bytes.len();
        if header.next_offset() > from {
            survey.next_offset = header.next_offset();
            survey.last_epoch = header.leader_epoch;
            survey.records_max += if header.is_control() { 0 } else { header.record_count as usize };
        }
    }
    survey.cut_off_bytes = batches.cut_off_bytes();
    Ok(survey)
}

/// A transaction that was aborted, as a Fetch answer lists those that touch its records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Aborted {
    pub producer_id: i64,
    pub first_offset: i64,
}

/// The fetched bytes of one partition.
pub struct FetchedRecords {
    /// Whole batches, perhaps with a cut-off one at the end.
    pub bytes: Bytes,
    /// Of the same answer, in any order.
    pub aborted: Vec<Aborted>,
    pub isolation: Isolation,
    /// Dropped with the records: gives back memory and credit.
    pub held: Option<Box<dyn Any + Send + Sync>>,
}

impl Encoded for FetchedRecords {
    fn decoder(self: Arc<Self>, from: i64) -> Box<dyn Decoder> {
        let aborted = AbortedProducers::new(&self.aborted, self.isolation);
        Box::new(FetchedDecoder { fetched: self, walked: Walked::default(), from, aborted })
    }

    fn bytes(&self) -> usize {
        self.bytes.len()
    }
}

impl fmt::Debug for FetchedRecords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FetchedRecords({} bytes, {} aborted, {:?})", self.bytes.len(), self.aborted.len(), self.isolation)
    }
}

/// One pass over fetched bytes, a batch at a time.
struct FetchedDecoder {
    fetched: Arc<FetchedRecords>,
    walked: Walked,
    from: i64,
    aborted: AbortedProducers,
}

impl Decoder for FetchedDecoder {
    /// After an error `into` may hold records of the batch that is corrupt, from before the place.
    fn decode(&mut self, into: &mut RecordBuffer) -> Option<Result<Skipped, DecodeError>> {
        let fetched = Arc::clone(&self.fetched);
        let mut batches = Batches::going_on(&fetched.bytes, self.walked);
        let batch = batches.next();
        self.walked = batches.walked();
        Some(batch?.and_then(|batch| self.batch(&batch, into)))
    }

    fn bytes_left(&self) -> usize {
        self.fetched.bytes.len() - self.walked.bytes
    }
}

impl FetchedDecoder {
    /// Batches below `from` are looked at too: a marker there ends an aborted transaction.
    fn batch(&mut self, batch: &Batch<'_>, into: &mut RecordBuffer) -> Result<Skipped, DecodeError> {
        let header = &batch.header;
        self.aborted.advance(header.last_offset());
        if header.is_control() {
            batch.check_crc()?;
            self.aborted.end(header.producer_id);
            return Ok(Skipped { control: self.count_wanted(batch), aborted: 0 });
        }
        if header.next_offset() <= self.from || header.record_count == 0 {
            return Ok(Skipped::default());
        }
        batch.check_crc()?;
        if header.is_transactional() && self.aborted.contains(header.producer_id) {
            return Ok(Skipped { control: 0, aborted: self.count_wanted(batch) });
        }
        self.records(batch, into).map(|()| Skipped::default())
    }

    /// The records at or after `from`. Exact where offsets are dense, which markers and whole batches are; a compacted
    /// batch that straddles `from` is counted as if its records were the last ones.
    fn count_wanted(&self, batch: &Batch<'_>) -> u64 {
        let offsets_wanted = batch.header.next_offset() - self.from.max(batch.header.base_offset);
        offsets_wanted.clamp(0, batch.header.record_count.into()) as u64
    }

    fn records(&self, batch: &Batch<'_>, into: &mut RecordBuffer) -> Result<(), DecodeError> {
        let body = match batch.codec()? {
            Codec::None => {
                let body = self.fetched.bytes.slice(batch.position + HEADER_BYTES..batch.position + batch.bytes.len());
                into.push_buffer(body.clone());
                body
            }
            codec => {
                let inflated = decompress(codec, batch.body(), INFLATED_BYTES_MAX).map_err(|what| batch.error(what))?;
                let inflated = Bytes::from(inflated);
                into.push_inflated(inflated.clone());
                inflated
            }
        };
        self.push_records(batch, &body, into)
    }

    /// Pushes the records of `body`, the buffer added last.
    fn push_records(&self, batch: &Batch<'_>, body: &[u8], into: &mut RecordBuffer) -> Result<(), DecodeError> {
        let header = &batch.header;
        let mut reader = RecordReader::new(body);
        let mut offset_delta_min = 0;
        for index in 0..header.record_count {
            let record = reader.read().map_err(|field| corrupt(batch, index, &reader, field))?;
            if record.offset_delta < offset_delta_min || record.offset_delta > header.last_offset_delta.into() {
                return Err(corrupt(batch, index, &reader, "offset delta"));
            }
            offset_delta_min = record.offset_delta + 1;
            let offset = header.base_offset + record.offset_delta;
            if offset >= self.from {
                into.push(span(body, batch, offset, &record));
            }
        }
        if !reader.is_at_end() {
            return Err(corrupt(batch, header.record_count, &reader, "record count"));
        }
        Ok(())
    }
}

#[inline(always)]
fn span(whole: &[u8], batch: &Batch<'_>, offset: i64, record: &RawRecord<'_>) -> Span {
    let header = &batch.header;
    let timestamp_ms = if header.has_log_append_time() {
        header.max_timestamp_ms
    } else {
        header.base_timestamp_ms.wrapping_add(record.timestamp_delta_ms)
    };
    Span {
        offset,
        timestamp_ms,
        key: Extent::of(whole, record.key),
        value: Extent::of(whole, record.value),
        headers: Extent::of(whole, (record.header_count > 0).then_some(record.headers)),
        header_count: record.header_count,
    }
}

#[cold]
fn corrupt(batch: &Batch<'_>, index: i32, reader: &RecordReader<'_>, field: &str) -> DecodeError {
    batch.error(format!("{field} of record {index}, at byte {} of the decompressed records", reader.position()))
}

/// Which producers have an aborted transaction open at the current offset. As `CompletedFetch` of the Java client does
/// it: an aborted transaction begins for its producer at its first offset and ends with that producer's marker.
struct AbortedProducers {
    /// Not begun yet, the next one last.
    ahead: Vec<Aborted>,
    open: Vec<i64>,
}

impl AbortedProducers {
    fn new(aborted: &[Aborted], isolation: Isolation) -> Self {
        let mut ahead = match isolation {
            Isolation::ReadCommitted => aborted.to_vec(),
            Isolation::ReadUncommitted => Vec::new(),
        };
        ahead.sort_by_key(|transaction| std::cmp::Reverse(transaction.first_offset));
        Self { ahead, open: Vec::new() }
    }

    /// Opens the transactions that begin at or before `last_offset`.
    fn advance(&mut self, last_offset: i64) {
        while let Some(next) = self.ahead.pop_if(|next| next.first_offset <= last_offset) {
            if !self.open.contains(&next.producer_id) {
                self.open.push(next.producer_id);
            }
        }
    }

    fn end(&mut self, producer_id: i64) {
        self.open.retain(|open| *open != producer_id);
    }

    fn contains(&self, producer_id: i64) -> bool {
        self.open.contains(&producer_id)
    }
}

#[cfg(test)]
mod tests;
