//! `konekt mongo-health` against real servers.

use std::time::Duration;

use mongodb::bson::{Document, doc};
use serde_json::Value;

use crate::support::kafka::free_port;
use crate::support::konekt::{Finished, Place};
use crate::support::mongo::{self, Mongo};
use crate::support::{or_skip, wait};

const SOON: Duration = Duration::from_secs(60);

fn look(uri: &str, arguments: &[&str]) -> Finished {
    Place::new()
        .konekt(&["mongo-health", "--health-timeout", "2"])
        .arguments(arguments)
        .variable("MONGODB_URI", uri)
        .run()
}

/// The exit code, and the report.
fn report(uri: &str, code: i32, arguments: &[&str]) -> Value {
    let finished = look(uri, &[arguments, &["--json"]].concat()).expect_code(code);
    serde_json::from_str(&finished.stdout).unwrap_or_else(|error| panic!("{error}: {}", finished.stdout))
}

fn check<'a>(report: &'a Value, name: &str) -> &'a Value {
    let checks = report["checks"].as_array().expect("checks");
    checks.iter().find(|check| check["name"] == name).unwrap_or_else(|| panic!("no check {name}: {report}"))
}

#[track_caller]
fn expect(report: &Value, name: &str, level: &str, part: &str) {
    let check = check(report, name);
    assert_eq!(check["level"], level, "{check}");
    let words = format!("{} {}", check["says"], check["cure"]);
    assert!(words.contains(part), "{part:?} is missing: {check}");
}

fn until_settled(mongo: &Mongo) {
    wait::until("all members follow", SOON, || {
        let status = mongo.admin(mongo.primary(), doc! { "replSetGetStatus": 1 });
        let states: Vec<i64> = status
            .get_array("members")
            .expect("members")
            .iter()
            .map(|member| mongo::number(member.as_document().expect("a member").get("state")))
            .collect();
        states.iter().all(|state| matches!(state, 1 | 2)).then_some(())
    });
}

#[test]
fn a_set_of_three_is_healthy_then_degraded_then_without_a_primary() {
    let Some(mongo) = or_skip(mongo::own(3)) else { return };
    until_settled(&mongo);
    let healthy = report(&mongo.uri(), 0, &[]);
    assert_eq!((&healthy["healthy"], &healthy["set"]), (&true.into(), &"rs0".into()));
    for name in ["connection", "login", "members", "primary", "majority", "lag", "oplog", "change streams", "versions"]
    {
        assert_eq!(check(&healthy, name)["level"], "good", "{healthy}");
    }
    expect(&healthy, "election", "warning", "elected");
    assert_eq!(healthy["members"].as_array().map(Vec::len), Some(3));
    let text = look(&mongo.uri(), &[]).expect_code(0).stdout;
    assert!(text.contains("✓ members") && text.contains("PRIMARY") && text.contains("FOLLOWS"), "{text}");

    // One that applies nothing is behind what is written.
    let primary = mongo.primary();
    let slow = (primary + 1) % 3;
    mongo.hold_replication(slow, true);
    let documents = mongo.client().database("lag").collection::<Document>("numbers");
    wait::until("it is behind", SOON, || {
        documents.insert_one(doc! {}).run().expect("it is written");
        let lagging = look(&mongo.uri(), &["--json", "--lag-max", "1"]).stdout;
        let lagging: Value = serde_json::from_str(&lagging).expect("JSON");
        let lag = check(&lagging, "lag");
        // The others may lag for a moment too.
        let is_told = lag["says"].as_str().is_some_and(|says| says.contains(&mongo.member(slow)));
        (lag["level"] == "critical" && is_told).then_some(())
    });
    mongo.hold_replication(slow, false);

    mongo.kill(slow);
    wait::until("it is seen", SOON, || {
        let seen = look(&mongo.uri(), &["--json"]).stdout;
        seen.contains("is DOWN").then_some(())
    });
    let down = report(&mongo.uri(), 1, &[]);
    expect(&down, "members", "critical", &format!("{} is DOWN", mongo.member(slow)));
    expect(&down, "connection", "warning", "2 of 3");
    expect(&down, "majority", "good", "2 members");
    let text = look(&mongo.uri_of(primary), &[]).expect_code(1).expect_stderr("degraded: members").stdout;
    assert!(text.contains("✗ members") && text.contains('→'), "{text}");

    mongo.kill((primary + 2) % 3);
    wait::until("the primary steps down", SOON, || {
        look(&mongo.uri(), &["--json"]).stdout.contains("there is no primary").then_some(())
    });
    let lost = report(&mongo.uri(), 1, &[]);
    expect(&lost, "primary", "critical", "nothing can be written");
    expect(&lost, "majority", "critical", "start members");
}

#[test]
fn what_is_no_healthy_set_is_said_to_be_what_it_is() {
    let (Some(standalone), Some(set)) = (or_skip(mongo::own(0)), or_skip(mongo::shared())) else { return };
    let alone = report(&standalone.uri(), 1, &[]);
    expect(&alone, "set", "critical", "a single server without a replica set");
    expect(&alone, "change streams", "critical", "40573");
    let one = report(&set.uri(), 0, &[]);
    expect(&one, "members", "good", "a single member");
    let wrong = report(&set.uri().replace("replicaSet=rs0", "replicaSet=rs9"), 1, &[]);
    expect(&wrong, "set", "critical", "write replicaSet=rs0");
    let nobody = format!("mongodb://127.0.0.1:{}/", free_port());
    let absent = report(&nobody, 3, &[]);
    assert_eq!((&absent["reachable"], &absent["healthy"]), (&false.into(), &false.into()));
    expect(&absent, "connection", "critical", "refused");
    look("127.0.0.1", &[]).expect_code(2).expect_stderr("mongodb://");
}

#[test]
fn a_wrong_password_missing_rights_and_tls_are_said() {
    let Some(mongo) = or_skip(mongo::secured()) else { return };
    let good = report(&mongo.uri(), 0, &[]);
    expect(&good, "tls", "good", "encrypted");
    expect(&good, "login", "good", "may look");
    let wrong = report(&mongo.uri().replace(mongo::PASSWORD[1], "wrong"), 1, &[]);
    expect(&wrong, "login", "critical", "authSource");
    assert!(!wrong.to_string().contains(mongo::PASSWORD[1]), "{wrong}");
    let user = doc! { "createUser": "stranger", "pwd": "x", "roles": [] };
    mongo.client().database("admin").run_command(user).run().expect("a user");
    let login = format!("{}:{}@", mongo::USER, mongo::PASSWORD[1]);
    let stranger = report(&mongo.uri().replace(&login, "stranger:x@"), 1, &[]);
    expect(&stranger, "login", "critical", "clusterMonitor");
    let plain = mongo.uri().split("tls=true").next().expect("an address").to_owned() + "tls=false";
    report(&plain, 3, &[]);
}

#[test]
fn watching_goes_on_until_it_is_stopped() {
    let Some(mongo) = or_skip(mongo::shared()) else { return };
    let place = Place::new();
    let run = place
        .konekt(&["mongo-health", "--watch", "--watch-every", "1", "--json"])
        .variable("MONGODB_URI", &mongo.uri())
        .start();
    wait::until("it has looked twice", SOON, || (run.stdout().lines().count() >= 2).then_some(()));
    run.stop("TERM", SOON).expect_code(0);
}
