//! A SQL database beside a run, with questions and small changes: what [`crate::ops::messages`] and
//! [`SqlTables`](super::operate::SqlTables) need of SQLite and of ODBC.

use crate::port::SinkError;
use crate::sink::dialect::Dialect;
use crate::sink::position::PositionSql;

/// A parameter of a statement.
#[derive(Clone, Copy, Debug)]
pub enum Parameter<'a> {
    Number(i64),
    Text(&'a str),
    /// Text of ASCII alone, for the columns that hold nothing else: ids and the status.
    Ascii(&'a str),
    /// A moment, in milliseconds since the Unix epoch.
    Time(i64),
}

/// A row of an answer; numbers and moments (in UTC) as text.
pub type Row = Vec<Option<String>>;

/// A connection to a database that has a message table.
pub trait MessageDatabase {
    /// How its SQL is spelled.
    fn dialect(&self) -> &Dialect;

    /// The message table, quoted.
    fn table(&self) -> &str;

    /// The statements for its position table.
    fn positions(&self) -> &PositionSql;

    /// Whether there is a position table: with at-least-once delivery there is none.
    ///
    /// # Errors
    /// What the database says.
    fn has_positions(&mut self) -> Result<bool, SinkError>;

    /// All rows that a statement answers; parameters are `?`.
    ///
    /// # Errors
    /// What the database says, with its class and what to do.
    fn query(&mut self, sql: &str, parameters: &[Parameter<'_>]) -> Result<Vec<Row>, SinkError>;

    /// Executes a statement in a transaction of its own and says how many rows it affected.
    ///
    /// # Errors
    /// What the database says; nothing was changed then.
    fn execute(&mut self, sql: &str, parameters: &[Parameter<'_>]) -> Result<u64, SinkError>;
}
