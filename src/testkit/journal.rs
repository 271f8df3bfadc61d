//! What happened, as the world around the engine saw it.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::core::record::TopicPartition;

/// One thing that happened. `process` is who did it or whom it happened to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Entry {
    /// The process was told that the partition is its own.
    Assigned { process: u32, partition: TopicPartition },
    /// It was asked to give the partition back.
    Revoked { process: u32, partition: TopicPartition },
    /// It gave the partition back.
    Released { process: u32, partition: TopicPartition },
    /// It was told that the partition is gone.
    Lost { process: u32, partition: TopicPartition },
    /// It claimed the position row.
    Claimed { process: u32, partition: TopicPartition, owner_epoch: i64 },
    /// A write of it reached the sink.
    Tried { process: u32, partition: TopicPartition },
    /// The sink committed: rows, records kept as failed, and the position behind them, where it keeps one.
    Committed { process: u32, partition: TopicPartition, rows: Vec<i64>, failed: Vec<i64>, position: Option<i64> },
    /// A write was refused: the position is another owner's, or elsewhere.
    Fenced { process: u32, partition: TopicPartition },
    /// A record became a letter.
    Letter { process: u32, partition: TopicPartition, offset: i64 },
    /// Kafka took the group's offset.
    Told { process: u32, partition: TopicPartition, position: i64 },
    /// The position row says now that a person paused the partition, or resumed it.
    PauseNoted { partition: TopicPartition, paused: bool },
}

/// The entries nobody has read yet, in order. Clones share them.
#[derive(Clone, Default)]
pub struct Journal(Arc<Mutex<Vec<Entry>>>);

impl Journal {
    /// Writes one down.
    pub fn note(&self, entry: Entry) {
        self.0.lock().push(entry);
    }

    /// Takes out what was written since the last time.
    pub fn read(&self) -> Vec<Entry> {
        std::mem::take(&mut *self.0.lock())
    }
}
