//! Konekt's sink against the double: the contract of every sink, and each way in which SQL Server refuses or falls silent.

use std::sync::Arc;
use std::time::{Duration, Instant};

use konekt::TopicPartition;
use konekt::core::verdict::ErrorClass;
use konekt::port::{Sink, Written};
use konekt::sink::odbc::{OdbcMessages, OdbcOptions, OdbcSink};
use konekt::sink::operate::SqlTables;

use crate::client::Client;
use crate::contract::dry_run::{self, Rehearsed};
use crate::contract::records::{GROUP, Log, Sample};
use crate::contract::tables::{self, SqlSubject};
use crate::contract::{
    self, Standing, StoredPosition, StoredRow, Subject, bad_records, expect_says, expect_written, owner, partition,
    settle,
};
use crate::tds::{Action, Call, Event, Fault, On, PASSWORD, Value};

/// A sink over a double of its own.
struct Doubled {
    client: Client,
    sink: OdbcSink,
}

impl Doubled {
    fn new(client: Client, change: impl FnOnce(&mut OdbcOptions)) -> Self {
        let sink = sink(&client.connection_string(), change);
        Self { client, sink }
    }

    /// With a message table that has this CHECK.
    fn over(client: Client, check: &str) -> Self {
        let doubled = Self::new(client, |_| {});
        doubled.run(&table("NVARCHAR(MAX) NOT NULL", &format!(", CHECK ({check})")));
        doubled
    }

    fn script(&self, on: On, within: &str, action: Action) {
        let fault = Fault::new(on, action);
        self.client.server.faults().push(if within.is_empty() { fault } else { fault.within(within) });
    }
}

fn sink(connection_string: &str, change: impl FnOnce(&mut OdbcOptions)) -> OdbcSink {
    let mut options = options(connection_string);
    change(&mut options);
    OdbcSink::new(options).expect("the driver is there")
}

fn options(connection_string: &str) -> OdbcOptions {
    let mut options = OdbcOptions::new(connection_string, GROUP, Arc::new(Standing));
    (options.connection_timeout, options.query_timeout) = (Duration::from_secs(5), Duration::from_secs(5));
    options
}

/// The message table, with this type of its values, and something behind its columns.
fn table(value: &str, more: &str) -> String {
    format!(
        "CREATE TABLE [processed_messages] ([id] VARCHAR(36) NOT NULL PRIMARY KEY, [topic] NVARCHAR(255) NOT NULL, \
         [partition] INT NOT NULL, [offset] BIGINT NOT NULL, [message_key] NVARCHAR(MAX), [message_value] {value}, \
         [message_headers] NVARCHAR(MAX), [consumer_group] NVARCHAR(255) NOT NULL, \
         [processing_timestamp] DATETIME2(3) NOT NULL, [processing_status] VARCHAR(50) NOT NULL, \
         [error_message] NVARCHAR(MAX){more})"
    )
}

impl Rehearsed for Doubled {
    fn dry(&self) -> Box<dyn Sink> {
        Box::new(sink(&self.client.connection_string(), |options| options.dry_run = true))
    }

    fn has_tables(&self) -> bool {
        let sql = "SELECT name FROM sqlite_master WHERE name IN ('processed_messages', 'konekt_positions')";
        !self.client.server.rows(sql).is_empty()
    }
}

impl Subject for Doubled {
    fn sink(&self) -> &dyn Sink {
        &self.sink
    }

    fn rows(&self) -> Vec<StoredRow> {
        let sql = r#"SELECT id, topic, "partition", "offset", message_key, message_value, message_headers, consumer_group,
            processing_timestamp, processing_status, error_message
            FROM processed_messages ORDER BY topic, "partition", "offset""#;
        self.client.server.rows(sql).iter().map(|row| stored_row(row)).collect()
    }

    fn position(&self, partition: &TopicPartition) -> Option<StoredPosition> {
        let TopicPartition { topic, partition } = partition;
        let sql = format!(
            r#"SELECT next_offset, epoch, written, dead_lettered, skipped FROM konekt_positions
            WHERE consumer_group = '{GROUP}' AND topic = '{topic}' AND "partition" = {partition}"#
        );
        let row = self.client.server.rows(&sql).pop()?;
        let number = |index: usize| row[index].as_int().expect("a number");
        let [next_offset, epoch, written, dead_lettered, skipped] = [0, 1, 2, 3, 4].map(number);
        Some(StoredPosition { next_offset, epoch, written, dead_lettered, skipped })
    }

    fn stores_nul(&self) -> bool {
        self.client.is_microsofts()
    }

    /// FreeTDS sends rows one by one, so they are most of what arrives.
    fn statements(&self) -> Option<usize> {
        let arrived = || self.client.server.log().into_iter().filter(|entry| is_statement(&entry.event)).count();
        self.client.is_microsofts().then(arrived)
    }
}

impl SqlSubject for Doubled {
    fn tables(&self) -> SqlTables {
        let options = options(&self.client.connection_string());
        SqlTables::new(Box::new(OdbcMessages::connect(options).expect("a connection")))
    }

    fn run(&self, sql: &str) {
        self.client.server.execute(sql);
    }
}

/// Whether it executes something: to prepare a statement is to say it before.
fn is_statement(event: &Event) -> bool {
    match event {
        Event::Batch(_) | Event::Transaction(_) => true,
        Event::Calls(calls) => calls.iter().any(|call| !matches!(call, Call::Prepare { .. } | Call::Unprepare { .. })),
        Event::Login { .. } | Event::Attention | Event::Ended(_) => false,
    }
}

fn stored_row(row: &[Value]) -> StoredRow {
    let text = |index: usize| row[index].as_text();
    let optional = |index: usize| (row[index] != Value::Null).then(|| text(index));
    let number = |index: usize| row[index].as_int().expect("a number");
    StoredRow {
        id: text(0),
        topic: text(1),
        partition: number(2) as i32,
        offset: number(3),
        key: optional(4),
        value: text(5),
        headers: optional(6),
        group: text(7),
        timestamp: text(8),
        status: text(9),
        error: optional(10),
    }
}

pub fn contract(client: &Client) {
    contract::check(|| Doubled::new(client.afresh(), |_| {}));
}

/// As a sink does that starts.
pub fn make_tables(client: &Client) {
    sink(&client.connection_string(), |_| {}).check().expect("the tables are made");
}

pub fn bad_records(client: &Client) {
    bad_records::check(|check| Doubled::over(client.afresh(), check));
}

pub fn dry_run(client: &Client) {
    dry_run::check(|check| match check {
        "" => Doubled::new(client.afresh(), |_| {}),
        check => Doubled::over(client.afresh(), check),
    });
}

pub fn tables(client: &Client) {
    tables::check(|check| Doubled::over(client.afresh(), check));
}

/// Errors that pass: nothing is written with them, everything without.
pub fn refusals(client: &Client) {
    let insert = "insert into [processed_messages]";
    let update = "update [konekt_positions]";
    let cases: &[(On, &str, i32, ErrorClass, &[&str])] = &[
        (On::Execute, insert, 1205, ErrorClass::Contention, &["deadlock"]),
        (On::Execute, update, 1205, ErrorClass::Contention, &["deadlock"]),
        (On::Commit, "", 1205, ErrorClass::Contention, &["deadlock"]),
        (On::Execute, update, 1222, ErrorClass::Contention, &["lock"]),
        (On::Execute, insert, 1222, ErrorClass::Contention, &["lock"]),
        (On::Execute, insert, 9002, ErrorClass::Overload, &["log", "full"]),
        (On::Execute, insert, 1105, ErrorClass::Overload, &["full"]),
        (On::Commit, "", 40501, ErrorClass::Overload, &["busy"]),
        (On::Execute, insert, 208, ErrorClass::Schema, &["processed_messages"]),
        (On::Execute, insert, 229, ErrorClass::Auth, &["permission"]),
    ];
    for (on, within, number, class, parts) in cases {
        println!("{number} on {on:?} of {within}");
        let doubled = Doubled::new(client.afresh(), |_| {});
        let (mut writer, epoch) = owner(&doubled, 1);
        let log = Log::plain(&partition(0), 0, 20);
        doubled.script(*on, within, Action::Error(*number));
        let error = writer.write(&[log.write(epoch)]).remove(0).expect_err("the server refuses");
        expect_says(&error, *class, parts);
        assert!(error.message.contains(&format!("native {number}")), "{error}");
        settle(&doubled, &mut writer, &log, epoch);
        expect_written(&doubled, 0, 20);
    }
}

/// Only the record that the table refuses is to blame, whichever row of the array it is.
pub fn bad_record(client: &Client) {
    let doubled = Doubled::new(client.afresh(), |_| {});
    doubled.run(&table("NVARCHAR(20) NOT NULL", ""));
    let (mut writer, epoch) = owner(&doubled, 2);
    let long = "x".repeat(21);
    for bad in [0, 7, 19] {
        let value = |index| if index == bad { long.as_bytes() } else { b"fits" };
        let samples: Vec<Sample<'_>> =
            (0..20).map(|index| Sample { key: None, value: Some(value(index)), headers: &[] }).collect();
        let bad_log = Log::of(&partition(0), 0, &samples);
        let error = writer.write(&[bad_log.write(epoch)]).remove(0).expect_err("a record does not fit");
        assert_eq!((error.class, error.offset), (ErrorClass::Data, Some(bad as i64)), "{error}");
    }
    let good = Log::plain(&partition(1), 0, 20);
    assert!(writer.write(&[good.write(epoch)])[0].is_ok());
    expect_written(&doubled, 0, 0);
    expect_written(&doubled, 1, 20);
}

pub fn lost_links(client: &Client) {
    let insert = "insert into [processed_messages]";
    let cases = [
        (On::Execute, insert, Action::Close, false),
        (On::Execute, insert, Action::CloseHalfWay, false),
        (On::Commit, "", Action::Close, false),
        (On::Commit, "", Action::CloseHalfWay, true),
        (On::Commit, "", Action::CloseAfter, true),
    ];
    for (on, within, action, is_committed) in cases {
        println!("{action:?} on {on:?}");
        let doubled = Doubled::new(client.afresh(), |_| {});
        let (mut writer, epoch) = owner(&doubled, 1);
        let log = Log::plain(&partition(0), 0, 20);
        doubled.script(on, within, action);
        match writer.write(&[log.write(epoch)]).remove(0) {
            Ok(written) => assert!(is_committed && written.records == 20, "{written:?}"),
            Err(error) => assert_eq!(error.class, ErrorClass::Transient, "{error}"),
        }
        assert_eq!(doubled.client.server.faults().waiting(), 0, "it was cut");
        let written = settle(&doubled, &mut writer, &log, epoch);
        assert_eq!(written, Written { records: 20, repeated: if is_committed { 20 } else { 0 }, dead_lettered: 0 });
        expect_written(&doubled, 0, 20);
    }
}

pub fn silence(client: &Client) {
    for on in [On::Execute, On::Commit] {
        let doubled = Doubled::new(client.afresh(), |options| options.query_timeout = Duration::from_secs(1));
        let (mut writer, epoch) = owner(&doubled, 1);
        let log = Log::plain(&partition(0), 0, 20);
        doubled.script(on, "", Action::Silence);
        let begun = Instant::now();
        let error = writer.write(&[log.write(epoch)]).remove(0).expect_err("nobody answers");
        println!("{on:?}: {:?}, {:?}: {error}", begun.elapsed(), doubled.sink.statistics());
        assert_eq!(error.class, ErrorClass::Transient, "{error}");
        assert!(begun.elapsed() < Duration::from_secs(20), "the call came back after {:?}", begun.elapsed());
        // Sooner or later the server notices that nobody is there, and gives the transaction's locks back.
        doubled.client.server.cut_connections();
        settle(&doubled, &mut writer, &log, epoch);
        expect_written(&doubled, 0, 20);
    }
}

pub fn logins(client: &Client) {
    let right = client.connection_string();
    for (from, to, parts) in [
        (PASSWORD, "hush", &["konekt", "login", "password"][..]),
        ("UID=konekt", "UID=somebody", &["somebody", "login"]),
        ("Database=konekt", "Database=elsewhere", &["elsewhere", "database"]),
    ] {
        let unusable = sink(&right.replace(from, to), |_| {}).check().expect_err("the login is refused");
        println!("{unusable}");
        assert!(!unusable.driver_missing && unusable.error.class.needs_person());
        expect_says(&unusable.error, unusable.error.class, parts);
        assert!(!unusable.error.message.contains("hush"), "{unusable}");
    }
}
