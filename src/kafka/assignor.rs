//! Who gets which partition: the three assignors that other clients know too, by their names.
//!
//! Only the group's leader assigns, for all members, whatever client they are; so what must agree with Java and
//! librdkafka is the names, the subscriptions ([`super::membership`]) and, for `cooperative-sticky`, that a partition
//! changes hands in two rebalances: withheld in the first, while its owner gives it up, assigned in the second.
//! Source: `RangeAssignor`, `RoundRobinAssignor`, `CooperativeStickyAssignor` of Kafka's clients; KIP-429.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::membership::Subscription;
use crate::core::record::TopicPartition;

/// How many partitions each topic has.
pub type PartitionCounts = BTreeMap<Arc<str>, i32>;

/// What each member, by its id, is given.
pub type Plan = BTreeMap<String, Vec<TopicPartition>>;

/// A way to share partitions among members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Assignor {
    /// Consecutive partitions of each topic to each member; a partition number of two topics meets the same member.
    Range,
    /// All partitions dealt out one by one.
    RoundRobin,
    /// Balanced, with as few changes of hands as possible, and without stopping those that stay.
    CooperativeSticky,
}

impl Assignor {
    /// Java's default list.
    pub const DEFAULT: [Assignor; 2] = [Assignor::Range, Assignor::CooperativeSticky];
    const ALL: [Assignor; 3] = [Assignor::Range, Assignor::RoundRobin, Assignor::CooperativeSticky];

    /// The name in JoinGroup, known to all clients.
    pub fn name(self) -> &'static str {
        match self {
            Assignor::Range => "range",
            Assignor::RoundRobin => "roundrobin",
            Assignor::CooperativeSticky => "cooperative-sticky",
        }
    }

    /// The assignor of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|assignor| assignor.name() == name)
    }

    /// Whether members keep their partitions while they join.
    pub fn is_cooperative(self) -> bool {
        self == Assignor::CooperativeSticky
    }

    /// Shares the partitions of `counts` among `members`. Every member is in the plan, if with nothing.
    pub fn assign(self, members: &[Member], counts: &PartitionCounts) -> Plan {
        let mut members: Vec<&Member> = members.iter().collect();
        members.sort_by_key(|member| member.rank());
        let shares = match self {
            Assignor::Range => range(&members, counts),
            Assignor::RoundRobin => round_robin(&members, counts),
            Assignor::CooperativeSticky => Balance::new(&members, counts).share(),
        };
        members.iter().map(|member| member.id.clone()).zip(shares).collect()
    }
}

/// A member as the leader sees it.
#[derive(Clone, Debug)]
pub struct Member {
    pub id: String,
    /// `group.instance.id` of a static member.
    pub instance: Option<String>,
    pub subscription: Subscription,
}

impl Member {
    /// Java's order of members: static ones first, by instance, so that a restart changes nothing; then by id.
    fn rank(&self) -> (bool, &str) {
        (self.instance.is_none(), self.instance.as_deref().unwrap_or(&self.id))
    }

    fn wants(&self, topic: &str) -> bool {
        self.subscription.topics.iter().any(|wanted| &**wanted == topic)
    }
}

/// Partitions per member, in the members' order.
type Shares = Vec<Vec<TopicPartition>>;

fn range(members: &[&Member], counts: &PartitionCounts) -> Shares {
    let mut shares = vec![Vec::new(); members.len()];
    for (topic, &count) in counts {
        let takers = takers(members, topic);
        let mut next = 0;
        for (place, &member) in takers.iter().enumerate() {
            let (each, rest) = (count / takers.len() as i32, count % takers.len() as i32);
            let end = next + each + i32::from((place as i32) < rest);
            shares[member].extend((next..end).map(|partition| TopicPartition::new(Arc::clone(topic), partition)));
            next = end;
        }
    }
    shares
}

fn round_robin(members: &[&Member], counts: &PartitionCounts) -> Shares {
    let mut shares = vec![Vec::new(); members.len()];
    let mut turn = 0;
    for partition in all_partitions(counts) {
        let taker = (turn..turn + members.len())
            .map(|place| place % members.len())
            .find(|&member| members[member].wants(&partition.topic));
        if let Some(member) = taker {
            shares[member].push(partition);
            turn = member + 1;
        }
    }
    shares
}

/// The indexes of the members that subscribe to `topic`.
fn takers(members: &[&Member], topic: &str) -> Vec<usize> {
    (0..members.len()).filter(|&member| members[member].wants(topic)).collect()
}

fn all_partitions(counts: &PartitionCounts) -> impl Iterator<Item = TopicPartition> {
    let of_topic = |(topic, count): (&Arc<str>, &i32)| {
        let topic = Arc::clone(topic);
        (0..*count).map(move |partition| TopicPartition { topic: Arc::clone(&topic), partition })
    };
    counts.iter().flat_map(of_topic)
}

/// The sticky assignment in the making. Members are indexes.
struct Balance<'a> {
    counts: &'a PartitionCounts,
    takers: BTreeMap<&'a str, Vec<usize>>,
    /// Who says that it holds a partition, and since which generation.
    claims: BTreeMap<TopicPartition, Vec<(i32, usize)>>,
    shares: Vec<BTreeSet<TopicPartition>>,
}

impl<'a> Balance<'a> {
    fn new(members: &[&Member], counts: &'a PartitionCounts) -> Self {
        let mut claims: BTreeMap<TopicPartition, Vec<(i32, usize)>> = BTreeMap::new();
        for (index, member) in members.iter().enumerate() {
            let generation = member.subscription.generation.unwrap_or(-1);
            for partition in &member.subscription.owned {
                claims.entry(partition.clone()).or_default().push((generation, index));
            }
        }
        let takers = counts.keys().map(|topic| (&**topic, takers(members, topic))).collect();
        Self { counts, takers, claims, shares: vec![BTreeSet::new(); members.len()] }
    }

    fn share(mut self) -> Shares {
        let (held, free): (Vec<_>, Vec<_>) = all_partitions(self.counts)
            .map(|partition| (self.holder(&partition), partition))
            .partition(|(holder, _)| holder.is_some());
        for (holder, partition) in held {
            self.give(holder, partition);
        }
        for (_, partition) in free {
            self.give(self.least_loaded(&partition.topic), partition);
        }
        while self.relieve_the_most_loaded() {}
        self.withhold_what_changes_hands()
    }

    /// Who holds a partition now and may keep it: of several who say so, the one with the newest generation, if it is
    /// the only one with that.
    fn holder(&self, partition: &TopicPartition) -> Option<usize> {
        let claims = self.claims.get(partition)?;
        let newest = claims.iter().map(|(generation, _)| *generation).max()?;
        let mut newest_claims = claims.iter().filter(|(generation, _)| *generation == newest);
        let (_, member) = newest_claims.next()?;
        let alone = newest_claims.next().is_none();
        (alone && self.takers[&*partition.topic].contains(member)).then_some(*member)
    }

    /// Gives to nobody when nobody wants it.
    fn give(&mut self, member: Option<usize>, partition: TopicPartition) {
        if let Some(member) = member {
            self.shares[member].insert(partition);
        }
    }

    fn load(&self, member: usize) -> usize {
        self.shares[member].len()
    }

    fn least_loaded(&self, topic: &str) -> Option<usize> {
        self.takers[topic].iter().copied().min_by_key(|&member| self.load(member))
    }

    /// Moves one partition from the most loaded member that has one for whom a taker would still have less than it.
    /// Each move makes the sum of the squared loads smaller, so this comes to an end.
    fn relieve_the_most_loaded(&mut self) -> bool {
        let mut givers: Vec<usize> = (0..self.shares.len()).collect();
        givers.sort_by_key(|&member| Reverse(self.load(member)));
        let lightest = givers.last().map_or(0, |&member| self.load(member));
        let givers = givers.into_iter().take_while(|&giver| self.load(giver) >= lightest + 2);
        let found =
            givers.flat_map(|giver| self.counts.keys().map(move |topic| (giver, topic))).find_map(|(giver, topic)| {
                let taker = self.least_loaded(topic).filter(|&taker| self.load(giver) >= self.load(taker) + 2)?;
                let of_topic = TopicPartition::new(topic.clone(), 0)..=TopicPartition::new(topic.clone(), i32::MAX);
                Some((giver, taker, self.shares[giver].range(of_topic).next_back()?.clone()))
            });
        let Some((giver, taker, partition)) = found else { return false };
        self.shares[giver].remove(&partition);
        self.shares[taker].insert(partition);
        true
    }

    /// A partition that somebody else still holds goes to nobody for now: its holder gives it up when it sees that it
    /// is not its any more, and joins again.
    fn withhold_what_changes_hands(self) -> Shares {
        let claims = &self.claims;
        let is_free = |partition: &TopicPartition, owner: usize| {
            claims.get(partition).is_none_or(|claims| claims.iter().any(|(_, member)| *member == owner))
        };
        let shares = self.shares.into_iter().enumerate();
        shares.map(|(owner, share)| share.into_iter().filter(|partition| is_free(partition, owner)).collect()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn member(id: &str, topics: &[&str]) -> Member {
        let topics = topics.iter().map(|topic| Arc::from(*topic)).collect();
        Member { id: id.into(), instance: None, subscription: Subscription { topics, ..Subscription::default() } }
    }

    fn counts(of: &[(&str, i32)]) -> PartitionCounts {
        of.iter().map(|(topic, count)| (Arc::from(*topic), *count)).collect()
    }

    fn show(plan: &Plan) -> String {
        plan.iter().map(|(id, share)| format!("{id}:{share:?}")).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn assignors_agree_with_java_on_its_documented_examples() {
        let two = [member("C1", &["t0", "t1"]), member("C0", &["t0", "t1"])];
        let uneven = [member("C0", &["t0"]), member("C1", &["t0", "t1"]), member("C2", &["t0", "t1", "t2"])];
        let (three_each, growing) = (counts(&[("t0", 3), ("t1", 3)]), counts(&[("t0", 1), ("t1", 2), ("t2", 3)]));
        for (assignor, members, counts, expected) in [
            (Assignor::Range, &two[..], &three_each, "C0:[t0/0, t0/1, t1/0, t1/1] C1:[t0/2, t1/2]"),
            (Assignor::RoundRobin, &two[..], &three_each, "C0:[t0/0, t0/2, t1/1] C1:[t0/1, t1/0, t1/2]"),
            (Assignor::RoundRobin, &uneven[..], &growing, "C0:[t0/0] C1:[t1/0] C2:[t1/1, t2/0, t2/1, t2/2]"),
        ] {
            assert_eq!(show(&assignor.assign(members, counts)), expected, "{assignor:?}");
        }
    }

    #[test]
    fn static_members_keep_their_place_when_their_ids_change() {
        let with = |id: &str, instance: &str| Member { instance: Some(instance.into()), ..member(id, &["t"]) };
        let counts = counts(&[("t", 2)]);
        let before = Assignor::Range.assign(&[with("z", "one"), with("a", "two")], &counts);
        let after = Assignor::Range.assign(&[with("b", "one"), with("a", "two")], &counts);
        assert_eq!((&before["z"], &before["a"]), (&after["b"], &after["a"]));
    }

    #[test]
    fn a_claim_of_an_older_generation_gives_way_and_two_equal_claims_cancel() {
        let claiming = |id: &str, generation: i32| {
            let mut member = member(id, &["t"]);
            member.subscription.owned = vec![TopicPartition::new("t", 0)];
            member.subscription.generation = Some(generation);
            member
        };
        let counts = counts(&[("t", 1)]);
        let plan = Assignor::CooperativeSticky.assign(&[claiming("a", 3), claiming("b", 4)], &counts);
        assert_eq!(show(&plan), "a:[] b:[t/0]");
        let plan =
            Assignor::CooperativeSticky.assign(&[claiming("a", 4), claiming("b", 4), member("c", &["t"])], &counts);
        assert_eq!(plan.values().flatten().count(), 1, "{}", show(&plan));
    }

    #[test]
    fn a_third_member_gets_its_share_with_the_fewest_moves() {
        let mut members = vec![member("a", &["t"]), member("b", &["t"])];
        let counts = counts(&[("t", 8)]);
        let plan = Assignor::CooperativeSticky.assign(&members, &counts);
        hold(&mut members, &plan, 1);
        members.push(member("c", &["t"]));
        let first = Assignor::CooperativeSticky.assign(&members, &counts);
        assert_eq!(first.values().map(Vec::len).collect::<Vec<_>>(), [3, 3, 0], "{}", show(&first));
    }

    /// Topics with their counts, and each member's topics as a bit mask.
    fn groups() -> impl Strategy<Value = (PartitionCounts, Vec<u8>)> {
        let counts = proptest::collection::vec(0..9i32, 1..4);
        let counts =
            counts.prop_map(|list| list.into_iter().enumerate().map(|(i, n)| (format!("t{i}").into(), n)).collect());
        (counts, proptest::collection::vec(0..8u8, 1..6))
    }

    fn members_of(masks: &[u8]) -> Vec<Member> {
        let topics = ["t0", "t1", "t2"];
        let wanted = |mask: u8| (0..3).filter(|bit| mask >> bit & 1 == 1).map(|bit| topics[bit]).collect::<Vec<_>>();
        masks.iter().enumerate().map(|(index, mask)| member(&format!("m{index}"), &wanted(*mask))).collect()
    }

    /// Every partition that somebody wants is with exactly one member that wants it.
    fn check_complete(plan: &Plan, members: &[Member], counts: &PartitionCounts) {
        let given: Vec<&TopicPartition> = plan.values().flatten().collect();
        let distinct: BTreeSet<&TopicPartition> = given.iter().copied().collect();
        assert_eq!(given.len(), distinct.len(), "given twice: {}", show(plan));
        for member in members {
            assert!(
                plan[&member.id].iter().all(|partition| member.wants(&partition.topic)),
                "unwanted: {}",
                show(plan)
            );
        }
        let wanted = all_partitions(counts).filter(|partition| members.iter().any(|m| m.wants(&partition.topic)));
        assert_eq!(wanted.count(), given.len(), "left out: {}", show(plan));
    }

    fn hold(members: &mut [Member], plan: &Plan, generation: i32) {
        for member in members {
            if let Some(share) = plan.get(&member.id) {
                member.subscription.owned = share.clone();
                member.subscription.generation = Some(generation);
            }
        }
    }

    proptest! {
        #[test]
        fn every_assignor_gives_every_partition_to_exactly_one_member((counts, masks) in groups()) {
            let members = members_of(&masks);
            for assignor in Assignor::ALL {
                check_complete(&assignor.assign(&members, &counts), &members, &counts);
            }
        }

        #[test]
        fn sticky_is_balanced_and_stays_when_nothing_changes((counts, masks) in groups()) {
            let mut members = members_of(&masks);
            let plan = Assignor::CooperativeSticky.assign(&members, &counts);
            for (giver, taker) in members.iter().flat_map(|a| members.iter().map(move |b| (a, b))) {
                let movable = plan[&giver.id].iter().any(|partition| taker.wants(&partition.topic));
                let (more, less) = (plan[&giver.id].len(), plan[&taker.id].len());
                prop_assert!(!movable || more <= less + 1, "{}", show(&plan));
            }
            hold(&mut members, &plan, 1);
            prop_assert_eq!(&Assignor::CooperativeSticky.assign(&members, &counts), &plan);
        }

        #[test]
        fn cooperative_members_come_and_go_and_no_partition_has_two_owners(
            (counts, masks) in groups(), leaver in 0..6usize, joiner in 0..8u8,
        ) {
            let mut members = members_of(&masks);
            let plan = Assignor::CooperativeSticky.assign(&members, &counts);
            hold(&mut members, &plan, 1);
            if leaver < members.len() {
                members.remove(leaver);
            }
            members.extend(members_of(&[joiner]).into_iter().map(|m| Member { id: "new".into(), ..m }));
            // Two rebalances for one partition that changes hands; where topics are wanted by few, what is balanced best
            // can look different with it free than with it held, and another one changes hands.
            let mut plan = Plan::new();
            for generation in 2..6 {
                plan = Assignor::CooperativeSticky.assign(&members, &counts);
                for (id, share) in &plan {
                    for other in members.iter().filter(|other| other.id != *id) {
                        let both = share.iter().find(|partition| other.subscription.owned.contains(partition));
                        prop_assert!(both.is_none(), "{both:?} is still with {}: {}", other.id, show(&plan));
                    }
                }
                hold(&mut members, &plan, generation);
            }
            check_complete(&plan, &members, &counts);
            prop_assert_eq!(&Assignor::CooperativeSticky.assign(&members, &counts), &plan, "does not come to rest");
        }
    }
}
