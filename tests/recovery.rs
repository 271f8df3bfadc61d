//! Processes that are killed, stopped and added, whenever: afterwards the database holds each record once.

mod support;

use std::time::Duration;

use support::audit::{Audit, expect_exactly};
use support::kafka::{self, RealKafka};
use support::konekt::{Konekt, Place, Running, stop_all};
use support::random::Random;
use support::{or_skip, wait};

/// How long the group waits for a member that has died; short, since most of these tests wait for it.
const SESSION: Duration = Duration::from_secs(3);

/// How long a run may take to stop: its `shutdown_timeout_ms` and what a busy machine needs beside it.
const DRAIN: Duration = Duration::from_secs(35);

/// Long enough for anything on a busy machine, short enough to see a hang.
const SOON: Duration = Duration::from_secs(120);

#[test]
fn killed_ten_times_and_started_again() {
    let Some(kafka) = or_skip(kafka::newest()) else { return };
    let mut random = Random::announced();
    kafka.filled_topic("killed", 8, 1_000_000, 200);
    let place = Place::new();
    let mut killed_at_work = 0;
    for _ in 0..10 {
        let before = written(&place, "killed");
        let mut run = member(&place, kafka, "killed").start();
        let wanted = before + random.between(1, 80_000);
        // some die while they start, most while they write
        wait::until("it is time to kill", SOON, || (written(&place, "killed") >= wanted).then_some(()));
        wait::pause(Duration::from_millis(random.between(0, 50)));
        killed_at_work += u32::from(run.poll().is_none() && written(&place, "killed") < 1_000_000);
        run.kill();
    }
    assert!(killed_at_work >= 5, "only {killed_at_work} of ten kills hit a run at work");
    member(&place, kafka, "killed").arguments(&["--until-end"]).run().expect_code(0);
    expect_exactly(&place.database(), kafka, "killed", &group("killed"), 1_000_000);
}

#[test]
fn killed_while_it_starts() {
    let Some(kafka) = or_skip(kafka::newest()) else { return };
    let mut random = Random::announced();
    kafka.filled_topic("newborn", 8, 20_000, 200);
    let place = Place::new();
    for _ in 0..5 {
        let run = member(&place, kafka, "newborn").start();
        wait::pause(Duration::from_millis(random.between(0, 400)));
        run.kill();
    }
    member(&place, kafka, "newborn").arguments(&["--until-end"]).run().expect_code(0);
    expect_exactly(&place.database(), kafka, "newborn", &group("newborn"), 20_000);
}

#[test]
fn asked_to_stop_it_finishes_what_it_has_begun() {
    let Some(kafka) = or_skip(kafka::newest()) else { return };
    kafka.filled_topic("stopped", 8, 300_000, 200);
    let place = Place::new();
    for signal in ["TERM", "INT"] {
        let before = written(&place, "stopped");
        let run = member(&place, kafka, "stopped").start();
        wait::until("rows are written", SOON, || (written(&place, "stopped") > before).then_some(()));
        run.stop(signal, DRAIN).expect_code(0);
        assert!(kafka.members(&group("stopped")).is_empty(), "it has left the group");
    }
    member(&place, kafka, "stopped").arguments(&["--until-end"]).run().expect_code(0);
    expect_exactly(&place.database(), kafka, "stopped", &group("stopped"), 300_000);
}

#[test]
fn three_share_the_work_one_dies_and_one_is_added() {
    let Some(kafka) = or_skip(kafka::newest()) else { return };
    kafka.filled_topic("shared", 8, 1_000, 200);
    let place = Place::new();
    let mut members: Vec<Running> = (0..3).map(|_| member(&place, kafka, "shared").start()).collect();
    expect_members(kafka, "shared", &[2, 3, 3]);
    kafka.fill("shared", 8, 1_000, 149_000, 200);
    wait::until("all three are at work", SOON, || (written(&place, "shared") > 20_000).then_some(()));
    members.remove(1).kill();
    members.push(member(&place, kafka, "shared").start());
    expect_members(kafka, "shared", &[2, 3, 3]);
    kafka.fill("shared", 8, 150_000, 150_000, 200);
    wait::until("every row is written", SOON, || (written(&place, "shared") >= 300_000).then_some(()));
    stop_all(members).into_iter().for_each(|ended| drop(ended.expect_code(0)));
    expect_exactly(&place.database(), kafka, "shared", &group("shared"), 300_000);
}

#[test]
fn until_end_a_group_ends_together_also_when_one_of_it_dies() {
    let Some(kafka) = or_skip(kafka::newest()) else { return };
    kafka.filled_topic("together", 8, 300_000, 200);
    let place = Place::new();
    let start = || member(&place, kafka, "together").arguments(&["--until-end"]).start();
    let (mortal, first, second) = (start(), start(), start());
    wait::until("rows are written", SOON, || (written(&place, "together") > 20_000).then_some(()));
    mortal.kill();
    for survivor in [first, second] {
        survivor.wait().expect_code(0);
    }
    expect_exactly(&place.database(), kafka, "together", &group("together"), 300_000);
}

fn group(topic: &str) -> String {
    format!("recovery-{topic}")
}

/// One member of the topic's group; all of them write to one file.
fn member(place: &Place, kafka: &RealKafka, topic: &str) -> Konekt {
    let milliseconds = |duration: Duration| duration.as_millis().to_string();
    place
        .sink(kafka, topic, &group(topic))
        .variable("KAFKA_SESSION_TIMEOUT_MS", &milliseconds(SESSION))
        .variable("KAFKA_HEARTBEAT_INTERVAL_MS", &milliseconds(SESSION / 4))
}

fn written(place: &Place, topic: &str) -> u64 {
    Audit::rows_so_far(&place.database(), topic)
}

fn expect_members(kafka: &RealKafka, topic: &str, partitions: &[usize]) {
    let what = format!("the members of {topic} hold {partitions:?}");
    wait::until(&what, SOON, || (kafka.members(&group(topic)) == partitions).then_some(()));
}
