//! SIGINT and SIGTERM, with two strengths: the first stops, the second abandons.
//!
//! The handler's thread is ctrlc's own, for the whole process; it is told what to do by [`steer`].

use std::time::Duration;

use crossbeam::channel::{Receiver, bounded};
use parking_lot::Mutex;

use super::exit::{Exit, Failure, say};
use crate::door;
use crate::engine::Handle;

/// How long an abandoned run may take before the process ends without it: a thread may hang in a driver.
const GRACE: Duration = Duration::from_millis(500);

/// Who is to be stopped, and how many signals came.
struct Steered {
    signals: u32,
    handle: Option<Handle>,
}

static STEERED: Mutex<Steered> = Mutex::new(Steered { signals: 0, handle: None });

/// Listens from now on; the channel gets a message at the first signal.
///
/// # Errors
/// When the operating system refuses a handler.
pub fn listen() -> Result<Receiver<()>, Failure> {
    let (sender, receiver) = bounded(1);
    let handler = move || {
        // Full: somebody has been told already.
        let _ = sender.try_send(());
        on_signal();
    };
    ctrlc::set_handler(handler)
        .map_err(|error| Failure::new(Exit::Failed, format!("cannot listen for signals: {error}")))?;
    Ok(receiver)
}

/// Signals go to this run, also those that came before it.
pub fn steer(handle: &Handle) {
    let mut steered = STEERED.lock();
    if steered.signals > 0 {
        handle.stop();
    }
    steered.handle = Some(handle.clone());
}

fn on_signal() {
    let (signals, handle) = {
        let mut steered = STEERED.lock();
        steered.signals += 1;
        (steered.signals, steered.handle.clone())
    };
    match (signals, handle) {
        (1, Some(handle)) => {
            say("konekt: stopping; what is in flight is finished first (again to abandon it)");
            handle.stop();
        }
        (1, None) => {}
        (_, handle) => {
            match handle {
                Some(handle) => {
                    handle.abandon();
                    door::sleep(GRACE);
                    say("konekt: abandoned; what was not committed is read again");
                }
                None => say("konekt: abandoned"),
            }
            std::process::exit(Exit::Abandoned as i32);
        }
    }
}
