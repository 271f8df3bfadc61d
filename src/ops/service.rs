//! The run as a service of systemd (`Type=notify`): tells the service manager when it is ready, how it does, that it lives
//! and that it stops. Source: sd_notify(3), sd_watchdog_enabled(3).
//!
//! Ready and alive mean what they mean over HTTP ([`health`](super::http::health)): a run that waits for its database is
//! both, and one whose threads show no life is told of no more, so that the manager restarts it.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded};

use super::http::Run;
use super::http::health::{Heart, liveness, readiness};
use crate::core::statistics::Statistics;
use crate::door;

/// How often the manager is told something.
const TICK: Duration = Duration::from_secs(1);

/// A service manager that wants to be told.
pub struct Manager {
    tell: Telling,
    /// It gives the run up after this long without a sign of life.
    watchdog: Option<Duration>,
}

type Telling = Box<dyn Fn(&str) -> io::Result<()> + Send>;

impl Manager {
    /// The one that the environment names; none where nobody wants to know.
    ///
    /// # Errors
    /// When it cannot be spoken to.
    pub fn found(env: impl Fn(&str) -> Option<String>) -> Result<Option<Self>, String> {
        let Some(address) = env("NOTIFY_SOCKET") else { return Ok(None) };
        let tell = connect(&address).map_err(|error| {
            format!("NOTIFY_SOCKET={address}: {error}; the service manager is told nothing and may give this run up")
        })?;
        // Without a number it is meant for any process.
        let is_meant = env("WATCHDOG_PID").is_none_or(|pid| pid == std::process::id().to_string());
        let watchdog = env("WATCHDOG_USEC").and_then(|text| text.parse().ok()).filter(|_| is_meant);
        Ok(Some(Self { tell, watchdog: watchdog.map(Duration::from_micros) }))
    }

    /// Tells of `run` from now on, in a thread of its own (`konekt-service`); `status` says in a line how it does.
    pub fn watch(self, run: Arc<dyn Run>, heart: Arc<Heart>, status: fn(&Statistics) -> String) -> Watched {
        let (closing, closed) = bounded(0);
        let thread = door::spawn("konekt-service", move || self.tell_of(&*run, &heart, status, &closed));
        Watched { closing: Some(closing), thread: Some(thread) }
    }

    fn tell_of(&self, run: &dyn Run, heart: &Heart, status: fn(&Statistics) -> String, closed: &Receiver<()>) {
        let tick = self.watchdog.map_or(TICK, |watchdog| TICK.min(watchdog / 3));
        let mut told = Told::default();
        loop {
            let statistics = run.statistics();
            heart.note_source(statistics.source_silent_seconds);
            let alive = self.watchdog.is_some() && liveness(heart).well;
            self.say(&told.news(&statistics, alive, &status(&statistics)));
            if closed.recv_timeout(tick) != Err(RecvTimeoutError::Timeout) {
                return self.say(&told.end());
            }
        }
    }

    fn say(&self, news: &str) {
        if news.is_empty() {
            return;
        }
        if let Err(error) = (self.tell)(news) {
            log::warn!("the service manager was not told {:?}: {error}", news.trim_end());
        }
    }
}

/// What the manager knows.
#[derive(Default)]
struct Told {
    ready: bool,
    stopping: bool,
    status: String,
}

impl Told {
    /// What it does not know yet, a line each.
    fn news(&mut self, statistics: &Statistics, alive: bool, status: &str) -> String {
        let mut news = String::new();
        if !self.ready && readiness(statistics).well {
            self.ready = true;
            news += "READY=1\n";
        }
        if statistics.stopping {
            news += &self.end();
        }
        if alive {
            news += "WATCHDOG=1\n";
        }
        if self.status != status {
            status.clone_into(&mut self.status);
            news += &format!("STATUS={}\n", status.replace('\n', "; "));
        }
        news
    }

    fn end(&mut self) -> String {
        let known = std::mem::replace(&mut self.stopping, true);
        if known { String::new() } else { "STOPPING=1\n".to_owned() }
    }
}

/// Ends the telling when it is dropped.
pub struct Watched {
    closing: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Watched {
    fn drop(&mut self) {
        drop(self.closing.take());
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            log::error!("thread konekt-service panicked; this is a defect, please report it");
        }
    }
}

/// The manager's socket: a path, or with `@` in front a name of Linux's own space for them.
#[cfg(unix)]
fn connect(address: &str) -> io::Result<Telling> {
    use std::os::unix::net::UnixDatagram;

    let socket = UnixDatagram::unbound()?;
    match address.strip_prefix('@') {
        #[cfg(target_os = "linux")]
        Some(name) => {
            use std::os::linux::net::SocketAddrExt;
            socket.connect_addr(&std::os::unix::net::SocketAddr::from_abstract_name(name)?)?;
        }
        _ => socket.connect(address)?,
    }
    // A manager that does not read must not hold up the thread that tells it.
    socket.set_nonblocking(true)?;
    Ok(Box::new(move |news| socket.send(news.as_bytes()).map(drop)))
}

#[cfg(not(unix))]
fn connect(_address: &str) -> io::Result<Telling> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_told_once_but_life() {
        let (mut told, mut statistics) = (Told::default(), Statistics::default());
        assert_eq!(told.news(&statistics, true, "joining"), "WATCHDOG=1\nSTATUS=joining\n");
        statistics.settled = true;
        assert_eq!(told.news(&statistics, true, "two\nlines"), "READY=1\nWATCHDOG=1\nSTATUS=two; lines\n");
        assert_eq!(told.news(&statistics, false, "two\nlines"), "", "what shows no life is not said to live");
        statistics.stopping = true;
        assert_eq!(told.news(&statistics, true, "two\nlines"), "STOPPING=1\nWATCHDOG=1\n");
        assert_eq!(told.end(), "");
    }

    #[test]
    fn a_manager_is_where_the_environment_says() {
        let with = |known: &'static [(&str, &str)]| {
            Manager::found(|name| known.iter().find(|(of, _)| *of == name).map(|(_, value)| (*value).to_owned()))
        };
        assert!(with(&[]).is_ok_and(|found| found.is_none()));
        let error = with(&[("NOTIFY_SOCKET", "/nowhere/notify")]).err().expect("there is no such socket");
        assert!(error.contains("/nowhere/notify"), "{error}");
    }
}
