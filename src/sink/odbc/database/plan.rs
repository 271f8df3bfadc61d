//! What is done differently in each database: the texts of all statements, how rows are inserted, how a session is set
//! up.
//!
//! Two forms of insertion. PostgreSQL gets one statement with an array per column, taken apart by `unnest`. All others
//! get `INSERT … VALUES (?, …)`: MySQL, MariaDB and SQL Server (Microsoft's driver) with an array of rows per execution,
//! the rest row by row. Rows whose id is there already are left as they are: the ids that are there are asked for first,
//! which is one look at the end of the key, for ids of a partition grow with the offset; PostgreSQL is asked in the same
//! statement. (`ON DUPLICATE KEY`, `INSERT IGNORE` and `IGNORE_DUP_KEY` would also swallow what another unique key of the
//! user's refuses; `ON CONFLICT (id) DO NOTHING` looks for each row by itself and logs each twice.) A row that another
//! writer commits in between is refused by the key, and found to be there when its batch is tried again.
//!
//! Rows per second of 200 bytes with the table's key and index, 1,000 per transaction, 2 cores shared with the server,
//! growing ids; each line is one run of the same program on a busy machine, so only ratios count:
//!
//! | database, driver | form | 1 connection | 4 connections |
//! |---|---|---|---|
//! | PostgreSQL 15, psqlodbc 13.02 | **arrays and `unnest`** | 39,000 | 77,500 |
//! | | array of rows (the driver sends one statement for each) | 14,200 | 32,800 |
//! | | row by row | 9,400 | 22,700 |
//! | MariaDB 10.11, Connector/ODBC 3.1.15 | **array of rows** | 25,300 | 64,800 |
//! | | row by row | 5,900 | 20,600 |
//! | SQLite 3, sqliteodbc 0.9998 | **row by row** | 38,600 | |
//! | | array of rows | 26,800 | |
//!
//! Looking for existing ids once per statement, and not for each row by `ON CONFLICT`, took PostgreSQL's own CPU time from
//! 7.5 to 6.5 µs per row (100,000 rows, median of three).
//!
//! From Kafka into PostgreSQL, 1,000,000 records of 200 bytes in 8 partitions, batches of 1,000, 4 connections
//! (`cargo bench --bench odbc -- whole 1000000 2`, on an idle machine): 179,800 and 199,900 records/s, 4.3 times what
//! confluent-kafka and pyodbc with `fast_executemany` made of the same topic in the same run.
//!
//! On an idle machine the forms in bold made 60,000 and 105,000 (PostgreSQL), 56,000 and 100,000 (MariaDB) and 67,000
//! (SQLite). SQL Server's own side was never measured; Microsoft's driver sends an array as one message of executions of
//! a statement that is prepared once per connection, so a batch is four round trips. On this side it costs 2.9 µs of CPU time
//! per row at 1,000 rows per transaction (4.8 at 100, 2.5 at 5,000); row by row through FreeTDS 15 to 16
//! (`cargo bench --bench odbc -- sqlserver 80000 1`, against the tests' TDS double in a process of its own).

use std::borrow::Cow;
use std::fmt::Write as _;
use std::time::Duration;

use odbc_api::DataType;

use crate::sink::dialect::{Dialect, ERROR, FILLED, MYSQL, POSTGRES, SQL_SERVER, SQLITE, STANDARD};
use crate::sink::odbc::connection_string::value_of;
use crate::sink::odbc::sqlstate::System;
use crate::sink::position::{self, PositionSql};
use crate::sink::script::{Messages, Statement, script, statement};

/// PostgreSQL's way of leaving a single row as it is that is there already.
const LEAVE_EXISTING: &str = " ON CONFLICT (\"id\") DO NOTHING";
/// A value that is longer goes to PostgreSQL in parts of so many bytes…
const PART_BYTES: usize = 4 << 20;
/// …and at most so many of them: `concat` takes 100.
const PARTS_MAX: usize = 64;

/// Makes what tells, after PostgreSQL refused a statement of many rows, which row that was: a sequence, since where one
/// stands survives the statement and the savepoint that is gone back to. The rows leave their offset there on their way
/// into the table, and the last was refused. (PostgreSQL itself answers nothing before that, and names a row only for
/// some constraints, by its values.) It takes the right to make temporary tables, which everybody has unless it was
/// taken away, and is gone with the transaction.
pub const CREATE_TRAIL: &str = "CREATE TEMPORARY TABLE konekt_trail (place BIGSERIAL) ON COMMIT DROP";
/// A row's offset, left on the way. A sequence counts from 1, offsets from 0.
const ON_THE_WAY: &str = "setval('pg_temp.konekt_trail_place_seq', u.at + 1) - 1";
/// The offset of the last row that came by.
pub const READ_TRAIL: &str = "SELECT last_value - 1 FROM pg_temp.konekt_trail_place_seq";

/// Keeps the number of the row that was refused, which MariaDB has with the error since its version 10.7. It takes back
/// the whole array.
pub const KEEP_ROW_NUMBER: &str = "GET DIAGNOSTICS CONDITION 1 @konekt_row = ROW_NUMBER";
/// The number that was kept, from 1.
pub const READ_ROW_NUMBER: &str = "SELECT @konekt_row";

/// Who we are, for those who look at PostgreSQL's sessions, and for [`END_FROZEN`]; unless the user has said it.
const SAY_WHO: &str = "SELECT set_config('application_name', \
     COALESCE(NULLIF(current_setting('application_name'), ''), 'konekt'), false)";
/// Ends sessions of PostgreSQL whose process was frozen while it sent a statement, and answers how many. Their locks stay:
/// the server waits for the rest of the statement, in which no time-out counts but version 17's `transaction_timeout`. Only
/// sessions of the same user and program, of which nothing was heard for longer than a statement may take.
pub const END_FROZEN: &str = "SELECT count(*) FROM (SELECT pg_terminate_backend(pid) AS ended FROM pg_stat_activity \
     WHERE datname = current_database() AND usename = session_user \
     AND application_name = current_setting('application_name') AND state = 'active' AND wait_event = 'ClientRead' \
     AND state_change < clock_timestamp() - current_setting('statement_timeout')::interval) AS frozen WHERE ended";
/// A lock was not given in time.
pub const LOCK_NOT_AVAILABLE: &str = "55P03";

/// See the module.
pub struct Plan {
    pub system: System,
    pub spelling: Dialect,
    /// How long text is declared that is bound as UTF-16; `None` where text is bound as UTF-8. Only as UTF-16 does SQL
    /// Server take it as it is, whatever its collation.
    pub wide: Option<DataType>,
    /// Whether text may hold a NUL.
    pub stores_nul: bool,
    /// The most rows of one statement.
    pub rows_max: usize,
    /// Whether these rows are bound as arrays; otherwise the statement is executed for each.
    pub arrays: bool,
    /// The message table, quoted.
    pub table: String,
    /// The name of its index.
    pub index: String,
    /// The position table, quoted, in the same schema.
    pub position_table: String,
    /// One row, or an array of them.
    pub insert: String,
    /// One row that is a dead letter.
    pub insert_failed: String,
    /// A row per element of the arrays, PostgreSQL's.
    pub unnest: Option<String>,
    /// The same, leaving a trail: see [`CREATE_TRAIL`].
    pub unnest_with_trail: Option<String>,
    /// Which ids of a range are there.
    pub existing: String,
    pub positions: PositionSql,
}

impl Plan {
    /// The plan for a database, a table that may be qualified (`schema.table`), and a driver.
    pub fn new(system: System, table: &str, driver: &str) -> Self {
        let spelling = spelling(system);
        let arrays = system == System::MySql || system == System::SqlServer && is_microsofts(driver);
        let index = format!("{}_topic_partition_offset", table.rsplit('.').next().unwrap_or(table));
        let mut parts: Vec<String> = table.split('.').map(|part| spelling.quoted(part)).collect();
        let table = parts.join(".");
        parts.pop();
        parts.push(spelling.quoted(position::TABLE));
        let position_table = parts.join(".");
        let columns = spelling.list(FILLED);
        let id = spelling.quoted("id");
        let values = ["?"; FILLED.len()].join(", ");
        let ending = if system == System::Postgres { LEAVE_EXISTING } else { "" };
        let unnest = (system == System::Postgres).then(|| {
            format!(
                "INSERT INTO {table} ({columns}) SELECT ?::text, ?::int, ?::text, ?::timestamptz, u.id, u.at, u.key, \
                 u.value, u.headers, COALESCE(u.status, 'SUCCESS') FROM unnest(?::text[], ?::bigint[], ?::text[], \
                 ?::text[], ?::text[], ?::text[]) AS u(id, at, key, value, headers, status) \
                 WHERE u.id NOT IN (SELECT {id} FROM {table} WHERE {id} BETWEEN ? AND ?)"
            )
        });
        Self {
            system,
            wide: (system == System::SqlServer).then(|| long_text(driver)),
            stores_nul: system == System::MySql || system == System::SqlServer && !is_freetds(driver),
            // Row by row, the time of a statement is that of many; fewer of them stay within its time-out.
            rows_max: match system {
                System::Postgres | System::MySql => 2000,
                System::SqlServer if arrays => 1000,
                System::Sqlite => 1000,
                System::SqlServer | System::MongoDb | System::Any => 200,
            },
            arrays,
            insert_failed: format!(
                "INSERT INTO {table} ({columns}, {}) VALUES ({values}, ?){ending}",
                spelling.quoted(ERROR)
            ),
            insert: format!("INSERT INTO {table} ({columns}) VALUES ({values}){ending}"),
            unnest_with_trail: unnest.as_ref().map(|unnest| unnest.replacen("u.at", ON_THE_WAY, 1)),
            unnest,
            existing: format!("SELECT {id} FROM {table} WHERE {id} BETWEEN ? AND ?"),
            positions: PositionSql::of(&spelling, &position_table),
            spelling,
            table,
            index,
            position_table,
        }
    }

    /// The parts in which a long value is sent. psqlodbc puts each parameter together in a buffer before it copies it to
    /// another: a document that comes in parts costs one copy less.
    pub fn parts_of<'a>(&self, value: &'a str) -> Vec<&'a str> {
        let part_bytes = match self.system {
            System::Postgres => PART_BYTES.max(value.len().div_ceil(PARTS_MAX)),
            _ => usize::MAX,
        };
        let (mut parts, mut rest) = (Vec::new(), value);
        while rest.len() > part_bytes {
            let (part, later) = rest.split_at(rest.floor_char_boundary(part_bytes));
            parts.push(part);
            rest = later;
        }
        parts.push(rest);
        parts
    }

    /// [`insert`](Self::insert) of a value that comes in so many parts.
    pub fn insert_of_parts(&self, parts: usize) -> Cow<'_, str> {
        if parts <= 1 {
            return Cow::Borrowed(&self.insert);
        }
        let value = format!("concat({})", vec!["?::text"; parts].join(", "));
        let values = FILLED.map(|name| if name == "message_value" { &*value } else { "?" }).join(", ");
        let (table, columns) = (&self.table, self.spelling.list(FILLED));
        Cow::Owned(format!("INSERT INTO {table} ({columns}) VALUES ({values}){LEAVE_EXISTING}"))
    }

    /// All statements, for people.
    pub fn script(&self) -> Vec<Statement> {
        let messages = Messages {
            dialect: &self.spelling,
            table: &self.table,
            index: &self.index,
            insert: self.unnest.as_ref().unwrap_or(&self.insert),
            insert_failed: Some(&self.insert_failed),
            // The databases whose insertion leaves out by itself what is there say so in the statement.
            existing: (self.system != System::Postgres).then_some(self.existing.as_str()),
            search: self.search(),
        };
        script(messages, &self.positions)
    }

    fn search(&self) -> Vec<Statement> {
        let mut search = Vec::new();
        if let Some(insert) = &self.unnest_with_trail {
            search.extend([
                statement(
                    "a batch with a bad record is written again; first: what will tell which it is",
                    CREATE_TRAIL,
                ),
                statement("such a batch: its rows", insert),
            ]);
        }
        search.extend([
            statement("such a batch: before every few thousand of its rows", self.savepoint()),
            statement("such a batch: rows that were refused", self.back_to_savepoint()),
        ]);
        match self.system {
            System::Postgres => search.extend([
                statement("which of them was", READ_TRAIL),
                statement("a lock was not given in time: what a frozen process holds is ended", END_FROZEN),
            ]),
            System::MySql => {
                search.push(statement("before that: which of them was, if MariaDB knows", KEEP_ROW_NUMBER))
            }
            _ => {}
        }
        search
    }

    /// A statement that answers no row and has all columns of a table.
    pub fn probe(table: &str) -> String {
        format!("SELECT * FROM {table} WHERE 1 = 0")
    }

    /// Sets a savepoint.
    pub fn savepoint(&self) -> &'static str {
        if self.system == System::SqlServer { "SAVE TRANSACTION konekt" } else { "SAVEPOINT konekt" }
    }

    /// Undoes what was done since the savepoint, which stays.
    pub fn back_to_savepoint(&self) -> &'static str {
        match self.system {
            System::SqlServer => "ROLLBACK TRANSACTION konekt",
            _ => "ROLLBACK TO SAVEPOINT konekt",
        }
    }
}

fn spelling(system: System) -> Dialect {
    match system {
        System::SqlServer => SQL_SERVER,
        System::Postgres => POSTGRES,
        System::MySql => MYSQL,
        System::Sqlite => SQLITE,
        System::MongoDb | System::Any => STANDARD,
    }
}

/// The database behind a driver, by what it calls itself (`SQL_DBMS_NAME`).
pub fn system_called(dbms: &str) -> System {
    let dbms = dbms.to_ascii_lowercase();
    let known = [
        ("postgres", System::Postgres),
        ("mysql", System::MySql),
        ("mariadb", System::MySql),
        ("sql server", System::SqlServer),
        ("sqlite", System::Sqlite),
    ];
    known.iter().find(|(name, _)| dbms.contains(name)).map_or(System::Any, |(_, system)| *system)
}

/// The database behind a driver, by the driver's file.
pub fn system_of_driver(driver: &str) -> System {
    let known = [
        ("psqlodbc", System::Postgres),
        ("maodbc", System::MySql),
        ("myodbc", System::MySql),
        ("msodbcsql", System::SqlServer),
        ("tdsodbc", System::SqlServer),
        ("sqlite", System::Sqlite),
    ];
    known.iter().find(|(name, _)| driver.contains(name)).map_or(System::Any, |(_, system)| *system)
}

fn is_freetds(driver: &str) -> bool {
    driver.contains("tdsodbc") || driver.contains("freetds")
}

/// How text of any length is declared to SQL Server: as NVARCHAR(MAX). Microsoft's drivers say so when no length is given,
/// and would send the old `ntext` for SQL_WLONGVARCHAR; FreeTDS sends NVARCHAR(MAX) for that, and without a length cuts
/// text after its first character.
fn long_text(driver: &str) -> DataType {
    if is_freetds(driver) { DataType::WLongVarchar { length: None } } else { DataType::WVarchar { length: None } }
}

/// FreeTDS hides the errors of an array's rows, so only Microsoft's drivers, and on Windows any, get arrays.
fn is_microsofts(driver: &str) -> bool {
    cfg!(windows) || driver.contains("msodbcsql") || driver.contains("for sql server")
}

/// The connection string with what Konekt needs of a driver, where the user says nothing about it.
pub fn with_driver_settings(connection_string: &str, driver: &str, connect: Duration, query: Duration) -> String {
    let mut text = connection_string.trim_end().trim_end_matches(';').to_owned();
    let mut add = |key: &str, value: String| {
        if value_of(connection_string, key).is_none() {
            // A String takes whatever is written to it.
            let _ = write!(text, ";{key}={value}");
        }
    };
    if driver.contains("psqlodbc") {
        // After an error the driver does nothing: no savepoint around each statement, as 7.4-2 has, and no rollback of the
        // transaction, as 7.4-1 has, which would take Konekt's own savepoints with it.
        add("Protocol", "7.4-0".to_owned());
    }
    if driver.contains("maodbc") {
        add("CONN_TIMEOUT", connect.as_secs().max(1).to_string());
        add("READ_TIMEOUT", query.as_secs().max(1).to_string());
        add("WRITE_TIMEOUT", query.as_secs().max(1).to_string());
    }
    // MariaDB's driver reads on behind the end of a last value that has no semicolon.
    text.push(';');
    text
}

/// A statement of a new session.
pub struct SessionStatement {
    pub sql: String,
    /// Without it Konekt does not work; the others are for servers that know them.
    pub required: bool,
}

/// What sets up a session: UTC, and the server's own time-outs. A lock is waited for half as long as a statement may
/// take, and an open transaction of a frozen process ends by itself where the server can do that (see [`END_FROZEN`]).
pub fn session_statements(system: System, query_timeout: Duration) -> Vec<SessionStatement> {
    let (ms, seconds) = (query_timeout.as_millis(), query_timeout.as_secs().max(1));
    let (lock_ms, lock_seconds) = (ms / 2, (seconds / 2).max(1));
    let required = |sql: String| SessionStatement { sql, required: true };
    let optional = |sql: String| SessionStatement { sql, required: false };
    match system {
        System::Postgres => vec![
            required("SET TIME ZONE 'UTC'".to_owned()),
            required(format!("SET statement_timeout = {ms}")),
            required(format!("SET lock_timeout = {lock_ms}")),
            optional(format!("SET idle_in_transaction_session_timeout = {ms}")),
            optional(SAY_WHO.to_owned()),
        ],
        System::MySql => vec![
            required("SET time_zone = '+00:00'".to_owned()),
            // A value that does not fit is an error, not cut.
            required("SET sql_mode = CONCAT(@@sql_mode, ',STRICT_ALL_TABLES')".to_owned()),
            // No locks on the gaps between rows, in which others insert.
            required("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED".to_owned()),
            required(format!("SET innodb_lock_wait_timeout = {lock_seconds}")),
            optional(format!("SET max_statement_time = {seconds}")),
            optional(format!("SET idle_write_transaction_timeout = {seconds}")),
        ],
        System::SqlServer => vec![required(format!("SET LOCK_TIMEOUT {lock_ms}"))],
        System::Sqlite => vec![
            optional(format!("PRAGMA busy_timeout = {lock_ms}")),
            optional("PRAGMA journal_mode = WAL".to_owned()),
            optional("PRAGMA synchronous = NORMAL".to_owned()),
        ],
        System::MongoDb | System::Any => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MICROSOFT: &str = "odbc driver 18 for sql server /opt/libmsodbcsql-18.6.so.2.1";
    const FREETDS: &str = "freetds /usr/lib/odbc/libtdsodbc.so";

    #[test]
    fn each_database_has_its_form() {
        for (system, driver, arrays, wide, stores_nul) in [
            (System::SqlServer, MICROSOFT, true, true, true),
            (System::SqlServer, FREETDS, cfg!(windows), true, false),
            (System::Postgres, "", false, false, false),
            (System::MySql, "", true, false, true),
            (System::Sqlite, "", false, false, false),
            (System::Any, "", false, false, false),
        ] {
            let plan = Plan::new(system, "t", driver);
            let found = (plan.arrays, plan.wide.is_some(), plan.stores_nul);
            assert_eq!(found, (arrays, wide, stores_nul), "{system} {driver}");
            assert_eq!(plan.insert.matches('?').count(), FILLED.len(), "{}", plan.insert);
            assert_eq!(plan.unnest.is_some(), system == System::Postgres);
            assert!(plan.unnest_with_trail.is_none_or(|insert| insert.contains(", u.id, setval(")));
        }
    }

    #[test]
    fn a_long_value_goes_to_postgres_in_parts() {
        let plan = Plan::new(System::Postgres, "t", "");
        for (value, parts) in [("short".to_owned(), 1), ("ä€".repeat(PART_BYTES / 2), 3)] {
            let found = plan.parts_of(&value);
            assert!(found.concat() == value && found.len() == parts, "{} parts", found.len());
            let sql = plan.insert_of_parts(parts);
            assert_eq!(sql.matches('?').count(), FILLED.len() - 1 + parts, "{sql}");
            assert_eq!(Plan::new(System::MySql, "t", "").parts_of(&value).len(), 1);
        }
    }

    #[test]
    fn a_qualified_table_is_quoted_part_by_part_and_positions_lie_beside_it() {
        let plan = Plan::new(System::SqlServer, "shop.dbo.my]table", MICROSOFT);
        assert_eq!(plan.table, "[shop].[dbo].[my]]table]");
        assert_eq!(plan.position_table, "[shop].[dbo].[konekt_positions]");
        assert!(plan.positions.read.contains(&plan.position_table), "{}", plan.positions.read);
        assert_eq!(Plan::new(System::MySql, "t", "").position_table, "`konekt_positions`");
    }

    #[test]
    fn a_database_is_known_by_its_name_and_by_its_driver() {
        for (dbms, driver, system) in [
            ("Microsoft SQL Server", MICROSOFT, System::SqlServer),
            ("Microsoft SQL Server", FREETDS, System::SqlServer),
            ("PostgreSQL", "x /usr/lib/odbc/psqlodbcw.so", System::Postgres),
            ("MariaDB", "/usr/lib/odbc/libmaodbc.so", System::MySql),
            ("MySQL", "/opt/libmyodbc8w.so", System::MySql),
            ("SQLite", "sqlite3 libsqlite3odbc.so", System::Sqlite),
            ("Oracle", "/opt/libsqora.so", System::Any),
        ] {
            assert_eq!((system_called(dbms), system_of_driver(driver)), (system, system), "{dbms} {driver}");
        }
    }

    #[test]
    fn a_driver_gets_what_konekt_needs_unless_the_user_says_otherwise() {
        let seconds = Duration::from_secs;
        for (given, driver, expected) in [
            ("Driver=p;UID=a", "psqlodbcw.so", "Driver=p;UID=a;Protocol=7.4-0;"),
            ("Driver=p;protocol=7.4-2;", "psqlodbcw.so", "Driver=p;protocol=7.4-2;"),
            ("Driver=m", "libmaodbc.so", "Driver=m;CONN_TIMEOUT=3;READ_TIMEOUT=9;WRITE_TIMEOUT=9;"),
            ("DSN=x;PWD={;}", "", "DSN=x;PWD={;};"),
        ] {
            assert_eq!(with_driver_settings(given, driver, seconds(3), seconds(9)), expected);
        }
    }
}
