//! What Kafka's Java client and librdkafka write, each client reads, byte for byte: every codec, every shape of key, value
//! and header, both kinds of timestamp, transactions with aborted ones between. Each record is compared with what was
//! sent, once as a line of JSON and once as a row.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use konekt::Client;
use konekt::source::client::Ability;
use serde_json::{Value, json};

use crate::records::{BROKERS_TIME, Position, SENT_AT, Sent, compare, read_line, read_rows};
use crate::support::kafka::{self, RealKafka};
use crate::support::konekt::{Finished, Konekt, Place};
use crate::support::or_skip;
use crate::support::random::Random;
use crate::{clients, reads};

const PARTITIONS: u32 = 3;
/// The codecs of a topic's writes in turn, by its name.
const TOPICS: [(&str, &[&str]); 7] = [
    ("none", &["none"]),
    ("gzip", &["gzip"]),
    ("snappy", &["snappy"]),
    ("lz4", &["lz4"]),
    ("zstd", &["zstd"]),
    ("mixed", &["none", "gzip", "none", "none", "snappy"]),
    (BROKER_TIME, &["gzip"]),
];
/// The topic whose records carry the broker's time.
const BROKER_TIME: &str = "broker-time";
/// So little that most batches must be asked for anew.
const FETCH_BYTES: &str = "16KiB";

#[test]
fn the_newest_kafka_holds_what_java_wrote() {
    let Some(kafka) = or_skip(kafka::newest()) else { return };
    check(kafka, "java", &|command| Ok(kafka.java(command)));
}

#[test]
fn the_newest_kafka_holds_what_librdkafka_wrote() {
    let Some(kafka) = or_skip(kafka::newest()) else { return };
    check(kafka, "librdkafka", &|command| kafka.librdkafka(command));
}

#[test]
fn the_oldest_kafka_holds_what_java_wrote() {
    let Some(kafka) = or_skip(kafka::oldest()) else { return };
    check(kafka, "java", &|command| Ok(kafka.java(command)));
}

#[test]
fn the_oldest_kafka_holds_what_librdkafka_wrote() {
    let Some(kafka) = or_skip(kafka::oldest()) else { return };
    check(kafka, "librdkafka", &|command| kafka.librdkafka(command));
}

/// Takes a `write` command to a client that carries it out.
type Writer<'a> = dyn Fn(&Value) -> Result<Value, String> + 'a;

/// What is in a topic: each record, and whether its transaction was committed.
type Written = BTreeMap<Position, (Sent, bool)>;

fn check(kafka: &RealKafka, name: &str, writer: &Writer) {
    for (kind, codecs) in TOPICS {
        let topic = format!("{name}-{kind}");
        let time = if kind == BROKER_TIME { "LogAppendTime" } else { "CreateTime" };
        kafka.create_topic(&topic, PARTITIONS, &[("message.timestamp.type", time)]);
        let Some(written) = or_skip(write_topic(writer, &topic, codecs)) else { return };
        for client in clients().filter(|client| reads(*client, kafka.version())) {
            let stops = ["lz4", "zstd"].contains(&kind) && !client.delivers(Ability::NewCodecs).is_yes();
            read_topic(kafka, &topic, client, &written, stops);
        }
    }
}

fn read_topic(kafka: &RealKafka, topic: &str, client: Client, written: &Written, stops: bool) {
    let place = Place::new();
    let name = client.name();
    let ended = |run: Konekt| -> Finished {
        let run = run.arguments(&["--client", name, "--max-partition-fetch-bytes", FETCH_BYTES]).run();
        match stops {
            true => run.expect_code(1).expect_stderr("cannot be read by --client"),
            false => run.expect_code(0),
        }
    };
    let lines = ended(place.consume(kafka, topic, &format!("{topic}-{name}-lines"))).stdout;
    ended(place.sink(kafka, topic, &format!("{topic}-{name}-rows")).arguments(&["--until-end"]));
    if stops {
        return;
    }
    let all_seen = !client.delivers(Ability::Committed).is_yes();
    let seen = written.iter().filter(|(_, (_, committed))| *committed || all_seen);
    let seen: BTreeMap<_, _> = seen.map(|(at, (sent, _))| (at.clone(), sent.clone().read_by(client))).collect();
    let what = format!("{topic} by {name} as");
    compare(&format!("{what} lines of JSON"), &seen, lines.lines().map(read_line).collect());
    let flat = seen.into_iter().map(|(position, record)| (position, record.into_table_form())).collect();
    compare(&format!("{what} rows"), &flat, read_rows(&place));
}

// ---- what is written

/// Fills a topic by plain writes and transactions in turn.
fn write_topic(writer: &Writer, topic: &str, codecs: &[&str]) -> Result<Written, String> {
    let mut written = Written::new();
    let mut random = Random::seeded(topic.len() as u64);
    for (nth, (end, records)) in [
        (None, every_shape(&mut random)),
        (Some("commit"), numbered(&mut random, 40)),
        (Some("abort"), numbered(&mut random, 30)),
        (None, numbered(&mut random, 500)),
        (Some("abort"), numbered(&mut random, 1)),
        (Some("commit"), every_shape(&mut random)),
        (None, giants(&mut random)),
        (Some("abort"), numbered(&mut random, 5)),
    ]
    .into_iter()
    .enumerate()
    {
        let sent: Vec<Value> = records.iter().enumerate().map(|(nth, record)| command_of(nth, record)).collect();
        let codec = codecs[nth % codecs.len()];
        let command = json!({"do": "write", "topic": topic, "codec": codec, "transaction": end, "records": sent});
        let places = writer(&command)?["places"].clone();
        let places: Vec<(i64, i64, i64)> = serde_json::from_value(places).expect("partition, offset, timestamp");
        assert_eq!(places.len(), records.len(), "{topic}: a place for each record");
        for ((partition, offset, timestamp), record) in places.into_iter().zip(records) {
            // librdkafka reports the time it sent where the broker sets its own: the broker's is checked for sense alone
            let timestamp = if topic.ends_with(BROKER_TIME) { BROKERS_TIME } else { timestamp };
            let record = Sent { timestamp, ..record };
            written.insert((topic.to_owned(), partition, offset), (record, end != Some("abort")));
        }
    }
    Ok(written)
}

fn command_of(nth: usize, record: &Sent) -> Value {
    let bytes = |bytes: &Option<Vec<u8>>| bytes.as_ref().map(|bytes| BASE64.encode(bytes));
    let headers: Vec<Value> = record.headers.iter().map(|(name, value)| json!([name, bytes(value)])).collect();
    json!({"partition": nth % PARTITIONS as usize, "key": bytes(&record.key), "value": bytes(&record.value),
        "headers": headers, "timestamp": record.timestamp})
}

/// Each kind of key with each kind of value, with each kind of header in turn.
fn every_shape(random: &mut Random) -> Vec<Sent> {
    let parts = [
        None,
        Some(b"".to_vec()),
        Some(b"plain".to_vec()),
        Some("Grüße, 世界 🦀 \u{1}\"\\\n".as_bytes().to_vec()),
        Some(b"nul\0in the middle".to_vec()),
        Some(b"{\"json\": [1, 2.50, null]}".to_vec()),
        Some(vec![0xff, 0xfe, 0x00, 0x80]),
        Some(b"almost text \xc3".to_vec()),
        Some(random.bytes(1_000)),
    ];
    let headers = every_header();
    let mut records = Vec::new();
    for key in &parts {
        for value in &parts {
            let headers = headers[records.len() % headers.len()].clone();
            let timestamp = SENT_AT + records.len() as i64;
            records.push(Sent { key: key.clone(), value: value.clone(), headers, timestamp });
        }
    }
    records
}

fn every_header() -> Vec<Vec<(String, Option<Vec<u8>>)>> {
    let header = |name: &str, value: Option<&[u8]>| (name.to_owned(), value.map(<[u8]>::to_vec));
    vec![
        vec![],
        vec![header("one", Some(b"1"))],
        vec![header("null", None), header("empty", Some(b"")), header("", Some(b"no name"))],
        vec![header("twice", Some(b"first")), header("between", Some(b"x")), header("twice", Some(b"second"))],
        vec![header("twice", None), header("twice", Some(b"\xff\xfe")), header("Schlüssel", Some("schön".as_bytes()))],
        vec![header("bytes", Some(b"\x00\x9f\x92\x96")), header("a/b~c", Some(b"\xc3"))],
    ]
}

fn numbered(random: &mut Random, count: usize) -> Vec<Sent> {
    (0..count)
        .map(|nth| Sent {
            key: Some(format!("key {nth}").into_bytes()),
            value: Some(format!("{{\"nth\":{nth},\"noise\":{}}}", random.next()).into_bytes()),
            headers: vec![],
            timestamp: SENT_AT + nth as i64,
        })
        .collect()
}

/// 900 KB that nothing shrinks, and 900 KB that shrink to almost nothing.
fn giants(random: &mut Random) -> Vec<Sent> {
    let noise = random.bytes(900_000);
    let words = b"the same words again and again, ".repeat(900_000 / 32);
    [noise, words]
        .map(|value| Sent { key: None, value: Some(value), headers: vec![], timestamp: SENT_AT })
        .into_iter()
        .collect()
}
