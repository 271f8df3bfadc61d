//! The way of a group from one generation to the next: who is waited for, who leads, which assignor, who gets what.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::ResponseError;

use super::{Group, JoinRefused, Joined, JoinedMember, Member, Phase, Synced, Ticket};

/// A member that names no timeout must not make the timer spin.
const REBALANCE_TIMEOUT_MIN: Duration = Duration::from_millis(100);

impl Group {
    /// The member waits for the rebalance that is under way or starts with it.
    pub(super) fn await_rebalance(&mut self, now: Duration, ticket: Ticket, member_id: &str) {
        let Some(member) = self.members.get_mut(member_id) else { return };
        if let Some(older) = member.joining.replace(ticket) {
            let (error, member_id) = (ResponseError::RebalanceInProgress, member_id.to_owned());
            self.join_answers.insert(older, Err(JoinRefused { error, member_id }));
        }
        self.prepare_rebalance(now);
        self.complete_join_if_ready(now);
    }

    fn prepare_rebalance(&mut self, now: Duration) {
        let not_before = match self.phase {
            Phase::Preparing { .. } => return,
            Phase::Empty => now + self.initial_rebalance_delay,
            Phase::Completing { .. } | Phase::Stable => now,
        };
        for member in self.members.values_mut() {
            if let Some(ticket) = member.syncing.take() {
                self.sync_answers.insert(ticket, Err(ResponseError::RebalanceInProgress));
            }
        }
        self.phase = Phase::Preparing { not_before, deadline: not_before + self.rebalance_timeout() };
    }

    fn rebalance_timeout(&self) -> Duration {
        self.members.values().map(|member| member.rebalance_timeout).fold(REBALANCE_TIMEOUT_MIN, Duration::max)
    }

    pub(super) fn all_joined(&self) -> bool {
        self.pending.is_empty() && self.members.values().all(|member| member.joining.is_some())
    }

    pub(super) fn complete_join_if_ready(&mut self, now: Duration) {
        match self.phase {
            Phase::Preparing { not_before, .. } if now >= not_before && self.all_joined() => self.complete_join(now),
            _ => {}
        }
    }

    /// Who did not come back by now is out, except static members: these may stay away for their session.
    pub(super) fn end_of_rebalance_timeout(&mut self, now: Duration) {
        self.pending.clear();
        self.members.retain(|_, member| member.joining.is_some() || member.instance_id.is_some());
        if self.members.is_empty() || self.members.values().any(|member| member.joining.is_some()) {
            self.complete_join(now);
        } else {
            self.phase = Phase::Preparing { not_before: now, deadline: now + self.rebalance_timeout() };
        }
    }

    fn complete_join(&mut self, now: Duration) {
        self.generation += 1;
        if self.members.is_empty() {
            self.phase = Phase::Empty;
            self.protocol.clear();
            self.leader.clear();
            return;
        }
        self.protocol = self.select_protocol();
        self.elect_leader();
        self.phase = Phase::Completing { deadline: now + self.rebalance_timeout() };
        let mut waiting = Vec::new();
        for (member_id, member) in &mut self.members {
            member.assignment = Bytes::new();
            if let Some(ticket) = member.joining.take() {
                member.renew(now);
                waiting.push((ticket, member_id.clone()));
            }
        }
        for (ticket, member_id) in waiting {
            let joined = self.joined(&member_id);
            self.join_answers.insert(ticket, Ok(joined));
        }
    }

    /// The leader stays if it joined, else the first who did takes over.
    fn elect_leader(&mut self) {
        if self.members.get(&self.leader).is_none_or(|leader| leader.joining.is_none()) {
            let joined = self.members.iter().find(|(_, member)| member.joining.is_some());
            self.leader = joined.map(|(member_id, _)| member_id.clone()).unwrap_or_default();
        }
    }

    /// The assignor that all support and most prefer; of equals the first by name.
    pub(super) fn select_protocol(&self) -> String {
        let mut votes = BTreeMap::<&str, usize>::new();
        for member in self.members.values() {
            let shared = |name: &&str| self.members.values().all(|other| other.supports(name));
            if let Some(choice) = member.protocols.iter().map(|(name, _)| name.as_str()).find(shared) {
                *votes.entry(choice).or_default() += 1;
            }
        }
        votes.into_iter().rev().max_by_key(|(_, count)| *count).map(|(name, _)| name.to_owned()).unwrap_or_default()
    }

    pub(super) fn joined(&self, member_id: &str) -> Joined {
        let member = |(id, member): (&String, &Member)| JoinedMember {
            member_id: id.clone(),
            instance_id: member.instance_id.clone(),
            metadata: member.metadata(&self.protocol),
        };
        let members = if self.leader == member_id { self.members.iter().map(member).collect() } else { Vec::new() };
        Joined {
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            member_id: member_id.to_owned(),
            skip_assignment: false,
            members,
        }
    }

    pub(super) fn await_assignment(&mut self, ticket: Ticket, member_id: &str) {
        let Some(member) = self.members.get_mut(member_id) else { return };
        if let Some(older) = member.syncing.replace(ticket) {
            self.sync_answers.insert(older, Err(ResponseError::RebalanceInProgress));
        }
    }

    /// The leader's division of the partitions: everybody who waits gets their part.
    pub(super) fn assign(&mut self, now: Duration, assignments: Vec<(String, Bytes)>) {
        for (member_id, assignment) in assignments {
            if let Some(member) = self.members.get_mut(&member_id) {
                member.assignment = assignment;
            }
        }
        self.phase = Phase::Stable;
        let mut waiting = Vec::new();
        for (member_id, member) in &mut self.members {
            member.renew(now);
            waiting.extend(member.syncing.take().map(|ticket| (ticket, member_id.clone())));
        }
        for (ticket, member_id) in waiting {
            let synced = self.synced(&member_id);
            self.sync_answers.insert(ticket, Ok(synced));
        }
    }

    pub(super) fn synced(&self, member_id: &str) -> Synced {
        Synced {
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            assignment: self.members.get(member_id).map(|member| member.assignment.clone()).unwrap_or_default(),
        }
    }

    pub(super) fn remove_members(&mut self, now: Duration, is_out: impl Fn(&Member) -> bool) {
        let out: Vec<String> =
            self.members.iter().filter(|(_, member)| is_out(member)).map(|(member_id, _)| member_id.clone()).collect();
        for member_id in out {
            self.remove_member(now, &member_id);
        }
    }

    pub(super) fn remove_member(&mut self, now: Duration, member_id: &str) {
        let Some(member) = self.members.remove(member_id) else { return };
        self.refuse_waiting(&member, member_id, ResponseError::UnknownMemberId);
        self.prepare_rebalance(now);
        self.complete_join_if_ready(now);
    }

    pub(super) fn refuse_waiting(&mut self, member: &Member, member_id: &str, error: ResponseError) {
        if let Some(ticket) = member.joining {
            self.join_answers.insert(ticket, Err(JoinRefused { error, member_id: member_id.to_owned() }));
        }
        if let Some(ticket) = member.syncing {
            self.sync_answers.insert(ticket, Err(error));
        }
    }
}
