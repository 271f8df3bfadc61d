//! Trials for `konekt check-drivers`: whether a driver loads, and whether a database has what the sink needs. What they
//! find is plain data and in every build.

#[cfg(any(feature = "odbc", feature = "odbc-system"))]
mod run;

use serde::Serialize;

use crate::core::finding::Finding;

#[cfg(any(feature = "odbc", feature = "odbc-system"))]
pub use run::load;

/// What a database is and gives.
#[derive(Clone, Debug, Serialize)]
pub struct Trial {
    /// Which statements are used: `sqlserver`, `postgres`, `mysql`, `sqlite`, `any`.
    pub dialect: &'static str,
    /// What the server calls itself, where that is known to be asked.
    pub server: Option<String>,
    /// Microseconds for logging in.
    pub connect_us: u64,
    /// Microseconds for the shortest statement.
    pub round_trip_us: Option<u64>,
    pub steps: Vec<Finding>,
}
