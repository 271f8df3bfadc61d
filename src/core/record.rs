//! Records as borrowed views over shared buffers.
//!
//! A source hands over whole runs of records, still encoded ([`Encoded`]). A worker decodes such a run into a
//! [`RecordBuffer`]: the bytes stay where they are (in the fetch buffer, or in the buffer they were decompressed
//! into), and one small [`Span`] per record says where its key, value and headers lie. Sinks and handlers see a
//! [`MessageBatch`], a range of such spans, and its [`Record`]s, which borrow. So a record costs no allocation.
#![warn(missing_docs)]

use std::collections::VecDeque;
use std::fmt;
use std::ops::{AddAssign, Range};
use std::sync::Arc;

use bytes::Bytes;

/// A partition of a topic: the unit of order, of assignment and of position.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicPartition {
    /// The topic's name, shared by everything that mentions it.
    pub topic: Arc<str>,
    /// The partition's index within the topic.
    pub partition: i32,
}

impl TopicPartition {
    /// Names one partition.
    ///
    /// ```
    /// let orders = konekt::TopicPartition::new("orders", 3);
    /// assert_eq!(orders.to_string(), "orders/3");
    /// ```
    pub fn new(topic: impl Into<Arc<str>>, partition: i32) -> Self {
        Self { topic: topic.into(), partition }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.partition)
    }
}

impl fmt::Debug for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One record, borrowed from the batch that holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Offset within the partition.
    pub offset: i64,
    /// Milliseconds since the epoch; the producer's time, or the broker's where the topic says `LogAppendTime`.
    /// −1 when the record carries none.
    pub timestamp_ms: i64,
    /// The key's bytes; `None` is Kafka's null, which is not the empty key.
    pub key: Option<&'a [u8]>,
    /// The value's bytes; `None` is a tombstone.
    pub value: Option<&'a [u8]>,
    /// The headers, in the order they were written; names may repeat.
    pub headers: Headers<'a>,
}

/// A record's headers, still encoded as in record batch v2: per header a varint length and the name's bytes, then a
/// varint length (−1 for null) and the value's bytes.
///
/// They are checked when the batch is decoded, so iterating cannot fail.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Headers<'a> {
    count: u32,
    encoded: &'a [u8],
}

impl<'a> Headers<'a> {
    /// Headers over their encoded form. A malformed tail ends the iteration early; it never panics.
    pub fn from_encoded(count: u32, encoded: &'a [u8]) -> Self {
        Self { count, encoded }
    }

    /// How many headers there are.
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Name and value of each header. Names are bytes: Kafka does not promise text.
    pub fn iter(&self) -> impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)> + use<'a> {
        let mut rest = self.encoded;
        (0..self.count).map_while(move |_| {
            let name = take_bytes(&mut rest)??;
            let value = take_bytes(&mut rest)?;
            Some((name, value))
        })
    }

    /// The encoded form, for whoever passes headers on unchanged.
    pub fn encoded(&self) -> &'a [u8] {
        self.encoded
    }
}

impl fmt::Debug for Headers<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        f.debug_list().entries(self.iter().map(|(name, value)| (text(name), value.map(text)))).finish()
    }
}

/// Appends one header in the encoded form that [`Headers`] reads.
pub fn encode_header(into: &mut Vec<u8>, name: &[u8], value: Option<&[u8]>) {
    put_varint(into, name.len() as i64);
    into.extend_from_slice(name);
    match value {
        Some(bytes) => {
            put_varint(into, bytes.len() as i64);
            into.extend_from_slice(bytes);
        }
        None => put_varint(into, -1),
    }
}

fn put_varint(into: &mut Vec<u8>, value: i64) {
    let mut zigzag = ((value << 1) ^ (value >> 63)) as u64;
    while zigzag >= 0x80 {
        into.push(zigzag as u8 | 0x80);
        zigzag >>= 7;
    }
    into.push(zigzag as u8);
}

/// One length-prefixed run of bytes: outer `None` when malformed, inner `None` for null.
fn take_bytes<'a>(rest: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    let (mut zigzag, mut shift, mut used) = (0u64, 0u32, 0usize);
    loop {
        let byte = *rest.get(used)?;
        used += 1;
        zigzag |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte < 0x80 {
            break;
        }
        shift += 7;
    }
    let length = ((zigzag >> 1) as i64) ^ -((zigzag & 1) as i64);
    if length < 0 {
        *rest = &rest[used..];
        return Some(None);
    }
    let end = used.checked_add(usize::try_from(length).ok()?)?;
    let bytes = rest.get(used..end)?;
    *rest = &rest[end..];
    Some(Some(bytes))
}

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

/// A run of records of one partition as its source handed it over.
pub trait Encoded: Send + Sync {
    /// Begins to decode the records at or after `from`; those below are not seen.
    fn decoder(self: Arc<Self>, from: i64) -> Box<dyn Decoder>;

    /// Bytes held in memory until this is dropped.
    fn bytes(&self) -> usize;
}

/// Decodes a run of records piece by piece, a piece being what was compressed together. What a run inflates to can be a
/// hundred times its size; whoever decodes as much as a batch needs holds little of that at a time.
pub trait Decoder: Send {
    /// Appends the visible records of the next piece to `into`, in offset order, and says how many were passed over
    /// (control records, aborted transactions). `None`: that was all.
    fn decode(&mut self, into: &mut RecordBuffer) -> Option<Result<Skipped, DecodeError>>;

    /// Encoded bytes that are not decoded yet.
    fn bytes_left(&self) -> usize;
}

impl dyn Decoder {
    /// Decodes all that is left.
    ///
    /// # Errors
    /// That of the first piece that is not what the format says; the pieces before it are in `into`.
    pub fn decode_rest(&mut self, into: &mut RecordBuffer) -> Result<Skipped, DecodeError> {
        let mut skipped = Skipped::default();
        while let Some(piece) = self.decode(into) {
            skipped += piece?;
        }
        Ok(skipped)
    }
}

/// Records that are part of the log but not for the application.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Skipped {
    /// Transaction markers.
    pub control: u64,
    /// Records of aborted transactions, left out under `read_committed`.
    pub aborted: u64,
}

impl AddAssign for Skipped {
    fn add_assign(&mut self, more: Self) {
        self.control += more.control;
        self.aborted += more.aborted;
    }
}

impl Skipped {
    /// Both kinds together.
    pub fn total(self) -> u64 {
        self.control + self.aborted
    }
}

/// Bytes that are not what the format says: which field, at which byte, and of which batch.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("corrupt record batch at offset {base_offset}: {what} (byte {position})")]
pub struct DecodeError {
    /// First offset of the batch.
    pub base_offset: i64,
    /// What is wrong, with the field's name.
    pub what: String,
    /// Byte position within the fetched records.
    pub position: usize,
}

/// A record that owns its bytes, for tools; what moves records borrows them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedRecord {
    /// Where it stands.
    pub partition: TopicPartition,
    /// Its offset there.
    pub offset: i64,
    /// Milliseconds since the Unix epoch; -1 when there is none.
    pub timestamp_ms: i64,
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Its value; none for a tombstone.
    pub value: Option<Vec<u8>>,
    /// Names and values, in their order; a name may come several times.
    pub headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl OwnedRecord {
    /// A copy of a record.
    pub fn copy(partition: &TopicPartition, record: &Record<'_>) -> Self {
        Self {
            partition: partition.clone(),
            offset: record.offset,
            timestamp_ms: record.timestamp_ms,
            key: record.key.map(<[u8]>::to_vec),
            value: record.value.map(<[u8]>::to_vec),
            headers: record.headers.iter().map(|(name, value)| (name.to_vec(), value.map(<[u8]>::to_vec))).collect(),
        }
    }

    /// The headers, borrowed.
    pub fn header_views(&self) -> Vec<(&[u8], Option<&[u8]>)> {
        self.headers.iter().map(|(name, value)| (&**name, value.as_deref())).collect()
    }

    /// Alone in a buffer.
    pub fn buffer(&self) -> RecordBuffer {
        let mut encoded = Vec::new();
        self.headers.iter().for_each(|(name, value)| encode_header(&mut encoded, name, value.as_deref()));
        let (key, value) = (self.key.as_deref(), self.value.as_deref());
        let (key_end, value_end) =
            (key.map_or(0, <[u8]>::len), key.map_or(0, <[u8]>::len) + value.map_or(0, <[u8]>::len));
        let whole = Bytes::from([key.unwrap_or_default(), value.unwrap_or_default(), &encoded].concat());
        let mut records = RecordBuffer::default();
        records.push_buffer(whole.clone());
        records.push(Span {
            offset: self.offset,
            timestamp_ms: self.timestamp_ms,
            key: Extent::of(&whole, key.map(|_| &whole[..key_end])),
            value: Extent::of(&whole, value.map(|_| &whole[key_end..value_end])),
            headers: Extent::of(&whole, Some(&whole[value_end..])),
            header_count: self.headers.len() as u32,
        });
        records
    }
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

    #[test]
    fn an_owned_record_is_the_record() {
        for (key, value) in [(None, None), (Some(&b"k"[..]), Some(&b""[..])), (Some(&b""[..]), Some(&b"v"[..]))] {
            let record = OwnedRecord {
                partition: TopicPartition::new("t", 1),
                offset: 7,
                timestamp_ms: 9,
                key: key.map(<[u8]>::to_vec),
                value: value.map(<[u8]>::to_vec),
                headers: vec![(b"a".to_vec(), None), (b"a".to_vec(), Some(b"1".to_vec()))],
            };
            assert_eq!(OwnedRecord::copy(&record.partition, &record.buffer().get(0)), record);
        }
    }

    #[test]
    fn headers_keep_order_repeats_nulls_and_bytes_that_are_no_text() {
        let mut encoded = Vec::new();
        let headers: [(&[u8], Option<&[u8]>); 4] =
            [(b"a", Some(b"1")), (b"a", None), (b"\xff\xfe", Some(b"")), (b"", Some(&[0; 200]))];
        for (name, value) in headers {
            encode_header(&mut encoded, name, value);
        }
        assert_eq!(Headers::from_encoded(4, &encoded).iter().collect::<Vec<_>>(), headers);
        for cut in 0..encoded.len() {
            assert!(Headers::from_encoded(4, &encoded[..cut]).iter().count() < 4, "cut at {cut}");
        }
    }
}
