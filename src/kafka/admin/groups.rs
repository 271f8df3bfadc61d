//! Groups: which there are, and who is in them. APIs: ListGroups (16), DescribeGroups (15), and ConsumerGroupDescribe
//! (69) for those of the new protocol (KIP-848), which the classic question does not find.

use std::collections::BTreeMap;

use kafka_protocol::messages::consumer_group_describe_response::{Assignment, DescribedGroup as ConsumerGroup};
use kafka_protocol::messages::describe_groups_response::DescribedGroup as ClassicGroup;
use kafka_protocol::messages::{ConsumerGroupDescribeRequest, DescribeGroupsRequest, GroupId, ListGroupsRequest};
use kafka_protocol::protocol::StrBytes;
use serde::Serialize;

use super::{ask_coordinator, check};
use crate::kafka::cluster::{Cluster, TopicsWanted};
use crate::kafka::connection::Connection;
use crate::kafka::error::{Code, Error};
use crate::kafka::membership::decode_assignment;

/// A group as its coordinator lists it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct ListedGroup {
    pub group: String,
    /// `classic`, `consumer`, or another kind of Kafka 4; empty where the broker does not say.
    #[serde(rename = "type")]
    pub group_type: String,
    /// `Stable`, `Empty`, `PreparingRebalance` and so on.
    pub state: String,
    /// `consumer`, `connect`, or what else its members call themselves; empty without members.
    pub protocol_type: String,
    /// The node that coordinates it.
    pub coordinator: i32,
}

/// A group with its members.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GroupDescription {
    pub group: String,
    #[serde(rename = "type")]
    pub group_type: &'static str,
    /// `Dead` when the coordinator does not know the group.
    pub state: String,
    /// How the group shares partitions: `range`, `cooperative-sticky`, `uniform`; empty while there is no member.
    pub assignor: String,
    /// `host:port`.
    pub coordinator: String,
    pub members: Vec<GroupMember>,
}

/// A member and what it was given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GroupMember {
    pub member_id: String,
    /// Of a static member.
    pub instance_id: Option<String>,
    pub client_id: String,
    /// As the broker writes it: `/10.0.0.7`.
    pub host: String,
    /// Partitions by topic.
    pub assignment: BTreeMap<String, Vec<i32>>,
}

/// The groups of all brokers, by name.
///
/// # Errors
/// Of the first broker that cannot be asked: a list that lacks some groups would be a wrong answer.
pub fn list_groups(cluster: &Cluster) -> Result<Vec<ListedGroup>, Error> {
    let metadata = cluster.refresh(TopicsWanted::Names(&[]))?;
    let mut groups = Vec::new();
    for &node in metadata.brokers.keys() {
        let mut connection = cluster.connect_to(node)?;
        let answer = connection.call(&ListGroupsRequest::default())?;
        check(&connection, "ListGroups", || format!("node {node}"), answer.error_code, None::<String>)?;
        groups.extend(answer.groups.into_iter().map(|found| ListedGroup {
            group: found.group_id.to_string(),
            group_type: found.group_type.to_lowercase(),
            state: found.group_state.to_string(),
            protocol_type: found.protocol_type.to_string(),
            coordinator: node,
        }));
    }
    groups.sort();
    Ok(groups)
}

/// One group, of either protocol. A group that nobody knows is `Dead` and has no members.
///
/// # Errors
/// [`Error::Broker`] when the coordinator refuses, for want of authorization mostly; those of reaching it.
pub fn describe_group(cluster: &Cluster, group: &str) -> Result<GroupDescription, Error> {
    ask_coordinator(cluster, group, |connection| {
        if connection.supports::<ConsumerGroupDescribeRequest>(0)
            && let Some(found) = describe_consumer(connection, group)?
        {
            return Ok(found);
        }
        describe_classic(connection, group)
    })
}

fn group_id(group: &str) -> GroupId {
    GroupId(StrBytes::from_string(group.into()))
}

/// `None` when it is no group of the new protocol.
fn describe_consumer(connection: &mut Connection, group: &str) -> Result<Option<GroupDescription>, Error> {
    let request = ConsumerGroupDescribeRequest::default().with_group_ids(vec![group_id(group)]);
    let answer = connection.call(&request)?;
    let Some(found) = answer.groups.into_iter().next() else { return Ok(None) };
    // A broker before 4.0 offers the API and does not have it switched on.
    if matches!(Code(found.error_code), Code::GROUP_ID_NOT_FOUND | Code::UNSUPPORTED_VERSION) {
        return Ok(None);
    }
    let subject = || format!("group {group}");
    check(connection, "ConsumerGroupDescribe", subject, found.error_code, found.error_message.as_ref())?;
    Ok(Some(read_consumer(connection.address(), found)))
}

fn read_consumer(coordinator: &str, found: ConsumerGroup) -> GroupDescription {
    let partitions = |assignment: Assignment| {
        assignment.topic_partitions.into_iter().map(|of| (of.topic_name.to_string(), of.partitions)).collect()
    };
    let members = found.members.into_iter().map(|member| GroupMember {
        member_id: member.member_id.to_string(),
        instance_id: member.instance_id.map(|id| id.to_string()),
        client_id: member.client_id.to_string(),
        host: member.client_host.to_string(),
        assignment: partitions(member.assignment),
    });
    GroupDescription {
        group: found.group_id.to_string(),
        group_type: "consumer",
        state: found.group_state.to_string(),
        assignor: found.assignor_name.to_string(),
        coordinator: coordinator.into(),
        members: members.collect(),
    }
}

fn describe_classic(connection: &mut Connection, group: &str) -> Result<GroupDescription, Error> {
    let answer = connection.call(&DescribeGroupsRequest::default().with_groups(vec![group_id(group)]))?;
    let found = answer.groups.into_iter().next().ok_or_else(|| Error::Malformed {
        address: connection.address().into(),
        api: "DescribeGroups",
        what: format!("group {group} is missing in it"),
    })?;
    check(connection, "DescribeGroups", || format!("group {group}"), found.error_code, found.error_message.as_ref())?;
    Ok(read_classic(connection.address(), found))
}

/// What members of other kinds than consumers are given means nothing here: such a member has no partitions.
fn read_classic(coordinator: &str, found: ClassicGroup) -> GroupDescription {
    let are_consumers = found.protocol_type.as_str() == "consumer";
    let members = found.members.into_iter().map(|member| {
        let mut assignment: BTreeMap<String, Vec<i32>> = BTreeMap::new();
        let given = decode_assignment(&member.member_assignment).filter(|_| are_consumers);
        for partition in given.unwrap_or_default() {
            assignment.entry(partition.topic.to_string()).or_default().push(partition.partition);
        }
        GroupMember {
            member_id: member.member_id.to_string(),
            instance_id: member.group_instance_id.map(|id| id.to_string()),
            client_id: member.client_id.to_string(),
            host: member.client_host.to_string(),
            assignment,
        }
    });
    GroupDescription {
        group: found.group_id.to_string(),
        group_type: "classic",
        state: found.group_state.to_string(),
        assignor: found.protocol_data.to_string(),
        coordinator: coordinator.into(),
        members: members.collect(),
    }
}
