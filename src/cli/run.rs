//! Moves records: makes source and sink from the settings, runs the engine between them, reports how it ended.

use std::io;
use std::sync::Arc;

use crossbeam::channel::bounded;

use super::exit::{Exit, Failure};
use super::report::Reporter;
use super::signals;
use crate::config::{Settings, SinkSettings, Topics};
use crate::door::{self, SystemClock};
use crate::engine::{Callbacks, Delivery, Engine, EngineConfig, EngineError, Summary};
use crate::port::{Clock, Sink, Source};
use crate::sink::exec::ExecSink;
use crate::sink::print::{Format, PrintSink};
use crate::sink::sqlite::{SqliteOptions, SqliteSink};
use crate::source::native::{Assignor, Isolation, NativeOptions, NativeSource, TopicSelection};

/// `konekt consume` and `konekt sink …`.
pub fn run(settings: &Settings) -> Result<(), Failure> {
    let mut reporter = Reporter::open(settings.stats_json.as_deref())?;
    signals::listen()?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::start());
    let config = settings.engine_config();
    let source = source(settings, &config)?;
    let (closed, reader_gone) = bounded::<()>(1);
    // Nobody receives any more: the run has ended already.
    let on_closed = Box::new(move || {
        let _ = closed.try_send(());
    });
    let sink = sink(settings, &clock, on_closed)?;

    let (statistics_sender, statistics) = bounded(1);
    let callbacks = Callbacks {
        // A reporter that is slow (a stopped terminal) loses lines, it does not hold up the run.
        on_statistics: Some(Box::new(move |snapshot| drop(statistics_sender.try_send(snapshot.clone())))),
        ..Callbacks::default()
    };
    let engine = Engine::start(config, source, sink, clock, callbacks);
    let handle = engine.handle();
    signals::steer(&handle);
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
    let result = engine.join();
    let ended = reporting.join().map_err(|_| Failure::new(Exit::Failed, "the reporting thread panicked"));
    if stopper.is_finished() {
        let _ = stopper.join();
    }
    let statistics = match &result {
        Ok(summary) => &summary.statistics,
        Err(error) => &error.statistics,
    };
    ended?.summary(statistics);
    conclude(result)
}

/// The exit code of a run's end.
pub fn conclude(result: Result<Summary, EngineError>) -> Result<(), Failure> {
    match result {
        Err(error) if error.unavailable => Err(Failure::new(Exit::Unavailable, error.message)),
        Err(error) => Err(Failure::new(Exit::Failed, error.message)),
        Ok(summary) if summary.abandoned => {
            Err(Failure::new(Exit::Abandoned, "abandoned; what was not committed is read again"))
        }
        Ok(summary) if summary.stuck.is_empty() => Ok(()),
        Ok(summary) => {
            let mut lines: Vec<String> =
                summary.stuck.iter().map(|(partition, reason)| format!("{partition} stands still: {reason}")).collect();
            lines.sort();
            Err(Failure::new(Exit::Failed, lines.join("\n")))
        }
    }
}

/// The Kafka client that the settings ask for.
///
/// # Errors
/// When no broker answers, or what answers is no Kafka (exit code 3).
pub fn source(settings: &Settings, config: &EngineConfig) -> Result<Box<dyn Source>, Failure> {
    let kafka = &settings.kafka;
    let topics = match &kafka.topics {
        Topics::Names(names) => TopicSelection::Names(names.clone()),
        Topics::Pattern(pattern) => TopicSelection::Pattern(pattern.clone()),
    };
    let named = |name: &String| Assignor::from_name(name).ok_or_else(|| format!("there is no assignment strategy {name}"));
    let assignors: Result<Vec<Assignor>, String> = kafka.partition_assignment_strategy.iter().map(named).collect();
    let options = NativeOptions {
        client_id: kafka.client_id.clone(),
        group_instance_id: kafka.group_instance_id.clone(),
        assignors: assignors.map_err(|error| Failure::new(Exit::Usage, error))?,
        isolation: if kafka.read_committed { Isolation::ReadCommitted } else { Isolation::ReadUncommitted },
        session_timeout: kafka.session_timeout,
        heartbeat_interval: kafka.heartbeat_interval,
        max_poll_interval: kafka.max_poll_interval,
        fetch_min_bytes: kafka.fetch_min_bytes,
        fetch_max_wait: kafka.fetch_max_wait,
        fetch_max_bytes: kafka.fetch_max_bytes,
        partition_fetch_bytes: kafka.max_partition_fetch_bytes,
        connect_timeout: kafka.connect_timeout,
        request_timeout: kafka.request_timeout,
        memory: Arc::clone(&config.memory),
        ..NativeOptions::new(kafka.bootstrap_servers.clone(), kafka.group_id.clone(), topics)
    };
    match NativeSource::connect(options) {
        Ok(source) => Ok(Box::new(source)),
        Err(error) if error.is_unavailable() => Err(Failure::new(Exit::Unavailable, error.to_string())),
        Err(error) => Err(Failure::new(Exit::Failed, error.to_string())),
    }
}

fn sink(
    settings: &Settings,
    clock: &Arc<dyn Clock>,
    on_closed: Box<dyn FnOnce() + Send>,
) -> Result<Arc<dyn Sink>, Failure> {
    match &settings.sink {
        SinkSettings::Print { json } => {
            let format = if *json { Format::Json } else { Format::Text };
            Ok(Arc::new(PrintSink::new(format, Box::new(io::stdout()), on_closed)))
        }
        SinkSettings::Exec { command } => Ok(Arc::new(ExecSink::new(command.as_str(), None))),
        SinkSettings::Sqlite { path, table } => {
            let mut options = SqliteOptions::new(path, settings.kafka.group_id.as_str(), clock.clone());
            options.table.clone_from(table);
            options.exactly_once = settings.delivery == Delivery::ExactlyOnce;
            Ok(Arc::new(SqliteSink::new(options)))
        }
        SinkSettings::None => Err(Failure::new(Exit::Usage, "this command moves no records")),
    }
}
