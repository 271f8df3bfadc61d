//! The threads of a consumer: each with a name, ended within a limit of time, and never gone without a word.

use std::thread::JoinHandle;
use std::time::Instant;

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded};

use super::events::{Event, Reporter};
use crate::door;
use crate::kafka::error::Error;

/// The consumer's threads. One that panics is reported as [`Event::Failed`].
pub(super) struct Threads {
    handles: Vec<JoinHandle<()>>,
    reporter: Reporter,
    /// Each thread holds a clone; when all are gone, the channel is closed.
    alive: Sender<()>,
    ended: Receiver<()>,
}

impl Threads {
    pub(super) fn new(reporter: Reporter) -> Self {
        let (alive, ended) = bounded(0);
        Self { handles: Vec::new(), reporter, alive, ended }
    }

    pub(super) fn spawn(&mut self, name: &'static str, body: impl FnOnce() + Send + 'static) {
        let (guard, alive) = (PanicGuard::new(name, self.reporter.clone()), self.alive.clone());
        self.handles.push(door::spawn(name, move || {
            let _alive = alive;
            let _guard = guard;
            body();
        }));
    }

    pub(super) fn join(&mut self, until: Instant) -> Result<(), Error> {
        self.alive = bounded(0).0;
        let left = until.saturating_duration_since(door::now());
        if self.ended.recv_timeout(left) == Err(RecvTimeoutError::Timeout) {
            let busy = self.handles.iter().filter(|handle| !handle.is_finished());
            let names: Vec<&str> = busy.filter_map(|handle| handle.thread().name()).collect();
            return Err(Error::Invalid(format!("threads {} did not end in time", names.join(", "))));
        }
        let panicked = std::mem::take(&mut self.handles).into_iter().filter_map(|handle| handle.join().err()).count();
        if panicked > 0 {
            return Err(Error::Invalid(format!("{panicked} threads of the consumer panicked; see the log")));
        }
        Ok(())
    }
}

/// Reports the panic of the thread that holds it.
pub(in crate::kafka) struct PanicGuard {
    thread: String,
    reporter: Reporter,
}

impl PanicGuard {
    pub(in crate::kafka) fn new(thread: impl Into<String>, reporter: Reporter) -> Self {
        Self { thread: thread.into(), reporter }
    }
}

impl Drop for PanicGuard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let text = format!("thread {} panicked: this is a bug, please report it with the log", self.thread);
            self.reporter.send(Event::Failed(Error::Invalid(text)));
        }
    }
}
