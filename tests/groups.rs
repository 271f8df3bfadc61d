//! Members of a group on a real Kafka: both protocols, members that come, go and die, leaders that move and brokers
//! that restart. Afterwards the database holds each record once.
//!
//! `KONEKT_CHURN_SECONDS` says how long members come and go; the gate takes a few seconds, by hand take some minutes.
#![allow(clippy::disallowed_methods, reason = "tests stand outside the door")]

mod support;

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use support::audit::{Audit, expect_exactly};
use support::kafka::{self, RealKafka};
use support::konekt::{Konekt, Place, Running, stop_all};
use support::random::Random;
use support::{or_skip, wait};

/// How long the group waits for a member that has died; short, since most of these tests wait for it.
const SESSION_MS: &str = "3000";
const HEARTBEAT_MS: &str = "500";
/// The same for the consumer protocol, where the broker decides.
const BROKER_SETTINGS: [&str; 5] = [
    "group.consumer.min.session.timeout.ms=1000",
    "group.consumer.session.timeout.ms=3000",
    "group.consumer.min.heartbeat.interval.ms=100",
    "group.consumer.heartbeat.interval.ms=500",
    "group.consumer.max.size=1000",
];
/// Long enough for anything on a busy machine, short enough to see a hang.
const SOON: Duration = Duration::from_secs(120);
const CLASSIC_COOPERATIVE: &[&str] = &["--partition-assignment-strategy", "cooperative-sticky"];
const CONSUMER: &[&str] = &["--group-protocol", "consumer"];
const AUTO: &[&str] = &["--group-protocol", "auto"];

/// The newest Kafka, with short sessions in both protocols.
fn newest() -> Result<&'static RealKafka, String> {
    static SHARED: OnceLock<Result<RealKafka, String>> = OnceLock::new();
    SHARED.get_or_init(|| kafka::own(&BROKER_SETTINGS)).as_ref().map_err(Clone::clone)
}

#[test]
fn in_the_consumer_protocol_two_share_and_one_takes_over() {
    let Some(kafka) = or_skip(newest()) else { return };
    kafka.filled_topic("handover", 8, 50_000, 200);
    let place = Place::new();
    let one = member(&place, kafka, "handover", CONSUMER).start();
    expect_members(kafka, "handover", &[8]);
    let two = member(&place, kafka, "handover", CONSUMER).start();
    expect_members(kafka, "handover", &[4, 4]);
    kafka.fill("handover", 8, 50_000, 100_000, 200);
    wait::until("both are at work", SOON, || (written(&place, "handover") > 60_000).then_some(()));
    two.stop("TERM", SOON).expect_code(0);
    expect_members(kafka, "handover", &[8]);
    kafka.fill("handover", 8, 150_000, 10_000, 200);
    finish(kafka, &place, "handover", vec![one], 160_000);
}

#[test]
fn a_static_member_of_the_consumer_protocol_restarts_unnoticed() {
    let Some(kafka) = or_skip(newest()) else { return };
    kafka.filled_topic("static", 8, 20_000, 200);
    let place = Place::new();
    let start =
        |instance| member(&place, kafka, "static", CONSUMER).arguments(&["--group-instance-id", instance]).start();
    let (one, two) = (start("one"), start("two"));
    expect_members(kafka, "static", &[4, 4]);
    let moves = |run: &Running| run.stderr().matches("partitions revoked").count();
    let before = moves(&one);
    two.stop("TERM", SOON).expect_code(0);
    kafka.fill("static", 8, 20_000, 20_000, 200);
    let again = start("two");
    expect_rows(&place, "static", &[&one, &again], 40_000);
    assert_eq!(moves(&one), before, "{}", one.stderr());
    // killed, it cannot say that it will be back: its successor waits for the session's end
    again.kill();
    kafka.fill("static", 8, 40_000, 20_000, 200);
    let heir = start("two");
    finish(kafka, &place, "static", vec![one, heir], 60_000);
}

#[test]
fn auto_falls_back_on_the_oldest_kafka_and_consumer_says_what_to_do() {
    let Some(kafka) = or_skip(kafka::oldest()) else { return };
    kafka.filled_topic("fallback", 4, 20_000, 200);
    let place = Place::new();
    let run = member(&place, kafka, "fallback", CONSUMER).arguments(&["--until-end"]).run();
    run.expect_code(1).expect_stderr("set group_protocol to classic or auto");
    let run = member(&place, kafka, "fallback", AUTO).arguments(&["--until-end"]).run();
    run.expect_code(0).expect_stderr("wants the classic protocol");
    expect_exactly(&place.database(), kafka, "fallback", &group("fallback"), 20_000);
}

#[test]
fn a_classic_group_is_converted_while_it_works() {
    let Some(kafka) = or_skip(newest()) else { return };
    kafka.filled_topic("converted", 8, 50_000, 200);
    let place = Place::new();
    let classic = member(&place, kafka, "converted", &[]).start();
    expect_members(kafka, "converted", &[8]);
    let auto = member(&place, kafka, "converted", AUTO).start();
    expect_members(kafka, "converted", &[4, 4]);
    kafka.fill("converted", 8, 50_000, 50_000, 200);
    wait::until("both are at work", SOON, || (written(&place, "converted") > 60_000).then_some(()));
    classic.stop("TERM", SOON).expect_code(0);
    finish(kafka, &place, "converted", vec![auto], 100_000);
}

#[test]
fn twelve_come_and_go_and_die_in_the_consumer_protocol() {
    churn("churn-consumer", CONSUMER);
}

#[test]
fn twelve_come_and_go_and_die_with_cooperative_sticky() {
    churn("churn-cooperative", CLASSIC_COOPERATIVE);
}

/// Up to twelve members, of which every moment one leaves, dies or is added, while records come.
fn churn(topic: &str, way: &[&str]) {
    const MEMBERS: usize = 12;
    const PARTITIONS: u32 = 24;
    const STEP: u64 = 2_400;
    let Some(kafka) = or_skip(newest()) else { return };
    let seconds = std::env::var("KONEKT_CHURN_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(12);
    let mut random = Random::announced();
    kafka.filled_topic(topic, PARTITIONS, STEP, 200);
    let place = Place::new();
    let start = || member(&place, kafka, topic, way).start();
    let mut members: Vec<Running> = (0..MEMBERS / 2).map(|_| start()).collect();
    let (mut records, mut joined, mut left, mut died) = (STEP, members.len(), 0, 0);
    let end = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < end {
        wait::pause(Duration::from_millis(random.between(100, 900)));
        kafka.fill(topic, PARTITIONS, records, STEP, 200);
        records += STEP;
        let chosen = random.between(0, members.len() as u64) as usize;
        match random.between(0, 4) {
            0 if members.len() > 1 => {
                left += 1;
                members.swap_remove(chosen).stop("TERM", SOON).expect_code(0);
            }
            1 if members.len() > 1 => {
                died += 1;
                members.swap_remove(chosen).kill();
            }
            _ if members.len() < MEMBERS => {
                joined += 1;
                members.push(start());
            }
            _ => {}
        }
    }
    eprintln!("{topic}: {joined} joined, {left} left, {died} died, {records} records in {seconds} s");
    while members.len() < MEMBERS {
        members.push(start());
    }
    expect_members(kafka, topic, &[PARTITIONS as usize / MEMBERS; MEMBERS]);
    finish(kafka, &place, topic, members, records);
}

/// Longest time without a new row while brokers and leaders move, and the same for the writer of the records: what a
/// reader waits for is what nobody could write.
#[test]
fn leaders_move_and_brokers_restart_under_load() {
    let settings =
        ["replica.selector.class=org.apache.kafka.common.replica.RackAwareReplicaSelector", kafka::FORGETS_SOON];
    let Some(brokers) = or_skip(kafka::three(&settings)) else { return };
    let kafka = &brokers[0];
    kafka.java(&json!({"do": "create-topic", "topic": "moving", "partitions": 6, "replicas": 3}));
    let place = Place::new();
    let run = member(&place, kafka, "moving", &["--client-rack", "rack-3"]).variable("KONEKT_LOG", "debug").start();
    let (records, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let longest = std::thread::scope(|scope| {
        let stopping = StopOnDrop(&stop);
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let first = records.load(Ordering::Relaxed);
                kafka.fill("moving", 6, first, 1_200, 200);
                records.store(first + 1_200, Ordering::Relaxed);
                wait::pause(Duration::from_millis(20)); // the tool is shared, and the disk is not for ever
            }
        });
        let watch = scope.spawn(|| longest_pause(&place, "moving", &stop));
        let flows = |what: &str| {
            let before = written(&place, "moving");
            wait::until(what, SOON, || (written(&place, "moving") > before + 6_000).then_some(()));
        };
        flows("rows are written at first");
        for leader in [2, 3, 1] {
            kafka.java(&json!({"do": "move-leaders", "topic": "moving", "to": leader}));
            flows("rows are written after the leaders have moved");
        }
        for restarted in &brokers[1..] {
            restarted.stop();
            flows("rows are written while a broker is away");
            restarted.start_again().expect("it starts again");
            flows("rows are written after it came back");
        }
        drop(stopping);
        watch.join().expect("the watch does not fail")
    });
    eprintln!("moving: {} records, longest pause {longest:?}", records.load(Ordering::Relaxed));
    let said = run.stderr();
    finish(kafka, &place, "moving", vec![run], records.load(Ordering::Relaxed));
    assert!(said.contains("is nearer than the leader"), "the replica in its rack is read");
    assert!(longest < Duration::from_secs(10), "{longest:?} without a row");
}

/// Threads that look at it end, also when the test fails.
struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn longest_pause(place: &Place, topic: &str, stop: &AtomicBool) -> Duration {
    let (mut last, mut since, mut longest) = (0, Instant::now(), Duration::ZERO);
    while !stop.load(Ordering::Relaxed) {
        let rows = written(place, topic);
        if rows > last {
            if last > 0 {
                longest = longest.max(since.elapsed());
            }
            (last, since) = (rows, Instant::now());
        }
        wait::pause(Duration::from_millis(20));
    }
    longest
}

fn group(topic: &str) -> String {
    format!("groups-{topic}")
}

/// One member of the topic's group; all of them write to one file.
fn member(place: &Place, kafka: &RealKafka, topic: &str, way: &[&str]) -> Konekt {
    place
        .sink(kafka, topic, &group(topic))
        .arguments(way)
        .variable("KAFKA_SESSION_TIMEOUT_MS", SESSION_MS)
        .variable("KAFKA_HEARTBEAT_INTERVAL_MS", HEARTBEAT_MS)
}

fn written(place: &Place, topic: &str) -> u64 {
    Audit::rows_so_far(&place.database(), topic)
}

fn expect_members(kafka: &RealKafka, topic: &str, partitions: &[usize]) {
    let what = format!("the members of {topic} hold {partitions:?}");
    wait::until(&what, SOON, || (kafka.members(&group(topic)) == partitions).then_some(()));
}

/// Waits until every record is a row.
fn expect_rows(place: &Place, topic: &str, members: &[impl std::borrow::Borrow<Running>], records: u64) {
    let started = Instant::now();
    while written(place, topic) < records {
        if started.elapsed() > SOON {
            let said: Vec<String> = members.iter().map(|member| member.borrow().stderr()).collect();
            panic!("{topic}: {} of {records} rows after {SOON:?}:\n{}", written(place, topic), said.join("\n---\n"));
        }
        wait::pause(Duration::from_millis(20));
    }
}

/// Waits until every record is a row, stops all, and audits.
fn finish(kafka: &RealKafka, place: &Place, topic: &str, members: Vec<Running>, records: u64) {
    expect_rows(place, topic, &members, records);
    stop_all(members).into_iter().for_each(|ended| drop(ended.expect_code(0)));
    expect_exactly(&place.database(), kafka, topic, &group(topic), records);
}
