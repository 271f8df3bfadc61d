//! What the coordinator knows of one partition that is ours.

use std::fmt;
use std::time::Duration;

use super::assignment::Assignment;
use super::batcher::Backlog;
use super::breaker::Breaker;
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
    /// No attempt before this.
    pub retry_at: Option<Duration>,
    /// When a timer will look at this lane again; one timer at a time is enough.
    pub armed: Option<Duration>,
}

impl LaneState {
    /// An empty lane that has failed so often in a row.
    pub fn after(attempts: Attempts) -> Self {
        Self { attempts, ..Self::default() }
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
    /// A claim is with a worker.
    pub claiming: bool,
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
    /// The last failure, until a batch succeeds.
    pub failure: Option<String>,
}

impl Partition {
    pub fn new(assignment: Assignment, run: u64, until: Option<i64>) -> Self {
        Self {
            run,
            stage: Stage::Starting,
            tracker: Tracker::new(0, 1),
            lanes: Vec::new(),
            breaker: Breaker::default(),
            attempts: Vec::new(),
            started: false,
            claiming: false,
            start_attempts: 0,
            ruins: 0,
            resume_at: None,
            claimed: None,
            had_position: false,
            log_end: assignment.log_end,
            until,
            committed: assignment.committed,
            failure: None,
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
        if self.started { (self.log_end - self.tracker.position()).max(0) as u64 } else { 0 }
    }

    /// Why it writes nothing at the moment, for people.
    pub fn standstill(&self) -> Option<String> {
        if let Stage::Stuck(reason) = &self.stage {
            return Some(reason.clone());
        }
        match (&self.failure, self.breaker.paused()) {
            (None, false) => None,
            (None, true) => Some(self.breaker.reasons()),
            (Some(failure), false) => Some(format!("retrying: {failure}")),
            (Some(failure), true) => Some(format!("{}: {failure}", self.breaker.reasons())),
        }
    }
}
