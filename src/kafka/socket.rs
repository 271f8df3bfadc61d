//! Plain TCP: connecting to a name with several addresses, reading against a deadline, and telling from the first bytes
//! that a server is no Kafka.

use std::io::{self, Read};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use super::error::Error;
use crate::door;

pub(super) fn io_error(address: &str, during: &'static str, error: &io::Error) -> Error {
    Error::Io { address: address.into(), during, kind: error.kind(), text: error.to_string() }
}

pub(super) fn connect(address: &str, timeout: Duration) -> Result<TcpStream, Error> {
    let port =
        address.rsplit_once(':').and_then(|(host, port)| (!host.is_empty()).then(|| port.parse::<u16>().ok())?);
    if port.is_none_or(|port| port == 0) {
        return Err(Error::Invalid(format!("{address:?} is not an address: write host:port, such as localhost:9092")));
    }
    let resolved: Vec<SocketAddr> =
        address.to_socket_addrs().map_err(|error| io_error(address, "resolve the name", &error))?.collect();
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for socket_address in resolved {
        match TcpStream::connect_timeout(&socket_address, timeout.max(SHORTEST_TIMEOUT)) {
            Ok(stream) => return Ok(stream),
            Err(error) => failure = error,
        }
    }
    Err(io_error(address, "connect", &failure))
}

/// Socket timeouts of zero are refused by the operating system's interface.
pub(super) const SHORTEST_TIMEOUT: Duration = Duration::from_millis(1);

/// Reads until a deadline, however slowly the bytes drip in.
pub(super) struct TimedReader<'a> {
    stream: &'a TcpStream,
    deadline: Instant,
}

impl<'a> TimedReader<'a> {
    pub(super) fn new(stream: &'a TcpStream, timeout: Duration) -> Self {
        Self { stream, deadline: door::now() + timeout }
    }
}

impl Read for TimedReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.deadline.saturating_duration_since(door::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.stream.set_read_timeout(Some(left.max(SHORTEST_TIMEOUT)))?;
        self.stream.read(buffer)
    }
}

/// Which other server begins its answer with these bytes.
pub(super) fn foreign_protocol(prefix: [u8; 4]) -> Option<&'static str> {
    match &prefix {
        b"HTTP" | b"<htm" | b"<!DO" => Some("an HTTP server answers"),
        [0x15, 0x03, _, _] => Some("a TLS server answers"),
        b"SSH-" => Some("an SSH server answers"),
        b"220 " | b"220-" => Some("an SMTP or FTP server answers"),
        b"-ERR" => Some("a Redis server answers"),
        b"AMQP" => Some("an AMQP server answers"),
        b"RFB " => Some("a VNC server answers"),
        // An ErrorResponse to what it took for a start-up packet: its length follows, below 64 KiB.
        [b'E', 0, 0, _] => Some("a PostgreSQL server answers"),
        // A greeting: a three-byte little-endian length, then packet number 0.
        [0x20..=0x7f, 0, 0, 0] => Some("a MySQL or MariaDB server answers"),
        _ => None,
    }
}
