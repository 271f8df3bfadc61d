//! A person's pause: of a partition that is here or elsewhere, and noted with its position for the next owner.

use log::Level;

use super::{Action, Coordinator};
use crate::core::breaker::Breaker;
use crate::core::partition::LaneId;
use crate::core::record::TopicPartition;

impl Coordinator {
    /// A partition's circuit, wherever the partition is.
    pub(super) fn breaker(&mut self, name: &TopicPartition) -> &mut Breaker {
        match self.partitions.get_mut(name) {
            Some(partition) => &mut partition.breaker,
            None => self.breakers.entry(name.clone()).or_default(),
        }
    }

    pub(super) fn pause(&mut self, name: TopicPartition) {
        self.breaker(&name).pause();
        self.overrule(&name);
        self.note(Level::Info, format!("{name}: paused by the operator"));
        self.park_when_idle(&name);
        self.note_pause(name, true);
    }

    pub(super) fn resume(&mut self, name: &TopicPartition) {
        self.breaker(name).resume();
        self.overrule(name);
        self.note(Level::Info, format!("{name}: resumed by the operator"));
        self.note_pause(name.clone(), false);
        let Some(partition) = self.partitions.get(name) else {
            return;
        };
        let (run, lanes) = (partition.run, partition.lanes.len());
        self.begin_run(run);
        for index in 0..lanes {
            self.consider(LaneId { run, index });
        }
    }

    /// Where the row is being read, what it says of a pause is older.
    fn overrule(&mut self, name: &TopicPartition) {
        if let Some(partition) = self.partitions.get_mut(name) {
            partition.overruled = partition.claiming;
        }
    }

    fn note_pause(&mut self, partition: TopicPartition, paused: bool) {
        if self.rules.transactional && self.noting.insert(partition.clone()) {
            self.out.push(Action::NotePause { partition, paused });
        }
    }

    pub(super) fn pause_noted(&mut self, name: &TopicPartition, paused: bool, error: Option<String>) {
        let wanted = self.breaker(name).paused_by_operator();
        if let Some(error) = error {
            let what = if wanted { "paused" } else { "resumed" };
            self.unnoted.insert(name.clone());
            return self.note(
                Level::Warn,
                format!("{name}: the next owner would not know that it is {what}; it is noted again soon: {error}"),
            );
        }
        self.noting.remove(name);
        if wanted != paused {
            // The person changed their mind meanwhile.
            self.note_pause(name.clone(), wanted);
        }
        if let Some(run) = self.partitions.get(name).map(|partition| partition.run) {
            self.begin_run(run);
        }
    }
}
