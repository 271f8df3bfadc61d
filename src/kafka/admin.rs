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

#[cfg(test)]
mod tests {
    use super::super::connection::ConnectionOptions;
    use super::super::scripted::{Answer, ScriptedBroker, one_broker};
    use super::*;
    use kafka_protocol::messages::ApiKey;
    use kafka_protocol::messages::create_topics_response::CreateTopicsResponse;
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
