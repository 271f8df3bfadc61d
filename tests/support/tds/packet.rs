//! Messages of TDS, cut into packets of a negotiated size (MS-TDS 2.2.3).

use std::io::{self, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use bytes::{Buf, BufMut};

const HEADER_SIZE: usize = 8;
/// What applies until a login has agreed on another size.
pub const PACKET_SIZE: u32 = 4096;
const END_OF_MESSAGE: u8 = 0x01;
const IGNORE_MESSAGE: u8 = 0x02;
const RESPONSE: u8 = 4;

/// A whole message from the client.
pub struct Message {
    pub kind: u8,
    pub body: Vec<u8>,
}

/// One connection.
pub struct Link {
    reader: BufReader<TcpStream>,
    packet_size: usize,
}

impl Link {
    pub fn new(socket: TcpStream) -> Self {
        Self { reader: BufReader::new(socket), packet_size: PACKET_SIZE as usize }
    }

    /// What the login agreed on.
    pub fn set_packet_size(&mut self, bytes: u32) {
        self.packet_size = bytes as usize;
    }

    /// The next message; `None` once the client has closed the connection.
    pub fn receive(&mut self) -> io::Result<Option<Message>> {
        let mut body = Vec::new();
        loop {
            let mut header = [0; HEADER_SIZE];
            match self.reader.read_exact(&mut header) {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof && body.is_empty() => return Ok(None),
                other => other?,
            }
            let (kind, status) = (header[0], header[1]);
            let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
            let content =
                length.checked_sub(HEADER_SIZE).ok_or_else(|| malformed("a packet shorter than its header"))?;
            let start = body.len();
            body.resize(start + content, 0);
            self.reader.read_exact(&mut body[start..])?;
            if status & IGNORE_MESSAGE != 0 {
                body.clear();
            } else if status & END_OF_MESSAGE != 0 {
                return Ok(Some(Message { kind, body }));
            }
        }
    }

    /// Sends an answer.
    pub fn send(&mut self, body: &[u8]) -> io::Result<()> {
        let packets = self.packets(body);
        self.reader.get_mut().write_all(&packets)
    }

    /// Sends the first half of an answer, as a connection does that is cut underway.
    pub fn send_half(&mut self, body: &[u8]) -> io::Result<()> {
        let packets = self.packets(body);
        self.reader.get_mut().write_all(&packets[..packets.len() / 2])
    }

    fn packets(&self, body: &[u8]) -> Vec<u8> {
        let room = self.packet_size - HEADER_SIZE;
        let count = body.len().div_ceil(room).max(1);
        let mut packets = Vec::with_capacity(body.len() + count * HEADER_SIZE);
        for number in 0..count {
            let content = &body[number * room..body.len().min((number + 1) * room)];
            packets.put_u8(RESPONSE);
            packets.put_u8(if number + 1 == count { END_OF_MESSAGE } else { 0 });
            packets.put_u16((content.len() + HEADER_SIZE) as u16);
            packets.put_u16(0);
            packets.put_u8((number + 1) as u8);
            packets.put_u8(0);
            packets.put_slice(content);
        }
        packets
    }

    /// Lets this time pass; `false` when the client spoke or left meanwhile: a server looks up from its work then.
    pub fn is_quiet_for(&mut self, time: Duration) -> io::Result<bool> {
        if !self.reader.buffer().is_empty() {
            return Ok(false);
        }
        let socket = self.reader.get_ref();
        socket.set_read_timeout(Some(time))?;
        let heard = socket.peek(&mut [0]);
        socket.set_read_timeout(None)?;
        match heard {
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => Ok(true),
            other => other.map(|_| false),
        }
    }

    /// Hears everything and answers nothing, until the client leaves.
    pub fn ignore(&mut self) -> io::Result<()> {
        io::copy(&mut self.reader, &mut io::sink()).map(drop)
    }
}

/// The socket is known elsewhere too, so that it can be cut: letting go of it here would not close it.
impl Drop for Link {
    fn drop(&mut self) {
        // an error says that the connection is gone already
        let _ = self.reader.get_ref().shutdown(Shutdown::Both);
    }
}

/// The error of bytes that are no TDS.
pub fn malformed(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

/// The next `size` bytes.
pub fn take<'a>(body: &mut &'a [u8], size: usize) -> io::Result<&'a [u8]> {
    let (taken, rest) = body.split_at_checked(size).ok_or_else(|| malformed(format!("{size} bytes are missing")))?;
    *body = rest;
    Ok(taken)
}

/// The next `length` UTF-16 units.
pub fn take_units(body: &mut &[u8], length: usize) -> io::Result<Vec<u16>> {
    Ok(units(take(body, length * 2)?))
}

/// The next `length` UTF-16 units as text.
pub fn take_text(body: &mut &[u8], length: usize) -> io::Result<String> {
    Ok(String::from_utf16_lossy(&take_units(body, length)?))
}

pub fn units(bytes: &[u8]) -> Vec<u16> {
    bytes.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect()
}

/// Skips what stands before every request since TDS 7.2: ALL_HEADERS, which counts its own length.
pub fn skip_headers(body: &mut &[u8]) -> io::Result<()> {
    let size = body.try_get_u32_le()? as usize;
    take(body, size.saturating_sub(4)).map(drop)
}

/// Text with its length in units before it, in one byte.
pub fn put_short_text(into: &mut Vec<u8>, text: &str) {
    let units: Vec<u16> = text.encode_utf16().take(255).collect();
    into.put_u8(units.len() as u8);
    put_units(into, &units);
}

/// Text with its length in units before it, in two bytes.
pub fn put_text(into: &mut Vec<u8>, text: &str) {
    let units: Vec<u16> = text.encode_utf16().collect();
    into.put_u16_le(units.len() as u16);
    put_units(into, &units);
}

pub fn put_units(into: &mut Vec<u8>, units: &[u16]) {
    units.iter().for_each(|unit| into.put_u16_le(*unit));
}
