//! One connection to one broker: TCP, with TLS over it and SASL on it where [`ConnectionOptions::security`] says so.
//!
//! Opening it asks for the broker's API versions (ApiVersions, API key 18, KIP-35 and KIP-511); after that every call is
//! sent in the highest version that both sides and our table (in `versions.rs`) speak. Calls may be pipelined: [`send`] any
//! number, then [`receive`] in the same order; the broker answers in order, and the correlation id is checked. Where a
//! broker bounds the time that an authentication holds, it is renewed between two calls.
//!
//! A connection that failed is poisoned: after an I/O error, a timeout or a malformed answer nobody knows what the next
//! bytes mean, so every later call returns that first error again, and whoever owns the connection opens another.
//!
//! Callers: [`cluster`](super::cluster) (metadata, offsets), the fetchers (one each), the group's keeper, the producer.
//! A call is a frame there and a frame back (`frames.rs`), each a header and a body as in "Kafka protocol guide".
//!
//! [`send`]: Connection::send
//! [`receive`]: Connection::receive

mod frames;
#[cfg(test)]
#[allow(clippy::disallowed_methods)]
mod tests;

use std::net::{Shutdown, TcpStream};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_protocol::messages::{ApiVersionsRequest, RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};
use log::debug;

use self::frames::FramedSocket;
pub use self::frames::{Frame, FrameSource, FreshFrames};
use super::authentication::authenticate;
use super::error::{Code, Error};
use super::security::Security;
use super::socket::io_error;
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
    options: ConnectionOptions,
    socket: FramedSocket,
    offered: Vec<VersionRange>,
    last_correlation_id: i32,
    /// Requests that are sent and not answered yet.
    in_flight: usize,
    /// When the broker wants to know again who we are.
    renew_at: Option<Instant>,
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

impl Connection {
    /// Connects to `address` (`host:port`), trying every IP address that the name has, secures the connection, negotiates
    /// versions and authenticates.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the address has no port; [`Error::NotKafka`] when something else answers there;
    /// [`Error::Security`] when TLS or SASL fails; [`Error::Io`] and [`Error::Timeout`].
    pub fn open(address: &str, options: &ConnectionOptions) -> Result<Connection, Error> {
        let mut connection = Connection {
            options: options.clone(),
            socket: FramedSocket::open(address, options)?,
            offered: Vec::new(),
            last_correlation_id: 0,
            in_flight: 0,
            renew_at: None,
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
        self.socket.address()
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
            address: self.address().into(),
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
            api.answer.check(version, &body).map_err(|what| self.socket.malformed(api.name, what))?;
            R::Response::decode(&mut body, version).map_err(|error| self.socket.malformed(api.name, error))
        });
        received.map_err(|error| self.poison(error))
    }

    /// Something to close this connection with from another thread.
    ///
    /// # Errors
    /// [`Error::Io`] when the process has no file descriptor left.
    pub fn closer(&self) -> Result<Closer, Error> {
        let stream = self.socket.tcp().try_clone();
        let stream = stream.map_err(|error| io_error(self.address(), "duplicate the socket", &error))?;
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
                None => return Err(self.socket.not_kafka("its first answer is not an ApiVersions response".into())),
            };
            match code {
                Code::NONE => {
                    self.offered = offered;
                    self.socket.is_broker = true;
                    return Ok(());
                }
                Code::UNSUPPORTED_VERSION if version > 0 => version = 0,
                code => return Err(broker_refused(self.address(), code)),
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
            debug!("{}: authenticated for {} s", self.address(), lifetime.as_secs_f64());
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
        let api = Api::of::<R>().name;
        let header = RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_correlation_id(correlation_id)
            .with_client_id(Some(StrBytes::from_string(self.options.client_id.clone())));
        self.socket.build(api, |frame| {
            header.encode(frame, R::header_version(version)).map_err(|error| error.to_string())?;
            request.encode(frame, version).map_err(|error| error.to_string())
        })?;
        self.socket.send(api).map_err(|error| self.poison(error))?;
        self.in_flight += 1;
        Ok(InFlight { correlation_id, version })
    }

    /// The next frame without its header, if it answers `in_flight`.
    fn receive_body<R: Request>(
        &mut self,
        in_flight: &InFlight,
        frames: &mut dyn FrameSource,
        timeout: Duration,
    ) -> Result<Bytes, Error> {
        let api = Api::of::<R>().name;
        let mut body = self.socket.receive(api, frames, timeout)?;
        let header = ResponseHeader::decode(&mut body, R::Response::header_version(in_flight.version))
            .map_err(|error| self.socket.malformed(api, error))?;
        if header.correlation_id != in_flight.correlation_id {
            let what = format!("it answers request {}, not {}", header.correlation_id, in_flight.correlation_id);
            return Err(self.socket.misanswered(api, what));
        }
        self.in_flight = self.in_flight.saturating_sub(1);
        Ok(body)
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
