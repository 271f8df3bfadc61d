//! The members of a group in the consumer protocol (KIP-848), as their coordinator sees them.
//!
//! Whenever membership, subscriptions or topics change, the group's epoch grows and a target is computed. Each member
//! gets there by its own heartbeats: first it gives up what the target lacks, and says so; then it enters the group's
//! epoch and is given what nobody else holds any more. Source: `ConsumerGroup`, `CurrentAssignmentBuilder` and
//! `UniformAssignor` of Kafka's group coordinator; of its rules those that a client can notice.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kafka_protocol::ResponseError;
use uuid::Uuid;

use super::Caller;

/// A partition by its topic's id.
pub type IdPartition = (Uuid, i32);
/// Id and number of partitions of each topic, by its name.
pub type TopicSizes = BTreeMap<String, (Uuid, i32)>;

type Targets = BTreeMap<String, BTreeSet<IdPartition>>;

const JOINING_EPOCH: i32 = 0;
const LEAVING_EPOCH: i32 = -1;
const LEAVING_STATIC_EPOCH: i32 = -2;
const UNIFORM: &str = "uniform";
const RANGE: &str = "range";

/// How often members are to show up, and how long they may be silent: the broker's choice in this protocol.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    pub heartbeat_interval: Duration,
    pub session_timeout: Duration,
}

/// A ConsumerGroupHeartbeat. What is `None` has not changed.
#[derive(Clone, Debug, Default)]
pub struct Beat {
    pub member_id: String,
    pub epoch: i32,
    pub instance_id: Option<String>,
    pub rebalance_timeout: Option<Duration>,
    pub subscribed: Option<Vec<String>>,
    pub assignor: Option<String>,
    pub owned: Option<BTreeSet<IdPartition>>,
}

/// The answer to a heartbeat that was accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    pub member_id: String,
    pub epoch: i32,
    /// Everything that is the member's, when that has changed or was asked for.
    pub assignment: Option<BTreeSet<IdPartition>>,
}

#[derive(Debug, Default)]
struct ConsumerMember {
    instance_id: Option<String>,
    subscribed: BTreeSet<String>,
    assignor: Option<String>,
    epoch: i32,
    previous_epoch: i32,
    assigned: BTreeSet<IdPartition>,
    /// Taken away, and not yet given up.
    revoking: BTreeSet<IdPartition>,
    rebalance_timeout: Duration,
    revoke_by: Option<Duration>,
    session_deadline: Duration,
    /// A static member that said it would be back.
    is_away: bool,
}

/// The members and where they are going.
#[derive(Debug, Default)]
pub struct ConsumerMembers {
    epoch: i32,
    members: BTreeMap<String, ConsumerMember>,
    targets: Targets,
    /// The topics that the targets were made for.
    sizes: TopicSizes,
}

impl ConsumerMembers {
    /// Whether nobody is here.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Takes in a heartbeat.
    pub fn heartbeat(
        &mut self,
        now: Duration,
        pace: Pace,
        beat: Beat,
        sizes: &TopicSizes,
    ) -> Result<Accepted, ResponseError> {
        if matches!(beat.epoch, LEAVING_EPOCH | LEAVING_STATIC_EPOCH) {
            return self.leave(&beat);
        }
        if beat.assignor.as_deref().is_some_and(|assignor| ![UNIFORM, RANGE].contains(&assignor)) {
            return Err(ResponseError::UnsupportedAssignor);
        }
        match beat.epoch {
            JOINING_EPOCH => self.join(&beat)?,
            _ => self.check(&beat)?,
        }
        let changed = self.update(now, pace, &beat);
        if changed || self.relevant(sizes) != self.sizes {
            self.sizes = self.relevant(sizes);
            self.epoch += 1;
            self.targets = self.assign();
        }
        let before = self.members.get(&beat.member_id).map(|member| member.assigned.clone());
        self.reconcile(now, &beat);
        let member = self.members.get(&beat.member_id).ok_or(ResponseError::UnknownMemberId)?;
        let tell = beat.epoch == JOINING_EPOCH || beat.owned.is_some() || before.as_ref() != Some(&member.assigned);
        let assignment = tell.then(|| member.assigned.clone());
        Ok(Accepted { member_id: beat.member_id, epoch: member.epoch, assignment })
    }

    /// Whether the caller may commit or read offsets now.
    pub fn check_caller(&self, caller: &Caller) -> Result<(), ResponseError> {
        let member = self.members.get(&caller.member_id).ok_or(ResponseError::UnknownMemberId)?;
        if member.epoch == caller.generation { Ok(()) } else { Err(ResponseError::StaleMemberEpoch) }
    }

    /// When [`tick`](Self::tick) has something to do next.
    pub fn next_deadline(&self) -> Option<Duration> {
        self.members.values().flat_map(|member| [Some(member.session_deadline), member.revoke_by]).flatten().min()
    }

    /// Sends those away who were silent for their session, or did not give up in time what was taken from them.
    pub fn tick(&mut self, now: Duration) {
        let is_late =
            |member: &ConsumerMember| member.session_deadline <= now || member.revoke_by.is_some_and(|by| by <= now);
        let late: Vec<String> =
            self.members.iter().filter(|(_, member)| is_late(member)).map(|(id, _)| id.clone()).collect();
        late.iter().for_each(|id| self.remove(id));
    }

    fn join(&mut self, beat: &Beat) -> Result<(), ResponseError> {
        if beat.subscribed.as_ref().is_none_or(Vec::is_empty)
            || beat.owned.as_ref().is_none_or(|owned| !owned.is_empty())
        {
            return Err(ResponseError::InvalidRequest);
        }
        let is_predecessor = |(id, member): &(&String, &ConsumerMember)| {
            **id != beat.member_id && member.instance_id.is_some() && member.instance_id == beat.instance_id
        };
        let predecessor = self.members.iter().find(is_predecessor).map(|(id, member)| (id.clone(), member.is_away));
        match predecessor {
            Some((_, false)) => return Err(ResponseError::UnreleasedInstanceId),
            Some((id, true)) => self.inherit(&id, &beat.member_id),
            None => {}
        }
        let member = self.members.entry(beat.member_id.clone()).or_default();
        member.instance_id.clone_from(&beat.instance_id);
        member.revoking.clear();
        member.revoke_by = None;
        Ok(())
    }

    /// A static member is back under another id: what its predecessor had is its own, and nobody else notices.
    fn inherit(&mut self, predecessor: &str, member_id: &str) {
        let Some(mut member) = self.members.remove(predecessor) else { return };
        member.is_away = false;
        self.members.insert(member_id.to_owned(), member);
        let target = self.targets.remove(predecessor).unwrap_or_default();
        self.targets.insert(member_id.to_owned(), target);
    }

    /// A member that did not hear the last answer may come with the epoch before, if it has nothing that is not its own.
    fn check(&self, beat: &Beat) -> Result<(), ResponseError> {
        let member = self.members.get(&beat.member_id).ok_or(ResponseError::UnknownMemberId)?;
        let missed = beat.epoch == member.previous_epoch
            && beat.owned.as_ref().is_some_and(|owned| owned.is_subset(&member.assigned));
        if beat.epoch == member.epoch || missed { Ok(()) } else { Err(ResponseError::FencedMemberEpoch) }
    }

    fn leave(&mut self, beat: &Beat) -> Result<Accepted, ResponseError> {
        let member = self.members.get_mut(&beat.member_id).ok_or(ResponseError::UnknownMemberId)?;
        if beat.epoch == LEAVING_STATIC_EPOCH && member.instance_id.is_some() {
            member.is_away = true;
        } else {
            self.remove(&beat.member_id);
        }
        Ok(Accepted { member_id: beat.member_id.clone(), epoch: beat.epoch, assignment: None })
    }

    fn remove(&mut self, member_id: &str) {
        self.members.remove(member_id);
        self.epoch += 1;
        self.targets = self.assign();
    }

    /// Whether that changes who is to get what.
    fn update(&mut self, now: Duration, pace: Pace, beat: &Beat) -> bool {
        let is_new = !self.targets.contains_key(&beat.member_id);
        let Some(member) = self.members.get_mut(&beat.member_id) else { return false };
        member.session_deadline = now + pace.session_timeout;
        member.rebalance_timeout = beat.rebalance_timeout.unwrap_or(member.rebalance_timeout);
        let before = (member.subscribed.clone(), member.assignor.clone());
        if let Some(subscribed) = &beat.subscribed {
            member.subscribed = subscribed.iter().cloned().collect();
        }
        if beat.assignor.is_some() {
            member.assignor.clone_from(&beat.assignor);
        }
        is_new || before != (member.subscribed.clone(), member.assignor.clone())
    }

    fn relevant(&self, sizes: &TopicSizes) -> TopicSizes {
        let wanted = |name: &String| self.members.values().any(|member| member.subscribed.contains(name));
        sizes.iter().filter(|(name, _)| wanted(name)).map(|(name, size)| (name.clone(), *size)).collect()
    }

    fn reconcile(&mut self, now: Duration, beat: &Beat) {
        let others = self.members.iter().filter(|(id, _)| **id != beat.member_id);
        let taken: BTreeSet<IdPartition> =
            others.flat_map(|(_, member)| member.assigned.union(&member.revoking)).copied().collect();
        let (Some(member), Some(target)) = (self.members.get_mut(&beat.member_id), self.targets.get(&beat.member_id))
        else {
            return;
        };
        if beat.owned.as_ref().is_some_and(|owned| owned.is_disjoint(&member.revoking)) {
            member.revoking.clear();
            member.revoke_by = None;
        }
        if !member.revoking.is_empty() {
            return;
        }
        // What a member that joins had before is not its own any more, so there is nothing to wait for.
        let revoking: BTreeSet<IdPartition> = member.assigned.difference(target).copied().collect();
        member.assigned.retain(|partition| target.contains(partition));
        if !revoking.is_empty() && beat.epoch != JOINING_EPOCH {
            member.revoking = revoking;
            member.revoke_by = Some(now + member.rebalance_timeout);
            return;
        }
        if member.epoch != self.epoch {
            member.previous_epoch = std::mem::replace(&mut member.epoch, self.epoch);
        }
        member.assigned = target.difference(&taken).copied().collect();
    }

    /// Who is to get what; the assignor is the one that somebody asks for.
    fn assign(&self) -> Targets {
        match self.members.values().find_map(|member| member.assignor.as_deref()) {
            Some(RANGE) => self.range(),
            _ => self.uniform(),
        }
    }

    /// Consecutive partitions of each topic to each of its subscribers.
    fn range(&self) -> Targets {
        let mut targets = self.no_targets();
        for (name, (id, count)) in &self.sizes {
            let takers = self.takers(name);
            let taker_count = takers.len().max(1);
            let (share, rest) = (*count as usize / taker_count, *count as usize % taker_count);
            let mut next = 0;
            for (nth, taker) in takers.into_iter().enumerate() {
                let end = next + share + usize::from(nth < rest);
                targets.entry(taker.clone()).or_default().extend((next..end).map(|index| (*id, index as i32)));
                next = end;
            }
        }
        targets
    }

    /// As equal as can be, with few changes of hands.
    fn uniform(&self) -> Targets {
        let mut targets = self.no_targets();
        for (name, (id, count)) in &self.sizes {
            let takers = self.takers(name);
            for partition in (0..*count).map(|index| (*id, index)) {
                let keeps = |taker: &&&String| self.targets.get(**taker).is_some_and(|old| old.contains(&partition));
                let least = || takers.iter().min_by_key(|taker| targets[**taker].len());
                if let Some(taker) = takers.iter().find(keeps).or_else(least) {
                    targets.entry((*taker).clone()).or_default().insert(partition);
                }
            }
        }
        while self.relieve(&mut targets) {}
        targets
    }

    /// Moves one partition to a member that has at least two fewer than who has it.
    fn relieve(&self, targets: &mut Targets) -> bool {
        for (name, (id, _)) in &self.sizes {
            let takers = self.takers(name);
            let Some(poorest) = takers.iter().min_by_key(|taker| targets[**taker].len()) else { continue };
            let owns = |taker: &&&String| targets[**taker].iter().any(|(topic, _)| topic == id);
            let Some(richest) = takers.iter().filter(owns).max_by_key(|taker| targets[**taker].len()) else { continue };
            if targets[*richest].len() < targets[*poorest].len() + 2 {
                continue;
            }
            let moved = targets[*richest].iter().rfind(|(topic, _)| topic == id).copied();
            let Some(moved) = moved else { continue };
            targets.entry((*richest).clone()).or_default().remove(&moved);
            targets.entry((*poorest).clone()).or_default().insert(moved);
            return true;
        }
        false
    }

    fn no_targets(&self) -> Targets {
        self.members.keys().map(|id| (id.clone(), BTreeSet::new())).collect()
    }

    fn takers(&self, topic: &str) -> Vec<&String> {
        self.members.iter().filter(|(_, member)| member.subscribed.contains(topic)).map(|(id, _)| id).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACE: Pace = Pace { heartbeat_interval: Duration::from_secs(5), session_timeout: Duration::from_secs(45) };
    const TOPIC: Uuid = Uuid::from_u128(7);

    fn sizes(partitions: i32) -> TopicSizes {
        [("t".to_owned(), (TOPIC, partitions))].into()
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn join(member_id: &str, instance_id: Option<&str>) -> Beat {
        Beat {
            member_id: member_id.into(),
            instance_id: instance_id.map(str::to_owned),
            rebalance_timeout: Some(at(60)),
            subscribed: Some(vec!["t".into()]),
            owned: Some(BTreeSet::new()),
            ..Beat::default()
        }
    }

    fn beat(member_id: &str, epoch: i32, owned: Option<&BTreeSet<IdPartition>>) -> Beat {
        Beat { member_id: member_id.into(), epoch, owned: owned.cloned(), ..Beat::default() }
    }

    fn count(accepted: &Accepted) -> usize {
        accepted.assignment.as_ref().map_or(0, BTreeSet::len)
    }

    #[test]
    fn a_second_member_gets_its_share_when_the_first_has_given_it_up() {
        let mut group = ConsumerMembers::default();
        let mut say = |beat: Beat| group.heartbeat(at(1), PACE, beat, &sizes(4));
        let one = say(join("one", None)).unwrap();
        assert_eq!((one.epoch, count(&one)), (1, 4));
        let two = say(join("two", None)).unwrap();
        assert_eq!((two.epoch, count(&two)), (2, 0), "all is the other's still");
        let asked = say(beat("one", 1, None)).unwrap();
        assert_eq!((asked.epoch, count(&asked)), (1, 2), "what it keeps; not yet in the new epoch");
        let kept = asked.assignment.unwrap();
        assert_eq!(say(beat("two", 2, None)).unwrap().assignment, None, "nothing has changed for it");
        assert_eq!(say(beat("one", 1, Some(&kept))).unwrap().epoch, 2);
        assert_eq!(count(&say(beat("two", 2, None)).unwrap()), 2);
    }

    #[test]
    fn who_may_come_with_which_epoch() {
        let mut group = ConsumerMembers::default();
        let mut say = |beat: Beat| group.heartbeat(at(1), PACE, beat, &sizes(2)).map(|accepted| accepted.epoch);
        assert_eq!(say(beat("one", 3, None)), Err(ResponseError::UnknownMemberId));
        assert_eq!(say(beat("one", 0, None)), Err(ResponseError::InvalidRequest), "joins without saying all");
        assert_eq!(say(join("one", None)), Ok(1));
        assert_eq!(say(beat("one", 2, None)), Err(ResponseError::FencedMemberEpoch));
        assert_eq!(
            say(Beat { assignor: Some("x".into()), ..join("two", None) }),
            Err(ResponseError::UnsupportedAssignor)
        );
        let caller =
            |member_id: &str, generation| Caller { member_id: member_id.into(), generation, instance_id: None };
        assert_eq!(group.check_caller(&caller("one", 1)), Ok(()));
        assert_eq!(group.check_caller(&caller("one", 0)), Err(ResponseError::StaleMemberEpoch));
        assert_eq!(group.check_caller(&caller("two", 1)), Err(ResponseError::UnknownMemberId));
    }

    #[test]
    fn a_static_member_comes_back_to_what_it_had_and_keeps_a_second_one_out() {
        let mut group = ConsumerMembers::default();
        let mut say = |beat: Beat| group.heartbeat(at(1), PACE, beat, &sizes(2));
        assert_eq!(say(join("old", Some("i"))).unwrap().epoch, 1);
        assert_eq!(say(join("new", Some("i"))), Err(ResponseError::UnreleasedInstanceId));
        say(beat("old", LEAVING_STATIC_EPOCH, None)).unwrap();
        let back = say(join("new", Some("i"))).unwrap();
        assert_eq!((back.epoch, count(&back)), (1, 2), "nobody else would notice");
        assert_eq!(say(beat("old", 1, None)), Err(ResponseError::UnknownMemberId));
    }

    #[test]
    fn the_silent_and_the_slow_are_sent_away() {
        let mut group = ConsumerMembers::default();
        group.heartbeat(at(0), PACE, join("silent", None), &sizes(2)).unwrap();
        assert_eq!(group.next_deadline(), Some(at(45)));
        group.tick(at(45));
        assert!(group.is_empty());
        let slow = group.heartbeat(at(100), PACE, join("slow", None), &sizes(2)).unwrap();
        let two = group.heartbeat(at(100), PACE, join("two", None), &sizes(2)).unwrap();
        let asked = group.heartbeat(at(101), PACE, beat("slow", slow.epoch, None), &sizes(2)).unwrap();
        assert_eq!(count(&asked), 1);
        for second in [120, 140, 160] {
            group.heartbeat(at(second), PACE, beat("slow", slow.epoch, None), &sizes(2)).unwrap();
            group.heartbeat(at(second), PACE, beat("two", two.epoch, None), &sizes(2)).unwrap();
        }
        group.tick(at(161));
        let two = group.heartbeat(at(162), PACE, beat("two", two.epoch, None), &sizes(2)).unwrap();
        assert_eq!(count(&two), 2);
    }

    #[test]
    fn new_partitions_and_both_assignors_are_shared_out_evenly() {
        for assignor in [None, Some(RANGE.to_owned())] {
            let mut group = ConsumerMembers::default();
            for (nth, partitions) in [(1, 5), (2, 5), (3, 12)] {
                let joins = Beat { assignor: assignor.clone(), ..join(&format!("m{nth}"), None) };
                group.heartbeat(at(1), PACE, joins, &sizes(partitions)).unwrap();
            }
            let shares: Vec<usize> = group.targets.values().map(BTreeSet::len).collect();
            assert_eq!(shares, [4, 4, 4], "{assignor:?}");
            let all: BTreeSet<&IdPartition> = group.targets.values().flatten().collect();
            assert_eq!(all.len(), 12, "{assignor:?}: none twice");
        }
    }
}
