//! `konekt sink … --dry-run`, the real binary between the embedded broker and SQLite: it tells what a run would do, and leaves
//! no trace of it anywhere. With other databases: `tests/contract/dry_run.rs`, and `tests/databases/operate.rs`.
#![allow(clippy::disallowed_methods, reason = "tests stand outside the door")]

mod support;

use std::time::Duration;

use konekt::broker::{Broker, BrokerOptions, TopicSpec};
use konekt::kafka::wire::builder::RecordBatchBuilder;
use konekt::kafka::wire::compression::Codec;
use rusqlite::{Connection, OpenFlags};
use support::konekt::{Finished, Konekt, Place};
use support::wait;

const SOON: Duration = Duration::from_secs(60);
const PARTITIONS: i32 = 3;
/// Records per partition; every hundredth is bad.
const RECORDS: i64 = 500;

struct Scene {
    broker: Broker,
    place: Place,
}

impl Scene {
    fn new() -> Self {
        let topics = vec![TopicSpec::new("orders", PARTITIONS)];
        let broker = Broker::start(BrokerOptions { topics, ..BrokerOptions::default() }).expect("a broker");
        for partition in 0..PARTITIONS {
            let mut batch = RecordBatchBuilder::default();
            for number in 0..RECORDS {
                let word = if number % 100 == 7 { "bad" } else { "good" };
                batch.append(None, Some(format!("{word} {number}").as_bytes()), &[], 1_700_000_000_000);
            }
            broker.append("orders", partition, batch.finish(Codec::Zstd).expect("a batch"));
        }
        Self { broker, place: Place::new() }
    }

    fn at(&self, words: &str) -> Konekt {
        let words: Vec<&str> = words.split_whitespace().collect();
        self.place.konekt(&words).arguments(&["--bootstrap-servers", &self.broker.address()])
    }

    fn sink(&self, words: &str) -> Konekt {
        self.at(&format!("sink sqlite --db out.db --topics orders --group-id g {words}"))
    }

    /// The file, with a table that refuses bad records.
    fn database(&self) -> Connection {
        let database = Connection::open(self.place.database()).expect("a file");
        let table = r#"CREATE TABLE IF NOT EXISTS processed_messages (id VARCHAR(36) PRIMARY KEY, topic TEXT, "partition" INT,
            "offset" BIGINT, message_key TEXT, message_value TEXT CHECK (message_value NOT LIKE 'bad%'),
            message_headers TEXT, consumer_group TEXT, processing_timestamp DATETIME, processing_status TEXT,
            error_message TEXT)"#;
        database.execute_batch(table).expect("a table");
        database
    }

    /// What a dry run tells; nothing in its folder is other than before.
    fn told(&self, words: &str, code: i32) -> Finished {
        let files = || {
            let names =
                std::fs::read_dir(self.place.file(".")).expect("the folder").map(|entry| entry.expect("an entry"));
            let mut files: Vec<_> = names
                .filter(|entry| !entry.path().extension().is_some_and(|end| end == "stdout" || end == "stderr"))
                .map(|entry| (entry.file_name(), std::fs::read(entry.path()).expect("its bytes")))
                .collect();
            files.sort();
            files
        };
        let before = files();
        let told = self.sink(&format!("--dry-run {words}")).run().expect_code(code);
        assert!(files() == before, "the folder is as it was:\n{}", told.stdout);
        told
    }
}

fn expect_told(told: &Finished, parts: &[&str]) {
    for part in parts {
        assert!(told.stdout.contains(part), "{part:?} is missing:\n{}", told.stdout);
    }
}

#[test]
fn a_database_that_is_not_there_is_not_made() {
    let scene = Scene::new();
    let told = scene.told("", 0);
    let parts = ["1,000 tried", "1,000 would be written", "out.db, processed_messages, konekt_positions", "records/s"];
    expect_told(&told, &parts);
    expect_told(&told, &["PHASE", "decode", "execute", "rollback"]);
    assert!(!told.stdout.contains("commit  "), "{}", told.stdout);
    expect_told(&scene.told("--max-messages 1499 --batch-size 100", 0), &["1,499 tried"]);
    expect_told(&scene.told("--max-messages 5000", 0), &["1,500 tried"]);
    let groups = scene.at("admin groups --json").run().expect_code(0).stdout;
    assert!(!groups.contains("\"g\""), "no group is left behind: {groups}");
}

#[test]
fn bad_records_are_found_and_no_letter_is_kept() {
    let scene = Scene::new();
    drop(scene.database());
    let found = ["1,485 would be written", "15 would be kept in the file letters", "offset 7", "konekt_positions"];
    expect_told(&scene.told("--max-messages 5000 --dead-letter-file letters", 0), &found);
    let told = scene.told("--max-messages 5000", 1);
    expect_told(
        &told,
        &[
            "15 and no place for them is named",
            "… and 5 more",
            "✗ a run would pause in front of each of 15 bad records",
        ],
    );
    told.expect_stderr("see the lines with ✗");
}

#[test]
fn what_a_group_at_work_has_is_left_to_it() {
    let scene = Scene::new();
    // It commits nothing yet, so there is something to try.
    let run = scene.sink("--delivery at-least-once --commit-interval-ms 60000").start();
    let count = || {
        let database = Connection::open_with_flags(scene.place.database(), OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        database.query_row("SELECT count(*) FROM processed_messages", [], |row| row.get::<_, i64>(0))
    };
    wait::until("all is written", SOON, || (count().ok() == Some(RECORDS * i64::from(PARTITIONS))).then_some(()));
    let group = || scene.at("admin groups --group g --json").run().expect_code(0).stdout;
    let before = group();
    let told = scene.at("sink sqlite --db other.db --topics orders --group-id g --dry-run").run().expect_code(0);
    expect_told(&told, &["1,000 would be written"]);
    assert_eq!(group(), before, "nobody joined, and nothing was committed");
    assert!(!scene.place.file("other.db").exists());
    run.stop("TERM", SOON).expect_code(0);
}

#[test]
fn what_would_stand_still_is_told() {
    let scene = Scene::new();
    scene.sink("--until-end --max-messages 1200").run().expect_code(0);
    scene.database().execute_batch("UPDATE konekt_positions SET paused = 1").expect("a pause");
    let told = scene.told("", 1);
    expect_told(&told, &["✗ orders/", "would stand still", "operator", "nothing: all is there"]);
}
