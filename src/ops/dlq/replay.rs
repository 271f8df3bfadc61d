//! Trying dead letters again.
//!
//! - *Into the database* ([`into_sink`], [`Body::Row`]): the row is written as it would have been, with the id that its
//!   record has by its group, topic, partition and offset. A row that is there already stays as it is, so this may be
//!   repeated and broken off at any moment: exactly once.
//! - *Back to its topic* ([`Resender`]), for handlers and commands: the record as it was, with its own headers and one more
//!   that counts the replays ([`REPLAYS`]). It gets a new offset, so this is at least once: what was sent is noted in a
//!   progress file, and a run that was broken off goes on from there; records that were sent but not yet noted then,
//!   [`BATCH`] of them at most, are sent again. A letter that was replayed too often is refused, so that none goes
//!   round for ever.
//!
//! The letters stay where they are. Their order is kept per partition among themselves, not with what was written since.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Body, Entry};
use crate::core::identity::RecordIds;
use crate::core::record::{MessageBatch, OwnedRecord, TopicPartition};
use crate::core::verdict::ErrorClass;
use crate::kafka::producer::{NewRecord, Producer};
use crate::port::{SinkError, Write, Writer};
use crate::sink::dead_letter::{Header, REPLAYS, append, restored};
use crate::sink::row::FailedRows;

/// Letters that are sent before their progress is noted.
pub const BATCH: usize = 100;
/// How long their acknowledgement may take.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(120);

/// What became of the letters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Written, or sent.
    pub replayed: u64,
    /// In the database already, or sent by an earlier run.
    pub done_before: u64,
    /// Refused again, and why.
    pub refused: Vec<(String, String)>,
}

impl Outcome {
    fn refuse(&mut self, entry: &Entry, why: impl Into<String>) {
        self.refused.push((entry.place(), why.into()));
    }
}

/// Writes a letter's record as a row. A record that is refused again is counted; every other failure ends the replay.
///
/// # Errors
/// The database's failure.
pub fn into_sink(writer: &mut dyn Writer, entry: &Entry, outcome: &mut Outcome) -> Result<(), SinkError> {
    let Body::Letter(letter) = &entry.body else { return Ok(()) };
    if entry.group.is_empty() {
        outcome.refuse(entry, "it does not say which consumer group it belongs to: it is no letter of Konekt");
        return Ok(());
    }
    let record = original(entry, letter);
    let records = record.buffer();
    let write = Write {
        batch: MessageBatch::new(&record.partition, &records, 0..1),
        ids: RecordIds::new(&entry.group, &record.partition),
        position: None,
        aside: None,
    };
    match writer.write(&[write]).pop() {
        Some(Ok(written)) if written.repeated > 0 => outcome.done_before += 1,
        Some(Ok(_)) => outcome.replayed += 1,
        Some(Err(error)) if error.class == ErrorClass::Data => outcome.refuse(entry, error.message),
        Some(Err(error)) => return Err(error),
        None => outcome.refuse(entry, "the sink gave no answer"),
    }
    Ok(())
}

/// Makes a good row of a FAILED one.
///
/// # Errors
/// The database's failure, other than that the table refuses it again.
pub fn in_place(rows: &mut dyn FailedRows, entry: &Entry, outcome: &mut Outcome) -> Result<(), SinkError> {
    let Body::Row(row) = &entry.body else { return Ok(()) };
    match rows.retry(row) {
        Ok(true) => outcome.replayed += 1,
        Ok(false) => outcome.done_before += 1,
        Err(error) if error.class == ErrorClass::Data => outcome.refuse(entry, error.message),
        Err(error) => return Err(error),
    }
    Ok(())
}

/// The record as it was, at its own place.
fn original(entry: &Entry, letter: &OwnedRecord) -> OwnedRecord {
    let own = restored(&letter.header_views()).len();
    OwnedRecord {
        partition: TopicPartition::new(entry.topic.as_str(), entry.partition),
        offset: entry.offset,
        headers: letter.headers[..own].to_vec(),
        ..letter.clone()
    }
}

/// Sends letters' records back to their topics.
pub struct Resender {
    producer: Producer,
    replays_max: u64,
    progress: Progress,
    /// Sent and not yet acknowledged.
    pending: Vec<String>,
}

impl Resender {
    /// Sends with `producer`, and notes in the file at `progress` what was sent. Letters that were replayed `replays_max`
    /// times are refused.
    ///
    /// # Errors
    /// When the progress file cannot be read.
    pub fn new(producer: Producer, replays_max: u64, progress: &Path) -> Result<Self, String> {
        Ok(Self { producer, replays_max, progress: Progress::open(progress)?, pending: Vec::new() })
    }

    /// Sends one.
    ///
    /// # Errors
    /// When Kafka does not take it, or progress cannot be noted.
    pub fn send(&mut self, entry: &Entry, outcome: &mut Outcome) -> Result<(), String> {
        let Body::Letter(letter) = &entry.body else { return Ok(()) };
        let name = format!("{} {}", entry.place(), entry.at);
        if self.progress.done.contains(&name) {
            outcome.done_before += 1;
            return Ok(());
        }
        if entry.replays >= self.replays_max {
            outcome.refuse(entry, format!("it was replayed {} times already (--replays-max)", entry.replays));
            return Ok(());
        }
        let record = original(entry, letter);
        let count = (entry.replays + 1).to_string();
        let views = record.header_views();
        let mut headers: Vec<Header<'_>> = views.into_iter().filter(|(name, _)| *name != REPLAYS.as_bytes()).collect();
        headers.push((REPLAYS.as_bytes(), Some(count.as_bytes())));
        let again = NewRecord {
            partition: Some(record.partition.partition),
            key: record.key.as_deref(),
            value: record.value.as_deref(),
            headers: &headers,
            timestamp_ms: record.time_ms(),
            ..NewRecord::default()
        };
        let sent = self.producer.send(&record.partition.topic, &again);
        sent.map_err(|error| format!("{}: {error}", entry.place()))?;
        self.pending.push(name);
        outcome.replayed += 1;
        if self.pending.len() >= BATCH { self.settle() } else { Ok(()) }
    }

    /// Waits until everything is acknowledged, and notes that.
    ///
    /// # Errors
    /// When Kafka does not take it, or progress cannot be noted.
    pub fn settle(&mut self) -> Result<(), String> {
        if self.pending.is_empty() {
            return Ok(());
        }
        self.producer.flush(FLUSH_TIMEOUT).map_err(|error| error.to_string())?;
        self.progress.note(std::mem::take(&mut self.pending))
    }
}

/// Which letters were sent: one a line, by the record's place and the letter's time.
struct Progress {
    path: PathBuf,
    done: HashSet<String>,
}

impl Progress {
    fn open(path: &Path) -> Result<Self, String> {
        let text = match std::fs::read_to_string(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            text => text.map_err(|error| format!("cannot read {}: {error}", path.display()))?,
        };
        Ok(Self { path: path.to_owned(), done: text.lines().map(str::to_owned).collect() })
    }

    fn note(&mut self, names: Vec<String>) -> Result<(), String> {
        let lines: String = names.iter().map(|name| format!("{name}\n")).collect();
        append(&self.path, lines.as_bytes())
            .map_err(|error| format!("cannot write {}: {error}", self.path.display()))?;
        self.done.extend(names);
        Ok(())
    }
}
