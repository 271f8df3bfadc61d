//! What the sink wrote, as read back by the driver alone.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use konekt::TopicPartition;
use konekt::core::civil::utc_text;
use mongodb::bson::{Bson, Document, doc};
use mongodb::sync::{Collection, Database};
use serde_json::{Value, json};

use crate::contract::records::GROUP;
use crate::contract::{StoredPosition, StoredRow};
use crate::support::audit::{AuditRow, Witness};
use crate::support::mongo::number;

/// The collection of all records.
pub const COLLECTION: &str = "processed_messages";

/// A database that the sink writes.
pub struct Stored {
    pub database: Database,
}

impl Stored {
    pub fn documents(&self) -> Collection<Document> {
        self.database.collection(COLLECTION)
    }

    /// All documents of a topic, or of all, by place.
    pub fn all(&self, filter: Document) -> impl Iterator<Item = Document> + use<> {
        let order = doc! { "topic": 1, "partition": 1, "offset": 1 };
        let found = self.documents().find(filter).sort(order).allow_disk_use(true).run().expect("an answer");
        found.map(|document| document.expect("a document"))
    }

    pub fn rows(&self) -> Vec<StoredRow> {
        self.all(doc! {}).map(stored_row).collect()
    }

    pub fn position(&self, partition: &TopicPartition) -> Option<StoredPosition> {
        let id = doc! { "consumer_group": GROUP, "topic": &*partition.topic, "partition": partition.partition };
        let positions = self.database.collection::<Document>("konekt_positions");
        let found = positions.find_one(doc! { "_id": id }).run().expect("an answer")?;
        let [next_offset, epoch, written, dead_lettered, skipped] =
            ["next_offset", "epoch", "written", "dead_lettered", "skipped"].map(|name| number(found.get(name)));
        Some(StoredPosition { next_offset, epoch, written, dead_lettered, skipped })
    }

    /// What the positions of a topic add up to.
    fn counted(&self, counter: &str, topic: &str) -> u64 {
        self.each_position(topic).iter().map(|position| number(position.get(counter)) as u64).sum()
    }

    fn each_position(&self, topic: &str) -> Vec<Document> {
        let positions = self.database.collection::<Document>("konekt_positions");
        let found = positions.find(doc! { "_id.topic": topic }).run();
        found.and_then(|found| found.collect::<Result<_, _>>()).unwrap_or_default()
    }
}

impl Witness for Stored {
    fn name(&self) -> String {
        format!("mongodb {}", self.database.name())
    }

    fn each_row(&self, topic: &str, row: &mut dyn FnMut(AuditRow)) {
        for document in self.all(doc! { "topic": topic }) {
            let stored = stored_row(document);
            let StoredRow { id, partition, offset, timestamp, value, status, .. } = stored;
            row(AuditRow { partition, offset, id, time: timestamp, value, status });
        }
    }

    fn positions(&self, topic: &str, group: &str) -> BTreeMap<i32, i64> {
        let of_group = |document: &Document| {
            let id = document.get_document("_id").expect("its key");
            let is_ours = id.get_str("consumer_group").is_ok_and(|found| found == group);
            is_ours.then(|| (number(id.get("partition")) as i32, number(document.get("next_offset"))))
        };
        self.each_position(topic).iter().filter_map(of_group).collect()
    }

    fn written(&self, topic: &str) -> u64 {
        self.counted("written", topic)
    }

    fn dead_lettered(&self, topic: &str) -> u64 {
        self.counted("dead_lettered", topic)
    }
}

/// A document in the words of the contract, which are those of a table: bytes as base64 that the headers name.
fn stored_row(document: Document) -> StoredRow {
    let text = |name: &str| document.get_str(name).unwrap_or_else(|error| panic!("{name}: {error}")).to_owned();
    let (key, key_encoded) = text_of(document.get("message_key"));
    let (value, value_encoded) = text_of(document.get("message_value"));
    let mut headers = match document.get("message_headers") {
        Some(Bson::Document(headers)) => json_of(&Bson::Document(headers.clone())),
        _ => json!({}),
    };
    let encoded: Vec<Value> = [(key_encoded, "key"), (value_encoded, "value")]
        .into_iter()
        .filter(|(is_encoded, _)| *is_encoded)
        .map(|(_, name)| name.into())
        .collect();
    if !encoded.is_empty() {
        let members = headers.as_object_mut().expect("an object");
        let named = members.shift_remove("konekt.encoding").and_then(|names| names.as_array().cloned());
        members.insert("konekt.encoding".into(), [encoded, named.unwrap_or_default()].concat().into());
    }
    StoredRow {
        id: text("_id"),
        topic: text("topic"),
        partition: number(document.get("partition")) as i32,
        offset: number(document.get("offset")),
        key,
        value: value.unwrap_or_default(),
        headers: (headers != json!({})).then(|| headers.to_string()),
        group: text("consumer_group"),
        timestamp: utc_text(document.get_datetime("processing_timestamp").expect("a time").timestamp_millis()),
        status: text("processing_status"),
        error: document.get_str("error_message").ok().map(str::to_owned),
    }
}

/// A value as text, and whether that is base64.
fn text_of(value: Option<&Bson>) -> (Option<String>, bool) {
    match value {
        None | Some(Bson::Null) => (None, false),
        Some(Bson::String(text)) => (Some(text.clone()), false),
        Some(Bson::Binary(binary)) => (Some(BASE64.encode(&binary.bytes)), true),
        Some(other) => (Some(json_of(other).to_string()), false),
    }
}

/// What came from plain JSON, as JSON again.
fn json_of(value: &Bson) -> Value {
    match value {
        Bson::Null => Value::Null,
        Bson::Boolean(value) => (*value).into(),
        Bson::Int32(number) => (*number).into(),
        Bson::Int64(number) => (*number).into(),
        Bson::Double(number) => (*number).into(),
        Bson::String(text) => text.as_str().into(),
        Bson::Array(values) => values.iter().map(json_of).collect(),
        Bson::Document(document) => document.iter().map(|(name, value)| (name.clone(), json_of(value))).collect(),
        other => panic!("{other:?} did not come from plain JSON"),
    }
}
