//! Questions to a database beside a run: what [`crate::ops::messages`] needs of SQLite and of ODBC.

use crate::port::SinkError;
use crate::sink::dialect::Dialect;

/// A parameter of a statement.
#[derive(Clone, Copy, Debug)]
pub enum Parameter<'a> {
    Number(i64),
    Text(&'a str),
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
