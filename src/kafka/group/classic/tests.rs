//! Tests of the classic protocol: single exchanges by hand, and whole groups against a model of the coordinator.

use std::collections::BTreeMap;

use bytes::Bytes;
use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::messages::{HeartbeatResponse, JoinGroupRequest, SyncGroupRequest};
use kafka_protocol::protocol::StrBytes;
use proptest::prelude::*;

use super::*;
use crate::kafka::group::application::{Application, expect_one_owner, expect_shared};
use crate::kafka::group::{Credentials, Group, GroupOptions, GroupProtocol};

const NOW: Duration = Duration::from_secs(100);

fn options(assignors: &[Assignor]) -> GroupOptions {
    GroupOptions {
        group_id: "g".into(),
        protocol: GroupProtocol::Classic,
        instance: None,
        rack: None,
        remote_assignor: None,
        assignors: assignors.to_vec(),
        session_timeout: Duration::from_secs(45),
        rebalance_timeout: Duration::from_secs(60),
        heartbeat_interval: Duration::from_secs(3),
    }
}

fn partitions(indexes: &[i32]) -> Vec<TopicPartition> {
    indexes.iter().map(|index| TopicPartition::new("t", *index)).collect()
}

fn topics(of: &[(&str, i32)]) -> PartitionCounts {
    of.iter().map(|(topic, count)| (Arc::from(*topic), *count)).collect()
}

fn join_answer(generation: i32, leader: &str, member: &str, assignor: Assignor) -> Answer {
    Answer::Joined(
        JoinGroupResponse::default()
            .with_generation_id(generation)
            .with_leader(text(leader))
            .with_member_id(text(member))
            .with_protocol_name(Some(text(assignor.name()))),
    )
}

fn sync_answer(indexes: &[i32]) -> Answer {
    Answer::Synced(SyncGroupResponse::default().with_assignment(encode_assignment(&partitions(indexes))))
}

fn heartbeat_answer(code: Code) -> Answer {
    Answer::Heartbeat(HeartbeatResponse::default().with_error_code(code.0))
}

/// A member that follows and was given `indexes` in generation 1.
fn stable(options: GroupOptions, indexes: &[i32]) -> Group {
    let assignor = options.assignors[0];
    let mut group = Group::new(options, 1);
    assert_eq!(group.step(NOW), Step::Idle, "no topics yet");
    group.subscribe(topics(&[("t", 8)]));
    assert_eq!(group.step(NOW), Step::Call(Call::FindCoordinator));
    group.answered(NOW, Answer::CoordinatorFound);
    assert!(matches!(group.step(NOW), Step::Call(Call::Join(_))));
    group.answered(NOW, join_answer(1, "somebody", "me", assignor));
    assert!(matches!(group.step(NOW), Step::Call(Call::Sync(_))));
    group.answered(NOW, sync_answer(indexes));
    assert_eq!(group.take_events(), [GroupEvent::Assigned(partitions(indexes))]);
    assert_eq!(group.step(NOW), Step::Wait(NOW + Duration::from_secs(3)));
    group
}

#[test]
fn the_first_join_is_repeated_with_the_id_that_it_brought() {
    let mut group = Group::new(options(&[Assignor::Range]), 1);
    group.subscribe(topics(&[("t", 1)]));
    group.answered(NOW, Answer::CoordinatorFound);
    let refused = JoinGroupResponse::default().with_error_code(Code::MEMBER_ID_REQUIRED.0).with_member_id(text("me-1"));
    group.answered(NOW, Answer::Joined(refused));
    let Step::Call(Call::Join(request)) = group.step(NOW) else { panic!("must join again at once") };
    assert_eq!(&*request.member_id, "me-1");
    assert!(group.take_events().is_empty());
}

#[test]
fn an_eager_member_gives_everything_up_before_it_joins_again() {
    let mut group = stable(options(&Assignor::DEFAULT), &[0, 1]);
    group.answered(NOW, heartbeat_answer(Code::REBALANCE_IN_PROGRESS));
    assert_eq!(group.take_events(), [GroupEvent::Revoked(partitions(&[0, 1]))]);
    group.released(&partitions(&[0]));
    let Step::Wait(beat) = group.step(NOW) else { panic!("one is still to be released") };
    assert!(matches!(group.step(beat), Step::Call(Call::Heartbeat(_))), "beats while the application finishes");
    group.answered(beat, heartbeat_answer(Code::REBALANCE_IN_PROGRESS));
    group.released(&partitions(&[1]));
    let Step::Call(Call::Join(request)) = group.step(beat) else { panic!("all is released") };
    let subscription = Subscription::decode(&request.protocols[0].metadata).unwrap();
    assert_eq!((subscription.owned, subscription.generation), (vec![], Some(1)));
}

#[test]
fn a_cooperative_member_keeps_what_it_has_and_gives_up_what_the_next_assignment_lacks() {
    let mut group = stable(options(&[Assignor::CooperativeSticky]), &[0, 1, 2]);
    group.answered(NOW, heartbeat_answer(Code::REBALANCE_IN_PROGRESS));
    assert!(group.take_events().is_empty(), "nothing stops for joining");
    let Step::Call(Call::Join(request)) = group.step(NOW) else { panic!("joins at once") };
    let subscription = Subscription::decode(&request.protocols[0].metadata).unwrap();
    assert_eq!((subscription.owned, subscription.generation), (partitions(&[0, 1, 2]), Some(1)));
    group.answered(NOW, join_answer(2, "somebody", "me", Assignor::CooperativeSticky));
    group.answered(NOW, sync_answer(&[1, 5]));
    let expected = [GroupEvent::Assigned(partitions(&[5])), GroupEvent::Revoked(partitions(&[0, 2]))];
    assert_eq!(group.take_events(), expected);
    group.released(&partitions(&[0, 2]));
    assert!(matches!(group.step(NOW), Step::Call(Call::Join(_))), "joins again, so that others can have them");
}

#[test]
fn refusals_of_a_heartbeat_and_what_follows() {
    let lost = GroupEvent::Lost(partitions(&[0]));
    let trouble = |code| GroupEvent::Trouble { api: "Heartbeat", code };
    let refused = |code| GroupEvent::Refused { api: "Heartbeat", code };
    for (code, events, rejoins_as) in [
        (Code::UNKNOWN_MEMBER_ID, vec![trouble(Code::UNKNOWN_MEMBER_ID), lost.clone()], Some("")),
        (Code::ILLEGAL_GENERATION, vec![trouble(Code::ILLEGAL_GENERATION), lost.clone()], Some("me")),
        (Code::FENCED_INSTANCE_ID, vec![lost.clone(), refused(Code::FENCED_INSTANCE_ID)], None),
        (Code::GROUP_AUTHORIZATION_FAILED, vec![lost.clone(), refused(Code::GROUP_AUTHORIZATION_FAILED)], None),
    ] {
        let mut group = stable(options(&[Assignor::Range]), &[0]);
        group.answered(NOW, heartbeat_answer(code));
        assert_eq!(group.take_events(), events, "{code}");
        assert!(group.owned().is_empty(), "{code}");
        match (group.step(NOW), rejoins_as) {
            (Step::Call(Call::Join(request)), Some(id)) => assert_eq!(&*request.member_id, id, "{code}"),
            (Step::Ended, None) => {}
            (step, _) => panic!("{code}: {step:?}"),
        }
    }
}

#[test]
fn membership_survives_the_move_of_its_coordinator() {
    for answer in [Answer::Unreachable, heartbeat_answer(Code::NOT_COORDINATOR)] {
        let mut group = stable(options(&[Assignor::Range]), &[0]);
        group.answered(NOW, answer);
        let Step::Wait(retry) = group.step(NOW) else { panic!("not at once") };
        assert_eq!(group.step(retry), Step::Call(Call::FindCoordinator));
        group.answered(retry, Answer::CoordinatorFound);
        let beat = NOW + Duration::from_secs(3);
        let Step::Call(Call::Heartbeat(request)) = group.step(beat) else { panic!("goes on as a member") };
        assert_eq!((&*request.member_id, request.generation_id), ("me", 1));
        assert_eq!((group.take_events(), group.owned().len()), (vec![], 1));
    }
}

#[test]
fn what_is_not_released_in_time_is_lost() {
    let mut group = stable(options(&[Assignor::Range]), &[0, 1]);
    group.answered(NOW, heartbeat_answer(Code::REBALANCE_IN_PROGRESS));
    group.take_events();
    group.released(&partitions(&[1]));
    let step = group.step(NOW + Duration::from_secs(60));
    assert_eq!(group.take_events(), [GroupEvent::Lost(partitions(&[0]))]);
    assert!(matches!(step, Step::Call(Call::Join(_))), "{step:?}");
    group.released(&partitions(&[0]));
    assert!(group.take_events().is_empty(), "a late release changes nothing");
}

#[test]
fn the_leader_joins_again_for_new_partitions_and_everybody_for_new_topics() {
    let elect = |group: &mut Group| {
        group.subscribe(topics(&[("t", 8)]));
        group.answered(NOW, Answer::CoordinatorFound);
        let member = JoinGroupResponseMember::default()
            .with_member_id(text("me"))
            .with_metadata(Subscription { topics: vec!["t".into()], ..Subscription::default() }.encode(false));
        let Answer::Joined(response) = join_answer(1, "me", "me", Assignor::Range) else { unreachable!() };
        group.answered(NOW, Answer::Joined(response.with_members(vec![member])));
        assert_eq!(group.step(NOW), Step::Call(Call::CountPartitions(vec!["t".into()])));
        group.answered(NOW, Answer::Counted(topics(&[("t", 8)])));
        group.answered(NOW, sync_answer(&[0, 1, 2, 3, 4, 5, 6, 7]));
    };
    for (leads, seen, rejoins) in [
        (true, topics(&[("t", 8)]), false),
        (true, topics(&[("t", 9)]), true),
        (false, topics(&[("t", 9)]), false),
        (false, topics(&[("t", 8), ("u", 1)]), true),
    ] {
        let mut group = Group::new(options(&[Assignor::CooperativeSticky]), 1);
        if leads {
            elect(&mut group)
        } else {
            group = stable(options(&[Assignor::CooperativeSticky]), &[0])
        }
        group.subscribe(seen.clone());
        let joins = matches!(group.step(NOW), Step::Call(Call::Join(_)));
        assert_eq!(joins, rejoins, "leads: {leads}, sees {seen:?}");
    }
}

#[test]
fn dynamic_members_say_goodbye_and_static_ones_do_not() {
    let mut group = stable(options(&[Assignor::Range]), &[0]);
    group.leave();
    let Step::Call(Call::Leave(request)) = group.step(NOW) else { panic!("must say so") };
    assert_eq!(&*request.members[0].member_id, "me");
    group.answered(NOW, Answer::Unreachable);
    assert_eq!(group.step(NOW), Step::Ended, "nobody to say it to");
    let instance = Some(Arc::from("one"));
    let mut group = stable(GroupOptions { instance, ..options(&[Assignor::Range]) }, &[0]);
    group.leave();
    assert_eq!(group.step(NOW), Step::Ended);
}

#[test]
fn given_partitions_need_no_group() {
    let mut group = Group::fixed(options(&[Assignor::Range]), &partitions(&[3, 5]));
    assert_eq!(group.step(NOW), Step::Idle);
    group.subscribe(topics(&[("t", 8)]));
    group.subscribe(topics(&[("t", 9)]));
    assert_eq!(group.take_events(), [GroupEvent::Assigned(partitions(&[3, 5]))]);
    assert_eq!((group.step(NOW), group.credentials()), (Step::Idle, Credentials::nobody()));
    group.leave();
    assert_eq!(group.step(NOW), Step::Ended);
}

/// A model of the coordinator: joins are held until all members are there, syncs until the leader's has come.
#[derive(Default)]
struct Coordinator {
    generation: i32,
    ids_given: usize,
    /// By member id: the process.
    members: BTreeMap<String, usize>,
    rebalancing: bool,
    joining: BTreeMap<String, Bytes>,
    syncing: Vec<String>,
    plan: Option<BTreeMap<String, Bytes>>,
}

/// Answers that the coordinator gives now: to which process, and what.
type Answers = Vec<(usize, Answer)>;

impl Coordinator {
    fn ask(&mut self, process: usize, call: Call) -> Answers {
        match call {
            Call::FindCoordinator => vec![(process, Answer::CoordinatorFound)],
            Call::CountPartitions(_) => vec![(process, Answer::Counted(topics(&[("t", 7)])))],
            Call::Join(request) => self.join(process, &request),
            Call::Sync(request) => self.sync(process, &request),
            Call::NameTopics { .. } | Call::ConsumerHeartbeat(_) => unreachable!("of the other protocol"),
            Call::Heartbeat(request) => {
                let known = self.members.contains_key(&*request.member_id);
                let code = match (known, request.generation_id == self.generation, self.rebalancing) {
                    (false, ..) => Code::UNKNOWN_MEMBER_ID,
                    (_, false, _) => Code::ILLEGAL_GENERATION,
                    (_, _, true) => Code::REBALANCE_IN_PROGRESS,
                    _ => Code::NONE,
                };
                vec![(process, heartbeat_answer(code))]
            }
            Call::Leave(request) => {
                let mut answers = self.remove(&request.members[0].member_id);
                answers.push((process, Answer::Left));
                answers
            }
        }
    }

    fn join(&mut self, process: usize, request: &JoinGroupRequest) -> Answers {
        if request.member_id.is_empty() {
            self.ids_given += 1;
            let id = format!("m{}", self.ids_given);
            let refused = JoinGroupResponse::default().with_error_code(Code::MEMBER_ID_REQUIRED.0);
            return vec![(process, Answer::Joined(refused.with_member_id(text(&id))))];
        }
        let id = request.member_id.to_string();
        self.members.insert(id.clone(), process);
        self.joining.insert(id, request.protocols[0].metadata.clone());
        let mut answers = self.interrupt_syncs();
        self.rebalancing = true;
        answers.extend(self.complete_join(&request.protocols[0].name));
        answers
    }

    fn complete_join(&mut self, protocol: &StrBytes) -> Answers {
        if self.joining.is_empty() || self.joining.len() < self.members.len() {
            return Vec::new();
        }
        self.generation += 1;
        self.rebalancing = false;
        self.plan = None;
        let joined = std::mem::take(&mut self.joining);
        let leader = joined.keys().next().unwrap().clone();
        let member = |(id, metadata): (&String, &Bytes)| {
            JoinGroupResponseMember::default().with_member_id(text(id)).with_metadata(metadata.clone())
        };
        let all: Vec<JoinGroupResponseMember> = joined.iter().map(member).collect();
        let answer = |id: &String| {
            let members = if *id == leader { all.clone() } else { Vec::new() };
            let response = JoinGroupResponse::default()
                .with_generation_id(self.generation)
                .with_protocol_name(Some(protocol.clone()))
                .with_leader(text(&leader))
                .with_member_id(text(id))
                .with_members(members);
            (self.members[id], Answer::Joined(response))
        };
        joined.keys().map(answer).collect()
    }

    fn sync(&mut self, process: usize, request: &SyncGroupRequest) -> Answers {
        if self.rebalancing || request.generation_id != self.generation {
            let refused = SyncGroupResponse::default().with_error_code(Code::REBALANCE_IN_PROGRESS.0);
            return vec![(process, Answer::Synced(refused))];
        }
        if !request.assignments.is_empty() {
            let plan = request.assignments.iter().map(|of| (of.member_id.to_string(), of.assignment.clone()));
            self.plan = Some(plan.collect());
        }
        self.syncing.push(request.member_id.to_string());
        let Some(plan) = &self.plan else { return Vec::new() };
        let answer = |id: String| {
            let share = plan.get(&id).cloned().unwrap_or_default();
            (self.members[&id], Answer::Synced(SyncGroupResponse::default().with_assignment(share)))
        };
        std::mem::take(&mut self.syncing).into_iter().map(answer).collect()
    }

    fn interrupt_syncs(&mut self) -> Answers {
        let refused = || SyncGroupResponse::default().with_error_code(Code::REBALANCE_IN_PROGRESS.0);
        let waiting = std::mem::take(&mut self.syncing);
        waiting.iter().map(|id| (self.members[id], Answer::Synced(refused()))).collect()
    }

    fn remove(&mut self, id: &str) -> Answers {
        let mut answers = self.interrupt_syncs();
        self.members.remove(id);
        self.joining.remove(id);
        self.rebalancing = !self.members.is_empty();
        let protocol = text(Assignor::CooperativeSticky.name());
        answers.extend(self.complete_join(&protocol));
        answers
    }
}

/// A process, and whether it waits for the coordinator.
struct Process {
    application: Application,
    waits_for_answer: bool,
}

struct World {
    now: Duration,
    coordinator: Coordinator,
    processes: Vec<Process>,
}

impl World {
    fn new(assignor: Assignor, processes: usize) -> Self {
        let process =
            |_| Process { application: Application::new(Group::new(options(&[assignor]), 1)), waits_for_answer: false };
        Self { now: NOW, coordinator: Coordinator::default(), processes: (0..processes).map(process).collect() }
    }

    /// One process does one thing.
    fn turn(&mut self, at: usize) {
        let process = &mut self.processes[at];
        if process.waits_for_answer {
            return;
        }
        let application = &mut process.application;
        let step = application.group.step(self.now);
        application.hear();
        match step {
            Step::Call(call) => {
                process.waits_for_answer = true;
                let answers = self.coordinator.ask(at, call);
                self.deliver(answers);
            }
            Step::Wait(until) if application.to_release.is_empty() => self.now = self.now.max(until),
            Step::Wait(_) => application.release(),
            Step::Idle | Step::Ended => {}
        }
        expect_one_owner(self.staying());
    }

    fn staying(&self) -> impl Iterator<Item = &Application> {
        self.processes.iter().map(|process| &process.application).filter(|application| !application.leaves)
    }

    fn deliver(&mut self, answers: Answers) {
        for (at, answer) in answers {
            let process = &mut self.processes[at];
            process.waits_for_answer = false;
            process.application.group.answered(self.now, answer);
            process.application.hear();
        }
    }

    fn settle(&mut self) {
        for round in 0..400 {
            self.turn(round % self.processes.len());
        }
    }
}

proptest! {
    /// Members come and go at any moment between two steps of anybody; in the end all partitions are shared out.
    #[test]
    fn groups_share_all_partitions_and_never_one_twice(
        assignor in prop_oneof![Just(Assignor::Range), Just(Assignor::RoundRobin), Just(Assignor::CooperativeSticky)],
        turns in proptest::collection::vec((0..4usize, 0..20u8), 1..150),
    ) {
        let mut world = World::new(assignor, 4);
        for (at, what) in turns {
            let process = &mut world.processes[at];
            match what {
                0 if !process.waits_for_answer => {
                    process.application.leaves = true;
                    process.application.group.leave();
                }
                1..=4 => process.application.group.subscribe(topics(&[("t", 7)])),
                _ => world.turn(at),
            }
        }
        for process in &mut world.processes {
            process.application.group.subscribe(topics(&[("t", 7)]));
        }
        world.settle();
        expect_shared(world.staying(), 7);
    }
}
