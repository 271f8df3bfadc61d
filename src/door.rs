//! The one door through which time, chance, threads and the environment come in.
//!
//! Everywhere else `Instant::now`, `SystemTime::now`, `thread::sleep`, `thread::spawn` and `env::var` are refused by
//! clippy (see clippy.toml), so what depends on the world can be found by who calls this module. `core` calls none.
#![allow(clippy::disallowed_methods)]

use std::hash::{BuildHasher, RandomState};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::port::{Clock, Elapsed};

/// Now, for deadlines and durations.
pub fn now() -> Instant {
    Instant::now()
}

/// Milliseconds since the Unix epoch.
pub fn unix_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}

/// Waits without being wakeable: for retries on threads that have nothing else to do.
pub fn sleep(duration: Duration) {
    std::thread::sleep(duration);
}

/// Starts a named thread. Who calls this joins it.
///
/// # Panics
/// When the operating system refuses a thread: there is no way to go on without it.
pub fn spawn<T: Send + 'static>(name: impl Into<String>, body: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    Builder::new().name(name.into()).spawn(body).expect("the operating system gives no further thread")
}

/// An environment variable; empty counts as absent.
pub fn env(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The names of all environment variables, but for those that are no Unicode.
pub fn env_names() -> Vec<String> {
    std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()).collect()
}

/// This program, to be started once more with the same arguments and in the same surroundings.
///
/// # Errors
/// When the operating system does not say where the program lies.
pub fn again() -> std::io::Result<std::process::Command> {
    let mut command = std::process::Command::new(std::env::current_exe()?);
    command.args(std::env::args_os().skip(1));
    Ok(command)
}

/// A number nobody can guess twice in a row: for jitter and for ids of this process. Not for secrets.
pub fn random() -> u64 {
    RandomState::new().hash_one(std::process::id())
}

/// Bytes that nobody can guess, for secrets.
///
/// # Panics
/// When the operating system has no randomness: nothing secret can be made then.
pub fn secret_bytes<const LENGTH: usize>() -> [u8; LENGTH] {
    let bytes = ring::rand::generate(&ring::rand::SystemRandom::new());
    bytes.expect("the operating system gives no random bytes").expose()
}

/// The system's clocks.
pub struct SystemClock {
    started: Instant,
}

impl SystemClock {
    /// A clock that starts at zero now.
    pub fn start() -> Self {
        Self { started: Instant::now() }
    }
}

impl Clock for SystemClock {
    fn elapsed(&self) -> Elapsed {
        self.started.elapsed()
    }

    fn unix_ms(&self) -> i64 {
        unix_ms()
    }
}
