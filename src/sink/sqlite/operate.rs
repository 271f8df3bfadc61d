//! What a person does with an existing file: look at positions and change them, look at FAILED rows and try them again.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, OptionalExtension, params};

use super::error::{open_error, sink_error};
use super::open::plain;
use crate::core::civil::utc_text;
use crate::door;
use crate::port::SinkError;
use crate::sink::dialect::SQLITE;
use crate::sink::position::{self, PositionLine, PositionSql, PositionStore};
use crate::sink::row::{FailedRow, FailedRows, NULL_VALUE, Status};

/// How long to wait for a run's write lock.
const PATIENCE: Duration = Duration::from_secs(30);

/// An existing SQLite file.
pub struct SqliteFile {
    path: PathBuf,
    table: String,
    connection: Connection,
}

impl SqliteFile {
    /// Opens a file that is there, with `table` as its message table.
    ///
    /// # Errors
    /// When it is not there or no database.
    pub fn open(path: &Path, table: &str) -> Result<Self, SinkError> {
        let connection = existing(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        connection.busy_timeout(PATIENCE).map_err(|error| sink_error(path, "set it up", &error))?;
        Ok(Self { path: path.to_owned(), table: table.to_owned(), connection })
    }

    fn failed(&self, what: &str, error: &rusqlite::Error) -> SinkError {
        sink_error(&self.path, what, error)
    }
}

impl PositionStore for SqliteFile {
    fn list(&mut self) -> Result<Vec<PositionLine>, SinkError> {
        positions(&self.connection).map_err(|error| self.failed("read its positions", &error))
    }

    fn change(&mut self, seen: &PositionLine, next_offset: Option<i64>) -> Result<bool, SinkError> {
        let sql = PositionSql::new(&SQLITE);
        let (group, topic, partition) = (&seen.consumer_group, &seen.topic, seen.partition);
        let (epoch, expected) = (seen.epoch, seen.next_offset);
        let changed = match next_offset {
            Some(next) => {
                let now = utc_text(door::unix_ms());
                self.connection.execute(&sql.set, params![next, now, group, topic, partition, epoch, expected])
            }
            None => self.connection.execute(&sql.forget, params![group, topic, partition, epoch, expected]),
        };
        changed.map(|rows| rows == 1).map_err(|error| self.failed("change a position", &error))
    }
}

impl FailedRows for SqliteFile {
    fn list(&mut self) -> Result<Vec<FailedRow>, SinkError> {
        let query = || {
            let table = SQLITE.quoted(&self.table);
            let mut list = self.connection.prepare(&format!(
                r#"SELECT id, topic, "partition", "offset", message_key, message_value, message_headers, consumer_group,
                   processing_timestamp, error_message FROM {table} WHERE processing_status = 'FAILED'
                   ORDER BY topic, "partition", "offset""#
            ))?;
            let rows = list.query_map([], |row| {
                Ok(FailedRow {
                    id: row.get(0)?,
                    topic: row.get(1)?,
                    partition: row.get(2)?,
                    offset: row.get(3)?,
                    key: row.get(4)?,
                    value: row.get(5)?,
                    headers: row.get(6)?,
                    group: row.get(7)?,
                    at: row.get(8)?,
                    message: row.get::<_, Option<String>>(9)?.unwrap_or_default(),
                })
            })?;
            rows.collect::<rusqlite::Result<Vec<FailedRow>>>()
        };
        query().map_err(|error| self.failed("read its FAILED rows", &error))
    }

    fn retry(&mut self, row: &FailedRow) -> Result<bool, SinkError> {
        let was_null = row.headers.as_ref().is_some_and(|headers| headers.contains(NULL_VALUE));
        let status = if was_null { Status::Tombstone } else { Status::Success };
        let table = SQLITE.quoted(&self.table);
        let sql = format!(
            "UPDATE {table} SET processing_status = ?, error_message = NULL WHERE id = ? AND processing_status = 'FAILED' \
             RETURNING 1"
        );
        let updated = self.connection.query_row(&sql, params![status.as_str(), row.id], |_| Ok(())).optional();
        updated.map(|row| row.is_some()).map_err(|error| self.failed("write the FAILED row again", &error))
    }
}

/// Opens a file that must be there already.
pub fn existing(path: &Path, mode: OpenFlags) -> Result<Connection, SinkError> {
    let flags = mode | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Connection::open_with_flags(plain(path), flags).map_err(|error| open_error(path, &error, false))
}

/// The positions; none where the table is absent, as with at-least-once delivery.
pub fn positions(connection: &Connection) -> rusqlite::Result<Vec<PositionLine>> {
    if !connection.table_exists(None, position::TABLE)? {
        return Ok(Vec::new());
    }
    let mut list = connection.prepare(&PositionSql::new(&SQLITE).list)?;
    let lines = list.query_map([], |row| {
        Ok(PositionLine {
            consumer_group: row.get(0)?,
            topic: row.get(1)?,
            partition: row.get(2)?,
            next_offset: row.get(3)?,
            written: count(row, 4)?,
            dead_lettered: count(row, 5)?,
            skipped: count(row, 6)?,
            epoch: row.get(7)?,
            paused: row.get(8)?,
            updated_at: row.get(9)?,
        })
    })?;
    lines.collect()
}

/// A counter.
pub fn count(row: &rusqlite::Row<'_>, index: usize) -> rusqlite::Result<u64> {
    row.get::<_, i64>(index).map(|count| count.max(0) as u64)
}
