//! One consumer group, as its coordinator sees it: a state machine without lock, clock or socket. Here is the classic
//! protocol; members of the consumer protocol are in `consumer.rs`. A group has members of one kind at a time.
//!
//! Requests that may have to wait (JoinGroup, SyncGroup) get a [`Ticket`]; their answer lies in the group, now or after
//! a later event, until the ticket is taken. Time comes in as `now`; [`Group::tick`] does what is due and
//! [`Group::next_deadline`] says when that is. `groups.rs` puts a lock and a timer around it.
//!
//! Phases, as Kafka names them: Empty → PreparingRebalance (everybody joins) → CompletingRebalance (the leader divides
//! the partitions) → Stable. Sources: KIP-62 (rebalance timeout), KIP-345 (static members), KIP-394 (member id required).

mod consumer;
mod member;
mod rebalance;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::ResponseError;

use self::consumer::ConsumerMembers;
pub use self::consumer::{Accepted, Beat, IdPartition, Pace, TopicSizes};
pub use self::member::{
    Caller, CommittedOffset, Join, JoinAnswer, JoinRefused, Joined, JoinedMember, Member, SyncAnswer, Synced,
};

/// A claim on the answer to one JoinGroup or SyncGroup.
pub type Ticket = u64;

/// The longest session a member may ask for, as in Kafka. The shortest is not limited, for the sake of fast tests.
const SESSION_TIMEOUT_MAX: Duration = Duration::from_mins(30);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Empty,
    Preparing {
        not_before: Duration,
        deadline: Duration,
    },
    Completing {
        deadline: Duration,
    },
    Stable,
}

/// A group: its members, its generation and its committed offsets.
#[derive(Debug, Default)]
pub struct Group {
    /// Committed offsets by topic and partition.
    pub offsets: BTreeMap<(String, i32), CommittedOffset>,
    phase: Phase,
    generation: i32,
    protocol_type: String,
    protocol: String,
    leader: String,
    members: BTreeMap<String, Member>,
    consumers: ConsumerMembers,
    /// Ids that were handed out and have not joined yet, with the time until which they are waited for.
    pending: BTreeMap<String, Duration>,
    initial_rebalance_delay: Duration,
    last_ticket: Ticket,
    join_answers: HashMap<Ticket, JoinAnswer>,
    sync_answers: HashMap<Ticket, SyncAnswer>,
}

impl Group {
    /// An empty group whose first rebalance waits `initial_rebalance_delay` for more members.
    pub fn new(initial_rebalance_delay: Duration) -> Self {
        Self { initial_rebalance_delay, ..Self::default() }
    }

    /// The phase by Kafka's name.
    pub fn phase_name(&self) -> &'static str {
        match self.phase {
            Phase::Empty if !self.consumers.is_empty() => "Stable",
            Phase::Empty => "Empty",
            Phase::Preparing { .. } => "PreparingRebalance",
            Phase::Completing { .. } => "CompletingRebalance",
            Phase::Stable => "Stable",
        }
    }

    /// `consumer`, or what the first member said.
    pub fn protocol_type(&self) -> &str {
        if self.consumers.is_empty() { &self.protocol_type } else { "consumer" }
    }

    /// Which protocol its members speak, by Kafka's name.
    pub fn type_name(&self) -> &'static str {
        if self.consumers.is_empty() { "classic" } else { "consumer" }
    }

    /// Whether it has members, of either protocol.
    pub fn has_members(&self) -> bool {
        !self.members.is_empty() || !self.consumers.is_empty()
    }

    /// The assignor in use; empty while there is none.
    pub fn protocol(&self) -> &str {
        &self.protocol
    }

    /// The members by id.
    pub fn members(&self) -> &BTreeMap<String, Member> {
        &self.members
    }

    /// A JoinGroup; its answer is taken with [`Group::take_join`].
    pub fn join(&mut self, now: Duration, join: Join) -> Ticket {
        let ticket = self.next_ticket();
        let member_id = join.member_id.clone();
        if let Err(refused) = self.try_join(now, ticket, join) {
            let member_id = if refused.member_id.is_empty() { member_id } else { refused.member_id };
            self.join_answers.insert(ticket, Err(JoinRefused { member_id, ..refused }));
        }
        ticket
    }

    /// A SyncGroup, with everybody's assignments from the leader; its answer is taken with [`Group::take_sync`].
    pub fn sync(
        &mut self,
        now: Duration,
        caller: &Caller,
        protocol: Option<&str>,
        assignments: Vec<(String, Bytes)>,
    ) -> Ticket {
        let ticket = self.next_ticket();
        if let Err(error) = self.try_sync(now, ticket, caller, protocol, assignments) {
            self.sync_answers.insert(ticket, Err(error));
        }
        ticket
    }

    /// A ConsumerGroupHeartbeat. A group with members of the classic protocol is not converted.
    pub fn consumer_heartbeat(
        &mut self,
        now: Duration,
        pace: Pace,
        beat: Beat,
        sizes: &TopicSizes,
    ) -> Result<Accepted, ResponseError> {
        match self.members.is_empty() && self.pending.is_empty() {
            true => self.consumers.heartbeat(now, pace, beat, sizes),
            false => Err(ResponseError::GroupIdNotFound),
        }
    }

    /// The answer to a join, once it is there.
    pub fn take_join(&mut self, ticket: Ticket) -> Option<JoinAnswer> {
        self.join_answers.remove(&ticket)
    }

    /// The answer to a sync, once it is there.
    pub fn take_sync(&mut self, ticket: Ticket) -> Option<SyncAnswer> {
        self.sync_answers.remove(&ticket)
    }

    /// A Heartbeat: renews the session; `RebalanceInProgress` calls the member to join again.
    pub fn heartbeat(&mut self, now: Duration, caller: &Caller) -> Result<(), ResponseError> {
        self.current_member(caller)?.renew(now);
        match self.phase {
            Phase::Preparing { .. } => Err(ResponseError::RebalanceInProgress),
            _ => Ok(()),
        }
    }

    /// A member leaves, named by its id or, when static, by its instance id alone.
    pub fn leave(&mut self, now: Duration, member_id: &str, instance_id: Option<&str>) -> Result<(), ResponseError> {
        if self.pending.remove(member_id).is_some() {
            self.complete_join_if_ready(now);
            return Ok(());
        }
        let by_instance =
            instance_id.filter(|_| member_id.is_empty()).and_then(|instance| self.static_member(instance));
        let member_id = by_instance.unwrap_or_else(|| member_id.to_owned());
        self.check_identity(&member_id, instance_id)?;
        self.remove_member(now, &member_id);
        Ok(())
    }

    /// Whether the caller may commit offsets now: a member of this generation, or anybody while there are no members.
    pub fn may_commit(&mut self, now: Duration, caller: &Caller) -> Result<(), ResponseError> {
        if caller.generation < 0 && !self.has_members() {
            return Ok(());
        }
        if !self.consumers.is_empty() {
            return self.consumers.check_caller(caller);
        }
        self.current_member(caller)?.renew(now);
        match self.phase {
            Phase::Completing { .. } => Err(ResponseError::RebalanceInProgress),
            _ => Ok(()),
        }
    }

    /// Whether the caller may read the group's offsets: anybody who claims no membership, or a member of this epoch.
    pub fn may_read_offsets(&self, caller: &Caller) -> Result<(), ResponseError> {
        match caller.generation < 0 || self.consumers.is_empty() {
            true => Ok(()),
            false => self.consumers.check_caller(caller),
        }
    }

    /// When [`Group::tick`] has something to do next.
    pub fn next_deadline(&self) -> Option<Duration> {
        let sessions =
            self.members.values().filter(|member| !member.is_waiting()).map(|member| member.session_deadline);
        let phase = match self.phase {
            Phase::Preparing { not_before, deadline } if self.all_joined() => Some(not_before.min(deadline)),
            Phase::Preparing { deadline, .. } | Phase::Completing { deadline } => Some(deadline),
            Phase::Empty | Phase::Stable => None,
        };
        sessions.chain(self.pending.values().copied()).chain(phase).chain(self.consumers.next_deadline()).min()
    }

    /// Ends sessions, reservations and phases whose time is over.
    pub fn tick(&mut self, now: Duration) {
        self.consumers.tick(now);
        self.pending.retain(|_, deadline| *deadline > now);
        self.remove_members(now, |member| !member.is_waiting() && member.session_deadline <= now);
        match self.phase {
            Phase::Preparing { deadline, .. } if deadline <= now => self.end_of_rebalance_timeout(now),
            Phase::Completing { deadline } if deadline <= now => {
                self.remove_members(now, |member| member.syncing.is_none());
            }
            _ => self.complete_join_if_ready(now),
        }
    }

    fn next_ticket(&mut self) -> Ticket {
        self.last_ticket += 1;
        self.last_ticket
    }

    fn try_join(&mut self, now: Duration, ticket: Ticket, join: Join) -> Result<(), JoinRefused> {
        let refused = |error| JoinRefused { error, member_id: String::new() };
        self.check_join(&join).map_err(refused)?;
        if join.member_id.is_empty() {
            return self.join_without_id(now, ticket, join);
        }
        if self.pending.remove(&join.member_id).is_some() {
            self.add_member(now, ticket, join.member_id.clone(), join);
            return Ok(());
        }
        self.check_identity(&join.member_id, join.instance_id.as_deref()).map_err(refused)?;
        self.rejoin(now, ticket, join);
        Ok(())
    }

    fn check_join(&self, join: &Join) -> Result<(), ResponseError> {
        if join.session_timeout.is_zero() || join.session_timeout > SESSION_TIMEOUT_MAX {
            return Err(ResponseError::InvalidSessionTimeout);
        }
        if join.protocol_type.is_empty() || join.protocols.is_empty() || !self.consumers.is_empty() {
            return Err(ResponseError::InconsistentGroupProtocol);
        }
        let others = || self.members.iter().filter(|(id, _)| **id != join.member_id).map(|(_, member)| member);
        if others().next().is_none() {
            return Ok(());
        }
        let shared = |(name, _): &(String, Bytes)| others().all(|member| member.supports(name));
        match self.protocol_type == join.protocol_type && join.protocols.iter().any(shared) {
            true => Ok(()),
            false => Err(ResponseError::InconsistentGroupProtocol),
        }
    }

    fn join_without_id(&mut self, now: Duration, ticket: Ticket, join: Join) -> Result<(), JoinRefused> {
        let member_id = join.offered_id.clone();
        match join.instance_id.as_deref().map(|instance| self.static_member(instance)) {
            Some(Some(old_id)) => self.replace_static(now, ticket, &old_id, join),
            None if join.must_know_id => {
                self.pending.insert(member_id.clone(), now + join.session_timeout);
                return Err(JoinRefused { error: ResponseError::MemberIdRequired, member_id });
            }
            Some(None) | None => self.add_member(now, ticket, member_id, join),
        }
        Ok(())
    }

    fn add_member(&mut self, now: Duration, ticket: Ticket, member_id: String, join: Join) {
        if self.members.is_empty() {
            self.protocol_type.clone_from(&join.protocol_type);
        }
        self.members.insert(member_id.clone(), Member::new(now, join));
        self.await_rebalance(now, ticket, &member_id);
    }

    /// A known member joins: after a call to rebalance, with a changed subscription, or because an answer was lost.
    fn rejoin(&mut self, now: Duration, ticket: Ticket, join: Join) {
        let member_id = join.member_id.clone();
        let is_leader = self.leader == member_id;
        let Some(member) = self.members.get_mut(&member_id) else { return };
        let unchanged = member.protocols == join.protocols;
        member.protocols = join.protocols;
        member.session_timeout = join.session_timeout;
        member.rebalance_timeout = join.rebalance_timeout;
        member.renew(now);
        let answer_again = match self.phase {
            Phase::Completing { .. } => unchanged,
            Phase::Stable => unchanged && !is_leader,
            Phase::Empty | Phase::Preparing { .. } => false,
        };
        if answer_again {
            self.join_answers.insert(ticket, Ok(self.joined(&member_id)));
        } else {
            self.await_rebalance(now, ticket, &member_id);
        }
    }

    /// A static member came back without its member id: it gets a new one, its predecessor is fenced, and while
    /// the group is stable nobody else notices.
    fn replace_static(&mut self, now: Duration, ticket: Ticket, old_id: &str, join: Join) {
        let Some(old) = self.members.remove(old_id) else { return };
        self.refuse_waiting(&old, old_id, ResponseError::FencedInstanceId);
        let (new_id, can_skip_assignment) = (join.offered_id.clone(), join.can_skip_assignment);
        let mut member = Member::new(now, join);
        member.assignment = old.assignment;
        self.members.insert(new_id.clone(), member);
        let was_leader = self.leader == old_id;
        if was_leader {
            self.leader.clone_from(&new_id);
        }
        if self.phase != Phase::Stable || self.select_protocol() != self.protocol {
            return self.await_rebalance(now, ticket, &new_id);
        }
        let mut joined = self.joined(&new_id);
        if was_leader && can_skip_assignment {
            joined.skip_assignment = true;
        } else if was_leader {
            // Older clients would compute a new assignment if they saw themselves lead; the old id says otherwise.
            old_id.clone_into(&mut joined.leader);
            joined.members.clear();
        }
        self.join_answers.insert(ticket, Ok(joined));
    }

    fn try_sync(
        &mut self,
        now: Duration,
        ticket: Ticket,
        caller: &Caller,
        protocol: Option<&str>,
        assignments: Vec<(String, Bytes)>,
    ) -> Result<(), ResponseError> {
        self.current_member(caller)?.renew(now);
        if protocol.is_some_and(|protocol| protocol != self.protocol) {
            return Err(ResponseError::InconsistentGroupProtocol);
        }
        match self.phase {
            Phase::Empty => Err(ResponseError::UnknownMemberId),
            Phase::Preparing { .. } => Err(ResponseError::RebalanceInProgress),
            Phase::Completing { .. } => {
                self.await_assignment(ticket, &caller.member_id);
                if self.leader == caller.member_id {
                    self.assign(now, assignments);
                }
                Ok(())
            }
            Phase::Stable => {
                let synced = self.synced(&caller.member_id);
                self.sync_answers.insert(ticket, Ok(synced));
                Ok(())
            }
        }
    }

    /// The calling member, if it is who it says it is and its generation is the current one.
    fn current_member(&mut self, caller: &Caller) -> Result<&mut Member, ResponseError> {
        self.check_identity(&caller.member_id, caller.instance_id.as_deref())?;
        if caller.generation != self.generation {
            return Err(ResponseError::IllegalGeneration);
        }
        self.members.get_mut(&caller.member_id).ok_or(ResponseError::UnknownMemberId)
    }

    fn check_identity(&self, member_id: &str, instance_id: Option<&str>) -> Result<(), ResponseError> {
        if let Some(owner) = instance_id.and_then(|instance| self.static_member(instance))
            && owner != member_id
        {
            return Err(ResponseError::FencedInstanceId);
        }
        match self.members.get(member_id) {
            Some(member) if instance_id.is_none() || member.instance_id.as_deref() == instance_id => Ok(()),
            _ => Err(ResponseError::UnknownMemberId),
        }
    }

    fn static_member(&self, instance_id: &str) -> Option<String> {
        let is_it = |(_, member): &(&String, &Member)| member.instance_id.as_deref() == Some(instance_id);
        self.members.iter().find(is_it).map(|(member_id, _)| member_id.clone())
    }
}
