//! The guide's first steps, each command as it stands there, run in a shell one after the other.
#![allow(clippy::disallowed_methods, reason = "tests stand outside the door")]

mod support;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use konekt::broker::{Broker, BrokerOptions};
use rusqlite::Connection;
use support::konekt::Place;

/// Where the guide's Kafka is.
const WRITTEN_ADDRESS: &str = "localhost:9092";
/// What comes from here on is not run.
const END: &str = "## SQL Server";

/// The shell commands of the guide's first part, block by block.
fn blocks() -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/guide.md");
    let text = fs::read_to_string(path).expect("there is a guide");
    let first = &text[..text.find(END).expect("the guide goes on with SQL Server")];
    first.split("```sh\n").skip(1).map(|part| part.split("```").next().unwrap_or_default().to_owned()).collect()
}

/// A stand-in for the sqlite3 command, which need not be installed.
fn sqlite(place: &Place, block: &str) -> String {
    let mut rest = String::new();
    for line in block.lines() {
        match line.strip_prefix("sqlite3 billing.db ") {
            Some(sql) => {
                let sql = sql.trim_matches('"').replace("\\\"", "\"");
                let database = Connection::open(place.file("billing.db")).expect("the database");
                database.execute_batch(&sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
            }
            None => rest.push_str(&format!("{line}\n")),
        }
    }
    rest
}

fn run(place: &Place, broker: &Broker, block: &str) -> Output {
    let program = Path::new(env!("CARGO_BIN_EXE_konekt")).parent().expect("a folder");
    let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap_or_default());
    let script = sqlite(place, block).replace(WRITTEN_ADDRESS, &broker.address());
    let mut shell = Command::new("sh");
    shell.args(["-e", "-c", &script]).current_dir(place.file(".")).env_clear().env("PATH", path);
    // What the settings file does not say to the commands that have no use for it.
    let output = shell.env("KAFKA_BOOTSTRAP_SERVERS", broker.address()).output().expect("a shell");
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}\n{script}\n{stdout}\n{stderr}", output.status);
    output
}

#[test]
fn every_step_works_as_it_is_written() {
    let place = Place::new();
    let broker = Broker::start(BrokerOptions::default()).expect("a broker");
    let blocks = blocks();
    assert!(blocks.len() >= 8, "the guide's steps were found: {blocks:#?}");
    let mut said = String::new();
    for block in &blocks {
        let output = run(&place, &broker, block);
        said.push_str(&String::from_utf8_lossy(&output.stdout));
    }
    for words in [
        "records read   2,000",
        "✗ topic payments: is not there",
        "✓ topic payments: 6 partitions",
        "all is well; nothing was written",
        "CREATE TABLE IF NOT EXISTS \"konekt_positions\"",
        "negative amount",
    ] {
        assert!(said.contains(words), "{words:?} is missing:\n{said}");
    }

    let database = Connection::open(place.file("billing.db")).expect("the database");
    let count = |sql: &str| database.query_row(sql, [], |row| row.get::<_, i64>(0)).expect("a number");
    assert_eq!(count("SELECT count(*) FROM processed_messages WHERE processing_status = 'SUCCESS'"), 900);
    assert_eq!(count("SELECT count(*) FROM processed_messages"), 900);
    assert_eq!(count("SELECT count(DISTINCT message_value) FROM processed_messages"), 900);
}
