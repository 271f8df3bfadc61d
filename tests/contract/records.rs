//! Records made by hand.

use bytes::Bytes;
use konekt::core::record::RecordBuffer;
use konekt::core::record::{Extent, Span, encode_header};
use konekt::port::{Claim, PositionMove, Write};
use konekt::{MessageBatch, RecordIds, TopicPartition};

pub const GROUP: &str = "g";

type Header<'a> = (&'a [u8], Option<&'a [u8]>);

/// Key, value and headers of one record.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sample<'a> {
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    pub headers: &'a [Header<'a>],
}

/// A partition with records to write from it.
pub struct Log {
    pub partition: TopicPartition,
    pub first: i64,
    pub records: RecordBuffer,
}

impl Log {
    /// Records at `first`, `first + 1`, …
    pub fn of(partition: &TopicPartition, first: i64, samples: &[Sample<'_>]) -> Self {
        let mut records = RecordBuffer::default();
        for (index, sample) in samples.iter().enumerate() {
            push(&mut records, first + index as i64, sample);
        }
        Self { partition: partition.clone(), first, records }
    }

    /// `count` small records.
    pub fn plain(partition: &TopicPartition, first: i64, count: usize) -> Self {
        let values: Vec<String> = (0..count).map(|index| format!("value {}", first + index as i64)).collect();
        let samples: Vec<Sample<'_>> = values
            .iter()
            .map(|value| Sample { key: Some(b"k"), value: Some(value.as_bytes()), headers: &[] })
            .collect();
        Self::of(partition, first, &samples)
    }

    pub fn end(&self) -> i64 {
        self.first + self.records.len() as i64
    }

    pub fn batch(&self) -> MessageBatch<'_> {
        MessageBatch::new(&self.partition, &self.records, 0..self.records.len())
    }

    /// All records, moving the position as its owner of `epoch`.
    pub fn write(&self, epoch: i64) -> Write<'_> {
        let step =
            PositionMove { owner_epoch: epoch, expected: self.first, next: self.end(), skipped: 0, dead_lettered: 0 };
        Write { position: Some(step), ..self.write_without_position() }
    }

    pub fn write_without_position(&self) -> Write<'_> {
        Write { batch: self.batch(), ids: RecordIds::new(GROUP, &self.partition), position: None, aside: None }
    }
}

pub fn claim(partition: &TopicPartition, start_if_absent: Option<i64>) -> Claim {
    Claim { partition: partition.clone(), start_if_absent, cluster_id: None, topic_id: None }
}

fn push(records: &mut RecordBuffer, offset: i64, sample: &Sample<'_>) {
    let mut headers = Vec::new();
    for (name, value) in sample.headers {
        encode_header(&mut headers, name, *value);
    }
    let (key, value) = (sample.key.unwrap_or_default(), sample.value.unwrap_or_default());
    let whole = Bytes::from([key, value, &headers].concat());
    let (key_end, value_end) = (key.len(), key.len() + value.len());
    records.push_buffer(whole.clone());
    records.push(Span {
        offset,
        timestamp_ms: 1_700_000_000_000 + offset,
        key: Extent::of(&whole, sample.key.map(|_| &whole[..key_end])),
        value: Extent::of(&whole, sample.value.map(|_| &whole[key_end..value_end])),
        headers: Extent::of(&whole, Some(&whole[value_end..])),
        header_count: sample.headers.len() as u32,
    });
}
