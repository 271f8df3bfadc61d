//! What is done within one transaction, or without one where there is none: claiming partitions; and writing a batch,
//! which is the compare-and-set of its position, then its documents, then what is put aside.

use std::collections::HashSet;
use std::time::Duration;

use mongodb::bson::{DateTime, Document, RawDocumentBuf};
use mongodb::error::Error;
use mongodb::sync::{ClientSession, Database};

use super::document::{Change, Documents};
use super::fault::{said_error, sink_error};
use super::position::Positions;
use super::store::{self, Place, Refusal};
use super::{Shared, WriteMode};
use crate::core::record::TopicPartition;
use crate::core::verdict::ErrorClass;
use crate::door;
use crate::mongo::error::Said;
use crate::port::{Aside, Claim, Claimed, PositionMove, SinkError, Write, Written};
use crate::sink::aside::put_aside;
use crate::sink::position::{Position, TABLE as POSITIONS, fenced, rehearsed};
use crate::sink::row::RowBuffer;
use crate::sink::together::Failure;

/// A batch and what is known of it, from one attempt to the next.
pub struct Batch<'a> {
    pub write: &'a Write<'a>,
    pub collection: &'a str,
    pub changes: Vec<Change>,
    /// Records that cannot be stored, by index.
    pub bad: Vec<(usize, SinkError)>,
    /// Records whose document is there already, by index.
    pub present: HashSet<usize>,
    /// Records that have no place as a FAILED document either, by offset.
    pub letters_only: HashSet<i64>,
}

impl Batch<'_> {
    /// What is still to be written.
    fn pending(&self) -> Vec<&Change> {
        let bad: HashSet<usize> = self.bad.iter().map(|(index, _)| *index).collect();
        let is_pending = |change: &&Change| !bad.contains(&change.index) && !self.present.contains(&change.index);
        self.changes.iter().filter(is_pending).collect()
    }
}

/// A transaction in progress, with all that is needed to write in it.
pub struct Work<'a> {
    pub shared: &'a Shared,
    pub database: Database,
    /// None: each write stands alone.
    pub session: Option<ClientSession>,
    pub unix_ms: i64,
    /// What was done for the sake of a dry run took so far.
    pub rehearsed: Duration,
}

impl Work<'_> {
    /// Takes possession of one partition.
    pub fn claim(&mut self, claim: &Claim) -> Result<Claimed, Failure> {
        self.position(&claim.partition, "claim the position of", |positions| positions.claim(claim))
    }

    /// Notes whether a person paused a partition.
    pub fn note_pause(&mut self, partition: &TopicPartition, paused: bool) -> Result<(), Failure> {
        self.position(partition, "note the pause of", |positions| positions.note_pause(partition, paused))
    }

    /// The position of a partition as it is.
    pub fn read_position(&mut self, partition: &TopicPartition) -> Result<Option<Position>, Failure> {
        self.position(partition, "read the position of", |positions| positions.read(partition))
    }

    fn position<T>(
        &mut self,
        partition: &TopicPartition,
        what: &str,
        body: impl FnOnce(&mut Positions<'_>) -> Result<T, Error>,
    ) -> Result<T, Failure> {
        let shared = self.shared;
        let Some(session) = &mut self.session else {
            return Err(Failure::of_all(super::super::keeps_no_position(&shared.name), false));
        };
        let mut positions = Positions {
            collection: self.database.collection::<Document>(POSITIONS),
            group: &shared.options.consumer_group,
            session,
            now: DateTime::from_millis(self.unix_ms),
        };
        body(&mut positions).map_err(|error| {
            let failed = sink_error(&shared.name, &format!("{what} {partition}"), &error);
            // Two owners that begin a position at once.
            let class = if failed.class == ErrorClass::Data { ErrorClass::Contention } else { failed.class };
            Failure::of_all(SinkError { class, ..failed }, false)
        })
    }

    /// The move of a write's position.
    fn step(&mut self, write: &Write<'_>) -> Result<Option<PositionMove>, Failure> {
        if !self.shared.options.dry_run {
            return Ok(write.position);
        }
        let begun = door::now();
        let step = rehearsed(write, |claim| self.claim(claim))?;
        self.rehearsed += begun.elapsed();
        Ok(step)
    }

    /// Moves one batch's position and writes its documents.
    pub fn write(&mut self, batch: &mut Batch<'_>, rows: &mut RowBuffer) -> Result<Written, Trouble> {
        let count = batch.write.batch.len() as u64;
        if let Some(step) = self.step(batch.write)?
            && !self.advance(batch, &step)?
        {
            return Ok(Written::all_repeated(count));
        }
        let refused = self.store(batch)?;
        let in_transaction = self.session.is_some();
        for (index, said) in refused {
            let is_present = is_duplicate_id(&said) && self.shared.options.mode == WriteMode::Insert;
            let error = self.refusal(batch, index, &said);
            match is_present {
                true if in_transaction => return Err(Trouble::Refused(Refused::Present, error)),
                false if in_transaction => return Err(Trouble::Refused(Refused::Record(index), error)),
                true => drop(batch.present.insert(index)),
                false => batch.put_down(index, error)?,
            }
        }
        self.put_aside(batch, rows)?;
        let dead_lettered = batch.bad.len() as u64;
        Ok(Written { records: count - dead_lettered, repeated: batch.present.len() as u64, dead_lettered })
    }

    /// Moves the position. False when this very move was committed before, and its documents with it.
    fn advance(&mut self, batch: &Batch<'_>, step: &PositionMove) -> Result<bool, Failure> {
        let (partition, bad) = (batch.write.batch.partition(), batch.bad.len() as u64);
        let written = batch.write.batch.len() as u64 - bad;
        let advance = |positions: &mut Positions<'_>| positions.advance(partition, step, written, bad);
        if self.position(partition, "move the position of", advance)? {
            return Ok(true);
        }
        let found = self.read_position(partition)?;
        if found.as_ref().is_some_and(|position| position.is_after(step)) {
            return Ok(false);
        }
        Err(Failure::of_batch(fenced(&self.shared.name, partition, step, found.as_ref())))
    }

    fn place<'b>(&'b mut self, collection: &'b str) -> Place<'b> {
        let concern = self.shared.write_concern();
        Place { database: &self.database, collection, session: self.session.as_mut(), concern }
    }

    fn store(&mut self, batch: &Batch<'_>) -> Result<Vec<Refusal>, Failure> {
        let (pending, mode) = (batch.pending(), self.shared.options.mode);
        let mut place = self.place(batch.collection);
        let stored = match mode {
            WriteMode::Insert => store::insert(&mut place, &pending),
            WriteMode::Upsert | WriteMode::Document => store::replace(&mut place, &pending),
        };
        stored.map_err(|error| {
            let what = format!("write {} into {}", batch.write.batch.partition(), batch.collection);
            failure_of(&self.shared.name, &what, &error)
        })
    }

    fn refusal(&self, batch: &Batch<'_>, index: usize, said: &Said) -> SinkError {
        let offset = batch.write.batch.get(index).offset;
        let what = format!("write {} offset {offset} into {}", batch.write.batch.partition(), batch.collection);
        SinkError { offset: Some(offset), ..said_error(&self.shared.name, &what, said) }
    }

    /// Keeps the bad records: last, since letters are waited for.
    fn put_aside(&mut self, batch: &Batch<'_>, rows: &mut RowBuffer) -> Result<(), Trouble> {
        let Some(aside) = batch.write.aside.as_ref().filter(|_| !batch.bad.is_empty()) else { return Ok(()) };
        let (write, unix_ms, shared) = (batch.write, self.unix_ms, self.shared);
        put_aside(aside, &write.batch, batch.collection, &batch.bad, |record, error| {
            let (options, partition, ids) = (&shared.options, write.batch.partition(), &write.ids);
            let mut documents = Documents { options, partition, ids, rows: &mut *rows, unix_ms };
            match documents.failed(record, error).filter(|_| !batch.letters_only.contains(&record.offset)) {
                Some(document) => self.insert_failed(batch.collection, record.offset, document),
                None => Ok(false),
            }
        })
    }

    /// A bad record as a document. False when the collection refuses that too.
    fn insert_failed(&mut self, collection: &str, offset: i64, document: RawDocumentBuf) -> Result<bool, Trouble> {
        let id = mongodb::bson::Bson::Null;
        let change = Change { index: 0, id, document: Some(document) };
        let refused = store::insert(&mut self.place(collection), &[&change]);
        let refused = refused.map_err(|error| {
            failure_of(&self.shared.name, &format!("keep the dead letter of offset {offset}"), &error)
        })?;
        match refused.first() {
            None => Ok(true),
            // It came before.
            Some((_, said)) if self.session.is_none() => Ok(is_duplicate_id(said)),
            Some((_, said)) => {
                let error = said_error(&self.shared.name, &format!("keep the dead letter of offset {offset}"), said);
                Err(Trouble::Refused(Refused::Letter(offset), error))
            }
        }
    }
}

impl Batch<'_> {
    /// Enters a record as bad.
    ///
    /// # Errors
    /// When nothing may be put aside, or no more of it.
    pub fn put_down(&mut self, index: usize, error: SinkError) -> Result<(), Failure> {
        let aside = self.write.aside.filter(|aside: &Aside<'_>| aside.takes(error.class));
        let Some(aside) = aside else { return Err(Failure::of_batch(error)) };
        let place = self.bad.partition_point(|(known, _)| *known < index);
        self.bad.insert(place, (index, error));
        aside.check(&self.bad, self.write.batch.len()).map_err(Failure::of_batch)
    }
}

/// Whether a document of the same `_id` is there already.
fn is_duplicate_id(said: &Said) -> bool {
    said.code == Some(11000) && said.words.contains(" index: _id_ ")
}

/// What the server refused, so that it can be tried again without it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The record at this index.
    Record(usize),
    /// A record whose document is there already.
    Present,
    /// The FAILED document of the record at this offset.
    Letter(i64),
}

/// Why a batch was not written.
pub enum Trouble {
    /// It can be tried again without this.
    Refused(Refused, SinkError),
    Failed(Failure),
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Trouble::Failed(failure)
    }
}

impl From<SinkError> for Trouble {
    /// What the dead letters answered.
    fn from(error: SinkError) -> Self {
        Trouble::Failed(error.into())
    }
}

impl From<Trouble> for Failure {
    /// Of several batches together, where nothing is tried again without the others.
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Refused(_, error) => Failure::of_batch(error),
            Trouble::Failed(failure) => failure,
        }
    }
}

/// What the driver answered instead of saying what was refused.
pub fn failure_of(name: &str, what: &str, error: &Error) -> Failure {
    let failed = sink_error(name, what, error);
    match failed.class {
        ErrorClass::Data | ErrorClass::Unclassified => Failure::of_batch(failed),
        _ => Failure::of_all(failed, false),
    }
}
