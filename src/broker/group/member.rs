//! A group's members, and what they ask and are told.

use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::ResponseError;

use super::Ticket;

/// A member, for DescribeGroups too.
#[derive(Debug)]
pub struct Member {
    pub instance_id: Option<String>,
    pub client_id: String,
    pub client_host: String,
    pub assignment: Bytes,
    pub(super) protocols: Vec<(String, Bytes)>,
    pub(super) session_timeout: Duration,
    pub(super) rebalance_timeout: Duration,
    pub(super) session_deadline: Duration,
    pub(super) joining: Option<Ticket>,
    pub(super) syncing: Option<Ticket>,
}

impl Member {
    pub(super) fn new(now: Duration, join: Join) -> Self {
        Self {
            instance_id: join.instance_id,
            client_id: join.client_id,
            client_host: join.client_host,
            assignment: Bytes::new(),
            protocols: join.protocols,
            session_timeout: join.session_timeout,
            rebalance_timeout: join.rebalance_timeout,
            session_deadline: now + join.session_timeout,
            joining: None,
            syncing: None,
        }
    }

    pub(super) fn renew(&mut self, now: Duration) {
        self.session_deadline = now + self.session_timeout;
    }

    /// A member that waits for us cannot be late itself.
    pub(super) fn is_waiting(&self) -> bool {
        self.joining.is_some() || self.syncing.is_some()
    }

    pub(super) fn supports(&self, protocol: &str) -> bool {
        self.protocols.iter().any(|(name, _)| name == protocol)
    }

    /// The subscription the member sent for a protocol.
    pub fn metadata(&self, protocol: &str) -> Bytes {
        self.protocols
            .iter()
            .find(|(name, _)| name == protocol)
            .map(|(_, metadata)| metadata.clone())
            .unwrap_or_default()
    }
}

/// A JoinGroup request.
#[derive(Clone, Debug, Default)]
pub struct Join {
    /// Empty for a member that has no id yet.
    pub member_id: String,
    /// The id that this member gets when it needs one; no other member may ever have had it.
    pub offered_id: String,
    pub instance_id: Option<String>,
    pub client_id: String,
    pub client_host: String,
    pub protocol_type: String,
    /// The member's assignors with its subscription for each, the preferred one first.
    pub protocols: Vec<(String, Bytes)>,
    pub session_timeout: Duration,
    pub rebalance_timeout: Duration,
    /// A new member must come back with its id before it counts (request version 4 and later).
    pub must_know_id: bool,
    /// A returning static leader may be told to keep the assignment (request version 9 and later).
    pub can_skip_assignment: bool,
}

/// The answer to a successful JoinGroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    pub generation: i32,
    pub protocol_type: String,
    pub protocol: String,
    pub leader: String,
    pub member_id: String,
    pub skip_assignment: bool,
    /// Everybody with their subscription, for the leader only.
    pub members: Vec<JoinedMember>,
}

/// One member as the leader is told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinedMember {
    pub member_id: String,
    pub instance_id: Option<String>,
    pub metadata: Bytes,
}

/// Why a JoinGroup is refused; with `MemberIdRequired` comes the id to use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinRefused {
    pub error: ResponseError,
    pub member_id: String,
}

/// What a JoinGroup is answered with.
pub type JoinAnswer = Result<Joined, JoinRefused>;
/// What a SyncGroup is answered with: the member's assignment.
pub type SyncAnswer = Result<Synced, ResponseError>;

/// The answer to a successful SyncGroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Synced {
    pub protocol_type: String,
    pub protocol: String,
    pub assignment: Bytes,
}

/// Who asks, in SyncGroup, Heartbeat and OffsetCommit.
#[derive(Clone, Debug, Default)]
pub struct Caller {
    pub member_id: String,
    pub instance_id: Option<String>,
    pub generation: i32,
}

/// A group's offset of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedOffset {
    pub offset: i64,
    pub leader_epoch: i32,
    pub metadata: Option<String>,
}
