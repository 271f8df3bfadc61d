//! What a connection's bytes go through: TCP to a name with several addresses, TLS over it if wanted, reading against a
//! deadline; and telling from the first bytes that a server is no Kafka.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use super::error::Error;
use super::tls::{Tls, TlsStream};
use crate::door;

pub(super) fn io_error(address: &str, during: &'static str, error: &io::Error) -> Error {
    Error::Io { address: address.into(), during, kind: error.kind(), text: error.to_string() }
}

fn connect(address: &str, timeout: Duration) -> Result<TcpStream, Error> {
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
const SHORTEST_TIMEOUT: Duration = Duration::from_millis(1);

/// The bytes of a connection, encrypted or not.
pub(super) enum Socket {
    Plain(TimedStream),
    Tls(Box<TlsStream>),
}

impl Socket {
    /// Connects, and secures the stream if `tls` is given.
    pub(super) fn open(
        address: &str,
        tls: Option<&Tls>,
        connect_timeout: Duration,
        write_timeout: Duration,
    ) -> Result<Self, Error> {
        let tcp = connect(address, connect_timeout)?;
        let prepared =
            tcp.set_nodelay(true).and_then(|()| tcp.set_write_timeout(Some(write_timeout.max(SHORTEST_TIMEOUT))));
        prepared.map_err(|error| io_error(address, "set up the socket", &error))?;
        let stream = TimedStream { tcp, deadline: door::now() + connect_timeout };
        let Some(tls) = tls else { return Ok(Socket::Plain(stream)) };
        let secured = tls.handshake(address, stream).map_err(|error| match (tls.explain(&error), error.kind()) {
            (Some(what), _) => Error::Security { address: address.into(), what },
            (None, io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                Error::Timeout { address: address.into(), api: "the TLS handshake", after: connect_timeout }
            }
            (None, _) => io_error(address, "begin TLS", &error),
        });
        Ok(Socket::Tls(Box::new(secured?)))
    }

    /// Reads from now on until this time is over, however slowly the bytes drip in.
    pub(super) fn within(&mut self, timeout: Duration) -> &mut Self {
        self.wire_mut().deadline = door::now() + timeout;
        self
    }

    pub(super) fn tcp(&self) -> &TcpStream {
        match self {
            Socket::Plain(stream) => &stream.tcp,
            Socket::Tls(stream) => &stream.wire().tcp,
        }
    }

    fn wire_mut(&mut self) -> &mut TimedStream {
        match self {
            Socket::Plain(stream) => stream,
            Socket::Tls(stream) => stream.wire_mut(),
        }
    }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Socket::Plain(stream) => stream.read(buffer),
            Socket::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Socket::Plain(stream) => stream.write(bytes),
            Socket::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Socket::Plain(stream) => stream.flush(),
            Socket::Tls(stream) => stream.flush(),
        }
    }
}

/// A TCP stream that is read until a deadline.
pub(super) struct TimedStream {
    tcp: TcpStream,
    deadline: Instant,
}

impl Read for TimedStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.deadline.saturating_duration_since(door::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.tcp.set_read_timeout(Some(left.max(SHORTEST_TIMEOUT)))?;
        self.tcp.read(buffer)
    }
}

impl Write for TimedStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.tcp.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.tcp.flush()
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
