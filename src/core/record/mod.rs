//! Records as borrowed views over shared buffers.
//!
//! A source hands over whole runs of records, still encoded ([`Encoded`]). A worker decodes such a run into a
//! [`RecordBuffer`]: the bytes stay where they are (in the fetch buffer, or in the buffer they were decompressed
//! into), and one small [`Span`] per record says where its key, value and headers lie. Sinks and handlers see a
//! [`MessageBatch`], a range of such spans, and its [`Record`]s, which borrow. So a record costs no allocation.
#![warn(missing_docs)]

mod buffer;
mod headers;

use std::fmt;
use std::ops::AddAssign;
use std::sync::Arc;

use bytes::Bytes;

pub use self::buffer::{Extent, MessageBatch, RecordBuffer, Span};
pub use self::headers::{Headers, encode_header};

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

impl Record<'_> {
    /// Its time, if it carries one, in milliseconds since the epoch.
    pub(crate) fn time_ms(&self) -> Option<i64> {
        (self.timestamp_ms >= 0).then_some(self.timestamp_ms)
    }
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

    /// Its time, if it carries one, in milliseconds since the epoch.
    pub(crate) fn time_ms(&self) -> Option<i64> {
        (self.timestamp_ms >= 0).then_some(self.timestamp_ms)
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

#[cfg(test)]
mod tests {
    use super::*;

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
}
