//! A source whose offsets are not committed: for a dry run, which leaves no trace in the group.

use std::time::Duration;

use crate::core::record::TopicPartition;
use crate::port::{Source, SourceError, SourceEvent, Waker};

/// See the module. Commits are answered as if they had been made.
pub struct Uncommitted {
    source: Box<dyn Source>,
    asked: Vec<Vec<(TopicPartition, i64)>>,
}

impl Uncommitted {
    /// Keeps commits from `source`.
    pub fn new(source: Box<dyn Source>) -> Self {
        Self { source, asked: Vec::new() }
    }
}

impl Source for Uncommitted {
    fn poll(&mut self, wait: Duration, events: &mut Vec<SourceEvent>) {
        let wait = if self.asked.is_empty() { wait } else { Duration::ZERO };
        self.source.poll(wait, events);
        let answered = |positions| SourceEvent::Committed { positions, result: Ok(()) };
        events.extend(self.asked.drain(..).map(answered));
    }

    fn start(&mut self, partition: &TopicPartition, run: u64, offset: i64) {
        self.source.start(partition, run, offset);
    }

    fn stop(&mut self, partitions: &[TopicPartition]) {
        self.source.stop(partitions);
    }

    fn commit(&mut self, positions: Vec<(TopicPartition, i64)>) {
        self.asked.push(positions);
    }

    fn survey(&mut self) {
        self.source.survey();
    }

    fn release(&mut self, partitions: Vec<TopicPartition>, _positions: Vec<(TopicPartition, i64)>) {
        self.source.release(partitions, Vec::new());
    }

    fn close(&mut self, _positions: Vec<(TopicPartition, i64)>, deadline: Duration) -> Result<(), SourceError> {
        self.source.close(Vec::new(), deadline)
    }

    fn waker(&self) -> Waker {
        self.source.waker()
    }
}
