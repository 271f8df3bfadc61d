//! `konekt sink … --dry-run`: records go the whole way from Kafka into the database, in transactions that are rolled back,
//! and what was seen on the way is told. Nothing is kept: no row, no position, no letter, no offset, no table.

use std::sync::Arc;

use parking_lot::Mutex;

use super::exit::{self, Exit, Failure};
use super::page::Page;
use super::report::{bar, grouped};
use super::table::{Column, Table};
use super::{run, signals};
use crate::config::Settings;
use crate::consumer::{Consumer, ConsumerConfig};
use crate::core::statistics::{PartitionState, PartitionStatistics, Statistics};
use crate::core::tally::Phase;
use crate::ops::bench::timed::{TimedSink, Times};
use crate::ops::bench::{Measurement, Phase as Spread};
use crate::port::Sink;

/// So many records are tried, where nobody says how many.
const RECORDS: u64 = 1_000;
/// So many bad records are told of one by one.
const BAD_SHOWN: usize = 10;

/// Tries it, and tells.
pub fn run(settings: &Settings) -> Result<(), Failure> {
    signals::listen()?;
    let records = settings.consumer.max_messages.unwrap_or(RECORDS);
    let config = ConsumerConfig { until_end: true, max_messages: Some(records), ..settings.consumer.clone() };
    let sink = run::sink(settings, Box::new(|| {}))?;
    let (times, _) = Times::new();
    let timed = Arc::new(TimedSink::new(Arc::clone(&sink), times.clone()));
    let running = Consumer::builder(config.clone()).sink(timed).start().map_err(run::failure)?;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&seen);
    let summary = run::behind_bar(running, bar("trying", records), move |statistics, handle| {
        let obstacles = obstacles(statistics);
        if !obstacles.is_empty() {
            *noted.lock() = obstacles;
            handle.stop();
        }
    });
    let summary = summary.map_err(run::failure)?;
    let mut obstacles = std::mem::take(&mut *seen.lock());
    obstacles
        .extend(summary.stuck.iter().map(|(partition, reason)| format!("{partition} would stand still: {reason}")));
    obstacles.sort();
    let statistics = &summary.statistics;
    if statistics.dead_lettered > 0 && places(&config).is_empty() {
        let count = grouped(statistics.dead_lettered);
        obstacles
            .push(format!("a run would pause in front of each of {count} bad records: no place for them is named"));
    }
    let tried =
        Tried { config: &config, sink: &*sink, statistics, written: times.measurement("write"), obstacles: &obstacles };
    exit::put(&tried.page())?;
    match (summary.abandoned, obstacles.is_empty()) {
        (true, _) => run::conclude(Ok(summary)),
        (false, true) => Ok(()),
        (false, false) => Err(Failure::new(Exit::Failed, "a run would not go on by itself; see the lines with ✗")),
    }
}

/// Why there is no use in waiting for more. A run does wait: for a database that is away, and for a person to mend a table.
fn obstacles(statistics: &Statistics) -> Vec<String> {
    if statistics.sink.reachable == Some(false) {
        return vec![statistics.sink.failure.clone().unwrap_or_else(|| "the sink cannot be reached".to_owned())];
    }
    let is_unfinished =
        |of: &&PartitionStatistics| of.position.is_none() || of.lag_records > 0 || of.records_in_flight > 0;
    let unfinished: Vec<&PartitionStatistics> = statistics.partitions.iter().filter(is_unfinished).collect();
    let stands = |of: &PartitionStatistics| matches!(of.state, PartitionState::Paused | PartitionState::Stuck);
    if !unfinished.iter().all(|of| stands(of)) {
        return Vec::new();
    }
    let told = |of: &PartitionStatistics| {
        let reason = of.detail.as_deref().unwrap_or("no reason is known");
        format!("{}/{} would stand still: {reason}", of.topic, of.partition)
    };
    unfinished.into_iter().map(told).collect()
}

/// Where a run would keep bad records.
fn places(config: &ConsumerConfig) -> Vec<String> {
    let table = config.dead_letter_table.then(|| "as FAILED rows".to_owned());
    let topic = config.dead_letter_topic.as_ref().map(|topic| format!("in the topic {topic}"));
    let file = config.dead_letter_file.as_ref().map(|file| format!("in the file {}", file.display()));
    [table, topic, file].into_iter().flatten().collect()
}

/// What a dry run saw.
struct Tried<'a> {
    config: &'a ConsumerConfig,
    sink: &'a dyn Sink,
    statistics: &'a Statistics,
    written: Measurement,
    obstacles: &'a [String],
}

impl Tried<'_> {
    fn page(&self) -> String {
        let mut page = Page::default();
        let Self { config, sink, statistics, written, obstacles } = self;
        page.line("dry run", format_args!("{}, group {}", sink.traits().name, config.group_id));
        let tried = grouped(statistics.records_written + statistics.dead_lettered);
        page.line("records", format_args!("{tried} tried, from where the group stands"));
        page.line("records", format_args!("{} would be written", grouped(statistics.records_written)));
        if statistics.records_repeated > 0 {
            page.line("records", format_args!("{} of these are there already", grouped(statistics.records_repeated)));
        }
        self.bad(&mut page);
        let rate = grouped(written.rate().round() as u64);
        page.line("speed", format_args!("{rate} records/s, in {:.2} s of writing", written.seconds));
        match sink.absent() {
            absent if absent.is_empty() => page.line("would be made", "nothing: all is there"),
            absent => page.line("would be made", absent.join(", ")),
        }
        obstacles.iter().for_each(|obstacle| page.line("obstacles", format_args!("✗ {obstacle}")));
        let note = "all was rolled back and nothing is left behind; a run commits instead, and that waits for the disk";
        page.line("note", note);
        format!("{}\n{}", page.finish(), phases(statistics))
    }

    fn bad(&self, page: &mut Page) {
        let bad = self.statistics.dead_lettered;
        if bad == 0 {
            return;
        }
        let kept = match places(self.config) {
            places if places.is_empty() => "and no place for them is named".to_owned(),
            places => format!("would be kept {}", places.join(", or else ")),
        };
        page.line("bad records", format_args!("{} {kept}", grouped(bad)));
        for letter in self.statistics.letters.iter().take(BAD_SHOWN) {
            page.line(
                "bad records",
                format_args!("{}/{} offset {}: {}", letter.topic, letter.partition, letter.offset, letter.reason),
            );
        }
        let shown = self.statistics.letters.len().min(BAD_SHOWN) as u64;
        if bad > shown {
            page.line("bad records", format_args!("… and {} more", grouped(bad - shown)));
        }
    }
}

/// How long the phases of a batch took.
fn phases(statistics: &Statistics) -> String {
    let times = ["P50 MS", "P90 MS", "P99 MS", "MAX MS"].map(Column::Right);
    let mut table = Table::new(&[&[Column::Left("PHASE"), Column::Right("BATCHES")][..], &times].concat());
    for phase in Phase::ALL {
        let spread = Spread::of_histogram(statistics.distributions.phase(phase));
        if spread.count > 0 {
            let name = if phase == Phase::Commit { "rollback" } else { phase.name() };
            let times = [spread.p50_ms, spread.p90_ms, spread.p99_ms, spread.max_ms].map(|ms| format!("{ms:.3}"));
            table.row([name.to_owned(), grouped(spread.count)].into_iter().chain(times));
        }
    }
    table.render()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_would_not_pass_by_itself_ends_a_dry_run() {
        use PartitionState::{Paused, Retrying, Running, Starting, Stuck};
        // The lag is known once the position is.
        let partition = |(number, (state, lag)): (usize, &(PartitionState, Option<u64>))| PartitionStatistics {
            topic: "t".into(),
            partition: number as i32,
            state: *state,
            position: lag.map(|_| 0),
            lag_records: lag.unwrap_or(0),
            ..PartitionStatistics::default()
        };
        for (reachable, partitions, expected) in [
            (Some(false), &[(Running, Some(5))][..], 1),
            (Some(true), &[(Running, Some(5)), (Paused, Some(5))], 0),
            (Some(true), &[(Running, Some(0)), (Paused, Some(5)), (Stuck, None)], 2),
            (Some(true), &[(Running, Some(0)), (Running, Some(0))], 0),
            (Some(true), &[(Retrying, Some(5))], 0),
            (None, &[(Paused, None), (Starting, None)], 0),
            (None, &[(Paused, None), (Paused, None)], 2),
            (None, &[], 0),
        ] {
            let partitions: Vec<_> = partitions.iter().enumerate().map(partition).collect();
            let mut statistics = Statistics { partitions, ..Default::default() };
            statistics.sink.reachable = reachable;
            assert_eq!(obstacles(&statistics).len(), expected, "{statistics:?}");
        }
    }
}
