//! What a run will need of Kafka, asked before it begins: `konekt check`. Nothing is changed there and no group is
//! joined.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::core::digits::counted;
use crate::core::finding::Finding;
use crate::core::nearest::suggest;
use crate::core::record::TopicPartition;
use crate::kafka::admin::groups::describe_group;
use crate::kafka::admin::offsets::committed_offsets;
use crate::kafka::admin::timestamps::record_timestamps;
use crate::kafka::cluster::{Cluster, Metadata, TopicsWanted};
use crate::kafka::consumer::TopicSelection;
use crate::kafka::error::Error;
use crate::kafka::offsets::{Isolation, OffsetAt};

/// What will be read, and by whom.
pub struct Needs<'a> {
    pub topics: &'a TopicSelection,
    pub group_id: &'a str,
    pub isolation: Isolation,
    pub dead_letter_topic: Option<&'a str>,
}

/// Looks at the cluster, the topics, what may be read of them, and the group.
pub fn kafka(cluster: &Cluster, needs: &Needs<'_>) -> Vec<Finding> {
    let metadata = match cluster.refresh(TopicsWanted::All) {
        Ok(metadata) => metadata,
        Err(error) => return vec![Finding::bad("the cluster's topics", error)],
    };
    let mut findings = vec![brokers(&metadata)];
    let (topics, partitions) = topics(&metadata, needs.topics);
    findings.extend(topics);
    if !partitions.is_empty() {
        findings.extend(records(cluster, &partitions, needs.isolation));
    }
    findings.extend(group(cluster, needs.group_id));
    findings.extend(needs.dead_letter_topic.map(|topic| dead_letter_topic(&metadata, topic)));
    findings
}

fn brokers(metadata: &Metadata) -> Finding {
    let id = metadata.cluster_id.as_deref().map(|id| format!(" of the cluster {id}")).unwrap_or_default();
    Finding::good(format!("{}{id}", counted(metadata.brokers.len(), "broker")))
}

/// The topics that are meant, with the partitions that can be read.
fn topics(metadata: &Metadata, selection: &TopicSelection) -> (Vec<Finding>, Vec<TopicPartition>) {
    let mut names: Vec<Arc<str>> = match selection {
        TopicSelection::Names(names) => names.iter().map(|name| name.as_str().into()).collect(),
        TopicSelection::Pattern(pattern) => {
            let matches = |name: &str| pattern.is_match(name);
            let visible = metadata.topics.iter().filter(|(_, topic)| !topic.internal && topic.error.is_ok());
            visible.map(|(name, _)| Arc::clone(name)).filter(|name| matches(name)).collect()
        }
        TopicSelection::Partitions(partitions) => partitions.iter().map(|one| Arc::clone(&one.topic)).collect(),
    };
    names.dedup();
    if let (TopicSelection::Pattern(pattern), true) = (selection, names.is_empty()) {
        let fault = "no topic matches it yet; topics that are made later are taken in";
        return (vec![Finding::bad(format!("topics matching {pattern}"), fault)], Vec::new());
    }
    let (mut findings, mut partitions) = (Vec::new(), Vec::new());
    for name in names {
        let finding = topic(metadata, &name, &mut partitions);
        findings.push(finding);
    }
    (findings, partitions)
}

fn topic(metadata: &Metadata, name: &Arc<str>, partitions: &mut Vec<TopicPartition>) -> Finding {
    let what = format!("topic {name}");
    let Some(topic) = metadata.topics.get(name).filter(|topic| topic.error.is_ok()) else {
        let hint = suggest(name, metadata.topics.keys().map(|known| &**known));
        let fault = format!(
            "is not there, or may not be seen by this user{hint}; make it with `konekt admin topic create {name}`"
        );
        return Finding::bad(what, fault);
    };
    let (led, leaderless): (Vec<_>, Vec<_>) = topic.partitions.iter().partition(|one| one.leader.is_some());
    partitions.extend(led.iter().map(|one| TopicPartition::new(&**name, one.index)));
    if let Some(first) = leaderless.first() {
        let fault = format!(
            "{} without a leader, partition {} first: their brokers are down; nothing is read of them until they return",
            counted(leaderless.len(), "partition"),
            first.index
        );
        return Finding::bad(what, fault);
    }
    Finding::good(format!("{what}: {}", counted(led.len(), "partition")))
}

/// How much there is, and whether a record can be read: the right to read is one that only a read shows.
fn records(cluster: &Cluster, partitions: &[TopicPartition], isolation: Isolation) -> Vec<Finding> {
    let at = |at: OffsetAt| partitions.iter().map(|partition| (partition.clone(), at)).collect::<Vec<_>>();
    let ask = |offset| cluster.list_offsets(&at(offset), isolation);
    let (starts, ends) = match (ask(OffsetAt::Earliest), ask(OffsetAt::Latest)) {
        (Ok(starts), Ok(ends)) => (starts, ends),
        (Err(error), _) | (_, Err(error)) => return vec![Finding::bad("the logs' bounds", error)],
    };
    let (mut held, mut first, mut faults) = (0, BTreeMap::new(), Vec::new());
    for ((partition, start), (_, end)) in starts.into_iter().zip(ends) {
        match (start, end) {
            (Ok(start), Ok(end)) => {
                held += (end - start).max(0);
                if end > start {
                    first.insert(partition, start);
                }
            }
            (Err(error), _) | (_, Err(error)) => faults.push(error),
        }
    }
    if let Some(error) = faults.first() {
        return vec![Finding::bad(format!("the bounds of {}", counted(faults.len(), "log")), error)];
    }
    let mut findings = vec![Finding::good(format!("offsets in the logs: {held}"))];
    // One record, of the first partition that has any.
    if let Some((partition, start)) = first.into_iter().next() {
        findings.push(read_one(cluster, partition, start));
    }
    findings
}

fn read_one(cluster: &Cluster, partition: TopicPartition, start: i64) -> Finding {
    let what = format!("read a record of {partition}");
    match record_timestamps(cluster, &BTreeMap::from([(partition, start)])) {
        Ok(found) if !found.is_empty() => Finding::good(what),
        Ok(_) => {
            let fault = "its leader gives none: this user may lack the right READ on the topic (kafka-acls --add \
                         --operation Read), or the records are markers only";
            Finding::bad(what, fault)
        }
        Err(error) => Finding::bad(what, error),
    }
}

/// The group's state; no member is added.
fn group(cluster: &Cluster, group_id: &str) -> Vec<Finding> {
    let what = format!("group {group_id}");
    let described = match describe_group(cluster, group_id) {
        Ok(described) => described,
        Err(error) => return vec![Finding::bad(what, error)],
    };
    let found = match (described.members.len(), described.state.as_str()) {
        (0, "Dead") => format!("{what} is new; its coordinator is {}", described.coordinator),
        (0, _) => format!("{what} has no member now"),
        (members, state) => {
            format!("{what} is at work ({state}): {}; a further one shares the partitions", counted(members, "member"))
        }
    };
    let mut findings = vec![Finding::good(found)];
    match committed_offsets(cluster, group_id) {
        Ok(offsets) if offsets.is_empty() => findings.push(Finding::good("no offset is committed in Kafka yet")),
        Ok(offsets) => {
            let partitions = counted(offsets.len(), "partition");
            findings.push(Finding::good(format!("committed offsets in Kafka of {partitions}")));
        }
        Err(error) => findings.push(Finding::bad("the group's committed offsets", error)),
    }
    findings
}

fn dead_letter_topic(metadata: &Metadata, topic: &str) -> Finding {
    let what = format!("dead letter topic {topic}");
    match metadata.topics.get(topic).filter(|topic| topic.error.is_ok()) {
        Some(found) => Finding::good(format!("{what}: {}", counted(found.partitions.len(), "partition"))),
        None => Finding::bad(what, format!("is not there; make it with `konekt admin topic create {topic}`")),
    }
}

/// Why the cluster cannot be asked at all.
pub fn unreachable(bootstrap: &[String], error: &Error) -> Finding {
    Finding::bad(format!("brokers {}", bootstrap.join(",")), error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::{Broker, BrokerOptions, TopicSpec};
    use crate::kafka::connection::ConnectionOptions;

    /// What is found with a broker that has `orders` with two partitions, `orders-old` and `dead`.
    fn check(topics: TopicSelection, dead_letter_topic: Option<&str>, expected: &[(&str, Option<&str>)]) {
        let specs = ["orders", "orders-old", "dead"].map(|name| TopicSpec::new(name, 2)).to_vec();
        let broker = Broker::start(BrokerOptions { topics: specs, ..BrokerOptions::default() }).unwrap();
        let cluster = Cluster::connect(&[broker.address()], ConnectionOptions::default()).unwrap();
        let needs =
            Needs { topics: &topics, group_id: "billing", isolation: Isolation::ReadCommitted, dead_letter_topic };
        let found = kafka(&cluster, &needs);
        for (what, fault) in expected {
            let matching = found.iter().find(|finding| finding.what.starts_with(what));
            let matching = matching.unwrap_or_else(|| panic!("{what:?} is not among {found:#?}"));
            match (&matching.fault, fault) {
                (None, None) => {}
                (Some(said), Some(words)) if said.contains(words) => {}
                _ => panic!("{what}: expected {fault:?} of {matching:#?}"),
            }
        }
        let faults = |count: usize| expected.iter().filter(|(_, fault)| fault.is_some()).count() == count;
        assert!(faults(found.iter().filter(|finding| finding.fault.is_some()).count()), "{found:#?}");
    }

    #[test]
    fn what_is_there_is_found() {
        check(
            TopicSelection::names(["orders"]),
            Some("dead"),
            &[
                ("1 broker of the cluster", None),
                ("topic orders: 2 partitions", None),
                ("offsets in the logs: 0", None),
                ("group billing is new", None),
                ("no offset is committed", None),
                ("dead letter topic dead: 2 partitions", None),
            ],
        );
        let pattern = TopicSelection::pattern("orders.*").unwrap();
        check(pattern, None, &[("topic orders: 2", None), ("topic orders-old: 2", None)]);
    }

    #[test]
    fn what_is_missing_is_said_with_what_to_do() {
        check(
            TopicSelection::names(["oders"]),
            Some("letters"),
            &[
                ("topic oders", Some("did you mean orders?; make it with")),
                ("dead letter topic letters", Some("konekt admin topic create letters")),
            ],
        );
        check(TopicSelection::pattern("none-.*").unwrap(), None, &[("topics matching", Some("no topic matches"))]);
    }
}
