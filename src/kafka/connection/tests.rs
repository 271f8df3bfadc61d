//! A connection against a server on a thread that plays a script: versions, order, hostile bytes, time-outs, closing.

use std::io::{self, Read, Write};
use std::net::TcpListener;
use std::sync::mpsc;
use std::thread;

use bytes::Buf;
use kafka_protocol::messages::{HeartbeatRequest, HeartbeatResponse, MetadataRequest, ShareFetchRequest};

use super::*;

/// A server on a thread of its own that plays `script` for the one connection it accepts.
fn serve(script: impl FnOnce(&mut TcpStream) + Send + 'static) -> (String, thread::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        script(&mut stream);
    });
    (address, server)
}

fn quick() -> ConnectionOptions {
    let timeout = Duration::from_millis(300);
    ConnectionOptions { connect_timeout: timeout, request_timeout: timeout, ..ConnectionOptions::default() }
}

fn read_request(stream: &mut TcpStream) -> (i16, i16, i32) {
    let mut length = [0; 4];
    stream.read_exact(&mut length).unwrap();
    let mut request = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut request).unwrap();
    let mut request = &request[..];
    (request.get_i16(), request.get_i16(), request.get_i32())
}

fn write_frame(stream: &mut TcpStream, correlation_id: i32, body: &[u8]) {
    let frame = [&(body.len() as u32 + 4).to_be_bytes()[..], &correlation_id.to_be_bytes(), body].concat();
    stream.write_all(&frame).unwrap();
}

/// An ApiVersions v3 body that offers Heartbeat 0 to 9 and Metadata 0 to 3.
const API_VERSIONS: &[u8] = &[0, 0, 3, 0, 12, 0, 0, 0, 9, 0, 0, 3, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0];
/// A Heartbeat v4 answer: tagged fields of the header, throttle time, error code 27, tagged fields.
const HEARTBEAT: &[u8] = &[0, 0, 0, 0, 0, 0, 27, 0];

fn shake_hands(stream: &mut TcpStream) {
    let (key, version, correlation_id) = read_request(stream);
    assert_eq!((key, version), (18, 3));
    write_frame(stream, correlation_id, API_VERSIONS);
}

fn heartbeat(connection: &mut Connection) -> Result<HeartbeatResponse, Error> {
    connection.call(&HeartbeatRequest::default())
}

#[test]
fn a_call_is_sent_in_the_highest_common_version() {
    let (address, server) = serve(|stream| {
        shake_hands(stream);
        let (key, version, correlation_id) = read_request(stream);
        assert_eq!((key, version), (12, 4));
        write_frame(stream, correlation_id, HEARTBEAT);
    });
    let mut connection = Connection::open(&address, &quick()).unwrap();
    assert!(connection.supports::<HeartbeatRequest>(4) && !connection.supports::<HeartbeatRequest>(5));
    assert_eq!(heartbeat(&mut connection).unwrap().error_code, 27);
    server.join().unwrap();
}

#[test]
fn what_one_side_does_not_speak_is_refused_and_leaves_the_connection_usable() {
    let (address, server) = serve(|stream| {
        shake_hands(stream);
        let (_, _, correlation_id) = read_request(stream);
        write_frame(stream, correlation_id, HEARTBEAT);
    });
    let mut connection = Connection::open(&address, &quick()).unwrap();
    let error = connection.call(&MetadataRequest::default()).unwrap_err().to_string();
    assert!(error.contains("Metadata in versions 0..=3, this client speaks 4..=13"), "{error}");
    assert!(matches!(connection.version::<ShareFetchRequest>(), Err(Error::Unsupported { .. })));
    assert!(heartbeat(&mut connection).is_ok());
    server.join().unwrap();
}

#[test]
fn a_broker_that_refuses_api_versions_3_is_asked_with_0() {
    let (address, server) = serve(|stream| {
        let (_, version, correlation_id) = read_request(stream);
        assert_eq!(version, 3);
        write_frame(stream, correlation_id, &[0, 35, 0, 0, 0, 1, 0, 18, 0, 0, 0, 2]);
        let (_, version, correlation_id) = read_request(stream);
        assert_eq!(version, 0);
        write_frame(stream, correlation_id, &[0, 0, 0, 0, 0, 1, 0, 12, 0, 0, 0, 2]);
    });
    let connection = Connection::open(&address, &quick()).unwrap();
    assert_eq!(connection.version::<HeartbeatRequest>(), Ok(2));
    server.join().unwrap();
}

#[test]
fn what_is_no_kafka_is_said_in_one_sentence() {
    for (answer, expected) in [
        (&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], "an HTTP server answers"),
        (b"\x15\x03\x03\x00\x02\x02\x28", "a TLS server answers"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "an SSH server answers"),
        (b"-ERR unknown command\r\n", "a Redis server answers"),
        (b"J\0\0\0\x0a8.0.36\0", "a MySQL or MariaDB server answers"),
        (b"\xde\xad\xbe\xef", "[de, ad, be, ef]"),
        (b"\0\0\0\x06\0\0\0\x63ab", "it answers request 99, not 1"),
        (b"\0\0\0\x06\0\0\0\x01\0\0", "not an ApiVersions response"),
        (b"\0\0\0\x0b\0\0\0\x01\0\0\xff\xff\xff\xff\x0f", "not an ApiVersions response"),
    ] {
        let (address, server) = serve(move |stream| {
            read_request(stream);
            stream.write_all(answer).unwrap();
        });
        let error = Connection::open(&address, &quick()).err().expect("it must be refused");
        assert!(matches!(error, Error::NotKafka { .. }) && error.is_unavailable(), "{error:?}");
        assert!(!error.is_retriable(), "{error}");
        assert!(error.to_string().contains(expected), "{error}");
        server.join().unwrap();
    }
}

#[test]
fn a_server_that_hangs_up_at_once_may_be_a_broker_that_stops() {
    let (address, server) = serve(|stream| {
        read_request(stream);
    });
    let error = Connection::open(&address, &quick()).err().expect("there is no answer");
    assert!(error.to_string().contains("as TLS and SASL ports"), "{error}");
    assert!(error.is_retriable() && error.is_unavailable());
    server.join().unwrap();
}

#[test]
fn silence_and_dripping_bytes_end_in_a_timeout() {
    for drip in [false, true] {
        let (address, server) = serve(move |stream| {
            read_request(stream);
            if drip {
                stream.write_all(&[0, 0, 1, 0]).unwrap();
            }
            // Ends when the client has hung up; 100 drips are less than the 256 bytes promised.
            for _ in 0..100 {
                thread::sleep(Duration::from_millis(10));
                if drip && stream.write_all(&[0]).is_err() {
                    break;
                }
                if !drip && matches!(stream.peek(&mut [0]), Ok(0)) {
                    break;
                }
            }
        });
        let options = ConnectionOptions { connect_timeout: Duration::from_millis(60), ..quick() };
        let error = Connection::open(&address, &options).err().expect("nobody answers");
        assert!(matches!(error, Error::Timeout { .. }) && error.is_unavailable(), "drip {drip}: {error:?}");
        server.join().unwrap();
    }
}

#[test]
fn a_poisoned_connection_gives_its_first_error_again() {
    type Script = fn(&mut TcpStream, i32);
    let scripts: [(Script, &str); 6] = [
        (|stream, id| write_frame(stream, id + 1, HEARTBEAT), "it answers request 3, not 2"),
        (|stream, id| write_frame(stream, id, &HEARTBEAT[..6]), "malformed answer to Heartbeat"),
        (|stream, _| stream.write_all(&i32::MAX.to_be_bytes()).unwrap(), "its length is 2147483647 bytes"),
        (|stream, _| stream.write_all(&(-1i32).to_be_bytes()).unwrap(), "its length is -1 bytes"),
        (|stream, _| stream.write_all(&[0, 0, 0, 50, 0, 0]).unwrap(), "read an answer: the broker closed"),
        (|stream, _| drop(stream.shutdown(Shutdown::Both)), "wait for an answer: the broker closed"),
    ];
    for (script, expected) in scripts {
        let (address, server) = serve(move |stream| {
            shake_hands(stream);
            let (_, _, correlation_id) = read_request(stream);
            script(stream, correlation_id);
        });
        let mut connection = Connection::open(&address, &quick()).unwrap();
        let error = heartbeat(&mut connection).unwrap_err();
        assert!(error.to_string().contains(expected), "{expected}: {error}");
        server.join().unwrap();
        assert_eq!(heartbeat(&mut connection).unwrap_err(), error);
    }
}

#[test]
fn a_late_answer_times_out_and_the_connection_is_given_up() {
    let (hold, held) = mpsc::channel::<()>();
    let (address, server) = serve(move |stream| {
        shake_hands(stream);
        read_request(stream);
        let _ = held.recv();
    });
    let mut connection = Connection::open(&address, &quick()).unwrap();
    let short = Duration::from_millis(20);
    let error = connection.call_within(&HeartbeatRequest::default(), short).unwrap_err();
    assert_eq!(error, Error::Timeout { address, api: "Heartbeat", after: short });
    assert_eq!(heartbeat(&mut connection).unwrap_err(), error);
    drop(hold);
    server.join().unwrap();
}

#[test]
fn a_closer_ends_a_wait_in_another_thread() {
    let (asked, was_asked) = mpsc::channel();
    let (address, server) = serve(move |stream| {
        shake_hands(stream);
        read_request(stream);
        asked.send(()).unwrap();
        assert_eq!(stream.read(&mut [0]).unwrap(), 0, "the client hangs up");
    });
    let options = ConnectionOptions { request_timeout: Duration::from_secs(60), ..quick() };
    let mut connection = Connection::open(&address, &options).unwrap();
    let closer = connection.closer().unwrap();
    let waiting = thread::spawn(move || heartbeat(&mut connection));
    was_asked.recv().unwrap();
    closer.close();
    closer.close();
    assert_eq!(waiting.join().unwrap().unwrap_err(), Error::Closed);
    server.join().unwrap();
}

#[test]
fn a_dropped_connection_is_closed_though_a_closer_is_left() {
    let (address, server) = serve(|stream| {
        shake_hands(stream);
        assert_eq!(stream.read(&mut [0]).unwrap(), 0, "the client hangs up");
    });
    let connection = Connection::open(&address, &quick()).unwrap();
    let closer = connection.closer().unwrap();
    drop(connection);
    server.join().unwrap();
    closer.close();
}

#[test]
fn pipelined_calls_are_answered_in_order() {
    let (address, server) = serve(|stream| {
        shake_hands(stream);
        let ids = [read_request(stream).2, read_request(stream).2];
        for id in ids {
            write_frame(stream, id, HEARTBEAT);
        }
    });
    let mut connection = Connection::open(&address, &quick()).unwrap();
    let requests = [(); 2].map(|()| connection.send(&HeartbeatRequest::default()).unwrap());
    for in_flight in requests {
        let answer = connection.receive::<HeartbeatRequest>(in_flight, &mut FreshFrames, quick().request_timeout);
        assert_eq!(answer.unwrap().error_code, 27);
    }
    server.join().unwrap();
}

#[test]
fn addresses_without_a_port_and_dead_ones_are_explained() {
    for address in ["", "kafka", ":9092", "kafka:", "kafka:0", "kafka:99999", "kafka:9092x"] {
        let error = Connection::open(address, &quick()).err().expect("no such address");
        assert!(matches!(error, Error::Invalid(_)) && error.to_string().contains("host:port"), "{address}: {error}");
    }
    let dead = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let error = Connection::open(&dead, &quick()).err().expect("nobody listens");
    assert!(matches!(&error, Error::Io { kind: io::ErrorKind::ConnectionRefused, .. }), "{error:?}");
    assert!(error.is_unavailable() && error.is_retriable());
}
