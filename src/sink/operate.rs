//! What a person does with the tables of a SQL database: look at positions and change them, look at FAILED rows and try
//! them again. One piece of code for SQLite and every database by ODBC, over [`MessageDatabase`].
//!
//! Rows are fetched one by one, so that many dead letters with large values do not stand in memory together, and nothing
//! is locked in between.

use crate::core::civil::{unix_ms_of, utc_text};
use crate::core::verdict::ErrorClass;
use crate::door;
use crate::port::SinkError;
use crate::sink::dialect::COLUMNS;
use crate::sink::position::{PositionLine, PositionStore};
use crate::sink::query::{MessageDatabase, Parameter, Row};
use crate::sink::row::{FailedRow, FailedRows, NULL_VALUE, Status};

/// A database with the tables of a sink.
pub struct SqlTables {
    database: Box<dyn MessageDatabase>,
}

impl SqlTables {
    /// Over an open database.
    pub fn new(database: Box<dyn MessageDatabase>) -> Self {
        Self { database }
    }

    fn quoted<const N: usize>(&self, names: [&str; N]) -> [String; N] {
        names.map(|name| self.database.dialect().quoted(name))
    }
}

impl PositionStore for SqlTables {
    fn list(&mut self) -> Result<Vec<PositionLine>, SinkError> {
        if !self.database.has_positions()? {
            return Ok(Vec::new());
        }
        let list = self.database.positions().list.clone();
        self.database.query(&list, &[])?.into_iter().map(|row| readable(position_line(row), "position")).collect()
    }

    fn change(&mut self, seen: &PositionLine, next_offset: Option<i64>) -> Result<bool, SinkError> {
        let key = [
            Parameter::Text(&seen.consumer_group),
            Parameter::Text(&seen.topic),
            Parameter::Number(seen.partition.into()),
            Parameter::Number(seen.epoch),
            Parameter::Number(seen.next_offset),
        ];
        let changed = match next_offset {
            Some(next) => {
                let set = self.database.positions().set.clone();
                let new = [Parameter::Number(next), Parameter::Time(door::unix_ms())];
                self.database.execute(&set, &[&new[..], &key].concat())?
            }
            None => {
                let forget = self.database.positions().forget.clone();
                self.database.execute(&forget, &key)?
            }
        };
        Ok(changed == 1)
    }
}

impl FailedRows for SqlTables {
    fn ids(&mut self) -> Result<Vec<String>, SinkError> {
        let [id, topic, partition, offset, status] =
            self.quoted(["id", "topic", "partition", "offset", "processing_status"]);
        let table = self.database.table();
        let sql = format!("SELECT {id} FROM {table} WHERE {status} = 'FAILED' ORDER BY {topic}, {partition}, {offset}");
        let rows = self.database.query(&sql, &[])?;
        Ok(rows.into_iter().filter_map(|row| row.into_iter().next().flatten()).collect())
    }

    fn row(&mut self, id: &str) -> Result<Option<FailedRow>, SinkError> {
        let columns = self.quoted(COLUMNS);
        let [status] = self.quoted(["processing_status"]);
        let table = self.database.table();
        let sql =
            format!("SELECT {} FROM {table} WHERE {} = ? AND {status} = 'FAILED'", columns.join(", "), columns[0]);
        let found = self.database.query(&sql, &[Parameter::Ascii(id)])?.into_iter().next();
        found.map(|row| readable(failed_row(row), "FAILED row")).transpose()
    }

    fn retry(&mut self, row: &FailedRow) -> Result<bool, SinkError> {
        let was_null = row.headers.as_ref().is_some_and(|headers| headers.contains(NULL_VALUE));
        let status = if was_null { Status::Tombstone } else { Status::Success };
        let [id, column, error] = self.quoted(["id", "processing_status", "error_message"]);
        let table = self.database.table();
        let sql = format!("UPDATE {table} SET {column} = ?, {error} = NULL WHERE {id} = ? AND {column} = 'FAILED'");
        let parameters = [Parameter::Ascii(status.as_str()), Parameter::Ascii(&row.id)];
        Ok(self.database.execute(&sql, &parameters)? == 1)
    }
}

fn failed_row(row: Row) -> Option<FailedRow> {
    let [id, topic, partition, offset, key, value, headers, group, at, _status, message] =
        <[Option<String>; COLUMNS.len()]>::try_from(row).ok()?;
    Some(FailedRow {
        id: id?,
        topic: topic?,
        partition: partition?.trim().parse().ok()?,
        offset: offset?.trim().parse().ok()?,
        key,
        value: value?,
        headers,
        group: group?,
        at: moment(at?),
        message: message.unwrap_or_default(),
    })
}

/// A row of [`list`](crate::sink::position::PositionSql::list).
fn position_line(row: Row) -> Option<PositionLine> {
    let [group, topic, partition, next, written, dead_lettered, skipped, epoch, paused, updated_at] =
        <[Option<String>; 10]>::try_from(row).ok()?;
    let number = |text: Option<String>| text?.trim().parse::<i64>().ok();
    let count = |text| number(text).map(|count| count.max(0) as u64);
    Some(PositionLine {
        consumer_group: group?,
        topic: topic?,
        partition: number(partition)? as i32,
        next_offset: number(next)?,
        written: count(written)?,
        dead_lettered: count(dead_lettered)?,
        skipped: count(skipped)?,
        epoch: number(epoch)?,
        paused: number(paused)? != 0,
        updated_at: moment(updated_at?),
    })
}

/// As all moments are written here, whatever digits a database leaves out.
fn moment(text: String) -> String {
    unix_ms_of(text.trim()).map_or(text, utc_text)
}

fn readable<T>(row: Option<T>, what: &str) -> Result<T, SinkError> {
    row.ok_or_else(|| SinkError::new(ErrorClass::Schema, format!("a {what} holds something that Konekt did not write")))
}
