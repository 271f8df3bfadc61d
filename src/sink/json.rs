//! A record as one line of JSON: what `consume --format json` writes, what `--exec` commands read, what a dead-letter
//! file holds, and what `produce --format json` reads ([`read_record`]), so that records can be carried on byte for byte.
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
        timestamp: record.time_ms(),
        key: record.key.map(Text),
        value: record.value.map(Text),
        headers: Pairs(record.headers),
    };
    // Neither these types nor a Vec can make this fail.
    let written = serde_json::to_writer(&mut *into, &line);
    debug_assert!(written.is_ok());
    into.push(b'\n');
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

/// A record as a line says it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadRecord {
    pub topic: Option<String>,
    pub partition: Option<i32>,
    pub offset: Option<i64>,
    pub timestamp_ms: Option<i64>,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl ReadRecord {
    /// The record at the place where it stood.
    ///
    /// # Errors
    /// When the line does not say where.
    pub fn in_place(self) -> Result<OwnedRecord, String> {
        let (Some(topic), Some(partition), Some(offset)) = (self.topic, self.partition, self.offset) else {
            return Err("topic, partition and offset say where a record stood; they are not all there".to_owned());
        };
        Ok(OwnedRecord {
            partition: TopicPartition::new(topic, partition),
            offset,
            timestamp_ms: self.timestamp_ms.unwrap_or(-1),
            key: self.key,
            value: self.value,
            headers: self.headers,
        })
    }
}

/// Reads a line. Only `value` must be there; members that [`put_record`] does not write are refused, since a misspelt one
/// would silently make another record.
///
/// ```
/// let record = konekt::sink::json::read_record(br#"{"key":"a","value":{"base64":"/w=="}}"#)?;
/// assert_eq!((record.key, record.value), (Some(b"a".to_vec()), Some(vec![0xff])));
/// # Ok::<(), String>(())
/// ```
///
/// # Errors
/// What is wrong with the line, and in which column.
pub fn read_record(line: &[u8]) -> Result<ReadRecord, String> {
    let wrong = |error: serde_json::Error| match error.to_string().rsplit_once(" at line 1 column ") {
        Some((what, column)) => format!("{what} (column {column})"),
        None => error.to_string(),
    };
    let read: InLine = serde_json::from_slice(line).map_err(wrong)?;
    let bytes = |text: Option<InText>| text.map(InText::bytes).transpose();
    let header = |(name, value): (InText, Option<InText>)| Ok((name.bytes()?, bytes(value)?));
    Ok(ReadRecord {
        topic: read.topic,
        partition: read.partition,
        offset: read.offset,
        timestamp_ms: read.timestamp,
        key: bytes(read.key)?,
        value: bytes(read.value)?,
        headers: read.headers.into_iter().map(header).collect::<Result<_, String>>()?,
    })
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct InLine {
    topic: Option<String>,
    partition: Option<i32>,
    offset: Option<i64>,
    timestamp: Option<i64>,
    key: Option<InText>,
    // Named, so that it may be null but not absent.
    #[serde(deserialize_with = "Option::deserialize")]
    value: Option<InText>,
    #[serde(default)]
    headers: Vec<(InText, Option<InText>)>,
}

#[derive(serde::Deserialize)]
#[serde(untagged, expecting = "text, {\"base64\": \"…\"} or null was expected")]
enum InText {
    Plain(String),
    Encoded(Encoded),
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Encoded {
    base64: String,
}

impl InText {
    fn bytes(self) -> Result<Vec<u8>, String> {
        match self {
            InText::Plain(text) => Ok(text.into_bytes()),
            InText::Encoded(Encoded { base64 }) => BASE64.decode(base64).map_err(|error| format!("base64: {error}")),
        }
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
            assert_eq!(str::from_utf8(&line).unwrap(), expected);
            assert_eq!(read_record(&line).unwrap().in_place(), Ok(OwnedRecord::copy(&partition, &record)));
        }
    }

    #[test]
    fn what_is_no_record_is_refused_with_its_place() {
        for (line, expected) in [
            (r#"{"key":"a"}"#, "missing field `value` (column 11)"),
            (r#"{"value":null,"vlaue":1}"#, "unknown field `vlaue`"),
            (r#"{"value":1}"#, "text, {\"base64\": \"…\"} or null"),
            (r#"{"value":{"base64":"?"}}"#, "base64: "),
            (r#"{"value":null,"partition":1.5}"#, "column"),
            (r#"{"value":null,"headers":[["a"]]}"#, "column"),
            (r#"{"value":null} x"#, "trailing characters (column 16)"),
            ("plain", "expected value (column 1)"),
            ("", "EOF"),
        ] {
            let error = read_record(line.as_bytes()).unwrap_err();
            assert!(error.contains(expected), "{line}: {error}");
        }
        assert_eq!(read_record(br#"{"value":null}"#), Ok(ReadRecord::default()));
    }
}
