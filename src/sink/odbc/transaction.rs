//! What is done within one transaction: claiming a partition; and writing a batch, which is the compare-and-set of its
//! position and then its rows. Each statement is a call to the connection's thread.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::bind::Value;
use super::fault::Fault;
use super::link::Link;
use super::plan::Plan;
use super::rows::{Head, Rows};
use super::session::{Answer, Session};
use super::sink::OdbcOptions;
use crate::core::identity::RecordIds;
use crate::core::record::{MessageBatch, TopicPartition};
use crate::core::verdict::ErrorClass;
use crate::port::{Claim, Claimed, PositionMove, SinkError, Write, Written};
use crate::sink::position::{Position, fenced};
use crate::sink::row::RowBuffer;

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
    /// Whether a bad record is looked for, with savepoints.
    pub careful: bool,
}

impl Work<'_> {
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
        let Some(start) = claim.start_if_absent else {
            return Ok(Claimed { next_offset: None, owner_epoch: 0, cluster_id: None, topic_id: None, existed: false });
        };
        let insert = key.into_iter().chain([Value::Long(start)]).chain(ids()).chain([now]).collect();
        self.execute(&claim.partition, "begin its position", &sql.insert, insert)?;
        Ok(Claimed {
            next_offset: Some(start),
            owner_epoch: 1,
            cluster_id: cluster_id.map(str::to_owned),
            topic_id: claim.topic_id,
            existed: false,
        })
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
        })
    }

    /// Moves one batch's position and inserts its rows.
    pub fn write(&mut self, write: &Write<'_>) -> Result<Written, Failure> {
        if let Some(step) = &write.position
            && !self.advance(write, step)?
        {
            return Ok(repeated(&write.batch));
        }
        let inserted = self.insert(&write.batch, 0..write.batch.len(), &write.ids)?;
        let records = write.batch.len() as u64;
        Ok(Written { records, repeated: records - inserted })
    }

    /// Moves the position. False when this very move was committed before, and its rows with it.
    fn advance(&mut self, write: &Write<'_>, step: &PositionMove) -> Result<bool, Failure> {
        let partition = write.batch.partition();
        let mut values = vec![
            Value::Long(step.next),
            Value::Long(write.batch.len() as i64),
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

    /// Inserts a range of a batch and says how many rows were new.
    ///
    /// # Errors
    /// In a careful transaction a record that is to blame is named, and what was inserted of the range is undone.
    fn insert(&mut self, batch: &MessageBatch<'_>, range: Range<usize>, ids: &RecordIds) -> Result<u64, Failure> {
        if !self.careful || range.is_empty() {
            return self.insert_all(batch, range, ids);
        }
        let partition = batch.partition();
        let (set, back) = (self.plan.savepoint(), self.plan.back_to_savepoint());
        self.execute(partition, "set a savepoint", set, Vec::new())?;
        let failure = match self.insert_all(batch, range.clone(), ids) {
            Err(failure) if failure.is_data() => failure,
            result => return result,
        };
        self.execute(partition, "go back to a savepoint", back, Vec::new())?;
        if range.len() == 1 {
            return Err(failure.blaming(batch.get(range.start).offset));
        }
        let middle = range.start + range.len() / 2;
        Ok(self.insert(batch, range.start..middle, ids)? + self.insert(batch, middle..range.end, ids)?)
    }

    /// Inserts a range of a batch, one statement's worth of rows after the other.
    fn insert_all(&mut self, batch: &MessageBatch<'_>, range: Range<usize>, ids: &RecordIds) -> Result<u64, Failure> {
        let partition = batch.partition();
        let head = Head {
            topic: Arc::clone(&partition.topic),
            partition: partition.partition,
            consumer_group: Arc::clone(&self.options.consumer_group),
            unix_ms: self.unix_ms,
        };
        let (mut from, mut inserted) = (range.start, 0);
        while from < range.end {
            let next = self.rows.fill(batch, from..range.end, ids, self.plan.rows_max, self.buffer);
            let (plan, head, mut rows) = (Arc::clone(self.plan), head.clone(), std::mem::take(self.rows));
            let (rows, result) = self
                .link
                .call(self.patience, move |session| {
                    let result = session.insert(&plan, &head, &mut rows);
                    (rows, result)
                })
                .map_err(|fault| self.failure(partition, "write", &fault))?;
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
        let mut failure = Failure::of(self.options, self.plan, &format!("{what} ({partition})"), fault);
        failure.others_may_succeed =
            !failure.close && matches!(failure.error.class, ErrorClass::Data | ErrorClass::Unclassified);
        failure
    }
}

fn position(answer: Answer) -> Option<Position> {
    let [next_offset, epoch, cluster_id, topic_id] = <[Option<String>; 4]>::try_from(answer).ok()?;
    Some(Position {
        next_offset: next_offset?.trim().parse().ok()?,
        epoch: epoch?.trim().parse().ok()?,
        cluster_id,
        topic_id,
    })
}

/// The answer for a batch that was committed before.
pub fn repeated(batch: &MessageBatch<'_>) -> Written {
    let records = batch.len() as u64;
    Written { records, repeated: records }
}

/// Why a transaction did not happen.
#[derive(Debug)]
pub struct Failure {
    pub error: SinkError,
    /// The other batches of the transaction may succeed without the one that failed.
    pub others_may_succeed: bool,
    /// The connection is of no further use.
    pub close: bool,
    /// The failure was an answer to COMMIT, or that there was none: it may have been carried out.
    pub outcome_unknown: bool,
}

impl Failure {
    /// One that concerns everything in the transaction.
    pub fn of(options: &OdbcOptions, plan: &Plan, what: &str, fault: &Fault) -> Self {
        let error = fault.sink_error(&options.name, what, plan.system);
        // After a change of the table, what was prepared on the connection may not fit any more.
        let close = fault.ends_connection(plan.system) || error.class == ErrorClass::Schema;
        Self { error, others_may_succeed: false, close, outcome_unknown: false }
    }

    /// One that concerns a single batch, and not the connection.
    fn of_batch(error: SinkError) -> Self {
        Self { error, others_may_succeed: true, close: false, outcome_unknown: false }
    }

    /// Whether some record is to blame.
    pub fn is_data(&self) -> bool {
        self.error.class == ErrorClass::Data
    }

    fn blaming(mut self, offset: i64) -> Self {
        self.error.offset = Some(offset);
        self
    }
}
