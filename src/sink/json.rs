//! A record as one line of JSON: what `print --format json` writes, what `--exec` commands read, what a dead-letter
//! file holds.
//!
//! ```json
//! {"topic":"orders","partition":3,"offset":41,"timestamp":1700000000000,"key":"a","value":"…","headers":[["trace","1"]]}
//! ```
//!
//! `timestamp` is milliseconds since the epoch. Key, value, header names and header values are strings when they are
//! UTF-8, `{"base64": "…"}` when they are other bytes, and null when they are absent; a record without a timestamp has
//! null there. Header names may repeat, so headers are pairs in the order they were written. The line is a documented
//! contract: members may be added, never renamed.

use base64::Engine as _;
use base64::display::Base64Display;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::ser::{Serialize, SerializeMap, Serializer};

use crate::core::record::{Headers, MessageBatch, OwnedRecord, Record, TopicPartition};

/// Appends each record of a batch as a line.
pub fn put_batch(into: &mut Vec<u8>, batch: &MessageBatch<'_>) {
    for record in batch.iter() {
        put_record(into, batch.partition(), &record);
    }
}

/// Appends one record as a line, allocating nothing but the room for it.
pub fn put_record(into: &mut Vec<u8>, partition: &TopicPartition, record: &Record<'_>) {
    let line = Line {
        topic: &partition.topic,
        partition: partition.partition,
        offset: record.offset,
        timestamp: (record.timestamp_ms >= 0).then_some(record.timestamp_ms),
        key: record.key.map(Text),
        value: record.value.map(Text),
        headers: Pairs(record.headers),
    };
    // Neither these types nor a Vec can make this fail.
    let written = serde_json::to_writer(&mut *into, &line);
    debug_assert!(written.is_ok());
    into.push(b'\n');
}

/// Reads a line that [`put_record`] wrote.
///
/// # Errors
/// Which member is not what it should be.
pub fn read_record(line: &str) -> Result<OwnedRecord, String> {
    let read: ReadLine = serde_json::from_str(line).map_err(|error| error.to_string())?;
    let bytes = |text: Option<ReadText>| text.map(ReadText::bytes).transpose();
    let header = |(name, value): (ReadText, _)| Ok((name.bytes()?, bytes(value)?));
    Ok(OwnedRecord {
        partition: TopicPartition::new(read.topic, read.partition),
        offset: read.offset,
        timestamp_ms: read.timestamp.unwrap_or(-1),
        key: bytes(read.key)?,
        value: bytes(read.value)?,
        headers: read.headers.into_iter().map(header).collect::<Result<_, String>>()?,
    })
}

#[derive(serde::Deserialize)]
struct ReadLine {
    topic: String,
    partition: i32,
    offset: i64,
    timestamp: Option<i64>,
    key: Option<ReadText>,
    value: Option<ReadText>,
    headers: Vec<(ReadText, Option<ReadText>)>,
}

#[derive(serde::Deserialize)]
#[serde(untagged)]
enum ReadText {
    Text(String),
    Encoded { base64: String },
}

impl ReadText {
    fn bytes(self) -> Result<Vec<u8>, String> {
        match self {
            ReadText::Text(text) => Ok(text.into_bytes()),
            ReadText::Encoded { base64 } => BASE64.decode(base64).map_err(|error| format!("base64: {error}")),
        }
    }
}

#[derive(serde::Serialize)]
struct Line<'a> {
    topic: &'a str,
    partition: i32,
    offset: i64,
    timestamp: Option<i64>,
    key: Option<Text<'a>>,
    value: Option<Text<'a>>,
    headers: Pairs<'a>,
}

/// Bytes that are text most of the time.
struct Text<'a>(&'a [u8]);

impl Serialize for Text<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(self.0) {
            Ok(text) => serializer.serialize_str(text),
            Err(_) => {
                let mut map = serializer.serialize_map(Some(1))?;
                map.serialize_entry("base64", &Base64(self.0))?;
                map.end()
            }
        }
    }
}

struct Base64<'a>(&'a [u8]);

impl Serialize for Base64<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&Base64Display::new(self.0, &BASE64))
    }
}

struct Pairs<'a>(Headers<'a>);

impl Serialize for Pairs<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|(name, value)| (Text(name), value.map(Text))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::record::encode_header;

    #[test]
    fn records_become_lines() {
        let mut encoded = Vec::new();
        encode_header(&mut encoded, b"trace", Some(b"\xff"));
        encode_header(&mut encoded, b"trace", None);
        encode_header(&mut encoded, b"\xfe", Some(b""));
        let full = Headers::from_encoded(3, &encoded);
        let none = Headers::default();
        let cases = [
            (
                Record {
                    offset: 41,
                    timestamp_ms: 1_700_000_000_000,
                    key: Some(b"a"),
                    value: Some("é\"\n\0".as_bytes()),
                    headers: none,
                },
                "{\"topic\":\"or\\\"ders\",\"partition\":3,\"offset\":41,\"timestamp\":1700000000000,\"key\":\"a\",\
                 \"value\":\"é\\\"\\n\\u0000\",\"headers\":[]}\n",
            ),
            (
                Record { offset: 42, timestamp_ms: -1, key: None, value: None, headers: none },
                "{\"topic\":\"or\\\"ders\",\"partition\":3,\"offset\":42,\"timestamp\":null,\"key\":null,\"value\":null,\"headers\":[]}\n",
            ),
            (
                Record { offset: 43, timestamp_ms: 0, key: Some(b""), value: Some(b"\x00\xff"), headers: full },
                "{\"topic\":\"or\\\"ders\",\"partition\":3,\"offset\":43,\"timestamp\":0,\"key\":\"\",\"value\":{\"base64\":\"AP8=\"},\
                 \"headers\":[[\"trace\",{\"base64\":\"/w==\"}],[\"trace\",null],[{\"base64\":\"/g==\"},\"\"]]}\n",
            ),
        ];
        let partition = TopicPartition::new("or\"ders", 3);
        for (record, expected) in cases {
            let mut line = Vec::new();
            put_record(&mut line, &partition, &record);
            let line = String::from_utf8(line).unwrap();
            assert_eq!(line, expected);
            assert_eq!(read_record(&line), Ok(OwnedRecord::copy(&partition, &record)));
        }
    }
}
