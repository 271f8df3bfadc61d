//! One run of a bench, in the process that was started for it: a job comes in as JSON, its measurement goes out.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crossbeam::channel::{Receiver, RecvTimeoutError, bounded, select};

use crate::cli::exit::{self, Exit, Failure};
use crate::cli::{odbc, run};
use crate::config::{Settings, SinkSettings};
use crate::consumer::{Consumer, ConsumerConfig};
use crate::core::tally;
use crate::door;
use crate::engine::{Delivery, Handle};
use crate::ops::bench::timed::{TimedSink, Times};
use crate::ops::bench::{Contender, Job, Measurement, Phase, Subject, ceiling, decode, topics, write};
use crate::port::Sink;
use crate::source::native::TopicSelection;

/// Does the job that `text` describes, and prints the measurement as one line of JSON.
pub fn run(text: &str, settings: &Settings) -> Result<(), Failure> {
    let job: Job =
        serde_json::from_str(text).map_err(|error| Failure::new(Exit::Usage, format!("--measure: {error}")))?;
    let measurement = match (job.subject, job.contender) {
        (Subject::Decode, _) => {
            let codec = job.codec.parse().map_err(|error| Failure::new(Exit::Usage, format!("--measure: {error}")))?;
            decode::run(&job, codec).map_err(|error| Failure::new(Exit::Failed, error))?
        }
        (_, Contender::Ceiling) => bare(&job, settings)?,
        (Subject::Sink, Contender::Konekt) => {
            write::run(&job, sink(&job, settings)?).map_err(|error| Failure::new(Exit::Failed, error))?
        }
        (Subject::Consume | Subject::EndToEnd, Contender::Konekt) => consume(&job, settings)?,
    };
    exit::put_json(&measurement)
}

/// The sink of the settings, with the job's table or file and as many connections as workers.
fn sink(job: &Job, settings: &Settings) -> Result<Arc<dyn Sink>, Failure> {
    let mut settings = settings.clone();
    settings.consumer.group_id.clone_from(&job.group);
    match &mut settings.sink {
        SinkSettings::Sqlite { path, .. } => *path = job.place.clone().into(),
        SinkSettings::Odbc(odbc) => {
            odbc.table.clone_from(&job.place);
            odbc.pool_size = job.setting.workers;
        }
        _ => {}
    }
    run::sink(&settings, Box::new(|| {}))
}

/// The bare loop into tables that the sink has made.
fn bare(job: &Job, settings: &Settings) -> Result<Measurement, Failure> {
    drop(sink(job, settings)?);
    match &settings.sink {
        SinkSettings::Sqlite { .. } => {
            ceiling::sqlite(job, Path::new(&job.place)).map_err(|error| Failure::new(Exit::Failed, error))
        }
        SinkSettings::Odbc(login) => odbc::ceiling(job, login, &settings.consumer),
        _ => Err(Failure::new(Exit::Usage, "--measure: this sink has no bare loop")),
    }
}

/// The engine from the job's topic into the sink, until the end of the topic or of the time.
fn consume(job: &Job, settings: &Settings) -> Result<Measurement, Failure> {
    let sink = sink(job, settings)?;
    let config = ConsumerConfig {
        bootstrap_servers: job.bootstrap_servers.clone(),
        group_id: job.group.clone(),
        // Not as a member of a group: joining one takes seconds on a real cluster, and is not what is measured.
        topics: TopicSelection::Partitions(topics::partitions(&job.topic, job.setting.partitions)),
        delivery: if sink.traits().transactional { Delivery::ExactlyOnce } else { Delivery::AtLeastOnce },
        max_workers: job.setting.workers,
        batch_size: job.setting.batch_size,
        until_end: true,
        ..settings.consumer.clone()
    };
    let (times, begun) = Times::new();
    let sink = Arc::new(TimedSink::new(sink, times.clone()));
    let running = Consumer::builder(config).sink(sink).start().map_err(run::failure)?;
    let (ended, end) = bounded::<()>(0);
    let (handle, time) = (running.handle(), Duration::from_secs_f64(job.seconds));
    let timer = door::spawn("konekt-bench-timer", move || stop_in_time(&begun, &end, time, &handle));
    let result = running.join();
    drop(ended);
    timer.join().map_err(|_| Failure::new(Exit::Failed, "the timer's thread panicked"))?;
    let mut measurement = times.measurement("write");
    if let Ok(summary) = &result {
        let distributions = &summary.statistics.distributions;
        let counted = |part: &tally::Phase| distributions.phase(*part).count() > 0;
        measurement.phases.extend(
            tally::Phase::ALL
                .into_iter()
                .filter(counted)
                .map(|part| (part.name().to_owned(), Phase::of_histogram(distributions.phase(part)))),
        );
    }
    run::conclude(result)?;
    Ok(measurement)
}

/// Stops the run when `time` has passed since the first write, unless it has ended by then.
fn stop_in_time(begun: &Receiver<()>, end: &Receiver<()>, time: Duration, handle: &Handle) {
    select! {
        recv(begun) -> _ => {}
        recv(end) -> _ => return,
    }
    if end.recv_timeout(time) == Err(RecvTimeoutError::Timeout) {
        handle.stop();
    }
}
