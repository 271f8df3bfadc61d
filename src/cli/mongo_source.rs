//! `konekt source mongodb`: puts the settings together, those of a connector's file included, and runs until a signal.

use super::exit::Failure;
use crate::config::{Resolved, Settings};

/// Runs it.
#[cfg(feature = "mongodb")]
pub fn run(resolved: &Resolved, settings: &Settings) -> Result<(), Failure> {
    with_mongodb::run(resolved, settings)
}

/// Without MongoDB there is only an explanation.
#[cfg(not(feature = "mongodb"))]
pub fn run(_resolved: &Resolved, _settings: &Settings) -> Result<(), Failure> {
    Err(super::mongo::built_without())
}

#[cfg(feature = "mongodb")]
mod with_mongodb {
    use std::collections::BTreeMap;
    use std::path::Path;
    use std::time::Duration;

    use mongodb::bson::{Bson, Document, Timestamp};

    use crate::cli::admin::connect;
    use crate::cli::exit::{self, Exit, Failure};
    use crate::cli::report::grouped;
    use crate::cli::{mongo, signals};
    use crate::config::field::Field;
    use crate::config::value::Value;
    use crate::config::{Resolved, Settings};
    use crate::core::civil::unix_ms_of;
    use crate::core::secret::Secret;
    use crate::kafka::producer::ProducerOptions;
    use crate::mongo::json::Formatter;
    use crate::mongo::json::read::read;
    use crate::ops::mongo_source::connector::ConnectorFile;
    use crate::ops::mongo_source::event::{Format, TopicNames};
    use crate::ops::mongo_source::state::Store;
    use crate::ops::mongo_source::{
        self, BeforeChange, FaultKind, FullDocument, OnLost, SourceFault, SourceOptions, Startup,
    };
    use crate::port::MemoryBudget;

    pub fn run(resolved: &Resolved, settings: &Settings) -> Result<(), Failure> {
        let said = Said::gather(resolved)?;
        let options = said.options(settings)?;
        let stopped = signals::listen()?;
        let cluster = connect(settings)?;
        let producer = ProducerOptions {
            // The words are checked already.
            compression: resolved.text("compression").parse().unwrap_or_default(),
            ..ProducerOptions::default()
        };
        let mut is_stopped = false;
        let mut stop = || {
            is_stopped |= stopped.try_recv().is_ok();
            is_stopped
        };
        let store = said.store(settings);
        let ended = mongo_source::run(&options, &cluster, &producer, &store, &mut stop).map_err(end)?;
        exit::say(format_args!(
            "konekt: {} documents copied, {} events, {} records acknowledged",
            grouped(ended.copied),
            grouped(ended.events),
            grouped(ended.records)
        ));
        Ok(())
    }

    fn end(fault: SourceFault) -> Failure {
        let exit = if fault.kind == FaultKind::Settings { Exit::Usage } else { Exit::Failed };
        Failure::new(exit, fault)
    }

    /// The settings, with a connector's file behind all other sources.
    struct Said<'a> {
        resolved: &'a Resolved,
        file: BTreeMap<&'static str, String>,
    }

    impl<'a> Said<'a> {
        fn gather(resolved: &'a Resolved) -> Result<Self, Failure> {
            let path = resolved.text("connector_config");
            if path.is_empty() {
                return Ok(Self { resolved, file: BTreeMap::new() });
            }
            let wrong = |words: String| Failure::new(Exit::Usage, words);
            let file = ConnectorFile::read(Path::new(&path)).map_err(wrong)?;
            file.remarks.iter().for_each(|remark| log::warn!("{path}: {remark}"));
            for (name, text) in &file.settings {
                let parsed = Field::named(name).map(|field| field.kind.parse(text));
                if let Some(Err(fault)) = parsed {
                    return Err(wrong(format!("{path}: {name} {fault}")));
                }
            }
            Ok(Self { resolved, file: file.settings })
        }

        fn value(&self, name: &str) -> Option<Value> {
            match self.file.get(name).filter(|_| !self.resolved.said(name)) {
                Some(text) => Field::named(name)?.kind.parse(text).ok(),
                None => self.resolved.value(name),
            }
        }

        fn text(&self, name: &str) -> String {
            match self.value(name) {
                Some(Value::Text(text)) => text,
                _ => String::new(),
            }
        }

        fn given(&self, name: &str) -> Option<String> {
            Some(self.text(name)).filter(|text| !text.is_empty())
        }

        fn number(&self, name: &str) -> u64 {
            match self.value(name) {
                Some(Value::Number(number)) => number,
                _ => 0,
            }
        }

        fn switch(&self, name: &str) -> bool {
            matches!(self.value(name), Some(Value::Switch(true)))
        }

        fn milliseconds(&self, name: &str) -> Duration {
            Duration::from_millis(self.number(name))
        }

        fn options(&self, settings: &Settings) -> Result<SourceOptions, Failure> {
            let deployment = mongo::deployment(&Secret::new(self.text("mongodb_uri")))?;
            let database = self.given("mongodb_database").or_else(|| deployment.default_database().map(str::to_owned));
            let collection = self.given("mongodb_collection");
            if collection.is_some() && database.is_none() {
                return Err(wrong("mongodb_database", "is missing: mongodb_collection is one of its collections"));
            }
            Ok(SourceOptions {
                deployment,
                database,
                collection,
                pipeline: self.pipeline()?,
                full_document: match self.text("full_document").as_str() {
                    "updateLookup" => FullDocument::UpdateLookup,
                    "whenAvailable" => FullDocument::WhenAvailable,
                    "required" => FullDocument::Required,
                    _ => FullDocument::Default,
                },
                full_document_before_change: match self.text("full_document_before_change").as_str() {
                    "whenAvailable" => BeforeChange::WhenAvailable,
                    "required" => BeforeChange::Required,
                    _ => BeforeChange::Off,
                },
                format: self.format()?,
                startup: self.startup()?,
                on_lost: match self.text("on_lost").as_str() {
                    "now" => OnLost::Now,
                    "copy" => OnLost::Copy,
                    "timestamp" => OnLost::Timestamp,
                    _ => OnLost::Fail,
                },
                heartbeat_interval: self.milliseconds("watch_heartbeat_interval_ms"),
                heartbeat_topic: self.text("watch_heartbeat_topic"),
                save_interval: self.milliseconds("save_interval_ms"),
                report_interval: Duration::from_millis(settings.consumer.stats_interval_ms),
                batch_size: self.number("watch_batch_size") as u32,
            })
        }

        fn format(&self) -> Result<Format, Failure> {
            let map = self.text("topic_namespace_map");
            let topic = TopicNames::new(
                &self.text("topic_prefix"),
                &self.text("topic_suffix"),
                &self.text("topic_separator"),
                &map,
            );
            let name = self.text("json_formatter");
            Ok(Format {
                topic: topic.map_err(|fault| wrong("topic_namespace_map", &fault))?,
                formatter: Formatter::ALL.into_iter().find(|formatter| formatter.name() == name).unwrap_or_default(),
                full_document_only: self.switch("publish_full_document_only"),
                tombstone_on_delete: self.switch("tombstone_on_delete"),
                document_key_as_key: self.switch("document_key_as_key"),
            })
        }

        fn pipeline(&self) -> Result<Vec<Document>, Failure> {
            let Some(text) = self.given("pipeline") else { return Ok(Vec::new()) };
            let stages: Result<Vec<serde_json::Value>, _> = serde_json::from_str(&text);
            let stages = stages.map_err(|error| wrong("pipeline", &format!("is no JSON array: {error}")))?;
            let stage = |stage| match read(stage) {
                Some(Bson::Document(stage)) => Ok(stage),
                _ => Err(wrong("pipeline", "has a stage that is no object")),
            };
            stages.into_iter().map(stage).collect()
        }

        fn startup(&self) -> Result<Startup, Failure> {
            match self.text("startup_mode").as_str() {
                "copy-existing" => Ok(Startup::CopyExisting),
                "timestamp" => {
                    let text = self.text("start_at");
                    let words =
                        format!("{text:?} is no time: give seconds, 2026-01-31T12:00Z, or {{\"$timestamp\": …}}");
                    timestamp(&text).map(Startup::Timestamp).ok_or_else(|| wrong("start_at", &words))
                }
                _ => Ok(Startup::Latest),
            }
        }

        fn store(&self, settings: &Settings) -> Store {
            match self.given("state_file") {
                Some(path) => Store::File(path.into()),
                None => Store::Topic {
                    topic: self.text("state_topic").into(),
                    name: self.text("source_name"),
                    options: Box::new(settings.consumer.native(MemoryBudget::new(settings.consumer.memory_limit))),
                },
            }
        }
    }

    /// Seconds, a time, or extended JSON, as the connector takes them.
    fn timestamp(text: &str) -> Option<Timestamp> {
        let at = |seconds: i64| Some(Timestamp { time: u32::try_from(seconds).ok()?, increment: 0 });
        if let Ok(seconds) = text.parse::<i64>() {
            return at(seconds);
        }
        if let Some(unix_ms) = unix_ms_of(text) {
            return at(unix_ms / 1000);
        }
        match read(serde_json::from_str(text).ok()?)? {
            Bson::Timestamp(timestamp) => Some(timestamp),
            _ => None,
        }
    }

    fn wrong(setting: &str, what: &str) -> Failure {
        Failure::new(Exit::Usage, format!("{setting}: {what}"))
    }
}
