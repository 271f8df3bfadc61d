//! Everything that can fail between a sink and its server. Afterwards each record is there once, and the error had the
//! class that the engine acts by.

use std::thread;
use std::time::{Duration, Instant};

use konekt::core::verdict::ErrorClass;
use konekt::port::{Sink, SinkError, Writer, Written};

use crate::contract::records::{GROUP, Log, Sample};
use crate::contract::{expect_says, expect_written, owner, partition, settle};
use crate::subject::{Served, table};
use crate::support::databases::{self, Server, Session};
use crate::support::link::Cut;
use crate::support::{or_skip, wait};
use crate::with_every_server;

with_every_server! {
    a_connection_lost_before_the_rows_arrive_costs_nothing,
    a_connection_lost_before_commit_costs_nothing,
    a_connection_lost_after_commit_repeats_nothing,
    a_connection_lost_while_idle_is_replaced,
    a_connection_ended_by_an_operator_is_replaced,
    the_victim_of_a_deadlock_tries_again,
    a_lock_that_is_held_for_long_is_contention,
    a_server_that_does_not_answer_is_left_behind_and_counted,
    five_hundred_partitions_share_four_connections,
    a_connection_that_carried_a_huge_value_is_not_kept,
    a_record_that_does_not_fit_is_named,
    a_table_that_is_dropped_is_not_made_anew,
    a_table_that_does_not_fit_says_all_that_is_wrong,
}

/// Long enough for anything on a busy machine, short enough to see a hang.
const SOON: Duration = Duration::from_secs(60);

fn write(writer: &mut dyn Writer, log: &Log, epoch: i64) -> Result<Written, SinkError> {
    writer.write(&[log.write(epoch)]).remove(0).inspect_err(|error| println!("  answer: {}: {error}", error.class))
}

fn new(records: u64) -> Result<Written, SinkError> {
    Ok(Written { records, ..Written::default() })
}

fn a_connection_lost_before_the_rows_arrive_costs_nothing(server: &'static Server) {
    // As text or as a parameter: the value comes by as it is.
    cut_at(server, "value 75", Cut::Before, false);
}

fn a_connection_lost_before_commit_costs_nothing(server: &'static Server) {
    cut_at(server, "COMMIT", Cut::Before, false);
}

/// Nobody hears that the commit was carried out; only the position row tells.
fn a_connection_lost_after_commit_repeats_nothing(server: &'static Server) {
    cut_at(server, "COMMIT", Cut::After, true);
}

fn cut_at(server: &'static Server, message: &str, cut: Cut, is_committed: bool) {
    let served = Served::new(server, |_| {});
    let (mut writer, epoch) = owner(&served, 1);
    let (first, second) = (Log::plain(&partition(0), 0, 50), Log::plain(&partition(0), 50, 50));
    assert_eq!(write(&mut *writer, &first, epoch), new(50));
    served.link.cut_at(message, cut);
    let answer = write(&mut *writer, &second, epoch);
    assert!(served.link.was_cut(), "nobody said {message}");
    match &answer {
        Err(error) => assert_eq!(error.class, ErrorClass::Transient, "{error}"),
        Ok(written) => assert!(is_committed && written.records == 50, "{written:?}"),
    }
    let again = settle(&served, &mut writer, &second, epoch);
    let repeated = if is_committed { 50 } else { 0 };
    assert_eq!(again, Written { records: 50, repeated, dead_lettered: 0 });
    expect_written(&served, 0, 100);
}

fn a_connection_lost_while_idle_is_replaced(server: &'static Server) {
    let served = Served::new(server, |_| {});
    let (mut writer, epoch) = owner(&served, 1);
    served.link.cut();
    settle(&served, &mut writer, &Log::plain(&partition(0), 0, 10), epoch);
    expect_written(&served, 0, 10);
    assert!(served.sink.statistics().opened >= 2, "{:?}", served.sink.statistics());
}

fn a_connection_ended_by_an_operator_is_replaced(server: &'static Server) {
    let served = Served::new(server, |_| {});
    let (mut writer, epoch) = owner(&served, 1);
    served.database.disconnect_all();
    settle(&served, &mut writer, &Log::plain(&partition(0), 0, 10), epoch);
    expect_written(&served, 0, 10);
}

/// Another session holds the row that the sink wants second, and then wants the one that the sink has.
fn the_victim_of_a_deadlock_tries_again(server: &'static Server) {
    let served = Served::new(server, |options| options.query_timeout = Duration::from_secs(30));
    let (mut writer, epoch) = owner(&served, 2);
    let mut other = served.database.session();
    // What makes the sink the victim: in PostgreSQL the other one does not look for deadlocks, in MariaDB the sink has
    // done less.
    other.try_run("SET deadlock_timeout = '1h'").ok();
    served.database.run("CREATE TABLE ballast (n INT)");
    other.run("BEGIN");
    for _ in 0..50 {
        other.run("INSERT INTO ballast VALUES (1), (2), (3), (4), (5), (6), (7), (8), (9), (10)");
    }
    other.run(&lock_position(server, 1));
    let logs = [Log::plain(&partition(0), 0, 5), Log::plain(&partition(1), 0, 5)];
    let answers = thread::scope(|scope| {
        let wants_the_first = scope.spawn(|| {
            wait_until_someone_waits(&served);
            let outcome = other.try_run(&lock_position(server, 0));
            other.try_run("ROLLBACK").ok();
            outcome
        });
        let answers = writer.write(&logs.each_ref().map(|log| log.write(epoch)));
        wants_the_first.join().expect("the other session").expect("the other session is not the victim");
        answers
    });
    for (answer, log) in answers.iter().zip(&logs) {
        match answer {
            Err(error) => expect_says(error, ErrorClass::Contention, &["deadlock"]),
            Ok(_) => panic!("{} is no victim: {answers:?}", log.partition),
        }
        settle(&served, &mut writer, log, epoch);
    }
    expect_written(&served, 0, 5);
    expect_written(&served, 1, 5);
}

fn a_lock_that_is_held_for_long_is_contention(server: &'static Server) {
    let served = Served::new(server, |options| options.query_timeout = Duration::from_secs(2));
    let (mut writer, epoch) = owner(&served, 1);
    let mut other = served.database.session();
    other.run("BEGIN");
    other.run(&lock_position(server, 0));
    let log = Log::plain(&partition(0), 0, 5);
    let error = write(&mut *writer, &log, epoch).expect_err("the row is locked");
    expect_says(&error, ErrorClass::Contention, &["orders/0", "lock"]);
    other.run("ROLLBACK");
    settle(&served, &mut writer, &log, epoch);
    expect_written(&served, 0, 5);
}

fn lock_position(server: &Server, index: i32) -> String {
    let partition = server.kind().quoted("partition");
    format!(
        "UPDATE konekt_positions SET written = written WHERE consumer_group = '{GROUP}' AND topic = 'orders' \
         AND {partition} = {index}"
    )
}

/// Waits until a session stands before another one's lock.
fn wait_until_someone_waits(served: &Served<'_>) {
    let question = match served.database.server().name() {
        "postgres" => "SELECT COUNT(*) FROM pg_locks WHERE NOT granted",
        _ => "SELECT COUNT(*) FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'",
    };
    let mut session: Session = served.database.session();
    wait::until("the sink waits for a lock", SOON, || {
        // MariaDB answers what it answered before as long as it is asked ten times a second.
        if served.database.server().name() != "postgres" {
            session.run("DO SLEEP(0.2)");
        }
        (session.run(question) != ["0"]).then_some(())
    });
}

/// A dead network says nothing; neither does a driver that waits for it.
fn a_server_that_does_not_answer_is_left_behind_and_counted(server: &'static Server) {
    let served = Served::new(server, |options| {
        (options.query_timeout, options.connection_timeout) = (Duration::from_secs(1), Duration::from_secs(1));
    });
    let (mut writer, epoch) = owner(&served, 1);
    let log = Log::plain(&partition(0), 0, 5);
    served.link.freeze();
    let begun = Instant::now();
    let error = write(&mut *writer, &log, epoch).expect_err("nobody answers");
    assert_eq!(error.class, ErrorClass::Transient, "{error}");
    assert!(begun.elapsed() < Duration::from_secs(25), "the call came back after {:?}", begun.elapsed());
    println!("  after {:?}: {:?}", begun.elapsed(), served.sink.statistics());
    served.link.thaw();
    settle(&served, &mut writer, &log, epoch);
    expect_written(&served, 0, 5);
    served.link.cut();
    wait::until("what was left behind has ended", SOON, || (served.sink.statistics().abandoned == 0).then_some(()));
}

fn five_hundred_partitions_share_four_connections(server: &'static Server) {
    let served = Served::new(server, |options| {
        (options.pool_size, options.query_timeout) = (4, Duration::from_secs(60));
    });
    let (_writer, epoch) = owner(&served, 500);
    thread::scope(|scope| {
        for first in 0..10 {
            let served = &served;
            scope.spawn(move || {
                let mut writer = served.sink.writer().expect("a writer opens");
                for index in (first..500).step_by(10) {
                    let log = Log::plain(&partition(index), 0, 3);
                    assert_eq!(write(&mut *writer, &log, epoch), new(3));
                }
            });
        }
    });
    let statistics = served.sink.statistics();
    assert!(statistics.open <= 4 && statistics.waited_us > 0, "{statistics:?}");
    assert_eq!(served.count(), 1500);
}

/// Its driver would keep the memory that it took.
fn a_connection_that_carried_a_huge_value_is_not_kept(server: &'static Server) {
    let served = Served::new(server, |options| options.pool_size = 1);
    let (mut writer, epoch) = owner(&served, 1);
    let opened = |served: &Served<'_>| served.sink.statistics().opened;
    let (megabyte, many) = ("x".repeat(1_000_000), "y".repeat(20_000_000));
    for (offset, value, expected) in [(0, &megabyte, 1), (1, &many, 1), (2, &megabyte, 2), (3, &megabyte, 2)] {
        let sample = Sample { key: None, value: Some(value.as_bytes()), headers: &[] };
        let log = Log::of(&partition(0), offset, &[sample]);
        assert_eq!(write(&mut *writer, &log, epoch), new(1));
        assert_eq!(opened(&served), expected, "after offset {offset}");
    }
    expect_written(&served, 0, 4);
}

fn a_record_that_does_not_fit_is_named(server: &'static Server) {
    let short = table(server, "message_value TEXT", "message_value VARCHAR(10)");
    let served = Served::over(server, &short, |_| {});
    let (mut writer, epoch) = owner(&served, 2);
    let sample = |value: &'static str| Sample { value: Some(value.as_bytes()), ..Sample::default() };
    let bad = Log::of(&partition(0), 0, &[sample("fits"), sample("does not fit at all"), sample("fits")]);
    let good = Log::of(&partition(1), 0, &[sample("fits")]);
    let answers = writer.write(&[bad.write(epoch), good.write(epoch)]);
    let error = answers[0].as_ref().expect_err("it does not fit");
    expect_says(error, ErrorClass::Data, &["orders/0", "too long"]);
    assert_eq!(error.offset, Some(1), "{error}");
    assert_eq!(answers[1], new(1), "the other one is not to blame");
    expect_written(&served, 0, 0);
    expect_written(&served, 1, 1);
}

fn a_table_that_is_dropped_is_not_made_anew(server: &'static Server) {
    let served = Served::new(server, |_| {});
    let (mut writer, epoch) = owner(&served, 1);
    let log = Log::plain(&partition(0), 0, 5);
    served.database.run("ALTER TABLE processed_messages RENAME TO away");
    let error = write(&mut *writer, &log, epoch).expect_err("the table is gone");
    expect_says(&error, ErrorClass::Schema, &["processed_messages"]);
    assert!(writer.broken(), "the tables are looked at again");
    let error = served.sink.writer().err().expect("it is still gone");
    expect_says(&error, ErrorClass::Schema, &["processed_messages", "is gone", "put it back"]);
    served.database.run("ALTER TABLE away RENAME TO processed_messages");
    settle(&served, &mut writer, &log, epoch);
    expect_written(&served, 0, 5);
}

fn a_table_that_does_not_fit_says_all_that_is_wrong(server: &'static Server) {
    let offset = server.kind().quoted("offset");
    let cases: &[(String, &[&str])] = &[
        (
            "CREATE TABLE processed_messages (id VARCHAR(36) PRIMARY KEY, topic INT, message_value TEXT)".to_owned(),
            &["lacks the columns", "partition", "offset", "message_key", "processing_status", "topic (must be text)"],
        ),
        (table(server, "id VARCHAR(36)", "id VARCHAR(10)"), &["id (must be text of 36 characters or more)"]),
        (
            table(server, &format!("{offset} BIGINT"), &format!("{offset} INT")),
            &["offset (must be a whole number of 64"],
        ),
        (table(server, "error_message TEXT", "error_message TEXT, extra INT NOT NULL"), &["extra"]),
        (
            "CREATE TABLE konekt_positions (topic VARCHAR(255))".to_owned(),
            &["konekt_positions", "lacks", "next_offset"],
        ),
    ];
    for (sql, parts) in cases {
        let served = Served::over(server, sql, |_| {});
        let error = served.sink.writer().err().unwrap_or_else(|| panic!("{sql} must be refused"));
        expect_says(&error, ErrorClass::Schema, parts);
    }
}

#[test]
fn a_server_that_is_stopped_and_killed_costs_time_and_nothing_else() {
    for own in [databases::own_postgres, databases::own_mariadb] {
        let Some(server) = or_skip(own()) else { return };
        let served = Served::new(&server, |_| {});
        let (mut writer, epoch) = owner(&served, 1);
        thread::scope(|scope| {
            let restarts = scope.spawn(|| {
                for end in [Server::kill as fn(&Server), Server::stop, Server::kill] {
                    wait::pause(Duration::from_millis(500));
                    end(&server);
                    server.start_again().expect("it comes back");
                }
            });
            let mut next = 0;
            while !restarts.is_finished() {
                settle(&served, &mut writer, &Log::plain(&partition(0), next, 100), epoch);
                next += 100;
            }
            restarts.join().expect("the server comes back each time");
            expect_written(&served, 0, next);
            println!("{}: {next} rows, {:?}", server.name(), served.sink.statistics());
        });
    }
}
