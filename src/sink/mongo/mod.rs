//! MongoDB: documents and the partition's position, committed together.
//!
//! The flow: [`MongoSink`] holds one client with its pool of connections. Its writer (`writer.rs`) claims partitions and
//! writes batches, each call in one transaction (`transaction.rs`), in which `position.rs` moves the position and
//! `store.rs` writes what `document.rs` made of the records. `fault.rs` gives what MongoDB says its class, and [`operate`] is
//! for people who look after it.
//!
//! Exactly once needs transactions, so a replica set; one member will do. On a standalone server, delivery is at least
//! once: a document has the record's own `_id`, so what comes again is recognised and changes nothing.
//!
//! MongoDB has no savepoints, and a refused document ends its transaction. So a batch is tried as a whole; the document
//! that the server names is put aside and the batch tried anew without it, until the transaction passes.

mod document;
mod fault;
pub mod operate;
mod position;
mod store;
mod transaction;
mod writer;

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use mongodb::bson::{Document, doc};
use mongodb::options::{Acknowledgment, WriteConcern};
use mongodb::sync::{Client, Database};
use parking_lot::Mutex;

use self::fault::{said_error, sink_error};
use crate::core::verdict::ErrorClass;
use crate::mongo::Deployment;
use crate::mongo::error::Said;
use crate::port::{Clock, Sink, SinkError, SinkTraits, Writer};
use crate::sink::position::TABLE as POSITIONS;

/// What becomes of a record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WriteMode {
    /// A document of its own, with where it stood.
    #[default]
    Insert,
    /// The document of its key: replaced by each value, removed by a tombstone.
    Upsert,
    /// The value itself, under its own `_id`, or the record's id where it has none; it replaces what is there.
    Document,
}

/// Where and how to write.
#[derive(Clone)]
pub struct MongoSinkOptions {
    pub deployment: Deployment,
    /// The database of the documents and of `konekt_positions`.
    pub database: String,
    /// The collection of all records; `None`: each topic has one of its name.
    pub collection: Option<String>,
    pub mode: WriteMode,
    /// The consumer group, for the documents and the positions.
    pub consumer_group: Arc<str>,
    /// Whether the position is kept here, with the documents.
    pub exactly_once: bool,
    /// Aborts every transaction at its end, so that nothing is kept. Collections that are absent are made within them,
    /// which servers do since MongoDB 4.4.
    pub dry_run: bool,
    /// How long a question or a commit may take.
    pub timeout: Duration,
    /// The clock of `processing_timestamp`.
    pub clock: Arc<dyn Clock>,
}

/// What all writers share.
struct Shared {
    options: MongoSinkOptions,
    name: String,
    client: Client,
    /// Collections that are known to exist: they are made before a transaction, which not every server lets make them.
    known: Mutex<HashSet<String>>,
    /// Collections that a dry run found to be absent.
    absent: Mutex<BTreeSet<String>>,
}

/// The sink; it connects when it is asked for something.
pub struct MongoSink {
    shared: Arc<Shared>,
}

impl MongoSink {
    /// A sink for these options. Connects to nothing yet.
    ///
    /// # Errors
    /// When the address contradicts itself or names files that cannot be read.
    pub fn new(options: MongoSinkOptions) -> Result<Self, SinkError> {
        let name = format!("mongodb {}/{}", options.deployment.hosts().join(","), options.database);
        let client = options.deployment.client().map_err(|said| said_error(&name, "read its address", &said))?;
        Ok(Self {
            shared: Arc::new(Shared { options, name, client, known: Mutex::default(), absent: Mutex::default() }),
        })
    }

    /// Asks the server whether it can do what is wanted, and makes the positions' collection.
    ///
    /// # Errors
    /// Whatever stands in the way.
    pub fn check(&self) -> Result<(), SinkError> {
        let shared = &self.shared;
        if let Some((said, wait)) = shared.options.deployment.glance() {
            // A person who sees nothing for so long takes it for a program that hangs.
            log::warn!("{}: {}; it is waited for, {} s at a time", shared.name, said.words, wait.as_secs());
        }
        let hello = shared.client.database("admin").run_command(doc! { "hello": 1 }).run();
        let hello = hello.map_err(|error| shared.unreachable(&Said::of(&error)))?;
        if shared.is_transactional() && !has_transactions(&hello) {
            let (what, instead) = match shared.options.dry_run {
                true => ("take back what a dry run writes", "run it without --dry-run"),
                false => ("keep documents and position together", "use --delivery at-least-once"),
            };
            let words = format!(
                "this server is no member of a replica set, so it has no transactions and cannot {what}: make it one \
                 (start it with --replSet and run rs.initiate(); a single member will do), or {instead}"
            );
            return Err(SinkError::new(ErrorClass::Schema, format!("{}: {words}", shared.name)));
        }
        shared.prepare()
    }
}

/// Whether `hello` is of a replica set's member or of a router.
fn has_transactions(hello: &Document) -> bool {
    hello.contains_key("setName") || hello.get_str("msg").is_ok_and(|said| said == "isdbgrid")
}

impl Sink for MongoSink {
    fn traits(&self) -> SinkTraits {
        SinkTraits {
            name: self.shared.name.clone(),
            // Decoding and building documents goes on while others wait for the server.
            writers_max: usize::MAX,
            // Enough that the commit's majority is waited for once for many, few enough that one failure repeats little.
            batches_per_write: 16,
            transactional: self.shared.options.exactly_once,
        }
    }

    fn writer(&self) -> Result<Box<dyn Writer>, SinkError> {
        self.shared.prepare()?;
        Ok(Box::new(writer::MongoWriter::new(Arc::clone(&self.shared))))
    }

    fn absent(&self) -> Vec<String> {
        self.shared.absent.lock().iter().cloned().collect()
    }
}

impl Shared {
    fn database(&self) -> Database {
        self.client.database(&self.options.database)
    }

    /// Whether each call is one transaction.
    fn is_transactional(&self) -> bool {
        self.options.exactly_once || self.options.dry_run
    }

    /// Makes the collections that are known before the first record.
    fn prepare(&self) -> Result<(), SinkError> {
        if self.options.exactly_once {
            self.ensure(POSITIONS)?;
        }
        self.options.collection.iter().try_for_each(|name| self.ensure(name))
    }

    /// Makes a collection where it is absent; one for whole records with the index that finds them by place.
    fn ensure(&self, name: &str) -> Result<(), SinkError> {
        if self.known.lock().contains(name) {
            return Ok(());
        }
        if self.options.dry_run {
            return self.note_whether_absent(name);
        }
        let failed = |error: &_| sink_error(&self.name, &format!("make the collection {name}"), error);
        match self.database().create_collection(name).run() {
            Ok(()) if name != POSITIONS && self.options.mode == WriteMode::Insert => self.index(name)?,
            Ok(()) => {}
            Err(error) if Said::of(&error).code == Some(NAMESPACE_EXISTS) => {}
            Err(error) if Said::of(&error).code == Some(UNAUTHORIZED) => {
                if !self.exists(name).is_ok_and(|exists| exists) {
                    return Err(failed(&error));
                }
            }
            Err(error) => return Err(failed(&error)),
        }
        self.known.lock().insert(name.to_owned());
        Ok(())
    }

    fn exists(&self, name: &str) -> Result<bool, mongodb::error::Error> {
        let found = self.database().list_collection_names().filter(doc! { "name": name }).run()?;
        Ok(found.iter().any(|found| found == name))
    }

    fn note_whether_absent(&self, name: &str) -> Result<(), SinkError> {
        let failed = |error: &_| sink_error(&self.name, &format!("look for the collection {name}"), error);
        if !self.exists(name).map_err(|error| failed(&error))? {
            self.absent.lock().insert(name.to_owned());
        }
        self.known.lock().insert(name.to_owned());
        Ok(())
    }

    fn index(&self, name: &str) -> Result<(), SinkError> {
        let index = doc! { "key": { "topic": 1, "partition": 1, "offset": 1 }, "name": "topic_partition_offset" };
        let made = self.database().run_command(doc! { "createIndexes": name, "indexes": [index] }).run();
        made.map(drop).map_err(|error| sink_error(&self.name, &format!("make the index of {name}"), &error))
    }

    /// Why nothing answers; a server of another set is named.
    fn unreachable(&self, said: &Said) -> SinkError {
        let misfits = if said.unreachable { self.options.deployment.misfits() } else { Vec::new() };
        match misfits.first() {
            Some(misfit) => SinkError::new(ErrorClass::Auth, format!("{}: cannot connect: {misfit}", self.name)),
            None => said_error(&self.name, "connect", said),
        }
    }

    /// What is written stays written: a majority has it, on disk.
    fn write_concern(&self) -> WriteConcern {
        WriteConcern::builder().w(Acknowledgment::Majority).journal(true).w_timeout(self.options.timeout).build()
    }
}

/// MongoDB's codes.
const NAMESPACE_EXISTS: i32 = 48;
const UNAUTHORIZED: i32 = 13;
