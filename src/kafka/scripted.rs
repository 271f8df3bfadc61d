//! A scripted broker for tests of the client: real sockets, answers given by a closure.

#![allow(clippy::disallowed_methods)]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::api_versions_response::{ApiVersion, ApiVersionsResponse};
use kafka_protocol::messages::metadata_response::{
    MetadataResponse, MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{ApiKey, RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};

use super::cluster::topic_name;

/// One request as the script sees it.
pub(crate) struct Call {
    pub(crate) key: ApiKey,
    pub(crate) version: i16,
    body: Bytes,
}

impl Call {
    /// The request's message.
    pub(crate) fn read<R: Request>(&self) -> R {
        assert_eq!(self.key as i16, R::KEY);
        R::decode(&mut self.body.clone(), self.version).expect("our own requests can be decoded")
    }

    /// An answer; the header's tagged fields, where the version has them, are part of it.
    pub(crate) fn answer<A: Encodable + HeaderVersion>(&self, answer: A) -> Answer {
        let mut bytes = BytesMut::new();
        if A::header_version(self.version) > 0 {
            bytes.extend_from_slice(&[0]);
        }
        answer.encode(&mut bytes, self.version).expect("the script's answers can be encoded");
        Answer::Bytes(bytes.freeze())
    }
}

/// What a script does about a request.
pub(crate) enum Answer {
    Bytes(Bytes),
    HangUp,
}

/// The broker; dropping it stops accepting.
pub(crate) struct ScriptedBroker {
    pub(crate) address: String,
    stopping: Arc<AtomicBool>,
    acceptor: Option<JoinHandle<()>>,
}

impl ScriptedBroker {
    /// Offers the given highest versions (lowest 0) and answers every other request by `script`, which also gets the
    /// broker's own port.
    pub(crate) fn start(
        offered: &[(ApiKey, i16)],
        script: impl Fn(&Call, i32) -> Answer + Send + Sync + 'static,
    ) -> ScriptedBroker {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let port = i32::from(address.port());
        let (stopping, script, offered) = (Arc::new(AtomicBool::new(false)), Arc::new(script), offered.to_vec());
        let stop = stopping.clone();
        let acceptor = thread::spawn(move || {
            for stream in listener.incoming() {
                if stop.load(Ordering::Acquire) {
                    return;
                }
                let (script, offered) = (script.clone(), offered.clone());
                // Ends when the client hangs up.
                thread::spawn(move || while serve_one(stream.as_ref().unwrap(), &offered, port, &*script).is_some() {});
            }
        });
        ScriptedBroker { address: address.to_string(), stopping, acceptor: Some(acceptor) }
    }
}

impl Drop for ScriptedBroker {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Release);
        let _ = TcpStream::connect(&self.address);
        self.acceptor.take().map(JoinHandle::join);
    }
}

/// A cluster of one broker, node 1 at `port`, that leads `partitions` partitions of one topic.
pub(crate) fn one_broker(port: i32, topic: &str, partitions: i32) -> MetadataResponse {
    let host = StrBytes::from_static_str("127.0.0.1");
    let node = MetadataResponseBroker::default().with_node_id(1.into()).with_host(host).with_port(port);
    let partition = |index| MetadataResponsePartition::default().with_partition_index(index).with_leader_id(1.into());
    let topic = MetadataResponseTopic::default().with_name(Some(topic_name(topic)));
    let topic = topic.with_partitions((0..partitions).map(partition).collect());
    MetadataResponse::default().with_brokers(vec![node]).with_topics(vec![topic])
}

fn serve_one(
    mut stream: &TcpStream,
    offered: &[(ApiKey, i16)],
    port: i32,
    script: &dyn Fn(&Call, i32) -> Answer,
) -> Option<()> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).ok()?;
    let mut frame = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut frame).ok()?;
    let key = ApiKey::try_from(i16::from_be_bytes([frame[0], frame[1]])).ok()?;
    let version = i16::from_be_bytes([frame[2], frame[3]]);
    let mut body = Bytes::from(frame);
    let header = RequestHeader::decode(&mut body, key.request_header_version(version)).ok()?;
    let call = Call { key, version, body };
    let answer = match key {
        ApiKey::ApiVersions => call.answer(api_versions(offered)),
        _ => script(&call, port),
    };
    let Answer::Bytes(answer) = answer else { return None };
    let mut frame = BytesMut::new();
    frame.extend_from_slice(&(answer.len() as u32 + 4).to_be_bytes());
    ResponseHeader::default().with_correlation_id(header.correlation_id).encode(&mut frame, 0).ok()?;
    frame.extend_from_slice(&answer);
    stream.write_all(&frame).ok()
}

fn api_versions(offered: &[(ApiKey, i16)]) -> ApiVersionsResponse {
    let range = |(key, highest): &(ApiKey, i16)| {
        ApiVersion::default().with_api_key(*key as i16).with_min_version(0).with_max_version(*highest)
    };
    ApiVersionsResponse::default().with_api_keys(offered.iter().map(range).collect())
}
