//! The pretend database: SQLite below, SQL Server's errors and transactions above.
//!
//! Each session has a connection of its own. What a transaction writes, others see once it is committed; one writes at a
//! time, and who waits longer than the session's lock time-out gets error 1222. A transaction that only reads sees what is
//! committed at each statement, as READ COMMITTED with row versions does.

use std::borrow::Cow;
use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, ErrorCode, ToSql, ffi};

use super::answer::Column;
use super::errors::SqlError;
use super::request::Parameter;
use super::tsql::{Kind, SEPARATOR, quoted};
use super::value::{Size, Type, Value};
use super::{calendar, catalogue};

/// How long a write waits for another's transaction when the session has not said so; SQL Server waits for ever.
const LOCK_TIMEOUT: Duration = Duration::from_secs(30);

/// Statements whose plan is kept.
const PLANS: usize = 64;

pub struct Database {
    sqlite: Connection,
    /// How often BEGIN was said and not yet answered by COMMIT.
    depth: u32,
    /// The number of the current transaction, or of the last.
    transaction: u64,
    /// Rows of the last statement.
    affected: u64,
}

/// A parameter as it was declared.
pub struct Declared {
    pub name: String,
    /// Of a string with a size: how many units of a value it takes.
    pub size: Option<usize>,
}

/// The values of a statement's parameters.
#[derive(Clone, Copy)]
pub struct Parameters<'a> {
    pub declared: &'a [Declared],
    pub values: &'a [Parameter],
}

impl<'a> Parameters<'a> {
    pub const NONE: Self = Self { declared: &[], values: &[] };

    /// Values come in the order of the declaration, unless they say their names. As SQL Server does, a parameter takes
    /// as much of a text as it was declared for, and says nothing.
    fn get(&self, name: &str) -> Option<Cow<'a, Value>> {
        let at = self.declared.iter().position(|it| it.name.eq_ignore_ascii_case(name))?;
        let named = self.values.iter().find(|it| it.name.eq_ignore_ascii_case(name));
        let value = &named.or_else(|| self.values.get(at))?.value;
        match (value, self.declared[at].size) {
            (Value::Text(units), Some(size)) if units.len() > size => {
                Some(Cow::Owned(Value::Text(units[..size].to_vec())))
            }
            _ => Some(Cow::Borrowed(value)),
        }
    }
}

/// What a statement brought.
pub enum Outcome {
    Rows(Vec<Column>, Vec<Vec<Value>>),
    Count(u64),
    Nothing,
}

impl Database {
    /// Makes the file.
    pub fn create(path: &Path) -> rusqlite::Result<Self> {
        let database = Self::open(path)?;
        database.sqlite.pragma_update(None, "journal_mode", "WAL")?;
        catalogue::create(&database.sqlite)?;
        Ok(database)
    }

    pub fn open(path: &Path) -> rusqlite::Result<Self> {
        let sqlite = Connection::open(path)?;
        sqlite.pragma_update(None, "synchronous", "OFF")?;
        sqlite.busy_timeout(LOCK_TIMEOUT)?;
        sqlite.set_prepared_statement_cache_capacity(PLANS);
        // an unknown name in quotes is an error, not a text
        sqlite.set_db_config(DbConfig::SQLITE_DBCONFIG_DQS_DML, false)?;
        catalogue::define(&sqlite)?;
        Ok(Self { sqlite, depth: 0, transaction: 0, affected: 0 })
    }

    /// What a statement of SQLite answers.
    pub fn rows(&mut self, sql: &str) -> rusqlite::Result<Vec<Vec<Value>>> {
        let mut statement = self.sqlite.prepare(sql)?;
        let columns = columns(&statement);
        let mut rows = statement.raw_query();
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            found.push(values(row, &columns)?);
        }
        Ok(found)
    }

    pub fn set_lock_timeout(&mut self, ms: i64) -> Result<(), SqlError> {
        let wait = u64::try_from(ms).map_or(LOCK_TIMEOUT, Duration::from_millis);
        self.sqlite.busy_timeout(wait).map_err(|error| explained(&error))
    }

    // ---- statements

    pub fn is_true(&mut self, condition: &str, parameters: Parameters<'_>) -> Result<bool, SqlError> {
        match self.execute(condition, Kind::Read, parameters)? {
            Outcome::Rows(_, rows) => Ok(rows == [[Value::Int(1)]]),
            Outcome::Count(_) | Outcome::Nothing => Ok(false),
        }
    }

    pub fn execute(&mut self, sql: &str, kind: Kind, parameters: Parameters<'_>) -> Result<Outcome, SqlError> {
        if kind != Kind::Read {
            self.lock()?;
        }
        let outcome = self.run(sql, kind, parameters)?;
        self.affected = match &outcome {
            Outcome::Rows(_, rows) => rows.len() as u64,
            Outcome::Count(count) => *count,
            Outcome::Nothing => 0,
        };
        Ok(outcome)
    }

    fn run(&self, sql: &str, kind: Kind, parameters: Parameters<'_>) -> Result<Outcome, SqlError> {
        let explain = |error| explained(&error);
        let mut statement = self.sqlite.prepare_cached(sql).map_err(explain)?;
        for at in 1..=statement.parameter_count() {
            let name = statement.parameter_name(at).unwrap_or_default().to_owned();
            match (self.variable(&name), parameters.get(&name)) {
                (Some(value), _) => statement.raw_bind_parameter(at, &value),
                (None, Some(value)) => statement.raw_bind_parameter(at, value.as_ref()),
                (None, None) => return Err(SqlError::new(137, &name)),
            }
            .map_err(explain)?;
        }
        if kind != Kind::Read {
            let count = statement.raw_execute().map_err(explain)?;
            return Ok(if kind == Kind::Write { Outcome::Count(count as u64) } else { Outcome::Nothing });
        }
        let mut columns = columns(&statement);
        let mut found = Vec::new();
        let mut rows = statement.raw_query();
        while let Some(row) = rows.next().map_err(explain)? {
            found.push(values(row, &columns).map_err(explain)?);
        }
        for (at, column) in columns.iter_mut().enumerate().filter(|(_, column)| column.kind == UNKNOWN) {
            column.kind = kind_of(found.iter().map(|row| &row[at]));
        }
        Ok(Outcome::Rows(columns, found))
    }

    /// Whether the statement can be run, and the columns that it answers.
    pub fn describe(&self, sql: &str) -> Result<Vec<Column>, SqlError> {
        self.sqlite.prepare_cached(sql).map(|statement| columns(&statement)).map_err(|error| explained(&error))
    }

    /// `@@name`.
    fn variable(&self, name: &str) -> Option<Value> {
        match name {
            "@_version" => Some(Value::text(&catalogue::version())),
            "@_trancount" => Some(Value::Int(self.depth.into())),
            "@_rowcount" => Some(Value::Int(self.affected.cast_signed())),
            "@_spid" => Some(Value::Int(51)),
            "@_servername" => Some(Value::text("double")),
            "@_lock_timeout" => Some(Value::Int(-1)),
            "@_error" => Some(Value::Int(0)),
            _ => None,
        }
    }

    // ---- transactions

    pub fn is_in_transaction(&self) -> bool {
        self.depth > 0
    }

    /// The number of the transaction that is open, or was.
    pub fn transaction(&self) -> u64 {
        self.transaction
    }

    pub fn begin(&mut self) {
        self.depth += 1;
        if self.depth == 1 {
            self.transaction += 1;
        }
    }

    pub fn commit(&mut self) -> Result<(), SqlError> {
        if self.depth == 0 {
            return Err(SqlError::new(3902, ""));
        }
        self.depth -= 1;
        if self.depth == 0 { self.end("COMMIT") } else { Ok(()) }
    }

    pub fn rollback(&mut self) -> Result<(), SqlError> {
        if self.depth == 0 {
            return Err(SqlError::new(3903, ""));
        }
        self.depth = 0;
        self.end("ROLLBACK")
    }

    pub fn save(&mut self, name: &str) -> Result<(), SqlError> {
        self.lock()?;
        self.batch(&format!("SAVEPOINT {}", quoted(name)))
    }

    pub fn rollback_to(&mut self, name: &str) -> Result<(), SqlError> {
        self.batch(&format!("ROLLBACK TO {}", quoted(name))).map_err(|_| SqlError::new(6401, name))
    }

    /// The first write of a transaction locks; before that there is nothing to lock.
    fn lock(&self) -> Result<(), SqlError> {
        if self.depth > 0 && self.sqlite.is_autocommit() { self.batch("BEGIN IMMEDIATE") } else { Ok(()) }
    }

    fn end(&self, how: &str) -> Result<(), SqlError> {
        if self.sqlite.is_autocommit() { Ok(()) } else { self.batch(how) }
    }

    fn batch(&self, sql: &str) -> Result<(), SqlError> {
        self.sqlite.execute_batch(sql).map_err(|error| explained(&error))
    }
}

// ---- values and types

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(match self {
            Value::Null => ToSqlOutput::Borrowed(ValueRef::Null),
            Value::Int(number) => ToSqlOutput::Borrowed(ValueRef::Integer(*number)),
            Value::Float(number) => ToSqlOutput::Borrowed(ValueRef::Real(*number)),
            Value::Text(units) => String::from_utf16_lossy(units).into(),
            Value::Moment(text) => ToSqlOutput::Borrowed(ValueRef::Text(text.as_bytes())),
            Value::Bytes(bytes) => ToSqlOutput::Borrowed(ValueRef::Blob(bytes)),
        })
    }
}

fn values(row: &rusqlite::Row<'_>, columns: &[Column]) -> rusqlite::Result<Vec<Value>> {
    columns.iter().enumerate().map(|(at, column)| Ok(value(row.get_ref(at)?, &column.kind))).collect()
}

/// A moment is kept as it came; a column shows as many digits of its second as it has.
fn value(value: ValueRef<'_>, kind: &Type) -> Value {
    match (value, kind) {
        (ValueRef::Null, _) => Value::Null,
        (ValueRef::Integer(number), _) => Value::Int(number),
        (ValueRef::Real(number), _) => Value::Float(number),
        (ValueRef::Text(bytes), Type { name: "datetime2", size: Size::Of(scale) }) => {
            Value::Moment(calendar::with_scale(&String::from_utf8_lossy(bytes), *scale))
        }
        (ValueRef::Text(bytes), _) => Value::text(&String::from_utf8_lossy(bytes)),
        (ValueRef::Blob(bytes), _) => Value::Bytes(bytes.to_vec()),
    }
}

/// The type of a column that is no table's, until its values are known.
const UNKNOWN: Type = Type { name: "nvarchar", size: Size::Of(4000) };

fn columns(statement: &rusqlite::Statement<'_>) -> Vec<Column> {
    let column = |column: rusqlite::Column<'_>| Column {
        // what SQLite calls after its expression has no name for SQL Server
        name: Some(column.name()).filter(|name| !name.contains(['(', '@', '\''])).unwrap_or_default().to_owned(),
        kind: column.decl_type().map_or(UNKNOWN, declared),
    };
    statement.columns().map(column).collect()
}

fn declared(text: &str) -> Type {
    let (name, size) = text.split_once('(').unwrap_or((text, ""));
    let number = size.trim_end_matches(')').parse();
    match name.to_lowercase().as_str() {
        "bigint" => Type { name: "bigint", size: Size::None },
        "int" | "integer" | "smallint" | "tinyint" => Type { name: "int", size: Size::None },
        "bit" => Type { name: "bit", size: Size::None },
        "float" | "real" => Type { name: "float", size: Size::None },
        "datetime2" => Type { name: "datetime2", size: Size::Of(number.unwrap_or(7)) },
        "varbinary" => Type { name: "varbinary", size: number.map_or(Size::Max, Size::Of) },
        "nvarchar" | "varchar" | "nchar" | "char" => {
            Type { name: "nvarchar", size: number.map_or(Size::Max, Size::Of) }
        }
        _ => UNKNOWN,
    }
}

/// The type that holds all of these.
fn kind_of<'a>(values: impl Iterator<Item = &'a Value>) -> Type {
    let mut kind = UNKNOWN;
    for value in values {
        match value {
            Value::Int(_) => return Type { name: "bigint", size: Size::None },
            Value::Float(_) => return Type { name: "float", size: Size::None },
            Value::Bytes(_) => return Type { name: "varbinary", size: Size::Max },
            Value::Text(units) if units.len() > 4000 => kind.size = Size::Max,
            Value::Text(_) | Value::Moment(_) | Value::Null => {}
        }
    }
    kind
}

// ---- errors

/// SQLite's error as SQL Server's.
fn explained(error: &rusqlite::Error) -> SqlError {
    let message = match error {
        rusqlite::Error::SqliteFailure(_, Some(message)) => message.clone(),
        rusqlite::Error::SqlInputError { msg, .. } => msg.clone(),
        other => other.to_string(),
    };
    let about = message.rsplit(": ").next().unwrap_or_default();
    let named = |number: i32, name: &str| SqlError::new(number, &name.replace(SEPARATOR, "."));
    let column = about.rsplit('.').next().unwrap_or_default();
    match error.sqlite_error().map(|error| (error.code, error.extended_code)) {
        Some((_, ffi::SQLITE_CONSTRAINT_PRIMARYKEY)) => named(2627, table_of(about)),
        Some((_, ffi::SQLITE_CONSTRAINT_UNIQUE)) => named(2601, table_of(about)),
        Some((_, ffi::SQLITE_CONSTRAINT_NOTNULL)) => named(515, column),
        Some((_, ffi::SQLITE_CONSTRAINT_CHECK)) => {
            match about.split_once(' ').map(|(number, name)| (number.parse(), name)) {
                Some((Ok(number), name)) => named(number, name),
                _ => named(547, about),
            }
        }
        Some((ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked, _)) => named(1222, ""),
        Some((ErrorCode::DiskFull, _)) => named(1105, about),
        Some((ErrorCode::ReadOnly, _)) => named(3906, ""),
        _ => named(number_of(&message), name_in(&message)),
    }
}

/// `dbo.t` of `t.id, t.name`.
fn table_of(columns: &str) -> &str {
    columns.split('.').next().unwrap_or_default()
}

/// SQLite has one code for everything that is wrong with a statement's text.
fn number_of(message: &str) -> i32 {
    let kinds = [
        ("no such table", 208),
        ("no such column", 207),
        ("has no column named", 207),
        ("no such function", 195),
        ("syntax error", 102),
        ("index", 1913),
        ("already exists", 2714),
    ];
    kinds.iter().find(|(part, _)| message.contains(part)).map_or(50_000, |(_, number)| *number)
}

/// The name that a message is about.
fn name_in(message: &str) -> &str {
    let name = message.split(": ").nth(1).or_else(|| message.rsplit("named ").next()).unwrap_or(message);
    message.strip_prefix("table ").and_then(|rest| rest.split(' ').next()).unwrap_or(name).trim_matches('"')
}
