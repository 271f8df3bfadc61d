//! Nothing that is secret, and no value of a record, is in what any command says: not in its log at the finest level, not in
//! its errors, its statistics or its page. What is data by purpose (`consume`, `messages show`) goes to stdout alone.
#![allow(clippy::disallowed_methods, reason = "tests stand outside the door")]

mod support;

use std::time::Duration;

use konekt::broker::{Broker, BrokerOptions, TopicSpec};
use konekt::config::command::COMMANDS;
use konekt::config::field::{Field, fields};
use konekt::kafka::wire::builder::RecordBatchBuilder;
use konekt::kafka::wire::compression::Codec;
use rusqlite::Connection;
use serde_json::Value;
use support::http::{ask, get};
use support::kafka::free_port;
use support::konekt::{Finished, Konekt, Place};
use support::wait;

const SOON: Duration = Duration::from_secs(60);
/// Is part of each secret, and of nothing else.
const SECRET: &str = "hush-7f3a";
/// Is part of each key, value and header.
const CLASSIFIED: &str = "classified-91c2";
const RECORDS: i64 = 20;

fn broker() -> Broker {
    let topics = vec![TopicSpec::new("orders", 2), TopicSpec::new("dead", 1), TopicSpec::new("empty", 1)];
    let broker = Broker::start(BrokerOptions { topics, ..BrokerOptions::default() }).expect("a broker");
    for partition in 0..2 {
        let mut batch = RecordBatchBuilder::default();
        for number in 0..RECORDS {
            let word = if number % 5 == 0 { "bad" } else { "good" };
            let value = format!("{word} {CLASSIFIED} {number}");
            let name = format!("{CLASSIFIED}-name");
            let headers: &[(&[u8], Option<&[u8]>)] = &[(name.as_bytes(), Some(CLASSIFIED.as_bytes()))];
            batch.append(Some(CLASSIFIED.as_bytes()), Some(value.as_bytes()), headers, 1_700_000_000_000);
        }
        broker.append("orders", partition, batch.finish(Codec::Lz4).expect("a batch"));
    }
    broker
}

fn secrets() -> Vec<&'static Field> {
    fields().filter(|field| field.secret).collect()
}

/// With every secret that there is, and what makes the program use them.
fn with_secrets(mut konekt: Konekt) -> Konekt {
    for (number, field) in secrets().into_iter().enumerate() {
        let secret = format!("{SECRET}-{number}");
        let value = match field.name {
            "connection_string" => format!("Driver=SQLite3;Database=absent.db;Server=127.0.0.1;UID=u;PWD={secret}"),
            _ => secret,
        };
        konekt = konekt.variable(field.variables[0], &value);
    }
    konekt
}

/// What a command needs beside what all get. Commands without a line here get the rest alone.
const ARGUMENTS: &[(&str, &[&str])] = &[
    ("consume", &["--topics", "orders", "--until-end"]),
    ("sink sqlite", &["--topics", "orders", "--until-end", "--db", "out.db"]),
    ("sink sqlserver", &["--topics", "orders", "--server", "127.0.0.1", "--port", "1", "--driver", "none"]),
    ("sink odbc", &["--topics", "orders", "--until-end"]),
    ("positions show", &["--db", "out.db"]),
    ("dlq ls", &["--dead-letter-topic", "dead"]),
    ("demo", &["--records", "10"]),
    ("admin groups", &["--group", "g"]),
    ("admin lag", &["--group", "g"]),
    ("messages stats", &["--db", "out.db"]),
    ("errors", &["42S02"]),
    ("completions", &["bash"]),
];

fn expect_silence(ended: &Finished, words: &str, path: &str) {
    for (what, text) in [("stdout", &ended.stdout), ("stderr", &ended.stderr)] {
        let line = text.lines().find(|line| line.contains(words));
        assert!(line.is_none(), "konekt {path} tells on its {what}: {line:?}");
    }
    assert!(!ended.stderr.contains("panicked at"), "konekt {path}: {}", ended.stderr);
}

#[test]
fn no_command_tells_a_secret() {
    assert!(secrets().len() >= 5, "secrets were found");
    let broker = broker();
    let mut said = 0;
    for entry in COMMANDS {
        let path: Vec<&str> = entry.path.split(' ').collect();
        let more = ARGUMENTS.iter().find(|(path, _)| *path == entry.path).map_or(&[][..], |(_, more)| *more);
        let place = Place::new();
        // Plain first, then as one who authenticates.
        for protocol in ["plaintext", "sasl_plaintext"] {
            let konekt = with_secrets(place.konekt(&path)).arguments(more).arguments(&["-vv"]);
            let konekt = konekt
                .variable("KAFKA_BOOTSTRAP_SERVERS", &broker.address())
                .variable("KAFKA_CONNECT_TIMEOUT_MS", "500")
                .variable("KAFKA_SECURITY_PROTOCOL", protocol)
                .variable("KAFKA_SASL_MECHANISM", "PLAIN")
                .variable("KAFKA_SASL_USERNAME", "user");
            let mut running = konekt.start();
            // What goes on by itself is ended.
            let begun = std::time::Instant::now();
            while running.poll().is_none() && begun.elapsed() < Duration::from_secs(8) {
                wait::pause(Duration::from_millis(10));
            }
            let ended = match running.poll() {
                Some(_) => running.wait(),
                None => running.stop("KILL", SOON),
            };
            expect_silence(&ended, SECRET, entry.path);
            said += ended.stdout.len() + ended.stderr.len();
        }
    }
    assert!(said > 20_000, "they said something: {said} bytes");
}

#[test]
fn mistakes_do_not_tell_secrets() {
    let place = Place::new();
    for arguments in [
        &["sink", "sqlserver", "--topics", "t", "--password", SECRET, "--nonsense"][..],
        &["sink", "sqlserver", "--topics", "t", "--batch-size", "many", "--password", SECRET],
        &["consume", "--topics", "t", "--sasl-password", SECRET, "--batch-size", "0"],
        &["consume", "--topics", "t", "--http-token", SECRET, "--http", "nowhere"],
        &["config", "--sasl-password", SECRET],
    ] {
        let ended = place.konekt(arguments).run();
        expect_silence(&ended, SECRET, &arguments[..2].join(" "));
    }
}

#[test]
fn no_log_and_no_statistics_tell_a_records_value() {
    let (broker, place, port) = (broker(), Place::new(), free_port());
    let sink = |topics: &str| {
        place.konekt(&["sink", "sqlite", "--db", "out.db", "--group-id", "g", "-vv"]).arguments(&[
            "--bootstrap-servers",
            &broker.address(),
            "--topics",
            topics,
        ])
    };
    sink("empty").arguments(&["--until-end"]).run().expect_code(0);
    let connection = Connection::open(place.database()).expect("the database");
    let refuse = "CREATE TRIGGER refuse BEFORE INSERT ON processed_messages WHEN NEW.message_value LIKE 'bad%' \
                  BEGIN SELECT RAISE(ABORT, 'no bad ones here'); END";
    connection.execute_batch(refuse).expect("a trigger");
    let http = format!("127.0.0.1:{port}");
    let files = ["--dead-letter-topic", "dead", "--stats-json", "s.jsonl", "--log-format", "json", "--http", &http];
    let running = sink("orders").arguments(&files).arguments(&["--dead-letter-share-max", "100"]).start();
    wait::until("the bad ones are put aside", SOON, || {
        let answer = ask(port, "GET", "/status", &[])?;
        (answer.json()["statistics"]["dead_lettered"] == 2 * RECORDS / 5).then_some(())
    });
    for path in ["/status", "/metrics", "/readyz", "/"] {
        assert!(!get(port, path).body.contains(CLASSIFIED), "{path} tells values");
    }
    let ended = running.stop("TERM", SOON).expect_code(0);
    expect_silence(&ended, CLASSIFIED, "sink sqlite");
    for line in ended.stderr.lines() {
        let object: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line:?}"));
        for key in ["time", "level", "thread", "target", "message"] {
            assert!(object[key].is_string(), "{key} is missing in {line}");
        }
    }
    assert!(ended.stderr.lines().count() > 10, "{}", ended.stderr);
    let statistics = std::fs::read_to_string(place.file("s.jsonl")).expect("statistics");
    assert!(!statistics.is_empty() && !statistics.contains(CLASSIFIED), "{statistics}");

    let failing = place.konekt(&["consume", "--exec", "cat > /dev/null; echo refused >&2; exit 3", "-vv"]);
    let failing = failing.arguments(&["--bootstrap-servers", &broker.address(), "--topics", "orders", "--until-end"]);
    let failing =
        failing.arguments(&["--dead-letter-file", "l.jsonl", "--max-retries", "0", "--dead-letter-share-max", "100"]);
    expect_silence(&failing.run(), CLASSIFIED, "consume --exec");
}
