//! A client that speaks in plain frames, and the requests that the tests of this folder need.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    FetchRequest, FetchResponse, JoinGroupRequest, ProduceRequest, RequestHeader, ResponseHeader, TopicName,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};
use konekt::broker::{Broker, BrokerOptions, TopicSpec};

/// Long enough for a slow machine; only a hang takes so long.
pub const HANG: Duration = Duration::from_secs(20);

pub fn broker_with(topics: &[(&str, i32)]) -> Broker {
    let topics = topics.iter().map(|(name, partitions)| TopicSpec::new(*name, *partitions)).collect();
    Broker::start(BrokerOptions { topics, ..BrokerOptions::default() }).unwrap()
}

pub fn text(value: &str) -> StrBytes {
    StrBytes::from_string(value.to_owned())
}

pub fn topic_name(value: &str) -> TopicName {
    TopicName(text(value))
}

/// A connection that speaks in frames.
pub struct Client {
    pub socket: TcpStream,
    correlation_id: i32,
}

impl Client {
    pub fn connect(broker: &Broker) -> Self {
        let socket = TcpStream::connect(broker.address()).unwrap();
        socket.set_read_timeout(Some(HANG)).unwrap();
        Self { socket, correlation_id: 0 }
    }

    pub fn send<Q: Request>(&mut self, version: i16, request: &Q) {
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

    pub fn send_frame(&mut self, content: &[u8]) {
        let mut frame = BytesMut::new();
        frame.put_u32(content.len() as u32);
        frame.extend_from_slice(content);
        self.socket.write_all(&frame).unwrap();
    }

    /// The next frame; `None` when the broker hung up.
    pub fn read_frame(&mut self) -> Option<Bytes> {
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

    pub fn receive<Q: Request>(&mut self, version: i16) -> Option<Q::Response> {
        let mut content = self.read_frame()?;
        let header = ResponseHeader::decode(&mut content, Q::Response::header_version(version)).unwrap();
        assert_eq!(header.correlation_id, self.correlation_id, "an answer to another request");
        let response = Q::Response::decode(&mut content, version).unwrap();
        assert!(!content.has_remaining(), "{} bytes follow the answer", content.remaining());
        Some(response)
    }

    pub fn ask<Q: Request>(&mut self, version: i16, request: &Q) -> Q::Response {
        self.send(version, request);
        self.receive::<Q>(version).expect("the broker hung up")
    }
}

/// A record batch of one record whose value is `value`, of a producer (id, epoch, sequence).
pub fn batch_of(value: &[u8], producer: (i64, i16, i32)) -> Bytes {
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

pub fn plain(value: &[u8]) -> Bytes {
    batch_of(value, (-1, -1, -1))
}

pub fn produce_of(topic: &str, partition: i32, batch: Bytes) -> ProduceRequest {
    let data = PartitionProduceData::default().with_index(partition).with_records(Some(batch));
    let topic = TopicProduceData::default().with_name(topic_name(topic)).with_partition_data(vec![data]);
    ProduceRequest::default().with_acks(-1).with_timeout_ms(1_000).with_topic_data(vec![topic])
}

pub fn produce(client: &mut Client, topic: &str, partition: i32, batch: Bytes) -> (i16, i64) {
    let response = client.ask(9, &produce_of(topic, partition, batch));
    let partition = &response.responses[0].partition_responses[0];
    (partition.error_code, partition.base_offset)
}

pub fn fetch_of(topic: &str, offsets: &[(i32, i64)], max_wait_ms: i32) -> FetchRequest {
    let asked = |&(partition, offset): &(i32, i64)| {
        FetchPartition::default().with_partition(partition).with_fetch_offset(offset).with_partition_max_bytes(1 << 20)
    };
    let topic =
        FetchTopic::default().with_topic(topic_name(topic)).with_partitions(offsets.iter().map(asked).collect());
    FetchRequest::default().with_max_wait_ms(max_wait_ms).with_min_bytes(1).with_topics(vec![topic])
}

/// (error code, bytes of records) of each partition.
pub fn fetched(response: &FetchResponse) -> Vec<(i16, usize)> {
    let partitions = response.responses.iter().flat_map(|topic| &topic.partitions);
    partitions.map(|data| (data.error_code, data.records.as_ref().map_or(0, Bytes::len))).collect()
}

pub fn join_of(member_id: &str) -> JoinGroupRequest {
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
pub fn send_join(client: &mut Client) -> String {
    let refused = client.ask(9, &join_of(""));
    assert_eq!(refused.error_code, 79);
    client.send(9, &join_of(&refused.member_id));
    refused.member_id.to_string()
}
