//! The database that the settings name, for commands beside a run.

use std::path::Path;
use std::sync::Arc;

use super::exit::{Exit, Failure};
use crate::config::{Settings, SinkSettings};
use crate::consumer::ConsumerConfig;
use crate::door::SystemClock;
use crate::engine::Delivery;
use crate::ops::messages::Messages;
use crate::port::{Sink, SinkError};
use crate::sink::operate::SqlTables;
use crate::sink::position::PositionStore;
use crate::sink::query::MessageDatabase;
use crate::sink::row::FailedRows;
use crate::sink::sqlite::{SqliteMessages, SqliteOptions, SqliteSink};

/// To ask it about its messages.
pub fn messages(settings: &Settings) -> Result<Box<dyn Messages>, Failure> {
    match &settings.sink {
        #[cfg(feature = "mongodb")]
        SinkSettings::MongoDb(mongo) => Ok(Box::new(super::mongo::tables(mongo, &settings.consumer)?)),
        _ => Ok(Box::new(sql(settings)?)),
    }
}

/// To look at positions, and to change them.
pub fn positions(settings: &Settings) -> Result<Box<dyn PositionStore>, Failure> {
    match &settings.sink {
        #[cfg(feature = "mongodb")]
        SinkSettings::MongoDb(mongo) => Ok(Box::new(super::mongo::tables(mongo, &settings.consumer)?)),
        _ => Ok(Box::new(SqlTables::new(sql(settings)?))),
    }
}

/// To look at FAILED rows, and to try them again.
pub fn failed_rows(settings: &Settings) -> Result<Box<dyn FailedRows>, Failure> {
    match &settings.sink {
        #[cfg(feature = "mongodb")]
        SinkSettings::MongoDb(mongo) => Ok(Box::new(super::mongo::tables(mongo, &settings.consumer)?)),
        _ => Ok(Box::new(SqlTables::new(sql(settings)?))),
    }
}

fn sql(settings: &Settings) -> Result<Box<dyn MessageDatabase>, Failure> {
    match &settings.sink {
        SinkSettings::Sqlite { path, table } => Ok(Box::new(SqliteMessages::open(path, table).map_err(failure)?)),
        SinkSettings::Odbc(odbc) => super::odbc::messages(odbc, &settings.consumer),
        #[cfg(not(feature = "mongodb"))]
        SinkSettings::MongoDb(_) => Err(super::mongo::built_without()),
        _ => Err(unnamed()),
    }
}

/// To write rows of a consumer group into it, without positions.
pub fn sink(settings: &Settings, group: &str) -> Result<Arc<dyn Sink>, Failure> {
    match &settings.sink {
        SinkSettings::Sqlite { path, table } => {
            Ok(Arc::new(SqliteSink::new(sqlite(path, table, group, Delivery::AtLeastOnce))))
        }
        SinkSettings::Odbc(odbc) => super::odbc::sink(odbc, &without_positions(settings, group)),
        SinkSettings::MongoDb(mongo) => super::mongo::sink(mongo, &without_positions(settings, group)),
        _ => Err(unnamed()),
    }
}

/// A SQLite file, as a consumer group writes into it.
pub fn sqlite(path: &Path, table: &str, group: &str, delivery: Delivery) -> SqliteOptions {
    let mut options = SqliteOptions::new(path, group, Arc::new(SystemClock::start()));
    table.clone_into(&mut options.table);
    options.exactly_once = delivery == Delivery::ExactlyOnce;
    options
}

fn without_positions(settings: &Settings, group: &str) -> ConsumerConfig {
    let (group_id, delivery) = (group.to_owned(), Delivery::AtLeastOnce);
    ConsumerConfig { group_id, delivery, ..settings.consumer.clone() }
}

fn unnamed() -> Failure {
    let words = "no database is named: give --db, --connection-string, --server or --mongodb-database";
    Failure::new(Exit::Usage, words)
}

/// What only a person can mend is a mistake of usage.
pub fn failure(error: SinkError) -> Failure {
    let exit = if error.class.needs_person() { Exit::Usage } else { Exit::Failed };
    Failure::new(exit, error)
}
