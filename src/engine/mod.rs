//! The engine: one loop that decides, a poller that reads, workers that write. It names no adapter.
//!
//! ```text
//! source ─▶ poller ─reports─▶ loop ─lanes (ready queue)─▶ workers ─▶ sink
//!              ▲                │ ▲                          │
//!              └───commands─────┘ └────────outcomes──────────┘
//! ```
//!
//! Ends of threads: the loop ends when its coordinator is finished and the source is closed; dropping it closes the
//! ready queue, on which the workers end, and the commands, on which the poller ends. [`Engine::join`] joins them all.
#![warn(missing_docs)]

mod channels;
mod event_loop;
mod isolate;
mod lane;
mod poller;
#[cfg(feature = "testkit")]
pub mod turns;
mod watch;
mod worker;

use std::collections::HashMap;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam::channel::{Sender, bounded, unbounded};

use self::channels::{Bell, Control, Outcomes, REPORTS_MAX};
use self::event_loop::{EventLoop, Lines};
use self::poller::{Poller, SourceLine};
use self::watch::{Crew, Place, Pulse};
use self::worker::Outfit;
use crate::core::batcher::BatchLimits;
pub use crate::core::coordinator::OffsetReset;
use crate::core::coordinator::{Coordinator, Rules};
use crate::core::record::TopicPartition;
use crate::core::statistics::Statistics;
use crate::core::verdict::Patience;
use crate::door;
use crate::port::{Clock, DeadLetters, MemoryBudget, Sink, Source};

/// What is promised about each record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Delivery {
    /// Rows and position in one database transaction.
    ExactlyOnce,
    /// Write, then commit the offset in Kafka.
    AtLeastOnce,
}

/// How a run behaves; checked by whoever makes it.
#[derive(Clone)]
pub struct EngineConfig {
    /// The consumer group; it is part of every record id.
    pub group_id: Arc<str>,
    /// What is promised about each record.
    pub delivery: Delivery,
    /// Where to start a partition without a position.
    pub auto_offset_reset: OffsetReset,
    /// Threads that write, as far as the sink takes so many.
    pub max_workers: usize,
    /// Sub-lanes per partition, by key; 1 in exactly-once mode.
    pub partition_workers: usize,
    /// Most records in one batch.
    pub batch_size: usize,
    /// Most bytes of keys, values and headers in one batch (one larger record still passes, alone).
    pub batch_bytes_max: usize,
    /// Longest a record waits for company.
    pub batch_timeout: Duration,
    /// Attempts after the first before a failure without a class counts as bad data…
    pub max_retries: u32,
    /// …with this wait before the first of them; it doubles.
    pub retry_backoff: Duration,
    /// Failed attempts in a row that pause a partition…
    pub error_threshold: u32,
    /// …for so long, before a probe.
    pub error_timeout: Duration,
    /// Where records go that cannot be written.
    pub dead_letters: DeadLetterPlaces,
    /// The most records in a hundred that may be dead letters before their table or handler is held to be at fault.
    pub dead_letter_share_max: u32,
    /// A worker that does one thing for longer is reported.
    pub message_timeout: Duration,
    /// Time between commits of the group's offsets.
    pub commit_interval: Duration,
    /// Time between snapshots, and looks at where the logs begin and end.
    pub stats_interval: Duration,
    /// How long work in flight may take when the run stops or a partition goes.
    pub shutdown_timeout: Duration,
    /// Stop by itself at the ends seen when each partition was first assigned.
    pub until_end: bool,
    /// Stop by itself after this many records.
    pub max_messages: Option<u64>,
    /// Bytes that records may hold; the source draws from the same.
    pub memory: Arc<MemoryBudget>,
}

/// Where records go that cannot be written, the first that can take them. None at all: their partition pauses.
#[derive(Clone, Default)]
pub struct DeadLetterPlaces {
    /// The message table, where the sink has one.
    pub rows: bool,
    /// Elsewhere.
    pub letters: Option<Arc<dyn DeadLetters>>,
}

/// Called with the partitions that came or went.
pub type PartitionsCallback = Box<dyn FnMut(&[TopicPartition]) + Send>;
/// Called as a sign of life.
pub type AliveCallback = Box<dyn FnMut() + Send>;
/// Called with a snapshot.
pub type StatisticsCallback = Box<dyn FnMut(&Statistics) + Send>;

/// Called on the engine's own thread; they must return soon, since nothing is decided meanwhile.
#[derive(Default)]
pub struct Callbacks {
    /// Before the first write of these partitions.
    pub on_assign: Option<PartitionsCallback>,
    /// After the last write of these partitions, before they are let go.
    pub on_revoke: Option<PartitionsCallback>,
    /// Once per `stats_interval`.
    pub on_statistics: Option<StatisticsCallback>,
    /// About once a second, as long as the engine decides.
    pub on_alive: Option<AliveCallback>,
}

/// A running engine, seen from any thread. Clones speak to the same run; once it has ended, commands do nothing.
#[derive(Clone)]
pub struct Handle {
    control: Sender<Control>,
    last: Arc<parking_lot::Mutex<Statistics>>,
}

impl Handle {
    /// A snapshot made now; after the end of the run, the last one.
    pub fn stats(&self) -> Statistics {
        let (reply, answer) = bounded(1);
        self.tell(Control::Statistics(reply));
        match answer.recv_timeout(STATISTICS_WAIT) {
            Ok(statistics) => {
                self.last.lock().clone_from(&statistics);
                statistics
            }
            Err(_) => self.last.lock().clone(),
        }
    }

    /// Starts no further write for the partition until [`resume`](Self::resume); one that is under way is finished.
    ///
    /// Where the database keeps the position, the pause stands there too: it outlives a restart, and whoever owns the
    /// partition next keeps to it. Elsewhere it ends with this process. A partition that another process owns at the
    /// moment goes on there until it changes hands.
    pub fn pause(&self, partition: &TopicPartition) {
        self.tell(Control::Pause(partition.clone()));
    }

    /// Lifts [`pause`](Self::pause), and only that: a partition paused for its errors stays so.
    pub fn resume(&self, partition: &TopicPartition) {
        self.tell(Control::Resume(partition.clone()));
    }

    /// Finishes what is in flight, commits, leaves the group. Returns at once; [`Engine::join`] waits.
    pub fn stop(&self) {
        self.tell(Control::Stop);
    }

    /// Ends at once; what was not committed will be read again.
    pub fn abandon(&self) {
        self.tell(Control::Abandon);
    }

    fn tell(&self, control: Control) {
        // Without a loop there is nothing left to steer.
        let _ = self.control.send(control);
    }
}

/// The brokers are not asked more often where the logs begin and end.
const SURVEY_INTERVAL_MIN: Duration = Duration::from_secs(1);

/// A commit that is due again at once would leave the loop no time for anything else.
const COMMIT_INTERVAL_MIN: Duration = Duration::from_millis(10);
/// The loop answers within microseconds unless a callback holds it up.
const STATISTICS_WAIT: Duration = Duration::from_secs(5);

/// How a run ended.
#[derive(Clone, Debug)]
pub struct Summary {
    /// The last snapshot.
    pub statistics: Statistics,
    /// Abandoned with work in flight.
    pub abandoned: bool,
    /// Partitions that stand still for good and why (gap, unreadable, no position and `auto_offset_reset = error`).
    pub stuck: HashMap<TopicPartition, String>,
}

/// Why a run ended early.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct EngineError {
    /// What happened, where, and what to do.
    pub message: String,
    /// A needed service is not there (exit code 3) rather than a failure while running (1).
    pub unavailable: bool,
    /// The last snapshot.
    pub statistics: Box<Statistics>,
}

/// A started run, owned by whoever waits for its end.
pub struct Engine {
    handle: Handle,
    event_loop: JoinHandle<Result<Summary, EngineError>>,
    poller: JoinHandle<()>,
    workers: Vec<JoinHandle<()>>,
}

impl Engine {
    /// Starts all threads: `konekt-loop`, `konekt-poll` and `konekt-worker-N`. Writers are opened on the workers' threads
    /// when there is something to write.
    pub fn start(
        config: EngineConfig,
        source: Box<dyn Source>,
        sink: Arc<dyn Sink>,
        clock: Arc<dyn Clock>,
        callbacks: Callbacks,
    ) -> Engine {
        let Parts { event_loop, poller, places, handle } =
            Parts::new(config, source, sink, clock, callbacks, door::random());
        let poller = door::spawn("konekt-poll", move || poller.run());
        let worker =
            |(number, place): (usize, Place)| door::spawn(format!("konekt-worker-{number}"), move || place.run());
        let workers = places.into_iter().enumerate().map(worker).collect();
        let event_loop = door::spawn("konekt-loop", move || event_loop.run());
        Engine { handle, event_loop, poller, workers }
    }

    /// Something to steer the run with, from any thread.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Waits for the end of the run and of all its threads.
    ///
    /// After an abandoned run, or one whose work in flight did not end within `shutdown_timeout`, threads that hang in
    /// a call of a sink are left behind: nothing can end such a call from outside.
    ///
    /// # Errors
    /// When the source failed for good.
    ///
    /// # Panics
    /// When the loop panicked, which is a defect.
    pub fn join(self) -> Result<Summary, EngineError> {
        let result = match self.event_loop.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        let statistics = match &result {
            Ok(summary) => summary.statistics.clone(),
            Err(error) => (*error.statistics).clone(),
        };
        *self.handle.last.lock() = statistics;
        let patience = door::now() + JOIN_WAIT;
        for thread in self.workers.into_iter().chain([self.poller]) {
            join_by(thread, patience);
        }
        result
    }
}

/// How long threads without work may take to end.
const JOIN_WAIT: Duration = Duration::from_secs(2);

fn join_by(thread: JoinHandle<()>, patience: std::time::Instant) {
    while !thread.is_finished() && door::now() < patience {
        door::sleep(Duration::from_millis(2));
    }
    let name = thread.thread().name().unwrap_or("unnamed").to_owned();
    if !thread.is_finished() {
        log::warn!("thread {name} hangs and is left behind");
    } else if thread.join().is_err() {
        log::error!("thread {name} panicked; this is a defect, please report it");
    }
}

/// Everything of an engine but its threads, wired up.
struct Parts {
    event_loop: EventLoop,
    poller: Poller,
    places: Vec<Place>,
    handle: Handle,
}

impl Parts {
    /// `seed` is for the jitter of waits.
    fn new(
        config: EngineConfig,
        source: Box<dyn Source>,
        sink: Arc<dyn Sink>,
        clock: Arc<dyn Clock>,
        callbacks: Callbacks,
        seed: u64,
    ) -> Parts {
        let traits = sink.traits();
        let coordinator = Coordinator::new(rules(&config, traits.transactional), seed);
        let (bell, rung) = Bell::new();
        let (outcomes, outcome_receiver) = Outcomes::new(bell);
        let (control, control_receiver) = unbounded();
        let (jobs, job_receiver) = unbounded();
        let (commands, command_receiver) = unbounded();
        let (reports, report_receiver) = bounded(REPORTS_MAX);

        let waker = source.waker();
        let pulse = Pulse::default();
        let poller = Poller::new(source, command_receiver, reports).with_pulse(pulse.clone());
        let count = config.max_workers.clamp(1, traits.writers_max.max(1));
        let crew = Crew::new(count, config.message_timeout).watching(pulse);
        let place = |number| {
            let (sink, clock, desk) = (Arc::clone(&sink), Arc::clone(&clock), crew.desk(number));
            let (places, batch_bytes_max) = (config.dead_letters.clone(), config.batch_bytes_max);
            let outfit = Outfit { sink, places, clock, desk, batch_bytes_max };
            crew.place(number, outfit, job_receiver.clone(), outcomes.clone())
        };
        let places = (0..count).map(place).collect();
        let lines = Lines {
            control: control_receiver,
            outcomes: outcome_receiver,
            bell: rung,
            reports: report_receiver,
            crew,
            source: SourceLine { commands, waker },
            jobs,
        };
        let event_loop = EventLoop::new(config, coordinator, lines, clock, callbacks).told_of(&sink);
        let handle = Handle { control, last: Arc::default() };
        Parts { event_loop, poller, places, handle }
    }
}

fn rules(config: &EngineConfig, sink_is_transactional: bool) -> Rules {
    let transactional = sink_is_transactional && config.delivery == Delivery::ExactlyOnce;
    if transactional && config.partition_workers > 1 {
        log::info!("partition_workers is 1 in exactly-once mode: the position row orders the writes of a partition");
    }
    Rules {
        limits: BatchLimits {
            rows_max: config.batch_size.max(1),
            bytes_max: config.batch_bytes_max.max(1),
            wait_max: config.batch_timeout,
        },
        patience: Patience {
            max_retries: config.max_retries,
            retry_backoff: config.retry_backoff,
            error_threshold: config.error_threshold,
            error_timeout: config.error_timeout,
        },
        dead_letter_percent_max: config.dead_letter_share_max,
        lanes: if transactional { 1 } else { config.partition_workers.max(1) },
        transactional,
        reset: config.auto_offset_reset,
        commit_interval: config.commit_interval.max(COMMIT_INTERVAL_MIN),
        drain_timeout: config.shutdown_timeout,
        until_end: config.until_end,
        max_messages: config.max_messages,
        survey_interval: config.stats_interval.max(SURVEY_INTERVAL_MIN),
    }
}
