//! The sink over a database of its own, with a wire between that can be cut; and the contract, run against it.

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use konekt::TopicPartition;
use konekt::port::Sink;
use konekt::sink::odbc::{OdbcMessages, OdbcOptions, OdbcSink};
use konekt::sink::operate::SqlTables;
use serde_json::Value;
use tempfile::TempDir;

use crate::contract::dry_run::{self, Rehearsed};
use crate::contract::records::GROUP;
use crate::contract::tables::{self, SqlSubject};
use crate::contract::{self, Standing, StoredPosition, StoredRow, Subject, bad_records};
use crate::support::databases::{Database, Server};
use crate::support::link::Link;
use crate::support::{odbc, or_skip};
use crate::with_every_server;

with_every_server!(keeps_the_contract, puts_bad_records_aside, keeps_nothing_of_a_dry_run, has_tables_for_people);

fn keeps_the_contract(server: &'static Server) {
    contract::check(|| Served::new(server, |_| {}));
}

fn puts_bad_records_aside(server: &'static Server) {
    bad_records::check(|check| {
        let served = Served::over(server, &checked(server, check), |_| {});
        served.database.count_statements();
        served
    });
}

fn keeps_nothing_of_a_dry_run(server: &'static Server) {
    dry_run::check(|check| match check {
        "" => Served::new(server, |_| {}),
        check => Served::over(server, &checked(server, check), |_| {}),
    });
}

fn has_tables_for_people(server: &'static Server) {
    tables::check(|check| Served::over(server, &checked(server, check), |_| {}));
}

/// The message table with a CHECK, which is called `refuse`.
pub fn checked(server: &Server, check: &str) -> String {
    table(server, "error_message TEXT)", &format!("error_message TEXT, CONSTRAINT refuse CHECK ({check}))"))
}

/// The database's own columns of DESIGN's table, with something else in the place of `what`.
pub fn table(server: &Server, what: &str, instead: &str) -> String {
    let (partition, offset) = (server.kind().quoted("partition"), server.kind().quoted("offset"));
    let time = if server.name() == "postgres" { "TIMESTAMPTZ" } else { "DATETIME(3)" };
    format!(
        "CREATE TABLE processed_messages (id VARCHAR(36) NOT NULL PRIMARY KEY, topic VARCHAR(255) NOT NULL, \
         {partition} INT NOT NULL, {offset} BIGINT NOT NULL, message_key TEXT, message_value TEXT NOT NULL, \
         message_headers TEXT, consumer_group VARCHAR(255) NOT NULL, processing_timestamp {time} NOT NULL, \
         processing_status VARCHAR(50) NOT NULL, error_message TEXT)"
    )
    .replace(what, instead)
}

#[test]
fn sqlite_by_odbc_keeps_the_contract() {
    let Some(driver) = or_skip(odbc::driver(odbc::SQLITE)) else { return };
    let driver = driver.display().to_string();
    contract::check(|| SqliteByOdbc::over(&driver, ""));
    bad_records::check(|check| SqliteByOdbc::over(&driver, check));
    dry_run::check(|check| SqliteByOdbc::over(&driver, check));
    tables::check(|check| SqliteByOdbc::over(&driver, check));
}

/// A sink over a new database of a server.
pub struct Served<'a> {
    pub database: Database<'a>,
    /// What the sink's connections go through.
    pub link: Link,
    pub sink: OdbcSink,
}

impl<'a> Served<'a> {
    /// The sink waits five seconds for anything, unless `change` says otherwise.
    pub fn new(server: &'a Server, change: impl Fn(&mut OdbcOptions)) -> Self {
        Self::over(server, "", change)
    }

    /// Runs `sql` on the database before the sink is made.
    pub fn over(server: &'a Server, sql: &str, change: impl Fn(&mut OdbcOptions)) -> Self {
        let (database, link) = (server.database(), Link::to(server.port()));
        sql.split(';').filter(|statement| !statement.trim().is_empty()).for_each(|statement| database.run(statement));
        let sink = sink(&database.connection_string_through(link.port()), change);
        Self { database, link, sink }
    }

    /// Rows of the message table.
    pub fn count(&self) -> u64 {
        self.database.select(&["COUNT(*)"], "processed_messages")[0][0].as_u64().expect("a count")
    }
}

/// A sink by this connection string.
pub fn sink(connection_string: &str, change: impl Fn(&mut OdbcOptions)) -> OdbcSink {
    let mut options = options(connection_string);
    change(&mut options);
    OdbcSink::new(options).expect("the driver is there")
}

fn options(connection_string: &str) -> OdbcOptions {
    let mut options = OdbcOptions::new(connection_string, GROUP, Arc::new(Standing));
    (options.connection_timeout, options.query_timeout) = (Duration::from_secs(5), Duration::from_secs(5));
    options
}

fn tables_of(connection_string: &str) -> SqlTables {
    SqlTables::new(Box::new(OdbcMessages::connect(options(connection_string)).expect("a connection")))
}

impl Rehearsed for Served<'_> {
    fn dry(&self) -> Box<dyn Sink> {
        let connection_string = self.database.connection_string_through(self.link.port());
        Box::new(sink(&connection_string, |options| options.dry_run = true))
    }

    fn has_tables(&self) -> bool {
        let is_there = |table| self.database.session().try_run(&format!("SELECT COUNT(*) FROM {table}")).is_ok();
        ["processed_messages", "konekt_positions"].into_iter().any(is_there)
    }
}

impl Subject for Served<'_> {
    fn sink(&self) -> &dyn Sink {
        &self.sink
    }

    fn rows(&self) -> Vec<StoredRow> {
        let kind = self.database.server().kind();
        let (partition, offset) = (kind.quoted("partition"), kind.quoted("offset"));
        let time = kind.utc_text("processing_timestamp");
        let expressions = [
            "id",
            "topic",
            &partition,
            &offset,
            "message_key",
            "message_value",
            "message_headers",
            "consumer_group",
            &time,
            "processing_status",
            "error_message",
        ];
        let rows =
            self.database.select(&expressions, &format!("processed_messages ORDER BY topic, {partition}, {offset}"));
        rows.into_iter().map(stored_row).collect()
    }

    fn position(&self, partition: &TopicPartition) -> Option<StoredPosition> {
        let kind = self.database.server().kind();
        let (column, TopicPartition { topic, partition }) = (kind.quoted("partition"), partition);
        let from = format!(
            "konekt_positions WHERE consumer_group = '{GROUP}' AND topic = '{topic}' AND {column} = {partition}"
        );
        self.database
            .select(&["next_offset", "epoch", "written", "dead_lettered", "skipped"], &from)
            .pop()
            .map(stored_position)
    }

    fn stores_nul(&self) -> bool {
        self.database.server().name() != "postgres"
    }

    fn statements(&self) -> Option<usize> {
        Some(self.database.statements())
    }
}

impl SqlSubject for Served<'_> {
    fn tables(&self) -> SqlTables {
        tables_of(&self.database.connection_string())
    }

    fn run(&self, sql: &str) {
        self.database.run(sql);
    }
}

fn stored_position(row: Vec<Value>) -> StoredPosition {
    let number = |index: usize| row[index].as_i64().expect("a number");
    let [next_offset, epoch, written, dead_lettered, skipped] = [0, 1, 2, 3, 4].map(number);
    StoredPosition { next_offset, epoch, written, dead_lettered, skipped }
}

fn stored_row(row: Vec<Value>) -> StoredRow {
    let optional = |index: usize| row[index].as_str().map(str::to_owned);
    let text = |index: usize| optional(index).unwrap_or_else(|| panic!("column {index} is no text: {row:?}"));
    StoredRow {
        id: text(0),
        topic: text(1),
        partition: row[2].as_i64().expect("a number") as i32,
        offset: row[3].as_i64().expect("a number"),
        key: optional(4),
        value: text(5),
        headers: optional(6),
        group: text(7),
        // MariaDB says microseconds.
        timestamp: text(8)[..23].to_owned(),
        status: text(9),
        error: optional(10),
    }
}

/// A sink over a SQLite file by SQLite's ODBC driver.
struct SqliteByOdbc {
    folder: TempDir,
    connection_string: String,
    sink: OdbcSink,
}

impl SqliteByOdbc {
    /// With a message table that has this CHECK, if any.
    fn over(driver: &str, check: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let connection_string = format!("Driver={driver};Database={}", folder.path().join("k.db").display());
        let made = Self { sink: sink(&connection_string, |_| {}), folder, connection_string };
        if !check.is_empty() {
            made.run(&format!(
                r#"CREATE TABLE processed_messages (id VARCHAR(36) PRIMARY KEY, topic TEXT, "partition" INTEGER, "offset"
                BIGINT, message_key TEXT, message_value TEXT, message_headers TEXT, consumer_group TEXT,
                processing_timestamp DATETIME, processing_status TEXT, error_message TEXT, CONSTRAINT refuse CHECK ({check}))"#
            ));
        }
        made
    }

    /// Asked in a process of its own: two copies of SQLite in one process take each other's locks away.
    fn select(&self, sql: &str) -> Vec<Vec<Value>> {
        const SCRIPT: &str = "import json, sqlite3, sys\n\
                              with sqlite3.connect(sys.argv[1]) as database:\n\
                              \x20 for row in database.execute(sys.argv[2]): print(json.dumps(row))";
        let file = self.folder.path().join("k.db");
        let output = Command::new("python3").args(["-c", SCRIPT]).arg(file).arg(sql).output().expect("python3");
        assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout)
            .expect("JSON")
            .lines()
            .map(|line| serde_json::from_str(line).expect(line))
            .collect()
    }
}

impl Rehearsed for SqliteByOdbc {
    fn dry(&self) -> Box<dyn Sink> {
        Box::new(sink(&self.connection_string, |options| options.dry_run = true))
    }

    fn has_tables(&self) -> bool {
        !self.select("SELECT name FROM sqlite_master").is_empty()
    }
}

impl Subject for SqliteByOdbc {
    fn sink(&self) -> &dyn Sink {
        &self.sink
    }

    fn rows(&self) -> Vec<StoredRow> {
        let sql = r#"SELECT id, topic, "partition", "offset", message_key, message_value, message_headers, consumer_group,
            processing_timestamp, processing_status, error_message
            FROM processed_messages ORDER BY topic, "partition", "offset""#;
        self.select(sql).into_iter().map(stored_row).collect()
    }

    fn position(&self, partition: &TopicPartition) -> Option<StoredPosition> {
        let TopicPartition { topic, partition } = partition;
        let sql = format!(
            r#"SELECT next_offset, epoch, written, dead_lettered, skipped FROM konekt_positions
            WHERE consumer_group = '{GROUP}' AND topic = '{topic}' AND "partition" = {partition}"#
        );
        self.select(&sql).pop().map(stored_position)
    }

    fn stores_nul(&self) -> bool {
        false
    }
}

impl SqlSubject for SqliteByOdbc {
    fn tables(&self) -> SqlTables {
        tables_of(&self.connection_string)
    }

    fn run(&self, sql: &str) {
        self.select(sql);
    }
}
