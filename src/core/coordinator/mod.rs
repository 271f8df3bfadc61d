//! The only decider: an event goes in, actions come out.
//!
//! The coordinator knows every partition that is ours, what waits in its lanes and what workers hold of it. It handles
//! batches, never single records, and it does nothing itself: `engine::event_loop` performs its [`Action`]s, and tells
//! it what happened as the next [`Event`]. It has no clock and no thread, so the simulator and the tests run it as is.
//!
//! - `events` — what goes in and what comes out
//! - `starting` — assigned, claimed, started again, revoked, lost
//! - `working` — fetched, dispatched, answered for
//! - `pausing` — paused and resumed by a person
//! - `ending` — commits, stops, and knowing when all is done
//! - `reporting` — what is told about all this

mod ending;
mod events;
mod pausing;
mod reporting;
mod starting;
#[cfg(test)]
mod tests;
mod working;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap, VecDeque};
use std::time::Duration;

pub use self::events::{Action, Arrival, Event, LaneReport, Orders, Told};
use super::backoff::Chance;
use super::batcher::{Backlog, BatchLimits};
use super::breaker::Breaker;
use super::histogram::Rate;
use super::partition::{LaneId, Partition, Stage};
use super::record::TopicPartition;
use super::statistics::PutAside;
use super::tally::Tally;
use super::verdict::Patience;

/// Where to start a partition that has no position yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OffsetReset {
    /// At the first record the log still holds.
    Earliest,
    /// Behind the last one.
    Latest,
    /// Stop with an error instead of choosing.
    Error,
}

/// What the coordinator goes by.
#[derive(Clone, Debug)]
pub struct Rules {
    pub limits: BatchLimits,
    pub patience: Patience,
    /// The most records in a hundred that may be dead letters.
    pub dead_letter_percent_max: u32,
    /// Sub-lanes per partition; 1 when transactional.
    pub lanes: usize,
    /// Whether the database keeps the positions (exactly once).
    pub transactional: bool,
    pub reset: OffsetReset,
    pub commit_interval: Duration,
    /// How long work in flight may take when a partition is revoked or the run stops.
    pub drain_timeout: Duration,
    pub until_end: bool,
    pub max_messages: Option<u64>,
    /// How often the logs' beginnings and ends are asked for.
    pub survey_interval: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    Lane(LaneId),
    Start(u64),
    Commit,
    Survey,
    Handover,
    Stop,
    Observe,
    LogBounds,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Running,
    Stopping { deadline: Duration },
    Finished,
}

/// What is known of the partitions of other members.
#[derive(Debug, Default)]
struct Survey {
    /// A question is out, or was answered just now.
    asked: bool,
    /// At their ends, all of them.
    others_done: bool,
    /// A person was told that we wait for them.
    told: bool,
}

/// A lane at work whose run is closed.
#[derive(Debug)]
struct Leftover {
    partition: TopicPartition,
    /// Records it had decoded.
    decoded: u64,
    /// Its share of `allowance`.
    reserved: u64,
}

/// Partitions on their way back to the group.
#[derive(Debug)]
struct Handover {
    partitions: Vec<TopicPartition>,
    deadline: Duration,
}

/// See the module.
pub struct Coordinator {
    rules: Rules,
    now: Duration,
    phase: Phase,
    partitions: BTreeMap<TopicPartition, Partition>,
    /// In order, so that what is decided does not depend on chance.
    runs: BTreeMap<u64, TopicPartition>,
    next_run: u64,
    handovers: Vec<Handover>,
    /// The wanted end of each partition, as first seen.
    ends: BTreeMap<TopicPartition, i64>,
    /// Whether the group has said who has what; between losing partitions and the next assignment it has not.
    settled_in: bool,
    /// Of the partitions of other members, before the run ends by itself.
    survey: Survey,
    /// The circuits of partitions that are elsewhere, for when they come back.
    breakers: BTreeMap<TopicPartition, Breaker>,
    /// Partitions whose pause is being noted with their position; one note at a time, so that the last one stays…
    noting: BTreeSet<TopicPartition>,
    /// …and those of them whose note failed and is made again.
    unnoted: BTreeSet<TopicPartition>,
    /// Records that may still be handed to workers under `max_messages`.
    allowance: Option<u64>,
    timers: BinaryHeap<Reverse<(Duration, Timer)>>,
    /// Lanes that are still at work although their run is closed.
    limbo: HashMap<LaneId, Leftover>,
    chance: Chance,
    tally: Tally,
    sink: SinkHealth,
    /// What was put aside last.
    letters: VecDeque<PutAside>,
    out: Vec<Action>,
}

/// What the sink's answers say about it.
#[derive(Debug, Default)]
struct SinkHealth {
    reachable: Option<bool>,
    since: Duration,
    failure: Option<String>,
}

/// So many records that were put aside are remembered.
const LETTERS_MAX: usize = 20;

impl Coordinator {
    /// A coordinator without partitions; `seed` is for the jitter of its waits.
    pub fn new(rules: Rules, seed: u64) -> Self {
        let mut timers = BinaryHeap::new();
        timers.push(Reverse((rules.commit_interval, Timer::Commit)));
        timers.push(Reverse((Rate::SPAN, Timer::Observe)));
        timers.push(Reverse((rules.survey_interval, Timer::LogBounds)));
        Self {
            allowance: rules.max_messages,
            rules,
            now: Duration::ZERO,
            phase: Phase::Running,
            partitions: BTreeMap::new(),
            runs: BTreeMap::new(),
            next_run: 1,
            handovers: Vec::new(),
            ends: BTreeMap::new(),
            settled_in: false,
            survey: Survey::default(),
            breakers: BTreeMap::new(),
            noting: BTreeSet::new(),
            unnoted: BTreeSet::new(),
            timers,
            limbo: HashMap::new(),
            chance: Chance::seeded(seed),
            tally: Tally::starting(Duration::ZERO),
            sink: SinkHealth::default(),
            letters: VecDeque::new(),
            out: Vec::new(),
        }
    }

    /// Takes in one event at time `now` and appends what follows to `actions`, to be performed in order.
    pub fn handle(&mut self, now: Duration, event: Event, actions: &mut Vec<Action>) {
        self.now = self.now.max(now);
        match event {
            Event::Assigned(assignments) => self.assigned(assignments),
            Event::Settled => self.settled_in = true,
            Event::Surveyed(assignments) => self.surveyed(&assignments),
            Event::Revoked(partitions) => self.revoked(partitions),
            Event::Lost(partitions) => self.lost(partitions),
            Event::Claimed { runs, result } => self.claimed(&runs, result),
            Event::Fetched(arrival) => self.fetched(&arrival),
            Event::OutOfRange { run, requested, log_start, log_end } => {
                self.out_of_range(run, requested, log_start, log_end);
            }
            Event::PartitionFailed { partition, run: Some(run), forbidden: true, message } if !self.rules.until_end => {
                self.forbidden(&partition, run, message);
            }
            Event::PartitionFailed { partition, run, message, .. } => self.unreadable(&partition, run, message),
            Event::Worked(report) => self.worked(&report),
            Event::Committed { positions, error } => self.committed(positions, error),
            Event::Pause(partition) => self.pause(partition),
            Event::Resume(partition) => self.resume(&partition),
            Event::PauseNoted { partition, paused, error } => self.pause_noted(&partition, paused, error),
            Event::Stop => self.stop(),
            Event::Tick => {}
        }
        self.fire_timers();
        self.settle();
        actions.append(&mut self.out);
    }

    /// When [`Event::Tick`] is due at the latest.
    pub fn deadline(&self) -> Option<Duration> {
        self.timers.peek().map(|Reverse((at, _))| *at)
    }

    /// Whether [`Action::Finish`] was given.
    pub fn finished(&self) -> bool {
        self.phase == Phase::Finished
    }

    /// Whether anything is held by workers, a person's pause that is being noted included.
    pub fn busy(&self) -> bool {
        let is_noting = self.noting.len() > self.unnoted.len();
        is_noting || !self.limbo.is_empty() || self.partitions.values().any(Partition::busy)
    }

    /// Partitions that stand still for good, and why.
    pub fn stuck_partitions(&self) -> HashMap<TopicPartition, String> {
        let stuck = |(name, partition): (&TopicPartition, &Partition)| match &partition.stage {
            Stage::Stuck(reason) => Some((name.clone(), reason.clone())),
            _ => None,
        };
        self.partitions.iter().filter_map(stuck).collect()
    }

    fn fire_timers(&mut self) {
        while self.timers.peek().is_some_and(|Reverse((at, _))| *at <= self.now) {
            let Some(Reverse((_, timer))) = self.timers.pop() else {
                return;
            };
            match timer {
                Timer::Lane(lane) => self.lane_timer(lane),
                Timer::Start(run) => self.begin_run(run),
                Timer::Commit => self.commit(),
                Timer::Survey => self.survey.asked = false,
                Timer::Observe => self.observe(),
                Timer::LogBounds => self.ask_for_log_bounds(),
                // Deadlines of handovers and of the stop are looked at in `settle`.
                Timer::Handover | Timer::Stop => {}
            }
        }
    }

    fn arm(&mut self, at: Duration, timer: Timer) {
        self.timers.push(Reverse((at, timer)));
    }

    fn by_run(&mut self, run: u64) -> Option<&mut Partition> {
        self.partitions.get_mut(self.runs.get(&run)?)
    }

    fn note(&mut self, level: log::Level, text: String) {
        self.out.push(Action::Note(level, text));
    }

    /// Takes a partition out of circulation: its lanes and everything still on its way to them are stale from now on.
    fn close_run(&mut self, name: &TopicPartition) {
        let Some(partition) = self.partitions.get_mut(name) else {
            return;
        };
        let run = partition.run;
        for (index, lane) in partition.lanes.iter_mut().enumerate() {
            let decoded = lane.backlog.decoded_records() as u64;
            if lane.busy {
                let (partition, reserved) = (name.clone(), std::mem::take(&mut lane.reserved));
                self.limbo.insert(LaneId { run, index }, Leftover { partition, decoded, reserved });
            } else {
                self.tally.released(decoded);
            }
            lane.backlog = Backlog::default();
        }
        self.runs.remove(&run);
        self.out.push(Action::Close { run });
    }

    fn give_back(&mut self, reserved: u64) {
        if let Some(allowance) = &mut self.allowance {
            *allowance += reserved;
        }
    }
}
