//! `konekt messages stats|show|prune`: what is in a database's message table.

use super::database::{self, failure};
use super::exit::{self, Exit, Failure};
use super::report::{bar, grouped};
use crate::config::{Resolved, Settings};
use crate::core::civil::utc_text;
use crate::core::record::TopicPartition;
use crate::door;
use crate::ops::messages::{self, Message, OldRows, Stats};

/// Counts by partition and status.
pub fn stats(resolved: &Resolved, settings: &Settings) -> Result<(), Failure> {
    let stats = messages::stats(&mut *database::messages(settings)?).map_err(failure)?;
    match resolved.switch("json") {
        true => exit::put_json(&stats),
        false => exit::put(&stats_table(&stats)),
    }
}

/// One record.
pub fn show(resolved: &Resolved, settings: &Settings) -> Result<(), Failure> {
    // Larger numbers are refused when the settings are checked.
    let number = |name| i64::try_from(resolved.number(name)).unwrap_or(i64::MAX);
    let partition = TopicPartition::new(&*resolved.text("topic"), number("partition") as i32);
    let offset = number("offset");
    let found = database::messages(settings)?.show(&partition, offset).map_err(failure)?;
    if found.is_empty() {
        let words =
            format!("there is no row of {partition} offset {offset}; `konekt messages stats` shows what there is");
        return Err(Failure::new(Exit::Failed, words));
    }
    match resolved.switch("json") {
        true => found.iter().try_for_each(exit::put_json),
        false => exit::put(&found.iter().map(page).collect::<Vec<_>>().join("\n")),
    }
}

/// Removal of what is old.
pub fn prune(resolved: &Resolved, settings: &Settings) -> Result<(), Failure> {
    let before_ms = door::unix_ms() - resolved.number("older_than") as i64;
    let before = format!("before {} UTC", utc_text(before_ms));
    let mut database = database::messages(settings)?;
    let old = database.older_than(before_ms).map_err(failure)?;
    let rows: u64 = old.iter().map(|old| old.rows).sum();
    if resolved.switch("dry_run") {
        return exit::put(&format!("{}{} rows {before} would be removed\n", old_table(&old), grouped(rows)));
    }
    let bar = bar("removing", rows);
    let removed = messages::prune(&mut *database, &old, before_ms, |count| bar.inc(count));
    bar.finish_and_clear();
    let removed = removed.map_err(|error| {
        let words = format!("{error}; what was removed stays removed, and the same command goes on from there");
        Failure::new(Exit::Failed, words)
    })?;
    exit::put(&format!("{} rows {before} removed\n", grouped(removed)))
}

fn stats_table(stats: &Stats) -> String {
    let head = ["topic", "partition", "status", "rows", "first offset", "last offset", "first time (UTC)", "last time"];
    let mut lines = vec![head.map(str::to_owned)];
    for line in &stats.partitions {
        lines.push([
            line.topic.clone(),
            line.partition.to_string(),
            line.status.clone(),
            grouped(line.rows),
            line.first_offset.to_string(),
            line.last_offset.to_string(),
            line.first_time.clone(),
            line.last_time.clone(),
        ]);
    }
    let statuses: Vec<String> =
        stats.by_status.iter().map(|(status, rows)| format!(", {status} {}", grouped(*rows))).collect();
    format!("{}{} rows{}\n", table(&lines), grouped(stats.rows), statuses.concat())
}

fn old_table(old: &[OldRows]) -> String {
    let mut lines = vec![["topic", "partition", "rows", "first offset", "last offset"].map(str::to_owned)];
    for old in old {
        lines.push([
            old.topic.clone(),
            old.partition.to_string(),
            grouped(old.rows),
            old.first_offset.to_string(),
            old.last_offset.to_string(),
        ]);
    }
    if old.is_empty() { String::new() } else { table(&lines) }
}

/// Cells in columns as wide as they need.
fn table<const COLUMNS: usize>(lines: &[[String; COLUMNS]]) -> String {
    let mut page = String::new();
    for line in lines {
        let mut text = String::new();
        for (column, cell) in line.iter().enumerate() {
            let width = lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
            text.push_str(&format!("{cell:width$}  "));
        }
        page.push_str(text.trim_end());
        page.push('\n');
    }
    page
}

/// A record for a person: what belongs to it, a blank line, its value.
fn page(message: &Message) -> String {
    let optional = |text: &Option<String>| text.clone().unwrap_or_else(|| "(null)".to_owned());
    let headers = message.message_headers.as_ref().map(ToString::to_string);
    let error = message.error_message.as_ref().map(|error| format!("error       {error}\n"));
    format!(
        "record      {}/{}@{}\nid          {}\ngroup       {}\nwritten     {} UTC\nstatus      {}\n{}key         \
         {}\nheaders     {}\n\n{}\n",
        message.topic,
        message.partition,
        message.offset,
        message.id,
        message.consumer_group,
        message.processing_timestamp,
        message.processing_status,
        error.unwrap_or_default(),
        optional(&message.message_key),
        optional(&headers),
        message.message_value
    )
}
