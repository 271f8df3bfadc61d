//! `konekt dlq ls|show|stats|replay`.

use std::collections::{BTreeMap, btree_map};
use std::path::PathBuf;
use std::sync::Arc;

use super::database;
use super::exit::{self, Exit, Failure};
use crate::config::field::Command;
use crate::config::{Resolved, Settings, SinkSettings};
use crate::core::civil::{unix_ms_of, utc_text};
use crate::kafka::cluster::{Cluster, TopicsWanted};
use crate::kafka::producer::{Producer, ProducerOptions};
use crate::ops::dlq::read::Place;
use crate::ops::dlq::replay::{Outcome, Resender, in_place, into_sink};
use crate::ops::dlq::{Counts, Entry, Filter};
use crate::port::{MemoryBudget, Writer};

/// Where the letters are, as said on the command line.
struct Where<'a> {
    settings: &'a Settings,
    topic: Option<String>,
    file: Option<PathBuf>,
}

/// Runs one of the commands.
pub fn run(command: Command, resolved: &Resolved, settings: &Settings) -> Result<(), Failure> {
    let path = |name: &str| Some(resolved.text(name)).filter(|text| !text.is_empty()).map(PathBuf::from);
    let place = Where {
        settings,
        topic: Some(resolved.text("dead_letter_topic")).filter(|text| !text.is_empty()),
        file: path("dead_letter_file"),
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
        match (self.names_database(), self.are_letters()) {
            (_, true) => Ok(()),
            (true, false) => {
                Place::Table(&mut *database::failed_rows(self.settings)?).read(&mut chosen).map_err(failed)
            }
            (false, false) => Err(Failure::new(
                Exit::Usage,
                "say where the letters are: --dead-letter-topic, --dead-letter-file, or the database whose table has \
                 FAILED rows: --db, --connection-string, --server or --mongodb-database",
            )),
        }
    }

    /// Whether they are letters, and not rows.
    fn are_letters(&self) -> bool {
        self.topic.is_some() || self.file.is_some()
    }

    fn names_database(&self) -> bool {
        !matches!(self.settings.sink, SinkSettings::None)
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
    match (place.are_letters(), place.names_database() && !resolved.switch("resend")) {
        (true, true) => {
            let mut writers = Writers { settings: place.settings, open: BTreeMap::new() };
            place.each(filter, &mut |entry| {
                let writer = writers.of(&entry.group).map_err(|failure| failure.message)?;
                into_sink(writer, &entry, &mut outcome).map_err(|error| error.message)
            })?;
        }
        (true, false) => {
            let producer = Producer::new(place.cluster()?, ProducerOptions::default());
            let progress = PathBuf::from(resolved.text("progress"));
            let mut resender = Resender::new(producer, resolved.number("replays_max"), &progress).map_err(failed)?;
            place.each(filter, &mut |entry| resender.send(&entry, &mut outcome))?;
            resender.settle().map_err(failed)?;
        }
        (false, false) if place.names_database() => {
            let words =
                "--resend is for the letters of a topic or a file: rows of a table are tried again where they are";
            return Err(Failure::new(Exit::Usage, words));
        }
        (false, _) => {
            let mut rows = database::failed_rows(place.settings)?;
            let mut one = |entry: Entry| in_place(&mut *rows, &entry, &mut outcome).map_err(|error| error.message);
            place.each(filter, &mut one)?;
        }
    }
    conclude(&outcome)
}

/// A writer for each consumer group that letters belong to.
struct Writers<'a> {
    settings: &'a Settings,
    open: BTreeMap<String, Box<dyn Writer>>,
}

impl Writers<'_> {
    fn of(&mut self, group: &str) -> Result<&mut dyn Writer, Failure> {
        Ok(&mut **match self.open.entry(group.to_owned()) {
            btree_map::Entry::Occupied(open) => open.into_mut(),
            btree_map::Entry::Vacant(new) => {
                new.insert(database::sink(self.settings, group)?.writer().map_err(database::failure)?)
            }
        })
    }
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
