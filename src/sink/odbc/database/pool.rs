//! Connections, shared by all workers: made when needed up to a number, checked when taken after idling, replaced when
//! old, closed after an error.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

use super::fault::Fault;
use super::link::{Abandoned, Link, Target};
use super::session::Greeting;
use crate::core::statistics::PoolStatistics;
use crate::core::verdict::ErrorClass;
use crate::door;

/// Idle so long, a connection is asked whether it is still there: firewalls forget connections without telling.
const CHECK_AFTER_IDLE: Duration = Duration::from_secs(30);
/// So old, a connection is replaced: servers and balancers move, and drivers leak.
const AGE_MAX: Duration = Duration::from_secs(30 * 60);
/// What the pool may do.
#[derive(Clone, Copy, Debug)]
pub struct PoolLimits {
    /// Connections open at the same time, not counting those left behind.
    pub connections: usize,
    /// Connections left behind at the same time.
    pub abandoned: usize,
}

/// See the module.
pub struct Pool {
    target: Arc<Target>,
    limits: PoolLimits,
    state: Mutex<State>,
    freed: Condvar,
    heavy: Mutex<()>,
    abandoned: Abandoned,
    numbers: AtomicUsize,
    taken: AtomicU64,
    waited_us: AtomicU64,
}

#[derive(Default)]
struct State {
    /// Since when; `None` where it must be checked before it is used.
    idle: Vec<(Link, Option<Instant>)>,
    /// Idle and taken ones together.
    open: usize,
}

impl Pool {
    /// A pool without connections.
    pub fn new(target: Target, limits: PoolLimits) -> Self {
        Self {
            target: Arc::new(target),
            limits,
            state: Mutex::new(State::default()),
            freed: Condvar::new(),
            heavy: Mutex::new(()),
            abandoned: Abandoned::default(),
            numbers: AtomicUsize::new(0),
            taken: AtomicU64::new(0),
            waited_us: AtomicU64::new(0),
        }
    }

    /// The driver's name and file, in lower case.
    pub fn driver(&self) -> &str {
        &self.target.driver
    }

    /// How long to wait for the answer to a statement: the database's and the driver's own time-outs have the first
    /// word, since they know the reason.
    pub fn patience(&self) -> Duration {
        self.target.query_timeout + Duration::from_secs(5)
    }

    /// A connection; waits for one when all are taken. A new one comes with its greeting.
    pub fn take(&self) -> Result<(Pooled<'_>, Option<Greeting>), Fault> {
        let begun = door::now();
        // Each holder gives its connection back within a few time-outs; longer than this, something is stuck.
        let deadline = begun + self.target.connection_timeout + 4 * self.patience();
        let taken = loop {
            match self.idle_or_slot(deadline)? {
                Some((link, idle_since)) => {
                    let mut pooled = Pooled { pool: self, link: Some(link) };
                    if self.is_good(&mut pooled, idle_since) {
                        break (pooled, None);
                    }
                    pooled.close();
                }
                None => break self.open()?,
            }
        };
        self.taken.fetch_add(1, Ordering::Relaxed);
        self.waited_us.fetch_add(begun.elapsed().as_micros() as u64, Ordering::Relaxed);
        Ok(taken)
    }

    /// An idle connection, or `None` with the right to open one.
    fn idle_or_slot(&self, deadline: Instant) -> Result<Option<(Link, Option<Instant>)>, Fault> {
        let mut state = self.state.lock();
        loop {
            // The one that was used last: the others grow old and are replaced.
            if let Some(idle) = state.idle.pop() {
                return Ok(Some(idle));
            }
            if state.open < self.limits.connections {
                state.open += 1;
                return Ok(None);
            }
            if self.freed.wait_until(&mut state, deadline).timed_out() {
                let words = format!("all {} connections are busy; raise --pool-size", self.limits.connections);
                return Err(Fault::own(ErrorClass::Overload, words));
            }
        }
    }

    fn is_good(&self, pooled: &mut Pooled<'_>, idle_since: Option<Instant>) -> bool {
        let link: &mut Link = pooled;
        if link.opened.elapsed() > AGE_MAX {
            return false;
        }
        idle_since.is_some_and(|since| since.elapsed() < CHECK_AFTER_IDLE)
            || matches!(link.call(self.patience(), |session| session.check()), Ok(Ok(())))
    }

    /// Opens a connection; the slot is taken already.
    fn open(&self) -> Result<(Pooled<'_>, Option<Greeting>), Fault> {
        let mut pooled = Pooled { pool: self, link: None };
        let left_behind = self.abandoned.count();
        if left_behind >= self.limits.abandoned {
            let words = format!(
                "{left_behind} connections wait for a driver that does not answer, and no more than that are left \
                 behind; see whether server and network are well, or restart"
            );
            return Err(Fault::own(ErrorClass::Transient, words));
        }
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let (link, greeting) = Link::open(&self.target, &self.abandoned, number)?;
        pooled.link = Some(link);
        Ok((pooled, Some(greeting)))
    }

    /// Held while a heavy batch is written: see `writer.rs`.
    pub fn heavy(&self) -> MutexGuard<'_, ()> {
        self.heavy.lock()
    }

    /// What has happened so far.
    pub fn statistics(&self) -> PoolStatistics {
        PoolStatistics {
            open: self.state.lock().open,
            opened: self.numbers.load(Ordering::Relaxed) as u64,
            abandoned: self.abandoned.count(),
            taken: self.taken.load(Ordering::Relaxed),
            waited_us: self.waited_us.load(Ordering::Relaxed),
        }
    }
}

/// A connection while somebody has it. Dropped, it goes back to the pool if it is still of use.
pub struct Pooled<'a> {
    pool: &'a Pool,
    link: Option<Link>,
}

impl Pooled<'_> {
    /// Closes the connection instead of giving it back. What ended it may have ended the idle ones too.
    pub fn close(mut self) {
        self.link = None;
        self.pool.state.lock().idle.iter_mut().for_each(|(_, since)| *since = None);
    }
}

impl Drop for Pooled<'_> {
    fn drop(&mut self) {
        let back = self.link.take().filter(Link::usable);
        let mut state = self.pool.state.lock();
        match back {
            Some(link) => state.idle.push((link, Some(door::now()))),
            None => state.open -= 1,
        }
        self.pool.freed.notify_one();
    }
}

impl Deref for Pooled<'_> {
    type Target = Link;

    fn deref(&self) -> &Link {
        self.link.as_ref().expect("a connection stands here from its opening to its closing")
    }
}

impl DerefMut for Pooled<'_> {
    fn deref_mut(&mut self) -> &mut Link {
        self.link.as_mut().expect("a connection stands here from its opening to its closing")
    }
}
