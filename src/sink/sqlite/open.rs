//! Opens the file, sets it up, and makes the tables or checks that they fit.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use super::error::{open_error, sink_error};
use super::trial::may_be_made;
use super::{SqliteOptions, Synchronous};
use crate::core::verdict::ErrorClass;
use crate::port::SinkError;
use crate::sink::dialect::{ERROR, FILLED, SQLITE, create_messages};
use crate::sink::position::{self, PositionSql};
use crate::sink::script::{self, Messages, Statement};

/// The message table's columns, in the order of [`Statements::insert`]'s parameters.
pub(super) fn inserted() -> impl Iterator<Item = &'static str> {
    FILLED.into_iter().chain([ERROR])
}

/// The texts of the statements.
pub struct Statements {
    /// One row; a record whose id is there already changes nothing.
    pub insert: String,
    pub positions: PositionSql,
}

/// An open file whose tables fit.
pub struct Database {
    pub connection: Connection,
    pub statements: Statements,
    pub files: Files,
}

impl Database {
    /// Opens the file of `options`, making it and the tables where they are absent and `may_create` says so.
    pub fn open(options: &SqliteOptions, may_create: bool) -> Result<Self, SinkError> {
        let connection = match options.dry_run && !options.path.exists() {
            true => temporary(options)?,
            false => connect(&options.path, may_create && !options.dry_run)?,
        };
        configure(&connection, options).map_err(|error| sink_error(&options.path, "set it up", &error))?;
        let mut database = Self {
            connection,
            statements: Statements { insert: insert_sql(&options.table), positions: PositionSql::new(&SQLITE) },
            files: Files::default(),
        };
        match options.dry_run {
            true => database.rehearse_tables(options)?,
            false => {
                database.make_tables(options)?;
                check_tables(&database.connection, &database.statements, options)?;
            }
        }
        // Only now do the -wal file and, where the database is new, the file itself exist for certain.
        database.files = Files::of(&options.path);
        Ok(database)
    }

    /// Makes what is absent. Several processes may start on a new file at once; the first one makes it for all.
    fn make_tables(&mut self, options: &SqliteOptions) -> Result<(), SinkError> {
        let failed = |error| sink_error(&options.path, "make its tables", &error);
        if absent_tables(&self.connection, options).map_err(failed)?.is_empty() {
            return Ok(());
        }
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
        make_absent(&transaction, &self.statements, options).map_err(failed)?;
        transaction.commit().map_err(failed)?;
        log::info!("{}: made the tables that were absent", options.name());
        Ok(())
    }

    /// Makes what is absent, looks whether all fits, and takes it back.
    fn rehearse_tables(&mut self, options: &SqliteOptions) -> Result<(), SinkError> {
        let failed = |error| sink_error(&options.path, "try its tables", &error);
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
        make_absent(&transaction, &self.statements, options).map_err(failed)?;
        check_tables(&transaction, &self.statements, options)?;
        transaction.rollback().map_err(failed)
    }
}

/// The tables that are needed and not there.
fn absent_tables<'a>(connection: &Connection, options: &'a SqliteOptions) -> rusqlite::Result<Vec<&'a str>> {
    let needed = [Some(options.table.as_str()), options.exactly_once.then_some(position::TABLE)];
    let mut absent = Vec::new();
    for table in needed.into_iter().flatten() {
        if columns(connection, table)?.is_empty() {
            absent.push(table);
        }
    }
    Ok(absent)
}

/// Makes the tables that are absent, in the open transaction.
pub(super) fn make_absent(
    connection: &Connection,
    statements: &Statements,
    options: &SqliteOptions,
) -> rusqlite::Result<()> {
    for table in absent_tables(connection, options)? {
        let create = match table == options.table {
            true => create_messages(&SQLITE, &SQLITE.quoted(table), &index_of(table)).join(";"),
            false => statements.positions.create.clone(),
        };
        connection.execute_batch(&create)?;
    }
    Ok(())
}

/// What a run would make: the file, and tables. Nothing where it cannot be looked at.
pub(super) fn absent(options: &SqliteOptions) -> Vec<String> {
    let looked = match options.path.exists() {
        // One that could only read would leave the -wal file behind.
        true => Connection::open_with_flags(plain(&options.path), OpenFlags::SQLITE_OPEN_READ_WRITE),
        false => Connection::open_in_memory(),
    };
    let tables = looked.and_then(|connection| {
        let tables = absent_tables(&connection, options)?;
        Ok(tables.into_iter().map(str::to_owned).collect::<Vec<String>>())
    });
    let file = (!options.path.exists()).then(|| options.path.display().to_string());
    file.into_iter().chain(tables.unwrap_or_default()).collect()
}

fn check_tables(connection: &Connection, statements: &Statements, options: &SqliteOptions) -> Result<(), SinkError> {
    check_columns(connection, options, &options.table, &inserted().collect::<Vec<_>>())?;
    let mut texts = vec![&statements.insert];
    if options.exactly_once {
        check_columns(connection, options, position::TABLE, &position::COLUMNS)?;
        let sql = &statements.positions;
        texts.extend([&sql.take, &sql.insert, &sql.read, &sql.advance, &sql.recount, &sql.pause]);
    }
    // Whatever else does not fit (a view, no unique id) shows when the statements are prepared.
    for text in texts {
        let prepared = connection.prepare_cached(text);
        prepared.map_err(|error| sink_error(&options.path, "prepare its statements", &error))?;
    }
    Ok(())
}

/// A database of its own for a dry run whose file is not there; it is gone with the connection.
fn temporary(options: &SqliteOptions) -> Result<Connection, SinkError> {
    if let Some(fault) = may_be_made(options).fault {
        return Err(SinkError::new(ErrorClass::Auth, format!("{}: {fault}", options.name())));
    }
    Connection::open("").map_err(|error| sink_error(&options.path, "make a temporary database", &error))
}

pub(super) fn connect(path: &Path, may_create: bool) -> Result<Connection, SinkError> {
    let mut flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    flags.set(OpenFlags::SQLITE_OPEN_CREATE, may_create);
    let connection =
        Connection::open_with_flags(plain(path), flags).map_err(|error| open_error(path, &error, !may_create))?;
    // SQLite quietly opens a write-protected file for reading.
    if connection.is_readonly("main").unwrap_or(false) {
        let shown = path.display();
        return Err(SinkError::new(
            ErrorClass::Auth,
            format!("sqlite {shown}: the file is write-protected; make it writable for this user: chmod u+w '{shown}'"),
        ));
    }
    Ok(connection)
}

/// A path that SQLite takes as a path: `file:…` would be read as a URI, `:memory:` and the empty name as no file at
/// all.
pub fn plain(path: &Path) -> PathBuf {
    let bytes = path.as_os_str().as_encoded_bytes();
    if bytes.is_empty() || bytes.starts_with(b":") || bytes.starts_with(b"file:") {
        return Path::new(".").join(path);
    }
    path.to_owned()
}

fn configure(connection: &Connection, options: &SqliteOptions) -> rusqlite::Result<()> {
    connection.busy_timeout(options.busy_timeout)?;
    // A file remembers its journal mode, so a dry run leaves it.
    if !options.dry_run {
        let mode: String = connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
        if mode != "wal" {
            let name = options.name();
            log::warn!("{name}: WAL is not possible here, journal mode stays {mode}: slower, but no less safe");
        }
    }
    let default = if options.exactly_once { Synchronous::Normal } else { Synchronous::Full };
    let synchronous = match options.synchronous.unwrap_or(default) {
        Synchronous::Normal => "NORMAL",
        Synchronous::Full => "FULL",
    };
    connection.pragma_update(None, "synchronous", synchronous)?;
    // KiB when negative, and pages. With ids that grow neither number can be measured; where an existing table has
    // indexes in random order, both together were worth 1.8 times the rows per second.
    connection.pragma_update(None, "cache_size", -32 * 1024)?;
    connection.pragma_update(None, "wal_autocheckpoint", 20_000)?;
    // Bytes: what one huge transaction made of the -wal file is given back at the next checkpoint.
    connection.pragma_update(None, "journal_size_limit", 128 << 20)?;
    for (name, value) in &options.pragmas {
        connection.pragma_update(None, name, *value)?;
    }
    Ok(())
}

pub(super) fn insert_sql(table: &str) -> String {
    let columns = SQLITE.list(inserted());
    let values = vec!["?"; inserted().count()].join(", ");
    format!("INSERT INTO {} ({columns}) VALUES ({values}) ON CONFLICT(id) DO NOTHING", SQLITE.quoted(table))
}

/// The statements for a table, for people.
pub fn script(table: &str) -> Vec<Statement> {
    let (quoted, index) = (SQLITE.quoted(table), index_of(table));
    let insert = insert_sql(table);
    let messages = Messages {
        dialect: &SQLITE,
        table: &quoted,
        index: &index,
        insert: &insert,
        insert_failed: None,
        existing: None,
        search: Vec::new(),
    };
    script::script(messages, &PositionSql::new(&SQLITE))
}

fn index_of(table: &str) -> String {
    format!("{table}_topic_partition_offset")
}

/// A column as `PRAGMA table_info` tells it.
pub(super) struct Column {
    name: String,
    /// NOT NULL without a default: an insert that does not name it fails.
    required: bool,
}

/// The columns of a table; none when there is no such table.
pub(super) fn columns(connection: &Connection, table: &str) -> rusqlite::Result<Vec<Column>> {
    let mut statement =
        connection.prepare(r#"SELECT name, "notnull" AND dflt_value IS NULL AND pk = 0 FROM pragma_table_info(?)"#)?;
    let columns = statement.query_map([table], |row| Ok(Column { name: row.get(0)?, required: row.get(1)? }))?;
    columns.collect()
}

/// All that is wrong with a table's columns, in one error.
pub(super) fn check_columns(
    connection: &Connection,
    options: &SqliteOptions,
    table: &str,
    filled: &[&str],
) -> Result<(), SinkError> {
    let found = columns(connection, table).map_err(|error| sink_error(&options.path, "read its schema", &error))?;
    let missing: Vec<&str> = filled
        .iter()
        .copied()
        .filter(|name| !found.iter().any(|column| column.name.eq_ignore_ascii_case(name)))
        .collect();
    let unfilled: Vec<&str> = found
        .iter()
        .filter(|column| column.required && !filled.iter().any(|name| column.name.eq_ignore_ascii_case(name)))
        .map(|column| column.name.as_str())
        .collect();
    let mut faults = Vec::new();
    if !missing.is_empty() {
        faults.push(format!("lacks the columns {}", missing.join(", ")));
    }
    if !unfilled.is_empty() {
        faults.push(format!("has columns that must be filled and that Konekt does not know: {}", unfilled.join(", ")));
    }
    if faults.is_empty() {
        return Ok(());
    }
    let path = options.path.display();
    let cure = if table == position::TABLE {
        "rename that table, and Konekt makes its own"
    } else {
        "change the table, or name another one with --table"
    };
    Err(SinkError::new(
        ErrorClass::Schema,
        format!("sqlite {path}: the table {table} {}; {cure}", faults.join(", and ")),
    ))
}

/// Which files the connection has open, so that a removed or replaced one is noticed: SQLite would go on writing to
/// files that nobody can see any more, and call it committed.
#[derive(Default)]
pub struct Files {
    known: Vec<(PathBuf, Option<Identity>)>,
}

type Identity = (u64, u64);

impl Files {
    fn of(path: &Path) -> Self {
        // SQLite follows links before it names the -wal file.
        let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let mut wal = path.as_os_str().to_owned();
        wal.push("-wal");
        let known = [path, PathBuf::from(wal)].map(|path| {
            let identity = identity(&path);
            (path, identity)
        });
        Self { known: known.into() }
    }

    /// The first file that is not there any more as it was.
    pub fn lost(&self) -> Option<&Path> {
        let lost = self.known.iter().find(|(path, known)| known.is_some() && identity(path) != *known);
        lost.map(|(path, _)| path.as_path())
    }
}

#[cfg(unix)]
fn identity(path: &Path) -> Option<Identity> {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()))
}

/// Elsewhere an open file cannot be removed.
#[cfg(not(unix))]
fn identity(_path: &Path) -> Option<Identity> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_is_the_path_of_a_file() {
        for (path, expected) in [
            ("k.db", "k.db"),
            ("/data/file:k.db", "/data/file:k.db"),
            ("file:k.db?mode=memory", "./file:k.db?mode=memory"),
            (":memory:", "./:memory:"),
            ("", "./"),
        ] {
            assert_eq!(plain(Path::new(path)), Path::new(expected), "{path:?}");
        }
    }
}
