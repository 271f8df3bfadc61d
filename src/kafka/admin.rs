//! Creates topics, for tools and tests (CreateTopics, API key 19).

use std::sync::Arc;

use kafka_protocol::messages::CreateTopicsRequest;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::create_topics_response::CreatableTopicResult;
use kafka_protocol::protocol::StrBytes;

use super::cluster::{Cluster, Metadata, TopicsWanted, topic_name};
use super::error::{Code, Error};
use crate::door;

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
    let result = answer.topics.into_iter().next().ok_or_else(|| Error::Malformed {
        address: address.clone(),
        api: "CreateTopics",
        what: format!("topic {name} is missing in it"),
    })?;
    if result.error_code != 0 {
        return Err(refused(address, name, &result));
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
    let timeout_ms = cluster.options().request_timeout.as_millis().min(i32::MAX as u128) as i32;
    CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(timeout_ms)
}

fn refused(address: String, name: &str, result: &CreatableTopicResult) -> Error {
    Error::Broker {
        address,
        api: "CreateTopics",
        subject: format!("topic {name}"),
        code: Code(result.error_code),
        message: result.error_message.as_ref().map(|text| text.to_string()),
    }
}

fn is_ready(metadata: &Metadata, name: &str, partitions: i32) -> bool {
    metadata.topics.get(name).is_some_and(|topic| {
        topic.error.is_ok()
            && topic.partitions.len() >= partitions.max(1) as usize
            && topic.partitions.iter().all(|partition| partition.leader.is_some())
    })
}
