//! One record batch, magic 2, as borrowed slices: its header, and its records one by one.
//!
//! Nothing here allocates or copies. Every length is checked before it is believed.

use super::compression::Codec;
use super::varint::Cursor;
use crate::core::record::DecodeError;

/// Bytes before the records: base offset, length, leader epoch, magic, CRC, attributes, offset and time range, producer.
pub const HEADER_BYTES: usize = 61;
/// Base offset and length, which the length does not count.
const PREFIX_BYTES: usize = 12;
const MAGIC_AT: usize = 16;
const CRC_AT: usize = 17;
/// The checksum covers everything from here on.
const ATTRIBUTES_AT: usize = 21;

const LOG_APPEND_TIME: i16 = 1 << 3;
const TRANSACTIONAL: i16 = 1 << 4;
const CONTROL: i16 = 1 << 5;

/// What a batch says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    pub base_offset: i64,
    pub leader_epoch: i32,
    pub attributes: i16,
    /// The last offset the batch covers, also when compaction removed the record there.
    pub last_offset_delta: i32,
    pub base_timestamp_ms: i64,
    pub max_timestamp_ms: i64,
    /// −1 without an idempotent producer.
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub base_sequence: i32,
    pub record_count: i32,
}

impl BatchHeader {
    /// The last offset covered. Headers that were read have been checked not to overflow.
    pub fn last_offset(&self) -> i64 {
        self.base_offset.saturating_add(self.last_offset_delta.into())
    }

    /// The offset after the last one covered: where the next batch may begin.
    pub fn next_offset(&self) -> i64 {
        self.last_offset().saturating_add(1)
    }

    /// Whether every record has the broker's time, `max_timestamp_ms`.
    pub fn has_log_append_time(&self) -> bool {
        self.attributes & LOG_APPEND_TIME != 0
    }

    /// Whether it belongs to a transaction.
    pub fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL != 0
    }

    /// Whether it holds a transaction marker and no records for applications.
    pub fn is_control(&self) -> bool {
        self.attributes & CONTROL != 0
    }

    fn read(bytes: &[u8; HEADER_BYTES]) -> Self {
        Self {
            base_offset: i64::from_be_bytes(field(bytes, 0)),
            leader_epoch: i32::from_be_bytes(field(bytes, 12)),
            attributes: i16::from_be_bytes(field(bytes, ATTRIBUTES_AT)),
            last_offset_delta: i32::from_be_bytes(field(bytes, 23)),
            base_timestamp_ms: i64::from_be_bytes(field(bytes, 27)),
            max_timestamp_ms: i64::from_be_bytes(field(bytes, 35)),
            producer_id: i64::from_be_bytes(field(bytes, 43)),
            producer_epoch: i16::from_be_bytes(field(bytes, 51)),
            base_sequence: i32::from_be_bytes(field(bytes, 53)),
            record_count: i32::from_be_bytes(field(bytes, 57)),
        }
    }

    /// The whole batch: this header, its length and checksum, and `body`, the records as compressed.
    ///
    /// # Panics
    /// When `body` is 2 GiB or longer.
    pub fn write(&self, body: &[u8]) -> Vec<u8> {
        let length = i32::try_from(HEADER_BYTES - PREFIX_BYTES + body.len()).expect("a batch is shorter than 2 GiB");
        let mut bytes = Vec::with_capacity(HEADER_BYTES + body.len());
        bytes.extend_from_slice(&self.base_offset.to_be_bytes());
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(&self.leader_epoch.to_be_bytes());
        bytes.push(2);
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&self.attributes.to_be_bytes());
        bytes.extend_from_slice(&self.last_offset_delta.to_be_bytes());
        bytes.extend_from_slice(&self.base_timestamp_ms.to_be_bytes());
        bytes.extend_from_slice(&self.max_timestamp_ms.to_be_bytes());
        bytes.extend_from_slice(&self.producer_id.to_be_bytes());
        bytes.extend_from_slice(&self.producer_epoch.to_be_bytes());
        bytes.extend_from_slice(&self.base_sequence.to_be_bytes());
        bytes.extend_from_slice(&self.record_count.to_be_bytes());
        bytes.extend_from_slice(body);
        let checksum = crc32c::crc32c(&bytes[ATTRIBUTES_AT..]);
        bytes[CRC_AT..ATTRIBUTES_AT].copy_from_slice(&checksum.to_be_bytes());
        bytes
    }
}

/// `N` bytes at a constant position; the array's length makes out-of-bounds constants a panic in any test.
#[inline(always)]
fn field<const N: usize>(bytes: &[u8; HEADER_BYTES], at: usize) -> [u8; N] {
    let mut value = [0; N];
    value.copy_from_slice(&bytes[at..at + N]);
    value
}

/// A complete batch within the bytes of a fetch.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    pub header: BatchHeader,
    /// Where it begins.
    pub position: usize,
    /// All of it.
    pub bytes: &'a [u8],
}

impl<'a> Batch<'a> {
    /// The records, compressed as [`codec`](Self::codec) says.
    pub fn body(&self) -> &'a [u8] {
        &self.bytes[HEADER_BYTES..]
    }

    /// How the records are compressed.
    ///
    /// # Errors
    /// When the attributes name no codec that exists.
    pub fn codec(&self) -> Result<Codec, DecodeError> {
        let attributes = self.header.attributes;
        Codec::from_attributes(attributes)
            .ok_or_else(|| self.error(format!("attributes: {} is no compression", attributes & 0b111)))
    }

    /// Compares the checksum (CRC-32C) with the bytes.
    ///
    /// # Errors
    /// When they differ.
    pub fn check_crc(&self) -> Result<(), DecodeError> {
        let mut stored = [0; 4];
        stored.copy_from_slice(&self.bytes[CRC_AT..ATTRIBUTES_AT]);
        let (stored, computed) = (u32::from_be_bytes(stored), crc32c::crc32c(&self.bytes[ATTRIBUTES_AT..]));
        if stored != computed {
            return Err(self.error(format!("crc: {stored:08x} is stored, the bytes give {computed:08x}")));
        }
        Ok(())
    }

    /// An error that blames this batch.
    pub fn error(&self, what: impl Into<String>) -> DecodeError {
        DecodeError { base_offset: self.header.base_offset, what: what.into(), position: self.position }
    }
}

/// Walks the batches of a fetch in order. A cut-off last batch is legal there and ends the walk.
///
/// Offsets must ascend from batch to batch, and each header must make sense; after an error the walk is over.
pub struct Batches<'a> {
    bytes: &'a [u8],
    walked: Walked,
    cut_off_bytes: Option<usize>,
}

/// How far a walk over batches has come.
#[derive(Clone, Copy, Debug, Default)]
pub struct Walked {
    /// Bytes behind it.
    pub bytes: usize,
    /// The lowest base offset that the next batch may have.
    offset_min: i64,
}

impl<'a> Batches<'a> {
    /// The batches in `bytes`, which begin with a batch.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self::going_on(bytes, Walked::default())
    }

    /// The batches in `bytes` from where another walk over them has come to.
    pub fn going_on(bytes: &'a [u8], walked: Walked) -> Self {
        Self { bytes, walked, cut_off_bytes: None }
    }

    /// How far it has come.
    pub fn walked(&self) -> Walked {
        self.walked
    }

    /// After the walk: how long the cut-off last batch would be, if there is one and its length is among the bytes.
    pub fn cut_off_bytes(&self) -> Option<usize> {
        self.cut_off_bytes
    }

    fn read(&mut self) -> Result<Option<Batch<'a>>, DecodeError> {
        let position = self.walked.bytes;
        let rest = &self.bytes[position..];
        let Some(prefix) = rest.first_chunk::<{ MAGIC_AT + 1 }>() else { return Ok(None) };
        let base_offset = i64::from_be_bytes([
            prefix[0], prefix[1], prefix[2], prefix[3], prefix[4], prefix[5], prefix[6], prefix[7],
        ]);
        let length = i32::from_be_bytes([prefix[8], prefix[9], prefix[10], prefix[11]]);
        let error = |what: String| DecodeError { base_offset, what, position };
        check_magic(prefix[MAGIC_AT]).map_err(error)?;
        let length = usize::try_from(length).ok().filter(|length| *length >= HEADER_BYTES - PREFIX_BYTES);
        let Some(length) = length else { return Err(error("length: it is shorter than a batch header".into())) };
        let Some(bytes) = rest.get(..PREFIX_BYTES + length) else {
            self.cut_off_bytes = Some(PREFIX_BYTES + length);
            return Ok(None);
        };
        let Some(header) = bytes.first_chunk().map(BatchHeader::read) else { return Ok(None) };
        check_header(&header, self.walked.offset_min).map_err(error)?;
        self.walked = Walked { bytes: position + bytes.len(), offset_min: header.next_offset() };
        Ok(Some(Batch { header, position, bytes }))
    }
}

impl<'a> Iterator for Batches<'a> {
    type Item = Result<Batch<'a>, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        let batch = self.read();
        if !matches!(batch, Ok(Some(_))) {
            self.walked.bytes = self.bytes.len();
        }
        batch.transpose()
    }
}

fn check_magic(magic: u8) -> Result<(), String> {
    match magic {
        2 => Ok(()),
        0 | 1 => Err(format!(
            "magic: {magic} is the message format of before Kafka 0.11, which this client does not read; set the topic's \
             message.format.version to 0.11.0 or later and write the old records anew"
        )),
        other => Err(format!("magic: {other} is no message format that this client knows")),
    }
}

fn check_header(header: &BatchHeader, offset_min: i64) -> Result<(), String> {
    let BatchHeader { base_offset, last_offset_delta, record_count, .. } = *header;
    if base_offset < offset_min {
        return Err(format!("base offset: it must be {offset_min} or higher"));
    }
    if last_offset_delta < 0 || base_offset.checked_add(last_offset_delta.into()).is_none_or(|last| last == i64::MAX) {
        return Err(format!("last offset delta: {last_offset_delta}"));
    }
    if record_count < 0 || i64::from(record_count) > i64::from(last_offset_delta) + 1 {
        return Err(format!(
            "record count: {record_count} records cannot have {last_offset_delta} as last offset delta"
        ));
    }
    Ok(())
}

/// One record as it stands in its batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawRecord<'a> {
    pub offset_delta: i64,
    pub timestamp_delta_ms: i64,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    pub header_count: u32,
    /// As [`Headers`](crate::core::record::Headers) reads them; already checked.
    pub headers: &'a [u8],
}

/// Reads the records of a decompressed body.
pub struct RecordReader<'a> {
    cursor: Cursor<'a>,
}

impl<'a> RecordReader<'a> {
    /// The records in `body`.
    pub fn new(body: &'a [u8]) -> Self {
        Self { cursor: Cursor::new(body) }
    }

    /// Bytes read so far.
    pub fn position(&self) -> usize {
        self.cursor.position()
    }

    /// Whether all is read.
    pub fn is_at_end(&self) -> bool {
        self.cursor.is_at_end()
    }

    /// The next record.
    ///
    /// # Errors
    /// The field that is malformed or runs past the end.
    #[inline]
    pub fn read(&mut self) -> Result<RawRecord<'a>, &'static str> {
        let length = self.cursor.varint().ok_or("record length")?;
        let length = usize::try_from(length).map_err(|_| "record length")?;
        let mut record = Cursor::new(self.cursor.take(length).ok_or("record length")?);
        record.byte().ok_or("record attributes")?;
        let timestamp_delta_ms = record.varint().ok_or("timestamp delta")?;
        let offset_delta = record.varint().ok_or("offset delta")?;
        let key = record.nullable_bytes().ok_or("key length")?;
        let value = record.nullable_bytes().ok_or("value length")?;
        let header_count = record.varint().ok_or("header count")?;
        let headers = record.rest();
        if header_count != 0 {
            check_headers(header_count, &mut record)?;
        }
        if !record.is_at_end() {
            return Err("record length");
        }
        Ok(RawRecord { offset_delta, timestamp_delta_ms, key, value, header_count: header_count as u32, headers })
    }
}

/// A header takes two bytes or more, so a count that lies runs into the record's end at once.
fn check_headers(count: i64, record: &mut Cursor<'_>) -> Result<(), &'static str> {
    if !(0..=i64::from(i32::MAX)).contains(&count) {
        return Err("header count");
    }
    for _ in 0..count {
        record.nullable_bytes().flatten().ok_or("header name length")?;
        record.nullable_bytes().ok_or("header value length")?;
    }
    Ok(())
}
