//! What a member says to its coordinator.

use std::time::Duration;

use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{GroupId, HeartbeatRequest, JoinGroupRequest, LeaveGroupRequest, SyncGroupRequest};
use kafka_protocol::protocol::StrBytes;

use super::{Group, text};
use crate::kafka::membership::Subscription;

const PROTOCOL_TYPE: &str = "consumer";

impl Group {
    pub(super) fn join_request(&self) -> JoinGroupRequest {
        let owned = self.owned.iter().cloned().collect();
        let generation = (self.generation >= 0).then_some(self.generation);
        let subscription = Subscription { topics: self.topics.keys().cloned().collect(), owned, generation };
        let protocols = self.options.assignors.iter().map(|assignor| {
            JoinGroupRequestProtocol::default()
                .with_name(text(assignor.name()))
                .with_metadata(subscription.encode(assignor.is_cooperative()))
        });
        JoinGroupRequest::default()
            .with_group_id(self.group_id())
            .with_session_timeout_ms(millis(self.options.session_timeout))
            .with_rebalance_timeout_ms(millis(self.options.rebalance_timeout))
            .with_member_id(text(&self.member_id))
            .with_group_instance_id(self.instance())
            .with_protocol_type(text(PROTOCOL_TYPE))
            .with_protocols(protocols.collect())
    }

    pub(super) fn sync_request(&self, plan: Vec<SyncGroupRequestAssignment>) -> SyncGroupRequest {
        SyncGroupRequest::default()
            .with_group_id(self.group_id())
            .with_generation_id(self.generation)
            .with_member_id(text(&self.member_id))
            .with_group_instance_id(self.instance())
            .with_protocol_type(Some(text(PROTOCOL_TYPE)))
            .with_protocol_name(self.protocol.map(|assignor| text(assignor.name())))
            .with_assignments(plan)
    }

    pub(super) fn heartbeat_request(&self) -> HeartbeatRequest {
        HeartbeatRequest::default()
            .with_group_id(self.group_id())
            .with_generation_id(self.generation)
            .with_member_id(text(&self.member_id))
            .with_group_instance_id(self.instance())
    }

    pub(super) fn leave_request(&self) -> LeaveGroupRequest {
        let member = MemberIdentity::default()
            .with_member_id(text(&self.member_id))
            .with_reason(Some(text("the consumer is closing")));
        LeaveGroupRequest::default().with_group_id(self.group_id()).with_members(vec![member])
    }

    fn group_id(&self) -> GroupId {
        GroupId(text(&self.options.group_id))
    }

    fn instance(&self) -> Option<StrBytes> {
        self.options.instance.as_deref().map(text)
    }
}

fn millis(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}
