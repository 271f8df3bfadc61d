//! What a record becomes as a row of the message table (DESIGN §6): key, value, headers and status as text.
//!
//! Nothing is dropped and nothing is mangled:
//!
//! - Key and value are stored as they are when they are UTF-8, and as base64 (RFC 4648 §4, padded) when they are not, or
//!   when they hold a NUL and the database cannot ([`RowBuffer::without_nul`]). In JSON a NUL is an escape.
//! - A tombstone (null value) is stored as `''` with the status `TOMBSTONE`; a null key is SQL's NULL.
//! - Headers are one JSON object with its members sorted by name. A header with a null value is JSON's null. A name
//!   that occurs repeatedly has an array of its values, in the order they were written. Without headers: SQL's NULL.
//! - What is base64 is named in the member `konekt.encoding` of that object, an array of strings:
//!   `"key"`, `"value"`, and for a header's value the JSON pointer (RFC 6901) to it within the object: `"/trace"`, or
//!   `"/trace/1"` where the name repeats. A header *name* that is not UTF-8 is base64 too and listed as `"name:/…"`.
//!   A FAILED row, whose status cannot say that the value was null, says so there: `"value:null"`.
//!   A header that is itself called `konekt.encoding` is treated like one, so that the member is always ours.

use std::borrow::Cow;
use std::mem;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::core::record::{Headers, Record};
use crate::port::SinkError;

/// The member of the headers JSON that names what is stored as base64.
pub const ENCODING: &str = "konekt.encoding";
/// What it says of a FAILED row whose record had no value.
pub const NULL_VALUE: &str = "value:null";

/// The text columns of one record's row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row<'a> {
    /// `message_key`.
    pub key: Option<&'a str>,
    /// `message_value`.
    pub value: &'a str,
    /// `message_headers`.
    pub headers: Option<&'a str>,
    /// `processing_status`.
    pub status: Status,
}

/// What `processing_status` says of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// A record with a value.
    Success,
    /// A record without one: the key's deletion in a compacted topic.
    Tombstone,
    /// A dead letter kept in the table.
    Failed,
}

impl Status {
    /// As it stands in the column.
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Success => "SUCCESS",
            Status::Tombstone => "TOMBSTONE",
            Status::Failed => "FAILED",
        }
    }
}

/// A dead letter in a message table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedRow {
    pub id: String,
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
    pub key: Option<String>,
    pub value: String,
    pub headers: Option<String>,
    pub group: String,
    /// When it was written, in UTC.
    pub at: String,
    pub message: String,
}

/// The dead letters of a message table, as a person sees and handles them.
pub trait FailedRows {
    /// The ids of all of them, in the order of topic, partition and offset.
    ///
    /// # Errors
    /// When the table cannot be read.
    fn ids(&mut self) -> Result<Vec<String>, SinkError>;

    /// One of them; `None` when it is none any more.
    ///
    /// # Errors
    /// When the table cannot be read.
    fn row(&mut self, id: &str) -> Result<Option<FailedRow>, SinkError>;

    /// Makes a good row of it, if the table takes that now. False when it is none of the FAILED rows any more.
    ///
    /// # Errors
    /// Why the table still refuses it, or the database's failure.
    fn retry(&mut self, row: &FailedRow) -> Result<bool, SinkError>;
}

/// What a buffer may keep from one row to the next: a value of 30 MB must not be paid for for ever.
const SCRATCH_BYTES_KEPT: usize = 1 << 20;

/// Makes rows. It is kept from row to row for its buffers: a record that is plain text costs no allocation.
#[derive(Default)]
pub struct RowBuffer {
    key: String,
    value: String,
    headers: HeadersJson,
    refuse_nul: bool,
}

impl RowBuffer {
    /// Rows for a database whose text ends at a NUL, or refuses it.
    pub fn without_nul() -> Self {
        Self { refuse_nul: true, ..Self::default() }
    }

    /// The row of a record, borrowed from the record where it is text and from this buffer where it is not.
    pub fn row<'a>(&'a mut self, record: &Record<'a>) -> Row<'a> {
        let status = if record.value.is_some() { Status::Success } else { Status::Tombstone };
        self.row_with(record, status)
    }

    /// The same as a dead letter.
    pub fn failed_row<'a>(&'a mut self, record: &Record<'a>) -> Row<'a> {
        self.row_with(record, Status::Failed)
    }

    /// The headers alone, as `message_headers` has them where key and value are text.
    pub fn headers<'a>(&'a mut self, record: &Record<'a>) -> Option<&'a str> {
        self.headers.text(record.headers, &[])
    }

    fn row_with<'a>(&'a mut self, record: &Record<'a>, status: Status) -> Row<'a> {
        let refuse = |bytes: &[u8]| self.refuse_nul && bytes.contains(&0);
        let value = record.value.unwrap_or_default();
        let (value, value_encoded) = match refuse(value) {
            true => (base64(value, &mut self.value), true),
            false => text_or_base64(value, &mut self.value),
        };
        let (key, key_encoded) = match record.key {
            Some(key) if refuse(key) => (Some(base64(key, &mut self.key)), true),
            Some(key) => {
                let (key, encoded) = text_or_base64(key, &mut self.key);
                (Some(key), encoded)
            }
            None => (None, false),
        };
        let null = status == Status::Failed && record.value.is_none();
        let encoded = [(key_encoded, "key"), (value_encoded, "value"), (null, NULL_VALUE)];
        Row { key, value, headers: self.headers.text(record.headers, &encoded), status }
    }
}

/// The bytes as text, or their base64 written to `scratch`; and whether it is base64.
fn text_or_base64<'a>(bytes: &'a [u8], scratch: &'a mut String) -> (&'a str, bool) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (text, false),
        Err(_) => (base64(bytes, scratch), true),
    }
}

fn base64<'a>(bytes: &[u8], scratch: &'a mut String) -> &'a str {
    scratch.clear();
    scratch.shrink_to(SCRATCH_BYTES_KEPT);
    BASE64.encode_string(bytes, scratch);
    scratch
}

type Header<'a> = (&'a [u8], Option<&'a [u8]>);

/// Builds the headers' JSON in buffers that are used again.
#[derive(Default)]
struct HeadersJson {
    json: Vec<u8>,
    /// The elements of `konekt.encoding` as they are found, with the commas between them.
    encoded: Vec<u8>,
    scratch: String,
    /// Empty between rows; kept for its allocation.
    sorted: Vec<Header<'static>>,
}

impl HeadersJson {
    /// The JSON; `fields` are those of the record that `konekt.encoding` is to name, where true.
    fn text(&mut self, headers: Headers<'_>, fields: &[(bool, &str)]) -> Option<&str> {
        let mut named = fields.iter().filter(|(is_so, _)| *is_so).peekable();
        if headers.is_empty() && named.peek().is_none() {
            return None;
        }
        self.json.clear();
        self.encoded.clear();
        for (_, field) in named {
            self.note(field);
        }
        self.json.push(b'{');
        if !headers.is_empty() {
            self.put_members(headers);
        }
        self.put_encoding();
        self.json.push(b'}');
        // Only JSON strings, base64 and punctuation were written, all of it UTF-8.
        std::str::from_utf8(&self.json).ok()
    }

    /// One member per distinct name. Sorting brings repeats together without comparing each header with each.
    fn put_members(&mut self, headers: Headers<'_>) {
        let mut sorted = emptied(mem::take(&mut self.sorted));
        sorted.extend(headers.iter());
        sorted.sort_by_key(|(name, _)| *name);
        for (index, same_name) in sorted.chunk_by(|a, b| a.0 == b.0).enumerate() {
            if index > 0 {
                self.json.push(b',');
            }
            self.put_member(same_name);
        }
        self.sorted = emptied(sorted);
    }

    fn put_member(&mut self, same_name: &[Header<'_>]) {
        let mut scratch = mem::take(&mut self.scratch);
        let name = match std::str::from_utf8(same_name[0].0) {
            Ok(text) if text != ENCODING => Cow::Borrowed(text),
            _ => {
                let name = BASE64.encode(same_name[0].0);
                self.note(&format!("name:{}", pointer(&name, None)));
                Cow::Owned(name)
            }
        };
        put_string(&mut self.json, &name);
        self.json.push(b':');
        let repeated = same_name.len() > 1;
        for (index, (_, value)) in same_name.iter().enumerate() {
            if repeated {
                self.json.push(if index == 0 { b'[' } else { b',' });
            }
            let Some(value) = value else {
                self.json.extend_from_slice(b"null");
                continue;
            };
            let (text, encoded) = text_or_base64(value, &mut scratch);
            put_string(&mut self.json, text);
            if encoded {
                self.note(&pointer(&name, repeated.then_some(index)));
            }
        }
        if repeated {
            self.json.push(b']');
        }
        self.scratch = scratch;
    }

    fn note(&mut self, what: &str) {
        if !self.encoded.is_empty() {
            self.encoded.push(b',');
        }
        put_string(&mut self.encoded, what);
    }

    fn put_encoding(&mut self) {
        if self.encoded.is_empty() {
            return;
        }
        if self.json.len() > 1 {
            self.json.push(b',');
        }
        put_string(&mut self.json, ENCODING);
        self.json.extend_from_slice(b":[");
        self.json.extend_from_slice(&self.encoded);
        self.json.push(b']');
    }
}

/// A Vec for borrows of another lifetime in the same allocation: collecting a Vec's own iterator reuses it.
fn emptied<'b>(mut headers: Vec<Header<'_>>) -> Vec<Header<'b>> {
    headers.clear();
    headers.into_iter().map(|_| -> Header<'b> { (&[], None) }).collect()
}

/// The JSON pointer to a member, or to one element of it.
fn pointer(name: &str, index: Option<usize>) -> String {
    let name = name.replace('~', "~0").replace('/', "~1");
    match index {
        Some(index) => format!("/{name}/{index}"),
        None => format!("/{name}"),
    }
}

/// Appends `text` as a JSON string.
fn put_string(json: &mut Vec<u8>, text: &str) {
    // Neither a string nor a Vec can make this fail; were it otherwise, the row's JSON would be malformed, not the run.
    let written = serde_json::to_writer(json, text);
    debug_assert!(written.is_ok());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::record::encode_header;

    fn headers_of(pairs: &[Header<'_>]) -> (u32, Vec<u8>) {
        let mut encoded = Vec::new();
        for (name, value) in pairs {
            encode_header(&mut encoded, name, *value);
        }
        (pairs.len() as u32, encoded)
    }

    /// One buffer makes all rows, so that what is left over from one would be seen in the next.
    #[test]
    fn records_become_rows() {
        type Case<'a> =
            (Option<&'a [u8]>, Option<&'a [u8]>, &'a [Header<'a>], Option<&'a str>, &'a str, Option<&'a str>, Status);
        let cases: &[Case<'_>] = &[
            (Some(b"k"), Some(b"v"), &[], Some("k"), "v", None, Status::Success),
            (None, Some(b""), &[], None, "", None, Status::Success),
            (Some(b""), None, &[], Some(""), "", None, Status::Tombstone),
            (Some(b"\0"), Some("\u{1f600}\r\n".as_bytes()), &[], Some("\0"), "\u{1f600}\r\n", None, Status::Success),
            (
                Some(b"\xff"),
                Some(b"\x00\xfe"),
                &[],
                Some("/w=="),
                "AP4=",
                Some(r#"{"konekt.encoding":["key","value"]}"#),
                Status::Success,
            ),
            (
                None,
                Some(b"v"),
                &[(b"b", Some(b"1")), (b"a", None), (b"b", Some(b"\"\n")), (b"b", None)],
                None,
                "v",
                Some(r#"{"a":null,"b":["1","\"\n",null]}"#),
                Status::Success,
            ),
            (
                None,
                Some(b"\xff"),
                &[(b"x/y~", Some(b"\xff")), (b"r", Some(b"ok")), (b"r", Some(b"\xfe"))],
                None,
                "/w==",
                Some(r#"{"r":["ok","/g=="],"x/y~":"/w==","konekt.encoding":["value","/r/1","/x~1y~0"]}"#),
                Status::Success,
            ),
            (
                None,
                None,
                &[(b"\xfc", Some(b"v")), (b"konekt.encoding", Some(b"mine")), (b"", Some(b""))],
                None,
                "",
                Some(
                    r#"{"":"","a29uZWt0LmVuY29kaW5n":"mine","/A==":"v","konekt.encoding":["name:/a29uZWt0LmVuY29kaW5n","name:/~1A=="]}"#,
                ),
                Status::Tombstone,
            ),
        ];
        let mut buffer = RowBuffer::default();
        for (key, value, headers, key_text, value_text, headers_text, status) in cases {
            let (count, encoded) = headers_of(headers);
            let record = Record {
                offset: 0,
                timestamp_ms: 0,
                key: *key,
                value: *value,
                headers: Headers::from_encoded(count, &encoded),
            };
            let expected = Row { key: *key_text, value: value_text, headers: *headers_text, status: *status };
            assert_eq!(buffer.row(&record), expected, "{record:?}");
            if let Some(json) = headers_text {
                serde_json::from_str::<serde_json::Value>(json).expect("the expectation is JSON");
            }
        }
    }

    #[test]
    fn a_failed_row_knows_a_tombstone() {
        let mut buffer = RowBuffer::default();
        let record =
            |value| Record { offset: 0, timestamp_ms: 0, key: None, value, headers: Headers::from_encoded(0, &[]) };
        let row = buffer.failed_row(&record(Some(b"v")));
        assert_eq!((row.value, row.headers, row.status), ("v", None, Status::Failed));
        let row = buffer.failed_row(&record(None));
        assert_eq!((row.value, row.headers), ("", Some(r#"{"konekt.encoding":["value:null"]}"#)));
    }

    #[test]
    fn a_nul_becomes_base64_where_the_database_cannot_hold_one() {
        let (count, encoded) = headers_of(&[(b"h", Some(b"\0"))]);
        let headers = Headers::from_encoded(count, &encoded);
        let record = Record { offset: 0, timestamp_ms: 0, key: Some(b"k\0"), value: Some(b"\0"), headers };
        let json = r#"{"h":"\u0000","konekt.encoding":["key","value"]}"#;
        let expected = Row { key: Some("awA="), value: "AA==", headers: Some(json), status: Status::Success };
        assert_eq!(RowBuffer::without_nul().row(&record), expected);
        assert_eq!(RowBuffer::default().row(&record).key, Some("k\0"));
    }

    #[test]
    fn many_headers_do_not_take_the_square_of_their_number() {
        let names: Vec<String> = (0..100_000).map(|n| format!("{}", n % 50_000)).collect();
        let pairs: Vec<Header<'_>> = names.iter().map(|name| (name.as_bytes(), Some(&b"v"[..]))).collect();
        let (count, encoded) = headers_of(&pairs);
        let mut json = HeadersJson::default();
        let text = json.text(Headers::from_encoded(count, &encoded), &[]).unwrap();
        let members: serde_json::Map<String, serde_json::Value> = serde_json::from_str(text).unwrap();
        assert_eq!(members.len(), 50_000);
        assert_eq!(members["7"], serde_json::json!(["v", "v"]));
    }
}
