//! Statistics for people (one line per interval, a table at the end) and for programs (JSON lines).
//!
//! The JSON object is [`Statistics`] as it is, with `"summary": true` in the last one: a documented contract with a version.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::{self, Write};

use indicatif::{ProgressBar, ProgressStyle};

use super::exit::{self, Exit, Failure};
use crate::core::digits::counted;
pub use crate::core::digits::grouped;
use crate::core::histogram::Histogram;
use crate::core::statistics::{PartitionStatistics, Statistics};
use crate::core::tally::Phase;

/// A line has room for this many reasons; `/status` has them all.
const REASONS_SHOWN_MAX: usize = 4;

/// Where statistics go.
pub enum Reporter {
    /// A line for people on stderr.
    Text,
    /// JSON lines.
    Json(Box<dyn Write + Send>),
}

impl Reporter {
    /// A reporter for `--stats-json`: none is text, `-` is stderr, else a file that is appended to.
    ///
    /// # Errors
    /// When the file cannot be opened for writing.
    pub fn open(stats_json: Option<&str>) -> Result<Reporter, Failure> {
        match stats_json {
            None => Ok(Reporter::Text),
            Some("-") => Ok(Reporter::Json(Box::new(io::stderr()))),
            Some(path) => match OpenOptions::new().create(true).append(true).open(path) {
                Ok(file) => Ok(Reporter::Json(Box::new(file))),
                Err(error) => Err(Failure::new(Exit::Usage, format!("--stats-json: cannot write {path}: {error}"))),
            },
        }
    }

    /// One interval's line.
    pub fn interval(&mut self, statistics: &Statistics) {
        match self {
            Reporter::Text => exit::say(line(statistics)),
            Reporter::Json(output) => put_json(output.as_mut(), statistics, false),
        }
    }

    /// The summary at the end: the table always, and as JSON where that is wanted.
    pub fn summary(&mut self, statistics: &Statistics) {
        if let Reporter::Json(output) = self {
            put_json(output.as_mut(), statistics, true);
        }
        exit::say(table(statistics));
    }
}

fn put_json(output: &mut dyn Write, statistics: &Statistics, summary: bool) {
    let written = serde_json::to_value(statistics).map_err(io::Error::other).and_then(|mut object| {
        if summary {
            object["summary"] = true.into();
        }
        // In one write, so that lines of several processes do not mix in one file.
        output.write_all(format!("{object}\n").as_bytes())
    });
    if let Err(error) = written {
        log::warn!("statistics cannot be written: {error}");
    }
}

/// `12,345 written, 1,234/s, 0 failed, lag 77 (2.1 s, gone in 9 s), 8 partitions, 12.3 MiB held`, and what stands still.
pub fn line(statistics: &Statistics) -> String {
    let mut line = format!(
        "{} written, {}/s, {} failed, lag {}, {} partitions, {} held",
        grouped(statistics.records_written),
        grouped(statistics.processing_rate_per_second.round() as u64),
        grouped(statistics.messages_failed),
        lag(statistics),
        statistics.partitions_assigned,
        mebibytes(statistics.memory.used_bytes),
    );
    // Writing into a string cannot fail.
    if statistics.dead_lettered > 0 {
        let _ = write!(line, ", {} dead-lettered", grouped(statistics.dead_lettered));
    }
    for part in standing(statistics) {
        let _ = write!(line, "; {part}");
    }
    line
}

/// What stands still and why; partitions that stand for the same reason together, since a database that is away is
/// the reason of all.
fn standing(statistics: &Statistics) -> Vec<String> {
    let mut reasons: Vec<(&PartitionStatistics, usize)> = Vec::new();
    for partition in statistics.standing() {
        let same = |(first, _): &&mut (&PartitionStatistics, usize)| {
            (first.state, &first.detail) == (partition.state, &partition.detail)
        };
        match reasons.iter_mut().find(same) {
            Some((_, count)) => *count += 1,
            None => reasons.push((partition, 1)),
        }
    }
    let unsaid: usize = reasons.iter().skip(REASONS_SHOWN_MAX).map(|(_, count)| count).sum();
    let say = |(first, count): &(&PartitionStatistics, usize)| {
        let others = if *count > 1 { format!(" and {}", counted(count - 1, "other")) } else { String::new() };
        let detail = first.detail.as_deref().unwrap_or_default();
        format!("{}/{}{others} {}: {detail}", first.topic, first.partition, first.state.name())
    };
    let mut parts: Vec<String> = reasons.iter().take(REASONS_SHOWN_MAX).map(say).collect();
    if unsaid > 0 {
        parts.push(format!("{} more stand still", grouped(unsaid as u64)));
    }
    parts
}

fn lag(statistics: &Statistics) -> String {
    let mut text = grouped(statistics.lag_records);
    if statistics.lag_records > 0 {
        let age = statistics.lag_seconds.map(|seconds| format!("{seconds:.1} s"));
        let gone = statistics.catch_up_seconds.map(|seconds| format!("gone in {seconds:.0} s"));
        let known: Vec<String> = age.into_iter().chain(gone).collect();
        if !known.is_empty() {
            let _ = write!(text, " ({})", known.join(", "));
        }
    }
    text
}

fn table(statistics: &Statistics) -> String {
    let rate = statistics.records_written as f64 / statistics.uptime_seconds.max(0.001);
    let rows = [
        ("time", format!("{:.1} s", statistics.uptime_seconds)),
        ("records written", format!("{} ({}/s)", grouped(statistics.records_written), grouped(rate.round() as u64))),
        ("  already there", grouped(statistics.records_repeated)),
        ("dead-lettered", grouped(statistics.dead_lettered)),
        ("skipped", format!("{} (markers, aborted)", grouped(statistics.records_skipped))),
        ("accounted for", accounted(statistics)),
        (
            "failed",
            format!(
                "{} records, {:.2} % of all attempts",
                grouped(statistics.messages_failed),
                statistics.error_rate_percent
            ),
        ),
        (
            "batches",
            format!("{} (mean {:.2} ms)", grouped(statistics.batches_processed), statistics.average_processing_time_ms),
        ),
        ("  where time goes", phases(statistics)),
        ("lag", lag(statistics)),
    ];
    let lines: Vec<String> = rows.iter().map(|(name, value)| format!("{name:<17} {value}")).collect();
    lines.join("\n")
}

/// The rule that holds at every snapshot, in numbers.
fn accounted(statistics: &Statistics) -> String {
    let parts = [
        (statistics.records_written, "written"),
        (statistics.dead_lettered, "dead-lettered"),
        (statistics.records_in_flight, "in flight"),
        (statistics.records_released, "released"),
    ];
    let parts: Vec<String> = parts.iter().map(|(count, what)| format!("{} {what}", grouped(*count))).collect();
    let read = format!("{} read = {}", grouped(statistics.records_read), parts.join(" + "));
    match statistics.records_unaccounted {
        0 => read,
        lost => format!("{read}, but {lost} UNACCOUNTED FOR: a defect, please report it"),
    }
}

/// `decode 0.31, execute 4.20, commit 1.02 ms (median; 99 %: …)`.
fn phases(statistics: &Statistics) -> String {
    let measured = Phase::ALL.map(|phase| (phase, statistics.distributions.phase(phase)));
    let measured = || measured.iter().filter(|(_, times)| times.count() > 0);
    let list = |part: f64| {
        let one = |(phase, times): &(Phase, &Histogram)| format!("{} {:.2}", phase.name(), times.quantile(part) / 1e3);
        measured().map(one).collect::<Vec<_>>().join(", ")
    };
    if measured().next().is_none() {
        return "nowhere: no batch was tried".to_owned();
    }
    format!("{} ms (median), {} ms (99 %)", list(0.5), list(0.99))
}

/// A progress bar on stderr; indicatif shows it only on a terminal.
pub fn bar(what: &'static str, length: u64) -> ProgressBar {
    let bar = ProgressBar::new(length).with_message(what);
    match ProgressStyle::with_template("{msg:10} [{bar:40}] {human_pos}/{human_len} {per_sec}, {eta} left") {
        Ok(style) => bar.with_style(style.progress_chars("=> ")),
        Err(_) => bar,
    }
}

fn mebibytes(bytes: usize) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::statistics::PartitionState;

    #[test]
    fn a_line_says_what_stands_still() {
        let mut statistics = Statistics { records_written: 12_345, lag_records: 7, ..Default::default() };
        let standing = |partition, state, detail: &str| {
            let (topic, detail) = ("orders".into(), Some(detail.to_owned()));
            PartitionStatistics { topic, partition, state, detail, ..PartitionStatistics::default() }
        };
        let paused = standing(3, PartitionState::Paused, "errors: 10 in a row");
        statistics.partitions = vec![PartitionStatistics::default(), paused];
        assert_eq!(
            line(&statistics),
            "12,345 written, 0/s, 0 failed, lag 7, 0 partitions, 0.0 MiB held; orders/3 paused: errors: 10 in a row"
        );
        statistics.lag_seconds = Some(2.12);
        statistics.catch_up_seconds = Some(9.0);
        assert!(line(&statistics).contains("lag 7 (2.1 s, gone in 9 s),"), "{}", line(&statistics));
        let away = |partition| standing(partition, PartitionState::Retrying, "connection refused");
        statistics.partitions.extend((10..110).map(away));
        let said = line(&statistics);
        let same = "held; orders/3 paused: errors: 10 in a row; orders/10 and 99 others retrying: connection refused";
        assert!(said.ends_with(same), "{said}");
        let each = |partition: i32| standing(partition, PartitionState::Stuck, &format!("reason {partition}"));
        statistics.partitions = (0..1_100).map(each).collect();
        let said = line(&statistics);
        assert!(said.ends_with("; orders/3 stuck: reason 3; 1,096 more stand still"), "{said}");
    }

    #[test]
    fn the_table_shows_that_all_records_are_accounted_for_or_that_they_are_not() {
        let mut statistics =
            Statistics { records_read: 1_010, records_written: 1_000, dead_lettered: 7, ..Default::default() };
        statistics.records_released = 3;
        let sum = "accounted for     1,010 read = 1,000 written + 7 dead-lettered + 0 in flight + 3 released";
        assert!(table(&statistics).contains(&format!("{sum}\n")), "{}", table(&statistics));
        statistics.records_unaccounted = 1;
        assert!(table(&statistics).contains(&format!("{sum}, but 1 UNACCOUNTED FOR")));
    }

    #[test]
    fn json_keeps_the_original_names_and_marks_the_summary() {
        let mut bytes = Vec::new();
        put_json(&mut bytes, &Statistics::default(), true);
        let object: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        for key in [
            "uptime_seconds",
            "messages_processed",
            "messages_failed",
            "batches_processed",
            "partitions_assigned",
            "processing_rate_per_second",
            "average_processing_time_ms",
            "error_rate_percent",
            "partition_errors",
        ] {
            assert!(object.get(key).is_some(), "{key} is missing in {object}");
        }
        assert_eq!((&object["summary"], &object["version"]), (&true.into(), &1.into()));
    }
}
