//! The whole pipeline as `docs/tour.md` tells it, with that page's own commands: files, MongoDB, Kafka, SQLite and PostgreSQL.

mod page;
mod sums;
#[path = "../support/mod.rs"]
mod support;

use mongodb::bson::{Document, doc};
use mongodb::sync::Collection;
use rusqlite::Connection;

use page::Page;
use support::audit::{Audit, Witness};
use support::databases::{self, Database};
use support::kafka::{self, RealKafka};
use support::konekt::{RUN_LIMIT, stop_all};
use support::mongo::{Mongo, Wanted};
use support::{or_skip, wait};

/// As the page says.
const PAGES: u64 = 5_000;
const DATABASE: &str = "wiki";
const TOPIC: &str = "wiki.pages";

const LOAD: &str = "konekt load";
const SOURCE: &str = "konekt source mongodb";
const SINKS: [&str; 2] = ["konekt sink sqlite", "konekt sink odbc"];

/// The servers on the way, and the page.
struct Way<'a> {
    page: Page,
    mongo: &'a Mongo,
    kafka: &'a RealKafka,
    postgres: &'a Database<'a>,
}

#[test]
fn every_page_arrives_whatever_is_killed_on_the_way() {
    // The oplog holds all pages, as everybody's does for hours.
    let wanted = Wanted { members: 3, secured: false, oplog_mb: 512 };
    let (Some(mongo), Some(kafka), Some(server)) =
        (or_skip(Mongo::start(wanted)), or_skip(kafka::newest()), or_skip(databases::postgres()))
    else {
        return;
    };
    let postgres = server.database();
    let page = Page::open(&[
        ("MONGODB_URI", &mongo.uri()),
        ("MONGODB_DATABASE", DATABASE),
        ("KAFKA_BOOTSTRAP_SERVERS", &kafka.address()),
        ("KAFKA_SESSION_TIMEOUT_MS", "3000"),
        ("KAFKA_HEARTBEAT_INTERVAL_MS", "750"),
        ("ODBC_CONNECTION_STRING", &postgres.connection_string()),
    ]);
    let way = Way { page, mongo: &mongo, kafka, postgres: &postgres };
    way.make_pages();
    way.load_half();
    let source = way.kill_and_start_again(SOURCE, || way.records() > 100);
    let sinks = [0, 1].map(|nth| way.kill_and_start_again(SINKS[nth], || way.rows()[nth] > 100));
    way.load_the_rest();
    let is_through = || way.rows().iter().all(|rows| *rows >= PAGES) && way.answers() == [PAGES; 2];
    wait::until("every page is in both databases", RUN_LIMIT, || is_through().then_some(()));
    source.stop("TERM", RUN_LIMIT).expect_code(0);
    let records = way.records();
    wait::until("each record is a row", RUN_LIMIT, || (way.rows() == [records; 2]).then_some(()));
    stop_all(sinks).into_iter().for_each(|finished| drop(finished.expect_code(0)));
    way.compare(records);
    way.page.expect_all_was_run();
}

impl Way<'_> {
    fn make_pages(&self) {
        self.page.command("konekt data generate").run().expect_code(0);
        self.page.command("konekt data validate").run().expect_code(0);
    }

    fn pages(&self) -> Collection<Document> {
        self.mongo.client().database(DATABASE).collection("pages")
    }

    fn loaded(&self) -> u64 {
        self.pages().count_documents(doc! {}).run().expect("a count")
    }

    /// Kills the loader half-way.
    fn load_half(&self) {
        let loader = self.page.command(LOAD).start();
        wait::until("some pages are loaded", RUN_LIMIT, || (self.loaded() > 0).then_some(()));
        loader.kill();
        let half = self.loaded();
        assert!(half < PAGES, "all was loaded before it was killed");
        println!("{half} pages were loaded before the loader was killed");
    }

    /// The same command goes on, through the end of the primary.
    fn load_the_rest(&self) {
        let half = self.loaded();
        let loader = self.page.command(LOAD).start();
        wait::until("it goes on", RUN_LIMIT, || (self.loaded() > half).then_some(()));
        let primary = self.mongo.primary();
        self.mongo.stop(primary);
        loader.wait().expect_code(0);
        self.mongo.start_again(primary);
        assert_eq!(self.loaded(), PAGES);
    }

    /// Starts a command, kills it once it is at work, and starts it again.
    fn kill_and_start_again(&self, begins: &str, at_work: impl Fn() -> bool) -> support::konekt::Running {
        let first = self.page.command(begins).start();
        wait::until(&format!("{begins} is at work"), RUN_LIMIT, || at_work().then_some(()));
        first.kill();
        self.page.command(begins).start()
    }

    /// How many records the topic has; 0 before it is there.
    fn records(&self) -> u64 {
        let address = self.kafka.address();
        let topics = self.page.place().konekt(&["admin", "topics", "--json", "--bootstrap-servers", &address]).run();
        let is_there = topics.stdout.contains(&format!("\"{TOPIC}\""));
        if is_there { self.kafka.ends(TOPIC).iter().sum::<i64>() as u64 } else { 0 }
    }

    /// How many rows both databases have.
    fn rows(&self) -> [u64; 2] {
        [Audit::rows_so_far(&self.page.place().file("pages.db"), TOPIC), self.postgres.written(TOPIC)]
    }

    fn sqlite(&self) -> Connection {
        Connection::open(self.page.place().file("pages.db")).expect("the database")
    }

    /// What both databases answer to the page's question.
    fn answers(&self) -> [u64; 2] {
        let question = self.page.question();
        let of_sqlite = self.sqlite().query_row(&question, [], |row| row.get::<_, i64>(0)).expect("a number");
        let of_postgres = self.postgres.session().run(&question);
        [of_sqlite as u64, of_postgres[0].parse().expect("a number")]
    }

    /// Every place holds the same pages, and each record of the topic is one row.
    fn compare(&self, records: u64) {
        let sample = self.page.place().konekt(&["data", "sample", "--records", "5000", "pages.jsonl.zst"]);
        let expected = sums::of_lines(&sample.run().expect_code(0).stdout);
        assert_eq!(expected.len() as u64, PAGES);
        assert!(sums::of_mongodb(&self.pages()) == expected, "MongoDB holds other pages");
        let sqlite = self.sqlite();
        assert!(sums::of_sqlite(&sqlite) == expected, "SQLite holds other pages");
        assert!(sums::of_postgres(self.postgres) == expected, "PostgreSQL holds other pages");
        let count = "SELECT count(*) FROM processed_messages";
        assert_eq!(sqlite.query_row(count, [], |row| row.get::<_, i64>(0)).expect("a number") as u64, records);
        assert_eq!(self.postgres.session().run(count), [records.to_string()]);
        let positions = self.page.command("konekt positions show").run().expect_code(0);
        assert!(positions.stdout.contains(TOPIC), "{}", positions.stdout);
        self.page.command("konekt messages stats").run().expect_code(0);
    }
}
