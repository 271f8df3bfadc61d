//! `konekt load --to mongodb` as a person runs it: documents are what the lines say, each once however often the loader is
//! killed.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use konekt::mongo::json::Formatter;
use mongodb::bson::{Document, doc};
use mongodb::sync::Database;
use serde_json::Value;

use crate::support::konekt::{Konekt, Place};
use crate::support::mongo::{self, Mongo, number};
use crate::support::{or_skip, wait};

const SOON: Duration = Duration::from_secs(90);
const ORDERS: u64 = 40_000;

/// A loader into one collection of a database of its own.
struct Loader<'a> {
    place: Place,
    mongo: &'a Mongo,
    database: Database,
}

impl<'a> Loader<'a> {
    fn of(mongo: &'a Mongo) -> Self {
        Self { place: Place::new(), mongo, database: mongo.database() }
    }

    fn load(&self, words: &str) -> Konekt {
        self.place
            .konekt(&["load", "--to", "mongodb"])
            .arguments(&words.split(' ').collect::<Vec<_>>())
            .arguments(&["--mongodb-database", self.database.name(), "--mongodb-collection", "loaded"])
            .variable("MONGODB_URI", &self.mongo.uri())
    }

    fn count(&self) -> u64 {
        self.database.collection::<Document>("loaded").count_documents(doc! {}).run().expect("a count")
    }

    /// The documents as plain JSON, by `_id`.
    fn documents(&self) -> BTreeMap<String, Value> {
        let found = self.database.collection::<Document>("loaded").find(doc! {}).run().expect("an answer");
        let parts = |document: Document| {
            let text = Formatter::SimplifiedJson.owned(&document).expect("a document");
            let mut value: Value = serde_json::from_str(&text).expect("JSON");
            let id = value.as_object_mut().expect("an object").remove("_id").expect("an id");
            (id.as_str().map_or_else(|| id.to_string(), str::to_owned), value)
        };
        found.map(|document| parts(document.expect("a document"))).collect()
    }

    /// The next line of the only file that was loaded, as the database says.
    fn next_line(&self) -> Option<i64> {
        let positions = self.database.collection::<Document>("konekt_positions");
        Some(number(positions.find_one(doc! {}).run().expect("an answer")?.get("next_offset")))
    }

    fn generate(&self, file: &str) -> Vec<Value> {
        let count = ORDERS.to_string();
        let make = ["data", "generate", "orders", "--records", &count, "--output", file];
        self.place.konekt(&make).run().expect_code(0);
        let all = self.place.konekt(&["data", "sample", "--records", &count, file]).run().expect_code(0).stdout;
        all.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    /// Kills a loader half-way, after `is_noted` says that it has noted how far it is; how many documents are there then.
    fn kill_half_way(&self, words: &str, is_noted: impl Fn() -> bool) -> u64 {
        let killed = self.load(&format!("{words} --batch-size 20")).start();
        wait::until("a part is loaded", SOON, || (self.count() > 2_000 && is_noted()).then_some(()));
        killed.kill();
        let half = self.count();
        assert!(half < ORDERS, "all was loaded before it was killed");
        half
    }

    fn expect_orders(&self, orders: &[Value]) {
        let expected: BTreeMap<String, &Value> =
            orders.iter().map(|order| (order["reference"].as_str().expect("text").to_owned(), order)).collect();
        let found = self.documents();
        assert_eq!(found.len(), orders.len());
        assert!(found.iter().all(|(id, order)| expected.get(id) == Some(&order)), "each document is its line's");
    }
}

/// Documents and position are one transaction: the second run begins behind the last document of the first.
#[test]
fn a_set_has_each_document_once_though_the_loader_is_killed() {
    let Some(mongo) = or_skip(mongo::shared()) else { return };
    let loader = Loader::of(mongo);
    let orders = loader.generate("orders.jsonl.zst");
    let load = "orders.jsonl.zst --key /reference";
    loader.kill_half_way(load, || loader.next_line().is_some());
    let half = wait::until("what was under way has ended", SOON, || {
        let (next, count) = (loader.next_line()?, loader.count());
        (next == count as i64 + 1).then_some(count)
    });
    let left = format!("{} documents loaded", grouped(ORDERS - half));
    loader.load(load).run().expect_code(0).expect_stderr(&left);
    loader.expect_orders(&orders);
    loader.load(load).run().expect_code(0).expect_stderr("konekt: 0 documents loaded");
    assert_eq!(loader.next_line(), Some(ORDERS as i64 + 1));
}

/// There are no transactions there: the place is in a file, and what comes again is the same document.
#[test]
fn a_standalone_has_each_document_once_too() {
    let Some(mongo) = or_skip(mongo::own(0)) else { return };
    let loader = Loader::of(&mongo);
    let orders = loader.generate("orders.jsonl.gz");
    let load = "orders.jsonl.gz --key /reference --delivery at-least-once";
    loader.load("orders.jsonl.gz").run().expect_code(2).expect_stderr("--delivery at-least-once");
    loader.kill_half_way(load, || loader.place.file("konekt-load.checkpoint.json").exists());
    let finished = loader.load(load).run().expect_code(0);
    loader.expect_orders(&orders);
    assert!(!finished.stderr.contains("40,000 documents"), "it goes on from its checkpoint: {}", finished.stderr);
    assert_eq!(loader.next_line(), None);
}

#[test]
fn documents_keep_their_ids_and_get_one_where_they_have_none() {
    let Some(mongo) = or_skip(mongo::shared()) else { return };
    let loader = Loader::of(mongo);
    let large = format!(r#"{{"_id":"large","text":"{}"}}"#, "x".repeat(16 << 20));
    let lines = [
        r#"{"_id":{"$oid":"65a000000000000000000001"},"at":{"$date":"2026-01-31T12:00:00Z"}}"#,
        r#"{"_id":"twice","n":1}"#,
        r#"{"n":2}"#,
        r#"{"_id":"twice","n":3}"#,
        "nonsense",
        &large,
    ];
    fs::write(loader.place.file("mixed.jsonl"), lines.join("\n")).expect("the folder is ours");
    let load = "mixed.jsonl --dead-letter-file letters.jsonl --dead-letter-share-max 50";
    let dry = loader.load(&format!("{load} --dry-run")).run().expect_code(1);
    dry.expect_stderr("5 documents would be loaded").expect_stderr("mixed.jsonl:5: it is not json");
    assert_eq!((loader.count(), loader.next_line()), (0, None), "nothing was written");

    let finished = loader.load(load).run().expect_code(1);
    finished.expect_stderr("4 documents loaded").expect_stderr("1 bad, 1 dead letters");
    let found = loader.documents();
    assert_eq!(found["65a000000000000000000001"]["at"], "2026-01-31T12:00:00Z");
    assert_eq!(found["twice"], serde_json::json!({"n": 3}));
    let nameless = found.iter().find(|(_, document)| document["n"] == 2).expect("the document without an id").0.clone();
    assert_eq!((found.len(), nameless.len()), (3, 36), "{nameless} is the record's id");
    let letters = fs::read_to_string(loader.place.file("letters.jsonl")).expect("the letters");
    assert!(letters.lines().count() == 1 && letters.contains("16 MiB"));
    assert_eq!(loader.next_line(), Some(7));
}

#[test]
fn what_is_missing_is_said() {
    let place = Place::new();
    fs::write(place.file("a.jsonl"), "{}\n").expect("the folder is ours");
    let refused = |words: &str, part: &str| {
        let words: Vec<&str> = words.split(' ').collect();
        place.konekt(&["load", "a.jsonl", "--to", "mongodb"]).arguments(&words).run().expect_code(2).expect_stderr(part)
    };
    refused("--mongodb-database shop", "--mongodb-collection");
    refused("--mongodb-collection orders", "--mongodb-database");
    refused("--mongodb-uri localhost --mongodb-collection orders", "mongodb_uri");
}

/// A number as people are told it.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let (thousands, rest) = digits.split_at(digits.len().saturating_sub(3));
    if thousands.is_empty() { rest.to_owned() } else { format!("{thousands},{rest}") }
}
