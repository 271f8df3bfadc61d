//! The state machine by example, and under random events: every ticket is answered, no answer contradicts another.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const SESSION: Duration = Duration::from_secs(10);
const REBALANCE: Duration = Duration::from_secs(60);

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn join_of(member_id: &str, offered_id: &str) -> Join {
    Join {
        member_id: member_id.into(),
        offered_id: offered_id.into(),
        protocol_type: "consumer".into(),
        protocols: vec![("range".into(), Bytes::from_static(b"topics"))],
        session_timeout: SESSION,
        rebalance_timeout: REBALANCE,
        ..Join::default()
    }
}

fn static_join(instance: &str, offered_id: &str) -> Join {
    Join { instance_id: Some(instance.into()), can_skip_assignment: true, ..join_of("", offered_id) }
}

fn caller(member_id: &str, generation: i32) -> Caller {
    Caller { member_id: member_id.into(), instance_id: None, generation }
}

fn error_of(answer: Option<JoinAnswer>) -> Option<ResponseError> {
    answer.and_then(Result::err).map(|refused| refused.error)
}

/// A stable group whose members joined together: `ids[0]` leads, everybody's assignment is their own id.
fn stable(joins: Vec<Join>) -> Group {
    let mut group = Group::new(at(1));
    let ids: Vec<String> = joins.iter().map(|join| join.offered_id.clone()).collect();
    let tickets: Vec<Ticket> = joins.into_iter().map(|join| group.join(at(0), join)).collect();
    group.tick(at(1));
    for ticket in tickets {
        assert!(matches!(group.take_join(ticket), Some(Ok(_))), "a first join of {ids:?} was not accepted");
    }
    let assignments = ids.iter().map(|id| (id.clone(), Bytes::from(id.clone()))).collect();
    let leader = group.leader.clone();
    group.sync(at(1), &caller(&leader, 1), None, assignments);
    assert_eq!(group.phase_name(), "Stable");
    group
}

fn dynamic(ids: &[&str]) -> Group {
    stable(ids.iter().map(|id| join_of("", id)).collect())
}

#[test]
fn two_members_join_one_leads_both_get_their_part() {
    let mut group = Group::new(at(3));
    let (a, b) = (group.join(at(0), join_of("", "a")), group.join(at(1), join_of("", "b")));
    group.tick(at(2));
    assert_eq!((group.take_join(a), group.next_deadline()), (None, Some(at(3))), "the first rebalance waits for more");
    group.tick(at(3));
    let lead = group.take_join(a).unwrap().unwrap();
    let follow = group.take_join(b).unwrap().unwrap();
    assert_eq!((lead.generation, lead.leader.as_str(), lead.protocol.as_str()), (1, "a", "range"));
    assert_eq!(lead.members.iter().map(|member| member.member_id.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!((follow.generation, follow.leader.as_str(), follow.members.len()), (1, "a", 0));

    let b = group.sync(at(4), &caller("b", 1), Some("range"), Vec::new());
    assert_eq!(group.take_sync(b), None, "a follower waits for the leader");
    let parts = vec![("a".to_owned(), Bytes::from_static(b"0")), ("b".to_owned(), Bytes::from_static(b"1"))];
    let a = group.sync(at(4), &caller("a", 1), Some("range"), parts);
    assert_eq!(group.take_sync(a).unwrap().unwrap().assignment, "0");
    assert_eq!(group.take_sync(b).unwrap().unwrap().assignment, "1");
    assert_eq!(group.phase_name(), "Stable");
}

#[test]
fn a_new_member_must_come_back_with_its_id_and_is_waited_for() {
    let mut group = Group::new(Duration::ZERO);
    let must_know = |offered| Join { must_know_id: true, ..join_of("", offered) };
    for offered in ["a", "b"] {
        let ticket = group.join(at(0), must_know(offered));
        let refused = group.take_join(ticket).unwrap().unwrap_err();
        assert_eq!((refused.error, refused.member_id.as_str()), (ResponseError::MemberIdRequired, offered));
    }
    let a = group.join(at(1), join_of("a", "unused"));
    assert_eq!(group.take_join(a), None, "b has an id and is waited for");
    group.tick(at(10));
    assert_eq!(group.take_join(a).unwrap().unwrap().members.len(), 1, "b never came");
    let late = group.join(at(11), join_of("b", "unused"));
    assert_eq!(error_of(group.take_join(late)), Some(ResponseError::UnknownMemberId));
}

#[test]
fn the_rebalance_calls_everybody_and_drops_who_does_not_come() {
    let mut group = dynamic(&["a", "b"]);
    let c = group.join(at(2), join_of("", "c"));
    assert_eq!(group.heartbeat(at(3), &caller("a", 1)), Err(ResponseError::RebalanceInProgress));
    let a = group.join(at(3), join_of("a", ""));
    for seconds in (4..62).step_by(8) {
        group.tick(at(seconds));
        // b lives, but does not join.
        assert_eq!(group.heartbeat(at(seconds), &caller("b", 1)), Err(ResponseError::RebalanceInProgress));
    }
    assert_eq!(group.take_join(a), None, "b may still come");
    group.tick(at(62));
    let joined = group.take_join(a).unwrap().unwrap();
    assert_eq!((joined.generation, joined.members.len()), (2, 2));
    assert!(matches!(group.take_join(c), Some(Ok(_))));
    assert_eq!(group.heartbeat(at(62), &caller("b", 1)), Err(ResponseError::UnknownMemberId));
}

#[test]
fn a_silent_member_is_dropped_after_its_session() {
    let mut group = dynamic(&["a", "b"]);
    assert_eq!(group.heartbeat(at(9), &caller("a", 1)), Ok(()));
    assert_eq!(group.next_deadline(), Some(at(11)));
    group.tick(at(11));
    assert_eq!(group.members().keys().collect::<Vec<_>>(), ["a"]);
    assert_eq!(group.heartbeat(at(11), &caller("a", 1)), Err(ResponseError::RebalanceInProgress));
    let a = group.join(at(12), join_of("a", ""));
    assert_eq!(group.take_join(a).unwrap().unwrap().generation, 2);
}

#[test]
fn a_leader_that_never_divides_is_dropped() {
    let mut group = Group::new(at(1));
    let (a, b) = (group.join(at(0), join_of("", "a")), group.join(at(0), join_of("", "b")));
    group.tick(at(1));
    assert_eq!(group.take_join(a).unwrap().unwrap().leader, "a");
    group.take_join(b).unwrap().unwrap();
    let b = group.sync(at(2), &caller("b", 1), None, Vec::new());
    group.tick(at(11));
    assert_eq!(group.take_sync(b), Some(Err(ResponseError::RebalanceInProgress)), "b must join again");
    let b = group.join(at(12), join_of("b", ""));
    assert_eq!(group.take_join(b).unwrap().unwrap().leader, "b");
}

#[test]
fn identity_and_generation_are_checked() {
    let mut group = dynamic(&["a", "b"]);
    for (who, expected) in [
        (caller("a", 1), Ok(())),
        (caller("a", 0), Err(ResponseError::IllegalGeneration)),
        (caller("a", 2), Err(ResponseError::IllegalGeneration)),
        (caller("x", 1), Err(ResponseError::UnknownMemberId)),
        (caller("", -1), Err(ResponseError::UnknownMemberId)),
    ] {
        assert_eq!(group.heartbeat(at(2), &who), expected, "heartbeat of {who:?}");
        assert_eq!(group.may_commit(at(2), &who), expected, "commit of {who:?}");
        let ticket = group.sync(at(2), &who, None, Vec::new());
        assert_eq!(group.take_sync(ticket).unwrap().map(|_| ()), expected, "sync of {who:?}");
    }
    let ticket = group.sync(at(2), &caller("a", 1), Some("sticky"), Vec::new());
    assert_eq!(group.take_sync(ticket), Some(Err(ResponseError::InconsistentGroupProtocol)));
}

#[test]
fn commits_without_membership_need_an_empty_group() {
    let mut group = Group::new(Duration::ZERO);
    assert_eq!(group.may_commit(at(0), &caller("", -1)), Ok(()));
    let ticket = group.join(at(0), join_of("", "a"));
    assert!(group.take_join(ticket).is_some());
    assert_eq!(group.may_commit(at(0), &caller("a", 1)), Err(ResponseError::RebalanceInProgress), "before the sync");
    assert_eq!(group.may_commit(at(0), &caller("", -1)), Err(ResponseError::UnknownMemberId));
    group.leave(at(1), "a", None).unwrap();
    assert_eq!((group.phase_name(), group.may_commit(at(1), &caller("", -1))), ("Empty", Ok(())));
}

#[test]
fn a_static_member_returns_unnoticed_and_its_predecessor_is_fenced() {
    let mut group = stable(vec![static_join("one", "a1"), static_join("two", "b1")]);
    let ticket = group.join(at(5), static_join("two", "b2"));
    let joined = group.take_join(ticket).unwrap().unwrap();
    assert_eq!((joined.generation, joined.member_id.as_str(), joined.members.len()), (1, "b2", 0));
    let ticket = group.sync(at(5), &caller("b2", 1), None, Vec::new());
    assert_eq!(group.take_sync(ticket).unwrap().unwrap().assignment, "b1", "it keeps its partitions");
    let old = Caller { instance_id: Some("two".into()), ..caller("b1", 1) };
    assert_eq!(group.heartbeat(at(5), &old), Err(ResponseError::FencedInstanceId));
    let ticket = group.join(at(5), Join { member_id: "b1".into(), ..static_join("two", "") });
    assert_eq!(error_of(group.take_join(ticket)), Some(ResponseError::FencedInstanceId));

    let ticket = group.join(at(6), static_join("one", "a2"));
    let leader = group.take_join(ticket).unwrap().unwrap();
    assert_eq!((leader.leader.as_str(), leader.skip_assignment, leader.members.len()), ("a2", true, 2));
    let ticket = group.join(at(6), Join { can_skip_assignment: false, ..static_join("one", "a3") });
    let leader = group.take_join(ticket).unwrap().unwrap();
    assert_eq!((leader.leader.as_str(), leader.skip_assignment, leader.members.len()), ("a2", false, 0));
    assert_eq!(group.phase_name(), "Stable");
}

#[test]
fn static_members_outlive_a_rebalance_that_they_miss() {
    let mut group = stable(vec![static_join("one", "a"), Join { session_timeout: at(300), ..static_join("two", "b") }]);
    let c = group.join(at(2), join_of("", "c"));
    let a = group.join(at(3), Join { member_id: "a".into(), ..static_join("one", "") });
    group.tick(at(62));
    assert_eq!(group.take_join(a).unwrap().unwrap().members.len(), 3, "b counts, though it is away");
    assert!(group.take_join(c).is_some());
    group.tick(at(400));
    assert!(!group.members().contains_key("b"), "its session is over");
}

#[test]
fn members_without_a_rebalance_timeout_do_not_make_the_timer_spin() {
    let hasty = |instance, id| Join { rebalance_timeout: Duration::ZERO, ..static_join(instance, id) };
    let mut group = stable(vec![hasty("one", "a"), hasty("two", "b"), hasty("three", "c")]);
    group.leave(at(2), "c", None).unwrap();
    let deadline = group.next_deadline().unwrap();
    group.tick(deadline);
    assert!(group.next_deadline() > Some(deadline), "{:?} is due again at {deadline:?}", group.next_deadline());
}

#[test]
fn leaving_by_member_id_or_instance_id() {
    let mut group = stable(vec![static_join("one", "a"), join_of("", "b")]);
    assert_eq!(group.leave(at(2), "x", None), Err(ResponseError::UnknownMemberId));
    assert_eq!(group.leave(at(2), "b", Some("one")), Err(ResponseError::FencedInstanceId));
    assert_eq!(group.leave(at(2), "", Some("none")), Err(ResponseError::UnknownMemberId));
    assert_eq!(group.leave(at(2), "", Some("one")), Ok(()));
    assert_eq!(group.phase_name(), "PreparingRebalance");
    assert_eq!(group.leave(at(2), "b", None), Ok(()));
    assert_eq!((group.phase_name(), group.next_deadline()), ("Empty", None));
}

#[test]
fn joins_that_fit_no_group_are_refused() {
    let cases = [
        (
            "no session",
            Join { session_timeout: Duration::ZERO, ..join_of("", "b") },
            ResponseError::InvalidSessionTimeout,
        ),
        (
            "a session of an hour",
            Join { session_timeout: at(3_600), ..join_of("", "b") },
            ResponseError::InvalidSessionTimeout,
        ),
        ("no assignor", Join { protocols: Vec::new(), ..join_of("", "b") }, ResponseError::InconsistentGroupProtocol),
        (
            "another type",
            Join { protocol_type: "connect".into(), ..join_of("", "b") },
            ResponseError::InconsistentGroupProtocol,
        ),
        (
            "no common assignor",
            Join { protocols: vec![("sticky".into(), Bytes::new())], ..join_of("", "b") },
            ResponseError::InconsistentGroupProtocol,
        ),
        ("an unknown id", join_of("x", ""), ResponseError::UnknownMemberId),
    ];
    for (name, join, expected) in cases {
        let mut group = dynamic(&["a"]);
        let ticket = group.join(at(2), join);
        assert_eq!(error_of(group.take_join(ticket)), Some(expected), "{name}");
        assert_eq!(group.phase_name(), "Stable", "{name} disturbed the group");
    }
}

#[test]
fn the_assignor_is_the_one_that_all_support_and_most_prefer() {
    let with = |offered: &str, names: &[&str]| {
        let protocols = names.iter().map(|name| ((*name).to_owned(), Bytes::new())).collect();
        Join { protocols, ..join_of("", offered) }
    };
    let group = stable(vec![
        with("a", &["range", "sticky"]),
        with("b", &["sticky", "range"]),
        with("c", &["new", "sticky", "range"]),
    ]);
    assert_eq!(group.protocol(), "sticky");
}

#[test]
fn a_join_sent_twice_answers_the_first_with_a_refusal() {
    let mut group = dynamic(&["a", "b"]);
    let c = group.join(at(2), join_of("", "c"));
    let (first, second) = (group.join(at(3), join_of("a", "")), group.join(at(4), join_of("a", "")));
    assert_eq!(error_of(group.take_join(first)), Some(ResponseError::RebalanceInProgress));
    group.join(at(4), join_of("b", ""));
    assert!(matches!((group.take_join(second), group.take_join(c)), (Some(Ok(_)), Some(Ok(_)))));
}

#[derive(Clone, Debug)]
enum Event {
    Arrive { must_know_id: bool, instance: Option<u8> },
    Rejoin(usize),
    Sync(usize),
    Heartbeat(usize),
    Leave(usize),
    Pass(Duration),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        (any::<bool>(), prop::option::of(0u8..3))
            .prop_map(|(must_know_id, instance)| Event::Arrive { must_know_id, instance }),
        (0usize..8).prop_map(Event::Rejoin),
        (0usize..8).prop_map(Event::Sync),
        (0usize..8).prop_map(Event::Heartbeat),
        (0usize..8).prop_map(Event::Leave),
        (1u64..30).prop_map(|seconds| Event::Pass(at(seconds))),
    ];
    prop::collection::vec(event, 1..60)
}

/// Drives a group with events and keeps what members would know.
struct Driver {
    group: Group,
    now: Duration,
    ids: Vec<String>,
    joins: Vec<Ticket>,
    syncs: Vec<Ticket>,
    /// The assignor of each generation, as the first answer said.
    protocols: BTreeMap<i32, String>,
}

impl Driver {
    fn apply(&mut self, event: &Event) {
        let known = |index: usize| self.ids.get(index % self.ids.len().max(1)).cloned().unwrap_or("nobody".into());
        match *event {
            Event::Arrive { must_know_id, instance } => {
                let offered_id = format!("m{}", self.ids.len());
                self.ids.push(offered_id.clone());
                let instance_id = instance.map(|number| format!("i{number}"));
                let join = Join { must_know_id, instance_id, ..join_of("", &offered_id) };
                self.joins.push(self.group.join(self.now, join));
            }
            Event::Rejoin(index) => {
                let member_id = known(index);
                let instance_id = self.group.members.get(&member_id).and_then(|member| member.instance_id.clone());
                self.joins.push(self.group.join(self.now, Join { instance_id, ..join_of(&member_id, "late") }));
            }
            Event::Sync(index) => {
                let who = caller(&known(index), self.group.generation);
                self.syncs.push(self.group.sync(self.now, &who, None, Vec::new()));
            }
            Event::Heartbeat(index) => {
                let who = caller(&known(index), self.group.generation);
                let _ = self.group.heartbeat(self.now, &who);
            }
            Event::Leave(index) => {
                let _ = self.group.leave(self.now, &known(index), None);
            }
            Event::Pass(duration) => {
                self.now += duration;
                self.group.tick(self.now);
            }
        }
        self.check();
    }

    fn check(&mut self) {
        let settled = matches!(self.group.phase, Phase::Completing { .. } | Phase::Stable);
        assert!(!settled || self.group.members.contains_key(&self.group.leader), "the leader is no member");
        assert!(self.group.phase != Phase::Empty || self.group.members.is_empty(), "an empty group has members");
        let (group, protocols) = (&mut self.group, &mut self.protocols);
        self.joins.retain(|&ticket| match group.take_join(ticket) {
            None => true,
            Some(Err(_)) => false,
            Some(Ok(joined)) => {
                let agreed = protocols.entry(joined.generation).or_insert_with(|| joined.protocol.clone());
                assert_eq!(*agreed, joined.protocol, "two assignors in generation {}", joined.generation);
                let listed = joined.members.iter().any(|member| member.member_id == joined.member_id);
                assert!(joined.members.is_empty() || listed, "the leader is not among its members");
                false
            }
        });
        self.syncs.retain(|&ticket| group.take_sync(ticket).is_none());
    }
}

proptest! {
    #[test]
    fn whatever_happens_every_ticket_is_answered_and_an_abandoned_group_becomes_empty(events in events()) {
        let mut driver = Driver {
            group: Group::new(at(2)), now: at(0), ids: Vec::new(), joins: Vec::new(), syncs: Vec::new(),
            protocols: BTreeMap::new(),
        };
        events.iter().for_each(|event| driver.apply(event));
        for _ in 0..200 {
            let Some(deadline) = driver.group.next_deadline() else { break };
            let wait = deadline.saturating_sub(driver.now);
            driver.apply(&Event::Pass(wait));
        }
        prop_assert_eq!(driver.group.next_deadline(), None, "time alone does not bring the group to rest");
        prop_assert_eq!((driver.joins, driver.syncs), (vec![], vec![]), "tickets without an answer");
        prop_assert_eq!(driver.group.phase_name(), "Empty");
    }
}
