//! `konekt load` into a SQLite file and into a topic of the embedded broker: everything once, whatever is killed.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};
use serde_json::Value;

use konekt::broker::{Broker, BrokerOptions, TopicSpec};

use support::konekt::{Finished, Konekt, Place};
use support::wait::until;

const PATIENCE: Duration = Duration::from_secs(60);

fn run(place: &Place, line: &str) -> Konekt {
    place.konekt(&line.split(' ').collect::<Vec<_>>())
}

fn generated(place: &Place, line: &str, file: &str) -> Vec<String> {
    run(place, &format!("data generate {line} --output {file}")).run().expect_code(0);
    let text = run(place, &format!("data sample --records 10000000 {file}")).run().expect_code(0).stdout;
    text.lines().map(str::to_owned).collect()
}

/// What is loaded, by topic and offset.
fn rows(place: &Place) -> Vec<(String, i64, Option<String>, String)> {
    let database = Connection::open(place.file("out.db")).expect("a database");
    let sql = "SELECT topic, \"offset\", message_key, message_value FROM processed_messages ORDER BY topic, \"offset\"";
    let mut statement = database.prepare(sql).expect("the table");
    let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?));
    statement.query_map([], row).expect("rows").collect::<Result<_, _>>().expect("rows")
}

/// How many rows there are while somebody writes.
fn rows_so_far(place: &Place) -> Option<i64> {
    let database = Connection::open_with_flags(place.file("out.db"), OpenFlags::SQLITE_OPEN_READ_ONLY).ok()?;
    database.query_row("SELECT COUNT(*) FROM processed_messages", [], |row| row.get(0)).ok()
}

fn values(place: &Place) -> Vec<String> {
    rows(place).into_iter().map(|(.., value)| value).collect()
}

#[test]
fn every_form_of_file_is_loaded_with_keys_and_line_numbers() {
    let place = Place::new();
    fs::create_dir(place.file("in")).expect("the folder is ours");
    let lines = generated(&place, "users --records 2500", "in/a.jsonl.zst");
    let orders = generated(&place, "orders --records 300", "in/b.ndjson.gz");
    fs::write(place.file("in/c.json"), format!("[\n{}\n]", lines[..10].join(",\n"))).expect("the folder is ours");
    fs::write(place.file("in/d.jsonl"), "").expect("the folder is ours");
    fs::write(place.file("in/readme.txt"), "not loaded").expect("the folder is ours");
    let load = "load in --to sqlite --db out.db --key /email --on-error reject";
    // Orders have no such member.
    run(&place, load).run().expect_code(1).expect_stderr("2,510 documents loaded").expect_stderr("300 bad");
    let rows = rows(&place);
    assert_eq!(rows.len(), 2510);
    for (index, (topic, offset, key, value)) in rows.iter().take(2500).enumerate() {
        assert_eq!((topic.as_str(), *offset, value), ("a.jsonl.zst", index as i64 + 1, &lines[index]));
        assert_eq!(key.as_deref(), Some(format!("user{index}@example.org").as_str()));
    }
    assert!(rows[2500..].iter().all(|(topic, ..)| topic == "c.json"));
    let rejects = fs::read_to_string(place.file("konekt-load.rejects.jsonl")).expect("the rejects");
    assert_eq!(rejects.lines().count(), 300);
    let first: Value = serde_json::from_str(rejects.lines().next().expect("a line")).expect("JSON");
    assert_eq!((&first["file"], &first["number"]), (&Value::from("b.ndjson.gz"), &Value::from(1)));
    assert_eq!((&first["reason"], &first["document"]), (&Value::from("it has no /email"), &Value::from(&*orders[0])));

    run(&place, load).run().expect_code(0).expect_stderr("0 documents loaded");
    assert_eq!(rows.len(), self::rows(&place).len(), "a second load adds nothing");
}

#[test]
fn a_load_that_is_killed_goes_on_where_it_was() {
    let place = Place::new();
    let lines = generated(&place, "orders --records 300000 --seed 5", "orders.jsonl.gz");
    let load = "load orders.jsonl.gz --to sqlite --db out.db --batch-size 100";
    let killed = run(&place, load).start();
    let half = until("a part is loaded", PATIENCE, || rows_so_far(&place).filter(|rows| *rows > 2000));
    killed.kill();
    let found = values(&place);
    assert!(found.len() as i64 >= half && found.len() < lines.len(), "{} of {} were loaded", found.len(), lines.len());
    run(&place, load).run().expect_code(0).expect_stderr(", 0 were there already");
    assert!(values(&place) == lines, "each line is one row, in order");
}

#[test]
fn a_signal_ends_it_in_order() {
    let place = Place::new();
    let lines = generated(&place, "orders --records 300000", "orders.jsonl");
    let load = "load orders.jsonl --to sqlite --db out.db --batch-size 100";
    let stopped = run(&place, load).start();
    until("a part is loaded", PATIENCE, || rows_so_far(&place).filter(|rows| *rows > 2000));
    stopped.stop("TERM", PATIENCE).expect_code(0);
    assert!(values(&place).len() < lines.len());
    run(&place, load).run().expect_code(0);
    assert!(values(&place) == lines);
}

#[test]
fn bad_lines_are_kept_once_or_stop_the_load() {
    let place = Place::new();
    let mut lines = generated(&place, "orders --records 5000", "good.jsonl");
    lines[16] = "{\"order\":".to_owned();
    lines[4000] = "nonsense".to_owned();
    fs::write(place.file("orders.jsonl"), lines.join("\n")).expect("the folder is ours");

    let dry = run(&place, "load orders.jsonl --to sqlite --db out.db --dry-run").run().expect_code(1);
    dry.expect_stderr("4,998 documents would be loaded").expect_stderr("orders.jsonl:17: it is not json");
    assert!(!place.file("out.db").exists() && !place.file("konekt-load.rejects.jsonl").exists(), "nothing was made");

    let stopped = run(&place, "load orders.jsonl --to sqlite --db out.db --on-error stop").run();
    stopped.expect_code(1).expect_stderr("line 17: it is not json");
    assert!(values(&place).len() < 17, "nothing behind line 17 is loaded");

    let load = "load orders.jsonl --to sqlite --db out.db";
    run(&place, load).run().expect_code(1).expect_stderr("2 bad").expect_stderr("konekt-load.rejects.jsonl");
    run(&place, load).run().expect_code(0);
    let good = |(index, line): (usize, &String)| (![16, 4000].contains(&index)).then(|| line.clone());
    assert!(values(&place) == lines.iter().enumerate().filter_map(good).collect::<Vec<_>>());
    let rejects = fs::read_to_string(place.file("konekt-load.rejects.jsonl")).expect("the rejects");
    assert_eq!(rejects.lines().count(), 2, "{rejects}");
}

#[test]
fn appended_lines_are_loaded_and_another_file_is_not_taken_for_this_one() {
    let place = Place::new();
    let lines = generated(&place, "orders --records 1000", "orders.jsonl");
    let load = "load orders.jsonl --to sqlite --db out.db";
    run(&place, load).run().expect_code(0);
    let longer = generated(&place, "orders --records 1500", "orders.jsonl");
    assert_eq!(longer[..1000], lines);
    run(&place, load).run().expect_code(0).expect_stderr("500 documents loaded");
    assert!(values(&place) == longer);
    generated(&place, "orders --records 1500 --seed 2", "orders.jsonl");
    run(&place, load).run().expect_code(1).expect_stderr("orders.jsonl/0");
    assert!(values(&place) == longer, "nothing was overwritten");
}

#[test]
fn wrong_usage_is_told_before_anything_is_read() {
    let place = Place::new();
    fs::write(place.file("a.jsonl"), "{}\n").expect("the folder is ours");
    let refused = |line: &str, code: i32, part: &str| -> Finished {
        run(&place, line).run().expect_code(code).expect_stderr(part)
    };
    refused("load a.jsonl --to sqlite", 2, "needs --db");
    refused("load a.jsonl --to kafka", 2, "--topic");
    refused("load a.jsonl --to nowhere", 2, "sqlite, odbc, mongodb, kafka");
    refused("load a.jsonl --to sqlite --db out.db --key id", 2, "begins with /");
    refused("load missing.jsonl --to sqlite --db out.db", 2, "missing.jsonl");
    refused("load Cargo.toml --to sqlite --db out.db", 2, "Cargo.toml");
    fs::write(place.file("b.jsonl.gz"), b"\x1f\x8b\x08\0\0\0\0\0").expect("the folder is ours");
    refused("load b.jsonl.gz --to sqlite --db out.db", 1, "b.jsonl.gz");
    fs::create_dir(place.file("in")).expect("the folder is ours");
    fs::write(place.file("in/a.jsonl"), "{}\n").expect("the folder is ours");
    refused("load a.jsonl in/a.jsonl --to sqlite --db out.db", 1, "have one name");
}

/// Documents of a topic by partition.
fn consumed(place: &Place, address: &str, group: &str) -> BTreeMap<i64, Vec<(String, String)>> {
    let line =
        format!("consume --bootstrap-servers {address} --topics loaded --group-id {group} --format json --until-end");
    let mut partitions: BTreeMap<i64, Vec<(String, String)>> = BTreeMap::new();
    for line in run(place, &line).run().expect_code(0).stdout.lines() {
        let record: Value = serde_json::from_str(line).expect("JSON");
        let text = |name: &str| record[name].as_str().expect(name).to_owned();
        let partition = record["partition"].as_i64().expect("a partition");
        partitions.entry(partition).or_default().push((text("key"), text("value")));
    }
    partitions
}

#[test]
fn a_topic_gets_every_document_at_least_once_and_all_after_a_kill() {
    let place = Place::new();
    let topics = vec![TopicSpec::new("loaded", 3)];
    let broker = Broker::start(BrokerOptions { topics, ..BrokerOptions::default() }).expect("a broker");
    let address = broker.address().to_string();
    let lines = generated(&place, "orders --records 200000", "orders.jsonl.zst");
    let load = format!("load orders.jsonl.zst --to kafka --topic loaded --key /customer --bootstrap-servers {address}");
    let killed = run(&place, &format!("{load} --batch-size 50")).start();
    until("a checkpoint is there", PATIENCE, || place.file("konekt-load.checkpoint.json").exists().then_some(()));
    killed.kill();
    run(&place, &load).run().expect_code(0);
    let partitions = consumed(&place, &address, "audit");
    assert_eq!(partitions.len(), 3, "keys spread documents");
    let mut keys: BTreeMap<&str, i64> = BTreeMap::new();
    for (partition, records) in &partitions {
        for (key, _) in records {
            assert_eq!(keys.insert(key, *partition).unwrap_or(*partition), *partition, "a key has one partition");
        }
    }
    let found: BTreeSet<&str> = partitions.values().flatten().map(|(_, value)| value.as_str()).collect();
    let expected: BTreeSet<&str> = lines.iter().map(String::as_str).collect();
    assert!(found == expected, "{} of {} documents are there", found.len(), expected.len());
    let count: usize = partitions.values().map(Vec::len).sum();
    assert!(count < lines.len() * 3 / 2, "what was kept is not sent again: {count} records");

    let again = run(&place, &load).run().expect_code(0).expect_stderr("0 documents loaded");
    drop(again);
    generated(&place, "orders --records 100 --seed 2", "orders.jsonl.zst");
    run(&place, &load).run().expect_code(1).expect_stderr("it begins differently");
    run(&place, &load.replace("--topic loaded", "--topic absent")).run().expect_code(1);
    broker.stop();
}
