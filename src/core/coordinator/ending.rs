//! Positions for Kafka, and the end of the run.

use std::time::Duration;

use log::Level;

use super::{Action, Coordinator, Phase, Timer};
use crate::core::assignment::Assignment;
use crate::core::partition::{Partition, Stage};
use crate::core::record::TopicPartition;

/// How often to look whether the other members are through.
const SURVEY_INTERVAL: Duration = Duration::from_secs(1);

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
        for partition in std::mem::take(&mut self.unnoted) {
            let paused = self.breaker(&partition).paused_by_operator();
            self.out.push(Action::NotePause { partition, paused });
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
        let mut again = 0;
        for (name, position) in &positions {
            let Some(partition) = self.partitions.get_mut(name) else { continue };
            // What stands still has nothing new to tell, and what was refused once would be refused for ever.
            if partition.committed == Some(*position) && !matches!(partition.stage, Stage::Stuck(_)) {
                partition.committed = None;
                again += 1;
            }
        }
        let follows = if again > 0 { ", they are sent again" } else { "" };
        self.note(
            Level::Warn,
            format!("Kafka did not take the offsets of {} partitions{follows}: {error}", positions.len()),
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
        if self.phase == Phase::Running && self.complete() {
            self.stop();
        }
        if self.phase != Phase::Running {
            self.finish_when_quiet();
        }
    }

    /// Whether the run may end by itself. One whose own partitions are through waits for the other members': should one
    /// of these die, its partitions come here.
    fn complete(&mut self) -> bool {
        let reached = |max: u64| self.tally.handled() >= max;
        if self.rules.max_messages.is_some_and(reached) {
            return true;
        }
        let ours_are = self.rules.until_end
            && self.settled_in
            && self.handovers.is_empty()
            && self.partitions.values().all(Partition::complete);
        if ours_are && !self.survey.others_done {
            self.ask_for_survey();
        }
        ours_are && self.survey.others_done
    }

    fn ask_for_survey(&mut self) {
        if self.survey.asked {
            return;
        }
        self.survey.asked = true;
        self.arm(self.now + SURVEY_INTERVAL, Timer::Survey);
        // The others look at what we have committed, as we do at theirs.
        let positions = self.news();
        if !positions.is_empty() {
            self.out.push(Action::Commit(positions));
        }
        self.out.push(Action::Survey);
    }

    pub(super) fn surveyed(&mut self, assignments: &[Assignment]) {
        let mut behind = Vec::new();
        for assignment in assignments {
            self.note_log_bounds(assignment);
            let end = *self.ends.entry(assignment.partition.clone()).or_insert(assignment.log_end);
            let position = assignment.committed.unwrap_or(assignment.log_start);
            if position < end && !self.partitions.contains_key(&assignment.partition) {
                behind.push(format!("{} at {position} of {end}", assignment.partition));
            }
        }
        self.survey.others_done = behind.is_empty();
        if self.survey.asked && !self.survey.told && !behind.is_empty() {
            self.survey.told = true;
            let text = format!("our partitions are at their ends; waiting for other members: {}", behind.join(", "));
            self.note(Level::Info, text);
        }
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
        self.release_the_rest();
    }

    /// What nobody works on is in flight no more: the next run reads it again. What a worker still has stays as it is.
    fn release_the_rest(&mut self) {
        for lane in self.partitions.values_mut().flat_map(|partition| &mut partition.lanes).filter(|lane| !lane.busy) {
            let decoded = std::mem::take(&mut lane.backlog).decoded_records();
            self.tally.released(decoded as u64);
        }
    }
}
