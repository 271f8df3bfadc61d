//! Membership and committed offsets.

use std::thread;

use bytes::Bytes;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    DescribeGroupsRequest, HeartbeatRequest, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, ListGroupsRequest,
    OffsetCommitRequest, OffsetFetchRequest, SyncGroupRequest, SyncGroupResponse,
};
use kafka_protocol::protocol::StrBytes;

use crate::raw::{Client, broker_with, join_of, send_join, text, topic_name};

fn sync(client: &mut Client, joined: &JoinGroupResponse, assignments: &[(&str, &'static [u8])]) -> SyncGroupResponse {
    let assignment = |(member_id, assignment): &(&str, &'static [u8])| {
        SyncGroupRequestAssignment::default()
            .with_member_id(text(member_id))
            .with_assignment(Bytes::from_static(assignment))
    };
    let request = SyncGroupRequest::default()
        .with_group_id(text("g").into())
        .with_generation_id(joined.generation_id)
        .with_member_id(joined.member_id.clone())
        .with_protocol_type(joined.protocol_type.clone())
        .with_protocol_name(joined.protocol_name.clone())
        .with_assignments(assignments.iter().map(assignment).collect());
    client.ask(5, &request)
}

fn commit(client: &mut Client, joined: &JoinGroupResponse, offset: i64) -> i16 {
    let partition = OffsetCommitRequestPartition::default().with_partition_index(0).with_committed_offset(offset);
    let topic = OffsetCommitRequestTopic::default().with_name(topic_name("t")).with_partitions(vec![partition]);
    let request = OffsetCommitRequest::default()
        .with_group_id(text("g").into())
        .with_generation_id_or_member_epoch(joined.generation_id)
        .with_member_id(joined.member_id.clone())
        .with_topics(vec![topic]);
    client.ask(8, &request).topics[0].partitions[0].error_code
}

#[test]
fn two_members_join_divide_and_one_leaves() {
    let broker = broker_with(&[("t", 2)]);
    let (mut a, mut b) = (Client::connect(&broker), Client::connect(&broker));
    let first = a.ask(9, &join_of(""));
    send_join(&mut b);
    a.send(9, &join_of(&first.member_id));
    let joined_a = a.receive::<JoinGroupRequest>(9).unwrap();
    let joined_b = b.receive::<JoinGroupRequest>(9).unwrap();
    assert_eq!((joined_a.error_code, joined_b.error_code), (0, 0));
    assert_eq!((&joined_a.leader, joined_a.generation_id), (&joined_b.leader, joined_b.generation_id));
    let a_leads = joined_a.leader == joined_a.member_id;
    let (leader, follower) =
        if a_leads { ((&mut a, &joined_a), (&mut b, &joined_b)) } else { ((&mut b, &joined_b), (&mut a, &joined_a)) };
    assert_eq!((leader.1.members.len(), follower.1.members.len()), (2, 0));

    let parts: &[(&str, &'static [u8])] = &[(&leader.1.member_id, b"0"), (&follower.1.member_id, b"1")];
    let waiting = thread::scope(|scope| {
        let waiting = scope.spawn(|| sync(follower.0, follower.1, &[]));
        assert_eq!(sync(leader.0, leader.1, parts).assignment, "0");
        waiting.join().unwrap()
    });
    assert_eq!(waiting.assignment, "1");
    assert_eq!(commit(follower.0, follower.1, 41), 0);
    assert_eq!(broker.committed("g", "t", 0), Some(41));

    let leave = LeaveGroupRequest::default().with_group_id(text("g").into()).with_member_id(leader.1.member_id.clone());
    assert_eq!(leader.0.ask(2, &leave).error_code, 0);
    let beat = HeartbeatRequest::default()
        .with_group_id(text("g").into())
        .with_generation_id(follower.1.generation_id)
        .with_member_id(follower.1.member_id.clone());
    assert_eq!(follower.0.ask(4, &beat).error_code, 27, "the one who stays must join again");
    let again = follower.0.ask(9, &join_of(&follower.1.member_id));
    assert_eq!((again.error_code, again.leader == again.member_id), (0, true));
    assert_eq!(commit(follower.0, follower.1, 42), 22, "a commit of the old generation");
    assert_eq!(broker.committed("g", "t", 0), Some(41));
}

#[test]
fn the_life_of_a_member_in_every_version() {
    let broker = broker_with(&[("t", 1)]);
    let mut client = Client::connect(&broker);
    for version in 0..=9i16 {
        let group = text(&format!("g{version}"));
        let instance = (version >= 5).then(|| text("instance"));
        let join = join_of("").with_group_id(group.clone().into()).with_group_instance_id(instance.clone());
        let mut joined = client.ask(version, &join);
        if joined.error_code == 79 {
            joined = client.ask(version, &join.with_member_id(joined.member_id));
        }
        assert_eq!((joined.error_code, joined.generation_id, joined.members.len()), (0, 1, 1), "JoinGroup {version}");

        let assignment = SyncGroupRequestAssignment::default()
            .with_member_id(joined.member_id.clone())
            .with_assignment(Bytes::from_static(b"all"));
        let sync = SyncGroupRequest::default()
            .with_group_id(group.clone().into())
            .with_generation_id(1)
            .with_member_id(joined.member_id.clone())
            .with_protocol_name((version >= 5).then(|| text("range")))
            .with_assignments(vec![assignment]);
        assert_eq!(client.ask(version.min(5), &sync).assignment, "all", "SyncGroup {version}");

        let partition = OffsetCommitRequestPartition::default().with_partition_index(0).with_committed_offset(7);
        let topic = OffsetCommitRequestTopic::default().with_name(topic_name("t")).with_partitions(vec![partition]);
        let commit = OffsetCommitRequest::default()
            .with_group_id(group.clone().into())
            .with_generation_id_or_member_epoch(1)
            .with_member_id(joined.member_id.clone())
            .with_topics(vec![topic]);
        let code = client.ask(version.max(2), &commit).topics[0].partitions[0].error_code;
        assert_eq!(code, 0, "OffsetCommit {version}");
        assert_eq!(committed(&mut client, version.max(1), &group), 7, "OffsetFetch {version}");

        let describe = DescribeGroupsRequest::default().with_groups(vec![group.clone().into()]);
        let described = &client.ask(version.min(6), &describe).groups[0];
        let member = &described.members[0];
        assert_eq!((&*described.group_state, &member.member_assignment[..]), ("Stable", &b"all"[..]));

        let gone = MemberIdentity::default().with_member_id(joined.member_id.clone()).with_group_instance_id(instance);
        let leave = LeaveGroupRequest::default().with_group_id(group.into());
        let leave = if version < 3 { leave.with_member_id(joined.member_id) } else { leave.with_members(vec![gone]) };
        let left = client.ask(version.min(5), &leave);
        assert_eq!((left.error_code, left.members.iter().all(|member| member.error_code == 0)), (0, true), "{left:?}");
    }
    let listed = client.ask(5, &ListGroupsRequest::default()).groups;
    assert_eq!((listed.len(), listed.iter().all(|group| &*group.group_state == "Empty")), (10, true));
}

fn committed(client: &mut Client, version: i16, group: &StrBytes) -> i64 {
    if version >= 8 {
        let topic = OffsetFetchRequestTopics::default().with_name(topic_name("t")).with_partition_indexes(vec![0]);
        let one = OffsetFetchRequestGroup::default().with_group_id(group.clone().into()).with_topics(Some(vec![topic]));
        let response = client.ask(version, &OffsetFetchRequest::default().with_groups(vec![one]));
        return response.groups[0].topics[0].partitions[0].committed_offset;
    }
    let topic = OffsetFetchRequestTopic::default().with_name(topic_name("t")).with_partition_indexes(vec![0]);
    let request = OffsetFetchRequest::default().with_group_id(group.clone().into()).with_topics(Some(vec![topic]));
    client.ask(version, &request).topics[0].partitions[0].committed_offset
}
