//! The only decider: an event goes in, actions come out.
//!
//! The coordinator knows every partition that is ours, what waits in its lanes and what workers hold of it. It handles
//! batches, never single records, and it does nothing itself: `engine::event_loop` performs its [`Action`]s, and tells
//! it what happened as the next [`Event`]. It has no clock and no thread, so the simulator and the tests run it as is.
//!
//! - `starting` — assigned, claimed, started again, revoked, lost
//! - `working` — fetched, dispatched, answered for
//! - `ending` — commits, stops, and knowing when all is done
//! - `reporting` — what is told about all this

mod ending;
mod reporting;
mod starting;
#[cfg(test)]
mod tests;
mod working;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap, VecDeque};
use std::time::Duration;

use super::assignment::{Assignment, Claim, Claimed};
use super::backoff::Chance;
use super::batcher::{Amount, Backlog, BatchLimits};
use super::breaker::{BadShare, Breaker};
use super::histogram::Rate;
use super::partition::{LaneId, Partition, Stage};
use super::record::TopicPartition;
use super::statistics::PutAside;
use super::tally::{PhaseTimes, Tally};
use super::verdict::{Failure, Patience};

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
    PartitionFailed {
        partition: TopicPartition,
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
            Event::PartitionFailed { partition, message } => self.unreadable(&partition, message),
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

    /// A partition's circuit, wherever the partition is.
    fn breaker(&mut self, name: &TopicPartition) -> &mut Breaker {
        match self.partitions.get_mut(name) {
            Some(partition) => &mut partition.breaker,
            None => self.breakers.entry(name.clone()).or_default(),
        }
    }

    fn pause(&mut self, name: TopicPartition) {
        self.breaker(&name).pause();
        self.overrule(&name);
        self.note(log::Level::Info, format!("{name}: paused by the operator"));
        self.park_when_idle(&name);
        self.note_pause(name, true);
    }

    fn resume(&mut self, name: &TopicPartition) {
        self.breaker(name).resume();
        self.overrule(name);
        self.note(log::Level::Info, format!("{name}: resumed by the operator"));
        self.note_pause(name.clone(), false);
        let Some(partition) = self.partitions.get(name) else {
            return;
        };
        let (run, lanes) = (partition.run, partition.lanes.len());
        self.begin_run(run);
        for index in 0..lanes {
            self.consider(LaneId { run, index });
        }
    }

    fn overrule(&mut self, name: &TopicPartition) {
        if let Some(partition) = self.partitions.get_mut(name) {
            partition.overruled = partition.claiming;
        }
    }

    fn note_pause(&mut self, partition: TopicPartition, paused: bool) {
        if self.rules.transactional && self.noting.insert(partition.clone()) {
            self.out.push(Action::NotePause { partition, paused });
        }
    }

    fn pause_noted(&mut self, name: &TopicPartition, paused: bool, error: Option<String>) {
        let wanted = self.breaker(name).paused_by_operator();
        if let Some(error) = error {
            let what = if wanted { "paused" } else { "resumed" };
            self.unnoted.insert(name.clone());
            return self.note(
                log::Level::Warn,
                format!("{name}: the next owner would not know that it is {what}; it is noted again soon: {error}"),
            );
        }
        self.noting.remove(name);
        if wanted != paused {
            // The person changed their mind meanwhile.
            self.note_pause(name.clone(), wanted);
        }
        if let Some(run) = self.partitions.get(name).map(|partition| partition.run) {
            self.begin_run(run);
        }
    }
}
