//! `konekt admin …`: asks through [`crate::kafka::admin`] and prints tables, or with `--json` the same as JSON on stdout.
//! What changes the cluster for the worse says first what it would do, and does it with `--execute`.

mod groups;
mod lag;
mod topics;

use serde::Serialize;

use super::exit::{self, Exit, Failure};
use crate::config::field::Command;
use crate::config::value::Value;
use crate::config::{Resolved, Settings};
use crate::kafka::cluster::Cluster;
use crate::kafka::error::Error;
use crate::source::native::TopicSelection;

/// Runs one of the admin commands.
pub fn run(command: Command, resolved: &Resolved, settings: &Settings) -> Result<(), Failure> {
    let cluster = &connect(settings)?;
    match command {
        Command::AdminCluster => topics::cluster(cluster, resolved),
        Command::AdminTopics => topics::topics(cluster, resolved),
        Command::AdminConfigs => topics::configs(cluster, resolved),
        Command::AdminTopicCreate => topics::create(cluster, resolved),
        Command::AdminTopicDelete => topics::delete(cluster, resolved),
        Command::AdminGroups => groups::groups(cluster, resolved),
        Command::AdminGroupReset => groups::reset_offsets(cluster, resolved),
        Command::AdminLag => lag::lag(cluster, resolved),
        other => Err(Failure::new(Exit::Usage, format!("{other:?} is no admin command"))),
    }
}

/// The cluster of the settings.
pub fn connect(settings: &Settings) -> Result<Cluster, Failure> {
    let consumer = &settings.consumer;
    Cluster::connect(&consumer.bootstrap_servers, consumer.connection()).map_err(failure)
}

/// An error of the cluster as the end of the run.
pub fn failure(error: Error) -> Failure {
    let exit = if error.is_unavailable() { Exit::Unavailable } else { Exit::Failed };
    Failure::new(exit, error)
}

/// Prints what was asked for as JSON or, by `table`, for people.
fn show(resolved: &Resolved, value: &impl Serialize, table: impl FnOnce() -> String) -> Result<(), Failure> {
    if resolved.switch("json") { exit::put_json(value) } else { exit::put(&table()) }
}

/// The value of an optional number.
fn optional_number(resolved: &Resolved, name: &str) -> Option<i64> {
    match resolved.value(name) {
        Some(Value::Number(number)) => i64::try_from(number).ok(),
        _ => None,
    }
}

fn names(resolved: &Resolved, name: &str) -> Option<Vec<String>> {
    match resolved.value(name) {
        Some(Value::Words(words)) => Some(words),
        _ => None,
    }
}

fn topic_selection(resolved: &Resolved, name: &str) -> Option<TopicSelection> {
    match resolved.value(name) {
        Some(Value::Topics(selection)) => Some(selection),
        _ => None,
    }
}

/// Whether a topic is meant; without a selection all are.
fn selects(selection: Option<&TopicSelection>, topic: &str) -> bool {
    match selection {
        None => true,
        Some(TopicSelection::Names(names)) => names.iter().any(|name| name == topic),
        Some(TopicSelection::Pattern(pattern)) => pattern.is_match(topic),
        Some(TopicSelection::Partitions(partitions)) => partitions.iter().any(|of| &*of.topic == topic),
    }
}
