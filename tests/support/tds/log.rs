//! What arrived on the wire, for tests to demand its shape.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};

use super::request::{Call, Transaction};

/// Something that a client did.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// It logged in, or tried to.
    Login { user: String, application: String, database: String },
    /// It sent SQL as text.
    Batch(String),
    /// It called procedures, all in one message.
    Calls(Arc<[Call]>),
    /// Its driver asked for this by itself.
    Transaction(Transaction),
    /// It gave up waiting.
    Attention,
    /// Its connection ended; with a reason when it said what the double does not understand.
    Ended(Option<String>),
}

/// An event and the connection that it came from, counted from 1.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub connection: u64,
    pub event: Event,
}

/// A line per event: what a test of the wire's shape compares.
impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::Login { user, .. } => write!(f, "login {user}"),
            Event::Batch(sql) => write!(f, "batch {sql}"),
            Event::Calls(calls) => {
                for (index, same) in calls.chunk_by(|a, b| a.name() == b.name()).enumerate() {
                    let comma = if index > 0 { ", " } else { "" };
                    match same.len() {
                        1 => write!(f, "{comma}{}", same[0].name())?,
                        count => write!(f, "{comma}{} × {count}", same[0].name())?,
                    }
                }
                Ok(())
            }
            Event::Transaction(Transaction::Begin) => f.write_str("begin"),
            Event::Transaction(Transaction::Commit { .. }) => f.write_str("commit"),
            Event::Transaction(Transaction::Rollback { savepoint: None, .. }) => f.write_str("rollback"),
            Event::Transaction(Transaction::Rollback { savepoint: Some(name), .. }) => write!(f, "rollback to {name}"),
            Event::Transaction(Transaction::Save(name)) => write!(f, "save {name}"),
            Event::Attention => f.write_str("attention"),
            Event::Ended(None) => f.write_str("ended"),
            Event::Ended(Some(reason)) => write!(f, "ended: {reason}"),
        }
    }
}

#[derive(Default)]
pub struct Log {
    entries: Mutex<Vec<Entry>>,
}

impl Log {
    pub fn add(&self, connection: u64, event: Event) {
        self.entries().push(Entry { connection, event });
    }

    /// All that has arrived since the last time it was taken.
    pub fn take(&self) -> Vec<Entry> {
        std::mem::take(&mut *self.entries())
    }

    pub fn copy(&self) -> Vec<Entry> {
        self.entries().clone()
    }

    fn entries(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.entries.lock().expect("nothing panics while it holds the log")
    }
}
