//! MongoDB's change streams into Kafka topics: what `konekt source mongodb` does, with the names and the formats of
//! MongoDB's connector for Kafka Connect, without a JVM.
//!
//! ```text
//! change stream ──▶ event.rs: topic, key, value ──▶ producer ──▶ Kafka
//!  (stream.rs)                                        │ acknowledged
//!       ▲                                             ▼
//!       └── goes on from the token ◀── state.rs: the token, in a compacted topic or a file
//! ```
//!
//! Delivery is at least once: a token is kept only when Kafka has acknowledged everything before it, and a run goes on from
//! the last one that was kept, so a crash repeats at most what was sent since ([`SourceOptions::save_interval`]). Events of
//! one document have the same key and stay in order.
//!
//! `copy` publishes what is in the collections already. The stream's place is noted before, so nothing that changes
//! meanwhile is missed: it follows the copy, and what was copied in its newer form comes once more.

pub mod connector;
mod copy;
pub mod event;
mod publish;
mod run;
pub mod state;
mod stream;

use std::time::Duration;

use mongodb::bson::{Document, Timestamp};

use self::event::Format;
pub use self::run::{Ended, run};
use crate::mongo::Deployment;

/// What is watched, and how.
#[derive(Clone, Debug)]
pub struct SourceOptions {
    pub deployment: Deployment,
    /// `None`: the whole deployment.
    pub database: Option<String>,
    /// `None`: the whole database.
    pub collection: Option<String>,
    /// Further stages, as `$match` and `$project`.
    pub pipeline: Vec<Document>,
    pub full_document: FullDocument,
    pub full_document_before_change: BeforeChange,
    pub format: Format,
    /// Where a first run starts.
    pub startup: Startup,
    /// What follows when the stream's place is no longer in the oplog.
    pub on_lost: OnLost,
    /// How often a quiet stream shows life in [`heartbeat_topic`](Self::heartbeat_topic); zero: never.
    pub heartbeat_interval: Duration,
    pub heartbeat_topic: String,
    /// How often the place is kept.
    pub save_interval: Duration,
    /// How often it is logged how far it is.
    pub report_interval: Duration,
    /// Documents of one answer; 0: the server's choice.
    pub batch_size: u32,
}

/// Whether updates carry the document as it is after them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FullDocument {
    /// No: only what they changed.
    #[default]
    Default,
    /// As it is when it is looked up, which may be later.
    UpdateLookup,
    /// As it was right after, where the collection keeps that.
    WhenAvailable,
    /// The same, and an event without it is an error.
    Required,
}

/// Whether events carry the document as it was before them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BeforeChange {
    #[default]
    Off,
    /// Where the collection keeps it.
    WhenAvailable,
    /// An event without it is an error.
    Required,
}

/// Where a run without a kept place starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Startup {
    /// With what happens from now on.
    #[default]
    Latest,
    /// With a copy of what is there.
    CopyExisting,
    /// With what happened since this time, as far as the oplog has it.
    Timestamp(Timestamp),
}

/// What to do about a place that is lost: the oplog does not reach back to it any more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnLost {
    /// Stop, and say so.
    #[default]
    Fail,
    /// Go on with what happens from now on; what happened in between is missing.
    Now,
    /// Copy everything again, then go on.
    Copy,
    /// Go on with the oldest that the oplog has; what happened before is missing.
    Timestamp,
}

impl OnLost {
    /// How often a place may be lost before anything comes. The oldest of the oplog may be cut off just when the stream is
    /// to start there, so it is looked for anew, for about a minute; any other answer would only bring the same loss.
    fn tries_max(self) -> u32 {
        match self {
            OnLost::Timestamp => 10,
            OnLost::Fail | OnLost::Now | OnLost::Copy => 1,
        }
    }
}

/// Why a run did not end well.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SourceFault {
    pub message: String,
    pub kind: FaultKind,
}

/// What kind of a fault it is, for the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// It may pass: the run tries again.
    Passing,
    /// A person has to change a setting or a right.
    Settings,
    /// The place in the stream is lost.
    Lost,
    /// Anything else.
    Failed,
}

impl SourceFault {
    fn new(kind: FaultKind, message: impl Into<String>) -> Self {
        Self { message: message.into(), kind }
    }
}
