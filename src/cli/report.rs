//! Statistics for people (one line per interval, a table at the end) and for programs (JSON lines).
//!
//! The JSON object is [`Statistics`] as it is, with `"summary": true` in the last one: a documented contract.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::{self, Write};

use indicatif::{ProgressBar, ProgressStyle};

use super::exit::{self, Exit, Failure};
use crate::core::tally::Statistics;

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

/// `12,345 written, 1,234/s, 0 failed, lag 77, 8 partitions, 12.3 MiB held`, and what stands still.
fn line(statistics: &Statistics) -> String {
    let mut line = format!(
        "{} written, {}/s, {} failed, lag {}, {} partitions, {} held",
        grouped(statistics.records_written),
        grouped(statistics.processing_rate_per_second.round() as u64),
        grouped(statistics.messages_failed),
        grouped(statistics.lag_records),
        statistics.partitions_assigned,
        mebibytes(statistics.memory_bytes),
    );
    for (partition, reason) in &statistics.paused {
        // Writing into a string cannot fail.
        let _ = write!(line, "; {partition} paused: {reason}");
    }
    line
}

fn table(statistics: &Statistics) -> String {
    let rate = statistics.records_written as f64 / statistics.uptime_seconds.max(0.001);
    let rows = [
        ("time", format!("{:.1} s", statistics.uptime_seconds)),
        ("records written", format!("{} ({}/s)", grouped(statistics.records_written), grouped(rate.round() as u64))),
        ("  already there", grouped(statistics.records_repeated)),
        ("dead-lettered", grouped(statistics.dead_lettered)),
        ("skipped", format!("{} (markers, aborted)", grouped(statistics.records_skipped))),
        (
            "failed attempts",
            format!("{} ({:.2} %)", grouped(statistics.messages_failed), statistics.error_rate_percent),
        ),
        (
            "batches",
            format!("{} (mean {:.2} ms)", grouped(statistics.batches_processed), statistics.average_processing_time_ms),
        ),
        ("lag", grouped(statistics.lag_records)),
    ];
    let lines: Vec<String> = rows.iter().map(|(name, value)| format!("{name:<16} {value}")).collect();
    lines.join("\n")
}

/// `1234567` as `1,234,567`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
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

    #[test]
    fn numbers_are_grouped_by_thousands() {
        for (number, expected) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(number), expected);
        }
    }

    #[test]
    fn a_line_says_what_stands_still() {
        let mut statistics = Statistics { records_written: 12_345, lag_records: 7, ..Default::default() };
        statistics.paused.insert("orders/3".into(), "errors: 10 in a row".into());
        assert_eq!(
            line(&statistics),
            "12,345 written, 0/s, 0 failed, lag 7, 0 partitions, 0.0 MiB held; orders/3 paused: errors: 10 in a row"
        );
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
        assert_eq!(object["summary"], true);
    }
}
