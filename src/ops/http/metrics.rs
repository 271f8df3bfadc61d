//! A snapshot as Prometheus text (exposition format 0.0.4): base units, counters end with `_total`.
//!
//! [`FAMILIES`] is the one list: the text, the documentation (docs/metrics.md) and the check of the dashboard and the
//! alerts are made from it. Labels are of closed sets (`phase`, `place`, `state`, `reason`), but for topic and partition, of
//! which no more than [`PARTITIONS_MAX`] are listed.

use std::fmt::Write;

use crate::core::breaker::PauseReason;
use crate::core::histogram::Histogram;
use crate::core::statistics::{PartitionState, PartitionStatistics, Statistics};
use crate::core::tally::Phase;
use crate::ops::process::Process;

/// So many partitions have metrics of their own, by name; all of them are in the sums.
pub const PARTITIONS_MAX: usize = 1_000;

/// A metric.
pub struct Family {
    pub name: &'static str,
    /// `counter`, `gauge` or `histogram`.
    pub kind: &'static str,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    pub help: &'static str,
    values: Values,
}

/// Where a metric's values come from.
enum Values {
    /// One; none when it is not known.
    One(fn(&Statistics) -> Option<f64>),
    /// One, of the process and not of the run.
    OfProcess(fn(&Process) -> Option<f64>),
    /// One per value of its label.
    Several(fn(&Statistics) -> Vec<(&'static str, f64)>),
    /// One per partition.
    PerPartition(fn(&PartitionStatistics) -> Option<f64>),
    /// Histograms, with their label's value where it has one. What they count is `unit` of a base unit; their buckets end
    /// at these powers of two.
    Histograms { list: fn(&Statistics) -> Vec<(&'static str, &Histogram)>, unit: f64, exponents: &'static [usize] },
}

/// Buckets for times, in microseconds: 16 µs to 67 s.
const TIMES: &[usize] = &[4, 6, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 22, 24, 26];
/// Buckets for records: 1 to a million.
const RECORDS: &[usize] = &[0, 2, 4, 6, 8, 9, 10, 11, 12, 14, 16, 20];
/// Buckets for bytes: 256 B to 64 MiB.
const BYTES: &[usize] = &[8, 10, 12, 14, 16, 18, 20, 21, 22, 23, 24, 26];

const fn counter(name: &'static str, help: &'static str, value: fn(&Statistics) -> Option<f64>) -> Family {
    Family { name, kind: "counter", labels: &[], help, values: Values::One(value) }
}

const fn gauge(name: &'static str, help: &'static str, value: fn(&Statistics) -> Option<f64>) -> Family {
    Family { kind: "gauge", ..counter(name, help, value) }
}

const fn of_process(
    name: &'static str,
    kind: &'static str,
    help: &'static str,
    value: fn(&Process) -> Option<f64>,
) -> Family {
    Family { name, kind, labels: &[], help, values: Values::OfProcess(value) }
}

const fn several(
    name: &'static str,
    label: &'static [&'static str],
    help: &'static str,
    values: fn(&Statistics) -> Vec<(&'static str, f64)>,
) -> Family {
    Family { name, kind: "gauge", labels: label, help, values: Values::Several(values) }
}

const fn of_partition(
    name: &'static str,
    kind: &'static str,
    help: &'static str,
    value: fn(&PartitionStatistics) -> Option<f64>,
) -> Family {
    Family { name, kind, labels: &["topic", "partition"], help, values: Values::PerPartition(value) }
}

/// All metrics, in the order in which they are told.
pub const FAMILIES: &[Family] = &[
    counter("konekt_records_read_total", "Records decoded.", |s| count(s.records_read)),
    counter("konekt_records_written_total", "Records written or handled.", |s| count(s.records_written)),
    counter("konekt_records_repeated_total", "Of these, records that the sink already had.", |s| {
        count(s.records_repeated)
    }),
    counter("konekt_records_dead_lettered_total", "Records sent to the dead letters.", |s| count(s.dead_lettered)),
    counter("konekt_records_failed_total", "Records whose attempts failed as often as one may try.", |s| {
        count(s.messages_failed)
    }),
    counter("konekt_records_skipped_total", "Transaction markers and records of aborted transactions.", |s| {
        count(s.records_skipped)
    }),
    counter("konekt_records_released_total", "Records decoded, then left to be read again.", |s| {
        count(s.records_released)
    }),
    gauge("konekt_records_in_flight", "Records decoded and not yet answered for.", |s| count(s.records_in_flight)),
    gauge(
        "konekt_records_unaccounted",
        "Read, but not written, dead-lettered, in flight or released. Not 0: a defect.",
        |s| Some(s.records_unaccounted as f64),
    ),
    counter("konekt_written_bytes_total", "Bytes of keys, values and headers written.", |s| count(s.bytes_written)),
    counter("konekt_batches_total", "Batches written or handled.", |s| count(s.batches_processed)),
    counter("konekt_retries_total", "Attempts made again after a failure.", |s| count(s.retries)),
    counter("konekt_rebalances_total", "Times that partitions were handed out or taken back.", |s| count(s.rebalances)),
    gauge("konekt_lag_records", "Records between our positions and the ends of the logs.", |s| count(s.lag_records)),
    gauge("konekt_lag_seconds", "The largest lag in time of a partition.", |s| s.lag_seconds),
    gauge(
        "konekt_catch_up_seconds",
        "Time until all partitions are at their ends, at the present rates; absent when one gains nothing.",
        |s| s.catch_up_seconds,
    ),
    several("konekt_partitions", &["state"], "Partitions that are ours, by what they do.", partitions_by_state),
    several("konekt_partitions_paused", &["reason"], "Paused partitions, by reason.", partitions_by_reason),
    gauge("konekt_group_settled", "1 once the group has said which partitions are ours.", |s| switch(s.settled)),
    gauge("konekt_sink_reachable", "1 when the sink answered last time, 0 when not; absent before.", |s| {
        s.sink.reachable.and_then(switch)
    }),
    gauge("konekt_workers", "Threads that write.", |s| count(s.workers as u64)),
    gauge("konekt_workers_busy", "Threads that are writing now.", |s| count(s.workers_busy as u64)),
    gauge("konekt_workers_stuck", "Threads busy with one thing for longer than message_timeout_seconds.", |s| {
        count(s.workers_stuck as u64)
    }),
    counter("konekt_workers_replaced_total", "Threads that died and were replaced.", |s| count(s.workers_replaced)),
    gauge("konekt_source_silent_seconds", "Time since the thread that reads from Kafka showed life.", |s| {
        Some(s.source_silent_seconds)
    }),
    gauge("konekt_memory_limit_bytes", "memory_limit.", |s| count(s.memory.limit_bytes as u64)),
    several("konekt_memory_bytes", &["place"], "Bytes held by records, by where they are.", memory_by_place),
    gauge("konekt_pool_connections", "Connections to the database that are open.", |s| {
        s.pool.map(|pool| pool.open as f64)
    }),
    gauge("konekt_pool_connections_abandoned", "Connections left behind with a driver that does not answer.", |s| {
        s.pool.map(|pool| pool.abandoned as f64)
    }),
    counter("konekt_pool_connections_opened_total", "Connections made.", |s| s.pool.map(|pool| pool.opened as f64)),
    counter("konekt_pool_takes_total", "Times that a connection was asked for.", |s| {
        s.pool.map(|pool| pool.taken as f64)
    }),
    counter("konekt_pool_wait_seconds_total", "Time waited for connections.", |s| {
        s.pool.map(|pool| pool.waited_us as f64 / 1e6)
    }),
    gauge("konekt_uptime_seconds", "Time since the start.", |s| Some(s.uptime_seconds)),
    Family {
        name: "konekt_batch_phase_seconds",
        kind: "histogram",
        labels: &["phase"],
        help: "What a batch's time goes into.",
        values: Values::Histograms { list: phases, unit: 1e-6, exponents: TIMES },
    },
    Family {
        name: "konekt_batch_records",
        kind: "histogram",
        labels: &[],
        help: "Records per batch written.",
        values: Values::Histograms {
            list: |s| vec![("", &s.distributions.batch_records)],
            unit: 1.0,
            exponents: RECORDS,
        },
    },
    Family {
        name: "konekt_batch_bytes",
        kind: "histogram",
        labels: &[],
        help: "Bytes of keys, values and headers per batch written.",
        values: Values::Histograms { list: |s| vec![("", &s.distributions.batch_bytes)], unit: 1.0, exponents: BYTES },
    },
    of_partition("konekt_partition_position", "gauge", "The next offset to be written.", |p| {
        p.position.map(|position| position as f64)
    }),
    of_partition("konekt_partition_log_end", "gauge", "The offset after the log's last record, as last seen.", |p| {
        Some(p.log_end as f64)
    }),
    of_partition("konekt_partition_lag_records", "gauge", "Records between position and log end.", |p| {
        count(p.lag_records)
    }),
    of_partition("konekt_partition_lag_seconds", "gauge", "How old the next record to be written is.", |p| {
        p.lag_seconds
    }),
    of_partition(
        "konekt_partition_to_retention_records",
        "gauge",
        "Records that retention can still remove before one is lost unread.",
        |p| p.to_retention_records.map(|records| records as f64),
    ),
    of_partition(
        "konekt_partition_until_retention_seconds",
        "gauge",
        "Time until retention reaches the next record to be written, at its pace so far; absent when it removed none.",
        |p| p.until_retention_seconds,
    ),
    of_partition("konekt_partition_records_written_total", "counter", "Records written since it was assigned.", |p| {
        count(p.records_written)
    }),
    of_partition(
        "konekt_partition_records_dead_lettered_total",
        "counter",
        "Records sent to the dead letters since it was assigned.",
        |p| count(p.dead_lettered),
    ),
    of_partition("konekt_partition_errors", "gauge", "Failed attempts in a row now.", |p| count(p.errors)),
    of_partition("konekt_partition_waiting", "gauge", "1 while it writes nothing and should.", |p| {
        switch(p.state.is_waiting())
    }),
    gauge("konekt_partitions_unlisted", "Partitions without metrics of their own, since there are too many.", |s| {
        count(s.partitions.len().saturating_sub(PARTITIONS_MAX) as u64)
    }),
    of_process("process_cpu_seconds_total", "counter", "User and system time of the process.", |p| p.cpu_seconds),
    of_process("process_resident_memory_bytes", "gauge", "Memory of the process that is resident.", |p| {
        p.resident_bytes.map(|bytes| bytes as f64)
    }),
    of_process("process_open_fds", "gauge", "File handles that the process has.", |p| p.handles.and_then(count)),
    of_process("process_max_fds", "gauge", "File handles that it may have.", |p| p.handles_max.and_then(count)),
];

fn count(number: u64) -> Option<f64> {
    Some(number as f64)
}

fn switch(on: bool) -> Option<f64> {
    Some(f64::from(u8::from(on)))
}

fn partitions_by_state(statistics: &Statistics) -> Vec<(&'static str, f64)> {
    let number = |state| statistics.partitions.iter().filter(|partition| partition.state == state).count();
    PartitionState::ALL.iter().map(|state| (state.name(), number(*state) as f64)).collect()
}

fn partitions_by_reason(statistics: &Statistics) -> Vec<(&'static str, f64)> {
    let number =
        |reason| statistics.partitions.iter().filter(|partition| partition.pause_reasons.contains(reason)).count();
    PauseReason::ALL.iter().map(|reason| (reason.name(), number(reason) as f64)).collect()
}

fn memory_by_place(statistics: &Statistics) -> Vec<(&'static str, f64)> {
    let memory = &statistics.memory;
    let places =
        [("fetching", memory.fetching_bytes), ("queued", memory.queued_bytes), ("decoded", memory.decoded_bytes)];
    places.map(|(place, bytes)| (place, bytes as f64)).to_vec()
}

fn phases(statistics: &Statistics) -> Vec<(&'static str, &Histogram)> {
    Phase::ALL.iter().map(|phase| (phase.name(), statistics.distributions.phase(*phase))).collect()
}

/// The snapshot as text, and what the process uses.
pub fn text(statistics: &Statistics, process: &Process) -> String {
    let mut text = String::with_capacity(16 << 10);
    for family in FAMILIES {
        let start = text.len();
        line(&mut text, format_args!("# HELP {} {}", family.name, family.help));
        line(&mut text, format_args!("# TYPE {} {}", family.name, family.kind));
        let headed = text.len();
        family.put(statistics, process, &mut text);
        if text.len() == headed {
            text.truncate(start);
        }
    }
    text
}

impl Family {
    fn put(&self, statistics: &Statistics, process: &Process, text: &mut String) {
        let (name, label) = (self.name, self.labels.first().copied().unwrap_or_default());
        match self.values {
            Values::One(value) => put_one(text, name, value(statistics)),
            Values::OfProcess(value) => put_one(text, name, value(process)),
            Values::Several(values) => {
                for (of, value) in values(statistics) {
                    line(text, format_args!("{name}{{{label}=\"{of}\"}} {value}"));
                }
            }
            Values::PerPartition(value) => {
                for partition in statistics.partitions.iter().take(PARTITIONS_MAX) {
                    if let Some(value) = value(partition) {
                        let (topic, number) = (&partition.topic, partition.partition);
                        line(text, format_args!("{name}{{topic=\"{topic}\",partition=\"{number}\"}} {value}"));
                    }
                }
            }
            Values::Histograms { list, unit, exponents } => {
                for (of, histogram) in list(statistics) {
                    let of = if label.is_empty() { String::new() } else { format!("{label}=\"{of}\"") };
                    put_histogram(text, name, &of, histogram, unit, exponents);
                }
            }
        }
    }
}

fn put_one(text: &mut String, name: &str, value: Option<f64>) {
    if let Some(value) = value {
        line(text, format_args!("{name} {value}"));
    }
}

fn put_histogram(text: &mut String, name: &str, label: &str, histogram: &Histogram, unit: f64, exponents: &[usize]) {
    let and = if label.is_empty() { "" } else { "," };
    for exponent in exponents {
        // Through six digits, so that 2^4 µs reads 0.000016 and not what a binary fraction makes of it.
        let upper = (*exponent as f64).exp2() * unit;
        let upper = (upper * 1e6).round() / 1e6;
        let below = histogram.at_most(*exponent);
        line(text, format_args!("{name}_bucket{{{label}{and}le=\"{upper}\"}} {below}"));
    }
    line(text, format_args!("{name}_bucket{{{label}{and}le=\"+Inf\"}} {}", histogram.count()));
    let label = if label.is_empty() { String::new() } else { format!("{{{label}}}") };
    line(text, format_args!("{name}_sum{label} {}", histogram.sum() as f64 * unit));
    line(text, format_args!("{name}_count{label} {}", histogram.count()));
}

fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing into a string cannot fail.
    let _ = text.write_fmt(line);
    text.push('\n');
}

/// The list of metrics as a table, for the documentation.
pub fn table_markdown() -> String {
    let mut table = String::from("| metric | kind | labels | meaning |\n|---|---|---|---|\n");
    for Family { name, kind, labels, help, .. } in FAMILIES {
        line(&mut table, format_args!("| `{name}` | {kind} | {} | {help} |", labels.join(", ")));
    }
    table
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_are_unique_and_say_kind_and_unit() {
        let mut names = HashSet::new();
        for Family { name, kind, help, .. } in FAMILIES {
            assert!(names.insert(name), "{name} twice");
            assert_eq!(name.ends_with("_total"), *kind == "counter", "{name} is a {kind}");
            assert!(name.starts_with("konekt_") || name.starts_with("process_"), "{name}");
            assert!(help.ends_with('.') && !help.contains('\n'), "{name}: {help}");
        }
    }

    #[test]
    fn of_many_partitions_a_thousand_are_listed_and_all_are_counted() {
        let partition = |number| PartitionStatistics { topic: "t".into(), partition: number, ..Default::default() };
        let statistics = Statistics { partitions: (0..1_500).map(partition).collect(), ..Statistics::default() };
        let text = text(&statistics, &Process::default());
        assert_eq!(text.matches("konekt_partition_lag_records{").count(), PARTITIONS_MAX);
        assert!(text.contains("konekt_partitions_unlisted 500\n"));
        assert!(text.contains("konekt_partitions{state=\"starting\"} 1500\n"));
    }

    #[test]
    fn a_histogram_counts_upwards_in_base_units() {
        let mut histogram = Histogram::default();
        [10, 100, 100, 3_000_000].iter().for_each(|micros| histogram.record(*micros));
        let mut text = String::new();
        put_histogram(&mut text, "h", "phase=\"x\"", &histogram, 1e-6, &[4, 7, 20]);
        let expected = "h_bucket{phase=\"x\",le=\"0.000016\"} 1\nh_bucket{phase=\"x\",le=\"0.000128\"} 3\n\
                        h_bucket{phase=\"x\",le=\"1.048576\"} 3\nh_bucket{phase=\"x\",le=\"+Inf\"} 4\n\
                        h_sum{phase=\"x\"} 3.00021\nh_count{phase=\"x\"} 4\n";
        assert_eq!(text, expected);
    }
}
