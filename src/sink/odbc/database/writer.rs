//! Claims partitions and writes batches, each call in one transaction on a borrowed connection.
//!
//! What is answered when a transaction fails stands in [`together`]. A batch that is tried alone is tried with savepoints,
//! until the records to blame are known and put aside.
//!
//! Memory beside what the engine accounts for: a writer holds one statement's rows (4 MiB of text), its connection bind
//! buffers for them (another 4 MiB, twice that in UTF-16). A longer value is held whole, and a driver makes copies of it,
//! so batches with such a value are written one at a time, whatever the number of connections. 1,000 documents of 1 to 30 MB
//! into PostgreSQL, with the default budget of 256 MiB: at most 317 MiB resident (`tests/databases/live.rs`).
//!
//! [`together`]: crate::sink::together

use std::sync::Arc;
use std::time::Duration;

use super::plan::{LOCK_NOT_AVAILABLE, Plan};
use super::pool::Pooled;
use super::rehearsal::Absent;
use super::rows::Rows;
use super::sink::Shared;
use super::transaction::{Work, failure_of};
use crate::core::digits::counted;
use crate::core::record::{MessageBatch, Record, TopicPartition};
use crate::core::tally::{Phase, PhaseTimes};
use crate::core::verdict::ErrorClass;
use crate::door;
use crate::port::{Claim, Claimed, SinkError, Write, Writer, Written};
use crate::sink::group::write_in_groups;
use crate::sink::odbc::sqlstate::System;
use crate::sink::position::Position;
use crate::sink::row::RowBuffer;
use crate::sink::together::{Failure, Together};

/// A worker's way into the database.
pub struct OdbcWriter {
    shared: Arc<Shared>,
    plan: Arc<Plan>,
    /// What a dry run makes in each transaction.
    absent: Arc<Absent>,
    rows: Rows,
    buffer: RowBuffer,
    /// The tables must be looked at again.
    broken: bool,
    phases: PhaseTimes,
}

impl Writer for OdbcWriter {
    fn claim(&mut self, claims: &[Claim]) -> Result<Vec<Claimed>, SinkError> {
        let claimed = self.transact(false, |work| claims.iter().map(|claim| work.claim(claim)).collect());
        claimed.map_err(|failure| self.remember(failure))
    }

    fn write(&mut self, writes: &[Write<'_>]) -> Vec<Result<Written, SinkError>> {
        write_in_groups(writes, |group| self.write_group(group))
    }

    fn note_pause(&mut self, partition: &TopicPartition, paused: bool) -> Result<(), SinkError> {
        let noted = self.transact(false, |work| work.note_pause(partition, paused));
        noted.map_err(|failure| self.remember(failure))
    }

    fn phases(&mut self) -> PhaseTimes {
        std::mem::take(&mut self.phases)
    }

    fn broken(&self) -> bool {
        self.broken
    }
}

/// A value from this size on makes its batch heavy.
const HEAVY_BYTES: usize = 2 << 20;

/// Whether the bad record of a batch is looked for.
fn is_searched(write: &Write<'_>, failure: &Failure) -> bool {
    let class = failure.error.class;
    class == ErrorClass::Data || write.aside.is_some_and(|aside| aside.takes(class))
}

fn is_heavy(batch: &MessageBatch<'_>) -> bool {
    let bytes = |bytes: Option<&[u8]>| bytes.map_or(0, <[u8]>::len);
    let of = |record: Record<'_>| bytes(record.key) + bytes(record.value) + record.headers.encoded().len();
    batch.bytes() >= HEAVY_BYTES && batch.iter().any(|record| of(record) >= HEAVY_BYTES)
}

/// Whether somebody in PostgreSQL has held a lock for too long.
fn is_kept_waiting(plan: &Plan, failure: &Failure) -> bool {
    let state = failure.error.code.as_ref().map(|code| code.sqlstate.as_str());
    plan.system == System::Postgres && state == Some(LOCK_NOT_AVAILABLE)
}

/// Whether or not that helps, what failed is tried again.
fn end_frozen(mut pooled: Pooled<'_>, name: &str, patience: Duration) {
    match pooled.call(patience, |session| session.end_frozen()).and_then(|ended| ended) {
        Ok(0) => {}
        Ok(ended) => log::warn!(
            "{name}: {} held locks, and its process was frozen or cut off within a statement: ended",
            counted(ended, "session")
        ),
        Err(fault) => {
            log::debug!("{}", fault.sink_error(name, "end frozen sessions", System::Postgres));
            pooled.close();
        }
    }
}

impl OdbcWriter {
    /// A writer over the shared pool.
    pub fn new(shared: Arc<Shared>, plan: Arc<Plan>, absent: Arc<Absent>) -> Self {
        let buffer = if plan.stores_nul { RowBuffer::default() } else { RowBuffer::without_nul() };
        Self { shared, plan, absent, rows: Rows::default(), buffer, broken: false, phases: PhaseTimes::default() }
    }

    fn write_group(&mut self, writes: &[Write<'_>]) -> Vec<Result<Written, SinkError>> {
        let shared = Arc::clone(&self.shared);
        let _alone = writes.iter().any(|write| is_heavy(&write.batch)).then(|| shared.pool.heavy());
        self.write_and_answer(writes)
    }

    /// Does `body` in one transaction on a connection of the pool.
    fn transact<T>(
        &mut self,
        careful: bool,
        body: impl FnOnce(&mut Work<'_>) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let Self { shared, plan, absent, rows, buffer, phases, .. } = self;
        let (options, patience) = (&shared.options, shared.pool.patience());
        let failed = |what: &str, fault| failure_of(options, plan, what, &fault);
        let (mut pooled, _) = shared.pool.take().map_err(|fault| failed("get a connection", fault))?;
        let unix_ms = options.clock.unix_ms();
        let begun = door::now();
        let (bound, rehearsed) = (Duration::ZERO, Duration::ZERO);
        let mut work =
            Work { link: &mut pooled, plan, options, rows, buffer, patience, unix_ms, careful, bound, rehearsed };
        let done = work.make(absent).and_then(|()| body(&mut work));
        let (bound, rehearsed) = (work.bound, work.rehearsed);
        phases.add(Phase::Bind, bound);
        phases.add(Phase::Execute, begun.elapsed().saturating_sub(bound + rehearsed));
        let executed = door::now();
        let ended = match &done {
            Ok(_) if !options.dry_run => pooled.call(patience, |session| session.commit()),
            Err(failure) if failure.close => Ok(Ok(())),
            _ => pooled.call(patience, |session| session.rollback()),
        };
        phases.add(Phase::Commit, executed.elapsed());
        match (done, ended.and_then(|ended| ended)) {
            (Ok(done), Ok(())) => Ok(done),
            (Ok(_), Err(fault)) => {
                pooled.close();
                Err(failed("commit", fault).of_commit())
            }
            (Err(failure), ended) => {
                if failure.close || ended.is_err() {
                    pooled.close();
                } else if is_kept_waiting(plan, &failure) {
                    end_frozen(pooled, &options.name, patience);
                }
                Err(failure)
            }
        }
    }
}

impl Together for OdbcWriter {
    fn write_together(&mut self, writes: &[Write<'_>]) -> Result<Vec<Written>, Failure> {
        self.transact(false, |work| writes.iter().map(|write| work.write(write)).collect())
    }

    /// With savepoints.
    fn write_alone(&mut self, write: &Write<'_>) -> Result<Written, Failure> {
        self.transact(true, |work| work.write(write))
    }

    fn is_worth_a_second_try(&self, writes: &[Write<'_>], failure: &Failure) -> bool {
        failure.others_may_succeed && (writes.len() > 1 || is_searched(&writes[0], failure))
    }

    fn positions(&mut self, partitions: &[&TopicPartition]) -> Result<Vec<Option<Position>>, Failure> {
        self.transact(false, |work| partitions.iter().map(|partition| work.read_position(partition)).collect())
    }

    fn remember(&mut self, failure: Failure) -> SinkError {
        if failure.error.class == ErrorClass::Schema {
            self.broken = true;
            self.shared.forget_plan();
        }
        failure.error
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::core::identity::RecordIds;
    use crate::core::record::{Extent, RecordBuffer, Span, TopicPartition};
    use crate::sink::group::{GROUP_BYTES, group_len};

    fn records_of(sizes: &[usize]) -> RecordBuffer {
        let mut records = RecordBuffer::default();
        for (offset, size) in sizes.iter().enumerate() {
            let value = Bytes::from(vec![b'x'; *size]);
            records.push_buffer(value.clone());
            records.push(Span {
                offset: offset as i64,
                timestamp_ms: 0,
                key: Extent::ABSENT,
                value: Extent::of(&value, Some(&value)),
                headers: Extent::ABSENT,
                header_count: 0,
            });
        }
        records
    }

    #[test]
    fn small_batches_share_a_transaction_and_huge_values_are_heavy() {
        let partition = TopicPartition::new("t", 0);
        for (sizes, group, heavy) in [
            (vec![vec![10], vec![10], vec![10]], 3, false),
            (vec![vec![10], vec![GROUP_BYTES]], 1, false),
            (vec![vec![GROUP_BYTES + 1], vec![10]], 1, true),
            (vec![vec![HEAVY_BYTES / 2; 6], vec![10]], 2, false),
            (vec![vec![10, HEAVY_BYTES]], 1, true),
        ] {
            let all: Vec<RecordBuffer> = sizes.iter().map(|sizes| records_of(sizes)).collect();
            let write = |records| Write {
                batch: MessageBatch::new(&partition, records, 0..records.len()),
                ids: RecordIds::new("g", &partition),
                position: None,
                aside: None,
            };
            let writes: Vec<Write<'_>> = all.iter().map(write).collect();
            assert_eq!((group_len(&writes), is_heavy(&writes[0].batch)), (group, heavy), "{sizes:?}");
        }
    }
}
