//! The main job on a real Kafka: topics into a SQLite file, exactly once. What is started here ends by itself or by a
//! signal, as in production; the database is audited afterwards.

mod support;

use std::time::Duration;

use serde_json::{Value, json};
use support::audit::{Audit, expect_exactly};
use support::kafka::{self, RealKafka};
use support::konekt::Place;
use support::{or_skip, wait};

/// Long enough for anything on a busy machine, short enough to see a hang.
const SOON: Duration = Duration::from_secs(90);

#[test]
fn a_million_records_become_a_million_rows() {
    let Some(kafka) = or_skip(kafka::newest()) else { return };
    kafka.filled_topic("million", 8, 1_000_000, 200);
    let place = Place::new();
    let run = place.sink(kafka, "million", "million").arguments(&["--until-end", "--memory-limit", "64MiB"]).run();
    run.expect_code(0).expect_memory_within(64);
    expect_exactly(&place.database(), kafka, "million", "million", 1_000_000);
    expect_committed(kafka, "million", "million");
}

#[test]
fn the_oldest_kafka_serves_as_well() {
    let Some(kafka) = or_skip(kafka::oldest()) else { return };
    kafka.filled_topic("hundred-thousand", 8, 100_000, 200);
    let place = Place::new();
    place.sink(kafka, "hundred-thousand", "oldest").arguments(&["--until-end"]).run().expect_code(0);
    expect_exactly(&place.database(), kafka, "hundred-thousand", "oldest", 100_000);
    expect_committed(kafka, "hundred-thousand", "oldest");
}

#[test]
fn a_further_run_goes_on_where_the_last_one_ended() {
    let Some(kafka) = or_skip(kafka::newest()) else { return };
    kafka.filled_topic("further", 3, 3_000, 100);
    let place = Place::new();
    let run = || place.sink(kafka, "further", "further").arguments(&["--until-end"]).run().expect_code(0);
    run();
    run();
    expect_exactly(&place.database(), kafka, "further", "further", 3_000);
    kafka.fill("further", 3, 3_000, 2_000, 100);
    run();
    expect_exactly(&place.database(), kafka, "further", "further", 5_000);
}

#[test]
fn the_database_decides_where_to_go_on_not_the_group() {
    let Some(kafka) = or_skip(kafka::newest()) else { return };
    kafka.filled_topic("decides", 2, 1_000, 100);
    let place = Place::new();
    let run = || place.sink(kafka, "decides", "decides").arguments(&["--until-end"]).run().expect_code(0);
    run();
    for offset in [0, 499] {
        kafka.java(
            &json!({"do": "set-committed", "group": "decides", "topic": "decides", "partition": 0, "offset": offset}),
        );
        run();
        expect_exactly(&place.database(), kafka, "decides", "decides", 1_000);
    }
}

#[test]
fn max_messages_is_exact() {
    let Some(kafka) = or_skip(kafka::newest()) else { return };
    kafka.filled_topic("limited", 4, 10_000, 100);
    let place = Place::new();
    place.sink(kafka, "limited", "limited").arguments(&["--max-messages", "1234"]).run().expect_code(0);
    assert_eq!(Audit::open(&place.database()).rows("limited"), 1_234);
    place.sink(kafka, "limited", "limited").arguments(&["--until-end"]).run().expect_code(0);
    expect_exactly(&place.database(), kafka, "limited", "limited", 10_000);
}

#[test]
fn a_pattern_takes_every_topic_that_matches() {
    let Some(kafka) = or_skip(kafka::newest()) else { return };
    for topic in ["pattern-a", "pattern-b", "another"] {
        kafka.filled_topic(topic, 2, 500, 100);
    }
    let place = Place::new();
    place.sink(kafka, "/pattern-.*/", "pattern").arguments(&["--until-end"]).run().expect_code(0);
    for topic in ["pattern-a", "pattern-b"] {
        expect_exactly(&place.database(), kafka, topic, "pattern", 500);
    }
    assert_eq!(Audit::open(&place.database()).rows("another"), 0);
}

#[test]
fn latest_leaves_out_what_was_there_before() {
    let Some(kafka) = or_skip(kafka::newest()) else { return };
    kafka.filled_topic("latest", 2, 500, 100);
    let place = Place::new();
    let run = place.sink(kafka, "latest", "latest").arguments(&["--auto-offset-reset", "latest", "--until-end"]);
    run.run().expect_code(0);
    let audit = Audit::open(&place.database());
    assert_eq!(audit.rows("latest"), 0);
    assert_eq!(audit.positions("latest", "latest").into_values().collect::<Vec<i64>>(), kafka.ends("latest"));
}

#[test]
fn error_refuses_to_choose_where_to_start() {
    let Some(kafka) = or_skip(kafka::newest()) else { return };
    kafka.filled_topic("no-choice", 2, 500, 100);
    let place = Place::new();
    let run = place.sink(kafka, "no-choice", "no-choice").arguments(&["--auto-offset-reset", "error", "--until-end"]);
    run.run().expect_code(1).expect_stderr("no-choice/").expect_stderr("auto-offset-reset");
}

#[test]
fn an_unknown_topic_is_named() {
    let Some(kafka) = or_skip(kafka::newest()) else { return };
    let place = Place::new();
    let run = place.sink(kafka, "no-such-topic", "unknown").arguments(&["--until-end"]).run();
    assert!(run.took < SOON, "the answer took {:?}", run.took);
    run.expect_stderr("no-such-topic").expect_code(1);
}

#[test]
fn what_retention_removed_before_it_was_read_is_a_gap_that_stops() {
    let Some(kafka) = or_skip(kafka::newest()) else { return };
    kafka.filled_topic("overtaken", 1, 1_000, 100);
    let place = Place::new();
    let run = || place.sink(kafka, "overtaken", "overtaken").arguments(&["--until-end"]).run();
    run().expect_code(0);
    kafka.fill("overtaken", 1, 1_000, 1_000, 100);
    kafka.java(&json!({"do": "delete-records", "topic": "overtaken", "partition": 0, "before": 1_500}));
    run().expect_code(1).expect_stderr("overtaken/0").expect_stderr("1000").expect_stderr("1500");
    assert_eq!(Audit::open(&place.database()).rows("overtaken"), 1_000, "no silent jump over the gap");
}

#[test]
fn a_topic_that_is_made_anew_is_read_whole_by_the_next_run() {
    let Some(kafka) = or_skip(kafka::newest()) else { return };
    kafka.filled_topic("anew", 1, 1_000, 100);
    let place = Place::new();
    let often = ["--commit-interval-ms", "10"];
    let run =
        place.konekt(&["consume", "--topics", "anew", "--group-id", "anew", "--bootstrap-servers", &kafka.address()]);
    let run = run.arguments(&often).start();
    wait::until("the old one is read", SOON, || (run.stdout().lines().count() == 1_000).then_some(()));
    let delete = ["admin", "topic", "delete", "anew", "--execute", "--bootstrap-servers", &kafka.address()];
    place.konekt(&delete).run().expect_code(0);
    kafka.filled_topic("anew", 1, 2_000, 100);
    let stands = "anew/0 stands still: the topic was deleted and made anew";
    wait::until("it stands still", SOON, || run.stderr().contains(stands).then_some(()));
    run.stop("TERM", SOON).expect_code(1);
    let next = place.consume(kafka, "anew", "anew").run().expect_code(0);
    assert_eq!(next.stdout.lines().count(), 2_000, "{}", next.stderr);
    expect_committed(kafka, "anew", "anew");
}

#[test]
fn a_broker_that_restarts_or_dies_costs_time_and_nothing_else() {
    let Some(kafka) = or_skip(kafka::own(&[kafka::FORGETS_SOON])) else { return };
    kafka.filled_topic("restarted", 8, 200_000, 200);
    let place = Place::new();
    let run = place.sink(&kafka, "restarted", "restarted").start();
    wait::until("the first rows are written", SOON, || (written(&place, "restarted") > 0).then_some(()));
    kafka.stop();
    kafka.start_again().expect("the broker comes back");
    kafka.fill("restarted", 8, 200_000, 50_000, 200);
    kafka.kill();
    kafka.start_again().expect("the broker comes back");
    wait::until("every row is written", SOON, || (written(&place, "restarted") == 250_000).then_some(()));
    run.stop("TERM", SOON).expect_code(0);
    expect_exactly(&place.database(), &kafka, "restarted", "restarted", 250_000);
}

#[test]
fn partitions_that_are_added_while_it_runs_are_read_from_their_start() {
    let Some(kafka) = or_skip(kafka::newest()) else { return };
    kafka.filled_topic("growing", 2, 1_000, 100);
    let place = Place::new();
    let run = place.sink(kafka, "growing", "growing").arguments(&["--metadata-max-age-ms", "500"]).start();
    wait::until("the first rows are written", SOON, || (written(&place, "growing") == 1_000).then_some(()));
    kafka.java(&json!({"do": "add-partitions", "topic": "growing", "partitions": 5}));
    kafka.fill("growing", 5, 1_000, 5_000, 100);
    wait::until("the new partitions are read", SOON, || (written(&place, "growing") == 6_000).then_some(()));
    run.stop("TERM", SOON).expect_code(0);
    expect_exactly(&place.database(), kafka, "growing", "growing", 6_000);
}

#[test]
fn statistics_are_lines_of_json() {
    let Some(kafka) = or_skip(kafka::newest()) else { return };
    kafka.filled_topic("counted", 2, 2_000, 100);
    let place = Place::new();
    let run = place.sink(kafka, "counted", "counted").arguments(&["--until-end", "--stats-json", "statistics.jsonl"]);
    run.run().expect_code(0);
    let text = std::fs::read_to_string(place.file("statistics.jsonl")).expect("the statistics");
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    assert!(lines.last().is_some_and(Value::is_object), "{text}");
}

#[test]
fn consume_prints_every_record_once() {
    let Some(kafka) = or_skip(kafka::newest()) else { return };
    kafka.filled_topic("printed", 3, 3_000, 100);
    let place = Place::new();
    let output = place.consume(kafka, "printed", "printed").run().expect_code(0).stdout;
    let mut sequences: Vec<u64> = output.lines().map(sequence_of).collect();
    sequences.sort_unstable();
    assert!(sequences.iter().copied().eq(0..3_000), "{} lines", sequences.len());
    expect_committed(kafka, "printed", "printed");
}

fn sequence_of(line: &str) -> u64 {
    let record: Value = serde_json::from_str(line).expect(line);
    let value: Value = serde_json::from_str(record["value"].as_str().expect(line)).expect(line);
    value["seq"].as_u64().expect(line)
}

fn written(place: &Place, topic: &str) -> u64 {
    Audit::rows_so_far(&place.database(), topic)
}

/// Demands that Kafka's own tools see the group at the ends of the topic.
fn expect_committed(kafka: &RealKafka, topic: &str, group: &str) {
    let ends = kafka.ends(topic);
    let expected: Vec<_> = (0..).zip(ends).map(|(partition, end)| (topic.to_owned(), partition, end)).collect();
    assert_eq!(kafka.committed(group), expected, "what group {group} has committed");
}
