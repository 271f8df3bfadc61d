//! Frames on a connection's socket: four bytes of length, then that many bytes, sent and received within a limit of time;
//! and what it means when that fails.
//!
//! Caller: the [`Connection`](super::Connection), to which a frame is a request or an answer. Source: "Kafka protocol
//! guide", Common Request and Response Structure.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::ConnectionOptions;
use crate::kafka::error::Error;
use crate::kafka::socket::{Socket, foreign_protocol, io_error};
use crate::kafka::tls::Tls;

/// Where the memory for answers comes from: fetchers reuse theirs and account for it.
pub trait FrameSource {
    /// Memory for an answer of `length` bytes (at most `response_bytes_max`). May wait.
    fn frame(&mut self, length: usize) -> Box<dyn Frame>;
}

/// Memory that one answer is read into. Dropping it unfrozen gives the memory back.
pub trait Frame {
    /// The empty vector to read into; it is not zeroed first.
    fn buffer(&mut self) -> &mut Vec<u8>;
    /// The bytes read. Their owner is dropped with the last slice of them.
    fn freeze(self: Box<Self>) -> Bytes;
}

/// Memory from the allocator, for ordinary calls.
pub struct FreshFrames;

impl FrameSource for FreshFrames {
    fn frame(&mut self, length: usize) -> Box<dyn Frame> {
        Box::new(FreshFrame(Vec::with_capacity(length.min(FRESH_FRAME_BYTES_AT_ONCE))))
    }
}

/// What a claimed length may make us allocate before bytes have come; beyond it the vector grows as they do.
const FRESH_FRAME_BYTES_AT_ONCE: usize = 1 << 20;

struct FreshFrame(Vec<u8>);

impl Frame for FreshFrame {
    fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.0
    }

    fn freeze(self: Box<Self>) -> Bytes {
        Bytes::from(self.0)
    }
}

/// A socket that frames go through. It names the API of each one for the sake of its errors.
pub(super) struct FramedSocket {
    address: String,
    socket: Socket,
    tls: Option<Arc<Tls>>,
    request_timeout: Duration,
    response_bytes_max: usize,
    /// The request being built; kept for its memory.
    outgoing: BytesMut,
    /// Whether the server has shown that it is a broker; until then a failure may mean that it is none.
    pub(super) is_broker: bool,
}

impl FramedSocket {
    pub(super) fn open(address: &str, options: &ConnectionOptions) -> Result<Self, Error> {
        let tls = options.security.tls();
        let socket = Socket::open(address, tls.map(Arc::as_ref), options.connect_timeout, options.request_timeout)?;
        Ok(Self {
            address: address.into(),
            socket,
            tls: tls.cloned(),
            request_timeout: options.request_timeout,
            response_bytes_max: options.response_bytes_max,
            outgoing: BytesMut::new(),
            is_broker: false,
        })
    }

    pub(super) fn address(&self) -> &str {
        &self.address
    }

    pub(super) fn tcp(&self) -> &TcpStream {
        self.socket.tcp()
    }

    /// Builds the frame that [`send`](Self::send) sends. An error leaves the socket as it was.
    pub(super) fn build(
        &mut self,
        api: &'static str,
        encode: impl FnOnce(&mut BytesMut) -> Result<(), String>,
    ) -> Result<(), Error> {
        self.outgoing.clear();
        self.outgoing.extend_from_slice(&[0; 4]);
        let encoded = encode(&mut self.outgoing)
            .and_then(|()| i32::try_from(self.outgoing.len() - 4).map_err(|_| "it is longer than 2 GiB".to_string()));
        let length = encoded.map_err(|what| Error::Unsendable { address: self.address.clone(), api, what })?;
        self.outgoing[..4].copy_from_slice(&length.to_be_bytes());
        Ok(())
    }

    pub(super) fn send(&mut self, api: &'static str) -> Result<(), Error> {
        let written = self.socket.write_all(&self.outgoing).and_then(|()| self.socket.flush());
        written.map_err(|error| self.classify(api, self.request_timeout, "send a request", &error))
    }

    /// The next frame, without its length, if it begins within `timeout`.
    pub(super) fn receive(
        &mut self,
        api: &'static str,
        frames: &mut dyn FrameSource,
        timeout: Duration,
    ) -> Result<Bytes, Error> {
        let mut prefix = [0; 4];
        let received = self.socket.within(timeout).read_exact(&mut prefix);
        received.map_err(|error| self.classify(api, timeout, "wait for an answer", &error))?;
        let length = self.check_length(api, prefix)?;
        let mut frame = frames.frame(length);
        // The body has its own limit, since getting the memory for it may have waited.
        let body = self.socket.within(self.request_timeout);
        let read = body.take(length as u64).read_to_end(frame.buffer());
        let read = read.map_err(|error| self.classify(api, self.request_timeout, "read an answer", &error))?;
        if read < length {
            let eof = io::Error::from(io::ErrorKind::UnexpectedEof);
            return Err(self.classify(api, timeout, "read an answer", &eof));
        }
        Ok(frame.freeze())
    }

    fn check_length(&self, api: &'static str, prefix: [u8; 4]) -> Result<usize, Error> {
        if !self.is_broker
            && let Some(found) = foreign_protocol(prefix)
        {
            return Err(self.not_kafka(found.into()));
        }
        let length = i32::from_be_bytes(prefix);
        match usize::try_from(length) {
            Ok(length) if length >= 4 && length <= self.response_bytes_max => Ok(length),
            _ if !self.is_broker => Err(self.not_kafka(format!("it answers with the bytes {prefix:02x?}"))),
            _ => {
                let limit = self.response_bytes_max;
                Err(self.malformed(api, format!("its length is {length} bytes, where 4 to {limit} are accepted")))
            }
        }
    }

    /// Gives a failed read or write its meaning.
    fn classify(&self, api: &'static str, after: Duration, during: &'static str, error: &io::Error) -> Error {
        use io::ErrorKind::*;
        let address = self.address.clone();
        // In TLS 1.3 a broker refuses our certificate after the handshake.
        if let Some(what) = self.tls.as_ref().and_then(|tls| tls.explain(error)) {
            return Error::Security { address, what };
        }
        match error.kind() {
            WouldBlock | TimedOut => Error::Timeout { address, api, after },
            // A broker that is just stopping does this too, so it is no proof that nothing better will come.
            kind @ (UnexpectedEof | ConnectionReset | BrokenPipe) if !self.is_broker => Error::Io {
                address,
                during: "wait for the first answer",
                kind,
                text: "the server closed the connection, as TLS and SASL ports and servers that are no Kafka do".into(),
            },
            // A broker that does so each time at the same request cannot read it; else it is stopping.
            kind @ (UnexpectedEof | ConnectionReset) => {
                Error::Io { address, during, kind, text: format!("the broker closed the connection at {api}") }
            }
            _ => io_error(&self.address, during, error),
        }
    }

    pub(super) fn malformed(&self, api: &'static str, what: impl ToString) -> Error {
        // The decoder ends some of its sentences with the line.
        Error::Malformed { address: self.address.clone(), api, what: what.to_string().trim_end().to_owned() }
    }

    /// As [`malformed`](Self::malformed), of a server that may be no Kafka at all.
    pub(super) fn misanswered(&self, api: &'static str, what: String) -> Error {
        if self.is_broker { self.malformed(api, what) } else { self.not_kafka(what) }
    }

    pub(super) fn not_kafka(&self, found: String) -> Error {
        Error::NotKafka { address: self.address.clone(), found }
    }
}
