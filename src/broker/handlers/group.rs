//! Membership: JoinGroup, SyncGroup, Heartbeat, LeaveGroup, and what administrators ask about groups.

use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::delete_groups_response::DeletableGroupResult;
use kafka_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::leave_group_response::MemberResponse;
use kafka_protocol::messages::list_groups_response::ListedGroup;
use kafka_protocol::messages::{
    DeleteGroupsRequest, DeleteGroupsResponse, DescribeGroupsRequest, DescribeGroupsResponse, GroupId,
    HeartbeatRequest, HeartbeatResponse, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, LeaveGroupResponse,
    ListGroupsRequest, ListGroupsResponse, SyncGroupRequest, SyncGroupResponse,
};
use kafka_protocol::protocol::StrBytes;

use super::{Answer, Context, text};
use crate::broker::group::{Caller, Group, Join, JoinAnswer, Joined, Member, SyncAnswer};
use crate::broker::topics::random_id;

const STOPPING: &str = "the broker stops while a member waits";

/// JoinGroup (11).
pub fn join(context: &Context, request: JoinGroupRequest) -> Answer {
    let group_id = request.group_id.to_string();
    let refused = context.refused().or(group_id.is_empty().then(|| ResponseError::InvalidGroupId.code()));
    if let Some(code) = refused {
        return Answer::of(refused_join(code, request.member_id));
    }
    match context.shared.groups.join(&group_id, join_of(context, request)) {
        Some(answer) => Answer::of(join_response(context, answer)),
        None => Answer::Hangup(STOPPING.to_owned()),
    }
}

fn join_of(context: &Context, request: JoinGroupRequest) -> Join {
    let millis = |value: i32| Duration::from_millis(u64::try_from(value).unwrap_or(0));
    // Version 0 has one timeout for both.
    let rebalance_timeout_ms =
        if context.version == 0 { request.session_timeout_ms } else { request.rebalance_timeout_ms };
    let client = if context.client_id.is_empty() { "member" } else { context.client_id };
    Join {
        member_id: request.member_id.to_string(),
        offered_id: format!("{client}-{}", random_id()),
        instance_id: request.group_instance_id.as_ref().map(ToString::to_string),
        client_id: context.client_id.to_owned(),
        client_host: format!("/{}", context.client_host),
        protocol_type: request.protocol_type.to_string(),
        protocols: request
            .protocols
            .into_iter()
            .map(|protocol| (protocol.name.to_string(), copied(&protocol.metadata)))
            .collect(),
        session_timeout: millis(request.session_timeout_ms),
        rebalance_timeout: millis(rebalance_timeout_ms),
        must_know_id: context.version >= 4,
        can_skip_assignment: context.version >= 9,
    }
}

/// Bytes that do not keep the whole request alive.
fn copied(bytes: &Bytes) -> Bytes {
    Bytes::copy_from_slice(bytes)
}

fn join_response(context: &Context, answer: JoinAnswer) -> JoinGroupResponse {
    match answer {
        Ok(joined) => accepted_join(joined),
        Err(refused) => {
            ::log::debug!("embedded broker: a join of client '{}' gets {:?}", context.client_id, refused.error);
            refused_join(refused.error.code(), StrBytes::from_string(refused.member_id))
        }
    }
}

fn accepted_join(joined: Joined) -> JoinGroupResponse {
    let members = joined.members.into_iter().map(|member| {
        JoinGroupResponseMember::default()
            .with_member_id(StrBytes::from_string(member.member_id))
            .with_group_instance_id(member.instance_id.map(StrBytes::from_string))
            .with_metadata(member.metadata)
    });
    JoinGroupResponse::default()
        .with_generation_id(joined.generation)
        .with_protocol_type(Some(StrBytes::from_string(joined.protocol_type)))
        .with_protocol_name(Some(StrBytes::from_string(joined.protocol)))
        .with_leader(StrBytes::from_string(joined.leader))
        .with_skip_assignment(joined.skip_assignment)
        .with_member_id(StrBytes::from_string(joined.member_id))
        .with_members(members.collect())
}

fn refused_join(code: i16, member_id: StrBytes) -> JoinGroupResponse {
    // No null before version 7; an empty name is taken for none by all.
    JoinGroupResponse::default()
        .with_error_code(code)
        .with_generation_id(-1)
        .with_protocol_name(Some(StrBytes::new()))
        .with_member_id(member_id)
}

/// SyncGroup (14).
pub fn sync(context: &Context, request: SyncGroupRequest) -> Answer {
    if let Some(code) = context.refused() {
        return Answer::of(SyncGroupResponse::default().with_error_code(code));
    }
    let caller = caller(&request.member_id, request.group_instance_id.as_ref(), request.generation_id);
    let assignments = request.assignments.iter().map(|one| (one.member_id.to_string(), copied(&one.assignment)));
    let groups = &context.shared.groups;
    match groups.sync(&request.group_id, &caller, request.protocol_name.as_deref(), assignments.collect()) {
        Some(answer) => Answer::of(sync_response(answer)),
        None => Answer::Hangup(STOPPING.to_owned()),
    }
}

fn sync_response(answer: SyncAnswer) -> SyncGroupResponse {
    match answer {
        Ok(synced) => SyncGroupResponse::default()
            .with_protocol_type(Some(StrBytes::from_string(synced.protocol_type)))
            .with_protocol_name(Some(StrBytes::from_string(synced.protocol)))
            .with_assignment(synced.assignment),
        Err(error) => SyncGroupResponse::default().with_error_code(error.code()),
    }
}

/// The identity in a request.
pub fn caller(member_id: &str, instance_id: Option<&StrBytes>, generation: i32) -> Caller {
    Caller { member_id: member_id.to_owned(), instance_id: instance_id.map(ToString::to_string), generation }
}

/// The error code of something done with a group, `absent` when there is no such group.
pub fn code_of(outcome: Option<Result<(), ResponseError>>, absent: ResponseError) -> i16 {
    outcome.unwrap_or(Err(absent)).map_or_else(|error| error.code(), |()| 0)
}

/// Heartbeat (12).
pub fn heartbeat(context: &Context, request: &HeartbeatRequest) -> HeartbeatResponse {
    let beat = || {
        let caller = caller(&request.member_id, request.group_instance_id.as_ref(), request.generation_id);
        let outcome = context.shared.groups.with(&request.group_id, |group, now| group.heartbeat(now, &caller));
        code_of(outcome, ResponseError::UnknownMemberId)
    };
    HeartbeatResponse::default().with_error_code(context.refused().unwrap_or_else(beat))
}

/// LeaveGroup (13): one member, from version 3 on several.
pub fn leave(context: &Context, request: LeaveGroupRequest) -> LeaveGroupResponse {
    if let Some(code) = context.refused() {
        return LeaveGroupResponse::default().with_error_code(code);
    }
    let leave = |member_id: &str, instance_id: Option<&str>| {
        let groups = &context.shared.groups;
        let outcome = groups.with(&request.group_id, |group, now| group.leave(now, member_id, instance_id));
        code_of(outcome, ResponseError::UnknownMemberId)
    };
    if context.version < 3 {
        return LeaveGroupResponse::default().with_error_code(leave(&request.member_id, None));
    }
    let member = |member: &MemberIdentity| {
        MemberResponse::default()
            .with_member_id(member.member_id.clone())
            .with_group_instance_id(member.group_instance_id.clone())
            .with_error_code(leave(&member.member_id, member.group_instance_id.as_deref()))
    };
    LeaveGroupResponse::default().with_members(request.members.iter().map(member).collect())
}

/// DescribeGroups (15).
pub fn describe(context: &Context, request: DescribeGroupsRequest) -> DescribeGroupsResponse {
    let one = |group_id: GroupId| {
        let known = context.shared.groups.with(&group_id, |group, _| described(group));
        let answer = match context.refused() {
            Some(code) => DescribedGroup::default().with_error_code(code),
            None => known.unwrap_or_else(|| unknown_group(context)),
        };
        answer.with_group_id(group_id)
    };
    DescribeGroupsResponse::default().with_groups(request.groups.into_iter().map(one).collect())
}

fn described(group: &mut Group) -> DescribedGroup {
    let member = |(member_id, member): (&String, &Member)| {
        DescribedGroupMember::default()
            .with_member_id(text(member_id))
            .with_group_instance_id(member.instance_id.as_deref().map(text))
            .with_client_id(text(&member.client_id))
            .with_client_host(text(&member.client_host))
            .with_member_metadata(member.metadata(group.protocol()))
            .with_member_assignment(member.assignment.clone())
    };
    DescribedGroup::default()
        .with_group_state(StrBytes::from_static_str(group.phase_name()))
        .with_protocol_type(text(group.protocol_type()))
        .with_protocol_data(text(group.protocol()))
        .with_members(group.members().iter().map(member).collect())
}

/// A group that does not exist is dead; from version 6 on that is an error (KIP-1043).
fn unknown_group(context: &Context) -> DescribedGroup {
    let dead = DescribedGroup::default().with_group_state(StrBytes::from_static_str("Dead"));
    match context.version >= 6 {
        true => dead.with_error_code(ResponseError::GroupIdNotFound.code()),
        false => dead,
    }
}

/// ListGroups (16), filtered by state and type.
pub fn list(context: &Context, request: &ListGroupsRequest) -> ListGroupsResponse {
    let passes = |filter: &[StrBytes], value: &str| {
        filter.is_empty() || filter.iter().any(|wanted| wanted.eq_ignore_ascii_case(value))
    };
    let listed = context.shared.groups.list(|group_id, group| {
        ListedGroup::default()
            .with_group_id(text(group_id).into())
            .with_protocol_type(text(group.protocol_type()))
            .with_group_state(StrBytes::from_static_str(group.phase_name()))
            .with_group_type(StrBytes::from_static_str(group.type_name()))
    });
    let wanted = |group: &ListedGroup| {
        passes(&request.states_filter, &group.group_state) && passes(&request.types_filter, &group.group_type)
    };
    ListGroupsResponse::default()
        .with_error_code(context.refused().unwrap_or(0))
        .with_groups(listed.into_iter().filter(wanted).collect())
}

/// DeleteGroups (42).
pub fn delete(context: &Context, request: DeleteGroupsRequest) -> DeleteGroupsResponse {
    let one = |group_id: GroupId| {
        let code = context
            .refused()
            .unwrap_or_else(|| code_of(Some(context.shared.groups.delete(&group_id)), ResponseError::GroupIdNotFound));
        DeletableGroupResult::default().with_group_id(group_id).with_error_code(code)
    };
    DeleteGroupsResponse::default().with_results(request.groups_names.into_iter().map(one).collect())
}
