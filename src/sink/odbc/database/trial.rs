//! Trials with a driver.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use odbc_api::{ConnectionOptions, environment};

use super::fault::Fault;
use super::plan::Plan;
use super::session::Session;
use super::sink::is_driver_missing;
use super::tables::{MESSAGES, Needs, POSITIONS, Tables};
use crate::core::finding::Finding;
use crate::door;
use crate::sink::odbc::connection_string::attribute;
use crate::sink::odbc::sqlstate::System;
use crate::sink::odbc::trial::Trial;

/// Of so many round trips the middle one is told.
const ROUND_TRIPS: usize = 5;

/// Loads a driver into this process, by asking the driver manager for a connection that names the driver's file and
/// nothing else. A driver that answers anything at all was loaded; otherwise the manager answers in its place.
///
/// # Errors
/// The driver manager's words.
pub fn load(file: &Path) -> Result<(), String> {
    let manager = environment().map_err(|error| error.to_string())?;
    let connection_string = attribute("Driver", &file.to_string_lossy());
    let connected = manager.connect_with_connection_string(&connection_string, ConnectionOptions::default());
    match connected.map(drop).map_err(Fault::from) {
        Err(fault) if is_driver_missing(&fault) => Err(match fault {
            Fault::Said { words, .. } => words,
            other => format!("{other:?}"),
        }),
        _ => Ok(()),
    }
}

impl Trial {
    /// Tries everything through one connection, each step in a transaction that is rolled back.
    pub(super) fn run(tables: Tables<'_>, connect_us: u64) -> Trial {
        let plan = Arc::clone(tables.plan);
        let mut trier = Trier { tables, steps: Vec::new() };
        let server = trier.server();
        let round_trip_us = trier.round_trip_us();
        let messages = trier.table(&plan.table, MESSAGES);
        let positions = !trier.tables.options.exactly_once || trier.table(&plan.position_table, POSITIONS);
        if messages {
            let result = trier.tables.try_a_row().map_err(|error| error.message);
            trier.note(format!("insert into {} (rolled back)", plan.table), result);
        }
        if positions && trier.tables.options.exactly_once {
            trier.rights(&plan.position_table, "next_offset");
        }
        if !messages || !positions {
            trier.create();
        }
        Trial { dialect: plan.system.name(), server, connect_us, round_trip_us, steps: trier.steps }
    }
}

struct Trier<'a> {
    tables: Tables<'a>,
    steps: Vec<Finding>,
}

impl Trier<'_> {
    fn note(&mut self, what: String, result: Result<(), String>) {
        self.steps.push(Finding { what, fault: result.err() });
    }

    /// Does `body` in a transaction that is rolled back, and notes what came of it.
    fn step(&mut self, what: String, body: impl FnOnce(&mut Session<'_>) -> Result<(), Fault> + Send + 'static) {
        let tried = self.tables.in_transaction(|session| {
            body(session)?;
            session.rollback()
        });
        let result = tried.map_err(|fault| self.tables.error(&what, &fault).message);
        self.note(what, result);
    }

    fn query(&mut self, sql: &'static str) -> Result<Option<String>, Fault> {
        self.tables.in_transaction(move |session| {
            let mut answers = session.query(sql, Vec::new())?;
            session.rollback()?;
            Ok(answers.first_mut().and_then(|answer| answer.first_mut()?.take()))
        })
    }

    fn server(&mut self) -> Option<String> {
        let sql = match self.tables.plan.system {
            System::SqlServer => "SELECT @@VERSION",
            System::Postgres => "SELECT version()",
            System::MySql => "SELECT CONCAT(VERSION(), ', ', @@version_comment)",
            System::Sqlite => "SELECT 'SQLite ' || sqlite_version()",
            System::MongoDb | System::Any => return None,
        };
        let text = self.query(sql).ok().flatten()?;
        let line = text.lines().next().unwrap_or_default();
        Some(line.split(", compiled by").next().unwrap_or(line).trim().to_owned())
    }

    fn round_trip_us(&mut self) -> Option<u64> {
        if self.tables.plan.system == System::Any {
            return None;
        }
        let mut times: Vec<Duration> = Vec::new();
        for _ in 0..ROUND_TRIPS {
            let timed = self.tables.link.call(self.tables.options.patience(), |session| {
                let begun = door::now();
                session.query("SELECT 1", Vec::new()).map(|_| begun.elapsed())
            });
            times.push(timed.ok()?.ok()?);
        }
        times.sort();
        times.get(ROUND_TRIPS / 2).map(|time| time.as_micros() as u64)
    }

    /// Whether the table is there; notes its state.
    fn table(&mut self, table: &str, wanted: &[(&str, Needs)]) -> bool {
        match self.tables.columns(table) {
            Ok(found) => {
                let result = self.tables.check_columns(table, &found, wanted).map_err(|error| error.message);
                self.note(format!("{table} is there, with the columns that are needed"), result);
                true
            }
            Err(fault) if fault.is_missing_table() => {
                self.note(format!("{table} is not there yet: the sink makes it"), Ok(()));
                false
            }
            Err(fault) => {
                let message = self.tables.error(&format!("read {table}"), &fault).message;
                self.note(format!("read {table}"), Err(message));
                true
            }
        }
    }

    /// Rights that are checked although no row is touched.
    fn rights(&mut self, table: &str, column: &str) {
        let column = self.tables.plan.spelling.quoted(column);
        let insert = format!("INSERT INTO {table} SELECT * FROM {table} WHERE 1 = 0");
        self.step(format!("insert into {table} (no row)"), move |session| {
            session.execute(&insert, Vec::new()).map(drop)
        });
        let update = format!("UPDATE {table} SET {column} = {column} WHERE 1 = 0");
        self.step(format!("update {table} (no row)"), move |session| session.execute(&update, Vec::new()).map(drop));
    }

    /// Makes a table of a name that nobody else has, uses it and takes it away.
    fn create(&mut self) {
        let plan = Arc::clone(self.tables.plan);
        let name = plan.spelling.quoted(&format!("konekt_trial_{:016x}", door::random()));
        let table = match plan.table.rfind('.') {
            Some(dot) => format!("{}.{name}", &plan.table[..dot]),
            None => name,
        };
        let what = format!("make a table, fill, read and remove it ({table})");
        let create = format!("CREATE TABLE {table} (a {})", plan.spelling.int);
        let used = [format!("INSERT INTO {table} VALUES (1)"), format!("UPDATE {table} SET a = 2")];
        let read = Plan::probe(&table);
        let remove = format!("DROP TABLE {table}");
        self.step(what, move |session| {
            session.execute(&create, Vec::new())?;
            let used = used.iter().try_for_each(|statement| session.execute(statement, Vec::new()).map(drop));
            let used = used.and_then(|()| session.columns(&read).map(drop));
            // Some databases commit with every CREATE, so a rollback alone would leave the table.
            let removed = session.execute(&remove, Vec::new()).map(drop);
            used.and(removed)
        });
    }
}
