//! Records come in, batches go out to workers, answers come back.

use log::Level;

use super::{Action, Arrival, Coordinator, LaneReport, Orders, Stage, Timer};
use crate::core::batcher::{Amount, BatchLimits, Due};
use crate::core::partition::{Attempts, LaneId};
use crate::core::record::TopicPartition;
use crate::core::verdict::{ErrorClass, Failure, Verdict, verdict};

impl Coordinator {
    pub(super) fn fetched(&mut self, arrival: &Arrival) {
        let now = self.now;
        let Some(partition) = self.by_run(arrival.run) else {
            return;
        };
        if partition.stage != Stage::Running || !partition.tracker.enter(arrival.first, arrival.next) {
            return;
        }
        let waited = partition.progress.starved_since.take().map(|since| now.saturating_sub(since));
        if let Some(waited) = waited {
            partition.progress.tally.fetch_waited(waited);
        }
        partition.log_reaches(arrival.log_end.max(arrival.next), now);
        for lane in &mut partition.lanes {
            lane.backlog.push(arrival.records_max, arrival.bytes, now);
        }
        let lanes = partition.lanes.len();
        if let Some(waited) = waited {
            self.tally.fetch_waited(waited);
        }
        self.out.push(Action::Enqueue { run: arrival.run });
        for index in 0..lanes {
            self.consider(LaneId { run: arrival.run, index });
        }
    }

    pub(super) fn lane_timer(&mut self, id: LaneId) {
        if let Some(partition) = self.by_run(id.run)
            && let Some(lane) = partition.lanes.get_mut(id.index)
        {
            lane.armed = None;
        }
        self.consider(id);
    }

    /// Sends the lane to the workers if a batch of it is due, or arms a timer for when it will be.
    pub(super) fn consider(&mut self, id: LaneId) {
        let (now, limits, patience) = (self.now, self.rules.limits, self.rules.patience);
        let percent_max = self.rules.dead_letter_percent_max;
        let running = matches!(self.phase, super::Phase::Running);
        let allowance = self.allowance;
        let Some(partition) = self.by_run(id.run) else {
            return;
        };
        let flush = partition.exhausted();
        let (paused, probing, share) =
            (partition.breaker.paused(), partition.breaker.probing(), partition.breaker.share());
        let Some(lane) = partition.lanes.get_mut(id.index) else {
            return;
        };
        if !running || partition.stage != Stage::Running || lane.busy || paused || allowance == Some(0) {
            return;
        }
        let limits = BatchLimits { rows_max: lane.rows_max(limits.rows_max), ..limits };
        let due = match lane.retry_at {
            Some(at) if now < at => Due::At(at),
            _ => lane.backlog.due(&limits, now, flush || lane.attempts.all > 0),
        };
        match due {
            Due::Never => {}
            Due::At(at) => {
                if lane.armed.is_none_or(|armed| at < armed) {
                    lane.armed = Some(at);
                    self.arm(at, Timer::Lane(id));
                }
            }
            Due::Now => {
                let (attempt, unclassified) =
                    (lane.attempts.all + 1, lane.attempts.unclassified >= patience.max_retries);
                let waiting_since = (attempt == 1).then(|| lane.backlog.oldest());
                lane.busy = true;
                lane.retry_at = None;
                // Behind an open circuit one record is the probe.
                let rows_max = if probing { 1 } else { limits.rows_max };
                let rows_max = allowance.map_or(rows_max, |left| rows_max.min(left.try_into().unwrap_or(usize::MAX)));
                if let Some(left) = allowance {
                    lane.reserved = rows_max as u64;
                    self.allowance = Some(left - rows_max as u64);
                }
                let orders = Orders { rows_max, attempt, waiting_since, unclassified, share, percent_max };
                self.out.push(Action::Dispatch { lane: id, orders });
            }
        }
    }

    pub(super) fn worked(&mut self, report: &LaneReport) {
        let now = self.now;
        self.tally.worked(report);
        if report.attempted > 0 {
            self.note_sink(report.failure.as_ref());
        }
        let Some(partition) = self.by_run(report.lane.run) else {
            // Its partition is gone; what it decoded and did not write will be read again by whoever has it now.
            if let Some(leftover) = self.limbo.remove(&report.lane) {
                self.give_back(leftover.reserved.saturating_sub(report.handled()));
                self.consider_all();
            }
            if let Some(Failure { class, message, .. }) = &report.failure {
                self.note(
                    Level::Warn,
                    format!("a batch of what is no longer ours was not written ({class}): {message}"),
                );
            }
            return self.tally.released(report.waiting_records as u64);
        };
        let name = partition.assignment.partition.clone();
        let Some(lane) = partition.lanes.get_mut(report.lane.index) else {
            return;
        };
        lane.busy = false;
        lane.inflated_bytes = report.told.inflated_bytes;
        partition.progress.tally.worked(report);
        partition.progress.written_unix_ms = report.told.written_unix_ms.or(partition.progress.written_unix_ms);
        partition.progress.waiting_unix_ms = report.told.waiting_unix_ms;
        let decoded = Amount { records: report.waiting_records, bytes: report.waiting_bytes };
        lane.backlog.worked(report.chunks, decoded, report.open, report.owes_position);
        let unused = std::mem::take(&mut lane.reserved).saturating_sub(report.handled());
        if report.written > 0 {
            lane.grow();
        }
        partition.breaker.handled(report.written, report.dead_lettered);
        if report.failure.is_none() || report.handled() > 0 {
            lane.attempts = Attempts::default();
            if partition.lanes.iter().all(|lane| lane.attempts.all == 0) {
                partition.failure = None;
                partition.ruins = 0;
            }
        }
        let progress = partition.tracker.done(report.lane.index, report.through);
        partition.note_hunger(now);
        self.note_letters(&name, report);
        self.give_back(unused);
        if let Err(impossible) = progress {
            return self.stuck(&name, format!("internal error, please report it: {impossible}"));
        }
        if let Some(failure) = &report.failure {
            self.failed(&name, report, failure);
        }
        self.park_when_idle(&name);
        if unused > 0 {
            // What one lane did not use of the allowance may be what another waits for.
            self.consider_all();
        } else {
            self.consider(report.lane);
        }
    }

    fn consider_all(&mut self) {
        let lanes = |(run, name): (&u64, &TopicPartition)| {
            let count = self.partitions.get(name).map_or(0, |partition| partition.lanes.len());
            let run = *run;
            (0..count).map(move |index| LaneId { run, index })
        };
        let all: Vec<LaneId> = self.runs.iter().flat_map(lanes).collect();
        for lane in all {
            self.consider(lane);
        }
    }

    fn failed(&mut self, name: &TopicPartition, report: &LaneReport, failure: &Failure) {
        let (patience, rows_max) = (self.rules.patience, self.rules.limits.rows_max);
        let (mut chance, now) = (self.chance.clone(), self.now);
        let Some(partition) = self.partitions.get_mut(name) else {
            return;
        };
        let Some(lane) = partition.lanes.get_mut(report.lane.index) else {
            return;
        };
        // Bytes that cannot be decoded are fetched again, as what failed for no known reason is tried again.
        let class = if report.ruined { ErrorClass::Unclassified } else { failure.class };
        lane.attempts.add(class);
        if class == ErrorClass::Overload {
            lane.shrink(rows_max);
        }
        let attempts = lane.attempts.of(class);
        let verdict = verdict(class, attempts, partition.breaker.openings(), &patience, &mut chance);
        partition.failure = Some(failure.message.clone());
        let running = partition.stage == Stage::Running;
        match verdict {
            Verdict::Again { after } => lane.retry_at = Some(now + after),
            Verdict::Pause { reason, after } => partition.breaker.open(reason, now + after),
            // Another owner moves the position now; ours means nothing any more.
            Verdict::LetGo { .. } => (partition.started, partition.resume_at) = (false, None),
        }
        self.chance = chance;
        self.tally.retried();
        if let Some(partition) = self.partitions.get_mut(name) {
            partition.progress.tally.retried();
        }
        if attempts == patience.max_retries + 1 && matches!(failure.class, ErrorClass::Data | ErrorClass::Unclassified)
        {
            self.tally.exhausted(report.attempted);
        }
        self.explain(name, attempts, failure, verdict);
        if running && report.ruined {
            self.start_over(name, failure, verdict);
        } else if let (true, Verdict::LetGo { after }) = (running, verdict) {
            self.restart(name, after);
        }
    }

    /// The lane's bytes are of no use: fetch them again, in case they were damaged on the way; damaged for good is a
    /// person's case.
    fn start_over(&mut self, name: &TopicPartition, failure: &Failure, verdict: Verdict) {
        let max_retries = self.rules.patience.max_retries;
        let Some(partition) = self.partitions.get_mut(name) else {
            return;
        };
        partition.ruins += 1;
        if failure.class == ErrorClass::Data && partition.ruins > max_retries {
            return self.stuck(name, failure.message.clone());
        }
        self.restart(name, verdict.after());
    }

    fn explain(&mut self, name: &TopicPartition, attempts: u32, failure: &Failure, verdict: Verdict) {
        let Failure { class, message, offset } = failure;
        let at = offset.map_or(String::new(), |offset| format!(" at offset {offset}"));
        let (level, what) = match verdict {
            Verdict::Again { after } => (Level::Warn, format!("tries again in {after:.1?}")),
            Verdict::Pause { reason, after } => {
                (Level::Error, format!("pauses ({reason}) for {after:.1?}, then probes with one record"))
            }
            Verdict::LetGo { after } => (Level::Warn, format!("lets go; asks the database again in {after:.1?}")),
        };
        self.note(level, format!("{name}{at}: attempt {attempts} failed ({class}), {what}: {message}"));
    }
}
