//! What Kafka's Java client and librdkafka write, konekt reads, byte for byte: every codec, every shape of key, value
//! and header, both kinds of timestamp, transactions with aborted ones between. Each record is compared with what was
//! sent, once as a line of JSON and once as a row.

mod support;

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use rusqlite::{Connection, Row};
use serde_json::{Value, json};
use support::kafka::{self, RealKafka};
use support::konekt::Place;
use support::or_skip;
use support::random::Random;

const CODECS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];
const PARTITIONS: u32 = 3;
/// The topic whose records carry the broker's time.
const BROKER_TIME: &str = "broker-time";

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

fn check(kafka: &RealKafka, name: &str, writer: &Writer) {
    let mut expected = BTreeMap::new();
    let mut topics = Vec::new();
    for (codec, kind) in CODECS.map(|codec| (codec, codec)).into_iter().chain([("zstd", BROKER_TIME)]) {
        let topic = format!("{name}-{kind}");
        let time = if kind == BROKER_TIME { "LogAppendTime" } else { "CreateTime" };
        kafka.create_topic(&topic, PARTITIONS, &[("message.timestamp.type", time)]);
        if or_skip(write_topic(writer, &topic, codec, &mut expected)).is_none() {
            return;
        }
        topics.push(topic);
    }
    let topics = topics.join(",");

    let place = Place::new();
    let lines = place.consume(kafka, &topics, &format!("{name}-lines")).run().expect_code(0).stdout;
    compare("a line of JSON", &expected, lines.lines().map(read_line).collect());

    place.sink(kafka, &topics, &format!("{name}-rows")).arguments(&["--until-end"]).run().expect_code(0);
    let flat = expected.into_iter().map(|(position, record)| (position, record.into_table_form())).collect();
    compare("a row", &flat, read_rows(&place));
}

// ---- what is written

/// Topic, partition and offset.
type Position = (String, i64, i64);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Sent {
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(String, Option<Vec<u8>>)>,
    timestamp: i64,
}

impl Sent {
    /// As a table holds it: without the time it was written, and with the headers sorted by name.
    fn into_table_form(mut self) -> Self {
        self.timestamp = 0;
        self.headers.sort_by(|(a, _), (b, _)| a.cmp(b));
        self
    }
}

/// Fills a topic by plain writes and transactions in turn, and enters what a reader must see of it.
fn write_topic(
    writer: &Writer,
    topic: &str,
    codec: &str,
    expected: &mut BTreeMap<Position, Sent>,
) -> Result<(), String> {
    let mut random = Random::seeded(topic.len() as u64);
    for (end, records) in [
        (None, every_shape(&mut random)),
        (Some("commit"), numbered(&mut random, 40)),
        (Some("abort"), numbered(&mut random, 30)),
        (None, numbered(&mut random, 500)),
        (Some("abort"), numbered(&mut random, 1)),
        (Some("commit"), every_shape(&mut random)),
        (None, giants(&mut random)),
        (Some("abort"), numbered(&mut random, 5)),
    ] {
        let sent: Vec<Value> = records.iter().enumerate().map(|(nth, record)| command_of(nth, record)).collect();
        let command = json!({"do": "write", "topic": topic, "codec": codec, "transaction": end, "records": sent});
        let places = writer(&command)?["places"].clone();
        let places: Vec<(i64, i64, i64)> = serde_json::from_value(places).expect("partition, offset, timestamp");
        assert_eq!(places.len(), records.len(), "{topic}: a place for each record");
        if end == Some("abort") {
            continue;
        }
        for ((partition, offset, timestamp), record) in places.into_iter().zip(records) {
            // librdkafka reports the time it sent where the broker sets its own: the broker's is checked for sense alone
            let timestamp = if topic.ends_with(BROKER_TIME) { BROKERS_TIME } else { timestamp };
            expected.insert((topic.to_owned(), partition, offset), Sent { timestamp, ..record });
        }
    }
    Ok(())
}

/// Stands for any time between [`SENT_AT`] and far away.
const BROKERS_TIME: i64 = -7;
/// The time that producers give: long past, so that a broker's own time is told apart.
const SENT_AT: i64 = 1_600_000_000_000;

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

// ---- what is read

/// Demands the same records at the same positions; shows the first difference and counts the others.
fn compare(form: &str, expected: &BTreeMap<Position, Sent>, found: Vec<(Position, Sent)>) {
    let count = found.len();
    let found: BTreeMap<Position, Sent> = found.into_iter().collect();
    assert_eq!(found.len(), count, "{form}: a position occurs twice");
    let positions = expected.keys().chain(found.keys()).collect::<std::collections::BTreeSet<_>>();
    let different: Vec<_> = positions.into_iter().filter(|at| !same(expected.get(*at), found.get(*at))).collect();
    if let Some(first) = different.first() {
        panic!(
            "as {form}: {} of {} records differ; the first, {first:?}:\nexpected {}\nfound    {}",
            different.len(),
            expected.len(),
            shown(expected.get(*first)),
            shown(found.get(*first)),
        );
    }
}

fn same(expected: Option<&Sent>, found: Option<&Sent>) -> bool {
    match (expected, found) {
        (Some(expected), Some(found)) if expected.timestamp == BROKERS_TIME => {
            found.timestamp > SENT_AT + 1_000_000_000 && *expected == Sent { timestamp: BROKERS_TIME, ..found.clone() }
        }
        (expected, found) => expected == found,
    }
}

/// A record as a person can read it in a message, whatever its size.
fn shown(record: Option<&Sent>) -> String {
    let Some(record) = record else { return "no record".to_owned() };
    let text = format!("{record:?}");
    text.chars().take(600).collect()
}

fn read_line(line: &str) -> (Position, Sent) {
    let read: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line:.200}"));
    let headers = read["headers"].as_array().unwrap_or_else(|| panic!("headers are pairs: {line:.200}"));
    let sent = Sent {
        key: bytes_of(&read["key"]),
        value: bytes_of(&read["value"]),
        headers: headers.iter().map(|pair| (text_of(&pair[0]), bytes_of(&pair[1]))).collect(),
        timestamp: number_of(&read["timestamp"]),
    };
    ((text_of(&read["topic"]), number_of(&read["partition"]), number_of(&read["offset"])), sent)
}

/// Text, `{"base64": …}` or null.
fn bytes_of(value: &Value) -> Option<Vec<u8>> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.as_bytes().to_vec()),
        other => Some(decoded(&text_of(&other["base64"]))),
    }
}

fn text_of(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("not text: {value:.200}")).to_owned()
}

fn number_of(value: &Value) -> i64 {
    value.as_i64().unwrap_or_else(|| panic!("not a number: {value:.200}"))
}

fn decoded(base64: &str) -> Vec<u8> {
    BASE64.decode(base64).unwrap_or_else(|error| panic!("{error}: {base64:.200}"))
}

fn read_rows(place: &Place) -> Vec<(Position, Sent)> {
    let connection = Connection::open(place.database()).expect("the database");
    let sql = "SELECT topic, partition, offset, message_key, message_value, message_headers, processing_status
               FROM processed_messages";
    let mut statement = connection.prepare(sql).expect("the message table");
    let rows = statement.query_map([], |row| Ok(read_row(row))).expect("rows");
    rows.map(|row| row.expect("a row")).collect()
}

/// Undoes what DESIGN §6 does: base64 where the headers' member `konekt.encoding` says so, '' for a tombstone.
fn read_row(row: &Row) -> (Position, Sent) {
    let text = |column: usize| row.get::<_, Option<String>>(column).expect("text or NULL");
    let headers: Value = text(5).map_or(json!({}), |json| serde_json::from_str(&json).expect("headers are JSON"));
    let encoding = headers.get("konekt.encoding").cloned().unwrap_or(json!([]));
    let is_encoded = |what: &str| encoding.as_array().expect("a list").iter().any(|entry| entry == what);
    let bytes = |text: String, what: &str| if is_encoded(what) { decoded(&text) } else { text.into_bytes() };

    let tombstone = text(6).as_deref() == Some("TOMBSTONE");
    let value = text(4).expect("NOT NULL");
    assert!(!tombstone || value.is_empty(), "a tombstone is stored as ''");
    let mut read = Vec::new();
    for (name, member) in headers.as_object().expect("an object").iter().filter(|(name, _)| *name != "konekt.encoding")
    {
        let pointer = format!("/{}", name.replace('~', "~0").replace('/', "~1"));
        match member.as_array() {
            Some(values) => read.extend(values.iter().enumerate().map(|(nth, value)| {
                (name.clone(), value.as_str().map(|text| bytes(text.to_owned(), &format!("{pointer}/{nth}"))))
            })),
            None => read.push((name.clone(), member.as_str().map(|text| bytes(text.to_owned(), &pointer)))),
        }
    }
    let sent = Sent {
        key: text(3).map(|key| bytes(key, "key")),
        value: (!tombstone).then(|| bytes(value, "value")),
        headers: read,
        timestamp: 0,
    };
    (
        (text(0).expect("a topic"), row.get(1).expect("a partition"), row.get(2).expect("an offset")),
        sent.into_table_form(),
    )
}
