//! Fetched batches read back: made here, changed at every place, and recorded from a real Kafka.

use proptest::prelude::*;

use super::super::batch::BatchHeader;
use super::super::varint::put_varint;
use super::*;
use crate::core::record::Record;

const CONTROL_AND_TRANSACTIONAL: i16 = 0x30;
const TRANSACTIONAL: i16 = 0x10;
const LOG_APPEND_TIME: i16 = 0x08;

/// A batch of `values` from `base_offset` on, its header changed by `change`, its checksum right again.
fn batch(base_offset: i64, codec: Codec, values: &[&str], change: impl FnOnce(&mut BatchHeader)) -> Vec<u8> {
    let mut builder = RecordBatchBuilder::default();
    for value in values {
        builder.append(Some(b"k"), Some(value.as_bytes()), &[(b"h", Some(b"1"))], 1000);
    }
    let bytes = builder.finish(codec).unwrap();
    rewrite(&bytes, |header| {
        header.base_offset = base_offset;
        change(header);
    })
}

fn plain(base_offset: i64, values: &[&str]) -> Vec<u8> {
    batch(base_offset, Codec::None, values, |_| ())
}

fn rewrite(bytes: &[u8], change: impl FnOnce(&mut BatchHeader)) -> Vec<u8> {
    let batch = Batches::new(bytes).next().unwrap().unwrap();
    let mut header = batch.header;
    change(&mut header);
    header.write(batch.body())
}

/// The same header over another body.
fn with_body(bytes: &[u8], body: &[u8]) -> Vec<u8> {
    Batches::new(bytes).next().unwrap().unwrap().header.write(body)
}

fn fetched(bytes: impl Into<Bytes>) -> FetchedRecords {
    FetchedRecords { bytes: bytes.into(), aborted: vec![], isolation: Isolation::ReadCommitted, held: None }
}

/// Decodes and touches every byte of every record, so that a wrong place is a panic here.
fn decode(fetched: FetchedRecords, from: i64) -> Result<(Vec<(i64, String)>, Skipped), DecodeError> {
    let mut records = RecordBuffer::default();
    let skipped = Arc::new(fetched).decoder(from).decode_rest(&mut records)?;
    let text = |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or(b"null")).into_owned();
    let read = |record: Record<'_>| {
        assert_eq!(record.headers.iter().count(), record.headers.len(), "checked headers end early");
        (record.offset, text(record.value))
    };
    Ok(((0..records.len()).map(|index| read(records.get(index))).collect(), skipped))
}

fn offsets(bytes: Vec<u8>, from: i64) -> Vec<i64> {
    decode(fetched(bytes), from).unwrap().0.into_iter().map(|(offset, _)| offset).collect()
}

fn error(bytes: Vec<u8>) -> String {
    decode(fetched(bytes), 0).expect_err("it must be refused").to_string()
}

type Fields = (Option<Vec<u8>>, Option<Vec<u8>>, Vec<(Vec<u8>, Option<Vec<u8>>)>, i64);

fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 0..200)
}

fn any_record() -> impl Strategy<Value = Fields> {
    let header = (any_bytes(), proptest::option::of(any_bytes()));
    let nullable = || proptest::option::of(any_bytes());
    (nullable(), nullable(), proptest::collection::vec(header, 0..4), any::<i64>())
}

proptest! {
    #[test]
    fn what_the_builder_writes_is_read_back(records in proptest::collection::vec(any_record(), 1..20), codec in 0usize..5) {
        let mut builder = RecordBatchBuilder::default();
        for (key, value, headers, timestamp_ms) in &records {
            let headers: Vec<_> = headers.iter().map(|(name, value)| (&name[..], value.as_deref())).collect();
            builder.append(key.as_deref(), value.as_deref(), &headers, *timestamp_ms);
        }
        let fetched = fetched(builder.finish(Codec::ALL[codec]).unwrap());
        let mut read = RecordBuffer::default();
        prop_assert_eq!(Arc::new(fetched).decoder(0).decode_rest(&mut read), Ok(Skipped::default()));
        prop_assert_eq!(read.len(), records.len());
        for (index, (key, value, headers, timestamp_ms)) in records.iter().enumerate() {
            let record = read.get(index);
            prop_assert_eq!((record.offset, record.timestamp_ms), (index as i64, *timestamp_ms));
            prop_assert_eq!((record.key, record.value), (key.as_deref(), value.as_deref()));
            let headers: Vec<_> = headers.iter().map(|(name, value)| (&name[..], value.as_deref())).collect();
            prop_assert_eq!(record.headers.iter().collect::<Vec<_>>(), headers);
        }
    }
}

#[test]
fn a_fetch_may_mix_codecs_and_begin_below_what_was_asked_for() {
    let mut log = Vec::new();
    for (index, codec) in [Codec::None, Codec::None, Codec::Zstd, Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4]
        .into_iter()
        .enumerate()
    {
        log.extend(batch(10 * index as i64, codec, &["a", "b", "c"], |_| ()));
    }
    let all: Vec<i64> = (0..7).flat_map(|batch| [10 * batch, 10 * batch + 1, 10 * batch + 2]).collect();
    for from in [0, 1, 2, 3, 9, 10, 21, 42, 62, 63, 1000] {
        let expected: Vec<i64> = all.iter().copied().filter(|offset| *offset >= from).collect();
        assert_eq!(offsets(log.clone(), from), expected, "from {from}");
        let survey = survey(&log, from).unwrap();
        assert_eq!((survey.next_offset, survey.batches), (from.max(63), 7), "from {from}");
        assert!(survey.records_max >= expected.len() && survey.records_max <= expected.len() + 2, "from {from}");
    }
    let (records, _) = decode(fetched(log), 31).unwrap();
    assert_eq!(records[..2], [(31, "b".to_string()), (32, "c".to_string())]);
}

#[test]
fn a_cut_off_last_batch_ends_the_walk_at_every_byte() {
    let first = plain(0, &["a", "b"]);
    let log = [first.clone(), plain(2, &["c"])].concat();
    for cut in first.len()..log.len() {
        assert_eq!(offsets(log[..cut].to_vec(), 0), [0, 1], "cut at {cut}");
        let survey = survey(&log[..cut], 0).unwrap();
        let needed = (cut > first.len() + 16).then_some(log.len() - first.len());
        assert_eq!((survey.next_offset, survey.batches, survey.cut_off_bytes), (2, 1, needed), "cut at {cut}");
    }
    for cut in 0..first.len() {
        assert_eq!(survey(&first[..cut], 7).unwrap().next_offset, 7, "cut at {cut}");
    }
}

#[test]
fn compaction_leaves_empty_batches_and_gaps() {
    let empty = rewrite(&with_body(&plain(0, &["x"]), b""), |header| {
        header.record_count = 0;
        header.last_offset_delta = 9;
    });
    let wide = batch(10, Codec::None, &["a", "b"], |header| header.last_offset_delta = 89);
    let log = [empty.clone(), wide, plain(200, &["c"])].concat();
    assert_eq!(offsets(log.clone(), 0), [10, 11, 200]);
    assert_eq!(survey(&log, 0).unwrap().next_offset, 201);
    let nothing = survey(&empty, 4).unwrap();
    assert_eq!((nothing.next_offset, nothing.records_max), (10, 0), "the next fetch must move on");
}

#[test]
fn log_append_time_is_the_batchs_and_create_time_the_records() {
    for (attributes, expected) in [(0, 1000), (LOG_APPEND_TIME, 5000)] {
        let bytes = batch(0, Codec::None, &["a"], |header| {
            header.attributes |= attributes;
            header.max_timestamp_ms = 5000;
        });
        let mut records = RecordBuffer::default();
        Arc::new(fetched(bytes)).decoder(0).decode_rest(&mut records).unwrap();
        assert_eq!(records.get(0).timestamp_ms, expected, "attributes {attributes}");
    }
}

/// Two producers interleaved: producer 1 aborts, then commits; producer 2 aborts; a plain batch stands between.
fn transactions() -> FetchedRecords {
    let transactional = |offset, producer_id, values: &[&str]| {
        batch(offset, Codec::None, values, |header| {
            header.attributes |= TRANSACTIONAL;
            header.producer_id = producer_id;
        })
    };
    let marker = |offset, producer_id| {
        batch(offset, Codec::None, &["marker"], |header| {
            header.attributes |= CONTROL_AND_TRANSACTIONAL;
            header.producer_id = producer_id;
        })
    };
    let log = [
        transactional(0, 1, &["aborted", "aborted"]),
        transactional(2, 2, &["aborted"]),
        plain(3, &["plain"]),
        marker(4, 1),
        transactional(5, 1, &["committed"]),
        transactional(6, 2, &["aborted"]),
        marker(7, 1),
        marker(8, 2),
        transactional(9, 2, &["committed"]),
        marker(10, 2),
    ]
    .concat();
    let aborted = vec![Aborted { producer_id: 2, first_offset: 2 }, Aborted { producer_id: 1, first_offset: 0 }];
    FetchedRecords { aborted, ..fetched(log) }
}

#[test]
fn read_committed_leaves_out_markers_and_what_was_aborted() {
    let visible = [(3, "plain"), (5, "committed"), (9, "committed")];
    for from in 0..12 {
        let (records, skipped) = decode(transactions(), from).unwrap();
        let expected: Vec<_> =
            visible.iter().filter(|(offset, _)| *offset >= from).map(|(o, v)| (*o, v.to_string())).collect();
        assert_eq!(records, expected, "from {from}");
        let count = |offsets: &[i64]| offsets.iter().filter(|offset| **offset >= from).count() as u64;
        let expected = Skipped { control: count(&[4, 7, 8, 10]), aborted: count(&[0, 1, 2, 6]) };
        assert_eq!(skipped, expected, "from {from}");
    }
}

#[test]
fn a_fetch_may_begin_within_an_aborted_transaction() {
    let whole = transactions();
    let start = Batches::new(&whole.bytes).map(Result::unwrap).find(|batch| batch.header.base_offset == 6).unwrap();
    let aborted = vec![Aborted { producer_id: 2, first_offset: 2 }];
    let fetched = FetchedRecords { aborted, ..fetched(whole.bytes.slice(start.position..)) };
    let (records, skipped) = decode(fetched, 6).unwrap();
    assert_eq!(records, [(9, "committed".to_string())]);
    assert_eq!(skipped, Skipped { control: 3, aborted: 1 });
}

#[test]
fn read_uncommitted_leaves_out_markers_only() {
    let fetched = FetchedRecords { isolation: Isolation::ReadUncommitted, ..transactions() };
    let (records, skipped) = decode(fetched, 0).unwrap();
    assert_eq!(records.len(), 7);
    assert_eq!(skipped, Skipped { control: 4, aborted: 0 });
}

#[test]
fn a_flipped_bit_anywhere_is_noticed() {
    let bytes = plain(0, &["some value", "another"]);
    // Base offset and leader epoch are the broker's to change and outside the checksum.
    for at in (8..12).chain(16..bytes.len()) {
        let mut broken = bytes.clone();
        broken[at] ^= 1;
        let result = decode(fetched(broken), 0);
        let is_cut_off = result.as_ref().is_ok_and(|(records, _)| records.is_empty());
        assert!(result.is_err() || (at < 12 && is_cut_off), "byte {at}: {result:?}");
    }
}

#[test]
fn headers_that_make_no_sense_are_refused() {
    let values = ["a", "b"];
    let with = |change: fn(&mut BatchHeader)| batch(5, Codec::None, &values, change);
    for (bytes, field) in [
        (with(|header| header.base_offset = -1), "base offset"),
        (with(|header| header.base_offset = i64::MAX), "last offset delta"),
        (with(|header| header.last_offset_delta = -1), "last offset delta"),
        (with(|header| header.last_offset_delta = 0), "record count"),
        (with(|header| header.record_count = -1), "record count"),
        (with(|header| header.record_count = 1), "record count"),
        (with(|header| header.record_count = i32::MAX), "record count"),
        (with(|header| (header.record_count, header.last_offset_delta) = (3, 3)), "record length of record 2"),
        (with(|header| header.attributes = 5), "attributes: 5"),
        (with(|header| header.attributes = 1), "gzip data"),
    ] {
        let text = error(bytes);
        assert!(text.contains(field), "{field}: {text}");
    }
    assert!(error([plain(5, &["a"]), plain(5, &["b"])].concat()).contains("must be 6 or higher"));
}

#[test]
fn batch_lengths_are_checked() {
    for (length, refused) in [(-1, true), (0, true), (i32::MIN, true), (48, true), (i32::MAX, false)] {
        let mut bytes = plain(0, &["a"]);
        bytes[8..12].copy_from_slice(&i32::to_be_bytes(length));
        let result = decode(fetched(bytes.clone()), 0);
        assert_eq!(result.is_err(), refused, "length {length}: {result:?}");
        assert_eq!(survey(&bytes, 0).is_err(), refused, "length {length}");
    }
}

#[test]
fn old_message_formats_are_named() {
    for magic in [0, 1] {
        let mut bytes = plain(0, &["a"]);
        bytes[16] = magic;
        let text = error(bytes);
        assert!(text.contains("message.format.version") && text.contains("before Kafka 0.11"), "{text}");
    }
}

/// Each number of a record set to each extreme, with the record's own length and the checksum right.
#[test]
fn every_length_in_a_record_is_checked() {
    let honest: [(&str, i64, &[u8]); 7] = [
        ("timestamp delta", 0, b""),
        ("offset delta", 0, b""),
        ("key length", 1, b"k"),
        ("value length", 5, b"value"),
        ("header count", 1, b""),
        ("header name length", 4, b"name"),
        ("header value length", 2, b"v1"),
    ];
    for (lying, (field, _, _)) in honest[1..].iter().enumerate() {
        for lie in [-1, 0, 1 << 20, i64::from(i32::MAX), i64::from(u32::MAX), i64::MAX, i64::MIN] {
            let mut record = vec![0];
            for (at, (_, number, bytes)) in honest.iter().enumerate() {
                put_varint(&mut record, if at == lying + 1 { lie } else { *number });
                record.extend_from_slice(bytes);
            }
            let mut body = Vec::new();
            put_varint(&mut body, record.len() as i64);
            body.extend(record);
            let result = decode(fetched(with_body(&plain(0, &["x"]), &body)), 0);
            // An offset delta of 0 is the honest one.
            assert!(result.is_err() || (*field == "offset delta" && lie == 0), "{field} {lie}: {result:?}");
        }
    }
}

#[test]
fn record_lengths_and_offset_order_are_checked() {
    let bytes = plain(0, &["a", "b"]);
    let body = &bytes[HEADER_BYTES..];
    for cut in 0..body.len() {
        assert!(decode(fetched(with_body(&bytes, &body[..cut])), 0).is_err(), "cut at {cut}");
    }
    let first = &body[..body.len() / 2];
    assert!(error(with_body(&bytes, &[first, first].concat())).contains("offset delta of record 1"));
    for length in [-1, 0, 1, i64::from(i32::MAX), i64::MAX] {
        let mut body = Vec::new();
        put_varint(&mut body, length);
        body.extend_from_slice(&first[1..]);
        assert!(decode(fetched(with_body(&plain(0, &["a"]), &body)), 0).is_err(), "length {length}");
    }
}

/// Mutated bodies with a right checksum, so that the parser behind it is what is tried. Nothing may panic.
#[test]
fn seeded_mutations_never_panic() {
    let mut seed = 0x6b6f_6e65_6b74u64;
    let mut random = move |below: usize| {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (seed >> 33) as usize % below
    };
    let mut refused = 0;
    for round in 0..20_000 {
        let codec = Codec::ALL[round % 5];
        let bytes = batch(3, codec, &["first value", "second value", "third"], |_| ());
        let mut body = bytes[HEADER_BYTES..].to_vec();
        for _ in 0..=random(3) {
            let at = random(body.len());
            body[at] = [0, 1, 0x7f, 0x80, 0xff, random(256) as u8][random(6)];
        }
        refused += usize::from(decode(fetched(with_body(&bytes, &body)), 0).is_err());
    }
    assert!(refused > 5_000, "only {refused} of 20000 mutations were refused");
}

#[test]
fn noise_never_panics() {
    proptest!(|(noise in proptest::collection::vec(any::<u8>(), 0..200))| {
        let _ = survey(&noise, 0);
        let _ = decode(fetched(noise), 0);
    });
}

/// What the Java client 4.4 wrote to a Kafka 4.4 and a Fetch v17 brought back. Record `i` has the key `key-{i}`, or
/// null for every third, and three headers if `i` is even.
fn recorded(bytes: &'static [u8], aborted: &[(i64, i64)]) -> RecordBuffer {
    let aborted = aborted
        .iter()
        .map(|(producer_id, first_offset)| Aborted { producer_id: *producer_id, first_offset: *first_offset });
    let fetched = FetchedRecords { aborted: aborted.collect(), ..fetched(bytes) };
    let mut records = RecordBuffer::default();
    Arc::new(fetched).decoder(0).decode_rest(&mut records).unwrap();
    records
}

#[test]
fn every_codec_of_the_java_client_is_read() {
    let records = recorded(include_bytes!("../../../../tests/fixtures/java-codecs.bin"), &[]);
    assert_eq!(records.len(), 100, "20 records in each of none, gzip, snappy, lz4 and zstd");
    for index in 0..100 {
        let record = records.get(index);
        assert_eq!((record.offset, record.timestamp_ms), (index as i64, 1_700_000_000_000 + index as i64));
        let key = format!("key-{index}");
        assert_eq!(record.key, (index % 3 != 0).then_some(key.as_bytes()), "record {index}");
        let value = format!("value {index} {}", "x".repeat(index));
        let value = [Some(value.as_bytes()), None, Some(b"")][match index % 20 {
            7 => 1,
            8 => 2,
            _ => 0,
        }];
        assert_eq!(record.value, value, "record {index}");
        let first = format!("v{index}");
        let headers: [(&[u8], Option<&[u8]>); 3] = [(b"h", Some(first.as_bytes())), (b"h", None), (b"", Some(b""))];
        let expected = if index % 2 == 0 { &headers[..] } else { &[] };
        assert_eq!(record.headers.iter().collect::<Vec<_>>(), expected, "record {index}");
    }
}

#[test]
fn log_append_time_of_a_real_broker_is_read() {
    let records = recorded(include_bytes!("../../../../tests/fixtures/java-log-append-time.bin"), &[]);
    let times: Vec<i64> = (0..records.len()).map(|index| records.get(index).timestamp_ms).collect();
    assert_eq!(times, [1_795_494_704_832; 3]);
}

#[test]
fn transactions_of_a_real_broker_are_read() {
    let bytes = include_bytes!("../../../../tests/fixtures/java-transactions.bin");
    let records = recorded(bytes, &[(8, 9), (7, 0)]);
    let read = |index| {
        let record = records.get(index);
        (record.offset, str::from_utf8(record.value.unwrap()).unwrap())
    };
    let read: Vec<_> = (0..records.len()).map(read).collect();
    assert_eq!(read, [(2, "committed-2"), (3, "plain"), (5, "committed-1"), (6, "committed-2"), (11, "plain")]);
    assert_eq!(survey(bytes, 0).unwrap().next_offset, 12);
}

#[test]
fn what_stands_before_a_header_that_makes_no_sense_is_read_first() {
    let (first, second) = (plain(0, &["a", "b"]), plain(2, &["c"]));
    let mut bytes = [&first[..], &second].concat();
    bytes[first.len() + 16] = 1;
    let before = survey(&bytes, 0).unwrap();
    assert_eq!((before.next_offset, before.batches, before.bytes), (2, 1, first.len()));
    assert!(survey(&bytes, 2).unwrap_err().what.contains("magic: 1"));
    assert_eq!(offsets(bytes[..before.bytes].to_vec(), 0), [0, 1]);
}
