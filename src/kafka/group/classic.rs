//! The classic protocol.
//!
//! ```text
//!               topics known              MEMBER_ID_REQUIRED: again, with the id
//!   Waiting ─────────────────▶ Joining ◀───┐
//!                              │  ▲  leader: Electing ─▶ Syncing ─┬─▶ Stable ── REBALANCE_IN_PROGRESS ──┐
//!                              │  │  others: ───────────▶ Syncing ┘                                     │
//!                              │  └──── all released ──── Releasing ◀── something to give up ───────────┘
//! ```
//!
//! With an eager list of assignors everything is given up before joining; with a cooperative one, members keep what
//! they hold, and give up after a rebalance what the new assignment does not name, then join once more (KIP-429).
//! Source: API keys 11 (JoinGroup), 14 (SyncGroup), 12 (Heartbeat), 13 (LeaveGroup); KIP-345 (static members), KIP-394
//! (member id required).

mod requests;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{JoinGroupResponse, SyncGroupResponse};

use super::{Answer, Call, Common, GroupEvent, Step, text};
use crate::core::record::TopicPartition;
use crate::kafka::assignor::{Assignor, Member, PartitionCounts};
use crate::kafka::error::Code;
use crate::kafka::membership::{Subscription, decode_assignment, encode_assignment};

enum Phase {
    /// No topic to subscribe to is known yet.
    Waiting,
    Joining,
    /// We lead, and need the partition counts of everybody's topics.
    Electing(Vec<Member>, Assignor),
    Syncing(Vec<SyncGroupRequestAssignment>),
    Stable,
    /// The application is asked to give partitions up.
    Releasing,
    Leaving,
    Ended,
}

/// A member of a classic group: what it has beside [`Common`].
pub(super) struct Classic {
    phase: Phase,
    protocol: Option<Assignor>,
    /// The topics as they were when we, being the leader, assigned them.
    assigned_topics: Option<PartitionCounts>,
    joined_topics: Vec<Arc<str>>,
    rejoin_wanted: bool,
}

impl Classic {
    pub(super) fn new() -> Self {
        Self {
            phase: Phase::Waiting,
            protocol: None,
            assigned_topics: None,
            joined_topics: Vec::new(),
            rejoin_wanted: false,
        }
    }

    pub(super) fn step(&mut self, common: &mut Common, now: Duration) -> Step {
        if matches!(self.phase, Phase::Releasing) && common.give_up_waiting(now) {
            self.phase = Phase::Joining;
        }
        if matches!(self.phase, Phase::Stable) && self.rejoin_wanted {
            self.rebalance(common, now);
        }
        match self.phase {
            Phase::Ended => return Step::Ended,
            Phase::Waiting => return Step::Idle,
            _ => {}
        }
        if now < common.not_before {
            return Step::Wait(common.not_before);
        }
        if !common.coordinator_known {
            return Step::Call(Call::FindCoordinator);
        }
        match &self.phase {
            Phase::Joining => Step::Call(Call::Join(requests::join(common))),
            Phase::Electing(members, _) => Step::Call(Call::CountPartitions(wanted_topics(members))),
            Phase::Syncing(plan) => Step::Call(Call::Sync(requests::sync(common, self.protocol, plan.clone()))),
            Phase::Leaving => Step::Call(Call::Leave(requests::leave(common))),
            _ if now >= common.heartbeat_at => Step::Call(Call::Heartbeat(requests::heartbeat(common))),
            _ => Step::Wait(common.next_wait()),
        }
    }

    pub(super) fn answered(&mut self, common: &mut Common, now: Duration, answer: Answer) {
        match answer {
            Answer::CoordinatorFound => common.coordinator_known = true,
            Answer::Counted(counts) => self.elected(common, counts),
            Answer::Joined(response) => self.joined(common, now, response),
            Answer::Synced(response) => self.synced(common, now, response),
            Answer::Heartbeat(response) => self.heartbeat(common, now, Code(response.error_code)),
            Answer::Left => self.phase = Phase::Ended,
            // Nobody is told that we leave, when nobody is there: the session runs out.
            Answer::Unreachable if matches!(self.phase, Phase::Leaving) => self.phase = Phase::Ended,
            Answer::Unreachable => common.lost_coordinator(now),
            Answer::Refused { api, code } => self.refused(common, now, api, code),
            Answer::Impossible => {
                common.lose_everything();
                self.phase = Phase::Ended;
            }
            Answer::Named(_) | Answer::ConsumerHeartbeat(_) => {} // never asked for
        }
    }

    /// New topics, and for the leader new partitions, cause a rebalance.
    pub(super) fn subscribe(&mut self, common: &Common) {
        match &self.phase {
            Phase::Waiting if !common.topics.is_empty() => self.phase = Phase::Joining,
            Phase::Stable | Phase::Releasing => self.rejoin_wanted |= self.topics_changed(common),
            _ => {}
        }
    }

    pub(super) fn all_released(&mut self) {
        if matches!(self.phase, Phase::Releasing) {
            self.phase = Phase::Joining;
        }
    }

    pub(super) fn leave(&mut self, common: &Common) {
        let nobody = common.member_id.is_empty() || common.options.instance.is_some();
        self.phase = if nobody || matches!(self.phase, Phase::Ended) { Phase::Ended } else { Phase::Leaving };
    }

    fn topics_changed(&self, common: &Common) -> bool {
        let names_changed = !common.topics.keys().eq(self.joined_topics.iter());
        names_changed || self.assigned_topics.as_ref().is_some_and(|assigned| *assigned != common.topics)
    }
}

/// The answers.
impl Classic {
    fn joined(&mut self, common: &mut Common, now: Duration, response: JoinGroupResponse) {
        let code = Code(response.error_code);
        if code == Code::MEMBER_ID_REQUIRED {
            common.member_id = response.member_id.to_string();
            return;
        }
        if !code.is_ok() {
            return self.refused(common, now, "JoinGroup", code);
        }
        let Some(protocol) = response.protocol_name.as_deref().and_then(Assignor::from_name) else {
            return self.refused(common, now, "JoinGroup", Code::INCONSISTENT_GROUP_PROTOCOL);
        };
        common.backoff.reset();
        common.member_id = response.member_id.to_string();
        common.generation = response.generation_id;
        self.protocol = Some(protocol);
        self.joined_topics = common.topics.keys().cloned().collect();
        self.rejoin_wanted = false;
        self.assigned_topics = None;
        let leads = response.leader == response.member_id;
        self.phase = if leads && response.skip_assignment {
            self.assigned_topics = Some(common.topics.clone());
            Phase::Syncing(Vec::new())
        } else if leads {
            Phase::Electing(members_of(&response), protocol)
        } else {
            Phase::Syncing(Vec::new())
        };
    }

    fn elected(&mut self, common: &mut Common, counts: PartitionCounts) {
        let Phase::Electing(members, assignor) = &self.phase else { return };
        let plan = assignor.assign(members, &counts);
        let plan = plan.iter().map(|(member, share)| {
            SyncGroupRequestAssignment::default().with_member_id(text(member)).with_assignment(encode_assignment(share))
        });
        self.phase = Phase::Syncing(plan.collect());
        let ours = counts.into_iter().filter(|(topic, _)| common.topics.contains_key(topic));
        self.assigned_topics = Some(ours.collect());
    }

    fn synced(&mut self, common: &mut Common, now: Duration, response: SyncGroupResponse) {
        match Code(response.error_code) {
            Code::NONE => {}
            Code::REBALANCE_IN_PROGRESS => return self.phase = Phase::Joining,
            code => return self.refused(common, now, "SyncGroup", code),
        }
        let Some(assigned) = decode_assignment(&response.assignment) else {
            log::warn!("group {}: the leader's assignment is malformed; joining again", common.options.group_id);
            common.wait(now);
            return self.phase = Phase::Joining;
        };
        common.backoff.reset();
        common.heartbeat_at = now + common.options.heartbeat_interval;
        self.phase = Phase::Stable;
        let assigned: BTreeSet<TopicPartition> = assigned.into_iter().collect();
        let revoked: BTreeSet<TopicPartition> = common.owned.difference(&assigned).cloned().collect();
        let added: Vec<TopicPartition> = assigned.difference(&common.owned).cloned().collect();
        common.owned.extend(assigned);
        common.events.push(GroupEvent::Assigned(added));
        self.release(common, now, revoked);
        self.rejoin_wanted |= self.topics_changed(common);
    }

    fn heartbeat(&mut self, common: &mut Common, now: Duration, code: Code) {
        common.heartbeat_at = now + common.options.heartbeat_interval;
        match code {
            Code::NONE => common.backoff.reset(),
            // While releasing we join anyway as soon as all is given up.
            Code::REBALANCE_IN_PROGRESS if matches!(self.phase, Phase::Stable) => self.rebalance(common, now),
            Code::REBALANCE_IN_PROGRESS => {}
            code => self.refused(common, now, "Heartbeat", code),
        }
    }

    /// Joins again, having given up first what this kind of membership does not let us keep meanwhile.
    fn rebalance(&mut self, common: &mut Common, now: Duration) {
        self.phase = Phase::Joining;
        if !is_cooperative(common) {
            self.release(common, now, common.owned.clone());
        }
    }

    fn release(&mut self, common: &mut Common, now: Duration, partitions: BTreeSet<TopicPartition>) {
        if common.release(now, partitions) {
            self.phase = Phase::Releasing;
        }
    }

    fn refused(&mut self, common: &mut Common, now: Duration, api: &'static str, code: Code) {
        match code {
            Code::UNKNOWN_MEMBER_ID | Code::ILLEGAL_GENERATION => {
                if code == Code::UNKNOWN_MEMBER_ID {
                    common.member_id.clear();
                }
                common.events.push(GroupEvent::Trouble { api, code });
                common.lose_everything();
                self.phase = Phase::Joining;
            }
            Code::REBALANCE_IN_PROGRESS => common.wait(now),
            code if common.refused(now, api, code) => {}
            _ => self.phase = Phase::Ended,
        }
    }
}

fn is_cooperative(common: &Common) -> bool {
    common.options.assignors.iter().all(|assignor| assignor.is_cooperative())
}

fn members_of(response: &JoinGroupResponse) -> Vec<Member> {
    let member = |member: &kafka_protocol::messages::join_group_response::JoinGroupResponseMember| Member {
        id: member.member_id.to_string(),
        instance: member.group_instance_id.as_ref().map(ToString::to_string),
        subscription: Subscription::decode(&member.metadata).unwrap_or_else(|| {
            log::warn!("group member {}: its subscription is malformed; it gets no partition", member.member_id);
            Subscription::default()
        }),
    };
    response.members.iter().map(member).collect()
}

fn wanted_topics(members: &[Member]) -> Vec<Arc<str>> {
    let topics: BTreeSet<&Arc<str>> = members.iter().flat_map(|member| &member.subscription.topics).collect();
    topics.into_iter().cloned().collect()
}

#[cfg(test)]
mod tests;
