//! The databases that a group writes to, and the group's members.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::SESSION;
use crate::support::audit::{Audit, Witness};
use crate::support::databases::Database;
use crate::support::konekt::{Konekt, Place, Running};
use crate::support::link::{Cut, Link};
use crate::support::wait;

/// The memory budget of each process.
pub const MEMORY_MIB: u64 = 32;

/// A database to write to.
pub enum Target<'a> {
    Sqlite(PathBuf),
    /// By ODBC, through a wire that can be cut.
    Postgres(Database<'a>, &'a Link),
}

impl Target<'_> {
    /// The sink into it, with a network's usual time-outs cut short.
    pub fn sink(&self, place: &Place) -> Konekt {
        match self {
            Target::Sqlite(file) => place.konekt(&["sink", "sqlite", "--db", &file.display().to_string()]),
            Target::Postgres(database, wire) => place
                .konekt(&["sink", "odbc", "--connection-timeout", "5"])
                .variable("ODBC_QUERY_TIMEOUT", "3")
                .variable("ODBC_CONNECTION_STRING", &database.connection_string_through(wire.port())),
        }
    }

    /// Makes the tables, and the database refuse poison: a run over nothing makes the tables. It takes poison as a dead letter.
    pub fn refuse_poison(&self, place: &Place, kafka_address: &str, empty_topic: &str) {
        let run = member(self, place, kafka_address, empty_topic, "makes-tables");
        run.arguments(&["--until-end"]).run().expect_code(0);
        match self {
            Target::Sqlite(file) => {
                const TRIGGER: &str = "CREATE TRIGGER refuse BEFORE INSERT ON processed_messages \
                    WHEN NEW.message_value LIKE '%\"poison\":true%' AND NEW.processing_status <> 'FAILED' \
                    BEGIN SELECT RAISE(ABORT, 'poison'); END";
                let connection = rusqlite::Connection::open(file).expect("the database");
                connection.execute_batch(TRIGGER).expect("a trigger");
            }
            Target::Postgres(database, _) => database.run(
                "ALTER TABLE processed_messages ADD CONSTRAINT no_poison \
                 CHECK (processing_status = 'FAILED' OR message_value NOT LIKE '%\"poison\":true%')",
            ),
        }
    }

    /// Somebody who is not Konekt looks at what is in it.
    pub fn with_witness<T>(&self, look: impl FnOnce(&dyn Witness) -> T) -> T {
        match self {
            Target::Sqlite(file) => look(&Audit::open(file)),
            Target::Postgres(database, _) => look(database),
        }
    }

    /// Rows of a topic so far; 0 while the database is away or has no tables.
    pub fn written(&self, topic: &str) -> u64 {
        match self {
            Target::Sqlite(file) => Audit::rows_so_far(file, topic),
            Target::Postgres(database, _) => database.written(topic),
        }
    }

    /// Of the next statement that holds these words the database gets the beginning only, until it is thawed.
    pub fn hold_up(&self, words: &str) {
        self.wire().cut_at(words, Cut::Within);
    }

    /// Whether the database waits for the rest of a statement.
    pub fn is_held_up(&self) -> bool {
        self.wire().was_cut() && self.sessions("state = 'active' AND wait_event = 'ClientRead'") > 0
    }

    /// Lets through what was held up.
    pub fn thaw(&self) {
        if let Target::Postgres(_, wire) = self {
            wire.thaw();
        }
    }

    fn wire(&self) -> &Link {
        let Target::Postgres(_, wire) = self else { panic!("there is no wire to a file") };
        wire
    }

    /// Whether somebody is within a transaction that writes.
    pub fn is_being_written(&self) -> bool {
        match self {
            Target::Sqlite(file) => is_locked(file),
            Target::Postgres(..) => self.sessions("state <> 'idle'") > 0,
        }
    }

    /// Other people's sessions in the database, of which this is true.
    fn sessions(&self, which: &str) -> u64 {
        let Target::Postgres(database, _) = self else { return 0 };
        let question = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = '{}' AND pid <> pg_backend_pid() AND {which}",
            database.name()
        );
        database.session().run(&question)[0].parse().expect("a number")
    }
}

fn is_locked(file: &Path) -> bool {
    let connection = rusqlite::Connection::open(file).expect("the database");
    connection.busy_timeout(Duration::ZERO).expect("no patience");
    connection.execute_batch("BEGIN IMMEDIATE; ROLLBACK").is_err()
}

/// A member of the group of this name, with short sessions.
pub fn member(target: &Target<'_>, place: &Place, kafka_address: &str, topic: &str, group: &str) -> Konekt {
    let milliseconds = |duration: Duration| duration.as_millis().to_string();
    let from = ["--bootstrap-servers", kafka_address, "--topics", topic, "--group-id", group];
    target
        .sink(place)
        .arguments(&from)
        .arguments(&["--memory-limit", &format!("{MEMORY_MIB}MiB"), "--request-timeout-ms", "5000"])
        .variable("KAFKA_SESSION_TIMEOUT_MS", &milliseconds(SESSION))
        .variable("KAFKA_HEARTBEAT_INTERVAL_MS", &milliseconds(SESSION / 4))
}

/// Waits until so many rows of a topic are there, with every member alive.
pub fn expect_rows(target: &Target<'_>, topic: &str, rows: u64, members: &mut [Running], limit: Duration) {
    let all_there = wait::within(limit, || {
        for member in members.iter_mut() {
            assert!(member.poll().is_none(), "it has ended by itself:\n{}", member.stderr());
        }
        (target.written(topic) >= rows).then_some(())
    });
    let told = || members.iter().map(Running::stderr).collect::<Vec<_>>().join("\n\n");
    assert!(
        all_there.is_some(),
        "{rows} rows of {topic} are not written within {limit:?}; the members say:\n{}",
        told()
    );
}
