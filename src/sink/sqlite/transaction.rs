//! What is done within one transaction: claiming a partition; and writing a batch, which is the compare-and-set of its
//! position and then its rows.
//!
//! Bad rows need no search here: SQLite undoes the one statement that failed and nothing else, so the others go on, and
//! what was refused is put aside at the end.

use std::path::Path;

use rusqlite::{CachedStatement, Connection, OptionalExtension, Transaction, params};
use uuid::Uuid;

use super::SqliteOptions;
use super::error::{needs_reopening, sink_error};
use super::open::Statements;
use crate::core::identity::RecordIds;
use crate::core::record::{MessageBatch, Record, TopicPartition};
use crate::core::verdict::ErrorClass;
use crate::port::{Aside, Claim, Claimed, PositionMove, SinkError, Write, Written};
use crate::sink::aside::put_aside;
use crate::sink::position::{Position, fenced, rehearsed};
use crate::sink::row::{Row, RowBuffer};
use crate::sink::together::Failure;

/// A transaction in progress, with all that is needed to write in it.
pub struct Work<'a> {
    pub transaction: &'a Transaction<'a>,
    pub options: &'a SqliteOptions,
    pub statements: &'a Statements,
    pub rows: &'a mut RowBuffer,
    /// The time of all rows of this transaction.
    pub now: String,
}

impl<'a> Work<'a> {
    /// Takes possession of one partition.
    pub fn claim(&mut self, claim: &Claim) -> Result<Claimed, Failure> {
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
        let Some(start) = claim.start_if_absent else { return Ok(Claimed::absent()) };
        let mut insert = self.transaction.prepare_cached(&sql.insert).map_err(failed)?;
        insert.execute(params![group, &**topic, partition, start, cluster_id, topic_id, self.now]).map_err(failed)?;
        Ok(Claimed::begun(claim, start))
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
            paused: row.paused,
        })
    }

    /// Notes whether a person paused a partition.
    pub fn note_pause(&mut self, partition: &TopicPartition, paused: bool) -> Result<(), Failure> {
        let key = params![paused, &*self.options.consumer_group, &*partition.topic, partition.partition];
        let noted = self.transaction.prepare_cached(&self.statements.positions.pause);
        let noted = noted.and_then(|mut pause| pause.execute(key));
        noted.map(drop).map_err(|error| self.failure(partition, "note its pause", &error, None))
    }

    /// Moves one batch's position and inserts its rows; bad ones are put aside where `aside` says how.
    pub fn write(&mut self, write: &Write<'_>, aside: Option<&Aside<'_>>) -> Result<Written, Failure> {
        let step = match self.options.dry_run {
            true => rehearsed(write, |claim| self.claim(claim))?,
            false => write.position,
        };
        if let Some(step) = &step
            && !self.advance(write, step)?
        {
            return Ok(Written::all_repeated(write.batch.len() as u64));
        }
        let Inserted { new, bad } = self.insert(&write.batch, &write.ids, aside)?;
        if let (Some(aside), false) = (aside, bad.is_empty()) {
            self.put_aside(write, aside, &bad)?;
        }
        let dead_lettered = bad.len() as u64;
        let records = write.batch.len() as u64 - dead_lettered;
        Ok(Written { records, repeated: records - new, dead_lettered })
    }

    /// Counts the bad records as such and keeps them: last, since letters are waited for.
    fn put_aside(&mut self, write: &Write<'_>, aside: &Aside<'_>, bad: &[(usize, SinkError)]) -> Result<(), Failure> {
        let partition = write.batch.partition();
        if write.position.is_some() {
            let (group, count) = (&*self.options.consumer_group, bad.len() as i64);
            let recount = self.transaction.prepare_cached(&self.statements.positions.recount);
            recount
                .and_then(|mut recount| {
                    recount.execute(params![count, count, group, &*partition.topic, partition.partition])
                })
                .map_err(|error| self.failure(partition, "count its dead letters", &error, None))?;
        }
        let table = &self.options.table;
        put_aside(aside, &write.batch, table, bad, |record, error| self.insert_failed(partition, record, write, error))
    }

    /// A bad record as a row with the status FAILED. False when the table refuses that too.
    fn insert_failed(
        &mut self,
        partition: &TopicPartition,
        record: &Record<'_>,
        write: &Write<'_>,
        error: &SinkError,
    ) -> Result<bool, Failure> {
        let mut insert = self.prepare_insert(partition, Some(&error.message))?;
        let row = self.rows.failed_row(record);
        match insert_row(&mut insert, &row, record.offset, &write.ids) {
            Ok(_) => Ok(true),
            Err(error) => {
                let failure = self.failure(partition, "write the dead letter of", &error, Some(record.offset));
                if failure.error.class == ErrorClass::Data { Ok(false) } else { Err(failure) }
            }
        }
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
                step.dead_lettered as i64,
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
        Err(Failure::of_batch(fenced(&self.options.name(), partition, step, found.as_ref())))
    }

    /// Inserts the rows. Without `aside` the first bad one is a failure.
    fn insert(
        &mut self,
        batch: &MessageBatch<'_>,
        ids: &RecordIds,
        aside: Option<&Aside<'_>>,
    ) -> Result<Inserted, Failure> {
        let mut inserted = Inserted::default();
        if batch.is_empty() {
            return Ok(inserted);
        }
        let mut insert = self.prepare_insert(batch.partition(), None)?;
        for (index, record) in batch.iter().enumerate() {
            let row = self.rows.row(&record);
            let Err(error) = insert_row(&mut insert, &row, record.offset, ids).map(|new| inserted.new += new as u64)
            else {
                continue;
            };
            let failure = self.failure(batch.partition(), "write", &error, Some(record.offset));
            match aside {
                // A constraint may be declared to end the whole transaction; then there is none to go on with.
                Some(aside) if aside.takes(failure.error.class) && !self.transaction.is_autocommit() => {
                    inserted.bad.push((index, failure.error));
                    aside.check(&inserted.bad, batch.len()).map_err(Failure::of_batch)?;
                }
                _ => return Err(failure),
            }
        }
        Ok(inserted)
    }

    /// The insert with everything bound that is the same for all rows.
    fn prepare_insert(&self, partition: &TopicPartition, error: Option<&str>) -> Result<CachedStatement<'a>, Failure> {
        let prepared = self.transaction.prepare_cached(&self.statements.insert).and_then(|mut insert| {
            insert.raw_bind_parameter(1, &*partition.topic)?;
            insert.raw_bind_parameter(2, partition.partition)?;
            insert.raw_bind_parameter(3, &*self.options.consumer_group)?;
            insert.raw_bind_parameter(4, &*self.now)?;
            insert.raw_bind_parameter(11, error)?;
            Ok(insert)
        });
        prepared.map_err(|error| self.failure(partition, "write", &error, None))
    }

    /// A failure with one partition; `offset` is the record being written.
    fn failure(&self, partition: &TopicPartition, what: &str, error: &rusqlite::Error, offset: Option<i64>) -> Failure {
        let what = match offset {
            Some(offset) => format!("{what} {partition} offset {offset}"),
            None => format!("{what} ({partition})"),
        };
        let mut failure = failure_of(&self.options.path, &what, error);
        failure.others_may_succeed = matches!(failure.error.class, ErrorClass::Data | ErrorClass::Unclassified);
        if failure.error.class == ErrorClass::Data {
            failure.error.offset = offset;
        }
        failure
    }
}

/// What inserting a batch did.
#[derive(Default)]
struct Inserted {
    /// Rows that were not there before.
    new: u64,
    /// The records that were refused, by index, and why.
    bad: Vec<(usize, SinkError)>,
}

/// Binds what differs from row to row, borrowed, and inserts. Answers 0 when the id was there already.
fn insert_row(
    insert: &mut CachedStatement<'_>,
    row: &Row<'_>,
    offset: i64,
    ids: &RecordIds,
) -> rusqlite::Result<usize> {
    let mut id = Uuid::encode_buffer();
    insert.raw_bind_parameter(5, &*ids.at(offset).hyphenated().encode_lower(&mut id))?;
    insert.raw_bind_parameter(6, offset)?;
    insert.raw_bind_parameter(7, row.key)?;
    insert.raw_bind_parameter(8, row.value)?;
    insert.raw_bind_parameter(9, row.headers)?;
    insert.raw_bind_parameter(10, row.status.as_str())?;
    insert.raw_execute()
}

/// The position row of a partition.
pub fn read_position(
    connection: &Connection,
    statements: &Statements,
    group: &str,
    partition: &TopicPartition,
) -> rusqlite::Result<Option<Position>> {
    let mut read = connection.prepare_cached(&statements.positions.read)?;
    read.query_row(params![group, &*partition.topic, partition.partition], |row| {
        Ok(Position {
            next_offset: row.get(0)?,
            epoch: row.get(1)?,
            cluster_id: row.get(2)?,
            topic_id: row.get(3)?,
            paused: row.get(4)?,
        })
    })
    .optional()
}

/// A failure of SQLite that concerns everything in the transaction.
pub fn failure_of(path: &Path, what: &str, error: &rusqlite::Error) -> Failure {
    Failure::of_all(sink_error(path, what, error), needs_reopening(error))
}
