//! Decoded records as places in shared buffers, and batches as views of them.

use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;

use bytes::Bytes;

use super::{Headers, Record, TopicPartition};

/// Where a run of bytes lies within its buffer; `ABSENT` is null.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    start: u32,
    length: u32,
}

impl Extent {
    /// Kafka's null.
    pub const ABSENT: Extent = Extent { start: 0, length: u32::MAX };

    /// The extent of `part`, which must be a slice of `whole` (Kafka frames are below 2 GiB, so 32 bits hold it).
    /// A slice from elsewhere panics in debug builds and would be cut off by the bounds check of its reader.
    pub fn of(whole: &[u8], part: Option<&[u8]>) -> Extent {
        let Some(part) = part else {
            return Extent::ABSENT;
        };
        let start = part.as_ptr() as usize - whole.as_ptr() as usize;
        debug_assert!(start + part.len() <= whole.len(), "the slice is not part of its buffer");
        Extent { start: start as u32, length: part.len() as u32 }
    }

    fn slice(self, buffer: &[u8]) -> Option<&[u8]> {
        (self != Extent::ABSENT).then(|| &buffer[self.start as usize..][..self.length as usize])
    }

    fn bytes(self) -> usize {
        if self == Extent::ABSENT { 0 } else { self.length as usize }
    }
}

/// One record's place: which buffer, and where its parts lie in it.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    /// Its offset in the partition's log.
    pub offset: i64,
    /// Milliseconds since the Unix epoch; -1 when there is none.
    pub timestamp_ms: i64,
    /// Its key, if any.
    pub key: Extent,
    /// Its value, if any.
    pub value: Extent,
    /// Its headers as they are encoded…
    pub headers: Extent,
    /// …and how many they are.
    pub header_count: u32,
}

/// Decoded records of one partition, in offset order, waiting to be cut into batches.
#[derive(Default)]
pub struct RecordBuffer {
    buffers: VecDeque<Bytes>,
    /// The number of the first buffer in `buffers`; numbers only grow, so spans stay valid when buffers leave.
    first_buffer: u64,
    spans: VecDeque<(u64, Span)>,
    bytes: usize,
    /// Which of `buffers` were made by decompression, in order, and their bytes together.
    inflated: VecDeque<u64>,
    inflated_bytes: usize,
}

impl RecordBuffer {
    /// Adds a buffer; the spans pushed after it refer to it.
    pub fn push_buffer(&mut self, buffer: Bytes) {
        self.buffers.push_back(buffer);
    }

    /// Adds a buffer that decompression made: it costs memory beyond what was fetched.
    pub fn push_inflated(&mut self, buffer: Bytes) {
        self.inflated.push_back(self.first_buffer + self.buffers.len() as u64);
        self.inflated_bytes += buffer.len();
        self.push_buffer(buffer);
    }

    /// Bytes of the buffers that decompression made.
    pub fn inflated_bytes(&self) -> usize {
        self.inflated_bytes
    }

    /// Adds a record whose parts lie in the buffer added last.
    ///
    /// # Panics
    /// When no buffer was added before.
    pub fn push(&mut self, span: Span) {
        let buffer = self.first_buffer + self.buffers.len() as u64 - 1;
        self.bytes += span_bytes(&span);
        self.spans.push_back((buffer, span));
    }

    /// Records held.
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether no record is held.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// Bytes of keys, values and headers of the records held.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The record at `index`.
    ///
    /// # Panics
    /// When `index` is not below [`len`](Self::len).
    pub fn get(&self, index: usize) -> Record<'_> {
        let (buffer, span) = &self.spans[index];
        let bytes = &self.buffers[(buffer - self.first_buffer) as usize];
        Record {
            offset: span.offset,
            timestamp_ms: span.timestamp_ms,
            key: span.key.slice(bytes),
            value: span.value.slice(bytes),
            headers: Headers::from_encoded(span.header_count, span.headers.slice(bytes).unwrap_or_default()),
        }
    }

    /// A handle on `part` of the record at `index`, which outlives the borrow without a copy; `None` when it is no part of
    /// the record's buffer.
    ///
    /// # Panics
    /// When `index` is not below [`len`](Self::len).
    pub fn share(&self, index: usize, part: &[u8]) -> Option<Bytes> {
        let (buffer, _) = &self.spans[index];
        let bytes = &self.buffers[(buffer - self.first_buffer) as usize];
        let (whole, place) = (bytes.as_ptr_range(), part.as_ptr_range());
        (whole.start <= place.start && place.end <= whole.end).then(|| bytes.slice_ref(part))
    }

    /// Keeps of the records from `index` on only those that `keep` wants; for sub-lanes by key.
    pub fn retain_from(&mut self, index: usize, mut keep: impl FnMut(&Record<'_>) -> bool) {
        let mut kept = index;
        for at in index..self.spans.len() {
            if keep(&self.get(at)) {
                self.spans.swap(kept, at);
                kept += 1;
            }
        }
        for (_, span) in self.spans.drain(kept..) {
            self.bytes -= span_bytes(&span);
        }
    }

    /// How many of the first records fit into `rows_max` rows and `bytes_max` bytes; at least one when any is held.
    pub fn cut(&self, rows_max: usize, bytes_max: usize) -> usize {
        let rows = self.spans.len().min(rows_max);
        if self.bytes <= bytes_max {
            return rows;
        }
        let mut bytes = 0;
        let fitting = self.spans.iter().take(rows).take_while(|(_, span)| {
            bytes += span_bytes(span);
            bytes <= bytes_max
        });
        fitting.count().max(rows.min(1))
    }

    /// Forgets the first `count` records, and the buffers that only they used.
    pub fn consume(&mut self, count: usize) {
        for (_, span) in self.spans.drain(..count) {
            self.bytes -= span_bytes(&span);
        }
        let needed = self.spans.front().map_or(self.first_buffer + self.buffers.len() as u64, |(buffer, _)| *buffer);
        while self.first_buffer < needed {
            let freed = self.buffers.pop_front().map_or(0, |buffer| buffer.len());
            if self.inflated.front() == Some(&self.first_buffer) {
                self.inflated.pop_front();
                self.inflated_bytes -= freed;
            }
            self.first_buffer += 1;
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.consume(self.spans.len());
    }
}

fn span_bytes(span: &Span) -> usize {
    span.key.bytes() + span.value.bytes() + span.headers.bytes()
}

/// Consecutive records of one partition, handed to a sink or a handler together. A view: copying it copies nothing.
#[derive(Clone, Copy)]
pub struct MessageBatch<'a> {
    partition: &'a TopicPartition,
    records: &'a RecordBuffer,
    start: usize,
    end: usize,
}

impl<'a> MessageBatch<'a> {
    /// The records at `range` of a buffer.
    ///
    /// # Panics
    /// When the range does not lie within the buffer.
    pub fn new(partition: &'a TopicPartition, records: &'a RecordBuffer, range: Range<usize>) -> Self {
        assert!(range.start <= range.end && range.end <= records.len(), "batch range outside its buffer");
        Self { partition, records, start: range.start, end: range.end }
    }

    /// Where the records come from.
    pub fn partition(&self) -> &'a TopicPartition {
        self.partition
    }

    /// How many records there are. A batch may be empty: transaction markers move a position without a record.
    pub fn len(&self) -> usize {
        self.end - self.start
    }

    /// Whether there is no record.
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// The record at `index`, counted from the batch's start.
    ///
    /// # Panics
    /// When `index` is not below [`len`](Self::len).
    pub fn get(&self, index: usize) -> Record<'a> {
        assert!(index < self.len(), "record {index} of a batch of {}", self.len());
        self.records.get(self.start + index)
    }

    /// See [`RecordBuffer::share`]; `index` is counted from the batch's start.
    pub fn share(&self, index: usize, part: &[u8]) -> Option<Bytes> {
        self.records.share(self.start + index, part)
    }

    /// The records in offset order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Record<'a>> + use<'a> {
        let records = self.records;
        (self.start..self.end).map(move |index| records.get(index))
    }

    /// A part of this batch, for whoever looks for the bad record by halving.
    pub fn slice(&self, range: Range<usize>) -> MessageBatch<'a> {
        assert!(range.end <= self.len(), "slice outside its batch");
        MessageBatch::new(self.partition, self.records, self.start + range.start..self.start + range.end)
    }

    /// Bytes of keys, values and headers.
    pub fn bytes(&self) -> usize {
        self.records.spans.range(self.start..self.end).map(|(_, span)| span_bytes(span)).sum()
    }
}

impl fmt::Debug for MessageBatch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MessageBatch({}, {} records", self.partition, self.len())?;
        if !self.is_empty() {
            write!(f, ", offsets {}..={}", self.get(0).offset, self.get(self.len() - 1).offset)?;
        }
        write!(f, ")")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buffer_of(values: &[&'static str]) -> RecordBuffer {
        let mut records = RecordBuffer::default();
        for (offset, value) in values.iter().enumerate() {
            records.push_buffer(Bytes::from_static(value.as_bytes()));
            let whole = value.as_bytes();
            records.push(Span {
                offset: offset as i64,
                timestamp_ms: 0,
                key: Extent::ABSENT,
                value: Extent::of(whole, Some(whole)),
                headers: Extent::ABSENT,
                header_count: 0,
            });
        }
        records
    }

    fn values(records: &RecordBuffer) -> Vec<&str> {
        (0..records.len()).map(|i| std::str::from_utf8(records.get(i).value.unwrap()).unwrap()).collect()
    }

    #[test]
    fn consuming_frees_buffers_and_keeps_the_rest_readable() {
        let mut records = buffer_of(&["a", "bb", "ccc", "dddd"]);
        records.consume(2);
        assert_eq!(values(&records), ["ccc", "dddd"]);
        assert_eq!((records.bytes(), records.buffers.len()), (7, 2));
        records.clear();
        assert_eq!((records.len(), records.bytes(), records.buffers.len()), (0, 0, 0));
    }

    #[test]
    fn a_cut_takes_at_least_one_record_and_never_more_than_fit() {
        let records = buffer_of(&["a", "bb", "ccc", "dddd"]);
        for (rows_max, bytes_max, expected) in
            [(10, 100, 4), (2, 100, 2), (10, 3, 2), (10, 0, 1), (10, 5, 2), (0, 9, 0)]
        {
            assert_eq!(records.cut(rows_max, bytes_max), expected, "rows {rows_max}, bytes {bytes_max}");
        }
        assert_eq!(RecordBuffer::default().cut(5, 5), 0);
    }

    #[test]
    fn retaining_keeps_order_and_counts_bytes() {
        let mut records = buffer_of(&["a", "bb", "ccc", "dddd"]);
        records.retain_from(1, |record| record.offset % 2 == 1);
        assert_eq!(values(&records), ["a", "bb", "dddd"]);
        assert_eq!(records.bytes(), 7);
    }
}
