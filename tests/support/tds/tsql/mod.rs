//! Just enough of Transact-SQL, put into SQLite's words: tables, indexes, the four statements about rows, guards
//! (`IF … [BEGIN … END] [ELSE …]`), transactions with savepoints, and `SET`. What is not understood is error 102, so that
//! a test never passes on a statement that nobody carried out.
//!
//! - `schema.table` becomes one name, `schema|table`, and `dbo` is left out; an index is called `table|index`, since SQLite
//!   has one space of names. The catalogue's views have such names too.
//! - Types stay as they are declared, for the catalogue to tell; checks on the columns hold values to them.
//! - Text is compared as SQL Server's default collation does, unless a column has a binary one.

mod lexer;
mod parser;
mod render;
mod table;

pub use lexer::{Token, tokens};
pub use render::{object_name, quoted};

use super::errors::SqlError;

/// What stands between the parts of a name that SQLite takes as one.
pub const SEPARATOR: char = '|';

/// A statement, ready to be run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Statement {
    /// In SQLite's words.
    Sql {
        sql: String,
        kind: Kind,
    },
    If {
        condition: String,
        then: Vec<Statement>,
        otherwise: Vec<Statement>,
    },
    Begin,
    Commit,
    /// Of everything, or back to a savepoint.
    Rollback(Option<String>),
    Save(String),
    Set(Setting),
}

/// What a statement of SQL does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Read,
    /// It counts rows.
    Write,
    /// It changes what there is: tables, indexes.
    Define,
}

/// Settings of the session that change what it does; the others are taken and forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setting {
    NoCount(bool),
    AbortsTransaction(bool),
    ImplicitTransactions(bool),
    LockTimeout(i64),
    Other,
}

/// The statements of a text.
pub fn parse(text: &str) -> Result<Vec<Statement>, SqlError> {
    parser::Parser::new(tokens(text)?).batch()
}
