use mongodb::bson::doc;

use super::*;
use crate::mongo::json::read::read_object;

/// What real sets answered, in several states.
const RECORDED: &str = include_str!("../../../../tests/fixtures/mongo/replica-sets.json");
const LIMITS: Limits = Limits { lag_seconds: 60, oplog_hours: 4 };

fn recorded(part: &str, name: &str) -> Document {
    let all: serde_json::Value = serde_json::from_str(RECORDED).unwrap();
    read_object(all[part][name].as_object().unwrap().clone()).unwrap()
}

/// The answers of a set of which the first member is asked, an hour after its last election.
fn answers(status: &str, config: &str) -> Answers {
    let status = recorded("statuses", status);
    let name = status.get_str("set").unwrap().to_owned();
    let is_primary = number(&status, "myState") == Some(1);
    let elected = documents(&status, "members").find_map(|member| millis(member, "electionDate"));
    let unix_ms = elected.or_else(|| millis(&status, "date")).unwrap() + 3_600_000;
    let member = Member {
        host: "127.0.0.1:27117".to_owned(),
        hello: Ok(doc! { "setName": name, "isWritablePrimary": is_primary }),
        status: Ok(status),
        version: Some("6.0.5".to_owned()),
    };
    Answers {
        shown: "mongodb://127.0.0.1:27117".to_owned(),
        wanted_set: Some("rs0".to_owned()),
        encrypted: false,
        members: vec![member],
        config: Some(recorded("configs", config)),
        server: Some(doc! { "connections": { "current": 10, "available": 90 },
        "oplogTruncation": { "truncateCount": 1_i64 } }),
        oplog: Ok((0, 3 * 86_400)),
        stream: Ok(()),
        concern: Some(doc! { "defaultWriteConcern": { "w": "majority" } }),
        unix_ms,
    }
}

/// The checks that are not good, as `name level`.
fn found(answers: &Answers) -> Vec<String> {
    let report = judge(answers, &LIMITS);
    let bad = report.checks.iter().filter(|check| check.level != Level::Good);
    for check in bad.clone() {
        assert!(!check.says.is_empty() && !check.cure.is_empty(), "{check:?}");
    }
    assert_eq!(report.healthy, bad.clone().all(|check| check.level == Level::Warning));
    bad.map(|check| format!("{} {:?}", check.name, check.level).to_lowercase()).collect()
}

#[test]
fn states_of_real_sets_are_told_apart() {
    for (status, config, expected) in [
        ("primary", "primary", &[][..]),
        ("onedown", "primary", &["members critical"]),
        ("noprimary", "primary", &["members critical", "primary critical", "majority critical"]),
        ("fivemembers", "fivemembers", &[]),
        ("onesyncing", "fivemembers", &["members warning"]),
        // Here it is the recovering one that was asked, and the primary was not.
        ("recovering", "fivemembers", &["members warning", "primary warning"]),
    ] {
        let found: Vec<String> =
            found(&answers(status, config)).into_iter().filter(|one| !one.starts_with("voters")).collect();
        assert_eq!(found, expected, "{status}");
    }
}

#[test]
fn each_threshold_is_met() {
    type Change = fn(&mut Answers);
    let cases: &[(Change, &[&str])] = &[
        (|answers| answers.unix_ms -= 3_300_000, &["election warning"]),
        (|answers| answers.oplog = Ok((0, 3 * 3600)), &["oplog critical"]),
        (|answers| answers.oplog = Ok((0, 20 * 3600)), &["oplog warning"]),
        (|answers| answers.server = None, &[]),
        (|answers| answers.concern = Some(doc! { "defaultWriteConcern": { "w": 1 } }), &["write concern warning"]),
        (|answers| answers.wanted_set = Some("rs9".to_owned()), &["set critical"]),
        (|answers| answers.members[0].version = Some("4.0.28".to_owned()), &["versions critical"]),
        (
            |answers| answers.server = Some(doc! { "connections": { "current": 95, "available": 5 } }),
            &["connections warning"],
        ),
        (
            |answers| answers.stream = Err(Said { code: Some(13), words: "no".to_owned(), unreachable: false }),
            &["change streams warning"],
        ),
        (|answers| hold_back(answers, 11), &["lag warning"]),
        (|answers| hold_back(answers, 61), &["lag critical"]),
    ];
    for (index, (change, expected)) in cases.iter().enumerate() {
        let mut answers = answers("primary", "primary");
        change(&mut answers);
        assert_eq!(found(&answers), *expected, "case {index}");
    }
}

/// The second member has applied nothing for so long.
fn hold_back(answers: &mut Answers, seconds: i64) {
    let status = answers.members[0].status.as_mut().unwrap();
    let newest = documents(status, "members").filter_map(|member| millis(member, "optimeDate")).max().unwrap();
    let members = status.get_array_mut("members").unwrap();
    let second = members[1].as_document_mut().unwrap();
    second.insert("optimeDate", mongodb::bson::DateTime::from_millis(newest - seconds * 1000));
}

#[test]
fn a_single_server_is_said_to_be_one() {
    let mut answers = answers("primary", "primary");
    answers.members[0].hello = Ok(doc! { "isWritablePrimary": true });
    answers.members[0].status =
        Err(Said { code: Some(76), words: "not running with --replSet".into(), unreachable: false });
    answers.config = None;
    let report = judge(&answers, &LIMITS);
    let set = report.checks.iter().find(|check| check.name == "set").unwrap();
    assert!(set.says.contains("single server") && set.cure.contains("--replSet"), "{set:?}");
    answers.members[0].hello = Ok(doc! { "isreplicaset": true });
    assert!(judge(&answers, &LIMITS).checks.iter().any(|check| check.cure.contains("rs.initiate()")));
    answers.members[0].hello = Err(Said { code: None, words: "connection refused".into(), unreachable: true });
    let report = judge(&answers, &LIMITS);
    assert_eq!((report.reachable, report.healthy, report.checks.len()), (false, false, 1));
}
