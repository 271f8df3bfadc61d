//! What passes between the engine's threads, and how full each channel can get.
//!
//! | channel | from → to | bound |
//! |---|---|---|
//! | control | anyone → loop | unbounded: a person's commands |
//! | outcomes | worker → loop | unbounded, but a lane is in one place at a time: at most one outcome per lane |
//! | reports | poller → loop | [`REPORTS_MAX`]; chunks in it are within the source's credit and the byte budget |
//! | commands | loop → poller | unbounded: at most a few per partition between two polls |
//! | jobs (the ready queue) | loop → workers | unbounded, but a lane is in it at most once |
//! | chunks, one per lane | loop → whoever holds the lane | unbounded, but the source's credit allows a few per partition |
//!
//! The loop waits on control, reports and the bell; flume and crossbeam cannot be waited on together, so whoever puts
//! an outcome rings the bell.

use std::sync::Arc;
use std::time::Duration;

use crossbeam::channel::{Receiver, Sender, TrySendError, bounded};

use super::lane::Lane;
use crate::core::assignment::{Claim, Claimed};
use crate::core::coordinator::{LaneReport, Orders};
use crate::core::record::TopicPartition;
use crate::core::statistics::Statistics;
use crate::core::verdict::Failure;
use crate::port::SourceEvent;

/// Reports that may wait for the loop; it needs about a microsecond each, so this only smooths bursts.
pub(super) const REPORTS_MAX: usize = 64;

/// Work for a worker.
pub(super) enum Job {
    /// Write the next batch of a lane. Holding the box is holding the partition: there is only one.
    Write { lane: Box<Lane>, orders: Orders },
    /// Ask the database for positions.
    Claim { runs: Vec<u64>, claims: Vec<Claim> },
    /// Note with the position that a person paused or resumed a partition.
    NotePause { partition: TopicPartition, paused: bool },
}

/// What became of a job. Every job has exactly one.
pub(super) enum Outcome {
    /// The lane comes back, unless it went down with its worker.
    Worked {
        lane: Option<Box<Lane>>,
        report: LaneReport,
    },
    Claimed {
        runs: Vec<u64>,
        result: Result<Vec<Claimed>, Failure>,
    },
    PauseNoted {
        partition: TopicPartition,
        paused: bool,
        result: Result<(), Failure>,
    },
}

/// What people ask for.
pub(super) enum Control {
    Pause(TopicPartition),
    Resume(TopicPartition),
    Statistics(Sender<Statistics>),
    Stop,
    Abandon,
}

/// What the loop wants of the source.
pub(super) enum Command {
    Start {
        partition: TopicPartition,
        run: u64,
        offset: i64,
    },
    Stop(Vec<TopicPartition>),
    Commit(Vec<(TopicPartition, i64)>),
    Survey,
    /// The loop has taken in one more report of lost partitions, in their order.
    LossTakenIn,
    Release {
        partitions: Vec<TopicPartition>,
        positions: Vec<(TopicPartition, i64)>,
    },
    Close {
        positions: Vec<(TopicPartition, i64)>,
        deadline: Duration,
    },
}

/// What the poller tells the loop.
pub(super) enum Report {
    Source(SourceEvent),
    /// The source is closed; nothing follows.
    Closed(Result<(), crate::port::SourceError>),
}

/// Something to wake the loop with. Ringing twice before it looks is ringing once.
#[derive(Clone)]
pub(super) struct Bell(Sender<()>);

impl Bell {
    pub fn new() -> (Bell, Receiver<()>) {
        let (ring, rung) = bounded(1);
        (Bell(ring), rung)
    }

    pub fn ring(&self) {
        match self.0.try_send(()) {
            // Full: it is rung already. Disconnected: the loop has ended and needs no waking.
            Ok(()) | Err(TrySendError::Full(()) | TrySendError::Disconnected(())) => {}
        }
    }
}

/// Where workers put outcomes: never blocks, always wakes the loop.
#[derive(Clone)]
pub(super) struct Outcomes {
    sender: flume::Sender<Outcome>,
    bell: Bell,
}

impl Outcomes {
    pub fn new(bell: Bell) -> (Outcomes, flume::Receiver<Outcome>) {
        let (sender, receiver) = flume::unbounded();
        (Outcomes { sender, bell }, receiver)
    }

    /// Whether the loop is gone.
    pub fn closed(&self) -> bool {
        self.sender.is_disconnected()
    }

    pub fn put(&self, outcome: Outcome) {
        // When the loop is gone the run was abandoned, and nobody asks what became of its work.
        let _ = self.sender.send(outcome);
        self.bell.ring();
    }
}

/// A chunk as it lies in the channels of the sub-lanes that share it.
pub(super) type SharedChunk = Arc<crate::port::Chunk>;
