//! Membership of a consumer group in the classic protocol, as a state machine without I/O.
//!
//! Called by [`super::keeper`], which performs what [`Group::step`] asks for and reports the answer; what the
//! application must know comes out of [`Group::take_events`]. Time and chance are arguments.
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
//! Source: API keys 10 (FindCoordinator), 11 (JoinGroup), 14 (SyncGroup), 12 (Heartbeat), 13 (LeaveGroup); KIP-345
//! (static members), KIP-394 (member id required).

mod requests;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    HeartbeatRequest, HeartbeatResponse, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, SyncGroupRequest,
    SyncGroupResponse,
};
use kafka_protocol::protocol::StrBytes;

use crate::core::backoff::Backoff;
use crate::core::record::TopicPartition;
use crate::kafka::assignor::{Assignor, Member, PartitionCounts};
use crate::kafka::error::Code;
use crate::kafka::membership::{Subscription, decode_assignment, encode_assignment};

const RETRY_BASE: Duration = Duration::from_millis(100);
const RETRY_CAP: Duration = Duration::from_secs(2);

/// How this member takes part.
#[derive(Clone, Debug)]
pub struct GroupOptions {
    pub group_id: Arc<str>,
    /// `group.instance.id`: the member is static. It does not leave when it closes, and a second process with the
    /// same instance fences the first.
    pub instance: Option<Arc<str>>,
    /// In order of preference; not empty. Cooperative only if all of them are.
    pub assignors: Vec<Assignor>,
    pub session_timeout: Duration,
    /// How long the others wait for this member to give up its partitions and join.
    pub rebalance_timeout: Duration,
    pub heartbeat_interval: Duration,
}

/// What is to be done next. Times are since the same start as those given to the group.
#[derive(Clone, Debug, PartialEq)]
#[allow(clippy::large_enum_variant)] // one at a time, a few in a second at most
pub enum Step {
    /// Perform this and report its answer.
    Call(Call),
    /// Nothing until this time, unless told something before.
    Wait(Duration),
    /// Nothing until told something.
    Idle,
    /// The group is left, or refused us for good.
    Ended,
}

/// A request to perform.
#[derive(Clone, Debug, PartialEq)]
pub enum Call {
    /// Find the coordinator and connect to it.
    FindCoordinator,
    /// Count the partitions of these topics.
    CountPartitions(Vec<Arc<str>>),
    Join(JoinGroupRequest),
    Sync(SyncGroupRequest),
    Heartbeat(HeartbeatRequest),
    Leave(LeaveGroupRequest),
}

/// The answer to a [`Call`].
#[derive(Clone, Debug)]
pub enum Answer {
    CoordinatorFound,
    Counted(PartitionCounts),
    Joined(JoinGroupResponse),
    Synced(SyncGroupResponse),
    Heartbeat(HeartbeatResponse),
    Left,
    /// The connection failed, or there is none.
    Unreachable,
    /// The broker refused for good before the coordinator could be asked.
    Refused {
        api: &'static str,
        code: Code,
    },
    /// The broker does not speak what is needed.
    Impossible,
}

/// What the application must know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupEvent {
    /// These are ours in addition to what was ours. Empty when a rebalance gave nothing new.
    Assigned(Vec<TopicPartition>),
    /// These are to be given up: answer with [`Group::released`].
    Revoked(Vec<TopicPartition>),
    /// These are gone.
    Lost(Vec<TopicPartition>),
    /// The coordinator refused, and it will be tried again.
    Trouble { api: &'static str, code: Code },
    /// The coordinator refused for good.
    Refused { api: &'static str, code: Code },
}

/// What must stand in a commit, so that the coordinator can tell whether it comes from a member of this generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    pub member_id: String,
    pub generation: i32,
}

impl Credentials {
    /// Of somebody who is no member.
    pub fn nobody() -> Self {
        Self { member_id: String::new(), generation: -1 }
    }
}

enum Phase {
    /// Not a member: these partitions are given.
    Fixed(BTreeSet<TopicPartition>),
    /// No topic to subscribe to is known yet.
    Waiting,
    Joining,
    /// We lead, and need the partition counts of everybody's topics.
    Electing(Vec<Member>, Assignor),
    Syncing(Vec<SyncGroupRequestAssignment>),
    Stable,
    /// The application is asked to give partitions up.
    Releasing {
        waiting: BTreeSet<TopicPartition>,
        until: Duration,
    },
    Leaving,
    Ended,
}

/// One member's view of its group.
pub struct Group {
    options: GroupOptions,
    phase: Phase,
    coordinator_known: bool,
    member_id: String,
    generation: i32,
    protocol: Option<Assignor>,
    /// Subscribed topics and their partitions, as last seen.
    topics: PartitionCounts,
    /// The topics as they were when we, being the leader, assigned them.
    assigned_topics: Option<PartitionCounts>,
    joined_topics: Vec<Arc<str>>,
    owned: BTreeSet<TopicPartition>,
    rejoin_wanted: bool,
    heartbeat_at: Duration,
    not_before: Duration,
    backoff: Backoff,
    chance: u64,
    events: Vec<GroupEvent>,
}

impl Group {
    /// A member that has not joined yet. `chance` seeds the jitter of its retries.
    pub fn new(options: GroupOptions, chance: u64) -> Self {
        Self {
            options,
            phase: Phase::Waiting,
            coordinator_known: false,
            member_id: String::new(),
            generation: -1,
            protocol: None,
            topics: PartitionCounts::new(),
            assigned_topics: None,
            joined_topics: Vec::new(),
            owned: BTreeSet::new(),
            rejoin_wanted: false,
            heartbeat_at: Duration::ZERO,
            not_before: Duration::ZERO,
            backoff: Backoff::new(RETRY_BASE, RETRY_CAP),
            chance,
            events: Vec::new(),
        }
    }

    /// No member of anything: `partitions` are ours from the first [`subscribe`](Self::subscribe) on, and for good.
    /// Commits are signed by nobody, which the coordinator accepts while the group has no members.
    pub fn fixed(options: GroupOptions, partitions: &[TopicPartition]) -> Self {
        let mut group = Self::new(options, 0);
        group.phase = Phase::Fixed(partitions.iter().cloned().collect());
        group
    }

    /// What to do at this time.
    pub fn step(&mut self, now: Duration) -> Step {
        self.give_up_waiting(now);
        if matches!(self.phase, Phase::Stable) && self.rejoin_wanted {
            self.rebalance(now);
        }
        match self.phase {
            Phase::Ended => return Step::Ended,
            Phase::Waiting | Phase::Fixed(_) => return Step::Idle,
            _ => {}
        }
        if now < self.not_before {
            return Step::Wait(self.not_before);
        }
        if !self.coordinator_known {
            return Step::Call(Call::FindCoordinator);
        }
        match &self.phase {
            Phase::Joining => Step::Call(Call::Join(self.join_request())),
            Phase::Electing(members, _) => Step::Call(Call::CountPartitions(wanted_topics(members))),
            Phase::Syncing(plan) => Step::Call(Call::Sync(self.sync_request(plan.clone()))),
            Phase::Leaving => Step::Call(Call::Leave(self.leave_request())),
            _ if now >= self.heartbeat_at => Step::Call(Call::Heartbeat(self.heartbeat_request())),
            Phase::Releasing { until, .. } => Step::Wait(self.heartbeat_at.min(*until)),
            _ => Step::Wait(self.heartbeat_at),
        }
    }

    /// Reports what a [`Call`] gave.
    pub fn answered(&mut self, now: Duration, answer: Answer) {
        match answer {
            Answer::CoordinatorFound => self.coordinator_known = true,
            Answer::Counted(counts) => self.elected(counts),
            Answer::Joined(response) => self.joined(now, response),
            Answer::Synced(response) => self.synced(now, response),
            Answer::Heartbeat(response) => self.heartbeat(now, Code(response.error_code)),
            Answer::Left => self.phase = Phase::Ended,
            Answer::Unreachable => self.lost_coordinator(now),
            Answer::Refused { api, code } => self.refused(now, api, code),
            Answer::Impossible => {
                self.lose_everything();
                self.phase = Phase::Ended;
            }
        }
    }

    /// The subscribed topics as they are now: called at first, and whenever metadata was refreshed. New topics, and for
    /// the leader new partitions, cause a rebalance.
    pub fn subscribe(&mut self, topics: PartitionCounts) {
        self.topics = topics;
        match &self.phase {
            Phase::Waiting if !self.topics.is_empty() => self.phase = Phase::Joining,
            Phase::Fixed(partitions) if self.owned.is_empty() => {
                self.owned = partitions.clone();
                self.events.push(GroupEvent::Assigned(partitions.iter().cloned().collect()));
            }
            Phase::Stable | Phase::Releasing { .. } => self.rejoin_wanted |= self.topics_changed(),
            _ => {}
        }
    }

    /// These partitions of a [`GroupEvent::Revoked`] are given up: their positions are committed.
    pub fn released(&mut self, partitions: &[TopicPartition]) {
        let Phase::Releasing { waiting, .. } = &mut self.phase else { return };
        for partition in partitions {
            if waiting.remove(partition) {
                self.owned.remove(partition);
            }
        }
        if waiting.is_empty() {
            self.phase = Phase::Joining;
        }
    }

    /// Leaves the group; a static member just stops.
    pub fn leave(&mut self) {
        let nobody = self.member_id.is_empty() || self.options.instance.is_some();
        self.phase = if nobody || matches!(self.phase, Phase::Ended) { Phase::Ended } else { Phase::Leaving };
        self.not_before = Duration::ZERO;
    }

    /// What happened since the last call, in order.
    pub fn take_events(&mut self) -> Vec<GroupEvent> {
        std::mem::take(&mut self.events)
    }

    /// What to sign commits with.
    pub fn credentials(&self) -> Credentials {
        Credentials { member_id: self.member_id.clone(), generation: self.generation }
    }

    /// The partitions that are ours, those being given up included.
    pub fn owned(&self) -> &BTreeSet<TopicPartition> {
        &self.owned
    }

    /// Whether a coordinator is known, and so whether its connection is of use.
    pub fn coordinator_known(&self) -> bool {
        self.coordinator_known
    }

    fn is_cooperative(&self) -> bool {
        self.options.assignors.iter().all(|assignor| assignor.is_cooperative())
    }

    fn topics_changed(&self) -> bool {
        let names_changed = !self.topics.keys().eq(self.joined_topics.iter());
        names_changed || self.assigned_topics.as_ref().is_some_and(|assigned| *assigned != self.topics)
    }
}

/// The answers.
impl Group {
    fn joined(&mut self, now: Duration, response: JoinGroupResponse) {
        let code = Code(response.error_code);
        if code == Code::MEMBER_ID_REQUIRED {
            self.member_id = response.member_id.to_string();
            return;
        }
        if !code.is_ok() {
            return self.refused(now, "JoinGroup", code);
        }
        let Some(protocol) = response.protocol_name.as_deref().and_then(Assignor::from_name) else {
            return self.refused(now, "JoinGroup", Code::INCONSISTENT_GROUP_PROTOCOL);
        };
        self.backoff.reset();
        self.member_id = response.member_id.to_string();
        self.generation = response.generation_id;
        self.protocol = Some(protocol);
        self.joined_topics = self.topics.keys().cloned().collect();
        self.rejoin_wanted = false;
        self.assigned_topics = None;
        let leads = response.leader == response.member_id;
        self.phase = if leads && response.skip_assignment {
            self.assigned_topics = Some(self.topics.clone());
            Phase::Syncing(Vec::new())
        } else if leads {
            Phase::Electing(members_of(&response), protocol)
        } else {
            Phase::Syncing(Vec::new())
        };
    }

    fn elected(&mut self, counts: PartitionCounts) {
        let Phase::Electing(members, assignor) = &self.phase else { return };
        let plan = assignor.assign(members, &counts);
        let plan = plan.iter().map(|(member, share)| {
            SyncGroupRequestAssignment::default().with_member_id(text(member)).with_assignment(encode_assignment(share))
        });
        self.phase = Phase::Syncing(plan.collect());
        let ours = counts.into_iter().filter(|(topic, _)| self.topics.contains_key(topic));
        self.assigned_topics = Some(ours.collect());
    }

    fn synced(&mut self, now: Duration, response: SyncGroupResponse) {
        match Code(response.error_code) {
            Code::NONE => {}
            Code::REBALANCE_IN_PROGRESS => return self.phase = Phase::Joining,
            code => return self.refused(now, "SyncGroup", code),
        }
        let Some(assigned) = decode_assignment(&response.assignment) else {
            log::warn!("group {}: the leader's assignment is malformed; joining again", self.options.group_id);
            self.wait(now);
            return self.phase = Phase::Joining;
        };
        self.backoff.reset();
        self.heartbeat_at = now + self.options.heartbeat_interval;
        self.phase = Phase::Stable;
        let assigned: BTreeSet<TopicPartition> = assigned.into_iter().collect();
        let revoked: BTreeSet<TopicPartition> = self.owned.difference(&assigned).cloned().collect();
        let added: Vec<TopicPartition> = assigned.difference(&self.owned).cloned().collect();
        self.owned.extend(assigned);
        self.events.push(GroupEvent::Assigned(added));
        self.release(now, revoked);
        self.rejoin_wanted |= self.topics_changed();
    }

    fn heartbeat(&mut self, now: Duration, code: Code) {
        self.heartbeat_at = now + self.options.heartbeat_interval;
        match code {
            Code::NONE => self.backoff.reset(),
            // While releasing we join anyway as soon as all is given up.
            Code::REBALANCE_IN_PROGRESS if matches!(self.phase, Phase::Stable) => self.rebalance(now),
            Code::REBALANCE_IN_PROGRESS => {}
            code => self.refused(now, "Heartbeat", code),
        }
    }

    /// Joins again, having given up first what this kind of membership does not let us keep meanwhile.
    fn rebalance(&mut self, now: Duration) {
        self.phase = Phase::Joining;
        if !self.is_cooperative() {
            self.release(now, self.owned.clone());
        }
    }

    fn release(&mut self, now: Duration, waiting: BTreeSet<TopicPartition>) {
        if !waiting.is_empty() {
            self.events.push(GroupEvent::Revoked(waiting.iter().cloned().collect()));
            self.phase = Phase::Releasing { waiting, until: now + self.options.rebalance_timeout };
        }
    }

    /// What the application did not give up in time is taken from it: the group would not wait any longer either.
    fn give_up_waiting(&mut self, now: Duration) {
        let Phase::Releasing { waiting, until } = &self.phase else { return };
        if now >= *until {
            let lost: Vec<TopicPartition> = waiting.iter().cloned().collect();
            self.owned.retain(|partition| !lost.contains(partition));
            self.events.push(GroupEvent::Lost(lost));
            self.phase = Phase::Joining;
        }
    }

    fn refused(&mut self, now: Duration, api: &'static str, code: Code) {
        match code {
            Code::UNKNOWN_MEMBER_ID | Code::ILLEGAL_GENERATION => {
                if code == Code::UNKNOWN_MEMBER_ID {
                    self.member_id.clear();
                }
                self.events.push(GroupEvent::Trouble { api, code });
                self.lose_everything();
                self.phase = Phase::Joining;
            }
            Code::NOT_COORDINATOR | Code::COORDINATOR_NOT_AVAILABLE => self.lost_coordinator(now),
            Code::REBALANCE_IN_PROGRESS | Code::COORDINATOR_LOAD_IN_PROGRESS => self.wait(now),
            code if code.is_retriable() || code == Code::UNKNOWN_SERVER_ERROR => {
                self.events.push(GroupEvent::Trouble { api, code });
                self.wait(now);
            }
            code => {
                self.lose_everything();
                self.events.push(GroupEvent::Refused { api, code });
                self.phase = Phase::Ended;
            }
        }
    }

    fn lose_everything(&mut self) {
        self.generation = -1;
        let lost: Vec<TopicPartition> = std::mem::take(&mut self.owned).into_iter().collect();
        if !lost.is_empty() {
            self.events.push(GroupEvent::Lost(lost));
        }
    }

    /// Membership survives the coordinator's move: the same id and generation go to the next one. Nobody is told that
    /// we leave, when nobody is there: the session runs out.
    fn lost_coordinator(&mut self, now: Duration) {
        self.coordinator_known = false;
        self.wait(now);
        if matches!(self.phase, Phase::Leaving) {
            self.phase = Phase::Ended;
        }
    }

    fn wait(&mut self, now: Duration) {
        self.chance = self.chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.not_before = now + self.backoff.fail(self.chance);
    }
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

fn text(of: &str) -> StrBytes {
    StrBytes::from_string(of.to_owned())
}

#[cfg(test)]
mod tests;
