//! Ends another thread's wait on its connection.

use std::sync::Arc;

use parking_lot::Mutex;

use super::connection::{Closer, Connection};

/// Shared by a thread that waits on connections and whoever may have to end such a wait. Clones are the same.
#[derive(Clone, Default)]
pub struct Interrupt(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    raised: bool,
    waiting_on: Option<Closer>,
}

impl Interrupt {
    /// From now on an interruption closes `connection`, at once if there was one already.
    pub fn arm(&self, connection: &Connection) {
        let mut state = self.0.lock();
        // Without a file descriptor left for the closer, the wait ends by its own limit.
        state.waiting_on = connection.closer().ok();
        if state.raised
            && let Some(closer) = &state.waiting_on
        {
            closer.close();
        }
    }

    /// The wait is over.
    pub fn disarm(&self) {
        self.0.lock().waiting_on = None;
    }

    /// Ends the wait that goes on now, and all later ones.
    pub fn raise(&self) {
        let mut state = self.0.lock();
        state.raised = true;
        if let Some(closer) = state.waiting_on.take() {
            closer.close();
        }
    }

    /// Whether it was raised.
    pub fn is_raised(&self) -> bool {
        self.0.lock().raised
    }
}
