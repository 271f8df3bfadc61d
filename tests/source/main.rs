//! The native source against the embedded broker, on real sockets: what a consumer must survive.
#![allow(clippy::disallowed_methods)] // tests have no door: they wait for what they look for, with a limit

mod application;

use std::time::{Duration, Instant};

use application::{Application, all_read, fill, patience, read_all, start_broker};
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::{GroupId, OffsetCommitRequest, TopicName};
use kafka_protocol::protocol::StrBytes;
use konekt::TopicPartition;
use konekt::broker::{Action, ApiKey, Broker, BrokerOptions, Fault, TopicSpec};
use konekt::kafka::cluster::Cluster;
use konekt::kafka::connection::{Connection, ConnectionOptions};
use konekt::port::{MemoryBudget, Source, SourceEvent};
use konekt::source::native::{Assignor, GroupProtocol, NativeOptions, NativeSource, TopicSelection};

const PARTITIONS: i32 = 4;
const RECORDS: i64 = 300;

#[test]
fn everything_is_read_once_and_a_second_run_goes_on_where_the_first_committed() {
    let broker = start_broker(PARTITIONS);
    fill(&broker, PARTITIONS, RECORDS);
    let mut first = Application::join(&broker, |_| {});
    read_all(&mut [&mut first], &broker, PARTITIONS);
    first.close();
    for partition in 0..PARTITIONS {
        assert_eq!(broker.committed("g", "t", partition), Some(RECORDS));
    }
    fill(&broker, PARTITIONS, RECORDS);
    let mut second = Application::join(&broker, |_| {});
    second.read.extend(first.read.clone());
    read_all(&mut [&mut second], &broker, PARTITIONS);
    assert_eq!(second.records, (PARTITIONS as i64 * RECORDS) as u64, "only what is new");
    second.close();
}

/// Every way to be a member of a group.
const WAYS: [(GroupProtocol, Assignor); 5] = [
    (GroupProtocol::Classic, Assignor::Range),
    (GroupProtocol::Classic, Assignor::RoundRobin),
    (GroupProtocol::Classic, Assignor::CooperativeSticky),
    (GroupProtocol::Consumer, Assignor::Range),
    (GroupProtocol::Auto, Assignor::Range),
];

fn take_part(options: &mut NativeOptions, (protocol, assignor): (GroupProtocol, Assignor)) {
    options.group_protocol = protocol;
    options.assignors = vec![assignor];
}

#[test]
fn members_share_the_partitions_and_take_over_from_one_that_leaves() {
    for way in WAYS {
        let broker = start_broker(PARTITIONS);
        let join = || Application::join(&broker, |options| take_part(options, way));
        let (mut one, mut two) = (join(), join());
        let mut turn = patience("both have their share");
        while (one.positions.len(), two.positions.len()) != (2, 2) {
            turn();
            one.turn();
            two.turn();
        }
        fill(&broker, PARTITIONS, RECORDS);
        read_all(&mut [&mut one, &mut two], &broker, PARTITIONS);
        two.close();
        fill(&broker, PARTITIONS, RECORDS);
        one.read.extend(two.read.clone());
        read_all(&mut [&mut one], &broker, PARTITIONS);
        assert_eq!(one.records + two.records, (PARTITIONS as i64 * RECORDS * 2) as u64, "{way:?}: none twice");
        one.close();
    }
}

/// Each fault comes in the middle of reading; positions are kept as a database would, so nothing may be missing.
#[test]
fn nothing_is_missing_whatever_goes_wrong() {
    use ApiKey::*;
    let error = |code: i16| Action::Error(code);
    for (api, action, times) in [
        (Fetch, error(6), 2),   // NOT_LEADER_OR_FOLLOWER
        (Fetch, error(74), 1),  // FENCED_LEADER_EPOCH
        (Fetch, error(100), 2), // UNKNOWN_TOPIC_ID
        (Fetch, error(56), 1),  // KAFKA_STORAGE_ERROR
        (Fetch, error(-1), 1),
        (Fetch, Action::Close, 3),
        (Fetch, Action::CloseHalfWay, 2),
        (Fetch, Action::CloseAfter, 2),
        (Fetch, Action::TruncateFrame, 1),
        (Metadata, Action::Close, 2),
        (FindCoordinator, error(15), 2), // COORDINATOR_NOT_AVAILABLE
        (FindCoordinator, Action::Close, 1),
        (JoinGroup, error(14), 1), // COORDINATOR_LOAD_IN_PROGRESS
        (JoinGroup, Action::CloseAfter, 1),
        (SyncGroup, error(27), 1), // REBALANCE_IN_PROGRESS
        (SyncGroup, error(22), 1), // ILLEGAL_GENERATION
        (Heartbeat, error(16), 1), // NOT_COORDINATOR
        (Heartbeat, error(25), 1), // UNKNOWN_MEMBER_ID
        (Heartbeat, error(27), 1),
        (Heartbeat, Action::CloseAfter, 1),
        (OffsetFetch, error(88), 2), // UNSTABLE_OFFSET_COMMIT
        (OffsetFetch, Action::Close, 1),
        (OffsetCommit, error(14), 2),
        (OffsetCommit, Action::CloseAfter, 1),
        (ListOffsets, error(6), 1),
        (ListOffsets, Action::Close, 1),
        (Fetch, Action::Silence, 1),
        (Heartbeat, Action::Silence, 1),
        (SyncGroup, Action::Silence, 1),
        (OffsetFetch, Action::Silence, 1),
        (OffsetCommit, Action::Silence, 1),
        (ListOffsets, Action::Silence, 1),
        (Metadata, Action::Silence, 1),
        (ConsumerGroupHeartbeat, error(14), 1),
        (ConsumerGroupHeartbeat, error(15), 1),
        (ConsumerGroupHeartbeat, error(16), 1),
        (ConsumerGroupHeartbeat, error(25), 1),  // UNKNOWN_MEMBER_ID
        (ConsumerGroupHeartbeat, error(110), 1), // FENCED_MEMBER_EPOCH
        (ConsumerGroupHeartbeat, Action::CloseAfter, 2),
        (ConsumerGroupHeartbeat, Action::Silence, 1),
    ] {
        let broker = start_broker(PARTITIONS);
        fill(&broker, PARTITIONS, RECORDS);
        // The first JoinGroup only gives an id; a coordinator waits for who never comes back with it.
        let after = if matches!(api, Fetch | JoinGroup) { 1 } else { 0 };
        broker.faults().push(Fault::new(api, action).after(after).times(times));
        let mut application = Application::join(&broker, |options| {
            if api == ConsumerGroupHeartbeat {
                options.group_protocol = GroupProtocol::Consumer;
            }
            options.request_timeout = Duration::from_millis(500); // how long a silent connection is believed in
        });
        application.commits = true;
        read_all(&mut [&mut application], &broker, PARTITIONS);
        fill(&broker, PARTITIONS, RECORDS);
        let mut turn = patience("the fault has happened and all is read");
        while broker.faults().waiting() > 0 || !all_read(&[&application], &broker, PARTITIONS) {
            turn();
            application.turn();
        }
        application.close();
        let committed: Vec<_> = (0..PARTITIONS).map(|partition| broker.committed("g", "t", partition)).collect();
        assert_eq!(committed, [Some(RECORDS * 2); PARTITIONS as usize], "{api:?} {action:?}");
    }
}

#[test]
fn a_broker_that_drops_all_connections_is_found_again_and_new_partitions_with_it() {
    let broker = start_broker(PARTITIONS);
    fill(&broker, PARTITIONS, RECORDS);
    let mut application = Application::join(&broker, |_| {});
    read_all(&mut [&mut application], &broker, PARTITIONS);
    broker.create_partitions("t", PARTITIONS + 2).unwrap();
    broker.drop_connections();
    fill(&broker, PARTITIONS + 2, RECORDS);
    read_all(&mut [&mut application], &broker, PARTITIONS + 2);
    application.close();
}

#[test]
fn a_partition_whose_chunks_are_held_is_not_fetched_and_holds_nobody_up() {
    let broker = start_broker(2);
    let mut application = Application::join(&broker, |options| {
        options.credit_chunks = 2;
        options.partition_fetch_bytes = 1;
    });
    let slow = TopicPartition::new("t", 0);
    application.hold = Some(slow.clone());
    for _ in 0..20 {
        fill(&broker, 2, 10);
    }
    let mut turn = patience("the other partition is read");
    while application.position("t", 1) < 200 {
        turn();
        application.turn();
    }
    assert_eq!(application.held.len(), 2, "as much as there is credit for");
    application.hold = None;
    application.held.clear();
    let mut turn = patience("credit that comes back is used");
    while application.records < 400 - 20 {
        turn();
        application.turn();
    }
    application.close();
}

#[test]
fn a_rebalance_waits_for_what_is_not_released() {
    for way in WAYS {
        let broker = start_broker(PARTITIONS);
        fill(&broker, PARTITIONS, RECORDS);
        let join = || Application::join(&broker, |options| take_part(options, way));
        let mut one = join();
        read_all(&mut [&mut one], &broker, PARTITIONS);
        one.releases = false;
        let mut two = join();
        let mut turn = patience("the first is asked");
        while one.to_release.is_empty() {
            turn();
            one.turn();
            two.turn();
        }
        for _ in 0..10 {
            one.turn();
            two.turn();
        }
        assert!(two.positions.is_empty(), "{way:?}: nothing is released yet");
        one.releases = true;
        let mut turn = patience("the second gets its share");
        while two.positions.len() < 2 {
            turn();
            one.turn();
            two.turn();
        }
        for partition in two.positions.keys() {
            assert_eq!(two.position(&partition.topic, partition.partition), RECORDS, "committed before it was let go");
        }
        one.close();
        two.close();
    }
}

#[test]
fn an_offset_that_expired_is_reported_with_the_bounds_of_the_log() {
    let broker = start_broker(1);
    for _ in 0..5 {
        fill(&broker, 1, 10);
    }
    let mut application = Application::join(&broker, |_| {});
    application.starts = false;
    let partition = TopicPartition::new("t", 0);
    let mut turn = patience("it is assigned");
    while application.assigned.is_empty() {
        turn();
        application.turn();
    }
    broker.delete_records_before("t", 0, 30).unwrap();
    application.source.start(&partition, 77, 3);
    let mut turn = patience("the expired offset is reported");
    let reported = loop {
        turn();
        application.turn();
        let is_it = |event: &SourceEvent| matches!(event, SourceEvent::OutOfRange { .. });
        if let Some(at) = application.others.iter().position(is_it) {
            break application.others.remove(at);
        }
    };
    let words = format!("{reported:?}");
    assert_eq!(words, "OutOfRange { partition: t/0, run: 77, requested: 3, log_start: 30, log_end: 50 }");
    application.source.start(&partition, 78, 30);
    application.positions.insert(partition, (78, 30));
    let mut turn = patience("it is started again elsewhere");
    while application.position("t", 0) < 50 {
        turn();
        application.turn();
    }
    application.close();
}

#[test]
fn a_partition_that_is_forbidden_says_so_and_can_be_started_again() {
    let broker = start_broker(1);
    fill(&broker, 1, 10);
    let mut application = Application::join(&broker, |_| {});
    read_all(&mut [&mut application], &broker, 1);
    broker.faults().push(Fault::new(ApiKey::Fetch, Action::Error(29)).times(100));
    let refused =
        |event: &SourceEvent| matches!(event, SourceEvent::PartitionFailed { run: Some(1), forbidden: true, .. });
    let mut turn = patience("the partition fails");
    while !application.others.iter().any(refused) {
        turn();
        application.turn();
    }
    broker.faults().clear();
    fill(&broker, 1, 10);
    let (partition, (_, next)) = application.positions.pop_first().unwrap();
    application.source.start(&partition, 2, next);
    application.positions.insert(partition, (2, next));
    read_all(&mut [&mut application], &broker, 1);
    application.close();
}

#[test]
fn a_topic_that_is_made_anew_is_not_read_on() {
    let broker = start_broker(1);
    fill(&broker, 1, 10);
    let mut application = Application::join(&broker, |_| {});
    read_all(&mut [&mut application], &broker, 1);
    broker.delete_topic("t").unwrap();
    broker.create_topic("t", 1).unwrap();
    let mut turn = patience("the partition fails");
    while !application.others.iter().any(|event| matches!(event, SourceEvent::PartitionFailed { .. })) {
        turn();
        application.turn();
    }
    let words = format!("{:?}", application.others);
    assert!(words.contains("was deleted and made anew"), "{words}");
    application.close();
}

#[test]
fn a_position_in_a_deleted_topic_is_not_committed_to_the_one_made_anew() {
    let broker = start_broker(1);
    fill(&broker, 1, 10);
    let mut application = Application::join(&broker, |_| {});
    application.commits = true;
    let turn_until = |application: &mut Application, what, is_so: &dyn Fn(&Application) -> bool| {
        let mut turn = patience(what);
        while !is_so(application) {
            turn();
            application.turn();
        }
    };
    turn_until(&mut application, "ten are committed", &|_| broker.committed("g", "t", 0) == Some(10));
    broker.delete_topic("t").unwrap();
    assert_eq!(broker.committed("g", "t", 0), None, "Kafka forgets offsets with the topic");
    let refused = |event: &SourceEvent| matches!(event, SourceEvent::Committed { positions, result: Err(_) } if !positions.is_empty());
    turn_until(&mut application, "a commit is refused", &|application| application.others.iter().any(refused));
    broker.create_topic("t", 1).unwrap();
    fill(&broker, 1, 20);
    let failed = |event: &SourceEvent| matches!(event, SourceEvent::PartitionFailed { .. });
    turn_until(&mut application, "the partition fails", &|application| application.others.iter().any(failed));
    application.others.clear();
    turn_until(&mut application, "a commit is refused", &|application| application.others.iter().any(refused));
    let words = format!("{:?}", application.others);
    assert!(words.contains("deleted and made anew"), "{words}");
    application.close();
    assert_eq!(broker.committed("g", "t", 0), None, "nobody would read the first ten of the new topic");
}

/// Commits an offset of `t` 0 for the group `g`, with a note, as a member that was a moment late would have.
fn commit(broker: &Broker, offset: i64, note: &str) {
    let partition = OffsetCommitRequestPartition::default()
        .with_committed_offset(offset)
        .with_committed_metadata(Some(StrBytes::from_string(note.to_owned())));
    let topic = OffsetCommitRequestTopic::default()
        .with_name(TopicName(StrBytes::from_static_str("t")))
        .with_partitions(vec![partition]);
    let request = OffsetCommitRequest::default()
        .with_group_id(GroupId(StrBytes::from_static_str("g")))
        .with_generation_id_or_member_epoch(-1)
        .with_topics(vec![topic]);
    let mut connection = Connection::open(&broker.address(), &ConnectionOptions::default()).unwrap();
    let answer = connection.call(&request).unwrap();
    assert_eq!(answer.topics[0].partitions[0].error_code, 0);
}

#[test]
fn a_committed_offset_that_was_read_from_a_deleted_topic_does_not_count() {
    let broker = start_broker(1);
    fill(&broker, 1, 20);
    let cluster = Cluster::connect(&[broker.address()], ConnectionOptions::default()).unwrap();
    let (here, old) = (cluster.id().unwrap(), "00000000-0000-0000-0000-000000000001");
    for (note, expected) in [
        (format!("konekt:read-from {here} {old}"), None),
        (format!("konekt:read-from elsewhere {old}"), Some(10)),
        ("another program's".to_owned(), Some(10)),
    ] {
        commit(&broker, 10, &note);
        let mut application = Application::join(&broker, |_| {});
        let mut turn = patience("the partition is assigned");
        while application.assigned.is_empty() {
            turn();
            application.turn();
        }
        assert_eq!(application.assigned[0].committed, expected, "{note}");
        application.close();
    }
}

#[test]
fn given_partitions_are_read_without_a_group_and_committed_all_the_same() {
    let broker = start_broker(PARTITIONS);
    fill(&broker, PARTITIONS, RECORDS);
    let mut application = Application::join(&broker, |options| {
        options.topics = TopicSelection::Partitions(vec![TopicPartition::new("t", 2)]);
    });
    let mut turn = patience("the given partition is read");
    while application.position("t", 2) < RECORDS {
        turn();
        application.turn();
    }
    application.close();
    assert_eq!(application.positions.len(), 1);
    assert_eq!(broker.committed("g", "t", 2), Some(RECORDS));
}

#[test]
fn all_memory_is_given_back_in_the_end_and_the_limit_is_kept_on_the_way() {
    let broker = start_broker(PARTITIONS);
    for _ in 0..20 {
        fill(&broker, PARTITIONS, RECORDS);
    }
    let memory = MemoryBudget::new(200_000);
    let mut application = Application::join(&broker, |options| options.memory = memory.clone());
    let mut most = 0;
    let mut turn = patience("all is read");
    while !all_read(&[&application], &broker, PARTITIONS) {
        turn();
        application.turn();
        most = most.max(memory.used());
    }
    assert!(most <= memory.limit(), "{most} bytes were held");
    application.close();
    assert_eq!(memory.used(), 0);
}

#[test]
fn a_waker_ends_a_wait() {
    let broker = start_broker(1);
    let mut application = Application::join(&broker, |_| {});
    let mut turn = patience("the group has settled, and nothing else is to come");
    while !application.others.iter().any(|event| matches!(event, SourceEvent::Settled)) {
        turn();
        application.turn();
    }
    let waker = application.source.waker();
    std::thread::scope(|scope| {
        scope.spawn(move || waker());
        let mut events = Vec::new();
        application.source.poll(Duration::from_secs(600), &mut events);
        assert!(events.is_empty(), "{events:?}");
    });
    application.close();
}

#[test]
fn wrong_options_and_dead_brokers_are_told_in_words() {
    let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let options = |bootstrap: &str, group: &str| {
        let mut options = application::options(bootstrap);
        options.group_id = group.into();
        options.connect_timeout = Duration::from_millis(300);
        options
    };
    for (bootstrap, group, unavailable, words) in [
        (dead.as_str(), "g", true, "Connection refused"),
        ("nonsense", "g", false, "write host:port"),
        (dead.as_str(), "", false, "group_id is empty"),
    ] {
        let error = NativeSource::connect(options(bootstrap, group)).err().expect("there is nothing to connect to");
        assert!(error.to_string().contains(words), "{error}");
        assert_eq!(error.is_unavailable(), unavailable, "{error}");
    }
}

#[test]
fn a_pattern_takes_in_topics_that_are_made_later() {
    for protocol in [GroupProtocol::Classic, GroupProtocol::Consumer] {
        let broker = start_broker(1);
        let mut application = Application::join(&broker, |options| {
            options.group_protocol = protocol;
            options.topics = TopicSelection::pattern("t.*").unwrap();
            options.metadata_max_age = Duration::from_millis(100);
        });
        let mut turn = patience("the first topic is assigned");
        while application.positions.is_empty() {
            turn();
            application.turn();
        }
        broker.create_topic("another", 1).unwrap();
        broker.create_topic("t-later", 2).unwrap();
        let mut turn = patience("the later one is assigned too");
        while application.positions.len() < 3 {
            turn();
            application.turn();
        }
        assert!(application.positions.keys().all(|partition| partition.topic.starts_with('t')), "{protocol:?}");
        application.close();
    }
}

#[test]
fn auto_falls_back_where_the_broker_or_the_group_speaks_classic() {
    for case in ["as Kafka 3.9", "a classic group"] {
        let broker = start_broker(PARTITIONS);
        fill(&broker, PARTITIONS, RECORDS);
        let mut classic = None;
        if case == "as Kafka 3.9" {
            // it offers the API and then refuses it
            broker.faults().push(Fault::new(ApiKey::ConsumerGroupHeartbeat, Action::Error(35)).times(100));
        } else {
            let mut application = Application::join(&broker, |_| {});
            read_all(&mut [&mut application], &broker, PARTITIONS);
            classic = Some(application);
        }
        let mut auto = Application::join(&broker, |options| options.group_protocol = GroupProtocol::Auto);
        let mut turn = patience("it is a member");
        while auto.positions.is_empty() {
            turn();
            auto.turn();
            classic.iter_mut().for_each(Application::turn);
        }
        auto.close();
        classic.iter_mut().for_each(Application::close);
    }
}

#[test]
fn a_static_member_keeps_its_partitions_over_a_restart() {
    let broker = start_broker(PARTITIONS);
    fill(&broker, PARTITIONS, RECORDS);
    let join = |instance: &str| {
        Application::join(&broker, |options| {
            options.group_protocol = GroupProtocol::Consumer;
            options.group_instance_id = Some(instance.into());
        })
    };
    let (mut one, mut two) = (join("one"), join("two"));
    let mut turn = patience("both have their share");
    while (one.positions.len(), two.positions.len()) != (2, 2) {
        turn();
        one.turn();
        two.turn();
    }
    let before: Vec<TopicPartition> = two.positions.keys().cloned().collect();
    two.close();
    let mut again = join("two");
    let mut turn = patience("it is back");
    while again.positions.len() < 2 {
        turn();
        one.turn();
        again.turn();
    }
    assert!(again.positions.keys().eq(before.iter()), "the same partitions");
    assert_eq!(one.positions.len(), 2, "nobody else noticed");
    one.close();
    again.close();
}

#[test]
fn a_thousand_idle_partitions_cost_no_bytes() {
    const MANY: i32 = 1_000;
    let broker = start_broker(MANY);
    let mut application = Application::join(&broker, |_| {});
    let mut turn = patience("all are read");
    while application.positions.len() < MANY as usize {
        turn();
        application.turn();
    }
    fill(&broker, MANY, 1);
    read_all(&mut [&mut application], &broker, MANY);
    let mut turn = patience("the last answers are in");
    let mut before = broker.traffic(ApiKey::Fetch);
    loop {
        turn();
        let until = Instant::now() + Duration::from_millis(1_000);
        while Instant::now() < until {
            application.turn();
        }
        let now = broker.traffic(ApiKey::Fetch);
        let requests = now.requests - before.requests;
        let bytes = now.request_bytes + now.answer_bytes - before.request_bytes - before.answer_bytes;
        if requests > 0 && requests < 20 && bytes < requests * 200 {
            break; // polls of 100 ms that say nothing and are told nothing
        }
        before = now;
    }
    fill(&broker, MANY, 1);
    read_all(&mut [&mut application], &broker, MANY);
    application.close();
}

#[test]
fn a_broker_that_forgets_fetch_sessions_is_told_everything_again() {
    let broker = start_broker(PARTITIONS);
    let mut application = Application::join(&broker, |_| {});
    for _ in 0..5 {
        fill(&broker, PARTITIONS, RECORDS);
        read_all(&mut [&mut application], &broker, PARTITIONS);
        broker.forget_fetch_sessions();
    }
    application.close();
    assert_eq!(application.records, (PARTITIONS as i64 * RECORDS * 5) as u64);
}

#[test]
fn a_broker_without_fetch_sessions_is_asked_for_everything_each_time() {
    let topics = vec![TopicSpec::new("t", PARTITIONS)];
    let broker = Broker::start(BrokerOptions { topics, fetch_sessions_max: 0, ..BrokerOptions::default() }).unwrap();
    let mut application = Application::join(&broker, |_| {});
    for _ in 0..3 {
        fill(&broker, PARTITIONS, RECORDS);
        read_all(&mut [&mut application], &broker, PARTITIONS);
    }
    application.close();
    assert_eq!(application.records, (PARTITIONS as i64 * RECORDS * 3) as u64);
}

#[test]
fn a_log_that_lost_what_was_read_stops_the_partition_with_numbers() {
    for refilled in [0, 5] {
        let broker = start_broker(2);
        fill(&broker, 2, 10);
        fill(&broker, 2, 10);
        let mut application = Application::join(&broker, |_| {});
        read_all(&mut [&mut application], &broker, 2);
        assert_eq!(broker.truncate("t", 0, 12), Some(10));
        for _ in 0..refilled {
            fill(&broker, 2, 10); // other records stand where the lost ones stood
        }
        let is_it = |event: &SourceEvent| matches!(event, SourceEvent::PartitionFailed { .. });
        let mut turn = patience("the partition stops");
        while !application.others.iter().any(is_it) {
            turn();
            application.turn();
        }
        let words = format!("{:?}", application.others.iter().find(|event| is_it(event)));
        for expected in ["t/0", "read up to offset 20", "epoch 0 ends at 10", "set the position to 10"] {
            assert!(words.contains(expected), "{expected}: {words}");
        }
        assert_eq!(application.position("t", 0), 20, "nothing of the new records is taken for the next");
        let mut turn = patience("the other partition goes on");
        while application.position("t", 1) < broker.log_end("t", 1).unwrap() {
            turn();
            application.turn();
        }
        application.close();
    }
}
