//! The database that the settings name, for commands beside a run.

use std::path::Path;
use std::sync::Arc;

use super::exit::{Exit, Failure};
use crate::config::{Settings, SinkSettings};
use crate::core::verdict::ErrorClass;
use crate::door::SystemClock;
use crate::engine::Delivery;
use crate::port::{Sink, SinkError};
use crate::sink::operate::SqlTables;
use crate::sink::query::MessageDatabase;
use crate::sink::sqlite::{SqliteMessages, SqliteOptions, SqliteSink};

/// To ask it about its messages.
pub fn messages(settings: &Settings) -> Result<Box<dyn MessageDatabase>, Failure> {
    match &settings.sink {
        SinkSettings::Sqlite { path, table } => Ok(Box::new(SqliteMessages::open(path, table).map_err(failure)?)),
        SinkSettings::Odbc(odbc) => super::odbc::messages(odbc, &settings.consumer),
        _ => Err(Failure::new(Exit::Usage, "no database is named: give --db, --connection-string or --server")),
    }
}

/// To look at positions and FAILED rows, and to change them.
pub fn tables(settings: &Settings) -> Result<SqlTables, Failure> {
    messages(settings).map(SqlTables::new)
}

/// To write rows of a consumer group into it, without positions.
pub fn sink(settings: &Settings, group: &str) -> Result<Arc<dyn Sink>, Failure> {
    match &settings.sink {
        SinkSettings::Sqlite { path, table } => {
            Ok(Arc::new(SqliteSink::new(sqlite(path, table, group, Delivery::AtLeastOnce))))
        }
        SinkSettings::Odbc(odbc) => {
            let mut consumer = settings.consumer.clone();
            consumer.group_id = group.to_owned();
            consumer.delivery = Delivery::AtLeastOnce;
            super::odbc::sink(odbc, &consumer)
        }
        _ => Err(Failure::new(Exit::Usage, "no database is named: give --db, --connection-string or --server")),
    }
}

/// A SQLite file, as a consumer group writes into it.
pub fn sqlite(path: &Path, table: &str, group: &str, delivery: Delivery) -> SqliteOptions {
    let mut options = SqliteOptions::new(path, group, Arc::new(SystemClock::start()));
    table.clone_into(&mut options.table);
    options.exactly_once = delivery == Delivery::ExactlyOnce;
    options
}

/// What only a person can mend is a mistake of usage.
pub fn failure(error: SinkError) -> Failure {
    let exit = if matches!(error.class, ErrorClass::Auth | ErrorClass::Schema) { Exit::Usage } else { Exit::Failed };
    Failure::new(exit, error)
}
