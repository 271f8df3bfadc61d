//! Moves records: makes source and sink from the settings, runs the engine between them, reports how it ended.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crossbeam::channel::{RecvTimeoutError, bounded};
use indicatif::ProgressBar;

use super::exit::{Exit, Failure};
use super::report::{self, Reporter};
use super::signals;
use crate::config::{Settings, SinkSettings};
use crate::consumer::{Consumer, ConsumerError, RunningConsumer};
use crate::core::record::TopicPartition;
use crate::core::statistics::Statistics;
use crate::door;
use crate::engine::{Handle, Summary};
use crate::ops::http::health::Heart;
use crate::ops::http::{self, HttpOptions, Listening};
use crate::ops::service::Manager;
use crate::port::Sink;
use crate::sink::exec::ExecSink;
use crate::sink::null::NullSink;
use crate::sink::print::{Format, PrintSink};
use crate::sink::sqlite::SqliteSink;

/// `konekt consume` and `konekt sink …`.
pub fn run(settings: &Settings) -> Result<(), Failure> {
    if settings.consumer.dry_run {
        return super::dry_run::run(settings);
    }
    let mut reporter = Reporter::open(settings.stats_json.as_deref())?;
    let listening = settings.http.as_ref().map(listen).transpose()?;
    let manager = Manager::found(door::env).unwrap_or_else(|words| {
        log::warn!("{words}");
        None
    });
    signals::listen()?;
    let (closed, reader_gone) = bounded::<()>(1);
    // Nobody receives any more: the run has ended already.
    let on_closed = Box::new(move || {
        let _ = closed.try_send(());
    });
    let sink = sink(settings, on_closed)?;

    let (statistics_sender, statistics) = bounded(1);
    let mut builder = Consumer::builder(settings.consumer.clone());
    let heart = Arc::new(Heart::default());
    if settings.heartbeat_file.is_some() || listening.is_some() || manager.is_some() {
        builder = builder.on_alive(signs_of_life(settings.heartbeat_file.clone(), Arc::clone(&heart))?);
    }
    let running = builder
        // A reporter that is slow (a stopped terminal) loses lines, it does not hold up the run.
        .on_statistics(move |snapshot| drop(statistics_sender.try_send(snapshot.clone())))
        .sink(sink)
        .start()
        .map_err(failure)?;
    let handle = running.handle();
    signals::steer(&handle);
    let shown = Arc::new(Shown(handle.clone()));
    let server = listening.map(|listening| listening.serve(Arc::clone(&shown) as _, Arc::clone(&heart)));
    let watched = manager.map(|manager| manager.watch(shown, heart, report::line));
    let stopper = door::spawn("konekt-stdout", move || {
        // Ends without a message when the sink is dropped at the end of the run.
        if reader_gone.recv().is_ok() {
            handle.stop();
        }
    });
    let reporting = door::spawn("konekt-report", move || {
        statistics.iter().for_each(|snapshot| reporter.interval(&snapshot));
        reporter
    });
    let result = running.join();
    drop((server, watched));
    let ended = reporting.join().map_err(|_| Failure::new(Exit::Failed, "the reporting thread panicked"));
    if stopper.is_finished() {
        let _ = stopper.join();
    }
    let mut reporter = ended?;
    match &result {
        Ok(summary) => reporter.summary(&summary.statistics),
        Err(ConsumerError::Run(error)) => reporter.summary(&error.statistics),
        Err(ConsumerError::Kafka(_) | ConsumerError::Source(_) | ConsumerError::DeadLetters(_)) => {}
    }
    conclude(result)
}

/// The run as the HTTP server sees it.
struct Shown(Handle);

impl http::Run for Shown {
    fn statistics(&self) -> Statistics {
        self.0.stats()
    }
    fn pause(&self, partition: &TopicPartition) {
        self.0.pause(partition);
    }
    fn resume(&self, partition: &TopicPartition) {
        self.0.resume(partition);
    }
}

fn listen(options: &HttpOptions) -> Result<Listening, Failure> {
    let listening = Listening::open(options).map_err(|words| Failure::new(Exit::Failed, words))?;
    log::info!("http://{}/ shows this run", listening.address());
    if !listening.can_steer() {
        log::warn!(
            "--http {} is open to other machines: everybody who reaches it sees this run. Nobody can pause or resume \
             there without --http-token",
            listening.address()
        );
    }
    Ok(listening)
}

/// What the loop does once a second.
fn signs_of_life(file: Option<PathBuf>, heart: Arc<Heart>) -> Result<impl FnMut() + Send + 'static, Failure> {
    if let Some(path) = &file {
        show_life(path)
            .map_err(|error| Failure::new(Exit::Usage, format!("--heartbeat-file {}: {error}", path.display())))?;
    }
    Ok(move || {
        heart.beat();
        if let Some(Err(error)) = file.as_deref().map(show_life) {
            log::warn!("no sign of life in the heartbeat file: {error}");
        }
    })
}

/// The time of a sign of life, in milliseconds since the epoch; the file's own time says the same.
fn show_life(path: &Path) -> io::Result<()> {
    std::fs::write(path, format!("{}\n", door::unix_ms()))
}

/// How often a progress bar moves.
const TICK: Duration = Duration::from_millis(100);

/// Waits for a run's end behind a progress bar. At each tick `look` sees how the run is, and may stop it.
pub(super) fn behind_bar(
    running: RunningConsumer,
    bar: ProgressBar,
    mut look: impl FnMut(&Statistics, &Handle) + Send + 'static,
) -> Result<Summary, ConsumerError> {
    let handle = running.handle();
    signals::steer(&handle);
    let (ended, end) = bounded::<()>(0);
    let ticker = door::spawn("konekt-progress", move || {
        while end.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
            let statistics = handle.stats();
            bar.set_position(statistics.records_written);
            look(&statistics, &handle);
        }
        bar.finish_and_clear();
    });
    let result = running.join();
    drop(ended);
    if ticker.join().is_err() {
        log::warn!("the progress bar's thread panicked");
    }
    result
}

/// The exit code of a run's end.
pub fn conclude(result: Result<Summary, ConsumerError>) -> Result<(), Failure> {
    let summary = result.map_err(failure)?;
    if summary.abandoned {
        return Err(Failure::new(Exit::Abandoned, "abandoned; what was not committed is read again"));
    }
    if summary.stuck.is_empty() {
        return Ok(());
    }
    let mut lines: Vec<String> =
        summary.stuck.iter().map(|(partition, reason)| format!("{partition} stands still: {reason}")).collect();
    lines.sort();
    Err(Failure::new(Exit::Failed, lines.join("\n")))
}

/// A run that did not begin or failed.
pub fn failure(error: ConsumerError) -> Failure {
    let exit = match &error {
        ConsumerError::DeadLetters(_) => Exit::Usage,
        _ if error.is_unavailable() => Exit::Unavailable,
        _ => Exit::Failed,
    };
    Failure::new(exit, error)
}

/// The sink of the settings, after it was looked at once; `on_closed` is called when nobody reads stdout any more.
pub(super) fn sink(settings: &Settings, on_closed: Box<dyn FnOnce() + Send>) -> Result<Arc<dyn Sink>, Failure> {
    let consumer = &settings.consumer;
    match &settings.sink {
        SinkSettings::Print { json } => {
            let format = if *json { Format::Json } else { Format::Text };
            Ok(Arc::new(PrintSink::new(format, Box::new(io::stdout()), on_closed)))
        }
        SinkSettings::Exec { command } => Ok(Arc::new(ExecSink::new(command.as_str(), None))),
        SinkSettings::Sqlite { path, table } => {
            let mut options = super::database::sqlite(path, table, &consumer.group_id, consumer.delivery);
            options.dry_run = consumer.dry_run;
            let sink = SqliteSink::new(options);
            check_usable(&sink)?;
            Ok(Arc::new(sink))
        }
        SinkSettings::Odbc(odbc) => super::odbc::sink(odbc, consumer),
        SinkSettings::MongoDb(mongo) => super::mongo::sink(mongo, consumer),
        SinkSettings::Null => Ok(Arc::new(NullSink::default())),
        SinkSettings::None => Err(Failure::new(Exit::Usage, "this command moves no records")),
    }
}

/// Opens a database once before the run. What only a person can mend (a missing directory, no permission, other columns)
/// ends it here; what may pass (a lock, a full disk) is left to the engine's patience.
pub(super) fn check_usable(sink: &dyn Sink) -> Result<(), Failure> {
    match sink.writer() {
        Err(error) if error.class.needs_person() => Err(Failure::new(Exit::Usage, error)),
        _ => Ok(()),
    }
}
