//! The embedded broker on real sockets, asked with plain protocol frames: what no client library would let a test do.
#![allow(clippy::disallowed_methods)]

mod groups;
mod raw;
mod records;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use bytes::{Buf, BufMut, BytesMut};
use kafka_protocol::messages::{
    ApiVersionsRequest, ApiVersionsResponse, BrokerId, HeartbeatRequest, ListOffsetsRequest, MetadataRequest,
};
use kafka_protocol::protocol::Decodable;
use konekt::broker::{Action, ApiKey, Broker, BrokerOptions, Fault};

use crate::raw::{Client, HANG, broker_with, fetch_of, fetched, join_of, plain, produce, produce_of, send_join, text};

#[test]
fn an_address_that_is_taken_is_named() {
    let first = broker_with(&[]);
    let options = BrokerOptions { listen: first.address(), ..BrokerOptions::default() };
    let error = Broker::start(options).err().expect("two brokers on one port").to_string();
    assert!(error.contains(&first.address()), "{error}");
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
        Action::Noise(1),
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
    broker.faults().push(Fault::new(ApiKey::ListOffsets, Action::Delay(Duration::MAX)));
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
