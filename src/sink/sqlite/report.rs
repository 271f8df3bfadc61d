//! Reads back what is in the file, for `konekt demo` and for people.

use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use super::SqliteMessages;
use super::error::sink_error;
use crate::port::SinkError;
use crate::sink::dialect::SQLITE;
use crate::sink::operate::SqlTables;
use crate::sink::position::{PositionLine, PositionStore};

/// What a database holds.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct SqliteReport {
    /// Rows of the message table.
    pub rows: u64,
    /// Of these, per `processing_status`, in alphabetic order.
    pub by_status: Vec<(String, u64)>,
    /// The first rows in the order of topic, partition and offset.
    pub first_rows: Vec<ReportRow>,
    /// All positions in the order of group, topic and partition.
    pub positions: Vec<PositionLine>,
}

/// One row, as far as a person wants to see it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct ReportRow {
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
    pub key: Option<String>,
    /// The first 200 characters.
    pub value: String,
    pub status: String,
}

impl SqliteReport {
    /// Reads the file, which is not changed.
    ///
    /// # Errors
    /// When the file cannot be opened, or the table is not there.
    pub fn read(path: &Path, table: &str, first_rows: usize) -> Result<Self, SinkError> {
        let database = SqliteMessages::open_to(OpenFlags::SQLITE_OPEN_READ_ONLY, path, table)?;
        let failed = |error| sink_error(path, "read it", &error);
        let by_status = by_status(&database.connection, table).map_err(failed)?;
        let first_rows = self::first_rows(&database.connection, table, first_rows).map_err(failed)?;
        let rows = by_status.iter().map(|(_, count)| count).sum();
        let positions = SqlTables::new(Box::new(database)).list()?;
        Ok(Self { rows, by_status, first_rows, positions })
    }
}

fn by_status(connection: &Connection, table: &str) -> rusqlite::Result<Vec<(String, u64)>> {
    let table = SQLITE.quoted(table);
    connection
        .prepare(&format!("SELECT processing_status, count(*) FROM {table} GROUP BY 1 ORDER BY 1"))?
        .query_map([], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?.max(0) as u64)))?
        .collect()
}

fn first_rows(connection: &Connection, table: &str, count: usize) -> rusqlite::Result<Vec<ReportRow>> {
    let table = SQLITE.quoted(table);
    connection
        .prepare(&format!(
            r#"SELECT topic, "partition", "offset", message_key, substr(message_value, 1, 200), processing_status
               FROM {table} ORDER BY topic, "partition", "offset" LIMIT ?"#
        ))?
        .query_map([count as i64], |row| {
            Ok(ReportRow {
                topic: row.get(0)?,
                partition: row.get(1)?,
                offset: row.get(2)?,
                key: row.get(3)?,
                value: row.get(4)?,
                status: row.get(5)?,
            })
        })?
        .collect()
}
