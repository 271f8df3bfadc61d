//! Why a record is a dead letter, as headers behind its own.
//!
//! | header | value |
//! |---|---|
//! | `konekt.dlq.headers` | how many headers the record had of its own: they come first |
//! | `konekt.dlq.topic`, `.partition`, `.offset` | where it comes from |
//! | `konekt.dlq.group` | the consumer group |
//! | `konekt.dlq.class`, `.message` | why it was not written |
//! | `konekt.dlq.sqlstate`, `.native` | the database's codes, where it gave any |
//! | `konekt.dlq.attempts` | how often a batch with it was tried |
//! | `konekt.dlq.table` | the table that refused it, or the sink's name |
//! | `konekt.dlq.version`, `.at` | of Konekt; when, in UTC |
//!
//! All of these are text. What other tools read is there as well: `__connect.errors.*` as Kafka Connect's
//! `DeadLetterQueueReporter` writes it (text), and `kafka_dlt-original-*` as Spring Kafka's
//! `DeadLetterPublishingRecoverer` does (big-endian integers).
//!
//! A record that was replayed carries the header [`REPLAYS`]: how often, so that it does not go round for ever.

use std::sync::Arc;

use crate::core::civil::utc_text;
use crate::core::record::{Headers, encode_header};
use crate::port::Letter;

/// On a replayed record: how often it was replayed, as decimal text.
pub const REPLAYS: &str = "konekt.replay";

/// How many headers a letter's record had of its own.
const OWN_HEADERS: &str = "konekt.dlq.headers";

/// Makes letters' headers. Kept from letter to letter for its buffer.
pub struct Marks {
    group: Arc<str>,
    encoded: Vec<u8>,
}

impl Marks {
    /// For a consumer group's letters.
    pub fn new(group: impl Into<Arc<str>>) -> Self {
        Self { group: group.into(), encoded: Vec::new() }
    }

    /// The record's own headers and then the reason.
    pub fn headers(&mut self, letter: &Letter<'_>, now_ms: i64) -> Headers<'_> {
        self.encoded.clear();
        self.encoded.extend_from_slice(letter.record.headers.encoded());
        let mut count = letter.record.headers.len();
        for (name, value) in marks(letter, &self.group, now_ms) {
            encode_header(&mut self.encoded, name.as_bytes(), Some(&value));
            count += 1;
        }
        Headers::from_encoded(count as u32, &self.encoded)
    }
}

fn marks(letter: &Letter<'_>, group: &str, now_ms: i64) -> Vec<(&'static str, Vec<u8>)> {
    let Letter { partition, record, error, attempts, table } = letter;
    let (topic, index, offset) = (&*partition.topic, partition.partition, record.offset);
    let text = |value: &dyn std::fmt::Display| value.to_string().into_bytes();
    let mut marks = vec![
        (OWN_HEADERS, text(&record.headers.len())),
        ("konekt.dlq.topic", text(&topic)),
        ("konekt.dlq.partition", text(&index)),
        ("konekt.dlq.offset", text(&offset)),
        ("konekt.dlq.group", text(&group)),
        ("konekt.dlq.class", text(&error.class)),
        ("konekt.dlq.message", text(&error.message)),
        ("konekt.dlq.attempts", text(attempts)),
        ("konekt.dlq.table", text(table)),
        ("konekt.dlq.version", text(&env!("CARGO_PKG_VERSION"))),
        ("konekt.dlq.at", text(&utc_text(now_ms))),
        ("__connect.errors.topic", text(&topic)),
        ("__connect.errors.partition", text(&index)),
        ("__connect.errors.offset", text(&offset)),
        ("__connect.errors.connector.name", text(&group)),
        ("__connect.errors.task.id", text(&0)),
        ("__connect.errors.stage", text(&"TASK_PUT")),
        ("__connect.errors.class.name", text(table)),
        ("__connect.errors.exception.class.name", text(&error.class)),
        ("__connect.errors.exception.message", text(&error.message)),
        ("kafka_dlt-original-topic", text(&topic)),
        ("kafka_dlt-original-partition", index.to_be_bytes().to_vec()),
        ("kafka_dlt-original-offset", offset.to_be_bytes().to_vec()),
        ("kafka_dlt-original-timestamp", record.timestamp_ms.to_be_bytes().to_vec()),
        ("kafka_dlt-original-consumer-group", text(&group)),
    ];
    if let Some(code) = &error.code {
        marks.push(("konekt.dlq.native", text(&code.native)));
        if !code.sqlstate.is_empty() {
            marks.push(("konekt.dlq.sqlstate", text(&code.sqlstate)));
        }
    }
    marks
}

/// One header, borrowed.
pub type Header<'a> = (&'a [u8], Option<&'a [u8]>);

/// The last header of this name, as text: of a letter's headers those of Konekt come last.
pub fn text_of(headers: &[Header<'_>], name: &str) -> Option<String> {
    let value = headers.iter().rev().find(|(found, _)| *found == name.as_bytes())?.1?;
    String::from_utf8(value.to_vec()).ok()
}

/// The headers that a letter's record had of its own.
pub fn restored<'h, 'a>(headers: &'h [Header<'a>]) -> &'h [Header<'a>] {
    let own = text_of(headers, OWN_HEADERS).and_then(|count| count.parse::<usize>().ok());
    own.and_then(|own| headers.get(..own)).unwrap_or(headers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::record::{Record, TopicPartition};
    use crate::core::verdict::{ErrorClass, ErrorCode};
    use crate::port::SinkError;

    #[test]
    fn a_letter_says_why_and_gives_back_its_own_headers_whatever_they_are() {
        let mut own = Vec::new();
        encode_header(&mut own, b"trace", None);
        encode_header(&mut own, b"konekt.dlq.headers", Some(b"7"));
        let partition = TopicPartition::new("orders", 3);
        let headers = Headers::from_encoded(2, &own);
        let code = Some(ErrorCode { sqlstate: "22001".into(), native: 2628 });
        let error = SinkError { code, ..SinkError::new(ErrorClass::Data, "too long") };
        let record = Record { offset: 41, timestamp_ms: 9, key: None, value: Some(b"v"), headers };
        let letter = Letter { partition: &partition, record, error: &error, attempts: 2, table: "t" };
        let mut marks = Marks::new("g");
        let all: Vec<Header<'_>> = marks.headers(&letter, 0).iter().collect();
        assert_eq!(restored(&all), headers.iter().collect::<Vec<_>>());
        for (name, value) in [
            ("konekt.dlq.topic", "orders"),
            ("konekt.dlq.partition", "3"),
            ("konekt.dlq.offset", "41"),
            ("konekt.dlq.class", "data"),
            ("konekt.dlq.sqlstate", "22001"),
            ("konekt.dlq.native", "2628"),
            ("konekt.dlq.attempts", "2"),
            ("konekt.dlq.at", "1970-01-01 00:00:00.000"),
            ("__connect.errors.exception.message", "too long"),
        ] {
            assert_eq!(text_of(&all, name).as_deref(), Some(value), "{name}");
        }
        assert!(all.contains(&(&b"kafka_dlt-original-partition"[..], Some(&[0, 0, 0, 3][..]))));
        assert!(restored(&[]).is_empty());
    }
}
