//! Where records go: each module here is a [`Sink`](crate::port::Sink).
//!
//! | sink | what | delivery |
//! |---|---|---|
//! | [`sqlite`] | rows and position in one transaction of a SQLite file | exactly once |
//! | [`odbc`] | the same in SQL Server, PostgreSQL, MySQL, MariaDB or any database with an ODBC driver | exactly once |
//! | [`kafka`] | a topic | at least once |
//! | `mongo` | documents and position in one transaction of a MongoDB replica set; a standalone has at least once | exactly once |
//! | [`print`](mod@print) | text or JSON lines on an output | at least once |
//! | [`exec`] | a shell command per batch, JSON lines on its standard input | at least once |
//! | [`handler`] | a closure of the library's user | at least once |
//! | [`null`] | nowhere: counts, for benchmarks | at least once |
//!
//! What they share: [`row`] says what a record becomes in a table, [`json`] what it becomes as a line of JSON,
//! [`dialect`] how each database spells the tables, [`position`] holds the position row's SQL, [`aside`] keeps the records
//! that a table refuses, [`dead_letter`] is where those go that no table keeps, [`together`] answers for several
//! batches in one transaction, [`query`] asks what is in a database, [`operate`] is what a person does with it, and
//! [`script`] shows a sink's statements to people.

pub mod aside;
pub mod dead_letter;
pub mod dialect;
pub mod exec;
#[cfg(any(feature = "odbc", feature = "odbc-system", feature = "mongodb"))]
mod group;
pub mod handler;
pub mod json;
pub mod kafka;
#[cfg(feature = "mongodb")]
pub mod mongo;
pub mod null;
pub mod odbc;
pub mod operate;
pub mod position;
pub mod print;
pub mod query;
pub mod row;
pub mod script;
pub mod sqlite;
pub mod together;

use crate::core::verdict::ErrorClass;
use crate::port::SinkError;

/// The answer of a sink without positions to a claim. The engine asks only sinks that say they are transactional.
fn keeps_no_position(name: &str) -> SinkError {
    SinkError::new(
        ErrorClass::Unclassified,
        format!("{name} keeps no positions, so it cannot deliver exactly once: use --delivery at-least-once"),
    )
}
