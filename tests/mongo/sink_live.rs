//! `konekt sink mongodb` as a person runs it: from a real Kafka, whatever is killed, and what people get wrong.

use std::time::Duration;

use mongodb::bson::doc;

use crate::stored::{COLLECTION, Stored};
use crate::support::audit::{Witness, expect_exactly_in};
use crate::support::kafka::{self, RealKafka, free_port};
use crate::support::konekt::{Finished, Konekt, Place, RUN_LIMIT};
use crate::support::mongo::{self, Mongo};
use crate::support::random::Random;
use crate::support::{or_skip, wait};

const RECORDS: u64 = 100_000;

/// Four times, at random moments, Konekt is killed and started again; in between, the primary is killed or stopped.
#[test]
fn each_record_is_there_once_whatever_is_killed() {
    let (Some(kafka), Some(mongo)) = (or_skip(kafka::newest()), or_skip(mongo::own(3))) else { return };
    let (topic, mut random) = ("into-mongodb", Random::announced());
    kafka.filled_topic(topic, 4, RECORDS, 200);
    let (stored, place) = (Stored { database: mongo.database() }, Place::new());
    for round in 0..4 {
        let wanted = stored.written(topic) + random.between(1, 20_000);
        let mut run = member(&place, &stored, &mongo, kafka, topic).start();
        if round % 2 == 1 {
            wait::pause(Duration::from_millis(random.between(0, 1_000)));
            let primary = mongo.primary();
            let end = if random.between(0, 2) == 0 { Mongo::kill } else { Mongo::stop };
            end(&mongo, primary);
            wait::pause(Duration::from_millis(random.between(0, 500)));
            mongo.start_again(primary);
        }
        wait::until("it is time to kill", RUN_LIMIT, || {
            assert!(run.poll().is_none(), "it has ended by itself:\n{}", run.stderr());
            (stored.written(topic) >= wanted.min(RECORDS)).then_some(())
        });
        run.kill();
    }
    member(&place, &stored, &mongo, kafka, topic).arguments(&["--until-end"]).run().expect_code(0);
    expect_exactly_in(&stored, kafka, topic, topic, RECORDS);
}

fn member(place: &Place, stored: &Stored, mongo: &Mongo, kafka: &RealKafka, topic: &str) -> Konekt {
    place
        .konekt(&["sink", "mongodb", "--topics", topic, "--group-id", topic, "--bootstrap-servers", &kafka.address()])
        .arguments(&["--mongodb-database", stored.database.name(), "--mongodb-collection", COLLECTION])
        .variable("MONGODB_URI", &mongo.uri())
        .variable("KAFKA_SESSION_TIMEOUT_MS", "3000")
        .variable("KAFKA_HEARTBEAT_INTERVAL_MS", "750")
}

/// A run that wants this address, on a machine without Kafka.
fn run(uri: &str, arguments: &[&str]) -> Finished {
    let kafka = format!("127.0.0.1:{}", free_port());
    let all = ["sink", "mongodb", "--topics", "a", "--bootstrap-servers", &kafka, "--connect-timeout-ms", "200"];
    Place::new().konekt(&all).arguments(arguments).variable("MONGODB_URI", uri).run()
}

/// That the run ended with this code and one line that has all these parts, but no password.
fn expect_refusal(uri: &str, arguments: &[&str], code: i32, parts: &[&str]) {
    let finished = run(uri, arguments).expect_code(code);
    println!("{}", finished.stderr.trim_end());
    let line = finished.stderr.lines().find(|line| line.starts_with("konekt: ")).expect("a line for people");
    for part in parts {
        assert!(line.to_lowercase().contains(&part.to_lowercase()), "{part:?} is missing: {line}");
    }
    for password in mongo::PASSWORD {
        assert!(!finished.stderr.contains(password), "{}", finished.stderr);
    }
}

const IN_SHOP: [&str; 2] = ["--mongodb-database", "shop"];

#[test]
fn a_wrong_password_and_missing_rights_are_said() {
    let Some(mongo) = or_skip(mongo::secured()) else { return };
    let uri = mongo.uri();
    expect_refusal(&uri.replace(mongo::PASSWORD[1], "wrong"), &IN_SHOP, 2, &["authentication failed", "authSource"]);
    let user = doc! { "createUser": "reader", "pwd": "x", "roles": [{ "role": "read", "db": "shop" }] };
    mongo.client().database("admin").run_command(user).run().expect("a user");
    let login = format!("{}:{}@", mongo::USER, mongo::PASSWORD[1]);
    expect_refusal(&uri.replace(&login, "reader:x@"), &IN_SHOP, 2, &["konekt_positions", "readWrite"]);
    expect_refusal(&uri.replace("tls=true", "tls=false"), &[&IN_SHOP[..], &["--until-end"]].concat(), 2, &["tls"]);
}

#[test]
fn a_wrong_set_a_standalone_and_a_missing_database_are_said() {
    let (Some(set), Some(standalone)) = (or_skip(mongo::shared()), or_skip(mongo::own(0))) else { return };
    let soon = "&serverSelectionTimeoutMS=1000";
    let wrong = format!("{}{soon}", set.uri().replace("replicaSet=rs0", "replicaSet=rs9"));
    expect_refusal(&wrong, &IN_SHOP, 2, &["a member of the set rs0, not rs9", "replicaSet=rs0"]);
    let wrong = format!("mongodb://{}/?replicaSet=rs0{soon}", standalone.member(0));
    expect_refusal(&wrong, &IN_SHOP, 2, &["no member of a replica set"]);
    expect_refusal(&standalone.uri(), &IN_SHOP, 2, &["no transactions", "--delivery at-least-once"]);
    expect_refusal(&set.uri(), &[], 2, &["--mongodb-database", "MONGODB_DATABASE"]);
    expect_refusal("localhost:27017", &IN_SHOP, 2, &["mongodb_uri"]);
}

#[test]
fn a_server_that_is_down_is_said_and_waited_for() {
    let uri = format!("mongodb://127.0.0.1:{}/shop?serverSelectionTimeoutMS=500", free_port());
    // What ends this run is that there is no Kafka either.
    let finished = run(&uri, &[]).expect_code(3).expect_stderr("tried again");
    let line = finished.stderr.lines().find(|line| line.contains("tried again")).expect("a line");
    assert!(line.contains("cannot connect") && line.contains("refused"), "{line}");
    // With a longer wait the first word comes before it ends.
    let finished = run(&uri.replace("=500", "=4000"), &[]).expect_code(3);
    let first = finished.stderr.lines().find(|line| line.contains("mongodb")).expect("a line");
    assert!(first.contains("refused") && first.contains("it is waited for, 4 s at a time"), "{first}");
}
