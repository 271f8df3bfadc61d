//! `konekt demo`: the embedded broker, orders, the real engine, a SQLite file, and what came of it.

use std::path::Path;
use std::sync::Arc;

use super::exit::{self, Exit, Failure};
use super::report::{bar, grouped};
use super::{run, signals};
use crate::config::{Resolved, Settings};
use crate::consumer::{Consumer, ConsumerConfig};
use crate::door::SystemClock;
use crate::engine::Summary;
use crate::ops::demo::{DemoKafka, GROUP, PARTITIONS, TOPIC};
use crate::sink::sqlite::{DEFAULT_TABLE, SqliteOptions, SqliteReport, SqliteSink};
use crate::source::native::TopicSelection;

const ROWS_SHOWN: usize = 3;

/// Runs the demo: further orders into a database.
pub fn run(resolved: &Resolved, settings: &Settings) -> Result<(), Failure> {
    let (database, records) = (resolved.text("demo_db"), resolved.number("records"));
    let database = Path::new(&database);
    signals::listen()?;
    let before = found(database)?;
    let positions = positions(before.as_ref());
    let sink = SqliteSink::new(SqliteOptions::new(database, GROUP, Arc::new(SystemClock::start())));
    // The engine would wait for a place that can be written; whoever watches a demonstration had better hear of it.
    run::check_usable(&sink)?;
    match &before {
        None => exit::say(format_args!("{} is not there yet: it will be made", database.display())),
        Some(report) => exit::say(format_args!(
            "{} holds {} rows; going on from its positions ({})",
            database.display(),
            grouped(report.rows),
            positions.map(|position| position.to_string()).join(" ")
        )),
    }

    let bar = bar("producing", positions.iter().sum::<i64>() as u64 + records);
    let produced = DemoKafka::start(&positions, records, |count| bar.set_position(count));
    bar.finish_and_clear();
    let kafka = produced.map_err(|error| Failure::new(Exit::Failed, error))?;
    exit::say(format_args!("{} orders in {PARTITIONS} partitions on {}", grouped(kafka.orders), kafka.address()));

    let config = ConsumerConfig {
        bootstrap_servers: vec![kafka.address()],
        group_id: GROUP.to_owned(),
        topics: TopicSelection::names([TOPIC]),
        until_end: true,
        ..settings.consumer.clone()
    };
    let summary = consume(config, sink, kafka.orders - positions.iter().sum::<i64>() as u64)?;
    let after =
        SqliteReport::read(database, DEFAULT_TABLE, ROWS_SHOWN).map_err(|error| Failure::new(Exit::Failed, error))?;
    exit::put(&table(&summary, &after, database))?;
    run::conclude(Ok(summary))
}

/// What earlier runs left; `None` when there is no file yet.
fn found(database: &Path) -> Result<Option<SqliteReport>, Failure> {
    if !database.exists() {
        return Ok(None);
    }
    let report = SqliteReport::read(database, DEFAULT_TABLE, 0);
    report.map(Some).map_err(|error| Failure::new(Exit::Failed, format!("{error}; or name another file with --db")))
}

fn positions(report: Option<&SqliteReport>) -> [i64; PARTITIONS] {
    let mut positions = [0; PARTITIONS];
    let lines = report.iter().flat_map(|report| &report.positions);
    for line in lines.filter(|line| line.consumer_group == GROUP && line.topic == TOPIC) {
        if let Some(position) = usize::try_from(line.partition).ok().and_then(|index| positions.get_mut(index)) {
            *position = line.next_offset;
        }
    }
    positions
}

fn consume(config: ConsumerConfig, sink: SqliteSink, expected: u64) -> Result<Summary, Failure> {
    let running = Consumer::builder(config).sink(Arc::new(sink)).start().map_err(run::failure)?;
    run::behind_bar(running, bar("consuming", expected), |_, _| {}).map_err(run::failure)
}

fn table(summary: &Summary, report: &SqliteReport, database: &Path) -> String {
    let statistics = &summary.statistics;
    let rate = statistics.records_written as f64 / statistics.uptime_seconds.max(0.001);
    let mut lines = vec![
        format!("records read   {}", grouped(statistics.records_read)),
        format!("rows written   {}", grouped(statistics.records_written)),
        format!("rows in all    {}", grouped(report.rows)),
        format!("speed          {} records/s", grouped(rate.round() as u64)),
        String::new(),
        "first rows".to_owned(),
    ];
    for row in &report.first_rows {
        let value: String = row.value.chars().take(90).collect();
        lines.push(format!(
            "  {}/{}@{} {} {value}…",
            row.topic,
            row.partition,
            row.offset,
            row.key.as_deref().unwrap_or("")
        ));
    }
    lines.extend([String::new(), "positions".to_owned()]);
    for line in &report.positions {
        lines.push(format!(
            "  {}/{} next offset {}",
            line.topic,
            line.partition,
            grouped(line.next_offset.max(0) as u64)
        ));
    }
    lines.extend([
        String::new(),
        "Run it again to see it go on from there. With a Kafka of your own:".to_owned(),
        format!(
            "  konekt sink sqlite --db {} --bootstrap-servers localhost:9092 --topics TOPIC",
            database.with_file_name("konekt.db").display()
        ),
        String::new(),
    ]);
    lines.join("\n")
}
