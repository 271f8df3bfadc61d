//! A topic as it is now, read once from its start to its end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::core::record::{OwnedRecord, RecordBuffer, TopicPartition};
use crate::door;
use crate::port::{Chunk, Source, SourceEvent};
use crate::source::native::{NativeOptions, NativeSource, TopicSelection};

/// Takes one record after the other.
pub type Take<'a> = dyn FnMut(OwnedRecord) -> Result<(), String> + 'a;

/// How long a topic may have nothing to say before its end is reached.
const SILENCE: Duration = Duration::from_secs(30);

/// Reads each partition from its start to the end it has now; outside any group, so nothing is committed.
///
/// # Errors
/// When a partition cannot be read, or nothing is heard of it for half a minute; and the first of `take`.
pub fn read_topic(options: NativeOptions, topic: &str, partitions: i32, take: &mut Take<'_>) -> Result<(), String> {
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
        take(OwnedRecord::copy(&chunk.partition, &record))?;
    }
    Ok(())
}
