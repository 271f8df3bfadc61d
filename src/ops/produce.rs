//! Lines into records into a topic: what `konekt produce` does, without a terminal.

use std::io::{self, BufRead};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::kafka::error::Error;
use crate::kafka::producer::{NewRecord, Producer};
use crate::sink::json::{ReadRecord, read_record};
use crate::source::files::documents::{DOCUMENT_BYTES_MAX, read_line};

/// How lines become records.
#[derive(Clone, Debug)]
pub struct LineOptions {
    pub topic: Arc<str>,
    /// For every record, whatever its line says.
    pub partition: Option<i32>,
    /// Added behind the headers that a line has.
    pub headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    pub format: LineFormat,
}

/// What a line holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LineFormat {
    /// The value, after the key where a separator stands in the line.
    Text {
        key_separator: Option<Vec<u8>>,
        /// An empty key or value is null.
        empty_is_null: bool,
    },
    /// A record as in [`crate::sink::json`].
    Json,
}

/// Why reading ended before the input did.
#[derive(Debug, thiserror::Error)]
pub enum ProduceError {
    #[error("line {line} cannot be read: {source}")]
    Input { line: u64, source: io::Error },
    /// Nothing further can be sent.
    #[error("line {line} and what follows it is not sent: {source}")]
    Kafka { line: u64, source: Error },
}

/// Sends each line until the input ends or `stop` is raised. A record's tag is the number of its line, from 1 on. A line
/// that is no record, or one that cannot be sent while others can, is told to `refuse` and passed over.
///
/// # Errors
/// The input or the producer as a whole has failed.
pub fn produce_lines(
    mut input: impl BufRead,
    producer: &Producer,
    options: &LineOptions,
    stop: &AtomicBool,
    mut refuse: impl FnMut(u64, String),
) -> Result<(), ProduceError> {
    let mut line = Vec::new();
    for number in 1.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        line.clear();
        match read_line(&mut input, &mut line) {
            Ok(true) => {}
            Ok(false) => break,
            Err(source) => return Err(ProduceError::Input { line: number, source }),
        }
        if line.len() as u64 >= DOCUMENT_BYTES_MAX {
            refuse(number, "it is longer than any record can be".to_owned());
            continue;
        }
        match parse(&line, &options.format) {
            Ok(None) => {}
            Err(fault) => refuse(number, fault),
            Ok(Some(record)) => match send(producer, options, &record, number) {
                Ok(()) => {}
                Err(Error::Invalid(fault)) => refuse(number, fault),
                Err(source) => return Err(ProduceError::Kafka { line: number, source }),
            },
        }
    }
    Ok(())
}

/// The record of a line; `None` for an empty line between JSON records.
fn parse(line: &[u8], format: &LineFormat) -> Result<Option<ReadRecord>, String> {
    match format {
        LineFormat::Json if line.trim_ascii().is_empty() => Ok(None),
        LineFormat::Json => read_record(line).map(Some),
        LineFormat::Text { key_separator, empty_is_null } => {
            let part = |bytes: &[u8]| (!bytes.is_empty() || !empty_is_null).then(|| bytes.to_vec());
            let split = key_separator.as_deref().and_then(|separator| {
                let at = line.windows(separator.len()).position(|window| window == separator)?;
                Some((&line[..at], &line[at + separator.len()..]))
            });
            let (key, value) = match split {
                Some((key, value)) => (part(key), part(value)),
                None => (None, part(line)),
            };
            Ok(Some(ReadRecord { key, value, ..ReadRecord::default() }))
        }
    }
}

fn send(producer: &Producer, options: &LineOptions, record: &ReadRecord, number: u64) -> Result<(), Error> {
    let headers = record.headers.iter().chain(&options.headers);
    let headers: Vec<(&[u8], Option<&[u8]>)> =
        headers.map(|(name, value)| (name.as_slice(), value.as_deref())).collect();
    let record = NewRecord {
        partition: options.partition.or(record.partition),
        key: record.key.as_deref(),
        value: record.value.as_deref(),
        headers: &headers,
        timestamp_ms: record.timestamp_ms,
        tag: number,
    };
    producer.send(&options.topic, &record)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(key_separator: Option<&str>, empty_is_null: bool) -> LineFormat {
        LineFormat::Text { key_separator: key_separator.map(|text| text.as_bytes().to_vec()), empty_is_null }
    }

    #[test]
    fn a_line_is_a_value_or_a_key_and_a_value() {
        type Case<'a> = (&'a [u8], LineFormat, Option<&'a [u8]>, Option<&'a [u8]>);
        let cases: [Case<'_>; 8] = [
            (b"a:b:c", text(None, false), None, Some(b"a:b:c")),
            (b"a:b:c", text(Some(":"), false), Some(b"a"), Some(b"b:c")),
            (b"a::c", text(Some("::"), false), Some(b"a"), Some(b"c")),
            (b"no separator", text(Some("::"), false), None, Some(b"no separator")),
            (b"\xff:\r", text(Some(":"), false), Some(b"\xff"), Some(b"\r")),
            (b":", text(Some(":"), false), Some(b""), Some(b"")),
            (b"a:", text(Some(":"), true), Some(b"a"), None),
            (b"", text(None, true), None, None),
        ];
        for (line, format, key, value) in cases {
            let record = parse(line, &format).unwrap().unwrap();
            assert_eq!((record.key.as_deref(), record.value.as_deref()), (key, value), "{line:?} as {format:?}");
        }
        assert_eq!(parse(b" \r", &LineFormat::Json), Ok(None));
        assert!(parse(b"{", &LineFormat::Json).is_err());
    }

    #[test]
    fn lines_end_at_newlines_and_with_the_input() {
        let mut input: &[u8] = b"one\n\ntwo";
        let mut line = Vec::new();
        let mut lines = Vec::new();
        while read_line(&mut input, &mut line).unwrap() {
            lines.push(std::mem::take(&mut line));
        }
        assert_eq!(lines, [&b"one"[..], b"", b"two"]);
    }
}
