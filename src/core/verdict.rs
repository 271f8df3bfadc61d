//! From the class of a failure to what follows: one function, each branch with its reason.

use std::fmt;
use std::time::Duration;

use super::backoff::{Chance, Schedule};
use super::breaker::PauseReason;

/// The class of a failure. Everything that can fail while writing is one of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorClass {
    /// The other side is away for now: connection lost, server restarting, time-out, failover.
    Transient,
    /// Somebody else held the lock: deadlock victim, lock time-out, busy database.
    Contention,
    /// The other side has too much: throttled, disk full, log full, too many connections.
    Overload,
    /// We are not let in: login failed, permission denied.
    Auth,
    /// The table is not what the statement needs: missing, or with other columns.
    Schema,
    /// This record cannot be stored as it is.
    Data,
    /// Another owner has the partition now.
    Fenced,
    /// Nobody classified it: a handler said no, a command exited with an error, a worker panicked.
    Unclassified,
}

impl ErrorClass {
    /// Whether nothing is written before a person has acted: given us a password or a right, or mended the table. A bad
    /// record needs nobody for that; it is put aside.
    pub fn needs_person(self) -> bool {
        matches!(self, ErrorClass::Auth | ErrorClass::Schema)
    }
}

impl fmt::Display for ErrorClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ErrorClass::Transient => "transient",
            ErrorClass::Contention => "contention",
            ErrorClass::Overload => "overload",
            ErrorClass::Auth => "auth",
            ErrorClass::Schema => "schema",
            ErrorClass::Data => "data",
            ErrorClass::Fenced => "fenced",
            ErrorClass::Unclassified => "unclassified",
        })
    }
}

/// What a database calls a failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorCode {
    /// Five characters of SQLSTATE; empty where the database has none.
    pub sqlstate: String,
    /// The database's own number.
    pub native: i32,
}

/// A failed attempt, as the coordinator needs to know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub class: ErrorClass,
    /// What was tried, what the other side said, and what to do.
    pub message: String,
    /// The record that is to blame, when it is known.
    pub offset: Option<i64>,
}

/// How patient to be.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Attempts after the first that may still be bad luck rather than bad input.
    pub max_retries: u32,
    /// Wait before the first retry of such an attempt.
    pub retry_backoff: Duration,
    /// Failed attempts in a row that open the partition's circuit.
    pub error_threshold: u32,
    /// How long an open circuit stays open before one probe.
    pub error_timeout: Duration,
}

/// What follows a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The same batch again after this wait.
    Again { after: Duration },
    /// The partition's circuit opens: no attempt before this wait is over, then a probe.
    Pause { reason: PauseReason, after: Duration },
    /// The partition is somebody else's: drop what is held of it, and ask the database again after this wait if the
    /// group still says it is ours.
    LetGo { after: Duration },
}

impl Verdict {
    /// How long to wait.
    pub fn after(&self) -> Duration {
        match self {
            Verdict::Again { after } | Verdict::Pause { after, .. } | Verdict::LetGo { after } => *after,
        }
    }
}

/// Its cap is how late a return may be noticed.
const OUTAGE: Schedule = Schedule::new(Duration::from_millis(200), Duration::from_secs(4));
const CONTENTION: Schedule = Schedule::new(Duration::from_millis(20), Duration::from_secs(2));
const REFUSED: Schedule = Schedule::new(Duration::from_secs(5), Duration::from_secs(60));
const PAUSE_CAP: Duration = Duration::from_secs(15 * 60);

/// Decides what follows the `attempts`-th failure in a row (1 is the first) of one lane, whose circuit has opened
/// `openings` times since something was last written.
pub fn verdict(class: ErrorClass, attempts: u32, openings: u32, patience: &Patience, chance: &mut Chance) -> Verdict {
    let wait = |schedule: Schedule, chance: &mut Chance| schedule.wait(attempts, chance.draw());
    let refused = |reason| Verdict::Pause { reason, after: REFUSED.bound(openings + 1) };
    let rest = || {
        let schedule = Schedule::new(patience.error_timeout, PAUSE_CAP.max(patience.error_timeout));
        Verdict::Pause { reason: PauseReason::Errors, after: schedule.bound(openings + 1) }
    };
    match class {
        // Away is not bad: as long as it takes, and nothing is counted against the record. After an overload it is less
        // that is tried again (`LaneState::shrink`).
        ErrorClass::Transient | ErrorClass::Overload => Verdict::Again { after: wait(OUTAGE, chance) },
        // The lock will be free in a moment; jitter keeps the victims from meeting again.
        ErrorClass::Contention => Verdict::Again { after: wait(CONTENTION, chance) },
        // A person must act; asking often would only lock the account or fill the log.
        ErrorClass::Auth => refused(PauseReason::Auth),
        ErrorClass::Schema => refused(PauseReason::Schema),
        // The next owner may be slow to claim; two live owners must not chase each other.
        ErrorClass::Fenced => Verdict::LetGo { after: wait(REFUSED, chance) },
        // What can be put aside has been; this record has no place, and the same attempt would fail the same way.
        ErrorClass::Data => rest(),
        ErrorClass::Unclassified if openings > 0 || attempts >= patience.error_threshold.max(1) => rest(),
        ErrorClass::Unclassified => {
            let schedule = Schedule::new(patience.retry_backoff, patience.error_timeout.max(patience.retry_backoff));
            Verdict::Again { after: wait(schedule, chance) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Patience = Patience {
        max_retries: 3,
        retry_backoff: Duration::from_secs(1),
        error_threshold: 10,
        error_timeout: Duration::from_secs(60),
    };

    #[test]
    fn an_outage_of_hours_never_pauses_and_never_waits_longer_than_its_cap() {
        let mut chance = Chance::seeded(1);
        for class in [ErrorClass::Transient, ErrorClass::Overload, ErrorClass::Contention] {
            for attempts in [1, 10, 1000, u32::MAX] {
                match verdict(class, attempts, 0, &PATIENCE, &mut chance) {
                    Verdict::Again { after } => {
                        assert!(after <= Duration::from_secs(4), "{class} {attempts}: {after:?}")
                    }
                    other => panic!("{class} {attempts}: {other:?}"),
                }
            }
        }
    }

    #[test]
    fn failures_of_a_handler_open_the_circuit_at_the_threshold_and_pauses_double() {
        let mut chance = Chance::seeded(1);
        let pauses: Vec<_> = [(9, 0), (10, 0), (11, 1), (12, 2), (60, 50)]
            .map(|(attempts, openings)| verdict(ErrorClass::Unclassified, attempts, openings, &PATIENCE, &mut chance))
            .into_iter()
            .map(|verdict| matches!(verdict, Verdict::Pause { .. }).then(|| verdict.after().as_secs()))
            .collect();
        assert_eq!(pauses, [None, Some(60), Some(120), Some(240), Some(900)]);
    }

    #[test]
    fn what_only_a_person_mends_pauses_at_once_and_is_probed_slowly() {
        let mut chance = Chance::seeded(1);
        for (class, reason, waits) in [
            (ErrorClass::Auth, PauseReason::Auth, [5, 10, 60]),
            (ErrorClass::Schema, PauseReason::Schema, [5, 10, 60]),
            (ErrorClass::Data, PauseReason::Errors, [60, 120, 900]),
        ] {
            let pause = |openings| verdict(class, 1, openings, &PATIENCE, &mut chance);
            let expected = waits.map(|wait| Verdict::Pause { reason, after: Duration::from_secs(wait) });
            assert_eq!([0, 1, 30].map(pause), expected, "{class}");
        }
    }
}
