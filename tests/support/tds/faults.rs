//! Scripted faults: what goes wrong, where, how often. Tests push them while clients run.

use std::sync::Mutex;
use std::time::Duration;

/// A point at which something can go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum On {
    Login,
    Prepare,
    /// Each execution, so each row of a parameter array, and each text of SQL that is sent as such.
    Execute,
    Begin,
    Save,
    Commit,
    Rollback,
}

/// What goes wrong there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing is done; the answer is this error, with all that it entails ([`super::errors`]).
    Error(i32),
    /// Nothing is done and the connection is closed.
    Close,
    /// It is done, half of the answer is sent, then the connection is closed.
    CloseHalfWay,
    /// It is done, then the connection is closed without an answer.
    CloseAfter,
    /// It is done this much later, unless the client gives up waiting.
    Delay(Duration),
    /// Nothing is done, and this connection never gets an answer again, though it stays open.
    Silence,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub on: On,
    /// Only statements that contain this text, in whatever case.
    pub within: Option<String>,
    /// How many pass unharmed first.
    pub skip: u32,
    /// How many are hit; then the fault is used up.
    pub times: u32,
    pub action: Action,
}

impl Fault {
    /// A fault that hits the next of these, once.
    pub fn new(on: On, action: Action) -> Self {
        Self { on, within: None, skip: 0, times: 1, action }
    }

    /// Lets so many pass first: on an array, the index of the row that is hit.
    #[must_use]
    pub fn after(self, skip: u32) -> Self {
        Self { skip, ..self }
    }

    /// Hits so many.
    #[must_use]
    pub fn times(self, times: u32) -> Self {
        Self { times, ..self }
    }

    /// Hits only statements that contain this text.
    #[must_use]
    pub fn within(self, text: &str) -> Self {
        Self { within: Some(text.to_lowercase()), ..self }
    }

    fn matches(&self, on: On, sql: &str) -> bool {
        self.on == on && self.within.as_ref().is_none_or(|text| sql.to_lowercase().contains(text))
    }
}

/// The faults that are still to come.
#[derive(Debug, Default)]
pub struct Faults {
    script: Mutex<Script>,
}

#[derive(Debug, Default)]
struct Script {
    waiting: Vec<Fault>,
    fired: u64,
}

impl Faults {
    /// Adds a fault to the script. Of several that match, the first that is due hits.
    pub fn push(&self, fault: Fault) {
        self.script().waiting.push(fault);
    }

    /// Forgets all faults that have not happened.
    pub fn clear(&self) {
        self.script().waiting.clear();
    }

    /// How many have hit so far.
    pub fn fired(&self) -> u64 {
        self.script().fired
    }

    /// How many are not used up yet.
    pub fn waiting(&self) -> usize {
        self.script().waiting.len()
    }

    /// What is due at this point; every matching fault counts it.
    pub(super) fn take(&self, on: On, sql: &str) -> Option<Action> {
        let mut script = self.script();
        let mut hit = None;
        for fault in script.waiting.iter_mut().filter(|fault| fault.matches(on, sql)) {
            if fault.skip > 0 {
                fault.skip -= 1;
            } else if hit.is_none() && fault.times > 0 {
                fault.times -= 1;
                hit = Some(fault.action);
            }
        }
        script.waiting.retain(|fault| fault.times > 0);
        script.fired += u64::from(hit.is_some());
        hit
    }

    fn script(&self) -> std::sync::MutexGuard<'_, Script> {
        self.script.lock().expect("nothing panics while it holds the script")
    }
}
