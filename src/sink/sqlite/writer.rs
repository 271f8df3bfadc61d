//! Claims partitions and writes batches, each call in one transaction.
//!
//! A write, per batch: the compare-and-set of the position, then the rows. When a batch fails for a reason of its own
//! (fenced, a record that does not fit), the whole transaction is rolled back and each batch is tried alone, so that
//! each has its own answer; a failure that concerns all of them (locked, disk full) is everybody's answer at once.

use std::sync::Arc;

use rusqlite::{CachedStatement, Connection, OptionalExtension, Transaction, TransactionBehavior, params};
use uuid::Uuid;

use super::SqliteOptions;
use super::error::{needs_reopening, sink_error};
use super::open::{Database, Statements};
use crate::core::civil::utc_text;
use crate::core::identity::RecordIds;
use crate::core::record::{MessageBatch, Record, TopicPartition};
use crate::core::verdict::ErrorClass;
use crate::port::{Claim, Claimed, PositionMove, SinkError, Write, Writer, Written};
use crate::sink::position::{Position, fenced};
use crate::sink::row::RowBuffer;

/// The writer of a SQLite file.
pub struct SqliteWriter {
    options: Arc<SqliteOptions>,
    database: Database,
    rows: RowBuffer,
    broken: bool,
}

/// Why a transaction did not happen.
struct Failure {
    error: SinkError,
    /// The other batches of the transaction may succeed without the one that failed.
    others_may_succeed: bool,
    /// The connection must be opened again.
    reopen: bool,
    /// The failure was an answer to COMMIT, which may have been carried out.
    outcome_unknown: bool,
}

impl Writer for SqliteWriter {
    fn claim(&mut self, claims: &[Claim]) -> Result<Vec<Claimed>, SinkError> {
        self.check_files()?;
        let claimed = self.transact(|turn| claims.iter().map(|claim| turn.claim(claim)).collect());
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

    fn broken(&self) -> bool {
        self.broken
    }
}

impl SqliteWriter {
    /// A writer over an open file.
    pub fn new(options: Arc<SqliteOptions>, database: Database) -> Self {
        Self { options, database, rows: RowBuffer::default(), broken: false }
    }

    /// Refuses to write to a file that was removed or replaced under us.
    fn check_files(&mut self) -> Result<(), SinkError> {
        let Some(lost) = self.database.files.lost() else { return Ok(()) };
        self.broken = true;
        let (path, lost) = (self.options.path.display(), lost.display());
        Err(SinkError::new(
            ErrorClass::Schema,
            format!(
                "sqlite {path}: {lost} was removed or replaced while it was open; what was not yet checkpointed went with \
                 it. Nothing is written to it any more; put the files back together, or restart to go on from the \
                 position that the file has"
            ),
        ))
    }

    fn write_together(&mut self, writes: &[Write<'_>]) -> Result<Vec<Written>, Failure> {
        self.transact(|turn| writes.iter().map(|write| turn.write(write)).collect())
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
    fn transact<T>(&mut self, body: impl FnOnce(&mut Turn<'_>) -> Result<T, Failure>) -> Result<T, Failure> {
        let Self { options, database: Database { connection, statements, .. }, rows, .. } = self;
        let general = |what: &str, error: &rusqlite::Error, outcome_unknown| Failure {
            error: sink_error(&options.path, what, error),
            others_may_succeed: false,
            reopen: needs_reopening(error),
            outcome_unknown,
        };
        let transaction = connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(|error| general("begin a transaction", &error, false))?;
        let now = utc_text(options.clock.unix_ms());
        let done = Turn { transaction: &transaction, options, statements, rows, now }.run(body);
        // Dropping a transaction rolls it back.
        let result = match done {
            Ok(done) => transaction.commit().map(|()| done).map_err(|error| general("commit", &error, true)),
            Err(failure) => {
                drop(transaction);
                Err(failure)
            }
        };
        match result {
            Err(failure) if !connection.is_autocommit() => Err(Failure { reopen: true, ..failure }),
            result => result,
        }
    }

    fn remember(&mut self, failure: Failure) -> SinkError {
        self.broken |= failure.reopen;
        failure.error
    }
}

/// A transaction in progress.
struct Turn<'a> {
    transaction: &'a Transaction<'a>,
    options: &'a SqliteOptions,
    statements: &'a Statements,
    rows: &'a mut RowBuffer,
    now: String,
}

impl Turn<'_> {
    fn run<T>(mut self, body: impl FnOnce(&mut Self) -> Result<T, Failure>) -> Result<T, Failure> {
        body(&mut self)
    }

    fn claim(&mut self, claim: &Claim) -> Result<Claimed, Failure> {
        let failed = |error| self.failure(&claim.partition, "claim its position", &error, None);
        let (sql, group) = (&self.statements.positions, &*self.options.consumer_group);
        let TopicPartition { topic, partition } = &claim.partition;
        let cluster_id = claim.cluster_id.as_deref();
        let topic_id = claim.topic_id.map(|id| id.to_string());
        let mut take = self.transaction.prepare_cached(&sql.take).map_err(failed)?;
        let taken =
            take.execute(params![cluster_id, topic_id, self.now, group, &**topic, partition]).map_err(failed)?;
        if taken > 0 {
            return self.claimed(&claim.partition);
        }
        let Some(start) = claim.start_if_absent else {
            return Ok(Claimed { next_offset: None, owner_epoch: 0, cluster_id: None, topic_id: None, existed: false });
        };
        let mut insert = self.transaction.prepare_cached(&sql.insert).map_err(failed)?;
        insert.execute(params![group, &**topic, partition, start, cluster_id, topic_id, self.now]).map_err(failed)?;
        Ok(Claimed {
            next_offset: Some(start),
            owner_epoch: 1,
            cluster_id: cluster_id.map(str::to_owned),
            topic_id: claim.topic_id,
            existed: false,
        })
    }

    /// The row that was just taken.
    fn claimed(&self, partition: &TopicPartition) -> Result<Claimed, Failure> {
        let failed = |error| self.failure(partition, "read its position", &error, None);
        let row = read_position(self.transaction, self.statements, &self.options.consumer_group, partition)
            .and_then(|row| row.ok_or(rusqlite::Error::QueryReturnedNoRows))
            .map_err(failed)?;
        Ok(Claimed {
            next_offset: Some(row.next_offset),
            owner_epoch: row.epoch,
            cluster_id: row.cluster_id,
            topic_id: row.topic_id.as_deref().and_then(|id| Uuid::parse_str(id).ok()),
            existed: true,
        })
    }

    fn write(&mut self, write: &Write<'_>) -> Result<Written, Failure> {
        let inserted = match &write.position {
            Some(step) if !self.advance(write, step)? => return Ok(repeated(&write.batch)),
            _ => self.insert(&write.batch, &write.ids)?,
        };
        let records = write.batch.len() as u64;
        Ok(Written { records, repeated: records - inserted })
    }

    /// Moves the position. False when this very move was committed before, and its rows with it.
    fn advance(&mut self, write: &Write<'_>, step: &PositionMove) -> Result<bool, Failure> {
        let partition = write.batch.partition();
        let failed = |error| self.failure(partition, "move its position", &error, None);
        let group = &*self.options.consumer_group;
        let mut advance = self.transaction.prepare_cached(&self.statements.positions.advance).map_err(failed)?;
        let moved = advance
            .execute(params![
                step.next,
                write.batch.len() as i64,
                step.skipped as i64,
                self.now,
                group,
                &*partition.topic,
                partition.partition,
                step.owner_epoch,
                step.expected,
            ])
            .map_err(failed)?;
        if moved == 1 {
            return Ok(true);
        }
        let found = read_position(self.transaction, self.statements, group, partition).map_err(failed)?;
        if found.as_ref().is_some_and(|position| position.is_after(step)) {
            return Ok(false);
        }
        let name = self.options.name();
        Err(Failure {
            error: fenced(&name, partition, step, found.as_ref()),
            others_may_succeed: true,
            reopen: false,
            outcome_unknown: false,
        })
    }

    /// Inserts the rows and says how many were new. What is the same for all rows is bound once.
    fn insert(&mut self, batch: &MessageBatch<'_>, ids: &RecordIds) -> Result<u64, Failure> {
        let partition = batch.partition();
        if batch.is_empty() {
            return Ok(0);
        }
        let mut insert = self
            .transaction
            .prepare_cached(&self.statements.insert)
            .and_then(|mut insert| {
                insert.raw_bind_parameter(1, &*partition.topic)?;
                insert.raw_bind_parameter(2, partition.partition)?;
                insert.raw_bind_parameter(3, &*self.options.consumer_group)?;
                insert.raw_bind_parameter(4, &*self.now)?;
                Ok(insert)
            })
            .map_err(|error| self.failure(partition, "write", &error, None))?;
        let mut inserted = 0;
        for record in batch.iter() {
            match insert_row(&mut insert, self.rows, &record, ids) {
                Ok(new) => inserted += new as u64,
                Err(error) => return Err(self.failure(partition, "write", &error, Some(record.offset))),
            }
        }
        Ok(inserted)
    }

    /// A failure with one partition; `offset` is the record being written.
    fn failure(&self, partition: &TopicPartition, what: &str, error: &rusqlite::Error, offset: Option<i64>) -> Failure {
        let what = match offset {
            Some(offset) => format!("{what} {partition} offset {offset}"),
            None => format!("{what} ({partition})"),
        };
        let mut sink_error = sink_error(&self.options.path, &what, error);
        let of_this_batch = matches!(sink_error.class, ErrorClass::Data | ErrorClass::Unclassified);
        if sink_error.class == ErrorClass::Data {
            sink_error.offset = offset;
        }
        Failure {
            error: sink_error,
            others_may_succeed: of_this_batch,
            reopen: needs_reopening(error),
            outcome_unknown: false,
        }
    }
}

/// Binds what differs from row to row, borrowed, and inserts. Answers 0 when the id was there already.
fn insert_row(
    insert: &mut CachedStatement<'_>,
    rows: &mut RowBuffer,
    record: &Record<'_>,
    ids: &RecordIds,
) -> rusqlite::Result<usize> {
    let row = rows.row(record);
    let mut id = Uuid::encode_buffer();
    insert.raw_bind_parameter(5, &*ids.at(record.offset).hyphenated().encode_lower(&mut id))?;
    insert.raw_bind_parameter(6, record.offset)?;
    insert.raw_bind_parameter(7, row.key)?;
    insert.raw_bind_parameter(8, row.value)?;
    insert.raw_bind_parameter(9, row.headers)?;
    insert.raw_bind_parameter(10, row.status.as_str())?;
    insert.raw_execute()
}

fn read_position(
    connection: &Connection,
    statements: &Statements,
    group: &str,
    partition: &TopicPartition,
) -> rusqlite::Result<Option<Position>> {
    let mut read = connection.prepare_cached(&statements.positions.read)?;
    read.query_row(params![group, &*partition.topic, partition.partition], |row| {
        Ok(Position { next_offset: row.get(0)?, epoch: row.get(1)?, cluster_id: row.get(2)?, topic_id: row.get(3)? })
    })
    .optional()
}

/// The answer for a batch that was committed before.
fn repeated(batch: &MessageBatch<'_>) -> Written {
    let records = batch.len() as u64;
    Written { records, repeated: records }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::record::RecordBuffer;
    use crate::door::SystemClock;

    /// When COMMIT itself fails, only the position row knows; here it says "committed" of one batch and not of the other.
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
            position: Some(PositionMove { owner_epoch: 1, expected: 0, next: 3, skipped: 3 }),
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
