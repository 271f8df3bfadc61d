//! What a member says to its coordinator.

use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{HeartbeatRequest, JoinGroupRequest, LeaveGroupRequest, SyncGroupRequest};

use crate::kafka::assignor::Assignor;
use crate::kafka::group::{Common, millis, text};
use crate::kafka::membership::Subscription;

const PROTOCOL_TYPE: &str = "consumer";

pub(super) fn join(common: &Common) -> JoinGroupRequest {
    let owned = common.owned.iter().cloned().collect();
    let generation = (common.generation >= 0).then_some(common.generation);
    let subscription = Subscription { topics: common.topics.keys().cloned().collect(), owned, generation };
    let protocols = common.options.assignors.iter().map(|assignor| {
        JoinGroupRequestProtocol::default()
            .with_name(text(assignor.name()))
            .with_metadata(subscription.encode(assignor.is_cooperative()))
    });
    JoinGroupRequest::default()
        .with_group_id(common.group_id())
        .with_session_timeout_ms(millis(common.options.session_timeout))
        .with_rebalance_timeout_ms(millis(common.options.rebalance_timeout))
        .with_member_id(text(&common.member_id))
        .with_group_instance_id(common.instance())
        .with_protocol_type(text(PROTOCOL_TYPE))
        .with_protocols(protocols.collect())
}

pub(super) fn sync(
    common: &Common,
    assignor: Option<Assignor>,
    plan: Vec<SyncGroupRequestAssignment>,
) -> SyncGroupRequest {
    SyncGroupRequest::default()
        .with_group_id(common.group_id())
        .with_generation_id(common.generation)
        .with_member_id(text(&common.member_id))
        .with_group_instance_id(common.instance())
        .with_protocol_type(Some(text(PROTOCOL_TYPE)))
        .with_protocol_name(assignor.map(|assignor| text(assignor.name())))
        .with_assignments(plan)
}

pub(super) fn heartbeat(common: &Common) -> HeartbeatRequest {
    HeartbeatRequest::default()
        .with_group_id(common.group_id())
        .with_generation_id(common.generation)
        .with_member_id(text(&common.member_id))
        .with_group_instance_id(common.instance())
}

pub(super) fn leave(common: &Common) -> LeaveGroupRequest {
    let member = MemberIdentity::default()
        .with_member_id(text(&common.member_id))
        .with_reason(Some(text("the consumer is closing")));
    LeaveGroupRequest::default().with_group_id(common.group_id()).with_members(vec![member])
}
