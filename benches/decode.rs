//! Records per second out of fetched bytes: ours per codec, and beside `kafka-protocol`'s decoder where that can read
//! them (its codecs are features we do not build).
//!
//! `cargo bench --bench decode`

mod support;

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use kafka_protocol::records::RecordBatchDecoder;
use konekt::core::record::{Encoded, RecordBuffer};
use konekt::kafka::offsets::Isolation;
use konekt::kafka::wire::compression::Codec;
use konekt::kafka::wire::record_batch::FetchedRecords;
use konekt::ops::bench::records::{self, Generator};

const RECORDS_PER_BATCH: u64 = 500;
const BATCHES: u64 = 200;

fn main() {
    println!(
        "{} records of about 200 bytes in batches of {RECORDS_PER_BATCH}, one thread",
        RECORDS_PER_BATCH * BATCHES
    );
    for codec in Codec::ALL {
        let bytes = batches(codec);
        let (seconds, _, _) = support::paired(9, || ours(&bytes), || ());
        report(&format!("konekt, {codec}"), seconds, &format!("{:.1} MB", bytes.len() as f64 / 1e6));
    }
    let bytes = batches(Codec::None);
    let (us, them, ratio) = support::paired(9, || ours(&bytes), || theirs(&bytes));
    report("konekt, none, paired", us, "");
    report("kafka-protocol, none", them, &format!("takes {:.1} times as long", 1.0 / ratio));
}

fn report(name: &str, seconds: f64, note: &str) {
    let rate = (RECORDS_PER_BATCH * BATCHES) as f64 / seconds / 1e6;
    println!("{name:24} {rate:7.2} M records/s  {note}");
}

/// Batches as a broker stores them, one after the other.
fn batches(codec: Codec) -> Bytes {
    let mut generator = Generator::new(0, 200);
    let batches = records::batches(&mut generator, 0..RECORDS_PER_BATCH * BATCHES, RECORDS_PER_BATCH as usize, codec);
    let mut all = BytesMut::new();
    for (index, batch) in (0..).zip(batches) {
        let mut bytes = BytesMut::from(&batch[..]);
        let base_offset: u64 = index * RECORDS_PER_BATCH;
        bytes[..8].copy_from_slice(&base_offset.to_be_bytes());
        all.extend_from_slice(&bytes);
    }
    all.freeze()
}

fn ours(bytes: &Bytes) {
    let fetched =
        FetchedRecords { bytes: bytes.clone(), aborted: Vec::new(), isolation: Isolation::ReadCommitted, held: None };
    let mut records = RecordBuffer::default();
    Arc::new(fetched).decoder(0).decode_rest(&mut records).expect("the batches are good");
    let touched: usize = (0..records.len()).map(|index| records.get(index).value.map_or(0, <[u8]>::len)).sum();
    assert!(records.len() as u64 == RECORDS_PER_BATCH * BATCHES && touched > 0);
}

fn theirs(bytes: &Bytes) {
    let mut rest = bytes.clone();
    let (mut count, mut touched) = (0, 0);
    while !rest.is_empty() {
        let set = RecordBatchDecoder::decode(&mut rest).expect("the batches are good");
        count += set.records.len() as u64;
        touched += set.records.iter().map(|record| record.value.as_ref().map_or(0, Bytes::len)).sum::<usize>();
    }
    assert!(count == RECORDS_PER_BATCH * BATCHES && touched > 0);
}
