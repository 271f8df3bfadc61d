//! One connection to one broker: TCP, with TLS over it and SASL on it where [`ConnectionOptions::security`] says so.
//!
//! Opening it asks for the broker's API versions (ApiVersions, API key 18, KIP-35 and KIP-511); after that every call is
//! sent in the highest version that both sides and our table (in `versions.rs`) speak. Calls may be pipelined: [`send`] any
//! number, then [`receive`] in the same order; the broker answers in order, and the correlation id is checked. Where a broker bounds the time that
//! an authentication holds, it is renewed between two calls.
//!
//! A connection that failed is poisoned: after an I/O error, a timeout or a malformed answer nobody knows what the next
//! bytes mean, so every later call returns that first error again, and whoever owns the connection opens another.
//!
//! Callers: [`cluster`](super::cluster) (metadata, offsets), the fetchers (one each), the group's keeper, the producer.
//! Frames are as in "Kafka protocol guide": a 4-byte length, the header, the body.
//!
//! [`send`]: Connection::send
//! [`receive`]: Connection::receive

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{ApiVersionsRequest, RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};
use log::debug;

use super::authentication::authenticate;
use super::error::{Code, Error};
use super::security::Security;
use super::socket::{Socket, foreign_protocol, io_error};
use super::versions::{Api, VersionRange, decode_api_versions, highest_common};
use crate::door;

/// When to renew an authentication, in percent of the session: before its end by more than an exchange takes, and not
/// by all connections at once. The Java client's numbers.
const RENEW_AT_PERCENT: Range<u64> = 85..95;

/// How to connect and how long to wait.
#[derive(Clone, Debug)]
pub struct ConnectionOptions {
    /// Sent with every request; appears in the broker's logs, quotas and metrics.
    pub client_id: String,
    /// For the TCP connection to each address of a name, and again for the first answer.
    pub connect_timeout: Duration,
    /// For a request to be answered.
    pub request_timeout: Duration,
    /// The longest answer that is believed; a longer one poisons the connection.
    pub response_bytes_max: usize,
    /// TLS and SASL.
    pub security: Security,
}

impl Default for ConnectionOptions {
    fn default() -> Self {
        Self {
            client_id: "konekt".into(),
            connect_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(30),
            response_bytes_max: 256 << 20,
            security: Security::default(),
        }
    }
}

/// An open connection whose versions are negotiated.
pub struct Connection {
    address: String,
    options: ConnectionOptions,
    socket: Socket,
    offered: Vec<VersionRange>,
    last_correlation_id: i32,
    /// Requests that are sent and not answered yet.
    in_flight: usize,
    /// When the broker wants to know again who we are.
    renew_at: Option<Instant>,
    /// The request being built; kept for its memory.
    outgoing: BytesMut,
    failed: Option<Error>,
    closed: Arc<AtomicBool>,
}

/// A request that was sent and not answered yet.
#[derive(Debug)]
#[must_use = "the answer is on its way and must be received, in the order of sending"]
pub struct InFlight {
    correlation_id: i32,
    version: i16,
}

impl InFlight {
    /// The version the request was sent in, which its answer has too.
    pub fn version(&self) -> i16 {
        self.version
    }
}

/// Closes a connection from another thread, so that a call that waits on it returns [`Error::Closed`].
pub struct Closer {
    stream: TcpStream,
    closed: Arc<AtomicBool>,
}

impl Closer {
    /// Closes the connection. Closing twice, or a connection that is gone, does nothing.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Release);
        // An error here means that the socket is not connected any more, which is what we want.
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

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

impl Connection {
    /// Connects to `address` (`host:port`), trying every IP address that the name has, secures the connection, negotiates
    /// versions and authenticates.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the address has no port; [`Error::NotKafka`] when something else answers there;
    /// [`Error::Security`] when TLS or SASL fails; [`Error::Io`] and [`Error::Timeout`].
    pub fn open(address: &str, options: &ConnectionOptions) -> Result<Connection, Error> {
        let tls = options.security.tls().map(Arc::as_ref);
        let socket = Socket::open(address, tls, options.connect_timeout, options.request_timeout)?;
        let mut connection = Connection {
            address: address.into(),
            options: options.clone(),
            socket,
            offered: Vec::new(),
            last_correlation_id: 0,
            in_flight: 0,
            renew_at: None,
            outgoing: BytesMut::new(),
            failed: None,
            closed: Arc::default(),
        };
        connection.negotiate()?;
        connection.authenticate()?;
        debug!("{address}: connected by {}", options.security.protocol());
        Ok(connection)
    }

    /// The address it was opened with.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// How it is protected.
    pub fn security(&self) -> &Security {
        &self.options.security
    }

    /// The highest version of an API that the broker, our message types and our table have in common.
    ///
    /// # Errors
    /// [`Error::Unsupported`] when there is none.
    pub fn version<R: Request>(&self) -> Result<i16, Error> {
        let api = Api::of::<R>();
        let offered = self.offered.iter().find(|offered| offered.key == R::KEY);
        offered.and_then(|offered| highest_common(api, offered)).ok_or_else(|| Error::Unsupported {
            address: self.address.clone(),
            api: api.name,
            wanted: (api.lowest, api.highest),
            offered: offered.map(|offered| (offered.lowest, offered.highest)),
        })
    }

    /// Whether the broker speaks this version of an API, be it that we do not.
    pub fn offers<R: Request>(&self, version: i16) -> bool {
        let offers = |range: &VersionRange| range.key == R::KEY && (range.lowest..=range.highest).contains(&version);
        self.offered.iter().any(offers)
    }

    /// Whether both sides speak this version of an API.
    pub fn supports<R: Request>(&self, version: i16) -> bool {
        let api = Api::of::<R>();
        (api.lowest..=api.highest).contains(&version) && self.offers::<R>(version)
    }

    /// Sends a request and waits up to `request_timeout` for its answer.
    ///
    /// # Errors
    /// Anything but [`Error::Broker`]: error codes inside the answer are the caller's to read.
    pub fn call<R: Request>(&mut self, request: &R) -> Result<R::Response, Error> {
        self.call_within(request, self.options.request_timeout)
    }

    /// As [`call`](Self::call), with another limit: for requests that the broker holds on purpose.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub fn call_within<R: Request>(&mut self, request: &R, timeout: Duration) -> Result<R::Response, Error> {
        let in_flight = self.send(request)?;
        self.receive::<R>(in_flight, &mut FreshFrames, timeout)
    }

    /// Sends a request in the version of [`version`](Self::version).
    ///
    /// # Errors
    /// [`Error::Unsupported`] and [`Error::Unsendable`] leave the connection usable; others poison it.
    pub fn send<R: Request>(&mut self, request: &R) -> Result<InFlight, Error> {
        self.check_usable()?;
        let version = self.version::<R>()?;
        // Between answers that others wait for there is no room; whoever never pauses is closed by the broker in the end.
        if self.in_flight == 0 && self.renew_at.is_some_and(|at| at <= door::now()) {
            self.authenticate().map_err(|error| self.poison(error))?;
        }
        self.send_as(request, version)
    }

    /// Waits up to `timeout` for the answer to the oldest request in flight. The answer's byte fields are slices of
    /// the frame, which comes from `frames`.
    ///
    /// # Errors
    /// Every error poisons the connection.
    pub fn receive<R: Request>(
        &mut self,
        in_flight: InFlight,
        frames: &mut dyn FrameSource,
        timeout: Duration,
    ) -> Result<R::Response, Error> {
        self.check_usable()?;
        let api = Api::of::<R>();
        let version = in_flight.version;
        let received = self.receive_body::<R>(&in_flight, frames, timeout).and_then(|mut body| {
            api.answer.check(version, &body).map_err(|what| self.malformed(api.name, what))?;
            R::Response::decode(&mut body, version).map_err(|error| self.malformed(api.name, error))
        });
        received.map_err(|error| self.poison(error))
    }

    /// Something to close this connection with from another thread.
    ///
    /// # Errors
    /// [`Error::Io`] when the process has no file descriptor left.
    pub fn closer(&self) -> Result<Closer, Error> {
        let stream = self.socket.tcp().try_clone();
        let stream = stream.map_err(|error| io_error(&self.address, "duplicate the socket", &error))?;
        Ok(Closer { stream, closed: self.closed.clone() })
    }

    /// ApiVersions v3, and v0 for a broker that answers v3 with error 35 (in v0's format, so that this works).
    fn negotiate(&mut self) -> Result<(), Error> {
        let request = ApiVersionsRequest::default()
            .with_client_software_name(StrBytes::from_static_str("konekt"))
            .with_client_software_version(StrBytes::from_static_str(env!("CARGO_PKG_VERSION")));
        let mut version = 3;
        loop {
            let in_flight = self.send_as(&request, version)?;
            let timeout = self.options.connect_timeout;
            let body = self.receive_body::<ApiVersionsRequest>(&in_flight, &mut FreshFrames, timeout);
            let (code, offered) = match decode_api_versions(&body?, version) {
                Some(answer) => answer,
                None => return Err(self.not_kafka("its first answer is not an ApiVersions response".into())),
            };
            match code {
                Code::NONE => {
                    self.offered = offered;
                    return Ok(());
                }
                Code::UNSUPPORTED_VERSION if version > 0 => version = 0,
                code => return Err(broker_refused(&self.address, code)),
            }
        }
    }

    /// Says who we are, if that is wanted, and notes when to say it again.
    fn authenticate(&mut self) -> Result<(), Error> {
        let Some(sasl) = self.options.security.sasl().cloned() else { return Ok(()) };
        self.renew_at = None;
        if let Some(lifetime) = authenticate(self, &sasl)? {
            let percent = RENEW_AT_PERCENT.start + door::random() % (RENEW_AT_PERCENT.end - RENEW_AT_PERCENT.start);
            self.renew_at = Some(door::now() + lifetime.mul_f64(percent as f64 / 100.0));
            debug!("{}: authenticated for {} s", self.address, lifetime.as_secs_f64());
        }
        Ok(())
    }

    fn check_usable(&self) -> Result<(), Error> {
        self.failed.clone().map_or(Ok(()), Err)
    }

    /// Keeps the first error for all later calls. Whatever failed after [`Closer::close`] failed because of it.
    fn poison(&mut self, error: Error) -> Error {
        let error = if self.closed.load(Ordering::Acquire) { Error::Closed } else { error };
        self.failed.get_or_insert(error).clone()
    }

    fn send_as<R: Request>(&mut self, request: &R, version: i16) -> Result<InFlight, Error> {
        self.last_correlation_id = self.last_correlation_id.wrapping_add(1) & i32::MAX;
        let correlation_id = self.last_correlation_id;
        self.encode(request, version).map_err(|what| Error::Unsendable {
            address: self.address.clone(),
            api: Api::of::<R>().name,
            what,
        })?;
        let written = self.socket.write_all(&self.outgoing).and_then(|()| self.socket.flush());
        written.map_err(|error| {
            let error = self.classify(Api::of::<R>().name, self.options.request_timeout, "send a request", &error);
            self.poison(error)
        })?;
        self.in_flight += 1;
        Ok(InFlight { correlation_id, version })
    }

    fn encode<R: Request>(&mut self, request: &R, version: i16) -> Result<(), String> {
        let header = RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_correlation_id(self.last_correlation_id)
            .with_client_id(Some(StrBytes::from_string(self.options.client_id.clone())));
        self.outgoing.clear();
        self.outgoing.extend_from_slice(&[0; 4]);
        header.encode(&mut self.outgoing, R::header_version(version)).map_err(|error| error.to_string())?;
        request.encode(&mut self.outgoing, version).map_err(|error| error.to_string())?;
        let length = i32::try_from(self.outgoing.len() - 4).map_err(|_| "it is longer than 2 GiB".to_string())?;
        self.outgoing[..4].copy_from_slice(&length.to_be_bytes());
        Ok(())
    }

    /// The next frame without its header, if it answers `in_flight`.
    fn receive_body<R: Request>(
        &mut self,
        in_flight: &InFlight,
        frames: &mut dyn FrameSource,
        timeout: Duration,
    ) -> Result<Bytes, Error> {
        let api = Api::of::<R>().name;
        let mut body = self.receive_frame(api, frames, timeout)?;
        let header = ResponseHeader::decode(&mut body, R::Response::header_version(in_flight.version))
            .map_err(|error| self.malformed(api, error))?;
        if header.correlation_id != in_flight.correlation_id {
            let what = format!("it answers request {}, not {}", header.correlation_id, in_flight.correlation_id);
            return Err(if self.offered.is_empty() { self.not_kafka(what) } else { self.malformed(api, what) });
        }
        self.in_flight = self.in_flight.saturating_sub(1);
        Ok(body)
    }

    fn receive_frame(
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
        let body = self.socket.within(self.options.request_timeout);
        let read = body.take(length as u64).read_to_end(frame.buffer());
        let read = read.map_err(|error| self.classify(api, self.options.request_timeout, "read an answer", &error))?;
        if read < length {
            let eof = io::Error::from(io::ErrorKind::UnexpectedEof);
            return Err(self.classify(api, timeout, "read an answer", &eof));
        }
        Ok(frame.freeze())
    }

    fn check_length(&self, api: &'static str, prefix: [u8; 4]) -> Result<usize, Error> {
        let first_answer = self.offered.is_empty();
        if first_answer && let Some(found) = foreign_protocol(prefix) {
            return Err(self.not_kafka(found.into()));
        }
        let length = i32::from_be_bytes(prefix);
        match usize::try_from(length) {
            Ok(length) if length >= 4 && length <= self.options.response_bytes_max => Ok(length),
            _ if first_answer => Err(self.not_kafka(format!("it answers with the bytes {prefix:02x?}"))),
            _ => {
                let limit = self.options.response_bytes_max;
                Err(self.malformed(api, format!("its length is {length} bytes, where 4 to {limit} are accepted")))
            }
        }
    }

    /// Gives a failed read or write its meaning.
    fn classify(&self, api: &'static str, after: Duration, during: &'static str, error: &io::Error) -> Error {
        use io::ErrorKind::*;
        let address = self.address.clone();
        // In TLS 1.3 a broker refuses our certificate after the handshake.
        if let Some(what) = self.options.security.tls().and_then(|tls| tls.explain(error)) {
            return Error::Security { address, what };
        }
        match error.kind() {
            WouldBlock | TimedOut => Error::Timeout { address, api, after },
            // A broker that is just stopping does this too, so it is no proof that nothing better will come.
            kind @ (UnexpectedEof | ConnectionReset | BrokenPipe) if self.offered.is_empty() => Error::Io {
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

    fn malformed(&self, api: &'static str, what: impl ToString) -> Error {
        // The decoder ends some of its sentences with the line.
        Error::Malformed { address: self.address.clone(), api, what: what.to_string().trim_end().to_owned() }
    }

    fn not_kafka(&self, found: String) -> Error {
        Error::NotKafka { address: self.address.clone(), found }
    }
}

fn broker_refused(address: &str, code: Code) -> Error {
    Error::Broker {
        address: address.into(),
        api: "ApiVersions",
        subject: "this connection".into(),
        code,
        message: None,
    }
}

/// A [`Closer`] holds the socket too; without this it would stay open until that is dropped as well.
impl Drop for Connection {
    fn drop(&mut self) {
        // An error here means that the socket is not connected any more, which is what we want.
        let _ = self.socket.tcp().shutdown(Shutdown::Both);
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)]
mod tests {
    use super::*;
    use bytes::Buf;
    use kafka_protocol::messages::{HeartbeatRequest, HeartbeatResponse, MetadataRequest, ShareFetchRequest};
    use std::net::TcpListener;
    use std::sync::mpsc;
    use std::thread;

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
            assert!(
                matches!(error, Error::Invalid(_)) && error.to_string().contains("host:port"),
                "{address}: {error}"
            );
        }
        let dead = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let error = Connection::open(&dead, &quick()).err().expect("nobody listens");
        assert!(matches!(&error, Error::Io { kind: io::ErrorKind::ConnectionRefused, .. }), "{error:?}");
        assert!(error.is_unavailable() && error.is_retriable());
    }
}
