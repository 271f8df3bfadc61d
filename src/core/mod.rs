//! Plain data and decisions.
//!
//! Nothing here does I/O, reads a clock, starts a thread, takes a lock or draws chance: time and randomness are
//! arguments. That is what lets the simulator and the property tests run every path.

pub mod assignment;
pub mod backoff;
pub mod batcher;
pub mod bisect;
pub mod breaker;
pub mod civil;
pub mod coordinator;
pub mod digits;
pub mod finding;
pub mod histogram;
pub mod identity;
pub mod nearest;
pub mod partition;
pub mod record;
pub mod secret;
pub mod statistics;
pub mod tally;
pub mod tracker;
pub mod verdict;
