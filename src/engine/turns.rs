//! An engine without threads: whoever holds it says who takes the next turn. For simulations.
//!
//! These are the turns of the engine that runs in earnest, wired up by the same code; only the threads, which do nothing
//! but take turns and wait, are left out. The order of turns, the clock and the seed of the waits come from outside, so a
//! run can be repeated to the letter.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::event_loop::EventLoop;
use super::poller::{Poller, Turn};
use super::watch::Place;
use super::worker::Worker;
use super::{Callbacks, EngineConfig, EngineError, Handle, Parts, Summary};
use crate::core::statistics::Statistics;
use crate::port::{Clock, Elapsed, Sink, Source};

/// See the module.
pub struct Turns {
    event_loop: EventLoop,
    poller: Poller,
    polling: bool,
    workers: Vec<(Place, Worker)>,
    handle: Handle,
}

impl Turns {
    /// As [`Engine::start`](super::Engine::start), without threads. `seed` is for the jitter of waits.
    pub fn new(
        config: EngineConfig,
        source: Box<dyn Source>,
        sink: Arc<dyn Sink>,
        clock: Arc<dyn Clock>,
        callbacks: Callbacks,
        seed: u64,
    ) -> Self {
        let Parts { event_loop, poller, places, handle } = Parts::new(config, source, sink, clock, callbacks, seed);
        let staffed = |place: Place| {
            let worker = place.worker();
            (place, worker)
        };
        let workers: Vec<_> = places.into_iter().map(staffed).collect();
        Self { event_loop, poller, polling: true, workers, handle }
    }

    /// The poller's turn: carries out commands and polls the source once, without waiting.
    pub fn poll(&mut self) {
        if self.polling {
            self.polling = self.poller.turn(Elapsed::ZERO) == Turn::Open;
        }
    }

    /// The loop's turn: takes in what waits and decides.
    pub fn decide(&mut self) {
        self.event_loop.turn();
    }

    /// How many workers there are.
    pub fn workers(&self) -> usize {
        self.workers.len()
    }

    /// A worker takes a job into its hands, if one is ready. Answers whether it holds one.
    pub fn take(&mut self, number: usize) -> bool {
        self.workers[number].1.take()
    }

    /// A worker does the job it took. Should it die of that, another takes its place.
    pub fn work(&mut self, number: usize) {
        let (place, worker) = &mut self.workers[number];
        if catch_unwind(AssertUnwindSafe(|| worker.turn())).is_err() {
            place.replaced();
            *worker = place.worker();
        }
    }

    /// Whether no lane and no claim is ready for a worker or in its hands.
    pub fn workers_idle(&self) -> bool {
        self.workers.iter().all(|(place, worker)| place.idle() && !worker.holds())
    }

    /// Whether the loop has something to take in, or the poller something to carry out.
    pub fn rung(&self) -> bool {
        self.event_loop.rung() || (self.polling && self.poller.rung())
    }

    /// When the loop's next turn is due, whatever arrives before.
    pub fn due(&self) -> Elapsed {
        self.event_loop.due()
    }

    /// Whether the run has ended.
    pub fn over(&self) -> bool {
        self.event_loop.over()
    }

    /// A snapshot.
    pub fn statistics(&mut self) -> Statistics {
        self.event_loop.statistics()
    }

    /// Something to steer the run with. Its snapshots need a loop that runs by itself; take [`Turns::statistics`].
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// How it ended, or how it stands.
    ///
    /// # Errors
    /// When the source failed for good.
    pub fn finish(self) -> Result<Summary, EngineError> {
        self.event_loop.summary()
    }
}
