//! What the engine asks of the world: a [`Source`] of records, a [`Sink`] for them, a [`Clock`], and the
//! [`MemoryBudget`] that everyone draws from. Adapters implement these traits; the engine knows nothing else of them.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::core::identity::RecordIds;
use crate::core::record::{Encoded, MessageBatch, TopicPartition};
use crate::core::verdict::ErrorClass;
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
    OutOfRange { partition: TopicPartition, run: u64, requested: i64, log_start: i64, log_end: i64 },
    /// A commit was answered.
    Committed { positions: Vec<(TopicPartition, i64)>, result: Result<(), SourceError> },
    /// One partition cannot be read (deleted, not authorized, corrupt); others go on.
    PartitionFailed { partition: TopicPartition, error: SourceError },
    /// Something went wrong and is being retried by the source.
    Trouble(SourceError),
    /// The source cannot go on.
    Failed(SourceError),
}

/// What went wrong at the source, in words for a person: what was tried, where, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SourceError {
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
}

/// One partition's part of a write.
pub struct Write<'a> {
    pub batch: MessageBatch<'a>,
    pub ids: RecordIds,
    /// Present in exactly-once mode.
    pub position: Option<PositionMove>,
}

/// What a write did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Records that are now in the sink.
    pub records: u64,
    /// Of these, records that were there already (same id) and were left as they are.
    pub repeated: u64,
}

/// A worker's own way into the sink. It lives on one thread.
pub trait Writer {
    /// Claims partitions in one transaction, raising each row's epoch.
    ///
    /// # Errors
    /// The whole claim fails or none of it.
    fn claim(&mut self, claims: &[Claim]) -> Result<Vec<Claimed>, SinkError>;

    /// Writes batches of distinct partitions, together where the sink can, and answers for each in the same order.
    /// A batch is written whole, with its position, or not at all.
    fn write(&mut self, writes: &[Write<'_>]) -> Vec<Result<Written, SinkError>>;

    /// Whether this writer must be replaced before the next use (its connection is gone).
    fn broken(&self) -> bool {
        false
    }
}

/// Why something was not written: the class decides what follows, the rest tells a person.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SinkError {
    pub class: ErrorClass,
    /// What was tried, on what, what the other side said, and what to do.
    pub message: String,
    /// The record that is to blame, when it is known.
    pub offset: Option<i64>,
}

impl SinkError {
    /// An error that blames no single record.
    pub fn new(class: ErrorClass, message: impl Into<String>) -> Self {
        Self { class, message: message.into(), offset: None }
    }
}

// ---------------------------------------------------------------------------------------------- memory

/// Bytes held by fetched, queued and decoded records, and the limit that fetching respects.
///
/// Fetching waits for room ([`reserve`](Self::reserve)). Decoding does not, since waiting for what only it can free
/// would never end: it [`charge`](Self::charge)s, and fetching then waits the longer. So what is held can pass the
/// limit by what the workers are decoding at the moment, one chunk each.
pub struct MemoryBudget {
    limit: usize,
    used: Mutex<usize>,
    freed: Condvar,
}

impl MemoryBudget {
    /// A budget of `limit` bytes.
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, used: Mutex::new(0), freed: Condvar::new() })
    }

    /// Takes `bytes` once there is room, or all is free: a record larger than the limit must get through too.
    /// Returns false, having taken nothing, when that did not happen within `wait`.
    pub fn reserve(&self, bytes: usize, wait: Duration) -> bool {
        let mut used = self.used.lock();
        let full = |used: &mut usize| *used > 0 && used.saturating_add(bytes) > self.limit;
        if self.freed.wait_while_for(&mut used, full, wait).timed_out() && full(&mut used) {
            return false;
        }
        *used += bytes;
        true
    }

    /// Takes `bytes` at once.
    pub fn charge(&self, bytes: usize) {
        *self.used.lock() += bytes;
    }

    /// Gives `bytes` back.
    pub fn release(&self, bytes: usize) {
        let mut used = self.used.lock();
        debug_assert!(*used >= bytes, "released {bytes} of {used} bytes");
        *used = used.saturating_sub(bytes);
        self.freed.notify_all();
    }

    /// Bytes held now.
    pub fn used(&self) -> usize {
        *self.used.lock()
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
    fn a_waiting_reservation_is_served_when_bytes_come_back() {
        let budget = MemoryBudget::new(10);
        assert!(budget.reserve(10, Duration::ZERO));
        std::thread::scope(|scope| {
            scope.spawn(|| budget.release(10));
            assert!(budget.reserve(10, Duration::from_secs(60)));
        });
    }
}
