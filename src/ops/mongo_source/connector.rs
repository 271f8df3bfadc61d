//! A file of settings for MongoDB's connector for Kafka Connect, read as ours: the same file drives either.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value};

/// The connector's settings that have one of ours.
const NAMES: &[(&str, &str)] = &[
    ("connection.uri", "mongodb_uri"),
    ("database", "mongodb_database"),
    ("collection", "mongodb_collection"),
    ("topic.prefix", "topic_prefix"),
    ("topic.suffix", "topic_suffix"),
    ("topic.separator", "topic_separator"),
    ("topic.namespace.map", "topic_namespace_map"),
    ("pipeline", "pipeline"),
    ("change.stream.full.document", "full_document"),
    ("change.stream.full.document.before.change", "full_document_before_change"),
    ("publish.full.document.only", "publish_full_document_only"),
    ("publish.full.document.only.tombstone.on.delete", "tombstone_on_delete"),
    ("change.stream.document.key.as.key", "document_key_as_key"),
    ("output.json.formatter", "json_formatter"),
    ("startup.mode", "startup_mode"),
    ("startup.mode.timestamp.start.at.operation.time", "start_at"),
    ("heartbeat.interval.ms", "watch_heartbeat_interval_ms"),
    ("heartbeat.topic.name", "watch_heartbeat_topic"),
    ("batch.size", "watch_batch_size"),
    ("offset.partition.name", "source_name"),
];

/// Settings that say nothing to us: there is one way to do it here.
const WITHOUT_MEANING: &[&str] = &[
    "connector.class",
    "tasks.max",
    "key.converter",
    "key.converter.schemas.enable",
    "value.converter",
    "value.converter.schemas.enable",
    "errors.tolerance",
    "errors.log.enable",
    "errors.log.include.messages",
    "mongo.errors.tolerance",
    "poll.max.batch.size",
    "poll.await.time.ms",
    "copy.existing",
];

/// A file's settings under our names, and what is legal but perhaps not meant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConnectorFile {
    pub settings: BTreeMap<&'static str, String>,
    pub remarks: Vec<String>,
}

impl ConnectorFile {
    /// Reads a file.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(path: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        Self::parse(&text).map_err(|error| format!("{}: {error}", path.display()))
    }

    /// Reads the text: an object of settings, or one with them in `config`, beside the connector's `name`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut outer: Map<String, Value> = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let (name, inner) = (outer.remove("name"), outer.remove("config"));
        let members = match inner {
            Some(Value::Object(members)) if outer.is_empty() => members,
            Some(_) => return Err("config must be an object, and nothing may stand beside it but the name".to_owned()),
            None => outer,
        };
        let mut file = Self::default();
        if let Some(Value::String(name)) = name {
            file.settings.insert("source_name", name);
        }
        for (name, value) in members {
            let text = match value {
                Value::String(text) => text,
                Value::Null => continue,
                other => other.to_string(),
            };
            file.take(&name, text)?;
        }
        Ok(file)
    }

    fn take(&mut self, name: &str, text: String) -> Result<(), String> {
        if let Some((_, ours)) = NAMES.iter().find(|(theirs, _)| *theirs == name) {
            if !text.is_empty() {
                self.settings.insert(ours, translated(ours, text));
            }
            return Ok(());
        }
        match (name, text.as_str()) {
            ("output.format.key" | "output.format.value", "json" | "JSON") => {}
            ("output.format.key" | "output.format.value", other) => {
                return Err(format!("{name} is {other}: only json is written here"));
            }
            ("copy.existing", "true") => {
                self.settings.entry("startup_mode").or_insert_with(|| "copy-existing".to_owned());
            }
            ("errors.tolerance" | "mongo.errors.tolerance", "all") => self.remarks.push(format!(
                "{name} is all: a place that is lost stops the source nevertheless, unless --on-lost says otherwise"
            )),
            ("key.converter" | "value.converter", class) if !class.ends_with(".StringConverter") => self
                .remarks
                .push(format!("{name} is {class}: keys and values are written as StringConverter would write them")),
            (name, _) if WITHOUT_MEANING.contains(&name) => {}
            (name, _) => self.remarks.push(format!("{name} is not known here and changes nothing")),
        }
        Ok(())
    }
}

/// Where a value is spelled otherwise.
fn translated(ours: &str, text: String) -> String {
    match ours {
        "json_formatter" => text.rsplit('.').next().unwrap_or_default().to_owned(),
        "startup_mode" => text.to_lowercase().replace('_', "-"),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connectors_file_is_read_as_our_settings() {
        let text = r#"{"name": "orders", "config": {
            "connector.class": "com.mongodb.kafka.connect.MongoSourceConnector", "tasks.max": 1,
            "connection.uri": "mongodb://mongo1,mongo2/?replicaSet=rs0", "database": "shop", "collection": "",
            "publish.full.document.only": true, "startup.mode": "copy_existing",
            "output.json.formatter": "com.mongodb.kafka.connect.source.json.formatter.SimplifiedJson",
            "value.converter": "org.apache.kafka.connect.storage.StringConverter",
            "mongo.errors.tolerance": "all", "something.else": "1"}}"#;
        let file = ConnectorFile::parse(text).unwrap();
        let expected = [
            ("json_formatter", "SimplifiedJson"),
            ("mongodb_database", "shop"),
            ("mongodb_uri", "mongodb://mongo1,mongo2/?replicaSet=rs0"),
            ("publish_full_document_only", "true"),
            ("source_name", "orders"),
            ("startup_mode", "copy-existing"),
        ];
        assert_eq!(file.settings, expected.map(|(name, text)| (name, text.to_owned())).into());
        assert_eq!(file.remarks.len(), 2, "{:?}", file.remarks);
        let flat = ConnectorFile::parse(r#"{"topic.prefix": "konekt"}"#).unwrap();
        assert_eq!(flat.settings["topic_prefix"], "konekt");
    }

    #[test]
    fn what_cannot_be_done_is_refused() {
        for (text, part) in [
            ("[]", "map"),
            (r#"{"output.format.value": "schema"}"#, "only json"),
            (r#"{"config": {}, "topic.prefix": "x"}"#, "beside it"),
        ] {
            assert!(ConnectorFile::parse(text).unwrap_err().contains(part), "{text}");
        }
    }
}
