//! `konekt load`: files through the engine into a database or a topic.

use std::io::IsTerminal;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam::channel::{RecvTimeoutError, bounded};

use super::admin::{connect, failure};
use super::exit::{self, Exit, Failure};
use super::report::{bar, grouped};
use super::{data, run, signals};
use crate::config::{Resolved, Settings, SinkSettings};
use crate::consumer::{ConsumerConfig, ConsumerError};
use crate::door::{self, SystemClock};
use crate::engine::{Callbacks, Engine, Handle, Summary};
use crate::kafka::producer::ProducerOptions;
use crate::ops::load::checkpoint::Checkpoint;
use crate::ops::load::rejects::{OnError, Rejects};
use crate::port::{Clock, DeadLetters, MemoryBudget, Sink};
use crate::sink::dead_letter::FileLetters;
use crate::sink::kafka::KafkaSink;
use crate::sink::null::NullSink;
use crate::source::files::{CountedFile, FileSource, NoPositions, Parser, Positions, count};

/// How often the progress bar moves.
const TICK: Duration = Duration::from_millis(100);
/// Positions that no database keeps are kept that often, in milliseconds: what a crash makes it send again.
const CHECKPOINT_INTERVAL_MS: u64 = 500;

/// Counts, loads, and says what came of it.
pub fn run(resolved: &Resolved, settings: &Settings) -> Result<(), Failure> {
    let started = door::now();
    let key = resolved.text("key");
    if !key.is_empty() && !key.starts_with('/') {
        return Err(Failure::new(Exit::Usage, format!("--key {key}: a JSON pointer begins with /")));
    }
    signals::listen()?;
    let files = count(&data::files(resolved)?).map_err(|message| Failure::new(Exit::Failed, message))?;
    let rejects = Rejects::open(policy(resolved)).map_err(|message| Failure::new(Exit::Failed, message))?;
    let rejects = Arc::new(rejects);
    let (sink, positions) = target(resolved, settings, &files)?;
    let config = ConsumerConfig {
        until_end: true,
        commit_interval_ms: CHECKPOINT_INTERVAL_MS,
        // A file is read the same each time: what cannot be parsed will not be the second time.
        max_retries: 0,
        ..settings.consumer.clone()
    };
    let kept = Arc::clone(&rejects);
    let parser =
        Parser { key: Some(key).filter(|key| !key.is_empty()), on_bad: Box::new(move |file, bad| kept.put(file, bad)) };
    let summary = move_documents(&config, files, parser, positions, sink);
    conclude(summary, resolved, &rejects, started)
}

fn policy(resolved: &Resolved) -> OnError {
    match resolved.text("on_error").as_str() {
        "stop" => OnError::Stop,
        _ if resolved.switch("dry_run") => OnError::Count,
        _ => OnError::Keep(resolved.text("rejects").into()),
    }
}

/// Where documents go, and who keeps how far they are.
type Target = (Arc<dyn Sink>, Box<dyn Positions>);

fn target(resolved: &Resolved, settings: &Settings, files: &[CountedFile]) -> Result<Target, Failure> {
    if resolved.switch("dry_run") {
        return Ok((Arc::new(NullSink::default()), Box::new(NoPositions)));
    }
    let sink = match settings.sink {
        SinkSettings::None => topic(resolved, settings)?,
        _ => run::sink(settings, Box::new(|| {}))?,
    };
    let traits = sink.traits();
    if traits.transactional {
        return Ok((sink, Box::new(NoPositions)));
    }
    let checkpoint = Checkpoint::open(Path::new(&resolved.text("checkpoint")), &traits.name, files);
    Ok((sink, Box::new(checkpoint.map_err(|message| Failure::new(Exit::Failed, message))?)))
}

fn topic(resolved: &Resolved, settings: &Settings) -> Result<Arc<dyn Sink>, Failure> {
    let topic = resolved.text("load_topic");
    if topic.is_empty() {
        return Err(Failure::new(Exit::Usage, "--to kafka needs a --topic"));
    }
    // The word is checked already.
    let compression = resolved.text("compression").parse().unwrap_or_default();
    let sink = KafkaSink::new(
        connect(settings)?,
        topic.as_str(),
        ProducerOptions { compression, ..ProducerOptions::default() },
    );
    if !sink.topic_exists().map_err(failure)? {
        let message = format!("there is no topic {topic}: `konekt admin topic create {topic}` makes it");
        return Err(Failure::new(Exit::Failed, message));
    }
    Ok(Arc::new(sink))
}

fn move_documents(
    config: &ConsumerConfig,
    files: Vec<CountedFile>,
    parser: Parser,
    positions: Box<dyn Positions>,
    sink: Arc<dyn Sink>,
) -> Result<Summary, ConsumerError> {
    let lines: i64 = files.iter().map(|file| file.end - 1).sum();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::start());
    let letters = config.dead_letter_file.as_ref().map(|path| {
        let letters = FileLetters::new(path, &config.group_id, Arc::clone(&clock));
        letters.check().map(|()| Arc::new(letters) as Arc<dyn DeadLetters>)
    });
    let letters = letters.transpose().map_err(|error| ConsumerError::DeadLetters(error.message))?;
    let memory = MemoryBudget::new(config.memory_limit);
    let source = FileSource::new(files, parser, positions, Arc::clone(&memory));
    let engine = Engine::start(config.engine(memory, letters), Box::new(source), sink, clock, Callbacks::default());
    let handle = engine.handle();
    signals::steer(&handle);
    let (ended, end) = bounded::<()>(0);
    let ticker = door::spawn("konekt-progress", move || {
        let bar = bar("loading", lines as u64);
        while end.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
            if std::io::stderr().is_terminal() {
                bar.set_position((lines as u64).saturating_sub(lines_left(&handle, lines)));
            }
        }
        bar.finish_and_clear();
    });
    let result = engine.join();
    drop(ended);
    if ticker.join().is_err() {
        log::warn!("the progress bar's thread panicked");
    }
    Ok(result?)
}

/// Until the files are assigned nothing is known to be left.
fn lines_left(handle: &Handle, lines: i64) -> u64 {
    let statistics = handle.stats();
    if statistics.partitions_assigned == 0 { lines as u64 } else { statistics.lag_records }
}

fn conclude(
    result: Result<Summary, ConsumerError>,
    resolved: &Resolved,
    rejects: &Rejects,
    started: Instant,
) -> Result<(), Failure> {
    let bad = rejects.count();
    rejects.named().iter().for_each(|named| exit::say(format_args!("konekt: {named}")));
    if let Ok(summary) = &result {
        let statistics = &summary.statistics;
        let seconds = (door::now() - started).as_secs_f64();
        let verb = if resolved.switch("dry_run") { "would be loaded" } else { "loaded" };
        exit::say(format_args!(
            "konekt: {} documents {verb} in {seconds:.1} s ({}/s), {} were there already, {} bad, {} dead letters",
            grouped(statistics.records_written - statistics.records_repeated),
            grouped((statistics.records_written as f64 / seconds.max(0.001)).round() as u64),
            grouped(statistics.records_repeated),
            grouped(bad),
            grouped(statistics.dead_lettered),
        ));
    }
    run::conclude(result)?;
    match policy(resolved) {
        _ if bad == 0 => Ok(()),
        OnError::Keep(path) => {
            Err(Failure::new(Exit::Failed, format!("not every document is loaded: see {}", path.display())))
        }
        _ => Err(Failure::new(Exit::Failed, "not every document is good")),
    }
}
