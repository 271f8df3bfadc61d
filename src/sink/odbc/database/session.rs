//! What is done on a connection's own thread: statements, rows, commit.

use std::collections::HashSet;

use odbc_api::handles::StatementImpl;
use odbc_api::{
    ColumnDescription, Connection, ConnectionOptions, Cursor, DataType, Preallocated, ResultSetMetadata, environment,
};
use uuid::Uuid;

use super::bind::{Bound, Inserter, Shape, Value, bound, bound_arrays, bound_row, put_row};
use super::fault::Fault;
use super::link::Target;
use super::plan::{END_FROZEN, KEEP_ROW_NUMBER, Plan, READ_ROW_NUMBER, READ_TRAIL, session_statements, system_called};
use super::rows::{Head, Rows};
use crate::sink::odbc::sqlstate::System;

/// What a new connection says of its database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Greeting {
    pub system: System,
}

/// A column of an existing table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    pub name: String,
    pub data_type: DataType,
}

/// A row of an answer; numbers as text.
pub type Answer = Vec<Option<String>>;

/// A connection that is set up, with its statements. It lives on the connection's thread.
pub struct Session<'c> {
    connection: &'c Connection<'static>,
    direct: Preallocated<StatementImpl<'c>>,
    columns: Option<Columns<'c>>,
    system: System,
    query_timeout_seconds: Option<usize>,
    units: Vec<u16>,
}

/// The statement that inserts, with its buffers. They stay bound from batch to batch: Microsoft's driver prepares anew
/// what is bound anew, which is a round trip.
struct Columns<'c> {
    inserter: Inserter<StatementImpl<'c>>,
    shape: Shape,
}

impl<'c> Session<'c> {
    /// Logs in.
    pub fn connect(target: &Target) -> Result<Connection<'static>, Fault> {
        let seconds = target.connection_timeout.as_secs().clamp(1, 3600) as u32;
        let options = ConnectionOptions { login_timeout_sec: Some(seconds), ..ConnectionOptions::default() };
        Ok(environment()?.connect_with_connection_string(&target.connection_string, options)?)
    }

    /// Finds out which database it is and sets the session up; from then on, all is done in transactions.
    pub fn begin(connection: &'c Connection<'static>, target: &Target) -> Result<(Self, Greeting), Fault> {
        let system = match target.system {
            Some(system) => system,
            None => system_called(&connection.database_management_system_name()?),
        };
        let seconds = target.query_timeout.as_secs().max(1) as usize;
        // PostgreSQL's and MySQL's servers are told by `session_statements`; each statement's own would be a round trip.
        let query_timeout_seconds = matches!(system, System::SqlServer | System::Any).then_some(seconds);
        let mut direct = connection.preallocate()?;
        if let Some(seconds) = query_timeout_seconds {
            ignore_unsupported(direct.set_query_timeout_sec(seconds));
        }
        for statement in session_statements(system, target.query_timeout) {
            match direct.execute(&statement.sql, ()) {
                Err(error) if statement.required => return Err(error.into()),
                Err(error) => log::debug!("this server does not know `{}`: {error}", statement.sql),
                Ok(_) => {}
            }
        }
        connection.set_autocommit(false)?;
        let session = Self { connection, direct, columns: None, system, query_timeout_seconds, units: Vec::new() };
        Ok((session, Greeting { system }))
    }

    /// Executes a statement that answers no rows and says how many it affected.
    pub fn execute(&mut self, sql: &str, values: Vec<Value>) -> Result<u64, Fault> {
        let bound = bound(values, self.system == System::SqlServer);
        self.execute_bound(sql, &bound)
    }

    fn execute_bound(&mut self, sql: &str, bound: &Bound<'_>) -> Result<u64, Fault> {
        self.direct.execute(sql, &bound[..])?;
        Ok(self.direct.row_count()?.unwrap_or(0) as u64)
    }

    /// All rows that a statement answers.
    pub fn query(&mut self, sql: &str, values: Vec<Value>) -> Result<Vec<Answer>, Fault> {
        let bound = bound(values, self.system == System::SqlServer);
        let mut answers = Vec::new();
        // On a statement of its own: where a shared one's cursor cannot be closed, as on a lost connection, odbc-api panics.
        let cursor = self.connection.execute(sql, &bound[..], self.query_timeout_seconds)?;
        let Some(mut cursor) = cursor else { return Ok(answers) };
        let columns = cursor.num_result_cols()? as u16;
        let (mut narrow, mut wide) = (Vec::new(), Vec::new());
        while let Some(mut row) = cursor.next_row()? {
            let mut answer = Vec::new();
            for column in 1..=columns {
                answer.push(if self.system == System::SqlServer {
                    row.get_wide_text(column, &mut wide)?.then(|| String::from_utf16_lossy(&wide))
                } else {
                    row.get_text(column, &mut narrow)?.then(|| String::from_utf8_lossy(&narrow).into_owned())
                });
            }
            answers.push(answer);
        }
        Ok(answers)
    }

    /// The columns of the answer to a statement.
    pub fn columns(&mut self, sql: &str) -> Result<Vec<Column>, Fault> {
        let mut columns = Vec::new();
        // On a statement of its own, as in `query`.
        let cursor = self.connection.execute(sql, (), self.query_timeout_seconds)?;
        let Some(mut cursor) = cursor else { return Ok(columns) };
        for index in 1..=cursor.num_result_cols()? {
            let mut description = ColumnDescription::default();
            cursor.describe_col(index as u16, &mut description)?;
            let name = description.name_to_string().unwrap_or_default();
            columns.push(Column { name, data_type: description.data_type });
        }
        Ok(columns)
    }

    /// Inserts rows that [`Rows::fill`] put together, within the open transaction, and says how many were new. Of rows
    /// whose id is there already PostgreSQL leaves out what is there; all others refuse them
    /// ([`existing`](Self::existing) finds them). With `trail`, [`go_back`](Self::go_back) knows where it stopped.
    ///
    /// # Errors
    /// Some of the rows may have been inserted: roll back, to a savepoint or altogether.
    pub fn insert(&mut self, plan: &Plan, head: &Head, rows: &Rows, trail: bool) -> Result<u64, Fault> {
        let count = rows.len() as u64;
        let unnest = if trail { &plan.unnest_with_trail } else { &plan.unnest };
        match (unnest, rows.iter().next()) {
            (_, None) => Ok(0),
            (_, Some(row)) if rows.is_long() => {
                let value = plan.parts_of(row.texts[1].unwrap_or_default());
                let inserted =
                    self.insert_long(&plan.insert_of_parts(value.len()), &bound_row(head, &row, &value, plan.wide))?;
                Ok(if plan.system == System::Postgres { inserted } else { count })
            }
            (Some(unnest), _) => {
                let bound = bound_arrays(head, rows);
                self.execute_bound(unnest, &bound)
            }
            (None, _) => {
                self.insert_columns(plan, head, rows)?;
                Ok(count)
            }
        }
    }

    /// By a statement of its own, since a driver may keep what a statement had last, 30 MB as well, until its next use.
    fn insert_long(&mut self, sql: &str, row: &Bound<'_>) -> Result<u64, Fault> {
        let mut statement = self.connection.preallocate()?;
        if let Some(seconds) = self.query_timeout_seconds {
            ignore_unsupported(statement.set_query_timeout_sec(seconds));
        }
        statement.execute(sql, &row[..])?;
        Ok(statement.row_count()?.unwrap_or(0) as u64)
    }

    /// Which rows are in the table, from the id `first` to `last`; ids of a partition grow with the offset.
    pub fn existing(&mut self, plan: &Plan, first: Uuid, last: Uuid) -> Result<HashSet<Uuid>, Fault> {
        let range = vec![Value::Ascii(first.to_string()), Value::Ascii(last.to_string())];
        let found = self.query(&plan.existing, range)?;
        Ok(found.iter().filter_map(|answer| Uuid::parse_str(answer.first()?.as_deref()?.trim()).ok()).collect())
    }

    /// After [`insert`](Self::insert) failed: undoes what was done since the savepoint, and answers the offset of the row
    /// that is probably to blame.
    pub fn go_back(&mut self, plan: &Plan, rows: &Rows, trail: bool) -> Result<Option<i64>, Fault> {
        let suspect = match plan.system {
            _ if rows.len() == 1 => rows.iter().next().map(|row| row.offset),
            System::Postgres => None,
            System::MySql => self.numbered(rows).or_else(|| self.first_missing(plan, rows)),
            _ => self.first_missing(plan, rows),
        };
        self.execute(plan.back_to_savepoint(), Vec::new())?;
        if suspect.is_some() || !trail {
            return Ok(suspect);
        }
        self.number(READ_TRAIL)
    }

    /// The offset of the row whose number stands with the error.
    fn numbered(&mut self, rows: &Rows) -> Option<i64> {
        self.execute(KEEP_ROW_NUMBER, Vec::new()).ok()?;
        let number = self.number(READ_ROW_NUMBER).ok()??;
        rows.iter().nth(usize::try_from(number).ok()?.checked_sub(1)?).map(|row| row.offset)
    }

    /// The only number that a statement answers.
    fn number(&mut self, sql: &str) -> Result<Option<i64>, Fault> {
        let answers = self.query(sql, Vec::new())?;
        Ok(answers.first().and_then(|answer| answer.first()?.as_deref()?.trim().parse().ok()))
    }

    /// The offset of the first row that was not inserted. Microsoft's driver sends the rest of an array in spite of an
    /// error; row by row, those behind it are not tried.
    fn first_missing(&mut self, plan: &Plan, rows: &Rows) -> Option<i64> {
        let (first, last) = rows.ids()?;
        let existing = self.existing(plan, first, last).ok()?;
        // Where an array is inserted whole or not at all, nothing is known.
        let known = !plan.arrays || !existing.is_empty();
        rows.iter().find(|row| !existing.contains(&row.id)).map(|row| row.offset).filter(|_| known)
    }

    /// By bind buffers: all rows at once, or one after the other through the same buffers.
    fn insert_columns(&mut self, plan: &Plan, head: &Head, rows: &Rows) -> Result<(), Fault> {
        let at_once = if plan.arrays { rows.len() } else { 1 };
        let needed = Shape::of(head, rows, at_once);
        // Not put back after an error: what state a driver's statement is in then, nobody says.
        let mut columns = match self.columns.take() {
            Some(columns) if columns.shape.holds(needed) => columns,
            old => {
                let shape = old.map_or(needed, |old| old.shape.with(needed));
                self.bind_columns(plan, shape)?
            }
        };
        columns.inserter.set_num_rows(at_once);
        for (index, row) in rows.iter().enumerate() {
            let at = index % at_once;
            put_row(&mut columns.inserter, at, head, &row, plan.wide.map(|_| &mut self.units));
            if at + 1 == at_once {
                columns.inserter.execute()?;
            }
        }
        self.columns = Some(columns);
        Ok(())
    }

    fn bind_columns(&self, plan: &Plan, shape: Shape) -> Result<Columns<'c>, Fault> {
        let mut prepared = self.connection.prepare(&plan.insert)?;
        if let Some(seconds) = self.query_timeout_seconds {
            ignore_unsupported(prepared.set_query_timeout_sec(seconds));
        }
        let inserter = prepared.into_column_inserter(shape.rows(), shape.descriptions(plan.wide))?;
        Ok(Columns { inserter, shape })
    }

    pub fn commit(&mut self) -> Result<(), Fault> {
        Ok(self.connection.commit()?)
    }

    pub fn rollback(&mut self) -> Result<(), Fault> {
        Ok(self.connection.rollback()?)
    }

    /// Ends what frozen processes hold in PostgreSQL, and says how many sessions that were.
    pub fn end_frozen(&mut self) -> Result<usize, Fault> {
        let ended = self.number(END_FROZEN)?;
        self.rollback()?;
        Ok(ended.unwrap_or_default() as usize)
    }

    /// Whether the other side is still there.
    pub fn check(&mut self) -> Result<(), Fault> {
        // Not every driver can tell without asking the server, and not every database has `SELECT 1`.
        if self.connection.is_dead().unwrap_or(false) {
            return Err(Fault::Gone);
        }
        if self.system != System::Any {
            self.query("SELECT 1", Vec::new())?;
            self.rollback()?;
        }
        Ok(())
    }
}

/// A driver without time-outs of its own is no fault: the link's patience ends every call.
fn ignore_unsupported(result: Result<(), odbc_api::Error>) {
    if let Err(error) = result {
        log::debug!("this driver has no query time-out: {error}");
    }
}
