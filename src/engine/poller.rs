//! The poller: the one thread that owns the source. It passes the loop's commands on, and what the source reports back.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crossbeam::channel::{Receiver, Sender, TryRecvError};

use super::channels::{Command, Report};
use super::watch::Pulse;
use crate::core::record::TopicPartition;
use crate::port::{Source, SourceError, SourceEvent};

/// The longest wait in one poll. Commands wake the source, so this only bounds how late a lost wake-up is noticed.
const POLL_WAIT: Duration = Duration::from_millis(500);

/// The next offset of each partition.
type Positions = Vec<(TopicPartition, i64)>;

/// See the module.
pub(super) struct Poller {
    source: Box<dyn Source>,
    commands: Receiver<Command>,
    reports: Sender<Report>,
    events: Vec<SourceEvent>,
    /// Partitions reported lost, as long as the loop has not taken that in: positions for them were decided before it
    /// knew, and are dropped, lest they be committed over another owner's when the partition has come back meanwhile.
    lost: VecDeque<Vec<TopicPartition>>,
    pulse: Pulse,
}

/// How a turn ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    Open,
    /// The source is closed, or nobody is there to talk to.
    Over,
}

impl Poller {
    pub fn new(source: Box<dyn Source>, commands: Receiver<Command>, reports: Sender<Report>) -> Self {
        Self { source, commands, reports, events: Vec::new(), lost: VecDeque::new(), pulse: Pulse::default() }
    }

    /// Shows life with this pulse.
    pub fn with_pulse(self, pulse: Pulse) -> Self {
        Self { pulse, ..self }
    }

    /// Polls until the source is closed or the loop is gone.
    pub fn run(mut self) {
        while self.turn(POLL_WAIT) == Turn::Open {}
    }

    /// Carries out the commands that wait, then polls once for at most `wait`.
    pub fn turn(&mut self, wait: Duration) -> Turn {
        self.pulse.beat();
        loop {
            match self.commands.try_recv() {
                Ok(Command::Close { positions, deadline }) => return self.close(positions, deadline),
                Ok(command) => self.perform(command),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return Turn::Over,
            }
        }
        self.source.poll(wait, &mut self.events);
        for event in self.events.drain(..) {
            if let SourceEvent::Lost(partitions) = &event {
                self.lost.push_back(partitions.clone());
            }
            if self.reports.send(Report::Source(event)).is_err() {
                return Turn::Over;
            }
        }
        Turn::Open
    }

    /// Whether a command waits to be carried out.
    #[cfg(feature = "testkit")]
    pub fn rung(&self) -> bool {
        !self.commands.is_empty()
    }

    fn perform(&mut self, command: Command) {
        match command {
            Command::Start { partition, run, offset } => self.source.start(&partition, run, offset),
            Command::Stop(partitions) => self.source.stop(&partitions),
            Command::Commit(positions) => self.source.commit(self.not_lost(positions)),
            Command::Survey => self.source.survey(),
            Command::LossTakenIn => drop(self.lost.pop_front()),
            Command::Release { partitions, positions } => {
                let positions = self.not_lost(positions);
                self.source.release(partitions, positions);
            }
            Command::Close { .. } => {}
        }
    }

    fn not_lost(&self, mut positions: Positions) -> Positions {
        positions.retain(|(partition, _)| !self.lost.iter().any(|lost| lost.contains(partition)));
        positions
    }

    fn close(&mut self, positions: Positions, deadline: Duration) -> Turn {
        let positions = self.not_lost(positions);
        let result: Result<(), SourceError> = self.source.close(positions, deadline);
        // The loop may have given up waiting for this.
        let _ = self.reports.send(Report::Closed(result));
        Turn::Over
    }
}

/// The loop's end of the poller's channels.
pub(super) struct SourceLine {
    pub commands: Sender<Command>,
    pub waker: Arc<dyn Fn() + Send + Sync>,
}

impl SourceLine {
    /// Gives a command and wakes the source for it.
    pub fn tell(&self, command: Command) {
        // A poller that has ended has reported so.
        let _ = self.commands.send(command);
        (self.waker)();
    }
}
