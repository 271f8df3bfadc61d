//! One process of the group: an engine's turns, and which of its workers hang.

use std::sync::Arc;
use std::time::Duration;

use konekt::core::statistics::Statistics;
use konekt::engine::turns::Turns;
use konekt::engine::{Callbacks, DeadLetterPlaces, EngineError, Handle, Summary};
use konekt::port::{DeadLetters, MemoryBudget};
use konekt::testkit::{Cluster, Database, DatabaseSink, Faults, Journal, LetterBox, MemberSource, VirtualClock};

use crate::scenario::{Place, Scenario};

/// What all processes of a world share.
pub struct Surroundings {
    pub clock: VirtualClock,
    pub cluster: Cluster,
    pub database: Database,
    pub faults: Faults,
    pub journal: Journal,
}

/// See the module.
pub struct Process {
    pub id: u32,
    pub memory: Arc<MemoryBudget>,
    turns: Turns,
    born: Duration,
    /// Until when each worker does nothing.
    hangs: Vec<Duration>,
}

impl Process {
    /// Starts one, which joins the group.
    pub fn start(id: u32, scenario: &Scenario, around: &Surroundings) -> Self {
        let Surroundings { cluster, database, faults, journal, .. } = around;
        let memory = MemoryBudget::new(scenario.memory_limit);
        let source = MemberSource::join(id, cluster, faults, Arc::clone(&memory));
        let clock = around.clock.of_a_process();
        let sink = DatabaseSink {
            process: id,
            database: database.clone(),
            manner: scenario.manner.clone(),
            faults: faults.clone(),
            journal: journal.clone(),
            clock: clock.clone(),
            highest: source.highest(),
        };
        let letters = || -> Arc<dyn DeadLetters> {
            Arc::new(LetterBox { process: id, journal: journal.clone(), faults: faults.clone() })
        };
        let places = DeadLetterPlaces {
            rows: scenario.place == Place::Table,
            letters: (scenario.place == Place::Letters).then(letters),
        };
        let config = scenario.engine(places, Arc::clone(&memory));
        let (seed, born) = (scenario.seed ^ u64::from(id), clock.born());
        let turns = Turns::new(config, Box::new(source), Arc::new(sink), Arc::new(clock), Callbacks::default(), seed);
        let hangs = vec![Duration::ZERO; turns.workers()];
        Self { id, memory, turns, born, hangs }
    }

    /// Those who take turns: the poller, the loop, each worker.
    pub fn actors(&self) -> usize {
        2 + self.turns.workers()
    }

    /// One of them takes a turn.
    pub fn turn(&mut self, actor: usize, now: Duration, chance: u64) {
        match actor {
            0 => self.turns.poll(),
            1 => self.turns.decide(),
            _ => self.work(actor - 2, now, chance),
        }
    }

    /// A worker takes a job, and mostly does it at once.
    fn work(&mut self, worker: usize, now: Duration, chance: u64) {
        if now >= self.hangs[worker] && self.turns.take(worker) && !chance.is_multiple_of(4) {
            self.turns.work(worker);
        }
    }

    /// A worker hangs with what it has in hands.
    pub fn hang(&mut self, worker: u64, until: Duration) {
        let worker = worker as usize % self.hangs.len();
        self.turns.take(worker);
        self.hangs[worker] = until;
    }

    /// Whether nothing can happen here before [`Process::due`].
    pub fn quiet(&self, now: Duration) -> bool {
        !self.turns.rung() && (self.turns.workers_idle() || self.hangs.iter().all(|until| now < *until))
    }

    /// When the loop, or a worker that hangs, wants a turn at the latest.
    pub fn due(&self, now: Duration) -> Duration {
        let ends = self.hangs.iter().filter(|until| **until > now);
        ends.copied().fold(self.born + self.turns.due(), Duration::min)
    }

    /// Whether nothing is ready for a worker or in its hands, and nothing waits for the loop or the poller.
    pub fn at_rest(&self) -> bool {
        self.turns.workers_idle() && !self.turns.rung()
    }

    pub fn over(&self) -> bool {
        self.turns.over()
    }

    pub fn statistics(&mut self) -> Statistics {
        self.turns.statistics()
    }

    pub fn handle(&self) -> Handle {
        self.turns.handle()
    }

    /// The process ends; answers how, and the bytes that are still held.
    pub fn end(self) -> (Result<Summary, EngineError>, usize) {
        let result = self.turns.finish();
        (result, self.memory.used())
    }
}
