//! Whether a file has what the sink needs, for `konekt check`. It is left as it was.

use rusqlite::{Connection, OpenFlags, TransactionBehavior, params};

use super::error::sink_error;
use super::open::{check_columns, columns, connect, insert_sql, inserted};
use super::{SqliteMessages, SqliteOptions};
use crate::core::finding::Finding;
use crate::port::SinkError;
use crate::sink::position;

/// Looks at the file and its tables, and inserts a row that is rolled back.
pub fn trial(options: &SqliteOptions) -> Vec<Finding> {
    let shown = options.path.display();
    if !options.path.exists() {
        return vec![may_be_made(options)];
    }
    let opened = SqliteMessages::open_to(OpenFlags::SQLITE_OPEN_READ_ONLY, &options.path, &options.table);
    let connection = match opened {
        Ok(database) => database.connection,
        Err(error) => return vec![Finding::bad(format!("open {shown}"), error.message)],
    };
    let mut findings = vec![Finding::good(format!("{shown} is there"))];
    let messages = table(&connection, options, &options.table, &inserted().collect::<Vec<_>>(), &mut findings);
    if options.exactly_once {
        table(&connection, options, position::TABLE, &position::COLUMNS, &mut findings);
    }
    drop(connection);
    if messages {
        let what = format!("insert into {} (rolled back)", options.table);
        findings.push(finding(what, try_a_row(options)));
    }
    findings
}

fn finding(what: String, result: Result<(), SinkError>) -> Finding {
    Finding { what, fault: result.err().map(|error| error.message) }
}

pub(super) fn may_be_made(options: &SqliteOptions) -> Finding {
    let shown = options.path.display();
    let directory = options.path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let directory = directory.unwrap_or_else(|| ".".as_ref());
    let what = format!("{shown} is not there yet: the sink makes it");
    match directory.metadata() {
        Ok(metadata) if !metadata.is_dir() => Finding::bad(what, format!("{} is no directory", directory.display())),
        Ok(metadata) if metadata.permissions().readonly() => {
            Finding::bad(what, format!("{} is write-protected; chmod u+w it", directory.display()))
        }
        Ok(_) => Finding::good(what),
        Err(error) => Finding::bad(what, format!("{}: {error}; make the directory first", directory.display())),
    }
}

/// Whether the table is there; notes its state.
fn table(
    connection: &Connection,
    options: &SqliteOptions,
    table: &str,
    filled: &[&str],
    findings: &mut Vec<Finding>,
) -> bool {
    match columns(connection, table) {
        Ok(found) if found.is_empty() => {
            findings.push(Finding::good(format!("{table} is not there yet: the sink makes it")));
            false
        }
        Ok(_) => {
            let result = check_columns(connection, options, table, filled);
            findings.push(finding(format!("{table} is there, with the columns that are needed"), result));
            true
        }
        Err(error) => {
            let error = sink_error(&options.path, "read its schema", &error);
            findings.push(finding(format!("read {table}"), Err(error)));
            false
        }
    }
}

fn try_a_row(options: &SqliteOptions) -> Result<(), SinkError> {
    let failed = |error| sink_error(&options.path, "insert a row (it was only a trial)", &error);
    let mut connection = connect(&options.path, false)?;
    connection.busy_timeout(options.busy_timeout).map_err(failed)?;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
    let row = params![
        "konekt-probe",
        0,
        &*options.consumer_group,
        "1970-01-01 00:00:00.000",
        "00000000-0000-8000-8000-000000000000",
        0,
        None::<String>,
        "",
        None::<String>,
        "SUCCESS",
        None::<String>
    ];
    transaction.execute(&insert_sql(&options.table), row).map_err(failed)?;
    transaction.rollback().map_err(failed)
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use tempfile::TempDir;

    use super::*;
    use crate::door::SystemClock;
    use crate::port::Sink;
    use crate::sink::sqlite::SqliteSink;

    fn options(path: &Path) -> SqliteOptions {
        SqliteOptions::new(path, "billing", Arc::new(SystemClock::start()))
    }

    /// What is found, and the words of the faults.
    fn check(options: &SqliteOptions, good: &[&str], bad: &[&str]) {
        let (faulty, fine): (Vec<Finding>, Vec<Finding>) =
            trial(options).into_iter().partition(|finding| finding.fault.is_some());
        assert_eq!((fine.len(), faulty.len()), (good.len(), bad.len()), "{fine:#?} {faulty:#?}");
        for (finding, words) in fine.iter().zip(good) {
            assert!(finding.what.contains(words), "{words:?}: {finding:#?}");
        }
        for (finding, words) in faulty.iter().zip(bad) {
            assert!(finding.fault.as_ref().is_some_and(|fault| fault.contains(words)), "{words:?}: {finding:#?}");
        }
    }

    #[test]
    fn a_file_is_looked_at_and_left_as_it_was() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("k.db");
        check(&options(&path), &["is not there yet"], &[]);
        check(&options(&folder.path().join("none/k.db")), &[], &["make the directory first"]);
        assert!(!path.exists());

        SqliteSink::new(options(&path)).writer().unwrap();
        let before = std::fs::read(&path).unwrap();
        let fine = ["is there", "processed_messages is there", "konekt_positions is there", "insert into"];
        check(&options(&path), &fine, &[]);
        assert_eq!(std::fs::read(&path).unwrap(), before);

        let other = SqliteOptions { table: "other".into(), ..options(&path) };
        check(&other, &["is there", "other is not there yet", "konekt_positions"], &[]);
    }

    #[test]
    fn a_table_that_does_not_fit_is_named() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("k.db");
        let connection = Connection::open(&path).unwrap();
        connection.execute_batch("CREATE TABLE processed_messages (id TEXT PRIMARY KEY, price INT NOT NULL)").unwrap();
        drop(connection);
        check(&options(&path), &["is there", "konekt_positions is not there"], &["price", "insert a row"]);
        std::fs::write(&path, "this is no database, and long enough that it could not be one by chance").unwrap();
        check(&options(&path), &["is there"], &["not a database", "not a database"]);
    }
}
