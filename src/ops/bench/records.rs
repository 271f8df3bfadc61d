//! Records of a given size, fast: [`orders`](crate::ops::orders) with a note that fills them up. The same seed and number
//! give the same record, always.

use std::fmt::Write;
use std::ops::Range;

use bytes::Bytes;

use crate::core::backoff::Chance;
use crate::core::record::{Extent, RecordBuffer, Span};
use crate::kafka::wire::compression::Codec;
use crate::kafka::wire::record_batch::RecordBatchBuilder;
use crate::ops::orders::Order;

/// The smallest value that is still JSON with a number in it.
pub const VALUE_BYTES_MIN: usize = 64;
/// Orders between one seed's first and the next one's.
const PER_SEED: u64 = 1_000_000_000;
/// A batch in a topic, as a producer makes them.
const BATCH_RECORDS: usize = 500;
const BATCH_BYTES: usize = 512 << 10;
/// So many bytes of different values are enough that no cache holds them all.
const POOL_BYTES: usize = 16 << 20;
const POOL_RECORDS: usize = 16 << 10;

/// Makes one record after the other.
pub struct Generator {
    first: u64,
    value_bytes: usize,
    order: Order,
}

impl Generator {
    /// Records whose values have so many bytes, [`VALUE_BYTES_MIN`] at least.
    pub fn new(seed: u64, value_bytes: usize) -> Self {
        Self { first: seed * PER_SEED, value_bytes: value_bytes.max(VALUE_BYTES_MIN), order: Order::default() }
    }

    /// Record number `number`: an order, with a note where there is room, or a short form of it.
    pub fn record(&mut self, number: u64) -> &Order {
        let number = self.first + number;
        self.order.fill(number);
        let value = &mut self.order.value;
        value.pop();
        if value.len() + r#","note":""}"#.len() > self.value_bytes {
            value.clear();
            // Writing into a string cannot fail.
            let _ = write!(value, r#"{{"order":{number}"#);
        }
        value.push_str(r#","note":""#);
        let end = self.value_bytes - r#""}"#.len();
        let mut chance = Chance::seeded(number);
        while value.len() < end {
            let digits = hexadecimal(chance.draw());
            let part = &digits[..digits.len().min(end - value.len())];
            value.extend(part.iter().map(|digit| char::from(*digit)));
        }
        value.push_str(r#""}"#);
        &self.order
    }
}

/// Half of what such text takes is chance: compressed it is about half as long.
fn hexadecimal(drawn: u64) -> [u8; 16] {
    std::array::from_fn(|at| b"0123456789abcdef"[(drawn >> (4 * at) & 0xf) as usize])
}

/// Record batches of the records `numbers`, `batch_records` in each (and half a megabyte, as producers make them).
pub fn batches(
    generator: &mut Generator,
    numbers: Range<u64>,
    batch_records: usize,
    codec: Codec,
) -> impl Iterator<Item = Bytes> {
    let mut numbers = numbers.peekable();
    let mut builder = RecordBatchBuilder::default();
    std::iter::from_fn(move || {
        numbers.peek()?;
        while builder.len() < batch_records && (builder.is_empty() || builder.bytes() < BATCH_BYTES) {
            let Some(number) = numbers.next() else { break };
            let order = generator.record(number);
            builder.append(Some(order.key.as_bytes()), Some(order.value.as_bytes()), &[], order.timestamp_ms);
        }
        Some(builder.finish(codec).expect("the encoders write to memory, which takes every byte"))
    })
}

/// The batches of a topic.
pub fn topic_batches(generator: &mut Generator, numbers: Range<u64>, codec: Codec) -> impl Iterator<Item = Bytes> {
    batches(generator, numbers, BATCH_RECORDS, codec)
}

/// Different records, to be taken again and again: what a sink is given when only the sink is to be measured.
pub struct Pool {
    text: String,
    records: Vec<Place>,
}

/// Where a record lies in the pool's text: its key, and behind that its value.
struct Place {
    key: usize,
    value: usize,
    end: usize,
    timestamp_ms: i64,
}

impl Pool {
    /// At most `count` records.
    pub fn new(seed: u64, value_bytes: usize, count: usize) -> Self {
        let mut generator = Generator::new(seed, value_bytes);
        let (mut text, mut records) = (String::new(), Vec::new());
        for number in 0..count.clamp(1, POOL_RECORDS) as u64 {
            let order = generator.record(number);
            let (key, value) = (text.len(), text.len() + order.key.len());
            text.push_str(&order.key);
            text.push_str(&order.value);
            records.push(Place { key, value, end: text.len(), timestamp_ms: order.timestamp_ms });
            if text.len() >= POOL_BYTES {
                break;
            }
        }
        Self { text, records }
    }

    /// Key and value of a record; behind the last one they begin anew.
    pub fn text(&self, index: usize) -> (&str, &str) {
        let place = &self.records[index % self.records.len()];
        (&self.text[place.key..place.value], &self.text[place.value..place.end])
    }

    /// `count` records as a source hands them over, with offsets from 0 on.
    pub fn buffer(&self, count: usize) -> RecordBuffer {
        let whole = Bytes::from(self.text.clone());
        let extent = |from: usize, to: usize| Extent::of(&whole, Some(&whole[from..to]));
        let mut buffer = RecordBuffer::default();
        buffer.push_buffer(whole.clone());
        for (offset, place) in (0..count as i64).zip(self.records.iter().cycle()) {
            buffer.push(Span {
                offset,
                timestamp_ms: place.timestamp_ms,
                key: extent(place.key, place.value),
                value: extent(place.value, place.end),
                headers: Extent::ABSENT,
                header_count: 0,
            });
        }
        buffer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_has_its_size_and_is_json_and_the_same_each_time() {
        for value_bytes in [64, 100, 199, 200, 210, 230, 1_000, 100_000] {
            let mut generator = Generator::new(7, value_bytes);
            let mut again = Generator::new(7, value_bytes);
            for number in [0, 1, 12_345_678] {
                let order = generator.record(number).clone();
                assert_eq!(&order, again.record(number), "{value_bytes} bytes, record {number}");
                assert_eq!(order.value.len(), value_bytes, "{}", order.value);
                let value: serde_json::Value = serde_json::from_str(&order.value).expect(&order.value);
                assert_eq!(value["order"], 7 * PER_SEED + number);
            }
        }
        assert_ne!(Generator::new(1, 200).record(0), Generator::new(2, 200).record(0));
    }

    #[test]
    fn batches_hold_all_records_once() {
        let mut generator = Generator::new(1, 100);
        let sizes: Vec<usize> = batches(&mut generator, 0..25, 10, Codec::Lz4).map(|batch| batch.len()).collect();
        assert_eq!(sizes.len(), 3, "{sizes:?}");
        assert!(sizes[2] < sizes[0], "{sizes:?}");
        let mut generator = Generator::new(1, 300_000);
        assert_eq!(topic_batches(&mut generator, 0..10, Codec::None).count(), 5, "two records fill half a megabyte");
    }

    #[test]
    fn a_pool_gives_as_many_records_as_are_wanted() {
        let pool = Pool::new(1, 200, 10);
        let records = pool.buffer(25);
        assert_eq!((records.len(), records.get(24).offset), (25, 24));
        assert_eq!(records.get(3).value, records.get(13).value);
        let (key, value) = pool.text(13);
        assert_eq!((records.get(3).key, records.get(3).value), (Some(key.as_bytes()), Some(value.as_bytes())));
        assert_eq!(value.len(), 200);
    }
}
