//! Records in and out, and the topics they live in.

use bytes::Bytes;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{
    FetchRequest, FindCoordinatorRequest, InitProducerIdRequest, ListOffsetsRequest, MetadataRequest,
};
use kafka_protocol::protocol::StrBytes;
use konekt::broker::{Broker, BrokerOptions};

use crate::raw::{Client, batch_of, broker_with, fetch_of, fetched, plain, produce, produce_of, text, topic_name};

#[test]
fn what_is_produced_is_fetched_at_its_offset_and_a_repetition_is_stored_once() {
    let broker = broker_with(&[("t", 2)]);
    let mut client = Client::connect(&broker);
    let producer_id = client.ask(4, &InitProducerIdRequest::default().with_transactional_id(None)).producer_id.0;
    assert_eq!(client.ask(4, &InitProducerIdRequest::default()).error_code, 35, "transactions are not supported");
    assert_eq!(produce(&mut client, "t", 1, plain(b"one")), (0, 0));
    assert_eq!(produce(&mut client, "t", 1, batch_of(b"two", (producer_id, 0, 0))), (0, 1));
    assert_eq!(produce(&mut client, "t", 1, batch_of(b"two", (producer_id, 0, 0))), (0, 1), "the repetition");
    assert_eq!(produce(&mut client, "t", 1, batch_of(b"gap", (producer_id, 0, 7))).0, 45);
    assert_eq!(produce(&mut client, "t", 2, plain(b"x")).0, 3, "no such partition");
    assert_eq!(produce(&mut client, "t", 0, plain(b"x").slice(..65)).0, 2, "a cut batch");
    assert_eq!((broker.log_end("t", 1), broker.log_end("t", 0), broker.log_end("t", 2)), (Some(2), Some(0), None));

    let response = client.ask(12, &fetch_of("t", &[(1, 1)], 0));
    let records = response.responses[0].partitions[0].records.clone().unwrap();
    assert_eq!(records[..8], 1i64.to_be_bytes());
    assert_eq!(records[16..], batch_of(b"two", (producer_id, 0, 0))[16..], "what the CRC covers was touched");
}

#[test]
fn a_fetch_waits_until_somebody_produces() {
    let broker = broker_with(&[("t", 2)]);
    let mut consumer = Client::connect(&broker);
    consumer.send(12, &fetch_of("t", &[(0, 0), (1, 0)], 60_000));
    let mut producer = Client::connect(&broker);
    assert_eq!(produce(&mut producer, "t", 1, plain(b"wake")), (0, 0));
    let response = consumer.receive::<FetchRequest>(12).unwrap();
    assert_eq!(fetched(&response), [(0, 0), (0, plain(b"wake").len())]);
}

#[test]
fn a_fetch_outside_of_the_log_is_told_so_at_once() {
    let broker = broker_with(&[("t", 1)]);
    (0..3).for_each(|_| _ = broker.append("t", 0, plain(b"x")));
    assert_eq!(broker.delete_records_before("t", 0, 2), Some(2));
    let mut client = Client::connect(&broker);
    for (offset, expected) in [(1, 1), (2, 0), (4, 1)] {
        assert_eq!(fetched(&client.ask(12, &fetch_of("t", &[(0, offset)], 60_000)))[0].0, expected, "offset {offset}");
    }
    assert_eq!(fetched(&client.ask(12, &fetch_of("none", &[(0, 0)], 60_000))), [(3, 0)]);
    for (timestamp, expected) in [(-2, 2), (-1, 3), (-3, 2), (0, 2), (1_001, -1)] {
        let asked = ListOffsetsPartition::default().with_partition_index(0).with_timestamp(timestamp);
        let topic = ListOffsetsTopic::default().with_name(topic_name("t")).with_partitions(vec![asked]);
        let response = client.ask(7, &ListOffsetsRequest::default().with_topics(vec![topic]));
        assert_eq!(response.topics[0].partitions[0].offset, expected, "timestamp {timestamp}");
    }
}

#[test]
fn the_limits_of_a_fetch_hold_across_partitions_and_one_batch_always_comes() {
    let broker = broker_with(&[("t", 2)]);
    let one = plain(b"x").len();
    (0..6).for_each(|number| _ = broker.append("t", number % 2, plain(b"x")));
    let mut client = Client::connect(&broker);
    for (max_bytes, expected) in [(1, [one, 0]), (one * 2, [one * 2, 0]), (one * 4, [one * 3, one])] {
        let request = fetch_of("t", &[(0, 0), (1, 0)], 0).with_max_bytes(max_bytes as i32);
        let bytes: Vec<usize> = fetched(&client.ask(12, &request)).into_iter().map(|(_, bytes)| bytes).collect();
        assert_eq!(bytes, expected, "at most {max_bytes} bytes");
    }
}

#[test]
fn topics_are_found_by_id_and_a_deleted_one_no_more() {
    let broker = broker_with(&[("t", 1)]);
    let mut client = Client::connect(&broker);
    let asked = |name| MetadataRequestTopic::default().with_name(Some(topic_name(name)));
    let metadata = client.ask(12, &MetadataRequest::default().with_topics(Some(vec![asked("t"), asked("none")])));
    let codes: Vec<i16> = metadata.topics.iter().map(|topic| topic.error_code).collect();
    assert_eq!((codes, metadata.brokers.len()), (vec![0, 3], 1));
    let mut by_id = fetch_of("", &[(0, 0)], 60_000);
    by_id.topics[0].topic_id = metadata.topics[0].topic_id;
    client.send(13, &by_id);
    broker.delete_topic("t").unwrap();
    broker.create_topic("t", 1).unwrap();
    let response = client.receive::<FetchRequest>(13).unwrap();
    assert_eq!(fetched(&response), [(100, 0)], "the waiting fetch must hear of the deletion");
}

#[test]
fn records_in_and_out_in_every_version() {
    let broker = broker_with(&[("t", 1)]);
    let mut client = Client::connect(&broker);
    let asked = MetadataRequestTopic::default().with_name(Some(topic_name("t")));
    let id = client.ask(12, &MetadataRequest::default().with_topics(Some(vec![asked]))).topics[0].topic_id;
    for version in 3..=11 {
        let good = client.ask(version, &produce_of("t", 0, plain(b"x"))).responses[0].partition_responses[0].clone();
        assert_eq!((good.error_code, good.base_offset), (0, i64::from(version - 3)), "Produce {version}");
        let bad = client.ask(version, &produce_of("t", 0, Bytes::from_static(b"no batch")));
        assert_eq!(bad.responses[0].partition_responses[0].error_code, 2, "Produce {version}");
    }
    for version in 4..=17 {
        let mut request = fetch_of("t", &[(0, 3), (1, 0)], 0);
        if version >= 13 {
            request.topics[0].topic_id = id;
        }
        assert_eq!(fetched(&client.ask(version, &request)), [(0, 6 * plain(b"x").len()), (3, 0)], "Fetch {version}");
    }
    let mut ignored = client.ask(0, &FindCoordinatorRequest::default().with_key(text("g")));
    assert_eq!((ignored.error_code, ignored.node_id.0), (0, 1));
    for version in 1..=6 {
        let keys = if version < 4 { Vec::new() } else { vec![text("x")] };
        let key = if version < 4 { text("x") } else { StrBytes::new() };
        let request = FindCoordinatorRequest::default().with_key(key).with_key_type(1).with_coordinator_keys(keys);
        ignored = client.ask(version, &request);
        let code = ignored.coordinators.first().map_or(ignored.error_code, |one| one.error_code);
        assert_eq!(code, 53, "FindCoordinator {version} of a transaction");
    }
}

#[test]
fn a_producer_that_wants_no_answers_gets_none_and_loses_its_connection_on_an_error() {
    let broker = broker_with(&[("t", 1)]);
    let mut client = Client::connect(&broker);
    client.send(9, &produce_of("t", 0, plain(b"x")).with_acks(0));
    let next = client.ask(9, &produce_of("t", 0, plain(b"x")));
    assert_eq!(next.responses[0].partition_responses[0].base_offset, 1, "the first answer is that of the second");
    client.send(9, &produce_of("none", 0, plain(b"x")).with_acks(0));
    assert_eq!(client.read_frame(), None);
}

#[test]
fn topics_are_made_on_demand_only_where_that_is_wanted() {
    for (auto_create_partitions, may_create, expected) in
        [(None, true, (3, 0)), (Some(3), false, (3, 0)), (Some(3), true, (0, 3))]
    {
        let broker = Broker::start(BrokerOptions { auto_create_partitions, ..BrokerOptions::default() }).unwrap();
        let asked = MetadataRequestTopic::default().with_name(Some(topic_name("new")));
        let request =
            MetadataRequest::default().with_topics(Some(vec![asked])).with_allow_auto_topic_creation(may_create);
        let topic = &Client::connect(&broker).ask(9, &request).topics[0];
        assert_eq!((topic.error_code, topic.partitions.len()), expected, "{auto_create_partitions:?}, {may_create}");
    }
}
