//! Every database with an ODBC driver: rows and position committed together.
//!
//! [`sqlstate`] gives what a database says its class and says what to do about it; [`drivers`] finds the drivers that
//! are installed; [`connection_string`] builds, reads and hides connection strings. They are plain data and text and
//! in every build, so that `konekt errors` and `konekt check-drivers` work where ODBC was left out; the sink itself
//! needs the feature `odbc` or `odbc-system`. [`trial`] is what `konekt check-drivers --connect` tries.
//!
//! The flow: `OdbcSink` holds a pool of connections (`pool.rs`) and, from the first one on, the plan (`plan.rs`): the
//! texts of all statements in the database's dialect, with the tables made or checked (`tables.rs`). Its writer
//! (`writer.rs`) borrows a connection per call and does each call in one transaction (`transaction.rs`). A connection is
//! a thread of its own (`link.rs`), since a driver may never come back; what is done on that thread stands in `session.rs`
//! and `bind.rs`; records reach it as owned rows (`rows.rs`). `fault.rs` is what a driver says, and its class.
//!
//! # How rows are inserted
//!
//! Chosen by measurement; forms and numbers stand in `plan.rs`.

pub mod connection_string;
pub mod drivers;
pub mod sqlstate;
pub mod trial;

#[cfg(any(feature = "odbc", feature = "odbc-system"))]
mod bind;
#[cfg(any(feature = "odbc", feature = "odbc-system"))]
mod fault;
#[cfg(any(feature = "odbc", feature = "odbc-system"))]
mod link;
#[cfg(any(feature = "odbc", feature = "odbc-system"))]
mod plan;
#[cfg(any(feature = "odbc", feature = "odbc-system"))]
mod pool;
#[cfg(any(feature = "odbc", feature = "odbc-system"))]
mod query;
#[cfg(any(feature = "odbc", feature = "odbc-system"))]
mod rows;
#[cfg(any(feature = "odbc", feature = "odbc-system"))]
mod session;
#[cfg(any(feature = "odbc", feature = "odbc-system"))]
mod sink;
#[cfg(any(feature = "odbc", feature = "odbc-system"))]
mod tables;
#[cfg(any(feature = "odbc", feature = "odbc-system"))]
mod transaction;
#[cfg(any(feature = "odbc", feature = "odbc-system"))]
mod writer;

#[cfg(any(feature = "odbc", feature = "odbc-system"))]
pub use self::{
    query::OdbcMessages,
    sink::{OdbcOptions, OdbcSink, Unusable},
};
