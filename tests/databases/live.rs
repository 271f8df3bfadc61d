//! The main job, from a real Kafka into real databases, whatever is killed meanwhile.

use std::time::Duration;

use serde_json::json;

use crate::support::audit::{Witness, expect_exactly_in};
use crate::support::databases::{self, Database, Server};
use crate::support::kafka::{self, RealKafka};
use crate::support::konekt::{Konekt, Place, RUN_LIMIT};
use crate::support::random::Random;
use crate::support::{or_skip, wait};
use crate::with_every_server;

with_every_server!(documents_of_many_megabytes_pass_within_the_memory_budget);

/// How long the group waits for a member that has died; short, since these tests wait for it.
const SESSION_MS: &str = "3000";
const RECORDS: u64 = 300_000;
/// `memory_limit`, where nobody sets it.
const BUDGET_MIB: u64 = 256;

#[test]
fn postgres_has_each_record_once_whatever_is_killed() {
    killed_and_restarted("into-postgres", databases::own_postgres());
}

#[test]
fn mariadb_has_each_record_once_whatever_is_killed() {
    killed_and_restarted("into-mariadb", databases::own_mariadb());
}

/// Six times, at random moments, Konekt is killed and started again; in between, the database is killed or restarted.
fn killed_and_restarted(topic: &str, server: Result<Server, String>) {
    let (Some(kafka), Some(server)) = (or_skip(kafka::newest()), or_skip(server)) else { return };
    let mut random = Random::announced();
    kafka.filled_topic(topic, 8, RECORDS, 200);
    let (database, place) = (server.database(), Place::new());
    let mut killed_at_work = 0;
    for round in 0..6 {
        let before = database.written(topic);
        let mut run = member(&place, &database, kafka, topic).start();
        let wanted = before + random.between(1, 40_000);
        if round % 2 == 1 {
            wait::pause(Duration::from_millis(random.between(0, 1_000)));
            let end = if random.between(0, 2) == 0 { Server::kill } else { Server::stop };
            end(&server);
            wait::pause(Duration::from_millis(random.between(0, 500)));
            server.start_again().expect("the database comes back");
        }
        // Some die while they start, most while they write; none has all of it written yet.
        wait::until("it is time to kill", RUN_LIMIT, || {
            assert!(run.poll().is_none(), "it has ended by itself:\n{}", run.stderr());
            (database.written(topic) >= wanted.min(RECORDS)).then_some(())
        });
        wait::pause(Duration::from_millis(random.between(0, 50)));
        killed_at_work += u32::from(run.poll().is_none() && database.written(topic) < RECORDS);
        run.kill();
    }
    assert!(killed_at_work >= 3, "only {killed_at_work} of six kills hit a run at work");
    member(&place, &database, kafka, topic).arguments(&["--until-end"]).run().expect_code(0);
    expect_exactly_in(&database, kafka, topic, topic, RECORDS);
}

/// `KONEKT_LARGE_RECORDS=1000` makes it the long run.
fn documents_of_many_megabytes_pass_within_the_memory_budget(server: &'static Server) {
    let Some(kafka) = or_skip(kafka::newest()) else { return };
    let records: u64 = std::env::var("KONEKT_LARGE_RECORDS").map_or(60, |text| text.parse().expect("a number"));
    let topic = format!("large-into-{}", server.name());
    kafka.create_topic(&topic, 4, &[("max.message.bytes", "41943040")]);
    // 1 to 30 MB: most are small ones of their kind.
    let mut first = 0;
    for (share, megabytes) in [(70, 1), (20, 5), (8, 12), (2, 30)] {
        let count = records * share / 100;
        let command = json!({"do": "bulk", "topic": topic, "partitions": 4, "first": first, "records": count,
            "size": megabytes * 1_000_000, "codec": "none"});
        kafka.java(&command);
        first += count;
    }
    let (database, place) = (server.database(), Place::new());
    let run = member(&place, &database, kafka, &topic).arguments(&["--until-end"]).run();
    println!("{}: {first} records in {:?}, {} MiB resident at most", server.name(), run.took, run.peak_kib / 1024);
    run.expect_code(0).expect_memory_of((BUDGET_MIB + 100) * 1024);
    expect_exactly_in(&database, kafka, &topic, &topic, first);
}

/// One member of the topic's group.
fn member(place: &Place, database: &Database<'_>, kafka: &RealKafka, topic: &str) -> Konekt {
    place
        .konekt(&["sink", "odbc", "--topics", topic, "--group-id", topic, "--bootstrap-servers", &kafka.address()])
        .variable("ODBC_CONNECTION_STRING", &database.connection_string())
        .variable("KAFKA_SESSION_TIMEOUT_MS", SESSION_MS)
        .variable("KAFKA_HEARTBEAT_INTERVAL_MS", "750")
}
