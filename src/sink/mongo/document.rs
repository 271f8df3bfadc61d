//! What a record becomes in MongoDB.
//!
//! A text that is a JSON object or array becomes a document or an array, extended JSON with the types it names
//! ([`crate::mongo::json::read`]); any other text is a string, and bytes that are no text are binary data. In
//! [`Insert`](super::WriteMode::Insert) mode the document has the fields of the message table (docs/reference.md), with
//! `_id` for `id`; a null value is null there, and `message_headers` is a document as that table's JSON. In
//! [`Upsert`](super::WriteMode::Upsert) mode it is the value itself, with the key as `_id`, and in
//! [`Document`](super::WriteMode::Document) mode the value itself with its own `_id` or, without one, the record's id; a
//! value that is no object stands in the field `value`.

use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, Bson, DateTime, Document, RawDocumentBuf, doc};

use super::{MongoSinkOptions, WriteMode};
use crate::core::identity::RecordIds;
use crate::core::record::{Record, TopicPartition};
use crate::core::verdict::ErrorClass;
use crate::mongo::json::read::{read, read_object};
use crate::port::SinkError;
use crate::sink::row::{RowBuffer, Status};

/// The server's limit for a document it stores (`maxBsonObjectSize`).
pub const BYTES_MAX: usize = 16 << 20;

/// One record's change of a collection.
pub struct Change {
    /// The record's index in its batch.
    pub index: usize,
    /// Whose document it is.
    pub id: Bson,
    /// What it becomes; `None`: it is removed.
    pub document: Option<RawDocumentBuf>,
}

/// Makes changes of the records of one partition.
pub struct Documents<'a> {
    pub options: &'a MongoSinkOptions,
    pub partition: &'a TopicPartition,
    pub ids: &'a RecordIds,
    pub rows: &'a mut RowBuffer,
    /// The time of all documents of this write.
    pub unix_ms: i64,
}

impl Documents<'_> {
    /// What a record changes, unless it is one that MongoDB cannot store.
    pub fn change(&mut self, index: usize, record: &Record<'_>) -> Result<Change, SinkError> {
        match self.options.mode {
            WriteMode::Insert => {
                let status = if record.value.is_some() { Status::Success } else { Status::Tombstone };
                let document = self.message(record, status, None);
                let document = self.encoded(record, &document)?;
                Ok(Change { index, id: Bson::String(self.id(record)), document: Some(document) })
            }
            WriteMode::Upsert => self.upsert(index, record),
            WriteMode::Document => self.value_itself(index, record),
        }
    }

    /// A bad record as a document with the status FAILED; `None` when it is too large for one.
    pub fn failed(&mut self, record: &Record<'_>, error: &SinkError) -> Option<RawDocumentBuf> {
        let document = self.message(record, Status::Failed, Some(&error.message));
        self.encoded(record, &document).ok()
    }

    fn upsert(&self, index: usize, record: &Record<'_>) -> Result<Change, SinkError> {
        let Some(key) = record.key else {
            return Err(self.bad(record, "it has no key, which upsert needs for the document's _id"));
        };
        let id = id_of_key(key);
        let document = record.value.map(|value| self.under(&id, bson_of(value), record)).transpose()?;
        Ok(Change { index, id, document })
    }

    fn value_itself(&self, index: usize, record: &Record<'_>) -> Result<Change, SinkError> {
        let Some(value) = record.value else {
            return Err(self.bad(record, "it has no value, so there is no document"));
        };
        let value = bson_of(value);
        let own = value.as_document().and_then(|fields| fields.get("_id")).cloned();
        let id = own.unwrap_or_else(|| Bson::String(self.id(record)));
        let document = self.under(&id, value, record)?;
        Ok(Change { index, id, document: Some(document) })
    }

    /// The value as the document of this `_id`.
    fn under(&self, id: &Bson, value: Bson, record: &Record<'_>) -> Result<RawDocumentBuf, SinkError> {
        let mut document = doc! { "_id": id };
        match value {
            Bson::Document(fields) => document.extend(fields.into_iter().filter(|(name, _)| name != "_id")),
            other => drop(document.insert("value", other)),
        }
        self.encoded(record, &document)
    }

    fn message(&mut self, record: &Record<'_>, status: Status, error: Option<&str>) -> Document {
        let mut document = doc! {
            "_id": self.id(record),
            "topic": &*self.partition.topic,
            "partition": self.partition.partition,
            "offset": record.offset,
            "message_key": record.key.map_or(Bson::Null, bson_of),
            "message_value": record.value.map_or(Bson::Null, bson_of),
            "message_headers": self.rows.headers(record).map_or(Bson::Null, |json| bson_of(json.as_bytes())),
            "consumer_group": &*self.options.consumer_group,
            "processing_timestamp": DateTime::from_millis(self.unix_ms),
            "processing_status": status.as_str(),
        };
        if let Some(error) = error {
            document.insert("error_message", error);
        }
        document
    }

    fn id(&self, record: &Record<'_>) -> String {
        self.ids.at(record.offset).to_string()
    }

    fn encoded(&self, record: &Record<'_>, document: &Document) -> Result<RawDocumentBuf, SinkError> {
        let encoded = RawDocumentBuf::try_from(document).map_err(|error| self.bad(record, &error.to_string()))?;
        match encoded.as_bytes().len() {
            ..=BYTES_MAX => Ok(encoded),
            bytes => {
                Err(self.bad(record, &format!("as a document it has {bytes} bytes, and MongoDB's limit is 16 MiB")))
            }
        }
    }

    fn bad(&self, record: &Record<'_>, why: &str) -> SinkError {
        let message = format!("mongodb: {} offset {} cannot be stored: {why}", self.partition, record.offset);
        SinkError { offset: Some(record.offset), ..SinkError::new(ErrorClass::Data, message) }
    }
}

/// A key of the form `{"_id": …}`, as MongoDB's source connector writes it, names that `_id`; any other is one.
fn id_of_key(key: &[u8]) -> Bson {
    match bson_of(key) {
        Bson::Document(mut document) if document.len() == 1 && document.contains_key("_id") => {
            document.remove("_id").unwrap_or_default()
        }
        // MongoDB takes no array for an _id.
        Bson::Array(_) => text_or_binary(key),
        id => id,
    }
}

/// The bytes as JSON says they are meant, as text, or as bytes.
fn bson_of(bytes: &[u8]) -> Bson {
    let opens = bytes.iter().find(|byte| !byte.is_ascii_whitespace());
    if !matches!(opens, Some(b'{' | b'[')) {
        return text_or_binary(bytes);
    }
    let parsed = serde_json::from_slice(bytes).ok().and_then(|value| match value {
        // The value as a whole is an object, whatever its names look like.
        serde_json::Value::Object(members) => read_object(members).map(Bson::Document),
        value => read(value),
    });
    parsed.unwrap_or_else(|| text_or_binary(bytes))
}

fn text_or_binary(bytes: &[u8]) -> Bson {
    match std::str::from_utf8(bytes) {
        Ok(text) => Bson::String(text.to_owned()),
        Err(_) => Bson::Binary(Binary { subtype: BinarySubtype::Generic, bytes: bytes.to_vec() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mongodb::bson::oid::ObjectId;

    #[test]
    fn json_becomes_documents_and_everything_else_stays_what_it_is() {
        let id = ObjectId::parse_str("65a000000000000000000001").unwrap();
        for (bytes, expected) in [
            (
                &br#" {"a": [1, 2.5, null], "b": {"$oid": "65a000000000000000000001"}}"#[..],
                Bson::Document(doc! {
                "a": [1, 2.5, Bson::Null], "b": id }),
            ),
            (b"[true]", Bson::Array(vec![Bson::Boolean(true)])),
            (br#"{"$oid": "65a000000000000000000001"}"#, Bson::Document(doc! { "$oid": "65a000000000000000000001" })),
            (b"7", Bson::String("7".into())),
            (b"{a}", Bson::String("{a}".into())),
            (br#"{"\u0000": 1}"#, Bson::String(r#"{"\u0000": 1}"#.into())),
            (b"", Bson::String(String::new())),
            (b"\xff", Bson::Binary(Binary { subtype: BinarySubtype::Generic, bytes: vec![0xff] })),
        ] {
            assert_eq!(bson_of(bytes), expected, "{}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn a_key_names_the_document() {
        let id = ObjectId::parse_str("65a000000000000000000001").unwrap();
        for (key, expected) in [
            (r#"{"_id": {"$oid": "65a000000000000000000001"}}"#, Bson::ObjectId(id)),
            (r#"{"_id": 7}"#, Bson::Int32(7)),
            (r#"{"a": 1, "_id": 7}"#, Bson::Document(doc! { "a": 1, "_id": 7 })),
            ("[1]", Bson::String("[1]".into())),
            ("customer-7", Bson::String("customer-7".into())),
        ] {
            assert_eq!(id_of_key(key.as_bytes()), expected, "{key}");
        }
    }
}
