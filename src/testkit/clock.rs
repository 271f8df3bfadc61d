//! Time that moves when it is told to.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::port::{Clock, Elapsed};

/// Virtual time in milliseconds, shared by its clones. A process started later counts from its own start.
#[derive(Clone, Default)]
pub struct VirtualClock {
    now_ms: Arc<AtomicU64>,
    born_ms: u64,
}

impl VirtualClock {
    /// Time since the very start.
    pub fn now(&self) -> Duration {
        Duration::from_millis(self.now_ms.load(Ordering::Relaxed))
    }

    /// Lets time pass.
    pub fn advance(&self, by: Duration) {
        self.now_ms.fetch_add(by.as_millis() as u64, Ordering::Relaxed);
    }

    /// The same time for a process that starts now.
    pub fn of_a_process(&self) -> Self {
        Self { now_ms: Arc::clone(&self.now_ms), born_ms: self.now_ms.load(Ordering::Relaxed) }
    }

    /// When this clock began.
    pub fn born(&self) -> Duration {
        Duration::from_millis(self.born_ms)
    }
}

impl Clock for VirtualClock {
    fn elapsed(&self) -> Elapsed {
        self.now() - self.born()
    }

    fn unix_ms(&self) -> i64 {
        self.now_ms.load(Ordering::Relaxed) as i64
    }
}
