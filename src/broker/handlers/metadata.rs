//! Who and where: Metadata, FindCoordinator, DescribeCluster. There is one node, and it is everything.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{
    DescribeClusterResponse, FindCoordinatorRequest, FindCoordinatorResponse, MetadataRequest, MetadataResponse,
};
use kafka_protocol::protocol::StrBytes;

use super::{Context, text};
use crate::broker::topics::Topic;

/// The key type of consumer groups in FindCoordinator.
const GROUP_KEY: i8 = 0;

/// Metadata (3): the one broker and the topics asked for, made first where that is allowed.
pub fn metadata(context: &Context, request: MetadataRequest) -> MetadataResponse {
    let shared = context.shared;
    // Version 0 has no null: an empty list means all topics there.
    let asked = request.topics.filter(|topics| context.version > 0 || !topics.is_empty());
    let may_create = request.allow_auto_topic_creation || context.version < 4;
    let mut topics: Vec<MetadataResponseTopic> = match asked {
        None => shared.topics.all().iter().map(|topic| describe(context, topic)).collect(),
        Some(asked) => asked.into_iter().map(|asked| find_or_create(context, asked, may_create)).collect(),
    };
    if let Some(code) = context.refused() {
        topics.iter_mut().for_each(|topic| topic.error_code = code);
    }
    let broker = MetadataResponseBroker::default()
        .with_node_id(shared.node_id.into())
        .with_host(text(&shared.advertised_host))
        .with_port(i32::from(shared.port));
    MetadataResponse::default()
        .with_brokers(vec![broker])
        .with_cluster_id(Some(text(&shared.cluster_id)))
        .with_controller_id(shared.node_id.into())
        .with_topics(topics)
}

fn find_or_create(context: &Context, asked: MetadataRequestTopic, may_create: bool) -> MetadataResponseTopic {
    let topics = &context.shared.topics;
    let Some(name) = asked.name else {
        return match topics.get_by_id(asked.topic_id) {
            Some(topic) => describe(context, &topic),
            None => MetadataResponseTopic::default()
                .with_name(None)
                .with_topic_id(asked.topic_id)
                .with_error_code(ResponseError::UnknownTopicId.code()),
        };
    };
    let refused = |code: i16| MetadataResponseTopic::default().with_name(Some(name.clone())).with_error_code(code);
    match (topics.get(&name), context.shared.auto_create_partitions) {
        (Some(topic), _) => describe(context, &topic),
        (None, Some(partitions)) if may_create => match topics.create(&name, partitions) {
            Ok(topic) => describe(context, &topic),
            // Another connection was faster: the client asks again and finds it.
            Err(crate::broker::TopicError::Exists(_)) => refused(ResponseError::LeaderNotAvailable.code()),
            Err(error) => refused(error.code()),
        },
        (None, _) => refused(ResponseError::UnknownTopicOrPartition.code()),
    }
}

fn describe(context: &Context, topic: &Topic) -> MetadataResponseTopic {
    let node = context.shared.node_id.into();
    let leader_epoch = |index| topic.partition(index).map_or(-1, |log| log.lock().leader_epoch());
    let partition = |index| {
        MetadataResponsePartition::default()
            .with_partition_index(index)
            .with_leader_id(node)
            .with_leader_epoch(leader_epoch(index))
            .with_replica_nodes(vec![node])
            .with_isr_nodes(vec![node])
    };
    MetadataResponseTopic::default()
        .with_name(Some(text(&topic.name).into()))
        .with_topic_id(topic.id)
        .with_partitions((0..topic.partition_count()).map(partition).collect())
}

/// FindCoordinator (10): this node for every group. Transactions have no coordinator; the error is one that both Java
/// and librdkafka give up on at once, where they would retry a more fitting one for ever.
pub fn find_coordinator(context: &Context, request: FindCoordinatorRequest) -> FindCoordinatorResponse {
    let unsupported = (request.key_type != GROUP_KEY).then(|| ResponseError::TransactionalIdAuthorizationFailed.code());
    let error_message = unsupported.map(|_| text("the embedded broker has no transactions"));
    let error_code = context.refused().or(unsupported).unwrap_or(0);
    let shared = context.shared;
    // An error comes without an address.
    let (node_id, host, port) = match error_code {
        0 => (shared.node_id, text(&shared.advertised_host), i32::from(shared.port)),
        _ => (-1, StrBytes::new(), -1),
    };
    let coordinator = |key| {
        Coordinator::default()
            .with_key(key)
            .with_node_id(node_id.into())
            .with_host(host.clone())
            .with_port(port)
            .with_error_code(error_code)
            .with_error_message(error_message.clone())
    };
    if context.version >= 4 {
        let coordinators = request.coordinator_keys.into_iter().map(coordinator).collect();
        return FindCoordinatorResponse::default().with_coordinators(coordinators);
    }
    FindCoordinatorResponse::default()
        .with_error_code(error_code)
        .with_error_message(error_message)
        .with_node_id(node_id.into())
        .with_host(host)
        .with_port(port)
}

/// DescribeCluster (60).
pub fn describe_cluster(context: &Context) -> DescribeClusterResponse {
    let shared = context.shared;
    let broker = DescribeClusterBroker::default()
        .with_broker_id(shared.node_id.into())
        .with_host(text(&shared.advertised_host))
        .with_port(i32::from(shared.port));
    DescribeClusterResponse::default()
        .with_error_code(context.refused().unwrap_or(0))
        .with_cluster_id(text(&shared.cluster_id))
        .with_controller_id(shared.node_id.into())
        .with_brokers(vec![broker])
}
