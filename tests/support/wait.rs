//! Waiting with a deadline and a sentence that says for what.

use std::time::{Duration, Instant};

/// How often a condition is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Waits until `condition` gives something.
///
/// # Panics
/// When `limit` passes first.
pub fn until<T>(what: &str, limit: Duration, condition: impl FnMut() -> Option<T>) -> T {
    within(limit, condition).unwrap_or_else(|| panic!("waited {limit:?} in vain until {what}"))
}

/// Waits until `condition` gives something; nothing when it does not within `limit`.
pub fn within<T>(limit: Duration, mut condition: impl FnMut() -> Option<T>) -> Option<T> {
    let started = Instant::now();
    loop {
        let found = condition();
        if found.is_some() || started.elapsed() >= limit {
            return found;
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Lets time pass that is itself the subject: a session timing out, a moment until the next kill.
pub fn pause(duration: Duration) {
    std::thread::sleep(duration);
}
