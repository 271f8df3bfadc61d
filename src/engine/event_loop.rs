//! The one loop that decides.
//!
//! It takes in what happened, control first, outcomes second, the source's reports last, asks `core::coordinator` what
//! follows, and performs that. [`EventLoop::turn`] is bounded and never waits; only [`EventLoop::run`] does. No error
//! leaves the loop: an error is an event. After a fatal one nothing new starts, and it goes on until nothing is in flight.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crossbeam::channel::{Receiver, Select, Sender, TryRecvError, unbounded};
use log::Level;

use super::channels::{Command, Control, Job, Outcome, Report, SharedChunk};
use super::lane::{Lane, LaneSeed};
use super::poller::SourceLine;
use super::watch::Crew;
use super::{Callbacks, EngineConfig, EngineError, Summary};
use crate::core::coordinator::{Action, Arrival, Coordinator, Event, LaneReport, Orders};
use crate::core::identity::RecordIds;
use crate::core::partition::LaneId;
use crate::core::record::TopicPartition;
use crate::core::statistics::{Problem, Statistics};
use crate::port::{Chunk, Clock, Sink, SourceError, SourceEvent};

/// Reports of the source taken per turn, so that control and outcomes never wait behind data for long.
const REPORTS_PER_TURN: usize = 32;
/// How long the poller may take for the last commit and the farewell to the group, beyond the drain.
const CLOSE_DEADLINE: Duration = Duration::from_secs(5);

/// Time between signs of life.
const LIFE_INTERVAL: Duration = Duration::from_secs(1);
/// Time between looks at the workers, however short their time-out.
const LOOK_INTERVAL_MIN: Duration = Duration::from_millis(100);

/// So many problems are remembered.
const PROBLEMS_MAX: usize = 20;

/// The channels the loop listens to and speaks into, and the workers it watches.
pub(super) struct Lines {
    pub control: Receiver<Control>,
    pub outcomes: flume::Receiver<Outcome>,
    pub bell: Receiver<()>,
    pub reports: Receiver<Report>,
    pub crew: Crew,
    pub source: SourceLine,
    pub jobs: Sender<Job>,
}

/// A lane's channel, and the lane itself while no worker holds it.
struct Slot {
    chunks: Sender<SharedChunk>,
    idle: Option<Box<Lane>>,
}

/// See the module.
pub(super) struct EventLoop {
    config: EngineConfig,
    coordinator: Coordinator,
    lines: Lines,
    clock: Arc<dyn Clock>,
    callbacks: Callbacks,
    lanes: HashMap<LaneId, Slot>,
    actions: Vec<Action>,
    /// The chunk of the event being handled.
    arrived: Option<SharedChunk>,
    failure: Option<SourceError>,
    abandoned: bool,
    /// Set when the source was told to close: when waiting for it ends.
    close_by: Option<Duration>,
    closed: bool,
    /// The poller is gone without having closed the source.
    source_is_dead: bool,
    statistics_at: Duration,
    /// When the next sign of life is due, and the next look at the workers.
    alive_at: Duration,
    look_at: Duration,
    /// What went wrong last.
    problems: VecDeque<Problem>,
    /// A person was told that records are not accounted for.
    told_unaccounted: bool,
    /// The sink, for its name and its pool's figures.
    sink: Option<Arc<dyn Sink>>,
}

impl EventLoop {
    pub fn new(
        config: EngineConfig,
        coordinator: Coordinator,
        lines: Lines,
        clock: Arc<dyn Clock>,
        callbacks: Callbacks,
    ) -> Self {
        let statistics_at = config.stats_interval;
        Self {
            config,
            coordinator,
            lines,
            clock,
            callbacks,
            lanes: HashMap::new(),
            actions: Vec::new(),
            arrived: None,
            failure: None,
            abandoned: false,
            close_by: None,
            closed: false,
            source_is_dead: false,
            statistics_at,
            alive_at: Duration::ZERO,
            look_at: Duration::ZERO,
            problems: VecDeque::new(),
            told_unaccounted: false,
            sink: None,
        }
    }

    /// Tells of this sink in its statistics.
    pub fn told_of(self, sink: &Arc<dyn Sink>) -> Self {
        Self { sink: Some(Arc::clone(sink)), ..self }
    }

    /// Runs to the end. Dropping the loop then closes all channels, and that ends the other threads.
    pub fn run(mut self) -> Result<Summary, EngineError> {
        while !self.over() {
            self.turn();
            if !self.over() {
                self.wait();
            }
        }
        self.summary()
    }

    /// Whether the run has ended.
    pub fn over(&self) -> bool {
        let late = self.close_by.is_some_and(|by| self.source_is_dead || self.clock.elapsed() >= by);
        self.abandoned || self.closed || late
    }

    /// Whether something waits to be taken in.
    #[cfg(feature = "testkit")]
    pub fn rung(&self) -> bool {
        let lines = &self.lines;
        !(lines.control.is_empty() && lines.outcomes.is_empty() && lines.reports.is_empty())
    }

    /// Takes in everything that waits, up to a bound.
    pub fn turn(&mut self) {
        while let Ok(control) = self.lines.control.try_recv() {
            self.control(control);
        }
        while let Ok(outcome) = self.lines.outcomes.try_recv() {
            self.outcome(outcome);
        }
        for _ in 0..REPORTS_PER_TURN {
            match self.lines.reports.try_recv() {
                Ok(report) => self.report(report),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => {
                    self.source_died();
                    break;
                }
            }
        }
        self.handle(Event::Tick);
        self.publish();
        self.watch();
        self.show_life();
    }

    /// Waits until something arrives or a deadline passes.
    fn wait(&self) {
        let lines = &self.lines;
        if !lines.outcomes.is_empty() {
            return;
        }
        let wait = self.due().saturating_sub(self.clock.elapsed());
        let mut select = Select::new();
        select.recv(&lines.control);
        select.recv(&lines.bell);
        if !self.source_is_dead {
            select.recv(&lines.reports);
        }
        if select.ready_timeout(wait).is_ok() {
            // The bell only says "look"; whatever it rang for is in the channels.
            let _ = lines.bell.try_recv();
        }
    }

    /// When the next turn is due, whatever arrives before.
    pub fn due(&self) -> Duration {
        let alive_at = self.callbacks.on_alive.is_some().then_some(self.alive_at);
        let dues = [self.coordinator.deadline(), Some(self.look_at), alive_at, self.close_by];
        dues.into_iter().flatten().fold(self.statistics_at, Duration::min)
    }

    fn control(&mut self, control: Control) {
        match control {
            Control::Pause(partition) => self.handle(Event::Pause(partition)),
            Control::Resume(partition) => self.handle(Event::Resume(partition)),
            Control::Statistics(reply) => {
                let statistics = self.statistics();
                // Whoever asked may have stopped waiting.
                let _ = reply.send(statistics);
            }
            Control::Stop => self.handle(Event::Stop),
            Control::Abandon => self.abandoned = true,
        }
    }

    fn outcome(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Worked { lane, report } => self.worked(lane, report),
            Outcome::Claimed { runs, result } => self.handle(Event::Claimed { runs, result }),
            Outcome::PauseNoted { partition, paused, result } => {
                let error = result.err().map(|failure| failure.message);
                self.handle(Event::PauseNoted { partition, paused, error });
            }
        }
    }

    fn worked(&mut self, lane: Option<Box<Lane>>, report: LaneReport) {
        // A lane whose run was closed meanwhile has no slot any more and ends here.
        if let (Some(lane), Some(slot)) = (lane, self.lanes.get_mut(&report.lane)) {
            slot.idle = Some(lane);
        }
        self.handle(Event::Worked(report));
    }

    fn report(&mut self, report: Report) {
        match report {
            Report::Source(event) => self.source_event(event),
            Report::Closed(result) => {
                self.closed = true;
                if let Err(error) = result {
                    self.say(Level::Warn, format!("while leaving: {error}"));
                }
            }
        }
    }

    /// The poller sends a last report unless it panicked. What is in flight is finished; nobody is there to commit.
    fn source_died(&mut self) {
        if !self.closed && !std::mem::replace(&mut self.source_is_dead, true) {
            let message = "thread konekt-poll died of a panic; this is a defect, please report it".to_owned();
            self.source_event(SourceEvent::Failed(SourceError { message, unavailable: false }));
        }
    }

    fn source_event(&mut self, event: SourceEvent) {
        match event {
            SourceEvent::Assigned(assignments) => self.handle(Event::Assigned(assignments)),
            SourceEvent::Settled => self.handle(Event::Settled),
            SourceEvent::Surveyed(assignments) => self.handle(Event::Surveyed(assignments)),
            SourceEvent::Revoked(partitions) => self.handle(Event::Revoked(partitions)),
            SourceEvent::Lost(partitions) => {
                self.handle(Event::Lost(partitions));
                self.lines.source.tell(Command::LossTakenIn);
            }
            SourceEvent::Fetched(chunk) => self.fetched(chunk),
            SourceEvent::OutOfRange { run, requested, log_start, log_end, .. } => {
                self.handle(Event::OutOfRange { run, requested, log_start, log_end });
            }
            SourceEvent::Committed { positions, result } => {
                let error = result.err().map(|error| error.message);
                self.handle(Event::Committed { positions, error });
            }
            SourceEvent::PartitionFailed { partition, run, forbidden, error } => {
                self.handle(Event::PartitionFailed { partition, run, forbidden, message: error.message });
            }
            SourceEvent::Trouble(error) => self.say(Level::Warn, error.to_string()),
            SourceEvent::Failed(error) => {
                self.say(Level::Error, error.to_string());
                self.failure.get_or_insert(error);
                self.handle(Event::Stop);
            }
        }
    }

    fn fetched(&mut self, chunk: Chunk) {
        let Chunk { run, first, next, records_max, log_end, .. } = chunk;
        let arrival = Arrival { run, first, next, records_max, bytes: chunk.records.bytes(), log_end };
        self.arrived = Some(Arc::new(chunk));
        self.handle(Event::Fetched(arrival));
        // Not wanted any more: dropping it gives its memory and credit back.
        self.arrived = None;
    }

    fn handle(&mut self, event: Event) {
        let mut actions = std::mem::take(&mut self.actions);
        self.coordinator.handle(self.clock.elapsed(), event, &mut actions);
        for action in actions.drain(..) {
            self.perform(action);
        }
        self.actions = actions;
    }

    fn perform(&mut self, action: Action) {
        let tell = |command| self.lines.source.tell(command);
        match action {
            Action::Claim { runs, claims } => self.put(Job::Claim { runs, claims }),
            Action::Open { run, partition, lanes, position, claimed } => {
                self.open(run, &partition, lanes, position, claimed);
            }
            Action::Close { run } => self.lanes.retain(|id, _| id.run != run),
            Action::Fetch { partition, run, offset } => tell(Command::Start { partition, run, offset }),
            Action::StopFetching(partitions) => tell(Command::Stop(partitions)),
            Action::Enqueue { run } => self.enqueue(run),
            Action::Dispatch { lane, orders } => self.dispatch(lane, orders),
            Action::NotePause { partition, paused } => self.put(Job::NotePause { partition, paused }),
            Action::Commit(positions) => tell(Command::Commit(positions)),
            Action::Survey => tell(Command::Survey),
            Action::Release { partitions, positions } => tell(Command::Release { partitions, positions }),
            Action::Finish { positions } => self.finish(positions),
            Action::OnAssign(partitions) => call(&mut self.callbacks.on_assign, &partitions),
            Action::OnRevoke(partitions) => call(&mut self.callbacks.on_revoke, &partitions),
            Action::Note(level, text) => self.say(level, text),
        }
    }

    /// The one place that logs what happens and remembers what went wrong.
    fn say(&mut self, level: Level, text: String) {
        log::log!(level, "{text}");
        if level <= Level::Warn {
            if self.problems.len() == PROBLEMS_MAX {
                self.problems.pop_front();
            }
            self.problems.push_back(Problem {
                at_unix_ms: self.clock.unix_ms(),
                is_error: level == Level::Error,
                text,
            });
        }
    }

    fn open(
        &mut self,
        run: u64,
        partition: &TopicPartition,
        shares: usize,
        position: i64,
        claimed: Option<(i64, i64)>,
    ) {
        let ids = RecordIds::new(&self.config.group_id, partition);
        for index in 0..shares {
            let id = LaneId { run, index };
            let (chunks, receiver) = unbounded();
            let memory = Arc::clone(&self.config.memory);
            let seed = LaneSeed { id, partition: partition.clone(), ids, shares, position, claimed, memory };
            let idle = Some(Box::new(Lane::new(seed, receiver)));
            self.lanes.insert(id, Slot { chunks, idle });
        }
    }

    fn enqueue(&mut self, run: u64) {
        let Some(chunk) = self.arrived.take() else {
            return;
        };
        let slots = (0..).map_while(|index| self.lanes.get(&LaneId { run, index }));
        for slot in slots {
            // The receiver lives in the lane; a lane lost with its worker is started over by the coordinator.
            let _ = slot.chunks.send(Arc::clone(&chunk));
        }
    }

    fn dispatch(&mut self, id: LaneId, orders: Orders) {
        let lane = self.lanes.get_mut(&id).and_then(|slot| slot.idle.take());
        debug_assert!(lane.is_some(), "lane {id} was dispatched twice");
        if let Some(lane) = lane {
            self.put(Job::Write { lane, orders });
        }
    }

    fn put(&self, job: Job) {
        // Workers outlive the loop, so somebody is always there to take it.
        let _ = self.lines.jobs.send(job);
    }

    fn finish(&mut self, positions: Vec<(TopicPartition, i64)>) {
        self.close_by = Some(self.clock.elapsed() + CLOSE_DEADLINE + Duration::from_secs(1));
        self.lines.source.tell(Command::Close { positions, deadline: CLOSE_DEADLINE });
    }

    pub fn statistics(&mut self) -> Statistics {
        let now = self.clock.elapsed();
        let memory = &self.config.memory;
        let mut statistics = self.coordinator.statistics(now, self.clock.unix_ms(), memory.used());
        statistics.memory.limit_bytes = memory.limit();
        statistics.workers_stuck = self.look(now);
        let crew = &mut self.lines.crew;
        statistics.workers_replaced = crew.replaced();
        statistics.source_silent_seconds = crew.poller_silence(now).as_secs_f64();
        (statistics.workers, statistics.workers_busy) = crew.count();
        if let Some(sink) = &self.sink {
            statistics.sink.name = sink.traits().name;
            statistics.pool = sink.pool();
        }
        if statistics.records_unaccounted != 0 && !std::mem::replace(&mut self.told_unaccounted, true) {
            let text = format!(
                "{} records that were read are neither written nor dead-lettered, in flight or released; this is a \
                 defect, please report it",
                statistics.records_unaccounted
            );
            self.say(Level::Error, text);
        }
        statistics.problems = self.problems.iter().cloned().collect();
        statistics
    }

    /// Says which workers hang, and counts them.
    fn look(&mut self, now: Duration) -> usize {
        let stuck = self.lines.crew.stuck(now);
        let count = stuck.len();
        stuck.into_iter().filter_map(|(_, sentence)| sentence).for_each(|sentence| self.say(Level::Error, sentence));
        count
    }

    fn watch(&mut self) {
        let now = self.clock.elapsed();
        if now >= self.look_at {
            self.look(now);
            self.lines.crew.poller_silence(now);
            // Late by a quarter at most.
            self.look_at = now + (self.lines.crew.timeout() / 4).max(LOOK_INTERVAL_MIN);
        }
    }

    fn show_life(&mut self) {
        let now = self.clock.elapsed();
        if let Some(callback) = &mut self.callbacks.on_alive
            && now >= self.alive_at
        {
            self.alive_at = now + LIFE_INTERVAL;
            callback();
        }
    }

    fn publish(&mut self) {
        let now = self.clock.elapsed();
        if now < self.statistics_at {
            return;
        }
        self.statistics_at = now + self.config.stats_interval;
        let statistics = self.statistics();
        if let Some(callback) = &mut self.callbacks.on_statistics {
            callback(&statistics);
        }
    }

    /// How it ended.
    pub fn summary(mut self) -> Result<Summary, EngineError> {
        let statistics = self.statistics();
        match self.failure.take() {
            Some(SourceError { message, unavailable }) => {
                Err(EngineError { message, unavailable, statistics: Box::new(statistics) })
            }
            None => Ok(Summary { statistics, abandoned: self.abandoned, stuck: self.coordinator.stuck_partitions() }),
        }
    }
}

fn call(callback: &mut Option<super::PartitionsCallback>, partitions: &[TopicPartition]) {
    if let Some(callback) = callback {
        callback(partitions);
    }
}
