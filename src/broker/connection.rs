//! One connection: frames in, answers out, in order.
//!
//! A frame is a length of 4 bytes and so many bytes: request header (API key, version, correlation id, client id) and
//! body. What is no Kafka, too long, unknown or undecodable ends the connection with a log line.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{ApiKey, RequestHeader, RequestKind, ResponseHeader, ResponseKind};
use kafka_protocol::protocol::{Decodable, Encodable};

use super::faults::{Action, Hit};
use super::handlers::{self, Answer, Context, Refusal, supported};
use super::{Shared, shape};

/// Kafka's default for `socket.request.max.bytes`.
const REQUEST_BYTES_MAX: usize = 100 * 1024 * 1024;
/// What is set aside for a request before its bytes are there; more comes as they come.
const REQUEST_BYTES_AT_FIRST: usize = 64 * 1024;
/// An answer buffer that has grown beyond this is not kept for the next answer.
const ANSWER_BYTES_KEPT: usize = 4 * 1024 * 1024;
/// API key, version and correlation id.
const HEADER_BYTES_MIN: usize = 8;

/// Why a connection ends early.
#[derive(Debug, thiserror::Error)]
pub enum Hangup {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("a frame of {0} bytes; this is no Kafka client or its request is too large")]
    FrameLength(i32),
    #[error("a request of {0} bytes has no header")]
    NoHeader(usize),
    #[error("API key {0} is unknown")]
    UnknownApi(i16),
    #[error("{api:?} version {version} is not supported")]
    UnknownVersion { api: ApiKey, version: i16 },
    #[error("{api:?} version {version} cannot be {what}: {why}")]
    Codec { api: ApiKey, version: i16, what: &'static str, why: String },
    #[error("{0}")]
    Refused(String),
    #[error("scripted fault {0:?}")]
    Fault(Action),
}

/// Serves a connection until the client leaves, misbehaves, is hit by a fault, or the broker stops.
pub fn serve(shared: &Shared, socket: &TcpStream, peer: SocketAddr) {
    let mut connection = Connection { shared, socket, peer: peer.ip().to_string(), out: BytesMut::new() };
    match connection.run() {
        Ok(()) => ::log::debug!("embedded broker: {peer} left"),
        Err(_) if shared.stop.is_raised() => {}
        Err(end @ (Hangup::Io(_) | Hangup::Fault(_))) => ::log::debug!("embedded broker: {peer}: {end}"),
        Err(end) => ::log::warn!("embedded broker: connection of {peer} closed: {end}"),
    }
}

struct Connection<'a> {
    shared: &'a Shared,
    socket: &'a TcpStream,
    peer: String,
    out: BytesMut,
}

/// A request, decoded.
struct Request {
    api: ApiKey,
    version: i16,
    correlation_id: i32,
    client_id: String,
    body: RequestKind,
}

impl Connection<'_> {
    fn run(&mut self) -> Result<(), Hangup> {
        self.socket.set_nodelay(true)?;
        while let Some(frame) = read_frame(&mut self.socket)? {
            if let Some(request) = self.decode(frame)? {
                self.serve_request(request)?;
            }
        }
        Ok(())
    }

    /// `None` when the answer is given already: ApiVersions in a version from the future (KIP-511).
    fn decode(&mut self, frame: Bytes) -> Result<Option<Request>, Hangup> {
        if frame.len() < HEADER_BYTES_MIN {
            return Err(Hangup::NoHeader(frame.len()));
        }
        let mut peek = &frame[..];
        let (key, version, correlation_id) = (peek.get_i16(), peek.get_i16(), peek.get_i32());
        let api = ApiKey::try_from(key).map_err(|()| Hangup::UnknownApi(key))?;
        if !supported(api, version) {
            if api != ApiKey::ApiVersions {
                return Err(Hangup::UnknownVersion { api, version });
            }
            let answer = handlers::unsupported_api_versions();
            self.encode(api, 0, correlation_id, &answer)?;
            self.send(None)?;
            return Ok(None);
        }
        self.shared.traffic.count_request(api, frame.len());
        let undecodable = |why: String| Hangup::Codec { api, version, what: "decoded", why };
        let mut rest = frame;
        let header = RequestHeader::decode(&mut rest, api.request_header_version(version))
            .map_err(|error| undecodable(format!("{error:#}")))?;
        shape::check(api, version, &rest).map_err(|misfit| undecodable(misfit.to_string()))?;
        let body = RequestKind::decode(api, &mut rest, version).map_err(|error| undecodable(format!("{error:#}")))?;
        let client_id = header.client_id.map(|id| id.to_string()).unwrap_or_default();
        Ok(Some(Request { api, version, correlation_id, client_id, body }))
    }

    fn serve_request(&mut self, request: Request) -> Result<(), Hangup> {
        let hit = self.shared.faults.take(request.api, &request.body);
        let action = hit.map(|hit| hit.action);
        match action {
            Some(Action::Close) => return Err(Hangup::Fault(Action::Close)),
            Some(Action::Silence) => return self.swallow(),
            Some(delay @ Action::Delay(duration)) if self.shared.stop.comes_within(duration) => {
                return Err(Hangup::Fault(delay));
            }
            _ => {}
        }
        let (api, version, correlation_id) = (request.api, request.version, request.correlation_id);
        match self.answer(request, hit) {
            Answer::Response(response) => {
                self.encode(api, version, correlation_id, &response)?;
                self.send(action)
            }
            Answer::Nothing => match action {
                Some(end @ (Action::CloseAfter | Action::CloseHalfWay)) => Err(Hangup::Fault(end)),
                _ => Ok(()),
            },
            Answer::Hangup(why) => Err(Hangup::Refused(why)),
        }
    }

    fn answer(&self, request: Request, hit: Option<Hit>) -> Answer {
        let refusal = hit.and_then(|hit| match hit.action {
            Action::Error(code) => Some(Refusal { code, partition: hit.partition }),
            _ => None,
        });
        let context = Context {
            shared: self.shared,
            version: request.version,
            client_id: &request.client_id,
            client_host: &self.peer,
            refusal,
        };
        handlers::answer(&context, request.body)
    }

    /// Puts the whole frame of an answer into the buffer.
    fn encode(&mut self, api: ApiKey, version: i16, correlation_id: i32, body: &ResponseKind) -> Result<(), Hangup> {
        if self.out.capacity() > ANSWER_BYTES_KEPT {
            self.out = BytesMut::new();
        }
        self.out.clear();
        self.out.put_i32(0);
        let header = ResponseHeader::default().with_correlation_id(correlation_id);
        header
            .encode(&mut self.out, api.response_header_version(version))
            .and_then(|()| body.encode(&mut self.out, version))
            .map_err(|error| Hangup::Codec { api, version, what: "answered", why: format!("{error:#}") })?;
        set_frame_length(&mut self.out);
        self.shared.traffic.count_answer(api, self.out.len());
        Ok(())
    }

    /// Sends the frame in the buffer, after a scripted fault has had its way with it.
    fn send(&mut self, action: Option<Action>) -> Result<(), Hangup> {
        let content_bytes = self.out.len() - 4;
        match action {
            Some(end @ Action::CloseAfter) => return Err(Hangup::Fault(end)),
            Some(end @ Action::CloseHalfWay) => {
                self.socket.write_all(&self.out[..self.out.len() / 2])?;
                return Err(Hangup::Fault(end));
            }
            Some(Action::TruncateFrame) => {
                self.out.truncate(4 + content_bytes / 2);
                set_frame_length(&mut self.out);
            }
            // Not the correlation id: the answer must be taken for one.
            Some(Action::Corrupt) => self.out[8.max(4 + content_bytes / 2).min(3 + content_bytes)] ^= 0x55,
            Some(Action::Noise(seed)) => {
                self.out.truncate(8);
                self.out.extend(noise(seed));
                set_frame_length(&mut self.out);
            }
            _ => {}
        }
        self.socket.write_all(&self.out)?;
        Ok(())
    }

    /// Reads on and says nothing, until the client has had enough.
    fn swallow(&mut self) -> Result<(), Hangup> {
        io::copy(&mut self.socket, &mut io::sink())?;
        Err(Hangup::Fault(Action::Silence))
    }
}

/// Up to 255 bytes, always the same for a seed.
fn noise(seed: u64) -> impl Iterator<Item = u8> {
    let mut state = seed;
    let mut bytes = std::iter::repeat_with(move || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 56) as u8
    });
    let length = bytes.next().map_or(0, usize::from);
    bytes.take(length)
}

fn set_frame_length(frame: &mut BytesMut) {
    let length = (frame.len() - 4) as u32;
    frame[..4].copy_from_slice(&length.to_be_bytes());
}

/// The next frame's content; `None` when the client closed the connection between two frames.
fn read_frame(socket: &mut impl Read) -> Result<Option<Bytes>, Hangup> {
    let mut prefix = [0; 4];
    if socket.read(&mut prefix[..1])? == 0 {
        return Ok(None);
    }
    socket.read_exact(&mut prefix[1..])?;
    let announced = i32::from_be_bytes(prefix);
    let length = usize::try_from(announced).ok().filter(|length| *length <= REQUEST_BYTES_MAX);
    let length = length.ok_or(Hangup::FrameLength(announced))?;
    let mut frame = Vec::with_capacity(length.min(REQUEST_BYTES_AT_FIRST));
    socket.take(length as u64).read_to_end(&mut frame)?;
    match frame.len() == length {
        true => Ok(Some(frame.into())),
        false => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_read_one_by_one() {
        let mut stream =
            &[&3u32.to_be_bytes()[..], b"abc", &0u32.to_be_bytes(), &1u32.to_be_bytes(), b"d"].concat()[..];
        let mut frames = Vec::new();
        while let Some(frame) = read_frame(&mut stream).unwrap() {
            frames.push(frame);
        }
        assert_eq!(frames, [&b"abc"[..], b"", b"d"]);
    }

    #[test]
    fn hostile_lengths_and_cut_frames_are_refused() {
        for length in [-1, i32::MIN, REQUEST_BYTES_MAX as i32 + 1, i32::MAX, i32::from_be_bytes(*b"GET ")] {
            let read = read_frame(&mut &length.to_be_bytes()[..]);
            assert!(matches!(read, Err(Hangup::FrameLength(refused)) if refused == length), "{length}: {read:?}");
        }
        let whole = [&5u32.to_be_bytes()[..], b"abcde"].concat();
        for cut in 1..whole.len() {
            assert!(matches!(read_frame(&mut &whole[..cut]), Err(Hangup::Io(_))), "cut at {cut}");
        }
    }
}
