//! What an operator has in hand, against a real Kafka: the producer through restarts, other clients reading what it
//! wrote, and the answers of `konekt admin` beside those of Kafka's own tools.

mod support;

use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use rusqlite::Connection;
use serde_json::{Value, json};
use support::audit::expect_exactly;
use support::kafka::{self, RealKafka};
use support::konekt::{Finished, Konekt, Place};
use support::random::Random;
use support::{or_skip, wait};

const SOON: Duration = Duration::from_secs(90);
const CODECS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];

/// `konekt` with these words, at this Kafka.
fn at(place: &Place, kafka: &RealKafka, words: &str) -> Konekt {
    let words: Vec<&str> = words.split(' ').collect();
    place.konekt(&words).arguments(&["--bootstrap-servers", &kafka.address()])
}

fn json_of(run: Finished) -> Value {
    let run = run.expect_code(0);
    serde_json::from_str(&run.stdout).unwrap_or_else(|error| panic!("{error}: {}", run.stdout))
}

// ---- the producer

#[test]
fn a_million_records_survive_a_stop_and_a_kill_each_once_and_in_order() {
    const RECORDS: u64 = 1_000_000;
    let Some(kafka) = or_skip(kafka::own(&[kafka::FORGETS_SOON])) else { return };
    kafka.create_topic("restarted", 8, &[]);
    let place = Place::new();
    // In three parts, so that the broker stops and dies while there is something to do, however fast the rest is.
    let lines = numbered_lines(RECORDS);
    let third = |nth: usize| lines.match_indices('\n').nth(nth * RECORDS as usize / 3).expect("a line").0 + 1;
    let in_parts = [&lines[..third(1)], &lines[third(1)..third(2)], &lines[third(2)..]];
    let (input, mut output) = std::io::pipe().expect("a pipe");
    let run = at(&place, &kafka, "produce -t restarted -K \t -z lz4").input(input).start();
    let (next, parts) = std::sync::mpsc::channel::<()>();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for part in in_parts {
                output.write_all(part.as_bytes()).expect("produce reads on");
                // No word comes after the last part.
                let _ = parts.recv();
            }
        });
        wait::until("the first records are there", SOON, || (total(&kafka, "restarted") > 0).then_some(()));
        kafka.stop();
        kafka.start_again().expect("the broker comes back");
        let before = total(&kafka, "restarted");
        next.send(()).expect("the writer waits");
        wait::until("it goes on", SOON, || (total(&kafka, "restarted") > before).then_some(()));
        next.send(()).expect("the writer waits");
        kafka.kill();
        kafka.start_again().expect("the broker comes back");
        drop(next);
    });
    run.wait().expect_code(0).expect_stderr("1,000,000 records acknowledged");

    place.sink(&kafka, "restarted", "audit").arguments(&["--until-end"]).run().expect_code(0);
    expect_exactly(&place.database(), &kafka, "restarted", "audit", RECORDS);
    let connection = Connection::open(place.database()).expect("the database");
    let out_of_order = "SELECT count(*) FROM (SELECT json_extract(message_value, '$.seq') AS seq,
        lag(json_extract(message_value, '$.seq')) OVER (PARTITION BY partition ORDER BY offset) AS before
        FROM processed_messages) WHERE before >= seq";
    let count: i64 = connection.query_row(out_of_order, [], |row| row.get(0)).expect("a count");
    assert_eq!(count, 0, "records out of order");
}

fn numbered_lines(records: u64) -> String {
    let mut lines = String::new();
    for number in 0..records {
        // Writing into a string cannot fail.
        let _ = writeln!(lines, "key-{}\t{{\"seq\":{number},\"pad\":\"{:0160}\"}}", number % 1_000, number);
    }
    lines
}

fn total(kafka: &RealKafka, topic: &str) -> i64 {
    kafka.ends(topic).iter().sum()
}

#[test]
fn java_and_librdkafka_read_what_was_produced_byte_for_byte() {
    let Some(kafka) = or_skip(kafka::newest()) else { return };
    read_by_others(kafka);
}

#[test]
fn the_oldest_kafka_takes_what_was_produced() {
    let Some(kafka) = or_skip(kafka::oldest()) else { return };
    read_by_others(kafka);
}

/// Produces every shape of record in every codec and compares what the other clients read.
fn read_by_others(kafka: &RealKafka) {
    let place = Place::new();
    for codec in CODECS {
        let topic = format!("produced-{codec}");
        kafka.create_topic(&topic, 3, &[]);
        let sent = every_shape();
        let lines: String = sent.iter().map(|record| format!("{}\n", line_of(record))).collect();
        std::fs::write(place.file("lines"), lines).expect("a file of lines");
        let lines = File::open(place.file("lines")).expect("the file");
        at(&place, kafka, &format!("produce -t {topic} -z {codec} --format json")).input(lines).run().expect_code(0);
        let read = json!({"do": "read", "topic": topic});
        compare(&topic, "Java", &sent, &kafka.java(&read)["records"]);
        let Some(read) = or_skip(kafka.librdkafka(&read)) else { return };
        compare(&topic, "librdkafka", &sent, &read["records"]);
    }
}

#[derive(Debug)]
struct Sent {
    partition: usize,
    timestamp: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(&'static str, Option<Vec<u8>>)>,
}

fn every_shape() -> Vec<Sent> {
    let mut random = Random::seeded(7);
    let parts = [
        None,
        Some(b"".to_vec()),
        Some("Gr\u{fc}\u{df}e \u{1f980} \u{1}\"\\\n".as_bytes().to_vec()),
        Some(vec![0xff, 0xfe, 0x00, 0x80]),
        Some(random.bytes(1_000)),
        Some(b"the same words again and again, ".repeat(5_000)),
    ];
    let headers = [
        vec![],
        vec![("one", Some(b"1".to_vec()))],
        vec![("twice", None), ("twice", Some(b"\xff".to_vec())), ("", Some(vec![]))],
    ];
    let mut sent = Vec::new();
    for key in &parts {
        for value in &parts {
            let (nth, key, value) = (sent.len(), key.clone(), value.clone());
            let headers = headers[nth % headers.len()].clone();
            sent.push(Sent { partition: nth % 3, timestamp: 1_600_000_000_000 + nth as i64, key, value, headers });
        }
    }
    // More than a batch holds, in a record of its own.
    sent.push(Sent { partition: 0, timestamp: 0, key: None, value: Some(random.bytes(900_000)), headers: vec![] });
    sent
}

fn line_of(record: &Sent) -> Value {
    let bytes = |bytes: &Option<Vec<u8>>| bytes.as_ref().map(|bytes| json!({"base64": BASE64.encode(bytes)}));
    let headers: Vec<Value> = record.headers.iter().map(|(name, value)| json!([name, bytes(value)])).collect();
    json!({"partition": record.partition, "timestamp": record.timestamp, "key": bytes(&record.key),
        "value": bytes(&record.value), "headers": headers})
}

/// Compares with what a client read: [partition, offset, timestamp, key, value, headers], bytes in base64.
fn compare(topic: &str, client: &str, sent: &[Sent], read: &Value) {
    let bytes = |bytes: &Option<Vec<u8>>| bytes.as_ref().map(|bytes| BASE64.encode(bytes));
    let mut ends = [0; 3];
    let mut expected: Vec<Value> = Vec::new();
    for record in sent {
        let headers: Vec<Value> = record.headers.iter().map(|(name, value)| json!([name, bytes(value)])).collect();
        let offset = ends[record.partition];
        ends[record.partition] += 1;
        let place = (record.partition, offset, record.timestamp);
        expected.push(json!([place.0, place.1, place.2, bytes(&record.key), bytes(&record.value), headers]));
    }
    let mut read = read.as_array().expect("a list").clone();
    let place = |record: &Value| (record[0].as_i64(), record[1].as_i64());
    expected.sort_by_key(place);
    read.sort_by_key(place);
    assert_eq!(read.len(), expected.len(), "{topic} as {client} reads it");
    for (read, expected) in read.iter().zip(&expected) {
        let shown = |record: &Value| record.to_string().chars().take(600).collect::<String>();
        assert!(read == expected, "{topic}: {client} reads\n{}\nwhere was sent\n{}", shown(read), shown(expected));
    }
}

#[test]
fn keys_go_where_the_java_client_puts_them() {
    let Some(kafka) = or_skip(kafka::newest()) else { return };
    let mut random = Random::seeded(11);
    let keys: Vec<Vec<u8>> = (0..500).map(|length| random.bytes(length % 40)).collect();
    for (partitions, topic) in [(1, "keys-1"), (7, "keys-7"), (64, "keys-64")] {
        kafka.create_topic(topic, partitions, &[]);
        let record = |key: &Vec<u8>| json!({"partition": null, "key": BASE64.encode(key), "value": "", "headers": [], "timestamp": 7});
        let records: Vec<Value> = keys.iter().map(record).collect();
        let write = json!({"do": "write", "topic": topic, "codec": "none", "records": records});
        let places = kafka.java(&write)["places"].clone();
        for (key, place) in keys.iter().zip(places.as_array().expect("a list")) {
            let ours = konekt::kafka::producer::partition_for_key(key, partitions as usize);
            assert_eq!(place[0], ours, "{key:?} of {partitions}");
        }
    }
}

// ---- admin

#[test]
fn lag_is_what_kafkas_own_tool_says() {
    for kafka in [kafka::newest(), kafka::oldest()] {
        let Some(kafka) = or_skip(kafka) else { return };
        kafka.filled_topic("lagging", 4, 1_000, 100);
        for (partition, offset) in [(0, 0), (1, 100), (3, 250)] {
            kafka.java(&json!({"do": "set-committed", "group": "lagging", "topic": "lagging", "partition": partition, "offset": offset}));
        }
        kafka.java(&json!({"do": "delete-records", "topic": "lagging", "partition": 1, "before": 40}));
        compare_lag(kafka, "lagging");
        let lag = our_lag(kafka, "lagging");
        let second = &lag["partitions"][1];
        assert_eq!((&second["log_start"], &second["to_retention_records"]), (&json!(40), &json!(60)));
        let seconds = second["lag_seconds"].as_f64().expect("the record was read");
        assert!((0.0..600.0).contains(&seconds), "written a moment ago: {second}");
        assert_eq!(lag["partitions"][2]["lag_seconds"], 0.0, "nothing is left to read");
    }
}

#[test]
fn groups_of_both_protocols_are_described_and_protected() {
    let Some(kafka) = or_skip(kafka::newest()) else { return };
    let place = Place::new();
    for protocol in ["classic", "consumer"] {
        let (group, topic) = (format!("described-{protocol}"), format!("described-{protocol}"));
        kafka.filled_topic(&topic, 3, 300, 100);
        kafka.java(&json!({"do": "set-committed", "group": group, "topic": topic, "partition": 0, "offset": 10}));
        let joined = kafka.java(&json!({"do": "join", "group": group, "topic": topic, "protocol": protocol}));
        assert_eq!(joined["partitions"], json!([0, 1, 2]));
        let described = json_of(at(&place, kafka, &format!("admin groups --json --group {group}")).run());
        let found = &described[0];
        assert_eq!((&found["type"], &found["state"]), (&json!(protocol), &json!("Stable")), "{found}");
        let member = &found["members"][0];
        assert_eq!((&member["client_id"], &member["host"]), (&json!("java-member"), &json!("/127.0.0.1")));
        assert_eq!(member["assignment"], json!({ topic.as_str(): [0, 1, 2] }));
        compare_lag(kafka, &group);

        let reset = format!("admin group reset-offsets --group {group} --topics {topic} --to latest --execute");
        at(&place, kafka, &reset).run().expect_code(1).expect_stderr("has members (java-member on /127.0.0.1)");
        assert_eq!(kafka.committed(&group), [(topic.clone(), 0, 10)]);
        kafka.java(&json!({"do": "leave"}));
        at(&place, kafka, &reset).run().expect_code(0);
        assert_eq!(kafka.committed(&group), [0, 1, 2].map(|partition| (topic.clone(), partition, 100)));
        let listed = json_of(at(&place, kafka, "admin groups --json").run());
        let listed = listed.as_array().expect("a list").iter().find(|listed| listed["group"] == group.as_str());
        assert_eq!(listed.expect("it is listed")["type"], protocol);
    }
}

#[test]
fn topics_are_made_with_settings_and_shown_with_them() {
    let Some(kafka) = or_skip(kafka::newest()) else { return };
    let place = Place::new();
    let admin = |words: &str| at(&place, kafka, &format!("admin {words}")).run();
    admin("topic create made --partitions 3 --replication-factor 1 --set cleanup.policy=compact,delete --set retention.ms=86400000")
        .expect_code(0);
    let configs = json_of(admin("configs --json --topics made"));
    let settings: Vec<_> = configs[0]["settings"].as_array().expect("a list").iter().collect();
    let named = |name: &str| settings.iter().find(|setting| setting["name"] == name).map(|setting| &setting["value"]);
    assert_eq!(named("cleanup.policy"), Some(&json!("compact,delete")));
    assert_eq!(named("retention.ms"), Some(&json!("86400000")));
    assert!(json_of(admin("configs --json --broker 1"))[0]["settings"].as_array().is_some_and(|all| !all.is_empty()));
    admin("topic create too-wide --replication-factor 3").expect_code(1).expect_stderr("INVALID_REPLICATION_FACTOR");
    admin("topic delete made --execute").expect_code(0);
    admin("topics --topics made").expect_code(1).expect_stderr("made");
}

fn our_lag(kafka: &RealKafka, group: &str) -> Value {
    json_of(at(&Place::new(), kafka, &format!("admin lag --json --interval-ms 0 --group {group}")).run())[0].clone()
}

/// Demands that our table of a group and Kafka's hold the same: topic, partition, committed, end, lag, member, host.
fn compare_lag(kafka: &RealKafka, group: &str) {
    let printed = kafka.java(&json!({"do": "describe-group", "group": group}));
    let lines: Vec<&str> = printed["lines"].as_array().expect("lines").iter().filter_map(Value::as_str).collect();
    let mut theirs: Vec<Vec<String>> = Vec::new();
    for line in lines.iter().filter(|line| line.starts_with(&format!("{group} "))) {
        // GROUP TOPIC PARTITION [LEADER-EPOCH] CURRENT-OFFSET LOG-END-OFFSET LAG CONSUMER-ID HOST CLIENT-ID
        let cells: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let last = cells.len();
        theirs.push([&cells[1..3], &cells[last - 6..]].concat());
    }
    let text = |value: &Value| match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let lag = our_lag(kafka, group);
    let names = ["topic", "partition", "committed", "log_end", "lag_records", "member_id", "host", "client_id"];
    let ours = lag["partitions"].as_array().expect("partitions").iter();
    let mut ours: Vec<Vec<String>> = ours.map(|of| names.iter().map(|name| text(&of[*name])).collect()).collect();
    ours.sort();
    theirs.sort();
    assert!(!theirs.is_empty(), "Kafka's tool says nothing of {group}:\n{}", lines.join("\n"));
    assert_eq!(ours, theirs, "ours and Kafka's lag of {group}");
}
