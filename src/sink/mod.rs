//! Where records go: each module here is a [`Sink`](crate::port::Sink).
//!
//! | sink | what | delivery |
//! |---|---|---|
//! | [`sqlite`] | rows and position in one transaction of a SQLite file | exactly once |
//! | [`odbc`] | the same in SQL Server, PostgreSQL, MySQL, MariaDB or any database with an ODBC driver | exactly once |
//! | [`kafka`] | a topic | at least once |
//! | [`print`](mod@print) | text or JSON lines on an output | at least once |
//! | [`exec`] | a shell command per batch, JSON lines on its standard input | at least once |
//! | [`handler`] | a closure of the library's user | at least once |
//! | [`null`] | nowhere: counts, for benchmarks | at least once |
//!
//! What they share: [`row`] says what a record becomes in a table, [`json`] what it becomes as a line of JSON,
//! [`dialect`] how each database spells the tables, [`position`] holds the position row's SQL, [`aside`] keeps the records
//! that a table refuses, [`dead_letter`] is where those go that no table keeps, and [`query`] asks what is in a database.

pub mod aside;
pub mod dead_letter;
pub mod dialect;
pub mod exec;
pub mod handler;
pub mod json;
pub mod kafka;
pub mod null;
pub mod odbc;
pub mod position;
pub mod print;
pub mod query;
pub mod row;
pub mod sqlite;

use crate::core::verdict::ErrorClass;
use crate::port::SinkError;

/// The answer of a sink without positions to a claim. The engine asks only sinks that say they are transactional.
fn keeps_no_position(name: &str) -> SinkError {
    SinkError::new(
        ErrorClass::Unclassified,
        format!("{name} keeps no positions, so it cannot deliver exactly once: use --delivery at-least-once"),
    )
}
