//! What is told about a run and decides nothing: the snapshot, and what it is made from.

use std::time::Duration;

use super::{Action, Coordinator, LETTERS_MAX, LaneReport, Phase, Timer};
use crate::core::assignment::Assignment;
use crate::core::histogram::Rate;
use crate::core::partition::Partition;
use crate::core::record::TopicPartition;
use crate::core::statistics::{Memory, PutAside, SinkStatistics, Statistics};
use crate::core::verdict::{ErrorClass, Failure};

impl Coordinator {
    /// A snapshot at `now`; `used_bytes` are held in memory.
    pub fn statistics(&mut self, now: Duration, now_unix_ms: i64, used_bytes: usize) -> Statistics {
        self.tally.note_rates(now);
        let partitions: Vec<_> =
            self.partitions.values_mut().map(|partition| partition.snapshot(now, now_unix_ms)).collect();
        let lanes = self.partitions.values().flat_map(|partition| &partition.lanes);
        // Sub-lanes share their chunks.
        let queued_of = |of: &Partition| of.lanes.iter().map(|lane| lane.backlog.encoded_bytes()).max().unwrap_or(0);
        let queued_bytes = self.partitions.values().map(queued_of).sum();
        let decoded_bytes = lanes.map(|lane| lane.inflated_bytes).sum();
        let in_limbo: u64 = self.limbo.values().map(|leftover| leftover.decoded).sum();
        let in_flight = in_limbo + partitions.iter().map(|partition| partition.records_in_flight).sum::<u64>();
        let errors = partitions.iter().filter(|partition| partition.errors > 0);
        Statistics {
            taken_at_unix_ms: now_unix_ms,
            partitions_assigned: partitions.len(),
            partition_errors: errors.map(|of| (format!("{}/{}", of.topic, of.partition), of.errors)).collect(),
            lag_records: partitions.iter().map(|partition| partition.lag_records).sum(),
            lag_seconds: partitions.iter().filter_map(|partition| partition.lag_seconds).reduce(f64::max),
            catch_up_seconds: partitions.iter().map(|of| of.catch_up_seconds).reduce(later).flatten(),
            memory: Memory {
                limit_bytes: 0,
                used_bytes,
                fetching_bytes: used_bytes.saturating_sub(queued_bytes + decoded_bytes),
                queued_bytes,
                decoded_bytes,
            },
            settled: self.settled_in,
            stopping: self.phase != Phase::Running,
            sink: self.sink_statistics(now),
            letters: self.letters.iter().cloned().collect(),
            partitions,
            ..self.tally.snapshot(now, in_flight)
        }
    }

    fn sink_statistics(&self, now: Duration) -> SinkStatistics {
        SinkStatistics {
            name: String::new(),
            reachable: self.sink.reachable,
            since_seconds: now.saturating_sub(self.sink.since).as_secs_f64(),
            failure: self.sink.failure.clone(),
        }
    }

    /// Looks at everything that changes with time alone.
    pub(super) fn observe(&mut self) {
        self.tally.note_rates(self.now);
        for partition in self.partitions.values_mut() {
            partition.observe(self.now);
        }
        self.arm(self.now + Rate::SPAN, Timer::Observe);
    }

    /// Asks where the logs begin and end. Fetching tells it of what is fetched; a partition that is paused is not.
    pub(super) fn ask_for_log_bounds(&mut self) {
        self.arm(self.now + self.rules.survey_interval, Timer::LogBounds);
        if self.phase == Phase::Running && !self.partitions.is_empty() {
            self.out.push(Action::Survey);
        }
    }

    pub(super) fn note_log_bounds(&mut self, assignment: &Assignment) {
        let now = self.now;
        if let Some(partition) = self.partitions.get_mut(&assignment.partition) {
            partition.assignment.log_start = assignment.log_start;
            partition.log_reaches(assignment.log_end, now);
        }
    }

    /// What the sink answered says whether it is there. That a record is bad, or a position somebody else's, it could
    /// only say because it is.
    pub(super) fn note_sink(&mut self, failure: Option<&Failure>) {
        let away = failure
            .filter(|failure| matches!(failure.class, ErrorClass::Transient | ErrorClass::Overload | ErrorClass::Auth));
        let reachable = Some(away.is_none());
        if self.sink.reachable != reachable {
            self.sink.since = self.now;
        }
        self.sink.reachable = reachable;
        self.sink.failure = away.map(|failure| failure.message.clone());
    }

    pub(super) fn note_letters(&mut self, name: &TopicPartition, report: &LaneReport) {
        for (offset, reason) in &report.told.letters {
            if self.letters.len() == LETTERS_MAX {
                self.letters.pop_front();
            }
            self.letters.push_back(PutAside {
                at_seconds: self.now.as_secs(),
                topic: name.topic.to_string(),
                partition: name.partition,
                offset: *offset,
                reason: reason.clone(),
            });
        }
    }
}

/// The later of two times; one that never comes is later.
fn later(one: Option<f64>, other: Option<f64>) -> Option<f64> {
    Some(one?.max(other?))
}
