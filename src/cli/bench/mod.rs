//! `konekt bench`: starts a process for each run, shows progress, prints the table and writes the report.

mod measure;
mod scratch;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use crossbeam::channel::Receiver;
use indicatif::{ProgressBar, ProgressStyle};

use self::scratch::Scratch;
use super::exit::{self, Exit, Failure};
use super::report::bar;
use super::signals;
use super::table::{Column, Table};
use crate::config::field::Command;
use crate::config::value::Value;
use crate::config::{Resolved, Settings, SinkSettings};
use crate::core::civil::utc_text;
use crate::door;
use crate::kafka::cluster::Cluster;
use crate::kafka::wire::compression::Codec;
use crate::ops::bench::plot::{FIGURES, draw};
use crate::ops::bench::report::{About, COLUMNS, Machine, Report};
use crate::ops::bench::sweep::{Dimensions, Rounds};
use crate::ops::bench::topics::{Filling, Topics};
use crate::ops::bench::{Contender, Job, Measurement, Setting, Subject, ceiling, page};

/// What a topic and a run's rows may take: of all topics together in bytes, and of one in records.
const TOPICS_BYTES: u64 = 512 << 20;
const RECORDS_MAX: u64 = 1_000_000;
/// A record's bytes beside its value: the key, and what surrounds both.
const RECORD_OVERHEAD: u64 = 32;
/// Shorter than that a run says little, and longer it says no more.
const RUN_SECONDS: [f64; 2] = [0.05, 10.0];

/// Runs the bench, or the one run that `--measure` describes.
pub fn run(command: Command, resolved: &Resolved, settings: &Settings) -> Result<(), Failure> {
    if resolved.said("measure") {
        return measure::run(&resolved.text("measure"), settings);
    }
    let stopped = signals::listen()?;
    let folder = PathBuf::from(resolved.text("out"));
    std::fs::create_dir_all(&folder).map_err(|error| cannot_write(&folder, &error))?;
    let plan = Plan::new(subject(command), resolved, settings);
    let id = format!("konekt-bench-{:08x}", door::random() as u32);
    let mut bench = Bench {
        topics: topics(&plan, &id, resolved, settings)?,
        scratch: Scratch::new(&id, settings, &folder)?,
        id,
        plan: &plan,
        runs: 0,
        stopped,
    };
    let bar = runs_bar(plan.rounds.count() * plan.all.len() as u64);
    let measured = plan.rounds.run(&plan.all, |contender, setting| {
        let measurement = bench.measure(contender, setting);
        bar.inc(1);
        measurement
    });
    bar.finish_and_clear();
    drop(bench);
    let measured = plan.all.iter().zip(measured?).map(|(&(contender, setting), runs)| (contender, setting, runs));
    let report = Report::new(plan.about, measured.collect());
    write(&report, &folder)?;
    exit::put(&text(&report))?;
    exit::say(format_args!("konekt: the report is {}", folder.join("report.html").display()));
    Ok(())
}

fn subject(command: Command) -> Subject {
    match command {
        Command::BenchDecode => Subject::Decode,
        Command::BenchConsume => Subject::Consume,
        Command::BenchSink => Subject::Sink,
        _ => Subject::EndToEnd,
    }
}

/// What is measured and how.
struct Plan {
    all: Vec<(Contender, Setting)>,
    rounds: Rounds,
    codec: Codec,
    records_max: u64,
    about: About,
}

impl Plan {
    fn new(subject: Subject, resolved: &Resolved, settings: &Settings) -> Self {
        let list = |name| resolved.numbers(name).into_iter().map(|number| number as usize).collect::<Vec<usize>>();
        let dimensions = Dimensions {
            record_bytes: list("bench_record_bytes"),
            partitions: if subject == Subject::Decode { vec![1] } else { list("bench_partitions") },
            workers: list("bench_workers"),
            batch_sizes: list("bench_batch_sizes"),
        };
        let sink = subject != Subject::Decode && subject != Subject::Consume;
        let sink = sink.then(|| resolved.text("bench_sink"));
        let ceiling = ceiling_of(&settings.sink);
        let workers_max = |partitions| match (subject, &settings.sink) {
            // Each has bytes of its own.
            (Subject::Decode, _) => usize::MAX,
            (_, SinkSettings::Sqlite { .. }) => 1,
            _ => partitions,
        };
        let ours = dimensions.settings(workers_max).into_iter().map(|setting| (Contender::Konekt, setting));
        let bare = dimensions.ceilings().into_iter().filter(|_| ceiling.is_some());
        let all: Vec<_> = ours.chain(bare.map(|setting| (Contender::Ceiling, setting))).collect();
        let rounds = Rounds { warm_up: resolved.number("warm_up"), repeats: resolved.number("repeats") };
        let runs = rounds.count() * all.len() as u64;
        let run_seconds = (resolved.number("bench_seconds") as f64 / runs as f64).clamp(RUN_SECONDS[0], RUN_SECONDS[1]);
        // The words are checked already; a sink alone has none.
        let codec: Codec = resolved.text("bench_compression").parse().unwrap_or_default();
        let kafka = matches!(subject, Subject::Consume | Subject::EndToEnd).then(|| match servers(resolved) {
            Some(servers) => servers.join(", "),
            None => "embedded".to_owned(),
        });
        let machine = Machine::here();
        let about = About {
            subject,
            konekt: env!("CARGO_PKG_VERSION").to_owned(),
            at: format!("{} UTC", utc_text(door::unix_ms())),
            notes: notes(subject, &settings.sink, ceiling, &machine),
            machine,
            kafka,
            sink,
            ceiling: ceiling.map(str::to_owned),
            codec: codec.to_string(),
            seed: resolved.number("seed"),
            warm_up: rounds.warm_up,
            repeats: rounds.repeats,
            run_seconds,
        };
        let records_max = resolved.number("bench_records");
        Self { all, rounds, codec, records_max, about }
    }

    /// The kinds of work: partitions and size of a record.
    fn works(&self) -> BTreeMap<(usize, usize), u64> {
        let works = self.all.iter().map(|(_, setting)| (setting.partitions, setting.record_bytes));
        let works: std::collections::BTreeSet<(usize, usize)> = works.collect();
        let bytes = TOPICS_BYTES / works.len() as u64;
        let records = |record_bytes: usize| match self.records_max {
            0 => (bytes / (record_bytes as u64 + RECORD_OVERHEAD)).clamp(1, RECORDS_MAX),
            said => said,
        };
        works.into_iter().map(|work| (work, records(work.1).max(work.0 as u64))).collect()
    }
}

/// What there is of bare loops.
fn ceiling_of(sink: &SinkSettings) -> Option<&'static str> {
    match sink {
        SinkSettings::Sqlite { .. } => Some(ceiling::SQLITE),
        SinkSettings::Odbc(_) => Some(ceiling::ODBC),
        _ => None,
    }
}

/// What one should know to read the numbers.
fn notes(subject: Subject, sink: &SinkSettings, ceiling: Option<&str>, machine: &Machine) -> Vec<String> {
    let mut notes = vec![
        "Rates are medians; min and max are those of all rounds that count. In each round all settings take turns."
            .to_owned(),
        "Each run is a process of its own: processor time and memory are those of the run alone.".to_owned(),
    ];
    let mut note = |applies: bool, text: &str| {
        if applies {
            notes.push(text.to_owned());
        }
    };
    note(
        subject != Subject::Decode,
        "The clock goes from the beginning of the first write until the last writer is closed: connecting is not in it, \
         the last commit and SQLite's last checkpoint are.",
    );
    note(
        matches!(subject, Subject::Consume | Subject::EndToEnd),
        "The records are in the topic beforehand. An embedded broker is in another process, but shares the processors.",
    );
    note(
        matches!(subject, Subject::Sink | Subject::Decode),
        "The records are ready in memory before the clock goes; they are part of the memory shown.",
    );
    let in_database = matches!(sink, SinkSettings::Sqlite { .. } | SinkSettings::Odbc(_));
    note(
        in_database,
        "P50 and P99 are those of a write: one transaction with a batch of each of up to 16 partitions, and their \
         positions. No batch is larger than 16 MiB.",
    );
    note(subject == Subject::Decode, "P50 and P99 are those of one record batch.");
    if let Some(ceiling) = ceiling {
        notes.push(format!("The ceiling is {ceiling}; it makes no ids, checks no text and keeps no position."));
    }
    if machine.is_busy() {
        notes.push(format!(
            "The machine was busy when this began (load {:.1}): ranges are wide, and medians of two benches may differ. \
             Processor time per record is the steadier figure.",
            machine.load_before.unwrap_or_default()
        ));
    }
    if cfg!(debug_assertions) {
        notes.push("This is a debug build: the numbers mean little.".to_owned());
    }
    notes
}

/// The cluster that was named, by a flag alone: nobody's production cluster is measured by accident.
fn servers(resolved: &Resolved) -> Option<Vec<String>> {
    match resolved.value("bench_servers") {
        Some(Value::Words(servers)) => Some(servers),
        _ => None,
    }
}

/// The topics of the plan, filled; `None` where nothing is read from Kafka.
fn topics(plan: &Plan, id: &str, resolved: &Resolved, settings: &Settings) -> Result<Option<Topics>, Failure> {
    if plan.about.kafka.is_none() {
        return Ok(None);
    }
    let failed = |error| Failure::new(Exit::Failed, error);
    let mut topics = match servers(resolved) {
        Some(servers) => {
            let cluster = Cluster::connect(&servers, settings.consumer.connection()).map_err(super::admin::failure)?;
            Topics::given(servers, cluster)
        }
        None => Topics::embedded().map_err(failed)?,
    };
    for ((partitions, record_bytes), records) in plan.works() {
        let filling = Filling { partitions, record_bytes, records, seed: plan.about.seed, codec: plan.codec };
        let bar = bar("filling", records);
        let filled = topics.fill(&topic_name(id, partitions, record_bytes), filling, |count| bar.set_position(count));
        bar.finish_and_clear();
        filled.map_err(failed)?;
    }
    Ok(Some(topics))
}

fn topic_name(id: &str, partitions: usize, record_bytes: usize) -> String {
    format!("{id}-{partitions}-{record_bytes}")
}

/// A sweep at work. Its fields go in this order: what is written first, then where it came from.
struct Bench<'a> {
    scratch: Scratch,
    topics: Option<Topics>,
    id: String,
    plan: &'a Plan,
    runs: u64,
    stopped: Receiver<()>,
}

impl Bench<'_> {
    /// One run in a process of its own.
    fn measure(&mut self, contender: Contender, setting: Setting) -> Result<Measurement, Failure> {
        self.runs += 1;
        let job = Job {
            subject: self.plan.about.subject,
            contender,
            setting,
            seed: self.plan.about.seed,
            codec: self.plan.codec.to_string(),
            records_max: self.plan.works()[&(setting.partitions, setting.record_bytes)],
            seconds: self.plan.about.run_seconds,
            bootstrap_servers: self.topics.as_ref().map(Topics::bootstrap_servers).unwrap_or_default(),
            topic: topic_name(&self.id, setting.partitions, setting.record_bytes),
            group: format!("{}-{}", self.id, self.runs),
            place: self.scratch.name(),
        };
        let measured = measured(&job);
        self.scratch.clear(&job);
        if self.stopped.try_recv().is_ok() {
            return Err(Failure::new(Exit::Abandoned, "stopped; what the bench had made is removed"));
        }
        measured
    }
}

/// Starts this program once more for a job; what it says goes to our stderr.
fn measured(job: &Job) -> Result<Measurement, Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::new(Exit::Failed, format!("a measured run: {error}"));
    let text = serde_json::to_string(job).map_err(|error| failed(&error))?;
    let mut command = door::again().map_err(|error| failed(&error))?;
    command.arg(format!("--measure={text}")).stdin(Stdio::null()).stderr(Stdio::inherit());
    let output = command.output().map_err(|error| failed(&error))?;
    let exit = match output.status.code() {
        Some(0) => None,
        Some(code) if code == Exit::Usage as i32 => Some(Exit::Usage),
        Some(code) if code == Exit::Unavailable as i32 => Some(Exit::Unavailable),
        _ => Some(Exit::Failed),
    };
    if let Some(exit) = exit {
        let words = format!("the run with {:?} did not end well ({}), as said above", job.setting, output.status);
        return Err(Failure::new(exit, words));
    }
    serde_json::from_slice(&output.stdout).map_err(|error| failed(&error))
}

fn write(report: &Report, folder: &Path) -> Result<(), Failure> {
    let json = serde_json::to_string_pretty(report).map_err(|error| Failure::new(Exit::Failed, error))?;
    let mut files =
        vec![("report.json", json + "\n"), ("report.csv", report.csv()), ("report.html", page::render(report))];
    files.extend(FIGURES.iter().map(|(name, figure)| (*name, draw(report, figure))));
    for (name, text) in files {
        let path = folder.join(name);
        std::fs::write(&path, text).map_err(|error| cannot_write(&path, &error))?;
    }
    Ok(())
}

fn cannot_write(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(Exit::Failed, format!("cannot write {}: {error}; choose another folder with --out", path.display()))
}

/// The table, and below it what to choose.
fn text(report: &Report) -> String {
    let columns: Vec<Column> = COLUMNS.iter().map(|column| Column::Right(column.heading)).collect();
    let mut table = Table::new(&columns);
    for cell in &report.cells {
        table.row(COLUMNS.iter().map(|column| (column.value)(cell).shown()));
    }
    let mut text = format!("{}\n{}\n\n{}", report.title(), page::circumstances(report), table.render());
    for choice in &report.choices {
        text.push_str(&format!(
            "\nFor {} choose {}: {}.\n",
            choice.work(report.about.subject),
            choice.settings(report.about.subject),
            choice.reason
        ));
    }
    text
}

/// A bar on stderr, with the time that is left; indicatif shows it only on a terminal.
fn runs_bar(runs: u64) -> ProgressBar {
    let bar = ProgressBar::new(runs).with_message("measuring");
    match ProgressStyle::with_template("{msg:10} [{bar:40}] {pos}/{len} runs, {eta} left") {
        Ok(style) => bar.with_style(style.progress_chars("=> ")),
        Err(_) => bar,
    }
}
