//! Positions for Kafka, and the end of the run.

use log::Level;

use super::{Action, Coordinator, Phase, Timer};
use crate::core::partition::{Partition, Stage};
use crate::core::record::TopicPartition;

impl Coordinator {
    /// Tells Kafka how far we are, for everybody's lag tools; in exactly-once mode the database already knows.
    pub(super) fn commit(&mut self) {
        self.arm(self.now + self.rules.commit_interval, Timer::Commit);
        if self.phase == Phase::Finished {
            return;
        }
        let positions = self.news();
        if !positions.is_empty() {
            self.out.push(Action::Commit(positions));
        }
    }

    /// The positions that are news to Kafka, marked as told.
    fn news(&mut self) -> Vec<(TopicPartition, i64)> {
        let tell = |(name, partition): (&TopicPartition, &mut Partition)| {
            let position = partition.news()?;
            partition.committed = Some(position);
            Some((name.clone(), position))
        };
        self.partitions.iter_mut().filter_map(tell).collect()
    }

    /// The positions of these partitions or of all, for the last commit: news or not, an answer may still be out.
    pub(super) fn positions(&self, only: Option<&[TopicPartition]>) -> Vec<(TopicPartition, i64)> {
        let wanted = |name: &TopicPartition| only.is_none_or(|only| only.contains(name));
        let started = |(name, partition): (&TopicPartition, &Partition)| {
            (wanted(name) && partition.started).then(|| (name.clone(), partition.tracker.position()))
        };
        self.partitions.iter().filter_map(started).collect()
    }

    pub(super) fn committed(&mut self, positions: Vec<(TopicPartition, i64)>, error: Option<String>) {
        let Some(error) = error else { return };
        for (name, position) in &positions {
            if let Some(partition) = self.partitions.get_mut(name)
                && partition.committed == Some(*position)
            {
                partition.committed = None;
            }
        }
        self.note(
            Level::Warn,
            format!("Kafka did not take the offsets of {} partitions, they are sent again: {error}", positions.len()),
        );
    }

    pub(super) fn stop(&mut self) {
        if self.phase != Phase::Running {
            return;
        }
        let deadline = self.now + self.rules.drain_timeout;
        self.phase = Phase::Stopping { deadline };
        self.arm(deadline, Timer::Stop);
        self.out.push(Action::StopFetching(self.partitions.keys().cloned().collect()));
        for partition in self.partitions.values_mut() {
            if partition.stage == Stage::Running || partition.stage == Stage::Starting {
                partition.stage = Stage::Draining;
            }
        }
    }

    /// After every event: whatever was only waiting for the last piece of work in flight happens now.
    pub(super) fn settle(&mut self) {
        self.hand_over();
        match self.phase {
            Phase::Running if self.complete() => {
                self.stop();
                self.finish_when_quiet();
            }
            Phase::Stopping { .. } => self.finish_when_quiet(),
            Phase::Running | Phase::Finished => {}
        }
    }

    fn complete(&self) -> bool {
        let reached = |max: u64| self.tally.handled() >= max;
        if self.rules.max_messages.is_some_and(reached) {
            return true;
        }
        self.rules.until_end
            && self.settled_in
            && self.handovers.is_empty()
            && self.partitions.values().all(Partition::complete)
    }

    fn finish_when_quiet(&mut self) {
        let Phase::Stopping { deadline } = self.phase else {
            return;
        };
        let busy = self.busy();
        if busy && self.now < deadline {
            return;
        }
        if busy {
            let text =
                format!("work in flight did not end within {:.1?}; it will be done again", self.rules.drain_timeout);
            self.note(Level::Warn, text);
        }
        let positions = self.positions(None);
        let names: Vec<TopicPartition> = self.partitions.keys().cloned().collect();
        if !names.is_empty() {
            self.out.push(Action::OnRevoke(names));
        }
        self.out.push(Action::Finish { positions });
        self.phase = Phase::Finished;
    }
}
