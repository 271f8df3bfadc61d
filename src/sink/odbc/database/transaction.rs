//! What is done within one transaction: claiming a partition; and writing a batch, which is the compare-and-set of its
//! position and then its rows. Each statement is a call to the connection's thread.
//!
//! A batch with bad records is written twice: until the first failure, and then with savepoints, in pieces of one
//! statement, halving the pieces that fail. Where a database tells which rows of a failed piece are there, the bad one is
//! found at once: of 5,000 records in SQL Server one bad record costs at most 27 statements more, three 39
//! (`tests/contract/bad_records.rs` counts them). PostgreSQL does not, so there it takes a dozen halvings each.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::bind::Value;
use super::fault::Fault;
use super::link::Link;
use super::plan::Plan;
use super::rehearsal::Absent;
use super::rows::{Head, Rows};
use super::session::{Answer, Session};
use super::sink::OdbcOptions;
use crate::core::bisect::{Halving, Refusal, bisect};
use crate::core::identity::RecordIds;
use crate::core::record::{MessageBatch, Record, TopicPartition};
use crate::core::verdict::ErrorClass;
use crate::door;
use crate::port::{Aside, Claim, Claimed, PositionMove, SinkError, Write, Written};
use crate::sink::aside::put_aside;
use crate::sink::position::{Position, fenced, rehearsed};
use crate::sink::row::RowBuffer;
use crate::sink::together::Failure;

/// So much in one statement, and the connection is closed after the transaction: drivers keep the buffers that they grew
/// for it as long as the connection lives, 64 MiB each after 30 MB through libpq, and a new connection costs less than such
/// a statement.
const WEARING_BYTES: usize = 8 << 20;

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
        match write.position {
            Some(step) if self.options.dry_run => {
                let begun = door::now();
                let step = rehearsed(write.batch.partition(), &step, |claim| self.claim(claim))?;
                self.rehearsed += begun.elapsed();
                Ok(Some(step))
            }
            step => Ok(step),
        }
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
        let (inserted, bad) = match self.careful {
            true => self.insert_good(write)?,
            false => (self.insert(&write.batch, 0..count, &write.ids)?, Vec::new()),
        };
        if let (Some(aside), false) = (&write.aside, bad.is_empty()) {
            self.put_aside(write, aside, &bad)?;
        }
        let dead_lettered = bad.len() as u64;
        let records = count as u64 - dead_lettered;
        Ok(Written { records, repeated: records - inserted, dead_lettered })
    }

    /// Inserts a batch in pieces, each after a savepoint, so that bad records are found. Answers how many rows were new,
    /// and the bad ones.
    ///
    /// # Errors
    /// Where none may be put aside, the first bad record's, which it names.
    fn insert_good(&mut self, write: &Write<'_>) -> Result<(u64, Vec<(usize, SinkError)>), Failure> {
        let (batch, aside) = (&write.batch, write.aside.as_ref());
        let takes = |class| aside.map_or(class == ErrorClass::Data, |aside| aside.takes(class));
        let search = Halving::new(batch.len()).in_pieces(self.plan.rows_max);
        let (mut inserted, mut is_saved) = (0, false);
        let attempt = |piece: Range<usize>| {
            if !is_saved {
                self.execute(batch.partition(), "set a savepoint", self.plan.savepoint(), Vec::new())
                    .map_err(Refusal::Fatal)?;
            }
            match self.insert(batch, piece.clone(), &write.ids) {
                Ok(new) => {
                    (inserted, is_saved) = (inserted + new, false);
                    Ok(())
                }
                Err(failure) if !failure.close && takes(failure.error.class) => {
                    let back = self.plan.back_to_savepoint();
                    self.execute(batch.partition(), "go back to a savepoint", back, Vec::new())
                        .map_err(Refusal::Fatal)?;
                    is_saved = true;
                    let suspect = failure.error.offset;
                    let at = piece.clone().find(|index| Some(batch.get(*index).offset) == suspect);
                    Err(Refusal::Bad { error: failure, at })
                }
                Err(mut failure) => {
                    // No record is to blame.
                    failure.error.offset = None;
                    Err(Refusal::Fatal(failure))
                }
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
        self.execute(partition, "set a savepoint", plan.savepoint(), Vec::new())?;
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

    /// Inserts a range of a batch, one statement's worth of rows after the other, and says how many rows were new. In a
    /// careful transaction a failure names the record that is probably to blame.
    fn insert(&mut self, batch: &MessageBatch<'_>, range: Range<usize>, ids: &RecordIds) -> Result<u64, Failure> {
        let partition = batch.partition();
        let head = Head {
            topic: Arc::clone(&partition.topic),
            partition: partition.partition,
            consumer_group: Arc::clone(&self.options.consumer_group),
            unix_ms: self.unix_ms,
        };
        let (mut from, mut inserted) = (range.start, 0);
        while from < range.end {
            let begun = door::now();
            let next = self.rows.fill(batch, from..range.end, ids, self.plan.rows_max, self.buffer);
            self.bound += begun.elapsed();
            let (plan, head, mut rows) = (Arc::clone(self.plan), head.clone(), std::mem::take(self.rows));
            let careful = self.careful;
            let (rows, result) = self
                .link
                .call(self.patience, move |session| {
                    let result = session.insert(&plan, &head, &mut rows).map_err(|fault| {
                        let asked = careful && !fault.ends_connection(plan.system);
                        (asked.then(|| session.suspect(&plan, &rows)).flatten(), fault)
                    });
                    (rows, result)
                })
                .map_err(|fault| self.failure(partition, "write", &fault))?;
            if rows.bytes >= WEARING_BYTES {
                self.link.wear_out();
            }
            *self.rows = rows;
            inserted += result.map_err(|(suspect, fault)| {
                let what = format!("write offsets {}..={}", batch.get(from).offset, batch.get(next - 1).offset);
                let mut failure = self.failure(partition, &what, &fault);
                failure.error.offset = suspect;
                failure
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
