//! Records that another client has decoded: copied into one buffer per chunk, in the form that [`core`](crate::core)
//! reads. For the sources that are not ours; [`native`](super::native) copies nothing.

use std::any::Any;
use std::sync::Arc;

use bytes::Bytes;

use crate::core::record::{DecodeError, Decoder, Encoded, Extent, RecordBuffer, Skipped, Span, encode_header};
use crate::port::MemoryBudget;

/// Bytes of a budget, given back when dropped.
pub struct Charge {
    budget: Arc<MemoryBudget>,
    bytes: usize,
}

impl Charge {
    /// Takes `bytes` at once.
    pub fn new(budget: &Arc<MemoryBudget>, bytes: usize) -> Self {
        budget.charge(bytes);
        Self { budget: Arc::clone(budget), bytes }
    }

    /// For bytes that were reserved already.
    pub fn reserved(budget: &Arc<MemoryBudget>, bytes: usize) -> Self {
        Self { budget: Arc::clone(budget), bytes }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.budget.release(self.bytes);
    }
}

/// A record as another client hands it over.
pub struct Foreign<'a> {
    pub offset: i64,
    /// Milliseconds since the epoch; −1 for none.
    pub timestamp_ms: i64,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
}

/// Collects records of one partition, in the order of their offsets.
#[derive(Default)]
pub struct Copying {
    bytes: Vec<u8>,
    /// Their extents are made at the end, when the buffer has its place.
    records: Vec<Place>,
}

struct Place {
    offset: i64,
    timestamp_ms: i64,
    start: usize,
    key: Option<usize>,
    value: Option<usize>,
    headers: usize,
    header_count: u32,
}

impl Copying {
    /// Copies a record; a header is a name and a value.
    pub fn push<'h>(&mut self, record: &Foreign<'_>, headers: impl Iterator<Item = (&'h [u8], Option<&'h [u8]>)>) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(record.key.unwrap_or_default());
        self.bytes.extend_from_slice(record.value.unwrap_or_default());
        let headers_at = self.bytes.len();
        let mut header_count = 0;
        for (name, value) in headers {
            encode_header(&mut self.bytes, name, value);
            header_count += 1;
        }
        self.records.push(Place {
            offset: record.offset,
            timestamp_ms: record.timestamp_ms,
            start,
            key: record.key.map(<[u8]>::len),
            value: record.value.map(<[u8]>::len),
            headers: self.bytes.len() - headers_at,
            header_count,
        });
    }

    /// Records so far.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Bytes so far.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The last record's offset.
    pub fn last_offset(&self) -> Option<i64> {
        self.records.last().map(|record| record.offset)
    }

    /// All of them; `held` is dropped with the records and gives back memory and credit.
    pub fn finish(self, held: Box<dyn Any + Send + Sync>) -> Arc<dyn Encoded> {
        let bytes = Bytes::from(self.bytes);
        let spans = self.records.iter().map(|record| record.span(&bytes)).collect();
        Arc::new(Copied { bytes, spans, _held: held })
    }
}

impl Place {
    fn span(&self, whole: &[u8]) -> Span {
        let key_end = self.start + self.key.unwrap_or(0);
        let value_end = key_end + self.value.unwrap_or(0);
        Span {
            offset: self.offset,
            timestamp_ms: self.timestamp_ms,
            key: Extent::of(whole, self.key.map(|_| &whole[self.start..key_end])),
            value: Extent::of(whole, self.value.map(|_| &whole[key_end..value_end])),
            headers: Extent::of(whole, Some(&whole[value_end..value_end + self.headers])),
            header_count: self.header_count,
        }
    }
}

struct Copied {
    bytes: Bytes,
    spans: Vec<Span>,
    _held: Box<dyn Any + Send + Sync>,
}

impl Encoded for Copied {
    fn decoder(self: Arc<Self>, from: i64) -> Box<dyn Decoder> {
        Box::new(CopiedDecoder { copied: Some(self), from })
    }

    fn bytes(&self) -> usize {
        self.bytes.len()
    }
}

/// All records are one piece: nothing is left to decompress.
struct CopiedDecoder {
    copied: Option<Arc<Copied>>,
    from: i64,
}

impl Decoder for CopiedDecoder {
    fn decode(&mut self, into: &mut RecordBuffer) -> Option<Result<Skipped, DecodeError>> {
        let copied = self.copied.take()?;
        into.push_buffer(copied.bytes.clone());
        copied.spans.iter().filter(|span| span.offset >= self.from).for_each(|span| into.push(*span));
        Some(Ok(Skipped::default()))
    }

    fn bytes_left(&self) -> usize {
        self.copied.as_ref().map_or(0, |copied| copied.bytes.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn records_come_out_as_they_went_in_from_the_offset_on() {
        let budget = MemoryBudget::new(1_000);
        let mut copying = Copying::default();
        let shapes = [None, Some(&b""[..]), Some(&b"text"[..])];
        let headers = [(&b"h"[..], Some(&b"v"[..])), (b"h", None), (b"", Some(b""))];
        for (nth, (key, value)) in shapes.iter().flat_map(|key| shapes.map(|value| (*key, value))).enumerate() {
            let record = Foreign { offset: nth as i64 * 2, timestamp_ms: nth as i64 - 1, key, value };
            copying.push(&record, headers.into_iter().take(nth % 4));
        }
        assert_eq!((copying.len(), copying.last_offset()), (9, Some(16)));
        let charge = Charge::new(&budget, copying.bytes());
        let encoded = copying.finish(Box::new(charge));
        let mut records = RecordBuffer::default();
        Arc::clone(&encoded).decoder(3).decode_rest(&mut records).unwrap();
        assert_eq!(records.len(), 7, "offsets 4 to 16");
        for index in 0..7 {
            let (record, nth) = (records.get(index), index + 2);
            assert_eq!((record.offset, record.timestamp_ms), (nth as i64 * 2, nth as i64 - 1));
            assert_eq!((record.key, record.value), (shapes[nth / 3], shapes[nth % 3]), "record {nth}");
            assert_eq!(record.headers.iter().collect::<Vec<_>>(), &headers[..nth % 4]);
        }
        drop(encoded);
        assert!(budget.reserve(1_000, Duration::ZERO), "all is given back");
    }
}
