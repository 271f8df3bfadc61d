//! A record as it was sent and as it was read, whatever client read it, and the comparison of the two.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use konekt::Client;
use konekt::source::client::Ability;
use rusqlite::{Connection, Row};
use serde_json::{Value, json};

use crate::support::konekt::Place;

/// Topic, partition and offset.
pub type Position = (String, i64, i64);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    pub timestamp: i64,
}

impl Sent {
    /// As a client hands it over that lacks what the table says it lacks.
    pub fn read_by(mut self, client: Client) -> Self {
        if !client.delivers(Ability::Headers).is_yes() {
            self.headers.clear();
        }
        if !client.delivers(Ability::Timestamps).is_yes() {
            self.timestamp = NO_TIME;
        }
        if !client.delivers(Ability::NullAndEmpty).is_yes() {
            self.key.take_if(|key| key.is_empty());
            self.value.take_if(|value| value.is_empty());
        }
        self
    }

    /// As a table holds it: without the time it was written, and with the headers sorted by name.
    pub fn into_table_form(mut self) -> Self {
        self.timestamp = 0;
        self.headers.sort_by(|(a, _), (b, _)| a.cmp(b));
        self
    }
}

/// Stands for any time between [`SENT_AT`] and far away.
pub const BROKERS_TIME: i64 = -7;
/// A record without a time.
pub const NO_TIME: i64 = -1;
/// The time that producers give: long past, so that a broker's own time is told apart.
pub const SENT_AT: i64 = 1_600_000_000_000;

/// Demands the same records at the same positions; shows the first difference and counts the others.
pub fn compare(form: &str, expected: &BTreeMap<Position, Sent>, found: Vec<(Position, Sent)>) {
    let count = found.len();
    let found: BTreeMap<Position, Sent> = found.into_iter().collect();
    assert_eq!(found.len(), count, "{form}: a position occurs twice");
    let positions = expected.keys().chain(found.keys()).collect::<BTreeSet<_>>();
    let different: Vec<_> = positions.into_iter().filter(|at| !same(expected.get(*at), found.get(*at))).collect();
    if let Some(first) = different.first() {
        panic!(
            "{form}: {} of {} records differ; the first, {first:?}:\nexpected {}\nfound    {}",
            different.len(),
            expected.len(),
            shown(expected.get(*first)),
            shown(found.get(*first)),
        );
    }
}

fn same(expected: Option<&Sent>, found: Option<&Sent>) -> bool {
    match (expected, found) {
        (Some(expected), Some(found)) if expected.timestamp == BROKERS_TIME => {
            found.timestamp > SENT_AT + 1_000_000_000 && *expected == Sent { timestamp: BROKERS_TIME, ..found.clone() }
        }
        (expected, found) => expected == found,
    }
}

/// A record as a person can read it in a message, whatever its size.
fn shown(record: Option<&Sent>) -> String {
    let Some(record) = record else { return "no record".to_owned() };
    let text = format!("{record:?}");
    text.chars().take(600).collect()
}

pub fn read_line(line: &str) -> (Position, Sent) {
    let read: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line:.200}"));
    let headers = read["headers"].as_array().unwrap_or_else(|| panic!("headers are pairs: {line:.200}"));
    let sent = Sent {
        key: bytes_of(&read["key"]),
        value: bytes_of(&read["value"]),
        headers: headers.iter().map(|pair| (text_of(&pair[0]), bytes_of(&pair[1]))).collect(),
        timestamp: read["timestamp"].as_i64().unwrap_or(NO_TIME),
    };
    ((text_of(&read["topic"]), number_of(&read["partition"]), number_of(&read["offset"])), sent)
}

/// Text, `{"base64": …}` or null.
fn bytes_of(value: &Value) -> Option<Vec<u8>> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.as_bytes().to_vec()),
        other => Some(decoded(&text_of(&other["base64"]))),
    }
}

fn text_of(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("not text: {value:.200}")).to_owned()
}

fn number_of(value: &Value) -> i64 {
    value.as_i64().unwrap_or_else(|| panic!("not a number: {value:.200}"))
}

fn decoded(base64: &str) -> Vec<u8> {
    BASE64.decode(base64).unwrap_or_else(|error| panic!("{error}: {base64:.200}"))
}

pub fn read_rows(place: &Place) -> Vec<(Position, Sent)> {
    let connection = Connection::open(place.database()).expect("the database");
    let sql = "SELECT topic, partition, offset, message_key, message_value, message_headers, processing_status
               FROM processed_messages";
    let mut statement = connection.prepare(sql).expect("the message table");
    let rows = statement.query_map([], |row| Ok(read_row(row))).expect("rows");
    rows.map(|row| row.expect("a row")).collect()
}

/// Undoes what DESIGN §6 does: base64 where the headers' member `konekt.encoding` says so, '' for a tombstone.
fn read_row(row: &Row) -> (Position, Sent) {
    let text = |column: usize| row.get::<_, Option<String>>(column).expect("text or NULL");
    let headers: Value = text(5).map_or(json!({}), |json| serde_json::from_str(&json).expect("headers are JSON"));
    let encoding = headers.get("konekt.encoding").cloned().unwrap_or(json!([]));
    let is_encoded = |what: &str| encoding.as_array().expect("a list").iter().any(|entry| entry == what);
    let bytes = |text: String, what: &str| if is_encoded(what) { decoded(&text) } else { text.into_bytes() };

    let tombstone = text(6).as_deref() == Some("TOMBSTONE");
    let value = text(4).expect("NOT NULL");
    assert!(!tombstone || value.is_empty(), "a tombstone is stored as ''");
    let mut read = Vec::new();
    for (name, member) in headers.as_object().expect("an object").iter().filter(|(name, _)| *name != "konekt.encoding")
    {
        let pointer = format!("/{}", name.replace('~', "~0").replace('/', "~1"));
        match member.as_array() {
            Some(values) => read.extend(values.iter().enumerate().map(|(nth, value)| {
                (name.clone(), value.as_str().map(|text| bytes(text.to_owned(), &format!("{pointer}/{nth}"))))
            })),
            None => read.push((name.clone(), member.as_str().map(|text| bytes(text.to_owned(), &pointer)))),
        }
    }
    let sent = Sent {
        key: text(3).map(|key| bytes(key, "key")),
        value: (!tombstone).then(|| bytes(value, "value")),
        headers: read,
        timestamp: 0,
    };
    (
        (text(0).expect("a topic"), row.get(1).expect("a partition"), row.get(2).expect("an offset")),
        sent.into_table_form(),
    )
}
