//! What kind of failure something is. What follows from it is decided in [`super::coordinator`].

use std::fmt;

/// The class of a failure, as in the table of `docs/` and README. Everything that can fail while writing is one of these.
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
