//! A SQLite file as a [`MessageDatabase`]: for questions and cleaning beside a run, or without one.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags, ToSql};

use super::error::{open_error, sink_error};
use super::open::plain;
use crate::core::civil::utc_text;
use crate::port::SinkError;
use crate::sink::dialect::{Dialect, SQLITE};
use crate::sink::position::{self, PositionSql};
use crate::sink::query::{MessageDatabase, Parameter, Row};

/// How long to wait for the lock of a run that is writing.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// An open file; it is not made when it is absent.
pub struct SqliteMessages {
    pub(super) connection: Connection,
    path: PathBuf,
    table: String,
    positions: PositionSql,
}

impl SqliteMessages {
    /// Opens the file.
    ///
    /// # Errors
    /// When there is no such file, or it cannot be opened.
    pub fn open(path: &Path, table: &str) -> Result<Self, SinkError> {
        Self::open_to(OpenFlags::SQLITE_OPEN_READ_WRITE, path, table)
    }

    /// Opens the file to read or also to write.
    pub(super) fn open_to(mode: OpenFlags, path: &Path, table: &str) -> Result<Self, SinkError> {
        let flags = mode | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection =
            Connection::open_with_flags(plain(path), flags).map_err(|error| open_error(path, &error, false))?;
        connection.busy_timeout(BUSY_TIMEOUT).map_err(|error| sink_error(path, "set it up", &error))?;
        let (table, positions) = (SQLITE.quoted(table), PositionSql::new(&SQLITE));
        Ok(Self { connection, path: path.to_owned(), table, positions })
    }
}

impl MessageDatabase for SqliteMessages {
    fn dialect(&self) -> &Dialect {
        &SQLITE
    }

    fn table(&self) -> &str {
        &self.table
    }

    fn positions(&self) -> &PositionSql {
        &self.positions
    }

    fn has_positions(&mut self) -> Result<bool, SinkError> {
        // Asked by SQL, since a connection's own idea of the schema may be older than the table.
        let sql = "SELECT EXISTS (SELECT 1 FROM pragma_table_info(?))";
        let found = self.connection.query_row(sql, [position::TABLE], |row| row.get(0));
        found.map_err(|error| sink_error(&self.path, "read it", &error))
    }

    fn query(&mut self, sql: &str, parameters: &[Parameter<'_>]) -> Result<Vec<Row>, SinkError> {
        rows(&self.connection, sql, parameters).map_err(|error| sink_error(&self.path, "read it", &error))
    }

    fn execute(&mut self, sql: &str, parameters: &[Parameter<'_>]) -> Result<u64, SinkError> {
        let bound = bound(parameters);
        let affected = self.connection.execute(sql, rusqlite::params_from_iter(bound));
        affected.map(|rows| rows as u64).map_err(|error| sink_error(&self.path, "change it", &error))
    }
}

fn rows(connection: &Connection, sql: &str, parameters: &[Parameter<'_>]) -> rusqlite::Result<Vec<Row>> {
    let mut statement = connection.prepare_cached(sql)?;
    let columns = statement.column_count();
    let rows = statement.query_map(rusqlite::params_from_iter(bound(parameters)), |row| {
        (0..columns).map(|index| row.get_ref(index).map(text)).collect()
    })?;
    rows.collect()
}

fn bound<'a>(parameters: &'a [Parameter<'_>]) -> Vec<Box<dyn ToSql + 'a>> {
    let bind = |parameter: &Parameter<'a>| -> Box<dyn ToSql + 'a> {
        match *parameter {
            Parameter::Number(number) => Box::new(number),
            Parameter::Text(text) | Parameter::Ascii(text) => Box::new(text),
            Parameter::Time(unix_ms) => Box::new(utc_text(unix_ms)),
        }
    };
    parameters.iter().map(bind).collect()
}

fn text(value: ValueRef<'_>) -> Option<String> {
    match value {
        ValueRef::Null => None,
        ValueRef::Integer(number) => Some(number.to_string()),
        ValueRef::Real(number) => Some(number.to_string()),
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
    }
}
