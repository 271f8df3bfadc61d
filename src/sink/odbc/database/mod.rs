//! The sink itself, over a driver manager: all that needs the feature `odbc` or `odbc-system`.
//!
//! The flow: `OdbcSink` holds a pool of connections (`pool.rs`) and, from the first one on, the plan (`plan.rs`): the
//! texts of all statements in the database's dialect, with the tables made or checked (`tables.rs`). Its writer
//! (`writer.rs`) borrows a connection per call and does each call in one transaction (`transaction.rs`). A connection is
//! a thread of its own (`link.rs`), since a driver may never come back; what is done on that thread stands in `session.rs`
//! and `bind.rs`; records reach it as owned rows (`rows.rs`). `fault.rs` is what a driver says, and its class. Beside the
//! sink, `query.rs` asks what is in a database, `trial.rs` tries whether it has what the sink needs, and
//! `rehearsal.rs` has what a dry run does instead of making tables.
//!
//! # How rows are inserted
//!
//! Chosen by measurement; forms and numbers stand in `plan.rs`.

mod bind;
mod fault;
mod link;
mod plan;
mod pool;
mod query;
mod rehearsal;
mod rows;
mod session;
mod sink;
mod tables;
mod transaction;
mod trial;
mod writer;

pub use self::query::OdbcMessages;
pub use self::sink::{OdbcOptions, OdbcSink, Unusable};
pub use self::trial::load;
