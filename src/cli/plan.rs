//! `konekt plan`: the SQL that a sink would use. It is read off the program; nothing is executed.

use std::fmt::Write;

use super::exit::{self, Exit, Failure};
use crate::config::{Resolved, Settings, SinkSettings};
use crate::sink::script::Statement;
use crate::sink::sqlite;

/// Prints it.
pub fn run(resolved: &Resolved, settings: &Settings) -> Result<(), Failure> {
    let (database, statements) = match &settings.sink {
        SinkSettings::Sqlite { table, .. } => ("sqlite", sqlite::script(table)),
        SinkSettings::Odbc(odbc) => super::odbc::script(odbc, &settings.consumer)?,
        _ => return Err(Failure::new(Exit::Usage, "no database is named: give --db, --connection-string or --server")),
    };
    if !resolved.switch("json") {
        return exit::put(&page(database, &statements));
    }
    exit::put_json(&serde_json::json!({ "database": database, "statements": statements }))
}

/// Statements as a script: what is no statement is a comment.
fn page(database: &str, statements: &[Statement]) -> String {
    let mut page = format!("-- {database}; ? is a bound value\n");
    for statement in statements {
        // Writing into a string cannot fail.
        let _ = write!(page, "\n-- {}\n{};\n", statement.when, statement.sql);
    }
    page
}
