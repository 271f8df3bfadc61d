//! Bad records and a bad broker, end to end: the real binary against the embedded broker. Exactly the bad records become
//! dead letters, in each of their forms, and can be tried again; positions are looked at and moved. A broker that answers
//! with noise gets errors for it.
#![allow(clippy::disallowed_methods, reason = "tests stand outside the door")]

mod support;

use std::path::Path;
use std::time::Duration;

use konekt::broker::{Action, ApiKey, Broker, BrokerOptions, Fault, TopicSpec};
use konekt::kafka::wire::builder::RecordBatchBuilder;
use konekt::kafka::wire::compression::Codec;
use rusqlite::Connection;
use serde_json::Value;
use support::konekt::{Finished, Konekt, Place};
use support::wait;

/// Records per partition, and which of them are bad: first, in the middle next to each other, last.
const RECORDS: i64 = 400;
const BAD: [i64; 5] = [0, 200, 201, 202, 399];
const PARTITIONS: i32 = 2;

/// Refuses bad records whatever their status…
const REFUSE: &str = "CREATE TRIGGER refuse BEFORE INSERT ON processed_messages WHEN NEW.message_value LIKE 'bad%' \
    BEGIN SELECT RAISE(ABORT, 'no bad ones here'); END";
/// …or takes them as dead letters.
const REFUSE_UNLESS_FAILED: &str = "CREATE TRIGGER refuse BEFORE INSERT ON processed_messages \
    WHEN NEW.message_value LIKE 'bad%' AND NEW.processing_status <> 'FAILED' \
    BEGIN SELECT RAISE(ABORT, 'no bad ones here'); END";

/// A broker with orders in it, and a database in which a trigger refuses some.
struct Scene {
    broker: Broker,
    place: Place,
}

impl Scene {
    fn new(trigger: &str) -> Self {
        let topics = vec![TopicSpec::new("orders", PARTITIONS), TopicSpec::new("dead", 3)];
        let broker = Broker::start(BrokerOptions { topics, ..BrokerOptions::default() }).expect("a broker");
        for partition in 0..PARTITIONS {
            let mut batch = RecordBatchBuilder::default();
            for number in 0..RECORDS {
                let word = if BAD.contains(&number) { "bad" } else { "good" };
                let headers: &[(&[u8], Option<&[u8]>)] = &[(b"trace", Some(b"\xff")), (b"trace", None)];
                let value = format!("{word} {number}");
                batch.append(Some(b"\x00\xfe"), Some(value.as_bytes()), headers, 1_700_000_000_000 + number);
            }
            broker.append("orders", partition, batch.finish(Codec::None).expect("a batch"));
        }
        let scene = Self { broker, place: Place::new() };
        if !trigger.is_empty() {
            // A run over nothing makes the tables.
            scene.broker.create_topic("empty", 1).expect("a topic");
            scene.sink().arguments(&["--topics", "empty", "--until-end"]).run().expect_code(0);
            scene.sql(trigger);
        }
        scene
    }

    fn sink(&self) -> Konekt {
        self.konekt(&["sink", "sqlite", "--db", "out.db", "--group-id", "g"])
    }

    /// The sink over all orders.
    fn run(&self, arguments: &[&str]) -> Finished {
        self.sink().arguments(&["--topics", "orders", "--until-end"]).arguments(arguments).run()
    }

    fn konekt(&self, arguments: &[&str]) -> Konekt {
        self.place.konekt(arguments).arguments(&["--bootstrap-servers", &self.broker.address()])
    }

    /// What a `dlq` command says.
    fn dlq(&self, verb: &str, arguments: &[&str]) -> Finished {
        self.konekt(&["dlq", verb]).arguments(arguments).run()
    }

    fn sql(&self, sql: &str) {
        let connection = Connection::open(self.place.database()).expect("the database");
        connection.execute_batch(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    fn number(&self, sql: &str) -> i64 {
        let connection = Connection::open(self.place.database()).expect("the database");
        connection.query_row(sql, [], |row| row.get(0)).unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// Demands that of each partition exactly these offsets are rows with this status.
    fn expect_rows(&self, status: &str, wanted: impl Fn(i64) -> bool) {
        let sql =
            r#"SELECT "offset" FROM processed_messages WHERE processing_status = ? AND "partition" = ? ORDER BY rowid"#;
        let connection = Connection::open(self.place.database()).expect("the database");
        for partition in 0..PARTITIONS {
            let mut statement = connection.prepare(sql).expect("the table");
            let rows = statement.query_map((status, partition), |row| row.get::<_, i64>(0)).expect("rows");
            let rows: Vec<i64> = rows.map(|row| row.expect("an offset")).collect();
            let expected: Vec<i64> = (0..RECORDS).filter(|offset| wanted(*offset)).collect();
            assert_eq!(rows, expected, "{status} of partition {partition}");
        }
    }

    fn letters_in_the_topic(&self) -> i64 {
        (0..3).filter_map(|partition| self.broker.log_end("dead", partition)).sum()
    }
}

fn is_good(offset: i64) -> bool {
    !BAD.contains(&offset)
}

const ALL_BAD: usize = BAD.len() * PARTITIONS as usize;

#[test]
fn letters_in_a_topic_are_replayed_into_the_database_exactly_once() {
    let scene = Scene::new(REFUSE);
    scene.run(&["--dead-letter-topic", "dead"]).expect_code(0).expect_stderr("dead-lettered     10");
    scene.expect_rows("SUCCESS", is_good);
    assert_eq!(scene.letters_in_the_topic(), ALL_BAD as i64);
    assert_eq!(scene.number("SELECT sum(dead_lettered) FROM konekt_positions"), ALL_BAD as i64);
    assert_eq!(scene.number("SELECT sum(written + dead_lettered) FROM konekt_positions"), RECORDS * 2);

    let listed = scene.dlq("ls", &["--dead-letter-topic", "dead", "--partition", "1"]).expect_code(0);
    assert_eq!(listed.stdout.lines().count(), BAD.len(), "{}", listed.stdout);
    let counted = scene.dlq("stats", &["--dead-letter-topic", "dead", "--format", "json"]).expect_code(0);
    let counts: Value = serde_json::from_str(&counted.stdout).expect("one line of JSON");
    assert_eq!(
        (&counts["topic"], &counts["class"], &counts["letters"]),
        (&"orders".into(), &"data".into(), &10.into())
    );
    let shown =
        scene.dlq("show", &["--dead-letter-topic", "dead", "--partition", "1", "--offset", "201"]).expect_code(0);
    expect_letter_as_it_was(&shown.stdout);

    let replay = ["--dead-letter-topic", "dead", "--db", "out.db"];
    scene.dlq("replay", &replay).expect_code(1).expect_stderr("no bad ones here").expect_stderr("10 refused");
    scene.sql("DROP TRIGGER refuse");
    scene.dlq("replay", &[&replay[..], &["--dry-run"]].concat()).expect_code(0);
    scene.expect_rows("SUCCESS", is_good);
    scene.dlq("replay", &replay).expect_code(0).expect_stderr("10 replayed, 0 done before");
    scene.dlq("replay", &replay).expect_code(0).expect_stderr("0 replayed, 10 done before");
    assert_eq!(scene.number("SELECT count(DISTINCT id) FROM processed_messages"), RECORDS * 2);
    assert_eq!(scene.number("SELECT count(*) FROM processed_messages"), RECORDS * 2);
}

fn expect_letter_as_it_was(line: &str) {
    let entry: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    let letter = &entry["letter"];
    assert_eq!(letter["key"]["base64"], "AP4=", "{letter}");
    assert_eq!((&letter["value"], &letter["timestamp"]), (&"bad 201".into(), &1_700_000_000_201_i64.into()));
    assert_eq!(letter["headers"][0][1]["base64"], "/w==");
    assert_eq!(letter["headers"][1], serde_json::json!(["trace", null]));
    let header = |name: &str| {
        let headers = letter["headers"].as_array().expect("headers");
        headers.iter().find(|header| header[0] == name).map(|header| header[1].clone())
    };
    for (name, value) in
        [("konekt.dlq.offset", "201"), ("konekt.dlq.table", "processed_messages"), ("__connect.errors.topic", "orders")]
    {
        assert_eq!(header(name), Some(value.into()), "{name}");
    }
}

#[test]
fn letters_in_a_file_go_back_to_their_topic_but_not_for_ever() {
    let scene = Scene::new(REFUSE);
    scene.run(&["--dead-letter-file", "letters.jsonl"]).expect_code(0);
    scene.expect_rows("SUCCESS", is_good);
    let file = std::fs::read_to_string(scene.place.file("letters.jsonl")).expect("the file");
    assert_eq!(file.lines().count(), ALL_BAD);

    let end = |partition| scene.broker.log_end("orders", partition).expect("the topic");
    let replay = ["--dead-letter-file", "letters.jsonl", "--replays-max", "1"];
    let only_first = [&replay[..], &["--partition", "0"]].concat();
    scene.dlq("replay", &only_first).expect_code(0).expect_stderr("5 replayed");
    assert_eq!((end(0), end(1)), (RECORDS + 5, RECORDS), "each to the partition it came from");
    scene.dlq("replay", &replay).expect_code(0).expect_stderr("5 replayed, 5 done before");
    assert_eq!((end(0), end(1)), (RECORDS + 5, RECORDS + 5));

    // They are as bad as before: letters once more, and counted.
    scene.run(&["--dead-letter-file", "letters.jsonl"]).expect_code(0);
    let file = std::fs::read_to_string(scene.place.file("letters.jsonl")).expect("the file");
    assert_eq!(file.lines().count(), 2 * ALL_BAD);
    let refused = scene.dlq("replay", &replay).expect_code(1).expect_stderr("0 replayed, 10 done before, 10 refused");
    assert!(refused.stderr.contains("replayed 1 times already"), "{}", refused.stderr);
    assert_eq!(end(0), RECORDS + 5);
}

#[test]
fn letters_in_the_table_become_good_rows_when_it_takes_them() {
    let scene = Scene::new(REFUSE_UNLESS_FAILED);
    scene.run(&["--dead-letter-table"]).expect_code(0);
    scene.expect_rows("SUCCESS", is_good);
    assert_eq!(
        scene.number("SELECT count(*) FROM processed_messages WHERE processing_status = 'FAILED'"),
        ALL_BAD as i64
    );
    let listed = scene.dlq("ls", &["--db", "out.db", "--reason", "no bad ones"]).expect_code(0);
    assert_eq!(listed.stdout.lines().count(), ALL_BAD, "{}", listed.stdout);
    scene.dlq("replay", &["--db", "out.db"]).expect_code(0).expect_stderr("10 replayed");
    assert_eq!(
        scene.number("SELECT count(*) FROM processed_messages WHERE processing_status = 'SUCCESS'"),
        RECORDS * 2
    );
    assert_eq!(scene.number("SELECT count(error_message) FROM processed_messages"), 0);
}

#[test]
fn without_a_place_for_letters_the_partition_pauses_before_the_bad_record() {
    let scene = Scene::new(REFUSE);
    scene.sql("UPDATE konekt_positions SET next_offset = next_offset");
    let run = scene.sink().arguments(&["--topics", "orders", "--auto-offset-reset", "earliest"]).start();
    let soon = Duration::from_secs(60);
    wait::until("both partitions pause", soon, || (run.stderr().matches("pauses (errors)").count() >= 2).then_some(()));
    assert_eq!(scene.number("SELECT count(*) FROM processed_messages"), 0, "the first record is bad");
    run.stop("TERM", soon).expect_code(0).expect_stderr("--dead-letter-topic").expect_stderr("orders/1 offset 0");

    // With the first one out of the way, everything up to the next bad one is written.
    let forward = scene.place.konekt(&["positions", "forward", "--db", "out.db", "--group-id", "g"]);
    forward.arguments(&["--topic", "orders", "--to", "1", "--yes"]).run().expect_code(0);
    let run = scene.sink().arguments(&["--topics", "orders"]).start();
    wait::until("both partitions pause", soon, || (run.stderr().matches("pauses (errors)").count() >= 2).then_some(()));
    scene.expect_rows("SUCCESS", |offset| (1..200).contains(&offset));
    run.stop("TERM", soon).expect_code(0);
}

#[test]
fn what_the_topic_does_not_take_falls_back_to_the_file() {
    let scene = Scene::new(REFUSE);
    scene.run(&["--dead-letter-topic", "absent", "--dead-letter-file", "letters.jsonl"]).expect_code(0);
    scene.expect_rows("SUCCESS", is_good);
    let file = std::fs::read_to_string(scene.place.file("letters.jsonl")).expect("the file");
    assert_eq!(file.lines().count(), ALL_BAD);
}

#[test]
fn a_command_that_refuses_a_record_is_given_the_others() {
    let scene = Scene::new("");
    let script = "grep -q bad && exit 1; cat >/dev/null; exit 0";
    let patient =
        ["--max-retries", "1", "--retry-backoff-ms", "1", "--batch-size", "64", "--dead-letter-share-max", "50"];
    let run = scene.konekt(&["consume", "--topics", "orders", "--group-id", "g", "--until-end", "--exec", script]);
    run.arguments(&patient).arguments(&["--dead-letter-file", "letters.jsonl"]).run().expect_code(0);
    let listed = scene.dlq("ls", &["--dead-letter-file", "letters.jsonl", "--format", "json"]).expect_code(0);
    let mut offsets: Vec<(i64, i64)> = listed.stdout.lines().map(place_of).collect();
    offsets.sort_unstable();
    offsets.dedup();
    let expected: Vec<(i64, i64)> = (0..2).flat_map(|partition| BAD.map(|offset| (partition, offset))).collect();
    assert_eq!(offsets, expected);
    for partition in 0..PARTITIONS {
        assert_eq!(scene.broker.committed("g", "orders", partition), Some(RECORDS));
    }
}

fn place_of(line: &str) -> (i64, i64) {
    let entry: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    assert_eq!(entry["class"], "unclassified");
    (entry["partition"].as_i64().expect("a number"), entry["offset"].as_i64().expect("a number"))
}

#[test]
fn positions_are_shown_and_moved() {
    let scene = Scene::new("");
    scene.run(&[]).expect_code(0);
    let positions = |arguments: &[&str]| {
        let command = scene.konekt(&[&["positions"], arguments].concat());
        command.arguments(&["--db", "out.db", "--group-id", "g"]).run()
    };
    let next = |partition: i32| {
        scene.number(&format!(
            "SELECT next_offset FROM konekt_positions WHERE topic = 'orders' AND partition = {partition}"
        ))
    };
    let shown = scene.place.konekt(&["positions", "show", "--db", "out.db", "--group-id", "g", "--topic", "orders"]);
    assert_eq!(shown.run().expect_code(0).stdout.lines().count(), 3);
    positions(&["rewind", "--to", "10"]).expect_code(2).expect_stderr("--yes");
    positions(&["rewind", "--to", "10", "--yes", "--topic", "orders", "--partition", "1"]).expect_code(0);
    assert_eq!((next(0), next(1)), (RECORDS, 10));
    positions(&["rewind", "--to", "2100-01-01", "--yes"]).expect_code(0).expect_stderr("nothing to do");
    positions(&["rewind", "--to", "2023-11-14T22:13:20.100Z", "--yes"]).expect_code(0);
    assert_eq!((next(0), next(1)), (100, 10), "100 ms after the first record stands record 100");
    scene.run(&[]).expect_code(0).expect_stderr("already there   690");
    assert_eq!((next(0), next(1)), (RECORDS, RECORDS));
    assert_eq!(scene.number("SELECT count(*) FROM processed_messages"), RECORDS * 2);
    positions(&["rewind", "--to", "start", "--yes"]).expect_code(0);
    positions(&["forward", "--to", "end", "--yes"]).expect_code(0);
    assert_eq!((next(0), next(1)), (RECORDS, RECORDS));
    positions(&["forget", "--yes"]).expect_code(0);
    assert_eq!(scene.number("SELECT count(*) FROM konekt_positions"), 0);
    positions(&["show"]).expect_code(1).expect_stderr("keeps no such position");
}

#[test]
fn an_owner_at_work_is_fenced_by_a_change_and_goes_on_from_there() {
    let scene = Scene::new("");
    let run = scene.sink().arguments(&["--topics", "orders"]).start();
    let soon = Duration::from_secs(60);
    let rows = |scene: &Scene| rows_so_far(&scene.place.database());
    wait::until("all is written", soon, || (rows(&scene) == RECORDS * 2).then_some(()));
    scene.sql("DELETE FROM processed_messages WHERE partition = 0");
    let rewind =
        scene.place.konekt(&["positions", "rewind", "--db", "out.db", "--group-id", "g", "--to", "0", "--yes"]);
    rewind.run().expect_code(0);
    // The owner notices when it next writes.
    for partition in 0..PARTITIONS {
        let mut batch = RecordBatchBuilder::default();
        batch.append(None, Some(b"good"), &[], 1);
        scene.broker.append("orders", partition, batch.finish(Codec::None).expect("a batch"));
    }
    wait::until("it is written again", soon, || (rows(&scene) == RECORDS * 2 + 2).then_some(()));
    run.stop("TERM", soon).expect_code(0).expect_stderr("fenced");
}

/// Noise in place of each kind of answer, and cut ones: the run reads on or ends with an error, holds no more memory than
/// it may, and the next one makes good what is missing.
#[test]
fn a_broker_that_answers_with_noise_gets_errors_and_nothing_else() {
    use ApiKey::*;
    let classic = [JoinGroup, SyncGroup, Heartbeat, LeaveGroup].map(|api| (api, "classic"));
    let shared = [ApiVersions, Metadata, FindCoordinator, OffsetFetch, OffsetCommit, ListOffsets, Fetch];
    let all = shared.map(|api| (api, "auto")).into_iter().chain(classic).chain([(ConsumerGroupHeartbeat, "consumer")]);
    for (api, protocol) in all {
        let mut hostile: Vec<Action> = (0..4).map(Action::Noise).collect();
        hostile.extend([Action::TruncateFrame, Action::CloseHalfWay]);
        // Elsewhere it could be a lie in good form, which nobody can tell from the truth; records have a checksum.
        hostile.extend((api == Fetch).then_some(Action::Corrupt));
        let mut hits = 0;
        for (nth, action) in hostile.into_iter().enumerate() {
            // Some at the start, some in the middle.
            hits += u32::from(endure(Fault::new(api, action).after(nth as u32 % 3), protocol));
        }
        assert!(hits >= 2, "{api:?} was asked {hits} times");
    }
}

/// Whether the fault happened.
fn endure(fault: Fault, protocol: &str) -> bool {
    let scene = Scene::new("");
    let what = format!("{fault:?}");
    if fault.api == ApiKey::Heartbeat {
        // The run is long enough for some.
        let delay = Action::Delay(Duration::from_millis(500));
        scene.broker.faults().push(Fault::new(ApiKey::Fetch, delay));
    }
    scene.broker.faults().push(fault);
    // A member whose name got lost in noise is waited for as long as its session lasts.
    let session = ["--session-timeout-ms", "1000", "--heartbeat-interval-ms", "100"];
    let run = scene.sink().arguments(&["--topics", "orders", "--until-end", "--group-protocol", protocol]);
    let run = run.arguments(&session).arguments(&["--memory-limit", "32MiB", "--request-timeout-ms", "1000"]);
    let run = run.arguments(&["--connect-timeout-ms", "2000"]).run_within(Duration::from_secs(30));
    let took = run.took;
    run.expect_one_of(&[0, 1, 3]).expect_memory_within(32);
    eprintln!("{what}: {took:?}");
    let has_happened = scene.broker.faults().waiting() == 0;
    scene.broker.faults().clear();
    scene.run(&session).expect_code(0);
    scene.expect_rows("SUCCESS", |_| true);
    has_happened
}

#[test]
fn a_worker_that_hangs_is_reported_while_the_process_shows_life() {
    let scene = Scene::new("");
    let run =
        scene.konekt(&["consume", "--topics", "orders", "--exec", "cat >/dev/null; sleep 3", "--max-messages", "1"]);
    let run = run.arguments(&["--message-timeout-seconds", "1", "--heartbeat-file", "alive"]).start();
    let sign = || std::fs::read_to_string(scene.place.file("alive")).ok().filter(|text| text.ends_with('\n'));
    let soon = Duration::from_secs(60);
    let first = wait::until("there is a sign of life", soon, sign);
    wait::until("there is another", soon, || sign().filter(|text| *text != first));
    let run =
        run.wait().expect_code(0).expect_stderr("has been writing orders/").expect_stderr("message_timeout_seconds");
    assert!(run.stderr.contains(" offsets 0 to 0 for 1 s"), "{}", run.stderr);
}

#[test]
fn a_right_that_is_taken_away_and_given_back_stops_nothing_but_a_run_until_the_end() {
    let scene = Scene::new("");
    let forbid = || scene.broker.faults().push(Fault::new(ApiKey::Fetch, Action::Error(29)).times(1_000_000));
    forbid();
    scene.run(&[]).expect_code(1).expect_stderr("stands still").expect_stderr("TOPIC_AUTHORIZATION_FAILED");
    let run = scene.sink().arguments(&["--topics", "orders"]).start();
    let soon = Duration::from_secs(60);
    wait::until("it is said", soon, || run.stderr().contains("is not read").then_some(()));
    scene.broker.faults().clear();
    let all = i64::from(PARTITIONS) * RECORDS;
    wait::until("it goes on by itself", soon, || (rows_so_far(&scene.place.database()) == all).then_some(()));
    run.stop("TERM", soon).expect_code(0);
    scene.expect_rows("SUCCESS", |_| true);
}

fn rows_so_far(database: &Path) -> i64 {
    let Ok(connection) = Connection::open(database) else { return 0 };
    connection.query_row("SELECT count(*) FROM processed_messages", [], |row| row.get(0)).unwrap_or(0)
}
