//! The embedded broker on real sockets, asked with plain protocol frames: what no client library would let a test do.
#![allow(clippy::disallowed_methods)]

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    ApiVersionsRequest, ApiVersionsResponse, BrokerId, FetchRequest, FetchResponse, HeartbeatRequest,
    InitProducerIdRequest, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, ListOffsetsRequest, MetadataRequest,
    OffsetCommitRequest, ProduceRequest, RequestHeader, ResponseHeader, SyncGroupRequest, SyncGroupResponse, TopicName,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};
use konekt::broker::{Action, ApiKey, Broker, BrokerOptions, Fault, TopicSpec};

/// Long enough for a slow machine; only a hang takes so long.
const HANG: Duration = Duration::from_secs(20);

fn broker_with(topics: &[(&str, i32)]) -> Broker {
    let topics = topics.iter().map(|(name, partitions)| TopicSpec::new(*name, *partitions)).collect();
    Broker::start(BrokerOptions { topics, ..BrokerOptions::default() }).unwrap()
}

fn text(value: &str) -> StrBytes {
    StrBytes::from_string(value.to_owned())
}

fn topic_name(value: &str) -> TopicName {
    TopicName(text(value))
}

/// A connection that speaks in frames.
struct Client {
    socket: TcpStream,
    correlation_id: i32,
}

impl Client {
    fn connect(broker: &Broker) -> Self {
        let socket = TcpStream::connect(broker.address()).unwrap();
        socket.set_read_timeout(Some(HANG)).unwrap();
        Self { socket, correlation_id: 0 }
    }

    fn send<Q: Request>(&mut self, version: i16, request: &Q) {
        self.correlation_id += 1;
        let header = RequestHeader::default()
            .with_request_api_key(Q::KEY)
            .with_request_api_version(version)
            .with_correlation_id(self.correlation_id)
            .with_client_id(Some(text("raw")));
        let mut content = BytesMut::new();
        header.encode(&mut content, Q::header_version(version)).unwrap();
        request.encode(&mut content, version).unwrap();
        self.send_frame(&content);
    }

    fn send_frame(&mut self, content: &[u8]) {
        let mut frame = BytesMut::new();
        frame.put_u32(content.len() as u32);
        frame.extend_from_slice(content);
        self.socket.write_all(&frame).unwrap();
    }

    /// The next frame; `None` when the broker hung up.
    fn read_frame(&mut self) -> Option<Bytes> {
        let mut length = [0; 4];
        self.read_exact(&mut length)?;
        let mut content = vec![0; u32::from_be_bytes(length) as usize];
        self.read_exact(&mut content)?;
        Some(content.into())
    }

    fn read_exact(&mut self, into: &mut [u8]) -> Option<()> {
        match self.socket.read_exact(into) {
            Ok(()) => Some(()),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => panic!("no answer within {HANG:?}"),
            Err(_) => None,
        }
    }

    fn receive<Q: Request>(&mut self, version: i16) -> Option<Q::Response> {
        let mut content = self.read_frame()?;
        let header = ResponseHeader::decode(&mut content, Q::Response::header_version(version)).unwrap();
        assert_eq!(header.correlation_id, self.correlation_id, "an answer to another request");
        let response = Q::Response::decode(&mut content, version).unwrap();
        assert!(!content.has_remaining(), "{} bytes follow the answer", content.remaining());
        Some(response)
    }

    fn ask<Q: Request>(&mut self, version: i16, request: &Q) -> Q::Response {
        self.send(version, request);
        self.receive::<Q>(version).expect("the broker hung up")
    }
}

/// A record batch of one record whose value is `value`, of a producer (id, epoch, sequence).
fn batch_of(value: &[u8], producer: (i64, i16, i32)) -> Bytes {
    assert!(value.len() < 50, "lengths are written as varints of one byte");
    let mut record = BytesMut::new();
    record.put_slice(&[0, 0, 0, 1, (value.len() * 2) as u8]);
    record.put_slice(value);
    record.put_u8(0);
    let mut covered = BytesMut::new();
    covered.put_i16(0);
    covered.put_i32(0);
    covered.put_i64(1_000);
    covered.put_i64(1_000);
    covered.put_i64(producer.0);
    covered.put_i16(producer.1);
    covered.put_i32(producer.2);
    covered.put_i32(1);
    covered.put_u8((record.len() * 2) as u8);
    covered.put_slice(&record);
    let mut batch = BytesMut::new();
    batch.put_i64(0);
    batch.put_i32(covered.len() as i32 + 9);
    batch.put_i32(-1);
    batch.put_i8(2);
    batch.put_u32(crc32c::crc32c(&covered));
    batch.put_slice(&covered);
    batch.freeze()
}

fn plain(value: &[u8]) -> Bytes {
    batch_of(value, (-1, -1, -1))
}

fn produce_of(topic: &str, partition: i32, batch: Bytes) -> ProduceRequest {
    let data = PartitionProduceData::default().with_index(partition).with_records(Some(batch));
    let topic = TopicProduceData::default().with_name(topic_name(topic)).with_partition_data(vec![data]);
    ProduceRequest::default().with_acks(-1).with_timeout_ms(1_000).with_topic_data(vec![topic])
}

fn produce(client: &mut Client, topic: &str, partition: i32, batch: Bytes) -> (i16, i64) {
    let response = client.ask(9, &produce_of(topic, partition, batch));
    let partition = &response.responses[0].partition_responses[0];
    (partition.error_code, partition.base_offset)
}

fn fetch_of(topic: &str, offsets: &[(i32, i64)], max_wait_ms: i32) -> FetchRequest {
    let asked = |&(partition, offset): &(i32, i64)| {
        FetchPartition::default().with_partition(partition).with_fetch_offset(offset).with_partition_max_bytes(1 << 20)
    };
    let topic =
        FetchTopic::default().with_topic(topic_name(topic)).with_partitions(offsets.iter().map(asked).collect());
    FetchRequest::default().with_max_wait_ms(max_wait_ms).with_min_bytes(1).with_topics(vec![topic])
}

/// (error code, bytes of records) of each partition.
fn fetched(response: &FetchResponse) -> Vec<(i16, usize)> {
    let partitions = response.responses.iter().flat_map(|topic| &topic.partitions);
    partitions.map(|data| (data.error_code, data.records.as_ref().map_or(0, Bytes::len))).collect()
}

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

fn join_of(member_id: &str) -> JoinGroupRequest {
    let protocol = JoinGroupRequestProtocol::default().with_name(text("range")).with_metadata(Bytes::from_static(b"m"));
    JoinGroupRequest::default()
        .with_group_id(text("g").into())
        .with_session_timeout_ms(30_000)
        .with_rebalance_timeout_ms(30_000)
        .with_member_id(text(member_id))
        .with_protocol_type(text("consumer"))
        .with_protocols(vec![protocol])
}

/// Gets a member id and sends the second join, which waits.
fn send_join(client: &mut Client) -> String {
    let refused = client.ask(9, &join_of(""));
    assert_eq!(refused.error_code, 79);
    client.send(9, &join_of(&refused.member_id));
    refused.member_id.to_string()
}

fn sync(client: &mut Client, joined: &JoinGroupResponse, assignments: &[(&str, &'static [u8])]) -> SyncGroupResponse {
    let assignment = |(member_id, assignment): &(&str, &'static [u8])| {
        SyncGroupRequestAssignment::default()
            .with_member_id(text(member_id))
            .with_assignment(Bytes::from_static(assignment))
    };
    let request = SyncGroupRequest::default()
        .with_group_id(text("g").into())
        .with_generation_id(joined.generation_id)
        .with_member_id(joined.member_id.clone())
        .with_protocol_type(joined.protocol_type.clone())
        .with_protocol_name(joined.protocol_name.clone())
        .with_assignments(assignments.iter().map(assignment).collect());
    client.ask(5, &request)
}

fn commit(client: &mut Client, joined: &JoinGroupResponse, offset: i64) -> i16 {
    let partition = OffsetCommitRequestPartition::default().with_partition_index(0).with_committed_offset(offset);
    let topic = OffsetCommitRequestTopic::default().with_name(topic_name("t")).with_partitions(vec![partition]);
    let request = OffsetCommitRequest::default()
        .with_group_id(text("g").into())
        .with_generation_id_or_member_epoch(joined.generation_id)
        .with_member_id(joined.member_id.clone())
        .with_topics(vec![topic]);
    client.ask(8, &request).topics[0].partitions[0].error_code
}

#[test]
fn two_members_join_divide_and_one_leaves() {
    let broker = broker_with(&[("t", 2)]);
    let (mut a, mut b) = (Client::connect(&broker), Client::connect(&broker));
    let first = a.ask(9, &join_of(""));
    send_join(&mut b);
    a.send(9, &join_of(&first.member_id));
    let joined_a = a.receive::<JoinGroupRequest>(9).unwrap();
    let joined_b = b.receive::<JoinGroupRequest>(9).unwrap();
    assert_eq!((joined_a.error_code, joined_b.error_code), (0, 0));
    assert_eq!((&joined_a.leader, joined_a.generation_id), (&joined_b.leader, joined_b.generation_id));
    let a_leads = joined_a.leader == joined_a.member_id;
    let (leader, follower) =
        if a_leads { ((&mut a, &joined_a), (&mut b, &joined_b)) } else { ((&mut b, &joined_b), (&mut a, &joined_a)) };
    assert_eq!((leader.1.members.len(), follower.1.members.len()), (2, 0));

    let parts: &[(&str, &'static [u8])] = &[(&leader.1.member_id, b"0"), (&follower.1.member_id, b"1")];
    let waiting = thread::scope(|scope| {
        let waiting = scope.spawn(|| sync(follower.0, follower.1, &[]));
        assert_eq!(sync(leader.0, leader.1, parts).assignment, "0");
        waiting.join().unwrap()
    });
    assert_eq!(waiting.assignment, "1");
    assert_eq!(commit(follower.0, follower.1, 41), 0);
    assert_eq!(broker.committed("g", "t", 0), Some(41));

    let leave = LeaveGroupRequest::default().with_group_id(text("g").into()).with_member_id(leader.1.member_id.clone());
    assert_eq!(leader.0.ask(2, &leave).error_code, 0);
    let beat = HeartbeatRequest::default()
        .with_group_id(text("g").into())
        .with_generation_id(follower.1.generation_id)
        .with_member_id(follower.1.member_id.clone());
    assert_eq!(follower.0.ask(4, &beat).error_code, 27, "the one who stays must join again");
    let again = follower.0.ask(9, &join_of(&follower.1.member_id));
    assert_eq!((again.error_code, again.leader == again.member_id), (0, true));
    assert_eq!(commit(follower.0, follower.1, 42), 22, "a commit of the old generation");
    assert_eq!(broker.committed("g", "t", 0), Some(41));
}

#[test]
fn versions_from_the_future_get_the_list_of_what_there_is() {
    let broker = broker_with(&[]);
    let mut client = Client::connect(&broker);
    let mut content = BytesMut::new();
    content.put_i16(ApiKey::ApiVersions as i16);
    content.put_i16(99);
    content.put_i32(7);
    client.send_frame(&content);
    let mut answer = client.read_frame().unwrap();
    assert_eq!(answer.get_i32(), 7);
    let response = ApiVersionsResponse::decode(&mut answer, 0).unwrap();
    assert_eq!(response.error_code, 35);
    assert!(response.api_keys.iter().any(|api| api.api_key == ApiKey::Fetch as i16 && api.max_version == 17));
    for version in 0..=4 {
        let request = ApiVersionsRequest::default()
            .with_client_software_name(text("raw"))
            .with_client_software_version(text("1"));
        assert_eq!(client.ask(version, &request).error_code, 0, "version {version}");
    }
}

#[test]
fn every_fault_does_what_it_says_once() {
    let broker = broker_with(&[("t", 1)]);
    let actions = [
        Action::Close,
        Action::CloseHalfWay,
        Action::CloseAfter,
        Action::TruncateFrame,
        Action::Corrupt,
        Action::Error(6),
        Action::Delay(Duration::from_millis(1)),
    ];
    for action in actions {
        let end = broker.log_end("t", 0).unwrap();
        broker.faults().push(Fault::new(ApiKey::Produce, action).on_partition(0));
        let mut client = Client::connect(&broker);
        client.send(9, &produce_of("t", 0, plain(b"x")));
        let frame = client.read_frame();
        let is_stored = broker.log_end("t", 0) == Some(end + 1);
        let expected = match action {
            Action::Close => (false, false),
            Action::Error(_) => (false, true),
            Action::CloseHalfWay | Action::CloseAfter => (true, false),
            _ => (true, true),
        };
        assert_eq!((is_stored, frame.is_some()), expected, "(stored, whole frame) after {action:?}");
        assert_eq!(produce(&mut Client::connect(&broker), "t", 0, plain(b"x")).0, 0, "{action:?} hit twice");
    }
    assert_eq!((broker.faults().fired(), broker.faults().waiting()), (actions.len() as u64, 0));
}

#[test]
fn a_silenced_connection_says_nothing_and_others_do_not_notice() {
    let broker = broker_with(&[("t", 1)]);
    broker.faults().push(Fault::new(ApiKey::Metadata, Action::Silence));
    let mut silenced = Client::connect(&broker);
    silenced.socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    silenced.send(12, &MetadataRequest::default());
    let mut nothing = [0];
    assert_eq!(silenced.socket.read(&mut nothing).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    assert_eq!(Client::connect(&broker).ask(12, &MetadataRequest::default()).brokers.len(), 1);
}

#[test]
fn an_error_for_one_partition_spares_the_others() {
    let broker = broker_with(&[("t", 2)]);
    (0..2).for_each(|partition| _ = broker.append("t", partition, plain(b"x")));
    broker.faults().push(Fault::new(ApiKey::Fetch, Action::Error(6)).on_partition(1));
    let response = Client::connect(&broker).ask(12, &fetch_of("t", &[(0, 0), (1, 0)], 0));
    assert_eq!(fetched(&response), [(0, plain(b"x").len()), (6, 0)]);
}

#[test]
fn garbage_ends_its_connection_and_nothing_else() {
    let broker = broker_with(&[("t", 1)]);
    let header = |key: i16, version: i16| {
        let mut content = BytesMut::new();
        content.put_i16(key);
        content.put_i16(version);
        content.put_i32(1);
        content.put_i16(-1);
        content
    };
    let with = |mut content: BytesMut, rest: &[u8]| {
        content.put_slice(rest);
        content
    };
    let cases = [
        ("no header", BytesMut::new()),
        ("half a header", header(3, 1).split_to(5)),
        ("an unknown API", header(999, 0)),
        ("a negative API", header(-1, 0)),
        ("an unknown version", header(3, 99)),
        ("an API of controllers", header(ApiKey::Vote as i16, 0)),
        ("no body", header(3, 1)),
        ("more topics than bytes", with(header(3, 1), &i32::MAX.to_be_bytes())),
        ("a negative count", with(header(3, 1), &(-7i32).to_be_bytes())),
        ("a client id beyond the frame", with(header(3, 9).split_to(8), &[0x7f, 0xff])),
        ("a long varint", with(header(3, 9), &[0, 0xff, 0xff, 0xff, 0xff, 0x0f])),
    ];
    for (name, content) in cases {
        let mut client = Client::connect(&broker);
        client.send_frame(&content);
        assert_eq!(client.read_frame(), None, "{name} got an answer");
    }
    let mut client = Client::connect(&broker);
    client.socket.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    assert_eq!(client.read_frame(), None);
    assert_eq!(produce(&mut Client::connect(&broker), "t", 0, plain(b"x")), (0, 0));
}

#[test]
fn cut_connections_can_be_made_anew() {
    let broker = broker_with(&[("t", 1)]);
    let mut client = Client::connect(&broker);
    assert_eq!(produce(&mut client, "t", 0, plain(b"x")), (0, 0));
    broker.drop_connections();
    assert_eq!(client.read_frame(), None);
    assert_eq!(produce(&mut Client::connect(&broker), "t", 0, plain(b"x")), (0, 1));
}

#[test]
fn stopping_sends_everybody_home() {
    let broker = broker_with(&[("t", 1)]);
    let address = broker.address();
    broker.faults().push(Fault::new(ApiKey::ListOffsets, Action::Delay(Duration::from_secs(3_600))));
    broker.faults().push(Fault::new(ApiKey::Heartbeat, Action::Silence));
    let mut clients: Vec<Client> = (0..6).map(|_| Client::connect(&broker)).collect();
    clients[0].send(12, &fetch_of("t", &[(0, 0)], 3_600_000));
    clients[1].send(7, &ListOffsetsRequest::default().with_replica_id(BrokerId(-1)));
    clients[2].send(4, &HeartbeatRequest::default());
    // Somebody who has an id and never comes keeps the other one waiting in its join.
    clients[3].ask(9, &join_of(""));
    send_join(&mut clients[4]);
    let started = Instant::now();
    broker.stop();
    assert!(started.elapsed() < HANG, "stopping took {:?}", started.elapsed());
    for (number, client) in clients.iter_mut().enumerate() {
        client.socket.shutdown(Shutdown::Write).ok();
        while let Some(content) = client.read_frame() {
            assert_eq!(number, 0, "only the fetch may still be answered, not {number}: {content:?}");
        }
    }
    assert!(TcpStream::connect(&address).is_err(), "somebody still listens on {address}");
}
