//! Records on an output, normally standard output: a line of text for people, or a line of JSON for programs.
//!
//! Text is `topic[partition]@offset key: value`, with `(null)` for an absent key or value. Whatever the data holds, a
//! record is one line and cannot steer a terminal: control characters, line separators and the marks that reverse the
//! direction of text are written as `\n`, `\r`, `\t` or `\u{…}`, and bytes that are not UTF-8 as `\xNN`. Text is not
//! meant to be read back; JSON is ([`json`]).
//!
//! A reader that goes away (`konekt consume | head`) is no failure but the end: [`PrintSink::new`] is given what to do
//! then, once. What could not be written is answered with an error, so nothing is committed that nobody saw.

use std::io::{self, Write as _};
use std::sync::Arc;

use parking_lot::Mutex;

use super::{json, keeps_no_position};
use crate::core::record::{MessageBatch, Record, TopicPartition};
use crate::core::verdict::ErrorClass;
use crate::port::{Claim, Claimed, Sink, SinkError, SinkTraits, Write, Writer, Written};

/// What a line looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Text,
    /// For programs: [`json`].
    Json,
}

/// Prints records; clones of its writers take turns, batch by batch.
pub struct PrintSink {
    format: Format,
    output: Arc<Mutex<Output>>,
}

struct Output {
    stream: Box<dyn io::Write + Send>,
    /// Called when the reader has gone; taken by the first call.
    on_closed: Option<Box<dyn FnOnce() + Send>>,
    /// The rest of a line that was cut off by a failed write; it goes first when writing works again.
    torn: Vec<u8>,
}

impl PrintSink {
    /// Prints to `stream`. `on_closed` is called at most once, on a worker's thread, when the stream's reader has gone;
    /// it should end the run, and must not wait for that.
    pub fn new(format: Format, stream: Box<dyn io::Write + Send>, on_closed: Box<dyn FnOnce() + Send>) -> Self {
        let output = Output { stream, on_closed: Some(on_closed), torn: Vec::new() };
        Self { format, output: Arc::new(Mutex::new(output)) }
    }
}

impl Sink for PrintSink {
    fn traits(&self) -> SinkTraits {
        SinkTraits { name: "print".to_owned(), writers_max: usize::MAX, batches_per_write: 1, transactional: false }
    }

    fn writer(&self) -> Result<Box<dyn Writer>, SinkError> {
        Ok(Box::new(PrintWriter { format: self.format, output: Arc::clone(&self.output), lines: Vec::new() }))
    }
}

struct PrintWriter {
    format: Format,
    output: Arc<Mutex<Output>>,
    lines: Vec<u8>,
}

impl Writer for PrintWriter {
    fn claim(&mut self, _claims: &[Claim]) -> Result<Vec<Claimed>, SinkError> {
        Err(keeps_no_position("print"))
    }

    fn write(&mut self, writes: &[Write<'_>]) -> Vec<Result<Written, SinkError>> {
        writes.iter().map(|write| self.print(&write.batch)).collect()
    }
}

impl PrintWriter {
    /// Lines are made without the lock and written with it, so batches do not mix.
    fn print(&mut self, batch: &MessageBatch<'_>) -> Result<Written, SinkError> {
        /// What one huge batch leaves behind for the next.
        const KEPT_BYTES_MAX: usize = 4 << 20;
        self.lines.clear();
        self.lines.shrink_to(KEPT_BYTES_MAX);
        match self.format {
            Format::Text => batch.iter().for_each(|record| put_text(&mut self.lines, batch.partition(), &record)),
            Format::Json => json::put_batch(&mut self.lines, batch),
        }
        self.output.lock().write(&self.lines)?;
        Ok(Written::all(batch.len() as u64))
    }
}

impl Output {
    fn write(&mut self, lines: &[u8]) -> Result<(), SinkError> {
        let torn = std::mem::take(&mut self.torn);
        self.write_lines(&torn, true)?;
        self.write_lines(lines, false)?;
        self.stream.flush().map_err(|error| self.failed(&error))
    }

    /// Writes all, or remembers the rest of the line at which it ended: the batch will come again, on a new line.
    /// `within_line`: the output stands within a line already.
    fn write_lines(&mut self, lines: &[u8], within_line: bool) -> Result<(), SinkError> {
        let mut written = 0;
        while written < lines.len() {
            match self.stream.write(&lines[written..]) {
                Ok(0) => return Err(self.tear(lines, written, within_line, &io::ErrorKind::WriteZero.into())),
                Ok(count) => written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.tear(lines, written, within_line, &error)),
            }
        }
        Ok(())
    }

    fn tear(&mut self, lines: &[u8], written: usize, within_line: bool, error: &io::Error) -> SinkError {
        let torn = if written == 0 { within_line } else { lines[written - 1] != b'\n' };
        if torn {
            let rest = &lines[written..];
            let line_end = rest.iter().position(|byte| *byte == b'\n').map_or(rest.len(), |at| at + 1);
            self.torn = rest[..line_end].to_vec();
        }
        self.failed(error)
    }

    fn failed(&mut self, error: &io::Error) -> SinkError {
        let (class, what) = match error.kind() {
            // Transient, so that no record is blamed for it; the run ends by `on_closed`.
            io::ErrorKind::BrokenPipe => {
                if let Some(on_closed) = self.on_closed.take() {
                    on_closed();
                }
                (ErrorClass::Transient, "its reader has gone")
            }
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                (ErrorClass::Overload, "make room; it is tried again")
            }
            _ => (ErrorClass::Transient, "it is tried again"),
        };
        SinkError::new(class, format!("print: cannot write the output: {error}; {what}"))
    }
}

/// Appends `topic[partition]@offset key: value` as one line.
fn put_text(into: &mut Vec<u8>, partition: &TopicPartition, record: &Record<'_>) {
    // Writing to a Vec cannot fail.
    let _ = write!(into, "{}[{}]@{} ", partition.topic, partition.partition, record.offset);
    put_escaped(into, record.key);
    into.extend_from_slice(b": ");
    put_escaped(into, record.value);
    into.push(b'\n');
}

fn put_escaped(into: &mut Vec<u8>, bytes: Option<&[u8]>) {
    let Some(bytes) = bytes else { return into.extend_from_slice(b"(null)") };
    for chunk in bytes.utf8_chunks() {
        put_safe(into, chunk.valid());
        for byte in chunk.invalid() {
            let _ = write!(into, "\\x{byte:02x}");
        }
    }
}

/// Copies text in runs, each up to the next character that needs an escape.
fn put_safe(into: &mut Vec<u8>, text: &str) {
    let mut rest = text;
    while let Some((at, unsafe_char)) = rest.char_indices().find(|(_, character)| steers_output(*character)) {
        into.extend_from_slice(&rest.as_bytes()[..at]);
        let _ = write!(into, "{}", unsafe_char.escape_default());
        rest = &rest[at + unsafe_char.len_utf8()..];
    }
    into.extend_from_slice(rest.as_bytes());
}

/// Control characters, line and paragraph separators, and the marks that embed, override or isolate a direction.
fn steers_output(character: char) -> bool {
    character.is_control() || matches!(character, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::record::{Extent, Headers, RecordBuffer, Span};
    use bytes::Bytes;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn a_record_is_one_safe_line() {
        type Case<'a> = (Option<&'a [u8]>, Option<&'a [u8]>, &'a str);
        let cases: &[Case<'_>] = &[
            (Some(b"k"), Some("v\u{e9}\u{1f600} \\\"".as_bytes()), "k: v\u{e9}\u{1f600} \\\""),
            (None, None, "(null): (null)"),
            (Some(b""), Some(b""), ": "),
            (Some(b"a\nb\r\t"), Some(b"\x1b[2J\0\x7f"), "a\\nb\\r\\t: \\u{1b}[2J\\u{0}\\u{7f}"),
            (Some(b"\xff\xc3"), Some(b"ok\xfeok"), "\\xff\\xc3: ok\\xfeok"),
            (None, Some("\u{85}\u{2028}\u{202e}\u{2066}".as_bytes()), "(null): \\u{85}\\u{2028}\\u{202e}\\u{2066}"),
        ];
        for (key, value, expected) in cases {
            let record = Record { offset: 41, timestamp_ms: 0, key: *key, value: *value, headers: Headers::default() };
            let mut line = Vec::new();
            put_text(&mut line, &TopicPartition::new("orders", 3), &record);
            assert_eq!(String::from_utf8(line).unwrap(), format!("orders[3]@41 {expected}\n"));
        }
    }

    /// Takes `room` bytes, then answers with the errors, one each call, and takes everything after that.
    struct Faulty {
        taken: Arc<Mutex<Vec<u8>>>,
        room: usize,
        errors: Vec<io::ErrorKind>,
    }

    impl io::Write for Faulty {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.room == 0 {
                if let Some(kind) = self.errors.pop() {
                    return Err(kind.into());
                }
                self.room = usize::MAX;
            }
            let count = bytes.len().min(self.room);
            self.room -= count;
            self.taken.lock().extend_from_slice(&bytes[..count]);
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn two_records() -> RecordBuffer {
        let mut records = RecordBuffer::default();
        records.push_buffer(Bytes::new());
        for offset in 0..2 {
            records.push(Span {
                offset,
                timestamp_ms: 0,
                key: Extent::ABSENT,
                value: Extent::ABSENT,
                headers: Extent::ABSENT,
                header_count: 0,
            });
        }
        records
    }

    fn printed(room: usize, errors: &[io::ErrorKind], attempts: usize) -> (String, Vec<Option<ErrorClass>>, usize) {
        let taken = Arc::new(Mutex::new(Vec::new()));
        let closed = Arc::new(AtomicUsize::new(0));
        let faulty = Faulty { taken: Arc::clone(&taken), room, errors: errors.to_vec() };
        let count = Arc::clone(&closed);
        let on_closed = Box::new(move || {
            count.fetch_add(1, Ordering::Relaxed);
        });
        let sink = PrintSink::new(Format::Text, Box::new(faulty), on_closed);
        let mut writer = sink.writer().unwrap();
        let (partition, records) = (TopicPartition::new("t", 0), two_records());
        let answers = (0..attempts).map(|_| {
            let batch = MessageBatch::new(&partition, &records, 0..2);
            let ids = crate::RecordIds::new("g", &partition);
            writer.write(&[Write { batch, ids, position: None, aside: None }]).remove(0).err().map(|error| error.class)
        });
        let answers = answers.collect();
        let text = String::from_utf8(taken.lock().clone()).unwrap();
        (text, answers, closed.load(Ordering::Relaxed))
    }

    const FIRST: &str = "t[0]@0 (null): (null)\n";
    const BOTH: &str = "t[0]@0 (null): (null)\nt[0]@1 (null): (null)\n";

    #[test]
    fn a_line_that_was_cut_off_is_completed_before_the_batch_comes_again() {
        let full = io::ErrorKind::StorageFull;
        for room in 0..BOTH.len() {
            let expected = match room {
                0 => BOTH.to_owned(),
                room if room <= FIRST.len() => format!("{FIRST}{BOTH}"),
                _ => format!("{BOTH}{BOTH}"),
            };
            let overload = Some(ErrorClass::Overload);
            let (text, answers, closed) = printed(room, &[full, full], 3);
            assert_eq!(text, expected, "after {room} bytes");
            assert_eq!((&answers[..], closed), (&[overload, overload, None][..], 0), "after {room} bytes");
        }
    }

    #[test]
    fn a_reader_that_has_gone_ends_the_run_once() {
        let gone = io::ErrorKind::BrokenPipe;
        let (text, answers, closed) = printed(FIRST.len(), &[gone; 4], 3);
        assert_eq!(text, FIRST);
        assert_eq!(answers, [Some(ErrorClass::Transient); 3]);
        assert_eq!(closed, 1);
    }
}
