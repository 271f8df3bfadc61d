//! Waiting with a deadline and a sentence that says for what.

use std::time::{Duration, Instant};

/// How often a condition is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Waits until `condition` gives something.
///
/// # Panics
/// When `limit` passes first.
pub fn until<T>(what: &str, limit: Duration, mut condition: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(started.elapsed() < limit, "waited {limit:?} in vain until {what}");
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Lets time pass that is itself the subject: a session timing out, a moment until the next kill.
pub fn pause(duration: Duration) {
    std::thread::sleep(duration);
}
