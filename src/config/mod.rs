//! Settings: raw text from four sources, checked into [`Settings`].
//!
//! [`field`] says what there is, [`layers`] gathers what was said and by whom, `properties` knows what librdkafka's names
//! mean here, [`value`] reads one value, this module (with `security`, `sink` and `client` for their sections) puts the
//! checked values together and checks them against each other. All faults are reported at once, before anything connects.
//! The command line calls [`resolve`].

mod client;
pub mod command;
mod dotenv;
pub mod field;
pub mod layers;
mod properties;
mod security;
mod sink;
mod table;
mod template;
pub mod value;

use std::fmt;
use std::path::PathBuf;

use field::{Command, Field};
use layers::{Origin, Properties, RawValues, Said, Surroundings};
pub use sink::{MongoSettings, OdbcLogin, OdbcSettings, SinkSettings, SqlServerLogin};
pub use template::template;
use value::Value;

use crate::consumer::ConsumerConfig;
pub use crate::core::nearest::suggest;
use crate::core::secret::Secret;
use crate::engine::{Delivery, OffsetReset};
use crate::ops::http::HttpOptions;
use crate::source::native::{Assignor, GroupProtocol, Isolation, TopicSelection};

/// Checked settings of one command. What a command does not have stands at its default.
#[derive(Clone, Debug)]
pub struct Settings {
    pub consumer: ConsumerConfig,
    /// Where statistics go as JSON lines; `-` is stderr.
    pub stats_json: Option<String>,
    /// Written to about once a second, as a sign of life.
    pub heartbeat_file: Option<PathBuf>,
    pub log: String,
    /// Whether lines on stderr are JSON.
    pub log_json: bool,
    /// Where health, metrics and the status page are shown.
    pub http: Option<HttpOptions>,
    pub sink: SinkSettings,
}

/// One thing that is wrong, and who said it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// A flag, a variable, or a file and line.
    pub place: String,
    /// What is wrong and what to do.
    pub message: String,
}

impl Fault {
    fn of(place: impl fmt::Display, message: String) -> Fault {
        Fault { place: place.to_string(), message }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)
    }
}

/// The outcome of gathering and checking.
#[derive(Debug)]
pub struct Resolved {
    raw: RawValues,
    /// All faults; with any of them [`settings`](Self::settings) may not be used.
    pub faults: Vec<Fault>,
    /// What is legal but perhaps not meant.
    pub remarks: Vec<String>,
    settings: Settings,
    command: Command,
}

impl Resolved {
    /// The checked settings.
    ///
    /// # Errors
    /// Every fault there is.
    pub fn settings(&self) -> Result<&Settings, &[Fault]> {
        if self.faults.is_empty() { Ok(&self.settings) } else { Err(&self.faults) }
    }

    /// A checked value of a setting that is no part of [`Settings`]: what only one command has.
    pub fn value(&self, name: &str) -> Option<Value> {
        let field = Field::named(name)?;
        field.kind.parse(&self.raw.get(field.name)?.text).ok()
    }

    /// The text of such a setting; empty when nobody gave one.
    pub fn text(&self, name: &str) -> String {
        match self.value(name) {
            Some(Value::Text(text)) => text,
            _ => String::new(),
        }
    }

    /// The number of such a setting; 0 when nobody gave one.
    pub fn number(&self, name: &str) -> u64 {
        match self.value(name) {
            Some(Value::Number(number)) => number,
            _ => 0,
        }
    }

    /// The numbers of such a list.
    pub fn numbers(&self, name: &str) -> Vec<u64> {
        match self.value(name) {
            Some(Value::Numbers(numbers)) => numbers,
            _ => Vec::new(),
        }
    }

    /// Whether such a switch is on.
    pub fn switch(&self, name: &str) -> bool {
        matches!(self.value(name), Some(Value::Switch(true)))
    }

    /// Whether anybody gave the setting a value.
    pub fn said(&self, name: &str) -> bool {
        self.raw.get(name).is_some_and(|raw| raw.origin != Origin::Default)
    }

    /// Each setting with its effective value and its source, as a table for people; secrets as `***`.
    pub fn effective(&self) -> String {
        table::effective(self, self.command)
    }
}

/// Gathers a command's settings from its surroundings and checks them. It reads files and nothing else.
pub fn resolve(command: Command, surroundings: &Surroundings<'_>) -> Resolved {
    let (mut faults, mut remarks) = (Vec::new(), Vec::new());
    let Said { values: raw, properties } = surroundings.gather(command, &mut faults, &mut remarks);
    let mut reader = Reader { command, raw: &raw, properties: &properties, faults };
    let settings = reader.settings();
    reader.refuse_bad_values_of_the_rest();
    reader.check_together(&settings);
    let faults = reader.faults;
    Resolved { raw, faults, remarks, settings, command }
}

/// Takes checked values out of raw ones, keeping every fault. After a fault it goes on with a stand-in.
struct Reader<'a> {
    command: Command,
    raw: &'a RawValues,
    properties: &'a Properties,
    faults: Vec<Fault>,
}

impl Reader<'_> {
    fn settings(&mut self) -> Settings {
        Settings {
            consumer: self.consumer(),
            stats_json: self.optional_text("stats_json"),
            heartbeat_file: self.optional_text("heartbeat_file").map(Into::into),
            log: self.text("log"),
            log_json: self.text("log_format") == "json",
            http: self.http(),
            sink: self.sink(),
        }
    }

    fn consumer(&mut self) -> ConsumerConfig {
        let client = self.client();
        ConsumerConfig {
            client,
            properties: self.properties_for(client),
            bootstrap_servers: self.words("bootstrap_servers"),
            group_id: self.text("group_id"),
            topics: self.topics(),
            client_id: self.text("client_id"),
            client_rack: self.optional_text("client_rack"),
            group_instance_id: self.optional_text("group_instance_id"),
            auto_offset_reset: match self.text("auto_offset_reset").as_str() {
                "latest" => OffsetReset::Latest,
                "error" => OffsetReset::Error,
                _ => OffsetReset::Earliest,
            },
            group_protocol: match self.text("group_protocol").as_str() {
                "consumer" => GroupProtocol::Consumer,
                "auto" => GroupProtocol::Auto,
                _ => GroupProtocol::Classic,
            },
            group_remote_assignor: self.optional_text("group_remote_assignor"),
            partition_assignment_strategy: self.assignors(),
            isolation_level: match self.text("isolation_level").as_str() {
                "read_uncommitted" => Isolation::ReadUncommitted,
                _ => Isolation::ReadCommitted,
            },
            session_timeout_ms: self.number("session_timeout_ms"),
            heartbeat_interval_ms: self.number("heartbeat_interval_ms"),
            max_poll_interval_ms: self.number("max_poll_interval_ms"),
            fetch_min_bytes: self.size("fetch_min_bytes"),
            fetch_max_wait_ms: self.number("fetch_max_wait_ms"),
            fetch_max_bytes: self.size("fetch_max_bytes"),
            max_partition_fetch_bytes: self.size("max_partition_fetch_bytes"),
            connect_timeout_ms: self.number("connect_timeout_ms"),
            request_timeout_ms: self.number("request_timeout_ms"),
            metadata_max_age_ms: self.number("metadata_max_age_ms"),
            security: self.security(),
            delivery: match self.text("delivery").as_str() {
                "exactly-once" => Delivery::ExactlyOnce,
                _ => Delivery::AtLeastOnce,
            },
            max_workers: self.size("max_workers"),
            partition_workers: self.size("partition_workers"),
            batch_size: self.size("batch_size"),
            batch_bytes_max: self.size("batch_bytes_max"),
            batch_timeout_ms: self.number("batch_timeout_ms"),
            max_retries: self.size("max_retries") as u32,
            retry_backoff_ms: self.number("retry_backoff_ms"),
            error_threshold: self.size("error_threshold") as u32,
            error_timeout_ms: self.number("error_timeout_ms"),
            dead_letter_table: self.switch("dead_letter_table"),
            dead_letter_topic: self.optional_text("dead_letter_topic"),
            dead_letter_file: self.optional_text("dead_letter_file").map(Into::into),
            dead_letter_share_max: self.size("dead_letter_share_max") as u32,
            message_timeout_seconds: self.number("message_timeout_seconds"),
            commit_interval_ms: self.number("commit_interval_ms"),
            stats_interval_ms: self.number("stats_interval_ms"),
            shutdown_timeout_ms: self.number("shutdown_timeout_ms"),
            memory_limit: self.size("memory_limit"),
            until_end: self.switch("until_end"),
            max_messages: self.optional_number("max_messages"),
            dry_run: self.switch("dry_run"),
        }
    }

    fn http(&mut self) -> Option<HttpOptions> {
        let (address, token) = (self.optional_text("http"), self.optional_text("http_token"));
        address.map(|address| HttpOptions { address, token: token.map(Secret::new) })
    }

    fn topics(&mut self) -> TopicSelection {
        match self.value("topics") {
            Some(Value::Topics(topics)) => topics,
            _ => TopicSelection::Names(Vec::new()),
        }
    }

    /// The words are checked already.
    fn assignors(&mut self) -> Vec<Assignor> {
        self.words("partition_assignment_strategy").iter().filter_map(|name| Assignor::from_name(name)).collect()
    }

    /// The value of a setting: as said, or its default. What the command does not have is silently at its default.
    fn value(&mut self, name: &str) -> Option<Value> {
        let field = Field::named(name).expect("a unit test resolves every command, so every name is in the table");
        match self.raw.get(field.name) {
            Some(raw) => match parse(field, &raw.text) {
                Ok(value) => Some(value),
                Err(message) => {
                    self.faults.push(Fault::of(&raw.origin, message));
                    None
                }
            },
            None => {
                self.miss(field);
                field.kind.parse(field.default.of(self.command)?).ok()
            }
        }
    }

    /// `konekt config` shows what is missing and does not complain about it.
    fn miss(&mut self, field: &Field) {
        if field.is_required_by(self.command) {
            let sources = field.variables.iter().map(|variable| format!(", set {variable}")).collect::<String>();
            let file = if field.persistent() { ", or write it into konekt.toml" } else { "" };
            let ways = format!("give --{}{sources}{file}", field.flag());
            self.faults.push(Fault::of(field.known_as(), format!("is missing: {ways}")));
        }
    }

    /// Values that this command has and [`Settings`] does not: one command's own, or another sink's in `konekt config`.
    fn refuse_bad_values_of_the_rest(&mut self) {
        for field in field::fields().filter(|field| !self.raw.contains_key(field.name)) {
            if !self.faults.iter().any(|fault| fault.place == field.known_as()) {
                self.miss(field);
            }
        }
        for (name, raw) in self.raw {
            let already = self.faults.iter().any(|fault| fault.place == raw.origin.to_string());
            if let Some(Err(message)) = Field::named(name).map(|field| parse(field, &raw.text))
                && !already
            {
                self.faults.push(Fault::of(&raw.origin, message));
            }
        }
    }

    fn check_together(&mut self, settings: &Settings) {
        let consumer = &settings.consumer;
        let (heartbeat, session) = (consumer.heartbeat_interval_ms, consumer.session_timeout_ms);
        if heartbeat > session / 2 && self.faults.is_empty() {
            let place = self.said_by(&["heartbeat_interval_ms", "session_timeout_ms"]);
            let message = format!(
                "heartbeat_interval_ms ({heartbeat}) must be at most half of session_timeout_ms ({session}), \
                 best a third of it"
            );
            self.faults.push(Fault::of(place, message));
        }
        self.check_client(consumer);
        if self.command == Command::Consume && consumer.delivery == Delivery::ExactlyOnce {
            let message = "delivery exactly-once needs a database that keeps the position: \
                           consume is at-least-once; use konekt sink sqlite, sqlserver, odbc or mongodb";
            self.faults.push(Fault::of(self.said_by(&["delivery"]), message.to_owned()));
        }
    }

    /// Whoever said one of these, for a fault that lies between them.
    fn said_by(&self, names: &[&'static str]) -> String {
        let origins = names.iter().filter_map(|name| self.raw.get(name).map(|raw| &raw.origin));
        let said: Vec<String> = origins.filter(|origin| **origin != Origin::Default).map(Origin::to_string).collect();
        if said.is_empty() { names.join(", ") } else { said.join(", ") }
    }

    fn text(&mut self, name: &str) -> String {
        self.optional_text(name).unwrap_or_default()
    }

    fn optional_text(&mut self, name: &str) -> Option<String> {
        match self.value(name) {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        }
    }

    fn switch(&mut self, name: &str) -> bool {
        matches!(self.value(name), Some(Value::Switch(true)))
    }

    fn words(&mut self, name: &str) -> Vec<String> {
        match self.value(name) {
            Some(Value::Words(words)) => words,
            _ => Vec::new(),
        }
    }

    fn optional_number(&mut self, name: &str) -> Option<u64> {
        match self.value(name) {
            Some(Value::Number(number)) => Some(number),
            _ => None,
        }
    }

    fn number(&mut self, name: &str) -> u64 {
        self.optional_number(name).unwrap_or(0)
    }

    fn size(&mut self, name: &str) -> usize {
        usize::try_from(self.number(name)).unwrap_or(usize::MAX)
    }
}

/// Reads a value; of a secret only the expectation is told.
fn parse(field: &Field, text: &str) -> Result<Value, String> {
    field.kind.parse(text).map_err(|fault| match field.secret {
        true => format!("{} does not fit: {}", field.name, field.kind),
        false if field.persistent() => format!("{} {fault}", field.name),
        false => fault, // its place is its flag
    })
}

#[cfg(test)]
mod tests;
