//! What the engine asks of the world: a [`Source`] of records, a [`Sink`] for them, [`DeadLetters`] for those that no
//! sink can take, a [`Clock`], and the [`MemoryBudget`] that everyone draws from. Adapters implement these traits; the
//! engine knows nothing else of them.
#![warn(missing_docs)]

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::core::identity::RecordIds;
use crate::core::record::{Encoded, MessageBatch, Record, TopicPartition};
use crate::core::statistics::PoolStatistics;
use crate::core::tally::PhaseTimes;
use crate::core::verdict::{ErrorClass, ErrorCode};
use parking_lot::{Condvar, Mutex};

pub use crate::core::assignment::{Assignment, Claim, Claimed};

/// Time since the engine started; it never goes back.
pub type Elapsed = Duration;

/// The only clock the engine sees; the simulator has one of its own.
pub trait Clock: Send + Sync {
    /// Monotonic time.
    fn elapsed(&self) -> Elapsed;
    /// Wall-clock milliseconds since the Unix epoch, for rows and reports.
    fn unix_ms(&self) -> i64;
}

// ---------------------------------------------------------------------------------------------- source

/// A run of records as fetched: consecutive in the log, still encoded.
pub struct Chunk {
    /// Where they come from.
    pub partition: TopicPartition,
    /// The number given to [`Source::start`]; a chunk from an earlier start is stale.
    pub run: u64,
    /// The offset that was asked for; records below it may be in the bytes and do not count.
    pub first: i64,
    /// The offset after the last one covered, whether or not a record stands there.
    pub next: i64,
    /// The most records there can be in it.
    pub records_max: usize,
    /// The partition's visible end when this was fetched.
    pub log_end: i64,
    /// The records. Dropping it gives back the memory and the partition's credit to fetch more.
    pub records: Arc<dyn Encoded>,
}

impl fmt::Debug for Chunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Chunk({}#{} {}..{}, {} bytes)",
            self.partition,
            self.run,
            self.first,
            self.next,
            self.records.bytes()
        )
    }
}

/// What a source reports, in the order it happened.
#[derive(Debug)]
pub enum SourceEvent {
    /// These partitions are ours from now on, beside those we have. A rebalance may hand them out in several such events,
    /// as Kafka says where they stand.
    Assigned(Vec<Assignment>),
    /// The last rebalance is through: all that is ours has been assigned or has failed, be it nothing. Every rebalance
    /// ends with this.
    Settled,
    /// These partitions go to another member. The group waits for [`Source::release`].
    Revoked(Vec<TopicPartition>),
    /// These partitions are gone already: another member may have them. Nothing may be committed for them.
    Lost(Vec<TopicPartition>),
    /// The answer to [`Source::survey`].
    Surveyed(Vec<Assignment>),
    /// Records came.
    Fetched(Chunk),
    /// The offset asked for is not in the log. The partition stands still until it is started again.
    OutOfRange {
        /// Whose log.
        partition: TopicPartition,
        /// The number given to [`Source::start`].
        run: u64,
        /// What was asked for.
        requested: i64,
        /// What the log holds: from here…
        log_start: i64,
        /// …to before this.
        log_end: i64,
    },
    /// A commit was answered.
    Committed {
        /// What was to be committed.
        positions: Vec<(TopicPartition, i64)>,
        /// What became of it.
        result: Result<(), SourceError>,
    },
    /// One partition cannot be read (deleted, not authorized, corrupt); others go on.
    PartitionFailed {
        /// Which one.
        partition: TopicPartition,
        /// The number given to [`Source::start`]; none where it failed before it could be assigned.
        run: Option<u64>,
        /// Whether it is for want of a right, so that it may be started again later: who took the right away may give it
        /// back.
        forbidden: bool,
        /// Why.
        error: SourceError,
    },
    /// Something went wrong and is being retried by the source.
    Trouble(SourceError),
    /// The source cannot go on.
    Failed(SourceError),
}

/// What went wrong at the source, in words for a person: what was tried, where, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SourceError {
    /// What was tried, where, what the other side said, and what to do.
    pub message: String,
    /// Whether the cause is that a needed service is not there (exit code 3) rather than a failure while running.
    pub unavailable: bool,
}

/// Ends a wait in [`Source::poll`] early, from any thread.
pub type Waker = Arc<dyn Fn() + Send + Sync>;

/// Where records come from. One thread owns it and polls it; only [`Waker`] crosses threads.
pub trait Source: Send {
    /// Waits up to `wait` for something to report and appends it to `events`. Returns early once woken.
    fn poll(&mut self, wait: Duration, events: &mut Vec<SourceEvent>);

    /// Starts fetching an assigned partition at `offset`. `run` comes back in each of its chunks. Starting a started
    /// partition again moves it.
    fn start(&mut self, partition: &TopicPartition, run: u64, offset: i64);

    /// Stops fetching; chunks already on their way may still be reported.
    fn stop(&mut self, partitions: &[TopicPartition]);

    /// Commits the group's offsets without waiting; the answer comes as [`SourceEvent::Committed`].
    fn commit(&mut self, positions: Vec<(TopicPartition, i64)>);

    /// Asks where the group stands in all partitions that are read, ours and those of other members. The answer comes as
    /// [`SourceEvent::Surveyed`], or not at all when somebody could not be asked: then ask again.
    fn survey(&mut self);

    /// Answers [`SourceEvent::Revoked`]: what was read of these partitions is written, and `positions` (of these and
    /// any others) are to be committed before they are let go.
    fn release(&mut self, partitions: Vec<TopicPartition>, positions: Vec<(TopicPartition, i64)>);

    /// Commits `positions`, leaves the group and ends all threads, within `deadline`.
    fn close(&mut self, positions: Vec<(TopicPartition, i64)>, deadline: Duration) -> Result<(), SourceError>;

    /// Something to end a wait in [`poll`](Self::poll) with.
    fn waker(&self) -> Waker;
}

// ------------------------------------------------------------------------------------------------ sink

/// What the engine may expect of a sink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinkTraits {
    /// How it is called in messages: `sqlite konekt.db`.
    pub name: String,
    /// The most writers that help; 1 for a file with a single writer.
    pub writers_max: usize,
    /// How many partitions' batches it likes in one write.
    pub batches_per_write: usize,
    /// Whether rows and position are committed together; without it delivery is at least once.
    pub transactional: bool,
}

/// Where records go. Shared by all workers; each has a [`Writer`] of its own.
pub trait Sink: Send + Sync {
    /// What it can do.
    fn traits(&self) -> SinkTraits;

    /// Opens a writer. Called on the worker's thread, again after a writer was given up.
    ///
    /// # Errors
    /// When the database cannot be reached or its tables neither fit nor can be made.
    fn writer(&self) -> Result<Box<dyn Writer>, SinkError>;

    /// How its pool of connections does, where it has one.
    fn pool(&self) -> Option<PoolStatistics> {
        None
    }

    /// In a dry run: the tables or collections that are absent and that a run would make, as far as they were looked for.
    fn absent(&self) -> Vec<String> {
        Vec::new()
    }
}

/// The move of a position that is committed with the rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PositionMove {
    /// As given by [`Claimed`].
    pub owner_epoch: i64,
    /// The position must still be this…
    pub expected: i64,
    /// …and becomes this.
    pub next: i64,
    /// Log records that are no rows (control, aborted), for the row's counter.
    pub skipped: u64,
    /// Records before `next` that are not in the batch because the engine put them aside, for the row's counter.
    pub dead_lettered: u64,
}

/// One partition's part of a write.
pub struct Write<'a> {
    /// The records.
    pub batch: MessageBatch<'a>,
    /// The id of each of them, by its offset.
    pub ids: RecordIds,
    /// Present in exactly-once mode.
    pub position: Option<PositionMove>,
    /// Where bad records of the batch may go, so that the others are written nevertheless.
    pub aside: Option<Aside<'a>>,
}

/// Leave to put bad records of a batch aside within its write.
///
/// A sink that can tell bad records from good ones within its transaction does so
/// ([`bisect`](crate::core::bisect::bisect), with a savepoint per piece) and keeps each bad one: as a row with the
/// status FAILED where [`rows`](Self::rows) says so and the table takes it, else in [`letters`](Self::letters), whose
/// acknowledgement it awaits before it commits. It answers with what it did ([`Written::dead_lettered`]).
///
/// A sink that cannot, or finds no place for a bad record, writes nothing and answers with the class
/// [`Data`](ErrorClass::Data) (and the offset, if it knows): the engine then looks for the bad record by smaller writes.
/// So a sink may leave all this alone. More bad records than [`bad_max`](Self::bad_max) are the table's fault, not
/// theirs: nothing is written, and the answer is that of [`check`](Self::check).
#[derive(Clone, Copy)]
pub struct Aside<'a> {
    /// Keep them in the message table, in the same transaction.
    pub rows: bool,
    /// Keep them here, where no row does.
    pub letters: Option<&'a dyn DeadLetters>,
    /// The most records of this batch that may be put aside.
    pub bad_max: usize,
    /// Whether failures without a class count as bad records by now.
    pub unclassified: bool,
    /// How often the batch was tried, this time included; for the letters.
    pub attempts: u32,
    /// Who wants to know what was put aside.
    pub told: Option<&'a dyn PutAsideListener>,
}

/// Is told of records that were put aside, so that a person sees them. When their transaction then fails they are told
/// of again with the next attempt.
pub trait PutAsideListener {
    /// The record at `offset` was put aside for `error`.
    fn put_aside(&self, offset: i64, error: &SinkError);
}

impl Aside<'_> {
    /// Whether a failure of this class is one record's and not that of everything.
    pub fn takes(&self, class: ErrorClass) -> bool {
        class == ErrorClass::Data || (self.unclassified && class == ErrorClass::Unclassified)
    }

    /// Fails once more than [`bad_max`](Self::bad_max) of a batch's `count` records are bad.
    ///
    /// # Errors
    /// With the class [`Schema`](ErrorClass::Schema).
    pub fn check(&self, bad: &[(usize, SinkError)], count: usize) -> Result<(), SinkError> {
        match bad.last() {
            Some((_, error)) if bad.len() > self.bad_max => Err(SinkError::too_many_bad(error, bad.len(), count)),
            _ => Ok(()),
        }
    }
}

/// What a write did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Records of the batch that are now in the sink.
    pub records: u64,
    /// Of these, records that were there already (same id) and were left as they are.
    pub repeated: u64,
    /// Records of the batch that were put aside instead.
    pub dead_lettered: u64,
}

impl Written {
    /// So many records, all of them new.
    pub const fn all(records: u64) -> Self {
        Self { records, repeated: 0, dead_lettered: 0 }
    }

    /// So many records, which an earlier write had committed.
    pub const fn all_repeated(records: u64) -> Self {
        Self { records, repeated: records, dead_lettered: 0 }
    }
}

/// A worker's own way into the sink. It lives on one thread.
pub trait Writer {
    /// Claims partitions in one transaction, raising each row's epoch.
    ///
    /// # Errors
    /// The whole claim fails or none of it.
    fn claim(&mut self, claims: &[Claim]) -> Result<Vec<Claimed>, SinkError>;

    /// Writes batches of distinct partitions, together where the sink can, and answers for each in the same order.
    /// A batch is written whole, with its position, or not at all; what [`Aside`] allows to be put aside counts as written.
    fn write(&mut self, writes: &[Write<'_>]) -> Vec<Result<Written, SinkError>>;

    /// Notes with the position that a person paused or resumed the partition, for whoever owns it next
    /// ([`Claimed::paused`]). A sink without positions forgets it.
    ///
    /// # Errors
    /// When it was not noted.
    fn note_pause(&mut self, _partition: &TopicPartition, _paused: bool) -> Result<(), SinkError> {
        Ok(())
    }

    /// What went into the phases of the calls since this was last asked: binding, executing, committing. A writer that
    /// keeps no account answers with nothing; the time of the whole call then counts as executing.
    fn phases(&mut self) -> PhaseTimes {
        PhaseTimes::default()
    }

    /// Whether this writer must be replaced before the next use (its connection is gone).
    fn broken(&self) -> bool {
        false
    }
}

/// Why something was not written: the class decides what follows, the rest tells a person.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SinkError {
    /// What follows from it.
    pub class: ErrorClass,
    /// What was tried, on what, what the other side said, and what to do.
    pub message: String,
    /// The record that is to blame, when it is known.
    pub offset: Option<i64>,
    /// The other side's own codes, when it gave any.
    pub code: Option<ErrorCode>,
}

impl SinkError {
    /// An error that blames no single record.
    pub fn new(class: ErrorClass, message: impl Into<String>) -> Self {
        Self { class, message: message.into(), offset: None, code: None }
    }

    /// So many bad records among `count` that they are not to blame: the table does not fit, or the handler is broken.
    /// `last` is the error of one of them.
    pub fn too_many_bad(last: &SinkError, found: usize, count: usize) -> Self {
        let message = format!(
            "{found} of {count} records are bad, and with those before that is more than dead_letter_share_max allows: \
             no more of them are put aside, since it is rather the table or the handler that is wrong. Mend it, or raise \
             --dead-letter-share-max; the last error was: {}",
            last.message
        );
        Self { class: ErrorClass::Schema, message, ..last.clone() }
    }
}

// ---------------------------------------------------------------------------------------- dead letters

/// A record that cannot be written, and why.
#[derive(Clone, Copy, Debug)]
pub struct Letter<'a> {
    /// Where the record stood.
    pub partition: &'a TopicPartition,
    /// The record as it was.
    pub record: Record<'a>,
    /// What the sink said of it.
    pub error: &'a SinkError,
    /// How often a batch with it was tried.
    pub attempts: u32,
    /// The table that refused it, or the sink's name.
    pub table: &'a str,
}

/// Where records go that cannot be written. Shared by all workers.
pub trait DeadLetters: Send + Sync {
    /// Keeps the letters, and returns once no crash can lose them. Called before the position moves, so what is kept
    /// may come again when that then fails: letters are kept at least once.
    ///
    /// # Errors
    /// [`Data`](ErrorClass::Data) when a letter cannot be kept as it is, whatever one waits for; other classes when it may
    /// work later. Some of the letters may have been kept.
    fn put(&self, letters: &[Letter<'_>]) -> Result<(), SinkError>;
}

// ---------------------------------------------------------------------------------------------- memory

/// Bytes held by fetched, queued and decoded records, and the limit that fetching respects.
///
/// Fetching waits for room ([`reserve`](Self::reserve)). Decoding does not, since waiting for what only it can free
/// would never end: it [`charge`](Self::charge)s, and fetching then waits the longer. So what is held can pass the
/// limit by what is decoded and not written yet: what a batch inflates to, for each lane.
///
/// Who waits is served in the order of asking: while many that want little take whatever comes back, one that wants much
/// would never get it.
pub struct MemoryBudget {
    limit: usize,
    state: Mutex<Held>,
    freed: Condvar,
}

#[derive(Default)]
struct Held {
    bytes: usize,
    /// Who waits for room, the first to be served first.
    waiting: VecDeque<u64>,
    next_number: u64,
}

impl Held {
    fn enter(&mut self) -> u64 {
        self.next_number += 1;
        self.waiting.push_back(self.next_number);
        self.next_number
    }

    fn leave(&mut self, number: u64) {
        self.waiting.retain(|waiting| *waiting != number);
    }
}

/// A place in the queue for a budget's room. It is kept from one wait to the next, for who has to look at other things in
/// between; so it holds up all others who wait until it is served, left or dropped.
pub struct MemoryTurn {
    budget: Arc<MemoryBudget>,
    number: Option<u64>,
}

impl MemoryTurn {
    /// Nobody who waits yet.
    pub fn new(budget: Arc<MemoryBudget>) -> Self {
        Self { budget, number: None }
    }

    /// As [`MemoryBudget::reserve`]. Who got nothing keeps its place.
    pub fn reserve(&mut self, bytes: usize, wait: Duration) -> bool {
        let Self { budget, number } = self;
        let mut held = budget.state.lock();
        let own = *number.get_or_insert_with(|| held.enter());
        let has_room = |held: &Held| held.bytes == 0 || held.bytes.saturating_add(bytes) <= budget.limit;
        let is_served = |held: &Held| held.waiting.front() == Some(&own) && has_room(held);
        budget.freed.wait_while_for(&mut held, |held| !is_served(held), wait);
        let served = is_served(&held);
        if served {
            held.bytes += bytes;
            held.leave(own);
            *number = None;
            // It is the next one's turn.
            budget.freed.notify_all();
        }
        served
    }

    /// Wants no room any more.
    pub fn leave(&mut self) {
        if let Some(number) = self.number.take() {
            self.budget.state.lock().leave(number);
            self.budget.freed.notify_all();
        }
    }
}

impl Drop for MemoryTurn {
    fn drop(&mut self) {
        self.leave();
    }
}

impl MemoryBudget {
    /// A budget of `limit` bytes.
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, state: Mutex::default(), freed: Condvar::new() })
    }

    /// Takes `bytes` once there is room, or all is free: a record larger than the limit must get through too.
    /// Returns false, having taken nothing, when that did not happen within `wait`.
    pub fn reserve(self: &Arc<Self>, bytes: usize, wait: Duration) -> bool {
        MemoryTurn::new(Arc::clone(self)).reserve(bytes, wait)
    }

    /// Takes `bytes` at once.
    pub fn charge(&self, bytes: usize) {
        self.state.lock().bytes += bytes;
    }

    /// Gives `bytes` back.
    pub fn release(&self, bytes: usize) {
        let mut held = self.state.lock();
        debug_assert!(held.bytes >= bytes, "released {bytes} of {} bytes", held.bytes);
        held.bytes = held.bytes.saturating_sub(bytes);
        self.freed.notify_all();
    }

    /// Bytes held now.
    pub fn used(&self) -> usize {
        self.state.lock().bytes
    }

    /// The limit.
    pub fn limit(&self) -> usize {
        self.limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_budget_refuses_what_does_not_fit_and_lets_one_giant_through() {
        let budget = MemoryBudget::new(100);
        let now = Duration::ZERO;
        assert!(budget.reserve(500, now), "alone, even a giant gets through");
        assert!(!budget.reserve(1, now));
        budget.release(450);
        assert!(budget.reserve(50, now));
        budget.charge(30);
        assert!(!budget.reserve(1, now));
        assert_eq!(budget.used(), 130);
    }

    #[test]
    fn who_wants_much_is_not_passed_over_for_those_who_want_little() {
        let budget = MemoryBudget::new(100);
        assert!((0..9).all(|_| budget.reserve(10, Duration::ZERO)));
        let mut much = MemoryTurn::new(Arc::clone(&budget));
        // Nine readers whose records are written: what one gives back it asks for again. And one that looks in between.
        for _ in 0..5 {
            assert!(!much.reserve(60, Duration::ZERO));
            budget.release(10);
            assert!(!budget.reserve(10, Duration::ZERO), "it would never get its turn");
        }
        assert!(much.reserve(60, Duration::ZERO));
        assert_eq!(budget.used(), 100);
        budget.release(10);
        assert!(budget.reserve(10, Duration::ZERO), "then it is the others' turn");
        assert!(!much.reserve(60, Duration::ZERO));
        budget.release(10);
        much.leave();
        assert!(budget.reserve(10, Duration::ZERO), "who left holds nobody up");
    }

    #[test]
    fn a_waiting_reservation_is_served_when_bytes_come_back() {
        let budget = MemoryBudget::new(10);
        assert!(budget.reserve(10, Duration::ZERO));
        std::thread::scope(|scope| {
            scope.spawn(|| budget.release(10));
            assert!(budget.reserve(10, Duration::from_secs(60)));
        });
    }
}
