//! Whether a MongoDB deployment is fit to be read from and written to: what `konekt mongo-health` shows.
//!
//! [`Answers`] is what every member says, each asked on a connection of its own, since what one says of
//! the others is up to two seconds old; [`judge`](judge::judge) makes checks of it, each with what to do where it fails. The
//! members are those of the set's configuration: `hello` hides arbiters and hidden ones.

pub mod gather;
pub mod judge;

use serde::Serialize;

pub use self::gather::Answers;
pub use self::judge::judge;

/// Beyond these a check fails.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How far a secondary may be behind the primary, in seconds.
    pub lag_seconds: i64,
    /// What the oplog must reach back to at least, in hours.
    pub oplog_hours: i64,
}

/// How serious what was found is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    Good,
    /// Worth knowing; nothing fails yet.
    Warning,
    Critical,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    pub name: &'static str,
    pub level: Level,
    pub says: String,
    /// What to do; empty where nothing is to be done.
    pub cure: String,
}

impl Check {
    fn good(name: &'static str, says: impl Into<String>) -> Self {
        Self { name, level: Level::Good, says: says.into(), cure: String::new() }
    }

    fn bad(name: &'static str, level: Level, says: impl Into<String>, cure: impl Into<String>) -> Self {
        Self { name, level, says: says.into(), cure: cure.into() }
    }
}

/// One member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MemberLine {
    pub host: String,
    /// `PRIMARY`, `SECONDARY`, …, or `DOWN`.
    pub state: String,
    pub votes: bool,
    pub hidden: bool,
    /// Behind the primary, beyond a delay that is meant.
    pub lag_seconds: Option<i64>,
    pub sync_source: Option<String>,
    pub uptime_seconds: Option<i64>,
    pub version: Option<String>,
}

/// All that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    pub address: String,
    /// Whether anything answered.
    pub reachable: bool,
    /// Whether no check is critical.
    pub healthy: bool,
    pub set: Option<String>,
    pub members: Vec<MemberLine>,
    pub checks: Vec<Check>,
}
