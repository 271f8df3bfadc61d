//! Partitions come and go: assigned, claimed, started (again), revoked, lost.

use log::Level;

use super::{Action, Coordinator, Handover, OffsetReset, Stage, Survey, Timer};
use crate::core::assignment::{Assignment, Claim, Claimed};
use crate::core::partition::{LaneState, Partition};
use crate::core::record::TopicPartition;
use crate::core::tracker::Tracker;
use crate::core::verdict::{ErrorClass, Failure, Verdict, verdict};

/// A right that stays away is told at the first refusal and then at every tenth, some ten minutes apart.
const FORBIDDEN_UNTOLD: u32 = 10;

impl Coordinator {
    pub(super) fn assigned(&mut self, assignments: Vec<Assignment>) {
        self.tally.rebalanced();
        self.survey = Survey::default();
        let names: Vec<TopicPartition> = assignments.iter().map(|a| a.partition.clone()).collect();
        let mut runs = Vec::with_capacity(assignments.len());
        for assignment in assignments {
            let name = assignment.partition.clone();
            self.close_run(&name);
            let seen = *self.ends.entry(name.clone()).or_insert(assignment.log_end);
            let run = self.new_run(&name);
            let mut partition = Partition::new(assignment, run, self.rules.until_end.then_some(seen), self.now);
            partition.first_start = start_of(&partition.assignment, self.rules.reset);
            partition.breaker = self.breakers.remove(&name).unwrap_or_default();
            self.partitions.insert(name, partition);
            runs.push(run);
        }
        self.out.push(Action::OnAssign(names));
        self.begin(&runs);
    }

    fn new_run(&mut self, name: &TopicPartition) -> u64 {
        let run = self.next_run;
        self.next_run += 1;
        self.runs.insert(run, name.clone());
        run
    }

    pub(super) fn begin_run(&mut self, run: u64) {
        self.begin(&[run]);
    }

    /// Finds out where these runs start: the database says it (one claim for all), or the group's offset does.
    fn begin(&mut self, runs: &[u64]) {
        let (mut claiming, mut claims) = (Vec::new(), Vec::new());
        let now = self.now;
        for &run in runs {
            let (reset, transactional) = (self.rules.reset, self.rules.transactional);
            // The row's word on pauses is only good once ours is noted there; then this is called again.
            if self.runs.get(&run).is_some_and(|name| self.noting.contains(name)) {
                continue;
            }
            let Some(partition) = self.by_run(run) else {
                continue;
            };
            if partition.stage != Stage::Starting || partition.claiming || partition.breaker.paused_by_operator() {
                continue;
            }
            if partition.breaker.paused() && now < partition.breaker.probe_at() {
                let probe_at = partition.breaker.probe_at();
                self.arm(probe_at, Timer::Start(run));
                continue;
            }
            let start = partition.resume_at.or_else(|| start_of(&partition.assignment, reset));
            if transactional {
                partition.claiming = true;
                partition.overruled = false;
                claiming.push(run);
                claims.push(Claim {
                    partition: partition.assignment.partition.clone(),
                    start_if_absent: start,
                    cluster_id: partition.assignment.cluster_id.clone(),
                    topic_id: partition.assignment.topic_id,
                });
            } else {
                match start {
                    Some(offset) => self.open(run, offset, None),
                    None => self.no_position(run),
                }
            }
        }
        if !claims.is_empty() {
            self.out.push(Action::Claim { runs: claiming, claims });
        }
    }

    pub(super) fn claimed(&mut self, runs: &[u64], result: Result<Vec<Claimed>, Failure>) {
        self.note_sink(result.as_ref().err());
        match result {
            Ok(rows) => {
                for (&run, row) in runs.iter().zip(&rows) {
                    self.claimed_one(run, row);
                }
            }
            Err(failure) => {
                for &run in runs {
                    self.claim_failed(run, &failure);
                }
            }
        }
    }

    fn claimed_one(&mut self, run: u64, row: &Claimed) {
        let Some(partition) = self.by_run(run) else {
            return;
        };
        partition.claiming = false;
        partition.start_attempts = 0;
        partition.failure = None;
        partition.had_position = row.existed;
        if row.paused && !partition.overruled {
            partition.breaker.pause();
        }
        if partition.stage != Stage::Starting || partition.breaker.paused_by_operator() {
            return;
        }
        let Some(next) = row.next_offset else {
            return self.no_position(run);
        };
        if let Some(reason) = mismatch(&partition.assignment, row, next) {
            let name = partition.assignment.partition.clone();
            return self.stuck(&name, reason);
        }
        self.open(run, next, Some((row.owner_epoch, next)));
    }

    fn claim_failed(&mut self, run: u64, failure: &Failure) {
        let (patience, mut chance) = (self.rules.patience, self.chance.clone());
        let Some(partition) = self.by_run(run) else {
            return;
        };
        partition.claiming = false;
        partition.start_attempts += 1;
        partition.failure = Some(failure.message.clone());
        let attempts = partition.start_attempts;
        let name = partition.assignment.partition.clone();
        // A claim is no write: what only a person mends is asked ever more slowly, the rest as a lane's failures are.
        let openings =
            if failure.class.needs_person() { attempts - 1 } else { attempts.saturating_sub(patience.error_threshold) };
        let after = verdict(failure.class, attempts, openings, &patience, &mut chance).after();
        self.chance = chance;
        self.tally.retried();
        self.note(
            Level::Warn,
            format!(
                "{name}: cannot claim its position ({}), attempt {attempts}, again in {after:.1?}: {}",
                failure.class, failure.message
            ),
        );
        self.arm(self.now + after, Timer::Start(run));
    }

    fn no_position(&mut self, run: u64) {
        let Some(partition) = self.by_run(run) else {
            return;
        };
        let a = &partition.assignment;
        let reason = format!(
            "{} has no position yet and auto_offset_reset is error; the log holds offsets {} to {}; choose \
             --auto-offset-reset earliest or latest for the first start",
            a.partition, a.log_start, a.log_end
        );
        let name = a.partition.clone();
        self.stuck(&name, reason);
    }

    fn open(&mut self, run: u64, position: i64, claimed: Option<(i64, i64)>) {
        let (lanes, now) = (self.rules.lanes.max(1), self.now);
        let Some(partition) = self.by_run(run) else {
            return;
        };
        partition.stage = Stage::Running;
        partition.forbidden = None;
        partition.tracker = Tracker::new(position, lanes);
        partition.starts(position, now);
        // It begins with a probe where the circuit was open.
        partition.breaker.half_open();
        let attempts = |index| partition.attempts.get(index).copied().unwrap_or_default();
        partition.lanes = (0..lanes).map(|index| LaneState::after(attempts(index))).collect();
        partition.claimed = claimed;
        let name = partition.assignment.partition.clone();
        self.note(Level::Info, format!("{name}: starts at offset {position}"));
        self.out.push(Action::Open { run, partition: name.clone(), lanes, position, claimed });
        self.out.push(Action::Fetch { partition: name, run, offset: position });
    }

    /// The offset that was asked for is not in the log. Where the database (or nobody) decided the offset, a jump would
    /// lose records silently, so the partition stops; a group's expired offset follows `auto_offset_reset`.
    pub(super) fn out_of_range(&mut self, run: u64, requested: i64, log_start: i64, log_end: i64) {
        let reset = self.rules.reset;
        let Some(partition) = self.by_run(run) else {
            return;
        };
        if partition.stage != Stage::Running {
            return;
        }
        let name = partition.assignment.partition.clone();
        partition.assignment.log_start = log_start;
        partition.assignment.log_end = log_end;
        partition.log_end = log_end;
        let target = match reset {
            _ if partition.had_position => None,
            OffsetReset::Earliest => Some(log_start),
            OffsetReset::Latest => Some(log_end),
            OffsetReset::Error => None,
        };
        let Some(offset) = target else {
            let reason = gap(&name, requested, log_start, log_end);
            return self.stuck(&name, reason);
        };
        let claimed = partition.claimed;
        self.note(
            Level::Warn,
            format!("{name}: offset {requested} is not in the log ({log_start} to {log_end}); goes on at {offset} as auto_offset_reset says"),
        );
        self.close_run(&name);
        let run = self.new_run(&name);
        if let Some(partition) = self.partitions.get_mut(&name) {
            partition.run = run;
        }
        self.open(run, offset, claimed);
    }

    /// The source cannot read the partition, which may have failed before it could be assigned. A run that is over, as the
    /// partition was lost or started anew meanwhile, says nothing about now.
    pub(super) fn unreadable(&mut self, name: &TopicPartition, run: Option<u64>, reason: String) {
        if run.is_some_and(|run| !self.runs.contains_key(&run)) {
            return;
        }
        if !self.partitions.contains_key(name) {
            let run = self.new_run(name);
            let (partition, cluster_id) = (name.clone(), None);
            let unknown =
                Assignment { partition, committed: None, log_start: 0, log_end: 0, cluster_id, topic_id: None };
            self.partitions.insert(name.clone(), Partition::new(unknown, run, None, self.now));
        }
        self.stuck(name, reason);
    }

    /// Kafka does not let us read the partition. Whoever took the right away may give it back: it is asked again, ever more
    /// slowly, and goes on by itself. A run that is to end by itself cannot wait for that.
    pub(super) fn forbidden(&mut self, name: &TopicPartition, run: u64, reason: String) {
        let (patience, mut chance, now) = (self.rules.patience, self.chance.clone(), self.now);
        let Some(partition) = self.by_run(run).filter(|partition| partition.stage == Stage::Running) else {
            return;
        };
        let verdict = verdict(ErrorClass::Auth, 1, partition.breaker.openings(), &patience, &mut chance);
        if let Verdict::Pause { reason, after } = verdict {
            partition.breaker.open(reason, now + after);
        }
        if partition.breaker.openings() % FORBIDDEN_UNTOLD == 1 {
            let after = verdict.after();
            let text = format!(
                "{name} is not read: {reason}; it is asked again in {after:.1?} and ever more slowly, and goes on by itself"
            );
            self.note(Level::Error, text);
        }
        if let Some(partition) = self.by_run(run) {
            partition.forbidden = Some(reason);
        }
        self.chance = chance;
        self.park_when_idle(name);
    }

    /// The partition stands still until a person acts; the others go on.
    pub(super) fn stuck(&mut self, name: &TopicPartition, reason: String) {
        if !self.partitions.contains_key(name) {
            return;
        }
        self.note(Level::Error, format!("{name} stands still: {reason}"));
        self.close_run(name);
        self.out.push(Action::StopFetching(vec![name.clone()]));
        if let Some(partition) = self.partitions.get_mut(name) {
            partition.stage = Stage::Stuck(reason);
            partition.claiming = false;
            for lane in &mut partition.lanes {
                *lane = LaneState::default();
            }
        }
    }

    /// A paused partition holds no records: they would keep memory from the others for as long as the pause lasts.
    pub(super) fn park_when_idle(&mut self, name: &TopicPartition) {
        let Some(partition) = self.partitions.get(name) else { return };
        if partition.stage == Stage::Running && partition.breaker.paused() && !partition.busy() {
            let after = partition.breaker.probe_at().saturating_sub(self.now);
            self.restart(name, after);
        }
    }

    /// Starts the partition anew after `after`, from the database's position or from what is done.
    pub(super) fn restart(&mut self, name: &TopicPartition, after: std::time::Duration) {
        self.close_run(name);
        self.out.push(Action::StopFetching(vec![name.clone()]));
        let run = self.new_run(name);
        let Some(partition) = self.partitions.get_mut(name) else {
            return;
        };
        if partition.started {
            partition.resume_at = Some(partition.tracker.position());
        }
        partition.run = run;
        partition.stage = Stage::Starting;
        partition.attempts = partition.lanes.drain(..).map(|lane| lane.attempts).collect();
        self.arm(self.now + after, Timer::Start(run));
    }

    pub(super) fn revoked(&mut self, names: Vec<TopicPartition>) {
        self.settled_in = false;
        self.survey = Survey::default();
        self.tally.rebalanced();
        let deadline = self.now + self.rules.drain_timeout;
        self.out.push(Action::StopFetching(names.clone()));
        for name in &names {
            if let Some(partition) = self.partitions.get_mut(name) {
                partition.stage = Stage::Draining;
            }
        }
        self.arm(deadline, Timer::Handover);
        self.handovers.push(Handover { partitions: names, deadline });
    }

    /// Lets go of partitions whose work in flight is finished, or whose time is up.
    pub(super) fn hand_over(&mut self) {
        // A worker may still hold a lane of an earlier stay: the partition was lost and came back meanwhile.
        let busy = |coordinator: &Self, name: &TopicPartition| {
            coordinator.partitions.get(name).is_some_and(Partition::busy)
                || coordinator.limbo.values().any(|leftover| leftover.partition == *name)
        };
        let quiet = |coordinator: &Self, handover: &Handover| {
            handover.deadline <= coordinator.now || !handover.partitions.iter().any(|name| busy(coordinator, name))
        };
        let (ready, waiting) = std::mem::take(&mut self.handovers).into_iter().partition(|h| quiet(self, h));
        self.handovers = waiting;
        for Handover { partitions, .. } in ready {
            let positions = self.positions(Some(&partitions));
            for name in &partitions {
                self.forget(name);
            }
            self.out.push(Action::OnRevoke(partitions.clone()));
            self.out.push(Action::Release { partitions, positions });
        }
    }

    pub(super) fn lost(&mut self, names: Vec<TopicPartition>) {
        self.settled_in = false;
        self.survey = Survey::default();
        self.tally.rebalanced();
        for name in &names {
            self.forget(name);
        }
        // The source has stopped them, but may have been told to start them since.
        self.out.push(Action::StopFetching(names.clone()));
        for handover in &mut self.handovers {
            handover.partitions.retain(|name| !names.contains(name));
        }
        self.note(Level::Warn, format!("lost {} partitions to other members of the group", names.len()));
        self.out.push(Action::OnRevoke(names));
    }

    fn forget(&mut self, name: &TopicPartition) {
        self.close_run(name);
        if let Some(partition) = self.partitions.remove(name)
            && partition.breaker.is_news()
        {
            self.breakers.insert(name.clone(), partition.breaker);
        }
    }
}

fn start_of(assignment: &Assignment, reset: OffsetReset) -> Option<i64> {
    assignment.committed.or(match reset {
        OffsetReset::Earliest => Some(assignment.log_start),
        OffsetReset::Latest => Some(assignment.log_end),
        OffsetReset::Error => None,
    })
}

/// Whether the database's position belongs to another log than the one that is there.
fn mismatch(assignment: &Assignment, row: &Claimed, next: i64) -> Option<String> {
    let name = &assignment.partition;
    if !row.existed {
        return None;
    }
    if let (Some(then), Some(now)) = (&row.cluster_id, &assignment.cluster_id)
        && then.as_str() != &**now
    {
        return Some(format!(
            "the database's position of {name} ({next}) belongs to cluster {then}, but this is cluster {now}, whose log \
             holds offsets {} to {}; use another --group-id for it, or start anew: `konekt positions forget {}`",
            assignment.log_start,
            assignment.log_end,
            flags(name)
        ));
    }
    if let (Some(then), Some(now)) = (row.topic_id, assignment.topic_id)
        && then != now
    {
        return Some(format!(
            "the topic was deleted and made anew: the database's position of {name} ({next}) belongs to topic id {then}, \
             now it is {now} with offsets {} to {}; to read the new topic: `konekt positions forget {}` (rows of the old \
             one have the same ids: move them away first, or use another --group-id)",
            assignment.log_start,
            assignment.log_end,
            flags(name)
        ));
    }
    (next < assignment.log_start).then(|| gap(name, next, assignment.log_start, assignment.log_end))
}

fn gap(name: &TopicPartition, wanted: i64, log_start: i64, log_end: i64) -> String {
    let (which, command) = if wanted < log_start {
        (format!("{} records were removed by retention before they were read", log_start - wanted), "forward")
    } else {
        ("the log ends before the position: it was truncated or replaced".to_owned(), "rewind")
    };
    let flags = flags(name);
    format!(
        "the position of {name} is {wanted}, but the log holds offsets {log_start} to {log_end}: {which}; to accept this, \
         go on with what there is (`konekt positions {command} {flags} --to {log_start}`) or with what comes \
         (`konekt positions {command} {flags} --to {log_end}`); where Kafka keeps the position, reset the group's offset"
    )
}

/// How `konekt positions` is told which partition is meant.
fn flags(name: &TopicPartition) -> String {
    format!("--topic {} --partition {}", name.topic, name.partition)
}
