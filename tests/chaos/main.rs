//! The real binary in a hostile world: processes of one group that are killed and frozen, brokers and databases that
//! go away, networks that are cut, slow or silent, a disk that is full. Afterwards an audit demands each record exactly
//! once, in order and undamaged, and as dead letters the planted poison and nothing else.
//!
//! All faults of a run are drawn from one seed, which is on stderr first; `KONEKT_SEED` repeats it.
//! `KONEKT_CHAOS_SECONDS` says how long faults go on (120 in the gate); by hand take an hour:
//!
//! ```text
//! KONEKT_CHAOS_SECONDS=3600 cargo test --test chaos everything -- --nocapture
//! ```
#![allow(clippy::disallowed_methods, reason = "tests stand outside the door")]

mod disk;
mod everything;
mod faults;
mod frozen;
mod outage;
#[path = "../support/mod.rs"]
mod support;
mod tampered;
mod target;
mod writer;

use std::time::Duration;

/// How long the group waits for a member that has died; short, since most of these tests wait for it.
const SESSION: Duration = Duration::from_secs(3);
/// Long enough for anything on a busy machine, short enough to see a hang.
const SOON: Duration = Duration::from_secs(120);
/// Partitions of each topic.
const PARTITIONS: u32 = 8;

/// What people want to see of a run that went well too: past libtest, which keeps the output of passing tests to itself.
fn say(line: &str) {
    use std::io::Write;
    std::io::stderr().write_all(format!("chaos: {line}\n").as_bytes()).ok();
}
