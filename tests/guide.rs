//! The guide's first part, each command as it stands there, run in a shell one after the other; and the picture of the demo.
#![allow(clippy::disallowed_methods, reason = "tests stand outside the door")]

mod support;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use konekt::broker::{Broker, BrokerOptions};
use rusqlite::Connection;
use support::konekt::{Place, Running};
use support::wait;

/// Where the guide's Kafka is.
const WRITTEN_ADDRESS: &str = "localhost:9092";
/// What comes from here on is not run.
const END: &str = "## SQL Server";
/// A group settles, a lag goes to 0.
const SOON: Duration = Duration::from_secs(60);

/// The guide's shell commands, each block with the words behind its `sh`.
fn blocks() -> Vec<(String, String)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/guide.md");
    let text = fs::read_to_string(path).expect("there is a guide");
    let first = &text[..text.find(END).expect("the guide goes on with SQL Server")];
    let parts = first.split("```sh").skip(1).filter_map(|part| part.split("```").next()?.split_once('\n'));
    parts.map(|(words, block)| (words.trim().to_owned(), block.to_owned())).collect()
}

/// Somebody who follows the guide, in a folder of their own.
struct Stranger {
    place: Place,
    broker: Broker,
    terminals: Vec<Running>,
    /// All that was printed.
    said: String,
}

impl Stranger {
    fn new() -> Self {
        let broker = Broker::start(BrokerOptions::default()).expect("a broker");
        Self { place: Place::new(), broker, terminals: Vec::new(), said: String::new() }
    }

    fn follow(&mut self, words: &str, block: &str) {
        match words {
            "three terminals" => {
                let arguments: Vec<&str> = block.split_whitespace().skip(1).collect();
                self.terminals = (0..3).map(|_| self.place.konekt(&arguments).start()).collect();
            }
            // What takes a moment to come about is looked at until it has.
            "" if block.starts_with("konekt admin groups") => self.look_until(block, |said| {
                let shares = said.lines().skip(2).filter(|line| line.contains(" 2  payments:"));
                said.contains("3 members") && shares.count() == 3
            }),
            "" if block.starts_with("konekt admin lag") => {
                // The one that the guide stops by Ctrl-C.
                let stopped = self.terminals.pop().expect("a terminal");
                stopped.stop("INT", SOON).expect_code(0);
                self.look_until(block, |said| said.contains("2 members, lag 0"));
                let others = self.terminals.drain(..);
                others.for_each(|other| drop(other.stop("INT", SOON).expect_code(0)));
            }
            "" => {
                let output = self.run(block);
                self.said.push_str(&String::from_utf8_lossy(&output.stdout));
            }
            other => panic!("nobody knows how to follow a block in {other:?}"),
        }
    }

    fn look_until(&self, block: &str, comes: impl Fn(&str) -> bool) {
        wait::until(block, SOON, || comes(&String::from_utf8_lossy(&self.run(block).stdout)).then_some(()));
    }

    /// The steps of a block in a shell. What was built already is not built again, but installed as the guide says.
    fn run(&self, block: &str) -> Output {
        let home = self.place.file("home");
        let path = format!("{}:{}", home.join(".local/bin").display(), std::env::var("PATH").unwrap_or_default());
        let script = self.without_sqlite(block).replace(WRITTEN_ADDRESS, &self.broker.address());
        let script = script.replace("cargo build --release --locked\n", "");
        let script = script.replace("target/release/konekt", env!("CARGO_BIN_EXE_konekt"));
        let mut shell = Command::new("sh");
        shell.args(["-e", "-c", &script]).current_dir(self.place.file(".")).env_clear().env("PATH", path);
        // What the settings file does not say to the commands that have no use for it.
        shell.env("KAFKA_BOOTSTRAP_SERVERS", self.broker.address()).env("HOME", &home);
        let output = shell.output().expect("a shell");
        let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{}\n{script}\n{stdout}\n{stderr}", output.status);
        output
    }

    /// A stand-in for the sqlite3 command, which need not be installed.
    fn without_sqlite(&self, block: &str) -> String {
        let mut rest = String::new();
        for line in block.lines() {
            match line.strip_prefix("sqlite3 billing.db ") {
                Some(sql) => {
                    let sql = sql.trim_matches('"').replace("\\\"", "\"");
                    let done = self.database().execute_batch(&sql);
                    done.unwrap_or_else(|error| panic!("{sql}: {error}"));
                }
                None => rest.push_str(&format!("{line}\n")),
            }
        }
        rest
    }

    fn database(&self) -> Connection {
        Connection::open(self.place.file("billing.db")).expect("the database")
    }
}

#[test]
fn every_step_works_as_it_is_written() {
    let mut stranger = Stranger::new();
    let blocks = blocks();
    assert!(blocks.len() >= 12, "the guide's steps were found: {blocks:#?}");
    for (words, block) in &blocks {
        stranger.follow(words, block);
    }
    for words in [
        concat!("konekt ", env!("CARGO_PKG_VERSION")),
        "records read   2,000",
        "✗ topic payments: is not there",
        "✓ topic payments: 6 partitions",
        "all is well; nothing was written",
        "CREATE TABLE IF NOT EXISTS \"konekt_positions\"",
        "negative amount",
    ] {
        assert!(stranger.said.contains(words), "{words:?} is missing:\n{}", stranger.said);
    }

    let database = stranger.database();
    let count = |sql: &str| database.query_row(sql, [], |row| row.get::<_, i64>(0)).expect("a number");
    assert_eq!(count("SELECT count(*) FROM processed_messages WHERE processing_status = 'SUCCESS'"), 900);
    assert_eq!(count("SELECT count(*) FROM processed_messages"), 900);
    assert_eq!(count("SELECT count(DISTINCT message_value) FROM processed_messages"), 900);
}

/// What docs/operations.md says under "Backups".
#[test]
fn a_restored_database_goes_on_from_what_it_holds() {
    let stranger = Stranger::new();
    let sink = "konekt sink sqlite --db billing.db --topics payments --group-id billing --until-end\n";
    let produce = |range: &str| drop(stranger.run(&format!("seq {range} | konekt produce --topic payments\n{sink}")));
    let expect_all = |what: &str| {
        let sql = "SELECT count(*), count(DISTINCT message_value) FROM processed_messages";
        let counts = stranger.database().query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?)));
        assert_eq!(counts, Ok((200, 200)), "{what}");
    };
    stranger.run("install -D target/release/konekt \"$HOME/.local/bin/konekt\"\nkonekt admin topic create payments\n");
    produce("1 100");
    let snapshot = stranger.place.file("snapshot.db").display().to_string();
    stranger.database().execute("VACUUM INTO ?", [&snapshot]).expect("a snapshot");
    produce("101 200");
    expect_all("before");

    stranger.run(&format!("rm billing.db*\nmv snapshot.db billing.db\n{sink}"));
    expect_all("both tables were restored");
    stranger.database().execute("DELETE FROM processed_messages WHERE \"offset\" >= 50", []).expect("rows go");
    stranger.run(&format!("konekt positions rewind --db billing.db --group-id billing --to 0 --yes\n{sink}"));
    expect_all("the messages alone were restored");
    stranger.database().execute("DELETE FROM konekt_positions", []).expect("rows go");
    stranger.run(sink);
    expect_all("the positions were lost");
}

/// What docs/operations.md says under "Moving": another group begins where its offsets in Kafka say.
#[test]
fn a_group_that_takes_over_begins_where_it_was_told() {
    let stranger = Stranger::new();
    let sink =
        |group: &str| format!("konekt sink sqlite --db billing.db --topics payments --group-id {group} --until-end\n");
    stranger.run("install -D target/release/konekt \"$HOME/.local/bin/konekt\"\nkonekt admin topic create payments\n");
    stranger.run(&format!("seq 1 100 | konekt produce --topic payments\n{}", sink("billing")));
    stranger.run("konekt admin group reset-offsets --group accounts --topics payments --to latest --execute\n");
    stranger.run(&format!("seq 101 110 | konekt produce --topic payments\n{}", sink("accounts")));
    let sql = "SELECT consumer_group, count(*) FROM processed_messages GROUP BY 1 ORDER BY 1";
    let database = stranger.database();
    let mut counted = database.prepare(sql).expect("a statement");
    let rows = counted.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).expect("rows");
    let rows: Vec<(String, i64)> = rows.map(|row| row.expect("a row")).collect();
    assert_eq!(rows, [("accounts".to_owned(), 10), ("billing".to_owned(), 100)]);
}

// ---- the picture of the demo

/// Characters in a line of the picture.
const WIDTH: usize = 112;

fn cut(line: &str) -> String {
    match line.char_indices().nth(WIDTH - 1) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None => line.to_owned(),
    }
}

/// A terminal with these lines, as SVG.
fn picture(text: &str) -> String {
    let lines: Vec<String> = text.trim_end().lines().map(cut).collect();
    let escaped = |line: &String| line.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let (width, height) = (WIDTH as f64 * 7.83 + 32.0, lines.len() * 18 + 32);
    let rows = lines.iter().enumerate().map(|(nth, line)| {
        format!("<text x=\"16\" y=\"{}\" xml:space=\"preserve\">{}</text>\n", nth * 18 + 30, escaped(line))
    });
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height}\" font-family=\"monospace\" \
         font-size=\"13\" fill=\"#e6e6e6\">\n<rect width=\"100%\" height=\"100%\" rx=\"8\" fill=\"#1c2128\"/>\n{}</svg>\n",
        rows.collect::<String>()
    )
}

/// Without what differs from run to run.
fn without_numbers(text: &str) -> String {
    let mut kept = String::new();
    for character in text.chars() {
        match character {
            '0'..='9' if kept.ends_with('#') => {}
            '0'..='9' => kept.push('#'),
            ',' if kept.ends_with('#') => {}
            other => kept.push(other),
        }
    }
    kept
}

/// `KONEKT_BLESS=PATH_OF_A_RELEASE_BUILD cargo test --test guide` draws it anew.
#[test]
fn the_picture_shows_what_the_demo_prints() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/images/demo.svg");
    let blessed = std::env::var("KONEKT_BLESS").ok();
    let program = blessed.as_deref().filter(|program| Path::new(program).is_file());
    let place = Place::new();
    let demo =
        Command::new(program.unwrap_or(env!("CARGO_BIN_EXE_konekt"))).arg("demo").current_dir(place.file(".")).output();
    let output = demo.expect("the demo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let drawn = picture(&format!("$ konekt demo\n{}", String::from_utf8_lossy(&output.stdout)));
    if program.is_some() {
        fs::write(&path, &drawn).expect("the picture can be written");
    }
    let kept = fs::read_to_string(&path).expect("there is a picture");
    let lines = |text: &str| without_numbers(text.split_once("/>").map_or(text, |(_, rest)| rest));
    assert_eq!(lines(&kept), lines(&drawn), "draw it anew: see above");
}
