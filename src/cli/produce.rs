//! `konekt produce`: stdin's lines into a topic. A summary says how many records the brokers have acknowledged, however
//! the run ends.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Sender, bounded, select};
use indicatif::{ProgressBar, ProgressStyle};

use super::admin::{connect, failure};
use super::exit::{self, Exit, Failure};
use super::report::grouped;
use super::signals;
use crate::config::value::Value;
use crate::config::{Resolved, Settings};
use crate::door;
use crate::kafka::producer::{Delivery, Producer, ProducerCounts, ProducerOptions};
use crate::ops::produce::{LineFormat, LineOptions, ProduceError, produce_lines};

/// How often progress is shown.
const TICK: Duration = Duration::from_millis(100);
/// How many bad lines and failed records are named; the others are counted.
const NAMED_MAX: u64 = 20;

/// Reads, sends and waits until everything is acknowledged or given up.
pub fn run(resolved: &Resolved, settings: &Settings) -> Result<(), Failure> {
    let stopped = signals::listen()?;
    let cluster = connect(settings)?;
    let faults = Arc::new(Faults::default());
    let told = Arc::clone(&faults);
    let producer = Producer::reporting(cluster, producer_options(resolved), Box::new(move |of| told.delivery(of)));
    let run = Arc::new(Run { producer, options: line_options(resolved), stop: AtomicBool::new(false), faults });
    let started = door::now();
    let bar = progress();
    let (ended, reading) = bounded(1);
    let reader = Arc::clone(&run);
    // Not joined when a signal ends the run: it may wait on a terminal or a pipe for ever.
    let thread = door::spawn("konekt-stdin", move || reader.read(&ended));
    let failed = run.wait(&reading, &stopped, &bar);
    run.drain(&bar);
    if thread.is_finished() {
        // A panic was reported where it happened, and the channel told that reading ended.
        let _ = thread.join();
    }
    bar.finish_and_clear();
    run.conclude(failed, started)
}

/// What the reading thread and the waiting one share.
struct Run {
    producer: Producer,
    options: LineOptions,
    stop: AtomicBool,
    faults: Arc<Faults>,
}

impl Run {
    fn read(&self, ended: &Sender<Option<ProduceError>>) {
        let refuse = |line: u64, fault: String| self.faults.bad_line(line, &fault);
        let read = produce_lines(io::stdin().lock(), &self.producer, &self.options, &self.stop, refuse);
        // Nobody waits any more after a signal.
        let _ = ended.send(read.err());
    }

    /// Waits for the end of the input or a signal; says why reading failed.
    fn wait(
        &self,
        reading: &Receiver<Option<ProduceError>>,
        stopped: &Receiver<()>,
        bar: &ProgressBar,
    ) -> Option<ProduceError> {
        loop {
            select! {
                recv(reading) -> failed => return failed.ok().flatten(),
                recv(stopped) -> _ => {
                    self.stop.store(true, Ordering::Relaxed);
                    let counts = self.producer.counts();
                    exit::say(format_args!(
                        "konekt: stopping; {} records are acknowledged, {} wait for it (again to abandon them)",
                        grouped(counts.acknowledged),
                        grouped(counts.pending())
                    ));
                    return None;
                }
                default(TICK) => bar.set_position(self.producer.counts().acknowledged),
            }
        }
    }

    /// Each record's delivery time-out bounds this.
    fn drain(&self, bar: &ProgressBar) {
        while self.producer.counts().pending() > 0 {
            // Failures are counted and named by the reports already.
            let _ = self.producer.flush(TICK);
            bar.set_position(self.producer.counts().acknowledged);
        }
    }

    fn conclude(&self, failed: Option<ProduceError>, started: Instant) -> Result<(), Failure> {
        let ProducerCounts { acknowledged, failed: undelivered, .. } = self.producer.counts();
        let bad_lines = self.faults.bad_lines.load(Ordering::Relaxed);
        let seconds = (door::now() - started).as_secs_f64();
        exit::say(format_args!(
            "konekt: {} records acknowledged in {seconds:.1} s ({}/s), {} not delivered, {} bad lines",
            grouped(acknowledged),
            grouped((acknowledged as f64 / seconds.max(0.001)).round() as u64),
            grouped(undelivered),
            grouped(bad_lines),
        ));
        match failed {
            Some(ProduceError::Kafka { source, line }) => {
                let exit = failure(source.clone()).exit;
                Err(Failure::new(exit, ProduceError::Kafka { line, source }))
            }
            Some(error) => Err(Failure::new(Exit::Failed, error)),
            None if undelivered + bad_lines > 0 => Err(Failure::new(Exit::Failed, "not every line is in the topic")),
            None => Ok(()),
        }
    }
}

/// Names the first bad lines and undelivered records on stderr, and counts the lines.
#[derive(Default)]
struct Faults {
    bad_lines: AtomicU64,
    undelivered: AtomicU64,
}

impl Faults {
    fn bad_line(&self, line: u64, fault: &str) {
        name(&self.bad_lines, || format!("konekt: line {line}: {fault}"));
    }

    fn delivery(&self, delivery: &Delivery) {
        let Err(error) = &delivery.result else { return };
        for line in &delivery.tags {
            name(&self.undelivered, || format!("konekt: line {line} is not delivered: {error}"));
        }
    }
}

fn name(count: &AtomicU64, text: impl FnOnce() -> String) {
    match count.fetch_add(1, Ordering::Relaxed) {
        ..NAMED_MAX => exit::say(text()),
        NAMED_MAX => exit::say("konekt: further ones are only counted"),
        _ => {}
    }
}

fn producer_options(resolved: &Resolved) -> ProducerOptions {
    ProducerOptions {
        // The words are checked already.
        compression: resolved.text("compression").parse().unwrap_or_default(),
        linger: Duration::from_millis(resolved.number("linger_ms")),
        delivery_timeout: Duration::from_millis(resolved.number("delivery_timeout_ms")),
        ..ProducerOptions::default()
    }
}

fn line_options(resolved: &Resolved) -> LineOptions {
    let headers = match resolved.value("header") {
        Some(Value::Pairs(pairs)) => pairs,
        _ => Vec::new(),
    };
    let partition = match resolved.value("produce_partition") {
        Some(Value::Number(number)) => i32::try_from(number).ok(),
        _ => None,
    };
    LineOptions {
        topic: resolved.text("produce_topic").into(),
        partition,
        headers: headers.into_iter().map(|(name, value)| (name.into_bytes(), Some(value.into_bytes()))).collect(),
        format: match resolved.text("input_format").as_str() {
            "json" => LineFormat::Json,
            _ => LineFormat::Text {
                key_separator: Some(resolved.text("key_separator").into_bytes()).filter(|text| !text.is_empty()),
                empty_is_null: resolved.switch("empty_is_null"),
            },
        },
    }
}

/// A count on stderr; indicatif shows it only on a terminal.
fn progress() -> ProgressBar {
    let bar = ProgressBar::no_length();
    match ProgressStyle::with_template("{human_pos} records acknowledged {per_sec}") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
