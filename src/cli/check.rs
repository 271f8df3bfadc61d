//! `konekt check`: brokers, topics, group, database and table are tried before a run. Nothing is written.
//!
//! `--json` prints one object: `ok`, and for `kafka`, `database` and `files` a list of `what` and `fault` (null when all is well).

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind};
use std::path::Path;

use serde::Serialize;

use super::exit::{self, Exit, Failure};
use super::page::Page;
use crate::config::{Resolved, Settings, SinkSettings};
use crate::core::finding::Finding;
use crate::ops::preflight::{self, Needs};
use crate::sink::sqlite;

#[derive(Serialize)]
struct Found {
    ok: bool,
    kafka: Vec<Finding>,
    database: Vec<Finding>,
    files: Vec<Finding>,
}

/// Looks, and tells.
pub fn run(resolved: &Resolved, settings: &Settings) -> Result<(), Failure> {
    // Asked before anything else, since it takes the shortest time to mend.
    let (database, database_exit) = database(settings);
    let (kafka, kafka_exit) = kafka(settings);
    let files = files(settings);
    let all = database.iter().chain(&kafka).chain(&files);
    let faults = all.filter(|finding| finding.fault.is_some()).count();
    let found = Found { ok: faults == 0, kafka, database, files };
    match resolved.switch("json") {
        true => exit::put_json(&found)?,
        false => exit::put(&page(&found))?,
    }
    match faults {
        0 => Ok(()),
        _ => {
            let exit = if kafka_exit == Exit::Unavailable { kafka_exit } else { database_exit };
            let exit = if exit == Exit::Done { Exit::Usage } else { exit };
            let count = if faults == 1 { "one thing is" } else { "some things are" };
            Err(Failure::new(exit, format!("{count} not as a run needs it; see the lines with ✗")))
        }
    }
}

/// What is found, and the exit code that a fault would have.
fn kafka(settings: &Settings) -> (Vec<Finding>, Exit) {
    let consumer = &settings.consumer;
    let cluster = match consumer.cluster() {
        Ok(cluster) => cluster,
        Err(error) => {
            let exit = if error.is_unavailable() { Exit::Unavailable } else { Exit::Usage };
            return (vec![preflight::unreachable(&consumer.bootstrap_servers, &error)], exit);
        }
    };
    let needs = Needs {
        topics: &consumer.topics,
        group_id: &consumer.group_id,
        isolation: consumer.isolation_level,
        dead_letter_topic: consumer.dead_letter_topic.as_deref(),
    };
    (preflight::kafka(&cluster, &needs), Exit::Usage)
}

fn database(settings: &Settings) -> (Vec<Finding>, Exit) {
    let consumer = &settings.consumer;
    match &settings.sink {
        SinkSettings::Sqlite { path, table } => {
            (sqlite::trial(&super::database::sqlite(path, table, &consumer.group_id, consumer.delivery)), Exit::Usage)
        }
        SinkSettings::Odbc(odbc) => match super::odbc::trial(odbc, consumer) {
            Ok(trial) => {
                let server = trial.server.as_deref().unwrap_or("the server does not say what it is");
                let login = Finding::good(format!("{server}; logged in within {} ms", trial.connect_us.div_ceil(1000)));
                (std::iter::once(login).chain(trial.steps).collect(), Exit::Usage)
            }
            Err(failure) => (vec![Finding::bad("log in", failure.message)], failure.exit),
        },
        _ => (Vec::new(), Exit::Done),
    }
}

/// The files that a run writes beside its database.
fn files(settings: &Settings) -> Vec<Finding> {
    let stats_json = settings.stats_json.as_deref().filter(|path| *path != "-").map(Path::new);
    let named = [
        ("dead_letter_file", settings.consumer.dead_letter_file.as_deref()),
        ("heartbeat_file", settings.heartbeat_file.as_deref()),
        ("stats_json", stats_json),
    ];
    let look = |(setting, path): (&str, &Path)| {
        let what = format!("{setting} {}", path.display());
        match writable(path) {
            Ok(()) => Finding::good(format!("{what} can be written")),
            Err(error) => Finding::bad(what, format!("{error}; {}", cure(&error))),
        }
    };
    named.into_iter().filter_map(|(setting, path)| Some(look((setting, path?)))).collect()
}

/// Whether a file can be opened or made. Nothing is made under its own name, which a run at work may be about to take.
fn writable(path: &Path) -> io::Result<()> {
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => Err(ErrorKind::IsADirectory.into()),
        Ok(found) if found.is_file() => OpenOptions::new().append(true).open(path).map(drop),
        Ok(_) => Ok(()), // to open a pipe would wait for its reader
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
            let probe = folder.join(format!(".konekt-check-{}", std::process::id()));
            OpenOptions::new().write(true).create_new(true).open(&probe)?;
            fs::remove_file(&probe)
        }
        Err(error) => Err(error),
    }
}

fn cure(error: &io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::NotFound => "make its directory",
        ErrorKind::IsADirectory => "name a file in it",
        _ => "name a file that this user may write",
    }
}

fn page(found: &Found) -> String {
    let mut page = Page::default();
    page.line("settings", "✓ all can be read and fit together");
    found.kafka.iter().for_each(|finding| page.finding("Kafka", finding));
    found.database.iter().for_each(|finding| page.finding("database", finding));
    if found.database.is_empty() {
        page.line("database", "· none is named: --db, --connection-string or --server");
    }
    found.files.iter().for_each(|finding| page.finding("files", finding));
    if found.ok {
        page.line("", "all is well; nothing was written");
    }
    page.finish()
}
