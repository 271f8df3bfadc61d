//! SQLite: the contract, and everything that can be wrong with a file.

use std::cell::Cell;
use std::ffi::{c_char, c_int, c_uint, c_void};
use std::path::{Path, PathBuf};
use std::ptr::null_mut;
use std::sync::Arc;
use std::time::Duration;

use konekt::TopicPartition;
use konekt::core::verdict::ErrorClass;
use konekt::port::{Sink, SinkError, Write, Writer, Written};
use konekt::sink::operate::SqlTables;
use konekt::sink::sqlite::{DEFAULT_TABLE, SqliteMessages, SqliteOptions, SqliteReport, SqliteSink};
use rusqlite::auto_extension::register_auto_extension;
use rusqlite::{Connection, OptionalExtension, ffi};
use tempfile::TempDir;

use crate::contract::dry_run::{self, Rehearsed};
use crate::contract::records::{GROUP, Log, Sample, claim};
use crate::contract::tables::{self, SqlSubject};
use crate::contract::{self, Standing, StoredPosition, StoredRow, Subject, bad_records};

#[test]
fn keeps_the_contract() {
    contract::check(|| File::new(|_| {}));
}

#[test]
fn puts_bad_records_aside() {
    // SAFETY: `watch` opens and closes nothing, and is of the type that SQLite calls.
    unsafe { register_auto_extension(watch) }.expect("SQLite takes it");
    bad_records::check(|check| File::over(&checked(check), |_| {}));
}

thread_local! {
    /// How many statements this thread has begun since [`watch`] was registered. A writer of SQLite works where it is called.
    static STATEMENTS: Cell<usize> = const { Cell::new(0) };
}

/// SQLite calls this with every connection that is opened.
unsafe extern "C" fn watch(
    connection: *mut ffi::sqlite3,
    _: *mut *mut c_char,
    _: *const ffi::sqlite3_api_routines,
) -> c_int {
    unsafe extern "C" fn count(_: c_uint, _: *mut c_void, _: *mut c_void, _: *mut c_void) -> c_int {
        STATEMENTS.set(STATEMENTS.get() + 1);
        ffi::SQLITE_OK
    }
    // SAFETY: the connection is open, and `count` looks at none of what it is given.
    unsafe { ffi::sqlite3_trace_v2(connection, ffi::SQLITE_TRACE_STMT, Some(count), null_mut()) }
}

#[test]
fn has_tables_for_people() {
    tables::check(|check| File::over(&checked(check), |_| {}));
}

#[test]
fn keeps_nothing_of_a_dry_run() {
    dry_run::check(|check| match check {
        "" => File::new(|_| {}),
        check => File::over(&checked(check), |_| {}),
    });
}

#[test]
fn a_dry_run_leaves_an_absent_file_absent_and_says_where_none_could_be() {
    let file = File::new(|_| {});
    let path = file.path();
    assert_eq!(file.dry().absent(), [&*path.display().to_string(), DEFAULT_TABLE, "konekt_positions"]);
    let nowhere = SqliteSink::new(options(&path.join("none/k.db"), |options| options.dry_run = true));
    let error = nowhere.writer().err().expect("there is no such directory");
    assert_says(&error, ErrorClass::Auth, &["make the directory first"]);
    Connection::open(&path).unwrap().execute_batch("CREATE TABLE other (a)").unwrap();
    file.dry().writer().expect("the tables are tried").claim(&[claim(&orders(), Some(0))]).expect("a claim");
    let mode: String = file.look().query_row("PRAGMA journal_mode", [], |row| row.get(0)).unwrap();
    assert_eq!(mode, "delete", "the file's mode is left");
}

/// The message table with a CHECK.
fn checked(check: &str) -> String {
    format!("CREATE TABLE processed_messages ({COLUMNS}, CHECK ({check}))")
}

/// A constraint may be declared to end the whole transaction: then there is none in which to put anything aside, and the
/// engine is told which record it was.
#[test]
fn a_constraint_that_ends_the_transaction_leaves_it_to_the_engine() {
    let trigger = "CREATE TRIGGER t BEFORE INSERT ON processed_messages WHEN NEW.message_value = 'bad' \
                   BEGIN SELECT RAISE(ROLLBACK, 'out with all of it'); END";
    let file = File::over(&format!("{}; {trigger}", checked("true")), |_| {});
    let (mut writer, epoch, _) = file.owner(&orders());
    let log = bad_records::with_bad(&orders(), 5, &[3]);
    let write = Write { aside: Some(bad_records::aside(true, None)), ..log.write(epoch) };
    let error = writer.write(&[write]).remove(0).unwrap_err();
    assert_says(&error, ErrorClass::Data, &["out with all of it"]);
    assert_eq!((error.offset, file.count(), writer.broken()), (Some(3), 0, false));
    let first_three = bad_records::with_bad(&orders(), 3, &[]);
    assert_eq!(writer.write(&[first_three.write(epoch)]), [Ok(Written::all(3))]);
}

/// A sink over a file in a directory of its own.
struct File {
    directory: TempDir,
    sink: SqliteSink,
}

impl File {
    fn new(change: impl FnOnce(&mut SqliteOptions)) -> Self {
        Self::over("", change)
    }

    /// Runs `sql` on the file before the sink is made.
    fn over(sql: &str, change: impl FnOnce(&mut SqliteOptions)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("k.db");
        if !sql.is_empty() {
            Connection::open(&path).unwrap().execute_batch(sql).unwrap();
        }
        let sink = SqliteSink::new(options(&path, change));
        Self { directory, sink }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("k.db")
    }

    fn look(&self) -> Connection {
        Connection::open(self.path()).unwrap()
    }

    fn count(&self) -> i64 {
        self.look().query_row("SELECT count(*) FROM processed_messages", [], |row| row.get(0)).unwrap()
    }

    /// A writer that owns the partition, and its epoch and offset.
    fn owner(&self, partition: &TopicPartition) -> (Box<dyn Writer>, i64, i64) {
        let mut writer = self.sink.writer().expect("a writer opens");
        let claimed = writer.claim(&[claim(partition, Some(0))]).expect("the claim succeeds").remove(0);
        (writer, claimed.owner_epoch, claimed.next_offset.unwrap())
    }
}

fn options(path: &Path, change: impl FnOnce(&mut SqliteOptions)) -> SqliteOptions {
    let mut options = SqliteOptions::new(path, GROUP, Arc::new(Standing));
    options.busy_timeout = Duration::from_millis(20);
    change(&mut options);
    options
}

impl Rehearsed for File {
    fn dry(&self) -> Box<dyn Sink> {
        Box::new(SqliteSink::new(options(&self.path(), |options| options.dry_run = true)))
    }

    fn has_tables(&self) -> bool {
        self.path().exists()
    }
}

impl Subject for File {
    fn sink(&self) -> &dyn Sink {
        &self.sink
    }

    fn rows(&self) -> Vec<StoredRow> {
        let connection = self.look();
        let sql = r#"SELECT id, topic, "partition", "offset", message_key, message_value, message_headers, consumer_group,
            processing_timestamp, processing_status, error_message
            FROM processed_messages ORDER BY topic, "partition", "offset""#;
        let mut statement = connection.prepare(sql).unwrap();
        let rows = statement.query_map([], |row| {
            Ok(StoredRow {
                id: row.get(0)?,
                topic: row.get(1)?,
                partition: row.get(2)?,
                offset: row.get(3)?,
                key: row.get(4)?,
                value: row.get(5)?,
                headers: row.get(6)?,
                group: row.get(7)?,
                timestamp: row.get(8)?,
                status: row.get(9)?,
                error: row.get(10)?,
            })
        });
        rows.unwrap().collect::<Result<_, _>>().unwrap()
    }

    fn position(&self, partition: &TopicPartition) -> Option<StoredPosition> {
        let sql = r#"SELECT next_offset, epoch, written, dead_lettered, skipped FROM konekt_positions
            WHERE consumer_group = ? AND topic = ? AND "partition" = ?"#;
        let row = self.look().query_row(sql, (GROUP, &*partition.topic, partition.partition), |row| {
            Ok(StoredPosition {
                next_offset: row.get(0)?,
                epoch: row.get(1)?,
                written: row.get(2)?,
                dead_lettered: row.get(3)?,
                skipped: row.get(4)?,
            })
        });
        row.optional().unwrap()
    }

    fn statements(&self) -> Option<usize> {
        Some(STATEMENTS.get())
    }
}

impl SqlSubject for File {
    fn tables(&self) -> SqlTables {
        SqlTables::new(Box::new(SqliteMessages::open(&self.path(), DEFAULT_TABLE).unwrap()))
    }

    fn run(&self, sql: &str) {
        self.look().execute_batch(sql).unwrap();
    }
}

fn orders() -> TopicPartition {
    TopicPartition::new("orders", 0)
}

/// That an error has its class, and that its words contain all of `parts`.
fn assert_says(error: &SinkError, class: ErrorClass, parts: &[&str]) {
    assert_eq!(error.class, class, "{error}");
    for part in parts {
        assert!(error.message.contains(part), "{part:?} is missing: {error}");
    }
}

fn open_error(sink: &SqliteSink) -> SinkError {
    sink.writer().err().expect("opening must fail")
}

const COLUMNS: &str = r#"id VARCHAR(36) PRIMARY KEY, topic TEXT NOT NULL, "partition" INT NOT NULL, "offset" BIGINT NOT NULL,
    message_key TEXT, message_value TEXT NOT NULL, message_headers TEXT, consumer_group TEXT NOT NULL,
    processing_timestamp DATETIME NOT NULL, processing_status TEXT NOT NULL, error_message TEXT"#;

#[test]
fn paths_that_cannot_be_opened() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| SqliteSink::new(options(&directory.path().join(name), |_| {}));
    std::fs::write(directory.path().join("text"), "this is not a database, however long one looks at it".repeat(99))
        .unwrap();
    std::fs::create_dir(directory.path().join("folder")).unwrap();
    assert_says(&open_error(&at("text")), ErrorClass::Schema, &["text", "no SQLite database"]);
    assert_says(&open_error(&at("folder")), ErrorClass::Auth, &["this is a directory", "folder/konekt.db"]);
    assert_says(&open_error(&at("absent/k.db")), ErrorClass::Auth, &["does not exist", "mkdir -p"]);
    assert_says(&open_error(&at("text/k.db")), ErrorClass::Auth, &["does not exist"]);
    assert!(!directory.path().join("absent").exists());
}

#[test]
#[cfg(unix)]
fn a_link_to_the_file_is_as_good_as_the_file() {
    let file = File::new(|_| {});
    drop(file.sink.writer().unwrap());
    let link = file.directory.path().join("link.db");
    std::os::unix::fs::symlink(file.path(), &link).unwrap();
    let sink = SqliteSink::new(options(&link, |_| {}));
    let mut writer = sink.writer().unwrap();
    let log = Log::plain(&orders(), 0, 3);
    assert!(writer.write(&[log.write_without_position()])[0].is_ok());
    std::fs::remove_file(file.directory.path().join("k.db-wal")).unwrap();
    let answer = writer.write(&[log.write_without_position()]).remove(0);
    assert_says(&answer.unwrap_err(), ErrorClass::Schema, &["k.db-wal", "removed or replaced"]);
    // Closing wrote what it still had into the database.
    drop(writer);
    drop(sink.writer().unwrap());
    assert_eq!(file.count(), 3);
}

/// As processes of one group do that are started together.
#[test]
fn several_writers_may_begin_on_one_new_file_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("k.db");
    let run = |index: i32| {
        let patient = |options: &mut SqliteOptions| options.busy_timeout = Duration::from_secs(60);
        let mut writer = SqliteSink::new(options(&path, patient)).writer().expect("a writer opens");
        let partition = TopicPartition::new("orders", index);
        let epoch = writer.claim(&[claim(&partition, Some(0))]).unwrap()[0].owner_epoch;
        for first in (0..100).step_by(10) {
            let answer = writer.write(&[Log::plain(&partition, first, 10).write(epoch)]).remove(0);
            assert_eq!(answer, Ok(Written::all(10)));
        }
    };
    std::thread::scope(|scope| (0..4).for_each(|index| drop(scope.spawn(move || run(index)))));
    let report = SqliteReport::read(&path, "processed_messages", 0).unwrap();
    assert_eq!(report.rows, 400);
    assert!(report.positions.iter().all(|position| position.next_offset == 100), "{:?}", report.positions);
}

#[test]
fn a_table_with_these_and_more_nullable_columns_is_used_as_it_is() {
    let more = format!("CREATE TABLE processed_messages ({COLUMNS}, note TEXT, kind TEXT NOT NULL DEFAULT 'x')");
    let file = File::over(&more, |_| {});
    let (mut writer, epoch, _) = file.owner(&orders());
    assert_eq!(writer.write(&[Log::plain(&orders(), 0, 3).write(epoch)]), [Ok(Written::all(3))]);
    let kinds =
        file.look()
            .query_row("SELECT count(*) FROM processed_messages WHERE note IS NULL AND kind = 'x'", [], |r| r.get(0));
    assert_eq!(kinds, Ok(3));
    let indexes =
        file.look().query_row("SELECT count(*) FROM sqlite_master WHERE name LIKE '%_offset'", [], |r| r.get(0));
    assert_eq!(indexes, Ok(0), "an existing table gets no index");
}

#[test]
fn tables_that_do_not_fit_say_all_that_is_wrong() {
    let cases: &[(&str, &[&str])] = &[
        (
            "CREATE TABLE processed_messages (id TEXT PRIMARY KEY, topic TEXT, message_value TEXT)",
            &["lacks the columns", "partition", "offset", "message_key", "processing_status", "--table"],
        ),
        (
            "CREATE TABLE processed_messages (id TEXT PRIMARY KEY, extra INT NOT NULL)",
            &["lacks", "topic", "must be filled", "extra"],
        ),
        ("CREATE TABLE konekt_positions (topic TEXT)", &["konekt_positions", "lacks", "next_offset", "epoch"]),
        (&format!("CREATE TABLE processed_messages ({})", COLUMNS.replace("PRIMARY KEY", "")), &["ON CONFLICT"]),
    ];
    for (sql, parts) in cases {
        let file = File::over(sql, |_| {});
        assert_says(&open_error(&file.sink), ErrorClass::Schema, parts);
    }
}

#[test]
fn a_table_name_is_an_identifier_whatever_it_contains() {
    let name = r#"my "orders"; DROP TABLE konekt_positions; --"#;
    let file = File::new(|options| options.table = name.to_owned());
    let (mut writer, epoch, _) = file.owner(&orders());
    assert!(writer.write(&[Log::plain(&orders(), 0, 3).write(epoch)])[0].is_ok());
    let report = SqliteReport::read(&file.path(), name, 2).unwrap();
    assert_eq!((report.rows, report.first_rows.len(), report.positions[0].next_offset), (3, 2, 3));
}

#[test]
fn a_record_that_a_constraint_refuses_is_named_and_fails_alone() {
    let file = File::over(&checked("message_value <> 'bad'"), |_| {});
    let (mut writer, epoch, _) = file.owner(&orders());
    let other = TopicPartition::new("other", 0);
    writer.claim(&[claim(&other, Some(0))]).unwrap();
    let sample = |value: &'static str| Sample { value: Some(value.as_bytes()), ..Sample::default() };
    let bad = Log::of(&orders(), 0, &[sample("good"), sample("bad"), sample("good")]);
    let good = Log::plain(&other, 0, 5);
    let answers = writer.write(&[bad.write(epoch), good.write(1)]);
    let error = answers[0].as_ref().unwrap_err();
    assert_says(error, ErrorClass::Data, &["orders/0 offset 1", "CHECK"]);
    assert_eq!(error.offset, Some(1));
    assert_eq!(answers[1], Ok(Written::all(5)));
    assert_eq!((file.count(), file.position(&orders()).unwrap().next_offset), (5, 0));
}

#[test]
fn a_locked_database_is_contention_and_works_when_the_lock_is_gone() {
    let file = File::new(|_| {});
    let (mut writer, epoch, _) = file.owner(&orders());
    let log = Log::plain(&orders(), 0, 3);
    let other = file.look();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let answers = writer.write(&[log.write(epoch), Log::plain(&TopicPartition::new("x", 0), 0, 1).write(1)]);
    for answer in &answers {
        assert_says(answer.as_ref().unwrap_err(), ErrorClass::Contention, &["k.db", "lock"]);
    }
    assert_says(&writer.claim(&[claim(&orders(), None)]).unwrap_err(), ErrorClass::Contention, &["k.db"]);
    assert!(!writer.broken());
    other.execute_batch("ROLLBACK").unwrap();
    assert_eq!(writer.write(&[log.write(epoch)]), [Ok(Written::all(3))]);
}

#[test]
fn a_full_disk_is_overload_and_loses_nothing() {
    let file = File::new(|options| options.pragmas = vec![("max_page_count".to_owned(), 40)]);
    let (mut writer, epoch, mut next) = file.owner(&orders());
    let error = loop {
        let log = Log::plain(&orders(), next, 100);
        match writer.write(&[log.write(epoch)]).remove(0) {
            Ok(_) => next = log.end(),
            Err(error) => break error,
        }
        assert!(next < 100_000, "the database never fills up");
    };
    assert_says(&error, ErrorClass::Overload, &["k.db", "full", "free space"]);
    assert!(next > 0 && error.offset.is_none());
    assert_eq!((file.count(), file.position(&orders()).unwrap().next_offset), (next, next));
    // With room again, the same sink goes on where it stopped.
    let roomy = SqliteSink::new(options(&file.path(), |_| {}));
    let log = Log::plain(&orders(), next, 100);
    assert!(roomy.writer().unwrap().write(&[log.write(epoch)])[0].is_ok());
    assert_eq!(file.count(), next + 100);
}

#[test]
fn a_database_that_became_read_only_pauses_and_reopens() {
    let file = File::new(|options| options.pragmas = vec![("query_only".to_owned(), 1)]);
    drop(SqliteSink::new(options(&file.path(), |_| {})).writer().unwrap());
    let mut writer = file.sink.writer().expect("the tables are there already");
    let answer = writer.write(&[Log::plain(&orders(), 0, 1).write(1)]).remove(0);
    assert_says(&answer.unwrap_err(), ErrorClass::Auth, &["k.db", "writable"]);
    assert!(writer.broken());
}

#[test]
#[cfg(unix)]
fn a_write_protected_file_is_refused_when_it_is_opened() {
    use std::os::unix::fs::PermissionsExt;
    let file = File::new(|_| {});
    drop(file.sink.writer().unwrap());
    std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(0o444)).unwrap();
    if std::fs::OpenOptions::new().write(true).open(file.path()).is_ok() {
        return again_as_nobody("sqlite::a_write_protected_file_is_refused_when_it_is_opened");
    }
    assert_says(&open_error(&file.sink), ErrorClass::Auth, &["write-protected", "chmod u+w"]);
}

/// Permissions do not bind root, so root runs the test again as another user.
#[cfg(unix)]
fn again_as_nobody(test: &str) {
    use std::os::unix::process::CommandExt;
    const NOBODY: u32 = 65534;
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture"]).env("TMPDIR", "/tmp").uid(NOBODY).gid(NOBODY);
    match command.output() {
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stdout);
            assert!(
                output.status.success() && text.contains("1 passed"),
                "{text}{}",
                String::from_utf8_lossy(&output.stderr)
            );
        }
        Err(error) => eprintln!("skipped: root is bound by no permission, and cannot run this as nobody: {error}"),
    }
}

/// Copies the files as a killed process leaves them, without the -wal: rows and positions fall back together.
#[test]
fn a_lost_wal_between_runs_takes_rows_and_position_back_together() {
    let file = File::new(|_| {});
    let (mut writer, epoch, _) = file.owner(&orders());
    assert!(writer.write(&[Log::plain(&orders(), 0, 10).write(epoch)])[0].is_ok());
    file.look().execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    assert!(writer.write(&[Log::plain(&orders(), 10, 10).write(epoch)])[0].is_ok());
    let after = File::new(|_| {});
    std::fs::copy(file.path(), after.path()).unwrap();
    let (mut writer, epoch, next) = after.owner(&orders());
    assert_eq!((after.count(), next), (10, 10));
    assert!(writer.write(&[Log::plain(&orders(), 10, 10).write(epoch)])[0].is_ok());
    assert_eq!(after.count(), 20);
}

#[test]
#[cfg(unix)]
fn files_that_vanish_while_open_are_noticed_before_anything_is_written_to_them() {
    for lost in ["k.db", "k.db-wal"] {
        let file = File::new(|_| {});
        let (mut writer, epoch, _) = file.owner(&orders());
        let log = Log::plain(&orders(), 0, 3);
        let (path, away) = (file.directory.path().join(lost), file.directory.path().join("away"));
        std::fs::rename(&path, &away).unwrap();
        let answer = writer.write(&[log.write(epoch)]).remove(0);
        assert_says(&answer.unwrap_err(), ErrorClass::Schema, &[lost, "removed or replaced"]);
        assert!(writer.broken());
        if lost == "k.db" {
            assert_says(&open_error(&file.sink), ErrorClass::Schema, &["is gone", "put it back"]);
            assert!(!path.exists(), "no empty database takes its place");
        }
        std::fs::rename(&away, &path).unwrap();
        drop(writer);
        assert_eq!(file.sink.writer().unwrap().write(&[log.write(epoch)]), [Ok(Written::all(3))]);
    }
}

#[test]
fn at_least_once_makes_no_positions() {
    let file = File::new(|options| options.exactly_once = false);
    let mut writer = file.sink.writer().unwrap();
    assert!(!file.sink.traits().transactional);
    assert!(writer.write(&[Log::plain(&orders(), 0, 3).write_without_position()])[0].is_ok());
    let report = SqliteReport::read(&file.path(), "processed_messages", 10).unwrap();
    assert_eq!((report.rows, report.positions.len()), (3, 0));
    assert_eq!(report.by_status, [("SUCCESS".to_owned(), 3)]);
}
