//! Claims partitions and writes batches, each call in one transaction.
//!
//! Batches of several partitions share a transaction; when one fails for a reason of its own, each is tried alone. Alone,
//! a batch is tried again without the records that the server named, until it passes. A failure that concerns all of them
//! (no primary, disk full) is everybody's answer at once. When the answer to the commit is lost, the positions say which
//! batches were committed.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use mongodb::bson::{Bson, Document, doc};
use mongodb::error::UNKNOWN_TRANSACTION_COMMIT_RESULT;
use mongodb::options::ReadConcern;
use mongodb::sync::ClientSession;

use super::document::Documents;
use super::fault::sink_error;
use super::transaction::{Batch, Failure, Refused, Work};
use super::{POSITIONS, Shared};
use crate::core::record::TopicPartition;
use crate::core::tally::{Phase, PhaseTimes};
use crate::core::verdict::ErrorClass;
use crate::door;
use crate::port::{Claim, Claimed, SinkError, Write, Writer, Written};
use crate::sink::group::group_len;
use crate::sink::row::RowBuffer;

/// A commit whose answer is lost is asked for again; each time the server says what became of the first.
const COMMITS_MAX: usize = 3;

/// A worker's way into MongoDB.
pub struct MongoWriter {
    shared: Arc<Shared>,
    rows: RowBuffer,
    phases: PhaseTimes,
}

impl Writer for MongoWriter {
    fn claim(&mut self, claims: &[Claim]) -> Result<Vec<Claimed>, SinkError> {
        let claimed = self.transact(|work, _| claims.iter().map(|claim| work.claim(claim)).collect());
        claimed.map_err(|failure| failure.error)
    }

    fn write(&mut self, writes: &[Write<'_>]) -> Vec<Result<Written, SinkError>> {
        let mut answers = Vec::with_capacity(writes.len());
        let mut rest = writes;
        while !rest.is_empty() {
            let (group, later) = rest.split_at(group_len(rest));
            answers.extend(self.write_group(group));
            rest = later;
        }
        answers
    }

    fn note_pause(&mut self, partition: &TopicPartition, paused: bool) -> Result<(), SinkError> {
        if !self.shared.options.exactly_once {
            return Ok(());
        }
        self.transact(|work, _| work.note_pause(partition, paused)).map_err(|failure| failure.error)
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

    fn write_group(&mut self, writes: &[Write<'_>]) -> Vec<Result<Written, SinkError>> {
        if let [write] = writes {
            return match self.write_alone(write) {
                Ok(written) => vec![Ok(written)],
                Err(failure) => self.answer_all(writes, &failure),
            };
        }
        match self.write_together(writes) {
            Ok(written) => written.into_iter().map(Ok).collect(),
            Err(failure) if failure.others_may_succeed => self.write_each(writes),
            Err(failure) => self.answer_all(writes, &failure),
        }
    }

    /// All in one transaction, none of them with anything put aside.
    fn write_together(&mut self, writes: &[Write<'_>]) -> Result<Vec<Written>, Failure> {
        let shared = Arc::clone(&self.shared);
        let plain: Vec<Write<'_>> = writes.iter().map(|write| Write { aside: None, ..*write }).collect();
        let mut batches = Vec::with_capacity(plain.len());
        for write in &plain {
            batches.push(self.prepare(&shared, write)?);
        }
        self.transact(|work, rows| batches.iter_mut().map(|batch| work.write(batch, rows)).collect())
    }

    /// Each batch in a transaction of its own; once the server itself fails, the rest get that answer untried.
    fn write_each(&mut self, writes: &[Write<'_>]) -> Vec<Result<Written, SinkError>> {
        let mut answers = Vec::with_capacity(writes.len());
        for (index, write) in writes.iter().enumerate() {
            match self.write_alone(write) {
                Ok(written) => answers.push(Ok(written)),
                Err(failure) if failure.others_may_succeed => answers.push(Err(failure.error)),
                Err(failure) => {
                    answers.extend(self.answer_all(&writes[index..], &failure));
                    break;
                }
            }
        }
        answers
    }

    /// One batch, tried until it passes without what the server refuses of it.
    fn write_alone(&mut self, write: &Write<'_>) -> Result<Written, Failure> {
        let shared = Arc::clone(&self.shared);
        let mut batch = self.prepare(&shared, write)?;
        loop {
            let mut failure = match self.transact(|work, rows| work.write(&mut batch, rows)) {
                Ok(written) => return Ok(written),
                Err(failure) => failure,
            };
            match failure.refused.take() {
                Some(Refused::Record(index)) => batch.put_down(index, failure.error)?,
                Some(Refused::Letter(offset)) => drop(batch.letters_only.insert(offset)),
                Some(Refused::Present) => {
                    let present = self.present(&batch)?;
                    if present.is_subset(&batch.present) {
                        return Err(failure);
                    }
                    batch.present = present;
                }
                None => return Err(failure),
            }
        }
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
        let found = found.map_err(|error| Failure::of_error(&self.shared.name, "look for what is there", &error))?;
        let found: HashSet<&Bson> = found.iter().filter_map(|document| document.get("_id")).collect();
        Ok(batch.changes.iter().filter(|change| found.contains(&change.id)).map(|change| change.index).collect())
    }

    /// One failure as the answer to all, except to those that the position proves committed.
    fn answer_all(&mut self, writes: &[Write<'_>], failure: &Failure) -> Vec<Result<Written, SinkError>> {
        let answer = |write: &Write<'_>| {
            let records = write.batch.len() as u64;
            match failure.outcome_unknown && self.is_committed(write) {
                true => Ok(Written { repeated: records, ..Written::all(records) }),
                false => Err(failure.error.clone()),
            }
        };
        writes.iter().map(answer).collect()
    }

    /// Whether the position says so. Where it cannot be read now, no: the engine tries again, and the compare-and-set then
    /// finds what was done.
    fn is_committed(&mut self, write: &Write<'_>) -> bool {
        let Some(step) = write.position else { return false };
        match self.transact(|work, _| work.read_position(write.batch.partition())) {
            Ok(found) => found.is_some_and(|position| position.is_after(&step)),
            Err(failure) => {
                log::warn!("whether the last batch was committed is not known yet: {}", failure.error);
                false
            }
        }
    }

    /// Does `body` in one transaction; in none where positions are not kept.
    fn transact<T>(
        &mut self,
        body: impl FnOnce(&mut Work<'_>, &mut RowBuffer) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
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

/// Begins a transaction.
fn begin(shared: &Shared) -> Result<ClientSession, Failure> {
    let failed = |what: &str, error: &_| Failure::of_all(sink_error(&shared.name, what, error));
    let mut session = shared.client.start_session().run().map_err(|error| failed("begin a session", &error))?;
    let begun = session.start_transaction().read_concern(ReadConcern::snapshot());
    let begun = begun.write_concern(shared.write_concern()).max_commit_time(shared.options.timeout).run();
    begun.map_err(|error| failed("begin a transaction", &error))?;
    Ok(session)
}

/// Commits what was done; what failed is aborted, and all of a dry run.
fn end<T>(shared: &Shared, mut session: ClientSession, done: Result<T, Failure>) -> Result<T, Failure> {
    if done.is_err() || shared.options.dry_run {
        // What cannot be told to end ends by itself.
        let _ = session.abort_transaction().run();
        return done;
    }
    let failed = |error: &_| Failure::of_all(sink_error(&shared.name, "commit", error));
    for _ in 1..COMMITS_MAX {
        match session.commit_transaction().run() {
            Err(error) if error.contains_label(UNKNOWN_TRANSACTION_COMMIT_RESULT) => {}
            outcome => return outcome.map_err(|error| failed(&error)).and(done),
        }
    }
    let last = session.commit_transaction().run();
    last.map_err(|error| Failure { outcome_unknown: true, ..failed(&error) })?;
    done
}
