//! The run: from the kept place, or a copy, through the stream, until it is stopped or cannot go on.

use std::time::{Duration, Instant};

use mongodb::bson::{Document, RawDocumentBuf, Timestamp, doc};
use mongodb::error::Error;
use mongodb::sync::{ChangeStream, Client};

use super::copy::{events, namespaces};
use super::event::EventRecord;
use super::publish::Publisher;
use super::state::{Place, Store};
use super::stream::{AWAIT, From, PreImages, TOO_LARGE, fault, open, token_text};
use super::{BeforeChange, FaultKind, OnLost, SourceFault, SourceOptions, Startup};
use crate::core::backoff::Schedule;
use crate::core::civil::utc_text;
use crate::door;
use crate::kafka::cluster::Cluster;
use crate::kafka::producer::ProducerOptions;
use crate::mongo::error::Said;

/// How long to wait after a failure that may pass.
const WAITS: Schedule = Schedule::new(Duration::from_millis(200), Duration::from_secs(10));

/// What a run that was stopped has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// Documents of the initial copy.
    pub copied: u64,
    /// Events of the stream.
    pub events: u64,
    /// Records sent for them; less where events are left out.
    pub records: u64,
}

/// Publishes until `stop` says so. What may pass is tried again for as long as it takes.
///
/// # Errors
/// What a person has to mend: a setting, a right, a place that is lost ([`OnLost::Fail`]).
pub fn run(
    options: &SourceOptions,
    cluster: &Cluster,
    producer: &ProducerOptions,
    store: &Store,
    stop: &mut dyn FnMut() -> bool,
) -> Result<Ended, SourceFault> {
    let client = options.deployment.client().map_err(|said| SourceFault::new(FaultKind::Settings, said.text()))?;
    let saved = store.load(cluster).map_err(|words| SourceFault::new(FaultKind::Failed, words))?;
    let mut run = Run {
        options,
        client,
        store,
        publisher: Publisher::new(cluster, producer),
        startup: options.startup,
        current: saved.clone(),
        saved,
        pre_images: PreImages::With,
        ended: Ended::default(),
        saved_at: door::now(),
        heard_at: door::now(),
        told_at: door::now(),
    };
    let (mut failures, mut losses) = (0, 0);
    loop {
        let events_before = run.ended.events;
        let fault = match run.attempt(stop) {
            Ok(Next::Stopped) => return Ok(run.ended),
            Ok(Next::OpenAgain) => continue,
            Err(fault) => fault,
        };
        if run.ended.events > events_before {
            (failures, losses) = (0, 0);
        }
        match fault.kind {
            FaultKind::Passing => {
                failures += 1;
                log::warn!("{fault}; it is tried again");
                // What was sent and not acknowledged is gone with its producer, and comes again.
                run.publisher = Publisher::new(cluster, producer);
                run.current.clone_from(&run.saved);
                if wait(WAITS.wait(failures, door::random()), stop) {
                    return Ok(run.ended);
                }
            }
            FaultKind::Lost if losses > 0 && losses >= options.on_lost.tries_max() => return Err(lost_again(&fault)),
            FaultKind::Lost => {
                if losses > 0 && wait(WAITS.wait(losses, door::random()), stop) {
                    return Ok(run.ended);
                }
                losses += 1;
                run.lost(&fault)?;
            }
            FaultKind::Settings | FaultKind::Failed => return Err(fault),
        }
    }
}

/// Before anything came the place was lost as often as one may try.
fn lost_again(fault: &SourceFault) -> SourceFault {
    let words = format!(
        "{fault}; it is lost again before anything came: the oplog is too small for what is written. Make it larger \
         (replSetResizeOplog), or go on with --on-lost now"
    );
    SourceFault::new(FaultKind::Lost, words)
}

/// Waits, unless it is stopped meanwhile.
fn wait(duration: Duration, stop: &mut dyn FnMut() -> bool) -> bool {
    let until = door::now() + duration;
    while door::now() < until {
        if stop() {
            return true;
        }
        door::sleep(Duration::from_millis(50).min(duration));
    }
    stop()
}

/// What follows an attempt that did not fail.
enum Next {
    Stopped,
    OpenAgain,
}

struct Run<'a> {
    options: &'a SourceOptions,
    client: Client,
    store: &'a Store,
    publisher: Publisher,
    /// Where to start without a place.
    startup: Startup,
    /// Behind the last event that was handed to the producer.
    current: Option<Place>,
    /// The last place that was kept.
    saved: Option<Place>,
    pre_images: PreImages,
    ended: Ended,
    saved_at: Instant,
    /// When something was sent last, a heartbeat included.
    heard_at: Instant,
    told_at: Instant,
}

impl Run<'_> {
    /// Streams until it is stopped or something fails.
    fn attempt(&mut self, stop: &mut dyn FnMut() -> bool) -> Result<Next, SourceFault> {
        let copies = match &self.current {
            Some(place) => place.copying,
            None => self.startup == Startup::CopyExisting,
        };
        if copies && !self.copy(stop)? {
            return Ok(Next::Stopped);
        }
        let from = match (&self.current, self.startup) {
            (Some(place), _) => From::Token(place.token.clone()),
            (None, Startup::Timestamp(at)) => From::Time(at),
            (None, _) => From::Now,
        };
        let mut stream = match self.open(&from) {
            Err(error) if self.is_too_large(&error) => return self.too_large(),
            stream => stream.map_err(|error| self.unwatched(&error))?,
        };
        self.note(&stream);
        self.save()?;
        log::info!("watching {}", self.subject());
        while !stop() {
            let next = match stream.next_if_any() {
                Err(error) if self.is_too_large(&error) => return self.too_large(),
                next => next.map_err(|error| self.unwatched(&error))?,
            };
            self.note(&stream);
            match next {
                Some(event) => {
                    self.publish(&event)?;
                    if self.pre_images == PreImages::Without {
                        self.pre_images = PreImages::With;
                        return Ok(Next::OpenAgain);
                    }
                }
                None if !stream.is_alive() => return self.invalidated(),
                None => {}
            }
            self.keep_up()?;
        }
        self.save()?;
        Ok(Next::Stopped)
    }

    fn open(&self, from: &From) -> Result<ChangeStream<RawDocumentBuf>, Error> {
        open(&self.client, self.options, from, self.pre_images)
    }

    fn unwatched(&self, error: &Error) -> SourceFault {
        fault(self.options, &format!("watch {}", self.subject()), error)
    }

    /// Publishes what is there; the stream's place is kept before, so that nothing is missed. False: it was stopped.
    fn copy(&mut self, stop: &mut dyn FnMut() -> bool) -> Result<bool, SourceFault> {
        let stream = self.open(&From::Now).map_err(|error| self.unwatched(&error))?;
        let Some(token) = stream.resume_token().as_ref().and_then(token_text) else {
            return Err(SourceFault::new(FaultKind::Failed, "the server gives no place to go on from after a copy"));
        };
        drop(stream);
        // A copy that was broken off begins anew, and so does what follows it: where the first one did it may be lost.
        self.current = Some(Place { token, copying: true });
        self.save()?;
        let failed = |options: &SourceOptions, error| fault(options, "copy what is there", &error);
        let namespaces = namespaces(&self.client, self.options).map_err(|error| failed(self.options, error))?;
        for namespace in &namespaces {
            log::info!("copying {}.{}", namespace.0, namespace.1);
            let documents = events(&self.client, self.options, namespace);
            for event in documents.map_err(|error| failed(self.options, error))? {
                self.send(&event.map_err(|error| failed(self.options, error))?)?;
                self.ended.copied += 1;
                if stop() {
                    self.publisher.flush()?;
                    return Ok(false);
                }
            }
        }
        self.current.iter_mut().for_each(|place| place.copying = false);
        self.save()?;
        log::info!("copied {} documents", self.ended.copied);
        Ok(true)
    }

    fn publish(&mut self, event: &RawDocumentBuf) -> Result<(), SourceFault> {
        self.ended.events += 1;
        // The connector leaves it out as well: what happened was told by the event before.
        if event.get_str("operationType").is_ok_and(|kind| kind == "invalidate") {
            return Ok(());
        }
        self.send(event)
    }

    fn send(&mut self, event: &RawDocumentBuf) -> Result<(), SourceFault> {
        let record = self.options.format.record(event);
        let record = record.map_err(|error| SourceFault::new(FaultKind::Settings, error.to_string()))?;
        if let Some(record) = record {
            self.publisher.send(&record)?;
            self.ended.records += 1;
            self.heard_at = door::now();
        }
        Ok(())
    }

    /// Notes how far the stream is.
    fn note(&mut self, stream: &ChangeStream<RawDocumentBuf>) {
        if let Some(token) = stream.resume_token().as_ref().and_then(token_text) {
            self.current = Some(Place { token, copying: false });
        }
    }

    /// Keeps the place, shows life and tells how far it is, when it is time for it.
    fn keep_up(&mut self) -> Result<(), SourceFault> {
        let (now, options) = (door::now(), self.options);
        if now - self.saved_at >= options.save_interval {
            self.save()?;
        }
        let quiet = options.heartbeat_interval;
        if !quiet.is_zero() && now - self.heard_at >= quiet {
            self.heartbeat()?;
        }
        if now - self.told_at >= options.report_interval {
            self.told_at = now;
            let Ended { events, records, .. } = self.ended;
            let behind = self.current.as_ref().and_then(Place::unix_seconds).map(|at| door::unix_ms() / 1000 - at);
            log::info!("{events} events, {records} records sent, {} s behind", behind.unwrap_or_default().max(0));
        }
        Ok(())
    }

    fn heartbeat(&mut self) -> Result<(), SourceFault> {
        let Some(place) = &self.current else { return Ok(()) };
        let key = self.options.format.formatter.owned(&doc! { "_data": &place.token });
        let key = key.map_err(|error| SourceFault::new(FaultKind::Failed, error.to_string()))?;
        let topic = self.options.heartbeat_topic.clone();
        self.publisher.send(&EventRecord { topic, key, value: None, timestamp_ms: None })?;
        self.heard_at = door::now();
        Ok(())
    }

    fn save(&mut self) -> Result<(), SourceFault> {
        self.saved_at = door::now();
        if self.current != self.saved
            && let Some(place) = &self.current
        {
            self.publisher.save(self.store, place)?;
            self.saved.clone_from(&self.current);
        }
        Ok(())
    }

    fn is_too_large(&self, error: &Error) -> bool {
        let wanted = self.options.full_document_before_change != BeforeChange::Off;
        wanted && self.pre_images != PreImages::Without && Said::of(error).code == Some(TOO_LARGE)
    }

    /// First the events before it are published one by one, so that only the one that is too large loses anything.
    fn too_large(&mut self) -> Result<Next, SourceFault> {
        self.save()?;
        self.pre_images = match self.pre_images {
            PreImages::With => PreImages::OneByOne,
            PreImages::OneByOne | PreImages::Without => {
                log::warn!(
                    "an event is larger than 16 MiB with the document before the change: it is published without that"
                );
                PreImages::Without
            }
        };
        Ok(Next::OpenAgain)
    }

    fn invalidated(&mut self) -> Result<Next, SourceFault> {
        self.save()?;
        log::warn!(
            "{} was dropped or renamed, which ends its change stream; what happens in one of that name from now on is \
             published",
            self.subject()
        );
        Ok(Next::OpenAgain)
    }

    /// Goes on behind a gap, where the settings say so.
    fn lost(&mut self, fault: &SourceFault) -> Result<(), SourceFault> {
        let since = match (self.current.as_ref().and_then(Place::unix_seconds), self.startup) {
            (Some(seconds), _) => format!("{} (UTC)", utc_text(seconds * 1000)),
            (None, Startup::Timestamp(at)) => format!("{} (UTC)", utc_text(i64::from(at.time) * 1000)),
            (None, _) => "its start".to_owned(),
        };
        let (startup, follows) = match self.options.on_lost {
            OnLost::Fail => {
                let words = format!(
                    "{fault}; the stream's place of {since} is lost, and with it what happened since. Say how to go on with \
                     --on-lost: copy (everything again), now, or timestamp (from the oldest that the oplog has); and make \
                     the oplog larger: replSetResizeOplog"
                );
                return Err(SourceFault::new(FaultKind::Lost, words));
            }
            OnLost::Now => (Startup::Latest, "what happened until now is missing".to_owned()),
            OnLost::Copy => {
                (Startup::CopyExisting, "everything is copied again; deletions until now are missing".to_owned())
            }
            OnLost::Timestamp => {
                let oldest = self.oldest()?;
                let first = utc_text(i64::from(oldest.time) * 1000);
                (Startup::Timestamp(oldest), format!("what happened until {first} (UTC) is missing"))
            }
        };
        log::error!("{fault}; the stream's place of {since} is lost: {follows}");
        (self.startup, self.current, self.saved) = (startup, None, None);
        Ok(())
    }

    /// The oldest entry of the oplog. It may be gone a moment later: MongoDB cuts off what is too much in bursts, long
    /// after it was written.
    fn oldest(&self) -> Result<Timestamp, SourceFault> {
        let oplog = self.client.database("local").collection::<Document>("oplog.rs");
        let first = oplog.find_one(doc! {}).sort(doc! { "$natural": 1 }).max_time(AWAIT * 20).run();
        let first = first.map_err(|error| fault(self.options, "read the oplog's start", &error))?;
        let time = first.and_then(|entry| entry.get_timestamp("ts").ok());
        time.ok_or_else(|| SourceFault::new(FaultKind::Failed, "the oplog is empty: use --on-lost now or copy"))
    }

    fn subject(&self) -> String {
        match (&self.options.database, &self.options.collection) {
            (Some(database), Some(collection)) => format!("the collection {database}.{collection}"),
            (Some(database), None) => format!("the database {database}"),
            _ => "the whole deployment".to_owned(),
        }
    }
}
