//! `konekt dlq`: what became dead letters and why, and trying them again. It works over all three forms: the FAILED rows
//! of a table, a topic, a JSON-lines file.
//!
//! [`read`] reads a place as a stream of [`Entry`]s, [`replay`] tries them again; this module says what an entry is, which
//! ones are meant ([`Filter`]) and counts them ([`Counts`]).

pub mod read;
pub mod replay;

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::core::record::OwnedRecord;
use crate::sink::dead_letter::{REPLAYS, text_of};
use crate::sink::row::FailedRow;

/// One dead letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where the record comes from.
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
    pub group: String,
    /// The class of the error; `data` of a FAILED row.
    pub class: String,
    pub message: String,
    /// When it became one, in UTC.
    pub at: String,
    /// How often the record was replayed before.
    pub replays: u64,
    pub body: Body,
}

/// What the letter holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// The record, its own headers first, then the reason's.
    Letter(OwnedRecord),
    Row(FailedRow),
}

impl Entry {
    /// A letter from a topic or a file. What is not said in its headers is taken from the record.
    pub fn of_letter(letter: OwnedRecord) -> Self {
        let headers = letter.header_views();
        let text = |name: &str| text_of(&headers, &format!("konekt.dlq.{name}"));
        let replays = text_of(&headers, REPLAYS).and_then(|count| count.parse().ok()).unwrap_or(0);
        Self {
            topic: text("topic").unwrap_or_else(|| letter.partition.topic.to_string()),
            partition: text("partition").and_then(|text| text.parse().ok()).unwrap_or(letter.partition.partition),
            offset: text("offset").and_then(|text| text.parse().ok()).unwrap_or(letter.offset),
            group: text("group").unwrap_or_default(),
            class: text("class").unwrap_or_default(),
            message: text("message").unwrap_or_default(),
            at: text("at").unwrap_or_default(),
            replays,
            body: Body::Letter(letter),
        }
    }

    /// A FAILED row.
    pub fn of_row(row: FailedRow) -> Self {
        let (topic, group, at, message) = (row.topic.clone(), row.group.clone(), row.at.clone(), row.message.clone());
        let (partition, offset, class) = (row.partition, row.offset, "data".to_owned());
        Self { topic, partition, offset, group, class, message, at, replays: 0, body: Body::Row(row) }
    }

    /// `orders/3@41`.
    pub fn place(&self) -> String {
        format!("{}/{}@{}", self.topic, self.partition, self.offset)
    }

    /// All of it as one JSON object, a documented contract; `whole` with key, value and headers.
    pub fn json(&self, whole: bool) -> Value {
        let mut object = json!({
            "topic": self.topic, "partition": self.partition, "offset": self.offset, "group": self.group,
            "class": self.class, "message": self.message, "at": self.at, "replays": self.replays,
        });
        if whole {
            match &self.body {
                Body::Letter(letter) => {
                    let mut line = Vec::new();
                    crate::sink::json::put_record(&mut line, &letter.partition, &letter.buffer().get(0));
                    object["letter"] = serde_json::from_slice(&line).unwrap_or(Value::Null);
                }
                Body::Row(row) => {
                    object["row"] = json!({ "id": row.id, "message_key": row.key, "message_value": row.value,
                        "message_headers": row.headers });
                }
            }
        }
        object
    }
}

/// Which letters are meant. What is not said is not asked for.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// A part of the error's class or message.
    pub reason: Option<String>,
    pub topic: Option<String>,
    pub partition: Option<i32>,
    pub offset: Option<i64>,
    /// In UTC, as [`Entry::at`] is: such texts sort as the times do.
    pub since: Option<String>,
    pub until: Option<String>,
}

impl Filter {
    /// Whether this letter is meant.
    pub fn takes(&self, entry: &Entry) -> bool {
        let reason = |wanted: &String| entry.class == *wanted || entry.message.contains(wanted.as_str());
        self.reason.as_ref().is_none_or(reason)
            && self.topic.as_ref().is_none_or(|topic| *topic == entry.topic)
            && self.partition.is_none_or(|partition| partition == entry.partition)
            && self.offset.is_none_or(|offset| offset == entry.offset)
            && self.since.as_ref().is_none_or(|since| entry.at >= *since)
            && self.until.as_ref().is_none_or(|until| entry.at < *until)
    }
}

/// Letters per topic and class: how many, the first and the last time.
#[derive(Clone, Debug, Default)]
pub struct Counts(pub BTreeMap<(String, String), Count>);

/// How many, and when.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Count {
    pub letters: u64,
    pub first: String,
    pub last: String,
}

impl Counts {
    /// Counts one.
    pub fn add(&mut self, entry: &Entry) {
        let count = self.0.entry((entry.topic.clone(), entry.class.clone())).or_default();
        count.letters += 1;
        if count.first.is_empty() || entry.at < count.first {
            count.first.clone_from(&entry.at);
        }
        if entry.at > count.last {
            count.last.clone_from(&entry.at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::record::TopicPartition;

    fn letter(offset: i64, class: &str, at: &str) -> Entry {
        let header = |name: &str, value: &str| (name.as_bytes().to_vec(), Some(value.as_bytes().to_vec()));
        Entry::of_letter(OwnedRecord {
            partition: TopicPartition::new("dead", 0),
            offset: 0,
            timestamp_ms: 1,
            key: None,
            value: None,
            headers: vec![
                header(REPLAYS, "2"),
                header("konekt.dlq.topic", "orders"),
                header("konekt.dlq.partition", "3"),
                header("konekt.dlq.offset", &offset.to_string()),
                header("konekt.dlq.class", class),
                header("konekt.dlq.message", "value too long"),
                header("konekt.dlq.at", at),
            ],
        })
    }

    #[test]
    fn letters_are_chosen_and_counted() {
        let letters =
            [letter(1, "data", "2026-01-01 00:00:00.000"), letter(2, "unclassified", "2026-02-01 00:00:00.000")];
        assert_eq!((letters[0].place().as_str(), letters[0].replays), ("orders/3@1", 2));
        let text = |text: &str| Some(text.to_owned());
        for (filter, expected) in [
            (Filter::default(), 2),
            (Filter { reason: text("data"), ..Filter::default() }, 1),
            (Filter { reason: text("too long"), ..Filter::default() }, 2),
            (Filter { topic: text("dead"), ..Filter::default() }, 0),
            (Filter { partition: Some(3), offset: Some(2), ..Filter::default() }, 1),
            (Filter { since: text("2026-01-15"), ..Filter::default() }, 1),
            (Filter { until: text("2026-01-15"), ..Filter::default() }, 1),
        ] {
            assert_eq!(letters.iter().filter(|letter| filter.takes(letter)).count(), expected, "{filter:?}");
        }
        let mut counts = Counts::default();
        letters.iter().for_each(|letter| counts.add(letter));
        assert_eq!(counts.0[&("orders".to_owned(), "data".to_owned())].letters, 1);
    }
}
