//! What a person does with a sink's positions and FAILED documents in MongoDB: what [`crate::sink::operate`] is for tables.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use mongodb::bson::{Bson, DateTime, Document, doc};
use mongodb::error::Error;
use mongodb::options::WriteConcern;
use mongodb::sync::{Collection, Cursor};
use serde_json::Value;

use super::fault::sink_error;
use super::{MongoSink, POSITIONS, Shared, WriteMode};
use crate::core::civil::utc_text;
use crate::core::verdict::ErrorClass;
use crate::door;
use crate::mongo::error::Said;
use crate::mongo::json::Formatter;
use crate::port::SinkError;
use crate::sink::position::{PositionLine, PositionStore};
use crate::sink::row::{FailedRow, FailedRows};

/// The collections of a sink.
pub struct MongoTables {
    shared: Arc<Shared>,
}

impl MongoTables {
    /// Those that a sink of these options writes. Connects to nothing yet.
    pub fn of(sink: &MongoSink) -> Self {
        Self { shared: Arc::clone(&sink.shared) }
    }

    /// Whether all records are in one collection.
    pub fn has_one_collection(&self) -> bool {
        self.shared.options.collection.is_some()
    }

    /// One of them.
    pub fn collection(&self, name: &str) -> Collection<Document> {
        self.shared.database().collection(name)
    }

    /// Those that hold records: the one that is named, or one for each topic that has a position.
    ///
    /// # Errors
    /// When none is known.
    pub fn collections(&self) -> Result<Vec<Collection<Document>>, SinkError> {
        if let Some(name) = &self.shared.options.collection {
            return Ok(vec![self.collection(name)]);
        }
        let topics = self.collection(POSITIONS).distinct("_id.topic", doc! {}).max_time(self.timeout()).run();
        let topics = topics.map_err(|error| self.failed("list the topics", &error))?;
        let names: Vec<&str> = topics.iter().filter_map(Bson::as_str).collect();
        if names.is_empty() {
            let words = "no topic has a position here, so that nothing says which collections hold records: name one with \
                         --mongodb-collection";
            return Err(SinkError::new(ErrorClass::Schema, format!("{}: {words}", self.shared.name)));
        }
        Ok(names.into_iter().map(|name| self.collection(name)).collect())
    }

    /// All documents of an answer.
    ///
    /// # Errors
    /// What the server says to `what`.
    pub fn all(&self, answer: Result<Cursor<Document>, Error>, what: &str) -> Result<Vec<Document>, SinkError> {
        answer.and_then(Iterator::collect).map_err(|error| self.failed(what, &error))
    }

    /// A failure while doing `what`.
    pub fn failed(&self, what: &str, error: &Error) -> SinkError {
        let said = Said::of(error);
        if said.unreachable { self.shared.unreachable(&said) } else { sink_error(&self.shared.name, what, error) }
    }

    /// How long a question may take.
    pub fn timeout(&self) -> Duration {
        self.shared.options.timeout
    }

    /// Of every change.
    pub fn write_concern(&self) -> WriteConcern {
        self.shared.write_concern()
    }
}

impl PositionStore for MongoTables {
    fn list(&mut self) -> Result<Vec<PositionLine>, SinkError> {
        let found = self.collection(POSITIONS).find(doc! {}).sort(doc! { "_id": 1 }).max_time(self.timeout()).run();
        let found = self.all(found, "read the positions")?;
        found.iter().map(|document| position_line(document).ok_or_else(|| not_ours("position"))).collect()
    }

    fn change(&mut self, seen: &PositionLine, next_offset: Option<i64>) -> Result<bool, SinkError> {
        let id = doc! { "consumer_group": &seen.consumer_group, "topic": &seen.topic, "partition": seen.partition };
        let as_seen = doc! { "_id": id, "epoch": seen.epoch, "next_offset": seen.next_offset };
        let positions = self.collection(POSITIONS);
        let changed = match next_offset {
            Some(next) => {
                let now = DateTime::from_millis(door::unix_ms());
                let moved = doc! { "$set": { "next_offset": next, "updated_at": now }, "$inc": { "epoch": 1_i64 } };
                let moved = positions.update_one(as_seen, moved).write_concern(self.write_concern()).run();
                moved.map(|moved| moved.matched_count)
            }
            None => {
                let removed = positions.delete_one(as_seen).write_concern(self.write_concern()).run();
                removed.map(|removed| removed.deleted_count)
            }
        };
        Ok(changed.map_err(|error| self.failed("change the position", &error))? == 1)
    }
}

impl FailedRows for MongoTables {
    fn ids(&mut self) -> Result<Vec<String>, SinkError> {
        let mut ids = Vec::new();
        for collection in self.collections()? {
            let order = doc! { "topic": 1, "partition": 1, "offset": 1 };
            let failed = collection.find(doc! { "processing_status": "FAILED" }).sort(order).allow_disk_use(true);
            let found = self.all(failed.projection(doc! { "_id": 1 }).run(), "list the FAILED documents")?;
            ids.extend(found.iter().filter_map(|document| document.get_str("_id").ok().map(str::to_owned)));
        }
        Ok(ids)
    }

    fn row(&mut self, id: &str) -> Result<Option<FailedRow>, SinkError> {
        for collection in self.collections()? {
            let failed = collection.find_one(doc! { "_id": id, "processing_status": "FAILED" });
            let found = failed.max_time(self.timeout()).run();
            if let Some(document) = found.map_err(|error| self.failed("read a FAILED document", &error))? {
                return failed_row(&document).map(Some).ok_or_else(|| not_ours("FAILED document"));
            }
        }
        Ok(None)
    }

    fn retry(&mut self, row: &FailedRow) -> Result<bool, SinkError> {
        if self.shared.options.mode != WriteMode::Insert {
            let words = "a FAILED document is no document of its key, and what came after it may be newer: look at it with \
                         `konekt dlq show`, and write what you want";
            return Err(SinkError::new(ErrorClass::Data, words));
        }
        let was_null = doc! { "$eq": [{ "$type": "$message_value" }, "null"] };
        let status = doc! { "$cond": [was_null, "TOMBSTONE", "SUCCESS"] };
        let good = vec![doc! { "$set": { "processing_status": status } }, doc! { "$unset": "error_message" }];
        for collection in self.collections()? {
            let failed = doc! { "_id": &row.id, "processing_status": "FAILED" };
            let changed = collection.update_one(failed, good.clone()).write_concern(self.write_concern()).run();
            if changed.map_err(|error| self.failed("try a FAILED document again", &error))?.matched_count == 1 {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

fn position_line(document: &Document) -> Option<PositionLine> {
    let id = document.get_document("_id").ok()?;
    let count = |name: &str| Some(number(document, name)?.max(0) as u64);
    Some(PositionLine {
        consumer_group: id.get_str("consumer_group").ok()?.to_owned(),
        topic: id.get_str("topic").ok()?.to_owned(),
        partition: number(id, "partition")? as i32,
        next_offset: number(document, "next_offset")?,
        written: count("written")?,
        dead_lettered: count("dead_lettered")?,
        skipped: count("skipped")?,
        epoch: number(document, "epoch")?,
        paused: document.get_bool("paused").unwrap_or_default(),
        updated_at: moment(document, "updated_at")?,
    })
}

fn failed_row(document: &Document) -> Option<FailedRow> {
    let text = |name: &str| document.get_str(name).ok().map(str::to_owned);
    Some(FailedRow {
        id: text("_id")?,
        topic: text("topic")?,
        partition: number(document, "partition")? as i32,
        offset: number(document, "offset")?,
        key: text_of(document.get("message_key")),
        value: text_of(document.get("message_value")).unwrap_or_default(),
        headers: text_of(document.get("message_headers")),
        group: text("consumer_group")?,
        at: moment(document, "processing_timestamp")?,
        message: text("error_message").unwrap_or_default(),
    })
}

/// A whole number of whatever width.
pub fn number(document: &Document, name: &str) -> Option<i64> {
    match document.get(name)? {
        Bson::Int32(number) => Some(i64::from(*number)),
        Bson::Int64(number) => Some(*number),
        _ => None,
    }
}

/// A moment, in UTC.
pub fn moment(document: &Document, name: &str) -> Option<String> {
    document.get_datetime(name).ok().map(|moment| utc_text(moment.timestamp_millis()))
}

/// A value as the message table would have it: text as it is, bytes as base64, anything else as JSON; null is none.
pub fn text_of(value: Option<&Bson>) -> Option<String> {
    match value? {
        Bson::Null => None,
        Bson::String(text) => Some(text.clone()),
        Bson::Binary(binary) => Some(BASE64.encode(&binary.bytes)),
        other => Some(json_of(other).to_string()),
    }
}

/// A value as JSON; the types that JSON does not have as extended JSON.
pub fn json_of(value: &Bson) -> Value {
    let whole = Formatter::DefaultJson.owned(&doc! { "value": value });
    // A document in memory that came from the server is one.
    let parsed = whole.ok().and_then(|text| serde_json::from_str::<Value>(&text).ok());
    parsed.map_or(Value::Null, |mut whole| whole["value"].take())
}

/// What is said of a document that has another form.
pub fn not_ours(what: &str) -> SinkError {
    SinkError::new(ErrorClass::Schema, format!("a {what} holds something that Konekt did not write"))
}
