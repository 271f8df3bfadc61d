//! Members of a group by each client that has groups: two share, one leaves, the other takes over, and the database holds
//! each record once. A client without groups reads all by itself, also after its broker was away.

use std::time::Duration;

use konekt::Client;
use konekt::source::client::Ability;

use crate::support::audit::{Audit, expect_exactly};
use crate::support::kafka::{self, RealKafka};
use crate::support::konekt::{Place, Running};
use crate::support::{or_skip, wait};
use crate::{clients, reads};

/// Long enough for anything on a busy machine, short enough to see a hang.
const SOON: Duration = Duration::from_secs(120);

#[test]
fn two_members_share_and_one_takes_over() {
    let ways = [(kafka::oldest(), "classic"), (kafka::newest(), "classic"), (kafka::newest(), "consumer")];
    for (kafka, protocol) in ways {
        let Some(kafka) = or_skip(kafka) else { return };
        for client in clients().filter(|client| client.delivers(Ability::Groups).is_yes()) {
            share(kafka, client, protocol, "range");
        }
    }
    let Some(kafka) = or_skip(kafka::newest()) else { return };
    for client in clients().filter(|client| client.delivers(Ability::Groups).is_yes()) {
        share(kafka, client, "classic", "cooperative-sticky");
    }
}

fn share(kafka: &RealKafka, client: Client, protocol: &str, strategy: &str) {
    let topic = format!("shared-{}-{protocol}-{strategy}", client.name());
    kafka.filled_topic(&topic, 8, 10_000, 200);
    let place = Place::new();
    let start = || {
        let arguments = ["--client", client.name(), "--group-protocol", protocol];
        let run = place.sink(kafka, &topic, &topic).arguments(&arguments);
        match protocol {
            "classic" => {
                run.arguments(&["--partition-assignment-strategy", strategy, "--heartbeat-interval-ms", "500"]).start()
            }
            _ => run.start(),
        }
    };
    let one = start();
    expect_members(kafka, &topic, &[8], &[&one]);
    let two = start();
    expect_members(kafka, &topic, &[4, 4], &[&one, &two]);
    kafka.fill(&topic, 8, 10_000, 20_000, 200);
    expect_rows(&place, &topic, 30_000, &[&one, &two]);
    two.stop("TERM", SOON).expect_code(0);
    expect_members(kafka, &topic, &[8], &[&one]);
    kafka.fill(&topic, 8, 30_000, 5_000, 200);
    expect_rows(&place, &topic, 35_000, &[&one]);
    one.stop("TERM", SOON).expect_code(0);
    expect_exactly(&place.database(), kafka, &topic, &topic, 35_000);
}

fn expect_members(kafka: &RealKafka, topic: &str, partitions: &[usize], members: &[&Running]) {
    expect(&format!("the members of {topic} hold {partitions:?}"), members, || kafka.members(topic) == partitions);
}

fn expect_rows(place: &Place, topic: &str, records: u64, members: &[&Running]) {
    let rows = || Audit::rows_so_far(&place.database(), topic);
    expect(&format!("{topic} has {records} rows"), members, || rows() >= records);
}

/// Waits, and shows what the members said when that was in vain.
fn expect(what: &str, members: &[&Running], condition: impl Fn() -> bool) {
    let started = std::time::Instant::now();
    while !condition() {
        if started.elapsed() > SOON {
            let said: Vec<String> = members.iter().map(|member| member.stderr()).collect();
            panic!("waited {SOON:?} in vain until {what}:\n{}", said.join("\n---\n"));
        }
        wait::pause(Duration::from_millis(20));
    }
}

#[test]
fn a_broker_that_restarts_or_dies_costs_no_client_a_record() {
    for version in ["KAFKA_OLD", "KAFKA_NEW"] {
        let Some(kafka) = or_skip(RealKafka::start(kafka::version(version))) else { return };
        for client in clients().filter(|client| reads(*client, kafka.version())) {
            outlive(&kafka, client);
        }
    }
}

fn outlive(kafka: &RealKafka, client: Client) {
    let topic = format!("outlived-{}", client.name());
    kafka.create_topic(&topic, 4, &[]);
    let fill = |first: u64| {
        kafka.java(&serde_json::json!({"do": "bulk", "topic": topic, "partitions": 4, "first": first,
            "records": 10_000, "size": 200, "codec": "none"}));
    };
    fill(0);
    let place = Place::new();
    let run = place.sink(kafka, &topic, &topic).arguments(&["--client", client.name()]).start();
    expect_rows(&place, &topic, 10_000, &[&run]);
    kafka.stop();
    kafka.start_again().expect("it starts again");
    fill(10_000);
    expect_rows(&place, &topic, 20_000, &[&run]);
    kafka.kill();
    kafka.start_again().expect("it starts again");
    fill(20_000);
    expect_rows(&place, &topic, 30_000, &[&run]);
    run.stop("TERM", SOON).expect_code(0);
    expect_exactly(&place.database(), kafka, &topic, &topic, 30_000);
}
