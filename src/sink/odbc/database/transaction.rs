//! What is done within one transaction: claiming a partition; and writing a batch, which is the compare-and-set of its
//! position and then its rows. Each statement is a call to the connection's thread.
//!
//! A batch with bad records is written twice: until the first failure, and then with savepoints, in pieces of a few
//! statements, halving the pieces that fail. Where it can be told at which row a piece failed, the bad one is found at
//! once: by which rows are there afterwards, by the number that MariaDB keeps with the error, or by PostgreSQL's
//! [trail](super::plan::CREATE_TRAIL). Of 5,000 records one bad one costs at most 19 statements more, three cost 39, in
//! SQL Server, PostgreSQL and MariaDB (`tests/contract/bad_records.rs` counts them).

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::bind::Value;
use super::fault::Fault;
use super::link::Link;
use super::plan::{CREATE_TRAIL, Plan};
use super::rehearsal::Absent;
use super::rows::{Head, Rows};
use super::session::{Answer, Session};
use super::sink::OdbcOptions;
use crate::core::bisect::{Halving, Refusal, bisect};
use crate::core::record::{Record, TopicPartition};
use crate::core::verdict::ErrorClass;
use crate::door;
use crate::port::{Aside, Claim, Claimed, PositionMove, SinkError, Write, Written};
use crate::sink::aside::put_aside;
use crate::sink::odbc::sqlstate::System;
use crate::sink::position::{Position, fenced, rehearsed};
use crate::sink::row::RowBuffer;
use crate::sink::together::Failure;

/// So much in one statement, and the connection is closed after the transaction: drivers keep the buffers that they grew
/// for it as long as the connection lives, 64 MiB each after 30 MB through libpq, and a new connection costs less than such
/// a statement.
const WEARING_BYTES: usize = 8 << 20;

/// A savepoint for every second statement: with more of them, less of what is good is written again; with fewer, fewer
/// are sent.
const STATEMENTS_PER_PIECE: usize = 2;

/// A transaction in progress, with all that is needed to write in it.
pub struct Work<'a> {
    pub link: &'a mut Link,
    pub plan: &'a Arc<Plan>,
    pub options: &'a OdbcOptions,
    pub rows: &'a mut Rows,
    pub buffer: &'a mut RowBuffer,
    pub patience: Duration,
    /// The time of all rows of this transaction.
    pub unix_ms: i64,
    /// Whether bad records are looked for, with savepoints.
    pub careful: bool,
    /// What making rows of records took so far.
    pub bound: Duration,
    /// What was done for the sake of a dry run took so far.
    pub rehearsed: Duration,
}

impl Work<'_> {
    /// Makes the tables that a dry run found to be absent.
    pub fn make(&mut self, absent: &Arc<Absent>) -> Result<(), Failure> {
        if absent.is_empty() {
            return Ok(());
        }
        let (begun, plan, absent) = (door::now(), Arc::clone(self.plan), Arc::clone(absent));
        let made = self.call(move |session| absent.make(session, &plan));
        self.rehearsed += begun.elapsed();
        made.map_err(|fault| failure_of(self.options, self.plan, "make the tables that are absent", &fault))
    }

    /// The move of a write's position.
    fn step(&mut self, write: &Write<'_>) -> Result<Option<PositionMove>, Failure> {
        if !self.options.dry_run {
            return Ok(write.position);
        }
        let begun = door::now();
        let step = rehearsed(write, |claim| self.claim(claim))?;
        self.rehearsed += begun.elapsed();
        Ok(step)
    }

    /// Takes possession of one partition.
    pub fn claim(&mut self, claim: &Claim) -> Result<Claimed, Failure> {
        let sql = &Arc::clone(self.plan).positions;
        let (cluster_id, topic_id) = (claim.cluster_id.as_deref(), claim.topic_id.map(|id| id.to_string()));
        let key = self.key(&claim.partition);
        let ids = || [Value::Text(cluster_id.map(str::to_owned)), Value::Text(topic_id.clone())];
        let now = Value::Time(self.unix_ms);
        let take = ids().into_iter().chain([now.clone()]).chain(key.clone()).collect();
        if self.execute(&claim.partition, "claim its position", &sql.take, take)? > 0 {
            return self.claimed(&claim.partition);
        }
        let Some(start) = claim.start_if_absent else { return Ok(Claimed::absent()) };
        let insert = key.into_iter().chain([Value::Long(start)]).chain(ids()).chain([now]).collect();
        self.execute(&claim.partition, "begin its position", &sql.insert, insert)?;
        Ok(Claimed::begun(claim, start))
    }

    /// The row that was just taken.
    fn claimed(&mut self, partition: &TopicPartition) -> Result<Claimed, Failure> {
        let unreadable = || Fault::own(ErrorClass::Schema, "the row holds something that Konekt did not write");
        let row = match self.read_position(partition)? {
            Some(row) => row,
            None => return Err(self.failure(partition, "read its position", &unreadable())),
        };
        Ok(Claimed {
            next_offset: Some(row.next_offset),
            owner_epoch: row.epoch,
            cluster_id: row.cluster_id,
            topic_id: row.topic_id.as_deref().and_then(|id| Uuid::parse_str(id.trim()).ok()),
            existed: true,
            paused: row.paused,
        })
    }

    /// Moves one batch's position and inserts its rows. In a careful transaction bad records are put aside where the
    /// write allows it.
    pub fn write(&mut self, write: &Write<'_>) -> Result<Written, Failure> {
        if let Some(step) = self.step(write)?
            && !self.advance(write, &step)?
        {
            return Ok(Written::all_repeated(write.batch.len() as u64));
        }
        let count = write.batch.len();
        let existing = self.existing(write)?;
        let (inserted, bad) = match self.careful {
            true => self.insert_good(write, &existing)?,
            false => (self.insert(write, 0..count, &existing, false)?, Vec::new()),
        };
        if let (Some(aside), false) = (&write.aside, bad.is_empty()) {
            self.put_aside(write, aside, &bad)?;
        }
        let dead_lettered = bad.len() as u64;
        let records = count as u64 - dead_lettered;
        Ok(Written { records, repeated: records - inserted, dead_lettered })
    }

    /// Which rows of a batch are there already. PostgreSQL is asked in the statement that inserts.
    fn existing(&mut self, write: &Write<'_>) -> Result<HashSet<Uuid>, Failure> {
        let batch = &write.batch;
        if batch.is_empty() || self.plan.system == System::Postgres {
            return Ok(HashSet::new());
        }
        let [first, last] = [0, batch.len() - 1].map(|index| write.ids.at(batch.get(index).offset));
        let plan = Arc::clone(self.plan);
        let existing = self.call(move |session| session.existing(&plan, first, last));
        existing.map_err(|fault| self.failure(batch.partition(), "look for rows that are there", &fault))
    }

    /// Inserts a batch in pieces, each after a savepoint, so that bad records are found. Answers how many rows were new,
    /// and the bad ones.
    ///
    /// # Errors
    /// Where none may be put aside, the first bad record's, which it names.
    fn insert_good(
        &mut self,
        write: &Write<'_>,
        existing: &HashSet<Uuid>,
    ) -> Result<(u64, Vec<(usize, SinkError)>), Failure> {
        let (batch, aside) = (&write.batch, write.aside.as_ref());
        let takes = |class| aside.map_or(class == ErrorClass::Data, |aside| aside.takes(class));
        let search = Halving::new(batch.len()).in_pieces(STATEMENTS_PER_PIECE * self.plan.rows_max);
        let trail = self.lay_trail(batch.partition())?;
        let (mut inserted, mut is_saved) = (0, false);
        let attempt = |piece: Range<usize>| {
            if !is_saved {
                self.set_savepoint(batch.partition()).map_err(Refusal::Fatal)?;
            }
            match self.insert(write, piece.clone(), existing, trail) {
                Ok(new) => {
                    (inserted, is_saved) = (inserted + new, false);
                    Ok(())
                }
                Err(error) if !error.close && takes(error.error.class) => {
                    let suspect = self.go_back(batch.partition(), trail).map_err(Refusal::Fatal)?;
                    is_saved = true;
                    let at = piece.clone().find(|index| Some(batch.get(*index).offset) == suspect);
                    Err(Refusal::Bad { error, at })
                }
                Err(failure) => Err(Refusal::Fatal(failure)),
            }
        };
        let too_many = |failure: Failure, found: usize, index: usize| {
            let failure = blaming(failure, batch.get(index).offset);
            match aside {
                Some(_) => Failure::of_batch(SinkError::too_many_bad(&failure.error, found, batch.len())),
                None => failure,
            }
        };
        let bad = bisect(search, aside.map_or(0, |aside| aside.bad_max), attempt, too_many)?;
        let named = |(index, failure): (usize, Failure)| (index, blaming(failure, batch.get(index).offset).error);
        Ok((inserted, bad.into_iter().map(named).collect()))
    }

    /// Whether pieces that are refused will leave a trail.
    fn lay_trail(&mut self, partition: &TopicPartition) -> Result<bool, Failure> {
        if self.plan.unnest_with_trail.is_none() {
            return Ok(false);
        }
        self.set_savepoint(partition)?;
        match self.call(|session| session.execute(CREATE_TRAIL, Vec::new())) {
            Ok(_) => Ok(true),
            Err(fault) if fault.ends_connection(self.plan.system) => {
                Err(self.failure(partition, "make a temporary table", &fault))
            }
            Err(fault) => {
                let refused = self.failure(partition, "make a temporary table", &fault).error;
                log::debug!("bad records are found by halving alone: {refused}");
                self.execute(partition, "go back to a savepoint", self.plan.back_to_savepoint(), Vec::new())?;
                Ok(false)
            }
        }
    }

    fn set_savepoint(&mut self, partition: &TopicPartition) -> Result<(), Failure> {
        self.execute(partition, "set a savepoint", self.plan.savepoint(), Vec::new()).map(drop)
    }

    /// Undoes what was done since the savepoint. Answers the offset of the record that is probably to blame.
    fn go_back(&mut self, partition: &TopicPartition, trail: bool) -> Result<Option<i64>, Failure> {
        let (plan, rows) = (Arc::clone(self.plan), std::mem::take(self.rows));
        let gone_back = self.call(move |session| session.go_back(&plan, &rows, trail));
        gone_back.map_err(|fault| self.failure(partition, "go back to a savepoint", &fault))
    }

    /// Counts the bad records as such and keeps them: last, since letters are waited for.
    fn put_aside(&mut self, write: &Write<'_>, aside: &Aside<'_>, bad: &[(usize, SinkError)]) -> Result<(), Failure> {
        let (plan, options) = (Arc::clone(self.plan), self.options);
        if write.position.is_some() {
            let count = || Value::Long(bad.len() as i64);
            let values = [count(), count()].into_iter().chain(self.key(write.batch.partition())).collect();
            self.execute(write.batch.partition(), "count its dead letters", &plan.positions.recount, values)?;
        }
        put_aside(aside, &write.batch, &options.table, bad, |record, error| self.insert_failed(write, record, error))
    }

    /// A bad record as a row with the status FAILED. False when the table refuses that too.
    fn insert_failed(&mut self, write: &Write<'_>, record: &Record<'_>, error: &SinkError) -> Result<bool, Failure> {
        let partition = write.batch.partition();
        let plan = Arc::clone(self.plan);
        let row = self.buffer.failed_row(record);
        let text = |text: Option<&str>| Value::LongText(text.map(str::to_owned), plan.wide);
        let values = vec![
            (&*partition.topic).into(),
            Value::Int(partition.partition),
            (&*self.options.consumer_group).into(),
            Value::Time(self.unix_ms),
            Value::Ascii(write.ids.at(record.offset).to_string()),
            Value::Long(record.offset),
            text(row.key),
            text(Some(row.value)),
            text(row.headers),
            Value::Ascii(row.status.as_str().to_owned()),
            text(Some(&error.message)),
        ];
        self.set_savepoint(partition)?;
        match self.execute(partition, "write the dead letter of", &plan.insert_failed, values) {
            Ok(_) => Ok(true),
            Err(failure) if failure.error.class == ErrorClass::Data => {
                self.execute(partition, "go back to a savepoint", plan.back_to_savepoint(), Vec::new())?;
                Ok(false)
            }
            Err(failure) => Err(failure),
        }
    }

    /// Notes whether a person paused a partition.
    pub fn note_pause(&mut self, partition: &TopicPartition, paused: bool) -> Result<(), Failure> {
        let values = [Value::Int(paused.into())].into_iter().chain(self.key(partition)).collect();
        let plan = Arc::clone(self.plan);
        self.execute(partition, "note its pause", &plan.positions.pause, values).map(drop)
    }

    /// Moves the position. False when this very move was committed before, and its rows with it.
    fn advance(&mut self, write: &Write<'_>, step: &PositionMove) -> Result<bool, Failure> {
        let partition = write.batch.partition();
        let mut values = vec![
            Value::Long(step.next),
            Value::Long(write.batch.len() as i64),
            Value::Long(step.dead_lettered as i64),
            Value::Long(step.skipped as i64),
            Value::Time(self.unix_ms),
        ];
        values.extend(self.key(partition));
        values.extend([Value::Long(step.owner_epoch), Value::Long(step.expected)]);
        let sql = Arc::clone(self.plan);
        if self.execute(partition, "move its position", &sql.positions.advance, values)? == 1 {
            return Ok(true);
        }
        let found = self.read_position(partition)?;
        if found.as_ref().is_some_and(|position| position.is_after(step)) {
            return Ok(false);
        }
        Err(Failure::of_batch(fenced(&self.options.name, partition, step, found.as_ref())))
    }

    /// The position row of a partition.
    pub fn read_position(&mut self, partition: &TopicPartition) -> Result<Option<Position>, Failure> {
        let (plan, key) = (Arc::clone(self.plan), self.key(partition));
        let rows = self.call(move |session| session.query(&plan.positions.read, key));
        let rows = rows.map_err(|fault| self.failure(partition, "read its position", &fault))?;
        Ok(rows.into_iter().next().and_then(position))
    }

    /// Inserts a range of a batch, one statement's worth of rows after the other, without those that are there already,
    /// and says how many rows were new.
    fn insert(
        &mut self,
        write: &Write<'_>,
        range: Range<usize>,
        existing: &HashSet<Uuid>,
        trail: bool,
    ) -> Result<u64, Failure> {
        let (batch, partition) = (&write.batch, write.batch.partition());
        let head = Head {
            topic: Arc::clone(&partition.topic),
            partition: partition.partition,
            consumer_group: Arc::clone(&self.options.consumer_group),
            unix_ms: self.unix_ms,
        };
        let (mut from, mut inserted) = (range.start, 0);
        while from < range.end {
            let begun = door::now();
            let next = self.rows.fill(batch, from..range.end, &write.ids, self.plan.rows_max, self.buffer);
            self.rows.remove(existing);
            self.bound += begun.elapsed();
            let (plan, head, rows) = (Arc::clone(self.plan), head.clone(), std::mem::take(self.rows));
            let (rows, result) = self
                .link
                .call(self.patience, move |session| {
                    let result = session.insert(&plan, &head, &rows, trail);
                    (rows, result)
                })
                .map_err(|fault| self.failure(partition, "write", &fault))?;
            if rows.bytes >= WEARING_BYTES {
                self.link.wear_out();
            }
            *self.rows = rows;
            inserted += result.map_err(|fault| {
                let what = format!("write offsets {}..={}", batch.get(from).offset, batch.get(next - 1).offset);
                self.failure(partition, &what, &fault)
            })?;
            from = next;
        }
        self.rows.clear();
        Ok(inserted)
    }

    fn execute(
        &mut self,
        partition: &TopicPartition,
        what: &str,
        sql: &str,
        values: Vec<Value>,
    ) -> Result<u64, Failure> {
        let sql = sql.to_owned();
        let result = self.call(move |session| session.execute(&sql, values));
        result.map_err(|fault| self.failure(partition, what, &fault))
    }

    fn call<T: Send + 'static>(
        &mut self,
        job: impl FnOnce(&mut Session<'_>) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, Fault> {
        self.link.call(self.patience, job)?
    }

    /// The key of a position row.
    fn key(&self, partition: &TopicPartition) -> Vec<Value> {
        vec![(&*self.options.consumer_group).into(), (&*partition.topic).into(), Value::Int(partition.partition)]
    }

    /// A failure with one partition.
    fn failure(&self, partition: &TopicPartition, what: &str, fault: &Fault) -> Failure {
        let mut failure = failure_of(self.options, self.plan, &format!("{what} ({partition})"), fault);
        failure.others_may_succeed =
            !failure.close && matches!(failure.error.class, ErrorClass::Data | ErrorClass::Unclassified);
        failure
    }
}

fn position(answer: Answer) -> Option<Position> {
    let [next_offset, epoch, cluster_id, topic_id, paused] = <[Option<String>; 5]>::try_from(answer).ok()?;
    Some(Position {
        next_offset: next_offset?.trim().parse().ok()?,
        epoch: epoch?.trim().parse().ok()?,
        cluster_id,
        topic_id,
        paused: paused?.trim() != "0",
    })
}

/// A fault that concerns everything in the transaction.
pub fn failure_of(options: &OdbcOptions, plan: &Plan, what: &str, fault: &Fault) -> Failure {
    let error = fault.sink_error(&options.name, what, plan.system);
    // After a change of the table, what was prepared on the connection may not fit any more.
    let close = fault.ends_connection(plan.system) || error.class == ErrorClass::Schema;
    Failure::of_all(error, close)
}

fn blaming(mut failure: Failure, offset: i64) -> Failure {
    failure.error.offset = Some(offset);
    failure
}
