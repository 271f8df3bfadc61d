//! Topics and the brokers that hold them: described, created, deleted. APIs: Metadata (3), CreateTopics (19),
//! DeleteTopics (20).

use std::sync::Arc;

use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::metadata_response::{MetadataResponse, MetadataResponsePartition};
use kafka_protocol::messages::{CreateTopicsRequest, DeleteTopicsRequest};
use kafka_protocol::protocol::StrBytes;

use serde::Serialize;

use crate::door;
use crate::kafka::cluster::{Cluster, Metadata, TopicsWanted, join_address, metadata_request, topic_name};
use crate::kafka::error::{Code, Error};

/// A cluster with its brokers and topics.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ClusterDescription {
    pub cluster_id: Option<String>,
    /// By node id.
    pub brokers: Vec<BrokerDescription>,
    /// By name.
    pub topics: Vec<TopicDescription>,
}

/// One broker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BrokerDescription {
    pub node: i32,
    /// `host:port`.
    pub address: String,
    pub rack: Option<String>,
}

/// One topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TopicDescription {
    pub name: String,
    /// Nil where the broker has no topic ids.
    pub id: String,
    /// Whether it belongs to Kafka itself (`__consumer_offsets`).
    pub internal: bool,
    /// In the order of their indexes.
    pub partitions: Vec<PartitionDescription>,
}

/// One partition and who holds it, by node ids.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PartitionDescription {
    pub partition: i32,
    /// `None` while one is being elected.
    pub leader: Option<i32>,
    pub replicas: Vec<i32>,
    pub in_sync: Vec<i32>,
}

impl PartitionDescription {
    /// Whether a replica is missing or behind.
    pub fn is_under_replicated(&self) -> bool {
        self.in_sync.len() < self.replicas.len()
    }
}

/// Brokers, and the topics asked for.
///
/// # Errors
/// The first error of a topic that was asked for by name.
pub fn describe_cluster(cluster: &Cluster, topics: TopicsWanted<'_>) -> Result<ClusterDescription, Error> {
    let (address, answer) = cluster.ask(&metadata_request(topics))?;
    if let (TopicsWanted::Names(_), Some(bad)) = (topics, answer.topics.iter().find(|topic| topic.error_code != 0)) {
        let name = bad.name.as_ref().map_or("", |name| name.as_str());
        return Err(refused(address, "Metadata", name, bad.error_code, None));
    }
    Ok(read_cluster(answer))
}

fn read_cluster(answer: MetadataResponse) -> ClusterDescription {
    let brokers = answer.brokers.iter().map(|broker| BrokerDescription {
        node: broker.node_id.0,
        address: join_address(&broker.host, broker.port),
        rack: broker.rack.as_ref().map(|rack| rack.to_string()),
    });
    let topics = answer.topics.iter().filter_map(|topic| {
        let mut partitions: Vec<_> = topic.partitions.iter().map(read_partition).collect();
        partitions.sort_by_key(|partition| partition.partition);
        let (name, id) = (topic.name.as_ref()?.to_string(), topic.topic_id.to_string());
        Some(TopicDescription { name, id, internal: topic.is_internal, partitions })
    });
    let (mut brokers, mut topics): (Vec<_>, Vec<_>) = (brokers.collect(), topics.collect());
    brokers.sort_by_key(|broker| broker.node);
    topics.sort_by(|a, b| a.name.cmp(&b.name));
    ClusterDescription { cluster_id: answer.cluster_id.map(|id| id.to_string()), brokers, topics }
}

fn read_partition(partition: &MetadataResponsePartition) -> PartitionDescription {
    let nodes = |nodes: &[kafka_protocol::messages::BrokerId]| nodes.iter().map(|node| node.0).collect();
    PartitionDescription {
        partition: partition.partition_index,
        leader: Some(partition.leader_id.0).filter(|node| *node >= 0),
        replicas: nodes(&partition.replica_nodes),
        in_sync: nodes(&partition.isr_nodes),
    }
}

/// Deletes a topic with its records.
///
/// # Errors
/// [`Error::Broker`] when it does not exist, or may not be deleted.
pub fn delete_topic(cluster: &Cluster, name: &str) -> Result<(), Error> {
    let request =
        DeleteTopicsRequest::default().with_topic_names(vec![topic_name(name)]).with_timeout_ms(timeout_ms(cluster));
    let (address, answer) = cluster.ask(&request)?;
    match answer.responses.into_iter().next() {
        Some(result) if result.error_code == 0 => Ok(()),
        Some(result) => Err(refused(address, "DeleteTopics", name, result.error_code, result.error_message)),
        None => Err(missing(address, "DeleteTopics", name)),
    }
}

/// Creates a topic and waits until each of its partitions has a leader. `configs` are topic settings such as
/// `("cleanup.policy", "compact")`; a replication factor of −1 is the broker's default.
///
/// # Errors
/// [`Error::Broker`] with `TOPIC_ALREADY_EXISTS` among others; [`Error::NoLeader`] when the partitions have no leaders
/// within `request_timeout`, though the topic exists then.
pub fn create_topic(
    cluster: &Cluster,
    name: &str,
    partitions: i32,
    replication: i16,
    configs: &[(&str, &str)],
) -> Result<(), Error> {
    let deadline = door::now() + cluster.options().request_timeout;
    let request = request(cluster, name, partitions, replication, configs);
    let (address, answer) = cluster.ask(&request)?;
    match answer.topics.into_iter().next() {
        Some(result) if result.error_code == 0 => {}
        Some(result) => return Err(refused(address, "CreateTopics", name, result.error_code, result.error_message)),
        None => return Err(missing(address, "CreateTopics", name)),
    }
    let topic: Arc<str> = name.into();
    while !is_ready(&*cluster.refresh(TopicsWanted::Names(std::slice::from_ref(&topic)))?, name, partitions) {
        if door::now() >= deadline {
            return Err(Error::NoLeader { subject: format!("topic {name}") });
        }
    }
    Ok(())
}

fn request(
    cluster: &Cluster,
    name: &str,
    partitions: i32,
    replication: i16,
    configs: &[(&str, &str)],
) -> CreateTopicsRequest {
    let text = |text: &str| StrBytes::from_string(text.into());
    let config = |(name, value): &(&str, &str)| {
        CreatableTopicConfig::default().with_name(text(name)).with_value(Some(text(value)))
    };
    let topic = CreatableTopic::default()
        .with_name(topic_name(name))
        .with_num_partitions(partitions)
        .with_replication_factor(replication)
        .with_configs(configs.iter().map(config).collect());
    CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(timeout_ms(cluster))
}

fn timeout_ms(cluster: &Cluster) -> i32 {
    cluster.options().request_timeout.as_millis().min(i32::MAX as u128) as i32
}

fn refused(address: String, api: &'static str, topic: &str, code: i16, message: Option<StrBytes>) -> Error {
    let (subject, message) = (format!("topic {topic}"), message.map(|text| text.to_string()));
    Error::Broker { address, api, subject, code: Code(code), message }
}

fn missing(address: String, api: &'static str, topic: &str) -> Error {
    Error::Malformed { address, api, what: format!("topic {topic} is missing in it") }
}

fn is_ready(metadata: &Metadata, name: &str, partitions: i32) -> bool {
    metadata.topics.get(name).is_some_and(|topic| {
        topic.error.is_ok()
            && topic.partitions.len() >= partitions.max(1) as usize
            && topic.partitions.iter().all(|partition| partition.leader.is_some())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::connection::ConnectionOptions;
    use crate::kafka::scripted::{Answer, ScriptedBroker, one_broker};
    use kafka_protocol::messages::ApiKey;
    use kafka_protocol::messages::create_topics_response::{CreatableTopicResult, CreateTopicsResponse};
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// A broker that refuses the topic `old`, and whose new topics get their second leader late.
    fn cluster_of() -> (ScriptedBroker, Cluster) {
        let asked = AtomicUsize::new(0);
        let offered = [(ApiKey::Metadata, 12), (ApiKey::CreateTopics, 7)];
        let broker = ScriptedBroker::start(&offered, move |call, port| match call.key {
            ApiKey::Metadata => {
                let mut metadata = one_broker(port, "new", 2);
                if asked.fetch_add(1, Ordering::Relaxed) < 3 {
                    metadata.topics[0].partitions[1].leader_id = (-1).into();
                }
                call.answer(metadata)
            }
            ApiKey::CreateTopics => {
                let request: CreateTopicsRequest = call.read();
                let topic = &request.topics[0];
                assert_eq!((topic.num_partitions, topic.replication_factor, topic.configs.len()), (2, -1, 1));
                let code = if topic.name.as_str() == "old" { 36 } else { 0 };
                let result = CreatableTopicResult::default().with_name(topic.name.clone()).with_error_code(code);
                call.answer(CreateTopicsResponse::default().with_topics(vec![result]))
            }
            _ => Answer::HangUp,
        });
        let cluster = Cluster::connect(std::slice::from_ref(&broker.address), ConnectionOptions::default()).unwrap();
        (broker, cluster)
    }

    #[test]
    fn a_topic_is_ready_when_every_partition_has_a_leader() {
        let (_broker, cluster) = cluster_of();
        create_topic(&cluster, "new", 2, -1, &[("cleanup.policy", "compact")]).unwrap();
        assert_eq!(cluster.metadata().leader("new", 1), Some(1));
    }

    #[test]
    fn a_refusal_names_the_topic() {
        let (_broker, cluster) = cluster_of();
        let error = create_topic(&cluster, "old", 2, -1, &[("cleanup.policy", "compact")]).unwrap_err();
        assert_eq!(error.code(), Some(Code::TOPIC_ALREADY_EXISTS));
        assert!(error.to_string().contains("topic old"), "{error}");
    }
}
