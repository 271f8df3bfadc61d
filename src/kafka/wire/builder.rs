//! Writes record batches, for the producer and for tests.

use std::io;

use bytes::Bytes;

use super::batch::{BatchHeader, RecordReader};
use super::compression::{Codec, INFLATED_BYTES_MAX, compress, decompress};
use super::varint::put_varint;
use crate::core::record::{Headers, encode_header};

/// Collects records and makes one batch of them. Usable again after each batch.
#[derive(Default)]
pub struct RecordBatchBuilder {
    /// The records, encoded and not compressed.
    body: Vec<u8>,
    record_count: i32,
    base_timestamp_ms: i64,
    max_timestamp_ms: i64,
    /// One record without its length, which comes first and depends on it.
    record: Vec<u8>,
}

impl RecordBatchBuilder {
    /// Appends a record. Header names may repeat and need not be text; a null key or value is `None`.
    pub fn append(
        &mut self,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&[u8], Option<&[u8]>)],
        timestamp_ms: i64,
    ) {
        if self.record_count == 0 {
            self.base_timestamp_ms = timestamp_ms;
            self.max_timestamp_ms = timestamp_ms;
        }
        self.max_timestamp_ms = self.max_timestamp_ms.max(timestamp_ms);
        let record = &mut self.record;
        record.clear();
        record.push(0);
        put_varint(record, timestamp_ms.wrapping_sub(self.base_timestamp_ms));
        put_varint(record, self.record_count.into());
        put_nullable_bytes(record, key);
        put_nullable_bytes(record, value);
        put_varint(record, headers.len() as i64);
        for (name, value) in headers {
            encode_header(record, name, *value);
        }
        put_varint(&mut self.body, record.len() as i64);
        self.body.extend_from_slice(record);
        self.record_count += 1;
    }

    /// Records appended since the last batch.
    pub fn len(&self) -> usize {
        self.record_count as usize
    }

    /// Whether no record was appended since the last batch.
    pub fn is_empty(&self) -> bool {
        self.record_count == 0
    }

    /// Bytes of the records, before compression.
    pub fn bytes(&self) -> usize {
        self.body.len()
    }

    /// Makes the batch, with base offset 0 (the broker sets it) and without a producer, and begins anew.
    ///
    /// # Errors
    /// When the encoder of the codec fails, which it has no reason to.
    pub fn finish(&mut self, codec: Codec) -> io::Result<Bytes> {
        Ok(self.close(codec)?.encode(Stamp::NONE))
    }

    /// Makes the batch, to be encoded later, perhaps more than once, and begins anew.
    ///
    /// # Errors
    /// As [`finish`](Self::finish).
    pub fn close(&mut self, codec: Codec) -> io::Result<ClosedBatch> {
        let header = BatchHeader {
            base_offset: 0,
            leader_epoch: -1,
            attributes: codec.attributes(),
            last_offset_delta: (self.record_count - 1).max(0),
            base_timestamp_ms: self.base_timestamp_ms,
            max_timestamp_ms: self.max_timestamp_ms,
            producer_id: Stamp::NONE.id,
            producer_epoch: Stamp::NONE.epoch,
            base_sequence: Stamp::NONE.sequence,
            record_count: self.record_count,
        };
        let body = match codec {
            Codec::None => std::mem::take(&mut self.body),
            codec => compress(codec, &self.body)?,
        };
        self.body.clear();
        self.record_count = 0;
        Ok(ClosedBatch { header, body })
    }
}

/// Who writes a batch, so that the broker recognises it when it comes again (KIP-98).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    pub id: i64,
    pub epoch: i16,
    /// The number of the batch's first record among those of this producer and epoch in the partition.
    pub sequence: i32,
}

impl Stamp {
    /// Nobody that the broker would recognise.
    pub const NONE: Stamp = Stamp { id: -1, epoch: -1, sequence: -1 };
}

/// A batch whose records are fixed and compressed, and whose writer is not.
#[derive(Debug)]
pub struct ClosedBatch {
    header: BatchHeader,
    body: Vec<u8>,
}

impl ClosedBatch {
    /// Its bytes, as written by the producer that `stamp` names.
    pub fn encode(&self, stamp: Stamp) -> Bytes {
        let Stamp { id: producer_id, epoch: producer_epoch, sequence: base_sequence } = stamp;
        let header = BatchHeader { producer_id, producer_epoch, base_sequence, ..self.header };
        Bytes::from(header.write(&self.body))
    }

    /// The same records in two builders: the first `count` of them, and the rest.
    ///
    /// # Errors
    /// When they cannot be read again, which they have no reason to.
    pub fn split_at(&self, count: usize) -> Result<[RecordBatchBuilder; 2], String> {
        let codec = Codec::from_attributes(self.header.attributes).unwrap_or_default();
        let plain = decompress(codec, &self.body, INFLATED_BYTES_MAX)?;
        let mut halves = [RecordBatchBuilder::default(), RecordBatchBuilder::default()];
        let mut reader = RecordReader::new(&plain);
        for index in 0..self.header.record_count as usize {
            let record = reader.read()?;
            let headers: Vec<_> = Headers::from_encoded(record.header_count, record.headers).iter().collect();
            let timestamp_ms = self.header.base_timestamp_ms.wrapping_add(record.timestamp_delta_ms);
            halves[usize::from(index >= count)].append(record.key, record.value, &headers, timestamp_ms);
        }
        Ok(halves)
    }
}

fn put_nullable_bytes(into: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        Some(bytes) => {
            put_varint(into, bytes.len() as i64);
            into.extend_from_slice(bytes);
        }
        None => put_varint(into, -1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kafka_protocol::records::RecordBatchDecoder;

    /// Read by somebody else's decoder; our own is tried against ours in `record_batch`.
    #[test]
    fn another_decoder_reads_the_same_records() {
        let mut builder = RecordBatchBuilder::default();
        builder.append(Some(b"key"), Some(&[7; 300]), &[(b"name", Some(b"value")), (b"null", None)], 1_700_000_000_000);
        builder.append(None, Some(b""), &[], 1_700_000_000_500);
        builder.append(Some(b""), None, &[], 1_699_999_999_000);
        assert_eq!((builder.len(), builder.is_empty()), (3, false));
        let mut bytes = builder.finish(Codec::None).unwrap();
        let records = RecordBatchDecoder::decode(&mut bytes).unwrap().records;
        let fields = |at: usize| (records[at].timestamp, records[at].key.as_deref(), records[at].value.as_deref());
        assert_eq!(records.iter().map(|record| record.offset).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(fields(0), (1_700_000_000_000, Some(&b"key"[..]), Some(&[7; 300][..])));
        assert_eq!(fields(1), (1_700_000_000_500, None, Some(&b""[..])));
        assert_eq!(fields(2), (1_699_999_999_000, Some(&b""[..]), None));
        let headers: Vec<_> =
            records[0].headers.iter().map(|(name, value)| (name.to_string(), value.as_deref())).collect();
        assert_eq!(headers, [("name".to_string(), Some(&b"value"[..])), ("null".to_string(), None)]);
    }

    #[test]
    fn a_split_batch_holds_the_same_records() {
        for codec in Codec::ALL {
            let mut builder = RecordBatchBuilder::default();
            for number in 0..5u8 {
                builder.append(
                    Some(&[number]),
                    None,
                    &[(b"h", Some(b"\xff")), (b"h", None)],
                    1_000 - i64::from(number),
                );
            }
            let halves = builder.close(codec).unwrap().split_at(2).unwrap();
            let mut expected = [RecordBatchBuilder::default(), RecordBatchBuilder::default()];
            for number in 0..5u8 {
                let half = &mut expected[usize::from(number >= 2)];
                half.append(Some(&[number]), None, &[(b"h", Some(b"\xff")), (b"h", None)], 1_000 - i64::from(number));
            }
            for (half, expected) in halves
                .into_iter()
                .zip(&mut expected)
                .map(|(mut half, expected)| (half.finish(Codec::None).unwrap(), expected.finish(Codec::None).unwrap()))
            {
                assert_eq!(half, expected, "{codec}");
            }
        }
    }

    #[test]
    fn a_builder_begins_anew_after_each_batch() {
        let mut builder = RecordBatchBuilder::default();
        let mut batch = |timestamp_ms| {
            builder.append(None, Some(b"v"), &[], timestamp_ms);
            builder.finish(Codec::None).unwrap()
        };
        assert_eq!(batch(5), batch(5));
        assert_ne!(batch(5), batch(6), "the base timestamp is the batch's own");
        assert_eq!((builder.len(), builder.bytes(), builder.is_empty()), (0, 0, true));
    }
}
