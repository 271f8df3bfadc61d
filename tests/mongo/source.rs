//! `konekt source mongodb` as a person runs it, between real servers: what comes out, and that nothing is lost whatever
//! stops meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mongodb::bson::{Document, doc};
use mongodb::sync::{Collection, Database};
use serde_json::{Value, json};

use crate::support::kafka::{self, RealKafka, free_port};
use crate::support::konekt::{Konekt, Place, RUN_LIMIT, Running};
use crate::support::mongo::{self, Mongo};
use crate::support::{or_skip, wait};

/// Long enough for anything on a busy machine.
const SOON: Duration = Duration::from_secs(90);

/// A source of one database, whose topics begin with the database's own name.
struct Source<'a> {
    place: Place,
    kafka: &'a RealKafka,
    mongo: &'a Mongo,
    database: Database,
}

impl<'a> Source<'a> {
    fn of(mongo: &'a Mongo, kafka: &'a RealKafka) -> Self {
        // Tests share a Kafka and not always a MongoDB.
        let name = format!("{}_{}", mongo.database().name(), free_port());
        Self { place: Place::new(), kafka, mongo, database: mongo.client().database(&name) }
    }

    fn collection(&self) -> Collection<Document> {
        self.database.collection("orders")
    }

    fn topic(&self) -> String {
        format!("{}.orders", self.database.name())
    }

    fn command(&self, arguments: &[&str]) -> Konekt {
        self.place
            .konekt(&["source", "mongodb", "--bootstrap-servers", &self.kafka.address()])
            .arguments(&["--mongodb-database", self.database.name(), "--state-file", "place.json"])
            .arguments(&["--save-interval-ms", "100", "--stats-interval-ms", "1000"])
            .arguments(arguments)
            .variable("MONGODB_URI", &self.mongo.uri())
    }

    /// Starts it, and waits until it watches.
    fn start(&self, arguments: &[&str]) -> Running {
        let run = self.command(arguments).start();
        wait::until("it watches", SOON, || run.stderr().contains("watching").then_some(()));
        run
    }

    /// Waits until so many records are in its topic.
    fn until_records(&self, count: i64) {
        let arrived = || (self.kafka.ends(&self.topic()).iter().sum::<i64>() >= count).then_some(());
        wait::until("the records arrive", SOON, || self.has_topic().then(arrived).flatten());
    }

    fn has_topic(&self) -> bool {
        let topics =
            self.place.konekt(&["admin", "topics", "--json", "--bootstrap-servers", &self.kafka.address()]).run();
        topics.stdout.contains(&format!("\"{}\"", self.topic()))
    }

    /// All records of a topic, as `consume` prints them.
    fn records_of(&self, topic: &str) -> Vec<Value> {
        let group = format!("look-{}", free_port());
        let read = self.place.consume(self.kafka, topic, &group).run().expect_code(0).stdout;
        read.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
    }

    /// The `_id`s, all numbers, of the documents that its topic speaks of.
    fn ids(&self) -> BTreeSet<i64> {
        self.records_of(&self.topic())
            .iter()
            .map(|record| {
                inner(record, "key")["_id"]["$numberLong"].as_str().expect("a number").parse().expect("a number")
            })
            .collect()
    }
}

/// The JSON within a record's key or value.
fn inner(record: &Value, part: &str) -> Value {
    let text = record[part].as_str().unwrap_or_else(|| panic!("{part} is no text: {record}"));
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn stop(run: Running) -> String {
    run.stop("TERM", SOON).expect_code(0).stderr
}

#[test]
fn changes_come_out_as_the_connector_writes_them() {
    let (Some(kafka), Some(mongo)) = (or_skip(kafka::newest()), or_skip(mongo::shared())) else { return };
    let source = Source::of(mongo, kafka);
    let run = source.start(&[
        "--topic-prefix",
        "konekt",
        "--watch-heartbeat-interval-ms",
        "300",
        "--watch-heartbeat-topic",
        &format!("beats-{}", source.topic()),
    ]);
    let orders = source.collection();
    let id = mongodb::bson::oid::ObjectId::parse_str("65a000000000000000000001").expect("an id");
    orders.insert_one(doc! { "_id": id, "n": 1_i64 }).run().expect("an insert");
    orders.update_one(doc! { "_id": id }, doc! { "$set": { "n": 2_i64 } }).run().expect("an update");
    orders.replace_one(doc! { "_id": id }, doc! { "x": "é" }).run().expect("a replacement");
    orders.delete_one(doc! { "_id": id }).run().expect("a deletion");
    let topic = format!("konekt.{}", source.topic());
    let beats = format!("beats-{}", source.topic());
    wait::until("a quiet stream shows life", SOON, || {
        run.stderr()
            .contains("4 events, 4 records")
            .then_some(())
            .filter(|()| kafka.ends(&beats).iter().sum::<i64>() > 0)
    });
    stop(run);
    let records = source.records_of(&topic);
    let key = "{\"_id\": {\"$oid\": \"65a000000000000000000001\"}}";
    assert!(records.iter().all(|record| record["key"] == key), "{records:?}");
    let kinds: Vec<Value> = records.iter().map(|record| inner(record, "value")["operationType"].clone()).collect();
    assert_eq!(kinds, ["insert", "update", "replace", "delete"]);
    let value = records[0]["value"].as_str().expect("text");
    assert!(
        value.contains(
            "\"fullDocument\": {\"_id\": {\"$oid\": \"65a000000000000000000001\"}, \"n\": {\"$numberLong\": \"1\"}}"
        ),
        "{value}"
    );
    let told = inner(&records[0], "value")["wallTime"]["$date"].clone();
    assert_eq!(records[0]["timestamp"], told, "a record has the event's time");
    let beat = inner(&source.records_of(&beats)[0], "key");
    assert!(beat["_data"].as_str().is_some_and(|token| token.starts_with("82")), "{beat}");
}

/// Every document of before, of meanwhile and of after, though the source is killed in the midst of its copy.
#[test]
fn a_copy_and_the_stream_behind_it_leave_no_gap() {
    let (Some(kafka), Some(mongo)) = (or_skip(kafka::newest()), or_skip(mongo::shared())) else { return };
    let source = Source::of(mongo, kafka);
    let orders = source.collection();
    let insert = |from: i64, to: i64| {
        let documents = (from..to).map(|id| doc! { "_id": id, "text": "x".repeat(200) });
        orders.insert_many(documents).run().expect("documents");
    };
    insert(0, 20_000);
    let first = source.command(&["--startup-mode", "copy-existing"]).start();
    wait::until("it copies", SOON, || first.stderr().contains("copying").then_some(()));
    insert(20_000, 20_500);
    first.kill();
    insert(20_500, 21_000);
    let second = source.start(&["--startup-mode", "copy-existing"]);
    insert(21_000, 21_500);
    wait::until("all is there", SOON, || {
        (source.kafka.ends(&source.topic()).iter().sum::<i64>() >= 21_500).then_some(())
    });
    stop(second);
    insert(21_500, 22_000);
    let third = source.start(&["--startup-mode", "copy-existing"]);
    wait::until("it goes on where it was", SOON, || third.stderr().contains("500 events").then_some(()));
    assert!(!third.stderr().contains("copying"), "{}", third.stderr());
    stop(third);
    assert_eq!(source.ids(), (0..22_000).collect());
}

#[test]
fn elections_and_a_restarted_kafka_lose_nothing() {
    let (Some(kafka), Some(mongo)) = (or_skip(kafka::own(&[kafka::FORGETS_SOON])), or_skip(mongo::own(3))) else {
        return;
    };
    let source = Source::of(&mongo, &kafka);
    let orders = source.collection();
    let mut next = 0;
    let mut insert = |count: i64| {
        for _ in 0..count {
            wait::until("the document is written", SOON, || {
                let written = orders.insert_one(doc! { "_id": next }).run();
                // Written before the answer was lost.
                let known = written.as_ref().is_err_and(|error| error.to_string().contains("E11000"));
                (written.is_ok() || known).then_some(())
            });
            next += 1;
        }
        next
    };
    let run = source.start(&[]);
    let count = insert(200);
    source.until_records(count);
    let first = mongo.primary();
    mongo.kill(first);
    insert(200);
    mongo.start_again(first);
    let second = mongo.primary();
    mongo.stop(second);
    insert(200);
    kafka.stop();
    insert(200);
    wait::pause(Duration::from_millis(500));
    kafka.start_again().expect("Kafka comes back");
    mongo.start_again(second);
    let count = insert(200);
    source.until_records(count);
    wait::until("all is there", SOON, || (source.ids().len() as i64 == count).then_some(()));
    stop(run);
    assert_eq!(source.ids(), (0..count).collect());
}

/// The oplog is small, and run over for good.
#[test]
fn a_lost_place_is_said_and_settled_as_asked() {
    let wanted = mongo::Wanted { members: 1, secured: false, oplog_mb: 16 };
    let (Some(kafka), Some(mongo)) = (or_skip(kafka::newest()), or_skip(Mongo::start(wanted))) else { return };
    let source = Source::of(&mongo, kafka);
    let run = source.start(&[]);
    source.collection().insert_one(doc! { "_id": 1_i64 }).run().expect("a document");
    source.until_records(1);
    stop(run);
    let file = source.place.file("place.json");
    let place = std::fs::read_to_string(&file).expect("the place is kept");
    let known: Value = serde_json::from_str(&place).expect("JSON");
    let token = known["token"]["_data"].as_str().expect("a token");
    let kept_at = u32::from_str_radix(&token[2..10], 16).expect("its second");
    let lose = || std::fs::write(&file, &place).expect("the file is ours");

    let oplog = mongo.client().database("local").collection::<Document>("oplog.rs");
    let filler = mongo.client().database("filler").collection::<Document>("filler");
    wait::until("the oplog is run over", SOON, || {
        filler.insert_one(doc! { "text": "x".repeat(4 << 20) }).run().expect("a document");
        let first = oplog.find_one(doc! {}).sort(doc! { "$natural": 1 }).run().expect("an answer").expect("an entry");
        (first.get_timestamp("ts").expect("its time").time > kept_at + 1).then_some(())
    });
    let finished = source.command(&[]).run().expect_code(1).expect_stderr("--on-lost");
    finished.expect_stderr("is lost").expect_stderr("code 286");
    for (id, policy, said) in
        [(2_i64, "now", "is missing"), (3, "copy", "copied again"), (4, "timestamp", "is missing")]
    {
        lose();
        // In the oplog still, though nobody watched.
        source.collection().insert_one(doc! { "_id": id }).run().expect("a document");
        let run = source.start(&["--on-lost", policy]);
        assert!(run.stderr().contains(said) && run.stderr().contains("ERROR"), "{policy}: {}", run.stderr());
        let before = source.kafka.ends(&source.topic()).iter().sum::<i64>();
        source.collection().insert_one(doc! { "_id": 100 + i64::from(free_port()) }).run().expect("a document");
        source.until_records(before + 1);
        stop(run);
    }
    let ids = source.ids();
    assert!([1, 2, 3, 4].iter().all(|id| ids.contains(id)), "what the oplog still had is published: {ids:?}");
}

/// With both documents an event may be larger than MongoDB's limit; then it goes without the one before.
#[test]
fn events_carry_the_document_before_them_where_that_fits() {
    let (Some(kafka), Some(mongo)) = (or_skip(kafka::newest()), or_skip(mongo::shared())) else { return };
    let source = Source::of(mongo, kafka);
    let keeps = doc! { "create": "orders", "changeStreamPreAndPostImages": { "enabled": true } };
    source.database.run_command(keeps).run().expect("a collection that keeps documents as they were");
    let options = ["--full-document", "whenAvailable", "--full-document-before-change", "whenAvailable"];
    let run = source.start(&options);
    let orders = source.collection();
    let megabytes = |letter: &str, count: usize| letter.repeat(count << 20);
    let put = |id: i64, text: &str| {
        orders.replace_one(doc! { "_id": id }, doc! { "text": text }).upsert(true).run().expect("a document");
    };
    put(1, "a");
    put(1, "b");
    put(2, &megabytes("a", 9));
    put(2, &megabytes("b", 9));
    put(1, "c");
    orders.delete_one(doc! { "_id": 1_i64 }).run().expect("a deletion");
    source.until_records(6);
    let said = stop(run);
    assert!(said.contains("published without that"), "{said}");
    let events: Vec<Value> = source.records_of(&source.topic()).iter().map(|record| inner(record, "value")).collect();
    let texts = |name: &str, id: &str| -> Vec<Option<String>> {
        let of_id = events.iter().filter(|event| event["documentKey"]["_id"]["$numberLong"] == id);
        of_id.map(|event| Some(event[name]["text"].as_str()?.chars().take(1).collect())).collect()
    };
    let some =
        |letters: &[&str]| letters.iter().map(|letter| (*letter).to_owned().into()).collect::<Vec<Option<String>>>();
    assert_eq!(texts("fullDocumentBeforeChange", "1"), [vec![None], some(&["a", "b", "c"])].concat());
    assert_eq!(texts("fullDocument", "1"), [some(&["a", "b", "c"]), vec![None]].concat());
    assert_eq!(texts("fullDocumentBeforeChange", "2"), [None, None]);
    assert_eq!(texts("fullDocument", "2"), some(&["a", "b"]));

    // What it sets and the document after that are too large together, whatever is left out.
    let run = source.start(&options);
    orders.update_one(doc! { "_id": 2_i64 }, doc! { "$set": { "text": megabytes("c", 9) } }).run().expect("an update");
    run.wait().expect_code(1).expect_stderr("10334").expect_stderr("16 MiB");
}

#[test]
fn a_first_run_may_start_at_a_time() {
    let (Some(kafka), Some(mongo)) = (or_skip(kafka::newest()), or_skip(mongo::shared())) else { return };
    let source = Source::of(mongo, kafka);
    let now = || {
        let hello = mongo.admin(0, doc! { "hello": 1 });
        hello.get_datetime("localTime").expect("a time").timestamp_millis() / 1000
    };
    let insert = |id: i64| source.collection().insert_one(doc! { "_id": id }).run().expect("a document");
    insert(0);
    let before = now();
    let start = wait::until("the next second begins", SOON, || Some(now()).filter(|second| *second > before));
    insert(1);
    insert(2);
    let run = source.start(&["--startup-mode", "timestamp", "--start-at", &start.to_string()]);
    insert(3);
    source.until_records(3);
    stop(run);
    assert_eq!(source.ids(), (1..4).collect());
    // Later runs go on from the place that was kept.
    let run = source.start(&["--startup-mode", "timestamp", "--start-at", &start.to_string()]);
    insert(4);
    source.until_records(4);
    stop(run);
    assert_eq!(source.records_of(&source.topic()).len(), 4);
}

#[test]
fn a_dropped_collection_is_said_and_followed_when_it_is_made_anew() {
    let (Some(kafka), Some(mongo)) = (or_skip(kafka::newest()), or_skip(mongo::shared())) else { return };
    let source = Source::of(mongo, kafka);
    source.collection().insert_one(doc! { "_id": 0_i64 }).run().expect("a document");
    let run =
        source.start(&["--mongodb-collection", "orders", "--publish-full-document-only", "--tombstone-on-delete"]);
    source.collection().insert_one(doc! { "_id": 1_i64, "a": 1 }).run().expect("a document");
    source.collection().delete_one(doc! { "_id": 1_i64 }).run().expect("a deletion");
    source.collection().drop().run().expect("it is dropped");
    wait::until("it is said", SOON, || run.stderr().contains("was dropped or renamed").then_some(()));
    source.collection().insert_one(doc! { "_id": 2_i64 }).run().expect("a document");
    source.until_records(3);
    stop(run);
    let records = source.records_of(&source.topic());
    let read: Vec<(Value, Value)> =
        records.iter().map(|record| (record["key"].clone(), record["value"].clone())).collect();
    let expected = [
        (r#"{"_id": {"$numberLong": "1"}}"#, json!(r#"{"_id": {"$numberLong": "1"}, "a": 1}"#)),
        (r#"{"_id": {"$numberLong": "1"}}"#, Value::Null),
        (r#"{"_id": {"$numberLong": "2"}}"#, json!(r#"{"_id": {"$numberLong": "2"}}"#)),
    ];
    assert_eq!(read, expected.map(|(key, value)| (json!(key), value)));
}

/// A connector's file drives it; the state is in a topic; and MongoDB's own sink makes the same collection of it again.
#[test]
fn a_collection_goes_round_by_kafka_and_is_the_same() {
    let (Some(kafka), Some(mongo)) = (or_skip(kafka::newest()), or_skip(mongo::shared())) else { return };
    let source = Source::of(mongo, kafka);
    let name = source.database.name();
    let config = json!({"name": name, "config": {
        "connector.class": "com.mongodb.kafka.connect.MongoSourceConnector",
        "connection.uri": mongo.uri(), "database": name, "collection": "orders", "topic.prefix": "round",
        "publish.full.document.only": "true", "publish.full.document.only.tombstone.on.delete": "true",
        "change.stream.full.document": "updateLookup", "startup.mode": "copy_existing",
        "output.json.formatter": "com.mongodb.kafka.connect.source.json.formatter.ExtendedJson",
        "pipeline": "[{\"$match\": {\"operationType\": {\"$ne\": \"drop\"}}}]",
    }});
    std::fs::write(source.place.file("connector.json"), config.to_string()).expect("our folder");
    let most = "y".repeat((16 << 20) - 100);
    let orders = source.collection();
    orders
        .insert_many([
            doc! { "_id": "large", "text": &most },
            doc! { "_id": 1, "at": mongodb::bson::DateTime::from_millis(-1) },
        ])
        .run()
        .expect("documents");
    let arguments =
        ["source", "mongodb", "--connector-config", "connector.json", "--bootstrap-servers", &kafka.address()];
    let run = source.place.konekt(&arguments).start();
    wait::until("it watches", SOON, || run.stderr().contains("watching").then_some(()));
    orders
        .insert_one(doc! { "_id": { "a": 2, "b": 1.5 }, "list": [1_i64, { "deep": true }] })
        .run()
        .expect("a document");
    orders.update_one(doc! { "_id": 1 }, doc! { "$set": { "n": 7_i64 } }).run().expect("an update");
    orders.insert_one(doc! { "_id": "gone" }).run().expect("a document");
    orders.delete_one(doc! { "_id": "gone" }).run().expect("a deletion");
    let topic = format!("round.{name}.orders");
    wait::until("all is there", SOON, || (kafka.ends(&topic).iter().sum::<i64>() >= 6).then_some(()));
    stop(run);
    let sink = ["sink", "mongodb", "--topics", &topic, "--bootstrap-servers", &kafka.address(), "--until-end"];
    let into =
        ["--mongodb-mode", "upsert", "--mongodb-database", name, "--mongodb-collection", "again", "--group-id", name];
    source.place.konekt(&sink).arguments(&into).variable("MONGODB_URI", &mongo.uri()).run().expect_code(0);
    let all = |collection: &str| -> BTreeMap<String, Document> {
        let found = source.database.collection::<Document>(collection).find(doc! {}).run().expect("an answer");
        found
            .map(|found| found.expect("a document"))
            .map(|found| (found.get("_id").expect("an id").to_string(), found))
            .collect()
    };
    let (original, copy) = (all("orders"), all("again"));
    assert_eq!(original.keys().collect::<Vec<_>>(), copy.keys().collect::<Vec<_>>());
    assert!(original == copy, "the documents differ");
    assert_eq!(copy.len(), 3);
    // Another run finds its place in the topic, and has nothing to do.
    let run = source.place.konekt(&arguments).start();
    wait::until("it watches", SOON, || run.stderr().contains("watching").then_some(()));
    assert!(!run.stderr().contains("copying"), "{}", run.stderr());
    assert!(stop(run).contains("0 documents copied, 0 events"));
}

#[test]
fn what_people_get_wrong_is_said() {
    let (Some(kafka), Some(mongo), Some(standalone)) =
        (or_skip(kafka::newest()), or_skip(mongo::shared()), or_skip(mongo::own(0)))
    else {
        return;
    };
    let source = Source::of(mongo, kafka);
    let refuse = |arguments: &[&str], uri: &str, code: i32, parts: &[&str]| {
        let mut finished = source.command(arguments).variable("MONGODB_URI", uri).run().expect_code(code);
        for part in parts {
            finished = finished.expect_stderr(part);
        }
        assert!(finished.took < RUN_LIMIT, "it ended by itself");
    };
    refuse(&[], &standalone.uri(), 2, &["replica set", "40573"]);
    let wrong = format!("{}&serverSelectionTimeoutMS=1000", mongo.uri().replace("replicaSet=rs0", "replicaSet=rs9"));
    refuse(&[], &wrong, 2, &["not rs9", "replicaSet=rs0"]);
    refuse(&["--pipeline", "{}"], &mongo.uri(), 2, &["pipeline", "JSON array"]);
    refuse(&["--pipeline", r#"[{"$frobnicate": 1}]"#], &mongo.uri(), 1, &["$frobnicate"]);
    refuse(&["--startup-mode", "timestamp", "--start-at", "soon"], &mongo.uri(), 2, &["start_at"]);
    refuse(&["--connector-config", "absent.json"], &mongo.uri(), 2, &["absent.json"]);
}
