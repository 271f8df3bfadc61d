//! Tests of the consumer protocol: single exchanges by hand, and whole groups against a model of the coordinator; against
//! the embedded broker's in `tests/source`.

use kafka_protocol::messages::consumer_group_heartbeat_response::{Assignment, TopicPartitions as AssignedTopic};
use proptest::prelude::*;

use super::*;
use crate::kafka::assignor::{Assignor, PartitionCounts};
use crate::kafka::group::application::{Application, expect_one_owner, expect_shared};
use crate::kafka::group::{Group, GroupOptions};

const NOW: Duration = Duration::from_secs(100);
/// When the next heartbeat of a [`member`] is due, and those after it.
const BEATS: [Duration; 3] = [Duration::from_secs(105), Duration::from_secs(110), Duration::from_secs(115)];
const TOPIC: Uuid = Uuid::from_u128(7);

fn options(protocol: GroupProtocol) -> GroupOptions {
    GroupOptions {
        group_id: "g".into(),
        protocol,
        instance: None,
        rack: Some("here".into()),
        assignors: Assignor::DEFAULT.to_vec(),
        remote_assignor: None,
        session_timeout: Duration::from_secs(45),
        rebalance_timeout: Duration::from_secs(60),
        heartbeat_interval: Duration::from_secs(3),
    }
}

fn partitions(indexes: &[i32]) -> Vec<TopicPartition> {
    indexes.iter().map(|index| TopicPartition::new("t", *index)).collect()
}

fn topics(names: &[&str]) -> PartitionCounts {
    names.iter().map(|name| (Arc::from(*name), 8)).collect()
}

fn refused(code: Code) -> Answer {
    Answer::ConsumerHeartbeat(ConsumerGroupHeartbeatResponse::default().with_error_code(code.0))
}

/// An answer with, perhaps, an assignment.
fn accepted(epoch: i32, assigned: Option<(Uuid, &[i32])>) -> Answer {
    let assignment = assigned.map(|(id, indexes)| {
        let topic = AssignedTopic::default().with_topic_id(id).with_partitions(indexes.to_vec());
        Assignment::default().with_topic_partitions(vec![topic])
    });
    let response = ConsumerGroupHeartbeatResponse::default().with_member_epoch(epoch).with_heartbeat_interval_ms(5_000);
    Answer::ConsumerHeartbeat(response.with_assignment(assignment))
}

fn heartbeat(group: &mut Group, now: Duration) -> ConsumerGroupHeartbeatRequest {
    match group.step(now) {
        Step::Call(Call::ConsumerHeartbeat(request)) => request,
        step => panic!("not a heartbeat: {step:?}"),
    }
}

/// A heartbeat and its answer.
fn beat(group: &mut Group, now: Duration, answer: Answer) {
    heartbeat(group, now);
    group.answered(now, answer);
}

/// Whether a heartbeat says who we are and what we want; and what we have, if it says that.
fn said(request: &ConsumerGroupHeartbeatRequest) -> (bool, Option<Vec<i32>>) {
    let owned = request.topic_partitions.as_ref();
    let owned = owned.map(|topics| topics.iter().flat_map(|topic| topic.partitions.clone()).collect());
    (request.subscribed_topic_names.is_some(), owned)
}

/// About to join.
fn joining(options: GroupOptions) -> Group {
    let mut group = Group::new(options, 1);
    assert_eq!(group.step(NOW), Step::Idle, "no topics yet");
    group.subscribe(topics(&["t"]));
    assert_eq!(group.step(NOW), Step::Call(Call::FindCoordinator));
    group.answered(NOW, Answer::CoordinatorFound);
    group
}

/// A member that was given `indexes` in epoch 1, and has said that it took them.
fn member(options: GroupOptions, indexes: &[i32]) -> Group {
    let mut group = joining(options);
    let request = heartbeat(&mut group, NOW);
    assert_eq!((request.member_epoch, said(&request)), (0, (true, Some(vec![]))));
    assert_eq!((request.rebalance_timeout_ms, request.rack_id), (60_000, Some(text("here"))));
    group.answered(NOW, accepted(1, Some((TOPIC, indexes))));
    let naming = Call::NameTopics { ids: vec![TOPIC], among: vec!["t".into()] };
    assert_eq!(group.step(NOW), Step::Call(naming));
    group.answered(NOW, Answer::Named([(TOPIC, "t".into())].into()));
    let request = heartbeat(&mut group, NOW);
    assert_eq!((request.member_epoch, said(&request)), (1, (false, Some(indexes.to_vec()))));
    group.answered(NOW, accepted(1, None));
    assert_eq!(group.take_events(), [GroupEvent::Assigned(partitions(indexes))]);
    assert_eq!(group.step(NOW), Step::Wait(NOW + Duration::from_secs(5)), "as often as the coordinator says");
    group
}

#[test]
fn what_is_taken_away_is_confirmed_when_it_is_released_and_only_then_is_the_new_taken() {
    let mut group = member(options(GroupProtocol::Consumer), &[0, 1, 2]);
    beat(&mut group, BEATS[0], accepted(1, Some((TOPIC, &[1, 5]))));
    assert_eq!(group.take_events(), [GroupEvent::Revoked(partitions(&[0, 2]))]);
    assert_eq!(group.step(BEATS[0]), Step::Wait(BEATS[1]), "nothing to say yet");
    assert_eq!(said(&heartbeat(&mut group, BEATS[1])), (false, None), "beats while the application finishes");
    group.answered(BEATS[1], accepted(1, None));
    group.released(&partitions(&[0]));
    assert!(matches!(group.step(BEATS[1]), Step::Wait(_)));
    group.released(&partitions(&[2]));
    assert_eq!(said(&heartbeat(&mut group, BEATS[1])), (false, Some(vec![1, 5])));
    assert_eq!(group.take_events(), [GroupEvent::Assigned(partitions(&[5]))]);
}

#[test]
fn an_assignment_that_changes_during_a_revocation_counts_when_that_is_done() {
    let mut group = member(options(GroupProtocol::Consumer), &[0, 1]);
    beat(&mut group, BEATS[0], accepted(1, Some((TOPIC, &[1]))));
    beat(&mut group, BEATS[1], accepted(2, Some((TOPIC, &[0, 1, 2]))));
    assert_eq!(group.take_events(), [GroupEvent::Revoked(partitions(&[0]))]);
    group.released(&partitions(&[0]));
    group.step(BEATS[1]);
    assert_eq!(group.take_events(), [GroupEvent::Assigned(partitions(&[0, 2]))], "given back, and started anew");
}

#[test]
fn nothing_is_taken_before_it_is_known_whether_the_last_heartbeat_gave_it_away() {
    let mut group = member(options(GroupProtocol::Consumer), &[0, 1, 2]);
    beat(&mut group, BEATS[0], accepted(1, Some((TOPIC, &[1]))));
    beat(&mut group, BEATS[1], accepted(1, Some((TOPIC, &[0, 1]))));
    group.take_events();
    group.released(&partitions(&[0]));
    assert_eq!(said(&heartbeat(&mut group, BEATS[2])), (false, Some(vec![1, 2])), "0 is free for the others");
    group.answered(BEATS[2], Answer::Unreachable);
    group.released(&partitions(&[2]));
    let Step::Wait(retry) = group.step(BEATS[2]) else { panic!("not at once") };
    assert_eq!(group.take_events(), []);
    assert_eq!(group.step(retry), Step::Call(Call::FindCoordinator));
    group.answered(retry, Answer::CoordinatorFound);
    assert_eq!(said(&heartbeat(&mut group, retry)), (true, Some(vec![1])));
    group.answered(retry, accepted(2, Some((TOPIC, &[1]))));
    assert_eq!(group.take_events(), [GroupEvent::Assigned(vec![])]);
}

#[test]
fn what_is_not_released_in_time_is_lost() {
    let mut group = member(options(GroupProtocol::Consumer), &[0, 1]);
    beat(&mut group, BEATS[0], accepted(1, Some((TOPIC, &[1]))));
    group.take_events();
    group.step(BEATS[0] + Duration::from_secs(60));
    assert_eq!(group.take_events()[0], GroupEvent::Lost(partitions(&[0])));
    group.released(&partitions(&[0]));
    assert_eq!(group.owned().len(), 1, "a late release changes nothing");
}

#[test]
fn a_topic_made_anew_is_given_up_before_its_successor_is_taken() {
    let anew = Uuid::from_u128(8);
    let mut group = member(options(GroupProtocol::Consumer), &[0, 1]);
    beat(&mut group, BEATS[0], accepted(2, Some((anew, &[0]))));
    assert_eq!(group.take_events(), [GroupEvent::Revoked(partitions(&[0, 1]))]);
    assert!(matches!(group.step(BEATS[0]), Step::Call(Call::NameTopics { .. })));
    group.answered(BEATS[0], Answer::Named([(anew, "t".into())].into()));
    group.step(BEATS[0]);
    assert_eq!(group.take_events(), [], "the old one is not released yet");
    group.released(&partitions(&[0, 1]));
    let request = heartbeat(&mut group, BEATS[0]);
    assert_eq!(request.topic_partitions.unwrap()[0].topic_id, anew);
    assert_eq!(group.take_events(), [GroupEvent::Assigned(partitions(&[0]))]);
}

#[test]
fn a_topic_that_the_metadata_does_not_know_yet_is_asked_for_again() {
    let mut group = joining(options(GroupProtocol::Consumer));
    beat(&mut group, NOW, accepted(1, Some((TOPIC, &[0]))));
    assert!(matches!(group.step(NOW), Step::Call(Call::NameTopics { .. })));
    group.answered(NOW, Answer::Named(BTreeMap::new()));
    assert_eq!(group.step(NOW), Step::Wait(NOW + NAMES_INTERVAL));
    assert!(matches!(group.step(NOW + NAMES_INTERVAL), Step::Call(Call::NameTopics { .. })));
}

#[test]
fn what_was_given_and_withdrawn_before_it_could_be_taken_is_said_not_to_be_there() {
    let mut group = joining(options(GroupProtocol::Consumer));
    beat(&mut group, NOW, accepted(1, Some((TOPIC, &[0]))));
    for now in [NOW, BEATS[0]] {
        assert!(matches!(group.step(now), Step::Call(Call::NameTopics { .. })));
        group.answered(now, Answer::Named(BTreeMap::new()));
    }
    beat(&mut group, BEATS[0], accepted(2, Some((TOPIC, &[]))));
    assert_eq!(said(&heartbeat(&mut group, BEATS[0])), (true, Some(vec![])));
}

#[test]
fn a_heartbeat_without_an_answer_is_followed_by_one_that_says_everything() {
    for answer in [Answer::Unreachable, refused(Code::NOT_COORDINATOR), refused(Code::COORDINATOR_LOAD_IN_PROGRESS)] {
        let mut group = member(options(GroupProtocol::Consumer), &[0]);
        let finds_another = !matches!(answer, Answer::ConsumerHeartbeat(ref response)
            if Code(response.error_code) == Code::COORDINATOR_LOAD_IN_PROGRESS);
        group.answered(NOW, answer);
        let Step::Wait(retry) = group.step(NOW) else { panic!("not at once") };
        if finds_another {
            assert_eq!(group.step(retry), Step::Call(Call::FindCoordinator));
            group.answered(retry, Answer::CoordinatorFound);
        }
        let request = heartbeat(&mut group, retry);
        assert_eq!((request.member_epoch, said(&request)), (1, (true, Some(vec![0]))));
        assert_eq!((group.take_events(), group.owned().len()), (vec![], 1), "still a member");
    }
}

#[test]
fn new_topics_are_said_at_once() {
    let mut group = member(options(GroupProtocol::Consumer), &[0]);
    group.subscribe(topics(&["t", "u"]));
    assert_eq!(said(&heartbeat(&mut group, NOW)), (true, None));
}

#[test]
fn refusals_and_what_follows() {
    let lost = || GroupEvent::Lost(partitions(&[0]));
    let trouble = |code| GroupEvent::Trouble { api: API, code };
    let refused_for_good = |code| GroupEvent::Refused { api: API, code };
    for (code, events, joins_again) in [
        (Code::FENCED_MEMBER_EPOCH, vec![trouble(Code::FENCED_MEMBER_EPOCH), lost()], true),
        (Code::UNKNOWN_MEMBER_ID, vec![trouble(Code::UNKNOWN_MEMBER_ID), lost()], true),
        (Code::STALE_MEMBER_EPOCH, vec![trouble(Code::STALE_MEMBER_EPOCH), lost()], true),
        (Code::UNSUPPORTED_ASSIGNOR, vec![lost(), refused_for_good(Code::UNSUPPORTED_ASSIGNOR)], false),
        (Code::GROUP_MAX_SIZE_REACHED, vec![lost(), refused_for_good(Code::GROUP_MAX_SIZE_REACHED)], false),
        (Code::UNSUPPORTED_VERSION, vec![lost(), refused_for_good(Code::UNSUPPORTED_VERSION)], false),
    ] {
        let mut group = member(options(GroupProtocol::Consumer), &[0]);
        let id = group.credentials().member_id;
        group.answered(NOW, refused(code));
        assert_eq!(group.take_events(), events, "{code}");
        match (group.step(NOW), joins_again) {
            (Step::Wait(retry), true) => {
                let request = heartbeat(&mut group, retry);
                assert_eq!((request.member_epoch, said(&request)), (0, (true, Some(vec![]))), "{code}");
                assert_eq!(&*request.member_id, id, "{code}: the same member");
            }
            (Step::Ended, false) => {}
            (step, _) => panic!("{code}: {step:?}"),
        }
    }
}

#[test]
fn an_instance_that_is_taken_is_waited_for_as_long_as_a_session_may_last() {
    let instance = Some(Arc::from("i"));
    let mut group = joining(GroupOptions { instance, ..options(GroupProtocol::Consumer) });
    let mut now = NOW;
    while now < NOW + PREDECESSOR_LIMIT {
        assert_eq!(heartbeat(&mut group, now).instance_id, Some(text("i")));
        group.answered(now, refused(Code::UNRELEASED_INSTANCE_ID));
        let trouble = GroupEvent::Trouble { api: API, code: Code::UNRELEASED_INSTANCE_ID };
        assert_eq!(group.take_events(), [trouble]);
        let Step::Wait(retry) = group.step(now) else { panic!("waits") };
        now = retry;
    }
    heartbeat(&mut group, now);
    group.answered(now, refused(Code::UNRELEASED_INSTANCE_ID));
    assert_eq!(group.step(now), Step::Ended);
}

#[test]
fn auto_speaks_classic_where_the_coordinator_wants_that_but_never_changes_later() {
    let unsupported = || Answer::Refused { api: API, code: Code::UNSUPPORTED_VERSION };
    for answer in [unsupported(), refused(Code::UNSUPPORTED_VERSION), refused(Code::GROUP_ID_NOT_FOUND)] {
        let mut group = joining(options(GroupProtocol::Auto));
        heartbeat(&mut group, NOW);
        group.answered(NOW, answer);
        let Step::Call(Call::Join(request)) = group.step(NOW) else { panic!("joins the other way") };
        assert_eq!(&*request.member_id, "", "the classic protocol gives ids");
        assert_eq!(group.take_events(), []);
    }
    let mut group = member(options(GroupProtocol::Auto), &[0]);
    group.answered(NOW, unsupported());
    assert_eq!(group.step(NOW), Step::Ended);
}

#[test]
fn leaving_is_said_and_a_static_member_says_that_it_will_be_back() {
    for (instance, epoch) in [(None, LEAVING_EPOCH), (Some(Arc::from("i")), LEAVING_STATIC_EPOCH)] {
        for answer in [accepted(epoch, None), Answer::Unreachable] {
            let mut group = member(GroupOptions { instance: instance.clone(), ..options(GroupProtocol::Auto) }, &[0]);
            group.leave();
            assert_eq!(heartbeat(&mut group, NOW).member_epoch, epoch);
            group.answered(NOW, answer);
            assert_eq!(group.step(NOW), Step::Ended);
        }
    }
    let mut group = joining(options(GroupProtocol::Consumer));
    group.leave();
    assert_eq!(group.step(NOW), Step::Ended, "nobody knows of us");
}

// ---- whole groups against a model of the coordinator

const PARTITIONS: i32 = 7;

/// What the coordinator does, as KIP-848 has it: a member is first told to give up what it should not have, and told of
/// more only once it has said that it did; a partition is free when its last holder said so or is gone.
#[derive(Default)]
struct Coordinator {
    epoch: i32,
    members: BTreeMap<String, Known>,
    holders: BTreeMap<i32, String>,
}

/// A member, as the coordinator knows it.
#[derive(Default)]
struct Known {
    epoch: i32,
    /// The epoch before that: the answer that raised it may have been lost.
    previous: i32,
    told: BTreeSet<i32>,
}

impl Coordinator {
    fn ask(&mut self, request: &ConsumerGroupHeartbeatRequest) -> Answer {
        let id = request.member_id.to_string();
        let owned = said(request).1.map(BTreeSet::from_iter);
        match request.member_epoch {
            LEAVING_EPOCH => {
                self.remove(&id);
                return accepted(LEAVING_EPOCH, None);
            }
            JOINING_EPOCH => {
                assert_eq!(owned, Some(BTreeSet::new()), "who joins has nothing");
                self.remove(&id);
                self.epoch += 1;
                self.members.insert(id.clone(), Known::default());
            }
            epoch => {
                let Some(known) = self.members.get(&id) else { return refused(Code::UNKNOWN_MEMBER_ID) };
                let is_late =
                    epoch == known.previous && owned.as_ref().is_some_and(|owned| owned.is_subset(&known.told));
                if epoch != known.epoch && !is_late {
                    return refused(Code::FENCED_MEMBER_EPOCH);
                }
            }
        }
        self.answer(&id, owned.as_ref())
    }

    fn answer(&mut self, id: &str, owned: Option<&BTreeSet<i32>>) -> Answer {
        let wanted = self.wanted(id);
        let is_freed =
            |partition: &i32| !wanted.contains(partition) && owned.is_some_and(|owned| !owned.contains(partition));
        self.holders.retain(|partition, holder| holder != id || !is_freed(partition));
        let mut held = self.held(id);
        let gives_up = !held.is_subset(&wanted);
        if !gives_up {
            for partition in &wanted {
                self.holders.entry(*partition).or_insert_with(|| id.to_owned());
            }
            held = self.held(id);
        }
        let told: BTreeSet<i32> = held.intersection(&wanted).copied().collect();
        let (epoch, known) = (self.epoch, self.members.get_mut(id).expect("a member"));
        if !gives_up && known.epoch != epoch {
            (known.previous, known.epoch) = (known.epoch, epoch);
        }
        let is_news = known.told != told || owned.is_some();
        known.told = told;
        let told: Vec<i32> = known.told.iter().copied().collect();
        accepted(known.epoch, is_news.then_some((TOPIC, &told)))
    }

    /// Each member should have every so many-th.
    fn wanted(&self, id: &str) -> BTreeSet<i32> {
        let at = self.members.keys().position(|member| member == id).expect("a member");
        (0..PARTITIONS).filter(|partition| *partition as usize % self.members.len() == at).collect()
    }

    fn held(&self, id: &str) -> BTreeSet<i32> {
        self.holders.iter().filter(|(_, holder)| *holder == id).map(|(partition, _)| *partition).collect()
    }

    fn remove(&mut self, id: &str) {
        if self.members.remove(id).is_some() {
            self.epoch += 1;
            self.holders.retain(|_, holder| holder != id);
        }
    }
}

/// A process, and whether the coordinator gave it up and it has not heard of that.
struct Process {
    application: Application,
    is_expelled: bool,
}

struct World {
    now: Duration,
    coordinator: Coordinator,
    processes: Vec<Process>,
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Answered,
    /// The coordinator heard it, but its answer is lost.
    Lost,
    /// The metadata does not know the topic yet.
    Unnamed,
}

impl World {
    fn new(processes: u64) -> Self {
        let process = |chance| Process {
            application: Application::new(Group::new(options(GroupProtocol::Consumer), chance)),
            is_expelled: false,
        };
        Self { now: NOW, coordinator: Coordinator::default(), processes: (0..processes).map(process).collect() }
    }

    /// One process does one thing.
    fn turn(&mut self, at: usize, fate: Fate) {
        let Process { application, is_expelled } = &mut self.processes[at];
        let step = application.group.step(self.now);
        application.hear();
        let mut hears_of_it = false;
        let answer = match step {
            Step::Call(Call::FindCoordinator) => Answer::CoordinatorFound,
            Step::Call(Call::NameTopics { .. }) if fate == Fate::Unnamed => Answer::Named(BTreeMap::new()),
            Step::Call(Call::NameTopics { .. }) => Answer::Named([(TOPIC, "t".into())].into()),
            Step::Call(Call::ConsumerHeartbeat(request)) => {
                let answer = self.coordinator.ask(&request);
                hears_of_it = fate != Fate::Lost;
                if hears_of_it { answer } else { Answer::Unreachable }
            }
            Step::Call(call) => panic!("not of this protocol: {call:?}"),
            Step::Wait(_) if !application.to_release.is_empty() => return application.release(),
            Step::Wait(until) => return self.now = self.now.max(until),
            Step::Idle | Step::Ended => return,
        };
        application.group.answered(self.now, answer);
        application.hear();
        *is_expelled &= !hears_of_it;
        expect_one_owner(self.staying());
    }

    /// Those who would know if they lost something.
    fn staying(&self) -> impl Iterator<Item = &Application> {
        let staying = self.processes.iter().filter(|process| !process.application.leaves && !process.is_expelled);
        staying.map(|process| &process.application)
    }

    fn expel(&mut self, at: usize) {
        let process = &mut self.processes[at];
        let id = process.application.group.credentials().member_id;
        process.is_expelled |= self.coordinator.members.contains_key(&id);
        self.coordinator.remove(&id);
    }
}

proptest! {
    /// Members come, go and are given up at any moment between two steps of anybody, and either answers get lost or names
    /// are late; in the end all partitions are shared out.
    #[test]
    fn groups_share_all_partitions_and_never_one_twice(
        trouble in prop_oneof![Just(Fate::Lost), Just(Fate::Unnamed)],
        turns in proptest::collection::vec((0..4usize, 0..30u8), 1..200),
    ) {
        let mut world = World::new(4);
        for (at, what) in turns {
            let application = &mut world.processes[at].application;
            match what {
                0 => {
                    application.leaves = true;
                    application.group.leave();
                }
                1..=4 => application.group.subscribe(topics(&["t"])),
                5 => world.expel(at),
                6..=9 => world.turn(at, trouble),
                _ => world.turn(at, Fate::Answered),
            }
        }
        for process in &mut world.processes {
            process.application.group.subscribe(topics(&["t"]));
        }
        for round in 0..400 {
            world.turn(round % world.processes.len(), Fate::Answered);
        }
        expect_shared(world.staying(), PARTITIONS as usize);
    }
}
