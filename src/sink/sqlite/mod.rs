//! A SQLite file: the rows of the message table and the partition's position, committed together.
//!
//! The flow: [`SqliteSink`] opens a connection and makes or checks the tables (`open.rs`); its writer claims partitions
//! and writes batches (`writer.rs`), each call in one transaction (`transaction.rs`); `error.rs` gives SQLite's result
//! codes their class and says what to do; [`SqliteReport`] reads back what is in the file, and [`SqliteMessages`] answers
//! questions about it and makes the small changes that a person asks for.
//!
//! One writer at a time is SQLite's rule, so `writers_max` is 1, and batches of several partitions that wait together
//! go into one transaction, since a transaction's end is what costs most.
//!
//! Durability. The file is in WAL mode. `synchronous` is by default NORMAL where the position is kept in the database:
//! a power loss may then undo the last transactions, but rows and position together, and since the database's position
//! decides where to go on, these records are read again. With at-least-once delivery Kafka's offset decides; a row
//! undone after that was committed would be lost, so there the default is FULL. A killed process loses nothing in
//! either mode. A `-wal` file that was lost takes the database back to its last checkpoint, rows and position together;
//! with exactly-once delivery the missing records are read again. (Lost in the midst of a checkpoint, it leaves a
//! damaged file behind, and SQLite says so when it meets the damage.)

mod error;
mod open;
mod query;
mod report;
mod transaction;
mod trial;
mod writer;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::port::{Clock, Sink, SinkError, SinkTraits, Writer};

#[cfg(test)]
pub(crate) use error::class_of_code;
pub use open::script;
pub use query::SqliteMessages;
pub use report::{ReportRow, SqliteReport};
pub use trial::trial;

/// Where and how to write.
#[derive(Clone)]
pub struct SqliteOptions {
    /// The database file; made when absent, its directory is not.
    pub path: PathBuf,
    /// The message table, taken as one identifier whatever it contains; made when absent.
    pub table: String,
    /// The consumer group, for the rows and the positions.
    pub consumer_group: Arc<str>,
    /// Whether the position is kept here, with the rows.
    pub exactly_once: bool,
    /// Rolls every transaction back at its end. Tables that are absent are made in each of them; where the file itself is
    /// absent, a temporary one is written instead of it.
    pub dry_run: bool,
    /// How long to wait for another program's write lock.
    pub busy_timeout: Duration,
    /// How often SQLite waits for the disk; `None` chooses by delivery (see the module).
    pub synchronous: Option<Synchronous>,
    /// Further integer PRAGMAs, set last on each connection: `("cache_size", -100_000)`.
    pub pragmas: Vec<(String, i64)>,
    /// The clock of `processing_timestamp`.
    pub clock: Arc<dyn Clock>,
}

impl SqliteOptions {
    /// Exactly-once delivery into `processed_messages`, waiting five seconds for a lock.
    pub fn new(path: impl Into<PathBuf>, consumer_group: impl Into<Arc<str>>, clock: Arc<dyn Clock>) -> Self {
        Self {
            path: path.into(),
            table: DEFAULT_TABLE.to_owned(),
            consumer_group: consumer_group.into(),
            exactly_once: true,
            dry_run: false,
            busy_timeout: Duration::from_secs(5),
            synchronous: None,
            pragmas: Vec::new(),
            clock,
        }
    }

    fn name(&self) -> String {
        format!("sqlite {}", self.path.display())
    }
}

/// The message table where none is named.
pub const DEFAULT_TABLE: &str = "processed_messages";

/// SQLite's `PRAGMA synchronous`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Synchronous {
    /// Waits for the disk at checkpoints.
    Normal,
    /// Waits for the disk at each transaction's end.
    Full,
}

/// The sink; it opens the file when the first writer is asked for.
pub struct SqliteSink {
    options: Arc<SqliteOptions>,
    /// Whether the file was opened before. It may be made once; if it is gone later, that must not pass silently.
    opened: AtomicBool,
}

impl SqliteSink {
    /// A sink for these options; touches nothing yet.
    pub fn new(options: SqliteOptions) -> Self {
        Self { options: Arc::new(options), opened: AtomicBool::new(false) }
    }
}

impl Sink for SqliteSink {
    fn traits(&self) -> SinkTraits {
        SinkTraits {
            name: self.options.name(),
            writers_max: 1,
            // Enough that the transaction's end is shared by many, few enough that one failure repeats little.
            batches_per_write: 16,
            transactional: self.options.exactly_once,
        }
    }

    fn writer(&self) -> Result<Box<dyn Writer>, SinkError> {
        let may_create = !self.opened.load(Ordering::Relaxed);
        let database = open::Database::open(&self.options, may_create)?;
        self.opened.store(true, Ordering::Relaxed);
        Ok(Box::new(writer::SqliteWriter::new(Arc::clone(&self.options), database)))
    }

    fn absent(&self) -> Vec<String> {
        open::absent(&self.options)
    }
}
