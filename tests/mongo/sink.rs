//! The sink: the contract of all sinks, what is MongoDB's own, and what happens when a server fails.

use std::sync::Arc;
use std::time::Duration;

use konekt::TopicPartition;
use konekt::core::secret::Secret;
use konekt::core::verdict::ErrorClass;
use konekt::mongo::Deployment;
use konekt::port::{Sink, Write, Written};
use konekt::sink::mongo::{MongoSink, MongoSinkOptions, WriteMode};
use mongodb::bson::{Bson, Document, doc};

use crate::contract::bad_records;
use crate::contract::dry_run::{self, Rehearsed};
use crate::contract::records::{GROUP, Log, Sample};
use crate::contract::{
    self, Standing, StoredPosition, StoredRow, Subject, expect_says, offsets, owner, partition, settle,
};
use crate::stored::{COLLECTION, Stored};
use crate::support::mongo::{self, Mongo};
use crate::support::or_skip;

/// A sink over a new database.
pub struct Served {
    pub stored: Stored,
    options: MongoSinkOptions,
    pub sink: MongoSink,
}

impl Served {
    pub fn new(mongo: &Mongo, change: impl FnOnce(&mut MongoSinkOptions)) -> Self {
        Self::by(mongo, &mongo.uri(), change)
    }

    /// By another address than the set's.
    pub fn by(mongo: &Mongo, uri: &str, change: impl FnOnce(&mut MongoSinkOptions)) -> Self {
        let database = mongo.database();
        let mut options = MongoSinkOptions {
            deployment: Deployment::parse(&Secret::new(uri)).expect("a well-formed address"),
            database: database.name().to_owned(),
            collection: Some(COLLECTION.to_owned()),
            mode: WriteMode::Insert,
            consumer_group: GROUP.into(),
            exactly_once: true,
            dry_run: false,
            timeout: Duration::from_secs(20),
            clock: Arc::new(Standing),
        };
        change(&mut options);
        let sink = MongoSink::new(options.clone()).expect("the address is usable");
        Self { stored: Stored { database }, options, sink }
    }

    /// The documents of a collection by `_id`.
    fn documents(&self, collection: &str) -> Vec<Document> {
        let found = self.stored.database.collection::<Document>(collection).find(doc! {}).sort(doc! { "_id": 1 }).run();
        found.expect("an answer").map(|document| document.expect("a document")).collect()
    }
}

impl Rehearsed for Served {
    fn dry(&self) -> Box<dyn Sink> {
        let options = MongoSinkOptions { dry_run: true, ..self.options.clone() };
        Box::new(MongoSink::new(options).expect("the address is usable"))
    }

    fn has_tables(&self) -> bool {
        !self.stored.database.list_collection_names().run().expect("an answer").is_empty()
    }
}

impl Subject for Served {
    fn sink(&self) -> &dyn Sink {
        &self.sink
    }

    fn rows(&self) -> Vec<StoredRow> {
        self.stored.rows()
    }

    fn position(&self, partition: &TopicPartition) -> Option<StoredPosition> {
        self.stored.position(partition)
    }

    /// Those that begin and end transactions are of no database, so they are not among these.
    fn statements(&self) -> Option<usize> {
        let profiled = self.stored.database.collection::<Document>("system.profile").count_documents(doc! {}).run();
        Some(profiled.expect("a count") as usize)
    }
}

#[test]
fn keeps_the_contract() {
    let Some(mongo) = or_skip(mongo::shared()) else { return };
    contract::check(|| Served::new(mongo, |_| {}));
}

#[test]
fn puts_bad_records_aside() {
    let Some(mongo) = or_skip(mongo::shared()) else { return };
    bad_records::check(|check| checked(mongo, check));
}

/// A sink over a collection with a validator that says the same as this CHECK; without any for an empty one.
pub fn checked(mongo: &Mongo, check: &str) -> Served {
    let served = Served::new(mongo, |_| {});
    let bad = match check {
        "" => return served,
        bad_records::REFUSED => doc! { "message_value": "bad" },
        _ => doc! { "message_value": "bad", "processing_status": { "$ne": "FAILED" } },
    };
    let made = served.stored.database.create_collection(COLLECTION).validator(doc! { "$nor": [bad] }).run();
    made.expect("a collection with a validator");
    let profile = doc! { "profile": 2, "filter": { "ns": { "$ne": "system.profile" } } };
    served.stored.database.run_command(profile).run().expect("a profile of all that comes");
    served
}

#[test]
fn keeps_nothing_of_a_dry_run() {
    let Some(mongo) = or_skip(mongo::shared()) else { return };
    dry_run::check(|check| checked(mongo, check));
}

#[test]
fn a_dry_run_needs_transactions() {
    let Some(mongo) = or_skip(mongo::own(0)) else { return };
    let served = Served::new(&mongo, |options| (options.exactly_once, options.dry_run) = (false, true));
    let error = served.sink.check().expect_err("a standalone has none");
    expect_says(&error, ErrorClass::Schema, &["dry run", "--dry-run", "replSet"]);
}

/// A value that is JSON is a document, with the types that extended JSON names.
#[test]
fn json_becomes_documents_in_a_collection_per_topic() {
    let Some(mongo) = or_skip(mongo::shared()) else { return };
    let served = Served::new(mongo, |options| options.collection = None);
    let (mut writer, epoch) = owner(&served, 1);
    let value = br#"{"at": {"$date": 1700000000123}, "n": 9007199254740993, "x": 1.5, "list": [1, {"a": null}]}"#;
    let log = Log::of(&partition(0), 0, &[Sample { key: Some(b"k"), value: Some(value), headers: &[] }]);
    assert_eq!(writer.write(&[log.write(epoch)]), [Ok(Written::all(1))]);
    let found = served.documents("orders").remove(0);
    let expected = doc! {
        "at": mongodb::bson::DateTime::from_millis(1_700_000_000_123), "n": 9_007_199_254_740_993_i64, "x": 1.5,
        "list": [1, { "a": Bson::Null }],
    };
    assert_eq!(found.get_document("message_value").expect("a document"), &expected);
    let indexes = served.stored.database.collection::<Document>("orders").list_index_names().run().expect("an answer");
    assert_eq!(indexes, ["_id_", "topic_partition_offset"]);
}

#[test]
fn upsert_keeps_one_document_per_key() {
    let Some(mongo) = or_skip(mongo::shared()) else { return };
    for exactly_once in [true, false] {
        let served = Served::new(mongo, |options| {
            (options.mode, options.exactly_once) = (WriteMode::Upsert, exactly_once);
        });
        let sample = |key: &'static str, value: Option<&'static str>| Sample {
            key: Some(key.as_bytes()),
            value: value.map(str::as_bytes),
            headers: &[],
        };
        let first = [
            sample("a", Some(r#"{"n": 1, "_id": "not this"}"#)),
            sample("b", Some(r#"{"n": 1}"#)),
            sample("a", Some(r#"{"n": 2}"#)),
            sample(r#"{"_id": {"$oid": "65a000000000000000000001"}}"#, Some(r#"{"n": 3}"#)),
            sample("text", Some("just text")),
        ];
        let second = [sample("b", None), sample("a", None), sample("a", Some(r#"{"n": 4}"#)), sample("gone", None)];
        let logs = [Log::of(&partition(0), 0, &first), Log::of(&partition(0), 5, &second)];
        let mut writer = served.sink.writer().expect("a writer");
        let epoch = if exactly_once { owner(&served, 1).1 } else { 0 };
        // Again at the end: what comes twice changes nothing.
        for log in logs.iter().chain(&logs[1..]) {
            let write = if exactly_once { log.write(epoch) } else { log.write_without_position() };
            let written = writer.write(&[write]).remove(0).expect("it is written");
            assert_eq!(written.records, log.records.len() as u64);
        }
        let id = mongodb::bson::oid::ObjectId::parse_str("65a000000000000000000001").expect("an id");
        let expected =
            [doc! { "_id": "a", "n": 4 }, doc! { "_id": "text", "value": "just text" }, doc! { "_id": id, "n": 3 }];
        assert_eq!(served.documents(COLLECTION), expected, "exactly once: {exactly_once}");
    }
}

#[test]
fn what_mongodb_cannot_hold_is_put_aside() {
    let Some(mongo) = or_skip(mongo::shared()) else { return };
    let large = "x".repeat(16 << 20);
    for (mode, why) in [(WriteMode::Insert, "16 MiB"), (WriteMode::Upsert, "no key"), (WriteMode::Document, "no value")]
    {
        let served = Served::new(mongo, |options| options.mode = mode);
        let (mut writer, epoch) = owner(&served, 1);
        let bad = match mode {
            WriteMode::Insert => Sample { key: Some(b"k"), value: Some(large.as_bytes()), headers: &[] },
            WriteMode::Upsert => Sample { key: None, value: Some(b"v"), headers: &[] },
            WriteMode::Document => Sample { key: Some(b"k"), value: None, headers: &[] },
        };
        let most = "y".repeat((16 << 20) - 1000);
        let good = Sample { key: Some(b"g"), value: Some(most.as_bytes()), headers: &[] };
        let log = Log::of(&partition(0), 0, &[good, bad, good]);
        let letters = bad_records::Letters::default();
        let aside = bad_records::aside(true, Some(&letters));
        let written = writer.write(&[Write { aside: Some(aside), ..log.write(epoch) }]).remove(0);
        assert_eq!(written, Ok(Written { dead_lettered: 1, ..Written::all(2) }));
        let kept = letters.kept.into_inner();
        match mode {
            WriteMode::Insert => assert!(kept[0].2.contains(why), "a letter, since a document would be too large"),
            WriteMode::Upsert | WriteMode::Document => {
                let failed = served.stored.documents().find_one(doc! { "processing_status": "FAILED" }).run();
                let failed = failed.expect("an answer").expect("a FAILED document");
                assert!(failed.get_str("error_message").expect("a reason").contains(why), "{failed}");
            }
        }
        assert_eq!(served.position(&partition(0)).expect("a position").next_offset, 3);
    }
}

#[test]
fn a_standalone_has_at_least_once_and_knows_what_comes_again() {
    let Some(mongo) = or_skip(mongo::own(0)) else { return };
    let error = Served::new(&mongo, |_| {}).sink.check().expect_err("it has no transactions");
    expect_says(&error, ErrorClass::Schema, &["no member of a replica set", "--delivery at-least-once"]);

    let served = Served::new(&mongo, |options| options.exactly_once = false);
    served.sink.check().expect("that it can");
    assert!(!served.sink.traits().transactional);
    let mut writer = served.sink.writer().expect("a writer");
    let (short, long) = (Log::plain(&partition(0), 0, 300), Log::plain(&partition(0), 100, 400));
    assert_eq!(writer.write(&[short.write_without_position()]), [Ok(Written::all(300))]);
    let again = Written { repeated: 200, ..Written::all(400) };
    assert_eq!(writer.write(&[long.write_without_position()]), [Ok(again)]);
    assert_eq!(offsets(&served, 0), (0..500).collect::<Vec<i64>>());
}

/// Whatever a server answers, or does not, each record is there once in the end, and no answer says otherwise.
#[test]
fn failing_commands_cost_time_and_nothing_else() {
    let Some(mongo) = or_skip(mongo::own(1)) else { return };
    // The driver looks at its servers every half second: nothing changes in this one that would tell it to look.
    let served = Served::by(&mongo, &format!("{}&heartbeatFrequencyMS=500", mongo.uri()), |_| {});
    let (mut writer, epoch) = owner(&served, 1);
    let mut next = 0;
    let transient = ["TransientTransactionError"];
    for (command, data) in [
        ("the answer of the commit is lost", doc! { "failCommands": ["commitTransaction"], "closeConnection": true }),
        (
            "the commit's outcome is unknown",
            doc! {
            "failCommands": ["commitTransaction"], "errorCode": 91, "errorLabels": ["UnknownTransactionCommitResult"] },
        ),
        (
            "the commit is not confirmed",
            doc! { "failCommands": ["commitTransaction"],
            "writeConcernError": { "code": 64, "errmsg": "waiting for replication timed out" } },
        ),
        (
            "the insert meets another transaction",
            doc! {
            "failCommands": ["insert"], "errorCode": 112, "errorLabels": transient },
        ),
        ("the insert's connection breaks", doc! { "failCommands": ["insert"], "closeConnection": true }),
        (
            "the primary steps down",
            doc! {
            "failCommands": ["update"], "errorCode": 10107, "errorLabels": transient },
        ),
        ("the disk is full", doc! { "failCommands": ["insert"], "errorCode": 14031 }),
        ("the transaction is gone", doc! { "failCommands": ["update"], "errorCode": 251, "errorLabels": transient }),
    ] {
        for times in [1, 2, 4] {
            println!("{command}, {times} times");
            mongo.fail_commands(0, times, data.clone());
            let log = Log::plain(&partition(0), next, 50);
            settle(&served, &mut writer, &log, epoch);
            next = log.end();
            contract::expect_written(&served, 0, next);
        }
    }
}

#[test]
fn an_election_is_survived() {
    let Some(mongo) = or_skip(mongo::own(3)) else { return };
    // The driver looks at its servers every half second, so that a frozen one is given up soon.
    let uri = format!("{}&heartbeatFrequencyMS=500&connectTimeoutMS=1000", mongo.uri());
    let served = Served::by(&mongo, &uri, |_| {});
    let (mut writer, epoch) = owner(&served, 1);
    let mut next = 0;
    let mut write = |next: &mut i64| {
        let log = Log::plain(&partition(0), *next, 50);
        settle(&served, &mut writer, &log, epoch);
        *next = log.end();
    };
    write(&mut next);
    let first = mongo.primary();
    mongo.kill(first);
    write(&mut next);
    mongo.start_again(first);
    write(&mut next);
    let second = mongo.primary();
    mongo.freeze(second);
    write(&mut next);
    mongo.thaw(second);
    write(&mut next);
    contract::expect_written(&served, 0, next);
}
