//! What goes into the coordinator ([`Event`]) and what comes out of it ([`Action`]), with what these carry.

use std::time::Duration;

use crate::core::assignment::{Assignment, Claim, Claimed};
use crate::core::batcher::Amount;
use crate::core::breaker::BadShare;
use crate::core::partition::LaneId;
use crate::core::record::TopicPartition;
use crate::core::tally::PhaseTimes;
use crate::core::verdict::Failure;

/// A chunk that arrived, without its bytes.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    pub run: u64,
    pub first: i64,
    pub next: i64,
    pub records_max: usize,
    pub bytes: usize,
    pub log_end: i64,
}

/// How the next batch of a lane is to be written.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Orders {
    pub rows_max: usize,
    /// Which attempt this is; 1 is the first.
    pub attempt: u32,
    /// When the oldest record of a first attempt arrived.
    pub waiting_since: Option<Duration>,
    /// Whether a failure without a class counts as a bad record by now.
    pub unclassified: bool,
    /// What was put aside before…
    pub share: BadShare,
    /// …and the most in a hundred that may be.
    pub percent_max: u32,
}

impl Orders {
    /// How many of a batch of `count` records may be put aside.
    pub fn bad_max(&self, count: usize) -> usize {
        self.share.allowance(count, self.percent_max)
    }
}

/// What a worker did with one lane. Every dispatched lane is reported exactly once.
#[derive(Clone, Debug)]
pub struct LaneReport {
    pub lane: LaneId,
    /// Everything below is done; the position it had before, when nothing is.
    pub through: i64,
    /// Chunks taken out of the lane's channel.
    pub chunks: usize,
    /// Records decoded, and records of the log that are none for us.
    pub decoded: u64,
    pub skipped: u64,
    /// What is decoded and not yet written.
    pub waiting_records: usize,
    pub waiting_bytes: usize,
    /// At most so much is left of the chunk that was taken and not decoded to its end.
    pub open: Amount,
    /// Whether the position is behind what was taken, be it only markers.
    pub owes_position: bool,
    /// Records in the batch that was tried; 0 when only the position moved.
    pub attempted: u64,
    pub written: u64,
    pub repeated: u64,
    pub dead_lettered: u64,
    pub written_bytes: u64,
    pub took: Duration,
    pub told: Box<Told>,
    pub failure: Option<Failure>,
    /// The lane's bytes cannot be decoded, or its worker died: it is of no use any more.
    pub ruined: bool,
}

/// What is told about a lane's work and decides nothing.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// What its time went into.
    pub phases: PhaseTimes,
    /// Bytes that its decoded records were inflated to.
    pub inflated_bytes: usize,
    /// The times of the last record done with and of the first one that is not, in milliseconds since the epoch.
    pub written_unix_ms: Option<i64>,
    pub waiting_unix_ms: Option<i64>,
    /// Some of the records that were put aside: their offsets and what was wrong.
    pub letters: Vec<(i64, String)>,
}

impl LaneReport {
    /// Records that are done with, one way or the other.
    pub fn handled(&self) -> u64 {
        self.written + self.dead_lettered
    }
}

/// Everything that can happen.
#[derive(Debug)]
pub enum Event {
    Assigned(Vec<Assignment>),
    /// All that is ours after the last rebalance has been assigned or has failed.
    Settled,
    /// Where the group stands in every partition, also in those of other members.
    Surveyed(Vec<Assignment>),
    Revoked(Vec<TopicPartition>),
    Lost(Vec<TopicPartition>),
    Claimed {
        runs: Vec<u64>,
        result: Result<Vec<Claimed>, Failure>,
    },
    Fetched(Arrival),
    OutOfRange {
        run: u64,
        requested: i64,
        log_start: i64,
        log_end: i64,
    },
    /// `run` is missing where it failed before it could be assigned. `forbidden`: for want of a right.
    PartitionFailed {
        partition: TopicPartition,
        run: Option<u64>,
        forbidden: bool,
        message: String,
    },
    Worked(LaneReport),
    Committed {
        positions: Vec<(TopicPartition, i64)>,
        error: Option<String>,
    },
    Pause(TopicPartition),
    Resume(TopicPartition),
    /// What became of [`Action::NotePause`].
    PauseNoted {
        partition: TopicPartition,
        paused: bool,
        error: Option<String>,
    },
    Stop,
    /// Time has passed.
    Tick,
}

/// Everything the coordinator can want.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// A worker claims these positions.
    Claim {
        runs: Vec<u64>,
        claims: Vec<Claim>,
    },
    /// Lanes are made for a run.
    Open {
        run: u64,
        partition: TopicPartition,
        lanes: usize,
        position: i64,
        claimed: Option<(i64, i64)>,
    },
    /// The lanes of a run are dropped, those at work when they come back.
    Close {
        run: u64,
    },
    /// The source fetches from here on.
    Fetch {
        partition: TopicPartition,
        run: u64,
        offset: i64,
    },
    StopFetching(Vec<TopicPartition>),
    /// The chunk that was just reported goes into the lanes of its run.
    Enqueue {
        run: u64,
    },
    /// The lane goes to the workers.
    Dispatch {
        lane: LaneId,
        orders: Orders,
    },
    /// A worker notes with the position that a person paused or resumed the partition.
    NotePause {
        partition: TopicPartition,
        paused: bool,
    },
    Commit(Vec<(TopicPartition, i64)>),
    /// The source finds out where the whole group stands.
    Survey,
    /// Partitions go back to the group.
    Release {
        partitions: Vec<TopicPartition>,
        positions: Vec<(TopicPartition, i64)>,
    },
    /// The source commits, leaves and ends; then the run is over.
    Finish {
        positions: Vec<(TopicPartition, i64)>,
    },
    OnAssign(Vec<TopicPartition>),
    OnRevoke(Vec<TopicPartition>),
    /// A line for the log.
    Note(log::Level, String),
}
