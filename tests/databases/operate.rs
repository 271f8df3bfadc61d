//! What needs a person, end to end: the real binary between the embedded broker and real databases. Bad records and their
//! letters, positions that are moved, and every reason for which a partition stands still while the others go on.

use std::time::Duration;

use konekt::broker::{Broker, BrokerOptions, TopicSpec};
use konekt::kafka::wire::builder::RecordBatchBuilder;
use konekt::kafka::wire::compression::Codec;

use crate::subject::checked;
use crate::support::databases::{Database, Server, USER};
use crate::support::konekt::{Finished, Konekt, Place, Running};
use crate::support::wait;
use crate::with_every_server;

with_every_server! {
    letters_in_a_file_are_replayed_into_the_database_exactly_once,
    failed_rows_are_tried_again_where_they_are,
    a_dry_run_tells_and_keeps_nothing,
    positions_are_shown_and_moved,
    a_bad_record_without_a_place_opens_its_circuit_alone,
    a_schema_fault_pauses_and_passes,
    a_lost_right_pauses_and_passes,
    a_persons_pause_outlives_the_process,
    a_position_that_does_not_fit_the_log_is_guarded,
}

const PARTITIONS: i32 = 2;
/// Records per partition, and which of them are bad.
const RECORDS: i64 = 200;
const BAD: [i64; 3] = [0, 100, 199];
const ALL: u64 = RECORDS as u64 * PARTITIONS as u64;
const ALL_BAD: u64 = BAD.len() as u64 * PARTITIONS as u64;
const SOON: Duration = Duration::from_secs(60);
/// The table refuses bad records…
const REFUSED: &str = "message_value NOT LIKE 'bad%'";
/// …or takes them as dead letters.
const REFUSED_UNLESS_FAILED: &str = "message_value NOT LIKE 'bad%' OR processing_status = 'FAILED'";

/// A broker with orders in it, and a database of its own.
struct Scene<'a> {
    broker: Broker,
    database: Database<'a>,
    place: Place,
}

impl<'a> Scene<'a> {
    /// With a message table that has this CHECK, if any.
    fn new(server: &'a Server, check: &str) -> Self {
        let database = server.database();
        if !check.is_empty() {
            database.run(&checked(server, check));
        }
        Self { broker: broker(), database, place: Place::new() }
    }

    fn konekt(&self, arguments: &[&str]) -> Konekt {
        let konekt = self.place.konekt(arguments).arguments(&["--bootstrap-servers", &self.broker.address()]);
        konekt.variable("ODBC_CONNECTION_STRING", &self.database.connection_string())
    }

    fn sink(&self, arguments: &[&str]) -> Konekt {
        self.konekt(&["sink", "odbc", "--topics", "orders", "--group-id", "g"]).arguments(arguments)
    }

    fn to_the_end(&self) -> Finished {
        self.sink(&["--until-end"]).run().expect_code(0)
    }

    fn dlq(&self, arguments: &[&str]) -> Finished {
        self.konekt(&[&["dlq"], arguments].concat()).run()
    }

    fn positions(&self, arguments: &[&str]) -> Finished {
        self.konekt(&[&["positions"], arguments].concat()).arguments(&["--group-id", "g"]).run()
    }

    /// Rows of the message table for which this holds.
    fn count(&self, condition: &str) -> u64 {
        let from = format!("processed_messages WHERE {condition}");
        self.database.select(&["COUNT(*)"], &from)[0][0].as_u64().expect("a count")
    }

    /// The same as long as the table may not be there.
    fn count_so_far(&self, condition: &str) -> u64 {
        let sql = format!("SELECT COUNT(*) FROM processed_messages WHERE {condition}");
        let answer = self.database.session().try_run(&sql).unwrap_or_default();
        answer.first().and_then(|count| count.parse().ok()).unwrap_or(0)
    }

    fn of_partition(&self, partition: i32) -> String {
        format!("{} = {partition}", self.database.server().kind().quoted("partition"))
    }

    fn next(&self, partition: i32) -> i64 {
        let from = format!("konekt_positions WHERE topic = 'orders' AND {}", self.of_partition(partition));
        self.database.select(&["next_offset"], &from)[0][0].as_i64().expect("an offset")
    }

    /// Takes the CHECK away.
    fn mend(&self) {
        self.database.run("ALTER TABLE processed_messages DROP CONSTRAINT refuse");
    }
}

fn broker() -> Broker {
    let topics = vec![TopicSpec::new("orders", PARTITIONS)];
    let broker = Broker::start(BrokerOptions { topics, ..BrokerOptions::default() }).expect("a broker");
    (0..PARTITIONS).for_each(|partition| append(&broker, partition, RECORDS));
    broker
}

fn append(broker: &Broker, partition: i32, count: i64) {
    let mut batch = RecordBatchBuilder::default();
    for number in 0..count {
        let word = if BAD.contains(&number) { "bad" } else { "good" };
        batch.append(Some(b"k"), Some(format!("{word} {number}").as_bytes()), &[], 1_700_000_000_000 + number);
    }
    broker.append("orders", partition, batch.finish(Codec::None).expect("a batch"));
}

fn expect_said(run: &Running, part: &str) {
    wait::until(part, SOON, || run.stderr().contains(part).then_some(()));
}

fn letters_in_a_file_are_replayed_into_the_database_exactly_once(server: &'static Server) {
    let scene = Scene::new(server, REFUSED);
    let said = format!("dead-lettered     {ALL_BAD}");
    scene.sink(&["--until-end", "--dead-letter-file", "letters"]).run().expect_code(0).expect_stderr(&said);
    assert_eq!(scene.count("1 = 1"), ALL - ALL_BAD);

    let file = ["--dead-letter-file", "letters"];
    let listed = scene.dlq(&[&["ls", "--partition", "1"], &file[..]].concat()).expect_code(0);
    assert_eq!(listed.stdout.lines().count(), BAD.len(), "{}", listed.stdout);
    let shown = scene.dlq(&[&["show", "--offset", "100"], &file[..]].concat()).expect_code(0);
    assert!(shown.stdout.contains("konekt.dlq.sqlstate"), "{}", shown.stdout);

    let replay = [&["replay"], &file[..]].concat();
    scene.dlq(&replay).expect_code(1).expect_stderr(&format!("{ALL_BAD} refused"));
    scene.mend();
    scene.dlq(&[&replay[..], &["--dry-run"]].concat()).expect_code(0);
    assert_eq!(scene.count("1 = 1"), ALL - ALL_BAD);
    scene.dlq(&[&replay[..], &["--partition", "0"]].concat()).expect_code(0).expect_stderr("3 replayed, 0 done before");
    scene.dlq(&replay).expect_code(0).expect_stderr("3 replayed, 3 done before");
    scene.dlq(&replay).expect_code(0).expect_stderr("0 replayed, 6 done before");
    assert_eq!(scene.count("processing_status = 'SUCCESS' AND consumer_group = 'g'"), ALL);
}

fn failed_rows_are_tried_again_where_they_are(server: &'static Server) {
    let scene = Scene::new(server, REFUSED_UNLESS_FAILED);
    scene.sink(&["--until-end", "--dead-letter-table"]).run().expect_code(0);
    assert_eq!((scene.count("processing_status = 'FAILED'"), scene.count("1 = 1")), (ALL_BAD, ALL));
    let listed = scene.dlq(&["ls", "--reason", "refuse"]).expect_code(0);
    assert_eq!(listed.stdout.lines().count() as u64, ALL_BAD, "{}", listed.stdout);
    assert_eq!(scene.dlq(&["ls", "--until", "2000-01-01"]).expect_code(0).stdout, "");
    let shown = scene.dlq(&["show", "--topic", "orders", "--partition", "1", "--offset", "100"]).expect_code(0);
    assert!(shown.stdout.contains(r#""message_value":"bad 100""#), "{}", shown.stdout);
    let counted = scene.dlq(&["stats", "--format", "json"]).expect_code(0);
    assert!(counted.stdout.contains(r#""letters":6"#), "{}", counted.stdout);

    scene.dlq(&["replay"]).expect_code(1).expect_stderr("6 refused");
    scene.mend();
    scene.dlq(&["replay", "--dry-run"]).expect_code(0);
    assert_eq!(scene.count("processing_status = 'FAILED'"), ALL_BAD);
    scene.dlq(&["replay", "--partition", "1"]).expect_code(0).expect_stderr("3 replayed, 0 done before, 0 refused");
    scene.dlq(&["replay"]).expect_code(0).expect_stderr("3 replayed, 0 done before, 0 refused");
    assert_eq!(scene.count("processing_status = 'SUCCESS' AND error_message IS NULL"), ALL);
}

fn a_dry_run_tells_and_keeps_nothing(server: &'static Server) {
    let scene = Scene::new(server, REFUSED);
    let tell = |arguments: &[&str], code: i32, parts: &[&str]| {
        let told = scene.sink(&[&["--dry-run"], arguments].concat()).run().expect_code(code).stdout;
        parts.iter().for_each(|part| assert!(told.contains(part), "{part:?} is missing:\n{told}"));
    };
    let written = format!("{} would be written", ALL - ALL_BAD);
    tell(&["--dead-letter-table"], 0, &[&written, "6 would be kept as FAILED rows", "konekt_positions", "rollback"]);
    assert_eq!(scene.count("1 = 1"), 0);
    assert!(scene.database.session().try_run("SELECT COUNT(*) FROM konekt_positions").is_err(), "it is not made");
    tell(&["--max-messages", "50"], 1, &["offset 0: odbc: cannot write", "✗ a run would pause in front of each of"]);
    scene.mend();
    scene.to_the_end();
    let none = ["0 tried", "nothing: all is there"];
    tell(&[], 0, &none);
    assert_eq!((scene.count("1 = 1"), scene.next(0), scene.next(1)), (ALL, RECORDS, RECORDS));
}

fn positions_are_shown_and_moved(server: &'static Server) {
    let scene = Scene::new(server, "");
    scene.to_the_end();
    assert_eq!(scene.positions(&["show"]).expect_code(0).stdout.lines().count(), 1 + PARTITIONS as usize);
    scene.positions(&["rewind", "--to", "10"]).expect_code(2).expect_stderr("--yes");
    scene.positions(&["rewind", "--to", "10", "--yes", "--topic", "orders", "--partition", "1"]).expect_code(0);
    assert_eq!((scene.next(0), scene.next(1)), (RECORDS, 10));
    scene.positions(&["rewind", "--to", "2023-11-14T22:13:20.100Z", "--yes"]).expect_code(0);
    assert_eq!((scene.next(0), scene.next(1)), (100, 10), "100 ms after the first record stands record 100");
    scene.to_the_end().expect_stderr("already there   290");
    assert_eq!((scene.next(0), scene.next(1), scene.count("1 = 1")), (RECORDS, RECORDS, ALL));
    scene.positions(&["rewind", "--to", "start", "--yes"]).expect_code(0);
    scene.positions(&["forward", "--to", "end", "--yes"]).expect_code(0);
    assert_eq!((scene.next(0), scene.next(1)), (RECORDS, RECORDS));
    scene.positions(&["forget", "--yes"]).expect_code(0);
    scene.positions(&["show"]).expect_code(1).expect_stderr("keeps no such position");
}

fn a_bad_record_without_a_place_opens_its_circuit_alone(server: &'static Server) {
    // Only the first partition has one.
    let column = server.kind().quoted("partition");
    let scene = Scene::new(server, &format!("message_value <> 'bad 100' OR {column} = 1"));
    let run = scene.sink(&["--auto-offset-reset", "earliest"]).start();
    expect_said(&run, "orders/0 at offset 100");
    expect_said(&run, "pauses (errors)");
    wait::until("the other one is written", SOON, || {
        (scene.count_so_far(&scene.of_partition(1)) == RECORDS as u64).then_some(())
    });
    assert!(scene.count(&scene.of_partition(0)) <= 100, "nothing passes the bad record");
    run.stop("TERM", SOON).expect_code(0);
    scene.mend();
    scene.to_the_end();
    assert_eq!(scene.count("1 = 1"), ALL);
}

fn a_schema_fault_pauses_and_passes(server: &'static Server) {
    let scene = Scene::new(server, "");
    let run = scene.sink(&[]).start();
    wait::until("all is written", SOON, || (scene.count_so_far("1 = 1") == ALL).then_some(()));
    scene.database.run("ALTER TABLE processed_messages RENAME TO away");
    append(&scene.broker, 0, 5);
    expect_said(&run, "pauses (schema)");
    scene.database.run("ALTER TABLE away RENAME TO processed_messages");
    wait::until("it goes on", SOON, || (scene.count_so_far("1 = 1") == ALL + 5).then_some(()));
    run.stop("TERM", SOON).expect_code(0);
}

fn a_lost_right_pauses_and_passes(server: &'static Server) {
    let scene = Scene::new(server, "");
    scene.to_the_end();
    let (name, clerk) = (scene.database.name(), format!("clerk_of_{}", scene.database.name()));
    let rights = |right: &str, preposition: &str| match server.name() {
        "postgres" => scene.database.run(&format!("{right} ON ALL TABLES IN SCHEMA public {preposition} {clerk}")),
        _ => ["processed_messages", "konekt_positions"]
            .iter()
            .for_each(|table| scene.database.run(&format!("{right} ON {name}.{table} {preposition} {clerk}"))),
    };
    match server.name() {
        "postgres" => scene.database.run(&format!("CREATE ROLE {clerk} LOGIN PASSWORD 'x'")),
        _ => scene.database.run(&format!("CREATE USER {clerk} IDENTIFIED BY 'x'")),
    }
    rights("GRANT SELECT, INSERT, UPDATE", "TO");
    let login = scene.database.connection_string().replace(&format!("Uid={USER}"), &format!("Uid={clerk}"));
    let login = format!("{};Pwd=x", login.split(";Pwd=").next().expect("a password"));
    let run = scene.sink(&[]).variable("ODBC_CONNECTION_STRING", &login).start();
    append(&scene.broker, 0, 5);
    wait::until("it writes", SOON, || (scene.count("1 = 1") == ALL + 5).then_some(()));
    rights("REVOKE INSERT", "FROM");
    append(&scene.broker, 0, 5);
    expect_said(&run, "pauses (auth)");
    rights("GRANT INSERT", "TO");
    wait::until("it goes on", SOON, || (scene.count("1 = 1") == ALL + 10).then_some(()));
    run.stop("TERM", SOON).expect_code(0).expect_stderr("grant");
}

fn a_persons_pause_outlives_the_process(server: &'static Server) {
    let scene = Scene::new(server, "");
    scene.to_the_end();
    let pause = |paused: u8| {
        scene.database.run(&format!("UPDATE konekt_positions SET paused = {paused} WHERE {}", scene.of_partition(0)));
    };
    pause(1);
    for round in 1..=2 {
        let run = scene.sink(&[]).start();
        (0..PARTITIONS).for_each(|partition| append(&scene.broker, partition, 5));
        let expected = RECORDS as u64 + 5 * round;
        wait::until("the other one is written", SOON, || {
            (scene.count(&scene.of_partition(1)) == expected).then_some(())
        });
        run.stop("TERM", SOON).expect_code(0);
        assert_eq!(scene.next(0), RECORDS, "it is paused");
    }
    assert!(scene.positions(&["show"]).expect_code(0).stdout.contains("paused"));
    pause(0);
    scene.to_the_end();
    assert_eq!(scene.count("1 = 1"), ALL + 20);
}

fn a_position_that_does_not_fit_the_log_is_guarded(server: &'static Server) {
    let mut scene = Scene::new(server, "");
    scene.to_the_end();
    let expect_guarded = |scene: &Scene<'_>, words: &str| {
        let run = scene.sink(&[]).start();
        expect_said(&run, "orders/0 stands still");
        run.stop("TERM", SOON).expect_code(1).expect_stderr(words);
        assert_eq!(scene.count("1 = 1"), ALL, "{words}");
    };

    append(&scene.broker, 0, 5);
    append(&scene.broker, 0, 5);
    scene.broker.delete_records_before("orders", 0, RECORDS + 5);
    expect_guarded(&scene, "5 records were removed by retention");
    scene.positions(&["rewind", "--partition", "0", "--to", "start", "--yes"]).expect_stderr("nothing to do");
    scene.positions(&["forward", "--partition", "0", "--to", "start", "--yes"]).expect_code(0);
    scene.positions(&["forward", "--partition", "0", "--to", "end", "--yes"]).expect_code(0);
    scene.to_the_end();

    scene.broker.truncate("orders", 0, RECORDS + 5);
    expect_guarded(&scene, "the log ends before the position");
    scene.positions(&["rewind", "--partition", "0", "--to", "end", "--yes"]).expect_code(0);
    scene.to_the_end();

    scene.broker.delete_topic("orders").expect("the topic");
    scene.broker.create_topic("orders", PARTITIONS).expect("another one");
    append(&scene.broker, 0, 5);
    expect_guarded(&scene, "was deleted and made anew");

    scene.broker = broker();
    expect_guarded(&scene, "belongs to cluster");
}
