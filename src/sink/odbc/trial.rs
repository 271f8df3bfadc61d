//! What the trial of a database for `konekt check-drivers --connect` finds.

use serde::Serialize;

use crate::core::finding::Finding;

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
