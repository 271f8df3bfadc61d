//! What the coordinator knows of one partition that is ours.

use std::fmt;
use std::time::Duration;

use super::assignment::Assignment;
use super::batcher::Backlog;
use super::breaker::Breaker;
use super::histogram::Rate;
use super::statistics::{PartitionState, PartitionStatistics};
use super::tally::Tally;
use super::tracker::Tracker;
use super::verdict::ErrorClass;

/// A sub-lane of one run of a partition. A run is one stay of a partition here, from a start to the next; its number is
/// never used again, so whatever carries an older number is stale.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LaneId {
    pub run: u64,
    pub index: usize,
}

impl fmt::Display for LaneId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.run, self.index)
    }
}

/// Where a partition stands between being assigned and being let go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Its position is being asked for, or will be after a wait or a pause.
    Starting,
    /// Fetched and written.
    Running,
    /// No further batch starts; what is held by workers is finished.
    Draining,
    /// Stands still until a person acts; why.
    Stuck(String),
}

/// Failed attempts in a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Attempts {
    /// All of them.
    pub all: u32,
    /// Those that may have been the records' fault. An outage does not count: away is not bad.
    pub unclassified: u32,
}

impl Attempts {
    /// Counts one.
    pub fn add(&mut self, class: ErrorClass) {
        self.all = self.all.saturating_add(1);
        if class == ErrorClass::Unclassified {
            self.unclassified = self.unclassified.saturating_add(1);
        }
    }

    /// Those that say how long to wait after a failure of this class.
    pub fn of(&self, class: ErrorClass) -> u32 {
        if class == ErrorClass::Unclassified { self.unclassified } else { self.all }
    }
}

/// One sub-lane: the records that wait in it and what became of its last batch.
#[derive(Debug, Default)]
pub(super) struct LaneState {
    pub backlog: Backlog,
    /// In the ready queue or held by a worker.
    pub busy: bool,
    /// Of the `max_messages` allowance, what the batch at work may use.
    pub reserved: u64,
    /// Failed attempts in a row.
    pub attempts: Attempts,
    /// How often its batches were halved for a database that has too much.
    pub halvings: u32,
    /// No attempt before this.
    pub retry_at: Option<Duration>,
    /// When a timer will look at this lane again; one timer at a time is enough.
    pub armed: Option<Duration>,
    /// Bytes that its decoded records were inflated to.
    pub inflated_bytes: usize,
}

impl LaneState {
    /// An empty lane that has failed so often in a row.
    pub fn after(attempts: Attempts) -> Self {
        Self { attempts, ..Self::default() }
    }

    /// The most rows of its next batch, of `rows_max` at best.
    pub fn rows_max(&self, rows_max: usize) -> usize {
        (rows_max >> self.halvings).max(1)
    }

    /// The database has too much: it gets half as much from now on…
    pub fn shrink(&mut self, rows_max: usize) {
        if self.rows_max(rows_max) > 1 {
            self.halvings += 1;
        }
    }

    /// …until it takes that; then twice as much again.
    pub fn grow(&mut self) {
        self.halvings = self.halvings.saturating_sub(1);
    }
}

/// A partition that is ours.
#[derive(Debug)]
pub(super) struct Partition {
    pub assignment: Assignment,
    pub run: u64,
    pub stage: Stage,
    pub tracker: Tracker,
    pub lanes: Vec<LaneState>,
    pub breaker: Breaker,
    /// Failed attempts in a row per sub-lane, kept while there are no lanes.
    pub attempts: Vec<Attempts>,
    /// Whether it was started since it was assigned, so that its tracker means something.
    pub started: bool,
    /// A claim is with a worker…
    pub claiming: bool,
    /// …and a person has paused or resumed since: what its row says of that is older.
    pub overruled: bool,
    /// Failed starts in a row.
    pub start_attempts: u32,
    /// Times in a row that fetched bytes were of no use.
    pub ruins: u32,
    /// Where to go on after a restart, when the database is not asked.
    pub resume_at: Option<i64>,
    /// The fencing number and position of our row, in exactly-once mode.
    pub claimed: Option<(i64, i64)>,
    /// Whether the database had a position before we came.
    pub had_position: bool,
    pub log_end: i64,
    /// The offset at which this run of the program is done with the partition.
    pub until: Option<i64>,
    /// What Kafka was last told.
    pub committed: Option<i64>,
    /// Where it starts when it has no position anywhere.
    pub first_start: Option<i64>,
    /// The last failure, until no lane tries again.
    pub failure: Option<String>,
    /// Why Kafka does not let us read it, until it is asked again.
    pub forbidden: Option<String>,
    pub progress: Progress,
}

/// What is told about a partition and decides nothing.
#[derive(Debug, Default)]
pub(super) struct Progress {
    pub tally: Tally,
    position_rate: Rate,
    end_rate: Rate,
    /// The state that was seen last, and since when.
    state: (PartitionState, Duration),
    /// Since when it waits for records, all that came being written.
    pub starved_since: Option<Duration>,
    /// When it came to us, where its log began then, and when it was last at its end.
    assigned_at: Duration,
    log_start_then: i64,
    pub caught_up_at: Option<Duration>,
    /// The times of the record written last and of the one to be written next, in milliseconds since the epoch.
    pub written_unix_ms: Option<i64>,
    pub waiting_unix_ms: Option<i64>,
}

impl Partition {
    pub fn new(assignment: Assignment, run: u64, until: Option<i64>, now: Duration) -> Self {
        let progress = Progress {
            tally: Tally::starting(now),
            end_rate: Rate::starting(now, offset(assignment.log_end)),
            state: (PartitionState::Starting, now),
            assigned_at: now,
            log_start_then: assignment.log_start,
            ..Progress::default()
        };
        Self {
            run,
            stage: Stage::Starting,
            tracker: Tracker::new(0, 1),
            lanes: Vec::new(),
            breaker: Breaker::default(),
            attempts: Vec::new(),
            started: false,
            claiming: false,
            overruled: false,
            start_attempts: 0,
            ruins: 0,
            resume_at: None,
            claimed: None,
            had_position: false,
            log_end: assignment.log_end,
            until,
            committed: assignment.committed,
            first_start: None,
            failure: None,
            forbidden: None,
            progress,
            assignment,
        }
    }

    /// Whether a worker holds something of it.
    pub fn busy(&self) -> bool {
        self.claiming || self.lanes.iter().any(|lane| lane.busy)
    }

    /// The position that Kafka should be told, when it is news.
    pub fn news(&self) -> Option<i64> {
        let position = self.tracker.position();
        (self.started && self.committed != Some(position)).then_some(position)
    }

    /// Whether this run of the program has nothing more to do here.
    pub fn complete(&self) -> bool {
        match &self.stage {
            Stage::Stuck(_) => true,
            Stage::Running => self.until.is_some_and(|until| self.tracker.position() >= until),
            Stage::Starting | Stage::Draining => false,
        }
    }

    /// Whether everything up to the wanted end has been handed out, so that no company will come.
    pub fn exhausted(&self) -> bool {
        self.until.is_some_and(|until| self.tracker.end() >= until)
    }

    /// Records between our position and the end of the log, as last seen.
    pub fn lag(&self) -> u64 {
        self.known_lag().unwrap_or(0)
    }

    /// As long as the database has not said where we are, it is Kafka's word that counts.
    fn known_lag(&self) -> Option<u64> {
        let position = match self.started {
            true => self.tracker.position(),
            false => self.resume_at.or(self.committed).or(self.first_start)?,
        };
        Some((self.log_end - position).max(0) as u64)
    }

    /// The log reaches so far.
    pub fn log_reaches(&mut self, log_end: i64, now: Duration) {
        if self.started && self.log_end <= self.tracker.position() {
            self.progress.caught_up_at = Some(now);
        }
        self.log_end = self.log_end.max(log_end);
    }

    /// It is started at `position`.
    pub fn starts(&mut self, position: i64, now: Duration) {
        if !self.started {
            self.progress.position_rate = Rate::starting(now, offset(position));
        }
        self.started = true;
        self.progress.starved_since = Some(now);
    }

    /// Notes whether everything that came is written, and since when.
    pub fn note_hunger(&mut self, now: Duration) {
        let is_hungry = self.lanes.iter().all(|lane| !lane.busy && lane.backlog.is_empty());
        self.progress.starved_since = is_hungry.then(|| self.progress.starved_since.unwrap_or(now));
        if self.started && self.lag() == 0 {
            self.progress.caught_up_at = Some(now);
        }
    }

    /// Notes what rates and times are made from. Called every few seconds.
    pub fn observe(&mut self, now: Duration) {
        self.progress.tally.note_rates(now);
        self.progress.end_rate.note(now, offset(self.log_end));
        if self.started {
            self.progress.position_rate.note(now, offset(self.tracker.position()));
        }
        let state = self.state();
        if self.progress.state.0 != state {
            self.progress.state = (state, now);
        }
    }

    /// What it is doing.
    fn state(&self) -> PartitionState {
        match self.stage {
            Stage::Stuck(_) => PartitionState::Stuck,
            Stage::Draining => PartitionState::Draining,
            _ if self.breaker.paused() => PartitionState::Paused,
            _ if self.failure.is_some() => PartitionState::Retrying,
            Stage::Starting => PartitionState::Starting,
            Stage::Running => PartitionState::Running,
        }
    }

    /// How old the next record to be written is. Its own time is known once it was decoded. Before that, it came after
    /// the one written last, and after the partition was last at its end. Where nothing is known of it, it is as old as
    /// we know of it.
    fn lag_seconds(&self, now: Duration, now_unix_ms: i64) -> Option<f64> {
        if self.known_lag()? == 0 {
            return Some(0.0);
        }
        let since = |at: Duration| now.saturating_sub(at).as_secs_f64();
        let age = |unix_ms: i64| now_unix_ms.saturating_sub(unix_ms).max(0) as f64 / 1e3;
        let came_after =
            self.progress.caught_up_at.map(since).into_iter().chain(self.progress.written_unix_ms.map(age));
        let youngest = came_after.reduce(f64::min).unwrap_or_else(|| since(self.progress.assigned_at));
        Some(self.progress.waiting_unix_ms.map_or(youngest, age))
    }

    /// When it will be at its end, at the rates of the last seconds.
    fn catch_up_seconds(&self, now: Duration) -> Option<f64> {
        let lag = self.lag();
        let consumed = self.progress.position_rate.per_second(now, offset(self.tracker.position()));
        let gain = consumed - self.progress.end_rate.per_second(now, offset(self.log_end));
        match (self.started, lag, gain > 0.0) {
            (true, 0, _) => Some(0.0),
            (true, _, true) => Some(lag as f64 / gain),
            _ => None,
        }
    }

    /// When retention reaches the next record to be written, at the pace that it has kept so far.
    fn until_retention_seconds(&self, now: Duration) -> Option<f64> {
        let distance = self.started.then(|| self.tracker.position() - self.assignment.log_start)?;
        let removed = self.assignment.log_start - self.progress.log_start_then;
        let elapsed = now.saturating_sub(self.progress.assigned_at).as_secs_f64();
        (removed > 0).then(|| distance.max(0) as f64 * elapsed / removed as f64)
    }

    /// A snapshot.
    pub fn snapshot(&mut self, now: Duration, now_unix_ms: i64) -> PartitionStatistics {
        self.observe(now);
        let name = &self.assignment.partition;
        let position = self.started.then(|| self.tracker.position());
        let (state, since) = self.progress.state;
        PartitionStatistics {
            topic: name.topic.to_string(),
            partition: name.partition,
            state,
            state_seconds: now.saturating_sub(since).as_secs_f64(),
            pause_reasons: self.breaker.all_reasons().collect(),
            detail: self.standstill(),
            position,
            log_start: self.assignment.log_start,
            log_end: self.log_end,
            lag_records: self.lag(),
            lag_seconds: self.lag_seconds(now, now_unix_ms),
            catch_up_seconds: self.catch_up_seconds(now),
            to_retention_records: position.map(|position| position - self.assignment.log_start),
            until_retention_seconds: self.until_retention_seconds(now),
            records_in_flight: self.lanes.iter().map(|lane| lane.backlog.decoded_records() as u64).sum(),
            errors: self.lanes.iter().map(|lane| lane.attempts.all).max().unwrap_or(0).into(),
            ..self.progress.tally.partition_snapshot(now)
        }
    }

    /// Why it writes nothing at the moment, for people.
    pub fn standstill(&self) -> Option<String> {
        if let Stage::Stuck(reason) = &self.stage {
            return Some(reason.clone());
        }
        match (self.forbidden.as_ref().or(self.failure.as_ref()), self.breaker.paused()) {
            (None, false) => None,
            (None, true) => Some(self.breaker.reasons()),
            (Some(failure), false) => Some(failure.clone()),
            (Some(failure), true) => Some(format!("{}: {failure}", self.breaker.reasons())),
        }
    }
}

/// An offset as a counter.
fn offset(offset: i64) -> u64 {
    offset.max(0) as u64
}
