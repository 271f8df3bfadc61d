//! The same 100,000 records into each broker and out again by each client.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;

use konekt::Client;
use konekt::broker::{Broker, BrokerOptions, TopicSpec};
use serde_json::json;

use crate::records::{Position, SENT_AT, Sent, compare, read_line};
use crate::support::audit::expect_exactly;
use crate::support::kafka::{self, RealKafka};
use crate::support::konekt::Place;
use crate::support::or_skip;
use crate::support::random::Random;
use crate::{clients, reads};

const TOPIC: &str = "bulk";
const PARTITIONS: i32 = 4;
const RECORDS: i64 = 100_000;
/// One that every client reads.
const CODEC: &str = "gzip";

#[test]
fn the_newest_kafka_gives_back_what_it_got() {
    let Some(kafka) = or_skip(kafka::newest()) else { return };
    check_real(kafka);
}

#[test]
fn the_oldest_kafka_gives_back_what_it_got() {
    let Some(kafka) = or_skip(kafka::oldest()) else { return };
    check_real(kafka);
}

#[test]
fn the_embedded_broker_gives_back_what_it_got() {
    let topics = vec![TopicSpec::new(TOPIC, PARTITIONS)];
    let broker = Broker::start(BrokerOptions { topics, ..BrokerOptions::default() }).expect("a free port");
    check(&broker.address(), "4 at heart", 3);
}

fn check_real(kafka: &RealKafka) {
    kafka.create_topic(TOPIC, PARTITIONS as u32, &[]);
    check(&kafka.address(), kafka.version(), 3);
}

/// Writes the records to a broker and reads them with each client that can. Those that cannot say so, and end with this
/// code.
pub fn check(address: &str, version: &str, code_of_refusal: i32) {
    let expected = write(address);
    for client in clients() {
        let name = client.name();
        let place = Place::new();
        let consume = ["consume", "--format", "json", "--until-end", "--bootstrap-servers", address, "--client", name];
        let run = place.konekt(&consume).arguments(&["--topics", TOPIC, "--group-id", name]).run();
        if !reads(client, version) {
            run.expect_code(code_of_refusal).expect_stderr("use --client native");
            continue;
        }
        let seen = expected.iter().map(|(at, sent)| (at.clone(), sent.clone().read_by(client))).collect();
        let read = run.expect_code(0).stdout.lines().map(read_line).collect();
        compare(&format!("{address} ({version}) by {name}"), &seen, read);
    }
}

fn write(address: &str) -> BTreeMap<Position, Sent> {
    let mut random = Random::seeded(7);
    let mut lines = String::new();
    let mut expected = BTreeMap::new();
    for nth in 0..RECORDS {
        let (partition, offset) = (nth % i64::from(PARTITIONS), nth / i64::from(PARTITIONS));
        let (key, value) = (format!("key {nth}"), format!("{{\"nth\":{nth},\"noise\":{}}}", random.next()));
        let timestamp = SENT_AT + nth;
        let line = json!({"partition": partition, "timestamp": timestamp, "key": key, "value": value,
            "headers": [["nth", nth.to_string()]]});
        writeln!(lines, "{line}").expect("a string takes all");
        let headers = vec![("nth".to_owned(), Some(nth.to_string().into_bytes()))];
        let sent = Sent { key: Some(key.into_bytes()), value: Some(value.into_bytes()), headers, timestamp };
        expected.insert((TOPIC.to_owned(), partition, offset), sent);
    }
    let place = Place::new();
    std::fs::write(place.file("records.jsonl"), lines).expect("a file");
    let input = File::open(place.file("records.jsonl")).expect("the file");
    let produce = ["produce", "--topic", TOPIC, "--format", "json", "--compression", CODEC];
    place.konekt(&produce).arguments(&["--bootstrap-servers", address]).input(input).run().expect_code(0);
    expected
}

/// A sink that is stopped goes on where its database stands, whoever reads.
#[test]
fn every_client_fills_a_database_exactly_once() {
    for kafka in [kafka::oldest(), kafka::newest()] {
        let Some(kafka) = or_skip(kafka) else { return };
        for client in clients().filter(|client| reads(*client, kafka.version())) {
            fill_database(kafka, client);
        }
    }
}

fn fill_database(kafka: &RealKafka, client: Client) {
    let topic = format!("exactly-{}", client.name());
    kafka.create_topic(&topic, 4, &[]);
    let place = Place::new();
    let arguments = ["--client", client.name(), "--until-end"];
    let run = |further: &[&str]| place.sink(kafka, &topic, &topic).arguments(&arguments).arguments(further).run();
    let fill = |first, records| {
        // lz4 is not for everybody
        kafka.java(&json!({"do": "bulk", "topic": topic, "partitions": 4, "first": first, "records": records,
            "size": 200, "codec": "snappy"}));
    };
    fill(0, 20_000);
    run(&["--max-messages", "7000"]).expect_code(0);
    run(&[]).expect_code(0);
    fill(20_000, 5_000);
    run(&[]).expect_code(0);
    run(&[]).expect_code(0);
    expect_exactly(&place.database(), kafka, &topic, &topic, 25_000);
    let mut committed: Vec<i64> = kafka.committed(&topic).into_iter().map(|(_, _, offset)| offset).collect();
    let mut ends = kafka.ends(&topic);
    committed.sort_unstable();
    ends.sort_unstable();
    assert_eq!(committed, ends, "{topic}: the group's offsets are for everybody's lag tools");
}
