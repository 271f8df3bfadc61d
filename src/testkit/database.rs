//! A database in memory: rows and positions in one transaction, or a handler that keeps nothing of the kind.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::clock::VirtualClock;
use super::faults::{Bug, Fault, Faults};
use super::journal::{Entry, Journal};
use crate::core::assignment::{Claim, Claimed};
use crate::core::record::TopicPartition;
use crate::core::verdict::ErrorClass;
use crate::port::{Aside, Letter, PositionMove, Sink, SinkError, SinkTraits, Write, Writer, Written};

/// A position row.
#[derive(Clone, Copy, Debug)]
struct Row {
    next: i64,
    owner_epoch: i64,
    paused: bool,
}

#[derive(Default)]
struct Tables {
    positions: BTreeMap<TopicPartition, Row>,
    /// Partitions whose last answer was lost; only a planted defect looks at them.
    unsure: BTreeSet<TopicPartition>,
}

/// The positions of one world; its rows are in the journal. Clones share them.
#[derive(Clone, Default)]
pub struct Database(Arc<Mutex<Tables>>);

impl Database {
    /// Where a partition stands.
    pub fn position(&self, partition: &TopicPartition) -> Option<i64> {
        self.0.lock().positions.get(partition).map(|row| row.next)
    }
}

/// How a sink goes about it.
#[derive(Clone, Debug)]
pub struct Manner {
    pub transactional: bool,
    pub batches_per_write: usize,
    /// Whether it can tell bad records from good ones within its transaction.
    pub bisects: bool,
    /// How it calls a bad record.
    pub bad: ErrorClass,
    /// The longest a call takes.
    pub slow_ms: u64,
}

/// One process's way into a [`Database`].
#[derive(Clone)]
pub struct DatabaseSink {
    pub process: u32,
    pub database: Database,
    pub manner: Manner,
    pub faults: Faults,
    pub journal: Journal,
    pub clock: VirtualClock,
    /// The offset behind the highest record written, per partition; for [`Bug::TrackerOfRanges`].
    pub highest: Arc<Mutex<BTreeMap<TopicPartition, i64>>>,
}

impl Sink for DatabaseSink {
    fn traits(&self) -> SinkTraits {
        let Manner { transactional, batches_per_write, .. } = self.manner;
        SinkTraits { name: "simulated".into(), writers_max: 8, batches_per_write, transactional }
    }

    fn writer(&self) -> Result<Box<dyn Writer>, SinkError> {
        self.faults.away("no connection")?;
        Ok(Box::new(DatabaseWriter { sink: self.clone(), broken: false }))
    }
}

struct DatabaseWriter {
    sink: DatabaseSink,
    broken: bool,
}

impl DatabaseWriter {
    /// Makes a call that bad luck may strike: before it, or on the way of its answer.
    fn call<T>(&mut self, call: impl FnOnce(&mut Self) -> Result<T, SinkError>) -> Result<T, SinkError> {
        let faults = self.sink.faults.clone();
        if self.sink.manner.slow_ms > 0 {
            self.sink.clock.advance(Duration::from_millis(faults.draw() % (self.sink.manner.slow_ms + 1)));
        }
        match faults.strike() {
            None => call(self),
            Some(Fault::Panic) => panic!("planted"),
            Some(Fault::Silence) => Err(SinkError::new(ErrorClass::Unclassified, "planted: no answer")),
            Some(Fault::Refused(class)) => {
                self.broken = class == ErrorClass::Transient;
                Err(SinkError::new(class, format!("planted: {class}")))
            }
            Some(Fault::LostAnswer) => {
                self.broken = true;
                call(self)?;
                Err(SinkError::new(ErrorClass::Transient, "planted: the connection broke during the commit"))
            }
        }
    }

    fn write_one(&mut self, write: &Write<'_>) -> Result<Written, SinkError> {
        let bad = self.bad_records(write);
        let failed: Vec<i64> = match bad.is_empty() {
            true => Vec::new(),
            false => self.put_aside(write, &bad)?,
        };
        let put_aside = bad.len() as u64;
        let rows =
            write.batch.iter().filter(|record| !bad.iter().any(|(_, error)| error.offset == Some(record.offset)));
        let rows: Vec<i64> = rows.map(|record| record.offset).collect();
        let written = Written { dead_lettered: put_aside, ..Written::all(rows.len() as u64) };
        self.commit(write.batch.partition(), rows, failed, write.position)?;
        Ok(written)
    }

    /// The bad records of a batch by index, each with its error.
    fn bad_records(&self, write: &Write<'_>) -> Vec<(usize, SinkError)> {
        let (faults, class) = (&self.sink.faults, self.sink.manner.bad);
        let bad = write.batch.iter().enumerate().filter(|(_, record)| {
            // What moves a position past a record put aside has an empty batch, so nothing is asked twice.
            faults.is_bad(write.batch.partition(), record.offset)
        });
        let error = |offset| SinkError { offset: Some(offset), ..SinkError::new(class, "planted: a bad record") };
        bad.map(|(index, record)| (index, error(record.offset))).collect()
    }

    /// Puts bad records aside where that is allowed, and answers which of them are rows of the table now.
    fn put_aside(&self, write: &Write<'_>, bad: &[(usize, SinkError)]) -> Result<Vec<i64>, SinkError> {
        let manner = &self.sink.manner;
        // A record that is alone needs no search.
        let found = manner.bisects || write.batch.len() == 1;
        let allowed = |aside: &Aside<'_>| found && aside.takes(manner.bad);
        let Some(aside) = write.aside.filter(allowed) else {
            // Which record it was is not always said.
            let (_, error) = &bad[0];
            let said = manner.bad == ErrorClass::Data && self.sink.faults.draw().is_multiple_of(2);
            return Err(SinkError { offset: error.offset.filter(|_| said), ..error.clone() });
        };
        aside.check(bad, write.batch.len())?;
        if let Some(told) = aside.told {
            bad.iter().for_each(|(index, error)| told.put_aside(write.batch.get(*index).offset, error));
        }
        if aside.rows {
            return Ok(bad.iter().filter_map(|(_, error)| error.offset).collect());
        }
        let Some(letters) = aside.letters else { return Err(bad[0].1.clone()) };
        let (partition, attempts) = (write.batch.partition(), aside.attempts);
        for (index, error) in bad {
            let record = write.batch.get(*index);
            letters.put(&[Letter { partition, record, error, attempts, table: "simulated" }])?;
        }
        Ok(Vec::new())
    }

    /// Commits rows and position together, if the position is still ours to move.
    fn commit(
        &mut self,
        partition: &TopicPartition,
        rows: Vec<i64>,
        failed: Vec<i64>,
        step: Option<PositionMove>,
    ) -> Result<(), SinkError> {
        let DatabaseSink { process, database, faults, journal, .. } = &self.sink;
        let mut tables = database.0.lock();
        let blind = faults.planted(Bug::BlindRetry) && tables.unsure.remove(partition);
        if let Some(step) = step {
            let ours = |row: &&mut Row| {
                let owner = row.owner_epoch == step.owner_epoch || faults.planted(Bug::EpochIgnored);
                (owner && row.next == step.expected) || blind
            };
            let Some(row) = tables.positions.get_mut(partition).filter(ours) else {
                journal.note(Entry::Fenced { process: *process, partition: partition.clone() });
                return Err(SinkError::new(ErrorClass::Fenced, "another owner moved the position"));
            };
            row.next = step.next;
        }
        drop(tables);
        if let Some(last) = rows.iter().max() {
            let mut highest = self.sink.highest.lock();
            let highest = highest.entry(partition.clone()).or_default();
            *highest = (last + 1).max(*highest);
        }
        let position = step.map(|step| step.next);
        let (process, partition) = (*process, partition.clone());
        if faults.planted(Bug::CommitBeforeWrite) && position.is_some() {
            let (rows, failed, partition) = (Vec::new(), Vec::new(), partition.clone());
            journal.note(Entry::Committed { process, partition, rows, failed, position });
            faults.away("between position and rows")?;
        }
        journal.note(Entry::Committed { process, partition, rows, failed, position });
        Ok(())
    }
}

impl Writer for DatabaseWriter {
    fn claim(&mut self, claims: &[Claim]) -> Result<Vec<Claimed>, SinkError> {
        self.call(|writer| {
            let mut tables = writer.sink.database.0.lock();
            let claim_one = |claim: &Claim| {
                let existed = tables.positions.contains_key(&claim.partition);
                let start = claim.start_if_absent.unwrap_or_default();
                let new = Row { next: start, owner_epoch: 0, paused: false };
                let row = tables.positions.entry(claim.partition.clone()).or_insert(new);
                row.owner_epoch += 1;
                let (process, partition, owner_epoch) = (writer.sink.process, claim.partition.clone(), row.owner_epoch);
                writer.sink.journal.note(Entry::Claimed { process, partition, owner_epoch });
                Claimed {
                    next_offset: Some(row.next),
                    owner_epoch,
                    cluster_id: None,
                    topic_id: None,
                    existed,
                    paused: row.paused,
                }
            };
            Ok(claims.iter().map(claim_one).collect())
        })
    }

    fn write(&mut self, writes: &[Write<'_>]) -> Vec<Result<Written, SinkError>> {
        for write in writes {
            let (process, partition) = (self.sink.process, write.batch.partition().clone());
            self.sink.journal.note(Entry::Tried { process, partition });
        }
        let results = self.call(|writer| Ok(writes.iter().map(|write| writer.write_one(write)).collect::<Vec<_>>()));
        results.unwrap_or_else(|error| {
            if self.broken {
                let unsure = writes.iter().map(|write| write.batch.partition().clone());
                self.sink.database.0.lock().unsure.extend(unsure);
            }
            let answers = if error.message.contains("no answer") { writes.len() - 1 } else { writes.len() };
            vec![Err(error); answers]
        })
    }

    fn note_pause(&mut self, partition: &TopicPartition, paused: bool) -> Result<(), SinkError> {
        self.call(|writer| {
            if let Some(row) = writer.sink.database.0.lock().positions.get_mut(partition) {
                row.paused = paused;
                writer.sink.journal.note(Entry::PauseNoted { partition: partition.clone(), paused });
            }
            Ok(())
        })
    }

    fn broken(&self) -> bool {
        self.broken
    }
}
