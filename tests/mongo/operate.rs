//! What a person does with a sink's documents and positions: `konekt positions`, `messages` and `dlq` on MongoDB.

use konekt::TopicPartition;
use konekt::port::Write;
use konekt::sink::mongo::WriteMode;
use konekt::sink::mongo::operate::MongoTables;
use konekt::sink::position::PositionStore;
use konekt::sink::row::FailedRows;
use mongodb::bson::doc;
use serde_json::{Value, json};

use crate::contract::bad_records::{REFUSED_UNLESS_FAILED, aside, with_bad};
use crate::contract::records::{GROUP, Log, Sample};
use crate::contract::tables::{self, Operated};
use crate::contract::{Subject, owner, partition, write_logs};
use crate::sink::{Served, checked};
use crate::stored::COLLECTION;
use crate::support::konekt::{Finished, Place};
use crate::support::mongo::{self, Mongo};
use crate::support::or_skip;

impl Operated for Served {
    fn position_store(&self) -> Box<dyn PositionStore> {
        Box::new(MongoTables::of(&self.sink))
    }

    fn failed_rows(&self) -> Box<dyn FailedRows> {
        Box::new(MongoTables::of(&self.sink))
    }

    fn mend(&self) {
        let mend = doc! { "$set": { "message_value": "good" } };
        self.stored.documents().update_many(doc! { "processing_status": "FAILED" }, mend).run().expect("an update");
    }
}

#[test]
fn has_collections_for_people() {
    let Some(mongo) = or_skip(mongo::shared()) else { return };
    tables::check(|check| checked(mongo, check));
}

/// `konekt` with these words, on the database of a sink.
struct Person<'a> {
    place: Place,
    mongo: &'a Mongo,
    options: Vec<String>,
}

impl<'a> Person<'a> {
    /// One who says which collection it is, where that cannot be known.
    fn of(mongo: &'a Mongo, served: &Served, collection: Option<&str>) -> Self {
        let mut options = vec!["--mongodb-database".to_owned(), served.stored.database.name().to_owned()];
        options.extend(collection.iter().flat_map(|name| ["--mongodb-collection".to_owned(), (*name).to_owned()]));
        Self { place: Place::new(), mongo, options }
    }

    fn run(&self, words: &str) -> Finished {
        let words: Vec<&str> = words.split(' ').collect();
        let options: Vec<&str> = self.options.iter().map(String::as_str).collect();
        self.place.konekt(&words).arguments(&options).variable("MONGODB_URI", &self.mongo.uri()).run()
    }

    fn json(&self, words: &str) -> Value {
        let text = self.run(words).expect_code(0).stdout;
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }
}

/// Documents here are of 29 February 2024: see the contract's clock.
#[test]
fn documents_are_counted_shown_and_removed() {
    let Some(mongo) = or_skip(mongo::shared()) else { return };
    for collection in [Some(COLLECTION), None] {
        let served = Served::new(mongo, |options| options.collection = collection.map(str::to_owned));
        let person = Person::of(mongo, &served, collection);
        if collection.is_none() {
            person.run("messages stats").expect_code(2).expect_stderr("--mongodb-collection");
        }
        let headers: &[(&[u8], Option<&[u8]>)] = &[(b"h", Some(b"1"))];
        let samples = [
            Sample { key: Some(b"k"), value: Some(br#"{"a": [1, {"b": "c"}]}"#), headers },
            Sample { key: None, value: None, headers: &[] },
            Sample { key: Some(b"\xff"), value: Some(b"[true]"), headers: &[] },
        ];
        let logs = [
            Log::of(&TopicPartition::new("orders", 3), 0, &samples),
            Log::plain(&TopicPartition::new("payments", 4), 0, 2500),
        ];
        write_logs(&served.sink, &logs);

        let stats = person.json("messages stats --json");
        assert_eq!(stats["by_status"], json!({"SUCCESS": 2502, "TOMBSTONE": 1}), "{collection:?}");
        let line = &stats["partitions"][0];
        let expected = json!({"topic": "orders", "partition": 3, "status": "SUCCESS", "rows": 2, "first_offset": 0,
            "last_offset": 2, "first_time": "2024-02-29 12:34:56.789", "last_time": "2024-02-29 12:34:56.789"});
        assert_eq!(line, &expected);

        let shown =
            |offset: u32| person.json(&format!("messages show --topic orders --partition 3 --offset {offset} --json"));
        let first = shown(0);
        assert_eq!((&first["message_headers"], &first["message_key"]), (&json!({"h": "1"}), &json!("k")));
        let value: Value = serde_json::from_str(first["message_value"].as_str().expect("text")).expect("JSON");
        assert_eq!(value, json!({"a": [1, {"b": "c"}]}));
        assert_eq!(shown(1)["processing_status"], "TOMBSTONE");
        let last = shown(2);
        assert_eq!((&last["message_key"], &last["message_value"]), (&json!("/w=="), &json!("[true]")));

        let dry = person.run("messages prune --older-than 30d --dry-run").expect_code(0).stdout;
        assert!(dry.contains("2,503 rows before"), "{dry}");
        let removed = person.run("messages prune --older-than 30d").expect_code(0).stdout;
        assert!(removed.contains("2,503 rows before"), "{removed}");
        assert_eq!(person.json("messages stats --json")["rows"], 0);
    }
}

#[test]
fn positions_are_shown_and_moved() {
    let Some(mongo) = or_skip(mongo::shared()) else { return };
    let served = Served::new(mongo, |_| {});
    let (mut writer, epoch) = owner(&served, 1);
    writer.write(&[Log::plain(&partition(0), 0, 30).write(epoch)]).remove(0).expect("the batch is written");
    let person = Person::of(mongo, &served, None);
    let shown = person.json(&format!("positions show --group-id {GROUP} --format json"));
    assert_eq!((&shown["next_offset"], &shown["written"]), (&json!(30), &json!(30)));
    let moved = person.run(&format!("positions rewind --group-id {GROUP} --to 10 --yes")).expect_code(0).stdout;
    assert!(moved.contains("30 -> 10"), "{moved}");
    assert_eq!(served.position(&partition(0)).map(|position| position.next_offset), Some(10));
    person.run(&format!("positions forget --group-id {GROUP} --yes")).expect_code(0);
    assert_eq!(served.position(&partition(0)), None);
}

#[test]
fn dead_letters_are_listed_and_tried_again() {
    let Some(mongo) = or_skip(mongo::shared()) else { return };
    let served = checked(mongo, REFUSED_UNLESS_FAILED);
    let (mut writer, epoch) = owner(&served, 1);
    let log = with_bad(&partition(0), 10, &[2, 7]);
    let write = Write { aside: Some(aside(true, None)), ..log.write(epoch) };
    writer.write(&[write]).remove(0).expect("the batch is written");
    let person = Person::of(mongo, &served, Some(COLLECTION));
    let listed = person.run("dlq ls").expect_code(0).stdout;
    assert!(listed.lines().count() == 2 && listed.contains("orders/0@7"), "{listed}");
    person.run("dlq replay").expect_code(1).expect_stderr("0 replayed").expect_stderr("validat");
    served.mend();
    person.run("dlq replay --mongodb-mode upsert").expect_code(1).expect_stderr("may be newer");
    person.run("dlq replay --offset 7").expect_code(0).expect_stderr("1 replayed");
    person.run("dlq replay").expect_code(0).expect_stderr("1 replayed");
    assert_eq!(person.run("dlq ls").expect_code(0).stdout, "");
    assert!(served.rows().iter().all(|row| row.status == "SUCCESS" && row.error.is_none()));
}

/// A collection of plain documents holds no messages but the dead letters.
#[test]
fn plain_documents_are_no_messages() {
    let Some(mongo) = or_skip(mongo::shared()) else { return };
    let served = Served::new(mongo, |options| options.mode = WriteMode::Upsert);
    let (mut writer, epoch) = owner(&served, 1);
    let sample = |key| Sample { key, value: Some(br#"{"topic": "mine", "offset": 1}"#), headers: &[] };
    let log = Log::of(&partition(0), 0, &[sample(Some(b"a")), sample(None)]);
    let write = Write { aside: Some(aside(true, None)), ..log.write(epoch) };
    writer.write(&[write]).remove(0).expect("the batch is written");
    let stats = Person::of(mongo, &served, Some(COLLECTION)).json("messages stats --json");
    assert_eq!((&stats["rows"], &stats["by_status"]), (&json!(1), &json!({"FAILED": 1})));
}
