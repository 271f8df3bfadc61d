//! What an operator has in hand, against the embedded broker: `konekt produce` and `konekt admin`, and the producer
//! under scripted faults.

mod support;

use std::io::Write;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use konekt::broker::{Action, ApiKey, Broker, BrokerOptions, Fault, TopicSpec};
use konekt::kafka::cluster::Cluster;
use konekt::kafka::connection::ConnectionOptions;
use konekt::kafka::producer::{NewRecord, Producer, ProducerCounts, ProducerOptions};
use serde_json::{Value, json};
use support::konekt::{Finished, Konekt, Place};
use support::wait;

const SOON: Duration = Duration::from_secs(60);

fn broker_with(topics: &[(&str, i32)]) -> Broker {
    let topics = topics.iter().map(|(name, partitions)| TopicSpec::new(*name, *partitions)).collect();
    Broker::start(BrokerOptions { topics, ..BrokerOptions::default() }).expect("a broker")
}

/// `konekt` with these words, at this broker.
fn at(place: &Place, broker: &Broker, words: &str) -> Konekt {
    let words: Vec<&str> = words.split(' ').collect();
    place.konekt(&words).arguments(&["--bootstrap-servers", &broker.address()])
}

/// `konekt produce` with these words, which reads `lines`.
fn produce(place: &Place, broker: &Broker, words: &str, lines: &[u8]) -> Finished {
    let file = place.file("lines");
    std::fs::write(&file, lines).expect("a file of lines");
    at(place, broker, &format!("produce {words}")).input(std::fs::File::open(file).expect("the file")).run()
}

/// The records of a topic, as `konekt consume` prints them.
fn consume(place: &Place, broker: &Broker, topic: &str) -> String {
    at(place, broker, &format!("consume --format json --until-end --topics {topic} --group-id read-{topic}"))
        .run()
        .expect_code(0)
        .stdout
}

fn records(printed: &str) -> Vec<Value> {
    printed.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
}

fn json_of(run: Finished) -> Value {
    let run = run.expect_code(0);
    serde_json::from_str(&run.stdout).unwrap_or_else(|error| panic!("{error}: {}", run.stdout))
}

// ---- the producer under faults

/// Produces numbered records in turn to three partitions while `faults` happen, and demands each once and in order.
fn check_exactly_once(name: &str, faults: &[Fault]) {
    const COUNT: u64 = 3_000;
    let broker = broker_with(&[("t", 3)]);
    faults.iter().for_each(|fault| broker.faults().push(fault.clone()));
    let request_timeout = Duration::from_secs(2);
    let options = ConnectionOptions { request_timeout, ..ConnectionOptions::default() };
    let cluster = Cluster::connect(&[broker.address()], options).expect("the broker answers");
    let producer = Producer::new(cluster, ProducerOptions { batch_bytes: 2_000, ..ProducerOptions::default() });
    let topic: Arc<str> = "t".into();
    for number in 0..COUNT {
        let value = number.to_string();
        let record =
            NewRecord { partition: Some((number % 3) as i32), value: Some(value.as_bytes()), ..NewRecord::default() };
        producer.send(&topic, &record).expect("it is accepted");
    }
    producer.flush(SOON).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(producer.counts(), ProducerCounts { sent: COUNT, acknowledged: COUNT, failed: 0 }, "{name}");
    assert_eq!(broker.faults().waiting(), 0, "{name}: a fault never happened");
    let mut read = [const { Vec::new() }; 3];
    for record in records(&consume(&Place::new(), &broker, "t")) {
        let partition = record["partition"].as_u64().expect("a number") as usize;
        read[partition].push(record["value"].as_str().expect("text").parse::<u64>().expect("a number"));
    }
    for (partition, values) in (0..).zip(read) {
        assert!(values.iter().copied().eq((partition..COUNT).step_by(3)), "{name}: partition {partition}: {values:?}");
    }
}

#[test]
fn lost_answers_and_moved_leaders_cost_neither_order_nor_a_second_copy() {
    let produce = |action| Fault::new(ApiKey::Produce, action);
    let cases: &[(&str, Vec<Fault>)] = &[
        ("lost answers", vec![produce(Action::CloseAfter).times(4), produce(Action::CloseHalfWay).after(6).times(2)]),
        ("moved leaders", vec![produce(Action::Error(6)).times(3), produce(Action::Error(6)).on_partition(1).after(9)]),
        ("broken answers", vec![produce(Action::TruncateFrame).after(1), produce(Action::Corrupt).after(4)]),
        (
            "cut connections",
            vec![produce(Action::Close).times(2), Fault::new(ApiKey::Metadata, Action::Close).after(1)],
        ),
        ("silence", vec![produce(Action::Silence).after(2)]),
        ("a broker that forgot us", vec![produce(Action::Error(59)).after(3), produce(Action::Error(45)).after(5)]),
        ("no id at first", vec![Fault::new(ApiKey::InitProducerId, Action::Error(15)).times(2)]),
    ];
    for (name, faults) in cases {
        check_exactly_once(name, faults);
    }
}

// ---- konekt produce

#[test]
fn lines_of_text_become_records() {
    let (place, broker) = (Place::new(), broker_with(&[("t", 1)]));
    let run =
        produce(&place, &broker, "-t t -K : -H trace=1,2 --header b= -Z -z zstd", b"a:1\n\xff:x:y\nplain\nnull:\n");
    run.expect_code(0).expect_stderr("4 records acknowledged").expect_stderr("0 bad lines");
    let read = records(&consume(&place, &broker, "t"));
    let headers = json!([["trace", "1,2"], ["b", ""]]);
    let expected =
        [json!(["a", "1"]), json!([{"base64": "/w=="}, "x:y"]), json!([null, "plain"]), json!(["null", null])];
    for (record, expected) in read.iter().zip(&expected) {
        assert_eq!((json!([record["key"], record["value"]]), &record["headers"]), (expected.clone(), &headers));
    }
    assert_eq!(read.len(), expected.len());
}

#[test]
fn what_consume_prints_produce_reads_byte_for_byte() {
    let (place, broker) = (Place::new(), broker_with(&[("one", 3), ("other", 3)]));
    let lines = r#"{"key":"a","value":"é\"\n\u0000","headers":[["h",null],["h",{"base64":"/w=="}],[{"base64":"/g=="},""]],"partition":2,"timestamp":1700000000123}
{"value":null,"key":{"base64":"AP8="},"partition":0,"timestamp":5}

{"value":{"base64":"//79"},"topic":"elsewhere","offset":99,"partition":1,"timestamp":0,"headers":[]}
"#;
    produce(&place, &broker, "--topic one --format json", lines.as_bytes()).expect_code(0).expect_stderr("3 records");
    let printed = consume(&place, &broker, "one");
    produce(&place, &broker, "--topic other --format json", printed.as_bytes()).expect_code(0);
    let again = consume(&place, &broker, "other");
    let sorted = |text: &str| {
        let mut lines: Vec<String> = text.lines().map(|line| line.replace("\"other\"", "\"one\"")).collect();
        lines.sort();
        lines
    };
    assert_eq!(sorted(&printed), sorted(&again));
    assert!(printed.contains(r#""partition":2,"offset":0,"timestamp":1700000000123,"key":"a","value":"é\"\n\u0000""#));
    assert_eq!(printed.lines().count(), 3);
}

#[test]
fn bad_lines_are_named_and_the_others_are_sent() {
    let (place, broker) = (Place::new(), broker_with(&[("t", 2)]));
    let lines = b"{\"value\":\"1\"}\n{\"vlaue\":\"2\"}\n{\"value\":\"3\",\"partition\":7}\nnonsense\n{\"value\":\"5\"}";
    produce(&place, &broker, "-t t --format json", lines)
        .expect_code(1)
        .expect_stderr("line 2: unknown field `vlaue`")
        .expect_stderr("line 3: topic t has the partitions 0 to 1, there is no 7")
        .expect_stderr("line 4: ")
        .expect_stderr("2 records acknowledged")
        .expect_stderr("3 bad lines");
    assert_eq!(records(&consume(&place, &broker, "t")).len(), 2);
}

#[test]
fn records_that_the_broker_refuses_are_named_by_their_lines() {
    let (place, broker) = (Place::new(), broker_with(&[("t", 2)]));
    broker.faults().push(Fault::new(ApiKey::Produce, Action::Error(87)).on_partition(1));
    let lines = b"{\"value\":\"1\",\"partition\":0}\n{\"value\":\"2\",\"partition\":1}\n";
    produce(&place, &broker, "-t t --format json", lines)
        .expect_code(1)
        .expect_stderr("line 2 is not delivered")
        .expect_stderr("INVALID_RECORD")
        .expect_stderr("1 records acknowledged");
}

#[test]
fn a_topic_or_a_broker_that_is_not_there_ends_it_with_its_code() {
    let (place, broker) = (Place::new(), broker_with(&[]));
    produce(&place, &broker, "-t absent", b"x\n").expect_code(1).expect_stderr("topic absent").expect_stderr("line 1");
    let address = broker.address();
    broker.stop();
    let run = place.konekt(&["produce", "-t", "t", "--bootstrap-servers", &address]).run();
    run.expect_code(3).expect_stderr(&address);
    place.konekt(&["produce"]).run().expect_code(2).expect_stderr("--topic");
}

#[test]
fn a_signal_delivers_what_was_read() {
    let (place, broker) = (Place::new(), broker_with(&[("t", 1)]));
    let (reader, mut writer) = std::io::pipe().expect("a pipe");
    let run = at(&place, &broker, "produce -t t --linger-ms 600000").input(Stdio::from(reader)).start();
    // More than a batch, so that its delivery tells how far reading has come; what follows it lingers.
    let line = [vec![b'x'; 999], vec![b'\n']].concat();
    writer.write_all(&line.repeat(700)).expect("it reads");
    let delivered = wait::until("the first batch is there", SOON, || broker.log_end("t", 0).filter(|end| *end > 0));
    let ended = run.stop("INT", SOON).expect_code(0).expect_stderr("wait for it");
    let end = broker.log_end("t", 0).expect("the partition");
    assert!(end > delivered, "nothing followed the first {delivered} records");
    ended.expect_stderr(&format!("{end} records acknowledged"));
    drop(writer);
}

// ---- konekt admin

#[test]
fn topics_are_created_shown_and_deleted() {
    let (place, broker) = (Place::new(), broker_with(&[("old", 1)]));
    let admin = |words: &str| at(&place, &broker, &format!("admin {words}")).run();
    admin("topic create new --partitions 3").expect_code(0);
    admin("topic create new").expect_code(1).expect_stderr("TOPIC_ALREADY_EXISTS");
    admin("topic create a/b").expect_code(2).expect_stderr("no topic name");
    produce(&place, &broker, "-t new -p 2", b"1\n2\n").expect_code(0);

    let topics = json_of(admin("topics --json --topics new"));
    assert_eq!((&topics[0]["name"], &topics[0]["records"]), (&json!("new"), &json!({"0": 0, "1": 0, "2": 2})));
    assert_eq!(topics[0]["partitions"][2]["leader"], 1);
    let table = admin("topics").expect_code(0).stdout;
    let new = table.lines().find(|line| line.starts_with("new ")).expect("a row");
    assert_eq!(new.split_whitespace().collect::<Vec<_>>(), ["new", "3", "1", "0", "2"]);
    let cluster = json_of(admin("cluster --json"));
    assert_eq!(
        (&cluster["brokers"][0]["address"], cluster["topics"].as_array().map(Vec::len)),
        (&json!(broker.address()), Some(2))
    );
    let configs = json_of(admin("configs --json --all --topics new"));
    assert!(configs[0]["settings"].as_array().expect("a list").iter().any(|one| one["name"] == "cleanup.policy"));

    let dry = json_of(admin("topic delete new --json"));
    assert_eq!((&dry["records"], &dry["deleted"], broker.log_end("new", 2)), (&json!(2), &json!(false), Some(2)));
    admin("topic delete new --execute").expect_code(0);
    assert_eq!(broker.log_end("new", 2), None);
    admin("topic delete new --execute").expect_code(1).expect_stderr("UNKNOWN_TOPIC_OR_PARTITION");
}

#[test]
fn lag_and_reset_of_a_group() {
    let (place, broker) = (Place::new(), broker_with(&[("t", 2)]));
    let admin = |words: &str| at(&place, &broker, &format!("admin {words}")).run();
    let lines = br#"{"value":"1","partition":0,"timestamp":1000}
{"value":"2","partition":0,"timestamp":2000}
{"value":"3","partition":0,"timestamp":5000}
"#;
    produce(&place, &broker, "-t t --format json", lines).expect_code(0);
    let reset = "group reset-offsets --group g --topics t --partition 0 --json --to";
    let dry = json_of(admin(&format!("{reset} 1")));
    assert_eq!((&dry["executed"], &dry["moves"][0]["to"]), (&json!(false), &json!(1)));
    assert_eq!(broker.committed("g", "t", 0), None);
    let done = json_of(admin(&format!("{reset} 1970-01-01T00:00:02 --execute")));
    assert_eq!((&done["executed"], broker.committed("g", "t", 0)), (&json!(true), Some(1)));

    let lag = json_of(admin("lag --group g --json --interval-ms 100"));
    let of = &lag[0]["partitions"][0];
    assert_eq!((&of["committed"], &of["log_end"], &of["lag_records"]), (&json!(1), &json!(3), &json!(2)));
    assert_eq!((&of["behind_newest_seconds"], &of["to_retention_records"]), (&json!(3.0), &json!(1)));
    assert_eq!((&of["to_retention_seconds"], &of["consumed_per_second"]), (&json!(1.0), &json!(0.0)));
    assert!(of["lag_seconds"].as_f64().is_some_and(|seconds| seconds > 1e9), "{of}");
    let shifted = json_of(admin(&format!("{reset} -1 --execute")));
    assert_eq!((&shifted["moves"][0]["from"], &shifted["moves"][0]["to"]), (&json!(1), &json!(0)));

    let table = admin("lag --interval-ms 0").expect_code(0).stdout;
    assert!(table.contains("group g: Empty, 0 members, lag 3"), "{table}");
    admin("groups --group nobody").expect_code(1).expect_stderr("no group nobody");
    admin(&format!("{reset} soon")).expect_code(2).expect_stderr("earliest");
}

#[test]
fn a_group_with_members_is_shown_and_not_reset() {
    let (place, broker) = (Place::new(), broker_with(&[("t", 2)]));
    let admin = |words: &str| at(&place, &broker, &format!("admin {words}")).run();
    let member = at(&place, &broker, "consume --topics t --group-id g --client-id reader").start();
    let group = wait::until("the member has its partitions", SOON, || {
        let run = at(&place, &broker, "admin groups --json").run().expect_code(0);
        let groups: Value = serde_json::from_str(&run.stdout).expect("JSON");
        (groups[0]["state"] == "Stable").then(|| json_of(admin("groups --group g --json")))
    });
    assert_eq!((&group[0]["type"], &group[0]["assignor"]), (&json!("classic"), &json!("range")));
    let seen = &group[0]["members"][0];
    assert_eq!((&seen["client_id"], &seen["assignment"]), (&json!("reader"), &json!({"t": [0, 1]})));
    admin("group reset-offsets --group g --topics t --to latest --execute")
        .expect_code(1)
        .expect_stderr("has members (reader on");
    member.stop("TERM", SOON).expect_code(0);
    admin("group reset-offsets --group g --topics t --to latest --execute").expect_code(0);
    assert_eq!(broker.committed("g", "t", 1), Some(0));
}
