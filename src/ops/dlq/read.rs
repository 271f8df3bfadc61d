//! Reading dead letters from where they are, one after the other.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::Entry;
use crate::core::record::{OwnedRecord, RecordBuffer, TopicPartition};
use crate::door;
use crate::port::{Chunk, Source, SourceEvent};
use crate::sink::json;
use crate::sink::row::FailedRows;
use crate::source::native::{NativeOptions, NativeSource, TopicSelection};

/// What is done with each letter.
pub type Take<'a> = dyn FnMut(Entry) -> Result<(), String> + 'a;

/// Where dead letters are.
pub enum Place<'a> {
    /// A JSON-lines file.
    File(&'a Path),
    /// A topic, and how its cluster is reached.
    Topic { options: Box<NativeOptions>, topic: String, partitions: i32 },
    /// The FAILED rows of a table.
    Table(&'a mut dyn FailedRows),
}

/// How long a topic may have nothing to say before its end is reached.
const SILENCE: Duration = Duration::from_secs(30);

impl Place<'_> {
    /// Hands over every letter that is there now.
    ///
    /// # Errors
    /// When the place cannot be read, or `take` fails.
    pub fn read(self, take: &mut Take<'_>) -> Result<(), String> {
        match self {
            Place::File(path) => read_file(path, take),
            Place::Topic { options, topic, partitions } => read_topic(*options, &topic, partitions, take),
            Place::Table(rows) => {
                for id in rows.ids().map_err(|error| error.to_string())? {
                    if let Some(row) = rows.row(&id).map_err(|error| error.to_string())? {
                        take(Entry::of_row(row))?;
                    }
                }
                Ok(())
            }
        }
    }
}

/// A line that is no letter, such as one that a crash tore, is passed over and said.
fn read_file(path: &Path, take: &mut Take<'_>) -> Result<(), String> {
    let cannot = |error| format!("cannot read {}: {error}", path.display());
    let mut file = BufReader::new(File::open(path).map_err(cannot)?);
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        if file.read_until(b'\n', &mut line).map_err(cannot)? == 0 {
            return Ok(());
        }
        match json::read_record(&line).and_then(json::ReadRecord::in_place) {
            Ok(letter) => take(Entry::of_letter(letter))?,
            Err(error) => log::warn!("{} line {number} is no dead letter: {error}", path.display()),
        }
    }
    Ok(())
}

/// Reads each partition from its start to the end it has now; outside any group, so nothing is committed.
fn read_topic(options: NativeOptions, topic: &str, partitions: i32, take: &mut Take<'_>) -> Result<(), String> {
    let names: Vec<TopicPartition> = (0..partitions).map(|index| TopicPartition::new(topic, index)).collect();
    let options = NativeOptions { topics: TopicSelection::Partitions(names), ..options };
    let mut source = NativeSource::connect(options).map_err(|error| error.to_string())?;
    let result = drain(&mut source, partitions as usize, take);
    // Nothing is to be committed; what it could not say any more is of no use here.
    let _ = source.close(Vec::new(), Duration::from_secs(5));
    result
}

fn drain(source: &mut NativeSource, partitions: usize, take: &mut Take<'_>) -> Result<(), String> {
    let (mut ends, mut through) = (BTreeMap::new(), 0);
    let mut events = Vec::new();
    let mut patience = door::now() + SILENCE;
    while through < partitions {
        source.poll(Duration::from_millis(100), &mut events);
        for event in events.drain(..) {
            patience = door::now() + SILENCE;
            match event {
                SourceEvent::Assigned(assignments) => {
                    for assignment in assignments {
                        source.start(&assignment.partition, 1, assignment.log_start);
                        through += usize::from(assignment.log_start >= assignment.log_end);
                        ends.insert(assignment.partition, assignment.log_end);
                    }
                }
                SourceEvent::Fetched(chunk) => {
                    let end = ends.get(&chunk.partition).copied().unwrap_or(0);
                    hand_over(&chunk, end, take)?;
                    through += usize::from(chunk.first < end && chunk.next >= end);
                }
                SourceEvent::PartitionFailed { error, .. } | SourceEvent::Failed(error) => return Err(error.message),
                SourceEvent::Trouble(error) => log::warn!("{error}"),
                _ => {}
            }
        }
        if door::now() > patience {
            return Err(format!("nothing was heard of the topic for {} s", SILENCE.as_secs()));
        }
    }
    Ok(())
}

fn hand_over(chunk: &Chunk, end: i64, take: &mut Take<'_>) -> Result<(), String> {
    let mut records = RecordBuffer::default();
    let mut decoder = Arc::clone(&chunk.records).decoder(chunk.first);
    decoder.decode_rest(&mut records).map_err(|error| error.to_string())?;
    for record in (0..records.len()).map(|index| records.get(index)).filter(|record| record.offset < end) {
        take(Entry::of_letter(OwnedRecord::copy(&chunk.partition, &record)))?;
    }
    Ok(())
}
