//! Claims partitions and writes batches, each call in one transaction.
//!
//! What is done within the transaction is in [`super::transaction`]; what is answered when it fails, in [`together`].
//!
//! [`together`]: crate::sink::together

use std::sync::Arc;

use rusqlite::TransactionBehavior;

use super::SqliteOptions;
use super::open::{Database, make_absent};
use super::transaction::{Work, failure_of, read_position};
use crate::core::civil::utc_text;
use crate::core::record::TopicPartition;
use crate::core::tally::{Phase, PhaseTimes};
use crate::core::verdict::ErrorClass;
use crate::door;
use crate::port::{Claim, Claimed, SinkError, Write, Writer, Written};
use crate::sink::position::Position;
use crate::sink::row::RowBuffer;
use crate::sink::together::{Failure, Together};

/// The writer of a SQLite file.
pub struct SqliteWriter {
    options: Arc<SqliteOptions>,
    database: Database,
    rows: RowBuffer,
    broken: bool,
    phases: PhaseTimes,
}

impl Writer for SqliteWriter {
    fn claim(&mut self, claims: &[Claim]) -> Result<Vec<Claimed>, SinkError> {
        self.check_files()?;
        let claimed = self.transact(|work| claims.iter().map(|claim| work.claim(claim)).collect());
        claimed.map_err(|failure| self.remember(failure))
    }

    fn write(&mut self, writes: &[Write<'_>]) -> Vec<Result<Written, SinkError>> {
        if let Err(error) = self.check_files() {
            return vec![Err(error); writes.len()];
        }
        self.write_and_answer(writes)
    }

    fn note_pause(&mut self, partition: &TopicPartition, paused: bool) -> Result<(), SinkError> {
        let noted = self.transact(|work| work.note_pause(partition, paused));
        noted.map_err(|failure| self.remember(failure))
    }

    fn phases(&mut self) -> PhaseTimes {
        std::mem::take(&mut self.phases)
    }

    fn broken(&self) -> bool {
        self.broken
    }
}

impl SqliteWriter {
    /// A writer over an open file.
    pub fn new(options: Arc<SqliteOptions>, database: Database) -> Self {
        Self { options, database, rows: RowBuffer::default(), broken: false, phases: PhaseTimes::default() }
    }

    /// Refuses to write to a file that was removed or replaced under us.
    fn check_files(&mut self) -> Result<(), SinkError> {
        let Some(lost) = self.database.files.lost() else { return Ok(()) };
        self.broken = true;
        let (path, lost) = (self.options.path.display(), lost.display());
        Err(SinkError::new(
            ErrorClass::Schema,
            format!(
                "sqlite {path}: {lost} was removed or replaced while it was open. Nothing more is written to what was \
                 open; put the files back if they were moved away. Opened again, it goes on from the position that the \
                 database then has"
            ),
        ))
    }

    /// Does `body` in one transaction that has the write lock from its start, so that it cannot fail half-way for it.
    fn transact<T>(&mut self, body: impl FnOnce(&mut Work<'_>) -> Result<T, Failure>) -> Result<T, Failure> {
        let Self { options, database: Database { connection, statements, .. }, rows, phases, .. } = self;
        let mut begun = door::now();
        let path = &options.path;
        let transaction = connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(|error| failure_of(path, "begin a transaction", &error))?;
        if options.dry_run {
            make_absent(&transaction, statements, options)
                .map_err(|error| failure_of(path, "make its tables", &error))?;
            begun = door::now();
        }
        let now = utc_text(options.clock.unix_ms());
        let done = body(&mut Work { transaction: &transaction, options, statements, rows, now });
        // Rows are bound one by one, as part of their execution.
        phases.add(Phase::Execute, begun.elapsed());
        let executed = door::now();
        let result = match done {
            Ok(done) if options.dry_run => {
                transaction.rollback().map(|()| done).map_err(|error| failure_of(path, "roll back", &error))
            }
            Ok(done) => {
                transaction.commit().map(|()| done).map_err(|error| failure_of(path, "commit", &error).of_commit())
            }
            Err(failure) => {
                drop(transaction); // rolls back
                Err(failure)
            }
        };
        phases.add(Phase::Commit, executed.elapsed());
        match result {
            // Even rolling back failed.
            Err(failure) if !connection.is_autocommit() => Err(Failure { close: true, ..failure }),
            result => result,
        }
    }
}

impl Together for SqliteWriter {
    /// Only a batch that is alone may put records aside: letters that are kept are not taken back when another one fails.
    fn write_together(&mut self, writes: &[Write<'_>]) -> Result<Vec<Written>, Failure> {
        let alone = writes.len() == 1;
        self.transact(|work| {
            let one = |write: &Write<'_>| work.write(write, write.aside.as_ref().filter(|_| alone));
            writes.iter().map(one).collect()
        })
    }

    fn write_alone(&mut self, write: &Write<'_>) -> Result<Written, Failure> {
        self.transact(|work| work.write(write, write.aside.as_ref()))
    }

    fn positions(&mut self, partitions: &[&TopicPartition]) -> Result<Vec<Option<Position>>, Failure> {
        let Self { database: Database { connection, statements, .. }, options, .. } = self;
        let read =
            |partition: &&TopicPartition| read_position(connection, statements, &options.consumer_group, partition);
        let found: Result<_, _> = partitions.iter().map(read).collect();
        found.map_err(|error| failure_of(&options.path, "read positions", &error))
    }

    fn remember(&mut self, failure: Failure) -> SinkError {
        self.broken |= failure.close;
        failure.error
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::identity::RecordIds;
    use crate::core::record::{MessageBatch, RecordBuffer};
    use crate::door::SystemClock;
    use crate::port::PositionMove;

    /// When COMMIT itself fails, only the position row knows; here it says "committed" of one batch and not of the
    /// other.
    #[test]
    fn a_commit_of_unknown_outcome_is_settled_by_the_position_row() {
        let directory = tempfile::tempdir().unwrap();
        let options = SqliteOptions::new(directory.path().join("k.db"), "g", Arc::new(SystemClock::start()));
        let database = Database::open(&options, true).unwrap();
        let mut writer = SqliteWriter::new(Arc::new(options), database);
        let partitions = [TopicPartition::new("t", 0), TopicPartition::new("t", 1)];
        let claim = |partition: &TopicPartition| Claim {
            partition: partition.clone(),
            start_if_absent: Some(0),
            cluster_id: None,
            topic_id: None,
        };
        writer.claim(&partitions.each_ref().map(claim)).unwrap();
        let records = RecordBuffer::default();
        let write = |partition| Write {
            batch: MessageBatch::new(partition, &records, 0..0),
            ids: RecordIds::new("g", partition),
            position: Some(PositionMove { owner_epoch: 1, expected: 0, next: 3, skipped: 3, dead_lettered: 0 }),
            aside: None,
        };
        let writes = partitions.each_ref().map(write);
        assert_eq!(writer.write(&writes[..1]), [Ok(Written::default())]);

        let lost = SinkError::new(ErrorClass::Transient, "the disk failed at COMMIT");
        for (outcome_unknown, first) in [(true, Ok(Written::default())), (false, Err(lost.clone()))] {
            let failure = Failure { error: lost.clone(), others_may_succeed: false, close: true, outcome_unknown };
            assert_eq!(writer.answer_all(&writes, failure), [first, Err(lost.clone())]);
        }
        assert!(writer.broken());
    }
}
