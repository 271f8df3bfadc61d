//! What the broker must know of a record batch: the 61 bytes of its header (message format v2, KIP-98).
//!
//! Layout: base offset 0..8, length 8..12, leader epoch 12..16, magic 16, CRC 17..21, attributes 21..23, last offset
//! delta 23..27, base timestamp 27..35, max timestamp 35..43, producer id 43..51, producer epoch 51..53, base sequence
//! 53..57, record count 57..61. The CRC-32C covers 21.. to the end, so offset and epoch may be patched freely.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::ResponseError;

/// The size of a batch's header in bytes; the records follow.
pub const HEADER_BYTES: usize = 61;
/// Bytes before what the length field counts: base offset and the length itself.
const LENGTH_PREFIX_BYTES: usize = 12;
const CRC_COVERS_FROM: usize = 21;
const MAGIC: i8 = 2;
const CODEC_MASK: i16 = 0x07;
const CODEC_MAX: i16 = 4;

/// A record batch's header, decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    /// The whole batch in bytes, header included.
    pub batch_bytes: usize,
    pub attributes: i16,
    pub last_offset_delta: i32,
    pub base_timestamp_ms: i64,
    pub max_timestamp_ms: i64,
    /// −1 when the producer is not idempotent.
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub base_sequence: i32,
    pub record_count: i32,
    magic: i8,
    crc: u32,
}

/// Why a batch is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchFault {
    #[error("{actual} bytes are too few for a record batch of {needed}")]
    TooShort { actual: usize, needed: usize },
    #[error("the batch's length field says {0}")]
    Length(i32),
    #[error("{0} bytes follow the one batch that is allowed")]
    Trailing(usize),
    #[error("message format {0} is not 2")]
    Magic(i8),
    #[error("CRC-32C is {actual:08x}, the header says {expected:08x}")]
    Crc { actual: u32, expected: u32 },
    #[error("{record_count} records cannot have a last offset delta of {last_offset_delta}")]
    Count { record_count: i32, last_offset_delta: i32 },
    #[error("compression codec {0} is unknown")]
    Codec(i16),
}

impl BatchFault {
    /// The error code a broker answers with.
    pub fn code(self) -> i16 {
        match self {
            Self::TooShort { .. } | Self::Length(_) | Self::Crc { .. } => ResponseError::CorruptMessage.code(),
            Self::Trailing(_) | Self::Magic(_) | Self::Count { .. } => ResponseError::InvalidRecord.code(),
            Self::Codec(_) => ResponseError::UnsupportedCompressionType.code(),
        }
    }
}

impl BatchHeader {
    /// Decodes the header at the start of `bytes` and checks that the whole batch is there.
    pub fn peek(bytes: &[u8]) -> Result<Self, BatchFault> {
        if bytes.len() < HEADER_BYTES {
            return Err(BatchFault::TooShort { actual: bytes.len(), needed: HEADER_BYTES });
        }
        let mut from = &bytes[LENGTH_PREFIX_BYTES - 4..HEADER_BYTES];
        let length = from.get_i32();
        let batch_bytes =
            usize::try_from(length).map_err(|_| BatchFault::Length(length))?.saturating_add(LENGTH_PREFIX_BYTES);
        if batch_bytes < HEADER_BYTES {
            return Err(BatchFault::Length(length));
        }
        if bytes.len() < batch_bytes {
            return Err(BatchFault::TooShort { actual: bytes.len(), needed: batch_bytes });
        }
        from.advance(4);
        let magic = from.get_i8();
        let crc = from.get_u32();
        Ok(Self {
            batch_bytes,
            magic,
            crc,
            attributes: from.get_i16(),
            last_offset_delta: from.get_i32(),
            base_timestamp_ms: from.get_i64(),
            max_timestamp_ms: from.get_i64(),
            producer_id: from.get_i64(),
            producer_epoch: from.get_i16(),
            base_sequence: from.get_i32(),
            record_count: from.get_i32(),
        })
    }

    /// Decodes the one batch that `bytes` must be, and checks what a broker checks before it stores it.
    pub fn validate(bytes: &[u8]) -> Result<Self, BatchFault> {
        let header = Self::peek(bytes)?;
        if header.magic != MAGIC {
            return Err(BatchFault::Magic(header.magic));
        }
        if bytes.len() > header.batch_bytes {
            return Err(BatchFault::Trailing(bytes.len() - header.batch_bytes));
        }
        let actual = crc32c::crc32c(&bytes[CRC_COVERS_FROM..header.batch_bytes]);
        if actual != header.crc {
            return Err(BatchFault::Crc { actual, expected: header.crc });
        }
        let (record_count, last_offset_delta) = (header.record_count, header.last_offset_delta);
        if record_count < 1 || last_offset_delta != record_count - 1 {
            return Err(BatchFault::Count { record_count, last_offset_delta });
        }
        match header.attributes & CODEC_MASK {
            codec if codec > CODEC_MAX => Err(BatchFault::Codec(codec)),
            _ => Ok(header),
        }
    }

    /// Whether records are compressed, so that they cannot be walked here.
    pub fn is_compressed(&self) -> bool {
        self.attributes & CODEC_MASK != 0
    }

    /// The sequence number of the last record; sequence numbers wrap after `i32::MAX` to 0.
    pub fn last_sequence(&self) -> i32 {
        add_sequence(self.base_sequence, self.last_offset_delta)
    }
}

/// `sequence + delta` in the ring 0..=`i32::MAX`.
pub fn add_sequence(sequence: i32, delta: i32) -> i32 {
    sequence.wrapping_add(delta) & i32::MAX
}

/// The batch as it is stored: the same bytes at another offset and leader epoch.
pub fn placed_at(batch: &[u8], base_offset: i64, leader_epoch: i32) -> Bytes {
    let mut stored = BytesMut::with_capacity(batch.len());
    stored.put_i64(base_offset);
    stored.extend_from_slice(&batch[8..LENGTH_PREFIX_BYTES]);
    stored.put_i32(leader_epoch);
    stored.extend_from_slice(&batch[LENGTH_PREFIX_BYTES + 4..]);
    stored.freeze()
}

/// The offset delta and time of the first record of an uncompressed batch at or after `timestamp_ms`.
pub fn first_at_or_after(batch: &[u8], timestamp_ms: i64) -> Option<(i32, i64)> {
    let header = BatchHeader::peek(batch).ok().filter(|header| !header.is_compressed())?;
    let mut rest = &batch[HEADER_BYTES..header.batch_bytes];
    while !rest.is_empty() {
        let length = usize::try_from(varint(&mut rest)?).ok()?;
        let mut record = rest.get(..length)?;
        rest = &rest[length..];
        record = record.get(1..)?;
        let at_ms = header.base_timestamp_ms.saturating_add(varint(&mut record)?);
        let delta = i32::try_from(varint(&mut record)?).ok()?;
        if at_ms >= timestamp_ms {
            return Some((delta, at_ms));
        }
    }
    None
}

/// A zigzag varint of at most ten bytes.
fn varint(from: &mut &[u8]) -> Option<i64> {
    let mut raw = 0u64;
    for shift in (0..70).step_by(7) {
        let (&byte, rest) = from.split_first()?;
        *from = rest;
        raw |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some((raw >> 1) as i64 ^ -((raw & 1) as i64));
        }
    }
    None
}

/// Batches for the tests of this folder.
#[cfg(test)]
pub mod testing {
    use super::*;

    /// A valid uncompressed batch: one record per timestamp, of the given producer (id, epoch, first sequence).
    pub fn batch_of(timestamps_ms: &[i64], producer: (i64, i16, i32)) -> Bytes {
        let base_ms = timestamps_ms[0];
        let mut records = BytesMut::new();
        for (delta, at_ms) in timestamps_ms.iter().enumerate() {
            let mut record = BytesMut::new();
            record.put_u8(0);
            put_varint(&mut record, at_ms - base_ms);
            put_varint(&mut record, delta as i64);
            record.extend_from_slice(&[1, 2, b'v', 0]); // no key, a value of one byte, no headers
            put_varint(&mut records, record.len() as i64);
            records.extend_from_slice(&record);
        }
        let mut covered = BytesMut::new();
        covered.put_i16(0);
        covered.put_i32(timestamps_ms.len() as i32 - 1);
        covered.put_i64(base_ms);
        covered.put_i64(*timestamps_ms.iter().max().unwrap());
        covered.put_i64(producer.0);
        covered.put_i16(producer.1);
        covered.put_i32(producer.2);
        covered.put_i32(timestamps_ms.len() as i32);
        covered.extend_from_slice(&records);
        sealed(&covered)
    }

    /// A plain batch of `count` records, all at time 1,000.
    pub fn plain(count: usize) -> Bytes {
        batch_of(&vec![1_000; count], (-1, -1, -1))
    }

    fn sealed(covered: &[u8]) -> Bytes {
        let mut batch = BytesMut::new();
        batch.put_i64(0);
        batch.put_i32(covered.len() as i32 + 9);
        batch.put_i32(-1);
        batch.put_i8(MAGIC);
        batch.put_u32(crc32c::crc32c(covered));
        batch.extend_from_slice(covered);
        batch.freeze()
    }

    fn put_varint(into: &mut BytesMut, value: i64) {
        let mut raw = (value << 1 ^ value >> 63) as u64;
        while raw >= 0x80 {
            into.put_u8(raw as u8 | 0x80);
            raw >>= 7;
        }
        into.put_u8(raw as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{batch_of, plain};
    use super::*;

    #[test]
    fn a_good_batch_passes_and_is_placed_without_touching_what_the_crc_covers() {
        let batch = batch_of(&[10, 20, 30], (7, 1, 5));
        let header = BatchHeader::validate(&batch).unwrap();
        assert_eq!((header.record_count, header.last_sequence(), header.max_timestamp_ms), (3, 7, 30));
        let stored = placed_at(&batch, 1_234, 9);
        assert_eq!(BatchHeader::validate(&stored).unwrap(), header);
        assert_eq!((&stored[..8], &stored[12..16]), (&1_234i64.to_be_bytes()[..], &9i32.to_be_bytes()[..]));
    }

    #[test]
    fn every_truncation_is_refused() {
        let batch = plain(2);
        for length in 0..batch.len() {
            assert!(
                matches!(BatchHeader::validate(&batch[..length]), Err(BatchFault::TooShort { .. })),
                "a batch cut to {length} bytes passed"
            );
        }
    }

    #[test]
    fn faults_have_the_codes_a_broker_answers() {
        let changed = |at: usize, to: &[u8]| {
            let mut bytes = plain(2).to_vec();
            bytes[at..at + to.len()].copy_from_slice(to);
            BatchHeader::validate(&bytes).unwrap_err().code()
        };
        let cases = [
            ("negative length", changed(8, &(-1i32).to_be_bytes()), ResponseError::CorruptMessage),
            ("length within the header", changed(8, &20i32.to_be_bytes()), ResponseError::CorruptMessage),
            ("length beyond the bytes", changed(8, &i32::MAX.to_be_bytes()), ResponseError::CorruptMessage),
            ("old magic", changed(16, &[1]), ResponseError::InvalidRecord),
            ("flipped bit", changed(61, &[0x55]), ResponseError::CorruptMessage),
        ];
        for (name, code, expected) in cases {
            assert_eq!(code, expected.code(), "{name}");
        }
        let two = [plain(1), plain(1)].concat();
        assert_eq!(BatchHeader::validate(&two).unwrap_err(), BatchFault::Trailing(plain(1).len()));
    }

    #[test]
    fn sequences_wrap_to_zero() {
        assert_eq!(add_sequence(i32::MAX, 1), 0);
        assert_eq!(add_sequence(i32::MAX - 1, 3), 1);
        assert_eq!(add_sequence(5, 2), 7);
    }

    #[test]
    fn the_first_record_at_a_time_is_found() {
        let batch = batch_of(&[100, 90, 300], (-1, -1, -1));
        for (timestamp_ms, expected) in [(0, Some((0, 100))), (100, Some((0, 100))), (101, Some((2, 300))), (301, None)]
        {
            assert_eq!(first_at_or_after(&batch, timestamp_ms), expected, "at {timestamp_ms} ms");
        }
        let mut broken = batch.to_vec();
        broken[HEADER_BYTES] = 0xff;
        assert_eq!(first_at_or_after(&broken, 0), None, "a record longer than its batch");
    }
}
