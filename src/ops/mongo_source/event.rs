//! What a change event becomes in Kafka: topic, key, value and time, as MongoDB's connector makes them.

use mongodb::bson::raw::{RawBsonRef, RawDocument};
use mongodb::bson::{RawDocumentBuf, rawdoc};
use regex::Regex;

use crate::mongo::error::Malformed;
use crate::mongo::json::Formatter;

/// How events are named and written.
#[derive(Clone, Debug)]
pub struct Format {
    pub topic: TopicNames,
    pub formatter: Formatter,
    /// The value is the document alone, and events without one are left out.
    pub full_document_only: bool,
    /// With that: a deletion becomes a record without a value.
    pub tombstone_on_delete: bool,
    /// The key is the document's key, not the event's id.
    pub document_key_as_key: bool,
}

/// A record to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventRecord {
    pub topic: String,
    pub key: String,
    pub value: Option<String>,
    /// When it happened, in milliseconds since the epoch.
    pub timestamp_ms: Option<i64>,
}

/// Why an event is no record.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Unpublishable {
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error("an event has no ns: the pipeline must leave ns and _id in it")]
    Nameless,
}

impl From<mongodb::bson::error::Error> for Unpublishable {
    fn from(error: mongodb::bson::error::Error) -> Self {
        Unpublishable::Malformed(error.into())
    }
}

impl Format {
    /// The record of an event; `None` when it is left out.
    ///
    /// # Errors
    /// When the event lacks what names its topic, or is no BSON.
    pub fn record(&self, event: &RawDocument) -> Result<Option<EventRecord>, Unpublishable> {
        let Some(value) = self.value(event)? else { return Ok(None) };
        let namespace = document(event, "ns")?.ok_or(Unpublishable::Nameless)?;
        let (database, collection) = (text(namespace, "db")?, text(namespace, "coll")?);
        let topic = self.topic.topic(database.unwrap_or_default(), collection);
        Ok(Some(EventRecord { topic, key: self.key(event)?, value, timestamp_ms: timestamp_ms(event)? }))
    }

    /// `None`: the event is left out; `Some(None)`: a tombstone.
    fn value(&self, event: &RawDocument) -> Result<Option<Option<String>>, Unpublishable> {
        if !self.full_document_only {
            return Ok(Some(Some(self.formatter.document(event)?)));
        }
        match document(event, "fullDocument")? {
            Some(full) => Ok(Some(Some(self.formatter.document(full)?))),
            None if self.tombstone_on_delete && text(event, "operationType")? == Some("delete") => Ok(Some(None)),
            None => Ok(None),
        }
    }

    fn key(&self, event: &RawDocument) -> Result<String, Unpublishable> {
        let of_document = if self.document_key_as_key { document(event, "documentKey")? } else { None };
        match (of_document, event.get("_id")?) {
            (Some(key), _) => Ok(self.formatter.document(key)?),
            (None, Some(id)) => {
                let key: RawDocumentBuf = rawdoc! { "_id": id };
                Ok(self.formatter.document(&key)?)
            }
            (None, None) => Err(Unpublishable::Nameless),
        }
    }
}

fn document<'a>(event: &'a RawDocument, name: &str) -> Result<Option<&'a RawDocument>, Unpublishable> {
    Ok(event.get(name)?.and_then(|value| value.as_document()))
}

fn text<'a>(event: &'a RawDocument, name: &str) -> Result<Option<&'a str>, Unpublishable> {
    Ok(event.get(name)?.and_then(|value| value.as_str()))
}

/// To the millisecond where the server says so (6.0), else to the second.
fn timestamp_ms(event: &RawDocument) -> Result<Option<i64>, Unpublishable> {
    Ok(match (event.get("wallTime")?, event.get("clusterTime")?) {
        (Some(RawBsonRef::DateTime(at)), _) => Some(at.timestamp_millis()),
        (_, Some(RawBsonRef::Timestamp(at))) => Some(i64::from(at.time) * 1000),
        _ => None,
    })
}

/// Names of topics: the namespace, or what stands for it in the map, between prefix and suffix.
#[derive(Clone, Debug)]
pub struct TopicNames {
    pub prefix: String,
    pub suffix: String,
    pub separator: String,
    map: Vec<(Pattern, String)>,
}

#[derive(Clone, Debug)]
enum Pattern {
    /// `db` or `db.collection`.
    Namespace(String),
    Regex(Regex),
    Any,
}

impl TopicNames {
    /// Names with this prefix, and this map: a JSON object from `db.collection`, `db`, `/regex/` or `*` to names, in
    /// which `{db}`, `{coll}` and `{sep}` stand for their parts (`{sep_coll}` and the like for both or nothing).
    ///
    /// # Errors
    /// What is wrong with the map.
    pub fn new(prefix: &str, suffix: &str, separator: &str, map: &str) -> Result<Self, String> {
        let object: serde_json::Map<String, serde_json::Value> = match map.trim() {
            "" => serde_json::Map::new(),
            text => {
                serde_json::from_str(text).map_err(|error| format!("the namespace map is no JSON object: {error}"))?
            }
        };
        let entry = |(name, topic): (String, serde_json::Value)| {
            let topic = topic.as_str().ok_or_else(|| format!("the namespace map's {name} is no text"))?.to_owned();
            let pattern = match name.strip_prefix('/').and_then(|rest| rest.strip_suffix('/')) {
                Some(regex) => Pattern::Regex(
                    Regex::new(&format!("^(?:{regex})$"))
                        .map_err(|error| format!("the namespace map's {name}: {error}"))?,
                ),
                None if name == "*" => Pattern::Any,
                None => Pattern::Namespace(name),
            };
            Ok((pattern, topic))
        };
        let map = object.into_iter().map(entry).collect::<Result<_, String>>()?;
        Ok(Self { prefix: prefix.to_owned(), suffix: suffix.to_owned(), separator: separator.to_owned(), map })
    }

    /// The topic of a collection's events, or of a database's.
    pub fn topic(&self, database: &str, collection: Option<&str>) -> String {
        let Self { prefix, suffix, separator, .. } = self;
        let base = self.base(database, collection);
        let parts = [prefix, &base, suffix].map(String::as_str);
        parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(separator)
    }

    fn base(&self, database: &str, collection: Option<&str>) -> String {
        let separator = &self.separator;
        let with_collection = |database: &str| match collection {
            Some(collection) => format!("{database}{separator}{collection}"),
            None => database.to_owned(),
        };
        let namespace = collection.map_or_else(|| database.to_owned(), |name| format!("{database}.{name}"));
        let filled = |template: &str| self.filled(template, database, collection);
        if let Some(topic) = self.named(&namespace) {
            return filled(topic);
        }
        if let Some(topic) = self.named(database) {
            return if topic.contains('{') { filled(topic) } else { with_collection(topic) };
        }
        let fits = |pattern: &Pattern| matches!(pattern, Pattern::Regex(regex) if regex.is_match(&namespace));
        let by_regex = self.map.iter().find(|(pattern, _)| fits(pattern));
        let any = || self.map.iter().find(|(pattern, _)| matches!(pattern, Pattern::Any));
        match by_regex.or_else(any) {
            Some((_, topic)) => filled(topic),
            None => with_collection(database),
        }
    }

    fn named(&self, name: &str) -> Option<&str> {
        let is_it = |pattern: &Pattern| matches!(pattern, Pattern::Namespace(known) if known == name);
        self.map.iter().find(|(pattern, _)| is_it(pattern)).map(|(_, topic)| topic.as_str())
    }

    fn filled(&self, template: &str, database: &str, collection: Option<&str>) -> String {
        let (separator, name) = (&self.separator, collection.unwrap_or_default());
        let both = |text: String| if name.is_empty() { String::new() } else { text };
        template
            .replace("{sep_coll_sep}", &both(format!("{separator}{name}{separator}")))
            .replace("{sep_coll}", &both(format!("{separator}{name}")))
            .replace("{coll_sep}", &both(format!("{name}{separator}")))
            .replace("{db}", database)
            .replace("{coll}", name)
            .replace("{sep}", separator)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mongo::json::read::read_object;
    use serde_json::Value;

    /// Events and what MongoDB's connector made of them, under settings.
    const RECORDED: &str = include_str!("../../../tests/fixtures/mongo/connector-records.json");

    #[test]
    fn events_become_the_records_that_the_connector_made_of_them() {
        let cases: Vec<Value> = serde_json::from_str(RECORDED).unwrap();
        assert!(cases.len() > 10);
        for case in cases {
            let settings = &case["settings"];
            let is_on = |name: &str, default| settings[name].as_bool().unwrap_or(default);
            let format = Format {
                topic: TopicNames::new("konekt", "", ".", "").unwrap(),
                formatter: Formatter::ALL
                    .into_iter()
                    .find(|formatter| settings["formatter"] == formatter.name())
                    .unwrap_or_default(),
                full_document_only: is_on("full_document_only", false),
                tombstone_on_delete: is_on("tombstone_on_delete", false),
                document_key_as_key: is_on("document_key_as_key", true),
            };
            let event = serde_json::from_str(case["event"].as_str().unwrap()).unwrap();
            let event = RawDocumentBuf::try_from(&read_object(event).unwrap()).unwrap();
            let text = |name: &str| case[name].as_str().map(str::to_owned);
            let made = format.record(&event).unwrap().map(|made| (made.topic, made.key, made.value));
            let expected = text("topic").map(|topic| (topic, text("key").unwrap(), text("value")));
            assert_eq!(made, expected, "{settings}");
        }
    }

    #[test]
    fn an_event_without_a_name_is_no_record() {
        let format = Format {
            topic: TopicNames::new("", "", ".", "").unwrap(),
            formatter: Formatter::default(),
            full_document_only: false,
            tombstone_on_delete: false,
            document_key_as_key: true,
        };
        assert!(matches!(format.record(&rawdoc! { "_id": 1 }), Err(Unpublishable::Nameless)));
    }

    #[test]
    fn topics_are_named_as_the_connector_names_them() {
        let map = r#"{"shop": "all", "shop.orders": "ord", "/log.*\\.x/": "logs{sep_coll}", "*": "rest"}"#;
        for (prefix, suffix, map, database, collection, expected) in [
            ("konekt", "", "", "shop", Some("orders"), "konekt.shop.orders"),
            ("", "", "", "shop", None, "shop"),
            ("konekt", "v1", map, "shop", Some("orders"), "konekt.ord.v1"),
            ("konekt", "v1", map, "shop", Some("zz"), "konekt.all.zz.v1"),
            ("", "", map, "logs", Some("x"), "logs.x"),
            ("", "", map, "other", Some("y"), "rest"),
            ("", "", r#"{"*": "{coll_sep}{db}"}"#, "d", None, "d"),
        ] {
            let names = TopicNames::new(prefix, suffix, ".", map).unwrap();
            assert_eq!(names.topic(database, collection), expected);
        }
        for (map, part) in [("[1]", "no JSON object"), (r#"{"a": 1}"#, "no text"), (r#"{"/(/": "x"}"#, "/(/")] {
            assert!(TopicNames::new("", "", ".", map).unwrap_err().contains(part), "{map}");
        }
    }
}
