//! Claims partitions and writes batches, each call in one transaction.
//!
//! When a batch fails for a reason of its own (fenced, a record that does not fit), the whole transaction is rolled
//! back and each batch is tried alone, so that each has its own answer; a failure that concerns all of them (locked,
//! disk full) is everybody's answer at once. What is done within the transaction is in [`super::transaction`].

use std::sync::Arc;

use rusqlite::TransactionBehavior;

use super::SqliteOptions;
use super::open::Database;
use super::transaction::{Failure, Work, read_position, repeated};
use crate::core::civil::utc_text;
use crate::core::record::TopicPartition;
use crate::core::tally::{Phase, PhaseTimes};
use crate::core::verdict::ErrorClass;
use crate::door;
use crate::port::{Claim, Claimed, PositionMove, SinkError, Write, Writer, Written};
use crate::sink::row::RowBuffer;

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
        match self.write_together(writes) {
            Ok(written) => written.into_iter().map(Ok).collect(),
            Err(failure) if failure.others_may_succeed && writes.len() > 1 => self.write_each(writes),
            Err(failure) => self.answer_all(writes, failure),
        }
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

    /// All in one transaction. Only a batch that is alone in it may put records aside: letters that are kept are not
    /// taken back when another batch fails.
    fn write_together(&mut self, writes: &[Write<'_>]) -> Result<Vec<Written>, Failure> {
        let alone = writes.len() == 1;
        self.transact(|work| {
            let one = |write: &Write<'_>| work.write(write, write.aside.as_ref().filter(|_| alone));
            writes.iter().map(one).collect()
        })
    }

    /// Each batch in a transaction of its own; once the database itself fails, the rest get that answer untried.
    fn write_each(&mut self, writes: &[Write<'_>]) -> Vec<Result<Written, SinkError>> {
        let mut answers = Vec::with_capacity(writes.len());
        for (index, write) in writes.iter().enumerate() {
            match self.write_together(std::slice::from_ref(write)) {
                Ok(written) => answers.extend(written.into_iter().map(Ok)),
                Err(failure) if failure.others_may_succeed => answers.push(Err(self.remember(failure))),
                Err(failure) => {
                    answers.extend(self.answer_all(&writes[index..], failure));
                    break;
                }
            }
        }
        answers
    }

    /// One failure as the answer to all, except to those that the position row proves committed.
    fn answer_all(&mut self, writes: &[Write<'_>], failure: Failure) -> Vec<Result<Written, SinkError>> {
        let outcome_unknown = failure.outcome_unknown;
        let error = self.remember(failure);
        let answer = |write: &Write<'_>| match write.position {
            Some(step) if outcome_unknown && self.is_committed(write, &step) => Ok(repeated(&write.batch)),
            _ => Err(error.clone()),
        };
        writes.iter().map(answer).collect()
    }

    fn is_committed(&self, write: &Write<'_>, step: &PositionMove) -> bool {
        let found = read_position(
            &self.database.connection,
            &self.database.statements,
            &self.options.consumer_group,
            write.batch.partition(),
        );
        matches!(found, Ok(Some(position)) if position.is_after(step))
    }

    /// Does `body` in one transaction that has the write lock from its start, so that it cannot fail half-way for it.
    fn transact<T>(&mut self, body: impl FnOnce(&mut Work<'_>) -> Result<T, Failure>) -> Result<T, Failure> {
        let Self { options, database: Database { connection, statements, .. }, rows, phases, .. } = self;
        let begun = door::now();
        let path = &options.path;
        let transaction = connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(|error| Failure::of_database(path, "begin a transaction", &error))?;
        let now = utc_text(options.clock.unix_ms());
        let done = body(&mut Work { transaction: &transaction, options, statements, rows, now });
        // Rows are bound one by one, as part of their execution.
        phases.add(Phase::Execute, begun.elapsed());
        let executed = door::now();
        let result = match done {
            Ok(done) => transaction.commit().map(|()| done).map_err(|error| Failure::of_commit(path, &error)),
            Err(failure) => {
                drop(transaction); // rolls back
                Err(failure)
            }
        };
        phases.add(Phase::Commit, executed.elapsed());
        match result {
            // Even rolling back failed.
            Err(failure) if !connection.is_autocommit() => Err(Failure { reopen: true, ..failure }),
            result => result,
        }
    }

    fn remember(&mut self, failure: Failure) -> SinkError {
        self.broken |= failure.reopen;
        failure.error
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::identity::RecordIds;
    use crate::core::record::{MessageBatch, RecordBuffer};
    use crate::door::SystemClock;

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
            let failure = Failure { error: lost.clone(), others_may_succeed: false, reopen: true, outcome_unknown };
            assert_eq!(writer.answer_all(&writes, failure), [first, Err(lost.clone())]);
        }
        assert!(writer.broken());
    }
}
