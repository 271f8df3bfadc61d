//! `konekt dlq ls|show|stats|replay`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::exit::{self, Exit, Failure};
use crate::config::field::Command;
use crate::config::{Resolved, Settings};
use crate::core::civil::{unix_ms_of, utc_text};
use crate::door::SystemClock;
use crate::kafka::cluster::{Cluster, TopicsWanted};
use crate::kafka::producer::{Producer, ProducerOptions};
use crate::ops::dlq::read::Place;
use crate::ops::dlq::replay::{Outcome, Resender, in_place, into_sink};
use crate::ops::dlq::{Counts, Entry, Filter};
use crate::port::{MemoryBudget, Sink};
use crate::sink::sqlite::{SqliteFile, SqliteOptions, SqliteSink};

/// Where the letters are, as said on the command line.
struct Where<'a> {
    settings: &'a Settings,
    topic: Option<String>,
    file: Option<PathBuf>,
    database: Option<PathBuf>,
    table: String,
}

/// Runs one of the commands.
pub fn run(command: Command, resolved: &Resolved, settings: &Settings) -> Result<(), Failure> {
    let path = |name: &str| Some(resolved.text(name)).filter(|text| !text.is_empty()).map(PathBuf::from);
    let place = Where {
        settings,
        topic: Some(resolved.text("dead_letter_topic")).filter(|text| !text.is_empty()),
        file: path("dead_letter_file"),
        database: path("letters_db"),
        table: resolved.text("table"),
    };
    let filter = filter(resolved)?;
    let json = resolved.text("format") == "json";
    match command {
        Command::DlqReplay => replay(&place, &filter, resolved),
        Command::DlqStats => stats(&place, &filter, json),
        Command::DlqShow => place.each(&filter, &mut |entry| put(&format!("{}\n", entry.json(true)))),
        _ if json => place.each(&filter, &mut |entry| put(&format!("{}\n", entry.json(false)))),
        _ => place.each(&filter, &mut |entry| put(&line(&entry))),
    }
}

fn filter(resolved: &Resolved) -> Result<Filter, Failure> {
    let text = |name: &str| Some(resolved.text(name)).filter(|text| !text.is_empty());
    let time = |name: &str| {
        let Some(said) = text(name) else { return Ok(None) };
        let wrong = || Failure::new(Exit::Usage, format!("--{name} {said}: give a time like 2026-01-31T12:00:00Z"));
        unix_ms_of(&said).map(|unix_ms| Some(utc_text(unix_ms))).ok_or_else(wrong)
    };
    Ok(Filter {
        reason: text("reason"),
        topic: text("only_topic"),
        partition: resolved.said("only_partition").then(|| resolved.number("only_partition") as i32),
        offset: resolved.said("only_offset").then(|| resolved.number("only_offset") as i64),
        since: time("since")?,
        until: time("until")?,
    })
}

impl Where<'_> {
    /// Hands over the letters that are meant.
    fn each(&self, filter: &Filter, take: &mut dyn FnMut(Entry) -> Result<(), String>) -> Result<(), Failure> {
        let mut chosen = |entry: Entry| if filter.takes(&entry) { take(entry) } else { Ok(()) };
        let failed = |message| Failure::new(Exit::Failed, message);
        if let Some(topic) = &self.topic {
            self.topic_place(topic)?.read(&mut chosen).map_err(failed)?;
        }
        if let Some(path) = &self.file {
            Place::File(path).read(&mut chosen).map_err(failed)?;
        }
        match (&self.database, self.topic.is_some() || self.file.is_some()) {
            (_, true) => Ok(()),
            (Some(path), false) => Place::Table(&mut self.rows(path)?).read(&mut chosen).map_err(failed),
            (None, false) => Err(Failure::new(
                Exit::Usage,
                "say where the letters are: --dead-letter-topic, --dead-letter-file, or --db for the FAILED rows of a table",
            )),
        }
    }

    fn rows(&self, path: &Path) -> Result<SqliteFile, Failure> {
        SqliteFile::open(path, &self.table).map_err(|error| Failure::new(Exit::Failed, error))
    }

    fn cluster(&self) -> Result<Cluster, Failure> {
        self.settings.consumer.cluster().map_err(|error| {
            let exit = if error.is_unavailable() { Exit::Unavailable } else { Exit::Failed };
            Failure::new(exit, error)
        })
    }

    fn topic_place(&self, topic: &str) -> Result<Place<'static>, Failure> {
        let cluster = self.cluster()?;
        let name: Arc<str> = topic.into();
        let metadata = cluster.refresh(TopicsWanted::Names(std::slice::from_ref(&name)));
        let metadata = metadata.map_err(|error| Failure::new(Exit::Failed, error))?;
        let partitions = metadata.topics.get(&name).map_or(0, |topic| topic.partitions.len());
        if partitions == 0 {
            return Err(Failure::new(Exit::Failed, format!("there is no topic {topic}")));
        }
        let options = self.settings.consumer.native(MemoryBudget::new(self.settings.consumer.memory_limit));
        Ok(Place::Topic { options: Box::new(options), topic: topic.to_owned(), partitions: partitions as i32 })
    }
}

fn put(text: &str) -> Result<(), String> {
    exit::put(text).map_err(|failure| failure.message)
}

/// `2026-01-31 12:00:00.000  orders/3@41  data  …`, one line whatever the message holds.
fn line(entry: &Entry) -> String {
    const MESSAGE_CHARACTERS_MAX: usize = 160;
    let message: String = entry.message.chars().take(MESSAGE_CHARACTERS_MAX).collect();
    format!("{}  {:24} {:12} {}\n", entry.at, entry.place(), entry.class, message.escape_debug())
}

fn stats(place: &Where<'_>, filter: &Filter, json: bool) -> Result<(), Failure> {
    let mut counts = Counts::default();
    place.each(filter, &mut |entry| {
        counts.add(&entry);
        Ok(())
    })?;
    for ((topic, class), count) in &counts.0 {
        let (letters, first, last) = (count.letters, &count.first, &count.last);
        let text = match json {
            true => {
                let object = serde_json::json!({ "topic": topic, "class": class, "letters": letters, "first": first,
                    "last": last });
                format!("{object}\n")
            }
            false => format!("{letters:>10}  {topic:24} {class:12} {first} to {last}\n"),
        };
        exit::put(&text)?;
    }
    Ok(())
}

fn replay(place: &Where<'_>, filter: &Filter, resolved: &Resolved) -> Result<(), Failure> {
    let mut outcome = Outcome::default();
    let failed = |error: String| Failure::new(Exit::Failed, error);
    if resolved.switch("dry_run") {
        return place.each(filter, &mut |entry| put(&line(&entry)));
    }
    match (place.topic.is_some() || place.file.is_some(), &place.database) {
        (true, Some(path)) => {
            let mut options = SqliteOptions::new(path, "konekt-dlq", Arc::new(SystemClock::start()));
            options.table.clone_from(&place.table);
            options.exactly_once = false;
            let mut writer = SqliteSink::new(options).writer().map_err(|error| failed(error.message))?;
            let mut one = |entry: Entry| into_sink(&mut *writer, &entry, &mut outcome).map_err(|error| error.message);
            place.each(filter, &mut one)?;
        }
        (true, None) => {
            let producer = Producer::new(place.cluster()?, ProducerOptions::default());
            let progress = PathBuf::from(resolved.text("progress"));
            let mut resender = Resender::new(producer, resolved.number("replays_max"), &progress).map_err(failed)?;
            place.each(filter, &mut |entry| resender.send(&entry, &mut outcome))?;
            resender.settle().map_err(failed)?;
        }
        (false, Some(path)) => {
            let mut rows = place.rows(path)?;
            let mut one = |entry: Entry| in_place(&mut rows, &entry, &mut outcome).map_err(|error| error.message);
            place.each(filter, &mut one)?;
        }
        (false, None) => place.each(filter, &mut |_| Ok(()))?,
    }
    conclude(&outcome)
}

fn conclude(outcome: &Outcome) -> Result<(), Failure> {
    let Outcome { replayed, done_before, refused } = outcome;
    exit::say(format_args!("{replayed} replayed, {done_before} done before, {} refused", refused.len()));
    if refused.is_empty() {
        return Ok(());
    }
    let lines: Vec<String> = refused.iter().map(|(place, why)| format!("{place}: {why}")).collect();
    Err(Failure::new(Exit::Failed, lines.join("\n")))
}
