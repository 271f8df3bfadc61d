//! `konekt admin cluster|topics|configs` and `admin topic create|delete`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use serde::Serialize;

use super::{failure, optional_number, selects, show, topic_selection};
use crate::cli::exit::{self, Exit, Failure};
use crate::cli::table::{Column, Table, number, or_dash};
use crate::config::Resolved;
use crate::config::value::Value;
use crate::core::record::TopicPartition;
use crate::kafka::admin::configs::{ConfigEntry, ConfigOf, describe_configs};
use crate::kafka::admin::topics::{
    ClusterDescription, PartitionDescription, TopicDescription, create_topic, delete_topic, describe_cluster,
};
use crate::kafka::cluster::{Cluster, TopicsWanted};
use crate::kafka::offsets::{Isolation, OffsetAt};
use crate::source::native::TopicSelection;

/// Brokers with what they lead and hold.
pub fn cluster(cluster: &Cluster, resolved: &Resolved) -> Result<(), Failure> {
    let described = describe_cluster(cluster, TopicsWanted::All).map_err(failure)?;
    show(resolved, &described, || cluster_table(&described))
}

fn cluster_table(described: &ClusterDescription) -> String {
    let partitions: Vec<&PartitionDescription> = described.topics.iter().flat_map(|topic| &topic.partitions).collect();
    let count = |test: &dyn Fn(&PartitionDescription) -> bool| {
        number(partitions.iter().filter(|partition| test(partition)).count() as i64)
    };
    let mut table = Table::new(&[
        Column::Right("NODE"),
        Column::Left("ADDRESS"),
        Column::Left("RACK"),
        Column::Right("LEADS"),
        Column::Right("REPLICAS"),
    ]);
    for broker in &described.brokers {
        table.row([
            broker.node.to_string(),
            broker.address.clone(),
            or_dash(broker.rack.clone(), |rack| rack),
            count(&|partition| partition.leader == Some(broker.node)),
            count(&|partition| partition.replicas.contains(&broker.node)),
        ]);
    }
    format!(
        "cluster {}: {} brokers, {} topics, {} partitions, {} under-replicated, {} without a leader\n{}",
        described.cluster_id.as_deref().unwrap_or("without an id"),
        described.brokers.len(),
        described.topics.len(),
        number(partitions.len() as i64),
        count(&PartitionDescription::is_under_replicated),
        count(&|partition| partition.leader.is_none()),
        table.render()
    )
}

/// A topic with how many records its logs hold.
#[derive(Serialize)]
struct SizedTopic {
    #[serde(flatten)]
    topic: TopicDescription,
    /// Offsets between the logs' starts and ends, by partition; markers and compacted records count too.
    records: BTreeMap<i32, i64>,
}

impl SizedTopic {
    fn records(&self) -> i64 {
        self.records.values().sum()
    }
}

/// Topics; when some are named also their partitions.
pub fn topics(cluster: &Cluster, resolved: &Resolved) -> Result<(), Failure> {
    let selection = topic_selection(resolved, "admin_topics");
    let topics = sized(cluster, selected(cluster, selection.as_ref())?)?;
    show(resolved, &topics, || match selection {
        Some(TopicSelection::Names(_)) => topics.iter().map(partitions_table).collect::<Vec<String>>().join("\n"),
        _ => topics_table(&topics),
    })
}

/// The topics that a selection means.
///
/// # Errors
/// When a named one does not exist.
pub(super) fn selected(
    cluster: &Cluster,
    selection: Option<&TopicSelection>,
) -> Result<Vec<TopicDescription>, Failure> {
    let names: Vec<Arc<str>> = match selection {
        Some(TopicSelection::Names(names)) => names.iter().map(|name| name.as_str().into()).collect(),
        _ => Vec::new(),
    };
    let wanted = if names.is_empty() { TopicsWanted::All } else { TopicsWanted::Names(&names) };
    let described = describe_cluster(cluster, wanted).map_err(failure)?;
    Ok(described.topics.into_iter().filter(|topic| selects(selection, &topic.name)).collect())
}

fn sized(cluster: &Cluster, topics: Vec<TopicDescription>) -> Result<Vec<SizedTopic>, Failure> {
    let led = topics.iter().flat_map(|topic| {
        let led = topic.partitions.iter().filter(|partition| partition.leader.is_some());
        led.map(|partition| TopicPartition::new(topic.name.as_str(), partition.partition))
    });
    let led: Vec<TopicPartition> = led.collect();
    let ask = |at| {
        let queries: Vec<_> = led.iter().map(|partition| (partition.clone(), at)).collect();
        if queries.is_empty() { Ok(Vec::new()) } else { cluster.list_offsets(&queries, Isolation::ReadUncommitted) }
    };
    let (starts, ends) = (ask(OffsetAt::Earliest).map_err(failure)?, ask(OffsetAt::Latest).map_err(failure)?);
    let mut records: BTreeMap<Arc<str>, BTreeMap<i32, i64>> = BTreeMap::new();
    for ((partition, start), (_, end)) in starts.into_iter().zip(ends) {
        if let (Ok(start), Ok(end)) = (start, end) {
            records.entry(partition.topic).or_default().insert(partition.partition, end - start);
        }
    }
    let sized = |topic: TopicDescription| {
        let records = records.remove(topic.name.as_str()).unwrap_or_default();
        SizedTopic { topic, records }
    };
    Ok(topics.into_iter().map(sized).collect())
}

fn topics_table(topics: &[SizedTopic]) -> String {
    let mut table = Table::new(&[
        Column::Left("TOPIC"),
        Column::Right("PARTITIONS"),
        Column::Right("REPLICAS"),
        Column::Right("UNDER-REPLICATED"),
        Column::Right("RECORDS"),
        Column::Left("INTERNAL"),
    ]);
    for sized in topics {
        let partitions = &sized.topic.partitions;
        let replicas = partitions.iter().map(|partition| partition.replicas.len()).max().unwrap_or(0);
        let behind = partitions.iter().filter(|partition| partition.is_under_replicated()).count();
        table.row([
            sized.topic.name.clone(),
            number(partitions.len() as i64),
            replicas.to_string(),
            behind.to_string(),
            number(sized.records()),
            if sized.topic.internal { "yes" } else { "" }.to_owned(),
        ]);
    }
    table.render()
}

fn partitions_table(sized: &SizedTopic) -> String {
    let nodes = |nodes: &[i32]| nodes.iter().map(ToString::to_string).collect::<Vec<String>>().join(",");
    let mut table = Table::new(&[
        Column::Right("PARTITION"),
        Column::Right("LEADER"),
        Column::Left("REPLICAS"),
        Column::Left("IN SYNC"),
        Column::Right("RECORDS"),
    ]);
    for partition in &sized.topic.partitions {
        table.row([
            partition.partition.to_string(),
            or_dash(partition.leader, |node| node.to_string()),
            nodes(&partition.replicas),
            nodes(&partition.in_sync),
            or_dash(sized.records.get(&partition.partition), |records| number(*records)),
        ]);
    }
    let (name, id) = (&sized.topic.name, &sized.topic.id);
    format!("topic {name} ({id}): {} records\n{}", number(sized.records()), table.render())
}

/// Whose settings these are.
#[derive(Serialize)]
struct ConfigsOf {
    of: String,
    settings: Vec<ConfigEntry>,
}

/// The settings of a broker, or of topics.
pub fn configs(cluster: &Cluster, resolved: &Resolved) -> Result<(), Failure> {
    let selection = topic_selection(resolved, "admin_topics");
    let mut asked: Vec<(String, ConfigOf)> = Vec::new();
    if let Some(node) = optional_number(resolved, "broker") {
        asked.push((format!("broker {node}"), ConfigOf::Broker(node as i32)));
    }
    if selection.is_some() || asked.is_empty() {
        let topics = selected(cluster, selection.as_ref())?.into_iter().filter(|topic| !topic.internal);
        asked.extend(topics.map(|topic| (format!("topic {}", topic.name), ConfigOf::Topic(topic.name))));
    }
    let with_defaults = resolved.switch("all");
    let mut configs = Vec::new();
    for (of, whose) in asked {
        let mut settings = describe_configs(cluster, &whose).map_err(failure)?;
        settings.retain(|entry| with_defaults || !entry.is_default());
        configs.push(ConfigsOf { of, settings });
    }
    show(resolved, &configs, || configs.iter().map(configs_table).collect::<Vec<String>>().join("\n"))
}

fn configs_table(configs: &ConfigsOf) -> String {
    if configs.settings.is_empty() {
        return format!("{}: nothing differs from the defaults (--all shows them)\n", configs.of);
    }
    let mut table = Table::new(&[Column::Left("SETTING"), Column::Left("VALUE"), Column::Left("SET BY")]);
    for entry in &configs.settings {
        let hidden = if entry.sensitive { "***" } else { "-" };
        let value = entry.value.clone().unwrap_or_else(|| hidden.to_owned());
        table.row([entry.name.clone(), value, entry.source.to_owned()]);
    }
    format!("{}\n{}", configs.of, table.render())
}

/// Creates a topic.
pub fn create(cluster: &Cluster, resolved: &Resolved) -> Result<(), Failure> {
    let name = resolved.text("admin_topic");
    let partitions = optional_number(resolved, "new_partitions").map_or(-1, |count| count as i32);
    let replication = optional_number(resolved, "replication_factor").map_or(-1, |count| count as i16);
    let settings = match resolved.value("topic_settings") {
        Some(Value::Pairs(pairs)) => pairs,
        _ => Vec::new(),
    };
    let settings: Vec<(&str, &str)> = settings.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    create_topic(cluster, &name, partitions, replication, &settings).map_err(failure)?;
    let created = sized(cluster, selected(cluster, Some(&TopicSelection::names([name.as_str()])))?)?;
    show(resolved, &created, || created.iter().map(partitions_table).collect())
}

/// What deleting takes away.
#[derive(Serialize)]
struct Deletion {
    topic: String,
    partitions: usize,
    records: i64,
    deleted: bool,
}

/// Deletes a topic, or says what that would take away.
pub fn delete(cluster: &Cluster, resolved: &Resolved) -> Result<(), Failure> {
    let name = resolved.text("admin_topic");
    let topics = sized(cluster, selected(cluster, Some(&TopicSelection::names([name.as_str()])))?)?;
    let Some(sized) = topics.first() else {
        return Err(Failure::new(Exit::Failed, format!("there is no topic {name}")));
    };
    let deleted = resolved.switch("execute");
    let (partitions, records) = (sized.topic.partitions.len(), sized.records());
    if deleted {
        delete_topic(cluster, &name).map_err(failure)?;
    }
    let deletion = Deletion { topic: name, partitions, records, deleted };
    show(resolved, &deletion, || {
        let mut text = format!(
            "topic {} with {partitions} partitions and {} records {}\n",
            deletion.topic,
            number(records),
            if deleted { "is deleted" } else { "would be deleted" }
        );
        if !deleted {
            // Writing into a string cannot fail.
            let _ = writeln!(text, "nothing was done: --execute does it");
        }
        text
    })
    .inspect(|()| {
        if !deleted && resolved.switch("json") {
            exit::say("konekt: nothing was done: --execute does it");
        }
    })
}
