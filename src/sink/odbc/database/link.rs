//! A connection behind a thread of its own, and the caller's patience with it.
//!
//! A driver may not come back: a query time-out of Microsoft's driver was seen to return after two minutes, psqlodbc's
//! is the server's, MariaDB's ignores it. So the connection lives on a thread that does one job after another, jobs own
//! what they need, and the caller waits for the answer only so long. Then the thread is left behind with its
//! connection; [`Abandoned`] counts those that have not come back since, and the pool refuses to leave behind more than
//! its limit. Whether the last job was carried out is then unknown, and only the position row tells.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded};

use super::fault::Fault;
use super::session::{Greeting, Session};
use crate::door;
use crate::sink::odbc::sqlstate::System;

/// How long a connection may take to close before it is left behind.
const CLOSE_WAIT: Duration = Duration::from_secs(2);

type Job = Box<dyn FnOnce(&mut Session<'_>) + Send>;

/// How to connect.
#[derive(Clone)]
pub struct Target {
    pub connection_string: String,
    /// The driver's name and file, in lower case; empty when a data source names it.
    pub driver: String,
    pub connection_timeout: Duration,
    pub query_timeout: Duration,
    /// The database, where the driver is not to be asked.
    pub system: Option<System>,
}

/// How many connections were left behind and have not come back.
#[derive(Clone, Default)]
pub struct Abandoned(Arc<AtomicUsize>);

impl Abandoned {
    pub fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// An open connection. Dropping it closes the connection.
pub struct Link {
    /// `None` once it was given up.
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    /// Disconnected when the thread has ended.
    ended: Receiver<()>,
    fate: Arc<AtomicBool>,
    abandoned: Abandoned,
    pub opened: Instant,
    /// Whether it is to be closed after what it does now.
    worn_out: bool,
}

impl Link {
    /// Connects.
    pub fn open(target: &Arc<Target>, abandoned: &Abandoned, number: usize) -> Result<(Self, Greeting), Fault> {
        let (jobs, queue) = bounded::<Job>(1);
        let (alive, ended) = bounded::<()>(0);
        let (greet, greeting) = bounded(1);
        let fate = Arc::new(AtomicBool::new(false));
        let ending = Ending { fate: Arc::clone(&fate), abandoned: abandoned.clone() };
        let on_thread = Arc::clone(target);
        let thread = door::spawn(format!("konekt-odbc-{number}"), move || {
            let _ending = (ending, alive);
            // A driver that panics ends its connection, not the program.
            let _ = catch_unwind(AssertUnwindSafe(|| live(&on_thread, &greet, &queue)));
        });
        let mut link = Self {
            jobs: Some(jobs),
            thread: Some(thread),
            ended,
            fate,
            abandoned: abandoned.clone(),
            opened: door::now(),
            worn_out: false,
        };
        // The driver's own time-out has the first word; it knows the reason.
        let greeting = link.wait(&greeting, target.connection_timeout + Duration::from_secs(5))??;
        Ok((link, greeting))
    }

    /// Does `job` on the connection's thread and waits for it.
    ///
    /// # Errors
    /// The job's own fault, or that it did not come back within `patience`: then the connection is given up.
    pub fn call<T: Send + 'static>(
        &mut self,
        patience: Duration,
        job: impl FnOnce(&mut Session<'_>) -> T + Send + 'static,
    ) -> Result<T, Fault> {
        let (answer, answered) = bounded(1);
        let job: Job = Box::new(move |session| {
            // Nobody waits any more when the link was given up meanwhile.
            let _ = answer.send(job(session));
        });
        let sent = self.jobs.as_ref().is_some_and(|jobs| jobs.send(job).is_ok());
        if !sent {
            self.jobs = None;
            return Err(Fault::Gone);
        }
        self.wait(&answered, patience)
    }

    fn wait<T>(&mut self, answered: &Receiver<T>, patience: Duration) -> Result<T, Fault> {
        match answered.recv_timeout(patience) {
            Ok(answer) => Ok(answer),
            Err(RecvTimeoutError::Timeout) => {
                self.abandon();
                Err(Fault::Silence { waited: patience })
            }
            Err(RecvTimeoutError::Disconnected) => {
                self.jobs = None;
                Err(Fault::Gone)
            }
        }
    }

    /// Whether it may be used again.
    pub fn usable(&self) -> bool {
        self.jobs.is_some() && !self.worn_out
    }

    /// What it does now may be brought to an end; then it is closed.
    pub fn wear_out(&mut self) {
        self.worn_out = true;
    }

    fn abandon(&mut self) {
        self.jobs = None;
        if !self.fate.swap(true, Ordering::AcqRel) {
            self.abandoned.0.fetch_add(1, Ordering::AcqRel);
        }
        // Nobody can join a thread that may never end; it takes its connection along when the driver comes back.
        self.thread = None;
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.jobs = None;
        if self.thread.is_some() {
            match self.ended.recv_timeout(CLOSE_WAIT) {
                Err(RecvTimeoutError::Timeout) => self.abandon(),
                _ => drop(self.thread.take().map(JoinHandle::join)),
            }
        }
    }
}

/// Takes a thread that ends after all off the count of those left behind. Whoever comes first decides: the swap.
struct Ending {
    fate: Arc<AtomicBool>,
    abandoned: Abandoned,
}

impl Drop for Ending {
    fn drop(&mut self) {
        if self.fate.swap(true, Ordering::AcqRel) {
            self.abandoned.0.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

/// The thread's life: connect, greet, do jobs until the queue is closed, disconnect.
fn live(target: &Target, greet: &Sender<Result<Greeting, Fault>>, queue: &Receiver<Job>) {
    let connection = match Session::connect(target) {
        Ok(connection) => connection,
        Err(fault) => return drop(greet.send(Err(fault))),
    };
    match Session::begin(&connection, target) {
        Ok((mut session, greeting)) => {
            if greet.send(Ok(greeting)).is_ok() {
                queue.iter().for_each(|job| job(&mut session));
            }
        }
        Err(fault) => drop(greet.send(Err(fault))),
    }
}
