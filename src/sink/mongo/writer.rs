//! Claims partitions and writes batches, each call in one transaction.
//!
//! What is answered when a transaction fails stands in [`together`]. A batch that is tried alone is tried again without
//! the records that the server named, until it passes.
//!
//! [`together`]: crate::sink::together

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use mongodb::bson::{Bson, Document, doc};
use mongodb::error::UNKNOWN_TRANSACTION_COMMIT_RESULT;
use mongodb::options::ReadConcern;
use mongodb::sync::ClientSession;

use super::document::Documents;
use super::fault::sink_error;
use super::transaction::{Batch, Refused, Trouble, Work, failure_of};
use super::{POSITIONS, Shared};
use crate::core::record::TopicPartition;
use crate::core::tally::{Phase, PhaseTimes};
use crate::core::verdict::ErrorClass;
use crate::door;
use crate::port::{Claim, Claimed, SinkError, Write, Writer, Written};
use crate::sink::group::write_in_groups;
use crate::sink::position::Position;
use crate::sink::row::RowBuffer;
use crate::sink::together::{Failure, Together};

/// Between two questions for a commit whose answer is lost.
const COMMIT_PAUSE: Duration = Duration::from_millis(50);

/// A worker's way into MongoDB.
pub struct MongoWriter {
    shared: Arc<Shared>,
    rows: RowBuffer,
    phases: PhaseTimes,
}

impl Writer for MongoWriter {
    fn claim(&mut self, claims: &[Claim]) -> Result<Vec<Claimed>, SinkError> {
        let claimed = self.transact(|work, _| claims.iter().map(|claim| work.claim(claim)).collect());
        claimed.map_err(|failure| self.remember(failure))
    }

    fn write(&mut self, writes: &[Write<'_>]) -> Vec<Result<Written, SinkError>> {
        write_in_groups(writes, |group| self.write_and_answer(group))
    }

    fn note_pause(&mut self, partition: &TopicPartition, paused: bool) -> Result<(), SinkError> {
        if !self.shared.options.exactly_once {
            return Ok(());
        }
        let noted = self.transact(|work, _| work.note_pause(partition, paused));
        noted.map_err(|failure| self.remember(failure))
    }

    fn phases(&mut self) -> PhaseTimes {
        std::mem::take(&mut self.phases)
    }
}

impl MongoWriter {
    /// A writer over the shared client.
    pub fn new(shared: Arc<Shared>) -> Self {
        Self { shared, rows: RowBuffer::default(), phases: PhaseTimes::default() }
    }

    /// Makes the documents of a batch, and their collection.
    fn prepare<'a>(&mut self, shared: &'a Shared, write: &'a Write<'a>) -> Result<Batch<'a>, Failure> {
        let partition = write.batch.partition();
        let collection = shared.options.collection.as_deref().unwrap_or(&partition.topic);
        if collection == POSITIONS {
            let words =
                format!("{}: {POSITIONS} holds the positions: name another with --mongodb-collection", shared.name);
            return Err(Failure::of_batch(SinkError::new(ErrorClass::Schema, words)));
        }
        if !write.batch.is_empty() {
            shared.ensure(collection).map_err(Failure::of_batch)?;
        }
        let mut batch = Batch {
            write,
            collection,
            changes: Vec::with_capacity(write.batch.len()),
            bad: Vec::new(),
            present: HashSet::new(),
            letters_only: HashSet::new(),
        };
        let (begun, unix_ms) = (door::now(), shared.options.clock.unix_ms());
        let (options, ids) = (&shared.options, &write.ids);
        let mut documents = Documents { options, partition, ids, rows: &mut self.rows, unix_ms };
        for (index, record) in write.batch.iter().enumerate() {
            match documents.change(index, &record) {
                Ok(change) => batch.changes.push(change),
                Err(error) => batch.put_down(index, error)?,
            }
        }
        self.phases.add(Phase::Bind, begun.elapsed());
        Ok(batch)
    }

    /// Which documents of a batch are in the collection.
    fn present(&self, batch: &Batch<'_>) -> Result<HashSet<usize>, Failure> {
        let ids: Vec<&Bson> = batch.changes.iter().map(|change| &change.id).collect();
        let collection = self.shared.database().collection::<Document>(batch.collection);
        let found = collection.find(doc! { "_id": { "$in": ids } }).projection(doc! { "_id": 1 });
        let found =
            found.max_time(self.shared.options.timeout).run().and_then(|found| found.collect::<Result<Vec<_>, _>>());
        let found = found.map_err(|error| failure_of(&self.shared.name, "look for what is there", &error))?;
        let found: HashSet<&Bson> = found.iter().filter_map(|document| document.get("_id")).collect();
        Ok(batch.changes.iter().filter(|change| found.contains(&change.id)).map(|change| change.index).collect())
    }

    /// Does `body` in one transaction; in none where positions are not kept.
    fn transact<T, E: From<Failure>>(
        &mut self,
        body: impl FnOnce(&mut Work<'_>, &mut RowBuffer) -> Result<T, E>,
    ) -> Result<T, E> {
        let Self { shared, rows, phases } = self;
        let (begun, unix_ms) = (door::now(), shared.options.clock.unix_ms());
        let session = if shared.is_transactional() { Some(begin(shared)?) } else { None };
        let mut work = Work { shared, database: shared.database(), session, unix_ms, rehearsed: Duration::ZERO };
        let done = body(&mut work, rows);
        phases.add(Phase::Execute, begun.elapsed().saturating_sub(work.rehearsed));
        let Some(session) = work.session else { return done };
        let executed = door::now();
        let ended = end(shared, session, done);
        phases.add(Phase::Commit, executed.elapsed());
        ended
    }
}

impl Together for MongoWriter {
    /// Only a batch that is alone may put records aside.
    fn write_together(&mut self, writes: &[Write<'_>]) -> Result<Vec<Written>, Failure> {
        if let [write] = writes {
            return Ok(vec![self.write_alone(write)?]);
        }
        let shared = Arc::clone(&self.shared);
        let plain: Vec<Write<'_>> = writes.iter().map(|write| Write { aside: None, ..*write }).collect();
        let mut batches = Vec::with_capacity(plain.len());
        for write in &plain {
            batches.push(self.prepare(&shared, write)?);
        }
        let written = self.transact(|work, rows| batches.iter_mut().map(|batch| work.write(batch, rows)).collect());
        written.map_err(Trouble::into)
    }

    /// Tried until it passes without what the server refuses of it.
    fn write_alone(&mut self, write: &Write<'_>) -> Result<Written, Failure> {
        let shared = Arc::clone(&self.shared);
        let mut batch = self.prepare(&shared, write)?;
        loop {
            let (refused, error) = match self.transact(|work, rows| work.write(&mut batch, rows)) {
                Ok(written) => return Ok(written),
                Err(Trouble::Failed(failure)) => return Err(failure),
                Err(Trouble::Refused(refused, error)) => (refused, error),
            };
            match refused {
                Refused::Record(index) => batch.put_down(index, error)?,
                Refused::Letter(offset) => drop(batch.letters_only.insert(offset)),
                Refused::Present => {
                    let present = self.present(&batch)?;
                    if present.is_subset(&batch.present) {
                        return Err(Failure::of_batch(error));
                    }
                    batch.present = present;
                }
            }
        }
    }

    fn positions(&mut self, partitions: &[&TopicPartition]) -> Result<Vec<Option<Position>>, Failure> {
        self.transact(|work, _| partitions.iter().map(|partition| work.read_position(partition)).collect())
    }

    fn remember(&mut self, failure: Failure) -> SinkError {
        failure.error
    }
}

/// Begins a transaction.
fn begin(shared: &Shared) -> Result<ClientSession, Failure> {
    let failed = |what: &str, error: &_| Failure::of_all(sink_error(&shared.name, what, error), false);
    let mut session = shared.client.start_session().run().map_err(|error| failed("begin a session", &error))?;
    let begun = session.start_transaction().read_concern(ReadConcern::snapshot());
    let begun = begun.write_concern(shared.write_concern()).max_commit_time(shared.options.timeout).run();
    begun.map_err(|error| failed("begin a transaction", &error))?;
    Ok(session)
}

/// Commits what was done; what failed is aborted, and all of a dry run.
///
/// A commit whose answer is lost is asked for again as long as the timeout allows: each time the server says what became of
/// the first. A transaction that is left open keeps its documents from everybody for a minute.
fn end<T, E: From<Failure>>(shared: &Shared, mut session: ClientSession, done: Result<T, E>) -> Result<T, E> {
    if done.is_err() || shared.options.dry_run {
        // What cannot be told to end ends by itself.
        let _ = session.abort_transaction().run();
        return done;
    }
    let patience_ends = door::now() + shared.options.timeout;
    loop {
        let Err(error) = session.commit_transaction().run() else { return done };
        let failure = Failure::of_all(sink_error(&shared.name, "commit", &error), false);
        if !error.contains_label(UNKNOWN_TRANSACTION_COMMIT_RESULT) {
            return Err(failure.into());
        }
        if door::now() >= patience_ends {
            return Err(failure.of_commit().into());
        }
        door::sleep(COMMIT_PAUSE);
    }
}
